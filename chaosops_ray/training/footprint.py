"""The memory that the actors of a run need, and whether a machine has it. Neither Ray nor torch is imported.

Everything that depends on the model is computed from its files: the weights from the headers of the safetensors, the
rest from config.json. The published models are known without their files. What the libraries take was measured and is a
constant. docs/training.md says what is counted, and benchmarks/footprint.py compares it with what is measured.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from math import ceil, floor, prod
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from chaosops_ray.agents.seat import Seat
from chaosops_ray.agents.tokens import TOKENIZER_FILE
from chaosops_ray.config import AUTO, ConfigError, Run
from chaosops_ray.learner.checkpointing import Chosen, Estimate, choose, room_on_a_gpu
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.training import plan
from chaosops_ray.training.transcripts import chooses_whole_actions, texts
from chaosops_ray.workers.memory import permitted

MIB, GIB = 1 << 20, 1 << 30
# Resident memory of processes that have loaded their libraries and hold no model yet, measured with the pinned versions
# on a CPU (ray 2.60, torch 2.13, transformers 5.23, peft 0.21, trl 1.16, vllm 0.29). With CUDA it is more.
_LEARNER, _TORCH_SAMPLER, _VLLM_SAMPLER, _SHARD, _DRIVER, RAY = (
    720 * MIB, 620 * MIB, 1900 * MIB, 155 * MIB, 320 * MIB, 650 * MIB,
)  # fmt: skip
_CUDA = 2 * GIB  # what the same processes take more with CUDA
_CONTEXT = GIB // 2  # of a GPU's memory, for a process that uses it at all
# A transcript's token in Python: a pointer and an integer, and where the policy wrote it a few numbers more.
_TOKEN = 40
# TRL's kernel scores so many tokens at a time, and so many entries of the vocabulary.
_TILE = (4096, 32768)
# Of completions of a JSON Schema, so many tokens at a time, and all of the vocabulary.
_SCHEMA_LINES = 256
# Copies of a tile that it holds at once on a CPU, as its gradient is computed; a GPU's kernel works in one, in place.
_TILE_COPIES = 9
# Copies of the logits of completions of a schema: logits, those permitted, probabilities, and gradients.
_SCHEMA_COPIES = 8
# Up to so many logits of a micro-batch on a CPU, that kernel is used for all tokens; above, other copies are held.
_FEW_LOGITS, _LINE_COPIES = 1 << 22, 7
# So many logits at a time, in the learner over a large vocabulary and of choices among whole actions in both.
_LOGITS_AT_ONCE = 1 << 25
# So many places of a text that proves a version, in the torch engine.
_SCORED_AT_ONCE = 128
VLLM_CPU_CACHE = 256 * MIB
# Ray ends a process of a machine that has used up this share of its memory.
USABLE = 0.95
_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
# The name of a tensor of a numbered layer; embeddings and head are in none, and get no adapter.
_OF_A_LAYER = re.compile(r"\.[0-9]+\..*weight$")


class UnknownError(ValueError):
    """The need for memory cannot be computed; the message says why."""


class Shape(NamedTuple):
    """What of a model decides about memory; of its weights as the files hold them."""

    parameters: int
    sides: int  # of all matrices that get an adapter: rows and columns, so that an adapter has rank × sides parameters
    adapted: int  # the number of these matrices
    layers: int
    hidden: int
    inner: int
    heads: int
    pairs: int  # heads of keys and values
    head: int  # width of a head
    vocabulary: int


def shape(folder: Path) -> Shape:
    """Read the shape of a model from its config.json and from the headers of its safetensors."""
    path = folder / "config.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        given = described.get("text_config") or described
        layers, hidden, heads = (int(given[key]) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
        inner, vocabulary = int(given["intermediate_size"]), int(given["vocab_size"])
        pairs, head = int(given.get("num_key_value_heads") or heads), int(given.get("head_dim") or hidden // heads)
    except KeyError as error:
        raise UnknownError(f"{path} has no {error.args[0]}") from None
    except (OSError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UnknownError(f"{path} cannot be read ({error})") from None
    if min(layers, hidden, inner, heads, pairs, head, vocabulary) < 1:
        raise UnknownError(f"{path} describes no model: one of its sizes is below 1")
    sizes = _tensors(folder)
    adapted = [size for name, size in sizes.items() if len(size) == 2 and _OF_A_LAYER.search(name)]
    return Shape(
        parameters=sum(map(prod, sizes.values())),
        sides=sum([rows + columns for rows, columns in adapted]),
        adapted=len(adapted),
        layers=layers,
        hidden=hidden,
        inner=inner,
        heads=heads,
        pairs=pairs,
        head=head,
        vocabulary=vocabulary,
    )


def _tensors(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors by their names."""
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    try:
        if index.is_file():
            files = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        found: dict[str, tuple[int, ...]] = {}
        for file in files:
            with file.open("rb") as opened:
                header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            found |= {name: tuple(map(int, one["shape"])) for name, one in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UnknownError(f"the weights in {folder} cannot be read ({error})") from None
    if not found:
        raise UnknownError(f"{folder} has no safetensors")
    return found


def _qwen2(hidden: int, layers: int, heads: int, pairs: int, inner: int, vocabulary: int, *, tied: bool) -> Shape:
    """Return the shape of a Qwen2 model: a layer has seven matrices, three of them with biases, and two norms."""
    keys = pairs * hidden // heads
    matrices = [(hidden, hidden), (keys, hidden), (keys, hidden), (hidden, hidden)]
    matrices += [(inner, hidden), (inner, hidden), (hidden, inner)]
    layer = sum(map(prod, matrices)) + hidden + 2 * keys + 2 * hidden
    return Shape(
        parameters=layers * layer + hidden + (1 if tied else 2) * hidden * vocabulary,
        sides=layers * sum(map(sum, matrices)),
        adapted=layers * len(matrices),
        layers=layers,
        hidden=hidden,
        inner=inner,
        heads=heads,
        pairs=pairs,
        head=hidden // heads,
        vocabulary=vocabulary,
    )


# The models of the published runs, by their config.json: their needs are known before they are downloaded.
PUBLISHED = {
    "Qwen/Qwen2.5-1.5B-Instruct": _qwen2(1536, 28, 12, 2, 8960, 151_936, tied=True),
    "Qwen/Qwen2.5-3B-Instruct": _qwen2(2048, 36, 16, 2, 11008, 151_936, tied=True),
    "Qwen/Qwen2.5-7B-Instruct": _qwen2(3584, 28, 28, 4, 18944, 152_064, tied=False),
}
# Characters of the worlds' texts for each token of a tokenizer that is not on this machine, at least and at most. With
# SmolLM2's, whose vocabulary is a third of Qwen2.5's, the texts of both worlds have 3.2 in the full style.
CHARACTERS = (2.8, 4.2)


class Known(NamedTuple):
    """What is known of a model: its shape, and how many tokens it makes of a text, at least and at most."""

    shape: Shape
    tokens: Callable[[str], tuple[int, int]]


def known(folder: Path) -> Known:
    """Read from its folder what is known of a model."""
    return Known(shape(folder), _counter(folder))


def published(name: str) -> Known | None:
    """Return what is known of a published model without its files; None for any other model."""
    if name not in PUBLISHED:
        return None
    least, most = CHARACTERS
    return Known(PUBLISHED[name], lambda text: (int(len(text) / most), ceil(len(text) / least)))


def _counter(folder: Path) -> Callable[[str], tuple[int, int]]:
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:
        # The library raises a bare Exception for a file that is missing or bad.
        raise UnknownError(f"{folder / TOKENIZER_FILE} cannot be read ({error})") from error

    @lru_cache(10_000)
    def count(text: str) -> tuple[int, int]:
        found = len(tokenizer.encode(text, add_special_tokens=False).ids)
        return found, found

    return count


class Need(NamedTuple):
    """What one kind of process needs: bytes by what they are for, of the machine's memory and of a GPU's."""

    name: str
    processes: int
    memory: dict[str, int]
    gpu: dict[str, int]

    @property
    def each(self) -> int:
        """Bytes of the machine's memory that one of them needs."""
        return sum(self.memory.values())


LIBRARIES = "libraries"
_ENGINE = "the vllm engine's share"
# What to change for less of each part.
REMEDIES = {
    "weights": "use a smaller model",
    "adapters": "lower learner.lora_rank",
    "adapter and optimizer": "lower learner.lora_rank",
    "activations": "lower learner.tokens_per_forward, or set learner.checkpointing to true",
    "logits": "lower learner.tokens_per_forward",
    "computing": "lower batch.group or resources.context",
    "keys and values": "lower batch.group or resources.context",
    "kept keys and values": "lower resources.cache_share",
    "transcripts": "lower batch.scenarios, batch.group or resources.context",
    _ENGINE: "lower resources.memory_share",
}
# What a learner keeps of a GPU while it does not work.
KEPT = (LIBRARIES, "weights", "adapter and optimizer")
_FEWER = {"sampler": "lower resources.samplers", "shard": "lower rollout.shards"}


class Machine(NamedTuple):
    """The memory that a machine permits its processes, and that of each of its GPUs, in bytes."""

    memory: int
    gpus: tuple[int, ...] = ()


def here() -> Machine:
    """Return what this machine permits."""
    return Machine(permitted(), _gpus())


def _gpus() -> tuple[int, ...]:
    """Return the memory of each GPU; torch, which could tell as well, takes seconds to load."""
    try:
        ran = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603 - ours
    except (OSError, subprocess.SubprocessError):
        return ()  # no driver, so no GPU that could be used
    return tuple([int(line) * MIB for line in ran.stdout.split() if line.isdigit()])


def needs(run: Run, environment: AnyEnvironment, model: Path, machine: Machine) -> list[Need]:
    """Return what the processes of a run need with the model of this folder, on a machine like this one."""
    return needs_with(run, environment, known(model), machine)


def needs_with(run: Run, environment: AnyEnvironment, model: Known, machine: Machine) -> list[Need]:
    """Return what the processes of a run need with this model, on a machine like this one."""
    one = model.shape
    roles = len(plan.stream_weights(run, environment))
    opening = longest_opening(run, environment, model)
    transcripts = run.batch.scenarios * run.batch.group * roles
    ahead = 1 + run.batch.refill + (run.staleness if run.schedule == "pipelined" else 0)
    held_out = plan.held_out(run, environment)
    # One version may play a batch, with what replaces its groups, and then the held-out scenarios.
    played = transcripts * (1 + run.batch.refill) + len(held_out) * roles
    carried = transcripts * ahead * run.resources.context * _TOKEN
    trees = trees_of(run, environment, model)
    return [
        Need("driver", 1, {LIBRARIES: _DRIVER, "transcripts": carried}, {}),
        _learner(run, one, opening, transcripts, trees),
        _torch_sampler(run, one, opening, played, machine, trees)
        if run.sampler == "torch"
        else _vllm_sampler(run, one, opening),
        Need("shard", run.rollout.shards, {LIBRARIES: _SHARD, "transcripts": carried // run.rollout.shards}, {}),
    ]


class Trees(NamedTuple):
    """The tokens of whole actions to choose among: of a transcript and of a turn, at most."""

    row: int
    turn: int


def trees_of(run: Run, environment: AnyEnvironment, model: Known) -> Trees:
    """Return what the choices of baselines' episodes come to; `resources.context` limits transcripts without them."""
    if not chooses_whole_actions(run):
        return Trees(0, 0)
    found = texts(run, environment, model)
    return Trees(found.choices, found.widest)


def longest_opening(run: Run, environment: AnyEnvironment, model: Known) -> int:
    """Return the tokens of the longest first prompt of a seat that learns, in the scenario that proves versions."""
    planned = plan.make(run, environment)
    task = planned.tasks(plan.curriculum(run, environment), 0, 0, 1)[0]
    world = environment.start(environment.scenario(task.scenario), environment.rules(task.rules))
    found = []
    for role in plan.stream_weights(run, environment):
        seat = Seat(environment, role, task.rules, run.rendering)
        examples = [text for example in seat.opening for text in example]
        texts = (seat.system_prompt, *examples, seat.read(environment.view(world, role)))
        found.append(sum([model.tokens(text)[1] for text in texts]))
    return max(found)


def _learner(run: Run, one: Shape, opening: int, transcripts: int, trees: Trees) -> Need:
    """The learner: weights, adapter with gradients and Adam's moments, and the larger of an update and a probe."""
    settings, on_gpu = run.learner, run.resources.learner_gpus > 0
    width = 2 if on_gpu else 4
    adapter = settings.lora_rank * one.sides
    batch = transcripts * run.resources.context
    row = run.resources.context + trees.row
    tokens = _tokens_of_a_forward(run, transcripts, row)
    layer = _saved(one, settings.lora_rank) * width
    # With checkpointing, a layer's input is kept and the rest computed again; a layer's gradients come on top. `auto`
    # computes all layers again where it must.
    kept = one.layers * (layer if settings.checkpointing is False else one.hidden * width)
    activations = tokens * (kept + 2 * layer)
    logits = _logits(run, one, tokens, row, on_gpu=on_gpu)
    # The head is done before the first layer's gradients are computed. Texts that prove a version are scored elsewhere.
    scoring = opening * (one.vocabulary * (10 if on_gpu else 8) + layer)
    working = {
        "weights": one.parameters * width,
        "adapter and optimizer": adapter * 16,
        "activations": activations,
        "logits": max(logits - tokens * 2 * layer, scoring - activations, 0),
    }
    batched = {"transcripts": batch * _TOKEN}
    exported = adapter * 8  # a version is put together in memory
    if not on_gpu:
        return Need("learner", 1, {LIBRARIES: _LEARNER, **working, "adapters": exported, **batched}, {})
    host = {LIBRARIES: _LEARNER + _CUDA, "weights": one.parameters * width, "adapters": exported, **batched}
    return Need("learner", 1, host, {LIBRARIES: _CONTEXT, **working})


def _logits(run: Run, one: Shape, tokens: int, row: int, *, on_gpu: bool) -> int:
    """Return what the head takes of memory, for as many tokens of a micro-batch as can have been written.

    `row` is the longest, with the actions that it chose among.
    """
    # A completion follows at least one token that was read.
    written = tokens * run.rollout.max_tokens // (run.rollout.max_tokens + 1)
    if run.rollout.structured == "no":
        tile = min(tokens, _TILE[0]) * min(one.vocabulary, _TILE[1])
        if on_gpu:
            return tile * 2 + tokens * one.hidden * 4
        if tokens * one.vocabulary > _FEW_LOGITS:
            # Only where the policy wrote, some places at a time.
            return _LINE_COPIES * 4 * min(written * one.vocabulary, _LOGITS_AT_ONCE)
        # TRL's kernel takes every place, and is made of functions of torch that hold many copies of a tile at once.
        return _TILE_COPIES * 4 * tile
    if run.rollout.structured == "schema":
        return _SCHEMA_COPIES * 4 * min(written, _SCHEMA_LINES) * one.vocabulary
    if not chooses_whole_actions(run):
        # One copy is kept for the gradient, which is as large; a GPU also has what it computed in two bytes.
        return (12 if on_gpu else 8) * written * one.vocabulary
    # Whole actions: few logits at a time, and for each row a mask of what each of its tokens sees.
    return 3 * 4 * min(_LOGITS_AT_ONCE, tokens * one.vocabulary) + tokens * min(tokens, row) * (3 if on_gpu else 5)


def estimate(run: Run, environment: AnyEnvironment, model: Path) -> Estimate | None:
    """Return what decides how many layers the learner computes again; None where it is configured, or unknown."""
    if run.learner.checkpointing != AUTO:
        return None
    try:
        return estimate_with(run, environment, known(model), here())
    except UnknownError:
        return None


def estimate_with(run: Run, environment: AnyEnvironment, model: Known, machine: Machine) -> Estimate:
    """Return the same for a run that leaves it to the learner, with this model on a machine like this one."""
    one = model.shape
    found = {need.name: need for need in needs_with(run, environment, model, machine)}
    learner = found.pop("learner")
    on_gpu = bool(learner.gpu)
    settings, batch = run.learner, run.batch.scenarios * run.batch.group * len(plan.stream_weights(run, environment))
    row = run.resources.context + trees_of(run, environment, model).row
    tokens = _tokens_of_a_forward(run, batch, row)
    width = 2 if on_gpu else 4
    again, kept = tokens * one.hidden * width, tokens * _saved(one, settings.lora_rank) * width
    whole = sum((learner.gpu or learner.memory).values())
    others = RAY + sum([need.processes * need.each for need in found.values()])
    room = None if on_gpu else int(USABLE * machine.memory) - others
    return Estimate(one.layers, whole - one.layers * again, kept, again, room)


def _tokens_of_a_forward(run: Run, transcripts: int, row: int) -> int:
    """Return the tokens of the largest micro-batch; a longer row makes one of its own."""
    return min(max(run.learner.tokens_per_forward, row), max(transcripts * row // run.learner.steps, 1))


def _saved(one: Shape, rank: int) -> int:
    """Return the numbers that a layer keeps for each token until its gradient is computed.

    Two norms keep their input and their output; attention its queries, keys, values (for every head) and output, before
    and after they are laid out again; the feed-forward part four of its inner width; each adapter its inner result.
    """
    attention = one.heads * one.head
    return 4 * one.hidden + 6 * attention + 4 * one.inner + rank * -(-one.adapted // one.layers)


def cached(one: Shape, width: int) -> int:
    """Return the bytes of a token's keys and values, of numbers with so many bytes."""
    return 2 * one.layers * one.pairs * one.head * width


def _torch_sampler(run: Run, one: Shape, opening: int, played: int, machine: Machine, trees: Trees) -> Need:
    """The torch engine: weights, the loaded versions, a batch that is computed, and what is kept of the others."""
    on_gpu = run.resources.sampler_gpus > 0
    width = 2 if on_gpu else 4
    rows = run.batch.group
    # The first call of a batch computes its openings; the log-probabilities of a text are scored at every place, from
    # logits of which some places at a time are copied. Whole actions are scored with as many logits as are computed at
    # once, while the keys and values of the prompts are there without them and with them.
    calling = rows * opening * (_saved(one, 0) * width + opening) + 2 * rows * one.vocabulary * (width + 16)
    scoring = opening * (one.vocabulary * width + _saved(one, 0) * width) + _SCORED_AT_ONCE * one.vocabulary * 8
    choosing = _LOGITS_AT_ONCE * (width + 4) if trees.turn else 0
    held = rows * run.resources.context
    held += rows * (run.resources.context + trees.turn) if trees.turn else 0
    # The version that is played, the one that is being adopted, PEFT's initial one, and those of a pipeline.
    loaded = 3 + (run.staleness if run.schedule == "pipelined" else 0)
    share = machine.memory if not on_gpu else max(machine.gpus, default=0)
    wanted = played * run.resources.context * cached(one, width)
    working = {
        "weights": one.parameters * width,
        "adapters": loaded * 4 * run.learner.lora_rank * one.sides,
        "computing": max(calling, scoring, choosing),
        "keys and values": held * cached(one, width),
        "kept keys and values": min(wanted, int(run.resources.cache_share * share)) if share else wanted,
    }
    if not on_gpu:
        return Need("sampler", run.resources.samplers, {LIBRARIES: _TORCH_SAMPLER, **working}, {})
    host = {LIBRARIES: _TORCH_SAMPLER + _CUDA, "weights": one.parameters * width}
    return Need("sampler", run.resources.samplers, host, {LIBRARIES: _CONTEXT, **working})


def _vllm_sampler(run: Run, one: Shape, opening: int) -> Need:
    """The vllm engine: on a GPU it takes its share whatever it needs; here is the least with which it can work."""
    on_gpu = run.resources.sampler_gpus > 0
    width = 2 if on_gpu else 4
    slots = 3 + (run.staleness if run.schedule == "pipelined" else 0)
    reading = run.resources.context * (_saved(one, 0) * width + one.hidden * width)
    # Texts that prove a version are scored at every place: logits and log-probabilities, and on a CPU, where nothing is
    # compiled, a comparison of all of them, of one byte each, that torch copies into eight to count ranks.
    scoring = opening * (one.vocabulary * (width + 4 + (0 if on_gpu else 9)) + _saved(one, 0) * width)
    working = {
        "weights": one.parameters * width,
        "adapters": slots * width * run.learner.lora_rank * one.sides,
        "computing": max(reading, scoring),
        "keys and values": run.resources.context * cached(one, width) if on_gpu else VLLM_CPU_CACHE,
    }
    if not on_gpu:
        return Need("sampler", run.resources.samplers, {LIBRARIES: _VLLM_SAMPLER, **working}, {})
    host = {LIBRARIES: _VLLM_SAMPLER + _CUDA, "weights": one.parameters * width}
    return Need("sampler", run.resources.samplers, host, {LIBRARIES: _CONTEXT, **working})


# -- whether there is so much ------------------------------------------------------------------------------------------


def check_here(run: Run, environment: AnyEnvironment, model: Path) -> None:
    """Raise ConfigError if a run whose actors all start on this machine needs more than it permits."""
    with suppress(UnknownError):  # a run is not refused on a guess; --explain says what is unknown
        machine = here()
        check_machine(run, needs(run, environment, model, machine), machine)


def check_cluster(run: Run, environment: AnyEnvironment, model: Path, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise ConfigError if no placement on a cluster's nodes can have enough memory; `nodes` are Ray's resources."""
    with suppress(UnknownError):
        check_nodes(run, needs(run, environment, model, here()), nodes)


def check_machine(run: Run, found: Sequence[Need], machine: Machine) -> None:
    """Raise ConfigError if the processes of a run need more than one machine permits."""
    if any(need.gpu for need in found) and not machine.gpus:
        return  # it cannot start here anyway; bundles.check says why
    total, limit = _together(found), int(USABLE * machine.memory)
    if total > limit:
        raise ConfigError(
            f"memory: the run needs {_size(total)} and this machine permits {_size(limit)}; "
            + _remedy(found, lambda need: (need.processes, need.memory))
        )
    if machine.gpus:
        check_gpus(run, found, min(machine.gpus), "this machine's have")


def check_nodes(run: Run, found: Sequence[Need], nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise ConfigError if an actor fits no node, or all of them not all nodes together.

    What Ray sets aside for its object store counts as well: it is only taken when objects are there.
    """
    if run.resources.wait:
        return  # a cluster that grows
    sizes = [int(node.get("memory", 0.0) + node.get("object_store_memory", 0.0)) for node in nodes]
    actors = [need for need in found if need.name != "driver"]
    for need in actors:
        if need.each > max(sizes):
            raise ConfigError(
                f"memory: a {need.name} needs {_size(need.each)} and the cluster's largest node has "
                f"{_size(max(sizes))}; " + _remedy([need], lambda one: (1, one.memory))
            )
    total = sum([need.processes * need.each for need in actors])
    if total > sum(sizes):
        raise ConfigError(
            f"memory: the run's actors need {_size(total)} and the cluster's nodes have {_size(sum(sizes))} together; "
            + _remedy(actors, lambda need: (need.processes, need.memory))
        )


class Sharing(NamedTuple):
    """The actors that share a GPU: with a learner or without, and so many samplers."""

    learns: bool
    samplers: int


def sharing(run: Run) -> list[Sharing]:
    """Return which actors share a GPU, each combination once.

    Ray puts a fraction where the least room is left for it: first beside the learner, if there is room.
    """
    asked = run.resources
    own, each, count = asked.learner_gpus, asked.sampler_gpus, asked.samplers
    if asked.colocate:
        return [Sharing(own > 0, count if each else 0)]
    if not each:
        return [Sharing(learns=True, samplers=0)] if own else []
    together = floor(1 / each + 1e-9) if each < 1 else 1
    beside = min(count, floor((1 - own) / each + 1e-9)) if 0 < own < 1 and each < 1 else 0
    with_learner = [Sharing(learns=True, samplers=beside)] if own else []
    return [*with_learner, *([Sharing(learns=False, samplers=min(together, count - beside))] if count > beside else [])]


def check_gpus(run: Run, found: Sequence[Need], size: int, where: str) -> None:
    """Raise ConfigError if the actors that share a GPU need more than its memory; `where` says whose it is."""
    learner, sampler = [next(need for need in found if need.name == name) for name in ("learner", "sampler")]
    for one in sharing(run):
        engine = _engine(run, sampler, size) if one.samplers else Counter()
        parts = _shared(run, one, learner, sampler, engine)
        if parts.total() > size:
            least = _shared(run, one, learner, sampler, Counter(sampler.gpu)).total()
            raise ConfigError(
                f"memory: {_who(run, one)} {_size(parts.total())} of a GPU ({_largest(parts)}) and {where} "
                f"{_size(size)}; {_gpu_remedy(run, one, parts, size, can_share=least <= size)}"
            )


def _shared(run: Run, one: Sharing, learner: Need, sampler: Need, engine: Counter[str]) -> Counter[str]:
    """Return what those that share a GPU take of it together; of those that take turns, the larger of the two."""
    parts = Counter(learner.gpu) if one.learns else Counter()
    if not run.resources.colocate:
        return parts + _times(one.samplers, engine)
    # The engine sleeps while the learner works; what the learner keeps stays while the engine works.
    kept = Counter({part: size for part, size in parts.items() if part in KEPT})
    turns = (parts + _times(one.samplers, _asleep(run, sampler)), kept + _times(one.samplers, engine))
    return max(turns, key=lambda turn: turn.total())


def _engine(run: Run, sampler: Need, size: int) -> Counter[str]:
    """Return what an engine takes of a GPU: vllm its share, whatever it needs."""
    needed = sum(sampler.gpu.values())
    if not needed or run.sampler != "vllm":
        return Counter(sampler.gpu)
    share = int(run.resources.memory_share * size)
    if needed > share:
        raise ConfigError(
            f"memory: the vllm engine needs {_size(needed)} of a GPU ({_largest(Counter(sampler.gpu))}) and "
            f"resources.memory_share gives it {_size(share)}; raise resources.memory_share, or use a smaller model"
        )
    return Counter({_ENGINE: share})


def _asleep(run: Run, sampler: Need) -> Counter[str]:
    """Return what of a GPU an engine keeps while it sleeps; the torch engine drops its keys and values alone."""
    kept = {LIBRARIES} if run.sampler == "vllm" else {LIBRARIES, "weights", "adapters"}
    return Counter({part: size for part, size in sampler.gpu.items() if part in kept})


def _times(count: int, parts: Counter[str]) -> Counter[str]:
    return Counter({part: count * size for part, size in parts.items()})


def _who(run: Run, one: Sharing) -> str:
    if one.learns and one.samplers:
        together = "in turns" if run.resources.colocate else "together"
        return f"learner and sampler{'s' if one.samplers > 1 else ''} {together} need"
    if one.learns:
        return "the learner needs"
    return "a sampler needs" if one.samplers == 1 else f"{one.samplers} samplers need"


def _largest(parts: Counter[str]) -> str:
    return ", ".join([f"{part} {_size(size)}" for part, size in parts.most_common(3)])


def _gpu_remedy(run: Run, one: Sharing, parts: Counter[str], size: int, *, can_share: bool) -> str:
    """Name the setting that lowers the largest part of a GPU's memory of which a tenth would fit."""
    if _ENGINE in parts and not can_share:
        return "give them GPUs of their own" if one.learns else "give each sampler a GPU of its own"
    too_much = parts.total() - size
    enough = [part for part, taken in parts.most_common() if part in REMEDIES and 9 * taken // 10 >= too_much]
    largest = next((part for part in enough if part != "weights"), "weights")
    if largest == "activations" and run.learner.checkpointing is not False:
        # A row that is longer than a micro-batch makes one of its own.
        is_of_rows = run.learner.tokens_per_forward <= run.resources.context
        return "lower resources.context and learner.tokens_per_forward" if is_of_rows else REMEDIES["logits"]
    return REMEDIES[largest]


def _remedy(found: Sequence[Need], parts: Callable[[Need], tuple[int, Mapping[str, int]]]) -> str:
    """Name the largest part that a setting can change, and the setting."""
    sizes: Counter[str] = Counter()
    for need in found:
        count, listed = parts(need)
        sizes.update({part: count * size for part, size in listed.items() if part in REMEDIES})
        sizes[need.name] = (count - 1) * sum(listed.values())
    largest, size = sizes.most_common(1)[0]
    if largest in REMEDIES:
        return f"{REMEDIES[largest]} ({largest} take {_size(size)})"
    return f"{_FEWER[largest]} (all but one of them take {_size(size)})"


def explained(found: Sequence[Need], machine: Machine) -> str:
    """Describe the needs in a table, beside what the machine permits."""
    lines = _table(found)
    lines.append(f"  together, with {_size(RAY)} for Ray: {_size(_together(found))}")
    lines.append(f"  this machine permits: {_size(int(USABLE * machine.memory))}")
    if any(need.gpu for need in found):
        gpus = ", ".join([_size(size) for size in machine.gpus])
        lines.append(f"  its GPUs have: {gpus}" if gpus else "  it has no GPU to compare with")
    return "".join([f"{line}\n" for line in lines])


def _table(found: Sequence[Need]) -> list[str]:
    lines = []
    for need in found:
        name = f"{need.processes} {need.name}(s)" if need.processes > 1 else need.name
        lines.append(f"  {name}: {_size(need.each)}{' each' if need.processes > 1 else ''} ({_listed(need.memory)})")
        if need.gpu:
            lines.append(f"  {name}, of a GPU: {_size(sum(need.gpu.values()))} ({_listed(need.gpu)})")
    return lines


def explained_on(run: Run, found: Sequence[Need], size: int, card: str) -> str:
    """Describe the needs in a table, and who shares each GPU of such a size."""
    lines = _table(found)
    lines.append(f"  together, of the machines' memory, with {_size(RAY)} for Ray: {_size(_together(found))}")
    (learner,) = [need for need in found if need.name == "learner"]
    (sampler,) = [need for need in found if need.name == "sampler"]
    for learns, samplers in sharing(run):
        engine = "" if run.sampler != "vllm" else f" ({_size(int(run.resources.memory_share * size))} for vllm)"
        who = [*(["the learner"] if learns and learner.gpu else [])]
        if samplers and sampler.gpu:
            who.append(f"{'a sampler' if samplers == 1 else f'{samplers} samplers'}{engine}")
        turns = ", in turns" if run.resources.colocate else ""
        lines.append(f"  on {card}, {_size(size)}: {' and '.join(who)}{turns}")
    return "".join([f"{line}\n" for line in lines])


def again_on(run: Run, environment: AnyEnvironment, model: Known, size: int) -> Chosen:
    """Return how many layers the learner computes again on a GPU of such a size."""
    layers = model.shape.layers
    if run.learner.checkpointing != AUTO:
        return choose(run.learner.checkpointing, layers, None, None)
    estimated = estimate_with(run, environment, model, Machine(0, (size,)))
    room = room_on_a_gpu(size, run.resources.learner_gpus, alone=run.resources.colocate)
    return choose(AUTO, layers, estimated, room)


def _together(found: Sequence[Need]) -> int:
    return RAY + sum([need.processes * need.each for need in found])


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join([f"{name} {_size(size)}" for name, size in parts.items() if size >= MIB // 2])


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{round(size / MIB)} MiB"
