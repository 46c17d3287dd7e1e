"""Models as players of an evaluation, and live: a run's policy, a base model without an adapter, a served model.

Everything that a spelling names is checked before anything is played. An engine is loaded for its turn and closed after
it, so that one model at a time needs memory. A model that cannot be loaded is an error; nothing is played in its place.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from chaosops_ray import evaluate
from chaosops_ray.agents.endpoint import OpenAISampler
from chaosops_ray.agents.served import ServedPolicy
from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import MADE_HERE, ConfigError, Rollout, Run
from chaosops_ray.evaluate import OneByOne, Played, Player
from chaosops_ray.plain_text import one_line
from chaosops_ray.reports.tables import plain
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, Policy, PolicyFactory, Scenario
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import remote, versions
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import base_models, check, copies, plan
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.wire import Decoding, Origin, PolicyVersion, Sample, SampleRequest, Structured, Task
from chaosops_ray.workers.rollout import play_together
from chaosops_ray.workers.samplers.build import build, check_installed, settings
from chaosops_ray.workers.samplers.sampler import Engine

# The variable with the key of a served model; sent if it is set.
KEY = "OPENAI_API_KEY"
RETRIES = 5
# Scenarios side by side: torch computes them in one batch and keeps all their transcripts, vLLM has a queue.
AT_ONCE = {"torch": 16, "vllm": 128}
_Other: TypeAlias = Callable[[AnyEnvironment, str, Mapping[str, str] | None], Player]
_Ask: TypeAlias = Callable[[str, Sequence[SampleRequest]], Coroutine[Any, Any, list[Sample]]]


@dataclass(frozen=True)
class EnginePlayer:
    """A player on an engine that lives as long as it plays, greedily; of scenarios side by side, or of one live."""

    environment: AnyEnvironment
    run: Run
    base: BaseModel
    start: Callable[[], Engine]
    adopt: Callable[[Engine], Coroutine[Any, Any, None]]  # prepares a new engine for the version
    number: int | None  # the version that plays; None is the base model
    at_once: int
    colleagues: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        """Play each scenario once, in their order."""
        environment, run, structured = self.environment, self.run, self.run.rollout.structured
        codec, beside = Codec(self.base.path, self.base.layout), tuple(self.colleagues.items())
        tasks = [
            Task(f"evaluate/{one.identity}", one.identity, rules, 1, 0, greedy=True, colleagues=beside)
            for one in scenarios
        ]
        with self._engine() as (runner, ask):
            for first in range(0, len(tasks), self.at_once):
                some = tasks[first : first + self.at_once]
                playing = play_together(environment, codec, run.rendering, some, ask, structured=structured)
                yield from [Played(one.episode, tuple(one.origins)) for one in runner.run(playing)]

    @contextmanager
    def live(self) -> Iterator[PolicyFactory]:
        """Yield the policy with its colleagues, to be asked turn by turn while the engine lives."""
        with self.voices() as voice:

            def build(scenario: Scenario, rules: str) -> Policy:
                speaks = voice(scenario, rules)
                return lambda view: speaks.act(view)[0]

            yield seats.beside(self.environment, build, self.colleagues)

    @contextmanager
    def voices(self) -> Iterator[Callable[[Scenario, str], Voice]]:
        """Yield what begins an episode of the model alone, while the engine lives."""
        with self._engine() as (runner, ask):
            codec = Codec(self.base.path, self.base.layout)
            yield lambda scenario, rules: Voice(self, codec, scenario, self.environment.rules(rules), runner, ask)

    @contextmanager
    def _engine(self) -> Iterator[tuple[asyncio.Runner, _Ask]]:
        """Start the engine and let it adopt the version; yield what runs its coroutines, and its completions."""
        rollout = self.run.rollout
        decoding = Decoding(0.0, rollout.max_tokens, self.base.layout.stop, rollout.choice_score)
        with asyncio.Runner() as runner:
            engine = self.start()

            async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
                return await engine.sample(cohort, requests, decoding, self.number)

            try:
                runner.run(self.adopt(engine))
                yield runner, ask
            finally:
                runner.run(engine.close())


class Voice:
    """The model in one episode: it answers for each seat, and can be told what it wrote before."""

    def __init__(
        self, player: EnginePlayer, codec: Codec, scenario: Scenario, rules: str, runner: asyncio.Runner, ask: _Ask
    ) -> None:
        run = player.run
        self._codec, self._scenario, self._runner, self._ask = codec, scenario, runner, ask
        structured = run.rollout.structured
        self._seat = partial(
            TokenSeat, player.environment, rules=rules, style=run.rendering, codec=codec, structured=structured
        )
        self._begun: dict[str, TokenSeat] = {}

    def act(self, view: Any) -> tuple[Any, Origin]:
        """Return the action of the view's seat, and where it came from."""
        seat = self._seat_of(view)
        request = seat.request(view)
        (sample,) = self._runner.run(self._ask(f"live/{self._scenario.identity}/{seat.role}", [request]))
        action = seat.answer(sample)
        return action, Origin(sample.version, sample.digest, seat.completion, sample.log_probs)

    def remember(self, view: Any, completion: str) -> None:
        """Take a completion for what the model wrote on this view, encoded again from its text."""
        seat = self._seat_of(view)
        seat.request(view)
        # Where a model ends its completions, one that was cut off at the limit is taken for one that ended.
        seat.answer(Sample(self._codec.action(completion), (), -1, "", bool(self._codec.layout.stop)))

    def _seat_of(self, view: Any) -> TokenSeat:
        role: str = view.role
        if role not in self._begun:
            self._begun[role] = self._seat(role=role)
        return self._begun[role]


def players(
    environment: AnyEnvironment,
    spelling: str,
    sampler: str,
    colleagues: Mapping[str, str] | None = None,
    *,
    structured: Structured,
    others: Mapping[str, _Other] = MappingProxyType({}),
) -> dict[str, Player]:
    """Return the players of a comma-separated list: baselines by name, and models.

    `sampler` is the engine that plays trained and base models; base models choose among the permitted actions only if
    `structured`, trained ones as their runs did. `colleagues` play beside each of them; with None, a trained one has
    those of its run's evaluation, and the others have none. `others` are further kinds of models, as in KIND=FOLDER:
    each is given its world, what stands after the =, and the colleagues or None.
    """
    beside = colleagues or {}
    found: dict[str, Player] = {}
    for given in spelling.split(","):
        kind, equals, what = given.partition("=")
        shown = f"{kind}={remote.shown(what)}" if remote.is_uri(what) else given
        name = kind if equals and spelling.count(f"{kind}=") == 1 else shown
        if name in found:
            raise InputError(f"policy {name} is named twice")
        if not equals:
            found |= evaluate.baselines(environment, given, beside)
        elif kind == "trained":
            found[name] = trained(environment, what, sampler, colleagues)
        elif kind == "model":
            found[name] = base_model(environment, what, sampler, beside, structured=structured)
        elif kind == "served":
            found[name] = OneByOne(
                environment, served(environment, what), beside, {"served": plain(what.partition("@")[0])}
            )
        elif kind in others:
            found[name] = others[kind](environment, what, colleagues)
        else:
            raise InputError(
                f"{given[:80]!r} is not a policy; write trained=RUN, model=NAME, served=MODEL@URL or ppo=RUN"
            )
    return found


def trained(
    environment: AnyEnvironment, spelling: str, sampler: str, colleagues: Mapping[str, str] | None = None
) -> EnginePlayer:
    """Return the player of a spelling such as runs/3a, or runs/3a@120 for the version after 120 updates.

    Without `colleagues` it has those of its run's evaluation.
    """
    check_installed(sampler)
    folder, number = version_named(spelling)
    run = check.recorded(folder)
    if run.world != environment.name:
        raise InputError(f"{folder.path} was trained in world {run.world}, not {environment.name}; evaluate it there")
    base = base_models.prepare(run.model, world=run.world)
    version = folder.version(number, base.digest)
    start, adopts = engine(run, base, sampler), partial(adopt, version=version, base=base)
    beside = plan.evaluated_beside(run, environment) if colleagues is None else colleagues
    model = described(folder, run, base, version)
    return EnginePlayer(environment, run, base, start, adopts, version.number, AT_ONCE[sampler], beside, model)


def described(folder: RunFolder, run: Run, base: BaseModel, version: PolicyVersion) -> dict[str, Any]:
    """Return what tells which policy of which run this is."""
    return {
        "run": plain(folder.path.resolve().name),
        "version": version.number,
        "updates": run.updates,
        "digest": version.digest,
        **_of_base(base),
    }


def _of_base(base: BaseModel) -> dict[str, str]:
    # A path of this machine means nothing elsewhere.
    is_path = Path(base.name).expanduser().resolve() == base.path
    return {"model": plain(base.path.name if is_path else base.name), "base": base.digest}


async def adopt(engine: Engine, version: PolicyVersion, base: BaseModel) -> None:
    """Load a version; check that all of its modules were bound."""
    wanted = versions.verify(version, base.digest).modules
    bound = await engine.adopt(version)
    if bound != wanted:
        raise AdapterError(
            f"{version.path}: {bound} of the {wanted} modules of {version.name} were bound to {base.name}; "
            "give the base model that the run started from"
        )


def base_model(
    environment: AnyEnvironment,
    name: str,
    sampler: str,
    colleagues: Mapping[str, str] = MappingProxyType({}),
    *,
    structured: Structured,
) -> EnginePlayer:
    """Return the player of a model by its folder or name, without an adapter, in the style that fits it."""
    check_installed(sampler)
    rollout = Rollout(structured=structured)
    if name in MADE_HERE:  # each action is one token, and nothing ends it
        rollout = Rollout(structured=structured, max_tokens=1)
    run = Run(world=environment.name, model=name, rollout=rollout)
    check.check_schema(run, environment)
    base = base_models.prepare(name, world=environment.name)
    start, at_once = engine(run, base, sampler), AT_ONCE[sampler]

    async def adopts(engine: Engine) -> None:
        await engine.adopt_base(base.digest)

    return EnginePlayer(environment, run, base, start, adopts, None, at_once, colleagues, _of_base(base))


def engine(run: Run, base: BaseModel, sampler: str) -> Callable[[], Engine]:
    """Prepare to start an engine on this machine, whatever resources the run was trained on."""
    # Imported here: they take seconds to load, and whatever is refused before this needs neither.
    torch, transformers = import_module("torch"), import_module("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(base.path).get_text_config()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = one_line(error, 200)
        raise ConfigError(f"model: {base.name} has a config.json that transformers cannot use ({reason})") from None
    context = run.resources.context
    here = {
        "sampler_gpus": float(torch.cuda.is_available()),
        "sampler_threads": run.resources.learner_threads,
        "colocate": False,
        "context": min(context, getattr(config, "max_position_embeddings", None) or context),
    }
    changed = {"sampler": sampler, "schedule": "lockstep", "resources": run.resources.model_copy(update=here)}
    return partial(build, sampler, settings(run.model_copy(update=changed), base.path))


def served(environment: AnyEnvironment, spelling: str) -> ServedPolicy:
    """Return the policy of a served model, such as qwen2.5@http://127.0.0.1:8000/v1."""
    name, at, url = spelling.partition("@")
    if not name or not at:
        raise InputError(f"{spelling[:80]!r} is not a served model; write served=MODEL@http://127.0.0.1:8000/v1")
    key = KEY if os.environ.get(KEY) else None
    return ServedPolicy(environment, OpenAISampler(url, name, key_variable=key, retries=RETRIES))


def version_named(spelling: str) -> tuple[RunFolder, int | None]:
    """Return the run of a spelling such as runs/3a or runs/3a@120, and its version; None is the last one."""
    if remote.is_uri(spelling):
        return _in_a_store(spelling)
    path, at, number = spelling.rpartition("@")
    if not at:
        return RunFolder(Path(spelling)), None
    if not number.isascii() or not number.isdigit():
        raise InputError(f"{spelling[:80]!r}: after the @ must come a version's number, for example runs/3a@120")
    return RunFolder(Path(path)), int(number)


def _in_a_store(spelling: str) -> tuple[RunFolder, int | None]:
    # Only a number at the end is a version: before it, an @ may stand after a user and a password.
    named = re.fullmatch(r"(.+)@([0-9]{1,9})", spelling)
    uri, number = (named[1], int(named[2])) if named else (spelling, None)
    path = remote.local_path(uri)
    return (copies.fetched(uri, number) if path is None else RunFolder(path)), number
