"""Chrome's trace events, parsed as strictly as a viewer may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]
NAMES = ("process_name", "process_sort_index", "thread_name")


def parsed(path: Path) -> list[Event]:
    """The events of a file in the array format; the closing bracket may be missing, and nothing else.

    Spans of one thread must be nested or apart, as the format demands.
    """
    text = path.read_text(encoding="utf-8")
    events: list[Event] = json.loads(text + "\n]") if text else []
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events:
        assert event["ph"] in ("M", "X"), event
        for key in ("pid", "tid"):
            assert type(event.get(key)) is int, event
        if event["ph"] == "M":
            assert event["name"] in NAMES, event
            continue
        assert type(event["ts"]) is type(event["dur"]) is int, event
        assert event["ts"] >= 0 <= event["dur"], event
        threads.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in threads.values():
        running: list[int] = []  # the ends of those that are open
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while running and running[-1] <= start:
                running.pop()
            assert not running or end <= running[-1], (start, end, running)
            running.append(end)
    return events


def spans_of(events: list[Event]) -> list[tuple[str, Event]]:
    """Each span with the name of its process, which must have been named before."""
    names: dict[int, str] = {}
    found = []
    for event in events:
        if event["name"] == "process_name":
            names[event["pid"]] = event["args"]["name"]
        elif event["ph"] == "X":
            found.append((names[event["pid"]], event))
    return found
