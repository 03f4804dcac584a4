"""Tests of checkpoints: they are complete or absent, and every flipped bit is noticed."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import assert_same_bits

from valuelab.configuration import RunConfig
from valuelab.errors import InputError
from valuelab.training import Checkpoints, make_mesh, mesh
from valuelab.training.checkpoints import _digests, read_states
from valuelab.training.loop import Progression


def make_state(fill: float = 0.0):
    """A state with a leaf of every kind that occurs in states."""
    return {
        "params": jnp.arange(300.0) + fill,
        "half": jnp.full((3, 2), 1.5 + fill, jnp.bfloat16),
        "step": jnp.int32(7 + int(fill)),
        "words": jnp.array([1, 2], jnp.uint32),
        "bytes": jnp.array([0, 255], jnp.uint8),
        "flags": jnp.array([True, False]),
        "keys": jax.random.split(jax.random.key(int(fill)), 2),
        "empty": {},
    }


@pytest.fixture
def checkpoints(tmp_path):
    """Three checkpoints, of steps 10, 20 and 30."""
    opened = Checkpoints(tmp_path / "checkpoints", {"version": "x"})
    for step in (10, 20, 30):
        opened.save(step, make_state(step))
    yield opened
    opened.close()


def test_what_is_saved_is_restored_to_the_bit(checkpoints):
    step, state = checkpoints.restore(jax.eval_shape(make_state))
    assert step == 30
    assert_same_bits(state, make_state(30))


def test_a_restored_state_lies_where_it_is_wanted(checkpoints):
    wanted = mesh.replicated(make_mesh(2, 4, (2, 4)))
    _, state = checkpoints.restore(jax.device_put(make_state(), wanted))
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)


def test_settings_and_versions_stand_beside_the_state(checkpoints):
    path = checkpoints.folder / "30" / "metadata" / "metadata"
    assert json.loads(path.read_text())["version"] == "x"


def test_a_run_with_other_settings_does_not_go_on_and_one_with_other_versions_is_warned(tmp_path, caplog):
    def opened(seed=0, jax_version="1", **settings):
        config = RunConfig(seed=seed, **settings)
        return Checkpoints(tmp_path, {"versions": {"jax": jax_version}}, config=config)

    opened().save(10, make_state())
    opened(log_every=7)  # does not change results
    assert caplog.text == ""
    opened(jax_version="2")
    assert "were saved with other versions (versions.jax was '1', is '2')" in caplog.text
    with pytest.raises(
        InputError, match=r"belong to another run \(seed was 0, is 3\): give another --workdir, or"
    ):
        opened(seed=3)


def test_the_newest_three_are_kept(checkpoints):
    checkpoints.save(40, make_state(40))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["20", "30", "40"]


def test_none_is_restored_from_an_empty_folder(tmp_path):
    empty = Checkpoints(tmp_path / "none", {})
    assert empty.restore(jax.eval_shape(make_state)) is None
    assert empty.latest_step() is None


def test_a_step_that_is_there_is_left_alone(checkpoints):
    checkpoints.save(30, make_state(99))
    assert_same_bits(checkpoints.restore(jax.eval_shape(make_state))[1], make_state(30))


def test_states_are_read_without_the_rest(tmp_path):
    opened = Checkpoints(tmp_path, {})
    like = jax.eval_shape(make_state)
    with pytest.raises(InputError, match=r"there is no checkpoint under .*: train first, or wait"):
        list(read_states(tmp_path, like))
    for step in (10, 20):
        opened.save(step, Progression(make_state(step), {"buffer": jnp.ones(3)}, {"updates": jnp.int32(1)}))
    opened.close()
    found = dict(read_states(tmp_path, like))
    assert list(found) == [10, 20]
    for step, states in found.items():
        assert_same_bits(states, make_state(step))
    other = like | {"half": jax.ShapeDtypeStruct((4, 2), jnp.bfloat16)}
    message = (
        r"the checkpoint under .*/10 belongs to .* data: half has shape \[3, 2\] there, and .* \[4, 2\] here"
    )
    with pytest.raises(InputError, match=message):
        list(read_states(tmp_path, other))
    flip_bytes(tmp_path / "20")
    with pytest.raises(InputError, match=r"the checkpoint of step 20 under .* cannot be read: remove its"):
        list(read_states(tmp_path, like))


# Damage.


def data_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkpoint that hold arrays; orbax also leaves some there that it never reads again."""
    return [path for path in folder.glob("state/**/d/*") if path.is_file()]


def truncate(folder):
    for path in data_files(folder):
        os.truncate(path, path.stat().st_size // 2)


def flip_bytes(folder):
    for path in data_files(folder):
        content = bytearray(path.read_bytes())
        for place in range(len(content) // 4, len(content), 97):
            content[place] ^= 0xFF
        path.write_bytes(content)


def remove_data(folder):
    for path in data_files(folder):
        path.unlink()


def remove_metadata(folder):
    (folder / "metadata" / "metadata").unlink()


def empty_metadata(folder):
    (folder / "metadata" / "metadata").write_text("")


def wrong_digest(folder):
    path = folder / "metadata" / "metadata"
    metadata = json.loads(path.read_text())
    metadata["digests"][0] ^= 1
    path.write_text(json.dumps(metadata))


def copy_of_another(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "20", folder)


DAMAGES = [copy_of_another, truncate, flip_bytes, remove_data, remove_metadata, empty_metadata, wrong_digest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(checkpoints, damage, caplog):
    damage(checkpoints.folder / "30")
    reopened = Checkpoints(checkpoints.folder, {})
    step, state = reopened.restore(jax.eval_shape(make_state))
    assert step == 20
    assert_same_bits(state, make_state(20))
    assert "checkpoint of step 30 under" in caplog.text
    assert "is damaged" in caplog.text
    # The damaged one was moved away, and its step can be saved again.
    assert (checkpoints.folder.parent / "checkpoints-damaged" / "30").is_dir()
    reopened.save(30, make_state(33))
    step, state = Checkpoints(checkpoints.folder, {}).restore(jax.eval_shape(make_state))
    assert step == 30
    assert_same_bits(state, make_state(33))


def test_when_all_are_damaged_it_is_one_line(checkpoints):
    for step in (10, 20, 30):
        truncate(checkpoints.folder / str(step))
    with pytest.raises(
        InputError, match=r"none of the checkpoints under .* can be read \(steps \[10, 20, 30\]\): remove"
    ) as e:
        Checkpoints(checkpoints.folder, {}).restore(jax.eval_shape(make_state))
    assert "\n" not in str(e.value)


def test_what_a_killed_save_leaves_is_harmless(checkpoints):
    """If killed while saving, orbax leaves a folder whose name marks it as unfinished."""
    for name in ("40.orbax-checkpoint-tmp", "40.orbax-checkpoint-tmp-1700000000"):
        (checkpoints.folder / name / "state").mkdir(parents=True)
    reopened = Checkpoints(checkpoints.folder, {})
    assert reopened.restore(jax.eval_shape(make_state))[0] == 30
    reopened.save(40, make_state(40))
    assert reopened.restore(jax.eval_shape(make_state))[0] == 40


# Checksums.


def test_a_digest_is_the_sum_that_it_says():
    """For words 3, 0, 2: 1 · 3 + 3 · 0 + 5 · 2 = 13; for 2³² - 1 and 1: (2³² - 1) + 3 = 2 mod 2³²."""
    words = [jnp.array([3, 0, 2], jnp.uint32), jnp.array([2**32 - 1, 1], jnp.uint32)]
    assert _digests(words).tolist() == [13, 2]
    assert _digests([jnp.array([True, True])]).tolist() == [4]
    # The bits of 1.0 are 0x3F800000.
    assert _digests([jnp.float32(1.0)]).tolist() == [0x3F800000]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32, np.uint8, ml_dtypes.bfloat16])
def test_every_flipped_bit_changes_its_digest(dtype):
    array = np.random.default_rng(0).integers(0, 100, 4).astype(dtype)
    digest = int(_digests([jnp.asarray(array)])[0])
    for bit in range(array.nbytes * 8):
        flipped = np.frombuffer(bytearray(array.tobytes()), np.uint8).copy()
        flipped[bit // 8] ^= 1 << (bit % 8)
        assert int(_digests([jnp.asarray(flipped.view(dtype))])[0]) != digest


def test_a_digest_does_not_depend_on_where_the_array_lies():
    array = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    layout = make_mesh(8, 1, (8, 1))
    spread = [jax.device_put(array, place(layout)) for place in (mesh.by_member, mesh.replicated)]
    alone, *others = (_digests([placed]).tolist() for placed in (jnp.asarray(array), *spread))
    assert others == [alone, alone]


# A full disk.

FILL = """
import resource, signal, sys
import jax.numpy as jnp, numpy as np
from valuelab.training import Checkpoints

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # further writing then fails, as on a full disk
noise = jnp.asarray(np.random.default_rng(0).normal(size=100_000).astype(np.float32))
checkpoints = Checkpoints(sys.argv[1], {})
checkpoints.save(10, {"params": noise})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    checkpoints.save(20, {"params": noise + 1})
except Exception as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = Checkpoints(sys.argv[1], {})
step, state = again.restore({"params": noise})
print(step, bool((state["params"] == noise).all()))
again.save(20, {"params": noise + 1})
print(again.restore({"params": noise})[0])
"""


def test_a_full_disk_leaves_the_checkpoint_before_good(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path / "checkpoints"], capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr  # orbax logs one for each thread
    told, restored, later = done.stdout.splitlines()
    assert told.startswith("CheckpointError cannot save the checkpoint of step 20 under ")
    assert (
        "; that of step 10 is still good. Free some disk space and run the same command again. Reason: "
        in told
    )
    assert restored == "10 True"
    assert later == "20"
