"""Tasks for one seat of a world: the model talks, the world answers, and the episode's components are the rewards.

A task is a seed. The world plays the user, as it does when this project trains: each reply of the model is an action,
and the next message is what is new to the seat. Rewards are computed from the replies alone, by playing them again, so
a recorded trace can be scored again, and an untouched task scores as a seat that says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import verifiers.v1 as vf
from pydantic import Field
from verifiers.v1.harnesses.null import NullHarnessConfig

from chaosops_ray.agents.seat_spec import FIRST_SEED, SeatSpec, leave, seat_spec
from chaosops_ray.agents.session import Session
from chaosops_ray.sim.contract import AnyEpisode

ID = "chaosops-verifiers"
# Where a trace keeps the replies that the world has heard.
REPLIES = "replies"
_ORACLE = "oracle"


class SeatData(vf.TaskData):
    """A seat and a seed. They name no failure, question or answer, and may be shown to anyone."""

    world: str
    role: str
    rules: str
    colleagues: str
    tiers: list[str]
    selection: str
    seed: int


class SeatTask(vf.Task[SeatData]):
    """An episode in the seat, scored by the components that the world pays."""

    @property
    def seat(self) -> SeatSpec:
        """The seat that the model takes."""
        data = self.data
        return seat_spec(
            data.world,
            data.role,
            rules=data.rules,
            colleagues=data.colleagues,
            tiers=data.tiers,
            selection=data.selection,
        )

    def begin(self) -> Session:
        """Begin the episode."""
        seat = self.seat
        return seat.session(seat.scenario(self.data.seed))

    def played(self, replies: Sequence[str]) -> AnyEpisode:
        """Return the whole episode of these replies; after the last one the seat says nothing until the end."""
        session = self.begin()
        for reply in replies:
            if session.is_over:
                break
            session.say(reply)
        leave(session)
        return session.episode

    @vf.reward
    async def components(self, trace: vf.Trace) -> dict[str, float]:
        """Return what the episode paid, by component, less what it pays where this seat says nothing.

        That is a constant of the task. Without it, a good team would solve some tasks for a seat that does nothing.
        """
        paid: dict[str, float] = {}
        for step in self.played(trace.info.get(REPLIES, ())).steps:
            for name, value in step.score.components:
                paid[name] = paid.get(name, 0.0) + value
        return {**paid, "less_doing_nothing": -float(self.played(()).total)}

    @vf.metric
    async def figures(self, trace: vf.Trace) -> dict[str, float]:
        """Return the return, the headline score and the metrics that the world's evaluation reports."""
        environment, episode = self.seat.environment, self.played(trace.info.get(REPLIES, ()))
        measured = {metric.name: metric.of(episode) for metric in environment.metrics}
        return {
            **{name: value for name, value in measured.items() if value is not None},
            environment.headline_name: environment.headline(episode),
            "return": float(episode.total),
        }

    async def validate(self, runtime: vf.Runtime) -> bool | None:  # noqa: ARG002 - no program is run
        """Tell if the oracle, which knows the answer, earns more in this seat than doing nothing does."""
        session, policies = self.begin(), self.seat.environment.policies
        if _ORACLE not in policies:
            return None
        choose = policies[_ORACLE](session.episode.scenario, self.data.rules)
        while not session.is_over:
            session.act(choose(session.view))
        return session.episode.total > self.played(()).total


class SeatTasksetConfig(vf.TasksetConfig):
    """Which seat, and which of its scenarios."""

    world: str = "tools"
    role: str = ""
    """The seat; a world with one role needs none."""
    rules: str = ""
    """The rule set, or the world's default."""
    colleagues: str = ""
    """The baseline that plays the other seats, or one for each, such as sre=oracle,dev=heuristic,manager=oracle; or the
    world's rules of thumb."""
    tiers: list[str] = Field(default_factory=list)
    """The tiers, or all of them."""
    selection: str = ""
    """The evaluation set whose cases are drawn, or the one that runs train on."""
    num_tasks: int = 20
    first_seed: int = FIRST_SEED


class SeatTaskset(vf.Taskset[SeatTask, SeatTasksetConfig]):
    """A task for each seed whose scenario leaves the seat a turn."""

    def load(self) -> Iterator[SeatTask]:
        """Yield the tasks."""
        config = self.config
        seat = seat_spec(
            config.world,
            config.role,
            rules=config.rules,
            colleagues=config.colleagues,
            tiers=config.tiers,
            selection=config.selection,
        )
        for seed in seat.seeds(config.num_tasks, config.first_seed):
            session = seat.session(seat.scenario(seed))
            examples: vf.Messages = []
            for asked, answer in session.opening:
                examples += [vf.UserMessage(content=asked), vf.AssistantMessage(content=answer)]
            yield SeatTask(
                SeatData(
                    name=f"{seat.environment.name}-{seat.role}-{seed}",
                    system_prompt=session.system_prompt,
                    prompt=[*examples, vf.UserMessage(content=session.text)],
                    world=seat.environment.name,
                    role=seat.role,
                    rules=seat.rules,
                    colleagues=config.colleagues,
                    tiers=config.tiers,
                    selection=config.selection,
                    seed=seed,
                ),
                config.task,
            )


def load_taskset(**settings: Any) -> SeatTaskset:
    """Return the taskset of these settings, which are the fields of `SeatTasksetConfig`."""
    return SeatTaskset(SeatTasksetConfig(id=ID, **settings))


class SeatEnvConfig(vf.SingleAgentEnvConfig):
    """The one agent is a plain chat: no tools of its own, and nothing that needs a container."""

    agent: vf.AgentConfig = vf.AgentConfig(harness=NullHarnessConfig(id="null"), runtime=vf.SubprocessConfig())


class SeatEnv(vf.SingleAgentEnv, vf.Env[SeatEnvConfig]):
    """The world plays the user of the conversation, until the episode is over."""

    async def run(self, task: SeatTask, agents: vf.Agents) -> None:
        """Play one episode."""
        session = task.begin()
        async with agents.agent.interaction(task) as interaction:
            heard = interaction.trace.info.setdefault(REPLIES, [])
            segment = await interaction.turn()  # the task's prompt is what the seat is told first
            while not segment.terminated:
                heard.append(segment.last_reply)
                session.say(segment.last_reply)
                if session.is_over:
                    break
                segment = await interaction.turn(session.text)
