"""Episodes of different scenarios in one batch are those that the same engine plays one by one, token for token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim import ENVIRONMENTS, environment_of
from chaosops_ray.sim.contract import Style
from chaosops_ray.store import versions
from chaosops_ray.training import pretrained, tiny, warm_up
from chaosops_ray.wire import Decoding, Layout, PolicyVersion, Sample, SampleRequest, Structured, Task
from chaosops_ray.workers.rollout import EpisodeRollout, play, play_together
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import publish, small_peft
from tests.support.tokenizers import byte_tokenizer, chat_tokenizer, saved

HARD = (
    "incident/autoscaler_cost_cut/hard/17",
    "incident/cascade/hard/3",
    "incident/db_deadlock/easy/0",
    "incident/autoscaler_cost_cut/hard/17",
)
QUESTIONS = ("tools/E07/published/3", "tools/E01/published/0")


class Held(NamedTuple):
    """A model of random weights that speaks in its own words, and an engine that serves a version of it."""

    codec: Codec
    version: PolicyVersion
    sampler: TorchSampler

    def rollouts(
        self, scenarios: Sequence[str], style: Style, limit: int, *, structured: Structured, rules: str, together: bool
    ) -> list[EpisodeRollout]:
        async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
            decoding = Decoding(0.0, limit, self.codec.layout.stop)
            return await self.sampler.sample(cohort, requests, decoding, self.version.number)

        environment = environment_of(scenarios[0])
        tasks = [Task(f"u0/g{i}", scenario, rules, 1, 7) for i, scenario in enumerate(scenarios)]
        if together:
            batch = play_together(environment, self.codec, style, tasks, ask, structured=structured)
            return asyncio.run(batch)
        alone = [play(environment, self.codec, style, task, ask, structured=structured) for task in tasks]
        return [asyncio.run(episodes)[0] for episodes in alone]


def held(folder: Path, tokenizer: PreTrainedTokenizerFast, layout: Callable[[Path], Layout]) -> Held:
    base = saved(folder / "base", tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=16384, initializer_range=0.2, bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
        Qwen2ForCausalLM(config).save_pretrained(base)
    version = publish(small_peft(base, 1, 0.3), folder / "adapters", 4, versions.base_digest(base), "small")
    before = torch.get_num_threads()
    sampler = TorchSampler(base, threads=1, device="cpu")
    torch.set_num_threads(before)
    asyncio.run(sampler.adopt(version))
    return Held(Codec(base, layout(base)), version, sampler)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Held]:
    own, chat, plain = (
        warm_up.make_tokenizer(ENVIRONMENTS["incident"], tiny.Recipe()),
        chat_tokenizer(),
        byte_tokenizer(),
    )
    return {
        "tiny": held(tmp_path_factory.mktemp("tiny"), own, tiny.layout),
        "chat": held(tmp_path_factory.mktemp("chat"), chat, lambda _: pretrained.layout(chat)),
        "plain": held(tmp_path_factory.mktemp("plain"), plain, lambda _: pretrained.layout(plain)),
    }


@pytest.mark.parametrize(
    ("kind", "scenarios", "style", "limit", "structured", "rules"),
    [
        ("tiny", HARD, "compact", 1, "no", "strict"),
        ("tiny", HARD, "compact", 1, "choices", "published"),
        ("tiny", HARD, "compact", 1, "choices", "strict,multiplier=2.0"),
        ("chat", HARD[:2], "full", 80, "choices", "strict"),
        ("chat", HARD[:2], "compact", 6, "no", "strict"),
        ("plain", HARD[:2], "compact", 40, "choices", "strict"),
        ("chat", QUESTIONS, "full", 5, "no", "strict"),
        ("plain", QUESTIONS, "compact", 5, "no", "strict"),
    ],
)
def test_a_batch_of_scenarios_is_played_as_one_by_one(
    every: dict[str, Held],
    kind: str,
    scenarios: Sequence[str],
    style: Style,
    limit: int,
    structured: Structured,
    rules: str,
) -> None:
    """Each seat reads and writes the same, and each turn names the version that wrote it."""
    own = every[kind]
    single = own.rollouts(scenarios, style, limit, structured=structured, rules=rules, together=False)
    batch = own.rollouts(scenarios, style, limit, structured=structured, rules=rules, together=True)
    for row, (one, other) in enumerate(zip(single, batch, strict=True)):
        assert other.running.scenario.identity == scenarios[row]
        assert other.episode == one.episode
        assert {origin[:2] for origin in other.origins} == {own.version[:2]}
        for alone, beside in zip(one.trajectories(), other.trajectories(), strict=True):
            assert (beside.role, beside.tokens, beside.member) == (alone.role, alone.tokens, row)
            for turn, expected in zip(beside.turns, alone.turns, strict=True):
                assert turn._replace(log_probs=()) == expected._replace(log_probs=())
                assert turn.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
