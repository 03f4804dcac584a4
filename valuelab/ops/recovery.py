"""How a flow answers to errors on its way: whether it forgets them, and how fast.

Where dv/dz = -c / (1 - t), ways through the flow narrow to a cone: of an error before step k of K, Euler
leaves Π_{j ≥ k} (1 - c / (K - j)), which for an early one falls like K^-c.

Every function here takes a velocity field (z [...], t scalar) -> dz/dt [...] in which each z moves on its
own, as in `Flow.velocity`.

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
    """What is left at the end of an offset that is added to z before one of the steps.

        E |z'(1) - z(1)| / |offset|,   z' = z + offset before step k

    Args:
        velocity: the field.
        start: z(0), [...].
        num_steps: K, at least 1.
        offset: not 0, a scalar.
        solver: how a step is made.

    Returns:
        [K], for k = 0 .. K - 1: 0 where it is forgotten, 1 where it is carried along, more where it grows.
    """
    points = trajectory(velocity, start, num_steps, solver)

    def left(corrupted: tuple[Array, Array]) -> Array:
        step, point = corrupted
        end = integrate(velocity, point + offset, num_steps, solver, first=step)
        return jnp.mean(jnp.abs(end - points[-1])) / jnp.abs(offset)

    return jax.lax.map(left, (jnp.arange(num_steps), points[:-1]))


def hand_over(
    early: Velocity, late: Velocity, start: Array, num_steps: int, early_steps: Array | int, solver: Solver
) -> Array:
    """The end of a flow whose first steps are made by another field, such as that of an old checkpoint.

    Args:
        early: the field of the first steps.
        late: the field of the others.
        start: z(0), [...].
        num_steps: K, at least 1.
        early_steps: how many are the first, 0 .. K.
        solver: how a step is made.

    Returns:
        z(1), [...].
    """
    between = integrate(early, start, num_steps, solver, last=early_steps)
    return integrate(late, between, num_steps, solver, first=early_steps)


def read_out_sweep(velocity: Velocity, start: Array, steps: Sequence[int], solver: Solver = "euler") -> Array:
    """The ends of a flow that is followed in different numbers of steps.

    Args:
        velocity: the field.
        start: z(0), [...].
        steps: numbers of steps, each at least 1.
        solver: how a step is made.

    Returns:
        z(1) for each of them, [len(steps), ...].
    """
    return jax.lax.map(lambda number: integrate(velocity, start, number, solver), jnp.asarray(steps))


def slopes(velocity: Velocity, start: Array, num_steps: int, solver: Solver = "euler") -> tuple[Array, Array]:
    """The slope of a velocity in z, along the way.

    Args:
        velocity: the field.
        start: z(0), [...].
        num_steps: K, at least 1.
        solver: how a step is made.

    Returns:
        Times k / K of the beginnings of steps, [K], and dv/dz there, [K, ...].
    """
    times = jnp.arange(num_steps) / num_steps
    points = trajectory(velocity, start, num_steps, solver)[:-1]

    def slope(place: tuple[Array, Array]) -> Array:
        time, point = place
        return jax.jvp(lambda z: velocity(z, time), (point,), (jnp.ones_like(point),))[1]

    return times, jax.lax.map(slope, (times, points))


def conic_rate(times: Array, slopes: Array) -> Array:
    """The c of the cone -c / (1 - t) that slopes lie on, fitted so that all times count alike.

        c = E [-(1 - t) dv/dz],   the least squares of (1 - t) dv/dz = -c

    Args:
        times: t in [0, 1), [K].
        slopes: dv/dz, [K, ...].

    Returns:
        Scalar: 1 for a field that heads for one end from everywhere, 0 for one that looks at t alone.
    """
    return -jnp.mean((1 - jnp.expand_dims(times, range(1, slopes.ndim))) * slopes)
