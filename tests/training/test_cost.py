"""What a run costs on a card: its tokens, its hours where they were measured, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray import config
from chaosops_ray.cli import main
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.sim import environment_named
from chaosops_ray.training import base_models, cards, check, cost, footprint, transcripts
from chaosops_ray.training.transcripts import Range, Texts
from tests.support.cluster import CONFIGS

INCIDENT = environment_named("incident")
OF_3B = footprint.PUBLISHED["Qwen/Qwen2.5-3B-Instruct"]
# One token for each character.
LETTERS = footprint.Known(OF_3B, lambda text: (len(text), len(text)))


def run_of(*settings: str) -> Run:
    return config.load(CONFIGS / "3a.yaml", list(settings))


# Few episodes are enough here.
FEW = "batch={scenarios: 1, group: 8}"


def asked(*given: str, gpu: str = "h100", name: str = "3a") -> int:
    settings = [part for setting in given for part in ("--set", setting)]
    return main(["train", str(CONFIGS / f"{name}.yaml"), *settings, "--explain", "--gpu", gpu])


# -- cards --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spelling", "gib"), [("l4", 22.5), ("H200", 140.4), ("16GB", 16), ("16 gib", 16), ("0", None),
                                               ("0GB", None), ("-16GB", None), ("nan GB", None), ("99999GB", None),
                                               ("t4000", None), ("", None)])  # fmt: skip
def test_a_card_is_named_or_has_a_size(spelling: str, gib: float | None) -> None:
    if gib is None:
        with pytest.raises(ConfigError, match="l4, a100, a100-40gb, h100, h200, or the size of one, such as 16GB"):
            cards.named(spelling)
    else:
        assert cards.named(spelling).memory / cards.GIB == pytest.approx(gib, abs=0.05)


def test_a_measured_card_is_known_by_its_name_and_its_memory() -> None:
    def is_of(name: str, device: str, memory: int | None = None) -> bool:
        return cards.named(name).is_of({"card": device, "card_memory_bytes": memory})

    assert is_of("h100", "NVIDIA H100 80GB HBM3", 85_520_000_000)
    assert not is_of("h100", "NVIDIA H100 NVL", 100_000_000_000)
    assert not is_of("h100", "NVIDIA H200")
    assert is_of("l4", "NVIDIA L4")
    assert not is_of("l4", "NVIDIA L40S")
    assert not is_of("a100", "NVIDIA A100-SXM4-40GB", 42_400_000_000)
    assert not is_of("80GB", "NVIDIA H100 80GB HBM3")  # a size is no name


def test_the_figures_of_the_package_are_those_of_the_benchmark() -> None:
    found = json.loads(cards.MEASURED.read_text())
    assert found["schema"] == "gpu-benchmark/1"
    for name in ("h100", "h200"):
        (case,) = [case for case in cards.cases(cards.named(name), "a") if case["rows"] == "former"]
        seconds, lengths = case["seconds"], case["lengths"]
        assert case["tokens_per_second"] == pytest.approx(lengths["tokens"] / seconds, rel=1e-3)
        # Of the 989 TFLOP/s that the device can do.
        assert case["mfu"] == pytest.approx(case["flops_per_token"] * lengths["tokens"] / seconds / 989e12, rel=1e-2)
        assert case["parameters"] == pytest.approx(OF_3B.parameters, rel=1e-3)


# -- tokens -------------------------------------------------------------------------------------------------------------


def test_tokens_are_counted_in_transcripts_of_the_seats_that_learn() -> None:
    everyone = transcripts.texts(run_of(FEW), INCIDENT, LETTERS)
    alone = transcripts.texts(
        run_of(FEW, "seats={oversight: learn, sre: oracle, dev: oracle, manager: oracle}"), INCIDENT, LETTERS
    )
    assert everyone.players == alone.players == ("random", "heuristic")
    assert alone.transcripts == Range(1, 1)
    assert 3 < everyone.transcripts.least <= everyone.transcripts.most <= 4
    assert 0 < alone.tokens.most < everyone.tokens.least
    assert transcripts.texts(run_of(FEW), INCIDENT, LETTERS) == everyone


def test_free_completions_are_as_long_as_they_may_be_and_structured_ones_as_long_as_actions() -> None:
    free = transcripts.texts(run_of(FEW, "rollout.max_tokens=500"), INCIDENT, LETTERS)
    chosen = transcripts.texts(run_of(FEW, "rollout.max_tokens=500", "rollout.structured=choices"), INCIDENT, LETTERS)
    assert free.written.least == chosen.written.least
    assert free.written.most > 5 * chosen.written.most
    of_tokens = run_of(FEW, "rollout.max_tokens=2", "rollout.structured=choices")
    chosen_of_tokens = transcripts.texts(of_tokens, INCIDENT, LETTERS)
    read = free.tokens.most - free.written.most
    assert read == pytest.approx(chosen_of_tokens.tokens.most - chosen_of_tokens.written.most)
    # Whole actions are all computed; a context holds those that were chosen.
    assert chosen.tokens.most - chosen.written.most > 1.2 * read
    assert chosen.longest == chosen_of_tokens.longest < free.longest
    assert chosen_of_tokens.choices == chosen_of_tokens.widest == free.choices == 0
    assert 0 < chosen.widest < chosen.choices


def test_a_tokenizer_that_is_not_here_is_a_range_of_characters() -> None:
    known = footprint.published("Qwen/Qwen2.5-7B-Instruct")
    assert known is not None
    least, most = known.tokens("x" * 1000)
    assert least == int(1000 / footprint.CHARACTERS[1]) < most == -(-1000 // footprint.CHARACTERS[0])
    assert footprint.published("some/model") is None


@pytest.mark.parametrize("curriculum", ["adaptive", "easy:1", "easy:1,medium:1,hard:1", "hard:100000"])
def test_any_curriculum_is_played(curriculum: str) -> None:
    found = transcripts.texts(run_of(f"curriculum={curriculum}", "updates=2", "batch.scenarios=1"), INCIDENT, LETTERS)
    assert found.tokens.least > 0


# -- hours --------------------------------------------------------------------------------------------------------------


def case(**others: Any) -> Mapping[str, Any]:
    """A measured update of the 3B model: 10 seconds for 100,000 tokens."""
    return {
        "card": "NVIDIA H100 80GB HBM3",
        "parameters": OF_3B.parameters,
        "rank": 32,
        "seconds": 10.0,
        "tokens_per_second": 10_000,
        "checkpointing": True,
        "lengths": {"rows": 64, "tokens": 100_000},
        "tokens_per_forward": 16384,
        "settings": {},
        "scoring_seconds": 3.0,
        "kl_seconds": 2.0,
        "flops_per_token": cost.flops(OF_3B, 32, 1.0, 0.2, 2000.0),
    } | others


def exactly(tokens: float, transcripts: float = 1.0) -> Texts:
    both = Range(tokens, tokens)
    return Texts(
        Range(transcripts, transcripts), both, both.times(0.2), both.times(2000.0), int(tokens), 0, 0, 1, ("random",)
    )


H100 = cards.named("h100")


def test_an_update_like_the_measured_one_takes_as_long_with_its_scoring_and_its_kl() -> None:
    run = run_of("learner.recompute=false", "batch={scenarios: 1, group: 64}")
    rate = cost.learner_rate(run, OF_3B, H100, [case()], again=True)
    assert isinstance(rate, cost.Rate)
    # 64 episodes of one row: KL is on 32 of 64 rows, as it was measured.
    assert cost.update_seconds(run, OF_3B, exactly(100_000 / 64), rate) == pytest.approx((12.0, 12.0))
    # Of three steps, the first needs no scores; a coefficient of KL needs those of the base for all.
    three = run_of("learner={steps: 3, kl_coefficient: 0.1}")
    scored = cost.learner_rate(three, OF_3B, H100, [case()], again=True)
    assert isinstance(scored, cost.Rate)
    assert cost.update_seconds(run, OF_3B, exactly(100_000 / 64), scored) == pytest.approx((17.0, 17.0))
    assert not scored.is_scaled


def test_a_model_of_another_size_is_scaled_by_arithmetic_and_not_too_far() -> None:
    run = run_of("learner.recompute=false")
    of_7b = footprint.PUBLISHED["Qwen/Qwen2.5-7B-Instruct"]
    rate = cost.learner_rate(run, of_7b, H100, [case()], again=True)
    assert isinstance(rate, cost.Rate)
    assert rate.is_scaled
    seconds = cost.update_seconds(run, of_7b, exactly(1000), rate)
    smaller = cost.update_seconds(run, OF_3B, exactly(1000), rate)
    assert 2.2 < seconds.least / smaller.least < 2.6  # the 7B model has 2.36 times the weights below the head
    refused = cost.learner_rate(run, OF_3B, H100, [case(parameters=494_000_000)], again=True)
    assert refused == (
        "what was measured on an h100 is too far from this model: 0.49 billion weights at the nearest, and it has 3.09 "
        "(a factor of 3 is the most)"
    )
    assert cost.learner_rate(run, OF_3B, H100, [], again=True) == "nothing was measured on an h100"


def test_the_nearest_case_is_taken() -> None:
    near, far = case(rank=16), case(parameters=2 * OF_3B.parameters)
    without = case(checkpointing=False)
    assert cost.learner_rate(run_of(), OF_3B, H100, [far, near], again=True).case is near  # type: ignore[union-attr]
    assert cost.learner_rate(run_of(), OF_3B, H100, [near, without], again=False).case is without  # type: ignore[union-attr]


def test_sampling_has_hours_where_its_engine_was_measured() -> None:
    measured = {
        "parameters": OF_3B.parameters, "completions": "free", "cohort": 8, "prompt": 500, "written": 800,
        "seconds": 11.0, "read_tokens_per_second": 4000.0, "card": "NVIDIA H100 80GB HBM3",
    }  # fmt: skip
    run = run_of("sampler=torch", "batch={scenarios: 1, group: 8}")
    rate = cost.sampling_rate(run, OF_3B, H100, [measured])
    assert isinstance(rate, cost.Sampling)
    assert (rate.read, rate.written) == (4000.0, 80.0)  # a second of the eleven is for reading
    seconds = cost.sampling_seconds(run, exactly(1000), rate)
    assert seconds == pytest.approx((8 * (800 / 4000 + 200 / 80),) * 2)
    two = run_of("sampler=torch", "batch={scenarios: 1, group: 8}", "resources.samplers=2")
    assert cost.sampling_seconds(two, exactly(1000), rate).most == pytest.approx(seconds.most / 2)
    assert cost.sampling_rate(run_of(), OF_3B, H100, [measured]) == "the vllm engine was measured on no card"


# -- on the command line ------------------------------------------------------------------------------------------------


def test_explain_says_what_the_published_run_takes_on_a_card(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_models, "on_disk", lambda *_: None)  # whatever is on this machine
    assert asked() == 0
    out = capsys.readouterr().out
    docs = (CONFIGS.parent / "docs" / "training.md").read_text()
    assert f"```\nmemory:\n{out.partition('memory:' + chr(10))[2]}```\n" in docs
    assert "  on an h100, 79.6 GiB: the learner\n" in out
    assert "  on an h100, 79.6 GiB: a sampler (47.8 GiB for vllm)\n" in out
    assert "tokens, from 96 episodes that random and heuristic played, estimated from their characters" in out
    assert "  learner: " in out.partition("hours on an h100:\n")[2]
    assert "  learner.checkpointing, 6 of 36 layers: to keep all activations" in out
    assert "measured 10,825 tokens/s with checkpointing, rank 32, tokens_per_forward 16,384" in out
    assert "  sampling: unknown, the vllm engine was measured on no card; a run of a few updates tells it" in out
    assert "together: " not in out.partition("hours on")[2]


def test_no_hours_are_invented(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("sampler=torch", gpu="l4") == 0
    hours = capsys.readouterr().out.partition("hours on an l4:\n")[2].splitlines()
    measure = (
        "measure it on such a card: python -m benchmarks.gpu --parts {} --json chaosops_ray/training/measured_gpus.json"
    )
    assert hours[0] == f"  learner: unknown, nothing was measured on an l4; {measure.format('a')}"
    assert hours[1] == f"  sampling: unknown, nothing was measured on an l4; {measure.format('c')}"


def test_a_3b_learner_that_keeps_its_activations_is_refused_on_16_gb(capsys: pytest.CaptureFixture[str]) -> None:
    """With checkpointing it fits, as it was measured: 12.6 GiB on an H100."""
    assert asked("learner.checkpointing=false", gpu="16GB") == 2
    said = capsys.readouterr()
    assert said.err == (
        "chaosops train: memory: the learner needs 82.2 GiB of a GPU (activations 75.1 GiB, weights 5.7 GiB, adapter and "
        "optimizer 914 MiB) and a 16 GB card has 16.0 GiB; lower learner.tokens_per_forward, or set learner.checkpointing "
        "to true\n"
    )
    check.check_card(run_of(), cards.named("16GB"))


@pytest.mark.parametrize(
    ("settings", "gpu", "words"),
    [
        (
            ("resources={learner_gpus: 0.5, sampler_gpus: 0.5}",),
            "16GB",
            "9.6 GiB, activations 6.2 GiB, weights 5.7 GiB) and a 16 GB card has 16.0 GiB; give them GPUs of their own",
        ),
        (
            ("resources={learner_gpus: 0.1, sampler_gpus: 0.9, memory_share: 0.9}",),
            "h100",
            "lower resources.memory_share",
        ),
        (("resources.context=49152",), "l4", "lower resources.context and learner.tokens_per_forward"),
        (("resources={learner_gpus: 0.5, sampler_gpus: 0.5, colocate: true}",), "16GB", "in turns need 16.7 GiB"),
        (("resources={learner_gpus: 0.4, sampler_gpus: 0.2, samplers: 3}",), "h100", "and samplers together need"),
        (("resources={learner_gpus: 0, sampler_gpus: 0.5, samplers: 4}",), "h100", "2 samplers need 95.6 GiB"),
        (("resources.memory_share=0.1",), "16GB", "resources.memory_share gives it 1.6 GiB"),
        (("resources={learner_gpus: 0, sampler_gpus: 0}",), "h100", "--gpu: the run uses no GPU"),
        (("model=Qwen/Qwen2.5-7B-Instruct",), "16GB", "and a 16 GB card has 16.0 GiB; use a smaller model"),
        (("model=Qwen/Qwen2.5-7B-Instruct",), "l4", "an l4 has 22.5 GiB; lower learner.tokens_per_forward"),
        (("resources.samplers=100000",), "1GB", "needs"),
    ],
)
def test_what_cannot_fit_is_refused(settings: tuple[str, ...], gpu: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check.check_card(run_of(*settings), cards.named(gpu))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "gpu"),
    [
        (("resources={learner_gpus: 0.3, sampler_gpus: 0.7}",), "h100"),
        (("resources={learner_gpus: 0.5, sampler_gpus: 0.5, colocate: true}",), "h100"),
        (("schedule=pipelined", "staleness=3"), "h100"),
        (("resources={learner_gpus: 2, sampler_gpus: 2, samplers: 8}",), "l4"),
        (("resources={learner_gpus: 0, sampler_gpus: 1}",), "l4"),
    ],
)
def test_what_fits_is_not_refused(settings: tuple[str, ...], gpu: str) -> None:
    check.check_card(run_of(*settings), cards.named(gpu))


def test_gpu_is_for_explain_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(CONFIGS / "3a.yaml"), "--gpu", "h100"]) == 2
    assert "add --explain" in capsys.readouterr().err
    assert asked(gpu="rtx") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "known" in said.err
    assert not said.out


def test_of_an_unknown_model_nothing_is_said_and_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert asked("model=some/model") == 0
    assert "unknown until some/model is on this machine" in capsys.readouterr().out
