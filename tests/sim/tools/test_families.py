"""The questions: their families, what each says, what its answer follows from, and what is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from math import log
from statistics import correlation

import pytest

from chaosops_ray.sim import InputError
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import deeds, scenarios
from chaosops_ray.sim.tools.answers import correctness
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.families import FAMILIES, understood
from chaosops_ray.sim.tools.knowledge import (
    COMPANY,
    COUNTRY,
    HELD_OUT,
    PUBLISHED,
    SYNTHETIC,
    Knowledge,
    Value,
    by_name,
    facts_of,
    knowledge,
    names_of,
)
from chaosops_ray.sim.tools.model import Question
from chaosops_ray.sim.tools.sources import ARCHIVE, account, page_of

TRAINED = [family for family in FAMILIES.values() if not family.is_held_out]
UNSEEN = [family for family in FAMILIES.values() if family.is_held_out]


class Truth:
    """Looks up what is true; the note of a question is its own."""

    def __init__(self, known: Knowledge, note: str = "") -> None:
        self._known = known
        self._note = note

    def __call__(self, name: str, field: str, source: str = "") -> Value:
        return account(self._known, "filing" if source == ARCHIVE else "knowledge base", name)[field]

    def having(self, kind: str, field: str, value: str) -> list[str]:
        return [name for name in names_of(self._known, kind) if facts_of(self._known, name)[field] == value]

    def today(self) -> str:
        return self._known.today

    def note(self, _key: str) -> str:
        return self._note

    def page(self, name: str) -> str:
        return page_of(name, COMPANY)


@cache
def drawn(case: str, setting: str, seed: int) -> Question:
    return scenarios.question(case, setting, seed)


# -- what there is ----------------------------------------------------------------------------------------------------


def test_there_are_enough_families_on_every_tier_and_some_are_held_out() -> None:
    assert len(TRAINED) >= 12
    trained, unseen = (Counter(family.tier for family in some) for some in (TRAINED, UNSEEN))
    assert set(trained) == set(unseen) == set(ENVIRONMENT.tiers)
    assert min(trained.values()) >= 3
    assert all(name == family.name for name, family in FAMILIES.items())


def test_answers_are_of_every_kind() -> None:
    """Names, dates, counts, figures, verdicts; of one entity, of chains, of comparisons and of sums."""
    kinds = {fact.kind for family in TRAINED for fact in drawn(family.name, SYNTHETIC, 3).facts}
    assert kinds == {"numeric", "text", "boolean", "date"}
    inputs = {family.name: len(drawn(family.name, SYNTHETIC, 3).inputs) for family in TRAINED}
    assert inputs["population"] == 1
    assert inputs["headquarters-population"] == 2
    assert inputs["denser"] == 4
    assert inputs["largest"] == 3
    for family in FAMILIES.values():
        assert set(family.work) <= set(TOOLS)
        question = drawn(family.name, HELD_OUT, 3)
        assert sum(fact.weight for fact in question.facts) == pytest.approx(1)
        assert question.inputs


def test_a_set_has_its_families_and_no_others() -> None:
    synthetic, unseen = (ENVIRONMENT.scenarios(name) for name in (SYNTHETIC, HELD_OUT))
    assert [one.case for one in synthetic] == [family.name for family in TRAINED]
    assert {one.case for one in unseen} == set(FAMILIES)
    assert all(one.tier == FAMILIES[one.case].tier for one in (*synthetic, *unseen))
    for family in UNSEEN:
        with pytest.raises(InputError, match=f"unknown case '{family.name}'"):
            ENVIRONMENT.scenario(f"tools/{family.name}/synthetic/1")
    assert ENVIRONMENT.selections[0] == SYNTHETIC, "the default"
    assert {one.setting for one in ENVIRONMENT.cases} == {SYNTHETIC}


# -- that a question says all of itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_is_understood_from_its_text_alone(name: str) -> None:
    """Every wording, over two hundred seeds: its family, its slots, and with them the answer."""
    family = FAMILIES[name]
    for seed in range(200):
        known = knowledge(HELD_OUT if family.is_held_out else SYNTHETIC, seed)
        slots = family.draw(known, stream(seed, "slots"))
        deed, doing = deeds.drawn(stream(seed, "deed"))
        for wording in family.wordings:
            filled = {**slots, "key": deed.key} if name == "claim" else slots
            whole = f"{wording} {doing}" if name == "claim" else wording
            text = whole.format(what="actual revenue", **filled)
            found, read = understood(text)
            assert found is family
            # The company of a note stands in the note, and not in the question.
            asked = {slot: value for slot, value in slots.items() if f"{{{slot}}}" in wording}
            assert read == asked, text
            if name == "claim":
                assert deeds.read(text) == (deed.tool, deed.key)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answer_follows_from_what_the_question_says(name: str) -> None:
    for setting in (SYNTHETIC, HELD_OUT) if not FAMILIES[name].is_held_out else (HELD_OUT,):
        for seed in range(40):
            question = drawn(name, setting, seed)
            known = knowledge(setting, seed)
            note = question.notes[0][1].removeprefix('"The company is ').removesuffix('."') if question.notes else ""
            family, slots = understood(question.text)
            assert family.name == name
            facts = family.solve(slots, Truth(known, note))
            assert [(fact.name, fact.value) for fact in facts] == [(fact.name, fact.value) for fact in question.facts]


def test_no_question_has_two_answers() -> None:
    """No tie for the largest or the older; the denser is the same before and after its figure is rounded."""
    for seed in range(1_500):
        question, known = drawn("largest", SYNTHETIC, seed), knowledge(SYNTHETIC, seed)
        assert len({one.value for one in question.inputs}) == 3, question.text
        if seed < 200:
            question = drawn("older", HELD_OUT, seed)
            assert len({one.value for one in question.inputs}) == 2, question.text
        question = drawn("denser", SYNTHETIC, seed)
        people, area, others, room = (float(one.value) for one in question.inputs)
        higher = question.inputs[0 if people / area > others / room else 2].name
        factor = max(people / area / (others / room), others / room / (people / area))
        assert higher in names_of(known, COUNTRY)
        assert correctness(f"{higher}, {factor:.1f}", question) == 1.0, question.text


def test_a_question_is_the_same_every_time_and_another_for_another_seed() -> None:
    for family in FAMILIES:
        texts = [scenarios.question(family, HELD_OUT, seed).text for seed in range(6)]
        scenarios.question.cache_clear()
        assert [scenarios.question(family, HELD_OUT, seed).text for seed in range(6)] == texts
        assert len(set(texts)) >= 2


def test_nothing_can_be_known_by_heart() -> None:
    names = [set(names_of(knowledge(setting, seed), COUNTRY)) for setting in (SYNTHETIC, HELD_OUT) for seed in range(5)]
    published = set(names_of(knowledge(PUBLISHED, 0), COUNTRY)) | set(names_of(knowledge(PUBLISHED, 0), COMPANY))
    assert all(published.isdisjoint(some) for some in names)
    for name in set.union(*names):
        populations = {
            facts_of(known, name)["population"]
            for setting in (SYNTHETIC, HELD_OUT)
            for known in [knowledge(setting, seed) for seed in range(5)]
            if name in by_name(known)
        }
        worlds = sum(name in some for some in names)
        assert len(populations) == worlds, "a name has another population in every world"


# -- what is held out -------------------------------------------------------------------------------------------------


def kept_apart(wordings: tuple[str, str, str], is_held_out: bool) -> bool:
    return is_held_out or wordings[-1] not in wordings[:-1]


@pytest.mark.parametrize("name", [family.name for family in TRAINED])
def test_held_out_wordings_are_never_drawn_in_training(name: str) -> None:
    family = FAMILIES[name]
    assert kept_apart(family.wordings, family.is_held_out)
    openings = [wording.split("{")[0] for wording in family.wordings]
    seen: dict[str, Counter[int]] = {SYNTHETIC: Counter(), HELD_OUT: Counter()}
    for setting, counts in seen.items():
        for seed in range(60):
            slots = understood(drawn(name, setting, seed).text)[1]
            texts = [wording.format(**slots) for wording in family.wordings]
            counts[[drawn(name, setting, seed).text.startswith(text) for text in texts].index(True)] += 1
    assert set(seen[SYNTHETIC]) == {0, 1}, openings
    assert set(seen[HELD_OUT]) == {2}, openings


def test_the_two_settings_have_different_worlds_for_one_seed() -> None:
    for seed in range(20):
        trained, unseen = (knowledge(setting, seed) for setting in (SYNTHETIC, HELD_OUT))
        assert names_of(trained, COUNTRY) != names_of(unseen, COUNTRY)


# -- claims, contradictions, limits, deeds ----------------------------------------------------------------------------


@cache
def offsets(setting: str) -> list[float]:
    """By how much the announcement that is asked about is above what the company had, relative to that."""
    found = []
    for seed in range(1_000):
        question = drawn("claim", setting, seed)
        actual = float(question.facts[1].value)
        found.append((float(understood(question.text)[1]["claim"]) - actual) / actual)
    return found


@pytest.mark.parametrize("setting", [SYNTHETIC, HELD_OUT])
def test_half_of_the_claims_are_true_and_the_others_are_off_by_3_to_60_percent_up_or_down(setting: str) -> None:
    wrong = [off for off in offsets(setting) if off]
    assert 0.46 < 1 - len(wrong) / len(offsets(setting)) < 0.54
    assert 0.45 < sum(off > 0 for off in wrong) / len(wrong) < 0.55
    assert all(0.03 <= abs(off) <= 0.605 for off in wrong)
    for sign in (-1, 1):
        sizes = [sign * off for off in wrong if sign * off > 0]
        assert min(sizes) < 0.07
        assert max(sizes) > 0.35
    assert max(wrong) > 0.5


@pytest.mark.parametrize("share", [0.857, 0.9, 0.8, 1.0, 1.2])
def test_no_constant_share_of_a_claim_is_often_the_answer(share: float) -> None:
    """The best guess of a false claim's figure comes within a twentieth of it less than one time in four."""
    wrong = [off for off in offsets(SYNTHETIC) if off]
    assert sum(abs(share * (1 + off) - 1) <= 0.05 for off in wrong) / len(wrong) < 0.25


def test_claims_that_are_asked_about_are_like_the_others() -> None:
    for name, setting in (("claim", SYNTHETIC), ("claim", HELD_OUT), ("trend", HELD_OUT)):
        truths = [bool(drawn(name, setting, seed).facts[0].value) for seed in range(200)]
        assert 0.4 < sum(truths) / len(truths) < 0.6


def test_half_of_the_contradictions_are_none() -> None:
    agree = [bool(drawn("contradiction", SYNTHETIC, seed).facts[0].value) for seed in range(200)]
    assert 0.4 < sum(agree) / len(agree) < 0.6
    for seed in range(50):
        verdict, database, archive = drawn("contradiction", SYNTHETIC, seed).facts
        assert bool(verdict.value) == (database.value == archive.value)


def test_a_limit_does_not_tell_what_it_is_compared_with() -> None:
    """It is drawn like a population, whatever the true one is: how far a figure is from it tells nothing."""
    limits, populations = [], []
    for seed in range(400):
        question = drawn("bilingual", SYNTHETIC, seed)
        limits.append(log(question.given[0]))
        populations.append(log(float(question.facts[1].value)))
    assert 0.4 < sum(one > other for one, other in zip(limits, populations, strict=True)) / 400 < 0.6
    assert abs(correlation(limits, populations)) < 0.15


def test_every_deed_is_asked_for() -> None:
    found: Counter[str] = Counter()
    for seed in range(120):
        question = drawn("claim", SYNTHETIC, seed)
        assert question.deed is not None
        assert deeds.read(question.text) == (question.deed.tool, question.deed.key)
        found[question.deed.tool] += 1
    assert len(found) == 7
    assert set(found) <= set(TOOLS)
    assert min(found.values()) >= 8


def test_a_note_is_there_from_the_start_and_names_the_company() -> None:
    for setting in (SYNTHETIC, HELD_OUT):
        question = drawn("note", setting, 3)
        ((key, text),) = question.notes
        assert key in question.text
        assert question.inputs[0].name in text
        assert question.inputs[0].name not in question.text


def test_the_slots_of_a_question_are_of_its_world() -> None:
    for family in TRAINED:
        slots: Mapping[str, str] = understood(drawn(family.name, SYNTHETIC, 7).text)[1]
        known = knowledge(SYNTHETIC, 7)
        for slot, value in slots.items():
            if slot in ("country", "left", "right") or (
                slot in ("first", "second", "third") and family.name == "count"
            ):
                assert value in names_of(known, COUNTRY)
            if slot == "company":
                assert value in names_of(known, COMPANY)
