"""The learner: groups in, an adapter version out."""

from __future__ import annotations

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
from chaosops_ray.wire import Group, Ids, PolicyVersion, Probe

if TYPE_CHECKING:
    from chaosops_ray.learner.grpo import PolicyTrainer

_STATE = "learner.pt"
_TRAINER = "chaosops_ray.learner.grpo"


class Learner:
    """Holds the policy's weights and nothing of the loop: what it does is a function of them and its arguments."""

    def __init__(
        self, run: Run, name: str, model: Path, base: str, weights: Mapping[str, Mapping[str, float]], folder: Path
    ) -> None:
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(run.resources.learner_threads)
        torch.use_deterministic_algorithms(not torch.cuda.is_available())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._run = run
        # A folder of this machine says nothing elsewhere; what it is called may.
        self._name = model.name if Path(name).expanduser().resolve() == model else name
        self._base = base
        self._weights = weights
        self._adapters = folder / "adapters"
        settings = run.learner
        self._model = lora.with_adapter(
            lora.load_base(str(model), device), settings.lora_rank, settings.lora_alpha, run.seed
        )
        self._modules = lora.bound_modules(self._model)
        self._path = model
        self._scratch = folder / ".trl"
        self._trainer: PolicyTrainer | None = None
        self._probed: Probe | None = None

    def prepare(self) -> PolicyTrainer:
        """Make the trainer, once. TRL takes seconds to load: publishing and probing do not wait for it."""
        if self._trainer is None:
            run = self._run
            self._trainer = import_module(_TRAINER).PolicyTrainer(
                self._model,
                PreTrainedTokenizerFast.from_pretrained(self._path),
                run.learner,
                self._scratch,
                {
                    "temperature": run.rollout.temperature,
                    "seed": run.seed,
                    "max_completion_length": run.rollout.max_tokens,
                },
            )
        return self._trainer

    def update(self, groups: Sequence[Group], done: int) -> dict[str, float]:
        """Learn from the groups; `done` updates were made before."""
        settings, trainer = self._run.learner, self.prepare()
        credited = advantages(groups, self._weights, self._run.credit)
        rows = batch.rows(groups, credited)
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
        """Write the policy as it is now."""
        return publish.publish(self._model, self._adapters, number, self._base, self._name)

    def prune(self, keep: Collection[int]) -> None:
        """Delete the versions that nobody needs."""
        publish.prune(self._adapters, keep)

    def probe(self, texts: Sequence[Ids]) -> Probe:
        """What a sampler has to reproduce of it."""
        self._probed = probe(self._model, texts, self._modules, self._probed)
        if self._run.resources.colocate and torch.cuda.is_available():
            torch.cuda.empty_cache()  # the engine that wakes up now wants the memory
        return self._probed

    def save(self, folder: Path, done: int) -> None:
        """All that the next update depends on; the folder is the caller's to make appear whole."""
        adapter = {
            name: parameter.detach().cpu()
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad
        }
        torch.save({"adapter": adapter, "optimizer": self.prepare().optimizer.state_dict()}, folder / _STATE)
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
