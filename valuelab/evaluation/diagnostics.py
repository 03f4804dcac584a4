"""Diagnostics of a trained critic on some rows of its data.

`diagnose` takes any `Critic` and returns a report: nested names to arrays. It runs inside jit and can be
mapped over seeds. The report omits what a critic does not provide (see `Critic`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from valuelab.evaluation import statistics
from valuelab.ops import features as ops
from valuelab.ops import order, recovery
from valuelab.ops.order import Moments
from valuelab.types import Array, Critic, Flow, Key, Layer, TrainState

READ_OUTS = (1, 2, 4, 8, 16, 32)
"""Numbers of integration steps at which the values of a flow are computed; slopes use the last."""
MISSING = 0.01
"""A return counts as known if the weight of the rewards after its trajectory was cut is below this number."""


class Rows(NamedTuple):
    """B rows of a dataset in random order, as the critic sees them.

    Attributes:
        observations: [B, ...], joined with goals if there are any.
        actions: [B, A] or [B].
        returns: [B], G of `monte_carlo_returns` with the critic's discount.
        missing: [B], w of `monte_carlo_returns`.
    """

    observations: Array
    actions: Array
    returns: Array
    missing: Array

    @property
    def known(self) -> Array:
        """1 where the return is known, else 0, [B]."""
        return (self.missing < MISSING).astype(jnp.float32)


class Diagnosis(NamedTuple):
    """Diagnostics of one critic.

    Attributes:
        report: names to scalars, curves, or nested reports.
        q: [B].
        features: [E, B', width], the last hidden layer, from which Q is computed, averaged over its places.
            A few of the B rows may be missing at the end. None if the critic does not provide its layers.
    """

    report: dict[str, Any]
    q: Array
    features: Array | None


def diagnose(critic: Critic, state: TrainState, rows: Rows, key: Key) -> Diagnosis:
    """All diagnostics of one state of a critic.

    Args:
        critic: any critic.
        state: its state.
        rows: the rows at which it is evaluated.
        key: the key of the noise of flow critics; use the same key to compare two states.

    Returns:
        A diagnosis, whose report holds:

        - weight_norms: the norm of each layer's weights; gradient_norms: the norm of Adam's mean gradients of
          each layer.
        - q: mean; bias, rmse and correlation against known returns of the policy in the data.
        - layers: effective_rank, dormant_fraction and feature_norm of each hidden layer. The norm is the mean
          length of the units before layer norm, which makes all lengths alike. Rank and dormancy use
          means over a layer's places, which makes critics comparable: the Q of a flow critic is linear in
          these means (with Euler steps and supervision by velocity).
        - refit_error: the error of a linear fit of known returns to the features.
        - flow: only of flow critics, see `diagnose_flow`.
    """
    q = critic.estimates(state).q(rows.observations, rows.actions)
    report: dict[str, Any] = {
        "weight_norms": ops.norms(state.params),
        "gradient_norms": ops.norms(mean_gradients(state.opt_state)),
        "q": {"mean": jnp.mean(q)} | value_error(q, rows.returns, rows.known),
    }
    features = None
    shown = critic.diagnostics
    if shown and shown.layers:
        report["layers"], features = _diagnose_layers(shown.layers, state, rows, key)
        count = features.shape[1]
        errors = jax.vmap(ops.refit_error, (0, None, None))(
            features, rows.returns[:count], rows.known[:count]
        )
        report["refit_error"] = jnp.mean(errors)
    if shown and shown.flow:
        report["flow"] = diagnose_flow(shown.flow, state, rows, key)
    return Diagnosis(report=report, q=q, features=features)


def compare(earlier: Diagnosis, later: Diagnosis) -> dict[str, Array]:
    """The change of features between two states of a critic, diagnosed at the same rows with the same key.

    Returns:
        feature_drift: how far the features moved; later_refit_error: the error of a linear fit of the later Q
        to the earlier features. Both are means over the ensemble. Empty if the critic does not provide its
        layers.
    """
    if earlier.features is None or later.features is None:
        return {}
    targets = later.q[: later.features.shape[1]]
    return {
        "feature_drift": jnp.mean(jax.vmap(ops.feature_drift)(earlier.features, later.features)),
        "later_refit_error": jnp.mean(jax.vmap(ops.refit_error, (0, None))(earlier.features, targets)),
    }


def value_error(q: Array, returns: Array, known: Array) -> dict[str, Array]:
    """Errors of values [B] against returns [B] where known [B] is 1: bias E(q - G), rmse, correlation.

    All are NaN if no return is known.
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


def diagnose_flow(flow: Flow, state: TrainState, rows: Rows, key: Key) -> dict[str, Any]:
    """Diagnostics of the flow of a critic, at the first B / m rows: with m noise draws these are B paths.

    Args:
        flow: the critic's flow.
        state: the critic's state.
        rows: the rows at which it is evaluated.
        key: the key of the noise.

    Returns:
        The report:

        - recovery: [K], for each step the share left at time 1 of an offset added before this step; the
          offset is one standard deviation of the noise.
        - read_out: for each number of steps in READ_OUTS the mean of Q, its root mean square difference from
          that of the last number, and bias, rmse and correlation against known returns.
        - slope: times t, the mean of dv/dz at t, and conic_rate, c.
    """
    draws = jax.eval_shape(lambda: flow.start(key, 1)).shape[2]
    rows = jax.tree.map(lambda array: array[: max(1, len(rows.returns) // draws)], rows)
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


def _diagnose_layers(
    layers: Callable[[TrainState, Array, Array, Key], dict[str, Layer]],
    state: TrainState,
    rows: Rows,
    key: Key,
) -> tuple[dict[str, dict[str, Array]], Array]:
    """The report of the hidden layers, and the features of the last one, [E, B', width].

    The network evaluates each pair at several places, so pairs go through it in pieces of about B places.
    """
    shapes = jax.eval_shape(layers, state, rows.observations, rows.actions, key)
    size = max(1, len(rows.actions) // max(layer.features.shape[2] for layer in shapes.values()))
    pieces = len(rows.actions) // size

    def in_pieces(rows: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[: pieces * size].reshape(pieces, size, *leaf.shape[1:]), rows)

    def joined(array: Array) -> Array:
        """[pieces, E, size, width] as [E, B', width]."""
        return jnp.moveaxis(array, 0, 1).reshape(array.shape[1], pieces * size, array.shape[3])

    def over_places(piece: tuple[Array, Array, Array]) -> dict[str, tuple[Array, Array, Array]]:
        number, observations, actions = piece
        by_name = layers(state, observations, actions, jax.random.fold_in(key, number))
        return {
            name: (
                jnp.mean(jnp.abs(layer.units), axis=2),
                jnp.mean(layer.features, axis=2),
                ops.feature_norm(layer.units),  # features have the length of layer norm's scale
            )
            for name, layer in by_name.items()
        }

    outputs = jax.lax.map(
        over_places, (jnp.arange(pieces), in_pieces(rows.observations), in_pieces(rows.actions))
    )
    report = {
        name: {
            "effective_rank": jnp.mean(jax.vmap(ops.effective_rank)(joined(features))),
            "dormant_fraction": jnp.mean(jax.vmap(ops.dormant_fraction)(joined(units))),
            "feature_norm": jnp.mean(lengths),
        }
        for name, (units, features, lengths) in outputs.items()
    }
    return report, joined(outputs[f"layer_{len(outputs)}"][1])


class OrderDiagnosis(NamedTuple):
    """The order of the values of M members along K trajectories.

    Attributes:
        report: names to numbers [M].
        moments: arrays [M, K].
    """

    report: dict[str, Any]
    moments: Moments

    @property
    def correlations(self) -> np.ndarray:
        """The value-order correlation of each trajectory, [M, K]; NaN where there is no order."""
        return order.correlation(self.moments)


def diagnose_order(
    values: np.ndarray, lengths: np.ndarray, successes: np.ndarray | None = None, seed: int = 0
) -> OrderDiagnosis:
    """The order of values along trajectories, and how well their final values tell successes.

    Args:
        values: [M, N], of M members for the observations of all trajectories.
        lengths: [K], the number of observations of each trajectory.
        successes: [K] bool; None if successes are unknown.
        seed: of the half of the trajectories on which the threshold of a success is chosen.

    Returns:
        A diagnosis, whose report holds:

        - mean: the mean of the trajectories' correlations, see `ops.order.value_order`.
        - pooled: the correlation within all trajectories, see `ops.order.pooled`.
        - without_order: the number of trajectories that have no order; they are left out.
        - success: threshold, precision, recall and auc of `ops.order.detect`; missing unless there are at
          least two successes and two failures.
    """
    each = [order.moments(row, lengths) for row in values]
    moments = Moments(*(np.stack(parts) for parts in zip(*each, strict=True)))
    found = order.correlation(moments)
    has_order = np.isfinite(found)
    count = has_order.sum(1)
    total = np.where(has_order, found, 0.0).sum(1)
    report: dict[str, Any] = {
        "mean": np.divide(total, count, out=np.full(len(found), np.nan), where=count > 0),
        "pooled": order.correlation(order.pooled(moments)),
        "without_order": len(lengths) - count,
    }
    if successes is not None and 2 <= successes.sum() <= len(successes) - 2:
        labelled = np.zeros(len(successes), bool)
        for kind in (True, False):  # half of the successes, and half of the failures
            alike = np.random.default_rng(seed).permutation(np.flatnonzero(successes == kind))
            labelled[alike[: len(alike) // 2]] = True
        finals = values[:, np.cumsum(lengths) - 1]
        detections = [order.detect(row, successes, labelled) for row in finals]
        columns = np.array(detections).T
        report["success"] = dict(zip(order.Detection._fields, columns, strict=True))
    return OrderDiagnosis(report=report, moments=moments)


def order_intervals(moments: Moments) -> dict[str, Any]:
    """The mean and the pooled order, with 95 % bootstrap intervals over M members and K trajectories.

    Args:
        moments: arrays [M, K].

    Returns:
        "mean" and "pooled", each as of `statistics.mean_interval`; empty without a trajectory that has an
        order for all members.
    """
    correlations = order.correlation(moments)
    has_order = np.isfinite(correlations).all(0)
    if not has_order.any():
        return {}
    return {
        "mean": statistics.mean_interval(correlations[:, has_order]),
        "pooled": statistics.pooled_interval(
            [each[:, has_order] for each in moments], lambda *sums: order.correlation(Moments(*sums))
        ),
    }


def mean_gradients(opt_state: Any) -> Any:
    """Adam's running means of gradients, in the structure of the parameters; None for other optimisers.

    An optimiser for each part, as in a dictionary of parts, gives a dictionary. With an auxiliary loss these
    parts are the steps of the critic, "critic", and those of the loss on all parameters, "auxiliary".
    """
    if isinstance(opt_state, dict):
        return {name: mean_gradients(part) for name, part in opt_state.items()}
    return optax.tree.get(opt_state, "mu")
