"""Contrastive losses of a batch of B positive pairs, whose other B² - B pairs are the negatives.

Logit f_ij scores input x_i, such as a state and an action, with goal g_j. Pairs i = j are drawn from
p(x) p(g | x), and pairs i ≠ j from p(x) p(g). Both losses therefore learn the log ratio of p(g | x) and p(g),
each with its own constant. If g is drawn a geometric number of steps ahead, p(g | x) is the discounted state
occupancy (Eysenbach et al. 2022, "Contrastive Learning as Goal-Conditioned Reinforcement Learning",
arXiv:2206.07568).
"""

import chex
import jax
import jax.numpy as jnp
import optax

from valuelab.types import Array


def binary_nce(logits: Array) -> Array:
    """Binary noise-contrastive estimation: classifies each pair as positive or negative.

        L = -1/B² [Σ_i log σ(f_ii) + Σ_{i≠j} log(1 - σ(f_ij))]

    A batch has B - 1 negatives for each positive. So the minimiser of the expected loss is

        f*(x, g) = log p(g | x) - log p(g) - log(B - 1).

    Args:
        logits: f, [B, B].

    Returns:
        A scalar.

    Source: Eysenbach et al. 2022, arXiv:2206.07568, section 4.1; the mean over all pairs as in OGBench
    (Park et al. 2025, arXiv:2410.20092).
    """
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, jnp.eye(_size(logits))))


def symmetric_infonce(logits: Array, logsumexp_weight: Array | float) -> Array:
    """Symmetric InfoNCE: finds the goal of each input, and the input of each goal, with a regulariser.

        L = -1/B Σ_i [log softmax_j(f_ij)_i + log softmax_j(f_ji)_i] + w/B Σ_i (log Σ_j exp f_ij)²

    The last term is the log-sum-exp regulariser. Without it a constant may be added to all logits. In large
    batches it chooses this constant and changes nothing else, so the minimiser tends to

        f*(x, g) = log p(g | x) - log p(g) - log B.

    Args:
        logits: f, [B, B].
        logsumexp_weight: w, at least 0.

    Returns:
        A scalar.

    Source: Zheng et al. 2024, "Contrastive Difference Predictive Coding", arXiv:2310.20141; sum of both
    directions and regulariser of rows as in JaxGCRL (Bortkiewicz et al. 2025, arXiv:2408.11052), where
    w = 0.1.
    """
    size = _size(logits)
    by_row, by_column = (jax.nn.logsumexp(logits, axis=axis) for axis in (1, 0))
    losses = by_row + by_column - 2 * jnp.diagonal(logits)
    return (jnp.sum(losses) + logsumexp_weight * jnp.sum(jnp.square(by_row))) / size


def accuracy(logits: Array) -> Array:
    """Share of the inputs whose own goal has the largest of the B logits; 1/B by chance."""
    return jnp.mean(jnp.argmax(logits, axis=1) == jnp.arange(_size(logits)))


def _size(logits: Array) -> int:
    """B of logits [B, B]."""
    chex.assert_rank(logits, 2)
    chex.assert_equal(*logits.shape)
    return len(logits)
