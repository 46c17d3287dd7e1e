"""The loop on a real Ray: the same to the last bit however it is spread, killed or resumed; and it never pretends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from transformers import Qwen2Config, Qwen2ForCausalLM

from chaosops_ray import config, evaluate
from chaosops_ray.config import ConfigError
from chaosops_ray.store import versions
from chaosops_ray.store.episodes import differences, read_episodes
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import loop, policies
from chaosops_ray.workers.adoption import AdoptionError
from chaosops_ray.workers.pool import PoolError, bundles, check
from tests.support.cluster import CONFIGS, digests, kill, make, ray_here, small_run, trained
from tests.support.tokenizers import chat_tokenizer, saved

pytestmark = [pytest.mark.cluster]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_here():
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> loop.Training:
    """What every other lockstep run is compared with."""
    return trained(tmp_path_factory.mktemp("undisturbed") / "run")


def test_ten_updates_end_in_the_same_adapter_with_one_shard_and_with_four(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", "updates=10", "rollout.shards=1")
    four = trained(tmp_path / "four", "updates=10", "rollout.shards=4", "resources.shard_cpus=0.2")
    assert digests(one) == digests(four)
    assert len(set(digests(one))) == 10  # and every update changed the policy


def test_what_was_held_out_is_played_as_the_adapter_plays_it_anywhere(tmp_path: Path) -> None:
    """By the run's own engines and shards, and by `evaluate --policies trained=RUN`: the same to the last action."""
    training = make(tmp_path / "run", small_run("updates=2"))
    environment = training.environment
    scenarios = environment.scenarios("published", range(1000, 1002))
    said: list[str] = []
    trained = loop.train(training, lambda _row: None, said.append, scenarios)
    assert said == ["evaluating held-out 0/22", "evaluating held-out 12/22"]
    player = policies.trained(environment, str(training.folder.path), "torch")
    assert [report.scenario for report in trained.held_out] == [one.identity for one in scenarios]
    for report, (episode, stamps) in zip(trained.held_out, player(scenarios, "strict"), strict=True):
        assert stamps is not None
        assert set(stamps) == {trained.version[:2]}
        assert report.actions == tuple([environment.dump_action(step.action) for step in episode.steps])
        assert set(report.versions) == {trained.version[:2]}
        assert evaluate.reported(environment, "p", report.scenario, report.headline, report.metrics) == evaluate.result(
            environment, "p", episode
        )


def test_a_run_leaves_what_it_promises(undisturbed: loop.Training) -> None:
    folder = undisturbed.folder
    rows = folder.metrics()
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    assert all(row["adoption"]["error"] < 1e-3 for row in rows)
    assert folder.checkpoints() == [2, 4]
    last = versions.latest(folder.adapters)
    assert (last.number, last.digest) == (4, rows[-1]["digest"])


def test_every_step_of_the_record_carries_the_version_that_took_it_and_replays(undisturbed: loop.Training) -> None:
    rows = {row["update"]: row for row in undisturbed.folder.metrics()}
    for update in (1, 2, 3, 4):
        path = undisturbed.folder.path / "episodes" / f"update-{update:06d}.parquet"
        episodes = list(read_episodes(path))
        assert len(episodes) == rows[update]["episodes"]
        for episode in episodes:
            assert not differences(episode)
            for step in episode.rows:
                assert step["version"] == update - 1  # lockstep: always the version before
                if update > 1:
                    assert step["digest"] == rows[update - 1]["digest"]


def test_evaluating_on_the_way_changes_nothing_and_comes_out_the_same_after_a_resume(
    tmp_path: Path, undisturbed: loop.Training
) -> None:
    """The same adapters as without; each row has the figures of the version that it names, whenever it is written."""
    training = make(tmp_path / "run", small_run("evaluation.every=3", "keep_every=1"))
    environment = training.environment
    scenarios = environment.scenarios("published", [1000])
    with pytest.raises(Stop):
        loop.train(training, stop_after(3), held_out=scenarios)
    first = training.folder.metrics()[2]
    said: list[str] = []
    found = loop.train(training, lambda _row: None, said.append, scenarios)  # from the checkpoint after update 2
    assert digests(training) == digests(undisturbed)
    rows = training.folder.metrics()
    assert rows[2] | {"time": {}} == first | {"time": {}}
    # The last one is the run's own evaluation, and is not played a second time for it.
    assert [row["update"] for row in rows if "evaluation" in row] == [3, 4]
    assert [row["update"] for row in rows if "evaluate" in row["time"]] == [3, 4]
    assert said == ["evaluating held-out 0/11"] * 2
    assert rows[3]["evaluation"] == {"tiers": loop.by_tier(environment, found.held_out)}

    player = policies.trained(environment, f"{training.folder.path}@3", "torch")
    results = [evaluate.result(environment, "p", played.episode) for played in player(scenarios, "strict")]
    cells = evaluate.summary(environment, results, "strict", "published", "1000")["cells"]
    assert {cell["tier"]: pytest.approx(cell["mean"]) for cell in cells} == {
        tier: figures["mean"] for tier, figures in rows[2]["evaluation"]["tiers"].items()
    }


def test_groups_that_are_played_ahead_of_an_evaluation_stay_within_the_staleness(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run("schedule=pipelined", "evaluation.every=1"))
    found = loop.train(training, lambda _row: None, held_out=training.environment.scenarios("published", [1000]))
    rows = training.folder.metrics()
    assert all("evaluation" in row for row in rows)
    for row in rows:
        path = training.folder.path / "episodes" / f"update-{row['update']:06d}.parquet"
        versions_used = {step["version"] for episode in read_episodes(path) for step in episode.rows}
        assert versions_used == {max(0, row["update"] - 2)}
    assert {stamp for report in found.held_out for stamp in report.versions} == {(4, rows[-1]["digest"])}


class Stop(Exception):  # noqa: N818 - the driver's death, not an error of ours
    """The driver dies here."""


def stop_after(update: int) -> Callable[[dict[str, Any]], None]:
    def stop(row: dict[str, Any]) -> None:
        if row["update"] == update:
            raise Stop

    return stop


def test_a_driver_that_died_goes_on_and_ends_the_same(tmp_path: Path, undisturbed: loop.Training) -> None:
    with pytest.raises(Stop):
        trained(tmp_path / "run", watch=stop_after(3))
    folder = RunFolder(tmp_path / "run")
    assert [row["update"] for row in folder.metrics()] == [1, 2, 3]
    again = loop.prepare(undisturbed.run, undisturbed.base, folder)
    loop.train(again, lambda _row: None)
    assert digests(again) == digests(undisturbed)


@pytest.mark.parametrize("name", ["Learner", "SamplerHost", "Shard"])
def test_an_actor_that_is_killed_is_replaced_and_nothing_changes(
    tmp_path: Path, undisturbed: loop.Training, name: str
) -> None:
    killed = []

    def strike(row: dict[str, Any]) -> None:
        if row["update"] == 1 and not killed:
            killed.append(name)
            kill(name)

    run = trained(tmp_path / "run", watch=strike)
    assert killed
    assert digests(run) == digests(undisturbed)
    assert [row["update"] for row in run.folder.metrics()] == [1, 2, 3, 4]
    if name != "Learner":
        assert run.folder.metrics()[-1]["actors_replaced"] == 1


def test_actors_that_keep_dying_end_the_run_with_an_error(tmp_path: Path) -> None:
    def strike(_row: dict[str, Any]) -> None:
        kill("SamplerHost")

    with pytest.raises(PoolError, match="died"):
        trained(tmp_path / "run", "updates=20", "rollout.retries=0", watch=strike)


def test_pipelined_rollouts_are_at_most_so_many_versions_behind(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "schedule=pipelined", "updates=5", "staleness=2")
    for update in range(1, 6):
        path = run.folder.path / "episodes" / f"update-{update:06d}.parquet"
        behind = {update - 1 - step["version"] for episode in read_episodes(path) for step in episode.rows}
        assert behind <= {0, 1, 2}
        assert update < 3 or behind != {0}  # otherwise nothing was overlapped


def test_a_sampler_that_dies_in_a_pipeline_is_replaced_though_it_never_held_the_version_before(tmp_path: Path) -> None:
    struck = []

    def strike(row: dict[str, Any]) -> None:
        if row["update"] == 2 and not struck:
            struck.append(kill("SamplerHost"))

    run = trained(tmp_path / "run", "schedule=pipelined", "updates=5", watch=strike)
    assert struck
    assert [row["update"] for row in run.folder.metrics()] == [1, 2, 3, 4, 5]


def test_a_learner_that_cannot_start_is_not_tried_again(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run())
    broken = training._replace(base=training.base._replace(path=tmp_path / "nothing"))
    with pytest.raises(PoolError, match=r"does not start: .*nothing"):
        loop.train(broken, lambda _row: None)


def test_a_pause_says_what_it_waits_for(tmp_path: Path) -> None:
    training = make(tmp_path / "run", small_run("alarm.kl=1e-9", "alarm.action=pause"))
    resume = training.folder.path / loop.RESUME_FILE
    resume.touch()  # of an alarm before; it is no answer to this one
    heard: list[str] = []

    def answer(text: str) -> None:
        assert not resume.exists()
        heard.append(text)
        resume.touch()

    loop.train(training, lambda _row: None, answer)
    assert "over alarm.kl=1e-09; paused until there is a file" in heard[0]
    assert not resume.exists()


def test_adapters_on_the_way_are_kept_as_often_as_was_asked(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "updates=7", "keep_every=3", "checkpoint_every=1")
    assert versions.numbers(run.folder.adapters) == [0, 3, 5, 6, 7]


def test_an_adapter_that_was_tampered_with_is_never_served(tmp_path: Path) -> None:
    """A byte changes on disk between two updates: the run that is resumed says so, and names the version."""
    training = trained(tmp_path / "run", "updates=2")
    weights = Path(versions.latest(training.folder.adapters).path) / versions.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises((RayTaskError, versions.AdapterError, AdoptionError), match="policy-v2"):
        loop.train(loop.prepare(small_run("updates=3"), training.base, training.folder), lambda _row: None)


def test_an_alarm_can_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(loop.AlarmError, match=r"update \d: KL .* over alarm.kl=1e-09"):
        trained(tmp_path / "run", "alarm.kl=1e-9", "alarm.action=abort")


def test_too_small_a_cluster_is_found_out_before_anything_starts() -> None:
    run = small_run("resources.learner_gpus=8")
    with pytest.raises(ConfigError, match="asks for 8 GPUs and the cluster has 0"):
        check(run, ray.cluster_resources())


def test_a_cluster_that_grows_is_waited_for() -> None:
    check(small_run("resources.learner_gpus=8", "resources.wait=1800"), ray.cluster_resources())


def test_one_gpu_can_be_shared() -> None:
    apart = small_run("resources.sampler_gpus=1", "resources.learner_gpus=1", "resources.samplers=2")
    assert bundles(apart).total["GPU"] == 3
    shared = small_run("resources.sampler_gpus=0.5", "resources.learner_gpus=0.5", "resources.colocate=true")
    placed = bundles(shared)
    assert placed.total["GPU"] == 1
    assert placed.samplers == (placed.learner,)


@pytest.mark.vllm
def test_the_same_configuration_runs_on_vllm(tmp_path: Path) -> None:
    """A few updates end to end, every version adopted and proven by the real engine."""
    run = trained(tmp_path / "run", "sampler=vllm", "updates=2", "resources.sampler_cpus=1")
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


@pytest.mark.parametrize(
    ("world", "curriculum", "settings"),
    [
        ("incident", "easy:9", ["credit.streams={}", "rollout.structured=true", "rollout.max_tokens=80"]),
        (
            "tools",
            "warmup:9",
            ["credit.streams={}", "rollout.structured=false", "rollout.max_tokens=6", "cases=synthetic"],
        ),
    ],
)
def test_any_chat_model_trains_in_either_world(
    tmp_path: Path, world: str, curriculum: str, settings: list[str]
) -> None:
    """By its path, through its chat template, with completions of many tokens and scores taken anew."""
    model = chat_model(tmp_path / "model")
    run = config.load(
        CONFIGS / "defaults.yaml",
        [
            f"model={model}",
            f"world={world}",
            f"curriculum={curriculum}",
            "sampler=torch",
            "updates=2",
            "batch={scenarios: 2, group: 3, refill: 0}",
            "learner={lora_rank: 4, learning_rate: 0.01, checkpointing: true}",
            "rollout.shards=1",
            "resources={learner_gpus: 0, sampler_gpus: 0, shard_cpus: 0.5}",
            *settings,
        ],
    )
    training = make(tmp_path / "run", run)
    loop.train(training, lambda _row: None)
    rows = training.folder.metrics()
    assert [row["version"] for row in rows] == [1, 2]
    assert all(row["learner"]["mismatch_max"] < 1e-3 for row in rows if row["learner"])
