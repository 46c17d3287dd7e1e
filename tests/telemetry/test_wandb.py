"""What is sent to Weights & Biases: against a scripted package, and against the real one where it is installed."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chaosops_ray.telemetry.sinks import Described, SinkError
from chaosops_ray.telemetry.table import samples
from tests.support import runs

IS_REAL = find_spec("wandb") is not None
SINK = "chaosops_ray.telemetry.wandb"


class Run:
    """A run of the scripted package."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.logged: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, str | None]] = []
        self.finished = False

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def log(self, data: dict[str, Any]) -> None:
        self.logged.append(data)

    def finish(self) -> None:
        self.finished = True


class Package(ModuleType):
    """The part of the package that the sink uses."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.Error = type("Error", (Exception,), {})
        self.Settings = dict
        self.runs: list[Run] = []
        self.refusal: Exception | None = None

    def init(self, **given: Any) -> Run:
        if self.refusal is not None:
            raise self.refusal
        self.runs.append(Run(given))
        return self.runs[-1]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    package = Package()
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delitem(sys.modules, SINK, raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return package


def opened(folder: Path, **settings: Any) -> Any:
    return import_module(SINK).opened(Described("first", folder, settings))


def test_an_update_is_logged_with_the_update_as_the_axis(package: Package, tmp_path: Path) -> None:
    sink = opened(tmp_path, **{"learner.lora_rank": 8})
    for update in (1, 2, 2):  # made again after a learner died: no step may go back, so none is given
        sink.write(samples(runs.row(update)), update)
    sink.close()
    (run,) = package.runs
    assert run.given["config"] == {"learner.lora_rank": 8}
    assert (run.given["project"], run.given["name"], run.given["dir"]) == (
        "chaosops",
        "first",
        str(tmp_path / ".wandb"),
    )
    assert run.metrics == [("*", "update")]
    assert [logged["update"] for logged in run.logged] == [1, 2, 2]
    assert run.logged[0]["learner/kl"] == runs.row(1)["learner"]["kl"]
    assert run.finished


def test_a_run_that_is_resumed_goes_on_in_the_same_place(package: Package, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path, tmp_path / "other"):
        opened(folder).close()
    first, again, other = [run.given["id"] for run in package.runs]
    assert first == again != other
    assert all(run.given["resume"] == "allow" for run in package.runs)


def test_a_service_that_cannot_be_used_is_found_out_at_the_start(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    package.refusal = package.Error("No API key\nconfigured: s3cret")
    with pytest.raises(SinkError) as refused:
        opened(tmp_path)
    assert str(refused.value) == (
        "telemetry: wandb does not start: No API key configured: <WANDB_API_KEY>; run `wandb login`, or set "
        "WANDB_MODE=offline"
    )


@pytest.mark.skipif(not IS_REAL, reason="the package wandb is not installed")
def test_the_real_package_takes_what_the_scripted_one_takes(package: Package, tmp_path: Path) -> None:
    opened(tmp_path).close()
    (scripted,) = package.runs
    del sys.modules["wandb"]
    real = import_module("wandb")
    inspect.signature(real.init).bind(**scripted.given)
    for name, method in inspect.getmembers(Run, inspect.isfunction):
        if not name.startswith("_"):
            assert set(inspect.signature(method).parameters) <= set(
                inspect.signature(getattr(real.Run, name)).parameters
            )
    assert issubclass(real.Error, Exception)


@pytest.mark.skipif(not IS_REAL, reason="the package wandb is not installed")
def test_the_real_package_keeps_a_run_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delitem(sys.modules, SINK, raising=False)
    for update in (1, 2):
        sink = opened(tmp_path, **{"learner.lora_rank": 8})
        sink.write(samples(runs.row(update)), update)
        sink.close()
    name = (tmp_path / "wandb-id").read_text()
    kept = list((tmp_path / ".wandb" / "wandb").glob(f"offline-run-*/run-{name}.wandb"))
    assert kept
    content = b"".join([file.read_bytes() for file in kept])
    assert b"learner/kl" in content
    assert b"lora_rank" in content
    assert capfd.readouterr() == ("", "")  # its lines would run through the display
