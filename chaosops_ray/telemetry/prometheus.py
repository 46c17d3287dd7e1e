"""The sink for Prometheus: Ray's own metrics, which every node of a Ray offers to be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from chaosops_ray.store.files import write_text
from chaosops_ray.telemetry.sinks import Described
from chaosops_ray.telemetry.table import METRICS, RUN, Sample

# The file in which a Prometheus finds the nodes of a Ray, by the name of its session. Ray's dashboard writes one
# without the session, and deploy/prometheus/prometheus.yml reads all of them.
DISCOVERY = "prom_metrics_service_discovery.{}.json"


@contextmanager
def announced() -> Iterator[None]:
    """Write the address of the Ray that was started here where a Prometheus of this machine looks for it.

    A Ray with a dashboard does this itself; one without has the same metrics and tells nobody.
    """
    context = ray.get_runtime_context()
    file = Path(context.get_temp_dir()) / DISCOVERY.format(context.get_session_name())
    nodes = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]]
    write_text(file, json.dumps([{"labels": {"job": "ray"}, "targets": nodes}]))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


class PrometheusSink:
    """Gauges and counters of Ray, labelled with the run's name."""

    def __init__(self, described: Described) -> None:
        self._run = described.name
        self._made: dict[str, Any] = {
            metric.name: (Counter if metric.kind == "counter" else Gauge)(
                metric.name, description=metric.help, tag_keys=(RUN, *metric.labels)
            )
            for metric in METRICS
            if metric.kind != "text"
        }
        self._now: list[Sample] = []  # the gauges, as they stand
        self._held: list[Sample] = []  # the gauges of the last update that was evaluated

    def write(self, samples: Sequence[Sample], update: int) -> None:  # noqa: ARG002 - Prometheus has its own time
        """Add to the counters, and set the gauges."""
        for sample in samples:
            if sample.metric.kind == "counter" and sample.value > 0:  # Ray refuses to add nothing
                self._made[sample.metric.name].inc(sample.value, self._tags(sample))
        gauges = [sample for sample in samples if sample.metric.kind == "gauge"]
        self._now = [sample for sample in gauges if not sample.metric.is_held]
        self._held = [sample for sample in gauges if sample.metric.is_held] or self._held
        self.idle()

    def idle(self) -> None:
        """Set all gauges again: Ray forgets a gauge that is not set for some 20 s, and an update may take longer.

        So a figure that the last update does not have, and all of them after the run, are gone soon.
        """
        for sample in (*self._now, *self._held):
            self._made[sample.metric.name].set(sample.value, self._tags(sample))

    def close(self) -> None:
        """Leave the last values to Ray, which forgets them."""

    def _tags(self, sample: Sample) -> dict[str, str]:
        return {RUN: self._run, **sample.labels}


def opened(described: Described) -> PrometheusSink:
    """Open the sink of a run."""
    return PrometheusSink(described)
