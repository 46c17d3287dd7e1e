"""How often a model's completions hold an action: free ones, choices, and objects of the world's JSON Schema.

    python -m benchmarks.format MODEL [--engine vllm] [--n 50] [--only PATTERN ...] [--seed 0] [--json FILE]

Each prompt is a seat's transcript up to a random turn of an episode that is played by the random policy, and the
model completes it. A cell of the table is a world, a role, a style and a way of completing; --only measures the cells
that fit a pattern, such as 'incident/*/full/free'. The same prompts are completed in every way.

Cells are measured in rounds of a few prompts, so that they fill evenly: an interrupted benchmark prints what it has,
and --json has it after every round. Scenarios have seeds from 60,000 on, which nothing trains on and no report uses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, get_args

from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import ConfigError
from chaosops_ray.grammar import grammar
from chaosops_ray.process_environment import set_variables
from chaosops_ray.sim.actions import Parameter
from chaosops_ray.sim.contract import STYLES, AnyEnvironment, Style
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.worlds import ENVIRONMENTS
from chaosops_ray.store import files
from chaosops_ray.training import base_models
from chaosops_ray.wire import Decoding, Sample, SampleRequest, Structured
from chaosops_ray.workers.samplers.build import build
from chaosops_ray.workers.samplers.sampler import Engine, SamplerError

FIRST_SEED, SEEDS = 60_000, 1_000  # of the scenarios of --seed 0, and how many each --seed has
WAYS = {"free": "no", "choices": "choices", "schema": "schema"}
RULES = "strict"
Z = 1.96


class Cell(NamedTuple):
    """A row of the table."""

    world: str
    role: str
    style: Style
    way: str

    @property
    def name(self) -> str:
        """The name that patterns are compared with."""
        return "/".join(self)


class Prompt(NamedTuple):
    """A turn that a model is asked about: the seats hold its transcript, one for each way of completing it."""

    world: Any
    view: Any
    is_first: bool
    seats: Mapping[str, TokenSeat]
    requests: Mapping[str, SampleRequest]


class Answer(NamedTuple):
    """A completion, judged."""

    action: str | None  # in full style; None where the completion holds no action
    is_permitted: bool
    is_example: bool
    is_first: bool
    written: int
    read: int


def cells(patterns: Sequence[str]) -> list[Cell]:
    """Return the cells that fit one of the patterns. An object of a schema is written in full style only."""
    found = [
        Cell(world, role, style, way)
        for world, environment in ENVIRONMENTS.items()
        for role in environment.roles
        for style in STYLES
        for way in WAYS
        if way != "schema" or style == "full"
    ]
    return [cell for cell in found if not patterns or any(fnmatch(cell.name, pattern) for pattern in patterns)]


def prompt(
    environment: AnyEnvironment, codec: Codec, role: str, style: Style, ways: Sequence[str], seed: int
) -> Prompt:
    """Play an episode at random; return a random one of this role's turns."""
    for attempt in range(100):
        draw = stream(seed, f"format {role}", attempt)
        scenario = draw.choice(environment.cases)._replace(seed=seed)
        policy, world = (
            environment.random_policy(scenario, RULES),
            environment.start(scenario, environment.rules(RULES)),
        )
        turns = []
        while (acting := environment.acting(world)) is not None:
            view = environment.view(world, acting)
            action = policy(view)
            turns += [(world, view, action)] if acting == role else []
            world = environment.step(world, action).world
        if turns:
            break
    else:
        raise ValueError(f"role {role} of {environment.name} has no turn in a hundred episodes")
    place = draw.choice(range(len(turns)))
    seats = {way: TokenSeat(environment, role, RULES, style, codec, structured=_structured(way)) for way in ways}
    for seat in seats.values():
        for _, view, action in turns[:place]:
            seat.observe(view)
            tokens = codec.action(environment.format_action(action, style))
            seat.answer(Sample(tokens, (0.0,) * len(tokens), 0, "", stopped=True))
    world, view, _ = turns[place]
    requests = {way: seat.request(view, seed=seed) for way, seat in seats.items()}
    return Prompt(world, view, place == 0, seats, requests)


def _structured(way: str) -> Structured:
    found: Structured = next(one for one in get_args(Structured) if one == WAYS[way])
    return found


def judged(environment: AnyEnvironment, asked: Prompt, way: str, sample: Sample) -> Answer:
    """Read the action of a completion."""
    seat = asked.seats[way]
    action = seat.answer(sample)
    read, written = len(asked.requests[way].prompt), len(sample.tokens)
    if isinstance(action, Unparsed):
        return Answer(None, is_permitted=False, is_example=False, is_first=asked.is_first, written=written, read=read)
    spelt = environment.format_action(action, seat.style)
    listed = [one for kind in environment.permitted(asked.view) or () for one in kind]
    is_permitted = spelt in [environment.format_action(one, seat.style) for one in listed] or has_form(
        environment, seat.role, environment.dump_action(action)
    )
    return Answer(spelt, is_permitted, spelt in examples(environment, seat), asked.is_first, written, read)


def has_form(environment: AnyEnvironment, role: str, action: str) -> bool:
    """Tell if a recorded action is one of those that the role may take, with values that the world knows."""
    fields = json.loads(action)
    return any(_fits(environment.call_fields(form), fields) for form in environment.forms(role, RULES))


def _fits(pattern: Any, value: Any) -> bool:
    if isinstance(pattern, Parameter):
        return not pattern.valid or value in pattern.valid
    if not isinstance(pattern, Mapping):
        return bool(pattern == value)
    needed = {name for name, one in pattern.items() if not isinstance(one, Parameter) or one.is_required}
    return (
        isinstance(value, dict)
        and needed <= value.keys() <= pattern.keys()
        and all(_fits(pattern[name], one) for name, one in value.items())
    )


def examples(environment: AnyEnvironment, seat: TokenSeat) -> set[str]:
    """Return the actions that the prompt gives as examples."""
    world = environment.start(environment.cases[0], environment.rules(RULES))
    first = environment.render(environment.view(world, seat.role), None, seat.style).rpartition("\n")[2]
    texts = [example.answer for example in seat.opening] + ([first] if seat.style == "full" else [])
    actions = [environment.parse_action(text) for text in [*texts, seat.system_prompt if seat.style == "full" else ""]]
    return {environment.format_action(one, seat.style) for one in actions if not isinstance(one, Unparsed)}


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    share, weight = count / total, Z * Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / total + weight / total / 4) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the figures of a cell."""
    parsed = [one for one in answers if one.action is not None]
    firsts = [one for one in answers if one.is_first]
    return {
        "n": len(answers),
        "parsed": len(parsed),
        "interval": wilson(len(parsed), len(answers)),
        "first_turns": len(firsts),
        "parsed_on_first_turns": len([one for one in firsts if one.action is not None]),
        "examples": len([one for one in parsed if one.is_example]),
        "distinct": len({one.action for one in parsed}),
        "permitted": len([one for one in parsed if one.is_permitted]),
        "tokens_written": fmean([one.written for one in answers]),
        "prompt_tokens": fmean([one.read for one in answers]),
    }


async def measure(given: argparse.Namespace, chosen: Sequence[Cell], answers: dict[Cell, list[Answer]]) -> None:
    """Fill `answers`, world by world and in rounds."""
    for world, of_world in groupby(chosen, lambda cell: cell.world):
        environment, base = ENVIRONMENTS[world], base_models.prepare(given.model, world)
        codec, group = Codec(base.path, base.layout), list(of_world)
        engine = build(given.engine, _settings(given, base.path))
        try:
            await engine.adopt_base(base.digest)
            for start in range(0, given.n, given.at_once):
                seeds = range(start, min(start + given.at_once, given.n))
                for key, alike in groupby(group, lambda cell: (cell.role, cell.style)):
                    await _round(given, environment, codec, engine, base.path, (*key, list(alike)), seeds, answers)
                if given.json:
                    files.write_json(given.json, report(given, answers))
        finally:
            await engine.close()


async def _round(
    given: argparse.Namespace,
    environment: AnyEnvironment,
    codec: Codec,
    engine: Engine,
    model: Path,
    among: tuple[str, Style, list[Cell]],
    numbers: range,
    answers: dict[Cell, list[Answer]],
) -> None:
    role, style, group = among
    ways = [cell.way for cell in group]
    first = FIRST_SEED + SEEDS * given.seed
    asked = [prompt(environment, codec, role, style, ways, first + number) for number in numbers]
    for cell in group:
        began = time.monotonic()
        requests = [one.requests[cell.way]._replace(row=row) for row, one in enumerate(asked)]
        limit = max([given.max_tokens, *[_needed(model, one) for one in requests]])
        decoding = Decoding(given.temperature, limit, codec.layout.stop)
        samples = await engine.sample(cell.name, requests, decoding, None)
        answers.setdefault(cell, []).extend(
            [judged(environment, one, cell.way, sample) for one, sample in zip(asked, samples, strict=True)]
        )
        done = answers[cell]
        parsed = len([one for one in done if one.action is not None])
        seconds = time.monotonic() - began
        print(f"{cell.name}: {parsed} of {len(done)}, {seconds:.0f} s", file=sys.stderr, flush=True)


def _needed(model: Path, request: SampleRequest) -> int:
    """Return how many tokens a structured completion may take at least."""
    if request.schema is not None:
        return grammar(str(model), request.schema).least
    return max([len(choice) for choice in request.choices or ((),)])


def _settings(given: argparse.Namespace, model: Path) -> dict[str, Any]:
    if given.engine == "torch":
        return {"model": model, "threads": given.threads}
    return {
        "model": str(model),
        "max_lora_rank": 8,
        "context": given.context,
        "dtype": "float32",
        "enforce_eager": True,
        "threads": given.threads,
        "slots": 1,
        "cache_mib": given.cache_mib,
    }


def report(given: argparse.Namespace, answers: Mapping[Cell, Sequence[Answer]]) -> dict[str, Any]:
    """Return the settings, and what is there of each cell."""
    settings = {name: getattr(given, name) for name in ("model", "engine", "temperature", "max_tokens", "seed")}
    return {**settings, "cells": {cell.name: figures(found) for cell, found in answers.items()}}


def table(answers: Mapping[Cell, Sequence[Answer]]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| world, role, style | way | n | hold an action | on first turns | permitted | examples | distinct "
        "| tokens written | prompt tokens |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell, found in answers.items():
        row = figures(found)
        low, high = row["interval"]
        lines.append(
            f"| {cell.world}, {cell.role}, {cell.style} | {cell.way} | {row['n']} "
            f"| {row['parsed'] / row['n']:.0%} [{low:.0%}, {high:.0%}] "
            f"| {row['parsed_on_first_turns']} of {row['first_turns']} | {row['permitted']} of {row['parsed']} "
            f"| {row['examples']} of {row['parsed']} | {row['distinct']} | {row['tokens_written']:.0f} "
            f"| {row['prompt_tokens']:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a model's folder, a hub name, or tiny")
    parser.add_argument("--engine", choices=("vllm", "torch"), default="vllm")
    parser.add_argument("--n", type=int, default=50, help="completions of each cell, at most 1000 (default: 50)")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="WORLD/ROLE/STYLE/WAY, with *")
    parser.add_argument("--seed", type=int, default=0, help="which scenarios and samples, 0 to 39 (default: 0)")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-tokens", type=int, default=64, help="of a free completion or an object (default: 64)")
    parser.add_argument("--at-once", type=int, default=10, help="prompts of a round (default: 10)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--context", type=int, default=4096, help="longest transcript with vllm (default: 4096)")
    parser.add_argument("--cache-mib", type=int, default=1024, help="for prompts with vllm on a CPU (default: 1024)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, after every round")
    given = parser.parse_args(arguments)
    chosen = cells(given.only)
    wrong = (
        "--only fits no cell; write for example 'incident/*/full/free'"
        if not chosen
        else f"--n must be 1 to {SEEDS}, got {given.n}"
        if not 1 <= given.n <= SEEDS
        else f"--seed must be 0 to 39, got {given.seed}"
        if not 0 <= given.seed < 40
        else f"--at-once must be 1 or more, got {given.at_once}"
        if given.at_once < 1
        else None
    )
    if wrong is not None:
        print(wrong, file=sys.stderr)
        return 2
    set_variables()
    answers: dict[Cell, list[Answer]] = {}
    try:
        asyncio.run(measure(given, chosen, answers))
    except KeyboardInterrupt:
        print("interrupted; what was measured so far:", file=sys.stderr)
    except (ConfigError, SamplerError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
