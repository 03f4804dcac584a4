"""The expectile critic of implicit Q-learning: values of the best actions in the data, and no others.

V follows an upper expectile of Q over the data's actions, E[L_τ(min_i Q̄_i(s, a) - V(s))]; the order of the
steps stands in `implicit_value`.

Source: Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
arXiv:2110.06169, equations 5 and 6 and algorithm 1.
"""

import dataclasses

from valuelab.configuration import setting
from valuelab.critics.implicit_value import ImplicitValueConfig, implicit_value_critic
from valuelab.ops.expectile import expectile_loss
from valuelab.types import Critic, Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectileConfig(ImplicitValueConfig):
    """Hyperparameters of the expectile critic."""

    expectile: float = setting(
        0.7,
        "(0, 1)",
        "Level τ of the expectile, in (0, 1): 0.5 is the mean; values near 1 follow the data's best actions.",
    )


def expectile_critic(config: ExpectileConfig, spec: Spec) -> Critic:
    """Builds the critic of a config for data of a spec; numeric fields may be traced."""
    return implicit_value_critic(
        "expectile", config, spec, lambda errors: expectile_loss(errors, config.expectile)
    )
