"""What all policies share whose network gives a distribution over actions: only their losses differ."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import optax

from valuelab.configuration import check_ranges, check_widths
from valuelab.networks import learning
from valuelab.networks.encoders import EncoderName, with_encoder
from valuelab.networks.mlp import Activation
from valuelab.networks.policies import (
    CategoricalPolicy,
    DeterministicPolicy,
    Distribution,
    GaussianPolicy,
    Mean,
)
from valuelab.types import Array, Estimates, Key, Metrics, Policy, Spec, TrainState, Transitions

PolicyLoss = Callable[[Distribution, Transitions, Estimates], tuple[Array, Metrics]]


@dataclasses.dataclass(frozen=True)
class ParametricConfig:
    """Hyperparameters of a policy whose network gives a distribution.

    Attributes:
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer, "relu" or "gelu".
        final_scale: variance of the last layer's first weights, times the mean of its two widths.
        mean: of continuous actions, "tanh" of the network's output, or "clip": the output itself, which is
            clipped to [-1, 1] when it acts, not in likelihoods.
        distribution: over continuous actions, "gaussian" or "deterministic"; over discrete ones it is
            categorical.
        learn_std: learn the Gaussian's standard deviation; else it is 1.
        dropout_rate: of the hidden layers, in [0, 1).
        learning_rate: of Adam.
        learning_rate_schedule: "cosine" (to 0 at the end of the run) or "constant".
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for impala_small.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    final_scale: float = 1.0
    mean: Mean = "tanh"
    distribution: Literal["gaussian", "deterministic"] = "gaussian"
    learn_std: bool = True
    dropout_rate: float = 0.0
    learning_rate: float = 3e-4
    learning_rate_schedule: Literal["cosine", "constant"] = "constant"
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(
            self,
            final_scale="(0, inf)",
            dropout_rate="[0, 1)",
            learning_rate="(0, inf)",
        )


def parametric_policy(
    name: str, needs: frozenset[str], config: ParametricConfig, spec: Spec, loss: PolicyLoss
) -> Policy:
    """A policy that takes one gradient step on a loss of its distribution at each update.

    Args:
        name: its name in messages.
        needs: which fields of Estimates the loss uses.
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; its num_updates is the length of a cosine schedule.
        loss: (distribution at the batch's observations, batch, estimates) -> (scalar, metrics).

    Returns:
        The policy.

    Raises:
        InputError: for a cosine schedule of unknown length.
    """
    network = with_encoder(config.encoder, spec, _network(config, spec))
    optimizer = optax.adam(learning.scheduled(config.learning_rate, config.learning_rate_schedule, spec))

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = network.init(network_key, example.observations)
        return learning.start(update_key, params, {}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        dropout_key = jax.random.fold_in(state.key, state.step)

        def loss_of(params):
            distribution = network.apply(params, batch.observations, rngs={"dropout": dropout_key})
            return loss(distribution, batch, estimates)

        params, opt_state, metrics = learning.gradient_step(loss_of, optimizer, state.params, state.opt_state)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        return network.apply(state.params, observations).sample(key, temperature)

    return Policy(name, needs, init, update, sample)


def _network(config: ParametricConfig, spec: Spec) -> nn.Module:
    """A module that maps observations [B, D] to a Distribution; uses a "dropout" key where there is one."""
    layers = (config.hidden_dims, config.dropout_rate, config.activation, config.final_scale)
    if spec.discrete:
        return CategoricalPolicy(spec.num_actions, *layers)
    if config.distribution == "deterministic":
        return DeterministicPolicy(spec.action_dim, *layers, config.mean)
    return GaussianPolicy(spec.action_dim, *layers, config.mean, config.learn_std)
