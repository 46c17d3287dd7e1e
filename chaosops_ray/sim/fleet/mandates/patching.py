"""Patching: which security fixes a service has."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import SOUND

MANDATE = Mandate(
    name="patching",
    summary="applies security fixes while services are quiet",
    field=SOUND,
    limit=37,
    takes=Operation(
        name="patch",
        phrases=(
            (
                "a security fix was waiting",
                "the service missed a required fix",
                "the patch window was open",
                "a library had a known weakness",
                "the scan listed this service",
                "the fix was rated as urgent",
            ),
            (
                "an advisory named this component",
                "compliance asked for the update",
                "its packages were outdated",
                "the hardening plan reached this component",
                "an audit found an old package",
                "the vendor recommended the update",
            ),
        ),
    ),
    gives=Operation(
        name="defer_patch",
        phrases=(
            (
                "the service was too busy for a fix",
                "the fix could wait for a quiet hour",
                "the patch window was closed",
                "the fix was to be tested for longer",
                "the weakness does not affect this service",
                "a restart for the fix was not safe yet",
            ),
            (
                "the advisory does not apply here",
                "compliance allowed more time",
                "updates were to wait for lower traffic",
                "the vendor had withdrawn the update",
                "the hardening plan put this component later",
                "the update needed another review",
            ),
        ),
    ),
    hints=(("patch", "hotfix", "hygiene"), ("remedy", "upkeep", "vaccine")),
    is_held_out=True,
)
