"""OGBench's ten default tasks, with the commands of FQL's and floq's studies (arXiv:2502.02538, 2509.06863).

    python -m experiments.benchmark --suite=ogbench_default --workdir=runs/ogbench_default

hardware: one GPU for each job
expected: 1 to 6 hours for each job, about 250 GPU hours in total; estimated, not measured
run: not run

Eight seeds. floq, its variants, FQL-ResNet and FQL-IQN have two million updates, the others one million. IQL
and ReBRAC must be tuned for each task. Commands are published for one of these tasks, the only one where
ReBRAC has a job. IQL also has jobs on a maze and a cube, with the study's networks and weights of others.
"""

from valuelab.benchmark import Job, Suite
from valuelab.presets import _ogbench

KINDS = dict.fromkeys(("cube_single", "cube_double", "scene", "puzzle_3x3", "puzzle_4x4"), "play")
FLOWS = (
    "ifql",
    "fql",
    "fql_resnet",
    "fql_hl_gauss",
    "fql_iqn",
    "floq",
    "floq_distributional",
    "floq_one_step",
)
TUNED = {
    "antmaze_large": {"iql": "iql:antmaze"},
    "cube_single": {"iql": "iql:cube"},
    "humanoidmaze_medium": {"iql": "iql:humanoidmaze_medium", "rebrac": "rebrac:humanoidmaze_medium"},
}


def on(task: str) -> tuple[Job, ...]:
    """The jobs of all methods on a task, such as "antmaze_large"."""
    dataset = f"ogbench/{task.replace('_', '-')}-{KINDS.get(task, 'navigate')}-singletask-v0"
    agents = {"bc": "bc:ogbench", **TUNED.get(task, {}), **{name: f"{name}:{task}" for name in FLOWS}}
    return tuple(Job(label, agent, dataset, settings={"num_seeds": 8}) for label, agent in agents.items())


SUITE = Suite(tuple(job for task in _ogbench.TASKS for job in on(task)), program="experiments.train")
