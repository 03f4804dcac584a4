"""Files that are whole whenever the program dies and follow no link, folders with one writer, and text."""

import contextlib
import json
import math
import os
import pathlib
import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import IO, Any

from valuelab.errors import InputError, one_line

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""In a folder that a process fills: who it is; gone when the process ends."""
MOST_BYTES, MOST_BYTES_OF_PATHS = 255, 4096
"""Of a name and of a whole path: what Linux and macOS take, and hardly any disk takes more."""
MOST_SHOWN = 60
"""Letters of a name that is too long, in the message."""


def beside(path: pathlib.Path, folder: pathlib.Path | None = None) -> pathlib.Path:
    """A name for what will become `path`, hidden, and new each time.

    Args:
        path: a file or folder.
        folder: where the name lies, on the same disk; by default that of `path`.
    """
    return (folder or path.parent) / f".{path.name}.{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def replacing(path: pathlib.Path, folder: pathlib.Path | None = None) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when the block ends, and is gone where the block fails.

    It is a new file under a name that nobody can foresee: a link that lies in the folder is never followed.

    Args:
        path: the file; a link in its place is replaced itself.
        folder: where it lies until then, on the same disk; by default that of `path`.

    Yields:
        The open file.

    Raises:
        OSError: when it cannot be written.
    """
    temporary = beside(path, folder)
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
    """Writes a text file so that it is, whenever the program dies, either the old one or the new one."""
    with replacing(path) as file:
        file.write(text.encode())


def not_a_link(path: str, flags: int) -> int:
    """The `opener` of files that are added to: opens a file, and refuses a link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def is_at(path: pathlib.Path, descriptor: int) -> bool:
    """Whether an open file still lies at a path."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(folder: pathlib.Path, otherwise: str = "") -> Iterator[None]:
    """Keeps other processes, and other threads, from filling a folder for as long as the block runs.

    The kernel holds the lock, and frees it when the process ends in whatever way.

    Args:
        folder: is there, and can be written.
        otherwise: what a second process can do instead of waiting, for its message.

    Raises:
        InputError: when another one holds it.
    """
    if fcntl is None:
        yield
        return
    path = folder / LOCK
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
            print(f"warning: {folder} takes no lock ({error}): start no second process on it")
            break
        if is_at(path, descriptor):
            break
        os.close(descriptor)  # the holder before has just removed it
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def local_path(what: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """A path that a user gives, which may begin with ~.

    Args:
        what: gives it, such as a flag's name, for messages.
        path: as it was given.

    Raises:
        InputError: for a URL, which a path would take for a folder of that name; a home that is not known; or
            a name that no disk takes.
    """
    text = os.fspath(path)
    if "://" in text:
        raise InputError(
            f"{what} is {text}; it must lie on this machine: give a path, and copy what lies there"
        )
    try:
        expanded = pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{what} is {text}, and that home is not known: write the whole path") from error
    longest = max(expanded.parts, key=_size, default="")
    if "\0" in text or _size(longest) > MOST_BYTES or _size(str(expanded)) > MOST_BYTES_OF_PATHS:
        shown = text.replace("\0", "\\0")
        shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."
        raise InputError(f"{what} is {shown}, which no disk takes for a name: give a shorter one")
    return expanded


def _size(name: str) -> int:
    """Bytes that a name takes on the disk."""
    return len(os.fsencode(name))


def check_regular(path: pathlib.Path) -> None:
    """Refuses what is there and neither a file nor a folder: a program that opens a pipe may wait for ever.

    Args:
        path: a file, a folder or nothing.

    Raises:
        InputError: for a pipe, a socket or a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is no regular file, but a pipe or a device: give a file")


def read_json(path: pathlib.Path, what: str, advice: str, **kinds: type) -> dict[str, Any]:
    """Reads a file that holds a JSON object, whoever wrote it.

    Args:
        path: the file.
        what: it should be, such as "config of valuelab", for the message.
        advice: what to do where it is not.
        kinds: entries that it must have, to the types of their values.

    Returns:
        The object.

    Raises:
        InputError: when it cannot be read, is no JSON, holds something else, or lacks an entry.
    """
    with one_line(f"{path} is no {what}", advice):
        check_regular(path)
        found = json.loads(path.read_bytes(), object_pairs_hook=_once)
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__} where an object is expected")
        for name, kind in kinds.items():
            if not isinstance(found[name], kind):
                given = type(found[name]).__name__
                raise TypeError(f"{name} is a {given} where a {kind.__name__} is expected")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, each of whose names stands once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is in it twice")
    return found


def to_text(score: float) -> str:
    """A score for the terminal, without an exponent: a whole number from 100 on, else with two decimals."""
    return f"{score:.{0 if abs(score) >= 100 else 2}f}"


def to_json(value: Any, indent: int | None = None) -> str:
    """Nested values as JSON: arrays as lists, and null for what is not finite, which JSON has not."""
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
