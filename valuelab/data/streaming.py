"""Datasets whose arrays stay on the disk, memory-mapped, for data that are larger than the device.

A copy of a dataset of any source is written once into DATA_DIR/stream: a file of raw numbers for each field
of `Dataset`, and manifest.json. Sources that can be read in parts are copied part by part. A copy belongs to
the files of its source: if their sizes or times change, it is written again. If those of its own files
change, their checksums are compared.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from valuelab import files
from valuelab.arrays import Mapped, digest
from valuelab.errors import InputError, one_line
from valuelab.observation_parts import from_json
from valuelab.types import Dataset

_MANIFEST = "manifest.json"
_VERSION = 2
"""The version of the layout; copies of other versions are written again."""
_REQUIRED = ("observations", "actions", "rewards", "masks", "terminals")
_DTYPES = {"float32", "int32", "uint8", "bool"}
_WAIT_SECONDS = 0.5


def mapped(
    name: str,
    folder: Path,
    find_files: Callable[[], Sequence[Path]],
    parts: Iterable[Dataset],
    settings: Mapping[str, Any],
) -> Dataset:
    """A dataset with memory-mapped arrays. Its copy is written first if there is none of these files.

    Args:
        name: the name of the dataset.
        folder: the folder of the datasets; copies are in its folder stream.
        find_files: () -> the files of the source. If it has none, any copy is used.
        parts: validated datasets in compact storage, whose rows follow each other. They are read only to
            write the copy.
        settings: whatever else the dataset depends on, JSON-safe.

    Returns:
        The dataset. Only the rows that are read take memory.

    Raises:
        InputError: when a copy is damaged or cannot be written, or when parts differ in their kind of rows.
    """
    identity = files.to_json({"name": name, "settings": settings, "version": _VERSION})
    slug = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-80:]
    place = folder / "stream" / f"{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    copy = place / "copy"
    if _is_current(copy, find_files(), folder):
        return _open(copy)
    advice = "free some space or allow writing there, or give another --data_dir"
    with one_line(f"{place} cannot be written", advice):
        place.mkdir(parents=True, exist_ok=True)
        with _lock_when_free(place):
            if not _is_current(copy, find_files(), folder):  # else another process has just written it
                print(f"{name} is copied once to {place}, from which batches are read")
                temporary = files.temporary_path(copy)
                temporary.mkdir()
                try:
                    before = _states(find_files(), folder)
                    manifest = _write(name, parts, temporary)
                    if not (source := find_files()):
                        raise InputError(
                            f"the files of {name} are unknown, so a change of them would pass unseen: write "
                            "the dataset as a file with valuelab.save_dataset, and give its path"
                        )
                    manifest["files"] = _states(source, folder)
                    if not before.items() <= manifest["files"].items():
                        raise InputError(f"{name} changed while it was copied: run the same command again")
                    manifest["digest"] = _digest_of(manifest)
                    files.replace_file(temporary / _MANIFEST, files.to_json(manifest, indent=1))
                    shutil.rmtree(copy, ignore_errors=True)  # of a source that has changed
                    temporary.replace(copy)
                except BaseException:
                    shutil.rmtree(temporary, ignore_errors=True)
                    raise
    return _open(copy)


def _states(source: Sequence[Path], folder: Path) -> dict[str, list[int]]:
    """The size and the time of change of each file, by its path in the folder of the datasets."""
    states = {}
    for path in source:
        key = path.relative_to(folder) if path.is_relative_to(folder) else path.absolute()
        states[str(key)] = [path.stat().st_size, path.stat().st_mtime_ns]
    return states


def _is_current(copy: Path, source: Sequence[Path], folder: Path) -> bool:
    """Whether there is a copy of the files of a source as they are now."""
    if not (copy / _MANIFEST).is_file():
        return False
    return not source or _read_manifest(copy)["files"] == _states(source, folder)


@contextlib.contextmanager
def _lock_when_free(place: Path) -> Any:
    """Locks a folder; waits while another process, such as another host of the run, writes there."""
    with contextlib.ExitStack() as stack:
        says = True
        while True:
            try:
                stack.enter_context(files.locked(place))
                break
            except InputError as busy:
                if says:
                    print(f"{busy}; this process waits")
                says = False
                time.sleep(_WAIT_SECONDS)
        yield


def _write(name: str, parts: Iterable[Dataset], folder: Path) -> dict[str, Any]:
    """Writes the arrays of all parts into a folder, and returns the manifest."""
    kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    rows, facts = 0, {}
    with contextlib.ExitStack() as stack:
        opened: dict[str, IO[bytes]] = {}
        for part in parts:
            arrays = {
                field.name: array
                for field in dataclasses.fields(part)
                if isinstance(array := getattr(part, field.name), np.ndarray)
                and not field.name.startswith("action_")
            }
            now = {key: (array.dtype, array.shape[1:]) for key, array in arrays.items()}
            if not kinds:
                kinds, facts = now, _facts(part)
                opened = {key: stack.enter_context(_file(folder, key).open("xb")) for key in arrays}
            if (now, _facts(part) | {"num_actions": 0}) != (kinds, facts | {"num_actions": 0}):
                raise InputError(
                    f"{name}: the rows from {rows} on differ from those before in their kind of observations "
                    "or actions: give a dataset of one kind"
                )
            facts["num_actions"] = max(facts["num_actions"], part.num_actions)
            rows += len(part.terminals)
            for key, array in arrays.items():
                # Unlike ndarray.tofile it raises if the disk is full.
                opened[key].write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        for file in opened.values():
            file.flush()
            os.fsync(file.fileno())
    stated = {}
    for key, (dtype, shape) in kinds.items():
        array = Mapped(_file(folder, key), dtype, "r", shape=(rows, *shape))
        (state,) = _states([_file(folder, key)], folder).values()
        stated[key] = {
            "dtype": str(dtype),
            "shape": list(array.shape),
            "digest": digest(array),
            "state": state,
        }
    return {"arrays": stated, "facts": facts}


def _digest_of(manifest: Mapping[str, Any]) -> int:
    """A checksum of a manifest without its own checksum."""
    stated = {key: value for key, value in manifest.items() if key != "digest"}
    return zlib.crc32(files.to_json(stated).encode())


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.bin"


def _facts(dataset: Dataset) -> dict[str, Any]:
    """The fields of a dataset that are not rows, JSON-safe."""
    return {
        "name": dataset.name,
        "action_low": dataset.action_low.tolist(),
        "action_high": dataset.action_high.tolist(),
        "num_actions": dataset.num_actions,
        "goal_conditioned": dataset.goal_conditioned,
        "observation_parts": [dataclasses.asdict(part) for part in dataset.observation_parts],
        "observation_entries": list(dataset.observation_entries),
    }


def _read_manifest(copy: Path) -> dict[str, Any]:
    return files.read_json(
        copy / _MANIFEST, "manifest of a copy", f"delete {copy}", files=dict, arrays=dict, facts=dict
    )


def _open(copy: Path) -> Dataset:
    """The dataset of a copy."""
    with one_line(f"{copy} is damaged", "delete it, and it is written again"):
        manifest = _read_manifest(copy)
        if manifest.get("digest") != _digest_of(manifest):
            raise ValueError(f"{_MANIFEST} does not match its checksum")
        arrays = {}
        for key, stated in manifest["arrays"].items():
            path, dtype, shape = _file(copy, key), str(stated["dtype"]), tuple(map(int, stated["shape"]))
            if dtype not in _DTYPES or key not in Dataset.__dataclass_fields__:
                raise ValueError(f"it states {dtype} {key}")
            size, held = math.prod(shape) * np.dtype(dtype).itemsize, path.stat().st_size
            if size != held:
                raise ValueError(f"{path.name} has {held:,} bytes instead of {size:,}")
            arrays[key] = Mapped(path, dtype, "r", shape=shape)
            is_unchanged = [stated["state"]] == list(_states([path], copy).values())
            if not is_unchanged and digest(arrays[key]) != stated["digest"]:
                raise ValueError(f"{path.name} does not match its checksum")
            arrays[key].digest = str(stated["digest"])
        if missing := set(_REQUIRED) - set(arrays):
            raise ValueError(f"{min(missing)} is missing")
        facts = manifest["facts"]
        return Dataset(
            **arrays,
            name=str(facts["name"]),
            action_low=np.asarray(facts["action_low"], np.float32),
            action_high=np.asarray(facts["action_high"], np.float32),
            num_actions=int(facts["num_actions"]),
            goal_conditioned=bool(facts["goal_conditioned"]),
            observation_parts=from_json(facts["observation_parts"]),
            observation_entries=tuple(map(str, facts["observation_entries"])),
        )
