"""Files that are whole whenever the program dies and follow no link, and JSON that every reader takes."""

import contextlib
import json
import math
import os
import pathlib
import secrets
from collections.abc import Iterator, Mapping
from typing import IO, Any


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


def to_json(value: Any, indent: int | None = None) -> str:
    """Nested values as JSON: arrays as lists, and null for what is not finite, which JSON has not."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
