"""The process of one job, on this machine or on a worker of a cluster."""

import ctypes
import datetime
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from valuelab import files
from valuelab.errors import InputError
from valuelab.runs import outputs

DONE, FAILED, STOPPED = "done", "failed", "stopped"
"""The possible outcomes of a launch."""
INTERVAL = 0.5
"""Seconds between two checks whether a process has ended."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask the runner, or a job, to stop."""
STOPPED_BY_SIGNAL = (130, *(-number for number in STOPS))
_PR_SET_PDEATHSIG = 1  # sys/prctl.h
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
"""A system call of Linux. None on macOS, where a job goes on after its runner is killed."""


class Launch(NamedTuple):
    """How to start the process of a job, as plain data that can be sent to a worker of a cluster.

    Attributes:
        name: name of the job.
        arguments: the arguments after `python`.
        folder: workdir of the job.
        timings: path of the file that gets one line for each launch.
        cores: the cores that the process may use; empty for all.
        environment: variables that the process gets in addition.
    """

    name: str
    arguments: Sequence[str]
    folder: str
    timings: str
    cores: Sequence[int] = ()
    environment: Mapping[str, str] = {}


class Stop:
    """The user's request to stop. The first call makes jobs save and stop, the second kills them."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self.kills = False

    def __call__(self, number: int = 0, frame: object = None) -> None:
        """Requests a stop; can be used as a signal handler."""
        if number == signal.SIGHUP:
            files.leave_closed_terminal()
        self.kills = bool(self)
        self._requested.set()

    def __bool__(self) -> bool:
        """Whether a stop was requested."""
        return self._requested.is_set()


Execute = Callable[[Launch, Stop], str]
"""Runs a launch until its process has ended; returns DONE, FAILED or STOPPED."""


def run(launch: Launch, stop: Stop) -> str:
    """Runs a job from its last checkpoint, or from the start, to its end.

    The process holds a lock on the log of its job. So no two processes work in one workdir, even after a
    runner was killed, or when two runners use the same folder.

    Args:
        launch: how to start the process.
        stop: can be called from another thread or by a signal.

    Returns:
        DONE, FAILED or STOPPED.
    """
    folder = pathlib.Path(launch.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "ab", buffering=0, opener=files.open_unless_link) as log:
        while not stop and not _try_lock(log):
            time.sleep(INTERVAL)
        if stop:
            return STOPPED
        started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        log.write(_command(launch).encode())
        process = subprocess.Popen(
            [sys.executable, *launch.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **launch.environment},
            start_new_session=True,  # Ctrl-C goes to the runner, which passes it on
            preexec_fn=lambda: _prepare_process(launch.cores),
        )
        status = _wait(process, stop)
    exit_code = process.returncode
    if status != STOPPED:
        status = DONE if exit_code == 0 and is_done(folder) else FAILED
    _record(launch, started, time.monotonic() - clock, status, exit_code)
    return status


def record_refusal(launch: Launch, message: str) -> None:
    """Records a job that cannot be started, in the same files as a launch that failed.

    Args:
        launch: how the job would be started.
        message: the reason, for the log of the job.
    """
    folder = pathlib.Path(launch.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a", opener=files.open_unless_link) as log:
        log.write(f"{_command(launch)}error: {message}\n")
    _record(launch, datetime.datetime.now(datetime.UTC), 0.0, FAILED, 2)


def _command(launch: Launch) -> str:
    """The line at the top of each launch in a log."""
    return f"$ python {' '.join(launch.arguments)}\n"


def _record(launch: Launch, started: datetime.datetime, seconds: float, status: str, exit_code: int) -> None:
    """Adds a line to the timings."""
    line = {
        "name": launch.name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "status": status,
        "exit": exit_code,
    }
    with open(launch.timings, "a", opener=files.open_unless_link) as file:
        file.write(files.to_json(line) + "\n")


def run_on_worker(launch: Launch) -> str:
    """`run` on a worker of a cluster, which sends signals at the time limit and when the job is cancelled."""
    stop = Stop()

    def once(*_: object) -> None:  # a cluster sends several signals for one request
        if not stop:
            stop()

    for number in (*STOPS, signal.SIGUSR2):
        signal.signal(number, once)
    return run(launch, stop)


def _try_lock(log: IO[bytes]) -> bool:
    """Tries to lock a log. The process that inherits the open file keeps the lock until it ends."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _prepare_process(cores: Sequence[int]) -> None:
    """Binds the new process to its cores. On Linux it also gets SIGTERM when its parent dies."""
    if _prctl:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if cores and hasattr(os, "sched_setaffinity"):  # Linux; macOS has no such call
        os.sched_setaffinity(0, cores)


def _wait(process: subprocess.Popen[bytes], stop: Stop) -> str:
    """Waits for a process and passes on a request to stop; returns STOPPED, or "" if nothing stopped it."""
    interrupted = False
    while True:
        try:
            process.wait(INTERVAL)
            break
        except subprocess.TimeoutExpired:
            if stop.kills:
                os.killpg(process.pid, signal.SIGKILL)
            elif stop and not interrupted:
                process.send_signal(signal.SIGINT)
                interrupted = True
    stopped = interrupted or stop.kills or process.returncode in STOPPED_BY_SIGNAL
    return STOPPED if process.returncode and stopped else ""


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
    """The result.json of a job; None if there is none.

    Raises:
        InputError: when the file is damaged or incomplete.
    """
    path = folder / "result.json"
    if not path.exists():
        return None
    advice = "move it away, and run its command again"
    return files.read_json(path, "whole result", advice, steps=int, throughput=dict, versions=dict)


def is_done(folder: pathlib.Path) -> bool:
    """Whether a folder contains a complete result."""
    try:
        return read_result(folder) is not None
    except InputError:
        return False


def lacks_score(folder: pathlib.Path) -> bool:
    """Whether a job has finished, but some of its episodes have no finite score."""
    try:
        return "without_score" in (read_result(folder) or {})
    except InputError:
        return False


def lacks_pictures(folder: pathlib.Path) -> bool:
    """Whether a job has not drawn all pictures of its result, and its command can draw them now."""
    return (folder / outputs.UNDRAWN).exists() and not outputs.why_no_plots()


def last_words(folder: pathlib.Path) -> str:
    """The last line of a job's log that is not empty."""
    try:
        lines = (folder / "log.txt").read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return "there is no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "the log is empty")


def validate(commands: Mapping[str, Sequence[str]], with_data: bool) -> dict[str, str]:
    """Checks the flags and datasets of jobs before they start.

    Imports JAX, so call it in another process than the runner's. Downloads missing datasets one by one, so
    that no two jobs download the same one.

    Args:
        commands: name of a job to the arguments of its command.
        with_data: whether to read the datasets.

    Returns:
        Name to error message, of the jobs that cannot run.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"  # the accelerators are for the jobs
    import importlib

    from absl import flags as absl_flags

    from valuelab import data
    from valuelab.runs import flags

    messages: dict[str, str] = {}
    data_messages: dict[tuple[Any, ...], str] = {}
    for name, (_, module, *arguments) in commands.items():
        program = importlib.import_module(module)
        parse = getattr(program, "parse", flags.parse_run)
        try:
            config, _ = parse([module, *arguments], absl_flags.FlagValues())
        except (InputError, absl_flags.Error) as error:
            messages[name] = str(error)
            continue
        if not config.dataset or not with_data:
            continue
        # Streamed data may be larger than memory.
        settings = data.reading_settings(config.data) | {"mapped": config.data.stream}
        dataset = config.dataset, *settings.values()
        if dataset not in data_messages:
            data_messages[dataset] = ""
            try:
                data.load(config.dataset, config.data_dir, compact=True, **settings)
            except InputError as error:
                data_messages[dataset] = str(error)
        if data_messages[dataset]:
            messages[name] = data_messages[dataset]
    return messages
