"""Draws docs/images/episode_layout.png: python docs/images/episode_layout.py."""

import pathlib

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

STEPS = 4
INK, PALE, BLUE, RED = "#222222", "#b5b5b5", "#2f6db3", "#c0392b"
CELL, ROW = 1.0, 0.56


def chain(axes: Axes) -> None:
    """The episode: T + 1 observations, with an action and a reward between each two."""
    for step in range(STEPS + 1):
        axes.text(
            2 * step,
            0,
            f"$s_{step}$",
            ha="center",
            va="center",
            fontsize=13,
            bbox={"boxstyle": "circle,pad=0.35", "facecolor": "#e3edf8", "edgecolor": BLUE},
        )
        if step < STEPS:
            arrow = {"arrowstyle": "->", "color": INK, "shrinkA": 16, "shrinkB": 16}
            axes.annotate("", (2 * step + 2, 0), (2 * step, 0), arrowprops=arrow)
            axes.text(2 * step + 1, 0.16, f"$a_{step}$", ha="center", va="bottom", fontsize=12)
            axes.text(2 * step + 1, -0.16, f"$r_{step}$", ha="center", va="top", fontsize=12)
    axes.text(-0.7, 0.95, "An episode of T = 4 steps has 4 actions and 5 observations.", fontsize=12)
    axes.text(2 * STEPS, -0.5, "final observation", ha="center", va="top", fontsize=10, color=BLUE)


def table(axes: Axes, left: float, title: str, columns: dict[str, list[str]], pale_row: int = -1) -> None:
    """A storage: one row for each row of the arrays."""
    top = -1.75
    axes.text(left - 0.4, top + 0.6, title, fontsize=12)
    for number, (name, values) in enumerate(columns.items()):
        x = left + number * CELL
        axes.text(x, top, name, ha="center", va="center", fontsize=9, color=INK)
        for row, value in enumerate(values):
            y = top - (row + 1) * ROW
            color = PALE if row == pale_row and number else INK
            if name == "mask" and value == "0" and row != pale_row:
                color = RED
            axes.text(x, y, value, ha="center", va="center", fontsize=12, color=color)
    width = len(columns) * CELL
    axes.plot([left - CELL / 2, left - CELL / 2 + width], [top - 0.27] * 2, color=INK, linewidth=0.8)


def main() -> None:
    """Draws the picture."""
    figure, axes = plt.subplots(figsize=(9.2, 5.4))
    chain(axes)
    numbers = range(STEPS)
    masks = ["1"] * (STEPS - 1) + ["0"]
    table(
        axes,
        0,
        "full storage: a row is a transition",
        {
            "observation": [f"$s_{n}$" for n in numbers],
            "action": [f"$a_{n}$" for n in numbers],
            "reward": [f"$r_{n}$" for n in numbers],
            "mask": masks,
            "next": [f"$s_{n + 1}$" for n in numbers],
        },
    )
    table(
        axes,
        5.6,
        "compact storage: each observation once",
        {
            "observation": [f"$s_{n}$" for n in range(STEPS + 1)],
            "action": [f"$a_{min(n, STEPS - 1)}$" for n in range(STEPS + 1)],
            "reward": [f"$r_{min(n, STEPS - 1)}$" for n in range(STEPS + 1)],
            "mask": [*masks, "0"],
            "valid": ["1"] * STEPS + ["0"],
        },
        pale_row=STEPS,
    )
    axes.text(5.1, -5.2, "The last row only holds the final observation.", fontsize=10, color="#777777")
    axes.text(
        -0.7,
        -5.75,
        "mask 0: the episode truly ended in $s_4$ (terminated).  The target of $V(s_3)$ is $r_3$.\n"
        "mask 1: a time limit, or the end of the log, cut it.  The target is $r_3 + \\gamma\\, V(s_4)$: "
        "this needs $s_4$.",
        fontsize=11,
        va="top",
        linespacing=1.6,
    )
    axes.set_xlim(-0.9, 10.2)
    axes.set_ylim(-6.8, 1.3)
    axes.set_axis_off()
    figure.tight_layout(pad=0.2)
    figure.savefig(pathlib.Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
