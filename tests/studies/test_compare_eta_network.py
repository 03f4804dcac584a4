"""D-eta-N compared with the exact optimum: gaps, episodes and tables, and the files of the program."""

import json

import jax
import numpy as np
import pytest

from experiments.studies.risk import compare_eta_network, optimality
from experiments.studies.risk.compare_eta_network import CompareConfig
from experiments.studies.risk.networks import TrainedNetworks
from valuelab import configuration
from valuelab.agents.eta_network import eta_network
from valuelab.distributional import gridworlds, mdps
from valuelab.environments import tabular
from valuelab.errors import InputError
from valuelab.evaluation import comparison_plots
from valuelab.runs import flags
from valuelab.training.experience import blank


def test_gaps():
    # Gains are 2, 1 and 0.01; the last is less than 2 / 20 = 0.1, to which the shortfall 0.005 is relative.
    optimum, random = np.array([3.0, 1.0, 0.01]), np.array([1.0, 0.0, 0.0])
    reached = np.array([[3.0, 0.5, 0.005], [1.0, 1.0, 0.01]])
    np.testing.assert_allclose(optimality.gaps(optimum, reached, random), [[0, 0.5, 0.05], [1, 0, 0]])


def test_random_actions():
    # Left gains 1 and ends, right gains 3 or 5 and ends: 1 by a half, 3 and 5 by a quarter each.
    mdp = mdps.from_outcomes(
        [[[(1.0, 1, (1.0,))], [(0.5, 1, (3.0,)), (0.5, 1, (5.0,))]], [[], []]], np.array([False, True])
    )
    blind = optimality.with_random_actions(mdp)
    assert blind.num_actions == 1
    possible = blind.probabilities[0, 0] > 0
    np.testing.assert_allclose(blind.probabilities[0, 0][possible], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(blind.rewards[0, 0, possible, 0], [1, 3, 5])
    mdps.validate(blind, 1.0)


@pytest.fixture(scope="module")
def compared():
    """Two networks that have learnt nothing, in the gridworld of satisficing."""
    gridworld = gridworlds.make("satisficing")
    preset, _ = flags.load_agent("eta_network:satisficing")
    small = {"agent.hidden_dims": (8,), "agent.num_atoms": 4, "agent.learning_rate_schedule": "constant"}
    config = configuration.replace(preset, small).agent
    spec = tabular.simulate(gridworld, 1).spec
    agent = eta_network(config, spec)
    init = jax.jit(lambda key: agent.init(key, blank(spec, 1)))
    networks = TrainedNetworks(config, spec, agent, [init(jax.random.key(seed)) for seed in (0, 1)])
    solved = optimality.solve(gridworld, config.stock_low, config.stock_high)
    stocks = optimality.evaluate_stocks(solved, networks)
    return solved, stocks, optimality.evaluate_commands(solved, networks, 2000)


@pytest.mark.slow
def test_episodes_agree_with_tables(compared):
    _, stocks, commands = compared
    for index, (name, first) in enumerate(zip(commands.names, commands.stocks[0], strict=True)):
        np.testing.assert_array_equal(commands.stocks[1, index], first)  # given by the target, to any network
        assert name == f"target={-first[0]:g}"
        place = int(np.argmin(np.abs(stocks.stocks - first)))
        assert commands.optimum[index] == pytest.approx(stocks.optimum[place])
        # Shares of 2000 episodes: four standard deviations of a fair coin's are 0.045.
        np.testing.assert_allclose(commands.reached[:, index], stocks.reached[:, place], atol=0.045)
        np.testing.assert_allclose(commands.random[index], stocks.random[place], atol=0.045)
        assert (stocks.reached[:, place] <= stocks.optimum[place] + 1e-9).all()
    spread = np.sqrt(commands.reached * (1 - commands.reached) / 2000)
    np.testing.assert_allclose(commands.standard_errors, spread, rtol=0.6, atol=2e-3)
    assert commands.returns.shape == (2, 5, 2000, 1)
    assert commands.predicted.shape == (2, 5, 4, 1)


@pytest.mark.slow
def test_optimum_is_that_of_the_gridworld(compared):
    solved, stocks, _ = compared
    # From stock 0.5 it is enough already, and from -56.5 no seven prizes of 8 would be: the grid is cut long
    # before, at -20.5, where four long shots are needed.
    assert stocks.optimum[-1] == 1
    assert 0 < stocks.optimum[0] < 0.15
    assert float(np.max(stocks.errors)) == 0
    assert solved.grid.size == 22


@pytest.mark.slow
def test_summary(compared):
    solved, stocks, commands = compared
    result = compare_eta_network.summarize(solved.gridworld, commands, stocks)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert not result["reached"]
    told = result["settings"]["target=11.5"]
    expected = 100 * (told["optimum"] - told["network"]["mean"]) / told["optimum"]
    assert told["gap_of_absolute_value"] == pytest.approx(expected)
    assert result["worst_stock"]["gap"]["mean"] > 5


def test_shares_below():
    # Of 1, 2, 2, 5, below 2: 1; the two at 2 count half; within 1.5 of 2 lie 1, 2, 2, all half, and 5 is not.
    returns = np.array([5.0, 2.0, 1.0, 2.0])
    np.testing.assert_allclose(comparison_plots.shares_below(returns, np.array([2.0]), 0.1), [0.5])
    np.testing.assert_allclose(comparison_plots.shares_below(returns, np.array([2.0]), 1.5), [0.375])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problem": "gravity"}, "unknown gridworld 'gravity'"),
        ({"problem": "target"}, "no workdir is given"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(InputError, match=message):
        compare_eta_network.run(CompareConfig(**settings))


def test_episodes_are_divided_evenly():
    with pytest.raises(InputError, match="episodes is 30; give a positive multiple of 20"):
        CompareConfig(episodes=30)


@pytest.mark.slow
def test_launcher(tmp_path, capsys):
    config = CompareConfig(
        problem="homeostasis", num_seeds=2, steps=20, episodes=100, workdir=str(tmp_path / "homeostasis")
    )
    result = compare_eta_network.run(config)
    for name in ("config.json", "result.json", "comparison.png", "calibration.png"):
        assert (tmp_path / "homeostasis" / name).stat().st_size > 0
    assert list(result["settings"]) == ["target=-4,-4", "target=-8,4", "target=4,-8", "target=-6,0"]
    assert len(result["settings"]["target=-6,0"]["network"]["per_seed"]) == 2
    assert np.shape(result["stocks"]["reached"])[0] == 2
    again = compare_eta_network.run(config)
    assert again["settings"] == result["settings"]
    assert "is done already" in capsys.readouterr().out
