"""Playing a group: one scenario, `size` episodes side by side, every turn of theirs one batch of completions.

Plain code: no actor, no engine. Whatever speaks for the policy is awaited; what comes back is what it said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from chaosops_ray.agents.tokens import Codec, Transcript
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Episode, Step, Style
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import EpisodeReport, Group, Ids, Sample, SampleRequest, Task, Trajectory


class Ask(Protocol):
    """Completions for a batch of requests, in their order."""

    def __call__(self, cohort: str, requests: Sequence[SampleRequest], /) -> Awaitable[list[Sample]]:
        """Ask the engine."""
        ...


class EpisodeRollout:
    """One episode while it is played, with a transcript for every seat that has spoken."""

    def __init__(self, environment: AnyEnvironment, codec: Codec, style: Style, task: Task, member: int) -> None:
        self.environment = environment
        self.scenario = environment.scenario(task.scenario)
        self.rules = environment.rules(task.rules)
        self.start = self.world = environment.start(self.scenario, self.rules)
        self.member = member
        self.steps: list[Step[Any, Any, Any]] = []
        self.transcripts: dict[str, Transcript] = {}
        self.versions: list[tuple[int, str]] = []
        self._codec = codec
        self._style = style
        self._seed = task.seed
        self._seen: dict[str, Any] = {}

    @property
    def acting(self) -> str | None:
        """Whose turn it is."""
        return self.environment.acting(self.world)

    def request(self, role: str, choices: tuple[Ids, ...] | None) -> SampleRequest:
        """What is asked of the policy now."""
        transcript = self.transcripts.get(role)
        if transcript is None:
            brief = self.environment.system_prompt(role, self.rules, self._style)
            transcript = self.transcripts[role] = Transcript(self._codec, brief)
        view = self.environment.view(self.world, role)
        prompt = transcript.observe(self.environment.render(view, self._seen.get(role), self._style))
        self._seen[role] = view
        seed = stream(self._seed, f"sample/{self.member}", len(self.steps)).bits() >> 1
        return SampleRequest(self.member, prompt, seed, choices)

    def answer(self, role: str, sample: Sample, choices: tuple[Ids, ...] | None) -> None:
        """What the policy said is done; every seat that has spoken shares in what comes of it."""
        action = self.environment.parse_action(self.transcripts[role].complete(sample, choices))
        after, taken, outcome, score = self.environment.step(self.world, action)
        self.world = after
        self.versions.append((sample.version, sample.digest))
        self.steps.append(Step(role, self._seen[role], taken, outcome, score, after))
        streams = dict(self.environment.streams(score))
        for transcript in self.transcripts.values():
            transcript.earned(streams)

    @property
    def episode(self) -> AnyEpisode:
        """The episode as the record keeps it."""
        return Episode(self.scenario, self.rules, self.start, tuple(self.steps))

    def trajectories(self) -> list[Trajectory]:
        """What each seat read and wrote."""
        return [
            Trajectory(role, self.member, transcript.written, tuple(transcript.turns))
            for role, transcript in self.transcripts.items()
        ]


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
    rollouts = [EpisodeRollout(environment, codec, style, task, member) for member in range(task.size)]
    await _play_out(environment, codec, style, rollouts, task.key, ask, structured=structured)
    return rollouts


async def play_together(
    environment: AnyEnvironment, codec: Codec, style: Style, tasks: Sequence[Task], ask: Ask, *, structured: bool
) -> list[EpisodeRollout]:
    """Play one episode of each task, side by side as rows of one cohort: a batch of different scenarios."""
    rollouts = [EpisodeRollout(environment, codec, style, task, row) for row, task in enumerate(tasks)]
    await _play_out(environment, codec, style, rollouts, "together", ask, structured=structured)
    return rollouts


async def _play_out(
    environment: AnyEnvironment,
    codec: Codec,
    style: Style,
    rollouts: Sequence[EpisodeRollout],
    cohort: str,
    ask: Ask,
    *,
    structured: bool,
) -> None:
    unfinished = [episode_rollout for episode_rollout in rollouts if episode_rollout.acting is not None]
    while unfinished:
        by_role: dict[str, list[EpisodeRollout]] = {}
        for episode_rollout in unfinished:
            by_role.setdefault(episode_rollout.acting or "", []).append(episode_rollout)
        for role, acting in by_role.items():
            choices = permitted(environment, codec, role, style) if structured else None
            requests = [episode_rollout.request(role, choices) for episode_rollout in acting]
            samples = await ask(f"{cohort}/{role}", requests)
            for episode_rollout, sample in zip(acting, samples, strict=True):
                episode_rollout.answer(role, sample, choices)
        unfinished = [episode_rollout for episode_rollout in unfinished if episode_rollout.acting is not None]


def permitted(environment: AnyEnvironment, codec: Codec, role: str, style: Style) -> tuple[Ids, ...] | None:
    """Every action this seat may take, as a completion; None where they cannot be written out."""
    kinds = environment.vocabulary(role)
    if kinds is None:
        return None
    return tuple([codec.action(environment.format_action(action, style)) for kind in kinds for action in kind])


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
