"""Supervised fine-tuning towards known distributions, on TRL: its SFTTrainer owns loop, optimizer, LoRA and precision.

Whoever draws the completions of a transcript knows the distribution that each of their tokens was drawn from. The loss
is the cross-entropy to this distribution instead of the one token that was drawn: what it teaches is the same, without
the noise of the draw. Only tokens of completions count.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import (
    AutoConfig,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
)

from chaosops_ray.config import ConfigError
from chaosops_ray.learner import lora
from chaosops_ray.process_environment import hidden
from chaosops_ray.wire import Ids

with hidden("vllm"):  # TRL would import it, which takes seconds, and TRL generates nothing here
    from trl import SFTConfig, SFTTrainer

IGNORED = -100
_DIVERGENCE = "divergence"
_WARM_UP_SHARE = 0.1  # of the steps, in which the learning rate rises
# Receives the steps done, and how far the model was from the wanted distribution in the last one, in nats a completion.
Progress: TypeAlias = Callable[[int, float], None]


class Target(NamedTuple):
    """The distribution that one token of a completion was drawn from."""

    at: int  # the token's place in the transcript
    ids: Ids
    shares: tuple[float, ...]


class Row(NamedTuple):
    """A transcript, the number of its completions, and the distribution of each of their tokens."""

    tokens: Ids
    completions: int
    targets: tuple[Target, ...]


class Settings(NamedTuple):
    """Settings of the fine-tuning."""

    steps: int
    rows: int  # in each step
    learning_rate: float
    rank: int
    tokens_per_forward: int
    checkpointing: bool
    threads: int
    seed: int


class DistributionTrainer(SFTTrainer):
    """TRL's trainer with whole distributions as targets, where its own loss takes one token."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the cross-entropy, as a mean over the tokens of the step's completions; the head sees no others."""
        rows, places = inputs["at"].unbind(1)
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        # Over all places, the logits of a large vocabulary would be most of the memory.
        hook = head.register_forward_pre_hook(lambda _head, given: (given[0][rows, places][None],))
        try:
            logits = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).logits[0]
        finally:
            hook.remove()
        log_probs = logits.float().log_softmax(-1)
        shares = inputs["shares"]
        total = -(shares * log_probs.gather(1, inputs["ids"])).sum()
        entropy = torch.special.entr(shares).sum()
        self._metrics["train"][_DIVERGENCE].append(float(total.detach() - entropy) / inputs["completions"])
        loss = total / (len(places) if num_items_in_batch is None else num_items_in_batch)
        return (loss, None) if return_outputs else loss


class _Watch(TrainerCallback):
    """The callback that passes the curve on."""

    def __init__(self, progress: Progress) -> None:
        self.curve: list[float] = []
        self._progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if logs is None or _DIVERGENCE not in logs:
            return  # the summary at the end
        if not math.isfinite(logs[_DIVERGENCE]):
            raise FloatingPointError(f"the loss of step {state.global_step} is not finite; lower the learning rate")
        self.curve.append(logs[_DIVERGENCE])
        self._progress(state.global_step, logs[_DIVERGENCE])


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of padded rows; `labels` marks the tokens that count, and Trainer counts them by it."""
    length = max([len(one["input_ids"]) for one in examples])
    width = max([len(ids) for one in examples for ids in one["ids"]])

    def padded(name: str, filling: int) -> torch.Tensor:
        return torch.tensor([[*one[name], *[filling] * (length - len(one[name]))] for one in examples])

    flat = [
        (row, at - 1, among, shares)  # the logits before a token are its own
        for row, one in enumerate(examples)
        for at, among, shares in zip(one["at"], one["ids"], one["shares"], strict=True)
    ]
    return {
        "input_ids": padded("input_ids", 0),
        "attention_mask": torch.tensor(
            [[place < len(one["input_ids"]) for place in range(length)] for one in examples]
        ).long(),
        "labels": padded("labels", IGNORED),
        "at": torch.tensor([(row, at) for row, at, _, _ in flat]),
        "ids": torch.tensor([[*among, *[0] * (width - len(among))] for _, _, among, _ in flat]),
        "shares": torch.tensor([[*shares, *[0.0] * (width - len(shares))] for _, _, _, shares in flat]),
        "completions": sum([one["completions"] for one in examples]),
    }


def example(row: Row) -> dict[str, Any]:
    """Return a row as TRL's data sets have them: labels only where the loss is taken."""
    counted = {target.at for target in row.targets}
    labels = [token if place in counted else IGNORED for place, token in enumerate(row.tokens)]
    columns = {name: [getattr(target, name) for target in row.targets] for name in Target._fields}
    return {"input_ids": row.tokens, "labels": labels, "completions": row.completions, **columns}


def rows_per_forward(rows: Sequence[Row], settings: Settings) -> int:
    """Return how many rows share a forward pass: as many as fit, and a step's rows divide into equal parts."""
    longest = max([len(row.tokens) for row in rows])
    return max(
        [
            n
            for n in range(1, settings.rows + 1)
            if settings.rows % n == 0 and n * longest <= settings.tokens_per_forward
        ],
        default=1,
    )


def fine_tuned(
    path: Path, rows: Sequence[Row], settings: Settings, progress: Progress
) -> tuple[PreTrainedModel, list[float]]:
    """Train LoRA on the rows, step by step in their order; return the model with it merged, and the curve."""
    prepare(settings.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = rows_per_forward(rows, settings)
    # Rows of similar length share a forward pass.
    ordered = [
        row
        for first in range(0, len(rows), settings.rows)
        for row in sorted(rows[first : first + settings.rows], key=lambda row: len(row.tokens))
    ]
    watch = _Watch(progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = DistributionTrainer(
            model=lora.load_base(str(path), device),
            args=SFTConfig(
                output_dir=tempfile.gettempdir(),  # TRL wants a folder, and with these settings writes nothing into it
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_steps=1,
                max_steps=settings.steps,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=settings.rows // size,
                train_sampling_strategy="sequential",
                dataset_kwargs={"skip_prepare_dataset": True},
                remove_unused_columns=False,
                learning_rate=settings.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=math.ceil(_WARM_UP_SHARE * settings.steps),
                max_grad_norm=1.0,
                gradient_checkpointing=settings.checkpointing,
                bf16=device == "cuda",
                use_cpu=device == "cpu",
                seed=settings.seed,
                data_seed=settings.seed,
            ),
            data_collator=collate,
            train_dataset=Dataset.from_list([example(row) for row in ordered]),
            processing_class=PreTrainedTokenizerFast.from_pretrained(path),
            callbacks=[watch],
            peft_config=LoraConfig(
                r=settings.rank,
                lora_alpha=2 * settings.rank,
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"learner.tokens_per_forward: {settings.tokens_per_forward} tokens at a time do not fit into the "
                "memory of this GPU; lower it"
            ) from None
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not isinstance(model, PeftModel):
        raise TypeError(f"TRL trained a {type(model).__name__}, not a model with LoRA")
    return model.merge_and_unload(), watch.curve


def prepare(threads: int) -> None:
    """Set what makes a model's figures the same every time on a CPU."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(not torch.cuda.is_available())


def loaded(path: Path) -> PreTrainedModel:
    """Load a model as the learner does, for `scores`."""
    return lora.load_base(str(path), "cuda" if torch.cuda.is_available() else "cpu").eval()


def save(model: PreTrainedModel, path: Path, folder: Path) -> None:
    """Write the weights into the folder, in the precision of the model in `path` that they came from."""
    dtype = AutoConfig.from_pretrained(path).dtype or torch.float32
    model.to(dtype).save_pretrained(folder)


@torch.inference_mode()
def scores(model: PreTrainedModel, prompt: Ids, choices: Sequence[Ids], tokens_per_forward: int) -> list[float]:
    """Return the log-probability of each choice as the whole completion of the prompt."""
    device = model.device
    cache = DynamicCache()
    first = model(
        input_ids=torch.tensor([prompt], device=device), past_key_values=cache, use_cache=True, logits_to_keep=1
    ).logits[:, -1:]
    found: list[float] = []
    longest = max([len(choice) for choice in choices])
    for part in _parts(choices, max(1, tokens_per_forward // (len(prompt) + longest))):
        ids = torch.tensor([[*choice, *[0] * (longest - len(choice))] for choice in part], device=device)
        copied = deepcopy(cache)
        copied.batch_repeat_interleave(len(part))
        after = model(input_ids=ids, past_key_values=copied, use_cache=True).logits[:, :-1]
        log_probs = torch.cat([first.expand(len(part), -1, -1), after], 1).float().log_softmax(-1)
        of_tokens = log_probs.gather(-1, ids[..., None])[..., 0].cpu()
        found += [float(row[: len(choice)].sum()) for row, choice in zip(of_tokens, part, strict=True)]
    return found


def _parts(choices: Sequence[Ids], size: int) -> Iterator[Sequence[Ids]]:
    for first in range(0, len(choices), size):
        yield choices[first : first + size]
