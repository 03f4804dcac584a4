"""Laws of the distributions that policies give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.networks.policies import Categorical, Deterministic, Gaussian


@pytest.mark.parametrize(
    "distribution",
    [
        Gaussian(jnp.array([[0.5, -0.9]]), jnp.array([0.1, -2.0])),
        Deterministic(jnp.array([[0.5, -0.9]])),
        Categorical(jnp.array([[0.1, 3.0, -1.0], [2.0, 0.0, 1.0]])),
    ],
    ids=lambda distribution: type(distribution).__name__,
)
def test_the_mode_is_what_temperature_0_gives_and_nothing_is_likelier(distribution):
    mode = distribution.mode()
    np.testing.assert_array_equal(distribution.sample(jax.random.key(0), 0.0), mode)
    for seed in range(5):
        other = distribution.sample(jax.random.key(seed), 1.0)
        assert (distribution.log_prob(other) <= distribution.log_prob(mode)).all()
