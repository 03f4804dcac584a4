"""IQL trained for each of the tasks that the zero-shot agents of cpu_small are asked for, small networks too.

    python -m experiments.benchmark --suite=zero_shot_oracle --jobs=2 --workdir=runs/zero_shot_oracle

hardware: two CPU cores, 6 GB of memory
expected: an hour with --jobs=2 on cores that reach 80 GFLOP/s each in float32
run: whole, on a core shared with other work; success in the five tasks 0.75, 0.70, 0.00, 0.00, 0.00 in the
    maze and 0.51, 0.42, 0.31, 0.30, 0.41 with the cube; with intervals in benchmarks/zero_shot_oracle.json
"""

from valuelab.benchmark import Member, Suite

DOMAINS = {"ogbench/pointmaze-medium-navigate": "pointmaze", "ogbench/cube-single-play": "cube_small"}

SUITE = Suite(
    tuple(
        Member(
            "iql",
            f"iql:{preset}",
            f"{domain}-singletask-task{task}-v0",
            program="experiments.train",
            settings={"num_seeds": 4, "steps": 12_000, "eval_every": 12_000, "eval_episodes": 20},
        )
        for domain, preset in DOMAINS.items()
        for task in range(1, 6)
    )
)
