"""Print deploy/grafana/chaosops.json: Grafana's dashboard of runs, from the table of metrics. `make docs` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from chaosops_ray.telemetry.table import RUN, TOPICS, Metric, Topic

# Grafana's grid is 24 wide.
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What Grafana calls the units of the table; any other unit is written after the number.
_UNITS = {"": "short", "share": "percentunit", "seconds": "s", "bytes": "bytes"}
# In a panel's title: it is there once for each of the world's own metrics.
_REPEATED = "$metric"


class Query(NamedTuple):
    """What a panel asks Prometheus, and how it writes each answer."""

    metric: Metric
    expression: str
    legend: str


class Chart(NamedTuple):
    """A panel of the dashboard: the metrics of the table that name it."""

    title: str
    metrics: tuple[Metric, ...]

    @property
    def queries(self) -> list[Query]:
        """One query for each metric."""
        return [query(metric, alone=len(self.metrics) == 1) for metric in self.metrics]


def charts(topic: Topic) -> list[Chart]:
    """Return the panels of a topic, in the table's order."""
    titles = dict.fromkeys([metric.panel for metric in topic.metrics if metric.kind != "text"])
    return [Chart(title, tuple([one for one in topic.metrics if one.panel == title])) for title in titles]


def query(metric: Metric, *, alone: bool) -> Query:
    """Return what to ask for a metric: its value, or of a counter how fast it grows."""
    chosen = f'{RUN}=~"$run"' + (', metric=~"$metric"' if "metric" in metric.labels else "")
    series = f"{metric.exported}{{{chosen}}}"
    by = ", ".join([RUN, *metric.labels])
    # A node's other labels would draw a new line when a run is resumed.
    expression = (
        f"sum by ({by}) (rate({series}[$__rate_interval]))" if metric.kind == "counter" else f"max by ({by}) ({series})"
    )
    parts = [label for label in metric.labels if label != "metric"]
    legend = " ".join([f"{{{{{label}}}}}" for label in parts])
    name = "" if alone else metric.path[-1] if not metric.path[-1].startswith("{") else metric.path[-2]
    return Query(metric, expression, " ".join([part for part in (name, legend, f"{{{{{RUN}}}}}") if part]))


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "chaosops",
        "title": "ChaosOps runs",
        "description": "Made from the table of metrics by scripts/grafana_dashboard.py.",
        "tags": ["chaosops"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables()},
        "panels": list(panels()),
    }


def variables() -> list[dict[str, Any]]:
    """Return what a reader chooses: the source of data, the runs, and the world's own metrics."""
    several = {"type": "query", "datasource": _SOURCE, "multi": True, "includeAll": True, "refresh": 2, "sort": 1}
    return [
        {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"},
        {**several, "name": "run", "label": "run", "query": f"label_values(ray_chaosops_update, {RUN})"},
        {
            **several,
            "name": "metric",
            "label": "world metric",
            "query": f'label_values(ray_chaosops_tier_metric{{{RUN}=~"$run"}}, metric)',
        },
    ]


def panels() -> Iterator[dict[str, Any]]:
    """Yield a row for each topic, and below it its panels."""
    number, y = 0, 0
    for topic in TOPICS:
        number += 1
        yield {"id": number, "type": "row", "title": topic.title, "collapsed": False, "gridPos": _at(0, y, _COLUMNS, 1)}
        y += 1
        x = 0
        for chart in charts(topic):
            is_repeated = _REPEATED in chart.title
            if x and (is_repeated or x + _WIDTH > _COLUMNS):
                x, y = 0, y + _HEIGHT
            number += 1
            width = _COLUMNS if is_repeated else _WIDTH
            yield panel(chart, number, _at(x, y, width, _HEIGHT))
            x += width
        y += _HEIGHT


def panel(chart: Chart, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    """Return a panel with a line for each answer to its queries."""
    units = {metric.unit for metric in chart.metrics}
    unit = units.pop() if len(units) == 1 else ""
    if chart.metrics[0].kind == "counter":
        unit = f"{unit}/s"
    targets = [
        {"refId": chr(ord("A") + i), "datasource": _SOURCE, "expr": one.expression, "legendFormat": one.legend}
        for i, one in enumerate(chart.queries)
    ]
    repeated = {"repeat": "metric", "repeatDirection": "h", "maxPerRow": _COLUMNS // _WIDTH}
    return {
        "id": number,
        "type": "timeseries",
        "title": chart.title,
        "description": description(chart.metrics),
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": _UNITS.get(unit, f"suffix: {unit}"),
                "custom": {"lineWidth": 1, "showPoints": "auto", "spanNulls": False},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
        **(repeated if _REPEATED in chart.title else {}),
    }


def description(metrics: Sequence[Metric]) -> str:
    """Return the explanations of a panel's metrics, each under its key."""
    return "\n\n".join(
        [
            f"`{one.key}`{f' ({one.unit})' if one.unit else ''}: {one.help}"
            + (f". Only runs with: {one.applies}." if one.applies else ".")
            for one in metrics
        ]
    )


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2, ensure_ascii=False))
