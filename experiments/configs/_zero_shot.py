"""Presets that zero-shot agents share, which differ in their critics alone."""

from typing import Any

from valuelab import configuration

_SAMPLED = {"eval_temperature": 1.0}
"""Flow policies are evaluated with their noise, as they were published."""

_POLICY = {"agent.policy.normalize_q": True}

OGBENCH: dict[str, dict[str, Any]] = {
    "antmaze": {**_POLICY, "agent.policy.bc_weight": 0.3},
    "manipulation": {**_POLICY, "agent.policy.bc_weight": 3.0},
}
"""OGBench at the published size: mazes; cubes, scene and puzzle."""

_NETWORKS = {
    "agent.critic.predictor_dims": (128, 128),
    "agent.critic.state_dims": (128, 128),
    "agent.critic.task_dims": (128, 128),
    "agent.critic.representation.hidden_dims": (128, 128),
    "agent.critic.learning_rate": 5e-4,
    "agent.critic.target_rate": 0.05,  # values of goals far off are 150 backups away
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
        "steps": 10_000,
        "eval_every": 5_000,
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
}
"""Sizes for two CPU cores."""


def presets(config: Any) -> dict[str, dict[str, Any]]:
    """OGBENCH and SMALL for an agent; settings that it does not have are left out."""
    known = {f"agent.{name}" for name in configuration.fields(config)}
    return {
        preset: _SAMPLED
        | {name: value for name, value in settings.items() if name in known or not name.startswith("agent.")}
        for preset, settings in (OGBENCH | SMALL).items()
    }
