"""The token and the limits that `chaosops serve` is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray import cli
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.serve import access
from chaosops_ray.sim import InputError
from chaosops_ray.sim.contract import Scenario

SCENARIO = Scenario("toy", "full", "few", 0, "few", "full")
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


def test_names_are_host_names() -> None:
    assert access.names("") == ()
    assert access.names("play.example.org,box") == ("play.example.org", "box")
    for spelling in ("http://box", "box:80", "a b", "*", "a..b", "x" * 300, "[::1]"):
        with pytest.raises(InputError, match="--names must be host names without a port"):
            access.names(f"box,{spelling}")


def test_an_engine_answers_one_at_a_time_and_its_errors_are_one_kind() -> None:
    """A policy that is asked from several threads at once; a second one that fails, while built and while asked."""
    asked_now: list[int] = []

    def build(_: Scenario, __: str) -> Any:
        def act(_: Any) -> int:
            asked_now.append(1)
            most.append(len(asked_now))
            threads_meet.wait(0.01)
            asked_now.pop()
            return len(most)

        return act

    most: list[int] = []
    threads_meet = threading.Event()
    policy = access.one_at_a_time(build, nullcontext)(SCENARIO, "strict")
    threads = [threading.Thread(target=policy, args=(None,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8

    @contextmanager
    def errors() -> Iterator[None]:
        raise InputError("the adapter at /a/place is broken")
        yield

    with pytest.raises(ServedModelError):
        access.one_at_a_time(build, errors)(SCENARIO, "strict")


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
