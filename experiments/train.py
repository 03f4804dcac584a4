r"""Trains an agent on a dataset, in an environment or both, evaluates it, and leaves all in a folder.

    python -m experiments.train --agent=iql:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --num_seeds=4 --workdir=runs/pointmaze

    python -m experiments.train --agent=eta_network:cartpole --environment=gymnasium/CartPole-v1 \
      --workdir=runs/cartpole

    python -m experiments.train --agent=iql:pointmaze_online --workdir=runs/online \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 \
      --offline_steps=30000 --online_steps=30000

The same command again goes on where it was stopped, or says that it is done. On several hosts, start the
same command on each with --distributed; jax.distributed finds the others (on TPU slices and SLURM by
itself, else through JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID).
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import sys
import types
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import flags, outputs, results
from experiments.flags import DataConfig
from valuelab import configuration, data, environments, errors
from valuelab.agents.normalized import normalized
from valuelab.agents.shifted import shifted
from valuelab.configuration import Population, RunConfig
from valuelab.data import normalization as normalizations
from valuelab.data import sampling, storage
from valuelab.data.sources import ogbench
from valuelab.domains.d4rl import source_of
from valuelab.environments import frames, interface
from valuelab.errors import InputError
from valuelab.evaluation import rollout, video
from valuelab.training import Checkpoints, Interrupted, Run, logs, make_mesh, train
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

MOST_LISTED = 10
"""Of episodes without a score, so many are named."""


class Source(NamedTuple):
    """What an agent learns from.

    Attributes:
        experience: where batches come from.
        spec: what the agent may know of them.
        normalization: how it sees them.
        question: what a zero-shot agent is asked when it is evaluated; other agents act as they are.
        amounts: "episodes" and "transitions" of the dataset; none without one.
    """

    experience: Experience
    spec: Spec
    normalization: Normalization
    question: results.Question | None = None
    amounts: Mapping[str, int] = types.MappingProxyType({})


def run(
    config: RunConfig,
    make_agent: MakeAgent,
    find: Callable[[RunConfig], Source] | None = None,
) -> dict[str, Any]:
    """Does a whole run, or what is left of it.

    Args:
        config: its settings.
        make_agent: builds the agent from its hyperparameters and the data's spec.
        find: what the agent learns from, called where the run is not done yet and all hosts have met;
            `find_source` by default.

    Returns:
        What result.json holds; on other hosts than the first, nothing.

    Raises:
        InputError: for settings, data or a folder that cannot be used.
        Interrupted: when stopped by Ctrl-C, SIGTERM or SIGHUP; the same call goes on.
    """
    config = flags.with_goal_discount(config)
    if config.distributed:
        join_hosts()
    members = configuration.population(config)
    if not (config.dataset or config.environment):
        raise InputError(
            "no dataset is given; write --dataset=ogbench/NAME, d4rl/NAME or minari/ID, "
            "or --environment=gymnasium/ID to learn by acting"
        )
    with outputs.prepare_folder(config, is_first_host=jax.process_index() == 0) as workdir:
        if done := outputs.finished(workdir, "train", [results.FILM] if config.video else []):
            results.show(config, members, workdir, done)
            return done
        return fill(workdir, config, members, make_agent, find or find_source)


def fill(
    workdir: pathlib.Path,
    config: RunConfig,
    members: Population,
    make_agent: MakeAgent,
    find: Callable[[RunConfig], Source],
) -> dict[str, Any]:
    """Does what is left of a run in its folder; arguments and errors as of `run`."""
    rehearse(config)
    mesh = make_mesh(members.size, config.batch_size, config.mesh or None)
    source = find(config)
    question = source.question
    environment = question.environment if question else find_environment(config)
    if environment:
        environment = checked(config, source, environment)
    if config.video and environment:
        video.rehearse(workdir / results.FILM, environment)

    def build(hyperparameters: Mapping[str, Any]) -> Agent:
        try:
            agent = make_agent(configuration.replace(config, hyperparameters).agent, source.spec)
        except InputError as error:
            where = config.dataset or config.environment
            raise InputError(f"{config.agent_name} cannot be made for {where}: {error}") from error
        if agent.features and environment and question is None:
            raise InputError(
                f"{config.agent_name} learns without rewards, and must be told what to do: train and "
                "evaluate it with python -m experiments.zero_shot, or train alone with --eval_episodes=0"
            )
        return normalized(shifted(agent, config.data.image_shift, source.spec), source.normalization)

    build({})  # an agent that cannot be made leaves nothing in the folder
    experiment = results.Experiment(config, members, build, environment, workdir, question)
    facts = {
        "settings": configuration.to_json(config),
        "data": {**source.amounts, "digests": digests(source.experience.arrays)},
        "normalization": normalizations.to_json(source.normalization),
        "versions": outputs.versions(),
        "device": outputs.device(),
    }
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            contextlib.closing(Checkpoints(workdir / "checkpoints", facts, config.keep_checkpoints, config))
        )
        if jax.process_index() > 0:  # learns with the others, and leaves the rest to the first host
            learn(experiment, source.experience, mesh, checkpoints, None, None)
            return {}
        if not (workdir / "result.json").exists():  # else only pictures are missing
            outputs.write_json(workdir / "config.json", facts)
        fields = tuple(members.settings(0))
        log = logs.Logs(workdir, facts, fields, config.tensorboard, config.wandb_project)
        stack.callback(log.close)
        evaluation = results.Evaluation(experiment, environment) if environment else None
        if evaluation:
            stack.callback(evaluation.close)
        outcome = learn(experiment, source.experience, mesh, checkpoints, log, evaluation)
        rows = logs.read_rows(workdir / "metrics.jsonl")
        pictures = results.pictures(experiment, outcome, rows, evaluation.last if evaluation else None)
        result = results.summarize(experiment, outcome, rows)
        outputs.finish(workdir, result, pictures)
    results.show(config, members, workdir, result)
    return result


def digests(arrays: Any) -> dict[str, str]:
    """A checksum of each array that batches are drawn from, by which a run that goes on knows its data.

    CRC-32 reads all bytes, gigabytes a second, and no change of a few bits or of the order goes unseen.
    """

    def digest(array: np.ndarray) -> str:
        form = zlib.crc32(f"{array.dtype}{array.shape}".encode())
        return f"{zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, form):08x}"

    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="."): digest(leaf) for path, leaf in leaves}


def rehearse(config: RunConfig) -> None:
    """Tries what is needed beside and after training, before any time is lost; says what will be missing.

    Raises:
        InputError: when a tracker or what films is asked for and not installed, or there is nothing to film.
    """
    if reason := outputs.lacking_plots():
        print(f"warning: there will be no pictures: {reason}")
    if config.video:
        if not config.eval_episodes:
            raise InputError("video is of evaluation episodes, and eval_episodes is 0: leave one of them out")
        errors.require("imageio", "video")
    logs.require(config.tensorboard, config.wandb_project)


def join_hosts() -> None:
    """Connects to the other hosts of the run, before anything is put on a device.

    Raises:
        InputError: when it is not known who they are, or they do not answer.
    """
    variables = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:  # JAX reads the coordinator's address by itself
        given: dict[str, Any] = {
            name: int(os.environ[key]) for name, key in variables.items() if key in os.environ
        }
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the hosts of a distributed run did not meet ({error}): on each, set "
            f"JAX_COORDINATOR_ADDRESS=HOST:PORT, {' and '.join(variables.values())}"
        ) from error


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
        environment = environments.make(
            config.environment or config.dataset, config.data_dir, config.trust_environment
        )
    except InputError as error:
        raise _or(error, "train without evaluating: --eval_episodes=0") from error
    return frames.joined(environment, config.data.num_frames)


def checked(config: RunConfig, source: Source, environment: Environment) -> Environment:
    """The environment of a run, if the agent can be evaluated there; one instance of it is made by then.

    Raises:
        InputError: when it cannot be made or filmed, or is not like what the agent learns from.
    """
    learnt = interface.of_data(config.dataset or config.environment, source.spec, source.normalization)
    joined = f"--data.num_frames (now {config.data.num_frames}) or " if config.data.num_frames > 1 else ""
    try:
        instance = environment.make()
        interface.check_alike(
            learnt, interface.of_environment(environment, instance), f"give another {joined}--environment"
        )
    except InputError as error:
        raise _or(error, "train without evaluating: --eval_episodes=0") from error
    made = [instance]  # which the evaluation takes, before it makes more
    return dataclasses.replace(environment, make=lambda: made.pop() if made else environment.make())


def find_source(config: RunConfig) -> Source:
    """The dataset of a run, the environment that its agent acts in, or both where it has online steps.

    With a dataset it says how the agent sees both, and how large rewards are.

    Raises:
        InputError: when one cannot be used, or settings of a dataset are given without one.
    """
    if config.dataset:
        origin, _, name = source_of(config.dataset).partition("/")
        if origin == "ogbench" and not ogbench.has_task(name):  # others may turn out to be goal-conditioned
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
    negative = config.data.goals.negative_rewards
    spec = normalizations.make_spec(dataset, normalization, config.steps, num_frames, negative)
    episodes, transitions = np.count_nonzero(dataset.terminals), len(storage.transition_rows(dataset))
    amounts = {"episodes": int(episodes), "transitions": transitions}
    return Source(experience, spec, normalization, amounts=amounts)


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


def learn(
    experiment: results.Experiment,
    experience: Experience,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    log: logs.Logs | None,
    evaluation: results.Evaluation | None,
) -> Run:
    """Trains as the settings say; hosts other than the first neither log nor evaluate."""
    config = experiment.config

    def rewind(step: int) -> int:
        """Drops rows after a step, and its own, too, where the episodes that it tells of are lost."""
        assert log
        evaluates = step == config.steps or (config.eval_every and step % config.eval_every == 0)
        lost = (
            evaluation and evaluates and not rollout.has_episodes(experiment.workdir / results.EPISODES, step)
        )
        return log.rewind(step - 1 if lost else step, experiment.members.size)

    return train(
        experiment.build,
        experience,
        steps=config.steps,
        seeds=experiment.members.seeds.tolist(),
        hyperparameters=experiment.members.hyperparameters,
        mesh=mesh,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
        evaluate=evaluation,
        write=log.write if log else None,
        checkpoints=checkpoints,
        on_resume=rewind if log else None,
    )


def main(parsed: tuple[Any, MakeAgent], run: Callable[[Any, MakeAgent], Any] = run) -> None:
    """Does the run of a command line; status 130 when it was stopped from outside, 1 without a score.

    Args:
        parsed: settings and what makes the agent.
        run: does it.
    """
    try:
        result = run(*parsed)
    except Interrupted as stop:
        print(f"{stop}; all is saved, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:  # before training, after it, or the second time
        print("stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise InputError(
            f"{parsed[0].workdir} takes no more ({error}): free some disk; "
            "the same command goes on from the last checkpoint"
        ) from error
    if unknown := result.get("without_score"):
        listed = "; ".join(
            ", ".join(f"{name} {value}" for name, value in episode.items())
            for episode in unknown[:MOST_LISTED]
        )
        more = f"; and {len(unknown) - MOST_LISTED} more" if len(unknown) > MOST_LISTED else ""
        print(
            f"warning: {len(unknown)} episodes have a return or score that is not finite ({listed}{more}), "
            "so result.json has null for what they are part of: look at the environment's rewards",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    flags.run(main, flags.parse_run)
