"""Agents that are a critic's config beside a policy's: any critic here with any policy that it can serve.

The update is `actor_critic`'s. FQL is a plain critic with a one-step flow, floq a flow critic with the same,
SAC a plain critic with SAC's policy; what each learns stands in the files of its two parts.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from valuelab.agents.actor_critic import actor_critic
from valuelab.configuration import Choice, NoConfig, Settings, make, part
from valuelab.critics.auxiliary import AUXILIARIES
from valuelab.critics.conservative import ConservativeConfig, conservative_critic
from valuelab.critics.contrastive import ContrastiveConfig, contrastive_critic
from valuelab.critics.expectile import ExpectileConfig, expectile_critic
from valuelab.critics.flow import FlowCriticConfig, flow_critic
from valuelab.critics.gumbel import GumbelConfig, gumbel_critic
from valuelab.critics.implicit_quantile import ImplicitQuantileConfig, implicit_quantile_critic
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig, implicit_state_value_critic
from valuelab.critics.quasimetric import QuasimetricConfig, quasimetric_critic
from valuelab.critics.temporal_difference import TemporalDifferenceConfig, temporal_difference_critic
from valuelab.errors import InputError
from valuelab.networks.encoders import UnneededEncoderError
from valuelab.policies.awr import AWRConfig, awr
from valuelab.policies.best_of_flow import BestOfFlowConfig, best_of_flow
from valuelab.policies.ddpg_bc import DDPGBCConfig, ddpg_bc
from valuelab.policies.hierarchical import HierarchicalConfig, hierarchical
from valuelab.policies.noisy import NoisyConfig, noisy
from valuelab.policies.one_step_flow import OneStepFlowConfig, one_step_flow
from valuelab.policies.rebrac import ReBRACConfig, rebrac
from valuelab.policies.sac import SACConfig, sac
from valuelab.types import Agent, Critic, Policy, Spec

CRITICS: dict[str, Choice[Critic]] = {
    "conservative": Choice(config=ConservativeConfig, make=conservative_critic),
    "contrastive": Choice(config=ContrastiveConfig, make=contrastive_critic),
    "expectile": Choice(config=ExpectileConfig, make=expectile_critic),
    "flow": Choice(config=FlowCriticConfig, make=flow_critic),
    "gumbel": Choice(config=GumbelConfig, make=gumbel_critic),
    "implicit_quantile": Choice(config=ImplicitQuantileConfig, make=implicit_quantile_critic),
    "implicit_state_value": Choice(config=ImplicitStateValueConfig, make=implicit_state_value_critic),
    "quasimetric": Choice(config=QuasimetricConfig, make=quasimetric_critic),
    "temporal_difference": Choice(config=TemporalDifferenceConfig, make=temporal_difference_critic),
}
"""Critics by name."""

POLICIES: dict[str, Choice[Policy]] = {
    "awr": Choice(config=AWRConfig, make=awr),
    "best_of_flow": Choice(config=BestOfFlowConfig, make=best_of_flow),
    "ddpg_bc": Choice(config=DDPGBCConfig, make=ddpg_bc),
    "hierarchical": Choice(config=HierarchicalConfig, make=hierarchical),
    "noisy": Choice(config=NoisyConfig, make=noisy),
    "one_step_flow": Choice(config=OneStepFlowConfig, make=one_step_flow),
    "rebrac": Choice(config=ReBRACConfig, make=rebrac),
    "sac": Choice(config=SACConfig, make=sac),
}
"""Policies by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComposedConfig(Settings):
    """Hyperparameters of a critic and a policy, and of an auxiliary loss of the critic."""

    critic: Any = part(TemporalDifferenceConfig(), CRITICS, "How values are learnt.")
    policy: Any = part(OneStepFlowConfig(), POLICIES, "How actions are drawn from them.")
    auxiliary: Any = part(
        NoConfig(), AUXILIARIES, "What the critic's networks learn in addition to values.", before="none"
    )


def composed(config: ComposedConfig, spec: Spec) -> Agent:
    """Builds the agent.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The agent.

    Raises:
        InputError: when the policy needs an estimate that the critic does not offer, or one of them cannot
            be made for such data.
    """
    critic = critic_of(config, spec)
    policy = policy_of(config, dataclasses.replace(spec, representation_dim=critic.representation_dim))
    return actor_critic(critic, policy)


def critic_of(config: ComposedConfig, spec: Spec) -> Critic:
    """The critic of a config, with its auxiliary loss."""
    with _part("critic"):
        critic = make(CRITICS, config.critic, spec)
    with _part("auxiliary"):
        return make(AUXILIARIES, config.auxiliary, spec)(critic)


def policy_of(config: Any, spec: Spec) -> Policy:
    """The policy of a config that has one."""
    with _part("policy"):
        return make(POLICIES, config.policy, spec)


@contextlib.contextmanager
def _part(name: str) -> Iterator[None]:
    """Names the part whose encoder is refused, for the other has one, too."""
    try:
        yield
    except UnneededEncoderError as error:
        raise InputError(f"{name}.{error}") from error
