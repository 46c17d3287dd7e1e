"""A run's folder that is damaged, or is being written: its page says so in words, and the others stay as they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.serve.control_room.metrics_file import MAX_BYTES
from tests.support import runs
from tests.support.control_room import HTML, data, opened, page

PAGES = ("", "/evaluation", "/episodes", "/episodes?file=evaluation", "/episodes?file=update-000001")


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES * 10)


def gone(path: Path) -> None:
    path.unlink()


FILES = (
    "config.yaml",
    "metrics.jsonl",
    "evaluation.json",
    "evaluation-results.jsonl",
    "evaluation-episodes.parquet",
    "episodes/update-000001.parquet",
)


@pytest.mark.parametrize("damage", [half, binary, empty, folder, pipe, loop, huge, gone], ids=lambda one: one.__name__)
def test_a_damaged_file_harms_the_page_of_its_run_alone(
    filled: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """All six files in turn, each in a run of its own."""
    for place, name in enumerate(FILES):
        shutil.copytree(filled / "over", tmp_path / f"run-{place}")
        damage(tmp_path / f"run-{place}" / name)
    shutil.copytree(filled / "over", tmp_path / "sound")
    with opened(tmp_path) as client:
        listed = page(client, "/")
        for place in range(len(FILES)):
            if damage is gone and place == 0:
                assert "run-0" not in listed  # without a configuration, it is no run
                continue
            assert f"run-{place}" in listed
            for part in PAGES:
                found = client.get(f"/runs/run-{place}{part}", headers=HTML)
                assert found.status_code in (200, 404), found.text
            assert client.get(f"/api/runs/run-{place}/curves").status_code in (200, 404, 422)
        assert 'class="state finished"' in page(client, "/runs/sound")
        assert "By tier" in page(client, "/runs/sound/evaluation")


@pytest.mark.parametrize("damage", [half, binary, empty, folder, pipe, loop, huge], ids=lambda one: one.__name__)
def test_a_damaged_sweep_still_has_its_trials(filled: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    for name in ("comparison.json", "sweep.yaml"):
        shutil.copytree(filled / "sweep", tmp_path / name)
        damage(tmp_path / name / name)
    with opened(tmp_path) as client:
        page(client, "/")
        assert "a-s0" in page(client, "/sweeps/comparison.json")
        client.get("/sweeps/sweep.yaml", headers=HTML)


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


ROW = runs.row(3)
LINES = {
    "no JSON": "{",
    "no object": "[1]",
    "not a number": json.dumps(ROW | {"learner": {"kl": "x"}}),
    "NaN": json.dumps(ROW | {"learner": {"kl": float("nan")}}),
    "huge": json.dumps(ROW).replace('"update": 3', '"update": 1' + "0" * 4000),
    "out of order": json.dumps(ROW | {"update": 9}),
    "tiers are text": json.dumps(ROW | {"tiers": "x"}),
    "no tiers": json.dumps(without(ROW, "tiers")),
    "a tier is a number": json.dumps(ROW | {"tiers": {"easy": 1}}),
    "evaluation is text": json.dumps(ROW | {"evaluation": "x"}),
    "a name of tags": json.dumps(ROW | {"<script>alert(1)</script>": "<img src=x>"}),
    "deep": json.dumps(ROW)[:-1] + ', "x": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    "too long": json.dumps(ROW | {"x": "y" * (2 << 20)}),
    "not text": "\udcff\udcfe",
}


@pytest.mark.parametrize("line", list(LINES.values()), ids=list(LINES))
def test_a_line_of_metrics_that_no_run_writes(tmp_path: Path, line: str) -> None:
    run = runs.folder(tmp_path / "odd", 2)
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    runs.folder(tmp_path / "sound", 4)
    with opened(tmp_path) as client:
        assert "4 of 160" in page(client, "/")
        text = page(client, "/runs/odd")
        assert "<script>alert" not in text
        found = data(client, "/api/runs/odd/curves")
        assert found["updates"][:2] == [1, 2]
        assert len(found["updates"]) == 3 or found["error"]


def test_what_is_damaged_is_said_with_the_reason(filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled / "over", tmp_path / "one")
    (tmp_path / "one" / "config.yaml").write_text("updats: 3\n")
    with opened(tmp_path) as client:
        assert "updats" in page(client, "/")
        assert "cannot be shown" in page(client, "/runs/one")
    (tmp_path / "one" / "config.yaml").write_text("extends: ../../../etc/passwd\n")
    with opened(tmp_path) as client:
        assert "extends another file" in page(client, "/runs/one")


def test_a_run_that_is_put_right_is_shown_again(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 3)
    metrics = run.path / "metrics.jsonl"
    sound = metrics.read_bytes()
    with opened(tmp_path) as client:
        metrics.write_bytes(sound[:-200] + b"\n")
        assert data(client, "/api/runs/one/curves")["error"]
        metrics.unlink()
        metrics.write_bytes(sound)
        found = data(client, "/api/runs/one/curves")
        assert (found["error"], found["updates"]) == ("", [1, 2, 3])
