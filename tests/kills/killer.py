"""Kills programs at random moments, starts them again, and compares what they leave with an undisturbed run.

Programs and fractions of their durations depend on the seed and the number of a case alone; what a program is
doing just then depends on the machine, too. All runs of a program have one folder, so that its path is no
difference.
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

SAME, EARLY, DIFFERS, HANGS, FAILS = "same bits", "not killed", "differs", "no end", "status"
"""What can come of a case: it left the same to the bit; it ended before its kill came; it left something
else; it did not end; a start ended with an exit status that is not 0."""
WRONG = (DIFFERS, HANGS, FAILS)
AGAIN = 0.4
"""Chance that a program is killed once more after it was started again."""
PATIENCE = 300.0
"""Seconds beside ten times the duration, from which on a program does not end."""
SHOWN = 6
"""Names of what differs, at most."""
TIMED = ("timings.jsonl", "log.txt")
"""Files that tell of starts."""
TIMES = ("throughput", "seconds")
"""Parts of results that depend on the machine."""

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
    """What came of a program.

    Attributes:
        number: of the case.
        program: its name.
        kills: the seconds after a start at which it was killed.
        outcome: see above.
        words: what differs, or the last line of what a start said.
    """

    number: int
    program: str
    kills: tuple[float, ...]
    outcome: str
    words: str = ""


class Whole(NamedTuple):
    """An undisturbed run.

    Attributes:
        left: what it left, of `left`.
        seconds: that it took; less where another took less, for the first one compiles.
    """

    left: dict[str, bytes]
    seconds: float


def programs(folder: pathlib.Path) -> dict[str, list[str]]:
    """What stands behind `python -m`, by name; each reads what `_write_inputs` wrote and fills folder/run."""
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
                    "agent.critic.representation.dim",
                    "agent.critic.representation.hidden_dims",
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
    """Kills programs until there were so many kills, and compares.

    Args:
        folder: an empty one.
        seed: of programs and moments.
        kills: how many.
        names: of the programs; all by default.

    Yields:
        What came of each case.

    Raises:
        RuntimeError: when an undisturbed run fails.
    """
    _write_inputs(folder)
    commands, whole, done = programs(folder), dict[str, Whole](), 0
    for number in itertools.count():
        if done >= kills:
            return
        random = np.random.default_rng((seed, number))
        name = str(random.choice(list(names or commands)))
        if name not in whole:
            whole[name] = _undisturbed(commands[name], folder / "run")
        case, seconds = _case(number, name, commands[name], folder / "run", whole[name], random)
        whole[name] = whole[name]._replace(seconds=min(whole[name].seconds, seconds))
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


def _undisturbed(command: list[str], run: pathlib.Path) -> Whole:
    """Runs a program without a kill, and clears its folder."""
    started = time.monotonic()
    with _started(command) as program:
        told = program.communicate()[1]
    if program.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {program.returncode}: {told}")
    seconds = time.monotonic() - started
    found = left(run)
    shutil.rmtree(run)
    return Whole(found, seconds)


def _case(
    number: int,
    name: str,
    command: list[str],
    run: pathlib.Path,
    whole: Whole,
    random: np.random.Generator,
) -> tuple[Case, float]:
    """What comes of a program that is killed; the seconds that it took where it ended before its kill."""
    kills: list[float] = []
    is_over = False
    outcome, words, seconds = SAME, "", np.inf
    while not is_over:
        again = not kills or random.random() < AGAIN
        limit = random.uniform(0, whole.seconds) if again else 10 * whole.seconds + PATIENCE
        started = time.monotonic()
        with _started(command) as program:
            try:
                told = program.communicate(timeout=limit)[1]
            except subprocess.TimeoutExpired:
                all_end = _kill(program, with_children=random.random() < 0.5)
                kills += [limit] if again else []
                outcome, is_over = (SAME, False) if again and all_end else (HANGS, True)
                continue
        is_over, seconds = True, time.monotonic() - started
        if program.returncode:
            outcome, words = f"{FAILS} {program.returncode}", (told.strip().splitlines() or [""])[-1]
    if outcome == SAME:
        found = left(run)
        differing = [key for key in sorted(found | whole.left) if found.get(key) != whole.left.get(key)]
        more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        words = ", ".join(differing[:SHOWN]) + more
        outcome = DIFFERS if differing else SAME if kills else EARLY
    shutil.rmtree(run, ignore_errors=True)
    return Case(number, name, tuple(kills), outcome, words), np.inf if kills else seconds


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that runs; it is killed where the block fails."""
    program = helpers.start(command[1:], ("-m", command[0]), start_new_session=True)
    try:
        yield program
    finally:
        if program.poll() is None:
            _kill(program, with_children=True)


def _kill(program: subprocess.Popen[str], with_children: bool) -> bool:
    """Kills a program, with or without the processes that it has started; returns whether these end, too."""
    children = _children(program.pid) if with_children else []
    program.kill()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    try:
        program.communicate(timeout=PATIENCE)  # the pipes close when the last one ends
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        return False
    return True


def _children(process: int) -> list[int]:
    """The processes that one has started, and those that these have, as Linux lists them."""
    found = []
    for file in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or the process has ended
            for child in map(int, file.read_text().split()):
                found += [child, *_children(child)]
    return found


# What is left.


def left(run: pathlib.Path) -> dict[str, bytes]:
    """What a program leaves that no kill may change: files, and of some their parts, by name.

    Of checkpoints it is the newest state, of results and logs all but times, of pictures, which show speeds,
    the last bytes.
    """
    found: dict[str, bytes] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if "checkpoints" in pathlib.Path(name).parts[:-1] or path.name in TIMED:
            continue
        if path.name == "checkpoints":
            newest = max(int(step.name) for step in path.iterdir() if step.name.isdigit())
            state = jax.tree_util.tree_leaves_with_path(helpers.saved_state(path.parent, newest))
            for key, leaf in state:
                (words,) = helpers.leaves(leaf)
                found[f"{name}/{newest}{jax.tree_util.keystr(key)}"] = _bits(words)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found |= {f"{name}/{key}": _bits(arrays[key]) for key in arrays}
        elif path.name == "metrics.jsonl":
            rows = helpers.without_speed([json.loads(line) for line in path.read_text().splitlines()])
            found |= {f"{name}/{number}": json.dumps(row).encode() for number, row in enumerate(rows)}
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            found |= {f"{name}/{key}": json.dumps(result[key]).encode() for key in result.keys() - set(TIMES)}
        elif path.is_file():
            found[name] = path.read_bytes()[-8 if path.suffix == ".png" else 0 :]
        else:
            found[name] = b""
    return found


def _bits(array: np.ndarray) -> bytes:
    """Dtype, shape and bytes of an array."""
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()
