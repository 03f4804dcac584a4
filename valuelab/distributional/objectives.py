"""Objectives: functionals of the distribution of stock plus return, and what is known about them.

An objective scores the distribution of c + G by K. Most objectives are expected utilities, K(ν) = E f(X). The
`properties` of an objective say whether dynamic programming finds its optimum; where it does not, `check`
refuses the objective and names the missing property. The `start` of an objective says with which stock an
episode begins and which value is reported:

    FixedStart     c₀ is given, and the value is K(distribution of c₀ + G);
    SearchedStart  the value is a measure of the distribution of G itself (such as CVaR). It is the optimum
                   over c of a dual that depends on K(distribution of c + G), which is solved for every c at
                   once.

Parameters that the solved problem or its start depends on are leaves: objectives may be vmapped over them.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import functionals
from valuelab.distributional.functionals import Functional, Parameters, Utility
from valuelab.distributional.mdps import MDP
from valuelab.distributional.properties import MAGNITUDES, Properties, of_utility
from valuelab.errors import InputError, one_line, unknown
from valuelab.types import Array


class FixedStart(NamedTuple):
    """Episodes begin with a given stock.

    Attributes:
        stock: (parameters) -> c₀ [m].
        parameters: the names of the parameters that only the start depends on.
    """

    stock: Callable[[Parameters], Array]
    parameters: tuple[str, ...] = ()


class SearchedStart(NamedTuple):
    """Episodes begin with the stock at the optimum of a dual.

    Attributes:
        measure: the functional of the distribution of G that is reported, the optimum of the dual over c.
        dual: (parameters, stocks [..., m], K(distribution of c + G) [...]) -> [...].
        scale: (parameters) -> the factor that turns an error of K into an error of the value.
        minimized: whether the measure is the minimum of the dual over c, not the maximum. Then it is concave
            in mixtures, and it may be best to draw the first stock from two.
        parameters: the names of the parameters that only the start depends on.
    """

    measure: Functional
    dual: Callable[[Parameters, Array, Array], Array]
    scale: Callable[[Parameters], Array]
    minimized: bool = False
    parameters: tuple[str, ...] = ()


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["parameters"],
    meta_fields=["name", "functional", "properties", "start", "utility"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """What is maximised.

    Attributes:
        parameters: name to number or array, the leaves of this pytree.
        name: for messages and figures.
        functional: K of the distribution of c + G.
        properties: the known properties of K.
        start: the first stock and the reported value.
        utility: f where K = E f, else None.
    """

    parameters: Parameters
    name: str
    functional: Functional
    properties: Properties
    start: FixedStart | SearchedStart
    utility: Utility | None = None


def unsound_reason(
    objective: Objective, discount: Array | float, horizon: int | None, reward_dim: int
) -> str | None:
    """The reason why dynamic programming may miss the optimum of an objective, or None where it cannot.

    Args:
        objective: any.
        discount: γ in (0, 1]; a traced γ counts as less than 1.
        horizon: number of steps (the length of the longest episode if γ = 1 and episodes end); None if
            infinite.
        reward_dim: number m of the MDP's reward components.

    Returns:
        One clause that names the missing property.

    Raises:
        InputError: when the objective takes another number of reward components than the MDP has.
    """
    name, known = objective.name, objective.properties
    if known.reward_dim not in (None, reward_dim):
        raise InputError(
            f"objective {name} takes {known.reward_dim} reward components, but the MDP has {reward_dim}: "
            "change the objective's parameters or the MDP"
        )
    if not known.mixture_indifferent:
        return f"{name} lacks mixture-indifference: mixing can reverse its order of two distributions"
    discounted = isinstance(discount, jax.core.Tracer) or discount < 1
    if horizon is None and discounted and not known.gamma_indifferent:
        return (
            f"{name} lacks gamma-indifference, which infinite horizons need: discounting can reverse its "
            "order of two distributions"
        )
    if horizon is None and math.isinf(known.lipschitz):
        return f"{name} lacks Lipschitz continuity, which infinite horizons need"
    return None


def check(objective: Objective, discount: Array | float, horizon: int | None, reward_dim: int) -> None:
    """Refuses an objective that dynamic programming may not optimise; arguments as in `unsound_reason`.

    Raises:
        InputError: with the name of the missing property.
    """
    if reason := unsound_reason(objective, discount, horizon, reward_dim):
        raise InputError(
            f"{reason}; change the objective or the MDP, or try it anyway: allow_unsound=True or "
            "--allow_unsound"
        )


# Parameters.


def _parameter(field: str, value: Any, is_valid: Callable[[Any], Any], wanted: str) -> Any:
    """A parameter as a float, or as a float64 array if it has axes. Each entry is checked unless traced."""
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field} is {value!r}; it must be {wanted}") from error
    if wrong := [index for index in np.ndindex(array.shape) if not is_valid(array[index])]:
        position = f"[{', '.join(map(str, wrong[0]))}]" if array.ndim else ""
        raise InputError(f"{field}{position} is {array[wrong[0]]:g}; it must be {wanted}")
    return array if array.ndim else float(array)


def _level(field: str, value: Any) -> Any:
    return _parameter(field, value, lambda level: 0 < level <= 1, "a level in (0, 1]")


def _fraction(field: str, value: Any) -> Any:
    return _parameter(field, value, lambda fraction: 0 <= fraction <= 1, "in [0, 1]")


def _finite(field: str, value: Any) -> Any:
    return _parameter(field, value, math.isfinite, "finite")


def _positive(field: str, value: Any) -> Any:
    return _parameter(field, value, lambda number: 0 < number < math.inf, "positive and finite")


# Objectives with a fixed first stock.


def _expected(
    name: str,
    utility: Utility,
    parameters: Parameters,
    properties: Properties,
    start: FixedStart | SearchedStart,
) -> Objective:
    """The objective E f."""
    return Objective(
        parameters=parameters,
        name=name,
        functional=functionals.expectation_of(utility),
        properties=properties,
        start=start,
        utility=utility,
    )


_LINEAR_GROWTH = Properties(lipschitz=1.0, degree=1.0)

_FROM_ZERO = FixedStart(lambda parameters: jnp.zeros(1))
_FROM_STOCK = FixedStart(
    lambda parameters: jnp.atleast_1d(jnp.asarray(parameters["stock"], float)), parameters=("stock",)
)
_FROM_MINUS_TARGET = FixedStart(
    lambda parameters: -jnp.atleast_1d(jnp.asarray(parameters["target"], float)), parameters=("target",)
)


def expectation() -> Objective:
    """The mean return, f(x) = x: ordinary dynamic programming, independent of the stock."""
    return _expected("expectation", functionals.identity, {}, _LINEAR_GROWTH, _FROM_ZERO)


def target_return(target: Array | float) -> Objective:
    """A return as close to a target as possible, f(x) = -|x| from c₀ = -target.

    Args:
        target: the desired return; finite.

    Raises:
        InputError: for a target that is not finite.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    parameters = {"target": _finite("target", target)}
    return _expected("target", functionals.minus_absolute, parameters, _LINEAR_GROWTH, _FROM_MINUS_TARGET)


def homeostatic(
    target: Sequence[float] | Array | float,
    norm: float = 2,
    weights: Sequence[float] | None = None,
    power: float = 1,
) -> Objective:
    """Several returns as close to their set points as possible, f(x) = -‖w ⊙ x‖ᵖ from c₀ = -target.

    Args:
        target: [m], the set points; finite.
        norm: 1, 2 or infinity.
        weights: w [m], positive; 1 by default.
        power: p > 0. Only p = 1 is Lipschitz continuous, as infinite horizons need.

    Raises:
        InputError: for a target that is not finite, an unknown norm, a weight or power that is not positive.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    target, power = _finite("target", target), _positive("power", power)
    if norm not in (1, 2, math.inf):
        raise InputError(f"norm is {norm}; it must be 1, 2 or inf")
    dim = np.shape(target)[-1] if np.ndim(target) else 1
    factors = np.ones(dim) if weights is None else np.atleast_1d(_positive("weights", weights))
    if factors.shape != (dim,):
        raise InputError(
            f"weights have shape {factors.shape}; give one for each of the target's {dim} entries"
        )
    steepest = float(np.linalg.norm(factors) if norm == 1 else factors.max())
    properties = Properties(lipschitz=steepest if power == 1 else math.inf, degree=power, reward_dim=dim)
    utility = functionals.minus_distance(float(norm), tuple(factors.tolist()), power)
    return _expected("homeostatic", utility, {"target": target}, properties, _FROM_MINUS_TARGET)


def satisficing(target: Array | float) -> Objective:
    """The probability that the return reaches the target, f(x) = 1(x ≥ 0) from c₀ = -target.

    f is not Lipschitz continuous: sound only in finite horizons.

    Args:
        target: the return to reach; finite.

    Raises:
        InputError: for a target that is not finite.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    parameters = {"target": _finite("target", target)}
    properties = Properties(degree=0.0)
    return _expected("satisficing", functionals.reached, parameters, properties, _FROM_MINUS_TARGET)


def entropic(risk: Array | float) -> Objective:
    """The certainty equivalent of exponential utility, (1/β) log E exp(β G); sound only for γ = 1.

    Args:
        risk: β, not 0; risk-averse where negative, risk-seeking where positive.

    Raises:
        InputError: for a risk that is 0 or not finite.
    """
    risk = _parameter("risk", risk, lambda beta: math.isfinite(beta) and beta != 0, "finite and not 0")
    properties = Properties(gamma_indifferent=False)
    return Objective(
        parameters={"risk": risk},
        name="entropic",
        functional=functionals.entropic,
        properties=properties,
        start=_FROM_ZERO,
    )


def entropic_value_at_risk(tau: Array | float) -> Objective:
    """EVaR, the greatest lower bound of CVaR by exponential utilities.

        EVaR_τ(G) = max over β < 0 of (1/β) (log E exp(β G) - log τ)

    It is not mixture-indifferent, so the solvers of the recursion refuse it. `solve` finds the β that is best
    from its start state (module `entropic`), and solves the MDP for this exponential utility.

    Args:
        tau: level in (0, 1).

    Raises:
        InputError: for a level outside (0, 1).

    Source: Ahmadi-Javid 2012, "Entropic value-at-risk: a new coherent risk measure" (JOTA 155).
    """
    parameters = {"tau": _parameter("tau", tau, lambda level: 0 < level < 1, "a level in (0, 1)")}
    return Objective(
        parameters=parameters,
        name="evar",
        functional=functionals.entropic_value_at_risk,
        properties=Properties(mixture_indifferent=False, lipschitz=math.inf),
        start=_FROM_ZERO,
    )


def mean_variance(weight: Array | float) -> Objective:
    """The mean minus w times the variance. Solvers refuse it, since it is not mixture-indifferent.

    Args:
        weight: w > 0.

    Raises:
        InputError: for a weight that is not positive.
    """
    parameters = {"weight": _positive("weight", weight)}
    properties = Properties(mixture_indifferent=False, gamma_indifferent=False)
    return Objective(
        parameters=parameters,
        name="mean_variance",
        functional=functionals.mean_variance,
        properties=properties,
        start=_FROM_ZERO,
    )


# Objectives with a searched first stock.


def _one_over_tau(parameters: Parameters) -> Array:
    return 1 / parameters["tau"]


def _tail_dual(parameters: Parameters, stocks: Array, scores: Array) -> Array:
    return scores / parameters["tau"] - stocks[..., 0]


def lower_cvar(tau: Array | float) -> Objective:
    """Risk-averse CVaR, the mean of the worst fraction τ of returns.

        max_π CVaR_τ(G) = max_c { -c + max_π E[min(c + G, 0)] / τ }

    f(x) = min(x, 0) does not depend on τ: one solution serves every level, and only the start differs.

    Args:
        tau: level in (0, 1]; 1 is the mean.

    Raises:
        InputError: for a level outside (0, 1].

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    start = SearchedStart(
        measure=functionals.lower_cvar, dual=_tail_dual, scale=_one_over_tau, parameters=("tau",)
    )
    return _expected("cvar", functionals.shortfall, {"tau": _level("tau", tau)}, _LINEAR_GROWTH, start)


def upper_cvar(tau: Array | float) -> Objective:
    """Risk-seeking CVaR, the mean of the best fraction τ of returns.

        max_π UCVaR_τ(G) = max_π min_c { -c + E[max(c + G, 0)] / τ }
                         = min_c { -c + max_π E[max(c + G, 0)] / τ }

    The measure is a minimum of functions that are linear in the distribution, hence concave in mixtures. The
    second equality (minimax) holds over all policies, including those that draw at random between
    deterministic ones. f(x) = max(x, 0) is solved for every c and serves every level. But where the
    minimising c has two best policies, it is possible that neither attains the optimum. A draw between them
    does, and `starts.choose` finds it.

    Args:
        tau: level in (0, 1]; 1 is the mean.

    Raises:
        InputError: for a level outside (0, 1].
    """
    start = SearchedStart(
        measure=functionals.upper_cvar,
        dual=_tail_dual,
        scale=_one_over_tau,
        minimized=True,
        parameters=("tau",),
    )
    return _expected("upper_cvar", functionals.excess, {"tau": _level("tau", tau)}, _LINEAR_GROWTH, start)


def mean_cvar(tau: Array | float, weight: Array | float) -> Objective:
    """A weighted sum of mean and risk-averse CVaR, w E[G] + (1 - w) CVaR_τ(G).

        f(x) = w τ x + (1 - w) min(x, 0),   value max_c { -c + E f(c + G) / τ }

    Args:
        tau: level in (0, 1].
        weight: w in [0, 1].

    Raises:
        InputError: for a level or weight out of range.
    """
    parameters = {"tau": _level("tau", tau), "weight": _fraction("weight", weight)}
    start = SearchedStart(measure=functionals.mean_cvar, dual=_tail_dual, scale=_one_over_tau)
    return _expected("mean_cvar", functionals.mean_and_shortfall, parameters, _LINEAR_GROWTH, start)


def _one_over_least_tau(parameters: Parameters) -> Array:
    return 1 / jnp.min(jnp.asarray(parameters["taus"], float))


def _spectral_dual(parameters: Parameters, stocks: Array, scores: Array) -> Array:
    return scores * _one_over_least_tau(parameters) - stocks @ jnp.asarray(parameters["weights"], float)


def spectral(taus: Sequence[float] | Array, weights: Sequence[float] | Array) -> Objective:
    """A spectral risk measure as a weighted sum of k CVaRs, Σᵢ wᵢ CVaR_τᵢ(G).

    Every level has another quantile, hence another stock. So the MDP's scalar reward is repeated in k
    components (`repeat_rewards`), and the stock is a vector. With t the least level,

        f(x) = Σᵢ wᵢ t/τᵢ min(xᵢ, 0),   value max_c { -w·c + E f(c + G) / t }

    Args:
        taus: [k] levels in (0, 1].
        weights: [k], none negative, sum 1.

    Raises:
        InputError: for levels or weights out of range, or of different lengths.
    """
    parameters = {"taus": _level("taus", taus), "weights": _fraction("weights", weights)}
    shape, others = np.shape(parameters["taus"]), np.shape(parameters["weights"])
    if len(shape) != 1 or shape != others:
        raise InputError(
            f"taus have shape {shape}, but weights have shape {others}: "
            "give a list of levels and one weight for each"
        )
    total = parameters["weights"].sum()
    _parameter("the sum of weights", total, lambda total: abs(total - 1) < 1e-6, "1")
    properties = Properties(lipschitz=1.0, degree=1.0, reward_dim=shape[0])
    start = SearchedStart(measure=functionals.spectral, dual=_spectral_dual, scale=_one_over_least_tau)
    return _expected("spectral", functionals.weighted_shortfalls, parameters, properties, start)


def repeat_rewards(mdp: MDP, copies: int) -> MDP:
    """The MDP with its scalar reward repeated in several components, as `spectral` needs it.

    Args:
        mdp: with rewards [S, A, K, 1].
        copies: k.

    Returns:
        The MDP with rewards [S, A, K, k].
    """
    return mdp._replace(rewards=mdp.rewards.repeat(copies, axis=-1))


def _quantile_dual(parameters: Parameters, stocks: Array, scores: Array) -> Array:
    return jnp.where(functionals.is_likely(scores, parameters["tau"]), -stocks[..., 0], -jnp.inf)


def _infinite(parameters: Parameters) -> Array:
    return jnp.asarray(math.inf)


def value_at_risk(tau: Array | float) -> Objective:
    """VaR, the greatest return that is reached with a probability of at least 1 - τ: the upper τ-quantile.

        max_π VaR_τ(G) = max { x : max_π P(G ≥ x) ≥ 1 - τ }

    The solution of `satisficing` for all targets x = -c serves every level. Level 0 is the greatest return
    that can be guaranteed. f is not Lipschitz continuous: sound only in finite horizons.

    Args:
        tau: level in [0, 1).

    Raises:
        InputError: for a level outside [0, 1).

    Source: Hau et al. 2023, "On dynamic programming decompositions of static risk measures in Markov
    decision processes" (arXiv:2304.12477).
    """
    tau = _parameter("tau", tau, lambda level: 0 <= level < 1, "a level in [0, 1)")
    start = SearchedStart(
        measure=functionals.value_at_risk,
        dual=_quantile_dual,
        scale=_infinite,
        parameters=("tau",),
    )
    return _expected("var", functionals.reached, {"tau": tau}, Properties(degree=0.0), start)


# User-defined objectives.

_LEAST_RETURN, _GREATEST_GROWTH = 1e-6, 1e6
"""The range of points at which functions are tested, relative to the greatest return."""


def expected_utility(
    utility: Utility, properties: Properties, *, stock: Sequence[float], name: str, **parameters: Any
) -> Objective:
    """The mean of a user-defined utility.

    Args:
        utility: f. Share one function among many objectives, because jit compiles once for each function.
        properties: the known properties of f, or those that `properties.of_utility` finds by tests.
        stock: c₀ [m]; finite.
        name: for messages and figures.
        **parameters: the parameters of f.

    Raises:
        InputError: for a stock that is not finite.
    """
    return _expected(name, utility, {**parameters, "stock": _finite("stock", stock)}, properties, _FROM_STOCK)


def of_function(
    function: Callable[[Array], Array], mdp: MDP, discount: float, horizon: int | None, name: str = ""
) -> Objective:
    """The mean of a user's function of the return, whose properties are tested at points.

    Args:
        function: f in jax.numpy, (returns) -> [...]. The returns are [...], or [..., m] for an MDP with m > 1
            reward components.
        mdp: the MDP. The points have the magnitudes of its returns and of the stocks c + G.
        discount: γ.
        horizon: number of steps, or None.
        name: for messages and figures; by default the function's name.

    Returns:
        E f(G), with the first stock 0.

    Raises:
        InputError: when f fails, or gives another shape or numbers that are not finite at returns of 0.
    """
    bounds = [horizon, 1 / (1 - discount) if 0 < discount < 1 else None]
    steps = min((bound for bound in bounds if bound), default=mdp.num_states)
    returns = steps * float(np.abs(mdp.rewards).max()) or 1.0
    # c + r = γ⁻ᵗ (c₀ + the rewards so far), so stocks grow with the step.
    growth = 2.0 if not horizon else min(discount ** -float(horizon), _GREATEST_GROWTH)
    magnitudes = (_LEAST_RETURN * returns, max(1.0, growth) * returns)
    return of_magnitudes(function, mdp.reward_dim, magnitudes, name)


def of_magnitudes(
    function: Callable[[Array], Array],
    reward_dim: int,
    magnitudes: tuple[float, float] = MAGNITUDES,
    name: str = "",
) -> Objective:
    """As `of_function`, without an MDP.

    Args:
        function: f.
        reward_dim: m.
        magnitudes: the least and the greatest |x| at which f is tested.
        name: for messages and figures; by default the function's name.

    Returns:
        E f(G), with the first stock 0.

    Raises:
        InputError: as `of_function`.
    """
    name = name or getattr(function, "__name__", "utility")
    _check_function(function, name, reward_dim)

    def utility(parameters: Parameters, points: Array) -> Array:
        return function(points[..., 0] if reward_dim == 1 else points)

    found = of_utility(utility, reward_dim=reward_dim, magnitudes=magnitudes)
    return expected_utility(utility, found, stock=[0.0] * reward_dim, name=name)


def _check_function(function: Callable[[Array], Array], name: str, dim: int) -> None:
    """Raises InputError unless a function maps returns to numbers, also inside jit."""
    shape = (2, 3) if dim == 1 else (2, 3, dim)
    with one_line(f"objective {name} failed at returns of shape {list(shape)}", "write it in jax.numpy"):
        result = jax.jit(function)(jnp.zeros(shape))
    if np.shape(result) != (2, 3):
        raise InputError(
            f"objective {name} gives shape {list(np.shape(result))} for returns of shape {list(shape)}; it "
            "must give one number for each return: [2, 3]"
        )
    if not np.isfinite(np.asarray(result)).all():
        raise InputError(f"objective {name} is {np.asarray(result).flat[0]} at a return of 0: make it finite")


def general(
    functional: Functional, properties: Properties, *, stock: Sequence[float], name: str, **parameters: Any
) -> Objective:
    """A user-defined functional; as `expected_utility`, but `properties.of_functional` tests it."""
    parameters["stock"] = _finite("stock", stock)
    return Objective(
        parameters=parameters, name=name, functional=functional, properties=properties, start=_FROM_STOCK
    )


def weighted_sum(first: Objective, second: Objective, weight: Array | float) -> Objective:
    """A weighted sum of two expected utilities of the same stock, E[(1 - w) f₁ + w f₂].

    With a small w the sum is lexicographic: if w times the range of f₂ is less than every other difference in
    E f₁, then `second` decides among the policies that are equally good for `first`. The sum also solves
    constrained problems, with w in the role of a Lagrange multiplier: search for the least w whose optimum
    keeps E f₂ above a bound. The sum is an expected utility, hence mixture-indifferent.

    Args:
        first: an expected utility with a fixed first stock, which the sum keeps.
        second: an expected utility with the same number of reward components.
        weight: w in [0, 1].

    Raises:
        InputError: for objectives that are not expected utilities, for a `first` without a fixed first stock,
            for different numbers of reward components, or for a weight out of range.
    """
    if first.utility is None or second.utility is None or not isinstance(first.start, FixedStart):
        raise InputError(
            f"{first.name} and {second.name} cannot be added: "
            "give two expected utilities, the first of them with a fixed first stock"
        )
    one, two = first.properties, second.properties
    if one.reward_dim != two.reward_dim:
        raise InputError(
            f"{first.name} takes {one.reward_dim} reward components, but {second.name} takes "
            f"{two.reward_dim}: give two objectives with the same number"
        )
    degree = one.degree if one.degree == two.degree else None
    properties = Properties(
        gamma_indifferent=degree is not None,
        lipschitz=max(one.lipschitz, two.lipschitz),
        degree=degree,
        reward_dim=one.reward_dim,
    )
    weight = _fraction("weight", weight)
    parameters = {"first": first.parameters, "second": second.parameters, "weight": weight}
    utility = functionals.sum_of(first.utility, second.utility)
    name = f"{first.name} and {second.name}"
    return _expected(name, utility, parameters, properties, _from_first(first.start))


@functools.cache
def _from_first(start: FixedStart) -> FixedStart:
    return FixedStart(lambda parameters: start.stock(parameters["first"]))


# Objectives by name.

REGISTRY: dict[str, Callable[..., Objective]] = {
    "expectation": expectation,
    "cvar": lower_cvar,
    "upper_cvar": upper_cvar,
    "mean_cvar": mean_cvar,
    "spectral": spectral,
    "var": value_at_risk,
    "target": target_return,
    "homeostatic": homeostatic,
    "satisficing": satisficing,
    "entropic": entropic,
    "evar": entropic_value_at_risk,
    "mean_variance": mean_variance,
}


def with_parameters(objective: Objective, **parameters: Any) -> Objective:
    """The same objective with other values of some parameters.

    Raises:
        InputError: for a parameter that the objective does not have, an invalid value, or another shape.
    """
    changed = {**objective.parameters, **parameters}
    for name, value in parameters.items():
        if name not in objective.parameters:
            raise unknown(f"parameter of objective {objective.name}", name, objective.parameters)
        expected = np.shape(objective.parameters[name])
        if np.shape(value) != expected and np.size(value) == np.size(objective.parameters[name]):
            changed[name] = np.reshape(value, expected)
        elif np.shape(value) != expected:
            raise InputError(
                f"{name} of objective {objective.name} has shape {np.shape(value)}; give shape {expected}"
            )
    if objective.name in REGISTRY:  # its constructor checks the values
        changed = dict(make(objective.name, **changed).parameters)
    return dataclasses.replace(objective, parameters=changed)


def make(name: str, **parameters: Any) -> Objective:
    """Makes an objective by name.

    Args:
        name: a key of `REGISTRY`.
        **parameters: those of its constructor.

    Raises:
        InputError: for an unknown name, or an unknown, missing or invalid parameter.
    """
    if name not in REGISTRY:
        raise unknown("objective", name, REGISTRY)
    known = inspect.signature(REGISTRY[name]).parameters
    for given in parameters.keys() - known.keys():
        raise unknown(f"parameter of objective {name}", given, known)
    for wanted in known.values():
        if wanted.default is wanted.empty and wanted.name not in parameters:
            raise InputError(f"objective {name} needs {wanted.name}: give {wanted.name} a value")
    return REGISTRY[name](**parameters)
