"""Objectives: functionals of the law of stock plus return, and what is known of them.

An objective scores the law of c + G by K; most are expected utilities, K(ν) = E f(X). Its `properties` say
whether dynamic programming finds its optimum; `check` refuses it, by name of the property, where not. Its
`start` says with which stock an episode begins and which value is reported:

    At      c₀ is given, and the value is K(law of c₀ + G);
    Search  the value is a measure of the law of G itself (CVaR and the like), and equals the optimum over c
            of a dual, which is what K solves for every c at once.

Parameters that the solved problem or its start depends on are leaves: objectives may be vmapped over them.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional.mdp import MDP
from valuelab.distributional.properties import Properties
from valuelab.distributional.tails import lower_tail, upper_tail
from valuelab.errors import InputError, unknown
from valuelab.types import Array

Parameters = Mapping[str, Any]
Utility = Callable[[Parameters, Array], Array]
"""f: parameters and points [..., m] to [...]."""
Functional = Callable[[Parameters, Array, Array], Array]
"""K: parameters, values [..., n, m] and probabilities [..., n] to [...]."""


class At(NamedTuple):
    """The episode begins with a given stock.

    Attributes:
        stock: parameters to c₀ [m].
    """

    stock: Callable[[Parameters], Array]


class Search(NamedTuple):
    """The episode begins with the stock that the optimum of the dual names.

    Attributes:
        measure: parameters, values [..., n, m] and probabilities [..., n] of the law of G to its value [...].
        dual: parameters, stocks [..., m] and K(law of c + G) [...] to [...], whose optimum over c is the
            measure.
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


@functools.cache
def _expectation_of(utility: Utility) -> Functional:
    """E f(X) as a functional; cached, for objectives with equal functions share what jit has compiled."""

    def functional(parameters, values, probabilities):
        return jnp.sum(probabilities * utility(parameters, values), axis=-1)

    return functional


def _from_utility(name, utility, parameters, properties, start) -> Objective:
    return Objective(parameters, name, _expectation_of(utility), properties, start, utility)


def _given(field_name: str, value: Any, holds: Callable[[Any], Any], wanted: str) -> Any:
    """A parameter, tested entry by entry unless it is traced: a float, or a float64 array if it has axes."""
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field_name} is {value!r}; it must be {wanted}") from error
    if wrong := [index for index in np.ndindex(array.shape) if not holds(array[index])]:
        place = f"[{', '.join(map(str, wrong[0]))}]" if array.ndim else ""
        raise InputError(f"{field_name}{place} is {array[wrong[0]]:g}; it must be {wanted}")
    return array if array.ndim else float(array)


def _level(tau, field_name="tau"):
    return _given(field_name, tau, lambda level: 0 < level <= 1, "a level in (0, 1]")


def _finite(field_name, value):
    return _given(field_name, value, math.isfinite, "finite")


def _positive(field_name, value):
    return _given(field_name, value, lambda number: 0 < number < math.inf, "positive and finite")


def _share(field_name, value):
    return _given(field_name, value, lambda share: 0 <= share <= 1, "in [0, 1]")


# Where episodes begin.


def _nothing(parameters):
    return jnp.zeros(1)


def _minus_target(parameters):
    return -jnp.atleast_1d(jnp.asarray(parameters["target"], float))


# Expected utilities.


def _identity(parameters, points):
    return points[..., 0]


def _shortfall(parameters, points):
    return jnp.minimum(points[..., 0], 0)


def _excess(parameters, points):
    return jnp.maximum(points[..., 0], 0)


def _mean_and_shortfall(parameters, points):
    weight, tau = parameters["weight"], parameters["tau"]
    return weight * tau * points[..., 0] + (1 - weight) * jnp.minimum(points[..., 0], 0)


def _weighted_shortfalls(parameters, points):
    taus, weights = (jnp.asarray(parameters[name], points.dtype) for name in ("taus", "weights"))
    factors = weights * jnp.min(taus) / taus
    return jnp.minimum(points, 0) @ factors


def _minus_absolute(parameters, points):
    return -jnp.abs(points[..., 0])


def _reached(parameters, points):
    # Sums that are 0 in exact arithmetic may come out just below it.
    return jnp.asarray(points[..., 0] >= -(jnp.finfo(points.dtype).eps ** (2 / 3)), points.dtype)


def expectation() -> Objective:
    """The mean return, f(x) = x: ordinary dynamic programming, whatever the stock."""
    return _from_utility("expectation", _identity, {}, Properties(lipschitz=1.0, degree=1.0), At(_nothing))


def _one_over_tau(parameters):
    return 1 / parameters["tau"]


def _tail_dual(parameters, stocks, scores):
    return scores / parameters["tau"] - stocks[..., 0]


def _lower_measure(parameters, values, probabilities):
    return lower_tail(values[..., 0], probabilities, parameters["tau"])


def _upper_measure(parameters, values, probabilities):
    return upper_tail(values[..., 0], probabilities, parameters["tau"])


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
    start = Search(_lower_measure, _tail_dual, _one_over_tau)
    properties = Properties(lipschitz=1.0, degree=1.0)
    return _from_utility("cvar", _shortfall, {"tau": _level(tau)}, properties, start)


def upper_cvar(tau: Array | float) -> Objective:
    """Risk-seeking CVaR, the mean of the best fraction τ of returns.

        max_π UCVaR_τ(G) = max_π min_c { -c + E[max(c + G, 0)] / τ } = min_c { -c + max_π E[max(c + G, 0)] / τ }

    The measure is a least over c of what is linear in the law, hence concave in mixtures, and the equality
    (minimax) holds over policies that may draw once at the start between deterministic ones. f(x) = max(x, 0)
    is solved for every c and serves every level; but the deterministic policy of one first stock may reach
    less than the optimum, which a draw between two attains: see `starts.choose`.

    Args:
        tau: level in (0, 1]; 1 is the mean.

    Raises:
        InputError: for a level outside (0, 1].
    """
    start = Search(_upper_measure, _tail_dual, _one_over_tau, mixed=True)
    properties = Properties(lipschitz=1.0, degree=1.0)
    return _from_utility("upper_cvar", _excess, {"tau": _level(tau)}, properties, start)


def _mean_measure(parameters, values, probabilities):
    weight, points = parameters["weight"], values[..., 0]
    mean = jnp.sum(points * probabilities, axis=-1)
    return weight * mean + (1 - weight) * lower_tail(points, probabilities, parameters["tau"])


def mean_cvar(tau: Array | float, weight: Array | float) -> Objective:
    """A mixture of mean and risk-averse CVaR, w E[G] + (1 - w) CVaR_τ(G).

        f(x) = w τ x + (1 - w) min(x, 0),   value max_c { -c + E f(c + G) / τ }

    Args:
        tau: level in (0, 1].
        weight: w in [0, 1].

    Raises:
        InputError: for a level or weight out of range.
    """
    parameters = {"tau": _level(tau), "weight": _share("weight", weight)}
    start = Search(_mean_measure, _tail_dual, _one_over_tau)
    properties = Properties(lipschitz=1.0, degree=1.0)
    return _from_utility("mean_cvar", _mean_and_shortfall, parameters, properties, start)


def _spectral_measure(parameters, values, probabilities):
    taus, weights = parameters["taus"], parameters["weights"]
    return sum(
        weights[i] * lower_tail(values[..., i], probabilities, taus[i]) for i in range(values.shape[-1])
    )


def _spectral_dual(parameters, stocks, scores):
    weights = jnp.asarray(parameters["weights"], scores.dtype)
    return scores / jnp.min(jnp.asarray(parameters["taus"], scores.dtype)) - stocks @ weights


def _one_over_least_tau(parameters):
    return 1 / jnp.min(jnp.asarray(parameters["taus"], float))


def spectral(taus: Sequence[float] | Array, weights: Sequence[float] | Array) -> Objective:
    """A spectral risk measure as a mixture of k CVaRs, Σᵢ wᵢ CVaR_τᵢ(G).

    Every level has a quantile, hence a stock, of its own: the MDP's scalar reward is repeated in k components
    (`repeat_rewards`), the stock is a vector, and with t = min τ

        f(x) = Σᵢ wᵢ t/τᵢ min(xᵢ, 0),   value max_c { -w·c + E f(c + G) / t }

    Args:
        taus: [k] levels in (0, 1].
        weights: [k], none negative, sum 1.

    Raises:
        InputError: for levels or weights out of range, or of different lengths.

    Source: the decomposition of Kusuoka; solved by stocks as Pires et al. 2025 solve one CVaR.
    """
    taus, weights = _level(taus, "taus"), _share("weights", weights)
    if np.ndim(taus) != 1 or np.shape(taus) != np.shape(weights):
        raise InputError(
            f"taus have shape {np.shape(taus)} and weights {np.shape(weights)}: give one weight for each level"
        )
    if not isinstance(weights, jax.core.Tracer) and abs(weights.sum() - 1) > 1e-6:
        raise InputError(f"weights sum to {weights.sum():g}; they must sum to 1")
    start = Search(_spectral_measure, _spectral_dual, _one_over_least_tau)
    properties = Properties(lipschitz=1.0, degree=1.0, reward_dim=len(taus))
    return _from_utility(
        "spectral", _weighted_shortfalls, {"taus": taus, "weights": weights}, properties, start
    )


def repeat_rewards(mdp: MDP, copies: int) -> MDP:
    """The MDP with its scalar reward repeated in several components, as `spectral` needs it.

    Args:
        mdp: an MDP with rewards [S, A, K, 1].
        copies: k.

    Returns:
        The MDP with rewards [S, A, K, k].
    """
    return mdp._replace(rewards=mdp.rewards.repeat(copies, axis=-1))


def target_return(target: Array | float) -> Objective:
    """A return as near a target as can be, the mean of f(x) = -|x| from c₀ = -target.

    Args:
        target: the wanted return; finite.

    Raises:
        InputError: for a target that is not finite.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    properties = Properties(lipschitz=1.0, degree=1.0)
    parameters = {"target": _finite("target", target)}
    return _from_utility("target", _minus_absolute, parameters, properties, At(_minus_target))


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
    if norm not in (1, 2, math.inf):
        raise InputError(f"norm is {norm}; it must be 1, 2 or inf")
    target = _finite("target", target)
    size = np.shape(target)[-1] if np.ndim(target) else 1
    factors = np.ones(size) if weights is None else np.atleast_1d(_positive("weights", weights))
    if factors.shape != (size,):
        raise InputError(f"weights have shape {factors.shape}; target has {size} components: give as many")
    steepest = float(np.linalg.norm(factors) if norm == 1 else factors.max())
    properties = Properties(
        lipschitz=steepest if power == 1 else math.inf, degree=_positive("power", power), reward_dim=size
    )
    utility = _minus_distance(float(norm), tuple(factors.tolist()), float(power))
    return _from_utility("homeostatic", utility, {"target": target}, properties, At(_minus_target))


@functools.cache
def _minus_distance(norm: float, weights: tuple[float, ...], power: float) -> Utility:
    def utility(parameters, points):
        return -(jnp.linalg.norm(points * weights, ord=norm, axis=-1) ** power)

    return utility


def satisficing(target: Array | float) -> Objective:
    """The probability of returning the target or more, the mean of f(x) = 1(x ≥ 0) from c₀ = -target.

    Not Lipschitz: sound in finite horizons alone. Sums less than ε^⅔ below 0, ε the dtype's, count as 0.

    Args:
        target: the return to reach; finite.

    Raises:
        InputError: for a target that is not finite.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    parameters = {"target": _finite("target", target)}
    return _from_utility("satisficing", _reached, parameters, Properties(degree=0.0), At(_minus_target))


def _entropic(parameters, values, probabilities):
    risk = parameters["risk"]
    return jax.nn.logsumexp(risk * values[..., 0], b=probabilities, axis=-1) / risk


def entropic(risk: Array | float) -> Objective:
    """The certainty equivalent of exponential utility, (1/β) log E exp(β G); for γ = 1 alone.

    Args:
        risk: β, not 0; risk-averse where negative, risk-seeking where positive.

    Raises:
        InputError: for a risk that is 0 or not finite.
    """
    risk = _given("risk", risk, lambda beta: math.isfinite(beta) and beta != 0, "finite and not 0")
    return Objective({"risk": risk}, "entropic", _entropic, Properties(gamma_indifferent=False), At(_nothing))


def _mean_variance(parameters, values, probabilities):
    points = values[..., 0]
    mean = jnp.sum(probabilities * points, axis=-1)
    squares = jnp.sum(probabilities * points**2, axis=-1)
    return mean - parameters["weight"] * (squares - mean**2)


def mean_variance(weight: Array | float) -> Objective:
    """The mean less w times the variance: refused, for mixing turns its order round.

    Args:
        weight: w > 0.

    Raises:
        InputError: for a weight that is not positive.
    """
    properties = Properties(mixture_indifferent=False, gamma_indifferent=False)
    parameters = {"weight": _positive("weight", weight)}
    return Objective(parameters, "mean_variance", _mean_variance, properties, At(_nothing))


# Objectives of a user's own.


def expected_utility(
    utility: Utility,
    properties: Properties,
    *,
    name: str,
    stock: Sequence[float],
    **parameters: Array | float,
) -> Objective:
    """The mean of a utility of one's own.

    Args:
        utility: f, from the parameters and points [..., m] to [...]; keep one function for many objectives,
            for jit compiles once for each.
        properties: what is known of f, or `properties.of_utility` finds by tests.
        name: for messages and figures.
        stock: c₀ [m].
        **parameters: what f depends on.
    """
    start = At(_given_stock)
    return _from_utility(name, utility, {**parameters, "stock": _finite("stock", stock)}, properties, start)


def general(
    functional: Functional,
    properties: Properties,
    *,
    name: str,
    stock: Sequence[float],
    **parameters: Array | float,
) -> Objective:
    """A functional of one's own: see `expected_utility`; `properties.of_functional` tests it."""
    parameters = {**parameters, "stock": _finite("stock", stock)}
    return Objective(parameters, name, functional, properties, At(_given_stock))


def _given_stock(parameters):
    return jnp.atleast_1d(jnp.asarray(parameters["stock"], float))


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
    for objective in (first, second):
        if objective.utility is None or not isinstance(objective.start, At):
            raise InputError(
                f"{objective.name} cannot be part of a sum: give expected utilities of a given stock"
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
    parameters = {
        "first": first.parameters,
        "second": second.parameters,
        "weight": _share("weight", weight),
    }
    utility, start = _sum_of(first.utility, second.utility, first.start)
    return _from_utility(f"{first.name} and {second.name}", utility, parameters, properties, start)


@functools.cache
def _sum_of(first: Utility, second: Utility, start: At) -> tuple[Utility, At]:
    def utility(parameters, points):
        weight = parameters["weight"]
        return (1 - weight) * first(parameters["first"], points) + weight * second(
            parameters["second"], points
        )

    return utility, At(lambda parameters: start.stock(parameters["first"]))


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


def unsound(
    objective: Objective, discount: Array | float, horizon: int | None, reward_dim: int
) -> str | None:
    """Why dynamic programming may miss the optimum of an objective, or None where it cannot.

    Args:
        objective: any.
        discount: γ in (0, 1]; taken for less than 1 where it is traced.
        horizon: number of steps, the longest episode's where γ = 1 and episodes end; None for infinite.
        reward_dim: number m of the MDP's reward components.

    Returns:
        One clause that names the property that fails.

    Raises:
        InputError: for an MDP whose rewards do not have the components that the objective takes.
    """
    known = objective.properties
    if known.reward_dim not in (None, reward_dim):
        raise InputError(
            f"objective {objective.name} takes rewards with {known.reward_dim} components "
            f"and the MDP's have {reward_dim}: change the objective's parameters or the MDP"
        )
    if not known.mixture_indifferent:
        return f"{objective.name} lacks mixture-indifference: mixing can turn its order of two laws round"
    discounted = isinstance(discount, jax.core.Tracer) or discount < 1
    if discounted and not known.gamma_indifferent:
        return f"{objective.name} lacks gamma-indifference, needed where discount < 1: scaling turns its order round"
    if horizon is None and math.isinf(known.lipschitz):
        return f"{objective.name} lacks Lipschitz continuity, needed where the horizon is infinite"
    return None


def check(objective: Objective, discount: Array | float, horizon: int | None, reward_dim: int) -> None:
    """Refuses an objective that dynamic programming cannot be trusted with; arguments as of `unsound`.

    Raises:
        InputError: naming the property that fails.
    """
    if reason := unsound(objective, discount, horizon, reward_dim):
        raise InputError(
            f"{reason}; change the objective or the MDP, or give allow_unsound=True to see it fail"
        )
