"""Settings that presets for OGBench share: networks of its studies, and FQL's and floq's commands.

Sources: github.com/seohongpark/ogbench (Park et al. 2024, arXiv:2410.20092), github.com/seohongpark/fql
(Park, Li, Levine 2025, arXiv:2502.02538) and github.com/CMU-AIRe/floq (Agrawalla et al. 2025,
arXiv:2509.06863). tests/presets/test_presets.py compares each field of the presets with the sources' defaults
and commands.
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
"""How OGBench's and FQL's studies move images of cubes, scenes and puzzles."""

FRAMES = {**MOVED, "data.num_frames": 3, "steps": 500_000}
"""The settings of FQL's study for its visual sets, without the encoder."""

COMPOSED_IMAGES = {**FRAMES, "agent.critic.encoder": "impala_small", "agent.policy.encoder": "impala_small"}
"""The same with the encoder, for a critic and a policy."""

FAR = {"agent.critic.discount": 0.995}
"""The discount of FQL's and floq's studies where goals are far."""

TASKS: Group = {
    "antmaze_large": {},
    "antmaze_giant": FAR,
    "humanoidmaze_medium": FAR,
    "humanoidmaze_large": FAR,
    "antsoccer_arena": FAR,
    "cube_single": {},
    "cube_double": {},
    "scene": {},
    "puzzle_3x3": {},
    "puzzle_4x4": {},
}
"""The ten default tasks, of any critic and policy, for a million updates."""

VISUAL = each(
    ("visual_cube_single", "visual_cube_double", "visual_scene", "visual_puzzle_3x3", "visual_puzzle_4x4"),
    COMPOSED_IMAGES,
)
"""The first task of each of five visual sets, of any critic and policy."""


def _cloning(**weights: float) -> Group:
    return {preset: {"agent.policy.bc_weight": weight} for preset, weight in weights.items()}


def _minimum(*presets: str) -> Group:
    return each(presets, {"agent.critic.aggregation": "min"})


_CLONING = _cloning(
    antmaze_large=10.0,
    antmaze_giant=10.0,
    humanoidmaze_medium=30.0,
    humanoidmaze_large=30.0,
    antsoccer_arena=10.0,
    cube_single=300.0,
    cube_double=300.0,
    scene=300.0,
    puzzle_3x3=1000.0,
    puzzle_4x4=1000.0,
)
_VISUAL = merged(
    VISUAL,
    _cloning(
        visual_cube_single=300.0,
        visual_cube_double=100.0,
        visual_scene=100.0,
        visual_puzzle_3x3=300.0,
        visual_puzzle_4x4=300.0,
    ),
)

SMALL_FLOWS: Group = {
    "pointmaze": {
        "agent.critic.field_hidden_dims": (128, 128, 128),
        "agent.critic.num_draws": 1,
        "agent.critic.num_steps": 4,
        "agent.critic.learning_rate": 1e-3,
        "steps": 20_000,
        "eval_every": 5_000,
    },
    "cube_small": {
        "agent.critic.num_draws": 1,
        "agent.critic.num_steps": 4,
        # They show z and t more clearly than the defaults do: the field uses z earlier.
        "agent.critic.bin_width": 1.0,
        "agent.critic.time_scale": 3.0,
        "agent.critic.learning_rate": 1e-3,
        "agent.critic.target_rate": 0.02,
        "steps": 20_000,
        "eval_every": 5_000,
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

_SMALL_FQL = merged(SMALL, SMALL_FLOW_POLICIES, _cloning(pointmaze=1.0, cube_small=300.0))

FQL = merged(TASKS, _CLONING, _minimum("antmaze_large", "antmaze_giant"), _VISUAL, _SMALL_FQL)
"""All presets of an agent with FQL's policy: FQL's commands for the tasks, and the small ones."""

FLOQ = merged(
    TASKS,
    _CLONING,
    _cloning(humanoidmaze_large=20.0),
    _minimum("antmaze_giant"),
    each(("antmaze_giant", "humanoidmaze_large"), {"batch_size": 512}),
    each(TASKS, {"steps": 2_000_000}),
    _VISUAL,
    _SMALL_FQL,
)
"""The same with floq's commands for the tasks. floq has none for images: these are FQL's."""

RELEASED_FIELD = {"agent.critic.time_embedding": "cosine", "agent.critic.bin_width": 16.0}
"""The field of floq's released code, where it differs from the default."""

FIELDS = merged(
    each((*TASKS, *VISUAL), RELEASED_FIELD),
    each(("cube_single", "cube_double"), {"agent.critic.field_hidden_dims": (512, 512)}),
)
"""Settings to add to FLOQ for critics that integrate a flow."""
