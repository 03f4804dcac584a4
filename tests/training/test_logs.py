"""Tests of logs: their rows after a run was stopped and resumed."""

import json
import re
import subprocess
import sys
import types

import pytest

from valuelab import files
from valuelab.errors import InputError, MissingExtraError
from valuelab.training import logs


def rows(step, scale=1.0):
    """The rows of one event with two members."""
    return [{"step": step, "seed": seed, "loss": scale * step + seed} for seed in (0, 1)]


def write(folder, steps, scale=1.0, rewind=0, **settings):
    """One session of a run: rewinds, writes, ends."""
    given = {"config": {"steps": 9}, "members": [{"seed": 0}, {"seed": 1}]}
    log = logs.Logs(folder, **(given | settings))
    log.rewind(rewind, members=2)
    for step in steps:
        log.write(rows(step, scale))
    log.close()


def test_a_row_is_a_line_of_json(tmp_path):
    write(tmp_path, [1, 2])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [*rows(1), *rows(2)]


def test_rows_after_the_step_that_a_run_goes_on_from_are_written_anew(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], scale=10.0, rewind=2)
    written = logs.read_rows(tmp_path / "metrics.jsonl")
    assert written == [*rows(1), *rows(2), *rows(3, 10.0), *rows(4, 10.0), *rows(5, 10.0)]


@pytest.mark.parametrize("lost", [1, 5, 30])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path, lost):
    write(tmp_path, [1, 2])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-lost])
    assert logs.read_rows(path) == [*rows(1), rows(2)[0]]
    write(tmp_path, [2], rewind=2)  # a checkpoint is saved before its rows, which are incomplete here
    assert logs.read_rows(path) == [*rows(1), *rows(2)]


@pytest.mark.parametrize("damage", [b"\xff\x00", b"[1]", b'{"step": 3', b"{}", b'{"step": "5"}'])
def test_a_damaged_line_ends_the_rows_with_a_warning(tmp_path, caplog, damage):
    write(tmp_path, [1, 2, 3, 4])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:5], damage, *lines[6:]]))
    assert logs.read_rows(path) == [*rows(1), *rows(2), rows(3)[0]]
    assert f"{path} is damaged in line 6: this line and all later ones are ignored" in caplog.text
    assert logs.MetricsFile(path).rewind(4, members=2) == 2
    assert logs.read_rows(path) == [*rows(1), *rows(2)]


@pytest.mark.parametrize("change", ["removed", "edited", "none"])
def test_rows_that_change_before_a_checkpoint_are_noticed(tmp_path, caplog, change):
    write(tmp_path, [1, 2, 3, 4])
    path = tmp_path / "metrics.jsonl"
    file = logs.MetricsFile(path)
    file.rewind(3, members=2)
    saved = json.loads(json.dumps(file.extent))  # as in a checkpoint
    file.write(rows(4))
    lines = path.read_text().splitlines(keepends=True)
    if change == "removed":
        del lines[2:4]
    if change == "edited":
        lines[2] = lines[2].replace("2.0", "2.5")
    path.write_text("".join(lines))
    assert logs.MetricsFile(path).rewind(3, members=2, saved=saved) == 3
    warning = f"{path} has lost or changed rows up to step 3 since the checkpoint was saved"
    assert (warning in caplog.text) == (change != "none")
    assert caplog.text.count("\n") == (change != "none")
    caplog.clear()
    assert logs.MetricsFile(path).rewind(2, members=2, saved=saved) < 3
    assert not caplog.text  # the loop warns of a log that ends too early


def test_no_file_has_no_rows(tmp_path):
    assert logs.read_rows(tmp_path / "metrics.jsonl") == []
    write(tmp_path, [], rewind=5)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_replacing_a_file_leaves_nothing_beside_it(tmp_path):
    for text in ("one", "another"):
        files.replace_file(tmp_path / "file", text)
        assert [path.read_text() for path in tmp_path.iterdir()] == [text]


def test_tensorboard_reads_each_step_of_each_member_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, [1, 2, 3, 4], tensorboard=True)
    for path in tmp_path.glob("tensorboard/seed=*/events*"):
        path.rename(
            path.with_name("events.out.tfevents.0000000001.earlier")
        )  # the name is the time in seconds
    write(tmp_path, [3, 4, 5], scale=10.0, rewind=2, tensorboard=True)
    for seed in (0, 1):
        read = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / f"seed={seed}"))
        read.Reload()
        assert read.Tags()["scalars"] == ["loss"]
        found = [(event.step, event.value) for event in read.Scalars("loss")]
        assert found == [(step, (10 if step > 2 else 1) * step + seed) for step in (1, 2, 3, 4, 5)]


WANDB = """
import pathlib, socket, sys
sys.path.insert(0, "tests/training")
from test_logs import logs, write

connect = socket.socket.connect

def refuse(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith("127."):
        raise SystemExit(f"went to the network: {address}")
    return connect(self, address)

socket.socket.connect = refuse
write(pathlib.Path(sys.argv[1]), [1, 2], wandb=logs.WandbSettings("valuelab-test", group="one-group"))
"""


@pytest.mark.slow
def test_weights_and_biases_writes_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    subprocess.run([sys.executable, "-c", WANDB, tmp_path], check=True, timeout=120)
    ids = json.loads((tmp_path / "wandb.json").read_text())
    assert list(ids) == ["seed=0", "seed=1"]
    for name, run_id in ids.items():
        (written,) = tmp_path.glob(f"wandb/offline-run-*/run-{run_id}.wandb")
        content = written.read_bytes()
        for text in ("valuelab-test", "one-group", f"{tmp_path.name} {name}", "loss"):
            assert text.encode() in content


def test_what_is_not_finite_is_null(tmp_path):
    write(tmp_path, [1], scale=float("nan"))
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert [row["loss"] for row in logs.read_rows(tmp_path / "metrics.jsonl")] == [None, None]


class FakeWandb(types.ModuleType):
    """Replaces the package of Weights & Biases, and records how it is called.

    Attributes:
        starts: the arguments of each run.
        rows: id of a run to its rows.
        ended: ids of the runs that were ended.
    """

    Settings = Video = dict
    CommError = type("CommError", (Exception,), {})

    def __init__(self, address="http://127.0.0.1:9", mode="offline", refusal=None, log_error=None):
        super().__init__("wandb")
        self._known = types.SimpleNamespace(base_url=address, mode=mode)
        self._refusal, self._log_error = refusal, log_error
        self.starts, self.rows, self.ended = [], {}, []

    def setup(self):
        return types.SimpleNamespace(settings=self._known)

    def init(self, **given):
        self.starts.append(given)
        if self._refusal and given.get("mode") != "offline":
            raise self._refusal
        rows = self.rows.setdefault(given["id"], [])

        def log(values, step):
            if self._log_error:
                raise self._log_error
            rows.append(values | {"step": step})

        return types.SimpleNamespace(log=log, finish=lambda: self.ended.append(given["id"]))


WANDB_SETTINGS = logs.WandbSettings("x", entity="lab", tags=("a", "b"))


def test_each_member_is_a_run_that_is_continued(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    folder = tmp_path / "workdir"
    folder.mkdir()
    write(folder, [1, 2], wandb=WANDB_SETTINGS)
    one, two = fake.starts
    assert one["id"] != two["id"]
    assert [each["name"] for each in fake.starts] == ["workdir seed=0", "workdir seed=1"]
    assert [each["config"]["member"] for each in fake.starts] == [{"seed": 0}, {"seed": 1}]
    shared = {"project": "x", "entity": "lab", "group": "workdir", "tags": ["a", "b"], "resume": "allow"}
    assert all(shared.items() <= each.items() for each in fake.starts)
    assert fake.rows[two["id"]] == [{"loss": 2.0, "step": 1}, {"loss": 3.0, "step": 2}]
    assert fake.ended == [one["id"], two["id"]]
    moved = folder.rename(tmp_path / "moved")
    write(moved, [3], rewind=2, wandb=WANDB_SETTINGS._replace(group="g", name="n"))
    assert [each["id"] for each in fake.starts[2:]] == [one["id"], two["id"]]
    assert [(each["group"], each["name"]) for each in fake.starts[2:]] == [
        ("g", "n seed=0"),
        ("g", "n seed=1"),
    ]
    assert fake.rows[two["id"]][-1] == {"loss": 4.0, "step": 3}


def test_a_single_member_is_a_run_with_the_name_of_the_workdir(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    log = logs.Logs(tmp_path, {}, [{"seed": 3}], wandb=WANDB_SETTINGS)
    log.write([{"step": 1, "loss": 2.0}])
    log.add_video(tmp_path / "video.mp4", 1)  # was not filmed
    (tmp_path / "video.mp4").touch()
    monkeypatch.setattr(fake, "Video", lambda path: path)
    log.add_video(tmp_path / "video.mp4", 1)
    (start,) = fake.starts
    assert (start["name"], start["group"]) == (tmp_path.name, None)
    assert fake.rows[start["id"]][1:] == [{"video": str(tmp_path / "video.mp4"), "step": 1}]


@pytest.mark.parametrize(
    "given",
    [
        {"mode": None},
        {"mode": "online", "address": "http://h.invalid"},
        {"refusal": FakeWandb.CommError("time")},
    ],
)
def test_without_a_network_runs_stay_on_this_machine(tmp_path, monkeypatch, capsys, given):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb(**given))
    write(tmp_path, [1], wandb=WANDB_SETTINGS)
    said = capsys.readouterr().out
    assert re.fullmatch(r"warning: Weights & Biases cannot be reached \(.*\): the run is kept in .*\n", said)
    assert f"{tmp_path}/wandb; upload it later with `wandb sync`" in said
    assert [each.get("mode") for each in fake.starts][-2:] == ["offline", "offline"]
    assert len(fake.starts) == 2 + ("refusal" in given)
    assert all(len(rows) == 1 for rows in fake.rows.values())


def test_a_tracker_that_fails_ends_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(log_error=OSError("no network")))
    write(tmp_path, [1, 2], wandb=WANDB_SETTINGS)
    assert logs.read_rows(tmp_path / "metrics.jsonl") == [*rows(1), *rows(2)]
    told = (
        "warning: WeightsAndBiases failed (no network) and gets no further rows; metrics.jsonl has them all\n"
    )
    assert capsys.readouterr().out == told


def test_a_tracker_that_lets_nobody_in_is_one_line(tmp_path, monkeypatch):
    refusal = RuntimeError("api_key not configured\n(no-tty)")
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(refusal=refusal))
    message = r"wandb_project is x, and .* \(api_key not configured \(no-tty\)\): log in with `wandb login`"
    with pytest.raises(InputError, match=message):
        write(tmp_path, [1], wandb=WANDB_SETTINGS)


@pytest.mark.parametrize(
    ("module", "settings"),
    [("tensorboardX", {"tensorboard": True}), ("wandb", {"wandb": WANDB_SETTINGS})],
)
def test_a_missing_logger_names_its_extra(tmp_path, monkeypatch, module, settings):
    monkeypatch.setitem(sys.modules, module, None)  # makes an import fail
    with pytest.raises(MissingExtraError, match=rf"{module} is not installed: .* 'valuelab\[logging\]'"):
        write(tmp_path, [1], **settings)
