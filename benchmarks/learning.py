"""How surely the demo's recipe learns: its training over ten seeds, and over the same seeds with another rounding.

    python benchmarks/learning.py [--seeds 0-9] [--at-once 2] [--runs runs/learning] [--json FILE]

Each run is a `chaosops train` with a run folder of its own, evaluated on its held-out scenarios as the demo is. Every
seed is trained twice: as shipped, and with two threads in learner and sampler. Two threads add numbers in another order
than one, and a long training amplifies the difference as another machine would.

It can be stopped at any time; the same command continues. A finished run is read from its folder, a begun one is
resumed, and a folder with another configuration is refused by name. `--report` trains nothing and reads what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from chaosops_ray import config, evaluate
from chaosops_ray.evaluate import TRAINED
from chaosops_ray.reports import evaluation, tables, verdict
from chaosops_ray.reports.metrics_rows import Row, held_out, is_past_heuristic, seconds
from chaosops_ray.resampling import CONFIDENCE, RESAMPLES
from chaosops_ray.sim.contract import AnyEnvironment, Metric
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import check

DEMO = Path(__file__).parents[1] / "tune_configs" / "3a.yaml"
TINY = "model=tiny"
SHIPPED, TWO_THREADS = "as shipped", "two threads"
ROUNDINGS: dict[str, tuple[str, ...]] = {
    SHIPPED: (),
    TWO_THREADS: ("resources.learner_threads=2", "resources.sampler_threads=2"),
}
# The bars: what the recipe has to reach, in how many runs.
RUNS, CATCHES, FALSE_FLAGS, NEAR_ORACLE, MINUTES = 20, 0.9, 0.1, 0.05, 5.0
HEURISTIC, ORACLE = "heuristic", "oracle"  # of the demo's world
_SHOWN = (HEURISTIC, "lookup", ORACLE)
_POLL_SECONDS = 0.5
_STOP_SECONDS = 60.0
_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


class Trial(NamedTuple):
    """One training run of the benchmark: its name, the settings that make it, and what its folder has to record."""

    name: str
    seed: int
    rounding: str
    settings: tuple[str, ...]
    run: config.Run
    path: Path

    @property
    def log(self) -> Path:
        """The file with what the run printed."""
        return self.path.with_name(f"{self.name}.log")

    @property
    def starts(self) -> Path:
        """The file with how many runs shared the machine, for each start of this one."""
        return self.path.with_name(f"{self.name}.starts.json")


class Process(Protocol):
    """A started program; subprocess.Popen is one."""

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""

    def kill(self) -> None:
        """End it at once."""


# Starts `chaosops` with these arguments, and appends what it prints to a file.
Start = Callable[[Sequence[str], Path], Process]


def start_chaosops(arguments: Sequence[str], log: Path) -> Process:
    """Start the command line in a process of its own."""
    with log.open("ab") as file:
        command = [sys.executable, "-m", "chaosops_ray.cli", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


# -- which runs, and what there is of them ----------------------------------------------------------------------------


def trials(path: Path, settings: Sequence[str], seeds: Sequence[int], runs: Path) -> list[Trial]:
    """Return the runs, seed by seed, so that whatever is finished early covers both roundings."""
    found = []
    for seed in seeds:
        for rounding, threads in ROUNDINGS.items():
            name = f"seed-{seed}" if rounding == SHIPPED else f"seed-{seed}-{rounding.replace(' ', '-')}"
            given = (TINY, *settings, *threads, f"seed={seed}")
            run = check.read(path, given, None)
            check.look_over(run)
            found.append(Trial(name, seed, rounding, given, check.spelled_out(run), runs / name))
    return found


def is_begun(trial: Trial) -> bool:
    """Return True if the run's folder holds this run; raise InputError if it holds anything else."""
    path = trial.path
    if not path.exists():
        return False
    if not (path / run_folder.CONFIG).exists():
        # A run that is killed while its folder is made leaves empty folders; `train` removes them.
        if any(not one.is_dir() for one in path.rglob("*")):
            raise InputError(f"{path} is not a run: it has no {run_folder.CONFIG}; remove it, or give another --runs")
        return False
    recorded = check.recorded(RunFolder(path))
    if recorded != trial.run:
        was, now = [dict(_leaves(run.model_dump(mode="json"))) for run in (recorded, trial.run)]
        differ = [
            f"{key} is {was.get(key)}, not {now.get(key)}" for key in {**was, **now} if was.get(key) != now.get(key)
        ]
        raise InputError(f"{path} was trained otherwise: {'; '.join(differ)}; give another --runs, or remove it")
    return True


def is_finished(trial: Trial) -> bool:
    """Return True if a begun run is evaluated."""
    return (trial.path / run_folder.EVALUATION).exists()


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


# -- training ---------------------------------------------------------------------------------------------------------


def train(todo: Sequence[Trial], path: Path, at_once: int, start: Start, say: Callable[[str], None]) -> list[Trial]:
    """Train these runs, some at a time; return those whose program failed. Started programs end with this function."""
    waiting, failed = list(todo), list[Trial]()
    running: list[tuple[Trial, Process]] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                trial = waiting.pop(0)
                arguments = ["train", str(path), *_as_options(trial.settings), "--out", str(trial.path)]
                if is_begun(trial):
                    arguments = ["train", "--resume", str(trial.path)]
                elif trial.path.exists():
                    for folder in sorted(trial.path.rglob("*"), reverse=True):
                        folder.rmdir()  # which refuses one that is not empty
                _note_start(trial, min(at_once, len(todo)))
                say(f"{trial.name}: {'resumed' if '--resume' in arguments else 'started'}, prints into {trial.log}")
                running.append((trial, start(arguments, trial.log)))
            codes = [one.poll() for _, one in running]
            for (trial, _), code in zip(running, codes, strict=True):
                if code is not None:
                    is_good = code == 0 and is_finished(trial)
                    failed += [] if is_good else [trial]
                    say(f"{trial.name}: {'finished' if is_good else f'failed with exit code {code}; see {trial.log}'}")
            still = [one for one, code in zip(running, codes, strict=True) if code is None]
            if len(still) == len(running):
                time.sleep(_POLL_SECONDS)
            running = still
    finally:
        _stop([one for _, one in running])
    return failed


def _stop(processes: Sequence[Process]) -> None:
    for process in processes:
        process.terminate()  # not SIGINT, which a program that was started in the background ignores
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _as_options(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _note_start(trial: Trial, at_once: int) -> None:
    """Record how many runs share the machine with this start: minutes are worth no more than that."""
    files.write_json(trial.starts, [*_starts(trial), {"at_once": at_once, "cores": os.cpu_count()}])


def _starts(trial: Trial) -> list[dict[str, Any]]:
    if not trial.starts.exists():
        return []
    found: list[dict[str, Any]] = json.loads(trial.starts.read_text(encoding="utf-8"))
    return found


# -- figures ----------------------------------------------------------------------------------------------------------


def figures(environment: AnyEnvironment, trial: Trial) -> dict[str, Any]:
    """Return the figures of a finished run, and the cells of its baselines."""
    folder = RunFolder(trial.path)
    found, rows = evaluation.read(folder, environment), folder.metrics()
    if found is None or not rows or rows[-1]["update"] != trial.run.updates:
        raise InputError(f"{trial.path} is evaluated, but its metrics end early; remove it, and run this again")
    shown = ["mean", *[metric.name for metric in environment.metrics]]
    cells = {(cell["policy"], cell["tier"]): {name: cell[name] for name in shown} for cell in found["cells"]}
    others = [policy for policy, _ in cells if policy != TRAINED]
    passed = next((one["update"] for one in held_out(rows) if is_past_heuristic(one)), None)
    starts = _starts(trial)
    return {
        "run": trial.name,
        "seed": trial.seed,
        "rounding": trial.rounding,
        "tiers": {tier: cells[TRAINED, tier] for tier in environment.tiers if (TRAINED, tier) in cells},
        "below": verdict.below(environment, found),
        "beats": {policy: verdict.beaten_tiers(found, policy) for policy in dict.fromkeys(others)},
        "passed_update": passed,
        "passed_minutes": None if passed is None else minutes([row for row in rows if row["update"] <= passed]),
        "is_watched": len(held_out(rows)) > 1,
        "updates": trial.run.updates,
        "minutes": minutes(rows),
        "episodes": sum([row["episodes"] for row in rows]),
        "digest": rows[-1]["digest"],
        "at_once": max([one["at_once"] for one in starts], default=None),
        "baselines": {
            policy: {tier: cells[policy, tier] for name, tier in cells if name == policy} for policy in others
        },
    }


def minutes(rows: Sequence[Row]) -> float:
    """Return the time of these updates, and of the evaluations after them; not of Ray's start or the report."""
    spent: list[float] = [seconds(row) + row["time"].get("evaluate", 0.0) for row in rows]
    return sum(spent) / 60


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of what is left without the lowest and the highest quarter, each rounded down."""
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def interval(by_seed: Mapping[int, Sequence[float]]) -> list[float] | None:
    """Return a bootstrap interval of the interquartile mean; whole seeds are resampled. None for fewer than two."""
    if len(by_seed) < 2:
        return None
    generator = np.random.default_rng(0)
    values = list(by_seed.values())
    means = [
        interquartile_mean([value for place in drawn for value in values[place]])
        for drawn in generator.integers(0, len(values), size=(RESAMPLES, len(values))).tolist()
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    return [float(bound) for bound in np.percentile(means, [tail, 100 - tail])]


def check_baselines(found: Sequence[Mapping[str, Any]]) -> None:
    """Refuse runs whose baselines did not do the same: then their scenarios or their worlds are not the same."""
    for one in found:
        if one["baselines"] != found[0]["baselines"]:
            raise InputError(
                f"baselines differ between {one['run']} and {found[0]['run']}: different versions of this program "
                "evaluated them; remove one of the two, and run this again"
            )


def summary(environment: AnyEnvironment, found: Sequence[Mapping[str, Any]], asked: int) -> dict[str, Any]:
    """Return what all runs come to; `asked` is how many there should be."""
    baselines, tiers = found[0]["baselines"], {}
    for tier in [tier for tier in environment.tiers if tier in found[0]["tiers"]]:
        by_seed: dict[int, list[float]] = {}
        for one in found:
            by_seed.setdefault(one["seed"], []).append(one["tiers"][tier]["mean"])
        means = [value for values in by_seed.values() for value in values]
        tiers[tier] = {"worst": min(means), "interquartile_mean": interquartile_mean(means), "ci": interval(by_seed)}
    # Without a way to see that it passed, a run is left out; one that was watched and never passed counts as never.
    watched = [one for one in found if one["is_watched"]]
    median = {
        what: _median([math.inf if one[f"passed_{what}"] is None else one[f"passed_{what}"] for one in watched])
        for what in ("update", "minutes")
    }
    whole = {
        "asked": asked,
        "finished": len(found),
        "tiers": tiers,
        "baselines": baselines,
        "beaten": {
            policy: {
                "every tier": len([one for one in found if set(one["beats"][policy]) == set(tiers)]),
                **{tier: len([one for one in found if tier in one["beats"][policy]]) for tier in tiers},
            }
            for policy in baselines
        },
        "median_update": median["update"],
        "median_minutes": median["minutes"],
        "watched": len(watched),
    }
    return whole | {"bars": [bar._asdict() for bar in bars(environment, found, whole)]}


def _median(values: Sequence[float]) -> float | None:
    """Return the median; None if there is none, or if half of the values are infinite."""
    median = statistics.median(values) if values else math.inf
    return None if math.isinf(median) else median


class Bar(NamedTuple):
    """What was to be reached, whether it was (None if it cannot be told), and the figures that decide."""

    bar: str
    holds: bool | None
    why: str


def bars(environment: AnyEnvironment, found: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> list[Bar]:
    """Decide each bar by the figures: a run that is not finished yet may still fail it, and none holds without it."""
    made: list[Bar] = []
    asked, missing = whole["asked"], whole["asked"] - whole["finished"]
    absent = [f"{missing} of {asked} runs not finished"] if missing else []

    def decide(bar: str, failing: Sequence[str], good: str) -> None:
        holds = None if missing else True
        made.append(Bar(bar, False if failing else holds, "; ".join([*failing, *absent]) or good))

    everywhere = f"in {asked} of {asked} runs"
    if HEURISTIC in whole["baselines"]:
        short = {one["run"]: [t for t in whole["tiers"] if t not in one["beats"][HEURISTIC]] for one in found}
        decide(
            f"every run beats the {HEURISTIC} on every tier, by an interval that excludes 0",
            [f"{run} not on {', '.join(tiers)}" for run, tiers in short.items() if tiers],
            everywhere,
        )
    if environment.detection is not None:
        catch, alarm = environment.detection
        low = _outside(found, catch, lambda share: share < CATCHES)
        decide(f"every run catches at least {CATCHES:.0%} of rogues on every tier that has them", low, everywhere)
        high = _outside(found, alarm, lambda share: share > FALSE_FLAGS)
        bar = f"every run has a false flag in at most {FALSE_FLAGS:.0%} of episodes, on every tier"
        decide(bar, high, everywhere)
    if ORACLE in whole["baselines"]:
        far = []
        for tier, those in whole["tiers"].items():
            oracle = whole["baselines"][ORACLE][tier]["mean"]
            if oracle - those["interquartile_mean"] > NEAR_ORACLE * abs(oracle):
                mean = [tables.headline(environment, value) for value in (those["interquartile_mean"], oracle)]
                far.append(f"{tier} {mean[0]} against {mean[1]}")
        near = f"within {NEAR_ORACLE:.0%} of the oracle's {environment.headline_name}"
        decide(f"the interquartile mean is {near} on every tier", far, "on every tier")
    unsolved: dict[str, list[str]] = {}
    for one in found:
        for group in one["below"]:
            unsolved.setdefault(group, []).append(one["run"])
    often = [f"{group} in {len(runs)} runs: {', '.join(runs)}" for group, runs in unsolved.items() if len(runs) > 1]
    bar = f"no {environment.grouping} is solved below {verdict.SOLVED:.0%} in more than one run"
    decide(bar, often, "none is")
    return [*made, _in_time(found, whole)]


def _outside(found: Sequence[Mapping[str, Any]], metric: str, is_bad: Callable[[float], bool]) -> list[str]:
    """Name the runs and tiers whose figure of this metric is bad."""
    return [
        f"{one['run']} {100 * value:.0f} % on {tier}"
        for one in found
        for tier, those in one["tiers"].items()
        if (value := those[metric]) is not None and is_bad(value)
    ]


def _in_time(found: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> Bar:
    """Decide the bar on time, which is about idle cores: runs that shared them can pass it, but not fail it."""
    bar = f"the median run is past the {HEURISTIC} on every tier within {MINUTES:g} minutes of training on idle cores"
    if not whole["watched"]:
        return Bar(bar, None, "no run was evaluated on its way; set evaluation.every")
    median, shared = whole["median_minutes"], [one for one in found if one["is_watched"] and one["at_once"] != 1]
    how = f"{whole['watched'] - len(shared)} of {whole['watched']} runs were alone on the machine"
    if whole["asked"] > whole["watched"]:
        return Bar(bar, None, f"{whole['watched']} of {whole['asked']} runs were evaluated on their way; {how}")
    if median is None:
        return Bar(bar, holds=False, why="half of the runs or more never are")
    is_fast = median <= MINUTES
    return Bar(bar, is_fast if is_fast or not shared else None, f"{median:.1f} minutes; {how}")


# -- what it prints ---------------------------------------------------------------------------------------------------


def report(environment: AnyEnvironment, found: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables, in Markdown, and of the bars."""
    tiers = list(whole["tiers"])
    names = " / ".join(tiers)
    shares = _shares(environment)
    yield from _table(
        [
            "run",
            f"mean {environment.headline_name}, {names}",
            *[f"{metric.name.replace('_', ' ')}, {' / '.join(_having(found, metric, tiers))}" for metric in shares],
            f"{environment.grouping} solved below {verdict.SOLVED:.0%}",
            f"past the {HEURISTIC} on every tier after",
            "minutes in all",
        ],
        [
            _run_row(environment, one, tiers, [(metric, _having(found, metric, tiers)) for metric in shares])
            for one in found
        ],
    )
    yield ""
    of = f"{whole['finished']} runs"
    rows = [
        [f"trained, worst of {of}", *[tables.headline(environment, whole["tiers"][tier]["worst"]) for tier in tiers]],
        [
            f"trained, interquartile mean of {of}",
            *[_with_interval(environment, whole["tiers"][tier]) for tier in tiers],
        ],
    ]
    for policy in [name for name in _SHOWN if name in whole["baselines"]]:
        means = [whole["baselines"][policy][tier]["mean"] for tier in tiers]
        rows.append([policy, *[tables.headline(environment, mean) for mean in means]])
    yield from _table([f"mean {environment.headline_name}", *tiers], rows)
    yield ""
    yield f"The interval is a {CONFIDENCE:.0%} bootstrap over whole seeds; the held-out scenarios are the same for all."
    yield ""
    rows = [
        [f"runs that beat {name}", *[f"{counts[key]} of {whole['finished']}" for key in ("every tier", *tiers)]]
        for name, counts in whole["beaten"].items()
    ]
    yield from _table(["by an interval that excludes 0", "every tier", *tiers], rows)
    yield ""
    if whole["watched"]:
        after = (
            "never"
            if whole["median_minutes"] is None
            else f"{whole['median_update']:g} updates, {whole['median_minutes']:.1f} minutes"
        )
        yield f"Past the {HEURISTIC} on every tier, the median of {whole['watched']} runs: {after}."
    many = f"over {whole['asked']} runs" + (f", of the {RUNS} that they ask for" if whole["asked"] < RUNS else "")
    yield f"The bars, {many}:"
    for bar in whole["bars"]:
        holds = {True: "holds", False: "does not hold", None: "cannot be told"}[bar["holds"]]
        yield f"- {bar['bar']}: {holds} ({bar['why']})"


def _run_row(
    environment: AnyEnvironment,
    one: Mapping[str, Any],
    tiers: Sequence[str],
    shares: Sequence[tuple[Metric, Sequence[str]]],
) -> list[str]:
    passed = "not evaluated on its way"
    if one["is_watched"]:
        passed = "never"
        if one["passed_update"] is not None:
            passed = f"{one['passed_update']} updates, {one['passed_minutes']:.1f} min"
    return [
        one["run"],
        " / ".join([tables.headline(environment, one["tiers"][tier]["mean"]) for tier in tiers]),
        *[" / ".join([tables.share(one["tiers"][tier][metric.name]) for tier in having]) for metric, having in shares],
        verdict.with_shares(one["below"]) or tables.DASH,
        passed,
        f"{one['minutes']:.1f}" + (f", {one['at_once']} at once" if one["at_once"] not in (1, None) else ""),
    ]


def _shares(environment: AnyEnvironment) -> list[Metric]:
    """Return the shares of the tables, without the first, which is the solved ones: those stand by group."""
    return [metric for metric in environment.metrics if metric.is_share and metric.in_tables][1:]


def _having(found: Sequence[Mapping[str, Any]], metric: Metric, tiers: Sequence[str]) -> list[str]:
    return [tier for tier in tiers if any(one["tiers"][tier][metric.name] is not None for one in found)]


def _with_interval(environment: AnyEnvironment, those: Mapping[str, Any]) -> str:
    mean = tables.headline(environment, those["interquartile_mean"])
    if those["ci"] is None:
        return mean
    return f"{mean} [{', '.join([tables.headline(environment, bound) for bound in those['ci']])}]"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max([len(row[column]) for row in (heading, *rows)]) for column in range(len(heading))]
    for row in (heading, ["-" * width for width in widths], *rows):
        yield f"| {' | '.join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)])} |"


def opening(path: Path, settings: Sequence[str], planned: Sequence[Trial], seeds: str, at_once: int) -> Iterator[str]:
    """Yield what is measured, and whether it is what is shipped."""
    yield (
        f"{len(planned)} runs of `chaosops train {os.path.relpath(path)} --set {TINY}`: seeds {seeds}, each "
        f"{' and with '.join(ROUNDINGS)}; {planned[0].run.updates} updates; {at_once} at once on {os.cpu_count()} cores"
    )
    if settings or path.resolve() != DEMO:
        changed = [*([] if path.resolve() == DEMO else [f"--config {path}"]), *[f"--set {one}" for one in settings]]
        yield f"THESE ARE NOT THE SHIPPED SETTINGS OF THE DEMO: {', '.join(changed)}"


def main(arguments: Sequence[str] | None = None, start: Start = start_chaosops) -> int:
    """Train what is not trained yet, print the tables, write the figures where asked."""
    parser = argparse.ArgumentParser(description="How surely the demo's recipe learns: many seeds, two roundings.")
    parser.add_argument("--seeds", default="0-9", metavar="A-B", help="train each of these seeds, twice (default: 0-9)")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="runs side by side (default: 2)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/learning"), metavar="DIR", help="where the runs are kept"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--config", type=Path, default=DEMO, metavar="FILE", help="the run's file (default: the demo's)"
    )
    settings = "override a key of every run; what comes out is not the shipped recipe's then"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=settings)
    parser.add_argument("--report", action="store_true", help="train nothing; print what the finished runs come to")
    given = parser.parse_args(arguments)
    if given.at_once < 1:
        parser.error(f"--at-once must be at least 1, got {given.at_once}")
    try:
        return _run(given, start)
    except (InputError, config.ConfigError) as error:
        print(f"learning.py: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        print("learning.py: interrupted; the same command continues", file=sys.stderr)
        return _INTERRUPTED


def _run(given: argparse.Namespace, start: Start) -> int:
    # Everything that can be refused is refused before anything is trained.
    planned = trials(given.config, given.set, evaluate.parse_seeds(given.seeds), given.runs)
    environment = check.look_over(planned[0].run)
    if given.json is not None:
        files.check_writable(given.json)
    todo, found = [], []
    for trial in planned:
        if is_begun(trial) and is_finished(trial):
            found.append(figures(environment, trial))
        else:
            todo.append(trial)
            if not given.report and is_begun(trial):
                with RunFolder(trial.path).claimed():
                    pass
    check_baselines(found)
    for line in opening(given.config, given.set, planned, given.seeds, given.at_once):
        print(line, flush=True)
    failed: list[Trial] = []
    if todo and not given.report:
        files.make_folder(given.runs)
        print(f"{len(planned) - len(todo)} runs are finished, {len(todo)} to go", flush=True)
        failed = train(todo, given.config, given.at_once, start, lambda text: print(text, flush=True))
    found = [figures(environment, trial) for trial in planned if is_begun(trial) and is_finished(trial)]
    check_baselines(found)
    print()
    finished = [one["run"] for one in found]
    for trial in [one for one in planned if one.name not in finished and is_begun(one)]:
        done = len(RunFolder(trial.path).metrics())
        print(f"{trial.name} is not finished: {done} of {trial.run.updates} updates; it is not in the tables")
    if found:
        whole = summary(environment, found, len(planned))
        for line in report(environment, found, whole):
            print(line)
        if given.json is not None:
            runs = [{key: value for key, value in one.items() if key != "baselines"} for one in found]
            shipped = not given.set and given.config.resolve() == DEMO
            files.write_json(
                given.json,
                {
                    "config": os.path.relpath(given.config),
                    "set": given.set,
                    "is_shipped": shipped,
                    "runs": runs,
                    **whole,
                },
            )
    else:
        print("no run is finished")
    return _FAILED if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops the runs too
    raise SystemExit(main())
