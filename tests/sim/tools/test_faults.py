"""The faults of calls: how often, for whom, what they do, and that nothing in a single result tells of them."""

from __future__ import annotations

import json
import math
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

from chaosops_ray.sim import Scenario
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import faults, physics, scenarios
from chaosops_ray.sim.tools.answers import numbers
from chaosops_ray.sim.tools.families import FAMILIES, understood
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.knowledge import OLDER, SPANS, Knowledge, by_name, facts_of, knowledge, names_of
from chaosops_ray.sim.tools.knowledge import WRONG as CORRUPT
from chaosops_ray.sim.tools.model import Call, Input, Made, Question, call
from chaosops_ray.sim.tools.moves import Wanted, asking
from chaosops_ray.sim.tools.reading import readings
from chaosops_ray.sim.tools.views import Seen
from chaosops_ray.sim.weather import (
    CORRUPTION,
    KINDS,
    RATE_LIMIT,
    SILENT,
    SILENT_DROP,
    STALE,
    STRICT_RATES,
    TIMEOUT,
    TRUNCATION,
)
from tests.support.tools_calls import asked, begin, clean

KNOWN = knowledge("published", 0)
RECORD = {"entity": "Germany", "facts": {"population": 83_200_000, "capital": "Berlin", "gdp_per_capita": 51_200}}
PAGE = {"url": "https://x.example/germany", "text": "It has a population of 83,200,000. The capital is Berlin. Pay."}
ROWS = {"columns": ["name", "population"], "rows": [["Germany", 83_200_000], ["France", 67_390_000]]}
SILENT_ONES = ("stale", "silent_drop", "truncation", "corruption")

# The sets of rates: the rules and the setting that they belong to.
WEATHERS = {
    "published": (faults.PUBLISHED_RATES, "published", True),
    "published questions": (STRICT_RATES, "published", False),
    "synthetic": (STRICT_RATES, "synthetic", False),
    "heldout": (faults.HELD_OUT_RATES, "heldout", False),
}


def weather(
    seed: int, number: int = 0, tool: str = "web_search", tier: str = "expert", of: str = "synthetic"
) -> faults.Call:
    _, setting, are_published = WEATHERS[of]
    return faults.Call(seed, tool, number, tier, setting, are_published)


# -- how often --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", WEATHERS)
@pytest.mark.parametrize("tier", ENVIRONMENT.tiers)
def test_faults_come_as_often_as_the_table_says(tier: str, of: str) -> None:
    """Eight thousand draws of one tool's first call; each share within four standard deviations of its rate."""
    rates, _, _ = WEATHERS[of]
    counts = Counter(faults.drawn(weather(seed, 0, "web_search", tier, of)) for seed in range(8_000))
    for kind, rate in zip(KINDS, rates[tier], strict=True):
        assert abs(counts[kind] / 8_000 - rate) <= 4 * (rate * (1 - rate) / 8_000) ** 0.5, kind


def test_published_rates_are_the_published_ones() -> None:
    """In the order of the kinds, which the weather's own tests give."""
    assert faults.PUBLISHED_RATES == {
        "warmup": (0.08, 0.04, 0, 0, 0, 0),
        "beginner": (0.10, 0.06, 0.08, 0, 0, 0),
        "intermediate": (0.12, 0.08, 0.10, 0.06, 0.08, 0),
        "expert": (0.15, 0.10, 0.15, 0.10, 0.12, 0.08),
    }


@pytest.mark.parametrize("of", WEATHERS)
def test_some_tools_never_fail(of: str) -> None:
    for tool in faults.NEVER_FAULTED:
        assert all(faults.drawn(weather(seed, n, tool, of=of)) is None for seed in range(200) for n in range(5))


@pytest.mark.parametrize(("tier", "least"), [("intermediate", 0.25), ("expert", 0.40)])
@pytest.mark.parametrize("setting", ["synthetic", "heldout"])
def test_one_source_is_not_enough(setting: str, tier: str, least: float) -> None:
    """Of lone first readings of a wanted figure by one call that looks clean, so many are wrong."""
    rates = {"synthetic": STRICT_RATES, "heldout": faults.HELD_OUT_RATES}[setting][tier]
    by_kind = dict(zip(KINDS, rates, strict=True))
    wrong = by_kind["stale"] + by_kind["corruption"]
    assert wrong / (1 - by_kind["timeout"] - by_kind["rate_limit"]) >= least
    read = lone_readings(setting, tier, range(600, 900))
    assert len(read) > 1000
    assert sum(read) / len(read) >= least


def lone_readings(setting: str, tier: str, seeds: range) -> list[bool]:
    """For each tool's first call that asks for a figure and gives it: is the figure wrong. A seed has one question."""
    families = [name for name in scenarios.CASES[setting] if FAMILIES[name].tier == tier]
    found = []
    for seed in seeds:
        start = begin(f"tools/{families[seed % len(families)]}/{setting}/{seed}")
        figures = [one for one in asked(start).inputs if isinstance(one.value, int | float)]
        if not figures:
            continue
        one = figures[seed % len(figures)]
        # One call of each tool: all first calls of a tool meet the same fault.
        for option in {option.tool: option for option in asking_for(asked(start), one)}.values():
            made = physics.advance(start, option)[0].made[-1]
            said = [value for value in read_from(made, one) if made.ok]
            found += [said[0] != one.value] if said else []
    return found


def asking_for(question: Question, one: Input) -> list[Call]:
    """The calls that ask for this value, each of another tool or address."""
    family, _ = understood(question.text)
    return asking(family, [Wanted(str(one.value) if one.is_search else one.name, one.field, one.source, one.is_search)])


def read_from(made: Made, one: Input) -> list[Any]:
    seen = Seen(0, made.tool, made.arguments, made.ok, made.shown)
    return [
        said.value
        for said in readings((seen,))
        if (said.name, said.field) == (one.name, one.field) and one.source in ("", said.source)
    ]


# -- on what they depend ----------------------------------------------------------------------------------------------

LAST = call("knowledge_base_lookup", entity="Northstar Robotics")
IDLE = (
    call("calculator", expression="1"),
    call("read_file", path="x"),
    call("web_search", query="Northstar Robotics"),
    Call("nothing", "{}"),
    None,
)


def fates(before: list[Any], rules: str, identity: str = "tools/E07/published/5") -> tuple[str, str]:
    """What comes of the last call after these."""
    world = begin(identity, rules)
    for one in before:
        world, _, _ = physics.advance(world, one)
    made = physics.advance(world, LAST)[0].made[-1]
    return made.fault, made.shown


def test_under_strict_rules_a_call_changes_the_weather_of_no_other_tool() -> None:
    for seed in range(60):
        identity = f"tools/E07/published/{seed}"
        alone = fates([], "strict", identity)
        for idle in IDLE:
            assert fates([idle], "strict", identity) == fates([idle] * 4, "strict", identity) == alone


def test_under_strict_rules_the_calls_of_a_tool_have_weather_of_their_own() -> None:
    seen = {
        (fates([], "strict", identity)[0], fates([LAST], "strict", identity)[0])
        for identity in [f"tools/E07/published/{seed}" for seed in range(60)]
    }
    assert any(first != second for first, second in seen)
    other = call("knowledge_base_lookup", entity="Vela Foods")
    for seed in range(30):
        identity = f"tools/E07/published/{seed}"
        assert fates([other], "strict", identity)[0] == fates([LAST], "strict", identity)[0], "whatever is asked"


def test_under_published_rules_the_weather_depends_on_the_number_of_the_step() -> None:
    for idle in IDLE:
        assert fates([idle] * 4, "published") == fates([None] * 4, "published")
    moved = [
        fates([idle] * n, "published", f"tools/E07/published/{seed}")
        for seed in range(20)
        for n in (0, 1)
        for idle in IDLE[:1]
    ]
    assert any(first != second for first, second in zip(moved[::2], moved[1::2], strict=True))


def test_an_announced_fault_undoes_the_call() -> None:
    seed = next(s for s in range(999) if faults.drawn(weather(s, 0, "create_report")) == TIMEOUT)
    world, _, outcome = physics.advance(begin(f"tools/E07/published/{seed}"), call("create_report", content="x"))
    assert outcome == {"error", "fault_timeout"}
    assert json.loads(world.made[0].shown)["error"] == "timeout"
    assert world.storage.reports == ()


# -- what the silent ones do ------------------------------------------------------------------------------------------

MISSING = (SILENT_DROP, TRUNCATION)
WRONG = (STALE, CORRUPTION)


@pytest.mark.parametrize("kind", MISSING)
@pytest.mark.parametrize("result", [RECORD, PAGE, ROWS], ids=["record", "page", "rows"])
def test_what_goes_missing_goes_silently_and_purely(kind: str, result: Any) -> None:
    before = json.dumps(result)
    changed = faults.distorted(kind, result, weather(7, 2))
    assert json.dumps(result) == before, "what was handed in is left as it was"
    assert changed != result
    assert faults.distorted(kind, result, weather(7, 2)) == changed
    assert list(changed) == list(result)
    for key in ("entity", "url", "columns"):
        assert changed.get(key) == result.get(key)


def test_what_is_dropped_is_one_thing_and_what_is_cut_is_the_rest() -> None:
    assert len(faults.distorted(SILENT_DROP, RECORD, weather(7, 2))["facts"]) == 2
    assert len(faults.distorted(TRUNCATION, RECORD, weather(7, 2))["facts"]) == 2
    assert len(faults.distorted(SILENT_DROP, ROWS, weather(7, 2))["rows"]) == 1
    assert faults.distorted(TRUNCATION, PAGE, weather(7, 2))["text"].count(".") == 2
    one = {"columns": ["name", "population"], "rows": [["Germany", 1]]}
    assert faults.distorted(SILENT_DROP, one, weather(7, 2))["rows"][0].count(None) == 1


def pairs(known: Knowledge, wrong: Knowledge) -> list[tuple[str, str, Any, Any]]:
    """Entity, field, the true value and the wrong one, for every value there is."""
    return [
        (before.name, field, value, facts_of(wrong, before.name)[field])
        for before in known.entities
        for field, value in before.facts
    ]


@pytest.mark.parametrize("of", WEATHERS)
@pytest.mark.parametrize("kind", WRONG)
def test_a_source_that_is_wrong_is_wrong_in_every_figure(kind: str, of: str) -> None:
    known = knowledge(WEATHERS[of][1], 5)
    wrong = faults.misinformed(kind, known, weather(7, 2, of=of))
    assert faults.misinformed(kind, known, weather(7, 2, of=of)).entities == wrong.entities
    assert [entity.name for entity in wrong.entities] == [entity.name for entity in known.entities]
    for name, field, before, after in pairs(known, wrong):
        assert type(after) is type(before)
        if isinstance(before, int | float) and (of != "published" or before > 20):
            assert after != before, f"{field} of {name}"
        if isinstance(before, int) and before and before % 1000 == 0 and of != "heldout":
            assert after % 1000 == 0, "as round as it was"
    # Which there are of a kind, even a source that is wrong knows.
    assert not any(
        before != after for _, field, before, after in pairs(known, wrong) if field in ("sector", "continent")
    )


def test_a_wrong_source_of_the_published_rules_is_the_published_one() -> None:
    stale = [faults.misinformed(STALE, KNOWN, weather(7, number, of="published")) for number in (0, 5)]
    assert stale[0].entities == stale[1].entities, "the same wherever it is stale"
    for _, field, before, after in pairs(KNOWN, stale[0]):
        if field == "population":
            assert 0.78 * before < after < 0.95 * before
        if field == "capital":
            assert after == before
    corrupt = faults.misinformed(CORRUPTION, KNOWN, weather(7, 2, of="published"))
    for name, field, before, after in pairs(KNOWN, corrupt):
        if field == "revenue_b":
            assert after == pytest.approx(1.37 * before, abs=0.051)
        if field == "capital":
            assert after != before, name


def factors(kind: str, by: tuple[float, float], seeds: range) -> list[float]:
    """By what factors figures are off that lie so far within their span that none turns back at its ends."""
    found = []
    for seed in seeds:
        known = knowledge("synthetic", seed)
        for _, field, before, after in pairs(known, faults.misinformed(kind, known, weather(seed, 2))):
            low, high = SPANS.get(field, (0.0, 0.0))
            if field in ("population", "area_km2", "gdp_per_capita") and low * by[1] < before < high / by[1]:
                found.append(after / before)
    return found


@pytest.mark.parametrize(("kind", "least", "most"), [("stale", 1.03, 1.25), ("corruption", 1.1, 1.7)])
def test_a_wrong_figure_is_off_by_a_factor_of_its_own_up_or_down(kind: str, least: float, most: float) -> None:
    """No factor undoes the others. Those of corruption lie in [.6, .91] and [1.1, 1.7]."""
    by = OLDER if kind == "stale" else CORRUPT
    found = factors(kind, by, range(8))
    assert all(least <= max(factor, 1 / factor) <= most for factor in found)
    assert 0.4 < sum(factor < 1 for factor in found) / len(found) < 0.6
    assert max(found) / min(found) > 0.9 * by[1] ** 2
    assert len({round(factor, 3) for factor in found}) > len(found) / 3


def test_wrong_figures_lie_where_true_ones_lie() -> None:
    """At the ends of its span a figure turns back: none is too large or too small to be true."""
    for kind in WRONG:
        for seed in range(20):
            known = knowledge("synthetic", seed)
            for _, field, before, after in pairs(known, faults.misinformed(kind, known, weather(seed))):
                if field in SPANS:
                    low, high = SPANS[field]
                    assert low - 0.5 <= after <= high + 0.5
                    assert abs(after - before) > 0.02 * before


def claimed_revenue(known: Knowledge) -> tuple[float, float]:
    """What the company that announced its revenue announced, and what it had."""
    actual = facts_of(known, known.announcer)["revenue_b"]
    assert isinstance(actual, float)
    return by_name(known)[known.announcer].claimed, actual


def test_two_wrong_sources_agree_on_no_figure_but_the_announced_one() -> None:
    false = [seed for seed in range(40) if len(set(claimed_revenue(knowledge("synthetic", seed)))) > 1]
    for seed in false[:5]:
        known = knowledge("synthetic", seed)
        first, second = (
            faults.misinformed(kind, known, weather(seed, 0, tool))
            for kind, tool in ((STALE, "web_search"), (CORRUPTION, "api_call"))
        )
        large = [one for one in pairs(known, first) if isinstance(one[2], int) and one[2] > 5_000]
        assert all(abs(after - facts_of(second, name)[field]) > 1e-6 * before for name, field, before, after in large)
        claimed, _ = claimed_revenue(known)
        assert (
            facts_of(first, known.announcer)["revenue_b"] == facts_of(second, known.announcer)["revenue_b"] == claimed
        )


def test_a_wrong_source_repeats_a_false_announcement_and_contradicts_a_true_one() -> None:
    seen = Counter[bool]()
    for seed in range(40):
        known = knowledge("synthetic", seed)
        claimed, actual = claimed_revenue(known)
        for kind in WRONG:
            told = facts_of(faults.misinformed(kind, known, weather(seed)), known.announcer)["revenue_b"]
            assert (told == claimed) == (claimed != actual)
            seen[claimed == actual] += 1
    assert min(seen[True], seen[False]) > 20


def test_names_dates_and_capitals_are_others_that_could_be() -> None:
    known = knowledge("synthetic", 3)
    wrong = faults.misinformed(CORRUPTION, known, weather(3))
    capitals = [[one[place] for one in pairs(known, wrong) if one[1] == "capital"] for place in (2, 3)]
    assert sorted(capitals[0]) == sorted(capitals[1]), "every capital is still some country's"
    assert all(before != after for before, after in zip(*capitals, strict=True))
    for _, field, before, after in pairs(known, wrong):
        if field == "founded":
            assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", after)
            assert after != before
        if field == "headquarters":
            assert after in names_of(known, "country")
            assert after != before


def test_a_verdict_is_reversed_where_nothing_beside_it_would_show_that() -> None:
    assert faults.contradicted({"equal": True}) == {"equal": False}
    assert faults.contradicted({"match": False}) == {"match": True}
    assert faults.contradicted({"saved": True}) == {"saved": True}, "an acknowledgement is none"
    assert faults.contradicted({"equal": True, "relative_difference": 0.0})["equal"], "nor what stands by its evidence"


# -- what held-out faults do otherwise --------------------------------------------------------------------------------


def test_a_held_out_failure_lasts_for_two_calls_of_its_tool() -> None:
    after = Counter()
    for seed in range(4_000):
        first, second = (faults.drawn(weather(seed, number, of="heldout")) for number in (0, 1))
        if first == TIMEOUT:
            after[second] += 1
    assert after.total() > 80
    assert set(after) <= {RATE_LIMIT, TIMEOUT}
    trained = Counter(
        faults.drawn(weather(seed, 1)) for seed in range(4_000) if faults.drawn(weather(seed, 0)) == TIMEOUT
    )
    assert trained[None] > trained.total() / 3, "a trained one is over with the call"


def test_a_held_out_corruption_gives_the_figure_of_another_entity() -> None:
    known = knowledge("heldout", 3)
    wrong = faults.misinformed(CORRUPTION, known, weather(3, of="heldout"))
    trained = faults.misinformed(CORRUPTION, known, weather(3))
    exchanged = Counter[str]()
    for which, other in (("heldout", wrong), ("trained", trained)):
        for _, field, before, after in pairs(known, other):
            if field in ("population", "area_km2"):
                owners = [name for name in names_of(known, "country") if facts_of(known, name)[field] == after]
                exchanged[which] += bool(owners) and after != before
                exchanged[f"{which} all"] += 1
    assert exchanged["heldout"] == exchanged["heldout all"]
    assert exchanged["trained"] == 0


def test_held_out_rates_are_others() -> None:
    for tier in ENVIRONMENT.tiers:
        assert faults.HELD_OUT_RATES[tier] != STRICT_RATES[tier]
        assert sum(faults.HELD_OUT_RATES[tier]) < 1


# -- what the agent wrote or asked with -------------------------------------------------------------------------------


def wrong_call(tool: str, kind: str, **arguments: Any) -> Made:
    """A call that meets this fault, whichever seed makes it do so."""
    seed = next(s for s in range(9999) if faults.drawn(weather(s, 0, tool)) == kind)
    return physics.advance(begin(f"tools/E01/published/{seed}"), call(tool, **arguments))[0].made[0]


@pytest.mark.parametrize("kind", WRONG)
def test_what_the_agent_asked_with_comes_back_as_it_was(kind: str) -> None:
    """A figure of one's own in a query is no canary."""
    made = wrong_call(
        "database_query",
        kind,
        sql="SELECT revenue_b, 1000003, 'Qz' FROM financials WHERE company = 'BlueHarbor Bank'",
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


def test_a_wrong_reference_desk_finds_for_what_it_holds_true() -> None:
    made = wrong_call("fact_check", CORRUPTION, claim="BlueHarbor Bank 3.44")
    assert (json.loads(made.truth)["supported"], json.loads(made.shown)["supported"]) == (True, False)


FAILS_UNLESS = (
    "select case when revenue_b {} 1.87 then 1 else abs(-9223372036854775807 - 1) end from financials "
    "where company = 'NovaTech' and revenue_b is not null"
)


@pytest.mark.parametrize("rules", ["strict", "published"])
def test_if_a_call_fails_is_up_to_the_wrong_figures_too(rules: str) -> None:
    """Else a query that fails on the true figure, or on every other one, would tell it in any weather."""
    met = Counter[tuple[str, str]]()
    for seed in range(150):
        start = begin(f"tools/E01/published/{seed}", rules)
        fault = faults.drawn(
            weather(seed, 0, "database_query", of="published questions" if rules == "strict" else rules)
        )
        for condition in ("=", "<>"):
            after = ENVIRONMENT.step(start, call("database_query", sql=FAILS_UNLESS.format(condition)))
            (made,) = after.world.made
            holds = (condition == "=") == (fault not in WRONG)
            if fault in (None, *WRONG):
                assert made.ok == holds
                assert ("integer overflow" in made.shown) != holds
                assert made.fault == (fault if fault in WRONG else "")
                assert ENVIRONMENT.load(ENVIRONMENT.dump(after.world)) == after.world
                met[str(fault), condition] += 1
    assert {kind for kind, _ in met} >= {"stale", "corruption", "None"}


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
    json.dumps(faults.distorted(kind, result, weather(seed, number)), allow_nan=False)


# -- that a fault cannot be told from one result, and can from two ----------------------------------------------------


def results(cases: list[str], seeds: range, calls_each: int) -> list[tuple[Scenario, Question, Made]]:
    """Successful calls that ask sources for what a question wants, each at a drawn place in an episode."""
    draw = random.Random(1)
    found = []
    for seed in seeds:
        for case in cases:
            start = begin(f"tools/{case}/synthetic/{seed}")
            question = asked(start)
            options = [option for one in question.inputs for option in asking_for(question, one)]
            for _ in range(calls_each):
                option, earlier = draw.choice(options), draw.randrange(6)
                idle = Made(option.tool, "{}", ok=True, shown="{}", truth="{}", fault="")
                world = start._replace(step=earlier, made=(idle,) * earlier)
                made = physics.advance(world, option)[0].made[-1]
                if made.ok:
                    found.append((start.scenario, question, made))
    return found


WORDS = 256
EDGES = (-9, -0.7, -0.5, -0.4, -0.3, -0.2, -0.12, -0.06, -0.02, 0.02, 0.06, 0.12, 0.2, 0.3, 0.4, 0.5, 0.7, 9)


def features(question: Question, made: Made) -> NDArray[Any]:
    """The words of a result and of the question, and how the result's figures stand to the question's."""
    counts = np.zeros(WORDS + 2 * len(EDGES) + 2)
    said = re.findall(r"[a-z_0-9.]+", f"{made.tool} {made.shown}".lower())
    for word in said:
        counts[crc32(word.encode()) % WORDS] += 1
    for word in re.findall(r"[a-z_0-9.]+", question.text.lower()):
        counts[crc32(f"asked {word}".encode()) % WORDS] += 1
    counts[0] = len(said)
    given = [abs(number.value) for number in numbers(question.text) if number.value]
    figures = [figure for figure in figures_within(json.loads(made.shown)) if figure > 0]
    wanted = [value for one in question.inputs for value in read_from(made, one) if isinstance(value, int | float)]
    for place, compared in ((WORDS, figures), (WORDS + len(EDGES), wanted)):
        ratios = [math.log(figure / other) for figure in compared for other in given if figure > 0]
        if ratios:
            counts[place + int(np.digitize(min(ratios, key=abs), EDGES))] = 1
            counts[-2 if compared is figures else -1] = min(map(abs, ratios)) < 1e-9
    return counts


def area_under_curve(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positives = labels.sum()
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


def held_out_auroc(labelled: list[tuple[int, NDArray[Any], bool]], boundary: int) -> float:
    """Logistic regression, learnt on the seeds below the boundary and judged on the others."""
    table = np.array([one for _, one, _ in labelled])
    labels = np.array([float(label) for _, _, label in labelled])
    learning = np.array([seed < boundary for seed, _, _ in labelled])
    table = (table - table[learning].mean(0)) / (table[learning].std(0) + 1e-6)
    weights, bias = np.zeros(table.shape[1]), 0.0
    for _ in range(150):
        error = 1 / (1 + np.exp(-(table[learning] @ weights + bias))) - labels[learning]
        weights -= 0.1 * (table[learning].T @ error / learning.sum() + 0.01 * weights)
        bias -= 0.1 * error.mean()
    return area_under_curve(table[~learning] @ weights, labels[~learning])


EXPERT = [name for name in scenarios.CASES["synthetic"] if FAMILIES[name].tier == "expert"]
SAMPLES = {
    "expert": (EXPERT, range(100, 220), 3, 190),
    "claim": (["claim"], range(300, 800), 3, 550),
    "bilingual": (["bilingual"], range(300, 700), 3, 550),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_classifier_of_a_result_and_its_question_tells_silent_faults_from_clean_ones(sample: str) -> None:
    """Tested on other seeds than it learnt on, at most .60 — and the same classifier finds a fault that leaves a mark."""
    cases, seeds, calls_each, boundary = SAMPLES[sample]
    found = results(cases, seeds, calls_each)
    plain = [(scenario.seed, features(question, made), bool(made.fault)) for scenario, question, made in found]
    assert held_out_auroc(plain, boundary) <= 0.60
    marked = [
        (question, made._replace(shown=made.shown.replace("{", '{"stale":1,', 1)) if made.fault else made)
        for _, question, made in found
    ]
    table = [
        (scenario.seed, features(*one), bool(one[1].fault)) for (scenario, _, _), one in zip(found, marked, strict=True)
    ]
    assert held_out_auroc(table, boundary) > 0.90


def test_the_classifier_finds_an_announcement_that_gives_faults_away() -> None:
    """Were every claim the actual figure, a result that differs from it would be a wrong one."""
    found = []
    for scenario, question, made in results(["claim"], range(300, 500), 3):
        _, slots = understood(question.text)
        told = question.text.replace(f"{slots['claim']} billion", f"{question.inputs[0].value} billion")
        found.append((scenario.seed, features(question._replace(text=told), made), bool(made.fault)))
    assert held_out_auroc(found, 420) > 0.75


def test_cross_checking_against_clean_sources_reveals_every_silent_fault_in_a_figure_that_is_wanted() -> None:
    """Whatever a silent fault makes of the figure, or if it takes it away, another source says otherwise."""
    revealed = Counter[str]()
    for scenario, question, made in results([*EXPERT, "largest"], range(160, 230), 4):
        if not made.fault:
            continue
        start = begin(scenario.identity)
        for one in question.inputs:
            if one.is_search or not isinstance(one.value, int | float):
                continue
            told = read_from(made, one)
            true = read_from(made._replace(shown=made.truth), one)
            if set(told) == set(true):
                continue  # the fault fell on something else
            others = [
                other
                for other in asking_for(question, one)
                if (other.tool, other.arguments) != (made.tool, made.arguments)
            ]
            said = {value for other in others for value in read_from(clean(start, other).made[-1], one)}
            assert said <= {one.value}, "clean sources agree"
            if said:
                assert not set(told) & said, f"{made.fault} of {one.field} of {one.name} goes unseen"
                revealed[made.fault] += 1
    assert {STALE, CORRUPTION} <= set(revealed) <= set(SILENT)
    assert revealed.total() > 100
