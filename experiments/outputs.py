"""The folder that a launcher fills: it belongs to one result, and tells what that came from."""

import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from typing import Any

from valuelab import configuration, files
from valuelab.errors import InputError

PACKAGES = ("valuelab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")

_ROW, _BREAK = re.compile(r'\[\n\s*([^][{}"]*?)\n\s*\]'), re.compile(r"\n\s*")
"""In indented JSON, whose strings have no line breaks: a list of nothing but numbers, and its breaks."""

NO_WORKDIR = "no workdir is given; write --workdir=FOLDER for everything that the run leaves"


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
        raise InputError(NO_WORKDIR)
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
    return make_folder(workdir)


def make_folder(workdir: str | pathlib.Path) -> pathlib.Path:
    """Makes a folder where there is none.

    Args:
        workdir: its path, which may begin with ~.

    Returns:
        The folder.

    Raises:
        InputError: when it cannot be made.
    """
    folder = pathlib.Path(workdir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no folder {folder} can be made ({error}): give another --workdir") from error
    return folder


def finished(workdir: pathlib.Path, verb: str) -> dict[str, Any] | None:
    """What result.json of a folder holds, if it is there, after saying so.

    Args:
        workdir: the folder of a run.
        verb: what another folder is for, such as "train".
    """
    path = workdir / "result.json"
    if not path.exists():
        return None
    print(f"{workdir} is done already; give another --workdir to {verb} again")
    return json.loads(path.read_text())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | packages


def device() -> str:
    """The devices of the run in words, such as "4 x TPU v5 lite" or "1 x cpu (2 cores)"."""
    import jax  # here alone: who starts programs and reads what they leave needs none of it

    cores = f" ({os.cpu_count()} cores)" if jax.default_backend() == "cpu" else ""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}{cores}"


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes nested values as JSON: arrays as lists, a row of numbers a line, null for what is not finite."""
    text = json.dumps(_json_safe(value), indent=2, allow_nan=False)
    rows = _ROW.sub(lambda row: f"[{_BREAK.sub(' ', row[1])}]", text)
    files.replace_file(path, rows + "\n")


def _json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json_safe(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(part) for part in value]
    if hasattr(value, "tolist"):
        return _json_safe(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
