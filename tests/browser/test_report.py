"""The report of a run as a browser opens it from the disk: no server, nothing loaded, no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from chaosops_ray.reports import run_report
from tests.browser.conftest import Watched
from tests.support import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = runs.evaluated(tmp_path_factory.mktemp("runs") / "over", 40)
    return run_report.of(run.path).as_uri()


@pytest.fixture(params=["light, wide", "dark, narrow"])
def watched(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Watched]:
    is_dark = request.param.startswith("dark")
    size = {"width": 360, "height": 800} if is_dark else {"width": 1280, "height": 900}
    context = browser.new_context(viewport=size, color_scheme="dark" if is_dark else "light")
    page = Watched(context, address.rpartition("/")[0])
    page.open(f"/{Path(address).name}")
    yield page
    context.close()
    assert page.problems == []


def overflow(page: Page) -> int:
    found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found


def test_it_draws_its_curves_and_its_first_film(watched: Watched) -> None:
    page = watched.page
    page.wait_for_selector(".film [data-turns] li")
    assert page.locator("[data-curves] canvas").count() >= 6
    assert page.locator("[data-film][aria-pressed=true]").count() == 1
    assert page.locator("[data-policy=trained]").count() == page.locator("[data-policy=heuristic]").count() == 1
    assert overflow(page) == 0


def test_each_film_is_shown_when_it_is_chosen_and_goes_from_turn_to_turn(watched: Watched) -> None:
    page = watched.page
    for button in page.locator("[data-film]").all():
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert page.locator(".film").count() == 1
        page.keyboard.press("Tab")
        page.locator(".film [data-do=on]").click()
        assert page.locator(".film").get_attribute("data-moment") == "1"


def test_the_truth_shows_only_to_who_asks(watched: Watched) -> None:
    page = watched.page
    assert page.locator("[data-scenario]").count() == 0
    page.locator("[data-truth-switch]").check()
    assert page.locator("[data-scenario]").count() == 2


def test_an_accessibility_checker_finds_nothing_serious(watched: Watched) -> None:
    assert watched.axe() == []
