"""The timeline of a run: what each process worked on and when, as a file for Chrome's trace viewer and Perfetto.

The file is in the JSON array format of Chrome's trace events, one event a line, without the closing bracket, which the
format leaves out while a program still writes. A process of the run is a process there; its spans are on one thread
unless they overlap, and then on further ones. Nothing is computed from this file, and no digest includes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from chaosops_ray.sim.errors import InputError
from chaosops_ray.spans import DRIVER, Span, Track
from chaosops_ray.store import files

TIMELINE = "timeline.json"
# The file has the spans of at least so many last updates, and at most of twice as many.
UPDATES_KEPT = 20
# How many spans a process may have in one append; the shortest of the rest are left out, and counted.
SPANS_KEPT = 200

Event: TypeAlias = dict[str, Any]


class TimelineFile:
    """The timeline of one run, for the process that trains it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._began = clock()  # and where the timeline was then, in microseconds
        self._at = 0
        self._processes: dict[str, int] = {}
        self._named: set[tuple[int, int]] = set()  # processes and threads that have a name in the file
        self._ends: dict[tuple[int, int], int] = {}  # when the last span of a thread ended
        self._updates: list[int] = []  # that are in the file

    def rewind(self, done: int) -> None:
        """Delete the events after the first `done` updates; the next ones follow those that are left."""
        kept = [event for event in read(self.path) if event["ph"] == "M" or event["args"]["update"] <= done]
        self._rewrite(kept)
        self._began = self._clock()
        self._at = max([event["ts"] + event["dur"] for event in kept if event["ph"] == "X"], default=0)
        self._processes, self._named, self._ends = {}, set(), {}
        for event in kept:
            if event["name"] == "process_name":
                self._processes[event["args"]["name"]] = event["pid"]
            elif event["name"] == "thread_name":
                self._named.add((event["pid"], event["tid"]))
        self._updates = sorted({event["args"]["update"] for event in kept if event["ph"] == "X"})

    def append(self, update: int, version: int, tracks: Mapping[str, Track]) -> None:
        """Append the spans of an update that ended in this version, if there are any."""
        events: list[Event] = []
        for name in sorted(tracks, key=order):
            events += self._events(name, {"update": update, "version": version}, tracks[name])
        if not events:
            return
        is_first = not self.path.exists() or not self.path.stat().st_size
        files.append_text(self.path, ("[\n" if is_first else ",\n") + ",\n".join(map(json.dumps, events)))
        if update not in self._updates:
            self._updates.append(update)
        if len(self._updates) > 2 * UPDATES_KEPT:
            self._updates = self._updates[-UPDATES_KEPT:]
            oldest = self._updates[0]
            self._rewrite(
                [event for event in read(self.path) if event["ph"] == "M" or event["args"]["update"] >= oldest]
            )

    def _rewrite(self, events: Sequence[Event]) -> None:
        if events or self.path.exists():
            files.write_text(self.path, "[\n" + ",\n".join(map(json.dumps, events)) if events else "")

    def _events(self, name: str, args: Mapping[str, int], track: Track) -> Iterator[Event]:
        """Yield the events of one process, each thread and process with its name before its first span."""
        # What is left of a life before the file was rewound belongs to no update that is kept.
        spans = [span for span in track.spans if span.start >= self._began]
        kept = sorted(sorted(spans, key=lambda span: -span.length)[:SPANS_KEPT], key=lambda span: span.start)
        for span in kept:
            process = self._processes.setdefault(name, len(self._processes) + 1)
            start, end = self._microseconds(span.start), self._microseconds(span.end)
            thread = 1
            while self._ends.get((process, thread), 0) > start:
                thread += 1
            self._ends[process, thread] = end
            yield from self._names(name, process, thread)
            more: Event = {} if span.pieces == 1 else {"pieces": span.pieces, "worked_us": round(span.worked * 1e6)}
            if track.clock_error:
                more["clock_error_us"] = round(track.clock_error * 1e6)
            if len(kept) < len(spans) and span is kept[-1]:
                more["left_out"] = len(spans) - len(kept)
            yield {
                "name": span.name,
                "cat": _kind(name),
                "ph": "X",
                "ts": start,
                "dur": end - start,
                "pid": process,
                "tid": thread,
                "args": {**args, **more},
            }

    def _names(self, name: str, process: int, thread: int) -> Iterator[Event]:
        if (process, thread) in self._named:
            return
        self._named.add((process, thread))
        if thread == 1:
            yield {"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": {"name": name}}
            place = {"sort_index": process}
            yield {"name": "process_sort_index", "ph": "M", "pid": process, "tid": 0, "args": place}
        label = name if thread == 1 else f"{name} ({thread})"
        yield {"name": "thread_name", "ph": "M", "pid": process, "tid": thread, "args": {"name": label}}

    def _microseconds(self, moment: float) -> int:
        return self._at + round((moment - self._began) * 1e6)


def read(path: Path) -> list[Event]:
    """Read the events of a timeline; one that a killed process has cut is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[1:] if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {files.reason(error)}; delete it") from None
    events: list[Event] = []
    for number, line in enumerate(lines, 2):
        event = files.parse_object(line.removesuffix(","))
        if event is not None and _is_event(event):
            events.append(event)
        elif number <= len(lines):
            raise InputError(f"{path}, line {number} is no event; the file was changed; delete it")
    return events


def _is_event(event: Event) -> bool:
    """Tell whether it is an event as this module writes them."""
    args = event.get("args")
    numbers = [event.get("pid"), event.get("tid")]
    if event.get("ph") == "X":
        numbers += [event.get("ts"), event.get("dur"), args.get("update") if isinstance(args, dict) else None]
    return event.get("ph") in ("M", "X") and isinstance(args, dict) and all(type(one) is int for one in numbers)


def tracks(events: Iterable[Event]) -> dict[str, list[Span]]:
    """Return the spans of each process, in seconds since the timeline began."""
    events = list(events)
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    found: dict[str, list[Span]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            start, end = event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6
            worked = event["args"].get("worked_us", event["dur"]) / 1e6
            found[names[event["pid"]]].append(Span(event["name"], start, end, worked, event["args"].get("pieces", 1)))
    return found


def _kind(name: str) -> str:
    return name.rpartition("-")[0] or name


def order(name: str) -> tuple[int, str, int]:
    """Sort the driver first, then the learner, the samplers and the shards, each by number."""
    kind, _, number = name.rpartition("-")
    places = (DRIVER, "learner", "sampler", "shard")
    known = kind or name
    return places.index(known) if known in places else len(places), known, int(number) if kind else 0
