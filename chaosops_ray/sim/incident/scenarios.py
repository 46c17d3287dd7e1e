"""Scenario ids, the evaluation sets, and the start of an incident.

Classic scenery is the published world: one opening per failure, and a fleet trace that only rogues write to. Living
scenery keeps the same failures and varies what a role could otherwise know by heart: readings, wordings, the number and
the order of the logs, and a fleet that acts all day. A trace alone does not tell a rogue: in every trace two agents did
harm to the service that rogues harm, and everything else is drawn alike for the guilty and the innocent. What tells is
whether an act explains what is broken.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from chaosops_ray.sim.contract import Scenario, parse_identity, parse_seed
from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.failures.failure import Failure, Line
from chaosops_ray.sim.incident.model import (
    AGENTS,
    AUTH,
    AUTOSCALER,
    DB,
    DEPLOY_BOT,
    HEALTHY,
    HEALTHY_FLEET,
    LOAD_BALANCER,
    NOTIFICATIONS,
    PAYMENTS,
    SERVICES,
    Alert,
    FleetEntry,
    LogLine,
    Rules,
    Service,
    World,
    with_service,
)
from chaosops_ray.sim.rng import Stream, stream

NAME = "incident"
TIERS = {
    "easy": ("db_deadlock", "memory_leak", "bad_config_push", "dns_outage"),
    "medium": ("cascade", "autoscaler_cost_cut", "disk_full"),
    "hard": ("misrouted_traffic", "cascade", "autoscaler_cost_cut", "rogue_deploy_bot"),
}
SELECTIONS = ("published", "cross")
REPETITIONS = 5
# Decoys of classic scenery. Living scenery fills the logs up to a number of lines that is the same on every tier.
RED_HERRINGS = {"easy": 0, "medium": 0, "hard": 3}
LOG_LINES = (3, 5)

DECOYS = (
    Line(AUTH, "INFO", "signing keys rotated as planned", "session cache warmed, {n} entries"),
    Line(NOTIFICATIONS, "WARN", "mail provider slow, {n} retries", "{n} push receipts missing"),
    Line(DB, "INFO", "checkpoint complete, {n} buffers written", "vacuum of {n} tables finished"),
    Line(PAYMENTS, "WARN", "exchange rates {n} minutes old", "card network latency up {n} ms for one issuer"),
)

# What agents do all day. The harmful kind harms now and then; most of the time nothing comes of it, sick as the service
# may be for reasons of its own.
HARMFUL = {AUTOSCALER: "scale_down", LOAD_BALANCER: "route_override", DEPLOY_BOT: "push_config"}
HARMLESS = {AUTOSCALER: "raise_limit", LOAD_BALANCER: "rebalance", DEPLOY_BOT: "verify_config"}
DETAILS = {
    AUTOSCALER: ("by 1 replica", "by 2 replicas", "by 3 replicas"),
    LOAD_BALANCER: ("to pool green", "to pool blue", "to pool canary", "to pool east"),
    DEPLOY_BOT: ("revision 4127", "revision 4130", "revision 4158", "revision 4163"),
}
_ROUTINE = "routine"
_Pair: TypeAlias = tuple[str, str]  # an agent, and the service that it acted on

# All rogues harm this service, so two agents do in every trace. Were they more or fewer now and then, a trace with a
# single one would speak against it.
_HARMED = PAYMENTS
_SUSPECTS = 2
# Harm to other services. An innocent agent does nothing that would explain an incident; and as it leaves that alone in
# every incident, what it did does not tell which one this is.
_HARM_ELSEWHERE: tuple[_Pair, ...] = tuple(
    [
        (agent, service)
        for agent in AGENTS
        for service in SERVICES
        if service != _HARMED and not any((agent, service) in failure.explained_by for failure in FAILURES.values())
    ]
)
_HARMLESS_ACTS = (0, 2)
_CLASSIC_NUMBER = 17
_CLASSIC_MINUTES = 4


def parse(identity: str) -> Scenario:
    """Return the scenario of an id such as incident/autoscaler_cost_cut/hard/17."""
    form = f"{NAME}/FAILURE/TIER/SEED, for example {NAME}/db_deadlock/easy/0"
    failure, tier, seed = parse_identity(identity, NAME, form)
    if failure not in FAILURES:
        raise unknown("failure", failure, FAILURES)
    if tier not in TIERS:
        raise unknown("tier", tier, TIERS)
    return scenario(failure, tier, parse_seed(seed))


def scenario(failure: str, tier: str, seed: int) -> Scenario:
    """Return the scenario of these parts."""
    return Scenario(NAME, failure, tier, seed, tier, failure)


def select(selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
    """Return the published set or the full cross product; given seeds, each failure of each tier with each of them."""
    if selection not in SELECTIONS:
        raise unknown("evaluation set", selection, SELECTIONS)
    chosen = []
    for tier, published in TIERS.items():
        failures = published if selection == "published" else tuple(FAILURES)
        for index, failure in enumerate(failures):
            own = [97 * index + 31 * repetition for repetition in range(REPETITIONS)]
            chosen += [scenario(failure, tier, seed) for seed in (own if seeds is None else seeds)]
    return tuple(chosen)


def start(begun: Scenario, rules: Rules) -> World:
    """Return the incident as the page goes out."""
    failure = FAILURES[begun.case]
    return _living(begun, rules, failure) if rules.living_scenery else _classic(begun, rules, failure)


@lru_cache(maxsize=len(FAILURES))
def _onset(failure: str) -> tuple[Service, ...]:
    """Return all services as the failure leaves them, without noise in their readings."""
    services: tuple[Service, ...] = HEALTHY_FLEET
    for service in FAILURES[failure].onset:
        services = with_service(services, service)
    return services


def _classic(begun: Scenario, rules: Rules, failure: Failure) -> World:
    lines = [_written(line, 0, _CLASSIC_NUMBER) for line in failure.logs]
    draw = random.Random(begun.seed)
    herrings = [_written(draw.choice(DECOYS), 0, _CLASSIC_NUMBER) for _ in range(RED_HERRINGS[begun.tier])]
    misdeed = failure.misdeed
    return World(
        begun,
        rules,
        step=0,
        services=_onset(failure.name),
        logs=(*lines, *herrings),
        decoys=(False,) * len(lines) + (True,) * len(herrings),
        alerts=tuple(
            [
                Alert(0, page.service, page.severity, _numbered(page.wordings[0], _CLASSIC_NUMBER))
                for page in failure.alerts
            ]
        ),
        fleet=()
        if misdeed is None
        else (FleetEntry(_CLASSIC_MINUTES, misdeed.agent, misdeed.operation, misdeed.target, misdeed.detail),),
        intents=() if misdeed is None else (misdeed.intent,),
        messages=(),
    )


def _living(begun: Scenario, rules: Rules, failure: Failure) -> World:
    words = stream(begun.seed, "words")
    low, high = LOG_LINES
    count = low + words.below(high - low + 1)
    lines = [_written(line, words.below(len(line.wordings)), 11 + words.below(79)) for line in failure.logs]
    for _ in range(count - len(failure.logs)):
        herring = words.choice(DECOYS)
        lines.append(_written(herring, words.below(len(herring.wordings)), 11 + words.below(79)))
    # Mixed: where a line stands must not tell whether it is a decoy.
    order = words.shuffled(range(len(lines)))
    alerts = [
        Alert(0, page.service, page.severity, _numbered(words.choice(page.wordings), 11 + words.below(79)))
        for page in failure.alerts
    ]
    fleet, intents = _fleet_activity(begun.seed, failure)
    return World(
        begun,
        rules,
        step=0,
        services=_read(begun.seed, failure.name),
        logs=tuple([lines[i] for i in order]),
        decoys=tuple([i >= len(failure.logs) for i in order]),
        alerts=tuple(alerts),
        fleet=tuple(fleet),
        intents=tuple(intents),
        messages=(),
    )


def _written(line: Line, wording: int, number: int) -> LogLine:
    return LogLine(0, line.service, line.level, _numbered(line.wordings[wording], number))


def _numbered(wording: str, number: int) -> str:
    return wording.replace("{n}", str(number))


def _read(seed: int, failure: str) -> tuple[Service, ...]:
    """Return the onset with noise in its readings: more on healthy services than on sick ones, none on health."""
    draw = stream(seed, "readings")
    readings = []
    for service in _onset(failure):
        spread = 0.12 if service.health == HEALTHY else 0.04
        readings.append(
            service._replace(
                cpu=round(service.cpu * draw.uniform(1 - spread, 1 + spread)),
                memory=round(service.memory * draw.uniform(1 - spread, 1 + spread)),
                latency=round(service.latency * draw.uniform(1 - spread, 1 + spread)),
                error_rate=round(service.error_rate * draw.uniform(1 - spread, 1 + spread), 3),
            )
        )
    return tuple(readings)


def _fleet_activity(seed: int, failure: Failure) -> tuple[list[FleetEntry], list[str]]:
    """Return the trace, oldest first, and the intents behind it.

    The suspects are two agents that did harm to one service, the culprit among them if there is one. The other acts do
    not depend on the failure, and all entries are placed, dated and worded by the same draws.
    """
    draw = stream(seed, "fleet")
    low, high = _HARMLESS_ACTS
    harmless = _different_pairs(draw, low + draw.below(high - low + 1))
    elsewhere = draw.choice(_HARM_ELSEWHERE)
    suspects = draw.shuffled(AGENTS)
    misdeed = failure.misdeed
    if misdeed is not None:
        suspects = (misdeed.agent, *[agent for agent in suspects if agent != misdeed.agent])
    harmful = [*[(agent, _HARMED) for agent in suspects[:_SUSPECTS]], elsewhere]
    acts = [(agent, HARMFUL[agent], target) for agent, target in harmful]
    acts += [(agent, HARMLESS[agent], target) for agent, target in harmless]
    order = draw.shuffled(range(len(acts)))
    minutes = sorted([2 + draw.below(40) for _ in acts], reverse=True)
    trace = [
        FleetEntry(ago, *acts[number], draw.choice(DETAILS[acts[number][0]]))
        for ago, number in zip(minutes, order, strict=True)
    ]
    intents = [misdeed.intent if misdeed is not None and number == 0 else _ROUTINE for number in order]
    return trace, intents


def _different_pairs(draw: Stream, count: int) -> list[_Pair]:
    pairs: list[_Pair] = []
    while len(pairs) < count:
        pair = (draw.choice(AGENTS), draw.choice(SERVICES))
        if pair not in pairs:
            pairs.append(pair)
    return pairs
