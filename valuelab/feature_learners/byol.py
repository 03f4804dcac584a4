"""BYOL: an encoding and an action predict the encoding of a later state.

    L = mean_i E ‖P_i(φ(s), a) - φ̄(s⁺)‖² + β Ω(φ)

The mean is over an ensemble of predictors. φ̄ is the target average of the encoder, without gradient. s⁺ is
the next state. In BYOL-γ it is a later state of the trajectory, at a geometrically distributed distance.

Source: Grill et al. 2020, arXiv:2006.07733, for the targets; Lawson, Hugessen et al. 2025, arXiv:2506.10137,
for BYOL-γ. The ensemble is that of the code of TD-JEPA's study.
"""

import dataclasses
from typing import Literal

from valuelab.configuration import setting, widths
from valuelab.feature_learners.encoders import SpreadConfig, init_with, spread_loss
from valuelab.feature_learners.goals import futures_of
from valuelab.networks.encodings import StepPredictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.zero_shot import squared_distance
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOLConfig(SpreadConfig):
    """Hyperparameters of BYOL's features."""

    orthonormality: float = 0.01
    predictor_dims: tuple[int, ...] = widths((512, 512), "Width of each hidden layer of P.")
    num_predictors: int = setting(2, "[1, inf)", "Number of predictors P.")
    ahead: Literal["next", "geometric"] = setting(
        "next",
        help='State that is predicted: the "next", or a later one of the trajectory, "geometric" (BYOL-γ).',
    )


def byol(config: BYOLConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encoder = config.encoder
    predictor = ensemble(StepPredictor, config.num_predictors)(config.predictor_dims, config.dim)

    def init(key: Key, example: Transitions) -> Params:
        return init_with(config, "predictor", predictor, key, example)

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        del key
        ahead = batch.next_observations if config.ahead == "next" else futures_of(batch, "byol")
        features = encode(params, batch.observations)
        predictions = predictor.apply(params["predictor"], features, batch.actions)
        prediction_loss = squared_distance(predictions, encode(targets, ahead))
        return spread_loss(config, "prediction_loss", prediction_loss, features)

    def encode(params: Params, observations: Array) -> Array:
        return encoder.apply(params["encoder"], observations)

    return FeatureLearner(
        name="byol",
        dim=config.dim,
        init=init,
        loss=loss,
        encode=encode,
        predictors=frozenset({"predictor"}),
    )
