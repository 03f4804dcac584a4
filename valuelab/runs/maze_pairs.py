"""Random pairs of a start and a goal in a maze, which a run plays after its last update, and references.

The references are a walker that walks straight at the goal and one that follows the geodesic. They are played
in point mazes only: an ant does not walk by velocities.
"""

import contextlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import environments, files
from valuelab.arrays import open_npz
from valuelab.configuration import Population, RunConfig
from valuelab.environments import ogbench
from valuelab.errors import InputError, one_line
from valuelab.evaluation import mazes, plots, rollout, statistics
from valuelab.runs import results
from valuelab.types import Agent, Augmented, Environment, GoalConditioned

FILE = "pairs.npz"
_LANES = 32
"""The number of lanes of all members: most episodes of a bad agent last until the time limit."""
_PLACES = 500
"""The number of free places at which values are compared with geodesics."""


class MazePairs(NamedTuple):
    """The pairs of a run.

    Attributes:
        pairs: starts, goals and lengths of the geodesics.
        opened: name of each task of the maze -> the maze with its start and its goal.
        space: the free space of the maze.
        environment: that of evaluations, with the pairs as its tasks.
        tasks: the environment of the tasks of the maze, in which the references are played.
        inference: how a zero-shot agent is given the goals; None for other agents.
    """

    pairs: mazes.Pairs
    opened: dict[str, plots.Maze]
    space: mazes.FreeSpace
    environment: Environment
    tasks: Environment
    inference: results.TaskInference | None


class Played(NamedTuple):
    """The results of M members at P pairs and T tasks; NaN where they are unknown.

    Attributes:
        step: the number of updates before.
        starts: [P, 2], in metres.
        goals: [P, 2], in metres.
        distances: [P], the lengths of the geodesics, in metres.
        successes: [M, P].
        walkers: [2, P], the successes of `mazes.WALKERS`.
        walkers_in_tasks: [2, T], their success rates in the tasks.
        correlations: [M, P], rank correlation of V with minus the geodesic, over the free space.
        correlations_in_tasks: [M, T], the same for the goals of the tasks.
        straight: [P], the correlation of minus the straight distance with minus the geodesic.
        straight_in_tasks: [T], the same for the goals of the tasks.
        unlabelled: the number of goals without a labelled state within their radius.
    """

    step: np.ndarray
    starts: np.ndarray
    goals: np.ndarray
    distances: np.ndarray
    successes: np.ndarray
    walkers: np.ndarray
    walkers_in_tasks: np.ndarray
    correlations: np.ndarray
    correlations_in_tasks: np.ndarray
    straight: np.ndarray
    straight_in_tasks: np.ndarray
    unlabelled: np.ndarray

    @property
    def pairs(self) -> mazes.Pairs:
        """The pairs."""
        return mazes.Pairs(starts=self.starts, goals=self.goals, distances=self.distances)


def find(
    config: RunConfig, environment: Environment | None, inference: results.TaskInference | None
) -> MazePairs | None:
    """The pairs that the settings ask for; None if they ask for none.

    Args:
        config: the settings of the run.
        environment: the environment of its evaluations; None without evaluation.
        inference: how a zero-shot agent is given tasks; None for other agents.

    Raises:
        InputError: when the run is not in a maze with goals that has geodesics.
    """
    if config.pairs and environment is None:
        print("note: pairs of a start and a goal are not played, because eval_episodes is 0")
    if not config.pairs or environment is None:
        return None
    source, _, name = config.dataset.partition("/")
    is_maze = source == "ogbench" and "maze-" in name and "teleport" not in name
    goals = inference is not None or environment.goal_conditioned
    if not is_maze or not goals or name.startswith("visual") or config.data.num_frames > 1:
        raise InputError(
            f"pairs is {config.pairs}, but {config.dataset or config.environment} is not a goal-conditioned "
            "dataset of a maze of OGBench with vectors as observations and without teleports: leave pairs out"
        )
    if config.reward:
        print("note: pairs of a start and a goal are not played, because the reward is your own")
        return None
    tasks = environments.with_rewards(config.dataset, config.data_dir)
    opened = {task: plots.open_maze(tasks, task) for task in tasks.tasks}
    maze = next(iter(opened.values()))
    space = mazes.free_space(maze)
    pairs = mazes.draw_pairs(space, config.pairs)
    of_goals = inference and inference.of_goals
    return MazePairs(
        pairs=pairs,
        opened=opened,
        space=space,
        environment=_between(environment, pairs),
        tasks=tasks,
        inference=of_goals(pairs.names, plots.observations(pairs.goals, maze.initial), maze.goal_radius)
        if of_goals
        else None,
    )


def _between(environment: Environment, pairs: mazes.Pairs) -> Environment:
    ends = zip(pairs.starts, pairs.goals, strict=True)
    return ogbench.between(environment, dict(zip(pairs.names, ends, strict=True)))


def play(experiment: results.Experiment, found: MazePairs, states: Any) -> Played:
    """Plays the pairs with all members, or reads them if the folder has them; writes pairs.npz.

    Args:
        experiment: the run.
        found: its pairs.
        states: the states of all members after the last update.
    """
    config, path = experiment.config, experiment.workdir / FILE
    if played := read(path, config.steps, len(found.pairs.starts)):
        return played
    of_pairs = experiment._replace(task_inference=found.inference)
    pair_states, task_states = (jax.jit(each.evaluated_states)(states) for each in (of_pairs, experiment))
    policy = rollout.member_policy(
        of_pairs.evaluated_agent, experiment.members.hyperparameters, config.temperature
    )
    successes = _episodes(config, policy, found.environment, pair_states, experiment.members.size, 1)[..., 0]
    chosen = np.random.default_rng(mazes.SEED).permutation(len(found.space.places))[:_PLACES]
    places, starts, goals = (
        found.space.places[chosen],
        *(np.stack([getattr(maze, name) for maze in found.opened.values()]) for name in ("start", "goal")),
    )
    to_pairs, to_tasks = (mazes.geodesics(found.space, each) for each in (found.pairs.goals, goals))
    walkers, in_tasks = (
        np.full((len(mazes.WALKERS), len(each.goals)), np.nan) for each in (to_pairs, to_tasks)
    )
    if config.dataset.startswith("ogbench/pointmaze"):
        walkers = _walk(config, _between(found.tasks, found.pairs), to_pairs, found.pairs.starts, 1)
        in_tasks = _walk(config, found.tasks, to_tasks, starts, config.eval_episodes)

    def compared(values: Callable[[mazes.Geodesics], np.ndarray], found: mazes.Geodesics) -> np.ndarray:
        return mazes.rank_correlation(values(found), found.distances[:, chosen])

    def straight(found: mazes.Geodesics) -> np.ndarray:
        return -np.linalg.norm(places - found.goals[:, None], axis=-1)

    def of_agent(evaluated: results.Experiment, states: Any) -> Callable[[mazes.Geodesics], np.ndarray]:
        return lambda geodesics: _values(evaluated, found, states, places, geodesics.goals)

    played = Played(
        step=np.array(config.steps),
        **found.pairs._asdict(),
        successes=successes,
        walkers=walkers,
        walkers_in_tasks=in_tasks,
        correlations=compared(of_agent(of_pairs, pair_states), to_pairs),
        correlations_in_tasks=compared(of_agent(experiment, task_states), to_tasks),
        straight=compared(straight, to_pairs),
        straight_in_tasks=compared(straight, to_tasks),
        unlabelled=np.array(found.inference.unlabelled if found.inference else 0),
    )
    with files.replacing(path) as file:
        np.savez_compressed(file, **played._asdict())
    return played


def read(path: pathlib.Path, steps: int, count: int) -> Played | None:
    """The pairs that a folder holds from an earlier session of the run; None if it has none of this update.

    Args:
        path: pairs.npz.
        steps: the number of updates of the run.
        count: the number of pairs.

    Raises:
        InputError: when the file cannot be read.
    """
    if not path.exists():
        return None
    with one_line(f"{path} is not a table of pairs", "move it away"), open_npz(path) as table:
        played = Played(**{name: table[name] for name in Played._fields})
    return played if (int(played.step), len(played.starts)) == (steps, count) else None


def _episodes(
    config: RunConfig,
    policy: rollout.MemberPolicy,
    environment: Environment,
    states: Any,
    members: int,
    count: int,
) -> np.ndarray:
    """The successes of M members in episodes of each task, [M, T, count]."""
    evaluator = rollout.Evaluator(
        policy,
        environment,
        num_members=members,
        episodes=count,
        seed=config.seed,
        width=min(max(1, _LANES // members), count * len(environment.tasks)),
        max_steps=config.eval_max_steps,
    )
    with contextlib.closing(evaluator):
        return evaluator(states, config.steps).successes.astype(np.float64)


def _walk(
    config: RunConfig, environment: Environment, found: mazes.Geodesics, starts: np.ndarray, count: int
) -> np.ndarray:
    """The success rates of the walkers in each task, [2, T]."""
    policy = rollout.member_policy(lambda _: mazes.walker(list(environment.tasks)))
    ways = mazes.ways_of_walkers(found, starts)
    return _episodes(config, policy, environment, ways, len(ways), count).mean(-1)


def _values(
    experiment: results.Experiment, found: MazePairs, states: Any, places: np.ndarray, goals: np.ndarray
) -> np.ndarray:
    """V of all members at K places for G goals, [M, G, K]; NaN for an agent without V.

    The goals are those of the tasks that zero-shot agents have inferred or renew.
    """
    hyperparameters = experiment.members.hyperparameters
    shape = experiment.members.size, len(goals), len(places)
    if experiment.build({name: values[0] for name, values in hyperparameters.items()}).value is None:
        return np.full(shape, np.nan)
    maze = next(iter(found.opened.values()))
    observations = jnp.asarray(plots.observations(places, maze.initial))
    wrap: Any = Augmented if experiment.task_inference else GoalConditioned
    if experiment.task_inference:
        given = states.tasks
    else:
        given = jnp.broadcast_to(
            plots.observations(goals, maze.initial), (shape[0], len(goals), len(maze.initial))
        )

    @jax.jit
    def of_members(hyperparameters: Any, states: Any, given: Any) -> Any:
        def of_member(hyperparameters: Any, state: Any, given: Any) -> Any:
            agent: Agent = experiment.evaluated_agent(hyperparameters)

            def of_goal(goal: Any) -> Any:
                repeated = jnp.broadcast_to(goal, (len(places), *goal.shape))
                return agent.value(state, wrap(observations, repeated))

            return jax.lax.map(of_goal, given)

        return jax.vmap(of_member)(hyperparameters, states, given)

    return np.asarray(of_members(hyperparameters, states, given), np.float64)


# result.json.


def add(result: dict[str, Any], members: Population, played: Played) -> None:
    """Adds "pairs" to the content of result.json or to each setting of a sweep, and "references" to it."""
    if "settings" in result:
        for setting, (_, chosen) in zip(result["settings"], members.by_setting(), strict=True):
            setting["pairs"] = entries(played, chosen)
    else:
        result["pairs"] = entries(played, range(members.size))
    tasks = [f"task{number + 1}" for number in range(played.walkers_in_tasks.shape[1])]
    if references := references_in_tasks(played, tasks):
        result["references"] = references


def has_pairs(result: Mapping[str, Any]) -> bool:
    """Whether the content of a result.json has pairs."""
    return "pairs" in result or any("pairs" in setting for setting in result.get("settings", ()))


def entries(played: Played, members: Sequence[int]) -> dict[str, Any]:
    """The entry "pairs" of result.json, or of one setting of a sweep.

    Args:
        played: the results of all members.
        members: the numbers of the members of the setting.
    """
    return {
        "number": len(played.starts),
        "unlabelled_goals": int(played.unlabelled),
        "success": _by_bin(played, played.successes[members]),
        "references": {
            name: _by_bin(played, played.walkers[[number]])
            for number, name in enumerate(mazes.WALKERS)
            if np.isfinite(played.walkers[number]).all()
        },
        "rank_correlation": {
            "pairs": statistics.mean_interval(played.correlations[members]),
            "tasks": statistics.mean_interval(played.correlations_in_tasks[members]),
            "straight": {
                "pairs": float(played.straight.mean()),
                "tasks": float(played.straight_in_tasks.mean()),
            },
            "by_task": played.correlations_in_tasks[members].T.tolist(),
            "straight_by_task": played.straight_in_tasks.tolist(),
        },
    }


def references_in_tasks(played: Played, tasks: list[str]) -> dict[str, dict[str, float]]:
    """The entry "references" of result.json: walker -> task -> success rate; empty outside point mazes."""
    return {
        name: dict(zip(tasks, rates.tolist(), strict=True))
        for name, rates in zip(mazes.WALKERS, played.walkers_in_tasks, strict=True)
        if np.isfinite(rates).all()
    }


def _by_bin(played: Played, successes: np.ndarray) -> dict[str, Any]:
    """Name of a bin -> the interval of the success rate of members [M, P], and the number of pairs."""
    chosen = {name: played.pairs.bins == number for number, name in enumerate(mazes.BINS)}
    return {
        name: {"pairs": int(own.sum()), **statistics.mean_interval(successes[:, own])}
        for name, own in chosen.items()
        if own.any()
    }
