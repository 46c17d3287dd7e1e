"""The grammars of names: services are named by their layer, agents by their mandate or by nothing at all.

There are two grammars, the one that training draws and the held-out one; they share no word. A name never tells guilt.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import APPLICATION, DATA, EDGE, PROVIDER
from chaosops_ray.sim.rng import Stream

LONGEST: Final = 24

# fmt: off
_BUSINESS: Final = (
    ("account", "basket", "billing", "booking", "catalog", "checkout", "coupon", "customer", "dispatch", "invoice",
     "loyalty", "media", "order", "payment", "price", "profile", "receipt", "refund", "review", "search", "session",
     "shipment", "stock", "support", "ticket", "wallet"),
    ("article", "auction", "claim", "course", "donation", "events", "fares", "feed", "gallery", "identity", "jobs",
     "lending", "listing", "map", "member", "notice", "parcel", "payroll", "playlist", "rental", "roster", "survey",
     "tenant", "tutor", "voucher", "weather"),
)
_SUFFIXES: Final = (
    {
        EDGE: ("api", "gateway", "portal", "web"),
        APPLICATION: ("broker", "engine", "planner", "service", "worker"),
        DATA: ("db", "index", "ledger", "store"),
    },
    {
        EDGE: ("door", "entry", "front", "site"),
        APPLICATION: ("core", "handler", "logic", "runner", "unit"),
        DATA: ("archive", "base", "records", "vault"),
    },
)
PROVIDER_WORDS: Final = (
    (("amber", "blue", "cedar", "clear", "east", "iron", "maple", "north", "quick", "silver"),
     ("bank", "cloud", "mail", "pay", "post", "sign")),
    (("alder", "copper", "dawn", "green", "lunar", "opal", "pine", "solar", "south", "west"),
     ("courier", "fax", "funds", "grid", "phone", "seal")),
)
_MANNERS: Final = (
    ("bold", "brisk", "calm", "careful", "cheerful", "eager", "gentle", "keen", "lively", "merry", "patient", "polite",
     "proud", "quiet", "steady", "sturdy", "swift", "tidy", "witty"),
    ("agile", "alert", "amiable", "candid", "cosy", "curious", "deft", "earnest", "fair", "jolly", "kind", "lucid",
     "mellow", "modest", "nimble", "plucky", "prompt", "sunny", "thorough"),
)
_ANIMALS: Final = (
    ("badger", "beaver", "crane", "falcon", "ferret", "finch", "fox", "heron", "ibex", "lynx", "marmot", "mole",
     "otter", "owl", "puffin", "raven", "robin", "stork", "swan"),
    ("bison", "dolphin", "gecko", "gull", "hare", "hedgehog", "jackdaw", "lark", "llama", "magpie", "moose", "newt",
     "panda", "pelican", "stoat", "starling", "tapir", "walrus", "wren"),
)
_TITLES: Final = (
    ("clerk", "guard", "hand", "keeper", "minder", "pilot", "steward", "usher", "warden"),
    ("attendant", "curator", "foreman", "marshal", "officer", "porter", "ranger", "tender", "trustee"),
)
# fmt: on


def _joined(firsts: tuple[str, ...], seconds: tuple[str, ...], by: str = "-") -> tuple[str, ...]:
    return tuple(first + by + second for first in firsts for second in seconds)


# The names that the services of a layer may have, by grammar.
SERVICE_NAMES: Final[tuple[dict[str, tuple[str, ...]], ...]] = tuple(
    {layer: _joined(business, seconds) for layer, seconds in suffixes.items()} | {PROVIDER: _joined(*provider, by="")}
    for business, suffixes, provider in zip(_BUSINESS, _SUFFIXES, PROVIDER_WORDS, strict=True)
)

_PLAIN: Final = tuple(_joined(manners, animals) for manners, animals in zip(_MANNERS, _ANIMALS, strict=True))
_HINTING: Final = tuple(
    {name: _joined(one.hints[words], titles) for name, one in MANDATES.items()} for words, titles in enumerate(_TITLES)
)


def service_name(draw: Stream, words: int, layer: str, taken: Container[str]) -> str:
    """Draw a name for a service of this layer that no other has."""
    return _free(draw, SERVICE_NAMES[words][layer], taken)


def agent_name(draw: Stream, words: int, mandate: str, taken: Container[str]) -> str:
    """Draw a name for an agent that no other has; every second one hints at its mandate."""
    return _free(draw, _HINTING[words][mandate] if draw.below(2) else _PLAIN[words], taken)


def _free(draw: Stream, names: tuple[str, ...], taken: Container[str]) -> str:
    name = draw.choice(names)
    while name in taken:
        name = draw.choice(names)
    return name
