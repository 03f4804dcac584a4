"""Many runs: suites of jobs, their processes on this machine or on a cluster, and their report."""

from valuelab.benchmark.suites import Job, Suite

__all__ = ["Job", "Suite"]
