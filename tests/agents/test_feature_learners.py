"""Losses and gradients of feature learners equal those written out in `reference_updates`, in float64."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_updates

from valuelab.errors import InputError
from valuelab.feature_learners import goals as goals_of
from valuelab.feature_learners.byol import BYOLConfig, byol
from valuelab.feature_learners.hilp import HILPConfig, hilp
from valuelab.feature_learners.icvf import ICVFConfig, icvf
from valuelab.feature_learners.laplacian import LaplacianConfig, laplacian
from valuelab.networks.encodings import StepPredictor
from valuelab.networks.mlp import ensemble
from valuelab.types import Spec, Transitions

SIZE, DIM = 6, 4
SPEC = Spec((3,), "float64", 2, 0, 0.0, 0.0)
ENCODER = {"hidden_dims": (8, 8), "dim": DIM}
VALUES = {**ENCODER, "discount": 0.9, "random_goals": 0.4}
KEY = jax.random.key(3)
CASES = {
    "laplacian": (
        laplacian,
        LaplacianConfig(**ENCODER, orthonormality=0.3),
        reference_updates.laplacian_loss,
    ),
    "byol": (
        byol,
        BYOLConfig(**ENCODER, predictor_dims=(8,), orthonormality=0.3),
        reference_updates.byol_loss,
    ),
    "byol_gamma": (
        byol,
        BYOLConfig(**ENCODER, predictor_dims=(8,), ahead="geometric"),
        reference_updates.byol_loss,
    ),
    "hilp": (hilp, HILPConfig(**VALUES, expectile=0.8), reference_updates.hilp_loss),
    "icvf": (
        icvf,
        ICVFConfig(**VALUES, expectile=0.8, state_dims=(7,), intent_dims=(8, 6)),
        reference_updates.icvf_loss,
    ),
}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Float64 on both sides; the reference leaves broadcasting to JAX, which our own code states."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def example_batch() -> Transitions:
    """Random transitions. The futures of the first two are the next state, and the state."""
    random = np.random.default_rng(0)
    observations, successors, futures = random.normal(size=(3, SIZE, 3))
    futures[0], futures[1] = successors[0], observations[1]
    return Transitions(
        observations=observations,
        actions=random.uniform(-1, 1, (SIZE, 2)),
        rewards=np.zeros(SIZE),
        masks=np.ones(SIZE),
        next_observations=successors,
        futures=futures,
    )


def drawn(name: str, config: Any, batch: Transitions) -> dict[str, Any]:
    """What the loss draws from KEY."""
    if name.startswith("byol"):
        network = ensemble(StepPredictor, config.num_predictors)(config.predictor_dims, DIM)
        return {"predict": network.apply}

    def goals(key: Any, futures: Any) -> Any:
        kind_key, order_key = jax.random.split(key)
        others = jax.random.permutation(order_key, batch.next_observations)
        return jnp.where(jax.random.uniform(kind_key, (SIZE,))[:, None] < 0.4, others, futures)

    if name == "hilp":
        return {"goals": goals(KEY, batch.futures)}
    if name == "icvf":
        keys = jax.random.split(KEY, 4)
        intents = goals(keys[1], batch.futures[jax.random.permutation(keys[3], SIZE)])
        same = jax.random.uniform(keys[2], (SIZE, 1)) < 0.5
        return {"goals": jnp.where(same, intents, goals(keys[0], batch.futures)), "intents": intents}
    return {}


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_equal_those_of_the_equations(name):
    make, config, reference = CASES[name]
    learner, batch = make(config, SPEC), example_batch()
    shapes = jax.eval_shape(learner.init, KEY, batch)
    random = np.random.default_rng(1)
    params, targets = (
        jax.tree.map(lambda leaf: 0.7 * random.normal(size=leaf.shape), shapes) for _ in range(2)
    )
    draws = drawn(name, config, batch)

    @jax.jit
    def both(params: Any, targets: Any) -> Any:
        ours = jax.value_and_grad(lambda params: learner.loss(params, targets, batch, KEY)[0])
        theirs = jax.value_and_grad(lambda params: reference(params, targets, batch, config, draws))
        return ours(params), theirs(params)

    (loss, gradients), (expected, theirs) = both(params, targets)
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    for (path, one), other in zip(jax.tree.leaves_with_path(gradients), jax.tree.leaves(theirs), strict=True):
        scale = np.abs(other).max()
        assert scale > 0 or name == "hilp", path  # differences do not see the last bias
        np.testing.assert_allclose(
            one, other, rtol=0, atol=1e-9 * max(scale, 1e-3), err_msg=jax.tree_util.keystr(path)
        )


def test_goals_are_later_states_and_any_states_in_the_shares_of_the_settings():
    rows = np.arange(4000.0)[:, None]
    batch = Transitions(rows, rows, rows[:, 0], rows[:, 0], rows + 10_000, futures=rows + 20_000)
    goals = goals_of.draw_goals(KEY, batch, 0.375, "hilp")
    later = np.asarray(goals >= 20_000)[:, 0]
    assert 0.6 < later.mean() < 0.65
    np.testing.assert_array_equal(goals[later], rows[later] + 20_000)
    assert (goals[~later] != rows[~later] + 10_000).mean() > 0.99
    with pytest.raises(InputError, match="hilp learns from later observations"):
        goals_of.draw_goals(KEY, batch._replace(futures=None), 0.375, "hilp")
