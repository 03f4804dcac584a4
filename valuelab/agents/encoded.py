"""Wraps an agent so that it sees encodings of observations by a trained encoder, which stays constant."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from valuelab.errors import InputError
from valuelab.types import Agent, Array, Key, Metrics, Transitions


class EncodedState(NamedTuple):
    """The state of a wrapped agent.

    Attributes:
        agent: the state of the agent itself.
        encoder: the parameters of the encoder, which never change.
    """

    agent: Any
    encoder: Any


def encoded(agent: Agent, encode: Callable[[Any, Array], Array], encoder: Any) -> Agent:
    """Wraps an agent so that it sees encodings in place of observations and goals.

    Args:
        agent: an agent of vectors [B, k].
        encode: (encoder, observations [B, ...]) -> encodings [B, k]; no gradient passes.
        encoder: the encoder's parameters, a pytree of arrays; kept in the state.

    Returns:
        An agent of observations. It provides no critic for diagnostics, because the critic takes encodings.

    Raises:
        InputError: when the agent has a memory.
    """
    if agent.memory:
        raise InputError("an agent with a memory cannot use encodings: choose one without, such as iql")

    def encode_observations(state: EncodedState, observations: Any) -> Any:
        return jax.tree.map(lambda part: encode(state.encoder, part), observations)

    def encode_batch(encoder: Any, batch: Transitions) -> Transitions:
        names = ("goals", "policy_goals", "subgoals", "policy_subgoals")
        encoded: dict[str, Any] = {
            name: None if (part := getattr(batch, name)) is None else encode(encoder, part) for name in names
        }
        return batch._replace(
            observations=encode(encoder, batch.observations),
            next_observations=encode(encoder, batch.next_observations),
            **encoded,
            futures=None,
            segments=None,
        )

    def init(key: Key, example: Transitions) -> EncodedState:
        return EncodedState(agent=agent.init(key, encode_batch(encoder, example)), encoder=encoder)

    def update(state: EncodedState, batch: Transitions) -> tuple[EncodedState, Metrics]:
        updated, metrics = agent.update(state.agent, encode_batch(state.encoder, batch))
        return state._replace(agent=updated), metrics

    def act(state: EncodedState, observations: Any, key: Key, temperature: Array | float) -> Array:
        return agent.act(state.agent, encode_observations(state, observations), key, temperature)

    def value(state: EncodedState, observations: Any) -> Array:
        return agent.value(state.agent, encode_observations(state, observations))

    return Agent(init=init, update=update, act=act, value=agent.value and value, checks=agent.checks)
