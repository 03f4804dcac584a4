"""Pong on a small board: many games at once on the device, or one at a time as a gymnasium.Env.

The board has 7 columns and 11 rows. Paddles of three rows stand outside its left and right edge; the agent's
is the right one. At each step the agent's paddle moves by at most one row, then the opponent's, then the
ball, by one column and at most one row. Walls above and below reflect the ball. The part of the agent's
paddle that hits the ball decides its direction: the upper third sends it up, the lower one down, the middle
straight. The opponent follows the ball while it approaches, one row at a time with probability 0.4, and
returns it in a random direction. A ball that leaves the board is a point, +1 for the agent or -1, and the
next ball starts in the middle column towards the agent, with both paddles in the middle.

In "first_to_3" the first side with three points wins, so the return is the difference of the points: -3, -2,
-1, 1, 2 or 3. A game is truncated after 100 steps for each point that wins it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import errors, types
from valuelab.types import Array, Key

COLUMNS, ROWS = 7, 11
STAY, UP, DOWN = range(3)
"""The actions; row 0 is the highest."""
_FOLLOWS = 0.4
"""The probability that the opponent follows the ball in a step."""
_POINTS = {f"first_to_{points}": points for points in (1, 3, 5)}
"""Name -> the number of points that wins a game."""
_STEPS_PER_POINT = 100


class Games(NamedTuple):
    """The state of N games; all are int32 [N] where nothing else stands.

    Attributes:
        key: the random numbers follow from the key and the time.
        time: number of steps taken so far, a scalar.
        ended: [N] bool, whether the last step ended a game, so that the next step begins another.
        lengths: number of steps of each game.
        column: of the ball, 0 .. COLUMNS - 1.
        row: of the ball, 0 .. ROWS - 1.
        right: the columns that the ball moves in a step, 1 or -1.
        down: the rows that the ball moves in a step, -1, 0 or 1.
        player: the middle row of the agent's paddle, 1 .. ROWS - 2.
        opponent: likewise, of the opponent.
        won: points of the agent.
        lost: points of the opponent.
    """

    key: Key
    time: Array
    ended: Array
    lengths: Array
    column: Array
    row: Array
    right: Array
    down: Array
    player: Array
    opponent: Array
    won: Array
    lost: Array


def vector(name: str, num_environments: int) -> types.VectorEnvironment:
    """N parallel games.

    Args:
        name: "first_to_1", "first_to_3" or "first_to_5".
        num_environments: N.

    Returns:
        The vector environment. Observations are one-hot vectors of the ball's column, row and vertical
        direction, of the two paddles and of the points of both sides, and the ball's horizontal direction.

    Raises:
        InputError: for an unknown name.
    """
    if name not in _POINTS:
        raise errors.unknown("game of Pong", name, _POINTS)
    points = _POINTS[name]
    max_steps = points * _STEPS_PER_POINT

    def observe(games: Games) -> Array:
        kinds = (
            (games.column, COLUMNS),
            (games.row, ROWS),
            (games.down + 1, 3),
            (games.player - 1, ROWS - 2),
            (games.opponent - 1, ROWS - 2),
            (games.won, points),
            (games.lost, points),
        )
        parts = [jax.nn.one_hot(number, count, dtype=jnp.float32) for number, count in kinds]
        return jnp.concatenate([*parts, games.right[:, None].astype(jnp.float32)], axis=-1)

    def reset(key: Key) -> tuple[Games, Array]:
        zeros = jnp.zeros(num_environments, jnp.int32)
        games = Games(key, jnp.int32(0), zeros == 0, *[zeros] * 9)
        games, outcomes = step(games, zeros)
        return games, outcomes.observations

    def step(games: Games, actions: Array) -> tuple[Games, types.Outcomes]:
        uniform = jax.random.uniform(jax.random.fold_in(games.key, games.time), (3, num_environments))
        begins = games.ended
        direction = jnp.floor(3 * uniform[1]).astype(jnp.int32) - 1

        # Paddles.
        move = jnp.where(actions == UP, -1, jnp.where(actions == DOWN, 1, 0))
        player = jnp.clip(games.player + move, 1, ROWS - 2)
        follows = (uniform[0] < _FOLLOWS) & (games.right < 0)
        opponent = games.opponent + jnp.where(follows, jnp.sign(games.row - games.opponent), 0)
        opponent = jnp.clip(opponent, 1, ROWS - 2)

        # The ball: the wall reflects, or a paddle returns it, or it leaves the board.
        row, down = games.row + games.down, games.down
        down = jnp.where((row < 0) | (row >= ROWS), -down, down)
        row = (ROWS - 1) - jnp.abs((ROWS - 1) - jnp.abs(row))
        column = games.column + games.right
        at_player, at_opponent = column == COLUMNS, column == -1
        offset = row - jnp.where(at_player, player, opponent)
        hit = (at_player | at_opponent) & (jnp.abs(offset) <= 1)
        down = jnp.where(hit, jnp.where(at_player, offset, direction), down)
        right = jnp.where(hit, -games.right, games.right)
        column = jnp.clip(column, 0, COLUMNS - 1)
        gained = jnp.where(at_opponent & ~hit, 1, 0) - jnp.where(at_player & ~hit, 1, 0)
        gained = jnp.where(begins, 0, gained)

        # Points, and the next ball.
        won = jnp.where(begins, 0, games.won + (gained > 0))
        lost = jnp.where(begins, 0, games.lost + (gained < 0))
        lengths = jnp.where(begins, 0, games.lengths + 1)
        serves = begins | (gained != 0)
        terminated = (won == points) | (lost == points)
        truncated = ~terminated & (lengths >= max_steps)

        def served(first: Array | int, other: Array) -> Array:
            return jnp.where(serves, first, other).astype(jnp.int32)

        games = Games(
            key=games.key,
            time=games.time + 1,
            ended=terminated | truncated,
            lengths=lengths,
            column=served(COLUMNS // 2, column),
            row=served(ROWS // 2 + jnp.floor(5 * uniform[2]).astype(jnp.int32) - 2, row),
            right=served(1, right),
            down=served(direction, down),
            player=served(ROWS // 2, player),
            opponent=served(ROWS // 2, opponent),
            won=won,
            lost=lost,
        )
        return games, types.Outcomes(
            observations=observe(games),
            rewards=gained.astype(jnp.float32),
            terminated=terminated,
            truncated=truncated,
        )

    return types.VectorEnvironment(
        name=f"pong/{name}",
        spec=types.Spec(
            observation_shape=(COLUMNS + 3 * ROWS - 4 + 3 + 2 * points + 1,),
            observation_dtype="float32",
            action_dim=0,
            num_actions=3,
            reward_min=-1.0,
            reward_max=1.0,
        ),
        num_environments=num_environments,
        max_episode_steps=max_steps,
        reset=reset,
        step=step,
    )


def make(name: str) -> types.Environment:
    """A game for evaluation, which steps the functions of `vector` with N = 1.

    Args:
        name: as for `vector`.

    Returns:
        The environment with its only task and metric "return".

    Raises:
        InputError: for an unknown name.
    """
    vector(name, 1)  # refuses an unknown name
    return types.Environment(
        name=f"pong/{name}",
        make=functools.partial(_create, name),
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


def known_names() -> list[str]:
    """The names of the games."""
    return list(_POINTS)


def follow(observation: np.ndarray) -> int:
    """The action that brings the paddle nearer to the ball's row; a player that never loses a point.

    Args:
        observation: of one game.
    """
    row = np.argmax(observation[COLUMNS : COLUMNS + ROWS])
    player = 1 + np.argmax(observation[COLUMNS + ROWS + 3 :][: ROWS - 2])
    return DOWN if row > player else UP if row < player else STAY


@functools.cache
def _alone(name: str) -> tuple[types.VectorEnvironment, Any, Any]:
    """One game, with its compiled `reset` and `step`."""
    game = vector(name, 1)
    return game, jax.jit(game.reset), jax.jit(game.step)


def _create(name: str) -> Any:
    """A new gymnasium.Env."""
    gymnasium = errors.require("gymnasium", "environments")
    base: Any = gymnasium.Env
    game, reset, step = _alone(name)
    # The functions run where the key is: on a CPU, which is the fastest for one game.
    device = jax.local_devices(backend="cpu")[0]

    class Pong(base):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, game.spec.observation_shape, np.float32)
        action_space = gymnasium.spaces.Discrete(game.spec.num_actions)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            seed = int(self.np_random.integers(2**31)) if seed is None else seed
            self.games, observations = reset(jax.device_put(jax.random.key(seed), device))
            return np.asarray(observations[0]), {}

        def step(self, action: Any) -> Any:
            self.games, outcomes = step(self.games, np.array([action], np.int32))
            observations, rewards, terminated, truncated = jax.tree.map(np.asarray, outcomes)
            return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    return Pong()
