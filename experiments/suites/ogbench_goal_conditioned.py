"""OGBench with goals: its six reference methods on states and images, with the settings of its study.

    python -m experiments.benchmark --suite=ogbench_goal_conditioned --workdir=runs/goal_conditioned

hardware: one GPU for each job
expected: 1 to 3 hours for each job, 200 GPU hours in total; estimated, not measured
run: not run

The settings are those of the commands of arXiv:2410.20092; `valuelab/presets/_goals.py` describes them. The
report shows the published scores beside ours.
"""

from valuelab.benchmark import Job, Suite
from valuelab.presets import _goals

STATES = (
    "pointmaze-medium-navigate",
    "pointmaze-large-navigate",
    "pointmaze-medium-stitch",
    "antmaze-medium-navigate",
    "antmaze-large-navigate",
    "antmaze-giant-navigate",
    "antmaze-large-stitch",
    "antmaze-medium-explore",
    "humanoidmaze-medium-navigate",
    "cube-single-play",
    "cube-double-play",
    "cube-single-noisy",
    "scene-play",
    "puzzle-3x3-play",
)
IMAGES = ("visual-antmaze-medium-navigate", "visual-cube-single-play")
AGENTS = {"gcbc": "bc", "gcivl": "ivl", "gciql": "iql", "qrl": "qrl", "crl": "crl", "hiql": "hiql"}


def on(name: str, num_seeds: int) -> tuple[Job, ...]:
    """The jobs of all methods on a dataset."""
    preset = _goals.preset_of(name)
    return tuple(
        Job(label, f"{agent}:{preset}", f"ogbench/{name}-v0", settings={"num_seeds": num_seeds})
        for label, agent in AGENTS.items()
    )


SUITE = Suite(
    (
        *(job for name in STATES for job in on(name, num_seeds=8)),
        *(job for name in IMAGES for job in on(name, num_seeds=4)),
    ),
    program="experiments.train",
)
