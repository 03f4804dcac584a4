"""Variants of a critic: training them with the settings of all claims, and comparing their returns."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.flow_claims.claims import ClaimConfig
from experiments.studies.flow_claims.pendulum import ENVIRONMENT, PendulumData
from valuelab import configuration
from valuelab.benchmark import processes
from valuelab.configuration import RunConfig
from valuelab.evaluation import statistics
from valuelab.files import local_path
from valuelab.runs import diagnosis, flags, results, train
from valuelab.runs.diagnosis import DiagnosedRun
from valuelab.runs.inputs import RunInputs
from valuelab.training.experience import Experience
from valuelab.types import MakeAgent

MONOLITHIC, FLOW = "fql_resnet", "floq"
"""Agent files: a plain critic of residual blocks and a flow critic of the same size, with the same policy."""
KINDS = {"flow": FLOW, "monolithic": MONOLITHIC}
SETTINGS: dict[str, Any] = {
    "environment": ENVIRONMENT,
    "batch_size": 128,
    "agent.critic.hidden_dims": (64, 64, 64, 64),
    "agent.critic.ensemble_size": 1,
    "agent.critic.num_draws": 4,
    "agent.critic.num_steps": 4,
    "agent.critic.discount": 0.95,
    "agent.critic.learning_rate": 1e-3,
    "agent.critic.target_rate": 0.02,
    "agent.policy.hidden_dims": (64, 64),
    "agent.policy.num_steps": 5,
    "agent.policy.normalize_q": True,
    "agent.policy.bc_weight": 0.03,  # small: the actions of the log are random, and cloning them gains little
    "agent.policy.learning_rate": 1e-3,
    "eval_temperature": 1.0,
    "eval_episodes": 20,
    "log_every": 500,
}
"""The settings of all variants. An agent without one of these fields keeps its other settings."""


class TrainedVariant(NamedTuple):
    """A variant after training, with M seeds.

    Attributes:
        run: the run as it was saved.
        folder: its workdir.
        scores: update -> returns [M], means over episodes, at each evaluation.
    """

    run: DiagnosedRun
    folder: pathlib.Path
    scores: dict[int, np.ndarray]

    @property
    def last_returns(self) -> np.ndarray:
        """The returns at the last evaluation, [M]."""
        return list(self.scores.values())[-1]

    @property
    def average_returns(self) -> np.ndarray:
        """The mean returns over all evaluations, [M]."""
        return np.mean(list(self.scores.values()), axis=0)

    def states(self) -> dict[int, Any]:
        """Update -> agent states [M, ...], at each evaluation."""
        return dict(self.run.saved_states(self.folder))

    def diagnose(self, rows: int = 2048) -> list[dict[str, Any]]:
        """Reports of `evaluation.diagnostics` at each evaluation, oldest first; arrays are [M, ...]."""
        return diagnosis.report(diagnosis.diagnose(self.run, self.folder, rows, seed=0))


def train_variant(
    config: ClaimConfig,
    data: PendulumData,
    name: str,
    agent: str,
    changes: Mapping[str, Any] | None = None,
    *,
    make_agent: MakeAgent | None = None,
    experience: Callable[[RunConfig], Experience] | None = None,
) -> TrainedVariant:
    """Trains one variant, or finishes its training, with a checkpoint at each evaluation.

    Args:
        config: the amount of training.
        data: the data.
        name: name of the variant and of its folder in the workdir.
        agent: agent file, or agent file and preset.
        changes: settings that differ from SETTINGS.
        make_agent: builds the agent; the agent file's function if None.
        experience: settings -> source of the batches; the log if None.
    """
    defaults, default_make_agent = flags.load_agent(agent)
    known = configuration.fields(defaults)
    settings = {key: value for key, value in SETTINGS.items() if key in known} | {
        "steps": config.steps,
        "seed": config.seed,
        "num_seeds": config.num_seeds,
    }
    settings |= changes or {}
    every = settings["steps"] // config.evaluations
    folder = local_path("workdir", config.workdir) / name
    settings |= {
        "eval_every": every,
        "checkpoint_every": every,
        "keep_checkpoints": config.evaluations,
        "workdir": str(folder),
    }
    run = configuration.replace(defaults, settings)
    make_agent = make_agent or default_make_agent
    spec = dataclasses.replace(data.spec, num_updates=run.steps)
    batches = experience(run) if experience else data.offline(run.batch_size)
    inputs = RunInputs(batches, spec, data.normalization)
    train.run(run, make_agent, lambda _: inputs)
    trained = diagnosis.as_trained(run, make_agent, spec, data.normalization, data.dataset)
    return TrainedVariant(trained, folder, results.read_scores(folder, "return"))


def score(variant: TrainedVariant) -> dict[str, Any]:
    """The returns and the speed of a variant, ready for JSON.

    Returns:
        curve: updates, and the mean return with its interval over seeds at each.
        final: the return at the last evaluation.
        average: the mean over all evaluations, which also measures how fast the variant learns.
        updates_per_second: speed of training, of all seeds together.
    """
    curve = [statistics.mean_interval(returns[:, None]) for returns in variant.scores.values()]
    return {
        "curve": {"updates": list(variant.scores)}
        | {name: [point[name] for point in curve] for name in ("mean", "ci_low", "ci_high")},
        "final": curve[-1],
        "average": statistics.mean_interval(variant.average_returns[:, None]),
        "updates_per_second": (processes.read_result(variant.folder) or {})["throughput"][
            "updates_per_second"
        ],
    }


def compare(first: TrainedVariant, second: TrainedVariant) -> dict[str, Any]:
    """Differences, first minus second, of the last returns and of the averages over training."""
    return {
        "final": statistics.difference(first.last_returns, second.last_returns),
        "average": statistics.difference(first.average_returns, second.average_returns),
    }
