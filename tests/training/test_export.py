"""An adapter as people take it away: whole, verified, with a card that says what is so; and what a hub is sent of it."""

from __future__ import annotations

import base64
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard

from chaosops_ray.cli import main
from chaosops_ray.config import load
from chaosops_ray.learner import lora
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import run_folder, versions
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import base_models, check, export
from chaosops_ray.training import hub as hub_upload
from tests.support import runs
from tests.support.disk import mounted
from tests.support.models import publish
from tests.support.runs import INCIDENT

CONFIG = Path(__file__).parents[2] / "tune_configs" / "3a.yaml"
FILES = {export.CARD, versions.CONFIG, versions.WEIGHTS}
DIFFERENCES = [{"tier": "easy", "policy": "trained", "against": "heuristic", "mean": 115.0, "ci": [101.0, 130.0]}]
UPDATES = 3


def make_run(path: Path, model: str = "tiny") -> Path:
    """A finished run's folder: two versions, the last of them evaluated."""
    settings = ["model=tiny", f"updates={UPDATES}"]
    given = load(CONFIG, settings).model_copy(update={"model": model})
    folder = RunFolder.create(path, check.written(given))
    base = base_models.prepare(model)
    adapted = lora.with_adapter(lora.load_base(str(base.path), "cpu"), 4, 8, 0)
    published = [publish(adapted, folder.adapters, number, base.digest, base.path.name) for number in (1, UPDATES)]
    record(path, {version.number: version.digest for version in published})
    return path


def record(run: Path, digests: Mapping[int, str]) -> None:
    """Write what a run records of these versions, and its evaluation."""
    folder = RunFolder(run)
    (run / run_folder.METRICS).unlink(missing_ok=True)
    runs.log(folder, digests, UPDATES)
    folder.finish([], runs.evaluation() | {"differences": DIFFERENCES})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "first"))


def run_export(*arguments: str | Path) -> int:
    return main(["export", *map(str, arguments)])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    out, err = capsys.readouterr()
    assert err.count("\n") == 1, err
    assert err.startswith("chaosops export: ")
    assert "pushed" not in out
    return err


def rows(readme: str, first: str) -> list[list[str]]:
    """The cells of the table whose heading begins so."""
    (table,) = re.findall(rf"^\| {first} .*\n(?:\|.*\n)+", readme, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


# -- the folder -------------------------------------------------------------------------------------------------------


def test_an_export_holds_the_published_bytes_and_a_card(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_export(copy) == 0
    out = copy / "export" / f"policy-v{UPDATES}"
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert {path.name for path in out.iterdir()} == FILES
    version = versions.read(copy / "adapters" / out.name)
    for name in (versions.CONFIG, versions.WEIGHTS):
        assert (out / name).read_bytes() == (copy / "adapters" / out.name / name).read_bytes()
    assert versions.digest(out) == version.digest
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert out.stat().st_mode & 0o777 == 0o777 & ~(os.umask(umask := os.umask(0)) or umask)


def test_an_export_on_a_full_disk_is_one_line_and_leaves_nothing(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "1m") as disk:
        out = disk.path / "out"
        for room in (0, 1 << 12, 1 << 13):
            disk.fill(but=room)
            assert run_export(copy, "--out", out) == 2
            assert f"cannot write {out}: No space left on device; make room there" in told(capsys)
            assert disk.names() == []
        disk.clear()
        assert run_export(copy, "--out", out) == 0


def test_the_card_says_what_the_run_was_and_what_came_out(copy: Path, tmp_path: Path) -> None:
    assert run_export(copy, "--out", tmp_path / "out", "--license", "apache-2.0") == 0
    readme = (tmp_path / "out" / export.CARD).read_text(encoding="utf-8")
    facts = dict(rows(readme, "")[2:])
    base = base_models.prepare("tiny")
    assert facts["run"] == "first"
    assert facts["version"] == "policy-v3, after 3 of 3 updates"
    assert (facts["seed"], facts["rules"]) == ("0", runs.RULES)
    assert facts["digest of the adapter"] == f"`{versions.read(copy / 'adapters' / 'policy-v3').digest}`"
    assert facts["digest of the base model"] == f"`{base.digest}`"

    heading, _, *cells = rows(readme, "tier . policy")
    assert heading == ["tier", "policy", "n", "mean return", "success", "mttr", "rogue catch", "false positive"]
    assert [row[:2] for row in cells[:3]] == [["easy", "**trained**"], ["easy", "random"], ["easy", "heuristic"]]
    easy = ["8", "+134.0 [+134.0, +134.0]", "100 % [100, 100]", "3.0 [3.0, 3.0]", "–", "0 % [0, 0]"]
    assert cells[0][2:] == easy
    assert len(cells) == 3 * len(INCIDENT.tiers)
    assert rows(readme, "tier . difference")[2:] == [["easy", "trained − heuristic", "+115.0 [+101.0, +130.0]"]]

    (configuration,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert yaml.safe_load(configuration) == load(copy / run_folder.CONFIG).model_dump(mode="json")
    assert "Nothing here is about real incidents" in readme
    assert str(tmp_path) not in readme


def test_a_hub_reads_the_front_matter(copy: Path, tmp_path: Path) -> None:
    assert run_export(copy, "--out", tmp_path / "out", "--license", "apache-2.0") == 0
    data = ModelCard.load(tmp_path / "out" / export.CARD).data
    assert (data.library_name, data.license, data.base_model) == ("peft", "apache-2.0", None)
    found = {(result.dataset_config, result.metric_type): result.metric_value for result in data.eval_results}
    cells = {cell["tier"]: cell for cell in runs.evaluation()["cells"] if cell["policy"] == "trained"}
    assert {tier: found[tier, "mean_return"] for tier in INCIDENT.tiers} == {t: c["mean"] for t, c in cells.items()}
    assert found["hard", "rogue_catch"] == cells["hard"]["rogue_catch"]
    assert ("easy", "rogue_catch") not in found  # which is null there
    for result in data.eval_results:
        # The hub takes a data set's type for an id, and only these for one.
        assert re.fullmatch(r"(?:[\w-]+/)?[\w.-]+", result.dataset_type)


def test_without_a_license_none_is_claimed(run: Path, tmp_path: Path) -> None:
    assert run_export(run, "--out", tmp_path / "out") == 0
    assert "license" not in yaml.safe_load((tmp_path / "out" / export.CARD).read_text().split("---\n")[1])


def ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the card's programs leave, run as they stand in the folder, one after the other."""
    program = folder.with_suffix(".py")
    program.write_text("\n".join(re.findall(r"```python\n(.*?)```", (folder / export.CARD).read_text(), re.DOTALL)))
    monkeypatch.chdir(folder)
    return runpy.run_path(str(program))


def test_the_programs_of_the_card_run(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export.export(RunFolder(copy), None, tmp_path / "out", None)
    left = ran(exported.folder, monkeypatch)
    move = capsys.readouterr().out
    assert move.startswith("sre ")
    assert "Unparsed" not in move
    assert lora.bound_modules(left["model"]) == versions.verify(exported.version).modules


def test_a_base_in_a_folder_leaves_only_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(shutil.copytree(base_models.prepare("tiny").path, tmp_path / "somebody" / "our `base`"))
    out = tmp_path / "out"
    assert run_export(make_run(tmp_path / "mine", str(base)), "--out", out) == 0
    capsys.readouterr()
    for path in out.iterdir():
        assert b"somebody" not in path.read_bytes()
    readme = (out / export.CARD).read_text()
    assert "base_model" not in yaml.safe_load(readme.split("---\n")[1])
    assert "a base model in a folder called our \\`base\\`" in readme
    assert 'BASE = "our `base`"' in readme
    # Its programs run where somebody has that folder. Laid out as any base is, this one need not find an action.
    shutil.copytree(base, out / base.name)
    left = ran(out, monkeypatch)
    assert capsys.readouterr().out.startswith("sre ")
    assert lora.bound_modules(left["model"])


def test_a_version_that_is_not_the_last_has_no_figures(run: Path, tmp_path: Path) -> None:
    assert run_export(f"{run}@1", "--out", tmp_path / "out") == 0
    readme = (tmp_path / "out" / export.CARD).read_text()
    assert "# first, policy-v1" in readme
    assert "This version was not evaluated" in readme
    assert "It was not measured." in readme
    assert "model-index" not in readme
    assert "+134.0" not in readme


def test_a_run_that_was_not_evaluated_says_so(copy: Path, tmp_path: Path) -> None:
    (copy / run_folder.EVALUATION).unlink()
    assert run_export(copy, "--out", tmp_path / "out") == 0
    assert "This run has not been evaluated yet." in (tmp_path / "out" / export.CARD).read_text()


def test_an_empty_folder_and_a_link_to_one_are_filled(run: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run_export(run, "--out", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "real").iterdir()} == FILES


# -- what is refused --------------------------------------------------------------------------------------------------


def remove_adapter(run: Path) -> None:
    shutil.rmtree(run / "adapters" / "policy-v3")


def remove_marker(run: Path) -> None:
    (run / "adapters" / "policy-v3" / versions.MARKER).unlink()


def flip_a_byte(run: Path) -> None:
    path = run / "adapters" / "policy-v3" / versions.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def other_base(run: Path) -> None:
    """An adapter of another base model, under a configuration that names this one."""
    folder = run / "adapters" / "policy-v3"
    (folder / versions.MARKER).unlink()
    versions.seal(folder, UPDATES, "0" * 64)


def name_a_path(run: Path) -> None:
    folder = run / "adapters" / "policy-v3"
    said = json.loads((folder / versions.CONFIG).read_text()) | {"base_model_name_or_path": "/home/somebody/base"}
    (folder / versions.CONFIG).write_text(json.dumps(said))
    (folder / versions.MARKER).unlink()
    versions.seal(folder, UPDATES, base_models.prepare("tiny").digest)
    record(run, {UPDATES: versions.digest(folder)})


def remove_model(run: Path) -> None:
    given = yaml.safe_load((run / run_folder.CONFIG).read_text()) | {"model": "/no/such/model"}
    (run / run_folder.CONFIG).write_text(yaml.safe_dump(given))
    RunFolder(run).finish([], runs.evaluation())


def change_configuration(run: Path) -> None:
    text = (run / run_folder.CONFIG).read_text()
    (run / run_folder.CONFIG).write_text(text.replace("structured: choices", "structured: 'no'"))


def remove_configuration(run: Path) -> None:
    (run / run_folder.CONFIG).unlink()


SABOTAGE = {
    remove_adapter: "the run still has versions 1, as in",
    remove_marker: "half-written",
    flip_a_byte: "digest",
    other_base: "trained on the base 0000",
    name_a_path: "a path of this machine",
    remove_model: "there is no folder",
    remove_configuration: "config.yaml",
    change_configuration: "config.yaml is not as it was written",
}


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda function: function.__name__)
def test_an_adapter_that_is_not_what_was_published_stays(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sabotage: Any
) -> None:
    sabotage(copy)
    assert run_export(copy, "--out", tmp_path / "out") == 2
    assert SABOTAGE[sabotage] in told(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--license", "MIT\nbase_model: evil"], "not a license"),
        (["--public"], "--push OWNER/NAME"),
        (["--push", "watcher"], "has no owner"),
        (["--push", "me/../you"], "--push"),
        (["--push", "me/watcher"], "set HF_TOKEN"),
        (["--out", "/proc/out"], "cannot write /proc/out"),
        (["--out", "taken"], "not an empty folder"),
        (["--out", "taken/file"], "not an empty folder"),
        (["--out", "taken/file/below"], "cannot write"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.delenv(hub_upload.TOKEN, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/file").write_text("mine")
    assert run_export(copy, *arguments) == 2
    assert words in told(capsys)
    assert not (copy / "export").exists()
    assert [path.name for path in Path("taken").iterdir()] == ["file"]


@pytest.mark.parametrize("token", ["hf_ä", "hf_one hf_two", "hf_\x1b[2J"])
def test_a_token_that_is_none_is_not_shown(
    capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(hub_upload.TOKEN, token)
    assert run_export(run, "--push", "me/watcher") == 2
    assert token not in told(capsys)


@pytest.mark.parametrize("number", ["2", "x", "-1", "999999999999"])
def test_a_version_that_is_not_there_is_an_error(run: Path, capsys: pytest.CaptureFixture[str], number: str) -> None:
    assert run_export(f"{run}@{number}") == 2
    told(capsys)


BROKEN: dict[str, Any] = {
    "no table by failure": {"by_failure": None},
    "no cells": {"cells": None},
    "a cell that is none": {"cells": [3]},
    "a tier that is none": {"cells": [runs.evaluation()["cells"][0] | {"tier": "brutal"}]},
    "a figure that is none": {"cells": [runs.evaluation()["cells"][0] | {"mean": "high"}]},
    "a figure without end": {"cells": [runs.evaluation()["cells"][0] | {"mean": float("inf")}]},
    "a figure beyond floats": {"cells": [runs.evaluation()["cells"][0] | {"mean": 10**400}]},
    "an interval of three": {"cells": [runs.evaluation()["cells"][0] | {"mean_ci": [1, 2, 3]}]},
    "a difference that is none": {"differences": [{"tier": "easy"}]},
    "rules that are no text": {"rules": {"strict": 1}},
    "seeds that are no text": {"seeds": 7},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_evaluation_that_is_none_is_told(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    runs.write_evaluation(copy, runs.evaluation() | BROKEN[broken])
    assert run_export(copy, "--out", tmp_path / "out") == 2
    assert "evaluation.json is not a valid evaluation" in told(capsys)
    assert not (tmp_path / "out").exists()


def test_an_evaluation_under_other_rules_is_refused_by_name(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rules in ("strict", "strict/3"):
        runs.write_evaluation(copy, runs.evaluation() | {"rules": rules})
        assert run_export(copy, "--out", tmp_path / "out") == 2
        line = told(capsys)
        assert str(copy / run_folder.EVALUATION) in line
        assert f"rules strict/{1 if rules == 'strict' else 3} are not played" in line
        assert not (tmp_path / "out").exists()


# -- a hub ------------------------------------------------------------------------------------------------------------

SECRET = "hf_onlyForTheHubToKnow"  # noqa: S105 - no hub knows it
NAME = "me/watcher"


class Sent(NamedTuple):
    """A request as the hub got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Hub(ThreadingHTTPServer):
    """A hub of one repository: what it was sent, and what it then holds."""

    def __init__(self, refuses: dict[str, int], *, exists: bool, private: bool, large: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.refuses, self.exists, self.private, self.large = refuses, exists, private, large
        self.sent: list[Sent] = []
        self.stored: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}

    def answer(self, sent: Sent) -> tuple[int, Any]:
        path = sent.path.partition("?")[0]
        for part, status in self.refuses.items():
            if part in path:
                # One that quotes what it was sent.
                return status, {"error": f"no, not\nwith {sent.headers['authorization']}"}
        if path == "/api/repos/create":
            if not self.exists:
                self.private = json.loads(sent.body)["visibility"] == "private"
            return 409 if self.exists else 200, {"url": f"{self.url}/{NAME}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": [{"message": f"no license, {SECRET}"}]}
        if path == f"/api/models/{NAME}":
            return 200, {"id": NAME, "private": self.private}
        if path == f"/api/models/{NAME}/preupload/main":
            names = [file["path"] for file in json.loads(sent.body)["files"]]
            modes = {name: "lfs" if name in self.large else "regular" for name in names}
            return 200, {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]}
        if path == f"/{NAME}.git/info/lfs/objects/batch":
            objects = json.loads(sent.body)["objects"]
            href = {thing["oid"]: f"{self.url}/store/{thing['oid']}" for thing in objects}
            return 200, {"objects": [{**o, "actions": {"upload": {"href": href[o["oid"]]}}} for o in objects]}
        if path.startswith("/store/"):
            self.stored[path.removeprefix("/store/")] = sent.body
            return 200, {}
        assert path == f"/api/models/{NAME}/commit/main", path
        for line in map(json.loads, sent.body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                self.files[line["value"]["path"]] = self.stored[line["value"]["oid"]]
        return 200, {"commitUrl": f"{self.url}/{NAME}/commit/1", "commitOid": "1" * 40}


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def _do(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        sent = Sent(self.command, self.path, headers, self._body(headers))
        self.server.sent.append(sent)
        status, value = self.server.answer(sent)
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", "0")))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub(
    refuses: dict[str, int] | None = None, *, exists: bool = False, private: bool = True, large: tuple[str, ...] = ()
) -> Iterator[Hub]:
    with Hub(refuses or {}, exists=exists, private=private, large=large) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def check_the_token_stayed_where_it_belongs(server: Hub) -> None:
    asked = [sent for sent in server.sent if not sent.path.startswith("/store/")]
    assert asked
    for sent in asked:
        assert sent.headers["authorization"] == f"Bearer {SECRET}"
    for sent in server.sent:
        others = {name: value for name, value in sent.headers.items() if name != "authorization"}
        assert SECRET not in f"{sent.path} {others}"
        assert SECRET.encode() not in sent.body


def command(server: Hub, run: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`chaosops export --push`, in a process of its own: the library reads where its hub is when it is loaded."""
    return subprocess.run(
        [sys.executable, "-m", "chaosops_ray.cli", "export", str(run), "--out", str(out), "--push", NAME, *more],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": SECRET,
            "HF_HOME": str(out.parent / "hf"),
            "HF_HUB_DISABLE_XET": "1",  # large files then go to the hub itself
            "HF_DEBUG": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_push_uploads_the_folder_and_only_the_hub_learns_the_token(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with hub(large=(versions.WEIGHTS,)) as server:
        done = command(server, run, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {out}\npushed {server.url}/{NAME}\n"
    assert SECRET not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "the hub says: Warnings while validating metadata in README.md: - no license, [HF_TOKEN]" in done.stderr
    assert server.files == {path.name: path.read_bytes() for path in out.iterdir()}
    assert server.files.keys() == FILES
    assert list(server.stored) == [sha256(server.files[versions.WEIGHTS]).hexdigest()]
    check_the_token_stayed_where_it_belongs(server)
    (created,) = [json.loads(sent.body) for sent in server.sent if sent.path == "/api/repos/create"]
    assert created == {"name": "watcher", "organization": "me", "visibility": "private"}
    paths = [sent.path.partition("?")[0].rpartition("/")[0] for sent in server.sent]
    assert paths.index(f"/api/models/{NAME}/preupload") < paths.index(f"/api/models/{NAME}/commit")


def test_a_hub_that_refuses_is_one_line_without_the_token(run: Path, tmp_path: Path) -> None:
    with hub({"/": 401}) as server:
        done = command(server, run, tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == f"wrote {tmp_path / 'out'}\n"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"chaosops export: cannot push {tmp_path / 'out'} to {NAME}: ")
    assert "401" in done.stderr
    assert "[HF_TOKEN]" in done.stderr
    assert SECRET not in done.stderr
    assert not server.files


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    return export.export(RunFolder(run), None, tmp_path_factory.mktemp("exports") / "out", None)


def push(server: Hub, exported: export.Exported, *, public: bool = False) -> list[str]:
    return hub_upload.push(
        exported, hub_upload.Repository(NAME, HfApi(endpoint=server.url, token=SECRET)), public=public
    )


@pytest.mark.parametrize("refused", ["/api/repos/create", "/validate-yaml", "/preupload/", "/commit/"])
def test_wherever_a_hub_refuses(exported: export.Exported, refused: str) -> None:
    refuses = {refused: 403} | ({f"/api/models/{NAME}": 403} if "create" in refused else {})
    with hub(refuses) as server, pytest.raises(InputError, match="403") as caught:
        push(server, exported)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not server.files
    check_the_token_stayed_where_it_belongs(server)


def test_a_hub_that_is_not_there_is_told(exported: export.Exported) -> None:
    with hub() as server:
        pass
    with pytest.raises(InputError, match=f"cannot push .* to {NAME}: .*refused"):
        push(server, exported)


@pytest.mark.parametrize("public", [False, True])
def test_a_new_repository_is_private_unless_said_otherwise(exported: export.Exported, *, public: bool) -> None:
    with hub() as server:
        push(server, exported, public=public)
    assert server.private is not public
    assert server.files.keys() == FILES


def test_what_is_private_is_not_pushed_into_the_open(exported: export.Exported) -> None:
    with hub(exists=True, private=False) as server:
        with pytest.raises(InputError, match="--public"):
            push(server, exported)
        assert not server.files
        push(server, exported, public=True)
    assert server.files.keys() == FILES


def test_a_repository_that_is_there_gets_the_next_version(exported: export.Exported) -> None:
    with hub(exists=True) as server:
        push(server, exported)
    assert server.files.keys() == FILES
    (commit,) = [sent.body for sent in server.sent if "/commit/" in sent.path]
    assert json.loads(commit.splitlines()[0])["value"]["summary"] == f"policy-v3, {exported.version.digest[:12]}"
