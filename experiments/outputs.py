"""The folder that a launcher fills: it belongs to one result, and tells what that came from."""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax

from valuelab import configuration
from valuelab.errors import InputError

PACKAGES = ("valuelab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")


def prepare_folder(config: Any) -> pathlib.Path:
    """Makes the folder of a run, or checks that the one there belongs to the same run.

    Args:
        config: the settings of the run, with a field `workdir`.

    Returns:
        The folder.

    Raises:
        InputError: when no folder is named, or it cannot be made or holds a run with other settings.
    """
    if not config.workdir:
        raise InputError("no workdir is given; write --workdir=FOLDER for everything that the run leaves")
    workdir = pathlib.Path(config.workdir).expanduser()
    path = workdir / "config.json"
    if path.exists():
        try:
            saved = json.loads(path.read_text())["settings"]
        except (ValueError, KeyError) as error:
            raise InputError(f"{path} is no config of valuelab ({error}): give another --workdir") from error
        if changes := configuration.difference(saved, config):
            listed = "; ".join(f"{name} was {old!r}, is {new!r}" for name, old, new in changes)
            raise InputError(f"{path} is of another run ({listed}): give another --workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no folder {workdir} can be made ({error}): give another --workdir") from error
    return workdir


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | packages


def device() -> str:
    """The devices of the run in words, such as "4 x TPU v5 lite" or "1 x cpu (2 cores)"."""
    cores = f" ({os.cpu_count()} cores)" if jax.default_backend() == "cpu" else ""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}{cores}"
