"""Tests of memory-mapped copies of datasets."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import make_dataset

import valuelab as vl
from valuelab import data
from valuelab.arrays import Mapped, digest
from valuelab.data import streaming
from valuelab.data.sources import rlds
from valuelab.errors import InputError


def write_npz(folder, dataset):
    vl.save_dataset(dataset, folder / "own.npz")
    return str(folder / "own.npz")


def write_compressed(folder, dataset):
    path = write_npz(folder, dataset)
    with np.load(path) as arrays:
        np.savez_compressed(path, **arrays)
    return path


def write_rlds(folder, dataset):
    rlds.write({"train": dataset}, folder / "rlds" / "made-up")
    return "rlds/made-up"


def fields(dataset):
    return {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}


@pytest.mark.parametrize("write", [write_npz, write_compressed, write_rlds])
@pytest.mark.parametrize("goal_conditioned", [False, True])
def test_a_copy_holds_the_same_bits(tmp_path, write, goal_conditioned, monkeypatch, capsys):
    monkeypatch.setattr(rlds, "PART_BYTES", 300)  # two episodes
    name = write(tmp_path, make_dataset(compact=True, goal_conditioned=goal_conditioned))
    loaded = data.load(name, tmp_path, compact=True)
    mapped = data.load(name, tmp_path, mapped=True)
    assert f"{name} is copied once to {tmp_path / 'stream'}" in capsys.readouterr().out
    for key, value in fields(loaded).items():
        np.testing.assert_array_equal(getattr(mapped, key), value, strict=isinstance(value, np.ndarray))
    assert isinstance(mapped.observations, Mapped)
    assert mapped.observations.digest == digest(loaded.observations)


@pytest.fixture
def saved(tmp_path):
    """The name of a dataset with a copy, and the folder of the copy."""
    name = write_npz(tmp_path, make_dataset(compact=True))
    data.load(name, tmp_path, mapped=True)
    (manifest,) = tmp_path.glob("stream/*/copy/manifest.json")
    return name, manifest.parent


def test_a_copy_follows_its_source(saved, tmp_path, capsys):
    name, _ = saved
    capsys.readouterr()
    data.load(name, tmp_path, mapped=True)
    assert not capsys.readouterr().out
    changed = dataclasses.replace(make_dataset(compact=True), rewards=np.zeros(45, np.float32))
    vl.save_dataset(changed, name)
    assert not data.load(name, tmp_path, mapped=True).rewards.any()
    assert "is copied once" in capsys.readouterr().out
    shutil.os.remove(name)  # to save space
    assert not data.load(name, tmp_path, mapped=True).rewards.any()


def edit(manifest, **changes):
    content = json.loads(manifest.read_text())
    content["arrays"]["rewards"] |= changes
    manifest.write_text(json.dumps(content))


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def test_a_damaged_copy_gives_one_line(saved, tmp_path):
    name, folder = saved
    rewards, manifest = folder / "rewards.bin", folder / "manifest.json"
    contents = {path: path.read_bytes() for path in (rewards, manifest)}
    for damage, message in {
        lambda: rewards.write_bytes(b"12"): r"rewards.bin has 2 bytes instead of 180\): delete it",
        lambda: flip_bit(rewards): r"rewards.bin does not match its checksum\): delete it",
        rewards.unlink: r"No such file .*rewards.bin'\): delete it",
        lambda: edit(manifest, dtype="object"): r"manifest.json does not match its checksum\): delete it",
        lambda: edit(manifest, shape=[9, 5]): r"manifest.json does not match its checksum\): delete it",
    }.items():
        damage()
        with pytest.raises(InputError, match=rf"copy is damaged .*{message}"):
            data.load(name, tmp_path, mapped=True)
        for path, content in contents.items():  # with other times: the checksums are compared
            path.write_bytes(content)
        data.load(name, tmp_path, mapped=True)
    manifest.write_text("{")
    with pytest.raises(InputError, match=r"manifest.json cannot be read as manifest of a copy .*: delete"):
        data.load(name, tmp_path, mapped=True)


def test_a_relative_path_has_a_copy_for_each_working_directory(tmp_path, monkeypatch):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    write_npz(tmp_path / "one", make_dataset(compact=True))
    monkeypatch.chdir(tmp_path / "one")
    data.load("./own.npz", tmp_path, mapped=True)
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(InputError, match=r"own.npz does not exist"):
        data.load("./own.npz", tmp_path, mapped=True)


def test_a_source_that_changes_while_it_is_copied_is_refused(tmp_path):
    path = tmp_path / "source"
    path.touch()

    def parts():
        yield make_dataset(compact=True)
        path.write_text("changed")

    with pytest.raises(InputError, match=r"two changed while it was copied: run the same command again"):
        streaming.mapped("two", tmp_path, lambda: [path], parts(), {})


def test_a_failure_of_reading_is_not_one_of_writing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError("rewards")

    name = write_npz(tmp_path, make_dataset(compact=True))
    monkeypatch.setitem(data._FILES, ".npz", fail)
    with pytest.raises(InputError, match=r"own.npz cannot be read in .*'rewards'.*: check its files there"):
        data.load(name, tmp_path, mapped=True)


def test_copies_are_not_files_of_a_dataset(tmp_path):
    info = tmp_path / "meta" / "info.json"
    for path in (info, tmp_path / "stream" / "x" / "copy" / "manifest.json"):
        path.parent.mkdir(parents=True)
        path.touch()
    assert data._files_of(str(tmp_path), tmp_path, "train") == [info]


def test_a_full_disk_is_noticed_and_leaves_nothing(tmp_path):
    name = write_npz(tmp_path, make_dataset(compact=True))
    script = """if True:
        import resource, signal, sys
        from valuelab import data
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
        try:
            data.load(*sys.argv[1:], mapped=True)
        except data.InputError as error:
            print(error)
    """
    given = [sys.executable, "-c", script, name, str(tmp_path)]
    printed = subprocess.run(given, capture_output=True, text=True, check=True).stdout
    assert re.search(r"cannot be written \(.*File too large\): free some space .*there, or give", printed)
    assert not [path for path in tmp_path.glob("stream/*/*")]


def test_parts_must_be_alike(tmp_path):
    dataset = make_dataset(compact=True)
    other = dataclasses.replace(dataset, actions=dataset.actions[:, :1])
    path = tmp_path / "source"
    path.touch()
    with pytest.raises(InputError, match=r"two: the rows from 45 on differ from those before"):
        streaming.mapped("two", tmp_path, lambda: [path], [dataset, other], {})
    with pytest.raises(InputError, match=r"the files of own are unknown, .*save_dataset"):
        streaming.mapped("own", tmp_path, list, [dataset], {})
