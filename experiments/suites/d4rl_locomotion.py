"""D4RL's locomotion, version 2: behaviour cloning and IQL with its published settings (arXiv:2110.06169).

    python -m experiments.benchmark --suite=d4rl_locomotion --workdir=runs/d4rl_locomotion

hardware: one GPU for each job
expected: 20 to 40 minutes for each job, 12 GPU hours in total; estimated, not measured
run: not run
"""

from valuelab.benchmark import Job, Suite

SUITE = Suite(
    tuple(
        Job(
            label,
            f"{label}:d4rl_locomotion",
            f"d4rl/{body}-{data}-v2",
            settings={"num_seeds": 10},
        )
        for body in ("halfcheetah", "hopper", "walker2d")
        for data in ("medium", "medium-replay", "medium-expert")
        for label in ("bc", "iql")
    ),
    program="experiments.train",
)
