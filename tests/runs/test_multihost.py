"""Two processes with four devices each give the result of one process with eight devices."""

import os
import signal
import socket
import time

import pytest
from helpers import (
    MAZE_GOALS,
    ROOT,
    assert_close,
    command,
    launch,
    left_behind,
    saved_state,
    start,
)


def run_on_hosts(arguments, during=lambda hosts: None):
    """Runs a command on two hosts, both this machine; returns their exit statuses and messages."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    shared = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4"),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
    }
    hosts = [
        start([*arguments, "--distributed"], env=shared | {"JAX_PROCESS_ID": str(index)}) for index in (0, 1)
    ]
    try:
        during(hosts)
        messages = [host.communicate(timeout=120)[1] for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    return [host.returncode for host in hosts], messages


def assert_same_result(one, other, steps):
    """Asserts equal states and logs up to rounding, and that each row of the log occurs once."""
    assert_close(saved_state(one, steps), saved_state(other, steps))
    ours, theirs = left_behind(one)["rows"], left_behind(other)["rows"]
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_two_hosts_give_the_result_of_one(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = {"dataset": MAZE_GOALS, "num_seeds": 2, "mesh": "2,4"}
    launch(command(data_dir, tmp_path / "one", **settings))
    status, messages = run_on_hosts(command(data_dir, tmp_path / "two", **settings))
    assert status == [0, 0], messages
    assert_same_result(tmp_path / "one", tmp_path / "two", 20)
    assert (tmp_path / "two" / "result.json").exists()


@pytest.mark.slow
def test_a_signal_to_one_host_stops_both_and_they_resume_together(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = {"dataset": MAZE_GOALS, "mesh": "1,8", "steps": 80}
    one, two = tmp_path / "one", tmp_path / "two"
    launch(command(data_dir, one, **settings))
    settings["data__stream"] = True  # the hosts make the batches that one process has on its devices

    def stop(hosts):
        while not (two / "checkpoints" / "10").exists() and all(host.poll() is None for host in hosts):
            time.sleep(0.01)
        hosts[1].send_signal(signal.SIGTERM)

    status, messages = run_on_hosts(command(data_dir, two, **settings), stop)
    assert status == [130, 130], messages
    assert all("the state is saved, and the same command resumes from it" in text for text in messages)
    assert not (two / "result.json").exists()
    status, messages = run_on_hosts(command(data_dir, two, **settings))
    assert status == [0, 0], messages
    assert_same_result(one, two, 80)
