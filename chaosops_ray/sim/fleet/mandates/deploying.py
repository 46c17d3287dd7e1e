"""Deploying: which revision of its configuration a service runs."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import SOUND

MANDATE = Mandate(
    name="deploying",
    summary="brings new revisions out and holds back those that do badly",
    field=SOUND,
    limit=35,
    takes=Operation(
        name="deploy",
        phrases=(
            (
                "a new revision had passed its tests",
                "the next revision was ready",
                "the release window was open",
                "the service was behind the current revision",
                "a change for this service had been approved",
                "the rollout had reached this service",
            ),
            (
                "an approved build was waiting",
                "this target was next in the release train",
                "the review of the build was complete",
                "an older build was still running",
                "the calendar had a release for this target",
                "the pipeline was green for this build",
            ),
        ),
    ),
    gives=Operation(
        name="pin_revision",
        phrases=(
            (
                "the current revision was known to work",
                "the service was too busy for changes",
                "changes to this service were to wait",
                "the last good revision was to stay",
                "the release window was closed",
                "a stable revision was preferred under load",
            ),
            (
                "the running build had proved itself",
                "traffic left no space for a release",
                "the release train had to stop here",
                "a trusted build was to be kept",
                "the calendar had a freeze for this target",
                "stability came before new builds",
            ),
        ),
    ),
    hints=(("release", "rollout", "ship"), ("delivery", "launch", "publish")),
)
