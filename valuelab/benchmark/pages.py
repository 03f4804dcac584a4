"""The pages of a report, from its numbers: HTML with everything inside, Markdown, figures, README's table."""

import base64
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from valuelab import files
from valuelab.benchmark.numbers import SINGLE_TASK
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
"""How Markdown writes what it would take for its own."""
_LINK = re.compile(r"https?://[\w.~/?#=&%+,@-]+|[\w.~/-][\w.~/?#=%+,@-]*")
"""A web address or a path: no other scheme, no entity that would spell one, nothing that ends it early."""
_FENCE = re.compile(r"\s*[\r\n]\s*|`{3,}|~{3,}")
"""What would end a block of code."""


class Picture(NamedTuple):
    """A figure of a page.

    Attributes:
        path: of the file.
        caption: what stands below it.
        width: in inches.
        source: what an image's src says.
    """

    path: pathlib.Path
    caption: str
    width: float
    source: str = ""


def write(report: Json, folder: pathlib.Path) -> None:
    """Writes report.html, report.md and figures/*.png.

    Args:
        report: as `numbers.make` gives it.
        folder: where to.

    Raises:
        InputError: when a package is missing.
    """
    pictures = draw(report, folder / "figures")
    linked = [[each._replace(source=f"figures/{each.path.name}") for each in group] for group in pictures]
    inside = [[each._replace(source=_data_url(each.path)) for each in group] for group in pictures]
    files.replace_file(folder / "report.md", _render("report.md", report, linked))
    files.replace_file(folder / "report.html", _render("report.html", report, inside))


def readme_table(report: Json, link: str) -> str:
    """The results as a README shows them, in Markdown.

    Args:
        report: a report.
        link: path of its JSON, as seen from the README.
    """
    return _render("readme.md", report, link=link)


def renew_table(document: pathlib.Path, report: Json, source: pathlib.Path) -> None:
    """Puts the table of a report between its marks in a document, `<!-- SUITE -->` and `<!-- /SUITE -->`.

    Args:
        document: in Markdown.
        report: a report.
        source: its JSON, which the document will link to.

    Raises:
        InputError: when the document cannot be read or has no such marks.
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
            f"{document} has no place for {suite}: "
            f"write the lines <!-- {suite} --> and <!-- /{suite} --> into it"
        )
    table = readme_table(report, link)
    files.replace_file(document, marks.sub(lambda found: found[1] + table + found[2], text))


def draw(report: Json, folder: pathlib.Path) -> list[list[Picture]]:
    """Draws the figures of all groups."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        list(_draw_group(group, folder, f"{number}_")) for number, group in enumerate(report["groups"], 1)
    ]


def _draw_group(group: Json, folder: pathlib.Path, prefix: str) -> Iterator[Picture]:
    names = [method["label"] for method in group["methods"]]

    def drawn(name: str, draw: Callable[..., Any], *values: Any, caption: str, **settings: Any) -> Picture:
        path = folder / f"{prefix}{name}.png"
        figure = draw(*values, path=path, **settings)
        return Picture(path, caption, figure.get_size_inches()[0])

    aggregated = {
        method["label"]: method["aggregates"] for method in group["methods"] if method["aggregates"]
    }
    if aggregated:
        caption = "Aggregate scores over all tasks of the group; bars are 95 % intervals."
        yield drawn("aggregates", benchmark_plots.aggregates, aggregated, names, caption=caption)
    if profiles := group.get("profiles"):
        caption = (
            "Performance profiles: the share of runs, seeds on tasks, that score above a threshold. "
            "Higher is better; shades are pointwise 95 % intervals."
        )
        values = profiles["thresholds"], profiles["methods"], names
        yield drawn("profiles", benchmark_plots.performance_profiles, *values, caption=caption)
    if len(group["improvement"]) > 1:
        caption = (
            "Probability that a run of the method of the row (X) scores more than one of the column (Y), "
            "mean over tasks. Bold where the 95 % interval leaves out one half."
        )
        yield drawn("improvement", benchmark_plots.improvement, group["improvement"], caption=caption)
    if not group["curves"]:
        return
    caption = (
        "Scores over updates, and over the time of training without compilation and evaluation. "
        "Shades are 95 % intervals."
    )
    unit = {"y_label": " and ".join(group["metrics"]).replace("_", " "), "shares": group["scaled"]}
    yield drawn("curves", benchmark_plots.curves, group["curves"], names, caption=caption, **unit)


def _render(
    template: str, report: Json, pictures: Sequence[Sequence[Picture]] | None = None, link: str = ""
) -> str:
    jinja2 = require("jinja2", "plots")
    markdown = template.endswith(".md")
    markupsafe = require("markupsafe", "plots")
    markup = markupsafe.Markup

    def plain(value: Any) -> Any:
        """In Markdown, text that is not the template's own as words alone: no tag, link, code or column."""
        foreign = markdown and isinstance(value, str) and not isinstance(value, markup)
        return markup(_WORDS.sub(lambda found: _ESCAPES.get(found[0], " "), value)) if foreign else value

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
    members = report["members"]
    unfinished = [member for member in members if member["status"] != "done"]
    view = {
        "groups": [_seen(group) | {"figures": shown} for group, shown in zip(groups, figures, strict=True)],
        "unfinished": unfinished,
        "status": f"{len(members) - len(unfinished)} of {len(members)} "
        f"{'member' if len(members) == 1 else 'members'} done.",
        "machines": _machines(members),
        "statistics": STATISTICS,
        "link": link,
    }
    return environment.get_template(template).render(report | view)


def _seen(group: Json) -> Json:
    """A group with what its tables mark."""
    methods = group["methods"]
    complete = [method for method in methods if method["aggregates"]]
    improvement = group["improvement"]
    pairs = [
        (first, second, interval) for first, row in improvement.items() for second, interval in row.items()
    ]
    added = {method["label"] for method in methods if method["added"]}
    return group | {
        "title": _title(group),
        "named": _named(group["datasets"]),
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
    datasets = [name.partition("/")[2] or name for name in group["datasets"]]
    tasks = f", {len(group['columns'])} tasks" if len(datasets) == 1 and len(group["columns"]) > 1 else ""
    return f"{len(datasets)} datasets" if len(datasets) > 3 else ", ".join(datasets) + tasks


def _named(datasets: Sequence[str]) -> list[str]:
    """Datasets, the single tasks of a domain as one."""
    return list(dict.fromkeys(SINGLE_TASK.sub("-singletask-task*", name) for name in datasets))


def _unit(group: Json) -> str:
    return " and ".join(_UNITS.get(metric, metric) for metric in group["metrics"]) or "score"


def _best_cells(methods: Sequence[Json]) -> list[float | None]:
    """The greatest value of each column."""
    return [_best(cells) for cells in zip(*(method["cells"] for method in methods), strict=True)]


def _best(intervals: Sequence[Mapping[str, float] | None]) -> float | None:
    """The greatest value; None where nothing differs."""
    values = {interval["value"] for interval in intervals if interval}
    return max(values) if len(values) > 1 else None


def _machines(members: Sequence[Json]) -> list[Json]:
    """Where and with what members ran, each pair once."""
    found: list[Json] = []
    for member in members:
        if "device" in member:
            machine = {"device": member["device"], "versions": member["versions"]}
            known = next((each for each in found if machine.items() <= each.items()), None)
            if known:
                known["members"] += 1
            else:
                found.append(machine | {"members": 1})
    return found


def _data_url(path: pathlib.Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


# How values read.


def _score(value: float, scaled: bool) -> str:
    """Shares in %, other scores as they are."""
    return f"{100 * value:.1f}" if scaled else f"{value:.4g}"


def _ends(interval: Mapping[str, Any], scaled: bool) -> str:
    """Of an interval; those of a single run are not known."""
    low, high = interval["ci_low"], interval["ci_high"]
    return "one run" if low is None else f"{_score(low, scaled)} to {_score(high, scaled)}"


def _shares(interval: Mapping[str, Any]) -> str:
    low, high = interval["ci_low"], interval["ci_high"]
    return "one run" if low is None else f"{low:.2f} to {high:.2f}"


def _duration(seconds: float) -> str:
    """Such as 2 h 05 min, 12 min or 34 s."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 120 else f"{seconds:.0f} s"


def _setting(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _sentence(text: str) -> str:
    """With a capital, unless a name begins it, and a full stop."""
    begun = text[:1].upper() + text[1:] if re.match(r"[a-z]+ ", text) else text
    return f"{begun.rstrip('.')}."
