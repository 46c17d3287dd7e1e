"""Run a uv command with the package indexes, folders and certificates that the user's pip is configured with.

    python scripts/pip_settings.py .venv/bin/uv pip install numpy

uv does not read pip's configuration: neither the PIP_* variables nor the files. `pip config list` names both. A UV_*
variable that the user has set is left as it is.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

# `pip install` reads these sections; a later one overrides an earlier one.
_SECTIONS = ("global", "install", ":env:")


def read(lines: Iterable[str]) -> dict[str, list[str]]:
    """Parse the output of `pip config list`: the words of each setting that `pip install` obeys."""
    found: dict[str, dict[str, list[str]]] = {section: {} for section in _SECTIONS}
    for line in lines:
        key, equals, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if equals and section in found and (words := str(ast.literal_eval(value)).split()):
            found[section][name] = words
    return {name: words for section in _SECTIONS for name, words in found[section].items()}


def translated(settings: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the variables by which uv is told the same."""
    variables = {}
    for name, variable, separator in (
        ("index-url", "UV_DEFAULT_INDEX", " "),
        ("extra-index-url", "UV_INDEX", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("trusted-host", "UV_INSECURE_HOST", " "),
        ("cert", "SSL_CERT_FILE", " "),
        ("proxy", "ALL_PROXY", " "),
        ("timeout", "UV_HTTP_TIMEOUT", " "),
        ("default-timeout", "UV_HTTP_TIMEOUT", " "),
    ):
        if name in settings:
            variables[variable] = separator.join(settings[name])
    if "extra-index-url" in settings:
        # uv takes a package from the first index that has it; pip takes the best version of all indexes.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return variables


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return this environment with what pip is configured with added for uv."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=dict(own), stdout=subprocess.PIPE, text=True, check=True
    )
    return {**translated(read(listed.stdout.splitlines())), **own}


def main() -> None:
    """Replace this process by the command."""
    os.execvpe(sys.argv[1], sys.argv[1:], environment(os.environ))  # noqa: S606 - the Makefile's own command


if __name__ == "__main__":
    main()
