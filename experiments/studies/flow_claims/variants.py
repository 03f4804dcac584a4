"""Variants of a critic: training them with the settings of all claims, and comparing their scores."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.studies.flow_claims.claims import ClaimConfig
from valuelab import configuration
from valuelab.benchmark import processes
from valuelab.configuration import RunConfig
from valuelab.evaluation import statistics
from valuelab.files import local_path
from valuelab.runs import diagnosis, flags, train
from valuelab.runs.diagnosis import DiagnosedRun
from valuelab.runs.inputs import RunInputs
from valuelab.training.experience import Experience
from valuelab.types import Dataset, MakeAgent, Normalization, Spec

FLOW, PLAIN = "floq", "fql"
"""Agent files: a flow critic, and a plain critic of the size of its field."""
KINDS = {"flow": FLOW, "plain": PLAIN}


class Stage(Protocol):
    """A task with data on which critics are compared, such as `grid_maze.GridMaze`."""

    @property
    def dataset(self) -> Dataset:
        """The data."""
        ...

    @property
    def normalization(self) -> Normalization:
        """Of the data."""
        ...

    @property
    def spec(self) -> Spec:
        """Of the data, with the number of updates of the test."""
        ...

    def offline(self, batch_size: int) -> Experience:
        """Batches from the data."""
        ...


class TrainedVariant(NamedTuple):
    """A variant after training, with M seeds.

    Attributes:
        run: the run as it was saved.
        folder: its workdir.
        scores: update -> scores [M] of the stage, at each evaluation.
    """

    run: DiagnosedRun
    folder: pathlib.Path
    scores: dict[int, np.ndarray]

    @property
    def last_scores(self) -> np.ndarray:
        """The scores at the last evaluation, [M]."""
        return list(self.scores.values())[-1]

    @property
    def average_scores(self) -> np.ndarray:
        """The mean scores over all evaluations, [M]."""
        return np.mean(list(self.scores.values()), axis=0)

    def states(self) -> dict[int, Any]:
        """Update -> agent states [M, ...], at each evaluation."""
        return dict(self.run.saved_states(self.folder))

    def diagnose(self, rows: int = 512) -> list[dict[str, Any]]:
        """Reports of `evaluation.diagnostics` at each evaluation, oldest first; arrays are [M, ...]."""
        return diagnosis.report(diagnosis.diagnose(self.run, self.folder, rows, seed=0))


def train_variant(
    config: ClaimConfig,
    stage: Stage,
    name: str,
    agent: str,
    settings: Mapping[str, Any],
    *,
    make_agent: MakeAgent | None = None,
    experience: Callable[[RunConfig], Experience] | None = None,
) -> TrainedVariant:
    """Trains one variant, or finishes its training, with a checkpoint at each evaluation.

    Args:
        config: the amount of training.
        stage: the data.
        name: name of the variant and of its folder in the folder of variants.
        agent: agent file, or agent file and preset.
        settings: settings by dotted name; an agent without one of these fields keeps its other settings.
        make_agent: builds the agent; the agent file's function if None.
        experience: settings -> source of the batches; the stage's data if None.

    Returns:
        The variant; its scores are empty, for the stage to fill.
    """
    defaults, default_make_agent = flags.load_agent(agent)
    known = configuration.fields(defaults)
    folder = local_path("variants", config.variants or config.workdir) / name
    settings = {"steps": config.steps, "seed": config.seed, "num_seeds": config.num_seeds} | {
        key: value for key, value in settings.items() if key in known
    }
    every = settings["steps"] // config.evaluations
    settings |= {
        "log_every": every,
        "eval_every": every,
        "eval_episodes": 0,
        "checkpoint_every": every,
        "keep_checkpoints": config.evaluations,
        "workdir": str(folder),
    }
    run = configuration.replace(defaults, settings)
    make_agent = make_agent or default_make_agent
    spec = dataclasses.replace(stage.spec, num_updates=run.steps)
    batches = experience(run) if experience else stage.offline(run.batch_size)
    inputs = RunInputs(batches, spec, stage.normalization)
    train.run(run, make_agent, lambda _: inputs)
    trained = diagnosis.as_trained(run, make_agent, spec, stage.normalization, stage.dataset)
    return TrainedVariant(trained, folder, {})


def score(variant: TrainedVariant) -> dict[str, Any]:
    """The scores and the speed of a variant, ready for JSON.

    Returns:
        curve: updates, and the mean score with its interval over seeds at each.
        final: the score at the last evaluation.
        average: the mean over all evaluations, which also measures how fast the variant learns.
        updates_per_second: speed of training, of all seeds together.
    """
    curve = [statistics.mean_interval(scores[:, None]) for scores in variant.scores.values()]
    return {
        "curve": {"updates": list(variant.scores)}
        | {name: [point[name] for point in curve] for name in ("mean", "ci_low", "ci_high")},
        "final": curve[-1],
        "average": statistics.mean_interval(variant.average_scores[:, None]),
        "updates_per_second": (processes.read_result(variant.folder) or {})["throughput"][
            "updates_per_second"
        ],
    }
