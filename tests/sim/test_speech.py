"""What is read out of completions: the last object that names its marker, within limits that no process sets."""

from __future__ import annotations

from typing import Any

import pytest

from chaosops_ray.sim.speech import MAX_DIGITS, MAX_NESTING, decode, last_object


def nested(depth: int) -> str:
    return '{"tool": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def at_depth(levels: int, text: str) -> Any:
    return at_depth(levels - 1, text) if levels else last_object(text, frozenset({"tool"}))


@pytest.mark.parametrize("levels", [0, 300, 600])
def test_an_object_that_is_nested_too_deeply_is_none_for_any_caller(levels: int) -> None:
    """Python's parser stops where its caller's stack is full, which is elsewhere for each."""
    assert at_depth(levels, nested(MAX_NESTING)) == decode(nested(MAX_NESTING))
    for depth in (MAX_NESTING + 1, 200, 500, 900, 3000):
        assert at_depth(levels, nested(depth)) is None
        assert at_depth(levels, '{"tool": 1} ' + nested(depth)) == {"tool": 1}


def test_brackets_within_text_do_not_nest() -> None:
    assert last_object('{"tool": "' + "[" * 200 + '"}', frozenset({"tool"})) == {"tool": "[" * 200}
    assert decode('["' + "{" * 200 + '\\"", "' + "]" * 200 + '"]') == ["{" * 200 + '"', "]" * 200]


@pytest.mark.parametrize("text", ["[" * 65, "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65, '["\\"", ' + "[" * 64])
def test_what_is_nested_too_deeply_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(text)


def test_whole_numbers_have_so_many_digits() -> None:
    assert decode("9" * MAX_DIGITS) == int("9" * MAX_DIGITS)
    for number in ("9" * (MAX_DIGITS + 1), "-" + "9" * MAX_DIGITS):
        with pytest.raises(ValueError, match="too many digits"):
            decode(number)
    assert last_object('{"tool": ' + "9" * (MAX_DIGITS + 1) + "}", frozenset({"tool"})) is None


def test_only_text_is_read() -> None:
    for value in (None, 3, b"{}"):
        with pytest.raises(TypeError):
            decode(value)  # type: ignore[arg-type]
