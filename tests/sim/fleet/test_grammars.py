"""Mandates, names and sentences: whole, free of figures, and without a word or sentence that both grammars have."""

from __future__ import annotations

import re

import pytest

from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import FIELDS
from chaosops_ray.sim.fleet.names import PROVIDER_WORDS, SERVICE_NAMES, agent_name
from chaosops_ray.sim.fleet.splits import SPLITS, WORDING, mandates_of, shapes_of, words_of
from chaosops_ray.sim.fleet.wording import answer, page, reason
from chaosops_ray.sim.rng import stream

DRAWS = 400
OPERATIONS = {one.name: one for mandate in MANDATES.values() for one in (mandate.takes, mandate.gives)}
FIGURE = re.compile(r"\d|\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|half|twice|hundred)\b", re.IGNORECASE)
TELLING = re.compile(r"\b(rogue|guilt\w*|innocent|mistake\w*|secret\w*|hid\w*|harm\w*|blame\w*)\b", re.IGNORECASE)


def forms(kind: str, words: int) -> set[str]:
    """Return the sentences of a kind that many draws give."""
    draw = stream(0, f"test/{kind}", words)
    if kind == "page":
        return {page(draw, words, "NAME") for _ in range(DRAWS)}
    if kind in OPERATIONS:
        return {reason(draw, words, OPERATIONS[kind]) for _ in range(DRAWS)}
    return {answer(draw, words, kind == "plain") for _ in range(DRAWS)}


KINDS = ("page", "plain", "evasive", *OPERATIONS)


@pytest.mark.parametrize("mandate", MANDATES.values(), ids=list(MANDATES))
def test_a_mandate_is_whole(mandate: Mandate) -> None:
    assert MANDATES[mandate.name] is mandate
    assert mandate.field in FIELDS
    assert mandate.allows_taking(mandate.limit - 1)
    assert not mandate.allows_taking(mandate.limit)
    for operation in (mandate.takes, mandate.gives):
        assert OPERATIONS[operation.name] is operation
        assert re.fullmatch(r"[a-z]+(_[a-z]+)?", operation.name)


def test_the_registry_has_two_operations_for_each_mandate() -> None:
    assert len(OPERATIONS) == 2 * len(MANDATES)
    assert {name for name, one in MANDATES.items() if one.is_held_out} == {"patching", "quota"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_an_operation_has_reasons_in_both_grammars(operation: Operation) -> None:
    trained, held_out = operation.phrases
    assert min(len(set(trained)), len(set(held_out))) >= 6


def test_no_phrase_is_in_both_grammars() -> None:
    trained, held_out = ({p for one in OPERATIONS.values() for p in one.phrases[words]} for words in (0, 1))
    assert not trained & held_out


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_are_many_plain_and_of_one_grammar(kind: str) -> None:
    trained, held_out = forms(kind, 0), forms(kind, 1)
    assert min(len(trained), len(held_out)) >= 8
    assert not trained & held_out
    for text in trained | held_out:
        assert text.isascii()
        assert not FIGURE.search(text), text
        assert not TELLING.search(text), text
        assert kind != "page" or "NAME" in text


@pytest.mark.parametrize("words", [0, 1])
def test_plain_and_evasive_answers_differ(words: int) -> None:
    assert not forms("plain", words) & forms("evasive", words)


def agent_words(words: int) -> set[str]:
    draw = stream(0, "test/agents", words)
    return {
        word for mandate in MANDATES for _ in range(DRAWS) for word in agent_name(draw, words, mandate, ()).split("-")
    }


def service_words(words: int) -> set[str]:
    whole = {word for names in SERVICE_NAMES[words].values() for name in names for word in name.split("-")}
    return whole | {word for part in PROVIDER_WORDS[words] for word in part}


def test_names_of_the_two_grammars_share_no_word() -> None:
    trained, held_out = (agent_words(words) | service_words(words) for words in (0, 1))
    assert not trained & held_out
    assert min(len(trained), len(held_out)) > 100


def test_a_name_that_is_taken_is_not_drawn_again() -> None:
    draw = stream(0, "test/taken")
    taken: list[str] = []
    for _ in range(20):
        taken.append(agent_name(draw, 0, "scaling", taken))
    assert len(set(taken)) == len(taken)


def test_a_name_may_hint_at_a_mandate_and_need_not() -> None:
    draw = stream(0, "test/hints")
    hints = [agent_name(draw, 0, "scaling", ()).split("-")[0] in MANDATES["scaling"].hints[0] for _ in range(DRAWS)]
    assert DRAWS / 3 < sum(hints) < DRAWS * 2 / 3


def test_only_the_wording_axis_speaks_the_held_out_grammar() -> None:
    assert {split: words_of(split) for split in SPLITS} == {split: int(split == WORDING) for split in SPLITS}


def test_each_axis_draws_shapes_and_mandates_of_its_own() -> None:
    assert not set(shapes_of("topology")) & set(shapes_of("train"))
    assert set(mandates_of("agents")) == set(MANDATES)
    for split in set(SPLITS) - {"topology"}:
        assert shapes_of(split) == shapes_of("train")
    for split in set(SPLITS) - {"agents"}:
        assert mandates_of(split) == mandates_of("train")
