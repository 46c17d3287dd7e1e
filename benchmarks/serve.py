"""Sessions side by side on one server, over WebSockets: that each plays what this process plays, and how fast.

    python benchmarks/serve.py [--world NAME] [--sessions 64] [--episodes 20] [--json FILE]

The server is a process of its own, started by `chaosops serve`. Every session plays its episodes with the actions of a
random policy that were chosen before the clock ran. Each observation, reward and part of a reward is compared with the
episode in this process. Beside that: how long the server takes until /health answers, the latency of a step, steps a
second, that one session too many is told so, that the place of a client that was killed is free again, and that the
server's memory does not grow over rounds that open and play all sessions again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chaosops_ray.agents.session import Session
from chaosops_ray.serve.tasks import Catalog
from chaosops_ray.sim import ENVIRONMENTS, environment_named
from chaosops_ray.sim.contract import AnyEnvironment

ROUNDS = 3  # of all sessions; the first is the one that warms caches up
# Beyond what the first round left: allocators keep some of what they once had.
GROWTH_BAR = 0.10
HEALTH_BAR = 15.0
START_LIMIT = 600.0
STOPS = (signal.SIGINT, signal.SIGTERM)


class Turn(NamedTuple):
    """What is sent, and what has to come back for it."""

    action: dict[str, Any]
    role: str | None
    text: str
    view: Any
    reward: float
    rubrics: dict[str, float]
    is_over: bool


class Script(NamedTuple):
    """An episode as this process plays it: the seed of its reset, what its first observation says, and its turns."""

    seed: int
    text: str
    turns: tuple[Turn, ...]


def script(environment: AnyEnvironment, catalog: Catalog, rules: str, seed: int) -> Script:
    """Play the episode that a reset by this seed begins."""
    scenario = catalog.task(seed).scenario
    session = Session(environment, scenario, rules)
    choose = environment.policies["random"](scenario, rules)
    first, turns = session.text, []
    while not session.is_over:
        action = choose(session.view)
        earned = session.act(action)
        turns.append(
            Turn(
                json.loads(environment.dump_action(action)),
                session.role,
                session.text,
                json.loads(environment.dump_view(session.view)),
                earned.reward,
                dict(earned.components),
                session.is_over,
            )
        )
    return Script(seed, first, tuple(turns))


async def asked(peer: ClientConnection, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Send a message; return the answer."""
    await peer.send(json.dumps({"type": kind, "data": data}))
    answer: dict[str, Any] = json.loads(await peer.recv())
    if answer["type"] == "error":
        raise RuntimeError(f"{kind} {data}: {answer['data']['message']}")
    return answer["data"]  # type: ignore[no-any-return]


class Played(NamedTuple):
    """The latencies of the steps, and where an episode was another one."""

    steps: list[float]
    differences: list[str]


async def session(peer: ClientConnection, scripts: Sequence[Script]) -> Played:
    """Play the episodes in one session."""
    found = Played([], [])
    for one in scripts:
        seen = await asked(peer, "reset", {"seed": one.seed})
        if seen["observation"]["text"] != one.text:
            found.differences.append(f"seed {one.seed}: another beginning")
        for number, turn in enumerate(one.turns, start=1):
            began = time.perf_counter()
            seen = await asked(peer, "step", turn.action)
            found.steps.append(time.perf_counter() - began)
            observed = seen["observation"]
            told = [observed["role"], observed["text"], observed["view"]]
            if [*told, seen["reward"], observed["rubrics"], seen["done"]] != list(turn[1:]):
                found.differences.append(f"seed {one.seed}, step {number}: another observation or reward")
    return found


async def opened(where: str, sessions: int) -> list[ClientConnection]:
    """Open as many sessions."""
    return [await connect(f"ws://{where}/ws", open_timeout=300, ping_timeout=None) for _ in range(sessions)]


async def played(where: str, scripts: Sequence[Sequence[Script]]) -> tuple[Played, float]:
    """Play all sessions side by side; return what came of them, and the seconds that it took."""
    peers = await opened(where, len(scripts))
    began = time.perf_counter()
    every = await asyncio.gather(*[session(peer, one) for peer, one in zip(peers, scripts, strict=True)])
    spent = time.perf_counter() - began
    await asyncio.gather(*[peer.close() for peer in peers])
    steps = [value for one in every for value in one.steps]
    return Played(steps, [line for one in every for line in one.differences]), spent


async def refusal(where: str) -> str | None:
    """Open a session; return the words of its refusal, or None if it was served."""
    async with connect(f"ws://{where}/ws", open_timeout=300) as peer:
        with suppress(ConnectionClosed):
            await peer.send('{"type": "state"}')
        answer = json.loads(await peer.recv())
    return str(answer["data"]["message"]) if answer["type"] == "error" else None


async def crowded(where: str, sessions: int) -> tuple[str | None, float]:
    """Fill the server; return what one more is told, and the seconds until a killed client's place is free."""
    held = await opened(where, sessions)
    words = await refusal(where)
    held[0].transport.abort()  # no closing handshake, as of a process that was killed
    began = time.perf_counter()
    while await refusal(where) is not None:
        await asyncio.sleep(0.01)
    freed = time.perf_counter() - began
    await asyncio.gather(*[peer.close() for peer in held[1:]])
    return words, freed


def memory(process: int) -> float:
    """Return the resident memory of a process in MB."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(kilobytes) / 1024


@contextmanager
def served(world: str, rules: str, sessions: int) -> Iterator[tuple[str, int, float]]:
    """Start a server; yield where it is, its process and the seconds until its health was answered.

    SIGINT and SIGTERM end the server as well, also where a shell has let SIGINT be ignored.
    """
    command = [sys.executable, "-m", "chaosops_ray.cli", "serve", world, "--port", "0", "--rules", rules]
    environ = {name: value for name, value in os.environ.items() if name != "CHAOSOPS_TOKEN"}
    early: list[int] = []  # a signal that comes before the server can be ended waits until it can
    before = {stop: signal.signal(stop, lambda number, _frame: early.append(number)) for stop in STOPS}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--max-sessions", str(sessions)], stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        for stop in STOPS:
            signal.signal(stop, ended)
        if early:
            ended(early[0], None)
        line = process.stdout.readline() if process.stdout is not None else ""
        found = re.search(r"http://(\S+)", line)
        if found is None:
            raise RuntimeError(f"the server said {line!r}")
        while time.perf_counter() - began < START_LIMIT:
            try:
                with urllib.request.urlopen(f"http://{found[1]}/health", timeout=60) as answer:
                    if answer.status == 200:
                        break
            except urllib.error.URLError:
                time.sleep(0.05)
        yield found[1], process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stop, handler in before.items():
            signal.signal(stop, handler)


def ended(number: int, _frame: FrameType | None) -> None:
    """End this process at a signal, once: what it cleans up on its way is not to be cut short by another."""
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    sys.exit(128 + number)


def measure(world: str, sessions: int, episodes: int) -> dict[str, Any]:
    """Play all of it; return the figures."""
    environment = environment_named(world)
    rules, catalog = environment.rule_sets[0], Catalog(environment)
    scripts = [
        [script(environment, catalog, rules, number * episodes + place) for place in range(episodes)]
        for number in range(sessions)
    ]
    with served(world, rules, sessions) as (where, process, healthy):
        rounds, resident = [], []
        for _ in range(ROUNDS):
            rounds.append(asyncio.run(played(where, scripts)))
            resident.append(memory(process))
        words, freed = asyncio.run(crowded(where, sessions))
    last, spent = rounds[-1]
    cuts = statistics.quantiles(last.steps, n=100)
    differences = [line for found, _ in rounds for line in found.differences]
    return {
        "world": world,
        "rules": rules,
        "sessions": sessions,
        "episodes": sessions * episodes,
        "steps": len(last.steps),
        "seconds": spent,
        "steps_per_second": len(last.steps) / spent,
        "step_p50_ms": 1000 * cuts[49],
        "step_p99_ms": 1000 * cuts[98],
        "seconds_to_health": healthy,
        "different": differences,
        "refusal": words,
        "seconds_until_freed": freed,
        "memory_mb": resident,
        "growth": resident[-1] / resident[0] - 1,
    }


def passed(found: dict[str, Any]) -> bool:
    """Tell if the figures are within the bars."""
    return (
        not found["different"]
        and bool(found["refusal"])
        and found["growth"] <= GROWTH_BAR
        and found["seconds_to_health"] <= HEALTH_BAR
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the figures where asked; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description="Sessions side by side on one server.")
    parser.add_argument("--world", choices=tuple(ENVIRONMENTS), help="one world only (default: each)")
    parser.add_argument("--sessions", type=int, default=64, metavar="N", help="sessions at the same time (default: 64)")
    parser.add_argument("--episodes", type=int, default=20, metavar="N", help="episodes of each session (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    worlds = ENVIRONMENTS if given.world is None else (given.world,)
    figures = [measure(world, given.sessions, given.episodes) for world in worlds]
    titles = f"{'steps/s':>8} {'p50':>9} {'p99':>10} {'health':>8} {'memory':>14}"
    print(f"{'world':<9} {'sessions':>8} {'episodes':>8} {titles}")
    for row in figures:
        print(
            f"{row['world']:<9} {row['sessions']:>8} {row['episodes']:>8} {row['steps_per_second']:>8,.0f} "
            f"{row['step_p50_ms']:>6,.1f} ms {row['step_p99_ms']:>7,.1f} ms {row['seconds_to_health']:>6,.1f} s "
            f"{row['memory_mb'][0]:>4,.0f} → {row['memory_mb'][-1]:>4,.0f} MB"
        )
    for row in figures:
        count = ROUNDS * row["episodes"]
        same = f"{len(row['different'])} differences" if row["different"] else "each as in this process"
        print(f"{row['world']}: {count:,} episodes, {same}; one session more: {row['refusal']!r}; ", end="")
        print(f"a killed client's place was free after {row['seconds_until_freed']:.2f} s")
        for line in row["different"][:10]:
            print(f"  {line}")
    print(f"bars: no difference, a refusal, growth at most {GROWTH_BAR:.0%}, health within {HEALTH_BAR:.0f} s")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(passed(row) for row in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
