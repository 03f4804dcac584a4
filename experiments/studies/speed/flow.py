r"""Measures one update of floq here, against the straightforward form of the same maths.

    python -m experiments.studies.speed.flow --out=FILE

Four forms of the update are timed in turn with a large float32 matrix product, in one process:

    shared           as it is: what observation and action bring to the field's first layer is computed once
    bfloat16         the same with critic.integration_dtype=bfloat16
    reembedded       the same, but the whole first layer is applied to every draw at every step
    straightforward  reembedded, with all members of the ensemble under vmap and flax's layer norm, as one
                     would write it with no eye on the clock

Printed, and with --out=FILE written as JSON, are the speed of each with its share of the peak that matrix
products reach; how far each gets from where `shared` gets in an update of the same state with the same batch;
how far bfloat16 moves Q; and the memory that updates with different numbers of steps take beside their
arguments and results. Data are random: speed depends on shapes alone.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import rich.table

from valuelab import configuration
from valuelab.agents.actor_critic import actor_critic
from valuelab.configuration import check_ranges
from valuelab.critics.flow import FlowCriticConfig, flow_critic
from valuelab.networks.mlp import LayerNorm, pairs
from valuelab.networks.velocities import ValueVelocity
from valuelab.ops.flow import integrate
from valuelab.policies.one_step_flow import OneStepFlowConfig, one_step_flow
from valuelab.runs import flags, outputs
from valuelab.training import throughput
from valuelab.types import Agent, Array, Critic, Spec, Transitions


@dataclasses.dataclass(frozen=True)
class FlowThroughputConfig:
    """What is measured.

    Attributes:
        critic: floq's critic.
        policy: floq's policy.
        observation_dim: numbers in an observation.
        action_dim: numbers in an action.
        batch_size: transitions of an update.
        rounds: how often all is timed in turn.
        num_steps: of the integrations whose memory is compared.
        updates: after which, on one batch, the effect of bfloat16 on Q is measured.
        out: JSON file to write; empty for none.
    """

    critic: FlowCriticConfig = dataclasses.field(default_factory=FlowCriticConfig)
    policy: OneStepFlowConfig = dataclasses.field(default_factory=OneStepFlowConfig)
    observation_dim: int = 28
    action_dim: int = 5
    batch_size: int = 256
    rounds: int = 3
    num_steps: tuple[int, ...] = (4, 8, 16)
    updates: int = 10
    out: str = ""

    def __post_init__(self) -> None:
        at_least_one = ("observation_dim", "action_dim", "batch_size", "rounds", "num_steps", "updates")
        check_ranges(self, **dict.fromkeys(at_least_one, "[1, inf)"))


class Reembedding(ValueVelocity):
    """The same field, of the same parameters, that applies the whole first layer at every point."""

    def encode(self, observations: Array, actions: Array) -> Array:
        """Pairs as they are, [B, D + A]."""
        return pairs(observations, actions, self.num_actions)

    def along(self, encoded: Array, values: Array, times: Array) -> Array:
        """Maps pairs [B, D + A], z [B, m] and t [B, m] or scalar to velocities [B, m]."""
        layers = self.state_layer, self.value_layer, self.time_layer
        parts = encoded[:, None], self._embed_values(values), self._embed_times(times)
        if self.is_initializing():
            for layer, part in zip(layers, parts, strict=True):
                layer(part)
        inputs = [jnp.broadcast_to(part, (*values.shape, part.shape[-1])) for part in parts]
        kernels = [layer.variables["params"]["kernel"] for layer in layers]
        bias = self.state_layer.variables["params"]["bias"]
        hidden = jnp.concatenate(inputs, axis=-1) @ jnp.concatenate(kernels) + bias[None, None]
        return self.output_layer(self.hidden_layers(hidden))[..., 0]


def with_flax_norm(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays; where it calls our layer norm it calls flax's."""

    def norm(ours: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, LayerNorm):
            return nn.LayerNorm(parent=None).apply(context.module.variables, *arguments)
        return ours(*arguments, **keywords)

    def changed(*arguments: Any) -> Any:
        with nn.intercept_methods(norm):
            return function(*arguments)

    return changed


def make_agents(config: FlowThroughputConfig, spec: Spec) -> dict[str, Agent]:
    """The forms that are compared, by name."""

    def floq(critic: Critic) -> Agent:
        return actor_critic(critic, one_step_flow(config.policy, spec))

    halved = dataclasses.replace(config.critic, integration_dtype="bfloat16")
    vmapped = floq(flow_critic(config.critic, spec, Reembedding, jax.vmap))
    return {
        "shared": floq(flow_critic(config.critic, spec)),
        "bfloat16": floq(flow_critic(halved, spec)),
        "reembedded": floq(flow_critic(config.critic, spec, Reembedding)),
        "straightforward": vmapped._replace(update=with_flax_norm(vmapped.update)),
    }


def compile_update(agent: Agent, state: Any, batch: Transitions) -> jax.stages.Compiled:
    """The program of an update."""
    return jax.jit(agent.update).lower(state, batch).compile()


def temporary_bytes(program: jax.stages.Compiled) -> int:
    """Memory that a program takes beside its arguments and results."""
    return program.memory_analysis().temp_size_in_bytes  # type: ignore[union-attr]


def distance(state: Any, other: Any) -> dict[str, float]:
    """How far two states are apart that one update made from one state.

    Args:
        state: after the update.
        other: likewise.

    Returns:
        "parameters", the greatest difference of any; "gradients", the norm of their difference over that of
        `state`'s, of which Adam's first moments are multiples.
    """

    def parameters(state: Any) -> Any:
        return state.critic.params, state.policy.params

    def gradients(state: Any) -> Any:
        return [moments for _, moments in optax.tree.get_all_with_path(state, "mu")]

    apart = jax.tree.map(jnp.subtract, parameters(state), parameters(other))
    gradients_apart = jax.tree.map(jnp.subtract, gradients(state), gradients(other))
    return {
        "parameters": float(optax.tree.norm(apart, ord=jnp.inf)),
        "gradients": float(optax.tree.norm(gradients_apart) / optax.tree.norm(gradients(state))),
    }


def effect_on_q(critics: dict[str, Critic], state: Any, batch: Transitions) -> float:
    """Mean absolute difference of the ends of bfloat16 and float32 integrations, over their spread.

    Args:
        critics: "shared" and "bfloat16".
        state: of either.
        batch: whose pairs are looked at.

    Returns:
        A share of the standard deviation of Q over the batch, where each Q is a mean over members and draws
        and both start from the same noise.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def q(name: str, state: Any) -> Array:
        flow = critics[name].flow
        assert flow is not None
        velocity = flow.velocity(state, batch.observations, batch.actions)
        start = flow.start(jax.random.key(0), len(batch.rewards))
        return jnp.mean(integrate(velocity, start, flow.num_steps, flow.solver), axis=(0, 2))

    values = q("shared", state)
    return float(jnp.mean(jnp.abs(q("bfloat16", state) - values)) / jnp.std(values))


def measure(config: FlowThroughputConfig) -> dict[str, Any]:
    """All that is printed and written."""
    spec = Spec((config.observation_dim,), "float32", config.action_dim, 0, reward_min=-1.0, reward_max=0.0)
    agents = make_agents(config, spec)
    sampler = throughput.synthetic_sampler(spec, config.batch_size)
    measured = throughput.compare(agents, sampler, rounds=config.rounds)

    batch = jax.jit(sampler.sample)(sampler.arrays, jax.random.key(0))
    state = jax.jit(agents["shared"].init)(jax.random.key(1), batch)
    programs = {name: compile_update(agent, state, batch) for name, agent in agents.items()}
    after = {name: program(state, batch)[0] for name, program in programs.items()}
    forms = {
        name: timing._asdict()
        | {
            "speedup_of_shared": measured["shared"].updates_per_second / timing.updates_per_second,
            "distance_to_shared": distance(after["shared"], after[name]),
            "temporary_bytes": temporary_bytes(programs[name]),
        }
        for name, timing in measured.items()
    }

    critics = {name: agent.critic for name, agent in agents.items() if agent.critic is not None}
    learnt = state
    for _ in range(config.updates):
        learnt, _ = programs["shared"](learnt, batch)
    effect = {
        str(updates): effect_on_q(critics, reached.critic, batch)
        for updates, reached in ((0, state), (config.updates, learnt))
    }

    memory = {}
    for num_steps in config.num_steps:
        critic = dataclasses.replace(config.critic, num_steps=num_steps)
        agent = make_agents(dataclasses.replace(config, critic=critic), spec)["shared"]
        memory[str(num_steps)] = temporary_bytes(compile_update(agent, state, batch))
    return {
        "forms": forms,
        "effect_of_bfloat16_on_q_by_updates": effect,
        "temporary_bytes_by_num_steps": memory,
    }


def main(config: FlowThroughputConfig) -> None:
    """Measures what a command line asks for."""
    out = outputs.prepare_file("out", config.out)
    report = measure(config)
    table = rich.table.Table(
        "form", "updates/s", "GFLOP", "share of peak", "shared is faster", "gradients differ"
    )
    for name, form in report["forms"].items():
        table.add_row(
            name,
            f"{form['updates_per_second']:.3g}",
            f"{form['flop_per_update'] / 1e9:.4g}",
            f"{form['share_of_peak']:.1%}",
            f"x {form['speedup_of_shared']:.2f}",
            f"{form['distance_to_shared']['gradients']:.1e}",
        )
    outputs.show(table)
    for updates, effect in report["effect_of_bfloat16_on_q_by_updates"].items():
        print(f"bfloat16 moves Q by {effect:.2%} of its spread after {updates} updates")
    for num_steps, size in report["temporary_bytes_by_num_steps"].items():
        print(f"{num_steps} steps take {size / 1e6:.1f} MB")
    if out:
        facts = {
            "settings": configuration.to_json(config),
            "device": outputs.device(),
            "versions": outputs.versions(),
            "load_average": os.getloadavg()[0],
        }
        outputs.write_json(out, facts | report)


if __name__ == "__main__":
    flags.run(main, functools.partial(flags.parse_config, FlowThroughputConfig()))
