r"""Behaviour cloning: an example of your own agent in your own file.

    python -m experiments.train --agent=experiments/examples/behaviour_cloning.py:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/cloning

A policy learns the actions of the dataset by maximum likelihood, without rewards:

    L = -E[log π(a | s)]
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import check_ranges, check_widths
from valuelab.networks import learning
from valuelab.networks.policies import CategoricalPolicy, GaussianPolicy
from valuelab.types import Agent, Array, Key, Metrics, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True)
class Config:
    """Hyperparameters of behaviour cloning.

    Attributes:
        hidden_dims: width of each hidden layer.
        learning_rate: learning rate of Adam.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(self, learning_rate="(0, inf)")


PRESETS = {"pointmaze": {"agent.hidden_dims": (128, 128), "steps": 20_000, "eval_every": 10_000}}


def make_agent(config: Config, spec: Spec) -> Agent:
    """Builds the agent; its learning rate may be traced."""
    if spec.discrete:
        network = CategoricalPolicy(spec.num_actions, config.hidden_dims)
    else:
        network = GaussianPolicy(spec.action_dim, config.hidden_dims)
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = network.init(network_key, example.observations)
        return learning.start(update_key, params, {}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions) -> tuple[TrainState, Metrics]:
        def loss(params) -> tuple[Array, Metrics]:
            distribution = network.apply(params, batch.observations)
            return -jnp.mean(distribution.log_prob(batch.actions)), {}

        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics

    def act(state: TrainState, observations: Array, key: Key, temperature: Array | float) -> Array:
        return network.apply(state.params, observations).sample(key, temperature)

    return Agent(init=init, update=update, act=act)
