"""The page of a run: its content, complete in one file, and no text on it that a browser obeys."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.reports import run_report
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, EVALUATION_EPISODES, METRICS, RunFolder
from tests.support import runs
from tests.support.runs import INCIDENT, TOOLS

MARKUP = "<script>alert(1)</script>\"'&"
DIFFERENCES: list[dict[str, Any]] = [
    {"tier": "easy", "policy": "trained", "against": "heuristic", "mean": 115.0, "ci": [101.0, 130.0]},
    {"tier": "medium", "policy": "trained", "against": "heuristic", "mean": 12.0, "ci": [-5.0, 30.0]},
    {"tier": "hard", "policy": "trained", "against": "heuristic", "mean": -30.0, "ci": [-50.0, -3.0]},
]


class Reader(HTMLParser):
    """The page as a browser parses it: its elements, its text, its tables' rows; unbalanced elements fail."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = self.style = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            self.style += data
            return
        if "script" in self.open:
            attributes, before = self.scripts[-1]
            self.scripts[-1] = attributes, before + data
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += f"|{data}" if "small" in self.open else data


def read(run: RunFolder) -> Reader:
    return Reader(run_report.write(run, INCIDENT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    run = runs.evaluated(tmp_path_factory.mktemp("runs") / "3a-tiny", 12, differences=DIFFERENCES)
    return read(run)


def test_the_opening_says_what_was_done(whole: Reader) -> None:
    minutes = sum(sum(row["time"][lap] for lap in ("rollout", "update", "adopt")) for row in runs.rows(12)) / 60
    assert "3a-tiny" in whole.text
    assert "model tiny · ChaosOps, the incident room · rules strict/2 · seed 7" in whole.text
    assert f"Trained on 1,536 episodes in 12 of 160 updates, which took {minutes:.1f} minutes." in whole.text
    assert (
        "Played greedily on the published set, seeds 1000-1001 under rules strict/2, it has a mean return of "
        "+134.0 on easy, +150.7 on medium, +170.0 on hard." in whole.text
    )


def test_it_says_who_played_which_seat(tmp_path: Path) -> None:
    """In training by the configuration, in the evaluation by the evaluation."""
    beside = {"sre": "oracle", "dev": "oracle", "manager": "heuristic"}
    config = f"{runs.CONFIG}seats: {{oversight: learn, dev: oracle}}\n"
    run = runs.evaluated(tmp_path / "run", 12, config, colleagues={"trained": beside, "random": beside})
    text = read(run).text
    assert "Seats in training: sre, oversight, manager by the policy that learns; dev by oracle." in text
    assert "Seats: sre, dev by oracle; oversight by trained, random; manager by heuristic." in text


def test_where_the_policy_plays_every_seat_no_word_is_lost_on_it(whole: Reader) -> None:
    assert "Seats" not in whole.text


def test_the_table_has_every_policy_of_every_tier_with_its_intervals(whole: Reader) -> None:
    cells = json.loads(json.dumps(runs.evaluation()))["cells"]
    (place,) = [number for number, row in enumerate(whole.rows) if row[:2] == ["tier", "policy"]]
    assert whole.rows[place] == [
        "tier",
        "policy",
        "n",
        "mean return",
        "95 % interval",
        "solved",
        "mttr",
        "rogue+",
        "false+",
    ]
    table = whole.rows[place + 1 : place + 1 + len(cells)]
    assert [row[0] for row in table if len(row) == 9] == list(INCIDENT.tiers)
    trained, random = table[0], table[1]
    assert trained == ["easy", "trained", "8", "+134.0", "+134.0 … +134.0", "100 %|100–100", "3.0", "–", "0 %|0–0"]
    (cell,) = [cell for cell in cells if (cell["policy"], cell["tier"]) == ("random", "easy")]
    low, high = cell["success_ci"]
    assert random[4] == f"{100 * cell['success']:.0f} %|{100 * low:.0f}–{100 * high:.0f}"


def test_differences_are_shown_and_marked_where_they_are_sure(whole: Reader) -> None:
    assert ["easy", "trained − heuristic", "+115.0", "+101.0 … +130.0"] in whole.rows
    assert ["hard", "trained − heuristic", "−30.0", "−50.0 … −3.0"] in whole.rows
    marks = [str(attributes.get("class")) for tag, attributes in whole.elements if tag == "td"]
    assert [mark for mark in marks if mark.split()[-1:] in (["good"], ["bad"])] == ["n good", "n bad"]


def test_the_verdict_stands_there(whole: Reader) -> None:
    assert (
        "Verdict: beats the heuristic on easy; does not on hard (+170.0 against −497.5); is ahead of the heuristic on "
        "medium (+150.7 against +31.2), but the interval of the difference contains 0." in whole.text
    )


def test_the_table_by_failure_marks_what_was_never_solved(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "run", 1)
    evaluation = runs.evaluation()
    unsolved = ("cascade", "dns_outage", "disk_full")
    for cell in evaluation["by_failure"]:
        if cell["failure"] in unsolved or cell["policy"] == "random":
            cell |= {"success": 0.0, "success_ci": [0.0, 0.0]}
    runs.write_evaluation(run.path, evaluation)
    found = read(run)
    failures = list(dict.fromkeys(cell["failure"] for cell in evaluation["by_failure"]))
    heading = next(place for place, row in enumerate(found.rows) if row[:2] == ["failure", "policy"])
    table = found.rows[heading + 1 : heading + 1 + 3 * len(failures)]
    assert [row[0] for row in table[::3]] == failures
    marked = {row[0] for row in table if row[1] == "trained|never solved"}
    assert marked == set(unsolved)
    assert {row[0] for row in table if row[1] == "trained"} == set(failures) - marked
    assert sum("never solved" in cell for row in table for cell in row) == 3
    assert "Never solved by the trained policy: cascade, disk_full, dns_outage." in found.text


def test_where_all_was_solved_nothing_is_marked(whole: Reader) -> None:
    assert "ever solved" not in whole.text


def test_what_the_held_out_set_gave_during_training_has_a_table(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", runs.CONFIG)
    rows = runs.with_held_out(runs.rows(10), 5)
    for row in rows:
        run.log(row)
    found = read(run)
    assert "Held out during training" in found.text
    heading = next(place for place, row in enumerate(found.rows) if row[:2] == ["update", "tier"])
    table = found.rows[heading + 1 : heading + 7]
    assert [row[:2] for row in table] == [[str(update), tier] for update in (5, 10) for tier in INCIDENT.tiers]
    figures = rows[9]["evaluation"]["tiers"]["hard"]
    mean = f"{figures['mean']:+.1f}".replace("-", "−")
    assert table[-1][3:6] == [mean, "+0.5", f"{100 * figures['success']:.0f} %"]
    assert "evaluation · tiers" not in found.text


def test_without_evaluation_during_training_there_is_no_such_table(whole: Reader) -> None:
    assert "Held out" not in whole.text


def test_the_last_update_and_the_configuration_stand_there(whole: Reader) -> None:
    assert ["update", "12"] in whole.rows
    assert ["rogue_catch", "–"] in whole.rows
    assert ["kl", f"{runs.row(12)['learner']['kl']:.6g}"] in whole.rows
    assert runs.CONFIG in whole.text


def test_the_page_stands_alone(whole: Reader) -> None:
    """Pictures, data, style and script are in it, and nothing else in it could fetch or run anything."""
    assert {tag for tag, _ in whole.elements}.isdisjoint({"link", "iframe", "object", "form", "a"})
    assert not [name for _, attributes in whole.elements for name in attributes if name in ("style", "srcdoc", "href")]
    pictures = [attributes for tag, attributes in whole.elements if tag == "img"]
    assert len(pictures) == 5 + 2
    for picture in pictures:
        assert str(picture["src"]).startswith("data:image/png;base64,iVBOR")
        assert picture["alt"]
    (policy,) = [a["content"] for tag, a in whole.elements if tag == "meta" and "http-equiv" in a]
    *held, (module, script) = whole.scripts
    assert module == {"type": "module"}
    assert all(attributes["type"] == "application/json" and json.loads(text) for attributes, text in held)
    style, code = [b64encode(sha256(text.encode()).digest()).decode() for text in (whole.style, script)]
    assert policy == (f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{code}'")
    assert not re.search(r"^\s*(import|export)\b|\bfetch\(|XMLHttpRequest|WebSocket|EventSource", script, re.MULTILINE)
    assert not re.search(r"url\(|@import|https?:", whole.style)
    assert "prefers-color-scheme: dark" in whole.style


def films(found: Reader) -> list[list[dict[str, Any]]]:
    return [json.loads(text) for attributes, text in found.scripts if str(attributes.get("id")).startswith("film-of-")]


def test_the_curves_are_those_of_the_live_page(whole: Reader) -> None:
    (text,) = [text for attributes, text in whole.scripts if attributes.get("id") == "curves"]
    assert json.loads(text)["updates"] == list(range(1, 13))


def test_of_each_tier_a_film_stands_beside_that_of_the_heuristic(whole: Reader) -> None:
    found = films(whole)
    assert {pair[0]["tier"] for pair in found} == set(INCIDENT.tiers)
    for one, other in found:
        assert (one["policy"], other["policy"]) == ("trained", "heuristic")
        assert (one["scenario"], one["rules"]) == (other["scenario"], other["rules"])
    buttons = [attributes for tag, attributes in whole.elements if tag == "button"]
    assert [button["data-film"] for button in buttons] == [f"film-of-{place}" for place in range(1, len(found) + 1)]


def test_the_films_can_be_chosen_or_left_out(tmp_path: Path) -> None:
    run = runs.evaluated(tmp_path / "run", 2)
    out = tmp_path / "page.html"
    before = sorted(tmp_path.rglob("*"))
    chosen = Reader(run_report.of(run.path, out, episodes=[3, 30, 3]).read_text(encoding="utf-8"))
    assert [pair[0]["policy"] for pair in films(chosen)] == ["trained", "random"]
    assert len(films(Reader(run_report.of(run.path, out, films=2).read_text(encoding="utf-8")))) == 2
    none = Reader(run_report.of(run.path, out, films=0).read_text(encoding="utf-8"))
    assert films(none) == []
    assert "No film of an episode was asked for." in none.text
    assert sorted(tmp_path.rglob("*")) == sorted([*before, out]), "a page of its own leaves the run's folder alone"
    with pytest.raises(InputError, match="has no episode 999"):
        run_report.of(run.path, out, episodes=[999])
    assert films(Reader(out.read_text(encoding="utf-8"))) == [], "the page before is still there"


def test_a_run_without_episodes_of_its_evaluation_says_so(tmp_path: Path) -> None:
    run = runs.evaluated(tmp_path / "run", 2)
    (run.path / EVALUATION_EPISODES).unlink()
    assert "holds no episodes of an evaluation" in read(run).text


def test_text_is_never_markup(tmp_path: Path) -> None:
    """Names, configuration, policies, tiers, metrics: all of it may be written by somebody else."""
    name = MARKUP.replace("/", "")
    config = f"rules: {runs.RULES}\nmodel: {json.dumps(MARKUP)}\nseed: 7\n# {MARKUP}\n"
    run = runs.folder(tmp_path / name, 1, config)
    odd = runs.row(2) | {"digest": MARKUP}
    odd["learner"][MARKUP] = 1.0
    run.log(odd)
    evaluation = runs.evaluation() | {
        "set": MARKUP,
        "differences": [DIFFERENCES[0] | {"against": MARKUP}],
    }
    for cell in (*evaluation["cells"], *evaluation["by_failure"]):
        cell["policy"] = cell["policy"].replace("heuristic", MARKUP)
    for cell in evaluation["by_failure"]:
        cell["failure"] = cell["failure"].replace("cascade", MARKUP)
    runs.write_evaluation(run.path, evaluation)
    found = read(run)
    kinds = [attributes["type"] for attributes, _ in found.scripts]
    assert sorted(map(str, kinds)) == ["application/json"] * (len(kinds) - 1) + ["module"]
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert name in found.text
    assert f"model {MARKUP} · " in found.text
    assert f"# {MARKUP}" in found.text
    assert ["digest", MARKUP] in found.rows
    assert [MARKUP, "1"] in found.rows
    assert ["easy", f"trained − {MARKUP}", "+115.0", "+101.0 … +130.0"] in found.rows
    assert any(MARKUP in row for row in found.rows if len(row) == 8)


def test_a_run_without_updates_has_a_page_that_says_so(tmp_path: Path) -> None:
    found = read(runs.folder(tmp_path / "run", 0))
    assert "Nothing has been trained yet. Not evaluated yet." in found.text
    assert "This run has not been evaluated yet." in found.text
    assert "No update has been made yet." in found.text
    assert not [tag for tag, _ in found.elements if tag == "img"]
    assert not (tmp_path / "run" / "plots").exists()


def test_an_evaluation_without_differences_and_without_updates_is_shown(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "run", 0)
    runs.write_evaluation(run.path, runs.evaluation())
    found = read(run)
    assert "Differences" not in found.text
    assert len([tag for tag, _ in found.elements if tag == "img"]) == 2


def test_an_evaluation_that_lacks_the_trained_policy_says_so(tmp_path: Path) -> None:
    evaluation = runs.evaluation()
    evaluation["cells"] = [cell for cell in evaluation["cells"] if cell["policy"] != run_report.TRAINED]
    run = runs.folder(tmp_path / "run", 1)
    runs.write_evaluation(run.path, evaluation)
    assert "the evaluation holds no policy called trained" in read(run).text


@pytest.mark.parametrize("colleagues", [[], {"trained": "oracle"}, {"trained": {"sre": 3}}])
def test_colleagues_that_are_none_make_no_valid_evaluation(colleagues: Any, tmp_path: Path) -> None:
    run = runs.evaluated(tmp_path / "run", 1, colleagues=colleagues)
    with pytest.raises(InputError, match="not a valid evaluation"):
        read(run)


@pytest.mark.parametrize(
    "written", ["{", "[]", '{"schema": "evaluation/1", "world": "tools"}', '{"world": "incident"}']
)
def test_a_file_that_is_not_a_valid_evaluation_is_an_input_error(written: str, tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "run", 1)
    (run.path / EVALUATION).write_text(written)
    with pytest.raises(InputError, match=r"evaluation\.json"):
        run_report.write(run, INCIDENT)
    assert not (run.path / run_report.REPORT).exists()


def test_a_run_of_another_world_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a run in world incident, not tools"):
        run_report.write(runs.folder(tmp_path / "run", 1), TOOLS)


@pytest.mark.parametrize("file", [CONFIG, METRICS, EVALUATION])
def test_no_report_is_written_of_what_was_made_under_other_rules(tmp_path: Path, file: str) -> None:
    """The page that such a run has stays as it is, and names its rules."""
    run = runs.evaluated(tmp_path / "run", 2)
    first = run_report.write(run, INCIDENT).read_bytes()
    if file == EVALUATION:
        runs.write_evaluation(run.path, runs.evaluation() | {"rules": "strict"})
    else:
        text = (run.path / file).read_text()
        (run.path / file).write_text(text.replace(runs.RULES, "strict"))
        run.finish([], runs.evaluation())
    with pytest.raises(InputError, match=f"{re.escape(str(run.path))}.*{file}: rules strict/1 are not played"):
        run_report.write(run, INCIDENT)
    assert (run.path / run_report.REPORT).read_bytes() == first


def test_writing_again_gives_the_same_page(tmp_path: Path) -> None:
    run = runs.evaluated(tmp_path / "run", 2)
    first = run_report.write(run, INCIDENT).read_bytes()
    assert run_report.write(run, INCIDENT).read_bytes() == first
