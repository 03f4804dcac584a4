"""The stock: the rewards of an episode so far, in units of the return from now on."""

import chex

from valuelab.types import Array


def next_stock(stocks: Array, rewards: Array, discount: Array | float) -> Array:
    """The stock after a reward.

        c' = (c + r) / γ,   so that   c_0 + G_0 = γ^t (c_t + G_t)

    Args:
        stocks: c, [..., m].
        rewards: r, of the same rank; axes of length 1 are broadcast.
        discount: γ in (0, 1], a scalar.

    Returns:
        c', [..., m].

    Source: Pires et al. 2025 (arXiv:2501.13028).
    """
    chex.assert_equal_rank([stocks, rewards])
    return (stocks + rewards) / discount
