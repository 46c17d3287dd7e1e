"""What crosses a process: a few frozen values, and nothing that knows how it was made.

Tokens travel as ids. Nothing is ever turned into text and tokenised again on the way to the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Ids: TypeAlias = tuple[int, ...]


class PolicyVersion(NamedTuple):
    """An adapter as it was published: which one, what its bytes digest to, where they lie."""

    number: int
    digest: str
    path: str

    @property
    def name(self) -> str:
        """What engines know it by; a version never shares a name with another."""
        return f"policy-v{self.number}"


class SampleRequest(NamedTuple):
    """One completion that is wanted: of this prompt, by this version, with this seed."""

    row: int  # which member of its cohort asks; a sampler may keep what it has computed for it
    prompt: Ids
    seed: int
    # Where given, the completion is one of these; the log-probabilities are then of the choice among them.
    choices: tuple[Ids, ...] | None = None


class Sample(NamedTuple):
    """A completion, and which policy it came from."""

    tokens: Ids
    log_probs: tuple[float, ...]
    version: int
    digest: str
    stopped: bool  # by a stop token, which is then the last of `tokens`; otherwise at the limit


@lru_cache(10_000)
def next_tokens(choices: tuple[Ids, ...], written: Ids) -> Ids:
    """The tokens that may come next in a completion that must be one of the choices, in ascending order.

    The engines mask by it and the learner takes its log-probabilities among it: they must agree exactly.
    """
    place = len(written)
    return tuple(sorted({choice[place] for choice in choices if len(choice) > place and choice[:place] == written}))


class Layout(NamedTuple):
    """How a transcript is put together, in token ids: what stands around briefs, observations and completions."""

    head: Ids
    after_system_prompt: Ids
    after_observation: Ids
    after_stop: Ids  # between a completion that ended in a stop token and the next observation
    after_cut: Ids  # the same for one that was cut off at the limit
    stop: Ids


class Decoding(NamedTuple):
    """How completions are drawn."""

    temperature: float  # 0 is greedy
    max_tokens: int
    stop: Ids


class Turn(NamedTuple):
    """One completion within a trajectory, and what it earned until the seat's next turn."""

    start: int
    end: int  # tokens[start:end] is the completion
    log_probs: tuple[float, ...]
    rewards: Mapping[str, float]  # by stream
    version: int
    digest: str
    choices: tuple[Ids, ...] | None = None


class Trajectory(NamedTuple):
    """One seat of one episode: a transcript in tokens, and where in it the policy spoke."""

    role: str
    member: int
    tokens: Ids
    turns: tuple[Turn, ...]


class EpisodeReport(NamedTuple):
    """What is said of an episode in the metrics; its steps are in the record."""

    scenario: str
    tier: str
    headline: float
    progress: float
    metrics: Mapping[str, float | None]
    rewards: Mapping[str, float]  # by role, as its stream paid it
    actions: tuple[str, ...]  # as records have them; with the scenario they are the whole episode
    versions: tuple[tuple[int, str], ...]  # number and digest of the policy that took each of them


@dataclass(frozen=True, slots=True)
class Task:
    """A group to play: one scenario, so many times, each member under its own seed."""

    key: str  # unique in the run; every random draw of the group hangs on it
    scenario: str
    rules: str
    size: int
    seed: int
    greedy: bool = False  # whatever the run's temperature is


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of a task: `size` episodes of the same scenario, each with a trajectory for every seat."""

    task: Task
    trajectories: tuple[Trajectory, ...]
    reports: tuple[EpisodeReport, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What a sampler must reproduce before it may serve a version: token log-probabilities of fixed texts."""

    texts: tuple[Ids, ...]
    expected: tuple[tuple[float, ...], ...]  # the learner's, with the adapter; one for each token but the first
    base: tuple[tuple[float, ...], ...]  # the learner's, without
    modules: int  # how many modules the adapter binds
    tolerance: float
