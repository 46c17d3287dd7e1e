"""The control room under load: how fast it opens 10,000 recorded episodes, shows a new line, and what memory it takes.

    python benchmarks/watch.py [--episodes 10000] [--lines 10] [--json FILE]

The folder is made here: a run with the episodes of an evaluation, a run that grows, and others beside them. The server
is a process of its own, started by `chaosops watch`. A page is opened for the first time after the server's start, and
once more; `cpu` is the server's own time for the first. A new line is there when the server has told of it and has
given its figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx

from chaosops_ray import evaluate
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.store.run_folder import RunFolder

INCIDENT = ENVIRONMENTS["incident"]
CONFIG = "model: tiny\nseed: 0\nupdates: 1000\n"
UPDATES = 240
BESIDE = 20  # other runs in the folder
OPEN_BAR, LATENCY_BAR, MEMORY_BAR = 2.0, 5.0, 300.0  # seconds, seconds, megabytes
HTML = {"accept": "text/html"}
START_LIMIT = 60.0


def row(update: int) -> dict[str, Any]:
    """Return a row of metrics as a run writes it."""
    figures = {"episodes": 48, "mean": -400 + update} | {metric.name: 0.5 for metric in INCIDENT.metrics}
    return {
        "update": update,
        "updates": 1000,
        "version": update,
        "digest": f"{update:064x}",
        "rules": INCIDENT.rules("strict"),
        "rule_options": {},
        "episodes": 144,
        "groups": {"played": 9, "learnt_from": 9},
        "tiers": dict.fromkeys(INCIDENT.tiers, figures),
        "rewards": dict.fromkeys(INCIDENT.roles, 1.0),
        "learner": {"entropy": 1.0, "kl": 0.001 * update, "gradient_norm": 0.5, "tokens": 30_000.0},
        "adoption": {"error": 0.0, "decisive": True},
        "time": {"rollout": 2.0, "engine": 1.5, "update": 1.5, "adopt": 0.2},
        "actors_replaced": 0,
    }


def fill(root: Path, episodes: int) -> RunFolder:
    """Make the runs; return the one that grows."""
    for place in range(BESIDE):
        beside = RunFolder.create(root / f"beside-{place}", CONFIG)
        for update in range(1, UPDATES + 1):
            beside.log(row(update))
    kept = RunFolder.create(root / "kept", CONFIG)
    kept.log(row(1))
    players = evaluate.baselines(INCIDENT, "random,heuristic,oracle")
    scenarios = INCIDENT.scenarios(INCIDENT.selections[0], range(1000, 1004))
    played = list(evaluate.play_all(players, scenarios, "strict"))
    with kept.record_evaluation({}, INCIDENT.selections[0]) as writer:
        for name, one in islice(cycle(played), episodes):
            writer.add(INCIDENT, name, one.episode)
    growing = RunFolder.create(root / "growing", CONFIG)
    for update in range(1, UPDATES + 1):
        growing.log(row(update))
    return growing


@contextmanager
def watched(root: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a control room; yield its address and its process."""
    command = [sys.executable, "-m", "chaosops_ray.cli", "watch", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout is not None else ""
            found = re.search(r"http://[^ ]+", line)
            if found is None:
                raise SystemExit(f"the control room did not start: {line}")
            yield found[0], server
        finally:
            server.terminate()
            server.wait(START_LIMIT)


def opened(client: httpx.Client, address: str) -> float:
    """Return how long a page takes."""
    began = time.perf_counter()
    client.get(address, headers=HTML).raise_for_status()
    return time.perf_counter() - began


def latencies(client: httpx.Client, growing: RunFolder, lines: int) -> list[float]:
    """Return for each new line the time until the server has told of it and has given its figures."""
    found = []
    with client.stream("GET", "/api/runs/growing/events", timeout=START_LIMIT) as stream:
        events = stream.iter_lines()
        next(events)  # the stream is open, and has seen what there is
        for update in range(UPDATES + 1, UPDATES + 1 + lines):
            began = time.perf_counter()
            growing.log(row(update))
            while next(events) != "event: changed":
                pass
            curves = client.get(f"/api/runs/growing/curves?after={update - 1}").raise_for_status().json()
            if curves["updates"] != [update]:
                raise SystemExit(f"update {update} is not in the curves: {curves['updates']}")
            found.append(time.perf_counter() - began)
    return found


def memory(process: int, name: str) -> float:
    """Return megabytes, of a line of the process's status."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def processor_seconds(process: int) -> float:
    """Return how long a process has been at work on a processor."""
    # The second word is the name, in parentheses, and may hold spaces.
    words = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def measure(episodes: int, lines: int) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        growing = fill(root, episodes)
        began = time.perf_counter()
        with watched(root) as (address, server), httpx.Client(base_url=address, timeout=START_LIMIT) as client:
            start = time.perf_counter() - began
            resident = memory(server.pid, "VmRSS")
            listed = "/runs/kept/episodes?file=evaluation&order=lowest"
            pages = {"list": "/", "episodes": listed, "run": "/runs/growing", "curves": "/api/runs/growing/curves"}
            first, cpu = {}, {}
            for name, page in pages.items():
                before = processor_seconds(server.pid)
                first[name] = opened(client, page)
                cpu[name] = processor_seconds(server.pid) - before
            again = {name: opened(client, page) for name, page in pages.items()}
            for place in range(BESIDE):
                opened(client, f"/api/runs/beside-{place}/curves")
            seen = latencies(client, growing, lines)
            return {
                "episodes": episodes,
                "start_seconds": start,
                "first_seconds": first,
                "first_cpu_seconds": cpu,
                "again_seconds": again,
                "line_seconds_median": statistics.median(seen),
                "line_seconds_max": max(seen),
                "memory_at_start_mb": resident,
                "memory_peak_mb": memory(server.pid, "VmHWM"),
            }


def passed(found: dict[str, Any]) -> bool:
    """Tell if the figures are within the bars."""
    return bool(
        found["first_seconds"]["episodes"] < OPEN_BAR
        and found["line_seconds_max"] < LATENCY_BAR
        and found["memory_peak_mb"] < MEMORY_BAR
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the figures where asked; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description="The control room under load.")
    parser.add_argument("--episodes", type=int, default=10_000, metavar="N", help="episodes in one file")
    parser.add_argument("--lines", type=int, default=10, metavar="N", help="new lines of metrics (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    found = measure(given.episodes, given.lines)
    print(f"{'page':<10} {'first':>8} {'cpu':>8} {'again':>8}")
    for name, seconds in found["first_seconds"].items():
        cpu, again = found["first_cpu_seconds"][name], found["again_seconds"][name]
        print(f"{name:<10} {seconds:>6.2f} s {cpu:>6.2f} s {again:>6.2f} s")
    print(f"start {found['start_seconds']:.1f} s; {found['episodes']:,} episodes, bar {OPEN_BAR:g} s")
    print(
        f"new line: median {found['line_seconds_median']:.2f} s, at most {found['line_seconds_max']:.2f} s, "
        f"bar {LATENCY_BAR:g} s"
    )
    print(
        f"memory: {found['memory_at_start_mb']:.0f} MB at the start, at most {found['memory_peak_mb']:.0f} MB, "
        f"bar {MEMORY_BAR:g} MB"
    )
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if passed(found) else 1


if __name__ == "__main__":
    sys.exit(main())
