"""The old name of experiments.studies.risk.compare_eta_network."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.studies.risk.compare_eta_network", run_name="__main__", alter_sys=True)
