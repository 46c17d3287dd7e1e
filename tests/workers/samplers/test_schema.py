"""Completions of a JSON Schema from the torch engine, and in the learner: what is drawn among, and what it is scored at."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.config import Learner
from chaosops_ray.grammar import Writing, grammar, least
from chaosops_ray.learner import batch
from chaosops_ray.learner.grpo import PolicyTrainer
from chaosops_ray.wire import Decoding, Group, Ids, PolicyVersion, Sample, SampleRequest, Task, Trajectory, Turn
from chaosops_ray.workers.samplers.sampler import ImpossibleError, SamplerError, check_samples
from chaosops_ray.workers.samplers.torch import TorchSampler
from tests.support.models import publish, small_peft
from tests.support.schemas import bytes_of, is_whole, leads_on, schema_of
from tests.support.tokenizers import byte_tokenizer, saved
from tests.support.trainers import HARMLESS

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

TOKENIZER = byte_tokenizer()
BYTES = bytes_of(TOKENIZER)
END: int = TOKENIZER.eos_token_id
# More than the tokenizer has, as models often do.
WIDTH = END + 20
PROMPT: Ids = tuple(range(30, 60))
SCHEMA = schema_of("incident", "dev", has_texts=False)
TALK = schema_of("incident", "manager")
CLOSE = 2e-4
TEMPERATURE = 0.8
LIMIT = 100


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = saved(tmp_path_factory.mktemp("base"), TOKENIZER)
    torch.manual_seed(0)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=WIDTH, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=None, initializer_range=0.06,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def held(base: Path, tmp_path_factory: pytest.TempPathFactory) -> PolicyVersion:
    return publish(small_peft(base, seed=1, scale=0.3), tmp_path_factory.mktemp("adapters"), 1, "00" * 32, "small")


@pytest.fixture(scope="module")
def engine(base: Path, held: PolicyVersion) -> TorchSampler:
    made = TorchSampler(base, threads=1, device="cpu")
    asyncio.run(made.adopt(held))
    return made


def drawn(engine: TorchSampler, schema: str | None, decoding: Decoding, count: int = 6) -> list[Sample]:
    requests = [SampleRequest(row, PROMPT[row:], row, schema=schema) for row in range(count)]
    found = asyncio.run(engine.sample(f"cohort {schema}", requests, decoding, 1))
    asyncio.run(engine.release())
    return found


def expected(base: Path, held: PolicyVersion, schema: str, prompt: Ids, sample: Sample) -> tuple[list[float], float]:
    """Log-probabilities and summed entropy, by a plain forward among what a regular expression says may come next."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), held.path).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([(*prompt, *sample.tokens)])).logits[0, len(prompt) - 1 : -1].float()
    log_probs, entropy, before = [], 0.0, b""
    for token, row in zip(sample.tokens, logits / TEMPERATURE, strict=True):
        allowed = [one for one, piece in BYTES.items() if leads_on(schema, before + piece)] or [END]
        among = row[allowed].log_softmax(-1)
        log_probs.append(float(among[allowed.index(token)]))
        entropy -= float((among.exp() * among).sum())
        before += BYTES.get(token, b"")
    return log_probs, entropy


def test_an_engine_draws_among_what_the_schema_permits(base: Path, held: PolicyVersion, engine: TorchSampler) -> None:
    found = drawn(engine, SCHEMA, Decoding(TEMPERATURE, LIMIT, (END,)))
    for row, sample in enumerate(found):
        assert is_whole(SCHEMA, b"".join([BYTES[token] for token in sample.tokens[:-1]]))
        assert (sample.tokens[-1], sample.stopped) == (END, True)
        assert sample.log_probs == pytest.approx(expected(base, held, SCHEMA, PROMPT[row:], sample)[0], abs=CLOSE)
    assert len({sample.tokens for sample in found}) > 2
    again = drawn(engine, SCHEMA, Decoding(TEMPERATURE, LIMIT, (END,)))
    assert [sample.tokens for sample in again] == [sample.tokens for sample in found]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("more", [0, 1, 30])
def test_an_object_ends_within_any_limit(engine: TorchSampler, temperature: float, more: int) -> None:
    """In a text, this model would write on and on."""
    limit = least(json.loads(TALK)) + more
    found = drawn(engine, TALK, Decoding(temperature, limit, (END, 7)), count=16)
    assert all(is_whole(TALK, b"".join([BYTES[token] for token in sample.tokens[:-1]])) for sample in found)
    assert all(sample.tokens[-1] == END for sample in found)
    requests = [SampleRequest(row, PROMPT, row, schema=TALK) for row in range(16)]
    check_samples(requests, found, Decoding(temperature, limit, (END, 7)), PolicyVersion(1, found[0].digest, ""), WIDTH)


def test_free_rows_beside_others_stay_free(engine: TorchSampler) -> None:
    decoding = Decoding(TEMPERATURE, LIMIT, (END,))
    requests = [SampleRequest(row, PROMPT[row:], row, schema=SCHEMA if row % 2 else None) for row in range(6)]
    mixed = asyncio.run(engine.sample("mixed", requests, decoding, 1))
    free, held_to = drawn(engine, None, decoding), drawn(engine, SCHEMA, decoding)
    wanted = [(held_to if row % 2 else free)[row].tokens for row in range(6)]
    assert [sample.tokens for sample in mixed] == wanted


def test_what_cannot_be_kept_to_is_refused(engine: TorchSampler) -> None:
    for decoding, schema, reason in (
        (Decoding(1.0, 20, (END,)), SCHEMA, "raise max_tokens from 20"),
        (Decoding(1.0, LIMIT, ()), SCHEMA, "ends with a stop token"),
        (Decoding(1.0, LIMIT, (END,)), '{"type": "array"}', "is not known here"),
    ):
        with pytest.raises(SamplerError, match=reason):
            drawn(engine, schema, decoding)


def test_a_completion_that_was_cut_is_no_answer() -> None:
    request, decoding = SampleRequest(0, PROMPT, 0, schema=SCHEMA), Decoding(1.0, 3, (END,))
    cut = Sample((1, 2, 3), (-1.0, -1.0, -1.0), 1, "d", stopped=False)
    with pytest.raises(ImpossibleError, match="cut in the middle of its object"):
        check_samples([request], [cut], decoding, PolicyVersion(1, "d", ""), WIDTH)
    check_samples([request._replace(schema=None)], [cut], decoding, PolicyVersion(1, "d", ""), WIDTH)


# -- the learner ------------------------------------------------------------------------------------------------------


def group(found: list[Sample], schema: str | None = SCHEMA) -> Group:
    """The samples as a group, each in a transcript of its own."""
    trajectories = []
    for row, sample in enumerate(found):
        start = len(PROMPT[row:])
        turn = Turn(start, start + len(sample.tokens), sample.log_probs, {}, 1, "", schema=schema)
        trajectories.append(Trajectory("dev", row, PROMPT[row:] + sample.tokens, (turn,)))
    return Group(Task("key", "scenario", "strict", len(found), 0), tuple(trajectories), (), 1)


def writes(base: Path) -> batch.Writes:
    return lambda schema, stop: Writing(grammar(str(base), schema), LIMIT, stop)


def rows(base: Path, found: list[Sample], schema: str | None = SCHEMA) -> list[batch.Row]:
    advantages = [(float(row - 2),) for row in range(len(found))]
    return batch.rows([group(found, schema)], [advantages], writes(base))


def trainer(base: Path, tmp_path: Path, **given: object) -> PolicyTrainer:
    settings = Learner.model_validate({"tokens_per_forward": 300, "checkpointing": False, **given})
    options = {"temperature": TEMPERATURE, "seed": 0, "max_completion_length": LIMIT}
    return PolicyTrainer(small_peft(base, seed=1, scale=0.3), TOKENIZER, settings, tmp_path, options)


def test_the_learner_scores_them_as_they_were_drawn(
    base: Path, held: PolicyVersion, engine: TorchSampler, tmp_path: Path
) -> None:
    """Token by token, beside what was computed for neither of the two; so does the entropy, over all of them."""
    found = drawn(engine, SCHEMA, Decoding(TEMPERATURE, LIMIT, (END,)))
    learner, own = trainer(base, tmp_path), rows(base, found)
    scored = learner.scored(own)
    entropy, count = 0.0, 0
    for row, sample, made in zip(range(6), found, own, strict=True):
        wanted, more = expected(base, held, SCHEMA, PROMPT[row:], sample)
        assert [float(scored[id(made)][place - 1]) for place in made.at] == pytest.approx(wanted, abs=CLOSE)
        entropy, count = entropy + more, count + len(wanted)
    figures = learner.update(own, rate=0.0, entropy=0.0, seed=0)
    assert figures["mismatch_max"] < CLOSE
    assert figures["entropy"] == pytest.approx(entropy / count, abs=CLOSE)


def test_near_the_limit_of_tokens_the_learner_has_the_engines_masks(
    base: Path, engine: TorchSampler, tmp_path: Path
) -> None:
    found = drawn(engine, TALK, Decoding(TEMPERATURE, LIMIT, (END,)), count=12)
    assert max(len(sample.tokens) for sample in found) == LIMIT
    assert trainer(base, tmp_path).update(rows(base, found, TALK), 0.0, 0.0, 0)["mismatch_max"] < CLOSE


def test_masks_in_bits_are_the_lists_of_choices_in_another_form(
    base: Path, engine: TorchSampler, tmp_path: Path
) -> None:
    """Of the same rows, either gives the same policy."""
    found = drawn(engine, SCHEMA, Decoding(TEMPERATURE, LIMIT, (END,)))
    in_bits = rows(base, found)
    listed = [row._replace(masks=None, allowed=tuple([ids(mask) for mask in row.masks or ()])) for row in in_bits]
    weights = []
    for number, same in enumerate((in_bits, listed)):
        learner = trainer(base, tmp_path / str(number), steps=2)
        figures = [learner.update(same, 0.01, 0.05, seed) for seed in range(2)]
        weights.append({name: one for name, one in learner.model.named_parameters() if ".lora_" in name})
        assert figures[1]["entropy"] != figures[0]["entropy"]
    for name, one in weights[0].items():
        assert torch.allclose(one, weights[1][name], atol=1e-5), name


def ids(mask: bytes) -> Ids:
    return tuple([8 * place + bit for place, byte in enumerate(mask) for bit in range(8) if byte >> bit & 1])


def test_many_tokens_share_few_masks(base: Path, engine: TorchSampler) -> None:
    found = drawn(engine, TALK, Decoding(TEMPERATURE, LIMIT, (END,)), count=12)
    micro = batch.padded(rows(base, found, TALK), END)
    assert micro.masks is not None
    assert micro.mask_of is not None
    assert len(micro.mask_of) == sum([len(sample.tokens) for sample in found])
    assert len(micro.masks) < len(micro.mask_of) / 4


def test_what_the_schema_does_not_permit_is_no_row(base: Path, engine: TorchSampler) -> None:
    found = drawn(engine, SCHEMA, Decoding(TEMPERATURE, LIMIT, (END,)), count=2)
    wrong = found[0]._replace(tokens=(*found[0].tokens[:4], 1, *found[0].tokens[5:]))
    with pytest.raises(ValueError, match="which its schema does not permit"):
        rows(base, [wrong])
    mixed = group(found)
    free = mixed.trajectories[1].turns[0]._replace(schema=None)
    half = mixed.trajectories[0]._replace(turns=(*mixed.trajectories[0].turns, free))
    with pytest.raises(ValueError, match="in some of its turns and not in others"):
        batch.rows([Group(mixed.task, (half,), (), 1)], [[(1.0, 1.0)]], writes(base))
    both = [*rows(base, found[:1]), *rows(base, found[1:], None)]
    with pytest.raises(ValueError, match="cannot share a micro-batch"):
        batch.padded(both, END)
