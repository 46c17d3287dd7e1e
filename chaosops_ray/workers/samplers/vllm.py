"""The vLLM engine: every policy version is an adapter under its own name and id, never loaded in place.

Token ids go in and out; the engine has no tokenizer. It runs in a process of its own that ends with this one. Use and
close it from one event loop. The classes that vLLM loads in that process stand here as well: each side relies on the
other's names and ids.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Thread
from typing import Any, TypeVar

# vLLM reads these while it is imported; without them it reports usage and logs a lot.
os.environ["VLLM_NO_USAGE_STATS"] = os.environ["DO_NOT_TRACK"] = "1"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMError
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.usage.usage_lib import UsageContext
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from chaosops_ray.choice_tree import ChoiceTree, choice_tree, is_whole
from chaosops_ray.grammar import Writing, grammar
from chaosops_ray.plain_text import one_line
from chaosops_ray.store import versions
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest, next_tokens
from chaosops_ray.workers.samplers.sampler import BASE, SamplerError, check_choices, chosen, writing

# The ranks that the engine has kernels for.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Below this temperature, the engine would silently sample at it instead.
COLDEST = 0.01
_BATCH_INVARIANT, _INVARIANT_FROM = "VLLM_BATCH_INVARIANT", 90  # compute capability, times ten
CHOICES, FORCED, SCHEMA = "choices", "forced", "schema"
# A forced token keeps more than half of the probability: exp(-0.6) is 0.55. Log-probabilities down to -50 arrive within
# 1e-4, and those down to -10 within 1e-5.
_MOST_TOLD, _MIDDLE = 0.6, 10.0
_LOOK_EVERY = 1.0

Answer = TypeVar("Answer")


class OwnExecutor(UniProcExecutor):
    """Executor in the engine's process (on a CPU vLLM would start a third one); it ends with our process."""

    def _init_executor(self) -> None:
        # A process that exits ends its daemons; one that is killed does not, and the engine would keep its GPU.
        Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
        super()._init_executor()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


class AdapterCount:
    """Mix-in of the engine's worker that counts what an adapter is bound to."""

    model_runner: Any

    def bound_modules(self, adapter: int) -> int:
        """Count the matrices A of an adapter that belong to modules of the model, of fused modules (q, k, v) each."""
        manager = self.model_runner.lora_manager._adapter_manager
        weights = manager.get_adapter(adapter)
        if weights is None or adapter not in manager.lora_index_to_id:
            return 0
        bound = [found.lora_a for found in map(weights.get_lora, manager.modules) if found is not None]
        parts = [part for matrices in bound for part in (matrices if isinstance(matrices, list) else [matrices])]
        return len([part for part in parts if part is not None])


class ChoiceMask(AdapterLogitsProcessor):
    """Mask that leaves a request with choices of single tokens only these, and a forced one only its next token.

    A choice among several tokens is made of forced requests, one for each choice. Single tokens are drawn by vLLM
    itself among those that are permitted: one request of one step.
    """

    def is_argmax_invariant(self) -> bool:
        """Return False: the likeliest token may be masked, so greedy requests need the mask as well."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """Return the mask of one request, if it has one."""
        given = params.extra_args or {}
        forced: list[int] | None = given.get(FORCED)
        if forced is not None:
            return lambda written, logits: _forced(forced, len(written), logits)
        sent: list[list[int]] | None = given.get(CHOICES)
        if sent is None:
            return None
        choices = tuple([tuple(choice) for choice in sent])  # tuples arrive as lists
        return lambda written, logits: _masked(choices, tuple(written), logits)


def _forced(tokens: Sequence[int], place: int, logits: torch.Tensor) -> torch.Tensor:
    """Leave the token that comes next; let the log-probability that vLLM returns with it tell the one that it had.

    vLLM returns that of the masked logits, which would be 0. So one other token is left beside the forced one, as much
    below it as `_told` wants: the forced one stays the likeliest. Nothing is kept here that an aborted request could
    leave behind.
    """
    if place >= len(tokens):
        return logits  # as in `_masked`
    forced = tokens[place]
    told = _told((logits.logsumexp(-1) - logits[forced]).clamp(min=0))
    masked = torch.full_like(logits, -torch.inf)
    masked[forced] = 0.0
    masked[forced - 1] = told.expm1().log()  # the softmax of 0 and this is exp(-told) for the forced one
    return masked


def _told(surprise: torch.Tensor) -> torch.Tensor:
    """Return a number from 0 to _MOST_TOLD for one from 0 to infinity."""
    return _MOST_TOLD * (1 - _MIDDLE / (_MIDDLE + surprise))


def _meant(told: float) -> float:
    """Return the number that `_told` was given."""
    rest = 1 - told / _MOST_TOLD
    return math.inf if rest <= 0 else _MIDDLE / rest - _MIDDLE


def _masked(choices: tuple[Ids, ...], written: Ids, logits: torch.Tensor) -> torch.Tensor:
    following = next_tokens(choices, written)
    if not following:
        return logits  # a step that was scheduled before the end was known; its token is dropped
    allowed = torch.tensor(following, device=logits.device)
    masked = torch.full_like(logits, -torch.inf)
    masked[allowed] = logits[allowed]
    return masked


class SchemaMask(AdapterLogitsProcessor):
    """Mask that leaves a request with a JSON Schema only the tokens after which its object can still be ended."""

    def __init__(self, config: Any, device: torch.device, is_pin_memory: bool) -> None:
        super().__init__(config, device, is_pin_memory)
        self._model: str = config.model_config.model

    def is_argmax_invariant(self) -> bool:
        """Return False, as for choices."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """Return the mask of one request, if it has a schema."""
        schema: str | None = (params.extra_args or {}).get(SCHEMA)
        if schema is None:
            return None
        (stop,) = params.stop_token_ids
        completion, known = Writing(grammar(self._model, schema), params.max_tokens, stop), 0

        def mask(written: list[int], logits: torch.Tensor) -> torch.Tensor:
            nonlocal known
            while known < len(written) and not completion.is_done:
                completion.write(written[known])
                known += 1
            if completion.is_done:
                return logits  # a step that was scheduled before the end was known; its token is dropped
            allowed = torch.from_numpy(completion.allowed()).to(logits.device)
            masked = torch.full_like(logits, -torch.inf)
            masked[allowed] = logits[allowed]
            return masked

        return mask


def _check_batch_invariance() -> None:
    if not current_platform.is_cuda() or not current_platform.has_device_capability(_INVARIANT_FROM):
        raise SamplerError(
            "vllm has batch-invariant kernels only for NVIDIA GPUs of compute capability 9.0 (H100) and later; set "
            "resources.deterministic to false"
        )


class VllmSampler:
    """Engine that serves versions of one policy by vLLM.

    `context` is the longest transcript; `max_lora_rank` is rounded up to a rank that has kernels; `slots` versions can
    be loaded at a time. The cache takes the rest of `memory_share` of the GPU, on a CPU `cache_mib`. With `sleeps`,
    which needs a GPU, the engine can be released between adoptions. With `batch_invariant`, for which the GPU must be
    new enough, a request gives the same numbers whatever else is computed beside it.
    """

    def __init__(
        self,
        model: str,
        max_lora_rank: int,
        context: int,
        *,
        memory_share: float = 0.6,
        seed: int = 0,
        dtype: str = "auto",
        enforce_eager: bool = False,
        threads: int = 1,
        slots: int = 4,
        cache_mib: int = 256,
        sleeps: bool = False,
        batch_invariant: bool = False,
    ) -> None:
        on_cpu: bool = current_platform.is_cpu()
        if batch_invariant:
            _check_batch_invariance()
        if sleeps and on_cpu:
            raise SamplerError("vllm cannot sleep on a CPU; give sampler and learner memory of their own")
        rank = next((rank for rank in RANKS if rank >= max_lora_rank), None)
        if rank is None:
            raise SamplerError(f"vllm serves LoRA ranks up to {RANKS[-1]}, not {max_lora_rank}")
        arguments = AsyncEngineArgs(
            model=model,
            skip_tokenizer_init=True,
            generation_config="vllm",
            max_model_len=context,
            dtype=dtype,
            seed=seed,
            enforce_eager=enforce_eager,
            gpu_memory_utilization=memory_share,
            kv_cache_memory_bytes=cache_mib << 20 if on_cpu else None,
            block_size=32 if on_cpu else None,  # the CPU's default of 128 shares little of a short prompt
            # A prompt that is read in parts sets its seed's generator back a step, which only a GPU's can do.
            enable_chunked_prefill=not on_cpu,
            enable_prefix_caching=True,
            enable_lora=True,
            max_loras=slots,
            max_lora_rank=rank,
            enable_sleep_mode=sleeps,
            logprobs_mode="processed_logprobs",
            logits_processors=[f"{__name__}:{mask.__name__}" for mask in (ChoiceMask, SchemaMask)],
            worker_extension_cls=f"{__name__}.{AdapterCount.__name__}",
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        inherited = {"OMP_NUM_THREADS": str(threads)}
        if on_cpu:
            # By default, all engines of a machine bind their threads to the same cores.
            inherited["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        if enforce_eager:
            inherited["TORCHDYNAMO_DISABLE"] = "1"  # otherwise the first sample waits twenty seconds for a C++ compiler
        if batch_invariant:
            inherited[_BATCH_INVARIANT] = "1"  # read by the engine's process alone
        with _environment(inherited):
            try:
                # This context has the batch limits for sampling in bulk.
                config = arguments.create_engine_config(UsageContext.LLM_CLASS)
                if on_cpu:
                    heads, known = config.model_config.get_head_size(), CPUAttentionBackend.get_supported_head_sizes()
                    if heads not in known:  # the engine would start, and die at the first request
                        sizes = ", ".join(map(str, known))
                        raise ValueError(f"on a CPU there is no kernel for heads of {heads}, only for {sizes}")
                self._engine = AsyncLLM(config, OwnExecutor, log_stats=False, log_requests=False)
            except (VLLMError, RuntimeError, ValueError, OSError) as error:
                raise SamplerError(f"vllm did not start on {model}: {_line(error)}") from error
        self._model = model
        self._vocabulary: int = self._engine.model_config.get_vocab_size()
        self._slots = slots
        self._sleeps = sleeps
        self._asleep = False
        self._adapters: dict[int, tuple[LoRARequest, PolicyVersion]] = {}
        self._digests: dict[int, str] = {}  # of retired versions, too
        self._base: PolicyVersion | None = None
        self._names = count()
        self._running: dict[str, int | None] = {}

    async def adopt(self, version: PolicyVersion) -> int:
        """Check the adapter's digest and load it; return how many modules it is bound to."""
        await asyncio.to_thread(versions.verify, version)
        name, number, digest = version.name, version.number, version.digest
        known = self._digests.get(number, digest)
        if known != digest:
            # The cache of the known one would be used for this version.
            raise SamplerError(
                f"{name} was loaded with digest {known[:12]} and now has {digest[:12]}; use a new number"
            )
        if number not in self._adapters and len(self._adapters) == self._slots:
            # vLLM would silently unload the least recently used one.
            loaded = ", ".join([str(held) for held in sorted(self._adapters)])
            raise SamplerError(f"all {self._slots} slots are taken (by {loaded}); retire a version before {number}")
        if self._asleep:
            await self._call("wake up", self._engine.wake_up())
            self._asleep = False
        adapter = LoRARequest(name, number + 1, version.path)
        await self._call(f"load {name}", self._engine.add_lora(adapter))
        counted = self._engine.collective_rpc("bound_modules", args=(adapter.lora_int_id,))
        bound: int = (await self._call(f"count the modules of {name}", counted))[0]
        if bound:
            self._adapters[number], self._digests[number] = (adapter, version), digest
        else:
            await self._call(f"unload {name}", self._engine.remove_lora(adapter.lora_int_id))
        return bound

    async def adopt_base(self, digest: str) -> None:
        """Permit sampling of the base model."""
        self._base = PolicyVersion(BASE, digest, "")

    async def retire(self, number: int) -> None:
        """Forget a version, if it is loaded; its running requests end in an error."""
        if number not in self._adapters:
            return
        adapter, version = self._adapters.pop(number)
        # A running request would load its adapter again.
        await self._engine.abort([name for name, asked in self._running.items() if asked == number])
        await self._call(f"unload {version.name}", self._engine.remove_lora(adapter.lora_int_id))

    async def release(self) -> None:
        """Forget every version and give the GPU's memory back until the next `adopt`."""
        if not self._sleeps:
            raise SamplerError("this engine cannot give memory back; build it with sleeps=True, on a GPU")
        for number in list(self._adapters):
            await self.retire(number)
        self._asleep = True
        await self._call("sleep", self._engine.sleep(level=1))

    async def close(self) -> None:
        """End the engine's process. If its loop ends earlier, open sockets delay our exit."""
        self._engine.shutdown(timeout=1)

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """Return the log-probability of every token but the first.

        A text must be shorter than the context by one: vLLM always samples a token as well.
        """
        adapter = None if number is None else self._adapter(number)[0]
        return tuple(await self._alive(_all([self._score(text, adapter) for text in texts])))

    async def sample(
        self,
        cohort: str,  # noqa: ARG002 - the prefix cache finds the common parts of prompts itself
        requests: Sequence[SampleRequest],
        decoding: Decoding,
        number: int | None,
    ) -> list[Sample]:
        """Return a completion for each request, in order."""
        adapter, version = self._serving(number)
        if 0 < decoding.temperature < COLDEST:
            raise SamplerError(f"vllm samples greedily or from temperature {COLDEST} on, not at {decoding.temperature}")
        return await self._alive(_all([self._sample(request, decoding, adapter, version) for request in requests]))

    def _serving(self, number: int | None) -> tuple[LoRARequest | None, PolicyVersion]:
        if number is not None:
            return self._adapter(number)
        if self._base is None:
            raise SamplerError("the base model is not served here; adopt it explicitly, or name a policy version")
        return None, self._base

    def _adapter(self, number: int) -> tuple[LoRARequest, PolicyVersion]:
        if number not in self._adapters:
            raise SamplerError(f"policy-v{number} is not loaded here (loaded: {sorted(self._adapters) or 'none'})")
        return self._adapters[number]

    async def _score(self, text: Ids, adapter: LoRARequest | None) -> tuple[float, ...]:
        if len(text) == 1:
            return ()
        # With prompt_logprobs vLLM reads nothing from the prefix cache: every token is scored.
        wanted = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False, ignore_eos=True)
        found = (await self._generate(text, wanted, adapter)).prompt_logprobs
        return tuple([scores[token].logprob for token, scores in zip(text[1:], found[1:], strict=True)])

    async def _sample(
        self, request: SampleRequest, decoding: Decoding, adapter: LoRARequest | None, version: PolicyVersion
    ) -> Sample:
        choices, limit, stop = request.choices, decoding.max_tokens, list(decoding.stop)
        extra: dict[str, Any] | None = None
        if choices is not None:
            check_choices(choices, limit)
            self._check("a choice", [token for choice in choices for token in choice])
            if is_whole(choices):
                edges = await self._edges(request.prompt, choice_tree(choices), adapter)
                return chosen(request, edges, decoding, version.number, version.digest)
            limit, stop, extra = 1, [], {CHOICES: choices}
        elif writing(self._model, request, decoding) is not None:
            stop, extra = stop[:1], {SCHEMA: request.schema}
        with _reasons():
            wanted = SamplingParams(
                temperature=decoding.temperature,
                max_tokens=limit,
                seed=request.seed,
                stop_token_ids=stop,
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
                extra_args=extra,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        (completion,) = (await self._generate(request.prompt, wanted, adapter)).outputs
        tokens = tuple(completion.token_ids)
        if request.schema is not None and tokens[-1] not in stop:
            raise SamplerError("the context ended before an object was complete; raise resources.context")
        log_probs = tuple([scores[token].logprob for token, scores in zip(tokens, completion.logprobs, strict=True)])
        return Sample(tokens, log_probs, version.number, version.digest, stopped=tokens[-1] in decoding.stop)

    async def _edges(self, prompt: Ids, tree: ChoiceTree, adapter: LoRARequest | None) -> list[float]:
        """Return the log-probability of each edge of the tree; the prefix cache computes the prompt once."""
        found = [-math.inf] * len(tree.edges)
        leaves = [tree.choices[place] for place in tree.leaves]
        scores = await _all([self._follow(prompt, leaf, adapter) for leaf in leaves])
        # Computed side by side, common beginnings differ by rounding; those of the first choice count.
        for place, scored in reversed(list(zip(tree.leaves, scores, strict=True))):
            for edge, log_prob in zip(tree.paths[place], scored, strict=True):
                found[edge] = log_prob
        return found

    async def _follow(self, prompt: Ids, choice: Ids, adapter: LoRARequest | None) -> list[float]:
        """Return the log-probability of each token of a choice at temperature 1."""
        wanted = SamplingParams(
            temperature=0,
            max_tokens=len(choice),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
            extra_args={FORCED: choice},
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        (completion,) = (await self._generate(prompt, wanted, adapter)).outputs
        if tuple(completion.token_ids) != choice:
            raise SamplerError(f"the context ended before a choice was complete: {choice}; raise resources.context")
        return [-_meant(-scores[token].logprob) for token, scores in zip(choice, completion.logprobs, strict=True)]

    async def _generate(self, prompt: Ids, wanted: SamplingParams, adapter: LoRARequest | None) -> RequestOutput:
        if self._asleep:
            raise SamplerError("the engine is released; adopt a version first")
        self._check("a prompt", prompt)
        name = f"request-{next(self._names)}"
        self._running[name] = None if adapter is None else adapter.lora_int_id - 1
        output = None
        try:
            with _reasons():
                answers = self._engine.generate(tokens_input(list(prompt)), wanted, name, lora_request=adapter)
                async for answer in answers:
                    output = answer
        finally:
            del self._running[name]
        if output is None or output.outputs[0].finish_reason not in ("stop", "length"):
            raise SamplerError("a request was aborted: its version was retired, or the engine is closing")
        return output

    def _check(self, what: str, ids: Sequence[int]) -> None:
        # Without a tokenizer vLLM does not check this, and its process dies.
        if ids and not 0 <= min(ids) <= max(ids) < self._vocabulary:
            raise SamplerError(f"{what} holds a token beyond the model's vocabulary of {self._vocabulary}")

    async def _call(self, what: str, call: Awaitable[Answer]) -> Answer:
        try:
            return await self._alive(call)
        except SamplerError:
            raise
        except Exception as error:
            # Any failure inside the engine arrives as a bare Exception with a text.
            raise SamplerError(f"vllm could not {what}: {_line(error)}") from error

    async def _alive(self, work: Awaitable[Answer]) -> Answer:
        """Await the engine's answer, and watch the engine meanwhile: a killed one never answers."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_EVERY))[0]:
                if self._engine.errored:
                    raise SamplerError("vllm has died; build a new sampler")
            return task.result()
        finally:
            task.cancel()


async def _all(calls: Sequence[Awaitable[Answer]]) -> list[Answer]:
    """Return all answers in order; if one call fails, cancel the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _reasons() -> Iterator[None]:
    """Raise SamplerError for a dead engine, a refused request and a failed one."""
    try:
        yield
    except VLLMError as error:
        raise SamplerError(f"vllm: {_line(error.__cause__ or error)}") from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the engine's process; afterwards remove them, and those that vLLM added (LD_PRELOAD)."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _line(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}")
