"""The updates of agents in the manner of single-file code, to compare the speed of our training program with.

Each form computes the same mathematics as our agent with the same hyperparameters: from the same parameters,
batch and random numbers follow the same parameters (tests/studies/test_peers.py). It is written like the
single-file code of CleanRL, unifloral and the FQL repository: flax modules, one optax.adam for each loss,
value_and_grad, vmap over ensembles and seeds, and a scan over updates that draws its batches inside. It uses
none of our networks and functions, and it has only the options that the cases of `peers` need.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

from valuelab.agents.iql import IQLConfig
from valuelab.types import Array, Key, Spec, Transitions

ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu}


class Form(NamedTuple):
    """The straightforward form of an agent.

    Attributes:
        init: (key, batch) -> state.
        update: (state, batch, key) -> (state, losses).
    """

    init: Callable[[Key, Transitions], Any]
    update: Callable[[Any, Transitions, Key], tuple[Any, dict[str, Array]]]


def make_run(
    form: Form, batch_size: int, num_updates: int, num_seeds: int
) -> Callable[[Any, Key, Transitions], tuple[Any, Key, dict[str, Array]]]:
    """A jitted program of many updates.

    Args:
        form: what is trained.
        batch_size: B.
        num_updates: number of updates of each seed.
        num_seeds: number of seeds; with several, states and keys have a leading axis of this size.

    Returns:
        (state, key, data) -> (state, key, losses of each update). Donates the state.
    """

    def run(state: Any, key: Key, data: Transitions) -> tuple[Any, Key, dict[str, Array]]:
        def step(carry: tuple[Any, Key], _: None) -> tuple[tuple[Any, Key], dict[str, Array]]:
            state, key = carry
            key, batch_key, update_key = jax.random.split(key, 3)
            indices = jax.random.randint(batch_key, (batch_size,), 0, len(data.rewards))
            batch = jax.tree.map(lambda column: column[indices], data)
            state, losses = form.update(state, batch, update_key)
            return (state, key), losses

        (state, key), losses = jax.lax.scan(step, (state, key), None, num_updates)
        return state, key, losses

    return jax.jit(run if num_seeds == 1 else jax.vmap(run, (0, 0, None)), donate_argnums=0)


def xavier(scale: float = 1.0) -> nn.initializers.Initializer:
    """Initial weights from a uniform distribution with variance scale / mean(fan in, fan out)."""
    return nn.initializers.variance_scaling(scale, "fan_avg", "uniform")


class MLP(nn.Module):
    """Hidden layers, optionally with layer norm, and a linear layer."""

    hidden_dims: tuple[int, ...]
    output_dim: int
    activation: str
    layer_norm: bool = False
    final_scale: float = 1.0

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        """Maps arrays [B, D_i], concatenated, to [B, output_dim]."""
        hidden = jnp.concatenate(inputs, axis=-1)
        for width in self.hidden_dims:
            hidden = ACTIVATIONS[self.activation](nn.Dense(width, kernel_init=xavier())(hidden))
            if self.layer_norm:
                hidden = nn.LayerNorm()(hidden)
        return nn.Dense(self.output_dim, kernel_init=xavier(self.final_scale))(hidden)


class Gaussian(nn.Module):
    """The mean and the logarithm of the standard deviation of a Gaussian policy."""

    action_dim: int
    hidden_dims: tuple[int, ...]
    activation: str
    tanh: bool
    learn_std: bool
    final_scale: float

    @nn.compact
    def __call__(self, observations: Array) -> tuple[Array, Array]:
        """Maps observations [B, D] to the mean [B, A] and log σ [A]."""
        mean = MLP(self.hidden_dims, self.action_dim, self.activation, final_scale=self.final_scale)(
            observations
        )
        log_std = jnp.zeros(self.action_dim)
        if self.learn_std:
            log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return jnp.tanh(mean) if self.tanh else mean, jnp.clip(log_std, -5, 2)


def ensemble(module: type[nn.Module], size: int) -> type[nn.Module]:
    """A module of several networks with the same inputs; outputs get a leading axis."""
    return nn.vmap(
        module, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=size
    )


def create(key: Key, network: nn.Module, learning_rate: Any, *inputs: Array) -> TrainState:
    """Initial parameters of a network with their Adam."""
    return TrainState.create(
        apply_fn=network.apply, params=network.init(key, *inputs), tx=optax.adam(learning_rate)
    )


class IQLState(NamedTuple):
    """The state of IQL."""

    value: TrainState
    q: TrainState
    target_q: Any
    policy: TrainState


def make_iql(config: IQLConfig, spec: Spec) -> Form:
    """Implicit Q-learning with a Gaussian policy (Kostrikov et al. 2021, arXiv:2110.06169)."""
    critic, actor = config.critic, config.policy
    v_network = MLP(critic.hidden_dims, 1, critic.activation, critic.layer_norm)
    q_network = ensemble(MLP, critic.ensemble_size)(
        critic.hidden_dims, 1, critic.activation, critic.layer_norm
    )
    policy_network = Gaussian(
        spec.action_dim,
        actor.hidden_dims,
        actor.activation,
        tanh=actor.mean == "tanh",
        learn_std=actor.learn_std,
        final_scale=actor.final_scale,
    )
    policy_rate = actor.learning_rate
    if actor.learning_rate_schedule == "cosine":
        policy_rate = optax.cosine_decay_schedule(policy_rate, spec.num_updates)

    def init(key: Key, batch: Transitions) -> IQLState:
        value_key, q_key, policy_key = jax.random.split(key, 3)
        q = create(q_key, q_network, critic.learning_rate, batch.observations, batch.actions)
        return IQLState(
            value=create(value_key, v_network, critic.learning_rate, batch.observations),
            q=q,
            target_q=jax.tree.map(jnp.copy, q.params),
            policy=create(policy_key, policy_network, policy_rate, batch.observations),
        )

    def update(state: IQLState, batch: Transitions, key: Key) -> tuple[IQLState, dict[str, Array]]:
        del key
        target_q = q_network.apply(state.target_q, batch.observations, batch.actions)[..., 0].min(axis=0)

        @jax.value_and_grad
        def value_loss(params):
            errors = target_q - v_network.apply(params, batch.observations)[..., 0]
            weights = jnp.where(errors < 0, 1 - critic.expectile, critic.expectile)
            return jnp.mean(weights * errors**2)

        v_loss, gradients = value_loss(state.value.params)
        value = state.value.apply_gradients(grads=gradients)

        next_values = v_network.apply(value.params, batch.next_observations)[..., 0]
        targets = batch.rewards + critic.discount * batch.masks * next_values

        @jax.value_and_grad
        def critic_loss(params):
            q_values = q_network.apply(params, batch.observations, batch.actions)[..., 0]
            return jnp.sum(jnp.mean((q_values - targets) ** 2, axis=1))

        q_loss, gradients = critic_loss(state.q.params)
        q = state.q.apply_gradients(grads=gradients)

        advantages = target_q - v_network.apply(value.params, batch.observations)[..., 0]
        weights = jnp.minimum(jnp.exp(actor.inverse_temperature * advantages), actor.weight_max)

        @jax.value_and_grad
        def actor_loss(params):
            mean, log_std = policy_network.apply(params, batch.observations)
            log_probs = jax.scipy.stats.norm.logpdf(batch.actions, mean, jnp.exp(log_std))
            return -jnp.mean(weights * jnp.sum(log_probs, axis=-1))

        policy_loss, gradients = actor_loss(state.policy.params)
        policy = state.policy.apply_gradients(grads=gradients)

        state = IQLState(
            value=value,
            q=q,
            target_q=optax.incremental_update(q.params, state.target_q, critic.target_rate),
            policy=policy,
        )
        return state, {"value": v_loss, "q": q_loss, "policy": policy_loss}

    return Form(init=init, update=update)
