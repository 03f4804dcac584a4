"""What all pictures share: colours, an empty figure, saving it.

Figures are made without pyplot, so nothing global changes: notebooks show what is returned, and scripts
pass `path`.
"""

import os
import pathlib
from typing import Any

from valuelab import errors, files

# Of Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, VERMILLION, PURPLE, GREEN = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
BLACK, WALL, FREE = "#1A1A1A", "#3B3F46", "#E9ECEF"


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
