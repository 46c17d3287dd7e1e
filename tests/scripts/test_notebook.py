"""The runner of notebooks: what a cell prints, what its last line is worth, and what an error does."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from scripts import notebook


def run(*sources: str) -> list[dict[str, Any]]:
    cells = [{"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": []} for source in sources]
    text = {"cell_type": "markdown", "source": ["words"]}
    found = notebook.executed({"cells": [text, *cells], "nbformat": 4})
    assert found["cells"][0] == text
    return list(found["cells"][1:])


def test_cells_share_a_namespace_and_are_counted() -> None:
    first, second = run("x = 20", "print(x)\nprint('y')\nx + 1")
    assert (first["execution_count"], first["outputs"]) == (1, [])
    assert second["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": ["20\n", "y\n"]},
        {"output_type": "execute_result", "execution_count": 2, "metadata": {}, "data": {"text/plain": ["21"]}},
    ]


def test_a_last_line_that_is_worth_nothing_or_ends_in_a_semicolon_shows_nothing() -> None:
    for source in ("print", "None", "1 + 1;", "x = 3"):
        (cell,) = run(source)
        assert bool(cell["outputs"]) == (source == "print")


def test_values_are_shown_as_jupyter_shows_them() -> None:
    kinds = """
class Picture:
    def _repr_png_(self): return b"png"
    def _repr_html_(self): return "<b>p</b>"
class Bundle:
    def _repr_mimebundle_(self, include, exclude): return {"text/plain": "a\\nb"}
"""
    _, picture, bundle = run(kinds, "Picture()", "Bundle()")
    (shown,) = picture["outputs"]
    assert shown["data"]["image/png"] == b64encode(b"png").decode()
    assert shown["data"]["text/html"] == ["<b>p</b>"]
    assert bundle["outputs"][0]["data"] == {"text/plain": ["a\n", "b"]}


def test_the_folder_of_the_execution_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (cell,) = run("import pathlib\nprint(pathlib.Path('a.txt').resolve())")
    assert cell["outputs"][0]["text"] == ["a.txt\n"]


def test_the_error_of_a_cell_ends_the_execution_and_leaves_the_file_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["1 / 0"], "outputs": []}]}))
    before = file.read_text()
    monkeypatch.setattr("sys.argv", ["notebook", str(file)])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        notebook.main()
    assert file.read_text() == before
