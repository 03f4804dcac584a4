"""The report of a suite: its numbers are collected, and its pages are written."""

import dataclasses
from typing import Any

from absl import flags as absl_flags

from valuelab.benchmark import numbers, pages
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import command_line, outputs


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What is reported, and where.

    Attributes:
        source: workdir of a suite, or a report.json; may be given without its name.
        workdir: folder for the report; empty for that of the suite.
        readme: document whose table is renewed, in place of a report.
    """

    source: str = ""
    workdir: str = ""
    readme: str = ""


def run(config: ReportConfig) -> dict[str, Any]:
    """Makes a report, or renews a document's table.

    Args:
        config: its settings.

    Returns:
        What report.json holds.

    Raises:
        InputError: for a source, a folder or a document that cannot be used.
    """
    if not config.source:
        raise InputError("nothing to report; write python -m experiments.report WORKDIR, of a suite")
    source = local_path("source", config.source)
    saved = source.suffix == ".json"
    if saved and not (config.workdir or config.readme):
        raise InputError(f"{source}: say what to make of it, --readme=README.md or --workdir=FOLDER")
    report = numbers.read_report(source) if saved else numbers.make(source)
    if config.readme:
        document = local_path("readme", config.readme)
        pages.renew_table(document, report, source)
        print(f"{document} shows {report['suite']} as {source} has it")
        return report
    folder = outputs.make_folder(config.workdir or source)
    outputs.write_json(folder / "report.json", report)
    pages.write(report, folder)
    print(f"the report is {folder / 'report.html'}")
    return report


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> ReportConfig:
    """The settings of a command line; arguments and errors as of `command_line.parse_config`."""
    return command_line.parse_config(ReportConfig(), argv, values, positional="source")


def main(config: ReportConfig) -> None:
    """Reports what a command line asks for."""
    run(config)
