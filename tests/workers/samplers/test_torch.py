"""The embedded engine on a small model of random weights: what it says depends on weights, prompt and seed alone."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from chaosops_ray.store import versions
from chaosops_ray.store.versions import AdapterError, DigestError
from chaosops_ray.wire import ChoiceScore, Decoding, Ids, PolicyVersion, Sample, SampleRequest
from chaosops_ray.workers.samplers import torch as engine_module
from chaosops_ray.workers.samplers.sampler import BASE, SamplerError
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import MODULES, VOCABULARY, publish, small_model, small_peft

TEMPERATURE = 0.8
FREE = Decoding(TEMPERATURE, 1, ())
GREEDY = Decoding(0.0, 8, ())
STOP = tuple(range(0, VOCABULARY, 8))
LONG = Decoding(TEMPERATURE, 12, STOP)
CLOSE = 1e-5


# -- what stands around it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """Versions 1, 2 and 12 of a policy: all of them far from the base and from each other."""
    folder = tmp_path_factory.mktemp("run") / "adapters"
    for number in (1, 2, 12):
        publish(small_peft(base, seed=number, scale=0.3), folder, number, versions.base_digest(base), "small")
    return folder


def version(adapters: Path, number: int) -> PolicyVersion:
    return versions.read(adapters / f"policy-v{number}")


@pytest.fixture(scope="module")
def loaded(base: Path, adapters: Path) -> TorchSampler:
    """An engine with all three versions. It keeps nothing that a test could depend on but what it is there to keep."""
    return engine(base, *[version(adapters, number) for number in (1, 2, 12)])


@pytest.fixture
def sampler(loaded: TorchSampler) -> Iterator[TorchSampler]:
    yield loaded
    asyncio.run(loaded.release())


def engine(base: Path, *held: PolicyVersion) -> TorchSampler:
    made = TorchSampler(base, threads=1, device="cpu")
    for one in held:
        assert asyncio.run(made.adopt(one)) == MODULES
    return made


@cache
def plain(base: Path, adapter: str | None) -> Any:
    """The same model by transformers and peft alone."""
    model = AutoModelForCausalLM.from_pretrained(base)
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()


def logits(base: Path, held: PolicyVersion | None, text: Ids) -> torch.Tensor:
    with torch.no_grad():
        model = plain(base, None if held is None else held.path)
        return model(input_ids=torch.tensor([text])).logits[0].float()  # type: ignore[no-any-return]


def ask(
    sampler: TorchSampler,
    requests: Sequence[SampleRequest],
    decoding: Decoding = FREE,
    number: int | None = 1,
    cohort: str = "cohort",
) -> list[Sample]:
    return asyncio.run(sampler.sample(cohort, requests, decoding, number))


def prompts(count: int, seed: int = 0, longest: int = 30) -> list[Ids]:
    draw = random.Random(seed)
    return [tuple(draw.randrange(VOCABULARY) for _ in range(draw.randint(1, longest))) for _ in range(count)]


def requests(count: int, seed: int = 0, choices: tuple[Ids, ...] | None = None) -> list[SampleRequest]:
    """Rows of very different lengths, each with a seed of its own."""
    return [SampleRequest(row, prompt, 1000 + row, choices) for row, prompt in enumerate(prompts(count, seed))]


def alike(one: Sample, other: Sample) -> None:
    assert one._replace(log_probs=()) == other._replace(log_probs=())
    assert one.log_probs == pytest.approx(other.log_probs, abs=CLOSE)


def scored(base: Path, held: PolicyVersion, request: SampleRequest, sample: Sample, temperature: float) -> list[float]:
    """Return the log-probabilities by a plain forward over prompt and completion."""
    if request.choices is not None and any(len(choice) > 1 for choice in request.choices):
        return [float(whole(base, held, request, temperature or 1, "mean")[sample.tokens])]
    found = logits(base, held, (*request.prompt, *sample.tokens))[len(request.prompt) - 1 : -1]
    if request.choices is not None:
        for place, row in enumerate(found):
            following = {c[place] for c in request.choices if len(c) > place and c[:place] == sample.tokens[:place]}
            row[[token for token in range(VOCABULARY) if token not in following]] = -torch.inf
    log_probs = (found / (temperature or 1)).log_softmax(-1)
    return log_probs.gather(-1, torch.tensor(sample.tokens)[:, None])[:, 0].tolist()  # type: ignore[no-any-return]


def whole(base: Path, held: PolicyVersion, request: SampleRequest, temperature: float, score: str) -> dict[Ids, float]:
    """Return the log-probability of each choice as a whole, from a plain forward over the prompt and each choice."""
    assert request.choices is not None
    scores = {}
    for choice in request.choices:
        found = logits(base, held, (*request.prompt, *choice))[len(request.prompt) - 1 : -1].log_softmax(-1)
        picked = found.gather(-1, torch.tensor(choice)[:, None])
        scores[choice] = picked.mean() if score == "mean" else picked.sum()
    log_probs = (torch.stack(list(scores.values())) / temperature).log_softmax(-1).tolist()
    return dict(zip(scores, log_probs, strict=True))


# -- a sample is a function of weights, prompt and seed ---------------------------------------------------------------


@pytest.mark.parametrize("decoding", [FREE, LONG, GREEDY], ids=["one token", "many", "greedy"])
def test_a_sample_is_the_same_alone_in_any_company_and_in_any_order(
    sampler: TorchSampler, base: Path, adapters: Path, decoding: Decoding
) -> None:
    wanted = requests(9)
    alone = [ask(engine(base, version(adapters, 1)), [request], decoding)[0] for request in wanted]
    draw = random.Random(0)
    for cohort in range(6):
        chosen = draw.sample(wanted, draw.randint(2, 9))
        for request, sample in zip(chosen, ask(sampler, chosen, decoding, cohort=str(cohort)), strict=True):
            alike(sample, alone[request.row])


def test_another_seed_or_another_version_says_something_else(sampler: TorchSampler) -> None:
    wanted = requests(6)
    one = ask(sampler, wanted, LONG)
    reseeded = [request._replace(seed=request.seed + 1) for request in wanted]
    assert [s.tokens for s in ask(sampler, reseeded, LONG)] != [s.tokens for s in one]
    assert [s.tokens for s in ask(sampler, wanted, LONG, number=2)] != [s.tokens for s in one]


def test_a_sample_names_its_version_and_its_digest(sampler: TorchSampler, adapters: Path) -> None:
    for number in (1, 2, 12):
        for sample in ask(sampler, requests(3), number=number):
            assert (sample.version, sample.digest) == version(adapters, number)[:2]


@pytest.mark.parametrize("decoding", [FREE, LONG], ids=["one token", "many"])
def test_what_is_kept_of_a_cohort_changes_nothing(
    sampler: TorchSampler, base: Path, adapters: Path, decoding: Decoding
) -> None:
    """Prompts grow from turn to turn, rows drop out, and an engine that has never seen the cohort says the same."""
    draw = random.Random(1)
    wanted = requests(7, seed=3)
    for turn in range(6):
        fresh = engine(base, version(adapters, 1))
        found = ask(sampler, wanted, decoding)
        for one, other in zip(found, ask(fresh, wanted, decoding), strict=True):
            alike(one, other)
        assert [len(kept.tokens) for kept in sampler._kept.values()] == [len(wanted)]
        grown = [
            SampleRequest(
                request.row,
                (*request.prompt, *sample.tokens, *[draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 9))]),
                request.seed + 100,
            )
            for request, sample in zip(wanted, found, strict=True)
        ]
        wanted = draw.sample(grown, len(grown) - 1) if turn % 2 else grown


@pytest.mark.parametrize("decoding", [FREE, LONG], ids=["one token", "many"])
def test_only_what_is_new_is_computed(sampler: TorchSampler, decoding: Decoding) -> None:
    """However early some of the rows had stopped."""
    fed: list[int] = []
    hook = sampler._base.model.register_forward_pre_hook(
        lambda _, __, given: fed.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        wanted = [SampleRequest(row, (5,) * 40, 1000 + row) for row in range(5)]
        found = ask(sampler, wanted, decoding)
        assert fed[0] == 40
        assert len({len(sample.tokens) for sample in found}) > 1 or decoding is FREE
        first = len(fed)
        ask(
            sampler,
            [r._replace(prompt=(*r.prompt, *s.tokens, 6, 7)) for r, s in zip(wanted, found, strict=True)],
            decoding,
        )
        # The last token that was written was never fed, nor what came after it.
        assert fed[first] <= 3 + max([len(s.tokens) for s in found]) - min([len(s.tokens) for s in found])
        assert set(fed) - {40, fed[first]} <= {1}
    finally:
        hook.remove()


@pytest.mark.parametrize("change", ["another beginning", "one token back", "the same again", "shorter", "other rows"])
def test_a_cohort_that_did_not_grow_is_computed_again(
    sampler: TorchSampler, base: Path, adapters: Path, change: str
) -> None:
    """Never a cache of something else, whatever comes back under its name."""
    before = [SampleRequest(row, tuple(range(row, row + 20)), row) for row in range(4)]
    ask(sampler, before)
    made = {
        "another beginning": [request._replace(prompt=(63, *request.prompt[1:], 1, 2)) for request in before],
        "one token back": [request._replace(prompt=(*request.prompt[:-1], 1, 2)) for request in before],
        "the same again": before,
        "shorter": [request._replace(prompt=request.prompt[:7]) for request in before],
        "other rows": [request._replace(row=request.row + 2, prompt=(*request.prompt, 1)) for request in before],
    }[change]
    fresh = ask(engine(base, version(adapters, 1)), made)
    for one, other in zip(ask(sampler, made), fresh, strict=True):
        alike(one, other)


def test_one_row_that_was_changed_among_rows_that_grew(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    before = [SampleRequest(row, tuple(range(row, row + 20)), row) for row in range(4)]
    ask(sampler, before)
    grown = [request._replace(prompt=(*request.prompt, 9)) for request in before]
    grown[2] = grown[2]._replace(prompt=(1, *grown[2].prompt[1:]))
    for one, other in zip(ask(sampler, grown), ask(engine(base, version(adapters, 1)), grown), strict=True):
        alike(one, other)


def test_what_is_kept_for_one_version_is_never_another_s(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    before = requests(4, seed=4)
    for number in (1, 2, 12, 2, 1):
        before = [request._replace(prompt=(*request.prompt, number)) for request in before]
        fresh = ask(engine(base, version(adapters, number)), before, number=number)
        for one, other in zip(ask(sampler, before, number=number), fresh, strict=True):
            alike(one, other)


def test_a_cohort_that_was_dropped_is_computed_again(base: Path, adapters: Path) -> None:
    """Others have come in such numbers that it had to go; and once more when everything was dropped."""
    crowd = TorchSampler(base, threads=1, device="cpu")
    asyncio.run(crowd.adopt(version(adapters, 1)))
    ask(crowd, [SampleRequest(row, (row,) * 20, row) for row in range(8)], cohort="crowd")
    sampler = TorchSampler(base, threads=1, device="cpu", cache_share=0.5, memory=7 * crowd._kept["crowd"].size)
    asyncio.run(sampler.adopt(version(adapters, 1)))
    before = requests(4, seed=5)
    ask(sampler, before, cohort="first")
    for cohort in range(4):
        ask(sampler, [SampleRequest(row, (row,) * 20, row) for row in range(8)], cohort=f"crowd {cohort}")
    assert list(sampler._kept) == ["crowd 1", "crowd 2", "crowd 3"]
    fresh = engine(base, version(adapters, 1))
    for _ in range(2):
        before = [request._replace(prompt=(*request.prompt, 7)) for request in before]
        for one, other in zip(ask(sampler, before, cohort="first"), ask(fresh, before), strict=True):
            alike(one, other)
        asyncio.run(sampler.release())


def test_a_cohort_larger_than_all_that_may_be_kept_is_not_kept(
    sampler: TorchSampler, base: Path, adapters: Path
) -> None:
    small = TorchSampler(base, threads=1, device="cpu", memory=10)
    asyncio.run(small.adopt(version(adapters, 1)))
    before = requests(4)
    for _ in range(3):
        for one, other in zip(ask(small, before), ask(sampler, before), strict=True):
            alike(one, other)
        assert not small._kept
        before = [request._replace(prompt=(*request.prompt, 7)) for request in before]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_kept_never_takes_more_than_its_share(
    base: Path, adapters: Path, calls: list[tuple[str, int, int]]
) -> None:
    """Whatever the cohorts and however long; counted in all tensors that the cache holds."""
    share = TorchSampler(base, threads=1, device="cpu", cache_share=0.5, memory=200_000)
    asyncio.run(share.adopt(version(adapters, 1)))
    for cohort, rows, length in calls:
        ask(share, [SampleRequest(row, (row + 1,) * length, row) for row in range(rows)], cohort=cohort)
        held = [
            one for kept in share._kept.values() for layer in kept.cache.layers for one in (layer.keys, layer.values)
        ]
        assert sum([one.untyped_storage().nbytes() for one in held]) <= 100_000


def test_a_failed_request_leaves_no_cache_behind(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    before = requests(3, seed=6)
    ask(sampler, before)
    grown = [request._replace(prompt=(*request.prompt, 7)) for request in before]
    with pytest.raises(SamplerError):
        ask(sampler, [grown[0]._replace(choices=()), *grown[1:]])
    for one, other in zip(ask(sampler, grown), ask(engine(base, version(adapters, 1)), grown), strict=True):
        alike(one, other)


def test_nobody_is_asked_for_nothing(sampler: TorchSampler) -> None:
    assert ask(sampler, []) == []


# -- what it draws from -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0, 2.0])
def test_log_probabilities_are_those_of_a_plain_forward_at_the_temperature(
    sampler: TorchSampler, base: Path, adapters: Path, temperature: float
) -> None:
    for number in (1, 2):
        wanted = requests(6, seed=number)
        for request, sample in zip(wanted, ask(sampler, wanted, Decoding(temperature, 9, STOP), number), strict=True):
            expected = scored(base, version(adapters, number), request, sample, temperature)
            assert sample.log_probs == pytest.approx(expected, abs=CLOSE)


def test_greedy_takes_the_likeliest_token_and_says_how_likely_it_was(
    sampler: TorchSampler, base: Path, adapters: Path
) -> None:
    wanted = requests(5)
    for request, sample in zip(wanted, ask(sampler, wanted, GREEDY), strict=True):
        text = (*request.prompt, *sample.tokens)
        found = logits(base, version(adapters, 1), text)[len(request.prompt) - 1 : -1]
        assert found.argmax(-1).tolist() == list(sample.tokens)
        assert sample.log_probs == pytest.approx(scored(base, version(adapters, 1), request, sample, 0), abs=CLOSE)
    reseeded = [request._replace(seed=7) for request in wanted]
    assert [s.tokens for s in ask(sampler, reseeded, GREEDY)] == [s.tokens for s in ask(sampler, wanted, GREEDY)]


def fits(counts: Counter[Any], probabilities: dict[Any, float]) -> None:
    """A chi-square over outcomes that are expected five times and more; the others are one outcome together."""
    total = counts.total()
    cells = [(counts[outcome], total * p) for outcome, p in probabilities.items() if total * p >= 5]
    rest = (total - sum([seen for seen, _ in cells]), total - sum([expected for _, expected in cells]))
    cells += [rest] if rest[1] >= 5 else []
    freedom = len(cells) - 1
    chi = sum([(seen - expected) ** 2 / expected for seen, expected in cells])
    assert not set(counts) - set(probabilities)
    # Its mean is the degrees of freedom, its variance twice that; so far off is one time in a thousand million.
    assert freedom >= 3
    assert chi < freedom + 6 * math.sqrt(2 * freedom)


PROMPT = (3, 1, 4, 1, 5, 9, 2, 6)
SEEDS = range(5000)


def test_tokens_come_up_as_often_as_they_are_likely(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    found = ask(sampler, [SampleRequest(row, PROMPT, seed) for row, seed in enumerate(SEEDS)])
    probabilities = (logits(base, version(adapters, 1), PROMPT)[-1] / TEMPERATURE).softmax(-1).double()
    fits(Counter(s.tokens[0] for s in found), dict(enumerate((probabilities / probabilities.sum()).tolist())))


def test_second_tokens_do_too(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    """A row's draws have nothing to do with each other."""
    found = ask(
        sampler, [SampleRequest(row, PROMPT, seed) for row, seed in enumerate(SEEDS)], Decoding(TEMPERATURE, 2, ())
    )
    (first, count), *_ = Counter(s.tokens[0] for s in found).most_common(1)
    assert count > 300
    probabilities = (logits(base, version(adapters, 1), (*PROMPT, first))[-1] / TEMPERATURE).softmax(-1).tolist()
    fits(Counter(s.tokens[1] for s in found if s.tokens[0] == first), dict(enumerate(probabilities)))


CHOICES = ((8, 9, 10), (8, 9, 11), (8, 12), (20,), (21, 22), (40, 41, 42, 43))


@pytest.mark.parametrize("score", ["mean", "sum"])
def test_choices_come_up_as_often_as_they_are_likely(
    sampler: TorchSampler, base: Path, adapters: Path, score: ChoiceScore
) -> None:
    """Each drawn as a whole."""
    asked = [SampleRequest(row, PROMPT, seed, CHOICES) for row, seed in enumerate(SEEDS)]
    found = ask(sampler, asked, Decoding(4.0, 4, (), score))
    likely = whole(base, version(adapters, 1), asked[0], 4.0, score)
    fits(Counter(s.tokens for s in found), {choice: math.exp(one) for choice, one in likely.items()})


# -- where completions end --------------------------------------------------------------------------------------------


def test_completions_end_at_a_stop_token_or_at_the_limit(sampler: TorchSampler) -> None:
    found = ask(sampler, requests(40), LONG)
    assert {len(sample.tokens) for sample in found} > {1, 2, 3}
    assert {sample.stopped for sample in found} == {False, True}
    for sample in found:
        assert not set(sample.tokens[:-1]) & set(STOP)
        assert sample.stopped == (sample.tokens[-1] in STOP)
        assert len(sample.log_probs) == len(sample.tokens)
        assert sample.stopped or len(sample.tokens) == LONG.max_tokens


def test_without_stop_tokens_only_the_limit_ends_a_completion(sampler: TorchSampler) -> None:
    for sample in ask(sampler, requests(5), Decoding(TEMPERATURE, 7, ())):
        assert len(sample.tokens) == 7
        assert not sample.stopped


def test_a_longer_limit_only_adds_to_a_completion(sampler: TorchSampler) -> None:
    short = ask(sampler, requests(8), Decoding(TEMPERATURE, 3, STOP))
    for one, other in zip(short, ask(sampler, requests(8), LONG), strict=True):
        assert other.tokens[:3] == one.tokens
        assert other.log_probs[:3] == pytest.approx(one.log_probs, abs=CLOSE)


# -- choices ----------------------------------------------------------------------------------------------------------

SINGLE = ((8,), (20,), (33,), (63,))


@pytest.mark.parametrize("choices", [SINGLE, CHOICES, ((5,),), ((1, 2, 3),)], ids=["one", "many", "one only", "a path"])
@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE])
def test_a_completion_is_always_one_of_its_choices(
    sampler: TorchSampler, base: Path, adapters: Path, choices: tuple[Ids, ...], temperature: float
) -> None:
    """And its log-probabilities are those of the choice among them."""
    wanted = requests(30, choices=choices)
    found = ask(sampler, wanted, Decoding(temperature, 4, ()))
    for request, sample in zip(wanted, found, strict=True):
        assert sample.tokens in choices
        assert not sample.stopped
        expected = scored(base, version(adapters, 1), request, sample, temperature)
        assert sample.log_probs == pytest.approx(expected, abs=CLOSE)
    assert len({sample.tokens for sample in found}) == len(choices) or temperature == 0


def test_choices_are_scored_in_parts_with_the_same_result(
    sampler: TorchSampler, base: Path, adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all logits at once would take too much memory."""
    wide = tuple([(8, 9, one, one + 1, 5) for one in range(10, 40)] + [(8,), (8, 9)])
    asked = requests(5, choices=wide)
    decoding = Decoding(TEMPERATURE, 5, (5,))
    at_once = ask(sampler, asked, decoding)
    monkeypatch.setattr(engine_module, "_AT_ONCE", 5 * 100 * 3)
    for one, other, request in zip(ask(sampler, asked, decoding, cohort="in parts"), at_once, asked, strict=True):
        alike(one, other)
        assert one.log_probs == pytest.approx(scored(base, version(adapters, 1), request, one, TEMPERATURE), abs=CLOSE)


def test_what_is_kept_after_a_choice_is_that_of_the_prompt(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    """The actions that were not taken leave nothing behind; turn after turn, in company that chooses otherwise or not."""
    draw = random.Random(2)
    offered = [CHOICES, CHOICES[:2], SINGLE, None, ((5, 6, 7),)]
    wanted = [one._replace(choices=choices) for one, choices in zip(requests(5, seed=8), offered, strict=True)]
    decoding = Decoding(TEMPERATURE, 4, STOP)
    for _ in range(4):
        found = ask(sampler, wanted, decoding)
        for one, other in zip(found, ask(engine(base, version(adapters, 1)), wanted, decoding), strict=True):
            alike(one, other)
        (kept,) = sampler._kept.values()
        assert kept.tokens[0] == wanted[0].prompt
        assert kept.mask.shape[1] == kept.cache.get_seq_length()
        assert kept.mask.sum(1).tolist() == [len(tokens) for tokens in kept.tokens]
        wanted = [
            request._replace(
                prompt=(*request.prompt, *sample.tokens, *[draw.randrange(VOCABULARY) for _ in range(3)]),
                seed=request.seed + 50,
            )
            for request, sample in zip(wanted, found, strict=True)
        ]


def test_beyond_the_window_of_a_model_choices_are_refused(tmp_path: Path) -> None:
    """A mask for the whole transcript would let its layers see more than they do."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=16, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path)
    held = engine(tmp_path)
    asyncio.run(held.adopt_base("digest"))
    (short,) = ask(held, [SampleRequest(0, PROMPT, 1, CHOICES)], Decoding(1.0, 4, ()), None)
    assert short.tokens in CHOICES
    with pytest.raises(SamplerError, match="sees 16 tokens"):
        ask(held, [SampleRequest(0, (1,) * 14, 1, CHOICES)], Decoding(1.0, 4, ()), None, "long")


def test_a_choice_that_is_written_out_is_an_end(sampler: TorchSampler) -> None:
    """Without a stop token, too; and a stop token within a choice is none."""
    found = ask(sampler, requests(30, choices=CHOICES), Decoding(TEMPERATURE, 12, ()))
    assert {len(sample.tokens) for sample in found} > {1, 2}
    ended = ask(sampler, requests(30, choices=((8, 9, 0), (8, 8, 0), (7, 0))), Decoding(TEMPERATURE, 12, (0, 8)))
    assert {sample.tokens for sample in ended} == {(8, 9, 0), (8, 8, 0), (7, 0)}
    assert all(sample.stopped for sample in ended)


def test_rows_may_choose_among_different_things_or_freely(sampler: TorchSampler) -> None:
    one, two, three = requests(3)
    mixed = [one._replace(choices=SINGLE), two._replace(choices=CHOICES), three]
    found = ask(sampler, mixed, LONG)
    assert found[0].tokens in SINGLE
    assert found[1].tokens in CHOICES
    alike(found[2], ask(sampler, [three], LONG)[0])


@pytest.mark.parametrize(
    ("choices", "key"),
    [
        ((), "choices"),
        (((1, 2), ()), "choices"),
        (((1,), (1, 2, 3, 4, 5)), "max_tokens 4"),
    ],
)
def test_choices_that_no_completion_can_keep_to_are_told(
    sampler: TorchSampler, choices: tuple[Ids, ...], key: str
) -> None:
    with pytest.raises(SamplerError, match=key):
        ask(sampler, requests(2, choices=choices), Decoding(TEMPERATURE, 4, ()))


# -- versions ---------------------------------------------------------------------------------------------------------


def test_versions_take_turns_and_each_is_itself(sampler: TorchSampler, base: Path, adapters: Path) -> None:
    """Names that begin alike are not confused: 1, 2 and 12."""
    wanted = requests(3)
    alone = {n: ask(engine(base, version(adapters, n)), wanted, LONG, n) for n in (1, 2, 12)}
    for turn, number in enumerate((1, 12, 2, 12, 1, 2)):
        for one, other in zip(ask(sampler, wanted, LONG, number, cohort=str(turn)), alone[number], strict=True):
            alike(one, other)


@pytest.mark.parametrize("number", [None, 1, 2, 12])
def test_a_text_is_scored_by_the_version_or_by_the_base(
    sampler: TorchSampler, base: Path, adapters: Path, number: int | None
) -> None:
    """The base stays the base, whatever is loaded and was asked before."""
    texts = (PROMPT, (5, 6), (9,), tuple(range(60)))
    for other in (1, 2):
        ask(sampler, requests(2), number=other)
        held = None if number is None else version(adapters, number)
        for text, found in zip(texts, asyncio.run(sampler.score(texts, number)), strict=True):
            wanted = logits(base, held, text)[:-1].log_softmax(-1)
            assert list(found) == pytest.approx(
                [float(wanted[i, token]) for i, token in enumerate(text[1:])], abs=CLOSE
            )


def test_the_base_is_scored_before_anything_is_loaded(base: Path) -> None:
    (found,) = asyncio.run(engine(base).score([PROMPT], None))
    wanted = logits(base, None, PROMPT)[:-1].log_softmax(-1)
    assert list(found) == pytest.approx([float(wanted[i, token]) for i, token in enumerate(PROMPT[1:])], abs=CLOSE)


def test_scoring_changes_nothing_for_what_is_sampled_next(sampler: TorchSampler) -> None:
    wanted = requests(3)
    before = ask(sampler, wanted, LONG)
    asyncio.run(sampler.score([PROMPT], None))
    asyncio.run(sampler.score([PROMPT], 2))
    for one, other in zip(ask(sampler, wanted, LONG, cohort="another"), before, strict=True):
        alike(one, other)


def test_a_version_that_is_not_there_is_told(sampler: TorchSampler, base: Path) -> None:
    for held, said in ((sampler, "only"), (engine(base), "none")):
        for call in (held.sample("cohort", requests(1), FREE, 3), held.score([PROMPT], 3)):
            with pytest.raises(SamplerError, match=rf"version 3 .*{said}"):
                asyncio.run(call)


def test_a_retired_version_is_gone_and_the_others_stay(base: Path, adapters: Path) -> None:
    sampler = engine(base, *[version(adapters, number) for number in (1, 2, 12)])
    wanted = requests(3)
    before = {number: ask(sampler, wanted, number=number, cohort=f"of {number}") for number in (1, 2, 12)}
    asyncio.run(sampler.retire(1))
    with pytest.raises(SamplerError, match="version 1 "):
        ask(sampler, wanted, number=1)
    for number in (2, 12):
        for one, other in zip(ask(sampler, wanted, number=number), before[number], strict=True):
            alike(one, other)
    asyncio.run(sampler.retire(1))
    asyncio.run(sampler.retire(77))
    assert asyncio.run(sampler.adopt(version(adapters, 1))) == MODULES
    for one, other in zip(ask(sampler, wanted, number=1), before[1], strict=True):
        alike(one, other)


def test_without_the_last_version_nothing_is_served_until_one_is_adopted(base: Path, adapters: Path) -> None:
    """The base model, which is then what is left, answers nobody; and an older version may come next."""
    fresh = ask(engine(base, version(adapters, 1)), requests(2))
    sampler = engine(base, version(adapters, 2))
    asyncio.run(sampler.retire(2))
    with pytest.raises(SamplerError, match="version 2 is not loaded"):
        ask(sampler, requests(2), number=2)
    asyncio.run(sampler.adopt(version(adapters, 1)))
    assert ask(sampler, requests(2)) == fresh


def test_adopting_a_version_again_is_no_error(base: Path, adapters: Path) -> None:
    sampler = engine(base, version(adapters, 1), version(adapters, 1))
    assert len(ask(sampler, requests(2))) == 2


def test_a_version_that_was_adopted_needs_its_folder_no_more(base: Path, adapters: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapters / "policy-v1", tmp_path / "policy-v1"))
    sampler = engine(base, versions.read(folder), version(adapters, 2))
    before = ask(sampler, requests(2), number=1)
    shutil.rmtree(folder)
    asyncio.run(sampler.release())
    assert ask(sampler, requests(2), number=1) == before
    asyncio.run(sampler.retire(1))


def test_another_digest_under_the_same_number_is_told(base: Path, adapters: Path, tmp_path: Path) -> None:
    sampler = engine(base, version(adapters, 1))
    before = ask(sampler, requests(2))
    other = publish(small_peft(base, seed=9, scale=0.3), tmp_path, 1, versions.base_digest(base), "small")
    with pytest.raises(SamplerError, match=r"version 1 .*digest"):
        asyncio.run(sampler.adopt(other))
    for one, again in zip(ask(sampler, requests(2)), before, strict=True):
        alike(one, again)


def test_bytes_that_were_changed_are_told(base: Path, adapters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "policy-v1"
    shutil.copytree(adapters / "policy-v1", folder)
    held = versions.read(folder)
    weights = bytearray((folder / versions.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / versions.WEIGHTS).write_bytes(weights)
    sampler = engine(base)
    with pytest.raises(DigestError, match="policy-v1"):
        asyncio.run(sampler.adopt(held))
    with pytest.raises(AdapterError, match="policy-v1"):
        asyncio.run(sampler.adopt(version(adapters, 1)._replace(digest="0" * 64)))
    with pytest.raises(SamplerError, match="not loaded"):
        ask(sampler, requests(1))


# -- what is bound ----------------------------------------------------------------------------------------------------


def altered(
    base: Path, folder: Path, number: int, rename: tuple[str, str] = ("", ""), modules: int = MODULES
) -> PolicyVersion:
    """A version that is whole in itself, with other names for its weights or with fewer of them."""
    publish(small_peft(base, seed=number, scale=0.3), folder, number, versions.base_digest(base), "small")
    path = folder / f"policy-v{number}"
    tensors = load_file(path / versions.WEIGHTS)
    names = sorted({name.rpartition(".lora_")[0] for name in tensors})[:modules]
    save_file(
        {name.replace(*rename): tensor for name, tensor in tensors.items() if name.rpartition(".lora_")[0] in names},
        path / versions.WEIGHTS,
        {"format": "pt"},
    )
    (path / versions.MARKER).unlink()
    versions.seal(path, number, versions.base_digest(base))
    return versions.read(path)


@pytest.mark.parametrize("held", [False, True], ids=["as the first", "beside another"])
def test_an_adapter_whose_names_match_nothing_binds_nothing(
    base: Path, adapters: Path, tmp_path: Path, held: bool
) -> None:
    """PEFT makes modules for it all the same, and they answer as the base does."""
    sampler = engine(base, *([version(adapters, 1)] if held else []))
    scores = asyncio.run(sampler.score([PROMPT], None))
    assert asyncio.run(sampler.adopt(altered(base, tmp_path, 5, ("model.model.layers", "model.model.blocks")))) == 0
    with pytest.raises(SamplerError, match="version 5 "):
        ask(sampler, requests(1), number=5)
    assert asyncio.run(sampler.score([PROMPT], None)) == scores
    for number in (2, 1):
        assert asyncio.run(sampler.adopt(version(adapters, number))) == MODULES
        (fresh,) = ask(engine(base, version(adapters, number)), requests(1), LONG, number)
        alike(ask(sampler, requests(1), LONG, number)[0], fresh)


def test_an_adapter_that_matches_in_part_binds_that_part(base: Path, tmp_path: Path) -> None:
    """Some of its weights have names that nothing has, both of a module or one; or some modules have no weights."""
    assert asyncio.run(engine(base).adopt(altered(base, tmp_path, 5, ("self_attn", "attention")))) == 6
    assert asyncio.run(engine(base).adopt(altered(base, tmp_path, 6, modules=9))) == 9
    assert asyncio.run(engine(base).adopt(altered(base, tmp_path, 7, ("q_proj.lora_B", "q_proj.lora_Q")))) == 12


@pytest.mark.parametrize("held", [False, True], ids=["as the first", "beside another"])
def test_an_adapter_of_another_model_is_told_and_leaves_nothing_behind(
    base: Path, adapters: Path, tmp_path: Path, held: bool
) -> None:
    """Of another rank than it says; the base and what was loaded before answer as they did."""
    foreign = altered(base, tmp_path, 5)
    folder = Path(foreign.path)
    tensors = load_file(folder / versions.WEIGHTS)
    save_file({name: torch.cat([t, t]) for name, t in tensors.items()}, folder / versions.WEIGHTS, {"format": "pt"})
    (folder / versions.MARKER).unlink()
    versions.seal(folder, 5, versions.base_digest(base))
    sampler = engine(base, *([version(adapters, 1)] if held else []))
    scores = asyncio.run(sampler.score([PROMPT], None))
    with pytest.raises(SamplerError, match="policy-v5"):
        asyncio.run(sampler.adopt(versions.read(folder)))
    assert asyncio.run(sampler.score([PROMPT], None)) == scores
    with pytest.raises(SamplerError, match="version 5 "):
        ask(sampler, requests(1), number=5)
    assert asyncio.run(sampler.adopt(version(adapters, 2))) == MODULES
    for number in (1, 2) if held else (2,):
        alike(
            ask(sampler, requests(1), LONG, number)[0],
            ask(engine(base, version(adapters, number)), requests(1), LONG, number)[0],
        )


# -- other architectures ----------------------------------------------------------------------------------------------


def test_what_a_model_does_to_its_logits_is_done_to_samples(tmp_path: Path) -> None:
    """Some scale them behind the head: what is sampled from is what is scored."""
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, logits_scaling=4.0, initializer_range=0.3, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    GraniteForCausalLM(config).save_pretrained(tmp_path / "base")
    held = publish(
        small_peft(tmp_path / "base", 1, 0.3), tmp_path / "run", 1, versions.base_digest(tmp_path / "base"), "g"
    )
    sampler = engine(tmp_path / "base", held)
    for request, sample in zip(wanted := requests(4), ask(sampler, wanted, LONG), strict=True):
        (scores,) = asyncio.run(sampler.score([(*request.prompt, *sample.tokens)], 1))
        assert sample.log_probs == pytest.approx(
            scored(tmp_path / "base", held, request, sample, TEMPERATURE), abs=CLOSE
        )
        assert len(scores) == len(request.prompt) + len(sample.tokens) - 1


# -- the base model ---------------------------------------------------------------------------------------------------


def test_the_base_model_plays_only_where_it_was_adopted(base: Path, adapters: Path) -> None:
    """By itself, and beside versions of a policy, whose samples stay their own."""
    alone, beside = engine(base), engine(base, version(adapters, 1))
    asked = requests(5)
    for held in (alone, beside):
        with pytest.raises(SamplerError, match="base model is not served"):
            ask(held, asked, GREEDY, None)
        asyncio.run(held.adopt_base("digest of the base"))
        samples = ask(held, asked, GREEDY, None)
        for request, sample in zip(asked, samples, strict=True):
            assert (sample.version, sample.digest) == (BASE, "digest of the base")
            text = list(request.prompt)
            for token in sample.tokens:
                assert token == int(logits(base, None, tuple(text))[-1].argmax())
                text.append(token)
    of_version = ask(beside, asked, GREEDY, 1)
    assert {sample.version for sample in of_version} == {1}
    assert [sample.tokens for sample in of_version] != [sample.tokens for sample in samples]
    with pytest.raises(SamplerError, match="version 2 is not loaded"):
        ask(beside, asked, GREEDY, 2)


def test_a_cohort_of_the_base_model_shares_nothing_with_a_versions(base: Path, adapters: Path) -> None:
    held = engine(base, version(adapters, 1))
    asyncio.run(held.adopt_base("digest"))
    first = requests(3)
    grown = [one._replace(prompt=(*one.prompt, 1, 2)) for one in first]
    ask(held, first, FREE, 1)
    asyncio.run(held.score([(1, 2, 3)], None))
    expected = ask(held, grown, FREE, None, "another cohort")
    for one, other in zip(ask(held, grown, FREE, None), expected, strict=True):
        alike(one, other)


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_a_model_that_cannot_be_loaded_is_an_error_of_the_sampler(base: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    (copy / damage).write_bytes((copy / damage).read_bytes()[:20])
    with pytest.raises(SamplerError, match="cannot load"):
        TorchSampler(copy, threads=1, device="cpu")
