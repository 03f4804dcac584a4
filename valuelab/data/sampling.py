"""Samples batches: transitions, uniform or weighted, and hindsight goals as in OGBench.

Drawing works on transition numbers 0 .. M - 1; its last step turns them into rows. So compact and full
storage give the same batches from the same key. Gathering reads the rows, inside jit from arrays on the
device or in NumPy from arrays on the host.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.configuration import Settings, setting
from valuelab.data import storage
from valuelab.errors import InputError
from valuelab.types import Array, Dataset, Key, Sampler, Segments, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalDistribution(Settings):
    """The distribution of goals. The probability that remains goes to observations of random transitions."""

    p_current: float = setting(
        dataclasses.MISSING, help="Probability in [0, 1] of the transition's own observation."
    )
    p_trajectory: float = setting(
        dataclasses.MISSING,
        help="Probability in [0, 1] of a later observation of the transition's trajectory.",
    )
    geometric: bool = setting(
        dataclasses.MISSING,
        help="Draw the steps to that later observation from a geometric distribution with mean "
        "1 / (1 - discount), cut at the trajectory's end; otherwise uniformly over the steps that are left.",
    )
    rounded: bool = setting(
        False,
        help="Without geometric: round a uniform distance, as OGBench's sampler does. Then the nearest and "
        "the farthest of the later observations have half the probability of the others.",
        before=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p_current < 0 or self.p_trajectory < 0 or self.p_current + self.p_trajectory > 1:
            raise InputError(
                f"p_current is {self.p_current} and p_trajectory is {self.p_trajectory}, but they must be "
                "probabilities that sum to at most 1: lower one of them"
            )
        if self.rounded and self.geometric:
            raise InputError("rounded and geometric are both True: leave out one of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalRelabelling(Settings):
    """Hindsight relabelling; the defaults are those of goal-conditioned IQL in OGBench."""

    value: GoalDistribution = setting(
        GoalDistribution(p_current=0.2, p_trajectory=0.5, geometric=True),
        help="The goals that rewards and masks refer to.",
    )
    policy: GoalDistribution = setting(
        GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=False),
        help="The goals that the policy is trained on.",
    )
    discount: float | None = setting(
        0.99,
        help="Parameter of the geometric distributions, in [0, 1). By default it is the agent's discount.",
    )
    negative_rewards: bool = setting(
        True, help="Rewards are -1, and 0 at the goal; otherwise they are 0, and 1 at the goal."
    )
    subgoal_steps: int = setting(
        0,
        "[0, inf)",
        "Number of steps from an observation to its subgoals, for hierarchical policies; 0 for no subgoals.",
        before=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discount is not None and not 0 <= self.discount < 1:
            raise InputError(
                f"discount of the goal relabelling is {self.discount}, but must lie in [0, 1): change it"
            )


class Drawn(NamedTuple):
    """What a batch is gathered from; None for fields that the batch does not have.

    Attributes:
        rows: [B], rows of the transitions.
        successors: [B], rows of their next observations.
        next_actions: [B], rows of their next actions.
        futures: [B], rows of their futures.
        segment_rows: [B, H], rows of the transitions in their segments.
        segment_successors: [B, H], rows of the next observations of these transitions.
        segment_masks: [B, H], the masks of the segments.
        goals: [B], rows of the goals of the value.
        policy_goals: [B], rows of the goals of the policy.
        subgoals: [B], rows of the subgoals.
        policy_subgoals: [B], rows of the subgoals on the way to the goals of the policy.
        rewards: [B], rewards that follow from goals; None to read them from the dataset.
        masks: [B], likewise.
    """

    rows: Any
    successors: Any = None
    next_actions: Any = None
    futures: Any = None
    segment_rows: Any = None
    segment_successors: Any = None
    segment_masks: Any = None
    goals: Any = None
    policy_goals: Any = None
    subgoals: Any = None
    policy_subgoals: Any = None
    rewards: Any = None
    masks: Any = None


def transitions(
    dataset: Dataset,
    batch_size: int,
    future_discount: float | None = None,
    horizon: int = 0,
    num_frames: int = 1,
    weights: np.ndarray | None = None,
) -> Sampler:
    """Samples transitions with replacement, uniformly or in proportion to weights.

    Args:
        dataset: a dataset in either storage.
        batch_size: B.
        future_discount: γ in [0, 1), to sample `futures` too: the successor of the transition k steps later,
            with probability (1 - γ) γ^k, or of the trajectory's last transition where that is earlier; None
            for no futures.
        horizon: H, the number of steps of `segments`; 0 for no segments.
        num_frames: k, the number of observations that are joined along the last axis: an observation and
            those before it. Before the first observation of a trajectory, the first one is repeated.
        weights: [M], at least 0, to which the probabilities of the transitions are proportional; None for
            equal ones.

    Returns:
        A sampler of batches without goals; the next action of a trajectory's last transition is its own
        action.

    Raises:
        InputError: when the batch size is not positive, the horizon is negative, the discount is not in
            [0, 1), or num_frames > 1 with a dataset in full storage.
    """
    if horizon < 0:
        raise InputError(f"horizon is {horizon}, but must be at least 0: give 0 for no segments")
    if future_discount is not None and not 0 <= future_discount < 1:
        raise InputError(f"future_discount is {future_discount}, but must lie in [0, 1): change it")
    arrays, num_transitions = _arrays(dataset, batch_size, num_frames, weights)
    arrays["ends"] = storage.trajectory_ends(dataset)

    def draw(arrays: Any, key: Key) -> Drawn:
        numbers = _draw_numbers(arrays, key, batch_size, num_transitions)
        rows, ends = _rows(arrays, numbers), arrays["ends"][numbers]
        drawn = Drawn(
            rows=rows,
            successors=_successor_rows(arrays, rows),
            next_actions=_rows(arrays, jnp.minimum(numbers + 1, ends)),
        )
        if horizon:
            following = numbers[:, None] + jnp.arange(horizon)[None]
            segment_rows = _rows(arrays, jnp.minimum(following, ends[:, None]))
            masks = (following <= ends[:, None]).astype(jnp.float32)
            drawn = drawn._replace(
                segment_rows=segment_rows,
                segment_successors=_successor_rows(arrays, segment_rows),
                segment_masks=masks,
            )
        if future_discount is not None:
            # A separate random stream, so that transitions are the same with and without futures.
            steps = jax.random.geometric(jax.random.fold_in(key, 1), 1 - future_discount, numbers.shape) - 1
            later = _rows(arrays, jnp.minimum(numbers + steps, ends))
            drawn = drawn._replace(futures=_successor_rows(arrays, later))
        return drawn

    return _sampler(arrays, draw, batch_size, num_transitions, num_frames)


def goals(
    dataset: Dataset,
    batch_size: int,
    relabelling: GoalRelabelling,
    num_frames: int = 1,
    weights: np.ndarray | None = None,
) -> Sampler:
    """Samples transitions, and relabels each with a goal for the value and one for the policy.

    Goals are observations of transitions. A transition reaches its goal where the goal is its own
    observation: success = 1, reward = success - 1 (or success), mask = 1 - success. For a trajectory's last
    transition, the only later transition is itself. Subgoals are k = relabelling.subgoal_steps later, at most
    at the trajectory's end and, for `policy_subgoals`, at most at a goal of the same trajectory.

    Args:
        dataset: a dataset in either storage; its rewards and masks are not used.
        batch_size: B.
        relabelling: the distributions of goals, with a discount.
        num_frames: as for `transitions`; a goal is one observation, repeated num_frames times.
        weights: as for `transitions`; goals of random transitions are drawn uniformly.

    Returns:
        A sampler of batches with `goals` and `policy_goals`, and with subgoals if there is a k.

    Raises:
        InputError: when the batch size is not positive, the discount is missing, num_frames > 1 with a
            dataset in full storage, or subgoals are farther than the longest trajectory lasts.
    """
    if (discount := relabelling.discount) is None:
        raise InputError("discount of the goal relabelling is missing: give the agent's discount")
    arrays, num_transitions = _arrays(dataset, batch_size, num_frames, weights)
    del arrays["rewards"], arrays["masks"]  # computed here, so not needed on the device
    arrays["ends"] = storage.trajectory_ends(dataset)
    longest = int(np.max(np.diff(np.unique(arrays["ends"]), prepend=-1)))
    if (subgoal_steps := relabelling.subgoal_steps) >= max(longest, 2):
        raise InputError(
            f"data.goals.subgoal_steps is {subgoal_steps}, but the longest trajectory of {dataset.name} has "
            f"{longest} transitions: give less"
        )

    def draw_goals(
        key: Key, numbers: Array, ends: Array, distribution: GoalDistribution
    ) -> tuple[Array, Array]:
        """The transition numbers [B] whose observations are the goals of the transitions `numbers` [B].

        Also whether each is on the transition's own trajectory by design, not by chance, [B].
        """
        kind_key, later_key, random_key = jax.random.split(key, 3)
        if distribution.geometric:
            steps = jax.random.geometric(later_key, 1 - discount, numbers.shape)
            later = jnp.minimum(numbers + steps, ends)
        elif distribution.rounded:
            first = jnp.minimum(numbers + 1, ends)
            share = jax.random.uniform(later_key, numbers.shape)
            later = first + jnp.round(share * (ends - first)).astype(numbers.dtype)
        else:
            later = jax.random.randint(later_key, numbers.shape, jnp.minimum(numbers + 1, ends), ends + 1)
        anywhere = jax.random.randint(random_key, numbers.shape, 0, num_transitions)
        kind = jax.random.uniform(kind_key, numbers.shape)
        own, trajectory = distribution.p_current, distribution.p_current + distribution.p_trajectory
        goals = jnp.where(kind < own, numbers, jnp.where(kind < trajectory, later, anywhere))
        return goals, kind < trajectory

    def draw(arrays: Any, key: Key) -> Drawn:
        number_key, value_key, policy_key = jax.random.split(key, 3)
        numbers = _draw_numbers(arrays, number_key, batch_size, num_transitions)
        ends = arrays["ends"][numbers]
        value_goals, _ = draw_goals(value_key, numbers, ends, relabelling.value)
        policy_goals, ahead = draw_goals(policy_key, numbers, ends, relabelling.policy)
        successes = (numbers == value_goals).astype(jnp.float32)
        rows = _rows(arrays, numbers)
        drawn = Drawn(
            rows=rows,
            successors=_successor_rows(arrays, rows),
            goals=_rows(arrays, value_goals),
            policy_goals=_rows(arrays, policy_goals),
            rewards=successes - 1 if relabelling.negative_rewards else successes,
            masks=1 - successes,
        )
        if subgoal_steps:
            subgoals = jnp.minimum(numbers + subgoal_steps, ends)
            on_the_way = jnp.where(ahead, jnp.minimum(subgoals, policy_goals), subgoals)
            drawn = drawn._replace(
                subgoals=_rows(arrays, subgoals), policy_subgoals=_rows(arrays, on_the_way)
            )
        return drawn

    return _sampler(arrays, draw, batch_size, num_transitions, num_frames)


def _sampler(
    arrays: dict[str, np.ndarray],
    draw: Callable[[Any, Key], Drawn],
    batch_size: int,
    num_transitions: int,
    num_frames: int,
) -> Sampler:
    """A sampler that gathers what `draw` draws."""
    return Sampler(
        arrays=arrays,
        draw=draw,
        gather=lambda arrays, drawn: _gather(arrays, drawn, num_frames),
        batch_size=batch_size,
        num_transitions=num_transitions,
    )


def joined_frames(observations: Any, first_rows: Any, rows: Any, num_frames: int) -> Any:
    """Observations joined with those before them along the last axis, as in `transitions`.

    Args:
        observations: [N, ...], in compact storage.
        first_rows: [N], the first row in the trajectory of each row.
        rows: the rows to join, of any shape.
        num_frames: k.

    Returns:
        [rows, ..., k times the last axis], of NumPy if `rows` are, else of JAX.
    """
    xp, first = _namespace(rows), _take(first_rows, rows)
    frames = [_take(observations, xp.maximum(rows - back, first)) for back in reversed(range(num_frames))]
    return xp.concatenate(frames, axis=-1)


def example(sampler: Sampler) -> Transitions:
    """A batch of zeros with the shapes and dtypes of a sampler's batches, for `Agent.init`.

    Args:
        sampler: the sampler.

    Returns:
        Transitions of numpy arrays.
    """
    shapes = jax.eval_shape(sampler.sample, sampler.arrays, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _arrays(
    dataset: Dataset, batch_size: int, num_frames: int, weights: np.ndarray | None
) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of a dataset that a sampler needs, and its number M of transitions."""
    if batch_size <= 0:
        raise InputError(f"batch_size is {batch_size}: give a positive number")
    if num_frames < 1:
        raise InputError(f"num_frames is {num_frames}: give a positive number")
    arrays = {key: getattr(dataset, key) for key in ("observations", "actions", "rewards", "masks")}
    if weights is not None:
        # 32 random bits draw a transition: the share of the bits below a number is a cumulative weight.
        shares = np.cumsum(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
        arrays["cumulative"] = np.minimum(shares * 2.0**32, 2**32 - 1).astype(np.uint32)
    if num_frames > 1:
        arrays["first_rows"] = storage.first_rows(dataset.terminals)
    if dataset.next_observations is not None:
        if num_frames > 1:
            raise InputError("num_frames > 1 needs compact storage: set data.compact")
        return {**arrays, "next_observations": dataset.next_observations}, len(dataset.observations)
    rows = storage.transition_rows(dataset)
    return {**arrays, "rows": rows}, len(rows)


def _draw_numbers(arrays: dict[str, Array], key: Key, count: int, num_transitions: int) -> Array:
    """Random transition numbers [count], uniform or in proportion to the weights."""
    if "cumulative" not in arrays:
        return jax.random.randint(key, (count,), 0, num_transitions)
    bits = jax.random.bits(key, (count,), jnp.uint32)
    numbers = jnp.searchsorted(arrays["cumulative"], bits, side="right")
    return jnp.minimum(numbers, num_transitions - 1).astype(jnp.int32)  # rows may be added for even shards


def _rows(arrays: dict[str, Array], numbers: Array) -> Array:
    """The rows [B] of transition numbers [B]."""
    return arrays["rows"][numbers] if "rows" in arrays else numbers


def _successor_rows(arrays: dict[str, Array], rows: Array) -> Array:
    """The rows of the next observations of the transitions at rows of any shape."""
    return rows if "next_observations" in arrays else rows + 1


def _gather(arrays: dict[str, Any], drawn: Drawn, num_frames: int) -> Transitions:
    """The batch at drawn rows."""

    def taken(name: str, rows: Any) -> Any:
        return None if rows is None else _take(arrays[name], rows)

    def following(rows: Any) -> Any:
        if rows is not None and "next_observations" in arrays:
            return _take(arrays["next_observations"], rows)
        return observed(rows)

    def observed(rows: Any) -> Any:
        if rows is None or num_frames == 1:
            return taken("observations", rows)
        return joined_frames(arrays["observations"], arrays["first_rows"], rows, num_frames)

    def repeated(rows: Any) -> Any:
        goals = taken("observations", rows)
        if goals is None or num_frames == 1:
            return goals
        return _namespace(goals).concatenate([goals] * num_frames, axis=-1)

    segments, parts = None, (drawn.segment_rows, drawn.segment_successors, drawn.segment_masks)
    if any(part is not None for part in parts):
        segments = Segments(
            actions=taken("actions", drawn.segment_rows),
            observations=following(drawn.segment_successors),
            masks=drawn.segment_masks,
        )
    has_goals = "rewards" not in arrays
    return Transitions(
        observations=observed(drawn.rows),
        actions=taken("actions", drawn.rows),
        rewards=drawn.rewards if has_goals else taken("rewards", drawn.rows),
        masks=drawn.masks if has_goals else taken("masks", drawn.rows),
        next_observations=following(drawn.successors),
        goals=repeated(drawn.goals),
        policy_goals=repeated(drawn.policy_goals),
        subgoals=repeated(drawn.subgoals),
        policy_subgoals=repeated(drawn.policy_subgoals),
        next_actions=taken("actions", drawn.next_actions),
        futures=following(drawn.futures),
        segments=segments,
    )


def _take(array: Any, rows: Any) -> Any:
    """Rows of an array; in NumPy `take` is several times as fast as an index."""
    if isinstance(rows, np.ndarray) and isinstance(array, np.ndarray):
        return np.take(np.asarray(array), rows, axis=0)
    return array[rows]


def _namespace(array: Any) -> Any:
    """The module of functions for an array."""
    return np if isinstance(array, np.ndarray) else jnp
