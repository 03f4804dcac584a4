"""Networks (flax.linen modules) and what is done to their parameters."""
