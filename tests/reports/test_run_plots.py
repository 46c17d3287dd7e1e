"""The curves of a run: the plots, the figures that they are drawn of, and none that is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from chaosops_ray.reports import drawing, metrics_rows, run_plots
from chaosops_ray.sim.errors import InputError
from tests.support import runs
from tests.support.runs import INCIDENT, TOOLS, row, rows

PNG = b"\x89PNG\r\n\x1a\n"


def drawn(found: list[dict[str, object]], environment: object = INCIDENT, run: str = "a run") -> dict[str, Figure]:
    return run_plots.curves(environment, found, run, 2.0)  # type: ignore[arg-type]


def training(axes: Axes) -> list[Line2D]:
    """The rolling means, beside which there may be a line at zero and points of the held-out set."""
    return [line for line in axes.lines if line.get_linewidth() == 2 and len(line.get_xdata())]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_plot_is_a_file_with_a_title(tmp_path: Path) -> None:
    plots = run_plots.draw(INCIDENT, rows(20), "a run", 2.0, tmp_path / "plots")
    assert [plot.path.name for plot in plots] == [
        "training_mean.png",
        "training_solved.png",
        "training_detection.png",
        "training_policy.png",
        "training_time.png",
    ]
    assert plots[2].title == "Rogue catch and false positive in training, by tier"
    for plot in plots:
        assert plot.path.read_bytes().startswith(PNG)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(plot.path.name for plot in plots)


def test_a_world_without_anything_to_catch_has_no_plot_of_it() -> None:
    assert "training_detection.png" not in drawn(rows(5, TOOLS), TOOLS)


def test_points_are_the_updates_and_lines_their_rolling_means() -> None:
    found = rows(30)
    (axes,) = drawn(found)["training_mean.png"].axes
    values = np.array([one["tiers"]["easy"]["mean"] for one in found])
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.column_stack([np.arange(1, 31), values]))
    means = training(axes)[0].get_ydata()
    assert means[14] == pytest.approx(values[10:19].mean())
    assert means[0] == pytest.approx(values[:5].mean())
    assert means[-1] == pytest.approx(values[-5:].mean())


def test_lines_are_labelled_where_they_end() -> None:
    labels = texts(drawn(rows(30))["training_solved.png"])
    for tier in INCIDENT.tiers:
        assert any(label.startswith(f"{tier} ") and label.endswith(" %") for label in labels)


def test_a_figure_that_is_not_defined_is_not_drawn() -> None:
    """No episode of easy has a rogue, so there is no line of its catch; of its false flags there is."""
    above, below = drawn(rows(30))["training_detection.png"].axes
    assert len(above.lines) == 2
    assert len(below.lines) == 3


def test_updates_from_which_nothing_was_learnt_leave_a_gap_in_the_points_and_no_zero() -> None:
    found = rows(10)
    found[4]["learner"] = {}
    above, _ = drawn(found)["training_policy.png"].axes
    assert 5 not in above.collections[0].get_offsets()[:, 0]
    assert len(above.collections[0].get_offsets()) == 9
    for one in found:
        one["learner"] = {}
    assert "training_policy.png" not in drawn(found)


def test_a_tier_that_pauses_has_no_line_across_the_pause() -> None:
    found = [row(update, tiers=("easy",) if update <= 20 or update > 60 else ("hard",)) for update in range(1, 81)]
    (axes,) = drawn(found)["training_mean.png"].axes
    assert np.isnan(training(axes)[0].get_ydata()).sum() == 1
    assert any(text.startswith("hard ") for text in texts(drawn(found)["training_mean.png"]))


def held_out(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())]


def test_what_the_held_out_set_gave_is_drawn_as_points_of_its_own() -> None:
    found = runs.with_held_out(rows(30), 10)
    figures = drawn(found)
    (mean,) = figures["training_mean.png"].axes
    for line, tier in zip(held_out(mean), INCIDENT.tiers, strict=True):
        assert list(line.get_xdata()) == [10, 20, 30]
        assert list(line.get_ydata()) == [found[at - 1]["evaluation"]["tiers"][tier]["mean"] for at in (10, 20, 30)]
    catch, _ = figures["training_detection.png"].axes
    assert [len(held_out(axes)) for axes in (*figures["training_solved.png"].axes, catch)] == [3, 2]
    assert [text.get_text() for text in mean.get_legend().get_texts()] == ["training", "held out"]
    (without,) = drawn(rows(30))["training_mean.png"].axes
    assert without.get_legend() is None


def test_a_tier_that_only_the_held_out_set_has_is_named() -> None:
    found = runs.with_held_out([row(update, tiers=("easy",)) for update in range(1, 11)], 5)
    assert any(text.startswith("hard ") for text in texts(drawn(found)["training_mean.png"]))


def test_the_alarm_is_drawn_once_kl_comes_near_it() -> None:
    assert "alarm at 2" not in texts(drawn(rows(5))["training_policy.png"])
    found = rows(5)
    found[3]["learner"]["kl"] = 1.5
    assert "alarm at 2" in texts(drawn(found)["training_policy.png"])


def test_an_estimate_of_kl_below_zero_is_in_sight(tmp_path: Path) -> None:
    found = rows(3)
    for one in found:
        one["learner"]["kl"] = -0.09
    above, _ = drawn(found)["training_policy.png"].axes
    low, high = above.get_ylim()
    assert low < -0.09 < high
    run_plots.draw(INCIDENT, found, "a run", 2.0, tmp_path)  # a panel without height would be a warning


def test_the_areas_of_the_time_add_up_to_the_update() -> None:
    (axes,) = drawn(rows(40))["training_time.png"].axes
    at = np.arange(1.0, 41)
    whole = drawing.smoothed(at, np.array([metrics_rows.seconds(one) for one in rows(40)]))
    top = axes.collections[2].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(whole.max())


def test_one_update_is_enough(tmp_path: Path) -> None:
    assert len(run_plots.draw(INCIDENT, rows(1), "a run", 2.0, tmp_path)) == 5


def test_no_update_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no update has been made yet"):
        run_plots.draw(INCIDENT, [], "a run", 2.0, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_a_file_in_the_way_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        run_plots.draw(INCIDENT, rows(1), "a run", 2.0, tmp_path / "plots")


@pytest.mark.parametrize("name", ["$\\frac{$", "<b>&amp;", "a\nb\x1b[31m", "x" * 300])
def test_names_are_text_and_nothing_else(name: str, tmp_path: Path) -> None:
    run_plots.draw(INCIDENT, rows(2), name, 2.0, tmp_path)
    (label,) = [text for text in texts(drawn(rows(2), run=name)["training_mean.png"]) if "rolling mean" in text]
    assert label.isprintable()
    assert len(label) < 140


def test_the_rolling_mean_counts_updates_and_not_points() -> None:
    """A tier that is played now and then is smoothed over the same stretch as one that is always played."""
    at = np.array([1.0, 2.0, 50.0, 53.0, 60.0])
    values = np.array([0.0, 2.0, 10.0, 20.0, 7.0])
    assert drawing.smoothed(at, values).tolist() == [1.0, 1.0, 15.0, 15.0, 7.0]


def test_labels_that_would_touch_move_apart_and_keep_their_order() -> None:
    assert drawing.spread([1.0, 5.0, 9.0], 2.0) == [1.0, 5.0, 9.0]
    assert drawing.spread([5.0, 5.0], 2.0) == [4.0, 6.0]
    assert drawing.spread([6.0, 5.0, 5.5], 2.0) == [7.5, 3.5, 5.5]
    assert drawing.spread([0.0, 0.5, 2.2, 9.0], 2.0) == pytest.approx([-1.1, 0.9, 2.9, 9.0])


def test_the_scripted_run_can_be_read_back(tmp_path: Path) -> None:
    assert runs.folder(tmp_path / "run", 3).metrics() == rows(3)
