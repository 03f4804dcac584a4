"""Draws the diagrams of the documentation into this folder: python docs/images/diagrams.py.

All diagrams have one style. Coordinates are inches from the lower left corner, so that boxes and fonts keep
their sizes. The site shows a diagram 720 pixels wide, a phone about half as wide.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from valuelab.evaluation import figures

FOLDER = pathlib.Path(__file__).parent
WIDTH = 7.6
PIXELS_PER_INCH = 200
TEXT, SMALL = 13, 11.5
INK, GREY, WHITE = "#1A1A1A", "#5B6168", "#FFFFFF"
BLUE, ORANGE, GREEN, PURPLE = "#DCEAF6", "#FBE9CC", "#D8EFE6", "#F3E0EB"
PLAIN = "#EEF0F2"
BORDERS = {
    BLUE: figures.BLUE,
    ORANGE: "#B97F00",
    GREEN: figures.GREEN,
    PURPLE: "#A5527C",
    PLAIN: "#8A9199",
    WHITE: "#8A9199",
}
"""Colour of a box -> colour of its border."""


class Box(NamedTuple):
    """A rectangle, in inches."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> tuple[float, float]:
        """The middle of the left side."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        """The middle of the right side."""
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> tuple[float, float]:
        """The middle of the upper side."""
        return self.x + self.width / 2, self.y + self.height

    @property
    def bottom(self) -> tuple[float, float]:
        """The middle of the lower side."""
        return self.x + self.width / 2, self.y


def canvas(height: float) -> tuple[Figure, Axes]:
    """An empty diagram with opaque white background."""
    figure = Figure((WIDTH, height), facecolor=WHITE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def save(figure: Figure, name: str) -> None:
    """Writes a diagram into this folder."""
    figures.saved(figure, FOLDER / name, dpi=PIXELS_PER_INCH)


def draw_box(axes: Axes, box: Box, text: str = "", colour: str = WHITE, **style: Any) -> Box:
    """Draws a box with text in its middle, and returns the box."""
    patch = FancyBboxPatch(
        (box.x, box.y),
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.07",
        facecolor=colour,
        edgecolor=BORDERS[colour],
        linewidth=1.3,
    )
    axes.add_patch(patch)
    x, y = box.x + box.width / 2, box.y + box.height / 2 + 0.02  # descenders make text look too low
    write(axes, x, y, text, ha="center", va="center_baseline", **style)
    return box


def frame(axes: Axes, box: Box, title: str, colour: str = WHITE) -> Box:
    """Draws a box with a title inside its upper left corner."""
    draw_box(axes, box, colour=colour)
    write(axes, box.x + 0.14, box.y + box.height - 0.12, title, va="top", size=SMALL, color=GREY)
    return box


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Writes text."""
    axes.text(x, y, text, **{"fontsize": style.pop("size", TEXT), "color": INK, "linespacing": 1.35} | style)


def arrow(axes: Axes, *points: tuple[float, float], dashed: bool = False, both: bool = False) -> None:
    """Draws an arrow along straight lines through points; it ends exactly at the last point."""
    patch = FancyArrowPatch(
        path=Path(points),
        arrowstyle="<|-|>" if both else "-|>",
        mutation_scale=13,
        color=GREY,
        linewidth=1.4,
        linestyle=(0, (4, 2)) if dashed else "solid",
        shrinkA=0,
        shrinkB=0,
        joinstyle="miter",
        capstyle="butt",
    )
    axes.add_patch(patch)


ARROWS = (
    ("base", "ops, networks"),
    ("base", "distributional"),
    ("base", "domains"),
    ("base", "training, evaluation"),
    ("ops, networks", "feature_learners"),
    ("ops, networks", "policies"),
    ("feature_learners", "critics"),
    ("critics", "agents"),
    ("policies", "agents"),
    ("distributional", "agents"),
    ("distributional", "environments"),
    ("domains", "environments"),
    ("domains", "data"),
    ("agents", "presets"),
    ("presets", "runs"),
    ("environments", "runs"),
    ("data", "runs"),
    ("training, evaluation", "runs"),
    ("runs", "benchmark"),
    ("benchmark", "experiments"),
)
"""Parts, and the parts that import them; tests/test_architecture.py compares them with the sources."""


def draw_architecture() -> None:
    """The packages in layers, with arrows from a part to those that import it."""
    figure, axes = canvas(7.5)
    high, whole = 0.46, (0.2, WIDTH - 0.4)
    rows = [0.2 + 0.83 * row for row in range(9)]
    critics, policies, both = (0.2, 1.62), (1.96, 1.1), (0.2, 2.86)
    worlds, sources, loop = (3.42, 1.46), (5.06, 1.02), (6.24, 1.16)
    places = {
        "base": (whole, 0, PLAIN, "types, errors, configuration, files and other small modules"),
        "ops, networks": (both, 1, BLUE, "ops, networks"),
        "feature_learners": (critics, 2, BLUE, "feature learners"),
        "critics": (critics, 3, BLUE, "critics"),
        "policies": (policies, 3, BLUE, "policies"),
        "agents": (both, 4, BLUE, "agents"),
        "presets": (both, 5, BLUE, "presets"),
        "distributional": (worlds, 1, ORANGE, "distributional"),
        "environments": (worlds, 3, ORANGE, "environments"),
        "domains": (sources, 1, ORANGE, "domains"),
        "data": (sources, 3, ORANGE, "data"),
        "training, evaluation": (loop, 3, GREEN, "training,\nevaluation"),
        "runs": (whole, 6, PURPLE, "runs: one run, from the command line to its results"),
        "benchmark": (whole, 7, PURPLE, "benchmark: suites of many runs, reports"),
        "experiments": (whole, 8, PURPLE, "experiments: programs, suites, studies"),
    }
    boxes = {}
    for name, ((x, width), row, colour, text) in places.items():
        y = rows[2] if "\n" in text else rows[row]  # the box of two lines is as high as two rows
        boxes[name] = draw_box(axes, Box(x, y, width, rows[row] + high - y), text, colour)
    distributional, domains = boxes["distributional"], boxes["domains"]
    between, above = distributional.x - 0.18, rows[2] + high / 2
    from_domains, to_environments = domains.x + 0.22, distributional.right[0] - 0.22
    routes = {
        ("distributional", "agents"): (
            distributional.left,
            (between, distributional.left[1]),
            (between, boxes["agents"].right[1]),
            boxes["agents"].right,
        ),
        ("domains", "environments"): (
            (from_domains, domains.top[1]),
            (from_domains, above),
            (to_environments, above),
            (to_environments, boxes["environments"].y),
        ),
    }
    for names in ARROWS:
        lower, upper = (boxes[name] for name in names)
        x = min(lower, upper, key=lambda box: box.width).top[0]
        arrow(axes, *routes.get(names, ((x, lower.top[1]), (x, upper.y))))
    save(figure, "architecture.png")


def draw_update_life() -> None:
    """What the host and the devices do from one event of a run to the next."""
    figure, axes = canvas(7.6)
    left, wide = 0.2, WIDTH - 0.85
    calls = Box(left, 6.66, wide, 0.74)
    draw_box(
        axes,
        calls,
        "host: call the compiled program until the next event\n(log row, evaluation, checkpoint)",
        PURPLE,
    )
    device = Box(left, 1.3, wide, 5.02)
    frame(axes, device, "devices: slices of about two seconds, each of whole blocks")
    update = Box(left + 0.18, 1.46, wide - 0.36, 4.44)
    frame(axes, update, "update t, for each member", BLUE)
    steps = (
        "if the agent acts: environment steps that are due",
        "draw a batch with the key fold_in(data key, t)",
        "normalise the batch",
        "gradient steps of the critic",
        "gradient step of the policy: new critic, old targets",
        "move the targets towards the parameters",
        "add the metrics to their sums",
    )
    height, gap = 0.4, 0.165
    boxes = [
        Box(update.x + 0.18, update.top[1] - 0.82 - number * (height + gap), update.width - 1.06, height)
        for number in range(len(steps))
    ]
    for box, text in zip(boxes, steps, strict=True):
        draw_box(axes, box, text)
    for above, below in itertools.pairwise(boxes):
        arrow(axes, above.bottom, below.top)
    _draw_return(axes, boxes[-1], boxes[0], boxes[0].right[0] + 0.24)
    write(axes, boxes[0].right[0] + 0.3, boxes[3].right[1], "t + 1", size=SMALL, color=GREY, va="center")
    event = Box(left, 0.2, wide, 0.74)
    text = "host, at the event: read the sums, refuse NaN and infinity;\nthen write rows, evaluate, save"
    draw_box(axes, event, text, PURPLE)
    arrow(axes, calls.bottom, device.top)
    arrow(axes, device.bottom, event.top)
    _draw_return(axes, event, calls, calls.right[0] + 0.36)
    save(figure, "update_life.png")


def _draw_return(axes: Axes, last: Box, first: Box, x: float) -> None:
    """Draws an arrow from the last box of a loop back to the first, along a vertical line at x."""
    arrow(axes, last.right, (x, last.right[1]), (x, first.right[1]), first.right)


STEPS = 4
"""The length of the episode in the diagram of storages."""


def draw_storages() -> None:
    """An episode, its rows in full and in compact storage, and the meaning of a mask of 0."""
    figure, axes = canvas(6.05)
    write(axes, 0.25, 5.67, f"An episode of T = {STEPS} steps: {STEPS} actions, {STEPS + 1} observations")
    radius, apart, y = 0.25, 1.62, 4.92
    for step in range(STEPS + 1):
        x = 0.55 + step * apart
        axes.add_patch(Circle((x, y), radius, facecolor=BLUE, edgecolor=BORDERS[BLUE], linewidth=1.3))
        write(axes, x, y - 0.06, f"$s_{step}$", ha="center", size=15)
        if step < STEPS:
            arrow(axes, (x + radius, y), (x + apart - radius, y))
            write(axes, x + apart / 2, y + 0.1, f"$a_{step}$", ha="center", va="bottom", size=15)
            write(axes, x + apart / 2, y - 0.1, f"$r_{step}$", ha="center", va="top", size=15)
    write(
        axes, 0.55 + STEPS * apart + radius, y - 0.44, "final observation", ha="right", va="top", size=SMALL
    )
    every = range(STEPS + 1)
    masks = ["1"] * (STEPS - 1) + ["0"]
    full = {
        "obs.": [f"$s_{step}$" for step in every[:-1]],
        "action": [f"$a_{step}$" for step in every[:-1]],
        "reward": [f"$r_{step}$" for step in every[:-1]],
        "mask": masks,
        "next": [f"$s_{step}$" for step in every[1:]],
    }
    compact = {
        "obs.": [f"$s_{step}$" for step in every],
        "action": [f"$a_{min(step, STEPS - 1)}$" for step in every],
        "reward": [f"$r_{min(step, STEPS - 1)}$" for step in every],
        "mask": [*masks, "0"],
        "valid": ["1"] * STEPS + ["0"],
    }
    _draw_table(axes, 0.2, "full storage: a row is a transition", full)
    _draw_table(axes, 3.93, "compact storage: each observation once", compact)
    write(axes, 0.25, 1.32, "The last row of compact storage holds only the final observation.", size=SMALL)
    explained = (
        "mask 0: the episode truly ended in $s_4$; the target of $V(s_3)$ is $r_3$.",
        "mask 1: a time limit, or the end of the log, cut it;",
        "the target is $r_3 + \\gamma V(s_4)$, which needs $s_4$.",
    )
    for number, line in enumerate(explained):
        write(axes, 0.25, 0.85 - 0.29 * number, line)
    save(figure, "episode_layout.png")


def _draw_table(axes: Axes, left: float, title: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Draws a storage: one row for each row of its arrays; rows that are not valid are grey."""
    top, width, height = 3.75, 0.69, 0.36
    write(axes, left + 0.05, top + 0.12, title, size=SMALL)
    valid = columns.get("valid", ["1"] * STEPS)
    for number, (name, values) in enumerate(columns.items()):
        x = left + number * width
        cells = [(name, PLAIN)] + [
            (value, WHITE if known == "1" or not number else PLAIN)
            for value, known in zip(values, valid, strict=True)
        ]
        for row, (text, colour) in enumerate(cells):
            cell = Rectangle((x, top - (row + 1) * height), width, height, facecolor=colour)
            cell.set(edgecolor=BORDERS[PLAIN], linewidth=1.0)
            axes.add_patch(cell)
            style = {"size": SMALL} if row == 0 else {"size": TEXT}
            if row and colour == PLAIN:
                style["color"] = "#8A9199"
            elif name == "mask" and text == "0":
                style |= {"color": figures.VERMILLION, "weight": "bold"}
            write(axes, x + width / 2, top - (row + 0.5) * height - 0.05, text, ha="center", **style)


def draw_mesh() -> None:
    """Eight devices with four members: what each device holds, and which devices communicate."""
    figure, axes = canvas(7.3)
    columns, rows, wide, high = (0.86, 4.44), (5.12, 3.9, 2.68, 1.46), 2.96, 1.06
    write(axes, columns[0], 6.92, "8 devices, 4 members: --mesh=4,2")
    _draw_axis(axes, (columns[0], 6.52), (columns[1] + wide, 6.52), "data")
    _draw_axis(axes, (0.56, rows[0] + high), (0.56, rows[-1]), "seed")
    for member, y in enumerate(rows):
        devices = [Box(x, y, wide, high) for x in columns]
        for column, (device, half) in enumerate(zip(devices, ("first", "second"), strict=True)):
            frame(axes, device, f"device {2 * member + column}")
            state = Box(device.x + 0.12, y + 0.12, 1.12, 0.58)
            draw_box(axes, state, f"state of\nmember {member}", BLUE, size=SMALL)
            part = Box(device.x + 1.34, y + 0.12, 1.5, 0.58)
            draw_box(axes, part, f"{half} half of\nrows and batch", ORANGE, size=SMALL)
        arrow(axes, devices[0].right, devices[1].left, both=True)
    explained = (
        "seed axis: members differ, the rows of the dataset are copies;",
        "devices in a column do not communicate.",
        "data axis: rows and batches differ, states are copies;",
        "devices in a row add their gradients (double arrows).",
    )
    for number, line in enumerate(explained):
        write(axes, 0.25, 1.0 - 0.26 * number, line, size=12.5)
    save(figure, "mesh.png")


def _draw_axis(axes: Axes, start: tuple[float, float], end: tuple[float, float], name: str) -> None:
    """Draws an axis of the mesh with its name in the middle."""
    arrow(axes, start, end)
    middle = [sum(pair) / 2 for pair in zip(start, end, strict=True)]
    vertical = 90 if start[0] == end[0] else 0
    style = {"rotation": vertical, "backgroundcolor": WHITE, "weight": "bold"}
    write(axes, *middle, f"{name} axis", ha="center", va="center", **style)


def main() -> None:
    """Draws all diagrams."""
    draw_architecture()
    draw_update_life()
    draw_storages()
    draw_mesh()


if __name__ == "__main__":
    main()
