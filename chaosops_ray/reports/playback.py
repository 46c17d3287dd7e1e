"""An episode on a terminal: live panels for people, plain lines for pipes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel as Frame
from rich.table import Table
from rich.text import Text

from chaosops_ray.sim.board import Cell, Panel, Row, Tone, amount, reward_panel
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Policy, Scenario
from chaosops_ray.sim.episode import play

_STYLES: dict[Tone, str] = {
    "plain": "default",
    "muted": "bright_black",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "accent": "bold cyan",
}
_TWO_COLUMNS_FROM = 120
_NEVER_CUT = 16
_TURNS_SHOWN = 6


def show(
    console: Console,
    environment: AnyEnvironment,
    scenario: Scenario,
    rules: str,
    choose: Policy,
    seconds_per_step: float,
) -> AnyEpisode:
    """Play the scenario live on a terminal, then leave the final board on the screen."""

    def watch(episode: AnyEpisode) -> None:
        live.update(drawn(shown(environment, episode), console.width), refresh=True)
        time.sleep(seconds_per_step)

    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        episode = play(environment, scenario, rules, choose, watch)
    console.print(drawn(shown(environment, episode), console.width))
    return episode


def tell(
    print_line: Callable[[str], None], environment: AnyEnvironment, scenario: Scenario, rules: str, choose: Policy
) -> AnyEpisode:
    """Play the scenario as lines: the first board, a line for each step, the last board."""

    def print_board(episode: AnyEpisode) -> None:
        for line in lines(shown(environment, episode)):
            print_line(line)

    def watch(episode: AnyEpisode) -> None:
        if not episode.steps:
            print_board(episode)
            print_line("")
            return
        step = episode.steps[-1]
        events = ", ".join(sorted(step.outcome)) or "-"
        said = environment.format_action(step.action, "compact")
        print_line(f"{len(episode.steps):>3}  {step.role:<10} {said:<40} {events:<32} {amount(step.score.total):>8}")

    episode = play(environment, scenario, rules, choose, watch)
    print_line("")
    print_board(episode)
    return episode


def lines(panels: Iterable[Panel]) -> Iterator[str]:
    """Yield the panels as lines without any drawing."""
    for panel in panels:
        yield f"== {panel.title}"
        if panel.heading:
            yield "   " + "  ".join([title for title in panel.heading if title])
        for row in panel.rows:
            yield "   " + "  ".join([cell.text for cell in row if cell.text])


def shown(environment: AnyEnvironment, episode: AnyEpisode) -> tuple[Panel, ...]:
    """Return all panels of an episode for a spectator who may know the truth."""
    earned = reward_panel("reward by rubric", [part for step in episode.steps for part in step.score.components])
    return (*environment.board(episode), earned, turns(environment, episode), *environment.truth(episode))


def turns(environment: AnyEnvironment, episode: AnyEpisode) -> Panel:
    """Return a panel of what was done, what it brought about, and what it was worth."""
    rows: list[Row] = []
    for number, step in enumerate(episode.steps, start=1):
        tone: Tone = "good" if step.score.total > 0 else "bad"
        events = ", ".join(sorted(step.outcome)).replace("_", " ")
        rows.append(
            (
                Cell(f"{number:>2}", "muted"),
                Cell(step.role, "accent"),
                Cell(environment.format_action(step.action, "compact")),
                Cell(events, tone),
                Cell(amount(step.score.total), tone),
            )
        )
    empty = ((Cell("nobody has acted", "muted"),),)
    return Panel("turns", (), tuple(rows) or empty, is_wide=True, last=_TURNS_SHOWN)


def drawn(panels: tuple[Panel, ...], width: int, *, is_whole: bool = False) -> RenderableType:
    """Draw the panels as frames: wide ones on their own, the others in pairs where the terminal is wide enough.

    Long texts and lists are cut, as a board that is drawn again and again must keep its place; `is_whole` cuts nothing.
    """
    rows: list[list[Panel]] = []
    for panel in panels:
        is_alone = panel.is_wide or width < _TWO_COLUMNS_FROM
        if is_alone or not rows or len(rows[-1]) == 2 or rows[-1][0].is_wide:
            rows.append([panel])
        else:
            rows[-1].append(panel)
    if is_whole:
        return Group(*[_frame(panel, is_whole=True) for row in rows for panel in row])
    return Group(*[_frame(row[0]) if len(row) == 1 else _pair(row) for row in rows])


def _pair(panels: list[Panel]) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    height = max(len(_rows(panel)) + bool(panel.heading) for panel in panels) + 2
    grid.add_row(*[_frame(panel, height) for panel in panels])
    return grid


def _rows(panel: Panel) -> tuple[Row, ...]:
    return panel.rows[-panel.last :]


def _frame(panel: Panel, height: int | None = None, *, is_whole: bool = False) -> Frame:
    table = Table(box=None, pad_edge=False, show_header=bool(panel.heading), header_style="bright_black")
    rows = panel.rows if is_whole else _rows(panel)
    for index in range(max((len(row) for row in rows), default=1)):
        longest = max(len(row[index].text) for row in rows if index < len(row))
        table.add_column(
            panel.heading[index] if panel.heading else "",
            # Where room is short, sentences are cut; names and numbers are not.
            no_wrap=longest <= _NEVER_CUT,
        )
    for row in rows:
        overflow: Literal["fold", "ellipsis"] = "fold" if is_whole else "ellipsis"
        table.add_row(*[Text(cell.text, _STYLES[cell.tone], no_wrap=not is_whole, overflow=overflow) for cell in row])
    style = _STYLES[panel.tone] if panel.tone != "plain" else "bright_black"
    return Frame(table, title=Text(panel.title), title_align="left", border_style=style, height=height)
