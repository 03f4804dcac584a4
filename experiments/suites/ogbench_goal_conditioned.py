"""OGBench with goals: behaviour cloning and IQL (GCBC, GCIQL of arXiv:2410.20092) on state-based datasets.

    python -m experiments.benchmark --suite=ogbench_goal_conditioned --workdir=runs/goal_conditioned

hardware: one GPU for each job
expected: 1 to 2 hours for each job, 25 GPU hours in total; estimated, not measured
run: not run

Networks, batches and relabelling are those of the paper. IQL extracts its policy by DDPG+BC, whose weight
depends on the dataset (impls/hyperparameters.sh of github.com/seohongpark/ogbench).
"""

from valuelab.benchmark import Job, Suite
from valuelab.presets import _ogbench

BC_WEIGHTS = {
    "pointmaze-medium-navigate": 0.003,
    "pointmaze-large-navigate": 0.003,
    "antmaze-medium-navigate": 0.3,
    "antmaze-large-navigate": 0.3,
    "humanoidmaze-medium-navigate": 0.1,
    "cube-single-play": 1.0,
    "cube-double-play": 1.0,
    "scene-play": 1.0,
    "puzzle-3x3-play": 1.0,
}
STUDY = {"num_seeds": 8, "batch_size": 1024}
FAR = {"humanoidmaze-medium-navigate": {"agent.discount": 0.995}}


def on(name: str, bc_weight: float) -> tuple[Job, ...]:
    """The jobs of both methods on a dataset."""
    dataset = f"ogbench/{name}-v0"
    iql = {
        **_ogbench.GAUSSIAN_POLICY,
        "agent.hidden_dims": (512, 512, 512),
        "agent.layer_norm": True,
        "agent.expectile": 0.9,
        "agent.policy_schedule": "constant",
        "agent.extraction": "ddpg_bc",
        "agent.bc_weight": bc_weight,
    }
    return (
        Job("gcbc", "bc:ogbench", dataset, settings=STUDY),
        Job("gciql", "iql", dataset, settings=STUDY | iql | FAR.get(name, {})),
    )


SUITE = Suite(
    tuple(job for name, weight in BC_WEIGHTS.items() for job in on(name, weight)), program="experiments.train"
)
