"""Fine-tuning towards distributions: the loss, what it is taken on, and that it leads there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from chaosops_ray.learner import sft
from chaosops_ray.learner.sft import Row, Settings, Target
from chaosops_ray.store import versions
from tests.support.models import chat_model
from tests.support.toy_world import TOY

SETTINGS = Settings(
    steps=2, rows=4, learning_rate=1e-2, rank=8, tokens_per_forward=64, checkpointing=False, threads=1, seed=0
)
# After the same prompt, one of two completions: 5 9, or 6 7 8.
PROMPT, SHORT, LONG = (1, 2, 3), (5, 9), (6, 7, 8)
DRAWN_SHORT = Row((*PROMPT, *SHORT), 1, (Target(3, (5, 6), (0.25, 0.75)), Target(4, (9,), (1.0,))))
DRAWN_LONG = Row(
    (*PROMPT, *LONG), 1, (Target(3, (5, 6), (0.25, 0.75)), Target(4, (7,), (1.0,)), Target(5, (8,), (1.0,)))
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model"), TOY, "strict", "compact")


def trainer(kind: type[SFTTrainer], model: Path, scratch: Path) -> SFTTrainer:
    arguments = SFTConfig(
        output_dir=str(scratch),
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    return kind(
        model=sft.loaded(model),
        args=arguments,
        data_collator=sft.collate,
        train_dataset=sft.Dataset.from_list([sft.example(DRAWN_SHORT)]),
        processing_class=PreTrainedTokenizerFast.from_pretrained(model),
    )


def batch(*rows: Row) -> dict[str, Any]:
    return sft.collate([sft.example(row) for row in rows])


def test_labels_are_the_tokens_of_completions_and_nothing_else() -> None:
    found = batch(DRAWN_SHORT, DRAWN_LONG)
    assert found["labels"].tolist() == [[-100, -100, -100, 5, 9, -100], [-100, -100, -100, 6, 7, 8]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    assert found["at"].tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [1, 4]]
    assert found["completions"] == 2


def test_the_loss_is_the_cross_entropy_to_the_shares(model: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        found = trainer(sft.DistributionTrainer, model, tmp_path).compute_loss(sft.loaded(model), batch(DRAWN_SHORT))
        log_probs = sft.loaded(model)(input_ids=torch.tensor([DRAWN_SHORT.tokens])).logits[0].log_softmax(-1)
    by_hand = -(0.25 * log_probs[2, 5] + 0.75 * log_probs[2, 6] + log_probs[3, 9]) / 2
    assert float(found) == pytest.approx(float(by_hand), rel=1e-5)


def test_with_certain_tokens_loss_and_gradients_are_those_of_trl(model: Path, tmp_path: Path) -> None:
    certain = [
        Row(row.tokens, 1, tuple([Target(target.at, (row.tokens[target.at],), (1.0,)) for target in row.targets]))
        for row in (DRAWN_SHORT, DRAWN_LONG)
    ]
    found = []
    for kind in (sft.DistributionTrainer, SFTTrainer):
        made = trainer(kind, model, tmp_path)
        inputs = batch(*certain)
        if kind is SFTTrainer:
            inputs = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        loss = made.compute_loss(made.model, inputs, num_items_in_batch=torch.tensor(7))
        loss.backward()
        found.append((float(loss.detach()), made.model.model.layers[0].mlp.up_proj.weight.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_it_comes_to_the_distribution_and_the_folder_holds_it(model: Path, tmp_path: Path) -> None:
    rows = [DRAWN_SHORT, DRAWN_LONG, DRAWN_LONG, DRAWN_LONG] * 30
    seen: list[tuple[int, float]] = []
    trained, curve = sft.fine_tuned(
        model, rows, SETTINGS._replace(steps=30), lambda done, apart: seen.append((done, apart))
    )
    assert [done for done, _ in seen] == list(range(1, 31))
    assert [apart for _, apart in seen] == curve
    assert curve[0] > 3
    assert curve[-1] < 0.05
    sft.save(trained, model, tmp_path)
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    found = sft.scores(sft.loaded(tmp_path), PROMPT, [SHORT, LONG, (4, 4)], 1000)
    assert torch.tensor(found).exp().tolist() == pytest.approx([0.25, 0.75, 0.0], abs=0.06)


def test_checkpointing_and_the_number_of_forward_passes_change_nothing(model: Path) -> None:
    rows = [DRAWN_SHORT, DRAWN_LONG] * 4
    curves = [
        sft.fine_tuned(model, rows, SETTINGS._replace(**changed), lambda *_: None)[1]
        for changed in ({}, {"checkpointing": True}, {"tokens_per_forward": 12})
    ]
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], rel=1e-4)


def test_nothing_is_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sft.fine_tuned(model, [DRAWN_SHORT] * 8, SETTINGS, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        trained, _ = sft.fine_tuned(model, [DRAWN_SHORT, DRAWN_LONG] * 4, SETTINGS._replace(seed=seed), lambda *_: None)
        sft.save(trained, model, tmp_path / name)
        digests.append(versions.base_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("size", [1, 12, 1000])
def test_scores_are_those_of_whole_texts(model: Path, size: int) -> None:
    loaded = sft.loaded(model)
    for choice, score in zip((SHORT, LONG), sft.scores(loaded, PROMPT, (SHORT, LONG), size), strict=True):
        ids = torch.tensor([[*PROMPT, *choice]])
        with torch.no_grad():
            log_probs = loaded(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        assert score == pytest.approx(float(log_probs[len(PROMPT) - 1 :].sum()), abs=1e-4)


@pytest.mark.parametrize(("limit", "size"), [(5, 1), (11, 1), (12, 2), (23, 2), (24, 4), (10_000, 4)])
def test_a_forward_pass_takes_as_many_rows_as_fit_and_divide_a_step(limit: int, size: int) -> None:
    rows = [DRAWN_SHORT, DRAWN_LONG]
    assert sft.rows_per_forward(rows, SETTINGS._replace(tokens_per_forward=limit)) == size


def test_a_loss_that_is_no_number_ends_the_fine_tuning(model: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        sft.fine_tuned(model, [DRAWN_SHORT] * 80, SETTINGS._replace(steps=20, learning_rate=1e30), lambda *_: None)
