"""Objectives: functionals of the law of stock plus return, and what is known of them.

An objective scores the law of c + G by K; most are expected utilities, K(ν) = E f(X). Its `properties` say
whether dynamic programming finds its optimum; `check` refuses it, by name of the property, where not. Its
`start` says with which stock an episode begins and which value is reported:

    At      c₀ is given, and the value is K(law of c₀ + G);
    Search  the value is a measure of the law of G itself (CVaR and the like), and is the optimum over c of a
            dual, which K(law of c + G), solved for every c at once, makes up.

Parameters that the solved problem or its start depends on are leaves: objectives may be vmapped over them.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import functionals
from valuelab.distributional.functionals import Functional, Parameters, Utility
from valuelab.distributional.mdp import MDP
from valuelab.distributional.properties import Properties
from valuelab.errors import InputError, unknown
from valuelab.types import Array


class At(NamedTuple):
    """The episode begins with a given stock.

    Attributes:
        stock: parameters to c₀ [m].
    """

    stock: Callable[[Parameters], Array]


class Search(NamedTuple):
    """The episode begins with the stock that the optimum of the dual names.

    Attributes:
        measure: the functional of the law of G that is reported, the optimum of the dual over c.
        dual: parameters, stocks [..., m] and K(law of c + G) [...] to [...].
        scale: parameters to the factor by which an error of K becomes one of the value.
        mixed: whether the measure is the least of the dual over c, not the greatest. Then it is concave in
            mixtures, and the best may be to draw the first stock from two.
    """

    measure: Functional
    dual: Callable[[Parameters, Array, Array], Array]
    scale: Callable[[Parameters], Array]
    mixed: bool = False


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["parameters"],
    meta_fields=["name", "functional", "properties", "start", "utility"],
)
@dataclass(frozen=True, eq=False)
class Objective:
    """What is maximised.

    Attributes:
        parameters: name to number or array, the leaves of this pytree.
        name: for messages and figures.
        functional: K of the law of c + G.
        properties: what is known of K.
        start: the first stock and the reported value.
        utility: f where K = E f, else None.
    """

    parameters: Parameters
    name: str
    functional: Functional
    properties: Properties
    start: At | Search
    utility: Utility | None = None


def unsound(
    objective: Objective, discount: Array | float, horizon: int | None, reward_dim: int
) -> str | None:
    """Why dynamic programming may miss the optimum of an objective, or None where it cannot.

    Args:
        objective: any.
        discount: γ in (0, 1]; taken for less than 1 where it is traced.
        horizon: number of steps, that of the longest episode where γ = 1 and episodes end; None if infinite.
        reward_dim: number m of the MDP's reward components.

    Returns:
        One clause that names the property that fails.

    Raises:
        InputError: for an MDP whose rewards do not have the components that the objective takes.
    """
    name, known = objective.name, objective.properties
    if known.reward_dim not in (None, reward_dim):
        raise InputError(
            f"objective {name} takes {known.reward_dim} reward components and the MDP has {reward_dim}: "
            "change the objective's parameters or the MDP"
        )
    if not known.mixture_indifferent:
        return f"{name} lacks mixture-indifference: mixing turns its order of distributions round"
    discounted = isinstance(discount, jax.core.Tracer) or discount < 1
    if discounted and not known.gamma_indifferent:
        return f"{name} lacks gamma-indifference: discounting turns its order of distributions round"
    if horizon is None and math.isinf(known.lipschitz):
        return f"{name} lacks Lipschitz continuity, which infinite horizons need"
    return None


def check(objective: Objective, discount: Array | float, horizon: int | None, reward_dim: int) -> None:
    """Refuses an objective that dynamic programming cannot be trusted with; arguments as of `unsound`.

    Raises:
        InputError: naming the property that fails.
    """
    if reason := unsound(objective, discount, horizon, reward_dim):
        raise InputError(f"{reason}; change the objective or the MDP, or see it fail with allow_unsound=True")


# Parameters.


def _given(field: str, value: Any, holds: Callable[[Any], Any], wanted: str) -> Any:
    """A parameter, tested entry by entry unless it is traced: a float, or a float64 array if it has axes."""
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field} is {value!r}; it must be {wanted}") from error
    if wrong := [index for index in np.ndindex(array.shape) if not holds(array[index])]:
        place = f"[{', '.join(map(str, wrong[0]))}]" if array.ndim else ""
        raise InputError(f"{field}{place} is {array[wrong[0]]:g}; it must be {wanted}")
    return array if array.ndim else float(array)


def _level(field: str, value: Any) -> Any:
    return _given(field, value, lambda level: 0 < level <= 1, "a level in (0, 1]")


def _share(field: str, value: Any) -> Any:
    return _given(field, value, lambda share: 0 <= share <= 1, "in [0, 1]")


def _finite(field: str, value: Any) -> Any:
    return _given(field, value, math.isfinite, "finite")


def _positive(field: str, value: Any) -> Any:
    return _given(field, value, lambda number: 0 < number < math.inf, "positive and finite")


# Objectives whose first stock is given.


def _expected(
    name: str, utility: Utility, parameters: Parameters, properties: Properties, start: At | Search
) -> Objective:
    return Objective(parameters, name, functionals.expectation_of(utility), properties, start, utility)


_LINEAR_GROWTH = Properties(lipschitz=1.0, degree=1.0)

_FROM_NOTHING = At(lambda parameters: jnp.zeros(1))
_FROM_STOCK = At(lambda parameters: jnp.atleast_1d(jnp.asarray(parameters["stock"], float)))
_FROM_MINUS_TARGET = At(lambda parameters: -jnp.atleast_1d(jnp.asarray(parameters["target"], float)))


def expectation() -> Objective:
    """The mean return, f(x) = x: ordinary dynamic programming, whatever the stock."""
    return _expected("expectation", functionals.identity, {}, _LINEAR_GROWTH, _FROM_NOTHING)


def target_return(target: Array | float) -> Objective:
    """A return as near a target as can be, f(x) = -|x| from c₀ = -target.

    Args:
        target: the wanted return; finite.

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
    """Several returns as near their set points as can be, f(x) = -‖w ⊙ x‖ᵖ from c₀ = -target.

    Args:
        target: [m], the set points; finite.
        norm: 1, 2 or infinity.
        weights: w [m], positive; 1 by default.
        power: p > 0; Lipschitz, as infinite horizons need, for 1 alone.

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
    """The probability of returning the target or more, f(x) = 1(x ≥ 0) from c₀ = -target.

    Not Lipschitz: sound in finite horizons alone.

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
    """The certainty equivalent of exponential utility, (1/β) log E exp(β G); sound for γ = 1 alone.

    Args:
        risk: β, not 0; averse to risk where negative, seeking it where positive.

    Raises:
        InputError: for a risk that is 0 or not finite.
    """
    risk = _given("risk", risk, lambda beta: math.isfinite(beta) and beta != 0, "finite and not 0")
    properties = Properties(gamma_indifferent=False)
    return Objective({"risk": risk}, "entropic", functionals.entropic, properties, _FROM_NOTHING)


def mean_variance(weight: Array | float) -> Objective:
    """The mean less w times the variance: refused, for it is not mixture-indifferent.

    Args:
        weight: w > 0.

    Raises:
        InputError: for a weight that is not positive.
    """
    parameters = {"weight": _positive("weight", weight)}
    properties = Properties(mixture_indifferent=False, gamma_indifferent=False)
    return Objective(parameters, "mean_variance", functionals.mean_variance, properties, _FROM_NOTHING)


# Objectives whose first stock is searched for.


def _one_over_tau(parameters: Parameters) -> Array:
    return 1 / parameters["tau"]


def _tail_dual(parameters: Parameters, stocks: Array, scores: Array) -> Array:
    return scores / parameters["tau"] - stocks[..., 0]


def lower_cvar(tau: Array | float) -> Objective:
    """Risk-averse CVaR, the mean of the worst fraction τ of returns.

        max_π CVaR_τ(G) = max_c { -c + max_π E[min(c + G, 0)] / τ }

    f(x) = min(x, 0) does not know τ: one solution serves every level, and only the start differs.

    Args:
        tau: level in (0, 1]; 1 is the mean.

    Raises:
        InputError: for a level outside (0, 1].

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    start = Search(functionals.lower_cvar, _tail_dual, _one_over_tau)
    return _expected("cvar", functionals.shortfall, {"tau": _level("tau", tau)}, _LINEAR_GROWTH, start)


def upper_cvar(tau: Array | float) -> Objective:
    """Risk-seeking CVaR, the mean of the best fraction τ of returns.

        max_π UCVaR_τ(G) = max_π min_c { -c + E[max(c + G, 0)] / τ }
                         = min_c { -c + max_π E[max(c + G, 0)] / τ }

    The measure is a minimum of what is linear in the law, hence concave in mixtures, and the second equality
    (minimax) holds over all policies, those that draw at random between deterministic ones included. f(x) =
    max(x, 0) is solved for every c and serves every level. But where the minimising c has two best policies,
    neither need attain the optimum: a draw between them does, and `starts.choose` finds it.

    Args:
        tau: level in (0, 1]; 1 is the mean.

    Raises:
        InputError: for a level outside (0, 1].
    """
    start = Search(functionals.upper_cvar, _tail_dual, _one_over_tau, mixed=True)
    return _expected("upper_cvar", functionals.excess, {"tau": _level("tau", tau)}, _LINEAR_GROWTH, start)


def mean_cvar(tau: Array | float, weight: Array | float) -> Objective:
    """A mixture of mean and risk-averse CVaR, w E[G] + (1 - w) CVaR_τ(G).

        f(x) = w τ x + (1 - w) min(x, 0),   value max_c { -c + E f(c + G) / τ }

    Args:
        tau: level in (0, 1].
        weight: w in [0, 1].

    Raises:
        InputError: for a level or weight out of range.
    """
    parameters = {"tau": _level("tau", tau), "weight": _share("weight", weight)}
    start = Search(functionals.mean_cvar, _tail_dual, _one_over_tau)
    return _expected("mean_cvar", functionals.mean_and_shortfall, parameters, _LINEAR_GROWTH, start)


def _one_over_least_tau(parameters: Parameters) -> Array:
    return 1 / jnp.min(jnp.asarray(parameters["taus"], float))


def _spectral_dual(parameters: Parameters, stocks: Array, scores: Array) -> Array:
    return scores * _one_over_least_tau(parameters) - stocks @ jnp.asarray(parameters["weights"], float)


def spectral(taus: Sequence[float] | Array, weights: Sequence[float] | Array) -> Objective:
    """A spectral risk measure as a mixture of k CVaRs, Σᵢ wᵢ CVaR_τᵢ(G).

    Every level has a quantile, hence a stock, of its own: the MDP's scalar reward is repeated in k components
    (`repeat_rewards`), the stock is a vector, and with t the least level

        f(x) = Σᵢ wᵢ t/τᵢ min(xᵢ, 0),   value max_c { -w·c + E f(c + G) / t }

    Args:
        taus: [k] levels in (0, 1].
        weights: [k], none negative, sum 1.

    Raises:
        InputError: for levels or weights out of range, or of different lengths.
    """
    parameters = {"taus": _level("taus", taus), "weights": _share("weights", weights)}
    shape, others = np.shape(parameters["taus"]), np.shape(parameters["weights"])
    if len(shape) != 1 or shape != others:
        raise InputError(
            f"taus have shape {shape} and weights {others}: give a list of levels, a weight each"
        )
    total = parameters["weights"].sum()
    _given("the sum of weights", total, lambda total: abs(total - 1) < 1e-6, "1")
    properties = Properties(lipschitz=1.0, degree=1.0, reward_dim=shape[0])
    start = Search(functionals.spectral, _spectral_dual, _one_over_least_tau)
    return _expected("spectral", functionals.weighted_shortfalls, parameters, properties, start)


def repeat_rewards(mdp: MDP, copies: int) -> MDP:
    """The MDP with its scalar reward repeated in several components, as `spectral` needs it.

    Args:
        mdp: one with rewards [S, A, K, 1].
        copies: k.

    Returns:
        The MDP with rewards [S, A, K, k].
    """
    return mdp._replace(rewards=mdp.rewards.repeat(copies, axis=-1))


# Objectives of a user's own.


def expected_utility(
    utility: Utility, properties: Properties, *, stock: Sequence[float], name: str, **parameters: Any
) -> Objective:
    """The mean of a utility of one's own.

    Args:
        utility: f; one function for many objectives, for jit compiles once for each.
        properties: what is known of f, or what `properties.of_utility` finds by tests.
        stock: c₀ [m]; finite.
        name: for messages and figures.
        **parameters: what f depends on.

    Raises:
        InputError: for a stock that is not finite.
    """
    return _expected(name, utility, {**parameters, "stock": _finite("stock", stock)}, properties, _FROM_STOCK)


def general(
    functional: Functional, properties: Properties, *, stock: Sequence[float], name: str, **parameters: Any
) -> Objective:
    """A functional of one's own, as `expected_utility`; `properties.of_functional` tests it."""
    parameters["stock"] = _finite("stock", stock)
    return Objective(parameters, name, functional, properties, _FROM_STOCK)


def weighted_sum(first: Objective, second: Objective, weight: Array | float) -> Objective:
    """Two expected utilities of one stock at once, E[(1 - w) f₁ + w f₂].

    With a small w it is lexicographic: `second` decides among the policies that are equally good for `first`,
    as soon as w times the range of f₂ is less than any other difference in E f₁. With w the share of a
    Lagrange multiplier it is constrained: the least w whose optimum keeps E f₂ above a bound is that bound's
    price. Both stay expected utilities, hence mixture-indifferent.

    Args:
        first: an expected utility with a given first stock, which is kept.
        second: an expected utility of as many reward components.
        weight: w in [0, 1].

    Raises:
        InputError: for objectives that are no expected utilities, that begin otherwise or differ in
            reward components, or for a weight out of range.
    """
    if first.utility is None or second.utility is None or not isinstance(first.start, At):
        raise InputError(
            f"{first.name} and {second.name} have no sum: "
            "give expected utilities, the first one's first stock given"
        )
    one, two = first.properties, second.properties
    if one.reward_dim != two.reward_dim:
        raise InputError(
            f"{first.name} takes {one.reward_dim} reward components and {second.name} {two.reward_dim}: "
            "the parts of a sum must take as many"
        )
    degree = one.degree if one.degree == two.degree else None
    properties = Properties(
        gamma_indifferent=degree is not None,
        lipschitz=max(one.lipschitz, two.lipschitz),
        degree=degree,
        reward_dim=one.reward_dim,
    )
    weight = _share("weight", weight)
    parameters = {"first": first.parameters, "second": second.parameters, "weight": weight}
    utility = functionals.sum_of(first.utility, second.utility)
    name = f"{first.name} and {second.name}"
    return _expected(name, utility, parameters, properties, _from_first(first.start))


@functools.cache
def _from_first(start: At) -> At:
    return At(lambda parameters: start.stock(parameters["first"]))


# Objectives by name.

REGISTRY: dict[str, Callable[..., Objective]] = {
    "expectation": expectation,
    "cvar": lower_cvar,
    "upper_cvar": upper_cvar,
    "mean_cvar": mean_cvar,
    "spectral": spectral,
    "target": target_return,
    "homeostatic": homeostatic,
    "satisficing": satisficing,
    "entropic": entropic,
    "mean_variance": mean_variance,
}


def make(name: str, **parameters: Any) -> Objective:
    """An objective by name, as launchers make it.

    Args:
        name: a key of `REGISTRY`.
        **parameters: those of its constructor.

    Raises:
        InputError: for an unknown name, an unknown, missing or impossible parameter.
    """
    if name not in REGISTRY:
        raise unknown("objective", name, REGISTRY)
    known = inspect.signature(REGISTRY[name]).parameters
    for given in parameters.keys() - known.keys():
        raise unknown(f"parameter of objective {name}", given, known)
    for wanted in known.values():
        if wanted.default is wanted.empty and wanted.name not in parameters:
            raise InputError(f"objective {name} needs {wanted.name}: give it a value")
    return REGISTRY[name](**parameters)
