"""Explores dm_control's domains without a task, and writes the episodes as ExoRL does, one file per episode.

Episode n is a function of the seed, of n and of the explorer's state, which is a function of the earlier
episodes. So the existing files are sufficient to continue, and the same seed gives the same arrays after any
number of interruptions.
"""

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rich.console
import rich.progress

from valuelab import domains
from valuelab.data.collection import claimed
from valuelab.data.sources import exorl
from valuelab.errors import InputError, require
from valuelab.files import local_path, replacing

Act = Callable[[np.ndarray], np.ndarray]
"""Observation [D] -> action [A] in [-1, 1]."""

PERSISTENCE = 0.9
"""ρ, the correlation of the noise in successive steps."""


class Explorer(NamedTuple):
    """How a domain is explored.

    Attributes:
        init: () -> the initial state.
        learn: (state, observations [E, T + 1, D], actions [E, T + 1, A], n) -> state; the first n episodes
            are finished, the others are zeros. Row t of the actions led to row t of the observations.
        policy: (state, generator) -> the policy for one episode.
    """

    init: Callable[[], Any]
    learn: Callable[[Any, np.ndarray, np.ndarray, int], Any]
    policy: Callable[[Any, np.random.Generator], Act]


def noise(domain: str) -> Explorer:
    """Acts by temporally correlated noise, independent of observations.

    Args:
        domain: a key of `domains.DOMAINS`.
    """

    def policy(state: None, generator: np.random.Generator) -> Act:
        values = correlated_noise(domains.DOMAINS[domain].action_dim, generator)
        return lambda observation: np.clip(next(values), -1, 1)

    return Explorer(lambda: None, lambda state, *episodes: state, policy)


def correlated_noise(size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """x_t = ρ x_{t-1} + √(1 - ρ²) ε_t with ε ~ N(0, 1), an Ornstein-Uhlenbeck process of variance 1.

    Args:
        size: A.
        generator: the generator of ε.

    Yields:
        [A], endlessly.
    """
    current = generator.normal(size=size)
    while True:
        yield current
        current = PERSISTENCE * current + np.sqrt(1 - PERSISTENCE**2) * generator.normal(size=size)


def collect(
    name: str,
    data_dir: str | os.PathLike[str],
    explorer: Explorer,
    episodes: int,
    seed: int,
    steps: int = domains.EPISODE_STEPS,
    anywhere: bool = False,
) -> Path:
    """Explores until the folder holds a number of episodes, and learns from existing episodes too.

    Args:
        name: without "exorl/", such as "walker-noise".
        data_dir: the folder that holds exorl/.
        explorer: an explorer for that domain.
        episodes: the total number of episodes at the end, at least 1.
        seed: at least 0.
        steps: T, the number of steps of an episode, in [2, 1000].
        anywhere: whether episodes start anywhere in the domain, and not only where its own episodes start.

    Returns:
        The folder of the episodes.

    Raises:
        InputError: for a number out of range, a domain that has no other starts, a folder with episodes of
            another seed or another origin, a damaged file, or a full disk.
    """
    for field, value, least in (("episodes", episodes, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{field} is {value}, but must be at least {least}: change it")
    if not 2 <= steps <= domains.EPISODE_STEPS:
        raise InputError(f"steps is {steps}, but must lie in [2, {domains.EPISODE_STEPS}]: change it")
    require("dm_control", "environments")
    domain = domains.parse(name).domain
    if anywhere and not domains.DOMAINS[domain].anywhere:
        raise InputError(
            f"episodes of {domain} start in random poses already: leave out --anywhere; --episode_steps=100 "
            "starts more often"
        )
    buffer = exorl.folder_of(name, local_path("data_dir", data_dir))
    if any(buffer.glob("*.npz")) and not (buffer.parent / "settings.json").exists():
        raise InputError(f"{buffer} holds episodes that were not collected here: give another --data_dir")
    versions = {package: importlib.metadata.version(package) for package in ("dm_control", "mujoco")}
    try:
        settings: dict[str, Any] = {"dataset": f"exorl/{name}", "seed": seed} | versions
        if steps != domains.EPISODE_STEPS:
            settings["episode_steps"] = steps
        if anywhere:
            settings["anywhere"] = True
        with claimed(buffer.parent, settings):
            buffer.mkdir(exist_ok=True)
            _explore(domain, buffer, explorer, episodes, seed, steps, anywhere)
    except OSError as error:
        raise InputError(
            f"cannot write to {buffer}: {error}; finished episodes are kept: free some disk and run the same "
            "command again"
        ) from error
    return buffer


def _explore(
    domain: str, buffer: Path, explorer: Explorer, episodes: int, seed: int, steps: int, anywhere: bool
) -> None:
    """Plays the missing episodes; the explorer learns from each before the next."""
    files = [buffer / f"episode_{n:06d}_{steps}.npz" for n in range(episodes)]
    if all(file.exists() for file in files):
        return
    simulator = domains.Simulator(domain)
    facts = simulator.domain
    observations = np.zeros((episodes, steps + 1, facts.observation_dim), np.float32)
    actions = np.zeros((episodes, steps + 1, facts.action_dim), np.float32)
    state = explorer.init()
    progress = rich.progress.track(files, "episodes", console=rich.console.Console(stderr=True))
    for number, file in enumerate(progress):
        if number:
            state = explorer.learn(state, observations, actions, number)
        if not file.exists():
            behaviour, start = np.random.SeedSequence(seed, spawn_key=(number,)).spawn(2)
            act = explorer.policy(state, np.random.default_rng(behaviour))
            arrays = play(simulator, act, int(start.generate_state(1)[0]), steps, anywhere)
            with replacing(file, buffer.parent) as output:
                np.savez_compressed(output, allow_pickle=False, **arrays)
        episode = exorl.read_episode(file, domain)
        observations[number], actions[number] = episode["observations"], episode["actions"]


def play(
    simulator: domains.Simulator,
    act: Act,
    seed: int,
    steps: int = domains.EPISODE_STEPS,
    anywhere: bool = False,
) -> dict[str, np.ndarray]:
    """Plays an episode of T steps.

    Args:
        simulator: the simulator; may have played other episodes.
        act: the policy.
        seed: seed of the initial state.
        steps: T.
        anywhere: as in `Simulator.reset`.

    Returns:
        ExoRL's keys: "observation" [T + 1, D], "action" [T + 1, A], "reward" [T + 1, 1] of the domain's first
        task, "discount" [T + 1, 1], all in float32, and "physics" [T + 1, P] in float64. The first action is
        a dummy.

    Raises:
        InputError: for an action that is not finite or has another size.
    """
    task = next(iter(simulator.domain.tasks))
    observation = simulator.reset(seed, anywhere)
    action, reward = np.zeros(simulator.domain.action_dim, np.float32), 0.0
    rows: list[tuple[Any, ...]] = [(observation, action, (reward,), simulator.state())]
    for step in range(steps):
        action = np.asarray(act(observation), np.float32)
        if action.shape != rows[0][1].shape or not np.isfinite(action).all():
            raise InputError(
                f"the explorer's action is {action.tolist()} at step {step} of the episode of seed "
                f"{seed}, but must be {rows[0][1].size} finite numbers: correct its policy"
            )
        observation, _ = simulator.step(action)
        rows.append((observation, action, (simulator.reward(task),), simulator.state()))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    rewards = columns[2].astype(np.float32)
    return {
        "observation": columns[0],
        "action": columns[1],
        "reward": rewards,
        "discount": np.ones_like(rewards),
        "physics": columns[3],
    }
