"""One member of a suite as a process of its own: the same on this machine and on a worker of a cluster."""

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
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from valuelab import files
from valuelab.errors import InputError

DONE, FAILED, STOPPED = "done", "failed", "stopped"
"""What can become of a start."""
INTERVAL = 0.5
"""Seconds between two looks at a process."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a runner, and each member, is asked to stop."""
STOPPED_BY_SIGNAL = (130, *(-number for number in STOPS))
_PR_SET_PDEATHSIG = 1  # sys/prctl.h
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
"""Linux's; None on macOS, where a member outlives a runner that is killed."""


class Job(NamedTuple):
    """What starts a member: plain data, which travels to workers.

    Attributes:
        name: of the member.
        arguments: what stands behind `python`.
        folder: its workdir.
        timings: file that gets a line for each start.
        cores: that it may use; none for all.
        environment: variables that are its own.
    """

    name: str
    arguments: Sequence[str]
    folder: str
    timings: str
    cores: Sequence[int] = ()
    environment: Mapping[str, str] = {}


class Stop:
    """Whether the user wants members to end: asked once they save and stop, asked twice they are killed."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.kills = False

    def __call__(self, number: int = 0, frame: object = None) -> None:
        """Asks; a handler of signals."""
        if number == signal.SIGHUP:
            files.leave_closed_terminal()
        self.kills = bool(self)
        self._asked.set()

    def __bool__(self) -> bool:
        """Whether it was asked for."""
        return self._asked.is_set()


def run(job: Job, stop: Stop) -> str:
    """Runs a member, or what is left of it, to its end.

    While it runs its log is locked, by the process itself: a runner that was killed, or another one on the
    same folder, never has two of them at work in one workdir.

    Args:
        job: what to start.
        stop: may be asked from another thread, or by a signal.

    Returns:
        DONE, FAILED or STOPPED.
    """
    folder = pathlib.Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "ab", buffering=0, opener=files.open_unless_link) as log:
        while not stop and not _locked(log):
            time.sleep(INTERVAL)
        if stop:
            return STOPPED
        started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        log.write(_command(job).encode())
        process = subprocess.Popen(
            [sys.executable, *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **job.environment},
            start_new_session=True,  # Ctrl-C is for the runner, which passes it on
            preexec_fn=lambda: _settle(job.cores),
        )
        status = _wait(process, stop)
    exit_code = process.returncode
    if status != STOPPED:
        status = DONE if exit_code == 0 and is_done(folder) else FAILED
    _enter(job, started, time.monotonic() - clock, status, exit_code)
    return status


def refuse(job: Job, message: str) -> None:
    """Leaves what a start that failed leaves, of a member that cannot be started.

    Args:
        job: what would start it.
        message: what is wrong with it, for its log.
    """
    folder = pathlib.Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a", opener=files.open_unless_link) as log:
        log.write(f"{_command(job)}error: {message}\n")
    _enter(job, datetime.datetime.now(datetime.UTC), 0.0, FAILED, 2)


def _command(job: Job) -> str:
    """What heads each start in a log."""
    return f"$ python {' '.join(job.arguments)}\n"


def _enter(job: Job, started: datetime.datetime, seconds: float, status: str, exit_code: int) -> None:
    """Adds a start to the timings."""
    line = {
        "name": job.name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "status": status,
        "exit": exit_code,
    }
    with open(job.timings, "a", opener=files.open_unless_link) as file:
        file.write(files.to_json(line) + "\n")


def run_on_worker(job: Job) -> str:
    """`run` as the job of a cluster, which asks by signals that it stops: at its time limit, or cancelled."""
    stop = Stop()

    def once(*_: object) -> None:  # clusters send several signals, and mean one
        if not stop:
            stop()

    for number in (*STOPS, signal.SIGUSR2):
        signal.signal(number, once)
    return run(job, stop)


def _locked(log: IO[bytes]) -> bool:
    """Whether the lock of a log could be had; the process that writes to it holds it on."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _settle(cores: Sequence[int]) -> None:
    """In the new process: it stays on its cores, and saves and stops when the one that started it dies."""
    if _prctl:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if cores and hasattr(os, "sched_setaffinity"):  # Linux; macOS places processes by itself
        os.sched_setaffinity(0, cores)


def _wait(process: subprocess.Popen[bytes], stop: Stop) -> str:
    """Waits for a process, and passes on what the user asks; STOPPED, or nothing where it ended by itself."""
    asked = False
    while True:
        try:
            process.wait(INTERVAL)
            break
        except subprocess.TimeoutExpired:
            if stop.kills:
                os.killpg(process.pid, signal.SIGKILL)
            elif stop and not asked:
                process.send_signal(signal.SIGINT)
                asked = True
    ended_so = process.returncode in STOPPED_BY_SIGNAL or stop.kills
    return STOPPED if process.returncode and (asked or ended_so) else ""


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
    """The result.json of a member; None where there is none.

    Raises:
        InputError: when it is no whole result.
    """
    path = folder / "result.json"
    if not path.exists():
        return None
    advice = "move it away, and run its command again"
    return files.read_json(path, "whole result", advice, steps=int, throughput=dict, versions=dict)


def is_done(folder: pathlib.Path) -> bool:
    """Whether a folder holds a whole result."""
    try:
        return read_result(folder) is not None
    except InputError:
        return False


def last_words(folder: pathlib.Path) -> str:
    """The last line of a member's log that says something."""
    try:
        lines = (folder / "log.txt").read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return "it left no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def check(names: Mapping[str, Sequence[str]], with_data: bool) -> dict[str, str]:
    """What is wrong with members before they are started; imports what they do, so not in the runner itself.

    Datasets that are missing are fetched here, one by one, rather than by several members at once.

    Args:
        names: of members, to the arguments of their commands.
        with_data: read the datasets too.

    Returns:
        Name to message, of those that cannot run.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"  # devices are for the members
    import importlib

    from absl import flags as absl_flags

    from valuelab import data
    from valuelab.runs import flags

    wrong: dict[str, str] = {}
    looked_at: dict[tuple[str, bool], str] = {}
    for name, (_, module, *arguments) in names.items():
        program = importlib.import_module(module)
        parse = getattr(program, "parse", flags.parse_run)
        try:
            config, _ = parse([module, *arguments], absl_flags.FlagValues())
        except (InputError, absl_flags.Error) as error:
            wrong[name] = str(error)
            continue
        if not config.dataset or not with_data:
            continue
        clip_actions = config.data.clip_actions
        looked = config.dataset, clip_actions
        if looked not in looked_at:
            looked_at[looked] = ""
            try:
                data.load(config.dataset, config.data_dir, compact=True, clip_actions=clip_actions)
            except InputError as error:
                looked_at[looked] = str(error)
        if looked_at[looked]:
            wrong[name] = looked_at[looked]
    return wrong
