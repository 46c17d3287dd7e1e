"""The tiny base model speaks the format, and knows nothing: measured, it is the random policy."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from transformers import AutoModelForCausalLM

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim import environment_named
from chaosops_ray.training import base_models, layouts, tiny
from chaosops_ray.wire import Ids, SampleRequest, Task
from chaosops_ray.workers.rollout import EpisodeRollout, play
from chaosops_ray.workers.samplers import torch as engine

INCIDENT = environment_named("incident")


@pytest.fixture(scope="module")
def base() -> base_models.BaseModel:
    return base_models.prepare("tiny")


@pytest.fixture(scope="module")
def codec(base: base_models.BaseModel) -> Codec:
    return Codec(base.path, base.layout)


def test_every_action_is_one_token_and_reads_back(codec: Codec) -> None:
    for role in INCIDENT.roles:
        for kind in INCIDENT.vocabulary(role) or ():
            for action in kind:
                tokens = codec.action(INCIDENT.format_action(action, "compact"))
                assert len(tokens) == 1
                assert INCIDENT.parse_action(codec.decode(tokens)) == action


def test_ids_come_back_the_same_after_saving_and_loading(base: base_models.BaseModel, codec: Codec) -> None:
    loaded = layouts.tokenizer(base.path)
    scenario = INCIDENT.scenario("incident/cascade/hard/3")
    world = INCIDENT.start(scenario, "strict")
    for role in INCIDENT.roles:
        text = INCIDENT.render(INCIDENT.view(world, role), None, "compact")
        assert tuple(loaded.encode(text, add_special_tokens=False)) == codec.encode(text)
        assert codec.decode(codec.encode(text)) == text
    # Text that spells an action is text.
    assert len(codec.encode("flag autoscaler")) > 1


@pytest.mark.parametrize("text", ["", "naïve ☃ 東京", "a\x00b", "12345 67\n\n8", "<|pad|>"])
def test_any_text_is_read_without_loss(codec: Codec, text: str) -> None:
    assert codec.decode(codec.encode(text)) == text


class Base(engine.TorchSampler):
    """The base model itself, which no version serves: only here, to see what it is like."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, threads=2)
        self._digests[0] = "base"

    def _switch(self, _number: int) -> object:  # type: ignore[override]
        class Bare:
            def get_base_model(inner) -> object:  # noqa: N805
                return self._base

        return Bare()


def episodes(base: base_models.BaseModel, codec: Codec, seeds: range, *, structured: bool) -> list[EpisodeRollout]:
    sampler = Base(base.path)
    decoding = engine.Decoding(1.0, 1, ())

    async def ask(cohort: str, requests: list[SampleRequest], /) -> list[engine.Sample]:
        return await sampler.sample(cohort, requests, decoding, 0)

    async def all_of_them() -> list[EpisodeRollout]:
        found = []
        for scenario in INCIDENT.scenarios("published", seeds):
            task = Task(scenario.identity, scenario.identity, "strict", 4, scenario.seed)
            found += await play(INCIDENT, codec, "compact", task, ask, structured=structured)  # type: ignore[arg-type]
        return found

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("structured", [False, True])
def test_its_evaluation_is_the_random_policys(base: base_models.BaseModel, codec: Codec, structured: bool) -> None:
    """Mean return by tier within three standard errors of the random policy's, on scenarios nobody trained on."""
    rollouts = episodes(base, codec, range(5000, 5012), structured=structured)
    for tier in INCIDENT.tiers:
        own = [episode_rollout.episode.total for episode_rollout in rollouts if episode_rollout.scenario.tier == tier]
        drawn = []
        for scenario in INCIDENT.scenarios("published", range(6000, 6048)):
            if scenario.tier == tier:
                world, choose = INCIDENT.start(scenario, "strict"), INCIDENT.policies["random"](scenario, "strict")
                total = 0.0
                while (role := INCIDENT.acting(world)) is not None:
                    world, _, _, score = INCIDENT.step(world, choose(INCIDENT.view(world, role)))
                    total += score.total
                drawn.append(total)
        error = (stdev(own) ** 2 / len(own) + stdev(drawn) ** 2 / len(drawn)) ** 0.5
        assert abs(fmean(own) - fmean(drawn)) < 3 * error


def test_it_takes_every_permitted_action_about_as_often_as_the_random_policy(
    base: base_models.BaseModel, codec: Codec
) -> None:
    """Within two fifths: the warm-up is short, and what it leaves is noise that knows nothing of the incident."""
    rollouts = episodes(base, codec, range(5000, 5012), structured=False)
    for role in INCIDENT.roles:
        counts = Counter(
            step.action for episode_rollout in rollouts for step in episode_rollout.steps if step.role == role
        )
        total = counts.total()
        kinds = INCIDENT.vocabulary(role) or ()
        expected = {action: total / len(kinds) / len(kind) for kind in kinds for action in kind}
        # What is no permitted action of this seat hardly ever happens.
        assert sum([count for action, count in counts.items() if action not in expected]) < 0.02 * total
        for action, mean in expected.items():
            assert abs(counts[action] - mean) < 4 * mean**0.5 + 0.4 * mean, (role, action)


def test_it_knows_nothing_of_what_to_do(base: base_models.BaseModel, codec: Codec) -> None:
    """Before the very first action, the distribution is the same whatever the incident."""
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    for role in INCIDENT.roles:
        kinds = INCIDENT.vocabulary(role) or ()
        wanted = torch.tensor([1 / len(kinds) / len(kind) for kind in kinds for _ in kind])
        choices = [codec.action(INCIDENT.format_action(action, "compact"))[0] for kind in kinds for action in kind]
        for scenario in INCIDENT.scenarios("published", [7000]):
            world = INCIDENT.start(scenario, "strict")
            brief = INCIDENT.system_prompt(role, "strict", "compact")
            prompt: Ids = (
                *codec.encode(brief),
                *codec.layout.after_system_prompt,
                *codec.encode(INCIDENT.render(INCIDENT.view(world, role), None, "compact")),
            )
            with torch.inference_mode():
                found = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)[choices]
            # Total variation: how much probability would have to move.
            assert float((found - wanted).abs().sum()) / 2 < 0.1


def test_building_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe = tiny.Recipe(steps=2, episodes_per_step=8, hidden=16, layers=1, heads=2, inner=32)
    for name in ("one", "two"):
        tiny.build(tmp_path / name, recipe, lambda _done, _steps: None)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
