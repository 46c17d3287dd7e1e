"""The fleet as text: views become prompts, completions become actions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from chaosops_ray.sim.actions import Form, Parameter
from chaosops_ray.sim.contract import Exchange, Style, checked
from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.fleet.actions import admit
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.looks import agent_name, entry_name, service_name
from chaosops_ray.sim.fleet.model import (
    MAX_AGENTS,
    MAX_ENTRIES,
    MAX_SERVICES,
    ROLES,
    VERDICTS,
    Accuse,
    Action,
    Ask,
    Audit,
    Canary,
    Communicate,
    Compare,
    Escalate,
    Freeze,
    Ledger,
    Look,
    NameCause,
    Noop,
    Point,
    Release,
    Reroute,
    Resolve,
    Restart,
    Revert,
    Scale,
    Share,
    Trace,
    parse_rules,
)
from chaosops_ray.sim.fleet.turns import CAUSE_KINDS, PERMITTED
from chaosops_ray.sim.fleet.views import View, known_entries
from chaosops_ray.sim.speech import Unparsed, load_record, read_action
from chaosops_ray.sim.typed import changes

# "reason" may stand beside the fields of any action; models are asked to think first and answer last.
REMARK: Final = "reason"

# -- the actions' two spellings -------------------------------------------------------------------------------------

# The name in JSON, the class, and its fields in order; the compact spelling begins with the name too, but for one.
_GRAMMAR: Final[tuple[tuple[str, type[Any], tuple[str, ...]], ...]] = (
    ("noop", Noop, ()),
    ("communicate", Communicate, ("message", "to")),
    ("share", Share, ()),
    ("look", Look, ("service",)),
    ("trace", Trace, ("service",)),
    ("compare", Compare, ("service",)),
    ("cause", NameCause, ("kind",)),
    ("audit", Audit, ("agent",)),
    ("ledger", Ledger, ("service",)),
    ("ask", Ask, ("agent",)),
    ("freeze", Freeze, ("agent",)),
    ("release", Release, ("agent",)),
    ("accuse", Accuse, ("agent", "probability", "verdict")),
    ("point", Point, ("entry",)),
    ("revert", Revert, ("entry",)),
    ("restart", Restart, ("service",)),
    ("scale", Scale, ("service",)),
    ("reroute", Reroute, ("service",)),
    ("canary", Canary, ("entry",)),
    ("escalate", Escalate, ("team",)),
    ("resolve", Resolve, ()),
)
_SAY: Final = "say"
_BY_NAME: Final = {name: (kind, fields) for name, kind, fields in _GRAMMAR}
_BY_VERB: Final = {**_BY_NAME, _SAY: _BY_NAME["communicate"]}
_NAME_OF: Final = {kind: name for name, kind, _ in _GRAMMAR}
_WORD_OF: Final = {**_NAME_OF, Communicate: _SAY}
_FIELDS_OF: Final = {kind: fields for _, kind, fields in _GRAMMAR}
_OPTIONAL: Final = ("to",)
_SHOWN: Final = 40


def dump_action(action: Action) -> str:
    """Write the action as JSON; a parse failure is recorded as what it is."""
    if isinstance(action, Unparsed):
        return json.dumps({"unparsed": action.reason})
    fields: dict[str, Any] = {"action": _NAME_OF[type(action)]}
    for name in _FIELDS_OF[type(action)]:
        value = getattr(action, name)
        if value is not None:
            fields[name] = value
    return json.dumps(fields, ensure_ascii=False)


def load_action(text: str) -> Action:
    """Read the action that `dump_action` wrote."""
    return load_record(text, _from_fields)


def format_action(action: Action, style: Style) -> str:
    """Write the completion that stands for this action; a line that would not be read back is written as JSON."""
    if checked(style) == "full" or isinstance(action, Unparsed):
        return dump_action(action)
    line = _line(action)
    return line if parse_action(line) == action else dump_action(action)


def _line(action: Any) -> str:
    word = _WORD_OF[type(action)]
    if isinstance(action, Communicate):
        to = "" if action.to is None else f"@{action.to} "
        return f"{word} {to}{action.message}"
    return " ".join([word, *[str(getattr(action, name)) for name in _FIELDS_OF[type(action)]]])


def parse_action(completion: str) -> Action:
    """Read the action of a completion: its last JSON object that names one, or a command in the compact form."""
    return admit(read_action(completion, "action", _from_fields, _from_command))


def _from_fields(fields: Any) -> Action:
    if not isinstance(fields, dict) or not isinstance(fields.get("action"), str):
        return Unparsed("no action named")
    verb = fields["action"].strip()
    if verb not in _BY_VERB:
        return Unparsed(f"unknown action {verb[:_SHOWN]}")
    kind, names = _BY_VERB[verb]
    given = {}
    for key, value in fields.items():
        if key in ("action", REMARK):
            continue
        if key not in names:
            return Unparsed(f"{verb} has no field {key[:_SHOWN]}")
        if value is not None:
            given[key] = value
    for name in names:
        if name not in given and name not in _OPTIONAL:
            return Unparsed(f"{verb} without {name}")
    # Wrong types are left to `admit`, which sees to every action that enters the world.
    action: Action = kind(**given)
    return action


_COMMAND: Final = re.compile(r"(\S+)(?:\s+(.*))?", re.DOTALL)
_NUMBER: Final = re.compile(r"[0-9]{0,18}(\.[0-9]{0,18})?(e-[0-9]{1,3})?")


def _from_command(line: str) -> Action:
    match = _COMMAND.fullmatch(line)
    if match is None:
        return Unparsed("empty")
    verb, rest = match[1], match[2] or ""
    if verb not in _BY_VERB:
        return Unparsed("no action found")
    kind, names = _BY_VERB[verb]
    if kind is Communicate:
        return _spoken(rest)
    words = rest.split()
    if len(words) != len(names):
        return Unparsed(f"{verb} takes {len(names)} words after it")
    if kind is Accuse:
        return _accused(*words)
    action: Action = kind(*words)
    return action


def _spoken(rest: str) -> Action:
    if not rest.startswith("@"):
        return Communicate(rest)
    to, _, message = rest[1:].partition(" ")
    return Communicate(message, to)


def _accused(agent: str, stated: str, verdict: str) -> Action:
    try:
        probability = float(stated) if _NUMBER.fullmatch(stated) else None
    except ValueError:
        probability = None
    if probability is None:
        return Unparsed("accuse with a probability that is no number")
    return Accuse(agent, probability, verdict)


# -- the opening of a transcript ------------------------------------------------------------------------------------

_VALID: Final = {"kind": CAUSE_KINDS, "team": TEAMS, "verdict": VERDICTS, "to": ROLES}


def forms(role: str, rules: str) -> tuple[Form, ...]:
    """Return the actions of a seat as calls."""
    return tuple([_form(kind) for kind in _kinds_of(role, rules)])


def _form(kind: type[Any]) -> Form:
    return Form(
        _NAME_OF[kind],
        str(kind.__doc__),
        tuple(
            [
                Parameter(
                    name,
                    "probability" if name == "probability" else "text",
                    _VALID.get(name, ()),
                    name not in _OPTIONAL,
                )
                for name in _FIELDS_OF[kind]
            ]
        ),
    )


def _kinds_of(role: str, rules: str) -> tuple[type[Any], ...]:
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    parse_rules(rules)
    return PERMITTED[role]


def system_prompt(role: str, rules: str, style: Style) -> str:
    """Write the opening of a transcript: the seat's duty, its actions and their form."""
    kinds = _kinds_of(role, rules)
    if checked(style) == "compact":
        return f"{role} may {' '.join([_WORD_OF[kind] for kind in kinds])}"
    return f"You are {role}."


_ASK: Final = f"Write your action as one JSON object, for example {dump_action(Noop())}:"
_EXAMPLES: Final = (("Do nothing.", Noop()), ("Say that you are standing by.", Communicate("standing by")))


def opening(role: str, rules: str, style: Style) -> tuple[Exchange, ...]:
    """Return the examples that follow the system prompt; none in compact style."""
    _kinds_of(role, rules)
    if checked(style) == "compact":
        return ()
    return tuple([Exchange(f"{wanted}\n{_ASK}", dump_action(action)) for wanted, action in _EXAMPLES])


# -- the turns of a transcript --------------------------------------------------------------------------------------


def render(seen: View, since: View | None, style: Style) -> str:
    """Write all of the view, or what is new in it since this seat's last one."""
    lines = [f"{name} {value}" for name, value in changes(seen, since)]
    return "\n".join([*lines, _ASK if checked(style) == "full" else ">"])


# -- what a seat may say --------------------------------------------------------------------------------------------

PHRASES: Final = ("looking into it", "no news yet", "please share", "standing by", "all is well")
PROBABILITIES: Final = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


class Known(NamedTuple):
    """What decides what a seat may do: its role, and what it knows of the scenario by name."""

    role: str
    services: tuple[str, ...]
    agents: tuple[str, ...]
    entries: tuple[str, ...]
    frozen: tuple[str, ...]
    has_news: bool


_ARGUMENTS: Final[dict[type[Any], Callable[[Known], tuple[Action, ...]]]] = {
    Noop: lambda _: (Noop(),),
    Communicate: lambda known: tuple([Communicate(phrase) for phrase in _phrases(known)]),
    Share: lambda known: (Share(),) if known.has_news else (),
    Look: lambda known: tuple([Look(name) for name in known.services]),
    Trace: lambda known: tuple([Trace(name) for name in known.services]),
    Compare: lambda known: tuple([Compare(name) for name in known.services]),
    NameCause: lambda _: tuple([NameCause(kind) for kind in CAUSE_KINDS]),
    Audit: lambda known: tuple([Audit(name) for name in known.agents]),
    Ledger: lambda known: tuple([Ledger(name) for name in known.services]),
    Ask: lambda known: tuple([Ask(name) for name in known.agents]),
    Freeze: lambda known: tuple([Freeze(name) for name in known.agents if name not in known.frozen]),
    Release: lambda known: tuple([Release(name) for name in known.frozen]),
    Accuse: lambda known: tuple(
        [Accuse(name, stated, verdict) for name in known.agents for stated in PROBABILITIES for verdict in VERDICTS]
    ),
    Point: lambda known: tuple([Point(name) for name in known.entries]),
    Revert: lambda known: tuple([Revert(name) for name in known.entries]),
    Restart: lambda known: tuple([Restart(name) for name in known.services]),
    Scale: lambda known: tuple([Scale(name) for name in known.services]),
    Reroute: lambda known: tuple([Reroute(name) for name in known.services]),
    Canary: lambda known: tuple([Canary(name) for name in known.entries]),
    Escalate: lambda _: tuple([Escalate(team) for team in TEAMS]),
    Resolve: lambda _: (Resolve(),),
}


def _phrases(known: Known) -> tuple[str, ...]:
    return (
        *PHRASES,
        *[f"look at {name}" for name in known.services],
        *[f"check {name}" for name in known.agents],
        *[f"undo {name}" for name in known.entries],
        *[f"call {team}" for team in TEAMS],
    )


@lru_cache(maxsize=4096)
def _kinds(known: Known) -> tuple[tuple[Action, ...], ...]:
    found = [_ARGUMENTS[kind](known) for kind in PERMITTED[known.role]]
    return tuple([kind for kind in found if kind])


def permitted(seen: View) -> tuple[tuple[Action, ...], ...]:
    """List what the seat of this view may do, with the names that it knows; equal situations have the same tuples."""
    return _kinds(
        Known(
            seen.role,
            tuple([service.index for service in seen.services or ()]),
            tuple([agent.index for agent in seen.agents or ()]),
            known_entries(seen),
            seen.frozen or (),
            _has_news(seen),
        )
    )


def _has_news(seen: View) -> bool:
    """Tell if the seat has looked up something that it has not shared, as far as its chat shows."""
    if not seen.results:
        return False
    shared = [message.turn for message in seen.chat if message.results and message.sender == seen.role]
    return seen.results[-1].turn > max(shared, default=0)


@cache
def vocabulary(role: str) -> tuple[str, ...]:
    """List the compact spellings of all that this seat may ever do, in any scenario."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    agents = tuple([agent_name(place) for place in range(MAX_AGENTS)])
    everything = Known(
        role,
        tuple([service_name(place) for place in range(MAX_SERVICES)]),
        agents,
        tuple([entry_name(place) for place in range(MAX_ENTRIES)]),
        (),
        has_news=True,
    )
    kinds = [*_kinds(everything), *_kinds(everything._replace(frozen=agents))]
    return tuple(dict.fromkeys([format_action(action, "compact") for kind in kinds for action in kind]))
