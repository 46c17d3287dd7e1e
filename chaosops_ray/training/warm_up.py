"""The tokenizer and the warm-up of a tiny base model.

The model is trained as a language model of transcripts of random play; at an action, the target is the distribution
that random play draws from. Recipe and world determine every byte of the result.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.agents.tokens import Codec, Transcript
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.training import tiny
from chaosops_ray.training.tiny import PIECES, STYLE, Recipe
from chaosops_ray.wire import Ids, Sample

PAD = "<|pad|>"
_SEEN_OFTEN = 3

# The permitted actions of a turn, kind by kind, each by its one token.
Permitted: TypeAlias = tuple[Ids, ...]


class Row(NamedTuple):
    """A role's transcript, the positions of its actions, and the actions permitted there."""

    role: str
    tokens: Ids
    starts: list[int]
    permitted: list[Permitted]


def build(folder: Path, environment: AnyEnvironment, recipe: Recipe, progress: Callable[[int, int], None]) -> None:
    """Make tokenizer and model, and save them in Hugging Face's format."""
    tokenizer = make_tokenizer(environment, recipe)
    tokenizer.save_pretrained(folder)
    codec = Codec(folder, tiny.layout(folder))
    model = warmed_up(environment, codec, tokenizer, recipe, progress)
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # it carries no number, and a full disk is nearly all that there is
        raise OSError(errno.EIO, one_line(error)) from None


def make_tokenizer(environment: AnyEnvironment, recipe: Recipe) -> PreTrainedTokenizerFast:
    """Make a tokenizer of all bytes, so that it reads any text, of frequent pieces, and of every action."""
    pre = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    texts, actions = _vocabulary(environment, recipe)
    counts: Counter[str] = Counter()
    for text, times in texts.items():
        for piece, _ in pre.pre_tokenize_str(text):
            counts[piece] += times
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [f"{number}" for number in range(10, 100)] + [f"0{number}" for number in range(10)]
    pieces += sorted([piece for piece, count in counts.items() if count >= _SEEN_OFTEN and piece not in pieces])
    # A piece of the vocabulary is one token; any other text becomes bytes, without merges.
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (PAD, *actions)])
    # The base class keeps the pre-tokenizer; a model's own class would build another.
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=PAD)


def _vocabulary(environment: AnyEnvironment, recipe: Recipe) -> tuple[Counter[str], list[str]]:
    """Return how often each text is read in whole episodes, and every permitted action, role by role."""
    rules = tiny.rules_of(environment)
    texts: Counter[str] = Counter()
    actions = {role: dict.fromkeys(_told(environment, role)) for role in environment.roles}
    for number in range(recipe.openings):
        for conversation in tiny.conversations(environment, rules, tiny.scenario(environment, recipe, number)):
            texts.update([conversation.system_prompt, *[turn.text for turn in conversation.turns]])
            # By identity: worlds return the same object many times, and equal actions may differ in type.
            for kinds in {id(turn.permitted): turn.permitted for turn in conversation.turns}.values():
                actions[conversation.role] |= dict.fromkeys(
                    [environment.format_action(action, STYLE) for kind in kinds for action in kind]
                )
    return texts, list(dict.fromkeys([text for spelt in actions.values() for text in spelt]))


def _told(environment: AnyEnvironment, role: str) -> tuple[str, ...]:
    """Return the actions of a role that need not be shown to be known."""
    return () if environment.practice_shows_all else environment.vocabulary(role) or ()


def transcripts(environment: AnyEnvironment, codec: Codec, recipe: Recipe, numbers: range) -> Iterator[Row]:
    """Yield the transcript of each role that acted, episode by episode."""
    rules = tiny.rules_of(environment)
    for number in numbers:
        for conversation in tiny.conversations(environment, rules, tiny.scenario(environment, recipe, number)):
            transcript = Transcript(codec, conversation.system_prompt)
            permitted: list[Permitted] = []
            for turn in conversation.turns:
                transcript.observe(turn.text)
                transcript.complete(Sample(codec.action(turn.action), (0.0,), 0, "", stopped=False), None)
                choices = iter(codec.choices(environment.format_action, STYLE, turn.permitted))
                permitted.append(tuple([tuple([_only(next(choices)) for _ in kind]) for kind in turn.permitted]))
            if transcript.turns:
                starts = [turn.start for turn in transcript.turns]
                yield Row(conversation.role, transcript.written, starts, permitted)


def _only(action: Ids) -> int:
    if len(action) != 1:
        raise ValueError(
            f"a permitted action that the recipe's openings did not show is {len(action)} tokens instead of one; "
            "a world for tiny models must have a fixed set of actions"
        )
    return action[0]


def warmed_up(
    environment: AnyEnvironment,
    codec: Codec,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    progress: Callable[[int, int], None],
) -> Qwen2ForCausalLM:
    """Make a new model and train it on the transcripts."""
    torch.manual_seed(recipe.seed)
    pad: int = tokenizer.pad_token_id
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.inner,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=2048,
            initializer_range=recipe.spread,
            tie_word_embeddings=False,
            pad_token_id=pad,
            eos_token_id=pad,
            bos_token_id=None,
        )
    )
    # Thrown away after the warm-up: tells from the state before an action which pieces of text the role has read.
    recall = torch.nn.Linear(recipe.hidden, len(tokenizer))
    # Not the numbers: there are many in every text, and they would take what little room the state has.
    words = torch.tensor([not piece.isdigit() for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    targets: dict[Permitted, torch.Tensor] = {}
    weights = [*model.parameters(), *recall.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.01)
    draw = random.Random(recipe.seed)
    for step in range(recipe.steps):
        rate = min(1.0, (step + 1) / 20) * (1 - 0.98 * step / recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        first = step * recipe.episodes_per_step
        rows = list(transcripts(environment, codec, recipe, range(first, first + recipe.episodes_per_step)))
        for permitted in [one for row in rows for one in row.permitted]:
            if permitted not in targets:
                targets[permitted] = _uniform(permitted, len(tokenizer))
        rows.sort(key=lambda row: len(row.tokens))
        # Rows of similar length share a forward pass; four passes make a step.
        quarters = [rows[i * len(rows) // 4 : (i + 1) * len(rows) // 4] for i in range(4)]
        draw.shuffle(quarters)
        total = sum([len(row.tokens) for row in rows])
        for quarter in quarters:
            weight = recipe.recall_weight if step < recipe.recall_until * recipe.steps else 0.0
            loss = _loss(model, recall, words, quarter, targets, pad, recipe.action_weight, weight) / total
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress(step + 1, recipe.steps)
    return model


def _uniform(permitted: Permitted, size: int) -> torch.Tensor:
    """Return the distribution of random play: uniform over kinds, then over the actions of a kind."""
    target = torch.zeros(size)
    for kind in permitted:
        for token in kind:
            target[token] += 1 / len(permitted) / len(kind)
    return target


def _loss(
    model: Qwen2ForCausalLM,
    recall: torch.nn.Linear,
    words: torch.Tensor,
    rows: list[Row],
    targets: dict[Permitted, torch.Tensor],
    pad: int,
    action_weight: float,
    recall_weight: float,
) -> torch.Tensor:
    length = max(len(row.tokens) for row in rows)
    ids = torch.tensor([[*row.tokens] + [pad] * (length - len(row.tokens)) for row in rows])
    found = model(input_ids=ids, output_hidden_states=True)
    logits = found.logits[:, :-1]
    labels = ids[:, 1:].masked_fill(ids[:, 1:] == pad, -100)
    at = torch.tensor([(place, start - 1) for place, row in enumerate(rows) for start in row.starts])
    labels[at[:, 0], at[:, 1]] = -100
    observed = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    wanted = torch.stack([targets[permitted] for row in rows for permitted in row.permitted])
    acted = functional.cross_entropy(logits[at[:, 0], at[:, 1]], wanted, reduction="sum")
    remembered = recall(found.hidden_states[-1][at[:, 0], at[:, 1]])
    read = torch.zeros_like(remembered)
    for line, (place, last) in zip(read, at.tolist(), strict=True):
        line[ids[place, : last + 1]] = 1.0
    recalled = functional.binary_cross_entropy_with_logits(remembered[:, words], read[:, words], reduction="sum")
    return observed + action_weight * acted + recall_weight * recalled
