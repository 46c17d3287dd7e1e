"""The two spellings of an action: JSON, and a few words on a line.

Both name services, agents and entries by their short indices; services and agents may be named in full as well.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from chaosops_ray.sim.contract import Style, checked
from chaosops_ray.sim.fleet.actions import admit
from chaosops_ray.sim.fleet.model import (
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
)
from chaosops_ray.sim.speech import Unparsed, load_record, read_action

# "reason" may stand beside the fields of any action; models are asked to think first and answer last.
REMARK: Final = "reason"

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
NAME_OF: Final = {kind: name for name, kind, _ in _GRAMMAR}
WORD_OF: Final = {**NAME_OF, Communicate: _SAY}
FIELDS_OF: Final = {kind: fields for _, kind, fields in _GRAMMAR}
OPTIONAL: Final = ("to",)
_SHOWN: Final = 40


def dump_action(action: Action) -> str:
    """Write the action as JSON; a parse failure is recorded as what it is."""
    if isinstance(action, Unparsed):
        return json.dumps({"unparsed": action.reason})
    fields: dict[str, Any] = {"action": NAME_OF[type(action)]}
    for name in FIELDS_OF[type(action)]:
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
    word = WORD_OF[type(action)]
    if isinstance(action, Communicate):
        to = "" if action.to is None else f"@{action.to} "
        return f"{word} {to}{action.message}"
    return " ".join([word, *[str(getattr(action, name)) for name in FIELDS_OF[type(action)]]])


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
        if name not in given and name not in OPTIONAL:
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
