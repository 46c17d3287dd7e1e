"""Print docs/failure-modes.md: what can break, and the figures of the chaos suite. `make docs` writes the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FIGURES = Path(__file__).parents[1] / "docs" / "failure-modes.json"

INTRODUCTION = """# Failure modes

Made by `make docs` from the figures of `make chaos`.

What can break while `chaosops train` runs, what one sees, and what is kept. "Equal" means: every line of the metrics
with the digest of its adapter, every row of the recorded episodes, and the results of the evaluation are those of a
run that nothing has disturbed, in lockstep on a CPU. A line's times, `actors_replaced` and the figures of the
adoption check are not compared.

## Processes and machines
"""

MEASURED = """`benchmarks/chaos.py` measures this. It kills (SIGKILL) and stops (SIGSTOP) parts of real runs, and asks
drivers to end (SIGTERM), at random moments, several in each run, and compares every run with an undisturbed one. A
round counts as survived if its run has ended with exit code 0 and is equal. No episode may be missing, and no process
may be left behind.

*Recovery* is the time until what died is there again and a line of metrics has been written after that: the median
and the worst. For a driver that was stopped, it begins when it is continued. The suite shortens `deadlines` (`quiet`
to 1 s, `silence` to 8 s, `start` to 120 s), and makes a checkpoint after every second update; with other settings,
what hangs takes longer to be noticed, and more updates are made again. What is stopped while it starts is noticed
only after `start`.

```
make chaos
```

makes 40 rounds of SIGKILL and 10 of SIGSTOP for each target, and 10 of SIGTERM, which takes hours. It can be
interrupted: the same command continues. `tests/test_chaos.py` runs a short form with every test run.

Figures of this page: {machine}.
"""

NOTES = """## What to do

- **A driver that was killed**: `chaosops train --resume RUN`. A supervisor may do so at once: the folder's lock ends
  with the process that held it. The Ray that a driver starts for itself ends with it. On a cluster, Ray ends the
  job's actors.
- **A driver that is stopped and will not be continued** still holds the run folder. `--resume` is then refused with
  exit code 2, and the line says that another process trains there. This is meant: that process would go on writing if
  it were continued. Kill it (`kill -9`), then resume.
- **A killed driver that had not made its folder yet** may leave a folder without `config.yaml`. It is no run; delete
  it.
- **A node that is lost** needs no action if the others have room for its actors, or if another node joins within
  `deadlines.start`. Ray places its bundles there. The driver's own node and the head are not replaced: if they are
  lost, start again with `--resume`.
- **A node that hangs** is given up by Ray's health checks. If it comes back later, it ends its actors by itself: what
  they still do reaches nobody.
- **An actor that keeps dying** ends the run with exit code 2 after `rollout.retries`; the line names each actor and
  what it died of. The checkpoints are kept.
"""


class Mode(NamedTuple):
    """One row of the table."""

    target: str
    signal: str
    seen: str
    kept: str


EVERYTHING = "everything"
REPLACED = "`actors_replaced` in the metrics rises; the run goes on"
RESTORED = "a line says that the run goes back to its last checkpoint; later lines of metrics are written again"
SINCE = "all up to the last checkpoint; what came after is made again, equal"
SAVED = "all that is done, if it can be saved within 20 s; otherwise all up to the last checkpoint"
SAME_TASKS = "everything; lost groups are played again under the same seeds"
PROVEN = "everything; the new one proves the version before it plays, and lost groups are played again"

MODES = (
    Mode("shard", "kill", REPLACED, SAME_TASKS),
    Mode("shard", "stop", f"nothing for `quiet` + `silence` seconds; then {REPLACED}", SAME_TASKS),
    Mode("sampler", "kill", REPLACED, PROVEN),
    Mode("sampler", "stop", f"nothing for `quiet` + `silence` seconds; then {REPLACED}", PROVEN),
    Mode("learner", "kill", RESTORED, SINCE),
    Mode("learner", "stop", f"nothing for `quiet` + `silence` seconds; then {RESTORED}", SINCE),
    Mode("driver", "kill", "the command ends, in a shell with exit code 137; `--resume` continues", SINCE),
    Mode(
        "driver", "stop", "nothing until it is continued; then the run goes on, and nobody counts as dead", EVERYTHING
    ),
    Mode("node", "kill", "as for each of its actors, which are placed on another node", SINCE),
    Mode("node", "stop", "as if it were killed, once Ray's health checks give it up", SINCE),
    Mode("driver", "term", "the command saves and ends with exit code 75; its line says how to resume", SAVED),
)


def reference() -> str:
    """The page."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    # What else can break, such as storage and memory, comes before the notes, as sections of its own.
    return "\n".join([INTRODUCTION, *table(figures), "", MEASURED.format(machine=figures["machine"]), NOTES])


def table(figures: Mapping[str, Any]) -> Iterator[str]:
    """The rows of what the suite does."""
    yield "| target | signal | what one sees | what is kept | survived | recovery |"
    yield "|---|---|---|---|---|---|"
    for mode in MODES:
        row = figures["rounds"].get(f"{mode.target} {mode.signal}")
        survived, recovery = "not measured", ""
        if row is not None:
            survived = f"{row['survived']} of {row['rounds']}"
            recovery = ", ".join([f"{row[key]:.1f} s" for key in ("median", "worst") if row[key] is not None])
        yield f"| {mode.target} | SIG{mode.signal.upper()} | {mode.seen} | {mode.kept} | {survived} | {recovery} |"


if __name__ == "__main__":
    print(reference(), end="")
