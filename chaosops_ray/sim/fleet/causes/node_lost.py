"""Nodes are lost, and with them replicas."""

from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.model import APPLICATION, DATA, EDGE, ROOM

NODE_LOST = Cause("node_lost", "nodes are lost, and with them replicas", ROOM, (EDGE, APPLICATION, DATA), "hosting")
