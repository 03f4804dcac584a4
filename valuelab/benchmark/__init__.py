"""Many runs: suites of jobs, their processes on this machine or a cluster, and their report."""

from valuelab.benchmark.suites import Member, Suite

__all__ = ["Member", "Suite"]
