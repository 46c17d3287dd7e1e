"""The control room in a real browser: readable for everybody, live, and usable without a mouse."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from chaosops_ray.store.run_folder import RunFolder
from tests.browser.conftest import Open
from tests.support import runs

PAGES = ("/", "/runs/over", "/runs/over/evaluation", "/runs/over/episodes", "/runs/damaged", "/runs/begun/evaluation")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_can_be_read_by_everybody(watched: Open, width: int, scheme: str) -> None:
    found = watched(viewport={"width": width, "height": 900}, color_scheme=scheme)
    for address in PAGES:
        page = found.open(address)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{address} is wider than the window"
        assert found.axe() == [], address


def test_a_new_line_is_on_the_page_within_five_seconds(watched: Open, runs_dir: Path) -> None:
    page = watched().open("/runs/begun")
    done = len(RunFolder(runs_dir / "begun").metrics())
    expect(page.locator(".live.on")).to_be_visible()
    expect(page.locator(".chart").first).to_be_visible()
    RunFolder(runs_dir / "begun").log(runs.row(done + 1))
    expect(page.locator("#run-state")).to_contain_text(f"{done + 1} of 160", timeout=5000)


def test_a_chart_is_read_with_the_arrow_keys(watched: Open) -> None:
    page = watched().open("/runs/over")
    panel = page.locator(".panel").first
    panel.locator(".plot").focus()
    page.keyboard.press("Home")
    expect(panel.locator(".readout")).to_contain_text("update 1")
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".readout")).to_contain_text("update 2")
    page.keyboard.press("End")
    expect(panel.locator(".readout")).to_contain_text("update 40")


def test_a_cell_is_a_door_to_its_episodes(watched: Open) -> None:
    page = watched().open("/runs/over/evaluation")
    page.locator(".cells a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("over")
    expect(page.locator("#tier")).to_have_value("easy")
    expect(page.locator("main")).to_contain_text("8 of 66 episodes")
