"""What the learner relies on in TRL 1.16, so that an upgrade that changes it fails here and says what changed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from peft import PeftModel
from trl import GRPOConfig, GRPOTrainer

from chaosops_ray.config import Learner
from chaosops_ray.learner import grpo
from chaosops_ray.learner.grpo import PolicyTrainer
from tests.support.models import small_model, small_peft
from tests.support.trainers import HARMLESS, TEMPERATURE, Watched, gradients, tokenizer

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

Make = Callable[..., GRPOTrainer]

# What of TRL's the learner replaces or sets, on purpose. Everything else that it adds must be a name that TRL has not.
OVERRIDDEN = {"_get_per_token_logps_and_entropies"}
SET = {
    "use_vllm",
    "vllm_importance_sampling_correction",
    "_entropy_bonus_enabled",
    "entropy_coef",
    "current_gradient_accumulation_steps",
    "max_completion_length",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PeftModel:
    return small_peft(small_model(tmp_path_factory.mktemp("base")), seed=1, scale=0.1)


@pytest.fixture
def make(model: PeftModel, tmp_path: Path) -> Make:
    """TRL's own trainer, of a given loss."""

    def build(kind: type[GRPOTrainer] = GRPOTrainer, **given: Any) -> GRPOTrainer:
        arguments = GRPOConfig(
            output_dir=str(tmp_path),
            temperature=TEMPERATURE,
            max_completion_length=8,
            num_generations=2,
            per_device_train_batch_size=2,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            **given,
        )
        trainer = kind(
            model=model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
            processing_class=tokenizer(),
        )
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        return trainer

    return build


def batch() -> dict[str, torch.Tensor]:
    """Two rows with two tokens of the policy's each, as the learner hands them to the loss."""
    ids = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 0]])
    attention = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
    mask = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]])
    return {
        "prompt_ids": ids[:, :1],
        "prompt_mask": attention[:, :1],
        "completion_ids": ids[:, 1:],
        "completion_mask": attention[:, 1:],
        "tool_mask": mask,
        "advantages": mask * torch.tensor([[1.0], [-0.5]]),
        "importance_sampling_ratio": torch.ones(2, 5),
        "num_items_in_batch": mask.sum(),
    }


def loss(trainer: GRPOTrainer, **given: torch.Tensor) -> float:
    return float(trainer.compute_loss(trainer.model, {**batch(), **given}).detach())


def test_the_version_is_the_one_that_was_read() -> None:
    assert trl.__version__.startswith("1.16."), "read _compute_loss again, then let these tests say what changed"


# -- names ------------------------------------------------------------------------------------------------------------


def assigned(source: str) -> Iterator[str]:
    """Names that are assigned on `self`."""
    for node in ast.walk(ast.parse(source)):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self":
                    yield one.attr


def test_what_is_set_is_there(make: Make) -> None:
    trainer = make()
    for name in SET | OVERRIDDEN | {"_metrics", "loss_type", "temperature", "accelerator", "optimizer", "args"}:
        assert hasattr(trainer, name), name
    assert hasattr(trainer.args, "steps_per_generation")


def test_no_name_of_the_learner_s_means_something_to_trl(make: Make) -> None:
    """A `_step` of ours was once a counter of theirs."""
    theirs = set(dir(make()))
    for base in GRPOTrainer.__mro__[:-1]:
        theirs |= set(assigned(inspect.getsource(base)))
    ours = {name for name in vars(PolicyTrainer) if not name.startswith("__")}
    tree = ast.parse(inspect.getsource(grpo))
    (own,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "PolicyTrainer"]
    ours |= set(assigned(ast.unparse(own)))
    assert ours & theirs == OVERRIDDEN | SET
    assert {"update", "settings", "_scored", "_step_on"} <= ours - theirs, "the search finds methods and attributes"
    assert {"_step", "epsilon_high", "lr_scheduler"} <= theirs, "of theirs too"


# -- the loss ---------------------------------------------------------------------------------------------------------


def test_advantages_may_differ_from_token_to_token(make: Make) -> None:
    """Alike for each token they are what one for the row is; in one token alone they move that token alone."""
    trainer = make(loss_type="dapo")
    rows = torch.tensor([0.7, -0.3])
    assert loss(trainer, advantages=rows) == pytest.approx(loss(trainer, advantages=rows[:, None].expand(2, 5)))
    one = torch.zeros(2, 5)
    one[0, 3] = 2.0
    assert loss(trainer, advantages=one) == pytest.approx(-2.0 / 4)
    elsewhere = torch.zeros(2, 5)
    elsewhere[0, 2] = 2.0
    assert loss(trainer, advantages=elsewhere) == 0.0, "where the policy did not write"


@pytest.mark.parametrize("kind", ["dapo", "dr_grpo", "grpo", "cispo"])
def test_the_sampler_s_weights_count_only_when_vllm_is_believed_to_sample(make: Make, kind: str) -> None:
    trainer = make(loss_type=kind, epsilon_high=5.0)
    twice = {"importance_sampling_ratio": torch.full((2, 5), 2.0)}
    assert trainer.use_vllm is False
    assert loss(trainer, **twice) == pytest.approx(loss(trainer))
    trainer.use_vllm = True
    trainer.vllm_importance_sampling_correction = True
    assert loss(trainer, **twice) == pytest.approx(2 * loss(trainer))
    trainer.vllm_importance_sampling_correction = False
    assert loss(trainer, **twice) == pytest.approx(loss(trainer))


@pytest.mark.parametrize("kind", ["dr_grpo", "grpo"])
def test_a_mean_over_rows_is_divided_by_the_number_of_micro_batches(make: Make, kind: str) -> None:
    trainer = make(loss_type=kind)
    whole = loss(trainer)
    trainer.current_gradient_accumulation_steps = 1 / 0.3
    assert loss(trainer) == pytest.approx(0.3 * whole)


@pytest.mark.parametrize("kind", ["dapo", "cispo"])
def test_a_mean_over_tokens_is_divided_by_all_of_them(make: Make, kind: str) -> None:
    """Whatever the number of micro-batches, if they make up the generation."""
    trainer = make(loss_type=kind, epsilon_high=5.0)
    whole = loss(trainer)
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1 / 0.3
    assert loss(trainer) == pytest.approx(whole)
    assert loss(trainer, num_items_in_batch=torch.tensor(8.0)) == pytest.approx(whole / 2)


@pytest.mark.parametrize("kind", ["dapo", "dr_grpo", "grpo", "cispo"])
def test_the_bonus_is_a_mean_over_tokens_divided_by_the_number_of_micro_batches(make: Make, kind: str) -> None:
    trainer = make(loss_type=kind)
    nothing = torch.zeros(2, 5)
    assert loss(trainer, advantages=nothing) == 0.0
    trainer.entropy_coef = 0.5
    assert loss(trainer, advantages=nothing) == 0.0, "set alone it does nothing"
    trainer._entropy_bonus_enabled = True
    trainer.current_gradient_accumulation_steps = 4
    bonus = loss(trainer, advantages=nothing)
    assert bonus == pytest.approx(-0.5 * trainer._metrics["train"]["entropy"][-1] / 4)


def test_the_cap_of_cispo_is_the_ratio_itself(make: Make) -> None:
    """And not, as with the others, what the ratio may exceed 1 by."""
    trainer = make(loss_type="cispo", epsilon_high=1.5)
    mask = batch()["tool_mask"]
    ids = torch.cat([batch()["prompt_ids"], batch()["completion_ids"]], dim=1)
    with torch.no_grad():
        now, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 5)
    advantages = batch()["advantages"]
    for ratio, kept in ((1.2, 1.2), (4.0, 1.5), (0.1, 0.1)):
        found = loss(trainer, old_per_token_logps=now - torch.tensor(ratio).log())
        assert found == pytest.approx(float(-(kept * advantages * now * mask).sum() / mask.sum()), rel=1e-5)


def test_the_loss_asks_for_log_probabilities_where_the_learner_gives_them(make: Make) -> None:
    """By position the model, the ids, the mask and how many are wanted; back come three values."""
    asked: list[tuple[Any, ...]] = []

    class Asked(GRPOTrainer):
        def _get_per_token_logps_and_entropies(self, *given: Any, **_: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
            asked.append(given)
            return torch.full((2, 5), -1.0, requires_grad=True), torch.full((2, 5), 2.0), None

    trainer = make(Asked, loss_type="dapo")
    assert loss(trainer) == pytest.approx(-(2 * 1.0 - 2 * 0.5) / 4)
    ((model, ids, attention, wanted),) = asked
    assert model is trainer.model
    assert ids.tolist() == [[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 0]]
    assert attention.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]
    assert wanted == 5
    assert trainer._metrics["train"]["entropy"] == [2.0]
    assert set(trainer._metrics["train"]) >= {"entropy", "clip_ratio/low_mean", "clip_ratio/high_mean"}


def test_the_head_is_patched_in_with_the_temperature(make: Make) -> None:
    """Log-probabilities and entropies at the labels, zero where there is none."""
    trainer = make()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    labels = torch.tensor([[-100, -100, 4, -100, 5]])
    with torch.no_grad():
        found = trainer.model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
        plain = (trainer.model(input_ids=ids).logits[0, :-1] / TEMPERATURE).log_softmax(-1)
    wanted = torch.tensor([0.0, float(plain[1, 4]), 0.0, float(plain[3, 5])])
    spread = -(plain.exp() * plain).sum(-1)
    assert torch.allclose(found.log_probs[0], wanted, atol=1e-5)
    assert torch.allclose(found.entropy[0], torch.tensor([0.0, float(spread[1]), 0.0, float(spread[3])]), atol=1e-5)


# -- what only `train()` would have done ------------------------------------------------------------------------------


def test_checkpointing_is_left_to_a_loop_that_never_runs(make: Make, model: PeftModel, tmp_path: Path) -> None:
    trainer = make()
    assert not trainer.model.is_activation_checkpointing
    chosen = {"checkpointing": True, "lora_rank": 4}
    watched = Watched(model, Learner.model_validate(chosen), tmp_path)
    try:
        assert watched.model.is_activation_checkpointing
    finally:
        model.get_base_model().activation_checkpointing_disable()


def test_nothing_divides_or_scales_the_gradient_on_its_way(make: Make) -> None:
    """`accelerator.backward` is backward, with nothing to unscale."""
    trainer = make(loss_type="dapo")
    assert trainer.accelerator.gradient_accumulation_steps == 1
    assert trainer.accelerator.sync_gradients
    assert trainer.accelerator.scaler is None
    found = []
    for backward in (trainer.accelerator.backward, torch.Tensor.backward):
        backward(trainer.compute_loss(trainer.model, batch()))
        found.append(gradients(trainer.model))
        trainer.model.zero_grad(set_to_none=True)
    assert found[0]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
