"""The settings and the agent of a run, from its workdir: the one place that reads them again."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelab import configuration
from valuelab.configuration import Population, RunConfig
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import flags, inputs, outputs, results
from valuelab.runs.zero_shot_settings import HORIZON, ZeroShotRunConfig
from valuelab.training import checkpoints
from valuelab.training.experience import blank
from valuelab.types import Agent, MakeAgent, Normalization, Segments, Spec, Transitions


class SavedRun(NamedTuple):
    """A run in a workdir.

    Attributes:
        folder: the workdir.
        config: the settings; a ZeroShotRunConfig for a run of experiments.zero_shot.
        make_agent: builds the agent.
        spec: what the agent may know of its data; None where config.json is older than specs in it.
        normalization: how the agent sees its data.
        trusted: whether files and modules of the user that the settings name may be executed.
    """

    folder: pathlib.Path
    config: RunConfig
    make_agent: MakeAgent
    spec: Spec | None
    normalization: Normalization
    trusted: bool = False

    @property
    def zero_shot(self) -> bool:
        """Whether it is a run of experiments.zero_shot."""
        return isinstance(self.config, ZeroShotRunConfig)

    def known_spec(self) -> Spec:
        """The spec; for a run without one it is computed from the dataset or the environment."""
        if self.spec is not None:
            return self.spec
        config = self.config
        if not config.dataset:
            if not self.trusted:
                inputs.check_saved_environment(config)
            spec = inputs.make_vector_environment(config).spec
            return dataclasses.replace(spec, num_updates=config.steps)
        dataset = inputs.read_dataset(config)
        if self.zero_shot:  # tasks take the place of goals
            dataset = dataclasses.replace(dataset, goal_conditioned=False)
        return inputs.spec_of_dataset(config, dataset, self.normalization)


def open_run(folder: pathlib.Path, flag: str, trust_agent_file: bool) -> SavedRun:
    """Reads the settings of a run of experiments.train or experiments.zero_shot, and its agent file.

    The run's settings trust_environment and trust_agent_file are not taken over: only the user can trust.

    Args:
        folder: the workdir of the run.
        flag: the flag or argument that named the folder, for messages.
        trust_agent_file: whether an agent file outside valuelab/presets may be executed.

    Raises:
        InputError: when the folder holds no run, or its agent file cannot be used, is not trusted or has
            changed since.
    """
    saved, normalization = results.read_run(folder, flag)
    settings = saved["settings"]
    defaults = ZeroShotRunConfig(**flags.default_fields()) if "labels" in settings else flags.DEFAULTS
    config, make_agent = flags.load_saved_agent(folder, settings, defaults, trust_agent_file)
    outputs.check_user_files(folder / "config.json", saved, inputs.user_files(config), "restore the file")
    return SavedRun(
        folder=folder,
        config=configuration.replace(config, {"trust_environment": False, "trust_agent_file": False}),
        make_agent=make_agent,
        spec=results.saved_spec(folder, saved),
        normalization=normalization,
        trusted=trust_agent_file,
    )


def folder_and_step(text: str, flag: str) -> tuple[pathlib.Path, int | None]:
    """The folder and the step of WORKDIR or WORKDIR:STEP; `flag` is the name of the setting, for messages."""
    folder, _, step = text.rpartition(":")
    if folder and step.isdigit() and not pathlib.Path(text).exists():
        return local_path(flag, folder), int(step)
    return local_path(flag, text), None


def read_states(
    run: SavedRun, build: Callable[[Mapping[str, Any]], Agent], spec: Spec, step: int | None = None
) -> tuple[int, Any]:
    """The states of all members at one checkpoint.

    Args:
        run: the run.
        build: swept values of one member -> its agent, normalised or not: their states have the same shapes.
        spec: what the agents know of their data.
        step: the step of the checkpoint; None for the newest one.

    Returns:
        The step, and the states, every leaf [M, ...].

    Raises:
        InputError: when there is no such checkpoint, or it cannot be read.
    """
    made_with = jax.eval_shape(functools.partial(example, spec, HORIZON if run.zero_shot else 0))
    like = state_shapes(build, configuration.population(run.config), made_with)
    folder = run.folder / "checkpoints"
    steps = checkpoints.saved_steps(folder)
    if step is not None and step not in steps:
        raise InputError(
            f"step is {step}, but the checkpoints under {folder} are of steps {', '.join(map(str, steps))}: "
            "give one of these"
        )
    ((step, states),) = checkpoints.read_states(folder, like, [steps[-1] if step is None else step])
    return step, states


def state_shapes(
    build: Callable[[Mapping[str, Any]], Agent], members: Population, example: Transitions
) -> Any:
    """Shapes and dtypes of the states of all members, [M, ...].

    Args:
        build: swept values of one member -> its agent.
        members: the population.
        example: a batch in the units that these agents take; its shapes and dtypes are enough.
    """

    def init(hyperparameters: Mapping[str, Any], seed: Any, example: Transitions) -> Any:
        return build(hyperparameters).init(jax.random.key(seed), example)

    over_members = jax.vmap(init, in_axes=(0, 0, None))
    return jax.eval_shape(over_members, members.hyperparameters, members.seeds, example)


def example(spec: Spec, horizon: int = 0) -> Transitions:
    """A batch of one transition of zeros, as agents of this spec are made with.

    Args:
        spec: of the data.
        horizon: H of its segments, for agents that learn without rewards; 0 for no futures and segments.
    """
    batch = blank(spec, 1)
    if spec.goal_conditioned and not horizon:
        goals = jnp.zeros_like(batch.observations)
        return batch._replace(goals=goals, policy_goals=goals, next_actions=None)
    if not horizon:
        return batch
    actions, observations = (
        jnp.repeat(each[:, None], horizon, axis=1) for each in (batch.actions, batch.observations)
    )
    segments = Segments(actions=actions, observations=observations, masks=jnp.ones((1, horizon)))
    return batch._replace(futures=batch.observations, segments=segments)
