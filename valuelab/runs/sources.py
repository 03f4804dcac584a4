"""The dataset and the environments of a run, and how its agent sees them."""

import dataclasses
import types
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from valuelab import configuration, data, environments
from valuelab.agents.normalized import normalized
from valuelab.agents.shifted import shifted
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.data import sampling, storage
from valuelab.environments import frames, interface
from valuelab.errors import InputError
from valuelab.runs import flags, results
from valuelab.runs.flags import DataConfig
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


class Source(NamedTuple):
    """What an agent learns from.

    Attributes:
        experience: where batches come from.
        spec: what the agent may know of them.
        normalization: how it sees them.
        question: what a zero-shot agent is asked when it is evaluated; other agents act as they are.
        amounts: "episodes" and "transitions" of the dataset; none without one.
        environment: where the agent is evaluated; None for the environment that the settings name.
    """

    experience: Experience
    spec: Spec
    normalization: Normalization
    question: results.Question | None = None
    amounts: Mapping[str, int] = types.MappingProxyType({})
    environment: Environment | None = None


def digests(arrays: Any) -> dict[str, str]:
    """A checksum of each array that batches are drawn from, by which a run that goes on knows its data.

    CRC-32 reads all bytes, gigabytes a second, and no change of a few bits or of the order goes unseen.
    """

    def digest(array: np.ndarray) -> str:
        form = zlib.crc32(f"{array.dtype}{array.shape}".encode())
        return f"{zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, form):08x}"

    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="."): digest(leaf) for path, leaf in leaves}


def _or(error: InputError, remedy: str) -> InputError:
    """An error whose line ends with one more thing to do."""
    return InputError(f"{str(error).rstrip('.')}; or {remedy}")


def find_environment(config: RunConfig) -> Environment | None:
    """Where the run is evaluated, if it is.

    Raises:
        InputError: when the dataset's environment is unknown, or its package is missing.
    """
    if not config.eval_episodes:
        return None
    try:
        environment = own_environment(config)
    except InputError as error:
        raise _or(error, "train without evaluating: --eval_episodes=0") from error
    return frames.joined(environment, config.data.num_frames)


def own_environment(config: RunConfig) -> Environment:
    """The environment that the settings name, or that belongs to their dataset.

    Raises:
        InputError: when the environment is unknown, or its package is missing.
    """
    name = config.environment or config.dataset
    return environments.make(name, config.data_dir, config.trust_environment)


def checked(config: RunConfig, source: Source, environment: Environment) -> Environment:
    """The environment of a run, if the agent can be evaluated there; one instance of it is made by then.

    Raises:
        InputError: when it cannot be made or filmed, or is not like what the agent learns from.
    """
    learnt = interface.of_data(config.dataset or config.environment, source.spec, source.normalization)
    joined = f"--data.num_frames (now {config.data.num_frames}) or " if config.data.num_frames > 1 else ""
    try:
        return tried(learnt, environment, f"give another {joined}--environment")
    except InputError as error:
        raise _or(error, "train without evaluating: --eval_episodes=0") from error


def tried(learnt: interface.Interface, environment: Environment, remedy: str) -> Environment:
    """The environment, if an agent can act in it; one instance of it is made by then.

    Args:
        learnt: the interface of the data that the agent learns from.
        environment: where it is to act.
        remedy: what to do where it cannot, which ends the message.

    Raises:
        InputError: when the environment cannot be made, or is not like the data.
    """
    instance = environment.make()
    interface.check_alike(learnt, interface.of_environment(environment, instance), remedy)
    made = [instance]  # which the evaluation takes, before it makes more
    return dataclasses.replace(environment, make=lambda: made.pop() if made else environment.make())


def find_source(config: RunConfig, dataset: Dataset | None = None) -> Source:
    """The dataset of a run, the environment that its agent acts in, or both where it has online steps.

    With a dataset it says how the agent sees both, and how large rewards are.

    Args:
        config: the settings of the run.
        dataset: the dataset that the settings name, where it is in memory; by default it is read.

    Raises:
        InputError: when one cannot be used, or settings of a dataset are given without one.
    """
    if config.dataset:
        if dataset is None:
            if data.goal_conditioned(config.dataset):  # other datasets are checked after loading
                goal_discount(config)
            dataset = read_dataset(config)
        sampler = make_sampler(config, dataset)
        if config.online_steps and config.data.num_frames > 1:
            raise InputError("data.num_frames is for datasets alone: leave it out with online_steps")
        source = as_seen(config, dataset, offline(sampler))
        if not config.online_steps:
            return source
        environment = make_vector(config)
        interface.check_alike(
            interface.of_data(config.dataset, source.spec, source.normalization),
            environment,
            "act in an --environment like the data's, or leave --online_steps out",
        )
        experience = mixed(sampler, environment, config.interaction, config.offline_steps)
        return source._replace(experience=experience)
    if config.data != DataConfig(image_shift=config.data.image_shift):
        raise InputError(
            "settings data.* but data.image_shift.* are for datasets: leave them out with --environment alone"
        )
    if config.offline_steps or config.interaction.dataset_share is not None:
        raise InputError("offline_steps and interaction.dataset_share are for datasets: give a --dataset")
    environment = make_vector(config)
    spec = dataclasses.replace(environment.spec, num_updates=config.steps)
    normalization = normalizations.of_actions(environment.action_low, environment.action_high)
    return Source(online(environment, config.batch_size, config.interaction), spec, normalization)


def read_dataset(config: RunConfig) -> Dataset:
    """The dataset of a run, in the storage that its settings ask for: compact where frames are joined."""
    compact = config.data.compact or config.data.num_frames > 1
    return data.load(config.dataset, config.data_dir, compact=compact, clip_actions=config.data.clip_actions)


def as_seen(config: RunConfig, dataset: Dataset, experience: Experience) -> Source:
    """Batches as the settings have an agent see a dataset."""
    num_frames = config.data.num_frames
    normalization = normalizations.of_frames(
        normalizations.fit(
            dataset, observations=config.data.normalize_observations, rewards=config.data.rewards
        ),
        num_frames,
    )
    spec = make_spec(config, dataset, normalization)
    episodes, transitions = np.count_nonzero(dataset.terminals), len(storage.transition_rows(dataset))
    amounts = {"episodes": int(episodes), "transitions": transitions}
    return Source(experience, spec, normalization, amounts=amounts)


def make_spec(config: RunConfig, dataset: Dataset, normalization: Normalization) -> Spec:
    """What an agent with these settings may know of a dataset that it sees through a normalisation."""
    negative = config.data.goals.negative_rewards
    return normalizations.make_spec(dataset, normalization, config.steps, config.data.num_frames, negative)


def make_builder(
    config: RunConfig, make_agent: MakeAgent, spec: Spec, normalization: Normalization
) -> Callable[[Mapping[str, Any]], Agent]:
    """What makes the agents of a run, which take and give the units of the data.

    Args:
        config: the settings of the run.
        make_agent: builds an agent from its hyperparameters and the spec.
        spec: what the agents know of their data.
        normalization: how they see them.

    Returns:
        Swept values of one member -> its agent; raises InputError for an agent that cannot be made.
    """

    def build(hyperparameters: Mapping[str, Any]) -> Agent:
        try:
            agent = make_agent(configuration.replace(config, hyperparameters).agent, spec)
        except InputError as error:
            where = config.dataset or config.environment
            raise InputError(f"{config.agent_name} cannot be made for {where}: {error}") from error
        return normalized(shifted(agent, config.data.image_shift, spec), normalization)

    return build


def make_vector(config: RunConfig) -> VectorEnvironment:
    """The environments that the agent acts in: the dataset's own unless another is given.

    Raises:
        InputError: when they are unknown, or cannot be acted in.
    """
    name, count = config.environment or config.dataset, config.interaction.num_environments
    try:
        return environments.vector(name, count, config.data_dir, config.trust_environment)
    except InputError as error:
        if config.environment:
            raise
        raise _or(error, "act elsewhere with --environment, or leave --online_steps out") from error


def make_sampler(config: RunConfig, dataset: Dataset) -> Sampler:
    """How batches are drawn: uniformly, with goals where the dataset asks for them."""
    if dataset.goal_conditioned:
        goal_discount(config)
        return sampling.goals(dataset, config.batch_size, config.data.goals, config.data.num_frames)
    return sampling.transitions(dataset, config.batch_size, num_frames=config.data.num_frames)


def goal_discount(config: RunConfig) -> float:
    """Of the steps to later states, which all members share.

    Raises:
        InputError: when members have different ones, or it is 1.
    """
    if (discount := config.data.goals.discount) is None:
        name = flags.discount_field(config)
        swept = flags.is_swept(config, name)
        found = "swept" if swept else f"{configuration.fields(config)[name].value:g}"
        raise InputError(
            f"{name} is {found}, and goals in the data follow one discount in [0, 1): choose it with "
            "--data.goals.discount" + (", or train each value in a run of its own" if swept else "")
        )
    return discount
