"""A person's seat on a terminal or a pipe: the turns, and at the end the score beside that of the policies.

Until the episode is over, nothing is shown but what the seat's role may see.
"""

from __future__ import annotations

import io
import readline  # noqa: F401 - gives `input` its editing and its history
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from chaosops_ray.agents.human import HELP, PLAYER, human_seats
from chaosops_ray.agents.human import play as play_seats
from chaosops_ray.agents.session import Session
from chaosops_ray.evaluate import Player
from chaosops_ray.plain_text import printable
from chaosops_ray.reports import playback, tables
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Policy, PolicyFactory, Scenario, Style
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.seats import in_words
from chaosops_ray.store.episodes import write_episodes
from chaosops_ray.store.files import check_writable

YOU = "you"
# A seat's view as panels, or as one of the texts that models read.
Look = Literal["panels", "full", "compact"]


class Terminal:
    """A desk on a console; `typed` gives a line for a prompt, or raises EOFError."""

    def __init__(self, console: Console, typed: Callable[[str], str], look: Look, *, is_plain: bool) -> None:
        self._console = console
        self._typed = typed
        self._look = look
        self._is_plain = is_plain
        self._turns = 0

    def show(self, session: Session, *, is_first: bool) -> None:
        """Show the turn: on the seat's first one with its duty, as a model reads it."""
        self._turns += 1
        title = f"your turn {self._turns}, as {session.role}"
        if self._is_plain:
            self._print(f"-- {title}")
        else:
            self._console.print(Rule(Text(title, "bold cyan"), style="cyan"))
        if is_first:
            self._print(session.system_prompt)
            self._print("")
        panels = session.environment.seen(session.view)
        if self._look != "panels":
            self._print(session.text)
        elif self._is_plain:
            self.say(list(playback.lines(panels)))
        else:
            self._console.print(playback.drawn(panels, self._console.width, is_whole=True))
        if self._turns == 1:
            self._print(f"{HELP} lists what you may do; Ctrl-D ends the game.")

    def say(self, lines: Sequence[str]) -> None:
        """Print lines as they are."""
        for line in lines:
            self._print(line)

    def ask(self, role: str) -> str:
        """Return the next line that is typed."""
        return self._typed(f"{role}> ")

    def end(self, environment: AnyEnvironment, episode: AnyEpisode) -> None:
        """Show the whole episode, with its truth and its rewards."""
        panels = playback.shown(environment, episode)
        if self._is_plain:
            self.say(["-- the end", *playback.lines(panels)])
        else:
            self._console.print(Rule(Text("the end", "bold cyan"), style="cyan"))
            self._console.print(playback.drawn(panels, self._console.width, is_whole=True))

    def _print(self, text: str) -> None:
        if self._is_plain:
            self._console.file.write(f"{text}\n")
        else:
            self._console.print(text, highlight=False, markup=False)


def _edited(prompt: str) -> str:
    """Return a line that is typed with readline; leaving ends the line of the prompt."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        sys.stdout.write("\n")
        raise


def typed_at(stdin: TextIO, console: Console) -> Callable[[str], str]:
    """Return the function that reads a line: with editing at a terminal, else from a pipe, repeating what it reads."""
    if isinstance(stdin, io.TextIOWrapper):
        # What cannot be decoded is no action, and is told so.
        stdin.reconfigure(errors="replace")
    if stdin.isatty() and console.is_terminal:
        return _edited

    def read(prompt: str) -> str:
        console.file.write(prompt)
        console.file.flush()
        line = stdin.readline()
        if not line or not stdin.isatty():  # a terminal has shown the line already
            console.file.write(printable(line.rstrip("\r\n")) + "\n")
        if not line:
            raise EOFError
        return line

    return read


class Game(NamedTuple):
    """A scenario in which a person plays some seats and a policy, with its colleagues, the others."""

    environment: AnyEnvironment
    scenario: Scenario
    rules: str
    told: str  # what may be said of the scenario before it is over
    roles: tuple[str, ...]  # the person's
    policy: str
    player: Player

    @property
    def others(self) -> dict[str, str]:
        """Who plays each seat that is not the person's."""
        beside = self.player.colleagues
        return {role: beside.get(role, self.policy) for role in self.environment.roles if role not in self.roles}


def game(
    environment: AnyEnvironment,
    scenario: Scenario,
    rules: str,
    told: str,
    seats: Sequence[str],
    taken: Mapping[str, str],
    policy: str,
    player: Player,
) -> Game:
    """Return the game in which a person plays these seats; `taken` are those that were given to baselines by name."""
    roles = human_seats(environment, seats)
    for role in roles:
        if role in taken:
            raise InputError(f"{role} is to be played by {taken[role]} and by you; leave it out of --seats or --seat")
    return Game(environment, scenario, rules, told, roles, policy, player)


def run(
    game: Game, console: Console, stdin: TextIO, look: Look, episodes: Path | None = None, *, is_plain: bool
) -> None:
    """Play the game on a terminal or a pipe, then show the truth and the scores; EOFError if the person leaves.

    With `episodes`, write what was played to this file.
    """
    environment, scenario, rules, others = game.environment, game.scenario, game.rules, game.others
    is_beside_model = bool(game.player.model) and game.policy in others.values()
    if episodes is not None:
        if is_beside_model:
            raise InputError("--episodes records no model's turns beside yours; name a baseline with --policy")
        check_writable(episodes)
    with game.player.live() as build:
        style: Style = "full" if look == "panels" else look
        colleagues = dict.fromkeys(others, build(scenario, rules)) if others else {}
        session = Session(environment, scenario, rules, colleagues, style=style)
        desk = Terminal(console, typed_at(stdin, console), look, is_plain=is_plain)
        desk.say(tables.models_lines({game.policy: game.player.model} if is_beside_model else {}))
        desk.say([f"{environment.title} · {game.told} · rules {rules}"])
        if others:
            desk.say([f"seats: {in_words(environment, others, YOU)}"])
        play_seats(session, desk)
        policies = {**environment.policies, **({game.policy: build} if game.player.model else {})}
        found = {YOU: session.episode, **compared(game, policies, build)}
    desk.end(environment, session.episode)
    console.print(scores(environment, found, ", ".join(game.roles)))
    desk.say([f"The case was {scenario.identity}."])
    if episodes is not None:
        with write_episodes(episodes) as writer:
            writer.add(environment, PLAYER, session.episode, None, others)
        desk.say([f"wrote {episodes}"])


def compared(game: Game, policies: Mapping[str, PolicyFactory], others: PolicyFactory) -> dict[str, AnyEpisode]:
    """Play the game again with each of the policies in the person's seats."""
    environment, scenario, rules, roles = game.environment, game.scenario, game.rules, game.roles
    episodes = {}
    for name, build in policies.items():
        own, beside = build(scenario, rules), others(scenario, rules)
        episodes[name] = play(environment, scenario, rules, _together(roles, own, beside))
    return episodes


def _together(roles: Collection[str], own: Policy, beside: Policy) -> Policy:
    def act(view: Any, /) -> Any:
        return own(view) if view.role in roles else beside(view)

    return act


def scores(environment: AnyEnvironment, episodes: Mapping[str, AnyEpisode], seats: str) -> Table:
    """Make the table of the same scenario, once for each player of these seats."""
    shown = [metric for metric in environment.metrics if metric.in_tables]
    drawn = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=f"the same case, with {seats} played by", title_justify="left"
    )
    drawn.add_column("player")
    for title in (environment.headline_name, "turns", *[metric.title for metric in shown]):
        drawn.add_column(title, justify="right")
    best = sorted(episodes.items(), key=lambda item: -environment.headline(item[1]))
    for name, episode in best:
        figures = [tables.metric_figure(metric, metric.of(episode)) for metric in shown]
        turns = str(len(episode.steps))
        style = "bold cyan" if name == YOU else ""
        drawn.add_row(
            tables.plain(name),
            tables.headline(environment, environment.headline(episode)),
            turns,
            *figures,
            style=style,
        )
    return drawn
