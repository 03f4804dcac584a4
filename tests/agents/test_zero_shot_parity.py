"""One update of each zero-shot critic equals that of the equations in `reference_updates`, in float64.

Tasks and the policy's next actions are given. Both sides start from the same random parameters and targets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import reference_updates
from reference_updates import State

from valuelab.critics.forward_backward import ForwardBackwardConfig, forward_backward_critic
from valuelab.critics.successor_features import SuccessorFeaturesConfig, successor_features_critic
from valuelab.critics.td_jepa import TDJEPAConfig, td_jepa_critic
from valuelab.feature_learners.rldp import RLDPConfig
from valuelab.types import Critic, NextActions, PolicyView, Segments, Spec, Transitions

SIZE, DIM, HORIZON = 6, 4, 2
SPEC = Spec((3,), "float64", 2, 0, 0.0, 0.0)


class Case(NamedTuple):
    """A critic and its equations."""

    make: Callable[[Any, Spec], Critic]
    config: Any
    reference: Callable[..., tuple[State, dict[str, Any]]]


SHARED = {
    "predictor_dims": (8, 6),
    "state_dims": (8, 8),
    "state_dim": 5,
    "learning_rate": 0.01,
    "feature_learning_rate": 0.003,
    "discount": 0.9,
    "target_rate": 0.1,
}
TASKS = {"task_dims": (8, 7), "task_dim": DIM}
LATENT_DYNAMICS = RLDPConfig(
    hidden_dims=(8, 7), dim=DIM, dynamics_dims=(8,), horizon=HORIZON, orthonormality=0.3
)
CASES = {
    "td_jepa": Case(
        make=td_jepa_critic,
        config=TDJEPAConfig(**SHARED, **TASKS, state_orthonormality=0.3, task_orthonormality=2.0),
        reference=reference_updates.td_jepa,
    ),
    "symmetric": Case(
        make=td_jepa_critic,
        config=TDJEPAConfig(**SHARED, **TASKS, task_orthonormality=2.0, symmetric=True),
        reference=reference_updates.td_jepa,
    ),
    "forward_backward": Case(
        make=forward_backward_critic,
        config=ForwardBackwardConfig(**SHARED, **TASKS, orthonormality=3.0),
        reference=reference_updates.forward_backward,
    ),
    "successor_features": Case(
        make=successor_features_critic,
        config=SuccessorFeaturesConfig(**SHARED, feature_learner=LATENT_DYNAMICS),
        reference=reference_updates.successor_features,
    ),
    "rldp": Case(
        make=successor_features_critic,
        config=SuccessorFeaturesConfig(**SHARED, feature_learner=LATENT_DYNAMICS, loss="measures"),
        reference=reference_updates.successor_features,
    ),
}


def example_batch() -> Transitions:
    random = np.random.default_rng(0)
    observations, next_observations = random.normal(size=(2, SIZE, 3))
    return Transitions(
        observations=observations,
        actions=random.uniform(-1, 1, (SIZE, 2)),
        rewards=np.zeros(SIZE),
        masks=np.array([1.0, 1, 0, 1, 1, 0]),
        next_observations=next_observations,
        goals=2 * random.normal(size=(SIZE, DIM)),
        segments=Segments(
            actions=random.uniform(-1, 1, (SIZE, HORIZON, 2)),
            observations=random.normal(size=(SIZE, HORIZON, 3)),
            masks=np.stack([np.ones(SIZE), np.arange(SIZE) % 3 > 0], axis=1),
        ),
    )


def as_reference(state: Any) -> State:
    """The state of a critic in the reference's form. Adam's count is the same for all parts."""
    moments = state.opt_state[0]
    return State(
        params=state.params,
        targets=state.target_params,
        first=moments.mu,
        second=moments.nu,
        counts=dict.fromkeys(state.params, moments.count),
    )


@pytest.mark.parametrize("name", CASES)
def test_updates_equal_those_of_the_equations(name):
    """The loss, Adam's moments (which are the gradients), parameters with their two rates, and targets."""
    make, config, reference = CASES[name]
    critic, batch = make(config, SPEC), example_batch()
    random = np.random.default_rng(1)
    next_actions = random.uniform(-1, 1, (SIZE, 2))

    def filled(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: 0.7 * random.normal(size=leaf.shape), tree)

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        shapes = jax.eval_shape(critic.init, jax.random.key(0), batch)
        start = shapes._replace(
            params=filled(shapes.params),
            target_params=filled(shapes.target_params),
            opt_state=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state),
            step=np.zeros((), np.int32),
            key=jax.random.key(0),
        )
        view = PolicyView(look_ahead=lambda batch, key: NextActions(next_actions, np.zeros(SIZE)))

        @jax.jit
        def both(start: Any) -> Any:
            state, metrics = critic.update(start, batch, view)
            ours = as_reference(critic.average_targets(state)), metrics["loss"]
            theirs, losses = reference(as_reference(start), batch, next_actions, config)
            return ours, (theirs, losses["loss"])

        ours, theirs = both(start)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, one), other in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(np.abs(other).max(), 1e-3)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-7 * scale, err_msg=jax.tree_util.keystr(path))
    gradients = jax.tree.map(lambda moment: np.abs(moment).max(), theirs[0].first)
    assert min(jax.tree.leaves(gradients)) > 0
