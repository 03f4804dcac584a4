r"""Writes the report of a suite or of any runs: tables, figures, comparisons, settings and commands.

    python -m experiments.report runs/cpu_small

reads the workdir of experiments.benchmark, done or still running, and writes into it: report.html, one
self-contained page; report.md with figures/, the same in Markdown; report.tex, its tables and figures in
LaTeX; report.csv, the values of its tables; and report.json with all numbers.

    python -m experiments.report runs/iql runs/fql_* --out=runs/comparison --formats=pdf,svg \
      --names="fql=FQL,iql=IQL"

reads any workdirs of experiments.train, experiments.zero_shot and experiments.benchmark, and folders that
contain them. Runs with the same settings are one method, and their seeds are pooled. The program names all
runs that it leaves out, and the reasons.

Commit the report.json of a suite as benchmarks/SUITE.json. With such a file

    python -m experiments.report benchmarks/cpu_small.json --readme=docs/results/index.md

updates the table between <!-- cpu_small --> and <!-- /cpu_small --> in this document. With --workdir=FOLDER
instead of --readme, it writes the pages again.
"""

from valuelab.benchmark import report
from valuelab.runs import command_line

parse = report.parse

if __name__ == "__main__":
    command_line.run(report.main, parse)
