"""The token and the limits that `chaosops serve` is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosops_ray import cli
from chaosops_ray.serve import access
from chaosops_ray.sim import InputError

SECRET = "a-secret-of-some-length"  # noqa: S105 - made up


def test_the_token_comes_from_the_file_or_else_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    assert access.token(path, {access.TOKEN: "b" * 20}) == SECRET
    assert access.token(None, {access.TOKEN: f" {SECRET} "}) == SECRET
    assert access.token(None, {}) is None


@pytest.mark.parametrize("content", ["", "short", f"{SECRET} and more", "ü" * 20, "x" * 5000])
def test_what_is_no_token_is_an_error_that_does_not_quote_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    for given in ((path, {}), (None, {access.TOKEN: content})):
        with pytest.raises(InputError, match="holds no token") as caught:
            access.token(*given)
        assert not content or content not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "unknown world 'nowhere'"),
        (["incident", "--rules", "soft"], "unknown rule set 'soft'"),
        (["incident", "--port", "70000"], "--port must be 0-65535, got 70000"),
        (["incident", "--max-sessions", "0"], "--max-sessions must be 1-4096, got 0"),
        (["incident", "--idle", "nan"], "--idle must be 1-86400 seconds, got nan"),
        (["incident", "--policies", "oracle"], "--policies names models"),
        (["incident", "--token-file", "no/such/file"], "--token-file no/such/file cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_served(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(access.TOKEN, raising=False)
    assert cli.main(["serve", *arguments]) == cli.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("chaosops serve: ")
    assert words in err
    assert err.count("\n") == 1
