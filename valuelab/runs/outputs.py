"""The folder that a launcher fills: it belongs to one result, and tells what that came from."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import rich.console

from valuelab import configuration, errors, files
from valuelab.errors import InputError
from valuelab.files import local_path

PACKAGES = ("valuelab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")

_ROW, _BREAK = re.compile(r'\[\n\s*([^][{}"]*?)\n\s*\]'), re.compile(r"\n\s*")
"""In indented JSON, whose strings have no line breaks: a list of nothing but numbers, and its breaks."""

NO_WORKDIR = "no workdir is given; write --workdir=FOLDER for everything that the run leaves"
UNDRAWN = "undrawn.txt"
"""In a workdir: which pictures of a result are still to be drawn; gone once they are."""


@contextlib.contextmanager
def prepare_folder(config: Any, is_first_host: bool = True) -> Iterator[pathlib.Path]:
    """Makes the folder of a run, or checks that the one there belongs to the same run; locks it.

    Args:
        config: the settings of the run, with a field `workdir`.
        is_first_host: of those that share the folder in one run; the others hold no lock.

    Yields:
        The folder, which no other process fills until the block ends.

    Raises:
        InputError: when no folder is named, it cannot be made or written, another process fills it, or it
            holds a run with other settings.
    """
    if not config.workdir:
        raise InputError(NO_WORKDIR)
    with contextlib.ExitStack() as stack:
        workdir = make_folder(config.workdir)
        if is_first_host:
            stack.enter_context(locked(workdir))
        _check_config(workdir / "config.json", config)
        yield workdir


def locked(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes from filling a workdir, as `files.locked` does."""
    return files.locked(workdir, "give another --workdir")


def _check_config(path: pathlib.Path, config: Any) -> None:
    """Raises InputError where there is a config.json of another run."""
    if not path.exists():
        return
    saved = files.read_json(path, "config of valuelab", "give another --workdir", settings=dict)
    if changes := configuration.difference(saved["settings"], config):
        listed = "; ".join(f"{name} was {old!r}, is {new!r}" for name, old, new in changes)
        raise InputError(f"{path} is of another run ({listed}): give another --workdir")


def make_folder(workdir: str | pathlib.Path, flag: str = "workdir") -> pathlib.Path:
    """Makes a folder where there is none, and tries whether it takes files.

    Args:
        workdir: its path, which may begin with ~.
        flag: that names it.

    Returns:
        The folder.

    Raises:
        InputError: when it cannot be made or written.
    """
    folder = local_path(flag, workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no folder {folder} can be made ({error}): give another --{flag}") from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}): give another --{flag}") from error
    return folder


def check_folder(folder: pathlib.Path, advice: str) -> None:
    """Looks whether a folder that is to be read is there.

    Args:
        folder: its path.
        advice: what to do where it is not.

    Raises:
        InputError: when it is not.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: {advice}")


def prepare_file(flag: str, path: str) -> pathlib.Path | None:
    """The file that a flag names, whose folder is made and tried, before what goes into it takes time.

    Args:
        flag: that names it.
        path: of the file; empty for none.

    Raises:
        InputError: when it cannot be written.
    """
    if not path:
        return None
    file = local_path(flag, path)
    files.check_regular(file)
    if file.is_dir():
        raise InputError(f"{flag} is {path}, which is a folder: give a file")
    return make_folder(file.parent, flag) / file.name


def finished(workdir: pathlib.Path, verb: str, pictures: Collection[str] = ()) -> dict[str, Any] | None:
    """What result.json of a folder holds, if all is done, after saying so.

    It is not where pictures are missing that can be drawn: then it says that they are, and the program goes
    on to `finish`.

    Args:
        workdir: the folder of a run.
        verb: what another folder is for, such as "train".
        pictures: names of files that are asked for.
    """
    path, undrawn = workdir / "result.json", workdir / UNDRAWN
    if not path.exists():
        return None
    missing = [name for name in pictures if not (workdir / name).exists()]
    if missing or (undrawn.exists() and not lacking_plots()):
        print(f"{workdir} is done but for {', '.join(missing) or 'pictures'}, which follow now")
        return None
    print(f"{workdir} is done already; give another --workdir to {verb} again")
    return files.read_json(path, "result of valuelab", f"move it away, and {verb} again")


def lacking_plots() -> str:
    """Why nothing can be drawn here; empty where it can."""
    try:
        errors.require("matplotlib.figure", "plots")
    except InputError as error:
        return str(error)
    return ""


def finish(
    workdir: pathlib.Path, result: Mapping[str, Any], pictures: Mapping[str, Callable[[], Any]]
) -> None:
    """Writes result.json, and only then draws, so that no picture costs a result.

    A result that is there already stays as it is, and so do its pictures but those that are missing. What
    cannot be drawn the same command tries again.

    Args:
        workdir: the folder of a run.
        result: what was found.
        pictures: names of files, to what draws them.
    """
    path, undrawn = workdir / "result.json", workdir / UNDRAWN
    if path.exists():
        named = undrawn.read_text().splitlines() if undrawn.exists() else []
        pictures = {
            name: make for name, make in pictures.items() if name in named or not (workdir / name).exists()
        }
    if pictures:  # at first, so that a program that dies while it draws leaves word of it
        files.replace_file(undrawn, "\n".join(pictures) + "\n")
    if not path.exists():
        write_json(path, result)
    if failed := draw(pictures):
        files.replace_file(undrawn, "\n".join(failed) + "\n")
        print("mend that, and the same command draws what is missing")
    else:
        undrawn.unlink(missing_ok=True)


def draw(pictures: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Draws pictures; of one that cannot be drawn a line says why, and the others are drawn all the same.

    Args:
        pictures: names of files, to what draws them.

    Returns:
        The names of those that were not drawn.
    """
    failed = []
    for name, make in pictures.items():
        try:
            make()
        except Exception as error:  # whatever it is, it concerns the picture alone
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            print(f"warning: {name} was not drawn: {kind}{' '.join(str(error).split())}")
            failed.append(name)
    return failed


def show(table: Any) -> None:
    """Prints a table of rich's, whose words stand as they are: brackets in them are no markup."""
    rich.console.Console(markup=False).print(table)


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
    text = files.to_json(value, indent=2)
    rows = _ROW.sub(lambda row: f"[{_BREAK.sub(' ', row[1])}]", text)
    files.replace_file(path, rows + "\n")
