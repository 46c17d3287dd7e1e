"""The display of an incident: the fleet as it can be seen, what each role sees of it, and the truth apart."""

from __future__ import annotations

from collections.abc import Iterable

from chaosops_ray.sim.board import Cell, Chart, Panel, Row, Tone, sparkline
from chaosops_ray.sim.contract import Episode
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import (
    CRITICAL,
    DEGRADED,
    DOWN,
    HEALTHY,
    SERVICES,
    Action,
    Alert,
    FleetEntry,
    LogLine,
    Message,
    Service,
    World,
)
from chaosops_ray.sim.incident.physics import acting
from chaosops_ray.sim.incident.views import View

_HEALTH_TONES: dict[str, Tone] = {HEALTHY: "good", DEGRADED: "warn", CRITICAL: "bad", DOWN: "bad"}
_LEVEL_TONES: dict[str, Tone] = {"ERROR": "bad", "WARN": "warn", "page": "bad", "warn": "warn"}
_CHAT_SHOWN = 4
_LATENCY_RANGE = (0.0, 1800.0)
_ERROR_RANGE = (0.0, 0.8)
_METRICS = ("service", "health", "replicas", "cpu", "memory", "latency", "errors")
# Of each chart: title, unit, help, and the figure of a service.
_CHARTS = (
    ("latency", "ms", "How long a service takes to answer a request.", lambda service: service.latency),
    ("errors", "%", "The share of requests that a service fails.", lambda service: 100 * service.error_rate),
    ("cpu", "%", "How busy the processors of a service's replicas are.", lambda service: service.cpu),
    ("memory", "MB", "The memory that a replica uses.", lambda service: service.memory),
    ("replicas", "", "How many copies of a service are running.", lambda service: float(service.replicas)),
)


def board(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return what a spectator sees who does not know the cause, from the state of the fleet to the chat."""
    worlds = _worlds(episode)
    world = worlds[-1]
    return (
        _status(episode, world),
        _services(worlds),
        _fleet(world.fleet, world.flags),
        _chat("chat", world.messages),
        _logs_and_alerts(world.alerts, world.logs),
    )


def truth(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return the cause, who brought it about, and which marks of it are genuine."""
    world = episode.end
    culprit = FAILURES[world.scenario.case].culprit
    verdict: Tone = "muted" if not world.flags else "good" if world.flags == (culprit,) else "bad"
    rows: list[Row] = [
        (Cell("scenario"), Cell(episode.scenario.identity)),
        (Cell("cause"), Cell(FAILURES[world.scenario.case].summary, "accent")),
        (Cell("by"), Cell(f"the rogue is {culprit}" if culprit else "there is no rogue", "accent")),
        (Cell("accused"), Cell(", ".join(world.flags) or "nobody", verdict)),
    ]
    rows += [
        (
            Cell("not routine", "bad"),
            Cell(f"{entry.agent} {entry.operation} {entry.target}, {entry.detail}: {intent.replace('_', ' ')}"),
        )
        for entry, intent in zip(world.fleet, world.intents, strict=True)
        if intent != "routine"
    ]
    rows += [
        (Cell("decoy", "muted"), Cell(f"{line.service}: {line.text}", "muted"))
        for line, decoy in zip(world.logs, world.decoys, strict=True)
        if decoy
    ]
    return (Panel("truth", (), tuple(rows), "warn", is_wide=True),)


def charts(episode: Episode[World, View, Action]) -> tuple[Chart, ...]:
    """Return the metrics of the services over the episode."""
    worlds = _worlds(episode)
    return tuple(
        [
            Chart(
                title,
                unit,
                meaning,
                tuple(
                    [
                        (name, tuple([float(figure(world.services[index])) for world in worlds]))
                        for index, name in enumerate(SERVICES)
                    ]
                ),
            )
            for title, unit, meaning, figure in _CHARTS
        ]
    )


def seen(view: View) -> tuple[Panel, ...]:
    """Return one role's view, window by window; a window that it does not have is missing."""
    panels = []
    if view.services is not None:
        rows = tuple([_metrics(service) for service in view.services])
        panels.append(Panel("services", _METRICS, rows, is_wide=True))
    if view.fleet is not None:
        panels.append(_fleet(view.fleet))
    if view.logs is None:
        panels.append(_logs_and_alerts(view.alerts, (), "alerts"))
    else:
        panels.append(_logs_and_alerts(view.alerts, view.logs))
    panels += [_chat("chat", view.chat), _chat("to this role alone", view.inbox)]
    return tuple(panels)


def _worlds(episode: Episode[World, View, Action]) -> list[World]:
    return [episode.start, *[step.world for step in episode.steps]]


def _status(episode: Episode[World, View, Action], world: World) -> Panel:
    if world.resolved:
        state = Cell(f"resolved at step {world.step}", "good")
    elif world.done:
        state = Cell(f"unresolved after {world.step} steps", "bad")
    else:
        state = Cell(f"step {world.step + 1}, {acting(world)} to act", "accent")
    row = (state, Cell(f"rules {episode.rules}", "muted"), Cell(f"return {episode.total:+.1f}", "accent"))
    return Panel("incident", (), (row,), "accent", is_wide=True)


def _metrics(service: Service) -> Row:
    return (
        Cell(service.name),
        Cell(service.health, _HEALTH_TONES[service.health]),
        Cell(str(service.replicas)),
        Cell(f"{service.cpu:g}%"),
        Cell(f"{service.memory:g} MB"),
        Cell(f"{service.latency:g} ms"),
        Cell(f"{100 * service.error_rate:.0f}%"),
    )


def _services(worlds: list[World]) -> Panel:
    rows: list[Row] = []
    for index in range(len(SERVICES)):
        history = [world.services[index] for world in worlds]
        *cells, latency, errors = _metrics(history[-1])
        tone = _HEALTH_TONES[history[-1].health]
        rows.append(
            (
                *cells,
                latency,
                Cell(sparkline([service.latency for service in history], *_LATENCY_RANGE), tone),
                errors,
                Cell(sparkline([service.error_rate for service in history], *_ERROR_RANGE), tone),
            )
        )
    *heading, last = _METRICS
    return Panel("services", (*heading, "", last, ""), tuple(rows), is_wide=True)


def _fleet(entries: Iterable[FleetEntry], flags: tuple[str, ...] = ()) -> Panel:
    rows: list[Row] = [
        (
            Cell(f"{entry.minutes} min before", "muted"),
            Cell(entry.agent, "warn" if entry.agent in flags else "plain"),
            Cell(f"{entry.operation} {entry.target}, {entry.detail}"),
        )
        for entry in entries
    ]
    rows += [(Cell("accused", "warn"), Cell(agent, "warn")) for agent in flags]
    return Panel("what fleet agents did before the page", (), tuple(rows), is_wide=True)


def _logs_and_alerts(alerts: Iterable[Alert], logs: Iterable[LogLine], title: str = "alerts and logs") -> Panel:
    rows: list[Row] = [
        (Cell(alert.severity, _LEVEL_TONES[alert.severity]), Cell(alert.service), Cell(alert.text)) for alert in alerts
    ]
    rows += [
        (Cell(line.level, _LEVEL_TONES.get(line.level, "plain")), Cell(line.service), Cell(line.text)) for line in logs
    ]
    return Panel(title, (), tuple(rows) or ((Cell("nothing", "muted"),),))


def _chat(title: str, messages: Iterable[Message]) -> Panel:
    rows: list[Row] = [
        (
            Cell(f"{message.step:>2}", "muted"),
            Cell(message.sender if message.to is None else f"{message.sender} → {message.to}", "accent"),
            Cell(message.text),
        )
        for message in messages
    ]
    return Panel(title, (), tuple(rows) or ((Cell("nobody has spoken", "muted"),),), is_wide=True, last=_CHAT_SHOWN)
