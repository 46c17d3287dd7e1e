"""Models as players of an evaluation: a run's policy, a base model without an adapter, one that somebody serves.

Whatever a spelling names is looked up and checked before anything is played; an engine is loaded when its turn to play
comes and closed after it, so that one model at a time needs memory. What cannot be loaded is an error; nothing is
played in its place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from chaosops_ray import evaluate
from chaosops_ray.agents.endpoint import OpenAISampler
from chaosops_ray.agents.served import ServedPolicy
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import MADE_HERE, Rollout, Run, load
from chaosops_ray.evaluate import Played, Player
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import run_folder, versions
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import base_models, tiny
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.wire import Decoding, PolicyVersion, Sample, SampleRequest, Task
from chaosops_ray.workers.rollout import play_together
from chaosops_ray.workers.samplers.build import check_installed
from chaosops_ray.workers.samplers.sampler import Engine

KINDS = ("trained", "model", "served")
# Where the key of a served model is looked for; it is sent if it is there.
KEY = "OPENAI_API_KEY"
RETRIES = 5
# Scenarios side by side: torch computes them in one batch and keeps all their transcripts, vLLM has a queue.
AT_ONCE = {"torch": 16, "vllm": 128}
_ENGINE = "chaosops_ray.training.local_engine"


class EnginePlayer:
    """Plays many scenarios side by side, greedily, on an engine that lives as long as it plays.

    `adopt` prepares a new engine for `number`, the version that plays; None is the base model.
    """

    def __init__(
        self,
        environment: AnyEnvironment,
        run: Run,
        base: BaseModel,
        start: Callable[[], Engine],
        adopt: Callable[[Engine], Coroutine[Any, Any, None]],
        number: int | None,
        at_once: int,
    ) -> None:
        self._environment = environment
        self._run = run
        self._codec = Codec(base.path, base.layout)
        self._decoding = Decoding(0.0, run.rollout.max_tokens, base.layout.stop)
        self._start = start
        self._adopt = adopt
        self._number = number
        self._at_once = at_once

    def __call__(self, scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        """Play each scenario once, in their order."""
        tasks = [Task(f"evaluate/{one.identity}", one.identity, rules, 1, 0, greedy=True) for one in scenarios]
        with asyncio.Runner() as runner:
            engine = self._start()
            try:
                runner.run(self._adopt(engine))
                for first in range(0, len(tasks), self._at_once):
                    yield from runner.run(self._played(engine, tasks[first : first + self._at_once]))
            finally:
                runner.run(engine.close())

    async def _played(self, engine: Engine, tasks: Sequence[Task]) -> list[Played]:
        async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
            return await engine.sample(cohort, requests, self._decoding, self._number)

        run = self._run
        rollouts = await play_together(
            self._environment, self._codec, run.rendering, tasks, ask, structured=run.rollout.structured
        )
        return [Played(one.episode, tuple(one.versions)) for one in rollouts]


def players(environment: AnyEnvironment, spelling: str, sampler: str, *, structured: bool) -> dict[str, Player]:
    """The players of a comma-separated list: baselines by name, and models.

    `sampler` is the engine that plays trained and base models; base models choose among the permitted actions only if
    `structured`, trained ones as their runs did.
    """
    found: dict[str, Player] = {}
    for given in spelling.split(","):
        kind, equals, what = given.partition("=")
        if equals and kind not in KINDS:
            raise InputError(f"{given[:80]!r} is no policy; write trained=RUN, model=NAME or served=MODEL@URL")
        if not equals:
            added = evaluate.baselines(environment, given)
        else:
            name = kind if spelling.count(f"{kind}=") == 1 else given
            if kind == "served":
                added = {name: evaluate.one_by_one(environment, served(environment, what))}
            elif kind == "model":
                added = {name: base_model(environment, what, sampler, structured=structured)}
            else:
                added = {name: trained(environment, what, sampler)}
        for name in added:
            if name in found:
                raise InputError(f"policy {name} is named twice")
        found |= added
    return found


def trained(environment: AnyEnvironment, spelling: str, sampler: str) -> EnginePlayer:
    """The player of a spelling such as runs/3a, or runs/3a@120 for the version after 120 updates."""
    check_installed(sampler)
    folder, number = version_named(spelling)
    run = load(folder.path / run_folder.CONFIG)
    if run.world != environment.name:
        raise InputError(
            f"{folder.path} was trained in the world {run.world}, not {environment.name}; evaluate it there"
        )
    base = base_models.prepare(run.model, world=run.world)
    version = (
        versions.latest(folder.adapters, base.digest)
        if number is None
        else versions.read(folder.adapters / versions.folder_name(number), base.digest)
    )

    return EnginePlayer(
        environment,
        run,
        base,
        engine(run, base, sampler),
        partial(adopt, version=version, base=base),
        version.number,
        AT_ONCE[sampler],
    )


async def adopt(engine: Engine, version: PolicyVersion, base: BaseModel) -> None:
    """Load a version, and check that all of its modules were bound."""
    wanted = versions.verify(version, base.digest).modules
    bound = await engine.adopt(version)
    if bound != wanted:
        raise AdapterError(
            f"{version.path}: {bound} of the {wanted} modules of {version.name} were bound to {base.name}; "
            "give the base model that the run began from"
        )


def base_model(environment: AnyEnvironment, name: str, sampler: str, *, structured: bool) -> EnginePlayer:
    """The player of a model by its folder or name, without an adapter, in the style that fits it."""
    check_installed(sampler)
    if name in MADE_HERE:
        tiny.check(environment)
    rollout = Rollout(structured=structured)
    if name in MADE_HERE:
        rollout = Rollout(structured=structured, max_tokens=1)  # its actions are one token each, and nothing ends them
    run = Run(world=environment.name, model=name, rollout=rollout)
    base = base_models.prepare(name, world=environment.name)

    return EnginePlayer(
        environment,
        run,
        base,
        engine(run, base, sampler),
        lambda engine: engine.adopt_base(base.digest),
        None,
        AT_ONCE[sampler],
    )


def engine(run: Run, base: BaseModel, sampler: str) -> Callable[[], Engine]:
    """Prepare to start an engine on this machine."""
    # Imported here: it loads torch and transformers, and whatever is refused before this needs neither.
    found: Callable[[], Engine] = import_module(_ENGINE).prepared(run, base, sampler)
    return found


def served(environment: AnyEnvironment, spelling: str) -> ServedPolicy:
    """The policy of a spelling such as qwen2.5@http://127.0.0.1:8000/v1: a model that somebody serves."""
    name, at, url = spelling.partition("@")
    if not name or not at:
        raise InputError(f"{spelling[:80]!r} is no served model; write served=MODEL@http://127.0.0.1:8000/v1")
    key = KEY if os.environ.get(KEY) else None
    return ServedPolicy(environment, OpenAISampler(url, name, key_variable=key, retries=RETRIES))


def version_named(spelling: str) -> tuple[RunFolder, int | None]:
    """The run of a spelling such as runs/3a or runs/3a@120, and which of its versions; None is the last one."""
    path, at, number = spelling.rpartition("@")
    if not at:
        return RunFolder(Path(spelling)), None
    if not number.isascii() or not number.isdigit():
        raise InputError(f"{spelling[:80]!r}: after the @ comes a version's number, for example runs/3a@120")
    return RunFolder(Path(path)), int(number)
