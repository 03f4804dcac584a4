"""OGBench's goal-conditioned methods in a maze and with a cube, with small networks.

    python -m experiments.benchmark --suite=goals_small --jobs=2 --workdir=runs/goals_small

hardware: two CPU cores, 6 GB of memory
expected: three hours with --jobs=2 on cores that reach 80 GFLOP/s each in float32
run: all jobs; docs/results/goals.md has the tables

Each method has four seeds and as many updates as take about 25 minutes of a core, so methods with more
expensive updates get fewer. Losses, goals and weights are those of OGBench's study. These settings are
smaller: networks of 256 by 256 units, batches of 256 transitions, and latents of 64 dimensions. The target
rate is 0.02, because runs are short. Observations of the maze are normalised.
"""

from valuelab.benchmark import Job, Suite
from valuelab.presets import _ogbench

MAZE = "ogbench/pointmaze-medium-navigate-v0"
CUBE = "ogbench/cube-single-play-v0"
PRESETS = {MAZE: "pointmaze_goals", CUBE: "cube_goals"}
# IQL has other networks in its presets, and another extraction.
DDPG_BC = {**_ogbench.GAUSSIAN_POLICY, "agent.layer_norm": True, "agent.extraction": "ddpg_bc"}
# As many as take at most 25 minutes of a core.
STEPS = {"gcbc": 20_000, "gcivl": 20_000, "gciql": 20_000, "qrl": 10_000, "crl": 15_000, "hiql": 10_000}
AGENTS = {"gcbc": "bc", "gcivl": "ivl", "gciql": "iql", "qrl": "qrl", "crl": "crl", "hiql": "hiql"}
OVERRIDES = {"gciql": {MAZE: DDPG_BC | {"agent.bc_weight": 0.003}, CUBE: DDPG_BC | {"agent.bc_weight": 1.0}}}


def learner(label: str, dataset: str) -> Job:
    """A job that learns to reach goals; in the maze it is also evaluated on 200 pairs."""
    pairs = {"pairs": 200} if dataset == MAZE else {}
    overrides = OVERRIDES.get(label, {}).get(dataset, {})
    return Job(
        label,
        f"{AGENTS[label]}:{PRESETS[dataset]}",
        dataset,
        settings={"num_seeds": 4, "steps": STEPS[label], "eval_every": 5_000, **pairs, **overrides},
    )


SUITE = Suite(
    tuple(learner(label, dataset) for dataset in (MAZE, CUBE) for label in AGENTS),
    program="experiments.train",
)
