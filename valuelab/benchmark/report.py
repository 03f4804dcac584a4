"""A report of a suite or of any runs: collects the numbers and writes the pages."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from absl import flags as absl_flags

from valuelab.benchmark import display_names, numbers, pages, run_folders
from valuelab.benchmark.suites import JOBS
from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.evaluation import figures
from valuelab.files import local_path
from valuelab.runs import command_line, outputs

DEFAULT_FOLDER = "report"
"""The folder of a report of runs that are not one suite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Settings):
    """The settings of a report."""

    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ("workdir",)}

    source: tuple[str, ...] = setting(
        (),
        help="Workdirs of runs and suites, folders that contain them, or one report.json; the flag's name "
        "can be left out.",
    )
    workdir: str = setting(
        "", help=f"Folder for the report; empty for the workdir of the suite, or {DEFAULT_FOLDER} for runs."
    )
    readme: str = setting("", help="Markdown document whose table is updated instead of writing pages.")
    names: str = setting(
        "",
        help="Names and order of the methods, LABEL=NAME,LABEL=NAME or a JSON file; labels that are not "
        "given come last.",
    )
    formats: tuple[str, ...] = setting(
        (), help="Further formats of figures, such as pdf,svg; PNG is always written."
    )


def run(config: ReportConfig) -> dict[str, Any]:
    """Writes a report, or updates the table of a document.

    Args:
        config: the settings.

    Returns:
        The content of report.json.

    Raises:
        InputError: when a source, a name, the folder or the document cannot be used.
    """
    if not config.source:
        raise InputError(
            "no source is given; write python -m experiments.report WORKDIR, with the workdirs of runs or of "
            "a suite"
        )
    formats = figures.formats(config.formats)
    names = display_names.read(config.names)
    sources = [local_path("source", source) for source in config.source]
    first, is_suite = sources[0], len(sources) == 1 and (sources[0] / "suite.json").exists()
    if len(sources) == 1 and first.suffix == ".json":
        if not (config.workdir or config.readme):
            raise InputError(f"{first} is a finished report: give --readme=FILE.md or --workdir=FOLDER")
        report, folder = numbers.read_report(first), local_path("workdir", config.workdir)
    elif is_suite:
        folder = local_path("workdir", config.workdir or first)
        report = numbers.make(first)
    else:
        folder = local_path("workdir", config.workdir or DEFAULT_FOLDER)
        report = run_folders.make(sources, folder.resolve().name)
        _say_what_is_left_out(report)
    report = display_names.apply(report, names)
    linked = first
    if not config.readme or len(sources) > 1:
        linked = outputs.make_folder(folder) / "report.json"
        outputs.write_json(linked, report)
    if config.readme:
        document = local_path("readme", config.readme)
        pages.update_table(document, report, linked)
        print(f"the table of {report['suite']} in {document} now shows {linked}")
        return report
    pages.write(report, folder, formats)
    print(f"the report is {folder / 'report.html'}")
    return report


def _say_what_is_left_out(report: dict[str, Any]) -> None:
    """Prints a line for each run without a usable result, and for each other note."""
    for note in report["notes"]:
        print(f"note: {note}")
    for job in report[JOBS]:
        if job["status"] != "done":
            print(f"note: {job['name']} is {job['status']}" + (f": {job['note']}" if job["note"] else ""))


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> ReportConfig:
    """The settings of a command line; for arguments and errors see `command_line.parse_config`."""
    return command_line.parse_config(ReportConfig(), argv, values, positional="source")


def main(config: ReportConfig) -> None:
    """Writes the report that a command line asks for."""
    run(config)
