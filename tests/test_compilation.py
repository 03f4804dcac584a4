"""The cache of compiled programs."""

import os
import re

import jax
import pytest
from helpers import MAZE_GOALS, assert_same_bits, command, saved_state, start

from valuelab.runs import flags


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of compiled programs in a temporary home; the settings of the tests come back afterwards."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(flags, "COMPILATION_CACHE", tmp_path / "home" / "compilation")
    yield flags.COMPILATION_CACHE
    jax.config.update("jax_compilation_cache_dir", before)


def folder_of_jax():
    return jax.config.values["jax_compilation_cache_dir"]


def test_programs_are_cached_in_the_home_folder(cache):
    flags._enable_compilation_cache()
    assert folder_of_jax() == str(cache)
    assert cache.is_dir()


def test_the_folder_that_the_user_has_chosen_stays(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    flags._enable_compilation_cache()
    assert folder_of_jax() == str(tmp_path / "mine")
    assert not cache.exists()


def test_without_a_home_folder_there_is_no_cache(cache):
    cache.parent.write_text("a file where the folder should be")
    flags._enable_compilation_cache()
    assert folder_of_jax() is None


def test_the_least_recently_read_files_are_deleted_first(tmp_path):
    (tmp_path / "autotuning").mkdir()  # JAX's, for GPUs
    for age, name in enumerate(("new", "autotuning/old", "older")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 5))
    os.utime(tmp_path / "autotuning", (5, 5))
    flags.limit_size(tmp_path, 20)
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "autotuning", "old"}


@pytest.mark.slow
def test_a_second_run_compiles_nothing_and_ends_with_the_same_bits(data_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    cached = []
    for name in ("first", "second"):
        workdir = tmp_path / name
        program = start(command(data_dir, workdir, dataset=MAZE_GOALS))
        output = program.communicate()[1]
        assert program.returncode == 0, output
        assert not re.search("warning|machine", output, re.IGNORECASE), output
        cached.append({path.name for path in (tmp_path / ".cache/valuelab/compilation").iterdir()})
    assert any(name.startswith("jit_advance") for name in cached[0])
    assert cached[1] == cached[0]
    assert_same_bits(*(saved_state(tmp_path / name, 20)["states"] for name in ("first", "second")))
