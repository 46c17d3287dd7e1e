"""Which tokens may continue an object of a schema, against a regular expression, the worlds, and other engines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from chaosops_ray.agents.forms import MAX_TEXT
from chaosops_ray.grammar import MAX_BYTES, Grammar, GrammarError, Vocabulary, Writing, grammar, least
from chaosops_ray.sim import ENVIRONMENTS, environment_named
from chaosops_ray.sim.speech import Unparsed
from tests.support.schemas import bytes_of, is_whole, leads_on, schema_of
from tests.support.tokenizers import END, byte_tokenizer, saved

SEATS = [(world, role) for world in ENVIRONMENTS for role in environment_named(world).roles]
# Tokens that cross from one part of an object into the next, split a character, or hold many.
PIECES = (
    '{"', '"}', '"}}', '", "', '": "', '": ', '{"action": "', '{"tool": "', '", "arguments": {"', '\\"', "\\u", "\\ud8",
    "\\ud83d\\ude00", "re", "start", " the", "  ", " " * 64, "a" * 40, "é", "→ ", "00", "e999", "-0", "1.5", "null", "<",
    '""', "Infinity", "}\n", ", ", ",", "\n\n", "submit_answer", "\t",
)  # fmt: skip
SPLIT = ("é", "→", "😀")


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with these pieces, and with parts of characters, as merges of large corpora make them."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    single = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [level.pre_tokenize_str(piece)[0][0] for piece in PIECES]
    halves = [level.pre_tokenize_str(one)[0][0] for one in SPLIT]
    pieces += [half[:place] for half in halves for place in range(2, len(half))] + [half[1:] for half in halves]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(dict.fromkeys(single + pieces))}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = level, decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken('"}\n', normalized=False)])
    tokenizer.add_special_tokens([AddedToken(END, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("pieces"), piece_tokenizer())


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model / "tokenizer.json"))


@pytest.fixture(scope="module")
def stop(tokenizer: Tokenizer) -> int:
    return int(tokenizer.token_to_id(END))


Walk = Callable[..., tuple[list[int], str]]


@pytest.fixture(scope="module")
def walk(model: Path, tokenizer: Tokenizer, stop: int) -> Walk:
    """Write a completion of a schema at random; return its tokens, and its text without the stop token."""

    inner = {token for piece, token in tokenizer.get_vocab().items() if '"' not in piece}

    def through(schema: str, limit: int, draw: random.Random, longing: float = 0.0) -> tuple[list[int], str]:
        """With `longing`, tokens that go on in a text are drawn that often where there are any."""
        writing, tokens = Writing(grammar(str(model), schema), limit, stop), []
        while not writing.is_done:
            allowed = writing.allowed().tolist()
            going_on = sorted(inner.intersection(allowed)) if draw.random() < longing else []
            tokens.append(draw.choice(going_on or allowed))
            writing.write(tokens[-1])
        assert tokens[-1] == stop
        return tokens, tokenizer.decode(tokens[:-1], skip_special_tokens=False)

    return through


def writes(model: Path, schema: str, tokens: list[int], stop: int, limit: int = 10_000) -> Writing:
    writing = Writing(grammar(str(model), schema), limit, stop)
    for token in tokens:
        assert token in writing.allowed()
        writing.write(token)
    return writing


# -- the worlds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "role"), SEATS)
def test_all_that_a_schema_permits_is_an_action(walk: Walk, world: str, role: str) -> None:
    """At random, at any limit of tokens; it ends by itself, within the limit, and is an object of the schema."""
    environment, schema = environment_named(world), schema_of(world, role)
    read, needed = json.loads(schema), least(json.loads(schema))
    kinds = set()
    for seed in range(30):
        draw = random.Random(seed)
        limit = draw.choice((needed, needed + 1, needed + 20, 400))
        tokens, text = walk(schema, limit, draw, longing=draw.choice((0.0, 0.9, 1.0)))
        assert len(tokens) <= limit
        assert len(text.encode()) <= MAX_BYTES
        action = environment.parse_action(text)
        assert not isinstance(action, Unparsed), text
        assert action == environment.action_of(json.loads(text)), text
        jsonschema.validate(json.loads(text), read)
        assert is_whole(schema, text.encode())
        kinds.add(next(iter(json.loads(text).values())))
    assert len(kinds) > len(environment.forms(role, "strict")) // 3


@pytest.mark.parametrize(("world", "role"), SEATS)
def test_every_permitted_action_is_written_as_the_schema_has_it(
    model: Path, tokenizer: Tokenizer, stop: int, world: str, role: str
) -> None:
    environment, schema = environment_named(world), schema_of(world, role)
    seen = set()
    for scenario in environment.scenarios(environment.selections[0], [3])[::5]:
        state = environment.start(scenario, "strict")
        policy = environment.policies[environment.usual](scenario, "strict")
        while (acting := environment.acting(state)) is not None:
            view = environment.view(state, acting)
            action = policy(view)
            if acting == role:
                kinds = environment.permitted(view) or ()
                seen |= {environment.format_action(one, "full") for kind in kinds for one in kind if one != action}
                seen.add(environment.format_action(action, "full"))
            state = environment.step(state, action).world
    assert len(seen) > 5
    for text in seen:
        if len(text.encode()) > MAX_BYTES:
            continue
        tokens = [*tokenizer.encode(text).ids, stop]
        assert writes(model, schema, tokens, stop).is_done, text


@pytest.mark.parametrize("character", ["é", "\\u0000", "😀", '\\"', "a", "\\ud83d\\ude00", "{", "["])
def test_the_longest_text_is_still_an_action(model: Path, tokenizer: Tokenizer, stop: int, character: str) -> None:
    """A world may write it out longer than the model did: with an escape for each character."""
    tools = environment_named("tools")
    opened, closed = '{"tool": "submit_answer", "arguments": {"answer": "', '", "reasoning": ""}}'
    room = MAX_BYTES - len(opened + closed)
    text = opened + character * (room // len(character.encode())) + closed
    assert writes(model, schema_of("tools", "agent"), [*tokenizer.encode(text).ids, stop], stop).is_done
    assert not isinstance(tools.parse_action(text), Unparsed)


def test_the_longest_object_is_no_longer_than_any_text_of_the_schema() -> None:
    assert MAX_BYTES <= MAX_TEXT


# -- what is refused --------------------------------------------------------------------------------------------------

TALK, NUMBERS = (
    '{"action": "communicate", "message": "%s"}',
    '{"tool": "compare_values", "arguments": {"a": %s, "b": 1}}',
)


@pytest.mark.parametrize(
    "text",
    [
        *[TALK % one for one in ("\n", "\x00", "\x1f", "\\", "\\x", "\\u12", "\\ud800", "\\udc00", "\\ud800\\u0041", '"')],
        TALK % "\\uD83D\\uD83D",
        *[NUMBERS % one for one in ("1e999", "1E5", "9" * 600, "NaN", "-Infinity", "01", "+1", "1.", ".5", "--1", "- 1")],
        *[NUMBERS % one for one in ("0." + "3" * 18, "true", "null", "[1]", "{}", "0x1")],
        ' {"action": "noop"}',
        '{ "action": "noop"}',
        '{"action":"noop"}',
        '{"action": "noop" }',
        '{"action": "noop", "action": "noop"}',
        '{"action": "noop", "to": "sre"}',
        '{"action": "noop",}',
        '{"action": "dance"}',
        '{"action": "restart"}',
        '{"action": "communicate", "to": "sre", "message": "x"}',
        '{"action": "communicate", "message": "x", "to": "god"}',
        '{"action": "communicate", "message": "x", "to": ""}',
        '{"tool": "submit_answer", "arguments": {"answer": "x"}}',
        '{"tool": "submit_answer", "arguments": {"answer": 1, "reasoning": ""}}',
        '{"tool": "submit_answer"}',
        "noop",
        "",
    ],
)  # fmt: skip
def test_what_is_no_action_in_this_form_cannot_be_written(
    model: Path, tokenizer: Tokenizer, stop: int, text: str
) -> None:
    schema = schema_of("tools", "agent") if '"tool"' in text else schema_of("incident", "sre")
    writing = Writing(grammar(str(model), schema), 1000, stop)

    def write() -> None:
        for token in [*tokenizer.encode(text).ids, stop]:
            writing.write(token)

    with pytest.raises(GrammarError, match="cannot stand here"):
        write()


def test_nothing_follows_the_object_but_its_end(model: Path, tokenizer: Tokenizer, stop: int) -> None:
    writing = writes(model, schema_of("incident", "sre"), tokenizer.encode('{"action": "noop"}').ids, stop)
    assert writing.allowed().tolist() == [stop]
    for token in tokenizer.encode(" \n}{").ids:
        with pytest.raises(GrammarError):
            writing.write(token)
    writing.write(stop)
    assert writing.is_done
    assert writing.allowed().tolist() == []
    with pytest.raises(GrammarError):
        writing.write(stop)


def test_no_special_or_added_token_stands_in_a_text(model: Path, tokenizer: Tokenizer, stop: int) -> None:
    """Not the stop token either, nor one that was added with a quotation mark in it."""
    writing = writes(model, schema_of("incident", "sre"), tokenizer.encode(TALK.partition("%")[0]).ids, stop)
    added = {int(tokenizer.token_to_id(END)), int(tokenizer.token_to_id('"}\n'))}
    assert added.isdisjoint(writing.allowed().tolist())
    assert len(writing.allowed()) > 150


# -- exactly what leads on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "role"), [("incident", "dev"), ("tools", "agent")])
def test_a_token_is_permitted_exactly_where_its_bytes_lead_on(
    model: Path, walk: Walk, stop: int, world: str, role: str
) -> None:
    schema, spelt = schema_of(world, role), bytes_of(piece_tokenizer())
    for seed in range(4):
        tokens, _ = walk(schema, 160, random.Random(seed), longing=0.5)
        writing, before = Writing(grammar(str(model), schema), 10_000, stop), b""
        for token in tokens[:-1][:60]:
            expected = [one for one, piece in spelt.items() if leads_on(schema, before + piece)]
            assert writing.allowed().tolist() == sorted(expected), before
            writing.write(token)
            before += spelt[token]


@pytest.mark.parametrize("limit", [30, 31, 33, 40])
def test_near_the_limit_only_what_can_still_be_ended_is_permitted(
    model: Path, tokenizer: Tokenizer, stop: int, limit: int
) -> None:
    """Counted out for an object whose shortest ending is known at every place."""
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer", "exclusiveMinimum": -10, "exclusiveMaximum": 10}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    )  # fmt: skip
    for seed in range(3):
        draw = random.Random(seed)
        writing, written = Writing(grammar(str(model), schema), limit, stop), ""
        left = limit
        while not writing.is_done:
            for token in writing.allowed().tolist():
                after = written + ("" if token == stop else tokenizer.decode([token]))
                if "�" not in after and token != stop:
                    assert len(ending(after)) + 1 <= left - 1, (after, left)
            token = draw.choice(writing.allowed().tolist())
            writing.write(token)
            written += tokenizer.decode([token])
            left -= 1
        assert left >= 0


def ending(written: str) -> str:
    """The shortest end of an object {"a": text, "b": digit}, of which this much is written."""
    whole = '{"a": "", "b": 0}'
    within = ("", "n", "n0", "0", "00", "000", "0000", "\\udc00", "udc00", "dc00", "c00", '"')
    ends = [part + whole[start:] for part in within for start in range(len(whole) + 1)]
    return min([end for end in ends if _reads(written + end)], key=len)


def _reads(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return list(found) == ["a", "b"]


def test_a_limit_with_no_room_for_each_kind_of_object_is_refused(model: Path, stop: int) -> None:
    schema = schema_of("incident", "sre")
    with pytest.raises(GrammarError, match=f"may take {least(json.loads(schema))} tokens; raise max_tokens from 20"):
        Writing(grammar(str(model), schema), 20, stop)


def test_bits_are_the_permitted_tokens(model: Path, walk: Walk, stop: int) -> None:
    schema = schema_of("tools", "agent")
    tokens, _ = walk(schema, 120, random.Random(5), longing=0.9)
    writing = Writing(grammar(str(model), schema), 120, stop)
    for token in tokens:
        bits = np.unpackbits(np.frombuffer(writing.bits(), np.uint8), bitorder="little")
        assert bits.nonzero()[0].tolist() == writing.allowed().tolist()
        writing.write(token)
    assert writing.bits() == b""


def test_the_masks_are_those_of_the_engine_behind_vllms_structured_output(model: Path, walk: Walk, stop: int) -> None:
    """From the same schema, but for figures and escapes, of which it permits more, and far from any limit."""
    xgrammar = pytest.importorskip("xgrammar")
    pieces = bytes_of(piece_tokenizer())
    encoded = [pieces.get(token, b"") for token in range(stop + 1)]
    info = xgrammar.TokenizerInfo(encoded, stop_token_ids=[stop])
    schema = schema_of("incident", "dev")
    # With a maxLength it permits no escapes in a text.
    theirs = schema.replace('"type": "string", "maxLength": 2000', '"type": "string"')
    compiled = xgrammar.GrammarCompiler(info).compile_json_schema(theirs, any_whitespace=False, separators=(", ", ": "))
    alike = count = 0
    for seed in range(8):
        tokens, _ = walk(schema, 200, random.Random(seed), longing=0.6)
        matcher, before = xgrammar.GrammarMatcher(compiled), b""
        writing = Writing(grammar(str(model), schema), 10_000, stop)
        for token in tokens:
            mask = xgrammar.allocate_token_bitmask(1, stop + 1)
            matcher.fill_next_token_bitmask(mask)
            permitted = set(np.unpackbits(mask.numpy().view(np.uint8)[0], bitorder="little").nonzero()[0].tolist())
            ours = set(writing.allowed().tolist())
            alike += ours == permitted
            # Here -0 is a figure as well.
            assert ours <= permitted or before.endswith(b'"replicas": ')
            assert matcher.accept_token(token)
            writing.write(token)
            before += pieces.get(token, b"")
            count += 1
    assert alike > 0.5 * count > 100


# -- tokenizers and schemas -------------------------------------------------------------------------------------------


def test_a_vocabulary_with_byte_fallback_is_read_as_well(tmp_path: Path) -> None:
    """As SentencePiece writes it: spaces as ▁, and bytes as <0xNN>."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocabulary |= {piece: 256 + place for place, piece in enumerate(('{"', "▁", "a", '"', ":", "ü", "▁b", "noop"))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([END])
    model = saved(tmp_path, PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END))
    stop = made.token_to_id(END)
    text = '{"action": "communicate", "message": "ü b"}'
    assert writes(model, schema_of("incident", "sre"), [*made.encode(text).ids, stop], stop).is_done
    assert made.decode(made.encode(text).ids) == text


def test_a_tokenizer_whose_bytes_are_not_known_is_refused(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"a": 0, END: 1}, unk_token=END))
    saved(tmp_path, PreTrainedTokenizerFast(tokenizer_object=words, eos_token=END))
    with pytest.raises(GrammarError, match=r"set rollout\.structured to choices or no"):
        Vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "array"}, "'array' is not known here"),
        ({"type": "object", "properties": {}}, "additionalProperties: false"),
        ({"enum": [1, 2]}, "list text"),
        ({"enum": []}, "list text"),
        ({"type": "number"}, "lies between"),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}, "lies between"),
        ({"type": "string", "maxLength": 5}, "maxLength"),
        ({"type": "string", "pattern": "a+"}, "pattern"),
    ],
)
def test_a_schema_that_asks_for_more_is_refused(tmp_path: Path, schema: dict[str, Any], why: str) -> None:
    """It is never kept to in part."""
    whole = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    with pytest.raises(GrammarError, match=why):
        Grammar(Vocabulary(saved(tmp_path, byte_tokenizer())), json.dumps(whole))


def test_very_long_lists_are_kept_to(model: Path, tokenizer: Tokenizer, stop: int, walk: Walk) -> None:
    names = [f'service-{number}-é-"quoted"-{"x" * (number % 50)}' for number in range(500)]
    schema = json.dumps(
        {"type": "object", "properties": {"a": {"enum": names}}, "required": ["a"], "additionalProperties": False}
    )
    for seed in range(10):
        _, text = walk(schema, 400, random.Random(seed))
        assert json.loads(text)["a"] in names
    for ascii in (False, True):  # noqa: A001
        text = json.dumps({"a": names[7]}, ensure_ascii=ascii)
        assert writes(model, schema, [*tokenizer.encode(text).ids, stop], stop).is_done
