"""Regular expressions with a work limit.

The standard library parses the pattern; matching is done here, by backtracking that is metered, because `re` itself
can be made to run for years. Groups, classes, alternation, anchors and both kinds of repetition are understood;
lookaround, back references and conditionals are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, TypeAlias

from chaosops_ray.sim.tools.limits import Meter, ToolError

MAX_PATTERN = 200
MAX_STEPS = 20_000
# Deeper backtracking than this would meet the interpreter's own recursion limit.
MAX_DEPTH = 250

# From a place in the text, hand every place where the piece may end to the rest; True when the rest is satisfied.
Rest: TypeAlias = Callable[[int], bool]
Piece: TypeAlias = Callable[[int, Rest], bool]


def find_all(pattern: str, text: str, most: int) -> list[str]:
    """The matches from left to right: each one's first group, or the whole of it where the pattern has no group."""
    if len(pattern) > MAX_PATTERN:
        raise ToolError(f"pattern longer than {MAX_PATTERN} characters")
    try:
        parsed = sre_parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ToolError(f"bad pattern: {error}") from None
    machine = _Machine(text)
    whole = machine.sequence(parsed, 0)
    found: list[str] = []
    place = 0
    while place <= len(text) and len(found) < most:
        machine.groups.clear()
        machine.end = -1
        if whole(place, machine.accept):
            start, end = machine.groups.get(1, (place, machine.end))
            found.append(text[start:end])
            place = max(machine.end, place + 1)
        else:
            place += 1
    return found


class _Machine:
    def __init__(self, text: str) -> None:
        self.text = text
        self.groups: dict[int, tuple[int, int]] = {}
        self.end = -1
        self.meter = Meter(MAX_STEPS, 0)
        self.depth = 0

    def accept(self, place: int) -> bool:
        self.end = place
        return True

    def sequence(self, parsed: Iterable[Any], nesting: int) -> Piece:
        if nesting > 20:
            raise ToolError("pattern nested too deeply")
        pieces = [self.piece(operation, argument, nesting) for operation, argument in parsed]

        def run(place: int, rest: Rest, index: int = 0) -> bool:
            if index == len(pieces):
                return rest(place)
            return self.step(pieces[index], place, lambda after: run(after, rest, index + 1))

        return run

    def step(self, piece: Piece, place: int, rest: Rest) -> bool:
        self.meter.work()
        if self.depth >= MAX_DEPTH:
            raise ToolError("work limit reached")
        self.depth += 1
        try:
            return piece(place, rest)
        finally:
            self.depth -= 1

    def piece(self, operation: Any, argument: Any, nesting: int) -> Piece:
        if operation in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return self.one(_accepts(operation, argument))
        if operation is sre.AT:
            return self.anchor(argument)
        if operation is sre.BRANCH:
            branches = [self.sequence(branch, nesting + 1) for branch in argument[1]]
            return lambda place, rest: any(self.step(branch, place, rest) for branch in branches)
        if operation is sre.SUBPATTERN:
            return self.group(argument[0], self.sequence(argument[3], nesting + 1))
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = argument
            # One character repeated is run through in a loop: no recursion, however long the run.
            if len(inner) == 1 and inner[0][0] in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
                return self.run_of(_accepts(*inner[0]), least, most, operation is sre.MAX_REPEAT)
            return self.repeat(self.sequence(inner, nesting + 1), least, most, operation is sre.MAX_REPEAT)
        raise ToolError(f"pattern uses {str(operation).lower()}, which is not supported")

    def one(self, accepts: Callable[[str], bool]) -> Piece:
        text = self.text
        return lambda place, rest: place < len(text) and accepts(text[place]) and rest(place + 1)

    def anchor(self, kind: Any) -> Piece:
        text = self.text

        def word(place: int) -> bool:
            return 0 <= place < len(text) and (text[place].isalnum() or text[place] == "_")

        tests: dict[Any, Callable[[int], bool]] = {
            sre.AT_BEGINNING: lambda place: place == 0,
            sre.AT_BEGINNING_STRING: lambda place: place == 0,
            sre.AT_END: lambda place: place == len(text) or text[place:] == "\n",
            sre.AT_END_STRING: lambda place: place == len(text),
            sre.AT_BOUNDARY: lambda place: word(place - 1) != word(place),
            sre.AT_NON_BOUNDARY: lambda place: word(place - 1) == word(place),
        }
        test = tests[kind]
        return lambda place, rest: test(place) and rest(place)

    def group(self, number: int | None, inner: Piece) -> Piece:
        if number is None:
            return inner

        def run(place: int, rest: Rest) -> bool:
            before = self.groups.get(number)

            def closed(end: int) -> bool:
                self.groups[number] = (place, end)
                return rest(end)

            if inner(place, closed):
                return True
            if before is None:
                self.groups.pop(number, None)
            else:
                self.groups[number] = before
            return False

        return run

    def run_of(self, accepts: Callable[[str], bool], least: int, most: Any, greedy: bool) -> Piece:
        text = self.text

        def run(place: int, rest: Rest) -> bool:
            end = place
            limit = len(text) if most is sre.MAXREPEAT else min(len(text), place + int(most))
            while end < limit and accepts(text[end]):
                end += 1
            self.meter.work(end - place)
            first = place + least
            ends = range(end, first - 1, -1) if greedy else range(first, end + 1)
            return any(self.step(lambda at, go: go(at), candidate, rest) for candidate in ends)

        return run

    def repeat(self, inner: Piece, least: int, most: Any, greedy: bool) -> Piece:
        def run(place: int, rest: Rest, count: int = 0) -> bool:
            def again(after: int) -> bool:
                # A repetition that took nothing would go on for ever.
                return after != place and run(after, rest, count + 1)

            may_go_on = most is sre.MAXREPEAT or count < most
            if count < least:
                return self.step(inner, place, lambda after: run(after, rest, count + 1))
            if greedy:
                return (may_go_on and self.step(inner, place, again)) or rest(place)
            return rest(place) or (may_go_on and self.step(inner, place, again))

        return run


def _accepts(operation: Any, argument: Any) -> Callable[[str], bool]:
    if operation is sre.LITERAL:
        return lambda c: ord(c) == argument
    if operation is sre.NOT_LITERAL:
        return lambda c: ord(c) != argument
    if operation is sre.ANY:
        return lambda c: c != "\n"
    negated = argument[0][0] is sre.NEGATE
    tests = [_member(kind, value) for kind, value in (argument[1:] if negated else argument)]
    return lambda c: any(test(c) for test in tests) != negated


_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda c: not c.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    sre.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    sre.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}


def _member(kind: Any, value: Any) -> Callable[[str], bool]:
    if kind is sre.LITERAL:
        return lambda c: ord(c) == value
    if kind is sre.RANGE:
        low, high = value
        return lambda c: low <= ord(c) <= high
    return _CATEGORIES[value]
