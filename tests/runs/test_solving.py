"""experiments.solve: its results, and error messages."""

import json
import subprocess
import sys

import numpy as np
import pytest
from absl import flags as absl_flags
from helpers import ROOT

from valuelab.distributional import defaults, gridworlds, mdps
from valuelab.errors import InputError
from valuelab.evaluation import distributional_plots, solutions
from valuelab.runs import api, outputs, solving


def launch(workdir, /, **settings):
    """Runs the program in this process, and returns result.json."""
    given = [f"--{name}={value}" for name, value in ({"workdir": workdir, "plots": False} | settings).items()]
    solving.main(solving.parse(["solve", *given], absl_flags.FlagValues()))

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads((workdir / "result.json").read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two MDPs by name.

    gamble: in state 0, action 0 ends with 1; action 1 ends with -2, or, half of the time, goes on with 1 to
    state 1, which ends with 2 or 4. So the returns of going on well are -2 and 5, by halves.

    needs: in state 0, either action ends, with (3, 1) or with (0, 5).
    """
    folder = tmp_path_factory.mktemp("mdps")
    transitions, rewards = np.zeros((2, 3, 2, 3))
    transitions[0, 0, 2], rewards[0, 0, 2] = 1, 1
    transitions[0, 1, 1:], rewards[0, 1, 1:] = 0.5, (1, -2)
    transitions[1, :, 2], rewards[1, :, 2] = 1, (2, 4)
    terminal = np.array([False, False, True])
    np.savez(folder / "gamble.npz", transitions=transitions, rewards=rewards, terminal=terminal)
    np.savez(folder / "halves.npz", transitions=transitions / 2, rewards=rewards, terminal=terminal)
    transitions, rewards = np.zeros((2, 2, 2)), np.zeros((2, 2, 2, 2))
    transitions[..., 1], rewards[0, :, 1] = 1, ((3, 1), (0, 5))
    np.savez(folder / "needs.npz", transitions=transitions, rewards=rewards)
    return folder


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


# Results.


@pytest.fixture(scope="module")
def gamble(files):
    """The folder and result of 0.95-CVaR in two steps, with pictures.

    Of the gamble's returns the worst 0.95 are -2 with 0.5 and 5 with 0.45: (-1 + 2.25) / 0.95 = 25 / 19, more
    than the certain 1. The 0.95-quantile is 5, so c0 = -5. State 1 gives 4 for certain.
    """
    workdir = files / "gamble"
    given = {"mdp": files / "gamble.npz", "discount": 1, "horizon": 2, "objective": "cvar", "tau": 0.95}
    return given, workdir, launch(workdir, **given, plots=True)


def test_the_optimum_from_every_state(gamble):
    _, _, result = gamble
    assert result["start_values"] == pytest.approx([25 / 19, 4, 0], abs=1e-9)
    assert result["start_stocks"] == pytest.approx([-5, -4, 0], abs=1e-9)
    assert (result["error_bound"], result["off_grid_mass"], result["exact"]) == (0, 0, True)
    assert result["distribution_off_grid_mass"] == 0
    assert result["sweeps"] == 2
    assert result["unsound"] is None
    assert (result["objective"], result["parameters"]) == ("cvar", {"tau": 0.95})
    assert (result["discount"], result["horizon"], result["problem"]) == (1.0, 2, None)
    assert result["mdp"].endswith("gamble.npz")
    assert result["seconds"] > 0
    sizes = result["sizes"]
    assert (sizes["states"], sizes["actions"], sizes["outcomes"], sizes["reward_components"]) == (3, 2, 2, 1)


def test_arrays_hold_return_distributions_values_and_the_policy(gamble):
    _, workdir, result = gamble
    with np.load(workdir / "arrays.npz", allow_pickle=False) as arrays:
        place = np.flatnonzero(arrays["stocks"][:, 0] == -5)[0]
        assert arrays["policy_0"][0, place] == 1
        # E min(c + G, 0) at c = -5: -7 with probability 1/2.
        assert arrays["values"][0, place] == pytest.approx(-3.5)
        shape = (*arrays["values"].shape, result["sizes"]["atoms"])
        probabilities = np.broadcast_to(arrays["probabilities"], shape)[0, place]
        atoms = np.broadcast_to(arrays["atoms"], (*shape, 1))[0, place, :, 0]
        for value in (-2, 5):
            assert probabilities[atoms == value].sum() == pytest.approx(0.5)


def test_arrays_are_enough_to_follow_the_policy(gamble):
    """The gamble, and in state 1 the action that gives 4: first stock -5, then -5 + 1."""
    _, workdir, _ = gamble
    with np.load(workdir / "arrays.npz", allow_pickle=False) as arrays:
        state, stock, actions = 0, arrays["start_stocks"][0], []
        assert arrays["chances"][0] == 0
        for step, (reward, next_state) in enumerate([(1, 1), (4, 2)]):
            place = np.abs(arrays[f"stocks_{step}"] - stock).sum(1).argmin()
            actions.append(arrays[f"policy_{step}"][state, place])
            state, stock = next_state, (stock + reward) / arrays["discount"]
    assert (actions, stock) == ([1, 1], 0)


def test_config_json_holds_settings_and_versions(gamble):
    _, workdir, _ = gamble
    config = json.loads((workdir / "config.json").read_text())
    assert config["settings"]["tau"] == 0.95
    assert len(config["settings"]["mdp_sha256"]) == 64
    assert config["versions"]["jax"]
    assert config["device"]


def test_pictures_are_drawn(gamble):
    pytest.importorskip("matplotlib")
    _, workdir, _ = gamble
    for name in ("policy.png", "distributions.png", "tradeoff.png"):
        assert is_picture(workdir / name)


def test_the_tradeoff_is_that_of_each_level_alone(files, tmp_path, monkeypatch):
    """The best 0.3 of the gamble is 5; the best 0.6 is (0.5 · 5 - 0.1 · 2) / 0.6; its mean is 1.5."""
    monkeypatch.setattr(solutions, "LEVELS", np.array([0.3, 0.6, 1.0]))
    given = {"mdp": str(files / "gamble.npz"), "discount": 1.0, "objective": "upper_cvar", "tau": 0.1}
    _, task = solving.resolve(solving.SolveConfig(workdir=str(tmp_path), **given))
    solved = defaults.solve(task.mdp, task.objective, discount=1.0)
    assert solved.start.values[0] == pytest.approx(5)
    dial = solutions.make_dial(task, solved)
    curves = solutions._level_curves(distributional_plots, task, dial)
    np.testing.assert_allclose(curves[0].x, [0.1, 0.3, 0.6, 1])
    np.testing.assert_allclose(curves[0].y, [5, 5, 23 / 6, 1.5])
    np.testing.assert_allclose(curves[1].y, [1.5] * 4)  # the mean return, of the gamble


def test_lost_mass_is_reported(capsys):
    """Distributions that lose more than their values do give a warning with the probability."""
    task = solutions.Task("own", mdps.from_outcomes([[[(1.0, 0, 1.0)]]]), None, 0.9, None, 0, None)
    result = {"start_values": [1.0], "start_stocks": [0.0], "off_grid_mass": 0.0, "unsound": None}
    for mass, warned in [(0.0, False), (0.0096, True)]:
        solving.show(task, result | {"distribution_off_grid_mass": mass, "error_bound": 0.1, "sweeps": 3})
        assert (
            "distributions are wrong by a probability of up to 0.0096" in capsys.readouterr().out
        ) == warned


def test_drawing_a_missing_picture_keeps_config_and_result(files, tmp_path):
    pytest.importorskip("matplotlib")
    gamble = {"mdp": files / "gamble.npz", "discount": 1, "horizon": 2, "objective": "cvar", "tau": 0.4}
    launch(tmp_path, **gamble, plots=True)
    kept = [tmp_path / name for name in ("config.json", "result.json")]
    before = [path.stat().st_mtime_ns for path in kept]
    (tmp_path / "policy.png").unlink()
    (tmp_path / outputs.UNDRAWN).write_text("pictures\n")
    launch(tmp_path, **gamble, plots=True)
    assert is_picture(tmp_path / "policy.png")
    launch(tmp_path, **gamble, plots=True, formats="pdf")
    assert (tmp_path / "policy.pdf").read_bytes().startswith(b"%PDF")
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_the_same_command_is_done_and_another_is_refused(gamble, files, capsys):
    given, workdir, _ = gamble
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    launch(workdir, **given)
    assert capsys.readouterr().out == f"{workdir} is done already; give another --workdir to solve again\n"
    with pytest.raises(
        InputError, match=r"config.json belongs to another run \(tau was 0.95, is 0.4\): give another"
    ):
        launch(workdir, **given | {"tau": 0.4})
    with pytest.raises(
        InputError, match=r"config.json belongs to another run \(mdp_sha256 was '\w+', is '\w+'\)"
    ):
        launch(workdir, **given | {"mdp": files / "needs.npz"})
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.slow
def test_vector_rewards_and_a_target_for_each(files, tmp_path):
    # From (3, 1) it is 4 to (3, 5), and from (0, 5) it is 3.
    given = {"mdp": files / "needs.npz", "discount": 1, "horizon": 1}
    result = launch(tmp_path, **given, objective="homeostatic", target="3,5")
    assert result["start_values"] == pytest.approx([-3, -np.sqrt(34)])
    assert result["start_stocks"] == [[-3, -5], [-3, -5]]


def test_without_matplotlib_a_warning_takes_the_place_of_pictures(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    given = {"mdp": files / "gamble.npz", "discount": 1, "horizon": 2, "objective": "cvar", "tau": 0.4}
    result = launch(tmp_path, **given, plots=True)
    assert result["start_values"][0] == pytest.approx(1)  # the worst 0.4 of the gamble is -2
    assert not list(tmp_path.glob("*.png"))
    assert "'valuelab[plots]'" in capsys.readouterr().out


@pytest.mark.slow
def test_a_narrow_grid_gives_a_warning_and_an_unsound_objective_is_marked(files, tmp_path, capsys):
    gamble = {"mdp": files / "gamble.npz", "discount": 1, "horizon": 2}
    narrow = {"objective": "target", "target": 4.8, "stocks": 3, "stock_low": -5, "stock_high": -4.6}
    result = launch(tmp_path / "narrow", **gamble, **narrow)
    # The gamble misses the target by 6.8 or 0.2, the certain 1 by 3.8. With probability 1/2 the next stock is
    # -4.8 + 1, off the grid, where a return of 2 to 4 may or may not reach the target.
    assert result["off_grid_mass"] == pytest.approx(0.5)
    assert result["error_bound"] > 0
    assert "warning: episodes leave the stock grid with probability" in capsys.readouterr().out
    unsound = {"objective": "mean_variance", "weight": 1.0, "allow_unsound": True}
    result = launch(tmp_path / "unsound", **gamble, **unsound)
    assert "mixture-indifference" in result["unsound"]
    assert result["error_bound"] is None
    assert "warning: the solution may not be optimal" in capsys.readouterr().out


def test_a_gridworld_gives_the_defaults():
    settings = solving.SolveConfig(problem="risk_averse", workdir="anywhere")
    config, task = solving.resolve(settings)
    problem = gridworlds.make("risk_averse")
    assert (config.objective, config.tau) == ("cvar", problem.settings[0])
    assert (task.discount, task.horizon, task.start_state) == (0.95, None, problem.start_state)
    given = solving.SolveConfig(problem="homeostasis", workdir="anywhere", discount=0.9)
    config, task = solving.resolve(given)
    assert (config.target, task.discount) == ((-4.0, -4.0), 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("name", gridworlds.GRIDWORLDS)
def test_every_gridworld_is_solved_and_drawn(name, tmp_path):
    pytest.importorskip("matplotlib")
    result = launch(tmp_path, problem=name, plots=True)
    assert np.isfinite(result["start_values"]).all()
    for picture in ("policy.png", "distributions.png"):
        assert is_picture(tmp_path / picture)
    assert (tmp_path / "tradeoff.png").exists() == (name != "homeostasis")


UTILITY = f"{ROOT / 'tests/runs/utility.py'}:capped"


def test_only_states_from_the_start_state_on_are_solved(files, tmp_path):
    """State 1 ends with 2 or 4."""
    given = {"mdp": files / "gamble.npz", "discount": 1, "objective": "expectation"}
    result = launch(tmp_path, **given, start_state=1)
    assert result["start_values"] == [None, 4, 0]
    assert (result["error_bound"], result["exact"]) == (0, True)


@pytest.mark.parametrize(("objective", "expected"), [("var", 5), ("evar", 1)])
def test_risk_levels_beyond_cvar(objective, expected, files, tmp_path):
    """At level ½ the gamble's 5 is reached with probability ½, but EVaR counts its worst return -2 alone."""
    given = {"mdp": files / "gamble.npz", "discount": 1, "objective": objective, "tau": 0.5, "start_state": 0}
    result = launch(tmp_path, **given)
    assert result["start_values"][0] == pytest.approx(expected, abs=1e-9)
    assert result["error_bound"] < 1e-5


def test_a_function_of_the_user_is_an_objective(files, tmp_path):
    """With a cap of 1 on the return, the certain 1 is best."""
    result = launch(tmp_path, mdp=files / "gamble.npz", discount=1, objective=UTILITY)
    assert (result["objective"], result["start_values"][0]) == ("capped", 1)
    assert list(json.loads((tmp_path / "config.json").read_text())["files"]) == ["objective"]


def test_missing_and_unknown_settings_in_python_are_named():
    mdp = mdps.from_outcomes([[[(1.0, 0, 1.0)]]])
    with pytest.raises(InputError, match=r"discount is missing: give discount=0.95, or discount=1.0"):
        api.solve(mdp, "cvar")
    with pytest.raises(InputError, match=r"unknown setting of solve 'horizn': did you mean 'horizon'"):
        api.solve(mdp, "expectation", discount=1.0, horizn=3)


def test_numbers_in_words():
    assert [solutions.in_words(value) for value in (-0.0, [1, -0.5])] == ["0", "(1, -0.5)"]


# Error messages: settings that are added to a valid MDP and discount, and the message.

GOOD = {"discount": 0.9, "horizon": 2, "objective": "expectation"}
BAD = [
    ({"problem": "target"}, "give either --problem=NAME, one of risk_averse, .*, or --mdp=FILE.npz"),
    ({"mdp": ""}, "give either --problem=NAME"),
    ({"mdp": "", "problem": "risk_avers"}, "unknown gridworld 'risk_avers': did you mean 'risk_averse'"),
    ({"mdp": "nowhere.npz"}, "nowhere.npz: the file does not exist"),
    ({"objective": "cvarr"}, "unknown objective 'cvarr': did you mean 'cvar'"),
    ({"objective": ""}, "objective is missing: give --objective, one of expectation, cvar"),
    ({"objective": "cvar"}, "objective cvar needs tau"),
    ({"objective": "cvar", "tau": 0}, r"tau is 0; it must be a level in \(0, 1\]"),
    ({"objective": "cvar", "tau": 1.5}, r"tau is 1.5; it must lie in \[0, 1\]"),
    ({"objective": "var", "tau": 1}, r"tau is 1; it must be a level in \[0, 1\)"),
    ({"objective": "cvar", "tau": "high"}, "tau is 'high'; it must be a finite number"),
    ({"objective": "target"}, "objective target needs target"),
    ({"objective": "entropic"}, "objective entropic needs risk"),
    ({"tau": 0.1}, "unknown parameter of objective expectation 'tau'"),
    ({"discount": "none"}, "discount is missing: write --discount=0.95"),
    ({"discount": 1.2}, r"discount is 1.2; it must lie in \(0, 1\]"),
    ({"horizon": 0}, r"horizon is 0; it must lie in \[1, inf\)"),
    (
        {"objective": "homeostatic", "target": "3,5"},
        "homeostatic takes 2 reward components, but the MDP has 1",
    ),
    ({"objective": "mean_variance", "weight": 1}, "mean_variance lacks mixture-indifference"),
    ({"start_state": 3}, "start_state is 3; give a state from 0 to 2"),
    ({"stock_low": -5}, "need the size of the stock grid: give --stocks=401"),
    ({"stocks": 9, "stock_low": "1,2", "stock_high": "3,4"}, "stock_low and stock_high are .* give 1 number"),
    ({"objective": "no.py:f"}, "objective is 'no.py:f', but there is no file no.py: give the path"),
    ({"objective": UTILITY, "tau": 0.5}, "tau is not a setting of .*utility.py:capped: leave it out"),
    ({"objective": UTILITY.replace("capped", "total")}, r"total gives shape \[\] for returns of shape"),
    (
        {"objective": UTILITY.replace("capped", "root"), "discount": 1},
        "root is not a number in state 0: make it finite at all sums of rewards from -2 to 5",
    ),
    ({"workdir": ""}, "no workdir is given: write --workdir=FOLDER"),
    ({"objektive": "cvar"}, "unknown flag 'objektive': did you mean 'objective'"),
]


@pytest.mark.parametrize(("settings", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_invalid_settings_give_one_line(settings, message, files, tmp_path):
    given = {"mdp": files / "gamble.npz", **GOOD, **settings}
    with pytest.raises(InputError, match=message) as caught:
        launch(tmp_path / "out", **given)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_an_mdp_gives_one_line_and_status_2(files, tmp_path):
    command = ["-m", "experiments.solve", f"--mdp={files / 'halves.npz'}", "--discount=0.9"]
    command += ["--objective=cvar", "--tau=0.1", f"--workdir={tmp_path / 'out'}"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "halves.npz: transitions[0, 0] sums to 0.5, not 1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
