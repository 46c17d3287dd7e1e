"""`chaosops infer` between a real vLLM server, which serves the tiny model with an adapter, and a real server of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from chaosops_ray.agents.tokens import TOKENIZER_FILE
from chaosops_ray.cli import main
from chaosops_ray.serve.app import create_app
from chaosops_ray.serve.limits import Limits
from chaosops_ray.sim import ENVIRONMENTS
from tests.serve.test_inference_log import lines
from tests.support.models import small_adapter, tiny_base
from tests.support.served import running

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

START_SECONDS = 600.0
# The tiny model's transcripts are lines: its action is one token, and ends without one that says so.
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role != 'user' %}\n{% endif %}{% endfor %}"


def shown(model: Path, folder: Path) -> Path:
    """A copy whose actions are no special tokens, which the engine would leave out of its text."""
    shutil.copytree(model, folder)
    tokenizer = json.loads((folder / TOKENIZER_FILE).read_text())
    for token in tokenizer["added_tokens"][1:]:
        token["special"] = False
    (folder / TOKENIZER_FILE).write_text(json.dumps(tokenizer))
    return folder


@contextmanager
def engine(model: Path, adapter: Path, folder: Path) -> Iterator[str]:
    """A vLLM server with the model as `base` and its adapter as `policy`."""
    template = folder / "template.jinja"
    template.write_text(TEMPLATE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        *("--model", str(model), "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port)),
        *("--enable-lora", "--lora-modules", f"policy={adapter}", "--max-lora-rank", "8", "--max-loras", "1"),
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "2"),
        *("--kv-cache-memory-bytes", str(64 << 20), "--chat-template", str(template), "--generation-config", "vllm"),
    ]
    environ = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env=environ, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            until = time.monotonic() + START_SECONDS
            while not answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None, (folder / "engine.log").read_text()[-4000:]
                assert time.monotonic() < until, (folder / "engine.log").read_text()[-4000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_real_engine_plays_with_its_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    model = shown(tiny_base().path, tmp_path / "model")
    adapter = small_adapter(tmp_path / "adapter", model, seed=1, scale=0.3)
    played = {}
    app = create_app(ENVIRONMENTS["incident"], "strict")
    with engine(model, adapter, tmp_path) as endpoint, running(app, Limits()) as place:
        monkeypatch.setenv("API_BASE_URL", endpoint)
        monkeypatch.setenv("ENV_URL", f"http://{place}")
        monkeypatch.setenv("API_KEY", "EMPTY")
        for name in ("base", "policy"):
            monkeypatch.setenv("MODEL_NAME", name)
            options = ("style=compact", "difficulty=easy", "seed=7")
            code = main(["infer", "--max-tokens", "1", *[part for one in options for part in ("--reset", one)]])
            out, err = capsys.readouterr()
            assert (code, err) == (0, "")
            played[name] = lines(out)
    for name, said in played.items():
        assert re.fullmatch(rf"\[START\] task=easy/[0-9a-f]+ env=incident model={name}", said[0])
        assert len(said) > 2
    # The warmed-up base knows what its seat may do, and the adapter is heard.
    assert any("error=null" in step for step in played["base"][1:-1])
    assert played["base"][1:] != played["policy"][1:]
