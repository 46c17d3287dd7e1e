"""The page of live plays, and the endpoints that fork episodes.

A live play is a stream of server-sent events: `film`, the film as far as it goes; `more`, what came since (`from` is
the number of steps before); then `over` with the id under which it can be forked, or `refused` or `broken` with the
reason in words. It stops when nobody reads it any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from chaosops_ray.plain_text import one_line
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.performances import Performance, UnavailableError, permitted
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.stage import CrowdedError, choice, colleagues_of, first
from chaosops_ray.sim.cases import cases
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.speech import decode
from chaosops_ray.sim.worlds import ENVIRONMENTS

# So long is waited for more steps before a part of a film is sent.
TOGETHER_SECONDS = 0.2
# A client that reads so slowly is left; a play takes no longer.
_STREAM_SECONDS = 1000.0
_LOOK_SECONDS = 0.5
_LONGEST_ERROR = 1000
_GROWING = ("headline", "metrics", "is_over", "prompts", "examples", "charts")

# A line on each baseline that worlds have.
_HELPS = {
    "random": "draws from what is permitted",
    "blind": "reads nothing but the clock",
    "heuristic": "rules of thumb",
    "investigator": "looks, cross-checks, then acts",
    "bayes": "weighs all stories that fit what was seen",
    "noop": "lets every turn pass",
    "lookup": "a table of symptoms",
    "oracle": "knows the answer",
    "flag-nothing": "never flags an agent",
    "flag-none": "accuses no agent",
    "freeze-all": "freezes every agent",
    "flag-all": "flags every agent",
    "naive": "searches once and answers",
    "retrier": "repeats a search until it works",
}

Send = Callable[[str, Mapping[str, Any]], None]


def routes(room: Room) -> list[BaseRoute]:
    """Return the routes of live plays and forks."""
    stage = room.stage
    # Of their own, so that plays and reading files do not wait for each other.
    threads = ThreadPoolExecutor(stage.places + 2, "stage")

    def page(request: Request) -> Response:
        given = dict(request.query_params)
        try:
            chosen, words = choice(given), ""
            environment = chosen.environment()
            if given:
                chosen.scenario()
        except InputError as error:
            words = one_line(error, _LONGEST_ERROR)
            world = given.get("world", "")
            chosen = choice({"world": world} if world in ENVIRONMENTS else {})
            environment = chosen.environment()
        trained = stage.trained(environment.name)
        return room.render(
            request,
            "live.html",
            422 if words else 200,
            chosen=chosen,
            words=words,
            is_chosen="policy" in given and not words,
            is_model="=" in chosen.policy,
            environment=environment,
            worlds=ENVIRONMENTS,
            sets=sets(environment),
            helps=_HELPS,
            cannot="" if stage.has_models else "This server plays baselines only, no models.",
            trained=trained,
            named=stage.named,
            policies=list(environment.policies),
            models=[*[f"trained={run}" for run in trained], *stage.named],
            query=request.url.query,
        )

    async def events(request: Request) -> Response:
        return _Stream(_events(room, threads, dict(request.query_params)), media_type="text/event-stream")

    async def fork(request: Request) -> Response:
        performance: list[Performance] = []

        def work() -> dict[str, Any]:
            wanted = stage.fork(body)
            with stage.performing(wanted.before, wanted.policy, wanted.colleagues) as (found, seconds):
                performance.append(found)
                for _ in found.steps(seconds, wanted.action):
                    continue
            return stage.forked(wanted, found)

        try:
            body = _object(await request.body())
            played = asyncio.wrap_future(threads.submit(work))
            while not (await asyncio.wait([played], timeout=_LOOK_SECONDS))[0]:
                if await request.is_disconnected():
                    for one in performance:
                        one.cancel()
            return room.json(played.result())
        except InputError as error:
            return _refused(room, error)

    async def allowed(request: Request) -> Response:
        given: dict[str, Any] = dict(request.query_params)
        try:
            step = _number(given.pop("step", ""), "step")
            if "number" in given:
                given["number"] = _number(given["number"], "number")
            work = partial(lambda episode: permitted(stage.found(episode).played, step), given)
            return room.json(await asyncio.wrap_future(threads.submit(work)))
        except InputError as error:
            return _refused(room, error)

    return [
        Route("/live", room.page(page), name="live"),
        Route("/live/events", events),
        Route("/api/fork", fork, methods=["POST"]),
        Route("/api/permitted", allowed),
    ]


def alone(room: Room) -> list[BaseRoute]:
    """Return the same routes for a server that has no other pages."""

    async def index(_: Request) -> Response:
        return RedirectResponse("/live")

    return [Route("/", index), *routes(room)]


def sets(environment: AnyEnvironment) -> dict[str, list[str]]:
    """Return the cases by evaluation set, each under the first set that has it."""
    found: dict[str, list[str]] = {}
    for name in environment.selections:
        known = {case for those in found.values() for case in those}
        found[name] = [
            case for case in dict.fromkeys([one.case for one in cases(environment, name)]) if case not in known
        ]
    return found


def _refused(room: Room, error: InputError) -> Response:
    status = {NotFoundError: 404, CrowdedError: 429}.get(type(error), 422)
    return room.json({"error": one_line(error, _LONGEST_ERROR)}, status)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = decode(body.decode())
    except ValueError as error:
        raise InputError(f"the body is no JSON object ({one_line(error, 100)})") from None
    if not isinstance(found, dict):
        raise InputError("the body is no JSON object")
    return found


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"{name} must be a whole number, got {text[:40]!r}")
    return int(text)


class _Stream(StreamingResponse):
    """A stream that does not outlast a play."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(_STREAM_SECONDS):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            return


async def _events(room: Room, threads: ThreadPoolExecutor, given: Mapping[str, Any]) -> AsyncIterator[str]:
    """Play what was chosen in a thread; yield its events as they come, and stop it if nobody wants them any more."""
    loop = asyncio.get_running_loop()
    sent: asyncio.Queue[str | None] = asyncio.Queue()
    going = _Going()

    def send(name: str, data: Mapping[str, Any]) -> None:
        text = json.dumps(data, allow_nan=False, ensure_ascii=False)
        loop.call_soon_threadsafe(sent.put_nowait, f"event: {name}\ndata: {text}\n\n")

    def work() -> None:
        try:
            _perform(room, given, send, going)
        except InputError as error:
            name = "broken" if going.has_begun else "refused"
            unavailable = isinstance(error, UnavailableError)
            send(name, {"error": one_line(error, _LONGEST_ERROR), "unavailable": unavailable})
        finally:
            loop.call_soon_threadsafe(sent.put_nowait, None)

    future: Future[None] = threads.submit(work)
    try:
        while (event := await sent.get()) is not None:
            yield event
    finally:
        going.cancel()
        future.cancel()


class _Going:
    """A play that may be cancelled before it has begun."""

    def __init__(self) -> None:
        self._performance: Performance | None = None
        self._is_cancelled = False

    @property
    def has_begun(self) -> bool:
        return self._performance is not None

    def begin(self, performance: Performance) -> None:
        self._performance = performance
        if self._is_cancelled:
            performance.cancel()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._performance is not None:
            self._performance.cancel()


def _perform(room: Room, given: Mapping[str, Any], send: Send, going: _Going) -> None:
    chosen = choice(given)
    with room.stage.performing(first(chosen), chosen.policy, colleagues_of(chosen)) as (performance, seconds):
        going.begin(performance)
        send("film", performance.played.film())
        for begun, film in _parts(performance, performance.steps(seconds)):
            send("more", {"from": begun, **_since(film, begun)})
    send("over", {"play": room.stage.keep(performance.played, chosen.policy)})


def _parts(performance: Performance, steps: Iterator[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the film after each turn, or after several quick ones, with the number of steps that were there before."""
    shown = done = len(performance.played.episode.steps)
    at = time.monotonic()
    for done in steps:
        if time.monotonic() - at >= TOGETHER_SECONDS:
            yield shown, performance.played.film()
            shown, at = done, time.monotonic()
    if shown < done:
        yield shown, performance.played.film()


def _since(film: Mapping[str, Any], steps: int) -> dict[str, Any]:
    return {
        "moments": film["moments"][steps + 1 :],
        "steps": film["steps"][steps:],
        **{name: film[name] for name in _GROWING},
    }
