"""experiments.train: its results, error messages, and kills."""

import dataclasses
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import time

import jax
import numpy as np
import pytest
from helpers import (
    CLONING,
    EPISODES,
    LENGTH,
    MAZE,
    MAZE_GOALS,
    ROOT,
    Field,
    assert_same_bits,
    command,
    launch,
    left_behind,
    make_dataset,
    saved_state,
    start,
    write_maze_data,
)

import valuelab
from valuelab import configuration, data, files, types
from valuelab.errors import InputError
from valuelab.runs import flags, inputs, outputs, pictures, results
from valuelab.runs import train as launcher
from valuelab.training import logs


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Paths of agent files are relative to the root, as in the documents."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def field(monkeypatch):
    """Evaluates in a Field instead of the maze."""
    environment = types.Environment(
        name="field", make=Field, tasks={"only": None}, metric="return", score=lambda total, success: total
    )
    monkeypatch.setattr(inputs.environments, "make", lambda *_: environment)


# Results.

CHECKS = """
from valuelab.types import MetricCheck

make_unchecked, CHECK = make_agent, MetricCheck("loss", level=0.0, below=-1e9, meaning="it cannot")


def make_agent(config, spec):
    return make_unchecked(config, spec)._replace(checks=(CHECK,))
"""
"""The end of an agent file: a check that always fails."""


def test_an_agent_file_of_the_user_trains_and_writes_its_results(data_dir, tmp_path, capsys):
    mine = tmp_path / "my_agent.py"
    mine.write_text((ROOT / CLONING).read_text() + CHECKS)
    workdir = tmp_path / "run"
    launch(command(data_dir, workdir, agent=mine, eval_episodes=1))
    result = json.loads((workdir / "result.json").read_text())
    assert (result["agent"], result["dataset"], result["rewards"]) == ("my_agent", MAZE, "none")
    assert (result["steps"], result["num_seeds"]) == (20, 1)
    assert result["eval"]["success"].keys() == {"mean", "ci_low", "ci_high", "per_seed"}
    speeds = {"updates_per_second", "compile_seconds", "train_seconds", "eval_seconds"}
    assert result["throughput"].keys() == speeds
    assert all(result["throughput"][name] > 0 for name in speeds)
    assert result["device"]
    assert result["versions"]["jax"]
    config = json.loads((workdir / "config.json").read_text())
    assert config["settings"]["agent"] == {"hidden_dims": [8], "learning_rate": 3e-4}
    assert config["normalization"]["observation_mean"] is None
    amounts = {"episodes": EPISODES, "transitions": EPISODES * (LENGTH - 1)}
    assert {name: config["data"][name] for name in amounts} == amounts
    assert [row["step"] for row in logs.read_rows(workdir / "metrics.jsonl")] == [5, 10, 15, 20]
    for name in ("curves.png", "maze.png"):  # without a value function, which cloning lacks
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "success (95 % interval over episodes of one seed)" in out
    assert re.search(r"^mean [\d,]+ updates/s on", out, re.MULTILINE)
    assert [warning["members"] for warning in result["warnings"]] == [[{"seed": 0}]]
    assert re.search(r"^warning: loss never fell below -1e\+09 \(lowest .*\): it cannot$", out, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["bc", "ivl"])
def test_a_run_with_goals_draws_all_of_them(data_dir, tmp_path, agent):
    settings = {"dataset": MAZE_GOALS, "eval_episodes": 1, "eval_max_steps": 20, "num_seeds": 2}
    if agent == "ivl":
        settings |= {"agent.critic.hidden_dims": 8, "agent.policy.hidden_dims": 8}
    arguments = command(data_dir, tmp_path, agent=agent, **settings)
    launch([each for each in arguments if agent == "bc" or not each.startswith("--agent.hidden_dims")])
    assert (tmp_path / "goals.png").read_bytes().startswith(b"\x89PNG")  # cloning has no values


def test_the_title_of_a_maze_names_the_member_and_the_number_of_episodes():
    config = dataclasses.replace(flags.load_agent("iql")[0], steps=3000, num_seeds=2)
    alone, seeds = dataclasses.replace(config, num_seeds=1), configuration.population(config)
    swept = configuration.population(dataclasses.replace(config, sweep=("agent.expectile=0.7,0.9",)))
    assert pictures.maze_title(alone, configuration.population(alone), 0) == "iql after 3,000 updates"
    assert pictures.maze_title(config, seeds, 1).split("\n")[1:] == ["seed=0", "1 episode"]
    assert pictures.maze_title(config, swept, 10).split("\n")[1:] == ["expectile=0.7, seed=0", "10 episodes"]


def test_a_sweep_has_an_entry_for_each_setting_and_a_table_that_ranks_them(data_dir, tmp_path, field, capsys):
    settings = {"num_seeds": 2, "eval_episodes": 3, "batch_size": 2, "eval_every": 10}
    checked = tmp_path / "checked.py"
    checked.write_text((ROOT / CLONING).read_text() + CHECKS)
    swept = {"sweep": "agent.learning_rate=0.001,0.1", "agent": checked} | settings
    launch(command(data_dir, tmp_path / "swept", **swept))
    out, err = capsys.readouterr()
    result = json.loads((tmp_path / "swept" / "result.json").read_text())
    assert not {"eval", "interquartile_mean", "tasks"} & result.keys()  # no number mixes settings
    found = {setting["agent.learning_rate"]: setting["eval"]["return"] for setting in result["settings"]}
    assert list(found) == [0.001, 0.1]
    for rate, interval in found.items():  # equals a run with this setting alone
        alone = tmp_path / f"alone-{rate}"
        launch(command(data_dir, alone, agent__learning_rate=rate, **settings))
        expected = json.loads((alone / "result.json").read_text())["eval"]["return"]
        assert interval["per_seed"] == pytest.approx(expected["per_seed"], abs=1e-3)
        assert interval["ci_low"] == pytest.approx(expected["ci_low"], abs=1e-3)
    shown = re.findall(r"^│\s+(0\.\d+) │\s+(-?\d+\.\d+) \(", out, re.MULTILINE)
    ranked = sorted(found, key=lambda rate: -found[rate]["mean"])
    assert [float(rate) for rate, _ in shown] == ranked
    assert "over 2 seeds" in out
    assert result["best_setting"] == {"agent.learning_rate": ranked[0]}
    assert f"best setting: agent.learning_rate={ranked[0]}, return " in out
    assert (tmp_path / "swept" / "sweep.png").exists()
    (warning,) = result["warnings"]
    assert [member["seed"] for member in warning["members"]] == [0, 1, 0, 1]
    assert "in 2 of 2 seeds of learning_rate=0.001, 2 of 2 seeds of learning_rate=0.1 (lowest " in out
    assert f"warning: {warning['text']}\n" in out
    launch(command(data_dir, tmp_path / "swept", **swept))
    assert f"warning: {warning['text']}\n" in capsys.readouterr().out  # of a finished run too
    for rate, interval in found.items():
        assert f"agent.learning_rate={rate}  length 5.00  return {interval['mean']:.2f}" in err


def test_a_smoke_run_is_short_and_is_not_mistaken_for_a_run(data_dir, tmp_path, field, capsys):
    settings = {"eval_episodes": 5, "steps": 400, "log_every": 100, "eval_every": 7}
    launch(command(data_dir, tmp_path, smoke=True, **settings))
    shown = capsys.readouterr().out
    assert "this was a smoke run of 20 updates: its scores mean nothing\n" in shown
    assert shown.endswith("next: the same command without --smoke, and with another --workdir\n")
    assert json.loads((tmp_path / "result.json").read_text())["smoke"] is True
    assert [row["step"] for row in logs.read_rows(tmp_path / "metrics.jsonl")] == [5, 10, 15, 20]
    with np.load(tmp_path / "episodes.npz") as table:
        assert table["step"].tolist() == [20]
    message = rf"config\.json belongs to a smoke run: give another --workdir, or remove {tmp_path}$"
    with pytest.raises(InputError, match=message):
        launch(command(data_dir, tmp_path, **settings))
    launch(command(data_dir, tmp_path, smoke=True, **settings))
    assert capsys.readouterr().out.startswith(f"{tmp_path} is done already")


def test_the_end_of_a_run_says_what_comes_next(data_dir, tmp_path, capsys):
    launch(command(data_dir, tmp_path / "run"))
    workdir = tmp_path / "run"
    end = f'next: valuelab.load("{workdir}", trust_agent_file=True).policy() in Python\n'
    assert capsys.readouterr().out.endswith(end)
    config = dataclasses.replace(flags.load_agent("iql")[0], dataset=MAZE)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "critic/q_loss": 1.0}\n')
    assert results.next_steps(config, workdir)[1:] == [
        f"python -m experiments.diagnose --checkpoint={workdir} --workdir={workdir}-diagnosed"
    ]
    own = dataclasses.replace(config, agent_source="mine.py:maze", seed=3)
    assert results.next_steps(own, workdir, {"agent.expectile": 0.9})[0] == (
        f'valuelab.load("{workdir}", trust_agent_file=True)'
        '.member(**{"agent.expectile": 0.9}, seed=3).policy() in Python'
    )
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 22, "eval/objective": 1.0, "eval/objective/tau=0.1": 1.0}\n')
    config = flags.load_agent("eta_network")[0]
    assert results.next_steps(config, workdir) == [f'valuelab.load("{workdir}").command("tau=0.1") in Python']


@pytest.mark.slow
def test_streamed_data_give_the_same_bits(data_dir, tmp_path):
    on_device, streamed = tmp_path / "on_device", tmp_path / "streamed"
    launch(command(data_dir, on_device, data__compact=True))
    launch(command(data_dir, streamed, data__stream=True))
    assert_same_bits(saved_state(on_device, 20), saved_state(streamed, 20))
    digests = [json.loads((run / "config.json").read_text())["data"] for run in (on_device, streamed)]
    assert digests[0] == digests[1]


def test_an_agent_that_sees_two_observations_at_once(data_dir, tmp_path):
    launch(command(data_dir, tmp_path, **{"data.num_frames": 2, "data.normalize_observations": True}))
    saved = saved_state(tmp_path, 20)["states"]
    kernels = [leaf for leaf in jax.tree.leaves(saved) if leaf.ndim == 3 and leaf.shape[1] == 4]
    assert kernels, "no first layer sees two places"
    normalization = json.loads((tmp_path / "config.json").read_text())["normalization"]
    assert normalization["observation_mean"][:2] == normalization["observation_mean"][2:]


@pytest.mark.parametrize(
    "agent", ["bc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("iql", "fql"))]
)
def test_agents_train_on_ogbenchs_images(tmp_path, agent):
    name, images = "visual-cube-single-play-v0", np.random.default_rng(0).integers(0, 256, (45, 16, 16, 3))
    changes = {"observations": images.astype(np.uint8), "actions": np.zeros((45, 5), np.float32)}
    path = write_maze_data(tmp_path, **changes)
    path.rename(path.with_name(f"{name}.npz"))
    shift = {"data.image_shift.pixels": 3, "data.image_shift.probability": 0.5}
    encoder = "agent.policy.encoder" if agent == "fql" else "agent.encoder"
    settings = {"dataset": f"ogbench/{name}", "steps": 2, "data.num_frames": 2, encoder: "drq", **shift}
    arguments = command(tmp_path, tmp_path / "run", agent=agent, **settings)
    launch([argument for argument in arguments if "hidden_dims" not in argument])
    saved = saved_state(tmp_path / "run", 2)["states"]
    # One member; windows of 3 x 3 pixels; two frames of observation and of goal, 3 channels each.
    assert any(leaf.shape == (1, 3 * 3 * 12, 32) for leaf in jax.tree.leaves(saved))


def test_evaluating_more_often_changes_no_bit(data_dir, tmp_path, field):
    never = command(data_dir, tmp_path / "never")
    often = command(data_dir, tmp_path / "often", eval_every=3, eval_episodes=2)
    for arguments in (never, often):
        launch(arguments)
    assert_same_bits(*(saved_state(tmp_path / name, 20)["states"] for name in ("never", "often")))


def test_an_episode_that_does_not_end_is_cut_with_a_warning(data_dir, tmp_path, field, caplog):
    launch(command(data_dir, tmp_path, eval_episodes=2, eval_max_steps=3))
    with np.load(tmp_path / "episodes.npz") as table:
        assert table["length"].tolist() == [3, 3]
    message = "2 episodes in field did not end and were cut after 3 steps (eval_max_steps)"
    assert message in caplog.text


def test_lost_episodes_are_played_again(data_dir, tmp_path, field, caplog):
    arguments = command(data_dir, tmp_path, eval_episodes=2, eval_every=10)
    launch(arguments)
    before = left_behind(tmp_path)
    (tmp_path / "result.json").unlink()
    (tmp_path / "episodes.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"episodes\.npz is not a table of episodes .*: move it away"):
        launch(arguments)
    (tmp_path / "episodes.npz").unlink()
    launch(arguments)
    assert caplog.text == ""
    after = left_behind(tmp_path)
    assert after["rows"] == before["rows"]
    assert after["episodes"]["score"] == before["episodes"]["score"][-2:]
    assert (tmp_path / "result.json").exists()


def test_a_finished_run_says_so(data_dir, tmp_path, capsys):
    launch(command(data_dir, tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    shown = capsys.readouterr().out
    launch(command(data_dir, tmp_path))
    said = f"{tmp_path} is done already; give another --workdir to train again\n"
    assert capsys.readouterr().out == said + shown  # the table and the line below it
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_with_more_steps_equals_one_that_had_them_from_the_start(data_dir, tmp_path, field, capsys):
    def arguments(workdir, steps):
        return command(data_dir, workdir, steps=steps, eval_every=10, eval_episodes=2, num_seeds=2)

    straight, grown = tmp_path / "straight", tmp_path / "grown"
    launch(arguments(straight, 20))
    # A last row that stays, one that goes, and one that stays without its evaluation.
    for steps in (10, 12, 15, 20):
        launch(arguments(grown, steps))
        assert json.loads((grown / "result.json").read_text())["steps"] == steps
    assert_same_bits(saved_state(straight, 20), saved_state(grown, 20))
    assert left_behind(straight) == left_behind(grown)
    results = [json.loads((folder / "result.json").read_text()) for folder in (straight, grown)]
    assert results[0]["eval"] == results[1]["eval"]
    message = (
        r"config.json belongs to a longer run \(steps was 20 and is 12\): a run can be made longer but not "
        r"shorter, so give a larger number, or another --workdir$"
    )
    with pytest.raises(InputError, match=message):
        launch(arguments(grown, 12))


def test_a_run_that_dies_while_it_becomes_longer_goes_on(data_dir, tmp_path, field, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    short, longer = (command(data_dir, tmp_path, steps=steps, eval_episodes=2) for steps in (6, 9))
    launch(short)
    before = left_behind(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_config", die)
        with pytest.raises(SystemExit):
            launch(longer)
    assert not (tmp_path / "result.json").exists()
    launch(short)  # the old length is possible again
    assert left_behind(tmp_path) == before
    with monkeypatch.context() as patch:
        patch.setattr(launcher, "learn", die)
        with pytest.raises(SystemExit):
            launch(longer)
    launch(longer)
    assert [row["step"] for row in left_behind(tmp_path)["rows"]] == [5, 9]
    assert set(left_behind(tmp_path)["episodes"]["step"]) == {9}


def test_a_run_without_a_good_checkpoint_is_not_made_longer_and_keeps_its_result(data_dir, tmp_path):
    short, longer = (command(data_dir, tmp_path, steps=steps) for steps in (6, 9))
    launch(short)
    kept = ("config.json", "metrics.jsonl", "result.json")
    before = [(tmp_path / name).read_bytes() for name in kept]
    checkpoints = tmp_path / "checkpoints"
    for path in checkpoints.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError, match="none of the checkpoints under"):
        launch(longer)
    assert [(tmp_path / name).read_bytes() for name in kept] == before
    shutil.rmtree(checkpoints)
    with pytest.raises(
        InputError, match=f"^{tmp_path} has a result but no checkpoint .* after 6 updates: give"
    ):
        launch(longer)
    assert [(tmp_path / name).read_bytes() for name in kept] == before


def test_an_agent_with_a_schedule_is_not_made_longer(data_dir, tmp_path):
    mine, workdir = tmp_path / "mine.py", tmp_path / "run"
    text = (ROOT / CLONING).read_text()
    rate = "optax.adam(config.learning_rate)"
    assert rate in text
    schedule = "optax.adam(optax.cosine_decay_schedule(config.learning_rate, spec.num_updates))"
    mine.write_text(text.replace(rate, schedule))
    launch(command(data_dir, workdir, agent=mine))
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    message = (
        "^steps was 20 and is 30, but mine learns by a schedule over all steps of a run, such as a cosine: "
        f"give another --workdir and --init_from={workdir}$"
    )
    with pytest.raises(InputError, match=message):
        launch(command(data_dir, workdir, agent=mine, steps=30))
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_another_config_is_refused_with_both_values(data_dir, tmp_path):
    launch(command(data_dir, tmp_path))
    message = (
        r"config.json belongs to another run \(agent.learning_rate was 0.0003, is 0.1; seed was 0, is 3\): "
        "give another --workdir"
    )
    with pytest.raises(InputError, match=message):
        launch(command(data_dir, tmp_path, agent__learning_rate=0.1, seed=3))
    launch(command(data_dir, tmp_path, log_every=1, checkpoint_every=0, mesh="1,2"))  # changes no result


def test_a_second_process_on_a_workdir_is_refused_and_changes_nothing(data_dir, tmp_path, nothing_trains):
    with files.locked(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(
            InputError, match=r"in use by process \d+ on .*: wait .*, or give another --workdir$"
        ):
            launch(command(data_dir, tmp_path))
        assert sorted(tmp_path.rglob("*")) == before


def test_a_run_resumes_only_with_the_same_data_and_settings(tmp_path):
    data_dir, workdir = tmp_path / "data", tmp_path / "run"
    path = write_maze_data(data_dir)
    launch(command(data_dir, workdir))
    for name in ("result.json", "config.json"):  # only the checkpoints are left
        (workdir / name).unlink()
    refused = "^the checkpoints under .*/checkpoints belong to another run "
    message = rf"{refused}\(agent.learning_rate was 0.0003, is 0.1\): give another --workdir"
    with pytest.raises(InputError, match=message):
        launch(command(data_dir, workdir, agent__learning_rate=0.1))
    before = path.read_bytes()
    with np.load(path) as arrays:  # the same actions, two of them swapped
        write_maze_data(data_dir, actions=arrays["actions"][[1, 0, *range(2, len(arrays["actions"]))]])
    with pytest.raises(InputError, match=rf"{refused}\(data.digests.actions was '\w{{8}}', is '\w{{8}}'\)"):
        launch(command(data_dir, workdir))
    path.write_bytes(before)
    launch(command(data_dir, workdir))
    assert (workdir / "result.json").exists()


def test_a_run_that_failed_before_its_first_results_leaves_its_workdir_free(data_dir, tmp_path):
    mine, workdir = tmp_path / "mine.py", tmp_path / "run"
    mine.write_text((ROOT / CLONING).read_text().replace("-jnp.mean", "1 / 0 * jnp.mean"))
    with pytest.raises(ZeroDivisionError):
        launch(command(data_dir, workdir, agent=mine))
    failed = (workdir / "config.json").read_text()
    mine.write_text((ROOT / CLONING).read_text())
    for other, text in (("metrics.jsonl", failed), ("config.json", '{"settings": {}, "batch_size": 8}')):
        before = (workdir / other).read_text() if (workdir / other).exists() else None
        (workdir / other).write_text(text)
        with pytest.raises(InputError, match=r"has changed since the run|belongs to another run"):
            launch(command(data_dir, workdir, agent=mine))
        (workdir / other).unlink() if before is None else (workdir / other).write_text(before)
    launch(command(data_dir, workdir, agent=mine, batch_size=8))
    assert json.loads((workdir / "result.json").read_text())["steps"] == 20


def test_a_run_does_not_resume_with_an_agent_file_that_has_changed(data_dir, tmp_path, capsys):
    mine, workdir = tmp_path / "mine.py", tmp_path / "run"
    mine.write_text((ROOT / CLONING).read_text())
    arguments = command(data_dir, workdir, agent=mine)
    launch(arguments)
    saved = json.loads((workdir / "config.json").read_text())
    text = mine.read_text()
    mine.write_text(text + "\n")
    with pytest.raises(InputError, match=rf"^{mine} has changed since the run in {workdir} began: restore"):
        valuelab.load(workdir, trust_agent_file=True)
    message = (
        rf"^{mine} has changed since the run in {workdir} began: give another --workdir, or restore the file$"
    )
    with pytest.raises(InputError, match=message):
        launch(arguments)
    for name in ("result.json", "config.json"):  # only the checkpoints are left
        (workdir / name).unlink()
    with pytest.raises(
        InputError, match=r"checkpoints belong to another run \(files.agent_source was '\w{64}', is"
    ):
        launch(arguments)
    mine.write_text(text)
    launch(arguments)
    assert json.loads((workdir / "config.json").read_text()) == saved
    del saved["files"]  # as an older version wrote it
    (workdir / "config.json").write_text(json.dumps(saved))
    mine.write_text(text + "\n")
    capsys.readouterr()
    launch(arguments)
    assert "is done already" in capsys.readouterr().out


def test_the_config_of_a_finished_run_stays(tmp_path):
    outputs.write_config(tmp_path, {"steps": 1})
    outputs.write_config(tmp_path, {"steps": 2})
    outputs.write_json(tmp_path / "result.json", {})
    outputs.write_config(tmp_path, {"steps": 3})
    assert json.loads((tmp_path / "config.json").read_text()) == {"steps": 2}


def test_without_matplotlib_a_run_ends_without_pictures(data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    launch(command(data_dir, tmp_path))
    assert (tmp_path / "result.json").exists()
    assert not list(tmp_path.glob("*.png"))
    assert "'valuelab[plots]'" in capsys.readouterr().out


def test_a_picture_that_fails_keeps_the_result_and_is_drawn_by_the_same_command(
    data_dir, tmp_path, monkeypatch, capsys
):
    given = command(data_dir, tmp_path, eval_episodes=2, num_seeds=2)
    trajectories, draw_maze = [], pictures.plots.maze

    def curves(*_, **__):
        raise RuntimeError("out of\nink")

    def maze(*arguments, **settings):
        trajectories.append(settings["trajectories"])
        draw_maze(*arguments, **settings)

    monkeypatch.setattr(pictures.plots, "maze", maze)

    with monkeypatch.context() as broken:
        broken.setattr(pictures.plots, "curves", curves)
        launch(given)
    assert "warning: curves.png was not drawn: RuntimeError: out of ink\n" in capsys.readouterr().out

    def stamps():
        names = ("config.json", "episodes.npz", "maze.png", "result.json")
        return {name: (tmp_path / name).stat().st_mtime_ns for name in names}

    drawn, before = (tmp_path / "maze.png").read_bytes(), stamps()
    launch(given)
    assert capsys.readouterr().out.startswith(
        f"{tmp_path} is done except pictures, which will be drawn now\n"
    )
    assert (tmp_path / "curves.png").exists()
    assert stamps() == before
    (tmp_path / "maze.png").unlink()
    (tmp_path / outputs.UNDRAWN).write_text("maze.png\n")
    launch(given)  # plays its episodes again
    assert (tmp_path / "maze.png").read_bytes() == drawn
    assert_same_bits(*trajectories)
    capsys.readouterr()
    launch(given)
    assert "is done already" in capsys.readouterr().out
    launch([*given, "--formats=svg"])
    assert " is done except curves.svg, maze.svg, which will be drawn" in capsys.readouterr().out
    assert all((tmp_path / name).exists() for name in ("curves.svg", "maze.svg"))
    assert stamps() | {"maze.png": 0} == before | {"maze.png": 0}
    launch([*given, "--formats=svg"])
    assert " is done already" in capsys.readouterr().out


def test_a_film_is_checked_before_training_starts(data_dir, tmp_path, field, nothing_trains):
    with pytest.raises(InputError, match=r"^field cannot be filmed because it has no render_mode"):
        launch(command(data_dir, tmp_path, video=True, eval_episodes=1))


def test_a_folder_that_cannot_be_written_is_refused_before_training_starts(
    data_dir, tmp_path, nothing_trains, monkeypatch
):
    def refuse(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root can write everywhere
    with pytest.raises(InputError, match=r"^.* cannot be written \(.*Permission denied\): give another --"):
        launch(command(data_dir, tmp_path))


class Broken(Field):
    """A Field that has NaN as reward from some starts."""

    def step(self, action):
        seen, reward, *rest = super().step(action)
        return seen, reward if reward < 0 else np.nan, *rest


def test_episodes_without_a_score_are_listed_and_the_files_stay_valid(
    data_dir, tmp_path, monkeypatch, capsys
):
    environment = types.Environment(
        name="field", make=Broken, tasks={"only": None}, metric="return", score=lambda total, success: total
    )
    monkeypatch.setattr(inputs.environments, "make", lambda *_: environment)
    message = r"^warning: (\d+) episodes have a return or score .* \(seed 0, task only, episode \d+"
    for _ in range(2):  # the second time the run is done
        with pytest.raises(SystemExit) as stopped:
            launch(command(data_dir, tmp_path, eval_episodes=8))
        assert stopped.value.code == 1
        assert re.search(message, capsys.readouterr().err, re.MULTILINE)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    result = json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)
    assert result["eval"]["return"]["mean"] is None
    assert 0 < len(result["without_score"]) < 8
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


# Error messages: arguments that are added to those of a valid run, and the message. The tests of flags,
# configs, meshes and readers of data test their own messages.

BAD = [
    ({"agent__learning_rat": 1}, r"^unknown flag 'agent.learning_rat': did you mean 'agent.learning_rate'"),
    ({"batch_size": 20, "mesh": ""}, "^batch_size 20 is not divisible by the data axis of 8"),
    ({"dataset": ""}, "^no dataset is given: write --dataset="),
    ({"dataset": "obgench/x"}, "^unknown data source 'obgench': did you mean 'ogbench'"),
    ({"dataset": "nowhere.hdf5"}, "^.*nowhere.hdf5"),
    (
        {"dataset": "ogbench/pointmaze-large-navigate-singletask-v0"},
        "pointmaze-large-navigate-v0.npz does not exist, and http.* cannot be downloaded .*: "
        "collect it with: python -m experiments.collect --dataset=ogbench/pointmaze-large-navigate-v0",
    ),
    (
        {"data__stream": True, "online_steps": 5, "steps": 5},
        "^data.stream works only without online_steps: leave out one of them",
    ),
    ({"workdir": ""}, "^no workdir is given: write --workdir="),
    (
        {"workdir": "gs://bucket/run"},
        "^workdir is gs://bucket/run, but must be on this machine: give the path",
    ),
    ({"data_dir": "s3://bucket"}, "^data_dir is s3://bucket, but must be on this machine: give the"),
    ({"video": True}, "^--video films evaluation episodes, but eval_episodes is 0: leave out one of them"),
    ({"wandb_entity": "lab"}, "^wandb_entity is given without wandb_project: give --wandb_project=NAME, too"),
    ({"wandb_project": "x", "wandb_tags": "a,,b"}, "^wandb_tags is 'a,,b', with an empty name"),
    ({"formats": "pdf,jpg"}, "^unknown format in formats 'jpg'"),
    ({"sweep": "agent.learning_rate=0.1,0.10"}, "^sweep of agent.learning_rate has 0.1 twice: give each val"),
    ({"workdir": f"{CLONING}/run"}, "^folder .*/run cannot be made .*: give another --workdir"),
    (
        {"distributed": True},
        "^the hosts of a distributed run could not connect .*: on each host, set JAX_COOR",
    ),
]


@pytest.fixture
def nothing_trains(monkeypatch):
    """Asserts that errors come before any update, without a network."""

    def train(*_, **__):
        raise AssertionError("it went as far as training")

    def urlopen(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(launcher, "train", train)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)


@pytest.mark.parametrize(
    ("settings", "message"), BAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_invalid_settings_give_one_line(data_dir, tmp_path, nothing_trains, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        launch(command(data_dir, tmp_path / "run", **settings))
    assert "\n" not in str(caught.value)


def test_an_agent_that_does_not_fit_the_data_names_both(tmp_path, monkeypatch):
    same = dataclasses.replace(make_dataset(), rewards=np.full(len(make_dataset().rewards), -1, np.float32))
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: same)
    arguments = command(tmp_path, tmp_path / "run", agent="floq", dataset="made_up/walks")
    message = r"^floq cannot be made for made_up/walks: rewards lie in \[-1, -1\]: this critic"
    with pytest.raises(InputError, match=message):
        launch([argument for argument in arguments if "agent.hidden_dims" not in argument])
    assert not (tmp_path / "run" / "config.json").exists()  # so that the corrected command can use the folder


FILE = r"^.*/ogbench/pointmaze-medium-navigate-v0.npz"


def test_faults_of_data_name_file_key_and_row(tmp_path, nothing_trains):
    places = np.zeros((45, 2), np.float32)
    places[13] = np.nan
    write_maze_data(tmp_path / "data", observations=places)
    with pytest.raises(InputError, match=FILE + ": observations is nan at row 13, but must be") as caught:
        launch(command(tmp_path / "data", tmp_path / "run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda whole: whole[: len(whole) // 2],
            r" cannot be read \(.*\): it is truncated, corrupt or of ano",
        ),
        (lambda whole: b"", " cannot be read"),
        (lambda whole: b"no archive", " cannot be read"),
        (
            lambda whole: whole.replace(b"terminals.npy", b"somethin_.npy"),
            ": key 'terminals' is missing; the file has ",
        ),
    ],
    ids=["truncated", "empty", "text", "layout"],
)
def test_a_damaged_file_is_named(tmp_path, nothing_trains, content, message):
    path = write_maze_data(tmp_path / "data")
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(InputError, match=FILE + message) as caught:
        launch(command(tmp_path / "data", tmp_path / "run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "extra", "settings"),
    [
        ("ogbench", "environments", {}),
        ("gymnasium", "environments", {"eval_episodes": 1}),
        ("h5py", "data", {"dataset": "any.hdf5"}),
        ("minari", "data", {"dataset": "minari/D4RL/door/human-v2"}),
        ("tensorflow_datasets", "data", {"dataset": "rlds/anything"}),
    ],
)
def test_a_missing_extra_is_named(tmp_path, data_dir, nothing_trains, monkeypatch, missing, extra, settings):
    for name in list(sys.modules):
        if name.split(".")[0] == missing:
            monkeypatch.setitem(sys.modules, name, None)  # makes the import fail
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "any.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)
    settings = {"agent": ROOT / CLONING} | settings
    with pytest.raises(InputError, match=rf"{missing}.* is not installed: .*'valuelab\[{extra}\]'") as caught:
        launch(command(data_dir, tmp_path / "run", **settings))
    assert "\n" not in str(caught.value)


def test_a_full_disk_gives_one_line(data_dir, tmp_path, monkeypatch):
    def write(self, rows):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    monkeypatch.setattr(logs.MetricsFile, "write", write)
    with pytest.raises(
        InputError, match=r"cannot be written .*No space left on device.*: free some disk space; the same"
    ):
        launch(command(data_dir, tmp_path))


def test_the_program_ends_with_status_2_and_one_line(data_dir, tmp_path):
    program = start(command(data_dir, tmp_path, mesh="2,4", num_seeds=3))
    output, message = program.communicate()
    assert program.returncode == 2
    assert output == ""
    assert re.fullmatch(r"error: the 3 member\(s\) are not divisible by the seed axis of 2: .*\n", message)


# Kills and restarts.


def wait_until(condition, program, seconds=300.0):
    """Waits for a condition while the program runs."""
    limit = time.monotonic() + seconds
    while not condition() and program.poll() is None:
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.003)


def saved_step(workdir: pathlib.Path) -> int:
    """The step of the newest checkpoint; 0 without checkpoints."""
    return max(
        (int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()), default=0
    )


def is_saving(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint is being written, or an unfinished one is there."""
    return any((workdir / "checkpoints").glob("*-tmp*"))


def assert_same_run(one: pathlib.Path, other: pathlib.Path, steps: int):
    """Asserts that two runs have the same states, logs and episodes, bit for bit."""
    assert_same_bits(saved_state(one, steps), saved_state(other, steps))
    assert left_behind(one) == left_behind(other)


def stop(arguments, workdir: pathlib.Path, number: int, seconds: float, while_saving: bool):
    """Starts a run, stops it some time after a checkpoint, and returns its status and messages."""
    before = saved_step(workdir)
    program = start(arguments)
    wait_until(lambda: saved_step(workdir) > before, program)
    time.sleep(seconds)
    if while_saving:
        wait_until(lambda: is_saving(workdir), program)
    program.send_signal(number)
    message = program.communicate()[1]
    return program.returncode, message


@pytest.mark.slow
def test_a_killed_and_interrupted_run_ends_with_the_same_bits(data_dir, tmp_path):
    """IQL's state has every part; half of the kills happen while a checkpoint is written."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    settings = {"agent": "iql:pointmaze", "steps": 2000, "log_every": 50, "checkpoint_every": 0}
    settings |= {"eval_every": 500, "eval_episodes": 1}
    launch(command(data_dir, straight, **settings))
    arguments = command(data_dir, stopped, **settings | {"checkpoint_every": 10})
    random = np.random.default_rng(0)
    for kill in range(4):
        seconds = random.uniform(0, 0.5)
        status, _ = stop(arguments, stopped, signal.SIGKILL, seconds, while_saving=kill % 2 == 0)
        assert status == -signal.SIGKILL, "it had ended before: take more steps"
    status, errors = stop(arguments, stopped, signal.SIGINT, 0, while_saving=False)
    assert status == 130, errors
    message = r"^stopped after update \d+ of 2000; the state is saved, and the same command resumes from it$"
    assert re.search(message, errors, re.MULTILINE)
    launch(command(data_dir, stopped, **settings))
    assert_same_run(straight, stopped, 2000)


# Learning.


@pytest.mark.slow
def test_the_command_of_the_documents_learns_the_maze(shared_data, tmp_path):
    launch(
        [
            "--agent=iql:pointmaze",
            f"--dataset={MAZE}",
            f"--data_dir={shared_data}",
            f"--workdir={tmp_path}",
            "--mesh=1,1",
            "--steps=10000",
        ]
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["eval"]["success"]["mean"] >= 0.95
