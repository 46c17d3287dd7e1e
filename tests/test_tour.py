"""The tour: what it shows came out of its cells, and still does."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts import notebook

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "examples" / "tour.ipynb"
TRAINS = "chaosops("  # the first cell that calls this is the one that trains


def tour() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TOUR.read_text(encoding="utf-8"))
    return found


def code(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in found["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    return "".join(line for output in cell["outputs"] for line in output.get("text", []))


def test_the_outputs_are_of_one_whole_execution() -> None:
    cells = code(tour())
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for cell in cells for output in cell["outputs"] for kind in output.get("data", [])]
    assert kinds.count("image/png") >= 4
    assert "text/html" in kinds
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]


def test_nothing_in_it_is_of_the_machine_that_ran_it() -> None:
    shown = json.dumps([cell["outputs"] for cell in code(tour())])
    assert not re.search(r"(?<![\w.:/])/(tmp|root|home|work|usr)/", shown)


def test_its_cells_are_short_and_its_links_lead_somewhere() -> None:
    for cell in tour()["cells"]:
        assert len(cell["source"]) <= 20, cell["source"][0]
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", "".join(cell["source"])):
            assert (TOUR.parent / target).exists(), target


def test_the_cells_before_the_training_print_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = tour()
    (train, *_) = [place for place, cell in enumerate(found["cells"]) if TRAINS in "".join(cell["source"])]
    begun = {**found, "cells": found["cells"][:train]}
    for before, now in zip(code(begun), code(notebook.executed(begun)), strict=True):
        assert printed(now) == printed(before)


@pytest.mark.slow
@pytest.mark.cluster
def test_the_tour_can_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    committed = tour()
    again = notebook.executed(committed)
    for before, now in zip(code(committed), code(again), strict=True):
        assert [output["output_type"] for output in now["outputs"]] == [
            output["output_type"] for output in before["outputs"]
        ]
    assert (tmp_path / "runs" / "tour" / "report.html").exists()
