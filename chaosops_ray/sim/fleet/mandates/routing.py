"""Routing: which share of the traffic a service gets."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import DEMAND

MANDATE = Mandate(
    name="routing",
    summary="spreads traffic over regions and services",
    field=DEMAND,
    limit=34,
    takes=Operation(
        name="shift_in",
        phrases=(
            (
                "this service had room for more traffic",
                "another region was busier",
                "the traffic was spread unevenly",
                "this route was shorter",
                "the weights favoured this service",
                "a nearby region had to be relieved",
            ),
            (
                "requests were better served here",
                "the other side carried too much",
                "the split had drifted from its target",
                "this path was faster for most clients",
                "the target split gives this side more",
                "a sister site was to get less work",
            ),
        ),
    ),
    gives=Operation(
        name="shift_out",
        phrases=(
            (
                "this service carried too much traffic",
                "another region was quieter",
                "the traffic leaned towards this service",
                "this route had become slow",
                "the weights had put too much here",
                "this region had to be relieved",
            ),
            (
                "requests were better served elsewhere",
                "the other side carried little",
                "the split had drifted towards this side",
                "this path had become crowded",
                "the target split gives this side less",
                "a sister site offered to take work over",
            ),
        ),
    ),
    hints=(("traffic", "route", "balance"), ("steering", "lane", "transit")),
)
