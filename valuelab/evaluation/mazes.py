"""Geodesic distances in OGBench's mazes, random pairs of starts and goals, and reference policies.

The free space is where the agent's centre can be: at least the radius of its body away from all walls. A
geodesic is a shortest way through it. The detour of a pair is the length of its geodesic divided by the
straight distance: walking straight at the goal works only where the detour is small.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.spatial
import scipy.stats

from valuelab import errors, types
from valuelab.evaluation.plots import Maze

NUM_PAIRS = 200
"""The number of pairs in the results of valuelab."""
SEED = 0
"""The seed of the pairs. All runs in a maze play the same pairs."""
BINS = {"< 1.15": 1.15, "1.15 to 1.5": 1.5, ">= 1.5": np.inf}
"""Name of each bin of detours -> its upper end, which the next bin contains."""
SPEED = 0.2
"""The distance that a point moves in a step along each axis, at most; metres."""

_POINTS_PER_CELL = 20
_MOST_STEPS = 5
"""The largest offset of neighbours along an axis. Each direction is within 5.7 degrees of one to a neighbour,
so lengths between grid points in an open space are at most 0.5 % too large."""
_NEAREST = 12
"""The number of grid points to which any other place is linked."""
_AHEAD = 3
"""A walker heads for the point of its way that follows the nearest one by this number of points."""
_SPACING = 0.1
"""The distance between successive points of a way, in metres."""


class FreeSpace(NamedTuple):
    """The free space of a maze as a graph of grid points.

    Attributes:
        maze: the maze.
        step: the distance between adjacent grid points, in metres.
        places: [N, 2], the free grid points, which include the centres of the free cells.
        graph: [N, N], the lengths of free straight lines between near grid points.
        tree: finds the grid points near a place.
    """

    maze: Maze
    step: float
    places: np.ndarray
    graph: Any
    tree: Any


def free_space(maze: Maze) -> FreeSpace:
    """The graph of a maze's free space: 1 to 2 seconds.

    Args:
        maze: a maze with the radius of the agent's body.
    """
    step = maze.unit / _POINTS_PER_CELL
    rows, columns = (_POINTS_PER_CELL * count + 1 for count in maze.walls.shape)
    left, _, bottom, _ = maze.extent
    grid = np.stack(np.meshgrid(left + step * np.arange(columns), bottom + step * np.arange(rows)), axis=-1)
    free = is_free(maze, grid)
    numbers = np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1)
    places = grid[free]
    starts, ends = [], []
    for right, up in _directions():
        start = numbers[max(0, -up) : rows - max(0, up), : columns - right].ravel()
        end = numbers[max(0, up) : rows - max(0, -up), right:].ravel()
        both = (start >= 0) & (end >= 0)
        start, end = start[both], end[both]
        seen = is_visible(maze, places[start], places[end])
        starts.append(start[seen])
        ends.append(end[seen])
    start, end = np.concatenate(starts), np.concatenate(ends)
    lengths = np.linalg.norm(places[start] - places[end], axis=-1)
    half = scipy.sparse.coo_array((lengths, (start, end)), shape=(len(places),) * 2)
    return FreeSpace(
        maze=maze, step=step, places=places, graph=(half + half.T).tocsr(), tree=scipy.spatial.cKDTree(places)
    )


def _directions() -> list[tuple[int, int]]:
    """Half of the offsets (right, up) to neighbours in different directions; the others are opposite."""
    span = range(-_MOST_STEPS, _MOST_STEPS + 1)
    return [
        (right, up)
        for right in range(_MOST_STEPS + 1)
        for up in span
        if np.gcd(right, up) == 1 and (right, up) > (0, 0)
    ]


def is_free(maze: Maze, places: np.ndarray) -> np.ndarray:
    """Whether places [..., 2] are in the free space: [...]."""
    walls = np.pad(maze.walls, 2, constant_values=True)
    offsets = (np.asarray(places) - [maze.extent[0], maze.extent[2]]) / maze.unit
    cells = np.clip(np.floor(offsets).astype(int), -1, np.array(maze.walls.shape[::-1]))
    inside = np.abs(offsets - cells - 0.5)
    gaps = np.maximum(0.5 - inside, 0) * maze.unit  # to the nearest neighbours along x and along y
    toward = cells + np.where(offsets - cells > 0.5, 1, -1)
    (column, row), (beside, above) = (np.moveaxis(each + 2, -1, 0) for each in (cells, toward))
    radius = maze.radius - 1e-9  # less than half a cell, so that no other cells are near
    free = ~walls[row, column]
    free &= ~(walls[row, beside] & (gaps[..., 0] < radius))
    free &= ~(walls[above, column] & (gaps[..., 1] < radius))
    free &= ~(walls[above, beside] & (np.hypot(gaps[..., 0], gaps[..., 1]) < radius))
    return free


def is_visible(maze: Maze, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether the straight lines from starts [..., 2] to ends [..., 2] lie in the free space: [...]."""
    spacing = maze.unit / _POINTS_PER_CELL / 2
    longest = np.linalg.norm(ends - starts, axis=-1).max(initial=0.0)
    free = np.ones(np.broadcast_shapes(starts.shape, ends.shape)[:-1], bool)
    for share in np.linspace(0, 1, 2 + int(longest / spacing)):
        free &= is_free(maze, (1 - share) * starts + share * ends)
    return free


class _Links(NamedTuple):
    """The grid points that can be seen from K places: numbers and distances [K, n]; inf where hidden."""

    numbers: np.ndarray
    distances: np.ndarray


def _links(space: FreeSpace, places: np.ndarray) -> _Links:
    distances, numbers = space.tree.query(places, _NEAREST, distance_upper_bound=2 * space.step)
    found = np.isfinite(distances)
    numbers = np.where(found, numbers, 0)
    seen = is_visible(space.maze, np.asarray(places)[:, None], space.places[numbers])
    return _Links(numbers, np.where(found & seen, distances, np.inf))


class Geodesics(NamedTuple):
    """The geodesics to G goals.

    Attributes:
        space: the free space.
        goals: [G, 2].
        distances: [G, N], from each grid point, in metres; inf where there is no way.
        successors: [G, N], the number of the next grid point on the way; negative at the goal.
    """

    space: FreeSpace
    goals: np.ndarray
    distances: np.ndarray
    successors: np.ndarray

    def at(self, places: np.ndarray) -> np.ndarray:
        """The distances [G, K] from any places [K, 2]; NaN outside of the free space."""
        links = _links(self.space, places)
        ways = self.distances[:, links.numbers] + links.distances
        lengths = ways.min(axis=-1)
        return np.where(np.isfinite(lengths), lengths, np.nan)

    def way(self, goal: int, start: np.ndarray) -> np.ndarray:
        """The points [K, 2] of the way from a start [2] to the goal of a number, 0.1 m apart.

        Raises:
            InputError: when there is no way.
        """
        links = _links(self.space, np.asarray(start)[None])
        lengths = self.distances[goal, links.numbers[0]] + links.distances[0]
        if not np.isfinite(lengths.min()):
            raise errors.InputError(f"there is no free way from {start} to the goal {self.goals[goal]}")
        points, number = [np.asarray(start)], int(links.numbers[0, lengths.argmin()])
        while number >= 0:
            points.append(self.space.places[number])
            number = int(self.successors[goal, number])
        whole = np.stack([*points, self.goals[goal]])
        passed = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(whole, axis=0), axis=-1))])
        even = np.linspace(0, passed[-1], 2 + int(passed[-1] / _SPACING))
        return np.stack([np.interp(even, passed, column) for column in whole.T], axis=-1)


def geodesics(space: FreeSpace, goals: np.ndarray) -> Geodesics:
    """The geodesics from all of the free space to goals: about 20 ms for each goal.

    Args:
        space: the free space.
        goals: [G, 2], in metres.

    Raises:
        InputError: when a goal is not in the free space.
    """
    goals = np.asarray(goals, np.float64)
    links = _links(space, goals)
    seen = np.isfinite(links.distances)
    if not seen.any(-1).all():
        outside = goals[~seen.any(-1)][0]
        raise errors.InputError(f"the goal {outside} is not in the free space of the maze: give another goal")
    count, size = len(goals), len(space.places)
    rows = np.nonzero(seen)[0]
    # dijkstra takes edges of length 0 for missing ones.
    lengths = np.maximum(links.distances[seen], 1e-9)
    first = scipy.sparse.coo_array((lengths, (rows, links.numbers[seen])), shape=(count, size))
    graph = scipy.sparse.vstack([space.graph, first])
    graph = scipy.sparse.hstack([graph, scipy.sparse.coo_array((size + count, count))]).tocsr()
    distances, before = scipy.sparse.csgraph.dijkstra(
        graph, indices=size + np.arange(count), return_predecessors=True
    )
    successors = np.where(before[:, :size] < size, before[:, :size], -1)
    return Geodesics(space=space, goals=goals, distances=distances[:, :size], successors=successors)


# Pairs.


class Pairs(NamedTuple):
    """P pairs of a start and a goal.

    Attributes:
        starts: [P, 2], in metres.
        goals: [P, 2], in metres.
        distances: [P], the lengths of the geodesics, in metres.
    """

    starts: np.ndarray
    goals: np.ndarray
    distances: np.ndarray

    @property
    def detours(self) -> np.ndarray:
        """Length of the geodesic / straight distance, [P]."""
        return self.distances / np.linalg.norm(self.goals - self.starts, axis=-1)

    @property
    def bins(self) -> np.ndarray:
        """The number of the bin of each pair in BINS, [P]."""
        return _bins(self.detours)

    @property
    def names(self) -> list[str]:
        """The name of each pair as a task, [P]."""
        return [f"pair{number}" for number in range(1, len(self.starts) + 1)]


def _bins(detours: np.ndarray) -> np.ndarray:
    return np.digitize(detours, list(BINS.values())[:-1])


def draw_pairs(space: FreeSpace, count: int = NUM_PAIRS, seed: int = SEED) -> Pairs:
    """Random pairs, the same number in each bin of detours as far as the maze has such pairs.

    Goals are uniform over the free space. Each goal gets a pair in the bin that has the fewest pairs so far,
    of those that some start reaches. The start is uniform over the places of this bin whose straight distance
    is at least a cell. Both are grid points.

    Args:
        space: the free space.
        count: P.
        seed: the same seed gives the same pairs.

    Raises:
        InputError: when no start is a cell away from a goal.
    """
    random = np.random.default_rng(seed)
    goals = space.places[random.integers(len(space.places), size=count)]
    found = geodesics(space, goals)
    starts, lengths, numbers = np.zeros((count, 2)), np.zeros(count), np.zeros(len(BINS), int)
    for pair, (goal, distances) in enumerate(zip(goals, found.distances, strict=True)):
        straight = np.linalg.norm(space.places - goal, axis=-1)
        usable = np.isfinite(distances) & (straight >= space.maze.unit)
        if not usable.any():
            raise errors.InputError(f"no free place is a cell away from the goal {goal}: give a larger maze")
        bins = np.where(usable, _bins(distances / np.maximum(straight, space.step)), -1)
        wanted = min(set(bins[usable].tolist()), key=lambda number: (numbers[number], -number))
        start = random.choice(np.flatnonzero(bins == wanted))
        starts[pair], lengths[pair] = space.places[start], distances[start]
        numbers[wanted] += 1
    return Pairs(starts=starts, goals=goals, distances=lengths)


# References.


WALKERS = ("straight", "free way")
"""The reference policies: walking straight at the goal, and following the geodesic to it."""


def ways_of_walkers(found: Geodesics, starts: np.ndarray) -> np.ndarray:
    """The ways of both WALKERS from starts [P, 2] to the goals of their rows, [2, P, K, 2].

    The way of walking straight is the goal alone. The last point of shorter ways is repeated.
    """
    free = [found.way(number, start) for number, start in enumerate(starts)]
    longest = max(map(len, free))
    padded = [np.pad(way, ((0, longest - len(way)), (0, 0)), "edge") for way in free]
    straight = np.broadcast_to(found.goals[:, None], (len(free), longest, 2))
    return np.array([straight, padded], np.float32)


def walker(tasks: Sequence[str]) -> types.Agent:
    """A point that follows a given way in each task; its state is the ways, [P, K, 2].

    It heads for a point 0.3 m beyond the nearest point of the way, at full speed.

    Args:
        tasks: the names of the P tasks.
    """

    def act(ways: types.Array, augmented: types.Augmented, key: types.Key, temperature: Any) -> types.Array:
        del key, temperature
        places = augmented.observations[:, :2]
        own = ways[augmented.memory[:, 0].astype(jnp.int32)]
        nearest = jnp.argmin(jnp.sum(jnp.square(own - places[:, None]), axis=-1), axis=-1)
        ahead = jnp.minimum(nearest + _AHEAD, own.shape[1] - 1)
        offsets = jnp.take_along_axis(own, ahead[:, None, None], axis=1)[:, 0] - places
        return offsets / jnp.maximum(jnp.max(jnp.abs(offsets), axis=-1, keepdims=True), SPEED)

    memory = types.Memory(
        commands={name: np.array([number], np.float32) for number, name in enumerate(tasks)},
        draw=lambda ways, observations, key: jnp.zeros((len(observations), 1)),
        choose=lambda ways, observations, commands: commands,
        update=lambda numbers, rewards: numbers,
        discount=1.0,
        score=None,
    )
    return types.Agent(
        init=lambda key, example: (), update=lambda state, batch: (state, {}), act=act, memory=memory
    )


def rank_correlation(values: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of values with minus the distances, where these are known.

    Args:
        values: [..., G, K], of K places for G goals.
        distances: [G, K], in metres; NaN for places that do not count.

    Returns:
        [..., G]; NaN where all values are the same.
    """
    result = np.full(values.shape[:-1], np.nan)
    for index in np.ndindex(*result.shape):
        known = np.isfinite(distances[index[-1]])
        own = values[index][known]
        if np.ptp(own) > 0:
            result[index] = scipy.stats.spearmanr(own, -distances[index[-1]][known]).statistic
    return result
