"""Published scores, and the settings in which they were measured, to compare with ours.

This module contains only figures that could be checked: from summaries of the papers, and from a table that
repeats a paper's figures and agrees with the paper's summary. The papers' tables of single tasks could not be
looked up. A score is a share: a success rate, or a D4RL-normalised score over 100.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Source(NamedTuple):
    """The source of published scores.

    Attributes:
        paper: authors, year and title.
        arxiv: its arXiv number.
        table: the table or result in the paper.
        settings: dotted name to value, as in config.json; names that an agent does not have are not compared.
        differs: a difference other than settings; empty for none.
    """

    paper: str
    arxiv: str
    table: str
    settings: Mapping[str, Any]
    differs: str = ""

    @property
    def url(self) -> str:
        """Address of the paper's abstract."""
        return f"https://arxiv.org/abs/{self.arxiv}"


class Published(NamedTuple):
    """A published score.

    Attributes:
        score: a share.
        source: its source.
    """

    score: float
    source: Source


_WIDE = (512, 512, 512, 512)
_FQL = Source(
    "Park, Li, Levine 2025, Flow Q-Learning",
    "2502.02538",
    "offline results on OGBench, means over the five tasks of a domain",
    {
        "steps": 1_000_000,
        "batch_size": 256,
        "agent.hidden_dims": _WIDE,
        "agent.extraction": "awr",
        "agent.critic.hidden_dims": _WIDE,
        "agent.policy.hidden_dims": _WIDE,
        "agent.policy.num_steps": 10,
    },
    "the published score is a mean over five tasks, ours is of the default task",
)
_FQL_REPEATED = _FQL._replace(
    table=f"{_FQL.table}, as repeated by the README of Dichotomous Diffusion Policy Optimization (2026)"
)
_IQL = Source(
    "Kostrikov, Nair, Levine 2021, Offline Reinforcement Learning with Implicit Q-Learning",
    "2110.06169",
    "D4RL-normalised scores",
    {
        "steps": 1_000_000,
        "batch_size": 256,
        "agent.hidden_dims": (256, 256),
        "agent.extraction": "awr",
        "agent.policy_schedule": "cosine",
    },
)
_IQL_MAZES = _IQL._replace(differs="the authors' commands name version 0 of the AntMaze datasets")

_OGBENCH = (
    "antmaze-large-navigate",
    "antmaze-giant-navigate",
    "humanoidmaze-medium-navigate",
    "antsoccer-arena-navigate",
    "cube-single-play",
    "cube-double-play",
    "scene-play",
    "puzzle-3x3-play",
    "puzzle-4x4-play",
)
_OGBENCH_SCORES = {
    "fql": (79, 9, 58, 60, 96, 29, 56, 30, 17),
    "iql": (53, 4, 33, 8, 83, 7, 28, 9, 7),
}
_REPEATED = (
    "humanoidmaze-medium-navigate",
    "antsoccer-arena-navigate",
    "cube-single-play",
    "cube-double-play",
    "scene-play",
)
_REPEATED_SCORES = {"rebrac": (2, 0, 91, 12, 41), "ifql": (60, 33, 79, 14, 30)}
_LOCOMOTION_SCORES = {
    "medium": (47.4, 66.3, 78.3),
    "medium-replay": (44.2, 94.7, 73.9),
    "medium-expert": (86.7, 91.5, 109.6),
}
_ANTMAZE_SCORES = {
    "umaze": 87.5,
    "umaze-diverse": 62.2,
    "medium-play": 71.2,
    "medium-diverse": 70.0,
    "large-play": 39.6,
    "large-diverse": 47.5,
}
_GOALS = Source(
    "Park, Frans, Eysenbach, Levine 2024, OGBench",
    "2410.20092",
    "table 2, success over five goals, as repeated by BASELINES.md of github.com/ChristianLin0420/treewm",
    {
        "steps": 1_000_000,
        "batch_size": 1024,
        "agent.hidden_dims": _WIDE[:3],
        "agent.critic.hidden_dims": _WIDE[:3],
        "agent.policy.hidden_dims": _WIDE[:3],
        "agent.extraction": "ddpg_bc",
    },
)
_GOAL_AGENTS = ("bc", "ivl", "iql", "qrl", "crl", "hiql")
_GOAL_SCORES = {
    "pointmaze-medium-navigate": (9, 63, 53, 82, 29, 79),
    "pointmaze-large-navigate": (29, 45, 34, 86, 39, 58),
    "pointmaze-giant-navigate": (1, 0, 0, 68, 27, 46),
    "pointmaze-teleport-navigate": (25, 45, 24, 4, 24, 18),
    "pointmaze-medium-stitch": (23, 70, 21, 80, 0, 74),
    "pointmaze-large-stitch": (7, 12, 31, 84, 0, 13),
    "pointmaze-giant-stitch": (0, 0, 0, 50, 0, 0),
    "pointmaze-teleport-stitch": (31, 44, 25, 9, 4, 34),
    "antmaze-medium-navigate": (29, 72, 71, 88, 95, 96),
    "antmaze-large-navigate": (24, 16, 34, 75, 83, 91),
    "antmaze-giant-navigate": (0, 0, 0, 14, 16, 65),
    "antmaze-teleport-navigate": (26, 39, 35, 35, 53, 42),
    "antmaze-medium-stitch": (45, 44, 29, 59, 53, 94),
    "antmaze-large-stitch": (3, 18, 7, 18, 11, 67),
    "antmaze-giant-stitch": (0, 0, 0, 0, 0, 2),
    "antmaze-teleport-stitch": (31, 39, 17, 24, 31, 36),
    "antmaze-medium-explore": (2, 19, 13, 1, 3, 37),
    "antmaze-large-explore": (0, 10, 0, 0, 0, 4),
    "antmaze-teleport-explore": (2, 32, 7, 2, 20, 34),
    "cube-single-play": (6, 53, 68, 5, 19, 15),
    "cube-double-play": (1, 36, 40, 1, 10, 6),
    "cube-triple-play": (1, 1, 3, 0, 4, 3),
    "cube-quadruple-play": (0, 0, 0, 0, 0, 0),
    "cube-single-noisy": (8, 71, 99, 25, 38, 41),
    "cube-double-noisy": (1, 14, 23, 3, 2, 2),
    "cube-triple-noisy": (1, 9, 2, 1, 3, 2),
    "cube-quadruple-noisy": (0, 0, 0, 0, 0, 0),
    "scene-play": (5, 42, 51, 5, 19, 38),
    "scene-noisy": (1, 26, 26, 9, 1, 25),
    "puzzle-3x3-play": (2, 6, 95, 1, 3, 12),
    "puzzle-4x4-play": (0, 13, 26, 0, 0, 7),
    "puzzle-4x5-play": (0, 7, 14, 0, 1, 4),
    "puzzle-4x6-play": (0, 10, 12, 0, 4, 3),
    "puzzle-3x3-noisy": (1, 42, 94, 0, 30, 51),
    "puzzle-4x4-noisy": (0, 20, 29, 0, 0, 16),
    "puzzle-4x5-noisy": (0, 19, 19, 0, 3, 5),
    "puzzle-4x6-noisy": (0, 17, 18, 0, 6, 2),
}
"""Dataset -> scores in % of GCBC, GCIVL, GCIQL, QRL, CRL and HIQL."""

PUBLISHED: dict[tuple[str, str], Published] = {
    **{
        (agent, f"ogbench/{name}-singletask-v0"): Published(score / 100, source)
        for source, names, table in (
            (_FQL, _OGBENCH, _OGBENCH_SCORES),
            (_FQL_REPEATED, _REPEATED, _REPEATED_SCORES),
        )
        for agent, scores in table.items()
        for name, score in zip(names, scores, strict=True)
    },
    **{
        ("iql", f"d4rl/{robot}-{data}-v2"): Published(score / 100, _IQL)
        for data, scores in _LOCOMOTION_SCORES.items()
        for robot, score in zip(("halfcheetah", "hopper", "walker2d"), scores, strict=True)
    },
    **{
        ("iql", f"d4rl/antmaze-{name}-v2"): Published(score / 100, _IQL_MAZES)
        for name, score in _ANTMAZE_SCORES.items()
    },
    **{
        (agent, f"ogbench/{name}-v0"): Published(score / 100, _GOALS)
        for name, scores in _GOAL_SCORES.items()
        for agent, score in zip(_GOAL_AGENTS, scores, strict=True)
    },
}
"""(Name of the agent's file, dataset) to the published score."""

EPISODES = {"ogbench/cube-single-play": 1000, "ogbench/pointmaze-medium-navigate": 1000}
"""Number of episodes of published datasets. A dataset that was collected again can be smaller."""


def differences(published: Published, settings: Mapping[str, Any], episodes: int | None) -> list[str]:
    """The differences between one of our runs and the published one, in words.

    Args:
        published: the score.
        settings: of our run, by dotted name.
        episodes: the number of episodes in our dataset; None if unknown.
    """
    texts = [
        f"{name} {_words(settings[name])} (published: {_words(theirs)})"
        for name, theirs in published.source.settings.items()
        if name in settings and _words(settings[name]) != _words(theirs)
    ]
    known = EPISODES.get(settings["dataset"].replace("-singletask", "").removesuffix("-v0"))
    if known and episodes and episodes != known:
        texts.append(f"a dataset of {episodes:,} episodes (published: {known:,})")
    return [*texts, published.source.differs] if published.source.differs else texts


def _words(value: Any) -> str:
    """A setting as text: a list like a tuple, a number with separators."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
