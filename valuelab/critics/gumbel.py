"""The critic of extreme Q-learning (XQL): a soft maximum of Q over the data's actions.

V follows β log E exp(Q̄(s, a) / β) by Gumbel regression, the maximum of the entropy-regularised problem whose
prior is the policy of the data; the order of the steps stands in `implicit_value`.

Source: Garg, Hejna, Geist, Ermon 2023, "Extreme Q-Learning: MaxEnt RL without Entropy", arXiv:2301.02328,
algorithm 1; the Huber loss of Q is in the authors' code (github.com/Div99/XQL, offline/critic.py).
"""

import dataclasses

import optax

from valuelab.configuration import setting
from valuelab.critics.implicit_value import ImplicitValueConfig, implicit_value_critic
from valuelab.ops.gumbel import gumbel_loss
from valuelab.types import Critic, Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class GumbelConfig(ImplicitValueConfig):
    """Hyperparameters of extreme Q-learning's critic."""

    value_layer_norm: bool = setting(True, help="Normalise the hidden layers of V, after their activation.")
    temperature: float = setting(
        2.0,
        "(0, inf)",
        "Temperature β, in units of returns: a small β brings V near the maximum of Q, a large one near its "
        "mean.",
    )
    exponent_max: float = setting(
        7.0, "(0, inf)", "Largest (Q - V) / β that the loss tells apart; it bounds exponentials."
    )
    huber: float = setting(20.0, "(0, inf)", "Error of Q from which its loss is linear, in units of returns.")


def gumbel_critic(config: GumbelConfig, spec: Spec) -> Critic:
    """Builds the critic of a config for data of a spec; numeric fields may be traced."""
    return implicit_value_critic(
        "gumbel",
        config,
        spec,
        lambda errors: gumbel_loss(errors, config.temperature, config.exponent_max),
        q_loss=lambda errors: optax.losses.huber_loss(errors, delta=config.huber),
        value_layer_norm=config.value_layer_norm,
    )
