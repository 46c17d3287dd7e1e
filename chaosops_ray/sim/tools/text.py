"""The unreliable-tools world as text: views become prompts, completions become calls."""

from __future__ import annotations

import json
from typing import Any

from chaosops_ray.sim.actions import Form, Parameter
from chaosops_ray.sim.contract import Exchange, Style, checked
from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.speech import Unparsed, load_record, read_action
from chaosops_ray.sim.tools import deeds
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.choices import NAMES, choices
from chaosops_ray.sim.tools.families import understood
from chaosops_ray.sim.tools.model import ROLES, SUBMIT, Action, Call, Offer, Taken, admit, canonical, parse_rules
from chaosops_ray.sim.tools.views import Seen, View


def dump_action(action: Action) -> str:
    """Write the call as JSON; a parse failure is recorded as what it is."""
    if isinstance(action, Unparsed):
        return json.dumps({"unparsed": action.reason})
    if isinstance(action, Offer):
        return dump_action(action.call or Unparsed(f"{action.name} was not offered"))
    return json.dumps({"tool": action.tool, "arguments": json.loads(action.arguments)})


def load_action(text: str) -> Action:
    """Read the action that `dump_action` wrote."""
    return load_record(text, _from_fields)


def format_action(action: Action, style: Style) -> str:
    """Write the completion that stands for this call; in compact style, an offer is its name."""
    is_full = checked(style) == "full"
    if isinstance(action, Offer):
        return action.name if action.call is None or not is_full else dump_action(action.call)
    return dump_action(action) if is_full or isinstance(action, Unparsed) else f"{action.tool} {action.arguments}"


def parse_action(completion: str) -> Action:
    """Read the call of a completion: its last JSON object with a "tool", or else its last line.

    That is a tool's name and its arguments as JSON, or the name of an offer.
    """
    action = read_action(completion, "tool", _from_fields, _from_line)
    return action if isinstance(action, Offer) else admit(action)


def _from_line(line: str) -> Action:
    if line in NAMES:
        return Offer(line)
    name, _, arguments = line.partition(" ")
    return Call(name, arguments or "{}") if name in TOOLS else Unparsed("no call found")


def _from_fields(fields: Any) -> Taken:
    if not isinstance(fields, dict) or not isinstance(fields.get("tool"), str):
        return Unparsed("no tool named")
    for key in fields:
        if key not in ("tool", "arguments", "reason"):
            return Unparsed(f"a call has no field {key[:40]}")
    arguments = fields.get("arguments", {})
    if not isinstance(arguments, dict):
        return Unparsed("arguments are no JSON object")
    try:
        return admit(Call(fields["tool"], canonical(arguments)))
    except (TypeError, ValueError, RecursionError):
        return Unparsed("arguments are no JSON object")


def call(name: str, arguments: object) -> Action:
    """Make a call of a tool; what is no call becomes a parse failure."""
    return _from_fields({"tool": name, "arguments": arguments})


def action_of(fields: object) -> Action:
    """Read a call given as a JSON object, in its own form or in the published one."""
    if isinstance(fields, dict) and "tool" not in fields and "type" in fields:
        fields = _from_published(fields)
    return _from_fields(fields)


def _from_published(fields: dict[str, Any]) -> dict[str, Any]:
    """Translate the published form, in which a field that an action does not need is ignored."""
    if fields["type"] == SUBMIT:
        said = {name: fields.get(name) for name in ("answer", "reasoning")}
        return {"tool": SUBMIT, "arguments": {name: "" if value is None else value for name, value in said.items()}}
    if fields["type"] == "call_tool":
        arguments = fields.get("arguments")
        return {"tool": fields.get("tool_name"), "arguments": {} if arguments is None else arguments}
    return {}


def forms(role: str, rules: str) -> tuple[Form, ...]:  # noqa: ARG001 - the tools are the same under all rules
    """Return the tools as calls."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    return tuple(
        [
            Form(
                tool.name,
                tool.purpose,
                tuple([Parameter(p.name, p.kind, (), p.default is None, p.default) for p in tool.parameters]),
            )
            for tool in TOOLS.values()
        ]
    )


def call_fields(form: Form) -> dict[str, Any]:
    """Return the object that is written for a call, with parameters in place of values; arguments are sorted."""
    return {"tool": form.name, "arguments": {parameter.name: parameter for parameter in sorted(form.parameters)}}


def system_prompt(role: str, rules: str, style: Style) -> str:
    """Write the opening of the transcript: the task, the tools, and the form of a call."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    one_value = not parse_rules(rules).are_published
    if checked(style) == "compact":
        return "answer by tools"
    schemas = "\n".join(
        [
            f"- {tool.name}("
            + ", ".join(
                [
                    f"{p.name}: {p.kind}" + ("" if p.default is None else f" = {json.dumps(p.default)}")
                    for p in tool.parameters
                ]
            )
            + f"): {tool.purpose}"
            for tool in TOOLS.values()
        ]
    )
    return (
        "Answer a question with the help of tools. The tools are unreliable: a call may fail, and what one says may be "
        "wrong, old or incomplete without saying so. Every call is a step, and steps are few.\n\n"
        f"Tools:\n{schemas}\n\n"
        f"Think if you need to, then end your answer with one JSON object alone, such as {_EXAMPLE}. When you know the "
        "answer to the question, call submit_answer; this ends the episode."
        + (" State one value for each thing asked, and no others." if one_value else "")
    )


# The last line of every view, and two examples: a sum and a note that no question is about. A small model needs both,
# as in sim/incident/text.py.
_EXAMPLE = '{"tool": "calculator", "arguments": {"expression": "2 * 3"}}'
_ASK = f"Write your call as one JSON object, for example {_EXAMPLE}:"
_NOTE = '{"tool": "scratchpad_write", "arguments": {"key": "note", "value": "hello"}}'


def opening(role: str, rules: str, style: Style) -> tuple[Exchange, ...]:  # noqa: ARG001 - the same under all rules
    """Return the example that follows the system prompt; none in compact style."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    return () if checked(style) == "compact" else (Exchange(f"Keep the note hello.\n{_ASK}", _NOTE),)


def render(seen: View, since: View | None, style: Style) -> str:
    """Write all of the view, or what is new in it since the agent's last turn."""
    new = [result for result in seen.results if since is None or result.step >= since.step]
    if checked(style) == "compact":
        return _compact(seen, new, is_first=since is None)
    out = [f"Question: {seen.question}", seen.guidance] if since is None else []
    out += [f"{result.tool or '(no call)'} answered: {result.shown}" for result in new]
    out.append(f"Steps left: {seen.steps_left}")
    out.append(_ASK)
    return "\n".join(out)


# -- the compact style ------------------------------------------------------------------------------------------------

_VERDICTS = ("consistent", "equal", "match", "supported", "valid", "reachable")


def _compact(seen: View, new: list[Seen], *, is_first: bool) -> str:
    """Write what an agent needs that only chooses: which calls came through, and what agrees with what.

    It has no names and no figures. A model that is small enough to need this style could not compare them.
    """
    out = [_topic(seen.question)] if is_first else []
    out += [f"{result.tool or 'no call'} {_fate(result)}" for result in new]
    found = choices(seen)
    out += found.lines if found is not None else ()
    out.append(f"left {seen.steps_left}\n>")
    return "\n".join(out)


def _topic(question: str) -> str:
    """Write what family a question is of, and what it wants done."""
    try:
        family, _ = understood(question)
    except ValueError:
        return f"q {question}"
    wanted = deeds.read(question) if family.name == "claim" else None
    return f"q {family.name}" + (f" {wanted[0]}" if wanted else "")


def _fate(result: Seen) -> str:
    shown = json.loads(result.shown)
    if not result.ok:
        return str(shown["error"])
    verdict = next((shown[key] for key in _VERDICTS if key in shown), None) if isinstance(shown, dict) else None
    return "ok" if verdict is None else "true" if verdict is True else "false"
