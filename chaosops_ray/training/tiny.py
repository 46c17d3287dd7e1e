"""The tiny base models: a real Qwen2 of some two hundred thousand weights, and one of half as many.

Each is made here in a minute or two, then cached.

It is warmed up as a language model of transcripts of the random policy, under strict rules. That teaches it the
format, what incidents look like, and that a seat may do what it may do, all of it equally likely: at an action, the
target is the very distribution that the random policy draws from. What to do about an incident is nowhere in it.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.agents.tokens import Codec, Transcript
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store.files import atomic_folder
from chaosops_ray.wire import Layout, Sample

WORLD = "incident"
RULES = "strict"
PAD = "<|pad|>"
# A piece of text that is one token: a run without digits, up to and with its line's end; or one or two digits.
_PIECES = r"[0-9]{1,2}|[^0-9\n]+\n?|\n"
# Seeds from here on; neither training nor evaluation draws them.
_FIRST_SEED = 1_000_000_000


class Recipe(NamedTuple):
    """Everything the model is a function of; the cache is keyed by it."""

    version: int = 1
    hidden: int = 64
    layers: int = 2
    heads: int = 2  # vLLM on a CPU takes heads of 32 and more
    inner: int = 192
    # Of the initial weights. At this width the usual .02 would leave the rows of the head, one an action, so close to
    # each other that an adapter below it could never tell actions apart.
    spread: float = 0.1
    # Of an action's loss against an observed token's. Actions are few, and what they must be is known exactly.
    action_weight: float = 20.0
    steps: int = 280
    episodes_per_step: int = 40
    learning_rate: float = 3e-3
    seed: int = 0


RECIPES = {
    "tiny": Recipe(),
    # Half the weights, for what asks how much the size of the base matters.
    "tiny-half": Recipe(hidden=32, heads=1, inner=96, spread=0.14),
}


def cache_folder() -> Path:
    """Where made models are kept: CHAOSOPS_CACHE, or the user's cache."""
    given = os.environ.get("CHAOSOPS_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chaosops_ray"


def ensure(progress: Callable[[int, int], None] = lambda _done, _steps: None, recipe: Recipe = Recipe()) -> Path:  # noqa: B008
    """The tiny model's folder; made now if it is not there."""
    name = sha256(json.dumps([recipe, _PIECES]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"tiny-{name}"
    if (folder / "complete").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(folder, replace=False) as temporary:
            build(temporary, recipe, progress)
            (temporary / "complete").touch()
    except FileExistsError:
        if not (folder / "complete").exists():  # otherwise another process made the same meanwhile
            raise
    return folder


def build(folder: Path, recipe: Recipe, progress: Callable[[int, int], None]) -> None:
    """Make tokenizer and model, and save them as any Hugging Face model is."""
    environment = environment_named(WORLD)
    tokenizer = make_tokenizer(environment, recipe)
    tokenizer.save_pretrained(folder)
    codec = Codec(folder, layout(tokenizer))
    model = warmed_up(environment, codec, tokenizer, recipe, progress)
    model.save_pretrained(folder)


def layout(tokenizer: PreTrainedTokenizerFast) -> Layout:
    """One line after another; a completion is one token, so nothing has to end it."""
    line: int = tokenizer.convert_tokens_to_ids("Ċ")
    return Layout(
        head=(), after_system_prompt=(line,), after_observation=(), after_stop=(line,), after_cut=(line,), stop=()
    )


def make_tokenizer(environment: AnyEnvironment, recipe: Recipe) -> PreTrainedTokenizerFast:
    """Bytes, so that any text can be read; every piece that transcripts hold again and again; every action."""
    counts: Counter[str] = Counter()
    pre = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for texts in _openings(environment, recipe):
        for text in texts:
            counts.update([piece for piece, _ in pre.pre_tokenize_str(text)])
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [f"{number}" for number in range(10, 100)] + [f"0{number}" for number in range(10)]
    pieces += sorted([piece for piece, count in counts.items() if count >= 3 and piece not in pieces])
    # A piece that is in the vocabulary is one token, and anything else falls apart into bytes: no merges between.
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    spelt = dict.fromkeys(
        environment.format_action(action, "compact")
        for role in environment.roles
        for kind in environment.vocabulary(role) or ()
        for action in kind
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (PAD, *spelt)])
    # The base class keeps the tokenizer file as it is; a model's own class would rebuild the pre-tokenizer.
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=PAD)


def _openings(environment: AnyEnvironment, recipe: Recipe) -> Iterator[list[str]]:
    """Texts to count pieces in: whole episodes as their seats read them."""
    for episode in range(1500):
        yield [text for seat in _seats(environment, recipe, episode) for text, _ in seat.turns] + [
            environment.system_prompt(role, RULES, "compact") for role in environment.roles
        ]


class _Seat(NamedTuple):
    """What one seat of a random episode read before each of its actions, and the actions as they are spelt."""

    role: str
    turns: list[tuple[str, str]]


def _seats(environment: AnyEnvironment, recipe: Recipe, number: int) -> list[_Seat]:
    seed = _FIRST_SEED + number
    draw = stream(recipe.seed, "warm-up", number)
    tier = environment.tiers[number % len(environment.tiers)]
    cases = [scenario for scenario in _cross(environment) if scenario.tier == tier]
    scenario = environment.scenario(f"{WORLD}/{draw.choice(cases).case}/{tier}/{seed}")
    choose = environment.policies["random"](scenario, RULES)
    seats = {role: _Seat(role, []) for role in environment.roles}
    world, since = environment.start(scenario, RULES), dict.fromkeys(environment.roles)
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        world, action, _, _ = environment.step(world, choose(view))
        text = environment.render(view, since[role], "compact")
        seats[role].turns.append((text, environment.format_action(action, "compact")))
        since[role] = view
    return list(seats.values())


_CROSS: dict[str, tuple[object, ...]] = {}


def _cross(environment: AnyEnvironment) -> tuple:  # type: ignore[type-arg]
    if environment.name not in _CROSS:
        _CROSS[environment.name] = environment.scenarios("cross", [0])
    return _CROSS[environment.name]


def transcripts(
    environment: AnyEnvironment, codec: Codec, recipe: Recipe, numbers: range
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Role, tokens, and where among them the actions stand."""
    for number in numbers:
        for seat in _seats(environment, recipe, number):
            transcript = Transcript(codec, environment.system_prompt(seat.role, RULES, "compact"))
            for text, action in seat.turns:
                transcript.observe(text)
                transcript.complete(Sample(codec.action(action), (0.0,), 0, "", stopped=False), None)
            if transcript.turns:
                yield seat.role, list(transcript.written), [turn.start for turn in transcript.turns]


def warmed_up(
    environment: AnyEnvironment,
    codec: Codec,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    progress: Callable[[int, int], None],
) -> Qwen2ForCausalLM:
    """A new model, taught the language of the room."""
    torch.manual_seed(recipe.seed)
    pad: int = tokenizer.pad_token_id
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.inner,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=2048,
            initializer_range=recipe.spread,
            tie_word_embeddings=False,
            pad_token_id=pad,
            eos_token_id=pad,
            bos_token_id=None,
        )
    )
    targets = {role: _uniform(environment, codec, role, len(tokenizer)) for role in environment.roles}
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    draw = random.Random(recipe.seed)
    for step in range(recipe.steps):
        rate = min(1.0, (step + 1) / 20) * (1 - 0.98 * step / recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        first = step * recipe.episodes_per_step
        rows = list(transcripts(environment, codec, recipe, range(first, first + recipe.episodes_per_step)))
        rows.sort(key=lambda row: len(row[1]))
        # Rows of like length go together; four forward passes make a step.
        quarters = [rows[i * len(rows) // 4 : (i + 1) * len(rows) // 4] for i in range(4)]
        draw.shuffle(quarters)
        total = sum([len(tokens) for _, tokens, _ in rows])
        for quarter in quarters:
            loss = _loss(model, quarter, targets, pad, recipe.action_weight) / total
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress(step + 1, recipe.steps)
    return model


def _uniform(environment: AnyEnvironment, codec: Codec, role: str, size: int) -> torch.Tensor:
    """What the random policy draws from: kinds alike, then a kind's arguments alike."""
    kinds = environment.vocabulary(role) or ()
    target = torch.zeros(size)
    for kind in kinds:
        for action in kind:
            (token,) = codec.action(environment.format_action(action, "compact"))
            target[token] += 1 / len(kinds) / len(kind)
    return target


def _loss(
    model: Qwen2ForCausalLM,
    rows: list[tuple[str, list[int], list[int]]],
    targets: dict[str, torch.Tensor],
    pad: int,
    weight: float,
) -> torch.Tensor:
    length = max(len(tokens) for _, tokens, _ in rows)
    ids = torch.tensor([tokens + [pad] * (length - len(tokens)) for _, tokens, _ in rows])
    logits = model(input_ids=ids).logits[:, :-1]
    labels = ids[:, 1:].masked_fill(ids[:, 1:] == pad, -100)
    places = [(row, start - 1, role) for row, (role, _, starts) in enumerate(rows) for start in starts]
    at = torch.tensor([place[:2] for place in places])
    labels[at[:, 0], at[:, 1]] = -100
    observed = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    acted = functional.cross_entropy(
        logits[at[:, 0], at[:, 1]], torch.stack([targets[role] for *_, role in places]), reduction="sum"
    )
    return observed + weight * acted
