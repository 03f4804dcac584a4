"""Tests of videos: the right frames in a readable file, and the errors if rendering fails."""

import gymnasium
import imageio
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import errors, types
from valuelab.evaluation import rollout, video


class Countdown(gymnasium.Env):
    """Four steps, each a brighter picture."""

    render_mode = "rgb_array"
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as in gymnasium
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.zeros(1), {}

    def step(self, action):
        self.time += 1
        return np.zeros(1), 0.0, self.time == 4, False, {}

    def render(self):
        return np.full((32, 48, 3), 50 * self.time, np.uint8)


class Blind(Countdown):
    def render(self):
        raise RuntimeError("no display")


class Unseen(Countdown):
    render_mode = None


def film(path, make=Countdown):
    environment = types.Environment("countdown", make, {"only": None}, "return", lambda total, _: total)
    act = rollout.member_policy(lambda _: types.Agent(None, None, lambda state, o, key, t: o * state))
    video.film(path, act, jnp.ones(1), environment, episodes=2, seed=0, step=0)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_frames_of_all_episodes(tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    film(path)
    brightness = np.array([frame[..., :3].mean() for frame in imageio.mimread(path)])
    np.testing.assert_allclose(brightness, 2 * [0, 50, 100, 150, 200], atol=4)


def test_a_rehearsal_fails_as_the_film_would_and_leaves_nothing(tmp_path, monkeypatch):
    def rehearse(make):
        environment = types.Environment("countdown", make, {"only": None}, "return", lambda total, _: total)
        video.check(tmp_path / "film.mp4", environment)

    rehearse(Countdown)
    with pytest.raises(errors.InputError, match=r"countdown cannot be rendered here \(no display\)"):
        rehearse(Blind)

    def mimsave(*_, **__):
        raise ValueError("Could not find\na backend")

    monkeypatch.setattr(imageio, "mimsave", mimsave)
    message = r"film.mp4 cannot be encoded here \(Could not find a backend\): install .* 'valuelab\[video\]'$"
    with pytest.raises(errors.InputError, match=message):
        rehearse(Countdown)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_film_replaces_a_link_and_does_not_follow_it(tmp_path, suffix):
    other = tmp_path / "other"
    other.write_text("kept")
    path = tmp_path / f"film.{suffix}"
    path.symlink_to(other)
    film(path)
    assert other.read_text() == "kept"
    assert not path.is_symlink()
    assert {entry.name for entry in tmp_path.iterdir()} == {"other", path.name}


def test_what_cannot_be_filmed(tmp_path):
    with pytest.raises(errors.InputError, match=r"video '.*film.avi' must end in .mp4 or .gif"):
        film(tmp_path / "film.avi")
    with pytest.raises(errors.InputError, match=r"countdown cannot be filmed because .*: leave out --video"):
        film(tmp_path / "film.gif", Unseen)
    with pytest.raises(
        errors.InputError, match=r"countdown cannot be rendered here \(no display\): set MUJOCO_GL"
    ):
        film(tmp_path / "film.gif", Blind)
