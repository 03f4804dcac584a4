"""The encoder φ of a saved zero-shot run, read for use without further learning."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.agents.zero_shot import ZeroShotConfig, state_encoder
from valuelab.data import normalization as normalizations
from valuelab.errors import InputError
from valuelab.runs import saved
from valuelab.runs.inputs import RunInputs
from valuelab.runs.saved import SavedRun
from valuelab.types import Array


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


def read_run(folder: pathlib.Path, trust_agent_file: bool) -> SavedRun:
    """Reads the settings of a zero-shot run.

    Args:
        folder: its workdir.
        trust_agent_file: as for `saved.open_run`.

    Raises:
        InputError: if the folder holds no such run, its agent file is not trusted, or its agent has no φ.
    """
    run = saved.open_run(folder, "encoder", trust_agent_file)
    if not isinstance(run.config.agent, ZeroShotConfig):
        raise InputError(
            f"the run in {folder} trained {run.config.agent_name}, which learns no encoder: "
            "give --encoder=WORKDIR of a zero-shot agent such as td_jepa"
        )
    return run


def load(run: SavedRun, inputs: RunInputs, num_frames: int) -> FrozenEncoder:
    """Reads the encoder of a zero-shot run from its last checkpoint.

    Args:
        run: the run.
        inputs: the inputs of the run whose data will be encoded.
        num_frames: number of frames in each of their observations.

    Raises:
        InputError: if the run had other observations, or has no checkpoint.
    """
    folder, config = run.folder, run.config
    if config.data.num_frames != num_frames:
        raise InputError(
            f"the run in {folder} has data.num_frames {config.data.num_frames}, but here it is {num_frames}: "
            f"give --data.num_frames={config.data.num_frames}"
        )
    theirs, ours = (normalizations.to_json(each) for each in (run.normalization, inputs.normalization))
    for name in ("observation_mean", "observation_std"):
        if theirs[name] != ours[name]:
            raise InputError(
                f"the run in {folder} has {name} {_in_words(theirs[name])}, but here it is "
                f"{_in_words(ours[name])}: give the same data and --data.normalize_observations"
            )
    spec = inputs.spec
    _, states = saved.read_states(run, lambda _: run.make_agent(config.agent, spec), spec)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    encode = state_encoder(config.agent, spec)
    observations = jnp.zeros((1, *spec.observation_shape), spec.observation_dtype)
    return FrozenEncoder(encode, state, jax.eval_shape(encode, state, observations).shape[1])


def _in_words(values: Any) -> str:
    """None, or the mean of the numbers: an image has too many to print."""
    return "None" if values is None else f"{np.mean(values):g} on average"
