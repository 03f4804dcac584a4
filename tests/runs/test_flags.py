"""Command lines: agent files, presets, flags, and error messages."""

import os
import subprocess
import sys
import types
import typing

import pytest
from absl import flags as absl_flags
from helpers import SUITES, make_dataset

from valuelab import configuration
from valuelab.benchmark import suites
from valuelab.data.normalization import REWARD_RULES
from valuelab.errors import InputError, describe
from valuelab.runs import command_line, flags, inputs
from valuelab.types import Agent

AGENT = '''
"""An agent file of the user."""

import dataclasses

from valuelab.configuration import check_ranges
from valuelab.types import Agent


@dataclasses.dataclass(frozen=True)
class Config:
    """Hyperparameters.

    Attributes:
        expectile: τ in (0, 1).
        hidden_dims: width of each layer.
        layer_norm: normalise the layers.
    """

    expectile: float = 0.7
    hidden_dims: tuple[int, ...] = (256, 256)
    layer_norm: bool = False

    def __post_init__(self):
        check_ranges(self, expectile="(0, 1)")


def make_agent(config, spec):
    return Agent(config, spec, None)


PRESETS = {
    "pointmaze": {"agent.expectile": 0.9, "agent.hidden_dims": (128, 128), "data.compact": True, "steps": 30},
    "broken": {"agent.expectle": 0.9},
}
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with mine.py, which is also the folder of the agents that --agent knows by name."""
    (tmp_path / "mine.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flags, "PRESETS", tmp_path)
    return tmp_path


def parse(*arguments):
    return flags.parse_run(["train", *arguments], absl_flags.FlagValues())


@pytest.mark.parametrize("agent", ["mine", "mine.py", "./mine.py"])
def test_an_agent_file_gives_the_defaults(folder, agent):
    config, make_agent = parse(f"--agent={agent}")
    assert config.agent_name == "mine"
    assert config.agent_source == agent
    assert config.agent.expectile == 0.7
    assert config.data == flags.DataConfig()
    assert config.steps == 1_000_000
    assert make_agent(1, 2) == Agent(1, 2, None)


def test_a_flag_overrides_a_preset_and_a_preset_overrides_a_default(folder):
    config, _ = parse("--agent=mine:pointmaze", "--agent.expectile=0.5", "--batch_size", "8")
    assert config.agent.expectile == 0.5
    assert config.agent.hidden_dims == (128, 128)
    assert config.agent.layer_norm is False
    assert config.data.compact is True
    assert (config.steps, config.batch_size, config.seed) == (30, 8, 0)


def test_every_way_to_write_a_flag(folder):
    config, _ = parse(
        *("--dataset", "ogbench/x", "--agent", "mine:pointmaze", "--agent.hidden_dims=8,16"),
        *("--agent.layer_norm", "--nodata.compact", "--data.rewards=d4rl_antmaze", "--mesh=1,8"),
        *("--data.goals.value.p_current=0.5", "--sweep=agent.expectile=0.1,0.2", "--sweep=x=1"),
    )
    assert config.dataset == "ogbench/x"
    assert config.agent.hidden_dims == (8, 16)
    assert config.agent.layer_norm is True
    assert config.data.compact is False
    assert config.data.rewards == "d4rl_antmaze"
    assert config.data.goals.value.p_current == 0.5
    assert config.mesh == (1, 8)
    assert config.sweep == ("agent.expectile=0.1,0.2", "x=1")


@pytest.mark.parametrize("flag", ["--agent=iql", "--steps=3", "--agent.expectile=0.5", "--nodata.compact"])
def test_a_flag_that_is_given_twice_is_refused(flag):
    name = flag.partition("=")[0].replace("--no", "--")
    with pytest.raises(InputError, match=f"^{name} is given 2 times: give it once"):
        parse("--agent=iql", *([flag] if flag == "--agent=iql" else [flag, flag]))


def test_the_discount_of_goals_is_that_of_the_agent_unless_it_is_given():
    def discount(*arguments):
        return parse(*arguments, "--dataset=ogbench/x")[0].data.goals.discount

    assert discount("--agent=iql", "--agent.discount=0.9") == 0.9
    assert (
        discount("--agent=td_jepa:walker") == discount("--agent=fql", "--agent.critic.discount=0.98") == 0.98
    )
    assert discount("--agent=td_jepa:point_mass_maze") == 0.99
    assert discount("--agent=iql", "--agent.discount=0.9", "--data.goals.discount=0.8") == 0.8
    assert discount("--agent=bc") == 0.99  # bc has no discount
    # Members of a sweep share their batches.
    swept, _ = parse("--agent=iql", "--dataset=ogbench/x", "--sweep=agent.discount=0.9,0.99")
    assert swept.data.goals.discount is None
    with pytest.raises(InputError, match=r"^agent.critic.discount is swept, .*: give --data.goals.disc"):
        inputs.make_sampler(swept, make_dataset(goal_conditioned=True))
    inputs.make_sampler(swept, make_dataset())
    undiscounted, _ = parse("--agent=eta_network", "--dataset=rlds/ogbench/x-v0", "--agent.discount=1")
    with pytest.raises(InputError, match=r"^agent.discount is 1, .*: give --data.goals.discount$"):
        inputs.find_inputs(undiscounted)  # raises before a dataset is searched
    # Without a dataset there are no goals, and data.* keeps its defaults.
    assert parse("--agent=iql", "--environment=gymnasium/x")[0].data == flags.DataConfig()


def test_a_flag_chooses_a_part_whose_fields_are_flags_then():
    config, _ = parse(
        "--agent=fql", "--agent.policy=awr", "--agent.critic", "gumbel", "--agent.critic.huber=5"
    )
    assert config.agent.critic.huber == 5.0
    assert type(config.agent.policy).__name__ == "AWRConfig"
    for name in ("extraction", "policy"):
        config, _ = parse("--agent=iql:pointmaze", f"--agent.{name}=ddpg_bc", "--agent.policy.bc_weight=0.5")
        assert (config.agent.policy.bc_weight, config.agent.policy.hidden_dims) == (0.5, (128, 128))
    config, _ = parse("--agent=hilp", "--agent.critic.feature_learner=byol", "--noagent.critic.center")
    assert type(config.agent.critic.feature_learner).__name__ == "BYOLConfig"
    for arguments, message in (
        (["--agent.policy.bc_weight=0.5"], "unknown flag 'agent.policy.bc_weight'"),
        (
            ["--agent.critic=expectil"],
            r"unknown value of agent.critic 'expectil': did you mean 'expectile'\?",
        ),
        (["--agent.expectile=0.5", "--agent.critic.expectile=0.5"], "both set agent.critic.expectile"),
    ):
        with pytest.raises(InputError, match=message):
            parse("--agent=iql", *arguments)
    assert parse("--agent=iql", "--agent.layer_norm")[0].agent.critic.layer_norm is True


def test_every_hyperparameter_of_every_agent_has_a_help():
    for agent in flags.known_agents():
        known = configuration.fields(flags.load_agent(agent)[0])
        assert [name for name, field in known.items() if not field.help] == [], agent


def test_every_field_of_the_data_is_documented():
    known = configuration.fields(flags.DataConfig())
    assert [name for name, field in known.items() if not field.help] == []


def test_flags_list_all_reward_rules():
    assert typing.get_args(typing.get_type_hints(flags.DataConfig)["rewards"]) == tuple(REWARD_RULES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no agent is given: write --agent=iql"),
        (["--agent="], "^agent is empty: give one of mine, or a file$"),
        (["--agent"], "Missing value for flag --agent"),
        (["--agent=mien"], r"unknown agent 'mien': did you mean 'mine'\?"),
        (["--agent=nowhere.py"], r"agent file nowhere.py does not exist"),
        (["--agent=mine:pointmaize"], r"unknown preset of mine 'pointmaize': did you mean 'pointmaze'\?"),
        (["--agent=mine:broken"], r"preset 'broken' of mine: unknown field 'agent.expectle': did you mean"),
        (["--agent=mine", "--agent.expectle=1"], r"unknown flag 'agent.expectle': did you mean 'agent.exp"),
        (["--agent=mine", "--stpes=1"], r"unknown flag 'stpes': did you mean 'steps'\?"),
        (["--agent=mine", "--noagent.layer_nrom"], r"did you mean 'agent.layer_norm'\?"),
        (["--agent=mine", "--epochs=1"], r"unknown flag 'epochs': did you mean 'steps'\?"),
        (["--agent=mine", "--expectile=0.9"], r"unknown flag 'expectile': did you mean 'agent.expectile'\?"),
        (["--agent=mine", "--env=x"], r"unknown flag 'env': did you mean 'dataset' or 'environment'\?"),
        (["--agent=mine", "--qqqq=1"], "^unknown flag 'qqqq'; known: agent, "),
        (["--agent=mine", "--agent.expectile=high"], "agent.expectile is 'high'; it must be a finite number"),
        (["--agent=mine", "--agent.expectile=2"], r"agent.expectile is 2.0; it must lie in \(0, 1\)"),
        (["--agent=mine", "--agent.expectile"], "Missing value for flag --agent.expectile"),
        (["--agent=mine", "--data.rewards=d4rl"], r"unknown value of data.rewards 'd4rl': did you mean"),
        (["--agent=mine", "--data.compact=maybe"], "data.compact is 'maybe'; it must be true or false"),
        (["--agent=mine", "--steps=0"], r"steps is 0; it must lie in \[1, inf\)"),
        (["--agent=mine", "--batch_size=0"], r"batch_size is 0; it must lie in \[1, inf\)"),
        (["--agent=mine", "--num_seeds=-1"], r"num_seeds is -1; it must lie in \[1, inf\)"),
        (["--agent=mine", "--eval_episodes=-1"], r"eval_episodes is -1; it must lie in \[0, inf\)"),
        (["--agent=mine", "steps=3"], "argument 'steps=3' does not belong to a flag: write --name=value"),
    ],
)
def test_an_invalid_command_line_gives_one_line(folder, arguments, message):
    with pytest.raises((InputError, absl_flags.Error), match=message) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


CONFIG = "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Config:\n"
SOUND = CONFIG + "    expectile: float = 0.7\ndef make_agent(config, spec):\n    return 1 / config.expectile"


def test_an_agent_file_needs_no_presets(folder):
    (folder / "plain.py").write_text(CONFIG + "    expectile: float = 0.7\nmake_agent = print")
    assert parse("--agent=plain")[0].agent.expectile == 0.7
    with pytest.raises(InputError, match="unknown preset of plain 'cube'; known: none"):
        parse("--agent=plain:cube")


def test_presets_override_the_settings_of_an_agent_file_and_flags_override_both(folder):
    presets = 'PRESETS = {"short": {"steps": 20}}\nSETTINGS = {"steps": 10, "batch_size": 7}'
    (folder / "plain.py").write_text(f"{SOUND}\n{presets}")
    assert [parse(f"--agent=plain{preset}")[0].steps for preset in ("", ":short")] == [10, 20]
    config = parse("--agent=plain:short", "--steps=30")[0]
    assert (config.steps, config.batch_size) == (30, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "agent file bad.py: it must define Config, a frozen dataclass, and .*; Config is missing"),
        (CONFIG + "    expectile: float = 0.7", "agent file bad.py: it must .*; make_agent is missing"),
        ("x = 1\nx / 0", "agent file bad.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module", "agent file bad.py, line 1: ModuleNotFoundError: .*no_such_module"),
        ("def (", r"agent file bad.py: SyntaxError: .*line 1\)"),
        (CONFIG + "    expectile: float\nmake_agent = 1", "agent file bad.py: TypeError: .*expectile"),
        (CONFIG + "    act: dict = None\nmake_agent = 1", "agent file bad.py: act has type .*dict.*; choose"),
        ("class Config: pass\nmake_agent = print", "agent file bad.py: .*dataclass"),
        ("import sys\nsys.exit(3)", "agent file bad.py, line 2: SystemExit: 3"),
        ("make_agent = Config = 1", "agent file bad.py: TypeError: 'int' object is not callable"),
        (
            CONFIG + "    seed: int = 0\nmake_agent = 1",
            "agent file bad.py: make_agent is 1, but must be a",
        ),
        (SOUND.replace("0.7", "'x'"), "agent file bad.py: expectile is 'x'; it must be a finite number"),
        (SOUND + "\nPRESETS = 1", "agent file bad.py: PRESETS must map names to flag values"),
        (SOUND + "\nPRESETS = {'a': 1}", "agent file bad.py: PRESETS must map names to flag values"),
        (SOUND + "\nPRESETS = {'a': {1: 2}}", "agent file bad.py: PRESETS must map names to flag values"),
        (SOUND + "\nSETTINGS = ['steps']", "agent file bad.py: SETTINGS must map flags to values"),
        (SOUND + "\nSETTINGS = {'stepz': 3}", "^SETTINGS of bad.py: unknown .*'stepz'"),
    ],
)
def test_an_invalid_agent_file_gives_one_line(folder, text, message):
    (folder / "bad.py").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        parse("--agent=bad.py")
    assert "\n" not in str(caught.value)


def test_errors_of_make_agent_name_its_file(folder):
    (folder / "bad.py").write_text(SOUND)
    with pytest.raises(
        InputError,
        match=r"agent file bad.py: make_agent returns a float, but must return a valuelab.types.Agent",
    ):
        parse("--agent=bad.py")[1](types.SimpleNamespace(expectile=2.0), None)
    with pytest.raises(InputError, match=r"agent file bad.py, line 6: ZeroDivisionError: division by zero"):
        parse("--agent=bad.py")[1](types.SimpleNamespace(expectile=0), None)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: suites.read(path, SUITES),
        lambda path: command_line.load_function(f"{path}:reward", "reward"),
    ],
)
def test_errors_of_other_files_name_file_and_line(folder, read):
    for text, message in (
        ("import sys\nsys.exit(0)", r" file bad.py, line 2: SystemExit: 0"),
        ("\n\nraise KeyError('k')", r" file bad.py, line 3: KeyError: 'k'"),
        ("def (", r" file bad.py: SyntaxError: "),
    ):
        (folder / "bad.py").write_text(text)
        with pytest.raises(InputError, match=message):
            read("bad.py")


def test_the_message_of_a_callback_is_its_own_exception():
    words = 'INTERNAL: error calling callback: Traceback (most recent call last):\n  File "x", line 1, in f\n'
    assert describe(RuntimeError(words + "ValueError: boom\nin two lines")) == "ValueError: boom in two lines"
    assert describe(KeyError("k")) == "KeyError: 'k'"
    assert describe(AssertionError()) == "AssertionError"


PROGRAM = '''
"""Prints the expectile."""

from valuelab.runs import flags
from valuelab.runs import train
from valuelab.errors import InputError

def main(parsed):
    config, _ = parsed
    if config.seed:
        raise InputError("seed 1 is not for this")
    if config.agent.expectile == 0.25:
        raise RuntimeError("two\\nlines")
    if config.agent.expectile == 0.75:
        open("/dev/null/x")
    print(config.agent.expectile, "\u2500\u2713" if config.agent.expectile == 0.9 else "")

flags.run(main, flags.parse_run)
'''


@pytest.mark.parametrize(
    ("arguments", "status", "output", "error"),
    [
        (["--agent.expectile=0.5"], 0, "0.5 \n", ""),
        (["--agent.expectile=0.9"], 0, "0.9 ??\n", ""),
        (["--agent.expectile=0.25"], 1, "", "error: RuntimeError: two lines\n"),
        (
            ["--agent.expectile=0.75"],
            2,
            "",
            "error: NotADirectoryError: [Errno 20] Not a directory: '/dev/null/x'\n",
        ),
        (["--agent.expectile=x"], 2, "", "error: agent.expectile is 'x'; it must be a finite number\n"),
        (["--seed"], 2, "", "error: Missing value for flag --seed\n"),
        (["--seed=1"], 2, "", "error: seed 1 is not for this\n"),
    ],
)
def test_a_program_ends_with_status_2_and_one_line(folder, arguments, status, output, error):
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "--agent=mine.py", *arguments]
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ascii_only)
    last = done.stderr.rpartition("error: ")
    assert (done.returncode, done.stdout, "".join(last[1:])) == (status, output, error)
    assert bool(last[0]) == (status == 1)  # only an error that is not the user's has a traceback


def test_help_lists_each_hyperparameter_with_its_default_after_the_preset(folder):
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "--agent=mine.py:pointmaze", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout
    assert done.returncode == 0
    for line in (
        "Prints the expectile.",
        "--agent.expectile: τ in (0, 1).\n    (default: '0.9')\n    (a finite number)",
        "--[no]agent.layer_norm: normalise the layers.\n    (default: 'false')",
        "--data.rewards: Rule by which rewards are normalised.\n    (default: 'none')",
        "--sweep: A hyperparameter and its values",
    ):
        assert line in text
    assert "agent_source" not in text
