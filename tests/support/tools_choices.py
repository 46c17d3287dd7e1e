"""Policies of the tools world that only choose among what is offered, by the lines of the compact view."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.tools.choices import choices
from chaosops_ray.sim.tools.model import Offer
from chaosops_ray.sim.tools.views import View

Seat = Callable[[View], Offer]
COUNTS = {"never": 0, "once": 1, "twice": 2, "three times": 3, "sealed": 9}


def offered(view: View) -> dict[str, Offer]:
    """Return all that is offered, by name."""
    found = choices(view)
    assert found is not None
    return {offer.name: offer for kind in found.kinds for offer in kind}


def by_chance(scenario: Scenario, _rules: str) -> Seat:
    """Draw a kind, then one of that kind."""
    draw = Random(scenario.seed)

    def act(view: View) -> Offer:
        found = choices(view)
        assert found is not None
        return draw.choice(draw.choice(found.kinds))

    return act


def hasty(scenario: Scenario, _rules: str) -> Seat:
    """Ask any source until there is an answer, and give it."""
    draw = Random(scenario.seed)

    def act(view: View) -> Offer:
        found = offered(view)
        answers = [offer for name, offer in found.items() if name.startswith("@answer")]
        return draw.choice(answers or [offer for name, offer in found.items() if name.startswith(("@ask", "@read"))])

    return act


def careful(_scenario: Scenario, _rules: str) -> Seat:
    """Ask until two sources agree on everything, check, compute and record, and answer with what they agree on."""
    return careful_act


def careful_act(view: View) -> Offer:
    """Choose as a careful agent does."""
    found, seen = offered(view), choices(view)
    assert seen is not None
    done = {(result.tool, result.arguments) for result in view.results if result.ok}
    tools = {result.tool for result in view.results if result.ok}
    standing, answers = {}, {}
    for line in seen.lines:
        words, _, mark = line.partition(", ")
        name = next(one for one in COUNTS if words.endswith(one))
        count = COUNTS[name]
        what = words.removesuffix(f" {name}")
        if what.startswith("by "):
            answers[what.removeprefix("by ")] = count - (mark == "as announced")
        else:
            standing[what] = count
    for name in ("@read note", "@read clock"):
        if name in found and found[name].call.tool not in tools:  # type: ignore[union-attr]
            return found[name]
    best = max(answers, key=lambda source: answers[source], default="")
    due = [
        found[name]
        for verb in ("record", "work", "check")
        for name in (f"@{verb} {best}", *[one for one in found if one.startswith(f"@{verb} ")])[:2]
        if name in found
        and (found[name].call.tool, found[name].call.arguments) not in done  # type: ignore[union-attr]
        and (verb == "record" or found[name].call.tool not in tools)  # type: ignore[union-attr]
    ]
    if best and (answers[best] > 1 or view.steps_left <= 1 + len(due)):
        return due[0] if due and view.steps_left > 1 else found[f"@answer {best}"]
    if best and "@check archive" in found and found["@check archive"].call.tool == "hash_verify":  # type: ignore[union-attr]
        if (found["@check archive"].call.tool, found["@check archive"].call.arguments) not in done:  # type: ignore[union-attr]
            return found["@check archive"]
    needy = min(standing, key=lambda place: standing[place], default="")
    made = [(result.tool, result.arguments) for result in view.results]
    asks = [
        offer for name, offer in found.items() if name.startswith("@ask") and name.split(" ")[-1] in (needy, "all")
    ] or [offer for name, offer in found.items() if name.startswith("@ask")]
    failed = {result.tool for result in view.results[-1:] if not result.ok}
    return min(
        asks,
        key=lambda offer: (
            made.count((offer.call.tool, offer.call.arguments)),  # type: ignore[union-attr]
            offer.call.tool in failed,  # type: ignore[union-attr]
            not offer.name.endswith("all"),
        ),
    )


SCRIPTED = {"by chance": by_chance, "hasty": hasty, "careful": careful}
