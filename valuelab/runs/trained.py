"""A run that has been trained, as its workdir keeps it: its agents act again, without the data."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import configuration
from valuelab.configuration import Population, RunConfig
from valuelab.environments.interface import Interface, of_data
from valuelab.errors import InputError, one_line
from valuelab.files import local_path, read_json
from valuelab.runs import flags, inputs, results
from valuelab.training import checkpoints, logs
from valuelab.training.experience import blank
from valuelab.types import Agent, GoalConditioned, MakeAgent, Normalization, Spec, Transitions


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """A trained run of M members: what its agents are, and what they have learnt.

    Attributes:
        workdir: folder of the run; None where it was not kept.
        config: the settings of the run.
        members: the population that was trained side by side.
        build: swept values of one member -> its agent, which takes and gives the units of the data.
        spec: what the agents know of their data.
        normalization: how they see them.
        step: updates after which the states were saved.
        states: the agents' states, every leaf [M, ...].
        rows: lines of metrics.jsonl: a dict for each event and member.
        result: what result.json holds; None where the run has not ended.

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

    def __repr__(self) -> str:
        where = self.config.dataset or self.config.environment
        return (
            f"TrainedRun({self.config.agent_name} on {where}, {self.members.size} member(s), "
            f"step {self.step} of {self.config.steps})"
        )

    @property
    def interface(self) -> Interface:
        """Observations, actions, rewards and goals that the agents know, in the units of the data."""
        name = self.config.dataset or self.config.environment
        return of_data(name, self.spec, self.normalization)

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

    def policy(self, member: int = 0, *, temperature: float | None = None, seed: int = 0) -> "TrainedPolicy":
        """What one member does: a function of observations, in numpy and in the units of the environment.

        Args:
            member: number of the member, from 0 on.
            temperature: 0 for the most likely action, 1 for the policy as learnt; by default the one of the
                run's evaluations.
            seed: seed of the random actions.

        Returns:
            The policy.

        Raises:
            InputError: when there is no such member, or its agent cannot act on observations alone.
        """
        return TrainedPolicy(self, member, temperature, seed)

    def _check(self, member: int) -> None:
        if not 0 <= member < self.members.size:
            raise InputError(f"member is {member}; members of this run go from 0 to {self.members.size - 1}")


class TrainedPolicy:
    """What one member of a trained run does; a function of observations.

    Everything that it takes and gives is in the units of the environment. Calls that draw random actions draw
    new ones each time; a policy that is made again with the same seed repeats them.

    Attributes:
        run: the trained run.
        member: number of the member.
        temperature: 0 for the most likely action, 1 for the policy as learnt.
    """

    def __init__(self, run: TrainedRun, member: int, temperature: float | None, seed: int):
        """Compiles nothing yet: `TrainedRun.policy` says what is given."""
        self.run, self.member = run, member
        self.temperature = run.config.eval_temperature if temperature is None else temperature
        if self.temperature < 0:
            raise InputError(f"temperature is {temperature}; it must be at least 0")
        agent = run.agent(member)
        name = run.config.agent_name
        if agent.features:
            raise InputError(f"{name} acts for a task, and policy() has none: use valuelab.agents.zero_shot")
        if agent.memory:
            raise InputError(
                f"{name} carries a memory through an episode: play whole episodes with valuelab.evaluate"
            )
        self._hyperparameters, self._state = run.hyperparameters(member), run.state(member)
        self._bounds = run.interface.action_low, run.interface.action_high
        self._seed, self._calls = seed, 0
        self._act = jax.jit(
            lambda hyperparameters, state, observations, key: run.build(hyperparameters).act(
                state, observations, key, self.temperature
            )
        )

    def __call__(self, observation: Any, goal: Any = None) -> np.ndarray:
        """The action for an observation, or for each of a batch.

        Args:
            observation: one observation, of the spec's shape, or [B, ...].
            goal: the goal to reach, one for all or [B, ...]; of goal-conditioned agents alone.

        Returns:
            Continuous actions [A] or [B, A] within their bounds; discrete ones [] or [B].

        Raises:
            InputError: when the observation or the goal has another shape or kind than the data, or is not
                finite, or a goal is missing or not asked for.
        """
        batch, alone = self._batch("observation", observation)
        seen: Any = batch
        if self.run.spec.goal_conditioned:
            if goal is None:
                raise InputError("goal is missing: this agent reaches goals; call policy(observation, goal)")
            goals, one_goal = self._batch("goal", goal)
            if not one_goal and len(goals) != len(batch):
                raise InputError(f"goal has {len(goals)} rows where observation has {len(batch)}")
            seen = GoalConditioned(batch, jnp.broadcast_to(goals, batch.shape))
        elif goal is not None:
            raise InputError("goal is given, and this agent takes none: call policy(observation)")
        key = jax.random.fold_in(jax.random.key(self._seed), self._calls)
        self._calls += 1
        actions = np.asarray(self._act(self._hyperparameters, self._state, seen, key))
        if not self.run.spec.discrete:  # rounding and random actions may leave the bounds
            actions = np.clip(actions, *self._bounds)
        return actions[0] if alone else actions

    def _batch(self, name: str, given: Any) -> tuple[Any, bool]:
        """Observations or goals as a batch in the data's dtype, and whether only one was given."""
        shape, dtype = self.run.spec.observation_shape, self.run.spec.observation_dtype
        array = np.asarray(given)
        if array.shape not in (shape, (*array.shape[:1], *shape)):
            raise InputError(f"{name} has shape {array.shape}; give {shape}, or a batch of such")
        if array.dtype.kind not in "fiub" or (dtype == "uint8") != (array.dtype == np.uint8):
            raise InputError(f"{name} is {array.dtype}; give {dtype}, as in the data")
        array = array.astype(dtype)
        if dtype != "uint8" and not np.isfinite(array).all():
            raise InputError(f"{name} holds a number that is not finite")
        alone = array.shape == shape
        return (array[None] if alone else array), alone


def load(
    workdir: str | pathlib.Path,
    *,
    data_dir: str | pathlib.Path | None = None,
    trust_agent_file: bool = False,
) -> TrainedRun:
    """Loads a run of `experiments.train` or `valuelab.train` from its workdir, at its newest checkpoint.

    The data of the run are not needed. Only runs that were trained before config.json had a "spec" read their
    dataset once more.

    Args:
        workdir: folder of the run.
        data_dir: folder of datasets, for such a run; by default the one where the run found it.
        trust_agent_file: whether an agent file outside valuelab/presets may be run. Look at the file first.

    Returns:
        The trained run.

    Raises:
        InputError: when the folder holds no such run or no checkpoint, one cannot be read, or the agent file
            is not trusted.

    Example:
        >>> import valuelab as vl
        >>> policy = vl.load(workdir).policy()
        >>> policy(np.zeros((5, 2))).shape  # one observation or a batch
        (5, 2)
    """
    folder = local_path("workdir", workdir)
    settings, _ = results.read_run(folder, "train", "workdir")
    if "labels" in settings:
        raise InputError(f"{folder} is a workdir of experiments.zero_shot: give one of experiments.train")
    config, make_agent = flags.load_saved_agent(folder, settings, flags.DEFAULTS, trust_agent_file)
    if data_dir:
        config = configuration.replace(config, {"data_dir": str(data_dir)})
    return read(folder, config, make_agent)


def read(folder: pathlib.Path, config: RunConfig, make_agent: MakeAgent) -> TrainedRun:
    """The run in a folder whose settings and agent are known; errors as of `load`."""
    _, normalization = results.read_run(folder, "train", "workdir")
    spec = _saved_spec(folder / "config.json") or _spec_of_old_run(config, normalization)
    members = configuration.population(config)
    build = inputs.make_builder(config, make_agent, spec, normalization)
    like = state_shapes(build, members, jax.eval_shape(functools.partial(example, spec)))
    ((step, states),) = checkpoints.read_states(folder / "checkpoints", like, newest=True)
    path = folder / "result.json"
    return TrainedRun(
        workdir=folder,
        config=config,
        members=members,
        build=build,
        spec=spec,
        normalization=normalization,
        step=step,
        states=states,
        rows=logs.read_rows(folder / "metrics.jsonl"),
        result=read_json(path, "result of valuelab", "move it away") if path.exists() else None,
    )


def state_shapes(
    build: Callable[[Mapping[str, Any]], Agent], members: Population, example: Transitions
) -> Any:
    """Shapes and dtypes of the states of all members, [M, ...].

    Args:
        build: swept values of one member -> its agent.
        members: the population.
        example: a batch in the units that these agents take; its shapes and dtypes are enough.
    """

    def init(hyperparameters: Mapping[str, Any], seed: Any, example: Transitions) -> Any:
        return build(hyperparameters).init(jax.random.key(seed), example)

    over_members = jax.vmap(init, in_axes=(0, 0, None))
    return jax.eval_shape(over_members, members.hyperparameters, members.seeds, example)


def example(spec: Spec) -> Transitions:
    """A batch of one transition of zeros, as agents of this spec are made with."""
    batch = blank(spec, 1)
    if not spec.goal_conditioned:
        return batch
    goals = jnp.zeros_like(batch.observations)
    return batch._replace(goals=goals, policy_goals=goals, next_actions=None)


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A spec as what JSON holds, which `spec_from_json` turns back; null for a bound that is infinite."""
    fields = dataclasses.asdict(spec)
    return {name: None if value in (np.inf, -np.inf) else value for name, value in fields.items()}


def spec_from_json(fields: Mapping[str, Any]) -> Spec:
    """The spec that `spec_to_json` wrote."""
    given: dict[str, Any] = dict(fields)
    for name, unbounded in (("reward_min", -np.inf), ("reward_max", np.inf)):
        given[name] = unbounded if given[name] is None else float(given[name])
    given["observation_shape"] = tuple(map(int, given["observation_shape"]))
    return Spec(**given)


def _saved_spec(path: pathlib.Path) -> Spec | None:
    """The spec that config.json holds; None where it is older than specs in it."""
    advice = "give --workdir=WORKDIR"
    saved = read_json(path, "config of a run", advice)
    if "spec" not in saved:
        return None
    with one_line(f"{path} has a spec that cannot be read", advice):
        return spec_from_json(saved["spec"])


def _spec_of_old_run(config: RunConfig, normalization: Normalization) -> Spec:
    """The spec of a run whose config.json has none, from its dataset or its environment."""
    if config.dataset:
        return inputs.spec_of_dataset(config, inputs.read_dataset(config), normalization)
    return dataclasses.replace(inputs.make_vector_environment(config).spec, num_updates=config.steps)
