"""The update, on TRL: its trainer owns loss, optimizer, clipping and the importance weights; we hand it the batch.

`train()` of TRL, which generates, scores and steps by itself, is never called. `update` supplies the inputs of the loss
(advantages and the sampler's log-probabilities for each token, the mask of written tokens) and makes the steps.
tests/learner/test_grpo_contract.py pins what is relied on; test_parity.py shows that loss and gradients are those of
the stock trainer.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from chaosops_ray.choice_tree import check_window
from chaosops_ray.config import Learner
from chaosops_ray.learner import checkpointing, packing
from chaosops_ray.learner.batch import MicroBatch, Row, Trees, micro_batches, padded, steps
from chaosops_ray.learner.packing import Line
from chaosops_ray.process_environment import hidden
from chaosops_ray.wire import ChoiceScore

with hidden("vllm"):  # TRL would import it, which takes seconds, and TRL generates nothing here
    from trl import GRPOConfig, GRPOTrainer

# So many logits are computed at once over large vocabularies, and where whole actions are scored: 128 MiB in fp32.
_LOGITS_AT_ONCE = 1 << 25
# Up to so many logits of a micro-batch, TRL's kernel takes them all: runs of tiny models stay the same, bit for bit.
_FEW_LOGITS = 1 << 22
# Keys of a model's configuration by which its logits are not just what its head computes.
_LOGITS_CHANGED_BY = (
    "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier",
)  # fmt: skip
# The figures of an update; those that TRL logs have its names in _LOGGED.
REPORTED = (
    "entropy",
    "clipped_low",
    "clipped_high",
    "gradient_norm",
    "mismatch",
    "mismatch_max",
    "importance_weight",
    "effective_sample_size",
)
_LOGGED = {
    "entropy": "entropy",
    "clip_ratio/low_mean": "clipped_low",
    "clip_ratio/high_mean": "clipped_high",
    "cispo_clip_ratio": "clipped_high",
}


# So many tokens of completions with a JSON Schema are scored at a time, each with logits for the whole vocabulary.
_LINES = 256


class PolicyTrainer(GRPOTrainer):
    """TRL's trainer with the log-probabilities taken only where the policy wrote, driven by `update`."""

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Learner,
        scratch: Path,
        options: dict[str, Any],
        checkpointed: int | None = None,
        *,
        packs: bool = False,
        choice_score: ChoiceScore = "mean",
    ) -> None:
        """Prepare the model; `checkpointed` of its layers are computed again, by default all unless it says false."""
        self.settings = settings
        self._choice_score = choice_score
        self._packs = packs
        if packs:
            packing.use(model.get_base_model())
        on_gpu = torch.cuda.is_available()
        arguments = GRPOConfig(
            output_dir=str(scratch),
            loss_type="grpo" if settings.loss == "gspo" else settings.loss,
            importance_sampling_level="sequence" if settings.loss == "gspo" else "token",
            epsilon=settings.clip_low,
            # For cispo, TRL's value is the cap of the ratio itself; for the others, its distance from 1.
            epsilon_high=1 + settings.clip_high if settings.loss == "cispo" else settings.clip_high,
            beta=settings.kl_coefficient,
            max_grad_norm=settings.gradient_norm,
            learning_rate=settings.learning_rate.start,
            lr_scheduler_type="constant",
            activation_checkpointing=False,  # of all layers or of none, and in `train()`, which is never called
            bf16=on_gpu,
            use_cpu=not on_gpu,
            # TRL's own loop never runs; these only have to be consistent.
            num_generations=2,
            per_device_train_batch_size=2,
            max_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings of the loop that is not used
            super().__init__(
                model=model,
                reward_funcs=lambda completions, **_: [0.0] * len(completions),
                args=arguments,
                train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
                processing_class=tokenizer,
            )
        if checkpointed is None:
            checkpointed = model.config.num_hidden_layers if settings.checkpointing else 0
        checkpointing.checkpoint(model.get_base_model(), checkpointed)
        # TRL applies the weights between sampler and learner only if it believes that vLLM sampled.
        self.use_vllm = True
        self.vllm_importance_sampling_correction = True
        self._entropy_bonus_enabled = True
        self.pad: int = tokenizer.pad_token_id
        self.create_optimizer()
        self._now: MicroBatch  # the one that is being scored
        self._scored: torch.Tensor  # its log-probabilities
        # What the loss is to take instead of scoring.
        self._known: tuple[torch.Tensor, torch.Tensor, None] | None = None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, _attention_mask: torch.Tensor, logits_to_keep: int, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return log-probabilities and entropies where the policy wrote, and zeros elsewhere; TRL's loss calls this.

        The head is computed only there too, except over small vocabularies on a CPU: TRL's kernel takes every place.
        """
        if self._known is not None:
            found, self._known = self._known, None
            return found
        now = self._now
        if now.trees is not None:
            log_probs, entropies = self._among_the_choices(model, now, now.trees)
        elif now.allowed is not None:
            log_probs, entropies = self._among_the_allowed(model, now, now.allowed)
        elif now.masks is not None or _has_a_large_head(self.accelerator.unwrap_model(model).get_base_model(), now.ids):
            log_probs, entropies = self._among_the_tokens(model, now)
        elif now.line is not None:
            log_probs, entropies = self._in_a_line(model, now, now.line)
        else:
            labels = input_ids.clone()
            labels[:, 0] = -100
            labels[:, 1:].masked_fill_(now.mask == 0, -100)
            with self.accelerator.autocast():
                outputs = model(input_ids=input_ids, attention_mask=_seen(now), labels=labels, fused_lm_head=True)
            log_probs, entropies = outputs.log_probs[:, -logits_to_keep:], outputs.entropy[:, -logits_to_keep:]
        self._scored = log_probs.detach()
        return log_probs, entropies, None

    def _among_the_tokens(self, model: Any, now: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same among all tokens, or among those that a JSON Schema permitted, some at a time.

        The head's part is computed again for the gradient: kept, the logits of a thousand tokens would take gigabytes.
        """
        rows, places = now.mask.nonzero(as_tuple=True)
        base = self.accelerator.unwrap_model(model).get_base_model()
        head = base.get_output_embeddings()
        with self.accelerator.autocast():
            hidden = _predicting(base.base_model, now)
        given, count = [hidden, now.ids[rows, places + 1]], max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
        if now.masks is not None and now.mask_of is not None:
            given, count = [*given, now.masks[now.mask_of]], _LINES

        def scored(states: torch.Tensor, written: torch.Tensor, *bits: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with self.accelerator.autocast():
                logits = head(states).float() / self.temperature
            for permitted in bits:
                logits = logits.masked_fill(~_unpacked(permitted, logits.shape[1]), -torch.inf)
            among = logits.log_softmax(-1)
            entropy = -(among.exp() * among.masked_fill(among.isneginf(), 0.0)).sum(-1)
            return among.gather(1, written[:, None])[:, 0], entropy

        parts = zip(*[torch.split(part, count) for part in given], strict=True)
        found = [checkpoint(scored, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        log_probs, entropies = [torch.cat(part) for part in zip(*found, strict=True)]
        empty = torch.zeros_like(now.mask)
        return empty.index_put((rows, places), log_probs), empty.index_put((rows, places), entropies)

    def _among_the_allowed(
        self, model: Any, now: MicroBatch, allowed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same where the engine had to choose: those of the choice among the allowed tokens."""
        rows, places = now.mask.nonzero(as_tuple=True)
        with self.accelerator.autocast():
            base = self.accelerator.unwrap_model(model).get_base_model()
            logits = base.lm_head(_predicting(base.model, now)).float() / self.temperature
        is_filling = allowed < 0
        among = logits.gather(1, allowed.clamp(min=0)).masked_fill(is_filling, -torch.inf).log_softmax(-1)
        which = (allowed == now.ids[rows, places + 1, None]).long().argmax(1, keepdim=True)
        entropy = -(among.exp() * among.masked_fill(is_filling, 0.0)).sum(-1)
        empty = torch.zeros_like(now.mask)
        log_probs = empty.index_put((rows, places), among.gather(1, which)[:, 0])
        return log_probs, empty.index_put((rows, places), entropy)

    def _among_the_choices(self, model: Any, now: MicroBatch, trees: Trees) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same of whole actions: those of the choice among all, with the gradient of all."""
        base = self.accelerator.unwrap_model(model).get_base_model()
        check_window(base.config, int(trees.positions.max()) + 1)
        with self.accelerator.autocast():
            found = base.model(
                input_ids=torch.cat([now.ids, trees.ids], dim=1),
                position_ids=trees.positions,
                attention_mask=_added(trees.sees, base.dtype),
                use_cache=False,
            ).last_hidden_state
            sources = found[trees.sources[:, 0], trees.sources[:, 1]]
            of_edges = self._edges(base.lm_head, base.config.vocab_size, sources, trees.edges)
        scores = of_edges[trees.paths.clamp(min=0)].masked_fill(trees.paths < 0, 0.0).sum(-1)
        if self._choice_score == "mean":
            scores = scores / (trees.paths >= 0).sum(-1)
        is_filling = trees.among < 0
        given = scores[trees.among.clamp(min=0)].masked_fill(is_filling, -torch.inf) / self.temperature
        among = given.log_softmax(-1)
        entropy = -(among.exp() * among.masked_fill(among.isneginf(), 0.0)).sum(-1)
        rows, places = now.mask.nonzero(as_tuple=True)
        empty = torch.zeros_like(now.mask)
        log_probs = empty.index_put((rows, places), among.gather(1, trees.chosen[:, None])[:, 0])
        return log_probs, empty.index_put((rows, places), entropy)

    @staticmethod
    def _edges(head: torch.nn.Module, vocabulary: int, sources: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of each edge at temperature 1.

        The head is computed for some of the sources at a time, and again in the backward pass: over a vocabulary of
        100,000, the logits of a thousand sources take 400 MB.
        """

        def scored(some: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = head(some).float()
            return logits[places, tokens] - logits.logsumexp(-1)[places]

        count = max(1, _LOGITS_AT_ONCE // vocabulary)
        found: list[torch.Tensor] = []
        for start in range(0, len(sources), count):
            own = edges[(edges[:, 0] >= start) & (edges[:, 0] < start + count)]
            given = sources[start : start + count], own[:, 0] - start, own[:, 1]
            found.append(checkpoint(scored, *given, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(found)

    def _in_a_line(self, model: Any, now: MicroBatch, line: Line) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same of free completions whose rows are in one line."""
        rows, places = now.mask.nonzero(as_tuple=True)
        at = line.where[rows, places]
        labels = torch.full_like(line.ids, -100)
        labels[0, at] = now.ids[rows, places + 1]
        with self.accelerator.autocast():
            base = self.accelerator.unwrap_model(model).get_base_model()
            outputs = base(**packing.inputs(line), shift_labels=labels, fused_lm_head=True)
        empty = torch.zeros_like(now.mask)
        found = (outputs.log_probs[0, at], outputs.entropy[0, at])
        return empty.index_put((rows, places), found[0]), empty.index_put((rows, places), found[1])

    def update(self, rows: Sequence[Row], rate: float, entropy: float, seed: int) -> dict[str, float]:
        """Make optimizer steps, each on a part of the rows; return the REPORTED figures."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = steps(rows, self.settings.steps, seed)
        # The first step is made by the policy that scores, so that its rows need no pass of their own.
        before = self.scored([row for part in parts[1:] for row in part]) if self.settings.recompute else None
        tally = Tally()
        for number, part in enumerate(parts):
            self._step_on(part, before, entropy, tally, is_first=number == 0)
        return tally.figures()

    def _step_on(
        self,
        part: Sequence[Row],
        before: dict[int, torch.Tensor] | None,
        entropy: float,
        tally: Tally,
        *,
        is_first: bool,
    ) -> None:
        items = sum([len(row.at) for row in part])
        for micro, members in self._micro_batches(part):
            # Counted here: whatever is asked of a GPU waits for all that it was given before.
            tokens = float(sum([len(row.at) for row in members]))
            # TRL averages micro-batches as if all had as many rows; this makes the sum the mean over the step's rows.
            # In losses that are a mean over tokens it cancels out of the normalizer.
            share = len(members) / len(part)
            self.current_gradient_accumulation_steps = 1 / share
            self.args.steps_per_generation = 1 / share
            # The bonus is a mean over tokens, whatever the loss.
            self.entropy_coef = entropy * tokens / items / share
            loss, ratios = self.loss_of(micro, members, before, items)
            self.accelerator.backward(loss)
            logged = self._metrics["train"]
            for theirs, name in _LOGGED.items():
                if theirs in logged:
                    tally.add(name, logged[theirs][-1], tokens)
            logged.clear()
            tally.add_ratios(ratios, self._scored - micro.log_probs, micro.mask, tokens, is_first=is_first)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.gradient_norm)
        if not math.isfinite(float(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(f"the gradient's norm is {float(norm)}; this step was not taken")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tally.add("gradient_norm", float(norm), 1.0)

    def loss_of(
        self, micro: MicroBatch, members: Sequence[Row], before: dict[int, torch.Tensor] | None, items: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return TRL's loss of a micro-batch, and the weights between sampler and learner."""
        reference = self._log_probs(micro, base=True) if self.settings.kl_coefficient else None
        self._now = micro
        old = micro.log_probs
        if before is not None:
            old = self._before(micro, members, before)
        ratios = (old - micro.log_probs).exp().clamp(max=self.settings.importance_cap)
        inputs = {
            "prompt_ids": micro.ids[:, :1],
            "prompt_mask": micro.attention[:, :1],
            "completion_ids": micro.ids[:, 1:],
            "completion_mask": micro.attention[:, 1:],
            "tool_mask": micro.mask,
            "advantages": micro.advantages,
            "old_per_token_logps": old,
            "importance_sampling_ratio": ratios,
            "num_items_in_batch": torch.tensor(float(items), device=micro.ids.device),
        }
        if reference is not None:
            inputs["ref_per_token_logps"] = reference
        # The dr_grpo loss is divided by the most items that a completion can have; an action is one, however long.
        self.max_completion_length = self.args.max_completion_length if micro.trees is None else 1
        return self.compute_loss(self.model, inputs), ratios

    def _before(self, micro: MicroBatch, members: Sequence[Row], before: dict[int, torch.Tensor]) -> torch.Tensor:
        """Return the log-probabilities under the policy before the update; in its first step, the present one."""
        if id(members[0]) in before:
            return pad_sequence([before[id(row)] for row in members], batch_first=True)
        width = micro.ids.shape[1] - 1
        self._known = self._get_per_token_logps_and_entropies(self.model, micro.ids, micro.attention, width)
        return self._known[0].detach()

    def _micro_batches(self, part: Sequence[Row]) -> list[tuple[MicroBatch, list[Row]]]:
        budget, device = self.settings.tokens_per_forward, self.accelerator.device
        # Trees of choices have a mask of their own, which a line does not know.
        alone = [row for row in part if not self._packs or row.choices is not None]
        found = [(padded(members, self.pad).to(device), members) for members in micro_batches(alone, budget)]
        in_lines = [row for row in part if self._packs and row.choices is None]
        for kind in sorted({row.kind for row in in_lines}):
            for families in packing.lines([row for row in in_lines if row.kind == kind], budget):
                members = [row for family in families for row in family.members]
                micro = padded(members, self.pad)._replace(line=packing.laid_out(families))
                found.append((micro.to(device), members))
        return found

    @torch.no_grad()
    def _log_probs(self, micro: MicroBatch, *, base: bool) -> torch.Tensor:
        self._now = micro
        width = micro.ids.shape[1] - 1
        with self.accelerator.unwrap_model(self.model).disable_adapter() if base else nullcontext():
            return self._get_per_token_logps_and_entropies(self.model, micro.ids, micro.attention, width)[0]

    def scored(self, rows: Sequence[Row]) -> dict[int, torch.Tensor]:
        """Return the rows' log-probabilities under the current policy, by the row's `id`."""
        found = {}
        for micro, members in self._micro_batches(rows):
            log_probs = self._log_probs(micro, base=False)
            for i, row in enumerate(members):
                found[id(row)] = log_probs[i, : len(row.tokens) - 1]
        return found

    def divergence(self, rows: Sequence[Row]) -> float:
        """Estimate the KL to the base on the sampled tokens, in nats per token.

        This is the mean difference d of log-probabilities. The estimator that is never negative, exp(-d) - 1 + d, is
        dominated by rare samples: on a policy whose KL was near 2 it jumped to 28.
        """
        count = min(len(rows), self.settings.kl_rows)
        chosen = [rows[i * len(rows) // count] for i in range(count)]
        total = tokens = 0.0
        for micro, _ in self._micro_batches(chosen):
            gap = self._log_probs(micro, base=False) - self._log_probs(micro, base=True)
            total += float((gap * micro.mask).sum())
            tokens += float(micro.mask.sum())
        return total / tokens


def _predicting(model: Any, now: MicroBatch) -> torch.Tensor:
    """Return the last hidden states that the written tokens are predicted from, row by row."""
    rows, places = now.mask.nonzero(as_tuple=True)
    hidden: torch.Tensor
    if now.line is None:
        hidden = model(input_ids=now.ids, attention_mask=_seen(now), use_cache=False).last_hidden_state
        return hidden[rows, places]
    hidden = model(**packing.inputs(now.line), use_cache=False).last_hidden_state
    return hidden[0, now.line.where[rows, places]]


def _seen(now: MicroBatch) -> torch.Tensor | None:
    """Return the mask of padding; a GPU needs none, since padding comes last, and its fastest kernels take none."""
    return None if now.ids.is_cuda else now.attention


def _has_a_large_head(base: Any, ids: torch.Tensor) -> bool:
    """Tell whether a CPU should compute the head only where the policy wrote; on a GPU, TRL's kernel does so itself.

    A model that scales or caps its logits is left to that kernel, which knows how.
    """
    config = base.config.get_text_config()
    is_plain = all(getattr(config, name, None) in (None, 1.0) for name in _LOGITS_CHANGED_BY)
    return is_plain and not ids.is_cuda and ids.numel() * base.get_output_embeddings().weight.shape[0] > _FEW_LOGITS


def _added(sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return which columns each one sees as what is added to the attention's scores."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def _unpacked(bits: torch.Tensor, width: int) -> torch.Tensor:
    """Return masks in bits as one truth value for each of `width` tokens; those beyond the bits are not permitted."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    found = ((bits[:, :, None] >> places) & 1).bool().flatten(1)[:, :width]
    return torch.nn.functional.pad(found, (0, width - found.shape[1]))


class Tally:
    """Weighted means of figures over micro-batches."""

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._ratios: list[torch.Tensor] = []
        self._pending: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, bool]] = []

    def add(self, name: str, value: float, weight: float) -> None:
        """Add a value of a figure."""
        self._values[name].append((value, weight))

    def add_ratios(
        self, ratios: torch.Tensor, gap: torch.Tensor, mask: torch.Tensor, count: float, *, is_first: bool
    ) -> None:
        """Add the weights between sampler and learner; before the first step also the gap between the two."""
        self._pending.append((ratios, gap, mask, count, is_first))

    def _settle(self) -> None:
        """Take the figures of what was added, at the end: to pick the written places is to wait for the GPU."""
        for ratios, gap, mask, count, is_first in self._pending:
            written = mask > 0
            self._ratios.append(gap[written].exp())
            if is_first:
                self.add("mismatch", float(gap[written].abs().mean()), count)
                self.add("mismatch_max", float(gap[written].abs().max()), count)
            self.add("importance_weight", float(ratios[written].mean()), count)
        self._pending.clear()

    def figures(self) -> dict[str, float]:
        """Return the mean of every figure, the maximum of `mismatch_max`, and the share of tokens that count."""
        self._settle()
        found = {
            name: sum([value * weight for value, weight in values]) / sum([weight for _, weight in values])
            for name, values in self._values.items()
        }
        found["mismatch_max"] = max([value for value, _ in self._values["mismatch_max"]])
        weights = torch.cat(self._ratios)
        found["effective_sample_size"] = float(weights.sum() ** 2 / (weights.square().sum() * len(weights)))
        return found
