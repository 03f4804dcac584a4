"""The picture of a comparison of two datasets: occupancies and distributions of actions."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from valuelab.evaluation import figures


def comparison(
    points: Sequence[np.ndarray],
    edges: Sequence[np.ndarray],
    features: Sequence[Mapping[str, np.ndarray]],
    plane: tuple[int, int],
    *,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Plots occupancies, histograms of actions, and quantiles of actions against each other.

    Args:
        points: for each dataset, the observations in the plane, [N, 2].
        edges: the edges of the bins of the occupancy, along both axes of the plane.
        features: for each dataset, its scalar features by name, [N]; NaN where undefined.
        plane: the two dimensions of observations that make the plane.
        path: the file to write; None for no file.

    Returns:
        The matplotlib Figure.
    """
    figure = figures.new(11.5, 6.8)
    axes = figure.subplots(2, 3)
    shares = [np.histogram2d(array[:, 0], array[:, 1], edges)[0].T / len(array) for array in points]
    panels = [
        ("reference", shares[0]),
        ("candidate", shares[1]),
        ("candidate − reference", shares[1] - shares[0]),
    ]
    top = max(share.max() for share in shares)
    for axis, (title, image) in zip(axes[0], panels, strict=True):
        difference = title == "candidate − reference"
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
    first = "action noise 0" if "action noise 0" in features[0] else "action 0"
    for axis, name in zip(axes[1], (first, "action norm"), strict=False):
        low, high = np.nanmin(features[0][name]), np.nanmax(features[0][name])
        for values, label, style in zip(
            features, ("reference", "candidate"), ("stepfilled", "step"), strict=True
        ):
            axis.hist(
                values[name],
                bins=np.linspace(low, high, 101),
                density=True,
                histtype=style,
                alpha=0.5 if style == "stepfilled" else 1.0,
                label=label,
            )
        axis.set(title=f"distribution of {name}", xlabel=name, ylabel="probability density")
        axis.legend(frameon=False)
    shares_of_rows = np.linspace(0.001, 0.999, 99)
    for name in features[0]:
        if name.startswith("action"):
            quantiles = [np.nanquantile(values[name], shares_of_rows) for values in features]
            axes[1, 2].plot(*quantiles, ".", markersize=4, label=name)
    axes[1, 2].axline((0.0, 0.0), slope=1.0, color="black", linewidth=0.5)
    axes[1, 2].set(title="quantiles of actions", xlabel="of the reference", ylabel="of the candidate")
    axes[1, 2].legend(fontsize=8.5, frameon=False)
    return figures.saved(figure, path, dpi=110)
