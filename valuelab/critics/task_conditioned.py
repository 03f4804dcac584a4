"""What critics of all tasks z share: their values are products of a prediction with z.

    Q(s, a, z) = F(s, a, z)ᵀz,   F(s, a, z) ≈ E Σ_k γ^k ψ(s_{k+1}) under π_z

The critics differ in how they learn F and the features ψ. The input of F is an encoding φ(s), or the
observation if there is no φ. Batches carry tasks in the place of goals. Policies see observations, or φ(s),
joined with
tasks: [B, k + d].
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab import platforms
from valuelab.configuration import SameAs, setting, widths
from valuelab.critics.values import ReturnsConfig, offered
from valuelab.errors import InputError
from valuelab.networks import encoders, learning
from valuelab.networks.encodings import Encoder
from valuelab.ops.zero_shot import infer_tasks, pessimistic, pessimistic_along, successor_measure_loss
from valuelab.types import (
    Array,
    Critic,
    Diagnostics,
    Estimates,
    Key,
    Metrics,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
    ZeroShot,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConditionedConfig(ReturnsConfig):
    """Hyperparameters that all critics of tasks share."""

    learning_rate: float = 1e-4
    feature_learning_rate: float = setting(
        1e-4,
        "(0, inf)",
        "Learning rate of the features, such as B, ψ and those of a feature learner.",
        before=SameAs("learning_rate"),
    )
    predictor_dims: tuple[int, ...] = widths(
        (512, 512), "Width of each hidden layer of the predictors.", least=2
    )
    state_dims: tuple[int, ...] = setting(
        (512, 512, 512, 512),
        "[1, inf)",
        "Width of each hidden layer of the encoder φ of states; none for a linear one.",
        before=(),
    )
    state_dim: int = setting(
        50,
        "[0, inf)",
        "Size of an encoding φ(s); 0 for no encoder. Images need an encoder.",
        before=0,
    )
    policy_sees: Literal["observations", "encodings"] = setting(
        "observations",
        help='Input of the policy: "observations", or "encodings" φ(s), which only the critic trains.',
    )
    pessimism: float = setting(
        0.0, "[0, inf)", "λ in the values that the policy maximises: mean - λ |difference|."
    )
    target_pessimism: float = setting(0.0, "[0, inf)", "λ in the values of targets.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy_sees == "encodings" and not self.state_dim:
            raise InputError("policy_sees='encodings' needs state_dim >= 1, but state_dim is 0")

    @property
    def state_encoder(self) -> nn.Module:
        """φ, or a module that returns observations unchanged."""
        return Encoder(self.state_dims, self.state_dim) if self.state_dim else Unchanged()

    def seen_dim(self, spec: Spec) -> int:
        """k, the size of the policy's input without the task."""
        return self.state_dim if self.policy_sees == "encodings" else spec.observation_shape[0]


class Unchanged(nn.Module):
    """A module without parameters that returns its input."""

    def __call__(self, observations: Array) -> Array:
        """The observations."""
        return observations


class Losses(NamedTuple):
    """The functions by which a critic of all tasks learns; the goals of its batches are tasks [B, d].

    Attributes:
        dim: d.
        init: (key, batch) -> params.
        loss: (params, target_params, batch, next_actions, key) -> (scalar, Metrics); next_actions are the
            policy's for the batch's tasks.
        encode_states: (params, observations) -> the input of F, [B, k].
        predict: (params, input of F, actions, tasks) -> F, [E, B, d].
        encode: (params, observations) -> ψ, [B, d].
        of_features: (params) -> a tree of bools for the parts of the parameters: whether a part learns at
            `feature_learning_rate`.
        infer_tasks: (features [N, d], rewards [T, N]) -> tasks [T, d].
        follow: (params, batch) -> params, with updates that are not gradient steps, such as running means.
        goal_tasks: as of `FeatureLearner`.
    """

    dim: int
    init: Callable[[Key, Transitions], Params]
    loss: Callable[[Params, Params, Transitions, Array, Key], tuple[Array, Metrics]]
    encode_states: Callable[[Params, Array], Array]
    predict: Callable[[Params, Array, Array, Array], Array]
    encode: Callable[[Params, Array], Array]
    of_features: Callable[[Params], Any]
    infer_tasks: Callable[[Array, Array], Array] = infer_tasks
    follow: Callable[[Params, Transitions], Params] = lambda params, batch: params
    goal_tasks: Callable[[Array, Array], Array] | None = None


def task_conditioned_critic(name: str, config: TaskConditionedConfig, spec: Spec, losses: Losses) -> Critic:
    """A critic of all tasks.

    One update is one gradient step. The targets use the averages of ALL parameters.

    Args:
        name: in messages.
        config: hyperparameters; numeric ones may be traced.
        spec: of the data: continuous actions, vectors or images.
        losses: the functions by which it learns.

    Returns:
        A critic that offers q and its gradient.

    Raises:
        InputError: for other data, and for images as input of the policy.
    """
    shape = spec.observation_shape
    images = len(shape) == 3 or bool(spec.observation_parts)
    if spec.discrete or len(shape) not in (1, 3):
        raise InputError(
            f"critic {name} needs vectors or images and continuous actions, but observations have shape "
            f"{shape}" + (" and actions are discrete" if spec.discrete else "")
        )
    sees_encodings = config.policy_sees == "encodings"
    if images and not sees_encodings:
        missing = [] if config.state_dim else ["--agent.critic.state_dim=50"]
        kind = "have several parts" if spec.observation_parts else f"are images of shape {shape}"
        raise InputError(
            f"observations {kind}, but policies need vectors: "
            f"give {' and '.join([*missing, '--agent.critic.policy_sees=encodings'])}"
        )
    if images:
        encoders.check_images(spec, f"critic {name}", encoders.DrQ.least_side)

    def rates(params: Params) -> Any:
        both = {True: config.feature_learning_rate, False: config.learning_rate}
        return jax.tree.map(both.get, losses.of_features(params))

    optimizer = learning.adam_by_part(rates)

    def init(key: Key, example: Transitions) -> TrainState:
        params_key, update_key = jax.random.split(key)
        params = losses.init(params_key, example)
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        action_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        next_actions = policy.look_ahead(batch, action_key).actions

        def loss(params):
            return losses.loss(params, state.target_params, batch, next_actions, loss_key)

        state, metrics = learning.update(state, loss, optimizer)
        return state._replace(params=losses.follow(state.params, batch)), metrics

    def estimates(state: TrainState) -> Estimates:
        def q(joined: Array, actions: Array) -> Array:
            seen, tasks = split(joined, losses.dim)
            seen = seen if sees_encodings else losses.encode_states(state.params, seen)
            predictions = losses.predict(state.params, seen, actions, tasks)
            return pessimistic(jnp.sum(predictions * tasks[None], axis=-1), config.pessimism)

        return Estimates(q=q)

    def perceive(state: TrainState, observations: Array) -> Array:
        return losses.encode_states(state.params, observations) if sees_encodings else observations

    return Critic(
        name=name,
        offers=offered(spec, "q"),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        diagnostics=Diagnostics(discount=config.discount),
        zero_shot=ZeroShot(
            features=lambda state, observations: losses.encode(state.params, observations),
            num_features=losses.dim,
            infer_tasks=losses.infer_tasks,
            perceive=perceive,
            goal_tasks=losses.goal_tasks,
        ),
    )


def parts_named(*names: str) -> Callable[[Params], dict[str, bool]]:
    """A function of params: the name of each top-level part -> whether it is one of `names`."""
    return lambda params: {name: name in names for name in params}


def tasks_of(batch: Transitions) -> Array:
    """The tasks z [B, d] of a batch, which it carries as goals."""
    assert batch.goals is not None
    return batch.goals


def split(joined: Array, dim: int) -> tuple[Array, Array]:
    """The inputs [B, k] and the tasks [B, d] of [B, k + d]."""
    return joined[:, :-dim], joined[:, -dim:]


def successor_target(
    config: TaskConditionedConfig,
    features: Array,
    next_predictions: Array,
    masks: Array,
    tasks: Array | None = None,
) -> Array:
    """The one-step target of a discounted sum of future features.

        y = ψ(s') + γ · mask · F̄(s', a', z)

    Args:
        config: γ, and λ of the targets' pessimism.
        features: [B, d], of the next states.
        next_predictions: [E, B, d], of the sum after the next states; F̄ is their mean.
        masks: [B].
        tasks: z [B, d], along which the target is pessimistic; None for predictions that are not multiplied
            by z.

    Returns:
        [B, d].
    """
    if tasks is None:
        following = jnp.mean(next_predictions, axis=0)
    else:
        following = pessimistic_along(next_predictions, tasks, config.target_pessimism)
    return features + config.discount * masks[:, None] * following


def measure_loss(
    config: TaskConditionedConfig,
    predictions: Array,
    features: Array,
    next_predictions: Array,
    target_features: Array,
    masks: Array,
) -> Array:
    """The loss of densities of future states, relative to the data: the sum over an ensemble of F.

        L = Σ_e successor_measure_loss(F_e ψᵀ, F̄ ψ̄ᵀ, γ · mask)

    Args:
        config: γ, and λ of the targets' pessimism.
        predictions: F at the states and actions, [E, B, d].
        features: ψ of the next states, [B, d].
        next_predictions: F̄ at the next states, [E, B, d].
        target_features: ψ̄ of the next states, [B, d].
        masks: [B].

    Returns:
        A scalar.

    Source: Touati, Ollivier 2021, arXiv:2103.07945, algorithm 1.
    """
    next_measures = pessimistic(next_predictions @ target_features.T, config.target_pessimism)
    losses = jax.vmap(successor_measure_loss, (0, None, None))(
        predictions @ features.T, next_measures, config.discount * masks
    )
    return jnp.sum(losses)


def apply_networks(calls: Sequence[tuple[nn.Module, tuple[Any, ...]]]) -> list[Array]:
    """The outputs of several networks, each with its own parameters and inputs; equal ones by `map_each`.

    Args:
        calls: for each network its module and the arguments of `apply`.

    Returns:
        Their outputs.
    """
    modules, arguments = zip(*calls, strict=True)
    if any(module != modules[0] for module in modules):
        return [module.apply(*given) for module, given in calls]
    return map_each(modules[0].apply, arguments)


def map_each(function: Callable[..., Array], arguments: Sequence[tuple[Any, ...]]) -> list[Array]:
    """The values of a function for several tuples of arguments.

    On accelerators, tuples of the same shapes are computed as one batch. On CPUs, one follows the other.

    Args:
        function: the function.
        arguments: the arguments of each call.

    Returns:
        The value of each call.
    """
    shapes = [jax.tree.map(jnp.shape, given) for given in arguments]
    if platforms.on_cpu() or any(shape != shapes[0] for shape in shapes):
        return [function(*given) for given in arguments]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arguments)
    return list(jax.vmap(function)(*stacked))
