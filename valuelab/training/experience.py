"""Sources of batches: a dataset, an environment in which the agent acts, or both.

The loop is the same for all. Before each update it calls `collect`, then `sample`. The state of collecting
(simulation, replay buffer, the agent's memory) is a pytree that the loop carries, saves and restores like the
state of the agent.
"""

import dataclasses
import fractions
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.observation_parts import unpack
from valuelab.training import replay as replays
from valuelab.types import (
    Agent,
    Array,
    Augmented,
    Key,
    Metrics,
    Outcomes,
    Sampler,
    Spec,
    Transitions,
    VectorEnvironment,
)

_BUFFER_STREAM = 0xB0FFE2
"""Differs from the small numbers with which samplers fold the key that they share with the buffer."""


class Experience(NamedTuple):
    """A source of batches.

    Attributes:
        arrays: host arrays that the loop places on the devices once, as in `Sampler`; () for none.
        batch_size: B.
        example: (arrays, key) -> Transitions [B], in the shapes of every batch.
        init: (arrays, agent, state, key) -> carry, any pytree of arrays; () for none.
        collect: (carry, agent, state, step, key) -> (carry, Metrics); called before update `step`.
        sample: (arrays, carry, key) -> Transitions [B].
        environment_steps: (number of updates) -> environment steps of one member until then.
        environment: the environment in which the agent acts; None for a dataset alone.
        host: the sampler whose batches the host gathers, see `training.feeding`; `sample` is then not called.
            None if batches come from `sample`.
    """

    arrays: Any
    batch_size: int
    example: Callable[[Any, Key], Transitions]
    init: Callable[[Any, Agent, Any, Key], Any]
    collect: Callable[[Any, Agent, Any, Array, Key], tuple[Any, Metrics]]
    sample: Callable[[Any, Any, Key], Transitions]
    environment_steps: Callable[[int], int]
    environment: VectorEnvironment | None = None
    host: Sampler | None = None

    @property
    def data(self) -> Any:
        """The arrays of the dataset from which batches come, on the host."""
        return self.host.arrays if self.host else self.arrays


def offline(sampler: Sampler, on_host: bool = False) -> Experience:
    """Batches of a dataset: collects nothing and carries nothing.

    Args:
        sampler: draws from the dataset.
        on_host: whether the dataset stays on the host, which then gathers the batches. They have the same
            bits.

    Returns:
        The experience.
    """
    if on_host:
        shapes = jax.eval_shape(sampler.sample, sampler.arrays, jax.random.key(0))

        def example(arrays: Any, key: Key) -> Transitions:
            del arrays, key
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        return offline(sampler)._replace(arrays=(), example=example, host=sampler)
    return Experience(
        arrays=sampler.arrays,
        batch_size=sampler.batch_size,
        example=sampler.sample,
        init=lambda arrays, agent, state, key: (),
        collect=lambda carry, agent, state, step, key: (carry, {}),
        sample=lambda arrays, carry, key: sampler.sample(arrays, key),
        environment_steps=lambda updates: 0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction(Settings):
    """How an agent meets its environment while it learns."""

    num_environments: int = setting(8, "[1, inf)", "Number of environments that step together.")
    processes: bool = setting(
        False,
        help="Step each environment in its own process, for slow simulators. The result is the same.",
        compare=False,
    )
    capacity: int = setting(100_000, "[1, inf)", "Number of steps that the replay buffer keeps.")
    warmup_steps: int = setting(
        1_000, "[1, inf)", "Number of steps before the first update that learns from them."
    )
    update_to_data: float = setting(
        0.0625, "[0.0001, 10000]", "Updates per environment step; 0.0625 is one update every 16 steps."
    )
    dataset_share: float | None = setting(
        None,
        "[0, 1]",
        "Share of each batch that comes from the dataset. None stands for the dataset's share of all "
        "transitions, as if the buffer had started from the dataset.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.num_environments * 2 <= self.warmup_steps <= self.capacity:
            raise InputError(
                f"warmup_steps is {self.warmup_steps}, but must be at least {2 * self.num_environments} (two "
                f"steps of each environment) and at most the capacity {self.capacity}"
            )


class Lanes(NamedTuple):
    """The state of acting in N environments.

    Attributes:
        simulation: the state of the environments.
        observations: [N, ...], the current observations.
        ended: [N] bool, whether the last step ended an episode, so that the next step begins another.
        memory: the agent's memory with leading axis N; () if it has none.
        returns: [N] or [N, m], undiscounted returns of the current episodes so far; NaN after an action, an
            observation or a reward that is not finite.
        lengths: [N] int32, numbers of steps of the current episodes.
        last_returns: like `returns`, of the last episode that ended in each environment; 0 before that.
        last_lengths: like `lengths`, of the same episodes.
    """

    simulation: Any
    observations: Array
    ended: Array
    memory: Any
    returns: Array
    lengths: Array
    last_returns: Array
    last_lengths: Array


def online(
    environment: VectorEnvironment, batch_size: int, interaction: Interaction, start: int = 0
) -> Experience:
    """Batches from a replay buffer that the agent fills while it learns.

    Args:
        environment: the environment; the agent acts in it with temperature 1.
        batch_size: B.
        interaction: how much it acts.
        start: the update before which it takes its first steps; the buffer is empty until then.

    Returns:
        Experience with carry (Lanes, Replay). Its metrics are means over environments of the return and the
        length of the last episode that ended: "online/return" ("online/return_0" and so on for vector
        rewards) and "online/length". Returns are NaN after an action, an observation or a reward that is not
        finite.

    Raises:
        InputError: when capacity or warmup is too small to draw a batch.
    """
    count = environment.num_environments
    num_rows, warmup = interaction.capacity // count, -(-interaction.warmup_steps // count)
    if min(num_rows, warmup) <= environment.frames:
        raise InputError(
            f"interaction.capacity {interaction.capacity} and interaction.warmup_steps "
            f"{interaction.warmup_steps} leave too few steps for each of {count} environments: "
            f"give more than {environment.frames * count} of both"
        )
    # Vector steps (one step in each of N environments) for each update.
    due = 1 / fractions.Fraction(interaction.update_to_data).limit_denominator(10_000) / count

    def steps_until(updates: Any) -> Any:
        """Vector steps taken before update number `updates`: warmup + floor(due · (updates - start))."""
        whole, rest = (updates - start) // due.denominator, (updates - start) % due.denominator
        taken = warmup + whole * due.numerator + rest * due.numerator // due.denominator
        return (updates > start) * taken

    def step(carry: tuple[Lanes, replays.Replay], agent: Agent, state: Any, key: Key):
        lanes, replay = carry
        act_key, draw_key = jax.random.split(key)
        inputs: Any = lanes.observations
        if agent.memory:
            inputs = Augmented(observations=inputs, memory=lanes.memory)
        actions = agent.act(state, inputs, act_key, 1.0)
        _check_actions(actions, environment)
        if not environment.spec.discrete:  # the buffer stores the actions that the environment takes
            actions = jnp.clip(actions, environment.action_low[None], environment.action_high[None])
        simulation, outcomes = environment.step(lanes.simulation, actions)
        row = replays.Row(
            observations=lanes.observations,
            actions=actions,
            rewards=outcomes.rewards,
            masks=1.0 - outcomes.terminated,
            valid=~lanes.ended,
        )
        replay = replays.insert(replay, row, environment.frames)
        memory = lanes.memory
        if agent.memory:
            drawn = agent.memory.draw(state, outcomes.observations, draw_key)
            kept = agent.memory.update(memory, outcomes.rewards)
            memory = jax.tree.map(lambda new, old: _where(lanes.ended, new, old), drawn, kept)
        parts, seen = environment.spec.observation_parts, outcomes.observations
        numbers = (actions, unpack(seen, parts) if parts else seen, outcomes.rewards)
        finite = functools.reduce(jnp.logical_and, map(_finite, jax.tree.leaves(numbers)))
        return _next_lanes(lanes, simulation, outcomes, memory, finite), replay

    def example(arrays: Any, key: Key) -> Transitions:
        del arrays, key
        return blank(environment.spec, batch_size)

    def init(arrays: Any, agent: Agent, state: Any, key: Key) -> tuple[Lanes, replays.Replay]:
        del arrays
        reset_key, draw_key = jax.random.split(key)
        simulation, observations = environment.reset(reset_key)
        rows = blank(environment.spec, count)
        lanes = Lanes(
            simulation=simulation,
            observations=observations,
            ended=jnp.zeros(count, bool),
            memory=agent.memory.draw(state, observations, draw_key) if agent.memory else (),
            returns=rows.rewards,
            lengths=jnp.zeros(count, jnp.int32),
            last_returns=rows.rewards,
            last_lengths=jnp.zeros(count, jnp.int32),
        )
        row = replays.Row(
            observations=rows.observations,
            actions=rows.actions,
            rewards=rows.rewards,
            masks=rows.masks,
            valid=lanes.ended,
        )
        return lanes, replays.empty(row, num_rows, environment.frames)

    def collect(carry: Any, agent: Agent, state: Any, update: Array, key: Key) -> tuple[Any, Metrics]:
        carry = jax.lax.fori_loop(
            0,
            steps_until(update + 1) - steps_until(update),
            lambda t, carry: step(carry, agent, state, jax.random.fold_in(key, t)),
            carry,
        )
        lanes = carry[0]
        means = jnp.mean(lanes.last_returns, axis=0)
        means = jnp.where(jnp.all(jnp.isfinite(lanes.returns)), means, jnp.nan)  # stops training
        returns = (
            {"online/return": means}
            if means.ndim == 0
            else {f"online/return_{index}": mean for index, mean in enumerate(means)}
        )
        return carry, returns | {"online/length": jnp.mean(lanes.last_lengths.astype(jnp.float32))}

    return Experience(
        arrays=(),
        batch_size=batch_size,
        example=example,
        init=init,
        collect=collect,
        sample=lambda arrays, carry, key: replays.sample(carry[1], key, batch_size, environment.frames),
        environment_steps=lambda updates: steps_until(updates) * count,
        environment=environment,
    )


def mixed(
    sampler: Sampler, environment: VectorEnvironment, interaction: Interaction, offline_steps: int
) -> Experience:
    """Batches of a dataset, and after some updates also of transitions that the agent collects.

    Until update `offline_steps` the agent does not act and batches equal those of `offline`. From then on
    each batch holds rows of both, as `Interaction.dataset_share` says. All are in the units of the data, so
    that one normalisation holds for both.

    Args:
        sampler: draws from the dataset.
        environment: the environment in which the agent acts, usually that of the dataset.
        interaction: how much it acts, and how batches are mixed.
        offline_steps: number of updates on the dataset alone.

    Returns:
        Experience with the carry and the metrics of `online`; returns and lengths are 0 until an episode
        ends.

    Raises:
        InputError: when transitions of dataset and environment differ in shape or dtype, or only one of them
            has goals.
    """
    batch_size, share = sampler.batch_size, interaction.dataset_share
    acting = online(environment, batch_size, interaction, offline_steps)
    logged = jax.eval_shape(sampler.sample, sampler.arrays, jax.random.key(0))
    for field, *leaves in zip(Transitions._fields, logged, blank(environment.spec, batch_size), strict=True):
        ours, theirs = ("none" if leaf is None else f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves)
        if ours != theirs:
            raise InputError(
                f"{field} of the dataset are {ours}, but {theirs} in {environment.name}: "
                "choose an --environment with transitions like those of the data, or leave --online_steps out"
            )

    def sample(arrays: Any, carry: tuple[Lanes, replays.Replay], key: Key) -> Transitions:
        buffer_key, choice_key = jax.random.split(jax.random.fold_in(key, _BUFFER_STREAM))
        collected = replays.num_transitions(carry[1])
        if share is None:
            given = sampler.num_transitions
            from_dataset = jax.random.uniform(choice_key, (batch_size,)) < given / (given + collected)
        else:
            from_dataset = (jnp.arange(batch_size) < round(share * batch_size)) | (collected == 0)
        # Rows drawn from an empty buffer are never chosen.
        batches = sampler.sample(arrays, key), acting.sample((), carry, buffer_key)
        return jax.tree.map(functools.partial(_where, from_dataset), *batches)

    return acting._replace(arrays=sampler.arrays, example=sampler.sample, sample=sample)


def blank(spec: Spec, count: int) -> Transitions:
    """Transitions [count] of zeros, in the shapes and dtypes of the spec."""
    observations = jnp.zeros((count, *spec.observation_shape), spec.observation_dtype)
    actions = jnp.zeros(count, jnp.int32) if spec.discrete else jnp.zeros((count, spec.action_dim))
    rewards = jnp.zeros((count, spec.reward_dim) if spec.reward_dim > 1 else count)
    return Transitions(
        observations=observations,
        actions=actions,
        rewards=rewards,
        masks=jnp.zeros(count),
        next_observations=observations,
        next_actions=actions,
    )


def _check_actions(actions: Array, environment: VectorEnvironment) -> None:
    """Raises unless actions have the environment's shape and kind: JAX would broadcast a wrong shape."""
    spec, count = environment.spec, environment.num_environments
    shape = (count,) if spec.discrete else (count, spec.action_dim)
    fits = jnp.issubdtype(actions.dtype, jnp.integer if spec.discrete else jnp.floating)
    if actions.shape != shape or not fits:
        kind = "integers" if spec.discrete else "floats"
        raise InputError(
            f"the agent's actions are {actions.dtype}{list(actions.shape)}, but {environment.name} takes "
            f"{kind} {list(shape)}: check the agent's act"
        )


def _finite(leaf: Array) -> Array:
    """Whether all numbers in each row of an array [N, ...] are finite, [N]."""
    return jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))


def _next_lanes(lanes: Lanes, simulation: Any, outcomes: Outcomes, memory: Any, finite: Array) -> Lanes:
    """The lanes after a step; where `finite` is False, returns are NaN from then on."""
    ended = outcomes.terminated | outcomes.truncated
    blank_returns = jnp.where(jnp.isfinite(lanes.returns), 0.0, jnp.nan)
    returns = _where(lanes.ended, blank_returns, lanes.returns + outcomes.rewards)
    returns = _where(finite, returns, jnp.full_like(returns, jnp.nan))
    lengths = jnp.where(lanes.ended, 0, lanes.lengths + 1)
    return Lanes(
        simulation=simulation,
        observations=outcomes.observations,
        ended=ended,
        memory=memory,
        returns=returns,
        lengths=lengths,
        last_returns=_where(ended, returns, lanes.last_returns),
        last_lengths=jnp.where(ended, lengths, lanes.last_lengths),
    )


def _where(condition: Array, chosen: Array, other: Array) -> Array:
    """`jnp.where` with a condition [N] over arrays [N, ...]."""
    return jnp.where(condition.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, other)
