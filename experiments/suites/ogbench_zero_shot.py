"""Zero-shot agents on OGBench, with the settings of the TD-JEPA paper (arXiv:2510.00739).

    python -m experiments.benchmark --suite=ogbench_zero_shot --workdir=runs/zero_shot

hardware: one GPU for each job
expected: 2 to 4 hours for each job, about 200 GPU hours in total; estimated, not measured
run: not run
"""

from valuelab.benchmark import Job, Suite

AGENTS = ("td_jepa", "forward_backward", "hilp", "icvf", "laplacian", "rldp", "byol", "byol_gamma")
PRESETS = {
    "antmaze-medium-navigate": "antmaze",
    "antmaze-large-navigate": "antmaze",
    "pointmaze-medium-navigate": "antmaze",
    "pointmaze-large-navigate": "antmaze",
    "cube-single-play": "manipulation",
    "cube-double-play": "manipulation",
    "scene-play": "manipulation",
    "puzzle-3x3-play": "manipulation",
}

SUITE = Suite(
    tuple(
        Job(agent, f"{agent}:{preset}", f"ogbench/{name}-v0", settings={"num_seeds": 5})
        for name, preset in PRESETS.items()
        for agent in AGENTS
    ),
    program="experiments.zero_shot",
)
