"""A run in a plain folder, on file:// and in an object store ends in the same adapters, also after it was killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaosops_ray.store import remote, versions
from chaosops_ray.store.received import cache_folder
from chaosops_ray.store.remote import CLAIM
from chaosops_ray.store.run_folder import EVALUATION, METRICS, RunFolder
from chaosops_ray.training import check, copies, loop
from tests.support.cluster import CONFIGS, SMALL, digests, make, ray_here, small_run, trained
from tests.support.models import tiny_base
from tests.support.s3 import KEYS, Store, s3_here

pytestmark = [pytest.mark.cluster]

ROOT = Path(__file__).parents[2]
UPDATES = 4
LITTLE = (f"updates={UPDATES}", "batch.scenarios=2", "batch.group=3", "rollout.shards=1", "keep_every=3")
# The longest that a command takes here, on a machine that does much else.
COMMAND_SECONDS = 600


class Stopped(BaseException):
    """The process was killed here."""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_here() as started:
        yield started


@pytest.mark.slow
def test_a_run_in_a_store_that_is_stopped_ends_as_one_in_a_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops after an update that no checkpoint has; its working folder is lost, and the store is all there is."""
    monkeypatch.setenv("CHAOSOPS_CACHE", str(cache(tmp_path)))
    uri = store.uri("stopped/run")
    with ray_here():
        plain = trained(tmp_path / "plain" / "run", *LITTLE)

        def strike(row: dict[str, Any]) -> None:
            if row["update"] == 3:
                raise Stopped

        mirror = copies.new(uri)
        training = make(mirror.folder, small_run(*LITTLE))
        with pytest.raises(Stopped):
            loop.train(training._replace(folder=copies.begin(mirror, is_new=True)), strike)
        assert mirror.checkpoint == 2
        shutil.rmtree(mirror.folder)

        mirror, run, _ = copies.resumed(uri)
        assert run == check.spelled_out(small_run(*LITTLE))
        folder = copies.begin(mirror, is_new=False)
        told: list[int] = []
        loop.train(training._replace(folder=folder), lambda row: told.append(row["update"]))
        assert told == [3, 4]
        assert digests(training._replace(folder=folder)) == digests(plain)
        copies.finish(folder, mirror)
    assert not mirror.folder.exists()
    same_adapters(uri, plain.folder)


def cache(tmp_path: Path) -> Path:
    """A cache with the models that are made, and no working folders."""
    usual, path = cache_folder(), tmp_path / "cache"
    tiny_base()
    path.mkdir()
    for made in usual.glob("tiny-*"):
        (path / made.name).symlink_to(made)
    return path


def same_adapters(uri: str, plain: RunFolder) -> None:
    """The store has the same versions, to the byte, of the same updates; and nobody claims it any more.

    A kill at the end may leave a version that was to be deleted.
    """
    there = remote.opened(uri)
    names = there.names()
    assert CLAIM not in names
    rows = [json.loads(line) for line in (there.read(METRICS) or b"").splitlines()]
    assert [row["digest"] for row in rows] == [row["digest"] for row in plain.metrics()]
    assert set(remote.whole(names, "checkpoints")) == set(plain.checkpoints())
    assert set(remote.whole(names, "adapters")) >= set(versions.numbers(plain.adapters))
    for number in versions.numbers(plain.adapters):
        for name in (versions.CONFIG, versions.WEIGHTS, versions.MARKER):
            path = f"adapters/policy-v{number}/{name}"
            assert there.read(path) == (plain.path / path).read_bytes()


# -- the same as a command --------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaosops_ray.cli", "train", *arguments],
        cwd=ROOT, env={**os.environ, **KEYS}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run_to_its_end(*arguments: str) -> str:
    out, said = (ran := command(*arguments)).communicate(timeout=COMMAND_SECONDS)
    assert ran.returncode == 0, said
    return out


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a driver and all that it has started, as a machine that goes down would."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.communicate()


@pytest.mark.slow
def test_a_folder_a_file_uri_and_a_store_end_the_same_also_when_killed_anywhere(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSOPS_CACHE", str(cache(tmp_path)))
    settings = [*SMALL, *LITTLE, "checkpoint_every=1", "evaluation.seeds=1000"]
    new = [str(CONFIGS / "3a.yaml"), *[part for one in settings for part in ("--set", one)]]
    run_to_its_end(*new, "--out", str(tmp_path / "plain" / "run"))
    plain = RunFolder(tmp_path / "plain" / "run")
    run_to_its_end(*new, "--out", (tmp_path / "file" / "run").as_uri())
    assert [row["digest"] for row in RunFolder(tmp_path / "file" / "run").metrics()] == [
        row["digest"] for row in plain.metrics()
    ]
    uri = store.uri("killed/run")
    there = remote.opened(uri)
    draw = random.Random()
    for part in range(3):
        has_begun = "config.yaml" in there.names()
        process = command(*(["--resume", uri] if has_begun else [*new, "--out", uri]))
        # Somewhere among its uploads: they are all that a kill could tear.
        claimed = until = there.read(CLAIM)
        while claimed == until and process.poll() is None:
            time.sleep(0.05)
            claimed = there.read(CLAIM)
        seen = len(there.names())
        wanted = seen + draw.randint(6, 20)
        while len(there.names()) < wanted and process.poll() is None:
            time.sleep(0.01)
        if process.poll() is not None:
            _, said = process.communicate()
            assert process.returncode == 0, said
            break
        kill(process)
        print(f"killed {part} at {len(there.names())} files, {sorted(remote.whole(there.names(), 'checkpoints'))}")
        shutil.rmtree(tmp_path / "cache" / "runs", ignore_errors=True)  # another machine
    printed = run_to_its_end("--resume", uri)
    assert f"report: {there.at('report.html')}" in printed
    same_adapters(uri, plain)
    evaluated = json.loads(there.read(EVALUATION) or b"")
    assert evaluated["cells"] == json.loads((plain.path / EVALUATION).read_text())["cells"]
