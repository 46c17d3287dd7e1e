"""Steps a second of the worlds: bare, with views, and with the views in words.

    python benchmarks/sim.py [--world NAME] [--json FILE]

One process, strict rules, starts included: an episode is begun and played to its end with actions that were chosen
before the clock ran. Median of five runs. The limit beside it is what the interpreter could do: a loop
that makes one named tuple of a world's size for each step and nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chaosops_ray.sim import ENVIRONMENTS, Scenario, environment_named, play
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.sim.errors import InputError

RUNS = 5
# Steps a second of the published implementations, measured on two cores such as these figures are given for.
PUBLISHED = {"incident": 8_000, "tools": 2_700}
BARS = {"incident": {"bare": 10.0, "compact": 3.0, "full": 3.0}, "tools": {"bare": 3.0}}

Script = list[tuple[Scenario, list[Any]]]


# Random seats use every action; but at random most tool calls would be malformed and cheap.
PLAYER = "random"
PLAYERS = {"tools": "heuristic"}


def script(environment: AnyEnvironment, rules: str) -> Script:
    """Scenarios of every evaluation set, no two the same, with the actions of one episode each."""
    played = []
    build = environment.policies[PLAYERS.get(environment.name, PLAYER)]
    for scenario in chosen(environment):
        episode = play(environment, scenario, rules, build(scenario, rules))
        played.append((scenario, [step.action for step in episode.steps]))
    return played


def chosen(environment: AnyEnvironment) -> list[Scenario]:
    """About five hundred scenarios, from every evaluation set alike."""
    found: list[Scenario] = []
    for selection in environment.selections:
        cases = environment.scenarios(selection, [0])
        seeds = range(7000, 7000 + max(1, 500 // (len(cases) * len(environment.selections))))
        found += environment.scenarios(selection, seeds)
    return list(dict.fromkeys(found))


def bare(environment: AnyEnvironment, rules: str, played: Script) -> None:
    """Nothing but the physics and the rubric."""
    for scenario, actions in played:
        world = environment.start(scenario, rules)
        for action in actions:
            world = environment.step(world, action).world


def with_views(environment: AnyEnvironment, rules: str, played: Script) -> None:
    """And what the acting role sees before each step."""
    for scenario, actions in played:
        world = environment.start(scenario, rules)
        for action in actions:
            environment.view(world, environment.acting(world) or "")
            world = environment.step(world, action).world


def in_words(style: Style) -> Callable[[AnyEnvironment, str, Script], None]:
    """And the view in words, only what is new to the seat, and the completion read back."""

    def run(environment: AnyEnvironment, rules: str, played: Script) -> None:
        spelt = {action: environment.format_action(action, style) for _, actions in played for action in actions}
        for scenario, actions in played:
            world = environment.start(scenario, rules)
            since: dict[str, Any] = {}
            for action in actions:
                role = environment.acting(world) or ""
                view = environment.view(world, role)
                environment.render(view, since.get(role), style)
                since[role] = view
                world = environment.step(world, environment.parse_action(spelt[action])).world

    return run


def recorded(environment: AnyEnvironment, rules: str, played: Script) -> None:
    """Bare, and the whole truth as bytes after each step, as a record hashes it."""
    for scenario, actions in played:
        world = environment.start(scenario, rules)
        for action in actions:
            world = environment.step(world, action).world
            environment.dump(world)


def interpreter(environment: AnyEnvironment, rules: str, played: Script) -> None:
    """The limit: a copy of a world's fields for each step."""
    world: Any = environment.start(played[0][0], rules)
    make = type(world)._make
    for _, actions in played:
        for _ in actions:
            make(world)


MODES: dict[str, Callable[[AnyEnvironment, str, Script], None]] = {
    "limit": interpreter,
    "bare": bare,
    "views": with_views,
    "compact": in_words("compact"),
    "full": in_words("full"),
    "recorded": recorded,
}
TITLES = {
    "limit": "limit of the interpreter",
    "bare": "bare world",
    "views": "with views",
    "compact": "with views in words, compact",
    "full": "with views in words, full",
    "recorded": "bare, and dumped for the record",
}


def measure(environment: AnyEnvironment, rules: str) -> dict[str, float]:
    """Median steps a second in each mode; the modes take turns, so that a noisy moment falls on all of them."""
    played = script(environment, rules)
    steps = sum(len(actions) for _, actions in played)
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(RUNS):
        for mode, run in MODES.items():
            began = time.perf_counter()
            run(environment, rules, played)
            seconds[mode].append(time.perf_counter() - began)
    return {mode: steps / statistics.median(spent) for mode, spent in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a world or all of them, print a table, write the figures where asked; the exit code."""
    parser = argparse.ArgumentParser(description="Steps a second of the worlds.")
    parser.add_argument("--world", metavar="NAME", help=f"only this world (one of: {', '.join(ENVIRONMENTS)})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    try:
        names = list(ENVIRONMENTS) if given.world is None else [environment_named(given.world).name]
    except InputError as error:
        parser.error(str(error))
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        environment = ENVIRONMENTS[name]
        found = measure(environment, environment.rule_sets[0])
        figures[name] = {mode: {"steps_per_second": round(rate)} for mode, rate in found.items()}
        published = PUBLISHED.get(name)
        beside = f" (published: {published:,})" if published else ""
        print(f"{environment.title}: steps/s, median of {RUNS}, one process{beside}")
        for mode, rate in found.items():
            line = f"  {TITLES[mode]:<34}{rate:>12,.0f}"
            if published:
                figures[name][mode]["times_published"] = round(rate / published, 1)
                bar = BARS[name].get(mode)
                line += f"{rate / published:>8.1f}x" + (f"   bar {bar:g}x" if bar else "")
            print(line)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
