"""Files and folders appear whole or not at all: under errors, kills, full disks, races, links and odd names."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosops_ray.sim import InputError
from chaosops_ray.store.files import (
    append_line,
    atomic_file,
    atomic_folder,
    check_new_folder,
    check_writable,
    make_folder,
    read_lines,
    remove_folder,
    sweep,
    write_json,
    write_lines,
    write_text,
)
from chaosops_ray.store.run_folder import RunFolder
from tests.support.crashes import stopped_at_each_step

WRITES_A_FILE = """
from chaosops_ray.store.files import atomic_file

def prepare(folder):
    (folder / "out").write_text("before")

def work(folder):
    with atomic_file(folder / "out") as temporary, temporary.open("w") as file:
        file.write("af")
        file.flush()
        sys.audit("step")
        file.write("ter")
"""
WRITES_A_FOLDER = """
from chaosops_ray.store.files import atomic_folder

def fill(folder, text):
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_text(text)
    sys.audit("step")
    (folder / "inner" / "b").write_text(text)

def prepare(folder):
    if {before}:
        fill(folder / "out", "before")

def work(folder):
    with atomic_folder(folder / "out", replace={before}) as temporary:
        fill(temporary, "after")
"""


def names(folder: Path) -> list[str]:
    return sorted([path.name for path in folder.iterdir()])


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


# -- stopped on the way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [True, False])
def test_a_file_that_is_stopped_at_any_step_is_the_old_or_the_new_one(tmp_path: Path, *, kills: bool) -> None:
    *stopped, ended = stopped_at_each_step(tmp_path, WRITES_A_FILE, kills=kills)
    assert len(stopped) >= 4
    assert {(folder / "out").read_text() for folder in stopped} <= {"before", "after"}
    assert (stopped[0] / "out").read_text() == "before"
    assert contents(ended) == {"out": "after"}
    for folder in stopped:
        if kills:
            sweep(folder)
        assert names(folder) == ["out"], "an error leaves nothing, and a sweep what a killed one left"


@pytest.mark.parametrize("kills", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_a_folder_that_is_stopped_at_any_step_is_never_there_in_part(
    tmp_path: Path, *, kills: bool, before: bool
) -> None:
    *stopped, ended = stopped_at_each_step(tmp_path, WRITES_A_FOLDER.format(before=before), kills=kills)
    assert len(stopped) >= 8
    whole = [{"a": text, "inner/b": text} for text in ("before", "after")]
    assert all(contents(folder / "out") in whole for folder in stopped if (folder / "out").exists())
    absent = [folder for folder in stopped if not (folder / "out").exists()]
    if before:  # only a kill between the two renames leaves the name free
        assert len(absent) == kills
    else:
        assert stopped[0] in absent
    for folder in stopped:
        if kills:
            sweep(folder)
        left = [name for name in names(folder) if name != "out"]
        # An error on the way leaves nothing; one in deleting the former folder leaves that.
        assert not left or (before and not kills and contents(folder / "out") == whole[1])
    assert contents(ended / "out") == whole[1]
    assert names(ended) == ["out"]


def test_an_error_of_the_caller_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    with pytest.raises(TypeError), atomic_file(path) as temporary:
        temporary.write_bytes(b"half" + None)  # type: ignore[operator]
    with pytest.raises(TypeError), atomic_folder(tmp_path / "out", replace=True) as temporary:
        (temporary / "a").write_bytes(b"half" + None)  # type: ignore[operator]
    assert contents(tmp_path) == {"out.json": "before"}
    assert names(tmp_path) == ["out.json"]


def test_a_value_that_is_no_json_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "out.json", {"a": float("nan")})
    assert names(tmp_path) == []


def test_contents_are_on_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only thing that a crash of the machine could show otherwise, so that the calls have to be looked at."""
    synced: list[tuple[str, bool]] = []
    target = tmp_path / "out"
    original = os.fsync

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        inside = path.relative_to(tmp_path)
        synced.append((str(Path(*inside.parts[1:])) if len(inside.parts) > 1 else inside.name[:4], target.exists()))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(target, "x")
    assert synced == [(".out", False), ("", True)]
    target.unlink()
    synced.clear()
    with atomic_folder(target, replace=False) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "b").write_text("x")
        os.mkfifo(temporary / "pipe")
        (temporary / "link").symlink_to("nowhere")
    assert synced == [("inner/b", False), ("inner", False), (".out", False), ("", True)]


# -- what has the name ------------------------------------------------------------------------------------------------


def test_a_folder_replaces_only_what_it_is_told_to(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with atomic_folder(taken, replace=False) as temporary:  # an empty one is no loss
        (temporary / "a").write_text("first")
    with pytest.raises(FileExistsError), atomic_folder(taken, replace=False) as temporary:
        (temporary / "a").write_text("second")
    assert contents(tmp_path) == {"taken/a": "first"}
    with atomic_folder(taken, replace=True) as temporary:
        (temporary / "b").write_text("third")
    (tmp_path / "file").write_text("mine")
    for replace in (True, False):
        with pytest.raises(FileExistsError), atomic_folder(tmp_path / "file", replace=replace):
            pass
    assert contents(tmp_path) == {"taken/b": "third", "file": "mine"}
    assert names(tmp_path) == ["file", "taken"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    write_json(tmp_path / "file", {"a": 1})
    with atomic_folder(tmp_path / "folder", replace=False) as temporary:
        (temporary / "a").write_text("x")
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert json.loads((tmp_path / "elsewhere" / "file").read_text()) == {"a": 1}
    assert contents(tmp_path / "elsewhere" / "folder") == {"a": "x"}


def test_a_link_to_another_device_is_written_there(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shared = Path("/dev/shm")  # noqa: S108 - another device, where there is one
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one device")
    target = shared / f"{tmp_path_factory.getbasetemp().name}-{os.getpid()}"
    (tmp_path / "link").symlink_to(target)
    try:
        write_text(tmp_path / "link", "there")
        assert target.read_text() == "there"
    finally:
        target.unlink(missing_ok=True)
    assert names(tmp_path) == ["link"]


def test_a_link_in_a_circle_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    for name in ("circle", "pipe"):
        with pytest.raises(InputError):
            write_text(tmp_path / name, "x")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "circle", replace=False):
        pass
    assert names(tmp_path) == ["circle", "pipe"]


@pytest.mark.usefixtures("umask")
def test_what_is_written_is_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    with atomic_folder(tmp_path / "folder", replace=False):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


# -- refused before the work ------------------------------------------------------------------------------------------


def test_where_nothing_can_be_written_is_known_before(tmp_path: Path) -> None:
    for path, named in {
        tmp_path: "plain file",
        tmp_path / "missing" / "x.json": "no folder",
        Path("/proc/none/x.json"): "no folder",
        tmp_path / ("x" * 256): "too long",
        tmp_path / "a\0b": "null",
        Path("/"): "empty name",
    }.items():
        with pytest.raises(InputError, match=named):
            check_writable(path)


def test_a_folder_without_permission_is_an_input_error(tmp_path: Path) -> None:
    """To root everything is permitted, so this also asks for a file where nobody can make one."""
    tmp_path.chmod(0o500)
    try:
        for path in [Path("/proc/x"), *([tmp_path / "x"] if os.geteuid() else [])]:
            with pytest.raises(InputError, match="cannot write"):
                write_text(path, "x")
    finally:
        tmp_path.chmod(0o700)
    assert names(tmp_path) == []


def test_a_new_folder_is_free_and_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    check_new_folder(tmp_path / "a" / "b")
    for path in (tmp_path, tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"file|empty"):
            check_new_folder(path)
    with pytest.raises(InputError, match="too long"):
        check_new_folder(tmp_path / ("x" * 256))
    make_folder(tmp_path / "a" / "b")
    check_new_folder(tmp_path / "a" / "b")


# -- names ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=80)
    | st.sampled_from(["x" * 255, "é" * 127, "\N{GRINNING FACE}" * 63 + "x", "-rf", " ", "..a", "~", "a\nb", "%s{}"])
    | st.binary(min_size=1, max_size=30).filter(lambda name: not {0, 47} & {*name}).map(os.fsdecode)
)
def test_any_name_that_the_disk_takes_can_be_written(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("names")
    if name in (".", "..") or len(os.fsencode(name)) > 255:
        with pytest.raises(InputError):
            check_writable(folder / name)
        return
    write_text(folder / name, "x")
    assert names(folder) == [name]
    (folder / name).unlink()
    with atomic_folder(folder / name, replace=False) as temporary:
        assert temporary.parent == folder
        assert temporary.name.startswith(".")
    assert names(folder) == [name]
    remove_folder(folder / name)
    assert names(folder) == []


def test_a_sweep_deletes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    kept = [".bashrc", ".x.json", ".x.0123456.part", "x.01234567.part", ".x.01234567.parts", ".part", ".x.part"]
    (tmp_path / "precious").write_text("mine")
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".x.json.01234567.part").write_text("half")
    (tmp_path / ".a\nb.89abcdef.part").mkdir()
    (tmp_path / ".a\nb.89abcdef.part" / "a").write_text("half")
    (tmp_path / ".link.89abcdef.part").symlink_to(tmp_path / "precious")
    sweep(tmp_path)
    assert names(tmp_path) == sorted([*kept, "precious"])
    assert (tmp_path / "precious").read_text() == "mine"


# -- at the same time -------------------------------------------------------------------------------------------------


def test_of_writers_at_the_same_time_one_stays_and_readers_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "out"
    texts = {str(number) * 50_000 for number in range(8)}
    write_text(path, min(texts))
    together, done = Barrier(8), Event()

    def write(text: str) -> None:
        together.wait()
        for _ in range(5):
            write_text(path, text)

    def read() -> set[str]:
        seen = set()
        while not done.is_set():
            seen.add(path.read_text())
        return seen

    with ThreadPoolExecutor(9) as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, text) for text in texts]
        for writer in writers:
            writer.result()
        done.set()
        assert reader.result() <= texts
    assert names(tmp_path) == ["out"]


def test_of_those_who_want_a_name_at_the_same_time_one_gets_it(tmp_path: Path) -> None:
    together = Barrier(8)

    def make(number: int) -> bool:
        try:
            with atomic_folder(tmp_path / "out", replace=False) as temporary:
                (temporary / "a").write_text(str(number))
                together.wait()
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(make, range(8)))
    assert sum(won) == 1
    assert contents(tmp_path) == {"out/a": str(won.index(True))}
    assert names(tmp_path) == ["out"]


# -- lines of JSON ----------------------------------------------------------------------------------------------------


def test_lines_are_read_back_without_one_that_a_crash_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    write_lines(path, [{"a": 1}, {"b": "\n\r\u2028é"}])
    append_line(path, {"c": [1.5]})
    rows = [{"a": 1}, {"b": "\n\r\u2028é"}, {"c": [1.5]}]
    assert read_lines(path) == rows
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read_lines(path) == rows[: whole[:length].count(b"\n")]


@pytest.mark.parametrize("line", [b"3", b"[]", b"{", b"\xff", b'{"a":' * 100_000, b"", b"9" * 5000])
def test_a_line_that_is_no_object_is_an_input_error_of_one_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"{}\n" + line + b"\n")
    with pytest.raises(InputError, match="rows") as caught:
        read_lines(path)
    assert "\n" not in str(caught.value)


def test_a_working_folder_that_was_deleted_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="cannot make the run folder"):
        RunFolder.create(Path("run"), "")


def test_a_value_that_is_no_json_is_not_appended(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "rows", {"a": float("inf")})
    assert not (tmp_path / "rows").exists()
