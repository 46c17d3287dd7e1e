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
interrupted by Ctrl-C or SIGTERM: it ends what it has started, and the same command continues. `tests/test_chaos.py`
runs a short form with every test run.

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


class Case(NamedTuple):
    """Something else that can break, and the test that breaks it."""

    what: str
    seen: str
    kept: str
    test: str  # its file under tests/, and its name


LINE = "one line that names the file, the reason and the remedy; exit code 2"
CHECKPOINT = "all up to the last checkpoint; `--resume` ends equal"

CASES = {
    "Storage": (
        Case(
            "the disk fills while a run writes to it",
            LINE,
            f"nothing is half-written under a final name; with room again, {CHECKPOINT}",
            "training/test_full_disk.py::test_a_run_on_a_disk_that_fills_is_resumed_when_there_is_room",
        ),
        Case(
            "the disk becomes read-only",
            LINE,
            "what was written before",
            "store/test_disk.py::test_a_disk_that_becomes_read_only_is_named",
        ),
        Case(
            "a line of metrics meets a full disk",
            LINE,
            "the lines before; no part of the line stays",
            "store/test_disk.py::test_a_line_is_appended_whole_or_not_at_all",
        ),
        Case(
            "a file of the run is removed or cut while it trains",
            LINE,
            "nothing is made up in its place",
            "store/test_disk.py::test_a_run_that_is_changed_while_it_trains_stops_and_says_so",
        ),
        Case(
            "any file of a finished run is removed, cut, changed or swapped",
            f"the same figures as before, or {LINE}",
            "the rest of the folder",
            "training/test_record.py::test_what_reads_a_changed_run_says_the_same_or_refuses",
        ),
        Case(
            "a checkpoint is half-written or damaged",
            "one line that names it, and the folder to delete",
            "the checkpoint before, from which the run goes on if the other is deleted as the line says",
            "store/test_run_folder.py::test_what_the_error_of_a_damaged_checkpoint_advises_works",
        ),
        Case(
            "a Parquet file of episodes is cut or damaged",
            LINE,
            "the other files",
            "store/test_episodes.py::test_a_damaged_file_is_an_error_of_one_line_and_takes_neither_memory_nor_time",
        ),
        Case(
            "the clock of the machine jumps",
            "nothing: waits and deadlines do not look at it",
            EVERYTHING,
            "test_architecture.py::test_a_clock_that_jumps_changes_nothing",
        ),
        Case(
            "a process that writes to an object store stops at any request",
            "nothing in the store that looks whole and is not",
            "the last checkpoint that was uploaded as a whole",
            "store/test_remote.py::test_a_run_is_whole_in_the_store_wherever_its_process_stops",
        ),
        Case(
            "two processes train the same run in an object store",
            "the older one ends with a line that says so",
            "the run of the newer one",
            "store/test_remote.py::test_the_process_that_claimed_last_keeps_the_run",
        ),
        Case(
            "an object store does not answer",
            "the request is tried again twice, and then one line",
            "the working folder, and what was uploaded before",
            "store/test_remote.py::test_a_request_that_hangs_is_given_up",
        ),
        Case(
            "a node has another model under the path of the base model, or a part of it",
            "nothing: it gets the model from the driver's node",
            EVERYTHING,
            "store/test_received.py::test_a_model_that_has_arrived_in_part_is_not_used",
        ),
    ),
    "Answers that are wrong": (
        Case(
            "a sampler answers the impossible: too few completions, a token that does not exist or is none of the "
            "choices, no finite log-probability, another version",
            REPLACED,
            "everything; its groups are played again",
            "training/test_loop.py::test_a_sampler_that_answers_garbage_is_replaced_and_changes_nothing",
        ),
        Case(
            "a sampler serves another policy than the version it adopts, in one of eight ways",
            "one line that names the cause; exit code 2",
            "all up to the last checkpoint; the version played nothing",
            "workers/test_adoption.py::test_an_adapter_that_can_be_seen_is_never_proven_by_the_base",
        ),
        Case(
            "a sampler plays another policy than it has proven",
            "a run in lockstep ends with one line that names `alarm.mismatch`; exit code 2",
            "all up to the last checkpoint",
            "training/test_loop.py::test_a_sampler_that_plays_another_policy_than_it_proved_stops_the_run",
        ),
        Case(
            "an adapter changes on disk between two updates",
            "one line that names the version; exit code 2",
            "all up to the last checkpoint",
            "training/test_loop.py::test_an_adapter_that_was_tampered_with_is_never_served",
        ),
        Case(
            "a group fails again and again",
            "one line that names its scenario and its seed; exit code 2",
            "all up to the last checkpoint",
            "workers/test_collection.py::test_what_fails_again_and_again_is_named_with_its_scenario_and_seed",
        ),
    ),
    "Memory": (
        Case(
            "a run needs more memory than there is",
            "one line before anything starts, with the need, the limit and the setting to change; exit code 2",
            "nothing was begun",
            "training/test_footprint.py::test_a_run_that_cannot_fit_is_refused_in_one_line_before_anything_starts",
        ),
        Case(
            "a sampler keeps more of past turns than fits",
            "nothing: the oldest are dropped and computed again",
            EVERYTHING,
            "workers/samplers/test_torch.py::test_what_is_kept_never_takes_more_than_its_share",
        ),
        Case(
            "the system kills a process for want of memory",
            "as for SIGKILL, above",
            "as for SIGKILL, above",
            "test_chaos.py::test_runs_whose_parts_are_killed_and_stopped_end_as_if_nothing_had_been",
        ),
    ),
}


def reference() -> str:
    """The page."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    parts = [INTRODUCTION, *table(figures), "", MEASURED.format(machine=figures["machine"]), *cases(), NOTES]
    return "\n".join(parts)


def cases() -> Iterator[str]:
    """The sections of what tests break."""
    for section, listed in CASES.items():
        yield f"## {section}\n"
        yield "| what breaks | what one sees | what is kept | the test, under `tests/` |"
        yield "|---|---|---|---|"
        yield from [f"| {one.what} | {one.seen} | {one.kept} | `{one.test}` |" for one in listed]
        yield ""


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
