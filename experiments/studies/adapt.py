r"""Learns a task from the frozen encodings of a zero-shot agent, and beside it from observations.

    python -m experiments.studies.adapt --encoder=runs/zero_shot --agent=iql:pointmaze --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --eval_every=2000 --workdir=runs/adaptation

`--encoder` is the workdir of a run of experiments.zero_shot that saw such observations; the encodings φ(s)
are those of its first member. The folder gets a run of experiments.train for each way to see,
`observations/` and `encodings/`, adaptation.png with the curves of both, and result.json: scores in the end
and on average over all evaluations, with intervals over seeds, and by how much encodings are better. The same
command again goes on where it was stopped.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from valuelab import configuration
from valuelab.agents.encoded import encoded
from valuelab.agents.zero_shot import ZeroShotConfig, state_encoder
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.errors import InputError
from valuelab.evaluation import figures, statistics
from valuelab.files import local_path
from valuelab.networks.encoders import EncoderName
from valuelab.runs import flags, outputs, results, sources, train
from valuelab.runs.zero_shot import ZeroShotRunConfig
from valuelab.training import checkpoints
from valuelab.types import Agent, Array, MakeAgent, Normalization, Spec, Transitions

COLOURS = {"observations": figures.VERMILLION, "encodings": figures.BLUE}
"""Of the ways to see."""


@dataclasses.dataclass(frozen=True)
class AdaptConfig(RunConfig):
    """The settings of both runs.

    Attributes:
        encoder: workdir of the run whose encodings are seen.
        trust_agent_file: run the agent file that this run names, wherever it lies.
    """

    encoder: str = ""
    trust_agent_file: bool = dataclasses.field(default=False, compare=False)


class EncoderRun(NamedTuple):
    """A zero-shot run as it was saved.

    Attributes:
        folder: its workdir.
        config: its settings.
        make_agent: what builds its agent.
        normalization: of its data.
    """

    folder: pathlib.Path
    config: RunConfig
    make_agent: MakeAgent
    normalization: Normalization


class Encoder(NamedTuple):
    """What a zero-shot run has learnt to see.

    Attributes:
        encode: (state, observations [B, ...]) -> φ(s), [B, k].
        state: of its first member.
        dim: k.
    """

    encode: Callable[[Any, Array], Array]
    state: Any
    dim: int


def run(config: AdaptConfig, make_agent: MakeAgent) -> dict[str, Any]:
    """Learns in both ways, or does what is left of it.

    Args:
        config: settings of both.
        make_agent: builds the agent.

    Returns:
        What result.json holds.

    Raises:
        InputError: for settings, data or an encoder that cannot be used.
    """
    if not config.encoder or not config.eval_every:
        raise InputError(
            "give --encoder, the workdir of a zero-shot run, and --eval_every, to compare curves"
        )
    if config.sweep:
        raise InputError("adapt compares two ways of one setting: leave --sweep out, or use --num_seeds")
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "adapt"):
            return done
        encoder_run = read_encoder(local_path("encoder", config.encoder), config.trust_agent_file)
        facts = {"versions": outputs.versions(), "device": outputs.device()}
        outputs.write_json(workdir / "config.json", {"settings": configuration.to_json(config)} | facts)
        source = sources.find_source(config)
        encoder = open_encoder(encoder_run, source, config.data.num_frames)

        def on_encodings(config: Any, spec: Spec) -> Agent:
            seen = dataclasses.replace(spec, observation_shape=(encoder.dim,), observation_dtype="float32")
            return encoded(make_agent(_of_vectors(config), seen), encoder.encode, encoder.state)

        ways: dict[str, MakeAgent] = {"observations": make_agent, "encodings": on_encodings}
        for make in ways.values():  # what is refused is so before either has taken time
            make(config.agent, source.spec)
        curves: dict[str, dict[int, np.ndarray]] = {}
        unknown: list[dict[str, Any]] = []
        for name, make in ways.items():
            print(f"learning from {name}:")
            learnt = train.run(
                dataclasses.replace(config, workdir=str(workdir / name)), make, lambda _: source
            )
            curves[name] = results.read_scores(workdir / name, next(iter(learnt["eval"])))
            unknown += [{"from": name, **episode} for episode in learnt.get("without_score", [])]
        result = {"encoder": config.encoder} | compare(curves) | facts
        if unknown:
            result["without_score"] = unknown
        name = "adaptation.png"
        outputs.finish(workdir, result, {name: lambda: figures.saved(draw(result), workdir / name)})
        print(f"everything is in {workdir}")
        return result


def _of_vectors(agent: Any) -> Any:
    """An agent's settings without encoders of images: encodings are vectors, which need none."""
    known = configuration.fields(agent)
    encoders = [name for name, field in known.items() if field.annotation == EncoderName | None]
    return configuration.replace(agent, dict.fromkeys(encoders))


def read_encoder(folder: pathlib.Path, trust_agent_file: bool) -> EncoderRun:
    """Reads the settings of a zero-shot run.

    Args:
        folder: its workdir.
        trust_agent_file: as for `flags.load_saved_agent`.

    Raises:
        InputError: when there is no such run, its agent file is not trusted, or it has learnt no φ.
    """
    settings, normalization = results.read_run(folder, "zero_shot", "encoder")
    defaults = ZeroShotRunConfig(**flags.default_fields())
    config, make_agent = flags.load_saved_agent(folder, settings, defaults, trust_agent_file)
    if not isinstance(config.agent, ZeroShotConfig):
        raise InputError(
            f"the run in {folder} is of {config.agent_name}, which learns no encodings for tasks"
        )
    return EncoderRun(folder, config, make_agent, normalization)


def open_encoder(run: EncoderRun, source: sources.Source, num_frames: int) -> Encoder:
    """Reads what a zero-shot run has learnt to see.

    Args:
        run: its settings.
        source: the data that are to be encoded.
        num_frames: that their observations hold side by side.

    Raises:
        InputError: when its observations are others, or it has no checkpoint.
    """
    folder, config, make_agent, normalization = run
    if config.data.num_frames != num_frames:
        raise InputError(
            f"the run in {folder} saw {config.data.num_frames} observations side by side, and "
            f"data.num_frames is {num_frames}: give --data.num_frames={config.data.num_frames}"
        )
    theirs, ours = (normalizations.to_json(each) for each in (normalization, source.normalization))
    for name in ("observation_mean", "observation_std"):
        if theirs[name] != ours[name]:
            raise InputError(
                f"the run in {folder} saw observations with {name} {_briefly(theirs[name])}, and here it is "
                f"{_briefly(ours[name])}: give the same data and --data.normalize_observations"
            )
    spec = source.spec
    agent = make_agent(config.agent, spec)
    blank, zeros = jnp.zeros((1, *spec.observation_shape), spec.observation_dtype), jnp.zeros(1)
    example = Transitions(blank, jnp.zeros((1, spec.action_dim)), zeros, zeros, blank, futures=blank)

    def init(seed: Array) -> Any:
        return agent.init(jax.random.key(seed), example)

    like = jax.eval_shape(jax.vmap(init), configuration.population(config).seeds)
    *_, (_, states) = checkpoints.read_states(folder / "checkpoints", like)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    encode = state_encoder(config.agent, spec)
    return Encoder(encode, state, jax.eval_shape(encode, state, blank).shape[1])


def _briefly(values: Any) -> str:
    """None, or numbers that may be those of an image, in words."""
    return "None" if values is None else f"{np.mean(values):g} on average"


def compare(curves: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, Any]:
    """Scores by way to see, and the difference of the two, ready for JSON."""
    final = {name: list(curve.values())[-1] for name, curve in curves.items()}
    average = {name: np.mean(list(curve.values()), axis=0) for name, curve in curves.items()}
    told: dict[str, Any] = {
        name: {
            "updates": list(curve),
            "curve": [statistics.mean_interval(scores[:, None]) for scores in curve.values()],
            "final": statistics.mean_interval(final[name][:, None]),
            "average": statistics.mean_interval(average[name][:, None]),
        }
        for name, curve in curves.items()
    }
    better = {
        part: statistics.difference(scores["encodings"], scores["observations"])
        for part, scores in (("final", final), ("average", average))
    }
    return {"scores": told, "encodings - observations": better}


def draw(result: Mapping[str, Any]) -> Any:
    """Curves with intervals over seeds; the matplotlib Figure."""
    figure = figures.new(5.5, 3.8)
    axes = figure.subplots()
    figures.plain(axes)
    for name, told in result["scores"].items():
        means, lows, highs = (
            [point[part] for point in told["curve"]] for part in ("mean", "ci_low", "ci_high")
        )
        axes.plot(told["updates"], means, color=COLOURS[name], label=f"from {name}", marker=".")
        axes.fill_between(told["updates"], lows, highs, color=COLOURS[name], alpha=0.2, lw=0)
    axes.set(xlabel="updates", ylabel="score", title="A task learnt from frozen encodings, and without them")
    axes.legend(frameon=False)
    return figure


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> tuple[AdaptConfig, MakeAgent]:
    """The settings of a command line, as `flags.parse_run` reads them."""
    return flags.parse_run(argv, values, AdaptConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[AdaptConfig, MakeAgent]) -> None:
    """Does what a command line asks."""
    train.main(parsed, run)


if __name__ == "__main__":
    flags.run(main, parse)
