"""Arrays out of files that may lie: nothing is unpickled, followed out of the file, or larger than memory."""

import contextlib
import math
import pathlib
import sys
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from valuelab.errors import InputError, require

_LARGE = 1 << 26
"""Bytes from which an array is compared with the memory there is."""


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an NPZ file by key, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, path: pathlib.Path):
        """Of an open archive; see `open_npz`."""
        self._archive, self._path = archive, path
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy")
            if key in self._members:
                raise InputError(f"{path}: {_told(key)} is in it twice: fetch or make it again")
            if key != info.filename:
                self._members[key] = info

    def __getitem__(self, key: str) -> np.ndarray:
        """The array, whose size was compared with that of its member and with the memory first."""
        info = self._members[key]
        with self._archive.open(info) as member:
            shape, dtype = _header(member)
            stated, there = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
            if stated != there and not dtype.hasobject:
                raise InputError(
                    f"{self._path}: {key} states {stated:,} bytes of {dtype} and holds {there:,}: "
                    "delete it, and fetch or make it again"
                )
            check_size(self._path, key, info.file_size)
            member.seek(0)
            return np.lib.format.read_array(member, allow_pickle=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextlib.contextmanager
def open_npz(path: pathlib.Path) -> Iterator[Npz]:
    """Opens an NPZ file.

    Args:
        path: the file.

    Yields:
        Its arrays. One is refused by an InputError when it is read: where it takes more memory than there is,
        or states another size than it has.

    Raises:
        OSError, zipfile.BadZipFile, zlib.error, ValueError: when it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        yield Npz(archive, path)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype that an NPY file states; leaves the file where its numbers begin."""
    if np.lib.format.read_magic(member) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    return shape, dtype


def check_hdf5(file: Any, path: pathlib.Path) -> dict[str, Any]:
    """Refuses an HDF5 file that takes its numbers from elsewhere.

    Args:
        file: an open h5py.File.
        path: the file, for messages.

    Returns:
        Name to h5py.h5d.DatasetID of all its datasets, for `check_written`.

    Raises:
        InputError: for a link to another file, external storage or a virtual dataset; it is named.
    """
    h5py = require("h5py", "data")
    links: list[tuple[bytes, int]] = []

    def visit(name: bytes, link: Any) -> None:
        links.append((name, link.type))

    def elsewhere(name: bytes, what: str) -> InputError:
        return InputError(f"{path}: {_told(name)} {what}: store its numbers in this file itself")

    file.id.links.visit(visit, info=True)
    datasets = {}
    for name, kind in links:
        if kind == h5py.h5l.TYPE_SOFT:  # another name for what has one in this file
            continue
        if kind != h5py.h5l.TYPE_HARD:
            raise elsewhere(name, "is a link to another file")
        found = h5py.h5o.open(file.id, name)
        if isinstance(found, h5py.h5d.DatasetID):
            layout = found.get_create_plist()
            if layout.get_external_count():
                raise elsewhere(name, "has its numbers in another file")
            if layout.get_layout() == h5py.h5d.VIRTUAL:
                raise elsewhere(name, "is a virtual dataset, made of others")
            datasets[_told(name)] = found
    return datasets


def check_written(path: pathlib.Path, name: str, dataset: Any) -> None:
    """Refuses a dataset of an HDF5 file that states more numbers than were ever written, or than fit.

    Args:
        path: the file, for messages.
        name: of the dataset.
        dataset: its h5py.h5d.DatasetID.

    Raises:
        InputError: when it does.
    """
    h5py = require("h5py", "data")
    size = dataset.get_space().get_simple_extent_npoints() * dataset.dtype.itemsize
    layout = dataset.get_create_plist()
    if layout.get_layout() == h5py.h5d.CHUNKED:
        pairs = zip(dataset.shape, layout.get_chunk(), strict=True)
        whole = dataset.get_num_chunks() == math.prod(-(-length // chunk) for length, chunk in pairs)
    else:
        whole = dataset.get_storage_size() >= size
    if size and not whole:
        raise InputError(
            f"{path}: {name} states {size:,} bytes that were never all written: fetch or make it again"
        )
    check_size(path, name, size)


def _told(name: bytes | str) -> str:
    """A name in a file as messages have it."""
    text = name if isinstance(name, str) else name.decode(errors="replace")
    return text if text.isprintable() else repr(text)


def cast(key: str, array: np.ndarray, dtype: Any, path: pathlib.Path | str, first_row: int = 0) -> np.ndarray:
    """Converts an array, if what it holds stays what it was but for the rounding of float32.

    Args:
        key: the array's key.
        array: of numbers, rows leading.
        dtype: wanted; what has it already is returned as it is.
        path: the file, for messages.
        first_row: the row of the file that the array begins with.

    Returns:
        The array in that dtype.

    Raises:
        InputError: with the first row that would become another number, such as 300 in uint8, 0.5 in int32 or
            bool, and what is too large for float32.
    """
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: {key} is {array.dtype} where real numbers are expected; is it of this source?"
        )
    with np.errstate(all="ignore"):  # what does not fit is told below
        converted = array.astype(dtype)
        kept = np.isfinite(converted) if converted.dtype.kind == "f" else converted == array
        if converted.dtype.kind == "f" and not kept.all():  # what was not finite before is not for this check
            kept |= ~np.isfinite(array)
    if not kept.all():
        row, *place = np.unravel_index(np.argmin(kept), array.shape)
        wanted = "0 or 1" if converted.dtype == bool else f"a number that {converted.dtype} holds"
        raise InputError(
            f"{path}: {key} is {array[row, *place]} at row {first_row + row}, where {wanted} is expected; "
            "repair that episode, or fetch or make the file again"
        )
    return converted


def check_size(path: pathlib.Path, what: str, size: int) -> None:
    """Refuses what takes more memory than there is.

    Args:
        path: the file that states it.
        what: of the file.
        size: in bytes.

    Raises:
        InputError: when it does.
    """
    if size > _LARGE and size > (available := available_memory()):
        raise InputError(
            f"{path}: {what} takes {size:,} bytes and {available:,} bytes of memory are free: "
            "free some, or use a machine with more"
        )


def available_memory(source: pathlib.Path = pathlib.Path("/proc/meminfo")) -> int:
    """Bytes that new arrays and programs can have; plenty where the system does not say."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return sys.maxsize
    return next(
        (int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), sys.maxsize
    )
