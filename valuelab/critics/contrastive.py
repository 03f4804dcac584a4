"""The critic of contrastive RL: its values classify whether a goal comes later in a trajectory.

    Q_i(s, a, g) = φ_i(s, a)ᵀ ψ_i(g) / √d,   V(s, g) = φ_V(s)ᵀ ψ_V(g) / √d,   Q = min_i Q_i

One update is one step of Adam on L_Q + L_V. L_Q is the mean over the ensemble of the contrastive losses of
Q_i, and L_V is the loss of V. Positive pairs are the transitions of the batch with their own `goals`.
Negative pairs are all other pairs of a transition and a goal of the batch. If a goal is the observation k ≥ 1
steps later with probability (1 - γ) γ^(k-1), Q_i learns

    log p_γ(g | s, a) - log p(g) - c,   p_γ(g | s, a) = (1 - γ) Σ_k γ^(k-1) P(s_k = g | s_0 = s, a_0 = a).

Later actions are those of the data. The constant c depends only on the batch size (see
`valuelab.ops.contrastive`), and γ is data.goals.discount. Q - V is log p_γ(g | s, a) - log p_γ(g | s). A goal
beyond the last transition of the trajectory is replaced by the observation of that transition. Rewards, masks
and next observations play no part, and there are no target networks.

Source: Eysenbach, Zhang, Levine, Salakhutdinov 2022, "Contrastive Learning as Goal-Conditioned Reinforcement
Learning", arXiv:2206.07568; networks, losses and V as in OGBench (Park et al. 2025, arXiv:2410.20092). In
OGBench the policy's step sees the old Q, and here the new one.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting, widths
from valuelab.critics.values import offered
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import ensemble
from valuelab.networks.settings import NetworkConfig
from valuelab.networks.values import Factor
from valuelab.ops.contrastive import accuracy, binary_nce, symmetric_infonce
from valuelab.ops.goals import join, split
from valuelab.types import (
    Array,
    Critic,
    Estimates,
    GoalConditioned,
    Key,
    Metrics,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastConfig(NetworkConfig):
    """Hyperparameters of a contrastive loss and of its networks."""

    layer_norm: bool = setting(True, help="Normalise the hidden layers, after their activation.")
    latent_dim: int = setting(512, "[1, inf)", "d, dimension of φ and ψ.")
    loss: Literal["binary", "symmetric"] = setting(
        "binary", help='Contrastive loss, "binary" NCE or "symmetric" InfoNCE.'
    )
    logsumexp_weight: float = setting(
        0.1,
        "[0, inf)",
        'Weight of the log-sum-exp regulariser of "symmetric", at least 0. It chooses the constant that this '
        "loss leaves open.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(ContrastConfig):
    """Hyperparameters of the contrastive critic. Its discount is data.goals.discount."""

    hidden_dims: tuple[int, ...] = widths((512, 512, 512), "Width of each hidden layer of φ and of ψ.")
    ensemble_size: int = setting(2, "[1, inf)", "E, number of networks in the ensemble of Q.")
    state_value: bool = setting(
        False, help="Also learn V(s, g), which policies need that weight actions by advantages, such as awr."
    )


def scores(phi: Array, psi: Array) -> Array:
    """φᵀψ / √d of vectors [..., d]."""
    return jnp.sum(phi * psi, axis=-1) / jnp.sqrt(phi.shape[-1])


def contrast(config: ContrastConfig, phi: Array, psi: Array) -> tuple[Array, Metrics]:
    """The contrastive loss of a batch, a mean over the ensemble.

    Args:
        config: hyperparameters.
        phi: φ of the inputs, [B, d], or [E, B, d] of an ensemble.
        psi: ψ of their goals, likewise.

    Returns:
        The loss, and metrics: the loss, the accuracy, and the mean logits of positive and negative pairs.

    Raises:
        InputError: for a batch of one, which has no negative pairs.
    """
    if (size := phi.shape[-2]) < 2:
        raise InputError(
            f"batch_size is {size}, but a contrastive loss takes the goals of other transitions of the batch "
            "as negatives: give at least 2"
        )
    logits = jnp.einsum("...ik,...jk->...ij", phi, psi) / jnp.sqrt(phi.shape[-1])
    logits = logits.reshape(-1, size, size)
    if config.loss == "binary":
        losses = jax.vmap(binary_nce)(logits)
    else:
        losses = jax.vmap(lambda one: symmetric_infonce(one, config.logsumexp_weight))(logits)
    loss, own = jnp.mean(losses), jnp.einsum("eii->ei", logits)
    return loss, {
        "loss": loss,
        "accuracy": jnp.mean(jax.vmap(accuracy)(logits)),
        "positive": jnp.mean(own),
        "negative": (jnp.sum(logits) - jnp.sum(own)) / (own.size * (size - 1)),
    }


def contrastive_critic(config: ContrastiveConfig, spec: Spec) -> Critic:
    """Builds the critic.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic of observations joined with goals. It offers q, the minimum over the ensemble (its gradient
        too where actions are continuous), and with `state_value` also value and advantage, min_i Q_i - V.

    Raises:
        InputError: when the data have no goals. Its update raises it for a batch of one transition.
    """
    if not spec.goal_conditioned:
        raise InputError(
            "the contrastive critic learns from goals, but the data have none: give a goal-conditioned "
            "dataset, such as ogbench/pointmaze-medium-navigate-v0, or another critic"
        )
    layers = (config.latent_dim, config.hidden_dims, config.layer_norm, spec.num_actions, config.activation)
    members = ensemble(Factor, config.ensemble_size)(*layers)
    # φ and ψ, each with its own encoder of images.
    networks = {"q_state": members, "q_goal": members}
    if config.state_value:
        networks |= {"value_state": Factor(*layers), "value_goal": Factor(*layers)}
    networks = {name: with_encoder(config.encoder, spec, network) for name, network in networks.items()}
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        update_key, *keys = jax.random.split(key, 1 + len(networks))
        observations, goals = split(example.observations)
        inputs = {"q_state": (observations, example.actions), "value_state": (observations,)}
        params = {
            name: network.init(network_key, *inputs.get(name, (goals,)))
            for (name, network), network_key in zip(networks.items(), keys, strict=True)
        }
        return learning.start(update_key, params, {}, optimizer.init(params))

    def factors(params: Params, name: str, joined: Array, *actions: Array) -> tuple[Array, Array]:
        """φ and ψ of Q, [E, B, d], or of V, [B, d]."""
        observations, goals = split(joined)
        return tuple(  # type: ignore[return-value]
            networks[f"{name}_{part}"].apply(params[f"{name}_{part}"], *inputs)
            for part, inputs in (("state", (observations, *actions)), ("goal", (goals,)))
        )

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        del policy

        def loss(params: Params) -> tuple[Array, Metrics]:
            found = {"q": contrast(config, *factors(params, "q", batch.observations, batch.actions))}
            if config.state_value:
                found["value"] = contrast(config, *factors(params, "value", batch.observations))
            metrics = {
                f"{name}_{metric}": number
                for name, (_, metrics) in found.items()
                for metric, number in metrics.items()
            }
            return sum(loss for loss, _ in found.values()), metrics  # type: ignore[return-value]

        return learning.update(state, loss, optimizer)

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            return jnp.min(scores(*factors(state.params, "q", observations, actions)), axis=0)

        if not config.state_value:
            return Estimates(q=q)

        def value(observations: Array) -> Array:
            return scores(*factors(state.params, "value", observations))

        def advantage(batch: Transitions) -> Array:
            return q(batch.observations, batch.actions) - value(batch.observations)

        return Estimates(q=q, value=value, advantage=advantage)

    def goal_scores(state: TrainState, observations: Any, actions: Array, goals: Any) -> Array:
        return estimates(state).q(join(GoalConditioned(observations, goals)), actions)

    return Critic(
        name="contrastive" if config.state_value else "contrastive (state_value=False)",
        offers=offered(spec, "q", *(("value", "advantage") if config.state_value else ())),
        init=init,
        update=update,
        average_targets=lambda state: state,
        estimates=estimates,
        goal_scores=goal_scores,
    )
