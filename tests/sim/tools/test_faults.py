"""The weather: how often, for whom, and that nothing in a single result tells of it."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chaosops_ray.sim import play
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import faults, physics, scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import Desk, checked
from chaosops_ray.sim.tools.knowledge import knowledge, names_of
from chaosops_ray.sim.tools.model import Call, Made, Storage, World, call, parse_rules
from chaosops_ray.sim.tools.policies import asking, figure

KNOWN = knowledge("published", 0)
RECORD = {"entity": "Germany", "facts": {"population": 83_200_000, "capital": "Berlin", "gdp_per_capita": 51_200}}
PAGE = {"url": "https://x.example/germany", "text": "It has a population of 83,200,000. The capital is Berlin. Pay."}
ROWS = {"columns": ["name", "population"], "rows": [["Germany", 83_200_000], ["France", 67_390_000]]}


@pytest.mark.parametrize("tier", faults.RATES)
def test_faults_come_as_often_as_the_table_says(tier: str) -> None:
    """Twenty thousand draws of one tool; each share within four standard deviations of its rate."""
    counts = Counter(faults.drawn(seed, 3, "web_search", tier) for seed in range(20_000))
    for kind, rate in zip(faults.KINDS, faults.RATES[tier], strict=True):
        assert abs(counts[kind] / 20_000 - rate) <= 4 * (rate * (1 - rate) / 20_000) ** 0.5


def test_some_tools_never_fail() -> None:
    for tool in faults.NEVER_FAULTED:
        assert all(faults.drawn(seed, call, tool, "expert") is None for seed in range(200) for call in range(10))


def test_the_weather_depends_on_seed_call_and_tool_and_on_nothing_that_was_done_before() -> None:
    scenario = ENVIRONMENT.scenario("tools/E07/published/5")
    last = call("web_search", query="Northstar Robotics")
    fates = set()
    for before in (call("calculator", expression="1"), call("read_file", path="x"), Call("nothing", "{}")):
        world = World(scenario, parse_rules("strict"))
        for _ in range(4):
            world, _, _ = physics.advance(world, before)
        world, _, _ = physics.advance(world, last)
        fates.add((world.made[-1].fault, world.made[-1].shown))
    assert len(fates) == 1


def test_an_announced_fault_undoes_the_call() -> None:
    seed = next(s for s in range(999) if faults.drawn(s, 0, "create_report", "expert") == faults.TIMEOUT)
    world = World(ENVIRONMENT.scenario(f"tools/E07/published/{seed}"), parse_rules("strict"))
    world, _, outcome = physics.advance(world, call("create_report", content="x"))
    assert outcome == {"error", "fault_timeout"}
    assert json.loads(world.made[0].shown)["error"] == "timeout"
    assert world.storage.reports == ()


# -- what the silent ones do ----------------------------------------------------------------------------------------


MISSING = (faults.SILENT_DROP, faults.TRUNCATION)
WRONG = (faults.STALE, faults.CORRUPTION)


@pytest.mark.parametrize("kind", MISSING)
@pytest.mark.parametrize("result", [RECORD, PAGE, ROWS], ids=["record", "page", "rows"])
def test_what_goes_missing_goes_silently_and_purely(kind: str, result: Any) -> None:
    before = json.dumps(result)
    changed = faults.distorted(kind, result, 7, 2)
    assert json.dumps(result) == before, "what was handed in is left as it was"
    assert changed != result
    assert faults.distorted(kind, result, 7, 2) == changed
    assert list(changed) == list(result)
    for key in ("entity", "url", "columns"):
        assert changed.get(key) == result.get(key)


def test_what_is_dropped_is_one_thing_and_what_is_cut_is_the_rest() -> None:
    assert len(faults.distorted(faults.SILENT_DROP, RECORD, 7, 2)["facts"]) == 2
    assert len(faults.distorted(faults.TRUNCATION, RECORD, 7, 2)["facts"]) == 2
    assert len(faults.distorted(faults.SILENT_DROP, ROWS, 7, 2)["rows"]) == 1
    assert faults.distorted(faults.TRUNCATION, PAGE, 7, 2)["text"].count(".") == 2
    one = {"columns": ["name", "population"], "rows": [["Germany", 1]]}
    assert faults.distorted(faults.SILENT_DROP, one, 7, 2)["rows"][0].count(None) == 1


@pytest.mark.parametrize("setting", ["published", "strict"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_source_that_is_wrong_is_wrong_in_every_figure_and_hangs_together(kind: str, setting: str) -> None:
    known = knowledge(setting, 5)
    wrong = faults.misinformed(kind, known, 7, 2)
    assert faults.misinformed(kind, known, 7, 2) == wrong
    assert names_of(wrong) == names_of(known)
    for before, after in zip(known.countries, wrong.countries, strict=True):
        for old, new in zip(before[2:], after[2:], strict=True):
            assert new != old
            assert type(new) is type(old)
        if before.population % 1000 == 0:
            assert after.population % 1000 == 0, "as round as it was"
        was_product = before.gdp_usd == before.population * before.gdp_per_capita
        assert (after.gdp_usd == after.population * after.gdp_per_capita) == was_product
        assert (after.capital == before.capital) == (kind == faults.STALE)
    for old, new in zip(known.companies, wrong.companies, strict=True):
        assert (old.claimed == old.actual) == (new.claimed == new.actual)
        assert new.actual != old.actual


def test_what_is_stale_is_older_and_smaller_and_the_same_wherever_it_is_stale() -> None:
    stale = [faults.misinformed(faults.STALE, KNOWN, 7, number) for number in (0, 5)]
    assert stale[0] == stale[1]
    for before, after in zip(KNOWN.countries, stale[0].countries, strict=True):
        assert 0.78 * before.population < after.population < 0.95 * before.population


def test_what_is_corrupt_is_times_137() -> None:
    corrupt = faults.misinformed(faults.CORRUPTION, KNOWN, 7, 2)
    for before, after in zip(KNOWN.companies, corrupt.companies, strict=True):
        assert after.actual == pytest.approx(1.37 * before.actual, abs=0.051)
    assert faults.contradicted({"equal": True}) == {"equal": False}
    assert faults.contradicted({"saved": True}) == {"saved": True}, "an acknowledgement is none"
    assert faults.contradicted({"equal": True, "relative_difference": 0.0})["equal"], "nor what stands by its evidence"


def wrong_call(tool: str, kind: str, **arguments: Any) -> Made:
    """A call that meets this fault, whichever seed makes it do so."""
    seed = next(s for s in range(9999) if faults.drawn(s, 0, tool, "expert") == kind)
    world, _, _ = physics.advance(
        World(ENVIRONMENT.scenario(f"tools/E01/published/{seed}"), parse_rules("strict")), call(tool, **arguments)
    )
    return world.made[0]


@pytest.mark.parametrize("kind", WRONG)
def test_what_the_agent_asked_with_comes_back_as_it_was(kind: str) -> None:
    """A figure of one's own in a query is no canary."""
    made = wrong_call(
        "database_query",
        kind,
        sql="SELECT actual_revenue_b, 1000003, 'Qz' FROM financials WHERE company = 'BlueHarbor Bank'",
    )
    assert json.loads(made.shown)["rows"][0][1:] == [1000003, "Qz"]
    assert json.loads(made.shown)["rows"][0][0] != 3.44
    for tool, arguments in (
        ("write_file", {"path": "a.txt", "content": "x"}),
        ("compare_values", {"value1": 1, "value2": 2}),
        ("check_consistency", {"source1": "1", "source2": "2"}),
        ("create_report", {"content": "x. y. z."}),
    ):
        assert wrong_call(tool, kind, **arguments).shown == wrong_call(tool, kind, **arguments).truth


def test_a_corrupt_verdict_of_the_reference_desk_is_the_other_one() -> None:
    made = wrong_call("fact_check", faults.CORRUPTION, claim="NovaTech 1.87")
    assert (json.loads(made.truth)["supported"], json.loads(made.shown)["supported"]) == (True, False)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(-1e12, 1e12) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rows", "facts", "text", "x", "url"]), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(values, st.sampled_from(MISSING), st.integers(0, 10**6), st.integers(0, 9))
def test_any_result_can_lose_something_and_stays_json(result: Any, kind: str, seed: int, number: int) -> None:
    json.dumps(faults.distorted(kind, result, seed, number), allow_nan=False)


# -- that it cannot be told from one result, and can from two -------------------------------------------------------


def expert_results(seeds: range) -> list[tuple[int, Made]]:
    """Successful retrieval calls under expert weather, about synthetic entities, each at a drawn place in an episode."""
    draw = random.Random(1)
    made = []
    for scenario in ENVIRONMENT.scenarios("synthetic", seeds):
        question = scenarios.question(scenario.case, scenario.setting, scenario.seed)
        calls = asking({"B": "W"}.get(scenario.case[0], scenario.case[0]), question.subjects)
        for _ in range(4):
            world = World(scenario._replace(tier="expert"), parse_rules("strict"), step=draw.randrange(9))
            world, _, _ = physics.advance(world, draw.choice(calls))
            if world.made[-1].ok:
                made.append((scenario.seed, world.made[-1]))
    return made


WIDTH = 512


def bag_of_words(made: Made) -> NDArray[Any]:
    counts = np.zeros(WIDTH)
    words = re.findall(r"[a-z_0-9.]+", f"{made.tool} {made.shown}".lower())
    for word in words:
        counts[crc32(word.encode()) % WIDTH] += 1
    counts[0] = len(words)
    return counts


def area_under_curve(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positives = labels.sum()
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


def held_out_auroc(labelled: list[tuple[int, Made, bool]], boundary: int) -> float:
    """Logistic regression on words, learnt on the seeds below the boundary and judged on the others."""
    features = np.array([bag_of_words(made) for _, made, _ in labelled])
    labels = np.array([float(label) for _, _, label in labelled])
    learning = np.array([seed < boundary for seed, _, _ in labelled])
    features = (features - features[learning].mean(0)) / (features[learning].std(0) + 1e-6)
    weights, bias = np.zeros(WIDTH), 0.0
    for _ in range(150):
        error = 1 / (1 + np.exp(-(features[learning] @ weights + bias))) - labels[learning]
        weights -= 0.1 * (features[learning].T @ error / learning.sum() + 0.01 * weights)
        bias -= 0.1 * error.mean()
    return area_under_curve(features[~learning] @ weights, labels[~learning])


def test_no_classifier_of_single_results_tells_silent_faults_from_clean_ones() -> None:
    """Held out by scenario, at most .60 — and the same classifier finds a fault that does leave a mark."""
    made = expert_results(range(100, 140))
    assert held_out_auroc([(seed, one, bool(one.fault)) for seed, one in made], 128) <= 0.60
    marked = [(seed, one._replace(shown=one.shown + " stale") if one.fault else one) for seed, one in made]
    assert held_out_auroc([(seed, one, bool(one.fault)) for seed, one in marked], 128) > 0.95


FIELDS = {"W": ("population",), "B": ("gdp_per_capita",), "I": ("population", "area_km2"), "E": ("actual_revenue_b",)}


def clean(made: Call, setting: str, seed: int) -> str:
    """What the call says when nothing goes wrong."""
    tool = TOOLS[made.tool]
    desk = Desk(knowledge(setting, seed), Storage())
    return json.dumps(tool.run(desk, **checked(tool, json.loads(made.arguments))))


def test_cross_checking_against_clean_sources_reveals_every_silent_fault_in_a_figure_that_is_wanted() -> None:
    """Whatever a silent fault makes of the figure, or if it takes it away, another source says otherwise."""
    revealed = Counter[str]()
    for seed, made in expert_results(range(160, 166)):
        if not made.fault:
            continue
        known = knowledge("strict", seed)
        for name in names_of(known):
            for family, fields in FIELDS.items():
                for field in fields:
                    told, true = figure(made.shown, field, name), figure(made.truth, field, name)
                    if told == true:
                        continue  # the fault fell on something else
                    others = [other for other in asking(family, (name,)) if other.tool != made.tool]
                    said = {figure(clean(other, "strict", seed), field, name) for other in others} - {None}
                    assert len(said) == 1, "clean sources agree"
                    assert told not in said, f"{made.fault} of {field} of {name} goes unseen"
                    revealed[made.fault] += 1
    assert set(revealed) == set(faults.SILENT)
    assert revealed.total() > 200


def test_the_oracle_meets_no_fault_it_does_not_know_of_and_every_figure_it_uses_has_two_sources() -> None:
    for scenario in ENVIRONMENT.scenarios("synthetic", range(3)):
        episode = play(ENVIRONMENT, scenario, "strict", ENVIRONMENT.policies["oracle"](scenario, "strict"))
        made = episode.steps[-1].world.made
        assert not any(one.fault for one in made)
        subjects = scenarios.question(scenario.case, scenario.setting, scenario.seed).subjects
        for name in subjects:
            for field in FIELDS[scenario.case[0]]:
                said = {figure(one.shown, field, name) for one in made if TOOLS[one.tool].group == "retrieval"} - {None}
                assert len(said) <= 1, "its sources agree"
