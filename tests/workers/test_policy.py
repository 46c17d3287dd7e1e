"""A model in an evaluation is the one that was trained: it reads and writes what a rollout has it read and write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from chaosops_ray.workers.policy import TrainedPolicy
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.learner.publish import publish
from chaosops_ray.sim import ENVIRONMENTS, environment_of, play
from chaosops_ray.sim.contract import AnyEpisode, Style
from chaosops_ray.store import versions
from chaosops_ray.training import pretrained, tiny, warm_up
from chaosops_ray.wire import Decoding, Layout, PolicyVersion, Sample, SampleRequest, Task
from chaosops_ray.workers import rollout
from chaosops_ray.workers.samplers.sampler import SamplerError
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import small_peft
from tests.support.scripted_sampler import ScriptedSampler
from tests.support.tokenizers import byte_tokenizer, chat_tokenizer, saved

INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]
HARD = "incident/autoscaler_cost_cut/hard/17"
QUESTION = "tools/E07/strict/3"


class Held(NamedTuple):
    """A model of random weights that speaks in its own words, and an engine that serves a version of it."""

    codec: Codec
    version: PolicyVersion
    sampler: TorchSampler


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
    own, chat, plain = warm_up.make_tokenizer(INCIDENT, tiny.Recipe()), chat_tokenizer(), byte_tokenizer()
    return {
        "tiny": held(tmp_path_factory.mktemp("tiny"), own, tiny.layout),
        "chat": held(tmp_path_factory.mktemp("chat"), chat, lambda _: pretrained.layout(chat)),
        "plain": held(tmp_path_factory.mktemp("plain"), plain, lambda _: pretrained.layout(plain)),
    }


class Listening:
    """An engine that is listened to."""

    def __init__(self, sampler: TorchSampler) -> None:
        self.heard: list[tuple[str, SampleRequest, Decoding, int, Sample]] = []
        self._sampler = sampler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int
    ) -> list[Sample]:
        """As it says, written down."""
        found = await self._sampler.sample(cohort, requests, decoding, number)
        self.heard += [
            (cohort, request, decoding, number, sample) for request, sample in zip(requests, found, strict=True)
        ]
        return found


def evaluated(
    own: Held, scenario: str, style: Style, limit: int, *, structured: bool, rules: str = "strict"
) -> tuple[AnyEpisode, Listening]:
    environment = environment_of(scenario)
    listening = Listening(own.sampler)
    policy = TrainedPolicy(environment, own.codec, style, listening, own.version, limit, structured=structured)
    begun = environment.scenario(scenario)
    return play(environment, begun, rules, policy(begun, rules)), listening


def rolled_out(
    own: Held, scenario: str, style: Style, limit: int, *, structured: bool, rules: str = "strict"
) -> rollout.EpisodeRollout:
    async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
        return await own.sampler.sample(
            cohort, requests, Decoding(0.0, limit, own.codec.layout.stop), own.version.number
        )

    task = Task("u0/g0", scenario, rules, 1, 7)
    environment = environment_of(scenario)
    (episode_rollout,) = asyncio.run(rollout.play(environment, own.codec, style, task, ask, structured=structured))
    return episode_rollout


CASES: list[tuple[str, str, Style, int, bool]] = [
    ("tiny", HARD, "compact", 1, False),
    ("tiny", HARD, "compact", 1, True),
    ("chat", HARD, "full", 80, True),
    ("chat", HARD, "compact", 6, False),
    ("plain", HARD, "compact", 40, True),
    ("chat", QUESTION, "full", 5, True),
    ("plain", QUESTION, "compact", 5, False),
]


@pytest.mark.parametrize(("kind", "scenario", "style", "limit", "structured"), CASES)
def test_an_evaluation_reads_and_writes_what_a_greedy_rollout_does(
    every: dict[str, Held], kind: str, scenario: str, style: Style, limit: int, structured: bool
) -> None:
    """Token for token in every seat, and so it comes to the same end."""
    own = every[kind]
    episode, listening = evaluated(own, scenario, style, limit, structured=structured)
    episode_rollout = rolled_out(own, scenario, style, limit, structured=structured)
    assert episode == episode_rollout.episode
    for trajectory in episode_rollout.trajectories():
        heard = [entry for entry in listening.heard if entry[0].endswith(f"/{trajectory.role}")]
        assert len(heard) == len(trajectory.turns)
        for turn, (_, request, decoding, number, sample) in zip(trajectory.turns, heard, strict=True):
            assert request.prompt == trajectory.tokens[: turn.start]
            assert sample.tokens == trajectory.tokens[turn.start : turn.end]
            assert request.choices == turn.choices
            assert (decoding.temperature, decoding.max_tokens, decoding.stop) == (0.0, limit, own.codec.layout.stop)
            assert number == own.version.number
            assert (sample.version, sample.digest) == own.version[:2]


def test_the_rules_are_those_of_the_evaluation(every: dict[str, Held]) -> None:
    own = every["tiny"]
    for rules in ("published", "strict,multiplier=2.0"):
        episode, _ = evaluated(own, HARD, "compact", 1, structured=True, rules=rules)
        assert episode == rolled_out(own, HARD, "compact", 1, structured=True, rules=rules).episode


def test_episodes_have_nothing_to_do_with_each_other(every: dict[str, Held]) -> None:
    """One policy plays one scenario twice, with another in between, and begins anew each time."""
    own = every["tiny"]
    policy = TrainedPolicy(INCIDENT, own.codec, "compact", own.sampler, own.version, 1, structured=True)
    found = []
    for scenario in (HARD, "incident/cascade/hard/3", HARD):
        begun = INCIDENT.scenario(scenario)
        found.append(play(INCIDENT, begun, "strict", policy(begun, "strict")))
    assert found[0] == found[2]
    assert found[0] == rolled_out(own, HARD, "compact", 1, structured=True).episode


def test_two_episodes_may_be_played_in_turns(every: dict[str, Held]) -> None:
    """Even of one scenario: seats keep to their own transcripts."""
    own = every["tiny"]
    policy = TrainedPolicy(INCIDENT, own.codec, "compact", own.sampler, own.version, 1, structured=True)
    begun = INCIDENT.scenario(HARD)
    expected = [step.action for step in play(INCIDENT, begun, "strict", policy(begun, "strict")).steps]
    worlds, acting = [INCIDENT.start(begun, "strict")] * 2, [policy(begun, "strict") for _ in range(2)]
    done: list[list[Any]] = [[], []]
    for step in range(len(expected)):
        for seat in (0, 1) if step % 2 else (1, 0):
            view = INCIDENT.view(worlds[seat], INCIDENT.acting(worlds[seat]) or "")
            action = acting[seat](view)
            worlds[seat] = INCIDENT.step(worlds[seat], action).world
            done[seat].append(action)
    assert done == [expected, expected]


def test_a_version_that_is_not_held_plays_nothing(every: dict[str, Held]) -> None:
    own = every["tiny"]
    other = own.version._replace(number=5)
    policy = TrainedPolicy(INCIDENT, own.codec, "compact", own.sampler, other, 1, structured=True)
    begun = INCIDENT.scenario(HARD)
    with pytest.raises(SamplerError, match="version 5 is not loaded here"):
        play(INCIDENT, begun, "strict", policy(begun, "strict"))


def test_what_is_no_action_is_played_as_what_it_is(every: dict[str, Held]) -> None:
    codec = every["chat"].codec
    sampler = ScriptedSampler(lambda _: (*codec.encode("I do not know."), *codec.layout.stop[:1]))
    asyncio.run(sampler.adopt(PolicyVersion(4, "digest", "")))
    policy = TrainedPolicy(INCIDENT, codec, "full", sampler, PolicyVersion(4, "digest", ""), 40, structured=False)
    begun = INCIDENT.scenario("incident/db_deadlock/easy/0")
    episode = play(INCIDENT, begun, "strict", policy(begun, "strict"))
    assert all("unparsed" in INCIDENT.dump_action(step.action) for step in episode.steps)
    assert INCIDENT.acting(episode.steps[-1].world) is None
