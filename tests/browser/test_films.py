"""Films in a real browser: moved through by keyboard, and telling nobody more than they may see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from chaosops_ray.store.episodes import RecordedEpisode, read_episodes
from chaosops_ray.store.run_folder import EVALUATION_EPISODES
from tests.browser.conftest import Open


@pytest.fixture(scope="session")
def pair(runs_dir: Path) -> tuple[RecordedEpisode, RecordedEpisode]:
    """Two episodes on one scenario; each role acts in the first."""
    every = list(read_episodes(runs_dir / "over" / EVALUATION_EPISODES))
    first = next(one for one in every if one.policy == "random" and len(one.rows) > 4)
    return first, next(one for one in every if one.policy != "random" and one.scenario == first.scenario)


def address(one: RecordedEpisode) -> str:
    return f"/runs/over/episodes/evaluation/{one.number}"


def moment(page: Page, expected: int) -> None:
    expect(page.locator(".film")).to_have_attribute("data-moment", str(expected))


def test_the_arrow_keys_lead_through_a_film(watched: Open, pair: tuple[RecordedEpisode, ...]) -> None:
    page = watched().open(address(pair[0]))
    moment(page, 0)
    for key, expected in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", len(pair[0].rows)),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        moment(page, expected)
    page.locator("[data-step='2']").click()
    moment(page, 3)
    expect(page).to_have_url(re.compile("#3$"))
    page.reload()
    moment(page, 3)


def test_the_truth_shows_only_after_its_switch(watched: Open, pair: tuple[RecordedEpisode, ...]) -> None:
    page = watched().open(f"{address(pair[0])}#2")
    moment(page, 2)
    expect(page.locator("[data-truth-panels], .film-tag")).to_have_count(0)
    assert pair[0].scenario not in page.locator("body").inner_text()
    page.locator("[data-truth-switch]").check()
    expect(page.locator("[data-truth-panels]")).to_be_visible()
    expect(page.locator("[data-scenario]")).to_have_text(pair[0].scenario)
    page.reload()
    moment(page, 2)
    expect(page.locator("[data-truth-panels]")).to_have_count(0)


def test_a_role_sees_its_own_turns_alone(watched: Open, pair: tuple[RecordedEpisode, ...]) -> None:
    rows = pair[0].rows
    page = watched().open(f"{address(pair[0])}#1/manager")
    assert rows[0]["role"] != "manager"
    expect(page.locator("[data-unseen]")).to_be_visible()
    own = next(index for index, row in enumerate(rows) if row["role"] == "manager")
    page.locator(f"[data-step='{own}']").click()
    expect(page.locator("[data-read]")).to_be_visible()
    expect(page.locator("[data-panel='services'], [data-rubrics], [data-truth-switch]:visible")).to_have_count(0)
    expect(page.locator(".film-charts-part")).to_be_hidden()
    for index, row in enumerate(rows):
        shown = page.locator(f"[data-step='{index}'] .film-action").inner_text()
        assert bool(shown) == (row["role"] == "manager")


def test_two_films_move_together(watched: Open, pair: tuple[RecordedEpisode, ...]) -> None:
    one, other = [f"over/evaluation/{found.number}" for found in pair]
    page = watched().open(f"/compare?one={one}&other={other}")
    expect(page.locator(".film-stage")).to_have_count(2)
    page.locator("[data-do='difference']").click()
    expect(page.locator(".film-turns [aria-current]")).to_have_count(2)
    expect(page.locator(".film-fork")).to_have_count(2)


def test_an_episode_is_forked_on_its_page(watched: Open, pair: tuple[RecordedEpisode, ...]) -> None:
    page = watched().open(address(pair[0]))
    page.locator("#fork summary").click()
    page.locator("#fork-action option", has_text="noop").first.wait_for(state="attached")
    page.locator("#fork-action").select_option("noop")
    page.locator("#fork-policy").select_option("oracle")
    page.locator("#fork button", has_text="Play it on").click()
    expect(page.locator("[data-fork-result] h2").first).to_have_text("Two futures from turn 1")
    expect(page.locator("[data-fork-result] .film-stage")).to_have_count(2)


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_films_can_be_read_by_everybody(watched: Open, pair: tuple[RecordedEpisode, ...], width: int) -> None:
    one, other = [f"over/evaluation/{found.number}" for found in pair]
    for scheme in ("light", "dark"):
        found = watched(viewport={"width": width, "height": 900}, color_scheme=scheme)
        for place in (f"{address(pair[0])}#2", f"{address(pair[0])}#4/sre", f"/compare?one={one}&other={other}#2"):
            found.open("/")  # another moment of the same page would not load it again
            page = found.open(place)
            expect(page.locator(".film-view").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, place
            assert found.axe() == [], place
