"""Code in README.md, BUILD.md and docs runs, the commands there work, and the links lead somewhere.

Python blocks of a document run in order in one namespace, with training cut short. Commands are parsed, and
run by the slow tests: as they stand, in a home folder of their own, with the sizes of SMALL or TINY put after
what the document says; the data they read are those of the README's own collect command.
"""

import ast
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence

import jaxlib
import pytest
from absl import flags as absl_flags
from suite_folder import make_suite

import valuelab.training
from experiments.examples.tune import TuneConfig
from experiments.studies.adapt import AdaptConfig
from experiments.studies.flow_claims.update_to_data import UpdateToDataConfig
from experiments.studies.zero_shot_claims.image_maze import ImageMazeConfig
from valuelab import configuration
from valuelab.benchmark.report import ReportConfig
from valuelab.benchmark.runner import BenchmarkConfig
from valuelab.runs import flags, train
from valuelab.runs.ahead_of_time import AheadOfTimeConfig
from valuelab.runs.dataset_inspection import InspectConfig
from valuelab.runs.diagnosis import DiagnoseConfig
from valuelab.runs.solving import SolveConfig
from valuelab.runs.zero_shot import ZeroShotRunConfig

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "BUILD.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
COLLECT = "experiments.collect"
NARROW = (
    {"agent.hidden_dims": (8,)},
    {"agent.critic.hidden_dims": (8,), "agent.critic.num_draws": 1, "agent.policy.hidden_dims": (8,)},
)
"""Networks as small as they come, of agents of one part and of two."""
TINY = {
    "steps": 8,
    "log_every": 4,
    "eval_episodes": 1,
    "distributed": False,  # one host is enough here
}
SMALL = {
    COLLECT: ["--episodes=4", "--val_episodes=1", "--processes=1"],
    "experiments.benchmark": [f"--suite={ROOT}/tests/tiny_suite.py"],
    "experiments.compare_datasets": [],
    "experiments.convert_to_rlds": [],
    "experiments.diagnose": ["--rows=16"],
    "experiments.studies.flow_claims.recovery": [
        "--log_steps=1000",
        "--steps=4",
        "--evaluations=2",
        "--num_seeds=1",
    ],
    "experiments.inspect_dataset": [],
    "experiments.studies.speed.agent": ["--agent.hidden_dims=8", "--rounds=1"],
    "experiments.studies.speed.peers": ["--cases=iql", "--rounds=2", "--seconds=0.01"],
    "experiments.solve": ["--noplots"],
    "experiments.studies.risk.compare_eta_network": [
        "--num_seeds=1",
        "--steps=20",
        "--episodes=100",
        "--noplots",
    ],
    "experiments.studies.risk.pong_scores": ["--episodes=1", "--noplots"],
    "experiments.zero_shot": [
        "--steps=4",
        "--log_every=2",
        "--eval_episodes=0",  # four walks do not meet all five goals
        "--agent.critic.predictor_dims=8",
        "--agent.critic.state_dims=8",
        "--agent.critic.task_dims=8",
        "--agent.critic.feature_learner.hidden_dims=8",
        "--agent.policy.hidden_dims=8",
    ],
    "experiments.studies.value_order": [
        "--num_seeds=1",
        "--episodes=4",
        "--max_steps=20",
        "--threshold=-1",
        "--value_steps=4",
        "--steps=4",
    ],
    "experiments.report": [],
    "experiments.examples.tune": ["--steps=4", "--trials=1", "--num_seeds=1", "--eval_episodes=1"],
    "experiments.studies.risk.compare_risk": [
        "--num_seeds=1",
        "--steps=2",
        "--random_problems=2",
        "--weights=2",
        "--agent.hidden_dims=4",
        "--agent.commands=1",
    ],
}


LONG = {"experiments.studies.risk.compare_risk"}
"""Programs that take minutes even so: it solves a gridworld exactly for every level."""


def read(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(document), re.MULTILINE | re.DOTALL)


def commands(documents: Sequence[str] = DOCUMENTS) -> list[str]:
    """Every command of every shell block, each once, on a line."""
    text = "".join(block for document in documents for block in blocks(document, "sh"))
    return list(dict.fromkeys(text.replace("\\\n", " ").splitlines()))


def arguments(command: str) -> tuple[str, list[str]]:
    """The program a command starts, and its arguments; variables set before it are left out."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    return (words[2], words[3:]) if words[:2] == ["python", "-m"] else (words[0], words[1:])


ALGORITHMS = {
    document: pathlib.Path(document).stem
    for document in DOCUMENTS
    if document.startswith("docs/algorithms/") and not document.endswith("/index.md")
}
"""The page of each agent -> the name of the agent."""

TRAINING = [command for command in commands() if arguments(command)[0] == "experiments.train"]
OTHERS = [command for command in commands() if arguments(command)[0] in SMALL.keys() - {COLLECT}]
ZERO_SHOT_RUNS = [command for command in OTHERS if arguments(command)[0] == "experiments.zero_shot"]
# The contract tests train each agent in each run of CI, so the commands of their pages wait for a release.
OF_AGENTS = set(commands([*ALGORITHMS])) - {
    *commands([document for document in DOCUMENTS if document not in ALGORITHMS]),
    *(command for command in ZERO_SHOT_RUNS if "--pairs" in command or "=td_jepa" in command),
}


def to_run(listed: Sequence[str]) -> list:
    """Parameters of a test: the commands, those that wait for a release with their mark."""
    waits = [command in OF_AGENTS or arguments(command)[0] in LONG for command in listed]
    return [
        pytest.param(command, marks=pytest.mark.whole if whole else ())
        for command, whole in zip(listed, waits, strict=True)
    ]


def run_program(command: str, home: pathlib.Path) -> None:
    """Runs a program of experiments, but train, in a process of its own, on one device."""
    program, given = arguments(command)
    small = SMALL[program]
    if program == "experiments.zero_shot":  # flags that its agent does not have are left out
        agent = next(word.partition("=")[2] for word in given if word.startswith("--agent="))
        known = {*configuration.fields(flags.load_agent(agent.partition(":")[0])[0])}
        small = [
            flag for flag in small if not flag.startswith("--agent.") or flag[2:].partition("=")[0] in known
        ]
    named = {flag.partition("=")[0] for flag in small}
    given = [word for word in given if word.partition("=")[0] not in named]  # no flag may be given twice
    xla_flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    environment = {**os.environ, "HOME": str(home), "XLA_FLAGS": xla_flags}
    line = [sys.executable, "-m", program, *given, *small]
    done = subprocess.run(line, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder with a small dataset where the documents have the whole one."""
    home = tmp_path_factory.mktemp("home")
    (home / "experiments").symlink_to(ROOT / "experiments")
    (home / "runs").mkdir()
    collect = next(command for command in commands() if f"{COLLECT} --dataset=ogbench/pointmaze" in command)
    run_program(collect, home)
    collected = home / ".cache/valuelab/ogbench/pointmaze-medium-navigate-v0.npz"
    for name in ("published.npz", "collected.npz"):
        (home / name).symlink_to(collected)
    for block in blocks("docs/guides/distributional.md", "python"):
        if "mdp.npz" in block or 'open("utility.py"' in block:  # the files that commands there read
            subprocess.run([sys.executable, "-c", block], cwd=home, check=True)
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(home)
    return home


def run_training(command_arguments: list[str]) -> tuple[pathlib.Path, dict]:
    """Parses a command line as the launcher does, and does a tiny run of it."""
    parsed, make_agent = flags.parse_run(["train", *command_arguments], absl_flags.FlagValues())
    phases = {"offline_steps": 4, "online_steps": 4} if parsed.online_steps else {}
    known = configuration.fields(parsed) | configuration.aliases(parsed)
    narrow = {
        name: value for name, value in NARROW["agent.hidden_dims" not in known].items() if name in known
    }
    config = configuration.override(parsed, narrow | TINY | phases)
    return pathlib.Path(config.workdir), train.run(config, make_agent)


def train_earlier(flag: str, command: str) -> None:
    """Runs the command whose workdir another command names by a flag."""
    for word in arguments(command)[1]:
        if word.startswith(flag):
            workdir = f"--workdir={word.partition('=')[2]}"
            run_training(next(given for _, given in map(arguments, TRAINING) if workdir in given))


def test_committed_results_name_no_folder_of_a_machine():
    texts = {path: path.read_text() for path in (ROOT / "benchmarks").rglob("*.json*")}
    assert texts
    assert not [path for path, text in texts.items() if re.search(r"[\"= ]/(tmp|work|home|root)/", text)]


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if blocks(name, "python")])
def test_python_blocks_run(document, at_home, monkeypatch):
    whole, whole_run = valuelab.training.train, valuelab.train
    small = {"steps": 8, "log_every": 4}
    monkeypatch.setattr(
        valuelab.training, "train", lambda *args, steps, **rest: whole(*args, **small, **rest)
    )
    small_run = small | {"eval_episodes": 0, "mesh": (1, 1), "agent.hidden_dims": (8,)}
    monkeypatch.setattr(valuelab, "train", lambda *args, steps, **rest: whole_run(*args, **small_run, **rest))
    namespace: dict = {"__name__": "example"}
    monkeypatch.setitem(sys.modules, "example", type(sys)("example"))  # where dataclasses look names up
    for block in blocks(document, "python"):
        exec(compile(block, document, "exec"), namespace)
    assert "run" not in namespace or namespace["run"].rows[-1]["step"] == 8


@pytest.mark.parametrize("command", [*TRAINING, *ZERO_SHOT_RUNS])
def test_training_commands_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    defaults = {
        "experiments.train": flags.DEFAULTS,
        "experiments.zero_shot": ZeroShotRunConfig(**flags.default_fields()),
    }
    program, given = arguments(command)
    config, make_agent = flags.parse_run([program, *given], absl_flags.FlagValues(), defaults[program])
    assert f"--agent={config.agent_source}" in arguments(command)[1]
    assert callable(make_agent)


@pytest.mark.slow
@pytest.mark.parametrize("command", to_run(TRAINING))
def test_training_commands_run(command, at_home):
    train_earlier("--init_from=", command)
    workdir, result = run_training(arguments(command)[1])
    assert json.loads((workdir / "result.json").read_text()) == result


@pytest.mark.slow
@pytest.mark.parametrize("command", to_run(OTHERS))
def test_other_programs_run(command, at_home, tmp_path):
    if arguments(command)[0] == "experiments.report":  # of a suite, in a home of its own
        for word in arguments(command)[1]:
            if not word.startswith("--"):
                make_suite(tmp_path / word)
        (tmp_path / "experiments").symlink_to(ROOT / "experiments")
        at_home = tmp_path
    for flag in ("--checkpoint=", "--run=", "--maximiser="):
        train_earlier(flag, command)
    run_program(command, at_home)


@pytest.mark.parametrize("command", commands())
def test_commands_name_what_exists(command):
    program, given = arguments(command)
    if program == "make":
        assert all(re.search(rf"^{target}:", read("Makefile"), re.MULTILINE) for target in given)
    elif program == "pip":
        extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
        assert set(re.findall(r"\w+", re.search(r"\[(.*)\]", command)[1])) <= set(extras)
    elif program == "apt-get":
        assert given[0] == "install"
    elif program == "git":
        assert given == ["clone", tomllib.loads(read("pyproject.toml"))["project"]["urls"]["Source"]]
    elif program in ("cd", "source"):
        assert given in (["valuelab"], [".venv/bin/activate"])
    else:
        assert program in {"experiments.train", *SMALL}, f"{command}: tell this test how to run it"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_presets_exist_in_commands_that_are_not_run_too(document):
    for name, preset in re.findall(r"--agent=(\w+):(\w+)", read(document)):
        if (ROOT / f"valuelab/presets/{name}.py").exists():
            assert preset in flags.presets_in_a_line(name), f"{name}:{preset}"


def test_the_agent_of_the_readme_is_the_example():
    def statements(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
                del node.body[0]
        return ast.dump(tree)

    example = read("experiments/examples/filtered_cloning.py")
    assert statements(blocks("README.md", "python")[-1]) == statements(example)


@pytest.mark.slow
def test_a_run_leaves_what_the_guide_says(at_home):
    workdir, result = run_training(
        [
            "--agent=iql:pointmaze_goals",
            "--dataset=ogbench/pointmaze-medium-navigate-v0",
            "--num_seeds=2",
            "--workdir=runs/schema",
        ]
    )
    table = read("docs/start/run_folder.md").partition("\n## ")[0]
    named = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    for name in re.findall(r"`(.*?)`", " ".join(named)):
        assert (workdir / name).exists(), name
    example = json.loads(blocks("docs/start/run_folder.md", "json")[0])
    assert example.keys() == result.keys()
    assert_has_form(result, example)


def assert_has_form(actual, example):
    """Everything the example has is there, of the same type."""
    assert type(actual) is type(example)
    if isinstance(example, dict):
        for key in example:
            assert_has_form(actual[key], example[key])
    if isinstance(example, list):
        for item in actual:
            assert_has_form(item, example[0])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_exist(document):
    config, _ = flags.load_agent("iql")
    known = {"agent", "help", *configuration.fields(config), *configuration.aliases(config)}
    known |= configuration.parts(config).keys()
    known |= configuration.fields(configuration.override(config, {"agent.auxiliary": "contrastive"})).keys()
    others = (
        *(ZeroShotRunConfig(), UpdateToDataConfig(), AdaptConfig(), BenchmarkConfig(), ReportConfig()),
        DiagnoseConfig(),
        AheadOfTimeConfig(),
        ImageMazeConfig(),
        InspectConfig(),
        SolveConfig(),
        TuneConfig(),
    )
    for other in others:
        known |= configuration.fields(other).keys()
    for agent in ("td_jepa", "hilp", "eta_network", "crl"):
        known |= configuration.fields(flags.load_agent(agent)[0]).keys()
    known |= {"worker", "signal", "requeue"}  # of gcloud and sbatch
    known |= {"episode_steps", "anywhere"}  # of experiments.collect
    if document in ALGORITHMS:
        known |= configuration.fields(flags.load_agent(ALGORITHMS[document])[0]).keys()
    named = set(re.findall(r"`--([a-z_.]+)", read(document)))
    flags_of_xla = {name for name in named if name.startswith("xla_")}
    assert named - flags_of_xla <= known
    if of_jaxlib := {name for name in flags_of_xla if not name.startswith("xla_tpu_")}:
        library = (pathlib.Path(jaxlib.__file__).parent / "libjax_common.so").read_bytes()
        assert not [name for name in of_jaxlib if name.encode() not in library]


def stated_defaults(document: str) -> list[tuple[str, str]]:
    """The flags and defaults in the tables of a document."""
    rows = re.findall(r"^\| (`--[^|]*) \| (`[^|]*) \|", read(document), re.MULTILINE)
    return [
        pair
        for names, defaults in rows
        for pair in zip(re.findall(r"--([a-z_.]+)", names), re.findall(r"`(.*?)`", defaults), strict=True)
    ]


@pytest.mark.parametrize("document", ALGORITHMS)
def test_defaults_of_flags_are_those_of_the_algorithm(document):
    config, _ = flags.load_agent(ALGORITHMS[document])
    short_names, parts = configuration.aliases(config), configuration.parts(config)
    known = {name: field.value for name, field in configuration.fields(config).items()}
    known |= {name: part.chosen for name, part in parts.items()}
    known |= {short: known[name] for short, (name, *_) in short_names.items() if name in known}
    for name, default in stated_defaults(document):
        value = known[name]
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert default == text, f"--{name}: the default is {text}, but {document} has {default}"


def test_defaults_of_flags_are_those_of_the_guide():
    known = configuration.fields(flags.load_agent("iql")[0])
    for name, default in stated_defaults("docs/guides/flags.md"):
        assert str(known[name].value).lower() == default, name


def headings(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md", "SECURITY.md"])
def test_links_lead_somewhere(document):
    text = re.sub(r"^```.*?^```$", "", read(document), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((.*?)\)|src=\"(.*?)\"", text):
        target = "".join(link)
        if target.startswith("#"):
            assert target[1:] in headings(text), target
        elif not target.startswith("https://"):
            page = (ROOT / document).parent / target.partition("#")[0]
            assert page.exists(), target
            assert "docs/notebooks" not in os.path.normpath(page), f"{target}: a symbolic link"
            anchor = target.partition("#")[2]
            assert not anchor or anchor in headings(page.read_text()), target
