"""The vLLM engine, versioned: every policy version is an adapter under its own name and id, never loaded in place.

Ids go in and ids come out; the engine has no tokenizer. It must be used from one event loop, and lives in a process of
its own that ends with this one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Thread
from typing import Any, TypeVar

# vLLM reads these while it is imported: it phones home and talks a lot otherwise.
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
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from chaosops_ray import versions
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest
from chaosops_ray.workers.samplers.sampler import SamplerError

# The ranks that the engine's kernels are made for.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Below, the engine would quietly sample at this temperature instead.
COLDEST = 0.01
CHOICES = "choices"
_ALIVE_EVERY = 1.0

Answer = TypeVar("Answer")


class ChoiceMask(AdapterLogitsProcessor):  # type: ignore[misc]
    """Runs inside the engine: of a request with choices, only the tokens that continue one of them are left."""

    def is_argmax_invariant(self) -> bool:
        """What is likeliest may be masked, so greedy requests are masked as well."""
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> Callable[[list[int], torch.Tensor], Any] | None:
        """The mask of one request; none where it has no choices."""
        choices = (params.extra_args or {}).get(CHOICES)
        return None if choices is None else lambda written, logits: _masked(choices, written, logits)


def _masked(choices: list[list[int]], written: list[int], logits: torch.Tensor) -> torch.Tensor:
    done = len(written)
    following = {choice[done] for choice in choices if len(choice) > done and choice[:done] == written}
    if not following:
        return logits  # a step that was scheduled before the end was known; its token is thrown away
    allowed = torch.tensor(sorted(following), device=logits.device)
    masked = torch.full_like(logits, float("-inf"))
    masked[allowed] = logits[allowed]
    return masked


class OwnExecutor(UniProcExecutor):  # type: ignore[misc]
    """Keeps the worker in the engine's process (on a CPU, vLLM would start a third), and ends that process with ours."""

    def _init_executor(self) -> None:
        # A daemon process is ended by its parent; a parent that was killed ends nobody.
        Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
        super()._init_executor()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ALIVE_EVERY)
    os._exit(1)


class AdapterCount:
    """Mixed into the engine's worker: what an adapter was really bound to."""

    model_runner: Any

    def bound_modules(self, adapter: int) -> int:
        """How many matrices A of the adapter stand in a slot of a module; fused ones (q, k, v) count apiece."""
        manager = self.model_runner.lora_manager._adapter_manager
        weights = manager.get_adapter(adapter)
        if weights is None or adapter not in manager.lora_index_to_id:
            return 0
        bound = [found.lora_a for found in map(weights.get_lora, manager.modules) if found is not None]
        parts = [part for matrices in bound for part in (matrices if isinstance(matrices, list) else [matrices])]
        return len([part for part in parts if part is not None])


class VllmSampler:
    """Serves versions of one policy by vLLM.

    `max_lora_rank` is rounded up to a rank that the engine has kernels for; `slots` versions can be loaded at a time.
    On a GPU the cache takes what is left of `memory_share`; on a CPU it has `cache_mib`. With `sleeps` the engine can be
    released between adoptions, which needs a GPU.
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
    ) -> None:
        on_cpu: bool = current_platform.is_cpu()
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
            block_size=32 if on_cpu else None,  # the CPU's default of 128 leaves little of a short prefix to share
            enable_prefix_caching=True,
            enable_lora=True,
            max_loras=slots,
            max_lora_rank=rank,
            enable_sleep_mode=sleeps,
            logprobs_mode="processed_logprobs",
            logits_processors=[f"{__name__}:{ChoiceMask.__name__}"],
            worker_extension_cls=f"{__name__}.{AdapterCount.__name__}",
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        inherited = {"OMP_NUM_THREADS": str(threads)}
        if on_cpu:
            # Bound threads of several engines, or of the learner, would share one core and leave the others idle.
            inherited["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        if enforce_eager:
            inherited["TORCHDYNAMO_DISABLE"] = "1"  # the first sample would wait for a C++ compiler otherwise
        with _environment(inherited):
            try:
                self._engine = AsyncLLM(
                    vllm_config=arguments.create_engine_config(),
                    executor_class=OwnExecutor,
                    log_stats=False,
                    log_requests=False,
                )
            except (VLLMError, RuntimeError, ValueError, OSError) as error:
                raise SamplerError(f"vllm did not start on {model}: {_line(error)}") from error
        self._vocabulary: int = self._engine.model_config.get_vocab_size()
        self._slots = slots
        self._sleeps = sleeps
        self._asleep = False
        self._adapters: dict[int, tuple[LoRARequest, PolicyVersion]] = {}
        self._digests: dict[int, str] = {}
        self._requests = count()
        self._running: dict[str, int | None] = {}
        self._busy = 0.0
        self._since = 0.0

    async def adopt(self, version: PolicyVersion) -> int:
        """Check the adapter's digest, load it under a name of its own; how many modules it was bound to.

        An adapter that was bound to none is not kept: asking for it raises.
        """
        known = self._digests.setdefault(version.number, version.digest)
        if known != version.digest:
            # The prefix cache is keyed by the name.
            raise SamplerError(f"{version.name} was {known[:12]} before and is {version.digest[:12]} now; versions never change")
        await asyncio.to_thread(versions.verify, version)
        if version.number not in self._adapters and len(self._adapters) == self._slots:
            loaded = ", ".join([str(number) for number in sorted(self._adapters)])
            raise SamplerError(f"all {self._slots} slots hold a version ({loaded}); retire one before {version.number}")
        if self._asleep:
            await self._call("wake up", self._engine.wake_up())
            self._asleep = False
        adapter = LoRARequest(version.name, version.number + 1, version.path)
        await self._call(f"load {version.name}", self._engine.add_lora(adapter))
        (bound,) = await self._call("count", self._engine.collective_rpc("bound_modules", args=(adapter.lora_int_id,)))
        if bound:
            self._adapters[version.number] = adapter, version
        else:
            await self._call(f"forget {version.name}", self._engine.remove_lora(adapter.lora_int_id))
        return int(bound)

    async def retire(self, number: int) -> None:
        """Forget a version, and end what is being sampled from it."""
        adapter, version = self._adapter(number)
        del self._adapters[number]
        # A request that went on would load its adapter again.
        await self._engine.abort([name for name, asked in self._running.items() if asked == number])
        await self._call(f"forget {version.name}", self._engine.remove_lora(adapter.lora_int_id))

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """The log-probability of every token but the first, at temperature 1; None asks the base model."""
        adapter = None if number is None else self._adapter(number)[0]
        return tuple(await self._alive(_all([self._score(text, adapter) for text in texts])))

    async def sample(
        self,
        cohort: str,  # noqa: ARG002 - the prefix cache finds by itself what prompts have in common
        requests: Sequence[SampleRequest],
        decoding: Decoding,
        number: int,
    ) -> list[Sample]:
        """A completion for each request, in order.

        Log-probabilities are of the distribution that was drawn from: at the temperature, among the choices. Greedy ones
        are at temperature 1.
        """
        adapter, version = self._adapter(number)
        if 0 < decoding.temperature < COLDEST:
            raise SamplerError(f"vllm samples greedily or from temperature {COLDEST} on, not at {decoding.temperature}")
        return await self._alive(_all([self._sample(request, decoding, adapter, version) for request in requests]))

    async def release(self) -> None:
        """Forget every version and put the engine to sleep; the next `adopt` wakes it."""
        if not self._sleeps:
            raise SamplerError("this engine cannot give memory back; make it with sleeps=True, on a GPU")
        for number in list(self._adapters):
            await self.retire(number)
        await self._call("sleep", self._engine.sleep(level=1))
        self._asleep = True

    def busy_seconds(self) -> float:
        """For how long at least one request has been with the engine."""
        return self._busy + (time.perf_counter() - self._since if self._running else 0.0)

    def close(self) -> None:
        """End the engine's process."""
        self._engine.shutdown(timeout=1)

    def _adapter(self, number: int) -> tuple[LoRARequest, PolicyVersion]:
        if number not in self._adapters:
            raise SamplerError(f"policy-v{number} is not loaded")
        return self._adapters[number]

    async def _score(self, text: Ids, adapter: LoRARequest | None) -> tuple[float, ...]:
        if len(text) == 1:
            return ()
        # At least one token has to be sampled. Prompts that are scored never read the prefix cache.
        with _reasons():
            wanted = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False, ignore_eos=True)
        output = await self._generate(text, wanted, adapter)
        found = output.prompt_logprobs
        if found is None or len(found) != len(text):
            raise SamplerError("vllm did not score the whole text")
        return tuple([scores[token].logprob for token, scores in zip(text[1:], found[1:], strict=True)])

    async def _sample(
        self, request: SampleRequest, decoding: Decoding, adapter: LoRARequest, version: PolicyVersion
    ) -> Sample:
        stop, extra = list(decoding.stop), {}
        if request.choices is not None:
            self._check("a choice", [token for choice in request.choices for token in choice])
            stop, extra = _ends(request.choices, decoding.max_tokens), {CHOICES: request.choices}
        with _reasons():
            wanted = SamplingParams(
                temperature=decoding.temperature,
                max_tokens=min(decoding.max_tokens, max(map(len, request.choices))) if request.choices else decoding.max_tokens,
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
        if request.choices is not None and tokens not in request.choices:
            raise SamplerError("vllm ended at its context before it had written out a choice")
        log_probs = tuple([scores[token].logprob for token, scores in zip(tokens, completion.logprobs, strict=True)])
        return Sample(tokens, log_probs, version.number, version.digest, stopped=tokens[-1] in decoding.stop)

    async def _generate(self, prompt: Ids, wanted: SamplingParams, adapter: LoRARequest | None) -> RequestOutput:
        if self._asleep:
            raise SamplerError("the engine is released; adopt a version first")
        self._check("a prompt", prompt)
        name = f"request-{next(self._requests)}"
        if not self._running:
            self._since = time.perf_counter()
        self._running[name] = None if adapter is None else adapter.lora_int_id - 1
        output = None
        try:
            with _reasons():
                async for output in self._engine.generate(tokens_input(list(prompt)), wanted, name, lora_request=adapter):
                    pass
        finally:
            del self._running[name]
            if not self._running:
                self._busy += time.perf_counter() - self._since
        if output is None or output.outputs[0].finish_reason not in ("stop", "length"):
            raise SamplerError("a request was ended before it was done: its version was retired, or the engine is stopping")
        return output

    def _check(self, what: str, ids: Sequence[int]) -> None:
        # Without a tokenizer vLLM does not look, and its process dies of it.
        if not all(0 <= token < self._vocabulary for token in ids):
            raise SamplerError(f"{what} holds a token beyond the model's vocabulary of {self._vocabulary}")

    async def _call(self, what: str, call: Awaitable[Answer]) -> Answer:
        try:
            return await self._alive(call)
        except SamplerError:
            raise
        except Exception as error:
            # Whatever fails inside the engine arrives as a bare Exception with a text.
            raise SamplerError(f"vllm could not {what}: {_line(error)}") from error

    async def _alive(self, work: Awaitable[Answer]) -> Answer:
        """What the engine answers; one that was killed never would, so it is watched meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_ALIVE_EVERY))[0]:
                if self._engine.errored:
                    raise SamplerError("vllm has died; a new sampler must be made")
            return task.result()
        finally:
            task.cancel()


def _ends(choices: Sequence[Ids], limit: int) -> list[int]:
    """The tokens at which a request with these choices is over."""
    if not choices or not all(choices):
        raise SamplerError("a request has no choices, or an empty one")
    if (longest := max(map(len, choices))) > limit:
        raise SamplerError(f"a choice of {longest} tokens does not fit into max_tokens {limit}")
    ends = {choice[-1] for choice in choices}
    if ends.isdisjoint([token for choice in choices for token in choice[:-1]]):
        return sorted(ends)
    if len(set(map(len, choices))) == 1:
        return []  # all of a length, which is then the limit
    raise SamplerError("vllm takes choices of different lengths only if the last token of each stands nowhere else in them")


async def _all(calls: Sequence[Awaitable[Answer]]) -> list[Answer]:
    """All answers in order; if one fails, the rest are not waited for but ended."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _reasons() -> Iterator[None]:
    """A dead engine, a refused request, a failed one: all are the engine's word to the caller."""
    try:
        yield
    except VLLMError as error:
        raise SamplerError(f"vllm: {_line(error.__cause__ or error)}") from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that the engine's process is to inherit; what vLLM sets for it (LD_PRELOAD) is none of our children's."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
