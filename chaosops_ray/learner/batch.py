"""Batches: trajectories become rows, split over optimizer steps and packed into micro-batches of similar length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from chaosops_ray.wire import Group, Ids, Trajectory, next_tokens

if TYPE_CHECKING:
    from chaosops_ray.learner.packing import Line


class Row(NamedTuple):
    """A trajectory as the loss sees it: one entry for each token that the policy wrote."""

    tokens: Ids
    at: tuple[int, ...]  # the places of the written tokens in `tokens`
    log_probs: tuple[float, ...]  # the sampler's
    advantages: tuple[float, ...]
    allowed: tuple[Ids, ...] | None = None  # the tokens that each could have been, where the engine had to choose


class MicroBatch(NamedTuple):
    """Padded rows. All but `ids` and `attention` are of the shape (rows, length - 1), as next-token predictions."""

    ids: torch.Tensor
    attention: torch.Tensor
    mask: torch.Tensor  # 1 where the policy wrote
    log_probs: torch.Tensor
    advantages: torch.Tensor
    # One line for each token that the policy wrote, row by row: the tokens it could have been, padded with -1.
    allowed: torch.Tensor | None = None
    line: Line | None = None  # the same rows in one line, where that is what the model reads

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to another device."""
        return MicroBatch(*[None if part is None else part.to(device) for part in self])  # type: ignore[arg-type]


def rows(groups: Sequence[Group], advantages: Sequence[Sequence[tuple[float, ...]]]) -> list[Row]:
    """Make a row of every trajectory that has written tokens."""
    found = []
    for group, group_advantages in zip(groups, advantages, strict=True):
        for trajectory, turn_advantages in zip(group.trajectories, group_advantages, strict=True):
            turns = trajectory.turns
            at = tuple(chain.from_iterable(range(turn.start, turn.end) for turn in turns))
            log_probs = tuple(chain.from_iterable(turn.log_probs for turn in turns))
            pairs = zip(turns, turn_advantages, strict=True)
            spread = tuple(chain.from_iterable((advantage,) * (turn.end - turn.start) for turn, advantage in pairs))
            if at:
                found.append(Row(trajectory.tokens, at, log_probs, spread, _allowed_tokens(trajectory)))
    return found


def _allowed_tokens(trajectory: Trajectory) -> tuple[Ids, ...] | None:
    """Return the tokens that each written token could have been; None where completions were free."""
    is_free = [turn.choices is None for turn in trajectory.turns]
    if all(is_free):
        return None
    if any(is_free):
        raise ValueError(f"{trajectory.role} had to choose in some of its turns and not in others")
    lines: list[Ids] = []
    for turn in trajectory.turns:
        written = trajectory.tokens[turn.start : turn.end]
        for place, token in enumerate(written):
            line = next_tokens(turn.choices or (), written[:place])
            if token not in line:
                raise ValueError(f"{trajectory.role} wrote {written}, which is not one of its choices")
            lines.append(line)
    return tuple(lines)


def steps(found: Sequence[Row], count: int, seed: int) -> list[list[Row]]:
    """Deal the rows to optimizer steps, about as many to each; the seed decides the order."""
    order = list(found)
    random.Random(seed).shuffle(order)
    return [part for i in range(count) if (part := order[i * len(order) // count : (i + 1) * len(order) // count])]


def micro_batches(found: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Group rows of similar length, at most `budget` tokens with the padding; a longer row goes alone."""
    ordered = sorted(found, key=lambda row: len(row.tokens))
    start = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or (end + 1 - start) * len(ordered[end].tokens) > budget:
            yield ordered[start:end]
            start = end


def padded(chosen: Sequence[Row], pad: int) -> MicroBatch:
    """Return the rows as tensors, padded on the right."""
    texts = [torch.tensor(row.tokens) for row in chosen]
    ids = pad_sequence(texts, batch_first=True, padding_value=pad)
    attention = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    mask, log_probs, advantages = torch.zeros(3, *ids.shape)
    for i, row in enumerate(chosen):
        at = torch.tensor(row.at)
        mask[i, at] = 1.0
        log_probs[i, at] = torch.tensor(row.log_probs)
        advantages[i, at] = torch.tensor(row.advantages)
    return MicroBatch(ids, attention, mask[:, 1:], log_probs[:, 1:], advantages[:, 1:], _allowed(chosen))


def _allowed(chosen: Sequence[Row]) -> torch.Tensor | None:
    given = [row.allowed for row in chosen if row.allowed is not None]
    if not given:
        return None
    if len(given) < len(chosen):
        raise ValueError("a row of free completions cannot share a micro-batch with rows of choices")
    lines = list(chain.from_iterable(given))
    width = max(len(line) for line in lines)
    return torch.tensor([line + (-1,) * (width - len(line)) for line in lines])
