"""The display of a run on a terminal and in a pipe; every figure of a row is explained in docs/metrics.md."""

import ast
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chaosops_ray.reports import progress
from chaosops_ray.reports.progress import PHASE_SECONDS, Progress
from chaosops_ray.reports.tables import headline
from chaosops_ray.telemetry.table import METRICS
from tests.support import runs
from tests.support.runs import INCIDENT, TOOLS, row

ROOT = Path(__file__).parents[2]


class Shown(Progress):
    """A progress display on a made-up console, with a clock that is set by hand."""

    def __init__(self, *, terminal: bool = False, width: int = 100, environment: Any = INCIDENT, **more: Any) -> None:
        self.now = 100.0
        self.file = io.StringIO()
        console = Console(file=self.file, width=width, height=40, force_terminal=terminal, color_system=None)
        super().__init__(console, environment, more.pop("run", "a run"), 160, 2.0, clock=lambda: self.now, **more)

    def frame(self) -> str:
        console = Console(file=io.StringIO(), width=self._console.width, color_system=None)
        console.print(self.drawn())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_the_panel_has_every_figure_of_the_update() -> None:
    shown = Shown(terminal=True)
    with shown:
        for update in (1, 2, 3):
            shown.now += 10
            shown(row(update))
    frame = shown.frame()
    found = row(3)
    assert "update 3/160" in frame
    assert "0:00:30 elapsed, 0:26:10 left" in frame  # 157 updates of ten seconds
    for tier in INCIDENT.tiers:
        assert re.search(rf"{tier} +42 +−{-found['tiers'][tier]['mean']:.1f} ", frame)
    assert f"sre +{found['rewards']['sre']:.2f}".removesuffix("0") in frame
    spent = found["time"]
    total = spent["rollout"] + spent["update"] + spent["adopt"]
    assert f"{total:.1f} s: rollout {spent['rollout']:.1f}" in frame
    assert f"{24000 / total:,.0f} tokens/s" in frame
    assert f"engines busy for {100 * 0.6 / spent['rollout']:.0f} % of the rollout" in frame
    assert f"KL {found['learner']['kl']:.3f} · entropy {found['learner']['entropy']:.2f}" in frame
    assert "mismatch 2.1e-05" in frame
    assert "8 groups, 7 learnt from" in frame
    assert "0 actors replaced" in frame
    assert "policy-v3 000000000000" in frame
    assert frame.strip() in shown.file.getvalue(), "it stays on the screen"


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=["incident", "tools"])
@pytest.mark.parametrize("width", [80, 120, 200])
def test_it_fits_the_terminal(width: int, environment: Any) -> None:
    shown = Shown(width=width, environment=environment, before=[row(u, environment) for u in range(1, 61)])
    lines = shown.frame().splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= 20
    assert "…" not in shown.frame()
    assert "▁" in shown.frame()
    assert "█" in shown.frame()


@pytest.mark.parametrize("width", [10, 40, 70])
def test_a_narrow_terminal_cuts_what_has_no_room(width: int) -> None:
    shown = Shown(width=width, environment=TOOLS, before=[row(u, TOOLS) for u in range(1, 21)])
    assert max(len(line) for line in shown.frame().splitlines()) <= width
    if width == 70:
        assert "intermediate  42 " in shown.frame()


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=["incident", "tools"])
def test_the_latest_means_of_the_held_out_set_are_shown(environment: Any) -> None:
    found = runs.with_held_out(runs.rows(5, environment), 2, environment)
    figures = found[3]["evaluation"]["tiers"]
    means = [headline(environment, figures[tier]["mean"]) for tier in environment.tiers]
    heuristic = headline(environment, 0.5)
    beside = [f" (heuristic {heuristic})", *[f" ({heuristic})"] * (len(means) - 1)]
    ahead = len([tier for tier in environment.tiers if figures[tier]["mean"] > 0.5])
    shown = Shown(terminal=True, width=80, environment=environment, before=found)
    frame = " ".join(shown.frame().replace("│", "").split())
    said = " · ".join(
        [f"{tier} {mean}{more}" for tier, mean, more in zip(environment.tiers, means, beside, strict=True)]
    )
    said = f"after update 4, on {42 * len(means)} scenarios: {said} · ahead on {ahead} of {len(means)} tiers"
    assert f"held out {said}" in frame
    assert "held out" not in Shown(terminal=True, environment=environment, before=found[:1]).frame()

    piped = Shown(environment=environment)
    for one in found:
        piped(one)
    assert [line for line in piped.lines() if line.startswith("held out")][1:] == [f"held out {said}"]
    assert piped.lines()[-2] == f"held out {said}"


def test_on_a_terminal_a_line_of_each_evaluation_stays_above_the_panel() -> None:
    shown = Shown(terminal=True, width=160)
    with shown:
        for one in runs.with_held_out(runs.rows(5), 2):
            shown(one)
    # Cursor movements of the panel stand before the text of a line.
    above = [line for line in shown.lines() if "held out after update" in line and "│" not in line]
    assert [line.split(",")[0].split("update ")[1] for line in above] == ["2", "4"]


def test_a_run_without_the_heuristic_shows_its_own_means_only() -> None:
    (one,) = runs.with_held_out(runs.rows(1), 1)
    one["evaluation"].pop("heuristic")  # as rows of earlier versions are
    shown = Shown()
    shown(one)
    assert "heuristic" not in shown.file.getvalue()
    assert "ahead" not in shown.file.getvalue()
    assert shown.lines()[-1].startswith("held out after update 1, on 126 scenarios: easy ")


def test_before_the_first_update_there_is_the_phase() -> None:
    shown = Shown(terminal=True)
    with shown:
        shown.say("placing actors")
    assert "placing actors" in shown.file.getvalue()
    assert "update 0/160" in shown.frame()
    assert "– left" in shown.frame()
    shown(row(1))
    assert "placing actors" not in shown.frame()


def test_when_all_is_done_nothing_is_left() -> None:
    shown = Shown()
    shown(row(160))
    shown.say("evaluating")
    assert "left" not in shown.frame()
    assert "▸ evaluating" in shown.frame()


def test_what_is_not_known_is_a_dash() -> None:
    """No tier of easy has a rogue; an update without variance learns nothing."""
    nothing = row(1) | {"learner": {}}
    shown = Shown(terminal=True)
    shown(nothing)
    frame = shown.frame()
    assert "KL – · entropy – · gradient – · mismatch –" in frame
    assert "– tokens/s" in frame
    assert re.search(r"easy .* –  ", frame)
    assert " – " in progress.line(INCIDENT, nothing, 2.0, None)


def test_kl_over_the_alarm_is_marked() -> None:
    over = row(5)
    over["learner"]["kl"] = 2.5
    shown = Shown(terminal=True)
    shown(over)
    assert "KL 2.500, over the alarm at 2" in shown.frame()
    assert "2.500!" in progress.line(INCIDENT, over, 2.0, None)
    assert "!" not in progress.line(INCIDENT, over, 3.0, None)
    coloured = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    coloured.print(progress.figures(INCIDENT, [over], 2.0))
    assert isinstance(coloured.file, io.StringIO)
    assert "\x1b[1;31mKL 2.500" in coloured.file.getvalue()


def test_a_tier_that_was_not_played_keeps_its_last_figures() -> None:
    shown = Shown(before=[row(1, tiers=("easy",)), row(2, tiers=("medium",))])
    frame = shown.frame()
    assert f"{-row(1)['tiers']['easy']['mean']:.1f}" in frame
    assert f"{-row(2)['tiers']['medium']['mean']:.1f}" in frame
    assert "hard" not in frame


def test_the_history_is_the_whole_course() -> None:
    assert progress.history([0.0, 1.0, 2.0, 7.0], 10) == "▁▂▃█"
    assert progress.history([5.0], 10) == "▁"
    assert progress.history([3.0, 3.0], 10) == "▁▁"
    long = progress.history([float(i) for i in range(1000)], 8)
    assert long == "▁▂▃▄▅▆▇█"


def test_a_pipe_gets_a_heading_and_a_line_for_each_update_in_columns() -> None:
    shown = Shown()
    with shown:
        shown.say("starting Ray")
        for update in range(1, 31):
            shown.now += 2
            shown(row(update, tiers=INCIDENT.tiers if update % 2 else ("medium",)))
    lines = shown.lines()
    assert lines[0] == "starting Ray"
    assert lines[1].split() == list(INCIDENT.tiers)
    assert lines[2].split()[:2] == ["update", "time"]
    assert len(lines) == 1 + 2 + 25 + 2 + 5
    place = lines[1].index("medium")
    first, second = (line for line in lines if line.startswith(("  1/160", "  2/160")))
    for line, update in ((first, 1), (second, 2)):
        mean = f"−{-row(update)['tiers']['medium']['mean']:.1f}"
        assert place <= line.index(mean) < place + 8
    assert second[:place].split()[-1] == f"{row(2)['learner']['entropy']:.2f}"
    assert "\x1b" not in shown.file.getvalue()


def test_a_pipe_is_not_flooded_by_a_phase_that_counts() -> None:
    shown = Shown()
    for done in range(100):
        shown.now += PHASE_SECONDS / 20
        shown.say(f"building the tiny model {done + 1}/100")
    shown.say("starting Ray")
    assert shown.lines() == [f"building the tiny model {n}/100" for n in (1, 21, 41, 61, 81)] + ["starting Ray"]


def test_an_update_that_is_made_again_replaces_what_followed_it() -> None:
    """The learner died after the third update, and the run went back to its checkpoint after the first."""
    shown = Shown(terminal=True)
    for update in (1, 2, 3, 2):
        shown.now += 10
        shown(row(update))
    assert "update 2/160" in shown.frame()
    assert re.search(r"easy .*[▁█][▁█] +│", shown.frame())


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_noted_stays(terminal: bool) -> None:
    shown = Shown(terminal=terminal)
    with shown:
        shown.note("a sink failed\x1b[31m: [bold]why")
        shown.say("placing actors")
        shown(row(1))
    assert "a sink failed�[31m: [bold]why" in shown.file.getvalue()
    assert "a sink failed" not in shown.frame()  # it is above the panel


@pytest.mark.parametrize("terminal", [True, False])
def test_names_cannot_command_the_terminal(terminal: bool) -> None:
    shown = Shown(terminal=terminal, run="a\x1b[31m\n[red]b[/nonsense]\u202e")
    with shown:
        shown.say("evaluating \x1b]0;owned\x07 [bold]x")
        shown(row(1))
    assert "\x1b[31m" not in shown.file.getvalue()
    assert "\x1b]0" not in shown.file.getvalue()
    assert "[bold]x" in shown.file.getvalue()
    assert "a�[31m�[red]b[/nonsense]�" in shown.frame()


def test_a_terminal_that_can_do_nothing_is_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    shown = Shown(terminal=True)
    with shown:
        shown(row(1))
    assert len(shown.lines()) == 3


# -- docs/metrics.md ----------------------------------------------------------------------------------------------------


def keys(module: str, *functions: str) -> set[str]:
    """Return the keys of all dicts that are written out in the functions.

    They are read from the source: importing it would load Ray and TRL.
    """
    tree = ast.parse((ROOT / "chaosops_ray" / module).read_text())
    found = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Dict):
                    found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return found


def reported() -> set[str]:
    """Return chaosops_ray.learner.grpo.REPORTED, read from the source."""
    tree = ast.parse((ROOT / "chaosops_ray" / "learner" / "grpo.py").read_text())
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "REPORTED"
    ]
    return set(ast.literal_eval(value))


def test_every_figure_is_explained() -> None:
    explained = {part for metric in METRICS for part in metric.path}
    written = (
        keys("training/loop.py", "metrics", "summary", "staleness", "machine", "update", "finish_update")
        | keys("training/times.py", "figures")
        | keys("learner/learner.py", "update")
        | reported()
    )
    assert {"kl", "mean", "rollout", "mismatch", "actors_replaced"} <= written
    assert written - explained == set()


def test_the_scripted_run_has_the_rows_that_a_run_writes() -> None:
    found = runs.row(1)
    top = keys("training/loop.py", "metrics", "update", "finish_update")
    top -= {"evaluate", "sinks_failed"}  # further down; and the first only where the held-out set was played
    assert set(found) | set(found["groups"]) | set(found["adoption"]) == top
    assert set(found["time"]) == keys("training/times.py", "figures")
    assert set(found["machine"]) == keys("training/loop.py", "machine") | {"sinks_failed"}
    assert set(found["learner"]) == reported() | keys("learner/learner.py", "update")
