r"""Does an agent learn a task faster from the frozen encodings of a zero-shot agent than from observations?

    python -m experiments.studies.adapt --encoder=runs/zero_shot --agent=iql:pointmaze --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --eval_every=2000 --workdir=runs/adaptation

`--encoder` is the workdir of a run of experiments.zero_shot with such observations. The encodings φ(s) are
those of its first member.

The workdir gets `observations/` and `encodings/`, each a run of experiments.train; adaptation.png with the
curves of both; and result.json with the last scores, the averages over all evaluations, and the differences,
with intervals over seeds. The same command continues after an interruption.

Measured (benchmarks/adapt_td_jepa.json): in the maze IQL has success 0.50 after 20,000 updates from TD-JEPA's
encodings, and 1.00 from observations.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags as absl_flags

from experiments.studies import frozen_encoder
from valuelab import configuration
from valuelab.agents.encoded import encoded
from valuelab.configuration import RunConfig, setting
from valuelab.errors import InputError
from valuelab.evaluation import figures, statistics
from valuelab.files import local_path
from valuelab.networks.encoders import EncoderName
from valuelab.runs import flags, outputs, results, train
from valuelab.runs.inputs import find_inputs
from valuelab.types import Agent, MakeAgent, Spec

COLOURS = {"observations": figures.VERMILLION, "encodings": figures.BLUE}
"""The colour of each input of the agent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig(RunConfig):
    """The settings of both runs."""

    encoder: str = setting("", help="Workdir of the zero-shot run whose encodings are used.")
    trust_agent_file: bool = setting(
        False, help="Run the agent file that this workdir names, wherever it lies.", compare=False
    )


def run(config: AdaptConfig, make_agent: MakeAgent) -> dict[str, Any]:
    """Trains from both inputs, or finishes their training.

    Args:
        config: the settings of both runs.
        make_agent: builds the agent.

    Returns:
        The content of result.json.

    Raises:
        InputError: for settings, data or an encoder that cannot be used.
    """
    if not config.encoder:
        raise InputError("no encoder is given: write --encoder=WORKDIR of a run of experiments.zero_shot")
    if not config.eval_every:
        raise InputError("eval_every is 0, but adapt compares curves: write --eval_every=2000")
    if not config.eval_episodes:
        raise InputError("eval_episodes is 0, but adapt compares scores: give a positive number")
    if config.sweep:
        raise InputError("adapt compares two inputs at one setting: leave out --sweep, or use --num_seeds")
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "adapt"):
            return done
        encoder_run = frozen_encoder.read_run(local_path("encoder", config.encoder), config.trust_agent_file)
        facts = outputs.provenance()
        outputs.write_config(workdir, {"settings": configuration.to_json(config)} | facts)
        run_inputs = find_inputs(config)
        encoder = frozen_encoder.load(encoder_run, run_inputs, config.data.num_frames)

        def on_encodings(config: Any, spec: Spec) -> Agent:
            vectors = dataclasses.replace(spec, observation_shape=(encoder.dim,), observation_dtype="float32")
            agent = make_agent(without_image_encoders(config), vectors)
            return encoded(agent, encoder.encode, encoder.state)

        inputs: dict[str, MakeAgent] = {"observations": make_agent, "encodings": on_encodings}
        for make in inputs.values():  # an agent that cannot be made is refused before any training
            make(config.agent, run_inputs.spec)
        curves: dict[str, dict[int, np.ndarray]] = {}
        without_score: list[dict[str, Any]] = []
        for name, make in inputs.items():
            print(f"learning from {name}:")
            part = dataclasses.replace(config, workdir=str(workdir / name))
            trained = train.run(part, make, lambda _: run_inputs)
            curves[name] = results.read_scores(workdir / name, next(iter(trained["eval"])))
            without_score += [{"from": name, **episode} for episode in trained.get("without_score", [])]
        result = {"encoder": config.encoder} | compare(curves) | facts
        if without_score:
            result["without_score"] = without_score
        name = "adaptation.png"
        outputs.finish(workdir, result, {name: lambda: figures.saved(draw(result), workdir / name)})
        print(f"everything is in {workdir}")
        return result


def without_image_encoders(agent_config: Any) -> Any:
    """An agent's settings without encoders of images, because encodings are vectors."""
    known = configuration.fields(agent_config)
    encoders = [name for name, field in known.items() if field.annotation == EncoderName | None]
    return configuration.replace(agent_config, dict.fromkeys(encoders))


def compare(curves: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, Any]:
    """The scores from each input and their differences, ready for JSON.

    Args:
        curves: input -> update -> scores of the seeds [M].
    """
    final = {name: list(curve.values())[-1] for name, curve in curves.items()}
    average = {name: np.mean(list(curve.values()), axis=0) for name, curve in curves.items()}
    by_input: dict[str, Any] = {
        name: {
            "updates": list(curve),
            "curve": [statistics.mean_interval(scores[:, None]) for scores in curve.values()],
            "final": statistics.mean_interval(final[name][:, None]),
            "average": statistics.mean_interval(average[name][:, None]),
        }
        for name, curve in curves.items()
    }
    differences = {
        part: statistics.difference(scores["encodings"], scores["observations"])
        for part, scores in (("final", final), ("average", average))
    }
    return {"scores": by_input, "encodings - observations": differences}


def draw(result: Mapping[str, Any]) -> Any:
    """Draws the curves with intervals over seeds; returns the matplotlib Figure."""
    figure = figures.new(5.5, 3.8)
    axes = figure.subplots()
    figures.plain(axes)
    for name, scores in result["scores"].items():
        means, lows, highs = (
            [point[part] for point in scores["curve"]] for part in ("mean", "ci_low", "ci_high")
        )
        axes.plot(scores["updates"], means, color=COLOURS[name], label=f"from {name}", marker=".")
        axes.fill_between(scores["updates"], lows, highs, color=COLOURS[name], alpha=0.2, lw=0)
    axes.set(
        xlabel="updates", ylabel="score", title="Learning a task from frozen encodings and from observations"
    )
    axes.legend(frameon=False)
    return figure


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> tuple[AdaptConfig, MakeAgent]:
    """The settings that the command line describes; see `flags.parse_run`."""
    return flags.parse_run(argv, values, AdaptConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[AdaptConfig, MakeAgent]) -> None:
    """Trains and compares as the command line describes."""
    train.main(parsed, run)


if __name__ == "__main__":
    flags.run(main, parse)
