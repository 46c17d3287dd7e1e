"""Regular expressions with a work limit.

The standard library parses the pattern; it is compiled here to a few kinds of instruction, and run by a backtracking
machine with a stack of its own and a meter, because `re` itself can be made to run for years. Groups, classes,
alternation, anchors and both kinds of repetition are understood; lookaround, back references and conditionals are
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

from chaosops_ray.sim.tools.limits import Meter, ToolError

MAX_PATTERN = 200
MAX_PROGRAM = 2_000
MAX_NESTING = 20
MAX_CLASS = 20
MAX_STEPS = 20_000

_CHARACTER, _SPLIT, _JUMP, _SAVE, _TEST, _MARK, _MOVED = range(7)
_ONE_CHARACTER = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)


def find_all(pattern: str, text: str, most: int) -> list[str]:
    """The matches from left to right: each one's first group, or the whole of it where that took no part."""
    if len(pattern) > MAX_PATTERN:
        raise ToolError(f"pattern longer than {MAX_PATTERN} characters")
    try:
        parsed = sre_parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ToolError(f"bad pattern: {error}") from None
    if parsed.state.flags & ~re.UNICODE:
        raise ToolError("pattern uses flags, which are not supported")
    program = _Program(parsed)
    meter = Meter(MAX_STEPS, 0)
    found: list[str] = []
    place = 0
    while place <= len(text) and len(found) < most:
        match = program.match(text, place, meter)
        if match is None:
            place += 1
            continue
        end, (group_start, group_end) = match
        found.append(text[place:end] if group_end < 0 else text[group_start:group_end])
        place = max(end, place + 1)
    return found


class _Program:
    """The compiled pattern: instructions, and how many registers they use; the first two hold the first group."""

    def __init__(self, parsed: Iterable[Any]) -> None:
        self.code: list[tuple[int, Any, Any]] = []
        self.registers = 2
        self.compiled = 0
        self.sequence(parsed, 0)

    def emit(self, kind: int, first: Any = None, second: Any = None) -> int:
        if len(self.code) >= MAX_PROGRAM:
            raise ToolError("pattern too large")
        self.code.append((kind, first, second))
        return len(self.code) - 1

    def sequence(self, parsed: Iterable[Any], nesting: int) -> None:
        if nesting > MAX_NESTING:
            raise ToolError("pattern nested too deeply")
        self.compiled += 1  # what repeats nothing makes no instruction, a million times over
        if self.compiled > MAX_PROGRAM:
            raise ToolError("pattern too large")
        for operation, argument in parsed:
            self.piece(operation, argument, nesting)

    def piece(self, operation: Any, argument: Any, nesting: int) -> None:
        if operation in _ONE_CHARACTER:
            self.emit(_CHARACTER, _accepts(operation, argument))
        elif operation is sre.AT:
            self.emit(_TEST, _ANCHORS[argument])
        elif operation is sre.BRANCH:
            self.branch(argument[1], nesting)
        elif operation is sre.SUBPATTERN:
            number, added, removed, inner = argument
            if added or removed:
                raise ToolError("pattern uses flags, which are not supported")
            if number == 1:
                self.emit(_SAVE, 0)
            self.sequence(inner, nesting + 1)
            if number == 1:
                self.emit(_SAVE, 1)
        elif operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = argument
            self.repeat(inner, least, most, operation is sre.MAX_REPEAT, nesting)
        else:
            raise ToolError(f"pattern uses {str(operation).lower()}, which is not supported")

    def branch(self, branches: list[Any], nesting: int) -> None:
        jumps = []
        for index, inner in enumerate(branches):
            last = index == len(branches) - 1
            split = -1 if last else self.emit(_SPLIT)
            self.sequence(inner, nesting + 1)
            if not last:
                jumps.append(self.emit(_JUMP))
                self.code[split] = (_SPLIT, split + 1, len(self.code))
        for jump in jumps:
            self.code[jump] = (_JUMP, len(self.code), None)

    def repeat(self, inner: Any, least: int, most: Any, greedy: bool, nesting: int) -> None:
        for _ in range(least):
            self.sequence(inner, nesting + 1)
        if most is sre.MAXREPEAT:
            register = self.registers
            self.registers += 1
            split = self.emit(_SPLIT)
            self.emit(_MARK, register)
            self.sequence(inner, nesting + 1)
            # A repetition that took nothing would go on for ever; it goes on behind the loop instead.
            self.emit(_MOVED, register, split)
            self.choose(split, greedy)
            return
        splits = []
        for _ in range(int(most) - least):
            splits.append(self.emit(_SPLIT))
            self.sequence(inner, nesting + 1)
        for split in splits:
            self.choose(split, greedy)

    def choose(self, split: int, greedy: bool) -> None:
        inside, behind = split + 1, len(self.code)
        self.code[split] = (_SPLIT, inside, behind) if greedy else (_SPLIT, behind, inside)

    def match(self, text: str, start: int, meter: Meter) -> tuple[int, tuple[int, int]] | None:
        """Where a match that begins here ends, and its first group; None where there is none."""
        code, length = self.code, len(text)
        waiting = [(0, start, (-1,) * self.registers)]
        while waiting:
            at, place, registers = waiting.pop()
            while at < len(code):
                meter.work()
                kind, first, second = code[at]
                at += 1
                if kind == _CHARACTER:
                    if place >= length or not first(text[place]):
                        break
                    place += 1
                elif kind == _SPLIT:
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
                    registers = (*registers[:first], place, *registers[first + 1 :])
            else:
                return place, (registers[0], registers[1])
        return None


def _word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and (text[place].isalnum() or text[place] == "_")


_ANCHORS: dict[Any, Callable[[str, int], bool]] = {
    sre.AT_BEGINNING: lambda _text, place: place == 0,
    sre.AT_BEGINNING_STRING: lambda _text, place: place == 0,
    sre.AT_END: lambda text, place: place == len(text) or (place == len(text) - 1 and text[place] == "\n"),
    sre.AT_END_STRING: lambda text, place: place == len(text),
    sre.AT_BOUNDARY: lambda text, place: _word(text, place - 1) != _word(text, place),
    sre.AT_NON_BOUNDARY: lambda text, place: _word(text, place - 1) == _word(text, place),
}


def _accepts(operation: Any, argument: Any) -> Callable[[str], bool]:
    if operation is sre.LITERAL:
        return lambda c: ord(c) == argument
    if operation is sre.NOT_LITERAL:
        return lambda c: ord(c) != argument
    if operation is sre.ANY:
        return lambda c: c != "\n"
    negated = argument[0][0] is sre.NEGATE
    members = argument[1:] if negated else argument
    listed = frozenset([chr(value) for kind, value in members if kind is sre.LITERAL])
    tests = [_member(kind, value) for kind, value in members if kind is not sre.LITERAL]
    if len(tests) > MAX_CLASS:
        raise ToolError("pattern too large")
    return lambda c: (c in listed or any(test(c) for test in tests)) != negated


_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda c: not c.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    sre.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    sre.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}


def _member(kind: Any, value: Any) -> Callable[[str], bool]:
    if kind is sre.RANGE:
        low, high = value
        return lambda c: low <= ord(c) <= high
    return _CATEGORIES[value]
