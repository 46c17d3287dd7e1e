"""The memory that the actors of a run need, and whether a machine has it. Neither Ray nor torch is imported.

Everything that depends on the model is computed from its files: the weights from the headers of the safetensors, the
rest from config.json. What the libraries take was measured and is a constant. docs/training.md says what is counted.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from chaosops_ray.agents.seat import Seat
from chaosops_ray.agents.tokens import TOKENIZER_FILE
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.training import plan
from chaosops_ray.workers.memory import permitted

MIB, GIB = 1 << 20, 1 << 30
# Resident memory of processes that have loaded their libraries and hold no model yet, measured with the pinned versions
# on a CPU (ray 2.60, torch 2.13, transformers 5.23, peft 0.21, trl 1.16, vllm 0.29). With CUDA it is more.
_LEARNER, _TORCH_SAMPLER, _VLLM_SAMPLER, _SHARD, _DRIVER, RAY = (
    720 * MIB, 620 * MIB, 1900 * MIB, 260 * MIB, 320 * MIB, 650 * MIB,
)  # fmt: skip
_CUDA = 2 * GIB  # what the same processes take more with CUDA
_CONTEXT = GIB // 2  # of a GPU's memory, for a process that uses it at all
# A transcript's token in Python: a pointer and an integer, and where the policy wrote it a few numbers more.
_TOKEN = 40
# TRL's kernel scores so many tokens at a time, and so many entries of the vocabulary.
_TILE = (4096, 32768)
# Of completions of a JSON Schema, so many tokens at a time, and all of the vocabulary.
_SCHEMA_LINES = 256
_VLLM_CPU_CACHE = 256 * MIB
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
}
_LIBRARIES = "libraries"
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
    """Return what the processes of a run need with this model, on a machine like this one."""
    one = shape(model)
    roles = len(plan.stream_weights(run, environment))
    opening = longest_opening(run, environment, model)
    transcripts = run.batch.scenarios * run.batch.group * roles
    ahead = 1 + run.batch.refill + (run.staleness if run.schedule == "pipelined" else 0)
    held_out = plan.held_out(run, environment)
    # One version may play a batch, with what replaces its groups, and then the held-out scenarios.
    played = transcripts * (1 + run.batch.refill) + len(held_out) * roles
    texts = transcripts * ahead * run.resources.context * _TOKEN
    return [
        Need("driver", 1, {_LIBRARIES: _DRIVER, "transcripts": texts}, {}),
        _learner(run, one, opening, transcripts),
        _torch_sampler(run, one, opening, played, machine) if run.sampler == "torch" else _vllm_sampler(run, one),
        Need("shard", run.rollout.shards, {_LIBRARIES: _SHARD, "transcripts": texts // run.rollout.shards}, {}),
    ]


def longest_opening(run: Run, environment: AnyEnvironment, model: Path) -> int:
    """Return the tokens of the longest first prompt of a seat that learns, in the scenario that proves versions."""
    try:
        tokenizer = Tokenizer.from_file(str(model / TOKENIZER_FILE))
    except Exception as error:
        # The library raises a bare Exception for a file that is missing or bad.
        raise UnknownError(f"{model / TOKENIZER_FILE} cannot be read ({error})") from error
    planned = plan.make(run, environment)
    task = planned.tasks(plan.curriculum(run, environment), 0, 0, 1)[0]
    world = environment.start(environment.scenario(task.scenario), environment.rules(task.rules))
    found = []
    for role in plan.stream_weights(run, environment):
        seat = Seat(environment, role, task.rules, run.rendering)
        examples = [text for example in seat.opening for text in example]
        texts = (seat.system_prompt, *examples, seat.read(environment.view(world, role)))
        found.append(sum([len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]))
    return max(found)


def _learner(run: Run, one: Shape, opening: int, transcripts: int) -> Need:
    """The learner: weights, adapter with gradients and Adam's moments, and the larger of an update and a probe."""
    settings, on_gpu = run.learner, run.resources.learner_gpus > 0
    width = 2 if on_gpu else 4
    adapter = settings.lora_rank * one.sides
    batch = transcripts * run.resources.context
    # A longer row makes a micro-batch of its own.
    tokens = min(max(settings.tokens_per_forward, run.resources.context), max(batch // settings.steps, 1))
    layer = _saved(one, settings.lora_rank) * width
    # With checkpointing, a layer's input is kept and the rest computed again; a layer's gradients come on top.
    kept = one.layers * (one.hidden * width if settings.checkpointing else layer)
    activations = tokens * (kept + 2 * layer)
    if run.rollout.structured != "no":
        # A completion follows at least one token that was read.
        written = tokens * run.rollout.max_tokens // (run.rollout.max_tokens + 1)
        if run.rollout.structured == "schema":
            written = min(written, _SCHEMA_LINES)
        logits = 3 * 4 * written * one.vocabulary
    else:
        logits = 3 * 4 * min(tokens, _TILE[0]) * min(one.vocabulary, _TILE[1])
    scoring = opening * (one.vocabulary * (width + 8) + layer)
    working = {
        "weights": one.parameters * width,
        "adapter and optimizer": adapter * 16,
        "activations": activations,
        "logits": max(logits, scoring - activations, 0),
    }
    batched = {"transcripts": batch * _TOKEN}
    exported = adapter * 8  # a version is put together in memory
    if not on_gpu:
        return Need("learner", 1, {_LIBRARIES: _LEARNER, **working, "adapters": exported, **batched}, {})
    host = {_LIBRARIES: _LEARNER + _CUDA, "weights": one.parameters * width, "adapters": exported, **batched}
    return Need("learner", 1, host, {_LIBRARIES: _CONTEXT, **working})


def _saved(one: Shape, rank: int) -> int:
    """Return the numbers that a layer keeps for each token until its gradient is computed.

    Two norms keep their input and their output; attention its queries, keys, values (for every head) and output, before
    and after they are laid out again; the feed-forward part four of its inner width; each adapter its inner result.
    """
    attention = one.heads * one.head
    return 4 * one.hidden + 6 * attention + 4 * one.inner + rank * -(-one.adapted // one.layers)


def _torch_sampler(run: Run, one: Shape, opening: int, played: int, machine: Machine) -> Need:
    """The torch engine: weights, the loaded versions, a batch that is computed, and what is kept of the others."""
    on_gpu = run.resources.sampler_gpus > 0
    width = 2 if on_gpu else 4
    rows = run.batch.group
    pair = 2 * one.layers * one.pairs * one.head * width
    # The first call of a batch computes its openings; the log-probabilities of a text are scored at every place.
    calling = rows * opening * (_saved(one, 0) * width + opening) + 2 * rows * one.vocabulary * (width + 16)
    scoring = opening * (one.vocabulary * (width + 8) + _saved(one, 0) * width)
    # The version that is played, the one that is being adopted, PEFT's initial one, and those of a pipeline.
    loaded = 3 + (run.staleness if run.schedule == "pipelined" else 0)
    share = machine.memory if not on_gpu else max(machine.gpus, default=0)
    wanted = played * run.resources.context * pair
    working = {
        "weights": one.parameters * width,
        "adapters": loaded * 4 * run.learner.lora_rank * one.sides,
        "computing": max(calling, scoring),
        "keys and values": rows * run.resources.context * pair,
        "kept keys and values": min(wanted, int(run.resources.cache_share * share)) if share else wanted,
    }
    if not on_gpu:
        return Need("sampler", run.resources.samplers, {_LIBRARIES: _TORCH_SAMPLER, **working}, {})
    host = {_LIBRARIES: _TORCH_SAMPLER + _CUDA, "weights": one.parameters * width}
    return Need("sampler", run.resources.samplers, host, {_LIBRARIES: _CONTEXT, **working})


def _vllm_sampler(run: Run, one: Shape) -> Need:
    """The vllm engine: on a GPU it takes its share whatever it needs; here is the least with which it can work."""
    on_gpu = run.resources.sampler_gpus > 0
    width = 2 if on_gpu else 4
    slots = 3 + (run.staleness if run.schedule == "pipelined" else 0)
    pair = 2 * one.layers * one.pairs * one.head * width
    working = {
        "weights": one.parameters * width,
        "adapters": slots * width * run.learner.lora_rank * one.sides,
        "computing": run.resources.context * (_saved(one, 0) * width + one.hidden * width),
        "keys and values": run.resources.context * pair if on_gpu else _VLLM_CPU_CACHE,
    }
    if not on_gpu:
        return Need("sampler", run.resources.samplers, {_LIBRARIES: _VLLM_SAMPLER, **working}, {})
    host = {_LIBRARIES: _VLLM_SAMPLER + _CUDA, "weights": one.parameters * width}
    return Need("sampler", run.resources.samplers, host, {_LIBRARIES: _CONTEXT, **working})


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
    total, limit = RAY + sum([need.processes * need.each for need in found]), int(USABLE * machine.memory)
    if total > limit:
        raise ConfigError(
            f"memory: the run needs {_size(total)} and this machine permits {_size(limit)}; "
            + _remedy(found, lambda need: (need.processes, need.memory))
        )
    if machine.gpus:
        _check_gpus(run, found, min(machine.gpus))


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


def _check_gpus(run: Run, found: Sequence[Need], size: int) -> None:
    """Raise ConfigError if the actors that share a GPU need more than its memory."""
    asked = run.resources
    (learner,) = [need for need in found if need.name == "learner"]
    (sampler,) = [need for need in found if need.name == "sampler"]
    engine = sum(sampler.gpu.values())
    if engine and run.sampler == "vllm":
        share = int(asked.memory_share * size)
        if engine > share:
            raise ConfigError(
                f"memory: the vllm engine needs {_size(engine)} of a GPU and resources.memory_share gives it "
                f"{_size(share)}; raise resources.memory_share, or use a smaller model"
            )
        engine = share
    learning = sum(learner.gpu.values())
    together = asked.learner_gpus + asked.samplers * asked.sampler_gpus
    if asked.colocate or not learning or not engine or together > 1:
        most = max(learning, engine)
        who, sharing = ("the learner needs", [learner]) if most == learning else ("a sampler needs", [sampler])
    else:
        most = learning + asked.samplers * engine
        who, sharing = "learner and samplers together need", [learner, sampler]
    if most > size:
        raise ConfigError(
            f"memory: {who} {_size(most)} of a GPU and this machine's have {_size(size)}; "
            + _remedy(sharing, lambda need: (1, need.gpu))
        )


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
    lines = []
    for need in found:
        name = f"{need.processes} {need.name}(s)" if need.processes > 1 else need.name
        lines.append(f"  {name}: {_size(need.each)}{' each' if need.processes > 1 else ''} ({_listed(need.memory)})")
        if need.gpu:
            lines.append(f"  {name}, of a GPU: {_size(sum(need.gpu.values()))} ({_listed(need.gpu)})")
    total = RAY + sum([need.processes * need.each for need in found])
    lines.append(f"  together, with {_size(RAY)} for Ray: {_size(total)}")
    lines.append(f"  this machine permits: {_size(int(USABLE * machine.memory))}")
    if any(need.gpu for need in found):
        gpus = ", ".join([_size(size) for size in machine.gpus])
        lines.append(f"  its GPUs have: {gpus}" if gpus else "  it has no GPU to compare with")
    return "".join([f"{line}\n" for line in lines])


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join([f"{name} {_size(size)}" for name, size in parts.items() if size >= MIB // 2])


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{round(size / MIB)} MiB"
