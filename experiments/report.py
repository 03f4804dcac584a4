r"""Makes the report of a suite: tables, figures, comparisons, settings and commands on one page.

    python -m experiments.report runs/cpu_small

reads the workdir of a run of experiments.benchmark, whether it is done or still going on, and leaves there
report.html, a page with everything inside, the same as report.md, figures/, and report.json with all numbers,
which is what is committed as benchmarks/SUITE.json. From such a file

    python -m experiments.report benchmarks/cpu_small.json --readme=README.md

renews the table between <!-- cpu_small --> and <!-- /cpu_small --> in README.md, and --workdir=FOLDER makes
the pages again.
"""

from valuelab.benchmark import report
from valuelab.runs import command_line

if __name__ == "__main__":
    command_line.run(report.main, report.parse)
