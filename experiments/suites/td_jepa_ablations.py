"""TD-JEPA in the point maze, with separate encoders or one encoder, and with Monte Carlo targets.

    python -m experiments.benchmark --suite=td_jepa_ablations --jobs=2 --workdir=runs/td_jepa_ablations

hardware: two CPU cores, 6 GB of memory
expected: 1.2 hours with --jobs=2 on cores that reach 80 GFLOP/s each in float32
run: whole, one core for each job, shared with other work. Success on pairs with detours below 1.15, below 1.5
    and above: 0.71, 0.53, 0.46 with separate encoders of states and tasks (five seeds), 0.74, 0.48, 0.42 with
    one encoder (three seeds), and 0.21, 0.12, 0.06 with Monte Carlo targets (three seeds); for intervals see
    benchmarks/td_jepa_ablations.json. In the paper, with runs a hundred times as long, one encoder is worse

experiments.studies.adapt measures how well an agent learns a task with rewards from frozen encodings.
"""

from typing import Any

from valuelab.benchmark import Job, Suite

ABLATIONS: dict[str, dict[str, Any]] = {
    "td_jepa": {"num_seeds": 5},  # the job of cpu_small
    "symmetric": {"num_seeds": 3, "agent.critic.symmetric": True},
    "monte_carlo": {"num_seeds": 3, "agent.critic.target": "monte_carlo"},
}

SUITE = Suite(
    tuple(
        Job(
            label,
            "td_jepa:pointmaze",
            "ogbench/pointmaze-medium-navigate-v0",
            settings={
                "steps": 15_000,
                "eval_every": 7_500,
                "eval_episodes": 10,
                "pairs": 200,
                **settings,
            },
        )
        for label, settings in ABLATIONS.items()
    ),
    program="experiments.zero_shot",
)
