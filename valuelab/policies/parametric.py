"""What all policies share whose network gives a distribution over actions: only their losses differ."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import optax

from valuelab.configuration import setting
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.policies import (
    CategoricalPolicy,
    DeterministicPolicy,
    Distribution,
    GaussianPolicy,
    Mean,
)
from valuelab.policies.continuous import ActorConfig
from valuelab.types import Array, Estimates, Key, Metrics, Policy, Spec, TrainState, Transitions

PolicyLoss = Callable[[Distribution, Transitions, Estimates], tuple[Array, Metrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParametricConfig(ActorConfig):
    """Hyperparameters of a policy whose network gives a distribution."""

    mean: Mean = setting(
        "tanh",
        help='Mean of continuous actions, "tanh" of the network\'s output, or "clip": the output itself, '
        "clipped to [-1, 1] when it acts but not in likelihoods.",
    )
    distribution: Literal["gaussian", "deterministic"] = setting(
        "gaussian",
        help='Distribution over continuous actions, "gaussian" or "deterministic"; over discrete ones it is '
        "categorical.",
    )
    learn_std: bool = setting(True, help="Learn the Gaussian's standard deviation; otherwise it is 1.")
    dropout_rate: float = setting(0.0, "[0, 1)", "Dropout rate of the hidden layers, in [0, 1).")
    learning_rate_schedule: Literal["cosine", "constant"] = setting(
        "constant",
        help='Schedule of the learning rate, "cosine" or "constant". "cosine" falls to 0 at the end of the '
        'run, online updates included, so fine-tuning needs "constant".',
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
    network = with_encoder(config.encoder, spec, action_network(config, spec))
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

        return learning.update(state, loss_of, optimizer)

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        return network.apply(state.params, observations).sample(key, temperature)

    return Policy(name=name, needs=needs, init=init, update=update, sample=sample)


def action_network(config: ParametricConfig, spec: Spec) -> nn.Module:
    """A module that maps vectors [B, D] to a Distribution; uses a "dropout" key where there is one."""
    layers = (config.hidden_dims, config.dropout_rate, config.activation, config.final_scale)
    if spec.discrete:
        return CategoricalPolicy(spec.num_actions, *layers)
    if config.distribution == "deterministic":
        return DeterministicPolicy(spec.action_dim, *layers, config.mean)
    return GaussianPolicy(spec.action_dim, *layers, config.mean, config.learn_std)
