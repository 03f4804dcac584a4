r"""Looks into the critics of a trained run: features, weights, values against returns, and how flows recover.

    python -m experiments.diagnose --checkpoint=runs/pointmaze --workdir=runs/pointmaze-diagnosed

CHECKPOINT is the workdir of a run of experiments.train on a dataset with rewards; the run may still be going
on. Every checkpoint that it keeps is looked at, and every seed, in rows of the dataset that the run learnt
from. The workdir gets diagnostics.json (each number a list over seeds, in the run's order) and, with
matplotlib, diagnostics.png; of a sweep diagnostics_0.png and so on, one a setting.
valuelab/evaluation/diagnostics.py says what the names stand for.
"""

from valuelab.runs import diagnosis, flags

if __name__ == "__main__":
    flags.run(diagnosis.main, diagnosis.parse)
