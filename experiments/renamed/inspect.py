"""The old name of experiments.inspect_dataset."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.inspect_dataset", run_name="__main__", alter_sys=True)
