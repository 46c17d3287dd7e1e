"""The learner: groups in, an adapter version out."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from chaosops_ray.config import Run
from chaosops_ray.learner import batch, lora, publish
from chaosops_ray.learner.advantage import advantages
from chaosops_ray.learner.probe import probe
from chaosops_ray.store import versions
from chaosops_ray.store.files import naming
from chaosops_ray.wire import Group, Ids, PolicyVersion, Probe

if TYPE_CHECKING:
    from chaosops_ray.learner.grpo import PolicyTrainer

_STATE = "learner.pt"


class Learner:
    """The holder of the policy's weights; it knows nothing of the loop, and acts on the weights and its arguments."""

    def __init__(
        self, run: Run, name: str, model: Path, base: str, weights: Mapping[str, Mapping[str, float]], folder: Path
    ) -> None:
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(run.resources.learner_threads)
        torch.use_deterministic_algorithms(not torch.cuda.is_available())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._run = run
        # A path of this machine means nothing elsewhere; publish the folder's name instead.
        self._name = model.name if Path(name).expanduser().resolve() == model else name
        self._base = base
        self._weights = weights
        self._adapters = folder / "adapters"
        loaded = lora.load_base(str(model), device)
        self._model = lora.with_adapter(loaded, run.learner.lora_rank, run.learner.lora_alpha, run.seed)
        self._modules = lora.bound_modules(self._model)
        self._path = model
        self._scratch = folder / ".trl"
        self._trainer: PolicyTrainer | None = None
        self._probed: Probe | None = None

    def prepare(self) -> PolicyTrainer:
        """Make the trainer, once. TRL takes seconds to load: publishing and probing do not wait for it."""
        if self._trainer is None:
            module = import_module("chaosops_ray.learner.grpo")
            rollout = self._run.rollout
            limits = {"temperature": rollout.temperature, "max_completion_length": rollout.max_tokens}
            tokenizer = PreTrainedTokenizerFast.from_pretrained(self._path)
            options = limits | {"seed": self._run.seed}
            self._trainer = module.PolicyTrainer(self._model, tokenizer, self._run.learner, self._scratch, options)
        return self._trainer

    def update(self, groups: Sequence[Group], done: int) -> dict[str, float]:
        """Learn from the groups; `done` updates were made before."""
        settings, trainer = self._run.learner, self.prepare()
        rows = batch.rows(groups, advantages(groups, self._weights, self._run.credit))
        rate = settings.learning_rate.at(done, self._run.updates)
        entropy = settings.entropy.at(done, self._run.updates)
        found = trainer.update(rows, rate, entropy, self._run.seed + done)
        return found | {
            "kl": trainer.divergence(rows),
            "learning_rate": rate,
            "entropy_coefficient": entropy,
            "tokens": float(sum([len(row.tokens) for row in rows])),
            "tokens_written": float(sum([len(row.at) for row in rows])),
        }

    def publish(self, number: int) -> PolicyVersion:
        """Write the current policy as a version."""
        return publish.publish(self._model, self._adapters, number, self._base, self._name)

    def prune(self, keep: Collection[int]) -> None:
        """Delete all versions but these."""
        publish.prune(self._adapters, keep)

    def probe(self, texts: Sequence[Ids]) -> Probe:
        """Score the texts: a sampler must reproduce the scores before it serves."""
        self._probed = probe(self._model, texts, self._modules, self._probed)
        if self._run.resources.colocate and torch.cuda.is_available():
            torch.cuda.empty_cache()  # the engine that wakes up now wants the memory
        return self._probed

    def save(self, folder: Path, done: int) -> None:
        """Write all that the next update depends on; the caller makes the folder appear whole."""
        trained = [(name, weight) for name, weight in self._model.named_parameters() if weight.requires_grad]
        adapter = {name: weight.detach().cpu() for name, weight in trained}
        # By way of the memory, because on a full disk torch raises an error that does not say so.
        state = io.BytesIO()
        torch.save({"adapter": adapter, "optimizer": self.prepare().optimizer.state_dict()}, state)
        with naming(folder / _STATE):
            (folder / _STATE).write_bytes(state.getbuffer())
        (folder / "done.json").write_text(json.dumps({"done": done, "base": self._base}))

    def restore(self, folder: Path) -> None:
        """Go back to what `save` wrote."""
        said = json.loads((folder / "done.json").read_text())
        if said["base"] != self._base:
            raise versions.AdapterError(
                f"{folder} was trained on another base model ({said['base'][:12]}, not {self._base[:12]}); "
                "give the run its own model"
            )
        state = torch.load(folder / _STATE, weights_only=True)
        own = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, value in state["adapter"].items():
                own[name].copy_(value)
        self.prepare().optimizer.load_state_dict(state["optimizer"])
