"""An agent from a critic and a policy: the one place where their steps are put in order.

One update:

1. The critic takes its gradient steps; its targets stay as they are.
2. The policy takes its gradient step, with the critic's NEW parameters and OLD targets.
3. The critic's targets move towards its NEW parameters.

A policy with a `period` n takes its step only in updates n, 2 n, 3 n, ... If it `slows_targets`, the critic's
targets too move only in these updates.

For IQL this is the reference order (value; policy with the new value and the target critic; critic with
the new value; target average): the policy reads only the value function and the target critics, which
the critic step leaves alone, so that the policy step may stand before it or after it.

In goal-conditioned batches, the critic sees observations joined with `goals`, the policy with
`policy_goals`. A critic that perceives sees observations and goals apart, and the policy what it makes of
observations, joined with goals.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelab.errors import InputError
from valuelab.ops.goals import join, with_goals
from valuelab.types import (
    STEPPED,
    Agent,
    Array,
    Critic,
    GoalConditioned,
    Key,
    Metrics,
    NextActions,
    Policy,
    PolicyView,
    TrainState,
    Transitions,
)


class ActorCriticState(NamedTuple):
    """What a composed agent carries.

    Attributes:
        critic: the critic's state.
        policy: the policy's state.
    """

    critic: TrainState
    policy: TrainState


def actor_critic(critic: Critic, policy: Policy) -> Agent:
    """Composes a critic and a policy.

    Args:
        critic: how values are learnt.
        policy: how actions are drawn from them.

    Returns:
        An agent that shows its critic; its state is an ActorCriticState, and its metrics, also those that
        are checked, are prefixed "critic/" and "policy/".

    Raises:
        InputError: when one of them needs what the other does not offer.
    """
    if missing := policy.needs - critic.offers:
        raise InputError(
            f"policy {policy.name!r} needs {', '.join(sorted(missing))} and critic {critic.name!r} offers "
            f"only {', '.join(sorted(critic.offers))}: choose another policy or another critic"
        )
    if "log_probs" in critic.needs and policy.sample_with_log_probs is None:
        raise InputError(
            f"critic {critic.name!r} needs log_probs and policy {policy.name!r} does not offer them: "
            "choose another policy, such as sac, or another critic"
        )
    if "representation_loss" in critic.needs and policy.representation_loss is None:
        raise InputError(
            f"critic.cloning_gradient is True, but policy {policy.name!r} does not see representations of "
            "goals: choose policy hierarchical, or set critic.cloning_gradient to False"
        )

    perceive = critic.zero_shot and critic.zero_shot.perceive
    look = perceive or (lambda state, observations: observations)

    def for_critic(batch: Transitions) -> Transitions:
        return batch if perceive else with_goals(batch, batch.goals)

    def for_policy(state: TrainState, batch: Transitions, goals: Array | None) -> Transitions:
        seen, next_seen = (look(state, part) for part in (batch.observations, batch.next_observations))
        return with_goals(batch._replace(observations=seen, next_observations=next_seen), goals)

    def perceived(state: TrainState, observations: Any) -> Array:
        """What policy and estimates are given for observations, alone or with goals."""
        if isinstance(observations, GoalConditioned):
            return join(observations._replace(observations=look(state, observations.observations)))
        return look(state, observations)

    def init(key: Key, example: Transitions) -> ActorCriticState:
        critic_key, policy_key = jax.random.split(key)
        critic_state = critic.init(critic_key, for_critic(example))
        seen = for_policy(critic_state, example, example.policy_goals)
        return ActorCriticState(critic=critic_state, policy=policy.init(policy_key, seen))

    def act(state: ActorCriticState, observations: Any, key: Key, temperature: Array | float) -> Array:
        estimates = critic.estimates(state.critic)
        seen = perceived(state.critic, observations)
        return policy.sample(state.policy, seen, key, temperature, estimates)

    def update(state: ActorCriticState, batch: Transitions) -> tuple[ActorCriticState, Metrics]:
        def look_ahead(batch: Transitions, key: Key) -> NextActions:
            estimates = critic.estimates(state.critic)
            batch = for_policy(state.critic, batch, batch.goals)
            if policy.look_ahead:
                return policy.look_ahead(state.policy, batch, key, estimates)
            actions = policy.sample(state.policy, batch.next_observations, key, 1.0, estimates)
            return NextActions(actions=actions, costs=jnp.zeros_like(batch.rewards))

        def sample(observations: Any, key: Key) -> tuple[Array, Array]:
            assert policy.sample_with_log_probs is not None
            seen = perceived(state.critic, observations)
            return policy.sample_with_log_probs(state.policy, seen, key)

        def representation_loss(batch: Transitions, represent: Callable[[Array], Array]) -> Array:
            assert policy.representation_loss is not None
            estimates = critic.estimates(state.critic)
            batch = for_policy(state.critic, batch, batch.goals)
            return policy.representation_loss(state.policy, batch, estimates, represent)

        view = PolicyView(
            look_ahead=look_ahead,
            sample=policy.sample_with_log_probs and sample,  # type: ignore[arg-type]
            representation_loss=policy.representation_loss and representation_loss,  # type: ignore[arg-type]
        )

        # 1. The critic.
        critic_state, critic_metrics = critic.update(state.critic, for_critic(batch), view)

        def step() -> tuple[TrainState, Any, Metrics]:
            """2. The policy, and 3. the targets that wait for it."""
            seen = for_policy(critic_state, batch, batch.policy_goals)
            policy_state, metrics = policy.update(state.policy, seen, critic.estimates(critic_state))
            moved = critic.average_targets(critic_state) if policy.slows_targets else critic_state
            return policy_state, moved.target_params, metrics

        if policy.period == 1:
            policy_state, target_params, policy_metrics = step()
        else:
            is_due = critic_state.step % policy.period == 0
            blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(step)[2])
            policy_state, target_params, policy_metrics = jax.lax.cond(
                is_due, step, lambda: (state.policy, critic_state.target_params, blank)
            )
            policy_metrics |= {STEPPED: is_due.astype(jnp.float32)}
        critic_state = critic_state._replace(target_params=target_params)
        # 3. Targets that do not wait.
        if not policy.slows_targets:
            critic_state = critic.average_targets(critic_state)

        metrics = {f"critic/{name}": metric for name, metric in critic_metrics.items()}
        metrics |= {f"policy/{name}": metric for name, metric in policy_metrics.items()}
        return ActorCriticState(critic=critic_state, policy=policy_state), metrics

    def value(state: ActorCriticState, observations: Any) -> Array:
        estimates = critic.estimates(state.critic)
        seen = perceived(state.critic, observations)
        if estimates.value is not None:
            return estimates.value(seen)
        actions = policy.sample(state.policy, seen, jax.random.key(0), 0.0, estimates)
        return estimates.q(seen, actions)

    scores = critic.goal_scores
    goal_scores = scores and (lambda state, *inputs: scores(state.critic, *inputs))  # type: ignore[misc]
    checks = tuple(check._replace(metric=f"critic/{check.metric}") for check in critic.checks)
    return Agent(
        init=init,
        update=update,
        act=act,
        value=value,
        critic=critic,
        goal_scores=goal_scores,
        checks=checks,
    )
