"""The sdist builds a wheel, and what it installs works elsewhere, without the repository."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest
from helpers import ROOT, command, write_maze_data

import valuelab

IMPORT_ALL = """
import importlib, json, pathlib, sys
from absl.flags import FLAGS

for path in sorted(json.load(sys.stdin)):
    words = pathlib.Path(path).with_suffix("").parts
    module = importlib.import_module(".".join(words[:-1] if words[-1] == "__init__" else words))
    own = FLAGS.flags_by_module_dict().get(module.__name__, [])
    FLAGS.remove_flag_values([flag.name for flag in own])  # two programs may have the same flags
ours = [sys.modules[name] for name in sys.modules if name.startswith(("valuelab", "experiments"))]
print(json.dumps([module.__file__ for module in ours if module.__file__]))
"""
"""Imports the modules of the files that stdin lists, and prints the files of all modules that are ours."""


def run(*line: str | os.PathLike, cwd: pathlib.Path, **options) -> str:
    """Runs a program, and returns what it prints."""
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(tracked: list[str], folder: pathlib.Path) -> pathlib.Path:
    """Builds the sdist from a copy of the tracked files."""
    copy = folder / "copy"
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    program = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", program, folder, cwd=copy)
    shutil.rmtree(copy)
    return next(folder.glob("*.tar.gz"))


@pytest.mark.slow
def test_the_sdist_installs_elsewhere_with_all_files(tmp_path):
    listed = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    tracked = [name for name in listed if name and (ROOT / name).exists()]  # docs/notebooks is a link
    sdist = build(tracked, tmp_path)
    with tarfile.open(sdist) as archive:
        top = {pathlib.Path(name).parts[1] for name in archive.getnames() if "/" in name}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "requirements.lock"} <= top
    assert not {"tests", "docs", "benchmarks", "notebooks"} & top

    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-index", "--no-deps"]
    run(*pip, "--no-build-isolation", "--no-compile", f"--target={site}", sdist, cwd=tmp_path)
    shipped = {name for name in tracked if name.startswith(("valuelab/", "experiments/"))}
    found = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert {name for name in found if name.startswith(("valuelab/", "experiments/"))} == shipped

    # From here on the repository is not on the path.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "XLA_FLAGS": "", "COLUMNS": "110"}
    outside = {"cwd": elsewhere, "env": environment}
    modules = json.dumps([name for name in shipped if name.endswith(".py") and "/renamed/" not in name])
    loaded = json.loads(run(sys.executable, "-c", IMPORT_ALL, **outside, input=modules).splitlines()[-1])
    assert len(loaded) > 200
    assert all(pathlib.Path(path).is_relative_to(site) for path in loaded)

    launcher = site / "bin" / "valuelab"
    assert run(launcher, "--version", **outside) == f"valuelab {valuelab.__version__}\n"
    presets = {pathlib.Path(name).stem for name in shipped if name.startswith("valuelab/presets/")}
    agents = {line.split()[0] for line in run(launcher, "list", "agents", **outside).splitlines()}
    assert agents
    assert agents <= presets
    assert "--init_from" in run(sys.executable, "-m", "experiments.adapt", "--help", **outside)

    write_maze_data(tmp_path)
    settings = {"agent": "iql:pointmaze", "eval_episodes": 1, "eval_every": 20}
    run(launcher, "train", *command(tmp_path, pathlib.Path("runs/maze"), **settings), **outside)
    config = json.loads((elsewhere / "runs/maze/config.json").read_text())
    assert config["versions"]["valuelab"] == valuelab.__version__
    assert "commit" not in config
    run(launcher, "report", "runs/maze", "--out=runs/report", **outside)
    for name in ("report.html", "report.md", "report.tex", "report.json"):
        assert (elsewhere / "runs/report" / name).stat().st_size, name
