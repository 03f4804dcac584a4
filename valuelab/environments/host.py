"""Environments on the host, stepped from inside jit as if they were pure functions.

A simulator such as gymnasium's keeps its state outside JAX. This state depends only on the seed of a lane and
the actions since. JAX carries these as the simulation; the simulator is only a cache of it. A callback steps
the simulator that is in the state of the simulation. If there is none (in a resumed run, for an older
simulation, in another process), it seeds a simulator and repeats the actions first. So a step is a function
of its arguments, and a killed run continues with the same bits, if the simulator is deterministic given its
seed and actions.

Seeding can be slow: it takes 0.1 s in an Atari game, a step 1 ms. So episodes follow one another without new
seeds until a lane has taken T steps, where T is the longest episode; the next episode starts from a new seed.
Hence a simulation carries a log of 2 T actions.
"""

import contextlib
import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import errors, observation_parts, types
from valuelab.environments import interface

_WORDS = 4
"""The number of 32-bit words in each half of a token."""
_COMPARED_STEPS = 8
"""The number of steps in which two simulators are compared."""
_MAX_MEMBERS = 128
"""The largest number of members whose simulators are kept; the least recently used are rebuilt on demand."""


_Arrays = tuple[np.ndarray, ...]


class Simulation(NamedTuple):
    """The state of N environments: the data needed to rebuild their simulators.

    Attributes:
        token: uint32 [8], four words drawn from the key of `reset`, and four words of a digest of the actions
            since.
        seedings: int32 [N], the number of earlier seeds of each lane.
        ages: int32 [N], steps since the lane was seeded, in [0, 2 T]; T is max_episode_steps.
        actions: [N, 2 T, ...], the actions of these steps.
    """

    token: Any
    seedings: Any
    ages: Any
    actions: Any


def vector(
    name: str,
    make: Callable[[int], Any],
    num_environments: int,
    max_episode_steps: int | None = None,
    frames: int = 1,
    make_member: Callable[[], Any] | None = None,
) -> types.VectorEnvironment:
    """A vector environment of simulators on the host.

    Members of a run may take turns (under `lax.map` or `vmap`, or on several devices). Each member has its
    own simulators, identified by the key of its reset.

    Args:
        name: the name, for messages.
        make: (number of lanes) -> a new gymnasium.vector.VectorEnv with next-step autoreset, whose `reset`
            takes one seed per lane and the option "reset_mask".
        num_environments: N, positive.
        max_episode_steps: T, after which the simulators truncate episodes; None for the limit in gymnasium's
            spec.
        frames: the number of frames that observations stack on their last axis.
        make_member: () -> the simulators of a member, in place of `make(num_environments)`.

    Returns:
        The environment. Observations are uint8 or float32; actions are int32 [N] or, in the simulator's
        units, float32 [N, A]. The spec states infinite rewards, because simulators do not state their range.

    Raises:
        InputError: when N is not positive, observations or actions have other types, actions are unbounded,
            episodes have no limit, or the first step fails.
    """
    if num_environments < 1:
        raise errors.InputError(f"num_environments is {num_environments}: give a positive number")
    example = make(1)
    action_space = example.single_action_space
    facts = interface.of_spaces(name, example.single_observation_space, action_space)
    spec = facts.spec
    if not spec.discrete and not action_space.is_bounded():
        raise errors.InputError(
            f"the action space of {name} is {action_space}, but must be bounded: register the environment "
            "with a bounded Box"
        )
    limit: Any = max_episode_steps or example.get_attr("spec")[0].max_episode_steps
    if limit is None:
        raise errors.InputError(
            f"{name} has no max_episode_steps, but episodes must end: give a limit with "
            """--environment_kwargs='{"max_episode_steps": 1000}', or register it with a limit """
            "(Atari games: atari/GAME)"
        )
    inexact_resume = _inexact_resume(name, example, make(1), facts)  # fails before training starts
    start, outcomes = _shapes(spec, num_environments, limit)
    action_dtype = jnp.int32 if spec.discrete else jnp.float32
    result = (*start[:3], *outcomes)
    make_member = make_member or functools.partial(make, num_environments)
    host = _Host(name, lambda: _Member(name, make_member(), spec, limit), result)
    logging.getLogger("jax._src.callback").addFilter(_is_other_failure)

    @jax.custom_batching.custom_vmap
    def advance(simulation: Simulation, actions: types.Array) -> _Arrays:
        """Steps one member, or members along leading axes; the log already holds `actions`."""
        members = simulation.token.shape[:-1]
        shapes = tuple(jax.ShapeDtypeStruct(members + leaf.shape, leaf.dtype) for leaf in result)
        step, rebuild_and_step = (
            _mapped(function, len(members)) for function in (host.step, host.rebuild_and_step)
        )
        # Each argument of a callback takes about 20 microseconds, so the log is passed only where it is
        # needed.
        done, stepped = jax.pure_callback(
            step, (jax.ShapeDtypeStruct(members, jnp.bool_), shapes), simulation.token, actions
        )
        return jax.lax.cond(
            jnp.all(done),
            lambda: stepped,
            lambda: jax.pure_callback(rebuild_and_step, shapes, *simulation, actions),
        )

    @advance.def_vmap
    def advance_members(size: int, batched: Any, *arguments: Any) -> Any:
        """Steps all members in one callback; plain vmap would make two per member, and pass the logs."""
        arguments = jax.tree.map(
            lambda is_batched, leaf: leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape)),
            tuple(batched),
            arguments,
        )
        return advance(*arguments), (True,) * len(result)

    def reset(key: types.Key) -> tuple[Simulation, types.Array]:
        blank = Simulation(*(jnp.zeros(leaf.shape, leaf.dtype) for leaf in start))
        simulation = blank._replace(token=blank.token.at[:_WORDS].set(jax.random.bits(key, (_WORDS,))))
        return simulation, jax.pure_callback(
            host.rebuild, outcomes.observations, *simulation, vmap_method="sequential"
        )

    def step(simulation: Simulation, actions: types.Array) -> tuple[Simulation, types.Outcomes]:
        actions = actions.astype(action_dtype)
        # The log has no entry for a step at age 2 T, which follows the end of an episode and seeds the lane.
        log = simulation.actions.at[jnp.arange(num_environments), simulation.ages].set(
            actions.astype(simulation.actions.dtype), mode="drop"
        )
        # Only the new log is used from here, so XLA can update it in place.
        token, seedings, ages, *outcomes = advance(simulation._replace(actions=log), actions)
        return Simulation(token, seedings, ages, log), types.Outcomes(*outcomes)

    return types.VectorEnvironment(
        name,
        spec,
        num_environments,
        limit,
        reset,
        step,
        frames,
        facts.action_low,
        facts.action_high,
        lambda: host.failure,
        inexact_resume,
    )


def lane_seed(token: np.ndarray, lane: int, seeding: int) -> int:
    """The seed of a lane, which does not depend on the number of lanes.

    Args:
        token: the token of a simulation.
        lane: the index of the lane.
        seeding: the number of earlier seeds of the lane.

    Returns:
        An integer in [0, 2³¹).
    """
    sequence = np.random.SeedSequence(token[:_WORDS].tolist(), spawn_key=(lane, seeding))
    return int(sequence.generate_state(1)[0] >> 1)


def _shapes(spec: types.Spec, num_environments: int, max_episode_steps: int) -> tuple[Simulation, Any]:
    """The shapes and dtypes of the simulation and of the outcomes."""
    lanes, shaped = (num_environments,), jax.ShapeDtypeStruct
    action_shape = () if spec.discrete else (spec.action_dim,)
    numbers = (
        jnp.uint8 if spec.num_actions <= 256 else jnp.int32
    )  # the log dominates the size of a simulation
    simulation = Simulation(
        token=shaped((2 * _WORDS,), jnp.uint32),
        seedings=shaped(lanes, jnp.int32),
        ages=shaped(lanes, jnp.int32),
        actions=shaped(
            (*lanes, 2 * max_episode_steps, *action_shape), numbers if spec.discrete else jnp.float32
        ),
    )
    observations = shaped((*lanes, *spec.observation_shape), spec.observation_dtype)
    rewards, flags = shaped(lanes, jnp.float32), shaped(lanes, jnp.bool_)
    return simulation, types.Outcomes(observations, rewards, flags, flags)  # type: ignore[arg-type]


def _inexact_resume(name: str, one: Any, other: Any, facts: interface.Interface) -> str:
    """The reason why a resumed run would not be exact; empty if two simulators agree in their first steps.

    Args:
        name: the name, for messages.
        one: simulators of one lane, which are closed.
        other: new simulators of one lane, which are closed.
        facts: the interface of the environment.

    Raises:
        InputError: when one of the steps fails.
    """
    difference = _first_difference(name, (one, other), facts)
    one.close()
    other.close()
    if not difference:
        return ""
    return (
        f"resume is not exact: {difference} of {name} differ between two simulators with the same seed and "
        "actions, so a run that was stopped ends with other numbers than one that was not"
    )


def _first_difference(name: str, pair: tuple[Any, Any], facts: interface.Interface) -> str:
    """The first difference between simulators with the same seed and actions; empty if there is none."""
    random, discrete = np.random.default_rng(0), facts.spec.discrete
    difference = ""
    with naming(name):
        seeded = [each.reset(seed=[0], options={"reset_mask": np.ones(1, bool)})[0] for each in pair]
        if not np.array_equal(*seeded):
            difference = "observations after the reset"
        for step in range(1, _COMPARED_STEPS + 1):
            low, high = facts.action_low, facts.action_high
            action = random.integers(facts.spec.num_actions) if discrete else random.uniform(low, high)
            actions = np.asarray([action], np.int32 if discrete else np.float32)
            outcomes = [each.step(actions)[:2] for each in pair]
            _check_finite(name, facts.spec, *outcomes[0])
            for kind, *values in zip(("observations", "rewards"), *outcomes, strict=True):
                if not np.array_equal(*values):
                    difference = difference or f"{kind} after step {step}"
    return difference


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Turns exceptions of a simulator into errors that name it.

    Raises:
        InputError: in place of any other exception.
    """
    try:
        yield
    except errors.InputError:
        raise
    except (Exception, SystemExit) as error:  # simulators raise many kinds of exceptions
        raise errors.InputError(
            f"{name} failed at a reset or a step ({errors.located(error)}): correct the environment"
        ) from error


def _check_finite(name: str, spec: types.Spec, observations: np.ndarray, rewards: Any = 0.0) -> None:
    """Refuses observations and rewards that are not finite."""
    seen = {"an observation": observations}
    if spec.observation_parts:
        parts = observation_parts.unpack(observations, spec.observation_parts)
        seen = {f"an observation[{part!r}]": values for part, values in parts.items()}
    for kind, values in {"a reward": rewards, **seen}.items():
        if not np.isfinite(values).all():
            value = np.asarray(values)[~np.isfinite(values)][0]
            raise errors.InputError(
                f"{name} gave {kind} that is not finite ({value}): correct the environment"
            )


def _is_other_failure(record: logging.LogRecord) -> bool:
    """Whether to log a record; tracebacks of an InputError are dropped, as `failure` reports these."""
    return not (record.exc_info and isinstance(record.exc_info[1], errors.InputError))


def _mapped(function: Callable[..., Any], axes: int) -> Callable[..., Any]:
    """A function of numpy arrays, mapped over a number of leading axes."""
    if axes == 0:
        return function
    inner = _mapped(function, axes - 1)

    def mapped(*arguments: Any) -> Any:
        rows = [inner(*row) for row in zip(*map(np.asarray, arguments), strict=True)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    return mapped


class _Host:
    """The targets of callbacks. They use only numpy, because JAX is busy while it waits for them.

    Attributes:
        failure: the error of a simulator that failed since the last reset; None where none did.
    """

    def __init__(self, name: str, new_member: Callable[[], "_Member"], result: tuple[Any, ...]):
        self.failure: Exception | None = None
        self._name = name
        self._new_member = new_member
        self._members: dict[bytes, _Member] = {}
        self._lock = threading.Lock()  # several devices may call at once
        self._ignored = tuple(np.zeros(leaf.shape, leaf.dtype) for leaf in result)

    def rebuild(self, *simulation: Any) -> np.ndarray:
        """Rebuilds a member in the state of the simulation; returns its observations [N, ...]."""
        token, *rest = map(np.asarray, simulation)
        self.failure = None
        with self._member(token) as member:
            return member.rebuild(Simulation(token, *rest))

    def step(self, token: Any, actions: Any) -> tuple[np.bool_, _Arrays]:
        """Steps the member if its state has this token; returns whether it did, and the outcomes."""
        token = np.asarray(token)
        with self._member(token) as member:
            if not np.array_equal(member.token, token):
                return np.False_, self._ignored
            return np.True_, member.step(np.asarray(actions))

    def rebuild_and_step(self, *simulation_and_actions: Any) -> _Arrays:
        """Rebuilds the member in the state of the simulation, then steps it."""
        token, *rest, actions = map(np.asarray, simulation_and_actions)
        with self._member(token) as member:
            member.rebuild(Simulation(token, *rest))
            return member.step(actions)

    @contextlib.contextmanager
    def _member(self, token: np.ndarray) -> Iterator["_Member"]:
        """Yields the member of a token. A member whose simulators fail is discarded."""
        identity = token[:_WORDS].tobytes()
        with self._lock:
            try:
                with naming(self._name):
                    member = self._members.pop(identity, None) or self._new_member()
                    yield member
            except errors.InputError as error:
                self.failure = error
                raise
            self._members[identity] = member
            if len(self._members) > _MAX_MEMBERS:
                del self._members[next(iter(self._members))]


class _Member:
    """The simulators of one member of a run, and their state: see `Simulation`."""

    def __init__(self, name: str, simulators: Any, spec: types.Spec, max_episode_steps: int):
        self._name = name
        self._simulators = simulators
        self._spec = spec
        self._action_dtype = np.int32 if spec.discrete else np.float32
        self._max_episode_steps = max_episode_steps
        self.token = np.zeros(0, np.uint32)  # equals no token

    def rebuild(self, simulation: Simulation) -> np.ndarray:
        """Seeds every lane and repeats its actions; returns observations [N, ...]."""
        self.token, self._seedings, self._ages, log = simulation
        lanes, longest = np.arange(len(log)), self._ages.max()
        observations = self._seed(self._ages >= 0)
        self._ended = self._ages < 0
        # All lanes finish at the same step: younger lanes take dummy steps first, and are then seeded again.
        for left in range(longest, 0, -1):
            actions = log[lanes, np.maximum(self._ages - left, 0)].astype(self._action_dtype)
            observations, _, terminated, truncated, _ = self._simulators.step(actions)
            begins = self._ages == left - 1
            self._ended = (terminated | truncated) & ~begins
            if begins.any():
                observations = self._seed(begins)
        _check_finite(self._name, self._spec, observations)
        return observations.astype(self._spec.observation_dtype)

    def step(self, actions: np.ndarray) -> _Arrays:
        """Steps all lanes; a lane whose episode ended starts another, from a new seed if it is old enough."""
        observations, rewards, terminated, truncated, _ = self._simulators.step(actions)
        self._ages = self._ages + 1
        due = self._ended & (self._ages > self._max_episode_steps)
        if due.any():
            self._seedings, self._ages = self._seedings + due, np.where(due, 0, self._ages)
            observations = self._seed(due)
        _check_finite(self._name, self._spec, observations, rewards)
        self._ended = terminated | truncated
        digest = hashlib.blake2b(self.token.tobytes() + actions.tobytes(), digest_size=4 * _WORDS).digest()
        self.token = np.concatenate([self.token[:_WORDS], np.frombuffer(digest, np.uint32)])
        observations, rewards = observations.astype(self._spec.observation_dtype), rewards.astype(np.float32)
        return self.token, self._seedings, self._ages, observations, rewards, terminated, truncated

    def _seed(self, chosen: np.ndarray) -> np.ndarray:
        """Starts the chosen lanes [N] from their seeds; returns the observations [N, ...] of all."""
        seeds = [lane_seed(self.token, lane, count) for lane, count in enumerate(self._seedings.tolist())]
        return self._simulators.reset(seed=seeds, options={"reset_mask": chosen})[0]
