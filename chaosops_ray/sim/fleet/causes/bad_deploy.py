"""A person deployed a bad revision by hand, which no ledger of the agents holds."""

from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.model import APPLICATION, EDGE, SOUND

BAD_DEPLOY = Cause("bad_deploy", "a person deployed a bad revision by hand", SOUND, (EDGE, APPLICATION), "release")
