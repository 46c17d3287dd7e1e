"""The tasks that a server offers: what their ids tell, where their seeds come from, how one is chosen."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from chaosops_ray.serve.tasks import SEEDS, TEST, TRAIN, Catalog
from chaosops_ray.sim import ENVIRONMENTS, InputError, training_seeds
from chaosops_ray.sim.contract import AnyEnvironment
from tests.support.toy_world import TOY

WORLDS = [*ENVIRONMENTS.values(), TOY]
CATALOGS = {world.name: Catalog(world) for world in WORLDS}


@pytest.fixture(params=CATALOGS)
def catalog(request: pytest.FixtureRequest) -> Catalog:
    return CATALOGS[request.param]


def test_an_id_is_a_digest_and_no_two_tasks_share_one(catalog: Catalog) -> None:
    tasks = [task for split in catalog.splits for task in catalog.tasks(split)]
    assert len({task.id for task in tasks}) == len(tasks)
    assert all(re.fullmatch(r"[0-9a-f]{24}", task.id or "") for task in tasks)
    assert [catalog.task(0, task_id=task.id) for task in tasks[:50]] == tasks[:50]


def test_nothing_that_is_told_of_a_task_names_its_failure() -> None:
    catalog = CATALOGS["incident"]
    failures = {scenario.case for scenario in ENVIRONMENTS["incident"].cases}
    for split in catalog.splits:
        for task in catalog.tasks(split)[:500]:
            told = catalog.described(task)
            assert set(told) == {"id", "split", "index", "difficulty", "group"}
            assert not [name for name in failures if name in json.dumps(told)]
            assert split not in SEEDS or str(task.scenario.seed) not in json.dumps(told)


def test_an_index_tells_nothing_of_the_case(catalog: Catalog) -> None:
    """In the order of the evaluation set, the case follows from the index."""
    cases = [task.scenario.case for task in catalog.tasks(TRAIN)]
    period = len(catalog.environment.scenarios(catalog.environment.selections[0], [0]))
    for step in (1, 2, period, len(SEEDS[TRAIN])):
        same = sum([here == there for here, there in zip(cases, cases[step:], strict=False)]) / (len(cases) - step)
        by_chance = sum([(count / len(cases)) ** 2 for count in Counter(cases).values()])
        assert same == pytest.approx(by_chance, abs=0.05)


def test_the_splits_share_no_seed_and_leave_those_of_reports_alone() -> None:
    train, test = SEEDS[TRAIN], SEEDS[TEST]
    assert not set(train) & set(test)
    assert min(train) >= training_seeds.FIRST > max(test)
    for kept in (range(1000, 1020), range(20_000, 40_000)):
        assert not set(kept) & {*train, *test}
    for catalog in CATALOGS.values():
        for split in (TRAIN, TEST):
            assert {task.scenario.seed for task in catalog.tasks(split)} == set(SEEDS[split])


def test_every_server_offers_the_same_tasks() -> None:
    found = {name: (catalog.tasks(TRAIN)[7].id, catalog.tasks(TEST)[0].id) for name, catalog in CATALOGS.items()}
    assert found == {
        "incident": ("d70d96f1b413ae5f7ac9d0af", "29f66cc1dad31a14d5b28ccd"),
        "tools": ("fded714f82331d7f40044ef9", "8cd2b3f1e699affa9117f378"),
        "fleet": ("963309bd9eb5fcee772eee84", "10a6193640a3c10db5db0c3e"),
        "toy": ("fd25e008a163247cd54e1735", "ce0fab54606dba5d1f910b1f"),
    }


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_seed_draws_from_the_whole_split(world: AnyEnvironment) -> None:
    catalog = CATALOGS[world.name]
    drawn = [catalog.task(seed) for seed in range(200)]
    assert drawn == [catalog.task(seed) for seed in range(200)]
    assert {task.split for task in drawn} == {TRAIN}
    assert {task.scenario.tier for task in drawn} == set(world.tiers)
    for tier in world.tiers:
        assert {catalog.task(seed, split=TEST, difficulty=tier).scenario.tier for seed in range(20)} == {tier}


def test_a_case_is_named_as_published() -> None:
    catalog = CATALOGS["tools"]
    assert catalog.task(3, scenario_id="W01").scenario.identity == "tools/W01/published/0"
    assert catalog.task(3, scenario_id="E15", scenario_seed=9).scenario.identity == "tools/E15/published/9"
    assert catalog.task(3, scenario_id="tools/claim/heldout/4").scenario.identity == "tools/claim/heldout/4"
    cascade = CATALOGS["incident"].task(0, scenario_id="cascade", difficulty="hard").scenario
    assert (cascade.case, cascade.tier) == ("cascade", "hard")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "dev"}, "unknown split 'dev'; valid: train, test, published, cross"),
        ({"difficulty": "impossible"}, "unknown difficulty 'impossible'"),
        ({"index": 11_000}, "split train has the tasks 0 to 10999, and none at 11000"),
        ({"index": -1}, "none at -1"),
        ({"task_id": "x" * 500}, "there is no task"),
        ({"task_id": "x", "index": 1}, "task_id and index both name a task"),
        ({"scenario_id": "nothing"}, "there is no case 'nothing' in world incident"),
        ({"scenario_id": "tools/claim/synthetic/3"}, "is no scenario"),
        ({"scenario_id": "dns_outage", "scenario_seed": 2**64}, "is not a whole number"),
        ({"scenario_id": "db_deadlock", "difficulty": "x"}, "unknown difficulty"),
    ],
)
def test_a_task_that_is_named_wrongly_is_an_error(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        CATALOGS["incident"].task(0, **options)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_what_does_not_fit_the_named_task_is_an_error() -> None:
    catalog = CATALOGS["incident"]
    task = catalog.tasks(TEST)[0]
    other = next(tier for tier in catalog.environment.tiers if tier != task.scenario.tier)
    with pytest.raises(InputError, match="is in split test, not train"):
        catalog.task(0, task_id=task.id, split=TRAIN)
    with pytest.raises(InputError, match=f"has difficulty {task.scenario.tier}, not {other}"):
        catalog.task(0, task_id=task.id, difficulty=other)
