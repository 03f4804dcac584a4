"""Wraps an agent so that it sees normalised data, while everything outside stays in the data's own units.

The normalisation is inside the agent, so it applies alike to offline batches, to transitions collected online
and to acting, and nothing outside needs to undo it. Packed observations are unpacked here, and only here: the
agent sees a dictionary of arrays.
"""

from typing import Any

import jax
import numpy as np

from valuelab.errors import InputError, describe
from valuelab.observation_parts import Parts, unpack
from valuelab.types import Agent, Array, Augmented, Key, Metrics, Normalization, Transitions


def normalized(agent: Agent, normalization: Normalization, parts: Parts = ()) -> Agent:
    """Wraps an agent so that it sees observations, actions and rewards through a normalisation.

        o' = (o - mean) / std,   a' = 2 (a - low) / (high - low) - 1,   r' = scale · r + shift

    Args:
        agent: an agent that sees o', a' and r'.
        normalization: the maps; None stands for the identity.
        parts: the parts of packed observations, of which o' is a dictionary; empty for other observations.
            A dictionary that is unpacked already is taken, too.

    Returns:
        An agent whose inputs and actions are in the data's own units. Its values are in units of r'.

    Raises:
        InputError: when rewards are normalised and the agent has a memory, because its commands are in units
            of r; from `init`, when the agent does not take observations of several parts.
    """
    _, _, low, high, reward_scale, reward_shift = normalization

    if agent.memory and (reward_scale, reward_shift) != (1, 0):
        raise InputError(
            f"rewards are scaled by {reward_scale} and shifted by {reward_shift}, but this agent takes "
            "commands in the rewards' own units: leave rewards as they are (data.rewards none)"
        )

    def observe(observations: Any) -> Any:
        return _observe(normalization, parts, observations)

    def decode(actions: Array) -> Array:
        return actions if low is None or high is None else low[None] + (actions + 1) / 2 * (high - low)[None]

    def init(key: Key, example: Transitions) -> Any:
        try:
            return agent.init(key, normalize(example, normalization, parts))
        except Exception as error:  # networks of arrays fail in many ways when they get a dictionary
            if not parts or isinstance(error, InputError):
                raise
            names = ", ".join(part.name for part in parts)
            raise InputError(
                f"observations have the parts {names}, but this agent does not take a dictionary "
                f"({describe(error)}): build its networks with networks.encoders.with_encoder"
            ) from error

    def update(state: Any, batch: Transitions) -> tuple[Any, Metrics]:
        return agent.update(state, normalize(batch, normalization, parts))

    def act(state: Any, observations: Any, key: Key, temperature: Array | float) -> Array:
        return decode(agent.act(state, observe(observations), key, temperature))

    def value(state: Any, observations: Any) -> Array:
        return agent.value(state, observe(observations))

    memory = agent.memory
    if memory:
        draw, choose = memory.draw, memory.choose
        memory = memory._replace(
            draw=lambda state, observations, key: draw(state, observe(observations), key),
            choose=lambda state, observations, commands: choose(state, observe(observations), commands),
        )
    features = agent.features and (
        lambda state, observations: agent.features(state, observe(observations))  # type: ignore[misc]
    )

    def goal_scores(state: Any, observations: Any, actions: Array, goals: Any) -> Array:
        assert agent.goal_scores is not None
        return agent.goal_scores(
            state, observe(observations), _encode(normalization, actions), observe(goals)
        )

    return Agent(
        init=init,
        update=update,
        act=act,
        value=agent.value and value,
        memory=memory,
        features=features,
        infer_tasks=agent.infer_tasks,
        goal_tasks=agent.goal_tasks,
        renews_tasks=agent.renews_tasks,
        goal_scores=agent.goal_scores and goal_scores,
        checks=agent.checks,
    )


def normalize(batch: Transitions, normalization: Normalization, parts: Parts = ()) -> Transitions:
    """The batch as the agent sees it, with o', a' and r'; arguments as of `normalized`."""
    reward_scale, reward_shift = normalization.reward_scale, normalization.reward_shift

    def encode(actions: Array) -> Array:
        return _encode(normalization, actions)

    def observe(observations: Any) -> Any:
        return _observe(normalization, parts, observations)

    segments = batch.segments
    if segments is not None:
        observations = observe(segments.observations)
        segments = segments._replace(actions=encode(segments.actions), observations=observations)
    return Transitions(
        observations=observe(batch.observations),
        actions=encode(batch.actions),
        rewards=reward_scale * batch.rewards + reward_shift,
        masks=batch.masks,
        next_observations=observe(batch.next_observations),
        goals=observe(batch.goals),
        policy_goals=observe(batch.policy_goals),
        subgoals=observe(batch.subgoals),
        policy_subgoals=observe(batch.policy_subgoals),
        next_actions=None if batch.next_actions is None else encode(batch.next_actions),
        futures=observe(batch.futures),
        segments=segments,
    )


def _encode(normalization: Normalization, actions: Array) -> Array:
    """Actions [B, A], [B, H, A] or [B] as the agent sees them."""
    low, high = normalization.action_low, normalization.action_high
    if low is None or high is None:
        return actions
    return 2 * (actions - _expand(low, actions)) / _expand(high - low, actions) - 1


def _observe(normalization: Normalization, parts: Parts, observations: Any) -> Any:
    mean, std = normalization.observation_mean, normalization.observation_std
    if isinstance(observations, Augmented):
        return observations._replace(observations=_observe(normalization, parts, observations.observations))

    def see(given: Any) -> Any:
        seen = unpack(given, parts) if parts and not isinstance(given, dict) else given
        return seen if mean is None or std is None else jax.tree.map(_standardized, seen, mean, std)

    return jax.tree.map(see, observations, is_leaf=lambda node: isinstance(node, dict))


def _standardized(array: Array, mean: np.ndarray, std: np.ndarray) -> Array:
    return (array - _expand(mean, array)) / _expand(std, array)


def _expand(row: np.ndarray, array: Array) -> np.ndarray:
    """A row with leading axes of length 1, to broadcast over an array [B, ...] or [B, H, ...]."""
    return np.expand_dims(row, tuple(range(array.ndim - row.ndim)))
