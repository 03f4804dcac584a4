"""Compares two OGBench files: layout, and whether their distributions differ beyond sampling error.

    python -m experiments.compare_datasets --reference=FILE --candidate=FILE --out=DIR

prints a table and writes DIR/comparison.json and DIR/comparison.png. Like diff, it exits with 0 where the
files agree and 1 where they differ.

Steps of an episode are correlated, so chance is measured by episodes: the distance of the two sets stands
beside the distances of many random divisions of all their episodes into two sets of the same sizes. The
verdict takes the greatest standardised distance of all features, so that looking at more features does not
find more differences.
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
from valuelab.errors import InputError, require
from valuelab.runs import command_line, outputs

REFERENCE = flags.DEFINE_string("reference", None, "The .npz to compare with.", required=True)
CANDIDATE = flags.DEFINE_string("candidate", None, "The .npz to judge.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder for comparison.json and comparison.png.", required=True)
PLANE = flags.DEFINE_list("plane", ["0", "1"], "The two observation dimensions whose occupancy is compared.")

DIVISIONS = 1000
SIGNIFICANCE = 0.01
OCCUPANCY_BINS = 40
QUANTILE_BINS = 200
MAZE_UNIT, MAZE_OFFSET = 4.0, 4.0


@dataclasses.dataclass(frozen=True)
class Result:
    """How far two sets are apart in one feature.

    Attributes:
        distance: total variation (occupancy) or Kolmogorov-Smirnov distance (all else), in [0, 1].
        expected: its mean over random divisions: what sampling error alone makes of it.
        limit: its 95 % quantile over random divisions.
        p: share of the random divisions that are at least as far apart.
        moments: mean and standard deviation in either set; empty for the occupancy.
    """

    distance: float
    expected: float
    limit: float
    p: float
    moments: dict[str, float]


def read(path: str) -> dict[str, np.ndarray]:
    """All arrays of an OGBench .npz, or an InputError that says why it is none."""
    try:
        with open_npz(pathlib.Path(path)) as file:
            arrays = dict(file)
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(
            f"{path} cannot be read as .npz ({error}): give a file in OGBench's layout"
        ) from error
    for key in ("observations", "actions", "terminals"):
        if key not in arrays:
            raise InputError(f"{path} has no {key!r}: give a file in OGBench's layout")
    if arrays["observations"].ndim != 2:
        raise InputError(
            f"{path} holds observations of {arrays['observations'].ndim - 1} axes: only vectors are compared"
        )
    return arrays


def layout(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What must be equal: dtypes and shapes of rows by key, and the lengths of episodes that occur."""
    lengths = np.diff(np.flatnonzero(arrays["terminals"]), prepend=-1)
    return {
        "keys": {key: [str(array.dtype), *array.shape[1:]] for key, array in arrays.items()},
        "episode_lengths": sorted({int(length) for length in lengths}),
    }


def episode_numbers(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """[N], the number of the episode that each row belongs to."""
    ends = arrays["terminals"].astype(bool)
    return np.cumsum(ends) - ends


def hindsight_noise(observations: np.ndarray, actions: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """The noise on a maze oracle's actions, seen from what came after.

        action - (c - x) / |c - x|,   c the centre of the next cell that the episode enters

    Where the oracle was heading for elsewhere (noise pushed it over a corner, its goal changed) this is off,
    in either set alike.

    Args:
        observations: [N, 2] positions.
        actions: [N, 2].
        episodes: [N] episode numbers.

    Returns:
        [N, 2]; NaN where the episode enters no neighbouring cell any more, and where an action is clipped.
    """
    cells = np.floor((observations + MAZE_OFFSET) / MAZE_UNIT + 0.5)
    rows = np.arange(len(cells))
    leaves = np.append(np.any(cells[1:] != cells[:-1], axis=1) | (episodes[1:] != episodes[:-1]), True)
    last = np.minimum.accumulate(np.where(leaves, rows, len(cells))[::-1])[::-1]
    entered = np.minimum(last + 1, len(cells) - 1)
    way = cells[entered] * MAZE_UNIT - MAZE_OFFSET - observations
    noise = actions - way / (np.linalg.norm(way, axis=1, keepdims=True) + 1e-6)
    known = (np.abs(cells[entered] - cells).sum(axis=1) == 1) & (episodes[entered] == episodes)
    return np.where(known[:, None] & (np.abs(actions) < 1.0), noise, np.nan)


def features(arrays: dict[str, np.ndarray], maze: bool) -> dict[str, np.ndarray]:
    """The scalars of each row whose distributions are compared, by name; NaN where undefined."""
    episodes = episode_numbers(arrays)
    observations = arrays["observations"].astype(np.float64)
    actions = arrays["actions"].astype(np.float64).reshape(len(episodes), -1)
    changes = np.full_like(actions, np.nan)
    within = episodes[1:] == episodes[:-1]
    changes[:-1][within] = np.diff(actions, axis=0)[within]
    columns = {"observation": observations, "action": actions, "action change": changes}
    if maze:
        columns["action noise"] = hindsight_noise(observations, actions, episodes)
    named = {f"{name} {i}": array[:, i] for name, array in columns.items() for i in range(array.shape[1])}
    return named | {"action norm": np.linalg.norm(actions, axis=1)}


def count_by_episode(bins: np.ndarray, episodes: np.ndarray, size: int) -> np.ndarray:
    """[E, size] float32: how many rows of each episode fall into each bin; bins of -1 are left out."""
    kept = bins >= 0
    flat = episodes[kept] * size + bins[kept]
    counts = np.bincount(flat, minlength=(episodes[-1] + 1) * size)
    return counts.reshape(-1, size).astype(np.float32)


def scalar_bins(reference: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Numbers the quantile bins, common to both sets, that the values fall into; -1 for NaN."""
    pooled = np.concatenate([reference, candidate])
    edges = np.unique(np.nanquantile(pooled, np.linspace(0.0, 1.0, QUANTILE_BINS + 1)[1:-1]))
    numbered = np.where(np.isnan(pooled), -1, np.searchsorted(edges, pooled, side="right"))
    return numbered[: len(reference)], numbered[len(reference) :], len(edges) + 1


def plane_edges(reference: np.ndarray, candidate: np.ndarray) -> list[np.ndarray]:
    """Edges of the occupancy's bins along either axis, from points [N, 2] of both sets."""
    low = np.minimum(reference.min(axis=0), candidate.min(axis=0))
    high = np.maximum(reference.max(axis=0), candidate.max(axis=0))
    return [np.linspace(low[axis], high[axis], OCCUPANCY_BINS + 1) for axis in range(2)]


def plane_bins(points: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """Numbers the cells of the plane that points [N, 2] fall into."""
    along = [np.searchsorted(edges[axis][1:-1], points[:, axis], side="right") for axis in range(2)]
    return along[0] * OCCUPANCY_BINS + along[1]


def divide(sizes: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Which episodes stand in the first set: [1 + DIVISIONS, E] of 0 and 1, as they are, then at random."""
    actual = np.repeat(np.array([1.0, 0.0], np.float32), sizes)
    shuffled = np.random.default_rng(seed).permuted(np.tile(actual, (DIVISIONS, 1)), axis=1)
    return np.concatenate([actual[None], shuffled])


def distances(counts: np.ndarray, divisions: np.ndarray, cumulative: bool) -> np.ndarray:
    """Distances between the two sets of each division.

        total variation ½ Σ |p - q|;   Kolmogorov-Smirnov max |P - Q| on cumulative shares

    Args:
        counts: [E, bins] of all episodes.
        divisions: [D, E] of 0 and 1.
        cumulative: Kolmogorov-Smirnov instead of total variation.

    Returns:
        [D] in [0, 1].
    """
    first = (divisions @ counts).astype(np.float64)
    second = counts.sum(axis=0, dtype=np.float64) - first
    gap = first / first.sum(axis=1, keepdims=True) - second / second.sum(axis=1, keepdims=True)
    if cumulative:
        return np.abs(np.cumsum(gap, axis=1)).max(axis=1)
    return 0.5 * np.abs(gap).sum(axis=1)


def compare(
    reference: dict[str, np.ndarray], candidate: dict[str, np.ndarray], plane: tuple[int, int], maze: bool
) -> tuple[dict[str, Result], float]:
    """Compares two sets of equal layout in all features.

    Args:
        reference: arrays of one file.
        candidate: arrays of the other.
        plane: the two observation dimensions of the occupancy.
        maze: whether the sets come from a point maze, whose action noise can be recovered.

    Returns:
        A Result for each feature, and the p-value of all of them together.
    """
    sets = (reference, candidate)
    episodes = [episode_numbers(arrays) for arrays in sets]
    divisions = divide((int(episodes[0][-1]) + 1, int(episodes[1][-1]) + 1))
    points = [arrays["observations"][:, plane] for arrays in sets]
    edges = plane_edges(*points)
    counts = [
        count_by_episode(plane_bins(array, edges), numbers, OCCUPANCY_BINS**2)
        for array, numbers in zip(points, episodes, strict=True)
    ]
    apart = {"occupancy": distances(np.concatenate(counts), divisions, cumulative=False)}
    moments: dict[str, dict[str, float]] = {"occupancy": {}}
    scalars = [features(arrays, maze) for arrays in sets]
    for name in scalars[0]:
        *bins, size = scalar_bins(scalars[0][name], scalars[1][name])
        counts = [count_by_episode(b, numbers, size) for b, numbers in zip(bins, episodes, strict=True)]
        apart[name] = distances(np.concatenate(counts), divisions, cumulative=True)
        moments[name] = {
            f"{which}_{moment}": float(function(values[name]))
            for which, values in zip(("reference", "candidate"), scalars, strict=True)
            for moment, function in (("mean", np.nanmean), ("std", np.nanstd))
        }
    results = {
        name: Result(
            float(d[0]), float(d[1:].mean()), float(np.quantile(d[1:], 0.95)), _share(d), moments[name]
        )
        for name, d in apart.items()
    }
    table = np.stack(list(apart.values()))
    spread = table[:, 1:].std(axis=1, keepdims=True) + 1e-12
    greatest = ((table - table[:, 1:].mean(axis=1, keepdims=True)) / spread).max(axis=0)
    return results, _share(greatest)


def _share(statistics: np.ndarray) -> float:
    """The permutation p-value of the first of the statistics among all of them."""
    return float(np.mean(statistics >= statistics[0] - 1e-12))


def print_table(results: dict[str, Result]) -> None:
    """Prints a row for each feature."""
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
    """Draws occupancies side by side, actions as histograms, and quantiles against quantiles."""
    matplotlib = require("matplotlib", "plots")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", "plots")
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 8), layout="constrained")
    points = [arrays["observations"][:, plane] for arrays in (reference, candidate)]
    edges = plane_edges(*points)
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
    scalars = [features(arrays, maze) for arrays in (reference, candidate)]
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
    """Compares two files, prints and writes what is found.

    Args:
        reference: path of the .npz to compare with.
        candidate: path of the .npz to judge.
        out: folder for comparison.json and comparison.png.
        plane: the two observation dimensions whose occupancy is compared.

    Returns:
        Whether layouts are equal and no distribution differs beyond sampling error.

    Raises:
        InputError: for a file that is not in OGBench's layout, or a plane that it does not have.
    """
    sets = read(reference), read(candidate)
    layouts = [layout(arrays) for arrays in sets]
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
            raise InputError(f"plane={plane[0]},{plane[1]} but observations have {size} dimensions, from 0")
        results, p = compare(*sets, plane, maze)
        agree = p >= SIGNIFICANCE
        print_table(results)
        print(
            f"layout, dtypes and episode lengths equal; distributions "
            f"{'agree' if agree else 'DIFFER'} (all features together: p = {p:.3f}, {DIVISIONS} divisions)"
        )
        report |= {"p": p, "features": {name: dataclasses.asdict(result) for name, result in results.items()}}
        path = folder / "comparison.png"
        pictures[path.name] = lambda: plot(path, *sets, plane, maze)
    report["agree"] = agree
    outputs.write_json(folder / "comparison.json", report)
    outputs.draw(pictures)
    return agree


def main(arguments: list[str]) -> int:
    """Runs the comparison of the flags."""
    del arguments
    if len(PLANE.value) != 2 or not all(dimension.isdecimal() for dimension in PLANE.value):
        raise InputError(f"plane={','.join(PLANE.value)}: give two observation dimensions, such as 0,1")
    plane = int(PLANE.value[0]), int(PLANE.value[1])
    return 0 if run(REFERENCE.value, CANDIDATE.value, OUT.value, plane) else 1


if __name__ == "__main__":
    command_line.run(main, command_line.parse_flags)
