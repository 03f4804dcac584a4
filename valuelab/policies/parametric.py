"""What all policies share whose network gives a distribution over actions: only their losses differ."""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from valuelab.networks import learning
from valuelab.networks.policies import CategoricalPolicy, DeterministicPolicy, Distribution, GaussianPolicy
from valuelab.types import Array, Estimates, Key, Metrics, Policy, Spec, TrainState, Transitions

PolicyLoss = Callable[[Distribution, Transitions, Estimates], tuple[Array, Metrics]]


def policy_network(
    spec: Spec,
    *,
    distribution: str,
    hidden_dims: tuple[int, ...],
    dropout_rate: Array | float,
    learn_std: bool,
) -> nn.Module:
    """The policy network for a kind of actions.

    Args:
        spec: of the data; where its actions are discrete the policy is categorical.
        distribution: "gaussian" or "deterministic", for continuous actions.
        hidden_dims: width of each hidden layer.
        dropout_rate: in [0, 1).
        learn_std: whether a Gaussian's standard deviation is learnt; else it is 1.

    Returns:
        A module that maps observations [B, D] to a Distribution.
    """
    if spec.discrete:
        return CategoricalPolicy(spec.num_actions, hidden_dims, dropout_rate)
    if distribution == "deterministic":
        return DeterministicPolicy(spec.action_dim, hidden_dims, dropout_rate)
    return GaussianPolicy(spec.action_dim, hidden_dims, dropout_rate, learn_std)


def parametric_policy(
    name: str,
    needs: frozenset[str],
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: PolicyLoss,
) -> Policy:
    """A policy that takes one gradient step on a loss of its distribution at each update.

    Args:
        name: its name in messages.
        needs: which fields of Estimates the loss uses.
        network: maps observations to a Distribution; may use a "dropout" key, in training only.
        optimizer: of the network's parameters.
        loss: (distribution at the batch's observations, batch, estimates) -> (scalar, metrics).

    Returns:
        The policy.
    """

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
