"""Videos of the first episodes of an evaluation."""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from typing import Any

from valuelab import errors, files, types
from valuelab.configuration import RunConfig
from valuelab.evaluation import rollout


def check(path: str | os.PathLike[str], environment: types.Environment) -> None:
    """Checks that `film` can render and encode here; writes no file.

    Args:
        path: the path of the later video; its folder must exist.
        environment: the environment to film.

    Raises:
        InputError: when rendering or encoding fails; the message says what is missing.
    """
    path = _checked_path(path)
    camera = _camera(environment)
    try:
        frames = _frames(camera, environment)
    finally:
        camera.close()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _encode(pathlib.Path(folder) / path.name, frames[:1] * 2, 30)


def film(
    path: str | os.PathLike[str],
    policy: rollout.MemberPolicy,
    states: Any,
    environment: types.Environment,
    *,
    episodes: int,
    seed: int,
    step: int,
    max_steps: int = RunConfig.eval_max_steps,
) -> None:
    """Films one member in the episodes that an `Evaluator` with the same seed and step plays first.

    Args:
        path: the path of the video, ending in .mp4 or .gif; a file or link at this path is replaced.
        policy: see `rollout.member_policy`.
        states: the state of one member, with a leading axis of 1.
        environment: the environment; all of its tasks are filmed.
        episodes: number of episodes of each task.
        seed: the seed of the evaluation.
        step: the training step of the evaluation.
        max_steps: an episode that does not end within this number of steps is cut.

    Raises:
        InputError: when the path has another suffix, or rendering or encoding fails.
    """
    path = _checked_path(path)
    camera = _camera(environment)
    filmed = dataclasses.replace(environment, make=lambda: camera)
    evaluator = rollout.Evaluator(
        policy, filmed, num_members=1, episodes=episodes, seed=seed, width=1, max_steps=max_steps
    )
    try:
        _frames(camera, environment)  # drops the frames collected so far
        evaluator(states, step)
        _encode(path, camera.render(), camera.metadata.get("render_fps", 30))
    finally:
        evaluator.close()


def _checked_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path of a video; raises InputError unless it ends in .mp4 or .gif."""
    if pathlib.Path(path).suffix not in (".mp4", ".gif"):
        raise errors.InputError(f"video {os.fspath(path)!r} must end in .mp4 or .gif")
    return pathlib.Path(path)


def _camera(environment: types.Environment) -> Any:
    """An environment that collects its frames; raises InputError if it has no render_mode 'rgb_array'."""
    wrappers = errors.require("gymnasium.wrappers", "environments")
    scene = environment.make()
    if getattr(scene, "render_mode", None) != "rgb_array":
        raise errors.InputError(
            f"{environment.name} cannot be filmed because it has no render_mode 'rgb_array': "
            "leave out --video"
        )
    return wrappers.RenderCollection(scene, reset_clean=False)


def _frames(camera: Any, environment: types.Environment) -> list[Any]:
    """Resets the environment, and returns and drops the frames collected so far."""
    try:
        camera.reset(seed=0, options=next(iter(environment.tasks.values())))
        return camera.render()
    except Exception as error:  # each renderer fails in its own way
        raise errors.InputError(
            f"{environment.name} cannot be rendered here ({errors.words(error)}): set MUJOCO_GL to egl where "
            "there is a GPU or its driver, to osmesa where that library is installed, or leave out --video"
        ) from error


def _encode(path: pathlib.Path, frames: list[Any], rate: float) -> None:
    """Writes frames as a video; raises InputError if encoding fails."""
    imageio = errors.require("imageio", "video")
    # Videos with an even number of rows and columns are played everywhere; imageio would resize to sixteens.
    mp4 = {"fps": rate, "macro_block_size": 2}
    timing = mp4 if path.suffix == ".mp4" else {"duration": 1000 / rate, "loop": 0}
    # Otherwise imageio forks this process, which has JAX's threads, to shield the encoder from Ctrl-C.
    os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
    # Encoders open the file by its name and would follow a link, so they write into a new folder.
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=path.parent) as folder:
        encoded = pathlib.Path(folder) / path.name
        try:
            imageio.mimsave(encoded, frames, **timing)
        except Exception as error:  # each encoder fails in its own way
            raise errors.InputError(
                f"{path.name} cannot be encoded here ({errors.words(error)}): install an encoder with "
                "pip install 'valuelab[video]'"
            ) from error
        with encoded.open("rb") as source, files.replacing(path) as target:
            shutil.copyfileobj(source, target)
