"""How far the values of any actions exceed those of the data's actions."""

import chex
import jax

from valuelab.types import Array


def conservative_gap(
    q_values: Array, sampled_q: Array, log_probs: Array, temperature: Array | float
) -> Array:
    """The gap that conservative Q-learning closes, by importance sampling.

        gap = T log Σ_j exp((Q(s, a_j) - log p(a_j)) / T) - Q(s, a)

    With T = 1 the sum over K actions a_j ~ p is K times an estimate of ∫ exp Q(s, a) da.

    Args:
        q_values: Q of the data's actions, [E, B].
        sampled_q: Q of other actions, [E, B, K].
        log_probs: of the other actions under what they were drawn from, [B, K].
        temperature: T > 0, in units of returns.

    Returns:
        [E, B].

    Source: Kumar et al. 2020, arXiv:2006.04779, equation 4; weights as in the authors' code.
    """
    chex.assert_rank([q_values, sampled_q, log_probs], [2, 3, 2])
    weighted = (sampled_q - log_probs[None]) / temperature
    return temperature * jax.nn.logsumexp(weighted, axis=-1) - q_values
