"""The straightforward forms compute the mathematics of our agents, and ratios are of the same rounds."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags as absl_flags
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.studies.speed import agent as speed_of_agent
from experiments.studies.speed import peers
from experiments.studies.speed.peers import CASES, PeersConfig
from experiments.studies.speed.straightforward import IQLState
from valuelab.errors import InputError
from valuelab.training import throughput

IQL = ("--agent.hidden_dims=16,16",)
SMALL = {"iql": IQL, "iql_4x512": IQL}
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


def iql_params(state: Any) -> list[Any]:
    """The parameters of both forms in the same order."""
    if isinstance(state, IQLState):
        return [state.value.params, state.q.params, state.target_q, state.policy.params]
    critic = state.critic
    return [critic.params["value"], critic.params["q"], critic.target_params["q"], state.policy.params]


def with_iql_params(state: IQLState, params: list[Any]) -> IQLState:
    value, q, target_q, policy = params
    return IQLState(
        value=state.value.replace(params=value),
        q=state.q.replace(params=q),
        target_q=target_q,
        policy=state.policy.replace(params=policy),
    )


PARAMS = {"iql": (iql_params, with_iql_params), "iql_4x512": (iql_params, with_iql_params)}


@pytest.fixture
def broadcasting():
    """The straightforward forms leave broadcasting to JAX, which our own code states."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def same_random_numbers(monkeypatch):
    """Random numbers depend on their shape alone, so they do not depend on how keys are derived."""
    for name in ("normal", "uniform"):
        drawn = getattr(jax.random, name)
        monkeypatch.setattr(
            jax.random,
            name,
            lambda key, shape, *rest, drawn=drawn, **others: drawn(jax.random.key(7), shape, *rest, **others),
        )
    monkeypatch.setattr(jax.random, "permutation", lambda key, rows: jnp.roll(rows, 1, axis=0))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("broadcasting", "same_random_numbers")
def test_the_straightforward_form_learns_the_same(name):
    case = CASES[name]
    config, make_agent = speed_of_agent.parse(["agent", *case.flags, *SMALL[name]], absl_flags.FlagValues())
    agent, form = make_agent(config.agent, config.spec), case.make(config.agent, config.spec)
    sampler = throughput.synthetic_sampler(config.spec, 8, num_rows=32)
    batch = sampler.sample(jax.tree.map(jnp.asarray, sampler.arrays), jax.random.key(0))
    params_of, with_params = PARAMS[name]

    ours = jax.jit(agent.init)(jax.random.key(1), batch)
    theirs = jax.jit(form.init)(jax.random.key(2), batch)
    start = [copied(*both) for both in zip(params_of(ours), params_of(theirs), strict=True)]
    theirs = with_params(theirs, start)
    update, straightforward = jax.jit(agent.update), jax.jit(form.update)
    for _ in range(2):
        ours, _ = update(ours, batch)
        theirs, _ = straightforward(theirs, batch, jax.random.key(3))

    learnt = params_of(theirs)
    expected = [copied(*both) for both in zip(params_of(ours), learnt, strict=True)]
    for part, wanted, first in zip(learnt, expected, start, strict=True):
        jax.tree.map(lambda *both: np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-5), part, wanted)
        moved = jax.tree.map(lambda *both: float(jnp.abs(jnp.subtract(*both)).max()), part, first)
        assert max(jax.tree.leaves(moved)) > 1e-7


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
    small = {name: CASES[name]._replace(flags=(*CASES[name].flags, *IQL)) for name in ("iql", "iql_4_seeds")}
    monkeypatch.setattr(peers, "CASES", small)
    out = tmp_path / "peers.json"
    peers.main(PeersConfig(cases=tuple(small), rounds=2, seconds=0.01, out=str(out)))
    assert '"iql_4_seeds"' in out.read_text()
