"""Observations of an image and a vector, from environment and arrays to a loaded policy."""

import json

import gymnasium
import jax
import jax.export
import numpy as np
import pytest
from helpers import CLONING, ROOT

import valuelab as vl
from valuelab import observation_parts
from valuelab.data import normalization
from valuelab.environments import frames
from valuelab.runs import dataset_inspection, results
from valuelab.types import ObservationPart

PARTS = (ObservationPart("image", (16, 16, 3), "uint8"), ObservationPart("state", (3,), "float32"))
SMALL = {"steps": 6, "log_every": 6, "batch_size": 8, "mesh": (1, 1), "agent.hidden_dims": (8,)}
IMAGES = {"agent.encoder": "drq", "data.image_shift.pixels": 2}
SMALL |= IMAGES
ROWS, LENGTH = 40, 8


class Reach(gymnasium.Env):
    """Random images and states; `image` may be left out."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    observation_space = gymnasium.spaces.Dict(
        state=gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64),
        image=gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8),
    )

    def __init__(self, image=True, render_mode=None):
        if not image:
            state = self.observation_space["state"]
            self.observation_space = gymnasium.spaces.Dict(
                state=state, goal=gymnasium.spaces.Box(-1, 1, (2,))
            )

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        return self.observe(), float(action[0]), False, False, {}

    def observe(self):
        drawn = {
            "state": self.np_random.normal(size=3),
            "image": self.np_random.integers(0, 256, (16, 16, 3), np.uint8),
        }
        return {key: drawn[key] for key in self.observation_space}


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("PartsReach-v0", Reach, max_episode_steps=LENGTH)
    gymnasium.register("VectorReach-v0", Reach, max_episode_steps=LENGTH, kwargs={"image": False})
    yield
    for name in ("PartsReach-v0", "VectorReach-v0"):
        del gymnasium.registry[name]


def arrays():
    random = np.random.default_rng(0)
    return {
        "observations": {
            "state": random.normal(3.0, 2.0, size=(ROWS, 3)),
            "image": random.integers(0, 256, (ROWS, 16, 16, 3), np.uint8),
        },
        "actions": random.uniform(-1, 1, (ROWS, 2)),
        "rewards": random.normal(size=ROWS),
        "terminations": np.zeros(ROWS),
        "truncations": np.arange(ROWS) % LENGTH == LENGTH - 1,
    }


def test_trains_loads_and_acts_on_a_dictionary(tmp_path):
    """Both parts matter; a batch, one observation and packed bytes give the same; evaluation works."""
    dataset = vl.dataset_from_arrays(**arrays(), name="robot")
    assert dataset.observation_parts == PARTS
    vl.train(
        "iql",
        dataset,
        environment="gymnasium/PartsReach-v0",
        workdir=tmp_path,
        eval_episodes=2,
        **SMALL,
        **{"data.normalize_observations": True},
    )
    run = vl.load(tmp_path)
    assert run.spec.observation_parts == PARTS
    policy = run.policy()
    batch = {name: part[:4] for name, part in arrays()["observations"].items()}
    actions, values = policy(batch), run.value(batch)
    assert (actions.shape, values.shape) == ((4, 2), (4,))
    packed = observation_parts.pack(batch, PARTS, "batch")
    np.testing.assert_array_equal(policy(packed), actions)
    one = {name: part[1] for name, part in batch.items()}
    np.testing.assert_allclose(policy(one), actions[1], rtol=1e-4)
    for name, part in batch.items():
        assert not np.allclose(policy(batch | {name: np.roll(part, 1, axis=0)}), actions), name
        assert not np.allclose(run.value(batch | {name: np.roll(part, 1, axis=0)}), values), name
    with pytest.raises(vl.InputError, match=r"^observation has no part 'state': give image, state"):
        policy({"image": batch["image"]})
    with pytest.raises(
        vl.InputError, match=r"^observation has shape \(3,\); give a dictionary with image, state, or"
    ):
        policy(np.zeros(3))
    with pytest.raises(vl.InputError, match=r"^observation\['state'\] holds a number that is not finite"):
        policy(batch | {"state": np.full((4, 3), np.nan)})
    assert run.evaluate(episodes=1).returns.shape == (1, 1, 1)
    run.export(tmp_path / "policy.onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "policy.onnx")
    inputs = {f"observation.{part.name}": batch[part.name].astype(part.dtype) for part in PARTS}
    np.testing.assert_allclose(session.run(["action"], inputs)[0], actions, atol=1e-5)
    seen = []
    vl.evaluate(
        lambda observation: seen.append(observation) or np.zeros(2), "gymnasium/PartsReach-v0", episodes=1
    )
    assert {name: part.shape for name, part in seen[0].items()} == {"image": (16, 16, 3), "state": (3,)}


@pytest.mark.slow
def test_learns_online_from_a_dictionary(tmp_path):
    acting = {"interaction.num_environments": 2, "interaction.capacity": 40, "interaction.warmup_steps": 8}
    small = {name.replace("agent.", "agent.critic."): value for name, value in SMALL.items()}
    small |= {"agent.policy.hidden_dims": (8,), "agent.policy.encoder": "drq"}
    run = vl.train("sac", environment="gymnasium/PartsReach-v0", workdir=tmp_path, **small, **acting)
    assert run.policy()({name: part[0] for name, part in arrays()["observations"].items()}).shape == (2,)


def test_normalization_has_a_row_for_each_part():
    """The agent's numbers have mean 0 and standard deviation 1, and frames are joined part by part."""
    given = arrays()["observations"]
    dataset = vl.dataset_from_arrays(**arrays())
    rows = dataset.observations
    fitted = normalization.fit(dataset, observations=True, rewards="none")
    same = normalization.from_json(normalization.to_json(fitted))
    for name in given:
        np.testing.assert_array_equal(same.observation_mean[name], fitted.observation_mean[name])
    assert fitted.observation_std["image"].shape == (1, 1, 3)
    state = observation_parts.unpack(rows, PARTS)["state"]
    np.testing.assert_allclose(fitted.observation_mean["state"], state.mean(0), rtol=1e-5)
    np.testing.assert_allclose(fitted.observation_std["state"], state.std(0), rtol=1e-5)
    assert normalization.of_frames(fitted, 2).observation_mean["image"].shape == (16, 16, 6)
    assert normalization.make_spec(dataset, num_frames=2).observation_shape == (2 * rows.shape[1],)


def test_frames_of_a_dictionary_are_joined_in_environment_and_data(tmp_path):
    environment = frames.joined(vl.make_environment("gymnasium/PartsReach-v0"), 2)
    observation, _ = environment.make().reset(seed=0)
    image = observation_parts.unpack(observation, PARTS)["image"]
    assert image.shape == (16, 16, 6)
    np.testing.assert_array_equal(image[..., :3], image[..., 3:])
    settings = SMALL | {"data.num_frames": 2, "steps": 2, "log_every": 2}
    world = "gymnasium/PartsReach-v0"
    dataset = vl.dataset_from_arrays(**arrays())
    run = vl.train("bc", dataset, environment=world, eval_episodes=1, **settings)
    shown = observation_parts.unpack(observation, PARTS)
    np.testing.assert_array_equal(run.policy()(shown), run.policy()(observation))
    description = run.export(tmp_path / "policy.jax")
    assert [port["shape"] for port in description["inputs"]] == [["batch", 16, 16, 6], ["batch", 6]]
    exported = jax.export.deserialize((tmp_path / "policy.jax").read_bytes())
    actions = exported.call(**{f"observation.{name}": part[None] for name, part in shown.items()})["action"]
    np.testing.assert_allclose(actions[0], run.policy()(observation), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda parts: parts | {"state": np.zeros((ROWS, 4))},
            r"observations\['state'\] of arrays are float32\[4\], but float32\[3\] in PartsReach-v0: give",
        ),
        (
            lambda parts: parts | {"wrist": parts["image"]},
            r"observations\['wrist'\] of arrays are uint8\[16, 16, 3\], but missing in PartsReach-v0: give",
        ),
        (
            lambda parts: {"image": parts["image"]},
            r"observations\['state'\] of arrays are missing, but float32\[3\] in PartsReach-v0: give another",
        ),
    ],
)
def test_the_part_that_differs_from_the_environment_is_named(change, message):
    given = arrays()
    dataset = vl.dataset_from_arrays(**given | {"observations": change(given["observations"])})
    with pytest.raises(vl.InputError, match=message):
        vl.train("bc", dataset, environment="gymnasium/PartsReach-v0", **SMALL)


def test_faults_name_part_and_row():
    given = arrays()
    given["observations"]["state"][5, 1] = np.nan
    with pytest.raises(vl.InputError, match=r"observations\['state'\] is nan at row 5, but must be finite"):
        vl.dataset_from_arrays(**given)
    given = arrays()
    following = {"image": given["observations"]["image"]}
    with pytest.raises(vl.InputError, match="next: observations has the entries image, but others have"):
        vl.dataset_from_arrays(**given, next_observations=following)
    given["observations"]["image"] = given["observations"]["image"][:, :6, :6]
    small = vl.dataset_from_arrays(**given)
    with pytest.raises(
        vl.InputError, match=r"^bc cannot be made for arrays: observations\['image'\] are images"
    ):
        vl.train("bc", small, **SMALL)


def test_an_agent_that_takes_no_dictionary_says_so():
    with pytest.raises(
        vl.InputError, match=r"^observations have the parts image, state, but this agent does not"
    ):
        vl.train(str(ROOT / CLONING), vl.dataset_from_arrays(**arrays()), steps=2, batch_size=8, mesh=(1, 1))


def test_inspection_describes_each_part():
    """Jumps and coverage are those of the vectors."""
    given = arrays()
    report = vl.describe(vl.dataset_from_arrays(**given), show=False)
    parts = report["observations"]["parts"]
    assert (parts["image"]["images"], parts["state"]["images"]) == (True, False)
    states = given["observations"]["state"][~given["truncations"]]
    np.testing.assert_allclose(parts["state"]["max"], states.max(0), rtol=1e-6)
    assert parts["image"]["min"] == 0
    alone = vl.dataset_from_arrays(**given | {"observations": given["observations"]["state"]})
    assert vl.describe(alone, show=False)["coverage"]["effective_dimension"] == pytest.approx(
        report["coverage"]["effective_dimension"]
    )
    lines = dataset_inspection.summary(report)
    assert lines["observations image"].startswith("images 16 x 16 x 3, uint8; 0 to 255")
    assert lines["observations state"].startswith("3 dimensions, float32")


def test_a_dictionary_of_vectors_stays_one_vector(capsys):
    """Which is said once; it is so in an environment and in arrays."""
    for _ in range(2):
        space = vl.make_environment("gymnasium/VectorReach-v0").make().observation_space
    assert space.shape == (5,)
    given = {"state": np.ones((ROWS, 3)), "goal": np.zeros(ROWS)}
    dataset = vl.dataset_from_arrays(**arrays() | {"observations": given})
    assert dataset.observations[0].tolist() == [1, 1, 1, 0]
    assert dataset.observation_parts == ()
    assert dataset.observation_entries == ("state", "goal")
    assert capsys.readouterr().out.splitlines() == [
        "observations of VectorReach-v0 are joined into one vector of 5 numbers: state 3, goal 2",
        "observations of dataset 'arrays' are joined into one vector of 4 numbers: state, goal",
    ]


def test_vectors_that_are_joined_in_another_order_than_in_the_environment_are_refused(tmp_path):
    """Where only the order differs; other names may be other words for the same entries."""
    entries = {"state": np.ones((ROWS, 3)), "goal": np.zeros((ROWS, 2))}
    swapped = dict(reversed(entries.items()))
    given = {name: value for name, value in SMALL.items() if name not in IMAGES}
    given |= {"environment": "gymnasium/VectorReach-v0", "eval_episodes": 1}
    message = r"are joined in the order goal, state, but in the order state, goal in VectorReach-v0: give the"
    with pytest.raises(vl.InputError, match=message):
        vl.train("bc", vl.dataset_from_arrays(**arrays() | {"observations": swapped}), **given)
    given["eval_episodes"] = 0
    run = vl.train("bc", vl.dataset_from_arrays(**arrays() | {"observations": entries}), **given)
    assert run.spec.observation_entries == ("state", "goal")
    assert results.spec_from_json(json.loads(json.dumps(results.spec_to_json(run.spec)))) == run.spec
