"""Behaviour cloning: the baseline without rewards.

The large presets for OGBench have the policy network of its studies. The small presets do
not. With that network they score 0.00 on both tasks. Runs and scores:

pointmaze, cube_small
    python -m experiments.benchmark --suite=cpu_small --only=bc --workdir=runs/cpu_small
    hardware: one CPU core each; 4 and 6 minutes for 20,000 updates. Success, four seeds: 0.00 and 0.05 (0.00
    to 0.17; one seed has 0.20)
ogbench: all sets of OGBench, with or without goals, such as
    python -m experiments.train --agent=bc:ogbench --num_seeds=8 \
      --dataset=ogbench/cube-single-play-singletask-v0 --workdir=runs/cube
    hardware: one GPU; not run
visual_maze, visual_manipulation, powderworld: OGBench's visual sets, such as
    python -m experiments.train --agent=bc:visual_maze --num_seeds=4 \
      --dataset=ogbench/visual-antmaze-medium-navigate-v0 --workdir=runs/visual_antmaze
    hardware: one GPU; not run
d4rl_locomotion, d4rl_antmaze
    hardware: one GPU; not run
"""

from valuelab.agents.behaviour_cloning import behaviour_cloning as make_agent
from valuelab.policies.parametric import ParametricConfig as Config
from valuelab.presets import _ogbench

__all__ = ["PRESETS", "Config", "make_agent"]

# OGBench's study, for images.
_VISUAL = {
    **_ogbench.GAUSSIAN_POLICY,
    "agent.hidden_dims": (512, 512, 512),
    "agent.encoder": "impala_small",
    "steps": 500_000,
}

PRESETS = {
    "pointmaze": {
        "agent.hidden_dims": (128, 128),
        "data.normalize_observations": True,
        "steps": 30_000,
        "eval_every": 10_000,
    },
    "cube_small": {"steps": 60_000, "eval_every": 20_000},
    "ogbench": {**_ogbench.GAUSSIAN_POLICY, "agent.hidden_dims": (512, 512, 512)},
    "visual_maze": _VISUAL,
    "visual_manipulation": {**_VISUAL, **_ogbench.MOVED},
    "powderworld": {**_VISUAL, "eval_temperature": 0.3},
    "d4rl_locomotion": {"eval_episodes": 10},
    "d4rl_antmaze": {"eval_episodes": 100},
}
