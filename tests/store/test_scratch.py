"""A scratch folder goes with its process, whatever ends it; nobody else's is touched."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chaosops_ray.store.scratch import scratch

ROOT = Path(__file__).parents[2]
HOLDS_ONE = """
import sys
from chaosops_ray.store.scratch import scratch
with scratch() as folder:
    (folder / "policy-v3").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read it again
    return tmp_path


def holder() -> tuple[subprocess.Popen[str], Path]:
    """A process in the middle of its work, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_ONE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def folders(temporary: Path) -> list[Path]:
    (parent,) = temporary.iterdir()
    return [path for path in parent.iterdir() if path.name != "lock"]


def test_it_is_deleted_after_use_and_after_an_error(temporary: Path) -> None:
    with scratch() as folder, scratch() as other:
        (folder / "file").write_bytes(b"content")
        assert sorted(folders(temporary)) == sorted([folder, other])
    assert folders(temporary) == []
    with pytest.raises(FileNotFoundError), scratch() as folder:
        (folder / "file").rename(folder / "missing")
    assert folders(temporary) == []


def test_that_of_a_killed_process_is_deleted_by_the_next_and_that_of_a_living_one_is_not(temporary: Path) -> None:
    living, its = holder()
    killed, left = holder()
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        with scratch() as mine:
            assert sorted(folders(temporary)) == sorted([its, mine])
        assert (its / "policy-v3").is_dir()
    finally:
        living.communicate("")
        killed.communicate()
    assert living.returncode == 0
    assert folders(temporary) == []


def test_a_folder_that_somebody_else_has_made_is_refused(temporary: Path) -> None:
    with scratch() as folder:
        pass
    parent = folder.parent
    (parent / "lock").unlink()
    parent.rmdir()
    (temporary / "elsewhere").mkdir()
    parent.symlink_to(temporary / "elsewhere")
    with pytest.raises(PermissionError, match=f"somebody else .*{parent}"), scratch():
        pass
    assert list((temporary / "elsewhere").iterdir()) == []
