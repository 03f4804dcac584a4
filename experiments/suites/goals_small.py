"""OGBench's goal-conditioned methods in a maze and with a cube, with small networks.

    python -m experiments.benchmark --suite=goals_small --jobs=2 --workdir=runs/goals_small

hardware: two CPU cores, 6 GB of memory
expected: three hours with --jobs=2 on cores that reach 80 GFLOP/s each in float32
run: whole; the report says on which machine

Each method has four seeds and as many updates as take at most 25 minutes of a core. Networks have 256 by 256
units and batches 256 transitions; all other settings are those of OGBench's study, except the target rate,
which is 0.02 here because runs are short. `gciql_awr` is GCIQL with the extraction of GCIVL: it tells whether
values or policies fail. Zero-shot agents learn without goals; they get the tasks of the maze from labelled
states.
"""

from valuelab.benchmark import Job, Suite
from valuelab.presets import _ogbench

MAZE = "ogbench/pointmaze-medium-navigate-v0"
CUBE = "ogbench/cube-single-play-v0"
PRESETS = {MAZE: "pointmaze_goals", CUBE: "cube_goals"}
# IQL has other networks in its presets.
STUDY = {**_ogbench.GAUSSIAN_POLICY, "agent.layer_norm": True}
AWR = {**STUDY, "agent.inverse_temperature": 10.0}
BC_WEIGHTS = {MAZE: 0.003, CUBE: 1.0}


def learner(label: str, agent: str, dataset: str, steps: int, **settings) -> Job:
    """A job that learns to reach goals; in the maze it is also evaluated on 200 pairs."""
    pairs = {"pairs": 200} if dataset == MAZE else {}
    return Job(
        label,
        f"{agent}:{PRESETS[dataset]}",
        dataset,
        settings={"num_seeds": 4, "steps": steps, "eval_every": steps // 4, **pairs, **settings},
    )


def learners(dataset: str, steps: int) -> tuple[Job, ...]:
    """The jobs of all methods on a dataset."""
    ddpg_bc = {**STUDY, "agent.extraction": "ddpg_bc", "agent.bc_weight": BC_WEIGHTS[dataset]}
    return (
        learner("gcbc", "bc", dataset, steps),
        learner("gcivl", "ivl", dataset, steps),
        learner("gciql", "iql", dataset, steps, **ddpg_bc),
        learner("gciql_awr", "iql", dataset, steps, **AWR),
        learner("qrl", "qrl", dataset, steps),
        learner("crl", "crl", dataset, steps),
        learner("hiql", "hiql", dataset, steps),
    )


SUITE = Suite((*learners(MAZE, steps=20_000), *learners(CUBE, steps=20_000)), program="experiments.train")
