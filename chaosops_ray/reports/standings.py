"""The scores of one scenario that several players played, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chaosops_ray.reports import tables
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode

YOU = "you"  # the person among the players


class Standings(NamedTuple):
    """Titles of the figures, and for each player its name and the figures as they are shown."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def standings(environment: AnyEnvironment, episodes: Mapping[str, AnyEpisode]) -> Standings:
    """Return the standings of the episodes, by the names of their players."""
    shown = [metric for metric in environment.metrics if metric.in_tables]
    best = sorted(episodes.items(), key=lambda item: -environment.headline(item[1]))
    rows = [
        (
            name,
            (
                tables.headline(environment, environment.headline(episode)),
                str(len(episode.steps)),
                *[tables.metric_figure(metric, metric.of(episode)) for metric in shown],
            ),
        )
        for name, episode in best
    ]
    return Standings((environment.headline_name, "turns", *[metric.title for metric in shown]), tuple(rows))
