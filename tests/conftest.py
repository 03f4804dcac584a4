"""Every test runs on eight virtual CPU devices and refuses implicit rank promotion."""

import os
import pathlib
import tempfile

# Most of a test's time is compilation: programs that run for milliseconds are not worth optimising. Of XLA's
# two ways to emit fusions the older compiles in less than half of the time, and one module of LLVM's in less
# than many.
XLA_FLAGS = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"

# And what one test has compiled serves the others, and the processes that they start.
COMPILED = tempfile.TemporaryDirectory(prefix="valuelab-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", COMPILED.name)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# How long an example takes says nothing where the machine is shared, or the first one compiles.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

SHARED_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_file():
    """Compiled programs go with the file that they served: a process that keeps all runs out of memory maps.

    The kernel allows 65,530, a program takes dozens, and beyond them XLA ends with a segmentation fault.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def shared_data() -> pathlib.Path:
    """The folder of real OGBench data beside the checkout; CI has it, users need not."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Small data where the launcher looks for pointmaze-medium-navigate."""
    from helpers import write_maze_data  # which imports JAX and the launcher: only where it is used

    folder = tmp_path_factory.mktemp("data")
    write_maze_data(folder)
    return folder
