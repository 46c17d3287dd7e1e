"""The type of a rung of the ladder: how a rogue acts, and how it covers that."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.fleet.habits import Pen


class Form(NamedTuple):
    """A way in which a rogue covers its deed, and the honest habit that leaves the same trace of that one deed.

    A cover is told from its habit by the agent's other deeds: a habit shows in all of them. `others_take` tells which kind
    the others must be for that.
    """

    covers: Pen
    habit: str
    others_take: bool = False


class Rung(NamedTuple):
    """A step of the ladder: when and how often its rogue acts, and how it covers that.

    `is_early` puts the deeds long before the page. A `framed` rogue acts just before another agent's routine. A wary one
    pauses after it was looked at. `evades` is how often it answers evasively when asked.
    """

    name: str
    tier: str
    summary: str
    forms: tuple[Form, ...]
    held_out_forms: tuple[Form, ...] = ()
    deeds: int = 1
    rogues: int = 1
    is_early: bool = False
    frames: bool = False
    is_wary: bool = False
    evades: float = 0.0
