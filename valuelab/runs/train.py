"""One run: trains an agent, evaluates it, and writes everything into a folder."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from valuelab import configuration, errors
from valuelab.configuration import Population, RunConfig
from valuelab.data import normalization
from valuelab.errors import InputError
from valuelab.evaluation import figures, rollout, video
from valuelab.runs import flags, inputs, maze_pairs, outputs, pictures, results, warm_start
from valuelab.training import Checkpoints, Interrupted, Run, logs, make_mesh, train
from valuelab.training.checkpoints import has_checkpoint
from valuelab.training.experience import Experience
from valuelab.training.loop import has_evaluation, state_shapes, update_program
from valuelab.types import Environment, MakeAgent

MOST_LISTED = 10
"""The largest number of episodes without a score that a message names."""


def run(
    config: RunConfig,
    make_agent: MakeAgent,
    find: Callable[[RunConfig], inputs.RunInputs] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs from the beginning, or from the last checkpoint in the workdir.

    Args:
        config: the settings.
        make_agent: builds the agent from its hyperparameters and the data's spec.
        find: settings -> the inputs of the run; called only if the run is not finished, after all hosts have
            connected. Default: `inputs.find_inputs`.
        quiet: whether to draw no pictures and print warnings only, for a run whose folder is temporary.

    Returns:
        The content of result.json; an empty dict on all hosts but the first.

    Raises:
        InputError: for settings, data or a folder that cannot be used.
        Interrupted: when stopped by Ctrl-C, SIGTERM or SIGHUP; the same call resumes the run.
    """
    config = flags.complete(config)
    if config.distributed:
        join_hosts()
    members = configuration.population(config)
    if not (config.dataset or config.environment):
        raise InputError(
            "no dataset is given: write --dataset=ogbench/NAME, d4rl/NAME or minari/ID, "
            "or --environment=gymnasium/ID to learn by acting"
        )
    user_files, formats = inputs.user_files(config), figures.formats(config.formats)
    with outputs.prepare_folder(config, user_files, is_first_host=jax.process_index() == 0) as workdir:
        drawn = [pictures.FILM] if config.video else []
        is_longer = shorter_steps(workdir, config) > 0
        if not is_longer and (result := outputs.finished(workdir, "train", drawn, formats)):
            results.show(config, members, workdir, result)
            if (
                config.pairs
                and config.eval_episodes
                and not config.reward
                and not maze_pairs.has_pairs(result)
            ):
                print("note: the run ended without --pairs: give another --workdir to play pairs")
            return result
        with quick_compilation() if config.smoke else contextlib.nullcontext():
            return fill(workdir, config, members, make_agent, find or inputs.find_inputs, user_files, quiet)


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """Inside the block XLA optimises programs less: in a smoke run, compiling takes most of the time."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def fill(
    workdir: pathlib.Path,
    config: RunConfig,
    members: Population,
    make_agent: MakeAgent,
    find: Callable[[RunConfig], inputs.RunInputs],
    user_files: Mapping[str, outputs.UserFile],
    quiet: bool = False,
) -> dict[str, Any]:
    """Does the rest of a run in its folder; arguments and errors as in `run`."""
    check_requirements(config, quiet)
    mesh = make_mesh(members.size, config.batch_size, config.mesh or None)
    start = warm_start.find(config, workdir)
    run_inputs = find(config)
    if start:
        run_inputs = warm_start.seen_as_before(start, run_inputs)
    inference = run_inputs.task_inference
    if inference:
        environment: Environment | None = inference.environment
    else:
        environment = run_inputs.environment or inputs.find_environment(config)
    if environment:
        environment = inputs.check_environment(config, run_inputs, environment)
    if config.video and environment:
        video.check(workdir / pictures.FILM, environment)

    pairs = maze_pairs.find(config, environment, inference)
    build = inputs.make_builder(config, make_agent, run_inputs.spec, run_inputs.normalization)
    # If the agent cannot be made, nothing is written into the folder.
    if build({}).features and environment and inference is None:
        raise InputError(
            f"{config.agent_name} learns without rewards and needs a task when it is evaluated: run "
            "python -m experiments.zero_shot, or train without evaluation by --eval_episodes=0"
        )
    before = shorter_steps(workdir, config)
    if before and has_checkpoint(workdir / "checkpoints"):
        check_schedules(config, members, make_agent, run_inputs, before)
    elif before and (workdir / "result.json").exists():
        raise InputError(
            f"{workdir} has a result but no checkpoint to continue from after {before:,} updates: give "
            "another --workdir"
        )
    initial: Mapping[str, np.ndarray] = {}
    if start and not start.is_begun:
        swept = {name: values[0] for name, values in members.hyperparameters.items()}
        state = state_shapes(build, run_inputs.experience, swept)
        start, initial = warm_start.read(start, config, state, members.size)
    experiment = results.Experiment(config, members, build, environment, workdir, inference)
    facts: dict[str, Any] = {
        "settings": configuration.to_json(config),
        "data": {**run_inputs.amounts, "digests": inputs.digests(run_inputs.experience.data)},
        "spec": results.spec_to_json(run_inputs.spec),
        "normalization": normalization.to_json(run_inputs.normalization),
        **outputs.provenance(),
    }
    if start:
        facts["init_from"] = start.to_json()
    if run_inputs.selection:
        facts["selection"] = run_inputs.selection
    if notes := inputs.notes(config, run_inputs, members.size):
        facts["notes"] = notes
    if user_files:
        facts["files"] = {name: file.sha256 for name, file in user_files.items()}
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            contextlib.closing(Checkpoints(workdir / "checkpoints", facts, config.keep_checkpoints, config))
        )
        if jax.process_index() > 0:  # trains with the others; the first host does the rest
            learn(experiment, run_inputs.experience, mesh, checkpoints, None, None, initial)
            return {}
        for note in notes:
            print(f"note: {note}")

        def begin() -> None:
            """Makes the folder that of the longer run; called once its checkpoint has been read."""
            if before:
                forget_end(workdir, config, members, before)
                outputs.write_config(workdir, facts)

        if not before:
            outputs.write_config(workdir, facts)
        settings = [members.settings(index) for index in range(members.size)]
        log = logs.Logs(workdir, facts, settings, config.tensorboard, wandb_settings(config))
        stack.callback(log.close)
        evaluation = results.Evaluation(experiment, environment) if environment else None
        if evaluation:
            stack.callback(evaluation.close)
        outcome = learn(experiment, run_inputs.experience, mesh, checkpoints, log, evaluation, initial, begin)
        rows = logs.read_rows(workdir / "metrics.jsonl")
        episodes = evaluation.last if evaluation else None
        result = results.summarize(experiment, outcome, rows)
        if pairs:
            if not quiet:
                print(f"playing pairs of a start and a goal: {config.pairs} for each seed", flush=True)
            maze_pairs.add(result, members, maze_pairs.play(experiment, pairs, outcome.states))
        drawings = {} if quiet else pictures.pictures(experiment, outcome, rows, episodes, result)
        outputs.finish(workdir, result, drawings, figures.formats(config.formats))
        if config.video:
            log.add_video(workdir / pictures.FILM, config.steps)
    if quiet:
        results.print_warnings(result)
    else:
        results.show(config, members, workdir, result)
    return result


def shorter_steps(workdir: pathlib.Path, config: RunConfig) -> int:
    """The number of updates of the run in a folder if the settings make it longer; else 0."""
    settings = outputs.read_config(workdir)["settings"]
    return settings["steps"] if settings and configuration.growth(settings, config) else 0


def check_schedules(
    config: RunConfig, members: Population, make_agent: MakeAgent, run_inputs: inputs.RunInputs, before: int
) -> None:
    """Refuses to continue a run with more updates if its agent depends on their number.

    The updates that were done would have been others in the longer run, as with a cosine schedule.

    Args:
        config: the settings with the larger number of updates.
        members: the members of the run.
        make_agent: builds the agent from its hyperparameters and the data's spec.
        run_inputs: the inputs of the run.
        before: the number of updates so far.

    Raises:
        InputError: when the program of an update depends on `spec.num_updates`.
    """
    swept = {name: values[0] for name, values in members.hyperparameters.items()}

    def program(num_updates: int) -> str:
        spec = dataclasses.replace(run_inputs.spec, num_updates=num_updates)
        build = inputs.make_builder(config, make_agent, spec, run_inputs.normalization)
        return update_program(build, run_inputs.experience, swept)

    if program(before) != program(config.steps):
        raise InputError(
            f"steps was {before} and is {config.steps}, but {config.agent_name} learns by a schedule over "
            f"all steps of a run, such as a cosine: give another --workdir and --init_from={config.workdir}"
        )


def forget_end(workdir: pathlib.Path, config: RunConfig, members: Population, before: int) -> None:
    """Removes what a run has only because it ended: its result, and its last row and evaluation.

    The last row and evaluation stay if the longer run has them, too. If the program is killed in between, the
    same command removes the rest.

    Args:
        workdir: the folder of the run.
        config: the settings with the larger number of updates.
        members: the members of the run.
        before: the number of updates until the end.
    """
    (workdir / "result.json").unlink(missing_ok=True)
    if not has_evaluation(before, config.steps, config.eval_every):
        rollout.drop_episodes(workdir / results.EPISODES, before - 1)
        logs.MetricsFile(workdir / "metrics.jsonl").rewind(before - 1, members.size)


def check_requirements(config: RunConfig, quiet: bool = False) -> None:
    """Checks before training that the packages for logging, pictures and videos are installed.

    Prints a warning if pictures cannot be drawn.

    Args:
        config: the settings of the run.
        quiet: whether no pictures are drawn.

    Raises:
        InputError: when the package of a tracker or of videos is missing, or there is nothing to film.
    """
    if not quiet and (reason := outputs.why_no_plots()):
        print(f"warning: there will be no pictures: {reason}")
    if config.video:
        if not config.eval_episodes:
            raise InputError(
                "--video films evaluation episodes, but eval_episodes is 0: leave out one of them"
            )
        errors.require("imageio", "video")
    logs.require(config.tensorboard, config.wandb_project)
    wandb_settings(config)


def wandb_settings(config: RunConfig) -> logs.WandbSettings | None:
    """Where the run is logged on Weights & Biases; None for nowhere."""
    if not config.wandb_project:
        return None
    return logs.WandbSettings(
        project=config.wandb_project,
        entity=config.wandb_entity,
        group=config.wandb_group,
        name=config.wandb_name,
        tags=configuration.split_names("wandb_tags", config.wandb_tags),
    )


def join_hosts() -> None:
    """Connects to the other hosts of the run; must be called before anything is put on a device.

    Raises:
        InputError: when the other hosts are unknown or do not answer.
    """
    variables = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:  # JAX itself reads the coordinator's address
        given: dict[str, Any] = {
            name: int(os.environ[key]) for name, key in variables.items() if key in os.environ
        }
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the hosts of a distributed run could not connect ({error}): on each host, set "
            f"JAX_COORDINATOR_ADDRESS=HOST:PORT, {' and '.join(variables.values())}"
        ) from error


def learn(
    experiment: results.Experiment,
    experience: Experience,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    log: logs.Logs | None,
    evaluation: results.Evaluation | None,
    initial: Mapping[str, np.ndarray],
    begin: Callable[[], None] = lambda: None,
) -> Run:
    """Trains as the settings say; `log` and `evaluation` are None on all hosts but the first.

    `initial` as in `valuelab.training.train`; `begin` is called on the first host before the first update,
    when the checkpoint, if there is one, has been read.
    """
    config = experiment.config

    def rewind(step: int, saved_extent: Any) -> int:
        """Drops the rows of the log after a step, and the rows of the step if its episodes are lost."""
        assert log
        begin()
        path = experiment.workdir / results.EPISODES
        evaluates = has_evaluation(step, config.steps, config.eval_every)
        lost = evaluation and evaluates and not rollout.has_episodes(path, step)
        return log.rewind(step - 1 if lost else step, experiment.members.size, saved_extent or ())

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
        initial=initial,
        on_resume=rewind if log else None,
        log_extent=(lambda: log.extent) if log else None,
    )


def main(parsed: tuple[Any, MakeAgent], run: Callable[[Any, MakeAgent], Any] = run) -> None:
    """Does the run of a command line; exits with 130 when interrupted, with 1 when a score is missing.

    Args:
        parsed: the settings, and the function that builds the agent.
        run: the function that does the run.
    """
    try:
        result = run(*parsed)
    except Interrupted as stop:
        print(f"{stop}; the state is saved, and the same command resumes from it", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:  # before or after training, or the second Ctrl-C
        print("stopped at once; the same command resumes from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise InputError(
            f"{parsed[0].workdir} cannot be written ({error}): free some disk space; "
            "the same command resumes from the last checkpoint"
        ) from error
    if without_score := result.get("without_score"):
        listed = "; ".join(
            ", ".join(f"{name} {value}" for name, value in episode.items())
            for episode in without_score[:MOST_LISTED]
        )
        more = f"; and {len(without_score) - MOST_LISTED} more" if len(without_score) > MOST_LISTED else ""
        print(
            f"warning: {len(without_score)} episodes have a return or score that is not finite "
            f"({listed}{more}), so result.json has null for their averages: check the environment's rewards",
            file=sys.stderr,
        )
        sys.exit(1)
