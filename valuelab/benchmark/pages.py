"""The pages of a report: self-contained HTML, Markdown, LaTeX, CSV, figures, and a table for a document."""

import base64
import csv
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from valuelab import files
from valuelab.benchmark.numbers import SINGLE_TASK
from valuelab.benchmark.suites import JOBS
from valuelab.errors import InputError, require
from valuelab.evaluation import benchmark_plots, figures, metrics

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
_TEX_WORDS = re.compile(r"[\\{}$&#%_^~<>|\"]|[^\x00-\x7e]|[\x00-\x1f\x7f]+|(?<![\w.])-(?=\d)")
_GREEK = {
    **{"α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\epsilon", "ζ": r"\zeta"},
    **{"η": r"\eta", "θ": r"\theta", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "ν": r"\nu", "ξ": r"\xi"},
    **{"π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "φ": r"\phi", "χ": r"\chi", "ψ": r"\psi"},
    **{"ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi"},
}
_TEX_ESCAPES = {
    **{character: f"\\{character}" for character in "{}$&#%_"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"$\vert$"},
    **{"<": "$<$", ">": "$>$", '"': "''", "-": "$-$", "–": "--", "−": "$-$", "·": r"$\cdot$", "±": r"$\pm$"},
    **{letter: f"${name}$" for letter, name in _GREEK.items()},
}
"""LaTeX for characters that would otherwise be commands, or that its fonts lack."""
_TEX_LETTERS = "äöüÄÖÜßáàâåãçéèêëíìîïñóòôõøúùûÁÀÂÅÃÇÉÈÊËÍÌÎÏÑÓÒÔÕØÚÙÛ"
"""Letters that every LaTeX prints from UTF-8."""
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


def write(report: Json, folder: pathlib.Path, formats: Sequence[str] = ()) -> None:
    """Writes report.html, report.md, report.tex, report.csv and figures/*.png.

    Args:
        report: a report, as of `numbers.make`.
        folder: where to write them.
        formats: further formats of the figures.

    Raises:
        InputError: when a package is not installed.
    """
    with figures.also_saved_as(formats):
        pictures = draw(report, folder / "figures")
    printed = ".pdf" if "pdf" in formats else ".png"
    for name, source in (
        ("report.md", lambda path: f"figures/{path.name}"),
        ("report.html", _data_url),
        ("report.tex", lambda path: f"figures/{path.with_suffix(printed).name}"),
    ):
        shown = [[each._replace(source=source(each.path)) for each in group] for group in pictures]
        files.replace_file(folder / name, _render(name, report, shown))
    files.replace_file(folder / "report.csv", to_csv(report))


def to_csv(report: Json) -> str:
    """The values of all tables in CSV, one in each line; shares are numbers from 0 to 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("value", "ci_low", "ci_high")
    writer.writerow(["group", "dataset", "task", "method", "seeds", "metric", "statistic", *ends])
    for group in report["groups"]:
        seeds = {method["label"]: "-".join(map(str, method["seeds"])) for method in group["methods"]}
        rows: list[tuple[str, str, str, str, Json | None]] = []
        for method in group["methods"]:
            cells = zip(group["columns"], method["cells"], strict=True)
            rows += [(column, "", method["label"], "mean", interval) for column, interval in cells]
            rows += [("", "", method["label"], *each) for each in (method["aggregates"] or {}).items()]
        for dataset, table in group["by_task"].items():
            for method in table["methods"]:
                cells = zip(table["columns"], method["cells"], strict=True)
                rows += [(dataset, task, method["label"], "mean", interval) for task, interval in cells]
        metric = " and ".join(group["metrics"])
        for column, task, label, statistic, interval in rows:
            if interval:
                values = ["" if interval[end] is None else interval[end] for end in ends]
                known = [_title(group), column, task, label, seeds.get(label, ""), metric, statistic]
                writer.writerow([*(_no_formula(text) for text in known), *values])
    return text.getvalue()


def _no_formula(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def readme_table(report: Json, link: str) -> str:
    """The results in Markdown, for a document.

    Args:
        report: a report.
        link: path of its JSON, relative to the document.
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
        raise InputError(f"{document} cannot be read ({error}): give --readme=FILE.md") from error
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
            "averaged over tasks, with its 95 % interval. A tie counts one half. "
            "Bold: the interval does not contain 0.5."
        )
        yield picture("improvement", benchmark_plots.improvement, group["improvement"], caption=caption)
    if not group["curves"]:
        return
    caption = (
        "Scores over updates, and over training time without compilation and evaluation. "
        "Shaded areas are 95 % intervals. Dotted lines are methods that another panel shows in colour."
    )
    words = [metrics.in_words(metrics.EVALUATED + metric) for metric in group["metrics"]]
    unit = {"y_label": " and ".join(words), "shares": group["scaled"]}
    yield picture("curves", benchmark_plots.curves, group["curves"], names, caption=caption, **unit)


def _render(
    template: str, report: Json, pictures: Sequence[Sequence[Picture]] | None = None, link: str = ""
) -> str:
    """Fills a template."""
    jinja2 = require("jinja2", "plots")
    markupsafe = require("markupsafe", "plots")
    markup = markupsafe.Markup
    tex = template.endswith(".tex")
    escape = _escape_tex if tex else _escape_markdown if template.endswith(".md") else None

    def plain(value: Any) -> Any:
        """In Markdown and LaTeX, escapes text from the report, so that it cannot become markup."""
        foreign = escape and isinstance(value, str) and not isinstance(value, markup)
        return markup(escape(value)) if escape and foreign else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=plain,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        **({"variable_start_string": "<<", "variable_end_string": ">>"} if tex else {}),  # braces are LaTeX's
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
    shown = pictures or [()] * len(groups)
    jobs = report[JOBS]
    unfinished = [job for job in jobs if job["status"] != "done"]
    of_runs = "notes" in report  # of any runs, not of one suite
    word, used = ("run", "used") if of_runs else ("job", "done")
    view = {
        "jobs": jobs,
        "word": word,
        "source_word": "Runs" if of_runs else "Suite",
        "unfinished_title": "Runs that are not used" if of_runs else "Jobs without a result",
        "unfinished_verb": "are not used" if of_runs else "have no result",
        "notes": report.get("notes", []),
        "groups": [_marked(group) | {"figures": drawn} for group, drawn in zip(groups, shown, strict=True)],
        "unfinished": unfinished,
        "warned": [job for job in jobs if job.get("warnings")],  # reports of earlier versions have none
        "status": f"{len(jobs) - len(unfinished)} of {len(jobs)} {word}{'s' * (len(jobs) != 1)} {used}.",
        "machines": _machines(jobs),
        "statistics": STATISTICS,
        "link": link,
    }
    return environment.get_template(template).render(report | view)


def _escape_markdown(text: str) -> str:
    """A text in Markdown that cannot become a tag, link, code or column."""
    return _WORDS.sub(lambda match: _ESCAPES.get(match[0], " "), text)


def _escape_tex(text: str) -> str:
    """A text in LaTeX that cannot become a command; characters that its fonts lack are written as U+...."""

    def replace(match: re.Match[str]) -> str:
        character = match[0]
        if character in _TEX_ESCAPES:
            return _TEX_ESCAPES[character]
        if not character.isprintable():
            return " "
        return character if character in _TEX_LETTERS else f"U+{ord(character):04X}"

    return _TEX_WORDS.sub(replace, text)


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
            dataset: table | {"best": _best_of_table(table)} for dataset, table in group["by_task"].items()
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


def _best_of_table(table: Json) -> list[float | None]:
    """The highest value of each column of a table without its references."""
    methods = [row for row in table["methods"] if not row.get("reference")]
    return _best_cells(methods) or [None] * len(table["columns"])


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
