"""Refusing SQL whose parts multiply while it is prepared, where SQLite counts no instructions.

SQLite puts the text of a common table expression in the place of each of its names, and that of a subquery's column
likewise: twenty that name the one before twice are a million. How much a statement may grow is told here from its
tokens, without understanding it: by the product of how many values each SELECT names.
"""

from __future__ import annotations

import re

from chaosops_ray.sim.tools.limits import ToolError

MAX_GROWTH = 80_000

_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)"  # comments
    r"|(?P<quoted>'(?:[^']|'')*'?|\"(?:[^\"]|\"\")*\"?|`(?:[^`]|``)*`?|\[[^\]]*\]?)"
    r"|(?P<number>(?:[0-9]|\.[0-9])[0-9A-Za-z_.]*)"
    r"|(?P<word>[A-Za-z_$\x80-\U0010ffff][0-9A-Za-z_$\x80-\U0010ffff]*)"
    r"|(?P<mark>[()*])",
    re.DOTALL,
)
_SELECTS = re.compile("select|values", re.IGNORECASE)
# Words that name nothing, and cannot be made to.
_RESERVED = re.compile(
    "all|and|as|between|case|distinct|else|escape|exists|from|group|having|in|is|isnull|join|limit|not|notnull|null|on|or"
    "|order|select|then|union|using|values|when|where"
)


def refuse_what_multiplies(sql: str) -> None:
    """Raise ToolError for a statement that could grow a lot: an alias in an alias, over all levels of its SELECTs."""
    if len(_SELECTS.findall(sql)) < 2:  # one SELECT alone: its length bounds what it may grow to
        return
    named = [0]  # how many values the SELECTs of each open parenthesis name, from the outermost on
    is_select = [True]
    finished: list[int] = []
    for token in _TOKEN.finditer(sql):
        word = (token["word"] or "").lower()
        if token["mark"] == "(":
            named.append(0)
            is_select.append(False)
        elif token["mark"] == ")" and len(named) > 1:
            inner = named.pop()
            if is_select.pop():
                finished.append(inner)
            else:
                named[-1] += inner
        elif word in ("select", "values"):
            is_select[-1] = True
        elif token["quoted"] or token["number"] or token["mark"] == "*" or (word and not _RESERVED.fullmatch(word)):
            named[-1] += 1
    counts = [*finished, *[count for count in named if count]]
    # Within one SELECT an alias of many values may be named many times; that is once more the longest of them.
    growth = max(counts, default=0)
    for count in counts:
        growth *= max(count, 1)
    if finished and growth > MAX_GROWTH:
        raise ToolError("SQL error: the subqueries of this statement could multiply; ask in several statements")
