"""Colours, new figures, saving and legends for all plots.

Figures are made without pyplot, so nothing global changes: notebooks show the returned figure, and scripts
pass `path`.
"""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from valuelab import errors, files

# The colours of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, VERMILLION, PURPLE, GREEN = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
BLACK, WALL, FREE = "#1A1A1A", "#3B3F46", "#E9ECEF"
_FULL = 0.97
"""The largest share of a figure's width that a legend may use."""


def new(width: float, height: float) -> Any:
    """An empty figure; width and height in inches."""
    return errors.require("matplotlib.figure", "plots").Figure((width, height), layout="constrained")


def saved(figure: Any, path: str | os.PathLike[str] | None, dpi: int = 150) -> Any:
    """Saves the figure if a path is given (its suffix decides the format), and returns the figure."""
    if path is not None:
        with files.replacing(pathlib.Path(path)) as file:
            figure.savefig(file, dpi=dpi, format=pathlib.Path(path).suffix[1:] or None)
    return figure


def plain(panel: Any) -> None:
    """Gives a panel a light grid and removes its top and right spines."""
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Any, handles: Sequence[Any]) -> None:
    """Puts a legend below all panels, in as many columns as fit, and enlarges the figure to hold it.

    Args:
        figure: a figure whose panels are drawn.
        handles: the labelled artists of the legend.
    """
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
        box = legend.get_window_extent()
        if columns == 1 or box.width <= _FULL * figure.bbox.width:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    # The figure's size includes one row of the legend; further rows must not shrink the panels.
    more_rows = box.height * (1 - 1 / math.ceil(len(handles) / columns)) / figure.dpi
    figure.set_size_inches(max(width, box.width / figure.dpi / _FULL), height + more_rows)
