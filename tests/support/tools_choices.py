"""Policies of the tools world that only choose among what is offered, by the lines of the compact view."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.tools.choices import choices
from chaosops_ray.sim.tools.model import Call, Offer
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
    found = offered(view)
    said, answers = _standing(view)
    done = {(result.tool, result.arguments) for result in view.results if result.ok}
    tools = {tool for tool, _ in done}
    last = {result.tool for result in view.results[-1:] if not result.ok}
    for name in ("@read note", "@read clock"):
        if name in found and _call(found[name]).tool not in tools:
            return found[name]
    best = max(answers, key=lambda source: answers[source], default="")
    due = [
        offer
        for verb in ("record", "work", "check")
        if (offer := found.get(f"@{verb} {best}") or _first(found, f"@{verb}")) is not None
        and (_made(offer) not in done if verb == "record" else _call(offer).tool not in tools)
    ]
    if best and (answers[best] > 1 or view.steps_left <= 1 + len(due)):
        return due[0] if due and view.steps_left > 1 else found[f"@answer {best}"]
    sealing = found.get("@check archive")
    if best and sealing is not None and _call(sealing).tool == "hash_verify" and _made(sealing) not in done:
        return sealing
    needy = min(said, key=lambda place: said[place], default="")
    asks = [offer for name, offer in found.items() if name.startswith("@ask")]
    asks = [offer for offer in asks if offer.name.split(" ")[-1] in (needy, "all")] or asks
    made = [(result.tool, result.arguments) for result in view.results]
    return min(asks, key=lambda one: (made.count(_made(one)), _call(one).tool in last, not one.name.endswith("all")))


def _standing(view: View) -> tuple[dict[str, int], dict[str, int]]:
    """Read how many sources agree on each thing that is asked, and on each answer; an announcement counts one less."""
    found = choices(view)
    assert found is not None
    said, answers = {}, {}
    for line in found.lines:
        words, _, mark = line.partition(", ")
        name = next(one for one in COUNTS if words.endswith(one))
        what = words.removesuffix(f" {name}")
        if what.startswith("by "):
            answers[what.removeprefix("by ")] = COUNTS[name] - (mark == "as announced")
        else:
            said[what] = COUNTS[name]
    return said, answers


def _first(found: dict[str, Offer], verb: str) -> Offer | None:
    return next((offer for name, offer in found.items() if name.startswith(f"{verb} ")), None)


def _call(offer: Offer) -> Call:
    assert offer.call is not None
    return offer.call


def _made(offer: Offer) -> tuple[str, str]:
    return _call(offer).tool, _call(offer).arguments


SCRIPTED = {"by chance": by_chance, "hasty": hasty, "careful": careful}
