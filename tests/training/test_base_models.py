"""A base model is found or it is told in a line why not; its chat template becomes a layout that says the same tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from chaosops_ray.agents.tokens import TOKENIZER_FILE, Codec, Transcript
from chaosops_ray.config import ConfigError
from chaosops_ray.store import versions
from chaosops_ray.training import base_models, pretrained
from chaosops_ray.training.pretrained import layout
from chaosops_ray.wire import Ids, Layout, Sample
from tests.support.models import small_model
from tests.support.tokenizers import CHATML, CLOSE, END, OPEN, byte_tokenizer, chat_tokenizer, saved

TALK = ("You watch.\nSay one thing.", "Step 1\nYour action:", '{"action": "noop"}', "Step 2 ☃", "two\nlines", "Step 3")
# The same, with a beginning of text, a system message that is no turn of its own, and an end that is not the turn's only.
LLAMA = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ message.content + '<|endoftext|>' }}"
    "{% else %}{{ '[' + message.role + '] ' + message.content + ' [/' + message.role + '] ' }}{% endif %}{% endfor %}"
)


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*given)
    said = str(caught.value)
    assert said.startswith("model: ")
    assert len(said.splitlines()) == 1
    return said


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> Ids:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def templated(tokenizer: PreTrainedTokenizerFast, *contents: str) -> Ids:
    """A conversation as the template has it, which ends where the model is to speak."""
    roles = ("system", *("user", "assistant") * len(contents))
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return ids(tokenizer, str(text))


# -- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True], ids=["stopped", "cut off"])
@pytest.mark.parametrize("kind", ["chatml", "llama"])
def test_a_transcript_is_what_the_template_makes_of_the_conversation(tmp_path: Path, kind: str, cut: bool) -> None:
    """Token for token at every turn, however completions end."""
    tokenizer = chat_tokenizer() if kind == "chatml" else byte_tokenizer(LLAMA, (END, "<|begin|>"))
    codec = Codec(saved(tmp_path, tokenizer), layout(tokenizer))
    brief, *turns = TALK
    transcript = Transcript(codec, brief)
    for turn in range(0, len(turns), 2):
        assert transcript.observe(turns[turn]) == templated(tokenizer, *TALK[: turn + 2])
        if turn + 1 < len(turns):
            said = codec.encode(turns[turn + 1])
            written = said if cut else (*said, codec.layout.stop[0])
            assert transcript.complete(Sample(written, (0.0,) * len(written), 0, "", not cut), None) == turns[turn + 1]


def test_a_layout_names_the_parts_of_the_template() -> None:
    tokenizer = chat_tokenizer()
    assert layout(tokenizer) == Layout(
        head=ids(tokenizer, f"{OPEN}system\n"),
        after_system_prompt=ids(tokenizer, f"{CLOSE}\n{OPEN}user\n"),
        after_observation=ids(tokenizer, f"{CLOSE}\n{OPEN}assistant\n"),
        after_stop=ids(tokenizer, f"\n{OPEN}user\n"),
        after_cut=ids(tokenizer, f"{CLOSE}\n{OPEN}user\n"),
        stop=ids(tokenizer, CLOSE),
    )


def test_an_end_of_text_beside_the_end_of_turn_stops_too() -> None:
    tokenizer = byte_tokenizer(CHATML, (END, OPEN, CLOSE))
    assert layout(tokenizer).stop == ids(tokenizer, f"{CLOSE}{END}")


def test_a_special_token_that_has_no_name_of_its_own_ends_a_turn() -> None:
    """Only the end of text is called something; the end of a turn is marked as special in the file and nowhere else."""
    tokenizer = byte_tokenizer(CHATML, (END, OPEN, CLOSE))
    assert ids(tokenizer, CLOSE)[0] not in tokenizer.all_special_ids
    assert layout(tokenizer).stop[0] == ids(tokenizer, CLOSE)[0]


def test_without_a_template_there_are_lines_and_an_end_of_text() -> None:
    tokenizer = byte_tokenizer()
    line, end = ids(tokenizer, "\n"), ids(tokenizer, END)
    assert layout(tokenizer) == Layout((), line, line, line, (*end, *line), end)


def test_without_a_template_a_text_begins_as_the_tokenizer_begins_it() -> None:
    tokenizer = byte_tokenizer(None, (END, "<|begin|>"))
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    assert layout(tokenizer).head == ()
    (begin,) = ids(tokenizer, "<|begin|>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", begin)]
    )
    assert layout(tokenizer).head == (begin,)


def test_a_tokenizer_without_an_end_of_text_is_told() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    assert refused(layout, tokenizer) == ("model: its tokenizer has no end-of-text token; completions could not end")


USER_ONLY = "{% for m in messages %}{% if m.role != 'system' %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
TWICE = CHATML.replace("message.content", "message.content + message.content")
LAST_ONLY = "{{ '<|im_start|>' + messages[0].content + messages[-1].content + '<|im_end|>' }}"
# As some of Mistral's: the system message goes with the last of the user's, wherever that stands.
MOVED = (
    "{% for m in messages[1:] %}{% if loop.last %}{{ messages[0].content }}{% endif %}"
    "{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}"
)
ENDLESS = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (USER_ONLY, "its chat template drops or repeats what it is given"),
        (TWICE, "its chat template drops or repeats what it is given"),
        (LAST_ONLY, "its chat template drops or repeats what it is given"),
        (MOVED, "its chat template moves earlier messages"),
        (ENDLESS, "its chat template ends a turn without a special token"),
        ("{{ raise_exception('System role not\nsupported') }}", "refuses a system prompt and observations (System role not"),
        ("{% for m in", "its chat template refuses a system prompt and observations (unexpected 'end of template')"),
        ("{{ nothing.at.all }}", "its chat template refuses a system prompt and observations ('nothing' is undefined)"),
    ],
)  # fmt: skip
def test_a_template_that_no_transcript_can_follow_is_told(template: str, said: str) -> None:
    assert said in refused(layout, chat_tokenizer(template))


# -- folders and names ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template."""
    return saved(small_model(tmp_path_factory.mktemp("whole")), chat_tokenizer())


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copied")


def test_a_folder_is_a_model(whole: Path) -> None:
    found = base_models.prepare(str(whole))
    assert found == (str(whole), whole, versions.base_digest(whole), layout(chat_tokenizer()))


def test_a_path_may_begin_at_home_or_here(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(whole.parent))
    monkeypatch.chdir(whole.parent)
    for name in (f"~/{whole.name}", f"./{whole.name}", whole.name):
        assert pretrained.locate(name) == whole


@pytest.mark.parametrize(
    "name", ["/nowhere/at/all", "./nowhere", "~/nowhere", "~nobody-here/nowhere", "a/b/c", "n" * 300]
)
def test_a_path_that_leads_nowhere_is_told(name: str) -> None:
    said = refused(pretrained.locate, name)
    assert name[:80] in said
    assert "folder" in said


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    assert refused(pretrained.locate, str(tmp_path)) == (
        f"model: {tmp_path} is a folder without a config.json; give a Hugging Face model's folder"
    )


@pytest.mark.parametrize("name", ["Qwen/There-is-none", "none-at-all", "", "a b", "two\nlines", "a\0b", "-x"])
def test_a_name_that_the_hub_does_not_have_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads HF_HUB_OFFLINE once, when it is imported; this is what it reads it into."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert "is neither a folder here nor available from the hub (" in refused(pretrained.locate, name)


def test_a_model_without_its_tokenizer_is_told(copied: Path) -> None:
    (copied / TOKENIZER_FILE).unlink()
    assert refused(base_models.prepare, str(copied)) == (
        f"model: {copied} has no tokenizer.json; save its tokenizer in that form"
    )


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": 1}', "\x00"])
def test_a_tokenizer_that_is_none_is_told(copied: Path, text: str) -> None:
    (copied / TOKENIZER_FILE).write_text(text)
    assert "tokenizer.json is not a valid tokenizer" in refused(base_models.prepare, str(copied))


def test_a_model_without_weights_is_told(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(versions.AdapterError, match=r"has no \*\.safetensors weights"):
        base_models.prepare(str(copied))


def test_a_control_token_that_text_can_spell_is_told(copied: Path) -> None:
    """It is special by name, but not in the file: then somebody in the room could end the model's turn."""
    path = copied / TOKENIZER_FILE
    fields = json.loads(path.read_text())
    for added in fields["added_tokens"]:
        added["special"] = False
    path.write_text(json.dumps(fields))
    # The library marks what has a name of its own as special again, but only in memory.
    assert CLOSE in Tokenizer.from_file(str(path)).encode(CLOSE).tokens
    assert "tokenizer.json lets text spell '<|im_end|>'; mark it as special there" in refused(
        base_models.prepare, str(copied)
    )


@pytest.mark.parametrize(
    ("given", "public"), [("{folder}/my-model", "my-model"), ("my-model", "my-model"), ("owner/model", "owner/model")]
)
def test_adapters_name_a_model_and_no_path_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, public: str
) -> None:
    """By its folder, also a relative one, or by its name on the hub."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my-model"
    found = base_models.BaseModel(given.format(folder=tmp_path), path, "00" * 32, Layout((), (), (), (), (), ()))
    assert found.public_name == public
