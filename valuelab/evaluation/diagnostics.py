"""What there is to see of a trained critic, at some rows of its data.

`look` takes any `Critic` and returns a report: nested names to arrays, all made inside jit, so that it can be
mapped over seeds. What a critic does not show (see `Critic`) is left out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from valuelab.ops import features as ops
from valuelab.ops import recovery
from valuelab.types import Array, Critic, Flow, Key, Layer, TrainState

READ_OUTS = (1, 2, 4, 8, 16, 32)
"""Numbers of steps in which a flow is read out; its slopes are taken along the last."""
MISSING = 0.01
"""Returns count as known where what a cut trajectory lacks enters with less than this weight."""


class Rows(NamedTuple):
    """B rows of a dataset in no order, as the critic sees them.

    Attributes:
        observations: [B, ...], joined with goals where there are any.
        actions: [B, A] or [B].
        returns: [B], of `monte_carlo_returns` with the critic's discount.
        missing: [B], likewise.
    """

    observations: Array
    actions: Array
    returns: Array
    missing: Array

    @property
    def known(self) -> Array:
        """[B], 1 where the return is known, else 0."""
        return (self.missing < MISSING).astype(jnp.float32)


class Sight(NamedTuple):
    """What was seen of one critic.

    Attributes:
        report: names to scalars, curves, or reports in turn.
        q: [B].
        features: [E, B, width] of the last hidden layer, a mean over its places; what Q is read from. Where
            these do not divide B, the last rows are missing. None where the critic shows no layers.
    """

    report: dict[str, Any]
    q: Array
    features: Array | None


def look(critic: Critic, state: TrainState, rows: Rows, key: Key) -> Sight:
    """Everything that one state of a critic tells.

    Args:
        critic: any.
        state: its state.
        rows: where it is looked at.
        key: of the noise of flow critics; the same key makes two states comparable.

    Returns:
        A sight, whose report holds:
        weight_norms: by layer; gradient_norms: of the mean gradient that Adam keeps, likewise.
        q: mean, and bias, rmse and correlation against known returns, those of the policy in the data.
        layers: effective_rank, dormant_fraction and feature_norm of each hidden layer. Rank and dormancy
            are of means over a layer's places, so that they compare between critics: the Q of a flow critic
            is linear in just these means (with Euler steps and supervision by velocity).
        refit_error: of known returns from the features.
        flow: of flow critics, see `look_along`.
    """
    q = critic.estimates(state).q(rows.observations, rows.actions)
    report: dict[str, Any] = {
        "weight_norms": ops.norms(state.params),
        "gradient_norms": ops.norms(_mean_gradients(state.opt_state)),
        "q": {"mean": jnp.mean(q)} | value_error(q, rows.returns, rows.known),
    }
    features = None
    if critic.layers:
        report["layers"], features = _look_at_layers(critic.layers, state, rows, key)
        count = features.shape[1]
        errors = jax.vmap(ops.refit_error, (0, None, None))(
            features, rows.returns[:count], rows.known[:count]
        )
        report["refit_error"] = jnp.mean(errors)
    if critic.flow:
        report["flow"] = look_along(critic.flow, state, rows, key)
    return Sight(report, q, features)


def compare(earlier: Sight, later: Sight) -> dict[str, Array]:
    """What became of features between two states of a critic, looked at in the same rows with the same key.

    Returns:
        feature_drift: how far they moved, and later_refit_error: how badly the later Q follows from the
        earlier features by a linear map; means over the ensemble. Nothing where layers are not shown.
    """
    if earlier.features is None or later.features is None:
        return {}
    targets = later.q[: later.features.shape[1]]
    return {
        "feature_drift": jnp.mean(jax.vmap(ops.feature_drift)(earlier.features, later.features)),
        "later_refit_error": jnp.mean(jax.vmap(ops.refit_error, (0, None))(earlier.features, targets)),
    }


def value_error(q: Array, returns: Array, known: Array) -> dict[str, Array]:
    """How far values [B] are from returns [B] where known [B] is 1: bias E(q - G), rmse, correlation.

    All NaN where no return is known.
    """

    def mean(numbers: Array) -> Array:
        return jnp.sum(known * numbers) / jnp.sum(known)

    error, q_part, return_part = q - returns, q - mean(q), returns - mean(returns)
    return {
        "bias": mean(error),
        "rmse": jnp.sqrt(mean(jnp.square(error))),
        "correlation": mean(q_part * return_part)
        / jnp.sqrt(mean(jnp.square(q_part)) * mean(jnp.square(return_part))),
    }


def look_along(flow: Flow, state: TrainState, rows: Rows, key: Key) -> dict[str, Any]:
    """What the flow of a critic tells, in as many rows as make B ways together.

    Args:
        flow: of the critic.
        state: of the critic.
        rows: where it is looked at.
        key: of the noise.

    Returns:
        recovery: [K], what is left of an offset of one standard deviation of the noise, by step.
        read_out: for READ_OUTS steps, the mean of Q, its root mean square change from the last of them,
            and bias, rmse and correlation against known returns.
        slope: times t, mean dv/dz there, and conic_rate, c.
    """
    draws = jax.eval_shape(lambda: flow.start(key, 1)).shape[2]
    rows = Rows(*(array[: max(1, len(rows.returns) // draws)] for array in rows))
    start = flow.start(key, len(rows.returns))
    velocity = flow.velocity(state, rows.observations, rows.actions)
    ends = recovery.read_out_sweep(velocity, start, READ_OUTS, flow.solver)
    values = jnp.mean(ends, axis=(1, 3))
    errors = jax.vmap(value_error, (0, None, None))(values, rows.returns, rows.known)
    times, slopes = recovery.slopes(velocity, start, READ_OUTS[-1], flow.solver)
    return {
        "recovery": recovery.recovery_curve(velocity, start, flow.num_steps, jnp.std(start), flow.solver),
        "read_out": {
            "steps": jnp.asarray(READ_OUTS),
            "mean": jnp.mean(values, axis=1),
            "change": jnp.sqrt(jnp.mean(jnp.square(values - values[-1:]), axis=1)),
        }
        | errors,
        "slope": {
            "times": times,
            "mean": jnp.mean(slopes, axis=(1, 2, 3)),
            "conic_rate": recovery.conic_rate(times, slopes),
        },
    }


def _look_at_layers(
    layers: Callable[[TrainState, Array, Array, Key], dict[str, Layer]],
    state: TrainState,
    rows: Rows,
    key: Key,
) -> tuple[dict[str, dict[str, Array]], Array]:
    """The report of the hidden layers, and the features of the last, [E, B', width].

    Pairs are taken in pieces of which the rows that go through the network are about B.
    """
    shapes = jax.eval_shape(layers, state, rows.observations, rows.actions, key)
    size = max(1, len(rows.actions) // max(layer.features.shape[2] for layer in shapes.values()))
    pieces = len(rows.actions) // size

    def in_pieces(array: Array) -> Array:
        return array[: pieces * size].reshape(pieces, size, *array.shape[1:])

    def joined(array: Array) -> Array:
        """[pieces, E, size, width] as [E, B', width]."""
        return jnp.moveaxis(array, 0, 1).reshape(array.shape[1], pieces * size, array.shape[3])

    def over_places(piece: tuple[Array, Array, Array]) -> dict[str, tuple[Array, Array, Array]]:
        number, observations, actions = piece
        seen = layers(state, observations, actions, jax.random.fold_in(key, number))
        return {
            name: (
                jnp.mean(jnp.abs(layer.units), axis=2),
                jnp.mean(layer.features, axis=2),
                ops.feature_norm(layer.features),
            )
            for name, layer in seen.items()
        }

    seen = jax.lax.map(
        over_places, (jnp.arange(pieces), in_pieces(rows.observations), in_pieces(rows.actions))
    )
    report = {
        name: {
            "effective_rank": jnp.mean(jax.vmap(ops.effective_rank)(joined(features))),
            "dormant_fraction": jnp.mean(jax.vmap(ops.dormant_fraction)(joined(units))),
            "feature_norm": jnp.mean(lengths),
        }
        for name, (units, features, lengths) in seen.items()
    }
    return report, joined(seen[f"layer_{len(seen)}"][1])


def _mean_gradients(opt_state: Any) -> Any:
    """Adam's running means of gradients, in the form of the parameters; None for other optimisers."""
    if isinstance(opt_state, dict):
        return {name: optax.tree.get(part, "mu") for name, part in opt_state.items()}
    return optax.tree.get(opt_state, "mu")
