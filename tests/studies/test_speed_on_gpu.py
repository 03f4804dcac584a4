"""The measurement of a GPU, tried out on a CPU: its pieces, its file, and kernels in a profile."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from helpers import ROOT

from experiments.studies.speed import gpu
from experiments.studies.speed.gpu import GPUSpeedConfig, Report
from valuelab.errors import InputError
from valuelab.runs import flags


def test_every_agent_is_a_piece_and_the_most_informative_come_first():
    pieces = gpu.pieces(GPUSpeedConfig())
    programs = [piece for piece in pieces if not piece.graphs]
    assert {piece.agent.partition(":")[0] for piece in programs} == set(flags.known_agents())
    assert len({piece.name for piece in pieces}) == len(pieces)
    assert [piece.agent for piece in pieces[:4]] == list(gpu.FIRST)
    assert [piece.traced for piece in pieces] == [piece in programs[:8] for piece in pieces]


def profile(*planes):
    """A profile of (plane, {line: events}); an event is a tuple of its name and statistics."""

    def event(name, *stats):
        return SimpleNamespace(name=name, duration_ns=2000.0, stats=stats)

    return SimpleNamespace(
        planes=[
            SimpleNamespace(
                name=plane,
                lines=[
                    SimpleNamespace(name=line, events=[event(*each) for each in events])
                    for line, events in lines.items()
                ],
            )
            for plane, lines in planes
        ]
    )


def test_kernels_and_copies_of_all_streams_are_counted():
    host = ("/host:CPU", {"python": [("PjitFunction",)]})
    device = {
        "Stream #13(Kernel)": [("add_fusion",), ("gemm",)] * 5 + [("MemcpyD2H",)] * 10,
        "Stream #14(Kernel)": [("add_fusion",)] * 5,
        "XLA Ops": [("add_fusion",)] * 10,
    }
    counted = gpu.count(profile(host, ("/device:GPU:0", device)), updates=5)
    assert (counted["kernels"], counted["copies"]) == (3, 2)
    assert counted["device_seconds"] == pytest.approx(5 * 2e-6)
    assert counted["longest"] == pytest.approx({"add_fusion": 4e-6, "MemcpyD2H": 4e-6, "gemm": 2e-6})


def test_on_a_cpu_operations_of_the_program_are_counted():
    host = ("/host:CPU", {"worker": [("dot", ("hlo_op", "dot.1")), ("ThreadpoolListener",)]})
    assert gpu.count(profile(host), updates=1)["kernels"] == 1


FACTS = {"device": "1 x cpu"}


def test_a_piece_during_which_processes_died_is_tried_alone_and_then_given_up(tmp_path, monkeypatch):
    file, config = (
        tmp_path / "gpu.json",
        GPUSpeedConfig(agents=("iql,fql",), num_seeds=(1,), compile_jobs=8),
    )
    groups = []

    class ProcessDiedError(BaseException):
        """Takes the place of a crash of XLA."""

    def compile_program(config, piece):
        groups[-1].append(piece.name)

    def measure(config, piece, loop):
        if piece.agent == "fql" and not piece.graphs:
            raise ProcessDiedError
        if piece.graphs:
            raise ValueError("two\nlines")
        return {"updates_per_second": 1.0}

    monkeypatch.setattr(gpu, "compile_program", compile_program)
    monkeypatch.setattr(gpu, "measure", measure)
    for _ in range(2):
        groups.append([])
        with pytest.raises(ProcessDiedError):
            gpu.measure_programs(config, Report(file, FACTS), until=float("inf"))
    groups.append([])
    report = Report(file, FACTS)
    gpu.measure_programs(config, report, until=float("inf"))
    assert len(groups[0]) == 8
    assert groups[1] == ["fql, 1 seed(s)"]
    assert report.pieces["iql, 1 seed(s)"] == {"updates_per_second": 1.0}
    assert "2 processes" in report.pieces["fql, 1 seed(s)"]["error"]
    assert report.pieces["iql, 1 seed(s), no graphs"] == {"error": "ValueError: two lines"}
    assert all(report.is_done(piece.name) for piece in gpu.pieces(config))
    with pytest.raises(InputError, match=r"gpu\.json holds measurements of 1 x cpu, but this is 1 x H200"):
        Report(file, {"device": "1 x H200"})


@pytest.mark.slow
def test_the_script_measures_small_agents_and_continues(tmp_path, data_dir):
    def run(agents, data_dir):
        environment = os.environ | {"OUT": str(tmp_path), "WORKDIR": str(tmp_path / "runs"), "LIMIT": "60"}
        environment |= {"CARRIED": str(tmp_path / "nothing"), "XLA_FLAGS": ""}
        small = ["--num_seeds=1", "--timing_seconds=0.01", "--timings=1", f"--data_dir={data_dir}"]
        script = [str(ROOT / "benchmarks/gpu.sh"), f"--agents={agents}", *small]
        done = subprocess.run(script, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "gpu.json").read_text())["pieces"]

    first = run("bc:pointmaze", data_dir)
    assert first["bc:pointmaze, 1 seed(s)"]["updates_per_second"] > 0
    assert first["run of iql:pointmaze on pointmaze-medium-navigate"]["status"] in ("done", "stopped")
    pieces = run("bc:pointmaze,iql:pointmaze", tmp_path)
    assert pieces["bc:pointmaze, 1 seed(s)"] == first["bc:pointmaze, 1 seed(s)"]
    assert pieces["iql:pointmaze, 1 seed(s)"]["kernels"] > 10
    assert pieces["iql:pointmaze, 1 seed(s)"]["counted"] > 10
