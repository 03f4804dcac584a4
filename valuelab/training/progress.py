"""What a person sees while training runs."""

from collections.abc import Mapping

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar with updates per second and time left, and a line for every evaluation."""

    def __init__(self, steps: int, step: int, show: bool):
        """Starts at `step` of `steps`; shows nothing unless `show` is set and this is the first host."""
        self._bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not show or jax.process_index() > 0,
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("training", total=steps, completed=step, rate="compiling")

    def __enter__(self) -> "Progress":
        """Shows the bar."""
        self._bar.start()
        if done := int(self._bar.tasks[self._task].completed):
            self._bar.console.print(f"going on after update {done:,}", highlight=False)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves the bar as it stands."""
        self._bar.stop()

    def update(self, step: int, updates_per_second: float, metrics: Mapping[str, np.ndarray]) -> None:
        """Moves the bar and prints the means of any evaluation among the metrics."""
        self._bar.update(self._task, completed=step, rate=f"{updates_per_second:,.0f} updates/s")
        scores = {name: values for name, values in metrics.items() if name.startswith("eval/")}
        if scores and not self._bar.disable:
            means = "  ".join(f"{name.removeprefix('eval/')} {np.mean(v):.3g}" for name, v in scores.items())
            self._bar.console.print(f"update {step:,}: {means}", highlight=False)
