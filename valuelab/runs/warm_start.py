"""Warm starts: a run that begins from the states in the checkpoint of an earlier run.

States are taken by the names of their arrays. The earlier run's agent is not built, so none of its code is
executed.
"""

import hashlib
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from valuelab import files
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.environments import interface
from valuelab.errors import InputError, one_line
from valuelab.runs import inputs, outputs, results, saved
from valuelab.training import checkpoints
from valuelab.training.checkpoints import named_leaves
from valuelab.types import Normalization, Spec

MAX_LISTED = 4
"""The largest number of arrays that the printed line names."""


class WarmStart(NamedTuple):
    """The checkpoint that a run begins from.

    Attributes:
        workdir: of the earlier run.
        step: of the checkpoint.
        normalization: how the earlier run saw observations and actions.
        spec: of the earlier run; None if it is older than specs, or is not read again.
        sha256: of the arrays, where they were read before; else empty.
        is_begun: whether the new run has a checkpoint, so that the earlier run is not read again.
    """

    workdir: pathlib.Path
    step: int
    normalization: Normalization
    spec: Spec | None = None
    sha256: str = ""
    is_begun: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry "init_from" of config.json."""
        return {"workdir": str(self.workdir), "step": self.step, "sha256": self.sha256}


def find(config: RunConfig, workdir: pathlib.Path) -> WarmStart | None:
    """The checkpoint that a run begins from; None if its parameters are random.

    A run that began earlier keeps the step that it found then. A run that has a checkpoint itself does not
    need the earlier run any more.

    Args:
        config: the settings of the run.
        workdir: its folder.

    Raises:
        InputError: when the earlier run or its checkpoint does not exist or cannot be read.
    """
    if not config.init_from:
        return None
    own = checkpoints.newest_metadata(workdir / "checkpoints")
    facts = own or outputs.read_config(workdir)
    step, sha256 = None, ""
    if "init_from" in facts:
        with one_line(f"{workdir} has an init_from that cannot be read", "give another --workdir"):
            step, sha256 = int(facts["init_from"]["step"]), str(facts["init_from"]["sha256"])
            if own:
                return WarmStart(
                    workdir=pathlib.Path(facts["init_from"]["workdir"]),
                    step=step,
                    normalization=normalizations.from_json(own["normalization"]),
                    sha256=sha256,
                    is_begun=True,
                )
    folder, given = saved.folder_and_step(config.init_from, "init_from")
    step = given if step is None else step
    if folder.resolve() == workdir.resolve():
        raise InputError(
            f"init_from is {config.init_from}, the workdir of this run: give another --workdir, or leave out "
            "--init_from to continue the run there"
        )
    facts, normalization = results.read_run(folder, "init_from")
    known = checkpoints.saved_steps(folder / "checkpoints")
    if step is not None and step not in known:
        raise InputError(
            f"init_from is {config.init_from}, but step {step} is not one of the checkpoints of {folder} "
            f"({', '.join(map(str, known))}): give one of these in another --workdir"
        )
    return WarmStart(
        workdir=folder.absolute(),
        step=known[-1] if step is None else step,
        normalization=normalization,
        spec=results.saved_spec(folder, facts),
        sha256=sha256,
    )


def seen_as_before(start: WarmStart, run_inputs: inputs.RunInputs) -> inputs.RunInputs:
    """The inputs of a run, with observations and actions normalised as in the earlier run.

    Rewards keep their own normalisation; a warning says so if that of the earlier run differs.

    Args:
        start: the checkpoint that the run begins from.
        run_inputs: the inputs of the run.

    Raises:
        InputError: when observations, actions or goals differ in shape, dtype or bounds.
    """
    own, earlier = run_inputs.normalization, start.normalization
    ours = interface.of_data("this run", run_inputs.spec, own)
    theirs = interface.of_data(str(start.workdir), start.spec or run_inputs.spec, earlier)
    interface.check_alike(theirs, ours, "give data like those of the earlier run, or another --init_from")
    rewards = [(each.reward_scale, each.reward_shift) for each in (earlier, own)]
    if rewards[0] != rewards[1] and jax.process_index() == 0:
        then, now = (f"scaled by {scale:g} and shifted by {shift:g}" for scale, shift in rewards)
        print(
            f"warning: values begin in other units: rewards were {then} in {start.workdir}, but are {now} "
            "here"
        )
    seen = earlier._replace(reward_scale=own.reward_scale, reward_shift=own.reward_shift)
    return run_inputs._replace(normalization=seen)


def read(
    start: WarmStart, config: RunConfig, state: Any, members: int
) -> tuple[WarmStart, dict[str, np.ndarray]]:
    """Reads the arrays from which a run begins, and prints a line that counts and names them.

    Taken are all arrays of the new state that the earlier run has by the same name, including target
    parameters, the optimiser's state and the number of updates. Random keys follow from the seeds of the new
    run, and the counters of learning-rate schedules begin at 0.

    Args:
        start: the checkpoint that the run begins from.
        config: the settings of the run.
        state: the state of one member, with shapes and dtypes.
        members: M of the new run.

    Returns:
        `start` with its sha256, and name of an array -> [M, ...].

    Raises:
        InputError: when the checkpoint has changed since the run began, the numbers of members do not fit, no
            array has the same name, or one of the same name has another shape or dtype.
    """
    arrays = checkpoints.read_arrays(start.workdir / "checkpoints", start.step)
    sha256 = _sha256(arrays, start.normalization)
    if start.sha256 not in ("", sha256):
        raise InputError(
            f"{start.workdir} has changed since this run began from its checkpoint of step {start.step}: "
            "give another --workdir, or restore that checkpoint"
        )
    new, every = _learned(state), named_leaves(state)
    taken = {name: arrays[name] for name in new if name in arrays}
    if not any(jnp.issubdtype(array.dtype, jnp.floating) for array in taken.values()):
        raise InputError(
            f"the states in {start.workdir} have nothing in common with those of {config.agent_name}: their "
            f"arrays are {_listed(sorted(arrays))}, but {_listed(sorted(new))} are needed; give another "
            "--init_from"
        )
    _check_alike(start, taken, new)
    added, unused = [name for name in new if name not in taken], sorted(arrays.keys() - every.keys())
    if jax.process_index() == 0:
        print(
            f"initial states from {start.workdir} after {start.step:,} updates: taken: {len(taken)} arrays; "
            f"new: {_counted(added)}; unused: {_counted(unused)}"
        )
    rows = _members(start, config, len(next(iter(taken.values()))), members)
    return start._replace(sha256=sha256), {name: array[rows] for name, array in taken.items()}


def _learned(state: Any) -> dict[str, Any]:
    """The arrays of a state that a run may take over, by name: not random keys and schedules' counters."""
    without_counters = jax.tree.map(
        lambda node: () if isinstance(node, optax.ScaleByScheduleState) else node,
        state,
        is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState),
    )
    leaves = named_leaves(without_counters)
    return {
        name: leaf for name, leaf in leaves.items() if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    }


def _check_alike(start: WarmStart, taken: Mapping[str, np.ndarray], new: Mapping[str, Any]) -> None:
    """Raises for the first array of the same name but another shape or dtype."""
    for name, array in taken.items():
        theirs, ours = (
            f"{dtype}{list(shape)}"
            for dtype, shape in ((array.dtype, array.shape[1:]), (new[name].dtype, new[name].shape))
        )
        if theirs != ours:
            raise InputError(
                f"{name} is {theirs} in {start.workdir}, but {ours} here: give the hyperparameters of that "
                f"run, which are in {start.workdir / 'config.json'}, or another --init_from"
            )


def _members(start: WarmStart, config: RunConfig, earlier: int, members: int) -> np.ndarray:
    """The number of the earlier run's member for each member of the run, [M]."""
    chosen = config.init_member
    if chosen is not None:
        if chosen >= earlier:
            raise InputError(
                f"init_member is {chosen}, but the run in {start.workdir} has {earlier} members: give a "
                f"number from 0 to {earlier - 1}"
            )
        return np.full(members, chosen)
    if earlier == 1:
        return np.zeros(members, int)
    if earlier != members:
        raise InputError(
            f"the run in {start.workdir} has {earlier} members and this run has {members}: give as many "
            "seeds or swept values, or choose one member for all with --init_member"
        )
    return np.arange(members)


def _sha256(arrays: Mapping[str, np.ndarray], normalization: Normalization) -> str:
    """A checksum of states and of how their agent sees observations and actions."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    digest.update(files.to_json(normalizations.to_json(normalization)).encode())
    return digest.hexdigest()


def _counted(names: Collection[str]) -> str:
    """The number of arrays, and the names of the first ones."""
    return f"{len(names)} ({_listed(list(names))})" if names else "0"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
