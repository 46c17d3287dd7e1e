"""Rollouts: episodes played side by side, each turn of theirs one batch of completions.

No actor and no engine here: the caller passes the function that gives completions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Protocol

from chaosops_ray.agents.seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim import seats as seating
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Episode, Step, Style
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import UNTRAINED, EpisodeReport, Group, Sample, SampleRequest, Task, Trajectory


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
        self, environment: AnyEnvironment, codec: Codec, style: Style, task: Task, member: int, *, structured: bool
    ) -> None:
        self.environment = environment
        self.scenario = environment.scenario(task.scenario)
        self.rules = environment.rules(task.rules)
        self.start = self.world = environment.start(self.scenario, self.rules)
        self.member = member
        self.steps: list[Step[Any, Any, Any]] = []
        self.seats: dict[str, TokenSeat] = {}
        self.versions: list[tuple[int, str]] = []
        self._seat = partial(TokenSeat, environment, rules=self.rules, style=style, codec=codec, structured=structured)
        self._seed = task.seed
        self._colleagues = seating.built(environment, dict(task.colleagues), self.scenario, self.rules)
        self._play_colleagues()

    @property
    def acting(self) -> str | None:
        """The role of the policy whose turn it is; None when the episode is over."""
        return self.environment.acting(self.world)

    def request(self, role: str) -> SampleRequest:
        """Return what to ask the policy now, for this role."""
        if role not in self.seats:
            self.seats[role] = self._seat(role)
        seed = stream(self._seed, f"sample/{self.member}", len(self.steps)).bits() >> 1
        return self.seats[role].request(self.environment.view(self.world, role), row=self.member, seed=seed)

    def answer(self, role: str, sample: Sample) -> None:
        """Take the policy's action, and then those of its colleagues until it is the policy's turn again."""
        seat = self.seats[role]
        self._take(role, seat.view, seat.answer(sample), (sample.version, sample.digest))
        self._play_colleagues()

    def _play_colleagues(self) -> None:
        while (role := self.acting) is not None and role in self._colleagues:
            view = self.environment.view(self.world, role)
            self._take(role, view, self._colleagues[role](view), UNTRAINED)

    def _take(self, role: str, view: Any, action: Any, taken_by: tuple[int, str]) -> None:
        """Take an action; credit every seat of the policy that has acted with the rewards."""
        self.world, taken, outcome, score = self.environment.step(self.world, action)
        self.versions.append(taken_by)
        self.steps.append(Step(role, view, taken, outcome, score, self.world))
        streams = dict(self.environment.streams(score))
        for credited in self.seats.values():
            credited.earned(streams)

    @property
    def episode(self) -> AnyEpisode:
        """The episode so far."""
        return Episode(self.scenario, self.rules, self.start, tuple(self.steps))

    def trajectories(self) -> list[Trajectory]:
        """Return the transcript of each seat of the policy."""
        return [Trajectory(role, self.member, seat.tokens, seat.turns) for role, seat in self.seats.items()]


async def play_group(
    environment: AnyEnvironment, codec: Codec, style: Style, task: Task, ask: Ask, *, structured: bool
) -> Group:
    """Play all episodes of the task; return what the learner needs of them."""
    rollouts = await play(environment, codec, style, task, ask, structured=structured)
    trajectories = [trajectory for rollout in rollouts for trajectory in rollout.trajectories()]
    reports = [report(environment, rollout) for rollout in rollouts]
    version = trajectories[0].turns[0].version if trajectories else None
    return Group(task, tuple(trajectories), tuple(reports), version)


async def play(
    environment: AnyEnvironment, codec: Codec, style: Style, task: Task, ask: Ask, *, structured: bool
) -> list[EpisodeRollout]:
    """Play the episodes of a task. They have one scenario, so their turns are in step."""
    return await _play_out(
        [EpisodeRollout(environment, codec, style, task, row, structured=structured) for row in range(task.size)],
        task.key,
        ask,
    )


async def play_together(
    environment: AnyEnvironment, codec: Codec, style: Style, tasks: Sequence[Task], ask: Ask, *, structured: bool
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
        actions=tuple([environment.dump_action(step.action) for step in episode.steps]),
        versions=tuple(rollout.versions),
    )
