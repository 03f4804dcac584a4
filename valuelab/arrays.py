"""Arrays from untrusted files: nothing is unpickled, read from other files, or larger than free memory."""

import contextlib
import math
import pathlib
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal

import numpy as np

from valuelab.errors import InputError, require

_LARGE = 1 << 26
"""The size in bytes above which an array is compared with the free memory."""


class Mapped(np.memmap):
    """A memory-mapped array of a file.

    Attributes:
        digest: its checksum, as `digest` computes it, where it is known; empty for parts of the array.
    """

    digest = ""


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an NPZ file by key, each read on access, or memory-mapped if it is not compressed."""

    def __init__(self, archive: zipfile.ZipFile, path: pathlib.Path, mapped: bool = False):
        """Takes an open archive; see `open_npz`."""
        self._archive, self._path, self._mapped = archive, path, mapped
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy")
            if key in self._members:
                raise InputError(f"{path}: {_printable(key)} is in it twice: get the file again")
            if key != info.filename:
                self._members[key] = info

    def __getitem__(self, key: str) -> np.ndarray:
        """Reads an array after comparing its stated size with the member's size and with free memory."""
        info = self._members[key]
        with self._archive.open(info) as member:
            shape, is_fortran, dtype = _header(member)
            stated, held = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
            if stated != held and not dtype.hasobject:
                raise InputError(
                    f"{self._path}: {key} states {stated:,} bytes of {dtype} but holds {held:,}: "
                    "delete the file and get it again"
                )
            if self._mapped and info.compress_type == zipfile.ZIP_STORED and not dtype.hasobject and held:
                place = self._first_byte(info) + info.file_size - held
                order: Literal["F", "C"] = "F" if is_fortran else "C"
                return np.memmap(self._path, dtype, "r", place, shape, order)
            check_size(self._path, key, info.file_size)
            member.seek(0)
            return np.lib.format.read_array(member, allow_pickle=False)

    def _first_byte(self, info: zipfile.ZipInfo) -> int:
        """The position in the archive at which the content of a member begins."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            name, extra = struct.unpack("<26xHH", file.read(30))
        return info.header_offset + 30 + name + extra

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextlib.contextmanager
def open_npz(path: pathlib.Path, mapped: bool = False) -> Iterator[Npz]:
    """Opens an NPZ file.

    Args:
        path: the file.
        mapped: whether arrays that are not compressed are memory-mapped instead of read.

    Yields:
        Its arrays. Reading one raises InputError when it needs more memory than is free, or when its stated
        size is wrong.

    Raises:
        OSError, zipfile.BadZipFile, zlib.error, ValueError: when the file cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        yield Npz(archive, path, mapped)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, order (True for columns first) and dtype of an NPY file; leaves it at the first value."""
    if np.lib.format.read_magic(member) == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


def digest(array: np.ndarray) -> str:
    """A checksum of an array, its dtype and its shape.

    CRC-32 reads gigabytes per second and detects every change of a few bits or of the order.
    """
    if known := getattr(array, "digest", ""):
        return known
    form = zlib.crc32(f"{array.dtype}{array.shape}".encode())
    return f"{zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, form):08x}"


def check_hdf5(file: Any, path: pathlib.Path) -> dict[str, Any]:
    """Refuses an HDF5 file that reads values from other places.

    Args:
        file: an open h5py.File.
        path: the file, for messages.

    Returns:
        All its datasets, name to h5py.h5d.DatasetID, for `check_written`.

    Raises:
        InputError: naming a link to another file, an external storage or a virtual dataset.
    """
    h5py = require("h5py", "data")
    links: list[tuple[bytes, int]] = []

    def visit(name: bytes, link: Any) -> None:
        links.append((name, link.type))

    def elsewhere(name: bytes, reason: str) -> InputError:
        return InputError(f"{path}: {_printable(name)} {reason}: store its values in this file")

    file.id.links.visit(visit, info=True)
    datasets = {}
    for name, kind in links:
        if kind == h5py.h5l.TYPE_SOFT:  # a second name for an object in this file
            continue
        if kind != h5py.h5l.TYPE_HARD:
            raise elsewhere(name, "is a link to another file")
        opened = h5py.h5o.open(file.id, name)
        if isinstance(opened, h5py.h5d.DatasetID):
            layout = opened.get_create_plist()
            if layout.get_external_count():
                raise elsewhere(name, "has its values in another file")
            if layout.get_layout() == h5py.h5d.VIRTUAL:
                raise elsewhere(name, "is a virtual dataset, a view of other datasets")
            datasets[_printable(name)] = opened
    return datasets


def check_written(path: pathlib.Path, name: str, dataset: Any) -> None:
    """Refuses an HDF5 dataset that states more values than were written, or more than fit into memory.

    Args:
        path: the file, for messages.
        name: the name of the dataset.
        dataset: its h5py.h5d.DatasetID.

    Raises:
        InputError: when the dataset is incomplete or too large.
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
            f"{path}: {name} states {size:,} bytes, but not all of them were written: get the file again"
        )
    check_size(path, name, size)


def _printable(name: bytes | str) -> str:
    """A name in a file as printable text."""
    text = name if isinstance(name, str) else name.decode(errors="replace")
    return text if text.isprintable() else repr(text)


def cast(key: str, array: np.ndarray, dtype: Any, path: pathlib.Path | str, first_row: int = 0) -> np.ndarray:
    """Converts an array to another dtype, if no value changes except by rounding to float32.

    Args:
        key: the array's key.
        array: real numbers, rows leading.
        dtype: the wanted dtype; an array that has it is returned unchanged.
        path: the file, for messages.
        first_row: the row of the file where the array begins.

    Returns:
        The array in that dtype.

    Raises:
        InputError: naming the first row with a value that would change, such as 300 in uint8, 0.5 in int32 or
            bool, or a value too large for float32.
    """
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: {key} is {array.dtype}, but real numbers are expected: check that the file belongs to "
            "this source"
        )
    with np.errstate(all="ignore"):  # the checks below report values that do not fit
        converted = array.astype(dtype)
        kept = np.isfinite(converted) if converted.dtype.kind == "f" else converted == array
        if (
            converted.dtype.kind == "f" and not kept.all()
        ):  # `check_finite` reports values that were not finite before
            kept |= ~np.isfinite(array)
    if not kept.all():
        row, *place = np.unravel_index(np.argmin(kept), array.shape)
        wanted = "0 or 1" if converted.dtype == bool else f"a number that {converted.dtype} holds"
        raise InputError(
            f"{path}: {key} is {array[row, *place]} at row {first_row + row}, but {wanted} is expected: "
            "repair that episode, or get the file again"
        )
    return converted


def check_size(path: pathlib.Path, name: str, size: int) -> None:
    """Refuses an array that needs more memory than is free.

    Args:
        path: the file of the array.
        name: the name of the array.
        size: its size in bytes.

    Raises:
        InputError: when the array is too large.
    """
    if size > _LARGE and size > (available := available_memory()):
        raise InputError(
            f"{path}: {name} takes {size:,} bytes, but {available:,} bytes of memory are free: "
            "free some memory, or use a machine with more"
        )


def available_memory(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes of memory that new arrays and programs can have: what the machine and every limit leave free.

    Args:
        root: the folder with Linux's /proc and /sys.

    Returns:
        The least of the machine's free memory and of what is left of the limits of this process's control
        groups (containers, batch systems); sys.maxsize where the system names none of them.
    """
    lines = _read(root / "proc/meminfo").splitlines()
    free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            names, base = ("memory.max", "memory.current", "inactive_file"), mount
        elif "memory" in controllers.split(","):  # version 1
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = mount / "memory"
        else:
            continue
        folder = base / group.strip("/")  # in a container the limits are those of the mount itself
        for place in (folder, *folder.parents[: len(folder.parts) - len(base.parts)]):
            free += _left_of_limit(place, *names)
    return min(free, default=sys.maxsize)


def _left_of_limit(group: pathlib.Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    """Bytes left of the memory limit of a control group: [] where it has no limit.

    Args:
        group: the group's folder.
        limit: the file with the limit.
        usage: the file with the memory in use, which includes the page cache.
        reclaimable: the entry of memory.stat that counts the part of the page cache that can be freed.
    """
    texts = _read(group / limit).strip(), _read(group / usage).strip()
    if not all(text.isdecimal() for text in texts):  # no file, or "max"
        return []
    most, used = map(int, texts)
    statistics = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return [max(0, most - max(0, used - int(statistics.get(reclaimable, 0))))]


def _read(path: pathlib.Path) -> str:
    """The text of a file of the system; empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
