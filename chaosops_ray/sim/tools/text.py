"""The unreliable-tools world as text: views become prompts, completions become calls."""

from __future__ import annotations

import json
from typing import Any

from chaosops_ray.sim.contract import Style, checked
from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.speech import Unparsed, load_record, read_action
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.model import ROLES, Action, Call, admit, canonical, parse_rules
from chaosops_ray.sim.tools.views import View


def dump_action(action: Action) -> str:
    """Write the call as JSON; a parse failure is recorded as what it is."""
    if isinstance(action, Unparsed):
        return json.dumps({"unparsed": action.reason})
    return json.dumps({"tool": action.tool, "arguments": json.loads(action.arguments)})


def load_action(text: str) -> Action:
    """Read the action that `dump_action` wrote."""
    return load_record(text, _from_fields)


def format_action(action: Action, style: Style) -> str:
    """Write the completion that stands for this call."""
    if checked(style) == "full" or isinstance(action, Unparsed):
        return dump_action(action)
    return f"{action.tool} {action.arguments}"


def parse_action(completion: str) -> Action:
    """Read the call of a completion: its last JSON object with a "tool", or a tool's name and its arguments as JSON."""
    return admit(read_action(completion, "tool", _from_fields, _from_line))


def _from_line(line: str) -> Action:
    name, _, arguments = line.partition(" ")
    return Call(name, arguments or "{}") if name in TOOLS else Unparsed("no call found")


def _from_fields(fields: Any) -> Action:
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
    except ValueError:
        return Unparsed("arguments are no JSON object")


def system_prompt(role: str, rules: str, style: Style) -> str:
    """Write the opening of the transcript: the task, the tools, and the form of a call."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    one_value = not parse_rules(rules).are_published
    if checked(style) == "compact":
        return f"tools {' '.join(TOOLS)}"
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
        'Each turn, end your text with one JSON object such as {"tool": "calculator", "arguments": {"expression": '
        '"2 * 3"}}. When you know the answer, call submit_answer; this ends the episode.'
        + (" State one value for each thing asked, and no others." if one_value else "")
    )


def render(seen: View, since: View | None, style: Style) -> str:
    """Write all of the view, or what is new in it since the agent's last turn."""
    full = checked(style) == "full"
    out = []
    if since is None:
        out += [f"Question: {seen.question}", seen.guidance] if full else [f"q {seen.question}"]
    horizon = -1 if since is None else since.step
    for result in seen.results:
        if result.step >= horizon:
            said = result.tool or "(no call)"
            out.append(f"{said} answered: {result.shown}" if full else f"{said} {result.shown}")
    out.append(f"Steps left: {seen.steps_left}\nYour call:" if full else f"left {seen.steps_left}\n>")
    return "\n".join(out)
