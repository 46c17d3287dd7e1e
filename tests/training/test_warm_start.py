"""A warm start teaches a pretrained model the format of its seats, and nothing about what to do."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from chaosops_ray import evaluate
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.cli import main
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.sim import ENVIRONMENTS, environment_named
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.store import versions
from chaosops_ray.training import base_models, plan, warm_start
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.warm_start import Drawn, Play, Recipe, Transcript
from chaosops_ray.wire import Decoding, Sample, SampleRequest, Task
from chaosops_ray.workers import rollout
from chaosops_ray.workers.rollout import EpisodeRollout
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import chat_model, made_smollm2
from tests.support.toy_world import TOY, Toy

INCIDENT = environment_named("incident")
SHORT = Recipe(steps=2, transcripts=2, learning_rate=1e-3, lora_rank=4)


def configured(model: Path, **values: Any) -> Run:
    given = {"world": "incident", "model": str(model), "style": "compact", "updates": 6}
    small = {"learner": {"checkpointing": False}, "resources": {"learner_threads": 1}}
    return Run.model_validate({**given, **small, **values})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model"), INCIDENT, "strict", "compact")


@pytest.fixture(scope="module")
def base(model: Path) -> BaseModel:
    return base_models.prepare(str(model))


def drawn_from(base: BaseModel, environment: AnyEnvironment = INCIDENT, **values: Any) -> Play:
    run = configured(base.path, world=environment.name, **values)
    return warm_start.prepared(run, environment, Codec(base.path, base.layout))


def some(drawn: Play, count: int) -> list[Transcript]:
    return list(islice(warm_start.transcripts(drawn, warm_start.FIRST_SEED), count))


# -- transcripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ENVIRONMENTS)
@pytest.mark.parametrize("style", ["full", "compact"])
def test_tokens_are_those_of_a_rollout_whose_engine_says_the_same(base: BaseModel, world: str, style: str) -> None:
    environment = environment_named(world)
    made = drawn_from(base, environment, style=style, rollout={"max_tokens": 400}, resources={"context": 100_000})
    found = some(made, 12)
    by_scenario: dict[tuple[str, str], list[Transcript]] = {}
    for transcript in found[:-4]:  # whole episodes
        by_scenario.setdefault((transcript.scenario, transcript.rules), []).append(transcript)
    for (scenario, rules), together in list(by_scenario.items())[:-1]:
        said = {one.role: iter([one.tokens[turn.start : turn.end] for turn in one.turns]) for one in together}

        async def ask(cohort: str, requests: Sequence[SampleRequest], /, said: Any = said) -> list[Sample]:
            tokens = next(said[cohort.rpartition("/")[2]])
            return [Sample(tokens, (0.0,) * len(tokens), 0, "", stopped=True) for _ in requests]

        task = Task("t", scenario, rules, 1, 0)
        group = asyncio.run(rollout.play_group(environment, made.codec, style, task, ask, structured=False))  # type: ignore[arg-type]
        assert [(one.role, one.tokens) for one in group.trajectories] == [(one.role, one.tokens) for one in together]
        for trajectory, transcript in zip(group.trajectories, together, strict=True):
            assert [turn[:2] for turn in trajectory.turns] == [turn[:2] for turn in transcript.turns]


def test_actions_are_drawn_kind_by_kind(base: BaseModel) -> None:
    counts: Counter[tuple[int, int]] = Counter()
    for transcript in some(drawn_from(base), 400):
        for turn in transcript.turns:
            drawn = transcript.tokens[turn.start : turn.end]
            (kind,) = [place for place, kind in enumerate(turn.permitted) if drawn in kind]
            counts[len(turn.permitted), kind] += 1
    for kinds in (4, 5):
        found = [counts[kinds, kind] for kind in range(kinds)]
        mean = sum(found) / kinds
        assert all(abs(count - mean) < 4 * math.sqrt(mean) for count in found), found


@pytest.mark.parametrize("world", ENVIRONMENTS)
def test_a_turn_never_has_two_permitted_actions_of_one_spelling(base: BaseModel, world: str) -> None:
    """Otherwise the measured probability of the permitted actions would count one of them twice."""
    wide = {"rollout": {"max_tokens": 400}, "resources": {"context": 100_000}}
    for style in ("full", "compact"):
        for transcript in some(drawn_from(base, environment_named(world), style=style, **wide), 60):
            for turn in transcript.turns:
                spelt = [choice for kind in turn.permitted for choice in kind]
                assert len(set(spelt)) == len(spelt)


def test_targets_along_a_completion_multiply_to_its_share() -> None:
    turn = Drawn(2, 5, (((5, 6, 9), (5, 7, 9), (5, 7, 8, 9)), ((4, 9),)))
    found = list(warm_start.targets(turn, (1, 1, 5, 7, 9)))
    assert [(place, dict(zip(ids, map(pytest.approx, shares), strict=True))) for place, ids, shares in found] == [
        (2, {5: 1 / 2, 4: 1 / 2}),
        (3, {6: 1 / 3, 7: 2 / 3}),
        (4, {9: 1 / 2, 8: 1 / 2}),
    ]


def test_the_targets_of_a_transcript_are_its_completions_tokens(base: BaseModel) -> None:
    for transcript in some(drawn_from(base), 40):
        for turn in transcript.turns:
            found = list(warm_start.targets(turn, transcript.tokens))
            assert [place for place, _, _ in found] == list(range(turn.start, turn.end))
            share = 1.0
            for place, ids, shares in found:
                assert sum(shares) == pytest.approx(1)
                share *= shares[ids.index(transcript.tokens[place])]
            drawn = transcript.tokens[turn.start : turn.end]
            (kind,) = [kind for kind in turn.permitted if drawn in kind]
            assert share == pytest.approx(1 / len(turn.permitted) / len(kind))


def test_only_seats_that_learn_are_taught_and_colleagues_play_the_others(base: BaseModel) -> None:
    seats = {"sre": "heuristic", "dev": "oracle", "manager": "oracle"}
    found = some(drawn_from(base, seats=seats), 20)
    assert {one.role for one in found} == {"oversight"}
    assert len({one.scenario for one in found}) == 20


@pytest.mark.parametrize(
    ("curriculum", "shares"),
    [
        ("easy:6", {"easy": 1.0}),
        ("easy:3,medium+hard:3", {"easy": 0.5, "medium": 0.25, "hard": 0.25}),
        ("easy:6,hard:100", {"easy": 1.0}),  # a stage that this run never reaches
        ("adaptive", {"easy": 1 / 3, "medium": 1 / 3, "hard": 1 / 3}),
    ],
)
def test_tiers_are_mixed_as_in_the_run(base: BaseModel, curriculum: str, shares: dict[str, float]) -> None:
    found = {
        one.scenario: INCIDENT.scenario(one.scenario) for one in some(drawn_from(base, curriculum=curriculum), 800)
    }
    counts = Counter([scenario.tier for scenario in found.values()])
    assert counts.keys() == shares.keys()
    for tier, share in shares.items():
        mean = share * len(found)
        assert abs(counts[tier] - mean) <= 4 * math.sqrt(mean * (1 - share))


def test_rules_are_those_of_the_schedule(base: BaseModel) -> None:
    found = some(drawn_from(base, rule_options={"catch": {"start": 2, "end": 1}}), 80)
    assert {one.rules for one in found} == {
        plan.make(configured(base.path, rule_options={"catch": {"start": 2, "end": 1}}), INCIDENT).rules(done)
        for done in range(6)
    }


def test_scenarios_are_those_that_nobody_else_draws(base: BaseModel) -> None:
    made = drawn_from(base)
    trained = {INCIDENT.scenario(one.scenario).seed for one in some(made, 80)}
    measured = {
        INCIDENT.scenario(one.scenario).seed
        for one in islice(warm_start.transcripts(made, warm_start.FIRST_MEASURED_SEED), 80)
    }
    assert min(trained) == warm_start.FIRST_SEED > 100_100_000
    assert not trained & measured


def test_the_members_of_a_pair_come_equally_often(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, TOY.name, TOY)
    found = {one.scenario for one in some(drawn_from(base, TOY, curriculum="few:6", rollout={"max_tokens": 400}), 300)}
    full = len([one for one in found if one.startswith("toy/full/")])
    assert abs(full - len(found) / 2) < 2 * math.sqrt(len(found))


def test_the_figures_of_a_turn() -> None:
    turn = Drawn(0, 1, (((1,),), ((2,), (3,))))
    uniform = [math.log(0.5), math.log(0.25), math.log(0.25)]
    assert warm_start.figures(turn, uniform) == pytest.approx((1.0, 0.0, 0.0, 0.0))
    # Half of all completions are permitted actions; of these, kinds come as often as they should, actions do not.
    skewed = [math.log(0.25), math.log(0.2), math.log(0.05)]
    divergence = -0.25 * (math.log(0.4 / 0.25) + math.log(0.1 / 0.25))
    assert warm_start.figures(turn, skewed) == pytest.approx((0.5, 0.0, divergence, 0.15))
    # Completions that no float can tell from impossible ones.
    permitted, *others = warm_start.figures(turn, [-2000.0, -2000.0 + math.log(0.5), -5000.0])
    assert permitted == 0.0
    assert all(math.isfinite(one) and one > 0 for one in others)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rollout": {"max_tokens": 2}}, r"^rollout\.max_tokens: an action of \w+ has \d+ tokens .*raise it$"),
        ({"resources": {"context": 64}}, r"^resources\.context: a transcript of \w+ has \d+ tokens .*raise it$"),
    ],
)
def test_what_the_run_could_not_hold_is_refused(base: BaseModel, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        some(drawn_from(base, **values), 40)


@pytest.mark.parametrize("name", Recipe._fields)
def test_settings_must_be_above_zero(model: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"^--{name.replace('_', '-')} must be above 0, got 0$"):
        warm_start.check(configured(model), INCIDENT, Recipe()._replace(**{name: 0}))


def test_a_world_without_a_list_of_permitted_actions_is_refused(model: Path) -> None:
    class Unlisted(Toy):
        def permitted(self, _view: Any, /) -> Any:
            return None

    with pytest.raises(ConfigError, match=r"^world: toy does not list its permitted actions, .*give another world"):
        warm_start.check(configured(model, world="toy"), Unlisted(), Recipe())


def test_seats_that_never_have_a_turn_end_the_search(base: BaseModel) -> None:
    class Ended(Toy):
        def acting(self, _world: Any) -> str | None:
            return None

    made = drawn_from(base, TOY)._replace(environment=Ended())
    with pytest.raises(ConfigError, match=r"^seats: 1000 episodes in a row ended before"):
        some(made, 1)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["warmup", *arguments]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("chaosops warmup: ")
    return line


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = "tune_configs/3a.yaml"
    assert "tiny comes warmed up already" in refused(capsys, run, "--set", "model=tiny")
    assert "tiny-half comes warmed up already" in refused(capsys, run, "--set", "model=tiny-half")
    assert "there is no folder ./nowhere" in refused(capsys, run, "--set", "model=./nowhere")
    (tmp_path / "mine").write_text("mine")
    assert "name another with --out" in refused(capsys, run, "--out", str(tmp_path))
    for taken in (tmp_path / "mine", tmp_path / "mine" / "below"):
        assert str(tmp_path / "mine") in refused(capsys, run, "--out", str(taken))
    assert "--learning-rate must be above 0" in refused(capsys, run, "--learning-rate", "nan")
    assert "is a sweep" in refused(capsys, "tune_configs/phase3.yaml")


# -- the folder -------------------------------------------------------------------------------------------------------


def test_the_folder_holds_a_model_that_a_run_can_take(base: BaseModel, tmp_path: Path) -> None:
    run, told = configured(base.path), []
    record = warm_start.make(
        run, INCIDENT, SHORT, tmp_path / "warm", step=lambda done, apart: told.append((done, apart)), turns=3
    )
    found = base_models.prepare(str(tmp_path / "warm"))
    assert found.layout == base.layout
    assert found.digest == record["digest"] != base.digest
    own = {path.name: path.read_bytes() for path in base.path.iterdir() if path.name != "model.safetensors"}
    written = {path.name: path.read_bytes() for path in found.path.iterdir()}
    assert {name: written[name] for name in own} == own
    assert written.keys() - own.keys() == {"model.safetensors", warm_start.RECORD}
    assert json.loads(written[warm_start.RECORD]) == record
    assert str(base.path).encode() not in b"".join(written.values())
    assert record["base"] == {"name": base.path.name, "digest": base.digest}
    assert (record["world"], record["rules"], record["style"]) == ("incident", "strict/2", "compact")
    assert record["recipe"] == {**SHORT._asdict(), "seed": 0, "tokens_per_forward": run.learner.tokens_per_forward}
    assert record["drawn"]["transcripts"] == 4
    assert [done for done, _ in told] == [1, 2]
    assert record["curve"] == [round(apart, 6) for _, apart in told]
    assert record["after"]["turns"] == 3
    assert 0 <= record["after"]["permitted"] <= 1
    # Once more from the model that was made: it is a base like any other.
    again = configured(found.path)
    assert warm_start.make(again, INCIDENT, SHORT, tmp_path / "again", turns=1)["base"]["digest"] == found.digest


def test_twice_gives_the_same_bytes(base: BaseModel, tmp_path: Path) -> None:
    for name in ("one", "two"):
        warm_start.make(configured(base.path), INCIDENT, SHORT, tmp_path / name, turns=1)
    one, two = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert one == two
    warm_start.make(configured(base.path, seed=1), INCIDENT, SHORT, tmp_path / "three", turns=1)
    assert versions.base_digest(tmp_path / "three") != versions.base_digest(tmp_path / "one")


def test_what_is_interrupted_leaves_nothing(base: BaseModel, tmp_path: Path) -> None:
    def interrupt(_done: int, _apart: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_start.make(configured(base.path), INCIDENT, SHORT, tmp_path / "warm", step=interrupt, turns=1)

    def interrupt_writing(text: str) -> None:
        if text.startswith("measuring") and any(tmp_path.iterdir()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_start.make(configured(base.path), INCIDENT, SHORT, tmp_path / "warm", say=interrupt_writing, turns=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_appears_meanwhile_is_not_replaced(base: BaseModel, tmp_path: Path) -> None:
    def somebody_else(_done: int, _apart: float) -> None:
        (tmp_path / "warm").mkdir(exist_ok=True)
        (tmp_path / "warm" / "theirs").touch()

    with pytest.raises(InputError, match="name another with --out"):
        warm_start.make(configured(base.path), INCIDENT, SHORT, tmp_path / "warm", step=somebody_else, turns=1)
    assert [path.name for path in tmp_path.iterdir()] == ["warm"]
    assert [path.name for path in (tmp_path / "warm").iterdir()] == ["theirs"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_one_line_and_nothing_written(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    given = ["--set", f"model={model}", "--set", "style=compact", "--steps", "5000", "--out", str(tmp_path / "warm")]
    command = [sys.executable, "-m", "chaosops_ray.cli", "warmup", "tune_configs/3a.yaml", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step "):
            pass
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    said = {signal.SIGTERM: (75, "SIGTERM: nothing was written; start it again"), signal.SIGINT: (130, "interrupted")}
    assert (process.returncode, errors) == (said[number][0], f"chaosops warmup: {said[number][1]}\n")
    assert not list(tmp_path.iterdir())


# -- what the model learns ------------------------------------------------------------------------------------------

BESIDE = {"sre": "heuristic", "dev": "oracle", "manager": "oracle"}
LONGEST = 24


def free_episodes(base: BaseModel, run: Run, seeds: Sequence[int], size: int) -> list[EpisodeRollout]:
    """Episodes in which the model writes what it likes, drawn at temperature 1."""
    sampler = TorchSampler(base.path, threads=run.resources.learner_threads)
    codec, beside = Codec(base.path, base.layout), tuple(plan.evaluated_beside(run, INCIDENT).items())

    async def ask(_cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
        return await sampler.sample(_cohort, requests, Decoding(1.0, LONGEST, base.layout.stop), None)

    async def all_of_them() -> list[EpisodeRollout]:
        await sampler.adopt_base(base.digest)
        found = []
        for one in INCIDENT.scenarios("published", seeds):
            task = Task(one.identity, one.identity, "strict", size, one.seed, colleagues=beside)
            found += await rollout.play(INCIDENT, codec, run.rendering, task, ask, structured=False)
        return found

    return asyncio.run(all_of_them())


def random_returns(run: Run, seeds: Sequence[int]) -> list[float]:
    random = evaluate.baselines(INCIDENT, "random", plan.evaluated_beside(run, INCIDENT))
    scenarios = INCIDENT.scenarios("published", seeds)
    return [one.episode.total for _, one in evaluate.play_all(random, scenarios, INCIDENT.rules("strict"))]


@pytest.fixture(scope="module")
def warmed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseModel, Run, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("warm") / "model"
    run = configured(model, seats=BESIDE, updates=600)
    recipe = Recipe(steps=90, transcripts=16, learning_rate=6e-3, lora_rank=32)
    record = warm_start.make(run, INCIDENT, recipe, folder, turns=12)
    return base_models.prepare(str(folder)), configured(folder, seats=BESIDE), record


@pytest.mark.slow
def test_measured_it_is_near_random_play(warmed: tuple[BaseModel, Run, dict[str, Any]]) -> None:
    before, after = warmed[2]["before"], warmed[2]["after"]
    assert before["permitted"] < 0.001
    assert after["permitted"] > 0.95
    assert before["kl_of_kinds"] > 1
    assert after["kl_of_kinds"] < 0.03
    assert after["kl_of_actions"] < 0.06
    assert after["apart"] < 0.12


@pytest.mark.slow
def test_its_free_completions_are_the_random_policys(warmed: tuple[BaseModel, Run, dict[str, Any]]) -> None:
    """Almost all parse, each action comes about as often as in random play, and the mean return is the same."""
    base, run, _ = warmed
    rollouts = free_episodes(base, run, range(5000, 5004), 4)
    taken = [step.action for one in rollouts for step in one.running.steps if step.role == "oversight"]
    assert len(taken) > 200
    assert sum([isinstance(action, Unparsed) for action in taken]) < 0.05 * len(taken)
    counts = Counter([action for action in taken if not isinstance(action, Unparsed)])
    world = INCIDENT.start(INCIDENT.scenario("incident/cascade/hard/3"), "strict")
    kinds = INCIDENT.permitted(INCIDENT.view(world, "oversight")) or ()
    for kind in kinds:
        found, mean = sum([counts[action] for action in kind]), counts.total() / len(kinds)
        assert abs(found - mean) < 4 * math.sqrt(mean) + 0.2 * mean, (kind, found, mean)
    own = [one.episode.total for one in rollouts]
    drawn = random_returns(run, range(6000, 6048))
    error = math.sqrt(stdev(own) ** 2 / len(own) + stdev(drawn) ** 2 / len(drawn))
    assert abs(fmean(own) - fmean(drawn)) < 3 * error


@pytest.mark.slow
def test_smollm2_comes_nearer_within_a_few_steps(tmp_path: Path) -> None:
    small = {"checkpointing": False, "tokens_per_forward": 1024}
    run = configured(made_smollm2(), seats=BESIDE, learner=small)
    recipe = Recipe(steps=12, transcripts=2, learning_rate=1e-3)
    record = warm_start.make(run, INCIDENT, recipe, tmp_path / "warm", turns=4)
    assert record["after"]["permitted"] > 100 * record["before"]["permitted"]
    assert fmean(record["curve"][-3:]) < 0.5 * record["curve"][0]
    assert base_models.prepare(str(tmp_path / "warm")).digest == record["digest"]
