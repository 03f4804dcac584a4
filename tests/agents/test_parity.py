"""Losses, gradients and updates of published agents equal those written out from the papers' equations.

The equations stand in `reference_updates`, which shares nothing with valuelab. Both sides compute in float64
from the same random parameters, Adam's moments at 0, with the same batches and random numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import reference_updates
from reference_updates import State

from valuelab.agents.actor_critic import ActorCriticState
from valuelab.agents.composed import ComposedConfig, composed
from valuelab.critics.contrastive import ContrastiveConfig
from valuelab.critics.expectile import ExpectileConfig
from valuelab.critics.flow import FlowCriticConfig
from valuelab.critics.implicit_quantile import ImplicitQuantileConfig
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.critics.quasimetric import QuasimetricConfig
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.awr import AWRConfig
from valuelab.policies.best_of_flow import BestOfFlowConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.policies.hierarchical import HierarchicalConfig
from valuelab.policies.noisy import NoisyConfig, noisy
from valuelab.policies.one_step_flow import OneStepFlowConfig, one_step_flow
from valuelab.policies.rebrac import ReBRACConfig
from valuelab.types import Estimates, Spec, Transitions

SPEC = Spec((3,), "float64", 2, 0, -1.0, 1.0, num_updates=10)
GOALS = dataclasses.replace(SPEC, goal_conditioned=True)
SIZE = 6
WIDTHS = (8, 8)
STATE_INPUTS = ("observations", "rewards", "masks", "next_observations")
INPUTS = (*STATE_INPUTS, "actions")
TOLERANCE = 1e-7
"""Of losses, moments and parameters, relative to the largest entry of an array.

Rounding alone gives 1e-15, but 1e-8 in parameters whose gradient is 0, because Adam divides it by ε = 1e-8.
"""

Draws = dict[str, Any]


# The random numbers of one update, from the keys that critic and policy carry.


def keys_of(state: Any, number: int) -> Any:
    return jax.random.split(jax.random.fold_in(state.key, state.step), number)


def no_draws(config: ComposedConfig, state: Any) -> Draws:
    return {}


def cloning_draws(config: ComposedConfig, state: Any) -> Draws:
    noise_key, time_key = keys_of(state.policy, 2)
    return {
        "start": jax.random.normal(noise_key, (SIZE, 2)),
        "action_times": jax.random.uniform(time_key, (SIZE, 1)),
    }


def one_step_draws(config: ComposedConfig, state: Any) -> Draws:
    noise_key, time_key = keys_of(state.policy, 2)
    start, noise = jax.random.normal(noise_key, (2, SIZE, 2))
    return {"start": start, "noise": noise, "action_times": jax.random.uniform(time_key, (SIZE, 1))}


def fql_draws(config: ComposedConfig, state: Any) -> Draws:
    action_key, _ = keys_of(state.critic, 2)
    return one_step_draws(config, state) | {"next_noise": jax.random.normal(action_key, (SIZE, 2))}


def iqn_draws(config: ComposedConfig, state: Any) -> Draws:
    action_key, target_key, level_key = keys_of(state.critic, 3)
    return one_step_draws(config, state) | {
        "next_noise": jax.random.normal(action_key, (SIZE, 2)),
        "target_levels": jax.random.uniform(target_key, (SIZE, config.critic.num_target_levels)),
        "levels": jax.random.uniform(level_key, (SIZE, config.critic.num_levels)),
    }


def floq_draws(config: ComposedConfig, state: Any) -> Draws:
    action_key, draw_key = keys_of(state.critic, 2)
    num_draws = config.critic.num_draws
    keys = jax.random.split(action_key, num_draws if config.critic.next_actions == "each_draw" else 1)
    shares = jax.random.uniform(draw_key, (4, SIZE, num_draws))
    return one_step_draws(config, state) | {
        "next_noise": jax.vmap(lambda key: jax.random.normal(key, (SIZE, 2)))(keys),
        **dict(zip(("target_shares", "shares", "times", "distilled_shares"), shares, strict=True)),
    }


def rebrac_draws(config: ComposedConfig, state: Any) -> Draws:
    action_key, _ = keys_of(state.critic, 2)
    return {"next_noise": jax.random.normal(action_key, (SIZE, 2))}


# The agents.


class Case(NamedTuple):
    """An agent and its equations.

    Attributes:
        config: of the agent.
        reference: one update by the equations.
        draws: the random numbers of the next update of a state.
        updates: the number of updates that are compared.
        seed: of the parameters. With 38, the smaller of two fields depends on the noise draw, so that
            "min" and "min_of_means" differ.
        spec: of the data.
        loss: the critic's loss.
        inputs: the parts of the batch that change it.
    """

    config: ComposedConfig
    reference: Callable[..., tuple[State, dict[str, Any]]]
    draws: Callable[[ComposedConfig, Any], Draws]
    updates: int = 2
    seed: int = 0
    spec: Spec = SPEC
    loss: str = "critic/q_loss"
    inputs: tuple[str, ...] = INPUTS


CRITIC = {"hidden_dims": WIDTHS, "learning_rate": 0.01, "target_rate": 0.1, "discount": 0.9}
POLICY = {"hidden_dims": WIDTHS, "learning_rate": 0.02}
FIELD = {
    "field_hidden_dims": WIDTHS,
    "num_draws": 3,
    "num_steps": 2,
    "num_bins": 5,
    "bin_width": 0.6,
    "coverage": 0.8,
    "integration_dtype": "float64",  # for this test alone: float32 and bfloat16 would round
}
CASES = {
    "iql": Case(
        config=ComposedConfig(
            critic=ExpectileConfig(**CRITIC, expectile=0.8),
            policy=AWRConfig(
                **POLICY, inverse_temperature=2.0, weight_max=1.5, learning_rate_schedule="cosine"
            ),
        ),
        reference=reference_updates.iql,
        draws=no_draws,
    ),
    "ivl": Case(
        config=ComposedConfig(
            critic=ImplicitStateValueConfig(**CRITIC, expectile=0.8),
            policy=AWRConfig(**POLICY, inverse_temperature=2.0, weight_max=1.5),
        ),
        reference=reference_updates.ivl,
        draws=no_draws,
        loss="critic/value_loss",
        inputs=STATE_INPUTS,
    ),
    "ivl_goals": Case(
        config=ComposedConfig(
            critic=ImplicitStateValueConfig(**CRITIC, expectile=0.7, representation_dim=4),
            policy=AWRConfig(**POLICY, inverse_temperature=2.0, weight_max=1.5),
        ),
        reference=reference_updates.ivl,
        draws=no_draws,
        spec=GOALS,
        loss="critic/value_loss",
        inputs=(*STATE_INPUTS, "goals"),
    ),
    "hiql": Case(
        config=ComposedConfig(
            critic=ImplicitStateValueConfig(
                **CRITIC, expectile=0.7, representation_dim=4, cloning_gradient=True
            ),
            policy=HierarchicalConfig(
                **POLICY, low_inverse_temperature=2.0, high_inverse_temperature=3.0, weight_max=1.5
            ),
        ),
        reference=reference_updates.hiql,
        draws=no_draws,
        spec=GOALS,
        loss="critic/value_loss",
        inputs=(*INPUTS, "subgoals", "goals"),
    ),
    "ifql": Case(
        config=ComposedConfig(
            critic=ExpectileConfig(**CRITIC, expectile=0.9, activation="gelu", layer_norm=True),
            policy=BestOfFlowConfig(**POLICY),
        ),
        reference=reference_updates.ifql,
        draws=cloning_draws,
    ),
    "fql": Case(
        config=ComposedConfig(
            critic=TemporalDifferenceConfig(**CRITIC),
            policy=OneStepFlowConfig(**POLICY, num_steps=2, bc_weight=3.0),
        ),
        reference=reference_updates.fql,
        draws=fql_draws,
    ),
    "iqn": Case(
        config=ComposedConfig(
            critic=ImplicitQuantileConfig(
                **CRITIC,
                aggregation="min",
                num_levels=2,
                num_target_levels=2,
                num_read_levels=2,
                num_waves=5,
                huber=0.7,
            ),
            policy=OneStepFlowConfig(**POLICY, num_steps=2, bc_weight=3.0, normalize_q=True),
        ),
        reference=reference_updates.iqn,
        draws=iqn_draws,
    ),
    "floq": Case(
        config=ComposedConfig(
            critic=FlowCriticConfig(**CRITIC, **FIELD, time_embedding="cosine", aggregation="min"),
            policy=OneStepFlowConfig(**POLICY, num_steps=2, bc_weight=3.0),
        ),
        reference=reference_updates.floq,
        draws=floq_draws,
        seed=38,
        loss="critic/field_loss",
    ),
    "floq_fourier": Case(
        config=ComposedConfig(
            critic=FlowCriticConfig(
                **CRITIC,
                **FIELD,
                time_embedding="fourier",
                time_size=6,
                time_scale=1.5,
                time_fastest=3.0,
                aggregation="min_of_means",
                next_actions="shared",
            ),
            policy=OneStepFlowConfig(**POLICY, num_steps=2, bc_weight=3.0),
        ),
        reference=reference_updates.floq,
        draws=floq_draws,
        seed=38,
        loss="critic/field_loss",
    ),
    "rebrac": Case(
        config=ComposedConfig(
            critic=TemporalDifferenceConfig(**CRITIC, aggregation="min", q_aggregation="min"),
            policy=ReBRACConfig(
                **POLICY, activation="gelu", bc_weight=0.3, target_weight=0.2, target_rate=0.2
            ),
        ),
        reference=reference_updates.rebrac,
        draws=rebrac_draws,
        updates=3,
        inputs=(*INPUTS, "next_actions"),
    ),
    "crl": Case(
        config=ComposedConfig(
            critic=ContrastiveConfig(hidden_dims=WIDTHS, learning_rate=0.01, latent_dim=4),
            policy=DDPGBCConfig(**POLICY, mean="clip", learn_std=False, bc_weight=0.1),
        ),
        reference=reference_updates.crl,
        draws=no_draws,
        seed=1,
        spec=GOALS,
        inputs=("observations", "actions", "goals"),
    ),
    "crl_awr": Case(
        config=ComposedConfig(
            critic=ContrastiveConfig(
                hidden_dims=WIDTHS, learning_rate=0.01, latent_dim=4, loss="symmetric", state_value=True
            ),
            policy=AWRConfig(**POLICY, mean="clip", learn_std=False, inverse_temperature=0.3, weight_max=1.5),
        ),
        reference=reference_updates.crl,
        draws=no_draws,
        seed=1,
        spec=GOALS,
        inputs=("observations", "actions", "goals"),
    ),
} | {
    f"qrl_{kind}": Case(
        config=ComposedConfig(
            critic=QuasimetricConfig(
                **{"hidden_dims": WIDTHS, "learning_rate": 0.01, "quasimetric": kind},
                **{"latent_dim": 8, "group_size": 4, "offset": 5.0, "softness": 3.0, "margin": 0.2},
            ),
            policy=DDPGBCConfig(**POLICY, activation="gelu", mean="clip", learn_std=False, bc_weight=0.3),
        ),
        reference=reference_updates.qrl,
        draws=no_draws,
        spec=GOALS,
        loss="critic/loss",
        inputs=("observations", "actions", "next_observations", "goals"),
    )
    for kind in ("iqe", "mrn")
}


# Both sides.


def example_batch(seed: int, spec: Spec = SPEC) -> Transitions:
    random = np.random.default_rng(seed)
    observations, next_observations = random.normal(size=(2, SIZE, 3))
    batch = Transitions(
        observations=observations,
        actions=random.uniform(-1, 1, (SIZE, 2)),
        rewards=random.uniform(-1, 1, SIZE),
        masks=np.roll([1.0, 1, 0, 1, 1, 0], seed),
        next_observations=next_observations,
        next_actions=random.uniform(-1, 1, (SIZE, 2)),
        goals=random.normal(size=(SIZE, 3)) if spec.goal_conditioned else None,
        policy_goals=random.normal(size=(SIZE, 3)) if spec.goal_conditioned else None,
    )
    if not spec.goal_conditioned:
        return batch
    names = ("goals", "policy_goals", "subgoals", "policy_subgoals")
    goals = dict(zip(names, random.normal(size=(4, SIZE, 3)), strict=True))
    return batch._replace(next_actions=None, **goals)


def random_state(agent: Any, seed: int, spec: Spec) -> Any:
    """A state with random parameters and target parameters, of biases and layer norms too."""
    shapes = jax.eval_shape(agent.init, jax.random.key(0), example_batch(0, spec))
    random = np.random.default_rng(seed)

    def fill(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: 0.7 * random.normal(size=leaf.shape), tree)

    def zero(leaf: Any) -> Any:
        return np.zeros(leaf.shape, np.int32 if leaf.dtype == np.int32 else np.float64)

    def start(state: Any, seed: int) -> Any:
        return state._replace(
            params=fill(state.params),
            target_params=fill(state.target_params),
            opt_state=jax.tree.map(zero, state.opt_state),
            step=np.zeros((), np.int32),
            key=jax.random.key(seed),
        )

    return shapes._replace(critic=start(shapes.critic, 1), policy=start(shapes.policy, 2))


def named(owner: str, tree: Any) -> dict[str, Any]:
    """Parameters by the names of their parts: "policy", or "policy/field" and "policy/policy"."""
    return {owner: tree} if "params" in tree else {f"{owner}/{name}": part for name, part in tree.items()}


def moments(owner: str, params: Any, opt_state: Any) -> dict[str, list[Any]]:
    """Adam's first moment, second moment and count of each part."""
    if isinstance(opt_state, dict):
        adams = {f"{owner}/{name}": part[0] for name, part in opt_state.items()}
        return {name: [adam.mu, adam.nu, adam.count] for name, adam in adams.items()}
    first, second = (named(owner, part) for part in (opt_state[0].mu, opt_state[0].nu))
    return {name: [first[name], second[name], opt_state[0].count] for name in named(owner, params)}


def as_reference(state: Any) -> State:
    """The state of an agent in the reference's form."""
    params, targets, adams = {}, {}, {}
    for owner, part in state._asdict().items():
        params |= named(owner, part.params)
        targets |= named(owner, part.target_params)
        adams |= moments(owner, part.params, part.opt_state)
    first, second, counts = ({name: adams[name][place] for name in adams} for place in range(3))
    return State(params=params, targets=targets, first=first, second=second, counts=counts)


class Sides(NamedTuple):
    """The agent and the equations of a case.

    Attributes:
        state: the agent's first state.
        ours: (state, batch) -> (state, metrics), compiled.
        theirs: (State, batch, draws) -> (State, losses), compiled.
        draws: state -> the random numbers of its next update.
    """

    state: Any
    ours: Callable[[Any, Transitions], tuple[Any, dict[str, Any]]]
    theirs: Callable[[State, Transitions, Draws], tuple[State, dict[str, Any]]]
    draws: Callable[[Any], Draws]


@functools.cache
def sides(name: str) -> Sides:
    case = CASES[name]
    agent = composed(case.config, case.spec)
    constants = {"c": case.config.critic, "p": case.config.policy, "spec": case.spec}
    return Sides(
        state=random_state(agent, case.seed, case.spec),
        ours=jax.jit(agent.update),
        theirs=jax.jit(functools.partial(case.reference, **constants)),
        draws=functools.partial(case.draws, case.config),
    )


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Float64 on both sides; the reference leaves broadcasting to JAX, which our own code states."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def assert_equal(ours: Any, theirs: Any) -> None:
    """Every array is equal to TOLERANCE, relative to its largest entry."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, one), other in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        scale = max(float(np.abs(other).max()), 1e-3)
        np.testing.assert_allclose(
            one, other, rtol=0, atol=TOLERANCE * scale, err_msg=jax.tree_util.keystr(path)
        )


def difference(one: Any, other: Any) -> float:
    """The largest difference of two trees of arrays, relative to the largest entry of each array."""

    def relative(one: Any, other: Any) -> float:
        return float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-3))

    return max(jax.tree.leaves(jax.tree.map(relative, one, other)))


@pytest.mark.parametrize("name", CASES)
def test_updates_equal_those_of_the_equations(name):
    """Losses, Adam's moments (after the first update they are the gradients), parameters and targets."""
    state, update, equations, draws_of = sides(name)
    theirs = as_reference(state)
    for number in range(CASES[name].updates):
        batch, draws = example_batch(number, CASES[name].spec), draws_of(state)
        state, metrics = update(state, batch)
        theirs, losses = equations(theirs, batch, draws)
        assert_equal({loss: metrics[loss] for loss in losses}, losses)
        assert_equal(as_reference(state), theirs)
    start = as_reference(sides(name).state)
    moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), theirs[:2], start[:2])
    assert min(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize("name", ["study_flow", "study_noisy"])
def test_policies_of_the_zero_shot_study_equal_their_equations(name):
    """One update of the policy alone. Q is a given function; the last entry of an observation is the task."""
    spec = dataclasses.replace(SPEC, task_dim=1)
    if name == "study_flow":
        config = OneStepFlowConfig(
            **{**POLICY, "num_steps": 2, "bc_weight": 3.0, "normalize_q": True, "task_embedding": True},
            **{"field_hidden_dims": (6,), "field_learning_rate": 0.05},
        )
        policy = one_step_flow(config, spec)
    else:
        config = NoisyConfig(**POLICY, noise=0.8, noise_max=0.3, task_embedding=True)
        policy = noisy(config, spec)

    def q(observations: Any, actions: Any) -> Any:
        return (jax.numpy.sin(3 * actions) * observations[:, :2]).sum(-1) + observations[:, 2]

    batch = example_batch(0)
    shapes = jax.eval_shape(policy.init, jax.random.key(0), batch)
    random = np.random.default_rng(0)
    state = shapes._replace(
        params=jax.tree.map(lambda leaf: 0.7 * random.normal(size=leaf.shape), shapes.params),
        opt_state=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state),
        step=np.zeros((), np.int32),
        key=jax.random.key(2),
    )

    @jax.jit
    def both(state: Any) -> Any:
        if name == "study_flow":
            draws = one_step_draws(None, ActorCriticState(critic=None, policy=state))
        else:
            draws = {"noise": jax.random.normal(jax.random.fold_in(state.key, 0), (SIZE, 2))}
        params = named("policy", state.params)
        zeros = jax.tree.map(jax.numpy.zeros_like, params)
        start = State(params, {}, zeros, zeros, dict.fromkeys(params, 0))
        theirs, loss = getattr(reference_updates, name)(start, batch, {**draws, "q": q}, config, 2)
        return policy.update(state, batch, Estimates(q=q)), theirs.params, loss

    (after, metrics), expected, loss = both(state)
    assert_equal(named("policy", after.params), expected)
    if name == "study_noisy":
        assert_equal(metrics["loss"], loss)
    assert difference(named("policy", after.params), named("policy", state.params)) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_every_input_changes_the_losses(name):
    """All parts of the batch that the critic uses change its loss, and all random numbers some loss."""
    case, (state, update, equations, draws_of) = CASES[name], sides(name)
    batch, other = (example_batch(seed, case.spec) for seed in (0, 1))
    before = update(state, batch)[1][case.loss]
    for changed in case.inputs:
        after = update(state, batch._replace(**{changed: getattr(other, changed)}))[1][case.loss]
        assert difference(after, before) > 1e-4, changed

    theirs, draws = as_reference(state), draws_of(state)
    losses = equations(theirs, batch, draws)[1]
    for changed, numbers in draws.items():
        after = equations(theirs, batch, draws | {changed: np.flip(numbers)})[1]
        assert difference(after, losses) > 1e-4, changed


@pytest.mark.parametrize("name", ["floq", "floq_fourier"])
def test_the_field_depends_on_z_and_time(name):
    """v(z, t | s, a) equals its equation, and changes with each of its inputs."""
    config, (state, *_) = CASES[name].config, sides(name)
    critic = composed(config, SPEC).critic
    batch, z = example_batch(0), np.random.default_rng(0).uniform(-5, 5, (2, SIZE))
    inputs = (batch.observations, batch.actions, z, np.full(SIZE, 0.4))

    @jax.jit
    def ours(s: Any, a: Any, z: Any, t: Any) -> Any:
        return critic.diagnostics.flow.velocity(state.critic, s, a)(z[..., None], t[:, None])[..., 0]

    velocities = ours(*inputs)
    field = state.critic.params["field"]
    assert_equal(velocities, reference_updates.velocities(field, config.critic, SPEC, *inputs))
    for place in range(4):
        changed = [one + 0.3 if place == number else one for number, one in enumerate(inputs)]
        assert difference(ours(*changed), velocities) > 1e-3


@pytest.mark.parametrize("order", ["average first", "old value", "online critic", "average old"])
def test_other_published_orders_of_iql_are_told_apart(order):
    """The order of IQL's steps shows after one update."""
    case, (state, update, _, draws_of) = CASES["iql"], sides("iql")
    theirs, _ = jax.jit(
        lambda start: case.reference(
            start, example_batch(0), draws_of(state), case.config.critic, case.config.policy, SPEC, order
        )
    )(as_reference(state))
    ours = as_reference(update(state, example_batch(0))[0])
    assert difference([ours.params, ours.targets], [theirs.params, theirs.targets]) > 1e-4
