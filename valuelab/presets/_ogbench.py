"""Settings that presets for OGBench share: the networks of two studies, and FQL's settings for ten tasks.

Source: github.com/seohongpark/ogbench (Park et al. 2024, arXiv:2410.20092), and its commands and networks
as in github.com/seohongpark/fql (Park, Li, Levine 2025, arXiv:2502.02538). floq uses the same.
"""

from typing import Any

from valuelab.presets._groups import Group, each, merged

GAUSSIAN_POLICY: dict[str, Any] = {
    "agent.activation": "gelu",
    "agent.mean": "clip",
    "agent.final_scale": 0.01,
    "agent.learn_std": False,
}
"""Networks of cloning's and IQL's policies in both studies; IQL's critics have the activation too."""

MOVED = {"data.image_shift.pixels": 3, "data.image_shift.probability": 0.5}
"""How both studies move images of cubes, scenes and puzzles."""

FRAMES = {**MOVED, "data.num_frames": 3, "steps": 500_000}
"""What FQL's study has for its visual sets, beside the encoder."""

COMPOSED_IMAGES = {**FRAMES, "agent.critic.encoder": "impala_small", "agent.policy.encoder": "impala_small"}
"""The same with the encoder, for a critic and a policy."""

_CLONING = {
    "antmaze_large": 10.0,
    "antmaze_giant": 10.0,
    "humanoidmaze_medium": 30.0,
    "humanoidmaze_large": 30.0,
    "antsoccer_arena": 10.0,
    "cube_single": 300.0,
    "cube_double": 300.0,
    "scene": 300.0,
    "puzzle_3x3": 1000.0,
    "puzzle_4x4": 1000.0,
}

_VISUAL_CLONING = {
    "visual_cube_single": 300.0,
    "visual_cube_double": 100.0,
    "visual_scene": 100.0,
    "visual_puzzle_3x3": 300.0,
    "visual_puzzle_4x4": 300.0,
}

TASKS = merged(
    each(_CLONING, {}),
    each(
        ("antmaze_giant", "humanoidmaze_medium", "humanoidmaze_large", "antsoccer_arena"),
        {"agent.critic.discount": 0.995},  # where goals are far
    ),
)
"""The ten default tasks, as flow Q-learning was published for them, of any critic and flow policy."""

VISUAL = each(_VISUAL_CLONING, COMPOSED_IMAGES)
"""The first task of each of five visual sets, likewise."""

CLONING = {
    preset: {"agent.policy.bc_weight": weight} for preset, weight in (_CLONING | _VISUAL_CLONING).items()
}
"""TASKS and VISUAL: of policies that are kept near the data by a weight."""

AGGREGATION = each(("antmaze_large", "antmaze_giant"), {"agent.critic.aggregation": "min"})
"""TASKS: of critics whose targets combine an ensemble."""

DEEP_CUBES = each(("cube_single", "cube_double"), {"agent.critic.block_depth": 2})
"""TASKS: of critics with residual blocks."""

CUBE_FIELDS = each(("cube_single", "cube_double"), {"agent.critic.field_hidden_dims": (512, 512)})
"""TASKS: of critics that integrate a flow."""

SMALL_FLOWS: Group = {
    "pointmaze": {
        "agent.critic.num_draws": 2,
        "agent.critic.num_steps": 4,
        "agent.critic.learning_rate": 1e-3,
        "steps": 24_000,
        "eval_every": 6_000,
    },
    "cube_small": {
        "agent.critic.num_draws": 1,
        "agent.critic.num_steps": 4,
        "steps": 30_000,
        "eval_every": 15_000,
    },
}
"""SMALL: of critics that integrate a flow, where each step and each draw costs time."""

SMALL: Group = {
    "pointmaze": {
        # Two layers of 128 cannot bend enough: Q goes on to rise beyond the goal, and policies run past it.
        "agent.critic.hidden_dims": (256, 256, 256),
        "agent.critic.target_rate": 0.02,  # the goal is 150 backups away
        "agent.policy.hidden_dims": (128, 128),
        "data.normalize_observations": True,
        "steps": 30_000,
        "eval_every": 10_000,
    },
    "cube_small": {
        "agent.critic.hidden_dims": (256, 256),
        "agent.policy.hidden_dims": (256, 256),
        "steps": 60_000,
        "eval_every": 20_000,
    },
}
"""Sizes for two CPU cores, of any critic and policy."""

SMALL_FLOW_POLICIES = each(SMALL, {"agent.policy.num_steps": 5})
"""SMALL: of flow policies."""

SMALL_CLONING: Group = {
    "pointmaze": {"agent.policy.bc_weight": 1.0},
    "cube_small": {"agent.policy.bc_weight": 300.0},
}
"""SMALL: of policies that are kept near the data by a weight."""

FLOW_Q_LEARNING = merged(TASKS, VISUAL, CLONING, SMALL, SMALL_FLOW_POLICIES, SMALL_CLONING)
"""All presets of an agent with FQL's policy."""
