"""D-eta-N: stock editing, targets, first stocks and scores, against numbers worked out by hand."""

import dataclasses
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.agents import command_objectives
from valuelab.agents.command_objectives import Family
from valuelab.agents.eta_network import EtaNetworkConfig, eta_network
from valuelab.distributional import objectives
from valuelab.errors import InputError
from valuelab.networks.encoders import Convolutions
from valuelab.networks.quantiles import ReturnAtoms
from valuelab.types import Augmented, Spec, Transitions

TWO_STATES = Spec((2,), "float32", 0, 2, -2.0, 3.0, num_updates=1000)
SMALL = EtaNetworkConfig(
    hidden_dims=(32, 32),
    num_atoms=8,
    stock_low=-8.0,
    stock_high=8.0,
    stock_edits=16,
    stock_points=17,
    discount=1.0,
    learning_rate=5e-3,
    target_period=50,
    commands=(0.25, 1.0),
    epsilon_updates=100,
    epsilon_end=0.0,
)
SAFE, GAMBLE = 0, 1
# State 0: either action gains 2 or loses 2. State 1: safe gains nothing, the gamble gains 3 or loses 1.
ROWS = [
    *((0, action, reward, 1) for action in (0, 1) for reward in (2, -2)),
    *((1, SAFE, 0, 0), (1, SAFE, 0, 0), (1, GAMBLE, 3, 0), (1, GAMBLE, -1, 0)),
]


def all_transitions() -> Transitions:
    states, actions, rewards, masks = np.array(ROWS).T
    one_hot = np.eye(2, dtype=np.float32)
    return Transitions(
        one_hot[states],
        actions.astype(np.int32),
        rewards.astype(np.float32),
        masks.astype(np.float32),
        one_hot[np.ones_like(states)],
    )


def learn(agent, batch, num_updates):
    """The agent with its functions jitted, and its state after updates with one and the same batch."""

    @jax.jit
    def run(key):
        state = agent.init(key, batch)
        return jax.lax.fori_loop(0, num_updates, lambda _, state: agent.update(state, batch)[0], state)

    memory = agent.memory._replace(choose=jax.jit(agent.memory.choose))
    agent = agent._replace(act=jax.jit(agent.act), value=jax.jit(agent.value), memory=memory)
    return agent, run(jax.random.key(0))


@pytest.fixture(scope="module")
def learnt():
    """The agent of all risk levels in the two states; every batch contains each transition once."""
    return learn(eta_network(SMALL, TWO_STATES), all_transitions(), 1000)


def rows(state: int, stocks) -> Augmented:
    stocks = np.float32(stocks)[:, None]
    return Augmented(np.repeat(np.eye(2, dtype=np.float32)[[state]], len(stocks), axis=0), stocks)


def test_the_stock_decides_whether_to_gamble(learnt):
    # min(c, 0) against min(c + 3, 0) / 2 + min(c - 1, 0) / 2: from c = -3, -3 < 0 / 2 - 4 / 2; they are equal
    # at c = -1; from c = 0.5, 0 > -0.25.
    agent, state = learnt
    actions = agent.act(state, rows(1, [-6, -3, -1.7, -0.3, 0.5]), jax.random.key(0), 0.0)
    assert actions.tolist() == [GAMBLE, GAMBLE, GAMBLE, SAFE, SAFE]


def test_values_of_stocks(learnt):
    # From state 0, c = 0: after +2 safe, total 2; after -2 the gamble, total 1 or -3: E min(c + G, 0) = -3/4.
    # c = -4: always the gamble, G in {5, 1, 1, -3}: (0 - 3 - 3 - 7) / 4. c = 4: nothing is ever short.
    agent, state = learnt
    np.testing.assert_allclose(agent.value(state, rows(0, [-4, 0, 4])), [-3.25, -0.75, 0.0], atol=0.2)


def test_the_mean_breaks_ties():
    # From c = 1 on E min(c + G, 0) is 0 for both actions. The gamble's mean is 1, but the value stays 0.
    changed = dataclasses.replace(SMALL, mean_weight=0.05)
    agent, state = learn(eta_network(changed, TWO_STATES), all_transitions(), 500)
    assert agent.act(state, rows(1, [2, 4, 6, 8]), jax.random.key(0), 0.0).tolist() == [GAMBLE] * 4
    np.testing.assert_allclose(agent.value(state, rows(1, [6])), [0.0], atol=0.02)


def test_first_stocks_of_risk_levels(learnt):
    # CVaR of the worst quarter has its maximum, -2, where the agent is always safe, G = ±2: at c = 2, and
    # above it, where no return is too low and the first of equal actions is the safe one.
    # The greatest mean, 1, is that of always gambling: every c from -5 downwards leads to it.
    agent, state = learnt
    observations = np.eye(2, dtype=np.float32)[[0, 0]]
    stocks = agent.memory.choose(state, observations, np.float32([[0.25], [1.0]]))
    assert stocks.shape == (2, 1)
    assert stocks[0, 0] > 1.5
    spared = rows(1, [stocks[0, 0] - 2, stocks[0, 0] + 2])
    assert agent.act(state, spared, jax.random.key(0), 0.0).tolist() == [SAFE, SAFE]
    assert stocks[1, 0] < -3


def test_memory_follows_rewards_and_scores_episodes():
    agent = eta_network(dataclasses.replace(SMALL, discount=0.5), TWO_STATES)
    memory = agent.memory
    assert list(memory.commands) == ["tau=0.25", "tau=1"]
    # (1 + 3) / 0.5 = 8 and (-2 + 1) / 0.5 = -2.
    np.testing.assert_allclose(memory.update(jnp.array([[1.0], [-2.0]]), jnp.array([3.0, 1.0])), [[8], [-2]])
    # -c + min(c + G, 0) / τ: -2 + (2 - 5) / 0.25 = -14, and -2 + 0.
    scores = memory.score(jnp.full((2, 1), 0.25), jnp.full((2, 1), 2.0), jnp.array([-5.0, 1.0]))
    np.testing.assert_allclose(scores, [-14, -2])
    drawn = memory.draw(None, np.zeros((1000, 2)), jax.random.key(0))
    assert drawn.shape == (1000, 1)
    assert -8 <= drawn.min() < -7.5 < 7.5 < drawn.max() <= 8


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("target", [-1.0, -2.0]), ("satisficing", [1.0, 0.0]), ("expectation", [2, 1])],
)
def test_scores_of_targets(objective, expected):
    # Target 3, returns 2 and 1 (expectation has no target), and 3 and 1 for satisficing.
    agent = eta_network(dataclasses.replace(SMALL, objective=objective, commands=(3.0,)), TWO_STATES)
    batch = all_transitions()
    (command,) = agent.memory.commands.values()
    commands = jnp.repeat(command[None], 2, axis=0)

    @jax.jit
    def choose(key):
        return agent.memory.choose(agent.init(key, batch), batch.observations[:2], commands)

    stocks = choose(jax.random.key(0))
    np.testing.assert_allclose(stocks, [[0.0]] * 2 if objective == "expectation" else [[-3.0]] * 2)
    returns = jnp.array([3.0 if objective == "satisficing" else 2.0, 1.0])
    np.testing.assert_allclose(agent.memory.score(commands, stocks, returns), expected)


@pytest.mark.parametrize("num_targets", [None, 2])
def test_update_equals_one_written_by_hand(num_targets):
    config = dataclasses.replace(
        SMALL,
        stock_edits=3,
        discount=0.9,
        huber=0.5,
        num_atoms=4,
        num_targets=num_targets,
        target_period=2,
    )
    agent, batch = eta_network(config, TWO_STATES), all_transitions()
    state = jax.jit(agent.init)(jax.random.key(1), batch)
    state = state._replace(target_params=jax.tree.map(lambda leaf: 0.5 * leaf, state.params))
    network = ReturnAtoms(2, 4, 1, config.hidden_dims, False, -8.0, 8.0, 17)
    apply = jax.jit(network.apply)
    key = jax.random.fold_in(state.key, 0)
    stocks = np.asarray(jax.random.randint(key, (8, 3, 1), 0, 17)) - np.float32(8)
    next_stocks = (stocks + batch.rewards[:, None, None]) / 0.9
    atoms = np.asarray(apply(state.params, batch.observations, stocks))[..., 0]
    next_atoms = np.asarray(apply(state.target_params, batch.next_observations, next_stocks))[..., 0]

    # All atoms of the target, or every second one, from a random first one.
    spacing = 4 // (num_targets or 4)
    first = int(jax.random.randint(jax.random.fold_in(key, 1), (), 0, spacing))

    total = 0.0
    for row, edit in np.ndindex(8, 3):
        utilities = np.minimum(next_stocks[row, edit] + next_atoms[row, edit], 0).mean(axis=-1)
        targets = batch.rewards[row] + 0.9 * batch.masks[row] * next_atoms[row, edit, np.argmax(utilities)]
        targets = targets[first::spacing]
        for level, atom in zip(
            (0.125, 0.375, 0.625, 0.875), atoms[row, edit, batch.actions[row]], strict=True
        ):
            errors = targets - atom
            sizes = np.abs(errors)
            huber = np.where(sizes <= 0.5, errors**2 / (2 * 0.5), sizes - 0.25)
            total += np.mean(np.abs(level - (errors < 0)) * huber)

    update = jax.jit(agent.update)
    once, metrics = update(state, batch)
    np.testing.assert_allclose(metrics["loss"], total / 24, rtol=1e-5)
    # The target network is copied at every second update only.
    jax.tree.map(np.testing.assert_array_equal, once.target_params, state.target_params)
    twice, _ = update(once, batch)
    jax.tree.map(np.testing.assert_array_equal, twice.target_params, twice.params)


def test_epsilon_falls_linearly(learnt):
    agent, state = learnt
    many = rows(1, np.full(4000, -6.0))
    shares = []
    for step in (0, 50, 100):
        at_step = state._replace(step=jnp.int32(step))
        shares.append(np.mean(agent.act(at_step, many, jax.random.key(3), 1.0) == SAFE))
    # Half of the random actions are SAFE, and the greedy one never is: ε / 2 for ε = 1, 0.5, 0.
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.0], atol=0.03)
    assert not np.any(agent.act(state._replace(step=jnp.int32(0)), many, jax.random.key(3), 0.0) == SAFE)


@pytest.mark.slow
def test_vector_rewards_are_kept_in_balance():
    # Each of two steps feeds one of two needs. If both are at -1, the second step feeds the other need.
    spec = Spec((2,), "float32", 0, 2, 0.0, 1.0, reward_dim=2, num_updates=600)
    config = dataclasses.replace(
        SMALL, objective="homeostatic", commands=(1.0, 1.0), stock_low=-2.0, stock_high=2.0, num_atoms=4
    )
    states, actions = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1], np.int32)
    one_hot = np.eye(2, dtype=np.float32)
    batch = Transitions(
        one_hot[states], actions, one_hot[actions], (states == 0).astype(np.float32), one_hot[[1, 1, 1, 1]]
    )
    agent, state = learn(eta_network(config, spec), batch, 600)
    assert list(agent.memory.commands) == ["target=1,1"]
    first = agent.memory.choose(state, one_hot[:1], np.float32([[1, 1]]))
    np.testing.assert_array_equal(first, [[-1, -1]])
    stocks = agent.memory.update(jnp.repeat(first, 2, axis=0), one_hot)
    seen = Augmented(one_hot[[1, 1]], stocks)
    assert agent.act(state, seen, jax.random.key(0), 0.0).tolist() == [1, 0]
    np.testing.assert_allclose(agent.value(state, Augmented(one_hot[:1], first)), [0.0], atol=0.2)
    # From (0, -1) the greedy step leads to (0, 0); the other action would lead to (1, -1).
    np.testing.assert_allclose(
        agent.memory.score(np.ones((1, 2)), first, jnp.array([[2.0, 0.0]])), [-(2**0.5)]
    )


CERTAINTY_EQUIVALENT = -np.log(np.mean(np.exp([-3, 1, -8, 0])))


@pytest.mark.parametrize(
    ("settings", "expected", "of_score"),
    [
        # Worst half of -1, 0, 3, 8: -0.5; best half 5.5. Target 2: -(3 + 2 + 1 + 6) / 4.
        ({"objective": "cvar", "commands": (0.5,)}, -0.5, -0.5),
        ({"objective": "upper_cvar", "commands": (0.5,)}, 5.5, 5.5),
        ({"objective": "target", "commands": (2.0,)}, -3.0, -3.0),
        # A quarter of the mean, 2.5, and three quarters of -0.5.
        ({"objective": "mean_cvar", "tau": 0.5, "weight": 0.25}, 0.25, 0.25),
        ({"objective": "spectral", "taus": (0.5, 1.0), "weights": (0.75, 0.25)}, 0.25, 0.25),
        # 0 is reached with probability 3/4, which is the mean score.
        ({"objective": "var", "commands": (0.25,)}, 0.0, 0.75),
        ({"objective": "entropic", "risk": -1.0}, CERTAINTY_EQUIVALENT, 1 - np.exp(-CERTAINTY_EQUIVALENT)),
        ({"objective": "homeostatic", "commands": (2.0,), "power": 2.0}, -12.5, -12.5),
        # min(x, 2) is 2, -1, 2, 0.
        ({"objective": "utility"}, 0.75, 0.75),
    ],
)
def test_objectives_and_scores_of_a_return_distribution(settings, expected, of_score):
    atoms = jnp.array([[3.0], [-1.0], [8.0], [0.0]])
    own = (lambda returns: jnp.minimum(returns, 2)) if settings["objective"] == "utility" else None
    config = dataclasses.replace(SMALL, **settings)
    family = command_objectives.family_of(config, own)
    ((_, command),) = command_objectives.commands_by_name(family, config.commands, 1).items()
    objective = command_objectives.objective_of(family, command)
    np.testing.assert_allclose(command_objectives.value_as_start(objective, atoms), expected, atol=1e-5)
    axes = [jnp.linspace(-8.0, 8.0, 17)] * (objective.properties.reward_dim or 1)
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    stock = command_objectives.first_stock(objective, grid, jnp.broadcast_to(atoms, (len(grid), 4, 1)))
    scores = [command_objectives.score(objective, stock, stock + atom) for atom in atoms]
    np.testing.assert_allclose(np.mean(scores), of_score, atol=1e-5)


def test_var_begins_with_the_largest_stock_if_no_return_is_likely_enough():
    objective = command_objectives.objective_of(Family("var"), np.float32([0.0]))
    stocks = jnp.array([[-9.0], [-8.0]])
    first = command_objectives.first_stock(objective, stocks, jnp.zeros((2, 4, 1)))
    np.testing.assert_array_equal(first, [-8.0])


def test_objectives_are_those_of_the_solver():
    names = typing.get_args(typing.get_type_hints(EtaNetworkConfig)["objective"])
    not_mixture_indifferent = {"mean_variance", "evar"}
    assert set(names) == {*objectives.REGISTRY, "utility"} - not_mixture_indifferent


@pytest.mark.slow
def test_a_spectral_measure_needs_a_stock_for_each_level():
    # In state 1 the agent gambles after a gain of 2 or a loss of 2, or never, or after one of them.
    # 0.6 CVaR of the worst quarter + 0.4 mean: always -1.4, never -1.2, only after the loss -1.6, only after
    # the gain (returns 5, 1, -2, -2) -1.
    changed = dataclasses.replace(
        SMALL, objective="spectral", taus=(0.25, 1.0), weights=(0.6, 0.4), stock_edits=32
    )
    agent, state = learn(eta_network(changed, TWO_STATES), all_transitions(), 1500)
    one_hot = np.eye(2, dtype=np.float32)
    first = agent.memory.choose(state, one_hot[:1], np.zeros((1, 0), np.float32))
    assert first.shape == (1, 2)
    after = agent.memory.update(jnp.repeat(first, 2, axis=0), jnp.array([2.0, -2.0]))
    given = Augmented(one_hot[[1, 1]], after)
    assert agent.act(state, given, jax.random.key(0), 0.0).tolist() == [GAMBLE, SAFE]
    scores = agent.memory.score(
        jnp.zeros((4, 0)), jnp.repeat(first, 4, axis=0), jnp.array([5.0, 1.0, -2.0, -2.0])
    )
    np.testing.assert_allclose(np.mean(scores), -1.0, atol=0.3)


def test_a_ramp_replaces_the_jump_of_satisficing():
    # f = 0, 0, 1 by the jump; 1/4, 1/4, 1 by a ramp of width 1.
    points = jnp.array([[-0.25], [-0.25], [2.0]])
    objective = command_objectives.objective_of(Family("satisficing"), np.float32([3.0]))
    np.testing.assert_allclose(command_objectives.value(objective, points), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(command_objectives.value(objective, points, 1.0), 1 / 2, rtol=1e-6)
    # For points half-way between integers both are equal.
    halves = jnp.array([[-1.5], [-0.5], [0.5], [1.5], [3.5]])
    np.testing.assert_allclose(
        command_objectives.value(objective, halves, 1.0),
        command_objectives.value(objective, halves),
        rtol=1e-6,
    )
    other = command_objectives.objective_of(Family("target"), np.float32([3.0]))
    np.testing.assert_allclose(
        command_objectives.value(other, points, 1.0), command_objectives.value(other, points)
    )


@pytest.mark.parametrize("dim", [1, 2])
def test_atoms_between_points_are_those_of_the_points_in_proportion(dim):
    """As in the exact solvers: for all parameters, atoms are linear in each component between the points."""
    network = ReturnAtoms(2, 3, dim, (8, 8), True, -2.0, 2.0, 5)
    observations = jax.random.normal(jax.random.key(1), (1, 4))
    places = jnp.array([[-0.75, 1.25], [-2.0, 0.5], [9.0, -9.0]])[:, :dim]
    params = jax.jit(network.init)(jax.random.key(0), observations, places[None])

    def atoms(stocks):
        return np.asarray(network.apply(params, observations, jnp.asarray(stocks, jnp.float32)[None])[0])

    def between(stock):
        """The atoms at one stock, interpolated from those at the points around it."""
        stock = np.clip(stock, -2, 2)
        total = 0
        for corner in itertools.product((np.floor, np.ceil), repeat=dim):
            point = np.array([side(number) for side, number in zip(corner, stock, strict=True)])
            total += (
                np.prod(1 - np.abs(stock - point))
                * atoms([point])[0]
                * (
                    0.5
                    ** np.sum(np.floor(stock) == np.ceil(stock))  # both sides of a component are one point
                )
            )
        return total

    np.testing.assert_allclose(atoms(places), [between(stock) for stock in np.asarray(places)], atol=1e-5)
    assert np.ptp(atoms(places)[:, 0, 0, 0]) > 0.01


def test_images_pass_the_convolutions_once_for_all_stocks():
    network = ReturnAtoms(6, 200, 1, (512,), False, -21.0, 21.0, 16, Convolutions)
    images, stocks = jnp.zeros((2, 84, 84, 4), jnp.uint8), jnp.zeros((2, 5, 1))
    atoms, params = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), images, stocks))
    assert atoms.shape == (2, 5, 6, 200, 1)
    assert params["params"]["Dense_0"]["kernel"].shape == (3136, 512)


SPECTRAL = {"objective": "spectral", "taus": (0.25, 0.5, 1.0), "weights": (0.5, 0.25, 0.25)}


@pytest.mark.parametrize(
    ("changes", "facts", "message"),
    [
        ({}, {"num_actions": 0, "action_dim": 2}, "agent eta_network needs discrete actions"),
        ({}, {"observation_shape": (3, 3)}, r"observations have shape \(3, 3\)"),
        ({}, {"reward_dim": 2}, "rewards have 2 components, but agent.objective cvar takes 1"),
        ({}, {"num_updates": 0}, "learning rate's schedule is 'cosine', but spec.num_updates is 0"),
        ({"commands": ()}, {}, "agent.commands has 0 numbers, but cvar takes 1 for each tau"),
        ({"commands": (0.5, 1.5)}, {}, "tau is 1.5; it must be a level"),
        ({"tau": 0.5}, {}, "agent.tau is 0.5, but commands set this .* of cvar: give agent.commands"),
        ({"objective": "mean_cvar"}, {}, "agent.objective=mean_cvar: objective mean_cvar needs tau"),
        ({"risk": 1.0}, {}, "unknown parameter of objective cvar 'risk'"),
        ({"objective": "entropic", "risk": 1.0, "discount": 0.9}, {}, "entropic lacks gamma-.*discount=1"),
        ({**SPECTRAL, "stock_points": 65}, {}, "so 274625 first stocks of 3 .* at most 21"),
        (SPECTRAL, {"reward_dim": 3}, "rewards have 3 components, but agent.objective spectral takes 1"),
        ({"objective": "utility"}, {}, "agent.objective is utility, but the agent has no function"),
        ({"augmented": False}, {}, "agent.commands has 2 commands, but agent.augmented=false allows one"),
    ],
)  # fmt: skip
def test_refusals(changes, facts, message):
    with pytest.raises(InputError, match=message):
        eta_network(dataclasses.replace(SMALL, **changes), dataclasses.replace(TWO_STATES, **facts))


def test_functions_of_the_user_that_discounting_may_reverse_are_refused():
    def capped(returns):
        return jnp.minimum(returns, 5)

    config = dataclasses.replace(SMALL, objective="utility")
    assert list(eta_network(config, TWO_STATES, utility=capped).memory.commands) == ["capped"]
    with pytest.raises(InputError, match=r"^capped lacks gamma-indifference, .*; give agent.discount=1"):
        eta_network(dataclasses.replace(config, discount=0.9), TWO_STATES, utility=capped)
    with pytest.raises(InputError, match=r"^agent.objective is cvar, but .* give agent.objective=utility"):
        eta_network(SMALL, TWO_STATES, utility=capped)
    named = dataclasses.replace(config, objective="mine.py:capped")
    assert list(eta_network(named, TWO_STATES, utility=capped).memory.commands) == ["capped"]
    with pytest.raises(
        InputError, match=r"^agent.objective=mine.py:<lambda>: objective <lambda> gives shape"
    ):
        eta_network(
            dataclasses.replace(config, objective="mine.py:<lambda>"), TWO_STATES, utility=lambda x: x[7]
        )


def test_ranges_are_checked():
    with pytest.raises(InputError, match="num_targets is 3; give a divisor of num_atoms, which is 8"):
        dataclasses.replace(SMALL, num_targets=3)
    with pytest.raises(InputError, match=r"stock_low is 1.0; give a number below stock_high, which is 1.0"):
        EtaNetworkConfig(stock_low=1.0, stock_high=1.0)
    with pytest.raises(InputError, match=r"discount is 1.5; it must lie in \(0, 1\]"):
        EtaNetworkConfig(discount=1.5)
