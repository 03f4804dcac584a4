"""Compares two OGBench files: reads them, prints a table, and writes comparison.json and comparison.png."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import rich.box
import rich.table

from valuelab.arrays import open_npz
from valuelab.data import comparison
from valuelab.data.comparison import FeatureComparison
from valuelab.errors import InputError
from valuelab.evaluation import dataset_comparison_plots
from valuelab.runs import outputs


def read(path: str) -> dict[str, np.ndarray]:
    """All arrays of an OGBench .npz; raises an InputError where the file is not in OGBench's layout."""
    try:
        with open_npz(pathlib.Path(path)) as file:
            arrays = dict(file)
    except InputError:
        raise
    except Exception as error:  # readers of damaged files raise many kinds of exceptions
        raise InputError(
            f"{path} cannot be read as .npz ({error}): give a file in OGBench's layout"
        ) from error
    for key in ("observations", "actions", "terminals"):
        if key not in arrays:
            raise InputError(f"{path} has no {key!r}: give a file in OGBench's layout")
    if arrays["observations"].ndim != 2:
        raise InputError(
            f"{path} holds observations of {arrays['observations'].ndim - 1} axes, but only vectors are "
            "compared: give another file"
        )
    return arrays


def print_table(results: dict[str, FeatureComparison]) -> None:
    """Prints one row per feature."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("feature", "reference", "candidate", "distance", "chance", "p"):
        table.add_column(heading, no_wrap=True)
    for name, result in results.items():
        means = [
            "{:.2f} ± {:.2f}".format(*(result.moments[f"{which}_{moment}"] for moment in ("mean", "std")))
            if result.moments
            else ""
            for which in ("reference", "candidate")
        ]
        numbers = f"{result.distance:.4f}", f"{result.expected:.4f}", f"{result.p:.3f}"
        table.add_row(name, *means, *numbers)
    outputs.show(table)


def draw(
    path: pathlib.Path,
    reference: dict[str, np.ndarray],
    candidate: dict[str, np.ndarray],
    plane: tuple[int, int],
    maze: bool,
) -> None:
    """Draws comparison.png; arguments as in `comparison.compare`."""
    sets = (reference, candidate)
    points = [arrays["observations"][:, plane] for arrays in sets]
    features = [comparison.features(arrays, maze) for arrays in sets]
    dataset_comparison_plots.comparison(points, comparison.plane_edges(*points), features, plane, path=path)


def run(reference: str, candidate: str, out: str, plane: tuple[int, int]) -> bool:
    """Compares two files, prints the result and writes it.

    Args:
        reference: path of the reference .npz.
        candidate: path of the .npz to compare with it.
        out: folder for comparison.json and comparison.png.
        plane: the two observation dimensions whose occupancy is compared.

    Returns:
        Whether layouts are equal and no distribution differs beyond sampling error.

    Raises:
        InputError: for a file that is not in OGBench's layout, or dimensions that observations lack.
    """
    sets = read(reference), read(candidate)
    layouts = [comparison.layout(arrays) for arrays in sets]
    maze = pathlib.Path(reference).name.startswith("pointmaze")
    folder = outputs.make_folder(out, "out")
    pictures: dict[str, Callable[[], None]] = {}
    report: dict[str, Any] = {
        "reference": {
            "file": pathlib.Path(reference).name,
            "episodes": int(np.count_nonzero(sets[0]["terminals"])),
        },
        "candidate": {
            "file": pathlib.Path(candidate).name,
            "episodes": int(np.count_nonzero(sets[1]["terminals"])),
        },
        "layouts": layouts,
    }
    agree = layouts[0] == layouts[1]
    if not agree:
        print(f"layouts differ: {layouts[0]} against {layouts[1]}")
    else:
        size = sets[0]["observations"].shape[1]
        if max(plane) >= size:
            raise InputError(
                f"plane={plane[0]},{plane[1]} but observations have {size} dimensions: "
                f"give numbers below {size}"
            )
        results, p = comparison.compare(*sets, plane, maze)
        agree = p >= comparison.SIGNIFICANCE
        print_table(results)
        print(
            f"layout, dtypes and episode lengths equal; distributions "
            f"{'agree' if agree else 'DIFFER'} "
            f"(all features together: p = {p:.3f}, {comparison.DIVISIONS} divisions)"
        )
        report |= {"p": p, "features": {name: dataclasses.asdict(result) for name, result in results.items()}}
        pictures["comparison.png"] = lambda: draw(folder / "comparison.png", *sets, plane, maze)
    report["agree"] = agree
    outputs.write_json(folder / "comparison.json", report)
    outputs.draw(pictures)
    return agree
