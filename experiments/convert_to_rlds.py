"""Writes any dataset as RLDS in array_record, for TensorFlow Datasets, grain and `rlds/NAME`.

    python -m experiments.convert_to_rlds --dataset=ogbench/pointmaze-medium-navigate-v0 --data_dir=DIR

writes DIR/rlds/ogbench/pointmaze-medium-navigate-v0. The name of the new dataset is
rlds/ogbench/pointmaze-medium-navigate-v0.
"""

from pathlib import Path

from absl import flags

from valuelab import data
from valuelab.data.sources import rlds
from valuelab.domains.paths import is_path
from valuelab.files import local_path
from valuelab.runs.flags import parse_flags, run

DATASET = flags.DEFINE_string("dataset", None, "Dataset to convert: SOURCE/NAME.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", str(data.DEFAULT_DATA_DIR), "Folder of datasets.")
CLIP_ACTIONS = flags.DEFINE_bool("data.clip_actions", False, "Clip actions out of bounds.")
SPLITS = flags.DEFINE_list("splits", ["train"], "Splits to convert, such as train,val.")


def convert(dataset: str, data_dir: Path, splits: list[str], clip_actions: bool = False) -> Path:
    """Writes splits of a dataset under data_dir/rlds.

    Args:
        dataset: the dataset's name, or the path of a file, whose name the new dataset gets.
        data_dir: the folder of datasets.
        splits: the splits to write.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.

    Returns:
        The folder of the new dataset.

    Raises:
        InputError: when the dataset cannot be read, or the folder exists.
    """
    name = Path(dataset).stem if is_path(dataset) else dataset
    folder = local_path("data_dir", data_dir) / "rlds" / name
    datasets = {
        split: data.load(dataset, data_dir, split=split, compact=True, clip_actions=clip_actions)
        for split in splits
    }
    rlds.write(datasets, folder)
    return folder


def main(arguments: list[str]) -> None:
    """Converts a dataset, and prints its new folder."""
    del arguments
    print(f"wrote {convert(DATASET.value, Path(DATA_DIR.value), SPLITS.value, CLIP_ACTIONS.value)}")


if __name__ == "__main__":
    run(main, parse_flags)
