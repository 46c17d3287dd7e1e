"""A disk fails slowly."""

from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.model import DATA, SOUND

DISK = Cause("disk", "a disk fails slowly", SOUND, (DATA,), "storage")
