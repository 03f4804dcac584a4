"""Offline data: from files of any source to batches.

    from valuelab import data

    dataset = data.load("ogbench/pointmaze-medium-navigate-singletask-v0")
    spec = data.normalization.make_spec(dataset)
    sampler = data.sampling.transitions(dataset, batch_size=256)

`load` reads all sources into one `Dataset` type, `normalization` defines how an agent sees it, and `sampling`
draws batches from it.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from valuelab import domains
from valuelab.configuration import DEFAULT_DATA_DIR
from valuelab.data import normalization, sampling, storage, streaming
from valuelab.data.normalization import NormalizationConfig
from valuelab.data.sources import d4rl, exorl, hdf5, lerobot, minari, npz, ogbench, rlds
from valuelab.domains.d4rl import original_name
from valuelab.domains.paths import SUFFIXES, is_lerobot, is_path
from valuelab.errors import InputError, MissingExtraError, nearest, no_source, one_line, unknown
from valuelab.files import local_path
from valuelab.types import Dataset

__all__ = [
    "DEFAULT_DATA_DIR",
    "SOURCES",
    "goal_conditioned",
    "known_names",
    "load",
    "normalization",
    "reading_settings",
    "sampling",
]

SOURCES: dict[str, Callable[..., Dataset]] = {
    "ogbench": ogbench.read,
    "d4rl": d4rl.read,
    "exorl": exorl.read,
    "lerobot": lerobot.read,
    "minari": minari.read,
    "rlds": rlds.read,
}
"""Prefix of a dataset's name -> reader: (rest of the name, data_dir, split) -> a dataset in compact storage.

The readers listed here also take `clip_actions=True`, as `load` does.
"""
_FILES: dict[str, Callable[..., Dataset]] = {".hdf5": hdf5.read, ".h5": hdf5.read, ".npz": npz.read}
"""Suffix of a path -> reader, likewise."""
_OBSERVES = (hdf5.read, lerobot.read, lerobot.read_path)
"""Readers of data with several arrays of observations; they also take `observation_keys` and `image_size`."""
_IN_PARTS: dict[Any, Callable[..., Iterator[Dataset]]] = {
    ogbench.read: ogbench.read_parts,
    rlds.read: rlds.read_parts,
}
"""Reader -> a function of the same arguments that yields the dataset in parts, which need less memory."""
_EXAMPLES = (
    "ogbench/pointmaze-medium-navigate-singletask-v0",
    "d4rl/hopper-medium-v2",
    "exorl/walker-rnd-run",
    "minari/D4RL/pointmaze/umaze-v2",
    "rlds/d4rl_mujoco_hopper/v2-medium",
)


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    compact: bool = False,
    mapped: bool = False,
    clip_actions: bool = False,
    observation_keys: Sequence[str] = (),
    image_size: Sequence[int] = (),
) -> Dataset:
    """Reads a dataset. Downloads it first where it is missing and its source publishes it.

    Args:
        name: "ogbench/NAME", "d4rl/NAME", "exorl/NAME", "minari/ID", "rlds/NAME", "lerobot/ORG/NAME", or the
            path of a file that ends in .npz, .hdf5 or .h5, or of a folder of LeRobot.
        data_dir: the folder with ogbench/NAME.npz, d4rl/NAME.hdf5, exorl/..., minari/... and rlds/...; the
            default is ~/.cache/valuelab.
        split: "train", or "val" where the source has this split.
        compact: whether to store each observation once (half the memory), without a copy as next
            observation; both storages hold the same transitions in the same order.
        mapped: whether the arrays stay on the disk, in compact storage, memory-mapped; see `streaming`. A
            copy of the dataset is written first into data_dir/stream if there is none.
        clip_actions: whether to clip actions outside their bounds, with a warning, instead of refusing them.
        observation_keys: the arrays of observations to read, in this order, for robomimic and LeRobot; () for
            all.
        image_size: for robomimic and LeRobot, the new height and width of images, or one number for both; ()
            for the stored size.

    Returns:
        A validated dataset.

    Raises:
        InputError: when the name is unknown, the data are missing, or a check fails.

    Example:
        >>> import valuelab as vl
        >>> dataset = vl.load_dataset("ogbench/pointmaze-medium-navigate-v0", data_dir)
        >>> dataset.actions.shape
        (40, 2)
    """
    folder = local_path("data_dir", data_dir or DEFAULT_DATA_DIR)
    if is_path(name):
        read, rest = lerobot.read_path if is_lerobot(name) else _FILES[Path(name).suffix], name
    else:
        source, _, rest = name.partition("/")
        if source not in SOURCES and (not source or Path(name).suffix):
            raise InputError(
                f"dataset {name!r} is not a file that can be read: give a file whose name ends in "
                f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, a folder of LeRobot, or a name that begins "
                f"with {', '.join(f'{known}/' for known in SOURCES)}"
            )
        if source not in SOURCES:
            raise _unknown(name, folder)
        read = SOURCES[source]
    local_path("dataset", rest)
    settings: dict[str, Any] = {"clip_actions": True} if clip_actions else {}
    if observation_keys:  # a flag has all keys in one text
        settings["observation_keys"] = [key for text in observation_keys for key in text.split(",")]
    if image_size:
        settings["image_size"] = tuple(image_size)
    if read not in _OBSERVES and (observation_keys or image_size):
        raise InputError(
            f"data.{'observation_keys' if observation_keys else 'image_size'} is for datasets of robomimic "
            f"and LeRobot, but {name} is neither: leave it out"
        )
    reading = functools.partial(
        one_line, f"dataset {name} cannot be read in {folder}", "check its files there"
    )
    if mapped:
        # A relative path names other files in another working directory.
        path = {"path": str(local_path("dataset", name).absolute())} if is_path(name) else {}
        dataset = streaming.mapped(
            name,
            folder,
            functools.partial(_files_of, name, folder, split),
            _parts(read, rest, folder, split, settings, reading),
            {"split": split} | settings | path,
        )
    else:
        with reading():
            dataset = read(rest, folder, split, **settings)
    if not (compact or mapped):
        return storage.full(dataset)
    if dataset.valid is None:
        logging.warning(
            "%s stays in full storage: compact storage cannot hold its next_observations, because they are "
            "not the next rows",
            name,
        )
    return dataset


def _parts(
    read: Callable[..., Dataset],
    rest: str,
    folder: Path,
    split: str,
    settings: dict[str, Any],
    reading: Callable[[], contextlib.AbstractContextManager[None]],
) -> Iterator[Dataset]:
    """The dataset in parts where its source can be read so, else whole; read inside the context `reading`."""
    with reading():
        if read in _IN_PARTS:
            yield from _IN_PARTS[read](rest, folder, split, **settings)
        else:
            yield read(rest, folder, split, **settings, **({"mapped": True} if read == npz.read else {}))


def _files_of(name: str, folder: Path, split: str) -> list[Path]:
    """The existing files that a dataset is read from."""
    source, _, rest = name.partition("/")
    if is_path(name):
        place = local_path("dataset", name)
    elif source == "ogbench":
        return ogbench.find_files(rest, folder, split)
    elif source == "exorl":
        with contextlib.suppress(InputError):  # the reader raises it again
            return exorl.find_files(rest, folder)
        return []
    else:
        place = folder / source / (f"{rest}.hdf5" if source == "d4rl" else rest)
    copies = folder / "stream"  # may lie in the folder of the dataset
    found = sorted(place.rglob("*") if place.is_dir() else [place])
    return [path for path in found if path.is_file() and not path.is_relative_to(copies)]


def reading_settings(config: NormalizationConfig) -> dict[str, Any]:
    """The settings of `load` in the settings of a run."""
    names = ("clip_actions", "observation_keys", "image_size")
    return {name: getattr(config, name) for name in names}


def goal_conditioned(name: str) -> bool | None:
    """Whether the tasks of a dataset are goals, as far as its name says.

    Args:
        name: as for `load`; "rlds/" before it changes nothing.

    Returns:
        True or False; None where only the files can tell, as in other RLDS datasets and NPZ files.
    """
    original = original_name(name)
    if is_path(original):
        return None if original.endswith(".npz") else False
    source, _, rest = original.partition("/")
    if source == "ogbench":
        return not ogbench.has_task(rest)
    return False if source in ("d4rl", "exorl", "lerobot", "minari") else None


def known_names() -> dict[str, list[str]]:
    """The names of each source that publishes a list of them; OGBench's only where ogbench is installed."""
    names = {"d4rl": sorted(d4rl.published()), "exorl": domains.known_names()}
    with contextlib.suppress(MissingExtraError):
        names = {"ogbench": ogbench.known_names()} | names
    return names


def _unknown(name: str, folder: Path) -> InputError:
    """The error for a name without a known source; it suggests a known or local dataset of that name."""
    source, slash, _ = name.partition("/")
    local = [f"{known}/{name}" for known in ("minari", "rlds") if name and (folder / known / name).is_dir()]
    if slash and not local:
        return unknown("data source", source, SOURCES)
    full_names = {rest: f"{source}/{rest}" for source, names in known_names().items() for rest in names}
    suggestions = local or [full_names[match] for match in nearest(name, full_names)]
    return no_source("dataset", name, "".join(suggestions[:1]), _EXAMPLES)
