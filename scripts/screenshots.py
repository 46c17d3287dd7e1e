"""Draw the pictures of the control room in docs/images, from real runs.

    python -m scripts.screenshots RUNS_DIR RUN

RUN is a finished run in RUNS_DIR, such as one that `make demo` has trained. It needs the browser of `make tools`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
_WIDTH = 1180
_WAIT_MS = 1500  # until charts are drawn and fonts are there


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """Run a control room; yield its address."""
    command = [sys.executable, "-m", "chaosops_ray.cli", "watch", str(runs), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        try:
            found = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
            if found is None:
                raise SystemExit("the control room did not start")
            yield found[0].rstrip("/")
        finally:
            server.terminate()


def shot(page: Page, name: str, height: int) -> None:
    """Write a picture of the page's beginning."""
    page.wait_for_timeout(_WAIT_MS)
    part = FloatRect(x=0, y=0, width=_WIDTH, height=height)
    page.screenshot(path=IMAGES / f"{name}.png", clip=part, full_page=True)
    print(f"wrote {IMAGES / name}.png")


def opened(browser: Browser, url: str) -> Page:
    """Open a page in a window of its own."""
    page = browser.new_page(viewport={"width": _WIDTH, "height": 900})
    page.goto(url)
    return page


def main(runs: Path, run: str) -> None:
    """Draw all pictures."""
    with served(runs) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shot(opened(browser, f"{url}/runs/{run}"), "control-room-run", 1180)
        page = opened(browser, f"{url}/runs/{run}/evaluation")
        shot(page, "control-room-evaluation", 560)
        # The last tier of the trained policy, and there the first episode that a rogue agent has caused.
        page.goto(f"{url}/runs/{run}/episodes?file=evaluation&policy=trained&group=rogue_deploy_bot")
        page.locator("a[href*='/episodes/evaluation/']").first.click()
        page.locator("[data-turns] [data-step='1']").click()
        shot(page, "control-room-film", 1180)
        page.locator("[data-see-as=oversight]").check(force=True)
        shot(page, "control-room-role", 1000)
        page.locator("a[href*='/compare']").nth(2).click()
        page.locator(".film[data-films='2']").wait_for()
        page.locator("[data-turns] [data-step='1']").first.click()
        shot(page, "control-room-compare", 1180)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
