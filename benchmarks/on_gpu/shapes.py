"""Models of a real one's shape with random weights, rows of a world's lengths, and the arithmetic of both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from peft import PeftModel
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config

from chaosops_ray.learner import lora, packing
from chaosops_ray.learner.batch import Row, micro_batches
from chaosops_ray.learner.checkpointing import Estimate

# Dense bf16 FLOP/s by what the device's name holds; the first that fits.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
}
PAD = "<pad>"
GROUP = 8  # episodes of one scenario, whose rows begin alike

Range = tuple[int, int]


class Shape(NamedTuple):
    """The sizes of a model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    spread: float = 0.02  # deviation of the random weights

    @property
    def linear(self) -> int:
        """The weights of the linear layers below the head."""
        pairs = self.kv_heads * self.hidden // self.heads
        return self.layers * (2 * self.hidden * (self.hidden + pairs) + 3 * self.hidden * self.inner)

    @property
    def parameters(self) -> int:
        """All weights, but for the few of norms and biases; the head is the embedding."""
        return self.linear + self.hidden * self.vocabulary

    def adapter(self, rank: int) -> int:
        """The weights of an adapter of all linear layers below the head."""
        pairs = self.kv_heads * self.hidden // self.heads
        sides = 2 * 2 * self.hidden + 2 * (self.hidden + pairs) + 3 * (self.hidden + self.inner)
        return self.layers * rank * sides


# The Qwen2.5 models of these sizes, SmolLM2-135M, and one for tests.
SHAPES = {
    "3b": Shape(2048, 36, 16, 2, 11008, 151936),
    "1.5b": Shape(1536, 28, 12, 2, 8960, 151936),
    "0.5b": Shape(896, 24, 14, 2, 4864, 151936),
    "smollm2": Shape(576, 30, 9, 3, 1536, 49152),
    # Narrow: with weights of the usual deviation, no adapter below the head could tell one action from another.
    "tiny": Shape(64, 2, 4, 2, 128, 512, 0.1),
}


class Rows(NamedTuple):
    """Lengths of transcripts, in tokens; they are drawn evenly from each range."""

    openings: tuple[Range, ...]  # what is read before the first turn, by role
    between: Range  # and before each one after it
    written: Range  # tokens of a turn
    turns: Range
    length: Range  # of a row at most; it ends with the last turn that fits


# The first two as benchmarks/row_lengths.py finds them in the full style with the tokenizer of SmolLM2, for the roles
# of world 1 and for world 2. `former` are the rows of earlier versions of this benchmark; `short` ones are for tests.
ROWS = {
    "incident": Rows(((606, 646), (692, 739), (577, 618), (361, 384)), (36, 60), (8, 22), (3, 7), (2500, 2500)),
    "tools": Rows(((1015, 1095),), (58, 138), (19, 50), (3, 10), (3300, 3300)),
    "4k": Rows(((904, 984),), (60, 180), (30, 60), (99, 99), (4096, 4096)),
    "former": Rows(((350, 500),), (60, 180), (30, 60), (99, 99), (600, 2500)),
    "short": Rows(((10, 20),), (3, 9), (2, 4), (2, 6), (120, 120)),
}


def random_rows(kind: Rows, tokens: int, vocabulary: int, draw: random.Random) -> list[Row]:
    """Transcripts of random tokens, groups of them with the same opening, until there are so many tokens."""
    found, total, opening = list[Row](), 0, list[int]()
    while total < tokens:
        if len(found) % GROUP == 0:
            opening = _words(draw.choice(kind.openings), vocabulary, draw)
        found.append(_row(kind, opening, vocabulary, draw))
        total += len(found[-1].tokens)
    return found


def _words(lengths: Range, vocabulary: int, draw: random.Random) -> list[int]:
    return [draw.randrange(1, vocabulary) for _ in range(draw.randint(*lengths))]


def _row(kind: Rows, opening: Sequence[int], vocabulary: int, draw: random.Random) -> Row:
    longest, turns = draw.randint(*kind.length), draw.randint(*kind.turns)
    tokens, at, advantages = list(opening), list[int](), list[float]()
    for number in range(turns):
        turn = _words(kind.written, vocabulary, draw)
        at += range(len(tokens), len(tokens) + len(turn))
        advantages += [draw.gauss(0, 1)] * len(turn)
        tokens += turn
        following = _words(kind.between, vocabulary, draw)
        if number == turns - 1 or len(tokens) + len(following) + kind.written[1] > longest:
            break
        tokens += following
    return Row(tuple(tokens), tuple(at), (0.0,) * len(at), tuple(advantages))


def base(shape: Shape, device: str) -> PreTrainedModel:
    """The base model, made on the device itself."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=8192,
        initializer_range=shape.spread,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.device(device):
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        made: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return made


def policy(shape: Shape, rank: int, device: str, *, fused: bool | None = None) -> PeftModel:
    """The base model with an adapter; `fused` as in the learner, which decides where it is None."""
    return lora.with_adapter(base(shape, device), rank, 2 * rank, seed=0, fused=fused)


def tokenizer() -> PreTrainedTokenizerFast:
    """TRL wants one, with padding; nothing is tokenized."""
    model = Tokenizer(models.WordLevel({PAD: 0}, unk_token=PAD))
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token=PAD, eos_token=PAD)


def lengths(rows: Sequence[Row]) -> dict[str, int]:
    """What the rows come to."""
    ordered = sorted([len(row.tokens) for row in rows])
    return {
        "rows": len(rows),
        "tokens": sum(ordered),
        "written": sum([len(row.at) for row in rows]),
        "shortest": ordered[0],
        "median": ordered[len(ordered) // 2],
        "longest": ordered[-1],
    }


class Computed(NamedTuple):
    """What is computed of rows: with padding, or in lines in which rows that begin alike share their opening."""

    tokens: int
    once: int  # tokens of rows that another row shares, so that they are not computed again
    pairs: int  # of tokens that attention need not look at again for them


def padded(rows: Sequence[Row], budget: int) -> Computed:
    """Count padded rows."""
    tokens = sum([len(part) * max([len(row.tokens) for row in part]) for part in micro_batches(rows, budget)])
    return Computed(tokens, 0, 0)


def packed(rows: Sequence[Row], budget: int) -> Computed:
    """Count rows in lines."""
    once = pairs = 0
    for line in packing.lines(rows, budget):
        for family in line:
            others = len(family.members) - 1
            once += others * family.shared
            pairs += others * family.shared * (family.shared + 1) // 2
    return Computed(sum([len(row.tokens) for row in rows]) - once, once, pairs)


class Flops(NamedTuple):
    """Operations of an update that steps once."""

    weights: float  # products with weights: linear layers, adapter, head
    attention: float


def flops(shape: Shape, rank: int, rows: Sequence[Row], computed: Computed) -> Flops:
    """Count what an update needs; the benchmark's docstring has the formula."""
    tokens, written = sum([len(row.tokens) for row in rows]) - computed.once, sum([len(row.at) for row in rows])
    linear = tokens * (4.0 * shape.linear + 6.0 * shape.adapter(rank))
    pairs = sum([len(row.tokens) * (len(row.tokens) + 1) // 2 for row in rows]) - computed.pairs
    return Flops(linear + written * 4.0 * shape.hidden * shape.vocabulary, 12.0 * shape.layers * shape.hidden * pairs)


def estimate(shape: Shape, rank: int, tokens: int, width: int) -> Estimate:
    """Estimate the memory of an update with so many tokens in a forward pass, of numbers of `width` bytes.

    What a layer keeps for each token until its gradient is there: inputs and outputs of two norms; queries, keys,
    values and outputs of the attention; four times the inner width; the inner result of each adapter.
    """
    again = tokens * shape.hidden * width
    kept = tokens * (10 * shape.hidden + 4 * shape.inner + 7 * rank) * width
    # The norms compute in fp32; the layer that is at work has its gradients beside what it keeps.
    working = 2 * kept + tokens * 8 * shape.hidden
    logits = 3 * 4 * min(tokens, 4096) * min(shape.vocabulary, 32768)  # TRL's kernel takes them in tiles
    rest = shape.parameters * width + shape.adapter(rank) * 16 + working + logits
    return Estimate(shape.layers, rest, kept, again, None)


def needed(found: Estimate, checkpointed: int) -> int:
    """Return the bytes of this estimate if so many layers compute their activations again."""
    return found.rest + checkpointed * found.again + (found.layers - checkpointed) * found.kept


def peak(card: str) -> float | None:
    """The dense bf16 rate of a device, if its name is known."""
    return next((rate for part, rate in PEAKS.items() if part in card), None)
