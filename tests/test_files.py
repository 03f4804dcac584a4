"""Files are whole or as before, and whoever leaves links in a folder gets nothing through them."""

import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from valuelab import files
from valuelab.errors import InputError
from valuelab.evaluation import figures
from valuelab.training import logs


@pytest.fixture
def other(tmp_path_factory):
    """A file elsewhere, which links lead to."""
    path = tmp_path_factory.mktemp("elsewhere") / "precious"
    path.write_text("kept")
    yield path
    assert path.read_text() == "kept"


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
    with files.locked(tmp_path), pytest.raises(InputError, match=ours):  # as of another thread
        files.locked(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.locked(tmp_path):
        assert capsys.readouterr().out.startswith(f"warning: {tmp_path} takes no lock (")
