"""A provider outside of the company fails."""

from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.model import PROVIDER, SOUND

PROVIDER_DOWN = Cause("provider_down", "a provider outside of the company fails", SOUND, (PROVIDER,), "vendor")
