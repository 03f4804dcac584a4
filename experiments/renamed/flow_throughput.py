"""The old name of experiments.studies.speed.flow."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.studies.speed.flow", run_name="__main__", alter_sys=True)
