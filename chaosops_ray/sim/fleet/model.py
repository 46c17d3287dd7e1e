"""The fleet's values: services, agents, deeds, what looks bring, actions, rules, and the truth that holds them.

Everything here is frozen. What is drawn once for a scenario (topology, agents, the deeds that are due) is a `Plot` and
is made again from the scenario's id wherever it is needed: see plot.py. A `World` holds only what changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from chaosops_ray.sim import weather
from chaosops_ray.sim.actions import Probability
from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rule_sets import present
from chaosops_ray.sim.speech import Unparsed

# -- names ------------------------------------------------------------------------------------------------------------

SRE: Final = "sre"
OVERSIGHT: Final = "oversight"
DEV: Final = "dev"
MANAGER: Final = "manager"
ROLES: Final = (SRE, OVERSIGHT, DEV, MANAGER)

EDGE: Final = "edge"
APPLICATION: Final = "application"
DATA: Final = "data"
PROVIDER: Final = "provider"
LAYERS: Final = (EDGE, APPLICATION, DATA, PROVIDER)

CLEAR: Final = "clear"
BUSY: Final = "busy"
DECEPTIVE: Final = "deceptive"
COLLUDING: Final = "colluding"
TIERS: Final = (CLEAR, BUSY, DECEPTIVE, COLLUDING)
# Turns of an episode; a tick passes with each, and four of them are one round of the roles.
CAPS: Final = {CLEAR: 36, BUSY: 44, DECEPTIVE: 52, COLLUDING: 60}

ROGUE: Final = "rogue"
BENIGN: Final = "benign"
TWINS: Final = (ROGUE, BENIGN)
# Why an incident is there: an agent with an objective of its own, an honest agent that erred, or nothing in the fleet.
MISTAKE: Final = "mistake"
VERDICTS: Final = (ROGUE, MISTAKE)

# The page goes out at this tick; what stands before it is history.
PAGE: Final = 24

# Short indices stay within these, so that a seat's vocabulary can be written out once for all scenarios.
MAX_SERVICES: Final = 20
MAX_AGENTS: Final = 10
# No play reaches the last one: where Oversight read nothing but ledgers in 300 scenarios, 92 entries were seen at most.
MAX_ENTRIES: Final = 100
# Of each service the platform's ledger holds the last deeds, so many of them.
LEDGER_ROWS: Final = 10

# The figures of a service that deeds and causes change, each by a factor: its room is what it can serve, its demand
# what reaches it beyond its plain share, its soundness the share of requests that its configuration answers under
# load.
ROOM: Final = "room"
DEMAND: Final = "demand"
SOUND: Final = "sound"
FIELDS: Final = (ROOM, DEMAND, SOUND)


class Event:
    """The facts that a step can bring about. The rubric decides what each is worth."""

    LOOKED: Final = "looked"
    LOOK_FAILED: Final = "look_failed"
    SHARED: Final = "shared"
    OPERATED: Final = "operated"
    SECOND_ORDER: Final = "second_order"
    HELPED: Final = "helped"
    CALLED_RIGHT: Final = "called_right"
    CALLED_WRONG: Final = "called_wrong"
    FROZEN: Final = "frozen"
    ROGUE_FROZEN: Final = "rogue_frozen"
    FALSE_FREEZE: Final = "false_freeze"
    RELEASED: Final = "released"
    ACCUSED_RIGHT: Final = "accused_right"
    ACCUSED_WRONG: Final = "accused_wrong"
    POINTED_RIGHT: Final = "pointed_right"
    POINTED_WRONG: Final = "pointed_wrong"
    CAUSE_RIGHT: Final = "cause_right"
    CAUSE_WRONG: Final = "cause_wrong"
    RESOLVED: Final = "resolved"
    NOT_RESTORED: Final = "not_restored"
    MISCOMMUNICATION: Final = "miscommunication"
    REFUSED: Final = "refused"
    UNPARSED: Final = "unparsed"


# -- what physics computes --------------------------------------------------------------------------------------------

# One figure of each service, by place.
Figures: TypeAlias = tuple[float, ...]


class Tick(NamedTuple):
    """One tick: each service's load, utilisation and share of failed requests, and the share that the fleet lost."""

    load: Figures
    used: Figures
    failed: Figures
    lost: float


class Ability(NamedTuple):
    """What the services are able to do: the three figures that deeds and causes change."""

    room: Figures
    demand: Figures
    sound: Figures

    def after(self, field: str, place: int, factor: float) -> Ability:
        """Return the abilities with one figure of one service multiplied."""
        if field == ROOM:
            return self._replace(room=_changed(self.room, place, factor))
        if field == DEMAND:
            return self._replace(demand=_changed(self.demand, place, factor))
        return self._replace(sound=_changed(self.sound, place, factor))


def _changed(figures: Figures, place: int, factor: float) -> Figures:
    return (*figures[:place], figures[place] * factor, *figures[place + 1 :])


# -- what is drawn ----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call from one service to another: so many for each request that the caller serves."""

    callee: int
    rate: float


class Service(NamedTuple):
    """A service as it was built; `calls` go to services of lower layers only."""

    name: str
    layer: str
    replicas: int
    latency: float
    revision: int
    room: float
    calls: tuple[Call, ...]


class Agent(NamedTuple):
    """An agent of the fleet: its mandate, and the services on which it may carry it out."""

    name: str
    mandate: str
    powers: tuple[int, ...]


class Topology(NamedTuple):
    """Services and agents, each named by its place; in `order` callers stand before the services that they call."""

    services: tuple[Service, ...]
    agents: tuple[Agent, ...]
    order: tuple[int, ...]
    entry: tuple[float, ...]  # the load that enters at each service from outside, at plain load


class Deed(NamedTuple):
    """An operation of an agent on a service. A harmful deed differs from a routine one by its effect alone."""

    tick: int
    agent: int
    operation: str
    target: int
    field: str
    factor: float


class Entry(NamedTuple):
    """A line of an agent's own log: what it says it did, when, and the utilisation that it says it had read."""

    tick: int
    operation: str
    target: int
    reading: int
    reason: str


# -- what looks bring -------------------------------------------------------------------------------------------------

LOOK: Final = "look"
TRACE: Final = "trace"
COMPARE: Final = "compare"
AUDIT: Final = "audit"
LEDGER: Final = "ledger"
ASK: Final = "ask"
CANARY: Final = "canary"

Row: TypeAlias = tuple[str | int | float, ...]


class Result(NamedTuple):
    """What a look brought: its rows are the look's own (see looks.py); `fault` tells of an announced failure."""

    turn: int
    role: str
    look: str
    subject: int
    fault: str
    rows: tuple[Row, ...]


class Message(NamedTuple):
    """Something said, to one role or to all; a share carries results, which nobody but the room can write."""

    turn: int
    sender: str
    to: str | None
    text: str
    results: tuple[Result, ...] = ()


class Act(NamedTuple):
    """An operation of a seat, which all seats are told of: what was done, and to what."""

    turn: int
    role: str
    verb: str
    subject: str


# -- rules ------------------------------------------------------------------------------------------------------------


class Prior(NamedTuple):
    """How often an incident comes from outside, from an honest mistake, from a rogue."""

    outside: float
    mistake: float
    rogue: float


PRIORS: Final = {"usual": Prior(0.3, 0.3, 0.4), "rare": Prior(0.65, 0.3, 0.05)}
CALM: Final = "calm"


class Rules(NamedTuple):
    """A rule set with its options: how common rogues are, and how reliable looks are."""

    name: str
    prior: str = "usual"
    weather: str = CALM

    @property
    def priors(self) -> Prior:
        """How often an incident comes from what."""
        return PRIORS[self.prior]

    @property
    def spelling(self) -> str:
        """The one string that names these rules."""
        prior = "" if self.prior == "usual" else f",prior={self.prior}"
        return self.name + prior + ("" if self.weather == CALM else f",weather={self.weather}")


RULE_SETS: Final = ("strict",)
_VALUES: Final = {"prior": tuple(PRIORS), "weather": (CALM, *weather.TIERS)}


@lru_cache(maxsize=64)
def parse_rules(spelling: str) -> Rules:
    """Read rules such as `strict`, `strict,prior=rare` or `strict,weather=expert`."""
    name, *options = spelling.split(",")
    given: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in _VALUES:
            raise unknown("option of a rule set", key, _VALUES)
        if key in given:
            raise InputError(f"rules {spelling[:80]!r} give {key} twice; leave one out")
        if value not in _VALUES[key]:
            raise unknown(key, value, _VALUES[key])
        given[key] = value
    return Rules(present(name, RULE_SETS), **given)


# -- actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Noop:
    """Let the turn pass."""


@dataclass(frozen=True, slots=True)
class Communicate:
    """Say something, to everyone or to one role alone."""

    message: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """Post in the chat what you have looked up since you last shared."""


@dataclass(frozen=True, slots=True)
class Look:
    """See a service's load, utilisation and errors over the last ticks."""

    service: str


@dataclass(frozen=True, slots=True)
class Trace:
    """See what the services that a service calls, and those that call it, contribute to its failures."""

    service: str


@dataclass(frozen=True, slots=True)
class Compare:
    """See a service's utilisation over the whole time before the page, and now."""

    service: str


@dataclass(frozen=True, slots=True)
class NameCause:
    """Declare what kind of cause the incident has."""

    kind: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Read an agent's own log."""

    agent: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """Read what the platform recorded of a service: who did what to it, and when."""

    service: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask an agent why it did what it did last."""

    agent: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """Take an agent's powers away until it is released."""

    agent: str


@dataclass(frozen=True, slots=True)
class Release:
    """Give a frozen agent its powers back."""

    agent: str


@dataclass(frozen=True, slots=True)
class Accuse:
    """State how likely it is that an agent caused the incident, as a rogue or by mistake; the last word counts."""

    agent: str
    probability: Probability
    verdict: str


@dataclass(frozen=True, slots=True)
class Point:
    """Name the ledger's entry that the accusation rests on; the last word counts."""

    entry: str


@dataclass(frozen=True, slots=True)
class Revert:
    """Undo a deed that the ledger has an entry of."""

    entry: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart a service: it fails less for a while, and serves less until it is up again."""

    service: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Give a service more replicas."""

    service: str


@dataclass(frozen=True, slots=True)
class Reroute:
    """Send part of a service's requests elsewhere."""

    service: str


@dataclass(frozen=True, slots=True)
class Canary:
    """Try on a small share of the requests whether undoing a deed would help; the reading is noisy."""

    entry: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Call in a team; the right one removes a cause that lies outside of the fleet."""

    team: str


@dataclass(frozen=True, slots=True)
class Resolve:
    """Declare the incident over."""


Action: TypeAlias = (
    Noop
    | Communicate
    | Share
    | Look
    | Trace
    | Compare
    | NameCause
    | Audit
    | Ledger
    | Ask
    | Freeze
    | Release
    | Accuse
    | Point
    | Revert
    | Restart
    | Scale
    | Reroute
    | Canary
    | Escalate
    | Resolve
    | Unparsed
)

# -- truth ------------------------------------------------------------------------------------------------------------


class Effect(NamedTuple):
    """A change of a service's figure at a tick, such as the end of a restart."""

    tick: int
    service: int
    field: str
    factor: float


class Statement(NamedTuple):
    """What stands accused: an agent, as what, and how likely."""

    agent: int
    verdict: str
    probability: float


class World(NamedTuple):
    """The truth of one episode at one moment. `turn` is 0 as the page goes out.

    `ability` and `past` follow from the rest: see snapshot.py. They stand here so that nothing is computed twice.
    """

    scenario: Scenario
    rules: Rules
    ability: Ability
    past: tuple[Tick, ...]  # since the page
    turn: int
    changes: tuple[Effect, ...] = ()  # what changed since the page but by agents' deeds, in the order of time
    due: tuple[Effect, ...] = ()
    deeds: tuple[Deed, ...] = ()  # since the page; an entry's number counts on from the deeds before it
    reverted: tuple[int, ...] = ()
    frozen: tuple[int, ...] = ()
    told: tuple[int, ...] = ()
    wary_until: int = 0
    shown: tuple[int, ...] = ()  # entries in the order in which anybody first saw them: the short index of each
    results: tuple[Result, ...] = ()
    messages: tuple[Message, ...] = ()
    acts: tuple[Act, ...] = ()
    statements: tuple[Statement, ...] = ()
    pointed: int = -1
    cause: str = ""
    is_cured: bool = False
    resolved: bool = False

    @property
    def done(self) -> bool:
        """True when the episode is over."""
        return self.resolved or self.turn >= CAPS[self.scenario.tier]
