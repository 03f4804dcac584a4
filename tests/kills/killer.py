"""Kills programs at random moments, starts them again, and compares their files with an undisturbed run.

The seed and the number of a case determine the program and the moments of its kills, as fractions of its
duration. What a program does at such a moment also depends on the machine. All runs of a program use the same
folder, so that its path makes no difference.
"""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tests import helpers
from valuelab import files

SAME, EARLY, DIFFERS, HANGS, FAILS = "same bits", "not killed", "differs", "no end", "status"
"""The possible outcomes of a case: the files have the same bits; the program ended before its kill; the files
differ; the program did not end; the program ended with an exit status other than 0."""
WRONG = (DIFFERS, HANGS, FAILS)
AGAIN = 0.4
"""The probability that a program is killed again after each restart."""
PATIENCE = 300.0
"""A program counts as hanging after ten times its usual duration plus this number of seconds."""
SHOWN = 6
"""The largest number of differing names in a line."""
TIMED = ("timings.jsonl", "log.txt")
"""Files with a line for each start of a program, which no two runs share."""
TIMES = ("throughput", "seconds")
"""Entries of result.json that depend on the machine."""

SMALL = {
    "mesh": "1,1",
    "batch_size": 8,
    "steps": 24,
    "log_every": 4,
    "checkpoint_every": 3,
    "eval_every": 8,
    "eval_episodes": 2,
    "eval_max_steps": 20,
}
ACTING = {
    "interaction.num_environments": 2,
    "interaction.capacity": 60,
    "interaction.warmup_steps": 8,
    "interaction.update_to_data": 1,
}
ETA_NETWORK = {"agent.hidden_dims": 4, "agent.num_atoms": 4, "agent.stock_points": 3, "agent.commands": 0.25}
IQL = {"agent": "iql", "agent.hidden_dims": 4, "dataset": helpers.MAZE}
SUITE = """from valuelab.benchmark import Job, Suite

SETTINGS = {settings}
NAMES = ("one", "other")
JOBS = tuple(Job(name, {agent!r}, {dataset!r}, settings=SETTINGS) for name in NAMES)
SUITE = Suite(JOBS, program="experiments.train")
"""


class Case(NamedTuple):
    """The outcome of a case.

    Attributes:
        number: the number of the case.
        program: the name of the program.
        kills: the seconds after each start at which it was killed.
        outcome: see above.
        details: the names of what differs, or the last line that a failed start printed.
    """

    number: int
    program: str
    kills: tuple[float, ...]
    outcome: str
    details: str = ""


class Undisturbed(NamedTuple):
    """A run without kills.

    Attributes:
        contents: see `contents`.
        seconds: the shortest duration of a run without kills; the first one also compiles.
    """

    contents: dict[str, bytes]
    seconds: float


def programs(folder: pathlib.Path) -> dict[str, list[str]]:
    """The arguments of `python -m` by program; all read the files of `_write_inputs` and fill folder/run."""
    data_dir, run = {"data_dir": folder / "data"}, {"workdir": folder / "run"}

    def of(module: str, *settings: dict[str, Any]) -> list[str]:
        given = {name: value for each in settings for name, value in each.items()}
        return [f"experiments.{module}", *(f"--{name}={value}" for name, value in given.items())]

    return {
        "solve": of(
            "solve", {"mdp": folder / "mdp.npz", "discount": 1, "horizon": 2, "objective": "expectation"}, run
        ),
        "collect": of(
            "collect",
            {"dataset": "ogbench/pointmaze-medium-stitch-v0", "episodes": 6, "val_episodes": 2},
            {"processes": 2, "data_dir": folder / "run"},
        ),
        "explore": of(
            "collect", {"dataset": "exorl/point_mass_maze-rnd", "episodes": 3, "data_dir": folder / "run"}
        ),
        "offline": of("train", SMALL, IQL, data_dir, run),
        "cartpole": of(
            "train",
            SMALL,
            ACTING,
            {"agent": "eta_network:cartpole"},
            ETA_NETWORK,
            {"environment": "gymnasium/CartPole-v1"},
            run,
        ),
        "gridworld": of(
            "train",
            SMALL,
            ACTING,
            {"agent": "eta_network"},
            ETA_NETWORK,
            {"environment": "gridworld/target"},
            run,
        ),
        "online": of("train", SMALL, ACTING, {"offline_steps": 12, "online_steps": 12}, IQL, data_dir, run),
        "zero_shot": of(
            "zero_shot",
            SMALL,
            {"agent": "hilp", "dataset": helpers.MAZE_GOALS, "labels": 20},
            {"reward": f"{folder / 'rewards.py'}:east"},
            dict.fromkeys(
                (
                    "agent.critic.predictor_dims",
                    "agent.critic.feature_learner.dim",
                    "agent.critic.feature_learner.hidden_dims",
                    "agent.critic.state_dims",
                    "agent.policy.hidden_dims",
                ),
                4,
            ),
            data_dir,
            run,
        ),
        "benchmark": of("benchmark", {"suite": folder / "suite.py", "jobs": 1}, data_dir, run),
    }


def kill(folder: pathlib.Path, seed: int, kills: int, names: Sequence[str] = ()) -> Iterator[Case]:
    """Kills programs a number of times in total, and compares their files.

    Args:
        folder: an empty folder.
        seed: random seed of programs and moments.
        kills: the number of kills.
        names: the names of the programs; all by default.

    Yields:
        The outcome of each case.

    Raises:
        RuntimeError: when an undisturbed run fails.
    """
    _write_inputs(folder)
    commands, undisturbed, done = programs(folder), dict[str, Undisturbed](), 0
    for number in itertools.count():
        if done >= kills:
            return
        random = np.random.default_rng((seed, number))
        name = str(random.choice(list(names or commands)))
        if name not in undisturbed:
            undisturbed[name] = _run_undisturbed(commands[name], folder / "run")
        expected = undisturbed[name]
        case, seconds = _run_case(number, name, commands[name], folder / "run", expected, random)
        undisturbed[name] = expected._replace(seconds=min(expected.seconds, seconds))
        done += len(case.kills)
        yield case


def _write_inputs(folder: pathlib.Path) -> None:
    """Writes the data of a maze, a reward, an MDP of one choice, and a suite of two jobs."""
    helpers.write_maze_data(folder / "data")
    (folder / "rewards.py").write_text("def east(states):\n    return states['observations'][:, 0] / 20\n")
    transitions, rewards = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    transitions[..., 1], rewards[0, :, 1] = 1, (1, 2)
    np.savez(folder / "mdp.npz", transitions=transitions, rewards=rewards, terminal=np.array([False, True]))
    settings = SMALL | {"agent.hidden_dims": 4}
    suite = SUITE.format(settings=settings, agent=helpers.CLONING, dataset=helpers.MAZE)
    (folder / "suite.py").write_text(suite)


def _run_undisturbed(command: list[str], run: pathlib.Path) -> Undisturbed:
    """Runs a program without a kill, and removes its folder."""
    start = time.monotonic()
    with _started(command) as program:
        errors = program.communicate()[1]
    if program.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {program.returncode}: {errors}")
    seconds = time.monotonic() - start
    expected = contents(run)
    shutil.rmtree(run)
    return Undisturbed(expected, seconds)


def _run_case(
    number: int,
    name: str,
    command: list[str],
    run: pathlib.Path,
    undisturbed: Undisturbed,
    random: np.random.Generator,
) -> tuple[Case, float]:
    """Kills and restarts a program; returns the case, and the duration if it ended before its kill."""
    kills: list[float] = []
    has_ended = False
    outcome, details, seconds = SAME, "", np.inf
    while not has_ended:
        kill_again = not kills or random.random() < AGAIN
        limit = random.uniform(0, undisturbed.seconds) if kill_again else 10 * undisturbed.seconds + PATIENCE
        start = time.monotonic()
        with _started(command) as program:
            try:
                errors = program.communicate(timeout=limit)[1]
            except subprocess.TimeoutExpired:
                all_end = _kill(program, with_children=random.random() < 0.5)
                kills += [limit] if kill_again else []
                outcome, has_ended = (SAME, False) if kill_again and all_end else (HANGS, True)
                continue
        has_ended, seconds = True, time.monotonic() - start
        if program.returncode:
            outcome, details = f"{FAILS} {program.returncode}", (errors.strip().splitlines() or [""])[-1]
    if outcome == SAME:
        expected, actual = undisturbed.contents, contents(run)
        differing = [key for key in sorted(actual | expected) if actual.get(key) != expected.get(key)]
        more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        details = ", ".join(differing[:SHOWN]) + more
        outcome = DIFFERS if differing else SAME if kills else EARLY
    shutil.rmtree(run, ignore_errors=True)
    return Case(number, name, tuple(kills), outcome, details), np.inf if kills else seconds


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Starts a program; kills it if the block fails."""
    program = helpers.start(command[1:], ("-m", command[0]), start_new_session=True)
    try:
        yield program
    finally:
        if program.poll() is None:
            _kill(program, with_children=True)


def _kill(program: subprocess.Popen[str], with_children: bool) -> bool:
    """Kills a program, with or without its child processes; returns whether all of them end."""
    children = _children(program.pid) if with_children else []
    program.kill()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    try:
        program.communicate(timeout=PATIENCE)  # the pipes close when the last process ends
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        return False
    return True


def _children(process: int) -> list[int]:
    """The child processes of a process and their children, from Linux's /proc."""
    children = []
    for file in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or the process has ended
            for child in map(int, file.read_text().split()):
                children += [child, *_children(child)]
    return children


def contents(run: pathlib.Path) -> dict[str, bytes]:
    """The contents of a program's folder that no kill may change, by name: files, or their parts.

    They are the newest state of checkpoints, results and logs without times, and the last bytes of pictures,
    which show speeds. Temporary files count: a program that ends must have removed those of killed starts. A
    `files.LOCK` does not count: a killed program leaves it, the kernel has released the lock, and a benchmark
    does not start a finished job again only to remove the file.
    """
    parts: dict[str, bytes] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if "checkpoints" in pathlib.Path(name).parts[:-1] or path.name in (*TIMED, files.LOCK):
            continue
        if path.name == "checkpoints":
            newest = max(int(step.name) for step in path.iterdir() if step.name.isdigit())
            state = jax.tree_util.tree_leaves_with_path(helpers.saved_state(path.parent, newest))
            for key, leaf in state:
                (array,) = helpers.leaves(leaf)
                parts[f"{name}/{newest}{jax.tree_util.keystr(key)}"] = _bits(array)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                parts |= {f"{name}/{key}": _bits(arrays[key]) for key in arrays}
        elif path.name == "metrics.jsonl":
            rows = helpers.without_speed([json.loads(line) for line in path.read_text().splitlines()])
            parts |= {f"{name}/{number}": json.dumps(row).encode() for number, row in enumerate(rows)}
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            parts |= {f"{name}/{key}": json.dumps(result[key]).encode() for key in result.keys() - set(TIMES)}
        elif path.is_file():
            parts[name] = path.read_bytes()[-8 if path.suffix == ".png" else 0 :]
        else:
            parts[name] = b""
    return parts


def _bits(array: np.ndarray) -> bytes:
    """The dtype, shape and bytes of an array."""
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()
