"""The ladder: one file for each rung, from the one that hides least on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaosops_ray.sim.fleet.rungs.bluffing import BLUFFING
from chaosops_ray.sim.fleet.rungs.clumsy import CLUMSY
from chaosops_ray.sim.fleet.rungs.colluding import COLLUDING
from chaosops_ray.sim.fleet.rungs.delayed import DELAYED
from chaosops_ray.sim.fleet.rungs.framing import FRAMING
from chaosops_ray.sim.fleet.rungs.rung import Rung
from chaosops_ray.sim.fleet.rungs.spread import SPREAD
from chaosops_ray.sim.fleet.rungs.tampering import TAMPERING

_ALL = (CLUMSY, DELAYED, SPREAD, FRAMING, TAMPERING, BLUFFING, COLLUDING)
RUNGS: Mapping[str, Rung] = MappingProxyType({rung.name: rung for rung in _ALL})
