"""Seats: who plays which role of an episode, where one policy does not play all of them.

`colleagues` names, by role, the baseline that plays that seat; the policy plays the seats that are left. A baseline is
built again for each episode, one for each seat. Two seats of one episode that the same baseline plays therefore draw
from equal random streams.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from chaosops_ray.sim.contract import AnyEnvironment, Policy, PolicyFactory, Scenario
from chaosops_ray.sim.errors import InputError, unknown

ALL = "all"  # the spelling of no colleagues: the policy plays every seat
_SHOWN = 40


def parse(environment: AnyEnvironment, spelling: str) -> dict[str, str]:
    """Read colleagues such as sre=oracle,dev=heuristic; all means that there are none."""
    found: dict[str, str] = {}
    if spelling == ALL:
        return found
    for given in spelling.split(","):
        role, equals, name = given.partition("=")
        if not equals:
            raise InputError(f"{given[:_SHOWN]!r} is not ROLE=BASELINE; write for example {_example(environment)}")
        if role in found:
            raise InputError(f"role {role[:_SHOWN]} is named twice; name it once")
        found[role] = name
    return checked(environment, found)


def checked(environment: AnyEnvironment, seats: Mapping[str, str], own: Collection[str] = ()) -> dict[str, str]:
    """Return the colleagues among the seats, in turn order; `own` are the names that stand for the policy."""
    baselines = tuple(environment.policies)
    for role, name in seats.items():
        if role not in environment.roles:
            hint = _hint(role, environment.roles)
            raise InputError(f"world {environment.name} has no role {role[:_SHOWN]!r}; {hint}")
        if name not in (*own, *baselines):
            hint = _hint(name, (*own, *baselines))
            raise InputError(f"world {environment.name} has no baseline {name[:_SHOWN]!r} to play {role}; {hint}")
    found = {role: seats[role] for role in environment.roles if role in seats and seats[role] not in own}
    if len(found) == len(environment.roles):
        raise InputError("baselines play every seat and the policy plays none; leave at least one role to it")
    return found


def around(environment: AnyEnvironment, role: str, colleagues: str | Mapping[str, str]) -> dict[str, str]:
    """Return the colleagues of one role: the same baseline in all other seats, or one that is named for each."""
    if role not in environment.roles:
        raise unknown(f"role of world {environment.name}", role, environment.roles)
    others = [other for other in environment.roles if other != role]
    named = dict.fromkeys(others, colleagues) if isinstance(colleagues, str) else colleagues
    if set(named) != set(others):
        raise InputError(
            f"colleagues must play all other roles: name a baseline for each of {', '.join(others)}, "
            f"got {', '.join(named)}"
        )
    return checked(environment, named)


def left(environment: AnyEnvironment, colleagues: Mapping[str, str]) -> tuple[str, ...]:
    """Return the roles that the policy plays itself."""
    return tuple([role for role in environment.roles if role not in colleagues])


def built(
    environment: AnyEnvironment, colleagues: Mapping[str, str], scenario: Scenario, rules: str
) -> dict[str, Policy]:
    """Build the colleagues of an episode, by role."""
    return {role: environment.policies[name](scenario, rules) for role, name in colleagues.items()}


def beside(environment: AnyEnvironment, build: PolicyFactory, colleagues: Mapping[str, str]) -> PolicyFactory:
    """Return the policy with colleagues: it is asked only for the seats that are left."""

    def built_together(scenario: Scenario, rules: str) -> Policy:
        policy, others = build(scenario, rules), built(environment, colleagues, scenario, rules)

        def act(view: Any, /) -> Any:
            return others.get(view.role, policy)(view)

        return act

    return built_together if colleagues else build


def in_words(environment: AnyEnvironment, colleagues: Mapping[str, str], policy: str) -> str:
    """Write who plays which seat, such as `sre, dev, manager by oracle; oversight by trained`."""
    by_player: dict[str, list[str]] = {}
    for role in environment.roles:
        by_player.setdefault(colleagues.get(role, policy), []).append(role)
    return "; ".join([f"{', '.join(roles)} by {player}" for player, roles in by_player.items()])


def _example(environment: AnyEnvironment) -> str:
    return f"{environment.roles[0]}={next(iter(environment.policies))}, or {ALL} for no baseline"


def _hint(given: str, known: Collection[str]) -> str:
    near = get_close_matches(given[:_SHOWN], known, 1)
    return f"did you mean {near[0]}?" if near else f"valid: {', '.join(known)}"
