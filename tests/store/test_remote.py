"""A run in an object store is whole wherever its process stops; requests end; no key is ever shown."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pyarrow import fs

from chaosops_ray.cli import main
from chaosops_ray.sim import InputError
from chaosops_ray.store import remote
from chaosops_ray.store.files import make_folder
from chaosops_ray.store.remote import (
    CLAIM,
    ArrowObjects,
    ClaimError,
    Mirror,
    MirroredFolder,
    Objects,
    Remote,
    RemoteError,
)
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, RunFolder
from chaosops_ray.sweeps import jobs

UPDATES = 3
NAME = "s3://bucket/run"


class Stopped(BaseException):
    """The process was killed here."""


class Memory:
    """A store in memory, in which each request is announced before it is made."""

    def __init__(self, announce: Callable[[str, str], None] = lambda _what, _name: None) -> None:
        self.files: dict[str, bytes] = {}
        self.announce = announce

    def names(self) -> dict[str, int]:
        self.announce("list", "")
        return {name: len(content) for name, content in self.files.items()}

    def read(self, name: str) -> bytes:
        self.announce("read", name)
        if name not in self.files:
            raise FileNotFoundError
        return self.files[name]

    def write(self, name: str, content: Path | bytes) -> None:
        self.announce("write", name)
        self.files[name] = content if isinstance(content, bytes) else content.read_bytes()

    def fetch(self, name: str, to: Path) -> None:
        to.write_bytes(self.read(name))

    def delete(self, name: str) -> None:
        self.announce("delete", name)
        if name not in self.files:
            raise FileNotFoundError
        del self.files[name]


def mirror_of(objects: Objects, folder: Path) -> Mirror:
    return Mirror(Remote(objects, NAME, pauses=()), folder)


def begin(objects: Objects, folder: Path) -> MirroredFolder:
    """A new run, as `train --out URI` begins one."""
    mirror = mirror_of(objects, folder)
    mirror.check_new()
    mirror.claim()
    RunFolder.create(folder, "model: tiny\n")
    mirrored = MirroredFolder(folder, mirror)
    mirrored.push()
    return mirrored


def resume(objects: Objects, folder: Path) -> tuple[MirroredFolder, int]:
    """A run fetched as `train --resume URI` fetches it, and the updates that its last checkpoint has."""
    mirror = mirror_of(objects, folder)
    mirror.claim()
    for room in ("adapters", "episodes", "checkpoints"):
        make_folder(folder / room)
    mirror.fetch(remote.to_resume(mirror.remote.names()))
    mirrored = MirroredFolder(folder, mirror)
    last = mirrored.last_checkpoint()
    done = 0 if last is None else int((last / "loop.json").read_text())
    assert last is None or (last / "learner.pt").read_bytes() == bytes([done]) * 100
    for path in mirrored.adapters.iterdir():  # as the loop prunes after a restore
        if int(path.name.removeprefix("policy-v")) > done:
            shutil.rmtree(path)
    mirrored.rewind(done)
    assert [row["update"] for row in mirrored.metrics()] == [*range(1, done + 1)]
    return mirrored, done


def train(folder: MirroredFolder, done: int) -> None:
    """The remaining updates with a checkpoint after each; versions before the last two are pruned."""
    for update in range(done + 1, UPDATES + 1):
        version = folder.adapters / f"policy-v{update}"
        version.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors", "complete.json"):
            (version / name).write_text(f"{name} of {update}")
        (folder.path / "episodes" / f"update-{update:06d}.parquet").write_text(f"episodes of {update}")
        folder.log({"update": update})
        with folder.checkpoint(update) as checkpoint:
            (checkpoint / "learner.pt").write_bytes(bytes([update]) * 100)
            (checkpoint / "loop.json").write_text(str(update))
        for old in folder.adapters.iterdir():
            if int(old.name.removeprefix("policy-v")) < update - 1:
                shutil.rmtree(old)
    folder.finish([{"a": 1}], {"b": 2})
    folder.push()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = Memory()
    train(begin(store, tmp_path_factory.mktemp("undisturbed") / "run"), 0)
    del store.files[CLAIM]
    return store.files


def whole(store: Memory) -> None:
    """Every marker stands beside all its files, each from the same update."""
    for number, names in remote.whole(set(store.files), "adapters").items():
        assert len(names) == 3
        assert {store.files[name].split()[-1] for name in names} == {str(number).encode()}
    for number, names in remote.whole(set(store.files), "checkpoints").items():
        assert len(names) == 3
        (learner,) = [store.files[name] for name in names if name.endswith(".pt")]
        assert learner == bytes([number]) * 100


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: nearly all the time of these tests is a disk's."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.mark.parametrize(("kills", "stride"), [(True, 1), (False, 7)], ids=["killed", "failing"])
def test_a_run_is_whole_in_the_store_wherever_its_process_stops(
    quick: Path, undisturbed: dict[str, bytes], *, kills: bool, stride: int
) -> None:
    """At each request in turn; then it is resumed from the store alone, and ends as if nothing had happened."""
    for at in range(1, 1000, stride):
        seen, last, began = 0, "", False

        def announce(what: str, name: str) -> None:
            nonlocal seen, last
            seen += 1
            last = f"{what} {name}"
            if seen == at:  # noqa: B023
                raise Stopped if kills else OSError("the endpoint is gone")

        store = Memory(announce)
        working = quick / f"{at}" / "run"
        checkpoints = 0
        try:
            folder = begin(store, working)
            began = True
            train(folder, 0)
        except (Stopped, RemoteError) as error:
            if isinstance(error, RemoteError):
                assert "the endpoint is gone" in str(error)
                assert not began or f"--resume {working}" in str(error)
                assert not began or f"--resume {NAME} " in str(error)
        else:
            break
        finally:
            store.announce = lambda _what, _name: None
        whole(store)
        checkpoints = max(remote.whole(set(store.files), "checkpoints"), default=0)
        if CONFIG not in store.files:  # then there is no run yet, and its name is free
            assert set(store.files) <= {CLAIM}
            continue
        resumed, done = resume(store, quick / f"{at}" / "again" / "run")
        assert done == checkpoints
        train(resumed, done)
        del store.files[CLAIM]
        left = {name: content for name, content in store.files.items() if name not in undisturbed}
        assert {**undisturbed, **left} == store.files, last
        # Only versions that were to be deleted when the process stopped at its end may be left over, and are whole.
        assert done == UPDATES or not left, last
        assert all(name.startswith("adapters/policy-v1/") for name in left)
        whole(store)
        shutil.rmtree(quick / f"{at}")
    assert at > 60


def test_a_run_that_is_killed_twice_while_it_goes_on_is_whole(quick: Path, undisturbed: dict[str, bytes]) -> None:
    """Each process makes some requests and is killed, until one comes to the end."""
    store, made, starts = Memory(), 0, 0

    def announce(_what: str, _name: str) -> None:
        nonlocal made
        made += 1
        if made % 37 == 0:
            raise Stopped

    while True:
        starts += 1
        store.announce = announce
        try:
            if CONFIG not in store.files:
                train(begin(store, quick / str(starts) / "run"), 0)
            else:
                train(*resume(store, quick / str(starts) / "run"))
            break
        except Stopped:
            whole(store)
    assert starts > 2
    assert undisturbed.items() <= store.files.items()


def test_markers_are_last_and_the_evaluation_is_the_last_of_all(tmp_path: Path) -> None:
    written: list[str] = []
    store = Memory(lambda what, name: written.append(name) if what == "write" else None)
    train(begin(store, tmp_path / "run"), 0)
    assert written[:2] == [CLAIM, CONFIG]
    assert written[-1] == EVALUATION
    for marker, others in (
        ("adapters/policy-v2/complete.json", ["adapters/policy-v2/adapter_model.safetensors"]),
        (
            "checkpoints/update-000002/contents.json",
            [
                "adapters/policy-v2/complete.json",
                "episodes/update-000002.parquet",
                "checkpoints/update-000002/loop.json",
            ],
        ),
    ):
        assert all(written.index(one) < written.index(marker) for one in others)
    # Nothing that has not changed is written twice, but the metrics at every checkpoint.
    twice = {name for name in written if written.count(name) > 1}
    assert twice == {"metrics.jsonl"}


def test_whoever_resumes_fetches_the_timeline_and_whoever_reads_does_not() -> None:
    names = {CONFIG, "metrics.jsonl", "timeline.json", "adapters/policy-v2/complete.json"}
    names |= {"adapters/policy-v2/adapter_model.safetensors", "checkpoints/update-000002/contents.json"}
    assert "timeline.json" in remote.to_resume(names)
    assert "timeline.json" not in remote.to_read(names)
    assert "timeline.json" not in remote.to_resume(names - {"timeline.json"})


def test_other_files_under_a_name_that_is_taken_are_never_mixed_with_the_old_ones(tmp_path: Path) -> None:
    """On a GPU an update that is made again may come out otherwise."""
    made: list[str] = []
    store = Memory(lambda what, name: made.append(f"{what} {name}"))
    folder = begin(store, tmp_path / "run")
    with folder.checkpoint(1) as path:
        (path / "learner.pt").write_text("one")
    made.clear()
    with folder.checkpoint(1) as path:
        (path / "learner.pt").write_text("another")
    marker, file = "checkpoints/update-000001/contents.json", "checkpoints/update-000001/learner.pt"
    assert made.index(f"delete {marker}") < made.index(f"write {file}") < made.index(f"write {marker}")


# -- two processes ----------------------------------------------------------------------------------------------------


def test_the_process_that_claimed_last_keeps_the_run(tmp_path: Path) -> None:
    """The older one stops before its next upload, whichever that is; what it made until then is not in the way."""
    store = Memory()
    older = begin(store, tmp_path / "older" / "run")
    older.log({"update": 1})
    with older.checkpoint(1) as path:
        (path / "learner.pt").write_bytes(bytes([1]) * 100)
        (path / "loop.json").write_text("1")
    newer, done = resume(store, tmp_path / "newer" / "run")
    before = dict(store.files)
    with (
        pytest.raises(ClaimError, match=r"s3://bucket/run is no longer this process's"),
        older.checkpoint(2) as path,
    ):
        (path / "learner.pt").write_text("older")
    assert store.files == before
    assert done == 1
    newer.log({"update": 2})
    newer.push()


# -- requests that fail, or never end ---------------------------------------------------------------------------------


def test_a_request_is_tried_again_so_often_and_no_more() -> None:
    left = 2

    def announce(_what: str, _name: str) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError("Timeout was reached")

    store = Remote(Memory(announce), NAME, pauses=(0.0, 0.0))
    store.write("a", b"x")
    left = 3
    with pytest.raises(RemoteError, match=r"cannot upload s3://bucket/run/a: Timeout.*; check the endpoint"):
        store.write("a", b"x")
    left = 1
    assert Remote(Memory(announce), NAME, pauses=(0.0,)).names() == set()


@pytest.mark.parametrize(
    ("said", "advice"),
    [("AWS Error NO_SUCH_BUCKET during", "make the bucket"), ("AWS Error ACCESS_DENIED", "credentials")],
)
def test_what_no_second_try_can_change_is_not_tried_again(said: str, advice: str) -> None:
    tries: list[str] = []

    def announce(what: str, _name: str) -> None:
        tries.append(what)
        raise OSError(said)

    with pytest.raises(RemoteError, match=advice):
        Remote(Memory(announce), NAME, pauses=(0.0, 0.0)).names()
    assert tries == ["list"]


def test_a_request_that_hangs_is_given_up() -> None:
    release = threading.Event()
    store = Remote(Memory(lambda _what, _name: release.wait() and None), NAME, pauses=(), deadline=0.05)
    with pytest.raises(RemoteError, match=r"cannot list s3://bucket/run: no answer within 0\.05 s; check the endpoint"):
        store.names()
    release.set()


def test_an_error_of_this_disk_is_not_taken_for_one_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Remote(Memory(), NAME, pauses=()).write("a", tmp_path / "gone")
    assert caught.value.filename == str(tmp_path / "gone")


def test_a_folder_of_pyarrow_s_file_systems_is_a_store(tmp_path: Path) -> None:
    store = ArrowObjects(fs.LocalFileSystem(), str(tmp_path / "root"))
    assert store.names() == {}
    store.write("a/b", b"one")
    (tmp_path / "two").write_bytes(b"12" * 10)
    store.write("c", tmp_path / "two")
    assert store.names() == {"a/b": 3, "c": 20}
    store.fetch("c", tmp_path / "copy")
    assert (store.read("a/b"), (tmp_path / "copy").read_bytes()) == (b"one", b"12" * 10)
    store.delete("a/b")
    assert store.names() == {"c": 20}
    asked = Remote(store, NAME, pauses=())
    assert asked.read("a/b") is None
    asked.delete("a/b")
    with pytest.raises(RemoteError, match="s3://bucket/run/a/b went while"):
        asked.fetch("a/b", tmp_path / "copy")


# -- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/run", "s3://bucket/run"),
        ("s3://KEY:secret@bucket/run", "s3://***@bucket/run"),
        ("s3://KEY:sec/ret@bucket/run", "s3://***@bucket/run"),
        (
            "s3://b/run?region=eu&scheme=http&session_token=abcdefg",
            "s3://b/run?region=eu&scheme=http&session_token=***",
        ),
        ("abfs://container@account.dfs.core.windows.net/run", "abfs://container@account.dfs.core.windows.net/run"),
        ("abfs://:password@account.dfs.core.windows.net/c/run", "abfs://***@account.dfs.core.windows.net/c/run"),
        ("S3://b/run?endpoint_override=h:1&secret", "s3://b/run?endpoint_override=h:1&secret=***"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert remote.shown(uri) == shown


def test_an_error_s_text_loses_the_secrets_of_the_uri() -> None:
    uri = "s3://AKIAKEY:sec%2Fret+word@bucket/run?session_token=abcdefgh&allow_bucket_creation=true"
    text = f"it is true: {uri} AKIAKEY sec%2Fret+word sec/ret+word abcdefgh"
    assert remote.hide(uri, text) == f"it is true: {remote.shown(uri)} *** *** *** ***"


def test_a_uri_in_a_list_loses_its_secrets_too() -> None:
    """As the command line finds it in an argument: with what follows."""
    assert "secretsecret" not in remote.hide("s3://KEYKEY:secretsecret@b/run@2,x", "no secretsecret")
    assert remote.hide("s3://bucket/run", "the bucket/run is not there") == "the bucket/run is not there"


BAD = {
    "a secret with a slash": "s3://KEYKEY:sec/retretret@bucket/run",
    "a space": "s3://KEYKEY:retret ret@bucket/run",
    "an unknown scheme": "nope://KEYKEY:retretret@bucket/run",
    "an unknown option": "s3://KEYKEY:retretret@bucket/run?retretret=retretret",
    "no bucket": "s3://KEYKEY:retretret@/run",
    "no run": "s3://KEYKEY:retretret@bucket",
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("command", ["resume", "out", "evaluate", "export", "submit"])
def test_a_uri_that_is_none_is_one_line_without_its_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str, command: str
) -> None:
    uri, config = BAD[bad], str(Path(__file__).parents[2] / "tune_configs" / "3a.yaml")
    assert main(
        {
            "resume": ["train", "--resume", uri],
            "out": ["train", config, "--set", "model=tiny", "--out", uri],
            "evaluate": ["evaluate", "--policies", f"trained={uri}@2"],
            "export": ["export", uri, "--out", str(tmp_path / "out")],
            "submit": ["submit", config, "--address", "http://127.0.0.1:1", "--out", uri, "--working-dir", str(Path(config).parent)],
        }[command]
    ) == 2  # fmt: skip
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert not out
    assert "retret" not in err.replace("?retretret=***", "").replace("'retretret'", "")
    assert "KEYKEY" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_uri_is_the_folder_and_other_options_take_no_uri(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert remote.local_path("file:///data/a%20b") == Path("/data/a b")
    out = tmp_path / "o.json"
    assert main(["evaluate", "--policies", "random", "--seeds", "1000", "--json", out.as_uri()]) == 0
    assert json.loads(out.read_text())["cells"]
    capsys.readouterr()
    for given in (
        ["evaluate", "--policies", "random", "--json", "s3://k:secretsecret@b/x"],
        ["train", "x.yaml", "--out", "file://host/x"],
        ["tune", "x.yaml", "--out", "s3://k:secretsecret@b/x"],
        ["replay", "s3://k:secretsecret@b/x"],
    ):
        with pytest.raises(SystemExit, match="2"):
            main(given)
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "secretsecret" not in err
    assert main(["evaluate", "--policies", "s3://k:secretsecret@b/x"]) == 2  # where trained= was forgotten
    assert "secretsecret" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["o.json"]


def test_a_job_takes_a_uri_without_secrets_for_a_run_alone() -> None:
    configs = Path(__file__).parents[2] / "tune_configs"
    job = jobs.prepare(configs / "3a.yaml", ["model=tiny"], None, None, NAME, configs)
    assert f"--out={NAME}" in job.entrypoint
    with pytest.raises(InputError, match="leave user, password and keys out"):
        jobs.prepare(configs / "3a.yaml", ["model=tiny"], None, None, "s3://k:secret@b/run", configs)
    with pytest.raises(InputError, match="a sweep is in a folder"):
        jobs.prepare(configs / "phase3.yaml", [], None, None, NAME, configs)


def test_a_silent_server_does_not_keep_a_command_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection and never answers."""
    monkeypatch.setattr(remote, "_REQUEST_SECONDS", 1.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        opened = remote.opened(f"s3://bucket/run?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{port}")
        quick = Remote(opened._objects, opened.name, pauses=())
        with pytest.raises(RemoteError, match="check the endpoint and the network"):
            quick.names()
