"""Gradient steps, target averages, learning-rate schedules and initial train states."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from valuelab.errors import InputError
from valuelab.types import Array, Key, Metrics, Params, Spec, TrainState


def start(key: Key, params: Params, target_params: Params, opt_state: Any) -> TrainState:
    """The initial TrainState of a critic, policy or feature learner.

    Target parameters are copied, because JAX cannot donate the same buffer twice.
    """
    return TrainState(params, jax.tree.map(jnp.copy, target_params), opt_state, jnp.zeros((), jnp.int32), key)


def average_targets(state: TrainState, rate: Array | float) -> TrainState:
    """Moves target parameters towards the parameters of the same names.

        θ̄ ← (1 - ρ) θ̄ + ρ θ

    Args:
        state: a state whose target_params have all or some of the top-level names of params.
        rate: ρ in (0, 1].
    """
    followed = {name: state.params[name] for name in state.target_params}
    return state._replace(target_params=optax.incremental_update(followed, state.target_params, rate))


def scheduled(learning_rate: Array | float, schedule: str, spec: Spec) -> Array | float | optax.Schedule:
    """A learning rate or schedule for optax.

    Args:
        learning_rate: the learning rate of the first update.
        schedule: "cosine" (decays to 0 at the end of the run) or "constant".
        spec: the spec of the data, with the length of the run.

    Raises:
        InputError: when the schedule is "cosine" but the length of the run is unknown.
    """
    if schedule == "constant":
        return learning_rate
    if spec.num_updates < 1:
        raise InputError(
            "the learning rate's schedule is 'cosine', but spec.num_updates is 0 (unknown): "
            "give spec.num_updates, or choose 'constant'"
        )
    return optax.cosine_decay_schedule(learning_rate, spec.num_updates)


def adam_by_part(rates: Callable[[Params], Any]) -> optax.GradientTransformation:
    """Adam, with a learning rate for each part of the parameters. Its state is that of `optax.adam`.

    Args:
        rates: params -> learning rates, a tree whose leaves stand for parts of the parameters.
    """

    def scale(updates: Params, params: Params) -> Params:
        del params
        return jax.tree.map(
            lambda rate, part: jax.tree.map(lambda leaf: -rate * leaf, part), rates(updates), updates
        )

    return optax.chain(optax.scale_by_adam(), optax.stateless(scale))


def gradient_step(
    loss: Callable[[Params], tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: Any,
) -> tuple[Params, Any, Metrics]:
    """One gradient step on a loss.

    Args:
        loss: params -> (scalar loss, metrics).
        optimizer: the optax transformation of gradients into updates.
        params: the current parameters.
        opt_state: the optimiser's state.

    Returns:
        New params, new opt_state, and the loss's metrics with "loss" and "gradient_norm" added.
    """
    (value, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    metrics = metrics | {"loss": value, "gradient_norm": optax.tree.norm(gradients)}
    return optax.apply_updates(params, updates), opt_state, metrics


def update_part(
    state: TrainState,
    name: str,
    loss: Callable[[Params], tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """One gradient step on one part of the parameters; `step` does not count it.

    Args:
        state: the state before the step; its params and opt_state are dicts with the same names.
        name: the name of the part.
        loss: params of the part -> (scalar loss, metrics).
        optimizer: the optax transformation of gradients into updates.

    Returns:
        The state after the step, and the metrics of `gradient_step`.
    """
    params, opt_state, metrics = gradient_step(loss, optimizer, state.params[name], state.opt_state[name])
    state = state._replace(
        params=state.params | {name: params}, opt_state=state.opt_state | {name: opt_state}
    )
    return state, metrics


def update(
    state: TrainState,
    loss: Callable[[Params], tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """One gradient step on all parameters of a state; target parameters and key stay as they are.

    Args:
        state: the state before the step.
        loss: params -> (scalar loss, metrics).
        optimizer: the optax transformation of gradients into updates.

    Returns:
        The state after the step, and the metrics of `gradient_step`.
    """
    params, opt_state, metrics = gradient_step(loss, optimizer, state.params, state.opt_state)
    return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics
