"""Kernels that only a GPU has are refused where there is none, in one line that names the key."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from chaosops_ray import config
from chaosops_ray.config import ConfigError
from chaosops_ray.learner import kernels
from chaosops_ray.workers.bundles import check

PRESET = Path(__file__).parents[2] / "tune_configs" / "3a.yaml"
PLENTY = {"CPU": 64.0, "GPU": 8.0}


def test_liger_needs_a_gpu_and_its_package() -> None:
    with pytest.raises(ConfigError, match=r"^learner\.liger: its kernels need a GPU"):
        kernels.check(on_gpu=False)
    if find_spec("liger_kernel") is None:
        with pytest.raises(ConfigError, match="pip install liger-kernel"):
            kernels.check(on_gpu=True)
    with pytest.raises(ConfigError, match=r"^learner\.liger: .*resources\.learner_gpus is 0"):
        check(config.load(PRESET, ["learner.liger=true", "resources.learner_gpus=0"]), PLENTY)
    check(config.load(PRESET, ["learner.liger=true"]), PLENTY)


@pytest.mark.parametrize("setting", ["sampler=torch", "resources.sampler_gpus=0", "resources.learner_gpus=0"])
def test_deterministic_kernels_need_vllm_and_gpus(setting: str) -> None:
    check(config.load(PRESET, ["resources.deterministic=true"]), PLENTY)
    with pytest.raises(ConfigError, match=r"^resources\.deterministic is for the vllm engine"):
        check(config.load(PRESET, ["resources.deterministic=true", setting]), PLENTY)


@pytest.mark.parametrize(
    ("given", "allocator"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, None),
    ],
)
def test_a_user_s_own_allocator_stays(given: dict[str, str], allocator: str | None) -> None:
    code = (
        "import os; from chaosops_ray.process_environment import set_for_a_gpu; set_for_a_gpu(deterministic=True); "
        "print(os.environ.get('PYTORCH_CUDA_ALLOC_CONF'), os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    )
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTORCH", "CUBLAS"))}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=known | given, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.split() == [str(allocator), ":4096:8"]


def test_the_process_of_the_learner_is_set_up_before_torch_is_loaded() -> None:
    code = "import sys, chaosops_ray.learner.actor; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == "False"
