"""Offline data, from any source to batches.

    from valuelab import data

    dataset = data.load("ogbench/pointmaze-medium-navigate-singletask-v0")
    spec = data.normalization.make_spec(dataset)
    sampler = data.sampling.transitions(dataset, batch_size=256)

`load` reads any source into one kind of dataset, `normalization` says how an agent sees it, `sampling` draws
batches from it.
"""

import contextlib
import difflib
import os
from collections.abc import Callable
from pathlib import Path

from valuelab import domains
from valuelab.configuration import DEFAULT_DATA_DIR
from valuelab.data import normalization, sampling, storage
from valuelab.data.sources import d4rl, exorl, minari, ogbench, rlds
from valuelab.domains.d4rl import SUFFIXES
from valuelab.errors import InputError, MissingExtraError, no_source, one_line, unknown
from valuelab.files import local_path
from valuelab.types import Dataset

__all__ = ["DEFAULT_DATA_DIR", "SOURCES", "load", "normalization", "sampling"]

SOURCES: dict[str, Callable[..., Dataset]] = {
    "ogbench": ogbench.read,
    "d4rl": d4rl.read,
    "exorl": exorl.read,
    "minari": minari.read,
    "rlds": rlds.read,
}
"""Prefix of a dataset's name -> (rest of it, data_dir, split) -> a dataset in compact storage.

Those here also take `clip_actions=True`, as `load` does.
"""
_EXAMPLES = (
    "ogbench/pointmaze-medium-navigate-singletask-v0",
    "d4rl/hopper-medium-v2",
    "exorl/walker-rnd-run",
    "minari/D4RL/pointmaze/umaze-v2",
    "rlds/d4rl_mujoco_hopper/v2-medium",
)
_ALIKE = 0.9
"""Share of letters that a misspelt name has in common with the one that is meant."""


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    compact: bool = False,
    clip_actions: bool = False,
) -> Dataset:
    """Reads a dataset, downloading it first where its source publishes it.

    Args:
        name: "ogbench/NAME", "d4rl/NAME" or a path that ends in .hdf5 or .h5, "exorl/NAME", "minari/ID" or
            "rlds/NAME".
        data_dir: the folder with ogbench/NAME.npz, d4rl/NAME.hdf5, exorl/..., minari/... and rlds/...; by
            default ~/.cache/valuelab.
        split: "train", or "val" where the source has one.
        compact: whether each observation is stored once (half the memory) instead of together with its
            successor; both storages hold the same transitions in the same order.
        clip_actions: whether actions out of bounds are clipped, with a warning, instead of refused.

    Returns:
        A validated dataset.

    Raises:
        InputError: when the name is unknown, or the data cannot be had or is at fault.
    """
    source, _, rest = ("d4rl", "", name) if name.endswith(SUFFIXES) else name.partition("/")
    if source not in SOURCES and (not source or Path(name).suffix):
        raise InputError(
            f"dataset {name!r} is no file that is read: names of files end in {' or '.join(SUFFIXES)}, those "
            f"of other datasets begin with {', '.join(f'{known}/' for known in SOURCES)}"
        )
    folder = local_path("data_dir", data_dir or DEFAULT_DATA_DIR)
    if source not in SOURCES:
        raise _unknown(name, folder)
    local_path("dataset", rest)
    settings = {"clip_actions": True} if clip_actions else {}
    with one_line(f"dataset {name} cannot be read in {folder}", "look at its files there"):
        dataset = SOURCES[source](rest, folder, split, **settings)
    return dataset if compact else storage.full(dataset)


def _unknown(name: str, folder: Path) -> InputError:
    """The error for a name that begins with no source: it names what is known, or lies there, by the rest."""
    source, slash, _ = name.partition("/")
    lying = [f"{known}/{name}" for known in ("minari", "rlds") if name and (folder / known / name).is_dir()]
    if slash and not lying:
        return unknown("data source", source, SOURCES)
    whole = {rest: f"d4rl/{rest}" for rest in d4rl.published()}
    whole |= {rest: f"exorl/{rest}" for rest in domains.known_names()}
    with contextlib.suppress(MissingExtraError):
        whole |= {rest: f"ogbench/{rest}" for rest in ogbench.known_names()}
    meant = lying or [whole[near] for near in difflib.get_close_matches(name, whole, n=1, cutoff=_ALIKE)]
    return no_source("dataset", name, "".join(meant[:1]), _EXAMPLES)
