"""Tests of files: they are replaced atomically, and links in a folder are not followed."""

import os
import re
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

from valuelab import data, files
from valuelab.errors import InputError
from valuelab.evaluation import figures
from valuelab.runs import outputs
from valuelab.training import logs


@pytest.fixture
def other(tmp_path_factory):
    """A file elsewhere, the target of links."""
    path = tmp_path_factory.mktemp("elsewhere") / "precious"
    path.write_text("kept")
    yield path
    assert path.read_text() == "kept"


@pytest.mark.parametrize(
    ("score", "text"),
    [(1000.0, "1000"), (-1234.5, "-1234"), (0.0, "0.00"), (0.985, "0.98"), (float("nan"), "nan")],
)
def test_a_score_as_text_has_no_exponent(score, text):
    assert files.to_text(score) == text


def test_nested_values_become_json_values():
    value = {
        "a": (np.float32(0.5), np.array([1 / 3, np.nan])),
        "b": [np.int64(123456), 2 / 3, None, "x", True],
    }
    assert files.json_values(value) == {"a": [0.5, [1 / 3, None]], "b": [123456, 2 / 3, None, "x", True]}
    assert files.json_values(value, 2) == {"a": [0.5, [0.33, None]], "b": [123456, 0.67, None, "x", True]}


def test_a_link_is_replaced_and_not_followed(other, tmp_path):
    path = tmp_path / "config.json"
    for name in ("config.json", "config.json.tmp"):
        (tmp_path / name).symlink_to(other)
    files.replace_file(path, "α")
    assert path.read_bytes() == "α".encode()
    assert not path.is_symlink()
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    picture = tmp_path / "curves.png"
    picture.symlink_to(other)
    figures.saved(figures.new(1, 1), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    log = logs.MetricsFile(tmp_path / "config.json.tmp")
    with pytest.raises(OSError, match="symbolic links"):
        log.write([{"step": 1}])


def test_where_writing_fails_nothing_changes(tmp_path):
    path = tmp_path / "table.npz"
    path.write_text("before")

    def write(error):
        with files.replacing(path) as file:
            np.savez(file, numbers=np.zeros(3))
            raise error

    for error in (OSError("no room"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write(error)
    assert [file.name for file in tmp_path.iterdir()] == ["table.npz"]
    assert path.read_text() == "before"


HOLD = """
import pathlib, sys
from valuelab import files

with files.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_has_one_writer_and_a_killed_one_leaves_no_lock(tmp_path):
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdout.readline() == "held\n"
    who = re.escape(f"{tmp_path} is in use by process {held.pid} on {socket.gethostname()}")
    with pytest.raises(InputError, match=f"^{who}: wait until it ends, or go away$"):
        files.locked(tmp_path, "go away").__enter__()
    held.kill()
    held.communicate()
    ours = f"in use by process {os.getpid()} on "
    with files.locked(tmp_path), pytest.raises(InputError, match=ours):  # as if from another thread
        files.locked(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_locking_a_folder_removes_the_temporary_files_of_a_killed_process(tmp_path):
    kept = [tmp_path / name for name in ("result.json", ".notes.tmp", ".result.json.0123.tmp")]
    stale = files.temporary_path(tmp_path / "result.json")
    for path in (*kept, stale):
        path.write_text("")
    (folder := files.temporary_path(tmp_path / "dataset")).mkdir()
    (folder / "part").write_text("")
    with files.locked(tmp_path):
        assert not stale.exists()
        assert not folder.exists()
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_disk_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.locked(tmp_path):
        assert capsys.readouterr().out.startswith(f"warning: {tmp_path} cannot be locked (")


@pytest.mark.parametrize(
    ("contents", "cause"),
    [
        (b'{"settings": ', "JSONDecodeError: Expecting value"),
        (b"", "JSONDecodeError: Expecting value"),
        (b"\xff\xfe\xfd", "UnicodeDecodeError: "),
        (b"[" * 100_000, "RecursionError: "),
        (b"[1]", "TypeError: it holds a list where an object is expected"),
        (b"{}", "KeyError: 'settings'"),
        (b'{"settings": 3}', "TypeError: settings is of type int where dict is expected"),
        (b'{"settings": {"a": 1, "a": 2}}', "ValueError: a occurs twice"),
    ],
)
def test_json_of_anybody_is_read_or_told_of_in_one_line(contents, cause, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(contents)
    with pytest.raises(
        InputError, match=rf"^{path} cannot be read as config \({cause}.*\): give another$"
    ) as refused:
        files.read_json(path, "config", "give another", settings=dict)
    assert "\n" not in str(refused.value)
    path.write_bytes("\ufeff".encode() + b'{"settings": {}}')
    assert files.read_json(path, "config", "give another", settings=dict) == {"settings": {}}


def test_what_is_no_file_is_never_opened(tmp_path):
    pipe = tmp_path / "pipe.hdf5"
    os.mkfifo(pipe)
    readers = (
        lambda: files.read_json(pipe, "config", "give another"),
        lambda: logs.read_rows(pipe),
        lambda: data.load(str(pipe)),
        lambda: outputs.prepare_file("picture", str(pipe)),
    )
    for reader in readers:
        with pytest.raises(InputError, match=f"{pipe} is not a regular file but a pipe"):
            reader()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "~nobody-of-that-name/data",
            "data_dir is ~nobody-of-that-name/data, but that home folder is unknown",
        ),
        ("x" * 256, "data_dir is x{60}..., which is too long"),
        ("/x" * 2100, "which is too long for a path"),
        ("a\0b", r"data_dir is 'a\\x00b', which contains a null"),
        ("s3://bucket", "data_dir is s3://bucket, but must be on this machine"),
    ],
)
def test_paths_that_cannot_be(path, message):
    with pytest.raises(InputError, match=message):
        data.load("ogbench/pointmaze-medium-navigate-v0", path)
    with pytest.raises(InputError, match=message.replace("data_dir", "workdir")):
        outputs.make_folder(path)


def test_without_a_home_a_path_is_asked_for(monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    with pytest.raises(InputError, match=r"data_dir is ~/.cache/valuelab, but that home folder is unknown"):
        data.load("ogbench/pointmaze-medium-navigate-v0")


def test_whatever_a_reader_raises_is_one_line(monkeypatch, tmp_path):
    for error in (KeyError("k"), TypeError("a\nb"), struct.error("unpack"), MemoryError(), AssertionError()):

        def read(*arguments, error=error, **settings):
            raise error

        monkeypatch.setitem(data.SOURCES, "ogbench", read)
        with pytest.raises(InputError, match=f"^dataset ogbench/x cannot be read in {tmp_path}") as refused:
            data.load("ogbench/x", tmp_path)
        assert "\n" not in str(refused.value)
