"""The report of a suite: collects its numbers and writes its pages."""

import dataclasses
from typing import Any

from absl import flags as absl_flags

from valuelab.benchmark import numbers, pages
from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import command_line, outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Settings):
    """The settings of a report."""

    source: str = setting("", help="Workdir of a suite, or a report.json; the flag's name can be left out.")
    workdir: str = setting("", help="Folder for the report; empty for the workdir of the suite.")
    readme: str = setting("", help="Markdown document whose table is updated instead of writing a report.")


def run(config: ReportConfig) -> dict[str, Any]:
    """Writes a report, or updates the table of a document.

    Args:
        config: the settings.

    Returns:
        The content of report.json.

    Raises:
        InputError: when the source, the folder or the document cannot be used.
    """
    if not config.source:
        raise InputError(
            "no source is given; write python -m experiments.report WORKDIR, with the workdir of a suite"
        )
    source = local_path("source", config.source)
    saved = source.suffix == ".json"
    if saved and not (config.workdir or config.readme):
        raise InputError(f"{source} is a finished report: give --readme=README.md or --workdir=FOLDER")
    report = numbers.read_report(source) if saved else numbers.make(source)
    if config.readme:
        document = local_path("readme", config.readme)
        pages.update_table(document, report, source)
        print(f"the table of {report['suite']} in {document} now shows {source}")
        return report
    folder = outputs.make_folder(config.workdir or source)
    outputs.write_json(folder / "report.json", report)
    pages.write(report, folder)
    print(f"the report is {folder / 'report.html'}")
    return report


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> ReportConfig:
    """The settings of a command line; for arguments and errors see `command_line.parse_config`."""
    return command_line.parse_config(ReportConfig(), argv, values, positional="source")


def main(config: ReportConfig) -> None:
    """Writes the report that a command line asks for."""
    run(config)
