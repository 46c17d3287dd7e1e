"""Whole actions: what an update does with them is what plain loops over each choice by itself give.

The plain computation reads prompt and choice in one text of its own, for each choice, with the ordinary mask.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from chaosops_ray.config import Learner
from chaosops_ray.learner import grpo
from chaosops_ray.learner.batch import Row, padded
from chaosops_ray.learner.batch import rows as batch_rows
from chaosops_ray.learner.probe import TOLERANCE_FP32
from chaosops_ray.store import versions
from chaosops_ray.wire import ChoiceScore, Decoding, Group, SampleRequest, Task, Trajectory, Turn
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import VOCABULARY, publish, small_model, small_peft
from tests.support.trainers import HARMLESS, TEMPERATURE, Watched, choosing_rows, gradients, sampled_by

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

Fresh = Callable[[], PeftModel]
CLIP_LOW, CLIP_HIGH, CAP = 0.1, 0.15, 2.0


def llama(folder: Path) -> Path:
    """A Llama of random weights, with grouped keys and values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
                bos_token_id=None, eos_token_id=None, initializer_range=0.2,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[small_model, llama], ids=["qwen2", "llama"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("base"))
    return made


@pytest.fixture
def fresh(base: Path) -> Fresh:
    """The same policy each time, its adapter not zero."""
    return lambda: small_peft(base, seed=1, scale=0.1)


def settings(**given: object) -> Learner:
    """Small micro-batches, and no clipping of the gradient."""
    small = {"tokens_per_forward": 128, "gradient_norm": 1e9, "checkpointing": False, "importance_cap": CAP}
    return Learner.model_validate({**small, "clip_low": CLIP_LOW, "clip_high": CLIP_HIGH, **given})


class Plain(NamedTuple):
    """One row's figures, a decision each."""

    log_probs: torch.Tensor
    entropies: torch.Tensor


def plainly(model: PeftModel, row: Row, score: ChoiceScore = "mean") -> Plain:
    """Each choice of each turn by itself, behind the transcript so far."""
    log_probs, entropies = [], []
    for start, decision in zip(row.at, row.choices or (), strict=True):
        scores = []
        for choice in decision.tree.choices:
            ids = torch.tensor([[*row.tokens[:start], *choice]])
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, start - 1 : -1].log_softmax(-1)
            picked = torch.stack([found[place, token] for place, token in enumerate(choice)])
            scores.append(picked.mean() if score == "mean" else picked.sum())
        among = (torch.stack(scores) / TEMPERATURE).log_softmax(-1)
        log_probs.append(among[decision.chosen])
        entropies.append(-(among.exp() * among).sum())
    return Plain(torch.stack(log_probs), torch.stack(entropies))


def scored(trainer: Watched, rows: Sequence[Row]) -> list[Plain]:
    """Log-probabilities and entropies of one micro-batch, as the loss gets them."""
    micro = padded(rows, trainer.pad)
    trainer._now = micro
    width = micro.ids.shape[1] - 1
    found = trainer._get_per_token_logps_and_entropies(trainer.model, micro.ids, micro.attention, width)
    places = [torch.tensor(row.at) - 1 for row in rows]
    assert int((found[0] != 0).sum()) <= sum([len(row.at) for row in rows])
    return [Plain(found[0][i, at], found[1][i, at]) for i, at in enumerate(places)]


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Within 1e-5 of the largest gradient there is."""
    assert ours.keys() == theirs.keys()
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert scale > 1e-3, "a batch without gradients shows nothing"
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    assert apart <= 1e-5 * max(1.0, scale), f"{apart} apart, of {scale}"


@pytest.mark.parametrize("score", ["mean", "sum"])
def test_scores_entropies_and_gradients_are_those_of_each_choice_by_itself(
    fresh: Fresh, tmp_path: Path, score: ChoiceScore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of different lengths side by side, the head in several parts."""
    monkeypatch.setattr(grpo, "_LOGITS_AT_ONCE", 7 * VOCABULARY)
    rows = choosing_rows(3)
    trainer, other = Watched(fresh(), settings(), tmp_path, choice_score=score), fresh()
    ours, theirs = scored(trainer, rows), [plainly(other, row, score) for row in rows]
    weights = [torch.linspace(-1, 2, len(row.at)) for row in rows]
    for found, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(found.log_probs, expected.log_probs, atol=1e-5)
        assert torch.allclose(found.entropies, expected.entropies, atol=1e-5)
    for figures in (ours, theirs):
        terms = [((one + 0.5 * two) * weight).sum() for (one, two), weight in zip(figures, weights, strict=True)]
        torch.stack(terms).sum().backward()
    assert_same(gradients(trainer.model), gradients(other))


def loss_of(model: PeftModel, rows: Sequence[Row], chosen: Learner, entropy: float) -> tuple[torch.Tensor, list[Plain]]:
    """The loss of all rows as one batch, written out; one decision is one item of it."""
    found = [plainly(model, row) for row in rows]
    with torch.no_grad(), model.disable_adapter():
        base = [plainly(model, row).log_probs for row in rows]
    per_row = []
    for row, now, reference in zip(rows, found, base, strict=True):
        sampled, wanted = torch.tensor(row.log_probs), torch.tensor(row.advantages)
        old = now.log_probs.detach() if chosen.recompute else sampled
        gap = now.log_probs - old
        ratio = (gap.mean().expand_as(gap) if chosen.loss == "gspo" else gap).exp()
        if chosen.loss == "cispo":
            terms = -ratio.clamp(max=1 + CLIP_HIGH).detach() * wanted * now.log_probs
        else:
            terms = -torch.minimum(ratio * wanted, ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * wanted)
        terms = terms * (old - sampled).exp().clamp(max=CAP)
        away = reference - now.log_probs
        # TRL weighs the divergence by the ratio, too.
        per_row.append(terms + chosen.kl_coefficient * (away.exp() - away - 1) * ratio)
    if chosen.loss in ("grpo", "gspo"):
        policy = torch.stack([terms.mean() for terms in per_row]).mean()
    elif chosen.loss == "dr_grpo":
        policy = torch.stack([terms.sum() for terms in per_row]).mean()
    else:
        policy = torch.cat(per_row).mean()
    return policy - entropy * torch.cat([now.entropies for now in found]).mean(), found


CASES = [(loss, True, 0.0, 0.5) for loss in ("dapo", "dr_grpo", "grpo", "cispo")]
CASES += [("dapo", False, 0.3, 0.2), ("gspo", False, 0.3, 0.0)]


@pytest.mark.parametrize(("loss", "recompute", "kl", "entropy"), CASES)
def test_an_update_is_the_loss_written_out(
    fresh: Fresh, tmp_path: Path, loss: str, recompute: bool, kl: float, entropy: float
) -> None:
    chosen = settings(loss=loss, recompute=recompute, kl_coefficient=kl)
    # Rows of whole actions are padded, also where other rows would be packed.
    ours, other = Watched(fresh(), chosen, tmp_path, packs=recompute), fresh()
    rows = sampled_by(ours, choosing_rows(5), noise=0.6)
    figures = ours.update(rows, rate=0.0, entropy=entropy, seed=0)
    assert len(ours.losses) > 2, "several micro-batches"
    total, found = loss_of(other, rows, chosen, entropy)
    total.backward()
    assert sum(ours.losses) == pytest.approx(float(total.detach()), abs=1e-5, rel=1e-5)
    assert_same(ours.seen[0], gradients(other))
    assert figures["entropy"] == pytest.approx(
        float(torch.cat([now.entropies for now in found]).detach().mean()), rel=1e-4
    )
    gaps = torch.cat(
        [now.log_probs.detach() - torch.tensor(row.log_probs) for now, row in zip(found, rows, strict=True)]
    )
    assert figures["mismatch"] == pytest.approx(float(gaps.abs().mean()), rel=1e-4)
    assert figures["mismatch_max"] == pytest.approx(float(gaps.abs().max()), rel=1e-4)


def test_checkpointing_changes_nothing_but_memory(fresh: Fresh, tmp_path: Path) -> None:
    kept, again = (Watched(fresh(), settings(checkpointing=given), tmp_path) for given in (False, True))
    rows = sampled_by(kept, choosing_rows(3), noise=0.6)
    for trainer in (kept, again):
        trainer.update(rows, rate=0.0, entropy=0.1, seed=0)
    assert_same(again.seen[0], kept.seen[0])


@pytest.mark.parametrize("score", ["mean", "sum"])
def test_learner_and_engine_agree_on_what_was_chosen(
    fresh: Fresh, base: Path, tmp_path: Path, score: ChoiceScore
) -> None:
    """Turn after turn, in rows side by side, at the tolerance within which a version is proven."""
    version = publish(fresh(), tmp_path / "adapters", 1, versions.base_digest(base), "small")
    sampler = TorchSampler(base, threads=1, device="cpu")
    asyncio.run(sampler.adopt(version))
    draw = random.Random(1)
    decoding = Decoding(TEMPERATURE, 8, (9,), score)
    turns: list[list[Turn]] = [[] for _ in range(4)]
    texts = [tuple([draw.randrange(10, VOCABULARY) for _ in range(draw.randint(3, 30))]) for _ in turns]
    for turn in range(3):
        offered = [actions(draw) for _ in turns]
        asked = [SampleRequest(row, text, 9 * turn + row, offered[row]) for row, text in enumerate(texts)]
        for row, sample in enumerate(asyncio.run(sampler.sample("cohort", asked, decoding, 1))):
            start, end = len(texts[row]), len(texts[row]) + len(sample.tokens)
            turns[row].append(Turn(start, end, sample.log_probs, {}, 1, sample.digest, offered[row]))
            texts[row] += (*sample.tokens, *[draw.randrange(10, VOCABULARY) for _ in range(draw.randint(1, 9))])
    trajectories = tuple([Trajectory("sre", row, texts[row], tuple(own)) for row, own in enumerate(turns)])
    group = Group(Task("t", "incident/cascade/hard/0", "strict", 4, 0), trajectories, (), 1)
    found = batch_rows([group], [[(1.0,) * 3] * 4])
    trainer = Watched(fresh(), settings(), tmp_path, choice_score=score)
    scored_again = trainer.scored(found)
    for row in found:
        again = scored_again[id(row)][torch.tensor(row.at) - 1].tolist()
        assert len(again) == 3
        assert list(row.log_probs) == pytest.approx(again, abs=TOLERANCE_FP32 / 20)


def actions(draw: random.Random) -> tuple[tuple[int, ...], ...]:
    """Actions as a tokenizer of byte pairs spells them: common beginnings, all lengths, one goes on where another ends."""
    stem = tuple([draw.randrange(10, VOCABULARY) for _ in range(2)])
    tails = [tuple([draw.randrange(10, VOCABULARY) for _ in range(draw.randint(0, 4))]) for _ in range(5)]
    return ((*stem, 9), (12, 9), *[(*stem, *tail, 9) for tail in tails], (*stem, *tails[0]))
