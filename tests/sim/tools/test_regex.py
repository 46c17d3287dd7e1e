"""The bounded matcher finds what `re` finds, and stops where `re` would not."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.regex import MAX_PATTERN, find_all


def reference(pattern: str, text: str) -> list[str]:
    """What `re` finds: the first group, or the whole match; a group that took no part stands for the whole."""
    found = []
    for match in re.finditer(pattern, text):
        group = match.re.groups and match[1] is not None
        found.append(match[1] if group else match[0])
    return found


pieces = st.sampled_from(
    [
        "a",
        "b",
        "ab",
        ".",
        r"\d",
        r"\w",
        r"\s",
        "[ab]",
        "[^a]",
        "[a-c1-3]",
        "(a)",
        "(?:ab)",
        "(a|b)",
        "(?:a|ab)",
        "^",
        "$",
        r"\b",
    ]
)
counts = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "*?", "+?", "??"])
repeatable = st.tuples(pieces, counts).map(lambda pair: pair[0] + ("" if pair[0] in ("^", "$", r"\b") else pair[1]))


@given(st.lists(repeatable, min_size=1, max_size=4).map("".join), st.text("ab1 \nc", max_size=12))
def test_small_patterns_find_what_re_finds(pattern: str, text: str) -> None:
    """All matches where none is empty, and the first where some are: where the next may begin then is `re`'s affair."""
    ours, theirs = find_all(pattern, text, 100), reference(pattern, text)
    if all(match[0] for match in re.finditer(pattern, text)):
        assert ours == theirs
    else:
        assert ours[:1] == theirs[:1]


# Whatever can stand in a pattern, well formed together or not.
SYMBOLS = r"""
    a a b 1 _ - ^ $ . * + ? { } ( ) [ ] | \ , : # < > P = ! é (?: (?P<a> (?P<b> (?#c) (a) {2} {1,2} {,3} {2,} {1 {a}
    \d \w \s \D \S \W \b \B \A \Z *? +? ?? [a-c] [^a] []a] [^]a] [\d_] [\b] [a\-c] [-a] [a-] [b-a] [\w-a] [\1] \x61
    \u0062 \U00000061 \101 \0 \07 \1 \8 \t \n \q \x6 \N{ASTERISK} (?i) (?= (?<! (?> (?(1) (?z)
"""
symbols = st.sampled_from([*SYMBOLS.split(), " ", "\n"])


@given(st.lists(symbols, min_size=1, max_size=7).map("".join), st.text("aab1_ \nc-é}{(,", max_size=10))
@settings(max_examples=2000)
@pytest.mark.filterwarnings("ignore:Possible nested set")
def test_a_pattern_means_what_it_means_to_re_or_is_refused(pattern: str, text: str) -> None:
    try:
        ours = find_all(pattern, text, 100)
    except ToolError as error:
        # What `re` takes is refused only where it is of a kind that is not supported.
        if "not supported" not in str(error):
            with pytest.raises(re.error):
                re.compile(pattern)
        return
    # In an empty text `re` finds no \B before Python 3.14; since then, and here, it is always the opposite of \b.
    assume(text or r"\B" not in pattern)
    matches = list(re.finditer(pattern, text))
    theirs = reference(pattern, text)
    if all(match[0] for match in matches) or not matches:
        assert ours == theirs
    else:
        assert ours[:1] == theirs[:1]


@pytest.mark.parametrize(
    "pattern", ["(?i)a", "(?i:a)", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "a*+", r"(a)\1", "(?P<x>a)(?P=x)"]
)
def test_what_re_understands_and_this_does_not_is_said_to_be_not_supported(pattern: str) -> None:
    re.compile(pattern)
    with pytest.raises(ToolError, match="not supported"):
        find_all(pattern, "aab", 20)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"population of ([\d,]+)", "a population of 83,200,000 in all", ["83,200,000"]),
        (r"\d+\.\d+", "1.87 and 2.3", ["1.87", "2.3"]),
        (r"^(\w+) \|", "name | x", ["name"]),
        ("[A-Z][a-z]+", "Hello there World", ["Hello", "World"]),
        ("colou?r", "color colour", ["color", "colour"]),
    ],
)
def test_patterns_that_agents_write(pattern: str, text: str, found: list[str]) -> None:
    assert find_all(pattern, text, 20) == found


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * 50 + "b"),
        ("(a|aa)+$", "a" * 50 + "b"),
        ("(a*)*b", "a" * 50),
        ("(.*)(.*)(.*)(.*)(.*)x", "a" * 200),
        ("a*a*a*a*a*a*b", "a" * 200),
        ("(x+x+)+y", "x" * 60),
    ],
)
def test_catastrophes_are_called_off(pattern: str, text: str) -> None:
    with pytest.raises(ToolError, match="work limit"):
        find_all(pattern, text, 20)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "[",
        "*",
        "a{2,1}",
        "(?=a)",
        "(?i)a",
        "(?i:a)",
        "(?:){4000000000}",
        "(?:(?:){9999}){9999}",
        "(?:a{999}){999}",
        "(?>a)",
        "a*+",
        "(?<!a)b",
        r"(a)\1",
        "(?(1)a|b)",
        "x" * (MAX_PATTERN + 1),
        "(" * 90 + ")" * 90,
        "(" * 200,
        "(?:" * 66,
        "[" * 200,
        "|" * 200 + ")",
        "(?:" * 30 + "a" + ")*" * 30,
        "(?P<" + "x" * 190,
        "(?#" + "x" * 190,
        r"\N{" + "x" * 190 + "}",
        "a{" + "9" * 190 + "}",
        "[" + r"\w\d\s" * 30 + "]",
    ],
)
def test_what_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(ToolError):
        find_all(pattern, "aab", 20)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_pattern_does_worse_than_an_error(pattern: str, text: str) -> None:
    try:
        find_all(pattern, text, 20)
    except ToolError as error:
        assert str(error)
