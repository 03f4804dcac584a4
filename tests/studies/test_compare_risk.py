"""The comparison of methods that optimise CVaR: numbers known by hand, refusals, and files."""

import json

import numpy as np
import pytest
from absl import flags as absl_flags
from helpers import ROOT

from experiments.studies.risk import compare_risk, methods, plots
from experiments.studies.risk.methods import GREEDY, LEVEL_CLAIMED, LEVEL_REACHED, MEAN, STOCK, RiskProblem
from valuelab.distributional import counterexamples, gridworlds, objectives, stock_grids
from valuelab.distributional.solvers import Solution
from valuelab.errors import InputError

AGENT = "--agent=eta_network:risk_averse"


def parse(*arguments):
    return compare_risk.parse(["compare_risk", *arguments], absl_flags.FlagValues())


@pytest.fixture(scope="module")
def found():
    """What is published."""
    return json.loads((ROOT / "benchmarks" / "compare_risk.json").read_text())


def test_a_policy_with_a_stock_is_followed_at_the_nearest_one():
    """A coin gives 0 or 4, then it gambles for -2 or 5 at stock 0: the return distribution by hand."""
    mdp = counterexamples.stock_needed().mdp
    problem = RiskProblem(mdp, 1.0, 0, stock_grids.uniform([0.0], [3.0], [2]))
    solution = Solution(**dict.fromkeys(Solution._fields))._replace(
        values=np.zeros((3, 2)), policy=np.array([[0, 0], [1, 0], [0, 0]]), stocks=problem.grid
    )
    distribution = problem.follow(methods.by_stock(problem, solution), [0.0])
    assert distribution.support[:, 0].tolist() == [-2, 4, 5]
    np.testing.assert_allclose(distribution.probabilities, [[0.25, 0.5, 0.25]])
    assert methods.cvar(distribution, 0.5) == pytest.approx(1.0)
    assert methods.cvar(distribution, 1.0) == pytest.approx(2.75)


def test_networks_differ_in_what_they_know_alone():
    config, _ = parse(AGENT, "--agent.commands=0.1,0.5")
    settings = compare_risk.variants(config)
    assert list(settings) == [
        "D-eta-N", "D-eta-N, offline", "QR-DQN", f"{GREEDY}, tau=0.1", f"{GREEDY}, tau=0.5",
    ]  # fmt: skip
    assert [each.agent.augmented for each in settings.values()] == [True, True, False, False, False]
    assert [bool(each.dataset) for each in settings.values()] == [False, True, False, False, False]
    assert settings[f"{GREEDY}, tau=0.5"].agent.commands == (0.5,)


@pytest.mark.parametrize(
    "arguments",
    [["--agent=eta_network:target"], [AGENT, "--environment=gymnasium/CartPole-v1"], ["--agent=iql"]],
)
def test_other_questions_are_refused(arguments, tmp_path):
    with pytest.raises(InputError, match="write --agent=eta_network:risk_averse"):
        compare_risk.main(parse(*arguments, f"--workdir={tmp_path}"))


@pytest.mark.parametrize("where", ["counterexample", "random", "gridworld"])
def test_published_claims_are_too_high_and_policies_too_low(found, where):
    cvar = found[where]["cvar"]
    for method in (LEVEL_REACHED, GREEDY, MEAN):
        assert np.all(np.subtract(cvar[method], cvar[STOCK]) < 1e-6)
    assert np.all(np.subtract(cvar[LEVEL_CLAIMED], cvar[STOCK]) > -1e-6)
    if where != "gridworld":  # there levels are right, so that claim and policy prove each other optimal
        assert np.max(np.subtract(cvar[LEVEL_CLAIMED], cvar[STOCK])) > 0.2
        assert np.min(np.subtract(cvar[LEVEL_REACHED], cvar[STOCK])) < -0.1


def test_published_networks_with_a_stock_are_better_than_qr_dqn_where_risk_matters(found):
    reached = {method: np.array([row["mean"] for row in rows]) for method, rows in found["networks"].items()}
    averse = np.array(found["gridworld"]["taus"]) <= 0.25
    for method in ("D-eta-N", "D-eta-N, offline"):
        assert np.all(reached[method][averse] > reached["QR-DQN"][averse] + 1)


def test_published_dials_agree(found):
    """CVaR and mean are two levels of a spectral measure."""
    for one, several in zip(found["dial"]["mean_cvar"], found["dial"]["spectral"], strict=True):
        assert one["mean"] == pytest.approx(several["mean"])
        assert one["cvar"] == pytest.approx(several["cvar"])


def test_pictures(found, tmp_path):
    pytest.importorskip("matplotlib")
    figure = plots.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert all(panel.get_xlabel() and panel.get_ylabel() for panel in figure.axes)


@pytest.mark.slow
def test_counterexample_by_every_method():
    """The numbers of its docstring; tossing the coin has the greatest mean, 1.5."""
    cvar = methods.compare(methods.counterexample(), [0.5])
    assert {method: values[0] for method, values in cvar.items()} == pytest.approx(
        {STOCK: -1.0, LEVEL_CLAIMED: -0.75, LEVEL_REACHED: -1.5, GREEDY: -1.0, MEAN: -1.5}
    )


@pytest.mark.slow
def test_networks_are_compared_with_what_is_exact(found, tmp_path, monkeypatch):
    """Networks that have hardly learnt anything are far from the optimum."""
    number = found["gridworld"]["taus"].index(0.25)
    cvar = {method: [values[number]] for method, values in found["gridworld"]["cvar"].items()}
    exact = {**found, "gridworld": {"taus": [0.25], "cvar": cvar}}
    monkeypatch.setattr(compare_risk, "compare_exactly", lambda *_: exact)
    monkeypatch.setattr(compare_risk, "LOG_STEPS", 20)
    monkeypatch.setattr(compare_risk, "EPISODES", 100)
    arguments = [AGENT, "--agent.commands=0.25", "--agent.num_atoms=4", "--agent.stock_edits=1", "--steps=2"]
    arguments += ["--agent.hidden_dims=4", "--interaction.warmup_steps=100", "--batch_size=4"]
    compare_risk.main(parse(*arguments, "--num_seeds=2", f"--workdir={tmp_path}"))
    result = json.loads((tmp_path / "compare_risk.json").read_text())
    assert set(result["networks"]) == {"D-eta-N", "D-eta-N, offline", "QR-DQN", GREEDY}
    for (row,) in result["networks"].values():
        assert row["ci_low"] <= row["mean"] <= row["ci_high"] < cvar[STOCK][0]
        assert len(row["per_seed"]) == 2
    assert (tmp_path / "compare_risk.png").stat().st_size > 10_000


def test_the_problem_of_a_gridworld():
    problem = methods.gridworld_problem(gridworlds.risk_averse(), spacing=1.0, copies=2)
    assert problem.grid.shape == (19, 19)
    assert problem.mdp.reward_dim == 2


def test_dials_search_the_first_stock_on_the_grid_of_their_problem():
    world = gridworlds.risk_averse()  # its least return lies below the grid
    mixtures = methods.dial(
        methods.gridworld_problem(world, spacing=0.5),
        0.25,
        [0.0, 1.0],
        lambda w: objectives.mean_cvar(0.25, w),
    )
    spectral = methods.dial(
        methods.gridworld_problem(world, spacing=1.0, copies=2),
        *(0.25, [0.0, 1.0]),
        lambda w: objectives.spectral([0.25, 1.0], [1 - w, w]),
    )
    for averse, neutral in (mixtures, spectral):
        assert neutral["mean"] > averse["mean"]
        assert neutral["cvar"] < averse["cvar"]
