"""Tests of the maths of zero-shot agents: numbers derived by hand, and theorems on small MDPs."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from valuelab.critics.task_conditioned import TaskConditionedConfig, successor_target
from valuelab.ops import zero_shot


def test_on_sphere():
    # ‖(3, 4)‖ = 5 and √2 / 5 · (3, 4).
    np.testing.assert_allclose(
        zero_shot.on_sphere(jnp.array([[3.0, 4.0]])), [[0.848528, 1.131371]], rtol=1e-6
    )
    zero = jnp.zeros((1, 3))
    np.testing.assert_array_equal(zero_shot.on_sphere(zero), zero)
    assert np.isfinite(jax.grad(lambda x: zero_shot.on_sphere(x).sum())(zero)).all()


def test_orthonormality_loss():
    # C = [[1, 2], [2, 4 + 1]]: off the diagonal 2² twice, over 2; on it 1 and 5, over 2. 0.5 * 4 - 3 = -1.
    assert zero_shot.orthonormality_loss(jnp.array([[1.0, 0.0], [2.0, 1.0]])) == -1


def test_successor_measure_loss():
    # Differences off the diagonal: 2 - 0.5 * 4 = 0, and 3 - 0 = 3, for that episode ended; on it 1 and 5.
    measures, after = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([[9.0, 4.0], [6.0, 9.0]])
    discounts = jnp.array([0.5, 0.0])
    assert zero_shot.successor_measure_loss(measures, after, discounts) == 0.5 * 9 / 2 - 3
    assert not jax.grad(zero_shot.successor_measure_loss, 1)(measures, after, discounts).any()


def test_pessimism():
    members = jnp.array([[1.0, 5.0], [3.0, 1.0]])
    np.testing.assert_array_equal(zero_shot.pessimistic(members, 0.0), [2, 3])
    np.testing.assert_array_equal(zero_shot.pessimistic(members, 0.5), [1, 1])  # the minimum of two
    np.testing.assert_array_equal(zero_shot.pessimistic(members[:1], 9.0), [1, 5])


def test_pessimism_along_a_task_is_that_of_its_value():
    members = jax.random.normal(jax.random.key(0), (3, 5, 4))
    tasks = jax.random.normal(jax.random.key(1), (5, 4))
    found = zero_shot.pessimistic_along(members, tasks, 0.7)
    values = jnp.sum(members * tasks[None], axis=-1)
    np.testing.assert_allclose(
        jnp.sum(found * tasks, -1), zero_shot.pessimistic(values, 0.7), rtol=1e-4, atol=1e-5
    )
    no_tasks = zero_shot.pessimistic_along(members, 0 * tasks, 0.7)
    np.testing.assert_allclose(no_tasks, members.mean(0), rtol=1e-6)
    # Components orthogonal to the task do not change.
    across = tasks[:, ::-1] * jnp.array([1.0, 1, -1, -1])[None]
    np.testing.assert_allclose(jnp.sum(found * across, -1), jnp.sum(members.mean(0) * across, -1), atol=1e-5)


def test_squared_distance_sums_over_the_last_axis():
    predictions = jnp.array([[[1.0, 2.0]], [[0.0, 0.0]]])
    assert zero_shot.squared_distance(predictions, jnp.zeros((1, 2))) == (5 + 0) / 2
    assert not jax.grad(lambda y: zero_shot.squared_distance(predictions, y))(jnp.zeros((1, 2))).any()


def test_tasks_are_goals_or_uniform():
    goals = jax.random.normal(jax.random.key(0), (4000, 3))
    mixed = zero_shot.mixed_tasks(jax.random.key(1), goals, 0.25)
    of_goals = (mixed == zero_shot.on_sphere(goals)).all(1)
    assert 0.22 < of_goals.mean() < 0.28
    np.testing.assert_allclose(jnp.sum(mixed**2, 1), 3, rtol=1e-5)
    # E zzᵀ = I on the sphere of radius √d.
    others = np.asarray(mixed[~of_goals])
    np.testing.assert_allclose(others.T @ others / len(others), np.eye(3), atol=0.1)


def test_whitened_goals_are_the_least_squares_tasks_of_being_there():
    states = jax.random.normal(jax.random.key(0), (7, 3)) * jnp.array([[3.0, 1.0, 0.1]])
    found = zero_shot.on_sphere(zero_shot.whitened(states, states.T @ states / 7))
    np.testing.assert_allclose(found, zero_shot.infer_tasks(states, jnp.eye(7)), atol=1e-3)
    collapsed = zero_shot.whitened(states, jnp.zeros((3, 3)))
    np.testing.assert_allclose(collapsed, 1e6 * states, rtol=1e-3)


@hypothesis.given(st.integers(0, 2**31 - 1), st.integers(1, 6))
@hypothesis.settings(max_examples=20)
def test_inference_is_exact_for_rewards_in_the_span(seed, dim):
    random = np.random.default_rng(seed)
    features = random.normal(size=(50, dim)).astype(np.float32)
    tasks = zero_shot.on_sphere(jnp.asarray(random.normal(size=(3, dim)), jnp.float32))
    lengths = random.uniform(0.1, 10, 3).astype(np.float32)
    found = zero_shot.infer_tasks(jnp.asarray(features), (features @ (tasks * lengths[:, None]).T).T)
    np.testing.assert_allclose(found, tasks, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_mean_tasks_give_exact_values_for_features_that_are_not_orthonormal(seed):
    """M = F B diag(ρ) exactly, for any B of full rank and data distribution ρ: then Q = F E[r B]."""
    random = np.random.default_rng(seed)
    states, pairs = 6, 12
    kernel = random.dirichlet(np.ones(states), pairs)  # P(s' | s, a)
    policy = random.dirichlet(np.ones(2), states)  # π(a | s)
    under_policy = np.einsum("sa,sax->sx", policy, kernel.reshape(states, 2, states))
    measures = kernel @ np.linalg.inv(np.eye(states) - DISCOUNT * under_policy)  # of states after (s, a)
    counts = random.integers(1, 9, states)
    density = counts / counts.sum()
    backward = random.normal(size=(states, states)) @ np.diag(random.uniform(0.1, 3, states))
    forward = measures @ np.diag(1 / density) @ np.linalg.inv(backward).T
    rewards = random.normal(size=states)
    labelled = np.repeat(np.arange(states), counts)  # a dataset whose states have the density ρ
    features, labels = np.float32(backward[labelled]), np.float32(rewards[labelled])[None]

    def direction_of_values(task):
        values = forward @ np.asarray(task, np.float64)
        return values / np.linalg.norm(values)

    exact = measures @ rewards
    exact /= np.linalg.norm(exact)
    (found,) = zero_shot.mean_tasks(features, labels)
    np.testing.assert_allclose(np.linalg.norm(found), np.sqrt(states), rtol=1e-5)
    np.testing.assert_allclose(direction_of_values(found), exact, atol=1e-4)
    (fitted,) = zero_shot.infer_tasks(features, labels)
    assert np.abs(direction_of_values(fitted) - exact).max() > 0.05
    # A goal g: its density δ_g / ρ(g) as reward gives z = B(g).
    goal = np.float32(np.eye(states)[2] / density[2])[labelled][None]
    np.testing.assert_allclose(
        zero_shot.mean_tasks(features, goal), zero_shot.on_sphere(backward[2:3]), rtol=1e-4
    )


def test_inference_leaves_out_what_features_do_not_span():
    """Features of rank 1 in two dimensions: the shortest solution is parallel to them."""
    features = jnp.array([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]])
    found = zero_shot.infer_tasks(features, jnp.array([[1.0, 2.0, -1.0]]))
    np.testing.assert_allclose(found, [[1, 1]], atol=1e-5)


# Theory, on MDPs of a few states under one policy. Encoders are tables, and predictors matrices.

DISCOUNT = 0.8


def transitions(seed: int, states: int) -> np.ndarray:
    """A symmetric P with uniform stationary distribution, as the theorems assume."""
    random = np.random.default_rng(seed)
    permutations = [np.eye(states)[random.permutation(states)] for _ in range(4)]
    chances = random.dirichlet(np.ones(4))
    mixed = sum(chance * (one + one.T) / 2 for chance, one in zip(chances, permutations, strict=True))
    return np.float32(0.9 * mixed + 0.1 / states)


def descend(loss, params, steps, learning_rate, optimizer=optax.adam):
    """Parameters after a number of gradient steps; targets use the parameters of the step before."""
    descent = optimizer(learning_rate)

    def step(carry, _):
        params, state = carry
        gradients = jax.grad(loss)(params, params)
        updates, state = descent.update(gradients, state)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda: jax.lax.scan(step, (params, descent.init(params)), length=steps)[0][0])()


def tables(seed: int, states: int, dim: int) -> dict[str, jax.Array]:
    """Orthonormal φ and ψ, and two matrices."""
    keys = jax.random.split(jax.random.key(seed), 4)

    def encoder(key):
        return jnp.sqrt(states) * jnp.linalg.qr(jax.random.normal(key, (states, dim)))[0]

    return {
        "state": encoder(keys[0]),
        "task": encoder(keys[1]),
        "task_predictor": 0.1 * jax.random.normal(keys[2], (dim, dim)),
        "state_predictor": 0.1 * jax.random.normal(keys[3], (dim, dim)),
    }


def kept_apart(table) -> jax.Array:
    """The orthonormality loss of draws from all states, each drawn often: close to its expectation."""
    return zero_shot.orthonormality_loss(jnp.tile(table, (16, 1)))


def td_jepa(kernel: np.ndarray, orthonormality: float):
    """TD-JEPA's loss in expectation over s' ~ P(s): the target of a state is the mean of its successors'."""
    config = TaskConditionedConfig(discount=DISCOUNT)
    masks = jnp.ones(len(kernel))

    def loss(params, bars):
        total = orthonormality * sum(kept_apart(params[name]) for name in ("state", "task"))
        for own, other in (("state", "task"), ("task", "state")):
            following = bars[own] @ bars[f"{other}_predictor"]
            target = kernel @ successor_target(config, bars[other], following[None], masks)
            total += zero_shot.squared_distance((params[own] @ params[f"{other}_predictor"])[None], target)
        return total

    return loss


@pytest.mark.parametrize("seed", [0, 1])
def test_at_full_rank_the_predictor_gives_successor_features_and_measure(seed):
    states = 5
    kernel = transitions(seed, states)
    learning_rate = optax.cosine_decay_schedule(1e-3, 16_000)  # at a constant one Adam's last bits decide
    params = descend(td_jepa(kernel, 1.0), tables(seed, states, states), 16_000, learning_rate)
    measure = np.linalg.inv(np.eye(states) - DISCOUNT * kernel)
    predicted = np.asarray(params["state"] @ params["task_predictor"])
    # The successor measure from the next state on.
    np.testing.assert_allclose(predicted, measure @ kernel @ params["task"], 1e-3, 1e-3)
    factorised = np.eye(states) + DISCOUNT * predicted @ np.linalg.inv(params["task"])
    np.testing.assert_allclose(factorised, measure, 1e-3, 1e-3)


def spectrum(table) -> np.ndarray:
    """Eigenvalues of E φφᵀ over uniform states, in rising order."""
    return np.linalg.eigvalsh(np.asarray(table.T @ table) / len(table))


@pytest.mark.parametrize("seed", [0, 1])
def test_features_do_not_collapse_from_an_orthonormal_start(seed):
    """With predictors at their optimum and small steps E φφᵀ stays constant, even without its own loss."""
    states, dim = 8, 3
    kernel = transitions(seed, states)

    def loss(params, bars):
        fitted = params | {
            f"{other}_predictor": jax.lax.stop_gradient(optimum(bars, own, other))
            for own, other in (("state", "task"), ("task", "state"))
        }
        return td_jepa(kernel, 0.0)(fitted, bars | {name: fitted[name] for name in fitted if "_" in name})

    def optimum(bars, own, other):
        """Predictor W with φ W = the projection of P (ψ + γ φ W), for orthonormal φ."""
        inverse = jnp.linalg.inv(bars[own].T @ bars[own])
        step = inverse @ bars[own].T @ kernel
        return jnp.linalg.solve(jnp.eye(dim) - DISCOUNT * step @ bars[own], step @ bars[other])

    params = descend(loss, tables(seed, states, dim), 3000, 0.01, optax.sgd)
    assert spectrum(params["state"])[0] > 0.9
    assert spectrum(params["task"])[0] > 0.9
    assert float(jnp.abs(params["state"] - tables(seed, states, dim)["state"]).max()) > 0.1  # and it learns


@pytest.mark.parametrize(("orthonormality", "least"), [(0.0, (0.0, 0.05)), (1.0, (0.5, 2.0))])
def test_without_targets_of_their_own_features_collapse_unless_kept_apart(orthonormality, least):
    """Prediction of the next encoding alone, without a stopped gradient of the target."""
    states, dim = 8, 3
    kernel = transitions(0, states)

    def loss(params, bars):
        del bars
        errors = params["state"] @ params["state_predictor"] - kernel @ params["state"]
        return jnp.mean(jnp.sum(errors**2, 1)) + orthonormality * kept_apart(params["state"])

    params = descend(loss, tables(0, states, dim), 3000, 3e-3)
    assert least[0] <= spectrum(params["state"])[0] <= least[1]


@hypothesis.given(st.integers(0, 2**31 - 1))
@hypothesis.settings(max_examples=20)
def test_values_err_by_no_more_than_the_measure(seed):
    """With orthonormal ψ and inferred tasks, ‖V̂ - V‖ ≤ ‖M̂ - M‖ ‖r‖, whatever the predictor."""
    random = np.random.default_rng(seed)
    states, dim = 7, 4
    kernel = transitions(seed, states)
    measure = np.linalg.inv(np.eye(states) - DISCOUNT * kernel) @ kernel
    task = np.sqrt(states) * np.linalg.qr(random.normal(size=(states, dim)))[0]
    predictions = measure @ task + random.normal(scale=random.uniform(0, 1), size=(states, dim))
    rewards = random.normal(size=states)
    found = np.asarray(zero_shot.infer_tasks(jnp.float32(task), jnp.float32(rewards)[None]))[0]
    # A task on the sphere lacks the length of the least-squares solution ψᵀr / S.
    found = found * np.linalg.norm(task.T @ rewards / states) / np.sqrt(dim)
    error = np.linalg.norm(predictions @ found - measure @ rewards)
    bound = np.linalg.norm(predictions @ task.T / states - measure, 2) * np.linalg.norm(rewards)
    assert error <= bound * 1.001 + 1e-4
