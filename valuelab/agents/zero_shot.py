"""Zero-shot agents: they learn without rewards, and then act for any reward.

A task is a vector z on the sphere of radius √d, and π_z is the policy for it. One update:

1. Tasks: with probability p, z_i is the task of reaching the next state s'_j of another transition: ψ(s'_j)
   scaled to the sphere, unless the feature learner says otherwise (`goal_tasks`). With `whiten_goals` it is
   first multiplied by the inverse of the running second moment of ψ. A share `later_goals` of the goals are
   later states of the same trajectory instead, so that F sees more states near their goal. Otherwise z_i is
   uniform on the sphere.
2. The update of `actor_critic`, on a batch that carries tasks as goals.

The metric "features/effective_rank" is (tr M)² / ‖M‖² of that moment M. It is d for orthonormal features, and
1 for collapsed ones.

At test time a task is inferred without a gradient step: from rewards of labelled states (`infer`), from a
goal (`of_goals`), or from the trajectory of an expert (`of_expert`). How rewards become a task depends on the
critic. For TD-JEPA and successor features, π_z acts for the reward ψ(s)ᵀz, so z is the least-squares solution
of ψ(s)ᵀz = r(s). For forward-backward representations, Q = Fᵀ E[r B], so z = E[r(s) B(s)].

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
from valuelab.critics.successor_features import SuccessorFeaturesConfig, successor_features_critic
from valuelab.critics.td_jepa import TDJEPAConfig, td_jepa_critic
from valuelab.errors import InputError
from valuelab.feature_learners.goals import futures_of
from valuelab.ops.zero_shot import is_zero, mixed_tasks, on_sphere, uniform_tasks, whitened
from valuelab.policies.one_step_flow import OneStepFlowConfig
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
"""The number of images that are encoded at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(Settings):
    """Hyperparameters of a zero-shot agent."""

    critic: Any = part(TDJEPAConfig(), CRITICS, "The critic of all tasks.")
    policy: Any = part(OneStepFlowConfig(), POLICIES, "The policy. It maximises Q.")
    goal_share: float = setting(
        0.5, "[0, 1]", "Probability p in [0, 1] that a task of the batch is to reach a goal."
    )
    later_goals: float = setting(
        0.0,
        "[0, 1]",
        "Probability in [0, 1] that such a goal is a later state of the same trajectory; otherwise it is the "
        "next state of another transition.",
    )
    whiten_goals: bool = setting(
        False, help="Multiply the encodings of goals by the inverse of the second moment of ψ."
    )
    moment_rate: float = setting(
        0.005,
        "(0, 1]",
        "Share of each batch in the running second moment of ψ, in (0, 1].",
        before=0.01,
    )


class ZeroShotState(NamedTuple):
    """The state of a zero-shot agent.

    Attributes:
        learner: the critic's and the policy's state.
        moment: [d, d], the running second moment of ψ.
        key: the agent's random key.
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

    def features(state: ZeroShotState, observations: Any) -> Array:
        if not spec.observation_parts and observations.shape[1:] != spec.observation_shape:
            raise InputError(
                f"observations have shape {observations.shape[1:]}, but the agent was trained on shape "
                f"{spec.observation_shape}"
            )
        return tasks.features(state.learner.critic, observations)

    def goal_tasks(state: ZeroShotState, current: Array | None, goals: Array) -> Array:
        if tasks.goal_tasks is not None:
            if current is None:
                raise InputError(
                    "the task of a goal depends on the current state for this agent: give observations"
                )
            goals = tasks.goal_tasks(current, goals)
        return on_sphere(whitened(goals, state.moment) if config.whiten_goals else goals)

    def init(key: Key, example: Transitions) -> ZeroShotState:
        learner_key, own_key = jax.random.split(key)
        example = with_tasks(example, jnp.zeros((len(example.rewards), tasks.num_features)))
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
        if not is_zero(config.later_goals):
            later = jax.random.uniform(jax.random.fold_in(order_key, 1), (len(goals), 1)) < config.later_goals
            goals = jnp.where(later, features(state, futures_of(batch, "later_goals")), goals)
        current = None if tasks.goal_tasks is None else features(state, batch.observations)
        goals = goal_tasks(state._replace(moment=moment), current, goals)
        drawn = mixed_tasks(task_key, goals, config.goal_share)

        # 2. Critic and policy.
        learnt, metrics = learner.update(state.learner, with_tasks(batch, drawn))
        metrics["features/effective_rank"] = jnp.square(jnp.trace(moment)) / jnp.sum(jnp.square(moment))
        return ZeroShotState(learner=learnt, moment=moment, key=state.key), metrics

    def act(state: ZeroShotState, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        return learner.act(state.learner, GoalConditioned(*augmented), key, temperature)

    def value(state: ZeroShotState, augmented: Augmented) -> Array:
        return learner.value(state.learner, GoalConditioned(*augmented))

    return Agent(
        init=init,
        update=update,
        act=act,
        value=value,
        features=features,
        infer_tasks=tasks.infer_tasks,
        goal_tasks=goal_tasks,
        renews_tasks=tasks.goal_tasks is not None,
        checks=learner.checks,
    )


def with_tasks(batch: Transitions, tasks: Array) -> Transitions:
    """The batch with tasks [B, d] in the place of goals."""
    return batch._replace(goals=tasks, policy_goals=tasks)


def _policy(config: ZeroShotConfig, spec: Spec, dim: int) -> Policy:
    """The policy of a config; its input is joined with tasks [B, d]."""
    joined = (config.critic.seen_dim(spec) + dim,)
    seen = dataclasses.replace(
        spec, observation_shape=joined, observation_dtype="float32", observation_parts=(), task_dim=dim
    )
    return policy_of(config, seen)


# Inferring tasks.


def encode(agent: Agent, state: Any, observations: Array) -> Array:
    """The features ψ [N, d] of observations [N, ...]. Images are encoded in pieces, to save memory."""
    features = agent.features
    assert features is not None
    if observations.ndim == 2 and observations.dtype != jnp.uint8:  # packed observations have images
        return features(state, observations)
    return jax.lax.map(lambda image: features(state, image[None])[0], observations, batch_size=_IMAGES)


def infer(agent: Agent, state: Any, observations: Array, rewards: Array) -> Array:
    """The tasks for the rewards of labelled states.

    Args:
        agent: a zero-shot agent.
        state: its state.
        observations: [N, ...], a random sample of the states of the training data.
        rewards: [T, N], for T tasks.

    Returns:
        [T, d].
    """
    assert agent.infer_tasks is not None
    return agent.infer_tasks(encode(agent, state, observations), rewards)


def of_goals(agent: Agent, state: Any, goals: Array, observations: Array | None = None) -> Array:
    """The tasks [B, d] of reaching goals [B, ...], as the agent draws them in training.

    Args:
        agent: a zero-shot agent.
        state: its state.
        goals: [B, ...].
        observations: the current states [B, ...], if tasks depend on them.

    Raises:
        InputError: without observations, if tasks depend on them.
    """
    assert agent.goal_tasks is not None
    current = None if observations is None else encode(agent, state, observations)
    return agent.goal_tasks(state, current, encode(agent, state, goals))


def of_expert(agent: Agent, state: Any, observations: Array) -> Array:
    """The task [d] of imitating an expert who visited observations [N, ...]: their mean encoding."""
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


def with_goals(agent: Agent) -> Agent:
    """A zero-shot agent that takes goals: its inputs are `GoalConditioned`. It renews the task at each step.

    Args:
        agent: a zero-shot agent.

    Returns:
        An agent that acts and has values, but does not learn.
    """

    def augmented(state: Any, given: GoalConditioned) -> Augmented:
        return Augmented(given.observations, of_goals(agent, state, given.goals, given.observations))

    def act(state: Any, given: GoalConditioned, key: Key, temperature: Array | float) -> Array:
        return agent.act(state, augmented(state, given), key, temperature)

    return agent._replace(act=act, value=lambda state, given: agent.value(state, augmented(state, given)))


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
            f"{rewards.shape[1]} labelled states are too few for a task of {dim} numbers: give more --labels"
        )
    for name, row in zip(names, rewards, strict=True):
        if not np.isfinite(row).all():
            raise InputError(
                f"rewards of {name} are not finite at labelled state {np.flatnonzero(~np.isfinite(row))[0]}"
            )
        if np.ptp(row) == 0:
            raise InputError(
                f"rewards of {name} are {row[0]:g} at all {len(row)} labelled states, which specify no task: "
                "label more states, or others"
            )


class InferredTasks(NamedTuple):
    """A zero-shot agent's state with inferred tasks.

    Attributes:
        state: the agent's.
        tasks: [T, d], one z for each name; or the goals [T, ...] from which it is renewed at each step.
    """

    state: Any
    tasks: Array


def with_named_tasks(agent: Agent, tasks: Sequence[str]) -> Agent:
    """A zero-shot agent that acts for one of T tasks by name. It is evaluated in this form.

    Args:
        agent: a zero-shot agent.
        tasks: names.

    Returns:
        An agent whose state is `InferredTasks`; it does not learn.
    """

    def choose(state: InferredTasks, observations: Array, commands: Array) -> Array:
        del observations
        return state.tasks[commands[:, 0].astype(jnp.int32)]

    def act(state: InferredTasks, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        return agent.act(state.state, augmented, key, temperature)

    memory = Memory(
        commands={name: np.array([number], np.float32) for number, name in enumerate(tasks)},
        draw=lambda state, observations, key: uniform_tasks(key, len(observations), state.tasks.shape[1]),
        choose=choose,
        update=lambda tasks, rewards: tasks,
        discount=1.0,
        score=None,
    )
    return agent._replace(
        act=act, value=lambda state, augmented: agent.value(state.state, augmented), memory=memory
    )


def with_named_goals(agent: Agent, tasks: Sequence[str]) -> Agent:
    """A zero-shot agent that acts for one of T goals by name, and renews the task z at each step.

    Args:
        agent: a zero-shot agent.
        tasks: names of the goals.

    Returns:
        An agent whose state is `InferredTasks` with goals in the place of tasks; it does not learn.
    """
    aware = with_goals(agent)

    def act(state: Any, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        return aware.act(state, GoalConditioned(*augmented), key, temperature)

    def value(state: Any, augmented: Augmented) -> Array:
        return aware.value(state, GoalConditioned(*augmented))

    return with_named_tasks(agent._replace(act=act, value=value), tasks)
