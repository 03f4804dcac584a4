"""Policies of a trained run: functions in numpy and in the units of the environment."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.agents import zero_shot
from valuelab.agents.eta_network import EtaNetworkConfig, stock_size
from valuelab.environments.interface import Interface
from valuelab.errors import InputError
from valuelab.evaluation.rollout import Episodes
from valuelab.networks.encoders import batch_size
from valuelab.runs import exported_policies
from valuelab.runs.exported_policies import Port
from valuelab.types import Agent, Augmented, Environment, GoalConditioned

if TYPE_CHECKING:
    from valuelab.runs.trained import TrainedRun


class _MemberPolicy:
    """One member of a trained run that acts. Its random actions differ from call to call.

    A policy that is made again with the same seed repeats them.

    Attributes:
        run: the trained run.
        member: number of the member.
        temperature: 0 for the most likely action, 1 for the policy as learnt.
        name: of its task or command; empty without one.
    """

    def __init__(self, run: "TrainedRun", member: int, temperature: float | None, seed: int, name: str):
        """Compiles nothing yet; arguments as in `TrainedRun.policy`."""
        self.name = name
        self.run, self.member = run, member
        self.temperature = run.config.temperature if temperature is None else temperature
        if not self.temperature >= 0:  # nor NaN
            raise InputError(f"temperature is {temperature}; it must be at least 0")
        self._parts = jax.tree.map(jnp.asarray, run.hyperparameters(member)), run.state(member)
        self._key, self._calls = jax.random.key_data(jax.random.key(seed)), 0
        interface: Interface = run.interface
        self._bounds = None if run.spec.discrete else (interface.action_low, interface.action_high)
        if self.temperature not in run.acting:
            run.acting[self.temperature] = self._compiled()
        self._act_compiled = run.acting[self.temperature]

    def _compiled(self) -> Any:
        run, temperature = self.run, self.temperature

        def act(hyperparameters: Any, state: Any, seen: Any, key: Any, calls: Any) -> Any:
            drawn = jax.random.fold_in(jax.random.wrap_key_data(key), calls)
            return run.build(hyperparameters).act(state, seen, drawn, temperature)

        return jax.jit(act)

    def _act(self, seen: Any) -> np.ndarray:
        """The actions [B, A] or [B] for observations, with goals or tasks where the agent needs them."""
        calls = np.uint32(self._calls)
        self._calls += 1
        actions = np.asarray(self._act_compiled(*self._parts, seen, self._key, calls))
        if self._bounds is None:
            return actions
        return np.clip(actions, *self._bounds)  # rounding and random actions may leave the bounds

    def _value(self, seen: Any) -> np.ndarray:
        """The values [B] of observations, likewise."""
        if self.run.agent(self.member).value is None:
            raise InputError(f"{self.run.config.agent_name} has no state values: use a run of another agent")
        return np.asarray(self.run.compiled_value(*self._parts, seen))

    def __repr__(self) -> str:
        named = f", {self.name}" if self.name else ""
        return f"{type(self).__name__}({self.run.config.agent_name}, member {self.member}{named})"

    def export(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Writes a file that acts without valuelab; arguments and errors as of `TrainedRun.export`."""
        run, state = self.run, jax.device_get(self._parts[1])
        agent = run.agent(self.member)

        def act(*given: Any) -> tuple[Any, ...]:
            *arrays, seed = given
            key, seen = jax.random.wrap_key_data(seed), self._joined(arrays)
            actions = agent.act(state, self._augmented(*seen), key, self.temperature)
            if self._bounds is not None:
                low, high = self._bounds
                actions = jnp.clip(actions, low[None], high[None])
            return actions, *self._other_outputs(seen[0])

        inputs, outputs = self._ports()
        return exported_policies.write(path, act, inputs, outputs, run.facts(self.member) | self._facts())

    def _joined(self, arrays: Sequence[Any]) -> list[Any]:
        """Observation, goal, ... from the inputs of an exported file, whose parts are separate inputs."""
        names = [part.name for part in self.run.spec.observation_parts]
        if not names:
            return list(arrays)
        count = len(names) * (2 if self.run.spec.goal_conditioned else 1)
        rows = [arrays[start : start + len(names)] for start in range(0, count, len(names))]
        return [*(dict(zip(names, row, strict=True)) for row in rows), *arrays[count:]]

    def _observation_ports(self, name: str, about: str) -> list[Port]:
        """The input of an observation or a goal; of several parts, NAME.PART for each."""
        spec, frames = self.run.spec, self.run.config.data.num_frames
        if not spec.observation_parts:
            return [Port(name, spec.observation_shape, spec.observation_dtype, about)]
        shapes = {part: (*part.shape[:-1], frames * part.shape[-1]) for part in spec.observation_parts}
        return [Port(f"{name}.{part.name}", shape, part.dtype, about) for part, shape in shapes.items()]

    def _augmented(self, observation: Any, *others: Any) -> Any:
        """What the agent sees of the inputs of an exported file, inside JAX."""
        raise NotImplementedError

    def _other_outputs(self, observation: Any) -> tuple[Any, ...]:
        """The outputs of an exported file besides the action, inside JAX."""
        return ()

    def _ports(self) -> tuple[list[Port], list[Port]]:
        """The inputs but the seed, and the outputs, of an exported file."""
        spec = self.run.spec
        units, frames = "in the units of the environment, not normalised", self.run.config.data.num_frames
        stack = f"; the last {frames} frames joined on the last axis, newest last" if frames > 1 else ""
        observation = self._observation_ports("observation", units + stack)
        if self._bounds is None:
            about = f"number of the action, from 0 to {spec.num_actions - 1}"
            return observation, [Port("action", (), np.int32, about)]
        low, high = self._bounds
        return observation, [Port("action", (spec.action_dim,), np.float32, units, low, high)]

    def _facts(self) -> dict[str, Any]:
        """What the description of an exported file says of this policy."""
        return {"temperature": self.temperature}

    def played(self) -> tuple[Any, Any]:
        """What is evaluated: a function that builds the agent, and its state."""
        return self.run.build, self._parts[1]

    def evaluate(self, environment: str | Environment = "", **settings: Any) -> Episodes:
        """Plays episodes with this policy; arguments and errors as of `TrainedRun.evaluate`."""
        build, state = self.played()
        hyperparameters, states = jax.tree.map(lambda leaf: leaf[None], (self._parts[0], state))
        world = self.run.world(environment)
        if self.name in world.tasks:
            world = dataclasses.replace(world, tasks={self.name: world.tasks[self.name]})
        if settings.get("temperature") is None:
            settings["temperature"] = self.temperature
        return self.run.play(build, hyperparameters, states, world, **settings)


class TrainedPolicy(_MemberPolicy):
    """The policy of one member: a function of observations."""

    def __init__(
        self,
        run: "TrainedRun",
        member: int,
        temperature: float | None,
        seed: int,
        task: np.ndarray | None,
        name: str,
    ):
        """Arguments as in `TrainedRun.policy`; the task is z [d], or None."""
        super().__init__(run, member, temperature, seed, name)
        self._task = task

    def __call__(self, observation: Any, goal: Any = None) -> np.ndarray:
        """The action for an observation, or for each of a batch.

        Args:
            observation: one observation, of the spec's shape, or [B, ...].
            goal: the goal to reach, one for all or [B, ...]; of goal-conditioned agents alone.

        Returns:
            Continuous actions [A] or [B, A] within their bounds; discrete ones [] or [B].

        Raises:
            InputError: when the observation or the goal has another shape or kind than the data, or is not
                finite, or a goal is missing or not asked for.
        """
        seen, alone = self._seen(observation, goal)
        actions = self._act(seen)
        return actions[0] if alone else actions

    def value(self, observation: Any, goal: Any = None) -> np.ndarray:
        """The values of observations; arguments and errors as of `TrainedRun.value`."""
        seen, alone = self._seen(observation, goal)
        values = self._value(seen)
        return values[0] if alone else values

    def played(self) -> tuple[Any, Any]:
        """What is evaluated: the agent, given its task if it is zero-shot."""
        build, state = super().played()
        if self._task is None:
            return build, state

        def with_task(hyperparameters: Any) -> Agent:
            return zero_shot.with_named_tasks(build(hyperparameters), [self.name])

        return with_task, zero_shot.InferredTasks(state, jnp.asarray(self._task)[None])

    def _augmented(self, observation: Any, *others: Any) -> Any:
        if self.run.spec.goal_conditioned:
            return GoalConditioned(observation, *others)
        if self._task is not None:
            tasks = jnp.broadcast_to(self._task[None], (batch_size(observation), *self._task.shape))
            return Augmented(observation, tasks)
        return Augmented(observation, *others) if others else observation

    def _ports(self) -> tuple[list[Port], list[Port]]:
        inputs, outputs = super()._ports()
        spec = self.run.spec
        if spec.goal_conditioned:
            about = "the observation to reach, in the same units"
            inputs += self._observation_ports("goal", about)
        elif self._task is None and self.run.agent(self.member).features:
            about = "z, as run.infer(observations, rewards) returns it"
            inputs.append(Port("task", (self.run.task_dim,), np.float32, about))
        return inputs, outputs

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | ({} if self._task is None else {"task": self.name, "z": self._task})

    def _seen(self, observation: Any, goal: Any) -> tuple[Any, bool]:
        """What the agent sees, and whether it is a single observation."""
        batch, alone = self.run.batch("observation", observation)
        if self.run.spec.goal_conditioned:
            if goal is None:
                raise InputError("goal is missing: this agent reaches goals; call policy(observation, goal)")
            goals, one_goal = self.run.batch("goal", goal)
            if not one_goal and len(goals) != len(batch):
                raise InputError(f"goal has {len(goals)} rows where observation has {len(batch)}")
            every: Any = np.broadcast_to(goals, batch.shape)
            return GoalConditioned(batch, every), alone
        if goal is not None:
            raise InputError("goal is given, and this agent takes none: call policy(observation)")
        if self._task is None:
            return batch, alone
        return Augmented(batch, np.broadcast_to(self._task, (len(batch), len(self._task)))), alone


class CommandPolicy(_MemberPolicy):
    """The policy of one member for a command. It carries a memory, such as D-eta-N's stock, in an episode.

    An episode is reset(observation), and then for each step: policy(observation), observe(reward).
    """

    def __init__(
        self,
        run: "TrainedRun",
        member: int,
        temperature: float | None,
        seed: int,
        command: np.ndarray,
        name: str,
    ):
        """Arguments as in `TrainedRun.command`; the command is an array [k]."""
        super().__init__(run, member, temperature, seed, name)
        self._command = command
        self._memory: Any = None
        self._owes_reward = False
        build = run.build
        self._choose = jax.jit(lambda values, *given: build(values).memory.choose(*given))  # type: ignore[union-attr]
        self._update = jax.jit(lambda values, *given: build(values).memory.update(*given))  # type: ignore[union-attr]

    @property
    def stock(self) -> np.ndarray:
        """The current memory; the stock [m] of D-eta-N."""
        return np.asarray(self._known_memory()[0])

    def reset(self, observation: Any) -> None:
        """Begins an episode at its first observation."""
        command = self._command[None]
        self._memory = self._choose(*self._parts, self._one(observation), command)
        self._owes_reward = False

    def __call__(self, observation: Any) -> np.ndarray:
        """The action for one observation; the next call must follow `observe`.

        Raises:
            InputError: when no episode has begun, the last reward is missing, or a batch is given.
        """
        if self._owes_reward:
            raise InputError("the reward of the last action is missing: call policy.observe(reward) first")
        action = self._act(Augmented(self._one(observation), self._known_memory()))[0]
        self._owes_reward = True
        return action

    def observe(self, reward: Any) -> None:
        """Takes the reward of the last action, a number or [m]."""
        if not self._owes_reward:
            raise InputError("no action was asked for since the last reward: call policy(observation) first")
        dim = self.run.spec.reward_dim
        shape = (dim,) if dim > 1 else ()
        rewards = np.asarray(reward, np.float32)
        if rewards.shape != shape or not np.isfinite(rewards).all():
            raise InputError(f"reward is {reward!r}; give finite numbers of shape {shape}")
        self._memory = self._update(self._parts[0], self._memory, rewards[None])
        self._owes_reward = False

    def value(self, observation: Any) -> np.ndarray:
        """E f(c + G) of the greedy action for one observation, with the current stock c; a scalar."""
        return self._value(Augmented(self._one(observation), self._known_memory()))[0]

    def played(self) -> tuple[Any, Any]:
        """What is evaluated: the agent with this command alone."""
        build, state = super().played()

        def with_command(hyperparameters: Any) -> Agent:
            agent = build(hyperparameters)
            return agent._replace(memory=agent.memory._replace(commands={self.name: self._command}))

        return with_command, state

    def _augmented(self, observation: Any, *others: Any) -> Any:
        return Augmented(observation, *others)

    def _other_outputs(self, observation: Any) -> tuple[Any, ...]:
        memory: Any = self.run.agent(self.member).memory
        commands = jnp.broadcast_to(self._command[None], (batch_size(observation), *self._command.shape))
        return (memory.choose(self._parts[1], observation, commands),)

    def _ports(self) -> tuple[list[Port], list[Port]]:
        inputs, outputs = super()._ports()
        config, spec, units = self.run.config.agent, self.run.spec, "in units of rewards"
        shape = (stock_size(config, spec) if isinstance(config, EtaNetworkConfig) else spec.reward_dim,)
        inputs.append(Port("stock", shape, np.float32, f"the current stock, {units}"))
        outputs.append(Port("first_stock", shape, np.float32, f"the stock at the first observation, {units}"))
        return inputs, outputs

    def _facts(self) -> dict[str, Any]:
        config: Any = self.run.config.agent
        if not isinstance(config, EtaNetworkConfig):
            raise InputError(
                f"{self.run.config.agent_name} has a memory that is not the stock of D-eta-N: "
                "only a stock can be exported"
            )
        return super()._facts() | {
            "command": self.name,
            "discount": float(self.run.hyperparameters(self.member).get("agent.discount", config.discount)),
            "next_stock": "(stock + reward) / discount",
        }

    def _known_memory(self) -> Any:
        if self._memory is None:
            raise InputError("no episode has begun: call policy.reset(observation) first")
        return self._memory

    def _one(self, observation: Any) -> Any:
        batch, alone = self.run.batch("observation", observation)
        if not alone:
            raise InputError(
                "observation is a batch, but this policy carries the memory of one episode: "
                "give one observation, and make a policy for each episode"
            )
        return batch
