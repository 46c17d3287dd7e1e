"""Pages on which a person plays a seat: what they tell before the end, what costs a turn, bounds, and hostile forms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from chaosops_ray.agents.session import Session
from chaosops_ray.serve.control_room import live, seat
from chaosops_ray.serve.control_room.app import create_app
from chaosops_ray.serve.control_room.plays import IDLE_SECONDS, YIELDS_SECONDS, Plays
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.rng import stream
from chaosops_ray.store.episodes import differences, read_episodes
from tests.support.control_room import HTML
from tests.support.toy_world import TOY

INCIDENT = ENVIRONMENTS["incident"]
WORLDS = {**ENVIRONMENTS, "toy": TOY}
Response: TypeAlias = Any  # the client's
OVERSIGHT = {"world": "incident", "seat": "oversight", "tier": "hard", "seed": "7"}


@contextmanager
def opened(plays: Plays | None = None) -> Iterator[TestClient]:
    """A client of the pages of seats beside those of live plays, as anybody may reach them."""
    shown = (live.alone, partial(seat.routes, plays=Plays(places=10_000, worlds=WORLDS) if plays is None else plays))
    with TestClient(create_app(Room(None), shown=shown), base_url="http://localhost:8700", headers=HTML) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with opened() as found:
        yield found


def begun(client: TestClient, **wanted: str) -> Response:
    found = client.post("/play", data=wanted)
    assert found.status_code == 200, found.text[-500:]
    assert re.fullmatch(r"/play/[A-Za-z0-9_-]{22}", found.url.path)
    return found


def turn(found: Response) -> str:
    (number,) = set(re.findall(r'name="turn" value="(\d+)"', found.text))
    return str(number)


def is_over(found: Response) -> bool:
    return "data-film" in found.text


def sent(client: TestClient, at: Response, **fields: str) -> Response:
    return client.post(at.url.path, data={"turn": turn(at), **fields})


def played(client: TestClient, at: Response, line: str = "noop") -> Response:
    while not is_over(at):
        at = sent(client, at, line=line)
    return at


def told(found: Response) -> str:
    """What an alert on the page says."""
    return " ".join(
        unescape(re.sub("<[^>]+>", " ", "".join(re.findall(r'(?s)role="alert">(.*?)</div>', found.text)))).split()
    )


@pytest.mark.parametrize(
    ("world", "role"), [(name, role) for name, environment in WORLDS.items() for role in environment.roles]
)
def test_nothing_tells_of_the_case_before_the_end(world: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Session] = []
    begin = Session.__init__

    def noted(self: Session, *given: Any, **more: Any) -> None:
        begin(self, *given, **more)
        sessions.append(self)

    monkeypatch.setattr(Session, "__init__", noted)
    draw = stream(3, role)
    with opened() as client:
        for _ in range(3):
            at = begun(client, world=world, seat=role)
            scenario = sessions[-1].running.scenario
            secrets = [
                scenario.identity,
                f"{scenario.case}/{scenario.setting}",
                f"/{scenario.seed}",
                f" {scenario.seed}",
            ]
            key = at.url.path
            while not is_over(at):
                answers = [
                    *at.history,
                    at,
                    client.get(f"/api{key}"),
                    client.get(f"{key}/episodes.parquet"),
                    client.get(f"{key}?beside=oracle"),
                    sent(client, at, line="no action"),
                    sent(client, at, form="none"),
                    client.post(key, data={"turn": "0", "line": "x"}),
                    client.post(key, content=b"\xff"),
                ]
                for answer in answers:
                    text = f"{answer.url} {answer.headers} {unescape(answer.text)}"
                    assert [one for one in secrets if one in text] == []
                    assert "set-cookie" not in answer.headers
                lines = re.findall(r'name="line" value="([^"]*)">', at.text)
                at = sent(client, at, line=unescape(draw.choice([line for line in lines if line])))
            assert scenario.identity in at.text
            assert client.get(f"/api{key}").json()["scenario"] == scenario.identity


class Spied(type(INCIDENT)):
    """A world that fails when its truth or a score is asked for."""

    def _asked(self, *_: object) -> NoReturn:
        raise AssertionError("the truth was asked for before the end")

    board = truth = charts = headline = error = grade = succeeded = _asked  # type: ignore[assignment]


def test_before_the_end_the_pages_do_not_even_ask_for_the_truth() -> None:
    with opened(Plays(worlds={"incident": Spied()})) as client:
        at = begun(client, world="incident", seat="sre", tier="hard", seed="3")
        for line in ("noop", "say hello", "cause", "noop"):
            at = sent(client, at, line=line)
        assert turn(at) == "4"


def test_a_line_that_is_no_action_is_explained_and_costs_nothing(client: TestClient) -> None:
    first = begun(client, **OVERSIGHT)
    for line, words in {
        "flag autoscalar": "agent must be one of autoscaler, load_balancer, deploy_bot",
        "": "the line is empty",
        "<script>alert(1)</script>": "no action",
        '{"action": "restart", "service": "db"}': "oversight has no action restart",
    }.items():
        found = sent(client, first, line=line)
        assert words in told(found)
        assert "It costs no turn" in told(found)
        assert turn(found) == "1"
        assert "<script>alert" not in found.text
        if line:
            assert unescape(found.text.partition('id="line"')[2].partition('value="')[2].partition('"')[0]) == line
        assert told(client.get(found.url.path)) == told(found)  # loaded again, it is the same page
    after = sent(client, first, line="noop")
    assert (turn(after), told(after)) == ("2", "")


def test_a_form_is_an_action_with_arguments(client: TestClient) -> None:
    at = begun(client, **{**OVERSIGHT, "seat": "dev"})
    wrong = sent(client, at, form="scale", **{"argument.service": "db", "argument.replicas": "many"})
    assert 'replicas must be a whole number, got "many"' in told(wrong)
    assert 'value="many"' in wrong.text
    assert re.search(r"<option selected>db</option>", wrong.text)
    right = sent(client, wrong, form="scale", **{"argument.service": "db", "argument.replicas": "3"})
    assert "<li>scale db 3</li>" in right.text
    message = sent(client, right, form="communicate", **{"argument.message": "a <b> & c", "argument.to": ""})
    assert "<li>say a ‹b&gt; &amp; c</li>" in message.text


def test_ready_made_actions_are_those_that_are_permitted(client: TestClient) -> None:
    at = begun(client, world="toy", seat="guesser", tier="few", seed="5", others="random")
    lines = [unescape(line) for line in re.findall(r'<button name="line" value="([^"]*)"', at.text)]
    assert lines == ["wait", "guess 0.1", "guess 0.5", "guess 0.9"]
    over = sent(client, at, form="guess", **{"argument.prize": "0.25"})
    assert is_over(over)
    assert "guess 0.25" in over.text


def test_what_is_new_since_the_turn_before_is_marked(client: TestClient) -> None:
    first = begun(client, **OVERSIGHT)
    assert "data-changed" not in first.text
    second = sent(client, first, line="noop")
    marked = re.findall(r"<tr>(?:(?!</tr>).)*data-changed(?:(?!</tr>).)*</tr>", second.text)
    assert any("sre" in row for row in marked)
    assert not any("load_balancer" in row for row in marked)


def test_two_tabs_and_the_back_button_cannot_take_a_turn_twice(client: TestClient) -> None:
    first = begun(client, **OVERSIGHT)
    second = sent(client, first, line="noop")
    stale = sent(client, first, line="flag autoscaler")
    assert "out of date, and changed nothing: it is turn 2 now" in told(stale)
    assert stale.text.count("<li>noop</li>") == 1
    assert "<li>flag" not in stale.text
    assert turn(sent(client, second, line="noop")) == "3"
    over = played(client, client.get(first.url.path))
    late = client.post(first.url.path, data={"turn": turn(second), "line": "noop"})
    assert is_over(late)
    assert "came too late and changed nothing" in late.text
    assert over.url.path == late.url.path


def test_of_many_requests_at_once_one_takes_the_turn(client: TestClient) -> None:
    first = begun(client, **OVERSIGHT)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: sent(client, first, line="noop"), range(12)))
    assert {one.status_code for one in found} == {200}
    last = client.get(first.url.path)
    assert turn(last) == "2"
    assert last.text.count("<li>noop</li>") == 1


def test_the_end_has_the_film_the_scores_and_a_recording(client: TestClient, tmp_path: Path) -> None:
    over = played(client, begun(client, **OVERSIGHT, others="oracle"))
    key = over.url.path
    rows = dict(
        re.findall(r'<th scope="row">(?:<[^>]+>)*([\w-]+)(?:</\w+>)*</th><td class="n">([^<]+)</td>', over.text)
    )
    assert rows.keys() == {"you", *INCIDENT.policies}
    assert rows["you"] == rows["flag-nothing"]
    mine, other = [client.get(f"/api{key}?player={name}").json() for name in ("you", "oracle")]
    assert mine["policy"] == "human"
    assert {step["player"] for step in mine["steps"] if step["role"] == "oversight"} == {"human"}
    assert {step["player"] for step in mine["steps"] if step["role"] != "oversight"} == {"oracle"}
    assert (mine["scenario"], mine["is_over"]) == (other["scenario"], True)
    assert client.get(f"{key}?beside=oracle").text.count('data-beside="oracle"') == 1
    for nobody in ("none", "you"):
        assert client.get(f"{key}?beside={nobody}").status_code == 404
    assert client.get(f"/api{key}?player=none").status_code == 422
    download = client.get(f"{key}/episodes.parquet")
    assert download.headers["content-disposition"] == 'attachment; filename="episodes.parquet"'
    (tmp_path / "episodes.parquet").write_bytes(download.content)
    (recorded,) = read_episodes(tmp_path / "episodes.parquet")
    assert differences(recorded) == []
    assert recorded.policy == "human"
    assert [row["action"] for row in recorded.rows if row["role"] == "oversight"]


def test_the_same_seed_is_the_same_case_and_without_one_it_is_told_at_the_end(client: TestClient) -> None:
    cases = [client.get(f"/api{played(client, begun(client, **OVERSIGHT)).url.path}").json() for _ in range(2)]
    assert cases[0] == cases[1]
    over = played(client, begun(client, world="incident", seat="oversight"))
    (seed,) = set(re.findall(r"seed=(\d+)", over.text))
    again = played(client, begun(client, world="incident", seat="oversight", seed=seed))
    films = [client.get(f"/api{one.url.path}").json() for one in (over, again)]
    assert films[0]["scenario"] == films[1]["scenario"]
    (link,) = re.findall(rf'href="(/play\?[^"]*seed={seed}[^"]*)"', over.text)
    assert f'value="{seed}"' in client.get(unescape(link)).text


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"world": "none"}, "there is no world"),
        ({"seat": "none"}, "seat 'none' is none of this world"),
        ({"tier": "none"}, "tier 'none' is none of this world"),
        ({"others": "none"}, "others 'none' is none of this world"),
        ({"seed": "-1"}, "is not a whole number"),
        ({"seed": "9" * 300}, "at most 200 characters"),
        ({"case": "db_deadlock"}, "is not a part of a play"),
    ],
)
def test_a_choice_that_is_not_valid_is_explained(client: TestClient, wanted: Mapping[str, str], words: str) -> None:
    for found in (client.post("/play", data=wanted), client.get("/play", params=wanted)):
        assert found.status_code == 422
        assert words in unescape(found.text)
        assert 'action="/play"' in found.text


def test_a_seat_without_a_turn_is_refused(client: TestClient) -> None:
    found = client.post(
        "/play", data={"world": "incident", "seat": "manager", "tier": "easy", "seed": "1", "others": "oracle"}
    )
    assert found.status_code == 422
    assert "no turn is left to the caller" in found.text


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plays_are_bounded_in_number_and_in_time() -> None:
    clock = Clock()
    with opened(Plays(places=2, kept=1, clock=clock)) as client:
        first, second = begun(client, **OVERSIGHT), begun(client, **OVERSIGHT)
        crowded = client.post("/play", data=OVERSIGHT)
        assert crowded.status_code == 429
        assert "2 plays are open already" in crowded.text
        clock.now = YIELDS_SECONDS + 1
        client.get(second.url.path)
        third = begun(client, **OVERSIGHT)  # takes the place of the one that nobody touched
        gone = client.get(first.url.path)
        assert gone.status_code == 404
        assert "nobody touched it for 30 minutes" in gone.text
        assert client.post(first.url.path, data={"turn": "1", "line": "noop"}).status_code == 404
        clock.now += IDLE_SECONDS - 1
        assert client.get(third.url.path).status_code == 200
        clock.now += 2
        assert client.get(second.url.path).status_code == 404
        over = [played(client, third), played(client, begun(client, **OVERSIGHT))]
        clock.now += 10 * IDLE_SECONDS
        # What is over does not take a place, and only the latest are kept.
        assert [client.get(one.url.path).status_code for one in over] == [404, 200]


def test_a_play_that_was_left_or_was_on_another_server_is_gone(client: TestClient) -> None:
    at = begun(client, **OVERSIGHT)
    with opened() as restarted:
        assert "the server was started again" in restarted.get(at.url.path).text
    assert client.post(f"{at.url.path}/leave", data={}).url.path == "/play"
    for address in (at.url.path, f"{at.url.path}/episodes.parquet"):
        assert client.get(address).status_code == 404
    assert client.get(f"/api{at.url.path}").json() == {"detail": "this play is not here"}


def test_other_sites_cannot_play(client: TestClient) -> None:
    at = begun(client, **OVERSIGHT)
    for address in ("/play", at.url.path, f"{at.url.path}/leave"):
        refused = client.post(address, data={"turn": "1", "line": "noop"}, headers={"origin": "http://evil.example"})
        assert refused.status_code == 403
    assert turn(client.get(at.url.path)) == "1"


NAMES = st.sampled_from(
    ["turn", "line", "form", "argument.to", "argument.message", "world", "seat", "tier", "seed", "others"]
)
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["1", "2", "noop", "communicate", "flag_rogue", "incident", "toy", "tools", "{", '{"action": "noop"}', "9" * 30]
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.one_of(NAMES, st.text(max_size=10)), VALUES, max_size=5), is_beginning=st.booleans())
def test_no_form_breaks_the_server(client: TestClient, fields: dict[str, str], *, is_beginning: bool) -> None:
    key = "/play" if is_beginning else begun(client, **OVERSIGHT).url.path
    found = client.post(key, data=fields)
    assert found.status_code in (200, 422, 429), found.text[-500:]
    if not is_over(found):
        assert "autoscaler_cost_cut/" not in found.text
        assert "incident/" not in found.text
    if not is_beginning:
        client.post(f"{key}/leave", data={})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200),
    kind=st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data", "", "text/plain"]),
)
def test_no_body_breaks_the_server(client: TestClient, body: bytes, kind: str) -> None:
    for address in ("/play", "/play/none", "/play/none/leave"):
        found = client.post(address, content=body, headers={"content-type": kind})
        assert found.status_code in (200, 404, 422, 429), found.text[-500:]
    many = client.post("/play", content=b"a=b&" * 100, headers={"content-type": "application/x-www-form-urlencoded"})
    assert many.status_code == 422
