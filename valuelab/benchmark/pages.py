"""The pages of a report: self-contained HTML, Markdown, figures, and a table for a README."""

import base64
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from valuelab import files
from valuelab.benchmark.numbers import SINGLE_TASK
from valuelab.benchmark.suites import JOBS
from valuelab.errors import InputError, require
from valuelab.evaluation import benchmark_plots

Json = dict[str, Any]
STATISTICS = ("mean", "interquartile_mean", "median", "optimality_gap")
_TEMPLATES = pathlib.Path(__file__).parent / "templates"
_UNITS = {
    "success": "success in %",
    "normalized_score": "D4RL-normalised score",
    "return": "return",
    "objective": "objective",
}
_WORDS = re.compile(r"[\\`|<>&\[\]]|\s*[\r\n]\s*")
_ESCAPES = {
    **{character: f"\\{character}" for character in "\\`|[]"},
    **{"<": "&lt;", ">": "&gt;", "&": "&amp;"},
}
"""Markdown for characters that would otherwise be markup."""
_LINK = re.compile(r"https?://[\w.~/?#=&%+,@-]+|[\w.~/-][\w.~/?#=%+,@-]*")
"""A web address or a path, without other schemes, HTML entities, or characters that end a link."""
_FENCE = re.compile(r"\s*[\r\n]\s*|`{3,}|~{3,}")
"""Text that would end a block of code."""


class Picture(NamedTuple):
    """A figure of a page.

    Attributes:
        path: of the file.
        caption: the text below it.
        width: in inches.
        source: the src attribute of the image.
    """

    path: pathlib.Path
    caption: str
    width: float
    source: str = ""


def write(report: Json, folder: pathlib.Path) -> None:
    """Writes report.html, report.md and figures/*.png.

    Args:
        report: a report, as of `numbers.make`.
        folder: where to write them.

    Raises:
        InputError: when a package is not installed.
    """
    pictures = draw(report, folder / "figures")
    linked = [[each._replace(source=f"figures/{each.path.name}") for each in group] for group in pictures]
    inside = [[each._replace(source=_data_url(each.path)) for each in group] for group in pictures]
    files.replace_file(folder / "report.md", _render("report.md", report, linked))
    files.replace_file(folder / "report.html", _render("report.html", report, inside))


def readme_table(report: Json, link: str) -> str:
    """The results in Markdown, for a README.

    Args:
        report: a report.
        link: path of its JSON, relative to the README.
    """
    return _render("readme.md", report, link=link)


def update_table(document: pathlib.Path, report: Json, source: pathlib.Path) -> None:
    """Writes the table of a report between `<!-- SUITE -->` and `<!-- /SUITE -->` in a document.

    Args:
        document: the document, in Markdown.
        report: a report.
        source: its JSON, to which the document will link.

    Raises:
        InputError: when the document cannot be read or does not contain these two lines.
    """
    suite = report["suite"]
    link = os.path.relpath(source.resolve(), document.resolve().parent)
    try:
        text = document.read_text()
    except OSError as error:
        raise InputError(f"{document} cannot be read ({error}): give --readme=README.md") from error
    marks = re.compile(rf"(<!-- {re.escape(suite)} -->\n).*?(<!-- /{re.escape(suite)} -->)", re.DOTALL)
    if not marks.search(text):
        raise InputError(
            f"{document} has no place for the table of {suite}: "
            f"add the lines <!-- {suite} --> and <!-- /{suite} -->"
        )
    table = readme_table(report, link)
    files.replace_file(document, marks.sub(lambda match: match[1] + table + match[2], text))


def draw(report: Json, folder: pathlib.Path) -> list[list[Picture]]:
    """Draws the figures of all groups."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        list(_draw_group(group, folder, f"{number}_")) for number, group in enumerate(report["groups"], 1)
    ]


def _draw_group(group: Json, folder: pathlib.Path, prefix: str) -> Iterator[Picture]:
    """Draws the figures of a group."""
    names = [method["label"] for method in group["methods"]]

    def picture(name: str, draw: Callable[..., Any], *values: Any, caption: str, **settings: Any) -> Picture:
        path = folder / f"{prefix}{name}.png"
        figure = draw(*values, path=path, **settings)
        return Picture(path, caption, figure.get_size_inches()[0])

    aggregated = {
        method["label"]: method["aggregates"] for method in group["methods"] if method["aggregates"]
    }
    if aggregated:
        caption = "Aggregate scores over all tasks of the group; bars are 95 % intervals."
        yield picture("aggregates", benchmark_plots.aggregates, aggregated, names, caption=caption)
    if profiles := group.get("profiles"):
        caption = (
            "Performance profiles: the share of runs (one seed on one task) that score above a threshold. "
            "Higher is better; shaded areas are pointwise 95 % intervals."
        )
        values = profiles["thresholds"], profiles["methods"], names
        yield picture("profiles", benchmark_plots.performance_profiles, *values, caption=caption)
    if len(group["improvement"]) > 1:
        caption = (
            "Probability that a run of the row's method (X) scores more than one of the column's (Y), "
            "averaged over tasks. Bold: the 95 % interval does not contain 0.5."
        )
        yield picture("improvement", benchmark_plots.improvement, group["improvement"], caption=caption)
    if not group["curves"]:
        return
    caption = (
        "Scores over updates, and over training time without compilation and evaluation. "
        "Shaded areas are 95 % intervals."
    )
    unit = {"y_label": " and ".join(group["metrics"]).replace("_", " "), "shares": group["scaled"]}
    yield picture("curves", benchmark_plots.curves, group["curves"], names, caption=caption, **unit)


def _render(
    template: str, report: Json, pictures: Sequence[Sequence[Picture]] | None = None, link: str = ""
) -> str:
    """Fills a template."""
    jinja2 = require("jinja2", "plots")
    markdown = template.endswith(".md")
    markupsafe = require("markupsafe", "plots")
    markup = markupsafe.Markup

    def plain(value: Any) -> Any:
        """In Markdown, escapes text from the report, so that it cannot become a tag, link, code or column."""
        foreign = markdown and isinstance(value, str) and not isinstance(value, markup)
        return markup(_WORDS.sub(lambda match: _ESCAPES.get(match[0], " "), value)) if foreign else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=plain,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "score": _score,
        "ends": _ends,
        "shares": _shares,
        "duration": _duration,
        "setting": _setting,
        "sentence": _sentence,
        "link": lambda url: markupsafe.escape(url) if _LINK.fullmatch(url) else "#",
        "command": lambda text: markup(_FENCE.sub(" ", text)),
    }
    groups = report["groups"]
    figures = pictures or [()] * len(groups)
    jobs = report[JOBS]
    unfinished = [job for job in jobs if job["status"] != "done"]
    view = {
        "jobs": jobs,
        "groups": [_marked(group) | {"figures": shown} for group, shown in zip(groups, figures, strict=True)],
        "unfinished": unfinished,
        "status": f"{len(jobs) - len(unfinished)} of {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} done.",
        "machines": _machines(jobs),
        "statistics": STATISTICS,
        "link": link,
    }
    return environment.get_template(template).render(report | view)


def _marked(group: Json) -> Json:
    """A group with its title and unit, and with the best values, which its tables mark."""
    methods = group["methods"]
    complete = [method for method in methods if method["aggregates"]]
    improvement = group["improvement"]
    pairs = [
        (first, second, interval) for first, row in improvement.items() for second, interval in row.items()
    ]
    added = {method["label"] for method in methods if method["added"]}
    return group | {
        "title": _title(group),
        "named": _merged(group["datasets"]),
        "unit": f"{_unit(group).capitalize()}.",
        "complete": complete,
        "incomplete": [method["label"] for method in methods if method["label"] not in improvement],
        "best": _best_cells(methods),
        "by_task": {
            dataset: table | {"best": _best_cells(table["methods"])}
            for dataset, table in group["by_task"].items()
        },
        "best_aggregates": {name: _best([m["aggregates"][name] for m in complete]) for name in STATISTICS},
        "pairs": pairs,
        "added_first": [pair for pair in pairs if pair[0] in added and pair[1] not in added],
    }


def _title(group: Json) -> str:
    """The heading of a group."""
    datasets = [name.partition("/")[2] or name for name in group["datasets"]]
    tasks = f", {len(group['columns'])} tasks" if len(datasets) == 1 and len(group["columns"]) > 1 else ""
    return f"{len(datasets)} datasets" if len(datasets) > 3 else ", ".join(datasets) + tasks


def _merged(datasets: Sequence[str]) -> list[str]:
    """Names of datasets, with one name for all single tasks of a domain."""
    return list(dict.fromkeys(SINGLE_TASK.sub("-singletask-task*", name) for name in datasets))


def _unit(group: Json) -> str:
    """The metrics of a group in words."""
    return " and ".join(_UNITS.get(metric, metric) for metric in group["metrics"]) or "score"


def _best_cells(methods: Sequence[Json]) -> list[float | None]:
    """The highest value of each column."""
    return [_best(cells) for cells in zip(*(method["cells"] for method in methods), strict=True)]


def _best(intervals: Sequence[Mapping[str, float] | None]) -> float | None:
    """The highest value; None when all values are the same."""
    values = {interval["value"] for interval in intervals if interval}
    return max(values) if len(values) > 1 else None


def _machines(jobs: Sequence[Json]) -> list[Json]:
    """The devices and versions with which jobs ran, each with the number of its jobs."""
    machines: list[Json] = []
    for job in jobs:
        if "device" in job:
            machine = {"device": job["device"], "versions": job["versions"]}
            known = next((each for each in machines if machine.items() <= each.items()), None)
            if known:
                known["jobs"] += 1
            else:
                machines.append(machine | {"jobs": 1})
    return machines


def _data_url(path: pathlib.Path) -> str:
    """A PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


# How values are written.


def _score(value: float, scaled: bool) -> str:
    """A score: shares in %, other scores unchanged."""
    return f"{100 * value:.1f}" if scaled else f"{value:.4g}"


def _ends(interval: Mapping[str, Any], scaled: bool) -> str:
    """The ends of an interval; "one run" if they are unknown."""
    low, high = interval["ci_low"], interval["ci_high"]
    return "one run" if low is None else f"{_score(low, scaled)} to {_score(high, scaled)}"


def _shares(interval: Mapping[str, Any]) -> str:
    """The ends of an interval of probabilities; "one run" if they are unknown."""
    low, high = interval["ci_low"], interval["ci_high"]
    return "one run" if low is None else f"{low:.2f} to {high:.2f}"


def _duration(seconds: float) -> str:
    """A time such as 2 h 05 min, 12 min or 34 s."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 120 else f"{seconds:.0f} s"


def _setting(value: Any) -> str:
    """The value of a setting."""
    return ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _sentence(text: str) -> str:
    """A text with a full stop, and a capital letter unless it begins with a name."""
    begun = text[:1].upper() + text[1:] if re.match(r"[a-z]+ ", text) else text
    return f"{begun.rstrip('.')}."
