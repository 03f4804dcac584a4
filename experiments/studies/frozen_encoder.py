"""The encoder φ of a saved zero-shot run, read for use without further learning."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import configuration
from valuelab.agents.zero_shot import ZeroShotConfig, state_encoder
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.errors import InputError
from valuelab.runs import flags, results
from valuelab.runs.inputs import RunInputs
from valuelab.runs.zero_shot import ZeroShotRunConfig
from valuelab.training import checkpoints
from valuelab.types import Array, MakeAgent, Normalization, Transitions


class EncoderRun(NamedTuple):
    """A saved zero-shot run.

    Attributes:
        folder: its workdir.
        config: its settings.
        make_agent: builds its agent.
        normalization: the normalization of its data.
    """

    folder: pathlib.Path
    config: RunConfig
    make_agent: MakeAgent
    normalization: Normalization


class FrozenEncoder(NamedTuple):
    """The encoder of the first member of a zero-shot run.

    Attributes:
        encode: (state, observations [B, ...]) -> φ(s), [B, k].
        state: the state of the agent.
        dim: k.
    """

    encode: Callable[[Any, Array], Array]
    state: Any
    dim: int


def read_run(folder: pathlib.Path, trust_agent_file: bool) -> EncoderRun:
    """Reads the settings of a zero-shot run.

    Args:
        folder: its workdir.
        trust_agent_file: as for `flags.load_saved_agent`.

    Raises:
        InputError: if the folder holds no such run, its agent file is not trusted, or its agent has no φ.
    """
    settings, normalization = results.read_run(folder, "zero_shot", "encoder")
    defaults = ZeroShotRunConfig(**flags.default_fields())
    config, make_agent = flags.load_saved_agent(folder, settings, defaults, trust_agent_file)
    if not isinstance(config.agent, ZeroShotConfig):
        raise InputError(
            f"the run in {folder} trained {config.agent_name}, which learns no encoder: "
            "give --encoder=WORKDIR of a zero-shot agent such as td_jepa"
        )
    return EncoderRun(folder, config, make_agent, normalization)


def load(run: EncoderRun, inputs: RunInputs, num_frames: int) -> FrozenEncoder:
    """Reads the encoder of a zero-shot run from its last checkpoint.

    Args:
        run: the run.
        inputs: the inputs of the run whose data will be encoded.
        num_frames: number of frames in each of their observations.

    Raises:
        InputError: if the run had other observations, or has no checkpoint.
    """
    folder, config, make_agent, normalization = run
    if config.data.num_frames != num_frames:
        raise InputError(
            f"the run in {folder} has data.num_frames {config.data.num_frames}, but here it is {num_frames}: "
            f"give --data.num_frames={config.data.num_frames}"
        )
    theirs, ours = (normalizations.to_json(each) for each in (normalization, inputs.normalization))
    for name in ("observation_mean", "observation_std"):
        if theirs[name] != ours[name]:
            raise InputError(
                f"the run in {folder} has {name} {_in_words(theirs[name])}, but here it is "
                f"{_in_words(ours[name])}: give the same data and --data.normalize_observations"
            )
    spec = inputs.spec
    agent = make_agent(config.agent, spec)
    blank, zeros = jnp.zeros((1, *spec.observation_shape), spec.observation_dtype), jnp.zeros(1)
    example = Transitions(blank, jnp.zeros((1, spec.action_dim)), zeros, zeros, blank, futures=blank)

    def init(seed: Array) -> Any:
        return agent.init(jax.random.key(seed), example)

    like = jax.eval_shape(jax.vmap(init), configuration.population(config).seeds)
    *_, (_, states) = checkpoints.read_states(folder / "checkpoints", like)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    encode = state_encoder(config.agent, spec)
    return FrozenEncoder(encode, state, jax.eval_shape(encode, state, blank).shape[1])


def _in_words(values: Any) -> str:
    """None, or the mean of the numbers: an image has too many to print."""
    return "None" if values is None else f"{np.mean(values):g} on average"
