"""The resolver that auth and payments share stops answering."""

from chaosops_ray.sim.incident.failures.failure import Failure, Line, Page, cured_by, sick
from chaosops_ray.sim.incident.model import AUTH, DEGRADED, DEV, LOAD_BALANCER, PAYMENTS, Restart

FAILURE = Failure(
    name="dns_outage",
    summary="name resolution fails in auth",
    onset=(
        sick(AUTH, health=DEGRADED, latency=1450, error_rate=0.28),
        sick(PAYMENTS, health=DEGRADED, latency=1100, error_rate=0.19),
    ),
    logs=(
        Line(
            AUTH,
            "ERROR",
            "no answer from the resolver, {n} lookups pending",
            "name lookup failed {n} times in a row",
            "cannot resolve the session store, {n} retries left",
        ),
        Line(
            PAYMENTS,
            "WARN",
            "slow lookup of auth, {n}00 ms",
            "address of auth not in cache, lookup took {n}00 ms",
            "{n} connections wait for a name",
        ),
    ),
    alerts=(Page(AUTH, "page", "latency objective missed by {n}%", "p99 latency {n}% over budget"),),
    remedy=cured_by(Restart(AUTH)),
    plan={DEV: Restart(AUTH)},
    explained_by=((LOAD_BALANCER, AUTH),),
)
