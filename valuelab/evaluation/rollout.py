"""Episodes of many policies at once, one batched policy call a step.

M members (seeds, hyperparameters) each own W lanes; a lane is one environment that takes the next episode
as soon as its last one ends, whatever the other lanes do. What happens in an episode depends only on the
evaluation's seed, the training step, the task and the episode's number, never on lanes or members: all
members meet the same initial states and the same action noise, and W is a matter of speed alone. (The last
bits of a policy's arithmetic may change with the batch shape, and with them chaotic trajectories.)

An agent with a memory is evaluated on each of its commands, in each of the environment's tasks; or, where
its commands are named as the tasks, in each task on its own.

Lanes are stepped one after another. Whether threads would pay is open: MuJoCo gives Python's lock free for
56 % (cube) to 93 % (ant) of a step's CPU time, so two free cores might do up to twice as much, but no quiet
machine was at hand to show it. gymnasium's SyncVectorEnv is not used because it steps all lanes or none,
also those that have no episode left.
"""

import contextlib
import itertools
import operator
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress
from absl import logging

from valuelab import arrays, errors, files, types
from valuelab.configuration import RunConfig


class Recall(NamedTuple):
    """What lanes know of their episodes, for agents with a memory; leading axes are [M, W].

    Attributes:
        memory: the agent's: the chosen one where an episode begins, else that of the step before.
        rewards: of the step before.
        first: bool, whether the episode begins.
    """

    memory: Any
    rewards: Any
    first: Any


class MemberPolicy(NamedTuple):
    """The policies of a population of M agents, each in W lanes.

    Attributes:
        act: (states, observations [M, W, ...] or GoalConditioned of such, keys [M, W], Recall or None) ->
            (actions [M, W, A], memory [M, W, ...] at this step or None).
        choose: (states, observations, commands [M, W, k]) -> memory at the start of episodes.
        agents: [M], where they have a memory; else none.
    """

    act: Callable[[Any, Any, types.Key, Any], tuple[types.Array, Any]]
    choose: Callable[[Any, Any, Any], Any] = None  # type: ignore[assignment] # where agents have a memory
    agents: Sequence[types.Agent] = ()


# Shares a policy call among several steps, and stays few: OGBench's arms take about a second each to make.
_LANES = 4


class Episodes(NamedTuple):
    """What came of an evaluation of M members on T tasks in E episodes each.

    Attributes:
        returns: [M, T, E] undiscounted sums of rewards, over all components where rewards are vectors.
        lengths: [M, T, E] numbers of steps.
        successes: [M, T, E], whether the environment reported success at any step.
        scores: [M, T, E], the metric: the environment's, or the agent's objective where it takes commands.
        trajectories: observations [length + 1, ...] of the recorded episodes, by (member, task, episode).
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray
    scores: np.ndarray
    trajectories: dict[tuple[int, int, int], np.ndarray]


def member_policy(
    build: Callable[[Any], types.Agent], hyperparameters: Any = None, temperature: float = 0.0
) -> MemberPolicy:
    """The policies of a population of agents as functions of all members and lanes.

    Args:
        build: hyperparameters of one member -> its agent; they arrive traced.
        hyperparameters: a pytree of arrays [M]; None where `build` needs none.
        temperature: 0 for the most likely action, 1 for the policy as learnt.

    Returns:
        The functions, for states whose every leaf has leading axis M.
    """

    def act(states: Any, observations: Any, keys: types.Key, recall: Recall | None) -> tuple[Any, Any]:
        def act_as_member(hyperparameters: Any, state: Any, observations: Any, keys: types.Key, recall: Any):
            agent = build(hyperparameters)
            memory = None
            if agent.memory:
                updated = agent.memory.update(recall.memory, recall.rewards)
                memory = jax.tree.map(
                    lambda chosen, new: jax.vmap(jnp.where)(recall.first, chosen, new), recall.memory, updated
                )
                observations = types.Augmented(observations, memory)

            def act_in_lane(observation: Any, key: types.Key) -> types.Array:
                batch = jax.tree.map(lambda array: array[None], observation)
                return agent.act(state, batch, key, temperature)[0]

            return jax.vmap(act_in_lane)(observations, keys), memory

        return jax.vmap(act_as_member)(hyperparameters, states, observations, keys, recall)

    def choose(states: Any, observations: Any, commands: Any) -> Any:
        def choose_as_member(hyperparameters: Any, *inputs: Any) -> Any:
            return build(hyperparameters).memory.choose(*inputs)  # type: ignore[union-attr]

        return jax.vmap(choose_as_member)(hyperparameters, states, observations, commands)

    agents = _members(build, hyperparameters)
    return MemberPolicy(act, choose, agents) if agents[0].memory else MemberPolicy(act)


def _members(build: Callable[[Any], types.Agent], hyperparameters: Any) -> list[types.Agent]:
    """The agents of the members; one stands for all where they do not differ."""
    leaves, structure = jax.tree.flatten(hyperparameters)
    settings = zip(*leaves, strict=True) if leaves else [()]
    return [build(jax.tree.unflatten(structure, values)) for values in settings]


def evaluate(
    agent: types.Agent | Callable[[Any], types.Agent],
    states: Any,
    environment: types.Environment,
    *,
    episodes: int,
    hyperparameters: Any = None,
    temperature: float = 0.0,
    seed: int = 0,
    step: int = 0,
    record: int = 0,
    max_steps: int = RunConfig.eval_max_steps,
) -> Episodes:
    """Evaluates once; to do it again and again, keep an `Evaluator`.

    Args:
        agent: an agent, or what builds one from the hyperparameters of a member.
        states: of M members, as training returns them.
        environment: where to evaluate.
        episodes: E, for each member and task.
        hyperparameters: a pytree of arrays [M], for `agent` where it builds.
        temperature: 0 for the most likely action, 1 for the policy as learnt.
        seed: of the evaluation.
        step: the training step; other steps see other episodes.
        record: of how many first episodes of each member and task to keep the trajectory.
        max_steps: steps after which an episode that does not end by itself is cut, with a warning.

    Returns:
        The episodes.
    """
    build = (lambda _: agent) if isinstance(agent, types.Agent) else agent
    evaluator = Evaluator(
        member_policy(build, hyperparameters, temperature),
        environment,
        num_members=len(jax.tree.leaves(states)[0]),
        episodes=episodes,
        seed=seed,
        record=record,
        max_steps=max_steps,
    )
    with contextlib.closing(evaluator):
        return evaluator(states, step)


class Evaluator:
    """Evaluates again and again, and keeps its environments in between; close it in the end.

    Calling it with (states, step) plays E episodes of every task with every member.
    """

    def __init__(
        self,
        policy: MemberPolicy,
        environment: types.Environment,
        *,
        num_members: int,
        episodes: int,
        seed: int,
        width: int | None = None,
        record: int = 0,
        max_steps: int = RunConfig.eval_max_steps,
        progress: rich.progress.Progress | None = None,
    ):
        """Makes M x W environments.

        Args:
            policy: see `member_policy`; compiled here, once.
            environment: where to evaluate.
            num_members: M.
            episodes: E, for each member and task.
            seed: of the evaluation; training draws from others.
            width: W; chosen if None.
            record: of how many first episodes of each member and task to keep the trajectory.
            max_steps: steps after which an episode that does not end by itself is cut, with a warning.
            progress: a bar to show episodes in; it appears for each evaluation and goes after it.

        Raises:
            InputError: when a number is not positive.
        """
        self._tasks = task_names(environment, policy.agents)
        jobs = episodes * len(self._tasks)
        width = min(max(1, _LANES // max(1, num_members)), jobs) if width is None else width
        for name, value in (
            ("num_members", num_members),
            ("episodes", episodes),
            ("width", width),
            ("max_steps", max_steps),
        ):
            if value < 1:
                raise errors.InputError(f"{name} is {value}: evaluation needs at least 1")
        self._options = list(environment.tasks.values())
        agents = list(policy.agents) * (1 if len(policy.agents) > 1 else num_members)
        self._memories = [agent.memory for agent in agents if agent.memory]
        self._asks_score = bool(self._memories) and self._memories[0].score is not None
        self._score = environment.score
        self._no_reward = np.zeros(
            (environment.reward_dim,) if environment.reward_dim > 1 else (), np.float32
        )
        self._episodes = episodes
        self._seed = seed
        self._record = record
        self._max_steps = max_steps
        self._name = environment.name
        self._progress = progress
        self._act = jax.jit(
            lambda states, observations, seeds, times, recall: policy.act(
                states, observations, jax.vmap(jax.vmap(_action_key))(seeds, times), recall
            )
        )
        self._choose = policy.choose and jax.jit(policy.choose)
        self._lanes = [
            [_Lane(environment.make(), environment.goal_conditioned) for _ in range(min(width, jobs))]
            for _ in range(num_members)
        ]

    def __call__(self, states: Any, step: int) -> Episodes:
        """Plays every episode of one evaluation.

        Args:
            states: what `act` takes; may differ from call to call in values, not in shapes.
            step: the training step; other steps see other episodes.

        Returns:
            The episodes.
        """
        shape = (len(self._lanes), len(self._tasks), self._episodes)
        episodes = Episodes(
            np.zeros(shape), np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape), {}
        )
        # Tasks take turns, so that the long episodes of a hard one do not all come last.
        waiting = [itertools.product(range(self._episodes), range(len(self._tasks))) for _ in self._lanes]
        for lanes, jobs in zip(self._lanes, waiting, strict=True):
            for lane in lanes:
                self._start_next(lane, jobs, step)
        num_cut = 0
        with _bar(self._progress, int(np.prod(shape))) as advance:
            while any(lane.busy for lane in itertools.chain(*self._lanes)):
                actions = self._actions(states)
                for member, (lanes, jobs) in enumerate(zip(self._lanes, waiting, strict=True)):
                    for lane, action in zip(lanes, actions[member], strict=True):
                        if not lane.busy:
                            continue
                        ended = lane.step(action)
                        if ended or lane.length == self._max_steps:
                            num_cut += not ended
                            self._note(episodes, member, lane)
                            self._start_next(lane, jobs, step)
                            advance()
        if num_cut:
            logging.warning(
                "%d episodes in %s did not end by themselves and were cut after %d steps (eval_max_steps)",
                *(num_cut, self._name, self._max_steps),
            )
        return episodes

    def close(self) -> None:
        """Closes the environments."""
        for lane in itertools.chain(*self._lanes):
            lane.environment.close()

    def _start_next(self, lane: "_Lane", jobs: Iterator[tuple[int, int]], step: int) -> None:
        """Starts the next waiting (episode, task) in a lane, or leaves the lane idle when there is none."""
        lane.busy = False
        for episode, task in itertools.islice(jobs, 1):
            # Commands share the episodes of a task: the same initial states for each of them.
            number = task * len(self._options) // len(self._tasks)
            seed = episode_seed(self._seed, step, number, episode)
            lane.start(episode, task, seed, self._options[number], record=episode < self._record)

    def _actions(self, states: Any) -> np.ndarray:
        """The policy's actions [M, W, ...] in all lanes; what idle lanes get is not used."""
        lanes = list(itertools.chain(*self._lanes))
        observations = self._stack([lane.seen for lane in lanes])
        seeds = self._stack([np.uint32(lane.seed) for lane in lanes])
        times = self._stack([np.uint32(lane.length) for lane in lanes])
        recall = self._recall(states, observations, times == 0) if self._memories else None
        actions, memory = self._act(states, observations, seeds, times, recall)
        self._keep(memory)
        actions = np.asarray(actions)
        space = lanes[0].environment.action_space
        if actions.shape[2:] != space.shape:  # numpy would repeat one number for all
            raise errors.InputError(
                f"the agent's actions have shape {actions.shape[2:]}, and the environment's {space.shape}: "
                "evaluate in an environment like that of its data"
            )
        self._check_actions(actions.reshape(len(lanes), *space.shape), lanes)
        # Policies keep to the bounds up to rounding; noise added at a temperature may not.
        return actions if space.shape == () else np.clip(actions, space.low, space.high)

    def _check_actions(self, actions: np.ndarray, lanes: Sequence["_Lane"]) -> None:
        """Raises with the first action, of lanes that play, that is not finite or no choice that there is."""
        space = lanes[0].environment.action_space
        if space.shape != ():
            wrong, wanted = ~np.isfinite(actions), "finite numbers"
        else:
            start, count = getattr(space, "start", 0), space.n
            wanted = f"whole numbers from {start} to {start + count - 1}"
            wrong = (actions < start) | (actions >= start + count) | (actions != np.floor(actions))
            wrong |= ~np.isfinite(actions)
        for index, lane in enumerate(lanes):
            if lane.busy and wrong[index].any():
                number = index // len(self._lanes[0])
                member = f" (member {number})" if len(self._lanes) > 1 else ""
                raise errors.InputError(
                    f"the agent's action is {actions[index].tolist()} at step {lane.length} of episode "
                    f"{lane.episode} of task {self._tasks[lane.task]}{member}, where {wanted} are "
                    "expected: look at its act"
                )

    def _stack(self, leaves: Sequence[Any]) -> Any:
        """What lanes hold, as arrays [M, W, ...]."""
        shape = len(self._lanes), len(self._lanes[0])
        return jax.tree.map(lambda *lanes: np.stack(lanes).reshape(*shape, *np.shape(lanes[0])), *leaves)

    def _recall(self, states: Any, observations: Any, first: np.ndarray) -> Recall:
        """What the lanes know of their episodes; where these begin, memory is chosen."""
        lanes = list(itertools.chain(*self._lanes))
        if first.any():
            commands = self._stack(
                [self._command(member, lane.task) for member, own in enumerate(self._lanes) for lane in own]
            )
            self._keep(self._choose(states, observations, commands), first)
        rewards = [lane.rewards[-1] if lane.rewards else self._no_reward for lane in lanes]
        return Recall(
            self._stack([lane.memory for lane in lanes]), self._stack(rewards).astype(np.float32), first
        )

    def _keep(self, memory: Any, first: np.ndarray | None = None) -> None:
        """Gives lanes their memory: that of this step to all, or the chosen one to those that begin."""
        memory = jax.tree.map(np.asarray, memory)
        for index in np.ndindex(len(self._lanes), len(self._lanes[0])):
            if first is None or first[index]:
                lane = self._lanes[index[0]][index[1]]
                lane.memory = jax.tree.map(operator.itemgetter(index), memory)
                lane.first_memory = lane.memory if first is not None else lane.first_memory

    def _command(self, member: int, task: int) -> np.ndarray:
        """What a member is asked for in a task."""
        commands = list(self._memories[member].commands.values())
        return np.asarray(commands[task % len(commands)], np.float32)

    def _note(self, episodes: Episodes, member: int, lane: "_Lane") -> None:
        """Writes a finished episode down."""
        index = (member, lane.task, lane.episode)
        rewards = np.stack(lane.rewards)
        episodes.returns[index] = rewards.sum()
        episodes.lengths[index] = lane.length
        episodes.successes[index] = lane.success
        episodes.scores[index] = (
            self._objective(member, lane, rewards)
            if self._asks_score
            else self._score(float(rewards.sum()), lane.success)
        )
        if lane.trajectory:
            episodes.trajectories[index] = np.stack(lane.trajectory)

    def _objective(self, member: int, lane: "_Lane", rewards: np.ndarray) -> float:
        """What an episode scores for the command that the member was given."""
        memory = self._memories[member]
        discounted = np.power(float(memory.discount), np.arange(len(rewards))) @ rewards
        given = self._command(member, lane.task), lane.first_memory, np.float32(discounted)
        return float(memory.score(*jax.tree.map(lambda leaf: leaf[None], given))[0])  # type: ignore[misc]


def task_names(environment: types.Environment, agents: Sequence[types.Agent]) -> list[str]:
    """Names of what is evaluated: the environment's tasks, each with each command of agents with a memory.

    Commands named as the tasks are each for their own.
    """
    tasks = list(environment.tasks)
    commands = list(agents[0].memory.commands) if agents and agents[0].memory else []
    if commands == tasks or (len(tasks) == 1 and commands):
        return commands
    return [f"{task}/{command}" for task in tasks for command in commands] or tasks


class _Lane:
    """One environment and the episode that is under way in it.

    Attributes:
        environment: the gymnasium.Env.
        busy: whether an episode is under way.
        episode: its number.
        task: the number of its task.
        seed: what its initial state and action noise are drawn from.
        seen: the last observation, with the goal in goal-conditioned tasks.
        length: steps taken.
        rewards: received so far.
        success: whether the environment reported success.
        memory: the agent's at this step, where it has one.
        first_memory: the agent's at the start.
        trajectory: observations so far, empty unless recorded.
    """

    def __init__(self, environment: Any, goal_conditioned: bool):
        self.environment = environment
        self.busy = False
        self.memory: Any = None
        self.first_memory: Any = None
        self._goal_conditioned = goal_conditioned

    def start(self, episode: int, task: int, seed: int, options: dict[str, Any] | None, record: bool) -> None:
        """Starts an episode."""
        observation, info = self.environment.reset(seed=seed, options=options)
        self.busy, self.episode, self.task, self.seed = True, episode, task, seed
        self.length, self.success = 0, False
        self.rewards: list[np.ndarray] = []
        self._goal = _as_in_data(info["goal"]) if self._goal_conditioned else None
        self.trajectory: list[np.ndarray] = []
        self._record = record
        self._see(observation)

    def step(self, action: np.ndarray) -> bool:
        """Takes a step; returns whether the episode ended with it."""
        observation, reward, terminated, truncated, info = self.environment.step(action)
        self.length += 1
        self.rewards.append(np.asarray(reward, np.float64))
        self.success |= bool(info.get("success", False))
        self._see(observation)
        return terminated or truncated

    def _see(self, observation: Any) -> None:
        observation = _as_in_data(observation)
        self.seen = observation if self._goal is None else types.GoalConditioned(observation, self._goal)
        if self._record:
            self.trajectory.append(observation)


def episode_seed(seed: int, step: int, task: int, episode: int) -> int:
    """The number that decides an episode's initial state and action noise: 31 bits, alike for all members.

    Args:
        seed: of the evaluation.
        step: the training step.
        task: the task's number.
        episode: the episode's number.
    """
    return int(np.random.SeedSequence((seed, step, task, episode)).generate_state(1)[0] >> 1)


def save_episodes(path: str | os.PathLike[str], episodes: Episodes, step: int, tasks: Sequence[str]) -> None:
    """Adds an evaluation to a run's table of episodes; the file is whole at any moment.

    Columns of equal length: "step", "member", "task", "episode", "return", "length", "success", "score". Rows
    of the same or a later step, left by a run that was killed and resumed from before, are dropped.

    Args:
        path: of the .npz file; made when it is not there.
        episodes: the evaluation.
        step: the training step.
        tasks: names of the tasks [T].

    Raises:
        InputError: when the file is there and is no such table.
    """
    path = pathlib.Path(path)
    members, task_numbers, numbers = (axis.ravel() for axis in np.indices(episodes.scores.shape))
    table: dict[str, Any] = {
        "step": np.full(members.size, step),
        "member": members,
        "task": np.array(tasks)[task_numbers],
        "episode": numbers,
        "return": episodes.returns.ravel(),
        "length": episodes.lengths.ravel(),
        "success": episodes.successes.ravel(),
        "score": episodes.scores.ravel(),
    }
    if path.exists():
        earlier = _read_episodes(path, list(table))
        before = earlier["step"] < step
        table = {name: np.concatenate([earlier[name][before], column]) for name, column in table.items()}
    with files.replacing(path) as file:
        np.savez_compressed(file, **table)


def has_episodes(path: pathlib.Path, step: int) -> bool:
    """Whether a run's table of episodes holds the evaluation of a step; InputError where it is no table."""
    return path.exists() and step in _read_episodes(path, ["step"])["step"]


def _read_episodes(path: pathlib.Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a table of episodes."""
    with errors.one_line(f"{path} is no table of episodes", "move it away"):
        files.check_regular(path)
        with arrays.open_npz(path) as file:
            return {name: file[name] for name in columns}


def _action_key(seed: types.Array, time: types.Array) -> types.Key:
    """The key of an action: one stream an episode, one key a step."""
    return jax.random.fold_in(jax.random.key(seed), time)


def _as_in_data(observation: Any) -> Any:
    """An observation in the dtype that datasets have: bytes for pixels, float32 for all else."""
    observation = np.asarray(observation)
    return observation if observation.dtype == np.uint8 else observation.astype(np.float32)


@contextlib.contextmanager
def _bar(progress: rich.progress.Progress | None, total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar for as long as the block runs; yields what moves it one on."""
    if progress is None:
        yield lambda: None
        return
    task = progress.add_task("evaluation", total=total)
    try:
        yield lambda: progress.advance(task)
    finally:
        progress.remove_task(task)
