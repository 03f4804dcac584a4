"""Checkpoints: written atomically, verified when read; the newest good one is restored."""

import contextlib
import json
import math
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from logging import ERROR
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from valuelab import configuration, errors
from valuelab.arrays import check_size
from valuelab.errors import InputError
from valuelab.types import Array


class CheckpointError(InputError):
    """A checkpoint could not be written; the previous one is unchanged."""


@jax.jit
def _digests(tree: Any) -> Array:
    """A checksum of each leaf: Σ_i (2 i + 1) · bits_i mod 2³². A change of any single word changes it.

    Sums of integers do not depend on how the leaf is sharded.
    """

    def digest(leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        words = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}.get(leaf.dtype.itemsize, jnp.uint32)
        is_bits = leaf.dtype in (jnp.bool_, jnp.uint32)
        bits = leaf if is_bits else jax.lax.bitcast_convert_type(leaf, words)
        bits = bits.astype(jnp.uint32).reshape(-1)
        return jnp.sum(bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    return jnp.stack([digest(leaf) for leaf in jax.tree.leaves(tree)])


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: the folder that holds one folder for each step.
    """

    def __init__(
        self, folder: str | pathlib.Path, metadata: Mapping[str, Any], keep: int = 3, config: Any = None
    ):
        """Opens or creates the folder, and checks that its checkpoints belong to this run.

        Args:
            folder: the folder of the checkpoints.
            metadata: JSON-safe facts saved with each checkpoint. "data" must equal the saved "data"; if
                "versions" differ, a warning says so.
            keep: the number of newest checkpoints to keep.
            config: the settings, saved as "settings"; those that change results must equal the saved ones.

        Raises:
            InputError: when the newest checkpoint belongs to other data or settings.
        """
        self.folder = pathlib.Path(folder).absolute()
        self._metadata = dict(metadata)
        if config is not None:
            self._metadata["settings"] = configuration.to_json(config)
        if saved := newest_metadata(self.folder):
            self._compare(saved, config)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def _compare(self, saved: Mapping[str, Any], config: Any) -> None:
        """Raises if a checkpoint belongs to another run, and warns of different versions."""
        changes = []
        if config is not None and "settings" in saved:
            changes = configuration.difference(saved["settings"], config)
        changes += _changes(saved, self._metadata, "data") + _changes(saved, self._metadata, "files")
        if changes:
            raise InputError(
                f"the checkpoints under {self.folder} belong to another run ({_listed(changes)}): "
                "give another --workdir, or the settings and data of that run"
            )
        if changes := _changes(saved, self._metadata, "versions"):
            logging.warning(
                "the checkpoints under %s were saved with other versions (%s): results may differ from those "
                "of a run that was never stopped",
                self.folder,
                _listed(changes),
            )

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, **facts: Any) -> None:
        """Writes the whole state, and returns when it is on disk.

        If the newest checkpoint has the same step, nothing is written: a run that is stopped right after it
        saved or restored has no new state.

        Args:
            step: the step of the state.
            state: a pytree of arrays.
            **facts: JSON-safe facts of this step, for `facts`.

        Raises:
            CheckpointError: when the state cannot be written (disk full, no permission).
        """
        previous = self.latest_step()
        if step == previous:
            return
        metadata = self._metadata | facts | {"step": step, "digests": np.asarray(_digests(state)).tolist()}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), metadata=ocp.args.JsonSave(metadata))
        try:
            with _without_orbax_errors():
                self._manager.save(step, args=args, force=True)
        except Exception as error:  # orbax and tensorstore raise many kinds
            kept = "no earlier one exists" if previous is None else f"that of step {previous} is still good"
            raise CheckpointError(
                f"cannot save the checkpoint of step {step} under {self.folder}; {kept}. "
                f"Free some disk space and run the same command again. Reason: {_reason(error)}"
            ) from error

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """Reads the newest good checkpoint; moves damaged newer ones away, with a warning.

        Args:
            like: a pytree of arrays or ShapeDtypeStructs with the shapes, dtypes and shardings to restore.

        Returns:
            (step, state), or None if there is no checkpoint.

        Raises:
            InputError: when there are checkpoints but none is good.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                args = ocp.args.Composite(
                    state=ocp.args.StandardRestore(like), metadata=ocp.args.JsonRestore()
                )
                with _without_orbax_errors():
                    restored = self._manager.restore(step, args=args)
                _check_step(restored.metadata, step)
                _check_digests(restored.state, restored.metadata["digests"])
            except Exception as error:  # a damaged file can fail in any way
                logging.warning(
                    "the checkpoint of step %d under %s is damaged; trying the previous one. Reason: %s",
                    step,
                    self.folder,
                    _reason(error),
                )
                continue
            self._set_aside([damaged for damaged in steps if damaged > step])
            return step, restored.state
        if steps:
            raise InputError(
                f"none of the checkpoints under {self.folder} can be read (steps {sorted(steps)}): "
                "remove the folder to start again from step 0"
            )
        return None

    def facts(self, step: int) -> dict[str, Any]:
        """The metadata saved with the state of a step, including the facts given to `save`."""
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args).metadata

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            if jax.process_index() == 0:
                target = self.folder.parent / f"{self.folder.name}-damaged" / str(step)
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(exist_ok=True)
                shutil.move(self.folder / str(step), target)
        if steps:
            self._manager.reload()

    def close(self) -> None:
        """Releases the resources of the checkpoint manager."""
        self._manager.close()


def newest_metadata(folder: pathlib.Path) -> dict[str, Any]:
    """The metadata of the newest checkpoint that has some which can be read; empty if there is none."""
    for step in reversed(_steps(folder)):
        try:
            return dict(json.loads((folder / str(step) / "metadata" / "metadata").read_text()))
        except (OSError, ValueError, TypeError):  # `restore` warns of it
            continue
    return {}


def _changes(saved: Mapping[str, Any], now: Mapping[str, Any], part: str) -> list[tuple[str, Any, Any]]:
    """(dotted name, saved value, current value) of the entries that are in both and differ."""
    old, new = (configuration.flatten({part: facts.get(part, {})}) for facts in (saved, now))
    return [(name, old[name], new[name]) for name in old.keys() & new.keys() if old[name] != new[name]]


def _listed(changes: list[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{name} was {old!r}, is {new!r}" for name, old, new in sorted(changes))


def _reason(error: Exception) -> str:
    """The beginning of an exception's message, on one line."""
    return errors.words(error)[:200]


def _steps(folder: pathlib.Path) -> list[int]:
    """The steps of the checkpoints in a folder, in ascending order."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def has_checkpoint(folder: pathlib.Path) -> bool:
    """Whether there is a checkpoint in a folder, good or damaged."""
    return bool(_steps(folder))


def saved_steps(folder: str | pathlib.Path) -> list[int]:
    """The steps of the checkpoints in a folder, in ascending order; InputError if there are none."""
    steps = _steps(pathlib.Path(folder))
    if not steps:
        raise InputError(f"there is no checkpoint under {folder}: train first, or wait for the first one")
    return steps


def read_states(
    folder: str | pathlib.Path, like: Any, steps: Sequence[int] | None = None
) -> Iterator[tuple[int, Any]]:
    """Reads the agents' states from checkpoints of a run. Changes nothing: the run may still be going.

    Args:
        folder: the folder of the checkpoints.
        like: a pytree of ShapeDtypeStructs with the shapes and dtypes of the states, members as leading axis.
        steps: the steps of the checkpoints to read; None for all.

    Yields:
        (step, states), on the first device of this process, oldest first.

    Raises:
        InputError: when there is no checkpoint, or one cannot be read or has arrays of other shapes.
    """
    folder = pathlib.Path(folder).absolute()
    for step in saved_steps(folder) if steps is None else steps:
        with _damage_in_one_line(folder, step):
            _check_shapes(folder / str(step), like)
            restored = _restore_part(folder / str(step), "states", like)
            _check_step(restored.metadata, step)
            # The states are the first leaves of a checkpoint, so their digests come first too.
            digests = restored.metadata["digests"][: len(jax.tree.leaves(like))]
            _check_digests(restored.state, digests)
        yield step, restored.state["states"]


def read_arrays(folder: str | pathlib.Path, step: int, part: str = "states") -> dict[str, np.ndarray]:
    """Reads a part of a checkpoint without its agent, so that no code of its author is executed.

    Args:
        folder: the folder of the checkpoints.
        step: the step of the checkpoint.
        part: a field of `loop.Progression`.

    Returns:
        Dotted name to array [M, ...]; of random keys their data. Empty if the part has no arrays.

    Raises:
        InputError: when the checkpoint cannot be read, or needs more memory than is free.
    """
    folder = pathlib.Path(folder).absolute()
    with _damage_in_one_line(folder, step):
        tree: Any = ocp.PyTreeCheckpointHandler().metadata(folder / str(step) / "state").tree
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree[part])
        count = len(jax.tree.leaves(like))
        if not count:
            return {}
        size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
        check_size(folder / str(step), part, size)
        restored = _restore_part(folder / str(step), part, like)
        _check_step(restored.metadata, step)
        before = 0 if part == "states" else len(jax.tree.leaves(tree["states"]))
        digests = restored.metadata["digests"][before : before + count]
        # Their order is that of the agent's own tree, which is not known here.
        if sorted(np.asarray(_digests(restored.state)).tolist()) != sorted(digests):
            raise ValueError("its content does not match its checksums")
    return {
        name: np.asarray(leaf) for name, leaf in named_leaves(_without_keys(restored.state[part])).items()
    }


def _restore_part(folder: pathlib.Path, part: str, like: Any) -> Any:
    """The "metadata" and, in "state", one part of a checkpoint, on the first device of this process."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    item = {part: jax.tree.map(lambda leaf: leaf.update(sharding=here), like)}
    restore_args = ocp.checkpoint_utils.construct_restore_args(item)
    args = ocp.args.Composite(
        state=ocp.args.PyTreeRestore(item, restore_args=restore_args, partial_restore=True),
        metadata=ocp.args.JsonRestore(),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader, _without_orbax_errors():
        return reader.restore(folder, args=args)


@contextlib.contextmanager
def _damage_in_one_line(folder: pathlib.Path, step: int) -> Iterator[None]:
    """Turns any exception of a damaged checkpoint into an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(
            f"the checkpoint of step {step} under {folder} cannot be read: remove its folder, or resume the "
            f"run, which moves it away. Reason: {_reason(error)}"
        ) from error


def leaf_name(path: Any) -> str:
    """The dotted name of a leaf, from its path in a tree."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by dotted name; tuples and dictionaries give the same names as in a checkpoint."""
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _without_keys(tree: Any) -> Any:
    """A tree with the data of random keys in their place."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf,
        tree,
    )


def _check_shapes(folder: pathlib.Path, like: Any) -> None:
    """Raises if a checkpoint holds an agent whose arrays have other shapes; the checkpoint itself is good."""
    saved: Any = ocp.PyTreeCheckpointHandler().metadata(folder / "state")
    theirs = {name: leaf.shape for name, leaf in named_leaves(saved.tree["states"]).items()}
    for name, leaf in named_leaves(jax.eval_shape(_without_keys, like)).items():
        shape = leaf.shape
        if (saved_shape := theirs.get(name)) != shape:
            there = "is missing" if saved_shape is None else f"has shape {list(saved_shape)}"
            raise InputError(
                f"the checkpoint under {folder} belongs to an agent of other data: {name} {there} there, and "
                f"has shape {list(shape)} here: give observations and actions like those of its run"
            )


def _check_step(metadata: Mapping[str, Any], step: int) -> None:
    if (saved := metadata.get("step", step)) != step:
        raise ValueError(f"it is a copy of the checkpoint of step {saved}")


@contextlib.contextmanager
def _without_orbax_errors() -> Iterator[None]:
    """Suppresses orbax's log of the errors that it then raises: each log entry has a traceback."""

    def below_error(record: Any) -> bool:
        return record.levelno < ERROR

    logger = logging.get_absl_logger()
    logger.addFilter(below_error)
    try:
        yield
    finally:
        logger.removeFilter(below_error)


def _check_digests(tree: Any, digests: list[int]) -> None:
    if np.asarray(_digests(tree)).tolist() != digests:
        raise ValueError("its content does not match its checksums")
