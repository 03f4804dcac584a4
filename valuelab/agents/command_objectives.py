"""Commands of an agent with a stock: the objectives that they name, and the first stocks.

A command is a row of numbers that names one objective of a family, such as a level of CVaR or a target
return. The utility f does not depend on the command. Only the first stock depends on it, so one agent can
follow every command.
"""

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import objectives
from valuelab.distributional.objectives import FixedStart, Objective
from valuelab.errors import InputError
from valuelab.types import Array

PARAMETERS = {
    "expectation": None,
    "cvar": "tau",
    "upper_cvar": "tau",
    "target": "target",
    "satisficing": "target",
    "homeostatic": "target",
}
"""Family of objectives to the parameter that a command sets."""


def commands_by_name(family: str, numbers: tuple[float, ...], reward_dim: int) -> dict[str, np.ndarray]:
    """Commands by name, such as {"tau=0.1": [0.1], "tau=0.5": [0.5]}.

    Args:
        family: a key of PARAMETERS.
        numbers: the numbers of all commands, one command after the other; expectation has a single command,
            without numbers.
        reward_dim: m; a command of homeostatic has m numbers, those of other families have one.

    Raises:
        InputError: when there are no numbers, too few or too many, or one is out of range.
    """
    parameter = PARAMETERS[family]
    if parameter is None:
        return {family: np.zeros(0, np.float32)}
    size = reward_dim if family == "homeostatic" else 1
    if not numbers or len(numbers) % size:
        raise InputError(
            f"agent.commands has {len(numbers)} numbers, but {family} takes {size} for each {parameter}: "
            "give the numbers of one or more commands"
        )
    commands = np.asarray(numbers, np.float32).reshape(-1, size)
    for command in commands:
        objective_of(family, command)  # refuses numbers that are out of range
    return {f"{parameter}={','.join(f'{number:g}' for number in command)}": command for command in commands}


def objective_of(family: str, command: Array | np.ndarray) -> Objective:
    """The objective that a command [k] names; the command may be traced."""
    parameter = PARAMETERS[family]
    if parameter is None:
        return objectives.make(family)
    return objectives.make(family, **{parameter: command if family == "homeostatic" else command[0]})


def value(objective: Objective, points: Array, jump_width: Array | float = 0.0) -> Array:
    """K of equally likely points c + G.

    A ramp may replace the jump of satisficing's f(x) = 1(x ≥ 0), so that a small error of a point near 0
    does not change its utility from 0 to 1:

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
    if objective.name != "satisficing":
        return exact
    slope = 1 / jnp.maximum(jump_width, jnp.finfo(points.dtype).eps)
    ramp = jnp.mean(jnp.clip(0.5 + slope * points[..., 0], 0, 1), axis=-1)
    return jnp.where(jump_width > 0, ramp, exact)


def score(objective: Objective, stock: Array, utility: Array) -> Array:
    """The reported value of episodes that began with a stock.

    Args:
        objective: what is maximised.
        stock: c₀, [..., m].
        utility: E f(c₀ + G), [...].

    Returns:
        [...]: E f(c₀ + G) itself, or for CVaR -c₀ + E f(c₀ + G) / τ.
    """
    if isinstance(objective.start, FixedStart):
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
        stocks: [C, m], to choose from if the objective does not fix the first stock.
        atoms: equally likely atoms of the return from each of the stocks, [C, N, m].

    Returns:
        c₀, [m]: the fixed one, such as -target, or the best of `stocks`.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5, for the dual of CVaR.
    """
    if isinstance(objective.start, FixedStart):
        return objective.start.stock(objective.parameters)
    attained = value_as_start(objective, atoms)
    dual = score(objective, stocks, value(objective, stocks[:, None] + atoms))
    return stocks[jnp.argmax(attained - jnp.abs(dual - attained))]


def value_as_start(objective: Objective, atoms: Array) -> Array:
    """The objective of a return distribution, as if the episode began in this state.

    Args:
        objective: what is maximised.
        atoms: equally likely returns, [..., N, m].

    Returns:
        [...].
    """
    if isinstance(objective.start, FixedStart):
        stock = objective.start.stock(objective.parameters)
        return value(objective, jax.vmap(jnp.add, (-1, 0), -1)(atoms, stock))
    return objective.start.measure(
        objective.parameters, atoms, jnp.full(atoms.shape[:-1], 1 / atoms.shape[-2])
    )
