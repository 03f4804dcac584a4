"""A complete example from data to pictures: IQL on pointmaze-medium-navigate, evaluated in MuJoCo.

Uses the published dataset if it is there or can be downloaded. Otherwise collects a smaller one with
OGBench's environment and scripted oracle, in a separate folder so that it is not mistaken for the published
one. The results go to runs/demo; the same command again shows them.
"""

import pathlib

from absl import flags as absl_flags

from valuelab import configuration, data
from valuelab.data import collection
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import flags, outputs, train

DATASET = "ogbench/pointmaze-medium-navigate"
EPISODES = 200
"""A fifth of the published dataset; enough to learn from, and collected in seconds."""
UPDATES = 20_000
EVALUATIONS, EVALUATION_EPISODES = 10, 10
"""The number of evaluations, enough for curves, and of episodes in each, few because early ones are long."""

_WORKDIR = absl_flags.DEFINE_string("workdir", "runs/demo", "Folder for the results.")
_DATA_DIR = absl_flags.DEFINE_string("data_dir", str(data.DEFAULT_DATA_DIR), "Folder of datasets.")


def find_data(data_dir: pathlib.Path) -> pathlib.Path:
    """The folder of the dataset: the published one if possible, otherwise one that is collected here."""
    folder = data_dir / "demo"
    if (folder / f"{DATASET}-v0.npz").exists():
        return folder
    try:
        data.load(f"{DATASET}-v0", data_dir)
        return data_dir
    except InputError as error:
        print(f"The published dataset cannot be downloaded: {error.__cause__ or error}.")
    print(f"Collecting {EPISODES} episodes with OGBench's oracle instead.")
    collection.collect(f"{DATASET}-v0", folder, episodes=EPISODES, val_episodes=EPISODES // 10)
    return folder


def main(argv: list[str]) -> None:
    """Gets the data, trains, evaluates, and prints the result and the paths of the pictures."""
    del argv
    config, make_agent = flags.load_agent("iql:pointmaze")
    outputs.make_folder(_WORKDIR.value)  # fails before collecting takes time
    folder = find_data(local_path("data_dir", _DATA_DIR.value))
    if not (local_path("workdir", _WORKDIR.value) / "result.json").exists():
        print(f"{UPDATES:,} updates follow.")
    settings = {
        "dataset": f"{DATASET}-singletask-v0",
        "data_dir": str(folder),
        "steps": UPDATES,
        "eval_every": UPDATES // EVALUATIONS,
        "eval_episodes": EVALUATION_EPISODES,
        "workdir": _WORKDIR.value,
    }
    train.main((configuration.override(config, settings), make_agent))
    print(
        f"Pictures: {_WORKDIR.value}/maze.png (value function and evaluation episodes) "
        f"and {_WORKDIR.value}/curves.png"
    )


if __name__ == "__main__":
    flags.run(main, flags.parse_flags)
