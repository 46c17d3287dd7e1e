"""Pretrained models: found by path or fetched by hub name, and the chat layout of their tokenizer."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from chaosops_ray.agents.tokens import TOKENIZER_FILE, Codec
from chaosops_ray.config import ConfigError
from chaosops_ray.plain_text import one_line
from chaosops_ray.store import versions
from chaosops_ray.training.base_models import BaseModel, local
from chaosops_ray.wire import Ids, Layout

# Stand-ins that no template alters; they show where the template puts each part of a conversation.
_PARTS = _PROMPT, _OBSERVATION, _COMPLETION, _NEXT = "\x02brief\x03", "\x02seen\x03", "\x02said\x03", "\x02next\x03"


def of(name: str, path: Path) -> BaseModel:
    """Return the model of this name, which is in this folder, with its layout."""
    found = tokenizer(path)
    laid_out = layout(found)
    _check_unspeakable(path, found, laid_out)
    return BaseModel(name, path, versions.base_digest(path), laid_out)


def locate(name: str) -> Path:
    """Return the folder of a model given by path or hub name, fetched if needed; nothing is loaded yet."""
    folder = local(name)
    if folder is not None:
        return folder
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = one_line(error, 160, part="first")
        raise ConfigError(f"model: {name} is neither a folder here nor available from the hub ({reason})") from None


def tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model's folder from its file.

    AutoTokenizer would give other ids: for some architectures, such as Qwen2, it builds a pre-tokenizer of its own.
    """
    file = path / TOKENIZER_FILE
    if not file.is_file():
        raise ConfigError(f"model: {path} has no {TOKENIZER_FILE}; save its tokenizer in that form")
    try:
        return PreTrainedTokenizerFast.from_pretrained(path)
    except Exception as error:
        # The library raises KeyError, TypeError, or a bare Exception for a bad file.
        raise ConfigError(f"model: {file} is not a valid tokenizer; save the model's tokenizer again") from error


def layout(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """Return the layout of the tokenizer's chat template; without one, lines and an end of text."""

    def ids(text: str) -> Ids:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise ConfigError("model: its tokenizer has no end-of-text token; completions could not end")
    if tokenizer.chat_template is None:
        line = ids("\n")
        begin: int | None = tokenizer.bos_token_id
        head = (begin,) if begin is not None and tokenizer.encode("")[:1] == [begin] else ()
        return Layout(head, line, line, line, (end, *line), (end,))
    opened, whole = _templated(tokenizer, _PARTS[:2]), _templated(tokenizer, _PARTS)
    counts = [*[opened.count(part) for part in _PARTS[:2]], *[whole.count(part) for part in _PARTS]]
    if counts != [1] * len(counts):
        raise ConfigError("model: its chat template drops or repeats what it is given; transcripts cannot be laid out")
    if whole.partition(_OBSERVATION)[0] != opened.partition(_OBSERVATION)[0]:
        raise ConfigError("model: its chat template moves earlier messages; transcripts only ever grow")
    before, _, rest = opened.partition(_PROMPT)
    between, _, generation = rest.partition(_OBSERVATION)
    close = ids(whole.partition(_COMPLETION)[2].partition(_NEXT)[0])
    special = _special(tokenizer)
    stop = next((token for token in close if token in special), None)
    if stop is None:
        raise ConfigError("model: its chat template ends a turn without a special token; completions could not end")
    after_stop = close[close.index(stop) + 1 :]
    stops = tuple(dict.fromkeys((stop, end)))
    return Layout(ids(before), ids(between), ids(generation), after_stop, (stop, *after_stop), stops)


def _templated(tokenizer: PreTrainedTokenizerBase, parts: tuple[str, ...]) -> str:
    """Apply the template to a system prompt, an observation, a completion, an observation."""
    roles = ("system", "user", "assistant", "user")
    conversation = [{"role": role, "content": text} for role, text in zip(roles, parts, strict=False)]
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
    except chat_template_utils.jinja2.TemplateError as error:
        reason = one_line(error, 160)
        raise ConfigError(f"model: its chat template refuses a system prompt and observations ({reason})") from None


def _special(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    marked = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    return {*tokenizer.all_special_ids, *marked}


def _check_unspeakable(path: Path, tokenizer: PreTrainedTokenizerBase, laid_out: Layout) -> None:
    """Check that text cannot spell what only the layout may write, such as the end of a turn."""
    codec = Codec(path, laid_out)
    for token in sorted(_special(tokenizer) & {token for part in laid_out for token in part}):
        spelling = codec.decode((token,))
        if token in codec.encode(spelling):
            raise ConfigError(f"model: {TOKENIZER_FILE} lets text spell {spelling!r}; mark it as special there")
