r"""Diagnoses the critics of a trained run: features, weights, values against returns, recovery of flows.

    python -m experiments.diagnose --checkpoint=runs/pointmaze --workdir=runs/pointmaze-diagnosed

CHECKPOINT is the workdir of a run; the run need not be finished. The program evaluates the critics of every
saved checkpoint and every seed on rows of the run's dataset, which must have rewards. For a run that learned
by acting alone it takes rows of the replay buffers. For a zero-shot run it evaluates the values of the run's
tasks. It writes diagnostics.json, where each number is a list over seeds in the run's order, and, with
matplotlib, diagnostics.png; for a sweep diagnostics_0.png and so on, one for each setting.
valuelab/evaluation/diagnostics.py defines the numbers.
"""

from valuelab.runs import diagnosis, flags

parse = diagnosis.parse

if __name__ == "__main__":
    flags.run(diagnosis.main, parse)
