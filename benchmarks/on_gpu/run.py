"""Part d: a run without Ray. One process holds learner, engine and episodes; a plain loop takes turns with them.

The order is that of training/loop.py: collect, update, publish, adopt. What needs actors is left out: replacing what
died, playing ahead, the run folder, checkpoints. What is learnt from, and what is checked, is the package's own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.on_gpu.bench import Bench, Case, clean, peak_bytes, restart_peak
from benchmarks.on_gpu.shapes import SHAPES, base
from chaosops_ray import resampling
from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import Run
from chaosops_ray.learner.advantage import has_variance
from chaosops_ray.learner.learner import Learner
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import versions
from chaosops_ray.training import plan as planning
from chaosops_ray.training import pretrained, tiny, warm_up
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.mastery import Mastery, case_of
from chaosops_ray.wire import Decoding, Group, Ids, PolicyVersion, Probe, Sample, SampleRequest, Task
from chaosops_ray.workers.adoption import check_adoption
from chaosops_ray.workers.rollout import Ask, play_group, play_together
from chaosops_ray.workers.samplers.sampler import check_samples
from chaosops_ray.workers.samplers.torch import TorchSampler

PART = "d"
DEFAULT_SHAPE = "0.5b"
REPEATED = 5  # updates of each of the two runs that are compared
TRAINING_SHARE = 0.7  # of the time, for the one that is to learn
HELD_OUT = range(1000, 1010)  # seeds that training never draws
OPENINGS = 300  # episodes whose texts and actions make the tokenizer of a model with random weights
# Adam moves every weight of an adapter by the rate, so what a step does to an output grows with the width. At these
# rates random weights of width 64 and 128 have learnt on a CPU.
RATE, RATE_TIMES_WIDTH = 1e-3, 0.2
RATE_OF_A_REAL_MODEL = 1e-4
SHARE = 0.1  # of the updates, which are the first and the last ones


def configured(bench: Bench, model: BaseModel) -> Run:
    """Return the configuration: Oversight alone learns, among colleagues who know what to do."""
    real = bench.model is not None
    width = int(described_by(model)["hidden_size"])
    rate = bench.rate or (RATE_OF_A_REAL_MODEL if real else min(RATE, RATE_TIMES_WIDTH / width))
    return Run.model_validate(
        {
            "world": "incident",
            "model": str(model.path),
            "style": bench.style or ("full" if real else "compact"),
            "updates": bench.updates,
            "curriculum": f"easy:{bench.updates}",
            "seats": {"oversight": "learn", "sre": "oracle", "dev": "oracle", "manager": "oracle"},
            "rule_options": {"catch": 2, "false_flag": 1},
            "batch": {"scenarios": 8, "group": 8},
            "rollout": {"temperature": 1.0, "max_tokens": 96 if real else 1, "structured": True},
            "credit": {"discount": 0.5, "floor": 20},
            "learner": {
                "lora_rank": bench.ranks[0],
                "lora_alpha": 2 * bench.ranks[0],
                "learning_rate": {"start": rate, "end": rate / 10},
                "steps": 2,
                "recompute": False,
                "checkpointing": real and bench.device == "cuda",
                "tokens_per_forward": bench.budget,
            },
            "resources": {"sampler_threads": bench.threads, "learner_threads": bench.threads},
        }
    )


def described_by(model: BaseModel) -> dict[str, Any]:
    """Return the sizes in the model's config.json."""
    found: dict[str, Any] = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
    return found


def prepared(bench: Bench) -> BaseModel:
    """Return the model: the given one, or one with random weights and a tokenizer of world 1's texts and actions."""
    if bench.model is not None:
        return pretrained.of(str(bench.model), pretrained.locate(str(bench.model)))
    name = (bench.shapes or (DEFAULT_SHAPE,))[0]
    folder = bench.folder / f"{name}-that-plays"
    if not folder.exists():
        tokenizer = warm_up.make_tokenizer(environment_named("incident"), tiny.Recipe(openings=OPENINGS))
        shape = SHAPES[name]
        shape = shape._replace(vocabulary=max(shape.vocabulary, len(tokenizer)))
        base(shape, bench.device).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        clean(bench.device)
    return BaseModel(str(folder), folder, versions.base_digest(folder), tiny.layout(folder))


Earned = list[tuple[Scenario, float]]  # the return of each episode


class Loop:
    """A run: its parts, and what it has come to."""

    def __init__(self, bench: Bench, run: Run, model: BaseModel, folder: Path) -> None:
        self.run = run
        self.environment = environment_named(run.world)
        self.plan = planning.make(run, self.environment)
        self.weights = planning.stream_weights(run, self.environment)
        self.codec = Codec(model.path, model.layout)
        self.learner = Learner(run, model.public_name, model.path, model.digest, self.weights)
        self.sampler = TorchSampler(model.path, bench.threads, bench.device, run.resources.cache_share)
        self.vocabulary = int(described_by(model)["vocab_size"])
        self.base = model.digest
        self.folder = folder
        self.curriculum = planning.curriculum(run, self.environment)
        self.mastery = Mastery(run.batch.near)
        self.version: PolicyVersion | None = None
        self.probe: Probe | None = None
        self.done = 0
        self.digests: list[str] = []
        self.earned: list[Earned] = []  # by update
        self.tokens = 0  # learnt from
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def during(self, step: str) -> Iterator[None]:
        """Add the time of this block to a step."""
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[step] += time.perf_counter() - began

    async def begin(self) -> None:
        """Publish the policy as it is before the first update."""
        await self.publish()
        self.learner.prepare()
        self.seconds.clear()

    async def update(self) -> None:
        """Make one update, and publish its version."""
        with self.during("collect"):
            played, varied = await self.collect()
        with self.during("update"):
            if varied:
                self.tokens += int(self.learner.update(varied, self.done)["tokens"])
        self.done += 1
        reports = [report for group in played for report in group.reports]
        self.earned.append([(self.environment.scenario(one.scenario), one.headline) for one in reports])
        self.curriculum = self.curriculum.after([one.progress for one in reports])
        self.mastery = self.mastery.after([result(self.environment, group) for group in played])
        await self.publish()

    async def collect(self) -> tuple[list[Group], list[Group]]:
        """Play the groups of an update; return all of them, and those that can teach something."""
        batch, played, varied = self.run.batch, list[Group](), list[Group]()
        for _ in range(1 + batch.refill):
            wanted = batch.scenarios - len(varied)
            tasks = self.plan.tasks(self.curriculum, self.done, len(played), wanted, self.mastery)
            found = [await self.play(task) for task in tasks]
            played += found
            varied += [group for group in found if has_variance(group, self.weights, self.run.credit)]
            if len(varied) >= batch.scenarios:
                break
        return played, varied

    async def play(self, task: Task) -> Group:
        """Play a group."""
        run = self.run
        ask = self.ask(run.rollout.temperature)
        return await play_group(
            self.environment, self.codec, run.rendering, task, ask, structured=run.rollout.structured
        )

    async def held_out(self, scenarios: Sequence[Scenario]) -> Earned:
        """Play each scenario once, greedily, as rows of one batch."""
        run, tasks = self.run, self.plan.held_out(scenarios)
        rollouts = await play_together(
            self.environment, self.codec, run.rendering, tasks, self.ask(0.0), structured=run.rollout.structured
        )
        await self.sampler.release()
        return [(one.episode.scenario, self.environment.headline(one.episode)) for one in rollouts]

    def ask(self, temperature: float) -> Ask:
        """Return the source of completions: the version that was adopted last, each answer checked."""
        version = self.version
        if version is None:
            raise ValueError("no version is adopted; begin the run first")
        decoding = Decoding(temperature, self.run.rollout.max_tokens, self.codec.layout.stop)

        async def asked(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
            samples = await self.sampler.sample(cohort, requests, decoding, version.number)
            check_samples(requests, samples, decoding, version, self.vocabulary)
            return samples

        return asked

    async def publish(self) -> None:
        """Publish the learner's policy as a version, which the sampler proves before it plays."""
        with self.during("publish"):
            files = self.learner.adapter()
            version = versions.publish(self.folder, self.done, self.base, files)
        with self.during("adopt"):
            probe = self.learner.probe(self.texts())
            await check_adoption(self.sampler, version, probe, self.version)
            if self.version is not None:
                await self.sampler.retire(self.version.number)
        versions.prune(self.folder, {self.done})
        self.version = version
        self.digests.append(version.digest)

    def texts(self) -> tuple[Ids, ...]:
        """Return the texts on which versions are proven: the first prompt of every seat that learns."""
        task = self.plan.tasks(planning.curriculum(self.run, self.environment), 0, 0, 1)[0]
        world = self.environment.start(self.environment.scenario(task.scenario), self.environment.rules(task.rules))
        seats = [TokenSeat(self.environment, role, task.rules, self.run.rendering, self.codec) for role in self.weights]
        return tuple([seat.observe(self.environment.view(world, seat.role)) for seat in seats])


def result(environment: AnyEnvironment, group: Group) -> tuple[str, list[float]]:
    """Return what a group came to, for the mastery of its case."""
    return case_of(environment.scenario(group.task.scenario)), [report.headline for report in group.reports]


# -- the two cases ----------------------------------------------------------------------------------------------------


def measure(bench: Bench) -> Iterator[Case]:
    """Yield what a run comes to, and whether two runs agree."""
    model = prepared(bench)
    run = configured(bench, model)
    told = ("style", "seats", "rule_options", "batch", "rollout", "credit", "learner")
    bench.settings.update(run.model_dump(include=set(told)))
    yield described(bench, run, "run") | asyncio.run(whole(bench, run, model))
    clean(bench.device)
    yield described(bench, run, "repeat") | asyncio.run(repeat(bench, run, model))


def described(bench: Bench, run: Run, kind: str) -> Case:
    """What a case is."""
    name = bench.model.resolve().name if bench.model is not None else (bench.shapes or (DEFAULT_SHAPE,))[0]
    return {
        "part": PART,
        "name": f"{name}, {run.rendering} style, {kind}",
        "kind": kind,
        "shape": name,
        "parameters": None if bench.model is not None else SHAPES[name].parameters,
        "rank": run.learner.lora_rank,
        "checkpointing": run.learner.checkpointing,
        "world": run.world,
        "seats": dict(run.seats),
        "style": run.rendering,
    }


async def whole(bench: Bench, run: Run, model: BaseModel) -> Case:
    """Train, and compare the first updates with the last, and the held-out scenarios before with after."""
    restart_peak(bench.device)
    loop = Loop(bench, run, model, bench.folder / "run")
    await loop.begin()
    practice = loop.environment.scenarios(planning.set_named(run.cases, loop.environment), list(HELD_OUT))
    scenarios = [one for one in practice if one.tier == loop.environment.tiers[0]]
    began = time.perf_counter()
    before = await loop.held_out(scenarios)
    evaluating = time.perf_counter() - began
    began = time.perf_counter()
    # The evaluation at the end must fit as well.
    clock = bench.clock.until(TRAINING_SHARE, 2 * evaluating)
    for _ in clock.in_time(range(run.updates), lambda number: f"updates from {number + 1} on"):
        await loop.update()
    bench.clock.left_out += clock.left_out[:1]
    seconds = time.perf_counter() - began
    if not loop.done:
        return {"skipped": "no time for an update"}
    after = await loop.held_out(scenarios)
    rises = [(scenario, value - was) for (scenario, value), (_, was) in zip(after, before, strict=True)]
    few = max(1, round(SHARE * loop.done))
    first, last = [list(chain.from_iterable(part)) for part in (loop.earned[:few], loop.earned[-few:])]
    return {
        "updates": loop.done,
        "seconds": seconds,
        "tokens_per_second": loop.tokens / loop.seconds["update"] if loop.tokens else None,
        "seconds_by": dict(loop.seconds),
        "reward_first": summary(first),
        "reward_last": summary(last),
        "held_out": {"before": summary(before), "after": summary(after), "rise": summary(rises)},
        "rewards": [fmean([value for _, value in earned]) for earned in loop.earned],
        "digest": loop.digests[-1],
        "computing": loop.learner.chosen(),
        "peak_memory_bytes": peak_bytes(bench.device),
    }


async def repeat(bench: Bench, run: Run, model: BaseModel) -> Case:
    """Make the first updates twice from the same seed, and compare the digests of all versions."""
    restart_peak(bench.device)
    began = time.perf_counter()
    found: list[list[str]] = []
    wanted = min(REPEATED, run.updates)
    for number, share in enumerate((0.5, 1.0)):
        clock = bench.clock.until(share)
        loop = Loop(bench, run, model, bench.folder / f"repeat-{number}")
        await loop.begin()
        for _ in clock.in_time(range(wanted), lambda update: f"the update {update + 1} of two runs"):
            await loop.update()
        bench.clock.left_out += clock.left_out[:1]
        wanted = loop.done
        found.append(loop.digests)
        del loop
        clean(bench.device)
    compared = list(zip(*found, strict=False))
    different = [number for number, pair in enumerate(compared) if pair[0] != pair[1]]
    return {
        "updates": len(compared) - 1,
        "seconds": time.perf_counter() - began,
        "same": not different,
        "first_different": different[0] if different else None,
        "digests": found,
        "peak_memory_bytes": peak_bytes(bench.device),
    }


def summary(values: Earned) -> dict[str, Any]:
    """Return the mean with a bootstrap interval over scenarios."""
    mean = fmean([value for _, value in values])
    return {"mean": mean, "interval": resampling.interval(values), "episodes": len(values)}


def table(cases: list[Case]) -> list[str]:
    """The figures in lines."""
    lines = []
    for one in cases:
        if one["skipped"]:
            lines.append(f"{one['name']} skipped: {one['skipped']}")
            continue
        lines.append(f"{one['name']}: {one['updates']} updates in {one['seconds']:.1f} s")
        if one["kind"] == "repeat":
            agree = (
                "all digests are the same" if one["same"] else f"they differ from version {one['first_different']} on"
            )
            lines.append(f"  two runs from one seed: {agree}")
            continue
        parts = ", ".join([f"{name} {spent:.1f} s" for name, spent in one["seconds_by"].items()])
        lines.append(f"  {parts}")
        held = one["held_out"]
        for title, found in (
            ("mean return in the first updates", one["reward_first"]),
            ("in the last updates", one["reward_last"]),
            ("held-out before", held["before"]),
            ("held-out after", held["after"]),
            ("rise on the held-out", held["rise"]),
        ):
            low, high = found["interval"]
            lines.append(f"  {title:<34}{found['mean']:>+8.1f} [{low:+.1f}, {high:+.1f}], {found['episodes']} episodes")
    return lines
