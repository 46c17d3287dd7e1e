"""A run in an object store is played, exported and resumed as from a folder; what is wrong with it is said of the URI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from chaosops_ray.cli import main
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import remote, versions
from chaosops_ray.store.received import cache_folder
from chaosops_ray.store.remote import CLAIM, Mirror
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, METRICS, RunFolder
from chaosops_ray.training import copies, policies
from tests.support.runs import INCIDENT
from tests.support.s3 import Store, s3_here
from tests.training.test_record import UPDATES, make


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_here() as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("one") / "run", 1)


@pytest.fixture
def uri(store: Store, run: Path, request: pytest.FixtureRequest) -> str:
    """The run in the store, under a name of this test's own."""
    found = store.uri(f"{abs(hash(request.node.nodeid))}/run")
    mirror = Mirror(remote.opened(found), run)
    mirror.claim()
    mirror.push()
    mirror.release()
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the tiny model, and nothing else in it."""
    usual = cache_folder()
    path = tmp_path / "cache"
    path.mkdir()
    for made in usual.glob("tiny-*"):
        (path / made.name).symlink_to(made)
    monkeypatch.setenv("CHAOSOPS_CACHE", str(path))
    return path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err.count("\n") == 1, err
    assert not out
    return err


def test_everything_is_read_from_the_store_as_from_the_folder(
    run: Path, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("", "@2"):
        here = policies.trained(INCIDENT, f"{run}{version}", "torch")
        there = policies.trained(INCIDENT, f"{uri}{version}", "torch")
        assert (there.model, there.run, there.number) == (here.model, here.run, here.number)
    assert main(["export", f"{run}", "--out", str(tmp_path / "here")]) == 0
    assert main(["export", uri, "--out", str(tmp_path / "there")]) == 0
    for file in (tmp_path / "here").iterdir():
        assert (tmp_path / "there" / file.name).read_bytes() == file.read_bytes()
    capsys.readouterr()
    assert main(["export", uri]) == 2
    assert "--out" in said(capsys)
    printed = []
    for place in (run.as_uri(), uri):
        assert main(["evaluate", "--policies", f"trained={place}", "--seeds", "1000", "--tiers", "easy"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_a_run_that_is_not_there_is_one_line(store: Store, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", "--seeds", "1000", "--policies"]
    for place, named in (
        (store.uri("nothing"), "s3://bucket/nothing?"),
        (store.uri("run", bucket="nowhere"), "make the bucket"),
    ):
        for command in (["train", "--resume", place], [*evaluate, f"trained={place}"], ["export", place, "--out", "x"]):
            assert main(command) == 2
            assert named in said(capsys)
    for number in (1, 9):
        assert main([*evaluate, f"trained={uri}@{number}"]) == 2
        line = said(capsys)
        assert str(Path(gettempdir())) not in line
        assert f"{number}" in line


def test_a_place_that_is_taken_is_refused(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(Path(__file__).parents[2] / "tune_configs" / "3a.yaml")
    before = remote.opened(uri).names()
    assert main(["train", config, "--set", "model=tiny", "--out", uri]) == 2
    assert f"{uri} is not empty" in said(capsys)
    assert remote.opened(uri).names() == before


def test_of_two_that_begin_the_same_run_the_later_one_does_not_take_what_the_other_has_made(store: Store) -> None:
    uri = store.uri("twice/run")
    first, second = copies.new(uri), copies.new(uri)
    for mirror in (first, second):
        RunFolder.create(mirror.folder, "model: tiny\n")
    copies.begin(first, is_new=True)
    with pytest.raises(InputError, match="is not empty"):
        copies.begin(second, is_new=True)
    first.check_claim()


def cut(content: bytes) -> bytes | None:
    return content[: len(content) // 2]


def change(content: bytes) -> bytes | None:
    place = len(content) * 2 // 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def remove(_content: bytes) -> bytes | None:
    return None


LAST = f"adapters/policy-v{UPDATES}"


@pytest.mark.parametrize("damage", [cut, change, remove])
@pytest.mark.parametrize(
    "name", [CONFIG, METRICS, EVALUATION, f"{LAST}/{versions.WEIGHTS}", f"{LAST}/{versions.MARKER}"]
)
def test_what_is_damaged_in_the_store_is_named_by_its_uri(
    uri: str, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[bytes], bytes | None]
) -> None:
    there = remote.opened(uri)
    damaged = damage(there.read(name) or b"")
    if damaged is None:
        if name == EVALUATION:
            return  # which makes it a run that is not evaluated
        there.delete(name)
    else:
        there.write(name, damaged)
    assert main(["evaluate", "--policies", f"trained={uri}", "--seeds", "1000"]) == 2
    line = said(capsys)
    assert "s3://bucket/" in line
    assert str(Path(gettempdir())) not in line


# -- resuming ---------------------------------------------------------------------------------------------------------


def test_a_run_is_resumed_from_the_store_alone(run: Path, uri: str, cache: Path) -> None:
    there = remote.opened(uri)
    mirror, resumed, _ = copies.resumed(uri)
    assert there.read(CLAIM)
    assert resumed.updates == UPDATES
    assert mirror.folder.is_relative_to(cache)
    assert mirror.folder.name == "run"
    here, folder = RunFolder(run), RunFolder(mirror.folder)
    assert folder.metrics() == here.metrics()
    assert folder.checkpoints() == here.checkpoints()
    assert folder.version() == here.version()._replace(path=folder.version().path)
    last = folder.last_checkpoint()
    assert last is not None
    assert last.name == f"update-{UPDATES:06d}"
    # A second time, after the first process has died: its working folder goes.
    again, _, _ = copies.resumed(uri)
    assert again.folder != mirror.folder
    assert not mirror.folder.exists()
    with RunFolder(again.folder).claimed():  # it lives
        copies.resumed(uri)
        assert again.folder.exists()
    with pytest.raises(remote.ClaimError):
        again.check_claim()


def test_a_damaged_checkpoint_is_named_and_what_the_error_advises_works(uri: str, cache: Path) -> None:
    there = remote.opened(uri)
    name = f"checkpoints/update-{UPDATES:06d}/learner.pt"
    there.write(name, change(there.read(name) or b"") or b"")
    there.delete(EVALUATION)
    with pytest.raises(InputError) as told:
        copies.resumed(uri)
    before, _, after = str(told.value).partition(" is not as it was written; delete ")
    assert before == there.at(name)
    doomed, _, _ = after.partition(" to resume after update 2")
    assert doomed == there.at(name.rpartition("/")[0])
    assert not list((cache / "runs").glob("*"))
    for one in there.names():
        if one.startswith(f"checkpoints/update-{UPDATES:06d}/"):
            there.delete(one)
    mirror, _, _ = copies.resumed(uri)
    assert RunFolder(mirror.folder).checkpoints() == [2]


def test_a_half_uploaded_checkpoint_is_as_if_it_were_not_there(uri: str) -> None:
    there = remote.opened(uri)
    there.delete(EVALUATION)
    there.delete(f"checkpoints/update-{UPDATES:06d}/contents.json")
    mirror, _, _ = copies.resumed(uri)
    folder = RunFolder(mirror.folder)
    assert folder.checkpoints() == [2]
    assert versions.numbers(folder.adapters) == [0, 2]
    mirror.push()
    assert not [name for name in there.names() if f"update-{UPDATES:06d}/" in name or LAST in name]
