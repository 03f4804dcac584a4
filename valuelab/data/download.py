"""Fetching published files: resumed where they broke off, checked, and put in place in one step."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from valuelab.errors import InputError

TIMEOUT = 5.0
"""Seconds without an answer after which a server counts as out of reach."""
ATTEMPTS = 3
"""How often a transfer that breaks off is resumed before giving up."""
_CHUNK = 1 << 20


def fetch(url: str, path: Path, check: Callable[[Path], object], otherwise: str) -> None:
    """Downloads a file; nothing stands at `path` before all of it is there and checked.

    What has arrived is kept as `path`.part and resumed by the next attempt, or the next call.

    Args:
        url: where the file is published.
        path: where to put it.
        check: opens a file as its format; whatever it raises refuses the file.
        otherwise: what the user can do where the file cannot be had, for the message.

    Raises:
        InputError: when the server cannot be reached, has no such file, breaks off again and again, or
            sends something that is not of the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for _ in range(ATTEMPTS):
        try:
            received, total = _receive(url, part)
        except OSError as error:
            raise InputError(f"no {path}, and {url} cannot be fetched ({error}): {otherwise}") from error
        if received == total:
            break
    else:
        raise InputError(
            f"{url} broke off after {received} of {total} bytes, kept as {part}: run again to resume, "
            f"or {otherwise}"
        )
    try:
        check(part)
    except Exception as error:  # whatever a reader raises about a broken file
        part.unlink()
        raise InputError(
            f"{url} sent {total} bytes that cannot be read as {path.name} ({error}): {otherwise}"
        ) from error
    os.replace(part, path)


def _receive(url: str, part: Path) -> tuple[int, int]:
    """Asks once for what `part` lacks; returns the bytes now there and the bytes the whole file has."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        total = int(error.headers.get("Content-Range", "*/-1").rpartition("/")[2])
        if start != total:  # more than the file has: not a piece of it
            part.unlink()
        return start, total
    with response, part.open("ab" if response.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as file:
        received = file.tell()
        length = response.headers.get("Content-Length")
        total = received + int(length) if length else -1
        with _progress() as progress:
            task = progress.add_task(part.stem, total=total if length else None, completed=received)
            try:
                while chunk := response.read(_CHUNK):
                    received += file.write(chunk)
                    progress.update(task, completed=received)
            except (OSError, http.client.HTTPException):
                return received, total  # broke off: the caller resumes
    return received, total if length else received


def _progress() -> Progress:
    """A progress bar on standard error, gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
