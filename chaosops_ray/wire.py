"""The frozen values that cross a process. Tokens travel as ids: no text is tokenised again on the way to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from chaosops_ray.spans import Work

Ids: TypeAlias = tuple[int, ...]
# How the score of a choice is made of the log-probabilities of its tokens.
ChoiceScore: TypeAlias = Literal["mean", "sum"]
# What holds completions to actions: nothing, a choice among those permitted, or a JSON Schema.
Structured: TypeAlias = Literal["no", "choices", "schema"]
# Files on their way to another process: contents by name.
Files: TypeAlias = Mapping[str, bytes]


class Origin(NamedTuple):
    """Where an action came from: a version's number and digest, and the completion that the action was read from."""

    version: int = -1
    digest: str = ""
    completion: str = ""
    log_probs: tuple[float, ...] = ()  # of the completion's tokens, or of the whole choice, as they were sampled


# Where none of our models took the action: a baseline or a served model did.
UNTRAINED = Origin()


class PolicyVersion(NamedTuple):
    """A published adapter: its number, the digest of its bytes, and the folder that holds them on some node."""

    number: int
    digest: str
    path: str

    @property
    def name(self) -> str:
        """The name for engines, unique to the version."""
        return f"policy-v{self.number}"


class SampleRequest(NamedTuple):
    """A request for one completion of a prompt."""

    row: int  # the member of the cohort that asks; a sampler may keep its cache between requests
    prompt: Ids
    seed: int
    # If given, the completion is one of these. Choices of single tokens have the log-probability of the token among
    # those permitted, others one of the whole choice among all: chaosops_ray.choice_tree.
    choices: tuple[Ids, ...] | None = None
    # If given, the completion is an object of this JSON Schema and a stop token, and the log-probabilities are among
    # the tokens that the schema permits: chaosops_ray.grammar.
    schema: str | None = None


class Sample(NamedTuple):
    """A completion, with the policy that it came from."""

    tokens: Ids
    log_probs: tuple[float, ...]  # one for each token; of a choice among several tokens only one, the choice's
    version: int
    digest: str
    stopped: bool  # by a stop token, which is then the last of `tokens`; otherwise at the limit


@lru_cache(10_000)
def next_tokens(choices: tuple[Ids, ...], written: Ids) -> Ids:
    """Return the tokens that may come next in a completion that must be one of the choices, in ascending order.

    Engines mask by them and the learner takes log-probabilities among them: both must agree exactly.
    """
    place = len(written)
    return tuple(sorted({choice[place] for choice in choices if len(choice) > place and choice[:place] == written}))


class Layout(NamedTuple):
    """The parts of a transcript around system prompts, observations and completions, in token ids."""

    head: Ids
    after_system_prompt: Ids
    after_observation: Ids
    after_stop: Ids  # between a completion that ended in a stop token and the next observation
    after_cut: Ids  # the same for one that was cut off at the limit
    stop: Ids


class Decoding(NamedTuple):
    """The settings for drawing completions."""

    temperature: float  # 0 is greedy
    max_tokens: int
    stop: Ids
    choice_score: ChoiceScore = "mean"  # of choices of several tokens: chaosops_ray.choice_tree


class Turn(NamedTuple):
    """One completion in a trajectory, with its rewards until the seat's next turn."""

    start: int
    end: int  # tokens[start:end] is the completion
    log_probs: tuple[float, ...]  # as the sample had them
    rewards: Mapping[str, float]  # by stream
    version: int
    digest: str
    choices: tuple[Ids, ...] | None = None
    schema: str | None = None


class Trajectory(NamedTuple):
    """One seat of one episode: a transcript in tokens, and the policy's completions in it."""

    role: str
    member: int
    tokens: Ids
    turns: tuple[Turn, ...]


class EpisodeReport(NamedTuple):
    """The figures of an episode for the metrics; its steps are in the record."""

    scenario: str
    tier: str
    headline: float
    progress: float
    metrics: Mapping[str, float | None]
    rewards: Mapping[str, float]  # by role, as its stream paid it
    components: Mapping[str, float]  # by part of the score, over all steps
    actions: tuple[str, ...]  # in the form of records; with the scenario they determine the whole episode
    origins: tuple[Origin, ...]  # of each action; UNTRAINED where a colleague took it


@dataclass(frozen=True, slots=True)
class Task:
    """A group to play: one scenario `size` times, each member with its own seed."""

    key: str  # unique in the run; every random draw of the group depends on it
    scenario: str
    rules: str
    size: int
    seed: int
    greedy: bool = False  # at any temperature of the run
    colleagues: tuple[tuple[str, str], ...] = ()  # role and baseline of each seat that the policy does not play


class Played(NamedTuple):
    """What the playing of a group took."""

    work: Work
    requests: int  # for completions
    waited: float  # seconds from sending a request until the engine began with it, summed over the requests


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of a task: `size` episodes of the same scenario, each with one for every seat of the policy."""

    task: Task
    trajectories: tuple[Trajectory, ...]
    reports: tuple[EpisodeReport, ...]
    version: int | None  # None if every episode ended before the policy had a turn
    # By the shard; groups that were played at another speed are still the same.
    played: Played | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """Token log-probabilities of fixed texts, which a sampler must reproduce before it may serve a version."""

    texts: tuple[Ids, ...]
    expected: tuple[tuple[float, ...], ...]  # the learner's, with the adapter; one for each token but the first
    base: tuple[tuple[float, ...], ...]  # the learner's, without the adapter
    modules: int  # the number of modules that the adapter is bound to
    tolerance: float
