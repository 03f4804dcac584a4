"""D4RL's locomotion, version 2: behaviour cloning and IQL at its published settings (arXiv:2110.06169).

    python -m experiments.benchmark --suite=d4rl_locomotion --workdir=runs/d4rl_locomotion

hardware: GPUs, a member each
expected: 20 to 40 minutes a member, 12 GPU hours in all; estimated, not measured
run: not run
"""

from valuelab.benchmark import Member, Suite

SUITE = Suite(
    tuple(
        Member(
            label,
            f"{label}:d4rl_locomotion",
            f"d4rl/{body}-{data}-v2",
            program="experiments.train",
            settings={"num_seeds": 10},
        )
        for body in ("halfcheetah", "hopper", "walker2d")
        for data in ("medium", "medium-replay", "medium-expert")
        for label in ("bc", "iql")
    )
)
