"""The curves of a run as data: the same figures as the plots, and events."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chaosops_ray import config
from chaosops_ray.config import Run
from chaosops_ray.reports import curves, drawing
from chaosops_ray.reports.curves import Curves
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from tests.support.runs import INCIDENT, TOOLS, row, rows, with_held_out

WEB = Path(curves.__file__).parent / "web"


def run(**given: object) -> Run:
    return config.resolve([config.Layer("", {"model": "tiny", "updates": 160, **given})], {})


def drawn(found: list[dict[str, object]], environment: AnyEnvironment = INCIDENT, **given: object) -> Curves:
    made = Curves(environment, run(**given))
    for one in found:
        made.add(one)
    return made


def texts(made: Curves, kind: str) -> list[tuple[int, str]]:
    return [(mark["update"], mark["text"]) for mark in made.document()["marks"] if mark["kind"] == kind]


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=lambda one: one.name)
def test_every_column_of_a_figure_is_there_and_the_document_is_json(environment: AnyEnvironment) -> None:
    made = drawn(with_held_out(rows(12, environment), 4, environment), environment, world=environment.name)
    document = json.loads(json.dumps(made.document(), allow_nan=False))
    assert document["updates"] == list(range(1, 13))
    assert set(document["columns"]) == set(curves.keys(document["figures"]))
    assert {len(column) for column in document["columns"].values()} == {12}
    tier = environment.tiers[0]
    held = document["columns"][f"evaluation/tiers/{tier}/mean"]
    assert [place for place, value in enumerate(held, 1) if value is not None] == [4, 8, 12]
    for figure in document["figures"]:
        assert figure["title"]
        assert figure["help"].endswith(".")
        assert all(panel["unit"] for panel in figure["panels"])


def test_only_what_came_later_is_given() -> None:
    document = drawn(rows(5)).document(after=3)
    assert document["updates"] == [4, 5]
    assert {len(column) for column in document["columns"].values()} == {2}


def test_a_row_that_is_not_the_next_one_changes_nothing() -> None:
    made = drawn(rows(3))
    for wrong in (row(3), row(5), row(4) | {"tiers": None}, row(4) | {"learner": {"kl": True}}):
        with pytest.raises(InputError, match="line 4 is not"):
            made.add(wrong)
    assert made.done == 3
    made.add(row(4))
    assert made.done == 4


def test_no_more_updates_are_drawn_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MAX_UPDATES", 3)
    with pytest.raises(InputError, match="the first 3 updates"):
        drawn(rows(4))


def test_stages_are_bands_and_a_new_stage_is_a_promotion() -> None:
    made = drawn(rows(5), curriculum="easy+easy+medium:3,hard:100")
    assert made.document()["bands"] == [{"from": 1, "text": "2 × easy + medium"}, {"from": 4, "text": "hard"}]
    assert texts(made, "promotion") == [(4, "the curriculum goes on to hard")]
    early = drawn(rows(3), curriculum="easy:3,hard:100")
    assert texts(early, "promotion") == []  # it is still to come


def test_an_adaptive_curriculum_promotes_when_a_tier_is_first_played() -> None:
    found = [
        row(1, tiers=("easy",)),
        row(2, tiers=("easy",)),
        row(3, tiers=("easy", "medium")),
        row(4, tiers=("hard",)),
    ]
    made = drawn(found, curriculum="adaptive")
    assert texts(made, "promotion") == [
        (3, "the curriculum goes on to medium"),
        (4, "the curriculum goes on to hard"),
    ]


def test_an_alarm_is_marked_where_it_begins() -> None:
    found = [
        one | {"learner": one["learner"] | {"kl": kl}} for one, kl in zip(rows(6), (1, 6, 7, 1, 8, 1), strict=True)
    ]
    assert texts(drawn(found), "alarm") == [
        (2, "alarm: KL 6.00 is above 2 nats a token"),
        (5, "alarm: KL 8.00 is above 2 nats a token"),
    ]


def test_actors_that_were_replaced_and_resumptions_are_marked() -> None:
    found = [one | {"actors_replaced": count} for one, count in zip(rows(5), (0, 1, 3, 0, 0), strict=True)]
    made = drawn(found)
    assert texts(made, "actors") == [(2, "1 actor lost and replaced"), (3, "2 actors lost and replaced")]
    assert texts(made, "resumed") == [(4, "the run was resumed")]


def test_pages_and_plots_have_the_same_colours_and_window() -> None:
    style = (WEB / "style.css").read_text()
    light = style[: style.index("@media")]
    assert tuple(re.findall(r"--series-\d: (#[0-9a-f]{6})", light)) == drawing.PALETTE
    assert curves.WINDOW == drawing.WINDOW


def test_the_library_of_charts_has_its_licence() -> None:
    assert "MIT License" in (WEB / "uplot" / "LICENSE").read_text()
    assert "uPlot 1.6.32" in (WEB.parents[2] / "NOTICE").read_text()
    assert "v1.6.32" in (WEB / "uplot" / "uPlot.js").read_text()[:500]
