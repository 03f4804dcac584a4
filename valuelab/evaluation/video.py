"""Films of the first episodes of an evaluation."""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

from valuelab import errors, types
from valuelab.configuration import RunConfig
from valuelab.evaluation import rollout


def rehearse(path: str | os.PathLike[str], environment: types.Environment) -> None:
    """Renders a frame and encodes it twice, to find out what `film` would fail at; leaves nothing.

    Args:
        path: of the film to come; its folder must be there.
        environment: where it will be filmed.

    Raises:
        InputError: when it cannot be filmed here; the message says what is missing.
    """
    path = _checked(path)
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
        path: of the film, ending in .mp4 or .gif.
        policy: see `rollout.member_policy`.
        states: of one member, with a leading axis of 1.
        environment: where to film; all of its tasks are.
        episodes: number of episodes of each task.
        seed: of the evaluation.
        step: the training step of the evaluation.
        max_steps: of the evaluation.

    Raises:
        InputError: when the suffix is another, the environment cannot be rendered here, or there is no
            encoder.
    """
    path = _checked(path)
    camera = _camera(environment)
    filmed = dataclasses.replace(environment, make=lambda: camera)
    evaluator = rollout.Evaluator(
        policy, filmed, num_members=1, episodes=episodes, seed=seed, width=1, max_steps=max_steps
    )
    try:
        _frames(camera, environment)  # ends the collection of what is no part of the film
        evaluator(states, step)
        _encode(path, camera.render(), camera.metadata.get("render_fps", 30))
    finally:
        evaluator.close()


def _checked(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path of a film; raises InputError when its suffix is another."""
    if pathlib.Path(path).suffix not in (".mp4", ".gif"):
        raise errors.InputError(f"film {os.fspath(path)!r} must end in .mp4 or .gif")
    return pathlib.Path(path)


def _camera(environment: types.Environment) -> Any:
    """An environment that keeps its frames; raises InputError where it has none."""
    wrappers = errors.require("gymnasium.wrappers", "environments")
    scene = environment.make()
    if getattr(scene, "render_mode", None) != "rgb_array":
        raise errors.InputError(
            f"{environment.name} cannot be filmed: it cannot be made with render_mode 'rgb_array'; "
            "leave --video out"
        )
    return wrappers.RenderCollection(scene, reset_clean=False)


def _frames(camera: Any, environment: types.Environment) -> list[Any]:
    """What was collected until the start of an episode, which is then forgotten."""
    try:
        camera.reset(seed=0, options=next(iter(environment.tasks.values())))
        return camera.render()
    except Exception as error:  # each renderer fails in its own way
        told = " ".join(str(error).split()) or type(error).__name__
        raise errors.InputError(
            f"{environment.name} cannot be rendered here ({told}): set MUJOCO_GL to egl where there is a "
            "GPU or its driver, to osmesa where that library is installed, or leave out --video"
        ) from error


def _encode(path: pathlib.Path, frames: list[Any], rate: float) -> None:
    """Writes frames as a film; raises InputError where there is no encoder."""
    imageio = errors.require("imageio", "video")
    timing = {"fps": rate} if path.suffix == ".mp4" else {"duration": 1000 / rate, "loop": 0}
    try:
        imageio.mimsave(path, frames, **timing)
    except Exception as error:  # each encoder fails in its own way
        told = " ".join(str(error).split()) or type(error).__name__
        raise errors.InputError(
            f"{path.name} cannot be encoded here ({told}): pip install 'valuelab[video]' brings an encoder"
        ) from error
