"""On one batch, the update's loss and gradients are those of TRL's own trainer; choices are a masked softmax.

Theirs sees the batch as their loop would make it: one micro-batch, openings padded on the left and the rest on the
right, the head on all of it. Ours goes its usual way: rows by length in several micro-batches, accumulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from trl import GRPOConfig, GRPOTrainer

from chaosops_ray.config import Learner
from chaosops_ray.learner.batch import Row, padded
from tests.support.models import VOCABULARY, small_model, small_peft
from tests.support.trainers import (
    HARMLESS,
    LONGEST,
    TEMPERATURE,
    Watched,
    gradients,
    random_rows,
    sampled_by,
    tokenizer,
)

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

LOSSES = ("dapo", "dr_grpo", "grpo", "gspo", "cispo")
Fresh = Callable[[], PeftModel]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """The same policy anew, its adapter not zero."""
    path = small_model(tmp_path_factory.mktemp("base"))
    return lambda: small_peft(path, seed=1, scale=0.1)


def settings(**given: object) -> Learner:
    """Small micro-batches, and no clipping of the gradient, so that what is stepped on is what was summed up."""
    small = {
        "tokens_per_forward": 128,
        "gradient_norm": 1e9,
        "checkpointing": False,
        "clip_low": 0.1,
        "clip_high": 0.15,
    }
    return Learner.model_validate({**small, **given})


# -- theirs -----------------------------------------------------------------------------------------------------------


def stock(model: PeftModel, chosen: Learner, entropy: float, scratch: Path) -> GRPOTrainer:
    """TRL's trainer, with nothing of ours in it."""
    arguments = GRPOConfig(
        output_dir=str(scratch),
        loss_type="grpo" if chosen.loss == "gspo" else chosen.loss,
        importance_sampling_level="sequence" if chosen.loss == "gspo" else "token",
        epsilon=chosen.clip_low,
        epsilon_high=1 + chosen.clip_high if chosen.loss == "cispo" else chosen.clip_high,
        beta=chosen.kl_coefficient,
        entropy_coef=entropy,
        temperature=TEMPERATURE,
        max_completion_length=LONGEST,
        num_generations=2,
        per_device_train_batch_size=2,
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
        processing_class=tokenizer(),
    )
    trainer.use_vllm = True  # otherwise it would take no notice of the sampler's log-probabilities
    trainer.current_gradient_accumulation_steps = 1  # as its loop does
    trainer.model.train()
    return trainer


def left(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """Padded with zeros on the left."""
    width = max(len(row) for row in rows)
    return torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])


def right(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """Padded with zeros on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([list(row) + [0] * (width - len(row)) for row in rows])


def spread(row: Row, values: Sequence[float]) -> list[float]:
    """One value for each token after the opening: the row's where it was written, else 0."""
    found = dict(zip(row.at, values, strict=True))
    return [found.get(place, 0.0) for place in range(row.at[0], len(row.tokens))]


def inputs(trainer: GRPOTrainer, rows: Sequence[Row], chosen: Learner) -> dict[str, torch.Tensor]:
    """The batch as `_generate_and_score_completions` would hand it to the loss."""
    openings = [row.tokens[: row.at[0]] for row in rows]
    rest = [row.tokens[row.at[0] :] for row in rows]
    found = {
        "prompt_ids": left(openings),
        "prompt_mask": left([[1] * len(part) for part in openings]),
        "completion_ids": right(rest),
        "completion_mask": right([[1] * len(part) for part in rest]),
        "tool_mask": right([spread(row, [1.0] * len(row.at)) for row in rows]),
        "advantages": right([spread(row, row.advantages) for row in rows]),
    }
    mask = found["completion_mask"] * found["tool_mask"]
    found["num_items_in_batch"] = mask.sum()
    sampled = right([spread(row, row.log_probs) for row in rows])
    ids = torch.cat([found["prompt_ids"], found["completion_ids"]], dim=1)
    attention = torch.cat([found["prompt_mask"], found["completion_mask"]], dim=1)
    width = found["completion_ids"].shape[1]
    with torch.no_grad():
        scored, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, attention, width)
        old = scored if chosen.recompute else sampled
        found["old_per_token_logps"] = old
        found["importance_sampling_ratio"] = ((old - sampled) * mask).exp().clamp(max=chosen.importance_cap)
        if chosen.kl_coefficient:
            with trainer.model.disable_adapter():
                base, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, attention, width)
            found["ref_per_token_logps"] = base
    return found


# -- the same ---------------------------------------------------------------------------------------------------------


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Within 1e-5 of the largest gradient there is."""
    assert ours.keys() == theirs.keys()
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert scale > 1e-3, "a batch without gradients shows nothing"
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    assert apart <= 1e-5 * max(1.0, scale), f"{apart} apart, of {scale}"


CASES = [(loss, recompute, 0.0, 0.0) for loss in LOSSES for recompute in (True, False)]
CASES += [(loss, False, 0.3, 0.0) for loss in ("dapo", "gspo")]
CASES += [(loss, True, 0.0, 0.5) for loss in LOSSES]


@pytest.mark.parametrize(("loss", "recompute", "kl", "entropy"), CASES)
def test_an_update_is_trl_s_own(
    fresh: Fresh, tmp_path: Path, loss: str, recompute: bool, kl: float, entropy: float
) -> None:
    chosen = settings(loss=loss, recompute=recompute, kl_coefficient=kl)
    ours = Watched(fresh(), chosen, tmp_path)
    rows = sampled_by(ours, random_rows(3), noise=0.6)
    figures = ours.update(rows, rate=0.0, entropy=entropy, seed=0)
    assert len(ours.losses) > 3, "several micro-batches"
    assert len(ours.seen) == 1

    theirs = stock(fresh(), chosen, entropy, tmp_path)
    loss_of_theirs = theirs.compute_loss(theirs.model, inputs(theirs, rows, chosen))
    loss_of_theirs.backward()
    assert sum(ours.losses) == pytest.approx(float(loss_of_theirs.detach()), abs=1e-5, rel=1e-5)
    assert_same(ours.seen[0], gradients(theirs.model))

    measured = theirs._metrics["train"]
    assert figures["entropy"] == pytest.approx(measured["entropy"][0], rel=1e-4)
    names = {"cispo_clip_ratio": "clipped_high"} if loss == "cispo" else CLIPPED
    for name, own in names.items():
        assert figures[own] == pytest.approx(measured[name][0], abs=1e-4)
    assert (figures["clipped_high"] > 0) == (not recompute), "a batch that was not scored again reaches into clipping"


CLIPPED = {"clip_ratio/low_mean": "clipped_low", "clip_ratio/high_mean": "clipped_high"}


def test_checkpointing_changes_nothing_but_memory(fresh: Fresh, tmp_path: Path) -> None:
    """Layers really are computed again in the backward pass, to the same gradients."""
    kept, again = (Watched(fresh(), settings(checkpointing=given), tmp_path) for given in (False, True))
    rows = sampled_by(kept, random_rows(3), noise=0.6)
    calls = {}
    for trainer in (kept, again):
        layer = trainer.model.get_base_model().model.layers[0]
        counted: list[int] = []
        layer.self_attn.register_forward_hook(lambda *_, counted=counted: counted.append(1))
        trainer.update(rows, rate=0.0, entropy=0.1, seed=0)
        calls[trainer] = len(counted)  # none of them for a pass that would score the rows first
    assert calls[kept] == len(kept.losses)
    assert calls[again] == 2 * len(again.losses)
    assert_same(again.seen[0], kept.seen[0])


# -- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_a_token_that_has_moved_far_enough_is_left_alone(fresh: Fresh, tmp_path: Path, sign: int) -> None:
    """The same row in both steps of an update: the first moves it beyond the clip range, the second does nothing."""
    row = Row((3, 1, 4, 1, 5, 9), (5,), (0.0,), (float(sign),))
    figures, norms = {}, {}
    for clip_low, clip_high in ((0.1, 0.15), (0.999, 1e6)):
        chosen = settings(loss="dapo", steps=2, clip_low=clip_low, clip_high=clip_high)
        trainer = Watched(fresh(), chosen, tmp_path)
        figures[clip_high] = trainer.update([row, row._replace()], rate=0.01, entropy=0.0, seed=0)
        norms[clip_high] = [sum(float(found.norm()) for found in step.values()) for step in trainer.seen]
    first, second = norms[0.15]
    assert first > 0
    assert second == 0
    assert figures[0.15]["clipped_high" if sign > 0 else "clipped_low"] == 0.5
    assert norms[1e6][0] == first
    assert norms[1e6][1] > 0
    assert figures[1e6]["clipped_high"] == figures[1e6]["clipped_low"] == 0


def test_only_the_tokens_that_moved_are_clipped(fresh: Fresh, tmp_path: Path) -> None:
    """A batch in which some tokens lie beyond the range gives the gradient of the others, with these at advantage 0."""
    trainer = Watched(fresh(), settings(loss="dapo", recompute=False), tmp_path)
    rows = sampled_by(trainer, random_rows(5), noise=0.0)
    moved, still = [], []
    for row in rows:
        values = zip(row.log_probs, row.advantages, strict=True)
        # Every other token: a ratio of e or 1/e, in the direction that its advantage wanted.
        far = [odd - (1.0 if wanted > 0 else -1.0) for odd, wanted in values]
        moved.append(row._replace(log_probs=tuple([far[i] if i % 2 else odd for i, odd in enumerate(row.log_probs)])))
        still.append(row._replace(advantages=tuple([0.0 if i % 2 else a for i, a in enumerate(row.advantages)])))
    trainer.update(moved, rate=0.0, entropy=0.0, seed=0)
    trainer.update(still, rate=0.0, entropy=0.0, seed=0)
    assert_same(*trainer.seen)


# -- choices ----------------------------------------------------------------------------------------------------------


def scored(trainer: Watched, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of one micro-batch, as the loss gets them."""
    micro = padded(rows, trainer.pad)
    trainer._now = micro
    width = micro.ids.shape[1] - 1
    return trainer._get_per_token_logps_and_entropies(trainer.model, micro.ids, micro.attention, width)[:2]


def plainly(model: PeftModel, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of one row, written out: a softmax over what was allowed."""
    assert row.allowed is not None
    logits = model(input_ids=torch.tensor([row.tokens])).logits[0] / TEMPERATURE
    log_probs, entropies = [], []
    for place, line in zip(row.at, row.allowed, strict=True):
        keep = torch.full((VOCABULARY,), -torch.inf)
        keep[list(line)] = 0.0
        among = (logits[place - 1] + keep).log_softmax(-1)
        log_probs.append(among[row.tokens[place]])
        entropies.append(-sum(among[token].exp() * among[token] for token in line))
    return torch.stack(log_probs), torch.stack(entropies)


def test_choices_are_a_masked_softmax(fresh: Fresh, tmp_path: Path) -> None:
    rows = random_rows(7, choices=6)
    assert any(len(line) == 1 for row in rows for line in row.allowed or ()), "a choice of one is among them"
    trainer = Watched(fresh(), settings(), tmp_path)
    log_probs, entropies = scored(trainer, rows)
    other = fresh()
    plain = [plainly(other, row) for row in rows]
    for i, (row, (expected, spread_out)) in enumerate(zip(rows, plain, strict=True)):
        at = torch.tensor(row.at) - 1
        assert torch.allclose(log_probs[i, at], expected, atol=1e-5)
        assert torch.allclose(entropies[i, at], spread_out, atol=1e-5)
    written = sum(len(row.at) for row in rows)
    assert int(log_probs.count_nonzero()) <= written, "nothing is scored where nothing was written"
    # Weights that are no symmetry of anything, so that a token in a wrong place would show.
    weights = [torch.linspace(-1, 2, len(row.at)) for row in rows]
    for i, (row, weight) in enumerate(zip(rows, weights, strict=True)):
        at = torch.tensor(row.at) - 1
        ((log_probs[i, at] + 0.5 * entropies[i, at]) * weight).sum().backward(retain_graph=True)
    sum(((one + 0.5 * two) * weight).sum() for (one, two), weight in zip(plain, weights, strict=True)).backward()
    assert_same(gradients(trainer.model), gradients(other))


@pytest.mark.parametrize("loss", ["dapo", "gspo"])
def test_a_choice_among_everything_is_no_choice(fresh: Fresh, tmp_path: Path, loss: str) -> None:
    free, choosing = (Watched(fresh(), settings(loss=loss), tmp_path) for _ in range(2))
    rows = sampled_by(free, random_rows(9), noise=0.6)
    everything = tuple(range(VOCABULARY))
    first = free.update(rows, rate=0.0, entropy=0.2, seed=0)
    wide = [row._replace(allowed=(everything,) * len(row.at)) for row in rows]
    second = choosing.update(wide, rate=0.0, entropy=0.2, seed=0)
    assert first == pytest.approx(second, rel=1e-4, abs=1e-5)
    assert free.losses == pytest.approx(choosing.losses, abs=1e-5)
    assert_same(choosing.seen[0], free.seen[0])
