"""A world as JSON bytes, and back. Bytes may come from a file: they are checked before they are believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.typed import fields_of

W = TypeVar("W")

# What a malformed snapshot can raise on the way through JSON, its types and a world's own checks.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_NAMED = 2  # the first fields of a world, the scenario and the rules, are written as their names


def _anything(_world: object) -> bool:
    return True


class Snapshot(Generic[W]):
    """The format of one world's snapshots: a JSON list of the fields of a named tuple.

    The world's first two fields are its scenario and its rules. `scenario` and `rules` read them from their names, and
    `rules` refuses all but the present version; `spelling` names the rules again. `is_possible` tells if fields, each
    of the right type, can stand together.

    Fields that follow from the others need not be written: `derived` is how many of them stand after the rules, and
    `made` builds the world from the fields that are written.
    """

    def __init__(
        self,
        kind: Callable[..., W],
        title: str,
        scenario: Callable[[str], Any],
        rules: Callable[[str], Any],
        spelling: Callable[[Any], str] = str,
        is_possible: Callable[[W], bool] = _anything,
        derived: int = 0,
        made: Callable[..., W] | None = None,
    ) -> None:
        self._kind = kind
        self._title = title
        self._scenario = scenario
        self._rules = rules
        self._spelling = spelling
        self._is_possible = is_possible
        self._first = _NAMED + derived
        self._made = made or kind

    def dump(self, world: Any) -> bytes:
        """Write the fields in their order, nothing hashed, nothing unordered: equal worlds give equal bytes."""
        named = (world[0].identity, self._spelling(world[1]), *world[self._first :])
        return json.dumps(named, separators=(",", ":"), allow_nan=False).encode()

    def load(self, data: bytes) -> W:
        """Read the world that `dump` made these bytes of."""
        try:
            identity, rules, *rest = json.loads(data)
            opened = (self._scenario(identity), self._rules(rules))
            world = self._made(*opened, *fields_of(self._kind, rest, skipped=self._first))
            is_genuine = self.dump(world) == data and self._is_possible(world)
        except InputError as error:
            raise InputError(f"cannot load this snapshot of {self._title}: {error}") from None
        except _MALFORMED as error:
            raise InputError(f"not a snapshot of {self._title}: {error}") from None
        if not is_genuine:
            raise InputError(f"not a snapshot of {self._title}: its fields are not what this version writes")
        return world
