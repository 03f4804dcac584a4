"""The machine: its cores and accelerators, and how jobs share them."""

import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from valuelab import workers
from valuelab.arrays import available_memory

JOB_BYTES = 3 << 30
"""Memory that a job takes at most on a CPU host, in bytes."""
JOB_CORES = 2
"""The number of cores that a job can use well on a CPU host."""
ACCELERATOR_MEMORY = 0.9
"""Fraction of an accelerator's memory that the jobs sharing it may use in total."""


class Slot(NamedTuple):
    """A share of the machine, for one job at a time.

    Attributes:
        cores: the cores that the job may use; empty for all.
        environment: variables that give the job its accelerator.
    """

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}


def share(jobs: int = 0) -> list[Slot]:
    """Divides cores and accelerators among jobs that run at the same time.

    Args:
        jobs: the number of slots. 0 means one for each accelerator or, without accelerators, one for every
            JOB_CORES cores; there are fewer when the memory is less than JOB_BYTES for each.

    Returns:
        The slots.
    """
    cores, devices = workers.available_cores(), accelerators()
    fitting = len(devices) or len(cores) // JOB_CORES
    jobs = jobs or max(1, min(fitting, available_memory() // JOB_BYTES))
    slots = []
    for index in range(jobs):
        own = cores[index * len(cores) // jobs : (index + 1) * len(cores) // jobs]
        environment = {}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
        if jobs > len(devices) > 0:
            fraction = ACCELERATOR_MEMORY / -(-jobs // len(devices))
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{fraction:.3f}"
        slots.append(Slot(tuple(own or [cores[index % len(cores)]]) if jobs > 1 else (), environment))
    return slots


def accelerators() -> list[str]:
    """The NVIDIA GPUs that may be used, as CUDA names them.

    Does not ask JAX, which would reserve their memory.
    """
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device]
    return sorted(path.name.removeprefix("nvidia") for path in pathlib.Path("/dev").glob("nvidia[0-9]*"))


def describe() -> str:
    """This machine in words, such as "2 x GPU, 16 cores of Intel(R) Xeon(R) ..."."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    gpus = f"{len(accelerators())} x GPU, " if accelerators() else ""
    cores = len(workers.available_cores())
    return f"{gpus}{cores} core{'s' if cores > 1 else ''} of {model}"
