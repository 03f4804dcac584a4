"""What programs keep of what they compile."""

import os
import re

import jax
import pytest
from helpers import MAZE_GOALS, assert_same_bits, command, saved_state, start

from valuelab.runs import flags


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A home's place for compiled programs; the tests' own settings come back afterwards."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(flags, "COMPILED", tmp_path / "home" / "compilation")
    yield flags.COMPILED
    jax.config.update("jax_compilation_cache_dir", before)


def kept_in():
    return jax.config.values["jax_compilation_cache_dir"]


def test_programs_are_kept_at_home(place):
    flags._keep_programs()
    assert kept_in() == str(place)
    assert place.is_dir()


def test_the_place_that_the_user_has_chosen_stays(place, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    flags._keep_programs()
    assert kept_in() == str(tmp_path / "mine")
    assert not place.exists()


def test_without_a_home_nothing_is_kept(place):
    place.parent.write_text("a file where the folder should be")
    flags._keep_programs()
    assert kept_in() is None


def test_what_was_read_least_recently_goes_first(tmp_path):
    for age, name in enumerate(("new", "old", "older")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 5))
    flags.bound(tmp_path, 20)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}


@pytest.mark.slow
def test_a_second_run_compiles_nothing_and_ends_with_the_same_bits(data_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = []
    for name in ("first", "second"):
        workdir = tmp_path / name
        program = start(command(data_dir, workdir, dataset=MAZE_GOALS))
        told = program.communicate()[1]
        assert program.returncode == 0, told
        assert not re.search("warning|machine", told, re.IGNORECASE), told
        kept.append({path.name for path in (tmp_path / ".cache/valuelab/compilation").iterdir()})
    assert any(name.startswith("jit_advance") for name in kept[0])
    assert kept[1] == kept[0]
    assert_same_bits(*(saved_state(tmp_path / name, 20)["states"] for name in ("first", "second")))
