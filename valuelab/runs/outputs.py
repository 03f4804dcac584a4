"""The folder of a run: checks that it belongs to the run, locks it, and writes its results and pictures."""

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import tempfile
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import rich.console

from valuelab import __version__, configuration, errors, files
from valuelab.errors import InputError
from valuelab.evaluation import figures
from valuelab.files import local_path

BEFORE_TRAINING = {"config.json", "log.txt", files.LOCK}
"""Names of the files that a run has before its first update; log.txt only as a job of a suite."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")

_ROW, _BREAK = re.compile(r'\[\n\s*([^][{}"]*?)\n\s*\]'), re.compile(r"\n\s*")
"""In indented JSON, whose strings have no line breaks: a list of numbers, and the line breaks inside it."""

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
"""The folder that holds the package: a git checkout, or the site-packages of an installation."""

NO_WORKDIR = "no workdir is given: write --workdir=FOLDER, where the run saves its files"
MAX_LISTED = 6
"""The largest number of settings that a message lists."""
UNDRAWN = "undrawn.txt"
"""The file in a workdir that lists the pictures that are not drawn yet; removed when all are drawn."""


class UserFile(NamedTuple):
    """A Python file of the user that a run depends on.

    Attributes:
        path: as it was given.
        sha256: of its content.
    """

    path: str
    sha256: str


def user_files(paths: Mapping[str, str]) -> dict[str, UserFile]:
    """The Python files of the user that a run depends on, by setting; without those that do not exist."""
    return {
        name: UserFile(path, hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest())
        for name, path in paths.items()
        if path and pathlib.Path(path).is_file()
    }


@contextlib.contextmanager
def prepare_folder(
    config: Any, user_files: Mapping[str, UserFile] = types.MappingProxyType({}), is_first_host: bool = True
) -> Iterator[pathlib.Path]:
    """Makes and locks the folder of a run; an existing folder must belong to the same run.

    A run that failed before its first results, such as by a fault in its agent file, leaves its folder free.

    Args:
        config: the settings of the run, with a field `workdir`.
        user_files: the Python files of the user that the run depends on, by setting.
        is_first_host: only the first of several hosts that share the folder holds the lock.

    Yields:
        The folder; no other process writes there until the block ends.

    Raises:
        InputError: when no folder is given, it cannot be made or written, another process uses it, it holds a
            run with other settings, or one of the user's files has changed since the run began.
    """
    if not config.workdir:
        raise InputError(NO_WORKDIR)
    with contextlib.ExitStack() as stack:
        workdir = make_folder(config.workdir)
        if is_first_host:
            stack.enter_context(locked(workdir))
        try:
            _check_config(workdir, config, user_files)
        except InputError:
            if not (is_first_host and _has_no_results(workdir)):
                raise
            (workdir / "config.json").unlink()
        yield workdir


def _has_no_results(workdir: pathlib.Path) -> bool:
    """Whether a folder holds nothing but the files that a run of valuelab has before its first update."""
    names = {path.name for path in workdir.rglob("*") if not path.is_dir()}
    return names <= BEFORE_TRAINING and "valuelab" in read_config(workdir).get("versions", {})


def locked(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Locks a workdir against other processes, as `files.locked` does."""
    return files.locked(workdir, "give another --workdir")


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of config.json; without this file, empty settings."""
    path = workdir / "config.json"
    if not path.exists():
        return {"settings": {}}
    return files.read_json(path, "config of valuelab", "give another --workdir", settings=dict)


def _check_config(workdir: pathlib.Path, config: Any, user_files: Mapping[str, UserFile]) -> None:
    """Raises InputError if there is a config.json of a run with other settings or other files of the user."""
    path = workdir / "config.json"
    if not path.exists():
        return
    saved = read_config(workdir)
    if saved["settings"].get("smoke", False) != getattr(config, "smoke", False):
        owner = "a smoke run" if saved["settings"].get("smoke") else "a run without --smoke"
        raise InputError(f"{path} belongs to {owner}: give another --workdir, or remove {path.parent}")
    if changes := configuration.difference(saved["settings"], config):
        if changes == configuration.shrinkage(saved["settings"], config):
            listed = " and ".join(f"{name} was {old} and is {new}" for name, old, new in changes)
            raise InputError(
                f"{path} belongs to a longer run ({listed}): a run can be made longer but not shorter, so "
                "give a larger number, or another --workdir"
            )
        changes.sort(key=lambda change: change[0] != "agent_name")  # another agent has other settings
        listed = "; ".join(f"{name} was {old!r}, is {new!r}" for name, old, new in changes[:MAX_LISTED])
        if len(changes) > MAX_LISTED:
            listed += f"; and {len(changes) - MAX_LISTED} more"
        raise InputError(f"{path} belongs to another run ({listed}): give another --workdir")
    check_user_files(path, saved, user_files, "give another --workdir, or restore the file")


def check_user_files(
    path: pathlib.Path, saved: Mapping[str, Any], user_files: Mapping[str, UserFile], advice: str
) -> None:
    """Refuses files of the user that are not those of a saved run.

    Args:
        path: the config.json of the run.
        saved: its content.
        user_files: the files now, by setting.
        advice: what to do.

    Raises:
        InputError: when one of the files has changed.
    """
    digests = saved.get("files") or {}  # runs of older versions have none
    for name, file in user_files.items():
        if digests.get(name, file.sha256) != file.sha256:
            raise InputError(f"{file.path} has changed since the run in {path.parent} began: {advice}")


def make_folder(workdir: str | pathlib.Path, flag: str = "workdir") -> pathlib.Path:
    """Makes a folder unless it exists, and checks that files can be written there.

    Args:
        workdir: the path of the folder, which may begin with ~.
        flag: the flag that gives the path.

    Returns:
        The folder.

    Raises:
        InputError: when the folder cannot be made or written.
    """
    folder = local_path(flag, workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be made ({error}): give another --{flag}") from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}): give another --{flag}") from error
    return folder


def check_folder(folder: pathlib.Path, advice: str) -> None:
    """Checks that a folder that will be read exists.

    Args:
        folder: its path.
        advice: what the user should do if it does not exist.

    Raises:
        InputError: when the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist: {advice}")


def prepare_file(flag: str, path: str) -> pathlib.Path | None:
    """Makes the folder of an output file and checks that it can be written, before any computation.

    Args:
        flag: the flag that gives the path.
        path: the path of the file; empty for no file.

    Returns:
        The file; None for an empty path.

    Raises:
        InputError: when the file cannot be written.
    """
    if not path:
        return None
    file = local_path(flag, path)
    files.check_regular(file)
    if file.is_dir():
        raise InputError(f"{flag} is {path}, which is a folder: give the path of a file")
    return make_folder(file.parent, flag) / file.name


def finished(
    workdir: pathlib.Path, verb: str, pictures: Collection[str] = (), formats: Collection[str] = ()
) -> dict[str, Any] | None:
    """The content of result.json if the run in a folder is finished, after a line that says so; else None.

    If the result exists but pictures that can be drawn are missing, the line says so and the answer is None:
    the caller continues to `finish`.

    Args:
        workdir: the folder of a run.
        verb: the purpose of another folder, such as "train", for the message.
        pictures: names of picture files that must exist.
        formats: formats in which each picture that is there as PNG must exist.
    """
    path, undrawn = workdir / "result.json", workdir / UNDRAWN
    if not path.exists():
        return None
    missing = [name for name in pictures if not (workdir / name).exists()]
    missing += [
        other.name for drawn in sorted(workdir.glob("*.png")) for other in _other_formats(drawn, formats)
    ]
    if missing or (undrawn.exists() and not why_no_plots()):
        print(f"{workdir} is done except {', '.join(missing) or 'pictures'}, which will be drawn now")
        return None
    print(f"{workdir} is done already; give another --workdir to {verb} again")
    return files.read_json(path, "result of valuelab", f"move it away, and {verb} again")


def why_no_plots() -> str:
    """The reason why pictures cannot be drawn here; empty if they can."""
    try:
        errors.require("matplotlib.figure", "plots")
    except InputError as error:
        return str(error)
    return ""


def _other_formats(path: pathlib.Path, formats: Collection[str]) -> list[pathlib.Path]:
    """The files of a picture in other formats that do not exist; none if it is not a PNG file."""
    others = [path.with_suffix(f".{name}") for name in formats if path.suffix == ".png"]
    return [other for other in others if not other.exists()]


def finish(
    workdir: pathlib.Path,
    result: Mapping[str, Any],
    pictures: Mapping[str, Callable[[], Any]],
    formats: Sequence[str] = (),
) -> None:
    """Writes result.json and then draws the pictures, so that a picture that fails does not lose the result.

    An existing result.json stays, and then only missing pictures are drawn. The same command tries again to
    draw pictures that failed.

    Args:
        workdir: the folder of a run.
        result: the content of result.json.
        pictures: file name -> the function that draws the picture.
        formats: further formats of the pictures.
    """
    path, undrawn = workdir / "result.json", workdir / UNDRAWN
    if path.exists():
        named = undrawn.read_text().splitlines() if undrawn.exists() else []
        pictures = {
            name: make
            for name, make in pictures.items()
            if name in named or not (workdir / name).exists() or _other_formats(workdir / name, formats)
        }
    if pictures:  # written first, so that a program that dies while it draws leaves the list
        files.replace_file(undrawn, "\n".join(pictures) + "\n")
    if not path.exists():
        write_json(path, result)
    with figures.also_saved_as(formats):
        failed = draw(pictures)
    if failed:
        files.replace_file(undrawn, "\n".join(failed) + "\n")
        print("fix the cause; the same command then draws the missing pictures")
    else:
        undrawn.unlink(missing_ok=True)


def draw(pictures: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Draws pictures; prints one line for each that fails, and draws the others.

    Args:
        pictures: file name -> the function that draws the picture.

    Returns:
        The names of the pictures that failed.
    """
    failed = []
    for name, make in pictures.items():
        try:
            make()
        except Exception as error:  # any error affects only this picture
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            print(f"warning: {name} was not drawn: {kind}{' '.join(str(error).split())}")
            failed.append(name)
    return failed


def show(table: Any) -> None:
    """Prints a table of rich; brackets in its texts are not markup."""
    rich.console.Console(markup=False).print(table)


def provenance() -> dict[str, Any]:
    """The "versions", the "device" and, in a git checkout, the "commit" of config.json."""
    return code() | {"device": device()}


def code() -> dict[str, Any]:
    """The "versions" and, in a git checkout, the "commit", for programs that do without JAX."""
    facts: dict[str, Any] = {"versions": versions()}
    if now := commit():
        facts["commit"] = now
    return facts


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect a result."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    own = {"python": platform.python_version(), "valuelab": __version__}  # which need not be installed
    return own | packages


def commit(checkout: pathlib.Path = CHECKOUT) -> str:
    """The git commit of the code, with "-dirty" at its end if tracked files differ from it.

    It is empty outside a git checkout, and where git is missing or fails.

    Args:
        checkout: the folder that holds the package.
    """
    if not (checkout / ".git").exists():
        return ""
    line = ["git", "--no-optional-locks", "-C", str(checkout)]
    line += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()
    return ""


def device() -> str:
    """The devices of the run as text, such as "4 x TPU v5 lite" or "1 x cpu (2 cores)"."""
    import jax  # here, because programs that only start others and read their results do not need JAX

    cores = f" ({os.cpu_count()} cores)" if jax.default_backend() == "cpu" else ""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}{cores}"


def write_config(workdir: pathlib.Path, facts: Mapping[str, Any]) -> None:
    """Writes config.json, unless the run has a result: then only pictures are drawn, and it must stay."""
    if not (workdir / "result.json").exists():
        write_json(workdir / "config.json", facts)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes nested values as JSON: a row of an array on one line, null for NaN and infinity."""
    text = files.to_json(value, indent=2)
    rows = _ROW.sub(lambda row: f"[{_BREAK.sub(' ', row[1])}]", text)
    files.replace_file(path, rows + "\n")
