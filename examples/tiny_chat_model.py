"""A chat model small enough for a laptop, made on the spot: it writes tool calls of a seat, and knows nothing else.

It stands in for a real model where nothing can be downloaded. Each call that baselines made in a few scenarios is one
token of its vocabulary. A short warm-up teaches it to answer with one of them, whatever it reads, and to stop.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl.chat_template_utils import qwen2_5_chat_template

from chaosops_ray.agents.seat_spec import SeatSpec
from chaosops_ray.integrations.trl import environment_class

Call = tuple[str, str]  # the tool's name, and its arguments as JSON
Messages = list[dict[str, Any]]

# A piece of text that is one token: one or two digits, or all else up to the end of the line.
PIECES = r"[0-9]{1,2}|[^0-9\n]+\n?|\n"
OPEN, CLOSE, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
TURNS, BATCH = 4, 4  # conversations of the warm-up: their length, and how many a step takes


def calls_of(seat: SeatSpec, seeds: list[int], policies: tuple[str, ...]) -> list[Call]:
    """Return the calls that baselines make in this seat, in the scenarios of the seeds."""
    environment, found = seat.environment, {}
    for name in policies:
        for seed in seeds:
            scenario = seat.scenario(seed)
            session, choose = seat.session(scenario), environment.policies[name](scenario, seat.rules)
            while not session.is_over:
                before = len(session.running.steps)
                session.act(choose(session.view))
                fields = json.loads(environment.dump_action(session.running.steps[before].action))
                tool = fields.pop("tool", None) or fields.pop("action", None)
                if tool is not None:
                    found[tool, json.dumps(fields.get("arguments", fields), ensure_ascii=False)] = None
    return list(found)


def spelt(call: Call) -> str:
    """Write a call as Qwen's chat template does."""
    return f'<tool_call>\n{{"name": "{call[0]}", "arguments": {call[1]}}}\n</tool_call>'


def make(
    seat: SeatSpec, rows: list[dict[str, Any]], policies: tuple[str, ...], steps: int = 60
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Make the model and its tokenizer for these rows of a data set."""
    torch.manual_seed(0)
    draw = random.Random(0)
    calls = calls_of(seat, [row["seed"] for row in rows], policies)
    played = [conversation(seat, draw.choice(rows), calls, draw) for _ in range(BATCH * steps)]
    tools = [getattr(environment_class(seat)(), form.name) for form in seat.environment.forms(seat.role, seat.rules)]
    tokenizer = make_tokenizer([spelt(call) for call in calls], played, tools)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=16_384,
            tie_word_embeddings=False,
            initializer_range=0.1,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    warm_up(model, tokenizer, [spelt(call) for call in calls], played, tools)
    return model, tokenizer


def conversation(seat: SeatSpec, row: dict[str, Any], calls: list[Call], draw: random.Random) -> Messages:
    """Play the first turns of an episode with calls drawn at random; return the messages."""
    environment = environment_class(seat)()
    system, user = row["prompt"]
    messages = [system, {**user, "content": user["content"] + environment.reset(seed=row["seed"])}]
    for _ in range(TURNS):
        name, arguments = draw.choice(calls)
        function = {"name": name, "arguments": json.loads(arguments)}
        messages.append(
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
        )
        result = getattr(environment, name)(**function["arguments"])
        messages.append({"role": "tool", "name": name, "content": result})
    return messages[:-1]


def make_tokenizer(calls: list[str], played: list[Messages], tools: list[Any]) -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes, of the pieces of text that were played, and of the calls."""
    pre = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )

    def wrapped(pieces: list[str]) -> PreTrainedTokenizerFast:
        model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], ignore_merges=True)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (OPEN, CLOSE, PAD)])
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in calls])
        found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=CLOSE, pad_token=PAD, padding_side="left")
        found.chat_template = qwen2_5_chat_template
        return found

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain, apart = wrapped(alphabet), re.compile("|".join([re.escape(text) for text in (OPEN, CLOSE, *calls)]))
    texts = [plain.apply_chat_template(messages, tools=tools, tokenize=False) for messages in played]
    pieces = {piece for text in texts for part in apart.split(text) for piece, _ in pre.pre_tokenize_str(part)}
    return wrapped([*alphabet, *sorted(pieces - set(alphabet))])


def warm_up(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    calls: list[str],
    played: list[Messages],
    tools: list[Any],
) -> None:
    """Train the model to answer with one call, each as likely as the others, and to end its turn."""
    known = torch.tensor([tokenizer.convert_tokens_to_ids(call) for call in calls])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for first in range(0, len(played), BATCH):
        encoded = tokenizer.apply_chat_template(
            played[first : first + BATCH], tools=tools, padding=True, return_dict=True, return_tensors="pt"
        )
        ids = encoded["input_ids"]
        is_call = torch.isin(ids, known)
        is_learned = is_call | torch.roll(is_call, 1, dims=1)  # a call, and the end of the turn after it
        labels = ids.masked_fill(~is_learned, -100)
        loss = model(**encoded, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
