"""The control room in a real browser: from the list of runs to an episode, a fork, a comparison and a live play."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.support.films import ROGUE, STRIDE

EPISODE = "/runs/over/episodes/evaluation/"
PAGES = [
    "/",
    "/runs/over",
    "/runs/over/evaluation",
    "/runs/over/episodes",
    f"{EPISODE}0",
    f"/compare?one=over/evaluation/{ROGUE}&other=over/evaluation/{ROGUE + STRIDE}",
    "/live",
    "/live?world=tools&policy=heuristic&seed=5",
    "/runs/begun",
    "/runs/damaged",
]


def film(page: Page) -> None:
    """Wait until the film is drawn."""
    page.locator(".film[data-moment]").first.wait_for()


def moment(page: Page) -> str:
    return page.locator(".film").first.get_attribute("data-moment") or ""


def test_from_the_list_of_runs_to_what_a_role_saw_a_fork_and_a_comparison(watched: Open) -> None:
    page = watched().open("/")
    page.get_by_role("link", name="over", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("over")
    page.locator("canvas").first.wait_for()

    page.get_by_role("link", name="Evaluation").first.click()
    page.get_by_role("link", name=re.compile(r"hard.*trained|trained.*hard")).first.click()
    page.locator("a[href*='/episodes/evaluation/']").first.click()
    film(page)

    # The truth is off at first, and off for good in the eyes of a role.
    assert page.locator("[data-truth-panels]:visible").count() == 0
    assert page.locator("[data-scenario]:visible").count() == 0
    assert page.locator("[data-outcome]:visible").count() == 0
    page.locator("[data-truth-switch]").check()
    expect(page.locator("[data-truth-panels]")).to_be_visible()
    # With the keyboard through the moments; what the SRE read and wrote.
    page.locator("h1").click()
    page.keyboard.press("End")
    assert moment(page) == str(page.locator("[data-turns] [data-step]").count())
    page.locator("[data-see-as=sre]").check(force=True)
    assert page.locator("[data-truth-panels]:visible").count() == 0
    expect(page.locator("[data-read]")).to_contain_text("payments")
    expect(page.locator("[data-wrote]")).to_be_visible()
    page.locator("[data-see-as=spectator]").check(force=True)
    page.locator("[data-truth-switch]").uncheck()

    # What if somebody else had gone on from the first turn?
    page.locator("[data-step='0']").click()
    assert moment(page) == "1"
    page.locator("#fork summary").click()
    page.locator("#fork-policy").select_option("random")
    page.get_by_role("button", name="Play it on").click()
    page.locator("[data-fork-result] .film[data-films='2']").wait_for()
    assert page.locator("[data-fork-result] [data-truth-panels]:visible").count() == 0

    page.get_by_role("link", name=re.compile("compare")).first.click()
    page.locator(".film[data-films='2']").wait_for()
    expect(page.locator("[data-first-difference]")).to_be_visible()


def test_the_manager_sees_no_metrics(watched: Open) -> None:
    page = watched().open(f"{EPISODE}{ROGUE + STRIDE}")  # of the random policy, in which everybody has a turn
    film(page)
    page.keyboard.press("End")
    page.locator("[data-see-as=manager]").check(force=True)
    stage = page.locator(".film-stage")
    expect(stage).to_contain_text("alerts")
    for text in ("latency", "replicas", "memory", "cpu", "services"):
        assert text not in stage.inner_text().lower().replace("system prompt", ""), text
    assert page.locator("[data-chart]:visible").count() == 0
    page.locator("[data-see-as=sre]").check(force=True)
    expect(stage).to_contain_text("latency")


def test_a_live_play_grows_and_ends(watched: Open) -> None:
    page = watched().open("/live?world=incident&policy=heuristic&tier=hard&seed=7")
    if page.locator(".film").count() == 0:
        page.get_by_role("button", name="Play", exact=True).click()
    film(page)
    page.locator("[data-turns] [data-step]").nth(2).wait_for()
    assert page.locator("[data-truth-panels]:visible").count() == 0


def test_a_policy_that_cannot_be_loaded_is_unavailable_and_nothing_plays(watched: Open) -> None:
    page = watched().open("/live?world=incident&policy=trained%3Dover&seed=7")
    if page.get_by_text("UNAVAILABLE").count() == 0:
        page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_text(re.compile("UNAVAILABLE")).first).to_be_visible()
    assert page.locator("[data-turns] [data-step]").count() == 0


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 900, "light"), (360, 740, "dark")])
def test_no_page_has_a_serious_fault_of_accessibility_or_is_wider_than_the_screen(
    watched: Open, width: int, height: int, scheme: str
) -> None:
    found = []
    one = watched(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    for path in PAGES:
        page = one.open(path)
        if path.startswith((EPISODE, "/compare")):
            film(page)
        found += [f"{path}: {fault}" for fault in one.axe()]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{path}: wider than {width} pixels")
    assert found == []
