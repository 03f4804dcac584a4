"""The words for metrics in pictures and tables, and which of the metrics is the score of a run."""

import math
from collections.abc import Collection

EVALUATED = "eval/"
"""The beginning of the names of metrics of an evaluation in metrics.jsonl."""
SCORES = ("objective", "normalized_score", "success", "return")
"""The metrics that can be the score of a run. If a run has several, the first of these is its score."""
UPDATES = "number of updates"
"""The label of an axis of updates."""

_OWNERS = {
    "critic/": "the critic",
    "critic/q_": "Q",
    "critic/value_": "V",
    "critic/field_": "the flow field",
    "critic/auxiliary_": "the auxiliary part",
    "policy/": "the policy",
    "policy/high_": "the high-level policy",
    "policy/low_": "the low-level policy",
}
"""The beginning of a name -> the function whose metrics have it."""
_OF_OWNERS = {
    "loss": "loss of {}",
    "gradient_norm": "gradient norm of {}",
    "target_mean": "mean target of {}",
    "accuracy": "accuracy of {} in telling true pairs",
    "positive": "mean logit of {}, true pairs",
    "negative": "mean logit of {}, other pairs",
    "multiplier": "Lagrange multiplier of {}",
    "log_prob": "log-probability of the data under {}",
    "advantage": "mean advantage for {}",
    "weight": "mean weight for {}",
}
"""The end of a name -> its words, with a place for the function."""

WORDS = {
    **{
        beginning + end: words.format(owner)
        for beginning, owner in _OWNERS.items()
        for end, words in _OF_OWNERS.items()
    },
    "eval/success": "success rate (%)",
    "eval/return": "return (sum of rewards)",
    "eval/length": "episode length (steps)",
    "eval/normalized_score": "normalised score (expert: 100)",
    "eval/objective": "objective",
    "loss": "loss",
    "gradient_norm": "gradient norm",
    "log_prob": "log-probability of the data's actions",
    "mean_return": "mean predicted return",
    "critic/mean": "mean value",
    "critic/q_mean": "mean Q",
    "critic/value_mean": "mean V",
    "critic/q_max": "largest Q",
    "critic/q_gap": "conservative gap of Q",
    "critic/value_cloning_loss": "imitation loss of the goal representation",
    "critic/field_blind_ratio": "loss of the field / that of a field that ignores z",
    "critic/distance": "mean distance to the goal (steps)",
    "critic/distance_max": "largest distance to the goal (steps)",
    "critic/step": "mean distance of one step (steps)",
    "critic/excess": "squared excess of a step's distance over 1",
    "critic/dynamics_loss": "loss of the predicted next latents",
    "critic/distance_loss": "loss of the distance features",
    "critic/intent_loss": "loss of the intention-conditioned values",
    "critic/measure_loss": "loss of the successor measure",
    "critic/orthonormality_loss": "orthonormality loss of the features",
    "critic/prediction_loss": "loss of the predicted features",
    "critic/state_orthonormality_loss": "orthonormality loss of the state encoder",
    "critic/state_prediction_loss": "prediction loss of the state encoder",
    "critic/task_orthonormality_loss": "orthonormality loss of the task encoder",
    "critic/task_prediction_loss": "prediction loss of the task encoder",
    "critic/step_loss": "change of the features in a step",
    "critic/successor_loss": "loss of the successor features",
    "features/effective_rank": "effective rank of the features",
    "policy/log_prob": "log-probability of the data's actions",
    "policy/advantage": "mean advantage",
    "policy/weight": "mean weight of actions",
    "policy/q": "mean Q of the policy's actions",
    "policy/entropy": "entropy of the policy (nats)",
    "policy/alpha": "weight of the entropy",
    "policy/bc_loss": "imitation loss of the policy",
    "policy/clone_loss": "loss of the flow that imitates the data",
    "policy/distill_loss": "distillation loss of the policy",
    "policy/stepped": "share of updates in which the policy steps",
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
