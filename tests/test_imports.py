"""The libraries that a command loads: one that only explains or refuses must not wait for the heavy ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "ray",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "aiohttp",
    "inspect_ai",
    "openenv",
)
PROBE = """
import json, sys
from chaosops_ray.cli import main
code = main(sys.argv[1:])
print()
print(json.dumps([code, sorted(sys.modules)]))
"""
TINY = ("--set", "model=tiny")
NOWHERE = "no/such/folder"


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ("train", "tune_configs/3a.yaml", *TINY, "--explain")),
        (2, ("train", "tune_configs/3a.yaml", "--set", "updats=3")),
        (2, ("train", "tune_configs/3a.yaml", "--set", f"model=./{NOWHERE}")),
        (2, ("train", "tune_configs/3a.yaml", *TINY, "--address", "127.0.0.1:1", "--out", NOWHERE)),
        (2, ("train", "--resume", NOWHERE)),
        (2, ("warmup", "tune_configs/3a.yaml", *TINY)),
        (2, ("warmup", "tune_configs/3a.yaml", "--steps", "0")),
        (2, ("warmup", "tune_configs/3a.yaml", "--out", "docs")),
        (0, ("tune", "tune_configs/phase3.yaml", *TINY, "--explain")),
        (2, ("tune", "--resume", NOWHERE)),
        (2, ("submit", "tune_configs/3a.yaml", "--address", "nonsense", "--out", "/data/run")),
        (0, ("evaluate", "--policies", "oracle", "--seeds", "1", "--tiers", "easy")),
        (2, ("evaluate", "--policies", f"trained={NOWHERE}")),
        (2, ("export", NOWHERE)),
        (2, ("play", "incident/nonsense/hard/17")),
        (2, ("replay", NOWHERE)),
        (2, ("export-log", NOWHERE, NOWHERE)),
        (2, ("serve", "nowhere")),
        (2, ("watch", NOWHERE)),
        (2, ("watch", "docs", "--host", "::")),
    ],
    ids=lambda given: " ".join(given[:3]) if isinstance(given, tuple) else str(given),
)
def test_no_heavy_library_is_loaded(code: int, arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ended, loaded = json.loads(ran.stdout.splitlines()[-1])
    assert ended == code, ran.stderr
    assert not set(HEAVY) & set(loaded)


def test_the_driver_of_a_run_loads_no_engine() -> None:
    probe = "import json, sys; import chaosops_ray.training.launch; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = json.loads(ran.stdout.splitlines()[-1])
    assert "ray" in loaded
    assert not {"torch", "transformers", "trl", "peft", "vllm", "datasets", "huggingface_hub"} & set(loaded)
