"""Rows, steps, micro-batches and tensors: nothing is lost on the way, nothing doubled, nothing in a wrong place."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.learner.batch import Row, micro_batches, padded, rows, steps
from chaosops_ray.wire import Group, Ids, Task, Trajectory, Turn, next_tokens
from tests.support.trainers import random_row

PAD = 0


def bare(length: int, number: int) -> Row:
    """A row of this length, told from others by its number."""
    return Row((1,) * length, (length - 1,), (float(-number),), (1.0,))


lengths = st.lists(st.integers(2, 60), max_size=40)
seeds = st.integers(0, 2**31 - 1)


# -- rows -------------------------------------------------------------------------------------------------------------


def trajectory(*turns: Turn, tokens: Ids = tuple(range(10, 22))) -> Trajectory:
    return Trajectory("sre", 0, tokens, turns)


def turn(start: int, end: int, choices: tuple[Ids, ...] | None = None) -> Turn:
    return Turn(start, end, tuple([-0.1 * place for place in range(start, end)]), {"team": 1.0}, 0, "", choices)


def group(*trajectories: Trajectory) -> Group:
    return Group(Task("t", "incident/cascade/hard/0", "strict", 1, 0), trajectories, (), 0)


def test_a_row_has_an_entry_for_each_token_that_was_written() -> None:
    """A turn's advantage is that of each token of it."""
    first, silent, second = trajectory(turn(3, 5), turn(8, 11)), trajectory(), trajectory(turn(1, 2), tokens=(7, 8))
    found = rows([group(first, silent), group(second)], [[(0.5, -2.0), ()], [(1.5,)]])
    assert found == [
        Row(
            tuple(range(10, 22)),
            (3, 4, 8, 9, 10),
            (-0.1 * 3, -0.1 * 4, -0.1 * 8, -0.1 * 9, -0.1 * 10),
            (0.5, 0.5, -2.0, -2.0, -2.0),
        ),
        Row((7, 8), (1,), (-0.1,), (1.5,)),
    ]


def test_advantages_of_others_are_refused() -> None:
    """One for each group, each trajectory and each turn, or an error."""
    one = trajectory(turn(3, 5))
    for advantages in ([], [[]], [[()]], [[(1.0, 2.0)]], [[(1.0,), (1.0,)]]):
        with pytest.raises(ValueError, match="zip"):
            rows([group(one)], advantages)


def test_what_a_token_could_have_been() -> None:
    """The choices that agree with what was written so far, at this place."""
    choices = ((13, 14), (13, 2, 5), (9, 14), (13,))
    assert next_tokens(choices, ()) == (9, 13)
    assert next_tokens(choices, (13,)) == (2, 14)
    assert next_tokens(choices, (13, 2)) == (5,)
    assert next_tokens(choices, (8,)) == ()
    (row,) = rows([group(trajectory(turn(3, 4, ((13,), (9,))), turn(7, 8, ((17,), (1,)))))], [[(1.0, 2.0)]])
    assert row.allowed == ((9, 13), (1, 17))
    assert row.choices is None


def test_a_whole_action_is_one_decision() -> None:
    """At the place of its first token; so are single tokens where other turns have actions of several."""
    choices = ((13, 14), (13, 2, 5), (13, 14), (13,))
    acted = Turn(3, 5, (-0.7,), {"team": 1.0}, 0, "", choices)
    (row,) = rows([group(trajectory(acted, turn(7, 8, ((17,), (1,)))))], [[(1.0, 2.0)]])
    assert (row.at, row.log_probs, row.advantages, row.allowed) == ((3, 7), (-0.7, -0.1 * 7), (1.0, 2.0), None)
    assert row.choices is not None
    assert [one.tree.choices for one in row.choices] == [((13, 14), (13, 2, 5), (13,)), ((17,), (1,))]
    assert [one.chosen for one in row.choices] == [0, 0]
    assert row.size == len(row.tokens) + 2, "two beginnings go on: 13, and 13 2"


def test_choices_in_one_turn_and_none_in_another_are_refused() -> None:
    with pytest.raises(ValueError, match="sre had to choose in some"):
        rows([group(trajectory(turn(3, 5, ((13, 14),)), turn(7, 8)))], [[(1.0, 1.0)]])


def test_a_completion_that_is_no_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sre wrote \(13, 14\)"):
        rows([group(trajectory(turn(3, 5, ((13, 15),))))], [[(1.0,)]])
    with pytest.raises(ValueError, match=r"sre wrote \(13,\)"):
        rows([group(trajectory(turn(3, 4, ((15,),))))], [[(1.0,)]])


# -- steps ------------------------------------------------------------------------------------------------------------


@given(lengths, st.integers(1, 8), seeds)
def test_every_row_is_in_one_step(sizes: list[int], count: int, seed: int) -> None:
    """Steps are about as large, none is empty, and the same seed deals alike."""
    found = [bare(size, number) for number, size in enumerate(sizes)]
    parts = steps(found, count, seed)
    assert Counter([row for part in parts for row in part]) == Counter(found)
    assert len(parts) == min(count, len(found))
    assert max([len(part) for part in parts], default=0) - min([len(part) for part in parts], default=0) <= 1
    assert parts == steps(found, count, seed)


def test_another_seed_deals_otherwise() -> None:
    found = [bare(5, number) for number in range(20)]
    assert steps(found, 2, 0) != steps(found, 2, 1)
    assert found == [bare(5, number) for number in range(20)], "and the caller's list stays in order"


# -- micro-batches ----------------------------------------------------------------------------------------------------


@given(lengths, st.integers(1, 400))
def test_every_row_is_in_one_micro_batch_within_the_budget(sizes: list[int], budget: int) -> None:
    """The budget counts padding; only a row that exceeds it by itself does, and it goes alone."""
    found = [bare(size, number) for number, size in enumerate(sizes)]
    parts = list(micro_batches(found, budget))
    assert Counter([row for part in parts for row in part]) == Counter(found)
    assert all(parts)
    for part in parts:
        taken = len(part) * max(len(row.tokens) for row in part)
        assert taken <= budget or len(part) == 1


@given(lengths, st.integers(1, 400))
def test_rows_of_like_length_go_together(sizes: list[int], budget: int) -> None:
    """From micro-batch to micro-batch rows only get longer, and none could have had a row more."""
    parts = list(micro_batches([bare(size, number) for number, size in enumerate(sizes)], budget))
    for part, following in pairwise(parts):
        longest, shortest = max(len(row.tokens) for row in part), min(len(row.tokens) for row in following)
        assert longest <= shortest
        assert (len(part) + 1) * shortest > budget


# -- tensors ----------------------------------------------------------------------------------------------------------

shapes = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4)), min_size=1, max_size=6)


@given(shapes, seeds, st.booleans())
def test_tensors_hold_the_rows_and_nothing_else(of: list[tuple[int, int]], seed: int, has_choices: bool) -> None:
    draw = random.Random(seed)
    chosen = [random_row(draw, opening, turns, 5 if has_choices else None) for opening, turns in of]
    micro = padded(chosen, PAD)
    length = max(len(row.tokens) for row in chosen)
    assert micro.ids.shape == micro.attention.shape == (len(chosen), length)
    assert micro.mask.shape == micro.log_probs.shape == micro.advantages.shape == (len(chosen), length - 1)
    for i, row in enumerate(chosen):
        size = len(row.tokens)
        assert micro.ids[i].tolist() == [*row.tokens, *[PAD] * (length - size)]
        assert micro.attention[i].tolist() == [1] * size + [0] * (length - size)
        # Column p of the others says something of token p + 1, which the logits at p predict.
        assert (micro.mask[i].nonzero()[:, 0] + 1).tolist() == list(row.at)
        assert micro.mask[i].sum() == len(row.at)
        for column, values in ((micro.log_probs, row.log_probs), (micro.advantages, row.advantages)):
            wanted = torch.zeros(length - 1)
            wanted[torch.tensor(row.at) - 1] = torch.tensor(values)
            assert torch.equal(column[i], wanted)


@given(shapes, seeds)
def test_lines_of_choices_are_in_the_order_of_the_mask(of: list[tuple[int, int]], seed: int) -> None:
    draw = random.Random(seed)
    chosen = [random_row(draw, opening, turns, 5) for opening, turns in of]
    micro = padded(chosen, PAD)
    assert micro.allowed is not None
    places = micro.mask.nonzero().tolist()
    assert len(places) == len(micro.allowed)
    for (i, place), line in zip(places, micro.allowed.tolist(), strict=True):
        row = chosen[i]
        assert row.allowed is not None
        allowed = row.allowed[row.at.index(place + 1)]
        assert line == [*allowed, *[-1] * (len(line) - len(allowed))]
        assert row.tokens[place + 1] in line


def test_rows_of_choices_do_not_mix_with_free_ones() -> None:
    draw = random.Random(0)
    free, choosing = random_row(draw, 3, 1), random_row(draw, 3, 1, 4)
    assert padded([free], PAD).allowed is None
    for both in ([free, choosing], [choosing, free]):
        with pytest.raises(ValueError, match="cannot share a micro-batch"):
            padded(both, PAD)


def test_a_micro_batch_moves_as_a_whole() -> None:
    draw = random.Random(0)
    for row in (random_row(draw, 3, 2), random_row(draw, 3, 2, 4)):
        micro = padded([row], PAD)
        moved = micro.to(torch.device("meta"))
        assert all((part is None) == (there is None) for part, there in zip(micro, moved, strict=True))
        assert all(part.device.type == "meta" for part in moved if part is not None)
