"""Execute a notebook without Jupyter: its code cells in order, in one namespace, with what they show as outputs.

    python -m scripts.notebook examples/tour.ipynb     (writes the outputs into the file)

A cell's output is what it prints, and its last line's value, as Jupyter would show it: as a picture, as HTML, or as
text. Nothing of this machine gets into the file but what the cells say.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def executed(notebook: dict[str, Any], tell: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the notebook with the outputs of this execution; the error of a cell is raised."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        count += 1
        source = "".join(cell["source"])
        if tell is not None:
            tell(f"cell {count}: {source.strip().splitlines()[0] if source.strip() else ''}")
        cells.append({**cell, "execution_count": count, "outputs": list(_outputs(source, count, namespace))})
    return {**notebook, "cells": cells}


def _outputs(source: str, count: int, namespace: dict[str, Any]) -> Iterator[dict[str, Any]]:
    module = ast.parse(source, f"cell {count}")
    last = module.body.pop() if module.body and isinstance(module.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(module, f"cell {count}", "exec"), namespace)  # noqa: S102 - the notebook is this project's own
        value = None
        if isinstance(last, ast.Expr) and not source.rstrip().endswith(";"):
            value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), namespace)  # noqa: S307 - as above
        elif last is not None:
            exec(compile(ast.Module([last], []), f"cell {count}", "exec"), namespace)  # noqa: S102 - as above
    if printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": _text(printed.getvalue())}
    if value is not None:
        yield {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": _shown(value)}


def _shown(value: Any) -> dict[str, Any]:
    """Return a value as Jupyter shows it, in each form that it has."""
    if hasattr(value, "_repr_mimebundle_"):
        return {kind: _text(data) for kind, data in value._repr_mimebundle_((), ()).items()}
    data: dict[str, Any] = {"text/plain": _text(repr(value))}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = _text(value._repr_html_())
    if hasattr(value, "_repr_png_"):
        data["image/png"] = b64encode(value._repr_png_()).decode()
    return data


def _text(text: str) -> list[str]:
    """Return the lines of a text, with the folder of this execution left out of paths."""
    return text.replace(f"{Path.cwd()}{os.sep}", "").splitlines(keepends=True)


def main() -> int:
    """Execute the notebook in an empty folder, and write the outputs into its file."""
    path = Path(sys.argv[1]).resolve()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    place = tempfile.mkdtemp(prefix="tour-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    os.chdir(place)
    os.environ["COLUMNS"] = "115"  # as wide as rich makes a table in Jupyter
    found = executed(notebook, lambda line: print(line, file=sys.stderr, flush=True))
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
