r"""Claim: filtering a mixture of good and noisy episodes by the order of their values improves cloning.

    python -m experiments.studies.value_order --workdir=runs/value_order

collects episodes of a point in OGBench's medium maze. Good ones walk to one goal with the noise of OGBench's
collector. Noisy ones walk to random goals, with twice the noise. All episodes end at the goal or after
`max_steps`; they start anywhere. The rewards are -1, and 0 at the goal. IQL learns values from the mixture,
which does not say which episodes are good. Then behaviour cloning learns from

- all episodes;
- those whose value order is at least `threshold` (--data.filter=value_order:0.5);
- as many random episodes;
- all episodes, with transitions weighted by progress (--data.weights=progress:1);
- the good episodes.

The score is the share of cells from whose centre the policy's most likely actions reach the goal within
`max_steps`. Each seed has its own mixture and its own values.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each seed. The same command continues after
an interruption.

Measured with this command (benchmarks/value_order.json; 4 seeds): shown. Success is 0.30 (0.25 to 0.37) with
all episodes, 0.53 (0.47 to 0.58) with those in order, 0.29 (0.24 to 0.36) with as many random ones, 0.36
(0.32 to 0.41) with weights by progress, and 0.95 (0.93 to 0.96) with the good ones. Filtered minus all is
0.23 (0.14 to 0.31).

Source: value-order correlation of Ma et al. 2024 (arXiv:2411.04549), who filter demonstrations by it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import valuelab
from experiments.studies.flow_claims import claims, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimResult
from valuelab import environments, errors
from valuelab.configuration import Settings, setting
from valuelab.data import storage
from valuelab.data.collection import pointmaze
from valuelab.data.collection.recipe import MUJOCO_DTYPES, Player, Recipe, play_episode
from valuelab.environments import ogbench
from valuelab.evaluation import figures, statistics
from valuelab.files import local_path
from valuelab.ops import order
from valuelab.runs import value_order
from valuelab.runs.trained import TrainedRun
from valuelab.types import Dataset, Environment

MAZE, TASK = "pointmaze-medium-v0", "ogbench/pointmaze-medium-navigate-singletask-v0"
NOISES = {True: 0.5, False: 1.0}
"""The standard deviation of the noise on actions, of good episodes and of noisy ones."""
SMALL: dict[str, Any] = {"agent.hidden_dims": (64, 64)}
ALL, ORDERED, RANDOM, WEIGHTED, GOOD = "all", "by order", "at random", "by progress", "good"
METHODS = (ALL, RANDOM, ORDERED, WEIGHTED, GOOD)
"""The choices of episodes that behaviour cloning learns from."""

CLAIM = Claim(
    "Behaviour cloning is better on the episodes whose values are in order than on all episodes",
    {
        "filtered": "success, episodes filtered by order - all episodes",
        "chosen": "success, episodes filtered by order - as many random episodes",
        "weighted": "success, transitions weighted by progress - all episodes",
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig(Settings):
    """The data and the training of the study."""

    episodes: int = setting(100, "[4, inf)", "Number of episodes in the mixture.")
    good_share: float = setting(0.5, "(0, 1)", "Share of good episodes.")
    max_steps: int = setting(200, "[3, inf)", "Largest number of steps of an episode.")
    threshold: float = setting(0.5, "[-1, 1]", "Smallest value order of an episode that is kept.")
    value_steps: int = setting(4_000, "[2, inf)", "Updates of the values.")
    steps: int = setting(3_000, "[2, inf)", "Updates of behaviour cloning.")
    seed: int = setting(0, "[0, 2147483647]", "First random seed.")
    num_seeds: int = setting(4, "[1, inf)", "Number of seeds: seed, seed + 1, ...")
    workdir: str = setting("", help="Folder for all files of the study.", compare=False)


class Mixture(NamedTuple):
    """The episodes of one seed.

    Attributes:
        dataset: K episodes in random order, in compact storage.
        are_good: [K] bool.
    """

    dataset: Dataset
    are_good: np.ndarray


class SeedResult(NamedTuple):
    """The results of one seed.

    Attributes:
        scores: method -> success.
        orders: [K], the value order of each episode.
        kept: [K] bool, the episodes that the filter keeps.
        are_good: [K] bool.
    """

    scores: Mapping[str, float]
    orders: np.ndarray
    kept: np.ndarray
    are_good: np.ndarray


def make_scene() -> Any:
    """The maze of OGBench."""
    errors.require("ogbench", "environments")  # registers its mazes
    return errors.require("gymnasium", "environments").make(MAZE, disable_env_checker=True).unwrapped


def goal_of(scene: Any) -> tuple[tuple[int, int], np.ndarray]:
    """The goal of the maze's first task: its cell, and its place in metres."""
    row, column = scene.task_infos[0]["goal_ij"]
    return (int(row), int(column)), np.asarray(scene.ij_to_xy((row, column)), np.float32)


def collect(config: MixtureConfig, seed: int, scene: Any) -> Mixture:
    """The mixture of one seed; equal settings give the same episodes."""
    cell, goal = goal_of(scene)
    players: dict[bool, Player] = {
        True: pointmaze.make_player(MAZE, "stitch", NOISES[True], cell),
        False: pointmaze.make_player(MAZE, "navigate", NOISES[False]),
    }
    are_good = np.arange(config.episodes) < round(config.good_share * config.episodes)
    are_good = np.random.default_rng(seed).permutation(are_good)
    recipe = Recipe(config.episodes, config.max_steps + 1, MUJOCO_DTYPES, lambda: players[True])
    episodes = []
    for number, is_good in enumerate(are_good):
        played = play_episode(recipe, players[bool(is_good)], seed, "train", number)
        arrived = np.linalg.norm(played["observations"][1:] - goal, axis=1) <= scene._goal_tol
        length = int(np.argmax(arrived)) + 1 if arrived.any() else config.max_steps
        arrives = np.append(arrived[:length], False)  # the last row holds the final observation alone
        episodes.append(
            {
                "observations": played["observations"][: length + 1],
                "actions": played["actions"][: length + 1],
                "rewards": arrives.astype(np.float32) - 1,
                "masks": 1 - arrives.astype(np.float32),
            }
        )
    dataset = storage.from_episodes("pointmaze mixture", episodes, "the mixture")
    low, high = -np.ones(2, np.float32), np.ones(2, np.float32)
    return Mixture(dataclasses.replace(dataset, action_low=low, action_high=high), are_good)


def evaluation(scene: Any) -> Environment:
    """Walks to the goal from the centres of all other free cells, one task for each."""
    cell, goal = goal_of(scene)
    starts = [start for start in pointmaze.free_cells(scene.maze_map) if start != cell]
    pairs = {str(start): (np.asarray(scene.ij_to_xy(start)), goal) for start in starts}
    return ogbench.between(environments.make(TASK), pairs)


def examine_seed(
    config: MixtureConfig, seed: int, folder: pathlib.Path, scene: Any, world: Environment
) -> SeedResult:
    """Collects the episodes of one seed, learns values, and clones each choice of episodes."""
    dataset, are_good = collect(config, seed, scene)
    common: dict[str, Any] = {"seed": seed, "mesh": (1, 1), "eval_episodes": 0, "checkpoint_every": 0}
    values = valuelab.train(
        "iql:pointmaze", dataset, steps=config.value_steps, workdir=folder / "values", **common, **SMALL
    )
    places = storage.trajectories(dataset)
    along = value_order.along_trajectories(values.build, values.members, values.spec)
    orders = order.value_order(along(values.states, dataset, places)[0], places.lengths)
    kept = orders >= config.threshold
    at_random = np.random.default_rng(seed).permutation(kept)
    run = {"data.value_run": str(folder / "values")}
    choices: dict[str, tuple[Dataset, dict[str, Any]]] = {
        ALL: (dataset, {}),
        ORDERED: (dataset, run | {"data.filter": f"value_order:{config.threshold}"}),
        RANDOM: (storage.with_trajectories(dataset, at_random), {}),
        WEIGHTED: (dataset, run | {"data.weights": "progress:1"}),
        GOOD: (storage.with_trajectories(dataset, are_good), {}),
    }
    scores = {}
    for name, (chosen, settings) in choices.items():
        workdir = folder / name.replace(" ", "_")
        cloned = valuelab.train(
            "bc:pointmaze", chosen, steps=config.steps, workdir=workdir, **common, **SMALL, **settings
        )
        scores[name] = success(cloned, world, config)
    return SeedResult(scores, orders, kept, are_good)


def success(run: TrainedRun, world: Environment, config: MixtureConfig) -> float:
    """The share of starts from which a policy reaches the goal within `max_steps`; nothing is random."""
    played = run.evaluate(world, episodes=1, temperature=0.0, max_steps=config.max_steps)
    return float(played.successes.mean())


def examine(config: MixtureConfig) -> ClaimResult:
    """Does all seeds and compares the choices of episodes."""
    scene, workdir = make_scene(), local_path("workdir", config.workdir)
    world = evaluation(scene)
    results = [
        examine_seed(config, seed, workdir / f"seed_{seed}", scene, world)
        for seed in range(config.seed, config.seed + config.num_seeds)
    ]
    scores = {name: np.array([each.scores[name] for each in results]) for name in METHODS}
    differences = {
        "filtered": statistics.difference(scores[ORDERED], scores[ALL]),
        "chosen": statistics.difference(scores[ORDERED], scores[RANDOM]),
        "weighted": statistics.difference(scores[WEIGHTED], scores[ALL]),
    }
    by_method = {name: statistics.mean_interval(values[:, None]) for name, values in scores.items()}
    for name, interval in by_method.items():
        print(f"success of cloning, {name}: {statistics.interval_text(interval)}")
    evidence = {
        "success": by_method,
        "good - by order": statistics.difference(scores[GOOD], scores[ORDERED]),
        "filter": judge(results, config),
    }
    return ClaimResult(differences, evidence, lambda: draw(results, by_method, config))


def judge(results: list[SeedResult], config: MixtureConfig) -> dict[str, Any]:
    """How well the order tells good episodes from noisy ones, over seeds, ready for JSON."""

    def over_seeds(numbers: list[float]) -> dict[str, Any]:
        return statistics.mean_interval(np.array(numbers)[:, None])

    detections = [
        order.judge(np.nan_to_num(each.orders, nan=-1), each.are_good, config.threshold) for each in results
    ]
    return {
        "kept": over_seeds([float(each.kept.mean()) for each in results]),
        "precision": over_seeds([each.precision for each in detections]),
        "recall": over_seeds([each.recall for each in detections]),
        "auc": over_seeds([each.auc for each in detections]),
        "order_of_good": over_seeds([float(np.nanmean(each.orders[each.are_good])) for each in results]),
        "order_of_noisy": over_seeds([float(np.nanmean(each.orders[~each.are_good])) for each in results]),
    }


def draw(results: list[SeedResult], scores: Mapping[str, Mapping[str, Any]], config: MixtureConfig) -> Any:
    """The order of good and noisy episodes, and the success of each choice with its interval over seeds."""
    figure, (histogram, bars) = pictures.panels(2, "Cloning a mixture of good and noisy episodes")
    orders = np.concatenate([each.orders for each in results])
    are_good = np.concatenate([each.are_good for each in results])
    bins = np.linspace(-1, 1, 41)
    for kind, colour, name in ((True, figures.BLUE, "good"), (False, figures.VERMILLION, "noisy")):
        chosen = orders[(are_good == kind) & np.isfinite(orders)]
        histogram.hist(chosen, bins=bins, color=colour, alpha=0.6, label=f"{name} episodes")
    histogram.axvline(config.threshold, color=figures.BLACK, linestyle=(0, (4, 2)), label="threshold")
    histogram.set_xticks(np.linspace(-1, 1, 5))
    histogram.set(xlabel="rank correlation of values with time", ylabel="episodes of all seeds")
    histogram.legend(frameon=False, fontsize="small")
    means = np.array([scores[name]["mean"] for name in METHODS])
    ends = np.array([[scores[name]["ci_low"], scores[name]["ci_high"]] for name in METHODS])
    spans = np.stack([means - ends[:, 0], ends[:, 1] - means])
    colours = (figures.WALL, figures.WALL, figures.BLUE, figures.SKY, figures.GREEN)
    bars.bar(METHODS, means, yerr=spans, capsize=4, color=colours)
    bars.set(
        xlabel="episodes or weights that are cloned",
        ylabel="share of starts that reach the goal",
        ylim=(0, 1),
    )
    return figure


if __name__ == "__main__":
    claims.launch(CLAIM, examine, MixtureConfig())
