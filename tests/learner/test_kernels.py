"""Kernels that only a GPU has are refused where there is none, in one line that names the key."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from chaosops_ray import config
from chaosops_ray.config import ConfigError
from chaosops_ray.learner import kernels
from chaosops_ray.workers.bundles import check
from tests.support.models import small_model

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


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_a_fused_norm_is_the_norm(tmp_path: Path, dtype: torch.dtype, close: float) -> None:
    path = small_model(tmp_path / "model")
    plain, fused = (AutoModelForCausalLM.from_pretrained(path, dtype=dtype) for _ in range(2))
    assert kernels.fuse_norms(fused) == 5, "two layers with two each, and the last one"
    assert kernels.fuse_norms(fused) == 0, "those that are replaced already stay"
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    gradients = []
    logits = []
    for model in (plain, fused):
        found = model(input_ids=ids).logits.float()
        (found * torch.linspace(-1, 1, found.shape[-1])).sum().backward()
        logits.append(found.detach())
        gradients.append(model.model.embed_tokens.weight.grad.float())
    for wanted, found in (logits, gradients):
        assert torch.linalg.norm(found - wanted) <= close * torch.linalg.norm(wanted)


def test_a_norm_that_adds_one_to_its_weight_is_left_alone() -> None:
    class Shifted(torch.nn.Module):
        variance_epsilon = 1e-6

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((8,), 0.1))

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.rms_norm(states, (8,), 1 + self.weight, self.variance_epsilon)

    assert kernels.fuse_norms(torch.nn.Sequential(Shifted())) == 0  # type: ignore[arg-type]
