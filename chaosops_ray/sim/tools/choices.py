"""What an agent can choose from that does not write its own calls: those that follow from question and results.

Everything here is worked out of a view, never of the truth. Sources may be asked about what the question is about.
For each source that has said something, an answer is offered: what follows if this source is right. With the answer go
a check of it, the work that shows how it came about, and what else the question wants done. A wrong source has its
answer, too; only other sources can tell which one it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from chaosops_ray.sim.contract import Kinds
from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools.catalog.retrieval import DOCUMENT, ENTITY
from chaosops_ray.sim.tools.families import Family, understood
from chaosops_ray.sim.tools.knowledge import COMPANY, COUNTRY, Value
from chaosops_ray.sim.tools.model import AGENT, ROLES, Call, Fact, Offer, World, call
from chaosops_ray.sim.tools.moves import (
    NAME_COLUMNS,
    OF_COMPANIES,
    Missing,
    Wanted,
    agree,
    checks_of,
    deed_of,
    genuine,
    noted,
    query,
    spelt,
    submit,
    today,
    work_of,
)
from chaosops_ray.sim.tools.reading import Reading, readings
from chaosops_ray.sim.tools.solutions import Slots
from chaosops_ray.sim.tools.sources import (
    API,
    ARCHIVE,
    DATABASE,
    DOCUMENTS,
    FILE_OF,
    FILES,
    KNOWLEDGE_BASE,
    WEB,
    page_of,
    slug,
)
from chaosops_ray.sim.tools.views import Seen, View, view

# All lists are in this order, whoever is right.
SOURCES = (KNOWLEDGE_BASE, DATABASE, API, WEB, ARCHIVE, FILES)
# What a question is about, in its own order.
ORDINALS = ("first", "second", "third", "fourth", "fifth")
ALL = "all"
_DOCUMENTS = tuple([text for texts in DOCUMENTS.values() for text in texts])
_ASKED = (*SOURCES, "page", *_DOCUMENTS)
_NOTE, _CLOCK = "@read note", "@read clock"
_VERBS = ("check", "fact", "work", "record", "answer")
_NAMES = (
    _NOTE,
    _CLOCK,
    *[f"@ask {source} {subject}" for source in _ASKED for subject in (*ORDINALS, ALL)],
    *[f"@{verb} {source}" for verb in _VERBS for source in SOURCES],
)
NAMES = frozenset(_NAMES)
_ASKS, _CHECKS, _WORK, _RECORDS, _ANSWERS = range(5)

_TIMES = ("never", "once", "twice", "three times")
_SEALED = 9
_FOLLOWED = 2  # entities that are asked about where sources name different ones
_LONGEST = 60  # characters of a name or a value that may stand in a call
_NOTHING_FOLLOWS = (Missing, ArithmeticError, LookupError, TypeError, ValueError)


class Subject(NamedTuple):
    """Something that the question is about: an entity, or whoever has a value."""

    name: str
    kind: str
    source: str = ""  # the only one that is asked for it
    field: str = ""  # where `name` is the value, and whose it is, is to be found out


class Answer(NamedTuple):
    """What follows if a source is right: the facts, and the readings that they rest on."""

    source: str
    facts: tuple[Fact, ...]
    rests_on: tuple[Reading, ...]
    support: int  # sources that say the same, of the reading that has fewest

    @property
    def values(self) -> dict[tuple[str, str], Value]:
        """The values of the readings, in the order in which they were looked up."""
        return {(one.name, one.field): one.value for one in self.rests_on}


class Choices(NamedTuple):
    """All that is offered on a view, kind by kind, and lines that tell how what was seen hangs together."""

    kinds: Kinds[Offer]
    lines: tuple[str, ...]


@lru_cache(maxsize=4096)
def choices(seen: View) -> Choices | None:
    """Return what is offered on this view; None where the question is of no known family."""
    try:
        family, slots = understood(seen.question)
    except ValueError:
        return None
    said = _Said(seen.results, slots.get("hash", ""))
    needed = _needed(family, slots, said)
    answers = _answers(family, slots, said)
    kinds: list[list[tuple[str, Call]]] = [[] for _ in range(5)]
    kinds[_ASKS] = [
        *_openings(family, slots),
        *[(f"@ask {asked}", made) for asked, made in _asks(family, tuple(needed))],
    ]
    for answer in answers:
        for kind, verb, made in _moves(seen, family, slots, said, answer):
            kinds[kind].append((f"@{verb} {answer.source}", made))
    told = [f"{place} {_times(said.agreed(wanted))}" for place, wanted in zip(ORDINALS, needed.values(), strict=False)]
    return Choices(_offered(kinds), (*told, *[_described(family, slots, answer) for answer in answers]))


def permitted(seen: View) -> Kinds[Offer] | None:
    """List the calls that are offered on this view, kind by kind."""
    found = choices(seen)
    return None if found is None else found.kinds


def vocabulary(role: str) -> tuple[str, ...]:
    """List the names of all offers."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    return _NAMES


def resolved(world: World, given: object) -> object:
    """Return the call that the name of an offer stands for in this world; anything else as it is."""
    if not isinstance(given, Offer):
        return given
    if not isinstance(given.name, str) or given.name not in NAMES:
        return Unparsed("a choice that does not exist")
    for kind in permitted(view(world, AGENT)) or ():
        for offer in kind:
            if offer.name == given.name:
                return offer.call
    return Unparsed(f"{given.name} is not offered now")


def _offered(kinds: Sequence[Sequence[tuple[str, Call]]]) -> Kinds[Offer]:
    """Return the offers; a call is offered once, however many names it could have."""
    taken: set[Call] = set()
    found = []
    for kind in kinds:
        offers = []
        for name, made in kind:
            if made not in taken:
                taken.add(made)
                offers.append(Offer(name, made))
        if offers:
            found.append(tuple(offers))
    return tuple(found)


def _described(family: Family, slots: Slots, answer: Answer) -> str:
    """Describe an answer by what agrees with it."""
    words = f"by {answer.source} {_times(answer.support)}"
    if family.name == "claim" and agree(answer.rests_on[0].value, float(slots["claim"])):
        return f"{words}, as announced"
    if family.name == "contradiction":
        return f"{words}, {'the same' if answer.facts[0].value else 'not the same'}"
    return words


def _times(count: int) -> str:
    """Say how many sources agree."""
    return "sealed" if count >= _SEALED else _TIMES[min(count, len(_TIMES) - 1)]


# -- what was said ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def _read(seen: Seen) -> tuple[Reading, ...]:
    """Return what a result says; of what a query made up, only what may stand in a call."""
    return tuple([one for one in readings((seen,)) if _is_plain(one.name) and _is_plain(one.value)])


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _LONGEST and value.isprintable()
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Said:
    """All that tools have said, and how many sources are behind it."""

    def __init__(self, results: tuple[Seen, ...], digest: str) -> None:
        """`digest` is the hash that a genuine document has."""
        self.results = results
        self.readings = [reading for seen in results for reading in _read(seen)]
        self._of: dict[tuple[str, str], list[Reading]] = {}
        for one in self.readings:
            self._of.setdefault((one.name, one.field), []).append(one)
        # Any text has the hash that is worked out from it; only the one that the question gives says something.
        self._genuine = genuine(
            tuple([one for one in results if one.tool != "hash_verify" or f'"{digest}"' in one.arguments.lower()])
        )

    def of(self, name: str, field: str, source: str = "") -> list[Reading]:
        """Return the readings of a value, in the order in which they were said."""
        return [one for one in self._of.get((name, field), ()) if source in ("", one.source)]

    def named(self, field: str, value: str) -> list[str]:
        """Return whom any source has given this value."""
        return list(dict.fromkeys([one.name for one in self.readings if (one.field, one.value) == (field, value)]))

    def support(self, one: Reading, source: str = "") -> int:
        """Count the sources that say the same, or the calls where only one source has the value."""
        if one.step in self._genuine:
            return _SEALED
        alike = [other for other in self.of(one.name, one.field, source) if agree(one.value, other.value)]
        return len({other.step for other in alike} if source else {other.source for other in alike})

    def agreed(self, wanted: Sequence[Wanted]) -> int:
        """Return how many sources agree on each of these values, at the least."""
        counts = []
        for one in wanted:
            if one.is_search:
                tellers = [said.source for said in self.readings if (said.field, said.value) == (one.field, one.name)]
                counts.append(len(set(tellers)))
            else:
                said = self.of(one.name, one.field, one.source)
                counts.append(max([self.support(reading, one.source) for reading in said], default=0))
        return min(counts)

    def today(self) -> str:
        """Return the date of the clock."""
        return today(self.results)

    def note(self, key: str) -> str:
        """Return the company that the note names."""
        for name in noted(self.results, key):
            if _is_plain(name):
                return name
        raise Missing

    def page(self, name: str) -> str:
        """Return the address of the press page."""
        return page_of(name, COMPANY)


# -- what is needed ---------------------------------------------------------------------------------------------------


class _Needs:
    """Looks up nothing but whom a question goes on to, and remembers what it was asked for."""

    def __init__(self, said: _Said, place: int) -> None:
        """Where sources name different entities to go on to, `place` is the one to take."""
        self._said = said
        self._place = place
        self.wanted: list[Wanted] = []
        self.note, self.page = said.note, said.page

    def __call__(self, name: str, field: str, source: str = "") -> Value:
        """Return some value of the right kind."""
        self.wanted.append(Wanted(name, field, source))
        if field == "headquarters":
            return self._taken([str(one.value) for one in self._said.of(name, field)])
        return self.today() if field == "founded" else 1.0

    def having(self, kind: str, field: str, value: str) -> list[str]:
        """Return whom sources have given this value."""
        self.wanted.append(Wanted(value, field, is_search=True))
        names = self._said.named(field, value)
        if kind == COUNTRY:
            return [self._taken(names)]
        if not names:
            raise Missing
        return names[: len(ORDINALS) - 1]

    def today(self) -> str:
        """Return some date."""
        return "2000-01-01"

    def _taken(self, names: list[str]) -> str:
        """Return one of the names that most results give, in the order in which they were said."""
        most = sorted(set(names), key=lambda name: (-names.count(name), names.index(name)))[:_FOLLOWED]
        if self._place >= len(most):
            raise Missing
        return sorted(most, key=names.index)[self._place]


def _needed(family: Family, slots: Slots, said: _Said) -> dict[Subject, list[Wanted]]:
    """Return what the question is about, with the values that an answer needs, as far as it can be said by now."""
    wanted: list[Wanted] = []
    for place in range(_FOLLOWED):
        look = _Needs(said, place)
        with suppress(*_NOTHING_FOLLOWS):
            family.solve(slots, look)
        wanted += look.wanted
    found: dict[Subject, list[Wanted]] = {}
    for one in dict.fromkeys(wanted):
        kind = COMPANY if one.field in OF_COMPANIES else COUNTRY
        found.setdefault(Subject(one.name, kind, one.source, one.field if one.is_search else ""), []).append(one)
    return dict(list(found.items())[: len(ORDINALS)])


# -- asking -----------------------------------------------------------------------------------------------------------


def _openings(family: Family, slots: Slots) -> list[tuple[str, Call]]:
    """Return the call without which nothing can be asked, or answered."""
    if family.name == "note":
        return [(_NOTE, call("scratchpad_read", key=slots["key"]))]
    return [(_CLOCK, call("get_current_datetime"))] if family.name == "age" else []


def _asks(family: Family, subjects: Sequence[Subject]) -> Iterator[tuple[str, Call]]:
    """Yield whom to ask about what, with the call."""
    placed = list(zip(ORDINALS, subjects, strict=False))
    for kind in (COUNTRY, COMPANY):
        alike = [(place, one.name) for place, one in placed if one.kind == kind and not one.source and not one.field]
        if len(alike) == 1:
            yield from _about_one(*alike[0], kind, alone=len(subjects) == 1)
        elif alike:
            yield from _about_all(alike, kind)
    for place, one in placed:
        if one.source:
            yield from _about_one_by(place, one, is_filed=family.name == "filed")
        elif one.field:
            yield from _about_unknown(place, one)


def _about_one(place: str, name: str, kind: str, *, alone: bool) -> Iterator[tuple[str, Call]]:
    yield f"{KNOWLEDGE_BASE} {place}", call("knowledge_base_lookup", entity=name)
    yield f"{DATABASE} {place}", query(kind, [name], [NAME_COLUMNS[kind]])
    yield f"{API} {place}", call("api_call", url=ENTITY + name)
    yield f"{WEB} {place}", call("web_search", query=name)
    yield f"{ARCHIVE} {place}", call("document_search", query=name)
    yield f"{FILES} {place}", call("read_file", path=FILE_OF[kind])
    if alone:
        yield f"page {place}", call("fetch_url", url=page_of(name, kind))
        yield from _documents(place, name, kind)


def _documents(place: str, name: str, kind: str) -> Iterator[tuple[str, Call]]:
    for text in DOCUMENTS[kind]:
        yield f"{text} {place}", call("api_call", url=f"{DOCUMENT}{text}-{slug(name)}")


def _about_one_by(place: str, one: Subject, *, is_filed: bool) -> Iterator[tuple[str, Call]]:
    """Yield the calls of the one source that counts."""
    documents = list(_documents(place, one.name, one.kind))
    if is_filed:
        yield documents[0]
    elif one.source == ARCHIVE:
        yield f"{ARCHIVE} {place}", call("document_search", query=one.name)
        yield from documents
    else:
        yield f"{DATABASE} {place}", query(one.kind, [one.name], [NAME_COLUMNS[one.kind]])


def _about_all(alike: Sequence[tuple[str, str]], kind: str) -> Iterator[tuple[str, Call]]:
    for place, name in alike:
        yield f"{KNOWLEDGE_BASE} {place}", call("knowledge_base_lookup", entity=name)
        yield f"{API} {place}", call("api_call", url=ENTITY + name)
    names = [name for _, name in alike]
    yield f"{DATABASE} {ALL}", query(kind, names, [NAME_COLUMNS[kind]])
    yield f"{WEB} {ALL}", call("web_search", query=" ".join(names))
    yield f"{ARCHIVE} {ALL}", call("document_search", query=" ".join(names))
    yield f"{FILES} {ALL}", call("read_file", path=FILE_OF[kind])


def _about_unknown(place: str, wanted: Subject) -> Iterator[tuple[str, Call]]:
    """Yield the calls that find out who has a value."""
    yield f"{DATABASE} {place}", query(wanted.kind, [wanted.name], [wanted.field])
    yield f"{FILES} {place}", call("read_file", path=FILE_OF[wanted.kind])
    if wanted.kind == COUNTRY:  # a capital stands for its country
        yield f"{KNOWLEDGE_BASE} {place}", call("knowledge_base_lookup", entity=wanted.name)
        yield f"{API} {place}", call("api_call", url=ENTITY + wanted.name)
        yield f"{WEB} {place}", call("web_search", query=wanted.name)
        yield f"{ARCHIVE} {place}", call("document_search", query=wanted.name)


# -- answering --------------------------------------------------------------------------------------------------------


class _By:
    """Looks values up as one source said them last, and what it did not say as another one said it last."""

    def __init__(self, said: _Said, source: str) -> None:
        self._said = said
        self._source = source
        self.rests_on: list[Reading] = []
        self.support: list[int] = []
        self.today, self.note, self.page = said.today, said.note, said.page

    def __call__(self, name: str, field: str, source: str = "") -> Value:
        """Return the value by this source."""
        said = self._said.of(name, field, source)
        if not said:
            raise Missing
        return self._taken(([one for one in said if one.source == self._source] or said)[-1], source)

    def having(self, kind: str, field: str, value: str) -> list[str]:
        """Return whom this source gives the value."""
        found = []
        for name in self._said.named(field, value):
            said = self._said.of(name, field)
            last = ([one for one in said if one.source == self._source] or said)[-1]
            if last.value == value:
                found.append(name)
                self._taken(last, "")
                if kind == COUNTRY:
                    break
        if not found:
            raise Missing
        return found

    def _taken(self, one: Reading, source: str) -> Value:
        self.rests_on.append(one)
        self.support.append(self._said.support(one, source))
        return one.value


def _answers(family: Family, slots: Slots, said: _Said) -> list[Answer]:
    """Return the answer by each source that has said something of it; two that rest on the same values are one."""
    found: list[Answer] = []
    taken: list[list[tuple[str, str, Value]]] = []
    for source in SOURCES:
        look = _By(said, source)
        try:
            facts = family.solve(slots, look)
        except _NOTHING_FOLLOWS:
            continue
        answer = Answer(source, facts, tuple(look.rests_on), min(look.support, default=0))
        is_own = any(one.source == source for one in answer.rests_on)
        values = [(one.name, one.field, one.value) for one in answer.rests_on]
        if is_own and values not in taken:
            taken.append(values)
            found.append(answer)
    return found


def _moves(seen: View, family: Family, slots: Slots, said: _Said, answer: Answer) -> Iterator[tuple[int, str, Call]]:
    """Yield what can be done with an answer: the kind of move, its verb and the call."""
    document = _document(said, answer)
    if family.name == "filed" and document:
        yield _CHECKS, "check", call("hash_verify", data=document, expected_hash=slots["hash"])
    elif family.name == "contradiction":
        yield _CHECKS, "check", checks_of(family, answer.facts, answer.values, ())[0]
    elif family.name != "filed" and family.tier in ("intermediate", "expert"):
        yield from _compared(said, answer)
    for made in work_of(seen.question, family, answer.facts, answer.values, document)[-1:]:
        yield _WORK, "work", made
    for made in deed_of(seen.question, family, answer.facts):
        yield _RECORDS, "record", made
    yield _ANSWERS, "answer", submit(spelt(answer.facts), f"by the {answer.source}")


def _compared(said: _Said, answer: Answer) -> Iterator[tuple[int, str, Call]]:
    """Yield the checks of the reading that has most behind it: with another source's, and at the reference desk."""
    numbers = [one for one in answer.rests_on if not isinstance(one.value, str)]
    one = max(numbers or answer.rests_on, key=said.support)
    others = [other for other in said.of(one.name, one.field) if other.source != one.source]
    others = [other for other in others if agree(one.value, other.value)] or others
    if isinstance(one.value, str):
        if others:
            yield _CHECKS, "check", call("compare_values", value1=one.value, value2=others[0].value)
        return
    figure = f"{one.value:.12g}"
    if others and not isinstance(others[0].value, str):
        source = f"{one.field} of {one.name}: {others[0].value:.12g}"
        yield _CHECKS, "check", call("check_consistency", source1=figure, source2=source)
    yield _CHECKS, "fact", call("fact_check", claim=f"{one.name} {figure}")


def _document(said: _Said, answer: Answer) -> str:
    """Return the document that the answer was read in, if it was one."""
    steps = {one.step for one in answer.rests_on}
    texts = [json.loads(one.shown).get("body") for one in said.results if one.step in steps and one.tool == "api_call"]
    return next((text for text in texts if isinstance(text, str)), "")
