"""Sinks take what they can; whatever goes wrong in one is said once, counted, and changes nothing for the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.config import ConfigError
from chaosops_ray.sim.errors import InputError
from chaosops_ray.telemetry import sinks
from chaosops_ray.telemetry.sinks import Described, SinkError, Sinks
from chaosops_ray.telemetry.table import Sample
from chaosops_ray.training import check
from chaosops_ray.training.errors import as_input_errors
from tests.support import runs
from tests.support.cluster import small_run


class Scripted:
    """A sink that keeps what it takes, or does with an update what a function does."""

    def __init__(self, does: Callable[[int], None] = lambda _update: None) -> None:
        self.updates: list[int] = []
        self.samples: list[Sequence[Sample]] = []
        self.idled = threading.Event()
        self.closed = False
        self._does = does

    def write(self, samples: Sequence[Sample], update: int) -> None:
        self._does(update)
        self.updates.append(update)
        self.samples.append(samples)

    def idle(self) -> None:
        self.idled.set()

    def close(self) -> None:
        self.closed = True


def failing(*updates: int, error: Exception | None = None) -> Callable[[int], None]:
    def does(update: int) -> None:
        if update in updates:
            raise error or OSError(28, "No space left on device")

    return does


def sent(count: int, *given: Scripted, said: list[str] | None = None) -> dict[str, int]:
    """Send so many rows; how many updates each sink could not take."""
    lines: list[str] = [] if said is None else said
    open_sinks = Sinks({f"sink {i}": sink for i, sink in enumerate(given)}, lines.append)
    for row in runs.rows(count):
        open_sinks.send(row)
    open_sinks.close()
    return open_sinks.failed


def test_every_sink_has_every_update_in_order_when_it_is_closed() -> None:
    one, other = Scripted(), Scripted()
    assert sent(20, one, other) == {}
    assert one.updates == other.updates == list(range(1, 21))
    assert one.closed
    assert other.closed
    assert {sample.key for sample in one.samples[0]} >= {"learner/kl", "tiers/easy/mean"}


def test_a_failure_is_said_once_and_counted_and_later_updates_are_tried_again() -> None:
    bad, good, said = Scripted(failing(2, 3)), Scripted(), list[str]()
    assert sent(5, bad, good, said=said) == {"sink 0": 2}
    assert bad.updates == [1, 4, 5]
    assert good.updates == [1, 2, 3, 4, 5]
    assert said == ["telemetry: sink 0 failed at update 2: [Errno 28] No space left on device; the training goes on"]


def test_a_figure_that_the_table_does_not_know_ends_no_training() -> None:
    sink, said = Scripted(), list[str]()
    open_sinks = Sinks({"sink": sink}, said.append)
    open_sinks.send(runs.row(1) | {"new": 1.0})
    open_sinks.send(runs.row(2))
    open_sinks.close()
    assert (sink.updates, open_sinks.failed) == ([2], {"sink": 1})
    assert "no entry for new" in said[0]


def test_a_sink_that_hangs_holds_nobody_up() -> None:
    release = threading.Event()
    hung, said = Scripted(lambda _: release.wait() and None), list[str]()
    open_sinks = Sinks({"hung": hung}, said.append)
    try:
        for row in runs.rows(150):  # more than may wait for it
            open_sinks.send(row)
        assert open_sinks.failed["hung"] >= 49
        open_sinks.close(seconds=0.0)
        assert open_sinks.failed["hung"] >= 149
        assert len(said) == 1
        assert "hung failed at update" in said[0]
    finally:
        release.set()


def test_a_sink_can_do_something_between_updates() -> None:
    sink = Scripted()
    open_sinks = Sinks({"sink": sink}, idle=0.001)
    assert sink.idled.wait(60)
    open_sinks.close()


@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"])
def test_no_key_is_ever_said(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "s3cret/key")
    said: list[str] = []
    sent(1, Scripted(failing(1, error=ValueError("401 for s3cret/key at https://example.org"))), said=said)
    assert said == [
        f"telemetry: sink 0 failed at update 1: 401 for <{variable}> at https://example.org; the training goes on"
    ]


def test_a_missing_package_is_found_out_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sinks.KINDS, "wandb", sinks.KINDS["wandb"]._replace(package="chaosops_not_there"))
    with (
        pytest.raises(InputError, match="wandb needs a package; install it with: pip install chaosops_not_there"),
        as_input_errors(),
    ):
        check.look_over(small_run("telemetry=[wandb]"))


def test_a_server_that_is_not_named_is_found_out_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SinkError, match="mlflow needs a server; set MLFLOW_TRACKING_URI"):
        check.look_over(small_run("telemetry=[mlflow]"))


def test_an_unknown_sink_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.0 must be 'prometheus', 'tensorboard', 'wandb' or 'mlflow'"):
        small_run("telemetry=[grafana]")


def test_every_sink_of_the_configuration_has_a_module() -> None:
    for kind in sinks.KINDS.values():
        file = Path(__file__).parents[2] / Path(*kind.module.split(".")).with_suffix(".py")
        assert "def opened(described: Described)" in file.read_text()


def test_nothing_is_opened_where_no_sink_is_asked_for(tmp_path: Path) -> None:
    settings: dict[str, Any] = {}
    with sinks.opened((), Described("run", tmp_path, settings), pytest.fail) as none:
        none.send(runs.row(1))
    assert list(tmp_path.iterdir()) == []
