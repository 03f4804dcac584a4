"""The numbers of a report: the scores of jobs, and comparisons of methods.

In a suite a method is a label, on all its datasets; `run_folders` makes methods of other runs. (For agents
that learn by acting, read "environment" for "dataset" below.) Methods that are evaluated on the same tasks of
the same datasets form a group. Scores are aggregated and compared only within a group: zero-shot methods, for
example, are evaluated on five tasks, other methods on one. Success rates and D4RL-normalised scores have a
common scale and are aggregated; returns and objectives are not.
"""

import math
import pathlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab import configuration, files
from valuelab.benchmark import processes, published, runner
from valuelab.benchmark.suites import JOBS
from valuelab.errors import InputError
from valuelab.evaluation import statistics
from valuelab.runs import outputs, results
from valuelab.training import logs

FORMAT = 2
"""Format of report.json."""
SCALES = {"success": 1.0, "normalized_score": 100.0}
"""Metric to the divisor that turns its scores into shares."""
SINGLE_TASK = re.compile(r"-singletask-(task\d+)(?=-v\d+$)")
"""The part of an OGBench dataset's name that says which one of the domain's five tasks it contains."""
_THRESHOLDS = 41
_LOG_LINES = 12
_PATHS = ("workdir", "data_dir")
"""Settings that are only paths."""

Json = dict[str, Any]


class Outcome(NamedTuple):
    """The outcome of a job.

    Attributes:
        job: its entry in report.json.
        evaluations: its evaluations, with scores as shares where possible; None if it has no usable result.
        seconds: the seconds of training until each evaluation.
    """

    job: Json
    evaluations: results.Evaluations | None
    seconds: list[float]


class Method(NamedTuple):
    """A label of the suite, with M seeds.

    Attributes:
        label: the label.
        added: whether --add put it into the suite.
        jobs: dataset to the report of the job on it.
        evaluations: dataset to evaluations, of the jobs that are done; scores are shares where possible.
        seconds: dataset to the seconds of training until each of these evaluations.
    """

    label: str
    added: bool
    jobs: dict[str, Json]
    evaluations: dict[str, results.Evaluations]
    seconds: dict[str, list[float]]

    def on(self, datasets: Collection[str]) -> "Method":
        """The method restricted to some datasets."""

        def chosen(part: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in part.items() if name in datasets}

        return self._replace(
            jobs=chosen(self.jobs), evaluations=chosen(self.evaluations), seconds=chosen(self.seconds)
        )

    @property
    def complete(self) -> bool:
        """Whether all its jobs are done."""
        return self.evaluations.keys() == self.jobs.keys()

    def metric_and_tasks(self, dataset: str) -> tuple[str, list[str]]:
        """The metric and the tasks on a dataset whose job is done."""
        return self.jobs[dataset]["metric"], self.evaluations[dataset].tasks

    def scores(self, columns: Sequence[tuple[str, str]]) -> np.ndarray:
        """Final scores [M, T] on T pairs (dataset, task); M is the smallest number of seeds among them."""
        taken = [
            self.evaluations[name].scores[-1][:, self.evaluations[name].tasks.index(task)]
            for name, task in columns
        ]
        seeds = min(map(len, taken))
        return np.stack([scores[:seeds] for scores in taken], axis=1)


def read_report(path: pathlib.Path) -> Json:
    """Reads a report.json.

    Raises:
        InputError: when the file is not a report, or has another format.
    """
    return _read(path, "report", FORMAT, "give a report.json written by experiments.report")


def make(folder: pathlib.Path) -> Json:
    """All numbers and texts of a suite's report, ready for JSON.

    Args:
        folder: the workdir of the suite.

    Raises:
        InputError: when the folder holds no suite, the suite has another format, or none of its jobs is done.
    """
    suite, starts = read_suite(folder)
    methods: dict[str, Method] = {}
    jobs = []
    for entry in suite[JOBS]:
        outcome = read_job(folder / entry["folder"], entry, starts[entry["name"]])
        jobs.append(outcome.job)
        label, dataset = entry["label"], entry["dataset"] or entry["name"].partition("/")[2]
        method = methods.setdefault(label, Method(label, entry["added"], {}, {}, {}))
        method.jobs[dataset] = outcome.job
        if outcome.evaluations:
            method.evaluations[dataset], method.seconds[dataset] = outcome.evaluations, outcome.seconds
    if not any(method.evaluations for method in methods.values()):
        failed = [job for job in jobs if job["status"] == processes.FAILED]
        log = f", and {len(failed)} failed: see {folder / failed[0]['folder'] / 'log.txt'}" if failed else ""
        raise InputError(
            f"none of the {len(jobs)} jobs in {folder} is done{log}; run the suite's command to continue"
        )
    return assemble(suite, jobs, list(methods.values()))


def read_suite(folder: pathlib.Path) -> tuple[Json, dict[str, list[Json]]]:
    """Reads the workdir of a suite.

    Returns:
        The content of suite.json; the name of each job to its lines of timings.jsonl.

    Raises:
        InputError: when the folder holds no suite, the suite has another format, or a job lies elsewhere.
    """
    advice = "give the workdir of a run of experiments.benchmark"
    outputs.check_folder(folder, advice)
    suite = _read(folder / "suite.json", "suite", runner.FORMAT, advice)
    lines = logs.read_lines(folder / "timings.jsonl")
    for entry in suite[JOBS]:
        if not (folder / entry["folder"]).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{folder / 'suite.json'}: the folder {entry['folder']!r} of {entry['name']!r} is outside of "
                "the suite's workdir: correct it"
            )
    names = [entry["name"] for entry in suite[JOBS]]
    return suite, {name: [line for line in lines if line["name"] == name] for name in names}


def assemble(facts: Json, jobs: Sequence[Json], methods: Sequence[Method]) -> Json:
    """The content of report.json, without numbers that JSON lacks.

    Args:
        facts: "suite", the name of the report; "source", "versions" and "device".
        jobs: the entries of all jobs.
        methods: the methods that are compared.
    """
    return files.json_values(
        {
            "format": FORMAT,
            "suite": facts["suite"],
            "source": facts["source"],
            "versions": facts["versions"],
            "device": facts["device"],
            "seconds": sum(job["seconds"] for job in jobs),
            "groups": [compare(group) for group in groups(methods)],
            "published": compare_with_published(methods),
            JOBS: jobs,
        },
        digits=5,  # more would only make the file larger
    )


def _read(path: pathlib.Path, kind: str, known: int, advice: str) -> Json:
    """Reads the JSON of a suite or a report, and checks its format."""
    if not path.exists():
        raise InputError(f"there is no {kind} {path}: {advice}")
    content = files.read_json(path, kind, advice, format=int)
    if content["format"] != known:
        raise InputError(
            f"{path} has format {content['format']}, but this version of valuelab reads format {known}: "
            "use the version that wrote it"
        )
    return content


# One job.


def read_job(
    workdir: pathlib.Path, entry: Mapping[str, Any], starts: list[Json], setting: int | None = None
) -> Outcome:
    """Reads the files of a job, done or not.

    Args:
        workdir: of the job.
        entry: the job in suite.json.
        starts: the job's lines of timings.jsonl.
        setting: the index of the setting of a sweep to which the outcome is restricted; None for no sweep.
    """
    job: Json = {
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
        job["settings"] = configuration.flatten(settings)
        result = processes.read_result(workdir)
        if result is None:
            raise FileNotFoundError
        if settings["sweep"] and setting is None:
            raise InputError("it is a sweep, which has no single score: write one job for each setting")
        part = result if setting is None else result["settings"][setting]
        if "eval" not in part:
            raise InputError("it was not evaluated: set eval_episodes to a positive number")
        evaluations = results.read_evaluations(workdir)
        seconds = _seconds(workdir / "metrics.jsonl", evaluations)
        throughput = result["throughput"]
        if setting is not None:  # seeds vary fastest; each setting gets an equal share of the time
            seeds, count = settings["num_seeds"], len(result["settings"])
            scores = evaluations.scores[:, setting * seeds : (setting + 1) * seeds]
            evaluations, seconds = evaluations._replace(scores=scores), [each / count for each in seconds]
            throughput = {
                name: value / count if name.endswith("_seconds") else value
                for name, value in throughput.items()
            }
        if not np.isfinite(evaluations.scores).all():
            raise InputError("some of its episodes have no finite score: check the environment's rewards")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        job |= {"status": _status(workdir, starts), "note": _reason(error), "log": _last_lines(workdir)}
        return Outcome(_without_paths(job), None, [])
    metric = next(iter(part["eval"]))
    scores = evaluations.scores / SCALES.get(metric, 1.0)
    job |= {
        "metric": metric,
        "steps": result["steps"],
        "episodes": facts.get("data", {}).get("episodes"),
        "scores": dict(zip(evaluations.tasks, scores[-1].T.tolist(), strict=True)),
        "throughput": throughput,
        "warnings": _warnings(result, part),
        **({"pairs": part["pairs"]} if "pairs" in part else {}),
        **({"references": result["references"]} if "references" in result else {}),
        # A launch that was killed with its runner is not in the timings, but its training is in the result.
        "seconds": max(job["seconds"], round(_spent(throughput), 1)),
        "device": result["device"],
        "versions": result["versions"],
    }
    return Outcome(_without_paths(job), evaluations._replace(scores=scores), seconds)


def _warnings(result: Json, part: Json) -> list[str]:
    """The warnings of a run, in the words of result.json; of a setting of a sweep, those about its members.

    Args:
        result: the content of result.json.
        part: the same, or the entry of the setting.
    """
    return [
        warning["text"]
        for warning in result.get("warnings", ())
        if part is result
        or any(
            all(part.get(name, value) == value for name, value in member.items())
            for member in warning["members"]
        )
    ]


def _spent(throughput: Mapping[str, float]) -> float:
    """Seconds of compilation, training and evaluation."""
    return sum(seconds for name, seconds in throughput.items() if name.endswith("_seconds"))


def _seconds(path: pathlib.Path, evaluations: results.Evaluations) -> list[float]:
    """Seconds of training until each evaluation."""
    until = results.training_seconds(logs.read_rows(path), evaluations.scores.shape[1])
    try:
        return [until[step] for step in evaluations.steps.tolist()]
    except KeyError as error:
        raise InputError(f"{path} has no row of update {error}: run the job's command again") from error


def _status(workdir: pathlib.Path, starts: list[Json]) -> str:
    """The status of a job that is not done."""
    if starts and starts[-1]["status"] != processes.DONE:
        return starts[-1]["status"]
    if (workdir / "result.json").exists():
        return "unusable"
    return "unfinished" if (workdir / "config.json").exists() else "not started"


def _reason(error: Exception) -> str:
    """Why a job has no usable result; empty when its files do not exist yet."""
    if isinstance(error, FileNotFoundError):
        return ""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _last_lines(workdir: pathlib.Path) -> list[str]:
    """The last lines of a job's log."""
    try:
        return (workdir / "log.txt").read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return []


def _without_paths(job: Json) -> Json:
    """The report of a job without the settings that are only paths."""
    settings = {name: value for name, value in job["settings"].items() if name not in _PATHS}
    return job | {"settings": settings}


# Methods side by side.


def groups(methods: Sequence[Method]) -> list[list[Method]]:
    """Groups of methods that are evaluated on the same tasks by the same metrics.

    Each set of datasets on which some method is run forms a group: all methods that are run on these
    datasets, restricted to them. Methods whose metrics or tasks there differ form separate groups. A method
    that is not done joins a group that its finished jobs fit.
    """
    found: list[list[Method]] = []
    for datasets in dict.fromkeys(frozenset(method.jobs) for method in methods):
        alike: list[list[Method]] = []
        fitting = [method.on(datasets) for method in methods if datasets <= method.jobs.keys()]
        for method in sorted(fitting, key=lambda method: not method.complete):  # complete ones know all tasks
            for group in alike:
                shared = group[0].evaluations.keys() & method.evaluations.keys()
                if all(
                    group[0].metric_and_tasks(dataset) == method.metric_and_tasks(dataset)
                    for dataset in shared
                ):
                    group.append(method)
                    break
            else:
                alike.append([method])
        own = {method.label for method in methods if method.jobs.keys() == datasets}
        found += [group for group in alike if own & {method.label for method in group}]
    order = {method.label: place for place, method in enumerate(methods)}
    return [sorted(group, key=lambda method: order[method.label]) for group in found]


def compare(methods: Sequence[Method]) -> Json:
    """Scores of a group's methods on each task, and aggregates of the methods whose jobs are all done."""
    datasets = list(methods[0].jobs)
    evaluated = {
        dataset: next(
            (method.metric_and_tasks(dataset) for method in methods if dataset in method.evaluations), None
        )
        for dataset in datasets
    }
    metrics = {known[0] for known in evaluated.values() if known}
    scaled = metrics <= SCALES.keys()
    bounds = _bounds(metrics)
    complete = [method for method in methods if method.complete]
    columns = [(dataset, task) for dataset, known in evaluated.items() if known for task in known[1]]
    scores = {method.label: method.scores(columns) for method in complete}
    domains = _domains(evaluated)
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
                "seeds": sorted({len(each.scores[0]) for each in method.evaluations.values()}),
                "cells": [_cell(method, tasks) for tasks in shown.values()],
                "aggregates": statistics.aggregates(scores[method.label], bounds=bounds)
                if scaled and method.complete
                else None,
            }
            for method in methods
        ],
        "by_task": _by_task(methods, domains) | _by_detour(methods, datasets),
        "improvement": improvement(scores),
        "curves": {
            dataset: {
                method.label: _curve(method, dataset) for method in methods if dataset in method.evaluations
            }
            for dataset, known in evaluated.items()
            if known
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
    """The lowest and the highest possible score."""
    return (0.0, 1.0) if metrics == {"success"} else (-math.inf, math.inf)


def _domains(evaluated: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """Domain to task name to (dataset, task).

    A domain is a dataset; datasets that contain one of the five tasks of the same domain each are merged.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for dataset, known in evaluated.items():
        tasks = known[1] if known else []
        single, domain = SINGLE_TASK.search(dataset), SINGLE_TASK.sub("", dataset)
        if single and domain not in evaluated:
            found.setdefault(domain, {})[single[1]] = (dataset, tasks[0] if tasks else "")
        else:
            found[dataset] = {task: (dataset, task) for task in tasks}
    return found


def _columns(domains: Mapping[str, Mapping[str, tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    """Column of a table to its pairs (dataset, task).

    A single domain has a column for each task, several domains have one column each.
    """
    if len(domains) == 1:
        (tasks,) = domains.values()
        if len(tasks) > 1:
            return {task: [column] for task, column in tasks.items()}
    names = _shortened(list(domains))
    return {name: list(tasks.values()) for name, tasks in zip(names, domains.values(), strict=True)}


def _shortened(datasets: Sequence[str]) -> list[str]:
    """Names of datasets without their source and without the last words, if all of them have the same."""
    names = [name.rpartition("/")[2].split("-") for name in datasets]
    shared = 0
    while len(names) > 1 and len({name[-shared - 1] for name in names}) == 1 < min(map(len, names)) - shared:
        shared += 1
    return ["-".join(name[: len(name) - shared]) for name in names]


def _cell(method: Method, tasks: list[tuple[str, str]]) -> Json | None:
    """Mean score of a method over some tasks, with its interval; None when a job there is not done."""
    if not tasks or not {dataset for dataset, _ in tasks} <= method.evaluations.keys():
        return None
    bounds = _bounds({method.jobs[tasks[0][0]]["metric"]})
    return statistics.aggregates(method.scores(tasks), bounds=bounds)["mean"]


def _by_task(
    methods: Sequence[Method], domains: Mapping[str, Mapping[str, tuple[str, str]]]
) -> dict[str, Json]:
    """A table for each domain with several tasks, if they are one column in the table of the group.

    In mazes the last rows are the references that a run has played.
    """
    found: dict[str, Json] = {}
    for domain, tasks in domains.items():
        rows: list[Json] = [
            {"label": method.label, "cells": [_cell(method, [column]) for column in tasks.values()]}
            for method in methods
            if len(domains) > 1
        ]
        rows = [row for row in rows if any(row["cells"])]
        for name, rates in _first(methods, domain, "references").items():
            rows.append({"label": name, "cells": [_alone(rates[task]) for task in tasks], "reference": True})
        if len(tasks) > 1 and rows:
            found[domain] = {"columns": list(tasks), "methods": rows}
    return found


def _by_detour(methods: Sequence[Method], datasets: Sequence[str]) -> dict[str, Json]:
    """A table for each maze in which runs have played pairs of a start and a goal: success by detour.

    Runs with different numbers of pairs have played different pairs, and are in different tables. The last
    rows are references, whose intervals are over pairs.
    """
    found: dict[str, Json] = {}
    for dataset in datasets:
        played: dict[int, list[tuple[str, Json]]] = {}
        for method in methods:
            if pairs := method.jobs.get(dataset, {}).get("pairs"):
                played.setdefault(pairs["number"], []).append((method.label, pairs))
        for number, same in played.items():
            first = same[0][1]
            bins = list(first["success"])
            rows: list[Json] = []
            for label, pairs in same:
                scores = [np.array(pairs["success"][name]["per_seed"])[:, None] for name in bins]
                cells = [statistics.aggregates(each, bounds=(0.0, 1.0))["mean"] for each in scores]
                rows.append({"label": label, "cells": cells})
            for name, intervals in first["references"].items():
                cells = [intervals[each] | {"value": intervals[each]["mean"]} for each in bins]
                rows.append({"label": name, "cells": cells, "reference": True})
            columns = [f"detour {name} ({first['success'][name]['pairs']} pairs)" for name in bins]
            count = f"{number} " if len(played) > 1 else ""
            found[f"{dataset}, {count}pairs of a start and a goal"] = {"columns": columns, "methods": rows}
    return found


def _first(methods: Sequence[Method], dataset: str, name: str) -> Json:
    """An entry of the first job on a dataset that has it; empty if none has."""
    jobs = [method.jobs[dataset] for method in methods if dataset in method.jobs]
    return next((job[name] for job in jobs if name in job), {})


def _alone(value: float) -> Json:
    """The cell of a score without an interval."""
    return {"value": value, "ci_low": value, "ci_high": value}


def improvement(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, Json]]:
    """The probabilities P(X > Y) that a run of method X scores more than one of Y: X to Y to the interval."""
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
    evaluations = method.evaluations[dataset]
    intervals = statistics.curve(evaluations.scores, bounds=_bounds({method.jobs[dataset]["metric"]}))
    return {"updates": evaluations.steps.tolist(), "seconds": method.seconds[dataset], **intervals}


def compare_with_published(methods: Iterable[Method]) -> list[Json]:
    """Our scores and the published scores of the same agent on the same dataset."""
    rows = []
    for method in methods:
        for dataset, evaluations in method.evaluations.items():
            job = method.jobs[dataset]
            known = published.PUBLISHED.get((job["settings"]["agent_name"], dataset))
            if known:
                columns = [(dataset, task) for task in evaluations.tasks]
                rows.append(
                    {
                        "label": method.label,
                        "dataset": dataset,
                        "ours": _cell(method, columns),
                        "published": known.score,
                        "paper": known.source.paper,
                        "url": known.source.url,
                        "table": known.source.table,
                        "differences": published.differences(known, job["settings"], job["episodes"]),
                    }
                )
    return rows
