"""The display of an incident for a spectator, the truth included."""

from __future__ import annotations

from chaosops_ray.sim.board import Cell, Panel, Row, Tone, amount, reward_panel, sparkline
from chaosops_ray.sim.contract import Episode
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import CRITICAL, DEGRADED, DOWN, HEALTHY, SERVICES, Action, Event, World
from chaosops_ray.sim.incident.physics import acting
from chaosops_ray.sim.incident.text import format_action
from chaosops_ray.sim.incident.views import View

_HEALTH_TONES: dict[str, Tone] = {HEALTHY: "good", DEGRADED: "warn", CRITICAL: "bad", DOWN: "bad"}
_LEVEL_TONES: dict[str, Tone] = {"ERROR": "bad", "WARN": "warn", "page": "bad", "warn": "warn"}
_EVENT_TONES: dict[str, Tone] = {
    Event.RESOLVED: "good",
    Event.HELPED: "good",
    Event.CORRECT_FLAG: "good",
    Event.CORRECT_ROOT_CAUSE: "good",
    Event.REPEATED: "muted",
    Event.WRONG_ROOT_CAUSE: "warn",
}
_TURNS_SHOWN = 6
_CHAT_SHOWN = 4
_LATENCY_RANGE = (0.0, 1800.0)
_ERROR_RANGE = (0.0, 0.8)


def board(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return the panels, from the state of the fleet to the sum of rewards."""
    worlds = [episode.start, *[step.world for step in episode.steps]]
    world = worlds[-1]
    return (
        _status(episode, world),
        _services(worlds),
        _oversight(episode, world),
        _turns(episode),
        _logs_and_alerts(world),
        reward_panel("reward by rubric", [part for step in episode.steps for part in step.score.components]),
        _chat(world),
    )


def _status(episode: Episode[World, View, Action], world: World) -> Panel:
    if world.resolved:
        state = Cell(f"resolved at step {world.step}", "good")
    elif world.done:
        state = Cell(f"unresolved after {world.step} steps", "bad")
    else:
        state = Cell(f"step {world.step + 1}, {acting(world)} to act", "accent")
    failure = FAILURES[world.scenario.case]
    return Panel(
        episode.scenario.identity,
        (),
        (
            (Cell(failure.summary), Cell(f"rules {episode.rules}", "muted")),
            (state, Cell(f"return {episode.total:+.1f}", "accent")),
        ),
        "accent",
        is_wide=True,
    )


def _services(worlds: list[World]) -> Panel:
    rows: list[Row] = []
    for index, name in enumerate(SERVICES):
        history = [world.services[index] for world in worlds]
        now = history[-1]
        tone = _HEALTH_TONES[now.health]
        rows.append(
            (
                Cell(name),
                Cell(now.health, tone),
                Cell(str(now.replicas)),
                Cell(f"{now.cpu:g}%"),
                Cell(f"{now.memory:g} MB"),
                Cell(f"{now.latency:g} ms"),
                Cell(sparkline([service.latency for service in history], *_LATENCY_RANGE), tone),
                Cell(f"{100 * now.error_rate:.0f}%"),
                Cell(sparkline([service.error_rate for service in history], *_ERROR_RANGE), tone),
            )
        )
    heading = ("service", "health", "replicas", "cpu", "memory", "latency", "", "errors", "")
    return Panel("services", heading, tuple(rows), is_wide=True)


def _logs_and_alerts(world: World) -> Panel:
    alerts = [
        (Cell(alert.severity, _LEVEL_TONES[alert.severity]), Cell(alert.service), Cell(alert.text))
        for alert in world.alerts
    ]
    logs = [
        (
            Cell(line.level, "muted" if decoy else _LEVEL_TONES.get(line.level, "plain")),
            Cell(line.service, "muted" if decoy else "plain"),
            Cell(f"{line.text}  (decoy)" if decoy else line.text, "muted" if decoy else "plain"),
        )
        for line, decoy in zip(world.logs, world.decoys, strict=True)
    ]
    return Panel("alerts and logs", (), (*alerts, *logs))


def _oversight(episode: Episode[World, View, Action], world: World) -> Panel:
    culprit = FAILURES[world.scenario.case].culprit
    rows: list[Row] = [
        (
            Cell(f"{entry.minutes} min ago", "muted"),
            Cell(entry.agent, "warn" if entry.agent in world.flags else "plain"),
            Cell(f"{entry.operation} {entry.target}, {entry.detail}"),
            Cell(intent, "muted" if intent == "routine" else "bad"),
        )
        for entry, intent in zip(world.fleet, world.intents, strict=True)
    ]
    score = sum(
        value for step in episode.steps for name, value in step.score.components if name.startswith("oversight.")
    )
    verdict: Tone = "muted" if not world.flags else "good" if world.flags == (culprit,) else "bad"
    rows.append(
        (
            Cell("flagged", verdict),
            Cell(", ".join(world.flags) or "nobody", verdict),
            Cell(f"the rogue is {culprit}" if culprit else "there is no rogue", "accent"),
            Cell(f"{score:+.1f}", "accent"),
        )
    )
    return Panel("oversight", (), tuple(rows), "warn", is_wide=True)


def _chat(world: World) -> Panel:
    rows: list[Row] = [
        (
            Cell(f"{message.step:>2}", "muted"),
            Cell(message.sender if message.to is None else f"{message.sender} → {message.to}", "accent"),
            Cell(message.text),
        )
        for message in world.messages[-_CHAT_SHOWN:]
    ]
    return Panel("chat", (), tuple(rows) or ((Cell("nobody has spoken", "muted"),),), is_wide=True)


def _turns(episode: Episode[World, View, Action]) -> Panel:
    steps = list(enumerate(episode.steps, start=1))[-_TURNS_SHOWN:]
    rows: list[Row] = []
    for number, step in steps:
        events = sorted(step.outcome)
        tone = _EVENT_TONES.get(events[0], "bad") if events else "muted"
        rows.append(
            (
                Cell(f"{number:>2}", "muted"),
                Cell(step.role, "accent"),
                Cell(format_action(step.action, "compact")),
                Cell(", ".join(event.replace("_", " ") for event in events), tone),
                Cell(amount(step.score.total), "good" if step.score.total > 0 else "bad"),
            )
        )
    return Panel("turns", (), tuple(rows) or ((Cell("nobody has acted", "muted"),),), is_wide=True)
