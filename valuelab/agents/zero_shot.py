"""Zero-shot agents: they learn without rewards, and then act for any.

A task is a vector z on the sphere of radius √d; π_z acts for the reward ψ(s)ᵀz. One update:

1. Tasks: z_i of the batch is with probability p the encoding ψ(s'_j) of another transition's successor,
   whitened by the running second moment of ψ where asked for, put on the sphere; else uniform on it.
2. `actor_critic`'s update, with tasks where goals stand.

The metric "features/effective_rank" is (tr M)² / ‖M‖² of that moment M: d where features are orthonormal, 1
where they have collapsed.

At test time a task is found without a gradient step: from rewards of labelled states by least squares
(`infer`), from a goal (`of_goals`), or from an expert's trajectory (`of_expert`).

Source: Touati, Rapin, Ollivier 2023, arXiv:2209.14935; Bagatella et al. 2025, arXiv:2510.00739.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.agents.actor_critic import ActorCriticState, actor_critic
from valuelab.agents.composed import POLICIES, policy_of
from valuelab.configuration import Choice, Settings, make, part, setting
from valuelab.critics.forward_backward import ForwardBackwardConfig, forward_backward_critic
from valuelab.critics.latents import split
from valuelab.critics.successor_features import SuccessorFeaturesConfig, successor_features_critic
from valuelab.critics.td_jepa import TDJEPAConfig, td_jepa_critic
from valuelab.errors import InputError
from valuelab.ops.factorizations import symmetric_pseudoinverse
from valuelab.ops.latent import infer_tasks, mixed_tasks, on_sphere, uniform_tasks
from valuelab.policies.one_step_flow import OneStepFlowConfig, one_step_flow
from valuelab.types import (
    Agent,
    Array,
    Augmented,
    Critic,
    GoalConditioned,
    Key,
    Memory,
    Metrics,
    Policy,
    Spec,
    Transitions,
)

CRITICS: dict[str, Choice[Critic]] = {
    "forward_backward": Choice(config=ForwardBackwardConfig, make=forward_backward_critic),
    "successor_features": Choice(config=SuccessorFeaturesConfig, make=successor_features_critic),
    "td_jepa": Choice(config=TDJEPAConfig, make=td_jepa_critic),
}
"""Critics of all tasks, by name."""

_IMAGES = 256
"""That are encoded at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(Settings):
    """Hyperparameters of a zero-shot agent."""

    critic: Any = part(TDJEPAConfig(), CRITICS, "How the values of all tasks are learnt.")
    policy: Any = part(OneStepFlowConfig(), POLICIES, "How actions are drawn from them; it climbs Q.")
    goal_share: float = setting(
        0.5, "[0, 1]", "Probability p in [0, 1] that a task of the batch is that of a goal."
    )
    whiten_goals: bool = setting(
        False, help="Multiply the encodings of goals by the inverse of the second moment of ψ."
    )
    moment_rate: float = setting(
        0.01, "(0, 1]", "Share of each batch in the running second moment of ψ, in (0, 1]."
    )


class ZeroShotState(NamedTuple):
    """What a zero-shot agent carries.

    Attributes:
        learner: the critic's and the policy's state.
        moment: [d, d], the running second moment of ψ.
        key: random.
    """

    learner: ActorCriticState
    moment: Array
    key: Key


def zero_shot(config: ZeroShotConfig, spec: Spec) -> Agent:
    """Builds the agent.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data: continuous actions, vectors or images.

    Returns:
        The agent; act and value take `Augmented` with tasks z [B, d] as memory.

    Raises:
        InputError: for other data.
    """
    critic = make(CRITICS, config.critic, spec)
    tasks = critic.zero_shot
    assert tasks is not None
    learner = actor_critic(critic, _policy(config, spec, tasks.num_features))

    def features(state: ZeroShotState, observations: Array) -> Array:
        if observations.shape[1:] != spec.observation_shape:
            raise InputError(
                f"states have shape {observations.shape[1:]}; the agent has learnt from those of shape "
                f"{spec.observation_shape}"
            )
        return tasks.features(state.learner.critic, observations)

    def init(key: Key, example: Transitions) -> ZeroShotState:
        learner_key, own_key = jax.random.split(key)
        example = with_tasks(example, jnp.zeros((len(example.observations), tasks.num_features)))
        return ZeroShotState(
            learner=learner.init(learner_key, example), moment=jnp.eye(tasks.num_features), key=own_key
        )

    def update(state: ZeroShotState, batch: Transitions) -> tuple[ZeroShotState, Metrics]:
        step = state.learner.critic.step
        order_key, task_key = jax.random.split(jax.random.fold_in(state.key, step))

        # 1. Tasks.
        encodings = features(state, batch.next_observations)
        rate = config.moment_rate
        moment = (1 - rate) * state.moment + rate * encodings.T @ encodings / len(encodings)
        goals = jax.random.permutation(order_key, encodings)
        if config.whiten_goals:
            goals = goals @ symmetric_pseudoinverse(moment)
        drawn = mixed_tasks(task_key, goals, config.goal_share)

        # 2. Critic and policy.
        learnt, metrics = learner.update(state.learner, with_tasks(batch, drawn))
        metrics["features/effective_rank"] = jnp.square(jnp.trace(moment)) / jnp.sum(jnp.square(moment))
        return ZeroShotState(learner=learnt, moment=moment, key=state.key), metrics

    def act(state: ZeroShotState, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        return learner.act(state.learner, GoalConditioned(*augmented), key, temperature)

    def value(state: ZeroShotState, augmented: Augmented) -> Array:
        return learner.value(state.learner, GoalConditioned(*augmented))

    return Agent(init=init, update=update, act=act, value=value, features=features)


def with_tasks(batch: Transitions, tasks: Array) -> Transitions:
    """The batch with tasks [B, d] where goals stand."""
    return batch._replace(goals=tasks, policy_goals=tasks)


def _policy(config: ZeroShotConfig, spec: Spec, dim: int) -> Policy:
    """The policy of a config, on what it sees joined with tasks [B, d]; what is cloned is no task's."""
    joined = (config.critic.seen_dim(spec) + dim,)
    spec = dataclasses.replace(spec, observation_shape=joined, observation_dtype="float32")
    if isinstance(config.policy, OneStepFlowConfig):
        return one_step_flow(config.policy, spec, cloned=lambda joined: split(joined, dim)[0])
    return policy_of(config, spec)


# Asking for a task.


def encode(agent: Agent, state: Any, observations: Array) -> Array:
    """The features ψ [N, d] of observations [N, ...]; of images in parts, for convolutions take memory."""
    features = agent.features
    assert features is not None
    if observations.ndim == 2:
        return features(state, observations)
    return jax.lax.map(lambda image: features(state, image[None])[0], observations, batch_size=_IMAGES)


def infer(agent: Agent, state: Any, observations: Array, rewards: Array) -> Array:
    """The tasks that come nearest to the rewards of labelled states.

    Args:
        agent: a zero-shot agent.
        state: its state.
        observations: [N, ...].
        rewards: [T, N], of T tasks.

    Returns:
        [T, d].
    """
    return infer_tasks(encode(agent, state, observations), rewards)


def of_goals(agent: Agent, state: Any, goals: Array) -> Array:
    """The tasks [B, d] of reaching goals [B, ...]: their encodings, on the sphere."""
    return on_sphere(encode(agent, state, goals))


def of_expert(agent: Agent, state: Any, observations: Array) -> Array:
    """The task [d] of doing as an expert does, who met observations [N, ...]: their mean encoding."""
    return on_sphere(jnp.mean(encode(agent, state, observations), axis=0))


def state_encoder(config: ZeroShotConfig, spec: Spec) -> Callable[[ZeroShotState, Array], Array]:
    """(state, observations [B, ...]) -> the encodings φ(s) [B, k] that a zero-shot agent has learnt.

    Raises:
        InputError: for a critic without φ.
    """
    sees_encodings = dataclasses.replace(config.critic, policy_sees="encodings")
    critic = make(CRITICS, sees_encodings, spec)
    assert critic.zero_shot is not None
    perceive = critic.zero_shot.perceive
    return lambda state, observations: perceive(state.learner.critic, observations)


def check_labels(rewards: np.ndarray, names: Sequence[str], dim: int) -> None:
    """Refuses labelled states from which a task cannot be inferred.

    Args:
        rewards: [T, N].
        names: of the T tasks.
        dim: d.

    Raises:
        InputError: for rewards that are not finite, that are all the same, or fewer than d.
    """
    rewards = np.asarray(rewards)
    if rewards.shape[1] < dim:
        raise InputError(
            f"{rewards.shape[1]} labelled states cannot tell the {dim} numbers of a task: label more"
        )
    for name, row in zip(names, rewards, strict=True):
        if not np.isfinite(row).all():
            raise InputError(
                f"rewards of {name} are not finite at labelled state {np.flatnonzero(~np.isfinite(row))[0]}"
            )
        if np.ptp(row) == 0:
            raise InputError(
                f"rewards of {name} are {row[0]:g} at all of {len(row)} labelled states, which is no task: "
                "label more states, or others"
            )


class Asked(NamedTuple):
    """A zero-shot agent's state, and what it is asked for.

    Attributes:
        state: the agent's.
        latents: [T, d], its tasks.
    """

    state: Any
    latents: Array


def asked(agent: Agent, tasks: Sequence[str]) -> Agent:
    """A zero-shot agent that acts for one of T tasks by name: how it is evaluated.

    Args:
        agent: a zero-shot agent.
        tasks: names.

    Returns:
        An agent whose state is `Asked`; it does not learn.
    """

    def choose(state: Asked, observations: Array, commands: Array) -> Array:
        del observations
        return state.latents[commands[:, 0].astype(jnp.int32)]

    def act(state: Asked, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        return agent.act(state.state, augmented, key, temperature)

    memory = Memory(
        commands={name: np.array([number], np.float32) for number, name in enumerate(tasks)},
        draw=lambda state, observations, key: uniform_tasks(key, len(observations), state.latents.shape[1]),
        choose=choose,
        update=lambda latents, rewards: latents,
        discount=1.0,
        score=None,
    )
    return agent._replace(
        act=act, value=lambda state, augmented: agent.value(state.state, augmented), memory=memory
    )
