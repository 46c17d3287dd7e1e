"""The page of one recorded episode, and that of two episodes of one scenario side by side."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chaosops_ray.reports.film import recorded_film
from chaosops_ray.serve.control_room import recorded
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.recorded import EVALUATED, Listed, Lists
from chaosops_ray.serve.control_room.room import Room, run_url
from chaosops_ray.serve.control_room.runs import OpenRun
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.episodes import RecordedEpisode, read_episode, read_recording

MAX_FILM_BYTES = 64 << 20
# Of other episodes on the same scenario: so many are listed, and so many other runs are searched, whose evaluation is
# short enough that a page need not wait for it.
MAX_OTHERS = 40
MAX_OTHER_RUNS = 20
MAX_OTHER_BYTES = 4 << 20
_LONGEST_NUMBER = 9
_SHOWN = 80


class Address(NamedTuple):
    """Where a recorded episode is, as addresses of pages name it."""

    run: str
    file: str
    number: int

    @property
    def url(self) -> str:
        """The page of the episode."""
        return run_url(self.run, "episodes", self.file, self.number)

    def __str__(self) -> str:
        return f"{self.run}/{self.file}/{self.number}"


class Found(NamedTuple):
    """A recorded episode with its run and its file."""

    address: Address
    opened: OpenRun
    path: Path
    recorded: RecordedEpisode


class Other(NamedTuple):
    """Another episode on the same scenario."""

    address: Address
    run: str  # its name, for people; "" for an episode of the same run
    policy: str
    version: int
    steps: int
    total: float


def routes(room: Room) -> list[BaseRoute]:
    """Return the routes of these pages."""
    lists, elsewhere = Lists(), Lists()

    def page(request: Request) -> Response:
        found = _found(room, lists, _address(request.path_params))
        before, after = _neighbours(lists, found)
        environment = found.opened.environment
        return room.render(
            request,
            "film.html",
            address=found.address,
            run=found.opened,
            before=before,
            after=after,
            others=[*_of_own_run(room, lists, found), *_of_other_runs(room, elsewhere, found)][:MAX_OTHERS],
            command=play_command(found),
            policies=list(environment.policies),
            models=[*[f"trained={run}" for run in room.stage.trained(environment.name)], *room.stage.named],
        )

    def data(request: Request) -> Response:
        return Response(film_of(_found(room, lists, _address(request.path_params))), media_type="application/json")

    def compare(request: Request) -> Response:
        pair = [_found(room, lists, read_address(request.query_params.get(name), name)) for name in ("one", "other")]
        one, other = pair
        if one.recorded.scenario != other.recorded.scenario:
            raise InputError(
                f"{one.address} and {other.address} are episodes of different scenarios; films are compared on one"
            )
        return room.render(request, "compare.html", pair=pair)

    where = "/runs/{run}/episodes/{file}/{number}"
    return [
        Route(where, room.page(page), name="film"),
        Route(f"/api{where}", room.page(data), name="film data"),
        Route("/compare", room.page(compare), name="compare"),
    ]


def film_of(found: Found) -> str:
    """Return the film of an episode as JSON; InputError where there is none that can be shown."""
    models = read_recording(found.path).models
    film = recorded_film(found.recorded, found.opened.run.rendering, models)
    try:
        # A text may hold half of a surrogate pair, which can be escaped but not encoded.
        text = json.dumps(film, allow_nan=False, ensure_ascii=True)
    except ValueError:
        raise InputError(f"{found.recorded.name} holds a figure that is not a number") from None
    if len(text) > MAX_FILM_BYTES:
        raise InputError(
            f"the film of {found.recorded.name} would have {len(text):,} bytes; a page shows at most {MAX_FILM_BYTES:,}"
        )
    return text


def play_command(found: Found) -> str:
    """Return the command that plays the scenario again in a terminal, by the same policy; "" if there is none."""
    one, opened = found.recorded, found.opened
    environment = opened.environment
    version = max(row["version"] for row in one.rows)
    if one.policy in environment.policies:
        policy, usual = one.policy, {}
    elif version >= 0:
        policy, usual = f"trained={opened.path}@{version}", opened.run.colleagues
    else:
        return ""
    colleagues = {row["role"]: row["player"] for row in one.rows if row["player"] != one.policy}
    if any(player not in environment.policies for player in colleagues.values()):
        return ""
    words = ["chaosops", "play", one.scenario, "--policy", policy]
    if colleagues:
        words += ["--seats", ",".join([f"{role}={player}" for role, player in colleagues.items()])]
    elif usual:
        words += ["--seats", "all"]
    if one.rules != environment.rules(environment.rule_sets[0]):
        words += ["--rules", one.rules]
    return shlex.join(words)


def read_address(text: str | None, name: str) -> Address:
    """Read the address of an episode, RUN/FILE/NUMBER; InputError where it is none."""
    parts = (text or "").split("/")
    if len(parts) != len(Address._fields):
        raise InputError(f"{name} must name an episode as RUN/FILE/NUMBER, got {(text or '')[:_SHOWN]!r}")
    return _address(dict(zip(Address._fields, parts, strict=True)))


def _address(parts: dict[str, str]) -> Address:
    number = parts["number"]
    if not (number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER):
        raise NotFoundError(f"episodes have whole numbers, got {number[:_SHOWN]!r}")
    return Address(parts["run"], parts["file"], int(number))


def _found(room: Room, lists: Lists, address: Address) -> Found:
    opened = room.runs.run(address.run)
    path = recorded.file(room.runs.root, opened, address.file)
    if all(one.number != address.number for one in lists.of(path, opened.environment)):
        raise NotFoundError(f"{path.name} has no episode {address.number}")
    one = read_episode(path, address.number)
    if not one.scenario.startswith(f"{opened.environment.name}/"):
        raise InputError(f"{one.name} is not of the run's world, {opened.environment.name}")
    return Found(address, opened, path, one)


def _neighbours(lists: Lists, found: Found) -> tuple[Address | None, Address | None]:
    """Return the episodes before and after this one in its file."""
    numbers = [one.number for one in lists.of(found.path, found.opened.environment)]
    before = max([number for number in numbers if number < found.address.number], default=None)
    after = min([number for number in numbers if number > found.address.number], default=None)
    return (
        None if before is None else found.address._replace(number=before),
        None if after is None else found.address._replace(number=after),
    )


def _of_own_run(room: Room, lists: Lists, found: Found) -> Iterator[Other]:
    """Yield the other episodes on the scenario in the same file, and in the run's evaluation."""
    for file in dict.fromkeys([found.address.file, EVALUATED]):
        for other in _of_file(room, lists, found, found.opened, file):
            if other.address != found.address:
                yield other


def _of_other_runs(room: Room, lists: Lists, found: Found) -> Iterator[Other]:
    """Yield the episodes on the scenario in the evaluations of other runs, but of baselines, which play it the same."""
    listing = room.runs.listing()
    every = [*listing.runs, *[trial for sweep in listing.sweeps for trial in sweep.trials]]
    for summary in [one for one in every if one.id != found.opened.id][:MAX_OTHER_RUNS]:
        try:
            opened = room.runs.run(summary.id)
        except InputError:  # the list of runs says so
            continue
        if opened.environment.name == found.opened.environment.name:
            for other in _of_file(room, lists, found, opened, EVALUATED, MAX_OTHER_BYTES):
                if other.policy not in opened.environment.policies:
                    yield other


def _of_file(
    room: Room, lists: Lists, found: Found, opened: OpenRun, file: str, most: int = recorded.MAX_FILE_BYTES
) -> Iterator[Other]:
    try:
        path = recorded.file(room.runs.root, opened, file)
        listed: Sequence[Listed] = lists.of(path, opened.environment) if path.stat().st_size <= most else ()
    except InputError:  # not evaluated yet, or damaged, which the pages of that run say
        return
    name = "" if opened.id == found.opened.id else opened.name
    for one in listed:
        if one.scenario == found.recorded.scenario:
            yield Other(Address(opened.id, file, one.number), name, one.policy, one.version, one.steps, one.total)
