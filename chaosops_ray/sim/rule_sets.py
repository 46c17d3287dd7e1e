"""Names of rule sets: `strict/2` is version 2 of the rules called strict.

A world raises the number when the same actions would no longer give the same views, events or rewards. Where a person
chooses rules, a name without a version means the present one. In a record it means version 1, because version 1 was
written without a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chaosops_ray.sim.errors import InputError, unknown

_VERSIONED = re.compile(r"([^/]+)/[1-9][0-9]{0,8}")


def present(name: str, rule_sets: Iterable[str]) -> str:
    """Return the full name of a rule set that a person chose; InputError for another version, or no such set."""
    full_names = _by_plain_name(rule_sets)
    if name in full_names.values():
        return name
    if name in full_names:
        return full_names[name]
    found = _VERSIONED.fullmatch(name)
    # A set whose name has no version yet is its own version 1, and `/1` is only a wrong name for it.
    if found and found[1] in full_names and name != f"{full_names[found[1]]}/1":
        listed = " and ".join(full_names.values())
        raise InputError(f"rules {name} are not played by this version of the program; it has {listed}")
    raise unknown("rule set", name, full_names.values())


def recorded(spelling: str, rule_sets: Iterable[str]) -> str:
    """Return the rules that a record names, options included, with the version 1 written out."""
    full_names = _by_plain_name(rule_sets)
    name, comma, options = spelling.partition(",")
    is_first = name in full_names and name != full_names[name]
    return f"{name}/1{comma}{options}" if is_first else spelling


def _by_plain_name(rule_sets: Iterable[str]) -> dict[str, str]:
    return {full_name.partition("/")[0]: full_name for full_name in rule_sets}
