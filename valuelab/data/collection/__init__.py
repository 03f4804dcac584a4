"""Collects OGBench's datasets with OGBench's own environments and scripted oracles.

Parallel processes write finished episodes into the folder NAME.parts next to the target. At the end they are
joined into NAME.npz and NAME-val.npz. Every episode is a pure function of (seed, split, number), so the
dataset does not depend on the number of processes or of interruptions.
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
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import IO

import numpy as np
import rich.progress
import rich.text

from valuelab import workers
from valuelab.arrays import open_npz
from valuelab.data.collection import manipulation, pointmaze, powderworld
from valuelab.data.collection.recipe import SPLITS, Player, play_episode
from valuelab.errors import InputError, require, unknown
from valuelab.files import local_path, locked, read_json, replace_file, replacing

RECIPES = pointmaze.recipes() | manipulation.recipes() | powderworld.recipes()
"""The recipes of datasets that can be collected, by name without "ogbench/"."""

PUBLISHED = "https://rail.eecs.berkeley.edu/datasets/ogbench"
REFUSED = {
    "antmaze": "its low-level policies do not ship with ogbench",
    "humanoidmaze": "its low-level policies do not ship with ogbench",
    "antsoccer": "its low-level policies do not ship with ogbench",
    "visual": "rendering its images takes too long",
}
"""Families that cannot be collected -> the reason."""


def collect(
    name: str,
    data_dir: str | os.PathLike[str],
    *,
    episodes: int | None = None,
    val_episodes: int | None = None,
    seed: int = 0,
    processes: int | None = None,
) -> pathlib.Path:
    """Collects a dataset and its validation split in the published layout; existing files are kept.

    After an interruption, the same call continues from the finished episodes.

    Args:
        name: "ogbench/" and the published name, such as "ogbench/pointmaze-medium-navigate-v0".
        data_dir: the folder that holds ogbench/NAME.npz.
        episodes: the number of training episodes; None for the published number.
        val_episodes: the number of validation episodes; None for a tenth of the training episodes.
        seed: at least 0. The same seed gives the same arrays for any number of processes.
        processes: the number of parallel processes; None for one per core.

    Returns:
        The path of the training split. The validation split is NAME-val.npz in the same folder.

    Raises:
        InputError: for a name that is unknown or cannot be collected, a number out of range, a folder of
            parts with other settings, a full disk, or when a collecting process died.
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
            raise InputError(f"{field} is {value}, but must be at least {least}: change it")
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
            f"cannot write to {parts}: {error}; finished episodes are kept: free some disk and run the same "
            "command again"
        ) from error
    return targets["train"]


def target(name: str, data_dir: str | os.PathLike[str], split: str = "train") -> pathlib.Path:
    """The path of a split of the dataset `name` under `data_dir`, in the published layout."""
    return local_path("data_dir", data_dir) / f"{name}{'' if split == 'train' else '-val'}.npz"


def parts_folder(name: str, data_dir: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of the finished episodes of an unfinished collection."""
    return target(name, data_dir).with_suffix(".parts")


def _known(name: str) -> str:
    """The name without "ogbench/"; raises InputError where it cannot be collected."""
    source, _, base = name.partition("/")
    family = base.partition("-")[0]
    if source != "ogbench":
        raise InputError(
            f"{name} cannot be collected: give a name ogbench/NAME, which comes with scripted oracles"
        )
    if base in RECIPES:
        return base
    if family in REFUSED:
        raise InputError(
            f"{name} cannot be collected: {REFUSED[family]}; download {PUBLISHED}/{base}.npz instead"
        )
    raise unknown("dataset to collect", name, (f"ogbench/{known}" for known in RECIPES))


@contextlib.contextmanager
def claimed(parts: pathlib.Path, settings: dict) -> Iterator[None]:
    """Makes and locks the folder of parts; an existing folder must have the same settings.

    Args:
        parts: the folder.
        settings: the settings that determine its contents, as JSON values.

    Raises:
        InputError: for other settings, or when another process collects into the folder.
    """
    parts.mkdir(parents=True, exist_ok=True)
    with locked(parts):
        _check_settings(parts, settings)
        yield


def _check_settings(parts: pathlib.Path, settings: dict) -> None:
    """Records the settings of a new folder; raises InputError where a folder has other settings."""
    record = parts / "settings.json"
    if not record.exists():
        replace_file(record, json.dumps(settings, indent=2))
    recorded = read_json(record, "record of a collection", "delete the folder to start again")
    if recorded != settings:
        differences = [
            f"{field}={recorded.get(field)}, not {value}"
            for field, value in (dict.fromkeys(recorded) | settings).items()
            if recorded.get(field) != value
        ]
        raise InputError(
            f"{parts} holds a collection with {'; '.join(differences)}: "
            "give the same settings to continue it, or delete the folder to start again"
        )


def _collect_parts(base: str, parts: pathlib.Path, counts: dict[str, int], seed: int, processes: int) -> None:
    """Collects the missing episodes in parallel, and shows progress."""
    jobs = [(split, episode) for split, count in counts.items() for episode in range(count)]
    waiting = [job for job in jobs if not _part(parts, *job).exists()]
    if not waiting:
        return
    executor = concurrent.futures.ProcessPoolExecutor(
        min(processes, len(waiting)),
        # A forked copy of a process that uses JAX can hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_process,
        initargs=(parts.resolve(),),
    )
    with _progress(RECIPES[base].episode_length) as progress:
        task = progress.add_task("episodes", total=len(jobs), completed=len(jobs) - len(waiting))
        try:
            # Ctrl-C reaches the whole process group. Only this process handles it: workers inherit the mask.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            futures = [executor.submit(_collect_part, base, parts.resolve(), seed, *job) for job in waiting]
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.advance(task)
        except BrokenProcessPool as error:
            raise InputError(
                f"a process that collected {base} died; finished episodes are kept. If memory ran out, use "
                "fewer processes. In a script, call this function under `if __name__ == '__main__':`, "
                "because each process imports the script"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


def _prepare_process(parts: pathlib.Path) -> None:
    """Prepares a worker process: it ends when its parent ends, and prints no warnings of MuJoCo."""
    # MuJoCo writes a log file into the working directory. In the folder of parts, it is deleted with them.
    os.chdir(parts)
    # MuJoCo's viewer, which is not used, warns where there is no display.
    warnings.filterwarnings("ignore", module="glfw")
    workers.end_with_parent()


def _collect_part(base: str, parts: pathlib.Path, seed: int, split: str, episode: int) -> None:
    """Plays one episode and writes it, in a worker process."""
    arrays = play_episode(RECIPES[base], _player(base), seed, split, episode)
    with replacing(_part(parts, split, episode)) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@functools.cache
def _player(base: str) -> Player:
    """The environment of a process, shared by all its episodes."""
    return RECIPES[base].make_player()


def _part(parts: pathlib.Path, split: str, episode: int) -> pathlib.Path:
    return parts / f"{split}-{episode:05d}.npz"


def _join(files: Sequence[pathlib.Path], output: IO[bytes]) -> None:
    """Joins the episodes into one .npz, with one array of one episode in memory at a time.

    Unlike `np.savez_compressed`, it does not need memory for all frames, and stores no times of writing, so
    that equal arrays make equal files.
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
    """Environment steps per second of all processes."""

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
