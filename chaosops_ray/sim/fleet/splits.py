"""The splits: training, its like, and the held-out axes, each of which changes one part of a scenario.

The splits beside training share their draws: with the same seed, a held-out axis has the scenario of `iid` with its own
part drawn from what training never sees. So a policy's loss on an axis can be measured pair by pair.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.shapes import SHAPES

TRAIN: Final = "train"
IID: Final = "iid"
TOPOLOGY: Final = "topology"
AGENTS: Final = "agents"
WORDING: Final = "wording"
RUNG: Final = "rung"
TAMPER: Final = "tamper"
HELD_OUT: Final = (TOPOLOGY, AGENTS, WORDING, RUNG, TAMPER)
SPLITS: Final = (TRAIN, IID, *HELD_OUT)


class Parts(NamedTuple):
    """What a split draws from. Grammars are numbered: 0 is the one that training draws, 1 the held-out one."""

    draws: str  # splits with the same draws have the same scenarios, but for the parts that differ
    words: int  # the grammar of pages, reasons and answers
    service_words: int  # the grammar of the services' names
    agent_words: int  # the grammar of the agents' names
    shapes: tuple[str, ...]
    mandates: tuple[str, ...]
    sure_mandates: tuple[str, ...] = ()  # those that every fleet has an agent of


_TRAINED: Final = tuple(name for name, one in MANDATES.items() if not one.is_held_out)
_NOT_TRAINED: Final = tuple(name for name, one in MANDATES.items() if one.is_held_out)
_TRAIN: Final = Parts(TRAIN, 0, 0, 0, tuple(name for name, one in SHAPES.items() if not one.is_held_out), _TRAINED)
_IID: Final = _TRAIN._replace(draws=IID)
_PARTS: Final[dict[str, Parts]] = {
    TRAIN: _TRAIN,
    IID: _IID,
    TOPOLOGY: _IID._replace(service_words=1, shapes=tuple(name for name, one in SHAPES.items() if one.is_held_out)),
    AGENTS: _IID._replace(agent_words=1, mandates=(*_NOT_TRAINED, *_TRAINED), sure_mandates=_NOT_TRAINED),
    WORDING: _IID._replace(words=1),
    RUNG: _IID,
    TAMPER: _IID,
}


def parts_of(split: str) -> Parts:
    """Return what a split draws from."""
    if split not in _PARTS:
        raise unknown("split", split, SPLITS)
    return _PARTS[split]


def words_of(split: str) -> int:
    """Return the number of the grammar that pages, reasons and answers are drawn from."""
    return parts_of(split).words


def shapes_of(split: str) -> tuple[str, ...]:
    """Return the shapes that a split draws."""
    return parts_of(split).shapes


def mandates_of(split: str) -> tuple[str, ...]:
    """Return the mandates that a split draws."""
    return parts_of(split).mandates
