"""Writes log rows to metrics.jsonl and, if requested, to TensorBoard and Weights & Biases."""

import hashlib
import json
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from valuelab import errors, files

Row = dict[str, Any]
"""One member's entry at one event: "step", the fields that identify the member, and numbers by name."""


def read_rows(path: pathlib.Path) -> list[Row]:
    """Reads the rows of metrics.jsonl, each with its "step"; see `read_lines`."""
    return read_lines(path, step=int)


def read_lines(path: pathlib.Path, **fields: type) -> list[Row]:
    """Reads the objects of a file of JSON lines; leaves out a last line that was cut off.

    If a line in the middle is damaged, the objects end before it and a warning says so.

    Args:
        path: the file.
        **fields: names that each object must have, to their types.
    """
    if not path.exists():
        return []
    files.check_regular(path)
    rows: list[Row] = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # the text after the last line end is empty or cut off
        try:
            row = dict(json.loads(line))
            if any(type(row[name]) is not kind for name, kind in fields.items()):
                raise TypeError
            rows.append(row)
        except (ValueError, TypeError, KeyError, RecursionError):
            logging.warning(
                "%s is damaged in line %d: this line and all later ones are ignored", path, len(rows) + 1
            )
            break
    return rows


class Extent(NamedTuple):
    """The content of metrics.jsonl at some time; saved with a checkpoint, so that a resumed run can compare.

    Attributes:
        step: the step of the last row; 0 where there is none.
        size: bytes.
        checksum: CRC-32 of these bytes.
    """

    step: int = 0
    size: int = 0
    checksum: int = 0


class MetricsFile:
    """metrics.jsonl: one JSON object a line for each event and member; null for numbers that are not finite.

    Attributes:
        path: the file.
        extent: the content of the file, from the rows kept and written so far.
    """

    def __init__(self, path: pathlib.Path):
        """Appends to the file at `path`."""
        self.path = path
        self.extent = Extent()

    def rewind(self, step: int, members: int, saved: Sequence[int] = ()) -> int:
        """Drops the rows after a step, because a run that resumes from a checkpoint writes them again.

        Warns where rows before the checkpoint were removed or changed since it was saved.

        Args:
            step: the step of the checkpoint.
            members: number of rows of an event; an event with fewer was cut off and is dropped as well.
            saved: the extent that the checkpoint keeps; empty to compare nothing.

        Returns:
            The step of the last event that is kept; 0 for none.
        """
        kept = [row for row in read_rows(self.path) if row["step"] <= step]
        last = kept[-1]["step"] if kept else 0
        if sum(row["step"] == last for row in kept) < members:
            kept = [row for row in kept if row["step"] < last]
        text = _to_lines(kept)
        files.replace_file(self.path, text)
        self.extent = _longer(Extent(), kept, text)
        expected = Extent(*saved)
        head = text.encode()[: expected.size]
        if self.extent.step >= expected.step and zlib.crc32(head) != expected.checksum:  # else the loop warns
            logging.warning(
                "%s has lost or changed rows up to step %d since the checkpoint was saved: "
                "curves and results of this run are incomplete",
                *(self.path, expected.step),
            )
        return self.extent.step

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""
        text = _to_lines(rows)
        with open(self.path, "a", opener=files.open_unless_link) as file:
            file.write(text)
        self.extent = _longer(self.extent, rows, text)


def _to_lines(rows: Sequence[Row]) -> str:
    return "".join(files.to_json(row) + "\n" for row in rows)


def _longer(extent: Extent, rows: Sequence[Row], text: str) -> Extent:
    """The extent after some rows, whose lines are `text`, were appended."""
    added = text.encode()
    return Extent(
        step=rows[-1]["step"] if rows else extent.step,
        size=extent.size + len(added),
        checksum=zlib.crc32(added, extent.checksum),
    )


def _member_name(row: Row, fields: tuple[str, ...]) -> str:
    return ",".join(f"{field}={row[field]:g}" for field in fields if field in row)


class TensorBoard:
    """TensorBoard event files, one folder for each member."""

    def __init__(self, folder: pathlib.Path, member_fields: tuple[str, ...]):
        """Writes under `folder`; `member_fields` are the row fields that identify a member."""
        self._folder = folder
        self._fields = member_fields
        self._summary_writer = errors.require("tensorboardX", "logging").SummaryWriter
        self._writers: dict[str, Any] = {}
        self._first_step = 0

    def rewind(self, step: int) -> None:
        """Makes TensorBoard drop events after a step; call it before the first `write`."""
        self._first_step = step + 1

    def write(self, rows: list[Row]) -> None:
        """Adds the scalars of the rows."""
        for row in rows:
            name = _member_name(row, self._fields)
            if name not in self._writers:
                folder = str(self._folder / name)
                self._writers[name] = self._summary_writer(folder, purge_step=self._first_step)
            for key, value in row.items():
                if key not in ("step", *self._fields):
                    self._writers[name].add_scalar(key, value, row["step"])

    def close(self) -> None:
        """Writes all buffered events to disk."""
        for writer in self._writers.values():
            writer.close()


class WeightsAndBiases:
    """A run on Weights & Biases (or offline, with WANDB_MODE=offline); members are prefixes of names."""

    def __init__(
        self, project: str, folder: pathlib.Path, config: Mapping[str, Any], member_fields: tuple[str, ...]
    ):
        """Starts or continues the run whose id is derived from the folder.

        Raises:
            InputError: when Weights & Biases refuses the connection.
        """
        self._fields = member_fields
        run_id = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
        wandb = errors.require("wandb", "logging")
        try:
            self._run = wandb.init(
                project=project, dir=str(folder), config=dict(config), id=run_id, resume="allow"
            )
        except Exception as error:  # without a login, without a network
            raise errors.InputError(
                f"wandb_project is {project}, and Weights & Biases cannot be used ({errors.words(error)}): "
                "log in with `wandb login`, or keep the run on this machine with WANDB_MODE=offline"
            ) from error

    def rewind(self, step: int) -> None:
        """Does nothing: rows that are written again have the same step and the same numbers."""

    def write(self, rows: list[Row]) -> None:
        """Logs all rows of one event."""
        values: Row = {}
        for row in rows:
            name = _member_name(row, self._fields)
            for key, value in row.items():
                if key not in ("step", *self._fields):
                    values[f"{name}/{key}" if name else key] = value
        self._run.log(values, step=rows[0]["step"])

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def require(tensorboard: bool, wandb_project: str) -> None:
    """Checks that the packages of the requested trackers are installed.

    Args:
        tensorboard: see `Logs`.
        wandb_project: see `Logs`.

    Raises:
        MissingExtraError: when one is not installed.
    """
    for module, wanted in (("tensorboardX", tensorboard), ("wandb", bool(wandb_project))):
        if wanted:
            errors.require(module, "logging")


class Logs:
    """Writes the rows of a run to metrics.jsonl and to all requested trackers.

    metrics.jsonl holds all rows, so a tracker that fails gets no further rows and the run continues.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        config: Mapping[str, Any],
        member_fields: tuple[str, ...],
        tensorboard: bool,
        wandb_project: str,
    ):
        """Opens metrics.jsonl in `folder`, and the requested trackers.

        Args:
            folder: the workdir of the run.
            config: the settings that Weights & Biases shows with the run.
            member_fields: the row fields that identify a member.
            tensorboard: whether to write TensorBoard event files too.
            wandb_project: a project of Weights & Biases; empty for none.
        """
        self._file = MetricsFile(folder / "metrics.jsonl")
        self._trackers: list[Any] = []
        if tensorboard:
            self._trackers.append(TensorBoard(folder / "tensorboard", member_fields))
        if wandb_project:
            self._trackers.append(WeightsAndBiases(wandb_project, folder, config, member_fields))

    @property
    def extent(self) -> Extent:
        """The content of metrics.jsonl, to be given to `rewind` when the run resumes."""
        return self._file.extent

    def rewind(self, step: int, members: int, saved: Sequence[int] = ()) -> int:
        """Drops rows after a step; see `MetricsFile.rewind` for the arguments and the result."""
        last = self._file.rewind(step, members, saved)
        self._track(lambda tracker: tracker.rewind(last))
        return last

    def write(self, rows: list[Row]) -> None:
        """Adds the rows of one event."""
        self._file.write(rows)
        self._track(lambda tracker: tracker.write(rows))

    def close(self) -> None:
        """Writes all buffered rows to disk."""
        self._track(lambda tracker: tracker.close())

    def _track(self, call: Callable[[Any], None]) -> None:
        """Calls a function with every tracker; drops a tracker that fails."""
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                print(
                    f"warning: {type(tracker).__name__} failed ({errors.words(error)}) and gets no further "
                    "rows; metrics.jsonl has them all"
                )
