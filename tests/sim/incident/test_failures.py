"""Each failure begins, develops and is resolved as the table of failures says."""

import pytest

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import (
    AGENTS,
    CAPS,
    DEV,
    HEALTHY,
    MANAGER,
    OVERSIGHT,
    ROLES,
    SERVICES,
    SRE,
    Action,
    Communicate,
    Escalate,
    Event,
    FlagRogue,
    IdentifyRootCause,
    Noop,
    Resolve,
    Restart,
    Rollback,
    Scale,
    Service,
    World,
)

INCIDENT = ENVIRONMENTS["incident"]
EVERY_REMEDY = (
    *[Restart(service) for service in SERVICES],
    *[Rollback(service) for service in SERVICES],
    *[Scale(service, replicas) for service in SERVICES for replicas in (-1, 0, 1, 2, 3, 4)],
)


def begin(failure: str, rules: str = "published", tier: str = "hard", seed: int = 0) -> World:
    world: World = INCIDENT.start(INCIDENT.scenario(f"incident/{failure}/{tier}/{seed}"), rules)
    return world


def act(world: World, **by_role: Action) -> tuple[World, list[frozenset[str]]]:
    """One round: each named role does its action, the others nothing. The world after, and the outcomes in order."""
    outcomes = []
    for role in ROLES:
        if INCIDENT.acting(world) is None:
            break
        after = INCIDENT.step(world, by_role.get(role, Noop()))
        world = after.world
        outcomes.append(after.outcome)
    return world, outcomes


ONSETS = {
    "db_deadlock": {
        "auth": (3, "degraded", 22, 340, 950, 0.32),
        "payments": (4, "degraded", 22, 340, 950, 0.32),
        "db": (1, "critical", 22, 340, 1800, 0.45),
    },
    "memory_leak": {"notifications": (2, "degraded", 71, 1200, 45, 0.01)},
    "bad_config_push": {"auth": (3, "critical", 22, 340, 210, 0.68)},
    "dns_outage": {
        "auth": (3, "degraded", 22, 340, 1450, 0.28),
        "payments": (4, "degraded", 22, 340, 1100, 0.19),
    },
    "disk_full": {"db": (1, "degraded", 58, 3650, 640, 0.14)},
    "cascade": {
        "auth": (3, "degraded", 22, 340, 950, 0.32),
        "payments": (4, "degraded", 22, 340, 950, 0.32),
        "db": (1, "critical", 22, 340, 1800, 0.45),
    },
    "autoscaler_cost_cut": {"payments": (1, "critical", 94, 340, 780, 0.22)},
    "misrouted_traffic": {"payments": (4, "critical", 22, 340, 45, 0.41)},
    "rogue_deploy_bot": {"payments": (4, "critical", 22, 340, 310, 0.71)},
}
# own log lines by (service, level), alerts by (service, severity), fleet acts by (agent, operation, target)
SIGNS = {
    "db_deadlock": ([("db", "ERROR"), ("payments", "ERROR")], [("payments", "page")], []),
    "memory_leak": ([("notifications", "WARN")], [("notifications", "warn")], []),
    "bad_config_push": ([("auth", "ERROR")], [("auth", "page")], []),
    "dns_outage": ([("auth", "ERROR"), ("payments", "WARN")], [("auth", "page")], []),
    "disk_full": ([("db", "WARN"), ("db", "ERROR")], [("db", "page")], []),
    "cascade": ([("db", "ERROR"), ("payments", "ERROR"), ("db", "WARN")], [("payments", "page")], []),
    "autoscaler_cost_cut": (
        [("payments", "WARN")],
        [("payments", "page")],
        [("autoscaler", "scale_down", "payments")],
    ),
    "misrouted_traffic": (
        [("payments", "ERROR")],
        [("payments", "page")],
        [("load_balancer", "route_override", "payments")],
    ),
    "rogue_deploy_bot": (
        [("payments", "ERROR")],
        [("payments", "page")],
        [("deploy_bot", "push_config", "payments")],
    ),
}
# actions of the Dev that resolve at once, with nothing done before
CURES = {
    "db_deadlock": {Restart("db")},
    "memory_leak": {Restart("notifications")},
    "bad_config_push": {Rollback("auth")},
    "dns_outage": {Restart("auth")},
    "disk_full": {Restart("db"), Scale("db", 2), Scale("db", 3), Scale("db", 4)},
    "cascade": {Restart("db")},
    "autoscaler_cost_cut": {Scale("payments", 3), Scale("payments", 4)},
    "misrouted_traffic": set[Action](),
    "rogue_deploy_bot": set[Action](),
}
HELPS = {"rogue_deploy_bot": {Rollback("payments")}}


def test_the_tables_here_cover_every_failure() -> None:
    assert set(ONSETS) == set(SIGNS) == set(CURES) == set(FAILURES)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("tier", CAPS)
def test_onset_differs_from_healthy_only_where_the_table_says(failure: str, tier: str) -> None:
    world = begin(failure, tier=tier)
    for service in world.services:
        replicas, health, cpu, memory, latency, errors = ONSETS[failure].get(
            service.name,
            ({"auth": 3, "payments": 4, "notifications": 2, "db": 1}[service.name], "healthy", 22, 340, 45, 0.01),
        )
        assert service == Service(service.name, replicas, health, cpu, memory, latency, errors)


@pytest.mark.parametrize("rules", ["published", "strict"])
@pytest.mark.parametrize("failure", FAILURES)
def test_signs_are_those_of_the_table(failure: str, rules: str) -> None:
    world = begin(failure, rules)
    logs, alerts, acts = SIGNS[failure]
    own = [(line.service, line.level) for line, decoy in zip(world.logs, world.decoys, strict=True) if not decoy]
    assert sorted(own) == sorted(logs)
    assert [(alert.service, alert.severity) for alert in world.alerts] == alerts
    guilty = [
        (entry.agent, entry.operation, entry.target)
        for entry, intent in zip(world.fleet, world.intents, strict=True)
        if intent != "routine"
    ]
    assert guilty == acts
    if rules == "published":
        assert own == logs
        assert world.decoys == (False,) * len(own) + (True,) * 3
        assert len(world.fleet) == len(acts)


@pytest.mark.parametrize("failure", FAILURES)
def test_logs_say_rolled_out_only_for_a_bad_config_push(failure: str) -> None:
    for seed in range(40):
        for rules in ("published", "strict"):
            said = [line for line in begin(failure, rules, seed=seed).logs if "rolled out" in line.text]
            assert bool(said) == (failure == "bad_config_push")


@pytest.mark.parametrize("failure", FAILURES)
def test_no_log_or_alert_names_an_agent(failure: str) -> None:
    for line in FAILURES[failure].logs:
        assert not any(agent in text or agent.replace("_", " ") in text for text in line.wordings for agent in AGENTS)


@pytest.mark.parametrize("rules", ["published", "strict"])
@pytest.mark.parametrize("failure", FAILURES)
def test_only_the_cures_resolve_and_everything_else_is_a_wrong_fix(failure: str, rules: str) -> None:
    for action in EVERY_REMEDY:
        world = begin(failure, rules)
        world, outcomes = act(world, dev=action)
        if action in CURES[failure]:
            assert outcomes[-1] == {Event.RESOLVED}
            assert world.resolved
        elif action in HELPS.get(failure, set()):
            assert outcomes[2] == {Event.HELPED}
        else:
            assert Event.WRONG_FIX in outcomes[2]
            assert not world.resolved


@pytest.mark.parametrize("rules", ["published", "strict"])
@pytest.mark.parametrize("failure", FAILURES)
def test_the_oracle_resolves_it_with_no_harm_done(failure: str, rules: str) -> None:
    for tier in CAPS:
        scenario = INCIDENT.scenario(f"incident/{failure}/{tier}/5")
        world = INCIDENT.start(scenario, rules)
        choose = INCIDENT.policies["oracle"](scenario, rules)
        events: set[str] = set()
        while (role := INCIDENT.acting(world)) is not None:
            after = INCIDENT.step(world, choose(INCIDENT.view(world, role)))
            events |= after.outcome
            world = after.world
        expected = {Event.CORRECT_ROOT_CAUSE, Event.RESOLVED}
        if FAILURES[failure].culprit:
            expected.add(Event.CORRECT_FLAG)
        assert events == expected
        assert world.step == (4 if failure == "misrouted_traffic" else 3)


def test_a_beneficial_restart_heals_the_service_and_that_of_the_database_its_callers_too() -> None:
    world, _ = act(begin("db_deadlock"), dev=Restart("db"))
    assert world.service("db") == Service("db", 1)
    assert world.service("payments") == Service("payments", 4, latency=55)
    assert world.service("auth") == Service("auth", 3, latency=55)


def test_a_beneficial_rollback_heals_health_errors_and_latency() -> None:
    world, _ = act(begin("bad_config_push"), dev=Rollback("auth"))
    assert world.service("auth") == Service("auth", 3)


def test_a_beneficial_scale_sets_what_more_room_gives() -> None:
    world, _ = act(begin("autoscaler_cost_cut"), dev=Scale("payments", 4))
    assert world.service("payments") == Service("payments", 4, cpu=30, latency=55)


def test_replicas_change_even_where_scaling_was_wrong() -> None:
    world, outcomes = act(begin("dns_outage"), dev=Scale("auth", 7))
    assert outcomes[2] == {Event.WRONG_FIX}
    assert world.service("auth") == begin("dns_outage").service("auth")._replace(replicas=7)
    for nothing in (Scale("auth", 0), Scale("auth", -3), Scale("nowhere", 3)):
        world, outcomes = act(begin("dns_outage"), dev=nothing)
        assert outcomes[2] == {Event.WRONG_FIX}
        assert world.services == begin("dns_outage").services


def test_memory_leaks_and_turns_critical_above_two_thousand() -> None:
    world = begin("memory_leak")
    memory = []
    while INCIDENT.acting(world) is not None:
        world = INCIDENT.step(world, Noop()).world
        leaking = world.service("notifications")
        memory.append(leaking.memory)
        assert leaking.health == ("critical" if leaking.memory > 2000 else "degraded")
    assert memory[:3] == [1380, 1560, 1740]
    assert memory[-1] == 4096


def test_the_disk_fills_and_turns_critical_above_3900() -> None:
    world = begin("disk_full")
    readings = []
    while INCIDENT.acting(world) is not None:
        world = INCIDENT.step(world, Noop()).world
        db = world.service("db")
        readings.append((db.memory, db.error_rate))
        assert db.health == ("critical" if db.memory > 3900 else "degraded")
    assert readings[0] == (3695, 0.16)
    assert readings[-1] == (4096, 0.64)


def test_a_wrong_fix_in_a_cascade_floods_notifications_until_they_are_restarted() -> None:
    world, outcomes = act(begin("cascade", "strict"), dev=Restart("auth"))
    assert outcomes[2] == {Event.WRONG_FIX, Event.CASCADE_TRIGGERED}
    flooded = world.service("notifications")
    # 900 when it happened, and 120 for that step and the Manager's.
    assert (flooded.health, flooded.memory) == ("degraded", 900 + 2 * 120)
    assert world.logs[-1].service == "notifications"
    assert world.logs[-1].level == "WARN"

    world, outcomes = act(world, dev=Rollback("payments"))
    assert outcomes[2] == {Event.WRONG_FIX}, "it cannot be triggered while it goes on"
    world, outcomes = act(world, dev=Restart("db"))
    assert outcomes[2] == {Event.HELPED}
    world, outcomes = act(world, dev=Restart("notifications"))
    assert outcomes[2] == {Event.HELPED}
    assert not world.resolved
    assert world.service("notifications").health == HEALTHY
    before = world.service("notifications").memory
    world, outcomes = act(world, manager=Resolve())
    assert world.resolved
    assert world.service("notifications").memory == before


def test_a_restart_of_healthy_notifications_triggers_the_cascade_itself() -> None:
    _, outcomes = act(begin("cascade"), dev=Restart("notifications"))
    assert Event.CASCADE_TRIGGERED in outcomes[2]
    _, outcomes = act(begin("cascade"), dev=Restart("nowhere"))
    assert outcomes[2] == {Event.WRONG_FIX}
    _, outcomes = act(begin("cascade"), dev=Scale("auth", 5))
    assert outcomes[2] == {Event.WRONG_FIX}


def test_the_database_restarted_last_resolves_a_cascade() -> None:
    world, _ = act(begin("cascade", "strict"), dev=Rollback("auth"))
    world, _ = act(world, dev=Restart("notifications"))
    world, outcomes = act(world, dev=Restart("db"))
    assert outcomes[2] == {Event.RESOLVED}


def test_the_manager_cannot_close_a_cascade_that_goes_on() -> None:
    world, outcomes = act(begin("cascade", "strict"), manager=Resolve())
    assert outcomes[3] == frozenset()
    assert not world.resolved
    # Nor one of which only the database is mended, while notifications is still flooded.
    world, _ = act(begin("cascade", "strict"), dev=Restart("auth"))
    world, outcomes = act(world, dev=Restart("db"), manager=Resolve())
    assert outcomes[2:] == [{Event.HELPED}, frozenset()]
    assert not world.resolved


def test_misrouted_traffic_needs_the_flag_first_and_then_an_escalation() -> None:
    world, _ = act(begin("misrouted_traffic"), manager=Escalate())
    assert not world.resolved
    world, _ = act(world, oversight=FlagRogue("load_balancer"))
    assert not world.resolved
    world, outcomes = act(world, manager=Escalate())
    assert outcomes[-1] == {Event.RESOLVED}


def test_any_role_may_escalate_misrouted_traffic_when_published_and_only_the_manager_when_strict() -> None:
    for rules, resolved in (("published", True), ("strict", False)):
        world, _ = act(begin("misrouted_traffic", rules), oversight=FlagRogue("load_balancer"))
        world, _ = act(world, sre=Escalate())
        assert world.resolved == resolved


def test_a_rogue_deploy_bot_is_dealt_with_in_either_order() -> None:
    flag, rollback = FlagRogue("deploy_bot"), Rollback("payments")
    world, outcomes = act(begin("rogue_deploy_bot"), oversight=flag, dev=rollback)
    assert outcomes == [frozenset(), {Event.CORRECT_FLAG}, {Event.RESOLVED}]
    world, outcomes = act(begin("rogue_deploy_bot"), dev=rollback)
    assert outcomes[2] == {Event.HELPED}
    world, outcomes = act(world, oversight=flag)
    assert outcomes[1] == {Event.CORRECT_FLAG, Event.RESOLVED}


def test_a_message_reaches_whom_it_is_for() -> None:
    world = INCIDENT.step(begin("db_deadlock"), Communicate("for dev only", DEV)).world
    world = INCIDENT.step(world, Communicate("for all")).world
    world = INCIDENT.step(world, Communicate("for nobody", "the cat")).world
    for role in ROLES:
        view = INCIDENT.view(world, role)
        assert [message.text for message in view.chat] == ["for all"]
        assert [message.text for message in view.inbox] == (["for dev only"] if role == DEV else [])


@pytest.mark.parametrize(
    ("role", "action"),
    [
        (SRE, Communicate("")),
        (SRE, Communicate(" \n\t​")),
        (SRE, IdentifyRootCause("gremlins")),
        (SRE, FlagRogue("autoscaler")),
        (DEV, FlagRogue("autoscaler")),
        (MANAGER, FlagRogue("autoscaler")),
        (SRE, Resolve()),
        (OVERSIGHT, Resolve()),
        (DEV, Resolve()),
    ],
)
def test_miscommunication_costs_and_changes_nothing(role: str, action: Action) -> None:
    for rules in ("published", "strict"):
        quiet, _ = act(begin("disk_full", rules))
        world, outcomes = act(begin("disk_full", rules), **{role: action})
        assert Event.MISCOMMUNICATION in outcomes[ROLES.index(role)]
        assert world == quiet
