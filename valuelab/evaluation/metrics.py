"""The words for metrics in pictures and tables, and which of the metrics is the score of a run."""

import math
from collections.abc import Collection

EVALUATED = "eval/"
"""The beginning of the names of metrics of an evaluation in metrics.jsonl."""
SCORES = ("objective", "normalized_score", "success", "return")
"""The metrics that can be the score of a run. If a run has several, the first of these is its score."""
UPDATES = "number of updates"
"""The label of an axis of updates."""

WORDS = {
    "eval/success": "success rate (%)",
    "eval/return": "return (sum of rewards)",
    "eval/length": "episode length (steps)",
    "eval/normalized_score": "normalised score (expert: 100)",
    "eval/objective": "objective",
    "loss": "loss",
    "critic/loss": "loss of the critic",
    "critic/q_loss": "loss of Q",
    "critic/value_loss": "loss of V",
    "policy/loss": "loss of the policy",
    "critic/q_mean": "mean Q",
    "critic/q_max": "largest Q",
    "critic/value_mean": "mean V",
    "critic/field_blind_ratio": "loss of the field / that of\na field that ignores z",
    "critic/gradient_norm": "gradient norm of the critic",
    "critic/q_gradient_norm": "gradient norm of Q",
    "critic/value_gradient_norm": "gradient norm of V",
    "policy/gradient_norm": "gradient norm of the policy",
    "policy/log_prob": "log-probability of the data's actions",
    "policy/advantage": "mean advantage",
    "policy/weight": "mean weight of actions",
    "environment_steps": "environment steps",
    "epsilon": "share of random actions",
    "updates_per_second": "updates per second",
}
"""Name of a metric in metrics.jsonl -> words with the unit."""


def in_words(name: str) -> str:
    """A metric in words, with its unit; the name without underscores if there are no words for it.

    Args:
        name: as in metrics.jsonl.
    """
    plain = name.removeprefix(EVALUATED).replace("/", ": ").replace("_", " ")
    return WORDS.get(name, plain)


def score_and_task(name: str) -> tuple[str, str]:
    """The metric and the task of a name such as eval/success/task1; the task is empty if there is none."""
    if not name.startswith(EVALUATED):
        return name, ""
    score, _, task = name.removeprefix(EVALUATED).partition("/")
    return EVALUATED + score, task


def scale(name: str) -> float:
    """The factor from the numbers in metrics.jsonl to the unit of `in_words`."""
    return 100.0 if score_and_task(name)[0] == "eval/success" else 1.0


def score_of(names: Collection[str]) -> str:
    """The metric among names of metrics.jsonl that is the score of the run; empty without evaluation."""
    return next((EVALUATED + score for score in SCORES if EVALUATED + score in names), "")


def score_text(name: str, value: float) -> str:
    """A score with its unit, such as "85 %"; the name is as in metrics.jsonl."""
    if not math.isfinite(value):
        return "no score"
    return f"{100 * value:.1f} %" if scale(name) == 100 else f"{value:.4g}"
