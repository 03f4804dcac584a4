"""Where log rows go: metrics.jsonl always, TensorBoard and Weights & Biases where asked for."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from valuelab import errors, files

Row = dict[str, Any]
"""What is logged of one member at one event: "step", what tells the member apart, and numbers by name."""


def read_rows(path: pathlib.Path) -> list[Row]:
    """The rows of a file of JSON lines; a last line that was cut off is left out.

    Where a line in the middle is damaged, rows end before it, and a warning says so.
    """
    if not path.exists():
        return []
    files.check_regular(path)
    rows: list[Row] = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last line end is empty or cut off
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            logging.warning("%s is damaged in line %d: what follows is left out", path, len(rows) + 1)
            break
    return rows


class MetricsFile:
    """metrics.jsonl: a JSON object a line, one for each event and member; null for what is not finite."""

    def __init__(self, path: pathlib.Path):
        """Appends to the file at `path`."""
        self.path = path

    def rewind(self, step: int, members: int) -> int:
        """Drops rows after a step: a run that goes on from a checkpoint writes them again.

        Args:
            step: of the checkpoint.
            members: rows of an event; one that has fewer was cut off, and is dropped as well.

        Returns:
            The step of the last event that is kept; 0 for none.
        """
        kept = [row for row in read_rows(self.path) if row["step"] <= step]
        last = kept[-1]["step"] if kept else 0
        if sum(row["step"] == last for row in kept) < members:
            kept = [row for row in kept if row["step"] < last]
        files.replace_file(self.path, "".join(files.to_json(row) + "\n" for row in kept))
        return kept[-1]["step"] if kept else 0

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""
        with open(self.path, "a", opener=files.not_a_link) as file:
            file.write("".join(files.to_json(row) + "\n" for row in rows))


def _member_name(row: Row, fields: tuple[str, ...]) -> str:
    return ",".join(f"{field}={row[field]:g}" for field in fields if field in row)


class TensorBoard:
    """TensorBoard event files, one folder a member."""

    def __init__(self, folder: pathlib.Path, member_fields: tuple[str, ...]):
        """Writes under `folder`; `member_fields` are the row fields that tell members apart."""
        self._folder = folder
        self._fields = member_fields
        self._summary_writer = errors.require("tensorboardX", "logging").SummaryWriter
        self._writers: dict[str, Any] = {}
        self._first_step = 0

    def rewind(self, step: int) -> None:
        """Lets TensorBoard forget events after a step; to be called before anything is written."""
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
        """Writes out what is buffered."""
        for writer in self._writers.values():
            writer.close()


class WeightsAndBiases:
    """A run on Weights & Biases (or offline, with WANDB_MODE=offline), members as prefixes."""

    def __init__(
        self, project: str, folder: pathlib.Path, config: Mapping[str, Any], member_fields: tuple[str, ...]
    ):
        """Starts, or goes on with, the run that this folder has named.

        Raises:
            InputError: when it is not let in.
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
                f"wandb_project is {project}, and Weights & Biases cannot be used ({_told(error)}): "
                "log in by `wandb login`, or keep all here by WANDB_MODE=offline"
            ) from error

    def rewind(self, step: int) -> None:
        """Nothing to drop: rows written again have the same step and say the same."""

    def write(self, rows: list[Row]) -> None:
        """Logs the rows of one event together."""
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
    """Looks whether what is asked for is installed.

    Args:
        tensorboard: as of `Logs`.
        wandb_project: likewise.

    Raises:
        MissingExtraError: when it is not.
    """
    for module, wanted in (("tensorboardX", tensorboard), ("wandb", bool(wandb_project))):
        if wanted:
            errors.require(module, "logging")


def _told(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(str(error).split()) or type(error).__name__


class Logs:
    """All places where the rows of a run go, as one.

    metrics.jsonl holds everything, so a tracker that fails is left out from then on, and ends no run.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        config: Mapping[str, Any],
        member_fields: tuple[str, ...],
        tensorboard: bool,
        wandb_project: str,
    ):
        """Writes metrics.jsonl in `folder`, and more where asked for.

        Args:
            folder: of the run.
            config: what Weights & Biases is told of the run.
            member_fields: the row fields that tell members apart.
            tensorboard: whether to write TensorBoard's event files too.
            wandb_project: project of Weights & Biases; empty for none.
        """
        self._file = MetricsFile(folder / "metrics.jsonl")
        self._trackers: list[Any] = []
        if tensorboard:
            self._trackers.append(TensorBoard(folder / "tensorboard", member_fields))
        if wandb_project:
            self._trackers.append(WeightsAndBiases(wandb_project, folder, config, member_fields))

    def rewind(self, step: int, members: int) -> int:
        """Drops rows after a step; as `MetricsFile.rewind`, which says what is given and returned."""
        last = self._file.rewind(step, members)
        self._track(lambda tracker: tracker.rewind(last))
        return last

    def write(self, rows: list[Row]) -> None:
        """Adds the rows of one event."""
        self._file.write(rows)
        self._track(lambda tracker: tracker.write(rows))

    def close(self) -> None:
        """Writes out what is buffered."""
        self._track(lambda tracker: tracker.close())

    def _track(self, do: Callable[[Any], None]) -> None:
        """Does something with every tracker."""
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                name = type(tracker).__name__
                print(f"warning: {name} failed and gets no more ({_told(error)}); metrics.jsonl has it all")
