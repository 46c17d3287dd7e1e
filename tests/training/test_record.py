"""Every file of a run's folder is removed, cut, changed and swapped: whoever reads the run says the same, or refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.cli import main
from chaosops_ray.config import load
from chaosops_ray.evaluate import result, rows
from chaosops_ray.learner import lora
from chaosops_ray.reports import evaluation
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import versions
from chaosops_ray.store.run_folder import EVALUATION, METRICS, RunFolder
from chaosops_ray.sweeps import runner
from chaosops_ray.sweeps.spec import Trial
from chaosops_ray.training import base_models, check, export, policies
from tests.support import runs
from tests.support.models import publish
from tests.support.runs import INCIDENT

CONFIG = Path(__file__).parents[2] / "tune_configs" / "3a.yaml"
UPDATES = 3


def make(path: Path, seed: int) -> Path:
    """A run that is over, with all that `train` leaves of it."""
    folder = RunFolder.create(path, check.written(load(CONFIG, ["model=tiny", f"updates={UPDATES}", f"seed={seed}"])))
    base = base_models.prepare("tiny")
    digests = {}
    for number in (0, 2, UPDATES):
        model = lora.with_adapter(lora.load_base(str(base.path), "cpu"), 4, 8, seed + 10 * number)
        digests[number] = publish(model, folder.adapters, number, base.digest, base.name).digest
    runs.log(folder, digests, UPDATES)
    for done in (2, UPDATES):
        with folder.checkpoint(done) as checkpoint:
            (checkpoint / "loop.json").write_text(f"the loop of run {seed} after {done}")
            (checkpoint / "learner.pt").write_bytes(bytes([seed, done]) * 500)
    oracle = INCIDENT.policies["oracle"]
    (scenario, *_) = INCIDENT.scenarios("published", [1000 + seed])
    episode = play(INCIDENT, scenario, runs.RULES, oracle(scenario, runs.RULES))
    found = [result(INCIDENT, "trained", episode)]
    folder.finish(rows(INCIDENT, found, "strict"), runs.evaluation() | {"set": f"published by run {seed}"})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("one") / "run", 1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run of the same name, with the same files."""
    return make(tmp_path_factory.mktemp("other") / "run", 2)


# -- what reads a run -------------------------------------------------------------------------------------------------


def played(path: Path) -> Any:
    """By `evaluate` and `play`."""
    found = policies.trained(INCIDENT, str(path), "torch")
    return found.model, found.run, found.number


def played_before(path: Path) -> Any:
    return policies.trained(INCIDENT, f"{path}@2", "torch").model


def exported(path: Path) -> Any:
    out = export.export(RunFolder(path), None, path / "out", None)
    written = {file.name: file.read_bytes() for file in out.folder.iterdir()}
    shutil.rmtree(out.folder)
    return written, out.version.digest


def reported(path: Path) -> Any:
    """All that the report is made of."""
    folder = RunFolder(path)
    folder.check()
    return evaluation.read(folder, INCIDENT), folder.metrics()


def resumed(path: Path) -> Any:
    _, begun, _ = check.begun(path)
    folder = RunFolder(path)
    last = folder.last_checkpoint()
    assert last is not None
    return begun, last.name, {file.name: file.read_bytes() for file in last.iterdir()}


def compared(path: Path) -> Any:
    """By a sweep."""
    folder = RunFolder(path)
    found = runner.outcome(Trial("arm", 0, check.recorded(folder)), path, INCIDENT, {})
    return found.state, found.rows, found.results


READERS: Mapping[str, Callable[[Path], Any]] = {
    one.__name__: one for one in (played, played_before, exported, reported, resumed, compared)
}


# -- what happens to a file -------------------------------------------------------------------------------------------


def remove(file: Path, _other: Path) -> None:
    file.unlink()


def empty(file: Path, _other: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path, _other: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def cut_a_line(file: Path, _other: Path) -> None:
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def change_a_byte(file: Path, _other: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    file.write_bytes(content)


def change_a_figure(file: Path, _other: Path) -> None:
    """The first digit that is not zero, which leaves most files well-formed."""
    content = bytearray(file.read_bytes())
    place = next((at for at, one in enumerate(content) if one in b"123456789"), None)
    if place is not None:
        content[place] = content[place] - 1 if content[place] > ord("1") else ord("2")
    file.write_bytes(content)


def swap(file: Path, other: Path) -> None:
    file.write_bytes(other.read_bytes())


CHANGES = (remove, empty, cut, cut_a_line, change_a_byte, change_a_figure, swap)


CASES = [(True, change) for change in CHANGES] + [(False, change) for change in (remove, change_a_figure, swap)]


@pytest.mark.parametrize(
    ("is_over", "change"),
    CASES,
    ids=[f"{change.__name__}, {'over' if over else 'not evaluated'}" for over, change in CASES],
)
def test_what_reads_a_changed_run_says_the_same_or_refuses(
    run: Path, other: Path, tmp_path: Path, *, is_over: bool, change: Callable[[Path, Path], None]
) -> None:
    begun = Path(shutil.copytree(run, tmp_path / "run"))
    if not is_over:
        (begun / EVALUATION).unlink()
    expected = {name: read(begun) for name, read in READERS.items() if is_over or name != "compared"}
    refused = 0
    for file in sorted(path for path in begun.rglob("*") if path.is_file()):
        name = file.relative_to(begun)
        if (name, change) == (Path(EVALUATION), remove):
            continue  # which makes it a run that is not evaluated
        path = Path(shutil.copytree(begun, tmp_path / "changed" / "run"))
        change(path / name, other / name)
        for reader, before in expected.items():
            try:
                found = READERS[reader](path)
            except (InputError, versions.AdapterError) as error:
                assert str(path) in str(error), (name, reader)
                assert "\n" not in str(error)
                refused += 1
            else:
                assert found == before, (name, reader)
        shutil.rmtree(path.parent)
    assert refused > 20


COMMANDS: Mapping[str, Callable[[Path], list[str]]] = {
    "evaluate": lambda run: ["evaluate", "--policies", f"trained={run}", "--seeds", "1000", "--tiers", "easy"],
    "play": lambda run: ["play", "incident/db_deadlock/easy/1000", "--policy", f"trained={run}"],
    "export": lambda run: ["export", str(run), "--out", f"{run}-out"],
    "train": lambda run: ["train", "--resume", str(run)],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_changed_run_is_one_line_and_exit_code_2(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = Path(shutil.copytree(run, tmp_path / "run"))
    change_a_figure(path / METRICS, path)
    assert main(COMMANDS[command](path)) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert METRICS in err
    assert not out
    assert [one.name for one in tmp_path.iterdir()] == ["run"]


def test_a_run_that_has_lost_its_last_version_plays_none_in_its_place(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(path / "adapters" / f"policy-v{UPDATES}")
    for command in ("evaluate", "play", "export"):
        assert main(COMMANDS[command](path)) == 2
        assert (
            f"there is no {path}/adapters/policy-v{UPDATES}; the run still has versions 0, 2" in capsys.readouterr().err
        )
    assert policies.trained(INCIDENT, f"{path}@2", "torch").number == 2
