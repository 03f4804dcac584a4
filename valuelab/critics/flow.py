"""Flow critics: Q(s, a) as the end of a flow that starts at noise.

A field v(z, t | s, a) carries noise z(0) ~ U[l, u] to z(1) in K steps; Q is the mean of z(1) over m draws.
A plain critic follows Q, so that gradients in the action need not pass through the integration.

One update:

1. Targets y = r + γ · mask · mean_j (z̄_j(1 | s', a'_j) - cost_j) with the target field, aggregated over the
   E members. a'_j and its cost are the policy's, new for each draw j. With `target="distributional"` each
   draw has its own target, y_j = r + γ · mask · (z̄_j(1 | s', a'_j) - cost_j).
2. Field step: at z(t) = (1 - t) z(0) + t y for m draws of z(0) and t, E_b Σ_j (v(z(t), t) - (y - z(0)))².
3. Distillation: E (q(s, a) - Q(s, a))², Q of the NEW field.

`average_targets` then moves the target field towards the NEW one.

Targets, interpolants and what is distilled carry no gradient, so memory does not grow with K.

The metric field_blind_ratio says whether the field uses z. Let every field ignore z, so that
z̄_j(1) = z̄_j(0) + c(s', a'). Then y has the variance γ² mask² Var z(0) / m (without 1 / m where each draw has
its own target), and y - z(0), which the field cannot see, has Var z(0) more. The best such field has the loss

    m Var z(0) (1 + γ² E mask² / m),   or   m Var z(0) (1 + γ² E mask²),   Var z(0) = (u - l)² / 12,

to which random rewards, next states and next actions add. The metric is the field's loss over this level. It
is not given with `supervision="value"`, where a field that ignores z still gives Q.

Source: Agrawalla et al. 2025, "floq: Training Critics via Flow-Matching for Scaling Compute in Value-Based
RL", arXiv:2509.06863; variants of Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import check_widths, setting, widths
from valuelab.critics.values import CriticConfig, aggregate, offered, value_range
from valuelab.errors import InputError
from valuelab.networks import encoders, learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import LAYERS, ensemble, hidden_layers, over_ensemble
from valuelab.networks.values import StateActionValue
from valuelab.networks.velocities import TimeEmbedding, ValueEmbedding, ValueVelocity
from valuelab.ops.flow import integrate, interpolate, trajectory
from valuelab.ops.returns import bootstrapped_targets
from valuelab.types import (
    Array,
    Critic,
    Diagnostics,
    Estimates,
    Flow,
    Key,
    Layer,
    MetricCheck,
    Metrics,
    NextActions,
    Params,
    PolicyView,
    Solver,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowCriticConfig(CriticConfig):
    """Hyperparameters of a flow critic: a velocity field, and a plain critic that is distilled from it."""

    hidden_dims: tuple[int, ...] = widths(
        (512, 512, 512, 512), "Width of each hidden layer, of the distilled critic and of the field."
    )
    field_hidden_dims: tuple[int, ...] = setting(
        (), "[1, inf)", "Width of each hidden layer of the field; empty for those of hidden_dims."
    )
    block_depth: int = setting(
        0, "[0, inf)", "Number of layers in a residual block of the field; 0 for no blocks."
    )
    aggregation: Literal["mean", "min", "min_of_means"] = setting(
        "mean",
        help='How targets combine the values of the ensemble: "mean", "min" over the ensemble for each noise '
        'draw, or "min_of_means" over the ensemble of the mean over the draws.',
    )
    next_actions: Literal["each_draw", "shared"] = setting(
        "each_draw",
        help='"each_draw": the policy draws a new next action for each draw of noise. "shared": all draws of '
        "a transition follow the same next action, which costs less.",
        before="shared",
    )
    num_draws: int = setting(
        8, "[1, inf)", "m, number of noise draws for each transition; Q is the mean over the draws."
    )
    num_steps: int = setting(8, "[1, inf)", "K, number of steps of the integration.")
    solver: Solver = setting("euler", help='Solver of the integration, "euler", "midpoint" or "heun".')
    integration_dtype: Literal["float32", "bfloat16"] = setting(
        "float32",
        help='Number format of the layers of the field in the integration, "float32" or "bfloat16". '
        "z, losses and gradients are float32.",
    )
    coverage: float = setting(
        0.1, "(0, 1]", "c in (0, 1], share of the range of values from which noise is drawn."
    )
    target: Literal["expected", "distributional"] = setting(
        "expected",
        help='"expected": all draws learn the mean of the target field\'s draws. "distributional": each draw '
        "has a target of its own.",
    )
    supervision: Literal["velocity", "value"] = setting(
        "velocity",
        help='The field learns the "velocity" y - z(0), or the "value" y; then its velocity is '
        "(y - z) / (1 - t).",
    )
    times: Literal["uniform", "zero"] = setting(
        "uniform", help='Times t of training, "uniform" in [0, 1], or "zero" for a flow of one step.'
    )
    value_embedding: ValueEmbedding = setting(
        "categorical", help='How the field sees z, "categorical" or "scalar".'
    )
    num_bins: int = setting(50, "[2, inf)", "Number of bins of the categorical embedding.")
    bin_width: float = setting(2.0, "(0, inf)", "σ of the categorical embedding, in bins.")
    time_embedding: TimeEmbedding = setting("fourier", help='How the field sees t, "fourier" or "cosine".')
    time_size: int = setting(64, "[2, inf)", "Number of components of the Fourier embedding, even.")
    time_scale: float = setting(
        1.0, "(0, inf)", "Euclidean norm of the Fourier embedding.", before=math.sqrt(32)
    )
    time_fastest: float = setting(
        2.0,
        "[0.25, inf)",
        "Highest frequency of the Fourier embedding, in periods from t = 0 to 1; the lowest is 0.25.",
        before=64.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        field_widths = "field_hidden_dims" if self.field_hidden_dims else "hidden_dims"
        check_widths(self, field_widths, block_depth=self.block_depth)
        if self.time_size % 2:
            raise InputError(f"time_size is {self.time_size}; it must be even: half sines, half cosines")
        if self.supervision == "value" and self.solver == "heun":
            raise InputError(
                "solver heun needs the velocity at t = 1, but supervision by value does not train it: "
                "choose euler or midpoint"
            )
        if self.target == "distributional" and self.aggregation == "min_of_means":
            raise InputError(
                "aggregation is 'min_of_means', but each draw has a target of its own if target is "
                "'distributional': choose aggregation 'min' or 'mean'"
            )


def uses_z(config: FlowCriticConfig) -> MetricCheck:
    """The check that the field uses z at some time of a run."""
    fourier = "time_embedding fourier, " if config.time_embedding == "cosine" else ""
    return MetricCheck(
        metric="field_blind_ratio",
        level=1.0,
        below=0.9,
        meaning="the field seems to ignore z, so that the flow adds nothing to a plain critic; train for "
        f"more steps, or try {fourier}a larger coverage or a smaller bin_width",
    )


def flow_critic(config: FlowCriticConfig, spec: Spec) -> Critic:
    """A critic that integrates a velocity field from noise to Q.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data, whose least and greatest reward bound values.

    Returns:
        A critic that offers q, of the distilled critic (its gradient too where actions are continuous).

    Raises:
        InputError: when the range of rewards is empty or infinite.
    """
    noise_low, noise_high = value_range(spec, config.discount, config.coverage, padding=0.0)
    value_low, value_high = value_range(spec, config.discount)
    field = ValueVelocity(
        hidden_dims=config.field_hidden_dims or config.hidden_dims,
        layer_norm=config.layer_norm,
        block_depth=config.block_depth,
        value_low=value_low,
        value_high=value_high,
        value_embedding=config.value_embedding,
        num_bins=config.num_bins,
        bin_width=config.bin_width,
        time_embedding=config.time_embedding,
        time_size=config.time_size,
        time_scale=config.time_scale,
        time_fastest=config.time_fastest,
        num_actions=spec.num_actions,
        activation=config.activation,
    )
    members = ensemble(StateActionValue, config.ensemble_size)(
        config.hidden_dims, config.layer_norm, spec.num_actions, config.activation
    )
    distilled = with_encoder(config.encoder, spec, members)
    encoder = encoders.choose(config.encoder, spec)
    optimizer = optax.adam(config.learning_rate)

    def noise_at(shares: Array) -> Array:
        """Noise z(0) from numbers in [0, 1]: the point of its range at this share of its length."""
        return noise_low + (noise_high - noise_low) * shares

    def look(params: Params, observations: Array) -> tuple[Params, Array]:
        """The fields' own parameters, and what they see, which one encoder makes of images for all."""
        if encoder is None:
            return params, observations
        return params["members"], encoder().apply(params["encoder"], observations)

    def prepare(params: Params, observations: Array, actions: Array) -> tuple[Params, Array]:
        """The fields' parameters and the encoded pairs [E, B, n, width], as the integration uses them."""
        params, seen = look(params, observations)
        encoded = jax.vmap(lambda member: field.apply(member, seen, actions, method="encode"))(params)
        return jax.tree.map(lambda leaf: leaf.astype(config.integration_dtype), (params, encoded))

    def of_member(member: Params, encoded: Array) -> Callable[[Array, Array], Array]:
        """One field as it is integrated, dz/dt [B, m] at z [B, m] and a time."""

        def along(values: Array, time: Array) -> Array:
            outputs = field.apply(member, encoded, values, time, method="velocity")
            return outputs if config.supervision == "velocity" else (outputs - values) / (1 - time)

        return along

    def velocity(params: Params, observations: Array, actions: Array) -> Callable[[Array, Array], Array]:
        """Each member's field as it is integrated, dz/dt [E, B, m] at z [E, B, m] and a time."""
        prepared = prepare(params, observations, actions[:, None])

        def along(values: Array, time: Array) -> Array:
            def slope(member: Params, encoded: Array, values: Array) -> Array:
                return of_member(member, encoded)(values, time)

            return over_ensemble(slope)(*prepared, values)

        return along

    def ends(params: Params, observations: Array, actions: Array, noise: Array) -> Array:
        """z(1) of each member and draw, [E, B, m], from the same noise [B, m].

        Actions are [B, n, A] or [B, n], with n = m, or n = 1 if the draws share them.
        """

        def end(member: Params, encoded: Array) -> Array:
            return integrate(of_member(member, encoded), noise, config.num_steps, config.solver)

        return over_ensemble(end)(*prepare(params, observations, actions))

    def look_ahead(policy: PolicyView, batch: Transitions, key: Key) -> NextActions:
        """Next actions [B, n, A] or [B, n] and their costs [B, n]."""
        keys = jax.random.split(key, config.num_draws if config.next_actions == "each_draw" else 1)
        # What does not depend on the key, such as the encoding of an image, is computed once.
        return jax.vmap(lambda key: policy.look_ahead(batch, key), out_axes=1)(keys)

    def combine(values: Array, costs: Array) -> Array:
        """Next values [B, 1] for all draws or [B, m] for each, from z(1) [E, B, m] and costs [B, n]."""
        if config.aggregation == "min_of_means":
            values = jnp.mean(values, axis=2, keepdims=True)
        values = aggregate("mean" if config.aggregation == "mean" else "min", values) - costs
        return jnp.mean(values, axis=1, keepdims=True) if config.target == "expected" else values

    def blind_loss(masks: Array) -> Array:
        """The loss of the best field that ignores z, if its targets ignore z too."""
        noise_variance = jnp.square(noise_high - noise_low) / 12
        averaged = config.num_draws if config.target == "expected" else 1
        bootstrapped = jnp.square(config.discount) * jnp.mean(jnp.square(masks)) / averaged
        return config.num_draws * noise_variance * (1 + bootstrapped)

    def init(key: Key, example: Transitions) -> TrainState:
        field_key, distilled_key, update_key = jax.random.split(key, 3)
        blank = jnp.zeros((len(example.rewards), config.num_draws))

        def init_fields(seen: Array) -> Params:
            keys = jax.random.split(field_key, config.ensemble_size)
            return jax.vmap(lambda key: field.init(key, seen, example.actions, blank, blank))(keys)

        if encoder is None:
            fields = init_fields(example.observations)
        else:
            encoder_key = jax.random.fold_in(field_key, config.ensemble_size)
            seen, encoder_params = encoder().init_with_output(encoder_key, example.observations)
            fields = {"encoder": encoder_params, "members": init_fields(seen)}
        params = {
            "field": fields,
            "distilled": distilled.init(distilled_key, example.observations, example.actions),
        }
        opt_state = {name: optimizer.init(part) for name, part in params.items()}
        return learning.start(update_key, params, {"field": params["field"]}, opt_state)

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        action_key, draw_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        shares = jax.random.uniform(draw_key, (4, len(batch.rewards), config.num_draws))

        # 1. Targets [B, m].
        following = look_ahead(policy, batch, action_key)
        noise = noise_at(shares[0])
        next_values = ends(state.target_params["field"], batch.next_observations, following.actions, noise)
        next_values = jnp.broadcast_to(combine(next_values, following.costs), noise.shape)
        targets = bootstrapped_targets(batch.rewards, batch.masks, next_values, config.discount)

        noise = noise_at(shares[1])
        times = jnp.zeros_like(noise) if config.times == "zero" else shares[2]
        points = interpolate(noise, targets, times)
        wanted = targets - noise if config.supervision == "velocity" else targets

        def field_loss(params):
            fields, seen = look(params, batch.observations)
            outputs = jax.vmap(field.apply, (0, None, None, None, None))(
                fields, seen, batch.actions, points, times
            )
            losses = jnp.sum(jnp.square(outputs - wanted[None]), axis=2)
            return jnp.mean(losses), {"target_mean": jnp.mean(targets)}

        # 2. Field step.
        state, field_metrics = learning.update_part(state, "field", field_loss, optimizer)

        noise, actions = noise_at(shares[3]), batch.actions[:, None]
        values = jnp.mean(ends(state.params["field"], batch.observations, actions, noise), axis=(0, 2))

        def distillation_loss(params):
            q_values = distilled.apply(params, batch.observations, batch.actions)
            return jnp.mean(jnp.square(q_values - values[None])), {"mean": jnp.mean(q_values)}

        # 3. Distillation.
        state, q_metrics = learning.update_part(state, "distilled", distillation_loss, optimizer)

        metrics = {f"field_{name}": metric for name, metric in field_metrics.items()}
        metrics |= {f"q_{name}": metric for name, metric in q_metrics.items()}
        if config.supervision == "velocity":
            metrics["field_blind_ratio"] = metrics["field_loss"] / blind_loss(batch.masks)
        return state._replace(step=state.step + 1), metrics

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            return jnp.mean(distilled.apply(state.params["distilled"], observations, actions), axis=0)

        return Estimates(q=q)

    def start(key: Key, size: int) -> Array:
        noise = noise_at(jax.random.uniform(key, (size, config.num_draws)))
        return jnp.broadcast_to(noise[None], (config.ensemble_size, *noise.shape))

    flow = Flow(
        start=start,
        velocity=lambda state, observations, actions: velocity(state.params["field"], observations, actions),
        num_steps=config.num_steps,
        solver=config.solver,
    )

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        """Of the field, in the K m points from which the steps of the m draws are made."""
        along = flow.velocity(state, observations, actions)
        points = trajectory(along, start(key, len(actions)), config.num_steps, config.solver)[:-1]
        points = jnp.moveaxis(points, 0, 2)
        times = jnp.broadcast_to(
            (jnp.arange(config.num_steps) / config.num_steps)[None, :, None], points.shape[1:]
        ).reshape(len(actions), -1)

        fields, seen = look(state.params["field"], observations)

        def units(member: Params, values: Array) -> Params:
            values = values.reshape(times.shape)
            variables = field.apply(member, seen, actions, values, times, mutable=LAYERS)[1]
            return jax.tree.map(lambda leaf: leaf.reshape(*times.shape, -1), variables)

        return hidden_layers(jax.vmap(units)(fields, points))

    return Critic(
        name="flow",
        offers=offered(spec, "q"),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        diagnostics=Diagnostics(discount=config.discount, layers=layers, flow=flow),
        checks=(uses_z(config),) if config.supervision == "velocity" else (),
    )
