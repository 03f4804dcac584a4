"""The notebooks run from top to bottom, and are kept with what they show."""

import os
import pathlib
import re
import subprocess
import sys

import nbclient
import nbformat
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 600_000
LEARNT_ABOVE = 0.2
"""The level of CVaR above which the network of the second notebook comes within 5 % of the optimum."""
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    shown = [output.data for output in outputs(notebook) if "data" in output]
    return [kind for data in shown for kind in data if kind.startswith("image/")]


def check_iql(text: str) -> None:
    """Success of the four expectiles, as the text below them explains it."""
    scores = {
        float(expectile): float(score) for expectile, score in re.findall(r"τ = (.*): success (.*),", text)
    }
    assert scores[0.5] <= 0.1
    assert min(scores[0.9], scores[0.98]) >= 0.95


def numbers(pattern: str, text: str) -> np.ndarray:
    """[n] or [n, k]: the groups of each of the n places where a pattern is found."""
    return np.array(re.findall(pattern, text), float)


def check_distributional(text: str) -> None:
    """Stocks help, refusals are right, targets are reached, and the network's dial turns as the exact one."""
    np.testing.assert_array_equal(numbers(r"best CVaR .*: ([\d.]+)", text), [0, 1, 1])
    differences = numbers(r"difference (\S+)", text)
    assert len(differences) == 2
    assert differences.min() > 0
    assert numbers(r"target .*: (\S+) away", text).max() < 0.5
    aimed, by_mean = numbers(r"at least +\d+: (\S+) against (\S+)", text).T
    assert np.all(aimed > by_mean)
    level, optimum, network = numbers(r"τ = (\S+): optimum +(\S+); network +(\S+) from", text).T
    enough = level > LEARNT_ABOVE
    np.testing.assert_allclose(network[enough], optimum[enough], rtol=0.05)


def check_flow(text: str) -> None:
    """Noise comes to values that rise to the goal, pushes are forgotten, old first steps set right."""
    flow, spread, plain, walk = numbers(
        r"flow +(\S+), ends (\S+) apart; plain +(\S+); this walk +(\S+)", text
    ).T
    for values in (flow, plain):
        assert np.all(np.diff(values) < -10)
        np.testing.assert_allclose(values, walk, atol=15)
    assert spread.max() < 5  # of the noise's 10
    assert numbers(r"correlation .*: (\S+)", text) > 0.8
    away = numbers(r"K = +\d+: (\S+) away", text)
    assert away[0] < 2
    assert away[3] < 0.5
    assert 0.5 < numbers(r"\nc = (\S+)", text) < 1.1
    left = numbers(r"pushed at t = \S+: (\S+) of it left", text)
    assert np.all(np.diff(left) > 0)
    assert left[0] < 0.35
    assert left[3] < 0.9
    shares = numbers(r"(\d+)% of all", text)
    assert shares[1] < 40  # half of the steps; 50 where errors are carried along
    assert shares[3] == 100
    flow_rank, plain_rank = numbers(r"rank (\d+) of 64", text)
    assert 5 < flow_rank < plain_rank < 60


def check_td_jepa(text: str) -> None:
    """Drawn rewards are understood, and three of four gathered from most starts; spots are found."""
    assert numbers(r"rank of ψ: (\d+) of 50", text) > 40
    understood = numbers(r"correlation (\S+) with", text)
    assert len(understood) == 4
    assert understood.min() > 0.7
    gathered = numbers(r": (\S+) (\S+) (\S+) (\S+) (\S+) a step", text)
    by_chance, most = numbers(r"in the data (\S+), at most (\S+)", text).T
    corner, crossing, _, above = gathered.mean(1) - by_chance
    assert min(corner, crossing) > 0.15
    assert above > 0.3
    assert np.all(gathered <= most[:, None])
    assert numbers(r"likes most is (\S+) m", text) < 1


def check_goals(text: str) -> None:
    """Values order places as geodesics do, tasks 3 and 4 fail, and values there are too high."""
    scores = numbers(r"success (\S+), in the tasks (\S+) (\S+) (\S+) (\S+) (\S+); .* (\S+)\n", text)
    success, *tasks, correlation = scores.T
    methods = slice(4)
    np.testing.assert_array_equal(success[4:], [0.4, 1])  # the walkers
    assert np.all(success[methods] < 0.7)
    assert np.max([tasks[2][methods], tasks[3][methods]]) <= 0.2
    assert max(tasks[4][methods]) >= 0.5
    assert min(correlation[methods]) > 0.75
    assert correlation[4] > 0.9
    one, _, three, four, five = numbers(r"(?:GCIQL|GCIVL|QRL): (\S+) (\S+) (\S+) (\S+) (\S+)\n", text).T
    assert np.all(np.maximum(three, four) < np.minimum(one, five))
    assert max(three[:2]) < 0.75
    *orders, geodesics = numbers(r"(?:order of values|minus the geodesics:) (\S+)\n", text)
    assert np.ptp([*orders, geodesics]) < 0.2


def check_robot(text: str) -> None:
    """IQL needs fewer steps than cloning, the exported policy acts, and fine-tuning helps."""
    cloning, iql = numbers(r"(?:cloning|IQL): (\S+) steps lost", text)
    assert iql < 0.75 * cloning
    assert numbers(r"exported policy takes (\S+) steps", text) < 12
    before, after = numbers(r"before: (\S+) steps lost; after: (\S+)", text)[0]
    assert after < before / 2


CLAIMS = {
    "01_iql.ipynb": check_iql,
    "02_distributional_dp.ipynb": check_distributional,
    "03_flow_critics.ipynb": check_flow,
    "04_td_jepa.ipynb": check_td_jepa,
    "05_goals.ipynb": check_goals,
    "06_your_robot.ipynb": check_robot,
}


@each_notebook
def test_notebook_is_kept_executed(name):
    """Every cell ran, in order and without a complaint, and the pictures are there."""
    notebook = read(name)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.get("name", "stdout") for output in outputs(notebook)} == {"stdout"}
    assert pictures(notebook)
    CLAIMS[name](printed(notebook))
    assert (ROOT / "notebooks" / name).stat().st_size < LARGEST


@pytest.mark.slow
def test_notebooks_name_what_there_is(tmp_path):
    """Modules, functions and arguments in their code are those of today; what the code shows, a run tells."""
    for name in NOTEBOOKS:
        cells = [cell.source for cell in read(name).cells if cell.cell_type == "code"]
        for written in [cell for cell in cells if cell.startswith("%%writefile")]:
            first, _, module = written.partition("\n")
            (tmp_path / first.split()[1]).write_text(module)
            cells.remove(written)
        code = re.sub(r"^%.*$", "", "\n\n".join(cells), flags=re.MULTILINE)
        (tmp_path / f"notebook_{name.partition('.')[0]}.py").write_text(code)
    command = [sys.executable, "-m", "mypy", *sorted(tmp_path.glob("notebook_*.py"))]
    environment = os.environ | {"MYPYPATH": str(tmp_path)}  # of the modules that notebooks write
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert f"checked {len(NOTEBOOKS)} source files" in done.stdout, done.stdout + done.stderr
    told = re.findall(
        r"^.*\[(?:attr-defined|call-arg|import.*|name-defined|syntax)\]$", done.stdout, re.MULTILINE
    )
    assert told == []


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A folder for data, which the first notebook that needs them collects."""
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
@pytest.mark.whole
@each_notebook
def test_notebook_runs(name, collected, tmp_path, monkeypatch):
    """In a folder of its own, with data collected anew, and on one device, as users run it."""
    notebook = read(name)
    kept_pictures = pictures(notebook)
    environment = {**os.environ, "VALUELAB_DATA_DIR": str(collected), "XLA_FLAGS": ""}
    monkeypatch.chdir(tmp_path)
    # On a busy machine outputs come late, and after the default of four seconds they would be left out.
    client = nbclient.NotebookClient(notebook, timeout=900, iopub_timeout=60, kernel_name="python3")
    client.execute(env=environment)
    assert pictures(notebook) == kept_pictures
    CLAIMS[name](printed(notebook))
