"""benchmarks/learning.py, with a scripted `chaosops train`: what it starts, what it reads, what it concludes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning
from chaosops_ray import cli, evaluate
from chaosops_ray.store import files
from chaosops_ray.store.run_folder import CONFIG, METRICS, RunFolder
from chaosops_ray.training import check
from tests.support import runs
from tests.support.runs import INCIDENT

ORACLE = {"easy": 134.0, "medium": 150.667, "hard": 170.0}
HELD_OUT = range(20, 241, 20)
SECONDS = 3.0  # of a scripted update
PASSED = 60
SHIPPED = "tune_configs/3a.yaml --set model=tiny"


@cache
def evaluation(skill: str) -> dict[str, Any]:
    """The evaluation of a run whose policy plays as this baseline does."""
    names = ("random", "heuristic", "lookup", "oracle")
    players = evaluate.baselines(INCIDENT, ",".join(names))
    scenarios = INCIDENT.scenarios("published", range(1000, 1003))
    every = {"trained": players[skill], **players}
    results = [
        evaluate.result(INCIDENT, name, one.episode) for name, one in evaluate.play_all(every, scenarios, "strict")
    ]
    found = evaluate.summary(INCIDENT, results, "strict", "published", "1000-1002")
    return found | {"differences": evaluate.differences(INCIDENT, results, "trained", names, "strict")}


def rows(count: int, passed: int | None = PASSED) -> list[dict[str, Any]]:
    """Rows that take three seconds each, held out on the way; from one update on above the heuristic on every tier."""
    found = []
    for update in range(1, count + 1):
        row = runs.row(update) | {"time": {"rollout": SECONDS - 1, "engine": 1.0, "update": 0.75, "adopt": 0.25}}
        if update in HELD_OUT:
            ahead = {"easy": 1.0, "medium": 1.0, "hard": 1.0 if passed is not None and update >= passed else -1.0}
            tiers = {tier: row["tiers"][tier] | {"mean": mean} for tier, mean in ahead.items()}
            row["evaluation"] = {"tiers": tiers, "heuristic": dict.fromkeys(tiers, 0.0)}
            row["time"]["evaluate"] = 1.5
        found.append(row)
    return found


class Scripted:
    """A program that is over at its second poll: it leaves the run folder that it was told to leave."""

    def __init__(self, train: Train, arguments: Sequence[str]) -> None:
        self.train, self.arguments, self.polls = train, arguments, 0
        self.is_terminated = False

    def poll(self) -> int | None:
        self.polls += 1
        if self.polls < 2:
            return None
        self.train.running -= 1
        return self.train.finish(self.arguments)

    def terminate(self) -> None:
        self.is_terminated = True

    def wait(self, timeout: float | None = None) -> int:
        assert timeout is not None
        return 130

    def kill(self) -> None:
        raise AssertionError("it ended when it was asked to")


class Train:
    """Starts scripted runs: `skill` and `passed` say by the run's name how a run ends."""

    def __init__(self, **skills: str) -> None:
        self.skills = {name.replace("_", "-"): skill for name, skill in skills.items()}
        self.passed: Callable[[str], int | None] = lambda _name: PASSED
        self.started: list[Scripted] = []
        self.running = self.most = 0

    def __call__(self, arguments: Sequence[str], log: Path) -> Scripted:
        log.write_text("the run's output\n")
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.append(Scripted(self, arguments))
        given = cli.parser().parse_args(arguments)
        if given.resume is None:
            RunFolder.create(given.out, check.written(check.read(given.config, given.set, given.seed)))
        return self.started[-1]

    def finish(self, arguments: Sequence[str]) -> int:
        given = cli.parser().parse_args(arguments)
        folder = RunFolder(given.resume or given.out)
        skill = self.skills.get(folder.path.name, "oracle")
        if skill == "dies":
            return 3
        found = rows(check.recorded(folder).updates, self.passed(folder.path.name))
        files.write_lines(folder.path / METRICS, found)
        folder.finish([], evaluation(skill))
        return 0


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "_POLL_SECONDS", 0.0)


def measure(path: Path, train: Train, *more: str, seeds: str = "0-1") -> int:
    return learning.main(["--seeds", seeds, "--runs", str(path / "runs"), *more], train)


def table(out: str, heading: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    lines = out[out.index(f"\n| {heading}") :].lstrip().split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells[2:]}


def bar(out: str, words: str) -> str:
    (line,) = [line for line in out.splitlines() if line.startswith("- ") and words in line]
    return line


def test_good_runs_are_trained_two_at_a_time_and_every_bar_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = Train()
    assert measure(tmp_path, train, "--json", str(tmp_path / "out.json")) == 0
    out = capsys.readouterr().out
    assert train.most == 2
    assert [one.arguments[-1] for one in train.started] == [
        str(tmp_path / "runs" / name) for name in ("seed-0", "seed-0-two-threads", "seed-1", "seed-1-two-threads")
    ]
    given = [cli.parser().parse_args(one.arguments).set for one in train.started]
    threads = ["resources.learner_threads=2", "resources.sampler_threads=2"]
    assert given[2:] == [["model=tiny", "seed=1"], ["model=tiny", *threads, "seed=1"]]

    assert "NOT THE SHIPPED" not in out
    found = table(out, "run")
    spent = (PASSED * SECONDS + 3 * 1.5) / 60
    assert found["seed-1-two-threads"] == [
        "+134.0 / +150.7 / +170.0",
        "100 % / 100 %",
        "0 % / 0 % / 0 %",
        "–",
        f"{PASSED} updates, {spent:.1f} min",
        f"{(240 * SECONDS + 12 * 1.5) / 60:.1f}, 2 at once",
    ]
    means = table(out, "mean return")
    assert means["trained, worst of 4 runs"] == means["oracle"] == means["lookup"]
    assert means["trained, interquartile mean of 4 runs"][0] == "+134.0 [+134.0, +134.0]"
    beaten = table(out, "by an interval")
    assert beaten["runs that beat heuristic"] == ["4 of 4"] * 4
    assert beaten["runs that beat oracle"] == ["0 of 4"] * 4
    assert f"the median of 4 runs: {PASSED} updates, {spent:.1f} minutes" in out
    assert "The bars, over 4 runs, of the 20 that they ask for:" in out
    bars = [line for line in out.splitlines() if line.startswith("- ")]
    assert len(bars) == 6
    assert all(": holds (" in line for line in bars)

    written = json.loads((tmp_path / "out.json").read_text())
    assert written["is_shipped"]
    assert [one["run"] for one in written["runs"]] == list(found)
    assert written["runs"][0]["passed_update"] == written["median_update"] == PASSED
    assert [one["holds"] for one in written["bars"]] == [True] * 6


def test_a_bad_run_breaks_the_bars_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = Train(seed_1="random", seed_0_two_threads="heuristic")
    train.passed = lambda name: None if name == "seed-1" else PASSED
    assert measure(tmp_path, train) == 0
    out = capsys.readouterr().out
    cells = {(one["policy"], one["tier"]): one["mean"] for one in evaluation("random")["cells"]}
    worst = table(out, "mean return")["trained, worst of 4 runs"]
    assert worst == [f"{cells['trained', tier]:+.1f}".replace("-", "−") for tier in INCIDENT.tiers]
    found = table(out, "run")
    assert found["seed-1"][4] == "never"
    assert found["seed-1"][3].startswith("bad_config_push 0 %, ")
    assert table(out, "by an interval")["runs that beat heuristic"][0] == "2 of 4"
    broken = bar(out, "every run beats")
    assert "does not hold" in broken
    # As good as the heuristic is not better than it.
    assert "seed-0-two-threads not on easy, medium, hard; seed-1 not on easy" in broken
    assert "does not hold (seed-0-two-threads" in bar(out, "false flag in at most 10%")
    assert "seed-1 " in bar(out, "catches at least 90%")
    assert "misrouted_traffic in 2 runs: seed-0-two-threads, seed-1" in bar(out, "solved below 90%")
    assert "does not hold" in bar(out, "within 5% of the oracle's return")


def test_finished_runs_are_read_and_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(tmp_path, Train(), seeds="0")
    first = capsys.readouterr().out
    again = Train()
    assert measure(tmp_path, again, seeds="0") == 0
    assert again.started == []
    out = capsys.readouterr().out
    assert out[out.index("| run") :] == first[first.index("| run") :]

    more = Train()
    assert measure(tmp_path, more, "--report") == 0
    assert more.started == []
    out = capsys.readouterr().out
    assert list(table(out, "run")) == ["seed-0", "seed-0-two-threads"]
    assert ": cannot be told (2 of 4 runs not finished)" in bar(out, "every run beats")
    assert not (tmp_path / "runs" / "seed-1").exists()


class Interrupted(Train):
    """Ctrl-C comes while the second run is half done."""

    def finish(self, arguments: Sequence[str]) -> int:
        folder = RunFolder(Path(arguments[-1]))
        if folder.path.name != "seed-0":
            files.write_lines(folder.path / METRICS, rows(60))
            raise KeyboardInterrupt
        return super().finish(arguments)


def test_a_stopped_benchmark_stops_its_runs_and_continues_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(tmp_path / "whole", Train(), seeds="0")
    whole = capsys.readouterr().out
    stopped = Interrupted()
    assert measure(tmp_path, stopped, seeds="0") == 130
    said = capsys.readouterr()
    assert "| run" not in said.out
    assert said.err == "learning.py: interrupted; the same command continues\n"
    assert [one.is_terminated for one in stopped.started] == [True, True]

    assert measure(tmp_path, Train(), "--report", seeds="0") == 0
    out = capsys.readouterr().out
    assert "seed-0-two-threads is not finished: 60 of 240 updates; it is not in the tables" in out

    again = Train()
    assert measure(tmp_path, again, seeds="0") == 0
    half = str(tmp_path / "runs" / "seed-0-two-threads")
    assert ["train", "--resume", half] in [one.arguments for one in again.started]
    out = capsys.readouterr().out
    assert out[out.index("| run") :] == whole[whole.index("| run") :]


def test_a_folder_that_was_only_begun_to_be_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "runs" / "seed-0" / "adapters").mkdir(parents=True)
    train = Train()
    assert measure(tmp_path, train, "--report", seeds="0") == 0
    assert (tmp_path / "runs" / "seed-0" / "adapters").exists()
    assert measure(tmp_path, train, seeds="0") == 0
    assert "--resume" not in train.started[0].arguments


def other_settings(path: Path) -> None:
    """The run was trained with other settings."""
    text = (path / CONFIG).read_text()
    (path / CONFIG).write_text(text.replace("updates: 240", "updates: 100"))
    RunFolder(path).finish([], evaluation("oracle"))


def other_file(path: Path) -> None:
    """The folder holds something that is not a run."""
    (path / CONFIG).unlink()


def other_rules(path: Path) -> None:
    """The run was trained under other rules."""
    text = (path / CONFIG).read_text()
    (path / CONFIG).write_text(text.replace("rules: strict/2", "rules: strict/1"))
    RunFolder(path).finish([], evaluation("oracle"))


def other_program(path: Path) -> None:
    """Another version of the program evaluated the run: its heuristic did something else."""
    found = json.loads(json.dumps(evaluation("oracle")))
    next(one for one in found["cells"] if one["policy"] == "heuristic")["mean"] += 1
    RunFolder(path).finish([], found)


def shorter_metrics(path: Path) -> None:
    """Metrics that do not belong to the evaluation."""
    files.write_lines(path / METRICS, rows(60))
    RunFolder(path).finish([], evaluation("oracle"))


SABOTAGE = {
    other_settings: "updates is 100, not 240",
    other_file: "is not a run",
    other_rules: "rules strict/1 are not played",
    other_program: "baselines differ between seed-0-two-threads and seed-0",
    shorter_metrics: "its metrics end early",
}


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda function: function.__name__)
def test_what_is_not_this_benchmark_s_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sabotage: Callable[[Path], None]
) -> None:
    measure(tmp_path, Train(), seeds="0")
    capsys.readouterr()
    sabotage(tmp_path / "runs" / "seed-0-two-threads")
    train = Train()
    assert measure(tmp_path, train, seeds="0") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "seed-0-two-threads" in said.err
    assert SABOTAGE[sabotage] in said.err
    assert train.started == []
    assert "| run" not in said.out


def test_a_run_that_another_process_is_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trial, _) = learning.trials(learning.DEMO, (), [0], tmp_path / "runs")
    folder = RunFolder.create(trial.path, check.written(trial.run))
    train = Train()
    with folder.claimed():
        assert measure(tmp_path, train, "--report", seeds="0") == 0
        assert "seed-0 is not finished: 0 of 240 updates" in capsys.readouterr().out
        assert measure(tmp_path, train, seeds="0") == 2
    assert "is being trained by another process" in capsys.readouterr().err
    assert train.started == []


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(tmp_path, Train(seed_0="dies")) == 1
    out = capsys.readouterr().out
    assert f"seed-0: failed with exit code 3; see {tmp_path / 'runs' / 'seed-0.log'}" in out
    assert list(table(out, "run")) == ["seed-0-two-threads", "seed-1", "seed-1-two-threads"]
    assert "cannot be told (1 of 4 runs not finished)" in bar(out, "every run beats")
    assert not [line for line in out.splitlines() if line.startswith("- ") and ": holds" in line]


def test_other_settings_are_said_to_be_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert measure(tmp_path, Train(), "--set", "updates=60", "--json", str(out), seeds="3") == 0
    assert "THESE ARE NOT THE SHIPPED SETTINGS OF THE DEMO: --set updates=60" in capsys.readouterr().out
    assert not json.loads(out.read_text())["is_shipped"]
    config = tmp_path / "mine.yaml"
    config.write_text("model: tiny\nsampler: torch\nupdates: 60\n")
    assert measure(tmp_path / "b", Train(), "--config", str(config), seeds="3") == 0
    assert f"NOT THE SHIPPED SETTINGS OF THE DEMO: --config {config}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--seeds", "x"], "seeds 'x'"),
        (["--set", "learner.lora_rnk=8"], "learner.lora_rnk"),
        (["--config", "/no/such.yaml"], "/no/such.yaml"),
        (["--json", "/no/such/folder/out.json"], "/no/such/folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], named: str
) -> None:
    train = Train()
    assert learning.main(["--runs", str(tmp_path / "runs"), *given], train) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert named in said.err
    assert said.out == ""
    assert train.started == []
    assert not (tmp_path / "runs").exists()


def watched(at_once: int, minutes: Sequence[float | None]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found = [{"is_watched": True, "at_once": at_once, "passed_minutes": one} for one in minutes]
    values = [float("inf") if one is None else one for one in minutes]
    whole = {"watched": len(found), "asked": len(found), "median_minutes": learning._median(values)}
    return found, whole


@pytest.mark.parametrize(
    ("at_once", "minutes", "holds"),
    [
        (1, [4.0, 4.5, 9.0], True),
        (1, [4.0, 5.5, 9.0], False),
        (2, [4.0, 4.5, 9.0], True),  # on idle cores it would have been faster still
        (2, [4.0, 5.5, 9.0], None),
        (2, [4.0, None, None], False),
    ],
)
def test_runs_that_share_the_cores_can_pass_the_bar_on_time_and_not_fail_it(
    at_once: int, minutes: list[float | None], holds: bool | None
) -> None:
    assert learning._in_time(*watched(at_once, minutes)).holds is holds


def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side() -> None:
    assert learning.interquartile_mean([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert learning.interquartile_mean([9.0, 3.0, 3.0]) == 5.0
    assert learning.interquartile_mean([float(n) for n in range(20)]) == 9.5


def test_its_interval_resamples_whole_seeds() -> None:
    """Two equal runs of a seed say no more about other seeds than one does."""
    one = {seed: [float(seed)] for seed in range(8)}
    both = {seed: values * 2 for seed, values in one.items()}
    assert learning.interval(one) == learning.interval(both)
    low, high = learning.interval(one) or (0.0, 0.0)
    assert 0 < low < 3.5 < high < 7
    assert learning.interval({3: [1.0, 2.0]}) is None


def test_a_run_is_started_as_a_program_that_prints_into_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert learning.start_chaosops(["--version"], log).wait(60) == 0
    assert log.read_text().startswith("chaosops ")
