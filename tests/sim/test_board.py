"""The display: sparklines, and what panels tell to whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.board import Panel, sparkline
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.weather import ANNOUNCED

INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]


def test_a_sparkline_rises_with_its_values_and_keeps_within_its_range() -> None:
    assert sparkline([0, 4, 8], 0, 8) == "▁▅█"
    assert sparkline([-5, 99], 0, 8) == "▁█"


def test_a_sparkline_shows_the_last_values() -> None:
    assert sparkline([8, 8, 0, 0], 0, 8, width=2) == "▁▁"
    assert sparkline([], 0, 8) == ""


def text(panels: Iterable[Panel]) -> str:
    """All that the panels say."""
    return "\n".join([f"{panel.title} {[[cell.text for cell in row] for row in panel.rows]}" for panel in panels])


def moments(environment: AnyEnvironment, policy: str, tier: str) -> Iterator[AnyEpisode]:
    """Episodes of every case of a tier, at every moment."""
    for scenario in environment.scenarios(environment.selections[0], [7]):
        if scenario.tier == tier:
            episodes: list[AnyEpisode] = []
            play(environment, scenario, "strict", environment.policies[policy](scenario, "strict"), episodes.append)
            yield from episodes


def public(environment: AnyEnvironment, episode: AnyEpisode) -> str:
    views = [panel for step in episode.steps for panel in environment.seen(step.view)]
    return text([*environment.board(episode), *views])


def test_only_the_truth_tells_the_cause_of_an_incident() -> None:
    for episode in moments(INCIDENT, "random", "hard"):
        summary = FAILURES[episode.scenario.case].summary
        assert summary in text(INCIDENT.truth(episode))
        shown = public(INCIDENT, episode)
        assert summary not in shown
        assert episode.scenario.identity not in shown
        assert "decoy" not in shown
        assert "rogue is" not in shown


def test_only_the_truth_tells_what_a_silent_fault_has_hidden() -> None:
    hidden = 0
    for episode in moments(TOOLS, "heuristic", "expert"):
        shown = public(TOOLS, episode)
        assert episode.scenario.identity not in shown
        read = [step.view.question for step in episode.steps] + [made.shown for made in episode.end.made]
        for made in episode.end.made:
            is_silent = made.fault and made.fault not in ANNOUNCED and made.truth != made.shown
            if is_silent and not any(made.truth in known for known in read):
                assert str([made.truth])[1:-1] in text(TOOLS.truth(episode))
                assert made.truth not in shown
                hidden += 1
    assert hidden > 10


@pytest.mark.parametrize(
    ("role", "windows"),
    [
        ("sre", {"services", "alerts and logs", "chat", "to this role alone"}),
        (
            "oversight",
            {"services", "what fleet agents did before the page", "alerts and logs", "chat", "to this role alone"},
        ),
        ("manager", {"alerts", "chat", "to this role alone"}),
    ],
)
def test_a_role_is_shown_its_own_windows_alone(role: str, windows: set[str]) -> None:
    world = INCIDENT.start(INCIDENT.scenario("incident/memory_leak/hard/3"), "strict")
    assert {panel.title for panel in INCIDENT.seen(INCIDENT.view(world, role))} == windows


def test_charts_have_a_value_for_the_start_and_for_every_turn() -> None:
    for episode in moments(INCIDENT, "heuristic", "easy"):
        for chart in INCIDENT.charts(episode):
            assert chart.help
            assert {len(values) for _, values in chart.lines} == {len(episode.steps) + 1}
