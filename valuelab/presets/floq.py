"""floq: a flow critic with FQL's policy (Agrawalla et al. 2025, arXiv:2509.06863).

The defaults are those of the released code, except for the embeddings of z and time: a σ of two bins, and
sines and cosines of the time. With them the field learns to use z earlier in our measurements. The preset
`published` is the released agents/floq.py without flags. The presets of OGBench's tasks are floq's published
commands, with two million updates. Those that end in _best are its commands with the best number of steps or
coverage. docs/flow_critics.md lists how valuelab differs from the code. Runs and scores:

pointmaze
    python -m experiments.train --agent=floq:pointmaze --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/pointmaze
    hardware: one CPU core; 64 minutes. Success is 0.00 for all four seeds at every evaluation, where
    fql:pointmaze has 0.71. Values are correct near the data. The first seed reaches the goal's corner after
    about 150 steps, but along the outer wall: it passes the goal at a distance of 1.3 m and stays in the
    corner behind it. No observation of the data is within 0.3 m of that corner. Q increases there up to
    0.5, but rewards allow at most -7. Up to 6,000 more updates of one seed with bc_weight 1.7 or 3, or with
    the minimum of the two critics, did not help
cube_small
    python -m experiments.train --agent=floq:cube_small --num_seeds=4 \
      --dataset=ogbench/cube-single-play-singletask-v0 --eval_episodes=25 --workdir=runs/cube
    hardware: one CPU core; 50 minutes. Success 0.28 (0.17 to 0.40; seeds 0.20, 0.36, 0.36, 0.20), and 0.03
    after 15,000 updates. fql:cube_small has 0.41 and 0.05 after as many updates
The suite cpu_small gives both presets fewer updates, 6,000 and 8,000. All four seeds of each score 0.00.
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
