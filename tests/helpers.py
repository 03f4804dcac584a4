"""Shared by tests: a small agent, small data, and functions that run programs and compare their results."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
from absl import flags as absl_flags

from valuelab.data import sampling, storage
from valuelab.networks import learning
from valuelab.runs import flags
from valuelab.runs import train as launcher
from valuelab.types import Agent, Dataset, Sampler

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUITES = ROOT / "experiments" / "suites"
CLONING = "experiments/examples/behaviour_cloning.py"
MAZE = "ogbench/pointmaze-medium-navigate-singletask-v0"
MAZE_GOALS = "ogbench/pointmaze-medium-navigate-v0"
"""The same data without rewards; reading it does not import ogbench, which is slow to import."""
EPISODES, LENGTH = 5, 9


def linear_agent(learning_rate: Any = 0.1) -> Agent:
    """Fits rewards plus noise linearly in the observations; compiles fast, and its state has every part."""
    optimizer = optax.adam(learning_rate)

    def init(key, example):
        init_key, update_key = jax.random.split(key)
        params = {"w": jax.random.normal(init_key, example.observations.shape[1:])}
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state, batch):
        noise = jax.random.normal(jax.random.fold_in(state.key, state.step), batch.rewards.shape)

        def loss(params):
            errors = batch.observations @ params["w"] - batch.rewards - noise
            return jnp.mean(jnp.square(errors)), {"noise": jnp.mean(noise)}

        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        targets = optax.incremental_update(params, state.target_params, 0.1)
        return state._replace(
            params=params, target_params=targets, opt_state=opt_state, step=state.step + 1
        ), metrics

    return Agent(init, update, act=lambda state, observations, key, temperature: observations)


def make_dataset(compact: bool = False, goal_conditioned: bool = False) -> Dataset:
    """Forty random transitions in five episodes."""
    random = np.random.default_rng(0)
    rows = EPISODES * LENGTH
    terminals = np.arange(rows) % LENGTH == LENGTH - 1
    dataset = Dataset(
        name="made up",
        observations=random.normal(size=(rows, 3)).astype(np.float32),
        actions=random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        rewards=random.normal(size=rows).astype(np.float32),
        masks=(random.random(rows) > 0.2).astype(np.float32),
        terminals=terminals,
        valid=~terminals,
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
        goal_conditioned=goal_conditioned,
    )
    return dataset if compact else storage.full(dataset)


def make_sampler(batch_size: int = 8) -> Sampler:
    """Batches of `make_dataset`."""
    return sampling.transitions(make_dataset(), batch_size)


def write_maze_data(data_dir: pathlib.Path, **changes: np.ndarray) -> pathlib.Path:
    """Writes random walks as OGBench publishes pointmaze-medium-navigate; `changes` replace its arrays."""
    random = np.random.default_rng(0)
    rows = EPISODES * LENGTH
    places = random.uniform(0, 20, (rows, 2)).astype(np.float32)
    arrays = {
        "observations": places,
        "actions": random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "terminals": np.arange(rows) % LENGTH == LENGTH - 1,
        "qpos": places,
        "qvel": np.zeros_like(places),
    }
    path = data_dir / "ogbench" / "pointmaze-medium-navigate-v0.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(arrays | changes))
    return path


def command(data_dir: pathlib.Path, workdir: pathlib.Path, /, **settings: Any) -> list[str]:
    """The flags of a small run; `settings` override them, with dots in names written as two underscores."""
    given = {
        "agent": CLONING,
        "agent.hidden_dims": 8,
        "dataset": MAZE,
        "data_dir": data_dir,
        "workdir": workdir,
        "mesh": "1,1",
        "batch_size": 8,
        "steps": 20,
        "log_every": 5,
        "checkpoint_every": 5,
        "eval_episodes": 0,
    }
    given |= {name.replace("__", "."): value for name, value in settings.items()}
    return [f"--{name}={value}" for name, value in given.items()]


def launch(arguments: list[str]) -> None:
    """Runs `experiments.train` with these flags in this process."""
    launcher.main(flags.parse_run(["train", *arguments], absl_flags.FlagValues()))


def start(arguments: list[str], program: tuple[str, ...] = ("-m", "experiments.train"), **options: Any):
    """Starts `python -m experiments.train` with these flags."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def leaves(tree: Any) -> list[np.ndarray]:
    """The leaves of a tree as numpy arrays; of keys, their data."""

    def to_array(leaf: Any) -> np.ndarray:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [to_array(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(one: Any, other: Any) -> None:
    """Asserts that two trees have the same leaves bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for ours, theirs in zip(leaves(one), leaves(other), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


def assert_close(one: Any, other: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Asserts that two trees have the same leaves up to rounding, such as another order of sums."""
    for ours, theirs in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol, atol)


def without_speed(rows: list[dict]) -> list[dict]:
    """Rows of the log without the speed, which depends on the machine."""
    return [{name: value for name, value in row.items() if name != "updates_per_second"} for row in rows]


def left_behind(workdir: pathlib.Path) -> dict[str, Any]:
    """The rows and episodes of a run, which must not depend on how often it was stopped."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    left = {"rows": without_speed([json.loads(line) for line in lines])}
    if (workdir / "episodes.npz").exists():
        with np.load(workdir / "episodes.npz", allow_pickle=False) as table:
            left["episodes"] = {name: table[name].tolist() for name in table}
    return left


def saved_state(workdir: pathlib.Path, step: int) -> Any:
    """The state in a checkpoint, read without knowledge of its structure or devices."""
    folder = workdir.absolute() / "checkpoints" / str(step) / "state"
    anywhere = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with orbax.checkpoint.Checkpointer(orbax.checkpoint.StandardCheckpointHandler()) as reader:
        return reader.restore(folder, args=orbax.checkpoint.args.StandardRestore(fallback_sharding=anywhere))


class Field:
    """A plane with gymnasium's interface: five steps, each with the first coordinate as its reward."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed, options):
        self.place, self.time = np.random.default_rng(seed).uniform(-1, 1, 2), 0
        return self.place, {}

    def step(self, action):
        self.place, self.time = self.place + action, self.time + 1
        return self.place, self.place[0], False, self.time == 5, {}

    def close(self):
        pass
