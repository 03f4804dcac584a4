"""What presets for OGBench share: networks of two studies, and the settings of one for ten default tasks.

Source: github.com/seohongpark/ogbench (Park et al. 2024, arXiv:2410.20092) and its commands and networks as
github.com/seohongpark/fql has them (Park, Li, Levine 2025, arXiv:2502.02538); floq keeps them.
"""

from typing import Any

from valuelab import configuration

GAUSSIAN_POLICY: dict[str, Any] = {
    "agent.activation": "gelu",
    "agent.mean": "clip",
    "agent.final_scale": 0.01,
    "agent.learn_std": False,
}
"""Networks of cloning's and IQL's policies in both studies; IQL's critics have the activation too."""

_SAMPLED = {"eval_temperature": 1.0}
"""Flow policies are evaluated with their noise, as they were published: without it they may stand still."""

MOVED = {"data.image_shift.pixels": 3, "data.image_shift.probability": 0.5}
"""How both studies move images of cubes, scenes and puzzles."""

FRAMES = {**MOVED, "data.num_frames": 3, "steps": 500_000}
"""What FQL's study has for its visual sets, beside the encoder."""

COMPOSED_IMAGES = {**FRAMES, "agent.critic.encoder": "impala_small", "agent.policy.encoder": "impala_small"}
"""The same with the encoder, for a critic and a policy."""

_FAR = {"agent.critic.discount": 0.995}
"""Where goals are far."""

TASKS: dict[str, dict[str, Any]] = {
    "antmaze_large": {"agent.critic.aggregation": "min", "agent.policy.bc_weight": 10.0},
    "antmaze_giant": {**_FAR, "agent.critic.aggregation": "min", "agent.policy.bc_weight": 10.0},
    "humanoidmaze_medium": {**_FAR, "agent.policy.bc_weight": 30.0},
    "humanoidmaze_large": {**_FAR, "agent.policy.bc_weight": 30.0},
    "antsoccer_arena": {**_FAR, "agent.policy.bc_weight": 10.0},
    "cube_single": {"agent.policy.bc_weight": 300.0},
    "cube_double": {"agent.policy.bc_weight": 300.0},
    "scene": {"agent.policy.bc_weight": 300.0},
    "puzzle_3x3": {"agent.policy.bc_weight": 1000.0},
    "puzzle_4x4": {"agent.policy.bc_weight": 1000.0},
}
"""Preset to what flow Q-learning was published with."""

VISUAL: dict[str, dict[str, Any]] = {
    "visual_cube_single": {**COMPOSED_IMAGES, "agent.policy.bc_weight": 300.0},
    "visual_cube_double": {**COMPOSED_IMAGES, "agent.policy.bc_weight": 100.0},
    "visual_scene": {**COMPOSED_IMAGES, "agent.policy.bc_weight": 100.0},
    "visual_puzzle_3x3": {**COMPOSED_IMAGES, "agent.policy.bc_weight": 300.0},
    "visual_puzzle_4x4": {**COMPOSED_IMAGES, "agent.policy.bc_weight": 300.0},
}
"""Preset to what flow Q-learning was published with for the first task of a visual set."""

DEEP_CUBES: dict[str, dict[str, Any]] = {
    name: {"agent.critic.block_depth": 2} for name in ("cube_single", "cube_double")
}
"""What critics of residual blocks have otherwise on cubes."""

SMALL_FLOWS: dict[str, dict[str, Any]] = {
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
"""What critics that integrate a flow have otherwise on two CPU cores, for each step and draw costs."""

SMALL: dict[str, dict[str, Any]] = {
    "pointmaze": {
        # Two layers of 128 cannot bend enough: Q goes on to rise beyond the goal, and policies run past it.
        "agent.critic.hidden_dims": (256, 256, 256),
        "agent.critic.target_rate": 0.02,  # the goal is 150 backups away
        "agent.policy.hidden_dims": (128, 128),
        "agent.policy.num_steps": 5,
        "agent.policy.bc_weight": 1.0,
        "data.normalize_observations": True,
        "steps": 30_000,
        "eval_every": 10_000,
    },
    "cube_small": {
        "agent.critic.hidden_dims": (256, 256),
        "agent.policy.hidden_dims": (256, 256),
        "agent.policy.num_steps": 5,
        "agent.policy.bc_weight": 300.0,
        "steps": 60_000,
        "eval_every": 20_000,
    },
}
"""Sizes for two CPU cores."""


def presets(config: Any, **changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """TASKS, VISUAL and SMALL for an agent.

    Args:
        config: the agent's; settings that it does not have are left out.
        **changes: preset to settings that are the agent's own.
    """
    fitting = _fitting(config, TASKS | VISUAL | SMALL)
    return {name: _SAMPLED | settings | changes.get(name, {}) for name, settings in fitting.items()}


def small(config: Any) -> dict[str, dict[str, Any]]:
    """SMALL alone, for an agent whose settings for TASKS are others."""
    return _fitting(config, SMALL)


def _fitting(config: Any, presets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    known = {f"agent.{name}" for name in configuration.fields(config)}
    return {
        preset: {
            name: value for name, value in settings.items() if name in known or not name.startswith("agent.")
        }
        for preset, settings in presets.items()
    }
