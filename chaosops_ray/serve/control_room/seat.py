"""The pages on which a person plays a seat: the choice, a page for each turn, and the end.

They work without JavaScript: forms are sent by POST, and each POST leads to a page that can be loaded again. Until
the episode is over, no answer holds more than the seat's role may see: no scenario id, truth, outcome or reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from chaosops_ray.agents import human
from chaosops_ray.plain_text import one_line
from chaosops_ray.reports import playback
from chaosops_ray.reports.news import Marks, news
from chaosops_ray.reports.standings import YOU, standings
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.plays import ANY, IDLE_SECONDS, Answer, GoneError, Play, Plays, wish
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.stage import CrowdedError
from chaosops_ray.sim.actions import Form
from chaosops_ray.sim.board import Panel
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError

_FIELDS = 64
_ARGUMENT = "argument."
_LONGEST_ERROR = 1000
_LONGEST_KEPT = 4000  # of what was typed and is shown again
_FORM_TYPE = "application/x-www-form-urlencoded"
_SHORT = 20  # characters of a cell; film.js has the same
# Beyond so many forms of actions, those that take arguments are folded.
_UNFOLDED = 8

Fields = dict[str, str]


def routes(room: Room, plays: Plays | None = None) -> list[BaseRoute]:
    """Return the routes of these pages."""
    kept = Plays() if plays is None else plays

    def choice(request: Request) -> Response:
        return _choice(room, request, kept.worlds, dict(request.query_params))

    def begin(request: Request, fields: Fields) -> Response:
        try:
            key = kept.begin(wish(fields, kept.worlds))
        except InputError as error:
            return _choice(room, request, kept.worlds, fields, error)
        return RedirectResponse(_url(key), 303)

    def page(request: Request) -> Response:
        found = kept.find(request.path_params["play"])
        with found.lock:
            show = _over if found.is_over else _turn
            return show(room, request, found)

    def act(request: Request, fields: Fields) -> Response:
        found = kept.find(request.path_params["play"])
        with found.lock:
            found.take(fields.get("turn", ""), *_sent(fields))
            place = "" if found.answer is None or found.is_over else "#move"
        return RedirectResponse(_url(request.path_params["play"]) + place, 303)

    def leave(request: Request, _: Fields) -> Response:
        kept.leave(request.path_params["play"])
        return RedirectResponse("/play", 303)

    def film(request: Request) -> Response:
        found = kept.find(request.path_params["play"])
        with found.lock:
            return room.json(found.film(request.query_params.get("player", YOU)))

    def recording(request: Request) -> Response:
        found = kept.find(request.path_params["play"])
        with found.lock:
            data = found.recording()
        headers = {"content-disposition": 'attachment; filename="episodes.parquet"'}
        return Response(data, media_type="application/vnd.apache.parquet", headers=headers)

    def told(make: Callable[..., Response]) -> Callable[..., Response]:
        """Let a play that is not kept be a page that says why."""

        def answered(request: Request, *given: Fields) -> Response:
            try:
                return make(request, *given)
            except GoneError:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                return room.render(request, "play_gone.html", 404, minutes=round(IDLE_SECONDS / 60))

        return answered

    def post(make: Callable[[Request, Fields], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            fields = _fields(request.headers.get("content-type", ""), await request.body())
            return await room.run(partial(told(make), request, fields))

        return endpoint

    return [
        Route("/play", room.page(choice), name="play"),
        Route("/play", post(begin), methods=["POST"]),
        Route("/play/{play}", room.page(told(page)), name="seat"),
        Route("/play/{play}", post(act), methods=["POST"]),
        Route("/play/{play}/leave", post(leave), methods=["POST"]),
        Route("/play/{play}/episodes.parquet", room.page(told(recording))),
        Route("/api/play/{play}", room.page(film)),
    ]


def _url(key: str) -> str:
    return f"/play/{key}"


def _fields(kind: str, body: bytes) -> Fields:
    """Return the fields of a form; InputError where the body is none."""
    if not body:
        return {}
    if kind.partition(";")[0].strip().lower() != _FORM_TYPE:
        raise InputError(f"a form is sent as {_FORM_TYPE}")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS, errors="replace")
    except ValueError:
        raise InputError(f"the body is no form of at most {_FIELDS} fields") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InputError("a field stands twice in the form")
    return fields


def _sent(fields: Fields) -> tuple[Callable[[Play], Any], Answer]:
    """Return what reads the action out of a form, and what is shown again if it is none."""
    if "form" in fields:
        name = fields["form"]
        texts = {
            key.removeprefix(_ARGUMENT): text.replace("\r\n", "\n")
            for key, text in fields.items()
            if key.startswith(_ARGUMENT)
        }
        kept = {key: text[:_LONGEST_KEPT] for key, text in texts.items()}
        return lambda play: human.chosen(*_place(play), name, texts), Answer("", "", name, kept)
    line = fields.get("line", "").strip()
    return lambda play: human.read(*_place(play), line), Answer("", line[:_LONGEST_KEPT])


def _place(play: Play) -> tuple[Any, str, str, Any]:
    return play.spec.environment, play.spec.role, play.spec.rules, play.session.view


# -- the choice -------------------------------------------------------------------------------------------------------


def _choice(
    room: Room,
    request: Request,
    worlds: Mapping[str, AnyEnvironment],
    given: Fields,
    error: InputError | None = None,
) -> Response:
    """Return the page of the choice, with what was chosen so far as far as it is valid."""
    try:
        chosen = wish(given, worlds)
    except InputError as wrong:
        error = error or wrong
        world = given.get("world", "")
        chosen = wish({"world": world} if world in worlds else {}, worlds)
    environment = worlds[chosen.world]
    status = 200 if error is None else 429 if isinstance(error, CrowdedError) else 422
    return room.render(
        request,
        "play.html",
        status,
        chosen=chosen,
        environment=environment,
        worlds=worlds,
        any=ANY,
        words="" if error is None else one_line(error, _LONGEST_ERROR),
    )


# -- a turn -----------------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A panel with the marks of what is new in it."""

    panel: Panel
    marks: Marks

    @property
    def width(self) -> int:
        """The number of columns."""
        return max([len(self.panel.heading), *[len(row) for row in self.panel.rows]])

    @property
    def short(self) -> list[bool]:
        """Tell for each column if nothing in it needs to be broken into lines."""
        rows = self.panel.rows
        return [
            len(rows) > 1 and all(len(row) <= column or len(row[column].text) <= _SHORT for row in rows)
            for column in range(self.width)
        ]


class Card(NamedTuple):
    """An action: what may be done at once, as (spelling, what it stands for), and the form for anything else."""

    form: Form
    ready: Sequence[tuple[str, str]]
    has_fields: bool
    is_folded: bool
    texts: Mapping[str, str]


def _turn(room: Room, request: Request, play: Play) -> Response:
    session, environment, role = play.session, play.spec.environment, play.spec.role
    own = play.own
    seen = environment.seen(session.view)
    before = environment.seen(own[-1].view) if own else None
    return room.render(
        request,
        "play_turn.html",
        play=play,
        environment=environment,
        role=role,
        others=play.spec.colleagues,
        key=request.path_params["play"],
        example=_example(play),
        panels_drawn=[Drawn(*pair) for pair in zip(seen, news(seen, before), strict=True)],
        is_first=not own,
        duty=session.system_prompt,
        read=session.text,
        done=[environment.format_action(step.action, "compact") for step in own],
        cards=_cards(play),
        argument=_ARGUMENT,
        kinds=human.WORDS,
        answer=play.answer,
    )


def _example(play: Play) -> tuple[str, str] | None:
    """Return an action that is permitted now, in both spellings."""
    environment, _, _, view = _place(play)
    kinds = environment.permitted(view)
    return (
        (environment.format_action(kinds[0][0], "compact"), environment.format_action(kinds[0][0], "full"))
        if kinds
        else None
    )


def _cards(play: Play) -> list[Card]:
    environment, role, rules, view = _place(play)
    ready: dict[str, list[tuple[str, str]]] = {}
    for kind in environment.permitted(view) or ():
        for action in kind:
            name, _ = human.called(environment, action)
            short = environment.format_action(action, "compact")
            # A short spelling that stands for something else than itself is shown with what it stands for.
            meant = "" if environment.parse_action(short) == action else environment.format_action(action, "full")
            ready.setdefault(str(name), []).append((short, meant))
    forms = environment.forms(role, rules)
    cards = []
    for form in forms:
        at_once = ready.get(form.name, [])
        is_all = bool(at_once) and all(one.valid and one.is_required for one in form.parameters)
        texts = play.answer.texts if play.answer is not None and play.answer.form == form.name else {}
        cards.append(Card(form, at_once, not is_all, len(forms) > _UNFOLDED, texts))
    cards.sort(key=lambda card: not card.ready)
    return cards


# -- the end ----------------------------------------------------------------------------------------------------------


def _over(room: Room, request: Request, play: Play) -> Response:
    environment, episode = play.spec.environment, play.session.episode
    other = request.query_params.get("beside", "")
    again = play.wish._replace(seed=str(play.seed))
    if other and (other == YOU or other not in play.episodes):
        raise NotFoundError(f"no player {other[:40]!r} has played this case")
    return room.render(
        request,
        "play_over.html",
        play=play,
        environment=environment,
        role=play.spec.role,
        others=play.spec.colleagues,
        found=standings(environment, play.episodes),
        you=YOU,
        beside=other,
        answer=play.answer,
        address=request.url.path,
        again=f"/play?{urlencode(again._asdict())}",
        another=f"/play?{urlencode(play.wish._replace(seed='')._asdict())}",
        scenario=episode.scenario.identity,
        tables=[Drawn(panel, ()) for panel in (*environment.truth(episode), playback.turns(environment, episode))],
    )
