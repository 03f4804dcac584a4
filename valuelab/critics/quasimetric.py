"""The quasimetric critic (QRL): V(s, g) = -d(φ(s), φ(g)), minus the least number of steps from s to g.

d is a quasimetric, so it obeys the triangle inequality. Among the quasimetrics that give each transition of
the data at most one step, the lengths of shortest paths are the largest. One update descends

    E f(d(φ(s), φ(g))) + λ (E max(0, d(φ(s), φ(s')) - 1)² - ε),   f(d) = c softplus((d₀ - d) / c)

in d and φ, and ascends it in log λ, with λ = 1 at first. Rewards, masks and a discount play no part.

With `dynamics`, a network T predicts the latent of the next state, x̂ = φ(s) + T(φ(s), a), by the loss
E [d(φ(s'), x̂) + d(x̂, φ(s'))] / 2, which trains φ and d too. Then Q(s, a, g) = -d(x̂, φ(g)).

Adam takes one step on the sum of the losses. There are no target networks.

Source: Wang, Torralba, Isola, Zhang 2023, "Optimal Goal-Reaching Reinforcement Learning via Quasimetric
Learning", arXiv:2304.01203, in the form of OGBench (Park et al. 2024, arXiv:2410.20092), agents/qrl.py.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.critics.values import offered
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import pairs
from valuelab.networks.quasimetrics import LatentNetwork, Quasimetric, QuasimetricName, check_width
from valuelab.networks.settings import NetworkConfig
from valuelab.ops.goals import split
from valuelab.types import (
    Array,
    Critic,
    Estimates,
    Key,
    Metrics,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuasimetricConfig(NetworkConfig):
    """Hyperparameters of the quasimetric critic; its unit of distance is one step."""

    hidden_dims: tuple[int, ...] = (512, 512, 512)
    layer_norm: bool = setting(True, help="Normalise the hidden layers, after their activation.")
    quasimetric: QuasimetricName = setting(
        "iqe",
        help='Quasimetric d of latents: "iqe", interval quasimetric embeddings, or "mrn", a metric residual '
        "network.",
    )
    latent_dim: int = setting(
        512, "[1, inf)", "Dimension of φ(s): even for mrn, a multiple of group_size for iqe."
    )
    group_size: int = setting(8, "[1, inf)", "Number of intervals in each group of iqe.")
    offset: float = setting(
        500.0, "[0, inf)", "Distance d₀ of states and goals beyond which the loss hardly increases it."
    )
    softness: float = setting(
        100.0, "(0, inf)", "Range c of distances around the offset where that loss levels off."
    )
    margin: float = setting(
        0.05, "[0, inf)", "Mean squared excess ε over one step that the constraint of transitions allows."
    )
    dynamics: bool = setting(
        True, help="Learn the dynamics of latents, for policies that need Q; otherwise there is only V."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.quasimetric, self.latent_dim, self.group_size)


def quasimetric_critic(config: QuasimetricConfig, spec: Spec) -> Critic:
    """A critic of distances to goals.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data, with goals.

    Returns:
        A critic that offers value and advantage, V(s', g) - V(s, g). With `dynamics` it offers q too (and its
        gradient where actions are continuous). Observations are joined with goals.

    Raises:
        InputError: for data without goals.
    """
    if not spec.goal_conditioned:
        raise InputError(
            "critic quasimetric needs goals, but the data have rewards instead: use a goal-conditioned "
            "dataset, such as ogbench/pointmaze-medium-navigate-v0, or choose another critic"
        )
    latents = LatentNetwork(config.hidden_dims, config.latent_dim, config.layer_norm, config.activation)
    encoder = with_encoder(config.encoder, spec, latents)
    distance = Quasimetric(config.quasimetric, config.group_size)
    optimizer = optax.adam(config.learning_rate)
    of_values = frozenset({"value", "advantage"})

    def init(key: Key, example: Transitions) -> TrainState:
        encoder_key, distance_key, dynamics_key, update_key = jax.random.split(key, 4)
        observations = split(example.observations).observations
        encoder_params = encoder.init(encoder_key, observations)
        encoded = encoder.apply(encoder_params, observations)
        params = {
            "encoder": encoder_params,
            "distance": distance.init(distance_key, encoded, encoded),
            "log_multiplier": jnp.zeros(()),
        }
        if config.dynamics:
            inputs = pairs(encoded, example.actions, spec.num_actions)
            params["dynamics"] = latents.init(dynamics_key, inputs)
        return learning.start(update_key, params, {}, optimizer.init(params))

    def encode(params: Params, *observations: Array) -> Array:
        """φ of batches of equal size, [number of batches, B, d]."""
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *observations)
        return jax.vmap(lambda batch: encoder.apply(params["encoder"], batch))(stacked)

    def between(params: Params, start: Array, end: Array) -> Array:
        return distance.apply(params["distance"], start, end)

    def predict(params: Params, encoded: Array, actions: Array) -> Array:
        """x̂, the latents after one step."""
        inputs = pairs(encoded, actions, spec.num_actions)
        return encoded + latents.apply(params["dynamics"], inputs)

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        del policy  # the shortest paths do not depend on it
        observations, goals = split(batch.observations)
        next_observations = split(batch.next_observations).observations

        def loss(params: Params) -> tuple[Array, Metrics]:
            here, there, goal = encode(params, observations, next_observations, goals)
            to_goal, step = between(params, here, goal), between(params, here, there)
            spread = config.softness * jax.nn.softplus((config.offset - to_goal) / config.softness)
            excess = jnp.mean(jnp.square(jax.nn.relu(step - 1)))
            multiplier = jnp.exp(params["log_multiplier"])
            total = jnp.mean(spread) + jax.lax.stop_gradient(multiplier) * excess
            total += multiplier * (config.margin - jax.lax.stop_gradient(excess))
            metrics = {
                "distance": jnp.mean(to_goal),
                "distance_max": jnp.max(to_goal),
                "step": jnp.mean(step),
                "excess": excess,
                "multiplier": multiplier,
            }
            if config.dynamics:
                predicted = predict(params, here, batch.actions)
                errors = between(params, there, predicted) + between(params, predicted, there)
                dynamics_loss = jnp.mean(errors) / 2
                total += dynamics_loss
                metrics["dynamics_loss"] = dynamics_loss
            return total, metrics

        return learning.update(state, loss, optimizer)

    def estimates(state: TrainState) -> Estimates:
        def value(observations: Array) -> Array:
            return -between(state.params, *encode(state.params, *split(observations)))

        def advantage(batch: Transitions) -> Array:
            return value(batch.next_observations) - value(batch.observations)

        def q(observations: Array, actions: Array) -> Array:
            here, goal = encode(state.params, *split(observations))
            return -between(state.params, predict(state.params, here, actions), goal)

        if not config.dynamics:
            return Estimates(value=value, advantage=advantage)
        return Estimates(q=q, value=value, advantage=advantage)

    return Critic(
        name="quasimetric",
        offers=offered(spec, "q", *of_values) if config.dynamics else of_values,
        init=init,
        update=update,
        average_targets=lambda state: state,
        estimates=estimates,
    )
