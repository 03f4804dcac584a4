"""Zero-shot agents on OGBench, with the settings of TD-JEPA's study (arXiv:2510.00739).

    python -m experiments.benchmark --suite=ogbench_zero_shot --workdir=runs/zero_shot

The study has further values of each agent's orthonormality or goals, and of the learning rate of features; it
reports the best. docs/algorithms/td_jepa.md names them. For another value add a flag, such as
--agent.critic.feature_learning_rate=1e-5, to a copy of this file.

hardware: one GPU for each job
expected: 4 to 8 hours for each job, about 400 GPU hours in total; estimated, not measured
run: not run
"""

from valuelab.benchmark import Job, Suite

AGENTS = ("td_jepa", "forward_backward", "hilp", "icvf", "laplacian", "rldp", "byol", "byol_gamma")
PRESETS = {
    "antmaze-medium-navigate": "antmaze",
    "antmaze-large-navigate": "antmaze",
    "antmaze-medium-stitch": "antmaze",
    "antmaze-large-stitch": "antmaze",
    "antmaze-medium-explore": "antmaze",
    "cube-single-play": "manipulation",
    "cube-double-play": "manipulation",
    "scene-play": "manipulation",
    "puzzle-3x3-play": "manipulation",
}

SUITE = Suite(
    tuple(
        Job(
            agent,
            f"{agent}:{preset}",
            f"ogbench/{name}-v0",
            settings={"num_seeds": 10, **({"pairs": 200} if "maze" in name else {})},
        )
        for name, preset in PRESETS.items()
        for agent in AGENTS
    ),
    program="experiments.zero_shot",
)
