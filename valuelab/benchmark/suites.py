"""Suites: which agents are trained on which datasets, and where each leaves its results.

A suite file is a Python module that defines `SUITE`:

    from valuelab.benchmark import Member, Suite

    CUBE = "ogbench/cube-single-play-singletask-v0"
    SUITE = Suite((Member("fql", "fql:cube_single", CUBE, program="experiments.train"),))

A member is a run of its own: all seeds of one agent on one dataset, in one program.
"""

import contextlib
import dataclasses
import importlib.util
import pathlib
import re
import runpy
from collections.abc import Mapping
from typing import Any

from valuelab import errors
from valuelab.errors import InputError
from valuelab.runs.command_line import told_of

OWN = ("agent", "dataset", "data_dir", "workdir")
"""Flags that no setting may give: a member has them by itself."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A run of a suite.

    Attributes:
        label: of the method, the same on all its datasets.
        agent: NAME:PRESET or FILE.py:PRESET, as --agent takes it.
        dataset: as --dataset takes it; empty for an agent that learns by acting.
        program: full name of the module that trains it, such as "experiments.train".
        settings: flags beyond these, by dotted name.
        added: it is none of the suite's own.
    """

    label: str
    agent: str
    dataset: str = ""
    program: str = dataclasses.field(kw_only=True)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    added: bool = False

    def __post_init__(self) -> None:
        if not self.label or re.search(r"[/,]", self.label):
            raise InputError(f"label {self.label!r} of {self.agent}: give one without slashes and commas")
        program = None
        with contextlib.suppress(ModuleNotFoundError):  # its package is missing
            program = importlib.util.find_spec(self.program)
        if not program:
            raise InputError(
                f"{self.name}: there is no program {self.program}; write such as experiments.train"
            )
        if taken := self.settings.keys() & set(OWN):
            raise InputError(f"{self.name}: {taken.pop()} is no setting; name it as the member's own field")

    @property
    def name(self) -> str:
        """LABEL/DATASET, or LABEL/ENVIRONMENT of agents that learn by acting."""
        where = self.dataset or self.settings.get("environment", "")
        return "/".join(filter(None, (self.label, where.rpartition("/")[2])))

    @property
    def folder(self) -> str:
        """Its workdir in that of the suite."""
        return "members/" + re.sub(r"[^\w.+-]+", "-", self.name.replace("/", "--"))

    @property
    def arguments(self) -> list[str]:
        """What stands behind `python`, but for the flags that say where data and results lie."""
        given = {"agent": self.agent, "dataset": self.dataset, **self.settings}
        flags = [f"--{name}={_text(value)}" for name, value in given.items() if value != ""]
        return ["-m", self.program, *flags]


def _text(value: Any) -> str:
    """A value as a flag takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclasses.dataclass(frozen=True)
class Suite:
    """Members whose results are compared.

    Attributes:
        members: in the order in which they run.
        name: of its file, without folder and suffix.
        source: the file.
    """

    members: tuple[Member, ...]
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        owners: dict[str, Member] = {}
        for member in self.members:
            if member.folder in owners:
                first, second = owners[member.folder].name, member.name
                raise InputError(f"two members share {member.folder}, {first} and {second}: rename a label")
            owners[member.folder] = member


def read(source: str, folder: pathlib.Path) -> Suite:
    """Reads a suite file.

    Args:
        source: FILE.py; a bare name stands for a file of the folder.
        folder: of suites that have names.

    Raises:
        InputError: when there is no such file, or it cannot be used.
    """
    path = pathlib.Path(source) if source.endswith(".py") else folder / f"{source}.py"
    if not path.is_file():
        if source.endswith(".py"):
            raise InputError(f"suite file {source} does not exist; give a path from {pathlib.Path.cwd()}")
        raise errors.unknown("suite", source, known_suites(folder))
    with told_of(path, "suite file"):
        suite = runpy.run_path(str(path)).get("SUITE")
        if not isinstance(suite, Suite):
            raise InputError("it must define SUITE = Suite((Member(...), ...)), of valuelab.benchmark")
    if path.parent == folder:
        path = pathlib.Path(*path.parts[-3:])  # the same on every machine
    return dataclasses.replace(suite, name=path.stem, source=str(path))


def known_suites(folder: pathlib.Path) -> list[str]:
    """The names that --suite knows without a path."""
    return sorted(path.stem for path in folder.glob("*.py"))


def add(suite: Suite, agent: str) -> Suite:
    """A suite with an agent more, on each of its datasets.

    Only jobs of the program of the suite's first one get company. On each dataset the agent gets the
    settings of the first member there, such as steps and seeds, but those of that member's agent.

    Args:
        suite: the suite.
        agent: NAME, NAME:PRESET, FILE.py or FILE.py:PRESET.

    Raises:
        InputError: when its label, which is its file's name, is taken.
    """
    program = suite.members[0].program
    first = {member.name.partition("/")[2]: member for member in reversed(suite.members)}
    label = pathlib.Path(agent.partition(":")[0]).stem
    added = tuple(
        dataclasses.replace(
            member,
            label=label,
            agent=agent,
            settings={name: value for name, value in member.settings.items() if name[:6] != "agent."},
            added=True,
        )
        for member in reversed(first.values())
        if member.program == program
    )
    return dataclasses.replace(suite, members=suite.members + added)


def choose(suite: Suite, names: list[str]) -> list[Member]:
    """The members with given labels or names; all where none is given.

    Raises:
        InputError: for one that the suite has not.
    """
    known = {known for member in suite.members for known in (member.label, member.name)}
    for name in names:
        if name not in known:
            raise errors.unknown(f"member of {suite.name}", name, known)
    return [member for member in suite.members if not names or {member.label, member.name} & set(names)]
