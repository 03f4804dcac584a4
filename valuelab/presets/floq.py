"""floq: a flow critic with FQL's policy (Agrawalla et al. 2025, arXiv:2509.06863).

The defaults are those of the released code, except for the embeddings of z and time: a σ of two bins, and
sines and cosines of the time. With them the field learns to use z earlier in our measurements. The preset
`published` is the released agents/floq.py without flags. The presets of OGBench's tasks are floq's published
commands, with two million updates. Those that end in _best are its commands with the best number of steps or
coverage. docs/algorithms/floq.md lists how valuelab differs from the code. Runs and scores:

pointmaze
    python -m experiments.benchmark --suite=cpu_small --only=floq --workdir=runs/cpu_small
    hardware: two CPU cores, shared with other work. Success is 0.00 for all four seeds after 12,000 of
    the preset's 20,000 updates. FQL with the same learning rate of the critic has 0.04 (0.00 to 0.11)
    after as many updates, with --agent.critic.learning_rate=1e-3. The blind ratio is 0.07 after 1,500
    updates, and 0.11 at the end
cube_small
    the same command
    hardware: two CPU cores, shared with other work. Success, four seeds: 0.04 (0.00 to 0.11; seeds 0.12,
    0.00, 0.04, 0.00) after 10,000 of the preset's 20,000 updates, and 0.05 after 7,500. FQL with the same
    rates of the critic has 0.07 (0.02 to 0.13) and 0.03 after as many updates, with
    --agent.critic.learning_rate=1e-3 --agent.critic.target_rate=0.02. The blind ratio is 0.26 after 2,500
    updates, and 0.46 at the end. With the unscaled time vector and σ of 16 bins, valuelab's former
    default, the field loss stayed at its z-blind level for 8,000 updates
OGBench's ten default tasks, such as --agent=floq:antmaze_large; two of them as ..._best; published
    hardware: one GPU; not run
visual_...: five tasks from images. floq has no commands for them: these are FQL's with floq's critic
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.flow import FlowCriticConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.presets import _ogbench
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of floq."""

    critic: Any = setting(FlowCriticConfig())
    policy: Any = setting(OneStepFlowConfig())


_PRESETS = merged(_ogbench.FLOQ, _ogbench.FIELDS, _ogbench.SMALL_FLOWS)
PRESETS = {
    **_PRESETS,
    "antmaze_giant_best": {**_PRESETS["antmaze_giant"], "agent.critic.num_steps": 4},
    "puzzle_4x4_best": {**_PRESETS["puzzle_4x4"], "agent.critic.coverage": 0.25},
    "published": {**_ogbench.RELEASED_FIELD, "steps": 2_000_000},
}
