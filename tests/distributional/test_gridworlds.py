"""The gridworlds match their descriptions, and in each of them the best action depends on the stock."""

import numpy as np
import pytest

from valuelab.distributional import gridworlds, mdps
from valuelab.errors import InputError

NAMES = sorted(gridworlds.GRIDWORLDS)


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_is_a_valid_mdp_with_a_drawing(name):
    problem = gridworlds.make(name)
    mdp, layout = problem.mdp, problem.layout
    mdps.validate(mdp, problem.discount)
    assert problem.name == name
    assert not mdp.terminal[problem.start_state]
    assert problem.stock_low.shape == problem.stock_high.shape == (mdp.reward_dim,)
    assert (problem.stock_low < problem.stock_high).all()
    # A deadline is part of the state, rewards are integers where γ = 1, and no time limit cuts episodes.
    assert mdps.episode_bound(mdp) == problem.horizon
    if problem.discount == 1:
        np.testing.assert_array_equal(mdp.rewards, np.round(mdp.rewards))
        assert problem.max_episode_steps == problem.horizon
    # Cells are on the map. The most likely next cell is one move away, or one drift away if a wall blocks it.
    rows, columns = layout.places.T
    assert not layout.walls[rows, columns].any()
    assert len(layout.actions) == len(layout.moves) == mdp.num_actions
    assert layout.labels[tuple(layout.places[problem.start_state])] == "start"
    drift = layout.moves.mean(0)  # moves come in opposite pairs
    for state, action in np.argwhere(np.broadcast_to(~mdp.terminal[:, None], mdp.probabilities.shape[:2])):
        arrivals = layout.places[mdp.next_states[state, action]]
        chances = [mdp.probabilities[state, action][(arrivals == cell).all(1)].sum() for cell in arrivals]
        most_likely = arrivals[np.argmax(chances)] - layout.places[state]
        assert (most_likely == layout.moves[action]).all() or (most_likely == drift).all()


def optimum(problem, utility, points):
    """[S, C, A]: E f(c + G) for every action, by classic value iteration on states with stock.

    For f of degree 1 E f(c + G) = γ E f(c' + G'); between and beyond the points it is taken as linear.
    """
    mdp, discount = problem.mdp, problem.discount
    after = (points[:, None, None, None] + mdp.rewards[None, ..., 0]) / discount  # [C, S, A, K]
    place = (after - points[0]) / (points[1] - points[0])
    lower = np.clip(np.floor(place).astype(int), 0, len(points) - 2)
    share = place - lower
    values = np.tile(utility(points), (mdp.num_states, 1))
    for _ in range(problem.horizon or 150):
        following = (1 - share) * values[mdp.next_states, lower] + share * values[mdp.next_states, lower + 1]
        actions = (mdp.probabilities * discount * following).sum(-1).swapaxes(0, 1)
        values = np.where(mdp.terminal[:, None], utility(points)[None], actions.max(-1))
    return actions


def test_hazards_are_dared_one_by_one_as_the_level_of_cvar_rises():
    problem = gridworlds.make("risk_averse")
    mdp, layout = problem.mdp, problem.layout
    points = np.linspace(-20, 20, 801)
    actions = optimum(problem, lambda stock: np.minimum(stock, 0), points)
    hazards = {tuple(place): letter for place, letter in zip([(1, 2), (1, 4), (1, 6)], "abc", strict=True)}
    best = (-points + actions[problem.start_state].max(-1) / np.array(problem.settings)[:, None]).argmax(-1)

    def passed(state, stock, luck):
        """The hazards on the way when those in `luck` strike and no others."""
        met = ""
        while not mdp.terminal[state]:
            action = actions[state, np.abs(points - stock).argmin()].argmax()
            possible = mdp.probabilities[state, action] > 0
            struck = hazards.get(tuple(layout.places[mdp.next_states[state, action, 0]]), "")
            met += struck
            reward = mdp.rewards[state, action, :, 0][possible]
            reward = reward.min() if struck and struck in luck else reward.max()
            stock, state = (stock + reward) / problem.discount, mdp.next_states[state, action, 0]
        return met

    start = problem.start_state
    met = [passed(start, stock, "") for stock in points[best]]
    assert dict(zip(problem.settings, met, strict=True)) == {
        **{0.05: "", 0.1: "a", 0.25: "ab"},
        **{0.5: "ab", 0.75: "abc", 1.0: "abc"},
    }
    # At level 0.1 the policy risks only the rarest hazard; once it has struck, it risks the others, too.
    assert passed(start, points[best[1]], "a") == "abc"


@pytest.mark.parametrize(
    ("name", "utility"),
    [
        ("risk_seeking", lambda stock: np.maximum(stock, 0)),
        ("target", lambda stock: -np.abs(stock)),
        ("satisficing", lambda stock: (stock >= 0).astype(float)),
    ],
)
def test_what_is_best_depends_on_the_stock(name, utility):
    problem = gridworlds.make(name)
    actions = optimum(problem, utility, np.arange(-60.0, 61.0))
    regret = actions.max(-1, keepdims=True) - actions
    # There are states whose only best action depends on the stock.
    only_best = (regret < 1e-9) & ((regret < 1e-9).sum(-1, keepdims=True) == 1)
    assert (only_best.any(1).sum(-1) >= 2).sum() >= 3


def test_unknown_problems_are_refused():
    with pytest.raises(InputError, match="unknown gridworld 'cliff'"):
        gridworlds.make("cliff")
