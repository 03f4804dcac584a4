"""Colours, new figures, saving and legends for all plots.

Figures are made without pyplot, so nothing global changes: notebooks show the returned figure, and scripts
pass `path`.
"""

import contextlib
import contextvars
import itertools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from valuelab import configuration, errors, files

Item = TypeVar("Item")

# The colours of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, VERMILLION, PURPLE, GREEN = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
BLACK, WALL, FREE = "#1A1A1A", "#3B3F46", "#E9ECEF"
FORMATS = ("png", "pdf", "svg")
"""The formats of figures that `--formats` takes."""
_WITHOUT_DATE = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""Format to metadata with which the same figure always gives the same bytes."""
_SETTINGS = {"pdf.fonttype": 42, "svg.hashsalt": "valuelab"}  # embedded TrueType fonts; the same ids in SVG
_further_formats: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("formats", default=())
MOST_BANDS = 4
"""The largest number of lines with bands in one panel."""
OTHERS: dict[str, Any] = {"color": "#9AA0A8", "linewidth": 0.9, "linestyle": ":", "zorder": 1}
"""The style of lines that another panel shows in colour."""
_FULL = 0.97
"""The largest share of a figure's width that a legend may use."""


def new(width: float, height: float) -> Any:
    """An empty figure; width and height in inches."""
    return errors.require("matplotlib.figure", "plots").Figure((width, height), layout="constrained")


def formats(given: Sequence[str]) -> tuple[str, ...]:
    """The formats that the values of `--formats` name.

    Raises:
        InputError: when one of them is not known.
    """
    names = configuration.split_names("formats", given)
    for name in names:
        if name not in FORMATS:
            raise errors.unknown("format in formats", name, FORMATS)
    return names


@contextlib.contextmanager
def also_saved_as(formats: Sequence[str]) -> Iterator[None]:
    """Inside the block, `saved` writes each figure also in these formats, next to the file that it names."""
    token = _further_formats.set(tuple(formats))
    try:
        yield
    finally:
        _further_formats.reset(token)


def saved(figure: Any, path: str | os.PathLike[str] | None, dpi: int = 150) -> Any:
    """Saves the figure if a path is given (its suffix decides the format), and returns the figure.

    Inside `also_saved_as`, other formats are saved next to it. The same figure gives the same bytes.
    """
    if path is not None:
        path = pathlib.Path(path)
        others = [path.with_suffix(f".{name}") for name in _further_formats.get()]
        for target in dict.fromkeys([path, *others]):
            kind = target.suffix[1:] or None
            with errors.require("matplotlib", "plots").rc_context(_SETTINGS), files.replacing(target) as file:
                figure.savefig(file, dpi=dpi, format=kind, metadata=_WITHOUT_DATE.get(kind or ""))
    return figure


def plain(panel: Any) -> None:
    """Gives a panel a light grid and removes its top and right spines."""
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def small_multiples(items: Sequence[Item]) -> list[list[Item]]:
    """The lines of each panel: as few panels as possible, of nearly equal sizes up to MOST_BANDS."""
    count = -(-len(items) // MOST_BANDS)
    ends = [round(place * len(items) / count) for place in range(count + 1)]
    return [list(items[start:end]) for start, end in itertools.pairwise(ends)]


def count_ticks(axis: Any) -> None:
    """Gives an axis of counts a few ticks at whole numbers, such as 0, 250k, 500k."""
    ticker = errors.require("matplotlib.ticker", "plots")
    axis.set_major_locator(ticker.MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(ticker.EngFormatter(sep=""))


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
