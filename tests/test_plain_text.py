"""Text from elsewhere: one line, bounded, and nothing in it that a terminal obeys."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray import cli
from chaosops_ray.config import ConfigError
from chaosops_ray.plain_text import one_line, printable, without

ANYTHING = st.text() | st.lists(
    st.sampled_from(["\x1b[2J", "\n", "\r", "\x9b", "\u202e", "word", " ", "\x00", "\u2028"])
).map("".join)


@given(ANYTHING, st.integers(1, 200), st.sampled_from(["all", "first", "last"]))
def test_whatever_is_said_is_one_printable_line_of_bounded_length(text: str, longest: int, part: str) -> None:
    for said in (text, ValueError(text)):
        line = one_line(said, longest, part)  # type: ignore[arg-type]
        assert line.isprintable()
        assert len(line) <= longest
        assert "  " not in line
        assert one_line(line, longest) == line
    assert one_line(ValueError(text), part=part), "an error always says something"  # type: ignore[arg-type]


@given(st.lists(st.text("abc-.", min_size=1), min_size=1).map(" ".join))
def test_words_stay_as_they_are(text: str) -> None:
    assert one_line(text, 10_000) == text
    assert printable(text, 10_000) == text


@pytest.mark.parametrize(
    ("text", "part", "line"),
    [
        ("a\tb\n\n c", "all", "a b c"),
        ("Traceback:\n  File x\nOSError: no room\n ^^^^\n...\n", "last", "OSError: no room"),
        ("----\n first\nsecond", "first", "first"),
        ("red\x1b[31m", "all", "red\N{REPLACEMENT CHARACTER}[31m"),
        ("", "last", ""),
        ("\n...\n", "first", ""),
        ("x" * 301, "all", "x" * 299 + "…"),
    ],
)
def test_parts_of_a_text(text: str, part: str, line: str) -> None:
    assert one_line(text, part=part) == line  # type: ignore[arg-type]


def test_an_error_without_words_is_named() -> None:
    assert one_line(TimeoutError()) == "TimeoutError"
    assert one_line(KeyError("\x1b")) == "'\\x1b'"


@given(ANYTHING)
def test_a_configuration_s_error_is_one_printable_line(text: str) -> None:
    assert str(ConfigError(f"model: {text} is wrong")).isprintable()


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\nb", "\x9b31m", "\u202egnp"])
@pytest.mark.parametrize("arguments", [["replay"], ["no such command"], ["evaluate", "--json"]])
def test_the_command_line_never_hands_on_what_a_terminal_obeys(arguments: list[str], name: str) -> None:
    """Names that are quoted in errors, by the program and by argparse."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        assert cli.main([*arguments, f"/no/such/folder/{name}"]) == cli.USAGE
    (line,) = said.getvalue().splitlines()
    assert line.isprintable()


@pytest.mark.parametrize(
    "text", ['a"b/c\\d+0', 'a\\"b\\/c\\\\d+0', "a\\u0022b\\u002Fc\\u005cd\\u002b0", json.dumps('a"b/c\\d+0')[1:-1]]
)
def test_a_secret_is_replaced_also_in_escapes(text: str) -> None:
    assert without('a"b/c\\d+0', f"<{text}> {text[:-1]}") == f"<[key]> {text[:-1]}"
    assert without("", text) == text
