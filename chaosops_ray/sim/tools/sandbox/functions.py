"""The functions and methods that a program may call: all there are, each with the number of arguments it takes."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from chaosops_ray.sim.speech import decode
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.sandbox.values import ENTRY, LIST, SLOT, TEXT, Values, is_number, kind_of

ANY_NAME = ("*",)  # of the arguments that a function takes by name
MAX_FIGURE = 100  # characters of a text that is read as a number
MAX_ROUNDED = 50  # digits that are rounded to
# What reading JSON takes: the smallest lists and dictionaries, one every few characters.
_BYTES_A_CHARACTER = 48
_CHARACTERS_A_STEP = 4


class Host(Protocol):
    """The interpreter, as far as a function needs it."""

    values: Values
    printed: list[str]

    def call(self, function: Any, given: list[Any], named: dict[str, Any]) -> Any:
        """Call a function of the program, or a listed one."""
        ...


class Builtin:
    """A listed function or method; what it runs takes the host, for a method the value it belongs to, the arguments."""

    __slots__ = ("least", "most", "name", "named", "run")

    def __init__(
        self, name: str, run: Callable[..., Any], least: int, most: float, named: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.run = run
        self.least = least
        self.most = most
        self.named = named

    def check(self, given: list[Any], named: dict[str, Any]) -> None:
        """Raise ToolError where it does not take so many arguments, or not of these names."""
        if not self.least <= len(given) <= self.most:
            raise ToolError(f"TypeError: {self.name} does not take {len(given)} arguments")
        for name in named:
            if self.named != ANY_NAME and name not in self.named:
                raise ToolError(f"TypeError: {self.name} has no argument {name[:40]}")


class Module:
    """A module that a program may import."""

    __slots__ = ("members", "name")

    def __init__(self, name: str, members: dict[str, Any]) -> None:
        self.name = name
        self.members = members


_ANY = math.inf


def _listed(*functions: Builtin) -> dict[str, Builtin]:
    return {function.name: function for function in functions}


def _number(value: Any) -> Any:
    if not is_number(value):
        raise ToolError(f"TypeError: {kind_of(value)} is not a number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ToolError(f"TypeError: {kind_of(value)} is not a text")
    return value


def _texts(values: Iterable[Any]) -> list[str]:
    return [_text(value) for value in values]


# -- numbers ----------------------------------------------------------------------------------------------------------


def _abs(_host: Host, value: Any) -> Any:
    return abs(_number(value))


def _int(_host: Host, value: Any = 0) -> int:
    return int(_figure(value))


def _float(_host: Host, value: Any = 0.0) -> float:
    return float(_figure(value))


def _figure(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > MAX_FIGURE:
            raise ToolError("number too large")
        return value
    return _number(value)


def _round(host: Host, value: Any, ndigits: Any = None) -> Any:
    if ndigits is not None and (not isinstance(ndigits, int) or abs(ndigits) > MAX_ROUNDED):
        raise ToolError(f"ValueError: round takes up to {MAX_ROUNDED} digits")
    host.values.meter.work(6)
    return round(_number(value), ndigits)


def _mathematical(name: str, most: int = 1) -> Builtin:
    function = getattr(math, name)
    return Builtin(name, lambda _host, *given: function(*[_number(value) for value in given]), 1, most)


# -- groups -----------------------------------------------------------------------------------------------------------


def _len(_host: Host, group: Any) -> int:
    if not isinstance(group, str | list | tuple | dict | set | range):
        raise ToolError(f"TypeError: {kind_of(group)} has no length")
    return len(group)


def _range(host: Host, *bounds: Any) -> range:
    host.values.meter.hold(TEXT)
    return range(*bounds)


def _enumerate(host: Host, group: Any, start: Any = 0) -> list[Any]:
    items = host.values.items(group)
    return _rows(host, [host.values.items(range(start, start + len(items))), items])


def _zip(host: Host, *groups: Any) -> list[Any]:
    return _rows(host, [host.values.items(group) for group in groups])


def _rows(host: Host, columns: list[list[Any]]) -> list[Any]:
    length = min([len(column) for column in columns], default=0)
    host.values.reserve_list(length)
    host.values.meter.hold(length * (LIST + SLOT * len(columns)))
    return list(zip(*columns, strict=False))


def _list(host: Host, group: Any = ()) -> list[Any]:
    return host.values.items(group)


def _tuple(host: Host, group: Any = ()) -> tuple[Any, ...]:
    items = host.values.items(group)
    host.values.reserve_list(len(items))
    return tuple(items)


def _set(host: Host, group: Any = ()) -> set[Any]:
    return host.values.set_of(host.values.walk(group))


def _dict(host: Host, pairs: Any = (), /, **named: Any) -> dict[Any, Any]:
    made = host.values.table_of(pairs)
    host.values.update(made, named)
    return made


def _reversed(host: Host, group: Any) -> list[Any]:
    items = host.values.items(group)
    items.reverse()
    return items


def _sum(host: Host, group: Any, start: Any = 0) -> Any:
    if isinstance(start, str):
        raise ToolError("TypeError: sum does not join texts; use ''.join")
    value = start
    for item in host.values.walk(group):
        value = host.values.binary(ast.Add, value, item)
    return value


def _by(host: Host, items: list[Any], key: Any) -> list[Any]:
    """Return the values that the items are compared by."""
    if key is None:
        return items
    host.values.reserve_list(len(items))
    return [host.call(key, [item], {}) for item in items]


def _sorted(host: Host, group: Any, key: Any = None, reverse: Any = False) -> list[Any]:
    items = host.values.items(group)
    return host.values.in_order(items, _by(host, items, key), is_reversed=bool(reverse))


def _extreme(kind: type[ast.cmpop]) -> Callable[..., Any]:
    def run(host: Host, *given: Any, key: Any = None) -> Any:
        items = host.values.items(given[0]) if len(given) == 1 else list(given)
        return host.values.extreme(kind, items, _by(host, items, key))

    return run


# -- text -------------------------------------------------------------------------------------------------------------


def _str(host: Host, value: Any = "") -> str:
    return host.values.text(value)


def _print(host: Host, *given: Any) -> None:
    parts = [host.values.text(value) for value in given]
    host.values.reserve_text(sum([len(part) + 1 for part in parts]), *parts)
    host.printed.append(" ".join(parts) + "\n")


def _loads(host: Host, text: Any) -> Any:
    host.values.meter.hold(_BYTES_A_CHARACTER * len(_text(text)))
    host.values.meter.work(len(text) // _CHARACTERS_A_STEP)
    return decode(text)


def _dumps(host: Host, value: Any) -> str:
    return host.values.written(value)


def _changed(change: Callable[[str], str], growth: int) -> Callable[[Host, str], str]:
    """Make a method that writes each character in another way, as up to so many."""

    def run(host: Host, text: str) -> str:
        host.values.meter.work(len(text) // 16)
        host.values.reserve_text(len(text), text)
        if not text.isascii():
            host.values.meter.hold(4 * growth * len(text))
        changed = change(text)
        host.values.reserve_text(len(changed))
        return changed

    return run


def _stripped(strip: Callable[[str, str | None], str]) -> Callable[..., str]:
    def run(host: Host, text: str, characters: Any = None) -> str:
        host.values.search(text, "" if characters is None else _text(characters))
        host.values.reserve_text(len(text), text)
        return strip(text, characters)

    return run


def _split(host: Host, text: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    if sep is None:
        pieces = (len(text) + 1) // 2
    else:
        host.values.search(text, _text(sep))
        pieces = text.count(sep) + 1 if sep else 1
    host.values.meter.hold(pieces * (TEXT + SLOT))
    host.values.reserve_text(len(text), text)
    return text.split(sep, maxsplit)


def _join(host: Host, text: str, group: Any) -> str:
    parts = _texts(host.values.items(group))
    host.values.reserve_text(sum([len(part) for part in parts]) + len(text) * len(parts), text, *parts)
    return text.join(parts)


def _replace(host: Host, text: str, old: Any, new: Any, most: Any = -1) -> str:
    host.values.search(text, _text(old), _text(old))
    found = text.count(old)
    host.values.reserve_text(len(text) + found * len(_text(new)), text, new)
    return text.replace(old, new, most)


def _finds(find: Callable[..., int]) -> Callable[..., int]:
    def run(host: Host, text: str, part: Any, *bounds: Any) -> int:
        host.values.search(text, _text(part))
        return find(text, part, *bounds)

    return run


def _has_at(test: Callable[..., bool]) -> Callable[..., bool]:
    def run(host: Host, text: str, part: Any, *bounds: Any) -> bool:
        parts = _texts(part) if isinstance(part, tuple) else [_text(part)]
        host.values.meter.work(len(parts))
        return any(test(text, each, *bounds) for each in parts)

    return run


def _isdigit(host: Host, text: str) -> bool:
    host.values.search(text, "")
    return text.isdigit()


# -- lists and tuples -------------------------------------------------------------------------------------------------


def _append(host: Host, group: list[Any], item: Any) -> None:
    host.values.meter.hold(2 * SLOT)
    group.append(item)


def _extend(host: Host, group: list[Any], more: Any) -> None:
    host.values.in_place(ast.Add, group, more)


def _insert(host: Host, group: list[Any], place: Any, item: Any) -> None:
    host.values.meter.hold(2 * SLOT)
    host.values.meter.work(len(group) // 256)
    group.insert(place, item)


def _pop(host: Host, group: list[Any], place: Any = -1) -> Any:
    host.values.meter.work(len(group) // 256)
    return group.pop(place)


def _remove(host: Host, group: list[Any], item: Any) -> None:
    del group[_index(host, group, item)]


def _index(host: Host, group: Any, item: Any, *bounds: Any) -> int:
    start, stop = (*bounds, None, None)[:2]
    within = range(len(group))[start:stop]
    places = [place for place in host.values.places_of(group, item) if place in within]
    if not places:
        raise ToolError("ValueError: the value is not in the list")
    return places[0]


def _count(host: Host, group: Any, item: Any) -> int:
    return len(host.values.places_of(group, item))


def _sort(host: Host, group: list[Any], key: Any = None, reverse: Any = False) -> None:
    group[:] = _sorted(host, group, key, reverse)


def _reverse(host: Host, group: list[Any]) -> None:
    host.values.meter.work(len(group) // 256)
    group.reverse()


# -- dictionaries -----------------------------------------------------------------------------------------------------


def _get(host: Host, table: dict[Any, Any], key: Any, default: Any = None) -> Any:
    host.values.seek(table, key)
    return table.get(key, default)


def _keys(host: Host, table: dict[Any, Any]) -> list[Any]:
    return host.values.items(table)


def _values(host: Host, table: dict[Any, Any]) -> list[Any]:
    host.values.reserve_list(len(table))
    host.values.meter.work(len(table) // 16)
    return list(table.values())


def _items(host: Host, table: dict[Any, Any]) -> list[Any]:
    return _rows(host, [host.values.items(table), _values(host, table)])


def _pop_key(host: Host, table: dict[Any, Any], key: Any, *default: Any) -> Any:
    host.values.seek(table, key)
    return table.pop(key, *default)


def _update(host: Host, table: dict[Any, Any], pairs: Any = (), /, **named: Any) -> None:
    host.values.update(table, pairs)
    host.values.update(table, named)


def _setdefault(host: Host, table: dict[Any, Any], key: Any, default: Any = None) -> Any:
    host.values.seek(table, key)
    host.values.meter.hold(ENTRY)
    return table.setdefault(key, default)


def _copy_table(host: Host, table: dict[Any, Any]) -> dict[Any, Any]:
    return host.values.table_of(table)


# -- sets -------------------------------------------------------------------------------------------------------------


def _add(host: Host, group: set[Any], item: Any) -> None:
    host.values.include(group, item)


def _discard(host: Host, group: set[Any], item: Any) -> None:
    host.values.seek(group, item)
    group.discard(item)


def _remove_item(host: Host, group: set[Any], item: Any) -> None:
    host.values.seek(group, item)
    group.remove(item)


def _combined(kind: type[ast.operator]) -> Callable[..., set[Any]]:
    def run(host: Host, group: set[Any], *others: Any) -> set[Any]:
        values = host.values
        values.reserve_table(group)
        made = set(group)
        for other in others:
            made = values.binary(kind, made, values.set_of(values.walk(other)))
        return made

    return run


# -- the lists --------------------------------------------------------------------------------------------------------

_SQRT = _mathematical("sqrt")
_MATH = _listed(
    _SQRT, *[_mathematical(name) for name in ("floor", "ceil", "log10", "log2", "exp", "sin", "cos", "tan", "fabs")],
    _mathematical("log", 2),
)  # fmt: skip
MODULES = {
    "math": Module("math", {**_MATH, "pi": math.pi, "e": math.e, "inf": math.inf}),
    "json": Module("json", {**_listed(Builtin("loads", _loads, 1, 1), Builtin("dumps", _dumps, 1, 1))}),
}
_ORDERED = ("key", "reverse")
BUILTINS: dict[str, Any] = {
    "pi": math.pi,
    "sqrt": _SQRT,
    **_listed(
        Builtin("abs", _abs, 1, 1),
        Builtin("bool", lambda _host, value=False: bool(value), 0, 1),
        Builtin("dict", _dict, 0, 1, ANY_NAME),
        Builtin("enumerate", _enumerate, 1, 2, ("start",)),
        Builtin("float", _float, 0, 1),
        Builtin("int", _int, 0, 1),
        Builtin("len", _len, 1, 1),
        Builtin("list", _list, 0, 1),
        Builtin("max", _extreme(ast.Gt), 1, _ANY, ("key",)),
        Builtin("min", _extreme(ast.Lt), 1, _ANY, ("key",)),
        Builtin("print", _print, 0, _ANY),
        Builtin("range", _range, 1, 3),
        Builtin("reversed", _reversed, 1, 1),
        Builtin("round", _round, 1, 2, ("ndigits",)),
        Builtin("set", _set, 0, 1),
        Builtin("sorted", _sorted, 1, 1, _ORDERED),
        Builtin("str", _str, 0, 1),
        Builtin("sum", _sum, 1, 2, ("start",)),
        Builtin("tuple", _tuple, 0, 1),
        Builtin("zip", _zip, 0, _ANY),
    ),
}
METHODS: dict[type, dict[str, Builtin]] = {
    str: _listed(
        Builtin("upper", _changed(str.upper, 3), 0, 0),
        Builtin("lower", _changed(str.lower, 3), 0, 0),
        Builtin("title", _changed(str.title, 3), 0, 0),
        Builtin("strip", _stripped(str.strip), 0, 1),
        Builtin("lstrip", _stripped(str.lstrip), 0, 1),
        Builtin("rstrip", _stripped(str.rstrip), 0, 1),
        Builtin("split", _split, 0, 2, ("sep", "maxsplit")),
        Builtin("join", _join, 1, 1),
        Builtin("replace", _replace, 2, 3),
        Builtin("startswith", _has_at(str.startswith), 1, 3),
        Builtin("endswith", _has_at(str.endswith), 1, 3),
        Builtin("find", _finds(str.find), 1, 3),
        Builtin("count", _finds(str.count), 1, 3),
        Builtin("isdigit", _isdigit, 0, 0),
    ),
    list: _listed(
        Builtin("append", _append, 1, 1),
        Builtin("extend", _extend, 1, 1),
        Builtin("insert", _insert, 2, 2),
        Builtin("pop", _pop, 0, 1),
        Builtin("sort", _sort, 0, 0, _ORDERED),
        Builtin("index", _index, 1, 3),
        Builtin("count", _count, 1, 1),
        Builtin("reverse", _reverse, 0, 0),
        Builtin("remove", _remove, 1, 1),
        Builtin("copy", _list, 0, 0),
    ),
    tuple: _listed(Builtin("index", _index, 1, 3), Builtin("count", _count, 1, 1)),
    dict: _listed(
        Builtin("get", _get, 1, 2),
        Builtin("keys", _keys, 0, 0),
        Builtin("values", _values, 0, 0),
        Builtin("items", _items, 0, 0),
        Builtin("pop", _pop_key, 1, 2),
        Builtin("update", _update, 0, 1, ANY_NAME),
        Builtin("setdefault", _setdefault, 1, 2),
        Builtin("copy", _copy_table, 0, 0),
    ),
    set: _listed(
        Builtin("add", _add, 1, 1),
        Builtin("remove", _remove_item, 1, 1),
        Builtin("discard", _discard, 1, 1),
        Builtin("union", _combined(ast.BitOr), 0, _ANY),
        Builtin("intersection", _combined(ast.BitAnd), 0, _ANY),
        Builtin("difference", _combined(ast.Sub), 0, _ANY),
    ),
}
