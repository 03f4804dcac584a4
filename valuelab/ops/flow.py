"""Flow matching: a velocity field that moves noise to data.

A field v(x, t) is trained at points x(t) of the straight line from noise x(0) to data x(1) to predict the
velocity x(1) - x(0). Integrated from new noise it draws samples from the distribution of the data. If the
data are a deterministic function of the field's other inputs, it computes this function in many small steps.

Source: Lipman et al. 2023, arXiv:2210.02747; for critics Agrawalla et al. 2025, arXiv:2509.06863 (floq).
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array, Solver

_SLOWEST = 0.25
"""The lowest frequency of `fourier_embedding`, in periods over the unit interval."""


def interpolate(noise: Array, data: Array, times: Array) -> Array:
    """The point at time t on the line from noise to data.

        x(t) = (1 - t) x(0) + t x(1)

    Args:
        noise: x(0), [...].
        data: x(1), of the same shape.
        times: t in [0, 1], of the same rank; axes of length 1 are broadcast.

    Returns:
        x(t), [...].
    """
    chex.assert_equal_shape([noise, data])
    chex.assert_equal_rank([noise, times])
    return (1 - times) * noise + times * data


def integrate(
    velocity: Callable[[Array, Array], Array],
    start: Array,
    num_steps: Array | int,
    solver: Solver = "euler",
    first: Array | int = 0,
    last: Array | int | None = None,
) -> Array:
    """Integrates a velocity field from time 0 to time 1; like `trajectory`, but returns only the end.

    Args:
        velocity: (x [...], t scalar) -> dx/dt [...].
        start: x(first / K), [...].
        num_steps: K, at least 1.
        solver: the integration scheme.
        first: the index of the first step, in 0 .. K - 1.
        last: the index after that of the last step; None for K.

    Returns:
        x(last / K), [...].
    """
    return jax.lax.fori_loop(
        first,
        num_steps if last is None else last,
        lambda k, x: _step(velocity, x, k / num_steps, 1 / num_steps, solver),
        start,
    )


def trajectory(
    velocity: Callable[[Array, Array], Array], start: Array, num_steps: int, solver: Solver = "euler"
) -> Array:
    """Integrates a velocity field from time 0 to time 1 in K equal steps of h = 1 / K.

        euler:     x ← x + h v(x, t)
        midpoint:  x ← x + h v(x + h/2 v(x, t), t + h/2)
        heun:      x ← x + h/2 [v(x, t) + v(x + h v(x, t), t + h)]

    Args:
        velocity: (x [...], t scalar) -> dx/dt [...].
        start: x(0), [...].
        num_steps: K, at least 1.
        solver: the integration scheme; "midpoint" and "heun" evaluate the field twice in each step.

    Returns:
        x(0), x(h), ..., x(1), [K + 1, ...].
    """

    def step(x: Array, k: Array) -> tuple[Array, Array]:
        x = _step(velocity, x, k / num_steps, 1 / num_steps, solver)
        return x, x

    _, points = jax.lax.scan(step, start, jnp.arange(num_steps))
    return jnp.concatenate([start[None], points])


def _step(
    velocity: Callable[[Array, Array], Array], x: Array, time: Array, h: Array | float, solver: Solver
) -> Array:
    slope = velocity(x, time)
    if solver == "midpoint":
        slope = velocity(x + h / 2 * slope, time + h / 2)
    elif solver == "heun":
        slope = (slope + velocity(x + h * slope, time + h)) / 2
    return x + h * slope


def fourier_embedding(
    times: Array, size: int, fastest: Array | float = 2.0, norm: Array | float = 1.0
) -> Array:
    """Sines and cosines of times at many frequencies, so that a network can vary fast with t.

        n √(2 / size) [sin(2π ω_i t), cos(2π ω_i t)]

    The size / 2 frequencies ω_i rise from 1/4 to the fastest in a geometric sequence.

    Args:
        times: t in [0, 1], [...].
        size: number of components, even.
        fastest: the highest frequency, in periods over the unit interval, at least 1/4.
        norm: n, the Euclidean norm of the vector at every t.

    Returns:
        [..., size].

    Source: Tancik et al. 2020, arXiv:2006.10739, with fixed instead of random frequencies.
    """
    frequencies = jnp.geomspace(_SLOWEST, fastest, size // 2)
    angles = 2 * jnp.pi * times[..., None] * jnp.expand_dims(frequencies, range(times.ndim))
    return norm * math.sqrt(2 / size) * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
