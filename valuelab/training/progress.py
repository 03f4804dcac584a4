"""The progress bar of training."""

import contextlib
from collections.abc import Mapping

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from valuelab import files
from valuelab.configuration import Population

console = Console(stderr=True, markup=False)
"""The console of all progress bars: rich can redraw several bars only if they share a console."""


class Progress:
    """A bar with updates per second and the remaining time, and one line for every evaluation."""

    def __init__(self, steps: int, show: bool):
        """Makes a bar of `steps` updates; it is shown only on the first host, and only if `show` is set."""
        self._bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not show or jax.process_index() > 0,
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("training", total=steps, rate="compiling")

    def __enter__(self) -> "Progress":
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops the bar and leaves it on the screen."""
        with contextlib.suppress(OSError):  # the terminal may be closed: the run must still save
            self._bar.stop()

    def begin(self, step: int) -> None:
        """Sets the bar to the update at which training starts or resumes."""
        self._bar.update(self._task, completed=step, rate="")
        if step:
            self._print(f"resuming after update {step:,}")

    def update(self, step: int, updates_per_second: float) -> None:
        """Sets the bar to an update."""
        self._bar.update(self._task, completed=step, rate=f"{updates_per_second:,.0f} updates/s")

    def report(self, step: int, metrics: Mapping[str, np.ndarray], members: Population) -> None:
        """Prints the evaluation scores among the metrics: means over seeds, one line for each setting."""
        scores = {name: values for name, values in metrics.items() if name.startswith("eval/")}
        for swept, chosen in members.by_setting() if scores else ():
            setting = [f"{name}={value}" for name, value in swept.items()]
            means = [
                f"{name.removeprefix('eval/')} {files.to_text(np.mean(np.asarray(v)[chosen]))}"
                for name, v in scores.items()
            ]
            self._print(f"update {step:,}: {'  '.join(setting + means)}")

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):
            if not self._bar.disable:
                self._bar.console.print(text, highlight=False)
