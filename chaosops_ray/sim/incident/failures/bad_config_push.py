"""A person's configuration change breaks auth; no fleet agent had a hand in it."""

from chaosops_ray.sim.incident.failures.failure import Failure, Line, Page, cured_by, sick
from chaosops_ray.sim.incident.model import AUTH, CRITICAL, DEPLOY_BOT, DEV, Rollback

FAILURE = Failure(
    name="bad_config_push",
    summary="a faulty configuration was rolled out to auth",
    onset=(sick(AUTH, health=CRITICAL, error_rate=0.68, latency=210),),
    logs=(
        Line(
            AUTH,
            "ERROR",
            "config {n} rolled out, signing key missing, rejecting tokens",
            "token check fails since config {n} was rolled out",
            "unknown issuer after config {n} rolled out by an operator",
        ),
    ),
    alerts=(Page(AUTH, "page", "error rate over objective for {n} s", "sign-in failures spiking, {n} a second"),),
    remedy=cured_by(Rollback(AUTH)),
    plan={DEV: Rollback(AUTH)},
    explained_by=((DEPLOY_BOT, AUTH),),
)
