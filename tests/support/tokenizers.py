"""Tokenizers small enough for tests: bytes and a few special tokens, with a chat template or without."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
OPEN, CLOSE = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(template: str | None = None, special: tuple[str, ...] = (END,)) -> PreTrainedTokenizerFast:
    """A token for every byte, and special ones; the first of them ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], pad_token=special[0])
    wrapped.chat_template = template
    return wrapped


def chat_tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    """The same in the manner of Qwen's."""
    return byte_tokenizer(template, (CLOSE, OPEN, END))


def trained_tokenizer(texts: Iterable[str], size: int, template: str = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE of so many tokens, with the merges that these texts give, in the manner of GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
        ),
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (CLOSE, OPEN, END)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=CLOSE, pad_token=END)
    wrapped.chat_template = template
    return wrapped


def saved(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The folder, with the tokenizer's files in it."""
    tokenizer.save_pretrained(folder)
    return folder
