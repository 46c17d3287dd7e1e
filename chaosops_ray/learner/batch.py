"""Batches: trajectories become rows, split over optimizer steps and packed into micro-batches of similar length."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch.nn.utils.rnn import pad_sequence

from chaosops_ray.choice_tree import ChoiceTree, choice_tree, is_whole
from chaosops_ray.grammar import GrammarError, Writing
from chaosops_ray.wire import Group, Ids, Trajectory, Turn, next_tokens

# The tokens of a row with whole actions: their mask has the square of it.
MOST_COLUMNS = 32_768
# Makes the completion of a schema that ends with a token, before its first one.
Writes: TypeAlias = Callable[[str, int], Writing]

if TYPE_CHECKING:
    from chaosops_ray.learner.packing import Line


class Row(NamedTuple):
    """A trajectory as the loss sees it: one entry for each decision of the policy.

    A decision is a token that it wrote, or the choice of a whole action.
    """

    tokens: Ids
    at: tuple[int, ...]  # the places of the written tokens in `tokens`; of an action, that of its first token
    log_probs: tuple[float, ...]  # the sampler's
    advantages: tuple[float, ...]
    allowed: tuple[Ids, ...] | None = None  # the tokens that each could have been, where the engine had to choose
    masks: tuple[bytes, ...] | None = None  # the same, a bit for each token, where completions had a schema
    choices: tuple[Choice, ...] | None = None  # the actions that each could have been

    @property
    def size(self) -> int:
        """The number of tokens that the model reads, those of the actions that were not taken included."""
        return len(self.tokens) + sum([len(one.tree.tokens) for one in self.choices or ()])

    @property
    def written(self) -> int:
        """The number of tokens that the policy wrote."""
        if self.choices is None:
            return len(self.at)
        return sum([len(one.tree.choices[one.chosen]) for one in self.choices])

    @property
    def kind(self) -> str:
        """The way in which its decisions are scored; a micro-batch has rows of one kind."""
        if self.choices is not None:
            return "choices"
        if self.masks is not None:
            return "schema"
        return "free" if self.allowed is None else "allowed"


class Choice(NamedTuple):
    """A decision for a whole action: what there was to choose from, and the place of what was chosen."""

    tree: ChoiceTree
    chosen: int


class Trees(NamedTuple):
    """The trees of a micro-batch's choices: each row's nodes stand behind its padded tokens, in the order of its turns.

    A column counts both. `edges` are all edges of the micro-batch, in the order of their columns; `paths` are those of
    each choice, `among` the choices of each decision. All three are padded with -1.
    """

    ids: torch.Tensor  # (rows, nodes)
    positions: torch.Tensor  # (rows, columns)
    sees: torch.Tensor  # (rows, columns, columns): which columns each one attends to
    sources: torch.Tensor  # (sources, 2): row and column that a token is predicted from
    edges: torch.Tensor  # (edges, 2): number of the source, and the token
    paths: torch.Tensor  # (choices, longest)
    among: torch.Tensor  # (decisions, most)
    chosen: torch.Tensor  # (decisions,): places in `among`

    def to(self, device: torch.device) -> Trees:
        """Copy to another device."""
        return Trees(*[part.to(device) for part in self])


class MicroBatch(NamedTuple):
    """Padded rows. All but `ids` and `attention` are of the shape (rows, length - 1), as next-token predictions."""

    ids: torch.Tensor
    attention: torch.Tensor
    mask: torch.Tensor  # 1 where the policy wrote, or began to write an action
    log_probs: torch.Tensor
    advantages: torch.Tensor
    # One line for each token that the policy wrote, row by row: the tokens it could have been, padded with -1.
    allowed: torch.Tensor | None = None
    # Where completions had a schema: the distinct masks, in bits, and which of them each of these tokens has.
    masks: torch.Tensor | None = None
    mask_of: torch.Tensor | None = None
    trees: Trees | None = None
    line: Line | None = None  # the same rows in one line, where that is what the model reads

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to another device."""
        return MicroBatch(*[None if part is None else part.to(device) for part in self])  # type: ignore[arg-type]


def rows(
    groups: Sequence[Group], advantages: Sequence[Sequence[tuple[float, ...]]], writes: Writes | None = None
) -> list[Row]:
    """Make a row of every trajectory that has written tokens; `writes` is needed where completions had a schema."""
    found = []
    for group, group_advantages in zip(groups, advantages, strict=True):
        for trajectory, turn_advantages in zip(group.trajectories, group_advantages, strict=True):
            row = _row(trajectory, turn_advantages, writes)
            if row.at:
                found.append(row)
    return found


def _row(trajectory: Trajectory, turn_advantages: tuple[float, ...], writes: Writes | None) -> Row:
    """Return the row of a trajectory: its turns are all free, of a schema, choices of tokens, or of whole actions."""
    turns = trajectory.turns
    free = [turn.choices is None for turn in turns]
    if any(free) and not all(free):
        raise ValueError(f"{trajectory.role} had to choose in some of its turns and not in others")
    choices = allowed = None
    if any(is_whole(turn.choices) for turn in turns):
        choices = tuple([_choice(trajectory, turn) for turn in turns])
    elif turns and not any(free):
        allowed = _allowed_tokens(trajectory)
    places = [range(turn.start, turn.end if choices is None else turn.start + 1) for turn in turns]
    pairs = zip(places, turn_advantages, strict=True)
    return Row(
        trajectory.tokens,
        tuple(chain.from_iterable(places)),
        tuple(chain.from_iterable(turn.log_probs for turn in turns)),
        tuple(chain.from_iterable((advantage,) * len(place) for place, advantage in pairs)),
        allowed,
        _masks(trajectory, writes),
        choices,
    )


def _choice(trajectory: Trajectory, turn: Turn) -> Choice:
    written, tree = trajectory.tokens[turn.start : turn.end], choice_tree(turn.choices or ())
    if written not in tree.choices:
        raise ValueError(f"{trajectory.role} wrote {written}, which is not one of its choices")
    return Choice(tree, tree.choices.index(written))


def _allowed_tokens(trajectory: Trajectory) -> tuple[Ids, ...]:
    """Return the tokens that each written token could have been."""
    lines: list[Ids] = []
    for turn in trajectory.turns:
        written = trajectory.tokens[turn.start : turn.end]
        for place, token in enumerate(written):
            line = next_tokens(turn.choices or (), written[:place])
            if token not in line:
                raise ValueError(f"{trajectory.role} wrote {written}, which is not one of its choices")
            lines.append(line)
    return tuple(lines)


def _masks(trajectory: Trajectory, writes: Writes | None) -> tuple[bytes, ...] | None:
    """Return the mask of each written token; None where completions had no schema."""
    has_schema = [turn.schema is not None for turn in trajectory.turns]
    if not any(has_schema):
        return None
    if not all(has_schema) or writes is None:
        raise ValueError(f"{trajectory.role} had a schema in some of its turns and not in others")
    found = []
    for turn in trajectory.turns:
        written = trajectory.tokens[turn.start : turn.end]
        completion = writes(turn.schema or "", written[-1])
        try:
            for token in written:
                found.append(completion.bits())
                completion.write(token)
        except GrammarError as error:
            raise ValueError(f"{trajectory.role} wrote {written}, which its schema does not permit: {error}") from error
    return tuple(found)


def steps(found: Sequence[Row], count: int, seed: int) -> list[list[Row]]:
    """Deal the rows to optimizer steps, about as many to each; the seed decides the order."""
    order = list(found)
    random.Random(seed).shuffle(order)
    return [part for i in range(count) if (part := order[i * len(order) // count : (i + 1) * len(order) // count])]


def micro_batches(found: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Group rows of one kind and similar size, at most `budget` tokens with the padding; a longer row goes alone."""
    for kind in sorted({row.kind for row in found}):
        ordered = sorted([row for row in found if row.kind == kind], key=lambda row: row.size)
        chosen: list[Row] = []
        longest = nodes = 0
        for row in ordered:
            # Tokens and nodes are padded apart.
            wider = max(longest, len(row.tokens)), max(nodes, row.size - len(row.tokens))
            if chosen and (len(chosen) + 1) * sum(wider) > budget:
                yield chosen
                chosen, wider = [], (len(row.tokens), row.size - len(row.tokens))
            chosen.append(row)
            longest, nodes = wider
        yield chosen


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
    if len({row.kind for row in chosen}) > 1:
        raise ValueError("rows whose completions were held to different things cannot share a micro-batch")
    trees = _trees(chosen, ids.shape[1], pad)
    parts = _allowed(chosen), *_distinct(chosen), trees
    return MicroBatch(ids, attention, mask[:, 1:], log_probs[:, 1:], advantages[:, 1:], *parts)


def _allowed(chosen: Sequence[Row]) -> torch.Tensor | None:
    lines = list(chain.from_iterable([row.allowed for row in chosen if row.allowed is not None]))
    return _filled(lines) if lines else None


def _filled(lines: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the lines as a matrix, padded with -1."""
    width = max([len(line) for line in lines])
    return torch.tensor([[*line, *[-1] * (width - len(line))] for line in lines], dtype=torch.long)


def _trees(chosen: Sequence[Row], length: int, pad: int) -> Trees | None:
    """Return the trees of rows whose tokens are padded to `length`."""
    if chosen[0].choices is None:
        return None
    nodes = max([row.size - len(row.tokens) for row in chosen])
    width = length + nodes
    if width > MOST_COLUMNS:
        raise ValueError(
            f"a transcript with the actions that it chose among has {width} tokens, more than {MOST_COLUMNS}; offer "
            "fewer or shorter actions, or let completions be free"
        )
    ids = torch.full((len(chosen), nodes), pad)
    positions = torch.arange(width).repeat(len(chosen), 1)
    # Tokens see those before them, and padding does, too: a softmax over nothing is no number.
    sees = torch.eye(width, dtype=torch.bool).repeat(len(chosen), 1, 1)
    sees[:, :length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
    positions[:, length:] = 0
    sources: list[tuple[int, int]] = []
    edges: list[tuple[int, int]] = []
    paths: list[list[int]] = []
    among: list[range] = []
    for i, row in enumerate(chosen):
        first = length  # the column of the decision's first node
        for start, (tree, _) in zip(row.at, row.choices or (), strict=True):
            end = first + len(tree.tokens)
            ids[i, first - length : end - length] = torch.tensor(tree.tokens, dtype=torch.long)
            positions[i, first:end] = start - 1 + torch.tensor(tree.depths, dtype=torch.long)
            sees[i, first:end, :start] = True
            node, above = tree.ancestors()
            sees[i, first + torch.tensor(node, dtype=torch.long), first + torch.tensor(above, dtype=torch.long)] = True
            before = len(sources), len(edges)
            sources += [(i, column) for column in (start - 1, *range(first, end))]
            edges += [(before[0] + 1 + node, token) for node, token in tree.edges]
            among.append(range(len(paths), len(paths) + len(tree.paths)))
            paths += [[before[1] + edge for edge in path] for path in tree.paths]
            first = end
    decided = [one.chosen for row in chosen for one in row.choices or ()]
    return Trees(
        ids,
        positions,
        sees,
        torch.tensor(sources),
        torch.tensor(edges),
        _filled(paths),
        _filled(among),
        torch.tensor(decided),
    )


def _distinct(chosen: Sequence[Row]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the distinct masks of the rows, and which of them each written token has."""
    lines = list(chain.from_iterable([row.masks for row in chosen if row.masks is not None]))
    if not lines:
        return None, None
    numbers = {mask: number for number, mask in enumerate(dict.fromkeys(lines))}
    width = max(len(mask) for mask in numbers)
    bits = bytearray(b"".join([mask.ljust(width, b"\0") for mask in numbers]))
    return torch.frombuffer(bits, dtype=torch.uint8).view(-1, width), torch.tensor([numbers[mask] for mask in lines])
