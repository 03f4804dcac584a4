r"""Episodes and weights of transitions that the values of a saved run choose: data.filter and data.weights.

The flag data.value_run names the saved run:

    python -m experiments.train --agent=bc:pointmaze --dataset=ogbench/NAME \
      --data.filter=value_order:0.5 --data.value_run=runs/values --workdir=runs/filtered
"""

from typing import Any

import numpy as np

from valuelab import configuration
from valuelab.arrays import digest
from valuelab.configuration import RunConfig
from valuelab.data import storage
from valuelab.errors import InputError, one_line
from valuelab.files import local_path
from valuelab.ops import order
from valuelab.runs import inputs, outputs, saved, value_order
from valuelab.runs.inputs import Selection
from valuelab.training import checkpoints
from valuelab.types import Dataset


def select(config: RunConfig, dataset: Dataset) -> Selection:
    """Filters and weights a dataset by the mean over members of the values of the run in data.value_run.

    A run that began earlier takes the same checkpoint again, and must choose the same.

    Args:
        config: the settings of the run that learns from the dataset.
        dataset: the dataset, in either storage, in memory.

    Raises:
        InputError: when the run of the values cannot be used, its observations differ from those of the
            dataset, a value is not finite, no episode is left, the checkpoint that the run began with is
            missing, or other episodes or weights were chosen when the run began.
    """
    settings = config.data
    folder, step = saved.folder_and_step(settings.value_run, "data.value_run")
    before: dict[str, Any] = {}
    if config.workdir:
        before = outputs.read_config(local_path("workdir", config.workdir)).get("selection", {})
    if before:
        with one_line(f"{config.workdir} has a selection that cannot be read", "give another --workdir"):
            step = int(before["step"])
        if step not in (steps := checkpoints.saved_steps(folder / "checkpoints")):
            raise InputError(
                f"the run in {config.workdir} began with the values of {folder} after {step} updates, but "
                f"its checkpoints are of steps {', '.join(map(str, steps))}: restore that one, or give "
                "another --workdir"
            )
    run = saved.open_run(folder, "data.value_run", config.trust_agent_file)
    spec = run.known_spec()
    build = inputs.make_builder(run.config, run.make_agent, spec, run.normalization)
    value_order.check_values(build({}), run.config.agent_name, folder)
    value_order.check_observations(spec, dataset, f"data.value_run is {settings.value_run}")
    step, states = saved.read_states(run, build, spec, step)
    places = storage.trajectories(dataset)
    along = value_order.along_trajectories(build, configuration.population(run.config), spec)
    values, lengths = along(states, dataset, places).mean(0), places.lengths
    if wrong := np.count_nonzero(~np.isfinite(values)):
        raise InputError(
            f"data.value_run is {settings.value_run}, but after {step} updates its values are NaN or "
            f"infinite at {wrong} of {len(values)} observations of {dataset.name}: give an earlier "
            f"checkpoint, --data.value_run={folder}:STEP, or another run"
        )

    chosen: dict[str, Any] = {"value_run": str(settings.value_run), "step": step}
    notes = []
    if settings.least_order is not None:
        correlations = order.value_order(values, lengths)
        kept = correlations >= settings.least_order
        without = int(np.isnan(correlations).sum())
        if not kept.any():
            known = "no episode has an order"
            if without < len(kept):
                known = f"the largest order of an episode is {np.nanmax(correlations):.3f}"
            raise InputError(
                f"data.filter is {settings.filter}, but it keeps none of the {len(kept)} episodes of "
                f"{dataset.name} by the values of {folder} after {step} updates; {known}: give a lower number"
            )
        notes.append(
            f"data.filter={settings.filter} keeps {kept.sum()} of {len(kept)} episodes by the values of "
            f"{folder} after {step} updates" + (f"; episodes without an order: {without}" if without else "")
        )
        chosen |= {"episodes_before": len(kept), "episodes": int(kept.sum()), "kept": digest(kept)}
        values, lengths = values[np.repeat(kept, lengths)], lengths[kept]
        dataset = storage.with_trajectories(dataset, kept)
    weights = None
    if settings.progress_factor is not None:
        weights = order.progress_weights(order.progress(values, lengths), settings.progress_factor)
        exact = weights.astype(np.float64)
        effective = np.square(exact.sum()) / np.square(exact).sum()
        notes.append(
            f"data.weights={settings.weights} draws transitions by the progress of the values of {folder} "
            f"after {step} updates; the effective number of transitions is {effective:.0f} of {len(weights)}"
        )
        chosen["weights"] = digest(weights)
    if before and before != chosen:
        raise InputError(
            f"data.value_run is {settings.value_run}, whose values chose other episodes or weights when the "
            f"run in {config.workdir} began: restore that run and the dataset, or give another --workdir"
        )
    return Selection(dataset, weights, chosen, tuple(notes))
