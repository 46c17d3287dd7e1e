"""The picture of an update: a typical one, every process in a row of its own, no more rows than fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.axes import Axes

from chaosops_ray.reports import run_report, timeline_plot
from chaosops_ray.spans import Span, Track
from chaosops_ray.store import timeline
from chaosops_ray.store.timeline import TimelineFile
from tests.support import runs
from tests.support.runs import INCIDENT


def track(*spans: tuple[str, float, float]) -> Track:
    return Track(tuple([Span(name, start, end, end - start) for name, start, end in spans]))


def update(at: float, shards: int = 2) -> dict[str, Track]:
    return {
        "driver": track(("collect", at, at + 2), ("update", at + 2, at + 4), ("adopt", at + 4, at + 5)),
        "learner": track(("update", at + 2, at + 4), ("probe", at + 4, at + 4.5)),
        "sampler-0": track(("sample", at - 1, at + 2), ("load", at + 4, at + 4.25)),
        **{f"shard-{number}": track(("play", at, at + 2)) for number in range(shards)},
    }


def written(path: Path, *updates: dict[str, Track]) -> Path:
    file = TimelineFile(path / timeline.TIMELINE, lambda: 0.0)
    for number, tracks in enumerate(updates, 1):
        file.append(number, number, tracks)
    return file.path


def axes_of(path: Path) -> Axes:
    figure = timeline_plot.typical_update(timeline.read(path), "a run")
    assert figure is not None
    (axes,) = figure.axes
    return axes


def test_the_update_that_took_the_median_time_is_drawn(tmp_path: Path) -> None:
    """The fourth one is being made, and the engine had begun with the second one before."""
    slow = {"driver": track(("collect", 1, 5), ("adopt", 5, 9))}
    fast = {"driver": track(("collect", 16, 17), ("adopt", 17, 18))}
    path = written(tmp_path, slow, update(10.0), fast, {"driver": track(("collect", 20, 22))})
    axes = axes_of(path)
    assert axes.get_title(loc="left").strip() == "Where the time of update 2 went"
    assert axes.get_xlim() == (0, 5)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "driver",
        "learner",
        "sampler-0",
        "shard-0",
        "shard-1",
    ]
    bars = [bar.get_paths()[0].get_extents() for bar in axes.collections]
    assert [(bar.x0, bar.x1) for bar in bars] == [
        (0, 2),
        (2, 4),
        (4, 5),
        (2, 4),
        (4, 4.5),
        (0, 2),
        (4, 4.25),
        (0, 2),
        (0, 2),
    ]
    legend = axes.get_legend()
    assert legend is not None
    kinds = [text.get_text() for text in legend.get_texts()]
    assert kinds == ["play episodes", "learn", "load", "prove", "wait for adoption"]


def test_a_large_run_is_cut_and_says_so(tmp_path: Path) -> None:
    axes = axes_of(written(tmp_path, update(1.0, shards=40)))
    assert len(axes.get_yticklabels()) == 12
    assert any("31 more processes are in timeline.json" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("updates", [[], [{"driver": track(("collect", 1, 2), ("update", 2, 3))}]])
def test_without_a_whole_update_there_is_no_picture(tmp_path: Path, updates: list[dict[str, Track]]) -> None:
    assert timeline_plot.draw(written(tmp_path, *updates), "a run", tmp_path / "plots") == []


def test_the_report_of_a_run_has_the_picture(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "run", 1)
    written(run.path, update(1.0))
    page = run_report.write(run, INCIDENT).read_text()
    assert "Where the time of update 1 went" in page
    assert (run.path / "plots" / timeline_plot.FILE).exists()
