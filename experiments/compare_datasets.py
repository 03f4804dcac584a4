"""Compares two OGBench files: layout, and whether their distributions differ beyond sampling error.

    python -m experiments.compare_datasets --reference=FILE --candidate=FILE --out=DIR

prints a table and writes DIR/comparison.json and DIR/comparison.png. Like diff, it exits with 0 where the
files agree and 1 where they differ.

The table shows the distance between the two datasets in each feature, and the distance that sampling error
alone makes: see `valuelab.data.comparison`.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import rich.box
import rich.table
from absl import flags

from valuelab import files
from valuelab.arrays import open_npz
from valuelab.data import comparison
from valuelab.data.comparison import FeatureComparison
from valuelab.errors import InputError, require
from valuelab.runs import command_line, outputs

REFERENCE = flags.DEFINE_string("reference", None, "The reference .npz.", required=True)
CANDIDATE = flags.DEFINE_string("candidate", None, "The .npz to compare with the reference.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder for comparison.json and comparison.png.", required=True)
PLANE = flags.DEFINE_list("plane", ["0", "1"], "The two observation dimensions whose occupancy is compared.")


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


def plot(
    path: pathlib.Path,
    reference: dict[str, np.ndarray],
    candidate: dict[str, np.ndarray],
    plane: tuple[int, int],
    maze: bool,
) -> None:
    """Plots occupancies, histograms of actions, and quantiles of actions against each other."""
    matplotlib = require("matplotlib", "plots")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", "plots")
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 8), layout="constrained")
    points = [arrays["observations"][:, plane] for arrays in (reference, candidate)]
    edges = comparison.plane_edges(*points)
    shares = [np.histogram2d(array[:, 0], array[:, 1], edges)[0].T / len(array) for array in points]
    panels = [
        ("reference", shares[0]),
        ("candidate", shares[1]),
        ("candidate - reference", shares[1] - shares[0]),
    ]
    top = max(share.max() for share in shares)
    for axis, (title, image) in zip(axes[0], panels, strict=True):
        difference = title == "candidate - reference"
        mesh = axis.pcolormesh(
            *edges,
            image,
            cmap="RdBu" if difference else "viridis",
            vmin=-top if difference else 0.0,
            vmax=top,
        )
        axis.set(
            title=f"occupancy, {title}", xlabel=f"observation {plane[0]}", ylabel=f"observation {plane[1]}"
        )
        figure.colorbar(mesh, ax=axis, label="share of steps")
    scalars = [comparison.features(arrays, maze) for arrays in (reference, candidate)]
    for axis, name in zip(axes[1], ("action noise 0" if maze else "action 0", "action norm"), strict=False):
        low, high = np.nanmin(scalars[0][name]), np.nanmax(scalars[0][name])
        for values, label, style in zip(
            scalars, ("reference", "candidate"), ("stepfilled", "step"), strict=True
        ):
            axis.hist(
                values[name],
                bins=np.linspace(low, high, 101),
                density=True,
                histtype=style,
                alpha=0.5 if style == "stepfilled" else 1.0,
                label=label,
            )
        axis.set(title=name, ylabel="density")
        axis.legend()
    shares_of_rows = np.linspace(0.001, 0.999, 99)
    for name in scalars[0]:
        if name.startswith("action"):
            quantiles = [np.nanquantile(values[name], shares_of_rows) for values in scalars]
            axes[1, 2].plot(*quantiles, ".", markersize=4, label=name)
    axes[1, 2].axline((0.0, 0.0), slope=1.0, color="black", linewidth=0.5)
    axes[1, 2].set(title="quantiles of actions", xlabel="reference", ylabel="candidate")
    axes[1, 2].legend(fontsize="x-small")
    with files.replacing(path) as file:
        figure.savefig(file, dpi=90, format="png")
    pyplot.close(figure)


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
        path = folder / "comparison.png"
        pictures[path.name] = lambda: plot(path, *sets, plane, maze)
    report["agree"] = agree
    outputs.write_json(folder / "comparison.json", report)
    outputs.draw(pictures)
    return agree


def main(arguments: list[str]) -> int:
    """Compares the two files of the command line."""
    del arguments
    if len(PLANE.value) != 2 or not all(dimension.isdecimal() for dimension in PLANE.value):
        raise InputError(f"plane={','.join(PLANE.value)}: give two observation dimensions, such as 0,1")
    plane = int(PLANE.value[0]), int(PLANE.value[1])
    return 0 if run(REFERENCE.value, CANDIDATE.value, OUT.value, plane) else 1


if __name__ == "__main__":
    command_line.run(main, command_line.parse_flags)
