"""The progress of jobs as the user sees it."""

import collections
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from valuelab import files
from valuelab.benchmark import processes, suites
from valuelab.benchmark.processes import Stop
from valuelab.benchmark.suites import Job
from valuelab.evaluation import metrics
from valuelab.runs import command_line

TAIL = 1 << 16
"""Bytes at the end of a growing log that are read."""
WAITING, RUNNING = "waiting", "running"
"""The states of a job before it has ended; afterwards the state is the outcome of its launch."""
NO_SCORE = "it is done, but some of its episodes have no finite score"


@dataclasses.dataclass
class Progress:
    """The progress of a job.

    Attributes:
        state: WAITING, RUNNING, or the outcome of the launch.
        since: when it got into this state, in seconds of time.monotonic().
        steps: the number of updates done.
        total: the number of updates of the whole run; 0 while unknown.
        speed: updates per second, of all seeds together.
        seconds_left: time that the remaining updates take.
        score: mean over seeds at the latest evaluation. None before the first evaluation, for a sweep, and
            when a seed has no score.
    """

    state: str = WAITING
    since: float = 0.0
    steps: int = 0
    total: int = 0
    speed: float = 0.0
    seconds_left: float = 0.0
    score: float | None = None


class Board:
    """The progress of all jobs: a live table on a terminal; elsewhere a line whenever a state changes."""

    def __init__(self, jobs: Sequence[Job], workdir: pathlib.Path, console: Console):
        """Starts with all jobs waiting.

        Args:
            jobs: the jobs.
            workdir: of the suite.
            console: where to print.
        """
        self._folders = {job.name: workdir / job.folder for job in jobs}
        self._short, self._shared = suites.short_names(jobs)
        self._progress = {job.name: Progress() for job in jobs}
        self._console = console
        self._workdir = workdir
        self._live: Live | None = None
        self._start = time.monotonic()

    def set_state(self, name: str, state: str, message: str = "") -> None:
        """Changes the state of a job, and prints it.

        Args:
            name: of the job.
            state: see `Progress`.
            message: the reason of a failure; by default the last line of the job's log.
        """
        progress, folder = self._progress[name], self._folders[name]
        seconds = time.monotonic() - progress.since
        ran = progress.state == RUNNING
        progress.state, progress.since, progress.seconds_left = state, time.monotonic(), 0.0
        if state != RUNNING:
            read_progress(folder, progress)
        failed = state == processes.FAILED
        if self._console.is_terminal and not failed:
            return
        text = f"{name}: {state}"
        if ran:
            text += f" after {_duration(seconds)}"
        if state == processes.DONE and progress.score is not None:
            text += f", score {files.to_text(progress.score)}"
        if failed:
            log = folder / "log.txt"
            text += f": {message or f'{processes.last_words(folder)} ({log})'}"
        self._console.print(text, highlight=False, soft_wrap=True)

    def names(self, state: str) -> list[str]:
        """The names of the jobs in a state."""
        return [name for name, progress in self._progress.items() if progress.state == state]

    def live(self) -> Live:
        """A context that shows the table while jobs run, if the console is a terminal."""
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        return self._live

    def refresh(self) -> None:
        """Reads the progress of running jobs and redraws the table, if the console is a terminal."""
        if self._live and self._console.is_terminal:
            for name in self.names(RUNNING):
                read_progress(self._folders[name], self._progress[name])
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        """The table of all jobs."""
        title = f"{self._done()}, {_duration(time.monotonic() - self._start)}"
        table = Table(title=f"{self._shared}: {title}" if self._shared else title)
        table.add_column("job", overflow="fold")  # a long name takes several lines and is not cut
        table.add_column("state", no_wrap=True)
        for name in ("updates", "updates/s", "left", "score"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, progress in self._progress.items():
            table.add_row(
                self._short[name],
                progress.state,
                f"{_count(progress.steps)} / {_count(progress.total)}" if progress.total else "",
                f"{progress.speed:,.0f}" if progress.speed else "",
                _duration(progress.seconds_left) if progress.seconds_left else "",
                "" if progress.score is None else files.to_text(progress.score),
            )
        return table

    def _done(self) -> str:
        """Such as "3 of 22 jobs done"."""
        total = len(self._progress)
        return f"{len(self.names(processes.DONE))} of {total} {'job' if total == 1 else 'jobs'} done"

    def summarize(self, stop: Stop) -> int:
        """Prints how many jobs are in each state and what to do next; returns the runner's exit status."""
        if self._console.is_terminal:
            self._console.print(self._table())
        counts = collections.Counter(progress.state for progress in self._progress.values())
        others = [f"{count} {state}" for state, count in counts.items() if state != processes.DONE]
        print(f"{', '.join([self._done(), *others])}; everything is in {self._workdir}")
        if self.names(processes.DONE) and not stop:
            command_line.print_next(command_line.command("report", self._workdir))
        if stop:
            print("stopped; run the same command again to continue", file=sys.stderr)
            return 130
        failed = self.names(processes.FAILED)
        scoreless = [name for name in failed if processes.lacks_score(self._folders[name])]
        if scoreless:
            folders = " ".join(str(self._folders[name]) for name in scoreless)
            print(f"to run jobs without a finite score again, remove {folders}", file=sys.stderr)
        if len(failed) > len(scoreless):
            which = "other failed jobs" if scoreless else "failed jobs"
            print(f"run the same command again to retry the {which}", file=sys.stderr)
        return int(bool(failed))


def _count(number: int) -> str:
    """A number of updates in few letters: 950, 20k, 1.5M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.4g}{letter}"
    return str(number)


def _duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def read_progress(folder: pathlib.Path, progress: Progress) -> None:
    """Updates the progress of a job from the files in its workdir, if they exist already."""
    try:
        settings = files.read_json(folder / "config.json", "config", "wait", settings=dict)["settings"]
        with (folder / "metrics.jsonl").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            text = file.read().decode(errors="replace")
        rows = [json.loads(row) for row in text.split("\n")[size > TAIL : -1]]
    except (OSError, ValueError, KeyError):
        return
    progress.total = settings["steps"]
    if not rows:
        return
    newest = rows[-1]
    progress.steps, progress.speed = newest["step"], newest["updates_per_second"]
    seeds = sum(row["step"] == newest["step"] for row in rows)
    remaining = (progress.total - progress.steps) * seeds
    progress.seconds_left = remaining / progress.speed if progress.state == RUNNING else 0.0
    evaluated = [row for row in rows if metrics.score_of(row)]
    if evaluated:
        latest = evaluated[-1]
        metric = metrics.score_of(latest)
        scores = [row[metric] for row in evaluated if row["step"] == latest["step"]]
        has_mean = not settings.get("sweep") and None not in scores  # different settings have no common mean
        progress.score = sum(scores) / len(scores) if has_mean else None
