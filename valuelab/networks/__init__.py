"""Networks (flax.linen modules) and updates of their parameters."""
