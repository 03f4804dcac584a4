"""The program around a claim: its settings, its verdict, its files, and the table that it prints.

A claim is a module with a function `examine(config) -> ClaimResult`; `launch(examine)` makes it a program.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import rich.table

from valuelab import configuration
from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.evaluation import figures, statistics
from valuelab.runs import flags, outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimConfig(Settings):
    """The amount of data and training that a claim is tested with."""

    log_steps: int = setting(40_000, "[1000, inf)", "Transitions in the data, made by random actions.")
    steps: int = setting(10_000, "[2, inf)", "Updates of each critic.")
    seed: int = setting(0, "[0, 2147483647]", "First random seed.")
    num_seeds: int = setting(5, "[1, inf)", "Number of seeds for each variant: seed, seed + 1, ...")
    evaluations: int = setting(
        10, "[2, inf)", "Number of evaluations of each critic, evenly spaced over its updates."
    )
    workdir: str = setting("", help="Folder for all files of the test.", compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps % self.evaluations:
            raise InputError(
                f"steps is {self.steps}; it must be a multiple of evaluations, {self.evaluations}"
            )


class ClaimResult(NamedTuple):
    """The result of examining a claim.

    Attributes:
        claim: the claim in one sentence.
        verdict: a `verdict` on the claim, from these runs alone.
        evidence: JSON-safe; "scores" holds a `variants.score` for each variant.
        draw: makes the figure.
    """

    claim: str
    verdict: str
    evidence: dict[str, Any]
    draw: Callable[[], Any]


Examine = Callable[[Any], ClaimResult]


def verdict(sign: int) -> str:
    """The verdict on a claim that says that a difference is positive, from the sign of that difference."""
    return {1: "seen here", 0: "undecided here", -1: "the opposite is seen here"}[sign]


def run(examine: Examine, config: ClaimConfig) -> dict[str, Any]:
    """Examines a claim, or finishes an interrupted examination.

    Args:
        examine: trains the variants in folders of config.workdir and returns the result.
        config: the settings.

    Returns:
        The content of result.json.

    Raises:
        InputError: for settings or a folder that cannot be used.
    """
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "examine"):
            return done
        facts = {"settings": configuration.to_json(config), **outputs.provenance()}
        outputs.write_config(workdir, facts)
        examined = examine(config)
        result = {"claim": examined.claim, "verdict": examined.verdict} | examined.evidence | facts
        name = "claim.png"
        outputs.finish(workdir, result, {name: lambda: figures.saved(examined.draw(), workdir / name)})
        show(result)
        print(f"everything is in {workdir}")
        return result


def show(result: Mapping[str, Any]) -> None:
    """Prints the claim, the verdict, and a table of the scores if there are any."""
    print(f"{result['claim']}: {result['verdict']}")
    if "scores" in result:
        table = rich.table.Table("critic", "final return (95 % interval)", "average over training")
        for name, score in result["scores"].items():
            table.add_row(
                name, *[statistics.interval_text(score[part], ".0f") for part in ("final", "average")]
            )
        outputs.show(table)


def launch(examine: Examine, config: ClaimConfig | None = None) -> None:
    """Examines a claim with the settings of the command line.

    Args:
        examine: as for `run`.
        config: the defaults of the flags; ClaimConfig() if None.
    """

    def parse(argv: list[str]) -> ClaimConfig:
        return flags.parse_config(config or ClaimConfig(), argv)

    def main(config: ClaimConfig) -> None:
        run(examine, config)

    flags.run(main, parse)
