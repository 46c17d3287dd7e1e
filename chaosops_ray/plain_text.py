"""Text from elsewhere (errors, names, answers) as one line of bounded length that a terminal can show, without keys."""

from __future__ import annotations

import re
from typing import Literal

HIDDEN = "[key]"
# JSON may write these with a backslash before them.
_ESCAPED, _SLASH = '"/\\', r"\\?"


def printable(text: str, longest: int | None = None) -> str:
    """Replace characters that a terminal would interpret or cannot show; cut the text at `longest` characters."""
    shown = "".join([character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text])
    return shown if longest is None or len(shown) <= longest else f"{shown[: longest - 1]}…"


def one_line(said: BaseException | str, longest: int = 300, part: Literal["all", "first", "last"] = "all") -> str:
    """Fold an error or a text into one printable line; an error without words gives the name of its type.

    With `part`, only the first or the last line that has a letter or a digit; a traceback ends with the error.
    """
    text = str(said)
    if part != "all":
        lines = [line for line in text.splitlines() if any(character.isalnum() for character in line)]
        text = (lines[0] if part == "first" else lines[-1]) if lines else ""
    folded = " ".join(text.split())
    if not folded and isinstance(said, BaseException):
        folded = type(said).__name__
    return printable(folded, longest)


def without(secret: str, text: str) -> str:
    """Replace a secret by `[key]`, also where some of its characters are written as escapes of JSON."""
    if not secret:
        return text
    ways = [rf"(?:{_SLASH if one in _ESCAPED else ''}{re.escape(one)}|\\u(?i:{ord(one):04x}))" for one in secret]
    return re.sub("".join(ways), HIDDEN, text)
