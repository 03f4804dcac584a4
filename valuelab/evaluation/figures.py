"""What all pictures share: colours, an empty figure, saving it.

Figures are made without pyplot, so nothing global changes: notebooks show what is returned, and scripts
pass `path`.
"""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from valuelab import errors, files

# Of Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, VERMILLION, PURPLE, GREEN = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
BLACK, WALL, FREE = "#1A1A1A", "#3B3F46", "#E9ECEF"
_FULL = 0.97
"""How much of a figure's width a legend takes at most."""


def new(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    return errors.require("matplotlib.figure", "plots").Figure((width, height), layout="constrained")


def saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """The figure, saved if there is a path; its suffix decides the format."""
    if path is not None:
        with files.replacing(pathlib.Path(path)) as file:
            figure.savefig(file, dpi=150, format=pathlib.Path(path).suffix[1:] or None)
    return figure


def plain(panel: Any) -> None:
    """Gives a panel of curves a light grid, and no frame at the top and on the right."""
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Any, handles: Sequence[Any]) -> None:
    """Puts a legend under all panels, in as many columns as fit; the figure grows until it holds every entry.

    Args:
        figure: with its panels drawn.
        handles: what the legend explains; each has its label.
    """
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
        box = legend.get_window_extent()
        if columns == 1 or box.width <= _FULL * figure.bbox.width:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    # One row is part of what the figure was made for; more rows take nothing from the panels.
    more_rows = box.height * (1 - 1 / math.ceil(len(handles) / columns)) / figure.dpi
    figure.set_size_inches(max(width, box.width / figure.dpi / _FULL), height + more_rows)
