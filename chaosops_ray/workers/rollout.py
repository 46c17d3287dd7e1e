"""Rollouts: episodes played side by side, each turn of theirs one batch of completions.

No actor and no engine here: the caller passes the function that gives completions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Protocol

from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim import seats as seating
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Style
from chaosops_ray.sim.episode import RunningEpisode
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import (
    UNTRAINED,
    EpisodeReport,
    Group,
    Origin,
    Sample,
    SampleRequest,
    Structured,
    Task,
    Trajectory,
)


class Ask(Protocol):
    """Source of completions."""

    def __call__(self, cohort: str, requests: Sequence[SampleRequest], /) -> Awaitable[list[Sample]]:
        """Return a completion for each request, in order."""
        ...


class EpisodeRollout:
    """One episode while it is played, with a seat for every role of the policy that has acted.

    Between the policy's turns the task's colleagues take theirs; they ask no engine and leave no trajectory.
    """

    def __init__(
        self,
        environment: AnyEnvironment,
        codec: Codec,
        style: Style,
        task: Task,
        member: int,
        *,
        structured: Structured,
    ) -> None:
        scenario, rules = environment.scenario(task.scenario), environment.rules(task.rules)
        colleagues = seating.built(environment, dict(task.colleagues), scenario, rules)
        self.environment = environment
        self.member = member
        self.running: RunningEpisode[Any, Any, Any] = RunningEpisode(environment, scenario, rules, colleagues)
        self.seats: dict[str, TokenSeat] = {}
        self.origins = [UNTRAINED for _ in self.running.steps]
        self._seat = partial(TokenSeat, environment, rules=rules, style=style, codec=codec, structured=structured)
        self._seed = task.seed

    @property
    def acting(self) -> str | None:
        """The role of the policy whose turn it is; None when the episode is over."""
        return self.running.acting

    def request(self, role: str) -> SampleRequest:
        """Return what to ask the policy now, for this role."""
        if role not in self.seats:
            self.seats[role] = self._seat(role)
        seed = stream(self._seed, f"sample/{self.member}", len(self.running.steps)).bits() >> 1
        view = self.environment.view(self.running.world, role)
        return self.seats[role].request(view, row=self.member, seed=seed)

    def answer(self, role: str, sample: Sample) -> None:
        """Take the policy's action, and then those of its colleagues; credit every seat that has acted with them."""
        seat, steps = self.seats[role], self.running.steps
        begun = len(steps)
        self.running.take(seat.view, seat.answer(sample))
        own = Origin(sample.version, sample.digest, seat.completion, sample.log_probs)
        self.origins += [own, *[UNTRAINED for _ in steps[begun + 1 :]]]
        for step in steps[begun:]:
            streams = dict(self.environment.streams(step.score))
            for credited in self.seats.values():
                credited.earned(streams)

    @property
    def episode(self) -> AnyEpisode:
        """The episode so far."""
        return self.running.episode

    def trajectories(self) -> list[Trajectory]:
        """Return the transcript of each seat of the policy."""
        return [Trajectory(role, self.member, seat.tokens, seat.turns) for role, seat in self.seats.items()]


async def play_group(
    environment: AnyEnvironment, codec: Codec, style: Style, task: Task, ask: Ask, *, structured: Structured
) -> Group:
    """Play all episodes of the task; return what the learner needs of them."""
    rollouts = await play(environment, codec, style, task, ask, structured=structured)
    trajectories = [trajectory for rollout in rollouts for trajectory in rollout.trajectories()]
    reports = [report(environment, rollout) for rollout in rollouts]
    version = trajectories[0].turns[0].version if trajectories else None
    return Group(task, tuple(trajectories), tuple(reports), version)


async def play(
    environment: AnyEnvironment, codec: Codec, style: Style, task: Task, ask: Ask, *, structured: Structured
) -> list[EpisodeRollout]:
    """Play the episodes of a task. They have one scenario, so their turns are in step."""
    return await _play_out(
        [EpisodeRollout(environment, codec, style, task, row, structured=structured) for row in range(task.size)],
        task.key,
        ask,
    )


async def play_together(
    environment: AnyEnvironment, codec: Codec, style: Style, tasks: Sequence[Task], ask: Ask, *, structured: Structured
) -> list[EpisodeRollout]:
    """Play one episode of each task, as rows of one cohort: a batch of different scenarios."""
    return await _play_out(
        [EpisodeRollout(environment, codec, style, task, row, structured=structured) for row, task in enumerate(tasks)],
        "together",
        ask,
    )


async def _play_out(rollouts: list[EpisodeRollout], cohort: str, ask: Ask) -> list[EpisodeRollout]:
    while True:
        by_role: dict[str, list[EpisodeRollout]] = {}
        for rollout in rollouts:
            if rollout.acting is not None:
                by_role.setdefault(rollout.acting, []).append(rollout)
        if not by_role:
            return rollouts
        for role, acting in by_role.items():
            samples = await ask(f"{cohort}/{role}", [rollout.request(role) for rollout in acting])
            for rollout, sample in zip(acting, samples, strict=True):
                rollout.answer(role, sample)


def report(environment: AnyEnvironment, rollout: EpisodeRollout) -> EpisodeReport:
    """Return the figures of an episode."""
    episode = rollout.episode
    streams = [environment.streams(step.score) for step in episode.steps]
    return EpisodeReport(
        scenario=episode.scenario.identity,
        tier=episode.scenario.tier,
        headline=environment.headline(episode),
        progress=environment.progress(episode),
        metrics={metric.name: metric.of(episode) for metric in environment.metrics},
        rewards={role: sum([earned[environment.pay[role]] for earned in streams]) for role in environment.roles},
        components=components(environment, episode),
        actions=tuple([environment.dump_action(step.action) for step in episode.steps]),
        origins=tuple(rollout.origins),
    )


def components(environment: AnyEnvironment, episode: AnyEpisode) -> dict[str, float]:
    """Return what each part of the score paid, over all steps; 0 for a part of the world that paid nothing."""
    found = dict.fromkeys(environment.components, 0.0)
    for step in episode.steps:
        for name, value in step.score.components:
            found[name] = found.get(name, 0.0) + value
    return found
