"""Policy networks: from observations to distributions over actions.

Continuous actions lie in [-1, 1] (`Normalization` maps them to and from an environment's bounds).
"""

from typing import Any, Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.networks.encoders import embedded
from valuelab.networks.mlp import MLP, Activation, scaled
from valuelab.ops.factorizations import orthogonal
from valuelab.types import Array, Key

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0

Mean = Literal["tanh", "clip"]
"""How the mean of actions is bounded to [-1, 1]: by tanh, also in likelihoods, or by clipping when acting."""


class Distribution(Protocol):
    """The interface of the outputs of policy networks."""

    def log_prob(self, actions: Array) -> Array:
        """Log-likelihoods [B] of actions [B, A] or [B]."""

    def mode(self) -> Array:
        """The most likely actions."""

    def sample(self, key: Key, temperature: Array | float) -> Array:
        """Actions; temperature 0 gives the most likely ones, 1 samples of the distribution."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian over actions, clipped to [-1, 1] when sampled.

    Attributes:
        mean: [B, A], in (-1, 1).
        log_std: [A].
    """

    mean: Array
    log_std: Array

    def log_prob(self, actions: Array) -> Array:
        """Log N(a; μ, σ²) = -½ Σ ((a - μ)/σ)² - Σ log σ - (A/2) log 2π, shape [B]."""
        standardised = (actions - self.mean) * jnp.exp(-self.log_std)[None]
        constant = jnp.sum(self.log_std) + 0.5 * self.mean.shape[-1] * jnp.log(2 * jnp.pi)
        return -0.5 * jnp.sum(jnp.square(standardised), axis=-1) - constant

    def mode(self) -> Array:
        """The mean μ, [B, A]."""
        return self.mean

    def sample(self, key: Key, temperature: Array | float) -> Array:
        """clip(μ + temperature · σ · ε, -1, 1) with standard normal ε, shape [B, A]."""
        return jnp.clip(self._draw(key, temperature), -1, 1)

    def _draw(self, key: Key, temperature: Array | float) -> Array:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + temperature * jnp.exp(self.log_std)[None] * noise


class UnboundedGaussian(Gaussian):
    """A Gaussian over vectors that may lie anywhere, such as representations."""

    def sample(self, key: Key, temperature: Array | float) -> Array:
        """μ + temperature · σ · ε with standard normal ε, shape [B, A]."""
        return self._draw(key, temperature)


class ClippedGaussian(Gaussian):
    """A Gaussian whose mean may lie outside [-1, 1]: it is clipped when acting, but not in likelihoods."""

    def mode(self) -> Array:
        """clip(μ, -1, 1), [B, A]."""
        return jnp.clip(self.mean, -1, 1)


class SquashedGaussian(NamedTuple):
    """tanh of a diagonal Gaussian: actions in (-1, 1).

    Attributes:
        mean: [B, A], before tanh.
        log_std: [B, A].
    """

    mean: Array
    log_std: Array

    def log_prob(self, actions: Array) -> Array:
        """Log N(x; μ, σ²) - Σ log(1 - a²) at x = artanh a, [B]; a is clipped to ±(1 - 1e-6)."""
        return self._log_prob_before(jnp.arctanh(jnp.clip(actions, -1 + 1e-6, 1 - 1e-6)))

    def _log_prob_before(self, points: Array) -> Array:
        gaussian = jax.scipy.stats.norm.logpdf(points, self.mean, jnp.exp(self.log_std))
        # log(1 - tanh² x) in a form that does not become log 0 by rounding.
        squashing = 2 * (jnp.log(2.0) - points - jax.nn.softplus(-2 * points))
        return jnp.sum(gaussian - squashing, axis=-1)

    def mode(self) -> Array:
        """Tanh μ, [B, A]."""
        return jnp.tanh(self.mean)

    def sample(self, key: Key, temperature: Array | float) -> Array:
        """Tanh(μ + temperature · σ · ε) with standard normal ε, shape [B, A]."""
        return jnp.tanh(self._draw(key, temperature))

    def sample_with_log_prob(self, key: Key) -> tuple[Array, Array]:
        """Actions [B, A] and their log-likelihoods [B], which are accurate even near ±1."""
        points = self._draw(key, 1.0)
        return jnp.tanh(points), self._log_prob_before(points)

    def _draw(self, key: Key, temperature: Array | float) -> Array:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + temperature * jnp.exp(self.log_std) * noise


class Deterministic(NamedTuple):
    """One action for each observation; its likelihood is that of a Gaussian of unit variance around it.

    Attributes:
        mean: the action μ, [B, A], in (-1, 1).
    """

    mean: Array

    def log_prob(self, actions: Array) -> Array:
        """-½ ||a - μ||², shape [B]: weighted regression when maximised."""
        return -0.5 * jnp.sum(jnp.square(actions - self.mean), axis=-1)

    def mode(self) -> Array:
        """The action itself, [B, A]."""
        return self.mean

    def sample(self, key: Key, temperature: Array | float) -> Array:
        """The mode, [B, A], at every temperature."""
        del key, temperature
        return self.mode()


class ClippedDeterministic(Deterministic):
    """One action, whose μ may lie outside [-1, 1]: it is clipped when acting, but not in likelihoods."""

    def mode(self) -> Array:
        """clip(μ, -1, 1), [B, A]."""
        return jnp.clip(self.mean, -1, 1)


class Categorical(NamedTuple):
    """A distribution over discrete actions.

    Attributes:
        logits: [B, num_actions].
    """

    logits: Array

    def log_prob(self, actions: Array) -> Array:
        """Log softmax(logits)[a], shape [B]."""
        return jnp.take_along_axis(jax.nn.log_softmax(self.logits), actions[:, None], axis=-1)[:, 0]

    def mode(self) -> Array:
        """The action with the largest logit, shape [B] int32."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def sample(self, key: Key, temperature: Array | float) -> Array:
        """argmax(logits + temperature · Gumbel noise), shape [B] int32: softmax(logits / temperature)."""
        noise = jax.random.gumbel(key, self.logits.shape, self.logits.dtype)
        return jnp.argmax(self.logits + temperature * noise, axis=-1).astype(jnp.int32)


class GaussianPolicy(nn.Module):
    """π(a | s) = N(tanh μ(s), σ²), or N(μ(s), σ²), with σ independent of the state.

    Attributes:
        action_dim: A.
        hidden_dims: width of each hidden layer.
        dropout_rate: in [0, 1).
        activation: of each hidden layer.
        final_scale: scale of the last layer's initial weights, see `scaled`.
        mean: "tanh" for the first form, "clip" for the second; "unbounded" for the second over vectors that
            are not actions and are never clipped.
        learn_std: whether σ is learnt, its logarithm clipped to [-5, 2]; else σ = 1.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: Any = 0.0
    activation: Activation = "relu"
    final_scale: Any = 1.0
    mean: Mean | Literal["unbounded"] = "tanh"
    learn_std: bool = True

    @nn.compact
    def __call__(self, observations: Array) -> Gaussian:
        """Maps observations [B, D] to a distribution over actions [B, A]."""
        hidden = MLP(self.hidden_dims, dropout_rate=self.dropout_rate, activation=self.activation)(
            observations
        )
        mean = nn.Dense(self.action_dim, kernel_init=scaled(self.final_scale))(hidden)
        if self.learn_std:
            log_std = self.param("log_std", nn.initializers.zeros_init(), (self.action_dim,))
        else:
            log_std = jnp.zeros(self.action_dim)
        log_std = jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)
        if self.mean == "clip":
            return ClippedGaussian(mean, log_std)
        if self.mean == "unbounded":
            return UnboundedGaussian(mean, log_std)
        return Gaussian(jnp.tanh(mean), log_std)


class SquashedGaussianPolicy(nn.Module):
    """π(a | s) = tanh N(μ(s), σ(s)²), log σ clipped.

    Attributes:
        action_dim: A.
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer.
        final_scale: see GaussianPolicy.
        log_std_min: least log σ; the greatest is 2.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    activation: Activation = "relu"
    final_scale: Any = 1.0
    log_std_min: Any = LOG_STD_MIN

    @nn.compact
    def __call__(self, observations: Array) -> SquashedGaussian:
        """Maps observations [B, D] to a distribution over actions [B, A]."""
        hidden = MLP(self.hidden_dims, activation=self.activation)(observations)
        outputs = nn.Dense(2 * self.action_dim, kernel_init=scaled(self.final_scale))(hidden)
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return SquashedGaussian(mean, jnp.clip(log_std, self.log_std_min, LOG_STD_MAX))


class DeterministicPolicy(nn.Module):
    """a = tanh μ(s), or clip(μ(s), -1, 1).

    Attributes:
        action_dim: A.
        hidden_dims: width of each hidden layer.
        dropout_rate: in [0, 1).
        activation: of each hidden layer.
        final_scale: see GaussianPolicy.
        mean: see GaussianPolicy.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: Any = 0.0
    activation: Activation = "relu"
    final_scale: Any = 1.0
    mean: Mean = "tanh"

    @nn.compact
    def __call__(self, observations: Array) -> Deterministic:
        """Maps observations [B, D] to actions [B, A]."""
        hidden = MLP(self.hidden_dims, dropout_rate=self.dropout_rate, activation=self.activation)(
            observations
        )
        mean = nn.Dense(self.action_dim, kernel_init=scaled(self.final_scale))(hidden)
        return ClippedDeterministic(mean) if self.mean == "clip" else Deterministic(jnp.tanh(mean))


class TaskPolicy(nn.Module):
    """a = tanh μ((s, z, e), (s, e)), with a separate embedding of each of the two.

    Attributes:
        action_dim: A.
        hidden_dims: width of each hidden layer, see `embedded`.
        task_dim: d, the size of the task z at the end of an observation.

    Source: the code of TD-JEPA's study, Bagatella et al. 2025, arXiv:2510.00739.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    task_dim: int

    @nn.compact
    def __call__(self, observations: Array, noise: Array | None = None) -> Array:
        """Maps observations with tasks [B, k + d] and noise e [B, A] to actions [B, A] in (-1, 1)."""
        inputs = [observations, observations[:, : -self.task_dim]]
        if noise is not None:
            inputs = [jnp.concatenate([given, noise], axis=-1) for given in inputs]
        hidden = embedded(inputs, self.hidden_dims)
        return jnp.tanh(nn.Dense(self.action_dim, kernel_init=orthogonal)(hidden))


class CategoricalPolicy(nn.Module):
    """π(a | s) = softmax of logits, for discrete actions.

    Attributes:
        num_actions: number of actions.
        hidden_dims: width of each hidden layer.
        dropout_rate: in [0, 1).
        activation: of each hidden layer.
        final_scale: see GaussianPolicy.
    """

    num_actions: int
    hidden_dims: tuple[int, ...]
    dropout_rate: Any = 0.0
    activation: Activation = "relu"
    final_scale: Any = 1.0

    @nn.compact
    def __call__(self, observations: Array) -> Categorical:
        """Maps observations [B, D] to a distribution over actions [B]."""
        hidden = MLP(self.hidden_dims, dropout_rate=self.dropout_rate, activation=self.activation)(
            observations
        )
        return Categorical(nn.Dense(self.num_actions, kernel_init=scaled(self.final_scale))(hidden))
