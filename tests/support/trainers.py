"""The learner's trainer under watch, and rows of random tokens for it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from chaosops_ray.choice_tree import choice_tree
from chaosops_ray.config import Learner
from chaosops_ray.learner.batch import Choice, Row
from chaosops_ray.learner.grpo import PolicyTrainer
from tests.support.models import VOCABULARY

TEMPERATURE = 0.8
LONGEST = 16
PAD = "<pad>"
# What the constructors of TRL 1.16 and PEFT 0.21 run into under transformers 5.13 and later.
HARMLESS = ("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning",)


def tokenizer() -> PreTrainedTokenizerFast:
    """One word for each id of the small model; 0 is padding, and ends a text."""
    words = {PAD: 0} | {f"t{number}": number for number in range(1, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token=PAD)), pad_token=PAD, eos_token=PAD
    )


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    """A copy of the gradients as they are, by parameter."""
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad and weight.grad is not None
    }


class Watched(PolicyTrainer):
    """The trainer as it is; what each of its optimizer steps is made of is written down beside it."""

    def __init__(
        self, model: PeftModel, settings: Learner, scratch: Path, checkpointed: int | None = None, **how: Any
    ) -> None:
        options = {"temperature": TEMPERATURE, "seed": 0, "max_completion_length": LONGEST}
        super().__init__(model, tokenizer(), settings, scratch, options, checkpointed, **how)
        self.losses: list[float] = []  # of each micro-batch
        self.seen: list[dict[str, torch.Tensor]] = []  # the gradients of each optimizer step, after clipping
        self.optimizer.register_step_pre_hook(lambda *_: self.seen.append(gradients(model)))

    def loss_of(self, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """As it is, written down."""
        loss, ratios = super().loss_of(*arguments)
        self.losses.append(float(loss.detach()))
        return loss, ratios


def random_row(draw: random.Random, opening: int, turns: int, choices: int | None = None) -> Row:
    """A row that ends with its last turn; with `choices`, each written token is one of up to so many."""
    tokens = [draw.randrange(1, VOCABULARY) for _ in range(opening)]
    at: list[int] = []
    spread: list[float] = []
    lines: list[tuple[int, ...]] = []
    for turn in range(turns):
        tokens += [draw.randrange(1, VOCABULARY) for _ in range(draw.randint(1, 6) if turn else 0)]
        advantage = draw.gauss(0, 1)
        for _ in range(draw.randint(1, 4)):
            line = sorted(draw.sample(range(1, VOCABULARY), draw.randint(1, choices or VOCABULARY - 1)))
            at.append(len(tokens))
            spread.append(advantage)
            lines.append(tuple(line))
            tokens.append(draw.choice(line))
    sampled = tuple([-2 * draw.random() for _ in at])
    return Row(tuple(tokens), tuple(at), sampled, tuple(spread), tuple(lines) if choices else None)


def choosing_row(draw: random.Random, opening: int, turns: int, most: int = 6) -> Row:
    """A row of whole actions that differ in length, share beginnings, and begin one another; it ends with its last."""
    tokens = [draw.randrange(1, VOCABULARY) for _ in range(opening)]
    at: list[int] = []
    choices: list[Choice] = []
    for turn in range(turns):
        tokens += [draw.randrange(1, VOCABULARY) for _ in range(draw.randint(1, 6) if turn else 0)]
        offered = [
            tuple([draw.randrange(1, 4) for _ in range(draw.randint(1, 5))]) for _ in range(draw.randint(1, most))
        ]
        offered.append((*offered[0], draw.randrange(1, VOCABULARY)))
        tree = choice_tree(tuple(offered))
        chosen = draw.randrange(len(tree.choices))
        at.append(len(tokens))
        choices.append(Choice(tree, chosen))
        tokens += tree.choices[chosen]
    spread = tuple([draw.gauss(0, 1) for _ in at])
    return Row(tuple(tokens), tuple(at), tuple([-2 * draw.random() for _ in at]), spread, choices=tuple(choices))


def choosing_rows(seed: int) -> list[Row]:
    """Half a dozen such rows of very different lengths."""
    draw = random.Random(seed)
    return [choosing_row(draw, draw.choice((2, 5, 40)), draw.choice((1, 2, 5))) for _ in range(6)]


def random_rows(seed: int, choices: int | None = None) -> list[Row]:
    """A dozen rows of very different lengths and numbers of written tokens."""
    draw = random.Random(seed)
    return [random_row(draw, draw.choice((2, 5, 40)), draw.choice((1, 2, 9)), choices) for _ in range(12)]


def sampled_by(trainer: PolicyTrainer, rows: list[Row], noise: float) -> list[Row]:
    """The rows as if the policy had sampled them, but for this much noise in what the sampler said of it."""
    draw = random.Random(0)
    scored = trainer.scored(rows)
    return [
        row._replace(log_probs=tuple([float(scored[id(row)][place - 1]) + draw.gauss(0, noise) for place in row.at]))
        for row in rows
    ]
