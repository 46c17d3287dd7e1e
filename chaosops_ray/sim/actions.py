"""Actions as text, made of their own fields: the default forms for worlds whose actions are plain dataclasses.

An action is a frozen dataclass whose fields are text, whole numbers, numbers, or probabilities. Its name is the name of
its class in snake case. In full it is one JSON object; in a line it is its name and its values with spaces between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_type_hints

from chaosops_ray.sim.speech import Unparsed, clean

A = TypeVar("A")

_IS_PROBABILITY = "probability"
# Annotates a field that says how sure somebody is, from 0 to 1.
Probability: TypeAlias = Annotated[float, _IS_PROBABILITY]

MAX_TEXT = 240
# Whole numbers and numbers beyond this mean nothing, and would make episodes grow.
MAX_NUMBER = 10**9
# "reason" may stand beside the fields of any action; models are asked to think first and answer last.
REMARK = "reason"
_SHOWN = 40
_KINDS: dict[Any, Kind] = {str: "text", int: "whole", float: "number", Probability: "probability"}
_PLACEHOLDERS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Probability: "PROBABILITY"}

_ANY_VALUE: dict[Any, Any] = {str: "text", int: 1, float: 1.5, Probability: 0.5}


# Kinds of arguments; a scalar is text or a number.
Kind: TypeAlias = Literal["text", "whole", "number", "probability", "scalar"]


class Parameter(NamedTuple):
    """An argument of an action: a value of its kind, and one of the `valid` ones where these are listed.

    Without a default, an argument that is not required is left out.
    """

    name: str
    kind: Kind
    valid: tuple[str, ...] = ()
    is_required: bool = True
    default: str | float | None = None


class Form(NamedTuple):
    """An action as a call: its name, its purpose, and what it takes."""

    name: str
    purpose: str
    parameters: tuple[Parameter, ...] = ()


def probability(action: object) -> float | None:
    """Return the probability that an action carries; None where it carries none."""
    kind: Any = type(action)
    for name, hint in _hints(kind).items():
        if hint == Probability:
            found: float = getattr(action, name)
            return found
    return None


def brier(stated: float, *, happened: bool) -> float:
    """Return the Brier score of a stated probability: 0 for certainty that was right, 1 for certainty that was not."""
    return (stated - happened) ** 2


@lru_cache(maxsize=256)
def _hints(kind: Any) -> Mapping[str, Any]:
    return MappingProxyType(get_type_hints(kind, include_extras=True))


class ActionForms(Generic[A]):
    """The text forms of a world's action types, written and read. Nothing that a model writes raises here."""

    def __init__(self, types: tuple[type[A], ...]) -> None:
        self._by_name = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in types}
        self._name_of = {kind: name for name, kind in self._by_name.items()}
        self._fields = {kind: tuple([field.name for field in fields(kind)]) for kind in types}  # type: ignore[arg-type]
        self._readers = {
            kind: tuple([_READERS[_kind_of_field(kind, name)] for name in names])
            for kind, names in self._fields.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the actions, in the order of their types."""
        return tuple(self._by_name)

    @property
    def forms(self) -> tuple[Form, ...]:
        """The actions as calls; an action type's docstring tells its purpose."""
        return tuple([Form(name, _purpose(kind), self._parameters(kind)) for name, kind in self._by_name.items()])

    def _parameters(self, kind: Any) -> tuple[Parameter, ...]:
        return tuple([Parameter(name, _KINDS[_kind_of_field(kind, name)]) for name in self._fields[kind]])

    @property
    def described(self) -> tuple[str, ...]:
        """The JSON forms, with placeholders for values."""
        return tuple(
            [
                "{"
                + ", ".join([f'"action": "{name}"', *[f'"{key}": {_word(kind, key)}' for key in self._fields[kind]]])
                + "}"
                for name, kind in self._by_name.items()
            ]
        )

    @property
    def simplest(self) -> str:
        """The action with the fewest fields as JSON, with values that mean nothing; the first of several."""
        name, kind = min(self._by_name.items(), key=lambda item: len(self._fields[item[1]]))
        values = {key: _ANY_VALUE[_kind_of_field(kind, key)] for key in self._fields[kind]}
        return json.dumps({"action": name, **values})

    # -- writing ------------------------------------------------------------------------------------------------------

    def record(self, action: A | Unparsed) -> str:
        """Write the action as JSON; a parse failure is recorded as what it is."""
        if isinstance(action, Unparsed):
            return json.dumps({"unparsed": action.reason})
        kind = type(action)
        values = {name: getattr(action, name) for name in self._fields[kind]}
        return json.dumps({"action": self._name_of[kind], **values}, ensure_ascii=False, allow_nan=False)

    def line(self, action: A | Unparsed) -> str:
        """Write the action as one line of words; text that a line could not hold unambiguously is written as JSON."""
        if isinstance(action, Unparsed):
            return self.record(action)
        kind = type(action)
        values = [str(getattr(action, name)) for name in self._fields[kind]]
        line = " ".join([self._name_of[kind], *values])
        return line if self.admit(self.from_line(line)) == action else self.record(action)

    # -- reading ------------------------------------------------------------------------------------------------------

    def from_fields(self, found: Any) -> A | Unparsed:
        """Build the action of a JSON object."""
        if not isinstance(found, dict) or not isinstance(found.get("action"), str):
            return Unparsed("no action named")
        if found["action"] not in self._by_name:
            return Unparsed(f"unknown action {found['action'][:_SHOWN]}")
        kind = self._by_name[found["action"]]
        given = {key: value for key, value in found.items() if key not in ("action", REMARK)}
        for name in self._fields[kind]:
            if name not in given:
                return Unparsed(f"{found['action']} without {name}")
        for key in given:
            if key not in self._fields[kind]:
                return Unparsed(f"{found['action']} has no field {key[:_SHOWN]}")
        return kind(**given)  # wrong types are left to `admit`

    def from_line(self, line: str) -> A | Unparsed:
        """Build the action of a line of words."""
        verb, *words = line.split()[: 2 + MAX_TEXT] or [""]
        if verb not in self._by_name:
            return Unparsed("no action found")
        kind = self._by_name[verb]
        readers = self._readers[kind]
        if len(words) != len(readers):
            return Unparsed(f"{verb} takes {len(readers)} words after it")
        try:
            return kind(*[read(word) for read, word in zip(readers, words, strict=True)])
        except ValueError:
            return Unparsed(f"{verb} with a value of the wrong kind")

    def admit(self, action: object) -> A | Unparsed:
        """Return the action with its texts cleaned; `Unparsed` where its type is unknown or a value is not valid."""
        kind: Any = type(action)
        if isinstance(action, Unparsed):
            return Unparsed(clean(str(action.reason), MAX_TEXT))
        if kind not in self._fields:
            return Unparsed(f"a {kind.__name__[:_SHOWN]} that is no well-formed action")
        values = []
        for name in self._fields[kind]:
            value = _valid(getattr(action, name, None), _hints(kind)[name])
            if value is None:
                return Unparsed(f"{self._name_of[kind]} with a {name} that is not valid")
            values.append(value)
        found: A = kind(*values)
        return found


def _purpose(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _word(kind: type, name: str) -> str:
    return _PLACEHOLDERS[_kind_of_field(kind, name)]


def _kind_of_field(kind: Any, name: str) -> Any:
    return _hints(kind)[name]


def _valid(value: Any, hint: Any) -> Any:
    """Convert a value to what a field of this kind holds; None where it is not valid."""
    if hint is str:
        return clean(value, MAX_TEXT) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int if hint is int else int | float):
        return None
    if hint == Probability:
        return float(value) if 0.0 <= value <= 1.0 else None  # NaN fails this too
    if not abs(value) <= MAX_NUMBER:
        return None
    return int(value) if hint is int else float(value)


def _whole(word: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,10}", word):
        raise ValueError("not a whole number")
    return int(word)


def _number(word: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", word):
        raise ValueError("not a number")
    return float(word)


_READERS: dict[Any, Callable[[str], Any]] = {str: str, int: _whole, float: _number, Probability: _number}
