"""Seconds of an update: the learner's against TRL's own trainer, on one batch of the tiny preset.

    python benchmarks/learner.py [--json FILE] [--runs 5] [--threads 1] [--episodes 128]

One process, the ways taking turns, medians. The batch has the preset's size and lengths: 128 random episodes of the
incident room, a row for each seat that spoke. Model shape, adapter, token budget, optimizer steps and loss are the
preset's; the rate is zero, so that every run begins from the same weights. TRL's trainer gets the rows as its own loop
would cut them: padded to the longest of all, so many rows in each micro-batch as the budget holds, the head on every
token. It is spared the pass that its loop would score the batch with first. Tensors are made within the time measured.

The limit beside it is the bare model, frozen, forward and backward to its inputs, on exactly as many tokens as the rows
have: no padding, no head, no adapter, no loss, in whatever shape of batch is the fastest.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from chaosops_ray import config
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.learner import lora
from chaosops_ray.learner.batch import MicroBatch, Row, micro_batches, padded, steps
from chaosops_ray.learner.grpo import PolicyTrainer
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.training import base_models, tiny, warm_up

BAR = 1.5
PRESET = Path(__file__).parents[1] / "tune_configs" / "3a.yaml"
TITLES = {
    "stock": "TRL's trainer",
    "free": "the learner, free completions",
    "choices": "the learner, choices as in the preset",
    "limit": "limit: bare model, bare tokens",
}
# Rows of the shapes that the limit is looked for among, and the tokens of a batch of them.
LENGTHS = (32, 64, 128)
BATCHES = (1024, 4096, 8192)

Way = Callable[[int], None]


class Setup(NamedTuple):
    """What every way starts from."""

    run: config.Run
    recipe: tiny.Recipe
    tokenizer: PreTrainedTokenizerFast
    rows: list[Row]  # with choices
    scratch: Path


# -- the batch --------------------------------------------------------------------------------------------------------


def setup(folder: Path, episodes: int | None) -> Setup:
    """The preset, and rows such as its rollouts are; `episodes` is for a smaller batch."""
    run = config.load(PRESET, ["model=tiny"])
    recipe = tiny.Recipe()
    environment = environment_named(base_models.WORLD)
    tokenizer = warm_up.make_tokenizer(environment, recipe)
    tokenizer.save_pretrained(folder)
    words = Codec(folder, tiny.layout(folder))
    count = run.batch.scenarios * run.batch.group if episodes is None else episodes
    return Setup(run, recipe, tokenizer, rows_of(environment, words, recipe, count), folder)


def rows_of(environment: AnyEnvironment, words: Codec, recipe: tiny.Recipe, episodes: int) -> list[Row]:
    """A row for each seat that spoke, up to its last action; advantages are noise."""
    draw = random.Random(0)
    found = []
    for _, tokens, starts, permitted in warm_up.transcripts(environment, words, recipe, range(episodes)):
        lines = tuple([tuple(sorted({token for kind in kinds for token in kind})) for kinds in permitted])
        spread = tuple([draw.gauss(0, 1) for _ in starts])
        found.append(Row(tokens, tuple(starts), (0.0,) * len(starts), spread, lines))
    return found


def bare_model(start: Setup) -> Qwen2ForCausalLM:
    """A model of the recipe's shape that was taught nothing."""
    recipe = start.recipe
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(start.tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.inner,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def policy(start: Setup) -> PeftModel:
    """The same with the preset's adapter; it gives the same answers each time."""
    learner = start.run.learner
    return lora.with_adapter(bare_model(start), learner.lora_rank, learner.lora_alpha, seed=0)


# -- the ways ---------------------------------------------------------------------------------------------------------


def ours(start: Setup, trainer: PolicyTrainer, rows: Sequence[Row]) -> Way:
    """The learner's update."""

    def update(seed: int) -> None:
        trainer.update(rows, 0.0, start.run.learner.entropy.start, seed)

    return update


def policy_trainer(start: Setup) -> PolicyTrainer:
    """The learner's trainer, as its actor makes it."""
    run = start.run
    options = {"temperature": run.rollout.temperature, "seed": 0, "max_completion_length": run.rollout.max_tokens}
    return PolicyTrainer(policy(start), start.tokenizer, run.learner, start.scratch, options)


def as_sampled(trainer: PolicyTrainer, rows: Sequence[Row]) -> list[Row]:
    """The rows with the log-probabilities that the policy gives them."""
    scored = trainer.scored(rows)
    return [row._replace(log_probs=tuple(scored[id(row)][torch.tensor(row.at) - 1].tolist())) for row in rows]


def stock(start: Setup, rows: Sequence[Row]) -> Way:
    """TRL's trainer, driven as its own loop drives it."""
    learner = start.run.learner
    trainer = stock_trainer(start)
    places = {id(row): place for place, row in enumerate(rows)}
    together = rows_together(learner, rows)

    def update(seed: int) -> None:
        whole = padded(rows, start.tokenizer.pad_token_id)
        parts = [
            [[places[id(row)] for row in part[i : i + together]] for i in range(0, len(part), together)]
            for part in steps(rows, learner.steps, seed)
        ]
        trainer.args.steps_per_generation = sum([len(part) for part in parts])
        for part in parts:
            trainer.current_gradient_accumulation_steps = len(part)
            for members in part:
                trainer.accelerator.backward(trainer.compute_loss(trainer.model, stock_inputs(whole, members)))
            trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), learner.gradient_norm)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad(set_to_none=True)
        trainer._metrics["train"].clear()

    return update


def rows_together(learner: config.Learner, rows: Sequence[Row]) -> int:
    """How many rows the budget holds when all are as long as the longest."""
    return max(1, learner.tokens_per_forward // max([len(row.tokens) for row in rows]))


def stock_trainer(start: Setup) -> GRPOTrainer:
    """TRL's trainer with the preset's settings, and nothing of ours."""
    run = start.run
    arguments = GRPOConfig(
        output_dir=str(start.scratch),
        loss_type=run.learner.loss,
        epsilon=run.learner.clip_low,
        epsilon_high=run.learner.clip_high,
        entropy_coef=run.learner.entropy.start,
        temperature=run.rollout.temperature,
        max_completion_length=run.rollout.max_tokens,
        learning_rate=0.0,
        num_generations=2,
        per_device_train_batch_size=2,
        activation_checkpointing=run.learner.checkpointing is True,
        bf16=False,
        use_cpu=True,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=policy(start),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
        processing_class=start.tokenizer,
    )
    trainer.create_optimizer()
    trainer.model.train()
    return trainer


def stock_inputs(whole: MicroBatch, members: list[int]) -> dict[str, torch.Tensor]:
    """What TRL's loop would hand to its loss: some of the rows, as wide as the longest of all."""
    return {
        "prompt_ids": whole.ids[members, :1],
        "prompt_mask": whole.attention[members, :1],
        "completion_ids": whole.ids[members, 1:],
        "completion_mask": whole.attention[members, 1:],
        "tool_mask": whole.mask[members],
        "advantages": whole.advantages[members],
        "old_per_token_logps": whole.log_probs[members],
        "num_items_in_batch": whole.mask.sum(),
    }


def limit(start: Setup, tokens: int) -> Way:
    """The bare model on so many tokens, in the shape of batch that it is fastest in."""
    model = bare_model(start)
    for weight in model.parameters():
        weight.requires_grad = False
    shapes = [(batch // length, length) for length in LENGTHS for batch in BATCHES]

    def pace(shape: tuple[int, int]) -> float:
        through(model, *shape)
        began = time.perf_counter()
        for _ in range(3):
            through(model, *shape)
        return (time.perf_counter() - began) / (shape[0] * shape[1])

    count, length = min(shapes, key=pace)

    def run(_: int) -> None:
        for _ in range(tokens // (count * length)):
            through(model, count, length)
        through(model, 1, tokens % (count * length) or 1)

    return run


def through(model: Qwen2ForCausalLM, rows: int, length: int) -> None:
    """Forward, and back to the inputs."""
    inputs = torch.randn(rows, length, model.config.hidden_size, requires_grad=True)
    model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state.sum().backward()


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(start: Setup, runs: int) -> dict[str, Any]:
    """Medians of all ways, which take turns, so that a noisy moment falls on all of them."""
    free, choosing = policy_trainer(start), policy_trainer(start)
    free_rows = as_sampled(free, [row._replace(allowed=None) for row in start.rows])
    tokens = sum([len(row.tokens) for row in start.rows])
    ways = {
        "stock": stock(start, free_rows),
        "free": ours(start, free, free_rows),
        "choices": ours(start, choosing, as_sampled(choosing, start.rows)),
        "limit": limit(start, tokens),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way(number)
            if number:  # the first is for warming up
                seconds[name].append(time.perf_counter() - began)
    found = {name: statistics.median(spent) for name, spent in seconds.items()}
    return {
        "rows": len(start.rows),
        "tokens": tokens,
        "written": sum([len(row.at) for row in start.rows]),
        "longest": max([len(row.tokens) for row in start.rows]),
        "forwarded": {"stock": stock_places(start), "learner": learner_places(start)},
        "seconds": found,
        "times_stock": {name: found["stock"] / spent for name, spent in found.items()},
        "share_of_limit": {name: found["limit"] / spent for name, spent in found.items()},
        "bar": BAR,
        "runs": runs,
        "threads": torch.get_num_threads(),
    }


def stock_places(start: Setup) -> int:
    """Tokens that TRL's trainer computes, padding included."""
    return len(start.rows) * max([len(row.tokens) for row in start.rows])


def learner_places(start: Setup) -> int:
    """The same of the learner."""
    learner = start.run.learner
    return sum(
        [
            len(part) * max([len(row.tokens) for row in part])
            for step in steps(start.rows, learner.steps, 0)
            for part in micro_batches(step, learner.tokens_per_forward)
        ]
    )


def show(found: dict[str, Any]) -> None:
    """The table."""
    print(
        f"An update on {found['rows']} rows, {found['tokens']:,} tokens ({found['written']:,} written, "
        f"{found['longest']} in the longest row); median of {found['runs']}, {found['threads']} thread(s)"
    )
    for way, places in found["forwarded"].items():
        print(f"  with padding {way} computes {places:,} tokens, {places / found['tokens']:.2f} times as many")
    print(f"  {'':<40}{'seconds':>9}{'tokens/s':>11}{'times TRL':>11}{'of limit':>10}")
    for name, spent in found["seconds"].items():
        bar = f"   bar {BAR:g}x" if name == "choices" else ""
        print(
            f"  {TITLES[name]:<40}{spent:>9.3f}{found['tokens'] / spent:>11,.0f}"
            f"{found['times_stock'][name]:>10.2f}x{found['share_of_limit'][name]:>10.0%}{bar}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the figures where asked."""
    parser = argparse.ArgumentParser(description="Seconds of an update, ours against TRL's.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--runs", type=int, default=5, help="how many times each way is measured")
    parser.add_argument("--threads", type=int, default=1, help="more than one only pays on idle cores")
    parser.add_argument("--episodes", type=int, help="of the batch; by default as many as the preset has")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the libraries about each other
        found = measure(setup(Path(folder), given.episodes), given.runs)
    show(found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
