"""Regular expressions with a work limit.

A pattern is parsed here, compiled to a few kinds of instruction, and run by a backtracking machine with a stack of its
own and a meter, because `re` can be made to run for years. Groups, classes, alternation, anchors and both kinds of
repetition are understood as `re` understands them; lookaround, back references, conditionals, atomic groups, possessive
repetition and flags are refused.

Parser, compiler and machine share one syntax tree, one instruction set and one set of limits, so they are one module.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeAlias

from chaosops_ray.sim.tools.limits import Meter, ToolError

MAX_PATTERN = 200
MAX_PROGRAM = 2_000
MAX_NESTING = 20
MAX_CLASS = 20
MAX_STEPS = 20_000
MAX_MEMORY = 4_000_000
# So much of Python's own work takes as long as a step of the machine.
_TESTS_A_STEP = 2
_REGISTERS_A_STEP = 16
# Bytes of a place to go back to, and of registers beside what they hold.
_PLACE = 96
_REGISTERS = 64
_REGISTER = 8

_CHARACTER, _SPLIT, _JUMP, _SAVE, _TEST, _MARK, _MOVED = range(7)


def find_all(pattern: str, text: str, most: int) -> list[str]:
    """Return the matches from left to right: each one's first group, or the whole of it where that took no part."""
    if len(pattern) > MAX_PATTERN:
        raise ToolError(f"pattern longer than {MAX_PATTERN} characters")
    program = _Program(_Parser(pattern).parsed(), Meter(MAX_STEPS, MAX_MEMORY))
    found: list[str] = []
    place = 0
    while place <= len(text) and len(found) < most:
        match = program.match(text, place)
        if match is None:
            place += 1
            continue
        end, (group_start, group_end) = match
        found.append(text[place:end] if group_end < 0 else text[group_start:group_end])
        place = max(end, place + 1)
    return found


# -- what a pattern is made of ----------------------------------------------------------------------------------------

_Test: TypeAlias = Callable[[str], bool]


class _Character(NamedTuple):
    accepts: _Test
    steps: int = 1  # what it takes to try it


class _Anchor(NamedTuple):
    holds: Callable[[str, int], bool]


class _Group(NamedTuple):
    inner: _Pattern
    number: int | None  # a match is reported by the first; None where it is not counted


class _Repeat(NamedTuple):
    inner: _Pattern
    least: int
    most: int | None
    is_greedy: bool


class _Branch(NamedTuple):
    branches: list[_Pattern]


_Piece: TypeAlias = _Character | _Anchor | _Group | _Repeat | _Branch
_Pattern: TypeAlias = list[_Piece]


def _is_word(c: str) -> bool:
    return c.isalnum() or c == "_"


def _at_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and _is_word(text[place])


_CATEGORIES: dict[str, _Test] = {
    "d": str.isdecimal,
    "D": lambda c: not c.isdecimal(),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
    "w": _is_word,
    "W": lambda c: not _is_word(c),
}
_ANCHORS: dict[str, _Anchor] = {
    "^": _Anchor(lambda _text, place: place == 0),
    "A": _Anchor(lambda _text, place: place == 0),
    "$": _Anchor(lambda text, place: place == len(text) or (place == len(text) - 1 and text[place] == "\n")),
    "Z": _Anchor(lambda text, place: place == len(text)),
    "b": _Anchor(lambda text, place: _at_word(text, place - 1) != _at_word(text, place)),
    "B": _Anchor(lambda text, place: _at_word(text, place - 1) == _at_word(text, place)),
}
_NOT_A_LINE = _Character(lambda c: c != "\n")
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_DIGITS = "0123456789"
_OCTAL = "01234567"
_HEXADECIMAL = "0123456789abcdefABCDEF"
_MAX_OCTAL = 0o377
# No count of repetitions can be as large; what is smaller meets MAX_PROGRAM.
_MAX_REPEAT = 2**32 - 1


# -- parsing ----------------------------------------------------------------------------------------------------------


class _Parser:
    """A pattern, read from left to right; nothing is looked at twice but a brace that turns out to be text."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0
        self._groups = 0
        self._names: set[str] = set()

    def parsed(self) -> _Pattern:
        """Read all of it."""
        found = self._branches(0)
        if self._place < len(self._pattern):
            self._fail("unbalanced parenthesis")
        return found

    def _fail(self, reason: str, place: int | None = None) -> NoReturn:
        raise ToolError(f"bad pattern: {reason} at position {self._place if place is None else place}")

    def _next(self) -> str:
        """The character here, or nothing at the end."""
        return self._pattern[self._place : self._place + 1]

    def _take(self) -> str:
        c = self._next()
        self._place += len(c)
        return c

    def _takes(self, text: str) -> bool:
        """Step over this text if it stands here."""
        found = self._pattern.startswith(text, self._place)
        self._place += len(text) if found else 0
        return found

    def _until(self, end: str, what: str) -> str:
        """The text up to the end mark, which is stepped over."""
        at = self._pattern.find(end, self._place)
        if at < 0:
            self._fail(f"missing {end}, unterminated {what}")
        text, self._place = self._pattern[self._place : at], at + 1
        if not text:
            self._fail(f"missing {what}")
        return text

    def _branches(self, nesting: int) -> _Pattern:
        if nesting > MAX_NESTING:
            raise ToolError("pattern nested too deeply")
        branches = [self._sequence(nesting)]
        while self._takes("|"):
            branches.append(self._sequence(nesting))
        if len(branches) == 1:
            return branches[0]
        single = [piece for branch in branches for piece in branch if isinstance(piece, _Character)]
        if len(single) == len(branches) and all(len(branch) == 1 for branch in branches):
            tests = [piece.accepts for piece in single]  # (a|b) is [ab], in fewer steps
            return [_either(lambda c: any(test(c) for test in tests), sum([piece.steps for piece in single]))]
        return [_Branch(branches)]

    def _sequence(self, nesting: int) -> _Pattern:
        found: _Pattern = []
        while (c := self._next()) and c not in "|)":
            start = self._place
            self._place += 1
            if c == "(":
                group = self._group(nesting, start)
                found += [] if group is None else [group]
            elif c == "[":
                found.append(self._class(start))
            elif c == ".":
                found.append(_NOT_A_LINE)
            elif c in "^$":
                found.append(_ANCHORS[c])
            elif c == "\\":
                found.append(self._escaped(start))
            elif c in "*+?{":
                counts = self._counts(c, start)
                if counts is None:
                    found.append(_literal(c))
                else:
                    self._repeat(found, counts, start)
            else:
                found.append(_literal(c))
        return found

    # -- groups -------------------------------------------------------------------------------------------------------

    def _group(self, nesting: int, start: int) -> _Group | None:
        """Parse a group after its opening parenthesis; None for a comment."""
        is_counted = not self._takes("?")
        if not is_counted and not self._takes(":"):
            if self._takes("#"):
                if ")" not in self._pattern[self._place :]:
                    self._fail("missing ), unterminated comment", start)
                self._place = self._pattern.index(")", self._place) + 1
                return None
            self._named(start)
            is_counted = True
        if is_counted:
            self._groups += 1
        number = self._groups if is_counted else None
        inner = self._branches(nesting + 1)
        if not self._takes(")"):
            self._fail("missing ), unterminated subpattern", start)
        return _Group(inner, number)

    def _named(self, start: int) -> None:
        """The name of a group such as (?P<year>…); every other extension is refused."""
        kind = self._pattern[self._place : self._place + 2]
        if kind != "P<":
            refused = [what for opening, what in _REFUSED if self._pattern.startswith(opening, self._place)]
            if not refused:
                self._fail(f"unknown extension ?{kind[:1]}" if kind else "unexpected end of pattern", start + 1)
            raise ToolError(f"pattern uses {refused[0]} not supported")
        self._place += 2
        name = self._until(">", "group name")
        if not name.isidentifier() or name in self._names:
            self._fail(f"bad or repeated group name {name!r}", start)
        self._names.add(name)

    # -- repetition ---------------------------------------------------------------------------------------------------

    def _counts(self, c: str, start: int) -> tuple[int, int | None] | None:
        """Parse the least and greatest count of a repetition; None where the brace is plain text."""
        if c != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[c]
        low = self._digits()
        high = self._digits() if self._takes(",") else low
        is_range = self._pattern[start + 1 : self._place].find(",") >= 0
        if not self._takes("}") or not (low or is_range):
            self._place = start + 1
            return None
        least, most = int(low or "0"), int(high) if high else None
        if max(least, most or 0) >= _MAX_REPEAT:
            raise ToolError("bad pattern: the repetition number is too large")
        if most is not None and most < least:
            self._fail("min repeat greater than max repeat", start)
        return least, most

    def _digits(self) -> str:
        start = self._place
        while self._next() and self._next() in _DIGITS:
            self._place += 1
        return self._pattern[start : self._place]

    def _repeat(self, found: _Pattern, counts: tuple[int, int | None], start: int) -> None:
        """Repeat the last piece that was found."""
        if not found or isinstance(found[-1], _Anchor):
            self._fail("nothing to repeat", start)
        if isinstance(found[-1], _Repeat):
            self._fail("multiple repeat", start)
        is_greedy = not self._takes("?")
        if is_greedy and self._takes("+"):
            raise ToolError("pattern uses possessive repetition, which is not supported")
        last = found[-1]
        inner: _Pattern = last.inner if isinstance(last, _Group) and last.number is None else [last]
        found[-1] = _Repeat(inner, *counts, is_greedy)

    # -- characters ---------------------------------------------------------------------------------------------------

    def _escaped(self, start: int) -> _Piece:
        """Parse an escape outside a class, after its backslash."""
        c = self._next()
        if c in ("A", "Z", "b", "B"):
            self._place += 1
            return _ANCHORS[c]
        if c in _CATEGORIES:
            self._place += 1
            return _Character(_CATEGORIES[c])
        if c and c in _DIGITS and c != "0" and not self._octal_here():
            raise ToolError("pattern uses a back reference, which is not supported")
        return _literal(self._character(start))

    def _octal_here(self) -> bool:
        """Tell if three octal digits stand here: a character by its number, and no back reference."""
        digits = self._pattern[self._place : self._place + 3]
        return len(digits) == 3 and all(digit in _OCTAL for digit in digits)

    def _character(self, start: int) -> str:
        """The one character that an escape stands for, in a class or outside."""
        c = self._take()
        if not c:
            self._fail("bad escape (end of pattern)", start)
        if c in _CONTROLS:
            return _CONTROLS[c]
        if c in _HEX_DIGITS:
            return self._by_number(c, _HEX_DIGITS[c], start)
        if c == "N":
            return self._by_name(start)
        if c in _DIGITS:
            return self._by_octal(c, start)
        if c.isascii() and c.isalpha():
            self._fail(f"bad escape \\{c}", start)
        return c

    def _by_number(self, kind: str, length: int, start: int) -> str:
        digits = self._pattern[self._place : self._place + length]
        if len(digits) < length or any(digit not in _HEXADECIMAL for digit in digits) or int(digits, 16) > 0x10FFFF:
            self._fail(f"bad escape \\{kind}{digits}", start)
        self._place += length
        return chr(int(digits, 16))

    def _by_name(self, start: int) -> str:
        if not self._takes("{"):
            self._fail("missing {", start)
        name = self._until("}", "character name")
        try:
            named = unicodedata.lookup(name)
        except (KeyError, ValueError):
            named = ""
        if len(named) != 1:  # some names are those of several characters
            self._fail(f"undefined character name {name!r}", start)
        return named

    def _by_octal(self, first: str, start: int) -> str:
        digits = first
        while len(digits) < 3 and self._next() and self._next() in _OCTAL:
            digits += self._take()
        if first not in _OCTAL:
            self._fail(f"bad escape \\{first}", start)
        if int(digits, 8) > _MAX_OCTAL:
            self._fail(f"octal escape value \\{digits} outside of range 0-0o377", start)
        return chr(int(digits, 8))

    # -- classes ------------------------------------------------------------------------------------------------------

    def _class(self, start: int) -> _Character:
        """Parse a class after its opening bracket."""
        is_negated = self._takes("^")
        listed: set[str] = set()
        tests: list[_Test] = []
        is_first = True
        while is_first or self._next() != "]":
            is_first = False
            at = self._place
            low = self._member(start)
            if self._next() == "-" and self._pattern[self._place + 1 : self._place + 2] not in ("]", ""):
                self._place += 1
                high = self._member(start)
                if not isinstance(low, str) or not isinstance(high, str) or low > high:
                    self._fail(f"bad character range {self._pattern[at : self._place]}", at)
                tests.append(_between(low, high))
            elif isinstance(low, str):
                listed.add(low)
            else:
                tests.append(low)
        self._place += 1
        if len(tests) > MAX_CLASS:
            raise ToolError("pattern too large")
        characters = frozenset(listed)
        return _either(lambda c: (c in characters or any(test(c) for test in tests)) != is_negated, len(tests))

    def _member(self, start: int) -> str | _Test:
        """A character of a class, or a category of them."""
        at = self._place
        c = self._take()
        if not c:
            self._fail("unterminated character set", start)
        if c != "\\":
            return c
        escaped = self._next()
        if escaped in _CATEGORIES:
            self._place += 1
            return _CATEGORIES[escaped]
        if escaped == "b":
            self._place += 1
            return "\b"
        return self._character(at)


# What may follow an opening parenthesis and a question mark in `re`, and is not supported here.
_REFUSED = (
    ("P=", "a back reference, which is"),
    ("=", "lookahead, which is"),
    ("!", "lookahead, which is"),
    ("<=", "lookbehind, which is"),
    ("<!", "lookbehind, which is"),
    (">", "an atomic group, which is"),
    ("(", "a conditional, which is"),
    *[(flag, "flags, which are") for flag in "aiLmsux-"],
)


def _literal(expected: str) -> _Character:
    return _Character(lambda c: c == expected)


def _either(accepts: _Test, tests: int) -> _Character:
    return _Character(accepts, 1 + tests // _TESTS_A_STEP)


def _between(low: str, high: str) -> _Test:
    return lambda c: low <= c <= high


# -- compiling and matching -------------------------------------------------------------------------------------------


class _Program:
    """The compiled pattern: instructions, and the number of their registers; the first two hold the first group."""

    def __init__(self, parsed: _Pattern, meter: Meter) -> None:
        self.meter = meter
        self.code: list[tuple[int, Any, Any]] = []
        self.registers = 2
        self.compiled = 0
        self.sequence(parsed, 0)

    def emit(self, kind: int, first: Any = None, second: Any = None) -> int:
        if len(self.code) >= MAX_PROGRAM:
            raise ToolError("pattern too large")
        self.meter.work()
        self.code.append((kind, first, second))
        return len(self.code) - 1

    def sequence(self, parsed: _Pattern, nesting: int) -> None:
        if nesting > MAX_NESTING:
            raise ToolError("pattern nested too deeply")
        self.compiled += 1  # what repeats nothing makes no instruction, a million times over
        if self.compiled > MAX_PROGRAM:
            raise ToolError("pattern too large")
        for piece in parsed:
            self.piece(piece, nesting)

    def piece(self, piece: _Piece, nesting: int) -> None:
        match piece:
            case _Character(accepts, steps):
                self.emit(_CHARACTER, accepts, steps)
            case _Anchor(holds):
                self.emit(_TEST, holds)
            case _Branch(branches):
                self.branch(branches, nesting + 1)
            case _Group(inner, number):
                if number == 1:
                    self.emit(_SAVE, 0)
                self.sequence(inner, nesting + 1)
                if number == 1:
                    self.emit(_SAVE, 1)
            case _Repeat():
                self.repeat(piece, nesting + 1)

    def branch(self, branches: list[_Pattern], nesting: int) -> None:
        jumps = []
        for index, inner in enumerate(branches):
            last = index == len(branches) - 1
            split = -1 if last else self.emit(_SPLIT)
            self.sequence(inner, nesting)
            if not last:
                jumps.append(self.emit(_JUMP))
                self.code[split] = (_SPLIT, split + 1, len(self.code))
        for jump in jumps:
            self.code[jump] = (_JUMP, len(self.code), None)

    def repeat(self, repeated: _Repeat, nesting: int) -> None:
        inner, least, most, is_greedy = repeated
        for _ in range(least):
            self.sequence(inner, nesting)
        if most is None:
            register = self.registers
            self.registers += 1
            split = self.emit(_SPLIT)
            self.emit(_MARK, register)
            self.sequence(inner, nesting)
            # A repetition that took nothing would go on for ever; it goes on behind the loop instead.
            self.emit(_MOVED, register, split)
            self.choose(split, is_greedy)
            return
        splits = []
        for _ in range(most - least):
            splits.append(self.emit(_SPLIT))
            self.sequence(inner, nesting)
        for split in splits:
            self.choose(split, is_greedy)

    def choose(self, split: int, is_greedy: bool) -> None:
        inside, behind = split + 1, len(self.code)
        self.code[split] = (_SPLIT, inside, behind) if is_greedy else (_SPLIT, behind, inside)

    def match(self, text: str, start: int) -> tuple[int, tuple[int, int]] | None:
        """Return where a match that begins here ends, and its first group; None where there is none."""
        code, length, meter = self.code, len(text), self.meter
        size = _REGISTERS + _REGISTER * self.registers
        meter.hold(size)
        waiting = [(0, start, (-1,) * self.registers)]
        while waiting:
            at, place, registers = waiting.pop()
            while at < len(code):
                meter.work()
                kind, first, second = code[at]
                at += 1
                if kind == _CHARACTER:
                    if second > 1:
                        meter.work(second - 1)
                    if place >= length or not first(text[place]):
                        break
                    place += 1
                elif kind == _SPLIT:
                    meter.hold(_PLACE)
                    waiting.append((second, place, registers))
                    at = first
                elif kind == _JUMP:
                    at = first
                elif kind == _TEST:
                    if not first(text, place):
                        break
                elif kind == _MOVED:
                    at = second if registers[first] != place else at
                else:  # both kinds that are left keep the place
                    meter.work(self.registers // _REGISTERS_A_STEP)
                    meter.hold(size)
                    registers = (*registers[:first], place, *registers[first + 1 :])
            else:
                return place, (registers[0], registers[1])
        return None
