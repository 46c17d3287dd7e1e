"""Print docs/cli.md: what `chaosops --help` and every command's --help say. `make docs` writes it, a test compares."""

from __future__ import annotations

import argparse

from chaosops_ray.cli import parser


def reference() -> str:
    """The page."""
    root = parser()
    (commands,) = [action for action in root._actions if isinstance(action, argparse._SubParsersAction)]
    pages = [root, *commands.choices.values()]
    sections = [f"## {page.prog}\n\n```\n{page.format_help().rstrip()}\n```\n" for page in pages]
    return "# The command line\n\nMade by `make docs`.\n\n" + "\n".join(sections)


if __name__ == "__main__":
    print(reference(), end="")
