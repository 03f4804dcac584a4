"""Presets of TD-JEPA's study (Bagatella et al. 2025, arXiv:2510.00739) for zero-shot agents.

antmaze, manipulation: OGBench's mazes; its cubes, scene and puzzles
walker, cheetah, quadruped, point_mass_maze: exorl/DOMAIN-rnd
domain_pixels, manipulation_pixels: images of ExoRL's domains, and OGBench's visual sets

All are for one GPU. Those for states have the published settings, of the authors' scripts/train/proprio;
tests/presets/test_presets.py compares each field. Where the study tries several values the preset has one of
them; docs/algorithms/td_jepa.md names them all, and the differences that are not settings. The presets for
images are close to the study's, but no test compares them.
"""

import dataclasses
from typing import Any

from valuelab.policies.noisy import NoisyConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.presets._groups import Group, each, merged

POLICY = OneStepFlowConfig(
    hidden_dims=(512, 512),
    field_hidden_dims=(512, 512, 512, 512),
    task_embedding=True,
    normalize_q=True,
    learning_rate=1e-4,
    field_learning_rate=3e-4,
)
"""The policy for OGBench; presets give the weight of cloning."""

_NOISY = NoisyConfig(hidden_dims=(1024,), task_embedding=True, learning_rate=1e-4)

_RUN = {"eval_every": 250_000, "eval_episodes": 10}

_EXPLORED = {
    "agent.policy": _NOISY,
    "agent.critic.predictor_dims": (1024,),
    "agent.critic.state_dims": (),
    "agent.critic.state_dim": 256,
    "agent.critic.policy_sees": "encodings",
    "agent.critic.discount": 0.98,
    "agent.critic.target_rate": 0.001,
    "data.compact": True,
    "batch_size": 1024,
    "steps": 3_000_000,
    **_RUN,
}

OGBENCH: Group = {
    "antmaze": {"agent.policy.bc_weight": 0.3, **_RUN},
    "manipulation": {"agent.policy.bc_weight": 3.0, **_RUN},
}
"""OGBench from states."""

EXORL: Group = merged(
    each(("walker", "cheetah", "quadruped", "point_mass_maze"), _EXPLORED),
    {
        "point_mass_maze": {
            "agent.policy": dataclasses.replace(_NOISY, learning_rate=1e-6),
            "agent.critic.discount": 0.99,
        }
    },
)
"""ExoRL from states."""

IMAGES = {
    "agent.critic.policy_sees": "encodings",
    # Features of a batch are kept apart by whatever tells its images apart. If all images of a batch moved
    # alike, features would be of the shift, and of nothing else.
    "data.normalize_observations": True,
    "data.image_shift.pixels": 2,
    "data.image_shift.together": False,
    "data.num_frames": 3,
    "data.compact": True,
}
"""How images are seen."""

PIXELS: Group = {
    "domain_pixels": {**_EXPLORED, **IMAGES, "batch_size": 512},
    "manipulation_pixels": {
        **OGBENCH["manipulation"],
        **IMAGES,
        "agent.critic.state_dims": (),
        "agent.critic.state_dim": 256,
    },
}
"""Images of ExoRL's domains, such as exorl/walker-rnd@64, and OGBench's visual sets."""

STATES = merged(OGBENCH, EXORL)
EVERY = merged(STATES, PIXELS)

_OF_EXORL = (*EXORL, "domain_pixels")


def explored(**settings: Any) -> Group:
    """Settings of the critic in all presets of ExoRL, with "__" for the dots in their names."""
    names = {name.replace("__", "."): value for name, value in settings.items()}
    return each(_OF_EXORL, {f"agent.critic.{name}": value for name, value in names.items()})


TD_JEPA = merged(
    explored(task_dims=(256, 256), state_orthonormality=0.1, task_orthonormality=0.1),
    each(_OF_EXORL, {"agent.whiten_goals": False}),
)
"""EVERY: of TD-JEPA."""

FORWARD_BACKWARD = explored(task_dims=(256, 256), orthonormality=1.0)
"""EVERY: of forward-backward representations."""

FEATURE_LEARNERS = explored(feature_learner__hidden_dims=(256, 256))
"""EVERY: of successor features with a feature learner that has networks."""

VALUES = merged(
    explored(feature_learner__discount=0.98),
    {"point_mass_maze": {"agent.critic.feature_learner.discount": 0.99}},
    each(_OF_EXORL, {"data.goals.discount": 0.99}),
)
"""EVERY: of feature learners that are goal-conditioned values."""

BYOL = explored(feature_learner__predictor_dims=(1024,))
"""EVERY: of BYOL."""

ICVF = explored(feature_learner__state_dims=(), feature_learner__intent_dims=(1024, 1024, 1024), state_dim=50)
"""EVERY: of ICVF."""

RLDP = explored(feature_learner__dynamics_dims=(1024,))
"""EVERY: of RLDP."""
