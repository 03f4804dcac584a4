"""Downloads published files: resumable, checked, and moved into place in one step."""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO

from absl import logging
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from valuelab import files
from valuelab.errors import InputError

TIMEOUT = 5.0
"""Seconds without an answer after which a server counts as unreachable."""
ATTEMPTS = 3
"""The number of attempts to receive the rest of a file."""
_CHUNK = 1 << 20


def fetch(
    url: str, path: Path, check: Callable[[Path], object], otherwise: str, sha256: Collection[str] = ()
) -> None:
    """Downloads a file. `path` exists only once the whole file has arrived and passed its checks.

    The received part is kept as `path`.part; the next attempt or call resumes it. Where several processes
    need the same file, one downloads it and the others wait. `path`.sha256 keeps the SHA-256 digest of the
    file; a later download must have the same digest.

    Args:
        url: where the file is published.
        path: where to put it.
        check: opens the file in its format; an exception refuses the file.
        otherwise: what the user can do instead of the download, for the message.
        sha256: the digests that the file may have, where they are published; by default the digest of the
            previous download.

    Raises:
        InputError: when the server cannot be reached, has no such file, or fails in every attempt; when the
            file has another format or digest, or cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(part) as file:
            if path.exists():  # another process has downloaded it in the meantime
                part.unlink()
                return
            total = _receive_all(url, file, part, path, otherwise)
            digest = _checked(url, part, path, check, otherwise, total)
            _compare(url, part, path, digest, sha256, otherwise)
            files.replace_file(_digest_file(path), f"{digest}  {path.name}\n")
            os.replace(part, path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error}): free some disk or give another --data_dir, and run the "
            f"same command again to resume; or {otherwise}"
        ) from error


def check_reachable(url: str) -> None:
    """Checks that a server answers, with one request: clients of others try for half a minute.

    Args:
        url: any address of the server.

    Raises:
        OSError: when it does not answer within TIMEOUT.
    """
    with contextlib.suppress(urllib.error.HTTPError):  # an answer, too
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT).close()


@contextlib.contextmanager
def _claimed(part: Path) -> Iterator[IO[bytes]]:
    """Opens the partial file for one process at a time; a link in its place is not followed."""
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.warning("waiting for another process that downloads %s", part.stem)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # no locks on this file system: the checks below catch two writers
                pass
            if files.is_at(part, descriptor):
                yield file
                return
        # The previous holder of the lock has moved or removed this file: open it anew.


def _receive_all(url: str, file: IO[bytes], part: Path, path: Path, otherwise: str) -> int:
    """Receives the rest of the partial file in several attempts; returns the size of the whole file."""
    for _ in range(ATTEMPTS):
        try:
            received, total = _receive(url, file, part)
        except (_Unreachable, http.client.HTTPException) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path} does not exist, and {url} cannot be downloaded ({reason}): {otherwise}"
            ) from error
        if received == total == os.fstat(file.fileno()).st_size:
            return total
    raise InputError(
        f"{url} broke off after {received} of {'unknown' if total < 0 else total} bytes, kept as {part}: run "
        f"the same command again to resume, or {otherwise}"
    )


class _Unreachable(Exception):
    """A server does not answer, or answers with an error."""


def _receive(url: str, file: IO[bytes], part: Path) -> tuple[int, int]:
    """Requests the rest once; returns the bytes received and the size of the whole file, -1 if unknown."""
    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _Unreachable(error) from error
        stated = error.headers.get("Content-Range", "").rpartition("/")[2]
        if not stated.isdecimal() or start != int(stated):  # longer than the published file: not a part of it
            file.truncate(0)
        return start, int(stated) if stated.isdecimal() else -1
    except OSError as error:
        raise _Unreachable(getattr(error, "reason", error)) from error
    with response:
        partial = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if not partial:
            file.truncate(0)
            start = 0
        stated = response.headers.get("Content-Range" if partial else "Content-Length", "")
        whole = re.fullmatch(rf"bytes {start}-\d+/(\d+)" if partial else r"(\d+)", stated)
        if partial and not whole:  # not the requested range
            file.truncate(0)
            return 0, -1
        total = int(whole[1]) if whole else -1
        if total - start > (room := shutil.disk_usage(part.parent).free):
            raise OSError(
                errno.ENOSPC, f"{total - start} bytes are missing and the disk has {room} bytes left"
            )
        file.seek(start)
        received = start
        with _progress() as progress:
            task = progress.add_task(part.stem, total=total if whole else None, completed=received)
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except (OSError, http.client.HTTPException):
                    return received, total  # the connection broke: the caller resumes
                if not chunk:
                    break
                received += file.write(chunk)
                progress.update(task, completed=received)
        file.flush()
    return received, total if whole else received


def _checked(
    url: str, part: Path, path: Path, check: Callable[[Path], object], otherwise: str, total: int
) -> str:
    """The SHA-256 digest of a file that passes its check; other files are removed."""
    try:
        check(part)
    except Exception as error:  # readers of broken files raise many kinds of exceptions
        part.unlink()
        raise InputError(
            f"{url} sent {total} bytes that cannot be read as {path.name} ({' '.join(str(error).split())}): "
            f"{otherwise}"
        ) from error
    with part.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(
    url: str, part: Path, path: Path, digest: str, published: Collection[str], otherwise: str
) -> None:
    """Removes and refuses a file whose digest is not a published one or, without these, the previous one."""
    known, origin, advice = published, "is published", ""
    if not known and (record := _digest_file(path)).exists():
        known, origin = record.read_text().split()[:1], f"is in {record}"
        advice = f"delete {record.name} if the publisher has changed the file, or "
    if known and digest not in known:
        part.unlink()
        raise InputError(
            f"{url} sent a file with SHA-256 {digest}, but {' or '.join(known)} {origin}: {advice}{otherwise}"
        )


def _digest_file(path: Path) -> Path:
    """The file with the SHA-256 digest of a file, in the format of `sha256sum -c`."""
    return path.with_name(path.name + ".sha256")


def _progress() -> Progress:
    """A progress bar on standard error, removed at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
