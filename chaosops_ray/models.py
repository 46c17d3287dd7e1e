"""Base models by name or path: where they lie, what digest they have, how their transcripts are laid out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from chaosops_ray import tiny, versions
from chaosops_ray.config import TINY, ConfigError
from chaosops_ray.wire import Ids, Layout
from chaosops_ray.workers.transcript import TOKENIZER_FILE

# Stand-ins that no template alters, to see where the template puts what.
_BRIEF, _OBSERVATION, _COMPLETION, _NEXT = "\x02brief\x03", "\x02seen\x03", "\x02said\x03", "\x02next\x03"


class BaseModel(NamedTuple):
    """A base model that is ready to be loaded."""

    name: str
    path: Path
    digest: str
    layout: Layout


def prepare(name: str, progress: Callable[[int, int], None] = lambda _done, _steps: None) -> BaseModel:
    """The model of this name: built, found or fetched."""
    if name == TINY:
        path = tiny.ensure(progress)
        return BaseModel(name, path, versions.base_digest(path), tiny.layout(tokenizer(path)))
    path = locate(name)
    return BaseModel(name, path, versions.base_digest(path), layout(tokenizer(path)))


def locate(name: str) -> Path:
    """The folder of a model given by path or hub name; nothing is loaded yet."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(f"model: {name} is a folder without a config.json; give a Hugging Face model's folder")
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"model: there is no folder {name}; give a model's folder, a hub name, or tiny")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise ConfigError(f"model: {name} is neither a folder here nor to be had from the hub ({reason})") from None


def tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model's folder, as its file has it.

    Not by AutoTokenizer: for some architectures, Qwen2 among them, that builds the pre-tokenizer anew from the model's
    type, and gives other ids than the file.
    """
    if not (path / TOKENIZER_FILE).is_file():
        raise ConfigError(f"model: {path} has no {TOKENIZER_FILE}; save its tokenizer in that form")
    return PreTrainedTokenizerFast.from_pretrained(path)


def layout(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The chat layout of a tokenizer with a template; lines and an end of text without one."""

    def ids(text: str) -> Ids:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise ConfigError("model: its tokenizer has no end-of-text token; completions could not end")
    if tokenizer.chat_template is None:
        line = ids("\n")
        return Layout((), line, line, line, (end, *line), (end,))
    opened = str(
        tokenizer.apply_chat_template(
            [{"role": "system", "content": _BRIEF}, {"role": "user", "content": _OBSERVATION}],
            tokenize=False,
            add_generation_prompt=True,
        )
    )
    whole = str(
        tokenizer.apply_chat_template(
            [
                {"role": "system", "content": _BRIEF},
                {"role": "user", "content": _OBSERVATION},
                {"role": "assistant", "content": _COMPLETION},
                {"role": "user", "content": _NEXT},
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
    )
    for text, marks in ((opened, (_BRIEF, _OBSERVATION)), (whole, (_COMPLETION, _NEXT))):
        if any(text.count(mark) != 1 for mark in marks):
            raise ConfigError(
                "model: its chat template drops or repeats what it is given; transcripts cannot be laid out"
            )
    head, _, rest = opened.partition(_BRIEF)
    between, _, generation = rest.partition(_OBSERVATION)
    glue = whole.partition(_COMPLETION)[2].partition(_NEXT)[0]
    close = ids(glue)
    stops = [token for token in close if token in tokenizer.all_special_ids]
    if not stops:
        raise ConfigError("model: its chat template ends a turn without a special token; completions could not end")
    stop = stops[0]
    after_stop = close[close.index(stop) + 1 :]
    return Layout(
        ids(head), ids(between), ids(generation), after_stop, (stop, *after_stop), tuple(dict.fromkeys((stop, end)))
    )
