"""Lengths of the rows that a learner trains on in the full style, by world and role.

    python benchmarks/row_lengths.py MODEL [--seeds 0-1] [--policies random,heuristic]

A row is the transcript of one role of one episode, up to its last completion, with the tokenizer and the chat layout of
the model's folder. `benchmarks/gpu.py` makes rows of random tokens with these lengths.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.evaluate import parse_seeds
from chaosops_ray.sim.contract import AnyEnvironment, PolicyFactory, Scenario
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.training import base_models
from chaosops_ray.wire import Sample, Turn

WORLDS = ("incident", "tools")
RULES = "strict"


class Lengths(NamedTuple):
    """One row: its tokens, those of its opening, those read before each later turn, those of each completion."""

    role: str
    tokens: int
    opening: int
    between: list[int]
    written: list[int]


def rows(environment: AnyEnvironment, codec: Codec, scenario: Scenario, play: PolicyFactory) -> Iterator[Lengths]:
    """Play an episode by a baseline; yield the lengths of every role that had a turn."""
    rules = environment.rules(RULES)
    world, policy = environment.start(scenario, rules), play(scenario, rules)
    seats: dict[str, TokenSeat] = {}
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        if role not in seats:
            seats[role] = TokenSeat(environment, role, rules, "full", codec)
        seats[role].observe(view)
        action = policy(view)
        tokens = codec.action(environment.format_action(action, "full"))
        seats[role].answer(Sample(tokens, (0.0,) * len(tokens), 0, "", stopped=True))
        world = environment.step(world, action).world
    for role, seat in seats.items():
        turns: tuple[Turn, ...] = seat.turns
        gaps = [after.start - before.end for before, after in pairwise(turns)]
        yield Lengths(role, len(seat.tokens), turns[0].start, gaps, [turn.end - turn.start for turn in turns])


def spread(values: Sequence[int]) -> str:
    """The 5th percentile, the median and the 95th."""
    ordered = sorted(values)
    if not ordered:
        return "–"
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    return f"{low}–{median(ordered):.0f}–{high}"


def table(name: str, found: Sequence[Lengths]) -> str:
    """Lengths by role, in lines of Markdown."""
    lines = [
        f"| {name} | rows | tokens of a row | opening | read between turns | completion | turns |",
        "|---|---|---|---|---|---|---|",
    ]
    for role in dict.fromkeys(row.role for row in found):
        own = [row for row in found if row.role == role]
        cells = (
            [row.tokens for row in own],
            [row.opening for row in own],
            [gap for row in own for gap in row.between],
            [written for row in own for written in row.written],
            [len(row.written) for row in own],
        )
        lines.append(f"| {role} | {len(own)} | " + " | ".join(map(spread, cells)) + " |")
    everything = [row.tokens for row in found]
    lines.append(f"| all | {len(found)} | {spread(everything)}, longest {max(everything)} | | | | |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each world."""
    parser = argparse.ArgumentParser(description="Lengths of rows in the full style.")
    parser.add_argument("model", help="the folder of a model, for its tokenizer")
    parser.add_argument("--seeds", type=parse_seeds, default=range(2), help="of the episodes, such as 0-4")
    parser.add_argument("--policies", default="random,heuristic", help="baselines that play")
    given = parser.parse_args(arguments)
    base = base_models.prepare(given.model)
    codec = Codec(Path(base.path), base.layout)
    for world in WORLDS:
        environment = environment_named(world)
        scenarios = environment.scenarios(environment.selections[0], list(given.seeds))
        for name in given.policies.split(","):
            play = environment.policies[name]
            found = [row for scenario in scenarios for row in rows(environment, codec, scenario, play)]
            print(table(f"{world}, {name}", found), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
