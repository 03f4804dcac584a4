"""D4RL's AntMaze, version 2: behaviour cloning and IQL at its published settings (arXiv:2110.06169).

    python -m experiments.benchmark --suite=d4rl_antmaze --workdir=runs/d4rl_antmaze

hardware: GPUs, a member each, with 8 CPU cores each to simulate
expected: an hour a member, 12 GPU hours in all; estimated, not measured
run: not run

The ant is OGBench's, as BUILD.md says: D4RL's own numbers were measured with the same body in an older
simulator.
"""

from valuelab.benchmark import Member, Suite

SUITE = Suite(
    tuple(
        Member(
            label,
            f"{label}:d4rl_antmaze",
            f"d4rl/antmaze-{maze}-v2",
            program="experiments.train",
            settings={"num_seeds": 10},
        )
        for maze in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
        for label in ("bc", "iql")
    )
)
