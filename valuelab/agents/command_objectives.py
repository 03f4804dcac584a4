"""Commands of an agent with a stock: the objectives that they name, and the first stocks.

A command is a row of numbers that names one objective of a family, such as a level of CVaR or a target
return. The utility f does not depend on the command. Only the first stock depends on it, so one agent can
follow every command. Families whose utility depends on all parameters have a single command, without numbers.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import configuration
from valuelab.distributional import functionals, objectives
from valuelab.distributional.objectives import FixedStart, Objective
from valuelab.errors import InputError
from valuelab.types import Array

COMMANDED = {
    "cvar": "tau",
    "upper_cvar": "tau",
    "var": "tau",
    "target": "target",
    "satisficing": "target",
    "homeostatic": "target",
}
"""Families to the parameter that a command sets; other families have a single command."""

FIXED = ("tau", "weight", "taus", "weights", "risk", "norm", "power")
"""The settings of an agent that are parameters of its family."""

OWN = "utility"
"""The family of a user's function."""


class Family(NamedTuple):
    """Objectives that differ in the first stock alone.

    Attributes:
        name: a key of `objectives.REGISTRY`, or OWN.
        parameters: name to value, without those that commands set.
        own: the objective of a user's function; None for other families.
    """

    name: str
    parameters: Mapping[str, Any] = {}
    own: Objective | None = None


def family_of(config: Any, utility: Callable[[Array], Array] | None = None, reward_dim: int = 1) -> Family:
    """The family that an agent's settings describe.

    Args:
        config: with `objective` and the settings FIXED.
        utility: the user's function of the return, for the family OWN alone: its name is OWN, or the
            FILE.py:FUNCTION from which the function was read.
        reward_dim: number of components of the return that the function takes.

    Raises:
        InputError: for a parameter that commands set or that the family does not have, for a function
            without its family or a family without its function, or for a function that fails.
    """
    given = {name: getattr(config, name) for name in FIXED}
    given = {name: value for name, value in given.items() if value not in (None, ())}
    name, commanded = config.objective, COMMANDED.get(config.objective)
    takes_function = name == OWN or bool(configuration.function_file(name))
    if takes_function and utility is None:
        raise InputError(
            f"agent.objective is {name}, but the agent has no function to maximise: give "
            "agent.objective=FILE.py:FUNCTION, or write an agent file whose make_agent calls "
            "eta_network(config, spec, utility=FUNCTION)"
        )
    if not takes_function and utility is not None:
        raise InputError(
            f"agent.objective is {name}, but the agent was given a function to maximise: give "
            f"agent.objective={OWN}"
        )
    if commanded in given:
        raise InputError(
            f"agent.{commanded} is {given[commanded]}, but commands set this parameter of {name}: "
            f"give agent.commands={given[commanded]}"
        )
    if utility is not None:
        if given:
            raise InputError(f"agent.{next(iter(given))} is not a setting of {name}: leave it out")
        try:
            return Family(name=OWN, own=_own(utility, reward_dim))
        except InputError as error:
            raise InputError(f"agent.objective={name}: {error}") from error
    if "norm" in given:
        given["norm"] = float(given["norm"])
    return Family(name=name, parameters=given)


@functools.cache
def _own(function: Callable[[Array], Array], reward_dim: int) -> Objective:
    """The objective of a function; cached, because it is tested at many points."""
    with jax.ensure_compile_time_eval():
        return objectives.of_magnitudes(function, reward_dim)


def commands_by_name(family: Family, numbers: tuple[float, ...], reward_dim: int) -> dict[str, np.ndarray]:
    """Commands by name, such as {"tau=0.1": [0.1], "tau=0.5": [0.5]}.

    Args:
        family: the objectives.
        numbers: the numbers of all commands, one command after the other; families that are not in COMMANDED
            ignore them, and have a single command, without numbers.
        reward_dim: m; a command of homeostatic has m numbers, those of other families have one.

    Raises:
        InputError: when there are no numbers, too few or too many, or a parameter is missing, unknown or out
            of range.
    """
    parameter = COMMANDED.get(family.name)
    if parameter is None:
        command = np.zeros(0, np.float32)
        return {_checked(family, command).name: command}
    size = reward_dim if family.name == "homeostatic" else 1
    if not numbers or len(numbers) % size:
        raise InputError(
            f"agent.commands has {len(numbers)} numbers, but {family.name} takes {size} for each "
            f"{parameter}: give the numbers of one or more commands"
        )
    commands = np.asarray(numbers, np.float32).reshape(-1, size)
    for command in commands:
        _checked(family, command)
    return {f"{parameter}={','.join(f'{number:g}' for number in command)}": command for command in commands}


def _checked(family: Family, command: np.ndarray) -> Objective:
    """As `objective_of`; the error of a parameter names the setting."""
    try:
        return objective_of(family, command)
    except InputError as error:
        raise InputError(f"agent.objective={family.name}: {error}") from error


def objective_of(family: Family, command: Array | np.ndarray) -> Objective:
    """The objective that a command [k] names; the command may be traced."""
    if family.own is not None:
        return family.own
    parameters = dict(family.parameters)
    if parameter := COMMANDED.get(family.name):
        parameters[parameter] = command if family.name == "homeostatic" else command[0]
    return objectives.make(family.name, **parameters)


def check(objective: Objective, discount: Array | float) -> None:
    """Refuses an objective that is not mixture-indifferent, or whose order discounting may reverse.

    Raises:
        InputError: with the name of the missing property.
    """
    undiscounted = not isinstance(discount, jax.core.Tracer) and discount == 1
    horizon = 1 if undiscounted or objective.properties.gamma_indifferent else None
    dim = objective.properties.reward_dim or 1
    if reason := objectives.unsound_reason(objective, discount, horizon, dim):
        raise InputError(f"{reason}; give agent.discount=1 or another agent.objective")


def value(objective: Objective, points: Array, jump_width: Array | float = 0.0) -> Array:
    """K of equally likely points c + G.

    A ramp may replace the jump of f(x) = 1(x ≥ 0), the utility of satisficing and of VaR, so that a small
    error of a point near 0 does not change its utility from 0 to 1:

        f(x) = clip(1/2 + x / width, 0, 1)

    Args:
        objective: what is maximised.
        points: [..., N, m].
        jump_width: width of the ramp, in units of returns; 0 for none. Other objectives ignore it.

    Returns:
        [...].
    """
    exact = objective.functional(
        objective.parameters, points, jnp.full(points.shape[:-1], 1 / points.shape[-2])
    )
    if objective.utility is not functionals.reached:
        return exact
    slope = 1 / jnp.maximum(jump_width, jnp.finfo(points.dtype).eps)
    ramp = jnp.mean(jnp.clip(0.5 + slope * points[..., 0], 0, 1), axis=-1)
    return jnp.where(jump_width > 0, ramp, exact)


def score(objective: Objective, stock: Array, point: Array) -> Array:
    """The score of an episode, whose mean over episodes shows the value of the objective.

        f(c₀ + G)                     for most objectives with a fixed first stock
        (exp(β (c₀ + G)) - 1) / β     for entropic, whose certainty equivalent is log(1 + β E score) / β
        D(c₀, f(c₀ + G))              with a dual D: -c₀ + f(c₀ + G) / τ for CVaR
        1(c₀ + G ≥ 0)                 for VaR; the mean is the probability of reaching -c₀, at least 1 - τ
                                      where the VaR is -c₀

    Args:
        objective: what is maximised.
        stock: c₀, [m].
        point: c₀ + G, [m].

    Returns:
        A scalar.
    """
    if objective.functional is functionals.entropic:
        risk = objective.parameters["risk"]
        return jnp.expm1(risk * point[0]) / risk
    utility = value(objective, point[None])
    if isinstance(objective.start, FixedStart) or objective.name == "var":
        return utility
    return objective.start.dual(objective.parameters, stock, utility)


def first_stock(objective: Objective, stocks: Array, atoms: Array) -> Array:
    """The first stock of an episode.

        c₀ = argmax_c { K(G_c) - |D(c, G_c) - K(G_c)| }, G_c the return of the agent that begins with c

    D is the dual, such as -c + E f(c + G) / τ. Where the dual is maximised, as for CVaR, D ≤ K, and the rule
    equals that of the paper, argmax D. The dual of the upper CVaR is minimised and has a kink at its minimum:
    there two policies have equal E f(c + G), but one of them has a smaller K. K alone distinguishes these
    policies. But K is equal for all stocks that lead to the same return distribution, and the score of
    episodes needs the stock where D = K.

    Args:
        objective: what is maximised.
        stocks: [C, m], to choose from if the objective does not fix the first stock; the last is taken where
            D is minus infinity at all of them, as for VaR if no return is likely enough.
        atoms: equally likely atoms of the return from each of the stocks, [C, N, m], or [C, N, 1] for the
            same return in each component.

    Returns:
        c₀, [m]: the fixed one, such as -target, or the best of `stocks`.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5, for the dual of CVaR.
    """
    if isinstance(objective.start, FixedStart):
        return objective.start.stock(objective.parameters)
    attained = value_as_start(objective, atoms)
    dual = objective.start.dual(objective.parameters, stocks, value(objective, stocks[:, None] + atoms))
    merits = attained - jnp.abs(dual - attained)
    return stocks[jnp.where(jnp.max(merits) == -jnp.inf, len(stocks) - 1, jnp.argmax(merits))]


def value_as_start(objective: Objective, atoms: Array) -> Array:
    """The objective of a return distribution, as if the episode began in this state.

    Args:
        objective: what is maximised.
        atoms: equally likely returns, [..., N, m], or [..., N, 1] for the same return in each component.

    Returns:
        [...].
    """
    atoms = jnp.broadcast_to(atoms, (*atoms.shape[:-1], objective.properties.reward_dim or atoms.shape[-1]))
    if isinstance(objective.start, FixedStart):
        stock = objective.start.stock(objective.parameters)
        return value(objective, jax.vmap(jnp.add, (-1, 0), -1)(atoms, stock))
    return objective.start.measure(
        objective.parameters, atoms, jnp.full(atoms.shape[:-1], 1 / atoms.shape[-2])
    )
