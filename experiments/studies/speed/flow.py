r"""What does bfloat16 integration change in an update of floq, and how much memory do its steps need?

    python -m experiments.studies.speed.flow --out=FILE

The update, the same with critic.integration_dtype=bfloat16, and a large float32 matrix product are timed in
turn, in one process. (`speed.peers` compares the update with single-file code of the same mathematics.)

It prints, and with --out=FILE writes as JSON: the speed of each form and its share of the peak of matrix
products; the distance of the bfloat16 form after one update of the same state with the same batch; how far
bfloat16 moves Q; and the temporary memory of updates with different numbers of steps. The data are random,
because the speed only depends on shapes.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import rich.table

from experiments.studies.speed import reports
from valuelab import configuration
from valuelab.agents.actor_critic import actor_critic
from valuelab.configuration import Settings, setting
from valuelab.critics.flow import FlowCriticConfig, flow_critic
from valuelab.ops.flow import integrate
from valuelab.policies.one_step_flow import OneStepFlowConfig, one_step_flow
from valuelab.runs import flags, outputs
from valuelab.training import throughput
from valuelab.types import Agent, Array, Critic, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowSpeedConfig(Settings):
    """The settings of the measurement."""

    critic: FlowCriticConfig = setting(FlowCriticConfig(), help="Floq's critic.")
    policy: OneStepFlowConfig = setting(OneStepFlowConfig(), help="Floq's policy.")
    observation_dim: int = setting(28, "[1, inf)", "Numbers in an observation.")
    action_dim: int = setting(5, "[1, inf)", "Numbers in an action.")
    batch_size: int = setting(256, "[1, inf)", "Transitions in a batch.")
    rounds: int = setting(3, "[1, inf)", "Number of rounds in which all forms are timed in turn.")
    num_steps: tuple[int, ...] = setting(
        (4, 8, 16), "[1, inf)", "Numbers of integration steps whose memory is compared."
    )
    updates: int = setting(
        10, "[1, inf)", "Number of updates on one batch before the effect of bfloat16 on Q is measured again."
    )
    out: str = setting("", help="JSON file to write; empty for none.")


def make_agents(config: FlowSpeedConfig, spec: Spec) -> dict[str, Agent]:
    """Name of a form -> agent with this form of the update."""
    halved = dataclasses.replace(config.critic, integration_dtype="bfloat16")
    return {
        name: actor_critic(flow_critic(critic, spec), one_step_flow(config.policy, spec))
        for name, critic in (("float32", config.critic), ("bfloat16", halved))
    }


def compile_update(agent: Agent, state: Any, batch: Transitions) -> jax.stages.Compiled:
    """Compiles an update."""
    return jax.jit(agent.update).lower(state, batch).compile()


def temporary_bytes(program: jax.stages.Compiled) -> int:
    """Memory that a program needs in addition to its arguments and results, in bytes."""
    return program.memory_analysis().temp_size_in_bytes  # type: ignore[union-attr]


def distance(state: Any, other: Any) -> dict[str, float]:
    """The distance of two states after one update of the same state.

    Args:
        state: a state after the update.
        other: another state after the update.

    Returns:
        "parameters": the largest difference of a parameter. "gradients": the norm of the difference of the
        gradients over the norm of `state`'s gradients, read from Adam's first moments, which are multiples of
        the gradients.
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
    """Mean absolute difference of Q by bfloat16 and by float32 integration, over the standard deviation of Q.

    Args:
        critics: with "float32" and "bfloat16".
        state: the state of both critics.
        batch: observations and actions at which Q is computed.

    Returns:
        A share of the standard deviation of Q over the batch, where each Q is a mean over members and draws
        and both start from the same noise.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def q(name: str, state: Any) -> Array:
        shown = critics[name].diagnostics
        assert shown is not None
        assert shown.flow is not None
        flow = shown.flow
        velocity = flow.velocity(state, batch.observations, batch.actions)
        start = flow.start(jax.random.key(0), len(batch.rewards))
        return jnp.mean(integrate(velocity, start, flow.num_steps, flow.solver), axis=(0, 2))

    values = q("float32", state)
    return float(jnp.mean(jnp.abs(q("bfloat16", state) - values)) / jnp.std(values))


def measure(config: FlowSpeedConfig) -> dict[str, Any]:
    """Makes all measurements, ready for JSON."""
    spec = Spec((config.observation_dim,), "float32", config.action_dim, 0, reward_min=-1.0, reward_max=0.0)
    agents = make_agents(config, spec)
    sampler = throughput.synthetic_sampler(spec, config.batch_size)
    measured = throughput.compare(agents, sampler, rounds=config.rounds)

    batch = jax.jit(sampler.sample)(sampler.arrays, jax.random.key(0))
    state = jax.jit(agents["float32"].init)(jax.random.key(1), batch)
    programs = {name: compile_update(agent, state, batch) for name, agent in agents.items()}
    after = {name: program(state, batch)[0] for name, program in programs.items()}
    forms = {
        name: timing._asdict()
        | {
            "speedup_of_float32": measured["float32"].updates_per_second / timing.updates_per_second,
            "distance_to_float32": distance(after["float32"], after[name]),
            "temporary_bytes": temporary_bytes(programs[name]),
        }
        for name, timing in measured.items()
    }

    critics = {name: agent.critic for name, agent in agents.items() if agent.critic is not None}
    learnt = state
    for _ in range(config.updates):
        learnt, _ = programs["float32"](learnt, batch)
    effect = {
        str(updates): effect_on_q(critics, reached.critic, batch)
        for updates, reached in ((0, state), (config.updates, learnt))
    }

    memory = {}
    for num_steps in config.num_steps:
        critic = dataclasses.replace(config.critic, num_steps=num_steps)
        agent = make_agents(dataclasses.replace(config, critic=critic), spec)["float32"]
        memory[str(num_steps)] = temporary_bytes(compile_update(agent, state, batch))
    return {
        "forms": forms,
        "effect_of_bfloat16_on_q_by_updates": effect,
        "temporary_bytes_by_num_steps": memory,
    }


def show(report: Mapping[str, Any]) -> None:
    """Prints the measurements."""
    table = rich.table.Table(
        "form", "updates/s", "GFLOP", "share of peak", "speedup of float32", "difference of gradients"
    )
    for name, form in report["forms"].items():
        table.add_row(
            name,
            f"{form['updates_per_second']:.3g}",
            f"{form['flop_per_update'] / 1e9:.4g}",
            f"{form['share_of_peak']:.1%}",
            f"x {form['speedup_of_float32']:.2f}",
            f"{form['distance_to_float32']['gradients']:.1e}",
        )
    outputs.show(table)
    for updates, effect in report["effect_of_bfloat16_on_q_by_updates"].items():
        print(f"after {updates} updates, bfloat16 moves Q by {effect:.2%} of its standard deviation")
    for num_steps, size in report["temporary_bytes_by_num_steps"].items():
        print(f"an update with {num_steps} steps needs {size / 1e6:.1f} MB of temporary memory")


def main(config: FlowSpeedConfig) -> None:
    """Measures, prints and writes as the command line describes."""
    out = outputs.prepare_file("out", config.out)
    report = measure(config)
    show(report)
    reports.write(out, {"settings": configuration.to_json(config)}, report)


if __name__ == "__main__":
    flags.run(main, functools.partial(flags.parse_config, FlowSpeedConfig()))
