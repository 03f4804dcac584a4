"""The inputs of a run: its dataset, its environments, how the agent sees them, and the user's own files."""

import dataclasses
import os
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from valuelab import configuration, data, environments
from valuelab.agents.normalized import normalized
from valuelab.agents.shifted import shifted
from valuelab.arrays import digest
from valuelab.configuration import RunConfig
from valuelab.data import sampling, storage
from valuelab.data.normalization import fit, make_spec, of_actions, of_frames
from valuelab.environments import frames, interface, own
from valuelab.environments.rewarded import Reward
from valuelab.errors import InputError
from valuelab.runs import flags, outputs, own_rewards, results
from valuelab.runs.flags import DataConfig
from valuelab.training.checkpoints import named_leaves
from valuelab.training.experience import Experience, mixed, offline, online
from valuelab.types import (
    Agent,
    Dataset,
    Environment,
    MakeAgent,
    Normalization,
    Sampler,
    Spec,
    VectorEnvironment,
)


class RunInputs(NamedTuple):
    """The data and environments that a run trains on.

    Attributes:
        experience: the source of batches.
        spec: the facts about the data that the agent may use.
        normalization: how the agent sees the data.
        task_inference: how a zero-shot agent is given tasks when it is evaluated; None for other agents.
        amounts: the number of "episodes" and of "transitions" of the dataset; empty without a dataset.
        environment: the environment of evaluations; None for that of the settings.
        selection: the episodes and the weights that the values of another run chose, for config.json; empty
            without them.
        notes: facts about the data that a user should know, each on one line.
    """

    experience: Experience
    spec: Spec
    normalization: Normalization
    task_inference: results.TaskInference | None = None
    amounts: Mapping[str, int] = types.MappingProxyType({})
    environment: Environment | None = None
    selection: Mapping[str, Any] = types.MappingProxyType({})
    notes: tuple[str, ...] = ()


class Selection(NamedTuple):
    """What a run learns from, where the values of another run choose it.

    Attributes:
        dataset: the dataset, with the episodes that are kept.
        weights: of its transitions, [M]; None for equal ones.
        facts: as of `RunInputs.selection`.
        notes: likewise.
    """

    dataset: Dataset
    weights: np.ndarray | None = None
    facts: Mapping[str, Any] = types.MappingProxyType({})
    notes: tuple[str, ...] = ()


def user_files(config: RunConfig) -> dict[str, outputs.UserFile]:
    """The Python files of the user that a run depends on, by setting: of agent, reward and environment.

    Files of valuelab/presets belong to valuelab, whose version config.json holds.
    """
    reward = getattr(config, "reward", "").rpartition(":")[0]
    environment = own.source_of(config.environment)
    paths = flags.agent_files(config) | {
        "reward": reward,
        "environment": environment if environment.endswith(".py") else "",
    }
    return outputs.user_files(paths)


def digests(arrays: Any) -> dict[str, str]:
    """A checksum of each array that batches are drawn from, to check that a resumed run has the same data."""
    return {name: digest(leaf) for name, leaf in named_leaves(arrays).items()}


def _with_advice(error: InputError, advice: str) -> InputError:
    """The error with one more piece of advice at the end of its line."""
    return InputError(f"{str(error).rstrip('.')}; or {advice}")


def find_environment(
    config: RunConfig, reward: Reward | None = None, environment: Environment | None = None
) -> Environment | None:
    """The environment in which the run is evaluated; None without evaluation.

    Args:
        config: the settings of the run.
        reward: a reward function of the user that scores the episodes; None for the environment's score.
        environment: the environment if it is in memory; None to make it from its name.

    Raises:
        InputError: when the environment of the dataset is unknown or its package is missing, or the reward
            function cannot score a step in it.
    """
    if not config.eval_episodes:
        return None
    if environment is None:
        try:
            environment = own_environment(config)
        except InputError as error:
            raise _with_advice(error, "train without evaluating: --eval_episodes=0") from error
    if reward:
        environment = own_rewards.scored(config, environment, reward)
    return frames.joined(environment, config.data.num_frames)


def own_environment(config: RunConfig) -> Environment:
    """The environment that the settings name, or that of their dataset.

    Raises:
        InputError: when the environment is unknown or its package is missing.
    """
    name = config.environment or config.dataset
    return environments.make(name, config.data_dir, config.trust_environment, environment_kwargs(config))


def environment_kwargs(config: RunConfig) -> dict[str, Any]:
    """The keyword arguments of the environment of a run."""
    return configuration.json_object("environment_kwargs", config.environment_kwargs)


def check_saved_environment(config: RunConfig) -> None:
    """Refuses the environment of a saved run that is not trusted, if it could execute code or read files.

    Args:
        config: the settings of the run, which may come from anybody.

    Raises:
        InputError: naming the module, the file or the argument.
    """
    name = config.environment or config.dataset
    if reason := own.code_or_files(name, environment_kwargs(config)):
        raise InputError(
            f"the run names {reason}: if you trust it, load the run with trust_agent_file=True, or give its "
            "environment"
        )


def check_environment(config: RunConfig, inputs: RunInputs, environment: Environment) -> Environment:
    """Checks that the agent can be evaluated in an environment, by making an instance.

    Returns:
        The environment; its `make` returns that instance first.

    Raises:
        InputError: when it cannot be made, or its observations or actions differ from those of the inputs.
    """
    expected = interface.of_data(config.dataset or config.environment, inputs.spec, inputs.normalization)
    joined = f"--data.num_frames (now {config.data.num_frames}) or " if config.data.num_frames > 1 else ""
    try:
        return check_interface(expected, environment, f"give another {joined}--environment")
    except InputError as error:
        raise _with_advice(error, "train without evaluating: --eval_episodes=0") from error


def check_interface(expected: interface.Interface, environment: Environment, advice: str) -> Environment:
    """Checks that an agent can act in an environment, by making an instance.

    Args:
        expected: the interface of the data that the agent learns from.
        environment: the environment.
        advice: what the user should do if the agent cannot act there; the end of the message.

    Returns:
        The environment; its `make` returns that instance first.

    Raises:
        InputError: when it cannot be made, or its observations or actions differ from those expected.
    """
    instance = environment.make()
    interface.check_alike(expected, interface.of_environment(environment, instance), advice)
    unused = [instance]  # the evaluation takes it before it makes more
    return dataclasses.replace(environment, make=lambda: unused.pop() if unused else environment.make())


def find_inputs(
    config: RunConfig,
    dataset: Dataset | None = None,
    reward: Reward | None = None,
    environment: Environment | None = None,
) -> RunInputs:
    """The inputs of a run: a dataset, an environment to act in, or both if the run has online steps.

    With a dataset, normalization and reward range come from it, also for the environment.

    Args:
        config: the settings of the run.
        dataset: the dataset of the settings if it is in memory; None to read it.
        reward: the reward function of the settings if it is in memory; None to read it.
        environment: the environment of evaluations if it is in memory; None to make it from its name.

    Raises:
        InputError: when dataset or environment cannot be used, or settings of datasets are given without one.
    """
    if config.reward:
        own_rewards.check(config)
        reward = reward or own_rewards.find(config)
    world = find_environment(config, reward, environment) if reward or environment else None
    if config.dataset:
        if config.online_steps and config.data.stream:
            raise InputError("data.stream works only without online_steps: leave out one of them")
        if config.online_steps and config.data.future_discount is not None:
            raise InputError("data.future_discount works only without online_steps: leave out one of them")
        if dataset is None:
            if data.goal_conditioned(config.dataset) and not reward:  # others are checked after loading
                goal_discount(config)
            dataset = read_dataset(config)
        if reward:
            dataset = own_rewards.labelled(config, dataset, reward)
        if config.online_steps and config.data.weights:
            raise InputError("data.weights works only without online_steps: leave out one of them")
        chosen = select(config, dataset)
        dataset = chosen.dataset
        sampler = make_sampler(config, dataset, chosen.weights)
        if config.online_steps and config.data.num_frames > 1:
            raise InputError("data.num_frames works only without online_steps: leave out one of them")
        experience = offline(sampler, on_host=config.data.stream)
        inputs = inputs_of_dataset(config, dataset, experience)
        inputs = inputs._replace(environment=world, selection=chosen.facts, notes=chosen.notes)
        if not config.online_steps:
            return inputs
        vector = make_vector_environment(config)
        interface.check_alike(
            interface.of_data(config.dataset, inputs.spec, inputs.normalization),
            vector,
            "give an --environment with the data's observations and actions, or leave out --online_steps",
        )
        experience = mixed(sampler, vector, config.interaction, config.offline_steps)
        return inputs._replace(experience=experience)
    if _sets_goals(config):
        raise InputError(
            f"agent {config.agent_name} or a flag sets data.goals.*, but the run has no dataset: give "
            "--dataset with goals, such as ogbench/pointmaze-medium-navigate-v0"
        )
    if config.data != DataConfig(image_shift=config.data.image_shift):
        raise InputError(
            "without a dataset, data.image_shift.* alone of the settings data.* works: leave out the others"
        )
    if config.offline_steps or config.interaction.dataset_share is not None:
        raise InputError("offline_steps and interaction.dataset_share need a dataset: give --dataset")
    vector = make_vector_environment(config)
    spec = dataclasses.replace(vector.spec, num_updates=config.steps)
    normalization = of_actions(vector.action_low, vector.action_high)
    return RunInputs(online(vector, config.batch_size, config.interaction), spec, normalization)


def read_dataset(config: RunConfig) -> Dataset:
    """The dataset of a run, in compact storage if the settings ask for it or join frames, or mapped."""
    return data.load(
        config.dataset,
        config.data_dir,
        compact=config.data.compact or config.data.num_frames > 1,
        mapped=config.data.stream,
        **data.reading_settings(config.data),
    )


def select(config: RunConfig, dataset: Dataset) -> Selection:
    """The part of a dataset that data.filter and data.weights choose; see `selection.select`."""
    if not config.data.value_run:
        return Selection(dataset)
    from valuelab.runs import selection  # it reads runs, for which it needs this module

    return selection.select(config, dataset)


def inputs_of_dataset(config: RunConfig, dataset: Dataset, experience: Experience) -> RunInputs:
    """The inputs of a run on a dataset: normalization and spec follow from the dataset and the settings."""
    num_frames = config.data.num_frames
    normalization = of_frames(
        fit(dataset, observations=config.data.normalize_observations, rewards=config.data.rewards),
        num_frames,
    )
    spec = spec_of_dataset(config, dataset, normalization)
    episodes, transitions = np.count_nonzero(dataset.terminals), len(storage.transition_rows(dataset))
    amounts = {"episodes": int(episodes), "transitions": transitions}
    return RunInputs(experience, spec, normalization, amounts=amounts)


def spec_of_dataset(config: RunConfig, dataset: Dataset, normalization: Normalization) -> Spec:
    """The facts about a normalised dataset that an agent with these settings may use."""
    negative = config.data.goals.negative_rewards
    return make_spec(dataset, normalization, config.steps, config.data.num_frames, negative)


def make_builder(
    config: RunConfig, make_agent: MakeAgent, spec: Spec, normalization: Normalization
) -> Callable[[Mapping[str, Any]], Agent]:
    """The function that builds the agents of a run; they take and return the units of the data.

    Args:
        config: the settings of the run.
        make_agent: builds an agent from its hyperparameters and the spec.
        spec: the facts about the data that the agents may use.
        normalization: how the agents see the data.

    Returns:
        Swept values of one member -> its agent; raises InputError if the agent cannot be made.
    """

    def build(hyperparameters: Mapping[str, Any]) -> Agent:
        try:
            agent = make_agent(configuration.replace(config, hyperparameters).agent, spec)
        except InputError as error:
            where = config.dataset or config.environment or "random data, whose actions --num_actions chooses"
            raise InputError(f"{config.agent_name} cannot be made for {where}: {error}") from error
        agent = shifted(agent, config.data.image_shift, spec)
        return normalized(agent, normalization, spec.observation_parts)

    return build


def make_vector_environment(config: RunConfig) -> VectorEnvironment:
    """The environments in which the agent learns online: that of the dataset unless another is given.

    Raises:
        InputError: when the environment is unknown or cannot be used to learn online.
    """
    name, count = config.environment or config.dataset, config.interaction.num_environments
    try:
        return environments.vector(
            name,
            count,
            config.data_dir,
            config.trust_environment,
            environment_kwargs(config),
            config.interaction.processes,
        )
    except InputError as error:
        if config.environment:
            raise
        raise _with_advice(error, "give another --environment, or leave out --online_steps") from error


def notes(config: RunConfig, inputs: RunInputs, num_members: int) -> list[str]:
    """Facts about the data and the environment that a user should know, each on one line."""
    environment = inputs.experience.environment
    unused = [f"data.goals.* have no effect: {config.dataset} has rewards, and no goals are drawn"] * (
        bool(config.dataset) and not inputs.spec.goal_conditioned and _sets_goals(config)
    )
    if environment is None:
        return [*inputs.notes, *unused]
    processes = num_members * environment.num_environments if config.interaction.processes else 0
    cores = os.cpu_count() or 1
    many = f"interaction.processes starts {processes} processes on {cores} cores"
    of_environment = [environment.inexact_resume] * bool(environment.inexact_resume)
    return [*inputs.notes, *unused, *of_environment, *[many] * (processes > cores)]


def _sets_goals(config: RunConfig) -> bool:
    """Whether a setting of goals is not the default, apart from the discount, which follows the agent's."""
    return config.data.goals != dataclasses.replace(DataConfig().goals, discount=config.data.goals.discount)


def make_sampler(config: RunConfig, dataset: Dataset, weights: np.ndarray | None = None) -> Sampler:
    """The sampler of batches, with goals if the dataset is goal-conditioned; `weights` as in `sampling`."""
    size, frames, future_discount = config.batch_size, config.data.num_frames, config.data.future_discount
    if not dataset.goal_conditioned:
        return sampling.transitions(dataset, size, future_discount, num_frames=frames, weights=weights)
    if future_discount is not None:
        raise InputError(
            f"data.future_discount is {future_discount:g}, but the goals of {dataset.name} already are later "
            "observations, drawn with data.goals.discount: leave data.future_discount out"
        )
    goal_discount(config)
    return sampling.goals(dataset, size, config.data.goals, frames, weights)


def goal_discount(config: RunConfig) -> float:
    """The discount of goals in the data, which all members share.

    Raises:
        InputError: when the discounts of the members differ, or the discount is 1.
    """
    if (discount := config.data.goals.discount) is None:
        name = flags.discount_field(config)
        swept = flags.is_swept(config, name)
        value = "swept" if swept else f"{configuration.fields(config)[name].value:g}"
        raise InputError(
            f"{name} is {value}, but goals in the data need one discount in [0, 1): give "
            "--data.goals.discount" + (", or train each value in a separate run" if swept else "")
        )
    return discount
