"""A dataset made from arrays in memory, checked as the readers of files check theirs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from valuelab import observation_parts
from valuelab.arrays import cast
from valuelab.data import storage
from valuelab.data.validation import check_lengths, check_transitions, validate
from valuelab.errors import InputError
from valuelab.types import Dataset


def make_dataset(
    *,
    observations: Any,
    actions: Any,
    rewards: Any = None,
    terminations: Any = None,
    truncations: Any = None,
    masks: Any = None,
    episode_ends: Any = None,
    next_observations: Any = None,
    num_actions: int = 0,
    action_low: Any = -1.0,
    action_high: Any = 1.0,
    clip_actions: bool = False,
    goal_conditioned: bool = False,
    name: str = "arrays",
) -> Dataset:
    """Makes a dataset from arrays of N rows in time order, episode after episode.

    Each row is a step: an observation, the action taken there, and the reward for it. The arrays may have
    gymnasium's names (`terminations`, `truncations`), or OGBench's (`masks`, and its `terminals` as
    `episode_ends`). D4RL's `terminals` are `terminations`, and its `timeouts` are `truncations`.

    Without `next_observations` the successor of a row is the next row of its episode. The last row of an
    episode has no such successor. It is kept where the episode truly ended, since a mask of 0 hides the
    successor. It is dropped where the episode was cut, since its value would need the successor.

    Args:
        observations: [N, ...] numbers. uint8 stays uint8 (images), all else becomes float32. Or a dictionary
            of images [N, H, W, C] and vectors [N, k] by name: agents see the same dictionary. Vectors alone
            are joined into one vector.
        actions: [N, A] numbers, or [N] whole numbers where actions are discrete.
        rewards: [N] numbers; may be left out where the dataset is goal-conditioned.
        terminations: [N], whether the episode truly ended with this step. Give these or `masks`.
        truncations: [N], whether the episode was cut after this step, such as by a time limit.
        masks: [N], 1 - terminations. Give these together with `episode_ends`.
        episode_ends: [N], whether this row is the last of its episode, for whatever reason; by default
            terminations or truncations.
        next_observations: [N, ...] or a dictionary, the successors of the observations.
        num_actions: number of discrete actions; 0 for continuous ones.
        action_low: lower bound of continuous actions, a number or [A].
        action_high: upper bound, likewise.
        clip_actions: whether actions out of bounds are clipped, with a warning, instead of refused.
        goal_conditioned: whether goals, rewards and masks are made when the dataset is sampled.
        name: name of the dataset, in messages and results.

    Returns:
        A validated dataset in full storage. Arrays that have the right dtype are not copied.

    Raises:
        InputError: for an array that is missing, ragged, of the wrong kind or not finite; actions out of
            bounds; a last row that ends no episode. The message names the array and the first row at fault.

    Example:
        >>> import valuelab as vl
        >>> dataset = vl.make_dataset(
        ...     observations=[[0.0], [1.0], [2.0], [0.0]],
        ...     actions=[[1.0], [1.0], [0.5], [-1.0]],
        ...     rewards=[0, 0, 1, 0],
        ...     terminations=[0, 0, 1, 0],
        ...     truncations=[0, 0, 0, 1],
        ... )
        >>> dataset.next_observations[:, 0].tolist()
        [1.0, 2.0, 2.0]
        >>> dataset.masks.tolist()
        [1.0, 1.0, 0.0]
    """
    where = f"dataset {name!r}"
    if not name:
        raise InputError("name is empty: give the dataset a name, such as name='my_robot'")

    def array(key: str, value: Any, dtype: Any) -> np.ndarray:
        found = np.asarray(value)
        if found.ndim == 0:
            raise InputError(f"{where}: {key} is a single value: give an array with a row for each step")
        return cast(key, found, dtype, where)

    parts: observation_parts.Parts = ()
    if isinstance(observations, Mapping):
        names = tuple(map(str, observations))
        observations, parts = observation_parts.join(observations, where)
        if not parts and len(names) > 1:
            observation_parts.say_joined(where, observations.shape[1], names)
        if next_observations is not None:
            if not isinstance(next_observations, Mapping):
                raise InputError(
                    f"{where}: observations is a dictionary, but next_observations is not: give one"
                )
            next_observations, next_parts = observation_parts.join(next_observations, f"{where}: next")
            if next_parts != parts:
                raise InputError(
                    f"{where}: next_observations has the parts {_described(next_parts)}, but observations "
                    f"has {_described(parts)}: give the same"
                )
    seen = np.asarray(observations)
    pixels = np.uint8 if seen.dtype == np.uint8 else np.float32
    given: dict[str, np.ndarray] = {
        "observations": array("observations", seen, pixels),
        "actions": array("actions", actions, np.int32 if num_actions else np.float32),
    }
    flags = {"terminations": terminations, "truncations": truncations, "episode_ends": episode_ends}
    given |= {key: array(key, value, bool) for key, value in flags.items() if value is not None}
    numbers = {"rewards": rewards, "masks": masks}
    given |= {key: array(key, value, np.float32) for key, value in numbers.items() if value is not None}
    if next_observations is not None:
        given["next_observations"] = array("next_observations", next_observations, pixels)
    check_lengths(given, where)
    for key in flags:
        if key in given and given[key].ndim != 1:
            raise InputError(f"{where}: {key} has shape {given[key].shape}; give one number a row, [N]")

    if not num_actions and given["actions"].ndim == 1:
        raise InputError(
            f"{where}: actions has shape {given['actions'].shape}; give num_actions where actions are "
            "discrete, or [N, 1] where they are continuous"
        )
    rows = len(given["observations"])
    given = _with_masks(given, goal_conditioned, where)
    ends = given.get("episode_ends")
    if ends is None:
        ends = given["terminations"] | given.get("truncations", np.zeros(rows, bool))
    if not ends[-1]:
        raise InputError(
            f"{where}: its last row {rows - 1} ends no episode; "
            "mark it in truncations (or in episode_ends) if the episode was cut there"
        )
    size = () if num_actions else given["actions"].shape[1:]
    low, high = (
        np.zeros(0, np.float32)
        if num_actions
        else np.array(np.broadcast_to(_bound(key, value, size, where), size))
        for key, value in (("action_low", action_low), ("action_high", action_high))
    )
    dataset = Dataset(
        name=name,
        observations=given["observations"],
        actions=given["actions"],
        rewards=given["rewards"],
        masks=given["masks"],
        terminals=ends,
        next_observations=given.get("next_observations"),
        action_low=low,
        action_high=high,
        num_actions=num_actions,
        goal_conditioned=goal_conditioned,
        observation_parts=parts,
    )
    dataset = validate(dataset, where, clip_actions)
    if dataset.next_observations is not None:
        return dataset
    has_final = ends & (dataset.masks == 0)
    dataset = storage.with_final_rows(dataset, has_final, dataset.observations[has_final])
    check_transitions(dataset, where)
    return storage.full(dataset)


def _with_masks(given: dict[str, np.ndarray], goal_conditioned: bool, where: str) -> dict[str, np.ndarray]:
    """The arrays with rewards, masks and either terminations or episode_ends, or an error that names one."""
    rows = len(given["observations"])
    if goal_conditioned:  # both are made when the dataset is sampled
        made = {"rewards": np.zeros(rows, np.float32), "masks": np.ones(rows, np.float32)}
        if "episode_ends" not in given:
            made["terminations"] = np.zeros(rows, bool)
        return made | given
    if "rewards" not in given:
        raise InputError(f"{where}: rewards is missing: give [N] numbers, or goal_conditioned=True")
    if ("masks" in given) == ("terminations" in given):
        found = "both" if "masks" in given else "neither"
        raise InputError(
            f"{where}: {found} of terminations and masks is given; give one of them (masks are "
            "1 - terminations)"
        )
    if "masks" in given and "episode_ends" not in given:
        raise InputError(f"{where}: masks do not say where episodes end: give episode_ends, too")
    if "masks" not in given:
        given = given | {"masks": 1 - given["terminations"].astype(np.float32)}
    return given


def _described(parts: observation_parts.Parts) -> str:
    return ", ".join(f"{part.name} {observation_parts.described(part)}" for part in parts) or "of one vector"


def _bound(key: str, value: Any, size: tuple[int, ...], where: str) -> np.ndarray:
    """A bound of actions as float32: one number for all dimensions, or a number for each."""
    bound = np.asarray(value, np.float32)
    if bound.shape not in ((), size):
        raise InputError(f"{where}: {key} has shape {bound.shape}; give a number, or one for each of {size}")
    return bound
