"""The program of a claim: what it says and what decides it, its settings, its files, and its verdicts.

A claim is a module with a `Claim` and a function `examine(config) -> ClaimResult`; `launch` makes it a
program, which prints the claim before it trains.
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

RULE = 'the 95 % interval over seeds lies above 0: "shown"; below 0: "opposite"; else: "not shown"'
"""The decision on every quantity of every claim; a positive quantity speaks for the claim."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimConfig(Settings):
    """The amount of data and training that a claim is tested with."""

    log_steps: int = setting(40_000, "[1000, inf)", "Number of transitions in the data.")
    steps: int = setting(3_000, "[2, inf)", "Updates of each critic.")
    seed: int = setting(0, "[0, 2147483647]", "First random seed.")
    num_seeds: int = setting(
        16, "[1, inf)", "Number of seeds of variants that several claims train: seed, seed + 1, ..."
    )
    own_seeds: int = setting(
        10, "[1, inf)", "Number of seeds of variants that one claim trains, if num_seeds is not smaller."
    )
    evaluations: int = setting(
        12, "[2, inf)", "Number of evaluations of each critic, evenly spaced over its updates."
    )
    variants: str = setting(
        "",
        help="Folder of the trained critics; programs with the same settings can share it. Empty for the "
        "workdir.",
        compare=False,
    )
    workdir: str = setting("", help="Folder for all files of the test.", compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps % self.evaluations:
            raise InputError(
                f"steps is {self.steps}; it must be a multiple of evaluations, {self.evaluations}"
            )

    @property
    def few_seeds(self) -> dict[str, int]:
        """The setting of a variant that one claim trains."""
        return {"num_seeds": min(self.own_seeds, self.num_seeds)}


class Claim(NamedTuple):
    """A claim, fixed before its result is known.

    Attributes:
        statement: the claim in one sentence.
        quantities: the differences that decide it, by name; each is positive if the claim holds. The first
            one decides the claim, the others its further parts.
    """

    statement: str
    quantities: Mapping[str, str]


class ClaimResult(NamedTuple):
    """The result of examining a claim.

    Attributes:
        differences: a `statistics.difference` for each quantity of the claim.
        evidence: further results, JSON-safe; "scores" holds a `variants.score` for each variant.
        draw: makes the figure.
    """

    differences: Mapping[str, Mapping[str, Any]]
    evidence: Mapping[str, Any]
    draw: Callable[[], Any]


Examine = Callable[[Any], ClaimResult]


def verdict(sign: int) -> str:
    """The verdict of RULE on a quantity, from the sign of its interval."""
    return {1: "shown", 0: "not shown", -1: "opposite"}[sign]


def run(claim: Claim, examine: Examine, config: Any) -> dict[str, Any]:
    """Examines a claim, or finishes an interrupted examination.

    Args:
        claim: the claim.
        examine: trains the variants and returns the result.
        config: the settings, a ClaimConfig or others with a workdir.

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
        print(f"claim: {claim.statement}")
        for name, quantity in claim.quantities.items():
            print(f"  {name}: {quantity}")
        print(f"rule: {RULE}")
        examined = examine(config)
        decided = {
            name: {"quantity": quantity, "verdict": verdict(examined.differences[name]["sign"])}
            | dict(examined.differences[name])
            for name, quantity in claim.quantities.items()
        }
        result = {
            "claim": claim.statement,
            "rule": RULE,
            "verdict": next(iter(decided.values()))["verdict"],
            "decided": decided,
            **examined.evidence,
            **facts,
        }
        name = "claim.png"
        outputs.finish(workdir, result, {name: lambda: figures.saved(examined.draw(), workdir / name)})
        show(result)
        print(f"everything is in {workdir}")
        return result


def show(result: Mapping[str, Any]) -> None:
    """Prints the claim with its verdict, and tables of its quantities and of the scores."""
    print(f"{result['claim']}: {result['verdict']}")
    table = rich.table.Table("quantity", "mean (95 % interval)", "verdict")
    for name, part in result["decided"].items():
        table.add_row(name, statistics.interval_text(part), part["verdict"])
    outputs.show(table)
    if "scores" in result:
        table = rich.table.Table("critic", "final score (95 % interval)", "average over training")
        for name, score in result["scores"].items():
            table.add_row(name, *[statistics.interval_text(score[part]) for part in ("final", "average")])
        outputs.show(table)


def launch(claim: Claim, examine: Examine, config: Any = None) -> None:
    """Examines a claim with the settings of the command line.

    Args:
        claim: the claim.
        examine: as for `run`.
        config: the defaults of the flags; ClaimConfig() if None.
    """

    def parse(argv: list[str]) -> Any:
        return flags.parse_config(config or ClaimConfig(), argv)

    def main(config: Any) -> None:
        run(claim, examine, config)

    flags.run(main, parse)
