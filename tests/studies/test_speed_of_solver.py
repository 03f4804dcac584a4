"""The measurement of the solver's speed: bytes of a sweep, turns of timing, and the whole at a small size."""

import json

import pytest
from absl import flags as absl_flags

from experiments.studies.speed import solver
from experiments.studies.speed.solver import Loop, SolverSpeedConfig
from valuelab.errors import InputError


def test_bytes_of_a_sweep():
    size = SolverSpeedConfig(states=2, actions=3, outcomes=5, stocks=7, atoms=11)
    assert size.cells == 2 * 3 * 7 * 11
    distributions = 2 * 7 * 11
    # Two stocks of each of five outcomes are read, and one distribution is written; float32 has four bytes.
    assert size.bytes_moved(by_distributions=False) == 4 * distributions * (2 * 5 + 1)
    # The three actions read as many each to be compared.
    assert size.bytes_moved(by_distributions=True) == 4 * distributions * (2 * 5 * (1 + 3) + 1)


def test_loops_are_timed_in_turn(monkeypatch):
    clock, calls = [0.0], []

    def program(name, seconds):
        def run(count):
            calls.append((name, count))
            clock[0] += 1 + seconds * count  # a second to start

        return run

    monkeypatch.setattr(solver.time, "perf_counter", lambda: clock[0])
    loops = {"slow": Loop(program("slow", 3.0), 1, 5), "fast": Loop(program("fast", 0.5), 2, 4)}
    assert solver.seconds_per_iteration(loops, rounds=2) == {"slow": 3.0, "fast": 0.5}
    one_round = [("slow", 1), ("slow", 5), ("fast", 2), ("fast", 4)]
    assert calls == [("slow", 1), ("fast", 2), *one_round, *one_round]


def test_sizes_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="atoms is 1"):
        SolverSpeedConfig(atoms=1)


@pytest.mark.slow
def test_a_small_problem_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(solver, "LARGE_ARRAY", 1 << 10)
    out = tmp_path / "speed.json"
    sizes = ["--states=4", "--actions=2", "--stocks=5", "--atoms=11"]
    solver.main(solver.parse(["solver", *sizes, "--discount=0.5", f"--out={out}"], absl_flags.FlagValues()))
    report = json.loads(out.read_text())
    assert report["shape"] == {"states": 4, "actions": 2, "outcomes": 2, "stocks": 5, "atoms": 11}
    assert report["by numbers"].keys() == report["by distributions"].keys()
    convergence = report["convergence"]
    assert convergence["sweeps"]["values first"] > 1
    assert convergence["times_as_fast"]["least"] <= convergence["times_as_fast"]["median"]
    # No projection widens simulated returns.
    assert (
        convergence["standard_deviation"]["values first"] < convergence["standard_deviation"]["every sweep"]
    )
