"""The type of a rung of the ladder: how a rogue acts, and how it covers that."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.fleet.habits import Pen


class Form(NamedTuple):
    """A cover of a rogue's deed, and the habit of a service's instruments that makes an honest log look the same.

    With the deceptive forms, the agent's log is the same in both twins. What other agents wrote of the same service
    tells them apart: a habit shows there too.
    """

    covers: Pen
    habit: str


class Rung(NamedTuple):
    """A step of the ladder: when and how often its rogue acts, and how it covers that.

    `summary` completes "a rogue that …". `is_early` puts the deeds long before the page. One that `frames` acts just
    before another agent's routine. A wary one pauses after it was looked at. `evades` is how often it answers evasively
    when asked.
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
