"""Atomic writing of files, locks of folders, checks of paths, and text for files and the terminal."""

import contextlib
import json
import math
import os
import pathlib
import re
import secrets
import select
import shutil
import socket
from collections.abc import Iterator, Mapping
from typing import IO, Any

from valuelab.errors import InputError, one_line

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file in a locked folder that names the process which holds the lock; removed with the lock."""
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4096
"""The longest file name and the longest path that Linux accepts."""
MAX_SHOWN = 60
"""The number of letters of a name that a message shows."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""The names of `temporary_path`."""


def temporary_path(path: pathlib.Path, folder: pathlib.Path | None = None) -> pathlib.Path:
    """A new, random, hidden name for a file or folder that will be renamed to `path`.

    Args:
        path: the final path.
        folder: the folder of the temporary name, on the same disk; by default the folder of `path`.
    """
    return (folder or path.parent) / f".{path.name}.{secrets.token_hex(8)}.tmp"


def remove_stale_temporaries(folder: pathlib.Path) -> None:
    """Removes the files and folders with names of `temporary_path` that a killed process left in a folder.

    Args:
        folder: a folder that the caller has locked, so that no other process writes there.
    """
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: pathlib.Path, folder: pathlib.Path | None = None) -> Iterator[IO[bytes]]:
    """Opens a new file and renames it to `path` when the block ends; removes it if the block fails.

    The new file has a random name, so that it never follows a link which somebody put into the folder.

    Args:
        path: the final path; a link at this path is replaced, not followed.
        folder: the folder of the new file, on the same disk; by default the folder of `path`.

    Yields:
        The open file.

    Raises:
        OSError: when the file cannot be written.
    """
    temporary = temporary_path(path, folder)
    with temporary.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically: if the program dies, the file has either its old or its new text."""
    with replacing(path) as file:
        file.write(text.encode())


def open_unless_link(path: str, flags: int) -> int:
    """An `opener` for files that are appended to: opens a file, and raises OSError for a link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def is_at(path: pathlib.Path, descriptor: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(folder: pathlib.Path, otherwise: str = "") -> Iterator[None]:
    """Locks a folder against other processes and threads while the block runs.

    The kernel holds the lock and releases it however the process ends. Temporary files that a killed process
    left in the folder are removed.

    Args:
        folder: an existing folder that can be written.
        otherwise: advice for the message of a second process, besides waiting.

    Raises:
        InputError: when another process or thread holds the lock.
    """
    if fcntl is None:
        yield
        return
    path, is_held = folder / LOCK, False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            hint = f", or {otherwise}" if otherwise else ""
            raise InputError(f"{folder} is in use by {holder}: wait until it ends{hint}") from None
        except OSError as error:  # some network disks have no locks
            print(f"warning: {folder} cannot be locked ({error}): do not start a second process on it")
            break
        if is_at(path, descriptor):
            is_held = True
            break
        os.close(descriptor)  # the previous holder has just removed the file: make it again
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        if is_held:
            remove_stale_temporaries(folder)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def local_path(what: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """Checks a path that a user gives and expands a leading ~.

    Args:
        what: the name of the flag or argument, for messages.
        path: the path as given.

    Raises:
        InputError: for a URL (it would become a folder of that name), an unknown home folder, or a name that
            is too long or holds a null character.
    """
    text = os.fspath(path)
    if "://" in text:
        raise InputError(
            f"{what} is {text}, but must be on this machine: give the path of a local file or folder"
        )
    try:
        expanded = pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{what} is {text}, but that home folder is unknown: write the full path") from error
    longest = max(expanded.parts, key=_size, default="")
    if "\0" in text:
        raise InputError(f"{what} is {text!r}, which contains a null character: remove it")
    if _size(longest) > MAX_NAME_BYTES or _size(str(expanded)) > MAX_PATH_BYTES:
        shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
        raise InputError(f"{what} is {shown}, which is too long for a path: give a shorter one")
    return expanded


def _size(name: str) -> int:
    """The number of bytes of a name on the disk."""
    return len(os.fsencode(name))


def check_regular(path: pathlib.Path) -> None:
    """Refuses a path that exists but is neither a file nor a folder: reading a pipe may wait forever.

    Args:
        path: a path, which need not exist.

    Raises:
        InputError: for a pipe, a socket or a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is not a regular file but a pipe or a device: give a file")


def read_json(path: pathlib.Path, what: str, advice: str, **kinds: type) -> dict[str, Any]:
    """Reads a file that must hold a JSON object and may come from anybody.

    Args:
        path: the file.
        what: the kind of file expected, such as "config of valuelab", for the message.
        advice: what the user should do if the file cannot be used.
        kinds: names of entries that the object must have, and the types of their values.

    Returns:
        The object.

    Raises:
        InputError: when the file cannot be read, is not JSON, does not hold an object, or lacks an entry.
    """
    with one_line(f"{path} cannot be read as {what}", advice):
        check_regular(path)
        content = json.loads(path.read_bytes(), object_pairs_hook=_unique)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__} where an object is expected")
        for name, kind in kinds.items():
            if not isinstance(content[name], kind):
                given = type(content[name]).__name__
                raise TypeError(f"{name} is of type {given} where {kind.__name__} is expected")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its pairs; ValueError if a name occurs twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} occurs twice")
    return content


def leave_closed_terminal() -> None:
    """Discards what is printed from now on if the terminal has closed, so that printing does not fail."""
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)  # a hang-up is reported without being asked for
        if any(event & select.POLLHUP for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def to_text(score: float) -> str:
    """A score for the terminal, without exponent: two decimals, or none where |score| is 100 or more."""
    return f"{score:.{0 if abs(score) >= 100 else 2}f}"


def to_json(value: Any, indent: int | None = None) -> str:
    """Nested values as JSON: arrays become lists, and NaN and infinity, which JSON lacks, become null."""
    return json.dumps(json_values(value), indent=indent, allow_nan=False)


def json_values(value: Any, digits: int | None = None) -> Any:
    """Nested values as JSON can hold them: arrays as lists, and None for numbers that are not finite.

    Args:
        value: numbers, texts, arrays, and lists, tuples and mappings of these.
        digits: the number of significant digits to keep; None for all.
    """
    if isinstance(value, Mapping):
        return {name: json_values(part, digits) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(part, digits) for part in value]
    if hasattr(value, "tolist"):
        return json_values(value.tolist(), digits)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")
