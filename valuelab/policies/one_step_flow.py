"""FQL's policy: a flow that clones the data's actions, distilled into one step that also climbs Q.

A field u(x, t | s) carries normal noise e to the data's actions; μ(s, e) is the policy.

    L = E ‖u(x(t), t | s) - (a - e)‖² / A                              clone: x(t) = (1 - t) e + t a
      + α E ‖μ(s, e) - x(1 | s, e)‖² / A                               distil: x(1) after K Euler steps of u
      - E Q(s, μ(s, e)) / |Q|                                          improve: |Q| = 1 unless normalised

The critic and the field's integral are constants of their terms; x(1) and actions given to Q are clipped to
[-1, 1].
In zero-shot agents s includes the task z, but not for the field: all tasks have the same data.

Source: Park, Li, Levine 2025, "Flow Q-Learning", arXiv:2502.02538, equations 5 to 8.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.configuration import SameAs, setting
from valuelab.networks import learning
from valuelab.networks.encoders import batch_size, encode, with_encoder
from valuelab.networks.mlp import MLP, Activation, initializer
from valuelab.networks.policies import TaskPolicy
from valuelab.networks.velocities import ActionVelocity
from valuelab.ops.flow import integrate, interpolate
from valuelab.policies.continuous import FlowPolicyConfig, TaskPolicyConfig, check_continuous, check_tasks
from valuelab.types import Array, Estimates, Key, Metrics, Params, Policy, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStepFlowConfig(TaskPolicyConfig, FlowPolicyConfig):
    """Hyperparameters of FQL's policy: a velocity field, and a one-step policy that is distilled from it."""

    field_hidden_dims: tuple[int, ...] = setting(
        (),
        "[1, inf)",
        "Width of each hidden layer of the field; empty for those of hidden_dims.",
        before=(),
    )
    field_learning_rate: float | None = setting(
        None,
        "(0, inf)",
        "Learning rate of the field; the default is learning_rate.",
        before=SameAs("learning_rate"),
    )

    bc_weight: float = setting(10.0, "[0, inf)", "Weight α of the distillation, at least 0.")
    normalize_q: bool = setting(False, help="Divide Q by the mean of its absolute value.")


class OneStepMap(nn.Module):
    """μ(s, e).

    Attributes:
        action_dim: A.
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    activation: Activation = "gelu"

    @nn.compact
    def __call__(self, observations: Array, noise: Array) -> Array:
        """Maps observations [B, D] and noise [B, A] to actions [B, A], not clipped."""
        inputs = jnp.concatenate([observations, noise], axis=-1)
        hidden = MLP(self.hidden_dims, activation=self.activation)(inputs)
        return nn.Dense(self.action_dim, kernel_init=initializer)(hidden)


def clone_actions(
    field: nn.Module, params: Params, observations: Array, actions: Array, noise: Array, times: Array
) -> Array:
    """The flow-matching loss E ‖u(x(t), t | s) - (a - e)‖² / A of a batch, a scalar.

    Args:
        field: u.
        params: of the field.
        observations: s, a batch of B.
        actions: a, [B, A].
        noise: e ~ N(0, 1), [B, A].
        times: t ~ U[0, 1], [B, 1].
    """
    velocities = field.apply(params, observations, interpolate(noise, actions, times), times)
    return jnp.mean(jnp.square(velocities - (actions - noise)))


def draw_actions(
    field: nn.Module, params: Params, observations: Array, noise: Array, num_steps: int
) -> Array:
    """The actions [B, A] in [-1, 1] to which a field carries noise [B, A] in K Euler steps."""
    seen = encode(field, params, observations)

    def velocity(points: Array, time: Array) -> Array:
        return field.apply(params, seen, points, jnp.full((points.shape[0], 1), time))

    return jnp.clip(integrate(velocity, noise, num_steps), -1, 1)


def one_step_flow(config: OneStepFlowConfig, spec: Spec) -> Policy:
    """A policy that stays near the data's actions, however many modes these have, and climbs Q.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy; temperature scales its noise, so that 0 gives one action for each observation.

    Raises:
        InputError: for discrete actions, and for an embedding of tasks if there are none.
    """
    check_continuous("one_step_flow", spec)
    check_tasks("one_step_flow", config, spec)
    field: nn.Module = ActionVelocity(
        spec.action_dim, config.field_hidden_dims or config.hidden_dims, config.activation
    )
    policy: nn.Module = OneStepMap(spec.action_dim, config.hidden_dims, config.activation)
    if config.task_embedding:
        policy = TaskPolicy(spec.action_dim, config.hidden_dims, spec.task_dim)
    field, policy = (with_encoder(config.encoder, spec, network) for network in (field, policy))
    field_rate = config.learning_rate if config.field_learning_rate is None else config.field_learning_rate
    optimizer = learning.adam_by_part(lambda params: {"field": field_rate, "policy": config.learning_rate})

    def seen(observations: Array) -> Array:
        """What the field sees of observations."""
        return observations[:, : -spec.task_dim] if spec.task_dim else observations

    def init(key: Key, example: Transitions) -> TrainState:
        field_key, policy_key, update_key = jax.random.split(key, 3)
        times = jnp.zeros((len(example.actions), 1))
        params = {
            "field": field.init(field_key, seen(example.observations), example.actions, times),
            "policy": policy.init(policy_key, example.observations, example.actions),
        }
        return learning.start(update_key, params, {}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        noise_key, time_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        start, noise = jax.random.normal(noise_key, (2, *batch.actions.shape))
        times = jax.random.uniform(time_key, (len(batch.actions), 1))
        behaviour = seen(batch.observations)
        drawn = draw_actions(field, state.params["field"], behaviour, noise, config.num_steps)

        def loss(params):
            clone_loss = clone_actions(field, params["field"], behaviour, batch.actions, start, times)
            actions = policy.apply(params["policy"], batch.observations, noise)
            distill_loss = jnp.mean(jnp.square(actions - drawn))
            q_values = estimates.q(batch.observations, jnp.clip(actions, -1, 1))
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values))) if config.normalize_q else 1.0
            q_loss = -jnp.mean(q_values) / scale
            return clone_loss + config.bc_weight * distill_loss + q_loss, {
                "clone_loss": clone_loss,
                "distill_loss": distill_loss,
                "q": jnp.mean(q_values),
            }

        return learning.update(state, loss, optimizer)

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        noise = temperature * jax.random.normal(key, (batch_size(observations), spec.action_dim))
        return jnp.clip(policy.apply(state.params["policy"], observations, noise), -1, 1)

    return Policy(
        name="one_step_flow",
        needs=frozenset({"q", "q_gradient"}),
        init=init,
        update=update,
        sample=sample,
    )
