r"""Writes the report of a suite: tables, figures, comparisons, settings and commands on one page.

    python -m experiments.report runs/cpu_small

reads the workdir of experiments.benchmark, done or still running, and writes into it: report.html, one
self-contained page; report.md with figures/, the same in Markdown; and report.json with all numbers. Commit
report.json as benchmarks/SUITE.json. With such a file

    python -m experiments.report benchmarks/cpu_small.json --readme=README.md

updates the table between <!-- cpu_small --> and <!-- /cpu_small --> in README.md. With --workdir=FOLDER
instead of --readme, it writes the pages again.
"""

from valuelab.benchmark import report
from valuelab.runs import command_line

parse = report.parse

if __name__ == "__main__":
    command_line.run(report.main, parse)
