"""The page of an episode and of two side by side: films, their neighbours, and errors in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from chaosops_ray.reports.film import recorded_film
from chaosops_ray.serve.control_room import films
from chaosops_ray.serve.control_room.app import WEB
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.store.episodes import COLUMNS, read_episode, read_episodes, write_episodes
from chaosops_ray.store.run_folder import EPISODES, EVALUATION_EPISODES
from chaosops_ray.wire import UNTRAINED, Origin
from tests.support import runs
from tests.support.control_room import data, opened, page

SCENARIO = runs.INCIDENT.cases[0]
OTHER = runs.INCIDENT.cases[1]
FILE = "/runs/one/episodes/update-000001"


def played(policy: str, scenario: Any = SCENARIO, rules: str = "strict") -> Any:
    return play(runs.INCIDENT, scenario, rules, runs.INCIDENT.policies[policy](scenario, rules))


def write(root: Path, name: str, *episodes: tuple[str, Any, list[Origin] | None, dict[str, str]]) -> Path:
    """A run with these episodes in the file of its first update."""
    path = runs.folder(root / name, 1).path / EPISODES / "update-000001.parquet"
    with write_episodes(path) as writer:
        for policy, episode, origins, colleagues in episodes:
            writer.add(runs.INCIDENT, policy, episode, origins, colleagues)
    return path


def wrote(completion: str, *log_probs: float) -> Origin:
    return Origin(3, "9f2c", completion, log_probs)


@pytest.fixture
def client(filled: Path) -> Iterator[TestClient]:
    with opened(filled) as found:
        yield found


@pytest.mark.parametrize("file", ["evaluation", "update-000001"])
def test_the_data_are_the_film_in_the_style_that_the_run_reads(client: TestClient, filled: Path, file: str) -> None:
    run = filled / "over"
    path = run / EVALUATION_EPISODES if file == "evaluation" else run / EPISODES / f"{file}.parquet"
    found = data(client, f"/api/runs/over/episodes/{file}/1")
    # The scripted run is of the tiny model, which reads the compact style.
    assert found == json.loads(json.dumps(recorded_film(read_episode(path, 1), "compact")))


def test_a_page_leads_to_its_data_and_to_the_episodes_before_and_after(client: TestClient, filled: Path) -> None:
    last = max(one.number for one in read_episodes(filled / "over" / EVALUATION_EPISODES))
    for number in (0, 1, last):
        found = page(client, f"/runs/over/episodes/evaluation/{number}")
        assert f'data-film="/api/runs/over/episodes/evaluation/{number}"' in found
        for relation, other in (("prev", number - 1), ("next", number + 1)):
            link = f'<a href="/runs/over/episodes/evaluation/{other}" rel="{relation}">'
            assert (link in found) == (0 <= other <= last)


def test_a_page_tells_the_scenario_only_where_the_truth_shows(client: TestClient, filled: Path) -> None:
    every = read_episodes(filled / "over" / EVALUATION_EPISODES)
    recorded = next(one for one in every if one.policy == "heuristic")  # which a command can play again
    found = page(client, f"/runs/over/episodes/evaluation/{recorded.number}")
    hidden = re.compile(r"<section data-with-truth hidden.*?</section>", re.DOTALL)
    assert recorded.scenario in found
    assert recorded.scenario not in hidden.sub("", found)
    assert recorded.scenario.split("/")[1] not in hidden.sub("", found)


def test_other_episodes_on_the_scenario_are_listed_also_of_other_runs(tmp_path: Path) -> None:
    oracle = played("oracle")
    own = [wrote("x") for _ in oracle.steps]
    write(tmp_path, "one", ("trained", oracle, own, {}), ("random", played("random", OTHER), None, {}))
    other = runs.folder(tmp_path / "two", 1)
    with write_episodes(other.path / EVALUATION_EPISODES) as writer:
        writer.add(runs.INCIDENT, "trained", oracle, own)
        writer.add(runs.INCIDENT, "random", played("random"))
        writer.add(runs.INCIDENT, "trained", played("oracle", OTHER))
    with opened(tmp_path) as client:
        found = page(client, f"{FILE}/0")
        links = re.findall(r'href="(/compare[^"]*)"', found)
        assert links == ["/compare?one=one/update-000001/0&amp;other=two/evaluation/0"]
        compared = page(client, links[0].replace("&amp;", "&"))
        assert 'data-film="/api/runs/one/episodes/update-000001/0"' in compared
        assert 'data-other="/api/runs/two/episodes/evaluation/0"' in compared


def test_only_episodes_of_one_scenario_are_compared(client: TestClient) -> None:
    for query, status, words in (
        ("", 422, "one must name an episode as RUN/FILE/NUMBER"),
        ("?one=over/evaluation/0&other=evaluation/0", 422, "other must name an episode"),
        ("?one=over/evaluation/0&other=over/evaluation/1", 422, "different scenarios"),
        ("?one=over/evaluation/0&other=over/evaluation/x", 404, "whole numbers"),
        ("?one=none/evaluation/0&other=over/evaluation/0", 404, "there is no"),
    ):
        assert words in page(client, f"/compare{query}", status)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("over/episodes/evaluation/999999", "evaluation-episodes.parquet has no episode 999999"),
        ("over/episodes/evaluation/-1", "whole numbers"),
        ("over/episodes/evaluation/٣", "whole numbers"),
        ("over/episodes/update-000009/0", "no file update-000009.parquet"),
        ("over/episodes/..%2fconfig/0", "there are no episodes"),
        ("none/episodes/evaluation/0", "there is no"),
    ],
)
def test_what_is_not_there_is_said_in_words(client: TestClient, where: str, words: str) -> None:
    if "%2f" not in where:  # which the router takes for a path of more parts
        assert words in page(client, f"/runs/{where}", 404)
        assert words in data(client, f"/api/runs/{where}", 404)["detail"]
    else:
        data(client, f"/api/runs/{where}", 404)


def test_a_record_that_was_changed_has_no_film(tmp_path: Path) -> None:
    path = write(tmp_path, "one", ("oracle", played("oracle"), None, {}))
    rows = pq.read_table(path).to_pylist()
    rows[0]["reward"] += 1.0
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), path)
    with opened(tmp_path) as client:
        assert "the record was changed" in data(client, f"/api{FILE}/0", 422)["detail"]


def test_a_record_of_an_older_schema_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "one", ("oracle", played("oracle"), None, {}))
    older = COLUMNS.with_metadata({b"chaosops_schema": b"episodes/3"})
    pq.write_table(pq.read_table(path).cast(older), path)
    with opened(tmp_path) as client:
        assert "this version reads" in page(client, f"{FILE}/0", 422)


def test_any_text_of_a_model_comes_through_and_no_figure_that_is_none(tmp_path: Path) -> None:
    episode = played("oracle")
    hostile = "</script><img src=x onerror=alert(1)>\u202e\x00\x1b[31m" + "b" * 10_000
    fine = [wrote(hostile, -0.5), *[UNTRAINED] * (len(episode.steps) - 1)]
    broken = [wrote("x", float("nan")), *[UNTRAINED] * (len(episode.steps) - 1)]
    write(tmp_path, "one", ("trained", episode, fine, {}), ("trained", episode, broken, {}))
    with opened(tmp_path) as client:
        assert data(client, f"/api{FILE}/0")["steps"][0]["wrote"] == hostile
        assert "not a number" in data(client, f"/api{FILE}/1", 422)["detail"]
        assert "onerror" not in page(client, f"{FILE}/0")


def test_a_film_has_a_greatest_size(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "MAX_FILM_BYTES", 1000)
    assert "at most 1,000" in data(client, "/api/runs/over/episodes/evaluation/0", 422)["detail"]


def test_the_command_plays_the_scenario_by_who_played_it(tmp_path: Path) -> None:
    own = [wrote("x")] * len(played("oracle").steps)
    rules = "strict/2,catch=2.0"
    colleagues = {"sre": "oracle", "dev": "heuristic"}
    write(
        tmp_path,
        "one",
        ("heuristic", played("heuristic"), None, {}),
        ("trained", played("oracle"), own, colleagues),
        ("oracle", played("oracle", rules=runs.INCIDENT.rules(rules)), None, {}),
        ("served", played("oracle"), None, {}),
    )
    identity = SCENARIO.identity
    with opened(tmp_path) as client:
        for number, command in enumerate(
            [
                f"chaosops play {identity} --policy heuristic<",
                f"chaosops play {identity} --policy trained={tmp_path}/one@3 --seats sre=oracle,dev=heuristic<",
                f"chaosops play {identity} --policy oracle --rules {runs.INCIDENT.rules(rules)}<",
            ]
        ):
            assert command in page(client, f"{FILE}/{number}")
        assert "chaosops play" not in page(client, f"{FILE}/3")


def test_the_form_of_a_fork_offers_who_may_play_on(client: TestClient) -> None:
    found = page(client, "/runs/over/episodes/evaluation/0")
    assert 'data-fork="/api/fork"' in found
    for name in runs.INCIDENT.policies:
        assert f"<option>{name}</option>" in found


@pytest.mark.parametrize("module", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_no_module_makes_markup_or_code_of_text(module: Path) -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    assert not forbidden.search(module.read_text())


def test_the_drawing_of_films_names_no_world() -> None:
    text = (WEB / "film.js").read_text()
    for name, environment in ENVIRONMENTS.items():
        for word in (name, environment.title, *environment.roles):
            assert not re.search(rf"\b{re.escape(word)}\b", text), word
