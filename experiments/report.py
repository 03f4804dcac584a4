r"""Makes the report of a suite: tables, figures, comparisons, settings and commands on one page.

    python -m experiments.report runs/cpu_small

reads the workdir of a run of experiments.benchmark, whether it is done or still going on, and leaves there
report.html, a page with everything inside, the same as report.md, figures/, and report.json with all numbers,
which is what is committed as benchmarks/SUITE.json. From such a file

    python -m experiments.report benchmarks/cpu_small.json --readme=README.md

renews the table between <!-- cpu_small --> and <!-- /cpu_small --> in README.md, and --workdir=FOLDER makes
the pages again.
"""

import dataclasses
from typing import Any

from absl import flags as absl_flags

from experiments import command_line, outputs, report_pages, report_results
from valuelab.errors import InputError
from valuelab.files import local_path


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
    report = report_results.read_report(source) if saved else report_results.make(source)
    if config.readme:
        document = local_path("readme", config.readme)
        report_pages.renew_table(document, report, source)
        print(f"{document} shows {report['suite']} as {source} has it")
        return report
    folder = outputs.make_folder(config.workdir or source)
    outputs.write_json(folder / "report.json", report)
    report_pages.write(report, folder)
    print(f"the report is {folder / 'report.html'}")
    return report


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> ReportConfig:
    """The settings of a command line; arguments and errors as of `command_line.parse_config`."""
    return command_line.parse_config(ReportConfig(), argv, values, positional="source")


def main(config: ReportConfig) -> None:
    """Reports what a command line asks for."""
    run(config)


if __name__ == "__main__":
    command_line.run(main, parse)
