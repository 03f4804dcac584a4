"""The interface of an agent: the types and bounds of its data, compared with those of an environment."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors, observation_parts, types
from valuelab.spaces import entries_of, parts_of

_TOLERANCE = 1e-5
"""The largest difference between bounds of actions that count as equal, due to rounding to float32."""


class Interface(NamedTuple):
    """Observations, actions, rewards and goals, in the units of the data or of the environment.

    Attributes:
        name: the dataset or the environment, for messages.
        spec: their shapes, dtypes and sizes.
        action_low: [A] float32 lower bounds; empty where actions are discrete.
        action_high: [A] float32 upper bounds, likewise.
    """

    name: str
    spec: types.Spec
    action_low: np.ndarray
    action_high: np.ndarray


def of_spaces(name: str, observation_space: Any, action_space: Any) -> Interface:
    """The interface of gymnasium's spaces.

    Args:
        name: the name, for messages.
        observation_space: the space of single observations.
        action_space: the space of single actions.

    Returns:
        The interface; its spec states infinite rewards, because spaces do not state their range.

    Raises:
        InputError: when observations are not arrays, or actions are neither vectors nor integers from 0.
    """
    spaces = errors.require("gymnasium.spaces", "environments")
    if not isinstance(observation_space, spaces.Box):
        raise errors.InputError(
            f"the observation space of {name} is {observation_space}, but must be a Box: use a wrapper"
        )
    discrete = isinstance(action_space, spaces.Discrete) and action_space.start == 0
    if not discrete and not (isinstance(action_space, spaces.Box) and len(action_space.shape) == 1):
        raise errors.InputError(
            f"the action space of {name} is {action_space}, but must be a Discrete from 0 or a "
            "one-dimensional Box: use a wrapper"
        )
    spec = types.Spec(
        observation_shape=observation_space.shape,
        observation_dtype="uint8" if observation_space.dtype == np.uint8 else "float32",
        action_dim=0 if discrete else action_space.shape[0],
        num_actions=int(action_space.n) if discrete else 0,
        reward_min=-np.inf,
        reward_max=np.inf,
        observation_parts=parts_of(observation_space),
        observation_entries=entries_of(observation_space),
    )
    bounds = () if discrete else (action_space.low, action_space.high)
    low, high = (bound.astype(np.float32) for bound in bounds or [np.zeros(0)] * 2)
    return Interface(name, spec, low, high)


def of_environment(environment: types.Environment, instance: Any) -> Interface:
    """The interface of an environment for evaluation.

    Args:
        environment: the environment.
        instance: an instance that its `make` has created.

    Raises:
        InputError: as for `of_spaces`.
    """
    facts = of_spaces(environment.name, instance.observation_space, instance.action_space)
    spec = dataclasses.replace(
        facts.spec, reward_dim=environment.reward_dim, goal_conditioned=environment.goal_conditioned
    )
    return facts._replace(spec=spec)


def of_data(name: str, spec: types.Spec, normalization: types.Normalization) -> Interface:
    """The interface of an agent's data.

    Args:
        name: the dataset.
        spec: the spec of the data as the agent sees them.
        normalization: how the agent sees them.
    """
    low, high = normalization.action_low, normalization.action_high
    if low is None or high is None:  # the bounds are [-1, 1], or actions are discrete
        high = np.ones(spec.action_dim, np.float32)
        low = -high
    return Interface(name, spec, low, high)


def check_alike(data: Interface, world: Interface | types.VectorEnvironment, remedy: str) -> None:
    """Refuses an environment with another interface than an agent's data.

    Args:
        data: the interface of the data.
        world: the environment, with observations joined as in the data.
        remedy: what the user can do, the end of the message.

    Raises:
        InputError: naming the first difference, with both values.
    """
    our_facts, their_facts = _facts(data.spec), _facts(world.spec)
    for kind in sorted(our_facts | their_facts, key=lambda kind: "[" not in kind):  # parts stand first
        ours, theirs = (facts.get(kind, "missing") for facts in (our_facts, their_facts))
        if ours != theirs:
            raise errors.InputError(
                f"{kind} of {data.name} are {ours}, but {theirs} in {world.name}: {remedy}"
            )
    our_order, their_order = data.spec.observation_entries, world.spec.observation_entries
    if our_order != their_order and sorted(our_order) == sorted(their_order):
        raise errors.InputError(
            f"the entries of observations of {data.name} are joined in the order {', '.join(our_order)}, but "
            f"in the order {', '.join(their_order)} in {world.name}: give the data in the same order, or "
            f"{remedy}"
        )
    for side, our_bounds, their_bounds in (
        ("lower", data.action_low, world.action_low),
        ("upper", data.action_high, world.action_high),
    ):
        # An environment without bounds accepts any action.
        differ = np.isfinite(their_bounds) & ~np.isclose(our_bounds, their_bounds, _TOLERANCE, _TOLERANCE)
        for index in np.flatnonzero(differ)[:1]:
            raise errors.InputError(
                f"the {side} bound of action {index} is {our_bounds[index]:g} in {data.name}, but "
                f"{their_bounds[index]:g} in {world.name}: {remedy}"
            )


def _facts(spec: types.Spec) -> dict[str, str]:
    """The properties that must be equal, as text, by name."""
    parts = {
        f"observations[{part.name!r}]": observation_parts.described(part) for part in spec.observation_parts
    }
    observations = f"{spec.observation_dtype}{list(spec.observation_shape)}"
    actions = f"{spec.num_actions} choices" if spec.discrete else f"float32[{spec.action_dim}]"
    rewards = "numbers" if spec.reward_dim == 1 else f"float32[{spec.reward_dim}]"
    return parts | {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "goals": observations if spec.goal_conditioned else "none",
    }
