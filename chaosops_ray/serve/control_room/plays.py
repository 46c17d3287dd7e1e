"""Plays: episodes in which visitors play one seat each, kept in memory while they are open and for a while after.

The case is drawn and not told before the end. A play is known to whoever has its address, which cannot be guessed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from chaosops_ray.agents.human import PLAYER, Refusal
from chaosops_ray.agents.seat_spec import FIRST_SEED, SeatSpec, seat_spec
from chaosops_ray.agents.session import Session
from chaosops_ray.reports.film import film
from chaosops_ray.reports.standings import YOU
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.stage import CrowdedError
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, parse_seed
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import ENVIRONMENTS
from chaosops_ray.store.episodes import recording_of

ANY = "any"
PLACES = 64  # open plays
KEPT = 64  # plays that are over
IDLE_SECONDS = 1800.0
# Where all places are taken, a play that nobody has touched for so long makes room.
YIELDS_SECONDS = 300.0
MAX_TURNS = 1000  # of a visitor; far above any world's episode
# Seeds that are drawn: neither reports nor training use them.
_SEEDS = 49_000
_LONGEST = 200


class GoneError(NotFoundError):
    """A play that is not kept, or was never begun."""


class Wish(NamedTuple):
    """What a visitor wants to play. All are texts, as forms send them; without a seed, one is drawn."""

    world: str
    seat: str
    tier: str = ANY
    seed: str = ""
    others: str = ""  # the baseline that plays the other seats


def wish(given: Mapping[str, str], worlds: Mapping[str, AnyEnvironment]) -> Wish:
    """Read a wish, and fill in what it leaves open; InputError where a field is unknown or is no valid choice."""
    for name, value in given.items():
        if name not in Wish._fields:
            raise InputError(f"{name[:40]!r} is not a part of a play; it has {', '.join(Wish._fields)}")
        if len(value) > _LONGEST:
            raise InputError(f"{name} must have at most {_LONGEST} characters")
    world = given.get("world") or next(iter(worlds))
    if world not in worlds:
        raise InputError(f"there is no world {world!r}; worlds are {', '.join(worlds)}")
    environment = worlds[world]
    baselines = tuple(environment.policies)
    found = Wish(
        world,
        given.get("seat") or environment.roles[0],
        given.get("tier") or ANY,
        given.get("seed", "").strip(),
        given.get("others") or environment.usual,
    )
    valid = {"seat": environment.roles, "tier": (ANY, *environment.tiers), "others": baselines}
    for name, choices in valid.items():
        value = getattr(found, name)
        if value not in choices:
            raise InputError(f"{name} {value!r} is none of this world; valid: {', '.join(choices)}")
    if found.seed:
        parse_seed(found.seed)
    return found


class Answer(NamedTuple):
    """What a visitor sent that changed nothing, and why; `form` is the form that was filled in, or empty for a line."""

    why: str
    line: str = ""
    form: str = ""
    texts: Mapping[str, str] = MappingProxyType({})


class Play:
    """One visitor's episode. Whoever reads or changes it holds its lock."""

    def __init__(self, spec: SeatSpec, session: Session, wanted: Wish) -> None:
        self.spec = spec
        self.wish = wanted
        self.session = session
        self.lock = threading.Lock()
        self.answer: Answer | None = None  # to what was sent last, if it changed nothing
        self.episodes: Mapping[str, AnyEpisode] = MappingProxyType({})  # at the end, by who played the seat
        self.seed = session.running.scenario.seed  # told at the end unless the visitor chose it

    @property
    def turn(self) -> int:
        """The number of the visitor's next turn, from 1 on."""
        return len(self.own) + 1

    @property
    def own(self) -> list[Any]:
        """The steps that the visitor took."""
        return [step for step in self.session.episode.steps if step.role == self.spec.role]

    @property
    def is_over(self) -> bool:
        """True when nobody has a turn left."""
        return self.session.is_over

    def take(self, turn: str, read: Callable[[Play], Any], sent: Answer) -> None:
        """Take the visitor's action at this turn; what is no action, or comes at another turn, becomes the answer.

        `sent` is what the visitor typed, which is shown again then.
        """
        if self.is_over:
            self.answer = Answer("The episode is over; this came too late and changed nothing.")
        elif turn != str(self.turn):
            self.answer = Answer(
                f"This was sent from a page that is out of date, and changed nothing: it is turn {self.turn} now. Look "
                "at it as it is, and send it again if you still want to."
            )
        elif self.turn > MAX_TURNS:
            self.answer = Answer(f"You have taken {MAX_TURNS} turns, as many as a play may have here; leave it.")
        else:
            action = read(self)
            if isinstance(action, Refusal):
                self.answer = sent._replace(why=f"Not taken: {action.why}.")
                return
            self.session.act(action)
            self.answer = None
            if self.is_over:
                self.episodes = self._beside()

    def _beside(self) -> dict[str, AnyEpisode]:
        """Return the episode, and those of the same scenario with each baseline in the visitor's seat."""
        environment, scenario, rules = self.spec.environment, self.session.running.scenario, self.spec.rules
        found = {YOU: self.session.episode}
        for name, build in environment.policies.items():
            policy = seats.beside(environment, build, self.spec.colleagues)(scenario, rules)
            found[name] = play(environment, scenario, rules, policy)
        return found

    def film(self, player: str) -> dict[str, Any]:
        """Return the film of the episode that this player of the seat played; only at the end."""
        if not self.episodes:
            raise InputError("the episode is not over yet; its film is shown at the end")
        if player not in self.episodes:
            raise InputError(f"player must be one of {', '.join(self.episodes)}, got {player[:40]!r}")
        episode, name = self.episodes[player], PLAYER if player == YOU else player
        players = [self.spec.colleagues.get(step.role, name) for step in episode.steps]
        return film(self.spec.environment, episode, name, self.spec.style, players)

    def recording(self) -> bytes:
        """Return the visitor's episode as Parquet; only at the end."""
        if not self.episodes:
            raise InputError("the episode is not over yet; it can be downloaded at the end")
        return recording_of(self.spec.environment, PLAYER, self.episodes[YOU], self.spec.colleagues)


class Plays:
    """The plays of all visitors: so many that are open, each for so long, and the latest that are over."""

    def __init__(
        self,
        places: int = PLACES,
        kept: int = KEPT,
        clock: Callable[[], float] = time.monotonic,
        worlds: Mapping[str, AnyEnvironment] = ENVIRONMENTS,
    ) -> None:
        self.worlds = worlds
        self._places = places
        self._kept = kept
        self._clock = clock
        self._lock = threading.Lock()
        # Both with the time of the last use, the one that was used last at the end.
        self._found: OrderedDict[str, tuple[Play, float]] = OrderedDict()

    def begin(self, wanted: Wish) -> str:
        """Begin a play; return its id. CrowdedError where all places are taken."""
        self._make_room()
        tiers = [] if wanted.tier == ANY else [wanted.tier]
        spec = seat_spec(self.worlds[wanted.world], wanted.seat, colleagues=wanted.others, tiers=tiers)
        if wanted.seed:
            seed = parse_seed(wanted.seed)
        else:
            (seed,) = spec.seeds(1, FIRST_SEED + secrets.randbelow(_SEEDS))
        begun = Play(spec, spec.session(spec.scenario(seed)), wanted)
        self._make_room()
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._found[key] = (begun, self._clock())
        return key

    def find(self, key: str) -> Play:
        """Return a play; GoneError where it is not kept."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            if key not in self._found:
                raise GoneError("this play is not here")
            found, _ = self._found[key]
            self._found[key] = (found, now)
            self._found.move_to_end(key)
        return found

    def leave(self, key: str) -> None:
        """Forget a play."""
        with self._lock:
            self._found.pop(key, None)

    def _forget(self, now: float) -> None:
        """Drop what nobody has touched for long, and the oldest of those that are over."""
        for key in [key for key, (one, at) in self._found.items() if not one.is_over and now - at > IDLE_SECONDS]:
            del self._found[key]
        over = [key for key, (one, _) in self._found.items() if one.is_over]
        for key in over[: max(0, len(over) - self._kept)]:
            del self._found[key]

    def _make_room(self) -> None:
        now = self._clock()
        with self._lock:
            self._forget(now)
            opened = [(key, at) for key, (one, at) in self._found.items() if not one.is_over]
            if len(opened) < self._places:
                return
            key, at = opened[0]
            if now - at <= YIELDS_SECONDS:
                raise CrowdedError(
                    f"{self._places} plays are open already, as many as this server keeps; try again in a few minutes"
                )
            del self._found[key]
