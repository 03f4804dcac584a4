"""Films of the first episodes of an evaluation."""

import dataclasses
import os
import pathlib
from typing import Any

from valuelab import errors, types
from valuelab.evaluation import rollout


def check(name: str, environment: Any) -> None:
    """Refuses environments that have no images to film.

    Args:
        name: in the message.
        environment: a gymnasium.Env.

    Raises:
        InputError: when its render mode is none of images.
    """
    if environment.render_mode != "rgb_array":
        raise errors.InputError(
            f"{name} cannot be filmed: it cannot be made with render_mode 'rgb_array'; leave --video out"
        )


def film(
    path: str | os.PathLike[str],
    policy: rollout.MemberPolicy,
    states: Any,
    environment: types.Environment,
    *,
    episodes: int,
    seed: int,
    step: int,
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

    Raises:
        InputError: when the suffix is another, or the environment cannot be rendered here.
    """
    imageio = errors.require("imageio", "video")
    wrappers = errors.require("gymnasium.wrappers", "environments")
    suffix = pathlib.Path(path).suffix
    if suffix not in (".mp4", ".gif"):
        raise errors.InputError(f"film {os.fspath(path)!r} must end in .mp4 or .gif")
    scene = environment.make()
    check(environment.name, scene)
    camera = wrappers.RenderCollection(scene, reset_clean=False)
    filmed = dataclasses.replace(environment, make=lambda: camera)
    evaluator = rollout.Evaluator(policy, filmed, num_members=1, episodes=episodes, seed=seed, width=1)
    try:
        camera.reset(seed=0, options=next(iter(environment.tasks.values())))
        camera.render()  # ends the collection of what is no part of the film
    except Exception as error:  # each renderer fails in its own way
        raise errors.InputError(
            f"{environment.name} cannot be rendered here ({error}): set MUJOCO_GL to egl where there is a "
            "GPU or its driver, to osmesa where that library is installed"
        ) from error
    evaluator(states, step)
    rate = camera.metadata.get("render_fps", 30)
    timing = {"fps": rate} if suffix == ".mp4" else {"duration": 1000 / rate, "loop": 0}
    imageio.mimsave(path, camera.render(), **timing)
    evaluator.close()
