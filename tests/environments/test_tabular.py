"""Finite MDPs as environments: probabilities match the MDP, and episodes end and begin correctly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import environments, types
from valuelab.distributional import gridworlds
from valuelab.environments import tabular
from valuelab.errors import InputError

LANES, STEPS = 50, 1200


def act_at_random(environment, steps=STEPS):
    """States before and after each step [T, N], actions [T, N] and outcomes [T, N, ...]."""

    def step(carry, key):
        simulation, observations = carry
        actions = jax.random.randint(key, (LANES,), 0, environment.spec.num_actions)
        simulation, outcomes = environment.step(simulation, actions)
        return (simulation, outcomes.observations), (observations.argmax(-1), actions, outcomes)

    @jax.jit
    def run(key):
        return jax.lax.scan(step, environment.reset(key), jax.random.split(key, steps))[1]

    states, actions, outcomes = jax.tree.map(np.asarray, run(jax.random.key(0)))
    return states, actions, outcomes.observations.argmax(-1), outcomes


def expected(mdp):
    """The probability of each next state [S, A, S] and the mean reward [S, A, m], from the MDP."""
    chances = np.zeros((mdp.num_states, mdp.num_actions, mdp.num_states))
    pairs = np.indices(mdp.next_states.shape)
    np.add.at(chances, (pairs[0], pairs[1], mdp.next_states), mdp.probabilities)
    return chances, (mdp.probabilities[..., None] * mdp.rewards).sum(2)


@pytest.mark.parametrize("name", ["risk_seeking", "homeostasis"])
def test_outcomes_come_with_the_chances_of_the_mdp(name):
    problem = gridworlds.make(name)
    mdp = problem.mdp
    starts = np.where(mdp.terminal, 0, 1) / np.count_nonzero(~mdp.terminal)
    environment = tabular.simulate(problem, LANES, starts)
    states, actions, successors, outcomes = act_at_random(environment)
    ended = outcomes.terminated | outcomes.truncated
    begins = np.concatenate([np.zeros((1, LANES), bool), ended[:-1]])

    # After the last step of an episode comes a step that only begins the next episode.
    assert ended.sum() > 1000
    np.testing.assert_array_equal(outcomes.rewards[begins], 0)
    assert not (begins & ended).any()
    np.testing.assert_array_equal(outcomes.terminated, mdp.terminal[successors])
    first = np.bincount(successors[begins], minlength=mdp.num_states) / begins.sum()
    np.testing.assert_allclose(first, starts, atol=4 * np.sqrt(starts.max() / begins.sum()))

    chances, rewards = expected(mdp)
    taken = ~begins
    counts = np.zeros_like(chances)
    np.add.at(counts, (states[taken], actions[taken], successors[taken]), 1)
    totals = counts.sum(-1, keepdims=True)
    assert not (counts[chances == 0]).any()
    # Thousands of binomial counts stay within five standard deviations.
    deviation = np.sqrt(chances * (1 - chances) / np.maximum(totals, 1))
    assert (np.abs(counts / np.maximum(totals, 1) - chances) <= 5 * deviation + 1e-9)[
        totals[..., 0] > 0
    ].all()
    gained = outcomes.rewards.reshape(*outcomes.rewards.shape[:2], -1)[taken]
    surprise = gained - rewards[states[taken], actions[taken]]
    np.testing.assert_allclose(surprise.mean(0), 0, atol=5 * gained.std() / np.sqrt(taken.sum()))


def test_episodes_start_where_the_problem_says_and_are_cut_at_its_limit():
    problem = gridworlds.make("risk_averse")._replace(max_episode_steps=7)
    environment = tabular.simulate(problem, LANES)
    assert environment.max_episode_steps == 7
    _, observations = environment.reset(jax.random.key(1))
    np.testing.assert_array_equal(observations, np.tile(np.eye(18)[problem.start_state], (LANES, 1)))
    assert observations.dtype == np.float32
    _, _, successors, outcomes = act_at_random(environment, steps=16)
    # 7 random steps are too few for 8 cells: episodes are cut at steps 7 and 15, and step 8 begins a new one.
    assert not outcomes.terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(outcomes.truncated.all(1)), [6, 14])
    assert outcomes.truncated.sum() == 2 * LANES
    np.testing.assert_array_equal(successors[[7, 15]], problem.start_state)


def test_the_spec_says_what_an_agent_needs():
    spec = tabular.vector("homeostasis", 3).spec
    num_states = gridworlds.make("homeostasis").mdp.num_states
    assert spec == types.Spec((num_states,), "float32", 0, 5, -1.0, 1.0, reward_dim=2)
    assert environments.vector("gridworld/target", 3).spec.num_actions == 3
    with pytest.raises(InputError, match="unknown gridworld 'targets': did you mean 'target'"):
        environments.vector("gridworld/targets", 3)
    with pytest.raises(InputError, match="unknown gridworld 'river'"):
        environments.make("gridworld/river")


def test_a_simulation_depends_on_its_key_alone():
    environment = tabular.vector("satisficing", 4)
    step = jax.jit(environment.step)
    runs = []
    for seed in (0, 0, 1):
        simulation, _ = environment.reset(jax.random.key(seed))
        rewards = []
        for _ in range(6):
            simulation, outcomes = step(simulation, jnp.ones(4, jnp.int32))
            rewards.append(np.asarray(outcomes.rewards))
        runs.append(np.stack(rewards))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()
    assert len(np.unique(runs[0], axis=1)) > 1  # lanes are independent


def episodes(environment, seed, count, actions):
    """Rewards and lengths of some episodes; only the first is seeded."""
    gained, lengths = [], []
    for episode in range(count):
        environment.reset(seed=seed if episode == 0 else None)
        done, length = False, 0
        while not done:
            _, reward, terminated, truncated, _ = environment.step(actions[length % len(actions)])
            gained.append(reward)
            done, length = terminated or truncated, length + 1
        lengths.append(length)
    return np.array(gained), lengths


def test_one_at_a_time_it_is_the_same_mdp():
    pytest.importorskip("gymnasium")
    environment = environments.make("gridworld/homeostasis")
    assert (environment.tasks, environment.metric, environment.score(3.0, False)) == (
        {"default": None},
        "return",
        3.0,
    )
    grid = environment.make()
    observation, _ = grid.reset(seed=5)
    assert grid.observation_space.contains(observation)
    assert observation.argmax() == gridworlds.make("homeostasis").start_state
    # Up and right to the water, then stay: from the second step on there is water with probability ¾.
    rewards, lengths = episodes(grid, 5, 300, [0, 1, 4, 4, 4, 4, 4, 4])
    assert lengths == [8] * 300
    np.testing.assert_array_equal(rewards[:, 0], -1)
    found = rewards[:, 1].reshape(300, 8) == 1
    assert not found[:, 0].any()
    # 2100 draws: 0.75 within five standard deviations, of 0.0094.
    assert abs(found[:, 1:].mean() - 0.75) < 0.047
    np.testing.assert_array_equal(episodes(environment.make(), 5, 300, [0, 1, 4, 4, 4, 4, 4, 4])[0], rewards)
    assert (episodes(environment.make(), 6, 300, [0, 1, 4, 4, 4, 4, 4, 4])[0] != rewards).any()


def test_one_at_a_time_it_is_cut_too_and_rewards_are_numbers():
    pytest.importorskip("gymnasium")
    rewards, lengths = episodes(environments.make("gridworld/risk_averse").make(), 0, 1, [3])
    assert lengths == [100]  # always moves into the wall
    np.testing.assert_array_equal(rewards, [-1.0] * 100)
