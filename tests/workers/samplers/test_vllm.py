"""The real engine on a small model of random weights; one engine for all tests, since it takes a while to start."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Coroutine, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.store import versions
from chaosops_ray.wire import ChoiceScore, Decoding, Ids, PolicyVersion, Probe, Sample, SampleRequest
from chaosops_ray.workers.adoption import AdoptionError, check_adoption
from chaosops_ray.workers.samplers.sampler import BASE, SamplerError
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import small_adapter, small_model
from tests.support.schemas import bytes_of, is_whole, leads_on, schema_of
from tests.support.tokenizers import byte_tokenizer, saved

pytestmark = pytest.mark.vllm

MODULES = 14
VOCABULARY = 300
CONTEXT = 256
PROMPT = tuple(range(20, 120))
Answer = TypeVar("Answer")


class Served(NamedTuple):
    """An engine, the loop it belongs to, and what it serves."""

    model: Path
    folder: Path
    sampler: Any
    runner: asyncio.Runner

    def run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(call)

    def publish(self, number: int, *, scale: float = 0.3, rename: tuple[str, str] = ("", "")) -> PolicyVersion:
        """A sealed version; `rename` changes what its weights are called."""
        path = self.folder / versions.folder_name(number)
        if not path.exists():
            small_adapter(path, self.model, seed=number, scale=scale)
            (path / "README.md").unlink()
            weights = path / versions.WEIGHTS
            save_file({name.replace(*rename): value for name, value in load_file(weights).items()}, weights)
            versions.seal(path, number, versions.base_digest(self.model))
        return versions.read(path)

    def adopt(self, number: int, **how: Any) -> int:
        return self.run(self.sampler.adopt(self.publish(number, **how)))

    def sample(
        self,
        number: int | None,
        *prompts: Ids,
        seed: int = 1,
        choices: tuple[Ids, ...] | None = None,
        temperature: float = 0.8,
        max_tokens: int = 6,
        stop: Ids = (),
    ) -> list[Sample]:
        requests = [SampleRequest(row, prompt, seed, choices) for row, prompt in enumerate(prompts or (PROMPT,))]
        return self.run(self.sampler.sample("cohort", requests, Decoding(temperature, max_tokens, stop), number))

    def logits(self, version: PolicyVersion | None, text: Ids) -> torch.Tensor:
        """Return plain torch's logits of every token but the first."""
        with torch.no_grad():
            return plain(self.model, version)(input_ids=torch.tensor([text])).logits[0, :-1].float()


@cache
def plain(model: Path, version: PolicyVersion | None) -> Any:
    base = AutoModelForCausalLM.from_pretrained(model)
    return (base if version is None else PeftModel.from_pretrained(base, version.path)).eval()


def picked(logits: torch.Tensor, tokens: Ids) -> list[float]:
    log_probs = logits.log_softmax(-1)
    return log_probs.gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()


def make_model(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1,  # vLLM's CPU kernels start at heads of 32
        max_position_embeddings=512, tie_word_embeddings=False, bos_token_id=None,
        # An end of text of its own, which must not end what the caller does not want ended.
        eos_token_id=5, initializer_range=0.2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return saved(folder, byte_tokenizer())


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def imported() -> Any:
    """The engine's module. Not at the top: importing vLLM takes seconds, in every process that collects this file."""
    return pytest.importorskip("chaosops_ray.workers.samplers.vllm", exc_type=ImportError)


def start(model: Path, rank: int = 8, **options: Any) -> Any:
    options = {"dtype": "float32", "enforce_eager": True, "cache_mib": 16, "slots": 3, **options}
    return imported().VllmSampler(str(model), rank, CONTEXT, **options)


def stop(sampler: Any, runner: asyncio.Runner) -> None:
    runner.run(sampler.close())
    # vLLM leaves the context of its sockets to the garbage collector, which would warn.
    _LEFT_OPEN.append(sampler._engine.engine_core.resources.ctx)


_LEFT_OPEN: list[Any] = []


@pytest.fixture(scope="session")
def engine(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    imported()  # which itself sets some variables
    before = dict(os.environ)
    sampler = start(model)
    assert dict(os.environ) == before, "what the engine's process is told is nobody else's business"
    with asyncio.Runner() as runner:
        yield Served(model, tmp_path_factory.mktemp("adapters"), sampler, runner)
        stop(sampler, runner)


@pytest.fixture
def served(engine: Served) -> Iterator[Served]:
    """The engine with versions 1 and 2; whatever a test loads beyond is retired after it."""
    assert [engine.adopt(1), engine.adopt(2)] == [MODULES, MODULES]
    yield engine
    for number in tuple(engine.sampler._adapters):
        if number > 2:
            engine.run(engine.sampler.retire(number))


def test_every_version_answers_as_torch_does_with_its_adapter(served: Served) -> None:
    """The log-probabilities of samples are at the temperature, of exactly the version asked for."""
    for number in (1, 2, 1):
        version = served.publish(number)
        (sample,) = served.sample(number)
        assert (sample.version, sample.digest, sample.stopped) == (number, version.digest, False)
        logits = served.logits(version, PROMPT + sample.tokens)[len(PROMPT) - 1 :]
        assert sample.log_probs == pytest.approx(picked(logits / 0.8, sample.tokens), abs=1e-3)


def test_the_base_model_plays_only_where_it_was_adopted(served: Served) -> None:
    """Its samples are of the model without an adapter, and say so; a version that is not loaded stays an error."""
    with pytest.raises(SamplerError, match="base model is not served"):
        served.sample(None)
    served.run(served.sampler.adopt_base("digest of the base"))
    (sample,) = served.sample(None)
    assert (sample.version, sample.digest) == (BASE, "digest of the base")
    logits = served.logits(None, PROMPT + sample.tokens)[len(PROMPT) - 1 :]
    assert sample.log_probs == pytest.approx(picked(logits / 0.8, sample.tokens), abs=1e-3)
    assert served.sample(None, temperature=0)[0].tokens != served.sample(1, temperature=0)[0].tokens
    with pytest.raises(SamplerError, match="policy-v10 is not loaded"):
        served.sample(10)


def test_versions_in_one_batch_do_not_mix(served: Served) -> None:
    async def both() -> list[list[Sample]]:
        request, decoding = [SampleRequest(0, PROMPT, 1)], Decoding(0, 6, ())
        return await asyncio.gather(*[served.sampler.sample("cohort", request, decoding, number) for number in (1, 2)])

    apart = [served.sample(number, temperature=0) for number in (1, 2)]
    together = served.run(both())
    assert [batch[0].tokens for batch in together] == [batch[0].tokens for batch in apart]
    assert apart[0][0].tokens != apart[1][0].tokens


def test_scores_are_those_of_the_whole_text_at_temperature_1(served: Served) -> None:
    """Also where the prefix cache knows the text already, and for a text of one token."""
    served.sample(1)
    texts = (PROMPT, tuple(range(200, 230)), (7,))
    for number in (1, 2, None):
        version = None if number is None else served.publish(number)
        for found, text in zip(served.run(served.sampler.score(texts, number)), texts, strict=True):
            assert found == pytest.approx(picked(served.logits(version, text), text[1:]), abs=1e-3)


def test_a_bound_adapter_is_told_from_the_base(served: Served) -> None:
    scores = [served.run(served.sampler.score([PROMPT], number))[0] for number in (1, None)]
    assert max(abs(one - other) for one, other in zip(*scores, strict=True)) > 0.1


def test_a_fresh_adapter_binds_all_its_modules_and_scores_as_the_base_does(served: Served) -> None:
    assert served.adopt(3, scale=0.0) == MODULES
    fresh, base = [served.run(served.sampler.score([PROMPT], number))[0] for number in (3, None)]
    assert fresh == pytest.approx(base, abs=1e-5)


def test_a_version_that_was_adopted_needs_its_folder_no_more(served: Served) -> None:
    served.adopt(1)
    before, folder = served.run(served.sampler.score([PROMPT], 1)), Path(served.publish(1).path)
    away = folder.rename(folder.with_name("away"))
    try:
        assert served.run(served.sampler.score([PROMPT], 1)) == before
        assert served.sample(1)[0].version == 1
    finally:
        away.rename(folder)


def test_an_adapter_whose_targets_are_not_in_the_model_binds_nothing_and_serves_nothing(served: Served) -> None:
    """The engine itself accepts it, and would answer from the base model."""
    assert served.adopt(10, rename=(".layers.", ".blocks.")) == 0
    with pytest.raises(SamplerError, match="policy-v10 is not loaded"):
        served.sample(10)


def test_an_adapter_that_fits_in_part_is_counted_in_part(served: Served) -> None:
    assert served.adopt(11, rename=(".layers.1.", ".layers.7.")) == MODULES // 2


def test_an_adapter_that_the_engine_refuses_raises(served: Served) -> None:
    with pytest.raises(SamplerError, match=r"could not load policy-v12.*blob"):
        served.adopt(12, rename=("q_proj", "blob"))
    with pytest.raises(SamplerError, match="not loaded"):
        served.sample(12)


def test_the_engine_proves_what_it_serves_and_cannot_prove_what_it_does_not(served: Served) -> None:
    """The proof that stands between adoption and serving, on the real engine."""

    def scores(version: PolicyVersion | None) -> tuple[tuple[float, ...], ...]:
        return (tuple(picked(served.logits(version, PROMPT), PROMPT[1:])),)

    one, five, foreign = served.publish(1), served.publish(5), served.publish(10, rename=(".layers.", ".blocks."))
    probe = Probe((PROMPT,), scores(five), scores(None), MODULES, tolerance=1e-3)
    assert served.run(check_adoption(served.sampler, five, probe, one)).decisive
    served.run(served.sampler.retire(5))
    with pytest.raises(AdoptionError, match="nothing_bound"):
        served.run(check_adoption(served.sampler, foreign, probe, one))


def test_damaged_bytes_are_never_loaded(served: Served) -> None:
    version = served.publish(13)
    weights = Path(version.path) / versions.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(versions.DigestError):
        served.run(served.sampler.adopt(version))
    with pytest.raises(SamplerError, match="not loaded"):
        served.sample(13)


def test_a_number_stands_for_one_adapter_for_ever(served: Served, tmp_path: Path) -> None:
    """The engine's cache under the name would be used for the other one."""
    other = served._replace(folder=tmp_path).publish(1, scale=0.1)
    for _ in ("loaded", "retired"):
        with pytest.raises(SamplerError, match="policy-v1 "):
            served.run(served.sampler.adopt(other))
        if 1 in served.sampler._adapters:
            served.run(served.sampler.retire(1))


def test_adopting_again_counts_again(served: Served) -> None:
    assert served.adopt(1) == MODULES


def test_versions_beyond_the_slots_are_refused_instead_of_driving_others_out(served: Served) -> None:
    served.adopt(3, scale=0.0)
    with pytest.raises(SamplerError, match=r"3 slots.*1, 2, 3"):
        served.adopt(4)
    served.run(served.sampler.retire(3))
    assert served.adopt(4) == MODULES


def test_unknown_and_retired_versions_raise(served: Served) -> None:
    served.adopt(4)
    served.run(served.sampler.retire(4))
    for number in (4, 99):
        with pytest.raises(SamplerError, match=f"policy-v{number} is not loaded"):
            served.sample(number)
        with pytest.raises(SamplerError, match=f"policy-v{number} is not loaded"):
            served.run(served.sampler.score([PROMPT], number))
        served.run(served.sampler.retire(number))


def test_retiring_ends_what_is_being_sampled(served: Served) -> None:
    async def retired_meanwhile() -> None:
        requests = [SampleRequest(row, PROMPT, row) for row in range(4)]
        asked = asyncio.ensure_future(served.sampler.sample("cohort", requests, Decoding(1, 150, ()), 4))
        while not served.sampler._running:
            await asyncio.sleep(0)
        await served.sampler.retire(4)
        with pytest.raises(SamplerError, match="retired"):
            await asked
        assert set(await served.sampler._engine.list_loras()) == {2, 3}

    served.adopt(4)
    served.run(retired_meanwhile())


def test_a_seed_gives_its_sample_whatever_stands_beside_it(served: Served) -> None:
    seed = (1 << 63) - 12345
    alone = served.sample(1, seed=seed)
    assert served.sample(1, seed=seed) == alone
    crowd = [PROMPT[:part] for part in range(10, 90, 10)]
    assert served.sample(1, *crowd, PROMPT, seed=seed)[-1].tokens == alone[0].tokens
    assert served.sample(1, seed=seed + 1) != alone


def test_more_prompts_than_a_batch_holds(served: Served) -> None:
    """A seeded prompt that were read in two parts would kill the engine on a CPU."""
    prompts = [(*range(row, row + 40), *PROMPT, *range(row, row + 40)) for row in range(60)]
    samples = served.sample(1, *prompts, max_tokens=2)
    assert samples[-1] == served.sample(1, prompts[-1], max_tokens=2)[0]._replace(log_probs=samples[-1].log_probs)


def test_samples_follow_the_distribution(served: Served) -> None:
    """Drawn frequencies of the likeliest first tokens are within three standard errors of what torch expects."""
    requests = [SampleRequest(row, PROMPT, 1000 + row) for row in range(400)]
    samples = served.run(served.sampler.sample("cohort", requests, Decoding(0.8, 1, ()), 1))
    expected = (served.logits(served.publish(1), (*PROMPT, 0))[-1] / 0.8).softmax(-1)
    for chance, token in zip(*expected.topk(3), strict=True):
        drawn = sum(sample.tokens == (token.item(),) for sample in samples) / len(samples)
        assert abs(drawn - chance) < 3 * (chance * (1 - chance) / len(samples)) ** 0.5


def test_greedy_takes_the_likeliest_and_says_how_likely_it_is_at_temperature_1(served: Served) -> None:
    (sample,) = served.sample(1, temperature=0)
    logits = served.logits(served.publish(1), PROMPT + sample.tokens)[len(PROMPT) - 1 :]
    assert sample.tokens == tuple(logits.argmax(-1).tolist())
    assert sample.log_probs == pytest.approx(picked(logits, sample.tokens), abs=1e-3)


def test_a_stop_token_is_the_last_one_and_nothing_else_stops(served: Served) -> None:
    (free,) = served.sample(1, max_tokens=8)
    place = next(i for i in range(2, 8) if free.tokens[i] not in free.tokens[:i])
    (stopped,) = served.sample(1, max_tokens=8, stop=(free.tokens[place],))
    assert (stopped.tokens, stopped.stopped) == (free.tokens[: place + 1], True)
    assert stopped.log_probs == pytest.approx(free.log_probs[: place + 1], abs=1e-4)
    # The model's configuration says that 5 ends a text; our decoding does not.
    (through,) = served.sample(1, max_tokens=4, choices=((5, 5, 5, 5),))
    assert (through.tokens, through.stopped) == ((5, 5, 5, 5), False)


def likely(
    served: Served, choices: tuple[Ids, ...], temperature: float, score: str = "mean", prompt: Ids = PROMPT
) -> dict[Ids, float]:
    """Return torch's log-probability of each choice as a whole, each read by itself."""
    scores = {}
    for choice in choices:
        logits = served.logits(served.publish(1), prompt + choice)[len(prompt) - 1 :]
        of_tokens = torch.tensor(picked(logits, choice))
        scores[choice] = of_tokens.mean() if score == "mean" else of_tokens.sum()
    log_probs = (torch.stack(list(scores.values())) / temperature).log_softmax(-1).tolist()
    return dict(zip(scores, log_probs, strict=True))


SPELT = ((31, 9), (31, 32, 9), (200, 201, 202, 9), (31, 32, 33, 34, 35, 9), (31, 32))


@pytest.mark.parametrize(
    "choices",
    [((31,), (32,), (33,), (200,)), SPELT, ((31, 32), (32, 31), (31, 33)), ((31,),), ((31, 32), (31, 32))],
    ids=["one token each", "of all lengths", "all of a length", "no choice", "two that are spelt alike"],
)
def test_completions_are_among_the_choices_with_the_log_probability_of_the_choice(
    served: Served, choices: tuple[Ids, ...]
) -> None:
    drawn = set()
    for seed in range(10):
        (sample,) = served.sample(1, seed=seed, choices=choices, stop=(9,))
        assert sample.tokens in choices
        assert sample.stopped == (sample.tokens[-1] == 9)
        assert sample.log_probs == pytest.approx([likely(served, choices, 0.8)[sample.tokens]], abs=1e-3)
        drawn.add(sample.tokens)
    assert len(drawn) > 1 or len(set(choices)) == 1


@pytest.mark.parametrize("score", ["mean", "sum"])
@pytest.mark.parametrize("temperature", [0.0, 0.8, 5.0])
def test_both_engines_make_the_same_choice_of_whole_actions(
    served: Served, score: ChoiceScore, temperature: float
) -> None:
    """Many prompts side by side; the same seed draws the same choice, whichever engine scored it."""
    torch_engine = TorchSampler(served.model, threads=1, device="cpu")
    assert served.run(torch_engine.adopt(served.publish(1))) == MODULES
    requests = [SampleRequest(row, PROMPT[: 10 + 9 * row], 70 + row, SPELT) for row in range(8)]
    decoding = Decoding(temperature, 6, (9,), score)
    found = served.run(served.sampler.sample("cohort", requests, decoding, 1))
    for request, one, other in zip(
        requests, found, served.run(torch_engine.sample("cohort", requests, decoding, 1)), strict=True
    ):
        assert one.tokens == other.tokens
        expected = likely(served, SPELT, temperature or 1, score, request.prompt)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)
        assert one.log_probs == pytest.approx([expected[one.tokens]], abs=1e-3)
        if temperature == 0:
            assert one.tokens == max(expected, key=lambda choice: expected[choice])


def test_a_log_probability_arrives_as_it_was_however_low() -> None:
    """It is told through what vLLM returns of the masked logits."""
    told, meant = imported()._told, imported()._meant
    for surprise in (0.0, 1e-6, 0.3, 9.0, 25.0):
        assert meant(float(told(torch.tensor(surprise)))) == pytest.approx(surprise, abs=1e-5)
    assert meant(float(told(torch.tensor(90.0)))) == pytest.approx(90, abs=1e-3)
    assert meant(float(told(torch.tensor(torch.inf)))) == math.inf


def test_choices_that_are_being_scored_end_with_their_version(served: Served) -> None:
    """And leave nothing behind; the next ones are scored as ever."""

    async def retired_meanwhile() -> None:
        wide = tuple([(31, 32 + one, 9) for one in range(100)])
        asked = asyncio.ensure_future(
            served.sampler.sample("cohort", [SampleRequest(0, PROMPT, 1, wide)], Decoding(1, 6, (9,)), 4)
        )
        while not served.sampler._running:
            await asyncio.sleep(0)
        await served.sampler.retire(4)
        with pytest.raises(SamplerError, match="retired"):
            await asked
        assert not served.sampler._running

    served.adopt(4)
    served.run(retired_meanwhile())
    (sample,) = served.sample(1, choices=SPELT)
    assert sample.log_probs == pytest.approx([likely(served, SPELT, 0.8)[sample.tokens]], abs=1e-3)


def test_greedy_choice_and_free_text_side_by_side(served: Served) -> None:
    """A mask of one request leaves its neighbours alone."""
    choices = ((31,), (32,), (33,))
    requests = [SampleRequest(0, PROMPT, 1, choices), SampleRequest(1, PROMPT, 1)]
    chosen, free = served.run(served.sampler.sample("cohort", requests, Decoding(0, 3, ()), 1))
    expected = likely(served, choices, 1)
    assert chosen.tokens == max(expected, key=lambda choice: expected[choice])
    assert free.tokens == served.sample(1, temperature=0, max_tokens=3)[0].tokens


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ((), "choices are empty"),
        (((1,), ()), "one of them is"),
        (tuple([(one, two) for one in range(80) for two in range(60)]), "too many to score"),
        (((1, 2, 3, 4, 5, 6, 7),), "does not fit into max_tokens 6"),
        (((1,), (VOCABULARY + 50,)), "beyond the model's vocabulary"),
    ],
)
def test_choices_that_cannot_be_kept_to_are_refused(served: Served, choices: tuple[Ids, ...], reason: str) -> None:
    with pytest.raises(SamplerError, match=reason):
        served.sample(1, choices=choices)


def test_a_choice_that_the_context_cuts_off_is_no_choice(served: Served) -> None:
    prompt = tuple(range(CONTEXT - 2))
    assert served.sample(1, prompt, choices=((31, 32),))[0].tokens == (31, 32)
    with pytest.raises(SamplerError, match="before a choice was complete"):
        served.sample(1, prompt, choices=((31, 32, 33),))


def test_a_completion_that_meets_the_context_is_cut_off(served: Served) -> None:
    (sample,) = served.sample(1, tuple(range(CONTEXT - 2)), stop=(VOCABULARY - 1,))
    assert (len(sample.tokens), sample.stopped) == (2, False)


def test_what_the_engine_refuses_says_why(served: Served) -> None:
    with pytest.raises(SamplerError, match="maximum model length of 256"):
        served.sample(1, tuple([1] * CONTEXT))
    with pytest.raises(SamplerError, match="maximum model length of 256"):
        served.run(served.sampler.score([tuple([1] * CONTEXT)], 1))
    with pytest.raises(SamplerError, match="vocabulary of 300"):
        served.sample(1, (1, VOCABULARY + 50))
    with pytest.raises(SamplerError, match="cannot be empty"):
        served.sample(1, ())
    with pytest.raises(SamplerError, match="temperature must be in"):
        served.sample(1, temperature=2.5)
    with pytest.raises(SamplerError, match=r"not at 0\.005"):
        served.sample(1, temperature=0.005)
    assert served.sample(1), "and goes on serving"


def test_no_request_has_no_sample(served: Served) -> None:
    assert served.run(served.sampler.sample("cohort", [], Decoding(1, 1, ()), 1)) == []


def test_memory_is_not_given_back_on_a_cpu(served: Served, model: Path) -> None:
    with pytest.raises(SamplerError, match="cannot give memory back"):
        served.run(served.sampler.release())
    with pytest.raises(SamplerError, match="cannot sleep on a CPU"):
        start(model, sleeps=True)


def test_batch_invariant_kernels_are_not_promised_where_there_are_none(model: Path) -> None:
    with pytest.raises(SamplerError, match=r"compute capability 9\.0 .*resources\.deterministic to false"):
        start(model, batch_invariant=True)
    assert "VLLM_BATCH_INVARIANT" not in os.environ


def test_a_released_engine_answers_nothing_until_a_version_is_adopted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU the worker keeps its memory when it is told to sleep; all else is as on a GPU."""
    monkeypatch.setattr(served.sampler, "_sleeps", True)
    before = served.sample(1)
    served.run(served.sampler.release())
    with pytest.raises(SamplerError, match="policy-v1 is not loaded"):
        served.sample(1)
    with pytest.raises(SamplerError, match="released"):
        served.run(served.sampler.score([PROMPT], None))
    assert served.adopt(1) == MODULES
    assert served.sample(1)[0].tokens == before[0].tokens


def test_an_engine_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(SamplerError, match=f"did not start on {tmp_path}"):
        start(tmp_path)
    with pytest.raises(SamplerError, match="up to 512, not 1000"):
        start(tmp_path, rank=1000)
    narrow = small_model(tmp_path)
    with pytest.raises(SamplerError, match="no kernel for heads of 16, only for 32"):
        start(narrow)


@pytest.mark.slow
def test_a_dead_engine_raises_whatever_is_asked(model: Path, tmp_path: Path) -> None:
    sampler = start(model)
    with asyncio.Runner() as runner:
        served = Served(model, tmp_path, sampler, runner)
        served.adopt(1)

        async def killed_meanwhile() -> None:
            requests = [SampleRequest(row, PROMPT, row) for row in range(4)]
            asked = asyncio.ensure_future(sampler.sample("cohort", requests, Decoding(1, 150, ()), 1))
            while not sampler._running:
                await asyncio.sleep(0)
            for process in sampler._engine.engine_core.resources.engine_manager.processes:
                os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(SamplerError, match=r"has died|EngineDead"):
                await asyncio.wait_for(asked, 20)
            for call in (
                sampler.sample("cohort", requests, Decoding(1, 150, ()), 1),
                sampler.score([PROMPT], None),
                sampler.adopt(served.publish(2)),
                sampler.retire(1),
            ):
                with pytest.raises(SamplerError, match=r"has died|EngineDead"):
                    await asyncio.wait_for(call, 20)
            assert not sampler._running

        runner.run(killed_meanwhile())
        stop(sampler, runner)


# -- completions of a JSON Schema -------------------------------------------------------------------------------------

SCHEMA = schema_of("incident", "dev", has_texts=False)
BYTES = byte_tokenizer()
END: int = BYTES.eos_token_id


def test_completions_fit_a_schema_with_log_probabilities_among_what_it_permits(served: Served) -> None:
    """What it permits is told by a regular expression, at every place; free text beside it stays free."""
    byte_of = bytes_of(BYTES)
    requests = [SampleRequest(row, PROMPT, row, schema=SCHEMA if row else None) for row in range(6)]
    free, *found = served.run(served.sampler.sample("cohort", requests, Decoding(0.8, 100, (END,)), 1))
    assert free.tokens == served.sample(1, seed=0, max_tokens=100, stop=(END,))[0].tokens
    for sample in found:
        *tokens, end = sample.tokens
        assert (end, sample.stopped) == (END, True)
        written = [byte_of[token] for token in tokens]
        assert is_whole(SCHEMA, b"".join(written))
        logits = served.logits(served.publish(1), PROMPT + sample.tokens)[len(PROMPT) - 1 :] / 0.8
        for place, row in enumerate(logits):
            before = b"".join(written[:place])
            allowed = [token for token, byte in byte_of.items() if leads_on(SCHEMA, before + byte)] or [END]
            row[[token for token in range(VOCABULARY) if token not in allowed]] = -torch.inf
        assert sample.log_probs == pytest.approx(picked(logits, sample.tokens), abs=1e-3)
    assert len({sample.tokens for sample in found}) > 1


def test_an_object_ends_within_the_limit_whatever_the_model_would_write(served: Served) -> None:
    """In a text, this model would write on and on."""
    schema = schema_of("incident", "manager")
    requests = [SampleRequest(row, PROMPT, row, schema=schema) for row in range(4)]
    for sample in served.run(served.sampler.sample("cohort", requests, Decoding(1.0, 64, (END,)), 1)):
        assert is_whole(schema, BYTES.decode(sample.tokens[:-1]).encode())
        assert sample.stopped


def test_a_schema_that_cannot_be_kept_to_is_refused(served: Served) -> None:
    request = SampleRequest(0, PROMPT, 1, schema=SCHEMA)
    for decoding, prompt, reason in (
        (Decoding(1.0, 20, (END,)), PROMPT, "raise max_tokens from 20"),
        (Decoding(1.0, 100, ()), PROMPT, "ends with a stop token"),
        (Decoding(1.0, 100, (END,)), tuple(range(CONTEXT - 6)), "before an object was complete"),
    ):
        with pytest.raises(SamplerError, match=reason):
            served.run(served.sampler.sample("cohort", [request._replace(prompt=prompt)], decoding, 1))
