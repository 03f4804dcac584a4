"""Bootstrapped targets."""

import chex

from valuelab.types import Array


def bootstrapped_target(rewards: Array, masks: Array, next_values: Array, discount: Array | float) -> Array:
    """The one-step temporal-difference target.

        y = r + γ · mask · V(s')

    Args:
        rewards: [B].
        masks: [B], 0 where the episode truly ended at s', else 1.
        next_values: [B], V(s').
        discount: γ in [0, 1], a scalar.

    Returns:
        [B].
    """
    chex.assert_rank([rewards, masks, next_values], 1)
    chex.assert_equal_shape([rewards, masks, next_values])
    return rewards + discount * masks * next_values
