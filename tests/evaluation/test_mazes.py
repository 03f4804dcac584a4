"""Mazes: geodesics against lengths computed by hand, pairs of starts and goals, and reference walkers."""

import contextlib

import numpy as np
import pytest

from valuelab import environments
from valuelab.environments import ogbench
from valuelab.errors import InputError
from valuelab.evaluation import mazes, plots, rollout

L_SHAPE = plots.Maze(
    walls=np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 1, 1]]) > 0,
    extent=(0.0, 20.0, 0.0, 20.0),
    unit=4.0,
    initial=np.zeros(2),
    start=None,
    goal=None,
    radius=0.7,
)
"""Two arms of three cells, which meet at (14, 6)."""
CORNER = np.array([12.0, 8.0])


@pytest.fixture(scope="module")
def medium():
    """The medium maze with the five tasks of OGBench, and its free space."""
    environment = environments.with_rewards("ogbench/pointmaze-medium-navigate-v0", "unused")
    return environment, mazes.free_space(plots.open_maze(environment))


def around_corner(start, goal, radius):
    """Two tangents of the circle around the corner, and the arc between them."""
    first, last = np.subtract(start, CORNER), np.subtract(goal, CORNER)
    tangents = [np.sqrt(place @ place - radius**2) for place in (first, last)]
    turn = np.arctan2(last[1], last[0]) - np.arctan2(first[1], first[0])
    return sum(tangents) + radius * (
        turn - sum(np.arccos(radius / np.hypot(*place)) for place in (first, last))
    )


@pytest.mark.parametrize("radius", [0.0, 0.7])
def test_geodesics_go_around_a_corner_at_the_distance_of_the_radius(radius):
    space = mazes.free_space(L_SHAPE._replace(radius=radius))
    starts = np.array([[6.0, 6.0], [10.0, 6.0], [6.03, 5.12], [13.95, 6.4]])
    goals = np.array([[14.0, 14.0], [14.55, 10.07]])
    found = mazes.geodesics(space, goals)
    distances = found.at(starts)
    for number, goal in enumerate(goals):
        exact = [around_corner(start, goal, radius) for start in starts[:3]]
        assert (distances[number, :3] / exact - 1 < 0.01).all()
        assert (distances[number, :3] / exact > 0.9999).all()
        straight = np.linalg.norm(goal - starts[3])  # nothing is in its way
        assert straight * 0.9999 < distances[number, 3] < straight * 1.01
    way = found.way(0, starts[0])
    np.testing.assert_array_equal(way[[0, -1]], [starts[0], goals[0]])
    np.testing.assert_allclose(np.linalg.norm(np.diff(way, axis=0), axis=1).sum(), distances[0, 0], rtol=0.01)
    assert np.linalg.norm(way - CORNER, axis=1).min() > radius - 1e-3


def test_places_nearer_to_walls_than_the_radius_are_not_free():
    assert mazes.is_free(L_SHAPE, np.array([[4.71, 6.0], [4.69, 6.0], [2.0, 2.0], [-5.0, 6.0]])).tolist() == [
        True,
        False,
        False,
        False,
    ]
    space = mazes.free_space(L_SHAPE)
    assert np.isnan(mazes.geodesics(space, [[14.0, 14.0]]).at(np.array([[4.5, 6.0]]))).all()
    with pytest.raises(InputError, match="is not in the free space of the maze"):
        mazes.geodesics(space, [[2.0, 2.0]])


def test_pairs_depend_on_the_seed_only_and_fill_the_bins(medium):
    _, space = medium
    pairs = mazes.draw_pairs(space, 12, seed=0)
    for array, again in zip(pairs, mazes.draw_pairs(space, 12, seed=0), strict=True):
        np.testing.assert_array_equal(array, again)
    assert (pairs.goals != mazes.draw_pairs(space, 12, seed=1).goals).any()
    assert np.bincount(pairs.bins).tolist() == [4, 4, 4]
    names = np.array(list(mazes.BINS))[pairs.bins]
    assert (pairs.detours[names == "< 1.15"] < 1.15).all()
    assert (pairs.detours[names == ">= 1.5"] >= 1.5).all()
    assert (pairs.detours >= 0.9999).all()
    found = mazes.geodesics(space, pairs.goals).at(pairs.starts)
    np.testing.assert_allclose(np.diag(found), pairs.distances, rtol=1e-3)


def play(environment, space, starts, goals):
    """The scores of walking straight and of the free ways, [2, T]."""
    ways = mazes.ways_of_walkers(mazes.geodesics(space, goals), starts)
    evaluator = rollout.Evaluator(
        rollout.member_policy(lambda _: mazes.walker(list(environment.tasks))),
        environment,
        num_members=len(mazes.WALKERS),
        episodes=1,
        seed=0,
        width=len(goals),
        max_steps=300,
    )
    with contextlib.closing(evaluator):
        return evaluator(ways, 0).scores[..., 0]


def test_walkers_reach_goals_straight_or_by_the_free_ways(medium):
    environment, space = medium
    opened = [plots.open_maze(environment, task) for task in environment.tasks]
    starts, goals = ([getattr(each, name) for each in opened] for name in ("start", "goal"))
    np.testing.assert_array_equal(play(environment, space, starts, goals), [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    pairs = mazes.draw_pairs(space, 9)
    between = ogbench.between(
        environment, dict(zip(pairs.names, zip(pairs.starts, pairs.goals, strict=True), strict=True))
    )
    straight, free = play(between, space, pairs.starts, pairs.goals)
    assert free.all()
    assert not straight[pairs.detours >= 1.5].any()
    instance = between.make()
    observation, info = instance.reset(seed=0, options=between.tasks["pair2"])
    np.testing.assert_array_equal([observation, info["goal"]], [pairs.starts[1], pairs.goals[1]])
    instance.close()


def test_the_rank_correlation_leaves_unknown_places_out():
    distances = np.array([[1.0, 2.0, 3.0, np.nan], [3.0, 1.0, 2.0, 4.0]])
    values = np.array([[[9.0, 5.0, 1.0, 7.0], [1.0, 1.0, 1.0, 1.0]]])
    np.testing.assert_array_equal(mazes.rank_correlation(values, distances), [[1.0, np.nan]])
