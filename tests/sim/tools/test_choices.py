"""What an agent can choose from follows from what it was shown: ordinary calls, few of them, and none that tells more."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from hashlib import sha256
from statistics import fmean
from typing import Any

import pytest

from benchmarks import fuzz
from chaosops_ray.sim import play, replay
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools.choices import NAMES, SOURCES, choices
from chaosops_ray.sim.tools.model import AGENT, SUBMIT, Call, Offer, World, call
from chaosops_ray.sim.tools.views import View
from chaosops_ray.sim.weather import ANNOUNCED, CORRUPTION, STALE
from tests.support.tools_calls import begin, clean, known, misled
from tests.support.tools_choices import SCRIPTED, by_chance, careful_act, offered

MOST = 40


def views_of_random_play(seeds: range) -> Iterator[tuple[World, View]]:
    """Whatever random choices lead to, in every family of questions of every setting."""
    for selection in ENVIRONMENT.selections:
        for scenario in ENVIRONMENT.scenarios(selection, seeds):
            act, world = by_chance(scenario, "strict"), ENVIRONMENT.start(scenario, "strict")
            while ENVIRONMENT.acting(world):
                view = ENVIRONMENT.view(world, AGENT)
                yield world, view
                world = ENVIRONMENT.step(world, act(view)).world


def check_offers(world: World, view: View) -> None:
    """What holds of the offers on any view."""
    kinds = ENVIRONMENT.permitted(view)
    assert kinds
    assert all(kinds)
    assert ENVIRONMENT.permitted(view) is kinds
    offers = [offer for kind in kinds for offer in kind]
    assert len(offers) <= MOST
    assert len({offer.name for offer in offers}) == len({offer.call for offer in offers}) == len(offers)
    for offer in offers:
        assert isinstance(offer, Offer)
        assert offer.name in NAMES
        assert ENVIRONMENT.parse_action(ENVIRONMENT.format_action(offer, "compact")) == Offer(offer.name)
        assert ENVIRONMENT.parse_action(ENVIRONMENT.format_action(offer, "full")) == offer.call
    if ENVIRONMENT.acting(world):
        for offer in random.Random(world.step).sample(offers, 2) if len(offers) > 1 else offers:
            assert ENVIRONMENT.step(world, offer).action == offer.call
            assert ENVIRONMENT.step(world, Offer(offer.name)).action == offer.call


# -- what is offered --------------------------------------------------------------------------------------------------


def test_offers_are_few_ordinary_calls_each_under_a_name_of_its_own() -> None:
    for world, view in views_of_random_play(range(20_000, 20_003)):
        check_offers(world, view)


def test_no_offered_call_fails_but_by_a_fault() -> None:
    """The tools take every one of them: nothing is offered that could not be done."""
    for world, view in views_of_random_play(range(20_000, 20_002)):
        for kind in ENVIRONMENT.permitted(view) or ():
            for offer in kind:
                made = ENVIRONMENT.step(world, offer).world.made[-1]
                assert made.ok or made.fault in ANNOUNCED, (offer, made.shown)


def test_a_choice_is_recorded_as_the_call_that_it_was() -> None:
    """Records know no offers, and replay as if the agent had written its calls."""
    for scenario in ENVIRONMENT.scenarios("synthetic", [20_000]):
        episode = play(ENVIRONMENT, scenario, "strict", by_chance(scenario, "strict"))
        written = [ENVIRONMENT.dump_action(step.action) for step in episode.steps]
        assert all(set(json.loads(text)) == {"tool", "arguments"} for text in written)
        actions = [ENVIRONMENT.load_action(text) for text in written]
        assert all(isinstance(action, Call) for action in actions)
        assert replay(ENVIRONMENT, scenario, "strict", actions) == episode


@pytest.mark.parametrize(
    "given",
    [
        Offer("@answer api"),
        Offer("@answer api", call(SUBMIT, answer="1", reasoning="")),
        Offer("@ask nobody first"),
        Offer(""),
        Offer("x" * 10_000),
        Offer(5),  # type: ignore[arg-type]
        Offer(None, 5),  # type: ignore[arg-type]
        Offer(["@answer api"]),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_offered_costs_a_step_and_nothing_else(given: Any) -> None:
    """A name counts for what it stands for in this world, whatever call came along with it."""
    world = begin("tools/population/synthetic/20000")
    after = ENVIRONMENT.step(world, given)
    assert isinstance(after.action, Unparsed)
    assert after.world.step == 1
    assert after.world.answer is None
    assert ENVIRONMENT.load_action(ENVIRONMENT.dump_action(after.action)) == after.action
    foreign = Offer("@ask api first", call(SUBMIT, answer="1", reasoning=""))
    assert ENVIRONMENT.step(world, foreign).action.tool == "api_call"


def test_a_choice_is_read_only_where_a_line_is_its_name() -> None:
    assert ENVIRONMENT.parse_action("I think so.\n@answer api\n") == Offer("@answer api")
    for text in ("answer api", "@answer", "@answer api.", "@answer api 2", "go @answer api", "@ask api sixth"):
        assert isinstance(ENVIRONMENT.parse_action(text), Unparsed)


# -- it follows from what was shown, and tells no more -----------------------------------------------------------------


def test_the_truth_and_the_marks_of_faults_change_nothing() -> None:
    for world, view in views_of_random_play(range(20_000, 20_001)):
        hidden = world._replace(made=tuple(made._replace(fault="corruption", truth="null") for made in world.made))
        assert choices(ENVIRONMENT.view(hidden, AGENT)) == choices(view)


def test_a_question_of_no_known_family_has_no_choices() -> None:
    view = ENVIRONMENT.view(begin("tools/population/synthetic/20000"), AGENT)._replace(question="Why?")
    assert ENVIRONMENT.permitted(view) is None
    assert ENVIRONMENT.render(view, None, "compact") == "q Why?\nleft 6\n>"


ASKS = {
    "knowledge base": "@ask knowledge base first",
    "database": "@ask database first",
    "api": "@ask api first",
    "files": "@ask files first",
}


def told(case: str, wrong: tuple[str, ...]) -> World:
    """A world in which each of these sources was asked, and some of them were wrong."""
    world = begin(f"tools/{case}/synthetic/20000")
    for source, name in ASKS.items():
        made = offered(ENVIRONMENT.view(world, AGENT))[name].call
        assert made is not None
        world = misled(world, made) if source in wrong else clean(world, made)
    return world


@pytest.mark.parametrize("case", ["population", "page", "bilingual"])
def test_each_source_has_its_answer_right_or_wrong(case: str) -> None:
    """One that believes the wrong source can say so; what tells the two apart is who agrees, not who is right."""
    for wrong in ASKS:
        seen = choices(ENVIRONMENT.view(told(case, (wrong,)), AGENT))
        assert seen is not None
        counts = {line.removeprefix("by "): line for line in seen.lines if line.startswith("by ")}
        assert len(counts) == 2
        first = next(source for source in SOURCES if source in ASKS and source != wrong)
        assert f"{wrong} once" in counts
        assert f"{first} three times" in counts
        names = [offer.name for kind in seen.kinds for offer in kind]
        assert [name for name in names if name.startswith("@answer")] == [
            f"@answer {source}" for source in SOURCES if source in (wrong, first)
        ]


@pytest.mark.parametrize("kind", [STALE, CORRUPTION])
def test_after_one_result_everything_is_the_same_whether_it_was_right_or_wrong(kind: str) -> None:
    """A wrong result alone shows in no name and no line; only what is announced may be repeated or not."""
    compared = 0
    for scenario in ENVIRONMENT.scenarios("heldout", range(20_000, 20_003)):
        if scenario.case.startswith(("capital-", "headquarters-")):
            continue  # a wrong source names another country, of which it may have more or fewer fields
        world = ENVIRONMENT.start(scenario, "strict")
        for name, offer in offered(ENVIRONMENT.view(world, AGENT)).items():
            if name.startswith("@ask") and offer.call is not None:
                right, wrong = (
                    choices(ENVIRONMENT.view(after, AGENT))
                    for after in (clean(world, offer.call), misled(world, offer.call, kind))
                )
                assert right is not None
                assert wrong is not None
                assert [[one.name for one in of] for of in right.kinds] == [
                    [one.name for one in of] for of in wrong.kinds
                ]
                assert [line.partition(",")[0] for line in right.lines] == [
                    line.partition(",")[0] for line in wrong.lines
                ]
                compared += right.lines[-1].startswith("by")
    assert compared > 100


def test_wrong_sources_among_themselves_look_like_right_ones() -> None:
    """With true and false figures exchanged in all that was shown, the same is offered under the same names."""
    world = told("population", ("api", "files"))
    view = ENVIRONMENT.view(world, AGENT)
    facts = [json.loads(made.shown) for made in world.made]
    true, false = str(facts[0]["facts"]["population"]), str(facts[2]["body"]["population"])
    assert true != false

    def exchanged(text: str) -> str:
        return text.replace(true, "\0").replace(false, true).replace("\0", false)

    other = view._replace(results=tuple([one._replace(shown=exchanged(one.shown)) for one in view.results]))
    here, there = choices(view), choices(other)
    assert here is not None
    assert there is not None
    assert here.lines == there.lines
    assert [[offer.name for offer in kind] for kind in here.kinds] == [
        [offer.name for offer in kind] for kind in there.kinds
    ]
    exchanged_calls = [exchanged(offer.call.arguments) for kind in here.kinds for offer in kind if offer.call]
    assert exchanged_calls == [offer.call.arguments for kind in there.kinds for offer in kind if offer.call]


def test_a_wrong_source_that_repeats_an_announcement_is_marked_like_a_right_one() -> None:
    """Which answer is the announced one follows from the question."""
    marks = set()
    for seed in range(20_000, 20_020):
        world = begin(f"tools/claim/synthetic/{seed}")
        for made in (call("knowledge_base_lookup", entity=known(world).announcer),):
            for after in (clean(world, made), misled(world, made)):
                seen = choices(ENVIRONMENT.view(after, AGENT))
                assert seen is not None
                marks.add((after.made[-1].fault, seen.lines[-1]))
    lines = {"by knowledge base once", "by knowledge base once, as announced"}
    assert {(fault, line) for fault, line in marks if line.startswith("by")} >= {
        (fault, line) for fault in ("", "corruption") for line in lines
    }


def test_a_document_is_sealed_by_the_hash_of_the_question_alone() -> None:
    """Any text has the hash that is worked out from it."""
    world = begin("tools/filed/synthetic/20000")
    asking = offered(ENVIRONMENT.view(world, AGENT))["@ask filing first"].call
    assert asking is not None
    for after in (clean(world, asking), misled(world, asking)):
        text = json.loads(after.made[-1].shown)["body"]
        own = clean(after, call("hash_verify", data=text, expected_hash=sha256(text.encode()).hexdigest()))
        check = offered(ENVIRONMENT.view(after, AGENT))["@check archive"].call
        assert check is not None
        for world, sealed in ((own, after.made[-1].fault == ""), (clean(after, check), after.made[-1].fault == "")):
            seen = choices(ENVIRONMENT.view(world, AGENT))
            assert seen is not None
            assert seen.lines[-1] == f"by archive {'sealed' if sealed else 'once'}"


# -- hostile results --------------------------------------------------------------------------------------------------

_MADE_UP = (
    "SELECT '{name}' AS name, 1e308 AS population, -1 AS population_2020, 0 AS area_km2",
    "SELECT '{name}' AS name, 'many' AS population, '' AS area_km2, 'x' AS population_2020",
    "SELECT '{name}' AS company, 0 AS employees, 9e307 AS revenue_b, 'never' AS founded, 0 AS previous_revenue_b",
    "SELECT '{name}' AS company, '{long}' AS headquarters, '{long}' AS sector",
    "SELECT '{long}' AS company, 'energy' AS sector, 1 AS revenue_b",
    "SELECT 'O''Neill \" <x>' AS company, 'energy' AS sector, 1 AS revenue_b",
    "SELECT '{name}' AS company, 'energy' AS sector, 'a' AS revenue_b, -9223372036854775807 AS offices",
    "SELECT '{name}' AS company, 'O''Neill' AS headquarters",
    "SELECT '{name}' AS name, '{capital}' AS capital, 0 AS gdp_per_capita, name AS name FROM countries",
)


def test_made_up_results_neither_raise_nor_make_calls_that_cannot_be_made() -> None:
    """An agent that also writes calls of its own can have the database say anything."""
    for selection in ENVIRONMENT.selections:
        for scenario in ENVIRONMENT.scenarios(selection, [20_000]):
            world = ENVIRONMENT.start(scenario, "strict")
            draw = random.Random(scenario.identity)
            subject = next((one.call for one in offered(ENVIRONMENT.view(world, AGENT)).values() if one.call), None)
            assert subject is not None
            words = [str(value) for value in json.loads(subject.arguments).values()]
            name = words[0].removeprefix("internal://entity/") if words else "x"
            world = clean(
                world, call("scratchpad_write", key="handover", value=draw.choice(("", "é" * 70, "A")) or "x")
            )
            for sql in draw.sample(_MADE_UP, 4):
                text = sql.format(name=name.replace("'", "''"), long="y" * 300, capital=name)
                world = clean(world, call("database_query", sql=text))
                view = ENVIRONMENT.view(world, AGENT)
                check_offers(world, view)
                ENVIRONMENT.render(view, None, "compact")


@pytest.mark.parametrize("cases", [1_500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_calls_leave_something_to_choose(cases: int) -> None:
    """After any step of any episode of hostile calls, there are offers, and the step takes them."""

    def step(case: fuzz.Case) -> Any:
        after = fuzz.carry_out(case)
        view = ENVIRONMENT.view(after.world, AGENT)
        check_offers(after.world, view)
        ENVIRONMENT.render(view, None, "compact")
        return after

    fuzz.play(5, cases, step, languages=0.3)


# -- what it is good for ----------------------------------------------------------------------------------------------


def test_who_looks_at_what_agrees_does_far_better_than_who_does_not() -> None:
    """Every family can be answered well by choices alone, and by chance none is."""
    scores: dict[str, dict[str, list[float]]] = {}
    best: dict[str, float] = {}
    for name, factory in (*SCRIPTED.items(), ("naive", ENVIRONMENT.policies["naive"])):
        for scenario in ENVIRONMENT.scenarios("heldout", range(20_000, 20_006)):
            episode = play(ENVIRONMENT, scenario, "strict", factory(scenario, "strict"))
            scores.setdefault(name, {}).setdefault(scenario.tier, []).append(episode.total)
            if name == "careful":
                best[scenario.group] = max(best.get(scenario.group, 0.0), episode.total)
    assert min(best.values()) > 0.8, best
    for tier in ("intermediate", "expert"):
        by_care = fmean(scores["careful"][tier])
        assert by_care > fmean(scores["by chance"][tier]) + 0.25
        assert by_care > fmean(scores["hasty"][tier]) + 0.25
        assert by_care > fmean(scores["naive"][tier]) + 0.4


def test_the_compact_view_is_short_and_has_neither_names_nor_figures() -> None:
    """What a tiny model reads of an episode is a few words a turn."""
    for scenario in ENVIRONMENT.scenarios("synthetic", [20_001]):
        world, since, text = ENVIRONMENT.start(scenario, "strict"), None, ""
        while ENVIRONMENT.acting(world):
            view = ENVIRONMENT.view(world, AGENT)
            new = ENVIRONMENT.render(view, since, "compact")
            assert len(new.splitlines()) <= 16
            text, since = text + new, view
            world = ENVIRONMENT.step(world, careful_act(view)).world
        assert not any(entity.name in text for entity in known(world).entities)
        assert all(line.startswith("left ") for line in text.splitlines() if any(c.isdigit() for c in line))
