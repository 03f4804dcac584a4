"""The names of D4RL's datasets, and of datasets converted from them."""

import re

SUFFIXES = (".hdf5", ".h5")
"""The suffixes of HDF5 files."""

_PREPARED = re.compile(r"rlds/d4rl_(?:mujoco_|adroit_)?([a-z0-9]+)/([^/]+)(?:/.*)?")
"""Names of TensorFlow Datasets, such as rlds/d4rl_mujoco_hopper/v2-medium: task and configuration."""


def original_name(dataset: str) -> str:
    """The name of a dataset before it was converted to RLDS.

    Args:
        dataset: the name of a dataset, such as "rlds/d4rl/pen-human-v1", or "rlds/d4rl_adroit_pen/v1-human"
            of TensorFlow Datasets.

    Returns:
        The original name, such as "d4rl/pen-human-v1"; other names unchanged.
    """
    if not (match := _PREPARED.fullmatch(dataset)):
        return dataset.removeprefix("rlds/")
    task, configuration = match.groups()
    kind = re.sub(r"^(v\d)-(.+)$", r"\2-\1", configuration).replace("mixed", "medium-replay")
    return f"d4rl/{task}-{kind}"


def _files() -> dict[str, str]:
    """The contents of FILES."""
    files = {}
    for agent in ("halfcheetah", "hopper", "walker2d", "ant"):
        for kind in ("random", "medium", "expert", "medium-replay", "medium-expert"):
            old = f"{agent}_{kind}".replace("medium-replay", "mixed").replace("-", "_")
            files[f"{agent}-{kind}-v0"] = f"gym_mujoco/{old.replace('walker2d_mixed', 'walker_mixed')}"
        for kind in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            for version in ("v1", "v2"):
                stem = f"{agent}_{kind.replace('-', '_')}-{version}"
                files[f"{agent}-{kind}-{version}"] = f"gym_mujoco_{version}/{stem}"
    for maze, layout, many_starts, many_goals in (
        ("umaze", "u-maze", False, False),
        ("umaze-diverse", "u-maze", True, True),
        ("medium-play", "big-maze", True, False),
        ("medium-diverse", "big-maze", True, True),
        ("large-play", "hardest-maze", True, False),
        ("large-diverse", "hardest-maze", True, True),
    ):
        stem = f"Ant_maze_{layout}_noisy_multistart_{many_starts}_multigoal_{many_goals}_sparse"
        files[f"antmaze-{maze}-v0"] = f"ant_maze_new/{stem}"
        files[f"antmaze-{maze}-v2"] = f"ant_maze_v2/{stem}_fixed"
    files["maze2d-open-v0"] = "maze2d/maze2d-open-sparse"
    files["maze2d-open-dense-v0"] = "maze2d/maze2d-open-dense"
    for maze in ("umaze", "medium", "large"):
        files[f"maze2d-{maze}-v1"] = f"maze2d/maze2d-{maze}-sparse-v1"
        files[f"maze2d-{maze}-dense-v1"] = f"maze2d/maze2d-{maze}-dense-v1"
    for task in ("pen", "hammer", "door", "relocate"):
        files[f"{task}-human-v0"] = f"hand_dapg/{task}-v0_demos_clipped"
        files[f"{task}-cloned-v0"] = f"hand_dapg/{task}-demos-v0-bc-combined"
        files[f"{task}-expert-v0"] = f"hand_dapg/{task}-v0_expert_clipped"
        for kind in ("human", "cloned", "expert"):
            files[f"{task}-{kind}-v1"] = f"hand_dapg_v1/{task}-{kind}-v1"
    files["kitchen-complete-v0"] = "kitchen/mini_kitchen_microwave_kettle_light_slider-v0"
    files["kitchen-partial-v0"] = "kitchen/kitchen_microwave_kettle_light_slider-v0"
    files["kitchen-mixed-v0"] = "kitchen/kitchen_microwave_kettle_bottomburner_light-v0"
    return files


FILES = _files()
"""The datasets that D4RL publishes: name -> path of the file without its suffix."""
