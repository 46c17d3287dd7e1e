"""Playing a group: one scenario, `size` episodes side by side, every turn of theirs one batch of completions.

Plain code: no actor, no engine. Whatever speaks for the policy is awaited; what comes back is what it said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from chaosops_ray.agents.seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Episode, Step, Style
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import EpisodeReport, Group, Sample, SampleRequest, Task, Trajectory


class Ask(Protocol):
    """Completions for a batch of requests, in their order."""

    def __call__(self, cohort: str, requests: Sequence[SampleRequest], /) -> Awaitable[list[Sample]]:
        """Ask the engine."""
        ...


class EpisodeRollout:
    """One episode while it is played, with a seat for every role that has acted."""

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
        self._codec = codec
        self._style = style
        self._structured = structured
        self._seed = task.seed

    @property
    def acting(self) -> str | None:
        """Whose turn it is."""
        return self.environment.acting(self.world)

    def request(self, role: str) -> SampleRequest:
        """Return what to ask the policy now, for this role."""
        seat = self.seats.get(role)
        if seat is None:
            seat = self.seats[role] = TokenSeat(
                self.environment, role, self.rules, self._style, self._codec, structured=self._structured
            )
        seed = stream(self._seed, f"sample/{self.member}", len(self.steps)).bits() >> 1
        return seat.request(self.environment.view(self.world, role), row=self.member, seed=seed)

    def answer(self, role: str, sample: Sample) -> None:
        """Take the policy's action; every seat that has acted is credited with what comes of it."""
        seat = self.seats[role]
        after, taken, outcome, score = self.environment.step(self.world, seat.answer(sample))
        self.world = after
        self.versions.append((sample.version, sample.digest))
        self.steps.append(Step(role, seat.view, taken, outcome, score, after))
        streams = dict(self.environment.streams(score))
        for credited in self.seats.values():
            credited.earned(streams)

    @property
    def episode(self) -> AnyEpisode:
        """The episode as the record keeps it."""
        return Episode(self.scenario, self.rules, self.start, tuple(self.steps))

    def trajectories(self) -> list[Trajectory]:
        """What each seat read and wrote."""
        return [Trajectory(role, self.member, seat.tokens, seat.turns) for role, seat in self.seats.items()]


async def play_group(
    environment: AnyEnvironment, codec: Codec, style: Style, task: Task, ask: Ask, *, structured: bool
) -> Group:
    """All episodes of the task to their ends, as the learner wants them."""
    rollouts = await play(environment, codec, style, task, ask, structured=structured)
    return Group(
        task,
        tuple([trajectory for episode_rollout in rollouts for trajectory in episode_rollout.trajectories()]),
        tuple([report(environment, episode_rollout) for episode_rollout in rollouts]),
        rollouts[0].versions[0][0],
    )


async def play(
    environment: AnyEnvironment, codec: Codec, style: Style, task: Task, ask: Ask, *, structured: bool
) -> list[EpisodeRollout]:
    """The episodes side by side, each turn of theirs one batch. Episodes of one scenario have their turns in step."""
    rollouts = [
        EpisodeRollout(environment, codec, style, task, member, structured=structured) for member in range(task.size)
    ]
    await _play_out(rollouts, task.key, ask)
    return rollouts


async def play_together(
    environment: AnyEnvironment, codec: Codec, style: Style, tasks: Sequence[Task], ask: Ask, *, structured: bool
) -> list[EpisodeRollout]:
    """Play one episode of each task, side by side as rows of one cohort: a batch of different scenarios."""
    rollouts = [
        EpisodeRollout(environment, codec, style, task, row, structured=structured) for row, task in enumerate(tasks)
    ]
    await _play_out(rollouts, "together", ask)
    return rollouts


async def _play_out(rollouts: Sequence[EpisodeRollout], cohort: str, ask: Ask) -> None:
    unfinished = [episode_rollout for episode_rollout in rollouts if episode_rollout.acting is not None]
    while unfinished:
        by_role: dict[str, list[EpisodeRollout]] = {}
        for episode_rollout in unfinished:
            by_role.setdefault(episode_rollout.acting or "", []).append(episode_rollout)
        for role, acting in by_role.items():
            requests = [episode_rollout.request(role) for episode_rollout in acting]
            samples = await ask(f"{cohort}/{role}", requests)
            for episode_rollout, sample in zip(acting, samples, strict=True):
                episode_rollout.answer(role, sample)
        unfinished = [episode_rollout for episode_rollout in unfinished if episode_rollout.acting is not None]


def report(environment: AnyEnvironment, episode_rollout: EpisodeRollout) -> EpisodeReport:
    """What the metrics say of an episode."""
    episode = episode_rollout.episode
    pay = environment.pay
    return EpisodeReport(
        scenario=episode.scenario.identity,
        tier=episode.scenario.tier,
        headline=environment.headline(episode),
        progress=environment.progress(episode),
        metrics={metric.name: metric.of(episode) for metric in environment.metrics},
        rewards={
            role: sum([environment.streams(step.score)[pay[role]] for step in episode.steps])
            for role in environment.roles
        },
        actions=tuple([environment.dump_action(step.action) for step in episode.steps]),
        versions=tuple(episode_rollout.versions),
    )
