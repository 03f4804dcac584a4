"""HDF5 files of the user. Their content decides who reads them: D4RL's reader, or robomimic's."""

from collections.abc import Sequence
from pathlib import Path

from valuelab.data.sources import d4rl, robomimic
from valuelab.data.validation import reading
from valuelab.errors import InputError, require, unknown
from valuelab.files import local_path
from valuelab.types import Dataset

_REMEDY = {"remedy": "repair it, or give another file"}


def read(
    name: str,
    data_dir: Path,
    split: str,
    clip_actions: bool = False,
    observation_keys: Sequence[str] = (),
    image_size: Sequence[int] = (),
) -> Dataset:
    """Reads an HDF5 file: of robomimic if it has the group `data`, else with D4RL's keys.

    Args:
        name: a path that ends in .hdf5 or .h5.
        data_dir: not used.
        split: "train"; or "val" where a file of robomimic has this split.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.
        observation_keys: as for `robomimic.read_file`.
        image_size: as for `robomimic.read_file`.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the split is unknown, the file is missing, or a check fails.
    """
    del data_dir
    path = local_path("dataset", name)
    if not path.exists():
        raise InputError(f"{path} does not exist: give the path of an HDF5 file, or a name such as d4rl/NAME")
    h5py = require("h5py", "data")
    with reading(path, **_REMEDY), h5py.File(path, "r") as file:
        is_robomimic = isinstance(file.get("data"), h5py.Group)
    if is_robomimic:
        return robomimic.read_file(path, name, split, clip_actions, observation_keys, image_size)
    if split != "train":
        raise unknown("split", split, ("train",))
    if observation_keys or image_size:
        raise InputError(
            f"{path} has one array of observations, as in D4RL: leave out data.observation_keys and "
            "data.image_size"
        )
    return d4rl.read_file(path, name, clip_actions, **_REMEDY)
