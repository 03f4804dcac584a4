"""Tests of plots: they show the given numbers at the right places."""

import sys

import numpy as np
import pytest

from valuelab import environments, errors
from valuelab.environments.rewarded import rewarded
from valuelab.evaluation import plots

MAZE = "ogbench/pointmaze-medium-navigate-singletask-v0"


def rows(seeds=3):
    return [
        {"step": step, "seed": seed, "loss": seed / step, "note": "text"}
        | ({"eval/success": 0.25 * seed} if step % 2000 == 0 else {})
        for step in (1000, 2000, 3000, 4000)
        for seed in range(seeds)
    ]


def labels(figure):
    return [panel.get_ylabel() for panel in figure.axes]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_of_members_and_their_mean(tmp_path):
    figure = plots.curves(rows(), path=tmp_path / "curves.png")
    assert labels(figure) == ["success rate (%)", "loss"]
    success, loss = figure.axes
    assert (success.get_xlabel(), success.get_xlim()[0]) == ("number of updates", 0)
    np.testing.assert_array_equal(success.lines[-1].get_xydata(), [[2000, 25.0], [4000, 25.0]])
    np.testing.assert_allclose(loss.lines[-1].get_ydata(), [1 / 1000, 1 / 2000, 1 / 3000, 1 / 4000])
    assert len(loss.lines) == 4
    assert len(success.collections) == 1  # the interval
    assert len(loss.collections) == 0
    assert legend(figure) == ["one seed", "mean over 3 seeds", "95 % interval over 3 seeds"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_one_member_has_one_line():
    figure = plots.curves([{"step": 1000, "eval/success": 0.5}, {"step": 2000, "eval/success": 1.0}])
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [50.0, 100.0])
    assert not figure.legends


def swept_rows(values, seeds=2):
    return [
        {**row, "agent.expectile": value, "loss": 1000 * value + row["seed"]}
        | ({"eval/success": value} if "eval/success" in row else {})
        for value in values
        for row in rows(seeds)
    ]


def test_settings_of_a_sweep_have_a_mean_and_a_band_each_and_the_best_comes_first():
    figure = plots.curves(swept_rows((0.7, 0.9)), member_fields=("agent.expectile", "seed"))
    assert labels(figure) == ["success rate (%)", "loss"]
    success, loss = figure.axes
    assert len(success.collections) == 2
    bold = [line for line in loss.lines if line.get_linewidth() > 2]
    assert [line.get_ydata()[0] for line in bold] == [900.5, 700.5]
    assert len({line.get_color() for line in loss.lines}) == 2
    assert legend(figure)[:2] == ["1. 90.0 %: expectile=0.9", "2. 70.0 %: expectile=0.7"]
    assert [line.is_dashed() for line in bold] == [False, True]  # a dashed line does not hide the other


def test_more_settings_than_bands_have_columns_with_the_best_in_the_first():
    values = (0.1, 0.2, 0.3, 0.4, 0.5)
    figure = plots.curves(swept_rows(values), member_fields=("agent.expectile", "seed"))
    assert len(figure.axes) == 4  # two metrics, two columns
    first, second = figure.axes[:2]
    texts = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in (first, second)]
    assert texts == [
        ["1. 50.0 %: expectile=0.5", "2. 40.0 %: expectile=0.4"],
        ["3. 30.0 %: expectile=0.3", "4. 20.0 %: expectile=0.2", "5. 10.0 %: expectile=0.1"],
    ]
    assert [len(panel.collections) for panel in (first, second)] == [2, 3]
    assert legend(figure)[-1] == "other settings"


@pytest.mark.parametrize(
    ("numbers", "scale"), [((1.0, 100.0), "log"), ((1.0, 99.0), "linear"), ((-1.0, 1e6), "linear")]
)
def test_a_loss_that_spans_decades_has_a_logarithmic_axis(numbers, scale):
    losses = [{"step": step, "critic/q_loss": number} for step, number in enumerate(numbers)]
    assert plots.curves(losses).axes[0].get_yscale() == scale


def test_a_metric_without_a_finite_number_has_no_panel():
    figure = plots.curves([{"step": 1, "loss": 1.0, "eval/return": None, "policy/loss": float("nan")}])
    assert labels(figure) == ["loss"]


@pytest.mark.parametrize(("metrics", "settings"), [(1, 9), (2, 4), (9, 2)])
def test_the_legends_of_a_sweep_lie_whole_inside_the_figure(metrics, settings):
    fields = ("agent.inverse_temperature", "agent.optimizer.learning_rate", "seed")
    swept = [
        {"step": step, "seed": 0, fields[0]: 3.0, fields[1]: 0.0001 * setting}
        | {f"loss{number}": float(step) for number in range(metrics)}
        for step in (1, 2, 3)
        for setting in range(settings)
    ]
    figure = plots.curves(swept, member_fields=fields)
    figure.draw_without_rendering()
    whole = figure.bbox
    of_panels = [panel.get_legend() for panel in figure.axes if panel.get_legend()]
    assert sum(len(legend.get_texts()) for legend in of_panels or figure.legends) == settings
    for legend in [*of_panels, *figure.legends]:
        box = legend.get_window_extent()
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0
        assert box.y1 <= whole.y1
    assert min(panel.get_window_extent().height for panel in figure.axes) > whole.height / 9


@pytest.mark.parametrize(("steps", "marker"), [(1, "o"), (2, "o"), (3, "None")])
def test_a_curve_of_few_points_has_markers(steps, marker):
    few = [{"step": step, "seed": seed, "loss": 1.0} for step in range(steps) for seed in (0, 1)]
    lines = plots.curves(few).axes[0].lines
    assert [line.get_marker() for line in lines] == [marker] * 3


def test_scores_come_first_and_panels_are_bounded():
    row = {f"metric{number}": 1.0 for number in range(20)}
    row |= {"value/mean": 0.0, "loss": 0.0, "eval/length": 9.0, "eval/return": 3.0, "step": 1}
    shown = labels(plots.curves([row]))
    assert shown[:4] == ["return (sum of rewards)", "episode length (steps)", "loss", "value: mean"]
    assert len(shown) == 9


def test_metrics_with_a_level_come_before_losses_and_show_it():
    row = {"step": 1, "eval/return": 3.0, "loss": 0.0, "critic/ratio": 1.2}
    figure = plots.curves([row], levels={"critic/ratio": 1.0})
    assert labels(figure) == ["return (sum of rewards)", "critic: ratio", "loss"]
    assert [list(panel.lines[-1].get_ydata()) for panel in figure.axes[1:]] == [[1.0, 1.0], [0.0]]


def test_tasks_leave_panels_for_losses_and_say_what_is_a_mean():
    row = {"step": 1, "eval/return": 0.0, "eval/length": 9.0, "eval/success": 0.5}
    row |= {f"eval/success/task{number}": 0.5 for number in range(1, 6)}
    figure = plots.curves([row | {f"loss{number}": 1.0 for number in range(5)}])
    assert labels(figure)[-3:] == ["loss0", "loss1", "loss2"]
    shown = [(panel.get_title(), panel.get_ylabel()) for panel in figure.axes]
    assert shown[0] == ("mean over tasks", "success rate (%)")
    assert ("task5", "success rate (%)") in shown


def test_rows_written_again_after_a_resume_replace_the_earlier():
    figure = plots.curves([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 2.0}])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, 2.0])


def test_no_metrics_no_curves():
    with pytest.raises(errors.InputError, match="holds no number to plot except the step"):
        plots.curves([{"step": 3, "seed": 0}])


def test_maze_walls_value_start_and_goal(tmp_path):
    environment = environments.make(MAZE)
    asked = []

    def value(observations):
        asked.append(observations)
        return observations[:, 0] + 100 * observations[:, 1]

    figure = plots.maze(environment, value=value, value_label="V", title="maze", path=tmp_path / "maze.png")
    axes, colour_bar = figure.axes
    heat, walls = axes.images
    scene = environment.make().unwrapped
    # Places in the plot are those of the environment: cell centres, walls and values agree.
    left, right, bottom, top = heat.get_extent()
    for row, column in np.ndindex(scene.maze_map.shape):
        x, y = scene.ij_to_xy((row, column))
        assert (left + 4 * (column + 0.5), bottom + 4 * (row + 0.5)) == (x, y)
        assert bool(walls.get_array().mask[row, column]) == (scene.maze_map[row, column] == 0)
        square = heat.get_array()[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert square.mean() == pytest.approx(x + 100 * y, abs=1e-3)
    assert (right, top) == (26, 26)
    # Colours cover only free cells: centres from (0, 0) to (20, 20), 15/8 each way to the last points.
    assert heat.get_clim() == pytest.approx((-1.875 * 101, 20 * 101 + 1.875 * 101))
    assert asked[0].shape == (128 * 128, 2)
    start, goal = axes.collections[-2:]
    assert np.abs(start.get_offsets()[0]).max() <= 1.5
    np.testing.assert_array_equal(goal.get_offsets()[0], (20, 20))
    assert colour_bar.get_ylabel() == "V"
    assert (tmp_path / "maze.png").read_bytes().startswith(b"\x89PNG")


def test_maze_fills_an_ants_joints_from_its_start():
    seen = {}

    def value(observations):
        seen["rest"] = observations[:, 2:]
        return observations[:, 0]

    plots.maze(environments.make("ogbench/antmaze-medium-navigate-v0"), task="task2", value=value)
    assert seen["rest"].shape == (128 * 128, 27)
    assert (seen["rest"] == seen["rest"][0]).all()
    assert seen["rest"][0, 0] == pytest.approx(0.75, abs=0.3)  # the torso's height


def test_maze_draws_trajectories_by_success_and_arrows_on_free_cells():
    ways = [np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 0.0], [2.0, 0.0]])]
    figure = plots.maze(
        environments.make(MAZE),
        policy=lambda observations: np.ones((len(observations), 2)),
        trajectories=ways,
        successes=[True, False],
    )
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["goal reached", "not reached"]
    for line, way in zip(axes.lines, ways, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), way)
    (arrows,) = [each for each in axes.collections if hasattr(each, "U")]
    assert arrows.N == 26 * 9  # pointmaze-medium has 26 free cells


def test_with_a_reward_of_the_user_there_is_a_start_but_no_goal():
    environment = rewarded(environments.make(MAZE), lambda states: states["observations"][:, 0], "right")
    assert plots.open_maze(environment).goal is None
    figure = plots.maze(environment, trajectories=[np.zeros((2, 2))], successes=[False])
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["episode"]
    assert [marks.get_label() for marks in axes.collections] == ["start"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gymnasium/CartPole-v1", {}, "CartPole-v1 is not a maze"),
        (
            MAZE,
            {"task": "defalt"},
            "unknown task of pointmaze-medium-singletask-v0 'defalt': did you mean 'default'",
        ),
        (
            MAZE,
            {"policy": lambda observations: np.ones((len(observations), 8))},
            r"shape \(8,\), but arrows need",
        ),
    ],
)
def test_what_cannot_be_drawn(name, settings, message):
    with pytest.raises(errors.InputError, match=message):
        plots.maze(environments.make(name), **settings)


def test_pyplot_and_its_global_figures_stay_away():
    before = "matplotlib.pyplot" in sys.modules
    plots.curves(rows())
    assert ("matplotlib.pyplot" in sys.modules) == before
