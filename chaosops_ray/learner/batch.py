"""From trajectories to tensors: rows, split over optimizer steps, packed into micro-batches of like length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from chaosops_ray.wire import Group, Ids, Trajectory, next_tokens


class Row(NamedTuple):
    """A trajectory as the loss sees it: one entry for each token that the policy wrote."""

    tokens: Ids
    at: tuple[int, ...]  # where in `tokens` they stand
    log_probs: tuple[float, ...]  # the sampler's
    advantages: tuple[float, ...]
    role: str
    allowed: tuple[Ids, ...] | None = None  # what each could have been, where the engine had to choose


class MicroBatch(NamedTuple):
    """Padded rows. All but `ids` and `attention` are of the shape (rows, length - 1), as next-token predictions."""

    ids: torch.Tensor
    attention: torch.Tensor
    mask: torch.Tensor  # where the policy wrote
    log_probs: torch.Tensor
    advantages: torch.Tensor
    # One line for each token that the policy wrote, row by row: what it could have been, filled up with -1.
    allowed: torch.Tensor | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(*[None if part is None else part.to(device) for part in self])  # type: ignore[arg-type]


def rows(groups: Sequence[Group], advantages: Sequence[Sequence[tuple[float, ...]]]) -> list[Row]:
    """Every trajectory that has turns."""
    found = []
    for group, group_advantages in zip(groups, advantages, strict=True):
        for trajectory, turn_advantages in zip(group.trajectories, group_advantages, strict=True):
            at: list[int] = []
            log_probs: list[float] = []
            spread: list[float] = []
            for turn, advantage in zip(trajectory.turns, turn_advantages, strict=True):
                at += range(turn.start, turn.end)
                log_probs += turn.log_probs
                spread += [advantage] * (turn.end - turn.start)
            if at:
                found.append(
                    Row(
                        trajectory.tokens,
                        tuple(at),
                        tuple(log_probs),
                        tuple(spread),
                        trajectory.role,
                        _could_have_been(trajectory),
                    )
                )
    return found


def _could_have_been(trajectory: Trajectory) -> tuple[Ids, ...] | None:
    """For each token that the policy wrote, what else it could have; None where it was free."""
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
                raise ValueError(f"{trajectory.role} wrote {written}, which is none of its choices")
            lines.append(line)
    return tuple(lines)


def steps(found: Sequence[Row], count: int, seed: int) -> list[list[Row]]:
    """The rows dealt out to optimizer steps, each about as many; every seed deals otherwise."""
    order = list(found)
    random.Random(seed).shuffle(order)
    return [part for i in range(count) if (part := order[i * len(order) // count : (i + 1) * len(order) // count])]


def micro_batches(found: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Rows of like length together, at most `budget` tokens with the padding; a longer row goes alone."""
    ordered = sorted(found, key=lambda row: len(row.tokens))
    start = 0
    for end in range(1, len(ordered) + 1):
        is_full = end == len(ordered) or (end + 1 - start) * len(ordered[end].tokens) > budget
        if is_full:
            yield ordered[start:end]
            start = end


def padded(chosen: Sequence[Row], pad: int) -> MicroBatch:
    """The rows as tensors, padded on the right."""
    length = max(len(row.tokens) for row in chosen)
    ids = torch.full((len(chosen), length), pad, dtype=torch.long)
    attention = torch.zeros(len(chosen), length, dtype=torch.long)
    mask = torch.zeros(len(chosen), length)
    log_probs = torch.zeros(len(chosen), length)
    advantages = torch.zeros(len(chosen), length)
    for i, row in enumerate(chosen):
        ids[i, : len(row.tokens)] = torch.tensor(row.tokens)
        attention[i, : len(row.tokens)] = 1
        at = torch.tensor(row.at)
        mask[i, at] = 1.0
        log_probs[i, at] = torch.tensor(row.log_probs)
        advantages[i, at] = torch.tensor(row.advantages)
    return MicroBatch(ids, attention, mask[:, 1:], log_probs[:, 1:], advantages[:, 1:], _allowed(chosen))


def _allowed(chosen: Sequence[Row]) -> torch.Tensor | None:
    if all(row.allowed is None for row in chosen):
        return None
    lines: list[Ids] = []
    for row in chosen:
        if row.allowed is None:
            raise ValueError("a row of free completions cannot share a micro-batch with rows of choices")
        lines += row.allowed
    width = max(len(line) for line in lines)
    return torch.tensor([line + (-1,) * (width - len(line)) for line in lines])
