"""Episodes of many policies at once, with one batched policy call for each step.

M members (seeds, hyperparameters) each own W lanes. A lane is one environment; it starts its next episode as
soon as its last one ends, whatever the other lanes do. An episode depends only on the evaluation's seed, the
training step, the task and the episode's number, not on lanes or members: all members start from the same
initial states with the same action noise, and W affects only speed. (The last bits of a policy's arithmetic
may change with the batch shape, and so may chaotic trajectories.)

An agent with a memory is evaluated on each of its commands in each of the environment's tasks. If its
commands have the names of the tasks, it is evaluated on each command in the task of that name.

Lanes are stepped one after another, in one thread. MuJoCo releases Python's lock for 56 % (cube) to 93 %
(ant) of a step's CPU time, so threads may be faster; this was not measured. gymnasium's SyncVectorEnv is not
used because it steps all lanes or none, including lanes that have no episode left.
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


class MemoryInputs(NamedTuple):
    """The inputs from which agents with a memory compute it at each step; leading axes are [M, W].

    Attributes:
        memory: at an episode's first step the memory that the agent chose, else that of the previous step.
        rewards: rewards of the previous step.
        first: bool, whether this is the first step of an episode.
    """

    memory: Any
    rewards: Any
    first: Any


class MemberPolicy(NamedTuple):
    """The policies of a population of M agents, each in W lanes.

    Attributes:
        act: (states, observations [M, W, ...] or GoalConditioned of such, keys [M, W], MemoryInputs or None)
            -> (actions [M, W, A], memory [M, W, ...] at this step or None).
        choose: (states, observations, commands [M, W, k]) -> memory at the first step of episodes; None for
            agents without a memory.
        agents: [M], or one for all members if they are alike; () for agents without a memory.
    """

    act: Callable[[Any, Any, types.Key, Any], tuple[types.Array, Any]]
    choose: Callable[[Any, Any, Any], Any] = None  # type: ignore[assignment]
    agents: Sequence[types.Agent] = ()


_LANES = 4
"""Default number of lanes: several share a policy call, but each of OGBench's arms takes a second to make."""


class Episodes(NamedTuple):
    """The result of an evaluation of M members on T tasks in E episodes each.

    Attributes:
        returns: [M, T, E], undiscounted sums of rewards, over all components of vector rewards.
        lengths: [M, T, E], numbers of steps.
        successes: [M, T, E], whether the environment reported success at any step.
        scores: [M, T, E], the environment's metric, or the agent's objective if it takes commands.
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
        build: hyperparameters of one member (traced) -> its agent.
        hyperparameters: a pytree of arrays [M]; None if `build` does not use them.
        temperature: 0 for the most likely action, 1 for the policy as learnt.

    Returns:
        The functions; they take states with leading axis M.
    """

    def act(states: Any, observations: Any, keys: types.Key, inputs: MemoryInputs | None) -> tuple[Any, Any]:
        def act_as_member(hyperparameters: Any, state: Any, observations: Any, keys: types.Key, inputs: Any):
            agent = build(hyperparameters)
            memory = None
            if agent.memory:
                updated = agent.memory.update(inputs.memory, inputs.rewards)
                memory = jax.tree.map(
                    lambda chosen, new: jax.vmap(jnp.where)(inputs.first, chosen, new), inputs.memory, updated
                )
                observations = types.Augmented(observations=observations, memory=memory)

            def act_in_lane(observation: Any, key: types.Key) -> types.Array:
                batch = jax.tree.map(lambda array: array[None], observation)
                return agent.act(state, batch, key, temperature)[0]

            return jax.vmap(act_in_lane)(observations, keys), memory

        return jax.vmap(act_as_member)(hyperparameters, states, observations, keys, inputs)

    def choose(states: Any, observations: Any, commands: Any) -> Any:
        def choose_as_member(hyperparameters: Any, *inputs: Any) -> Any:
            return build(hyperparameters).memory.choose(*inputs)  # type: ignore[union-attr]

        return jax.vmap(choose_as_member)(hyperparameters, states, observations, commands)

    agents = _members(build, hyperparameters)
    return MemberPolicy(act=act, choose=choose, agents=agents) if agents[0].memory else MemberPolicy(act=act)


def _members(build: Callable[[Any], types.Agent], hyperparameters: Any) -> list[types.Agent]:
    """The agents of the members; a single one if they have no hyperparameters."""
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
    """Evaluates once. For repeated evaluations keep an `Evaluator`.

    Args:
        agent: an agent, or a function that builds one from the hyperparameters of a member.
        states: the states of M members, as training returns them.
        environment: the environment.
        episodes: E, for each member and task.
        hyperparameters: a pytree of arrays [M], given to `agent` if it is a function.
        temperature: 0 for the most likely action, 1 for the policy as learnt.
        seed: the seed of the evaluation.
        step: the training step; different steps play different episodes.
        record: the number of first episodes of each member and task whose trajectories are kept.
        max_steps: an episode that does not end within this number of steps is cut, with a warning.

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
    """Evaluates repeatedly with the same environments; close it after the last evaluation.

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
            policy: see `member_policy`; compiled once.
            environment: the environment.
            num_members: M.
            episodes: E, for each member and task.
            seed: the seed of the evaluation; training uses other random streams.
            width: W; None for a default.
            record: the number of first episodes of each member and task whose trajectories are kept.
            max_steps: an episode that does not end within this number of steps is cut, with a warning.
            progress: shows a bar of episodes during each evaluation; None for no bar.

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
                raise errors.InputError(f"{name} is {value}: give at least 1")
        self._options = list(environment.tasks.values())
        agents = list(policy.agents) * (1 if len(policy.agents) > 1 else num_members)
        self._memories = [agent.memory for agent in agents if agent.memory]
        self._has_objective = bool(self._memories) and self._memories[0].score is not None
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
            lambda states, observations, seeds, times, inputs: policy.act(
                states, observations, jax.vmap(jax.vmap(_action_key))(seeds, times), inputs
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
            states: the states that `act` takes, of the same shapes in every call.
            step: the training step; different steps play different episodes.

        Returns:
            The episodes.
        """
        shape = (len(self._lanes), len(self._tasks), self._episodes)
        episodes = Episodes(
            returns=np.zeros(shape),
            lengths=np.zeros(shape, np.int32),
            successes=np.zeros(shape, bool),
            scores=np.zeros(shape),
            trajectories={},
        )
        # Tasks take turns, so that the long episodes of a hard task are not all played at the end.
        waiting = [itertools.product(range(self._episodes), range(len(self._tasks))) for _ in self._lanes]
        for member, (lanes, jobs) in enumerate(zip(self._lanes, waiting, strict=True)):
            for lane in lanes:
                self._start_next(lane, jobs, step, member)
        num_cut = 0
        with _bar(self._progress, int(np.prod(shape))) as advance:
            while any(lane.busy for lane in itertools.chain(*self._lanes)):
                actions = self._actions(states)
                for member, (lanes, jobs) in enumerate(zip(self._lanes, waiting, strict=True)):
                    for lane, action in zip(lanes, actions[member], strict=True):
                        if not lane.busy:
                            continue
                        with self._located_errors(lane, member):
                            ended = lane.step(action)
                        if ended or lane.length == self._max_steps:
                            num_cut += not ended
                            self._store(episodes, member, lane)
                            self._start_next(lane, jobs, step, member)
                            advance()
        if num_cut:
            logging.warning(
                "%d episode%s in %s did not end and %s cut after %d steps (eval_max_steps)",
                *(num_cut, *(("", self._name, "was") if num_cut == 1 else ("s", self._name, "were"))),
                self._max_steps,
            )
        return episodes

    def close(self) -> None:
        """Closes the environments."""
        for lane in itertools.chain(*self._lanes):
            lane.environment.close()

    def _start_next(self, lane: "_Lane", jobs: Iterator[tuple[int, int]], step: int, member: int) -> None:
        """Starts the next waiting (episode, task) in a lane; the lane is idle if there is none."""
        lane.busy = False
        for episode, task in itertools.islice(jobs, 1):
            # All commands of a task have the same episode seeds, and so the same initial states.
            number = task * len(self._options) // len(self._tasks)
            seed = episode_seed(self._seed, step, number, episode)
            lane.busy, lane.episode, lane.task, lane.seed, lane.length = True, episode, task, seed, 0
            with self._located_errors(lane, member):
                lane.start(self._options[number], record=episode < self._record)

    def _actions(self, states: Any) -> np.ndarray:
        """The policy's actions [M, W, ...] in all lanes; those of idle lanes are not used."""
        lanes = list(itertools.chain(*self._lanes))
        observations = self._stack([lane.observation for lane in lanes])
        seeds = self._stack([np.uint32(lane.seed) for lane in lanes])
        times = self._stack([np.uint32(lane.length) for lane in lanes])
        inputs = self._memory_inputs(states, observations, times == 0) if self._memories else None
        actions, memory = self._act(states, observations, seeds, times, inputs)
        self._set_memories(memory)
        actions = np.asarray(actions)
        space = lanes[0].environment.action_space
        if actions.shape[2:] != space.shape:  # numpy would broadcast a single number
            raise errors.InputError(
                f"the agent's actions have shape {actions.shape[2:]}, but those of the environment "
                f"have {space.shape}: evaluate in an environment like that of the agent's data"
            )
        self._check_actions(actions.reshape(len(lanes), *space.shape), lanes)
        # Actions can exceed the bounds by rounding, or by noise that a temperature adds.
        return actions if space.shape == () else np.clip(actions, space.low, space.high)

    def _check_actions(self, actions: np.ndarray, lanes: Sequence["_Lane"]) -> None:
        """Raises for the first action of a busy lane that is not finite or not a valid discrete action."""
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
                raise errors.InputError(
                    f"the agent's action is {actions[index].tolist()} at "
                    f"{self._place(lane, index // len(self._lanes[0]))}, where {wanted} are expected: "
                    "check the agent's act"
                )

    @contextlib.contextmanager
    def _located_errors(self, lane: "_Lane", member: int) -> Iterator[None]:
        """Turns an exception of a simulator into an InputError that names the step of the episode."""
        try:
            yield
        except errors.InputError:
            raise
        except Exception as error:
            raise errors.InputError(
                f"{self._name} failed at {self._place(lane, member)} ({errors.located(error)}): fix the "
                "environment"
            ) from error

    def _place(self, lane: "_Lane", member: int) -> str:
        """The step that a lane is about to take, for messages; step 0 follows the reset."""
        of_member = f" (member {member})" if len(self._lanes) > 1 else ""
        return f"step {lane.length} of episode {lane.episode} of task {self._tasks[lane.task]}{of_member}"

    def _stack(self, leaves: Sequence[Any]) -> Any:
        """Stacks one value of each lane to arrays [M, W, ...]."""
        shape = len(self._lanes), len(self._lanes[0])
        return jax.tree.map(lambda *lanes: np.stack(lanes).reshape(*shape, *np.shape(lanes[0])), *leaves)

    def _memory_inputs(self, states: Any, observations: Any, first: np.ndarray) -> MemoryInputs:
        """The inputs of the agents' memories; where an episode begins, the agent chooses its memory."""
        lanes = list(itertools.chain(*self._lanes))
        if first.any():
            commands = self._stack(
                [self._command(member, lane.task) for member, own in enumerate(self._lanes) for lane in own]
            )
            self._set_memories(self._choose(states, observations, commands), first)
        rewards = [lane.rewards[-1] if lane.rewards else self._no_reward for lane in lanes]
        return MemoryInputs(
            memory=self._stack([lane.memory for lane in lanes]),
            rewards=self._stack(rewards).astype(np.float32),
            first=first,
        )

    def _set_memories(self, memory: Any, first: np.ndarray | None = None) -> None:
        """Sets the memory of all lanes, or, with `first`, of the lanes whose episode begins."""
        memory = jax.tree.map(np.asarray, memory)
        for index in np.ndindex(len(self._lanes), len(self._lanes[0])):
            if first is None or first[index]:
                lane = self._lanes[index[0]][index[1]]
                lane.memory = jax.tree.map(operator.itemgetter(index), memory)
                lane.first_memory = lane.memory if first is not None else lane.first_memory

    def _command(self, member: int, task: int) -> np.ndarray:
        """The command that a member gets in a task."""
        commands = list(self._memories[member].commands.values())
        return np.asarray(commands[task % len(commands)], np.float32)

    def _store(self, episodes: Episodes, member: int, lane: "_Lane") -> None:
        """Stores the results of a finished episode."""
        index = (member, lane.task, lane.episode)
        rewards = np.stack(lane.rewards)
        episodes.returns[index] = rewards.sum()
        episodes.lengths[index] = lane.length
        episodes.successes[index] = lane.success
        episodes.scores[index] = (
            self._objective(member, lane, rewards)
            if self._has_objective
            else self._score(float(rewards.sum()), lane.success)
        )
        if lane.trajectory:
            episodes.trajectories[index] = np.stack(lane.trajectory)

    def _objective(self, member: int, lane: "_Lane", rewards: np.ndarray) -> float:
        """The score of an episode by the objective that the member's command asks for."""
        memory = self._memories[member]
        discounted = np.power(float(memory.discount), np.arange(len(rewards))) @ rewards
        given = self._command(member, lane.task), lane.first_memory, np.float32(discounted)
        return float(memory.score(*jax.tree.map(lambda leaf: leaf[None], given))[0])  # type: ignore[misc]


def task_names(environment: types.Environment, agents: Sequence[types.Agent]) -> list[str]:
    """The names of evaluated tasks: TASK, or TASK/COMMAND for every pair if agents take commands.

    They are the commands alone if there is one task, or if commands have the names of the tasks; each
    command is then evaluated only in the task of its name.
    """
    tasks = list(environment.tasks)
    commands = list(agents[0].memory.commands) if agents and agents[0].memory else []
    if commands == tasks or (len(tasks) == 1 and commands):
        return commands
    return [f"{task}/{command}" for task in tasks for command in commands] or tasks


class _Lane:
    """One environment and its current episode.

    Attributes:
        environment: the gymnasium.Env.
        busy: whether an episode is in progress.
        episode: the number of the episode.
        task: the number of its task.
        seed: the seed of its initial state and action noise.
        observation: the last observation, with the goal in goal-conditioned tasks.
        length: number of steps so far.
        rewards: rewards so far.
        success: whether the environment has reported success.
        memory: the agent's memory at this step, if it has one.
        first_memory: the agent's memory at the first step.
        trajectory: observations so far; empty unless recorded.
    """

    def __init__(self, environment: Any, goal_conditioned: bool):
        self.environment = environment
        self.busy = False
        self.episode = self.task = self.seed = self.length = 0
        self.memory: Any = None
        self.first_memory: Any = None
        self._goal_conditioned = goal_conditioned

    def start(self, options: dict[str, Any] | None, record: bool) -> None:
        """Starts an episode."""
        observation, info = self.environment.reset(seed=self.seed, options=options)
        self.success = False
        self.rewards: list[np.ndarray] = []
        self._goal = _as_in_data(info["goal"]) if self._goal_conditioned else None
        self.trajectory: list[np.ndarray] = []
        self._record = record
        self._observe(observation)

    def step(self, action: np.ndarray) -> bool:
        """Takes a step; returns whether the episode ended."""
        observation, reward, terminated, truncated, info = self.environment.step(action)
        self.length += 1
        self.rewards.append(np.asarray(reward, np.float64))
        self.success |= bool(info.get("success", False))
        self._observe(observation)
        return terminated or truncated

    def _observe(self, observation: Any) -> None:
        array = _as_in_data(observation)
        self.observation: Any = array
        if self._goal is not None:
            self.observation = types.GoalConditioned(observations=array, goals=self._goal)
        if self._record:
            self.trajectory.append(array)


def episode_seed(seed: int, step: int, task: int, episode: int) -> int:
    """The seed of an episode's initial state and action noise, 31 bits, the same for all members.

    Args:
        seed: the seed of the evaluation.
        step: the training step.
        task: the number of the task.
        episode: the number of the episode.
    """
    return int(np.random.SeedSequence((seed, step, task, episode)).generate_state(1)[0] >> 1)


def save_episodes(path: str | os.PathLike[str], episodes: Episodes, step: int, tasks: Sequence[str]) -> None:
    """Adds an evaluation to a run's table of episodes; the file is replaced atomically.

    Columns of equal length: "step", "member", "task", "episode", "return", "length", "success", "score". Rows
    of the same or a later step are dropped: a run that was killed and resumed plays them again.

    Args:
        path: the .npz file, which need not exist.
        episodes: the evaluation.
        step: the training step.
        tasks: [T], names of the tasks.

    Raises:
        InputError: when the file exists but is not such a table.
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
    """Whether a run's table of episodes has the evaluation of a step; InputError if it is not a table."""
    return path.exists() and step in _read_episodes(path, ["step"])["step"]


def drop_episodes(path: pathlib.Path, step: int) -> None:
    """Removes the evaluations after a step from a run's table of episodes.

    Args:
        path: the .npz file; if it does not exist or has no such rows, nothing is done.
        step: the last step that is kept.

    Raises:
        InputError: when the file is not such a table.
    """
    if not path.exists():
        return
    with errors.one_line(f"{path} is not a table of episodes", "move it away"):
        files.check_regular(path)
        with arrays.open_npz(path) as file:
            table: dict[str, Any] = {name: file[name] for name in file}
        kept = table["step"] <= step
    if not kept.all():
        with files.replacing(path) as file:
            np.savez_compressed(file, **{name: column[kept] for name, column in table.items()})


def _read_episodes(path: pathlib.Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a table of episodes."""
    with errors.one_line(f"{path} is not a table of episodes", "move it away"):
        files.check_regular(path)
        with arrays.open_npz(path) as file:
            return {name: file[name] for name in columns}


def _action_key(seed: types.Array, time: types.Array) -> types.Key:
    """The random key of an action: one stream for each episode, one key for each step."""
    return jax.random.fold_in(jax.random.key(seed), time)


def _as_in_data(observation: Any) -> Any:
    """An observation in the dtype of datasets: uint8 for pixels, float32 for all else."""
    observation = np.asarray(observation)
    return observation if observation.dtype == np.uint8 else observation.astype(np.float32)


@contextlib.contextmanager
def _bar(progress: rich.progress.Progress | None, total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar while the block runs; yields a function that advances it by one episode."""
    if progress is None:
        yield lambda: None
        return
    task = progress.add_task("evaluation", total=total)
    try:
        yield lambda: progress.advance(task)
    finally:
        progress.remove_task(task)
