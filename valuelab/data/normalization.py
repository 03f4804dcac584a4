"""Normalisation of observations, actions and rewards, fitted to a dataset and recorded in config.json."""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from valuelab.configuration import Settings, setting
from valuelab.data import storage
from valuelab.domains.d4rl import SUFFIXES, original_name
from valuelab.errors import InputError, unknown
from valuelab.observation_parts import unpack
from valuelab.types import Dataset, Normalization, Spec

STD_FLOOR = 1e-3
"""The smallest standard deviation that observations are divided by; a common choice for D4RL."""

IDENTITY = Normalization()
"""Leaves the data unchanged."""

_CHUNK = 1 << 18
"""The number of values whose moments are computed at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizationConfig(Settings):
    """How an agent sees the numbers in the data."""

    normalize_observations: bool = setting(
        False,
        help="Shift and scale observations to mean 0 and standard deviation 1. Images are shifted by their "
        "mean image, and all pixels of a channel are scaled by one standard deviation.",
    )
    rewards: Literal["none", "d4rl_locomotion", "d4rl_antmaze"] = setting(
        "none", help="Rule by which rewards are normalised."
    )
    clip_actions: bool = setting(False, help="Clip actions out of bounds; otherwise they are refused.")
    observation_keys: tuple[str, ...] = setting(
        (),
        help="Arrays of observations to read from robomimic or LeRobot, such as "
        "observation.state,observation.images.top; empty for all.",
    )
    image_size: tuple[int, ...] = setting(
        (),
        "[1, inf)",
        "Height and width of the images of robomimic or LeRobot, which are made smaller by averaging; one "
        "number for both. Empty for the stored size.",
    )


_FAMILIES = {
    "d4rl_locomotion": r"d4rl/(d4rl_mujoco_)?(halfcheetah|hopper|walker2d|ant)\b",
    "d4rl_antmaze": r"d4rl/(d4rl_)?antmaze\b|minari/D4RL/antmaze/",
}


def d4rl_family(name: str) -> str:
    """The reward rule of the D4RL family that a dataset belongs to.

    Args:
        name: the name of the dataset, such as "d4rl/hopper-medium-v2", a path to a file with such a name, or
            the name of such a dataset after conversion to RLDS.

    Returns:
        The name of the reward rule; empty for all other datasets.
    """
    original = original_name(name)
    if original.endswith(SUFFIXES) or "/" not in original:  # a converted HDF5 file has no folder
        original = f"d4rl/{Path(original).stem}"
    return next((family for family, names in _FAMILIES.items() if re.match(names, original)), "")


def fit(dataset: Dataset, *, observations: bool, rewards: str) -> Normalization:
    """Fits a normalisation to a dataset.

    Observations: mean and standard deviation over all transitions; the standard deviation is at least
    `STD_FLOOR`. Images [H, W, C]: the mean image, which removes the static background, and one standard
    deviation per channel over all pixels, because that of a pixel that rarely changes is close to 0. Each of
    several parts has its own mean and standard deviation. Actions: from the dataset's bounds to [-1, 1]; None
    where the bounds are [-1, 1] already. Rewards, by rule:

    - "none": unchanged.
    - "d4rl_locomotion": times 1000 / (best return - worst return) over the dataset's trajectories, as in IQL
      (appendix B.2).
    - "d4rl_antmaze": minus 1, as in IQL: every step costs 1 until the goal is reached.

    Args:
        dataset: a dataset in either storage.
        observations: whether to normalise observations.
        rewards: the name of a rule.

    Returns:
        The normalisation.

    Raises:
        InputError: when the rule is unknown or does not fit the dataset.
    """
    if rewards not in REWARD_RULES:
        raise unknown("reward rule", rewards, REWARD_RULES)
    if dataset.goal_conditioned and rewards != "none":
        raise InputError(
            f"reward rule {rewards!r}: rewards of {dataset.name} come from goals; give --data.rewards=none, "
            "or a dataset with rewards"
        )
    mean, std = _moments(dataset) if observations else (None, None)
    scale, shift = REWARD_RULES[rewards](dataset)
    return of_actions(dataset.action_low, dataset.action_high)._replace(
        observation_mean=mean, observation_std=std, reward_scale=scale, reward_shift=shift
    )


def of_actions(low: np.ndarray, high: np.ndarray) -> Normalization:
    """A normalisation that maps actions to [-1, 1] and changes nothing else, for online learning.

    Args:
        low: [A] lower bounds, empty where actions are discrete.
        high: [A] upper bounds, likewise.

    Returns:
        The normalisation; the identity where the bounds are [-1, 1] already, or actions are discrete.
    """
    if np.all(low == -1) and np.all(high == 1):
        return IDENTITY
    return Normalization(action_low=low, action_high=high)


def of_frames(normalization: Normalization, num_frames: int) -> Normalization:
    """The normalisation of observations that are joined `num_frames` times along the last axis."""
    mean, std = jax.tree.map(
        lambda row: np.concatenate([row] * num_frames, axis=-1),
        (normalization.observation_mean, normalization.observation_std),
    )
    return normalization._replace(observation_mean=mean, observation_std=std)


def make_spec(
    dataset: Dataset,
    normalization: Normalization = IDENTITY,
    num_updates: int = 0,
    num_frames: int = 1,
    negative_rewards: bool = True,
) -> Spec:
    """The facts of a dataset that an agent may know.

    Args:
        dataset: a dataset in either storage. Sampling computes the rewards of a goal-conditioned dataset.
        normalization: how the agent sees the dataset.
        num_updates: length of the run in updates; 0 where unknown.
        num_frames: the number of observations that the agent sees joined along the last axis.
        negative_rewards: whether goal rewards are -1, and 0 at the goal, instead of 0, and 1 at the goal.

    Returns:
        The spec, with normalised rewards.
    """
    if dataset.goal_conditioned:
        low, high = (-1.0, 0.0) if negative_rewards else (0.0, 1.0)
    else:
        rewards = dataset.rewards if dataset.valid is None else dataset.rewards[dataset.valid]
        low, high = float(rewards.min()), float(rewards.max())
    scale, shift = normalization.reward_scale, normalization.reward_shift
    *lengths, size = dataset.observations.shape[1:]
    return Spec(
        observation_shape=(*lengths, size * num_frames),
        observation_dtype=str(dataset.observations.dtype),
        action_dim=0 if dataset.num_actions else dataset.actions.shape[-1],
        num_actions=dataset.num_actions,
        reward_min=scale * low + shift,
        reward_max=scale * high + shift,
        goal_conditioned=dataset.goal_conditioned,
        num_updates=num_updates,
        observation_parts=dataset.observation_parts,
        observation_entries=dataset.observation_entries,
    )


def to_json(normalization: Normalization) -> dict[str, Any]:
    """A normalisation as lists and numbers; `from_json` is the inverse."""
    fields = normalization._asdict()
    return jax.tree.map(lambda leaf: leaf.tolist() if isinstance(leaf, np.ndarray) else leaf, fields)


def from_json(fields: dict[str, Any]) -> Normalization:
    """The normalisation that `to_json` wrote."""
    values: Any = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float32) if isinstance(leaf, list) else leaf,
        fields,
        is_leaf=lambda leaf: isinstance(leaf, list),
    )
    return Normalization(**values)


def returns(dataset: Dataset, until_masked: bool = False) -> np.ndarray:
    """Undiscounted returns of a dataset's trajectories, in the data's own units.

    Args:
        dataset: a dataset in either storage.
        until_masked: whether to end a return at the first mask of 0, where an episode of the environment
            ends. Trajectories of D4RL's AntMaze continue after it.

    Returns:
        [E] float64, in time order.
    """
    rows = storage.transition_rows(dataset)
    rewards = dataset.rewards[rows].astype(np.float64)
    ends = np.unique(storage.trajectory_ends(dataset))
    if until_masked:
        masked = dataset.masks[rows] == 0
        before = np.cumsum(masked) - masked
        starts = np.concatenate([[0], ends[:-1] + 1])
        rewards[before > np.repeat(before[starts], ends + 1 - starts)] = 0
    return np.diff(np.cumsum(rewards)[ends], prepend=0.0)


def _moments(dataset: Dataset) -> tuple[Any, Any]:
    """Mean and floored standard deviation of the observations, as dictionaries where they have parts."""
    rows = storage.transition_rows(dataset)
    if not dataset.observation_parts:
        return _moments_of(lambda piece: dataset.observations[piece], rows)

    def read(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda piece: unpack(dataset.observations[piece], dataset.observation_parts)[name]

    moments = {part.name: _moments_of(read(part.name), rows) for part in dataset.observation_parts}
    return {name: mean for name, (mean, _) in moments.items()}, {
        name: std for name, (_, std) in moments.items()
    }


def _moments_of(read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and floored standard deviation of the observations that `read` gives for some rows.

    They are computed in pieces in double precision.
    """
    shape = read(rows[:1]).shape[1:]
    size = max(1, _CHUNK // math.prod(shape))
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    mean, variance = np.zeros(shape), np.zeros(shape)
    for piece in pieces:
        mean += read(piece).sum(axis=0, dtype=np.float64) / len(rows)
    for piece in pieces:
        variance += np.square(read(piece) - mean).sum(axis=0) / len(rows)
    if len(shape) == 3:
        variance = variance.mean(axis=(0, 1), keepdims=True)
    return mean.astype(np.float32), np.maximum(np.sqrt(variance), STD_FLOOR).astype(np.float32)


def _locomotion(dataset: Dataset) -> tuple[float, float]:
    """The scale and shift of rewards after which the returns of the dataset span 1000."""
    values = returns(dataset)
    span = float(values.max() - values.min())
    if span == 0:
        reason = "has one episode" if len(values) == 1 else f"has returns that are all {values[0]:g}"
        raise InputError(
            f"reward rule 'd4rl_locomotion' divides by the span of returns, and {dataset.name} {reason}; "
            "give --data.rewards=none"
        )
    return 1000.0 / span, 0.0


REWARD_RULES: dict[str, Callable[[Dataset], tuple[float, float]]] = {
    "none": lambda _: (1.0, 0.0),
    "d4rl_locomotion": _locomotion,
    "d4rl_antmaze": lambda _: (1.0, -1.0),
}
"""Name -> rule: (dataset) -> reward_scale, reward_shift."""
