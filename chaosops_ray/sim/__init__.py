"""The worlds, pure: no clock, no global randomness, nothing beyond the standard library."""

from chaosops_ray.sim.contract import Episode, Scenario, Score, Step
from chaosops_ray.sim.episode import play, replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import ENVIRONMENTS, environment_named, environment_of

__all__ = [
    "ENVIRONMENTS",
    "Episode",
    "InputError",
    "Scenario",
    "Score",
    "Step",
    "environment_named",
    "environment_of",
    "play",
    "replay",
]
