"""Comparing datasets: the statistics, and the detection of a wrong noise."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from valuelab.data import collection, comparison
from valuelab.data.collection import pointmaze
from valuelab.data.collection.recipe import play_episode
from valuelab.errors import InputError
from valuelab.runs import dataset_comparison


def play(name: str, episodes: int, seed: int, **settings) -> dict[str, np.ndarray]:
    """Episodes of a recipe, or of a point maze with other settings."""
    recipe = collection.RECIPES[name]
    player = pointmaze.make_player("pointmaze-medium-v0", "navigate", **settings) if settings else None
    player = player or recipe.make_player()
    played = [play_episode(recipe, player, seed, "train", episode) for episode in range(episodes)]
    return {key: np.concatenate([arrays[key] for arrays in played]) for key in recipe.dtypes}


@pytest.fixture(scope="module")
def navigated() -> dict[str, np.ndarray]:
    return play("pointmaze-medium-navigate-v0", 15, seed=0)


def first_episodes(path, episodes: int) -> dict[str, np.ndarray]:
    return {key: array[: episodes * 1001] for key, array in dataset_comparison.read(str(path)).items()}


def test_hindsight_noise():
    # Cells are 4 wide and centred on multiples of 4. From (0, 0) and (1.5, 0) the point enters the cell at
    # (4, 0), so the oracle pointed along +x; afterwards it enters no other cell. The third action is clipped.
    observations = np.array([[0.0, 0.0], [1.5, 0.0], [1.9, 0.0], [2.5, 0.0], [0.0, 0.0]])
    actions = np.array([[0.7, 0.1], [0.9, -0.3], [1.0, 0.2], [0.5, 0.5], [0.1, 0.1]])
    noise = comparison.hindsight_noise(observations, actions, np.array([0, 0, 0, 0, 1]))
    nan = np.nan
    expected = [[-0.3, 0.1], [-0.1, -0.3], [nan, 0.2], [nan, nan], [nan, nan]]
    np.testing.assert_allclose(noise, expected, atol=1e-5)


def test_distances():
    # Three episodes over two bins, shares (1, 0), (1/2, 1/2), (0, 1). First against the others:
    # p = (1, 0), q = (1/4, 3/4): both distances are 3/4. The first two against the last:
    # p = (3/4, 1/4), q = (0, 1): 3/4. With three bins the two distances differ:
    # p = (1/2, 0, 1/2), q = (0, 1, 0): total variation 1, Kolmogorov-Smirnov 1/2.
    counts = np.array([[4, 0], [2, 2], [0, 4]], np.float32)
    divisions = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
    for cumulative in (False, True):
        found = comparison.distances(counts, divisions, cumulative)
        np.testing.assert_allclose(found, [0.75, 0.75])
    counts = np.array([[2, 0, 2], [0, 4, 0]], np.float32)
    division = np.array([[1, 0]], np.float32)
    assert comparison.distances(counts, division, cumulative=False) == [1.0]
    assert comparison.distances(counts, division, cumulative=True) == [0.5]


def test_episodes_are_divided_whole_and_in_equal_sizes():
    divisions = comparison.divide((3, 5))
    np.testing.assert_array_equal(divisions[0], [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(divisions.sum(axis=1), 3)
    assert len(np.unique(divisions, axis=0)) == 56  # 8 choose 3: all of them, among a thousand


def test_p_values_are_uniform_where_nothing_differs():
    # Episodes drawn from one distribution: each p-value is below x with probability x. Of 60, P(mean outside
    # 0.5 ± 0.15) < 1e-4, as the standard deviation of the mean is 0.29 / √60 = 0.037.
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        counts = rng.poisson(rng.gamma(1.0, 5.0, (24, 10))).astype(np.float32)
        distances = comparison.distances(counts, comparison.divide((12, 12)), cumulative=True)
        found.append(np.mean(distances >= distances[0]))
    assert abs(np.mean(found) - 0.5) < 0.15


def test_noise_of_the_default_recipe(navigated):
    # Across the oracle's direction (|direction_i| < 0.05), an action that is not clipped is noise N(0, σ²)
    # truncated at ±1, two standard deviations for σ = 0.5, so its standard deviation is
    # σ √(1 - 4 φ(2) / (2 Φ(2) - 1)) = 0.5 √(1 - 4 · 0.05399 / 0.95450) = 0.440.
    # Near the centre of a cell, where the point moves back and forth, the estimate may be wrong.
    # About 900 rows remain: the sampling error of a deviation is 0.44 / √1800 = 0.010.
    positions, actions = navigated["observations"], navigated["actions"]
    noise = comparison.hindsight_noise(positions, actions, comparison.episode_numbers(navigated))
    off_centre = np.abs(positions - 4.0 * np.round(positions / 4.0)).max(axis=1, keepdims=True) > 1.0
    across = off_centre & (np.abs(actions - noise) < 0.05)
    assert across.sum() > 800
    assert noise[across].std() == pytest.approx(0.440, abs=0.03)


@pytest.mark.parametrize(
    ("noise", "agrees"), [(0.5, True), pytest.param(0.2, False, marks=pytest.mark.slow), (0.4, False)]
)
def test_a_wrong_noise_is_found(navigated, noise, agrees):
    other = play("pointmaze-medium-navigate-v0", 15, seed=1, noise=noise)
    results, p = comparison.compare(navigated, other, plane=(0, 1), maze=True)
    assert (p >= comparison.SIGNIFICANCE) == agrees
    assert (results["action norm"].p < 0.01) == (not agrees)


def test_small_set_agrees_with_the_reference(navigated, shared_data):
    reference = first_episodes(shared_data / "ogbench" / "pointmaze-medium-navigate-v0.npz", 100)
    assert comparison.layout(reference) == comparison.layout(navigated)
    results, p = comparison.compare(reference, navigated, plane=(0, 1), maze=True)
    assert p >= comparison.SIGNIFICANCE
    assert results["action noise 0"].distance < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "episodes", "plane"),
    [("pointmaze-medium-navigate-v0", 100, (0, 1)), ("cube-single-play-v0", 10, (19, 20))],
)
def test_larger_set_agrees_with_the_reference(shared_data, name, episodes, plane):
    reference = dataset_comparison.read(str(shared_data / "ogbench" / f"{name}.npz"))
    collected = play(name, episodes, seed=3)
    assert comparison.layout(reference) == comparison.layout(collected)
    _, p = comparison.compare(reference, collected, plane, maze=name.startswith("pointmaze"))
    assert p >= comparison.SIGNIFICANCE


def test_files_and_exit_status(navigated, tmp_path):
    same, other = tmp_path / "pointmaze-same.npz", tmp_path / "pointmaze-other.npz"
    np.savez(same, **{key: array[:3003] for key, array in navigated.items()})
    np.savez(other, **{key: array[3003:9009] for key, array in navigated.items()})
    command = [sys.executable, "-m", "experiments.compare_datasets", f"--reference={same}"]
    done = subprocess.run(
        [*command, f"--candidate={other}", f"--out={tmp_path / 'out'}"],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "distributions agree" in done.stdout
    report = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert report["agree"]
    assert report["features"]["occupancy"]["distance"] > 0.0
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_layouts_that_differ(navigated, tmp_path, capsys):
    full, short = tmp_path / "full.npz", tmp_path / "short.npz"
    np.savez(full, **{key: array[:1001] for key, array in navigated.items()})
    arrays = {key: array[:1000] for key, array in navigated.items()}
    arrays["terminals"] = np.arange(1000) == 999
    np.savez(short, **arrays)
    assert not dataset_comparison.run(str(full), str(short), str(tmp_path), (0, 1))
    assert "layouts differ" in capsys.readouterr().out


def test_unusable_files_and_planes(navigated, tmp_path):
    good, bad, images = (tmp_path / f"{name}.npz" for name in ("good", "bad", "images"))
    np.savez(good, **{key: array[:1001] for key, array in navigated.items()})
    np.savez(bad, observations=np.zeros((3, 2)))
    np.savez(images, observations=np.zeros((3, 2, 2)), actions=np.zeros(3), terminals=np.ones(3))
    for path, message in [
        (tmp_path / "none.npz", "cannot be read as .npz"),
        (bad, "has no 'actions'"),
        (images, "only vectors are compared"),
    ]:
        with pytest.raises(InputError, match=message):
            dataset_comparison.run(str(good), str(path), str(tmp_path), (0, 1))
    with pytest.raises(InputError, match="plane=0,2 but observations have 2 dimensions"):
        dataset_comparison.run(str(good), str(good), str(tmp_path), (0, 2))
