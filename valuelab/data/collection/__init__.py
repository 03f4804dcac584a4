"""Collects OGBench's datasets with OGBench's own environments and scripted oracles.

A collection is a folder of finished episodes beside the target, NAME.parts, filled by parallel processes
and joined into NAME.npz and NAME-val.npz at the end. Every episode is a pure function of (seed, split,
number), so the set does not depend on how many processes made it nor on how often it was interrupted.
"""

import concurrent.futures
import contextlib
import functools
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import IO

import numpy as np
import rich.progress
import rich.text

from valuelab.arrays import open_npz
from valuelab.data.collection import manipulation, pointmaze, powderworld
from valuelab.data.collection.recipe import SPLITS, Player, play_episode
from valuelab.errors import InputError, require, unknown
from valuelab.files import local_path, locked, read_json, replace_file, replacing

RECIPES = pointmaze.recipes() | manipulation.recipes() | powderworld.recipes()
"""What can be collected, by name without "ogbench/"."""

PUBLISHED = "https://rail.eecs.berkeley.edu/datasets/ogbench"
REFUSED = {
    "antmaze": "its low-level policies do not ship with ogbench",
    "humanoidmaze": "its low-level policies do not ship with ogbench",
    "antsoccer": "its low-level policies do not ship with ogbench",
    "visual": "pixels are rendered too slowly to be worth collecting",
}
"""Families that cannot be collected, and why."""


def collect(
    name: str,
    data_dir: str | os.PathLike[str],
    *,
    episodes: int | None = None,
    val_episodes: int | None = None,
    seed: int = 0,
    processes: int | None = None,
) -> pathlib.Path:
    """Collects a dataset and its validation split in the published layout; files that exist are kept.

    Interrupted at any moment, the same call goes on from the episodes that are finished.

    Args:
        name: "ogbench/" and the published name, such as "ogbench/pointmaze-medium-navigate-v0".
        data_dir: the folder that holds ogbench/NAME.npz.
        episodes: training episodes; None for as many as were published.
        val_episodes: validation episodes; None for a tenth of the training episodes.
        seed: at least 0. The same seed gives the same arrays, whatever the number of processes.
        processes: None for one a core.

    Returns:
        The path of the training split; the validation split lies beside it as NAME-val.npz.

    Raises:
        InputError: for a name that is unknown or cannot be collected, a number out of range, a folder of
            parts with other settings, no room to write, or when a collecting process died.
        MissingExtraError: without ogbench.
    """
    base = _known(name)
    recipe = RECIPES[base]
    episodes = recipe.episodes if episodes is None else episodes
    val_episodes = max(1, episodes // 10) if val_episodes is None else val_episodes
    processes = (os.cpu_count() or 1) if processes is None else processes
    for field, value, least in (
        ("episodes", episodes, 1),
        ("val_episodes", val_episodes, 1),
        ("seed", seed, 0),
        ("processes", processes, 1),
    ):
        if value < least:
            raise InputError(f"{field} must be at least {least}, got {value}")
    require("ogbench", "environments")

    parts = parts_folder(name, data_dir)
    targets = {split: target(name, data_dir, split) for split in SPLITS}
    missing = [split for split in SPLITS if not targets[split].exists()]
    settings = {
        "dataset": name,
        "seed": seed,
        "episodes": episodes,
        "val_episodes": val_episodes,
        "ogbench": importlib.metadata.version("ogbench"),
        "mujoco": importlib.metadata.version("mujoco"),
    }
    counts = dict(zip(SPLITS, (episodes, val_episodes), strict=True))
    try:
        with claimed(parts, settings) if missing else contextlib.nullcontext():
            if missing:
                _collect_parts(base, parts, {split: counts[split] for split in missing}, seed, processes)
            for split in missing:
                files = [_part(parts, split, episode) for episode in range(counts[split])]
                with replacing(targets[split], parts) as output:
                    _join(files, output)
            shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {parts}: {error}; what is finished is kept, "
            "so make room and run the same command again"
        ) from error
    return targets["train"]


def target(name: str, data_dir: str | os.PathLike[str], split: str = "train") -> pathlib.Path:
    """Where a split of the dataset `name` lies under `data_dir`, in the published layout."""
    return local_path("data_dir", data_dir) / f"{name}{'' if split == 'train' else '-val'}.npz"


def parts_folder(name: str, data_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Where the finished episodes of an unfinished collection are kept."""
    return target(name, data_dir).with_suffix(".parts")


def _known(name: str) -> str:
    """The name without "ogbench/", or the error that says why it cannot be collected."""
    source, _, base = name.partition("/")
    family = base.partition("-")[0]
    if source != "ogbench":
        raise InputError(f"{name} cannot be collected: only ogbench/NAME comes with scripted oracles")
    if base in RECIPES:
        return base
    if family in REFUSED:
        raise InputError(
            f"{name} cannot be collected: {REFUSED[family]}; download {PUBLISHED}/{base}.npz instead"
        )
    raise unknown("dataset to collect", name, (f"ogbench/{known}" for known in RECIPES))


@contextlib.contextmanager
def claimed(parts: pathlib.Path, settings: dict) -> Iterator[None]:
    """Makes the folder of parts, or checks that the one there was made with the same settings; locks it.

    Args:
        parts: the folder.
        settings: what decides its contents, as JSON has it.

    Raises:
        InputError: for other settings, or when another process collects there.
    """
    parts.mkdir(parents=True, exist_ok=True)
    with locked(parts):
        _check_settings(parts, settings)
        yield


def _check_settings(parts: pathlib.Path, settings: dict) -> None:
    """Writes down what decides the contents of a folder, or raises InputError where it is something else."""
    record = parts / "settings.json"
    if not record.exists():
        replace_file(record, json.dumps(settings, indent=2))
    found = read_json(record, "record of a collection", "delete the folder to begin anew")
    if found != settings:
        differences = [
            f"{field}={found.get(field)}, not {value}"
            for field, value in settings.items()
            if found.get(field) != value
        ]
        raise InputError(
            f"{parts} holds a collection with {'; '.join(differences)}: "
            "give the same settings to go on with it, or delete the folder to begin anew"
        )


def _collect_parts(base: str, parts: pathlib.Path, counts: dict[str, int], seed: int, processes: int) -> None:
    """Collects the episodes that are not in the folder of parts yet, in parallel, and shows progress."""
    jobs = [(split, episode) for split, count in counts.items() for episode in range(count)]
    waiting = [job for job in jobs if not _part(parts, *job).exists()]
    if not waiting:
        return
    executor = concurrent.futures.ProcessPoolExecutor(
        min(processes, len(waiting)),
        # A forked copy of a process that runs JAX can hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_process,
        initargs=(parts.resolve(),),
    )
    with _progress(RECIPES[base].episode_length) as progress:
        task = progress.add_task("episodes", total=len(jobs), completed=len(jobs) - len(waiting))
        try:
            # Ctrl-C reaches the whole group, but is the collector's to answer: processes inherit the mask.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            futures = [executor.submit(_collect_part, base, parts.resolve(), seed, *job) for job in waiting]
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.advance(task)
        except BrokenProcessPool as error:
            raise InputError(
                f"a process collecting {base} died; what is finished is kept. Where memory ran out, run the "
                "same again with fewer processes. In a script, which each process imports, call it under "
                "`if __name__ == '__main__':`"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


def _prepare_process(parts: pathlib.Path) -> None:
    """Makes a collecting process quiet, and mortal: it ends with the process that started it."""
    # MuJoCo logs its warnings to a file in the working directory; among the parts it goes with them.
    os.chdir(parts)
    # MuJoCo's viewer, never used here, warns where there is no display.
    warnings.filterwarnings("ignore", module="glfw")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _collect_part(base: str, parts: pathlib.Path, seed: int, split: str, episode: int) -> None:
    """Plays one episode and keeps it, in a process of the collector's own."""
    arrays = play_episode(RECIPES[base], _player(base), seed, split, episode)
    with replacing(_part(parts, split, episode)) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@functools.cache
def _player(base: str) -> Player:
    """One environment for all the episodes of a process."""
    return RECIPES[base].make_player()


def _part(parts: pathlib.Path, split: str, episode: int) -> pathlib.Path:
    return parts / f"{split}-{episode:05d}.npz"


def _join(files: Sequence[pathlib.Path], output: IO[bytes]) -> None:
    """Writes the .npz of all episodes one after another, with one array in memory at a time.

    As `np.savez_compressed` would, but a million frames of a powder world need not fit into memory, and
    no time of writing is kept, so that equal arrays make equal files.
    """
    with open_npz(files[0]) as first:
        examples = dict(first)
    with zipfile.ZipFile(output, "w") as archive:
        for key, example in examples.items():
            entry = zipfile.ZipInfo(f"{key}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            header = {
                "descr": example.dtype.str,
                "fortran_order": False,
                "shape": (len(files) * len(example), *example.shape[1:]),
            }
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for file in files:
                    with open_npz(file) as episode:
                        stream.write(episode[key].tobytes())


class _StepsPerSecond(rich.progress.ProgressColumn):
    """Environment steps a second, all processes together."""

    def __init__(self, episode_length: int):
        super().__init__()
        self.episode_length = episode_length

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        speed = task.finished_speed or task.speed or 0.0
        return rich.text.Text(f"{speed * self.episode_length:,.0f} steps/s")


def _progress(episode_length: int) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=20),
        rich.progress.MofNCompleteColumn(),
        _StepsPerSecond(episode_length),
        rich.progress.TimeRemainingColumn(),
    )
