"""A seat's transcript in tokens: it only grows, and knows which of its tokens the policy wrote.

Text becomes tokens here and nowhere else. Observations are encoded without special tokens, so that no text in them can
become an end of turn or an action.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from tokenizers import Tokenizer

from chaosops_ray.sim.contract import Style
from chaosops_ray.wire import Ids, Layout, Sample, Turn

TOKENIZER_FILE = "tokenizer.json"
_CACHED_TEXTS = 8_192
_CACHED_CHOICES = 1_024
Spell: TypeAlias = Callable[[Any, Style], str]
Kinds: TypeAlias = tuple[tuple[Any, ...], ...]


class Codec:
    """A base model's tokenizer and the layout of its transcripts."""

    def __init__(self, model: Path, layout: Layout) -> None:
        self._use(Tokenizer.from_file(str(model / TOKENIZER_FILE)), layout)

    # A process on another node, which lacks the model's folder, gets the codec itself.
    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self._tokenizer, "layout": self.layout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._use(**state)

    def _use(self, tokenizer: Tokenizer, layout: Layout) -> None:
        self.layout = layout
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True
        # The file may have been saved with either; a transcript is neither cut nor padded.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Groups see the same openings, and most turns are alike.
        self.encode = lru_cache(_CACHED_TEXTS)(self._encode)
        self.decode = lru_cache(_CACHED_TEXTS)(self._decode)
        self._choices_of = lru_cache(_CACHED_CHOICES)(self._completions)

    def _encode(self, text: str) -> Ids:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _decode(self, tokens: Ids) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def action(self, text: str) -> Ids:
        """Return the completion of an action's text, as one token where the tokenizer has it, with its stop token."""
        single = self._tokenizer.token_to_id(text)
        return (*(self.encode(text) if single is None else (single,)), *self.layout.stop[:1])

    def choices(self, spell: Spell, style: Style, kinds: Kinds) -> tuple[Ids, ...]:
        """Return the completion of each action, in order, as `spell` writes it; computed once for equal actions.

        Actions must be hashable. Equal ones of different types are told apart: named tuples are equal across types.
        """
        return self._choices_of(spell, style, kinds, tuple([type(action) for kind in kinds for action in kind]))

    def _completions(self, spell: Spell, style: Style, kinds: Kinds, _types: tuple[type, ...]) -> tuple[Ids, ...]:
        return tuple([self.action(spell(action, style)) for kind in kinds for action in kind])

    def read(self, sample: Sample) -> str:
        """Return the completion as text, without its stop token."""
        return self.decode(sample.tokens[:-1] if sample.stopped else sample.tokens)


class Transcript:
    """The text that one seat has read and written so far, in tokens."""

    def __init__(self, codec: Codec, brief: str) -> None:
        self._codec = codec
        layout = codec.layout
        self.tokens: list[int] = [*layout.head, *codec.encode(brief), *layout.after_system_prompt]
        self.turns: list[Turn] = []

    def observe(self, text: str) -> Ids:
        """Append an observation; return the prompt so far."""
        self.tokens += self._codec.encode(text)
        self.tokens += self._codec.layout.after_observation
        return tuple(self.tokens)

    def complete(self, sample: Sample, choices: tuple[Ids, ...] | None, schema: str | None = None) -> str:
        """Append the policy's completion; return its text."""
        start = len(self.tokens)
        self.tokens += sample.tokens
        end, log_probs = len(self.tokens), sample.log_probs
        self.turns.append(Turn(start, end, log_probs, {}, sample.version, sample.digest, choices, schema))
        layout = self._codec.layout
        self.tokens += layout.after_stop if sample.stopped else layout.after_cut
        return self._codec.read(sample)

    def earned(self, rewards: dict[str, float]) -> None:
        """Add rewards, by stream, to the latest turn."""
        turn = self.turns[-1]
        total = {stream: turn.rewards.get(stream, 0.0) + value for stream, value in rewards.items()}
        self.turns[-1] = turn._replace(rewards=total)

    @property
    def written(self) -> Ids:
        """The tokens up to the end of the last completion; no policy has read those after it."""
        return tuple(self.tokens[: self.turns[-1].end]) if self.turns else ()
