"""The names and the order in which a report shows its methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from valuelab import errors, files
from valuelab.benchmark.suites import JOBS
from valuelab.errors import InputError

Json = dict[str, Any]


def read(given: str) -> dict[str, str]:
    """Reads --names.

    Args:
        given: LABEL=NAME,LABEL=NAME,... or the path of a JSON file that maps labels to names.

    Returns:
        Label to name, in the order of the report.

    Raises:
        InputError: when a part has another form, or the file cannot be used.
    """
    if given.endswith(".json"):
        path = files.local_path("names", given)
        names = files.read_json(path, "names of methods", 'write {"LABEL": "NAME"}')
    else:
        parts = [part.rpartition("=") for part in given.split(",") if part]  # labels may contain "="
        names = {label: name for label, _, name in parts}
        if len(names) < len(parts):
            raise InputError(f"names is {given!r}, which names a label twice: give each label once")
    for label, name in names.items():
        if not (label and isinstance(name, str) and name.strip()):
            raise InputError(f"names has {label!r} with {name!r}: write LABEL=NAME,LABEL=NAME or a JSON file")
    return names


def apply(report: Json, names: Mapping[str, str]) -> Json:
    """A report with other names of methods; those that are named come first, in the order of the names.

    Args:
        report: the content of report.json.
        names: label to name.

    Raises:
        InputError: when the report has no such label, or two methods would have the same name.
    """
    labels = list(dict.fromkeys(method["label"] for group in report["groups"] for method in group["methods"]))
    for label in names:
        if label not in labels:
            raise errors.unknown("label in names", label, labels)
    order = [*names, *(label for label in labels if label not in names)]
    shown = {label: names.get(label, label) for label in order}
    for label, name in shown.items():
        if alike := [other for other in order if other != label and shown[other] == name]:
            raise InputError(f"names gives {label!r} and {alike[0]!r} the same name {name!r}: give two names")

    def keyed(by_label: Mapping[str, Any], value: Callable[[Any], Any] = lambda value: value) -> Json:
        return {shown[label]: value(by_label[label]) for label in order if label in by_label}

    def listed(entries: Sequence[Json]) -> list[Json]:
        references = [entry for entry in entries if entry.get("reference")]  # not methods: they stay last
        methods = [entry for entry in entries if not entry.get("reference")]
        ordered = sorted(methods, key=lambda entry: order.index(entry["label"]))
        return [entry | {"label": shown[entry["label"]]} for entry in ordered] + references

    def renamed(group: Json) -> Json:
        changed = {
            "methods": listed(group["methods"]),
            "by_task": {
                dataset: table | {"methods": listed(table["methods"])}
                for dataset, table in group["by_task"].items()
            },
            "improvement": keyed(group["improvement"], keyed),
            "curves": {dataset: keyed(curves) for dataset, curves in group["curves"].items()},
        }
        if profiles := group.get("profiles"):
            changed["profiles"] = profiles | {"methods": keyed(profiles["methods"])}
        return group | changed

    return report | {
        "groups": [renamed(group) for group in report["groups"]],
        "published": listed(report["published"]),
        JOBS: [job | {"label": shown.get(job["label"], job["label"])} for job in report[JOBS]],
    }
