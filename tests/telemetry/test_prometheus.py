"""A real Prometheus reads a real run, with the configuration that is shipped, and answers what every panel asks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import ray

from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.telemetry.prometheus import DISCOVERY
from chaosops_ray.telemetry.table import METRICS
from chaosops_ray.training import check, launch, loop
from scripts.tools import REQUIRED
from tests.support.cluster import small_run
from tests.support.models import tiny_base

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "chaosops.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUN = "scraped"
# What the run here has none of; everything else, it has.
NOT_HERE = {"gpu"}
UPDATES = 6

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


class Prometheus(NamedTuple):
    """A server, and when it was started."""

    url: str
    began: float

    def ask(self, what: str, **given: Any) -> Any:
        with urlopen(f"{self.url}/api/v1/{what}?{urlencode(given)}", timeout=30) as answer:  # noqa: S310 - on loopback
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        """All series of an expression over the time of the run, as a panel draws them."""
        given = {"query": expression, "start": self.began, "end": time.time(), "step": 1}
        found: list[dict[str, Any]] = self.ask("query_range", **given)["result"]
        return found


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Start the server with the shipped configuration, which it only follows at shorter intervals."""
    program = shutil.which("prometheus")
    if program is None:
        missing = "Prometheus is not installed; `make tools` installs it"
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(missing)
    shipped = CONFIG.read_text()
    assert shipped.count(": 10s") == 3
    (folder / "prometheus.yml").write_text(shipped.replace(": 10s", ": 1s"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.time()
    files = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    process = subprocess.Popen(
        [program, *files, f"--web.listen-address={address}", "--log.level=warn"], stderr=subprocess.PIPE, text=True
    )
    try:
        while not is_ready(address):
            assert process.poll() is None, process.communicate()[1]
            assert time.time() < began + 120
            time.sleep(0.1)
        yield Prometheus(f"http://{address}", began)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def is_ready(address: str) -> bool:
    try:
        with urlopen(f"http://{address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


class Scraped(NamedTuple):
    """A run that is over, and the Prometheus that has read it."""

    prometheus: Prometheus
    rows: list[dict[str, Any]]
    noted: list[str]
    announced: Path


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A pipelined run on a Ray of its own, evaluated on the way, with a sink that can write nothing."""
    path = tmp_path_factory.mktemp("run") / RUN
    settings = (
        "schedule=pipelined",
        "evaluation.every=2",
        "evaluation.seeds=1000",
        "telemetry=[prometheus,tensorboard]",
    )
    run = small_run(f"updates={UPDATES}", f"curriculum=easy:{UPDATES}", *settings)
    noted: list[str] = []
    with pytest.MonkeyPatch.context() as patch, prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        with launch.cluster([run], None, lambda _text: None):
            training = loop.prepare(run, tiny_base(), RunFolder.create(path, check.written(run)))
            (path / "tensorboard").write_text("not a folder")
            context = ray.get_runtime_context()
            announced = Path(context.get_temp_dir()) / DISCOVERY.format(context.get_session_name())
            assert announced.exists()
            launch.finish(training, lambda _row: None, lambda _text: None, note=noted.append)
        yield Scraped(server, training.folder.metrics(), noted, announced)


def asked(panel: dict[str, Any]) -> list[str]:
    """The expressions of a panel, with what Grafana puts in for its variables."""
    with_values = {"$run": RUN, "$metric": ".+", "$__rate_interval": "20s"}
    found = []
    for target in panel["targets"]:
        expression: str = target["expr"]
        for variable, value in with_values.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        found.append(expression)
    return found


def is_here(expression: str) -> bool:
    (metric,) = [one for one in METRICS if one.kind != "text" and one.exported + "{" in expression]
    return metric.applies not in NOT_HERE


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_that_applies_has_data(scraped: Scraped, panel: dict[str, Any]) -> None:
    for expression in asked(panel):
        assert bool(scraped.prometheus.series(expression)) == is_here(expression), expression


def test_the_values_are_those_of_the_metrics(scraped: Scraped) -> None:
    (found,) = scraped.prometheus.series(f'ray_chaosops_kl{{run="{RUN}"}}')
    values = {float(value) for _, value in found["values"]}
    known = [row["learner"]["kl"] for row in scraped.rows if row["learner"]]
    assert values
    assert all(any(value == pytest.approx(one) for one in known) for value in values)
    (episodes,) = scraped.prometheus.series(f'ray_chaosops_episodes_total{{run="{RUN}"}}')
    assert 0 < float(episodes["values"][-1][1]) <= sum([row["episodes"] for row in scraped.rows])


def test_what_a_reader_chooses_from_is_there(scraped: Scraped) -> None:
    assert RUN in scraped.prometheus.ask("label/run/values", **{"match[]": "ray_chaosops_update"})
    metrics = scraped.prometheus.ask("label/metric/values", **{"match[]": f'ray_chaosops_tier_metric{{run="{RUN}"}}'})
    assert {"success", "rogue_catch"} & set(metrics)


def test_a_sink_that_fails_is_noted_once_and_counted_and_the_run_goes_on(scraped: Scraped) -> None:
    assert [row["update"] for row in scraped.rows] == list(range(1, UPDATES + 1))
    assert scraped.rows[-1]["machine"]["sinks_failed"]["tensorboard"] >= UPDATES - 2
    (line,) = scraped.noted
    assert line.startswith("telemetry: tensorboard failed at update 1: ")


def test_a_ray_is_announced_as_long_as_it_is_there(scraped: Scraped) -> None:
    assert scraped.announced.parent.name == "ray"  # where the shipped configuration looks
    assert not scraped.announced.exists()
