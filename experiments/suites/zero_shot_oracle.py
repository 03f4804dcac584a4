"""IQL trained on each task on which cpu_small evaluates zero-shot agents, with networks as small.

    python -m experiments.benchmark --suite=zero_shot_oracle --jobs=2 --workdir=runs/zero_shot_oracle

hardware: two CPU cores, 6 GB of memory
expected: one hour with --jobs=2 on cores that reach 80 GFLOP/s each in float32
run: whole, on a core shared with other work. Success in the five tasks: 0.75, 0.70, 0.00, 0.00, 0.00 in the
    maze and 0.51, 0.42, 0.31, 0.30, 0.41 with the cube; for intervals see benchmarks/zero_shot_oracle.json
"""

from valuelab.benchmark import Job, Suite

DOMAINS = {"ogbench/pointmaze-medium-navigate": "pointmaze", "ogbench/cube-single-play": "cube_small"}

SUITE = Suite(
    tuple(
        Job(
            "iql",
            f"iql:{preset}",
            f"{domain}-singletask-task{task}-v0",
            settings={"num_seeds": 4, "steps": 12_000, "eval_every": 12_000, "eval_episodes": 20},
        )
        for domain, preset in DOMAINS.items()
        for task in range(1, 6)
    ),
    program="experiments.train",
)
