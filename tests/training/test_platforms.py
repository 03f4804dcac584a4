"""Programs are traced for the platform of their devices."""

import jax
import jax.numpy as jnp

from valuelab import platforms
from valuelab.networks.mlp import over_ensemble


def test_no_trace_is_reused_for_another_platform():
    """The inner function is jitted: JAX would reuse its trace if the platform were not part of the key."""
    inner = jax.jit(lambda inputs: over_ensemble(jnp.tanh)(inputs))
    inputs = jnp.ones((2, 3))

    def loops(platform: str) -> bool:
        with platforms.tracing_for(platform):
            return "while" in jax.jit(lambda inputs: inner(inputs)).lower(inputs).as_text()

    assert platforms.current() == "cpu"
    assert [loops(platform) for platform in ("cpu", "gpu", "cpu", "tpu")] == [True, False, True, False]
    assert platforms.on_cpu()
