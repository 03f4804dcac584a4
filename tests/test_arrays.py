"""Files with false headers are refused by name, before memory is allocated."""

import io
import itertools
import sys
import zipfile

import h5py
import numpy as np
import pytest

from valuelab import arrays, data
from valuelab.data import storage
from valuelab.distributional import mdps
from valuelab.errors import InputError

ROWS = 30_000_000


def npy(array, **header):
    """An NPY file whose header may state another shape."""
    file = io.BytesIO()
    stated = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(file, stated)
    return file.getvalue() + array.tobytes()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, contents in members.items():
            file.writestr(f"{name}.npy", contents)
    return path


def test_npz_is_read_as_numpy_reads_it(tmp_path):
    path = tmp_path / "file.npz"
    stored = {
        "b": np.arange(6.0).reshape(2, 3),
        "a": np.asfortranarray(np.ones((3, 2), np.uint8)),
        "s": np.array(3),
    }
    np.savez_compressed(path, **stored)
    with arrays.open_npz(path) as file, np.load(path, allow_pickle=False) as expected:
        assert list(file) == expected.files
        for key in stored:
            np.testing.assert_array_equal(file[key], expected[key])
            assert file[key].dtype == expected[key].dtype
        assert file["a"].flags.f_contiguous
        with pytest.raises(KeyError):
            file["c"]


def test_a_header_is_compared_with_its_member_and_memory(tmp_path, monkeypatch):
    lying = archive(tmp_path / "lying.npz", transitions=npy(np.zeros(4, np.float32), shape=(ROWS, 4)))
    with (
        arrays.open_npz(lying) as file,
        pytest.raises(
            InputError, match=r"lying.npz: transitions states 480,000,000 bytes of float32 but holds 16:"
        ),
    ):
        file["transitions"]
    with pytest.raises(InputError, match="^" + str(lying) + ": transitions states"):
        mdps.load(lying)
    bomb = archive(tmp_path / "bomb.npz", zeros=npy(np.zeros(1 << 24, np.float64)))
    assert bomb.stat().st_size < 1 << 18
    monkeypatch.setattr(arrays, "available_memory", lambda: 100 << 20)
    with (
        arrays.open_npz(bomb) as file,
        pytest.raises(InputError, match=r"bomb.npz: zeros takes 134,217,\d+ bytes"),
    ):
        file["zeros"]


def test_a_key_stands_once(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, rewards=np.zeros(2))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("rewards.npy", npy(np.ones(2)))
    with pytest.raises(InputError, match=f"{path}: rewards is in it twice"), arrays.open_npz(path):
        pass


def test_nothing_is_unpickled(tmp_path):
    path = archive(tmp_path / "file.npz", objects=npy(np.zeros(1), descr="|O"))
    with arrays.open_npz(path) as file, pytest.raises(ValueError, match="allow_pickle=False"):
        file["objects"]


def episode(file):
    """The smallest D4RL file: one episode of three rows."""
    file["actions"] = np.zeros((3, 1), np.float32)
    file["rewards"] = np.zeros(3, np.float32)
    file["terminals"] = np.array([False, False, True])


def external_storage(file, folder):
    (folder / "secret").write_bytes(bytes(range(48)))
    file.create_dataset("observations", (3, 4), "f4", external=[(str(folder / "secret"), 0, 48)])


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["numbers"] = np.zeros((3, 4), np.float32)
    file["observations"] = h5py.ExternalLink(str(folder / "other.h5"), "numbers")


def link_in_a_group(file, folder):
    external_link(file, folder)
    del file["observations"]
    file.create_group("infos")["there"] = h5py.ExternalLink(str(folder / "other.h5"), "/")
    file["observations"] = h5py.SoftLink("/infos/there/numbers")


def virtual(file, folder):
    external_link(file, folder)
    del file["observations"]
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "numbers", (3, 4))
    file.create_virtual_dataset("observations", layout)


def never_written(file, folder):
    file.create_dataset("observations", (ROWS, 4), "f4", chunks=(1000, 4))


def nearly_never_written(file, folder):
    file.create_dataset("observations", (ROWS, 4), "f4", chunks=(1000, 4), compression="gzip")[:3] = 1


def contiguous(file, folder):
    file.create_dataset("observations", (ROWS, 4), "f4")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external_storage, "observations has its values in another file"),
        (external_link, "observations is a link to another file"),
        (link_in_a_group, "infos/there is a link to another file"),
        (virtual, "observations is a virtual dataset"),
        (never_written, "observations states 480,000,000 bytes, but not all of them were written"),
        (nearly_never_written, "observations states 480,000,000 bytes, but not all of them were written"),
        (contiguous, "observations states 480,000,000 bytes, but not all of them were written"),
    ],
)
def test_an_hdf5_file_holds_its_own_numbers(make, message, tmp_path):
    path = tmp_path / "file.hdf5"
    with h5py.File(path, "w") as file:
        episode(file)
        make(file, tmp_path)
    assert path.stat().st_size < 1 << 15
    with pytest.raises(InputError, match=f"^{path}: {message}") as refused:
        data.load(str(path))
    assert "\n" not in str(refused.value)


def test_links_within_an_hdf5_file_are_followed(tmp_path, monkeypatch):
    path = tmp_path / "file.hdf5"
    with h5py.File(path, "w") as file:
        episode(file)
        file.create_dataset("infos/stored", data=np.ones((3, 4), np.float32), compression="gzip")
        file["observations"] = h5py.SoftLink("/infos/stored")
        file["empty"] = h5py.Empty("f4")
    assert data.load(str(path)).observations.shape == (3, 4)
    monkeypatch.setattr(arrays, "_LARGE", 0)
    monkeypatch.setattr(arrays, "available_memory", lambda: 40)
    with pytest.raises(InputError, match="observations takes 48 bytes, but 40 bytes of memory are free"):
        data.load(str(path))


def test_episodes_are_not_read_into_more_memory_than_there_is(monkeypatch):
    monkeypatch.setattr(storage, "available_memory", lambda: 100)
    episode = {"observations": np.zeros((4, 3), np.float32)}
    with pytest.raises(InputError, match="folder: its first 3 episodes take 144 bytes, but 100 bytes"):
        storage.from_episodes("endless", itertools.repeat(episode), "folder")


GIB = 1 << 30
GROUPS = {
    "machine": ({}, 8),
    "version 2, of a container": ({"memory.max": 4 * GIB, "memory.current": 3 * GIB}, 1),
    "version 2, without a limit": ({"memory.max": "max", "memory.current": 3 * GIB}, 8),
    "version 2, with a cache that can be freed": (
        {
            "memory.max": 4 * GIB,
            "memory.current": 3 * GIB,
            "memory.stat": f"anon 0\ninactive_file {2 * GIB}\n",
        },
        3,
    ),
    "version 2, of a parent": (
        {
            "/proc/self/cgroup": "0::/batch/job\n",
            "batch/memory.max": 2 * GIB,
            "batch/memory.current": 0,
            "batch/job/memory.max": 5 * GIB,
            "batch/job/memory.current": 0,
        },
        2,
    ),
    "version 1": (
        {
            "/proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n",
            "memory/x/y/memory.limit_in_bytes": 6 * GIB,
            "memory/x/y/memory.usage_in_bytes": 5 * GIB,
            "memory/x/y/memory.stat": f"inactive_file 0\ntotal_inactive_file {2 * GIB}\n",
        },
        3,
    ),
    "version 1, of a container": (
        {
            "/proc/self/cgroup": "4:memory:/x/y\n",
            "memory/memory.limit_in_bytes": 6 * GIB,
            "memory/memory.usage_in_bytes": 7 * GIB,
        },
        0,
    ),
}


@pytest.mark.parametrize(("written", "free"), GROUPS.values(), ids=GROUPS)
def test_memory_is_the_least_that_the_system_leaves(tmp_path, written, free):
    meminfo = {"/proc/meminfo": f"MemTotal:  9 kB\nMemAvailable:  {8 * GIB >> 10} kB\n"}
    for name, text in (meminfo | written).items():
        path = tmp_path / name[1:] if name.startswith("/") else tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    assert arrays.available_memory(tmp_path) == free * GIB


def test_memory_without_a_word_from_the_system_is_plenty(tmp_path):
    assert arrays.available_memory(tmp_path) == sys.maxsize
