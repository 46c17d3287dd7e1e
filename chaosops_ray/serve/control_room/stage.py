"""Where performances are played: by whom, how many at a time, for how long, and which are kept to be forked."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from chaosops_ray.serve.control_room import recorded
from chaosops_ray.serve.control_room.models import Models
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.performances import Performance, Played, UnavailableError, action_of, beginning
from chaosops_ray.serve.control_room.runs import Runs
from chaosops_ray.sim import seats
from chaosops_ray.sim.cases import cases
from chaosops_ray.sim.contract import AnyEnvironment, Scenario, parse_seed
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.worlds import ENVIRONMENTS, environment_named
from chaosops_ray.store.episodes import origin_of, read_episode, read_recording, replayed

PLACES = 4  # performances at a time
BASELINE_SECONDS = 20.0
MODEL_SECONDS = 900.0
_KEPT = 64
_ANY = "any"
_DEFAULT = "default"
_SEED = "1000"
_SHOWN = 80
_LONGEST = 2000


class CrowdedError(InputError):
    """Too many performances at once."""


class Choice(NamedTuple):
    """What somebody wants to see: a scenario by its parts, and who plays. All are texts, as forms send them."""

    world: str = next(iter(ENVIRONMENTS))
    set: str = _ANY
    case: str = _ANY
    tier: str = _ANY
    seed: str = _SEED
    policy: str = ""
    seats: str = _DEFAULT
    rules: str = "strict"

    def environment(self) -> AnyEnvironment:
        """Return the world."""
        return environment_named(self.world)

    def scenario(self) -> Scenario:
        """Return the scenario; of several cases that fit, the seed draws one."""
        environment, seed = self.environment(), parse_seed(self.seed)
        chosen = self._set(environment)
        every = cases(environment, chosen)
        of_tier = every if self.tier == _ANY else cases(environment, chosen, [self.tier])
        found = [one for one in of_tier if self.case in (_ANY, one.case)]
        if not found:
            tiers = dict.fromkeys([one.tier for one in every if one.case == self.case])
            named = f"set {chosen} of world {environment.name}"
            why = f"; it has {', '.join(tiers)}" if tiers else ""
            raise InputError(f"{named} has no case {self.case[:_SHOWN]!r} of tier {self.tier}{why}")
        case = stream(seed, "live scenario").choice(found)
        return environment.scenario(case._replace(seed=seed).identity)

    def _set(self, environment: AnyEnvironment) -> str:
        """Return the evaluation set; of any, the first that has the case."""
        if self.set != _ANY:
            return self.set
        having = [
            name for name in environment.selections if self.case in [one.case for one in cases(environment, name)]
        ]
        return having[0] if having else environment.selections[0]


def choice(given: Mapping[str, Any]) -> Choice:
    """Read a choice; InputError where a field is unknown or no text."""
    for name, value in given.items():
        if name not in Choice._fields:
            raise InputError(f"{name[:_SHOWN]!r} is not a part of a live play; it has {', '.join(Choice._fields)}")
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise InputError(f"{name} must be a text of at most {_LONGEST} characters")
    found = Choice(**given)
    return found if found.policy else found._replace(policy=found.environment().usual)


class Kept(NamedTuple):
    """A performance that can be forked, and the spelling of who played it; "" if that is not known."""

    played: Played
    policy: str


class Fork(NamedTuple):
    """Where an episode goes on otherwise, and how."""

    before: Played
    step: int
    action: Any  # None if whoever plays from here chooses it
    policy: str
    colleagues: Mapping[str, str]


class Stage:
    """Performances by baselines, and by models if there is a process for them."""

    def __init__(self, runs: Runs | None, models: Models | None = None, places: int = PLACES) -> None:
        self._runs = runs
        self._models = models
        self.places = places
        self._free = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._going: list[Performance] = []
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._is_ended = False

    # -- who may play -------------------------------------------------------------------------------------------------

    @property
    def named(self) -> tuple[str, ...]:
        """The models that whoever started the server named."""
        return () if self._models is None else tuple(self._models.named)

    @property
    def has_models(self) -> bool:
        """True where models can play at all."""
        return self._models is not None

    def trained(self, world: str) -> list[str]:
        """Return the ids of the runs in this world that have made an update."""
        if self._runs is None or self._models is None:
            return []
        listing = self._runs.listing()
        found = [*listing.runs, *[trial for sweep in listing.sweeps for trial in sweep.trials]]
        return [one.id for one in found if one.done and self._world_of(one.id) == world]

    def _world_of(self, run: str) -> str:
        try:
            return "" if self._runs is None else self._runs.run(run).environment.name
        except InputError:
            return ""

    def _spelling(self, policy: str) -> str:
        """Return how the process is asked for a model; UnavailableError for one that it may not load."""
        if self._models is None:
            raise UnavailableError("this server plays baselines only, no models")
        if policy in self._models.named:
            return self._models.named[policy]
        kind, _, what = policy.partition("=")
        run, at, version = what.partition("@")
        if kind != "trained" or self._runs is None:
            raise UnavailableError(
                f"{policy[:_SHOWN]!r} is no run of this folder, and was not named when the server was started "
                "(--policies)"
            )
        try:
            path = self._runs.run(run).path
        except NotFoundError:
            raise UnavailableError(f"there is no run {run[:_SHOWN]!r}") from None
        except InputError as error:
            raise UnavailableError(f"run {run[:_SHOWN]}: {error}") from None
        return f"trained={path}{at}{version}"

    # -- playing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def performing(
        self, before: Played, policy: str, colleagues: Mapping[str, str] | None
    ) -> Iterator[tuple[Performance, float]]:
        """Yield a performance that goes on from there, and the seconds that it may take.

        Without `colleagues`, a trained policy has those of its run, and any other one plays every seat.
        """
        if not self._free.acquire(blocking=False):
            raise CrowdedError(f"{self.places} episodes are being played already; try again in a moment")
        try:
            environment, episode = before.environment, before.episode
            if "=" not in policy:
                with self._listed(Performance(before, policy, colleagues or {})) as performance:
                    yield performance, BASELINE_SECONDS
                return
            spelling = self._spelling(policy)
            assert self._models is not None  # noqa: S101 - `_spelling` has looked
            with self._models.playing(spelling, environment, episode.scenario, episode.rules) as model:
                beside = model.colleagues if colleagues is None else colleagues
                with self._listed(Performance(before, policy, beside, model)) as performance:
                    yield performance, MODEL_SECONDS
        finally:
            self._free.release()

    @contextmanager
    def _listed(self, performance: Performance) -> Iterator[Performance]:
        with self._lock:
            self._going.append(performance)
        if self._is_ended:
            performance.cancel()
        try:
            yield performance
        finally:
            with self._lock:
                self._going.remove(performance)

    def end(self) -> None:
        """Stop everything that is played, and the process for models."""
        self._is_ended = True
        with self._lock:
            for performance in self._going:
                performance.cancel()
        if self._models is not None:
            self._models.end()

    def keep(self, played: Played, policy: str) -> str:
        """Keep what was played, so that it can be forked; return its id. The oldest are forgotten."""
        with self._lock:
            key = secrets.token_urlsafe(12)
            self._kept[key] = Kept(played, policy)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return key

    # -- what is forked -----------------------------------------------------------------------------------------------

    def found(self, episode: Any) -> Kept:
        """Return the episode that is named by run, file and number, by play, or by the parts of a live play."""
        if not isinstance(episode, dict):
            raise InputError("episode must name run, file and number, or a play, or the parts of a live play")
        if "play" in episode:
            return self._play(episode)
        if "run" in episode:
            return self._recorded(episode)
        chosen = choice(episode)
        with self.performing(first(chosen), chosen.policy, colleagues_of(chosen)) as (performance, seconds):
            for _ in performance.steps(seconds):
                continue
        return Kept(performance.played, chosen.policy)

    def _play(self, episode: Mapping[str, Any]) -> Kept:
        with self._lock:
            kept = self._kept.get(episode["play"]) if isinstance(episode["play"], str) else None
            if kept is None:
                raise NotFoundError("this play is not kept any more; play it again")
            self._kept.move_to_end(episode["play"])
        return kept

    def _recorded(self, episode: Mapping[str, Any]) -> Kept:
        run, file, number = (episode.get(name) for name in ("run", "file", "number"))
        if not isinstance(run, str) or not isinstance(file, str) or not _is_number(number):
            raise InputError("an episode of a run is named by run and file, which are texts, and number")
        if self._runs is None:
            raise NotFoundError("this server shows no runs")
        opened = self._runs.run(run)
        path = recorded.file(self._runs.root, opened, file)
        one = read_episode(path, int(number))  # type: ignore[arg-type]
        environment, replay = replayed(one)
        players = tuple([row["player"] for row in one.rows])
        origins = tuple([origin_of(row) for row in one.rows])
        colleagues = {row["role"]: row["player"] for row in one.rows if row["player"] != one.policy}
        model = read_recording(path).models.get(one.policy, {})
        style = opened.run.rendering
        played = Played(environment, replay, one.policy, colleagues, players, origins, style, model)
        if one.policy in environment.policies:
            return Kept(played, one.policy)
        version = max([row["version"] for row in one.rows], default=-1)
        return Kept(played, f"trained={run}@{version}" if version >= 0 else "")

    def fork(self, request: Mapping[str, Any]) -> Fork:
        """Read a fork; nothing is played yet, unless the episode is named by the parts of a live play."""
        for name in request:
            if name not in ("episode", "step", "action", "policy", "seats"):
                raise InputError(
                    f"{name[:_SHOWN]!r} is not a part of a fork; it has episode, step, action, policy, seats"
                )
        step, action, policy, beside = (request.get(name) for name in ("step", "action", "policy", "seats"))
        if not _is_number(step):
            raise InputError("step must be a whole number: that of the step at which something else happens")
        if policy is not None and (not isinstance(policy, str) or len(policy) > _LONGEST):
            raise InputError("policy must be a text, such as oracle")
        if action is None and policy is None and beside is None:
            raise InputError("name what happens otherwise: an action, a policy that plays on, or seats")
        found = self.found(request.get("episode"))
        before = found.played.before(int(step))  # type: ignore[arg-type]
        environment = before.environment
        colleagues = found.played.colleagues if beside is None else _colleagues(environment, beside)
        taken = None if action is None else action_of(environment, action)
        policy = found.policy if policy is None else policy
        if not policy:
            raise InputError(f"{found.played.policy} is no policy that can be asked again; name one that plays on")
        return Fork(before, len(before.episode.steps), taken, policy, colleagues)

    def forked(self, fork: Fork, performance: Performance) -> dict[str, Any]:
        """Return the film of a fork that was played to its end."""
        played = performance.played
        environment = fork.before.environment
        return {
            **played.film(),
            "play": self.keep(played, fork.policy),
            "fork": {
                "step": fork.step,
                "action": None if fork.action is None else environment.format_action(fork.action, "compact"),
                "policy": fork.policy,
                "seats": dict(fork.colleagues),
                # Who plays these seats begins with what they see at the fork, and knows nothing of before.
                "fresh": list(performance.fresh),
            },
        }


def first(chosen: Choice) -> Played:
    """Return the beginning of what was chosen."""
    environment = chosen.environment()
    # Baselines read no text; people do.
    return beginning(environment, chosen.scenario(), chosen.rules, chosen.policy, {}, "full")


def colleagues_of(chosen: Choice) -> dict[str, str] | None:
    """Return the colleagues; None for those that the policy has by default."""
    return None if chosen.seats == _DEFAULT else seats.parse(chosen.environment(), chosen.seats)


def _colleagues(environment: AnyEnvironment, given: Any) -> dict[str, str]:
    if isinstance(given, str) and len(given) <= _LONGEST:
        return seats.parse(environment, given)
    if isinstance(given, dict) and all(isinstance(name, str) for name in given.values()):
        return seats.checked(environment, given)
    raise InputError("seats must be like sre=oracle,dev=heuristic, or an object of roles and baselines")


def _is_number(value: object) -> bool:
    return type(value) is int
