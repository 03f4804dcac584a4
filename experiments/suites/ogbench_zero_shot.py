"""Zero-shot agents on OGBench, with the settings of TD-JEPA's study (arXiv:2510.00739).

    python -m experiments.benchmark --suite=ogbench_zero_shot --workdir=runs/zero_shot

hardware: GPUs, a member each
expected: 2 to 4 hours a member, some 200 GPU hours in all; estimated, not measured
run: not run
"""

from valuelab.benchmark import Member, Suite

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
        Member(
            agent,
            f"{agent}:{preset}",
            f"ogbench/{name}-v0",
            program="experiments.zero_shot",
            settings={"num_seeds": 5},
        )
        for name, preset in PRESETS.items()
        for agent in AGENTS
    )
)
