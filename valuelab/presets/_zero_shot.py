"""Presets that zero-shot agents share, which differ in their critics alone.

pointmaze, cube_small: OGBench's sets with small networks, two CPU cores
antmaze, manipulation: OGBench's at the published size, one GPU
walker, cheetah, quadruped, point_mass_maze: exorl/DOMAIN-EXPLORER at the published size, one GPU; agents
    other than TD-JEPA see observations there, without an encoder of states
walker_small: exorl/walker-EXPLORER, two CPU cores
domain_pixels, manipulation_pixels: images of ExoRL's domains, and OGBench's visual sets, one GPU
pixels_small: images, for exorl/point_mass_maze-rnd@32, two CPU cores

What was run of them, and its score, says each agent's file.
"""

import dataclasses
from typing import Any

from valuelab import configuration
from valuelab.policies.rebrac import ReBRACConfig

_SAMPLED = {"eval_temperature": 1.0}
"""Flow policies are evaluated with their noise, as they were published."""

_POLICY = {"agent.policy.normalize_q": True}

OGBENCH: dict[str, dict[str, Any]] = {
    "antmaze": {**_POLICY, "agent.policy.bc_weight": 0.3},
    "manipulation": {**_POLICY, "agent.policy.bc_weight": 3.0},
}
"""OGBench at the published size: mazes; cubes, scene and puzzle."""

_CLIMBING = ReBRACConfig(
    (1024, 1024),
    bc_weight=0.0,
    target_weight=0.0,
    target_noise=0.2,
    target_noise_max=0.3,
    target_rate=1.0,  # targets follow the policy itself, not its average
    learning_rate=1e-4,
)
"""A deterministic policy that climbs Q alone; targets follow it with clipped noise."""

_EXPLORED = {
    "agent.policy": _CLIMBING,
    "agent.critic.predictor_dims": (1024,),
    "agent.critic.state_dims": (),
    "agent.critic.state_dim": 256,
    "agent.critic.task_dims": (256, 256),
    "agent.critic.representation.hidden_dims": (256, 256),
    "agent.critic.discount": 0.98,
    "agent.critic.policy_sees": "encodings",
    "agent.critic.target_rate": 0.001,
    "agent.critic.state_orthonormality": 0.1,
    "agent.critic.task_orthonormality": 0.1,
    "agent.critic.orthonormality": 0.1,
    "agent.critic.representation.orthonormality": 0.1,
    "data.compact": True,
    "batch_size": 1024,
    "steps": 3_000_000,
    "eval_episodes": 10,
}

EXORL: dict[str, dict[str, Any]] = {
    "walker": _EXPLORED,
    "cheetah": _EXPLORED,
    "quadruped": _EXPLORED,
    "point_mass_maze": {
        **_EXPLORED,
        "agent.policy": dataclasses.replace(_CLIMBING, learning_rate=1e-6),
        "agent.critic.discount": 0.99,
    },
}
"""ExoRL at the published size; the policy's widths are our choice."""

_IMAGES = {
    "agent.critic.policy_sees": "encodings",
    # Features of a batch are kept apart by whatever tells its images apart. What stands still in all of them,
    # moved by random shifts, does so at once: features were of the shift then, and of nothing else.
    "data.normalize_observations": True,
    "data.image_shift.pixels": 4,
    "data.image_shift.together": False,
    "data.num_frames": 3,
    "data.compact": True,
}

PIXELS: dict[str, dict[str, Any]] = {
    "domain_pixels": {**_EXPLORED, **_IMAGES},
    "manipulation_pixels": {**OGBENCH["manipulation"], **_IMAGES, "agent.critic.state_dim": 50},
}
"""Images of ExoRL's domains, such as exorl/walker-rnd@64, and OGBench's visual sets."""

_NETWORKS = {
    "agent.critic.predictor_dims": (128, 128),
    # What lies behind a wall is far off: encodings, not predictors, are to learn it.
    "agent.critic.state_dims": (256, 256, 256),
    "agent.critic.state_dim": 50,
    "agent.critic.task_dims": (256, 256),
    "agent.critic.representation.hidden_dims": (256, 256),
    "agent.critic.learning_rate": 1e-3,
    "agent.critic.target_rate": 0.1,  # values of goals far off are 150 backups away
    # Sums over a hundred steps to come outweigh what keeps features apart, until they are few.
    "agent.critic.state_orthonormality": 100.0,
    "agent.critic.task_orthonormality": 100.0,
    "agent.critic.orthonormality": 100.0,
    "agent.policy.hidden_dims": (128, 128),
    "agent.policy.num_steps": 5,
    "data.normalize_observations": True,
}

SMALL: dict[str, dict[str, Any]] = {
    "pointmaze": {
        **OGBENCH["antmaze"],
        **_NETWORKS,
        "agent.policy.bc_weight": 0.01,  # a step changes Q by a hundredth of what it is
        "steps": 20_000,
        "eval_every": 10_000,
        "eval_episodes": 10,
    },
    "cube_small": {
        **OGBENCH["manipulation"],
        **_NETWORKS,
        "agent.policy.hidden_dims": (256, 256),
        "steps": 60_000,
        "eval_every": 20_000,
        "eval_episodes": 10,
    },
    "walker_small": {
        **_EXPLORED,
        "agent.policy": dataclasses.replace(_CLIMBING, hidden_dims=(256, 256), learning_rate=5e-4),
        "agent.critic.predictor_dims": (256,),
        "agent.critic.state_dim": 64,
        "agent.critic.learning_rate": 5e-4,
        "agent.critic.target_rate": 0.01,
        "data.normalize_observations": True,
        "batch_size": 256,
        "steps": 20_000,
        "eval_every": 10_000,
    },
    "pixels_small": {
        **EXORL["point_mass_maze"],
        **_IMAGES,
        # Without cloning, actions are at a corner of their range after 500 updates, wherever the mass is, and
        # stay there: pushed along both axes it sticks to a wall.
        "agent.policy": dataclasses.replace(
            _CLIMBING, hidden_dims=(128, 128), learning_rate=5e-4, bc_weight=0.1
        ),
        "agent.critic.predictor_dims": (128,),
        "agent.critic.task_dims": (128,),
        "agent.critic.state_dim": 32,
        "agent.critic.task_dim": 32,
        "agent.critic.learning_rate": 5e-4,
        "agent.critic.target_rate": 0.01,
        "data.image_shift.pixels": 2,
        "batch_size": 64,
        "steps": 2_000,
        "eval_every": 1_000,
        "eval_episodes": 2,
    },
}
"""Sizes for two CPU cores; pixels_small for exorl/point_mass_maze-rnd@32."""


_OF_STATES = {"agent.critic.state_dims", "agent.critic.state_dim", "agent.critic.policy_sees"}
"""What is for critics that encode states."""

_ENCODED = {*PIXELS, "pixels_small", "pointmaze", "cube_small"}
"""Presets in which all critics do, TD-JEPA or not."""


def presets(config: Any) -> dict[str, dict[str, Any]]:
    """OGBENCH, EXORL, PIXELS and SMALL for an agent; settings that it does not have are left out."""
    known = {f"agent.{name}" for name in configuration.fields(config)}

    def fitting(preset: str, settings: dict[str, Any]) -> dict[str, Any]:
        left_out = set() if config.critic.state_dim or preset in _ENCODED else _OF_STATES
        return {
            name: value
            for name, value in settings.items()
            if name not in left_out
            and (name in known or not name.startswith("agent.") or dataclasses.is_dataclass(value))
        }

    every = OGBENCH | EXORL | PIXELS | SMALL
    return {preset: _SAMPLED | fitting(preset, settings) for preset, settings in every.items()}
