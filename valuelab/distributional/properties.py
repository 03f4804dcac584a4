"""What an objective must be like for distributional dynamic programming to find its optimum."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Properties:
    """What is known of a functional K of return distributions; K = E f for expected utilities.

    Attributes:
        mixture_indifferent: mixing each of two distributions with a third never turns their order round.
        gamma_indifferent: scaling two distributions by one factor in (0, 1] never turns their order round.
        lipschitz: |K(ν) - K(ν')| ≤ lipschitz · W₁(ν, ν'), W₁ for the Euclidean metric; infinite if none.
        degree: d where f(λx) = λᵈ f(x) for every λ > 0, else None.
        reward_dim: the number m of reward components that K takes; None if any.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 4.
    """

    mixture_indifferent: bool = True
    gamma_indifferent: bool = True
    lipschitz: float = math.inf
    degree: float | None = None
    reward_dim: int | None = 1
