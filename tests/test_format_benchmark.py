"""The benchmark of the format: what it asks, how it judges, and its table, with a model of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks import format as benchmark
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.training import pretrained
from chaosops_ray.wire import Sample
from tests.support.tokenizers import chat_tokenizer, saved

INCIDENT = ENVIRONMENTS["incident"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token for each byte, and one layer that knows nothing."""
    folder = saved(tmp_path_factory.mktemp("bytes"), chat_tokenizer())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = Qwen2Config(
            vocab_size=len(chat_tokenizer()),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=16_384,
        )
        Qwen2ForCausalLM(shape).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def codec(model: Path) -> Codec:
    return Codec(model, pretrained.layout(chat_tokenizer()))


def test_structured_completions_always_hold_an_action_and_those_of_random_weights_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "format.json"
    options = ["--engine", "torch", "--threads", "1", "--n", "3", "--at-once", "2", "--max-tokens", "64"]
    assert benchmark.main([str(model), *options, "--only", "incident/manager/*", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["engine"], found["temperature"], found["seed"]) == ("torch", 0.8, 0)
    shares = {name: (cell["parsed"], cell["permitted"], cell["n"]) for name, cell in found["cells"].items()}
    assert shares == {
        "incident/manager/full/free": (0, 0, 3),
        "incident/manager/full/choices": (3, 3, 3),
        "incident/manager/full/schema": (3, 3, 3),
        "incident/manager/compact/free": (0, 0, 3),
        "incident/manager/compact/choices": (3, 3, 3),
    }
    said = capsys.readouterr()
    assert "| incident, manager, full | schema | 3 | 100% [44%, 100%] |" in said.out
    assert "incident/manager/compact/choices: 3 of 3" in said.err


def test_a_prompt_is_the_transcript_up_to_a_turn_of_the_role_and_its_seed_s_alone(codec: Codec) -> None:
    ways, places = ("free", "choices", "schema"), set()
    for seed in range(60_000, 60_012):
        asked = benchmark.prompt(INCIDENT, codec, "dev", "full", ways, seed)
        prompts = {request.prompt for request in asked.requests.values()}
        assert prompts == {benchmark.prompt(INCIDENT, codec, "dev", "full", ("free",), seed).requests["free"].prompt}
        assert asked.requests["free"].choices is asked.requests["free"].schema is None
        assert asked.requests["choices"].choices
        assert asked.requests["schema"].schema
        assert asked.is_first == (not asked.seats["free"].turns)
        places.add(len(asked.seats["free"].turns))
    assert len(places) > 2


@pytest.mark.parametrize(
    ("completion", "is_action", "is_permitted", "is_example"),
    [
        ('{"action": "noop"}', True, True, True),
        ('{"action": "communicate", "message": "standing by"}', True, True, True),
        ('{"action": "communicate", "message": "the database is down"}', True, True, False),
        ('{"action": "restart", "service": "db"}', True, True, False),
        ('{"action": "restart", "service": "SERVICE"}', True, False, False),
        ('{"action": "resolve"}', True, False, False),
        ("I shall restart the database.", False, False, False),
    ],
)
def test_completions_are_judged_by_what_the_role_may_do(
    codec: Codec, completion: str, is_action: bool, is_permitted: bool, is_example: bool
) -> None:
    asked = benchmark.prompt(INCIDENT, codec, "dev", "full", ("free",), 60_000)
    tokens = codec.action(completion)
    found = benchmark.judged(INCIDENT, asked, "free", Sample(tokens, (0.0,) * len(tokens), -1, "", stopped=True))
    assert (found.action is not None, found.is_permitted, found.is_example) == (is_action, is_permitted, is_example)
    assert found.written == len(tokens)


def test_an_interval_is_wilson_s() -> None:
    """The first is a textbook's."""
    assert benchmark.wilson(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)
    assert benchmark.wilson(50, 50)[1] == 1.0
    assert benchmark.wilson(0, 50) == pytest.approx((0.0, 0.0713), abs=1e-4)


@pytest.mark.parametrize(
    "wrong", [["--only", "incident/ceo/*"], ["--n", "0"], ["--n", "1001"], ["--seed", "40"], ["--at-once", "0"]]
)
def test_what_makes_no_sense_is_refused_in_a_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["nowhere", *wrong]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert wrong[0] in said.err


def test_a_model_that_is_not_there_is_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["./nowhere", "--engine", "torch"]) == 2
    assert "no folder ./nowhere" in capsys.readouterr().err.splitlines()[-1]
