"""What the tests of claims share: a task, critics trained on it, and what is left of a test.

The task is Pendulum, learnt from a log of uniformly random torques. Its values fill a good part of the range
that rewards allow when γ is 0.95, as flow critics want it, and a thousand updates a second make seeds cheap.
Small nets on an easy task can show that a claim does not hold everywhere, not that it holds at full size.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.table

from valuelab import configuration, environments
from valuelab.benchmark import processes
from valuelab.configuration import RunConfig, check_ranges
from valuelab.data import normalization as normalizations
from valuelab.data import recording, sampling
from valuelab.errors import InputError
from valuelab.evaluation import figures, statistics
from valuelab.files import local_path
from valuelab.runs import diagnosis, flags, outputs, results, sources, train
from valuelab.runs.diagnosis import Trained
from valuelab.training.experience import Experience, Interaction, mixed, offline
from valuelab.types import Dataset, Key, MakeAgent, Normalization, Spec

ENVIRONMENT = "gymnasium/Pendulum-v1"
MONOLITHIC, FLOW = "fql_resnet", "floq"
"""Agent files: a plain critic of residual blocks and a flow critic of the same size, with the same policy."""
KINDS = {"flow": FLOW, "monolithic": MONOLITHIC}
_LANES = 20
_REWARD_SCALE = 0.1
SIZE: dict[str, Any] = {
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
    "agent.policy.bc_weight": 0.03,  # the log is random: little of it is worth keeping
    "agent.policy.learning_rate": 1e-3,
    "eval_temperature": 1.0,
    "eval_episodes": 20,
    "log_every": 500,
}
"""Settings of every agent that has them."""


@dataclasses.dataclass(frozen=True)
class ClaimConfig:
    """How much a claim is tested on.

    Attributes:
        log_steps: steps of random torques in the log.
        steps: updates of each critic.
        seed: first random seed.
        num_seeds: critics of each kind, of the seeds seed, seed + 1, ...
        evaluations: how often each is evaluated, evenly over its updates.
        workdir: folder for everything that the test leaves.
    """

    log_steps: int = 40_000
    steps: int = 10_000
    seed: int = 0
    num_seeds: int = 5
    evaluations: int = 10
    workdir: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            log_steps="[1000, inf)",
            steps="[2, inf)",
            seed="[0, 2147483647]",
            num_seeds="[1, inf)",
            evaluations="[2, inf)",
        )
        if self.steps % self.evaluations:
            raise InputError(
                f"steps is {self.steps}; it must be a multiple of evaluations, {self.evaluations}"
            )


class Task(NamedTuple):
    """What critics learn from.

    Attributes:
        dataset: the log.
        normalization: of it.
        spec: of it, for the updates of the test.
    """

    dataset: Dataset
    normalization: Normalization
    spec: Spec

    def experience(self, batch_size: int) -> Experience:
        """Batches of the log."""
        return offline(sampling.transitions(self.dataset, batch_size))


class Found(NamedTuple):
    """What examining a claim found.

    Attributes:
        claim: in a sentence.
        verdict: of these runs.
        evidence: JSON-safe; "scores" holds a `score` for each kind of critic.
        draw: makes the figure.
    """

    claim: str
    verdict: str
    evidence: dict[str, Any]
    draw: Callable[[], Any]


class Trial(NamedTuple):
    """A kind of critic, trained.

    Attributes:
        run: as it was saved.
        folder: its workdir.
        scores: update to returns of the seeds [M], a mean over episodes, at each evaluation.
    """

    run: Trained
    folder: pathlib.Path
    scores: dict[int, np.ndarray]

    @property
    def last(self) -> np.ndarray:
        """The last of the scores, [M]."""
        return list(self.scores.values())[-1]

    def states(self) -> dict[int, Any]:
        """Update to the members' states [M, ...], at each evaluation."""
        return dict(self.run.saved_states(self.folder))

    def look(self, rows: int = 2048) -> list[dict[str, Any]]:
        """What `evaluation.diagnostics` tells at each evaluation, oldest first; seeds are first axes."""
        return diagnosis.report(diagnosis.look(self.run, self.folder, rows, seed=0))


Examine = Callable[[Any], Found]


def task(config: ClaimConfig) -> Task:
    """Records the log; the same for the same settings."""
    environment = environments.vector(ENVIRONMENT, _LANES)

    def anything(observations: jax.Array, key: Key) -> jax.Array:
        shape = (len(observations), environment.spec.action_dim)
        return jax.random.uniform(
            key, shape, minval=environment.action_low[None], maxval=environment.action_high[None]
        )

    log = recording.record(environment, anything, -(-config.log_steps // _LANES), jax.random.key(config.seed))
    fitted = normalizations.fit(log, observations=True, rewards="none")
    normalization = fitted._replace(reward_scale=_REWARD_SCALE)
    return Task(log, normalization, normalizations.make_spec(log, normalization, config.steps))


def online(task: Task, update_to_data: float, steps: int) -> Callable[[RunConfig], Experience]:
    """Batches of which half are met while acting; `steps` is how many steps that comes to."""
    interaction = Interaction(
        num_environments=1,
        capacity=steps + 200,
        warmup_steps=200,
        update_to_data=update_to_data,
        dataset_share=0.5,
    )
    environment = environments.vector(ENVIRONMENT, interaction.num_environments)

    def experience(run: RunConfig) -> Experience:
        sampler = sampling.transitions(task.dataset, run.batch_size)
        return mixed(sampler, environment, interaction, offline_steps=0)

    return experience


def learn(
    config: ClaimConfig,
    task: Task,
    name: str,
    agent: str,
    changes: Mapping[str, Any] | None = None,
    *,
    make_agent: MakeAgent | None = None,
    experience: Callable[[RunConfig], Experience] | None = None,
) -> Trial:
    """Trains one kind of critic, or what is left of it, with a checkpoint at each evaluation.

    Args:
        config: how much.
        task: what it learns from.
        name: of the kind; its folder in the workdir.
        agent: agent file, or one with a preset.
        changes: settings other than SIZE.
        make_agent: builds the agent; by default as the file says.
        experience: settings -> where batches come from; by default the log.

    Returns:
        The trial.
    """
    defaults, default_make_agent = flags.load_agent(agent)
    known = configuration.fields(defaults)
    settings = {key: value for key, value in SIZE.items() if key in known} | {
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
    spec = dataclasses.replace(task.spec, num_updates=run.steps)
    batches = experience(run) if experience else task.experience(run.batch_size)
    source = sources.Source(batches, spec, task.normalization)
    train.run(run, make_agent, lambda _: source)
    trained = diagnosis.as_trained(run, make_agent, spec, task.normalization, task.dataset)
    return Trial(trained, folder, results.read_scores(folder, "return"))


def score(trial: Trial) -> dict[str, Any]:
    """How a trial went, ready for JSON.

    Returns:
        curve: updates, and the mean return with its interval over seeds at each. final: of the last
        evaluation. average: of all evaluations, which tells who learns faster too.
    """
    curve = [statistics.mean_interval(returns[:, None]) for returns in trial.scores.values()]
    return {
        "curve": {"updates": list(trial.scores)}
        | {name: [point[name] for point in curve] for name in ("mean", "ci_low", "ci_high")},
        "final": curve[-1],
        "average": statistics.mean_interval(_average(trial)[:, None]),
        "updates_per_second": (processes.read_result(trial.folder) or {})["throughput"]["updates_per_second"],
    }


def compare(first: Trial, second: Trial) -> dict[str, Any]:
    """By how much the returns of the first are above those of the second, in the end and on average."""
    return {
        "final": statistics.difference(first.last, second.last),
        "average": statistics.difference(_average(first), _average(second)),
    }


def verdict(sign: int) -> str:
    """What the sign of a difference that a claim calls positive says of the claim."""
    return {1: "seen here", 0: "undecided here", -1: "the opposite is seen here"}[sign]


def run(examine: Examine, config: ClaimConfig) -> dict[str, Any]:
    """Examines a claim, or does what is left of it.

    Args:
        examine: trains in folders of config.workdir, and tells what was found; see `Found`.
        config: how much.

    Returns:
        What result.json holds.

    Raises:
        InputError: for settings or a folder that cannot be used.
    """
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "examine"):
            return done
        facts = {
            "settings": configuration.to_json(config),
            "versions": outputs.versions(),
            "device": outputs.device(),
        }
        outputs.write_json(workdir / "config.json", facts)
        found = examine(config)
        result = {"claim": found.claim, "verdict": found.verdict} | found.evidence | facts
        name = "claim.png"
        outputs.finish(workdir, result, {name: lambda: figures.saved(found.draw(), workdir / name)})
        show(result)
        print(f"everything is in {workdir}")
        return result


def show(result: Mapping[str, Any]) -> None:
    """Prints what was claimed and seen, and the scores where there are any."""
    print(f"{result['claim']}: {result['verdict']}")
    if "scores" in result:
        table = rich.table.Table("critic", "final return (95 % interval)", "average over training")
        for name, told in result["scores"].items():
            table.add_row(
                name, *[statistics.interval_text(told[part], ".0f") for part in ("final", "average")]
            )
        outputs.show(table)


def launch(examine: Examine, config: ClaimConfig | None = None) -> None:
    """Examines a claim as a command line asks.

    Args:
        examine: as of `run`.
        config: settings without a flag.
    """

    def parse(argv: list[str]) -> ClaimConfig:
        return flags.parse_config(config or ClaimConfig(), argv)

    def main(config: ClaimConfig) -> None:
        run(examine, config)

    flags.run(main, parse)


def _average(trial: Trial) -> np.ndarray:
    """[M], over evaluations."""
    return np.mean(list(trial.scores.values()), axis=0)
