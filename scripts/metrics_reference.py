"""Print docs/metrics.md: every figure of a row of metrics.jsonl, from the table. `make docs` writes the page."""

from __future__ import annotations

from collections.abc import Iterator

from chaosops_ray.telemetry.table import RUN, TOPICS, Metric, Topic

INTRODUCTION = """# Metrics of a run

Made by `make docs`.

`RUN/metrics.jsonl` has one line of JSON for each update. A figure that is defined for none of the update's episodes is
null. A run that resumes from a checkpoint removes the lines after it, so that every update is there once.

`chaosops train` shows the same figures while it runs, and `RUN/report.html` has the curves and the last line.
[telemetry.md](telemetry.md) says how to have them in Prometheus and Grafana, TensorBoard, W&B or MLflow. All of these
are made from one table, `chaosops_ray/telemetry/table.py`, and so is this page.

In a key, a dot leads into an object, and a part in braces stands for any name: `tiers.{tier}.mean` is `mean` in the
object of each tier in `tiers`. TensorBoard, W&B and MLflow have the same keys with a slash, as in `tiers/easy/mean`. In
Prometheus, a part in braces is a label, and every metric has the label `RUN` beside it. A counter of Prometheus adds up
what the updates have.
""".replace("`RUN` beside", f"`{RUN}` beside")


def reference() -> str:
    """The page."""
    return "\n".join([INTRODUCTION, *[section(topic) for topic in TOPICS]])


def section(topic: Topic) -> str:
    """A topic's heading, what it is about, and its figures."""
    return "\n".join([f"## {topic.title}\n", *([f"{topic.about}\n"] if topic.about else []), *table(topic), ""])


def table(topic: Topic) -> Iterator[str]:
    """The figures of a topic, a line each."""
    yield "| key | unit | meaning | in Prometheus |"
    yield "|---|---|---|---|"
    for metric in topic.metrics:
        yield f"| `{metric.key}` | {metric.unit or '–'} | {meaning(metric)} | {prometheus(metric)} |"


def meaning(metric: Metric) -> str:
    """The explanation, and which runs have the figure if not all of them do."""
    return metric.help + (f" (runs with: {metric.applies})" if metric.applies else "")


def prometheus(metric: Metric) -> str:
    """The name there, and its kind if it is no gauge."""
    if metric.kind == "text":
        return "–"
    return f"`{metric.exported}`" + (", a counter" if metric.kind == "counter" else "")


if __name__ == "__main__":
    print(reference(), end="")
