"""Writes log rows to metrics.jsonl and, if requested, to TensorBoard and Weights & Biases."""

import hashlib
import json
import pathlib
import socket
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from valuelab import errors, files

PATIENCE = 30
"""Seconds that Weights & Biases may take to start, and to upload the last data, of each member."""
REACH = 5
"""Seconds in which the server of Weights & Biases must accept a connection."""

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


def _member_name(row: Mapping[str, Any], fields: tuple[str, ...]) -> str:
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

    def add_video(self, path: pathlib.Path, step: int) -> None:
        """Does nothing: the video is in the workdir."""

    def close(self) -> None:
        """Writes all buffered events to disk."""
        for writer in self._writers.values():
            writer.close()


class WandbSettings(NamedTuple):
    """Where and under which names a run is shown on Weights & Biases.

    Attributes:
        project: the project.
        entity: the user or team that owns the project; empty for the default one.
        group: the group of all members; empty for the name of the workdir if there are several.
        name: the name of the run, to which the member is added if there are several; empty for the name of
            the workdir.
        tags: the tags of all members.
    """

    project: str
    entity: str = ""
    group: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()


class WeightsAndBiases:
    """A run on Weights & Biases for each member, all in one group; on this machine where it is offline.

    The id of each run is kept in wandb.json in the workdir, so that a resumed run is continued there.
    """

    def __init__(
        self,
        settings: WandbSettings,
        folder: pathlib.Path,
        config: Mapping[str, Any],
        members: Sequence[Mapping[str, Any]],
    ):
        """Starts or continues the run of each member.

        Prints a line if Weights & Biases cannot be reached; the runs are then kept in the folder.

        Raises:
            InputError: when Weights & Biases refuses the connection.
        """
        self._wandb = errors.require("wandb", "logging")
        self._settings, self._folder, self._fields = settings, folder, tuple(members[0])
        several = len(members) > 1
        named = {_member_name(member, self._fields) if several else "": member for member in members}
        ids = _run_ids(folder, config, list(named))
        self._mode: str | None = None
        if reason := self._why_unreachable():
            self._stay_offline(reason)
        self._runs = {
            name: self._start(
                id=ids[name],
                name=" ".join(filter(None, (settings.name or folder.absolute().name, name))),
                group=settings.group or (folder.absolute().name if several else None),
                config={**config, "member": dict(member)},
            )
            for name, member in named.items()
        }

    def _start(self, **given: Any) -> Any:
        """Starts a run; offline if Weights & Biases does not answer."""
        settings = self._settings
        given |= {
            "project": settings.project,
            "entity": settings.entity or None,
            "tags": list(settings.tags) or None,
            "dir": str(self._folder),
            "resume": "allow",
            "reinit": "create_new",  # the other members' runs stay open
            "settings": self._wandb.Settings(init_timeout=PATIENCE, finish_timeout=PATIENCE),
        }
        try:
            if self._mode is None:
                try:
                    return self._wandb.init(**given)
                except self._wandb.CommError as error:
                    self._stay_offline(errors.words(error))
            return self._wandb.init(**given, mode=self._mode)
        except Exception as error:  # without a login
            raise errors.InputError(
                f"wandb_project is {settings.project}, and Weights & Biases cannot be used "
                f"({errors.words(error)}): log in with `wandb login`, or keep the run on this machine with "
                "WANDB_MODE=offline"
            ) from error

    def _why_unreachable(self) -> str:
        """Why the server cannot be reached; empty if it can, or if only wandb knows how."""
        known = self._wandb.setup().settings
        address = urllib.parse.urlsplit(known.base_url)
        if known.mode not in (None, "online", "shared") or address.scheme in urllib.request.getproxies():
            return ""
        port = address.port or (80 if address.scheme == "http" else 443)
        try:
            socket.create_connection((address.hostname, port), timeout=REACH).close()
        except OSError as error:
            return f"{address.hostname}: {errors.words(error)}"
        return ""

    def _stay_offline(self, reason: str) -> None:
        """Keeps all runs that start later on this machine."""
        self._mode = "offline"
        print(
            f"warning: Weights & Biases cannot be reached ({reason}): the run is kept in "
            f"{self._folder / 'wandb'}; upload it later with `wandb sync`"
        )

    def rewind(self, step: int) -> None:
        """Does nothing: rows that are written again have the same step and the same numbers."""

    def write(self, rows: list[Row]) -> None:
        """Logs all rows of one event, each to the run of its member."""
        for row in rows:
            values = {key: value for key, value in row.items() if key not in ("step", *self._fields)}
            self._runs[_member_name(row, self._fields)].log(values, step=row["step"])

    def add_video(self, path: pathlib.Path, step: int) -> None:
        """Uploads a video of the first member."""
        next(iter(self._runs.values())).log({"video": self._wandb.Video(str(path))}, step=step)

    def close(self) -> None:
        """Ends all runs."""
        for run in self._runs.values():
            run.finish()


def _run_ids(folder: pathlib.Path, config: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """The ids of the members' runs: those in wandb.json, or new ones that are saved there.

    A new id follows from the path of the folder and the config.
    """
    path = folder / "wandb.json"
    saved = files.read_json(path, "ids of Weights & Biases", "move it away") if path.exists() else {}
    text = f"{folder.absolute()} {files.to_json(config)} "
    ids = {name: saved.get(name) or hashlib.sha256((text + name).encode()).hexdigest()[:16] for name in names}
    files.replace_file(path, files.to_json(ids, indent=2) + "\n")
    return ids


def require(tensorboard: bool, wandb_project: str) -> None:
    """Checks that the packages of the requested trackers are installed.

    Args:
        tensorboard: see `Logs`.
        wandb_project: the project on Weights & Biases; empty for none.

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
        members: Sequence[Mapping[str, Any]],
        tensorboard: bool = False,
        wandb: WandbSettings | None = None,
    ):
        """Opens metrics.jsonl in `folder`, and the requested trackers.

        Args:
            folder: the workdir of the run.
            config: the settings that Weights & Biases shows with the run.
            members: the settings of each member, which are the row fields that identify it.
            tensorboard: whether to write TensorBoard event files too.
            wandb: where to log on Weights & Biases; None for no logging there.
        """
        self._file = MetricsFile(folder / "metrics.jsonl")
        self._trackers: list[Any] = []
        if tensorboard:
            self._trackers.append(TensorBoard(folder / "tensorboard", tuple(members[0])))
        if wandb:
            self._trackers.append(WeightsAndBiases(wandb, folder, config, members))

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

    def add_video(self, path: pathlib.Path, step: int) -> None:
        """Adds a video of the first member, if it was filmed, to Weights & Biases.

        Args:
            path: the file.
            step: the number of updates before it was filmed.
        """
        if path.exists():
            self._track(lambda tracker: tracker.add_video(path, step))

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
