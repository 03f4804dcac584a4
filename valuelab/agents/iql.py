"""Implicit Q-learning: the expectile critic, and a policy extracted from it.

With batches that carry goals this is goal-conditioned IQL: value and policy then see the goal beside
the observation. With discrete actions the policy is categorical.

One update, as in the reference (`actor_critic` and `expectile_critic` say why the order is this one):

1. Value step with the target critic.
2. Critic step with the NEW value at s'.
3. Policy step with the NEW value and the TARGET critic's minimum (AWR), or with the NEW critic (DDPG+BC).
4. Target average from the NEW critic.

Source: Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
arXiv:2110.06169; settings of its section 5 as defaults (D4RL locomotion).
"""

import dataclasses
from typing import Any, Literal

from valuelab.agents.actor_critic import actor_critic
from valuelab.configuration import check_ranges
from valuelab.critics.expectile import ExpectileConfig, expectile_critic
from valuelab.networks.policies import Mean
from valuelab.policies.awr import AWRConfig, awr
from valuelab.policies.ddpg_bc import DDPGBCConfig, ddpg_bc
from valuelab.types import Agent, Spec


@dataclasses.dataclass(frozen=True)
class IQLConfig(ExpectileConfig):
    """Hyperparameters of IQL: those of its critic, whose widths and activation are the policy's too.

    Attributes:
        extraction: how the policy is extracted, "awr" or "ddpg_bc".
        inverse_temperature: β of awr, at least 0.
        weight_max: bound of awr's weights.
        bc_weight: α of ddpg_bc, at least 0.
        policy: distribution over continuous actions, "gaussian" or "deterministic".
        mean: of continuous actions, "tanh" of the policy's output, or "clip": the output itself, which is
            clipped to [-1, 1] when it acts, not in likelihoods.
        final_scale: variance of the first weights of the policy's last layer, times the mean of its two
            widths.
        learn_std: learn the Gaussian's standard deviation; else it is 1.
        dropout_rate: of the policy's hidden layers, in [0, 1).
        policy_schedule: of the policy's learning rate, "cosine" (to 0 at the end of the run, online updates
            included) or "constant", which fine-tuning needs: a rate near 0 learns nothing from what is met.
    """

    extraction: Literal["awr", "ddpg_bc"] = "awr"
    inverse_temperature: float = 3.0
    weight_max: float = 100.0
    bc_weight: float = 1.0
    policy: Literal["gaussian", "deterministic"] = "gaussian"
    mean: Mean = "tanh"
    final_scale: float = 1.0
    learn_std: bool = True
    dropout_rate: float = 0.0
    policy_schedule: Literal["cosine", "constant"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            inverse_temperature="[0, inf)",
            weight_max="(0, inf)",
            bc_weight="[0, inf)",
            final_scale="(0, inf)",
            dropout_rate="[0, 1)",
        )


def iql(config: IQLConfig, spec: Spec) -> Agent:
    """Builds the agent.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; its num_updates is the length of the cosine schedule.

    Returns:
        The agent.

    Raises:
        InputError: for ddpg_bc with discrete actions, or a cosine schedule of unknown length.
    """
    shared: dict[str, Any] = {
        "hidden_dims": config.hidden_dims,
        "encoder": config.encoder,
        "activation": config.activation,
        "final_scale": config.final_scale,
        "mean": config.mean,
        "distribution": config.policy,
        "learn_std": config.learn_std,
        "dropout_rate": config.dropout_rate,
        "learning_rate": config.learning_rate,
        "learning_rate_schedule": config.policy_schedule,
    }
    if config.extraction == "awr":
        weights = AWRConfig(
            **shared, inverse_temperature=config.inverse_temperature, weight_max=config.weight_max
        )
        policy = awr(weights, spec)
    else:
        policy = ddpg_bc(DDPGBCConfig(**shared, bc_weight=config.bc_weight), spec)
    return actor_critic(expectile_critic(config, spec), policy)
