"""The learner's own linear layer with LoRA computes what PEFT's does, and keeps less for the backward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from chaosops_ray.learner import lora
from chaosops_ray.learner.adapter import adapter_files
from tests.support.models import MODULES, small_model
from tests.support.trainers import HARMLESS, gradients

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base"))


def policy(base: Path, *, fused: bool, dtype: torch.dtype = torch.float32) -> PeftModel:
    """The same weights each time, the adapter not zero."""
    model = lora.with_adapter(lora.load_base(str(base), "cpu").to(dtype), 4, 8, seed=0, fused=fused)
    draw = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            weight.data.normal_(0, 0.1, generator=draw)
    return model


def scored(model: PeftModel) -> torch.Tensor:
    """Logits, with gradients of a loss over all of them behind them."""
    with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        logits: torch.Tensor = model(input_ids=IDS).logits
    (logits.float() * torch.linspace(-1, 1, logits.shape[-1])).sum().backward()
    return logits.detach()


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_outputs_and_gradients_are_those_of_peft(base: Path, dtype: torch.dtype, close: float) -> None:
    theirs, own = (policy(base, fused=fused, dtype=dtype) for fused in (False, True))
    expected, found = scored(theirs).float(), scored(own).float()
    assert torch.linalg.norm(found - expected) <= close * torch.linalg.norm(expected)
    assert sum([isinstance(module, lora.FusedLinear) for module in own.modules()]) == MODULES
    wanted = gradients(theirs)
    assert len(wanted) == 2 * MODULES
    for name, gradient in gradients(own).items():
        assert gradient.dtype == torch.float32
        assert torch.linalg.norm(gradient - wanted[name]) <= close * torch.linalg.norm(wanted[name]), name


def test_without_the_adapter_it_is_the_base(base: Path) -> None:
    plain, own = lora.load_base(str(base), "cpu"), policy(base, fused=True)
    with torch.no_grad():
        with own.disable_adapter():
            assert torch.allclose(own(input_ids=IDS).logits, plain(input_ids=IDS).logits, atol=1e-5)
        assert not torch.allclose(own(input_ids=IDS).logits, plain(input_ids=IDS).logits)


def test_what_is_published_does_not_tell_which_layer_trained_it(base: Path) -> None:
    files = [adapter_files(policy(base, fused=fused), "name") for fused in (False, True)]
    assert files[0] == files[1]


def test_on_a_cpu_the_layers_are_peft_s(base: Path) -> None:
    """The shipped runs repeat to the bit there."""
    model = lora.with_adapter(lora.load_base(str(base), "cpu"), 4, 8, seed=0)
    assert not [module for module in model.modules() if isinstance(module, lora.FusedLinear)]


def test_in_bf16_layers_and_norms_keep_less_for_the_backward_pass(base: Path) -> None:
    kept = {}
    for fused in (False, True):
        model = policy(base, fused=fused, dtype=torch.bfloat16)
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        sizes: dict[int, int] = {}
        held: list[torch.Tensor] = []

        def keep(
            one: torch.Tensor,
            weights: set[int] = weights,
            sizes: dict[int, int] = sizes,
            held: list[torch.Tensor] = held,
        ) -> torch.Tensor:
            storage = one.untyped_storage()
            if storage.data_ptr() not in weights:
                held.append(one)
                sizes[storage.data_ptr()] = storage.nbytes()
            return one

        ids = torch.randint(1, 64, (1, 2048), generator=torch.Generator().manual_seed(0))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one), torch.autocast("cpu", torch.bfloat16):
            model.get_base_model().model(input_ids=ids % 64)
        kept[fused] = sum(sizes.values())
    assert kept[True] < 0.85 * kept[False]
