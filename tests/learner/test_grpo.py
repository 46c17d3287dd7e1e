"""What an update does to the policy, what it says of it, and what the trainer tells without touching anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from chaosops_ray.config import Learner
from chaosops_ray.learner import lora
from chaosops_ray.learner.batch import Row
from chaosops_ray.learner.grpo import REPORTED
from chaosops_ray.learner.probe import TOLERANCE_FP32, probe
from tests.support.models import MODULES, publish, small_model, small_peft
from tests.support.trainers import HARMLESS, TEMPERATURE, Watched, random_row, random_rows, sampled_by

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

Make = Callable[..., Watched]
TEXTS = ((3, 1, 4, 1, 5), (9, 2, 6))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    """A trainer with the same adapter each time; at scale 0 it is the base's equal."""

    def build(scale: float = 0.1, **given: object) -> Watched:
        chosen = {"tokens_per_forward": 128, "checkpointing": False, **given}
        return Watched(small_peft(base, seed=1, scale=scale), Learner.model_validate(chosen), tmp_path)

    return build


def log_prob(trainer: Watched, rows: list[Row]) -> list[float]:
    """Of each row's written tokens together."""
    scored = trainer.scored(rows)
    return [float(sum(scored[id(row)][place - 1] for place in row.at)) for row in rows]


def weights(trainer: Watched) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["dapo", "dr_grpo", "grpo", "gspo", "cispo"])
@pytest.mark.parametrize("choices", [None, 8])
def test_rewarded_tokens_gain_and_punished_ones_lose(make: Make, loss: str, choices: int | None) -> None:
    draw = random.Random(2)
    rows = [random_row(draw, 6, 1, choices) for _ in range(2)]
    rows = [row._replace(advantages=(sign,) * len(row.at)) for row, sign in zip(rows, (1.0, -1.0), strict=True)]
    trainer = make(loss=loss)
    before = log_prob(trainer, rows)
    for seed in range(5):
        trainer.update(sampled_by(trainer, rows, noise=0.0), rate=0.01, entropy=0.0, seed=seed)
    after = log_prob(trainer, rows)
    assert after[0] > before[0] + 0.01
    assert after[1] < before[1] - 0.01


def test_only_the_adapter_is_trained(make: Make) -> None:
    trainer = make()
    before = weights(trainer)
    trainer.update(random_rows(0), rate=0.01, entropy=0.0, seed=0)
    after = weights(trainer)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if ".lora_" in name
    }


def test_the_bonus_spreads_the_policy_out(make: Make) -> None:
    rows = [row._replace(advantages=(0.0,) * len(row.at)) for row in random_rows(1)]
    trainer = make(scale=1.0)
    rows = sampled_by(trainer, rows, noise=0.0)
    found = [trainer.update(rows, rate=0.02, entropy=1.0, seed=seed)["entropy"] for seed in range(5)]
    assert found[-1] > found[0] + 0.05


def test_an_update_at_rate_zero_changes_nothing(make: Make) -> None:
    trainer = make()
    before = weights(trainer)
    trainer.update(random_rows(0), rate=0.0, entropy=0.1, seed=0)
    assert all(torch.equal(before[name], weight) for name, weight in weights(trainer).items())


def test_the_same_update_gives_the_same_bytes(make: Make, tmp_path: Path) -> None:
    """Two trainers made anew, three updates of two steps each: one digest; another seed deals rows otherwise."""
    digests = []
    for name, shift in (("one", 0), ("two", 0), ("three", 1)):
        torch.manual_seed(random.Random(name).randrange(1000))  # what others drew before must not matter
        trainer = make(steps=2)
        figures = [trainer.update(random_rows(seed), 0.01, 0.1, seed + shift) for seed in range(3)]
        digests.append((publish(trainer.model, tmp_path / name, 0, "00" * 32, "tiny").digest, figures[0], figures[2]))
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]


def test_each_step_takes_a_part_of_the_rows(make: Make) -> None:
    trainer = make(steps=3, gradient_norm=1e-3)
    trainer.update(random_rows(0), rate=0.01, entropy=0.0, seed=0)
    assert len(trainer.seen) == 3
    for step in trainer.seen:
        norm = torch.stack([gradient.norm() for gradient in step.values()]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-3), "gradients are clipped to the norm"


# -- what cannot be learnt from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("advantage", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_not_stepped_on(make: Make, advantage: float) -> None:
    """And leaves nothing behind that would spoil the next update."""
    trainer, other = make(), make()
    rows = random_rows(0)
    spoilt = [rows[0]._replace(advantages=(advantage,) * len(rows[0].at)), *rows[1:]]
    before = weights(trainer)
    with pytest.raises(FloatingPointError, match="not taken"):
        trainer.update(spoilt, rate=0.01, entropy=0.0, seed=0)
    assert trainer.seen == []
    assert all(torch.equal(before[name], weight) for name, weight in weights(trainer).items())
    assert trainer.update(rows, 0.01, 0.0, 0) == other.update(rows, 0.01, 0.0, 0)
    assert all(torch.equal(weights(other)[name], weight) for name, weight in weights(trainer).items())


# -- what is reported -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", [True, False])
def test_where_the_sampler_is_exact_nothing_is_weighed(make: Make, recompute: bool) -> None:
    trainer = make(recompute=recompute)
    rows = sampled_by(trainer, random_rows(0), noise=0.0)
    found = trainer.update(rows, rate=0.0, entropy=0.0, seed=0)
    assert set(found) == set(REPORTED)
    assert found["mismatch_max"] < 1e-5
    assert found["importance_weight"] == pytest.approx(1.0, abs=1e-5)
    assert found["effective_sample_size"] == pytest.approx(1.0, abs=1e-5)
    assert found["clipped_low"] == found["clipped_high"] == 0
    assert found["gradient_norm"] > 0
    assert 0 < found["entropy"] < 4.2


def test_scoring_again_where_the_sampler_is_exact_changes_nothing(make: Make) -> None:
    first, second = make(recompute=True), make(recompute=False)
    rows = sampled_by(first, random_rows(0), noise=0.0)
    for trainer in (first, second):
        trainer.update(rows, rate=0.01, entropy=0.0, seed=0)
    for name, gradient in first.seen[0].items():
        assert torch.allclose(gradient, second.seen[0][name], atol=1e-6)


def test_weights_are_capped(make: Make) -> None:
    """What the sampler thought less likely than the learner does weighs more, up to the cap; the rest weighs less."""
    trainer = make(importance_cap=2.0)
    rows = sampled_by(trainer, random_rows(0), noise=0.0)
    for gap, weight in ((3.0, 2.0), (-3.0, 0.0498), (0.5, 1.6487)):
        apart = [row._replace(log_probs=tuple([value - gap for value in row.log_probs])) for row in rows]
        found = trainer.update(apart, rate=0.0, entropy=0.0, seed=0)
        assert found["importance_weight"] == pytest.approx(weight, rel=1e-3)
        assert found["mismatch"] == pytest.approx(abs(gap), rel=1e-3)
        assert found["mismatch_max"] == pytest.approx(abs(gap), rel=1e-3)
        assert found["effective_sample_size"] == pytest.approx(1.0, rel=1e-3), "all weigh alike"


def test_the_effective_sample_size_falls_as_weights_part(make: Make) -> None:
    trainer = make()
    sizes = []
    for noise in (0.0, 0.5, 1.5):
        rows = sampled_by(trainer, random_rows(0), noise)
        sizes.append(trainer.update(rows, rate=0.0, entropy=0.0, seed=0)["effective_sample_size"])
    assert 1.001 > sizes[0] > sizes[1] > sizes[2] > 0


# -- looking without touching -----------------------------------------------------------------------------------------


def test_divergence_is_zero_until_something_was_learnt(make: Make) -> None:
    """B is zero, so the policy is the base; whatever is learnt moves it away."""
    trainer = make(scale=0.0)
    rows = sampled_by(trainer, random_rows(0), noise=0.0)
    assert trainer.divergence(rows) == 0
    trainer.update(rows, rate=0.01, entropy=0.0, seed=0)
    assert trainer.divergence(rows) != 0


def test_divergence_is_the_mean_difference_written_out(make: Make) -> None:
    trainer = make(scale=0.5)
    rows = random_rows(0)
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row.tokens])
            with trainer.model.disable_adapter():
                base = (trainer.model(input_ids=ids).logits[0] / TEMPERATURE).log_softmax(-1)
            own = (trainer.model(input_ids=ids).logits[0] / TEMPERATURE).log_softmax(-1)
            for place in row.at:
                total += float(own[place - 1, row.tokens[place]] - base[place - 1, row.tokens[place]])
                count += 1
    assert trainer.divergence(rows) == pytest.approx(total / count, rel=1e-4)


def test_divergence_looks_at_so_many_rows(make: Make) -> None:
    """Taken from all over the batch."""
    trainer = make(scale=0.5, kl_rows=3)
    rows = random_rows(0)
    assert trainer.divergence(rows) == pytest.approx(trainer.divergence([rows[0], rows[4], rows[8]]))
    assert trainer.divergence(rows) != pytest.approx(trainer.divergence(rows[:3]))


def test_scores_are_those_of_the_written_tokens(make: Make) -> None:
    trainer = make()
    rows = random_rows(4)
    found = trainer.scored(rows)
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row.tokens])
            plain = (trainer.model(input_ids=ids).logits[0] / TEMPERATURE).log_softmax(-1)
            assert found[id(row)].shape == (len(row.tokens) - 1,)
            for place in row.at:
                value = float(found[id(row)][place - 1])
                assert value == pytest.approx(float(plain[place - 1, row.tokens[place]]), abs=1e-4)


def test_a_probe_is_what_a_sampler_has_to_reproduce(make: Make) -> None:
    """A figure for each token but the first, at temperature 1; the base's differ once B is not zero."""
    trainer = make()
    found = probe(trainer.model, TEXTS, lora.bound_modules(trainer.model))
    assert found.texts == TEXTS
    assert found.modules == MODULES
    assert found.tolerance == TOLERANCE_FP32
    for scores in (found.expected, found.base):
        assert [len(line) for line in scores] == [4, 2]
    plain = trainer.model(input_ids=torch.tensor([TEXTS[0]])).logits[0].detach().log_softmax(-1)
    wanted = [float(plain[place - 1, TEXTS[0][place]]) for place in range(1, 5)]
    assert found.expected[0] == pytest.approx(wanted, abs=1e-5)
    apart = [
        abs(a - b)
        for one, other in zip(found.expected, found.base, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    assert max(apart) > 10 * TOLERANCE_FP32
    same = probe(make(scale=0.0).model, TEXTS, MODULES)
    assert same.expected == same.base


def test_the_base_s_scores_are_computed_once_for_the_same_texts(make: Make) -> None:
    model = make().model
    first = probe(model, TEXTS, MODULES)
    marked = replace(first, base=((0.5,) * 4, (0.5,) * 2))
    assert probe(model, TEXTS, MODULES, marked).base == marked.base
    assert probe(model, TEXTS[::-1], MODULES, marked).base == first.base[::-1]


def test_looking_touches_nothing(make: Make) -> None:
    """Neither weights nor gradients, nor whether the model is in training."""
    trainer, other = make(), make()
    rows = random_rows(0)
    before = weights(trainer)
    trainer.model.eval()
    for is_training in (False, True):
        trainer.model.train(is_training)
        probe(trainer.model, TEXTS, MODULES)
        trainer.divergence(rows)
        trainer.scored(rows)
        assert trainer.model.training == is_training
    assert all(torch.equal(before[name], weight) for name, weight in weights(trainer).items())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert trainer.update(rows, 0.01, 0.1, 0) == other.update(rows, 0.01, 0.1, 0)


# -- the adapter as the learner makes it ------------------------------------------------------------------------------


def test_an_adapter_begins_as_nothing_and_is_the_seed_s(base: Path) -> None:
    """On every linear layer but the head, in the base's precision, B at zero."""

    def built(seed: int) -> PeftModel:
        return lora.with_adapter(lora.load_base(str(base), "cpu"), rank=4, alpha=8, seed=seed)

    one, two, other = built(0), built(0), built(1)
    assert lora.bound_modules(one) == MODULES
    names = [name for name, weight in one.named_parameters() if weight.requires_grad]
    assert len(names) == 2 * MODULES
    assert not [name for name in names if "lm_head" in name]
    differ = False
    for name in names:
        weight = one.get_parameter(name)
        assert weight.dtype == torch.float32
        assert torch.equal(weight, two.get_parameter(name))
        assert ".lora_A." in name or not weight.any()
        differ = differ or not torch.equal(weight, other.get_parameter(name))
    assert differ
