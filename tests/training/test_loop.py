"""The loop on a real Ray: the same to the last bit however it is spread, killed or resumed; and it never pretends."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import psutil
import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from transformers import Qwen2Config, Qwen2ForCausalLM

from chaosops_ray import config, evaluate
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import ConfigError
from chaosops_ray.learner.learner import Learner
from chaosops_ray.sim.contract import Scenario
from chaosops_ray.store import versions
from chaosops_ray.store.episodes import differences, read_episodes
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.store.timeline import TIMELINE
from chaosops_ray.sweeps import runner, spec
from chaosops_ray.training import check as check_run
from chaosops_ray.training import loop, plan, policies
from chaosops_ray.transfer import BaseSource
from chaosops_ray.wire import UNTRAINED, Decoding, Group, Ids, Origin, PolicyVersion, Sample, SampleRequest, Structured
from chaosops_ray.workers.actors import Answer, Batch, SamplerHost
from chaosops_ray.workers.adoption import AdoptionError
from chaosops_ray.workers.bundles import bundles, check
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.rollout import play_group
from chaosops_ray.workers.samplers.torch import TorchSampler
from chaosops_ray.workers.stop import Stop, StopError
from tests.support.cluster import CONFIGS, digests, freeze, kill, make, processes, ray_here, small_run, trained
from tests.support.tokenizers import chat_tokenizer, saved
from tests.support.traces import parsed, spans_of
from tests.sweeps.test_spec import RUNS, SWEEPS, TWINS

pytestmark = [pytest.mark.cluster]

UPDATES = 6
# A scenario for each of four shards, so that every shard plays in every update; and a colleague who draws at random.
LOCKSTEP = (f"updates={UPDATES}", "batch.scenarios=4", "keep_every=3", "seats={sre: random}")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_here():
        yield


class Undisturbed(NamedTuple):
    """A run from its beginning to its end, and the evaluation by its own engines."""

    training: loop.Training
    trained: loop.Trained
    scenarios: tuple[Scenario, ...]
    said: list[str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The lockstep run, on one shard, with which every other one is compared. Only looked at; copy it to change it."""
    training = make(tmp_path_factory.mktemp("undisturbed") / "run", small_run(*LOCKSTEP, "rollout.shards=1"))
    scenarios = training.environment.scenarios("published", range(1000, 1002))
    said: list[str] = []
    return Undisturbed(training, loop.train(training, lambda _row: None, said.append, scenarios), scenarios, said)


def test_a_run_leaves_what_it_promises(undisturbed: Undisturbed) -> None:
    folder = undisturbed.training.folder
    rows = folder.metrics()
    assert [row["update"] for row in rows] == [*range(1, UPDATES + 1)]
    assert all(row["adoption"]["error"] < 1e-3 for row in rows)
    assert len({row["digest"] for row in rows}) == UPDATES  # every update changed the policy
    assert folder.checkpoints() == [4, 6]
    last = folder.version()
    assert (last.number, last.digest) == (UPDATES, rows[-1]["digest"]) == undisturbed.trained.version[:2]
    # Every third for good, those of the checkpoints, and the last few, which a sampler may hold.
    assert versions.numbers(folder.adapters) == [0, 3, 4, 5, 6]


def test_every_step_of_the_record_carries_the_version_that_took_it_and_replays(undisturbed: Undisturbed) -> None:
    folder, environment = undisturbed.training.folder, undisturbed.training.environment
    rows = {row["update"]: row for row in folder.metrics()}
    for update in range(1, UPDATES + 1):
        episodes = list(read_episodes(folder.path / "episodes" / f"update-{update:06d}.parquet"))
        assert len(episodes) == rows[update]["episodes"]
        for episode in episodes:
            assert not differences(episode)
            for step in episode.rows:
                is_colleague = step["role"] == "sre"
                assert step["player"] == ("random" if is_colleague else "trained")
                origin = Origin(step["version"], step["digest"], step["completion"], tuple(step["log_probs"]))
                if is_colleague:
                    assert origin == UNTRAINED
                    continue
                assert environment.parse_action(origin.completion) == environment.load_action(step["action"])
                assert origin.log_probs
                assert all(value <= 0 for value in origin.log_probs)
                assert step["version"] == update - 1  # lockstep: always the version before
                if update > 1:
                    assert step["digest"] == rows[update - 1]["digest"]


def test_what_was_held_out_is_played_as_the_adapter_plays_it_anywhere(undisturbed: Undisturbed) -> None:
    """By the run's own engines and shards, and by `evaluate --policies trained=RUN`: the same to the last action."""
    training, trained, scenarios, said = undisturbed
    environment = training.environment
    assert said == ["evaluating held-out 0/22", "evaluating held-out 16/22"]
    player = policies.trained(environment, str(training.folder.path), "torch")
    assert [report.scenario for report in trained.held_out] == [one.identity for one in scenarios]
    for report, (episode, origins) in zip(trained.held_out, player(scenarios, "strict"), strict=True):
        assert {origin[:2] for origin in origins or ()} == {trained.version[:2], UNTRAINED[:2]}
        assert report.actions == tuple([environment.dump_action(step.action) for step in episode.steps])
        # Log-probabilities differ in their last bits, as the batches are others.
        assert [origin[:3] for origin in report.origins] == [origin[:3] for origin in origins or ()]
        found = evaluate.result(environment, "p", episode)
        assert (report.scenario, report.headline) == (found.scenario.identity, found.headline)
        assert report.metrics == found.metrics


KINDS = {
    "driver": {"collect", "update", "publish", "adopt"},
    "learner": {"update", "export", "probe"},
    "sampler-0": {"sample", "load", "proof"},
    "shard-0": {"play"},
}


def test_the_timeline_has_what_everybody_did_in_every_update(undisturbed: Undisturbed) -> None:
    """In lockstep the engine computes only while the driver collects, and on one machine all read the same clock."""
    spans = spans_of(parsed(undisturbed.training.folder.path / TIMELINE))
    for update in range(1, UPDATES + 1):
        done = [(process, one["name"]) for process, one in spans if one["args"]["update"] == update]
        for process, kinds in KINDS.items():
            assert {name for of, name in done if of == process} >= kinds, (update, process)
        (collect,) = [one for process, one in spans if (one["name"], one["args"]["update"]) == ("collect", update)]
        sampled = [one for _, one in spans if (one["name"], one["args"]["update"]) == ("sample", update)]
        began, ended = collect["ts"], collect["ts"] + collect["dur"]
        inside = [one for one in sampled if began <= one["ts"] and one["ts"] + one["dur"] <= ended]
        assert inside
        if update < UPDATES:  # after the last one, the held-out scenarios are played
            assert inside == sampled
    assert {process for process, _ in spans} == set(KINDS)
    assert [one["args"]["update"] for _, one in spans if one["name"] == "evaluate"] == [UPDATES]
    assert [one["args"]["update"] for _, one in spans if one["name"] == "checkpoint"] == [2, 4, 6]
    assert not any("clock_error_us" in one["args"] for _, one in spans)


def test_where_an_update_s_time_goes_is_in_its_row(undisturbed: Undisturbed) -> None:
    for row in undisturbed.training.folder.metrics():
        of = row["time"]
        assert 0 < of["engine"] <= of["rollout"]
        assert min(of["export"], of["load"], of["proof"]) > 0
        assert of["export"] + of["load"] + of["proof"] <= of["adopt"]
        took = of["rollout"] + of["update"] + of["adopt"]
        assert of["idle_engines"] == pytest.approx(1 - of["engine"] / took)
        assert 1 - of["update"] / took <= of["idle_learner"] < 1
        assert of["overlap"] == 0
        assert 0 < of["queue"] < of["rollout"]
        assert of["steps_per_second"] > 1 / of["rollout"]


def collected(folder: RunFolder) -> list[int]:
    """The updates of the timeline for which episodes were collected."""
    spans = spans_of(parsed(folder.path / TIMELINE))
    return [one["args"]["update"] for _, one in spans if one["name"] == "collect"]


class Disturbed(NamedTuple):
    """A run in which actors died, with every row that its driver was told, and its last evaluation."""

    training: loop.Training
    trained: loop.Trained
    told: list[dict[str, Any]]
    samplers: list[list[int]]  # their processes, row by row


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory, undisturbed: Undisturbed) -> Disturbed:
    """The lockstep run on four shards, evaluated on the way; one of each kind of actor is killed."""
    run = small_run(*LOCKSTEP, "rollout.shards=4", "evaluation.every=3", "evaluation.progress_seeds=1")
    training = make(tmp_path_factory.mktemp("disturbed") / "run", run)
    told: list[dict[str, Any]] = []
    samplers: list[list[int]] = []
    victims = {1: "Shard", 2: "SamplerHost", 3: "Learner"}

    def strike(row: dict[str, Any]) -> None:
        told.append(row)
        samplers.append([process.pid for process in processes("SamplerHost")])
        if row["update"] in victims:
            kill(victims.pop(row["update"]))

    return Disturbed(training, loop.train(training, strike, held_out=undisturbed.scenarios), told, samplers)


def test_four_shards_and_the_death_of_every_actor_change_nothing(
    undisturbed: Undisturbed, disturbed: Disturbed
) -> None:
    # With a new learner, the run goes on from its checkpoint after two updates, and the samplers stay.
    replaced = [(row["update"], row["actors_replaced"]) for row in disturbed.told]
    assert replaced == [(1, 0), (2, 1), (3, 2), (3, 3), (4, 3), (5, 3), (6, 3)]
    assert disturbed.samplers[1] != disturbed.samplers[2] == disturbed.samplers[-1]
    assert digests(disturbed.training) == digests(undisturbed.training)
    assert [row["update"] for row in disturbed.training.folder.metrics()] == [*range(1, UPDATES + 1)]
    assert disturbed.training.folder.checkpoints() == undisturbed.training.folder.checkpoints()
    assert collected(disturbed.training.folder) == [*range(1, UPDATES + 1)]


def test_evaluating_on_the_way_comes_out_the_same_after_a_resume(
    undisturbed: Undisturbed, disturbed: Disturbed
) -> None:
    """Each row has the figures of the version that it names, whenever it was written; nothing else depends on them."""
    environment, folder = disturbed.training.environment, disturbed.training.folder
    rows = folder.metrics()
    assert [row["update"] for row in rows if "evaluation" in row] == [3, 6]
    assert [row["update"] for row in rows if "evaluate" in row["time"]] == [3, 6]
    before, after = [row["evaluation"] for row in disturbed.told if row["update"] == 3]
    assert before == after == rows[2]["evaluation"]
    # The last one is the run's own evaluation, and is not played a second time for it.
    assert disturbed.trained.version[:2] == undisturbed.trained.version[:2]
    assert disturbed.trained.held_out == undisturbed.trained.held_out
    beside = plan.evaluated_beside(disturbed.training.run, environment)
    heuristic = evaluate.play_all(evaluate.baselines(environment, "heuristic", beside), undisturbed.scenarios, "strict")
    theirs = [evaluate.result(environment, name, one.episode) for name, one in heuristic]
    means = {tier: fmean([one.headline for one in theirs if one.scenario.tier == tier]) for tier in environment.tiers}
    assert rows[5]["evaluation"] == {
        "tiers": loop.by_tier(environment, undisturbed.trained.held_out),
        "heuristic": means,
    }

    # On the way, only the scenarios of the first seeds are played.
    (first, *_) = dict.fromkeys([one.seed for one in undisturbed.scenarios])
    scenarios = [one for one in undisturbed.scenarios if one.seed == first]
    assert len(scenarios) < len(undisturbed.scenarios)
    player = policies.trained(environment, f"{folder.path}@3", "torch")
    played = [one.episode for one in player(scenarios, "strict")]
    assert sum([figures["episodes"] for figures in rows[2]["evaluation"]["tiers"].values()]) == len(played)
    found = [evaluate.result(environment, "p", episode) for episode in played]
    cells = evaluate.summary(environment, found, "strict", "", None)["cells"]
    (cell,) = [one for one in cells if one["tier"] == "hard"]
    assert rows[2]["evaluation"]["tiers"]["hard"]["mean"] == pytest.approx(cell["mean"])


def test_actors_that_hang_are_replaced_and_change_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The learner while nobody has asked it, the sampler while it plays: each would be waited for without an end."""
    limits = ("deadlines.quiet=1", "deadlines.silence=8")
    training = make(tmp_path / "run", small_run(*LOCKSTEP, "rollout.shards=1", *limits))
    victims, frozen, told = {3: "Learner", 4: "SamplerHost"}, list[psutil.Process](), list[int]()

    def strike(row: dict[str, Any]) -> None:
        told.append(row["update"])
        if row["update"] in victims:
            frozen.append(freeze(victims.pop(row["update"])))

    loop.train(training, strike)
    assert told == [1, 2, 3, 3, 4, 5, 6]
    assert digests(training) == digests(undisturbed.training)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in frozen)


class Asking:
    """A driver that asks the run to end: after that row, or when the run says that it does this."""

    def __init__(self, after: int = -1, saying: str = "nothing") -> None:
        self.rows: list[dict[str, Any]] = []
        self.stop = Stop()
        self._after, self._saying = after, saying

    def row(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if row["update"] == self._after:
            self.stop.ask("SIGTERM")

    def say(self, text: str) -> None:
        if self._saying in text:
            self.stop.ask("SIGTERM")


def test_a_run_that_is_asked_to_end_loses_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Between two updates, and in an evaluation, before that update's row is written."""
    run = small_run(*LOCKSTEP, "rollout.shards=1", "checkpoint_every=5", "evaluation.every=4")
    training = make(tmp_path / "run", run)
    folder = training.folder
    for asking, done, rows in ((Asking(after=3), 3, 3), (Asking(saying="held-out 0/"), 4, 3)):
        with asking.stop.asked_for(), pytest.raises(StopError, match="SIGTERM"):
            loop.train(training, asking.row, asking.say, undisturbed.scenarios, asking.stop)
        assert folder.checkpoints()[-1] == done
        assert [row["update"] for row in folder.check()] == list(range(1, rows + 1))
    undisturbed_from_here = Asking()
    loop.train(training, undisturbed_from_here.row, held_out=undisturbed.scenarios)
    assert [row["update"] for row in undisturbed_from_here.rows] == [4, 5, 6]
    assert digests(training) == digests(undisturbed.training)
    assert [row["update"] for row in folder.metrics() if "evaluation" in row] == [4, 6]
    assert collected(folder) == [*range(1, UPDATES + 1)]
    recorded = [
        sorted(path.name for path in (one / "episodes").iterdir())
        for one in (folder.path, undisturbed.training.folder.path)
    ]
    assert recorded[0] == recorded[1]


class GarbageHost(SamplerHost):
    """Of a run's samplers, the first spoils a completion of version 2; the next ones find the mark that it left."""

    def __init__(self, run: config.Run, base: BaseSource) -> None:
        super().__init__(run, base)
        self._mark = base.path.parent / "spoiled"

    async def sample_batches(self, batches: Sequence[Batch], decoding: Decoding, number: int) -> list[Answer]:
        found = await super().sample_batches(batches, decoding, number)
        if number == 2 and not self._mark.exists():
            self._mark.touch()
            samples, _ = found[0]
            samples[0] = samples[0]._replace(log_probs=(math.nan,) * len(samples[0].tokens))
        return found


def test_a_sampler_that_answers_garbage_is_replaced_and_changes_nothing(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    training = make(tmp_path / "run", small_run(*LOCKSTEP, "rollout.shards=1"))
    model = Path(shutil.copytree(training.base.path, tmp_path / "model"))
    base = training.base._replace(path=model)
    actor = ray.remote(GarbageHost)
    loop.train(training._replace(base=base, sampler_actor=actor), lambda _row: None)
    assert digests(training) == digests(undisturbed.training)
    assert [row["actors_replaced"] for row in training.folder.metrics()] == [0, 0, 1, 1, 1, 1]


@pytest.fixture
def learner_here() -> Iterator[Callable[[loop.Training], Learner]]:
    """Makes a run's learner in this process."""

    def made(training: loop.Training) -> Learner:
        base = training.base
        return Learner(training.run, base.public_name, base.path, base.digest, training.weights)

    yield made
    torch.use_deterministic_algorithms(mode=False)


def test_groups_that_are_given_up_leave_nothing_behind(tmp_path: Path) -> None:
    """Whoever still played them would change what the sampler keeps of the same groups, and so the rounding."""
    training = make(tmp_path / "run", small_run(*LOCKSTEP, "rollout.shards=2"))
    with loop.placed(training, Stop()) as pool:
        state = loop.State.restored(training, pool)
        loop.publish(training, pool, state, loop.probes(training))
        tasks = training.plan.tasks(state.curriculum, 0, 0, 4, state.mastery)
        first = pool.dispatch(tasks).gather(600, 1)
        pool.dispatch(tasks).give_up()
        assert pool.dispatch(tasks).gather(600, 1) == first
        assert pool.replaced == 0


# -- sabotage ---------------------------------------------------------------------------------------------------------


def flip_a_byte(version: PolicyVersion) -> None:
    weights = Path(version.path) / versions.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


class Ended(NamedTuple):
    """A run that ended in an error."""

    training: loop.Training
    error: Exception


@pytest.fixture(scope="module")
def pipelined(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Its sampler is killed twice; ahead of the second time, the version that was proven last is tampered with."""
    settings = ("schedule=pipelined", "updates=7", "staleness=2", "rollout.shards=1", "evaluation.every=1")
    training = make(tmp_path_factory.mktemp("pipelined") / "run", small_run(*settings))
    held_out = training.environment.scenarios("published", [1000])

    def strike(row: dict[str, Any]) -> None:
        if row["update"] == 5:
            flip_a_byte(training.folder.version())
        if row["update"] in (3, 5):
            kill("SamplerHost")

    with pytest.raises((RayTaskError, versions.AdapterError, AdoptionError)) as caught:
        loop.train(training, strike, held_out=held_out)
    return Ended(training, caught.value)


def test_pipelined_rollouts_are_at_most_so_many_versions_behind(pipelined: Ended) -> None:
    """Also with evaluations between them, and with a sampler that never held the version before."""
    folder = pipelined.training.folder
    rows = folder.metrics()
    assert [(row["update"], row["actors_replaced"]) for row in rows] == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1)]
    assert all("evaluation" in row for row in rows)
    used = {}
    for row in rows:
        episodes = read_episodes(folder.path / "episodes" / f"update-{row['update']:06d}.parquet")
        used[row["update"]] = {step["version"] for episode in episodes for step in episode.rows}
    assert [used[update] for update in (1, 2, 3)] == [{0}, {0}, {0}]  # two are played ahead while the first is learnt
    for update in (4, 5):
        assert used[update] <= {update - 3, update - 2, update - 1}


def test_in_a_pipelined_run_learner_and_engine_work_at_the_same_time(pipelined: Ended) -> None:
    """Batches are played ahead while the learner makes its updates."""
    folder = pipelined.training.folder
    rows = folder.metrics()
    # In the first update the learner may still be getting ready when the batches ahead are played.
    assert max([row["time"]["overlap"] for row in rows]) > 0
    for row in rows:
        of = row["time"]
        assert 0 <= of["overlap"] <= min(1 - of["idle_learner"], 1 - of["idle_engines"])
    assert collected(folder)[: len(rows)] == [row["update"] for row in rows]


def test_an_adapter_that_was_tampered_with_is_never_served(pipelined: Ended) -> None:
    """The sampler that is to replace another refuses it, and the run ends by naming the version."""
    assert "policy-v5" in str(pipelined.error)


def test_an_adapter_that_was_tampered_with_is_not_gone_on_from(
    tmp_path: Path, undisturbed: Undisturbed, learner_here: Callable[[loop.Training], Learner]
) -> None:
    """A byte changes on disk before a run is resumed."""
    training = undisturbed.training
    folder = RunFolder(Path(shutil.copytree(training.folder.path, tmp_path / "run")))
    flip_a_byte(folder.version())
    learner = learner_here(training._replace(folder=folder))
    learner.restore(loop.saved(folder.checkpoint_path(UPDATES)))
    with pytest.raises(versions.AdapterError, match=f"policy-v{UPDATES}"):
        versions.publish(folder.adapters, UPDATES, training.base.digest, learner.adapter())


def test_a_learner_that_cannot_start_is_not_tried_again(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run("rollout.shards=1"))
    model = Path(shutil.copytree(training.base.path, tmp_path / "model"))
    broken = training._replace(base=training.base._replace(path=model))
    (model / "model.safetensors").write_bytes(b"")
    with pytest.raises(PoolError, match=r"learner does not start: .*[Ss]afetensor"):
        loop.train(broken, lambda _row: None)
    shutil.rmtree(model)
    with pytest.raises(versions.AdapterError, match=f"{model} is not a base model"):
        loop.train(broken, lambda _row: None)


# -- alarms; that the loop heeds them, and makes no checkpoint after one, is shown by the sweep that has one ----------

ALARMING = {"update": 3, "learner": {"kl": 0.5}}


def test_an_alarm_can_stop_the_run(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run("alarm.kl=0.4", "alarm.action=abort"))
    with pytest.raises(loop.AlarmError, match=r"update 3: .*alarm\.kl"):
        loop.sound_alarm(training, ALARMING, lambda _text: None, Stop())
    loop.sound_alarm(training, {"update": 3, "learner": {"kl": 0.4}}, lambda _text: None, Stop())


@pytest.mark.parametrize("mismatch", [0.3, math.nan])
def test_a_sampler_that_is_far_from_the_learner_stops_a_run_in_lockstep(tmp_path: Path, mismatch: float) -> None:
    """Whatever it claims to play. In a pipelined run the learner is another version, and so always at a distance."""
    row = {"update": 3, "version": 3, "learner": {"mismatch": mismatch}}
    training = make(tmp_path / "run", small_run("alarm.mismatch=0.2"))
    with pytest.raises(loop.AlarmError, match=r"update 3: .*alarm\.mismatch"):
        loop.sound_alarm(training, row, lambda _text: None, Stop())
    pipelined = make(tmp_path / "pipelined", small_run("alarm.mismatch=0.2", "schedule=pipelined"))
    loop.sound_alarm(pipelined, row, lambda _text: None, Stop())


class ImpostorHost(SamplerHost):
    """Proves every version, and plays the base model in its place from version 2 on."""

    async def sample_batches(self, batches: Sequence[Batch], decoding: Decoding, number: int) -> list[Answer]:
        engine: Any = self._sampler
        with engine._model.disable_adapter() if number >= 2 else nullcontext():
            return await super().sample_batches(batches, decoding, number)


@pytest.mark.slow
def test_a_sampler_that_plays_another_policy_than_it_proved_stops_the_run(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run("rollout.shards=1", "alarm.mismatch=0.001"))
    with pytest.raises(loop.AlarmError, match=r"update 3: .*alarm\.mismatch"):
        loop.train(training._replace(sampler_actor=ray.remote(ImpostorHost)), lambda _row: None)


def test_a_pause_says_what_it_waits_for(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run("alarm.kl=0.4", "alarm.action=pause"))
    resume = training.folder.path / loop.RESUME_FILE
    resume.touch()  # of an alarm before; it is no answer to this one
    heard: list[str] = []

    def answer(text: str) -> None:
        assert not resume.exists()
        heard.append(text)
        resume.touch()

    loop.sound_alarm(training, ALARMING, answer, Stop())
    assert "alarm.kl" in heard[0]
    assert str(resume) in heard[0]
    assert not resume.exists()


# -- resources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "kind"), [("learner_gpus=64", "GPU"), ("shard_cpus=500", "CPU")])
def test_too_small_a_cluster_is_found_out_before_anything_starts(setting: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"resources: .*{kind}"):
        check(small_run(f"resources.{setting}"), ray.cluster_resources())
    check(small_run(f"resources.{setting}", "resources.wait=1800"), ray.cluster_resources())  # one that grows


@TWINS
@pytest.mark.parametrize("path", [*RUNS, *SWEEPS], ids=lambda path: path.stem)
def test_every_configuration_that_is_shipped_can_be_placed(path: Path, settings: list[str]) -> None:
    """As a trial, whose own process comes beside the actors of its run."""
    if path in RUNS:
        runs = [check_run.read(path, settings, None)]
    else:
        runs = [trial.run for trial in spec.load_sweep(path, settings)[1]]
    for run in runs[:3]:
        factory = runner.placement(run)
        group = placement_group(factory.bundles, strategy=factory.strategy)
        try:
            ray.get(group.ready(), timeout=60)
        finally:
            remove_placement_group(group)


def test_one_gpu_can_be_shared() -> None:
    apart = small_run("resources.sampler_gpus=1", "resources.learner_gpus=1", "resources.samplers=2")
    assert bundles(apart).total["GPU"] == 3
    shared = small_run("resources.sampler_gpus=0.5", "resources.learner_gpus=0.5", "resources.colocate=true")
    placed = bundles(shared)
    assert placed.total["GPU"] == 1
    assert placed.samplers == (placed.learner,)


# -- other engines, other models --------------------------------------------------------------------------------------


@pytest.mark.vllm
def test_the_same_configuration_runs_on_vllm(tmp_path: Path) -> None:
    """A few updates end to end, every version adopted and proven by the real engine."""
    run = trained(tmp_path / "run", "sampler=vllm", "updates=2", "rollout.shards=1", "resources.sampler_cpus=1")
    rows = run.folder.metrics()
    assert [row["version"] for row in rows] == [1, 2]
    assert all(row["adoption"]["error"] < 2e-3 for row in rows)
    assert rows[-1]["adoption"]["decisive"]
    assert all(row["learner"]["mismatch_max"] < 2e-3 for row in rows)
    assert all(a["digest"] != b["digest"] for a, b in pairwise(rows))
    assert set(versions.numbers(run.folder.adapters)) >= {1, 2}


def chat_model(folder: Path) -> Path:
    """A small model that talks as Qwen's chat models do, a byte at a time."""
    tokenizer = chat_tokenizer()
    saved(folder, tokenizer)
    torch.manual_seed(0)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=8192,
            initializer_range=0.1,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    ).save_pretrained(folder)
    return folder


def chat_run(model: Path, *settings: str) -> config.Run:
    return config.load(
        CONFIGS / "defaults.yaml",
        [
            f"model={model}",
            "sampler=torch",
            "batch={scenarios: 2, group: 3, refill: 0}",
            "learner={lora_rank: 4, learning_rate: 0.01, checkpointing: true}",
            "credit.streams={}",
            "resources={learner_gpus: 0, sampler_gpus: 0, shard_cpus: 0.5}",
            *settings,
        ],
    )


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A chat model in the other world, until its sampler dies, which is one death more than it is allowed."""
    folder = tmp_path_factory.mktemp("tools")
    settings = ["world=tools", "cases=synthetic", "curriculum=warmup:9", "updates=9"]
    settings += ["rollout.shards=1", "rollout.retries=0", "rollout.structured=false", "rollout.max_tokens=6"]
    training = make(folder / "run", chat_run(chat_model(folder / "model"), *settings))

    def strike(row: dict[str, Any]) -> None:
        if row["update"] == 2:
            kill("SamplerHost")

    with pytest.raises(PoolError) as caught:
        loop.train(training, strike)
    return Ended(training, caught.value)


def test_any_chat_model_trains_in_the_other_world(tools: Ended) -> None:
    """By its path, through its chat template, with completions of many tokens and scores taken anew."""
    rows = tools.training.folder.metrics()
    assert [row["version"] for row in rows] == [1, 2]
    assert all(row["learner"]["mismatch_max"] < 1e-3 for row in rows if row["learner"])


@pytest.mark.slow
def test_the_tiny_model_trains_in_the_other_world_as_shipped(tmp_path: Path) -> None:
    """One update: it chooses calls by their names, and what is recorded are the calls, which replay."""
    settings = ["model=tiny", "updates=1", "batch={scenarios: 4, group: 4, refill: 0}"]
    training = make(tmp_path / "run", config.load(CONFIGS / "tools.yaml", settings))
    loop.train(training, lambda _row: None)
    (row,) = training.folder.metrics()
    assert row["version"] == 1
    episodes = list(read_episodes(training.folder.path / "episodes" / "update-000001.parquet"))
    assert len(episodes) == row["episodes"] == 16
    assert not any(differences(episode) for episode in episodes)
    taken = [step["action"] for episode in episodes for step in episode.rows]
    assert all(action.startswith('{"tool": ') for action in taken)


def test_actors_that_keep_dying_end_the_run_with_an_error(tools: Ended) -> None:
    assert "died" in str(tools.error)


@pytest.mark.parametrize("structured", ["choices", "schema"])
def test_any_chat_model_learns_by_structured_completions_of_many_tokens(
    tmp_path: Path, learner_here: Callable[[loop.Training], Learner], structured: Structured
) -> None:
    """Learner and engine in this process, without the loop around them."""
    run = chat_run(
        chat_model(tmp_path / "model"), "curriculum=easy:9", f"rollout.structured={structured}", "rollout.max_tokens=80"
    )
    training = make(tmp_path / "run", run)
    base, environment = training.base, training.environment
    learner, sampler = learner_here(training), TorchSampler(base.path, threads=1)
    first = versions.publish(training.folder.adapters, 0, base.digest, learner.adapter())
    asyncio.run(sampler.adopt(first))
    decoding = Decoding(run.rollout.temperature, run.rollout.max_tokens, base.layout.stop)

    async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
        return await sampler.sample(cohort, requests, decoding, 0)

    stages = plan.curriculum(run, environment)
    codec = Codec(base.path, base.layout)
    groups = [
        asyncio.run(play_group(environment, codec, run.rendering, task, ask, structured=structured))
        for task in training.plan.tasks(stages, 0, 0, run.batch.scenarios)
    ]
    assert max(len(tokens) for group in groups for tokens in written(group)) > 1
    assert learner.update(groups, 0)["mismatch_max"] < 1e-3
    assert learner.adapter()[versions.WEIGHTS] != versions.packed(first)[versions.WEIGHTS]


def written(group: Group) -> list[Ids]:
    """The completions of a group."""
    return [trajectory.tokens[turn.start : turn.end] for trajectory in group.trajectories for turn in trajectory.turns]
