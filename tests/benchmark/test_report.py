"""python -m experiments.report: numbers, pages, the table of the results page, and the page in a browser."""

import csv
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from absl import flags as absl_flags
from helpers import ROOT
from suite_folder import GOALS, SINGLE, finish, job, make_suite, own_run, started, write_suite

from valuelab.benchmark import display_names, numbers, pages, published, report, run_folders
from valuelab.errors import InputError
from valuelab.runs import results
from valuelab.training import logs

MARKED = re.compile(r"^<!-- (\w+) -->\n(.*?)^<!-- /\1 -->$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The workdir of a suite and its report; no test changes them."""
    folder = tmp_path_factory.mktemp("suite")
    make_suite(folder)
    return folder, numbers.make(folder)


def command(*arguments: object):
    """Runs a command line."""
    return report.run(report.parse(["report", *map(str, arguments)], absl_flags.FlagValues()))


@pytest.fixture(scope="module")
def folder_of_pages(suite, tmp_path_factory):
    """The folder of the pages of that suite."""
    folder = tmp_path_factory.mktemp("pages")
    command(suite[0], f"--workdir={folder}")
    return folder


def entries(found, field="label"):
    return [entry[field] for entry in found]


def test_methods_are_compared_on_the_same_tasks_alone(suite):
    _, found = suite
    single, goals = found["groups"]
    assert entries(single["methods"]) == ["bc", "iql", "fql", "mine"]
    assert entries(goals["methods"]) == ["td_jepa", "hilp"]
    assert single["columns"] == ["pointmaze-medium-navigate", "cube-single-play"]  # of singletask-v0, both
    assert goals["columns"] == [f"task{number}" for number in range(1, 6)]
    assert list(single["improvement"]) == ["iql", "fql", "mine"]  # bc failed on a dataset


def test_who_has_more_datasets_is_compared_on_those_that_are_shared(tmp_path):
    entries = [job("both", "iql", dataset) for dataset in SINGLE] + [job("one", "fql", SINGLE[0])]
    write_suite(tmp_path, entries)
    for entry in entries:
        finish(tmp_path, entry, 0.5)
    both, one = numbers.make(tmp_path)["groups"]
    assert [found["label"] for found in both["methods"]] == ["both"]
    assert one["datasets"] == [SINGLE[0]]
    assert [found["label"] for found in one["methods"]] == ["both", "one"]
    assert one["methods"][0]["cells"] == both["methods"][0]["cells"][:1]


def test_what_is_not_done_is_said_and_not_aggregated(suite):
    found = suite[1]
    bc = found["groups"][0]["methods"][0]
    assert bc["cells"][0]["value"] > 0
    assert bc["cells"][1] is bc["aggregates"] is None
    (failed,) = (each for each in found["members"] if each["status"] != "done")
    assert (failed["name"], failed["status"]) == ("bc/cube-single-play-singletask-v0", "failed")
    assert failed["log"][-1] == "error: no dataset <here>"
    page = pages.readme_table(found, "benchmarks/made_up.json")
    assert "| bc | " in page
    assert page.count(" – |") == 3  # on the other dataset, and in both aggregates
    assert "not aggregated: bc." in page


def test_datasets_that_share_a_column_show_their_tasks_apart(tmp_path):
    datasets = (GOALS, "ogbench/cube-single-play-v0")
    entries = [job("td_jepa", "td_jepa", dataset, program="zero_shot") for dataset in datasets]
    write_suite(tmp_path, entries)
    for entry, mean in zip(entries, (0.8, 0.2), strict=True):
        finish(tmp_path, entry, mean)
    found = numbers.make(tmp_path)
    (group,) = found["groups"]
    assert list(group["by_task"]) == [*datasets, f"{GOALS}, pairs of a start and a goal"]
    pairs = group["by_task"].pop(f"{GOALS}, pairs of a start and a goal")
    assert pairs["columns"] == ["detour < 1.15 (4 pairs)", "detour >= 1.5 (4 pairs)"]
    shown = {row["label"]: [cell["value"] for cell in row["cells"]] for row in pairs["methods"]}
    assert shown == {"td_jepa": [0.8, 0.4], "straight": [0.6, 0.3], "free way": [1.0, 0.5]}
    straight = group["by_task"][GOALS]["methods"].pop()
    assert [cell["value"] for cell in straight["cells"]] == [1, 1, 0, 0, 0]
    for dataset, cell in zip(datasets, group["methods"][0]["cells"], strict=True):
        table = group["by_task"][dataset]
        assert table["columns"] == [f"task{number}" for number in range(1, 6)]
        tasks = [each["value"] for each in table["methods"][0]["cells"]]
        assert np.mean(tasks) == pytest.approx(cell["value"], abs=1e-4)
    page = pages.readme_table(found, "made_up.json")
    assert all(f"| {dataset} | task1 | task2 | task3 | task4 | task5 |" in page for dataset in datasets)


def test_datasets_of_one_task_each_share_their_domains_column(tmp_path):
    names = [f"ogbench/cube-single-play-singletask-task{number}-v0" for number in range(1, 6)]
    entries = [job("iql", "iql", dataset) for dataset in (SINGLE[0], *names)]
    write_suite(tmp_path, entries)
    for entry in entries[:-1]:
        finish(tmp_path, entry, 0.5)
    (group,) = numbers.make(tmp_path)["groups"]
    assert group["columns"] == ["pointmaze-medium-navigate-singletask", "cube-single-play"]
    assert group["methods"][0]["cells"][1] is None  # one of its tasks is not done
    table = group["by_task"]["ogbench/cube-single-play-v0"]
    assert [cell is None for cell in table["methods"][0]["cells"]] == 4 * [False] + [True]
    pages.readme_table(numbers.make(tmp_path), "made_up.json")
    finish(tmp_path, entries[-1], 0.5)
    (group,) = numbers.make(tmp_path)["groups"]
    tasks = [cell["value"] for cell in group["by_task"]["ogbench/cube-single-play-v0"]["methods"][0]["cells"]]
    assert group["methods"][0]["cells"][1]["value"] == pytest.approx(np.mean(tasks), abs=1e-4)


def test_scores_are_those_of_the_last_evaluation(suite):
    folder, found = suite
    for group in found["groups"]:
        for method in group["methods"]:
            for dataset in group["datasets"]:
                workdir = folder / "members" / f"{method['label']}--{dataset.rpartition('/')[2]}"
                if not (workdir / "episodes.npz").exists():
                    continue
                with np.load(workdir / "episodes.npz") as table:
                    last = table["score"][table["step"] == 4000]
                curve = group["curves"][dataset][method["label"]]
                assert curve["mean"][-1] == pytest.approx(last.mean(), abs=1e-4)
                # Four seeds make 200 updates per second in total: 1,000 updates of each take 20 s.
                assert curve["updates"] == [1000, 2000, 3000, 4000]
                assert curve["seconds"] == [20.0, 40.0, 60.0, 80.0]
    iql = found["groups"][0]["methods"][1]
    mean = np.mean([cell["value"] for cell in iql["cells"]])
    assert iql["aggregates"]["mean"]["value"] == pytest.approx(mean, abs=1e-4)


def test_seconds_of_training_add_up_over_changing_speeds():
    rows = [{"step": 10, "updates_per_second": 5.0}, {"step": 10, "updates_per_second": 5.0}]
    rows += [{"step": 40, "updates_per_second": 30.0}]
    # Two seeds: 20 updates at 5 per second, then 60 at 30.
    assert results.training_seconds(rows, 2) == {10: 4.0, 40: 6.0}


def test_what_a_killed_start_trained_counts_as_time(tmp_path):
    entry = job("iql", "iql", SINGLE[0])
    write_suite(tmp_path, [entry])
    finish(tmp_path, entry, 0.5)
    # 8 s of compilation, 80 of training, 9 of evaluation. The only recorded launch took 12 s.
    (tmp_path / "timings.jsonl").unlink()
    started(tmp_path, entry, "done", 0, 12.0)
    found = numbers.make(tmp_path)
    assert found["members"][0]["seconds"] == found["seconds"] == 97.0


def test_probabilities_of_improvement_sum_to_one(suite):
    for group in suite[1]["groups"]:
        for first, row in group["improvement"].items():
            for second, interval in row.items():
                other = group["improvement"][second][first]
                assert interval["value"] + other["value"] == pytest.approx(1)
                assert interval["ci_low"] + other["ci_high"] == pytest.approx(1)
    assert suite[1]["groups"][0]["improvement"]["mine"]["iql"]["value"] > 0.9


def test_normalized_scores_become_shares_and_returns_stay_apart(tmp_path):
    d4rl = [job("iql", "iql", f"d4rl/hopper-{data}-v2") for data in ("medium", "medium-replay")]
    walks = [job("eta", "eta_network", "gridworld/walk"), job("eta", "eta_network", "gridworld/run")]
    write_suite(tmp_path, d4rl + walks)
    for entry in d4rl:
        finish(tmp_path, entry, 0.5, "normalized_score")
    for entry in walks:
        finish(tmp_path, entry, 0.5, "return")
    shares, returns = numbers.make(tmp_path)["groups"]
    assert shares["metrics"] == ["normalized_score"]
    assert shares["scaled"]
    assert 0.4 < shares["methods"][0]["aggregates"]["mean"]["value"] < 0.6
    assert returns["metrics"] == ["return"]
    assert not returns["scaled"]
    assert returns["methods"][0]["aggregates"] is None
    assert returns["methods"][0]["cells"][0]["value"] > 1  # of seven


def test_a_single_seed_has_no_interval(tmp_path):
    entry = job("iql", "iql", SINGLE[0])
    write_suite(tmp_path, [entry])
    finish(tmp_path, entry, 0.5, seeds=1)
    found = numbers.make(tmp_path)
    aggregates = found["groups"][0]["methods"][0]["aggregates"]
    assert aggregates["mean"]["ci_low"] is None
    assert " (one run) | 1 |" in pages.readme_table(found, "made_up.json")


def test_jobs_that_are_cut_off_are_reported(tmp_path):
    labels = ("whole", "cut", "going", "waiting", "logless", "scoreless")
    jobs = [job(label, "iql", SINGLE[0]) for label in labels]
    write_suite(tmp_path, jobs)
    for entry in (jobs[0], jobs[1], jobs[4], jobs[5]):
        finish(tmp_path, entry, 0.5)
    path = tmp_path / jobs[5]["folder"] / "episodes.npz"
    with np.load(path, allow_pickle=False) as table:
        columns = dict(table)
    columns["score"][-1] = np.nan
    np.savez(path, **columns)
    result = tmp_path / jobs[1]["folder"] / "result.json"
    result.write_text(result.read_text()[:40])
    going = tmp_path / jobs[2]["folder"]
    shutil.copytree(tmp_path / jobs[0]["folder"], going, ignore=shutil.ignore_patterns("result.json"))
    (tmp_path / jobs[4]["folder"] / "metrics.jsonl").unlink()
    found = numbers.make(tmp_path)
    statuses = ["done", "unusable", "unfinished", "not started", "unusable", "unusable"]
    assert entries(found["members"], "status") == statuses
    assert "result.json cannot be read as whole result" in found["members"][1]["note"]
    assert "metrics.jsonl has no row of update 1000" in found["members"][4]["note"]
    assert "some of its episodes have no finite score" in found["members"][5]["note"]
    (group,) = found["groups"]
    assert [method["aggregates"] is not None for method in group["methods"]] == [True] + 5 * [False]


def test_what_cannot_be_reported_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no source is given; write python -m experiments.report WORKDIR"):
        command()
    with pytest.raises(InputError, match=r"is left out, because it contains no runs: give workdirs of exp"):
        command(tmp_path)
    with pytest.raises(
        InputError, match=r"folder .*/none does not exist: give workdirs of experiments.train"
    ):
        command(tmp_path / "none")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"run is left out: .* cannot be read as config of valuelab"):
        command(run)
    with pytest.raises(InputError, match=r"unknown format in formats 'pgn': did you mean 'png'\?"):
        command(run, "--formats=pdf,pgn")
    with pytest.raises(InputError, match=r"names has 'iql' with '': write LABEL=NAME,LABEL=NAME"):
        command(run, "--names=iql=")
    (run / "suite.json").write_text("[")
    with pytest.raises(
        InputError, match=r"suite.json cannot be read as suite .*: give the workdir of a run of exp"
    ):
        command(run)
    with pytest.raises(InputError, match=r"is a finished report: give --readme=FILE.md or --workdir=FOLDER"):
        command(tmp_path / "report.json")
    entry = job("iql", "iql", SINGLE[0])
    write_suite(tmp_path, [entry])
    with pytest.raises(InputError, match=r"none of the 1 jobs in .* is done; run the suite's command"):
        command(tmp_path)
    started(tmp_path, entry, "failed", 2)
    with pytest.raises(InputError, match=r"done, and 1 failed: see .*/members/iql--.*/log.txt; run"):
        command(tmp_path)
    described = json.loads((tmp_path / "suite.json").read_text())
    (tmp_path / "suite.json").write_text(json.dumps(described | {"format": 9}))
    with pytest.raises(
        InputError, match=r"suite.json has format 9, but this version of valuelab reads format 1: use"
    ):
        command(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "suite.json", "timings.jsonl"]


def test_published_scores_are_listed_with_their_differences(suite):
    rows = {row["label"]: row for row in suite[1]["published"]}
    assert rows.keys() == {"iql", "fql"}  # on the cube; the others have no published score
    assert (rows["iql"]["published"], rows["fql"]["published"]) == (0.83, 0.96)
    assert rows["iql"]["differences"] == [
        "steps 4,000 (published: 1,000,000)",
        "agent.hidden_dims 256,256 (published: 512,512,512,512)",
        "a dataset of 300 episodes (published: 1,000)",
        "the published score is a mean over five tasks, ours is of the default task",
    ]


def test_the_same_setting_as_published_is_the_same():
    known = published.PUBLISHED["iql", "d4rl/hopper-medium-v2"]
    settings = {"dataset": "d4rl/hopper-medium-v2", "steps": 1_000_000, "batch_size": 256}
    settings |= {
        "agent.hidden_dims": [256, 256],
        "agent.extraction": "awr",
        "agent.policy_schedule": "cosine",
    }
    assert published.differences(known, settings, None) == []
    cube = published.PUBLISHED["fql", "ogbench/cube-single-play-singletask-v0"]
    small = published.differences(cube, {"dataset": "ogbench/cube-single-play-singletask-v0"}, 300)
    assert small[0] == "a dataset of 300 episodes (published: 1,000)"


def test_the_table_of_a_document_is_updated(suite, tmp_path):
    (tmp_path / "made_up.json").write_text(json.dumps(suite[1]))
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- made_up -->\nold\n<!-- /made_up -->\nafter\n")
    command(tmp_path / "made_up.json", f"--readme={document}")
    text = document.read_text()
    assert text.startswith("before\n<!-- made_up -->\n**pointmaze")
    assert text.endswith(": [made_up.json](made_up.json).\n<!-- /made_up -->\nafter\n")
    assert "| mine | **" in text
    assert "old" not in text
    document.write_text("nothing\n")
    with pytest.raises(
        InputError, match=r"has no place for the table of made_up: add the lines <!-- made_up"
    ):
        command(tmp_path / "made_up.json", f"--readme={document}")


def test_tables_of_the_results_page_are_those_of_the_files():
    found = MARKED.findall((ROOT / "docs/results/index.md").read_text())
    assert found
    for name, table in found:
        path = f"benchmarks/{name}.json"
        assert table == pages.readme_table(numbers.read_report(ROOT / path), f"../../{path}"), (
            f"update it: python -m experiments.report {path} --readme=docs/results/index.md"
        )


COMMITTED = [path.parent.name for path in sorted((ROOT / "benchmarks").glob("*/suite.json"))]


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_folders_of_suites_hold_what_their_report_needs_and_no_more(name):
    folder = ROOT / "benchmarks" / name
    assert json.loads(json.dumps(numbers.make(folder))) == numbers.read_report(folder.with_suffix(".json"))
    for member in folder.glob("members/*"):
        named = {path.name for path in member.iterdir()}
        assert named == {"config.json", "episodes.npz", "metrics.jsonl", "result.json"}, member
        for row in logs.read_rows(member / "metrics.jsonl"):
            assert row.keys() == {"step", "seed", "updates_per_second"}, (
                f"{member}: see docs/results/index.md"
            )


PROBE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("table.results");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].firstChild.textContent);
  const click = (text) => {
    const head = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === text);
    head.querySelector("button").click();
    return [head.getAttribute("aria-sort"), names()];
  };
  const checks = {
    first: names(), best: click("mean"), worst: click("mean"), named: click("method"),
    sorted: document.querySelectorAll("[aria-sort]").length,
    images: [...document.images].map((image) => image.naturalWidth),
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 30)),
    width: document.documentElement.scrollWidth - innerWidth, errors: window.failures,
  };
  const shown = document.createElement("pre");
  shown.id = "checks";
  shown.textContent = JSON.stringify(checks);
  document.body.append(shown);
});
</script>
</body>"""
WATCH = "<head><script>window.failures = []; onerror = (message) => failures.push(message);</script>"


def in_browser(page: pathlib.Path, profile: pathlib.Path) -> str:
    """The page as it stands in a headless Chromium after its scripts."""
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync disable-dev-shm-usage dump-dom window-size=700,900"
    line = [shutil.which("chromium"), *(f"--{flag}" for flag in flags.split()), f"--user-data-dir={profile}"]
    done = subprocess.run([*line, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("chromium") and not os.environ.get("CI_CHROMIUM"),
    reason="no chromium here: apt-get install chromium",
)
def test_the_page_works_in_a_browser(suite, folder_of_pages, tmp_path):
    found = suite[1]
    page = (folder_of_pages / "report.html").read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("<head>", WATCH).replace("</body>", PROBE))
    dom = in_browser(probed, tmp_path / "profile")
    checks = json.loads(html.unescape(re.search(r'<pre id="checks">(.*?)</pre>', dom)[1]))
    methods = {method["label"]: method["aggregates"] for method in found["groups"][0]["methods"]}
    ranked = sorted(
        (name for name in methods if methods[name]), key=lambda name: -methods[name]["mean"]["value"]
    )
    assert checks["first"] == ["bc", "iql", "fql", "mine"]
    assert checks["best"] == ["descending", [*ranked, "bc"]]  # which has no mean, and so stays last
    assert checks["worst"] == ["ascending", [*ranked[::-1], "bc"]]
    assert checks["named"] == ["ascending", ["bc", "fql", "iql", "mine"]]
    assert checks["sorted"] == 1
    assert len(checks["images"]) == 8
    assert min(checks["images"]) > 300
    assert all(name.startswith("data:") for name in checks["loaded"])  # everything is inside
    assert checks["width"] <= 0  # tables fit, or scroll on their own
    assert checks["errors"] == []
    assert "error: no dataset &lt;here&gt;" in page  # logs are text, whatever they hold
    assert GOALS in page


@pytest.mark.slow
def test_the_pages_are_made_again_from_the_json_alone(suite, folder_of_pages, tmp_path):
    assert json.loads((folder_of_pages / "report.json").read_text()) == suite[1]
    command(folder_of_pages / "report.json", f"--workdir={tmp_path}")
    for name in ("report.json", "report.html", "report.md"):
        assert (folder_of_pages / name).read_text() == (tmp_path / name).read_text()
    pictures = [path.name for path in sorted((tmp_path / "figures").iterdir())]
    kinds = ("aggregates", "curves", "improvement", "profiles")
    assert pictures == [f"{group}_{kind}.png" for group in (1, 2) for kind in kinds]
    text = (tmp_path / "report.md").read_text()
    assert all(f"(figures/{name})" in text for name in pictures)
    assert "| mine | iql | " in text  # what was added comes first


def test_what_files_say_is_no_part_of_the_page(suite, tmp_path):
    arxiv = "https://arxiv.org/abs/1?x=1&z=2#y"
    foreign = "<script>x</script> [a](javascript:b) `c` | d\n# e"
    report = json.loads(json.dumps(suite[1]).replace('"bc"', json.dumps(foreign))) | {"suite": foreign}
    report["members"][0] |= {"name": foreign, "command": f"python\n```\n{foreign}"}
    cell = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    row = {"label": foreign, "dataset": "d", "ours": cell, "published": 0.5, "paper": foreign, "table": "t"}
    report["published"] = [
        row | {"url": url, "differences": []}
        for url in (
            "java\tscript:alert(1)",
            "javascript&#58alert%281%29",
            "javascript&colon;alert%281%29",
            arxiv,
            "data:text/html,<b>",
            "a) <b> (",
        )
    ]
    pages.write(report, tmp_path)
    page, text = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "<script>x" not in page
    before, commands, after = text.split("```")
    assert foreign.replace("\n", " ") in commands
    assert "<script" not in before + after
    links = re.findall(r'href="([^"]*)"', page), re.findall(r"[^\\]\]\(([^)]*)\)", before + after)
    for found in links:
        shown = {html.unescape(link) for link in found if not link.startswith(("figures/", "#u"))}
        assert shown == {"#", arxiv}
    assert r"&lt;script&gt;x&lt;/script&gt; \[a\](javascript:b) \`c\` \| d # e" in text


# Reports of any runs.


def shown(found: dict) -> list[list[str]]:
    """The labels of each group."""
    return [entries(group["methods"]) for group in found["groups"]]


def test_seeds_of_runs_with_the_same_settings_are_pooled(tmp_path, capsys):
    one = own_run(tmp_path / "runs/b", 0.6, seeds=3, seed=2)
    two = own_run(tmp_path / "runs/a", 0.4)
    other = own_run(tmp_path / "fql", 0.8, "fql")
    found = command(other, tmp_path / "runs", f"--out={tmp_path / 'out'}")
    assert shown(found) == [["fql", "iql"]]
    method = found["groups"][0]["methods"][1]
    assert method["seeds"] == [5]
    scores = [results.read_evaluations(folder).scores[-1] for folder in (two, one)]  # in the order of seeds
    assert method["cells"][0]["value"] == pytest.approx(np.concatenate(scores).mean(), abs=1e-4)
    assert found["groups"][0]["curves"][SINGLE[0]]["iql"]["seconds"] == [25.0, 50.0, 75.0, 100.0]
    assert found["notes"] == []
    assert "note" not in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("figures", "report.csv", "report.html", "report.json", "report.md", "report.tex")
    ]
    page = (tmp_path / "out/report.html").read_text()
    assert "3 of 3 runs used." in page
    assert 'class="command"' not in page


def test_pairs_of_all_seeds_are_pooled_and_compared_with_as_many_pairs(tmp_path):
    def played(name: str, *given: Any, number: int = 8, **changes: Any) -> pathlib.Path:
        folder = own_run(tmp_path / name, *given, GOALS, **changes)
        content = json.loads((folder / "result.json").read_text())
        content["pairs"]["number"] = number
        (folder / "result.json").write_text(json.dumps(content))
        return folder

    folders = [
        played("a", 0.4, "hilp"),
        played("b", 0.6, "hilp", seeds=3, seed=2),
        played("more", 0.6, "hilp", seed=5, number=200),
        played("other", 0.5, "td_jepa", number=6),
    ]
    found = run_folders.make(folders, "made up")
    (group,) = found["groups"]
    shown = {
        name.removeprefix(f"{GOALS}, "): {row["label"]: row["cells"][0]["value"] for row in table["methods"]}
        for name, table in group["by_task"].items()
        if "pairs" in name
    }
    references = {"straight": 0.6, "free way": 1.0}
    assert shown == {
        "8 pairs of a start and a goal": {"hilp": 0.52} | references,
        "6 pairs of a start and a goal": {"td_jepa": 0.5} | references,
    }
    (left_out,) = (each["note"] for each in found["members"] if each["status"] == "left out")
    assert left_out == f"it has the settings of {tmp_path}/a, but another number of pairs"


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, ["iql"]),
        ({"batch_size": 512}, ["iql batch_size=256", "iql batch_size=512"]),
        ({"agent_source": "iql:large", "batch_size": 512}, ["iql:small", "iql:large"]),
        ({"agent_source": "iql:large"}, ["iql"]),  # the same settings
        ({"agent__hidden_dims": [8, 8]}, ["iql hidden_dims=256x256", "iql hidden_dims=8x8"]),
        ({"agent__a": {"lr": 0.1}, "agent__b": {"lr": 0.1}}, ["iql lr=none", "iql lr=0.1"]),
        (
            {"batch_size": 1, "steps": 9, "agent__extraction": "x", "agent__hidden_dims": [8]},
            ["iql hidden_dims=256x256", "iql hidden_dims=8"],
        ),
    ],
)
def test_methods_are_named_by_what_differs(tmp_path, changes, labels):
    folders = [own_run(tmp_path / "a", 0.4), own_run(tmp_path / "b", 0.6, seed=2, **changes)]
    found = run_folders.make(folders, "made up")
    assert shown(found) == [labels]
    assert len(found["notes"]) == (len(changes) == 4)
    assert all(
        "iql differ not only in agent.hidden_dims, but also in agent.extraction" in note
        for note in found["notes"]
    )


def test_what_cannot_be_compared_is_said(tmp_path, capsys):
    own_run(tmp_path / "a", 0.4)
    own_run(tmp_path / "again", 0.5)
    own_run(tmp_path / "maze", 0.5, dataset=SINGLE[1], batch_size=512)
    own_run(tmp_path / "returns", 0.5, "fql", metric="return")
    shorter = own_run(tmp_path / "shorter", 0.5, "bc")
    with np.load(shorter / "episodes.npz") as table:
        kept = {name: column[table["step"] < 4000] for name, column in table.items()}
    np.savez(shorter / "episodes.npz", **kept)
    unfinished = own_run(tmp_path / "unfinished", 0.5, "hilp")
    (unfinished / "result.json").unlink()
    (tmp_path / "solve").mkdir()
    (tmp_path / "solve/config.json").write_text('{"settings": {"problem": "walk"}}')
    for name, changes in (("listed", {"agent_name": ["iql"]}), ("countless", {"num_seeds": -3})):
        path = own_run(tmp_path / name, 0.5) / "config.json"
        saved = json.loads(path.read_text())
        saved["settings"] |= changes
        path.write_text(json.dumps(saved))
    (tmp_path / "note.txt").write_text("")
    document = tmp_path / "README.md"
    document.write_text("<!-- runs -->\n<!-- /runs -->\n")
    found = command(*sorted(tmp_path.iterdir()), f"--out={tmp_path}/runs", f"--readme={document}")
    said = capsys.readouterr().out
    for note in (
        f"again is left out: it has the settings of {tmp_path}/a, and the same seeds 0, 1\n",
        "the settings of iql differ between datasets: batch_size\n",
        f"not compared on {SINGLE[0]}: iql, bc with success on default; fql with return on default\n",
        f"the numbers of updates differ on {SINGLE[0]}: 4,000 of iql; 3,000 of bc\n",
        "unfinished is unfinished: 4,000 of 4,000 updates are done\n",
        "solve/config.json is not of a run of experiments.train or experiments.zero_shot\n",
        "listed/config.json is damaged: agent_name is ['iql']\n",
        "countless/config.json is damaged: num_seeds is -3\n",
        "note.txt is left out, because it is not a folder\n",
    ):
        assert note in said, note
    assert "4 of 6 runs used." in document.read_text()
    assert "[report.json](runs/report.json)" in document.read_text()
    assert found["groups"][0]["methods"][0]["label"] == "iql"
    with pytest.raises(
        InputError, match=r"none of the 1 runs has a result: .* is unfinished \(4,000 of 4,000"
    ):
        command(unfinished)


def test_settings_of_a_sweep_are_methods(tmp_path):
    folder = own_run(tmp_path / "sweep", 0.5, "fql", seeds=4, sweep=["agent.lr=0.7,0.9"], num_seeds=2)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["agent"]["critic"]["lr"] = 0.1  # for which agent.lr is short
    (folder / "config.json").write_text(json.dumps(config))
    config["settings"]["agent"]["critic"]["lr"] = 0.9
    config["settings"] |= {"seed": 2, "sweep": []}
    same = own_run(tmp_path / "same", 0.5, "fql")
    (same / "config.json").write_text(json.dumps(config))
    result = json.loads((folder / "result.json").read_text())
    part = {"eval": result.pop("eval")}
    result["settings"] = [part | {"agent.lr": value} for value in (0.7, 0.9)]
    warning = {"metric": "loss", "members": [{"agent.lr": 0.9, "seed": 1}], "text": "the loss is high"}
    result["warnings"] = [warning]
    (folder / "result.json").write_text(json.dumps(result))
    found = run_folders.make([folder, same], "made up")
    assert shown(found) == [["fql lr=0.7", "fql lr=0.9"]]
    assert [method["seeds"] for method in found["groups"][0]["methods"]] == [[2], [4]]
    found = run_folders.make([folder], "made up")
    assert [job["warnings"] for job in found["members"]] == [[], ["the loss is high"]]
    pages.write(found, tmp_path / "pages")
    shown_in = [(tmp_path / "pages" / name).read_text() for name in ("report.html", "report.md")]
    assert all(text.count("The loss is high.") == 1 for text in shown_in)
    assert "1 of 2 runs ended with a" in shown_in[0]
    scores = results.read_evaluations(folder).scores[-1]
    for method, seeds in zip(found["groups"][0]["methods"], (slice(0, 2), slice(2, 4)), strict=True):
        assert method["cells"][0]["value"] == pytest.approx(scores[seeds].mean(), abs=1e-4)
    assert found["seconds"] == pytest.approx(97)  # of the whole run, once


def test_runs_and_a_suite_are_compared(suite, tmp_path):
    own = own_run(tmp_path / "own", 0.9, "iql", batch_size=512)
    found = run_folders.make([suite[0], own], "made up")
    assert shown(found)[0] == ["bc", "iql batch_size=256", "fql", "mine"]
    assert found["groups"][1] == suite[1]["groups"][1]  # the other methods are those of the suite
    assert shown(found)[2] == ["bc", "iql batch_size=256", "fql", "mine", "iql batch_size=512"]


NAMES = {"mine": "Ours & η", "fql": "FQL"}


@pytest.fixture(scope="module")
def renamed(suite):
    """The report of the suite with other names and another order."""
    return display_names.apply(suite[1], display_names.read("mine=Ours & η,fql=FQL"))


def test_methods_get_names_and_an_order(suite, renamed, tmp_path):
    first = renamed["groups"][0]
    expected = ["Ours & η", "FQL", "bc", "iql"]
    assert entries(first["methods"]) == list(first["curves"][SINGLE[0]]) == expected
    assert list(first["improvement"]) == list(first["profiles"]["methods"]) == ["Ours & η", "FQL", "iql"]
    assert list(first["improvement"]["FQL"]) == ["Ours & η", "iql"]
    cells = {method["label"]: method["cells"] for method in suite[1]["groups"][0]["methods"]}
    assert first["methods"][0]["cells"] == cells["mine"]
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    assert display_names.read(str(tmp_path / "names.json")) == NAMES
    assert display_names.read("iql lr=0.1=IQL") == {"iql lr=0.1": "IQL"}
    with pytest.raises(InputError, match=r"unknown label in names 'fq': did you mean 'fql'\?"):
        display_names.apply(suite[1], {"fq": "FQL"})
    with pytest.raises(InputError, match=r"names gives 'fql' and 'iql' the same name 'iql': give two names"):
        display_names.apply(suite[1], {"fql": "iql"})
    with pytest.raises(InputError, match=r"which names a label twice"):
        display_names.read("a=b,a=c")


def check_tex(text: str) -> list[list[str]]:
    """Checks the structure of a LaTeX document; returns the cells of each row of its tables."""
    unescaped = re.sub(r"\\[\\{}$&#%_,]", "", text)
    without_comments = re.sub(r"%.*", "", unescaped)
    depth = 0
    for character in without_comments:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert without_comments.count("$") % 2 == 0
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end){(\w+)}", without_comments):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    rows = []
    for columns, body in re.findall(r"\\begin{tabular}{(\w+)}(.*?)\\end{tabular}", text, re.DOTALL):
        for line in body.splitlines():
            if row := re.fullmatch(r"(.*)\\\\(\[-2pt\]| \\addlinespace)?", line):
                cells = re.split(r"(?<!\\)&", row[1])
                assert len(cells) == len(columns), line
                rows.append([cell.strip() for cell in cells])
    return rows


def test_tables_for_papers(renamed, tmp_path):
    foreign = r"\input{x} $a$ a_b^c~d #1 % <i> é 漢" + "\n\\end{document}"
    report = json.loads(json.dumps(renamed).replace('"bc"', json.dumps(foreign))) | {"suite": foreign}
    report["groups"] = report["groups"][:1]
    pages.write(report, tmp_path, ["pdf"])
    text = (tmp_path / "report.tex").read_text()
    rows = check_tex(text)
    escaped = (
        r"\textbackslash{}input\{x\} \$a\$ a\_b\textasciicircum{}c\textasciitilde{}d \#1 \% $<$i$>$ é U+6F22 "
        r"\textbackslash{}end\{document\}"
    )
    best = next(row for row in rows if row[0] == r"Ours \& $\eta$")
    assert all(cell.startswith(r"\textbf{") for cell in best[1:-1])
    assert escaped in [row[0] for row in rows]
    assert next(row for row in rows if row[0] == escaped)[2:5] == ["--", "--", "--"]
    figures = re.findall(r"includegraphics.*?{(.*?)}", text)
    assert len(figures) == 4
    assert all(name.endswith(".pdf") and (tmp_path / name).exists() for name in figures)
    if shutil.which("pdflatex"):
        line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    table = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    means = [
        row for row in table if row["method"] == "FQL" and row["statistic"] == "mean" and not row["dataset"]
    ]
    aggregates = report["groups"][0]["methods"][1]["aggregates"]
    assert [float(means[0][end]) for end in ("value", "ci_low", "ci_high")] == list(
        aggregates["mean"].values()
    )


def test_folders_of_jobs_lie_in_the_workdir_of_the_suite(suite, tmp_path):
    facts = json.loads((suite[0] / "suite.json").read_text())
    facts["members"][0]["folder"] = "../elsewhere"
    (tmp_path / "suite.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"suite.json: the folder '../elsewhere' of .* is outside of"):
        numbers.make(tmp_path)


def test_a_smoke_run_is_left_out(tmp_path):
    settings = {"agent_name": "iql", "dataset": "ogbench/maze", "smoke": True}
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    with pytest.raises(InputError, match=f"^{tmp_path} is left out: it is a smoke run, whose scores mean"):
        run_folders.find([tmp_path])
