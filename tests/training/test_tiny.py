"""The tiny base model speaks the format, and knows nothing: measured, it is the random policy."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import ConfigError
from chaosops_ray.sim import environment_named
from chaosops_ray.sim import play as play_episode
from chaosops_ray.sim.incident.text import vocabulary
from chaosops_ray.training import base_models, pretrained, tiny, warm_up
from chaosops_ray.wire import SampleRequest, Structured, Task
from chaosops_ray.workers.rollout import EpisodeRollout, play
from chaosops_ray.workers.samplers import torch as engine
from tests.support.toy_world import Toy

INCIDENT = environment_named("incident")


@pytest.fixture(scope="module")
def base() -> base_models.BaseModel:
    return base_models.prepare("tiny")


@pytest.fixture(scope="module")
def codec(base: base_models.BaseModel) -> Codec:
    return Codec(base.path, base.layout)


def test_every_action_is_one_token_and_reads_back(codec: Codec) -> None:
    for role in INCIDENT.roles:
        for kind in vocabulary(role):
            for action in kind:
                tokens = codec.action(INCIDENT.format_action(action, "compact"))
                assert len(tokens) == 1
                assert INCIDENT.parse_action(codec.decode(tokens)) == action


def test_ids_come_back_the_same_after_saving_and_loading(base: base_models.BaseModel, codec: Codec) -> None:
    loaded = pretrained.tokenizer(base.path)
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


def episodes(
    base: base_models.BaseModel, codec: Codec, seeds: range, *, structured: Structured
) -> list[EpisodeRollout]:
    sampler = engine.TorchSampler(base.path, threads=2)
    asyncio.run(sampler.adopt_base(base.digest))
    decoding = engine.Decoding(1.0, 1, ())

    async def ask(cohort: str, requests: list[SampleRequest], /) -> list[engine.Sample]:
        return await sampler.sample(cohort, requests, decoding, None)

    async def all_of_them() -> list[EpisodeRollout]:
        found = []
        for scenario in INCIDENT.scenarios("published", seeds):
            task = Task(scenario.identity, scenario.identity, "strict", 4, scenario.seed)
            found += await play(INCIDENT, codec, "compact", task, ask, structured=structured)  # type: ignore[arg-type]
        return found

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("structured", ["no", "choices"])
def test_its_evaluation_is_the_random_policys(
    base: base_models.BaseModel, codec: Codec, structured: Structured
) -> None:
    """Mean return by tier within three standard errors of the random policy's, on scenarios nobody trained on."""
    rollouts = episodes(base, codec, range(5000, 5012), structured=structured)
    for tier in INCIDENT.tiers:
        own = [
            episode_rollout.episode.total
            for episode_rollout in rollouts
            if episode_rollout.running.scenario.tier == tier
        ]
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
    rollouts = episodes(base, codec, range(5000, 5012), structured="no")
    for role in INCIDENT.roles:
        counts = Counter(
            step.action for episode_rollout in rollouts for step in episode_rollout.running.steps if step.role == role
        )
        total = counts.total()
        kinds = vocabulary(role)
        expected = {action: total / len(kinds) / len(kind) for kind in kinds for action in kind}
        # What is no permitted action of this seat hardly ever happens.
        assert sum([count for action, count in counts.items() if action not in expected]) < 0.02 * total
        for action, mean in expected.items():
            assert abs(counts[action] - mean) < 4 * mean**0.5 + 0.4 * mean, (role, action)


def test_it_knows_nothing_of_what_to_do(base: base_models.BaseModel, codec: Codec) -> None:
    """Wherever random play leads, the next action is distributed the same, whatever the incident."""
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    for scenario in INCIDENT.scenarios("published", [7000]):
        for conversation in tiny.conversations(INCIDENT, tiny.rules_of(INCIDENT), scenario):
            ids, ends = [*codec.encode(conversation.system_prompt), *codec.layout.after_system_prompt], []
            for turn in conversation.turns:
                ids += codec.encode(turn.text)
                ends.append(len(ids) - 1)
                ids += codec.action(turn.action)
            with torch.inference_mode():
                found = model(input_ids=torch.tensor([ids])).logits[0, ends].softmax(-1)
            for turn, probabilities in zip(conversation.turns, found, strict=True):
                kinds = turn.permitted
                wanted = torch.tensor([1 / len(kinds) / len(kind) for kind in kinds for _ in kind])
                choices = [
                    codec.action(INCIDENT.format_action(action, "compact"))[0] for kind in kinds for action in kind
                ]
                # Total variation: how much probability would have to move.
                assert float((probabilities[choices] - wanted).abs().sum()) / 2 < 0.05, (scenario, conversation.role)


# -- the cache --------------------------------------------------------------------------------------------------------

SMALL = tiny.Recipe(steps=2, episodes_per_step=8, openings=40, hidden=16, layers=1, heads=2, inner=32)
# Of what building such a model gives; every file but the library's own.
FILES = {"model.safetensors", "tokenizer.json", "config.json"}


def test_a_model_is_built_once_and_again_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    for name in ("one", "two"):
        monkeypatch.setenv("CHAOSOPS_CACHE", str(tmp_path / name))
        made = tiny.ensure(INCIDENT, SMALL, lambda *step: told.append(step))
        assert made == tiny.ensure(INCIDENT, SMALL, lambda *step: told.append(step))
        assert [path.name for path in (tmp_path / name).iterdir()] == [made.name]
    assert told == [(1, 2), (2, 2)] * 2
    one, two = [tmp_path / name / made.name for name in ("one", "two")]
    assert {file.name for file in one.iterdir()} >= FILES
    for file in sorted(one.iterdir()):
        assert file.read_bytes() == (two / file.name).read_bytes(), file.name


def test_a_model_that_was_not_finished_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOSOPS_CACHE", str(tmp_path))

    def interrupt(_done: int, _steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.ensure(INCIDENT, SMALL, interrupt)
    assert not list(tmp_path.iterdir())


class Reworded:
    """The incident room with something changed."""

    def __init__(self, **changed: object) -> None:
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> object:
        return getattr(INCIDENT, name)


CHANGES = {
    "a system prompt": {
        "system_prompt": lambda role, rules, style: INCIDENT.system_prompt(role, rules, style) + " " * (role == "dev")
    },
    "an observation": {
        "render": lambda view, since, style: (
            INCIDENT.render(view, since, style) + " " * (since is not None and view.role == "manager")
        )
    },
    "an action's words": {
        "format_action": lambda action, style: INCIDENT.format_action(action, style).replace("flag", "accuse")
    },
    "what is permitted": {"permitted": lambda view: (INCIDENT.permitted(view) or ())[:-1]},
    "the rules": {"rule_sets": ("published",)},
    "the world's name": {"name": "accident"},
    "the dynamics": {
        "step": lambda world, action: INCIDENT.step(world, action if INCIDENT.acting(world) != "dev" else NOOP)
    },
}
NOOP = INCIDENT.parse_action("noop")


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_the_model_is_made_of_changes_its_key(what: str) -> None:
    before = tiny.key(INCIDENT, SMALL)
    assert tiny.key(Reworded(), SMALL) == before  # type: ignore[arg-type]
    assert tiny.key(Reworded(**CHANGES[what]), SMALL) != before  # type: ignore[arg-type]


def test_every_recipe_and_every_library_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [tiny.key(INCIDENT, recipe) for recipe in (*tiny.RECIPES.values(), SMALL, SMALL._replace(seed=1))]
    for library in ("torch", "transformers", "tokenizers"):
        installed = metadata.version
        with monkeypatch.context() as patched:
            patched.setattr(
                metadata, "version", lambda name, of=library, was=installed: "0" if name == of else was(name)
            )
            found.append(tiny.key(INCIDENT, SMALL))
    assert len(set(found)) == len(found)


PROBE = """
import sys
from chaosops_ray.sim import environment_named
from chaosops_ray.training import tiny
found = tiny.ensure(environment_named("incident"), tiny.RECIPES["tiny"])
print(found, len(tiny.layout(found).after_stop), [name for name in ("torch", "transformers", "ray") if name in sys.modules])
"""


def test_finding_a_cached_model_imports_neither_torch_nor_transformers(base: base_models.BaseModel) -> None:
    ran = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(base.path), "1", "[]"]


def test_a_world_whose_actions_cannot_be_written_out_has_no_tiny_model() -> None:
    class Unlisted(Toy):
        def permitted(self, _view: Any, /) -> Any:
            return None

    with pytest.raises(ConfigError, match=r"model: .* toy does not list"):
        tiny.check(Unlisted())
    tiny.check(INCIDENT)


def test_a_choice_whose_call_depends_on_the_world_is_one_token_all_the_same(tmp_path: Path) -> None:
    """The names of offers are a fixed set; what they stand for is never spelt out in a transcript."""
    world = environment_named("tools")
    warm_up.make_tokenizer(world, SMALL._replace(openings=60)).save_pretrained(tmp_path)
    codec = Codec(tmp_path, tiny.layout(tmp_path))
    for conversation in tiny.conversations(world, "strict", tiny.scenario(world, SMALL, 3)):
        assert conversation.turns
        for turn in conversation.turns:
            names = [world.format_action(action, "compact") for kind in turn.permitted for action in kind]
            assert turn.action in names
            assert [len(codec.action(name)) for name in names] == [1] * len(names)


# -- the warm-up of any world -----------------------------------------------------------------------------------------


def test_random_play_is_that_of_the_random_policy() -> None:
    """Action for action, and each role reads what is new to it."""
    for number in range(6):
        scenario = tiny.scenario(INCIDENT, SMALL, number)
        episode = play_episode(INCIDENT, scenario, "strict", INCIDENT.policies["random"](scenario, "strict"))
        for conversation in tiny.conversations(INCIDENT, "strict", scenario):
            own = [step for step in episode.steps if step.role == conversation.role]
            acted = [INCIDENT.format_action(step.action, "compact") for step in own]
            assert [turn.action for turn in conversation.turns] == acted
            seen = [None, *[step.view for step in own]]
            texts = [INCIDENT.render(step.view, since, "compact") for step, since in zip(own, seen, strict=False)]
            assert [turn.text for turn in conversation.turns] == texts


class Narrowing:
    """The incident room, which now and then permits less."""

    def __getattr__(self, name: str) -> Any:
        return getattr(INCIDENT, name)

    def view(self, world: Any, role: str) -> Any:
        """The view, remembered."""
        self.latest = INCIDENT.view(world, role)
        return self.latest

    def permitted(self, view: Any) -> Any:
        """The first kinds of action, as many as the step says."""
        kinds = INCIDENT.permitted(view) or ()
        return kinds[: 1 + self.latest.step % len(kinds)]


def test_what_is_permitted_may_depend_on_the_view(tmp_path: Path) -> None:
    """The target at an action is that turn's own, and every action of any turn is a token."""
    world = Narrowing()
    warm_up.make_tokenizer(world, SMALL).save_pretrained(tmp_path)  # type: ignore[arg-type]
    codec = Codec(tmp_path, tiny.layout(tmp_path))
    rows = list(warm_up.transcripts(world, codec, SMALL, range(4)))  # type: ignore[arg-type]
    assert len({permitted for row in rows for permitted in row.permitted}) > 4
    for row in rows:
        for start, permitted in zip(row.starts, row.permitted, strict=True):
            assert row.tokens[start] in [token for kind in permitted for token in kind]
            target = warm_up._uniform(permitted, 4000)
            assert float(target.sum()) == pytest.approx(1.0)
            assert int((target > 0).sum()) == len({token for kind in permitted for token in kind})
