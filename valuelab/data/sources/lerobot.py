"""LeRobot: folders of parquet files with videos, of the versions 2.0, 2.1 and 3.0 of its format.

`meta/info.json` states the version, the features and the paths of the files. In version 2 each episode has a
parquet file and a video for each camera. In version 3 a file holds many episodes, and `meta/episodes/` says
where each of them begins.

A row holds an observation, the action taken there, and what followed: `next.reward`, `next.done` and
`next.success`. An episode truly ended where its last row has `next.success`; where the dataset has no such
feature, where it has `next.done`. No row holds the final observation: the last step of an episode is kept if
the episode truly ended, and dropped otherwise. LeRobot does not state the bounds of actions: they are the
smallest and largest action of all episodes, in each dimension.
"""

import io
import itertools
import math
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from valuelab.arrays import available_memory
from valuelab.data import images
from valuelab.data.from_arrays import dataset_from_episodes
from valuelab.data.sources.robomimic import alone
from valuelab.data.validation import reading
from valuelab.domains.paths import LEROBOT_INFO
from valuelab.errors import InputError, one_line, require, unknown
from valuelab.files import local_path, read_json
from valuelab.types import Dataset

_REMEDY = "download the dataset again"
_NUMBERS = re.compile(r"(float|u?int)\d+|bool")
_FIELD = re.compile(r"\{(\w+)(?::0(\d)d)?\}")
"""A field in the path of a file, such as {episode_index:06d}."""


class _Feature(NamedTuple):
    """A feature of info.json.

    Attributes:
        key: its name.
        dtype: its dtype, such as "float32"; "video" or "image" for images.
        shape: the shape of one value.
        is_depth: whether its images are depth maps, which are not read.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    is_depth: bool = False

    @property
    def is_image(self) -> bool:
        """Whether its values are images."""
        return self.dtype in ("image", "video")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image, whose channels may be the first or the last axis."""
        first, *_, last = self.shape
        return self.shape[:2] if last in (1, 3, 4) or first not in (1, 3, 4) else self.shape[1:]  # type: ignore[return-value]

    @property
    def is_observable(self) -> bool:
        """Whether agents can observe it."""
        return (self.is_image and not self.is_depth) or bool(_NUMBERS.fullmatch(self.dtype))


def read(
    name: str,
    data_dir: Path,
    split: str,
    clip_actions: bool = False,
    observation_keys: Sequence[str] = (),
    image_size: Sequence[int] = (),
) -> Dataset:
    """Reads data_dir/lerobot/ORG/NAME; the other arguments and errors are those of `read_folder`."""
    del clip_actions  # the bounds are those of the data
    folder = data_dir / "lerobot" / name
    if "/" not in name:
        raise InputError(
            f"dataset lerobot/{name} has no organization: write lerobot/ORG/NAME, such as "
            f"lerobot/lerobot/{name}"
        )
    if not (folder / LEROBOT_INFO).is_file():
        raise InputError(
            f"{folder} has no {LEROBOT_INFO}: download the dataset with: hf download {name} "
            f"--repo-type=dataset --local-dir={folder}"
        )
    return read_folder(folder, f"lerobot/{name}", split, observation_keys, image_size)


def read_path(
    name: str,
    data_dir: Path,
    split: str,
    clip_actions: bool = False,
    observation_keys: Sequence[str] = (),
    image_size: Sequence[int] = (),
) -> Dataset:
    """Reads the folder of a path; the other arguments and errors are those of `read_folder`."""
    del data_dir, clip_actions
    return read_folder(local_path("dataset", name), name, split, observation_keys, image_size)


def read_folder(
    folder: Path,
    name: str,
    split: str,
    observation_keys: Sequence[str] = (),
    image_size: Sequence[int] = (),
) -> Dataset:
    """Reads a dataset of LeRobot.

    Args:
        folder: the folder with meta/info.json.
        name: the name of the dataset.
        split: a split of info.json; "train" is all episodes where info.json states no splits.
        observation_keys: the features to observe, in this order; () for all whose name begins with
            "observation", sorted by name. Vectors are joined into one vector; with an image among them all
            features are kept as parts.
        image_size: as for `images.target_size`.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the version, the split or a feature is unknown, the images need more memory than is
            free, or a check fails.
    """
    require("pyarrow.parquet", "lerobot")
    path = folder / LEROBOT_INFO
    info = read_json(path, "metadata of LeRobot", _REMEDY, codebase_version=str, features=dict)
    version = info["codebase_version"]
    if not re.match(r"v[23]\.", version):
        raise InputError(
            f"{path}: codebase_version is {version!r}, but versions 2.0 to 3.0 can be read: convert the "
            "dataset with the scripts of lerobot"
        )
    with one_line(f"{folder} cannot be read", _REMEDY):
        features = {key: _feature(key, stated) for key, stated in info["features"].items()}
        if "action" not in features:
            raise InputError(f"{path}: the feature 'action' is missing: {_REMEDY}")
        keys = _observed(features, observation_keys)
        first, stop = _range(info, split)
        actions = {
            number: _numbers(table, features["action"], f"{folder}: episode {number}")
            for number, table in _tables(folder, info, ["action"])
        }
        if not actions:
            raise InputError(f"{folder} has no episodes: {_REMEDY}")
        if (stated := info.get("total_episodes", len(actions))) != len(actions):
            logging.warning(
                "%s has %d episodes, but its %s states %d: the others are missing",
                *(name, len(actions), LEROBOT_INFO, stated),
            )
        chosen = [number for number in sorted(actions) if first <= number < stop]
        _say_memory(name, [features[key] for key in keys], image_size, sum(len(actions[n]) for n in chosen))
        if "next.reward" not in features:
            logging.warning(
                "%s has no next.reward: rewards are set to 0; give --reward=FILE.py:FUNCTION for your own",
                name,
            )
        if info.get("total_tasks", 1) > 1:
            logging.warning("%s has %d tasks, but agents do not see their texts", name, info["total_tasks"])
        episodes = _episodes(folder, info, features, keys, image_size, set(chosen))
        return dataset_from_episodes(
            episodes, action_bounds=_bounds(list(actions.values())), compact=True, name=name
        )


def _feature(key: str, stated: Mapping[str, Any]) -> _Feature:
    """A feature from its entry in info.json."""
    details = stated.get("info") or {}
    is_depth = bool(details.get("video.is_depth_map") or details.get("is_depth_map"))
    return _Feature(key, str(stated["dtype"]), tuple(map(int, stated["shape"])), is_depth)


def _observed(features: Mapping[str, _Feature], chosen: Sequence[str]) -> list[str]:
    """The names of the features to observe."""
    known = sorted(key for key, feature in features.items() if feature.is_observable)
    for key in chosen:
        if key not in known:
            raise unknown("observation key", key, known)
    keys = list(chosen) or [key for key in known if key.startswith("observation")]
    if not keys:
        raise unknown("observation key", "observation", known)
    return keys


def _range(info: Mapping[str, Any], split: str) -> tuple[int, int]:
    """The first episode of a split, and the one after its last."""
    splits = info.get("splits") or {"train": f"0:{sys.maxsize}"}
    if split not in splits:
        raise unknown("split", split, splits)
    first, _, stop = str(splits[split]).partition(":")
    return int(first), int(stop)


def _bounds(actions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest action in each dimension; a constant dimension gets an interval around it."""
    low = np.min([array.min(axis=0) for array in actions], axis=0)
    high = np.max([array.max(axis=0) for array in actions], axis=0)
    same = low == high
    return low - 0.5 * same, high + 0.5 * same


def _say_memory(name: str, features: Sequence[_Feature], image_size: Sequence[int], rows: int) -> None:
    """Prints how much memory the images will take; raises if that is more than is free."""
    cameras = [feature for feature in features if feature.is_image]
    if not cameras:
        return
    sizes = [images.target_size(each.size, image_size, f"{name}: {each.key}") for each in cameras]
    needed = rows * sum(3 * height * width for height, width in sizes)
    print(
        f"{name}: {rows:,} rows of images from {len(cameras)} cameras take {needed / 1e6:,.1f} MB, and twice "
        "as much while they are read and in full storage"
    )
    if 2 * needed > (available := available_memory()):
        raise InputError(
            f"{name}: its images take {2 * needed:,} bytes, but {available:,} bytes of memory are free: make "
            "them smaller with --data.image_size, or choose some with --data.observation_keys"
        )


def _tables(folder: Path, info: Mapping[str, Any], columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The number of each episode and its rows, a pyarrow.Table with these columns."""
    parquet = require("pyarrow.parquet", "lerobot")
    if info["codebase_version"].startswith("v2"):
        numbers = range(int(info["total_episodes"]))
        paths: Iterable[Path] = (
            folder / _filled(info["data_path"], _of_episode(info, number)) for number in numbers
        )
    else:
        paths = sorted((folder / "data").glob("*/*.parquet"))
    known: set[int] = set()
    for path in paths:
        with reading(path, _REMEDY):
            table = parquet.ParquetFile(path).read(columns=[*columns, "episode_index"])
        owners = table["episode_index"].to_numpy()
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        for start, stop in itertools.pairwise([*starts, len(owners)]):
            number = int(owners[start])
            if number in known:
                raise InputError(f"{path}: episode {number} is there a second time: {_REMEDY}")
            known.add(number)
            yield number, table.slice(start, stop - start)


def _of_episode(info: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The fields of the paths of an episode in version 2."""
    return {"episode_index": number, "episode_chunk": number // int(info.get("chunks_size", 1000))}


def _filled(template: str, fields: Mapping[str, Any]) -> str:
    """The path of a file in the folder, with the fields of its template filled in.

    Raises:
        InputError: for a path that leads out of the folder.
    """

    def value(match: re.Match[str]) -> str:
        name, width = match.groups()
        return f"{fields[name]:0{width}d}" if width else str(fields[name])

    path = _FIELD.sub(value, template)
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise InputError(f"{LEROBOT_INFO} names the file {path!r}, which is outside the dataset: {_REMEDY}")
    return path


def _numbers(table: Any, feature: _Feature, where: str) -> np.ndarray:
    """The values of a feature of numbers, [T, *shape]."""
    types = require("pyarrow.types", "lerobot")
    column = table[feature.key].combine_chunks()
    while hasattr(column, "storage"):  # arrays of more axes
        column = column.storage
    while types.is_list(column.type) or types.is_fixed_size_list(column.type):
        column = column.flatten()
    values = column.to_numpy(zero_copy_only=False)
    shape = (len(table), *feature.shape)
    if values.dtype == object or values.size != math.prod(shape):
        raise InputError(
            f"{where}: {feature.key} has {values.size} values in {len(table)} rows, but info.json states the "
            f"shape {feature.shape}: {_REMEDY}"
        )
    return values.reshape(shape)


def _episodes(
    folder: Path,
    info: Mapping[str, Any],
    features: Mapping[str, _Feature],
    keys: Sequence[str],
    image_size: Sequence[int],
    chosen: Collection[int],
) -> Iterator[dict[str, Any]]:
    """The chosen episodes as `dataset_from_episodes` takes them, in the order of the files."""
    places = _video_places(folder, info, [key for key in keys if features[key].dtype == "video"])
    ended = next((key for key in ("next.success", "next.done") if key in features), None)
    columns = {"action", *(key for key in keys if features[key].dtype != "video")}
    columns |= {key for key in ("next.reward", ended) if key and key in features}
    without_transition = 0
    for number, table in _tables(folder, info, sorted(columns)):
        if number not in chosen:
            continue
        where = f"{folder}: episode {number}"
        terminated = bool(ended and _numbers(table, features[ended], where)[-1])
        if len(table) == 1 and not terminated:
            without_transition += 1
            continue
        observations = {}
        for key in keys:
            if features[key].dtype == "video":
                path, start = places[number, key]
                frames = _frames(path, start, len(table), float(info["fps"]))
            elif features[key].dtype == "image":
                frames = map(_decoded, table[key].to_pylist())
            else:
                numbers = _numbers(table, features[key], where)
                observations[key] = numbers.reshape(len(table), -1)
                continue
            observations[key] = _stacked(frames, len(table), image_size, f"{where}: {key}")
        rewards = np.zeros(len(table), np.float32)
        if "next.reward" in features:
            rewards = _numbers(table, features["next.reward"], where).reshape(-1)
        yield {
            "observations": alone(observations),
            "actions": _numbers(table, features["action"], where),
            "rewards": rewards,
            "terminated": terminated,
        }
    if without_transition:
        logging.warning(
            "%s: %d episodes have a single row and were cut, so they hold no transition and are left out",
            folder,
            without_transition,
        )


def _video_places(
    folder: Path, info: Mapping[str, Any], keys: Sequence[str]
) -> Mapping[tuple[int, str], tuple[Path, float]]:
    """The video file of each episode and camera, and where in it the episode begins, in seconds."""
    parquet = require("pyarrow.parquet", "lerobot")
    places = {}
    if info["codebase_version"].startswith("v2"):
        for number, key in itertools.product(range(int(info["total_episodes"])), keys):
            fields = _of_episode(info, number) | {"video_key": key}
            places[number, key] = folder / _filled(info["video_path"], fields), 0.0
        return places
    names = [
        f"videos/{key}/{entry}" for key in keys for entry in ("chunk_index", "file_index", "from_timestamp")
    ]
    for path in sorted((folder / "meta" / "episodes").glob("*/*.parquet")) if keys else []:
        with reading(path, _REMEDY):
            rows = parquet.ParquetFile(path).read(columns=["episode_index", *names]).to_pylist()
        for row, key in itertools.product(rows, keys):
            chunk, file, start = (
                row[f"videos/{key}/{entry}"] for entry in ("chunk_index", "file_index", "from_timestamp")
            )
            fields = {"video_key": key, "chunk_index": chunk, "file_index": file}
            places[row["episode_index"], key] = folder / _filled(info["video_path"], fields), float(start)
    return places


def _frames(path: Path, start: float, count: int, fps: float) -> Iterator[np.ndarray]:
    """Frames of a video, [H, W, 3] uint8, at most `count` from `start` seconds on.

    Raises:
        InputError: when a frame is not at the time of its row.
    """
    av = require("av", "lerobot")
    # The format is fixed, because ffmpeg would guess it, and a playlist can name other files.
    with reading(path, _REMEDY), path.open("rb") as file, av.open(file, format="mp4") as container:
        stream = container.streams.video[0]
        if start:
            container.seek(int(start / stream.time_base), stream=stream)  # to the key frame before
        frames = (frame for frame in container.decode(stream) if frame.time > start - 0.5 / fps)
        for number, frame in enumerate(itertools.islice(frames, count)):
            if abs(frame.time - start - number / fps) > 0.5 / fps:
                raise InputError(
                    f"{path}: a frame is at {frame.time:g} s, but row {number} of its episode is at "
                    f"{start + number / fps:g} s by the {fps:g} frames a second of {LEROBOT_INFO}: {_REMEDY}"
                )
            yield frame.to_ndarray(format="rgb24")


def _decoded(cell: Mapping[str, Any]) -> np.ndarray:
    """An encoded image of a parquet file, [H, W, 3] uint8."""
    av = require("av", "lerobot")
    kind = "png_pipe" if cell["bytes"].startswith(b"\x89PNG") else "jpeg_pipe"
    with av.open(io.BytesIO(cell["bytes"]), format=kind) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def _stacked(frames: Iterable[np.ndarray], count: int, image_size: Sequence[int], where: str) -> np.ndarray:
    """Images as one array [count, height, width, 3], each resized at once."""
    stacked, number = np.zeros(0, np.uint8), 0
    for frame in frames:
        size = images.target_size(frame.shape[:2], image_size, where)
        if not number:
            stacked = np.empty((count, *size, 3), np.uint8)
        stacked[number] = images.resized(frame[None], size)[0]
        number += 1
    if number != count:
        raise InputError(f"{where} has {number} images, but the episode has {count} rows: {_REMEDY}")
    return stacked
