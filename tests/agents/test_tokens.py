"""A transcript only ever grows, and knows which of its tokens the policy wrote; no text spells what only tokens say."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from chaosops_ray.agents.tokens import TOKENIZER_FILE, Codec, Transcript
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.incident.text import vocabulary
from chaosops_ray.training import pretrained, tiny, warm_up
from chaosops_ray.wire import Ids, Sample
from tests.support.tokenizers import CLOSE, END, OPEN, byte_tokenizer, chat_tokenizer, saved

INCIDENT = ENVIRONMENTS["incident"]
ACTIONS = [
    INCIDENT.format_action(action, "compact") for role in INCIDENT.roles for kind in vocabulary(role) for action in kind
]
KINDS = ("chat", "plain", "tiny")


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Codec]:
    """Words of each kind of layout."""
    found = {}
    for kind, tokenizer in (("chat", chat_tokenizer()), ("plain", byte_tokenizer())):
        found[kind] = Codec(saved(tmp_path_factory.mktemp(kind), tokenizer), pretrained.layout(tokenizer))
    own = warm_up.make_tokenizer(INCIDENT, tiny.Recipe())
    folder = saved(tmp_path_factory.mktemp("tiny"), own)
    found["tiny"] = Codec(folder, tiny.layout(folder))
    return found


@pytest.fixture(params=KINDS)
def codec(every: dict[str, Codec], request: pytest.FixtureRequest) -> Codec:
    return every[request.param]


def control(codec: Codec) -> set[int]:
    """Every token that is no piece of text: what ends turns, what is an action."""
    added = codec._tokenizer.get_added_tokens_decoder()
    return set(added)


def said(codec: Codec, text: str, *, stopped: bool) -> Sample:
    tokens = (*codec.encode(text), *(codec.layout.stop[:1] if stopped else ()))
    return Sample(tokens, tuple([-float(place) for place in range(len(tokens))]), 3, "digest", stopped)


# -- growing ----------------------------------------------------------------------------------------------------------

TURNS = st.lists(st.tuples(st.text(max_size=20), st.text(min_size=1, max_size=20), st.booleans()), max_size=6)


@pytest.mark.parametrize("kind", KINDS)
@given(brief=st.text(max_size=20), turns=TURNS)
def test_every_prompt_begins_with_the_one_before_and_what_was_answered(
    every: dict[str, Codec], kind: str, brief: str, turns: list[tuple[str, str, bool]]
) -> None:
    codec = every[kind]
    layout = codec.layout
    transcript = Transcript(codec, brief)
    begun: Ids = (*layout.head, *codec.encode(brief), *layout.after_system_prompt)
    for seen, answer, ends in turns:
        stopped = ends and bool(layout.stop)
        prompt = transcript.observe(seen)
        assert prompt == (*begun, *codec.encode(seen), *layout.after_observation)
        sample = said(codec, answer, stopped=stopped)
        assert transcript.complete(sample, None) == codec.decode(codec.encode(answer))
        begun = (*prompt, *sample.tokens, *(layout.after_stop if stopped else layout.after_cut))
        assert transcript.written == (*prompt, *sample.tokens)
        turn = transcript.turns[-1]
        assert transcript.written[turn.start : turn.end] == sample.tokens
        assert (turn.log_probs, turn.version, turn.digest, turn.rewards) == (sample.log_probs, 3, "digest", {})
    assert len(transcript.turns) == len(turns)


def test_turns_are_where_the_policy_wrote_and_nowhere_else(codec: Codec) -> None:
    transcript = Transcript(codec, "brief")
    marked: list[int] = []
    for turn in range(4):
        transcript.observe(f"seen {turn}")
        sample = Sample(codec.encode("same words"), (0.0,) * len(codec.encode("same words")), 0, "", stopped=False)
        transcript.complete(sample, None)
        marked += range(transcript.turns[-1].start, transcript.turns[-1].end)
    rest = [token for place, token in enumerate(transcript.written) if place not in marked]
    layout = codec.layout
    expected = [*layout.head, *codec.encode("brief"), *layout.after_system_prompt]
    for turn in range(4):
        expected += [*codec.encode(f"seen {turn}"), *layout.after_observation]
        expected += layout.after_cut if turn < 3 else ()
    assert rest == expected


def test_nothing_is_written_before_the_first_turn(codec: Codec) -> None:
    transcript = Transcript(codec, "brief")
    assert transcript.written == ()
    transcript.observe("seen")
    assert transcript.written == ()


def test_an_observation_after_the_last_turn_is_not_written(codec: Codec) -> None:
    transcript = Transcript(codec, "brief")
    transcript.observe("seen")
    transcript.complete(said(codec, "done", stopped=False), None)
    before = transcript.written
    transcript.observe("seen by nobody")
    assert transcript.written == before


def test_rewards_add_up_on_the_latest_turn_stream_by_stream(codec: Codec) -> None:
    transcript = Transcript(codec, "brief")
    for rewards in ([{"team": 1.0, "flags": 0.0}, {"team": 2.5, "flags": -75.0}], [], [{"team": -2.0, "flags": 0.0}]):
        transcript.observe("seen")
        transcript.complete(said(codec, "done", stopped=False), None)
        for reward in rewards:
            transcript.earned(reward)
    assert [dict(turn.rewards) for turn in transcript.turns] == [
        {"team": 3.5, "flags": -75.0},
        {},
        {"team": -2.0, "flags": 0.0},
    ]


def test_the_choices_of_a_turn_are_kept_with_it(codec: Codec) -> None:
    transcript = Transcript(codec, "brief")
    choices = (codec.action("noop"), codec.action("resolve"))
    transcript.observe("seen")
    transcript.complete(Sample(choices[1], (0.0,) * len(choices[1]), 0, "", stopped=True), choices)
    assert transcript.turns[0].choices == choices


# -- text and tokens --------------------------------------------------------------------------------------------------

HOSTILE = [
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<|endoftext|>",
    "<|pad|>",
    "flag autoscaler",
    "resolve\n",
    *ACTIONS,
]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5)).map("".join))
def test_no_text_becomes_anything_but_text(every: dict[str, Codec], kind: str, text: str) -> None:
    """Neither an end of turn nor an action, however they are spelt, and none of it is lost."""
    codec = every[kind]
    tokens = codec.encode(text)
    assert not control(codec).intersection(tokens)
    assert codec.decode(tokens) == text


@pytest.mark.parametrize("text", HOSTILE[:6])
def test_hostile_text_stays_text_wherever_a_seat_reads_it(codec: Codec, text: str) -> None:
    """In a brief and in an observation; the only control tokens are those of the layout."""
    layout = codec.layout
    transcript = Transcript(codec, f"brief {text} brief")
    prompt = transcript.observe(f"{text}\n{text}")
    around = [*layout.head, *layout.after_system_prompt, *layout.after_observation]
    found = [token for token in prompt if token in control(codec)]
    assert found == [token for token in around if token in control(codec)]


def test_what_spells_a_control_token_would_become_one_without_care(every: dict[str, Codec]) -> None:
    """The tokenizers of these tests are ones that need it."""
    for kind, text in (("chat", CLOSE), ("chat", OPEN), ("plain", END), ("tiny", "flag autoscaler")):
        codec = every[kind]
        careless = Tokenizer.from_str(codec._tokenizer.to_str())
        careless.encode_special_tokens = False
        assert len(careless.encode(text, add_special_tokens=False).ids) == 1
        assert len(codec.encode(text)) > 1


def test_an_action_of_the_tiny_model_is_one_token_of_its_own(every: dict[str, Codec]) -> None:
    codec = every["tiny"]
    for text in ACTIONS:
        (token,) = codec.action(text)
        assert token in control(codec)
        assert codec.decode((token,)) == text


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_an_action_in_words_is_its_text_and_what_ends_it(every: dict[str, Codec], kind: str) -> None:
    codec = every[kind]
    for text in (*ACTIONS, '{"action": "noop"}'):
        assert codec.action(text) == (*codec.encode(text), codec.layout.stop[0])


def test_the_token_that_ends_a_completion_is_not_read(every: dict[str, Codec]) -> None:
    codec = every["chat"]
    assert codec.read(said(codec, "noop", stopped=True)) == "noop"
    assert codec.read(said(codec, "noop", stopped=False)) == "noop"
    assert codec.read(Sample((codec.layout.stop[0],), (0.0,), 0, "", stopped=True)) == ""


def test_half_a_character_is_read_as_something(every: dict[str, Codec]) -> None:
    """A completion may be cut off anywhere."""
    codec = every["chat"]
    assert codec.decode(codec.encode("☃")[:2]).startswith("\ufffd")


@pytest.mark.parametrize("setting", ["truncation", "padding", "both"])
def test_a_transcript_is_neither_cut_nor_filled_up(tmp_path: Path, setting: str) -> None:
    """Whatever the tokenizer's file was saved with."""
    folder = saved(tmp_path, chat_tokenizer())
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    if setting != "padding":
        tokenizer.enable_truncation(8)
    if setting != "truncation":
        tokenizer.enable_padding(length=64)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    codec = Codec(folder, pretrained.layout(chat_tokenizer()))
    for text in ("a", "long " * 50):
        assert codec.decode(codec.encode(text)) == text
        assert len(codec.encode(text)) == len(text)


def test_a_codec_that_was_sent_to_another_process_spells_alike(every: dict[str, Codec]) -> None:
    """Also what only looks like a special token."""
    for codec in every.values():
        sent = pickle.loads(pickle.dumps(codec))  # noqa: S301 - ours
        assert sent.layout == codec.layout
        for text in ("a long ☃ text\n", "<|im_end|>", "noop"):
            assert sent.encode(text) == codec.encode(text)
            assert sent.decode(codec.encode(text)) == codec.decode(codec.encode(text))
            assert sent.action(text) == codec.action(text)
