"""The updates of agents in the manner of single-file code, to compare the speed of our training program with.

Each form computes the same mathematics as our agent with the same hyperparameters: from the same parameters,
batch and random numbers follow the same parameters (tests/studies/test_peers.py). It is written like the
single-file code of CleanRL, unifloral and the FQL repository: flax modules, one optax.adam for each loss,
value_and_grad, vmap over ensembles and seeds, and a scan over updates that draws its batches inside. It uses
none of our networks and functions, and it has only the options that the cases of `peers` need. The
distributions of initial weights may differ from ours, because they do not change the speed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.iql import IQLConfig
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
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


class OneStepFlow(NamedTuple):
    """FQL's policy.

    Attributes:
        init: (key, observations, observations of the field, actions) -> state.
        sample: (params, observations, noise) -> actions.
        update: (state, q of actions, observations, observations of the field, actions, key) -> (state, loss).
    """

    init: Callable[[Key, Array, Array, Array], TrainState]
    sample: Callable[[Any, Array, Array], Array]
    update: Callable[
        [TrainState, Callable[[Array], Array], Array, Array, Array, Key], tuple[TrainState, Array]
    ]


def make_one_step_flow(config: OneStepFlowConfig, action_dim: int) -> OneStepFlow:
    """A flow that clones actions, distilled into one step that climbs Q (arXiv:2502.02538)."""
    field = MLP(config.hidden_dims, action_dim, config.activation)
    policy = MLP(config.hidden_dims, action_dim, config.activation)

    def init(key: Key, observations: Array, seen: Array, actions: Array) -> TrainState:
        field_key, policy_key = jax.random.split(key)
        params = {
            "field": field.init(field_key, seen, actions, jnp.zeros((len(actions), 1))),
            "policy": policy.init(policy_key, observations, actions),
        }
        return TrainState.create(apply_fn=policy.apply, params=params, tx=optax.adam(config.learning_rate))

    def sample(params: Any, observations: Array, noise: Array) -> Array:
        return jnp.clip(policy.apply(params["policy"], observations, noise), -1, 1)

    def update(
        state: TrainState,
        q_of: Callable[[Array], Array],
        observations: Array,
        seen: Array,
        actions: Array,
        key: Key,
    ) -> tuple[TrainState, Array]:
        start_key, time_key, noise_key = jax.random.split(key, 3)
        start = jax.random.normal(start_key, actions.shape)
        times = jax.random.uniform(time_key, (len(actions), 1))
        noise = jax.random.normal(noise_key, actions.shape)

        def step(points, time):
            times = jnp.full((len(points), 1), time)
            velocities = field.apply(state.params["field"], seen, points, times)
            return points + velocities / config.num_steps, None

        drawn, _ = jax.lax.scan(step, noise, jnp.arange(config.num_steps) / config.num_steps)
        drawn = jnp.clip(drawn, -1, 1)

        @jax.value_and_grad
        def loss(params):
            points = (1 - times) * start + times * actions
            velocities = field.apply(params["field"], seen, points, times)
            clone_loss = jnp.mean((velocities - (actions - start)) ** 2)
            climbing = policy.apply(params["policy"], observations, noise)
            distill_loss = jnp.mean((climbing - drawn) ** 2)
            q_values = q_of(jnp.clip(climbing, -1, 1))
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values))) if config.normalize_q else 1.0
            return clone_loss + config.bc_weight * distill_loss - jnp.mean(q_values) / scale

        policy_loss, gradients = loss(state.params)
        return state.apply_gradients(grads=gradients), policy_loss

    return OneStepFlow(init=init, sample=sample, update=update)


class FQLState(NamedTuple):
    """The state of flow Q-learning."""

    q: TrainState
    target_q: Any
    policy: TrainState


def make_fql(config: ComposedConfig, spec: Spec) -> Form:
    """Flow Q-learning (Park et al. 2025, arXiv:2502.02538)."""
    critic = config.critic
    q_network = ensemble(MLP, critic.ensemble_size)(
        critic.hidden_dims, 1, critic.activation, critic.layer_norm
    )
    policy = make_one_step_flow(config.policy, spec.action_dim)

    def init(key: Key, batch: Transitions) -> FQLState:
        q_key, policy_key = jax.random.split(key)
        q = create(q_key, q_network, critic.learning_rate, batch.observations, batch.actions)
        return FQLState(
            q=q,
            target_q=jax.tree.map(jnp.copy, q.params),
            policy=policy.init(policy_key, batch.observations, batch.observations, batch.actions),
        )

    def update(state: FQLState, batch: Transitions, key: Key) -> tuple[FQLState, dict[str, Array]]:
        action_key, policy_key = jax.random.split(key)
        noise = jax.random.normal(action_key, batch.actions.shape)
        next_actions = policy.sample(state.policy.params, batch.next_observations, noise)
        next_q = q_network.apply(state.target_q, batch.next_observations, next_actions)[..., 0].mean(axis=0)
        targets = batch.rewards + critic.discount * batch.masks * next_q

        @jax.value_and_grad
        def critic_loss(params):
            q_values = q_network.apply(params, batch.observations, batch.actions)[..., 0]
            return jnp.sum(jnp.mean((q_values - targets) ** 2, axis=1))

        q_loss, gradients = critic_loss(state.q.params)
        q = state.q.apply_gradients(grads=gradients)

        def q_of(actions: Array) -> Array:
            return q_network.apply(q.params, batch.observations, actions)[..., 0].mean(axis=0)

        seen = batch.observations
        policy_state, policy_loss = policy.update(state.policy, q_of, seen, seen, batch.actions, policy_key)
        state = FQLState(
            q=q,
            target_q=optax.incremental_update(q.params, state.target_q, critic.target_rate),
            policy=policy_state,
        )
        return state, {"q": q_loss, "policy": policy_loss}

    return Form(init=init, update=update)


class ValueField(nn.Module):
    """The velocity field of floq's critic, applied as a whole at every point."""

    hidden_dims: tuple[int, ...]
    activation: str
    block_depth: int
    low: float
    high: float
    num_bins: int
    bin_width: float
    time_embedding: str
    time_size: int
    time_scale: float
    time_fastest: float

    @nn.compact
    def __call__(self, observations: Array, actions: Array, values: Array, times: Array) -> Array:
        """Maps observations [B, D], actions [B, A] or [B, m, A], z [B, m] and t [B, m] to v, [B, m]."""
        edges = jnp.linspace(self.low, self.high, self.num_bins + 1)
        unit = jnp.sqrt(2) * self.bin_width * (edges[1] - edges[0])
        cumulative = jax.lax.erf((edges - jnp.clip(values, self.low, self.high)[..., None]) / unit)
        histogram = cumulative[..., 1:] - cumulative[..., :-1]
        histogram = histogram / histogram.sum(axis=-1, keepdims=True)
        if self.time_embedding == "cosine":
            waves = jnp.cos(times)[..., None]
        else:
            angles = (
                2 * jnp.pi * times[..., None] * jnp.geomspace(0.25, self.time_fastest, self.time_size // 2)
            )
            waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
            waves = self.time_scale * waves / jnp.sqrt(self.time_size / 2)
        actions = actions if actions.ndim == 3 else actions[:, None]
        pairs = [
            jnp.broadcast_to(part, (*values.shape, part.shape[-1]))
            for part in (observations[:, None], actions)
        ]
        hidden = jnp.concatenate([*pairs, histogram, waves], axis=-1)
        skipped = None
        for index, width in enumerate(self.hidden_dims):
            hidden = nn.Dense(width, kernel_init=xavier())(hidden)
            hidden = nn.LayerNorm()(ACTIVATIONS[self.activation](hidden))
            if self.block_depth and index % self.block_depth == 0:
                hidden = hidden if skipped is None else hidden + skipped
                skipped = hidden
        return nn.Dense(1, kernel_init=xavier())(hidden)[..., 0]


class FloqState(NamedTuple):
    """The state of floq."""

    field: TrainState
    target_field: Any
    q: TrainState
    policy: TrainState


def make_floq(config: ComposedConfig, spec: Spec) -> Form:
    """A critic that integrates a flow, and FQL's policy (Agrawalla et al. 2025, arXiv:2509.06863)."""
    critic = config.critic
    horizon = 1 / (1 - critic.discount)
    noise_low = critic.coverage * spec.reward_min * horizon
    noise_high = critic.coverage * spec.reward_max * horizon
    field = ValueField(
        critic.field_hidden_dims or critic.hidden_dims,
        critic.activation,
        critic.block_depth,
        low=(spec.reward_min - 0.01) * horizon,
        high=(spec.reward_max + 0.01) * horizon,
        num_bins=critic.num_bins,
        bin_width=critic.bin_width,
        time_embedding=critic.time_embedding,
        time_size=critic.time_size,
        time_scale=critic.time_scale,
        time_fastest=critic.time_fastest,
    )
    q_network = ensemble(MLP, critic.ensemble_size)(
        critic.hidden_dims, 1, critic.activation, critic.layer_norm
    )
    policy = make_one_step_flow(config.policy, spec.action_dim)

    def draw_noise(key: Key, batch: Transitions) -> Array:
        shape = (len(batch.rewards), critic.num_draws)
        return jax.random.uniform(key, shape, minval=noise_low, maxval=noise_high)

    def integrate(params: Any, observations: Array, actions: Array, noise: Array) -> Array:
        """Maps noise [B, m] to z(1) of each network of the ensemble, [E, B, m]."""

        def step(values, time):
            times = jnp.full(noise.shape, time)
            velocities = jax.vmap(field.apply, (0, None, None, 0, None))(
                params, observations, actions, values, times
            )
            return values + velocities / critic.num_steps, None

        start = jnp.broadcast_to(noise, (critic.ensemble_size, *noise.shape))
        values, _ = jax.lax.scan(step, start, jnp.arange(critic.num_steps) / critic.num_steps)
        return values

    def init(key: Key, batch: Transitions) -> FloqState:
        field_key, q_key, policy_key = jax.random.split(key, 3)
        keys = jax.random.split(field_key, critic.ensemble_size)
        blank = jnp.zeros((len(batch.rewards), critic.num_draws))
        params = jax.vmap(field.init, (0, None, None, None, None))(
            keys, batch.observations, batch.actions, blank, blank
        )
        return FloqState(
            field=TrainState.create(apply_fn=field.apply, params=params, tx=optax.adam(critic.learning_rate)),
            target_field=jax.tree.map(jnp.copy, params),
            q=create(q_key, q_network, critic.learning_rate, batch.observations, batch.actions),
            policy=policy.init(policy_key, batch.observations, batch.observations, batch.actions),
        )

    def update(state: FloqState, batch: Transitions, key: Key) -> tuple[FloqState, dict[str, Array]]:
        action_key, target_key, noise_key, time_key, distill_key, policy_key = jax.random.split(key, 6)
        noise = jax.random.normal(action_key, (critic.num_draws, *batch.actions.shape))
        seen = jnp.broadcast_to(batch.next_observations, (critic.num_draws, *batch.next_observations.shape))
        next_actions = jnp.swapaxes(policy.sample(state.policy.params, seen, noise), 0, 1)
        ends = integrate(
            state.target_field, batch.next_observations, next_actions, draw_noise(target_key, batch)
        )
        targets = batch.rewards + critic.discount * batch.masks * ends.mean(axis=(0, 2))

        noise = draw_noise(noise_key, batch)
        times = jax.random.uniform(time_key, noise.shape)
        points = (1 - times) * noise + times * targets[:, None]

        @jax.value_and_grad
        def field_loss(params):
            velocities = jax.vmap(field.apply, (0, None, None, None, None))(
                params, batch.observations, batch.actions, points, times
            )
            return jnp.mean(jnp.sum((velocities - (targets[:, None] - noise)) ** 2, axis=2))

        flow_loss, gradients = field_loss(state.field.params)
        new_field = state.field.apply_gradients(grads=gradients)

        noise = draw_noise(distill_key, batch)
        values = integrate(new_field.params, batch.observations, batch.actions, noise).mean(axis=(0, 2))

        @jax.value_and_grad
        def distillation_loss(params):
            q_values = q_network.apply(params, batch.observations, batch.actions)[..., 0]
            return jnp.mean((q_values - values) ** 2)

        q_loss, gradients = distillation_loss(state.q.params)
        q = state.q.apply_gradients(grads=gradients)

        def q_of(actions: Array) -> Array:
            return q_network.apply(q.params, batch.observations, actions)[..., 0].mean(axis=0)

        seen = batch.observations
        policy_state, policy_loss = policy.update(state.policy, q_of, seen, seen, batch.actions, policy_key)
        state = FloqState(
            field=new_field,
            target_field=optax.incremental_update(new_field.params, state.target_field, critic.target_rate),
            q=q,
            policy=policy_state,
        )
        return state, {"field": flow_loss, "q": q_loss, "policy": policy_loss}

    return Form(init=init, update=update)


def on_sphere(vectors: Array) -> Array:
    """Vectors [B, d] scaled to length √d."""
    squares = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jnp.sqrt(vectors.shape[-1] / jnp.maximum(squares, 1e-12))


class Encoder(nn.Module):
    """TD-JEPA's encoder of observations."""

    hidden_dims: tuple[int, ...]
    dim: int

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """Maps observations [B, D] to encodings [B, d]."""
        first, *others = self.hidden_dims
        hidden = nn.tanh(nn.LayerNorm()(nn.Dense(first)(observations)))
        for width in others:
            hidden = nn.relu(nn.Dense(width)(hidden))
        return on_sphere(nn.Dense(self.dim)(hidden))


class Predictor(nn.Module):
    """TD-JEPA's predictor of discounted sums of encodings."""

    hidden_dims: tuple[int, ...]
    dim: int

    @nn.compact
    def __call__(self, encodings: Array, actions: Array, tasks: Array) -> Array:
        """Maps encodings [B, k], actions [B, A] and tasks [B, d] to [B, dim]."""
        width = self.hidden_dims[0]
        embeddings = []
        for others in (tasks, actions):
            hidden = jnp.concatenate([encodings, others], axis=-1)
            hidden = nn.tanh(nn.LayerNorm()(nn.Dense(width)(hidden)))
            embeddings.append(nn.relu(nn.Dense(width // 2)(hidden)))
        hidden = jnp.concatenate(embeddings, axis=-1)
        for width in self.hidden_dims:
            hidden = nn.relu(nn.Dense(width)(hidden))
        return nn.Dense(self.dim)(hidden)


class TDJEPAState(NamedTuple):
    """The state of TD-JEPA."""

    critic: TrainState
    target: Any
    policy: TrainState


def make_td_jepa(config: ZeroShotConfig, spec: Spec) -> Form:
    """TD-JEPA with FQL's policy (Bagatella et al. 2025, arXiv:2510.00739), from vectors."""
    critic = config.critic
    state_encoder = Encoder(critic.state_dims, critic.state_dim)
    task_encoder = Encoder(critic.task_dims, critic.task_dim)
    task_predictor = ensemble(Predictor, critic.ensemble_size)(critic.predictor_dims, critic.task_dim)
    state_predictor = ensemble(Predictor, critic.ensemble_size)(critic.predictor_dims, critic.state_dim)
    policy = make_one_step_flow(config.policy, spec.action_dim)

    def orthonormality(encodings: Array) -> Array:
        products = encodings @ encodings.T
        own, count = jnp.diagonal(products), len(encodings)
        others = jnp.sum(products**2) - jnp.sum(own**2)
        return 0.5 * others / (count * (count - 1)) - jnp.mean(own)

    def init(key: Key, batch: Transitions) -> TDJEPAState:
        keys = jax.random.split(key, 5)
        tasks = jnp.zeros((len(batch.rewards), critic.task_dim))
        states = jnp.zeros((len(batch.rewards), critic.state_dim))
        params = {
            "state_encoder": state_encoder.init(keys[0], batch.observations),
            "task_encoder": task_encoder.init(keys[1], batch.observations),
            "task_predictor": task_predictor.init(keys[2], states, batch.actions, tasks),
            "state_predictor": state_predictor.init(keys[3], tasks, batch.actions, tasks),
        }
        joined = jnp.concatenate([batch.observations, tasks], axis=-1)
        return TDJEPAState(
            critic=TrainState.create(
                apply_fn=task_predictor.apply, params=params, tx=optax.adam(critic.learning_rate)
            ),
            target=jax.tree.map(jnp.copy, params),
            policy=policy.init(keys[4], joined, batch.observations, batch.actions),
        )

    def update(state: TDJEPAState, batch: Transitions, key: Key) -> tuple[TDJEPAState, dict[str, Array]]:
        order_key, choice_key, task_key, action_key, policy_key = jax.random.split(key, 5)
        goals = task_encoder.apply(state.critic.params["task_encoder"], batch.next_observations)
        goals = on_sphere(jax.random.permutation(order_key, goals))
        is_goal = jax.random.uniform(choice_key, (len(goals), 1)) < config.goal_share
        tasks = jnp.where(is_goal, goals, on_sphere(jax.random.normal(task_key, goals.shape)))
        joined = jnp.concatenate([batch.observations, tasks], axis=-1)
        next_joined = jnp.concatenate([batch.next_observations, tasks], axis=-1)

        noise = jax.random.normal(action_key, batch.actions.shape)
        next_actions = policy.sample(state.policy.params, next_joined, noise)
        next_states = state_encoder.apply(state.target["state_encoder"], batch.next_observations)
        next_tasks = task_encoder.apply(state.target["task_encoder"], batch.next_observations)
        after = task_predictor.apply(state.target["task_predictor"], next_states, next_actions, tasks)
        task_targets = next_tasks + critic.discount * batch.masks[:, None] * after.mean(axis=0)
        after = state_predictor.apply(state.target["state_predictor"], next_tasks, next_actions, tasks)
        state_targets = next_states + critic.discount * batch.masks[:, None] * after.mean(axis=0)

        @jax.value_and_grad
        def critic_loss(params):
            states = state_encoder.apply(params["state_encoder"], batch.observations)
            encodings = task_encoder.apply(params["task_encoder"], batch.observations)
            of_tasks = task_predictor.apply(params["task_predictor"], states, batch.actions, tasks)
            of_states = state_predictor.apply(params["state_predictor"], encodings, batch.actions, tasks)
            return (
                jnp.mean(jnp.sum((of_tasks - task_targets) ** 2, axis=-1))
                + jnp.mean(jnp.sum((of_states - state_targets) ** 2, axis=-1))
                + critic.state_orthonormality * orthonormality(states)
                + critic.task_orthonormality * orthonormality(encodings)
            )

        loss, gradients = critic_loss(state.critic.params)
        learnt = state.critic.apply_gradients(grads=gradients)

        def q_of(actions: Array) -> Array:
            states = state_encoder.apply(learnt.params["state_encoder"], batch.observations)
            predictions = task_predictor.apply(learnt.params["task_predictor"], states, actions, tasks)
            return jnp.sum(predictions * tasks, axis=-1).mean(axis=0)

        policy_state, policy_loss = policy.update(
            state.policy, q_of, joined, batch.observations, batch.actions, policy_key
        )
        state = TDJEPAState(
            critic=learnt,
            target=optax.incremental_update(learnt.params, state.target, critic.target_rate),
            policy=policy_state,
        )
        return state, {"critic": loss, "policy": policy_loss}

    return Form(init=init, update=update)
