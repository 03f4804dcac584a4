r"""Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169).

The defaults are the paper's settings for D4RL locomotion. Without a preset too, rewards of D4RL's locomotion
and AntMaze data are normalised as in the paper. humanoidmaze_medium and visual_cube_single are published
commands of FQL's study. antmaze and cube have the same networks, with the study's default β and with that of
visual_cube_single. The small presets have other networks, because they learn faster; the suite cpu_small runs
both. In the maze, success after 10,000 and 20,000 updates is 0.25 and 1.00 with the preset, and 0.00 and 1.00
with the studies' networks. With the cube, after 20,000 updates, it is 0.60 and 0.29. With one part of those
networks at a time, two seeds have in the maze after 10,000 updates: GELU 0.00, layer norm 0.50, scaled last
layer 0.70, clipped mean 0.90, σ = 1 0.90, none of them 1.00.

Runs and scores:

pointmaze
    python -m experiments.train --agent=iql:pointmaze --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/pointmaze
    hardware: two CPU cores; 4 minutes. Success, four seeds: 1.00 (all 1.00)
pointmaze_goals
    python -m experiments.train --agent=iql:pointmaze_goals --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/pointmaze_goals
    hardware: two CPU cores; 21 minutes. Success over the five goals: 0.44 (0.41 to 0.50; tasks 1.00, 1.00,
    0.00, 0.00, 0.22) with ten episodes for each goal. The preset extracts by AWR. OGBench's own
    goal-conditioned IQL extracts by DDPG+BC, with wider networks, batch size 1024 and a million updates
pointmaze_online: offline, then fine-tuned while acting; half of each batch comes from the dataset
    python -m experiments.train --agent=iql:pointmaze_online --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/pointmaze_online
    hardware: half of a CPU core; 11 minutes with --online_steps=12000 --eval_every=4000. Success, four seeds:
    0.25 after the 4,000 updates offline; 0.00, 0.81 and 1.00 (all 1.00) after 4,000, 8,000 and 12,000 online
antmaze
    python -m experiments.train --agent=iql:antmaze --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-singletask-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
cube_small
    python -m experiments.train --agent=iql:cube_small --num_seeds=4 \
      --dataset=ogbench/cube-single-play-singletask-v0 --workdir=runs/cube_small
    hardware: two CPU cores; 32 minutes, on 300 episodes made by OGBench's generator (the published set has
    1,000). Success 0.67 (0.48 to 0.85; seeds 0.54, 0.46, 0.84, 0.84); 0.58 after 20,000 updates, 0.72 after
    40,000
cube
    python -m experiments.train --agent=iql:cube --num_seeds=8 \
      --dataset=ogbench/cube-single-play-singletask-v0 --workdir=runs/cube
    hardware: one GPU; not run (published: success 0.83, FQL's study, 1 M updates)
d4rl_locomotion
    python -m experiments.train --agent=iql:d4rl_locomotion --num_seeds=4 \
      --dataset=d4rl/halfcheetah-medium-v2 --workdir=runs/halfcheetah
    hardware: one GPU; not run (published: 47.4, hopper 66.3, walker2d 78.3)
d4rl_antmaze
    python -m experiments.train --agent=iql:d4rl_antmaze --num_seeds=4 \
      --dataset=d4rl/antmaze-medium-play-v2 --workdir=runs/antmaze-medium-play
    hardware: one GPU; not run (published: 71.2)
d4rl_adroit (Kitchen and Adroit)
    python -m experiments.train --agent=iql:d4rl_adroit --num_seeds=4 \
      --dataset=d4rl/pen-human-v1 --workdir=runs/pen-human
    hardware: one GPU; not run
humanoidmaze_medium
    python -m experiments.train --agent=iql:humanoidmaze_medium --num_seeds=8 \
      --dataset=ogbench/humanoidmaze-medium-navigate-singletask-v0 --workdir=runs/humanoid
    hardware: one GPU; not run
visual_cube_single: from images
    python -m experiments.train --agent=iql:visual_cube_single --num_seeds=4 \
      --dataset=ogbench/visual-cube-single-play-singletask-task1-v0 --workdir=runs/visual_cube
    hardware: one GPU; not run
pointmaze_navigate, antmaze_stitch, ...: OGBench's goal-conditioned IQL (GCIQL); see `_goals.py`
    python -m experiments.train --agent=iql:antmaze_navigate --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
"""

from valuelab.agents.iql import IQLConfig as Config
from valuelab.agents.iql import iql as make_agent
from valuelab.presets import _goals, _ogbench
from valuelab.presets._groups import Group, merged

__all__ = ["PRESETS", "Config", "make_agent"]

# The settings of FQL's study for single tasks.
_OGBENCH = {
    **_ogbench.GAUSSIAN_POLICY,
    "agent.hidden_dims": (512, 512, 512, 512),
    "agent.layer_norm": True,
    "agent.expectile": 0.9,
    "agent.policy_schedule": "constant",
}

# Small networks learn more slowly with those of the studies: see the head.
_SMALL = {"agent.expectile": 0.9, "agent.policy_schedule": "constant"}

_POINTMAZE = {
    **_SMALL,
    "agent.hidden_dims": (128, 128),
    "agent.inverse_temperature": 10.0,
    "agent.target_rate": 0.02,
    "data.normalize_observations": True,
}

_OTHERS: Group = {
    "pointmaze": {**_POINTMAZE, "steps": 30_000, "eval_every": 10_000},
    "pointmaze_online": {
        **_POINTMAZE,
        "interaction.num_environments": 4,
        "interaction.capacity": 50_000,
        "interaction.warmup_steps": 2_000,
        "interaction.update_to_data": 1.0,
        # The paper's buffer starts from the dataset; here that would leave a fortieth for what is met.
        "interaction.dataset_share": 0.5,
        "offline_steps": 4_000,
        "online_steps": 26_000,
        "eval_every": 2_000,
    },
    "pointmaze_goals": {
        **_POINTMAZE,
        "agent.hidden_dims": (256, 256),
        "steps": 50_000,
        "eval_every": 25_000,
        "eval_episodes": 10,
    },
    "cube_goals": {
        **_SMALL,
        "agent.layer_norm": True,
        "agent.target_rate": 0.02,
        **_goals.SMALL_RUNS["cube_goals"],
    },
    "antmaze": {**_OGBENCH, "agent.inverse_temperature": 10.0},
    "cube_small": {
        **_SMALL,
        "agent.hidden_dims": (256, 256),
        "agent.layer_norm": True,
        "agent.inverse_temperature": 1.0,
        "steps": 60_000,
        "eval_every": 20_000,
    },
    "cube": {**_OGBENCH, "agent.inverse_temperature": 1.0},
    "humanoidmaze_medium": {**_OGBENCH, "agent.inverse_temperature": 10.0, "agent.discount": 0.995},
    "visual_cube_single": {
        **_OGBENCH,
        **_ogbench.FRAMES,
        "agent.encoder": "impala_small",
        "agent.inverse_temperature": 1.0,
    },
    "d4rl_locomotion": {"data.rewards": "d4rl_locomotion", "eval_episodes": 10},
    "d4rl_antmaze": {
        "agent.expectile": 0.9,
        "agent.inverse_temperature": 10.0,
        "data.rewards": "d4rl_antmaze",
        "eval_episodes": 100,
    },
    "d4rl_adroit": {
        "agent.inverse_temperature": 0.5,
        "agent.dropout_rate": 0.1,
        "eval_episodes": 100,
    },
}

PRESETS = merged(
    _OTHERS,
    _goals.presets(
        every={
            "agent.policy": "ddpg_bc",
            **_goals.prefixed("agent.critic.", _goals.CRITIC),
            **_goals.prefixed("agent.policy.", _goals.POLICY),
            "agent.critic.expectile": 0.9,
            "agent.policy.learning_rate_schedule": "constant",
        },
        powderworld=_goals.AWR,
        discount="agent.critic.discount",
    ),
    _goals.tuned(
        "agent.policy.bc_weight",
        {
            **{"pointmaze": 0.003, "antmaze": 0.3, "antmaze_explore": 0.01, "humanoidmaze": 0.1},
            **{"antsoccer": 0.1, "manipulation_play": 1.0, "manipulation_noisy": 0.03},
        },
    ),
)
