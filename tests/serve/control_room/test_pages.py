"""The pages of the control room, as a browser gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from chaosops_ray.serve.control_room.last_row import OWN, sections
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.store.run_folder import RunFolder
from tests.support import runs
from tests.support.control_room import data, opened, page


@pytest.fixture
def client(filled: Path) -> Iterator[TestClient]:
    with opened(filled) as found:
        yield found


def test_the_list_has_every_run_and_sweep_with_its_state(client: TestClient) -> None:
    found = page(client, "/")
    for link in ("/runs/over", "/runs/deep:begun", "/sweeps/sweep"):
        assert f'href="{link}"' in found
    assert "30 of 160" in found
    assert 'class="state finished"' in found
    assert 'class="state to-be-resumed"' in found
    assert "/runs/sweep:trials:a-s0" not in found  # trials are on the page of their sweep


def test_an_empty_folder_says_what_will_be_there(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        assert "no run in this folder yet" in page(client, "/")


def test_a_run_has_its_configuration_and_its_last_row(client: TestClient) -> None:
    found = page(client, "/runs/over")
    assert "seed: 7" in found
    assert "gradient_norm" in found
    assert 'data-curves="/api/runs/over/curves"' in found


def test_the_curves_of_a_run_grow(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 3)
    with opened(tmp_path) as client:
        first = data(client, "/api/runs/one/curves")
        assert first["updates"] == [1, 2, 3]
        assert data(client, "/api/runs/one/curves?after=3&times=0")["updates"] == []
        run.log(runs.row(4))
        later = data(client, "/api/runs/one/curves?after=3&times=0")
        assert later["updates"] == [4]
        assert len(later["columns"]["tiers/easy/mean"]) == 1


def test_a_run_that_is_resumed_is_drawn_again_and_marked(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 6)
    with opened(tmp_path) as client:
        assert len(data(client, "/api/runs/one/curves")["updates"]) == 6
        run.rewind(4)
        again = data(client, "/api/runs/one/curves?after=6&times=0")
        assert again["updates"] == [1, 2, 3, 4]
        assert again["times"] == 1
        assert {"update": 4, "kind": "resumed", "text": "the run was resumed"} in again["marks"]


def test_a_half_written_line_is_not_there_yet(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 2)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 3, "upd')
    with opened(tmp_path) as client:
        found = data(client, "/api/runs/one/curves")
        assert (found["updates"], found["error"]) == ([1, 2], "")
        assert "damaged" not in page(client, "/")


def test_each_cell_of_the_evaluation_leads_to_its_episodes(client: TestClient) -> None:
    found = page(client, "/runs/over/evaluation")
    doors = [link.replace("&amp;", "&") for link in re.findall(r'href="(/runs/over/episodes\?[^"]+)"', found)]
    assert len(doors) == 3 * (3 + 9)  # policies, tiers and failures
    for door in (doors[0], doors[-1]):
        listed = page(client, door)
        assert re.search(r"<a href=\"/runs/over/episodes/evaluation/\d+\">", listed)
        assert "0 of 66" not in listed
    tier = page(client, "/runs/over/episodes?file=evaluation&policy=trained&tier=hard")
    assert "8 of 66 episodes" in tier


def test_every_figure_of_a_world_is_explained() -> None:
    for world in ENVIRONMENTS.values():
        assert {metric.name for metric in world.metrics} <= OWN.keys()


def test_every_figure_of_a_row_has_its_meaning() -> None:
    found = sections(runs.with_held_out([runs.row(1)], 1)[0])
    assert "Other figures" not in [section.title for section in found]
    assert all(section.figures[0].help for section in found)
    (learner,) = [section for section in found if section.title == "The learner"]
    (kl,) = [figure for figure in learner.figures if figure.name == "kl"]
    assert kl.unit == "nats/token"
    (played,) = [section for section in found if section.title == "Held-out scenarios"]
    assert played.tiers == runs.INCIDENT.tiers


def test_an_evaluation_that_is_not_made_yet(client: TestClient) -> None:
    assert "Not evaluated yet" in page(client, "/runs/deep:begun/evaluation")


def test_the_list_of_episodes_is_filtered_ordered_and_paged(client: TestClient) -> None:
    listed = page(client, "/runs/over/episodes")
    assert "66 of 66 episodes, 1 to 66 shown" in listed
    lowest = page(client, "/runs/over/episodes?order=lowest")
    totals = [float(text.replace("−", "-")) for text in re.findall(r'<td class="n">([+−][0-9.]+)</td>', lowest)]
    assert totals == sorted(totals)
    assert len(totals) == 66
    assert "update-000001/0" in page(client, "/runs/over/episodes?file=update-000001")


def test_a_list_of_many_episodes_has_pages(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosops_ray.serve.control_room.episode_pages.PAGE", 20)
    first = page(client, "/runs/over/episodes?policy=trained")
    assert "22 of 66 episodes, 1 to 20 shown" in first
    (link,) = re.findall(r'href="([^"]+)" rel="next"', first)
    second = page(client, link.replace("&amp;", "&"))
    assert "22 of 66 episodes, 21 to 22 shown" in second
    assert 'rel="next"' not in second
    assert "21 to 22 shown" in page(client, "/runs/over/episodes?policy=trained&page=900")


def test_a_sweep_has_its_trials(client: TestClient) -> None:
    found = page(client, "/sweeps/sweep")
    assert 'href="/runs/sweep:trials:a-s0"' in found
    assert "3 of 160" in found


def test_what_is_not_there_is_said_in_words(client: TestClient) -> None:
    for address in ("/runs/none", "/sweeps/none", "/runs/over/none", "/none", "/sweeps/sweep/plots/none.png"):
        assert "ot found" in page(client, address, 404)
        assert data(client, f"/api{address}", 404).keys() == {"detail"}


def test_names_may_hold_anything_that_a_folder_s_can(tmp_path: Path) -> None:
    for name in ("a b", "ä", "<script>", "a:b", "a~b", "~c", "100%", "a?b#c", '"'):
        runs.folder(tmp_path / name, 1)
    with opened(tmp_path) as client:
        links = re.findall(r'href="(/runs/[^"]+)"', page(client, "/"))
        assert len(links) == 9
        for link in links:
            assert "1 of 160" in page(client, link)


def test_runs_and_sweeps_themselves_are_no_folder_of_runs(tmp_path: Path) -> None:
    runs.folder(tmp_path / "one", 1)
    for root, words in ((tmp_path / "one", "itself a run"), (tmp_path / "none", "no folder")):
        with pytest.raises(Exception, match=words), opened(root):
            pass


def test_a_run_that_nobody_trains_is_not_running_and_one_that_is_claimed_is(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 2)
    RunFolder.create(tmp_path / "new", runs.CONFIG)
    with opened(tmp_path) as client:
        assert 'class="state to-be-resumed"' in page(client, "/runs/one")
        assert 'class="state not-begun"' in page(client, "/runs/new")
        with run.claimed():
            assert 'class="state running"' in page(client, "/runs/one")
        assert 'class="state to-be-resumed"' in page(client, "/runs/one")
