"""Damages sound inputs of every reader at random, and reports the outcome of each.

Input n depends only on the seed and n. All numbers in the sound files are small integers, so that another
dtype either holds them exactly or is refused.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow
import pyarrow.parquet
from minari.data_collector import EpisodeBuffer

from valuelab import configuration, data
from valuelab.benchmark import processes
from valuelab.data import normalization
from valuelab.data.sources import rlds
from valuelab.errors import InputError
from valuelab.runs import flags, outputs, results
from valuelab.training import logs
from valuelab.types import Dataset

RIGHT, LINE, CHANGED, TRACEBACK, HANG, SILENT = "right", "line", "changed", "traceback", "hang", "silent"
"""The possible outcomes of an input: RIGHT, it is read like the sound one; LINE, it is refused in one line;
CHANGED, it is read with other values, after damage that no check can detect, such as another number;
TRACEBACK,
another exception; HANG, the reader does not end; SILENT, detectable damage is not detected."""
WRONG = (TRACEBACK, HANG, SILENT)
SECONDS = 20
"""The time limit of a reader."""
DTYPES = ("f2", "f4", "f8", "i2", "i8", "c8", "S3", "?")
ROWS = 6


class Case(NamedTuple):
    """The outcome of a damaged input.

    Attributes:
        number: n.
        reader: the name of its reader.
        damage: a description of the damage.
        outcome: one of the outcomes above.
        message: the message of the exception, if any.
    """

    number: int
    reader: str
    damage: str
    outcome: str
    message: str


class Reader(NamedTuple):
    """A reader and its sound input.

    Attributes:
        write: (folder) -> None; writes the input.
        read: (folder) -> the result that is compared, a Dataset or JSON values.
        pattern: the glob pattern of its files.
    """

    write: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], Any]
    pattern: str


def _arrays() -> dict[str, np.ndarray]:
    """Two episodes of three rows."""
    numbers = np.arange(ROWS)
    return {
        "observations": np.stack([numbers, -numbers], 1).astype(np.float32),
        "actions": np.stack([numbers % 3 - 1], 1).astype(np.float32),
        "rewards": (numbers % 2).astype(np.float32),
        "terminals": numbers % 3 == 2,
    }


def _write_npz(folder: pathlib.Path) -> None:
    (folder / "ogbench").mkdir()
    np.savez(folder / "ogbench" / "pointmaze-medium-navigate-v0.npz", **_arrays())


def _write_hdf5(folder: pathlib.Path) -> None:
    with h5py.File(folder / "own.hdf5", "w") as file:
        for key, array in _arrays().items():
            file[key] = array
        file["timeouts"] = np.zeros(ROWS, bool)


def _write_minari(folder: pathlib.Path) -> None:
    arrays, box = _arrays(), gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    buffer = EpisodeBuffer(
        id=0,
        observations=arrays["observations"],
        actions=arrays["actions"][:-1],
        rewards=arrays["rewards"][:-1],
        terminations=np.arange(ROWS - 1) == ROWS - 2,
        truncations=np.zeros(ROWS - 1, bool),
    )
    with minari_folder(folder / "minari"):
        minari.create_dataset_from_buffers(
            dataset_id="own-v0",
            buffer=[buffer],
            observation_space=box,
            action_space=gymnasium.spaces.Box(-1, 1, (1,), np.float32),
        )


@contextlib.contextmanager
def minari_folder(folder: pathlib.Path) -> Iterator[None]:
    """Makes Minari write into a folder, without its warnings about missing metadata."""
    with mock.patch.dict(os.environ, MINARI_DATASETS_PATH=str(folder)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _write_rlds(folder: pathlib.Path) -> None:
    arrays, bound = _arrays(), np.ones(1, np.float32)
    ends = arrays["terminals"]
    dataset = Dataset(
        name="own",
        masks=np.ones(ROWS, np.float32),
        valid=~ends,
        action_low=-bound,
        action_high=bound,
        **arrays,
    )
    rlds.write({"train": dataset}, folder / "rlds" / "own")


def _write_own(folder: pathlib.Path) -> None:
    arrays = _arrays()
    masks = np.ones(ROWS, np.float32)
    np.savez(folder / "own.npz", **arrays, masks=masks, action_bounds=(-1, 1))


def _write_robomimic(folder: pathlib.Path) -> None:
    arrays = _arrays()
    with h5py.File(folder / "own.hdf5", "w") as file:
        for number, rows in enumerate((slice(0, 3), slice(3, 6))):
            demo = file.create_group(f"data/demo_{number}")
            for key in ("actions", "rewards"):
                demo[key] = arrays[key][rows]
            demo["dones"] = arrays["terminals"][rows]
            demo["obs/joints"] = arrays["observations"][rows]
            demo["next_obs/joints"] = arrays["observations"][rows] + 1


def _write_lerobot(folder: pathlib.Path) -> None:
    arrays = _arrays()
    shapes = {"observation.state": [2], "action": [1], "next.reward": [1], "next.done": [1]}
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "splits": {"train": "0:2"},
        "features": {key: {"dtype": "float32", "shape": shape} for key, shape in shapes.items()},
    }
    keys = ("observations", "actions", "rewards", "terminals")
    columns = {name: arrays[key].tolist() for name, key in zip(shapes, keys, strict=True)}
    for path in ("meta", "data/chunk-000"):
        (folder / path).mkdir(parents=True)
    outputs.write_json(folder / "meta" / "info.json", info)
    table = pyarrow.table(columns | {"episode_index": np.arange(ROWS) // 3})
    pyarrow.parquet.write_table(table, folder / "data" / "chunk-000" / "file-000.parquet")


def _write_run(folder: pathlib.Path) -> None:
    facts = {
        "settings": configuration.to_json(flags.DEFAULTS),
        "normalization": normalization.to_json(normalization.of_actions(-np.ones(1), np.ones(1))),
    }
    outputs.write_json(folder / "config.json", facts)
    result = {"steps": 3, "throughput": {"train_seconds": 1.0}, "versions": {"jax": "0"}}
    outputs.write_json(folder / "result.json", result)
    logs.MetricsFile(folder / "metrics.jsonl").write([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}])


def _read_run(folder: pathlib.Path) -> Any:
    saved, _ = results.read_run(folder, "checkpoint")
    settings = saved["settings"]
    config = configuration.from_json(flags.DEFAULTS, settings)
    rows = logs.read_rows(folder / "metrics.jsonl")
    return [configuration.to_json(config), processes.read_result(folder), rows]


READERS = {
    "npz": Reader(
        _write_npz, lambda folder: data.load("ogbench/pointmaze-medium-navigate-v0", folder), "**/*.npz"
    ),
    "hdf5": Reader(_write_hdf5, lambda folder: data.load(str(folder / "own.hdf5")), "*.hdf5"),
    "own": Reader(_write_own, lambda folder: data.load(str(folder / "own.npz")), "*.npz"),
    "robomimic": Reader(_write_robomimic, lambda folder: data.load(str(folder / "own.hdf5")), "*.hdf5"),
    "lerobot": Reader(_write_lerobot, lambda folder: data.load(str(folder)), "**/*.*"),
    "minari": Reader(_write_minari, lambda folder: data.load("minari/own-v0", folder), "**/data/*"),
    "rlds": Reader(_write_rlds, lambda folder: data.load("rlds/own", folder), "rlds/own/*"),
    "json": Reader(_write_run, _read_run, "*.json*"),
}


def fuzz(folder: pathlib.Path, seed: int, numbers: Sequence[int]) -> Iterator[Case]:
    """Damages inputs and reads them.

    Args:
        folder: an empty folder.
        seed: the seed of the damage.
        numbers: the numbers n of the inputs.

    Yields:
        The outcome of each input.
    """
    sound = {}
    for name, reader in READERS.items():
        (folder / name).mkdir()
        reader.write(folder / name)
        sound[name] = reader.read(folder / name)
    for number in numbers:
        random = np.random.default_rng((seed, number))
        name = list(READERS)[number % len(READERS)]
        shutil.copytree(folder / name, folder / "damaged")
        file = random.choice(sorted(map(str, (folder / "damaged").glob(READERS[name].pattern))))
        damage, detectable = damaged(pathlib.Path(file), random)
        outcome, message = _outcome(READERS[name], folder / "damaged", sound[name], detectable)
        yield Case(number, name, f"{pathlib.Path(file).name}, {damage}", outcome, message)
        shutil.rmtree(folder / "damaged")


def _outcome(reader: Reader, folder: pathlib.Path, sound: Any, detectable: bool) -> tuple[str, str]:
    """Reads an input; returns its outcome and message. `detectable` damage must be detected."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        result = reader.read(folder)
    except InputError as error:
        return (TRACEBACK if "\n" in str(error) else LINE), str(error)
    except TimeoutError:
        return HANG, ""
    except Exception:
        return TRACEBACK, traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if _same(result, sound):
        return RIGHT, ""
    return (SILENT if detectable else CHANGED), ""


def _same(result: Any, sound: Any) -> bool:
    """Whether two datasets, or JSON, are the same."""
    if not isinstance(sound, Dataset):
        return result == sound
    return all(
        np.array_equal(getattr(result, field.name), getattr(sound, field.name))
        for field in dataclasses.fields(Dataset)
        if field.name != "name"  # it may be a path
    )


# Damage.


def damaged(file: pathlib.Path, random: np.random.Generator) -> tuple[str, bool]:
    """Damages a file in place; returns a description, and whether a reader can detect the damage."""
    whole = file.read_bytes()
    kinds = ["truncate", "flip"]
    kinds += ["contents"] * 4 if file.suffix in (".npz", ".hdf5", ".json", ".jsonl") else []
    kind = random.choice(kinds)
    if kind == "truncate":
        size = int(random.integers(len(whole)))
        file.write_bytes(whole[:size])
        return f"cut off at byte {size}", file.suffix not in (".json", ".jsonl")
    if kind == "flip":
        place, bit = int(random.integers(len(whole))), int(random.integers(8))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        return f"bit {bit} of byte {place} flipped", False
    if file.suffix in (".json", ".jsonl"):
        lines = whole.decode().splitlines() if file.suffix == ".jsonl" else [whole.decode()]
        damage, value = _damaged_json(json.loads(lines[0]), random)
        file.write_text("\n".join([json.dumps(value), *lines[1:]]) + "\n")
        return damage, False
    return _damaged_arrays(file, random)


def _damaged_json(value: Any, random: np.random.Generator) -> tuple[str, Any]:
    """A JSON value with one part removed or replaced."""
    parts = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = parts[random.integers(len(parts))]
    if isinstance(value[key], dict | list) and value[key] and random.random() < 0.8:
        damage, value[key] = _damaged_json(value[key], random)
        return f"{key}/{damage}", value
    others = [None, 3, -1, 1e300, True, "x", [], {}, [[1], "a"], {"a": None}, "1" * 5000]
    chosen = int(random.integers(len(others) + 1))
    if chosen == len(others):
        del value[key]
        return f"{key} removed", value
    value[key] = others[chosen]
    return f"{key} is {str(others[chosen])[:20]}", value


def _damaged_arrays(file: pathlib.Path, random: np.random.Generator) -> tuple[str, bool]:
    """Changes an array of an NPZ or HDF5 file."""
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as opened:
            arrays = dict(opened)
    else:
        arrays = {}
        with h5py.File(file) as opened:
            opened.visititems(
                lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
    key = str(random.choice(sorted(arrays)))
    damage, array = _damaged_array(arrays[key], random)
    if file.suffix == ".npz":
        np.savez(file, **{name: each for name, each in (arrays | {key: array}).items() if each is not None})
    else:
        with h5py.File(file, "a") as opened:
            del opened[key]
            if array is not None:
                opened[key] = array
    return f"{key}: {damage}", True


def _damaged_array(array: np.ndarray, random: np.random.Generator) -> tuple[str, np.ndarray | None]:
    """An array with another dtype, shape or value; None for a removed array."""
    kind = random.choice(["removed", "dtype", "shape", "value", "value"])
    if kind == "dtype":
        dtypes = [dtype for dtype in DTYPES if dtype != "?" or array.dtype == bool]
        dtype = str(random.choice(dtypes))
        return f"of dtype {dtype}", array.astype(dtype)
    if kind == "shape":
        shapes = (array[:-1], array[:0], np.float32(0), array.reshape(-1, 1, 1)[:, :, :0])
        number = int(random.integers(len(shapes)))
        return f"of shape {np.shape(shapes[number])}", np.asarray(shapes[number])
    if kind == "value":
        value = random.choice([np.nan, np.inf, -np.inf, 1e300, -1e300])
        changed = array.astype(np.float64)
        changed.reshape(-1)[random.integers(array.size)] = value
        return f"with {value}", changed
    return kind, None
