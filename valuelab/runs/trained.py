"""A trained run, read from its workdir: its agents act again, without the data."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import configuration, environments
from valuelab.agents import command_objectives, zero_shot
from valuelab.agents.eta_network import EtaNetworkConfig
from valuelab.configuration import Population, RunConfig
from valuelab.environments import frames
from valuelab.environments.interface import Interface, of_data
from valuelab.environments.rewarded import Reward
from valuelab.errors import InputError, unknown
from valuelab.evaluation import rollout
from valuelab.evaluation.rollout import Episodes
from valuelab.files import local_path, read_json
from valuelab.observation_parts import pack, packed_size, unpack
from valuelab.runs import inputs, outputs, own_rewards, results, saved
from valuelab.runs.saved import SavedRun
from valuelab.runs.trained_policies import CommandPolicy, TrainedPolicy
from valuelab.runs.zero_shot import infer_from_labels
from valuelab.runs.zero_shot_settings import ZeroShotRunConfig
from valuelab.training import logs
from valuelab.types import Agent, Environment, Normalization, Spec

_CHUNK = 8192
"""The number of transitions whose scores of a goal are computed together, which bounds the memory."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """A trained run of M members: their agents, and the states that the agents have learnt.

    Attributes:
        workdir: folder of the run; None where it was not kept.
        config: the settings of the run.
        members: the population that was trained side by side.
        build: swept values of one member -> its agent, which takes and gives the units of the data.
        spec: what the agents know of their data.
        normalization: how they see them.
        step: number of updates after which the states were saved.
        states: the agents' states, every leaf [M, ...].
        rows: lines of metrics.jsonl: a dict for each event and member.
        result: the content of result.json; None where the run has not ended.
        trusted: whether files and packages of the user that the settings name may be executed.

    Example:
        >>> import valuelab as vl
        >>> run = vl.load(workdir)
        >>> run.policy()(np.zeros(2)).shape
        (2,)
    """

    workdir: pathlib.Path | None
    config: RunConfig
    members: Population
    build: Callable[[Mapping[str, Any]], Agent]
    spec: Spec
    normalization: Normalization
    step: int
    states: Any
    rows: list[logs.Row]
    result: dict[str, Any] | None
    trusted: bool = False

    def __repr__(self) -> str:
        where, size = self.config.dataset or self.config.environment, self.members.size
        return (
            f"TrainedRun({self.config.agent_name} on {where}, {size} member{'s' * (size != 1)}, "
            f"step {self.step} of {self.config.steps})"
        )

    @property
    def interface(self) -> Interface:
        """Observations, actions, rewards and goals that the agents know, in the units of the data."""
        name = self.config.dataset or self.config.environment
        return of_data(name, self.spec, self.normalization)

    # Members.

    def hyperparameters(self, member: int = 0) -> dict[str, np.ndarray]:
        """The swept values of one member, by dotted name; empty without a sweep."""
        self._check(member)
        return {name: values[member] for name, values in self.members.hyperparameters.items()}

    def agent(self, member: int = 0) -> Agent:
        """The agent of one member, which takes and gives the units of the data."""
        return self.build(self.hyperparameters(member))

    def state(self, member: int = 0) -> Any:
        """The state of one member, as `Agent.act` takes it."""
        self._check(member)
        return jax.tree.map(lambda leaf: leaf[member], self.states)

    def member(self, number: int | None = None, /, **settings: float) -> "TrainedRun":
        """The run of one member alone.

        Args:
            number: number of the member, from 0 on.
            **settings: instead of the number, its swept values by name and its seed, such as
                `run.member(**{"agent.expectile": 0.9}, seed=1)`. They must fit one member only.

        Raises:
            InputError: when there is no such member, or there are several.
        """
        if number is None:
            number = self._number(settings)
        elif settings:
            raise InputError("member is given by its number and by settings: give one of them")
        self._check(number)
        chosen = slice(number, number + 1)
        hyperparameters, seeds, states = jax.tree.map(
            lambda leaf: leaf[chosen], (self.members.hyperparameters, self.members.seeds, self.states)
        )
        own = self.members.settings(number)
        # The rows of a run of one member do not name it.
        rows = [row for row in self.rows if all(row.get(name, own[name]) == own[name] for name in own)]
        members = Population(seeds=seeds, hyperparameters=hyperparameters)
        return dataclasses.replace(self, members=members, states=states, rows=rows)

    # Acting and values.

    def policy(
        self,
        member: int = 0,
        *,
        task: Any = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> TrainedPolicy:
        """The policy of one member: a function of observations, in numpy and in the environment's units.

        Args:
            member: number of the member, from 0 on.
            task: of zero-shot agents: a vector z [d], as `infer` returns, or the name of one of `tasks`.
            temperature: 0 for the most likely action, 1 for the policy as learnt; by default the one of the
                run's evaluations.
            seed: seed of the random actions.

        Returns:
            The policy.

        Raises:
            InputError: when there is no such member or task, or its agent needs a task or a command.
        """
        agent, name = self.agent(member), self.config.agent_name
        if agent.memory:
            raise InputError(f"{name} acts for a command: use run.command(...) instead of run.policy()")
        if agent.features and task is None:
            raise InputError(
                f"{name} acts for a task: use run.policy(task=z), where z comes from "
                "run.infer(observations, rewards) or is the name of a task"
            )
        if task is not None and not agent.features:
            raise InputError(f"task is given, but {name} is not a zero-shot agent: leave it out")
        label = task if isinstance(task, str) else "" if task is None else "task"
        vector = None if task is None else self._vector(task, member)
        return TrainedPolicy(self, member, temperature, seed, vector, label)

    def command(
        self, command: Any = None, member: int = 0, *, temperature: float | None = None, seed: int = 0
    ) -> CommandPolicy:
        """The policy of one member of an agent with a memory, such as D-eta-N, for a command.

        Args:
            command: the name of one of the run's commands, such as "tau=0.1"; or its number, such as the
                level 0.05 or the target 3, which need not be one of the run's; None if the run has only one.
            member: number of the member, from 0 on.
            temperature: 0 for greedy actions, 1 for the exploration of training; by default the one of the
                run's evaluations.
            seed: seed of the random actions.

        Returns:
            The policy. It carries its stock through an episode.

        Raises:
            InputError: when the agent takes no commands, or not this one.
        """
        memory = self.agent(member).memory
        if memory is None:
            raise InputError(f"{self.config.agent_name} takes no commands: use run.policy()")
        known = {name: np.asarray(each, np.float32) for name, each in memory.commands.items()}
        if command is None:
            if len(known) > 1:
                raise InputError(f"command is missing: give one of {', '.join(known)}, or a number")
            command = next(iter(known))
        if isinstance(command, str):
            if command not in known:
                raise unknown("command", command, known)
            label, numbers = command, known[command]
        else:
            label, numbers = self._named_command(command, known)
        return CommandPolicy(self, member, temperature, seed, numbers, label)

    def value(self, observation: Any, goal: Any = None, *, task: Any = None, member: int = 0) -> np.ndarray:
        """The values of observations as one member estimates them, in units of the rewards it learns from.

        Args:
            observation: one observation, or [B, ...].
            goal: of goal-conditioned agents: the goal to reach, one for all or [B, ...].
            task: of zero-shot agents: a vector z [d], or the name of one of `tasks`.
            member: number of the member, from 0 on.

        Returns:
            [] or [B].

        Raises:
            InputError: when the agent has no values, or they depend on a command.
        """
        if self.agent(member).memory:
            raise InputError(
                f"values of {self.config.agent_name} depend on a command: use "
                "run.command(...).value(observation)"
            )
        return self.policy(member, task=task).value(observation, goal)

    def goal_reward(self, goal: Any, member: int = 0) -> Reward:
        """A reward for coming nearer to a goal: the score of the goal after each transition's action.

            r(s, a) = log p_γ(g | s, a) - log p(g), up to a constant

        It is large where the data's trajectories meet the goal soon. Give it to `train` as `reward`.

        Args:
            goal: an observation.
            member: number of the member, from 0 on.

        Returns:
            A function of the arrays "observations" and "actions" [N, ...] of transitions, in the units of the
            data, that returns rewards [N].

        Raises:
            InputError: when the agent learns no scores of goals, or the goal is not an observation.
        """
        state, (goals, alone) = self.state(member), self.batch("goal", goal)
        if not alone:
            raise InputError(f"goal has shape {goals.shape}: give one observation")
        agent = self.agent(member)
        if (goal_scores := agent.goal_scores) is None:
            raise InputError(
                f"{self.config.agent_name} learns no scores of goals: train crl, or another agent with "
                "--agent.auxiliary=contrastive"
            )

        @jax.jit
        def scores(observations: Any, actions: Any) -> Any:
            return goal_scores(state, observations, actions, jnp.repeat(goals, len(actions), axis=0))

        def goal_reward(transitions: Mapping[str, Any]) -> np.ndarray:
            observations, _ = self.batch("observations", transitions["observations"])
            actions = np.asarray(transitions["actions"])
            chunks = [slice(start, start + _CHUNK) for start in range(0, len(actions), _CHUNK)]
            return np.concatenate([scores(observations[chunk], actions[chunk]) for chunk in chunks])

        return goal_reward

    def export(
        self,
        path: str | os.PathLike[str],
        member: int | None = None,
        *,
        task: Any = None,
        command: Any = None,
        temperature: float | None = None,
    ) -> dict[str, Any]:
        """Writes the policy of one member to a file that acts without valuelab.

        The file holds the weights, the normalisation of observations and the bounds of actions. A .jax file
        is read by `jax.export.deserialize`; its description lies beside it in PATH.json. An .onnx file is
        read by ONNX runtimes; its description is in its metadata under "valuelab".

        Args:
            path: the file, which ends in .jax or .onnx; an existing one is replaced.
            member: number of the member, from 0 on; None if the run has only one.
            task: of zero-shot agents: the task, as for `policy`; None makes z an input of the file.
            command: of D-eta-N: the command, as for `command`.
            temperature: as for `policy`. A policy whose actions are random has the input "seed".

        Returns:
            The description: inputs, outputs, and what the policy was trained with.

        Raises:
            InputError: when there is no such member, task or command, a member or command is missing, the
                path cannot be used, or the policy cannot be written in this format.

        Example:
            >>> import valuelab as vl
            >>> run = vl.load(workdir)
            >>> [port["name"] for port in run.export(workdir / "policy.onnx")["inputs"]]
            ['observation']
        """
        if member is None:
            member = 0
            if self.members.size > 1:
                raise InputError(
                    f"member is missing: the run has {self.members.size} members, so give member=, a number "
                    f"from 0 to {self.members.size - 1}, or export run.member(...)"
                )
        agent = self.agent(member)
        if command is not None or agent.memory:
            if task is not None:
                raise InputError("task and command are given: give the one that the agent takes")
            return self.command(command, member, temperature=temperature).export(path)
        if agent.features and task is None:
            return TrainedPolicy(self, member, temperature, 0, None, "").export(path)
        return self.policy(member, task=task, temperature=temperature).export(path)

    def facts(self, member: int = 0) -> dict[str, Any]:
        """The origin of one member: its agent, data, settings, step, commit and versions, for JSON."""
        config, saved = self.config, {}
        if self.workdir:
            saved = read_json(self.workdir / "config.json", "config of valuelab", "restore the file")
        return {
            "agent": config.agent_source or config.agent_name,
            "dataset": config.dataset,
            "environment": config.environment,
            "settings": self.members.settings(member),
            "step": self.step,
            "commit": saved.get("commit", ""),
            "versions": outputs.versions(),
        }

    # Tasks of zero-shot agents.

    def infer(self, observations: Any, rewards: Any, member: int = 0) -> np.ndarray:
        """The tasks for the rewards of labelled observations.

        Args:
            observations: [N, ...], a random sample of the states of the training data, with N at least d.
            rewards: [T, N] of T tasks, or [N] of one.
            member: number of the member, from 0 on.

        Returns:
            z, [T, d] or [d].

        Raises:
            InputError: when the agent is not zero-shot, or the labels do not specify a task.
        """
        self._require_features()
        seen = self.batch("observations", observations)[0]
        labels = np.asarray(rewards, np.float32)
        rows = np.atleast_2d(labels)
        if rows.shape != (len(rows), len(seen)):
            raise InputError(f"rewards have shape {labels.shape}; give [{len(seen)}] or [T, {len(seen)}]")
        zero_shot.check_labels(rows, [f"task {number}" for number in range(len(rows))], self.task_dim)
        found = np.asarray(self._infer(self.hyperparameters(member), self.state(member), seen, rows))
        return found if labels.ndim == 2 else found[0]

    def tasks(self, member: int = 0) -> dict[str, np.ndarray]:
        """The named tasks of a run of experiments.zero_shot: name -> z [d] of one member.

        They are inferred from the labelled states of the run's dataset, which is read once.
        """
        self._check(member)
        vectors = np.asarray(self._evaluated_states.tasks[member])
        return dict(zip(self._experiment.agents[0].memory.commands, vectors, strict=True))  # type: ignore[union-attr]

    # Evaluation.

    def evaluate(
        self,
        environment: str | Environment = "",
        *,
        episodes: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        step: int | None = None,
        record: int = 0,
        max_steps: int | None = None,
    ) -> Episodes:
        """Plays episodes with all members, on each task and command of the run.

        Called without arguments, it plays the episodes of the run's evaluation after `run.step` updates
        again, with the same result.

        Args:
            environment: the name of an environment or of its dataset, or an environment; by default the one
                of the run.
            episodes: E, for each member and task; by default as in the run, or 10 if the run had none.
            temperature: 0 for the most likely action, 1 for the policy as learnt; by default as in the run.
            seed: seed of initial states and random actions; by default that of the run.
            step: another step plays other episodes; by default `run.step`.
            record: number of first episodes of each member and task whose observations are kept.
            max_steps: steps after which an episode that does not end is cut; by default as in the run.

        Returns:
            The episodes: returns, lengths, successes and scores, each [M, T, E].

        Raises:
            InputError: when the environment is unknown, or not like the data that the agents learnt from; or
                for a zero-shot agent without named tasks.
        """
        build, states = self.build, self.states
        if self._is_zero_shot:
            build, states = self._experiment.evaluated_agent, self._evaluated_states
        return self.play(
            build,
            self.members.hyperparameters,
            states,
            self.world(environment),
            episodes=episodes,
            temperature=temperature,
            seed=seed,
            step=step,
            record=record,
            max_steps=max_steps,
        )

    def play(
        self,
        build: Callable[[Any], Agent],
        hyperparameters: Any,
        states: Any,
        world: Environment,
        **settings: Any,
    ) -> Episodes:
        """Plays episodes with agents of this run in a given form.

        Args:
            build: swept values of one member -> its agent.
            hyperparameters: swept values, every leaf [M].
            states: the states of the agents, every leaf [M, ...].
            world: the environment, as `world` returns it.
            **settings: episodes, temperature and so on, as in `evaluate`; None for the default.
        """
        config = self.config
        defaults = {
            "episodes": config.eval_episodes or 10,
            "temperature": config.temperature,
            "seed": config.seed,
            "step": self.step,
            "max_steps": config.eval_max_steps,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        world = inputs.check_interface(self.interface, world, "give another environment")
        return rollout.evaluate(build, states, world, hyperparameters=hyperparameters, **(defaults | given))

    def world(self, environment: str | Environment) -> Environment:
        """The environment of a name, or that of the run for an empty one, with observations as in the data.

        Raises:
            InputError: when it is unknown, or that of the run could execute code that is not trusted.
        """
        config = self.config
        if isinstance(environment, str):
            if not environment and not self.trusted:
                inputs.check_saved_environment(config)
            if not environment and isinstance(config, ZeroShotRunConfig):
                return self._experiment.task_inference.environment  # type: ignore[union-attr]
            if environment:
                environment = environments.make(environment, config.data_dir)
            else:
                reward = self._reward
                environment = inputs.own_environment(config)
                if reward:
                    environment = own_rewards.scored(config, environment, reward)
        return frames.joined(environment, config.data.num_frames)

    # Inputs of agents; used by policies.

    def batch(self, name: str, given: Any) -> tuple[Any, bool]:
        """Observations or goals as a batch in the data's dtype, and whether only one was given.

        Args:
            name: of the input, for messages.
            given: of the spec's shape, or [B, ...]; a dictionary of such arrays for observations of several
                parts.

        Raises:
            InputError: when the shape or the dtype differs from the data, or a number is not finite.
        """
        shape, dtype = self.spec.observation_shape, self.spec.observation_dtype
        parts = self.spec.observation_parts
        if isinstance(given, Mapping):
            if not parts:
                raise InputError(
                    f"{name} is a dictionary; give an array of shape {shape}, or a batch of such"
                )
            given = pack(given, parts, name, shape[0] // packed_size(parts))
        array = np.asarray(given)
        alone = array.shape == shape
        if not alone and array.shape[1:] != shape:
            as_parts = f"a dictionary with {', '.join(part.name for part in parts)}, or " if parts else ""
            raise InputError(f"{name} has shape {array.shape}; give {as_parts}{shape}, or a batch of such")
        if array.dtype.kind not in "fiub" or (dtype == "uint8") != (array.dtype == np.uint8):
            raise InputError(f"{name} is {array.dtype}; give {dtype}, as in the data")
        array = array.astype(dtype, copy=False)
        numbers = unpack(array, parts) if parts else {"": array}
        for part, each in numbers.items():
            if each.dtype != np.uint8 and not np.isfinite(each).all():
                of_part = f"[{part!r}]" if part else ""
                raise InputError(f"{name}{of_part} holds a number that is not finite")
        return (array[None] if alone else array), alone

    @functools.cached_property
    def acting(self) -> dict[float, Callable[..., Any]]:
        """The compiled actors of this run by temperature, which its policies share."""
        return {}

    @functools.cached_property
    def compiled_value(self) -> Callable[..., Any]:
        """(hyperparameters, state, observations as for `Agent.value`) -> [B], compiled."""

        def value(hyperparameters: Any, state: Any, seen: Any) -> Any:
            return self.build(hyperparameters).value(state, seen)

        return jax.jit(value)

    # The rest.

    def _check(self, member: int) -> None:
        if not 0 <= member < self.members.size:
            raise InputError(f"member is {member}; members of this run go from 0 to {self.members.size - 1}")

    def _number(self, settings: Mapping[str, float]) -> int:
        """The number of the only member with these settings."""
        own = self.members.settings(0)
        every = [
            configuration.in_full(self.config, self.members.settings(number))
            for number in range(self.members.size)
        ]
        given = configuration.in_full(self.config, settings)
        for name in settings:
            if not configuration.in_full(self.config, {name: settings[name]}).keys() <= every[0].keys():
                raise unknown("swept setting", name, own)
        fit = [
            number
            for number, full in enumerate(every)
            if all(np.float32(full[name]) == np.float32(value) for name, value in given.items())
        ]
        if len(fit) != 1:
            asked = ", ".join(f"{name}={value}" for name, value in settings.items()) or "no settings"
            listed = "; ".join(self.members.label(number) for number in fit or range(self.members.size))
            raise InputError(f"{len(fit)} members have {asked}: give one of {listed}")
        return fit[0]

    def _named_command(self, command: Any, known: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
        """The name and the numbers of a command that is given by its numbers."""
        numbers = np.atleast_1d(np.asarray(command, np.float32))
        shape = next(iter(known.values())).shape
        agent: Any = self.config.agent
        if numbers.shape != shape:
            raise InputError(f"command has shape {numbers.shape}; give a command of shape {shape}")
        for name, each in known.items():
            if np.array_equal(each, numbers):
                return name, each
        if isinstance(agent, EtaNetworkConfig):
            if not agent.augmented:
                raise InputError(
                    f"command is {command}, but an agent with agent.augmented=false acts for "
                    f"{', '.join(known)} alone: give this name"
                )
            given = tuple(numbers.tolist())
            family = command_objectives.family_of(agent)
            named = command_objectives.commands_by_name(family, given, self.spec.reward_dim)
            return next(iter(named.items()))
        return str(command), numbers

    @property
    def _reward(self) -> Reward | None:
        """The reward function that the settings name; None without one."""
        advice = "load the run with trust_agent_file=True"
        return own_rewards.find_saved(self.config, self.trusted, advice) if self.config.reward else None

    @property
    def _is_zero_shot(self) -> bool:
        return self.build(self.hyperparameters()).features is not None

    def _require_features(self) -> None:
        if not self._is_zero_shot:
            raise InputError(f"{self.config.agent_name} is not a zero-shot agent, and has no tasks")

    def _vector(self, task: Any, member: int) -> np.ndarray:
        """A task, given by its name or as z."""
        if isinstance(task, str):
            known = self.tasks(member)
            if task not in known:
                raise unknown("task", task, known)
            return known[task]
        vector = np.asarray(task, np.float32)
        if vector.shape != (self.task_dim,):
            raise InputError(f"task has shape {vector.shape}; give a vector z of shape ({self.task_dim},)")
        if not np.isfinite(vector).all():
            raise InputError("task holds a number that is not finite: give another z")
        return vector

    @functools.cached_property
    def task_dim(self) -> int:
        """d, the dimension of a task."""
        observations = jnp.zeros((1, *self.spec.observation_shape), self.spec.observation_dtype)
        features: Any = self.agent().features
        return jax.eval_shape(features, self.state(), observations).shape[1]

    @functools.cached_property
    def _infer(self) -> Callable[..., Any]:
        def infer(hyperparameters: Any, state: Any, observations: Any, rewards: Any) -> Any:
            return zero_shot.infer(self.build(hyperparameters), state, observations, rewards)

        return jax.jit(infer)

    @functools.cached_property
    def _experiment(self) -> results.Experiment:
        """The run with the inference of its named tasks, as its evaluations saw it."""
        self._require_features()
        config = self.config
        if not isinstance(config, ZeroShotRunConfig):
            raise InputError(
                f"the run of {config.agent_name} has no named tasks, because it is not of "
                "experiments.zero_shot: use run.infer(observations, rewards) and run.policy(task=z)"
            )
        return results.Experiment(
            config=config,
            members=self.members,
            build=self.build,
            environment=None,
            workdir=pathlib.Path(),
            task_inference=infer_from_labels(config, self._reward, self.task_dim),
        )

    @functools.cached_property
    def _evaluated_states(self) -> Any:
        """The states of all members with the tasks that were inferred for them."""
        return jax.jit(self._experiment.evaluated_states)(self.states)


def load(
    workdir: str | pathlib.Path,
    *,
    step: int | None = None,
    member: int | None = None,
    data_dir: str | pathlib.Path | None = None,
    trust_agent_file: bool = False,
) -> TrainedRun:
    """Loads a run from its workdir: of experiments.train, experiments.zero_shot or `valuelab.train`.

    The data of the run are not needed, except for the named tasks of zero-shot agents and for runs that were
    trained before config.json had a "spec".

    Args:
        workdir: folder of the run.
        step: the step of a checkpoint that the run has kept; None for the newest one.
        member: number of the member to load alone; None for all.
        data_dir: folder of the run's dataset, where it is needed; by default the one that the run used.
        trust_agent_file: whether an agent file outside valuelab/presets, an objective's file, a reward file
            and an environment's module or file that the run names may be executed. Look at the files first.

    Returns:
        The trained run.

    Raises:
        InputError: when the folder holds no such run or checkpoint, one cannot be read, or the agent file is
            not trusted.

    Example:
        >>> import valuelab as vl
        >>> policy = vl.load(workdir).policy()
        >>> policy(np.zeros((5, 2))).shape  # one observation or a batch
        (5, 2)
    """
    run = saved.open_run(local_path("workdir", workdir), "workdir", trust_agent_file)
    if data_dir:
        run = run._replace(config=configuration.replace(run.config, {"data_dir": str(data_dir)}))
    trained = read(run, step, trust_agent_file)
    return trained if member is None else trained.member(member)


def read(run: SavedRun, step: int | None = None, trusted: bool = False) -> TrainedRun:
    """The trained run of a workdir; arguments and errors as of `load`."""
    spec, folder = run.known_spec(), run.folder
    build = inputs.make_builder(run.config, run.make_agent, spec, run.normalization)
    step, states = saved.read_states(run, build, spec, step)
    path = folder / "result.json"
    return TrainedRun(
        workdir=folder,
        config=run.config,
        members=configuration.population(run.config),
        build=build,
        spec=spec,
        normalization=run.normalization,
        step=step,
        states=states,
        rows=logs.read_rows(folder / "metrics.jsonl"),
        result=read_json(path, "result of valuelab", "move it away") if path.exists() else None,
        trusted=trusted,
    )
