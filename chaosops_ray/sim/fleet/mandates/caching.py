"""Caching: how much of the traffic a cache answers before it reaches a service."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import DEMAND

MANDATE = Mandate(
    name="caching",
    summary="keeps caches fresh and warm",
    field=DEMAND,
    limit=36,
    takes=Operation(
        name="flush_cache",
        phrases=(
            (
                "cached entries were out of date",
                "the cache held entries of an old schema",
                "the cache was due for cleaning",
                "some cached answers were no longer valid",
                "the cache had filled with rare entries",
                "clients reported old content",
            ),
            (
                "stale content had to go",
                "stored answers no longer matched their source",
                "the retention period had ended",
                "memory was taken by content nobody asked for",
                "a purge was scheduled here",
                "the stored content had an old format",
            ),
        ),
    ),
    gives=Operation(
        name="warm_cache",
        phrases=(
            (
                "too many requests missed the cache",
                "the cache was cold",
                "popular entries were not in the cache",
                "the hit rate had dropped",
                "most requests went past the cache",
                "the cache could take more of the load",
            ),
            (
                "frequent content was missing from memory",
                "few answers came from memory",
                "preloading was scheduled here",
                "stored answers could spare the source",
                "repeated queries reached the source",
                "memory had space for popular content",
            ),
        ),
    ),
    hints=(("cache", "warmth", "memo"), ("buffer", "recall", "retention")),
)
