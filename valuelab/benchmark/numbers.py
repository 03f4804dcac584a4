"""The numbers of a suite's report: what its members scored, and how methods compare.

A method is a label of the suite, on all its datasets (or environments, where an agent learns by acting: they
stand for datasets below). Methods that are to be evaluated on the same tasks of the same datasets form a
group, and only within a group are they aggregated and compared: zero-shot methods, for example, play five
tasks where others play one. Scores of one scale (success rates, D4RL-normalised scores over 100) are
aggregated; returns and objectives are not.
"""

import math
import pathlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab import configuration, files
from valuelab.benchmark import processes, published, runner
from valuelab.errors import InputError
from valuelab.evaluation import statistics
from valuelab.runs import outputs, results
from valuelab.training import logs

FORMAT = 2
"""Of report.json."""
SCALES = {"success": 1.0, "normalized_score": 100.0}
"""Metrics whose scores are shares after division by this."""
SINGLE_TASK = re.compile(r"-singletask-(task\d+)(?=-v\d+$)")
"""What OGBench's name of a dataset that holds one of five tasks adds to that of the domain."""
_THRESHOLDS = 41
_LOG_LINES = 12
_PLACES = ("workdir", "data_dir")
"""Settings that only say where files lie."""

Json = dict[str, Any]


class Method(NamedTuple):
    """A label of the suite.

    Attributes:
        label: its name.
        added: whether it was added to the suite on the command line.
        members: dataset to what is reported of the member on it.
        evaluations: dataset to evaluations, of the members that are done; scores as shares where they can be.
        seconds: dataset to seconds of training [S] until each evaluation.
    """

    label: str
    added: bool
    members: dict[str, Json]
    evaluations: dict[str, results.Evaluations]
    seconds: dict[str, list[float]]

    def on(self, datasets: Collection[str]) -> "Method":
        """The same on some of its datasets alone."""

        def chosen(part: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in part.items() if name in datasets}

        return Method(
            self.label, self.added, chosen(self.members), chosen(self.evaluations), chosen(self.seconds)
        )

    @property
    def complete(self) -> bool:
        """Whether all its members are done."""
        return self.evaluations.keys() == self.members.keys()

    def tested(self, dataset: str) -> tuple[str, list[str]]:
        """By which metric on which tasks of a dataset that is done."""
        return self.members[dataset]["metric"], self.evaluations[dataset].tasks

    def scores(self, columns: Sequence[tuple[str, str]]) -> np.ndarray:
        """Final scores [M, T] on (dataset, task) columns; M is the least number of seeds."""
        taken = [
            self.evaluations[name].scores[-1][:, self.evaluations[name].tasks.index(task)]
            for name, task in columns
        ]
        seeds = min(map(len, taken))
        return np.stack([scores[:seeds] for scores in taken], axis=1)


def read_report(path: pathlib.Path) -> Json:
    """A report.json that was written before.

    Raises:
        InputError: when it is none, or of another format.
    """
    return _read(path, "report", FORMAT, "give the report.json of experiments.report")


def make(folder: pathlib.Path) -> Json:
    """Everything that the report of a suite says, ready for JSON.

    Args:
        folder: the workdir of the suite.

    Raises:
        InputError: when there is no suite, it is of another format, or none of its members is done.
    """
    advice = "give the workdir of a run of experiments.benchmark"
    outputs.check_folder(folder, advice)
    if (folder / "config.json").exists() and not (folder / "suite.json").exists():
        raise InputError(
            f"{folder} holds a single run, whose outcome is in result.json and curves.png there: "
            f"for a report of a suite {advice}"
        )
    suite = _read(folder / "suite.json", "suite", runner.FORMAT, advice)
    starts = logs.read_rows(folder / "timings.jsonl")
    methods: dict[str, Method] = {}
    reported = []
    for entry in suite["members"]:
        if not (folder / entry["folder"]).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{folder / 'suite.json'}: the folder {entry['folder']!r} of {entry['name']!r} lies outside: "
                "correct it"
            )
        member, evaluations, seconds = read_member(
            folder, entry, [start for start in starts if start["name"] == entry["name"]]
        )
        reported.append(member)
        label, dataset = entry["label"], entry["dataset"] or entry["name"].partition("/")[2]
        method = methods.setdefault(label, Method(label, entry["added"], {}, {}, {}))
        method.members[dataset] = member
        if evaluations:
            method.evaluations[dataset], method.seconds[dataset] = evaluations, seconds
    if not any(method.evaluations for method in methods.values()):
        failed = [member for member in reported if member["status"] == processes.FAILED]
        log = f", and {len(failed)} failed: see {folder / failed[0]['folder'] / 'log.txt'}" if failed else ""
        raise InputError(
            f"none of the {len(reported)} members in {folder} is done{log}; go on with the suite's command"
        )
    return files.json_values(
        {
            "format": FORMAT,
            "suite": suite["suite"],
            "source": suite["source"],
            "versions": suite["versions"],
            "device": suite["device"],
            "seconds": sum(member["seconds"] for member in reported),
            "groups": [compare(group) for group in groups(list(methods.values()))],
            "published": beside_published(methods.values()),
            "members": reported,
        },
        digits=5,  # more would only make the file larger
    )


def _read(path: pathlib.Path, kind: str, known: int, advice: str) -> Json:
    if not path.exists():
        raise InputError(f"there is no {kind} {path}: {advice}")
    found = files.read_json(path, kind, advice, format=int)
    if found["format"] != known:
        raise InputError(
            f"{path} is of format {found['format']}, and this reads format {known}: "
            "use the version of valuelab that wrote it"
        )
    return found


# One member.


def read_member(
    folder: pathlib.Path, entry: Mapping[str, Any], starts: list[Json]
) -> tuple[Json, results.Evaluations | None, list[float]]:
    """What is known of a member, done or not.

    Args:
        folder: the workdir of the suite.
        entry: of the member in suite.json.
        starts: its lines of timings.jsonl.

    Returns:
        What is reported of it; its evaluations, if it is done; and seconds of training until each.
    """
    workdir = folder / entry["folder"]
    member: Json = {
        **entry,
        "status": processes.DONE,
        "note": "",
        "log": [],
        "settings": {},
        "throughput": None,
        "starts": len(starts),
        "seconds": sum(start["seconds"] for start in starts),
    }
    try:
        if not (workdir / "config.json").exists():
            raise FileNotFoundError
        facts = files.read_json(workdir / "config.json", "config of valuelab", "run it again", settings=dict)
        settings = facts["settings"]
        member["settings"] = configuration.flatten(settings)
        result = processes.read_result(workdir)
        if result is None:
            raise FileNotFoundError
        if settings["sweep"]:
            raise InputError("it is a sweep, which has no single score: give each of its settings a member")
        if "eval" not in result:
            raise InputError("it was not evaluated: give it eval_episodes")
        evaluations = results.read_evaluations(workdir)
        if not np.isfinite(evaluations.scores).all():
            raise InputError("some of its episodes have no finite score: look at the environment's rewards")
        seconds = _seconds(workdir / "metrics.jsonl", evaluations)
    except (OSError, ValueError, KeyError, TypeError) as error:
        member |= {"status": _status(workdir, starts), "note": _reason(error), "log": _last_lines(workdir)}
        return _placeless(member), None, []
    metric = next(iter(result["eval"]))
    scores = evaluations.scores / SCALES.get(metric, 1.0)
    member |= {
        "metric": metric,
        "steps": result["steps"],
        "episodes": facts.get("data", {}).get("episodes"),
        "scores": dict(zip(evaluations.tasks, scores[-1].T.tolist(), strict=True)),
        "throughput": result["throughput"],
        # A start that was killed with its runner is not in the timings; what it trained is in the result.
        "seconds": max(member["seconds"], round(_spent(result["throughput"]), 1)),
        "device": result["device"],
        "versions": result["versions"],
    }
    return _placeless(member), evaluations._replace(scores=scores), seconds


def _spent(throughput: Mapping[str, float]) -> float:
    """Seconds of compiling, training and evaluation."""
    return sum(seconds for name, seconds in throughput.items() if name.endswith("_seconds"))


def _seconds(path: pathlib.Path, evaluations: results.Evaluations) -> list[float]:
    """Of training until each evaluation."""
    until = results.training_seconds(logs.read_rows(path), evaluations.scores.shape[1])
    try:
        return [until[step] for step in evaluations.steps.tolist()]
    except KeyError as error:
        raise InputError(f"{path} has no row of update {error}: run its command again") from error


def _status(workdir: pathlib.Path, starts: list[Json]) -> str:
    """Of a member that is not done."""
    if starts and starts[-1]["status"] != processes.DONE:
        return starts[-1]["status"]
    if (workdir / "result.json").exists():
        return "unusable"
    return "unfinished" if (workdir / "config.json").exists() else "not started"


def _reason(error: Exception) -> str:
    """Why a member has no result, where its files do not just lack."""
    if isinstance(error, FileNotFoundError):
        return ""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _last_lines(workdir: pathlib.Path) -> list[str]:
    """The end of a member's log."""
    try:
        return (workdir / "log.txt").read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return []


def _placeless(member: Json) -> Json:
    """A member without the settings that only say where files lie."""
    settings = {name: value for name, value in member["settings"].items() if name not in _PLACES}
    return member | {"settings": settings}


# Methods side by side.


def groups(methods: Sequence[Method]) -> list[list[Method]]:
    """Methods that are evaluated on the same tasks by the same metrics, those not done with their likes.

    There is a group for each set of datasets that is all of a method's, of those that have these, restricted
    to them.
    """
    found: list[list[Method]] = []
    for datasets in dict.fromkeys(frozenset(method.members) for method in methods):
        likes: list[list[Method]] = []
        fitting = [method.on(datasets) for method in methods if datasets <= method.members.keys()]
        for method in sorted(fitting, key=lambda method: not method.complete):  # the first tell all tasks
            for group in likes:
                shared = group[0].evaluations.keys() & method.evaluations.keys()
                if all(group[0].tested(dataset) == method.tested(dataset) for dataset in shared):
                    group.append(method)
                    break
            else:
                likes.append([method])
        own = {method.label for method in methods if method.members.keys() == datasets}
        found += [group for group in likes if own & {method.label for method in group}]
    order = {method.label: place for place, method in enumerate(methods)}
    return [sorted(group, key=lambda method: order[method.label]) for group in found]


def compare(methods: Sequence[Method]) -> Json:
    """Scores of the methods of a group by task, and what they are together where all are done."""
    datasets = list(methods[0].members)
    tested = {
        dataset: next((method.tested(dataset) for method in methods if dataset in method.evaluations), None)
        for dataset in datasets
    }
    metrics = {found[0] for found in tested.values() if found}
    scaled = metrics <= SCALES.keys()
    bounds = _bounds(metrics)
    complete = [method for method in methods if method.complete]
    columns = [(dataset, task) for dataset, found in tested.items() if found for task in found[1]]
    scores = {method.label: method.scores(columns) for method in complete}
    domains = _domains(tested)
    shown = _columns(domains)
    group: Json = {
        "datasets": datasets,
        "metrics": sorted(metrics),
        "scaled": scaled,
        "columns": list(shown),
        "methods": [
            {
                "label": method.label,
                "added": method.added,
                "seeds": sorted({len(found.scores[0]) for found in method.evaluations.values()}),
                "cells": [_cell(method, tasks) for tasks in shown.values()],
                "aggregates": statistics.aggregates(scores[method.label], bounds=bounds)
                if scaled and method.complete
                else None,
            }
            for method in methods
        ],
        "by_task": _by_task(methods, domains) if len(domains) > 1 else {},
        "improvement": improvement(scores),
        "curves": {
            dataset: {
                method.label: _curve(method, dataset) for method in methods if dataset in method.evaluations
            }
            for dataset, found in tested.items()
            if found
        },
    }
    if scaled and scores:
        highest = max(1.0, *(array.max() for array in scores.values()))
        thresholds = np.linspace(0.0, highest, _THRESHOLDS)
        group["profiles"] = {
            "thresholds": thresholds,
            "methods": {
                label: statistics.performance_profile(array, thresholds) for label, array in scores.items()
            },
        }
    return group


def _bounds(metrics: set[str]) -> tuple[float, float]:
    """Between which scores lie."""
    return (0.0, 1.0) if metrics == {"success"} else (-math.inf, math.inf)


def _domains(tested: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """Name of a task to its (dataset, task), by domain: a dataset, or all that hold one task of the same."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for dataset, known in tested.items():
        tasks = known[1] if known else []
        single, domain = SINGLE_TASK.search(dataset), SINGLE_TASK.sub("", dataset)
        if single and domain not in tested:
            found.setdefault(domain, {})[single[1]] = (dataset, tasks[0] if tasks else "")
        else:
            found[dataset] = {task: (dataset, task) for task in tasks}
    return found


def _columns(domains: Mapping[str, Mapping[str, tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    """Heads of a table and the (dataset, task) of each: tasks of a single domain, else domains."""
    if len(domains) == 1:
        (tasks,) = domains.values()
        if len(tasks) > 1:
            return {task: [column] for task, column in tasks.items()}
    names = _shortened(list(domains))
    return {name: list(tasks.values()) for name, tasks in zip(names, domains.values(), strict=True)}


def _shortened(datasets: Sequence[str]) -> list[str]:
    """Names of datasets without their source, and without the words at the end that all share."""
    names = [name.rpartition("/")[2].split("-") for name in datasets]
    shared = 0
    while len(names) > 1 and len({name[-shared - 1] for name in names}) == 1 < min(map(len, names)) - shared:
        shared += 1
    return ["-".join(name[: len(name) - shared]) for name in names]


def _cell(method: Method, tasks: list[tuple[str, str]]) -> Json | None:
    """A method's mean with its interval; None where it is not done there."""
    if not tasks or not {dataset for dataset, _ in tasks} <= method.evaluations.keys():
        return None
    bounds = _bounds({method.members[tasks[0][0]]["metric"]})
    return statistics.aggregates(method.scores(tasks), bounds=bounds)["mean"]


def _by_task(
    methods: Sequence[Method], domains: Mapping[str, Mapping[str, tuple[str, str]]]
) -> dict[str, Json]:
    """Of domains with several tasks, which share a column of the group's table, a table of their own."""
    found: dict[str, Json] = {}
    for domain, tasks in domains.items():
        if len(tasks) > 1:
            rows = [
                {"label": method.label, "cells": [_cell(method, [column]) for column in tasks.values()]}
                for method in methods
            ]
            found[domain] = {"columns": list(tasks), "methods": [row for row in rows if any(row["cells"])]}
    return found


def improvement(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, Json]]:
    """How probable it is that one method scores more than another: better to worse to probability."""
    labels = list(scores)
    found: dict[str, dict[str, Json]] = {label: {} for label in labels}
    for index, first in enumerate(labels):
        for second in labels[index + 1 :]:
            mean, low, high = statistics.probability_of_improvement(scores[first], scores[second]).values()
            found[first][second] = {"value": mean, "ci_low": low, "ci_high": high}
            found[second][first] = {"value": 1 - mean, "ci_low": 1 - high, "ci_high": 1 - low}
    return found


def _curve(method: Method, dataset: str) -> Json:
    """The mean over seeds and tasks of a dataset, at each evaluation."""
    found = method.evaluations[dataset]
    intervals = statistics.curve(found.scores, bounds=_bounds({method.members[dataset]["metric"]}))
    return {"updates": found.steps.tolist(), "seconds": method.seconds[dataset], **intervals}


def beside_published(methods: Iterable[Method]) -> list[Json]:
    """Our scores beside those that were published of the same agent on the same dataset."""
    found = []
    for method in methods:
        for dataset, evaluations in method.evaluations.items():
            member = method.members[dataset]
            known = published.PUBLISHED.get((member["settings"]["agent_name"], dataset))
            if known:
                columns = [(dataset, task) for task in evaluations.tasks]
                found.append(
                    {
                        "label": method.label,
                        "dataset": dataset,
                        "ours": _cell(method, columns),
                        "published": known.score,
                        "paper": known.source.paper,
                        "url": known.source.url,
                        "table": known.source.table,
                        "differences": published.differences(known, member["settings"], member["episodes"]),
                    }
                )
    return found
