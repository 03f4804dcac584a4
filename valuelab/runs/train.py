"""One run: it trains an agent, evaluates it, and leaves everything in a folder."""

import contextlib
import errno
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax

from valuelab import configuration, errors
from valuelab.configuration import Population, RunConfig
from valuelab.data import normalization as normalizations
from valuelab.errors import InputError
from valuelab.evaluation import rollout, video
from valuelab.runs import flags, outputs, results, sources, trained
from valuelab.training import Checkpoints, Interrupted, Run, logs, make_mesh, train
from valuelab.training.experience import Experience
from valuelab.types import MakeAgent

MOST_LISTED = 10
"""Of episodes without a score, so many are named."""


def run(
    config: RunConfig,
    make_agent: MakeAgent,
    find: Callable[[RunConfig], sources.Source] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Does a whole run, or what is left of it.

    Args:
        config: its settings.
        make_agent: builds the agent from its hyperparameters and the data's spec.
        find: what the agent learns from, called where the run is not done yet and all hosts have met;
            `sources.find_source` by default.
        quiet: whether to draw no pictures and to print no table: for a run whose folder does not last.

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
        return fill(workdir, config, members, make_agent, find or sources.find_source, quiet)


def fill(
    workdir: pathlib.Path,
    config: RunConfig,
    members: Population,
    make_agent: MakeAgent,
    find: Callable[[RunConfig], sources.Source],
    quiet: bool = False,
) -> dict[str, Any]:
    """Does what is left of a run in its folder; arguments and errors as of `run`."""
    rehearse(config, quiet)
    mesh = make_mesh(members.size, config.batch_size, config.mesh or None)
    source = find(config)
    question = source.question
    environment = question.environment if question else source.environment or sources.find_environment(config)
    if environment:
        environment = sources.checked(config, source, environment)
    if config.video and environment:
        video.check(workdir / results.FILM, environment)

    build = sources.make_builder(config, make_agent, source.spec, source.normalization)
    # An agent that cannot be made leaves nothing in the folder.
    if build({}).features and environment and question is None:
        raise InputError(
            f"{config.agent_name} learns without rewards, and must be told what to do: train and "
            "evaluate it with python -m experiments.zero_shot, or train alone with --eval_episodes=0"
        )
    experiment = results.Experiment(config, members, build, environment, workdir, question)
    facts = {
        "settings": configuration.to_json(config),
        "data": {**source.amounts, "digests": sources.digests(source.experience.arrays)},
        "spec": trained.spec_to_json(source.spec),
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
        played = evaluation.last if evaluation else None
        pictures = {} if quiet else results.pictures(experiment, outcome, rows, played)
        result = results.summarize(experiment, outcome, rows)
        outputs.finish(workdir, result, pictures)
    if not quiet:
        results.show(config, members, workdir, result)
    return result


def rehearse(config: RunConfig, quiet: bool = False) -> None:
    """Tries what is needed beside and after training, before any time is lost; says what will be missing.

    Args:
        config: the settings of the run.
        quiet: whether no pictures are drawn.

    Raises:
        InputError: when a tracker or what films is asked for and not installed, or there is nothing to film.
    """
    if not quiet and (reason := outputs.lacking_plots()):
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
        saved = checkpoints.facts(step).get("log", ()) if step else ()
        return log.rewind(step - 1 if lost else step, experiment.members.size, saved)

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
        log_extent=(lambda: log.extent) if log else None,
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
