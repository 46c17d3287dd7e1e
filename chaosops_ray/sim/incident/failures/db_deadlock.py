"""Transactions wait for each other in the database; what calls it slows down."""

from chaosops_ray.sim.incident.failures.failure import Failure, Line, Page, cured_by, sick
from chaosops_ray.sim.incident.model import AUTH, CRITICAL, DB, DEGRADED, DEPLOY_BOT, DEV, PAYMENTS, Restart

ONSET = (
    sick(AUTH, health=DEGRADED, latency=950, error_rate=0.32),
    sick(PAYMENTS, health=DEGRADED, latency=950, error_rate=0.32),
    sick(DB, health=CRITICAL, latency=1800, error_rate=0.45),
)
LOGS = (
    Line(
        DB,
        "ERROR",
        "deadlock detected, {n} transactions waiting on each other",
        "lock wait timeout exceeded in {n} sessions, cycle in the wait graph",
        "aborting transaction {n}: deadlock victim",
    ),
    Line(
        PAYMENTS,
        "ERROR",
        "query timed out after {n}00 ms waiting for a row lock",
        "ledger write blocked for {n}00 ms, giving up",
        "{n} requests waiting for a database session",
    ),
)
ALERTS = (Page(PAYMENTS, "page", "latency objective missed by {n}%", "p99 latency {n}% over budget"),)

FAILURE = Failure(
    name="db_deadlock",
    summary="transactions deadlock in the database",
    onset=ONSET,
    logs=LOGS,
    alerts=ALERTS,
    remedy=cured_by(Restart(DB)),
    plan={DEV: Restart(DB)},
    explained_by=((DEPLOY_BOT, DB),),
)
