"""RLDS: episodes of steps in the array_record format of TensorFlow Datasets, without TensorFlow.

A step holds an observation, the action taken there, and the reward and discount that followed. The last step
of an episode (is_last) holds the final observation; is_terminal marks it where it is a terminal state.
Dictionaries of observations become one vector, with entries in alphabetical order and without texts.

Where D4RL's files store next observations, TensorFlow Datasets ends every episode with the last next
observation of the whole file. The correct final observations are lost. Such datasets are read like D4RL's
files without next observations: see `valuelab.data.sources.d4rl`.
"""

import dataclasses
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
from absl import logging

from valuelab import files
from valuelab.arrays import cast
from valuelab.data import storage
from valuelab.data.validation import check_finite, check_masks, reading, validate
from valuelab.errors import InputError, require, unknown
from valuelab.observation_parts import Parts, from_json, join
from valuelab.types import Dataset

PART_BYTES = 1 << 28
"""The size of the parts in which `read_parts` reads a dataset."""
_SHARD_BYTES = 1 << 29
_CLASSES = ("pythonClassName", "python_class_name", "type")
"""The keys of metadata that name classes to import; the last one occurs in old datasets."""
_OWN_CLASS = re.compile(r"tensorflow_datasets\.core\.features\.(\w+\.)*\w+")
_FILES = ("filepathTemplate", "filepath_template")
"""The keys of metadata that name the data files."""
_PREPARE = "prepare the dataset again"
_METADATA = "valuelab"
"""The entry of a dataset's metadata that holds fields of Dataset."""


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads the RLDS dataset under data_dir/rlds/NAME.

    Actions are discrete where they are integers. Datasets written by `write` state the number or bounds of
    actions; features may state them in others. Otherwise the number of actions is the greatest action in the
    data plus one, and the bounds are [-1, 1].

    Args:
        name: a folder in data_dir/rlds, such as "ogbench/pointmaze-medium-navigate-v0", written by
            `experiments.convert_to_rlds`, or "d4rl_mujoco_hopper/v2-medium", prepared by `tfds build`.
        data_dir: the folder that holds rlds/.
        split: a split of the dataset.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the dataset or split does not exist, or a check fails.
    """
    (dataset,) = read_parts(name, data_dir, split, clip_actions, part_bytes=sys.maxsize)
    return dataset


def read_parts(
    name: str, data_dir: Path, split: str, clip_actions: bool = False, part_bytes: int = 0
) -> Iterator[Dataset]:
    """Reads the same dataset in parts of whole episodes, for data that are larger than memory.

    The other arguments and errors are those of `read`. A part ends with the episode that reaches
    `part_bytes`, or PART_BYTES if it is 0.

    Yields:
        Datasets in compact storage, in order.
    """
    episodes = open_episodes(name, data_dir, split)
    with reading(episodes.folder, _PREPARE):
        parts = episodes.observation_parts()
        first = 0
        while first == 0 or first < len(episodes):
            columns = _until(episodes, first, part_bytes or PART_BYTES)
            dataset = storage.from_episodes(f"rlds/{name}", columns, episodes.folder, first)
            first += int(np.count_nonzero(dataset.terminals))
            facts = episodes.facts or _action_facts(
                episodes.features["action"], dataset.actions, episodes.folder
            )
            facts = {
                key: cast(key, np.asarray(fact, float), np.float32, episodes.folder)
                if isinstance(fact, list)
                else fact
                for key, fact in facts.items()
                if key != "observation_parts"
            }
            facts["observation_parts"] = parts
            yield validate(dataclasses.replace(dataset, **facts), episodes.folder, clip_actions)


def _until(episodes: "Episodes", first: int, most_bytes: int) -> Iterator[dict[str, np.ndarray]]:
    """The episodes from number `first` on, until they reach a size."""
    taken = 0
    for number in range(first, len(episodes)):
        yield (columns := episodes[number])
        taken += sum(array.nbytes for array in columns.values())
        if taken >= most_bytes:
            return


@dataclasses.dataclass(frozen=True)
class Episodes:
    """The episodes of a split, each read from the disk on access.

    Attributes:
        folder: the folder of the dataset.
        records: the undecoded episodes, the result of TFDS's `as_data_source`.
        features: the features of their steps, dictionaries where they are nested.
        facts: fields of Dataset that the metadata state; empty unless `write` wrote the dataset.
        finals_lost: whether the stored final observations belong to other episodes.
    """

    folder: Path
    records: Any
    features: Mapping[str, Any]
    facts: Mapping[str, Any]
    finals_lost: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def observation_parts(self) -> Parts:
        """The parts of packed observations; empty for other observations."""
        if stated := self.facts.get("observation_parts"):
            return from_json(stated)
        if not isinstance(self.features["observation"], Mapping) or not len(self):
            return ()
        return _observations(self.features, self.records[0]["steps"], str(self.folder))[1]

    def __getitem__(self, number: SupportsIndex) -> dict[str, np.ndarray]:
        """The arrays of one episode, T + 1 rows each, for `storage.from_episodes`."""
        where = f"{self.folder}: episode {number}"
        columns = _columns(self.features, self.records[number]["steps"], where)
        return _without_final(columns) if self.finals_lost else columns


def open_episodes(name: str, data_dir: Path, split: str) -> Episodes:
    """Opens a split; arguments and errors as for `read`."""
    tfds = require("tensorflow_datasets", "data")
    folder = _find(name, data_dir / "rlds")
    with reading(folder, _PREPARE):
        _check_metadata(folder)
        builder = tfds.builder_from_directory(folder)
        if split not in builder.info.splits:
            raise unknown("split", split, builder.info.splits)
        if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise InputError(
                f"{folder} is stored as {builder.info.file_format.value}, which only TensorFlow can read: "
                "prepare the dataset again with: tfds build --file_format=array_record"
            )
        features = dict(builder.info.features["steps"].feature.items())
        missing = {"observation", "action", "reward"} - set(features)
        if missing:
            raise InputError(
                f"{folder}: its steps lack {min(missing)!r}; they have {', '.join(sorted(features))}: "
                f"{_PREPARE}"
            )
        for key in ("observation", "action"):
            features[key] = _without_texts(features[key], key, folder)
        # Without decoding, the steps of an episode are whole arrays, not one dictionary per step.
        records = builder.as_data_source(split, decoders={"steps": tfds.decode.SkipDecoding()})
        episodes = Episodes(folder, records, features, (builder.info.metadata or {}).get(_METADATA, {}))
        if not episodes.facts and (dropped := _lost_finals(episodes)):
            logging.warning(
                "%s: all %d episodes end with the same observation, as TensorFlow Datasets prepares D4RL; "
                "in %d of them the last transition is dropped, because its successor is lost",
                *(folder, len(episodes), dropped),
            )
            episodes = dataclasses.replace(episodes, finals_lost=True)
    return episodes


def write(datasets: Mapping[str, Dataset], folder: Path) -> None:
    """Writes the splits of a dataset as RLDS in array_record; `read` gives back the same bits.

    Masks are written as discounts, since they may be zero inside an episode.

    Args:
        datasets: split -> dataset in compact storage.
        folder: the folder to write; it exists only once all data are written.

    Raises:
        InputError: when the folder exists, or a dataset is in full storage.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already: remove it to write it again")
    for dataset in datasets.values():
        if dataset.valid is None:
            raise InputError(
                f"{dataset.name} cannot be written as RLDS: its next_observations are not the next rows, and "
                "RLDS holds each observation once"
            )
    part = files.temporary_path(folder)
    part.mkdir(parents=True)
    try:
        _write(datasets, part)
        part.replace(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write(datasets: Mapping[str, Dataset], folder: Path) -> None:
    """Writes the splits of a dataset into a folder."""
    tfds = require("tensorflow_datasets", "data")
    dataset = next(iter(datasets.values()))
    features = _features(dataset)
    facts: dict[str, Any] = {
        "action_low": dataset.action_low.tolist(),
        "action_high": dataset.action_high.tolist(),
        "num_actions": dataset.num_actions,
        "goal_conditioned": dataset.goal_conditioned,
    }
    if dataset.observation_parts:
        facts["observation_parts"] = [dataclasses.asdict(part) for part in dataset.observation_parts]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[_write_split(split, each, features, folder) for split, each in datasets.items()],
        check_data=False,  # the check needs TensorFlow
        description=f"{dataset.name}, written by valuelab",
        metadata=tfds.core.MetadataDict({_METADATA: facts}),
    )


def _check_metadata(folder: Path) -> None:
    """Refuses metadata that make TensorFlow Datasets import other code, or read files in other folders."""
    file = folder / "features.json"
    for key, text in _texts(files.read_json(file, "metadata of RLDS", _PREPARE)):
        if key in _CLASSES and not _OWN_CLASS.fullmatch(text):
            raise InputError(
                f"{file}: {key} names {text!r}, whose code would be run: prepare the dataset again with "
                "features of TensorFlow Datasets only"
            )
    file = folder / "dataset_info.json"
    for key, text in _texts(files.read_json(file, "metadata of RLDS", _PREPARE) if file.exists() else {}):
        if key in _FILES and "/" in text:
            raise InputError(
                f"{file}: {key} is {text!r}, but the data files must be in the same folder: correct the name"
            )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a JSON value, each with its key in the innermost dictionary."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)


def _find(name: str, root: Path) -> Path:
    """The only folder with an RLDS dataset in root/NAME: the folder itself, or that of a version."""
    folders = sorted(file.parent for file in (root / name).glob("**/features.json"))
    if not folders:
        raise InputError(
            f"{root / name} has no RLDS dataset: write one with: python -m experiments.convert_to_rlds "
            f"--dataset=SOURCE/NAME --data_dir={root.parent}, or prepare one with: tfds build NAME "
            f"--data_dir={root} --file_format=array_record"
        )
    if len(folders) > 1:
        raise unknown("RLDS dataset", name, [str(folder.relative_to(root)) for folder in folders])
    return folders[0]


def _without_texts(feature: Any, name: str, folder: Path) -> Any:
    """The feature as nested dictionaries without texts; None where nothing else remains."""
    if hasattr(feature, "items"):
        entries = {key: _without_texts(entry, f"{name}/{key}", folder) for key, entry in feature.items()}
        feature = {key: entry for key, entry in entries.items() if entry is not None}
        text = not feature
    else:
        text = np.dtype(feature.np_dtype).kind in "OSU"
    if not text:
        return feature
    if "/" not in name:
        raise InputError(f"{folder}: {name} is text, but agents need numbers: store it as numbers")
    logging.warning("%s: %s is text and is left out", folder, name)
    return None


def _lost_finals(episodes: Episodes) -> int:
    """The number of episodes that bootstrap from a final observation shared by all; 0 if they differ.

    Episodes may share a terminal state, such as a goal, because nothing bootstraps from it.
    """
    shared, bootstraps = None, 0
    for number in range(len(episodes)):
        columns = episodes[number]
        final = columns["observations"][-1:]
        if shared is not None and not np.array_equal(final, shared):
            return 0
        shared = final
        bootstraps += len(columns["masks"]) > 1 and columns["masks"][-2] != 0
    return bootstraps if len(episodes) > 1 else 0


def _without_final(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An episode without its lost final observation, and without its last transition unless its mask is 0."""
    if len(columns["masks"]) < 2 or columns["masks"][-2] != 0:
        return {key: array[:-1] for key, array in columns.items()}
    observations = columns["observations"]
    return columns | {"observations": np.concatenate([observations[:-1], observations[-2:-1]])}


def _columns(features: Mapping[str, Any], steps: Mapping[str, Any], where: str) -> dict[str, np.ndarray]:
    """Decodes the arrays of one episode; `where` names it in messages."""
    rewards = cast("reward", _scalars(steps["reward"]), np.float32, where)
    masks = np.ones_like(rewards)
    if "discount" in steps:
        discounts = _scalars(steps["discount"])
        check_finite("discount", discounts, where)
        check_masks("discount", discounts, where)
        masks = (discounts != 0).astype(np.float32)
    if "is_terminal" in steps:
        # A terminal state has no value: the mask of the transition that leads to it is 0.
        masks[:-1] *= 1 - cast("is_terminal", _scalars(steps["is_terminal"]), bool, where)[1:]
    observations, _ = _observations(features, steps, where)
    actions = storage.flatten(_decode(features["action"], steps["action"]))
    discrete = actions.dtype.kind in "iu"
    pixels = observations.dtype == np.uint8
    return {
        "observations": cast("observation", observations, np.uint8 if pixels else np.float32, where),
        "actions": cast("action", _scalars(actions), np.int32, where)
        if discrete
        else cast("action", actions, np.float32, where),
        "rewards": rewards,
        "masks": masks,
    }


def _scalars(rows: np.ndarray) -> np.ndarray:
    """Rows [T] of scalars that may be stored as [T, 1]."""
    return rows[:, 0] if rows.shape[1:] == (1,) else rows


def _observations(
    features: Mapping[str, Any], steps: Mapping[str, Any], where: str
) -> tuple[np.ndarray, Parts]:
    """The observations [T, ...] of an episode, and their parts: nested features with an image are packed."""
    decoded = _decode(features["observation"], steps["observation"])
    if not isinstance(decoded, Mapping) or not any(map(_is_image, jax.tree.leaves(decoded))):
        return storage.flatten(decoded), ()
    rows = jax.tree.map(lambda leaf: leaf if _is_image(leaf) else leaf.reshape(len(leaf), -1), decoded)
    return join(rows, where)


def _is_image(rows: np.ndarray) -> bool:
    return rows.ndim == 4 and rows.dtype == np.uint8


def _decode(feature: Any, stored: Any) -> Any:
    """Decodes the rows of one (nested) feature, an array [T, ...] or a dictionary of such."""
    if isinstance(feature, Mapping):
        return {key: _decode(feature[key], stored[key]) for key in sorted(feature)}
    if stored.dtype == object:  # bytes: images and compressed arrays
        return np.stack(feature.decode_batch_example_np(stored))
    return stored


def _action_facts(feature: Any, actions: np.ndarray, folder: Path) -> dict[str, Any]:
    """The fields of Dataset on actions, from their feature, where the metadata do not state them."""
    low, high = None, None
    if not isinstance(feature, Mapping):
        info = feature.get_tensor_info()
        low, high = info.minimum, info.maximum
    if actions.dtype == np.int32:
        number = getattr(feature, "num_classes", None) or (None if high is None else int(high) + 1)
        if number is None:
            number = int(actions.max()) + 1
            logging.warning(
                "%s: the number of actions is not stated; it is set to %d, as the greatest action is %d",
                *(folder, number, number - 1),
            )
        return {"num_actions": number}
    low, high = (-1.0, 1.0) if low is None or high is None else (low, high)
    size = actions.shape[-1:]
    return {
        "action_low": np.broadcast_to(np.float32(low), size),
        "action_high": np.broadcast_to(np.float32(high), size),
    }


def _features(dataset: Dataset) -> Any:
    """The TFDS features of a dataset's episodes."""
    tfds = require("tensorflow_datasets", "data")
    observations, actions = dataset.observations, dataset.actions
    pixels = observations.dtype == np.uint8
    steps = {
        "observation": tfds.features.Tensor(
            shape=observations.shape[1:], dtype=observations.dtype, encoding="zlib" if pixels else "none"
        ),
        "action": tfds.features.Tensor(shape=actions.shape[1:], dtype=actions.dtype),
        "reward": np.float32,
        "discount": np.float32,
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps)})


def _write_split(split: str, dataset: Dataset, features: Any, folder: Path) -> Any:
    """Writes the shards of one split; returns its tfds.core.SplitInfo."""
    tfds = require("tensorflow_datasets", "data")
    array_record = require("array_record.python.array_record_module", "data")
    shard_name = re.sub(r"\W", "_", dataset.name.rpartition("/")[2], flags=re.ASCII)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name=shard_name if shard_name[0].isalpha() else f"set_{shard_name}",
        split=split,
        filetype_suffix="array_record",
    )
    ends = np.flatnonzero(dataset.terminals)
    episodes = list(zip(np.concatenate([[0], ends[:-1] + 1]), ends + 1, strict=True))
    num_shards = math.ceil((dataset.observations.nbytes + dataset.actions.nbytes) / _SHARD_BYTES)
    lengths, num_bytes = [], 0
    for shard, ranges in enumerate(np.array_split(episodes, num_shards)):
        path = template.sharded_filepath(shard_index=shard, num_shards=num_shards)
        writer = array_record.ArrayRecordWriter(os.fspath(path), "group_size:1")
        for start, stop in ranges:
            record = features.serialize_example({"steps": _steps(dataset, slice(start, stop))})
            writer.write(record)
            num_bytes += len(record)
        writer.close()
        lengths.append(len(ranges))
    return tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=num_bytes, filename_template=template
    )


def _steps(dataset: Dataset, rows: slice) -> dict[str, np.ndarray]:
    """The steps of one episode."""
    masks = dataset.masks[rows]
    number = np.arange(len(masks))
    is_last = number == len(masks) - 1
    return {
        "observation": dataset.observations[rows],
        "action": dataset.actions[rows],
        "reward": dataset.rewards[rows],
        "discount": masks,
        "is_first": number == 0,
        "is_last": is_last,
        "is_terminal": is_last & (np.roll(masks, 1) == 0),
    }
