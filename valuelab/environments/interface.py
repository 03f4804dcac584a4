"""What passes between an agent and a world: told of an environment, and compared with what it learns from."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors, types

_TOLERANCE = 1e-5
"""By which bounds of actions may differ: what rounding to float32 can do to them."""


class Interface(NamedTuple):
    """Observations, actions, rewards and goals, in the units of the data or of the environment.

    Attributes:
        name: of the dataset or the environment, in messages.
        spec: their shapes and numbers.
        action_low: [A] float32 lower bounds; empty where actions are discrete.
        action_high: [A] float32 upper bounds, likewise.
    """

    name: str
    spec: types.Spec
    action_low: np.ndarray
    action_high: np.ndarray


def of_spaces(name: str, observation_space: Any, action_space: Any) -> Interface:
    """What gymnasium's spaces tell.

    Args:
        name: in messages.
        observation_space: of single observations.
        action_space: of single actions.

    Returns:
        The interface; how large rewards can be is not told, so that its spec says infinite.

    Raises:
        InputError: when observations are no array, or actions neither a vector nor a number from 0 on.
    """
    spaces = errors.require("gymnasium.spaces", "environments")
    if not isinstance(observation_space, spaces.Box):
        raise errors.InputError(f"{name} observes {observation_space}; agents need an array, a Box")
    discrete = isinstance(action_space, spaces.Discrete) and action_space.start == 0
    if not discrete and not (isinstance(action_space, spaces.Box) and len(action_space.shape) == 1):
        raise errors.InputError(
            f"{name} acts in {action_space}; agents choose a number from 0 on (Discrete) or a vector (Box)"
        )
    spec = types.Spec(
        observation_shape=observation_space.shape,
        observation_dtype="uint8" if observation_space.dtype == np.uint8 else "float32",
        action_dim=0 if discrete else action_space.shape[0],
        num_actions=int(action_space.n) if discrete else 0,
        reward_min=-np.inf,
        reward_max=np.inf,
    )
    bounds = () if discrete else (action_space.low, action_space.high)
    low, high = (bound.astype(np.float32) for bound in bounds or [np.zeros(0)] * 2)
    return Interface(name, spec, low, high)


def of_environment(environment: types.Environment, instance: Any) -> Interface:
    """What an environment to evaluate in tells.

    Args:
        environment: the environment.
        instance: what its `make` has made.

    Raises:
        InputError: as of `of_spaces`.
    """
    facts = of_spaces(environment.name, instance.observation_space, instance.action_space)
    spec = dataclasses.replace(
        facts.spec, reward_dim=environment.reward_dim, goal_conditioned=environment.goal_conditioned
    )
    return facts._replace(spec=spec)


def of_data(name: str, spec: types.Spec, normalization: types.Normalization) -> Interface:
    """What an agent knows of its data.

    Args:
        name: of the dataset.
        spec: as the agent sees them.
        normalization: how it sees them.
    """
    low, high = normalization.action_low, normalization.action_high
    if low is None or high is None:  # they lie in [-1, 1], or are discrete
        high = np.ones(spec.action_dim, np.float32)
        low = -high
    return Interface(name, spec, low, high)


def check_alike(data: Interface, world: Interface | types.VectorEnvironment, remedy: str) -> None:
    """Refuses a world that an agent of this data cannot act in, or would act wrongly in without a word.

    Args:
        data: what it learns from.
        world: where it is to act, with observations joined as the data's are.
        remedy: what to do, which ends the message.

    Raises:
        InputError: naming both, and the first thing that differs.
    """
    for what, ours, theirs in zip(_NAMES, _facts(data.spec), _facts(world.spec), strict=True):
        if ours != theirs:
            raise errors.InputError(
                f"{what} of {data.name} are {ours}, and {theirs} in {world.name}: {remedy}"
            )
    for what, our_bounds, their_bounds in (
        ("lower", data.action_low, world.action_low),
        ("upper", data.action_high, world.action_high),
    ):
        # An environment without bounds takes any action as it is.
        differ = np.isfinite(their_bounds) & ~np.isclose(our_bounds, their_bounds, _TOLERANCE, _TOLERANCE)
        for index in np.flatnonzero(differ)[:1]:
            raise errors.InputError(
                f"{what} bounds of action {index} are {our_bounds[index]:g} in {data.name}, and "
                f"{their_bounds[index]:g} in {world.name}: {remedy}"
            )


_NAMES = ("observations", "actions", "rewards", "goals")


def _facts(spec: types.Spec) -> tuple[str, ...]:
    """What must be the same, in words: `_NAMES`."""
    observations = f"{spec.observation_dtype}{list(spec.observation_shape)}"
    actions = f"{spec.num_actions} choices" if spec.discrete else f"float32[{spec.action_dim}]"
    rewards = "numbers" if spec.reward_dim == 1 else f"float32[{spec.reward_dim}]"
    return observations, actions, rewards, observations if spec.goal_conditioned else "none"
