"""An episode as plain values, from which pages draw it moment by moment.

A moment is the time before the first turn, or after one: `moments[0]` comes before `steps[0]`, `moments[1]` after it.
What those who play are not told is in `scenario`, in a moment's `truth`, and in a step's `outcome`; pages show it only
to those who ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from chaosops_ray.sim.board import Panel
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Style
from chaosops_ray.sim.episode import beginnings
from chaosops_ray.store.episodes import RecordedEpisode, origin_of, replayed
from chaosops_ray.wire import UNTRAINED, Origin

SCHEMA = "film/1"


def recorded_film(
    recorded: RecordedEpisode, style: Style, models: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the film of a recorded episode; InputError where playing its actions again gives something else.

    `style` is that of the texts which its players read, and `models` tells of each policy that is a model which one.
    """
    environment, episode = replayed(recorded)
    players = [row["player"] for row in recorded.rows]
    origins = [origin_of(row) for row in recorded.rows]
    return film(environment, episode, recorded.policy, style, players, origins, models.get(recorded.policy, {}))


def film(
    environment: AnyEnvironment,
    episode: AnyEpisode,
    policy: str,
    style: Style,
    players: Sequence[str] = (),
    origins: Sequence[Origin] = (),
    model: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the film of an episode, which may still go on; `players` and `origins` tell who took each of its steps."""
    is_over = environment.acting(episode.end) is None
    acted = [role for role in environment.roles if any(step.role == role for step in episode.steps)]
    return {
        "schema": SCHEMA,
        "world": environment.name,
        "title": environment.title,
        "scenario": episode.scenario.identity,
        "tier": episode.scenario.tier,
        "rules": episode.rules,
        "policy": policy,
        "model": dict(model),
        "roles": list(environment.roles),
        "is_over": is_over,
        "headline": {
            "name": environment.headline_name,
            "text": format(environment.headline(episode), environment.headline_format),
        },
        "metrics": [
            {"name": metric.name, "title": metric.title, "value": metric.of(episode), "is_share": metric.is_share}
            for metric in environment.metrics
        ]
        if is_over
        else [],
        "prompts": {role: environment.system_prompt(role, episode.rules, style) for role in acted},
        "examples": {role: [list(one) for one in environment.opening(role, episode.rules, style)] for role in acted},
        "moments": [
            {"board": drawn(environment.board(begun)), "truth": drawn(environment.truth(begun))}
            for begun in beginnings(episode)
        ],
        "steps": _steps(environment, episode, style, players or [policy] * len(episode.steps), origins),
        "charts": [
            {
                "title": chart.title,
                "unit": chart.unit,
                "help": chart.help,
                "lines": [{"name": name, "values": list(values)} for name, values in chart.lines],
            }
            for chart in environment.charts(episode)
        ],
    }


def drawn(panels: Iterable[Panel]) -> list[dict[str, Any]]:
    """Return panels as plain values; a cell is its text and its tone."""
    return [
        {
            "title": panel.title,
            "heading": list(panel.heading),
            "rows": [[[cell.text, cell.tone] for cell in row] for row in panel.rows],
            "tone": panel.tone,
            "is_wide": panel.is_wide,
        }
        for panel in panels
    ]


def _steps(
    environment: AnyEnvironment, episode: AnyEpisode, style: Style, players: Sequence[str], origins: Sequence[Origin]
) -> list[dict[str, Any]]:
    """Return each step with what its role saw and read before it, and what it wrote."""
    before: dict[str, Any] = {}  # the view that a role has read last
    total, found = 0.0, []
    for step, player, origin in zip(episode.steps, players, origins or [UNTRAINED] * len(players), strict=True):
        read = environment.render(step.view, before.get(step.role), style)
        before[step.role] = step.view
        total += step.score.total
        is_trained = origin != UNTRAINED
        found.append(
            {
                "role": step.role,
                "player": player,
                "version": origin.version,
                "digest": origin.digest,
                "seen": drawn(environment.seen(step.view)),
                "read": read,
                # What no model of ours wrote was never text; this is how a model would have written it.
                "wrote": origin.completion if is_trained else environment.format_action(step.action, style),
                "log_probs": list(origin.log_probs),
                "action": environment.format_action(step.action, "compact"),
                "error": environment.error(step),
                "outcome": sorted(step.outcome),
                "components": [[name, value] for name, value in step.score.components],
                "reward": step.score.total,
                "total": total,
            }
        )
    return found
