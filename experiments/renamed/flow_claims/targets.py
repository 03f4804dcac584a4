"""The old name of experiments.studies.flow_claims.targets."""

import runpy

if __name__ == "__main__":
    runpy.run_module("experiments.studies.flow_claims.targets", run_name="__main__", alter_sys=True)
