"""A seat played in a browser: by keyboard alone, without scripts, and as small screens and assistive tools see it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open

pytestmark = pytest.mark.slow

MANY = 200  # of Tab keys; far more than any page has elements


def reach(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(MANY):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab leads to {selector}")


def act(page: Page, line: str) -> None:
    reach(page, "#line")
    page.keyboard.press("Control+a")
    page.keyboard.type(line)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_a_seat_is_played_by_keyboard_alone(watched: Open) -> None:
    seen = watched(color_scheme="dark", viewport={"width": 360, "height": 800})
    page = seen.open("/play?world=incident&seat=oversight&tier=hard&seed=7&others=oracle")
    assert seen.axe() == []
    reach(page, "button.main")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    act(page, "flag nobody at all")
    assert "Not taken" in page.inner_text("[role=alert]")
    assert page.input_value("#line") == "flag nobody at all"
    assert seen.axe() == []
    act(page, "noop")
    assert page.locator("[data-changed]").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for _ in range(MANY):
        if page.locator("[data-film]").count():
            break
        reach(page, "button[value=noop]")
        with page.expect_navigation():
            page.keyboard.press("Enter")
    page.wait_for_selector("[data-film] [data-turns]")
    assert not page.is_checked("[data-truth-switch]")
    assert page.locator("[data-scenario]").count() == 0
    assert seen.axe() == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    with page.expect_download() as download:
        reach(page, "a[download]")
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "episodes.parquet"
    reach(page, "a[href$='beside=oracle#film']")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.wait_for_selector("[data-first-difference]")
    page.go_back()
    page.go_back()  # to what was the last turn: the play is over now
    assert "is over" in page.inner_text("h1")


def test_a_seat_is_played_without_scripts(watched: Open) -> None:
    page = watched(java_script_enabled=False).open("/play?world=tools&tier=warmup&seed=3")
    page.click("button.main")
    page.click("summary:has-text('calculator')")
    page.fill("#calculator-expression", "2 * 3")
    page.click("button:text-is('calculator')")
    assert "Turn 2" in page.inner_text("h1")
    page.fill("#line", '{"tool": "submit_answer", "arguments": {"answer": "6", "reasoning": "a guess"}}')
    page.click(".seat-line button")
    assert "is over" in page.inner_text("h1")
    assert "The film needs JavaScript" in page.inner_text("noscript")
    assert page.locator(".seat-scores .own").count() == 1
