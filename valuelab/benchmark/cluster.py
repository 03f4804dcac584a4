"""Jobs on a cluster, through submitit."""

import pathlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from valuelab import errors
from valuelab.benchmark import processes
from valuelab.benchmark.processes import Execute, Launch, Stop
from valuelab.errors import InputError

TIME_LIMIT = 24 * 60
"""Time limit of a cluster's job unless one is given, in minutes."""
SHARED = (
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Parameters that submitit documents for every cluster. It takes all others with the prefix "slurm_"."""


def submitter(cluster: str, slurm: Sequence[str], workdir: pathlib.Path) -> Execute:
    """What runs a launch on a cluster.

    Args:
        cluster: slurm, or local for submitit's own processes on this machine.
        slurm: parameters for submitit, KEY=VALUE each.
        workdir: the workdir of the suite, which all machines of the cluster see.

    Raises:
        InputError: when submitit is not installed, or does not accept the parameters.
    """
    submitit = errors.require("submitit", "cluster")
    parameters: dict[str, Any] = {"timeout_min": TIME_LIMIT}
    try:
        executor = submitit.AutoExecutor(workdir.absolute() / "submitit", cluster=cluster)
        for text in slurm:
            key, _, value = text.partition("=")
            if sum(other.partition("=")[0] == key for other in slurm) > 1:
                raise ValueError(f"{key} is given twice")
            parameters[key if key in SHARED else f"slurm_{key}"] = int(value) if value.isdigit() else value
        executor.update_parameters(**parameters)
    except (NameError, ValueError, AssertionError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"slurm is {', '.join(slurm)}: submitit does not accept it ({reason})") from error
    one_at_a_time = threading.Lock()

    def execute(launch: Launch, stop: Stop) -> str:
        while not stop:  # a job that has reached its time limit is submitted again
            with one_at_a_time:
                executor.update_parameters(name=pathlib.Path(launch.folder).name)
                submitted = executor.submit(processes.run_on_worker, launch)
            cancelled = False
            while not submitted.done():
                if stop and not cancelled:
                    submitted.cancel()
                    cancelled = True
                time.sleep(processes.INTERVAL)
            if cancelled:
                break
            if (status := submitted.result()) != processes.STOPPED:
                return status
        return processes.STOPPED

    return execute
