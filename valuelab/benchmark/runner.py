"""A suite in its folder: the jobs that are left are started, watched and counted."""

import collections
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from absl import flags as absl_flags
from rich.console import Console
from rich.live import Live
from rich.table import Table

from valuelab import errors, files
from valuelab.arrays import available_memory
from valuelab.benchmark import processes, suites
from valuelab.benchmark.processes import Job, Stop
from valuelab.benchmark.suites import Member, Suite
from valuelab.configuration import RunConfig, check_ranges
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import command_line, outputs

FORMAT = 1
"""Of suite.json."""
MEMBER_BYTES = 3 << 30
"""Memory that a member takes at most on a CPU host."""
CORES = 2
"""That a member makes good use of, on a CPU host."""
MEMORY_SHARE = 0.9
"""Of an accelerator's memory, that members which share it take together."""
REFRESH = 2.0
"""Seconds between two looks at what members do."""
ENTRY = ("name", "label", "folder", "program", "agent", "dataset", "added", "command")
"""What suite.json says of a member."""
METRICS = ("objective", "normalized_score", "success", "return")
"""Scores in logs; where there are several, the first of these counts."""
TAIL = 1 << 16
"""Bytes at the end of a log that are read while it grows."""
NO_SCORE = "it is done, and some of its episodes have no finite score"
DAY = 24 * 60
"""Minutes: the time limit of a cluster's job, unless one is given."""
Start = Callable[[Job, Stop], str]
"""Starts a job, waits until it has ended, and says what became of it."""


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """The settings of a benchmark.

    Attributes:
        suite: FILE.py, or the name of a file of experiments/suites.
        workdir: folder for everything that the suite leaves.
        data_dir: folder that holds the datasets.
        only: LABEL or LABEL/DATASET, or several with commas: the members that are run; all by default.
        add: FILE.py or FILE.py:PRESET, or several with commas: agents more, on each dataset of the suite.
        jobs: members side by side; 0 for as many as cores, accelerators and memory allow.
        cluster: where members run; none for processes of this machine, local for submitit's test of slurm.
        slurm: KEY=VALUE for submitit, such as partition=gpu, gpus_per_node=1 or timeout_min=600; repeated.
    """

    suite: str = ""
    workdir: str = ""
    data_dir: str = RunConfig.data_dir
    only: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    jobs: int = 0
    cluster: Literal["slurm", "local"] | None = None
    slurm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self, jobs="[0, inf)")


def run(config: BenchmarkConfig, suites_folder: pathlib.Path) -> int:
    """Does what is left of a suite.

    Args:
        config: the settings.
        suites_folder: holds the suites that have names.

    Returns:
        The exit status: 0 when all is done, 1 when a member failed, 130 when it was stopped.

    Raises:
        InputError: for settings, a suite or a folder that cannot be used.
    """
    if not config.suite:
        raise InputError(
            f"no suite is given; write --suite=FILE.py or one of {suites.known_suites(suites_folder)}"
        )
    wanted = suites.read(config.suite, suites_folder)
    for agent in _split("add", config.add):
        wanted = suites.add(wanted, agent)
    chosen = suites.choose(wanted, _split("only", config.only))
    submit = _submitter(config) if config.cluster else None
    if not config.workdir:
        raise InputError(outputs.NO_WORKDIR)
    workdir = outputs.make_folder(config.workdir)
    with outputs.locked(workdir):
        return fill(workdir, config, wanted, chosen, submit)


def fill(
    workdir: pathlib.Path,
    config: BenchmarkConfig,
    wanted: Suite,
    chosen: Sequence[Member],
    submit: Start | None,
) -> int:
    """Does what is left of a suite in its folder.

    Args:
        workdir: the folder.
        config: the settings.
        wanted: the suite, with what was added.
        chosen: the members that are to run.
        submit: starts them elsewhere than on this machine.

    Returns:
        The exit status, as of `run`.

    Raises:
        InputError: when the folder belongs to another suite or to other versions.
    """
    same = prepare(workdir, wanted)
    console = Console(markup=False)  # brackets in what members say are no markup
    board = Board(chosen, workdir, console)
    jobs = {member.name: make_job(member, config, workdir) for member in chosen}
    for member in chosen:
        folder = workdir / member.folder
        try:
            result = processes.read_result(folder)
        except InputError as error:
            (folder / "result.json").replace(folder / "result.json.damaged")
            console.print(f"{error}: {member.name} goes on from its last checkpoint", highlight=False)
            result = None
        if result and member.name in same:
            if "without_score" in result:  # its command would say the same again
                board.set(member.name, processes.FAILED, f"{NO_SCORE}: remove {folder} to run it again")
            else:
                board.set(member.name, processes.DONE)
    waiting = board.having("waiting")
    stop = Stop()
    handlers = {number: signal.signal(number, stop) for number in processes.STOPS}
    try:
        if waiting:
            console.print(f"{len(waiting)} of {len(chosen)} members to run; looking at flags and data first")
            commands = {name: jobs[name].arguments for name in waiting}
            for name, message in _checked(commands, with_data=not submit).items():
                processes.refuse(jobs[name], message)
                board.set(name, processes.FAILED)
        lanes = [Slot()] * (config.jobs or max(1, len(waiting)))  # for a cluster, which divides itself
        slots = lanes if submit else share_machine(config.jobs)
        work(board, jobs, slots, submit or processes.run, stop)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return board.summarize(stop)


def _split(flag: str, values: Sequence[str]) -> list[str]:
    """Values of a flag that is repeated, or given with commas.

    Raises:
        InputError: when one is empty, or given twice.
    """
    parts = [part for value in values for part in value.split(",")]
    for place, part in enumerate(parts):
        if not part:
            raise InputError(
                f"{flag} is {','.join(values)!r}, which names nothing: give names, or leave it out"
            )
        if part in parts[:place]:
            raise InputError(f"{flag} names {part} twice: give it once")
    return parts


# The folder of a suite.


def prepare(workdir: pathlib.Path, wanted: Suite) -> set[str]:
    """Checks that the folder of a suite is new or can be gone on with; writes suite.json.

    Args:
        workdir: the folder.
        wanted: the suite, with what was added.

    Returns:
        The names of members whose commands are what they were: their results count.

    Raises:
        InputError: when it belongs to another suite or to other versions.
    """
    path = workdir / "suite.json"
    facts = {
        "format": FORMAT,
        "suite": wanted.name,
        "source": wanted.source,
        "versions": outputs.versions(),
        "device": describe_machine(),
    }
    earlier: dict[str, Any] = {}
    if path.exists():
        what, advice = "suite of valuelab", "give another --workdir"
        saved = files.read_json(path, what, advice, members=list, versions=dict)
        with errors.one_line(f"{path} is no {what}", advice):
            earlier = {entry["name"]: {name: entry[name] for name in ENTRY} for entry in saved["members"]}
            told = {name: saved[name] for name in ("format", "suite")} | saved["versions"]
        ours = {name: facts[name] for name in ("format", "suite")} | outputs.versions()
        if changes := [
            f"{name} {told.get(name)}, and now {new}" for name, new in ours.items() if told.get(name) != new
        ]:
            raise InputError(f"{path} is of {'; '.join(changes)}: give another --workdir")
    entries = {member.name: _entry(member) for member in wanted.members}
    kept = {name: entry for name, entry in earlier.items() if entry["added"] and name not in entries}
    same = set()
    for name, entry in entries.items():
        before = earlier.get(name, entry)["command"]
        if before == entry["command"]:
            same.add(name)
        elif (workdir / entry["folder"] / "result.json").exists():
            entry["command"] = before  # which made what lies there
    outputs.write_json(path, facts | {"members": [*entries.values(), *kept.values()]})
    return same


def _entry(member: Member) -> dict[str, Any]:
    """What suite.json says of a member."""
    words = [*member.arguments, f"--workdir={member.folder}"]
    return {
        "name": member.name,
        "label": member.label,
        "folder": member.folder,
        "program": member.program,
        "agent": member.agent,
        "dataset": member.dataset,
        "added": member.added,
        "command": f"python {' '.join(words)}",
    }


def make_job(member: Member, config: BenchmarkConfig, workdir: pathlib.Path) -> Job:
    """What starts a member, with places that hold wherever it is started."""
    folder = (workdir / member.folder).absolute()
    data_dir = local_path("data_dir", config.data_dir).absolute()
    places = [f"--data_dir={data_dir}", f"--workdir={folder}"]
    return Job(
        member.name, [*member.arguments, *places], str(folder), str(workdir.absolute() / "timings.jsonl")
    )


def _checked(commands: Mapping[str, Sequence[str]], with_data: bool) -> dict[str, str]:
    """`processes.check` in a process of its own, whose memory ends with it."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(processes.check, commands, with_data).result()


# The machine.


class Slot(NamedTuple):
    """A share of the machine, for one member at a time.

    Attributes:
        cores: that it may use; none for all.
        environment: variables that give it its accelerator.
    """

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}


def share_machine(jobs: int = 0) -> list[Slot]:
    """Divides cores and accelerators.

    Args:
        jobs: how many shares; 0 for one an accelerator or, without any, one for each CORES cores, as long as
            there are MEMBER_BYTES of memory for each.

    Returns:
        The shares.
    """
    cores, devices = available_cores(), accelerators()
    fitting = len(devices) or len(cores) // CORES
    jobs = jobs or max(1, min(fitting, available_memory() // MEMBER_BYTES))
    slots = []
    for index in range(jobs):
        own = cores[index * len(cores) // jobs : (index + 1) * len(cores) // jobs]
        environment = {}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
        if jobs > len(devices) > 0:
            share = MEMORY_SHARE / -(-jobs // len(devices))
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{share:.3f}"
        slots.append(Slot(tuple(own or [cores[index % len(cores)]]) if jobs > 1 else (), environment))
    return slots


def available_cores() -> list[int]:
    """The cores that may be used; all where processes have no cores of their own, as on macOS."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def accelerators() -> list[str]:
    """The NVIDIA GPUs that may be used, as CUDA names them; JAX is not asked, for it would hold them."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device]
    return sorted(path.name.removeprefix("nvidia") for path in pathlib.Path("/dev").glob("nvidia[0-9]*"))


def describe_machine() -> str:
    """Where the suite is started, in words, such as "2 x GPU, 16 cores of Intel(R) Xeon(R) ..."."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    gpus = f"{len(accelerators())} x GPU, " if accelerators() else ""
    return f"{gpus}{len(available_cores())} cores of {model}"


# The work.


def work(board: "Board", jobs: Mapping[str, Job], slots: Sequence[Slot], start: Start, stop: Stop) -> None:
    """Runs the members that wait, one at a time in each slot, and shows them until all have ended.

    Args:
        board: of the members.
        jobs: by name.
        slots: what each may use.
        start: of a job.
        stop: asked by the user; members that wait then wait on.
    """
    waiting = queue.SimpleQueue[str]()
    for name in board.having("waiting"):
        waiting.put(name)

    def serve(slot: Slot) -> None:
        while not stop:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            board.set(name, "running")
            job = jobs[name]._replace(cores=slot.cores, environment=slot.environment)
            try:
                board.set(name, start(job, stop))
            except Exception as error:  # such as a cluster that takes no jobs: the others go on
                board.set(name, processes.FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}")

    with concurrent.futures.ThreadPoolExecutor(len(slots)) as pool, board.live():
        serving = [pool.submit(serve, slot) for slot in slots]
        while concurrent.futures.wait(serving, timeout=REFRESH).not_done:
            board.refresh()
    for future in serving:
        future.result()


def _submitter(config: BenchmarkConfig) -> Start:
    """Starts jobs on a cluster, through submitit.

    Raises:
        InputError: without submitit, or for settings that it does not know.
    """
    submitit = errors.require("submitit", "cluster")
    folder = local_path("workdir", config.workdir).absolute() / "submitit"
    settings: dict[str, Any] = {"timeout_min": DAY}
    try:
        executor = submitit.AutoExecutor(folder, cluster=config.cluster)
        for text in config.slurm:
            key, _, value = text.partition("=")
            if sum(other.partition("=")[0] == key for other in config.slurm) > 1:
                raise ValueError(f"{key} is given twice")
            shared = key in executor._valid_parameters()
            settings[key if shared else f"slurm_{key}"] = int(value) if value.isdigit() else value
        executor.update_parameters(**settings)
    except (NameError, ValueError, AssertionError, RuntimeError, TypeError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"slurm is {', '.join(config.slurm)}: submitit refuses it ({said})") from error
    one_at_a_time = threading.Lock()

    def start(job: Job, stop: Stop) -> str:
        while not stop:  # a job that its time limit has stopped is submitted again
            with one_at_a_time:
                executor.update_parameters(name=pathlib.Path(job.folder).name)
                submitted = executor.submit(processes.run_on_worker, job)
            cancelled = False
            while not submitted.done():
                if stop and not cancelled:
                    submitted.cancel()
                    cancelled = True
                time.sleep(processes.INTERVAL)
            if cancelled:
                break
            if (status := submitted.result()) != processes.STOPPED:
                return status
        return processes.STOPPED

    return start


# What is shown.


@dataclasses.dataclass
class Line:
    """What is known of a member.

    Attributes:
        state: "waiting", "running", or what became of it.
        since: when it got there.
        said: why it failed.
        steps: updates done.
        total: updates in all; 0 while unknown.
        speed: updates per second, of all seeds together.
        left: seconds that the other updates take.
        score: mean over seeds, of the latest evaluation; None before the first, and where there is no single
            one: in sweeps, and where a seed has none.
    """

    state: str = "waiting"
    since: float = 0.0
    said: str = ""
    steps: int = 0
    total: int = 0
    speed: float = 0.0
    left: float = 0.0
    score: float | None = None


class Board:
    """What all members do: a live table on a terminal, elsewhere a line at each change."""

    def __init__(self, chosen: Sequence[Member], workdir: pathlib.Path, console: Console):
        """Of the members in a folder; all wait."""
        self._folders = {member.name: workdir / member.folder for member in chosen}
        self._lines = {member.name: Line() for member in chosen}
        self._console = console
        self._workdir = workdir
        self._live: Live | None = None
        self._start = time.monotonic()

    def set(self, name: str, state: str, said: str = "") -> None:
        """Enters what became of a member; without a word of its own, a failure is told by its log."""
        line, folder = self._lines[name], self._folders[name]
        took = time.monotonic() - line.since
        ran = line.state == "running"
        line.state, line.since, line.left = state, time.monotonic(), 0.0
        if state != "running":
            look(folder, line)
        if state == processes.FAILED:
            line.said = said or f"{processes.last_words(folder)} ({folder / 'log.txt'})"
        if not self._console.is_terminal or state == processes.FAILED:
            score = (
                ""
                if line.score is None or state != processes.DONE
                else f", score {files.to_text(line.score)}"
            )
            after = f" after {_duration(took)}" if ran else ""
            told = f": {line.said}" if line.said and state == processes.FAILED else ""
            self._console.print(f"{name}: {state}{after}{score}{told}", highlight=False, soft_wrap=True)

    def having(self, state: str) -> list[str]:
        """The names of members in a state."""
        return [name for name, line in self._lines.items() if line.state == state]

    def live(self) -> Live:
        """The table, to be shown while members run; nothing but on a terminal."""
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        return self._live

    def refresh(self) -> None:
        """Looks at what running members do, where somebody sees it."""
        if self._live and self._console.is_terminal:
            for name in self.having("running"):
                look(self._folders[name], self._lines[name])
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        took = _duration(time.monotonic() - self._start)
        table = Table(title=f"{len(self.having(processes.DONE))} of {len(self._lines)} done, {took}")
        for name in ("member", "", "updates", "updates/s", "left", "score"):
            table.add_column(name, justify="left" if name in ("member", "") else "right")
        for name, line in self._lines.items():
            updates = f"{line.steps:,} / {line.total:,}" if line.total else ""
            left = _duration(line.left) if line.left else ""
            score = "" if line.score is None else files.to_text(line.score)
            table.add_row(name, line.state, updates, f"{line.speed:,.0f}" if line.speed else "", left, score)
        return table

    def summarize(self, stop: Stop) -> int:
        """Prints what became of the members, and returns the exit status."""
        if self._console.is_terminal:
            self._console.print(self._table())
        counts = collections.Counter(line.state for line in self._lines.values())
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        failed = counts[processes.FAILED]
        print(f"{told}; everything is in {self._workdir}")
        if stop:
            print("stopped; the same command goes on from there", file=sys.stderr)
            return 130
        if failed:
            print("the same command tries what failed again", file=sys.stderr)
        return int(failed > 0)


def _duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def look(folder: pathlib.Path, line: Line) -> None:
    """Enters what a member has logged so far: updates, their speed, the time left, and its latest score."""
    try:
        settings = files.read_json(folder / "config.json", "config", "wait", settings=dict)["settings"]
        with (folder / "metrics.jsonl").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            text = file.read().decode(errors="replace")
        rows = [json.loads(row) for row in text.split("\n")[size > TAIL : -1]]
    except (OSError, ValueError, KeyError):
        return
    line.total = settings["steps"]
    if not rows:
        return
    newest = rows[-1]
    line.steps, line.speed = newest["step"], newest["updates_per_second"]
    seeds = sum(row["step"] == newest["step"] for row in rows)
    line.left = (line.total - line.steps) * seeds / line.speed if line.state == "running" else 0.0
    scored = [row for row in rows if any(f"eval/{metric}" in row for metric in METRICS)]
    if scored:
        metric = next(metric for metric in METRICS if f"eval/{metric}" in scored[-1])
        values = [row[f"eval/{metric}"] for row in scored if row["step"] == scored[-1]["step"]]
        pooled = settings.get("sweep") or None in values  # over different settings, or some have no score
        line.score = None if pooled else sum(values) / len(values)


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> BenchmarkConfig:
    """The settings of a command line; arguments and errors as of `command_line.parse_config`."""
    return command_line.parse_config(BenchmarkConfig(), argv, values)


def main(config: BenchmarkConfig, suites_folder: pathlib.Path) -> None:
    """Runs what a command line asks for."""
    sys.exit(run(config, suites_folder))
