r"""Behaviour cloning: the baseline without rewards.

The large presets for OGBench have the policy network of its studies. The small presets do
not. With that network they score 0.00 on both tasks. Runs and scores:

pointmaze, cube_small
    python -m experiments.benchmark --suite=cpu_small --only=bc --workdir=runs/cpu_small
    hardware: one CPU core each; 4 and 6 minutes for 20,000 updates. Success, four seeds: 0.00 and 0.05 (0.00
    to 0.17; one seed has 0.20)
ogbench: OGBench's sets whose tasks are rewards, such as
    python -m experiments.train --agent=bc:ogbench --num_seeds=8 \
      --dataset=ogbench/cube-single-play-singletask-v0 --workdir=runs/cube
    hardware: one GPU; not run
pointmaze_navigate, antmaze_stitch, ...: OGBench's goal-conditioned cloning (GCBC); see `_goals.py`
    python -m experiments.train --agent=bc:antmaze_navigate --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
d4rl_locomotion, d4rl_antmaze
    hardware: one GPU; not run
"""

from valuelab.agents.behaviour_cloning import behaviour_cloning as make_agent
from valuelab.policies.parametric import ParametricConfig as Config
from valuelab.presets import _goals, _ogbench
from valuelab.presets._groups import Group, each, merged

__all__ = ["PRESETS", "Config", "make_agent"]

_OTHERS: Group = {
    "pointmaze": {
        "agent.hidden_dims": (128, 128),
        "data.normalize_observations": True,
        "steps": 30_000,
        "eval_every": 10_000,
    },
    "cube_small": {"steps": 60_000, "eval_every": 20_000},
    "ogbench": {**_ogbench.GAUSSIAN_POLICY, "agent.hidden_dims": (512, 512, 512)},
    "d4rl_locomotion": {"eval_episodes": 10},
    "d4rl_antmaze": {"eval_episodes": 100},
}

_GOAL_POLICY = _goals.prefixed("agent.", _goals.POLICY)

PRESETS = merged(
    _OTHERS,
    _goals.SMALL_RUNS,
    each(_goals.SMALL_RUNS, {**_GOAL_POLICY, "agent.hidden_dims": (256, 256)}),
    _goals.presets(
        every=_GOAL_POLICY,
        images={"agent.encoder": "impala_small"},
        random_goals=False,
    ),
)
