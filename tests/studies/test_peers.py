"""The straightforward forms compute the mathematics of our agents, and ratios are of the same rounds."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags as absl_flags
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.studies.speed import agent as speed_of_agent
from experiments.studies.speed import peers
from experiments.studies.speed.peers import CASES, PeersConfig
from valuelab.agents.zero_shot import ZeroShotState
from valuelab.errors import InputError
from valuelab.training import throughput

FLOW_POLICY = ("--agent.policy.hidden_dims=16,16", "--agent.policy.num_steps=2")
FLOQ = ("--agent.critic.num_draws=2", "--agent.critic.num_steps=2", "--agent.critic.hidden_dims=16,16,16")
ENCODERS = ("state_dims=16,16", "task_dims=16", "state_dim=4", "task_dim=4", "predictor_dims=16,16")
SMALL = {
    "iql": ("--agent.hidden_dims=16,16",),
    "iql_4x512": ("--agent.hidden_dims=16,16",),
    "fql": ("--agent.critic.hidden_dims=16,16", *FLOW_POLICY),
    # With narrow histograms some bins have gradients near 0, of which Adam makes steps from rounding alone.
    "floq": (*FLOQ, *FLOW_POLICY, "--agent.critic.bin_width=16"),
    "td_jepa": (
        *(f"--agent.critic.{size}" for size in ENCODERS),
        *FLOW_POLICY,
        "--agent.policy.normalize_q=True",
    ),
}
"""Flags that make the networks of a case small."""


def ordered(params: Any) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """The paths of the parameters of each kind, by layer: those of nested modules come first."""
    flat = flatten_dict(params)

    def place(path: tuple[str, ...]) -> list[tuple[bool, str, int]]:
        parts = (re.fullmatch(r"(.*?)_?(\d*)", part).groups() for part in path)
        return [
            (index == len(path) - 2, name, int(number or 0)) for index, (name, number) in enumerate(parts)
        ]

    kinds: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for path in sorted(flat, key=place):
        kind = "norm" if (*path[:-1], "scale") in flat else "dense"
        kinds.setdefault((kind, path[-1]), []).append(path)
    return kinds


def copied(ours: Any, form: Any) -> Any:
    """Our parameters in the structure of the straightforward form."""
    flat, theirs, kinds = flatten_dict(ours), flatten_dict(form), ordered(ours)
    for kind, paths in ordered(form).items():
        for path, source in zip(paths, kinds.pop(kind), strict=True):
            assert theirs[path].size == flat[source].size
            theirs[path] = flat[source].reshape(theirs[path].shape)
    assert not kinds
    return unflatten_dict(theirs)


def whole_field(params: Any) -> dict[str, Any]:
    """The parameters of our field with its first layer in one piece."""
    layers = params["params"]
    parts = [layers[name]["kernel"] for name in ("state_layer", "value_layer", "time_layer")]
    first = {"kernel": jnp.concatenate(parts, axis=-2), "bias": layers["state_layer"]["bias"]}
    hidden, output = layers["hidden_layers"], layers["output_layer"]
    return {"params": {"first": {"Dense": first}, "hidden": hidden, "Dense": output}}


def parts(state: Any) -> dict[str, Any]:
    """The parameters of our state, by the names of the straightforward state."""
    if isinstance(state, ZeroShotState):
        return parts(state.learner)
    critic, policy = state.critic, state.policy.params
    if "field" in critic.params:
        field, target_field = (
            whole_field(params["field"]) for params in (critic.params, critic.target_params)
        )
        q = critic.params["distilled"]
        return {"field": field, "target_field": target_field, "q": q, "policy": policy}
    if "value" in critic.params:
        return {**critic.params, "target_q": critic.target_params["q"], "policy": policy}
    if "task_encoder" in critic.params:
        return {"critic": critic.params, "target": critic.target_params, "policy": policy}
    return {"q": critic.params, "target_q": critic.target_params, "policy": policy}


def params_of(state: Any) -> dict[str, Any]:
    """The parameters of a straightforward state."""
    return {name: getattr(part, "params", part) for name, part in state._asdict().items()}


def with_params(state: Any, params: Mapping[str, Any]) -> Any:
    """A straightforward state with other parameters."""
    parts = state._asdict()
    return state._replace(
        **{
            name: part.replace(params=params[name]) if isinstance(part, TrainState) else params[name]
            for name, part in parts.items()
        }
    )


def as_form(ours: Any, form: Any) -> dict[str, Any]:
    """Our parameters in the structure of the straightforward form."""
    named = parts(ours)
    return {name: copied(named[name], params) for name, params in params_of(form).items()}


@pytest.fixture
def broadcasting():
    """The straightforward forms leave broadcasting to JAX, which our own code states."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def same_random_numbers(monkeypatch):
    """Random numbers depend on their last two axes alone, not on keys or on how many calls draw them."""
    for name in ("normal", "uniform"):
        drawn = getattr(jax.random, name)

        def draw(key, shape, *rest, drawn=drawn, **others):
            return jnp.broadcast_to(drawn(jax.random.key(7), shape[-2:], *rest, **others), shape)

        monkeypatch.setattr(jax.random, name, draw)
    monkeypatch.setattr(jax.random, "permutation", lambda key, rows: jnp.roll(rows, 1, axis=0))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("broadcasting", "same_random_numbers")
def test_the_straightforward_form_learns_the_same(name):
    case = CASES[name]
    given = {flag.partition("=")[0]: flag for flag in (*case.flags, *SMALL[name])}
    config, make_agent = speed_of_agent.parse(["agent", *given.values()], absl_flags.FlagValues())
    agent, form = make_agent(config.agent, config.spec), case.make(config.agent, config.spec)
    sampler = throughput.synthetic_sampler(config.spec, 8, num_rows=32)
    batch = sampler.sample(jax.tree.map(jnp.asarray, sampler.arrays), jax.random.key(0))

    ours = jax.jit(agent.init)(jax.random.key(1), batch)
    # Adam starts at zero, and the parameters are ours: the form's own initial weights are not needed.
    shapes = jax.eval_shape(form.init, jax.random.key(2), batch)
    theirs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    start = as_form(ours, theirs)
    theirs = with_params(theirs, start)
    update, straightforward = jax.jit(agent.update), jax.jit(form.update)
    for _ in range(2):
        ours, _ = update(ours, batch)
        theirs, _ = straightforward(theirs, batch, jax.random.key(3))

    learnt = params_of(theirs)
    jax.tree.map(
        lambda *both: np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-5), learnt, as_form(ours, theirs)
    )
    moved = jax.tree.map(lambda *both: float(jnp.abs(jnp.subtract(*both)).max()), learnt, start)
    assert min(jax.tree.leaves(moved)) > 1e-7


def test_forms_are_timed_in_turn():
    calls = []
    runs = [lambda: calls.append("ours"), lambda: calls.append("theirs")]
    timings = peers.in_turn(runs, rounds=3)
    assert calls == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert [len(timing) for timing in timings] == [2, 2, 2]


def test_the_spread_of_ratios():
    spread = peers.spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (spread["median"], spread["quartiles"]) == (3.0, [2.0, 4.0])


def test_an_unknown_case_is_refused():
    with pytest.raises(InputError, match="did you mean 'iql_4_seeds'"):
        PeersConfig(cases=("iql_4_seed",))


@pytest.mark.slow
@pytest.mark.usefixtures("broadcasting")
def test_two_cases_are_measured(tmp_path, monkeypatch):
    small = {
        name: CASES[name]._replace(flags=(*CASES[name].flags, *SMALL["iql"]))
        for name in ("iql", "iql_4_seeds")
    }
    monkeypatch.setattr(peers, "CASES", small)
    out = tmp_path / "peers.json"
    peers.main(PeersConfig(cases=tuple(small), rounds=2, seconds=0.01, out=str(out)))
    assert '"iql_4_seeds"' in out.read_text()
