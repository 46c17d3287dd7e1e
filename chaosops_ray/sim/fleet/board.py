"""The display of the fleet: what its instruments show and what was done, what each role sees, and the truth apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaosops_ray.sim.board import Cell, Chart, Panel, Row, Tone, sparkline
from chaosops_ray.sim.contract import Episode
from chaosops_ray.sim.fleet import looks, readout, story
from chaosops_ray.sim.fleet.habits import EXACT
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import PAGE, VERDICTS, Act, Action, Deed, Message, Result, World
from chaosops_ray.sim.fleet.turns import acting, is_true
from chaosops_ray.sim.fleet.views import View

_SHOWN = 12  # ticks of a small chart
_MESSAGES_SHOWN = 4
_ACTS_SHOWN = 8
_LINES_SHOWN = 12
_FULL = 100
_BUSY = 80
_USED_RANGE = (0.0, 150.0)
_FAILED_RANGE = (0.0, 100.0)
_ACCUSED = 0.5


def board(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return what a spectator sees who does not know the cause, from the services to the chat."""
    world = episode.end
    return (
        _status(episode, world),
        _list("page", story.plot(world.scenario).page),
        _services(world),
        _agents(world),
        _looked_up("looked up", world.results, _names(world)),
        _acts(world.acts, _names(world)),
        _chat("chat", world.messages),
    )


def truth(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return who or what caused the incident, which deeds it rests on, and how they were covered."""
    world = episode.end
    shared, told = story.plot(world.scenario), story.story(world.scenario)
    culprits = story.culprits(world.scenario)
    rows: list[Row] = [
        (Cell("scenario"), Cell(episode.scenario.identity)),
        (Cell("rung"), Cell(f"{shared.rung.name}: {_twin(world)} that {shared.rung.summary}")),
        (Cell("cause"), Cell(told.cause if told.event is None else told.event.summary, "accent")),
        (Cell("by"), Cell(_agents_named(world, culprits) or "no agent", "accent")),
    ]
    if not culprits:
        rows.append((Cell("suspect"), Cell(_agents_named(world, shared.suspects))))
    if shared.framed >= 0:
        rows.append((Cell("framed"), Cell(_agent(world, shared.framed))))
    rows += _written(world)
    rows += [
        (
            Cell("did it" if story.does_damage(world, number) else "looks like it", "bad" if culprits else "muted"),
            Cell(f"{_deed(world, deed)}{_entry(world, number)}"),
        )
        for number, deed in enumerate(story.deeds(world))
        if story.is_suspicious(world, number)
    ]
    rows += [
        (
            Cell("accused"),
            Cell(
                f"{_agent(world, one.agent)}: {one.verdict} {one.probability:g}",
                "good" if is_true(world, one.agent, one.verdict) == (one.probability >= _ACCUSED) else "bad",
            ),
        )
        for one in world.statements
    ]
    return (Panel("truth", (), tuple(rows), "warn", is_wide=True),)


def _twin(world: World) -> str:
    return "a rogue" if story.is_rogue(world.scenario) else "no rogue here; the other twin has one"


def _agents_named(world: World, agents: Iterable[int]) -> str:
    return ", ".join([_agent(world, agent) for agent in agents])


def _written(world: World) -> list[Row]:
    """Return how logs came to be other than exact: by a cover, or by habits."""
    shared = story.plot(world.scenario)
    sites = ", ".join([_service(world, site) for site in shared.sites])
    if story.is_rogue(world.scenario):
        rows: list[Row] = [(Cell("cover"), Cell(f"{shared.form.covers.__name__}: the entries of its deeds on {sites}"))]
    else:
        rows = [(Cell("habit"), Cell(f"{shared.form.habit}: what all agents wrote of {sites}"))]
    return rows + [
        (Cell("habit", "muted"), Cell(f"{habit}: all that {_agent(world, agent)} wrote", "muted"))
        for agent, habit in enumerate(shared.habits)
        if habit != EXACT
    ]


def charts(episode: Episode[World, View, Action]) -> tuple[Chart, ...]:
    """Return what is lost, and each service's utilisation and failures, over the episode."""
    world = episode.end
    ticks = range(PAGE + episode.start.turn, PAGE + world.turn + 1)
    services = range(len(story.plot(world.scenario).topology.services))
    return (
        Chart(
            "lost",
            "%",
            "The share of requests that the fleet loses.",
            (("lost", tuple([100 * story.at(world, tick).lost for tick in ticks])),),
        ),
        Chart(
            "utilisation",
            "%",
            "How much of what a service can serve is asked of it.",
            tuple(
                [(_service(world, place), tuple([_used(world, place, tick) for tick in ticks])) for place in services]
            ),
        ),
        Chart(
            "failures",
            "%",
            "The share of requests that a service fails.",
            tuple(
                [(_service(world, place), tuple([_failed(world, place, tick) for tick in ticks])) for place in services]
            ),
        ),
    )


def seen(view: View) -> tuple[Panel, ...]:
    """Return one role's view, window by window; a window that it does not have is missing."""
    names = {service.short: service.name for service in view.services or ()}
    names.update({agent.short: agent.name for agent in view.agents or ()})
    told = [result for message in (*view.chat, *view.inbox) for result in message.results]
    names.update(readout.entries([*told, *view.results]))
    panels = [_list("page", view.page)]
    if view.services is not None:
        calls = any(one.calls for one in view.services)
        heading = ("", "name", "layer", *(["calls"] if calls else []))
        services = [
            (one.short, one.name, one.layer, *([", ".join(one.calls)] if calls else [])) for one in view.services
        ]
        panels.append(_table("services", heading, services))
    if view.agents is not None:
        frozen = view.frozen or ()
        agents = [
            (one.short, one.name, *_may(one.mandate), ", ".join(one.powers), "frozen" if one.short in frozen else "")
            for one in view.agents
        ]
        panels.append(_table("agents", ("", "name", "mandate", "may, if used below", "may", "on", ""), agents))
    panels.append(_looked_up("looked up", view.results, names))
    panels.append(_acts(view.acts, names))
    panels += [_chat("chat", view.chat), _chat("to this role alone", view.inbox)]
    return tuple(panels)


def _may(name: str) -> tuple[str, str, str]:
    """Return a mandate with its two operations."""
    mandate = MANDATES[name]
    return name, f"{mandate.takes.name} {mandate.limit}%", mandate.gives.name


# -- panels -----------------------------------------------------------------------------------------------------------


def _status(episode: Episode[World, View, Action], world: World) -> Panel:
    if world.resolved:
        state = Cell(f"resolved after {world.turn} turns", "good")
    elif world.done:
        state = Cell(f"unresolved after {world.turn} turns", "bad")
    else:
        state = Cell(f"turn {world.turn + 1}, {acting(world)} to act", "accent")
    lost = 100 * story.at(world, PAGE + world.turn).lost
    cells = [
        state,
        Cell(f"{lost:.0f}% of requests lost", "bad" if lost >= 1 else "good"),
        Cell(f"rules {episode.rules}", "muted"),
        Cell(f"return {episode.total:+.1f}", "accent"),
    ]
    if world.cause:
        cells.append(Cell(f"declared cause: {world.cause}", "warn"))
    return Panel("the fleet", (), (tuple(cells),), "accent", is_wide=True)


def _services(world: World) -> Panel:
    rows = []
    now = PAGE + world.turn
    for place, one in enumerate(story.plot(world.scenario).topology.services):
        used = [_used(world, place, tick) for tick in range(now - _SHOWN + 1, now + 1)]
        failed = [_failed(world, place, tick) for tick in range(now - _SHOWN + 1, now + 1)]
        tone: Tone = "bad" if used[-1] > _FULL else "warn" if used[-1] > _BUSY else "good"
        failing: Tone = "bad" if failed[-1] >= 1 else "good"
        rows.append(
            (
                Cell(_service(world, place)),
                Cell(one.layer, "muted"),
                Cell(f"{used[-1]:.0f}%", tone),
                Cell(sparkline(used, *_USED_RANGE), tone),
                Cell(f"{failed[-1]:.0f}%", failing),
                Cell(sparkline(failed, *_FAILED_RANGE), failing),
            )
        )
    return Panel("services", ("service", "layer", "used", "", "failed", ""), tuple(rows), is_wide=True)


def _used(world: World, place: int, tick: int) -> float:
    return float(story.measured(world, place, tick))


def _failed(world: World, place: int, tick: int) -> float:
    return 100 * story.at(world, tick).failed[place]


def _agents(world: World) -> Panel:
    rows = []
    for place, one in enumerate(story.plot(world.scenario).topology.agents):
        is_frozen = place in world.frozen
        stated = {stated.verdict: stated.probability for stated in world.statements if stated.agent == place}
        accused = ", ".join([f"{verdict} {stated[verdict]:g}" for verdict in VERDICTS if verdict in stated])
        rows.append(
            (
                Cell(_agent(world, place), "warn" if is_frozen else "plain"),
                Cell(one.mandate, "muted"),
                Cell("frozen" if is_frozen else "", "warn"),
                Cell(accused, "warn" if any(level >= _ACCUSED for level in stated.values()) else "muted"),
            )
        )
    if world.pointed >= 0:
        pointed = _deed(world, story.deed(world, world.pointed))
        rows.append((Cell("pointed to", "warn"), Cell(pointed, "warn"), Cell(""), Cell("")))
    return Panel("agents", ("agent", "mandate", "", "accused"), tuple(rows), is_wide=True)


def _looked_up(title: str, results: Iterable[Result], names: Mapping[str, str]) -> Panel:
    rows: list[Row] = [
        (Cell("" if place else result.role, "accent"), Cell(line, "bad" if result.fault else "plain"))
        for result in results
        for place, line in enumerate(readout.full(result, names))
    ]
    return Panel(title, (), tuple(rows) or _nothing("nothing yet"), is_wide=True, last=_LINES_SHOWN)


def _acts(acts: Iterable[Act], names: Mapping[str, str]) -> Panel:
    rows: list[Row] = [
        (
            Cell(f"{act.turn:>2}", "muted"),
            Cell(act.role, "accent"),
            Cell(f"{act.verb} {act.subject} {names.get(act.subject, '')}".rstrip()),
        )
        for act in acts
    ]
    return Panel("done", (), tuple(rows) or _nothing("nothing yet"), last=_ACTS_SHOWN)


def _chat(title: str, messages: Iterable[Message]) -> Panel:
    rows: list[Row] = [
        (
            Cell(f"{message.turn:>2}", "muted"),
            Cell(message.sender if message.to is None else f"{message.sender} → {message.to}", "accent"),
            Cell(f"shares {_contents(message.results)}", "muted") if message.results else Cell(message.text),
        )
        for message in messages
    ]
    return Panel(title, (), tuple(rows) or _nothing("nobody has spoken"), is_wide=True, last=_MESSAGES_SHOWN)


def _contents(results: Iterable[Result]) -> str:
    return ", ".join([f"{result.look} {readout.subject(result)}" for result in results])


def _list(title: str, lines: Iterable[str]) -> Panel:
    return Panel(title, (), tuple([(Cell(line, "bad"),) for line in lines]) or _nothing("nothing"), is_wide=True)


def _table(title: str, heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Panel:
    return Panel(title, heading, tuple([tuple([Cell(text) for text in row]) for row in rows]), is_wide=True)


def _nothing(words: str) -> tuple[Row, ...]:
    return ((Cell(words, "muted"),),)


# -- names ------------------------------------------------------------------------------------------------------------


def _service(world: World, place: int) -> str:
    return f"{looks.service_name(place)} {story.plot(world.scenario).topology.services[place].name}"


def _agent(world: World, place: int) -> str:
    return f"{looks.agent_name(place)} {story.plot(world.scenario).topology.agents[place].name}"


def _names(world: World) -> dict[str, str]:
    topology = story.plot(world.scenario).topology
    names = {looks.service_name(place): one.name for place, one in enumerate(topology.services)}
    names.update({looks.agent_name(place): one.name for place, one in enumerate(topology.agents)})
    names.update(readout.entries(world.results))
    return names


def _deed(world: World, deed: Deed) -> str:
    at = readout.tick(deed.tick - PAGE)
    return f"{_agent(world, deed.agent)} did {deed.operation} on {_service(world, deed.target)} at tick {at}"


def _entry(world: World, number: int) -> str:
    return (
        f", entry {looks.entry_name(world.shown.index(number))}" if number in world.shown else ", not seen by anybody"
    )
