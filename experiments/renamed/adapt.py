"""The old name of experiments.studies.adapt."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.studies.adapt", run_name="__main__", alter_sys=True)
