"""The table of metrics: one entry for each figure of a row of metrics.jsonl, and the samples that a row gives.

Everything that shows or explains metrics is made from it: the sinks, docs/metrics.md and the dashboard. It names no
world: tiers, roles, parts of a reward and a world's own metrics are labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

# A gauge is the latest value. A counter is what an update adds to a total. A text is recorded and not measured.
Kind = Literal["gauge", "counter", "text"]
# The runs that have a figure: all of them, or only those of which this is said.
Applies = Literal["", "gpu", "evaluation", "heuristic", "rule options", "a failed sink"]
RUN = "run"


class Metric(NamedTuple):
    """A figure: where a row has it, its name for Prometheus, and its explanation."""

    key: str  # the path in a row, with dots; a part in braces is a label
    name: str  # empty for a text
    unit: str
    help: str
    panel: str = ""  # the title of its panel on the dashboard
    kind: Kind = "gauge"
    applies: Applies = ""

    @property
    def path(self) -> tuple[str, ...]:
        """The parts of the key."""
        return tuple(self.key.split("."))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels, beside the run's."""
        return tuple([part[1:-1] for part in self.path if part.startswith("{")])

    @property
    def is_held(self) -> bool:
        """Tell if it stands until it is measured again; any other figure is of one update."""
        return self.applies in ("evaluation", "heuristic")

    @property
    def exported(self) -> str:
        """The name under which Ray exports it to Prometheus."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")


class Topic(NamedTuple):
    """A section of the table."""

    title: str
    about: str  # what a reader has to know before the figures
    metrics: tuple[Metric, ...]


class Sample(NamedTuple):
    """A value of a metric in a row, with the values of its labels."""

    metric: Metric
    labels: Mapping[str, str]
    value: float
    key: str  # its place in the row, as in tiers/easy/mean


class UnknownKeyError(KeyError):
    """A row has a figure that the table does not know."""


_UPDATE = Topic(
    "The update",
    "",
    (
        Metric("update", "chaosops_update", "updates", "how many updates were made, this one included", "Updates"),
        Metric("updates", "chaosops_updates_planned", "updates", "how many updates the run has", "Updates"),
        Metric("version", "chaosops_policy_version", "", "the policy version that the update ended in", "Updates"),
        Metric("digest", "", "", "the SHA-256 of the version's adapter", kind="text"),
        Metric(
            "rules",
            "",
            "",
            "the rules that its episodes were played under, with their version and with the multipliers as they stood",
            kind="text",
        ),
        Metric(
            "rule_options.{option}",
            "chaosops_rule_option",
            "",
            "the options of the rules that the run has schedules for, as they stood, such as the multiplier of a part "
            "of the reward",
            "Options of the rules",
            applies="rule options",
        ),
        Metric("episodes", "chaosops_episodes", "episodes", "episodes played for it", "Episodes a second", "counter"),
        Metric(
            "groups.played",
            "chaosops_groups_played",
            "groups",
            "groups of episodes of the same scenario",
            "Groups of an update",
        ),
        Metric(
            "groups.learnt_from",
            "chaosops_groups_learnt_from",
            "groups",
            "those groups that came out with variance, and so with an advantage",
            "Groups of an update",
        ),
        Metric(
            "staleness.mean",
            "chaosops_staleness_mean",
            "versions",
            "how many versions older than the policy that learnt from them the policy was that played the groups, on "
            "average; in lockstep always 0",
            "Staleness",
        ),
        Metric("staleness.max", "chaosops_staleness_max", "versions", "the same of the oldest group", "Staleness"),
        Metric(
            "actors_replaced",
            "chaosops_actors_replaced",
            "actors",
            "actors that were lost and replaced since the command was started",
            "Actors replaced",
        ),
    ),
)

_EPISODES = Topic(
    "Episodes, by tier",
    "`tiers` has an entry for each tier that was played. The episodes are sampled at the run's temperature, on "
    "scenarios "
    "of the curriculum; they show how training develops. The quality of the policy is measured greedily, on held-out "
    "scenarios.",
    (
        Metric(
            "tiers.{tier}.episodes",
            "chaosops_tier_episodes",
            "episodes",
            "episodes of this tier",
            "Episodes of an update, by tier",
        ),
        Metric(
            "tiers.{tier}.mean",
            "chaosops_tier_reward",
            "points",
            "their mean headline score, as the world defines it: the return, or a score of the task",
            "Headline score, by tier",
        ),
        Metric(
            "tiers.{tier}.{metric}",
            "chaosops_tier_metric",
            "",
            "the mean of each of the world's own metrics, as `docs/evaluation.md` lists them, such as success",
            "World metrics: $metric",
        ),
    ),
)

_REWARDS = Topic(
    "Rewards",
    "Means over the update's episodes.",
    (
        Metric(
            "rewards.{role}",
            "chaosops_role_reward",
            "points",
            "what an episode paid the role's stream of reward, before any weights of `credit.streams`",
            "Reward, by role",
        ),
        Metric(
            "components.{component}",
            "chaosops_component_reward",
            "points",
            "what each part of the rubric paid an episode, all its steps together, whoever they paid",
            "Reward, by part of the rubric",
        ),
    ),
)

_EVALUATION = Topic(
    "Held-out scenarios",
    "`evaluation` is there after every `evaluation.every` updates and, if that is not 0, after the last one. It has "
    "the "
    "figures of the version in this row, which played held-out scenarios once each: those of the first "
    "`evaluation.progress_seeds` seeds, and after the last update all of them. The row of the last update has the "
    "figures of the run's own evaluation.",
    (
        Metric(
            "evaluation.tiers.{tier}.episodes",
            "chaosops_evaluation_episodes",
            "episodes",
            "held-out scenarios of this tier",
            "Held-out scenarios",
            applies="evaluation",
        ),
        Metric(
            "evaluation.tiers.{tier}.mean",
            "chaosops_evaluation_reward",
            "points",
            "the policy's mean headline score",
            "Headline score on held-out scenarios",
            applies="evaluation",
        ),
        Metric(
            "evaluation.tiers.{tier}.{metric}",
            "chaosops_evaluation_metric",
            "",
            "the mean of each of the world's own metrics",
            "Held-out: $metric",
            applies="evaluation",
        ),
        Metric(
            "evaluation.heuristic.{tier}",
            "chaosops_evaluation_heuristic_reward",
            "points",
            "the heuristic's mean headline score on the same scenarios; not there if the run does not evaluate the "
            "heuristic",
            "Headline score on held-out scenarios",
            applies="heuristic",
        ),
    ),
)

_LEARNER = Topic(
    "The learner",
    "`learner` is empty where no group had variance: nothing was learnt, and the policy is the one before. Means are "
    "over "
    "tokens that the policy wrote, unless said otherwise; where it chose whole actions, over its choices, each of "
    "which counts as one token.",
    (
        Metric(
            "learner.entropy",
            "chaosops_entropy",
            "nats/token",
            "entropy of the policy's choice; where the engine had to choose among permitted actions, among those",
            "Entropy",
        ),
        Metric(
            "learner.kl",
            "chaosops_kl",
            "nats/token",
            "divergence from the base model after the update, on up to `learner.kl_rows` of its trajectories; the "
            "alarm "
            "looks at it",
            "KL to the base model",
        ),
        Metric(
            "learner.clipped_low",
            "chaosops_clipped_low",
            "share",
            "share of tokens whose ratio was clipped from below",
            "Clipped tokens",
        ),
        Metric(
            "learner.clipped_high",
            "chaosops_clipped_high",
            "share",
            "share of tokens whose ratio was clipped from above",
            "Clipped tokens",
        ),
        Metric(
            "learner.gradient_norm",
            "chaosops_gradient_norm",
            "",
            "norm of the gradient before clipping, mean over the optimizer steps",
            "Gradient norm",
        ),
        Metric(
            "learner.mismatch",
            "chaosops_mismatch",
            "nats/token",
            "how far the learner's log-probabilities are from the sampler's before anything was stepped: mean absolute "
            "distance",
            "Mismatch of sampler and learner",
        ),
        Metric(
            "learner.mismatch_max",
            "chaosops_mismatch_max",
            "nats/token",
            "the largest such distance",
            "Mismatch of sampler and learner",
        ),
        Metric(
            "learner.importance_weight",
            "chaosops_importance_weight",
            "",
            "mean weight between sampler and learner, capped at `learner.importance_cap`",
            "Importance weight and effective sample size",
        ),
        Metric(
            "learner.effective_sample_size",
            "chaosops_effective_sample_size",
            "share",
            "sum(w)^2 / (n * sum(w^2)) of the uncapped weights w of n tokens: 1 when all are alike",
            "Importance weight and effective sample size",
        ),
        Metric(
            "learner.learning_rate",
            "chaosops_learning_rate",
            "",
            "the learning rate, as its schedule had it",
            "Learning rate",
        ),
        Metric(
            "learner.entropy_coefficient",
            "chaosops_entropy_coefficient",
            "",
            "the coefficient of the entropy bonus, as its schedule had it",
            "Entropy coefficient",
        ),
        Metric(
            "learner.tokens",
            "chaosops_tokens_learnt_from",
            "tokens",
            "tokens of the transcripts learnt from",
            "Tokens learnt from",
            "counter",
        ),
        Metric(
            "learner.tokens_written",
            "chaosops_tokens_written",
            "tokens",
            "those of them that the policy wrote",
            "Tokens learnt from",
            "counter",
        ),
    ),
)

_ADOPTION = Topic(
    "The adoption check",
    "A sampler serves a version only after this check. `adoption` has the figures of all samplers together.",
    (
        Metric(
            "adoption.error",
            "chaosops_adoption_error",
            "nats",
            "largest distance of a sampler's log-probability from the learner's on the probe",
            "Error of the adoption check",
        ),
        Metric(
            "adoption.decisive",
            "chaosops_adoption_decisive",
            "",
            "true (1) if the probe can distinguish the version from its base and from the version before it; false (0) "
            "while they are too similar",
            "Adoption check is decisive",
        ),
    ),
)

_TIME = Topic(
    "Time",
    "`time` holds what depends on the machine: two runs of the same seed differ here. An update takes `rollout` + "
    "`update` + `adopt`; checkpoints come on top, and so does `evaluate`. All figures come from the spans that "
    "are also in the run's [timeline](training.md#where-an-updates-time-goes).\n\n"
    "So engines alone worked for `1 - idle_engines - overlap` of the update, the learner alone for `1 - "
    "idle_learner - overlap`, and the rest went to everything else. `queue` includes the way of the messages; "
    "vllm takes every request at once, and how long its own scheduler lets one wait is not counted. What is left "
    "of `adopt` beside `export`, `load` and `proof` is waiting: for messages, and for samplers that first finish "
    "what they compute.",
    (
        Metric(
            "time.rollout",
            "chaosops_rollout_seconds",
            "seconds",
            "until its episodes were collected; what was played ahead is not counted again",
            "Parts of an update",
        ),
        Metric(
            "time.update",
            "chaosops_learning_seconds",
            "seconds",
            "the learner's update, and the record of the episodes, which is written meanwhile",
            "Parts of an update",
        ),
        Metric(
            "time.adopt",
            "chaosops_adopt_seconds",
            "seconds",
            "publishing the version, and the adoption check of every sampler",
            "Parts of an update",
        ),
        Metric(
            "time.engine",
            "chaosops_engine_seconds",
            "seconds",
            "how long an engine computed completions until the episodes were collected, mean over the engines; a "
            "part of `rollout`",
            "Engines at work",
        ),
        Metric(
            "time.export",
            "chaosops_export_seconds",
            "seconds",
            "of `adopt`: the learner sends the adapter, and the driver writes it",
            "Parts of the adoption",
        ),
        Metric(
            "time.load",
            "chaosops_load_seconds",
            "seconds",
            "of `adopt`: loading the version, by the sampler that took longest",
            "Parts of the adoption",
        ),
        Metric(
            "time.proof",
            "chaosops_proof_seconds",
            "seconds",
            "of `adopt`: scoring the probe, by the learner and then by the sampler that took longest",
            "Parts of the adoption",
        ),
        Metric(
            "time.idle_learner",
            "chaosops_idle_learner",
            "share",
            "share of the update in which the learner was not learning",
            "Idle and overlapping",
        ),
        Metric(
            "time.idle_engines",
            "chaosops_idle_engines",
            "share",
            "share of the update in which an engine computed no completions, mean over the engines; the rest is how "
            "far they are utilised",
            "Idle and overlapping",
        ),
        Metric(
            "time.overlap",
            "chaosops_overlap",
            "share",
            "share of the update in which learner and engine worked at the same time, mean over the engines; 0 in "
            "lockstep",
            "Idle and overlapping",
        ),
        Metric(
            "time.queue",
            "chaosops_queue_seconds",
            "seconds",
            "from the sending of a request by a shard until an engine began with it, mean over the requests; null if "
            "nothing was requested",
            "Wait for an engine",
        ),
        Metric(
            "time.steps_per_second",
            "chaosops_shard_steps_per_second",
            "steps/second",
            "steps of episodes that a shard makes in a second in which it plays, mean over the shards; null if no "
            "step was played",
            "Steps of a shard",
        ),
        Metric(
            "time.evaluate",
            "chaosops_evaluate_seconds",
            "seconds",
            "playing the held-out scenarios, in rows that have an `evaluation`",
            "Playing the held-out scenarios",
            applies="evaluation",
        ),
    ),
)

_MACHINE = Topic(
    "The machine",
    "`machine` has what depends on the machine, beside the times. An actor that does not answer in time is not there "
    "in "
    "that row.",
    (
        Metric(
            "machine.memory.{actor}",
            "chaosops_memory_bytes",
            "bytes",
            "memory that the actor's process and those that it started have for themselves (USS), while the learner "
            "works; pages that are shared with other processes are not counted",
            "Memory, by actor",
        ),
        Metric(
            "machine.gpu_memory.{actor}",
            "chaosops_gpu_memory_bytes",
            "bytes",
            "memory in use on the actor's GPUs, by whatever process",
            "GPU memory, by actor",
            applies="gpu",
        ),
        Metric(
            "machine.learner_tokens_per_second",
            "chaosops_learner_tokens_per_second",
            "tokens/second",
            "tokens of the transcripts learnt from, for each second of `time.update`; null if nothing was learnt",
            "Tokens a second",
        ),
        Metric(
            "machine.engine_tokens_per_second",
            "chaosops_engine_tokens_per_second",
            "tokens/second",
            "tokens that all engines together wrote since the update before, for each second since then; null in "
            "the first",
            "Tokens a second",
        ),
        Metric(
            "machine.learner.checkpointing",
            "",
            "",
            "how many layers the learner computes again instead of keeping their activations, and why",
            kind="text",
        ),
        Metric(
            "machine.learner.attention",
            "",
            "",
            "what computes the learner's attention, and how it lays rows out",
            kind="text",
        ),
        Metric(
            "machine.learner.kernels",
            "",
            "",
            "whose kernels compute the rest of the learner's layers",
            kind="text",
        ),
        Metric(
            "machine.sinks_failed.{sink}",
            "chaosops_sinks_failed",
            "updates",
            "updates that a sink of `telemetry` could not take, since the command was started",
            "Updates that sinks could not take",
            applies="a failed sink",
        ),
    ),
)

TOPICS = (_UPDATE, _EPISODES, _REWARDS, _EVALUATION, _LEARNER, _ADOPTION, _TIME, _MACHINE)
METRICS = tuple([metric for topic in TOPICS for metric in topic.metrics])
# In order: of two keys that fit, the first is meant.
_BY_FIRST: dict[str, list[Metric]] = {
    first: [metric for metric in METRICS if metric.path[0] == first] for first in [one.path[0] for one in METRICS]
}


def samples(row: Mapping[str, Any]) -> list[Sample]:
    """Return the samples of a row of metrics.jsonl; UnknownKeyError where the table has no entry for a figure.

    A null is a figure that no episode of the update defines, and gives no sample.
    """
    found = []
    for path, value in _leaves(row):
        metric, labels = metric_of(path)
        if metric.kind != "text" and value is not None:
            found.append(Sample(metric, labels, float(value), "/".join(path)))
    return found


def _leaves(row: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in row.items():
        path = (*above, key)
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value


@lru_cache(10_000)
def metric_of(path: tuple[str, ...]) -> tuple[Metric, Mapping[str, str]]:
    """Return the entry for a place in a row, and the values of its labels."""
    for metric in _BY_FIRST.get(path[0], ()):
        pattern = metric.path
        if len(pattern) == len(path) and all(
            part.startswith("{") or part == there for part, there in zip(pattern, path, strict=True)
        ):
            labels = {part[1:-1]: there for part, there in zip(pattern, path, strict=True) if part.startswith("{")}
            return metric, labels
    raise UnknownKeyError(f"the table of metrics has no entry for {'.'.join(path)}")
