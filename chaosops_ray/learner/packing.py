"""Rows behind one another in one line, without padding, with what rows have in common computed once.

The members of a group begin with the same system prompt and observation. Rows with the same opening are a family: the
line holds the opening once, and behind it what each member goes on with. Every layer but attention works on single
tokens, so that the line is as good as padded rows for it. Attention is computed here, part by part: each part sees
itself and, if it is a member's, its family's opening.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from chaosops_ray.config import AUTO, ConfigError
from chaosops_ray.learner.batch import Row

# The name by which transformers finds the attention of this module.
ATTENTION = "chaosops"
# A shorter opening is not worth a part of its own.
LEAST_SHARED = 16
# What torch's FlashAttention takes.
_FLASH_CAPABILITY = (8, 0)
_FLASH_HEAD = 256
# Older versions of torch do not take all of these.
_HAS_FLASH = {"scale", "window_size", "enable_gqa"} <= signature(varlen_attn).parameters.keys()


class Family(NamedTuple):
    """Rows that begin alike."""

    shared: int  # so many tokens
    members: tuple[Row, ...]


class Part(NamedTuple):
    """A piece of a line, and the piece before it that it sees as well, which may be empty."""

    start: int
    end: int
    shared: tuple[int, int]


class Plan(NamedTuple):
    """The parts of a line, in the forms that the kernels want."""

    parts: tuple[Part, ...]
    masks: tuple[torch.Tensor | None, ...]  # of each part with an opening: what it sees of both
    keys: torch.Tensor  # the places that each part sees, part after part
    query_ends: torch.Tensor
    key_ends: torch.Tensor
    longest: tuple[int, int]  # part, and what a part sees


class Line(NamedTuple):
    """Rows in one line: what the model reads, and where each row's tokens are in it."""

    ids: torch.Tensor  # (1, tokens)
    positions: torch.Tensor  # (1, tokens)
    where: torch.Tensor  # (rows, longest row): place in the line; 0 for padding
    plan: Plan

    def to(self, device: torch.device) -> Line:
        """Copy to another device."""
        plan = self.plan._replace(
            masks=tuple([None if mask is None else mask.to(device) for mask in self.plan.masks]),
            keys=self.plan.keys.to(device),
            query_ends=self.plan.query_ends.to(device),
            key_ends=self.plan.key_ends.to(device),
        )
        return Line(self.ids.to(device), self.positions.to(device), self.where.to(device), plan)


def families(rows: Sequence[Row]) -> list[Family]:
    """Put rows that begin alike together, where that saves tokens; what the policy wrote is never shared."""
    found: list[Family] = []
    for row in sorted(rows, key=lambda row: row.tokens):
        # The first token that was written is predicted from the one before it, which each member needs for itself.
        most = row.at[0] - 1
        if found:
            shared, members = found[-1]
            count = len(members)
            common = _common(members[0].tokens, row.tokens, min(most, shared if count > 1 else members[0].at[0] - 1))
            before = shared * (count - 1)
            if common >= LEAST_SHARED and common * count >= before:
                found[-1] = Family(common, (*members, row))
                continue
        found.append(Family(0, (row,)))
    return found


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Return how many tokens both begin with alike, at most so many."""
    pairs = enumerate(zip(one[: max(0, most)], other[: max(0, most)], strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other), max(0, most)))


def lines(rows: Sequence[Row], budget: int) -> Iterator[list[Family]]:
    """Fill lines with at most `budget` tokens; a family that does not fit is split, a longer row goes alone."""
    line: list[Family] = []
    used = 0
    for shared, members in families(rows):
        mine: list[Row] = []
        for row in members:
            cost = len(row.tokens) - (shared if mine else 0)
            if used and used + cost > budget:
                yield [*line, *_families_of(shared, mine)]
                line, mine, used, cost = [], [], 0, len(row.tokens)
            mine.append(row)
            used += cost
        line += _families_of(shared, mine)
    if line:
        yield line


def _families_of(shared: int, members: Sequence[Row]) -> list[Family]:
    return [Family(shared if len(members) > 1 else 0, tuple(members))] if members else []


def laid_out(line: Sequence[Family]) -> Line:
    """Return the line of these families; its rows are in their order."""
    ids: list[int] = []
    positions: list[int] = []
    parts: list[Part] = []
    places: list[torch.Tensor] = []

    def add(tokens: Sequence[int], first: int, shared: tuple[int, int]) -> None:
        parts.append(Part(len(ids), len(ids) + len(tokens), shared))
        positions.extend(range(first, first + len(tokens)))
        ids.extend(tokens)

    for shared, members in line:
        opening = (len(ids), len(ids) + shared)
        if shared:
            add(members[0].tokens[:shared], 0, (0, 0))
        for row in members:
            start = len(ids)
            add(row.tokens[shared:], shared, opening if shared else (0, 0))
            places.append(torch.cat([torch.arange(*opening), torch.arange(start, len(ids))]))
    index = torch.nn.utils.rnn.pad_sequence(places, batch_first=True)
    return Line(torch.tensor([ids]), torch.tensor([positions]), index, _plan(parts))


def _plan(parts: Sequence[Part]) -> Plan:
    seen = [torch.cat([torch.arange(*part.shared), torch.arange(part.start, part.end)]) for part in parts]
    queries, keys = [part.end - part.start for part in parts], [len(one) for one in seen]
    masks = [
        torch.ones(query, key, dtype=torch.bool).tril(key - query) if key > query else None
        for query, key in zip(queries, keys, strict=True)
    ]
    ends = [torch.tensor([0, *sizes]).cumsum(0).int() for sizes in (queries, keys)]
    return Plan(tuple(parts), tuple(masks), torch.cat(seen), ends[0], ends[1], (max(queries), max(keys)))


def inputs(line: Line) -> dict[str, Any]:
    """Return what the model is called with to read a line."""
    # A mask of four dimensions is passed on as it is; of a missing one, a mask of all pairs of tokens would be made.
    unused = torch.empty(1, 1, 1, 1, device=line.ids.device)
    return {"input_ids": line.ids, "position_ids": line.positions, "attention_mask": unused, "plan": line.plan}


# -- attention --------------------------------------------------------------------------------------------------------


def can_pack(model: PreTrainedModel) -> bool:
    """Tell whether the model lets its attention be computed elsewhere, and sees all that came before everywhere."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return bool(getattr(model, "_supports_attention_backend", False)) and kinds == {"full_attention"}


def chosen(setting: bool | str, model: PreTrainedModel, *, is_tiny: bool) -> bool:
    """Return whether rows are packed; `auto` leaves a tiny model's runs as they always were."""
    if setting == AUTO:
        return not is_tiny and can_pack(model)
    if setting and not can_pack(model):
        raise ConfigError("learner.packing: this model's attention cannot be computed part by part; set it to auto")
    return bool(setting)


def head_width(model: PreTrainedModel) -> int:
    """Return the width of a head of the model."""
    config = model.config.get_text_config()
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def use(model: PreTrainedModel) -> None:
    """Let the model compute attention here; without a plan it is torch's own, as before."""
    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    plan: Plan | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention of a line with a plan, or of padded rows without one."""
    if plan is None:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return found
    if takes_flash(query):
        return _by_flash(query, key, value, scaling, plan), None
    groups = query.shape[1] // key.shape[1]
    outputs = [
        torch.nn.functional.scaled_dot_product_attention(
            query[:, :, part.start : part.end],
            repeat_kv(_seen(key, part), groups),
            repeat_kv(_seen(value, part), groups),
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
        )
        for part, mask in zip(plan.parts, plan.masks, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _seen(states: torch.Tensor, part: Part) -> torch.Tensor:
    own = states[:, :, part.start : part.end]
    start, end = part.shared
    return own if start == end else torch.cat([states[:, :, start:end], own], dim=2)


def takes_flash(query: torch.Tensor) -> bool:
    """Tell whether torch's FlashAttention for parts of different lengths takes these."""
    if (
        not _HAS_FLASH
        or not query.is_cuda
        or query.dtype not in (torch.bfloat16, torch.float16)
        or query.shape[-1] > _FLASH_HEAD
    ):
        return False
    return _capability(query.device.index or 0) >= _FLASH_CAPABILITY


@lru_cache
def _capability(device: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _by_flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, plan: Plan
) -> torch.Tensor:
    """Let one kernel compute all parts. A part that is shorter than what it sees is aligned to its end."""
    queries, keys, values = (one[0].transpose(0, 1) for one in (query, key, value))
    found: Any = varlen_attn(
        queries,
        keys.index_select(0, plan.keys),
        values.index_select(0, plan.keys),
        plan.query_ends,
        plan.key_ends,
        *plan.longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    whole: torch.Tensor = found[None]
    return whole
