"""Models as players of an evaluation: batched as one by one, from the version or the base that was named and no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.cli import main
from chaosops_ray.config import Rollout, Run
from chaosops_ray.evaluate import Played, Player
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import versions
from chaosops_ray.store.episodes import differences, read_episodes
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import policies, pretrained, tiny, warm_up
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.policies import EnginePlayer
from chaosops_ray.wire import UNTRAINED, PolicyVersion, SampleRequest
from chaosops_ray.workers.samplers import build
from chaosops_ray.workers.samplers.sampler import BASE, Engine, SamplerError
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import publish, small_peft
from tests.support.scripted_sampler import ScriptedSampler
from tests.support.tokenizers import chat_tokenizer, saved

INCIDENT = ENVIRONMENTS["incident"]
SCENARIOS = INCIDENT.scenarios("published", [1000, 1001, 1002])


class Made(NamedTuple):
    """A base model of random weights, and a version for it."""

    base: BaseModel
    run: Run
    version: PolicyVersion


def made(folder: Path, tokenizer: PreTrainedTokenizerFast, *, is_tiny: bool) -> Made:
    path = saved(folder / "base", tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=16384, initializer_range=0.2, bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
        Qwen2ForCausalLM(config).save_pretrained(path)
    layout = tiny.layout(path) if is_tiny else pretrained.layout(tokenizer)
    base = BaseModel(str(path), path, versions.base_digest(path), layout)
    version = publish(small_peft(path, 1, 0.3), folder / "adapters", 4, base.digest, "small")
    rollout = Rollout(max_tokens=1 if is_tiny else 20, structured="choices" if is_tiny else "no")
    return Made(base, Run(model=str(path), style="compact", rollout=rollout), version)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """It speaks in actions of one token."""
    return made(tmp_path_factory.mktemp("small"), warm_up.make_tokenizer(INCIDENT, tiny.Recipe()), is_tiny=True)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """It speaks in bytes."""
    return made(tmp_path_factory.mktemp("chat"), chat_tokenizer(), is_tiny=False)


def on_torch(base: BaseModel) -> Callable[[], Engine]:
    def start() -> Engine:
        before = torch.get_num_threads()
        sampler = TorchSampler(base.path, threads=1, device="cpu")
        torch.set_num_threads(before)
        return sampler

    return start


async def no_adoption(_engine: Engine) -> None:
    """Whatever is to be adopted was adopted before."""


def batched(one: Made, at_once: int) -> EnginePlayer:
    async def adopt(engine: Engine) -> None:
        await policies.adopt(engine, one.version, one.base)

    return EnginePlayer(INCIDENT, one.run, one.base, on_torch(one.base), adopt, one.version.number, at_once)


def test_scenarios_side_by_side_are_played_as_one_by_one(small: Made) -> None:
    """33 scenarios in three batches; of all tiers, with episodes of different lengths."""
    expected = [played.episode for played in batched(small, 1)(SCENARIOS, "strict")]
    assert len({step.action for episode in expected for step in episode.steps}) > 1
    found = list(batched(small, 16)(SCENARIOS, "strict"))
    assert [played.episode for played in found] == expected
    assert all({origin[:2] for origin in played.origins or ()} == {small.version[:2]} for played in found)


def test_so_are_completions_of_many_tokens_under_other_rules(chat: Made) -> None:
    expected = [played.episode for played in batched(chat, 1)(SCENARIOS[:3], "published")]
    assert [played.episode for played in batched(chat, 2)(SCENARIOS[:3], "published")] == expected


# -- who plays, and for how long --------------------------------------------------------------------------------------


class Bench(NamedTuple):
    """A scripted engine, and the player that starts it."""

    sampler: ScriptedSampler
    player: EnginePlayer
    started: list[str]


def scripted(
    one: Made, number: int | None, at_once: int = 4, script: Callable[[SampleRequest], tuple[int, ...]] | None = None
) -> Bench:
    noop = Codec(one.base.path, one.base.layout).action(
        INCIDENT.format_action(INCIDENT.parse_action("noop"), "compact")
    )
    sampler = ScriptedSampler(script or (lambda _: noop), modules=14)
    started: list[str] = []

    def start() -> Engine:
        started.append("started")
        return sampler

    async def adopt(engine: Engine) -> None:
        if number is None:
            await engine.adopt_base("digest of the base")
        else:
            await engine.adopt(PolicyVersion(number, "digest of the version", ""))

    return Bench(sampler, EnginePlayer(INCIDENT, one.run, one.base, start, adopt, number, at_once), started)


def methods(bench: Bench) -> list[str]:
    return [call.method for call in bench.sampler.calls]


@pytest.mark.parametrize(("number", "stamp"), [(None, (BASE, "digest of the base")), (7, (7, "digest of the version"))])
def test_every_step_says_which_version_or_base_took_it(small: Made, number: int | None, stamp: tuple[int, str]) -> None:
    bench = scripted(small, number)
    found = list(bench.player(SCENARIOS[:5], "strict"))
    assert [played.episode.scenario for played in found] == list(SCENARIOS[:5])
    for played in found:
        assert [origin[:2] for origin in played.origins or ()] == [stamp] * len(played.episode.steps)
    assert {call.number for call in bench.sampler.calls if call.method == "sample"} == {number}


def test_an_engine_lives_while_its_player_plays_and_no_longer(small: Made) -> None:
    bench = scripted(small, None)
    playing = bench.player(SCENARIOS[:5], "strict")
    assert bench.started == []
    next(playing)
    assert bench.started == ["started"]
    assert "close" not in methods(bench)
    assert len(list(playing)) == 4
    assert methods(bench)[-1] == "close"
    assert methods(bench).count("close") == 1


def test_no_more_scenarios_are_played_at_once_than_are_allowed(small: Made) -> None:
    bench = scripted(small, None, at_once=3)
    list(bench.player(SCENARIOS[:8], "strict"))
    asked = [len(call.requests) for call in bench.sampler.calls if call.method == "sample"]
    assert max(asked) == 3
    for call in bench.sampler.calls:
        assert len({request.row for request in call.requests}) == len(call.requests)


def test_an_engine_that_fails_is_closed(small: Made) -> None:
    bench = scripted(small, None, script=lambda _: ())
    with pytest.raises(SamplerError):
        list(bench.player(SCENARIOS[:2], "strict"))
    assert methods(bench)[-1] == "close"


def test_a_version_that_binds_too_little_is_not_played(small: Made) -> None:
    sampler = ScriptedSampler(lambda _: (1,), modules=13)
    with pytest.raises(AdapterError, match="13 of the 14 modules"):
        asyncio.run(policies.adopt(sampler, small.version, small.base))


# -- beside colleagues, and live --------------------------------------------------------------------------------------

COLLEAGUES = {"sre": "heuristic", "dev": "oracle"}


@pytest.mark.parametrize("colleagues", [{}, COLLEAGUES], ids=["every seat", "two seats"])
def test_live_it_is_played_as_in_an_evaluation(small: Made, colleagues: dict[str, str]) -> None:
    """Turn by turn, on an engine that lives until the last one."""
    player = replace(batched(small, 1), colleagues=colleagues)
    scenarios = SCENARIOS[::5]
    expected = list(player(scenarios, "strict"))
    with player.live() as build:
        for scenario, (episode, origins) in zip(scenarios, expected, strict=True):
            assert play(INCIDENT, scenario, "strict", build(scenario, "strict")) == episode
            by = [(UNTRAINED if step.role in colleagues else small.version)[:2] for step in episode.steps]
            assert [origin[:2] for origin in origins or ()] == by


def test_beside_colleagues_an_engine_is_asked_for_the_other_seats_alone(small: Made) -> None:
    bench = scripted(small, 7)
    player = replace(bench.player, colleagues=COLLEAGUES)
    list(player(SCENARIOS[:3], "strict"))
    with player.live() as build:
        assert bench.started == ["started", "started"]
        scenario = SCENARIOS[0]
        episode = play(INCIDENT, scenario, "strict", build(scenario, "strict"))
    assert methods(bench)[-1] == "close"
    heuristic, oracle = (INCIDENT.policies[name](scenario, "strict") for name in COLLEAGUES.values())
    for step in episode.steps:
        if step.role in COLLEAGUES:
            assert step.action == (heuristic if step.role == "sre" else oracle)(step.view)
    asked = {call.cohort.rpartition("/")[2] for call in bench.sampler.calls if call.method == "sample"}
    assert asked <= {"oversight", "manager"}


def test_an_engine_that_fails_live_is_closed(small: Made) -> None:
    bench = scripted(small, None, script=lambda _: ())
    scenario = SCENARIOS[0]
    with pytest.raises(SamplerError), bench.player.live() as build:
        play(INCIDENT, scenario, "strict", build(scenario, "strict"))
    assert methods(bench)[-1] == "close"


def test_a_model_is_played_live_by_the_command(chat: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As the evaluation plays it, beside the same colleagues."""
    named = [f"model={chat.base.path}", "--structured", "--seats", "sre=oracle,dev=oracle"]
    file, scenario = tmp_path / "episodes.parquet", "incident/db_deadlock/easy/1000"
    assert main(["evaluate", "--policies", *named, "--seeds", "1000", "--tiers", "easy", "--episodes", str(file)]) == 0
    (recorded,) = [episode for episode in read_episodes(file) if episode.scenario == scenario]
    capsys.readouterr()
    assert main(["play", scenario, "--policy", *named]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"model: the base model {chat.base.path.name} ({chat.base.digest[:12]}")
    assert lines[1] == "seats: sre, dev by oracle; oversight, manager by model"
    steps = [
        f"{row['step'] + 1:>3}  {row['role']:<10} {INCIDENT.format_action(INCIDENT.load_action(row['action']), 'compact')}"
        for row in recorded.rows
    ]
    told = [line for line in lines if line[:3].strip().isdigit() and line[3:5] == "  " and line[5:6].isalpha()]
    for line, expected in zip(told, steps, strict=True):
        assert line.startswith(expected[:56].rstrip())


# -- spellings --------------------------------------------------------------------------------------------------------


def players(spelling: str, sampler: str = "torch", **more: bool) -> dict[str, Player]:
    return policies.players(INCIDENT, spelling, sampler, **{"structured": "no", **more})


def test_models_of_one_kind_are_told_apart_by_what_they_are(chat: Made) -> None:
    assert list(players(f"random,model={chat.base.path}")) == ["random", "model"]
    pair = f"model={chat.base.path},model={chat.base.path}/"
    assert list(players(pair)) == pair.split(",")
    with pytest.raises(InputError, match="named twice"):
        players(f"model={chat.base.path},model={chat.base.path}")


def test_a_base_model_is_played_by_the_command(chat: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its folder, on the embedded engine, in full words; every step carries the base model's digest."""
    file, cells = tmp_path / "episodes.parquet", tmp_path / "cells.json"
    arguments = ["--seeds", "1000", "--tiers", "easy", "--structured", "--json", str(cells), "--episodes", str(file)]
    assert main(["evaluate", "--policies", f"model={chat.base.path}", *arguments]) == 0
    capsys.readouterr()
    assert [cell["policy"] for cell in json.loads(cells.read_text())["cells"]] == ["model"]
    recorded = list(read_episodes(file))
    assert len(recorded) == 4
    for episode in recorded:
        assert not differences(episode)
        assert {(row["version"], row["digest"]) for row in episode.rows} == {(BASE, chat.base.digest)}
        assert not any("unparsed" in row["action"] for row in episode.rows)


def refused(capsys: pytest.CaptureFixture[str], policies: str, *more: str) -> str:
    assert main(["evaluate", "--policies", policies, "--seeds", "1000", "--tiers", "easy", *more]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def damaged(chat: Made, tmp_path: Path, name: str) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in chat.base.path.iterdir():
        if file.name != name:
            (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_model_that_is_not_whole_is_an_error(
    chat: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    assert missing.rpartition(".")[2] in refused(capsys, f"model={damaged(chat, tmp_path, missing)}")


def test_an_architecture_that_nobody_knows_is_an_error(
    chat: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = damaged(chat, tmp_path, "config.json")
    (copy / "config.json").write_text('{"model_type": "no_such_model"}')
    assert "config.json" in refused(capsys, f"model={copy}")


@pytest.mark.parametrize(
    ("spelling", "more", "named"),
    [
        ("model=/no/such/model", (), "/no/such/model"),
        ("model=", (), "model"),
        ("trained=/no/such/run", (), "/no/such/run"),
        ("random", ("--structured",), "--structured"),
        ("base=tiny", (), "base=tiny"),
    ],
)
def test_other_mistakes_are_one_line_too(
    capsys: pytest.CaptureFixture[str], spelling: str, more: Sequence[str], named: str
) -> None:
    assert named in refused(capsys, spelling, *more)


def test_an_engine_that_is_not_installed_is_named_with_what_installs_it(
    chat: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(build.NEEDS, "vllm", ("no_such_library", "chaosops-ray[vllm]"))
    said = refused(capsys, f"model={chat.base.path}", "--sampler", "vllm")
    assert "chaosops-ray[vllm]" in said


def test_a_tiny_base_model_speaks_in_single_tokens() -> None:
    player = policies.base_model(INCIDENT, "tiny", "torch", structured="choices")
    played: list[Played] = list(player(SCENARIOS[:1], "strict"))
    assert played[0].origins
    assert {origin.version for origin in played[0].origins} == {BASE}
    assert not any("unparsed" in INCIDENT.dump_action(step.action) for step in played[0].episode.steps)
