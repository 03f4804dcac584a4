"""Settings of OGBench's study of goal-conditioned agents: one preset for each kind of dataset.

The name of a preset is that of its datasets without their sizes: `antmaze_stitch` is for
antmaze-medium-stitch, antmaze-large-stitch and antmaze-teleport-stitch, `antmaze_giant_stitch` for
antmaze-giant-stitch, where goals are farther. `manipulation_play` and `manipulation_noisy` are for cubes, the
scene and puzzles. Presets with `visual` are for images.

Source: github.com/seohongpark/ogbench (Park et al. 2024, arXiv:2410.20092), impls/hyperparameters.sh, and the
defaults in impls/agents. tests/presets/test_goal_presets.py compares each field of the presets with these.
"""

from collections.abc import Mapping
from typing import Any

from valuelab.presets import _ogbench
from valuelab.presets._groups import Group, each, merged

_FAR = ("pointmaze_giant", "antmaze_giant", "humanoidmaze")
_MAZES = ("pointmaze", "antmaze", "humanoidmaze", "antsoccer", "pointmaze_giant", "antmaze_giant")
_STATES = (
    *(f"{maze}_{kind}" for maze in _MAZES for kind in ("navigate", "stitch")),
    "antmaze_explore",
    "manipulation_play",
    "manipulation_noisy",
)
_IMAGES = tuple(
    f"visual_{preset}" for preset in _STATES if preset.startswith(("antmaze", "humanoidmaze", "manipulation"))
)
_ALL = (*_STATES, *_IMAGES, "powderworld")

WIDE: dict[str, Any] = {"hidden_dims": (512, 512, 512), "activation": "gelu"}
"""The networks of the study's critics and policies."""

CRITIC: dict[str, Any] = {**WIDE, "layer_norm": True}
"""The study's critics."""

POLICY: dict[str, Any] = {
    **WIDE,
    **{name.removeprefix("agent."): value for name, value in _ogbench.GAUSSIAN_POLICY.items()},
}
"""The study's policies: Gaussians with σ = 1 and a mean that is clipped when it acts."""

ENCODERS: dict[str, Any] = {f"agent.{part}.encoder": "impala_small" for part in ("critic", "policy")}
"""The encoders of a critic and a policy, for images."""

AWR: dict[str, Any] = {"agent.policy": "awr", "agent.policy.inverse_temperature": 3.0}
"""The extraction of discrete actions, where others climb Q."""

SMALL_RUNS: Group = {
    "pointmaze_goals": {
        "data.normalize_observations": True,
        "steps": 20_000,
        "eval_every": 5_000,
        "eval_episodes": 10,
    },
    "cube_goals": {"steps": 20_000, "eval_every": 10_000, "eval_episodes": 10},
}
"""Runs of the presets for two CPU cores."""


def small(
    parts: Mapping[str, Any], pointmaze: Mapping[str, Any], cube: Mapping[str, Any], target_rate: bool = True
) -> Group:
    """Presets for two CPU cores: networks of 256 by 256 units and batches of 256.

    Args:
        parts: settings of both presets, without the widths of networks.
        pointmaze: settings of the preset for pointmaze-medium-navigate.
        cube: settings of the preset for cube-single-play.
        target_rate: whether the critic has target networks.
    """
    widths = dict.fromkeys(("agent.critic.hidden_dims", "agent.policy.hidden_dims"), (256, 256))
    # Runs are short, and goals are 150 steps away.
    rates = {"agent.critic.target_rate": 0.02} if target_rate else {}
    both = {"batch_size": 256, **widths, **rates, **parts}
    return merged(each(SMALL_RUNS, both), SMALL_RUNS, {"pointmaze_goals": pointmaze, "cube_goals": cube})


def _chosen(word: str) -> tuple[str, ...]:
    return tuple(preset for preset in _ALL if word in preset)


_RUNS: Group = merged(
    each(_ALL, {"batch_size": 1024, "eval_episodes": 50, "data.goals.policy.rounded": True}),
    each((*_IMAGES, "powderworld"), {"batch_size": 256, "steps": 500_000}),
    each(_chosen("visual_manipulation"), _ogbench.MOVED),
    {"powderworld": {"eval_temperature": 0.3}},
)
_RANDOM_GOALS: Group = merged(
    each(_chosen("stitch"), {"data.goals.policy.p_trajectory": 0.5}),
    each(_chosen("explore"), {"data.goals.policy.p_trajectory": 0.0}),
)


def presets(
    *,
    every: Mapping[str, Any] | None = None,
    images: Mapping[str, Any] = ENCODERS,
    powderworld: Mapping[str, Any] | None = None,
    discount: str = "",
    random_goals: bool = True,
) -> Group:
    """The presets of an agent, without the weights that the study tunes.

    Args:
        every: settings of all presets.
        images: settings of the presets for images, powderworld included.
        powderworld: settings of the preset for powderworld.
        discount: dotted name of the discount; empty if it has no effect.
        random_goals: whether policies also learn to reach goals of other trajectories where trajectories are
            short or without aim.
    """
    return merged(
        _RUNS,
        each(_ALL, every or {}),
        each((*_IMAGES, "powderworld"), images),
        _RANDOM_GOALS if random_goals else {},
        tuned(discount, dict.fromkeys(_FAR, 0.995)) if discount else {},
        {"powderworld": powderworld or {}},
    )


def tuned(name: str, values: Mapping[str, Any]) -> Group:
    """The presets with one setting.

    Args:
        name: dotted name of the setting.
        values: the beginning of presets' names, without "visual_", to the value; later entries override
            earlier ones.
    """
    return merged(
        *(
            each(
                (preset for preset in _ALL if preset.removeprefix("visual_").startswith(start)), {name: value}
            )
            for start, value in values.items()
        )
    )


def preset_of(dataset: str) -> str:
    """The preset for a dataset, such as antmaze_giant_stitch for antmaze-giant-stitch."""
    words = dataset.split("-")
    visual = "visual_" if words[0] == "visual" else ""
    family, kind = words[bool(visual)], words[-1]
    if family == "powderworld":
        return family
    if kind in ("play", "noisy"):
        return f"{visual}manipulation_{kind}"
    giant = "_giant" if "giant" in words and family != "humanoidmaze" else ""
    return f"{visual}{family}{giant}_{kind}"


def prefixed(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a prefix before each name."""
    return {f"{prefix}{name}": value for name, value in settings.items()}


def _description(preset: str) -> str:
    words = preset.removeprefix("visual_").split("_")
    sets = "cube, scene and puzzle" if words[0] == "manipulation" else words[0]
    size = "giant " if "giant" in words else ""
    return f"OGBench's {size}{sets} sets of {words[-1]} data, whose tasks are goals" + (
        "; images, for one GPU" if preset.startswith("visual") else "; large networks, for one GPU"
    )


DESCRIPTIONS = {preset: _description(preset) for preset in _ALL if preset != "powderworld"}
"""Name of a preset -> one line."""
