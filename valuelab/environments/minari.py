"""Minari: the environment that a local dataset was recorded in."""

from typing import Any

from valuelab import errors, types


def make(dataset_id: str) -> types.Environment:
    """The evaluation environment of a Minari dataset.

    Args:
        dataset_id: such as "mujoco/hopper/expert-v0"; the dataset must lie in Minari's local folder.

    Returns:
        The environment; its metric is "normalized_score", 100 (return - min) / (max - min), where the
        dataset holds reference scores, and "return" otherwise.

    Raises:
        InputError: when the dataset is not there.
    """
    minari = errors.require("minari", "data")
    errors.require("gymnasium", "environments")
    try:
        dataset = minari.load_dataset(dataset_id)
    except (FileNotFoundError, ValueError) as error:
        raise errors.InputError(
            f"minari dataset {dataset_id!r} cannot be opened ({error}); fetch it with: "
            f"minari download {dataset_id}"
        ) from error
    low, high = (dataset.storage.metadata.get(key) for key in ("ref_min_score", "ref_max_score"))
    normalized = low is not None and high is not None

    def score(episode_return: float, success: bool) -> float:
        return 100 * (episode_return - low) / (high - low) if normalized else episode_return

    return types.Environment(
        name=dataset_id,
        make=lambda: _flat(dataset.recover_environment(eval_env=True, render_mode="rgb_array")),
        tasks={"default": None},
        metric="normalized_score" if normalized else "return",
        score=score,
    )


def _flat(environment: Any) -> Any:
    """Lays the entries of dictionary observations end to end, in gymnasium's order."""
    gymnasium = errors.require("gymnasium", "environments")
    if isinstance(environment.observation_space, gymnasium.spaces.Dict):
        return gymnasium.wrappers.FlattenObservation(environment)
    return environment
