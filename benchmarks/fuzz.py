"""The worst that a call of the unreliable tools can do: CPU time and memory, by tool, over a million hostile calls.

    python -m benchmarks.fuzz [--cases N] [--seed N] [--json FILE]
    python -m benchmarks.fuzz --digest [--cases N] [--seed N]

A case is a call, or a completion that is parsed first; `tests/support/hostile.py` writes them. Cases are steps of
episodes, so they meet every fault and every kind of storage. The first that raises ends the run with its case.

CPU time is that of the step, of this process: where a case looks worse than any before, the least of five further
tries counts, so that another process's noise does not. Memory is measured on the slowest cases of each tool and on a
sample of all: the peak of Python's allocator, and the peak of the resident memory of a forked process, which SQLite's
is part of. The last line is the growth of this process's peak over all cases, in which the world's caches fill.

`--digest` measures nothing and prints one hash of everything that the cases came to: it must not depend on the hash
seed, on warning filters, or on the depth of the stack.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.knowledge import SETTINGS
from chaosops_ray.sim.tools.model import Call, World
from chaosops_ray.sim.tools.scenarios import CASES, scenario
from tests.support import hostile

BAR = {"worst_ms": 50.0, "worst_mb": 32.0}
TRIES = 5
# For each tool, how many of its slowest cases are measured again for memory, and how many of every 97th.
SLOWEST = 40
SAMPLED = 60
EVERY = 97
COMPLETION = "(completion)"
MB = 1e6
SEEDS = 40


class Case(NamedTuple):
    """A world, and what is done in it: a call, or a completion."""

    kind: str
    world: World
    given: Call | str


class Tried(NamedTuple):
    """A case and what it took, ordered by that."""

    seconds: float
    number: int
    case: Case


def carry_out(case: Case) -> Any:
    """Make the step of a case."""
    try:
        action = ENVIRONMENT.parse_action(case.given) if isinstance(case.given, str) else case.given
        return ENVIRONMENT.step(case.world, action)
    except Exception as error:
        error.add_note(f"{case.world.scenario.identity} step {case.world.step}: {case.given!r}")
        raise


def begin(draw: random.Random) -> World:
    """Begin an episode of any question."""
    setting = draw.choice(SETTINGS)
    chosen = scenario(draw.choice(CASES[setting]), setting, 20_000 + draw.randrange(SEEDS))
    return ENVIRONMENT.start(chosen, draw.choice(ENVIRONMENT.rule_sets))


def play(
    seed: int, number: int, step: Callable[[Case], Any], languages: float = 0.5, completions: float = 0.25
) -> None:
    """Carry out so many cases, steps of episodes that follow each other; of so many calls run small languages."""
    draw = random.Random(seed)
    world = begin(draw)
    for _ in range(number):
        if draw.random() < completions:
            case = Case(COMPLETION, world, hostile.completion(draw))
        else:
            call = hostile.call(draw, hostile.LANGUAGES if draw.random() < languages else tuple(TOOLS))
            case = Case(call.tool, world, call)
        after = step(case).world
        world = after if ENVIRONMENT.acting(after) else begin(draw)


def digest(seed: int, number: int, languages: float = 0.5) -> str:
    """Return a hash of everything that the cases come to."""
    running = sha256()

    def step(case: Case) -> Any:
        after = carry_out(case)
        made = after.world.made[-1]
        came_to = [made, ENVIRONMENT.dump_action(after.action), sorted(after.outcome), after.score, after.world.storage]
        running.update(json.dumps(came_to).encode())
        return after

    play(seed, number, step, languages)
    return running.hexdigest()


# -- measuring --------------------------------------------------------------------------------------------------------


def spent(case: Case) -> float:
    """Return the CPU seconds of a case."""
    began = time.process_time()
    carry_out(case)
    return time.process_time() - began


def allocated(case: Case) -> float:
    """Return the peak of what Python allocates for a case, in MB."""
    tracemalloc.start()
    carry_out(case)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / MB


def resident(field: str) -> float:
    """Return a figure of this process's memory, in MB: VmRSS or its peak, VmHWM."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024 / MB


def grown(case: Case) -> float:
    """Return how much the resident memory of a fork of this process grows at most by a case, in MB."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = resident("VmRSS")
            carry_out(case)
            os.write(writing, str(resident("VmHWM") - before).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        growth = float(pipe.read())
    os.waitpid(child, 0)
    return max(growth, 0.0)


class Record:
    """What the cases of one tool took."""

    def __init__(self) -> None:
        self.cases = 0
        self.errors = 0
        self.seconds = 0.0
        self.worst = 0.0
        self.worst_case: Case | None = None
        self.slowest: list[Tried] = []
        self.sampled: list[Case] = []

    def add(self, case: Case, seconds: float, ok: bool) -> None:
        """Count a case; measure it again if it looks like the worst."""
        self.cases += 1
        self.errors += not ok
        self.seconds += seconds
        if seconds > self.worst:
            again = min([seconds, *[spent(case) for _ in range(TRIES)]])
            if again > self.worst:
                self.worst, self.worst_case = again, case
        tried = Tried(seconds, self.cases, case)
        if len(self.slowest) < SLOWEST:
            heapq.heappush(self.slowest, tried)
        else:
            heapq.heappushpop(self.slowest, tried)
        if self.cases % EVERY == 1:
            self.sampled = [*self.sampled, case][-SAMPLED:]

    def figures(self) -> dict[str, Any]:
        """Return the figures, with memory measured now."""
        chosen = [tried.case for tried in self.slowest] + self.sampled
        return {
            "cases": self.cases,
            "errors": self.errors,
            "mean_ms": round(1000 * self.seconds / self.cases, 3),
            "worst_ms": round(1000 * self.worst, 2),
            "python_mb": round(max([allocated(case) for case in chosen]), 2),
            "resident_mb": round(max([grown(case) for case in chosen]), 2),
            "worst_case": "" if self.worst_case is None else str(self.worst_case.given)[:2000],
        }


def measure(seed: int, number: int) -> dict[str, Any]:
    """Measure so many cases."""
    records: dict[str, Record] = {}

    def step(case: Case) -> Any:
        began = time.process_time()
        after = carry_out(case)
        seconds = time.process_time() - began
        records.setdefault(case.kind, Record()).add(case, seconds, after.world.made[-1].ok)
        return after

    play(seed + 1, 2_000, carry_out)  # until what is loaded once and kept is there
    before = resident("VmRSS")
    play(seed, number, step)
    growth = resident("VmHWM") - before
    tools = {name: records[name].figures() for name in (*TOOLS, COMPLETION) if name in records}
    return {"cases": number, "seed": seed, "tools": tools, "process_mb": round(growth, 1), "bar": BAR}


def printed(figures: dict[str, Any]) -> str:
    """Write the table."""
    lines = [f"{'tool':<24}{'cases':>9}{'errors':>8}{'mean ms':>9}{'worst ms':>10}{'Python MB':>11}{'resident MB':>13}"]
    for name, row in figures["tools"].items():
        share = f"{row['errors'] / row['cases']:.0%}"
        took = f"{row['mean_ms']:>9.3f}{row['worst_ms']:>10.2f}{row['python_mb']:>11.2f}{row['resident_mb']:>13.2f}"
        lines.append(f"{name:<24}{row['cases']:>9,}{share:>8}{took}")
    rows = figures["tools"].values()
    worst = max([row["worst_ms"] for row in rows])
    memory = max([max(row["python_mb"], row["resident_mb"]) for row in rows])
    lines.append(f"worst call: {worst:.2f} ms (bar {BAR['worst_ms']:g}), {memory:.2f} MB (bar {BAR['worst_mb']:g})")
    lines.append(f"growth of the whole process over {figures['cases']:,} cases: {figures['process_mb']:g} MB")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or print the digest; the exit code."""
    parser = argparse.ArgumentParser(description="The worst that a call of the unreliable tools can do.")
    parser.add_argument("--cases", type=int, default=1_000_000, metavar="N", help="how many (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default: 0)")
    parser.add_argument("--digest", action="store_true", help="print a hash of what they come to, and nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    if given.digest:
        print(digest(given.seed, given.cases))
        return 0
    figures = measure(given.seed, given.cases)
    print(printed(figures))
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
