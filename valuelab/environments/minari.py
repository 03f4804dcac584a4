"""Minari: the environment that a local dataset was recorded in."""

import functools
from pathlib import Path
from typing import Any

from valuelab import errors, types
from valuelab.environments import gymnasium as plain


def make(dataset_id: str, data_dir: Path) -> types.Environment:
    """The evaluation environment of a Minari dataset, with observations as in its data.

    Args:
        dataset_id: such as "mujoco/hopper/expert-v0".
        data_dir: the folder that holds minari/, where the dataset must lie.

    Returns:
        The environment; its metric is "normalized_score", 100 (return - min) / (max - min), where the
        dataset holds reference scores, and "return" otherwise.

    Raises:
        InputError: when the dataset is not there, or its reference scores are none.
    """
    minari = errors.require("minari", "data")
    errors.require("gymnasium", "environments")
    path = data_dir / "minari" / dataset_id / "data"
    if not path.is_dir():
        raise errors.InputError(
            f"no Minari dataset {path}, which would say what its environment is: fetch it with "
            f"MINARI_DATASETS_PATH={data_dir / 'minari'} minari download {dataset_id}"
        )
    try:
        dataset = minari.MinariDataset(path)
        metadata = dataset.storage.metadata
    except Exception as error:  # what is missing in metadata fails in many ways
        raise errors.InputError(
            f"{path} cannot be opened ({errors.told(error)}): correct metadata.json, or fetch it anew"
        ) from error
    low, high = (metadata.get(key) for key in ("ref_min_score", "ref_max_score"))
    normalized = low is not None and high is not None
    if normalized and not low < high:
        raise errors.InputError(
            f"{path / 'metadata.json'}: ref_min_score is {low} and ref_max_score {high}, and scores are "
            "normalised by their difference, which must be positive: correct them, or take both out"
        )

    def score(episode_return: float, success: bool) -> float:
        return 100 * (episode_return - low) / (high - low) if normalized else episode_return

    return types.Environment(
        name=dataset_id,
        make=functools.partial(_recover, dataset, path, metadata.get("requirements", [])),
        tasks={"default": None},
        metric="normalized_score" if normalized else "return",
        score=score,
    )


def _recover(dataset: Any, path: Path, requirements: list[str]) -> Any:
    """A new gymnasium.Env of those that a dataset's metadata describe."""
    needs = f" (which needs {', '.join(requirements)})" if requirements else ""
    return plain.created(
        f"the environment of {path}{needs}", functools.partial(dataset.recover_environment, eval_env=True)
    )
