"""The response of a flow to errors during integration: whether it removes them, and how fast.

If dv/dz = -c / (1 - t), the paths of the flow form a cone. Of an error before step k of K, Euler steps leave
Π_{j ≥ k} (1 - c / (K - j)), which falls like K^-c for an early step.

Every function takes a velocity field (z [...], t scalar) -> dz/dt [...] in which each z moves independently
of the others, as in `Flow.velocity`.

Source: Agrawalla, Nauman, Kumar 2026, "What Does Flow Matching Bring To TD Learning?", arXiv:2603.04333.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from valuelab.ops.flow import integrate, trajectory
from valuelab.types import Array, Solver

Velocity = Callable[[Array, Array], Array]


def recovery_curve(
    velocity: Velocity, start: Array, num_steps: int, offset: Array | float, solver: Solver = "euler"
) -> Array:
    """The share left at time 1 of an offset that is added to z before a step.

        E |z'(1) - z(1)| / |offset|,   z' = z + offset before step k

    Args:
        velocity: the field.
        start: z(0), [...].
        num_steps: K, at least 1.
        offset: a scalar, not 0.
        solver: the integration scheme.

    Returns:
        [K], for k = 0 .. K - 1: 0 if the offset vanishes, 1 if it is unchanged, more if it grows.
    """
    points = trajectory(velocity, start, num_steps, solver)

    def share_left(start: tuple[Array, Array]) -> Array:
        step, point = start
        end = integrate(velocity, point + offset, num_steps, solver, first=step)
        return jnp.mean(jnp.abs(end - points[-1])) / jnp.abs(offset)

    return jax.lax.map(share_left, (jnp.arange(num_steps), points[:-1]))


def integrate_two_fields(
    early: Velocity, late: Velocity, start: Array, num_steps: int, early_steps: Array | int, solver: Solver
) -> Array:
    """The end of a flow whose first steps use another field, such as that of an earlier checkpoint.

    Args:
        early: the field of the first steps.
        late: the field of the other steps.
        start: z(0), [...].
        num_steps: K, at least 1.
        early_steps: the number of first steps, 0 .. K.
        solver: the integration scheme.

    Returns:
        z(1), [...].
    """
    between = integrate(early, start, num_steps, solver, last=early_steps)
    return integrate(late, between, num_steps, solver, first=early_steps)


def read_out_sweep(velocity: Velocity, start: Array, steps: Sequence[int], solver: Solver = "euler") -> Array:
    """The ends of a flow that is integrated with different numbers of steps.

    Args:
        velocity: the field.
        start: z(0), [...].
        steps: numbers of steps, each at least 1.
        solver: the integration scheme.

    Returns:
        z(1) for each of them, [len(steps), ...].
    """
    return jax.lax.map(lambda number: integrate(velocity, start, number, solver), jnp.asarray(steps))


def slopes(velocity: Velocity, start: Array, num_steps: int, solver: Solver = "euler") -> tuple[Array, Array]:
    """The derivative dv/dz of a velocity field along the paths of its flow.

    Args:
        velocity: the field.
        start: z(0), [...].
        num_steps: K, at least 1.
        solver: the integration scheme.

    Returns:
        The times k / K at which steps begin, [K], and dv/dz there, [K, ...].
    """
    times = jnp.arange(num_steps) / num_steps
    points = trajectory(velocity, start, num_steps, solver)[:-1]

    def slope(place: tuple[Array, Array]) -> Array:
        time, point = place
        return jax.jvp(lambda z: velocity(z, time), (point,), (jnp.ones_like(point),))[1]

    return times, jax.lax.map(slope, (times, points))


def conic_rate(times: Array, slopes: Array) -> Array:
    """The rate c of the cone dv/dz = -c / (1 - t), fitted to slopes with equal weight for all times.

        c = E [-(1 - t) dv/dz],   the least squares of (1 - t) dv/dz = -c

    Args:
        times: t in [0, 1), [K].
        slopes: dv/dz, [K, ...].

    Returns:
        Scalar: 1 for a field that moves every z to the same end, 0 for a field that depends only on t.
    """
    return -jnp.mean((1 - jnp.expand_dims(times, range(1, slopes.ndim))) * slopes)
