"""The sweep report: its content, the same bytes each time, and safe with hostile text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.reports import sweep_plots, sweep_report
from chaosops_ray.sweeps.comparison import RULE, Outcome, compare, report_facts
from chaosops_ray.sweeps.spec import Sweep
from tests.support.runs import INCIDENT
from tests.support.sweeps import failed, outcomes, sweep

DIGESTS = {"strong": "a" * 64, "weak": "b" * 64}


def facts_of(given: Sweep, found: list[Outcome]) -> sweep_report.SweepFacts:
    return report_facts(given, found, compare(INCIDENT, given, found), DIGESTS)


def write(folder: Path, given: Sweep, found: list[Outcome]) -> tuple[str, str]:
    folder.mkdir(parents=True)
    paths = sweep_report.write(folder, INCIDENT, facts_of(given, found))
    markdown, page = [path.read_text(encoding="utf-8") for path in paths]
    return markdown, page


def test_all_of_it_is_there(tmp_path: Path) -> None:
    markdown, page = write(tmp_path / "sweep", sweep(), failed(outcomes(), "weak-s1", "the disk | is <full>"))
    for text in (markdown, page):
        for title in ("Verdicts", "Evaluation", "Differences from strong", "Training", "Trials", "Arms"):
            assert title in text
        for word in ("undecided", "supported", "strong − random", "−433.4 / 40 %", "5 of 240"):
            assert word in text
        assert RULE.split(",")[0] in text
    assert "failed: the disk \\| is &lt;full&gt;" in markdown
    assert "failed: the disk | is &lt;full&gt;" in page
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(pictures) == 6
    assert all((tmp_path / "sweep" / path).read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert page.count("data:image/png;base64,") == 6
    assert '<td class="good">supported</td>' in page
    assert '<td class="bad">failed: ' in page
    assert not re.search(r"url\(|@import|https?:|<script|<link", page)


def test_it_says_who_played_which_seat(tmp_path: Path) -> None:
    """Of each arm in training, and of all policies in the evaluation."""
    found = [
        one._replace(
            trial=one.trial._replace(run=one.trial.run.model_copy(update={"seats": seats, "evaluation": same}))
        )
        for one in outcomes()
        for seats in [{"sre": "oracle", "dev": "heuristic"} if one.trial.arm == "weak" else {}]
        for same in [one.trial.run.evaluation.model_copy(update={"seats": "dev=oracle"})]
    ]
    facts = facts_of(sweep(), found)
    markdown, _ = sweep_report.rendered(tmp_path, INCIDENT, facts, [], [])
    (strong, weak) = [line for line in markdown.splitlines() if line.startswith(("| strong | tiny", "| weak | tiny"))]
    assert "| all learn |" in strong
    assert "| sre oracle, dev heuristic, others learn |" in weak
    assert "Seats: sre, oversight, manager by strong, weak, random, heuristic; dev by oracle." in markdown


def test_the_same_outcomes_give_the_same_bytes(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "sweep", sweep(), outcomes())
    first = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    again = {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    assert first == again
    assert len(first) == 9


def test_a_sweep_of_which_nothing_finished_still_has_a_report(tmp_path: Path) -> None:
    found = [one._replace(state="failed", why="x", rows=[], results=()) for one in outcomes()]
    markdown, page = write(tmp_path / "sweep", sweep(), found)
    for text in (markdown, page):
        assert "6 trials, 6 failed" in text
        assert "Evaluation" not in text


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(claim=HOSTILE, why=HOSTILE)
def test_no_text_breaks_a_table_or_the_page(claim: str, why: str) -> None:
    given = sweep(hypotheses=[{"claim": claim, "more": "strong", "than": "weak", "on": "hard"}])
    found = failed(outcomes(1), "weak-s0", why)
    markdown, page = sweep_report.rendered(Path("s"), INCIDENT, facts_of(given, found), [], [])
    for table in re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in table.splitlines()}
        assert len(counts) == 1
    assert len(re.findall(r"<tr>", page)) == len(re.findall(r"</tr>", page))
    assert "<script" not in page.lower()


def test_bands_run_from_the_lowest_seed_to_the_highest() -> None:
    at, low, middle, high = sweep_plots.band(
        [(np.array([1.0, 3.0]), np.array([0.0, 2.0])), (np.array([2.0, 3.0]), np.array([5.0, 6.0]))]
    )
    assert at.tolist() == [1, 2, 3]
    assert low.tolist() == [0, 1, 2]
    assert middle.tolist() == [0, 3, 4]
    assert high.tolist() == [0, 5, 6]
