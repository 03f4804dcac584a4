"""Implicit Q-learning: the expectile critic, and a policy extracted from it.

With batches that carry goals this is goal-conditioned IQL: value and policy then see observations joined with
goals. With discrete actions the policy is categorical.

One update, as in the reference (`actor_critic` and `implicit_value` say why the order is this one):

1. Value step with the target critic.
2. Critic step with the NEW value at s'.
3. Policy step with the NEW value and the TARGET critic's minimum (AWR), or with the NEW critic (DDPG+BC).
4. Target average from the NEW critic.

Source: Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
arXiv:2110.06169; settings of its section 5 as defaults (D4RL locomotion).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from valuelab.agents.composed import ComposedConfig, composed
from valuelab.configuration import setting
from valuelab.critics.expectile import ExpectileConfig
from valuelab.policies.awr import AWRConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class IQLConfig(ComposedConfig):
    """Hyperparameters of IQL, a critic's and a policy's; short names set the fields of either or both."""

    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **{
            name: (f"critic.{name}", f"policy.{name}")
            for name in ("hidden_dims", "activation", "encoder", "learning_rate")
        },
        **{
            name: (f"critic.{name}",)
            for name in ("layer_norm", "ensemble_size", "expectile", "discount", "target_rate")
        },
        "extraction": ("policy",),
        "policy": ("policy.distribution",),
        "policy_schedule": ("policy.learning_rate_schedule",),
        **{
            name: (f"policy.{name}",)
            for name in (
                *("inverse_temperature", "weight_max", "bc_weight"),
                *("mean", "final_scale", "learn_std", "dropout_rate"),
            )
        },
    }
    critic: Any = setting(ExpectileConfig())
    policy: Any = setting(AWRConfig(learning_rate_schedule="cosine"))


iql = composed
"""Builds the agent of an IQLConfig for data of a spec."""
