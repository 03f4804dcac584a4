import json
import subprocess
import sys

import pytest

from experiments import __main__ as console
from valuelab.errors import InputError
from valuelab.presets import DESCRIPTIONS
from valuelab.runs import completion, flags, listing

PROGRAMS = {name: f"experiments.{program}" for name, (program, _) in console.COMMANDS.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(completion, "CACHE", tmp_path / "cache" / "completion.json")
    return completion.CACHE


@pytest.mark.parametrize(
    ("shell", "line", "some"),
    [
        ("zsh", "valuelab tr", ["train"]),
        ("zsh", "valuelab completion ", ["bash", "zsh", "fish"]),
        ("zsh", "valuelab list gr", ["gridworlds"]),
        ("zsh", "valuelab train --agent=xq", ["--agent=xql"]),
        ("bash", "valuelab train --agent=xq", ["xql"]),
        ("bash", "valuelab train --agent=iql:pointmaze_go", ["pointmaze_goals"]),
        ("zsh", "valuelab train --agent=iql --agent.expec", ["--agent.expectile="]),
        ("bash", "valuelab train --agent=fql --agent.policy=aw", ["awr"]),
        (
            "zsh",
            "valuelab train --agent=fql --agent.policy=awr --agent.policy.inv",
            ["--agent.policy.inverse_temperature="],
        ),
        ("bash", "valuelab train --data.rewards=d4rl_l", ["d4rl_locomotion"]),
        ("bash", "valuelab ahead-of-time --topology=v5p:4", ["4x4x4"]),
        ("zsh", "valuelab train --nov", []),
        ("zsh", "valuelab solve --objective=mean_v", ["--objective=mean_variance"]),
        ("zsh", "valuelab inspect exorl/walker-rnd-ru", ["exorl/walker-rnd-run"]),
        ("fish", "valuelab train --workdir='run", []),
        ("zsh", f"valuelab train --agent={__file__} --num_se", ["--num_seeds="]),  # the file is not executed
        ("zsh", "valuelab nothing --x", []),
    ],
)
def test_words_are_completed(shell, line, some):
    assert completion.complete(PROGRAMS, shell, line) == some


def test_found_flags_are_kept_until_valuelab_changes(cache):
    line = "valuelab train --agent=iql --agent.expec"
    completion.complete(PROGRAMS, "zsh", line)
    saved = json.loads(cache.read_text())
    saved["kept"]["experiments.train --agent=iql"] = {"agent.expected=": []}
    cache.write_text(json.dumps(saved))
    assert completion.complete(PROGRAMS, "zsh", line) == ["--agent.expected="]
    cache.write_text(json.dumps(saved | {"stamp": "older"}))
    assert completion.complete(PROGRAMS, "zsh", line) == ["--agent.expectile="]
    cache.write_text("{damaged")
    assert completion.complete(PROGRAMS, "zsh", line) == ["--agent.expectile="]


def test_bash_completes_through_its_script(tmp_path):
    """The function of the script, with a program `valuelab` that prints what it is asked."""
    program = tmp_path / "valuelab"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$2" "$3" tail\n')
    program.chmod(0o755)
    line = "valuelab train --agent=i and more"
    commands = f"PATH={tmp_path}:$PATH; {completion.script('bash')}\n"
    commands += f"COMP_LINE='{line}' COMP_POINT=24; _valuelab; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["bash", "valuelab train --agent=i", "tail"]


def test_every_preset_has_a_line():
    known = {preset for agent in flags.known_agents() for preset in flags.presets_in_a_line(agent)}
    assert known == set(DESCRIPTIONS)


def test_lists_name_what_exists():
    for kind in listing.KINDS:
        assert listing.entries(kind), kind
    assert "exorl/walker-rnd-run" in listing.entries("datasets", "exorl")
    assert set(listing.entries("presets", "xql")) == {
        "xql:pointmaze",
        "xql:d4rl_locomotion",
        "xql:d4rl_antmaze",
    }
    for arguments, message in (
        (("agent",), "unknown list 'agent': did you mean 'agents'"),
        (("datasets", "exorll"), "unknown source 'exorll': did you mean 'exorl'"),
        (("objectives", "cvar"), "list objectives takes no further name: leave out 'cvar'"),
    ):
        with pytest.raises(InputError, match=message):
            listing.entries(*arguments)


def test_the_console_program_starts_programs_and_answers(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["valuelab", *words])
        monkeypatch.setattr(sys, "path", list(sys.path))
        console.main()
        return capsys.readouterr().out

    assert "zero-shot" in call()
    assert call("--version").startswith("valuelab ")
    assert "xql:pointmaze" in call("list", "presets", "xql")
    assert "complete -o default" in call("completion", "bash")
    assert "train" in call("complete", "zsh", "valuelab t")
    for words in (["tran"], ["list"], ["completion", "tcsh"]):
        with pytest.raises(SystemExit, match="2"):
            call(*words)
    assert "unknown shell 'tcsh'" in capsys.readouterr().err


def test_flags_of_programs_that_define_them_when_imported():
    command = [sys.executable, "-m", "experiments", "complete", "zsh", "valuelab collect --val"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "--val_episodes=\n"


def test_a_command_is_its_program_and_its_help_lists_presets():
    command = [sys.executable, "-m", "experiments", "train", "--agent=xql", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert DESCRIPTIONS["d4rl_antmaze"] in shown
    assert "--agent.critic.temperature" in shown
