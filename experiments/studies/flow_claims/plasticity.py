"""Claim: flow critics follow moving TD targets by reweighting their features; plain critics overwrite them.

    python -m experiments.studies.flow_claims.plasticity --workdir=runs/claims/plasticity

trains floq and a plain critic of the same size in six regimes:

    td           as usual
    sarsa        on the value of the policy that made the log
    monte_carlo  on Monte Carlo returns
    frozen       as usual, but all layers except the last stop learning after half of the updates
    successive   on the values of a sequence of policies, one per evaluation, the same for both critics
    online       while acting; one half of each batch comes from the log

It compares how much the norm of the last features grows, how much return freezing costs, and how badly the
last Q can be fitted to the features from the middle of training.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic and regime. The same command
continues after an interruption.

Measured with this command (benchmarks/flow_claims_plasticity.json): undecided, and in part the opposite.
Under TD the log of the norm changes by -0.023 in the plain critic and by -0.043 in the flow critic. The
difference is 0.020 (-0.008 to 0.047).

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import claims, pendulum, pictures
from experiments.studies.flow_claims.claims import ClaimConfig, ClaimResult
from experiments.studies.flow_claims.pendulum import PendulumData
from experiments.studies.flow_claims.variants import KINDS, MONOLITHIC, TrainedVariant, score, train_variant
from valuelab.agents.actor_critic import actor_critic
from valuelab.agents.composed import critic_of, policy_of
from valuelab.data import sampling, storage
from valuelab.evaluation import statistics
from valuelab.evaluation.diagnostics import MISSING
from valuelab.ops.returns import monte_carlo_returns
from valuelab.training.experience import offline
from valuelab.types import (
    Agent,
    Array,
    Critic,
    Dataset,
    Estimates,
    Key,
    Metrics,
    NextActions,
    Policy,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)

CLAIM = "Under TD, the norm of a plain critic's features grows more than that of a flow critic's"
REGIMES = ("td", "sarsa", "monte_carlo", "frozen", "successive", "online")


def frozen(critic: Critic, after: int) -> Critic:
    """The same critic, but after `after` updates only the last layer of its Q network learns.

    The distilled copy of a flow critic's Q keeps learning: it follows Q, and Q does not depend on it.
    """

    def learns(path: Any) -> bool:
        names = [part.key for part in path]
        is_output = "output_layer" in names or names[-3:-1] == ["StateValue_0", "Dense_0"]
        return is_output or "distilled" in names

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        after_update, metrics = critic.update(state, batch, policy)
        moves = state.step < after
        params = jax.tree_util.tree_map_with_path(
            lambda path, new, old: new if learns(path) else jnp.where(moves, new, old),
            after_update.params,
            state.params,
        )
        return after_update._replace(params=params), metrics

    return critic._replace(update=update)


def logged() -> Policy:
    """The policy that made the log. It does not learn, and its next actions are those in the log."""

    def init(key: Key, example: Transitions) -> TrainState:
        return TrainState({}, {}, (), jnp.zeros((), jnp.int32), key)

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        return state._replace(step=state.step + 1), {}

    def sample(state: Any, observations: Array, key: Key, temperature: Any, estimates: Estimates) -> Array:
        raise NotImplementedError("the policy of a log is only known at the states of the log")

    def look_ahead(state: Any, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        assert batch.next_actions is not None
        return NextActions(actions=batch.next_actions, costs=jnp.zeros_like(batch.rewards))

    return Policy(
        name="logged",
        needs=frozenset(),
        init=init,
        update=update,
        sample=sample,
        look_ahead=look_ahead,
    )


def successive(policy: Policy, snapshots: Any, updates_each: int) -> Policy:
    """A policy that does not learn and uses each of its saved states [n, ...] for `updates_each` updates."""
    count = len(jax.tree.leaves(snapshots)[0])

    def look_ahead(state: TrainState, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        turn = jnp.minimum(state.step // updates_each, count - 1)
        of_turn = jax.tree.map(lambda leaf: leaf[turn], snapshots)
        actions = policy.sample(of_turn, batch.next_observations, key, 1.0, estimates)
        return NextActions(actions=actions, costs=jnp.zeros_like(batch.rewards))

    return logged()._replace(name="successive", look_ahead=look_ahead)


def with_returns(dataset: Dataset, discount: float) -> Dataset:
    """The rows of the log whose Monte Carlo return is known, with the return as reward and mask 0."""
    rewards, masks, ends = map(jnp.asarray, (dataset.rewards, dataset.masks, storage.are_last(dataset)))
    returns, missing = map(np.asarray, monte_carlo_returns(rewards, masks, ends, discount))
    known = missing < MISSING
    last = np.append(known[:-1] & ~known[1:], known[-1]) | (known & dataset.terminals)
    columns = {
        "observations": dataset.observations[known],
        "actions": dataset.actions[known],
        "rewards": returns[known],
        "masks": np.zeros_like(returns[known]),
        "terminals": last[known],
        "next_observations": dataset.next_observations[known],  # type: ignore[index] # full storage
    }
    return dataclasses.replace(dataset, **columns)


def train_regimes(config: ClaimConfig, data: PendulumData, kind: str) -> dict[str, TrainedVariant]:
    """Trains one kind of critic in every regime, or finishes its training; regime -> variant."""

    def train(regime: str, **options: Any) -> TrainedVariant:
        return train_variant(config, data, f"{kind}_{regime}", KINDS[kind], **options)

    def half_frozen(agent_config: Any, spec: Spec) -> Agent:
        critic = frozen(critic_of(agent_config, spec), config.steps // 2)
        return actor_critic(critic, policy_of(agent_config, spec))

    def evaluating(policy: Policy) -> dict[str, Any]:
        """Options of a variant whose critic learns the value of a given policy; it is not evaluated."""

        def make_agent(agent_config: Any, spec: Spec) -> Agent:
            return actor_critic(critic_of(agent_config, spec), policy)

        return {"make_agent": make_agent, "changes": {"eval_episodes": 0}}

    # Critics of both kinds evaluate the policies of the plain critic's first seed.
    reference = train_variant(config, data, "monolithic_td", MONOLITHIC)
    policies = [jax.tree.map(lambda leaf: leaf[0], state.policy) for state in reference.states().values()]
    snapshots = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    agent_config = reference.run.config.agent
    policy = policy_of(agent_config, reference.run.spec)
    returns = with_returns(data.dataset, agent_config.critic.discount)

    return {
        "td": train("td"),
        "sarsa": train("sarsa", **evaluating(logged())),
        "monte_carlo": train(
            "monte_carlo",
            **evaluating(logged()),
            experience=lambda run: offline(sampling.transitions(returns, run.batch_size)),
        ),
        "frozen": train("frozen", make_agent=half_frozen),
        "successive": train(
            "successive", **evaluating(successive(policy, snapshots, config.steps // config.evaluations))
        ),
        "online": train("online", experience=data.online(1.0, config.steps)),
    }


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains both critics in every regime and compares their features."""
    data = pendulum.record(config)
    variants = {kind: train_regimes(config, data, kind) for kind in KINDS}
    diagnoses = {
        kind: {regime: variant.diagnose() for regime, variant in regimes.items()}
        for kind, regimes in variants.items()
    }

    def over_time(kind: str, regime: str, *path: str) -> np.ndarray:
        """The number at a path in the reports, [M, evaluations]."""
        reports: list[Any] = diagnoses[kind][regime]
        for name in path:
            reports = [report[name] for report in reports]
        return np.stack(reports, axis=1)

    last = f"layer_{len(diagnoses['flow']['td'][0]['layers'])}"

    def growth(kind: str, regime: str) -> np.ndarray:
        """Log of the last norm of the last features over the first, [M]."""
        norms = over_time(kind, regime, "layers", last, "feature_norm")
        return np.log(norms[:, -1] / norms[:, 0])

    growths = {
        regime: statistics.difference(growth("monolithic", regime), growth("flow", regime))
        for regime in REGIMES
    }
    half = config.evaluations // 2 - 1
    refits = {
        regime: statistics.difference(
            *(over_time(kind, regime, "later_refit_error")[:, half] for kind in ("monolithic", "flow"))
        )
        for regime in REGIMES
    }

    def cost_of_freezing(kind: str) -> np.ndarray:
        """Last return without freezing minus last return with freezing, [M]."""
        return variants[kind]["td"].last_returns - variants[kind]["frozen"].last_returns

    costs = statistics.difference(cost_of_freezing("monolithic"), cost_of_freezing("flow"))

    scores = {
        f"{kind}, {regime}": score(variant)
        for kind, regimes in variants.items()
        for regime, variant in regimes.items()
        if variant.scores
    }
    # 1 where the growth under Monte Carlo regression is not known to differ between the critics, else -1.
    sign_without_gap = 1 - 2 * abs(growths["monte_carlo"]["sign"])

    def draw() -> Any:
        figure, axes = pictures.panels(
            4, "Features under moving targets, in a flow critic and a plain critic"
        )
        updates = np.array([report["step"] for report in diagnoses["flow"]["td"]])
        for axis, kind in zip(axes, KINDS, strict=False):
            norms = {regime: over_time(kind, regime, "layers", last, "feature_norm") for regime in REGIMES}
            pictures.by_seed(axis, updates, norms, "updates", "norm of the features of the last layer")
            axis.set_title(kind)
        ranks = {
            f"{kind}, {regime}": over_time(kind, regime, "layers", last, "effective_rank")
            for kind in KINDS
            for regime in ("td", "monte_carlo")
        }
        pictures.by_seed(axes[2], updates, ranks, "updates", "effective rank")
        shown = [f"{kind}, {regime}" for kind in KINDS for regime in ("td", "frozen")]
        pictures.scores(axes[3], {name: scores[name] for name in shown})
        return figure

    def interval(values: np.ndarray) -> dict[str, Any]:
        return statistics.mean_interval(values[:, None])

    evidence = {
        "scores": scores,
        "log_growth_of_feature_norm": {
            kind: {regime: interval(growth(kind, regime)) for regime in REGIMES} for kind in KINDS
        },
        "growth_of_monolithic_beyond_flow": growths,
        "later_refit_error_of_monolithic_beyond_flow": refits,
        "cost_of_freezing": {kind: interval(cost_of_freezing(kind)) for kind in KINDS},
        "cost_for_monolithic_beyond_flow": costs,
        "verdicts": {
            "feature norms grow more in the plain critic under TD": claims.verdict(growths["td"]["sign"]),
            "and not under Monte Carlo regression": claims.verdict(sign_without_gap),
            "freezing features costs the plain critic more": claims.verdict(costs["sign"]),
            "later values follow worse from its features": claims.verdict(refits["td"]["sign"]),
        },
        "last_reports": {
            kind: {regime: diagnoses[kind][regime][-1]["layers"] for regime in REGIMES} for kind in KINDS
        },
    }
    return ClaimResult(CLAIM, claims.verdict(growths["td"]["sign"]), evidence, draw)


if __name__ == "__main__":
    claims.launch(examine)
