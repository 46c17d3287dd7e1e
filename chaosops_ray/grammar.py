"""Completions that fit a JSON Schema: which tokens may come next.

Engines mask by it, and the learner takes log-probabilities among what they left: both run this code, on the same
tokens. A schema becomes an automaton over bytes, and a token is permitted where its bytes lead on and the object can
still be ended within the tokens and bytes that are left. So a completion always ends, and always fits.

Of JSON Schema, it reads what agents/forms.py writes: objects, `anyOf`, `const` and `enum` of text, and the types
string, integer and number. Properties stand in their order, with one space after a comma and a colon, as Python's
json module writes them; numbers are written out. docs/training.md tells why no library does this.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
# Digits after the point; Python writes no more of them without an exponent.
PLACES = 17
# The longest object. Its texts, spelt with an escape for every character, are within what every world reads.
MAX_BYTES = 2_000
# How many states' masks are kept of a schema. One within a string takes eight bytes for each token of the vocabulary.
_KEPT = 256
_DEAD, _START = 0, 1
_FAR, _LONGEST = 2**30, 2**15 - 1

Ids: TypeAlias = tuple[int, ...]
Integers: TypeAlias = NDArray[np.int32]


class GrammarError(ValueError):
    """A schema or a tokenizer that cannot be used, or tokens that the schema does not permit."""


# -- from a schema to an automaton ------------------------------------------------------------------------------------

_HEX = (b"09", b"af", b"AF")
# Bytes of UTF-8: continuations, and what each first byte asks for. Surrogates and overlong forms are left out.
_TAIL = (b"\x80\xbf",)
_UTF8: tuple[tuple[tuple[bytes, ...], ...], ...] = (
    ((b"\x20\x21", b"\x23\x5b", b"\x5d\x7f"),),
    ((b"\xc2\xdf",), _TAIL),
    ((b"\xe0\xe0",), (b"\xa0\xbf",), _TAIL),
    ((b"\xe1\xec", b"\xee\xef"), _TAIL, _TAIL),
    ((b"\xed\xed",), (b"\x80\x9f",), _TAIL),
    ((b"\xf0\xf0",), (b"\x90\xbf",), _TAIL, _TAIL),
    ((b"\xf1\xf3",), _TAIL, _TAIL, _TAIL),
    ((b"\xf4\xf4",), (b"\x80\x8f",), _TAIL, _TAIL),
)
_BACKSLASH, _D = (b"\\\\",), (b"dd", b"DD")
_ESCAPED_U = (_BACKSLASH, (b"uu",))
# Half a surrogate pair is no character, and no file can store it.
_ESCAPES: tuple[tuple[tuple[bytes, ...], ...], ...] = (
    (_BACKSLASH, tuple([bytes([c, c]) for c in b'"\\/bfnrt'])),
    (*_ESCAPED_U, (b"09", b"ac", b"ef", b"AC", b"EF"), _HEX, _HEX, _HEX),
    (*_ESCAPED_U, _D, (b"07",), _HEX, _HEX),
    (*_ESCAPED_U, _D, (b"89", b"ab", b"AB"), _HEX, _HEX, *_ESCAPED_U, _D, (b"cf", b"CF"), _HEX, _HEX),
)
_KNOWN = frozenset(
    [
        "anyOf",
        "const",
        "enum",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
    ]
)
_DIGIT, _FIRST_DIGIT = (b"09",), (b"19",)


class _Edges:
    """A nondeterministic automaton over bytes while it is built: each part is appended to a state."""

    def __init__(self) -> None:
        self.free: list[list[int]] = []
        self.reading: list[list[tuple[int, int, int]]] = []  # from a byte, to a byte, the state after it

    def state(self) -> int:
        self.free.append([])
        self.reading.append([])
        return len(self.free) - 1

    def read(self, at: int, ranges: Iterable[bytes], after: int | None = None) -> int:
        """Read one byte of these ranges."""
        after = self.state() if after is None else after
        self.reading[at] += [(low, high, after) for low, high in ranges]
        return after

    def text(self, at: int, text: str) -> int:
        for byte in text.encode():
            at = self.read(at, [bytes([byte, byte])])
        return at

    def join(self, states: Iterable[int]) -> int:
        """Go on from any of the states."""
        after = self.state()
        for state in states:
            self.free[state].append(after)
        return after

    def listed(self, at: int, texts: Iterable[str]) -> int:
        """Read one of the texts; they share their ends, of which long lists have many."""
        after = {b"": self.state()}
        for text in texts:
            whole = text.encode()
            for place in range(len(whole) - 1, 0, -1):
                if whole[place:] not in after:
                    after[whole[place:]] = self.state()
                    self.read(after[whole[place:]], [whole[place : place + 1] * 2], after[whole[place + 1 :]])
            self.read(at, [whole[:1] * 2], after[whole[1:]])
        return after[b""]

    def string(self, at: int) -> int:
        inside = self.text(at, '"')
        for kind in (*_UTF8, *_ESCAPES):
            place = inside
            for ranges in kind[:-1]:
                place = self.read(place, ranges)
            self.read(place, kind[-1], inside)
        return self.text(inside, '"')

    def number(self, at: int, digits: int, places: int, *, is_signed: bool) -> int:
        if is_signed:
            at = self.join([at, self.text(at, "-")])
        ends = [self.text(at, "0"), self.read(at, _FIRST_DIGIT)]
        for _ in range(digits - 1):
            ends.append(self.read(ends[-1], _DIGIT))
        return self._places(ends, places)

    def share(self, at: int) -> int:
        """Read a number from 0 to 1."""
        return self.join([self._places([self.text(at, "0")], PLACES), self._places([self.text(at, "1")], 1, (b"00",))])

    def _places(self, ends: list[int], places: int, digits: Iterable[bytes] = _DIGIT) -> int:
        if places:
            place = self.text(self.join(ends), ".")
            for _ in range(places):
                place = self.read(place, digits)
                ends.append(place)
        return self.join(ends)

    def value(self, at: int, schema: Mapping[str, Any]) -> int:
        """Read a value that fits the schema."""
        unknown = set(schema) - _KNOWN
        if unknown or schema.get("maxLength", MAX_BYTES) < MAX_BYTES:
            raise GrammarError(
                f"{sorted(unknown) or 'a maxLength'} of a schema would not be kept to: {str(schema)[:80]}"
            )
        if "anyOf" in schema:
            return self.join([self.value(at, one) for one in schema["anyOf"]])
        if "const" in schema or "enum" in schema:
            known = schema["enum"] if "enum" in schema else [schema["const"]]
            if not known or not all(isinstance(one, str) for one in known):
                raise GrammarError(f"const and enum of a schema list text, not {str(known)[:80]}")
            written = {json.dumps(one, ensure_ascii=ascii) for one in known for ascii in (False, True)}  # noqa: A001
            return self.listed(at, sorted(written))
        kind = schema.get("type")
        if isinstance(kind, list):
            return self.join([self.value(at, {**schema, "type": one}) for one in kind])
        if kind == "object":
            return self._object(at, schema)
        if kind == "string":
            return self.string(at)
        if kind in ("integer", "number"):
            return self._bounded(at, schema, PLACES if kind == "number" else 0)
        raise GrammarError(f"a schema of type {str(kind)[:40]!r} is not known here")

    def _bounded(self, at: int, schema: Mapping[str, Any], places: int) -> int:
        if places and (schema.get("minimum"), schema.get("maximum")) == (0, 1):
            return self.share(at)
        low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        digits = len(str(high)) - 1
        if not isinstance(high, int) or low != -high or high != 10**digits or not digits:
            raise GrammarError("a number of a schema lies between -10^n and 10^n, both excluded, or from 0 to 1")
        return self.number(at, digits, places, is_signed=True)

    def _object(self, at: int, schema: Mapping[str, Any]) -> int:
        if schema.get("additionalProperties") is not False:
            raise GrammarError("an object of a schema says additionalProperties: false")
        required = schema.get("required", [])
        none_yet: int | None = self.text(at, "{")  # where no property was written; None where one must have been
        some: list[int] = []
        for name, inner in schema.get("properties", {}).items():
            key = json.dumps(name, ensure_ascii=False) + ": "
            starts = [] if none_yet is None else [self.text(none_yet, key)]
            starts += [self.text(self.join(some), f", {key}")] if some else []
            end = self.value(self.join(starts), inner)
            if name in required:
                none_yet, some = None, [end]
            else:
                some = [*some, end]
        return self.join([self.text(end, "}") for end in ([] if none_yet is None else [none_yet]) + some])


def _table(schema: Mapping[str, Any]) -> tuple[Integers, int]:
    """Return the deterministic automaton of a schema: the state after each state and byte; it starts in _START.

    The state _DEAD is none, and the number that is returned too is the one state in which the object is complete.
    """
    edges = _Edges()
    first = edges.state()
    last = edges.value(first, schema)

    @lru_cache(None)
    def closed(states: frozenset[int]) -> frozenset[int]:
        found, new = set(states), list(states)
        while new:
            new = [after for state in new for after in edges.free[state] if after not in found]
            found.update(new)
        return frozenset([state for state in found if edges.reading[state] or state == last])

    numbers = {closed(frozenset([first])): _START}
    rows = [np.zeros(256, np.int32)]
    waiting = deque(numbers)
    ends = []
    while waiting:
        states = waiting.popleft()
        if last in states:
            ends.append(numbers[states])
        found: list[set[int]] = [set() for _ in range(256)]
        for low, high, after in [one for state in states for one in edges.reading[state]]:
            for byte in range(low, high + 1):
                found[byte].add(after)
        row = np.zeros(256, np.int32)
        memo: dict[frozenset[int], int] = {}
        for byte, into in enumerate(found):
            if into:
                key = frozenset(into)
                if key not in memo:
                    whole = closed(key)
                    if whole not in numbers:
                        numbers[whole] = len(numbers) + 1
                        waiting.append(whole)
                    memo[key] = numbers[whole]
                row[byte] = memo[key]
        rows.append(row)
    (end,) = ends
    if rows[end].any():
        raise GrammarError("a schema of one object is complete in one way only")
    return np.stack(rows), end


def least(schema: Mapping[str, Any]) -> int:
    """Return the tokens that any kind of object of the schema fits in, with the one that ends it: one for each byte.

    It is counted with empty texts and numbers of one digit, and with the longest of the texts that are listed.
    """
    return _bytes(schema) + 1


def _bytes(schema: Mapping[str, Any]) -> int:
    if "anyOf" in schema:
        return max([_bytes(one) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return max([len(json.dumps(one)) for one in schema.get("enum", [schema.get("const")])])
    if schema["type"] != "object":
        return len('""')
    inner = schema.get("properties", {})
    written = [len(json.dumps(name)) + len(": ") + _bytes(one) for name, one in inner.items()]
    return len("{}") + sum(written) + len(", ") * max(0, len(written) - 1)


def _distances(table: Integers, end: int, spelt: Iterable[int]) -> Integers:
    """Return how many bytes, each of them spelt as a token, lead from each state to the end; _FAR where none do."""
    before: list[set[int]] = [set() for _ in table]
    for byte in spelt:
        for state, after in enumerate(table[:, byte].tolist()):
            if after != _DEAD:
                before[after].add(state)
    found = np.full(len(table), _FAR, np.int32)
    found[end] = 0
    waiting = deque([end])
    while waiting:
        state = waiting.popleft()
        for earlier in before[state]:
            if found[earlier] == _FAR:
                found[earlier] = found[state] + 1
                waiting.append(earlier)
    return found


# -- a tokenizer's vocabulary as bytes --------------------------------------------------------------------------------

_SPACE = "\u2581"  # how SentencePiece writes a space


class Vocabulary:
    """The bytes of each token of a tokenizer; special and other added tokens have none, and no object holds them."""

    def __init__(self, model: Path) -> None:
        saved = json.loads((model / TOKENIZER_FILE).read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(model / TOKENIZER_FILE))
        added = {one["id"] for one in saved["added_tokens"]}
        read = _reader(saved["decoder"])
        spelt = {number: read(token) for token, number in tokenizer.get_vocab().items() if number not in added}
        self.of = {number: spelling for number, spelling in spelt.items() if spelling}
        self.single = {spelling[0] for spelling in self.of.values() if len(spelling) == 1}
        self.ids = np.array(sorted(self.of), np.int32)
        spellings = [self.of[number] for number in self.ids.tolist()]
        self.lengths = np.array([len(spelling) for spelling in spellings], np.int32)
        self.starts = np.cumsum(self.lengths, dtype=np.int32) - self.lengths
        self.bytes = np.frombuffer(b"".join(spellings), np.uint8)
        for text in ('{"a": "b c"}', '{"d": "\u00fc \u2192"}'):
            found = b"".join(
                [self.of.get(number, b"") for number in tokenizer.encode(text, add_special_tokens=False).ids]
            )
            if found.removeprefix(b" ") != text.encode():
                raise GrammarError(
                    f"the tokenizer of {model} writes {text!r} in tokens whose bytes are not known; "
                    "set rollout.structured to choices or no"
                )


def _reader(decoder: Any) -> Any:
    """Return what turns a token as the vocabulary spells it into bytes, by the tokenizer's own decoder."""
    kinds = [one["type"] for one in (decoder or {}).get("decoders", [decoder or {"type": "none"}])]
    if "ByteLevel" in kinds:
        table = _byte_level()
        return lambda token: bytes([table[one] for one in token]) if all(one in table for one in token) else b""
    if "ByteFallback" in kinds:
        return lambda token: (
            bytes([int(token[3:5], 16)])
            if len(token) == len("<0x00>") and token.startswith("<0x")
            else token.replace(_SPACE, " ").encode()
        )
    raise GrammarError(
        f"a tokenizer with the decoder {', '.join(kinds)} has tokens whose bytes are not known; byte-level and "
        "byte-fallback tokenizers are: set rollout.structured to choices or no for this model"
    )


def _byte_level() -> dict[str, int]:
    """Return the byte of each character in which byte-level vocabularies are spelt: those that print are themselves."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


# -- completions ------------------------------------------------------------------------------------------------------


class _After(NamedTuple):
    """Where the tokens of a vocabulary lead from a state, those that lead to the object's end at all."""

    ids: Integers
    distance: NDArray[np.int16]  # bytes from there to the end
    size: NDArray[np.int16]  # the token's bytes, and those to the end
    bits: bytes  # the same tokens, a bit for each of the vocabulary
    farthest: int
    longest: int


class Grammar:
    """A schema for the tokens of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, schema: str) -> None:
        self._vocabulary = vocabulary
        found = json.loads(schema)
        table, self.end = _table(found)
        self._distance = _distances(table, self.end, vocabulary.single)
        self._table = table
        self._kept: OrderedDict[int, _After] = OrderedDict()
        self.least = least(found)
        if self._distance[_START] == _FAR:
            raise GrammarError("the tokenizer has no tokens that spell the schema's objects byte by byte")
        if self.least > MAX_BYTES:
            raise GrammarError(f"the schema's objects take up to {self.least} bytes even if their texts are empty")

    def after(self, state: int) -> _After:
        """Return where tokens lead from a state."""
        if state in self._kept:
            self._kept.move_to_end(state)
            return self._kept[state]
        vocabulary, table = self._vocabulary, self._table
        rows = np.arange(len(vocabulary.ids), dtype=np.int32)
        states = np.full(len(rows), state, np.int32)
        ended: list[Integers] = []
        reached: list[Integers] = []
        place = 0
        while rows.size:
            states = table[states, vocabulary.bytes[vocabulary.starts[rows] + place]]
            rows, states = rows[states != _DEAD], states[states != _DEAD]
            place += 1
            is_end = vocabulary.lengths[rows] == place
            leads_on = is_end & (self._distance[states] < _FAR)
            ended.append(rows[leads_on])
            reached.append(states[leads_on])
            rows, states = rows[~is_end], states[~is_end]
        found = np.concatenate(ended)
        order = np.argsort(found)
        found = found[order]
        distance = self._distance[np.concatenate(reached)[order]]
        size = vocabulary.lengths[found] + distance
        farthest, longest = int(distance.max(initial=0)), int(size.max(initial=0))
        ids = vocabulary.ids[found]
        # What is cut here is beyond MAX_BYTES, and permitted nowhere.
        near, short = [np.minimum(one, _LONGEST).astype(np.int16) for one in (distance, size)]
        self._kept[state] = kept = _After(ids, near, short, _packed(ids), farthest, longest)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept

    def reached(self, state: int, token: int) -> tuple[int, int, int]:
        """Return the state that a token leads to, its distance from the end, and the token's bytes."""
        spelling = self._vocabulary.of.get(token, b"")
        for byte in spelling:
            state = int(self._table[state, byte])
        return state if spelling else _DEAD, int(self._distance[state]), len(spelling)


def _packed(ids: Integers) -> bytes:
    """Return tokens as bits, the lowest first."""
    is_permitted = np.zeros(int(ids.max(initial=-1)) + 1, bool)
    is_permitted[ids] = True
    return np.packbits(is_permitted, bitorder="little").tobytes()


class Writing:
    """A completion while it is written: an object in at most `limit` tokens, `stop` included, which ends it."""

    def __init__(self, grammar: Grammar, limit: int, stop: int) -> None:
        if limit < grammar.least:
            raise GrammarError(
                f"an object of the schema may take {grammar.least} tokens; raise max_tokens from {limit}"
            )
        self._grammar = grammar
        self._state = _START
        self._left = limit
        self._room = MAX_BYTES
        self._stop = stop

    @property
    def is_done(self) -> bool:
        """Tell if the completion has ended."""
        return self._state == _DEAD

    def allowed(self) -> Integers:
        """Return the tokens that may come next, in ascending order: all after which the object can still be ended."""
        if self._state in (_DEAD, self._grammar.end):
            return np.array([] if self.is_done else [self._stop], np.int32)
        return self._next()[0]

    def bits(self) -> bytes:
        """Return the same, with a bit for each token of the vocabulary up to the last one that is permitted."""
        if self._state in (_DEAD, self._grammar.end):
            return _packed(self.allowed())
        ids, bits = self._next()
        return _packed(ids) if bits is None else bits

    def _next(self) -> tuple[Integers, bytes | None]:
        """Return the tokens that may come next within an object, and their bits if these are kept."""
        after = self._grammar.after(self._state)
        if after.farthest + 2 <= self._left and after.longest <= self._room:
            return after.ids, after.bits
        return after.ids[(after.distance + 2 <= self._left) & (after.size <= self._room)], None

    def write(self, token: int) -> None:
        """Append a token."""
        if self._state == self._grammar.end and token == self._stop:
            self._state = _DEAD
            return
        after, distance, size = self._grammar.reached(self._state, token)
        if after == _DEAD or distance + 2 > self._left or size + distance > self._room:
            raise GrammarError(f"token {token} cannot stand here")
        self._state, self._left, self._room = after, self._left - 1, self._room - size


@lru_cache(4)
def vocabulary(model: str) -> Vocabulary:
    """Return the vocabulary of a model's folder, read once."""
    return Vocabulary(Path(model))


@lru_cache(64)
def grammar(model: str, schema: str) -> Grammar:
    """Return the grammar of a schema for the model of this folder, made once."""
    return Grammar(vocabulary(model), schema)
