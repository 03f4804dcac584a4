"""Claim: flow critics follow moving TD targets by reweighting their features, plain critics overwrite them.

    python -m experiments.studies.flow_claims.plasticity --workdir=runs/claims/plasticity

trains floq and a plain critic of the same size in six ways: as they are (td), on the value of the policy of
the log (sarsa), on Monte Carlo returns (monte_carlo), with features frozen from half of training on (frozen),
on the values of ten successive policies that are the same for both (successive), and while acting, half of
each batch from the log (online). It compares how the norm of the last features grows, what freezing costs,
and how badly the last Q follows from the features of half of training. With --workdir=OUT, OUT gets
result.json and claim.png, and a folder of each kind of critic. The same command again goes on where it was
stopped.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import pictures, trials
from experiments.studies.flow_claims.trials import KINDS, MONOLITHIC, ClaimConfig, Found, Task, Trial, online
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
    Spec,
    TrainState,
    Transitions,
)

CLAIM = "Under TD, the norm of a plain critic's features grows more than that of a flow critic's"
REGIMES = ("td", "sarsa", "monte_carlo", "frozen", "successive", "online")


def frozen(critic: Critic, after: int) -> Critic:
    """The critic, of whose Q network nothing but the last layer learns after so many updates.

    What a flow critic distils goes on learning: it follows Q, and is not where Q comes from.
    """

    def learns(path: Any) -> bool:
        names = [part.key for part in path]
        is_output = "output_layer" in names or names[-3:-1] == ["StateValue_0", "Dense_0"]
        return is_output or "distilled" in names

    def update(state: TrainState, batch: Transitions, look_ahead: Any) -> tuple[TrainState, Metrics]:
        after_update, metrics = critic.update(state, batch, look_ahead)
        moves = state.step < after
        params = jax.tree_util.tree_map_with_path(
            lambda path, new, old: new if learns(path) else jnp.where(moves, new, old),
            after_update.params,
            state.params,
        )
        return after_update._replace(params=params), metrics

    return critic._replace(update=update)


def logged() -> Policy:
    """The policy of the log, which learns nothing: it looks ahead with the log's own next actions."""

    def init(key: Key, example: Transitions) -> TrainState:
        return TrainState({}, {}, (), jnp.zeros((), jnp.int32), key)

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        return state._replace(step=state.step + 1), {}

    def sample(state: Any, observations: Array, key: Key, temperature: Any, estimates: Estimates) -> Array:
        raise NotImplementedError("the policy of a log is known in the log's states alone")

    def look_ahead(state: Any, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        assert batch.next_actions is not None
        return NextActions(batch.next_actions, jnp.zeros_like(batch.rewards))

    return Policy("logged", frozenset(), init, update, sample, look_ahead)


def successive(policy: Policy, snapshots: Any, updates_each: int) -> Policy:
    """Policies that take turns and learn nothing: the states [n, ...] of one, each for so many updates."""
    count = len(jax.tree.leaves(snapshots)[0])

    def look_ahead(state: TrainState, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        turn = jnp.minimum(state.step // updates_each, count - 1)
        of_turn = jax.tree.map(lambda leaf: leaf[turn], snapshots)
        actions = policy.sample(of_turn, batch.next_observations, key, 1.0, estimates)
        return NextActions(actions, jnp.zeros_like(batch.rewards))

    return logged()._replace(name="successive", look_ahead=look_ahead)


def with_returns(dataset: Dataset, discount: float) -> Dataset:
    """The log with Monte Carlo returns as rewards and nothing after them, where these are known."""
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


def train(config: ClaimConfig, task: Task, kind: str) -> dict[str, Trial]:
    """Trains one kind of critic in every way, or does what is left of it; way to trial."""

    def learn(regime: str, **how: Any) -> Trial:
        return trials.learn(config, task, f"{kind}_{regime}", KINDS[kind], **how)

    def half_frozen(config_of_agent: Any, spec: Spec) -> Agent:
        critic = frozen(critic_of(config_of_agent, spec), config.steps // 2)
        return actor_critic(critic, policy_of(config_of_agent, spec))

    def evaluated(policy: Policy) -> dict[str, Any]:
        """A critic that learns what a given policy is worth, and acts nowhere."""

        def make_agent(config_of_agent: Any, spec: Spec) -> Agent:
            return actor_critic(critic_of(config_of_agent, spec), policy)

        return {"make_agent": make_agent, "changes": {"eval_episodes": 0}}

    # The policies of the plain critic's first seed, for critics of both kinds.
    reference = trials.learn(config, task, "monolithic_td", MONOLITHIC)
    policies = [jax.tree.map(lambda leaf: leaf[0], state.policy) for state in reference.states().values()]
    snapshots = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    agent_config = reference.run.config.agent
    policy = policy_of(agent_config, reference.run.spec)
    returns = with_returns(task.dataset, agent_config.critic.discount)

    return {
        "td": learn("td"),
        "sarsa": learn("sarsa", **evaluated(logged())),
        "monte_carlo": learn(
            "monte_carlo",
            **evaluated(logged()),
            experience=lambda run: offline(sampling.transitions(returns, run.batch_size)),
        ),
        "frozen": learn("frozen", make_agent=half_frozen),
        "successive": learn(
            "successive", **evaluated(successive(policy, snapshots, config.steps // config.evaluations))
        ),
        "online": learn("online", experience=online(task, 1.0, config.steps)),
    }


def examine(config: ClaimConfig) -> Found:
    """Trains both kinds in every way and compares their features; `trials.Found`."""
    task = trials.task(config)
    found = {kind: train(config, task, kind) for kind in KINDS}
    looks = {kind: {regime: trial.look() for regime, trial in ways.items()} for kind, ways in found.items()}

    def over_time(kind: str, regime: str, *names: str) -> np.ndarray:
        """[M, evaluations] of a number in the reports."""
        reports: list[Any] = looks[kind][regime]
        for name in names:
            reports = [report[name] for report in reports]
        return np.stack(reports, axis=1)

    last = f"layer_{len(looks['flow']['td'][0]['layers'])}"

    def growth(kind: str, regime: str) -> np.ndarray:
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

    def cost(kind: str) -> np.ndarray:
        """What freezing takes off the last return, [M]."""
        whole, frozen = (found[kind][way].last for way in ("td", "frozen"))
        return whole - frozen

    freezing = statistics.difference(cost("monolithic"), cost("flow"))

    scores = {
        f"{kind}, {way}": trials.score(trial)
        for kind, ways in found.items()
        for way, trial in ways.items()
        if trial.scores
    }
    without_gap = 1 - 2 * abs(growths["monte_carlo"]["sign"])

    def draw() -> Any:
        figure, axes = pictures.panels(4, "Features under moving targets: flow critic against plain critic")
        updates = np.array([report["step"] for report in looks["flow"]["td"]])
        for axis, kind in zip(axes, KINDS, strict=False):
            norms = {way: over_time(kind, way, "layers", last, "feature_norm") for way in REGIMES}
            pictures.by_seed(axis, updates, norms, "updates", "norm of the last features")
            axis.set_title(kind)
        ranks = {
            f"{kind}, {way}": over_time(kind, way, "layers", last, "effective_rank")
            for kind in KINDS
            for way in ("td", "monte_carlo")
        }
        pictures.by_seed(axes[2], updates, ranks, "updates", "effective rank")
        shown = [f"{kind}, {way}" for kind in KINDS for way in ("td", "frozen")]
        pictures.scores(axes[3], {name: scores[name] for name in shown})
        return figure

    def told(values: np.ndarray) -> dict[str, Any]:
        return statistics.mean_interval(values[:, None])

    evidence = {
        "scores": scores,
        "log_growth_of_feature_norm": {
            kind: {regime: told(growth(kind, regime)) for regime in REGIMES} for kind in KINDS
        },
        "growth_of_monolithic_beyond_flow": growths,
        "later_refit_error_of_monolithic_beyond_flow": refits,
        "cost_of_freezing": {kind: told(cost(kind)) for kind in KINDS},
        "cost_for_monolithic_beyond_flow": freezing,
        "verdicts": {
            "feature norms grow more in the plain critic under TD": trials.verdict(growths["td"]["sign"]),
            "and not under Monte Carlo regression": trials.verdict(without_gap),
            "freezing features costs the plain critic more": trials.verdict(freezing["sign"]),
            "later values follow worse from its features": trials.verdict(refits["td"]["sign"]),
        },
        "last_reports": {
            kind: {regime: looks[kind][regime][-1]["layers"] for regime in REGIMES} for kind in KINDS
        },
    }
    return Found(CLAIM, trials.verdict(growths["td"]["sign"]), evidence, draw)


if __name__ == "__main__":
    trials.launch(examine)
