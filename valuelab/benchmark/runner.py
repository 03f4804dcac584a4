"""Runs the jobs of a suite that are not done yet, in the workdir of the suite."""

import concurrent.futures
import dataclasses
import multiprocessing
import pathlib
import queue
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from absl import flags as absl_flags
from rich.console import Console

from valuelab import configuration, errors, files, workers
from valuelab.benchmark import cluster, machine, processes, suites
from valuelab.benchmark.board import NO_SCORE, RUNNING, WAITING, Board
from valuelab.benchmark.machine import Slot
from valuelab.benchmark.processes import Execute, Launch, Stop
from valuelab.benchmark.suites import JOBS, Job, Suite
from valuelab.configuration import RunConfig, Settings, setting
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import command_line, outputs

FORMAT = 1
"""Format of suite.json."""
REFRESH = 2.0
"""Seconds between two updates of the table."""
ENTRY = ("name", "label", "folder", "program", "agent", "dataset", "added", "command")
"""The keys of a job in suite.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Settings):
    """The settings of a benchmark."""

    suite: str = setting("", help="FILE.py, or the name of a file in experiments/suites.")
    workdir: str = setting("", help="Folder for everything that the suite leaves.")
    data_dir: str = setting(RunConfig.data_dir, help="Folder that holds the datasets.")
    only: tuple[str, ...] = setting(
        (), help="LABEL or LABEL/DATASET, several separated by commas: the jobs to run; empty for all."
    )
    add: tuple[str, ...] = setting(
        (),
        help="Agents to add on each dataset of the suite, FILE.py or FILE.py:PRESET, separated by commas.",
    )
    jobs: int = setting(
        0,
        "[0, inf)",
        "Number of jobs at the same time; 0 for as many as cores, accelerators and memory allow.",
    )
    smoke: bool = setting(
        False,
        help="Only try out whether the jobs work: each is a smoke run, with 20 updates and one episode.",
    )
    cluster: Literal["slurm", "local"] | None = setting(
        None,
        help="slurm, or local for submitit's processes on this machine; none for no cluster.",
    )
    slurm: tuple[str, ...] = setting(
        (),
        help="KEY=VALUE for submitit, such as partition=gpu or timeout_min=600; can be repeated.",
    )


def run(config: BenchmarkConfig, suites_folder: pathlib.Path) -> int:
    """Runs the jobs of a suite that are not done yet.

    Args:
        config: the settings.
        suites_folder: contains the suites that can be given by name.

    Returns:
        The exit status: 0 when all jobs are done, 1 when a job failed, 130 when the user stopped the suite.

    Raises:
        InputError: when the settings, the suite or the folder cannot be used.
    """
    if not config.suite:
        known = ", ".join(suites.known_suites(suites_folder))
        raise InputError(f"no suite is given; write --suite=FILE.py or one of {known}")
    suite = suites.read(config.suite, suites_folder)
    for agent in configuration.split_names("add", config.add):
        suite = suites.add(suite, agent)
    if config.smoke:
        suite = suites.smoke(suite)
    jobs = suites.choose(suite, list(configuration.split_names("only", config.only)))
    if not config.workdir:
        raise InputError(outputs.NO_WORKDIR)
    workdir = local_path("workdir", config.workdir)
    execute = cluster.submitter(config.cluster, config.slurm, workdir) if config.cluster else None
    workdir = outputs.make_folder(workdir)
    with outputs.locked(workdir):
        return run_in_folder(workdir, config, suite, jobs, execute)


def run_in_folder(
    workdir: pathlib.Path, config: BenchmarkConfig, suite: Suite, jobs: Sequence[Job], execute: Execute | None
) -> int:
    """Runs the jobs of a suite that are not done yet, in a folder that is locked.

    Args:
        workdir: the folder.
        config: the settings.
        suite: the suite, with the agents that were added.
        jobs: the jobs to run.
        execute: runs a launch on a cluster; None to run it on this machine.

    Returns:
        The exit status; see `run`.

    Raises:
        InputError: when the folder belongs to another suite or to other versions.
    """
    unchanged = prepare(workdir, suite)
    console = Console(markup=False)  # brackets in messages of jobs are not markup
    board = Board(jobs, workdir, console)
    launches = {job.name: make_launch(job, config, workdir) for job in jobs}
    for job in jobs:
        folder = workdir / job.folder
        try:
            result = processes.read_result(folder)
        except InputError as error:
            (folder / "result.json").replace(folder / "result.json.damaged")
            console.print(f"{error}: {job.name} continues from its last checkpoint", highlight=False)
            continue
        if not result or job.name not in unchanged or processes.lacks_pictures(folder):
            continue
        if processes.lacks_score(folder):
            message = f"{NO_SCORE}: remove {folder} to run it again"
            board.set_state(job.name, processes.FAILED, message)
        else:
            board.set_state(job.name, processes.DONE)
    waiting = board.names(WAITING)
    stop = Stop()
    handlers = {number: signal.signal(number, stop) for number in processes.STOPS}
    try:
        if waiting:
            console.print(f"{len(waiting)} of {len(jobs)} jobs to run; checking flags and data first")
            commands = {name: launches[name].arguments for name in waiting}
            for name, message in _validate(commands, with_data=not execute).items():
                processes.record_refusal(launches[name], message)
                board.set_state(name, processes.FAILED)
        lanes = [Slot()] * (config.jobs or max(1, len(waiting)))  # a cluster divides its own machines
        slots = lanes if execute else machine.share(config.jobs)
        run_jobs(board, launches, slots, execute or processes.run, stop)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return board.summarize(stop)


# The workdir of a suite.


def prepare(workdir: pathlib.Path, suite: Suite) -> set[str]:
    """Checks that the workdir of a suite is new, or that this suite can continue in it; writes suite.json.

    Args:
        workdir: the folder.
        suite: the suite, with the agents that were added.

    Returns:
        The names of the jobs whose commands have not changed, so that their results count.

    Raises:
        InputError: when the folder belongs to another suite or to other versions.
    """
    path = workdir / "suite.json"
    facts = {
        "format": FORMAT,
        "suite": suite.name,
        "source": suite.source,
        **outputs.code(),
        "device": machine.describe(),
    }
    earlier: dict[str, Any] = {}
    if path.exists():
        what, advice = "suite of valuelab", "give another --workdir"
        saved = files.read_json(path, what, advice, **{JOBS: list, "versions": dict})
        with errors.one_line(f"{path} cannot be read as {what}", advice):
            earlier = {entry["name"]: {name: entry[name] for name in ENTRY} for entry in saved[JOBS]}
            old = {name: saved[name] for name in ("format", "suite")} | saved["versions"]
        new = {name: facts[name] for name in ("format", "suite")} | outputs.versions()
        if changes := [
            f"{name} was {old.get(name)}, is {value}" for name, value in new.items() if old.get(name) != value
        ]:
            raise InputError(f"{path} does not fit ({'; '.join(changes)}): give another --workdir")
    entries = {job.name: _entry(job) for job in suite.jobs}
    kept = {name: entry for name, entry in earlier.items() if entry["added"] and name not in entries}
    unchanged = set()
    for name, entry in entries.items():
        before = earlier.get(name, entry)["command"]
        if before == entry["command"]:
            unchanged.add(name)
        elif (workdir / entry["folder"] / "result.json").exists():
            entry["command"] = before  # the command that made this result
    outputs.write_json(path, facts | {JOBS: [*entries.values(), *kept.values()]})
    return unchanged


def _entry(job: Job) -> dict[str, Any]:
    """A job as suite.json lists it."""
    command = ["python", *job.arguments, f"--workdir={job.folder}"]
    return {
        "name": job.name,
        "label": job.label,
        "folder": job.folder,
        "program": job.program,
        "agent": job.agent,
        "dataset": job.dataset,
        "added": job.added,
        "command": " ".join(command),
    }


def make_launch(job: Job, config: BenchmarkConfig, workdir: pathlib.Path) -> Launch:
    """How to start a job, with absolute paths."""
    folder = (workdir / job.folder).absolute()
    data_dir = local_path("data_dir", config.data_dir).absolute()
    return Launch(
        name=job.name,
        arguments=[*job.arguments, f"--data_dir={data_dir}", f"--workdir={folder}"],
        folder=str(folder),
        timings=str(workdir.absolute() / "timings.jsonl"),
    )


def _validate(commands: Mapping[str, Sequence[str]], with_data: bool) -> dict[str, str]:
    """`processes.validate` in another process, which frees its memory when it ends."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=spawn, initializer=workers.end_with_parent
    ) as pool:
        return pool.submit(processes.validate, commands, with_data).result()


def run_jobs(
    board: Board, launches: Mapping[str, Launch], slots: Sequence[Slot], execute: Execute, stop: Stop
) -> None:
    """Runs the jobs that wait, one at a time in each slot, and shows their progress until all have ended.

    Args:
        board: shows the jobs.
        launches: how to start each job, by name.
        slots: the shares of the machine.
        execute: runs a launch.
        stop: the user's request to stop; after it no further job starts.
    """
    waiting = queue.SimpleQueue[str]()
    for name in board.names(WAITING):
        waiting.put(name)

    def serve(slot: Slot) -> None:
        while not stop:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            board.set_state(name, RUNNING)
            launch = launches[name]._replace(cores=slot.cores, environment=slot.environment)
            try:
                board.set_state(name, execute(launch, stop))
            except Exception as error:  # for example, the cluster accepts no jobs; the other jobs go on
                message = f"{type(error).__name__}: {' '.join(str(error).split())}"
                board.set_state(name, processes.FAILED, message)

    with concurrent.futures.ThreadPoolExecutor(len(slots)) as pool, board.live():
        serving = [pool.submit(serve, slot) for slot in slots]
        while concurrent.futures.wait(serving, timeout=REFRESH).not_done:
            board.refresh()
    for future in serving:
        future.result()


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> BenchmarkConfig:
    """The settings of a command line; for arguments and errors see `command_line.parse_config`."""
    return command_line.parse_config(BenchmarkConfig(), argv, values)


def main(config: BenchmarkConfig, suites_folder: pathlib.Path) -> None:
    """Runs the suite that a command line asks for, and exits with its status."""
    sys.exit(run(config, suites_folder))
