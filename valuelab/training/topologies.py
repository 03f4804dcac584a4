"""Devices that are only described: XLA compiles for them on a machine without them.

Every use of interfaces that JAX may change is in this file: `jax.experimental.topologies`, the plugin of
NVIDIA (`jax_plugins.xla_cuda12`), and the text that describes a GPU to XLA.

libtpu and NVIDIA's plugin do not belong in an environment where programs run on a CPU: with them installed,
JAX looks for their devices at each start, and prints what it does not find. `make compilers`
installs them in a folder apart, `FOLDER`, which this file adds to the path.
"""

import contextlib
import functools
import importlib.metadata
import os
import pathlib
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from valuelab import errors
from valuelab.errors import InputError, MissingExtraError

FOLDER = pathlib.Path(sys.prefix) / "ahead_of_time"
"""The folder of libtpu and NVIDIA's plugin, in the virtual environment."""


class Accelerator(NamedTuple):
    """A kind of device; figures of its maker, for one device (one chip).

    Attributes:
        platform: "tpu" or "gpu".
        memory: bytes.
        flop_per_second: peak of float32 matrix products in JAX's default precision.
        memory_bandwidth: bytes per second.
        interconnect_bandwidth: bytes per second that a device sends to others of its slice or machine.
        slices: the usual slices, such as "2x4"; numbers of devices for GPUs.
    """

    platform: str
    memory: int
    flop_per_second: float
    memory_bandwidth: float
    interconnect_bandwidth: float
    slices: tuple[str, ...]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")

ACCELERATORS = {
    # docs.cloud.google.com/tpu/docs/v5e, v5p and v6e. On a TPU a float32 product of default precision is one
    # product of bfloat16, so the peak of bfloat16 counts. Interconnect: half of the bidirectional figure.
    "v5e": Accelerator("tpu", 16 << 30, 197e12, 819e9, 200e9, _FLAT),
    "v5p": Accelerator("tpu", 95 << 30, 459e12, 2765e9, 600e9, ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4")),
    "v6e": Accelerator("tpu", 32 << 30, 918e12, 1640e9, 400e9, _FLAT),
    # NVIDIA's data sheet of the H200 SXM: 141 GB, 4.8 TB/s, NVLink 900 GB/s in both directions together. XLA
    # rounds float32 products of default precision to TF32: 989 TFLOP/s with sparsity, half of it without.
    "h200": Accelerator("gpu", 141 * 10**9, 494e12, 4.8e12, 450e9, ("1", "2", "4", "8")),
}
"""The devices that can be described, by name."""

_GPU = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 4814000000000 l2_cache_size: 62914560 clock_rate_ghz: 1.98
  device_memory_size: 150000000000 cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 patch: 0 } device_description_str: "NVIDIA H200"
"""
"""An H200 as XLA's GpuTargetConfigProto, in text form."""


class Topology(NamedTuple):
    """A number of connected devices that are only described.

    Attributes:
        name: as the user writes it, such as "v5e:2x4" or "h200:8".
        accelerator: the kind of the devices.
        devices: the devices, in the order of `jax.devices()` on such machines. They compile and do not run.
    """

    name: str
    accelerator: Accelerator
    devices: Sequence[jax.Device]


def names() -> list[str]:
    """The names of the usual topologies; one H200 is "h200"."""
    named = [f"{kind}:{part}" for kind, each in ACCELERATORS.items() for part in each.slices]
    return ["h200" if name == "h200:1" else name for name in named]


def _of_kind(kind: str) -> str:
    """The usual topologies of one kind of device."""
    return ", ".join(name for name in names() if name.partition(":")[0] == kind)


def describe(name: str) -> Topology:
    """Describes the devices of a topology. JAX uses only CPUs in this process from then on.

    Args:
        name: KIND:SHAPE of TPUs, such as "v5e:2x4"; KIND or KIND:NUMBER of GPUs, such as "h200:8".

    Raises:
        InputError: for an unknown topology, or when the installed packages cannot describe it.
        MissingExtraError: when libtpu or NVIDIA's plugin is missing; it holds the command that installs it.
    """
    kind, _, shape = name.partition(":")
    accelerator = ACCELERATORS.get(kind)
    if accelerator is None:
        raise errors.unknown("topology", name, names())
    axes = accelerator.slices[0].count("x") + 1  # libtpu also describes slices with another number of them
    form = r"[1-8]?" if accelerator.platform == "gpu" else "x".join([r"[1-9]\d*"] * axes)
    if not re.fullmatch(form, shape):
        raise InputError(f"topology {name!r} cannot be described: give one of {_of_kind(kind)}")
    # Without this JAX looks for a TPU and for CUDA drivers.
    jax.config.update("jax_platforms", "cpu")
    if FOLDER.is_dir() and str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    devices = _tpus(name) if accelerator.platform == "tpu" else _gpus(int(shape or 1))
    return Topology(name=name, accelerator=accelerator, devices=devices)


def versions(topology: Topology) -> dict[str, str]:
    """The version of the compiler for a topology."""
    package = "libtpu" if topology.accelerator.platform == "tpu" else "jax-cuda12-pjrt"
    return {package: importlib.metadata.version(package)}


def _tpus(name: str) -> Sequence[jax.Device]:
    """The compile-only devices of a slice of TPUs."""
    try:
        import libtpu  # noqa: F401
    except ModuleNotFoundError as error:
        raise _missing("libtpu", _libtpu()) from error
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu asks Google's metadata server for a minute
    # A TPU serves one process at a time, and libtpu locks a file for that. Any number may compile.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    kind, _, shape = name.partition(":")
    # By default libtpu describes hosts of 2 x 2 chips: a single chip needs a host of one chip.
    host = {"chips_per_host_bounds": (1, 1, 1)} if set(shape.split("x")) == {"1"} else {}
    with _moved("libtpu"):
        from jax.experimental import topologies

        try:
            return topologies.get_topology_desc(name, platform="tpu", **host).devices
        except jax.errors.JaxRuntimeError as error:
            raise InputError(
                f"topology {name!r} is refused by libtpu ({errors.words(error)}): "
                f"give one of {_of_kind(kind)}"
            ) from error


def _gpus(count: int) -> Sequence[jax.Device]:
    """The compile-only devices of a machine with H200s."""
    try:
        import jax_plugins.xla_cuda12 as plugin
    except ModuleNotFoundError as error:
        requirements = (f"jax-cuda12-{part}=={jax.__version__}" for part in ("plugin", "pjrt"))
        raise _missing("NVIDIA's plugin for JAX", *requirements) from error
    with _moved("jax-cuda12-plugin"):
        from jax.experimental import topologies

        def describe() -> Sequence[jax.Device]:
            # topology: parts x hosts x devices of a host.
            return topologies.get_topology_desc(
                "NVIDIA H200", platform="cuda", topology=f"1x1x{count}", target_config=_GPU
            ).devices

        try:
            devices = describe()
        except NotImplementedError:  # JAX had looked for plugins before FOLDER was on the path
            plugin.initialize()
            devices = describe()
        _register_eigh()
        return devices


@functools.cache
def _register_eigh() -> None:
    """Lets XLA compile calls of cuSOLVER's eigenvalue solver, whose libraries need a GPU's driver.

    XLA only asks whether a function is registered under this name. LAPACK's function stands in for it and is
    never called.
    """
    from jaxlib import lapack

    handlers = {name: handler for name, handler, _ in lapack.registrations()["cpu"]}
    jax.ffi.register_ffi_target("cusolver_syevd_ffi", handlers["lapack_ssyevd_ffi"], platform="CUDA")


def _libtpu() -> str:
    """The requirement of libtpu that the installed JAX names."""
    for requirement in importlib.metadata.requires("jax") or ():
        if requirement.startswith("libtpu"):
            return requirement.partition(";")[0].strip()
    return "libtpu"


def _missing(what: str, *requirements: str) -> MissingExtraError:
    """The error for a missing package, with the command that installs it."""
    command = shlex.join(["pip", "install", "--no-deps", f"--target={FOLDER}", *requirements])
    return MissingExtraError(f"{what} is not installed: run make compilers, or {command}")


@contextlib.contextmanager
def _moved(package: str) -> Iterator[None]:
    """Turns the errors of interfaces that have changed into one line."""
    try:
        yield
    except (ImportError, AttributeError, TypeError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        found = f"{package} {importlib.metadata.version(package)}"
        raise InputError(
            f"{found} cannot describe devices to JAX {jax.__version__} ({errors.describe(error)}): install "
            f"the versions of requirements.lock in {FOLDER}, or adapt valuelab/training/topologies.py"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what libtpu and NVIDIA's plugin write to standard error about devices that are not here.

    It is written where an error ends the block.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
