"""The figures under `time` in an update's row of metrics, computed from its spans; docs/metrics.md explains each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from chaosops_ray.spans import DRIVER, Track, covered, named, within
from chaosops_ray.wire import Group
from chaosops_ray.workers.pool import LEARNER

# The parts of an update, as the driver sees them.
COLLECT, UPDATE, PUBLISH, ADOPT = "collect", "update", "publish", "adopt"


def figures(tracks: Mapping[str, Track], samplers: Sequence[str], played: Sequence[Group]) -> dict[str, float | None]:
    """Return the figures of an update that has just ended, for which these groups were played."""
    parts = [named(tracks, DRIVER, part)[-1] for part in (COLLECT, PUBLISH, ADOPT)]
    collect, publish, adopt = parts
    update, sync = [(collect.start, adopt.end)], [(publish.start, adopt.end)]
    took = adopt.end - collect.start
    learning = named(tracks, LEARNER, "update")

    def mean(intervals: Sequence[tuple[float, float]]) -> float:
        """Return how many seconds of these intervals an engine computed completions, on average."""
        return fmean([within(named(tracks, sampler, "sample"), intervals) for sampler in samplers])

    def longest(kind: str) -> float:
        return max([within(named(tracks, sampler, kind), sync) for sampler in samplers])

    return {
        "rollout": collect.length,
        "engine": mean([(collect.start, collect.end)]),
        "update": publish.start - collect.end,
        "adopt": adopt.end - publish.start,
        "export": publish.length,
        "load": longest("load"),
        "proof": within(named(tracks, LEARNER, "probe"), sync) + longest("proof"),
        "idle_learner": 1 - within(learning, update) / took,
        "idle_engines": 1 - mean(update) / took,
        "overlap": mean([(max(start, collect.start), min(end, adopt.end)) for start, end in covered(learning)]) / took,
        "queue": queue(played),
        "steps_per_second": steps_per_second(tracks, played),
    }


def queue(played: Sequence[Group]) -> float | None:
    """Return the mean seconds that a request waited before an engine began with it; None if there was none."""
    found = [group.played for group in played if group.played is not None]
    requests = sum([one.requests for one in found])
    return sum([one.waited for one in found]) / requests if requests else None


def steps_per_second(tracks: Mapping[str, Track], played: Sequence[Group]) -> float | None:
    """Return the steps of episodes that a shard made in a second of playing, on average; None if none played."""
    playing = [covered(named(tracks, actor, "play")) for actor in tracks]
    seconds = sum([end - start for intervals in playing for start, end in intervals])
    steps = sum([len(report.actions) for group in played for report in group.reports])
    return steps / seconds if seconds else None
