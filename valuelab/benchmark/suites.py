"""Suites: the jobs to run, each of which trains and evaluates one agent on one dataset.

A suite file is a Python module that defines `SUITE`:

    from valuelab.benchmark import Job, Suite

    CUBE = "ogbench/cube-single-play-singletask-v0"
    SUITE = Suite((Job("fql", "fql:cube_single", CUBE),), program="experiments.train")

A job trains all seeds of its agent in one process.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import pathlib
import re
import runpy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from valuelab import errors
from valuelab.errors import InputError
from valuelab.runs.command_line import errors_of_file

JOBS = "members"
"""Folder of the jobs in a suite's workdir, and their key in suite.json and report.json.

Earlier versions called jobs members. The files keep the word, so that old and new ones can be read alike.
"""
OWN_FLAGS = ("agent", "dataset", "data_dir", "workdir")
"""Flags that a job's settings must not contain: the job's own fields and the runner give them."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One agent that is trained and evaluated on one dataset.

    Attributes:
        label: name of the method, the same on all its datasets.
        agent: NAME:PRESET or FILE.py:PRESET, as --agent takes it.
        dataset: as --dataset takes it; empty for an agent that learns by acting.
        program: full name of the module that trains it; empty for the program of the suite.
        settings: further flags, by dotted name.
        added: whether --add put it into the suite.
    """

    label: str
    agent: str
    dataset: str = ""
    program: str = dataclasses.field(default="", kw_only=True)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    added: bool = False

    def __post_init__(self) -> None:
        if not self.label or re.search(r"[/,]", self.label):
            raise InputError(
                f"label is {self.label!r} for agent {self.agent}: give a label without slashes and commas"
            )
        if reserved := self.settings.keys() & set(OWN_FLAGS):
            name = min(reserved)
            of_job = name in ("agent", "dataset")
            advice = "give it as a field of the job" if of_job else f"give --{name} to experiments.benchmark"
            raise InputError(f"{self.name}: settings must not contain {name}; {advice}")

    @property
    def name(self) -> str:
        """LABEL/DATASET, or LABEL/ENVIRONMENT for an agent that learns by acting."""
        where = self.dataset or self.settings.get("environment", "")
        return "/".join(filter(None, (self.label, where.rpartition("/")[2])))

    @property
    def folder(self) -> str:
        """The job's workdir, relative to the workdir of the suite."""
        return f"{JOBS}/" + re.sub(r"[^\w.+-]+", "-", self.name.replace("/", "--"))

    @property
    def arguments(self) -> list[str]:
        """The arguments after `python`, except for --data_dir and --workdir."""
        given = {"agent": self.agent, "dataset": self.dataset, **self.settings}
        flags = [f"--{name}={_flag_text(value)}" for name, value in given.items() if value != ""]
        return ["-m", self.program, *flags]


def _flag_text(value: Any) -> str:
    """A value as its flag takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclasses.dataclass(frozen=True)
class Suite:
    """Jobs whose results are compared.

    Attributes:
        jobs: in the order in which they start.
        program: full name of the module that trains the jobs, such as "experiments.train"; a job can name
            another one.
        name: name of the suite file, without folder and suffix.
        source: path of the suite file.
    """

    jobs: tuple[Job, ...]
    program: str = dataclasses.field(default="", kw_only=True)
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        jobs = tuple(dataclasses.replace(job, program=job.program or self.program) for job in self.jobs)
        object.__setattr__(self, "jobs", jobs)
        if not jobs:
            raise InputError("the suite has no jobs: write Suite((Job(...), ...))")
        owners: dict[str, Job] = {}
        for job in jobs:
            _check_program(job)
            if job.folder in owners:
                first, second = owners[job.folder].name, job.name
                raise InputError(
                    f"the jobs {first} and {second} have the same folder {job.folder}: rename a label"
                )
            owners[job.folder] = job


def _check_program(job: Job) -> None:
    """Raises InputError when a job has no program, or one that does not exist."""
    if not job.program:
        raise InputError(f'{job.name} has no program: write Suite(jobs, program="experiments.train")')
    module = None
    with contextlib.suppress(ModuleNotFoundError):  # the package that should contain it does not exist
        module = importlib.util.find_spec(job.program)
    if not module:
        raise InputError(
            f"{job.name}: there is no program {job.program}; give a module such as experiments.train"
        )


def read(source: str, folder: pathlib.Path) -> Suite:
    """Reads a suite file.

    Args:
        source: FILE.py, or the name of a suite in the folder.
        folder: contains the suites that can be given by name.

    Raises:
        InputError: when the file does not exist, or does not define a suite.
    """
    path = pathlib.Path(source) if source.endswith(".py") else folder / f"{source}.py"
    if not path.is_file():
        if source.endswith(".py"):
            raise InputError(f"suite file {source} does not exist; give a path from {pathlib.Path.cwd()}")
        raise errors.unknown("suite", source, known_suites(folder))
    with errors_of_file(path, "suite file"):
        suite = runpy.run_path(str(path)).get("SUITE")
        if not isinstance(suite, Suite):
            raise InputError("define SUITE = Suite((Job(...), ...)), imported from valuelab.benchmark")
    if path.parent == folder:
        path = pathlib.Path(*path.parts[-3:])  # the same on every machine
    return dataclasses.replace(suite, name=path.stem, source=str(path))


def known_suites(folder: pathlib.Path) -> list[str]:
    """The names that --suite takes without a path."""
    return sorted(path.stem for path in folder.glob("*.py"))


def add(suite: Suite, agent: str) -> Suite:
    """Adds an agent to a suite, on each of its datasets.

    On each dataset the agent gets the settings of the first job there, such as steps and num_seeds, without
    those of that job's agent. Jobs with a program other than that of the suite's first job are left out.

    Args:
        suite: the suite.
        agent: NAME, NAME:PRESET, FILE.py or FILE.py:PRESET; its name is the label.

    Raises:
        InputError: when the suite has this label already, or the file does not exist.
    """
    file = agent.partition(":")[0]
    if file.endswith(".py") and not pathlib.Path(file).is_file():
        raise InputError(f"agent file {file} does not exist: give a path from {pathlib.Path.cwd()}")
    program = suite.jobs[0].program
    first = {job.name.partition("/")[2]: job for job in reversed(suite.jobs)}
    label = pathlib.Path(file).stem
    added = tuple(
        dataclasses.replace(
            job,
            label=label,
            agent=agent,
            settings={name: value for name, value in job.settings.items() if not name.startswith("agent.")},
            added=True,
        )
        for job in reversed(first.values())
        if job.program == program
    )
    return dataclasses.replace(suite, jobs=suite.jobs + added)


def smoke(suite: Suite) -> Suite:
    """The suite with smoke runs as jobs. It has another name, so that its folder is not continued without."""
    jobs = tuple(dataclasses.replace(job, settings={**job.settings, "smoke": True}) for job in suite.jobs)
    return dataclasses.replace(suite, jobs=jobs, name=f"{suite.name} (smoke runs)")


def choose(suite: Suite, names: list[str]) -> list[Job]:
    """The jobs with one of the given labels or names; all jobs when no name is given.

    Raises:
        InputError: when the suite has no job with a given label or name.
    """
    known = {known for job in suite.jobs for known in (job.label, job.name)}
    for name in names:
        if name not in known:
            raise errors.unknown(f"job of {suite.name}", name, known)
    return [job for job in suite.jobs if not names or {job.label, job.name} & set(names)]


def short_names(jobs: Sequence[Job]) -> tuple[dict[str, str], str]:
    """Names of jobs without the words that all their datasets share, for narrow tables.

    Args:
        jobs: the jobs.

    Returns:
        Name -> short name, such as "iql/task1"; and the shared words with "..." for the others, such as
        "pointmaze-medium-navigate-singletask-...-v0"; empty if there are none.
    """
    words = {job.name: job.name.partition("/")[2].split("-") for job in jobs}
    distinct = list({tuple(each): each for each in words.values()}.values())
    if len(distinct) == 1:
        labels = {job.name: job.label for job in jobs}
        return labels, "-".join(distinct[0])
    shortest = min(map(len, distinct))

    def shared(place: Callable[[int], int], most: int) -> int:
        """The number of words, up to `most`, that are the same in all datasets."""
        alike = (len({each[place(index)] for each in distinct}) == 1 for index in range(most))
        return sum(itertools.takewhile(bool, alike))

    last = shared(lambda index: -1 - index, shortest - 1)
    first = shared(lambda index: index, shortest - 1 - last)
    short = {
        job.name: f"{job.label}/{'-'.join(words[job.name][first : len(words[job.name]) - last])}"
        for job in jobs
    }
    ends = distinct[0][:first], distinct[0][len(distinct[0]) - last :]
    return short, "-".join([*ends[0], "...", *ends[1]]) if first + last else ""
