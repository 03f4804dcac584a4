"""D4RL's AntMaze, version 2: behaviour cloning and IQL with its published settings (arXiv:2110.06169).

    python -m experiments.benchmark --suite=d4rl_antmaze --workdir=runs/d4rl_antmaze

hardware: one GPU for each job, with 8 CPU cores for the simulator
expected: one hour for each job, 12 GPU hours in total; estimated, not measured
run: not run

The ant is OGBench's (docs/development/decisions.md). D4RL's own numbers were measured with the same body
in an older simulator.
"""

from valuelab.benchmark import Job, Suite

SUITE = Suite(
    tuple(
        Job(
            label,
            f"{label}:d4rl_antmaze",
            f"d4rl/antmaze-{maze}-v2",
            settings={"num_seeds": 10},
        )
        for maze in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
        for label in ("bc", "iql")
    ),
    program="experiments.train",
)
