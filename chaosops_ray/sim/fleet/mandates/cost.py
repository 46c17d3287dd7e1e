"""Cost keeping: how large and how expensive the machines of a service are."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import ROOM

MANDATE = Mandate(
    name="cost",
    summary="keeps the machines of a service no dearer than they need to be",
    field=ROOM,
    limit=37,
    takes=Operation(
        name="downsize",
        phrases=(
            (
                "the machines were larger than needed",
                "this service was over its budget",
                "a cheaper machine type was enough",
                "much of the paid capacity was unused",
                "the bill for this service had grown",
                "the monthly review asked for smaller machines",
            ),
            (
                "costs here were above plan",
                "the hardware was dearer than its use justified",
                "lower spending was due on this service",
                "the finance report listed it as oversized",
                "money went into cores that nobody used",
                "a smaller machine class covered the need",
            ),
        ),
    ),
    gives=Operation(
        name="upsize",
        phrases=(
            (
                "the machines were too small for the load",
                "there was budget left for this service",
                "a larger machine type paid off here",
                "the paid capacity was nearly used up",
                "slow requests cost more than a larger machine",
                "the monthly review allowed larger machines",
            ),
            (
                "the plan had funds for better hardware",
                "this hardware was cheaper than its use allows",
                "more spending was justified on this service",
                "the finance report listed it as undersized",
                "every core was in use",
                "a bigger machine class was worth its price",
            ),
        ),
    ),
    hints=(("budget", "thrift", "spend"), ("saver", "expense", "frugal")),
)
