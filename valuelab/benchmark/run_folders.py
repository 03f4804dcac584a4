"""A report of any runs: finds them in folders, groups them into methods, and names what cannot be compared.

Runs of the same agent with the same settings on the same dataset are one method, and their seeds are pooled.
A method is named by its agent (or by its label in a suite). Where several methods of a dataset would get the
same name, the preset is added, and then the settings that differ.
"""

import collections
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab import configuration, files
from valuelab.benchmark import numbers, processes
from valuelab.benchmark.numbers import Json, Method, Outcome
from valuelab.benchmark.suites import JOBS
from valuelab.configuration import RunConfig
from valuelab.errors import MOST_LISTED, InputError, one_line
from valuelab.runs import results
from valuelab.training import logs

ADVICE = "give workdirs of experiments.train, experiments.zero_shot or experiments.benchmark"
MOST_IN_A_NAME = 3
"""If more settings differ, the name of a method has only those that tell the methods apart."""
_NO_DIFFERENCE = {
    *("seed", "num_seeds", "sweep", "dataset"),
    *(name for name, field in configuration.fields(RunConfig()).items() if not field.compared),
}
"""Settings in which runs of the same method can differ."""
_OWN_ENTRIES = {"eval", "interquartile_mean", "tasks"}
"""The entries of a sweep's setting in result.json that are not swept values."""


class FolderRun(NamedTuple):
    """A run, or one setting of a sweep.

    Attributes:
        outcome: its entry in report.json, with its evaluations.
        name: the agent, or the label in a suite.
        preset: of the agent; empty for none.
        dataset: the dataset, or the environment of an agent that learns by acting.
        settings: dotted name to value, of the settings that change a result; empty if it was never started.
        seeds: its seeds.
        data: number of episodes and transitions, and digests; empty if unknown.
    """

    outcome: Outcome
    name: str
    preset: str
    dataset: str
    settings: Mapping[str, Any]
    seeds: Sequence[int]
    data: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Its workdir, and the setting of a sweep."""
        return self.outcome.job["name"]


def make(sources: Sequence[pathlib.Path], title: str) -> Json:
    """The content of report.json for any runs, with "notes" on all that is not compared.

    Args:
        sources: workdirs of runs and of suites, and folders that contain such workdirs.
        title: the name of the report.

    Raises:
        InputError: when a folder does not exist, or no run has a result.
    """
    entries, notes = find(sources)
    runs: list[FolderRun] = []
    for entry, starts in entries:
        with one_line(f"{entry['folder']} cannot be read as a run", ADVICE):
            runs += read(entry, starts)
    labels, more_notes = name_apart(runs)
    notes += more_notes
    members: dict[str, dict[str, list[FolderRun]]] = {}
    for label, run in zip(labels, runs, strict=True):
        members.setdefault(label, {}).setdefault(run.dataset, []).append(run)
    methods = [pool(label, by_dataset) for label, by_dataset in members.items()]
    jobs = [run.outcome.job | {"label": label} for label, run in zip(labels, runs, strict=True)]
    left_out = {name: reason for method in methods for name, reason in method.left_out.items()}
    for job in jobs:
        if job["name"] in left_out:
            job |= {"status": "left out", "note": left_out[job["name"]]}
    pooled = [each.method for each in methods]
    if not any(method.evaluations for method in pooled):
        first = f": {jobs[0]['name']} is {jobs[0]['status']}" if jobs else ""
        reason = f" ({jobs[0]['note']})" if jobs and jobs[0]["note"] else ""
        raise InputError(
            f"none of the {len(jobs)} runs has a result{first}{reason}: finish a run, or {ADVICE}"
        )
    facts = {
        "suite": title,
        "source": " ".join(map(str, sources)),
        "versions": _joined([job["versions"] for job in jobs if "versions" in job]),
        "device": " and ".join(dict.fromkeys(job["device"] for job in jobs if "device" in job)),
    }
    report = numbers.assemble(facts, jobs, pooled)
    notes += _metrics(pooled)
    notes += [note for group in numbers.groups(pooled) for note in _differences(group, members)]
    return report | {"notes": list(dict.fromkeys(notes))}


def _joined(versions: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The versions of all runs: name to the different versions."""
    found: dict[str, dict[str, None]] = {}
    for each in versions:
        for name, version in each.items():
            found.setdefault(name, {})[version] = None
    return {name: " and ".join(known) for name, known in found.items()}


# Finding and reading runs.


def find(sources: Sequence[pathlib.Path]) -> tuple[list[tuple[Json, list[Json]]], list[str]]:
    """Finds the runs in some folders.

    Args:
        sources: see `make`.

    Returns:
        For each run an entry as in suite.json, whose folder is a path from here, and its lines of
        timings.jsonl; notes on what is left out.

    Raises:
        InputError: when a source does not exist, or none of them contains a run.
    """
    found: dict[pathlib.Path, tuple[Json, list[Json]]] = {}
    notes = []
    for source in sources:
        if not source.exists():
            raise InputError(f"folder {source} does not exist: {ADVICE}")
        if not source.is_dir():
            notes.append(f"{source} is left out, because it is not a folder")
            continue
        inside = list(_workdirs(source))
        for folder in inside:
            if (folder / "suite.json").exists():
                suite, starts = numbers.read_suite(folder)
                for entry in suite[JOBS]:
                    path = folder / entry["folder"]
                    found.setdefault(path.resolve(), (entry | {"folder": str(path)}, starts[entry["name"]]))
            else:
                try:
                    found.setdefault(folder.resolve(), (_entry(folder), []))
                except InputError as error:
                    notes.append(f"{folder} is left out: {error}")
        if not inside:
            notes.append(f"{source} is left out, because it contains no runs")
    if not found:
        raise InputError(f"{'; '.join(notes) or 'no folder is given'}: {ADVICE}")
    return list(found.values()), notes


def _workdirs(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The workdirs of runs and suites in a folder; a workdir contains no others."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if {"suite.json", "config.json"} & set(names):
            folders.clear()
            yield pathlib.Path(path)


def _entry(folder: pathlib.Path) -> Json:
    """A run as suite.json lists jobs.

    Raises:
        InputError: for the workdir of another program, a smoke run, or a damaged workdir.
    """
    path = folder / "config.json"
    settings = files.read_json(path, "config of valuelab", "move it away", settings=dict)["settings"]
    if not {"agent_name", "dataset"} <= settings.keys():
        raise InputError(f"{path} is not of a run of experiments.train or experiments.zero_shot")
    if settings.get("smoke"):
        raise InputError("it is a smoke run, whose scores mean nothing")
    least_values: Json = {"agent_name": "", "dataset": "", "seed": 0, "num_seeds": 1}
    for name, least in least_values.items():
        value = settings.get(name, least)
        if type(value) is not type(least) or value < least:
            raise InputError(f"{path} is damaged: {name} is {value!r}")
    return {
        "name": str(folder),
        "label": settings["agent_name"],
        "folder": str(folder),
        "program": "experiments.zero_shot" if "labels" in settings else "experiments.train",
        "agent": settings.get("agent_source") or settings["agent_name"],
        "dataset": settings["dataset"],
        "added": False,
        "command": "",
    }


def read(entry: Json, starts: list[Json]) -> Iterator[FolderRun]:
    """Reads a run; the settings of a sweep are runs of their own."""
    folder = pathlib.Path(entry["folder"])
    entry = entry | {"name": entry["folder"]}
    facts: Json = {}
    if (folder / "config.json").exists():
        facts = files.read_json(folder / "config.json", "config of valuelab", "move it away", settings=dict)
    settings = facts.get("settings", {})
    flat = {
        name: value for name, value in configuration.flatten(settings).items() if name not in _NO_DIFFERENCE
    }
    if settings.get("dataset") == "":
        flat.pop("environment", None)
    agent, _, preset = entry["agent"].rpartition(":")
    seed = settings.get("seed", 0)
    swept: list[Json] = [{}]
    if settings.get("sweep") and (result := _result(folder)):
        swept = [
            {name: value for name, value in part.items() if name not in _OWN_ENTRIES}
            for part in result.get("settings", [{}])
        ]
    for index, values in enumerate(swept):
        named = entry
        if values:
            text = " ".join(f"{name}={_text(value)}" for name, value in values.items())
            named = entry | {"name": f"{entry['folder']}, {text}"}
        outcome = numbers.read_job(folder, named, starts, index if values else None)
        job = outcome.job
        if not starts and not entry["command"]:
            job["starts"] = None
        if job["status"] == "unfinished" and not job["note"]:
            rows = logs.read_rows(folder / "metrics.jsonl")
            done = rows[-1]["step"] if rows else 0
            job["note"] = f"{done:,} of {settings.get('steps', 0):,} updates are done"
        yield FolderRun(
            outcome=outcome,
            name=entry["label"],
            preset=preset if agent else "",
            dataset=entry["dataset"] or settings.get("environment", ""),
            settings=flat | _in_full(values, flat),
            seeds=range(seed, seed + settings.get("num_seeds", 1)),
            data=facts.get("data", {}),
        )


def _in_full(swept: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Swept values by the full names of settings: agent.expectile may be short for agent.critic.expectile."""
    found: dict[str, Any] = {}
    for name, value in swept.items():
        part, _, last = name.rpartition(".")
        full = [each for each in settings if each.startswith(f"{part}.") and each.endswith(f".{last}")]
        found |= dict.fromkeys([name] if name in settings or not full else full, value)
    return found


def _result(folder: pathlib.Path) -> Json | None:
    """The result.json of a run; None where it is missing or damaged, which `numbers.read_job` reports."""
    try:
        return processes.read_result(folder)
    except InputError:
        return None


# Names of methods.


def name_apart(runs: Sequence[FolderRun]) -> tuple[list[str], list[str]]:
    """Labels of runs, such that runs on the same dataset have the same label only with the same settings.

    Returns:
        The label of each run; notes on settings that differ but are not part of the labels.
    """
    labels = [run.name for run in runs]
    labels = _refined(runs, labels, _presets)
    notes: list[str] = []

    def by_settings(alike: Sequence[FolderRun]) -> dict[str, str]:
        names = _once(alike, _differing(alike))
        chosen = names if len(names) <= MOST_IN_A_NAME else _telling_apart(alike, names)
        if others := [name for name in names if name not in chosen]:
            also = f"but also in {_listed(others)}"
            notes.append(f"methods of {alike[0].name} differ not only in {_listed(chosen)}, {also}")
        ends = [name.rpartition(".")[2] for name in chosen]
        shown = [end if ends.count(end) == 1 else name for name, end in zip(chosen, ends, strict=True)]
        return {
            run.folder: "".join(
                f" {short}={_text(run.settings.get(name))}" for name, short in zip(chosen, shown, strict=True)
            )
            for run in alike
        }

    labels = _refined(runs, labels, by_settings)
    for label in dict.fromkeys(labels):
        mine = [run for run, each in zip(runs, labels, strict=True) if each == label and run.settings]
        if names := _differing(mine, across_datasets=True):
            notes.append(f"the settings of {label} differ between datasets: {_listed(names)}")
    return labels, notes


def _refined(
    runs: Sequence[FolderRun],
    labels: Sequence[str],
    describe: Callable[[Sequence[FolderRun]], Mapping[str, str]],
) -> list[str]:
    """Labels with an addition where methods with the same label have other settings on the same dataset.

    Args:
        runs: the runs.
        labels: the label of each.
        describe: the started runs of a label -> their folders to the additions.
    """
    additions: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        alike = [run for run, each in zip(runs, labels, strict=True) if each == label and run.settings]
        if _differing(alike):
            additions |= describe(alike)
    return [label + additions.get(run.folder, "") for run, label in zip(runs, labels, strict=True)]


def _presets(runs: Sequence[FolderRun]) -> dict[str, str]:
    """The presets of runs as additions to their label; empty where they do not differ on any dataset."""
    pairs = {(run.dataset, run.preset) for run in runs}
    if len(pairs) == len({run.dataset for run in runs}):
        return {}
    return {run.folder: f":{run.preset}" for run in runs if run.preset}


def _differing(runs: Sequence[FolderRun], across_datasets: bool = False) -> list[str]:
    """The settings that differ between runs on the same dataset, or between any of the runs."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for run in runs:
        for name in names:
            values[name, "" if across_datasets else run.dataset].add(json.dumps(run.settings.get(name)))
    found = {name for (name, _), different in values.items() if len(different) > 1}
    return [name for name in names if name in found]


def _once(runs: Sequence[FolderRun], names: Sequence[str]) -> list[str]:
    """Settings without those that have the last word of an earlier one, and its value in every run."""
    found: dict[str, str] = {}
    for name in names:
        values = [run.settings.get(name) for run in runs]
        found.setdefault(json.dumps([name.rpartition(".")[2], values]), name)
    return list(found.values())


def _telling_apart(runs: Sequence[FolderRun], names: Sequence[str]) -> list[str]:
    """A small subset of settings that tells all runs with different settings apart."""

    def kinds(chosen: Iterable[str]) -> int:
        return len({json.dumps([run.dataset, *(run.settings.get(name) for name in chosen)]) for run in runs})

    chosen: list[str] = []
    while kinds(chosen) < kinds(names):
        chosen.append(max(names, key=lambda name: kinds([*chosen, name])))
    return [name for name in names if name in chosen]


def _text(value: Any) -> str:
    """The value of a setting in a label."""
    if isinstance(value, list):
        return "x".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence; the first of many."""
    shown = names if len(names) <= MOST_LISTED else names[: MOST_LISTED - 2]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more settings" if more else "")


# Pooling seeds.


class Pooled(NamedTuple):
    """A method, and the runs that could not be pooled into it.

    Attributes:
        method: the method.
        left_out: name of a run to the reason.
    """

    method: Method
    left_out: dict[str, str]


def pool(label: str, runs: Mapping[str, Sequence[FolderRun]]) -> Pooled:
    """Makes a method from runs with the same settings, whose seeds are pooled.

    Args:
        label: its label.
        runs: dataset to runs.
    """
    added = any(run.outcome.job["added"] for each in runs.values() for run in each)
    method, left_out = Method(label, added, {}, {}, {}), {}
    for dataset, given in runs.items():
        kept: list[FolderRun] = []
        for run in given:
            if not run.outcome.evaluations:
                continue
            reasons = [reason for other in kept if (reason := _why_not(run, other))]
            if reasons:
                left_out[run.folder] = reasons[0]
            else:
                kept.append(run)
        method.jobs[dataset] = (kept or list(given))[0].outcome.job
        if kept:
            kept.sort(key=lambda run: run.seeds[0])
            method.jobs[dataset] = kept[0].outcome.job | _pairs([run.outcome.job for run in kept])
            method.evaluations[dataset], method.seconds[dataset] = _concatenated(
                [run.outcome for run in kept]
            )
    return Pooled(method, left_out)


def _why_not(run: FolderRun, other: FolderRun) -> str:
    """Why the seeds of two runs with the same settings cannot be pooled; empty if they can."""
    one, two = run.outcome, other.outcome
    assert one.evaluations
    assert two.evaluations
    if shared := range(max(run.seeds[0], other.seeds[0]), min(run.seeds[-1], other.seeds[-1]) + 1):
        named = ", ".join(map(str, shared[:MOST_LISTED])) + ", ..." * (len(shared) > MOST_LISTED)
        return f"it has the settings of {other.folder}, and the same seed{'s' * (len(shared) > 1)} {named}"
    for difference, mine, theirs in (
        ("another metric", one.job["metric"], two.job["metric"]),
        ("other tasks", one.evaluations.tasks, two.evaluations.tasks),
        ("another number of updates", one.evaluations.steps[-1], two.evaluations.steps[-1]),
        ("other data", run.data.get("digests"), other.data.get("digests")),
    ):
        if mine != theirs:
            return f"it has the settings of {other.folder}, but {difference}"
    if "pairs" in one.job and "pairs" in two.job and one.job["pairs"]["number"] != two.job["pairs"]["number"]:
        return f"it has the settings of {other.folder}, but another number of pairs"
    return ""


def _pairs(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry "pairs" of a method whose seeds are those of several runs; empty if none has played pairs."""
    every = [job["pairs"] for job in jobs if "pairs" in job]
    if not every:
        return {}
    success = {}
    for name, interval in every[0]["success"].items():
        seeds = [score for pairs in every for score in pairs["success"][name]["per_seed"]]
        success[name] = interval | {"per_seed": seeds}
    return {"pairs": every[0] | {"success": success}}


def _concatenated(outcomes: Sequence[Outcome]) -> tuple[results.Evaluations, list[float]]:
    """The evaluations of all seeds at the updates that the runs share, and the seconds until each."""
    evaluations = [outcome.evaluations for outcome in outcomes if outcome.evaluations]
    steps = evaluations[0].steps
    for each in evaluations[1:]:
        steps = np.intersect1d(steps, each.steps)
    places = [np.searchsorted(each.steps, steps) for each in evaluations]
    scores = np.concatenate([each.scores[at] for each, at in zip(evaluations, places, strict=True)], axis=1)
    seconds = sum(np.array(outcome.seconds)[at] for outcome, at in zip(outcomes, places, strict=True))
    return results.Evaluations(steps, evaluations[0].tasks, scores), np.asarray(seconds).tolist()


# What is not the same in runs that are compared.


def _metrics(methods: Sequence[Method]) -> list[str]:
    """Notes on datasets whose methods are in different groups, because they have other metrics or tasks."""
    found: dict[str, dict[str, list[str]]] = {}
    for method in methods:
        for dataset in method.evaluations:
            metric, tasks = method.metric_and_tasks(dataset)
            what = f"{metric} on {', '.join(tasks)}"
            found.setdefault(dataset, {}).setdefault(what, []).append(method.label)
    return [
        f"not compared on {dataset}: "
        + "; ".join(f"{', '.join(labels)} with {what}" for what, labels in kinds.items())
        for dataset, kinds in found.items()
        if len(kinds) > 1
    ]


def _differences(
    group: Sequence[Method], members: Mapping[str, Mapping[str, Sequence[FolderRun]]]
) -> list[str]:
    """Notes on numbers of updates, data and seeds that differ between the methods of a group."""
    notes = []
    for dataset in group[0].jobs:
        finished = [method for method in group if dataset in method.evaluations]
        steps = {method.label: int(method.evaluations[dataset].steps[-1]) for method in finished}
        if len(set(steps.values())) > 1:
            listed = "; ".join(f"{count:,} of {label}" for label, count in steps.items())
            notes.append(f"the numbers of updates differ on {dataset}: {listed}")
        sizes = {
            method.label: run.data["transitions"]
            for method in finished
            for run in members[method.label][dataset]
            if "transitions" in run.data
        }
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{label} {count:,}" for label, count in sizes.items())
            notes.append(f"the numbers of transitions differ on {dataset}: {listed}")
    for method in group:
        counts = {len(each.scores[0]) for each in method.evaluations.values()}
        if len(counts) > 1:
            notes.append(
                f"the number of seeds of {method.label} is {min(counts)} to {max(counts)} on different "
                f"datasets: its aggregates use the first {min(counts)}"
            )
    return notes
