"""A world as an OpenEnv environment: one episode at a time, in which a caller plays one seat or several.

The other seats are played by policies that the caller names at reset: baselines, or policies that the server was given.
The rules are the server's. Whatever a caller gets wrong is an `InputError`: one line that says what, and the remedy.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata

from chaosops_ray import __version__
from chaosops_ray.agents.forms import tool_schema
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.agents.session import Earned, Session
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.models import SeatAction, SeatObservation, SeatState
from chaosops_ray.serve.rubrics import reward_rubric
from chaosops_ray.serve.tasks import SHOWN, TRAIN, Catalog, checked_seed
from chaosops_ray.sim.contract import STYLES, AnyEnvironment, PolicyFactory
from chaosops_ray.sim.errors import InputError, unknown

_LOG = logging.getLogger(__name__)
CALLER = "caller"
_TEXTS = ("role", "task_id", "split", "difficulty", "scenario_id", "style")
OPTIONS = (*_TEXTS, "index", "colleagues")
_MAX_EPISODE_ID = 255
_SHOWN = 80


class Served(NamedTuple):
    """What all sessions of a server share."""

    catalog: Catalog
    rules: str
    policies: Mapping[str, PolicyFactory] = MappingProxyType({})  # beside the world's baselines
    limits: Limits = Limits()

    @property
    def environment(self) -> AnyEnvironment:
        """The world."""
        return self.catalog.environment


class SeatEnvironment(Environment[SeatAction, SeatObservation, SeatState]):
    """One caller's session: episodes of a world, one after another."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, served: Served) -> None:
        super().__init__(rubric=reward_rubric(served.environment.components))
        self._served = served
        self._world = served.environment
        self._policies = {**self._world.policies, **served.policies}
        self._turn = asyncio.Lock()  # two sockets may share a session; their messages take turns
        self._is_closed = False
        self._resets = self._steps = 0
        self.session: Session | None = None  # the episode in progress: the whole truth, which no message carries
        self._state = SeatState(world=self._world.name, rules=served.rules)
        self._met: set[str] = set()  # the seats that have had their first observation

    # -- OpenEnv's methods --------------------------------------------------------------------------------------------

    async def reset_async(self, /, seed: Any = None, episode_id: Any = None, **options: Any) -> SeatObservation:
        """Begin an episode, in a thread: a colleague may be a model that takes its time."""
        async with self._turn:
            return await asyncio.to_thread(self.reset, seed, episode_id, **options)

    async def step_async(self, /, action: SeatAction, timeout_s: Any = None) -> SeatObservation:
        """Act, in a thread."""
        async with self._turn:
            return await asyncio.to_thread(self.step, action, timeout_s)

    def reset(self, /, seed: Any = None, episode_id: Any = None, **options: Any) -> SeatObservation:
        """Begin an episode; after an error the one before goes on."""
        self._check_open()
        if self._resets >= self._served.limits.resets:
            raise InputError(f"this session has used its {self._served.limits.resets} resets; open another session")
        given = _checked_options(options)
        if episode_id is not None and not (isinstance(episode_id, str) and 0 < len(episode_id) <= _MAX_EPISODE_ID):
            raise InputError(f"episode_id must be a text of 1 to {_MAX_EPISODE_ID} characters")
        number = checked_seed(self._resets if seed is None else seed)
        role, colleagues, style = [given.pop(name, None) for name in ("role", "colleagues", "style")]
        task = self._served.catalog.task(number, scenario_seed=None if seed is None else number, **given)
        seats = self._seats(role, colleagues)
        playing = {one: self._policies[name] for one, name in seats.items() if name != CALLER}
        style = STYLES[0] if style is None else style
        with _colleagues_errors():
            built = {one: build(task.scenario, self._served.rules) for one, build in playing.items()}
            session = Session(self._world, task.scenario, self._served.rules, built, style=style)
        self._resets += 1
        self.session, self._met = session, set()
        self._state = SeatState(
            episode_id=episode_id if episode_id is not None else f"episode-{self._resets}",
            world=self._world.name,
            task_id=task.id,
            difficulty=task.scenario.tier,
            rules=self._served.rules,
            role=session.role,
            seats=seats,
        )
        self._reset_rubric()
        return SeatObservation(**self._seen(session, self._served.catalog.described(task)))

    def step(self, action: SeatAction, timeout_s: Any = None, **_: Any) -> SeatObservation:  # noqa: ARG002
        """Take the action of the seat whose turn it is. No action takes long enough to need a timeout."""
        self._check_open()
        session = self.session
        if session is None:
            raise InputError(
                "no episode has begun; reset first, over a WebSocket: each HTTP request has a session of its own"
            )
        if session.is_over:
            raise InputError("the episode is over; reset to start another one")
        if self._steps >= self._served.limits.steps:
            raise InputError(f"this session has used its {self._served.limits.steps} steps; open another session")
        self._steps += 1
        turn = len(session.running.steps)
        self.session = None  # where a colleague fails, the episode cannot go on
        with _colleagues_errors():
            if action.completion is not None:
                earned = session.say(action.completion)
            else:
                earned = session.act(self._world.action_of(action.fields))
        self.session = session
        self._state = self._state.model_copy(
            update={
                "step_count": self._state.step_count + 1,
                "role": session.role,
                "done": session.is_over,
            }
        )
        observation = SeatObservation(**self._seen(session, {}), **self._judged(session, turn, earned))
        observation.reward = self._apply_rubric(action, observation)
        return observation

    @property
    def state(self) -> SeatState:
        """Where the episode stands."""
        return self._state

    def close(self) -> None:
        """End the session; whatever is asked of it after that is refused."""
        self._is_closed = True
        self.session = None

    def get_metadata(self) -> EnvironmentMetadata:
        """Describe the world and how it is played here."""
        world, rules = self._world, self._served.rules
        low, high = world.reward_range(rules)
        return EnvironmentMetadata(
            name=world.name,
            description=(
                f"{world.title}. Seats: {', '.join(world.roles)}; difficulties: {', '.join(world.tiers)}; rules: "
                f"{rules}. The rewards of an episode add up to its return, and each is from {low:g} to {high:g}. Other "
                f"seats may be played by: {', '.join(self._policies)}."
            ),
            version=__version__,
        )

    # -- OpenEnv's tasks ----------------------------------------------------------------------------------------------

    def list_splits(self) -> list[dict[str, str]]:
        """Return the splits."""
        return [{"name": split, "type": _kind(split)} for split in self._served.catalog.splits]

    def list_tasks(self, split: str) -> list[dict[str, object]]:
        """Return the tasks of a split, the first thousand of them."""
        return self.get_task_range(split)

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks in a split."""
        return len(self._served.catalog.tasks(split))

    def get_task(self, split: str, index: int) -> dict[str, object]:
        """Return one task; IndexError where there is none."""
        if index < 0:
            raise IndexError(index)
        return self._served.catalog.described(self._served.catalog.tasks(split)[index])

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, object]]:
        """Return the tasks of a slice, at most a thousand."""
        found = self._served.catalog.tasks(split)[start:stop]
        return [self._served.catalog.described(task) for task in found[:SHOWN]]

    # -- what the above is made of ------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("this session has ended; open another one")

    def _seats(self, role: str | None, colleagues: str | Mapping[str, str] | None) -> dict[str, str]:
        """Return who plays each seat: the caller, or a policy by its name."""
        roles = self._world.roles
        if role is not None and role not in roles:
            raise unknown("role", role, roles)
        if isinstance(colleagues, str):
            if role is None:
                raise InputError("one name for all colleagues needs a role for the caller; give role too")
            colleagues = {one: colleagues for one in roles if one != role}
        given = dict(colleagues or {})
        for one, name in given.items():
            if one not in roles:
                raise unknown("role", one, roles)
            if name not in self._policies:
                raise unknown("policy", name, self._policies)
        left = [one for one in roles if one not in given]
        if not left or (role is not None and role not in left):
            raise InputError(f"colleagues play {', '.join(given)}, and no seat is left to the caller; leave one out")
        if role is not None and left != [role]:
            others = ", ".join([one for one in left if one != role])
            raise InputError(
                f"nobody plays {others}; name policies in colleagues, such as {next(iter(self._policies))}, or leave "
                "role out to play these seats too"
            )
        return {one: given.get(one, CALLER) for one in roles}

    def _seen(self, session: Session, about: dict[str, object]) -> dict[str, Any]:
        """Return the parts of an observation that say what the seat whose turn it is may see now."""
        view = json.loads(self._world.dump_view(session.view))
        role = session.role
        seen = {"role": role, "text": session.text, "view": view, "done": session.is_over, "metadata": about}
        if role is not None and role not in self._met:
            self._met.add(role)
            seen["system_prompt"] = session.system_prompt
            seen["examples"] = [example._asdict() for example in session.opening] or None
            seen["tools"] = [tool_schema(form) for form in self._world.forms(role, session.running.rules)]
            seen["metadata"] = {**about, "guidance": view.get("guidance", session.system_prompt)}
        return seen

    def _judged(self, session: Session, turn: int, earned: Earned) -> dict[str, Any]:
        """Return the parts that say what became of the action, and at the end how the episode went."""
        taken = session.running.steps[turn]
        judged = {
            "action": json.loads(self._world.dump_action(taken.action)),
            "error": self._world.error(taken),
            "rubrics": dict(earned.components),
        }
        if session.is_over:
            episode = session.episode
            judged |= {"score": self._world.grade(episode), "success": self._world.succeeded(episode)}
        return judged


@contextmanager
def _colleagues_errors() -> Iterator[None]:
    """Keep what a colleague's model says of its errors, such as where it runs, from the caller."""
    try:
        yield
    except ServedModelError as error:
        _LOG.warning("a colleague failed: %s", error)
        raise InputError("a colleague's model gave no answer; reset to start another episode") from None


def _kind(split: str) -> str:
    return "train" if split == TRAIN else "test"


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a reset that were given; InputError for one that is unknown or of another type."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in OPTIONS:
            raise unknown("option of reset", name, ("seed", "episode_id", *OPTIONS))
        if name in _TEXTS and not isinstance(value, str):
            raise InputError(f"{name} must be text, got {str(value)[:_SHOWN]}")
        if name == "index" and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"index must be a whole number, got {str(value)[:_SHOWN]}")
        if name == "colleagues" and not (isinstance(value, str) or _maps_texts(value)):
            raise InputError("colleagues must be the name of a policy, or name a policy for each role")
    return given


def _maps_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair)
