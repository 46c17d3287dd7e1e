"""The values of a program, and every operation on them, charged to the meter before it is carried out.

Values are Python's own: numbers, texts, lists, tuples, dictionaries, sets and ranges. Python's own operations on them
are used only where their cost is known beforehand. A list that holds another one many times is small to make and
endless to go through, so what goes through nested values is written here and charged item by item: comparing,
ordering, writing. Keys are flat, and a dictionary is charged as if all of its keys collided, because a program can
choose them so.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from chaosops_ray.sim.tools.limits import Meter, ToolError

MAX_BITS = 2_048
MAX_TEXT = 20_000
MAX_KEY_PARTS = 16
MAX_SHOWN_DEPTH = 4
MAX_SHOWN_ITEMS = 200
MAX_SHOWN_KEY = 200

# Bytes that Python takes, rounded up: for a value of each kind, and for what it holds.
NUMBER = 32
TEXT = 64
LIST = 64
SLOT = 8
TABLE = 232
ENTRY = 104
# So much of Python's own work takes as long as a step of the interpreter.
_CHARACTERS_A_STEP = 64
_COMPARED_CHARACTERS_A_STEP = 2_048
_SLOTS_A_STEP = 32
_PLACES_A_STEP = 16
_KEYS_A_STEP = 32
_BITS_A_STEP = 256
_ORDERINGS_A_STEP = 16
_CHARACTERS_A_WEIGHT = 256

_SPECIFICATION = re.compile(r",?(?:\.([0-9]{1,2}))?[fdeg%s]?")

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ON_SETS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Sub: operator.sub,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}
_ON_SETS_IN_PLACE: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Sub: operator.isub,
    ast.BitOr: operator.ior,
    ast.BitAnd: operator.iand,
    ast.BitXor: operator.ixor,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def kind_of(value: Any) -> str:
    """Name the kind of a value, for an error."""
    return type(value).__name__.lower()


def is_number(value: Any) -> bool:
    """Tell if a value is a number; truth values are."""
    return isinstance(value, int | float)


def _refuse(reason: str) -> NoReturn:
    raise ToolError(f"TypeError: {reason}")


class Values:
    """The operations on the values of one program."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    # -- making -------------------------------------------------------------------------------------------------------

    def reserve_text(self, length: int, *sources: str) -> None:
        """Charge for a text of this length, made of these."""
        if length > MAX_TEXT:
            raise ToolError("memory limit reached")
        width = 1 if all(source.isascii() for source in sources) else 4
        self.meter.hold(TEXT + width * length)
        self.meter.work(length // _CHARACTERS_A_STEP)

    def reserve_list(self, length: int) -> None:
        """Charge for a list or a tuple of this length."""
        self.meter.hold(LIST + SLOT * length)
        self.meter.work(length // _SLOTS_A_STEP)

    def checked(self, value: Any) -> Any:
        """Charge for a number that Python made, unless it is too large; any other value is returned as it is."""
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise ToolError("number too large")
            self.meter.hold(NUMBER + value.bit_length() // 8)
        return value

    def search(self, text: str, *parts: str) -> None:
        """Charge for looking for parts in a text, as if every character was compared with every character."""
        for part in parts:
            self.meter.work(len(text) * len(part) // _COMPARED_CHARACTERS_A_STEP + len(text) // _CHARACTERS_A_STEP)

    # -- keys ---------------------------------------------------------------------------------------------------------

    def weight(self, key: Any) -> int:
        """Return how much it is to hash or compare a key; ToolError where a value is not one."""
        if not isinstance(key, tuple):
            return _weight(key)
        if len(key) > MAX_KEY_PARTS:
            _refuse(f"a tuple of more than {MAX_KEY_PARTS} values is not a key here")
        return 1 + sum([_weight(part) for part in key])

    def seek(self, table: dict[Any, Any] | set[Any], key: Any) -> None:
        """Charge for finding a key in a dictionary or a set."""
        self.meter.work(self.weight(key) * (1 + len(table) // _KEYS_A_STEP))

    def seek_all(self, *tables: dict[Any, Any] | set[Any]) -> None:
        """Charge for finding every key of each table in every other one."""
        self.meter.work(sum([len(table) for table in tables]))
        weights = sum([self.weight(key) for table in tables for key in table])
        self.meter.work(weights * max([len(table) for table in tables]) // _KEYS_A_STEP)

    def reserve_table(self, *tables: dict[Any, Any] | set[Any]) -> None:
        """Charge for a table that is made of these."""
        self.seek_all(*tables)
        self.meter.hold(TABLE + ENTRY * sum([len(table) for table in tables]))

    def table_of(self, pairs: Any) -> dict[Any, Any]:
        """Make a dictionary of another, or of pairs."""
        if isinstance(pairs, dict):
            self.reserve_table(pairs)
            return dict(pairs)
        self.meter.hold(TABLE)
        made: dict[Any, Any] = {}
        for pair in self.walk(pairs):
            key, value = self.parts(pair, 2)
            self.put(made, key, value)
        return made

    def set_of(self, items: Iterable[Any]) -> set[Any]:
        """Make a set."""
        self.meter.hold(TABLE)
        made: set[Any] = set()
        for item in items:
            self.include(made, item)
        return made

    def include(self, group: set[Any], item: Any) -> None:
        """Add an item to a set."""
        self.seek(group, item)
        self.meter.hold(ENTRY)
        group.add(item)

    # -- going through ------------------------------------------------------------------------------------------------

    def walk(self, group: Any) -> Iterator[Any]:
        """Yield the items one by one, a step each; a range is never made into a list."""
        size = 0
        if isinstance(group, str):
            size = TEXT
        elif isinstance(group, range):
            size = NUMBER + max(group.start.bit_length(), group.stop.bit_length()) // 8
        elif isinstance(group, set):
            yield from self._walk_set(group)
            return
        elif not isinstance(group, list | tuple | dict):
            _refuse(f"{kind_of(group)} cannot be gone through")
        for item in group:
            self.meter.work()
            if size:
                self.meter.hold(size)
            yield item

    def _walk_set(self, group: set[Any]) -> Iterator[Any]:
        length = len(group)
        for item in self.arranged(group):
            self.meter.work()
            yield item
            if len(group) != length:
                raise ToolError("RuntimeError: the set was changed while it was gone through")

    def arranged(self, group: set[Any]) -> list[Any]:
        """List a set in the order of its items: Python's own order of texts differs from process to process."""
        self.reserve_list(len(group))
        self.meter.work(sum([self.weight(item) for item in group]) * len(group).bit_length() // _ORDERINGS_A_STEP)
        return sorted(group, key=_place)

    def items(self, group: Any) -> list[Any]:
        """List the items of any value that has some."""
        if isinstance(group, str | list | tuple | dict | set | range):
            self.reserve_list(len(group))
        return list(self.walk(group))

    def parts(self, value: Any, number: int) -> list[Any]:
        """List the items of a value that must have so many."""
        if isinstance(value, str | list | tuple | dict | set | range) and len(value) != number:
            raise ToolError("ValueError: wrong number of values to unpack")
        return self.items(value)

    # -- comparing ----------------------------------------------------------------------------------------------------

    def equal(self, left: Any, right: Any) -> bool:
        """Compare two values to their last item."""
        if not isinstance(left, list | tuple | dict | set):
            return self._same(left, right)
        waiting: list[tuple[Any, Any]] = [(left, right)]
        while waiting:
            first, second = waiting.pop()
            if first is second:
                continue
            if type(first) is not type(second) or not isinstance(first, list | tuple | dict | set):
                if self._same(first, second):
                    continue
                return False
            if len(first) != len(second):
                return False
            if isinstance(first, set):
                self.seek_all(first, second)
                if first != second:
                    return False
            elif isinstance(first, dict):
                self.seek_all(first, second)
                if first.keys() != second.keys():
                    return False
                waiting += [(value, second[key]) for key, value in first.items()]
            else:
                self.meter.work(len(first))
                waiting += zip(first, second, strict=True)
        return True

    def _same(self, left: Any, right: Any) -> bool:
        """Compare two values of which at most one holds others."""
        if isinstance(left, str) and isinstance(right, str):
            self.meter.work(min(len(left), len(right)) // _CHARACTERS_A_STEP)
        return bool(left == right)

    def ordered(self, kind: type[ast.cmpop], left: Any, right: Any) -> bool:
        """Tell if two values stand in this order (<, <=, > or >=)."""
        while type(left) is type(right) and isinstance(left, list | tuple):
            for first, second in zip(left, right, strict=False):
                self.meter.work()
                if first is not second and not self.equal(first, second):
                    left, right = first, second
                    break
            else:
                return _ORDER[kind](len(left), len(right))
        if isinstance(left, set) and isinstance(right, set):
            self.seek_all(left, right)
        elif isinstance(left, str) and isinstance(right, str):
            self.meter.work(min(len(left), len(right)) // _CHARACTERS_A_STEP)
        elif not (is_number(left) and is_number(right)):
            _refuse(f"{kind_of(left)} and {kind_of(right)} have no order")
        return _ORDER[kind](left, right)

    def contains(self, group: Any, item: Any) -> bool:
        """Tell if an item is in a value."""
        if isinstance(group, dict | set):
            self.seek(group, item)
            return item in group
        if isinstance(group, str):
            if not isinstance(item, str):
                _refuse("only a text is looked for in a text")
            self.search(group, item)
            return item in group
        if isinstance(group, range):
            if not isinstance(item, int):
                _refuse("only whole numbers are looked for in a range")
            return item in group
        if not isinstance(group, list | tuple):
            _refuse(f"nothing is looked for in {kind_of(group)}")
        return bool(self.places_of(group, item))

    def places_of(self, group: Sequence[Any], item: Any) -> list[int]:
        """List the places at which an item stands in a list or a tuple."""
        self.meter.work(len(group) // _PLACES_A_STEP)
        if isinstance(item, str):
            self.meter.work(len(group) * len(item) // _COMPARED_CHARACTERS_A_STEP)
        if _is_flat(item):  # whatever stands there, comparing it with this goes no deeper
            return [place for place, other in enumerate(group) if other is item or other == item]
        self.meter.work(len(group))
        return [place for place, other in enumerate(group) if other is item or self.equal(other, item)]

    # -- ordering -----------------------------------------------------------------------------------------------------

    def in_order(self, items: list[Any], by: list[Any], *, is_reversed: bool) -> list[Any]:
        """Sort items by the values that go with them."""
        self.reserve_list(2 * len(items))
        load = self._load(by)
        if load is None:
            self.meter.hold(NUMBER * 2 * len(by))
            by = [_InOrder(self, value) for value in by]
        else:
            self.meter.work(load * len(by).bit_length() // _ORDERINGS_A_STEP)
        order = sorted(range(len(by)), key=by.__getitem__, reverse=is_reversed)
        return [items[place] for place in order]

    def extreme(self, kind: type[ast.cmpop], items: list[Any], by: list[Any]) -> Any:
        """Return the first item whose value no other one's comes before (<) or after (>)."""
        if not items:
            raise ToolError("ValueError: min and max need a value")
        best = 0
        for place in range(1, len(items)):
            self.meter.work()
            if self.ordered(kind, by[place], by[best]):
                best = place
        return items[best]

    def _load(self, values: list[Any]) -> int | None:
        """Return how much it is to compare each value once; None where they are nested, or not of one kind."""
        self.meter.work(len(values) // 4)
        if all(is_number(value) for value in values):
            return len(values)
        if all(isinstance(value, str) for value in values):
            return sum([_weight(value) for value in values])
        if all(isinstance(value, tuple | list) and len(value) <= MAX_KEY_PARTS for value in values):
            parts = [part for value in values for part in value]
            self.meter.work(len(parts) // 4)
            if all(_is_flat(part) for part in parts):
                return len(values) + sum([_weight(part) for part in parts if isinstance(part, str)]) + len(parts)
        return None

    # -- operators ----------------------------------------------------------------------------------------------------

    def binary(self, kind: type[ast.operator], left: Any, right: Any) -> Any:
        """Apply an operator."""
        if is_number(left) and is_number(right) and kind in _ARITHMETIC:
            return self._arithmetic(kind, left, right)
        if kind is ast.Add and type(left) is type(right) and isinstance(left, str | list | tuple):
            length = len(left) + len(right)
            if isinstance(left, str):
                self.reserve_text(length, left, right)
            else:
                self.reserve_list(length)
            return left + right
        if kind is ast.Mult and isinstance(left, str | list | tuple) and isinstance(right, int):
            return self._repeated(left, right)
        if kind is ast.Mult and isinstance(right, str | list | tuple) and isinstance(left, int):
            return self._repeated(right, left)
        if kind in _ON_SETS and isinstance(left, set) and isinstance(right, set):
            self.reserve_table(left, right)
            return _ON_SETS[kind](left, right)
        if kind is ast.BitOr and isinstance(left, dict) and isinstance(right, dict):
            self.reserve_table(left, right)
            return left | right
        if kind is ast.Mod and isinstance(left, str):
            raise ToolError("% on text is not supported; use an f-string")
        if kind not in _ARITHMETIC and kind not in _ON_SETS:
            raise ToolError("this operator is not supported")
        return _refuse(f"{kind.__name__.lower()} is not supported between {kind_of(left)} and {kind_of(right)}")

    def _arithmetic(self, kind: type[ast.operator], left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            bits, more = left.bit_length(), right.bit_length()
            if kind is ast.Pow:
                made = max(bits, 1) * max(right, 1)
            else:
                made = bits + more if kind is ast.Mult else max(bits, more) + 1
            if made > MAX_BITS:
                raise ToolError("number too large")
            self.meter.work((bits + more) // _BITS_A_STEP)
            self.meter.hold(made // 8)
        self.meter.hold(NUMBER)
        value = _ARITHMETIC[kind](left, right)
        if isinstance(value, complex):
            raise ToolError("ValueError: the result is no real number")
        return value

    def _repeated(self, sequence: Any, times: int) -> Any:
        length = len(sequence) * max(times, 0)
        if isinstance(sequence, str):
            self.reserve_text(length, sequence)
        else:
            self.reserve_list(length)
        return sequence * times

    def in_place(self, kind: type[ast.operator], left: Any, right: Any) -> Any:
        """Apply an operator such as +=: what can be changed is changed, anything else is made again."""
        if isinstance(left, list) and kind is ast.Add:
            more = self.items(right)
            self.reserve_list(len(more))
            left.extend(more)
            return left
        if isinstance(left, list) and kind is ast.Mult and isinstance(right, int):
            left[:] = self._repeated(left, right)
            return left
        if isinstance(left, set) and isinstance(right, set) and kind in _ON_SETS_IN_PLACE:
            if kind is ast.BitAnd:
                self.reserve_table(left, right)
            else:
                self._reserve_more(left, right)
            return _ON_SETS_IN_PLACE[kind](left, right)
        if isinstance(left, dict) and kind is ast.BitOr:
            self.update(left, right)
            return left
        return self.binary(kind, left, right)

    def signed(self, value: Any, *, is_negative: bool) -> Any:
        """Return -value, or +value."""
        if not is_number(value):
            _refuse(f"{kind_of(value)} has no sign")
        return self.checked(-value if is_negative else +value)

    # -- items --------------------------------------------------------------------------------------------------------

    def item(self, group: Any, key: Any) -> Any:
        """Return the item at a place or of a key, or a part."""
        if isinstance(group, dict):
            self.seek(group, key)
            return group[key]
        if not isinstance(group, str | list | tuple | range):
            _refuse(f"{kind_of(group)} has no items to name")
        if isinstance(key, slice):
            self._reserve_part(group, key)
        elif not isinstance(key, int):
            _refuse("a place is a whole number")
        elif isinstance(group, str):
            self.meter.hold(TEXT)
        elif isinstance(group, range):
            self.meter.hold(NUMBER + MAX_BITS // 8)
        return group[key]

    def _reserve_part(self, group: Any, part: slice) -> None:
        for bound in (part.start, part.stop, part.step):
            if bound is not None and not isinstance(bound, int):
                _refuse("the bounds of a part are whole numbers")
        length = len(range(*part.indices(len(group))))
        if isinstance(group, str):
            self.reserve_text(length, group)
        else:
            self.reserve_list(0 if isinstance(group, range) else length)

    def put(self, group: Any, key: Any, value: Any) -> None:
        """Set the item at a place or of a key."""
        if isinstance(group, dict):
            self.seek(group, key)
            self.meter.hold(0 if key in group else ENTRY)
            group[key] = value
        elif isinstance(group, list) and isinstance(key, int):
            group[key] = value
        else:
            _refuse("this cannot be assigned to")

    def update(self, table: dict[Any, Any], pairs: Any) -> None:
        """Add the items of another dictionary, or pairs, to a dictionary."""
        more = self.table_of(pairs)
        self._reserve_more(table, more)
        table.update(more)

    def _reserve_more(self, table: dict[Any, Any] | set[Any], more: dict[Any, Any] | set[Any]) -> None:
        """Charge for adding the keys of one table to another."""
        self.meter.work(len(more))
        self.meter.work(sum([self.weight(key) for key in more]) * (1 + len(table) // _KEYS_A_STEP))
        self.meter.hold(ENTRY * len(more))

    # -- writing ------------------------------------------------------------------------------------------------------

    def text(self, value: Any) -> str:
        """Write a value for people: a text as it is, a number as Python does, anything else as JSON."""
        if isinstance(value, str):
            return value
        if value is None or is_number(value):
            self._reserve_figure(value)
            return str(value)
        return self.written(value)

    def written(self, value: Any) -> str:
        """Write a value as JSON."""
        text = json.dumps(self.shown(value))
        self.reserve_text(len(text), text)
        return text

    def shown(self, value: Any, depth: int = 0) -> Any:
        """Convert a value for JSON; whatever JSON has no form for becomes text."""
        self.meter.work()
        if depth > MAX_SHOWN_DEPTH:
            return "..."
        if isinstance(value, str):
            # Each time that it is written: JSON may write six characters for one, and twelve for one beyond 16 bits.
            self.meter.hold(TEXT + len(value) * (6 if value.isascii() else 12))
            self.meter.work(len(value) // _CHARACTERS_A_STEP)
            return value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            self._reserve_figure(value)
            is_plain = math.isfinite(value) if isinstance(value, float) else value.bit_length() < 1000
            return value if is_plain else str(value)
        if isinstance(value, list | tuple | range):
            return self._all_shown(value[:MAX_SHOWN_ITEMS], depth)
        if isinstance(value, set):
            return self._all_shown(self.arranged(value)[:MAX_SHOWN_ITEMS], depth=-1)
        if isinstance(value, dict):
            made: dict[str, Any] = {}
            for key, item in value.items():
                if len(made) >= MAX_SHOWN_ITEMS:
                    break
                self.meter.hold(ENTRY)
                made[self._shown_key(key)] = self.shown(item, depth + 1)
            return made
        return "a function"

    def _all_shown(self, items: Sequence[Any], depth: int) -> list[Any]:
        self.reserve_list(len(items))
        return [self.shown(item, depth + 1) for item in items]

    def _shown_key(self, key: Any) -> str:
        if isinstance(key, str):
            self.shown(key[:MAX_SHOWN_KEY])
            return key[:MAX_SHOWN_KEY]
        return self.written(key)[:MAX_SHOWN_KEY]

    def _reserve_figure(self, value: Any) -> None:
        if isinstance(value, int):
            self.meter.work(value.bit_length() // _BITS_A_STEP)
            self.meter.hold(value.bit_length() // 3)
        self.meter.hold(TEXT)

    def formatted(self, value: Any, specification: str) -> str:
        """Write a value in a format such as ",.2f"."""
        found = _SPECIFICATION.fullmatch(specification)
        if found is None:
            raise ToolError("this format is not supported; use for example {x:,.2f}")
        if not specification:
            return self.text(value)
        if not (isinstance(value, str) or is_number(value)):
            _refuse(f"{kind_of(value)} has no such format")
        if isinstance(value, str):
            self.reserve_text(len(value), value)
        else:
            whole = value.bit_length() if isinstance(value, int) else 1024
            self.meter.work((whole + 8 * int(found[1] or 0)) // _BITS_A_STEP)
            self.reserve_text(whole // 2 + int(found[1] or 0))
        return format(value, specification)


class _InOrder:
    """A value that Python's sort compares as the program would."""

    __slots__ = ("value", "values")

    def __init__(self, values: Values, value: Any) -> None:
        self.values = values
        self.value = value

    def __lt__(self, other: _InOrder) -> bool:
        return self.values.ordered(ast.Lt, self.value, other.value)


def _is_flat(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _weight(part: Any) -> int:
    if isinstance(part, str):
        return 1 + len(part) // _CHARACTERS_A_WEIGHT
    if isinstance(part, float) and math.isnan(part):
        raise ToolError("ValueError: NaN is not a key here")  # its hash is its address
    if not _is_flat(part):
        _refuse("a key or an item of a set is a number, a text or a flat tuple of them")
    return 1


def _place(key: Any) -> tuple[int, Any]:
    """Give a key its place among keys of all kinds."""
    if isinstance(key, tuple):
        return (3, tuple([_place(part) for part in key]))
    if isinstance(key, str):
        return (2, key)
    return (0, 0) if key is None else (1, key)
