"""A control room in this process, on scripted runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chaosops_ray.serve.control_room.app import create_app
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.runs import Runs
from chaosops_ray.store.episodes import write_episodes
from chaosops_ray.store.run_folder import EPISODES
from tests.support import runs

HTML = {"accept": "text/html"}
SWEEP = "arms: {a: {}}\npublished: {}\n"
COMPARISON: dict[str, Any] = {
    "world": "incident",
    "rules": "strict/2",
    "set": "published",
    "seeds": "0",
    "verdicts": [],
    "cells": [],
    "differences": [],
}


@contextmanager
def opened(root: Path, **given: Any) -> Iterator[TestClient]:
    """A client of the application on this folder."""
    app = create_app(Room(Runs(root)), **given)
    with TestClient(app, base_url="http://localhost:8700") as client:
        yield client


def page(client: TestClient, address: str, status: int = 200) -> str:
    """The page at an address."""
    found = client.get(address, headers=HTML)
    assert found.status_code == status, found.text[-500:]
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    return found.text


def data(client: TestClient, address: str, status: int = 200) -> Any:
    """The data at an address."""
    found = client.get(address)
    assert found.status_code == status, found.text
    return found.json()


def fill(root: Path) -> None:
    """A run that is over with its episodes, one that has begun, and a sweep of two trials."""
    over = runs.evaluated(root / "over", 30)
    with write_episodes(over.path / EPISODES / "update-000001.parquet") as writer:
        for name, one in runs.played():
            writer.add(runs.INCIDENT, name, one.episode)
    runs.folder(root / "deep" / "begun", 5)
    sweep = root / "sweep"
    runs.folder(sweep / "trials" / "a-s0", 3)
    runs.folder(sweep / "trials" / "a-s1", 2)
    (sweep / "sweep.yaml").write_text(SWEEP)
    (sweep / "comparison.json").write_text(json.dumps(COMPARISON))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder, which no test changes."""
    root = tmp_path_factory.mktemp("runs")
    fill(root)
    return root
