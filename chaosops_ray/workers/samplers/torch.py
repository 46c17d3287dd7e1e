"""The embedded engine: any causal language model of transformers, its adapters through peft, in plain PyTorch.

A cohort's prompts grow from call to call, so what was computed for them is kept: a call computes only what is new. A
sample depends on weights, prompt and seed; rows are computed side by side and do not influence each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftConfig, PeftModel, PeftModelForCausalLM, load_peft_weights
from safetensors import SafetensorError
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from chaosops_ray.choice_tree import ChoiceTree, check_window, choice_tree, is_whole
from chaosops_ray.config import CACHE_SHARE
from chaosops_ray.grammar import Writing
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.rng import stream
from chaosops_ray.store import versions
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest, next_tokens
from chaosops_ray.workers.memory import permitted
from chaosops_ray.workers.samplers.sampler import BASE, SamplerError, check_choices, chosen, writing

# Where choices are scored, the logits and the mask that are computed at once have at most so many numbers: 128 MiB in
# single precision.
_AT_ONCE = 1 << 25


class _Kept(NamedTuple):
    """The keys and values of a cohort: of which rows and tokens, and where they are in the cache."""

    version: int
    rows: tuple[int, ...]
    tokens: tuple[Ids, ...]
    mask: torch.Tensor
    cache: DynamicCache

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        tensors = [self.mask, *[one for layer in self.cache.layers for one in (layer.keys, layer.values)]]
        return sum([int(one.nbytes) for one in tensors])


class TorchSampler:
    """Engine that serves versions of one policy from this process."""

    def __init__(
        self,
        model: Path | str,
        threads: int,
        device: str | None = None,
        cache_share: float = CACHE_SHARE,
        memory: int | None = None,
    ) -> None:
        """Load the model; at most `cache_share` of the memory is for what is kept of cohorts.

        `memory` is what there is, in bytes; None means all that this process or its GPU may have.
        """
        torch.set_num_threads(threads)
        self._folder = str(model)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        try:
            self._base = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(self._device).eval()
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise SamplerError(f"torch cannot load {model}: {one_line(error)}") from error
        self._model: PeftModel | None = None
        self._loaded: dict[int, PolicyVersion] = {}
        self._base_digest: str | None = None
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        if memory is None:
            memory = torch.cuda.mem_get_info()[1] if self._device == "cuda" else permitted()
        self._cache_bytes = int(cache_share * memory)

    async def adopt(self, version: PolicyVersion) -> int:
        """Check the adapter's digest and load it; return how many modules it is bound to."""
        versions.verify(version)
        known = self._loaded.get(version.number)
        if known is None:
            self._load(version)
        elif known.digest != version.digest:
            raise SamplerError(
                f"policy version {version.number} is loaded already, with digest {known.digest[:12]}; take a new number"
            )
        bound = self._bound(version)
        if bound:
            self._loaded[version.number] = version
        else:
            self._unload(version.name)
        return bound

    async def adopt_base(self, digest: str) -> None:
        """Permit sampling of the base model."""
        self._base_digest = digest

    def _load(self, version: PolicyVersion) -> None:
        try:
            config = PeftConfig.from_pretrained(version.path)
            if self._model is None:
                self._model = PeftModelForCausalLM(self._base, config, adapter_name=version.name)
            self._model.load_adapter(version.path, adapter_name=version.name)
            self._model.eval()
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            self._unload(version.name)
            raise SamplerError(
                f"{version.name} does not fit this base model ({one_line(error)}); load the base that it was trained on"
            ) from error

    def _unload(self, name: str) -> None:
        """Remove an adapter, also a half-loaded one: its loaded part would act on the base model, too."""
        if self._model is not None and not self._loaded:
            self._base, self._model = self._model.unload(), None
        elif self._model is not None and name in self._model.peft_config:
            self._model.delete_adapter(name)

    def _bound(self, version: PolicyVersion) -> int:
        """Count the modules that hold what was published for them.

        PEFT makes modules as the adapter's configuration says; those without weights in the file stay as initialised.
        """
        published = load_peft_weights(version.path, device="cpu")
        bound = 0
        for path, module in self._model.named_modules() if self._model is not None else ():
            if version.name in getattr(module, "lora_A", {}):
                weights = {side: getattr(module, side)[version.name].weight for side in ("lora_A", "lora_B")}
                bound += all(_holds(weights[side], published.get(f"{path}.{side}.weight")) for side in weights)
        return bound

    async def retire(self, number: int) -> None:
        """Forget a version, if it is loaded."""
        if number not in self._loaded or self._model is None:
            return
        name = self._loaded.pop(number).name
        if self._loaded:
            self._model.set_adapter(next(iter(self._loaded.values())).name)
        self._unload(name)
        for cohort in [cohort for cohort, kept in self._kept.items() if kept.version == number]:
            del self._kept[cohort]

    async def release(self) -> None:
        """Drop what is kept for cohorts; weights stay where they are."""
        self._kept.clear()
        if self._device == "cuda":
            torch.cuda.empty_cache()

    async def close(self) -> None:
        """Free the weights."""
        del self._base, self._model
        await self.release()

    @contextmanager
    def _working(self, number: int | None) -> Iterator[PreTrainedModel]:
        """Give the model with this version's adapter, or without one for None.

        PEFT puts adapters into the base model itself.
        """
        with torch.inference_mode():
            if number is None:
                with nullcontext() if self._model is None else self._model.disable_adapter():
                    yield self._base
            elif self._model is None or number not in self._loaded:
                loaded = sorted(self._loaded) or "none"
                raise SamplerError(f"policy version {number} is not loaded here, only {loaded}; adopt it first")
            else:
                name = self._loaded[number].name
                if self._model.active_adapter != name:
                    self._model.set_adapter(name)
                yield self._base

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """Return the log-probability of every token but the first."""
        scores = []
        with self._working(number) as model:
            for text in texts:
                ids = torch.tensor([text], device=self._device)
                log_probs = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
                scores.append(tuple(log_probs.gather(-1, ids[0, 1:, None])[:, 0].tolist()))
        return tuple(scores)

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int | None
    ) -> list[Sample]:
        """Return a completion for each request."""
        if not requests:
            return []
        with self._working(number) as model:
            signature = self._signature(number)
            for request in requests:
                if request.choices is not None:
                    check_choices(request.choices, decoding.max_tokens)
            return self._complete(model, cohort, requests, decoding, signature)

    def _signature(self, number: int | None) -> tuple[int, str]:
        """Return the version and digest that samples carry."""
        if number is not None:
            return number, self._loaded[number].digest
        if self._base_digest is None:
            raise SamplerError("the base model is not served here; adopt it explicitly, or name a policy version")
        return BASE, self._base_digest

    def _complete(
        self,
        model: PreTrainedModel,
        cohort: str,
        requests: Sequence[SampleRequest],
        decoding: Decoding,
        signature: tuple[int, str],
    ) -> list[Sample]:
        """Return the sample of each row; keep what was computed of the prompts and of what was written token by token.

        A choice among several tokens is made at once. Its tokens are read with what comes next.
        """
        number = signature[0]
        rows = tuple([request.row for request in requests])
        prompts = [request.prompt for request in requests]
        kept = _narrowed(self._kept.pop(cohort, None), number, rows, prompts)
        trees = {i: choice_tree(one.choices) for i, one in enumerate(requests) if one.choices and is_whole(one.choices)}
        found: dict[int, Sample] = {}
        tokens: list[list[int]] = [[] for _ in requests]
        log_probs: list[list[float]] = [[] for _ in requests]
        writings = [writing(self._folder, request, decoding) for request in requests]
        going = [i for i in range(len(requests)) if i not in trees]
        for place in range(decoding.max_tokens):
            logits, kept = self._feed(model, number, kept, rows, prompts)
            if place == 0:
                for i, edges in self._edges(model, kept, trees, logits).items():
                    found[i] = chosen(requests[i], edges, decoding, *signature)
                if not going:
                    break
            _mask(logits, requests, tokens, writings, going)
            drawn, drawn_log_probs = _draw(logits[going], [requests[i] for i in going], decoding, place)
            for i, token, log_prob in zip(going, drawn, drawn_log_probs, strict=True):
                tokens[i].append(token)
                log_probs[i].append(log_prob)
                if (written := writings[i]) is not None:
                    written.write(token)
            going = [i for i in going if not _is_done(requests[i], tokens[i], decoding)]
            if not going:
                break
            # Rows that are done have nothing to add; they stay, since their cohort comes back with all of them.
            for i in going:
                prompts[i] = (*requests[i].prompt, *tokens[i])
        if kept is not None:
            self._kept[cohort] = kept
            total = sum([one.size for one in self._kept.values()])
            while total > self._cache_bytes:
                total -= self._kept.popitem(last=False)[1].size
        return [
            found[i]
            if i in found
            else Sample(tuple(tokens[i]), tuple(log_probs[i]), *signature, tokens[i][-1] in decoding.stop)
            for i in range(len(requests))
        ]

    def _edges(
        self, model: PreTrainedModel, kept: _Kept, trees: Mapping[int, ChoiceTree], first: torch.Tensor
    ) -> dict[int, list[float]]:
        """Return the log-probability of each edge of the rows' trees; `first` are the logits after the prompts.

        Nodes are read in parts, so that memory is bounded. What is kept stays that of the prompts.
        """
        if not trees:
            return {}
        width = max([len(tree.tokens) for tree in trees.values()])
        try:
            check_window(model.config, max(map(len, kept.tokens)) + max([max(tree.depths) for tree in trees.values()]))
        except ValueError as error:
            raise SamplerError(str(error)) from error
        ids, positions = torch.zeros(2, len(kept.rows), width, dtype=torch.long)
        # A place that is only padding sees itself, since a softmax over nothing is no number.
        sees = torch.eye(width, dtype=torch.bool).repeat(len(kept.rows), 1, 1)
        found = {}
        for i, tree in trees.items():
            nodes = len(tree.tokens)
            ids[i, :nodes] = torch.tensor(tree.tokens, dtype=torch.long)
            positions[i, :nodes] = len(kept.tokens[i]) - 1 + torch.tensor(tree.depths, dtype=torch.long)
            node, above = tree.ancestors()
            sees[i, node, above] = True
            found[i] = _of_edges(tree, first[i : i + 1], -1)
        ids, positions, sees = [one.to(self._device) for one in (ids, positions, sees)]
        widest = max(first.shape[1], kept.mask.shape[1] + width)
        part = max(1, _AT_ONCE // (len(kept.rows) * widest))
        before = [(layer.keys, layer.values) for layer in kept.cache.layers]
        for start in range(0, width, part):
            end = min(start + part, width)
            prompt = kept.mask[:, None, :].bool().expand(-1, end - start, -1)
            mask = torch.cat([prompt, sees[:, start:end, :end]], dim=2)
            logits = model(
                input_ids=ids[:, start:end],
                attention_mask=_added(mask, model.dtype),
                position_ids=positions[:, start:end],
                past_key_values=kept.cache,
                use_cache=True,
            ).logits
            for i, tree in trees.items():
                found[i] += _of_edges(tree, logits[i], start)
        for layer, (keys, values) in zip(kept.cache.layers, before, strict=True):
            layer.keys, layer.values = keys, values
        return found

    def _feed(
        self, model: PreTrainedModel, number: int, kept: _Kept | None, rows: tuple[int, ...], prompts: Sequence[Ids]
    ) -> tuple[torch.Tensor, _Kept]:
        """Return the logits after each prompt that has grown, and what is now kept of all of them."""
        known = kept.tokens if kept is not None else ((),) * len(rows)
        new = [prompt[len(start) :] for prompt, start in zip(prompts, known, strict=True)]
        columns = (
            [torch.tensor(part, dtype=torch.long) for part in new],
            [torch.arange(len(start), len(prompt)) for prompt, start in zip(prompts, known, strict=True)],
            [torch.ones(len(part), dtype=torch.long) for part in new],
        )
        ids, positions, mask = [pad_sequence(column, batch_first=True).to(self._device) for column in columns]
        whole = mask if kept is None else torch.cat([kept.mask, mask], dim=1)
        cache = DynamicCache() if kept is None else kept.cache
        lasts = [max(0, len(part) - 1) for part in new]
        ends = sorted(set(lasts))
        logits = model(
            input_ids=ids,
            attention_mask=whole,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(ends, device=self._device),
        ).logits
        last = torch.tensor([ends.index(place) for place in lasts], device=self._device)
        chosen = logits[torch.arange(len(rows), device=self._device), last].float()
        return chosen, _Kept(number, rows, tuple(prompts), whole, cache)


def _holds(loaded: torch.Tensor, published: torch.Tensor | None) -> bool:
    return published is not None and torch.equal(loaded.cpu(), published.to(loaded.dtype))


def _is_done(request: SampleRequest, written: Sequence[int], decoding: Decoding) -> bool:
    """Tell whether a completion is at its end."""
    if request.choices is not None:
        return tuple(written) in request.choices
    return written[-1] in decoding.stop or len(written) == decoding.max_tokens


def _narrowed(kept: _Kept | None, number: int, rows: tuple[int, ...], prompts: Sequence[Ids]) -> _Kept | None:
    """Return what is kept, cut to these rows; None unless it is of this version and the prompts continue it."""
    if kept is None or kept.version != number:
        return None
    places = {row: place for place, row in enumerate(kept.rows)}
    if any(row not in places for row in rows):
        return None
    chosen = [places[row] for row in rows]
    tokens = tuple([kept.tokens[place] for place in chosen])
    for start, prompt in zip(tokens, prompts, strict=True):
        if len(start) >= len(prompt) or prompt[: len(start)] != start:
            return None
    if chosen != list(range(len(kept.rows))):
        kept.cache.batch_select_indices(torch.tensor(chosen, device=kept.mask.device))
        return _Kept(number, rows, tokens, kept.mask[chosen], kept.cache)
    return kept._replace(tokens=tokens)


def _of_edges(tree: ChoiceTree, logits: torch.Tensor, start: int) -> list[float]:
    """Return the log-probabilities of the edges from these nodes: their logits are given, the first is node `start`."""
    nodes = range(start, start + len(logits))
    pairs = [(node - start, token) for node, token in tree.edges if node in nodes]
    if not pairs:
        return []
    places, tokens = torch.tensor(pairs, device=logits.device).T
    scored = logits.float()
    return (scored[places, tokens] - scored.logsumexp(-1)[places]).tolist()


def _added(sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a mask for each query, of the shape (rows, queries, keys), as what is added to the attention's scores."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def _mask(
    logits: torch.Tensor,
    requests: Sequence[SampleRequest],
    written: Sequence[Sequence[int]],
    writings: Sequence[Writing | None],
    going: Sequence[int],
) -> None:
    """Leave each of the rows that go on only the tokens that may come next."""
    for row in going:
        choices, completion = requests[row].choices, writings[row]
        if choices is not None:
            ids = torch.tensor(next_tokens(choices, tuple(written[row])), device=logits.device)
        elif completion is not None:
            ids = torch.from_numpy(completion.allowed()).to(logits.device)
        else:
            continue
        masked = torch.full_like(logits[row], -torch.inf)
        masked[ids] = logits[row, ids]
        logits[row] = masked


def _draw(
    logits: torch.Tensor, requests: Sequence[SampleRequest], decoding: Decoding, place: int
) -> tuple[list[int], list[float]]:
    """Choose a token for each row: the inverse of the distribution at a number that depends on the seed alone."""
    log_probs = (logits if decoding.temperature == 0 else logits / decoding.temperature).log_softmax(-1)
    if decoding.temperature == 0:
        chosen = logits.argmax(-1)
    else:
        drawn = [stream(request.seed, "token", place).uniform() for request in requests]
        # In double precision, so that rounding of the sum hardly ever decides; the last bin takes what is missing to 1.
        heights = log_probs.double().exp().cumsum(-1)
        level = torch.tensor(drawn, dtype=torch.float64, device=logits.device)[:, None] * heights[:, -1:]
        chosen = torch.searchsorted(heights, level, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]
    return chosen.tolist(), log_probs.gather(-1, chosen[:, None])[:, 0].tolist()
