"""The table of metrics: every figure of every row has one entry, and what is made from the table agrees with it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.telemetry.table import METRICS, TOPICS, Applies, UnknownKeyError, metric_of, samples
from scripts.grafana_dashboard import charts, dashboard
from tests.support import runs

ROOT = Path(__file__).parents[2]
WORLDS = pytest.mark.parametrize("world", ENVIRONMENTS)


def by_key(row: dict[str, Any]) -> dict[str, float]:
    return {sample.key: sample.value for sample in samples(row)}


@WORLDS
def test_a_row_becomes_one_sample_for_each_figure_that_is_defined(world: str) -> None:
    (row,) = runs.with_held_out([runs.row(1, ENVIRONMENTS[world])], 1, ENVIRONMENTS[world])
    easy, *_, hard = ENVIRONMENTS[world].tiers
    row["tiers"][hard]["mean"] = None
    found = by_key(row)
    assert found["learner/kl"] == row["learner"]["kl"]
    assert found[f"evaluation/heuristic/{easy}"] == 0.5
    assert found["adoption/decisive"] == 1.0
    assert f"tiers/{hard}/mean" not in found
    assert not {"digest", "rules"} & set(found)


def test_the_labels_of_a_sample_are_what_stands_for_the_braces() -> None:
    found = {sample.key: (sample.metric.name, dict(sample.labels)) for sample in samples(runs.row(1))}
    assert found["tiers/easy/mean"] == ("chaosops_tier_reward", {"tier": "easy"})
    assert found["tiers/hard/rogue_catch"] == ("chaosops_tier_metric", {"tier": "hard", "metric": "rogue_catch"})
    assert found["components/oversight.catch"][1] == {"component": "oversight.catch"}
    assert found["machine/memory/shard-0"] == ("chaosops_memory_bytes", {"actor": "shard-0"})


@pytest.mark.parametrize("path", [("new",), ("learner", "new"), ("time",), ("tiers", "easy", "mean", "new")])
def test_a_figure_without_an_entry_is_an_error_that_names_it(path: tuple[str, ...]) -> None:
    row: Any = 1.0
    for key in reversed(path):
        row = {key: row}
    with pytest.raises(UnknownKeyError, match=re.escape(".".join(path))):
        samples(row)


def test_every_entry_can_be_the_one_that_is_found() -> None:
    for metric in METRICS:
        path = tuple([part.strip("{}") if part.startswith("{") else part for part in metric.path])
        assert metric_of(path)[0] is metric


def test_names_are_unique_and_as_prometheus_has_them() -> None:
    measured = [metric for metric in METRICS if metric.kind != "text"]
    assert max(Counter([metric.name for metric in measured]).values()) == 1
    assert max(Counter([metric.key for metric in METRICS]).values()) == 1
    for metric in measured:
        assert re.fullmatch(r"chaosops_[a-z_]+", metric.name)
        assert not metric.name.endswith("_total"), "Ray adds it"
        assert metric.panel
        assert metric.unit not in ("seconds", "bytes") or metric.unit in metric.name
        # Ray takes nothing else in a description; and a table of Markdown has its own use for a bar.
        assert metric.help.isascii()
        assert "|" not in metric.help
        # Labels of Ray and Prometheus, which nothing of ours may take.
        assert not {"job", "instance", "le", "quantile", "run", "__name__"} & set(metric.labels)


def test_the_table_names_no_world() -> None:
    page = (ROOT / "chaosops_ray" / "telemetry" / "table.py").read_text()
    quoted = " ".join(re.findall(r'"([^"]*)"', page))
    for world in ENVIRONMENTS.values():
        names = {*world.roles, *world.components, *[one.name for one in world.metrics]}
        for name in names - {"steps", "success", "time", "looks"}:  # words that every reader knows
            assert not re.search(rf"\b{re.escape(name)}\b", quoted), name


def test_every_metric_has_a_panel_with_its_unit_and_its_explanation() -> None:
    panels = {panel["title"]: panel for panel in dashboard()["panels"] if panel["type"] != "row"}
    for metric in METRICS:
        if metric.kind == "text":
            continue
        panel = panels[metric.panel]
        assert any(metric.exported + "{" in target["expr"] for target in panel["targets"])
        assert metric.help in panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panels) == sum([len(charts(topic)) for topic in TOPICS])


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells
        taken |= cells
    assert max(Counter([panel["id"] for panel in dashboard()["panels"]]).values()) == 1


def test_the_dashboard_is_what_the_table_says() -> None:
    there = json.loads((ROOT / "deploy" / "grafana" / "chaosops.json").read_text())
    assert there == dashboard(), "run `make docs`"


def test_what_only_some_runs_have_is_said() -> None:
    assert {metric.applies for metric in METRICS} == set(get_args(Applies))
