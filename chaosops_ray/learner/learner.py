"""The learner: groups in, an adapter version out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from chaosops_ray.config import MADE_HERE, Run
from chaosops_ray.grammar import Writing, grammar
from chaosops_ray.learner import batch, checkpointing, kernels, lora, packing
from chaosops_ray.learner.adapter import adapter_files
from chaosops_ray.learner.advantage import advantages
from chaosops_ray.learner.checkpointing import Estimate
from chaosops_ray.learner.probe import probe
from chaosops_ray.store import versions
from chaosops_ray.wire import Files, Group, Ids, Probe

if TYPE_CHECKING:
    from chaosops_ray.learner.grpo import PolicyTrainer

# The files of a saved state.
_STATE, _DONE = "learner.pt", "done.json"


class Learner:
    """The holder of the policy's weights; it knows nothing of the loop, and acts on the weights and its arguments."""

    def __init__(
        self,
        run: Run,
        name: str,
        model: Path,
        base: str,
        weights: Mapping[str, Mapping[str, float]],
        estimate: Estimate | None = None,
    ) -> None:
        """Load the model; the estimate of an update's memory decides what `learner.checkpointing: auto` is."""
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(run.resources.learner_threads)
        repeats = run.resources.deterministic or not torch.cuda.is_available()
        # Of a GPU's operations, a few have no deterministic kernel; these warn.
        torch.use_deterministic_algorithms(repeats, warn_only=torch.cuda.is_available())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._run = run
        self._name = name
        self._base = base
        self._weights = weights
        loaded = lora.load_base(str(model), device)
        self._model = lora.with_adapter(loaded, run.learner.lora_rank, run.learner.lora_alpha, run.seed)
        self._modules = lora.bound_modules(self._model)
        self._path = model
        self._packs = packing.chosen(run.learner.packing, loaded, is_tiny=run.model in MADE_HERE)
        if run.learner.liger:
            kernels.apply(loaded)
        self._checkpointed = checkpointing.choose(
            run.learner.checkpointing, loaded.config.num_hidden_layers, estimate, self._room(estimate)
        )
        self._trainer: PolicyTrainer | None = None
        self._probed: Probe | None = None

    def _room(self, estimate: Estimate | None) -> int | None:
        """Return the memory that an update may take."""
        if estimate is None or estimate.room is not None or not torch.cuda.is_available():
            return None if estimate is None else estimate.room
        asked, total = self._run.resources, torch.cuda.get_device_properties(0).total_memory
        return checkpointing.room_on_a_gpu(total, asked.learner_gpus, alone=asked.colocate)

    def chosen(self) -> dict[str, str]:
        """Return what the learner decided about its way of computing, and why."""
        return {
            "checkpointing": self._checkpointed.why,
            "attention": self._attention(),
            "kernels": "liger-kernel" if self._run.learner.liger else "torch",
        }

    def _attention(self) -> str:
        """Return how attention is computed, and on what layout of rows."""
        base = self._model.get_base_model()
        if not self._packs:
            return f"{base.config._attn_implementation}, padded rows"
        queries = torch.empty(1, 1, 1, packing.head_width(base), dtype=base.dtype, device=base.device)
        kernel = "FlashAttention of torch" if packing.takes_flash(queries) else "sdpa, part by part"
        return f"{kernel}, rows in a line with shared openings"

    def prepare(self) -> PolicyTrainer:
        """Make the trainer, once. TRL takes seconds to load: publishing and probing do not wait for it."""
        if self._trainer is None:
            module = import_module("chaosops_ray.learner.grpo")
            rollout = self._run.rollout
            limits = {"temperature": rollout.temperature, "max_completion_length": rollout.max_tokens}
            tokenizer = PreTrainedTokenizerFast.from_pretrained(self._path)
            options = limits | {"seed": self._run.seed}
            # TRL wants a folder, and writes nothing into it: its own loop, which would, never runs.
            nowhere = Path(tempfile.gettempdir())
            self._trainer = module.PolicyTrainer(
                self._model,
                tokenizer,
                self._run.learner,
                nowhere,
                options,
                self._checkpointed.layers,
                packs=self._packs,
                choice_score=rollout.choice_score,
            )
        return self._trainer

    def update(self, groups: Sequence[Group], done: int) -> dict[str, float]:
        """Learn from the groups; `done` updates were made before."""
        settings, trainer = self._run.learner, self.prepare()
        rows = batch.rows(groups, advantages(groups, self._weights, self._run.credit), self._writes)
        rate = settings.learning_rate.at(done, self._run.updates)
        entropy = settings.entropy.at(done, self._run.updates)
        found = trainer.update(rows, rate, entropy, self._run.seed + done)
        return found | {
            "kl": trainer.divergence(rows),
            "learning_rate": rate,
            "entropy_coefficient": entropy,
            "tokens": float(sum([len(row.tokens) for row in rows])),
            "tokens_written": float(sum([row.written for row in rows])),
        }

    def _writes(self, schema: str, stop: int) -> Writing:
        """Return a completion of the schema before its first token, as the sampler began it."""
        return Writing(grammar(str(self._path), schema), self._run.rollout.max_tokens, stop)

    def adapter(self) -> Files:
        """Return the files of the current policy's adapter."""
        return adapter_files(self._model, self._name)

    def probe(self, texts: Sequence[Ids]) -> Probe:
        """Score the texts: a sampler must reproduce the scores before it serves."""
        self._probed = probe(self._model, texts, self._modules, self._probed)
        if self._run.resources.colocate and torch.cuda.is_available():
            torch.cuda.empty_cache()  # the engine that wakes up now wants the memory
        return self._probed

    def save(self, done: int) -> Files:
        """Return all that the next update depends on."""
        trained = [(name, weight) for name, weight in self._model.named_parameters() if weight.requires_grad]
        adapter = {name: weight.detach().cpu() for name, weight in trained}
        state = BytesIO()
        torch.save({"adapter": adapter, "optimizer": self.prepare().optimizer.state_dict()}, state)
        return {_STATE: state.getvalue(), _DONE: json.dumps({"done": done, "base": self._base}).encode()}

    def restore(self, saved: Files) -> None:
        """Go back to what `save` returned."""
        said = json.loads(saved[_DONE])
        if said["base"] != self._base:
            raise versions.AdapterError(
                f"the checkpoint after {said['done']} updates was trained on another base model "
                f"({said['base'][:12]}, not {self._base[:12]}); give the run its own model"
            )
        state = torch.load(BytesIO(saved[_STATE]), weights_only=True)
        own = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, value in state["adapter"].items():
                own[name].copy_(value)
        self.prepare().optimizer.load_state_dict(state["optimizer"])
