"""Contrastive critics against exact discounted occupancies of a small MDP, and the contrastive auxiliary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.critics.auxiliary import ContrastiveAuxiliaryConfig, contrastive_auxiliary
from valuelab.critics.contrastive import ContrastiveConfig, contrastive_critic
from valuelab.critics.expectile import ExpectileConfig, expectile_critic
from valuelab.data import sampling
from valuelab.data.sampling import GoalDistribution, GoalRelabelling
from valuelab.errors import InputError
from valuelab.types import Dataset, Spec, Transitions

S, A, DISCOUNT = 3, 2, 0.8
TRANSITIONS = np.array(
    [
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]],
        [[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]],
        [[0.1, 0.3, 0.6], [0.7, 0.1, 0.2]],
    ]
)
"""P(s' | s, a), [S, A, S]."""
POLICY = np.array([[0.5, 0.5], [0.7, 0.3], [0.4, 0.6]])
"""π(a | s) of the data, [S, A]."""
CHAIN = np.einsum("sa,sat->st", POLICY, TRANSITIONS)
"""P_π(s' | s), [S, S]."""
STATIONARY = np.linalg.matrix_power(CHAIN, 200)[0]
"""The distribution of states that does not change from step to step, [S]."""
SPEC = Spec((S,), "float32", 0, A, -1.0, 0.0, goal_conditioned=True)


def occupancy() -> np.ndarray:
    """p_γ(g | s, a) = (1 - γ) P (I - γ P_π)⁻¹: the first goal is the next state, [S, A, S]."""
    return (1 - DISCOUNT) * TRANSITIONS @ np.linalg.inv(np.eye(S) - DISCOUNT * CHAIN)


def cut_occupancy(length: int) -> np.ndarray:
    """The distribution of sampled goals where episodes have `length` transitions, [S, A, S].

    First states are stationary. n transitions follow with probability 1/length for n = 0 .. length - 1. Step
    k < n has weight (1 - γ) γ^(k-1), and the last step n has the rest, γ^(n-1). With n = 0 the goal is s.
    """
    total = np.zeros((S, A, S))
    for left in range(length):
        if left == 0:
            total += np.eye(S)[:, None]
        for step in range(1, left + 1):
            weight = (1 - DISCOUNT) * DISCOUNT ** (step - 1) if step < left else DISCOUNT ** (left - 1)
            total += weight * TRANSITIONS @ np.linalg.matrix_power(CHAIN, step - 1)
    return total / length


def episodes(random: np.random.Generator, count: int, length: int) -> Dataset:
    """Episodes of the policy in full storage; observations are one-hot."""
    states = np.empty((count, length + 1), int)
    actions = np.empty((count, length), int)
    states[:, 0] = random.choice(S, count, p=STATIONARY)
    for step in range(length):
        shares = random.random((2, count, 1))
        actions[:, step] = (shares[0] > POLICY[states[:, step]].cumsum(1)).sum(1)
        chances = TRANSITIONS[states[:, step], actions[:, step]]
        states[:, step + 1] = (shares[1] > chances.cumsum(1)).sum(1)
    one_hot, size = np.eye(S, dtype=np.float32), count * length
    return Dataset(
        name="made up",
        observations=one_hot[states[:, :-1].reshape(size)],
        actions=actions.reshape(size).astype(np.int32),
        rewards=np.zeros(size, np.float32),
        masks=np.ones(size, np.float32),
        terminals=np.tile(np.arange(length) == length - 1, count),
        next_observations=one_hot[states[:, 1:].reshape(size)],
        num_actions=A,
        goal_conditioned=True,
    )


@pytest.mark.parametrize("length", [4, 100])
def test_goals_are_drawn_from_the_occupancy_that_the_end_of_trajectories_cuts(length):
    dataset = episodes(np.random.default_rng(0), 400_000 // length, length)
    later = GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=True)
    sampler = sampling.goals(dataset, 400_000, GoalRelabelling(value=later, discount=DISCOUNT))
    batch = jax.device_get(jax.jit(sampler.sample)(sampler.arrays, jax.random.key(0)))
    counts = np.zeros((S, A, S))
    np.add.at(counts, (batch.observations.argmax(1), batch.actions, batch.goals.argmax(1)), 1)
    found = counts / counts.sum(-1, keepdims=True)
    expected = cut_occupancy(length)
    np.testing.assert_allclose(found, expected, atol=0.01)
    # Cutting after 100 steps matters little, and after 4 much.
    gap = np.abs(expected - occupancy()).max()
    assert gap < 0.03 if length == 100 else gap > 0.1


def full_batch(size: int) -> tuple[Transitions, np.ndarray]:
    """Triples (s, a, g) as often as their exact probabilities say, and their counts [S, A, S]."""
    joint = STATIONARY[:, None, None] * POLICY[..., None] * occupancy()
    counts = np.rint(size * joint).astype(int)
    states, actions, goals = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    one_hot = np.eye(S, dtype=np.float32)
    rows = len(states)
    batch = Transitions(
        # Joined with the goals, as critics see them.
        observations=np.concatenate([one_hot[states], one_hot[goals]], axis=1),
        actions=actions.astype(np.int32),
        rewards=np.zeros(rows, np.float32),
        masks=np.ones(rows, np.float32),
        next_observations=np.zeros((rows, 2 * S), np.float32),
    )
    return batch, counts


@pytest.mark.parametrize("loss", ["binary", "symmetric"])
def test_a_critic_learns_the_exact_log_ratio(loss):
    """Q = log p_γ(g | s, a) - log p(g) - c and V = log p_γ(g | s) - log p(g) - c.

    c is log(B - 1) of binary NCE, and log B of symmetric InfoNCE with a regulariser. Within 0.01 of the
    optimum of this batch, and 0.04 of the exact ratio: the batch has whole numbers of triples.
    """
    batch, counts = full_batch(221)

    def make(learning_rate):
        config = ContrastiveConfig(
            hidden_dims=(32,), latent_dim=8, loss=loss, state_value=True, learning_rate=learning_rate
        )
        return contrastive_critic(config, SPEC)

    @jax.jit
    def learn(key):
        start = make(0.01).init(key, batch)

        def phase(params, learning_rate):
            # Adam starts anew: the first gradients of binary NCE are a hundred times as large as later ones.
            critic, state = make(learning_rate), start._replace(params=params)
            state, _ = jax.lax.scan(lambda state, _: critic.update(state, batch, None), state, length=150)
            return state.params, None

        params, _ = jax.lax.scan(phase, start.params, jnp.array([0.01, 0.01, 0.001]))
        critic, state = make(0.01), start._replace(params=params)
        estimates = critic.estimates(state)
        states, actions, goals = (index.ravel() for index in np.indices(counts.shape))
        joined = jnp.concatenate([jnp.eye(S)[states], jnp.eye(S)[goals]], axis=1)
        scores = critic.goal_scores(state, jnp.eye(S)[states], actions, jnp.eye(S)[goals])
        return estimates.q(joined, actions), estimates.value(joined), scores

    q, value, scores = jax.device_get(learn(jax.random.key(0)))
    np.testing.assert_array_equal(scores, q)
    q, value = q.reshape(counts.shape), value.reshape(counts.shape)[:, 0]

    def optimum(joint: np.ndarray) -> np.ndarray:
        """Of counts [X, G]: positive pairs over negative ones, or over all pairs."""
        pairs = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        return np.log(joint / (pairs - joint if loss == "binary" else pairs))

    size = counts.sum()
    of_pairs, of_states = counts.reshape(-1, S), counts.sum(1)
    np.testing.assert_allclose(q.reshape(-1, S), optimum(of_pairs), atol=0.01)
    np.testing.assert_allclose(value, optimum(of_states), atol=0.01)

    exact = occupancy()
    marginal = np.einsum("s,sa,sag->g", STATIONARY, POLICY, exact)
    constant = np.log(size - 1) if loss == "binary" else np.log(size)
    np.testing.assert_allclose(q, np.log(exact / marginal) - constant, atol=0.04)
    advantages = np.log(exact / np.einsum("sa,sag->sg", POLICY, exact)[:, None])
    np.testing.assert_allclose(q - value[:, None], advantages, atol=0.04)


# The auxiliary.

PLAIN = Spec((3,), "float32", 2, 0, -1.0, 1.0)
EXPECTILE = expectile_critic(ExpectileConfig(hidden_dims=(16,), layer_norm=True), PLAIN)


def with_auxiliary(weight):
    config = ContrastiveAuxiliaryConfig(hidden_dims=(16,), latent_dim=8, weight=weight, learning_rate=3e-3)
    return contrastive_auxiliary(config, PLAIN)(EXPECTILE)


def drifting_batch() -> Transitions:
    """Later observations are near where the action leads."""
    random = np.random.default_rng(0)
    states = random.normal(size=(64, 3)).astype(np.float32)
    actions = random.uniform(-1, 1, (64, 2)).astype(np.float32)
    moved = states + np.pad(actions, ((0, 0), (0, 1)))
    return Transitions(
        observations=states,
        actions=actions,
        rewards=states[:, 0],
        masks=np.ones(64, np.float32),
        next_observations=moved,
        futures=moved + 0.1 * random.normal(size=moved.shape).astype(np.float32),
    )


def test_an_auxiliary_of_weight_0_leaves_the_critic_as_it_is_and_its_own_loss_falls():
    batch, key, weights = drifting_batch(), jax.random.key(0), jnp.array([0.0, 1.0])

    def learn(critic):
        def update(state, _):
            state, metrics = critic.update(state, batch, None)
            return critic.average_targets(state), metrics

        return jax.lax.scan(update, critic.init(key, batch), length=200)

    alone, metrics = jax.jit(lambda: learn(EXPECTILE))()
    both, auxiliary = jax.jit(jax.vmap(lambda weight: learn(with_auxiliary(weight))))(weights)
    for own, ours in (
        (alone.params, both.params["critic"]),
        (alone.opt_state, both.opt_state["critic"]),
        (alone.target_params, both.target_params),
        (metrics, {name: auxiliary[name] for name in metrics}),
    ):
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other[0], rtol=1e-3, atol=1e-5), own, ours
        )
    losses = auxiliary["auxiliary_loss"]
    assert (losses[:, -1] < losses[:, 0]).all()
    # The critic's features become better at it only where it learns, too.
    assert losses[1, -1] < losses[0, -1]
    assert (auxiliary["auxiliary_accuracy"][:, -1] > 5 / 64).all()


def test_an_auxiliary_is_refused_without_hidden_layers_and_without_later_observations():
    contrastive = contrastive_critic(ContrastiveConfig(), SPEC)
    with pytest.raises(InputError, match=r"auxiliary contrastive learns with .* critic 'contrastive"):
        contrastive_auxiliary(ContrastiveAuxiliaryConfig(), SPEC)(contrastive)
    critic, batch = with_auxiliary(1.0), drifting_batch()
    state = jax.eval_shape(critic.init, jax.random.key(0), batch)
    with pytest.raises(InputError, match=r"these batches have none: train on a dataset with --data.future_d"):
        jax.eval_shape(lambda state: critic.update(state, batch._replace(futures=None), None), state)
