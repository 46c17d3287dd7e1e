"""Seats that a person plays: the person's lines become actions, and a line that is no action costs nothing.

Models pay for what they get wrong; a person who mistypes a name is asked again. What is shown, and where lines come
from, is up to a `Desk`: a terminal, a pipe, a page, a test.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from chaosops_ray.agents.session import Session
from chaosops_ray.plain_text import printable
from chaosops_ray.sim.actions import Form, Kind, Parameter
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.speech import decode

PLAYER = "human"  # how a person is named where policies have their names
HELP = "?"
_SHOWN = 60
_TYPES: dict[Kind, tuple[type, ...]] = {
    "text": (str,),
    "whole": (int,),
    "number": (int, float),
    "probability": (int, float),
    "scalar": (str, int, float),
}
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
WORDS: dict[Kind, str] = {
    "text": "text",
    "whole": "a whole number",
    "number": "a number",
    "probability": "a number from 0 to 1",
    "scalar": "text or a number",
}


class Desk(Protocol):
    """The place where a person sits: shows the seat's turn, and gives the lines that the person types."""

    def show(self, session: Session, *, is_first: bool) -> None:
        """Show the turn of the seat that is to act; `is_first` tells that it is this seat's first."""
        ...

    def say(self, lines: Sequence[str]) -> None:
        """Print an answer to the person's line."""
        ...

    def ask(self, role: str) -> str:
        """Return the person's next line; EOFError where there is none."""
        ...


class Refusal(NamedTuple):
    """The reason why a line is no action that its seat may take now."""

    why: str


def play(session: Session, desk: Desk) -> None:
    """Let the person play the seats of the session that are left, to the end of the episode."""
    met: set[str] = set()
    while session.role is not None:
        desk.show(session, is_first=session.role not in met)
        met.add(session.role)
        session.act(_asked(session, session.role, desk))


def _asked(session: Session, role: str, desk: Desk) -> Any:
    """Ask until the person's line is an action."""
    environment, rules = session.environment, session.running.rules
    while True:
        line = desk.ask(role).strip()
        if line == HELP:
            desk.say(help_lines(environment, role, rules, session.view))
            continue
        action = read(environment, role, rules, session.view, line)
        if not isinstance(action, Refusal):
            return action
        desk.say([f"{action.why}; ask for what you may do with {HELP}"])


def read(environment: AnyEnvironment, role: str, rules: str, view: Any, line: str) -> Any:
    """Return the action of a line in either spelling, or the Refusal that says why this seat may not take it now."""
    if not line.strip():
        return Refusal("the line is empty")
    return _admitted(environment, role, rules, view, environment.parse_action(line))


def chosen(environment: AnyEnvironment, role: str, rules: str, view: Any, name: str, texts: Mapping[str, str]) -> Any:
    """Return the action of a form that was filled in by text, or a Refusal; what is left empty is left out."""
    form = next((form for form in environment.forms(role, rules) if form.name == name), None)
    if form is None:
        return Refusal(f"{role} has no action {printable(name, _SHOWN)}")
    given: dict[str, Any] = {}
    kinds = {parameter.name: parameter.kind for parameter in form.parameters}
    for key, text in texts.items():
        if text.strip():
            value = _valued(kinds.get(key, "text"), text)
            if value is None:
                return Refusal(f"{key} must be {WORDS[kinds[key]]}, got {_shown(text)}")
            given[key] = value
    why = _misfit(form, given)
    return Refusal(why) if why else _admitted(environment, role, rules, view, environment.call(name, given))


def _valued(kind: Kind, text: str) -> str | float | None:
    """Return the value that a text stands for; None where it is not of this kind."""
    if kind == "text":
        return text
    try:
        number = int(text) if _WHOLE.fullmatch(text.strip()) else float(text)
    except ValueError:
        return text if kind == "scalar" else None
    if not math.isfinite(number) or (kind == "whole" and not isinstance(number, int)):
        return text if kind == "scalar" else None
    return number


def _admitted(environment: AnyEnvironment, role: str, rules: str, view: Any, action: Any) -> Any:
    short = environment.format_action(action, "compact")
    if any(
        short == environment.format_action(one, "compact") for kind in environment.permitted(view) or () for one in kind
    ):
        return action
    name, given = called(environment, action)
    if name is None:
        return Refusal(f"that is no action ({printable(given['unparsed'])})")
    forms = {form.name: form for form in environment.forms(role, rules)}
    if name not in forms:
        return Refusal(f"{role} has no action {printable(str(name), _SHOWN)}")
    why = _misfit(forms[name], given)
    return action if why is None else Refusal(why)


def called(environment: AnyEnvironment, action: Any) -> tuple[Any, dict[str, Any]]:
    """Return name and arguments of an action, and of what is none, no name and the reason as `unparsed`."""
    fields = decode(environment.dump_action(action))
    # Worlds write them as one object, or with the arguments inside.
    if fields.keys() == {"tool", "arguments"}:
        return fields["tool"], fields["arguments"]
    return fields.get("action"), {name: value for name, value in fields.items() if name != "action"}


def _misfit(form: Form, given: dict[str, Any]) -> str | None:
    """Return why these arguments are not those of the form; None if they are."""
    known = {parameter.name: parameter for parameter in form.parameters}
    missing = [name for name, parameter in known.items() if parameter.is_required and name not in given]
    if missing:
        return f"{form.name} needs {' and '.join(missing)}"
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(known) or "nothing"
            return f"{form.name} has no {printable(name, _SHOWN)}, it takes {takes}"
        parameter = known[name]
        if parameter.valid and value not in parameter.valid:
            return f"{name} must be one of {', '.join(parameter.valid)}, got {_shown(value)}"
        if isinstance(value, bool) or not isinstance(value, _TYPES[parameter.kind]):
            return f"{name} must be {WORDS[parameter.kind]}, got {_shown(value)}"
        if value == "":
            return f"{name} is empty"
    return None


def _shown(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False), _SHOWN)


def help_lines(environment: AnyEnvironment, role: str, rules: str, view: Any) -> list[str]:
    """Say what a seat may do now: the forms of its actions, and those actions that can be written out."""
    kinds = environment.permitted(view) or ()
    lines = [f"{role} may:", *[f"  {_described(form)}" for form in environment.forms(role, rules)]]
    if kinds:
        lines += ["Written out, in the short spelling:", *[f"  {one}" for one in _written_out(environment, kinds)]]
        short, as_json = [environment.format_action(kinds[0][0], style) for style in ("compact", "full")]
        lines.append(f"Type one line, such as `{short}`, or JSON, such as `{as_json}`.")
    return lines


def _described(form: Form) -> str:
    return f"{form.name}({', '.join([_parameter(one) for one in form.parameters])}): {form.purpose}"


def _parameter(parameter: Parameter) -> str:
    of = "|".join(parameter.valid) if parameter.valid else WORDS[parameter.kind]
    return f"{parameter.name}{'' if parameter.is_required else '?'}: {of}"


def _written_out(environment: AnyEnvironment, kinds: Sequence[Sequence[Any]]) -> Iterator[str]:
    for kind in kinds:
        short = {action: environment.format_action(action, "compact") for action in kind}
        # A short spelling that stands for something else than itself is shown with what it stands for.
        meant = [action for action in kind if environment.parse_action(short[action]) != action]
        yield from [f"{short[action]}   {environment.format_action(action, 'full')}" for action in meant]
        if len(meant) < len(kind):
            yield "   ".join([short[action] for action in kind if action not in meant])


def human_seats(environment: AnyEnvironment, spellings: Sequence[str]) -> tuple[str, ...]:
    """Read seats such as oversight=human, in turn order."""
    roles = []
    for given in spellings:
        role, _, player = given.partition("=")
        if role not in environment.roles or player != PLAYER:
            meant = role if role in environment.roles else environment.roles[-1]
            example = f"{meant}={PLAYER}"
            valid = ", ".join(environment.roles)
            raise InputError(f"{printable(given, _SHOWN)!r} is no seat of yours; write {example}; roles: {valid}")
        roles.append(role)
    return tuple([role for role in environment.roles if role in roles])
