"""The learner on a GPU. Skipped where torch sees none; on a machine with one: pytest tests/learner/test_gpu.py."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.config import Learner as Config
from chaosops_ray.config import Run
from chaosops_ray.learner import batch, kernels, lora, packing
from chaosops_ray.learner.learner import Learner
from chaosops_ray.learner.probe import TOLERANCE_BF16
from chaosops_ray.store import versions
from chaosops_ray.wire import EpisodeReport, Group, Task, Trajectory, Turn
from tests.support.models import MODULES, VOCABULARY, small_model
from tests.support.trainers import Watched, random_row, sampled_by, tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
BASE = "b" * 64
TEXTS = ((5, 6, 7, 8, 9), (10, 11, 12))


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    folder = tmp_path_factory.mktemp("gpu")
    model = small_model(folder / "model")
    tokenizer().save_pretrained(model)
    learner = {"lora_rank": 4, "lora_alpha": 8, "learning_rate": 1e-2, "tokens_per_forward": 256}
    run = Run.model_validate({"model": str(model), "updates": 4, "learner": learner, "rollout": {"max_tokens": 4}})
    return Learner(run, model.name, model, BASE, {"sre": {"team": 1.0}})


def group(seed: int) -> Group:
    """Four episodes of one role, of which two went well."""
    draw = random.Random(seed)
    trajectories = []
    for member in range(4):
        tokens = tuple([draw.randrange(1, VOCABULARY) for _ in range(20)])
        turns = [
            Turn(start, start + 3, (-4.0, -4.0, -4.0), {"team": float(member % 2)}, 0, "digest") for start in (5, 12)
        ]
        trajectories.append(Trajectory("sre", member, tokens, tuple(turns)))
    task = Task(f"g{seed}", "incident/db_deadlock/easy/0", "strict", 4, seed)
    report = EpisodeReport(task.scenario, "easy", 0.0, 0.0, {}, {"sre": 0.0}, {}, (), ())
    return Group(task, tuple(trajectories), (report,) * 4, 0)


def test_the_first_probe_is_computed_on_the_gpu_in_its_precision(learner: Learner) -> None:
    """It comes before the trainer exists, which used to move the model."""
    probe = learner.probe(TEXTS)
    assert {weight.device.type for weight in learner._model.parameters()} == {"cuda"}
    assert probe.tolerance == TOLERANCE_BF16
    assert probe.modules == MODULES
    assert probe.expected == probe.base, "B begins at zero"


def test_an_update_changes_the_policy_and_not_its_base(learner: Learner) -> None:
    before = learner.probe(TEXTS)
    found = learner.update([group(0), group(1)], 0)
    assert found["gradient_norm"] > 0
    after = learner.probe(TEXTS)
    assert after.base == before.base
    assert after.expected != before.expected
    with learner._model.disable_adapter(), torch.no_grad():
        ids = torch.tensor([TEXTS[0]], device="cuda")
        scores = learner._model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        base = scores.gather(-1, ids[0, 1:, None])[:, 0].tolist()
    assert base == pytest.approx(before.base[0], abs=TOLERANCE_BF16), "what was scored before the trainer existed holds"


def test_what_is_saved_on_a_gpu_is_restored_and_published_alike(learner: Learner, tmp_path: Path) -> None:
    saved, files = learner.save(1), learner.adapter()
    version = versions.publish(tmp_path, 1, BASE, files)
    learner.update([group(2)], 1)
    assert learner.adapter() != files
    learner.restore(saved)
    assert learner.adapter() == files, "the same weights are the same bytes"
    assert versions.verify(version, BASE).modules == MODULES


# -- ways of computing that only a GPU has -----------------------------------------------------------------------------


def rows_of_groups(seed: int, count: int = 3) -> list[batch.Row]:
    """Four members each, with an opening of 40 tokens in common."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        begun = tuple([draw.randrange(1, VOCABULARY) for _ in range(40)])
        for _ in range(4):
            one = random_row(draw, 3, draw.choice((1, 2, 5)))
            at = tuple([40 + place for place in one.at])
            found.append(one._replace(tokens=(*begun, *one.tokens), at=at))
    return found


def trainer(path: Path, scratch: Path, *, fused: bool = True, packs: bool = False, layers: int = 0) -> Watched:
    """A trainer on the GPU with the same adapter each time, not zero."""
    model = lora.with_adapter(lora.load_base(str(path), "cuda"), 4, 8, seed=0, fused=fused)
    draw = torch.Generator(device="cuda").manual_seed(1)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            weight.data.normal_(0, 0.1, generator=draw)
    settings = Config.model_validate({"lora_rank": 4, "tokens_per_forward": 512, "gradient_norm": 1e9})
    return Watched(model, settings, scratch, layers, packs=packs)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose heads have a width that FlashAttention takes."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest of the parameters' relative distances."""
    assert one.keys() == other.keys()
    return max([float((one[name] - other[name]).norm() / other[name].norm().clamp(min=1e-8)) for name in one])


@pytest.mark.parametrize("how", [{"fused": False}, {"packs": True}, {"packs": True, "layers": 1}, {"layers": 2}])
def test_every_way_of_computing_gives_the_same_gradients_but_for_rounding(
    wide: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    plain, other = trainer(wide, tmp_path), trainer(wide, tmp_path, **how)
    rows = sampled_by(plain, rows_of_groups(0), noise=0.1)
    figures = [one.update(rows, rate=0.0, entropy=0.1, seed=0) for one in (plain, other)]
    assert distance(other.seen[0], plain.seen[0]) < 0.1
    assert figures[1]["entropy"] == pytest.approx(figures[0]["entropy"], rel=0.02)


def test_flash_attention_of_a_line_is_that_of_its_parts() -> None:
    """A member's part is aligned to the end of what it sees, and no member sees another."""
    rows = rows_of_groups(1)
    (families,) = packing.lines(rows, 10_000)
    line = packing.laid_out(families).to(torch.device("cuda"))
    draw = torch.Generator(device="cuda").manual_seed(0)
    count = line.ids.shape[1]
    shapes = ((1, 4, count, 64), (1, 2, count, 64), (1, 2, count, 64))
    given = [torch.randn(shape, device="cuda", generator=draw).bfloat16() for shape in shapes]
    assert packing.takes_flash(given[0]), "this GPU, or this torch, has no such kernel"
    flash = [one.clone().requires_grad_() for one in given]
    parts = [one.float().requires_grad_() for one in given]  # single precision goes part by part
    module = torch.nn.Module()
    for states in (flash, parts):
        found, _ = packing.attention(module, *states, None, scaling=0.125, plan=line.plan)
        (found.float() * torch.linspace(-1, 1, 64, device="cuda")).sum().backward()
    for mine, exact in zip(flash, parts, strict=True):
        assert mine.grad is not None
        assert exact.grad is not None
        assert float((mine.grad.float() - exact.grad).norm() / exact.grad.norm()) < 0.03


def test_what_the_learner_decided_is_told(learner: Learner) -> None:
    told = learner.chosen()
    assert "layers" in told["checkpointing"]
    assert "FlashAttention" in told["attention"] or "sdpa" in told["attention"]


def test_norms_are_fused_and_only_rounding_differs(wide: Path, tmp_path: Path) -> None:
    plain, fused = trainer(wide, tmp_path, fused=False), trainer(wide, tmp_path)
    assert (
        len([one for one in fused.model.modules() if "forward" in vars(one) and hasattr(one, "variance_epsilon")]) == 5
    )
    rows = rows_of_groups(3)
    wanted, found = plain.scored(rows), fused.scored(rows)
    for row in rows:
        assert torch.allclose(found[id(row)], wanted[id(row)], atol=0.1)


@pytest.mark.skipif(find_spec("liger_kernel") is None, reason="liger-kernel is not installed")
def test_liger_s_kernels_give_the_same_log_probabilities_but_for_rounding(wide: Path, tmp_path: Path) -> None:
    plain, other = trainer(wide, tmp_path), trainer(wide, tmp_path)
    kernels.apply(other.model.get_base_model())
    rows = rows_of_groups(2)
    wanted, found = plain.scored(rows), other.scored(rows)
    for row in rows:
        assert torch.allclose(found[id(row)], wanted[id(row)], atol=0.1)
