"""A real browser on a real server. Every page is watched: no error in its console, no request to anywhere else.

`make tools` installs the browser and the accessibility checker. Where they are missing, these tests are skipped, and in CI
they fail.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from chaosops_ray.store.run_folder import RunFolder
from scripts.tools import AXE, REQUIRED
from tests.support import runs

ROOT = Path(__file__).parents[2]
SECONDS = 20.0
# What axe calls the two grades above moderate.
SERIOUS = ("serious", "critical")


def missing(tool: str) -> None:
    """Skip, or fail in CI."""
    words = f"{tool} is not installed; `make tools` installs it"
    if os.environ.get(REQUIRED):
        pytest.fail(words)
    pytest.skip(words)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; it keeps an event loop running, in which no test of another module could start one of its own."""
    path = shutil.which("chromium")
    if path is None:
        missing("chromium")
    with sync_playwright() as playwright:
        # Root has no sandbox of Chromium's; the pages are this project's own.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over, with its episodes; one that is not; and one that is damaged."""
    place = tmp_path_factory.mktemp("runs")
    runs.evaluated(place / "over", 40)
    runs.folder(place / "begun", 5)
    RunFolder.create(place / "damaged", runs.CONFIG)
    (place / "damaged" / "metrics.jsonl").write_bytes(b"\x00\xff no JSON\n")
    return place


@pytest.fixture(scope="session")
def room(runs_dir: Path) -> Iterator[str]:
    """The address of a control room on these runs."""
    command = [sys.executable, "-m", "chaosops_ray.cli", "watch", str(runs_dir), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        yield found[0].rstrip("/")
        server.terminate()
        server.wait(SECONDS)


class Watched:
    """A page, with what went wrong on it."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(1000 * SECONDS)
        self.origin = origin
        self.problems: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        self.page.on("request", self._request)

    def open(self, path: str) -> Page:
        self.page.goto(self.origin + path)
        return self.page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.problems.append(f"request to {request.url}")

    def axe(self) -> list[str]:
        """What the accessibility checker finds that is serious: rule, help, and the elements."""
        if not AXE.exists():
            missing("axe-core")
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{one['id']} ({one['help']}): {json.dumps([node['html'][:120] for node in one['nodes'][:3]])}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]


Open = Callable[..., Watched]


@pytest.fixture
def watched(browser: Browser, room: str) -> Iterator[Open]:
    """Opens pages in contexts of their own; afterwards nothing may have gone wrong on any."""
    contexts: list[BrowserContext] = []
    pages: list[Watched] = []

    def open_page(**settings: Any) -> Watched:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings}))
        pages.append(Watched(contexts[-1], room))
        return pages[-1]

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for page in pages for problem in page.problems] == []
