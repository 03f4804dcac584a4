"""Datasets made from arrays in memory, checked as the readers of files check theirs."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging

from valuelab import observation_parts
from valuelab.arrays import cast
from valuelab.data import storage
from valuelab.data.validation import check_lengths, check_transitions, validate
from valuelab.errors import InputError
from valuelab.types import Dataset

_FLAGS = ("terminations", "truncations", "episode_ends")
_EQUAL_ROWS = "give one row for each step"
_DTYPES = dict.fromkeys(_FLAGS, bool) | {"rewards": np.float32, "masks": np.float32}


def dataset_from_arrays(
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
    action_bounds: Any = (-1.0, 1.0),
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
        action_bounds: lower and upper bound of continuous actions, each a number or [A].
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
        >>> dataset = vl.dataset_from_arrays(
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
    where = _place(name)
    given, parts = converted(
        {
            "observations": observations,
            "actions": actions,
            "terminations": terminations,
            "truncations": truncations,
            "episode_ends": episode_ends,
            "rewards": rewards,
            "masks": masks,
            "next_observations": next_observations,
        },
        num_actions,
        where,
    )
    check_lengths(given, where, _EQUAL_ROWS)
    rows = len(given["observations"])
    given = with_masks(given, goal_conditioned, where)
    ends = given.get("episode_ends")
    if ends is None:
        ends = given["terminations"] | given.get("truncations", np.zeros(rows, bool))
    if not ends[-1]:
        raise InputError(
            f"{where}: its last row {rows - 1} ends no episode; "
            "mark it in truncations (or in episode_ends) if the episode was cut there"
        )
    dataset = Dataset(
        name=name,
        observations=given["observations"],
        actions=given["actions"],
        rewards=given["rewards"],
        masks=given["masks"],
        terminals=ends,
        next_observations=given.get("next_observations"),
        goal_conditioned=goal_conditioned,
        observation_parts=parts,
        observation_entries=_joined_entries(observations, parts),
        **action_facts(given["actions"], num_actions, action_bounds, where),
    )
    dataset = validate(dataset, where, clip_actions)
    _warn_of_images(dataset, where)
    if dataset.next_observations is not None:
        return dataset
    has_final = ends & (dataset.masks == 0)
    dataset = storage.with_final_rows(dataset, has_final, dataset.observations[has_final])
    check_transitions(dataset, where)
    return storage.full(dataset)


def dataset_from_episodes(
    episodes: Iterable[Any],
    *,
    action_bounds: Any = (-1.0, 1.0),
    num_actions: int = 0,
    clip_actions: bool = False,
    goal_conditioned: bool = False,
    compact: bool = False,
    name: str = "episodes",
) -> Dataset:
    """Makes a dataset from episodes, such as the logs of a robot.

    An episode of T steps is a mapping, or an object with attributes:

    - `observations`: [T + 1, ...], or a dictionary of such arrays as for `dataset_from_arrays`. The last one
      follows the last action. If that one is missing, [T, ...], the last step is kept where the episode
      truly ended, since a mask of 0 hides its successor, and dropped where the episode was cut.
    - `actions`: [T, A] numbers, or [T] whole numbers where actions are discrete.
    - `rewards`: [T] numbers; may be left out where the dataset is goal-conditioned.
    - `terminated`: whether the last step truly ended the episode: True for success or failure, False for a
      time limit or a log that was cut. Or `terminations`: [T], as gymnasium gives them. Or `masks`: [T],
      which may be 0 at earlier steps too, where the log goes on after the task is done. May be left out
      where the dataset is goal-conditioned.

    Other entries are not read. The episodes of `minari.MinariDataset.iterate_episodes` have these attributes.

    Args:
        episodes: the episodes, read one by one.
        action_bounds: as for `dataset_from_arrays`, like the next three.
        num_actions: number of discrete actions; 0 for continuous ones.
        clip_actions: whether actions out of bounds are clipped, with a warning, instead of refused.
        goal_conditioned: whether goals, rewards and masks are made when the dataset is sampled.
        compact: whether to store each observation once (half the memory), as for `load_dataset`.
        name: name of the dataset, in messages and results.

    Returns:
        A validated dataset.

    Raises:
        InputError: as for `dataset_from_arrays`. The message names the episode, the array and the first row
            at fault.

    Example:
        >>> import valuelab as vl
        >>> dataset = vl.dataset_from_episodes(
        ...     [
        ...         {
        ...             "observations": [[0.0], [1.0], [2.0]],
        ...             "actions": [[1.0], [0.5]],
        ...             "rewards": [0, 1],
        ...             "terminated": True,
        ...         }
        ...     ]
        ... )
        >>> dataset.next_observations[:, 0].tolist()
        [1.0, 2.0]
        >>> dataset.masks.tolist()
        [1.0, 0.0]
    """
    where = _place(name)
    facts: dict[str, Any] = {"num_actions": num_actions, "goal_conditioned": goal_conditioned}

    def checked() -> Iterator[dict[str, np.ndarray]]:
        first: tuple[str, ...] = ()
        for number, episode in enumerate(episodes):
            place = f"{where}: episode {number}"
            names = observation_parts.names_of(_entry(episode, "observations"))
            first = first if number else names
            rows, parts = _rows(episode, num_actions, goal_conditioned, place, where, first)
            if bool(names) != bool(first):
                raise InputError(
                    f"{place}: observations of one episode are a dictionary, but of another an array: give "
                    "the same"
                )
            facts.setdefault("observation_entries", _joined_entries(_entry(episode, "observations"), parts))
            known = facts.setdefault("observation_parts", parts)
            if parts != known:
                raise InputError(
                    f"{place}: observations has the parts {_described(parts)}, but the first episode has "
                    f"{_described(known)}: give the same"
                )
            facts.update(action_facts(rows["actions"], num_actions, action_bounds, where))
            ends = np.arange(len(rows["masks"])) == len(rows["masks"]) - 1
            alone = Dataset(name=name, terminals=ends, valid=~ends, **rows, **facts)
            if clip_actions and not num_actions:  # the whole dataset is clipped below, with one warning
                within = np.clip(alone.actions, alone.action_low, alone.action_high)
                alone = dataclasses.replace(alone, actions=within)
            validate(alone, place)
            yield rows

    dataset = dataclasses.replace(storage.from_episodes(name, checked(), where), **facts)
    dataset = validate(dataset, where, clip_actions)
    _warn_of_images(dataset, where)
    return dataset if compact else storage.full(dataset)


def _entry(episode: Any, key: str) -> Any:
    """An entry of an episode, which is a mapping or has attributes; None where it is missing."""
    return episode.get(key) if isinstance(episode, Mapping) else getattr(episode, key, None)


def _rows(
    episode: Any,
    num_actions: int,
    goal_conditioned: bool,
    where: str,
    dataset: str,
    order: tuple[str, ...],
) -> tuple[dict[str, Any], observation_parts.Parts]:
    """An episode in compact storage: observations, actions, rewards and masks of T + 1 rows; and the parts.

    It has T rows if the final observation is missing and the episode was cut. `order` as in `converted`.
    """
    keys = ("observations", "actions", "rewards", "terminations", "masks", "terminated")
    is_mapping = isinstance(episode, Mapping)
    given = {key: _entry(episode, key) for key in keys}
    for key in keys[:2]:
        if given[key] is None:
            entries = ", ".join(map(str, episode)) if is_mapping else f"a {type(episode).__name__}"
            raise InputError(f"{where}: {key} is missing; the episode is {entries or 'empty'}: give {key}")
    terminated = given.pop("terminated")
    arrays, parts = converted(given, num_actions, where, dataset, order)
    observations = arrays.pop("observations")
    steps = len(arrays["actions"])
    if not steps:
        raise InputError(f"{where}: actions has no rows: leave out the episode")
    check_lengths(arrays, where, _EQUAL_ROWS)
    if len(observations) not in (steps, steps + 1):
        raise InputError(
            f"{where}: observations has {len(observations)} rows, but actions has {steps}: give {steps + 1} "
            "observations, the last one after the last action"
        )
    if terminated is not None:
        if arrays.keys() & {"terminations", "masks"} or np.ndim(terminated) or terminated not in (0, 1):
            raise InputError(
                f"{where}: terminated is {terminated}: give True or False, or terminations of {steps} rows "
                "instead"
            )
        arrays["terminations"] = (np.arange(steps) == steps - 1) & bool(terminated)
    elif not arrays.keys() & {"terminations", "masks"} and not goal_conditioned:
        raise InputError(
            f"{where}: terminated is missing: give True if the last step truly ended the episode, False if a "
            "time limit or the log cut it"
        )
    early = np.flatnonzero(arrays.get("terminations", np.zeros(0, bool))[:-1])
    if len(early):
        raise InputError(
            f"{where}: terminations is 1 at row {early[0]}, but the episode has {steps} rows: end it there"
        )
    ends = np.arange(steps) == steps - 1
    arrays = with_masks(arrays | {"episode_ends": ends}, goal_conditioned, where)
    if len(observations) == steps == 1 and arrays["masks"][0] != 0:
        raise InputError(
            f"{where}: its only step was cut, and the observation after it is missing: leave out the episode"
        )
    if len(observations) == steps and arrays["masks"][-1] == 0:
        observations = np.concatenate([observations, observations[-1:]])
    rows = {key: arrays[key] for key in ("actions", "rewards", "masks")}
    if len(observations) > steps:  # no action follows the final observation: its row repeats the last one
        rows = {key: np.concatenate([array, array[-1:]]) for key, array in rows.items()}
    return {"observations": observations, **rows}, parts


def _place(name: str) -> str:
    """The name of a dataset in messages."""
    if not name:
        raise InputError("name is empty: give the dataset a name, such as name='my_robot'")
    return f"dataset {name!r}"


def converted(
    given: Mapping[str, Any],
    num_actions: int,
    where: str,
    dataset: str = "",
    order: tuple[str, ...] = (),
) -> tuple[dict[str, np.ndarray], observation_parts.Parts]:
    """Arrays with rows leading, in the dtypes of datasets.

    Args:
        given: arrays by the names of `dataset_from_arrays`; None for an array that is not given.
        num_actions: number of discrete actions; 0 for continuous ones.
        where: the dataset or its episode, for messages.
        dataset: the dataset, if `where` is an episode.
        order: the names and the order of the entries of observations; empty for those of `observations`.

    Returns:
        The arrays, and the parts of the observations; see `observation_parts.join`.

    Raises:
        InputError: for an array of the wrong kind or shape.
    """
    arrays: dict[str, np.ndarray] = {}
    parts: dict[str, observation_parts.Parts] = {}
    is_mapping = isinstance(given["observations"], Mapping)
    order = order or observation_parts.names_of(given["observations"])
    for key, value in given.items():
        if value is None:
            continue
        if key in ("observations", "next_observations") and isinstance(value, Mapping) != is_mapping:
            raise InputError(
                f"{where}: one of observations and next_observations is a dictionary: give two or none"
            )
        if isinstance(value, Mapping):
            place = where if key == "observations" else f"{where}: next"
            arrays[key], parts[key] = observation_parts.join(value, place, order)
            if not parts[key] and len(order) > 1:
                observation_parts.say_joined(dataset or where, arrays[key].shape[1], order)
            continue
        try:
            arrays[key] = np.asarray(value)
        except ValueError as error:
            raise InputError(f"{where}: {key} is ragged ({error}): give rows of equal shapes") from error
        shape = arrays[key].shape
        if not shape:
            raise InputError(f"{where}: {key} is a single value: give an array with a row for each step")
        if key in _FLAGS and len(shape) != 1:
            raise InputError(f"{where}: {key} has shape {shape}; give one number a row, [N]")
    pixels = np.uint8 if arrays["observations"].dtype == np.uint8 else np.float32
    dtypes: dict[str, Any] = _DTYPES | {"observations": pixels, "next_observations": pixels}
    dtypes["actions"] = np.int32 if num_actions else np.float32
    arrays = {key: cast(key, array, dtypes[key], where) for key, array in arrays.items()}
    stated = parts.get("observations", ())
    if "next_observations" in arrays and parts.get("next_observations", ()) != stated:
        raise InputError(
            f"{where}: next_observations has the parts {_described(parts.get('next_observations', ()))}, but "
            f"observations has {_described(stated)}: give the same"
        )
    if not num_actions and arrays["actions"].ndim == 1:
        raise InputError(
            f"{where}: actions has shape {arrays['actions'].shape}; give num_actions where actions are "
            "discrete, or [N, 1] where they are continuous"
        )
    return arrays, stated


def with_masks(given: dict[str, np.ndarray], goal_conditioned: bool, where: str) -> dict[str, np.ndarray]:
    """The arrays with rewards, masks and either terminations or episode_ends.

    Args:
        given: what `converted` returns.
        goal_conditioned: whether rewards and masks are made when the dataset is sampled.
        where: the dataset, for messages.

    Raises:
        InputError: naming an array that is missing, or of which there are two.
    """
    rows = len(given["actions"])
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


def _warn_of_images(dataset: Dataset, where: str) -> None:
    """Warns about images whose channels seem to come first, and about pixels that are not bytes."""
    observations, parts = dataset.observations, dataset.observation_parts
    images = {f"observations[{part.name!r}]": part.name for part in parts if observation_parts.is_image(part)}
    if images:
        unpacked = observation_parts.unpack(observations, parts)
        arrays = {words: unpacked[name] for words, name in images.items()}
    else:
        arrays = {"observations": observations} if observations.ndim == 4 else {}
    for words, array in arrays.items():
        first, *others = array.shape[1:]
        if first < min(others):
            logging.warning(
                "%s: %s has images of shape %s, which are read as height, width, channels; if the channels "
                "come first, move them to the last axis",
                where,
                words,
                array.shape[1:],
            )
        if array.dtype != np.uint8 and (largest := array.max()) > 1:
            logging.warning(
                "%s: %s has images of numbers up to %.4g, and only images of uint8 are scaled to [0, 1]; "
                "convert pixels to uint8",
                where,
                words,
                largest,
            )


def _joined_entries(observations: Any, parts: observation_parts.Parts) -> tuple[str, ...]:
    """The names of a dictionary's entries if they were joined into vectors; empty for other observations."""
    names = observation_parts.names_of(observations)
    return names if len(names) > 1 and not parts else ()


def _described(parts: observation_parts.Parts) -> str:
    return ", ".join(f"{part.name} {observation_parts.described(part)}" for part in parts) or "of one vector"


def action_facts(actions: np.ndarray, num_actions: int, bounds: Any, where: str) -> dict[str, Any]:
    """The fields of Dataset that state the range of actions.

    Args:
        actions: [N, A], or [N] where actions are discrete.
        num_actions: number of discrete actions; 0 for continuous ones.
        bounds: lower and upper bound of continuous actions, each a number or [A].
        where: the dataset, for messages.

    Raises:
        InputError: for bounds of another shape.
    """
    if num_actions:
        return {"num_actions": num_actions}
    size = actions.shape[1:]
    try:
        low, high = bounds
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: action_bounds is {bounds}; give a pair, such as (-1, 1)") from error
    sides = [np.asarray(side) for side in (low, high)]
    for side in sides:
        if side.dtype.kind not in "fiub":
            raise InputError(f"{where}: action_bounds has a bound of {side.dtype}; give real numbers")
    with np.errstate(over="ignore"):  # `validate` refuses infinite bounds
        sides = [side.astype(np.float32) for side in sides]
    for side in sides:
        if side.shape not in ((), size):
            raise InputError(
                f"{where}: action_bounds has a bound of shape {side.shape}; give a number, or {size} numbers"
            )
    low, high = (np.array(np.broadcast_to(side, size)) for side in sides)
    if (low > high).any():
        raise InputError(
            f"{where}: action_bounds is {bounds}, but no action lies between them: give the lower bound first"
        )
    return {"action_low": low, "action_high": high}
