"""Rows in a line, their openings computed once, give the loss and the gradients of padded rows."""

from __future__ import annotations

import random
from itertools import chain
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.config import Learner
from chaosops_ray.learner import packing
from chaosops_ray.learner.batch import Row
from chaosops_ray.learner.packing import Family, can_pack, families, laid_out, lines
from tests.support.models import small_model, small_peft
from tests.support.trainers import HARMLESS, Watched, random_row, random_rows, sampled_by

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base"))


def group_rows(seed: int, groups: int = 3, size: int = 4, opening: int = 30, choices: int | None = None) -> list[Row]:
    """Groups whose members begin alike and go on each in its own way."""
    draw = random.Random(seed)
    found = []
    for _ in range(groups):
        begun = tuple([draw.randrange(1, 64) for _ in range(opening)])
        for _ in range(size):
            row = random_row(draw, 3, draw.choice((1, 2, 5)), choices)
            at = tuple([opening + place for place in row.at])
            found.append(row._replace(tokens=(*begun, *row.tokens), at=at))
    draw.shuffle(found)
    return found


def row(*tokens: int, at: int | None = None) -> Row:
    place = len(tokens) - 1 if at is None else at
    return Row(tokens, (place,), (0.0,), (1.0,))


# -- families and lines -----------------------------------------------------------------------------------------------


def test_a_family_shares_what_comes_before_the_token_that_the_first_written_one_is_predicted_from() -> None:
    rows = group_rows(0, groups=1)
    (family,) = families(rows)
    assert sorted(family.members) == sorted(rows)
    first = min([one.at[0] for one in rows])
    assert 30 <= family.shared <= first - 1
    assert len({one.tokens[: family.shared] for one in rows}) == 1


def test_the_same_row_twice_shares_no_more_than_that() -> None:
    tokens = tuple(range(1, 31))
    (family,) = families([row(*tokens, at=20), row(*tokens, at=25)])
    assert family.shared == 19


def test_groups_with_the_same_system_prompt_are_not_mixed_where_their_own_openings_save_more() -> None:
    prompt = tuple(range(1, 21))
    rows = [row(*prompt, *[group] * 20, 50 + member, 9) for group in (30, 31) for member in range(4)]
    assert [(family.shared, len(family.members)) for family in families(rows)] == [(40, 4), (40, 4)]


def test_a_short_opening_is_not_shared() -> None:
    rows = [row(*range(1, 12), 40 + member, 9) for member in range(4)]
    assert [family.shared for family in families(rows)] == [0] * 4


@pytest.mark.parametrize("budget", [64, 100, 200, 10_000])
def test_lines_hold_every_row_once_and_no_more_than_the_budget(budget: int) -> None:
    rows = group_rows(1) + random_rows(2)
    found = list(lines(rows, budget))
    members = [one for line in found for family in line for one in family.members]
    assert sorted(map(id, members)) == sorted(map(id, rows))
    for line in found:
        size = laid_out(line).ids.shape[1]
        assert size <= budget or [len(family.members) for family in line] == [1]
        assert size == sum([f.shared + sum([len(one.tokens) - f.shared for one in f.members]) for f in line])
        assert all(family.shared == 0 for family in line if len(family.members) == 1)


def test_the_index_finds_every_token_and_its_place() -> None:
    (line,) = lines(group_rows(1) + random_rows(2), 10_000)
    found = laid_out(line)
    for number, one in enumerate(chain.from_iterable([family.members for family in line])):
        places = found.where[number, : len(one.tokens)]
        assert found.ids[0, places].tolist() == list(one.tokens)
        assert found.positions[0, places].tolist() == list(range(len(one.tokens)))


# -- the same loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [None, 8])
@pytest.mark.parametrize("checkpointed", [0, 1])
@pytest.mark.parametrize("recompute", [True, False])
def test_gradients_and_figures_are_those_of_padded_rows(
    base: Path, tmp_path: Path, choices: int | None, checkpointed: int, recompute: bool
) -> None:
    settings = Learner.model_validate(
        {"tokens_per_forward": 300, "lora_rank": 4, "gradient_norm": 1e9, "recompute": recompute, "steps": 2}
    )
    padded, packed = (
        Watched(small_peft(base, seed=1, scale=0.1), settings, tmp_path, checkpointed, packs=packs)
        for packs in (False, True)
    )
    rows = sampled_by(padded, group_rows(3, choices=choices), noise=0.3)
    figures = [trainer.update(rows, rate=1e-3, entropy=0.1, seed=0) for trainer in (padded, packed)]
    assert len(packed.seen) == 2
    for wanted, found in zip(padded.seen, packed.seen, strict=True):
        assert wanted.keys() == found.keys()
        for name, gradient in found.items():
            assert torch.allclose(gradient, wanted[name], atol=2e-5, rtol=1e-3), name
    assert figures[1] == pytest.approx(figures[0], rel=1e-3, abs=1e-4)
    assert packed.divergence(rows) == pytest.approx(padded.divergence(rows), rel=1e-3, abs=1e-5)


def test_rows_of_different_kinds_share_an_update_and_no_line(base: Path, tmp_path: Path) -> None:
    settings = Learner.model_validate({"tokens_per_forward": 300, "lora_rank": 4, "gradient_norm": 1e9})
    padded, packed = (
        Watched(small_peft(base, seed=1, scale=0.1), settings, tmp_path, packs=packs) for packs in (False, True)
    )
    rows = [*group_rows(5), *group_rows(6, choices=8)]
    for trainer in (padded, packed):
        trainer.update(rows, rate=0.0, entropy=0.1, seed=0)
    for name, gradient in packed.seen[0].items():
        assert torch.allclose(gradient, padded.seen[0][name], atol=2e-5, rtol=1e-3), name


def test_a_member_sees_its_opening_and_no_other_member(base: Path, tmp_path: Path) -> None:
    trainer = Watched(small_peft(base, seed=1, scale=0.1), Learner(lora_rank=4), tmp_path, packs=True)
    rows = group_rows(4, groups=1, size=3)
    alone = [float(trainer.scored([one])[id(one)].sum()) for one in rows]
    together = trainer.scored(rows)
    assert [float(together[id(one)].sum()) for one in rows] == pytest.approx(alone, abs=1e-4)


def test_padded_rows_are_the_same_to_the_bit_where_attention_is_computed_here(base: Path) -> None:
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    plain, own = (small_peft(base, seed=1, scale=0.1).get_base_model() for _ in range(2))
    packing.use(own)
    with torch.no_grad():
        assert torch.equal(plain(ids, mask).logits, own(ids, mask).logits)
        assert torch.equal(plain(ids[:1]).logits, own(ids[:1]).logits)


def test_a_model_that_sees_only_a_window_is_not_packed(base: Path) -> None:
    assert can_pack(small_peft(base, seed=1, scale=0.1).get_base_model())
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    config = Qwen2Config(
        vocab_size=8, num_hidden_layers=2, use_sliding_window=True, sliding_window=4, max_window_layers=1, **sizes
    )
    assert not can_pack(Qwen2ForCausalLM(config))


def test_a_line_of_one_row_is_that_row() -> None:
    one = random_row(random.Random(0), 5, 2)
    found = laid_out([Family(0, (one,))])
    assert found.ids[0].tolist() == list(one.tokens)
    assert found.plan.masks == (None,)
