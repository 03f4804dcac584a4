"""The old name of experiments.studies.speed.solver."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.studies.speed.solver", run_name="__main__", alter_sys=True)
