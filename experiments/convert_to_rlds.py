"""Writes any dataset as RLDS in array_record, for TensorFlow Datasets, grain and `rlds/NAME`.

    python -m experiments.convert_to_rlds --dataset=ogbench/pointmaze-medium-navigate-v0 --data_dir=DIR

writes DIR/rlds/ogbench/pointmaze-medium-navigate-v0. The name of the new dataset is
rlds/ogbench/pointmaze-medium-navigate-v0.
"""

from pathlib import Path
from typing import Any

from absl import flags

from valuelab import data
from valuelab.data.sources import rlds
from valuelab.domains.paths import is_path
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs.command_line import command, print_next
from valuelab.runs.flags import parse_flags, run

DATASET = flags.DEFINE_string("dataset", None, "Dataset to convert: SOURCE/NAME.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", str(data.DEFAULT_DATA_DIR), "Folder of datasets.")
CLIP_ACTIONS = flags.DEFINE_bool("data.clip_actions", False, "Clip actions out of bounds.")
OBSERVATION_KEYS = flags.DEFINE_list(
    "data.observation_keys", [], "Arrays of observations to read from robomimic or LeRobot; all by default."
)
IMAGE_SIZE = flags.DEFINE_list(
    "data.image_size", [], "Height and width of the images of robomimic or LeRobot; as stored by default."
)
SPLITS = flags.DEFINE_list("splits", ["train"], "Splits to convert, such as train,val.")


def convert(dataset: str, data_dir: Path, splits: list[str], **settings: Any) -> Path:
    """Writes splits of a dataset under data_dir/rlds.

    Args:
        dataset: the dataset's name, or the path of a file, whose name the new dataset gets.
        data_dir: the folder of datasets.
        splits: the splits to write.
        **settings: clip_actions, observation_keys and image_size, as for `data.load`.

    Returns:
        The folder of the new dataset.

    Raises:
        InputError: when the dataset cannot be read, or the folder exists.
    """
    name = Path(dataset).stem if is_path(dataset) else dataset
    folder = local_path("data_dir", data_dir) / "rlds" / name
    datasets = {
        split: data.load(dataset, data_dir, split=split, compact=True, **settings) for split in splits
    }
    rlds.write(datasets, folder)
    return folder


def main(arguments: list[str]) -> None:
    """Converts a dataset, and prints its new folder."""
    del arguments
    if not all(word.isdecimal() for word in IMAGE_SIZE.value):
        raise InputError(f"data.image_size is {','.join(IMAGE_SIZE.value)}: give one or two whole numbers")
    folder = convert(
        DATASET.value,
        Path(DATA_DIR.value),
        SPLITS.value,
        clip_actions=CLIP_ACTIONS.value,
        observation_keys=OBSERVATION_KEYS.value,
        image_size=[int(word) for word in IMAGE_SIZE.value],
    )
    print(f"wrote {folder}")
    name = folder.relative_to(local_path("data_dir", DATA_DIR.value))
    print_next(command("inspect_dataset", name, f"--data_dir={DATA_DIR.value}"))


if __name__ == "__main__":
    run(main, parse_flags)
