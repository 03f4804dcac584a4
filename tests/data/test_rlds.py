import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from valuelab import data
from valuelab.data.sources import rlds
from valuelab.errors import InputError
from valuelab.observation_parts import unpack
from valuelab.types import Dataset


def made_up(discrete=False, pixels=False) -> Dataset:
    """Episodes of 3, 1 and 2 transitions; masks are zero inside the first and at the end of the last."""
    rng = np.random.default_rng(0)
    terminals = np.array([0, 0, 0, 1, 0, 1, 0, 0, 1], bool)
    observations = rng.normal(size=(9, 3)).astype(np.float32)
    actions = rng.uniform(-2, 2, size=(9, 2)).astype(np.float32)
    return Dataset(
        name="ogbench/made-up-v0",
        observations=rng.integers(0, 256, (9, 4, 4, 3), np.uint8) if pixels else observations,
        actions=rng.integers(0, 5, 9, np.int32) if discrete else actions,
        rewards=rng.normal(size=9).astype(np.float32),
        masks=np.array([1, 0, 1, 1, 1, 1, 1, 0, 1], np.float32),
        terminals=terminals,
        valid=~terminals,
        action_low=np.full(0 if discrete else 2, -2, np.float32),
        action_high=np.full(0 if discrete else 2, 2, np.float32),
        num_actions=5 if discrete else 0,
    )


def assert_same(actual, expected):
    for field in dataclasses.fields(Dataset):
        left, right = getattr(actual, field.name), getattr(expected, field.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype
            assert left.tobytes() == right.tobytes(), field.name
            assert left.shape == right.shape
        elif field.name != "name":
            assert left == right, field.name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ogbench/made-up-v0", {}),
        ("/path/hopper-own.h5", {"discrete": True}),
        ("exorl/3 walkers@64:9", {"pixels": True}),
    ],
)
def test_what_is_written_reads_back_bit_for_bit(name, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(rlds, "_SHARD_BYTES", 100)  # several shards
    train, val = (dataclasses.replace(made_up(**kind), name=name) for _ in range(2))
    rlds.write({"train": train, "val": val}, tmp_path / "rlds" / "own" / "set-v0")
    for split in ("train", "val"):
        assert_same(data.load("rlds/own/set-v0", tmp_path, split=split, compact=True), train)
    assert data.load("rlds/own/set-v0", tmp_path).name == "rlds/own/set-v0"


def test_converted_set_without_tensorflow(tmp_path):
    """Writes and reads in a new process, where no other code can have imported TensorFlow."""
    script = """
import sys
from pathlib import Path
import numpy as np
from experiments.convert_to_rlds import convert
from valuelab import data

folder = Path(sys.argv[1])
(folder / "ogbench").mkdir()
rng = np.random.default_rng(0)
np.savez(
    folder / "ogbench" / "pointmaze-medium-navigate-v0.npz",
    observations=rng.normal(size=(6, 2)).astype(np.float32),
    actions=rng.uniform(-1, 1, (6, 2)).astype(np.float32),
    terminals=np.array([0, 0, 1, 0, 0, 1], bool),
)
name = "ogbench/pointmaze-medium-navigate-v0"
convert(name, folder, ["train"])
written, read = data.load(name, folder), data.load(f"rlds/{name}", folder)
assert np.array_equal(written.observations, read.observations)
assert np.array_equal(written.next_observations, read.next_observations)
assert read.goal_conditioned
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)


def write_foreign(folder, steps, features, split="train"):
    """A dataset as another program would write it, without the additions of `rlds.write`."""
    from array_record.python import array_record_module

    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(features)})
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name="foreign", split=split, filetype_suffix="array_record"
    )
    writer = array_record_module.ArrayRecordWriter(
        str(template.sharded_filepath(shard_index=0, num_shards=1)), "group_size:1"
    )
    for episode in steps:
        writer.write(features.serialize_example({"steps": episode}))
    writer.close()
    info = tfds.core.SplitInfo(
        name=split, shard_lengths=[len(steps)], num_bytes=1, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[info], check_data=False
    )


def test_set_of_another_program(tmp_path):
    # An episode of two transitions into a terminal state; nested observations, one of them a lossless
    # image; no discounts, no bounds, double precision.
    image = np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3)
    features = {
        "observation": {
            "state": tfds.features.Tensor(shape=(2,), dtype=np.float64),
            "image": tfds.features.Tensor(shape=(2, 2, 3), dtype=np.uint8, encoding="bytes"),
        },
        "action": tfds.features.Tensor(shape=(1,), dtype=np.float64),
        "reward": np.float64,
        "is_terminal": np.bool_,
    }
    steps = {
        "observation": {"state": np.arange(6.0).reshape(3, 2), "image": image},
        "action": np.array([[0.5], [-0.5], [0.0]]),
        "reward": np.array([1.0, 2.0, 0.0]),
        "is_terminal": np.array([False, False, True]),
    }
    write_foreign(tmp_path / "rlds" / "foreign" / "config" / "1.0.0", [steps], features)

    dataset = data.load("rlds/foreign/config", tmp_path)
    np.testing.assert_array_equal(dataset.rewards, [1, 2])
    np.testing.assert_array_equal(dataset.masks, [1, 0])
    np.testing.assert_array_equal(dataset.actions, [[0.5], [-0.5]])
    parts = unpack(dataset.next_observations, dataset.observation_parts)
    np.testing.assert_array_equal(parts["image"][0], image[1])
    np.testing.assert_array_equal(parts["state"][0], [2.0, 3.0])
    np.testing.assert_array_equal(dataset.action_high, [1])
    compact = data.load("rlds/foreign/config", tmp_path, compact=True)
    rlds.write({"train": compact}, tmp_path / "rlds" / "again" / "1.0.0")
    again = data.load("rlds/again", tmp_path)
    np.testing.assert_array_equal(again.next_observations, dataset.next_observations)
    assert again.observation_parts == dataset.observation_parts

    steps["discount"], features["discount"] = np.array([1, 2, 1], np.float32), np.float32
    write_foreign(tmp_path / "rlds" / "doubled" / "1.0.0", [steps], features)
    with pytest.raises(InputError, match=r"episode 0: discount is 2\.0 at row 1, outside 0 to 1"):
        data.load("rlds/doubled", tmp_path)


def prepared(rows, ended, final):
    """The steps of a D4RL episode as TensorFlow Datasets prepares it: `final` belongs to another episode."""
    size = len(rows) + 1
    last = np.arange(size) == size - 1
    discount = np.where(last | (np.roll(last, -1) & ended), 0.0, 1.0).astype(np.float32)
    return {
        "observation": np.append(rows, final)[:, None].astype(np.float32),
        "action": np.zeros((size, 1), np.float32),
        "reward": np.append(rows, 0)[:, None].astype(np.float32),
        "discount": discount[:, None],
        "is_terminal": last & ended,
    }


def test_final_observations_of_another_episode_are_dropped(tmp_path, caplog):
    # The successor of row 3 is lost; the mask of row 5 hides its successor. Scalars have shape [1].
    features = {
        "observation": tfds.features.Tensor(shape=(1,), dtype=np.float32),
        "action": tfds.features.Tensor(shape=(1,), dtype=np.float32, minimum=-2, maximum=2),
        "reward": tfds.features.Tensor(shape=(1,), dtype=np.float32),
        "discount": tfds.features.Tensor(shape=(1,), dtype=np.float32),
        "is_terminal": np.bool_,
    }
    write_foreign(
        tmp_path / "rlds" / "lost", [prepared([1, 2, 3], False, 9), prepared([4, 5], True, 9)], features
    )
    dataset = data.load("rlds/lost", tmp_path)
    np.testing.assert_array_equal(dataset.rewards, [1, 2, 4, 5])
    np.testing.assert_array_equal(dataset.next_observations[:, 0], [2, 3, 5, 5])
    np.testing.assert_array_equal(dataset.masks, [1, 1, 1, 0])
    np.testing.assert_array_equal(dataset.terminals, [0, 1, 0, 1])
    np.testing.assert_array_equal(dataset.action_high, [2])
    assert "all 2 episodes end with the same observation" in caplog.text
    assert "in 1 of them the last transition is dropped, because its successor is lost" in caplog.text

    caplog.clear()
    for name, other in (("kept", prepared([4, 5], True, 8)), ("reached", prepared([4, 5], True, 9))):
        first = prepared([1, 2, 3], name == "reached", 9)  # or all episodes reach one terminal state
        write_foreign(tmp_path / "rlds" / name, [first, other], features)
        assert len(data.load(f"rlds/{name}", tmp_path).rewards) == 5
    assert not caplog.text


def test_texts_are_left_out_and_a_missing_number_of_actions_is_reported(tmp_path, caplog):
    actions = {"stated": tfds.features.Tensor(shape=(), dtype=np.int64, maximum=6), "unstated": np.int64}
    text = tfds.features.Text()
    for name, action in actions.items():
        state = tfds.features.Tensor(shape=(2,), dtype=np.float32)
        features = {
            "observation": {"instruction": text, "state": state},
            "action": action,
            "reward": np.float32,
            "language": text,
        }
        steps = {
            "observation": {
                "instruction": ["go"] * 3,
                "state": np.arange(6.0, dtype=np.float32).reshape(3, 2),
            },
            "action": np.array([0, 3, 0]),
            "reward": np.zeros(3, np.float32),
            "language": ["go"] * 3,
        }
        write_foreign(tmp_path / "rlds" / name, [steps], features)
    dataset = data.load("rlds/stated", tmp_path)
    np.testing.assert_array_equal(dataset.next_observations, [[2, 3], [4, 5]])
    assert dataset.num_actions == 7
    assert "observation/instruction is text and is left out" in caplog.text
    assert "how many actions" not in caplog.text
    assert data.load("rlds/unstated", tmp_path).num_actions == 4
    assert "the number of actions is not stated; it is set to 4, as the greatest action is 3" in caplog.text

    features["observation"], steps["observation"] = text, ["here"] * 3
    write_foreign(tmp_path / "rlds" / "text", [steps], features)
    with pytest.raises(InputError, match="rlds/text: observation is text, but agents need numbers"):
        data.load("rlds/text", tmp_path)


def test_unclear_or_missing_sets(tmp_path):
    with pytest.raises(
        InputError, match=r"/rlds/nothing has no RLDS dataset: write one with: python -m experiments"
    ):
        data.load("rlds/nothing", tmp_path)
    for name in ("a", "b"):
        rlds.write({"train": made_up()}, tmp_path / "rlds" / "two" / name)
    with pytest.raises(
        InputError, match=r"unknown RLDS dataset 'two': did you mean 'two/\w'\? Known: two/a, two/b"
    ):
        data.load("rlds/two", tmp_path)
    with pytest.raises(InputError, match="unknown split 'val'; known: train"):
        data.load("rlds/two/a", tmp_path, split="val")
    with pytest.raises(InputError, match="exists already: remove it"):
        rlds.write({"train": made_up()}, tmp_path / "rlds" / "two" / "a")
    features = {"observation": tfds.features.Tensor(shape=(1,), dtype=np.float32), "reward": np.float32}
    steps = {"observation": np.zeros((2, 1), np.float32), "reward": np.zeros(2, np.float32)}
    write_foreign(tmp_path / "rlds" / "lacking", [steps], features)
    with pytest.raises(
        InputError, match="rlds/lacking: its steps lack 'action'; they have observation, reward"
    ):
        data.load("rlds/lacking", tmp_path)


def test_truncated_shard(tmp_path):
    folder = tmp_path / "rlds" / "broken"
    rlds.write({"train": made_up()}, folder)
    (shard,) = folder.glob("*.array_record*")
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(InputError, match="rlds/broken cannot be read"):
        data.load("rlds/broken", tmp_path)


def test_command_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "experiments.convert_to_rlds",
        "--dataset=ogbrench/a",
        f"--data_dir={tmp_path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: unknown data source 'ogbrench'")


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_metadata_have_no_code_imported(key, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap.py").write_text("raise SystemExit('run')\n")
    folder = tmp_path / "rlds" / "set"
    rlds.write({"train": made_up()}, folder)
    information = folder / "dataset_info.json"
    text = information.read_text()
    information.write_text(json.dumps(json.loads(text) | {"moduleName": "trap"}))
    data.load("rlds/set", tmp_path)  # only a warning

    features = json.loads((folder / "features.json").read_text())
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    assert steps["pythonClassName"].startswith("tensorflow_datasets.core.features.")
    changed = steps["featuresDict"]["features"]["reward"]
    changed.pop("pythonClassName")
    for name in ("trap.Feature", "tensorflow_datasets.core.features.features_dict;trap.Feature", "os.path"):
        changed[key] = name
        (folder / "features.json").write_text(json.dumps(features))
        with pytest.raises(
            InputError, match=f"^{folder}/features.json: {key} names '{name}', whose code"
        ) as error:
            data.load("rlds/set", tmp_path)
    assert "\n" not in str(error.value)
    information.write_text(text.replace("{DATASET}-", "/etc/{DATASET}-"))
    (folder / "features.json").write_text(json.dumps(features).replace(f'"{key}": "os.path"', '"x": ""'))
    with pytest.raises(InputError, match=f"^{information}: filepathTemplate is '/etc/"):
        data.load("rlds/set", tmp_path)


def test_a_set_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no room")

    monkeypatch.setattr(rlds, "_write_split", refuse)
    with pytest.raises(OSError, match="no room"):
        rlds.write({"train": made_up()}, tmp_path / "rlds" / "set")
    assert list((tmp_path / "rlds").iterdir()) == []
