"""The old name of experiments.studies.risk.compare_risk."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.studies.risk.compare_risk", run_name="__main__", alter_sys=True)
