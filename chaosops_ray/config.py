"""A run's configuration: frozen sections, read strictly.

A file may extend another (`extends: defaults.yaml`, looked up beside it). `tiny:` holds what is different when the
model is a tiny one. Unknown keys are errors that name the nearest known one. Importing this loads no engine.
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

TINY = "tiny"
# The models that are made here: the second has half the first one's weights, as the 1.5B has of the 3B.
MADE_HERE = (TINY, "tiny-half")
MAX_FILE_BYTES = 100_000
# Keys of older files, and where their values belong now.
_MOVED = {"catch": "rule_options.catch", "false_flag": "rule_options.false_flag"}
# The file of a sweep has one of these keys, the file of a run has none.
_OF_A_SWEEP = ("arms", "draws")


class ConfigError(ValueError):
    """A configuration that cannot be used, in one line that names the key and the remedy."""

    def __init__(self, words: str) -> None:
        # Keys, values and paths are quoted in it, and may hold anything.
        super().__init__(" ".join(words.splitlines()))


class Section(BaseModel):
    """Frozen, and closed to keys that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=False)


_AnySection = TypeVar("_AnySection", bound=Section)


class Schedule(Section):
    """A figure over the run: constant, or linear from one value to another between two shares of the updates."""

    start: float = Field(ge=0, description="the figure before it begins to change")
    end: float = Field(ge=0, description="the figure once it has changed")
    after: float = Field(default=0.0, ge=0, lt=1, description="share of the updates before it begins to change")
    until: float = Field(default=1.0, gt=0, le=1, description="share of the updates by which it has changed")

    def at(self, done: int, updates: int) -> float:
        """The value for the update that begins when `done` of `updates` are made."""
        way = (done / max(1, updates) - self.after) / (self.until - self.after)
        if way >= 1:
            return self.end  # to the digit, which start + (end - start) need not be
        return self.start + (self.end - self.start) * max(0.0, way)

    @model_validator(mode="after")
    def _has_length(self) -> Schedule:
        if self.until <= self.after:
            raise ValueError("until must come later than after")
        return self


def _schedule(value: Any) -> Any:
    """A number is a figure that never changes; YAML 1.1 reads 1e-3 as text, and a person means the number."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return {"start": value, "end": value}
    return value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Scheduled = Annotated[Schedule, BeforeValidator(_schedule)]
Weight = Annotated[float, BeforeValidator(_no_truth)]


class Batch(Section):
    """What an update is made of."""

    scenarios: int = Field(default=8, ge=1, description="different scenarios in each update")
    group: int = Field(default=8, ge=2, description="episodes of each scenario (G)")
    refill: int = Field(
        default=1, ge=0, description="rounds of new scenarios for groups that came out without variance"
    )


class Rollout(Section):
    """How episodes are played."""

    shards: int = Field(default=2, ge=1, description="actors that host environments")
    temperature: float = Field(default=0.8, gt=0, le=5, description="of the samples that are learnt from")
    max_tokens: int = Field(default=96, ge=1, description="of a completion; the tiny model's actions are one token")
    structured: bool = Field(default=False, description="let the engine choose among the permitted actions only")
    deadline: float = Field(
        default=600, gt=0, description="seconds that a group may take before it is dispatched again"
    )
    retries: int = Field(default=2, ge=0, description="times that a group is dispatched again before the run stops")


class Credit(Section):
    """Who is credited with what."""

    unit: Literal["turn", "episode"] = Field(default="turn", description="returns-to-go for each turn, or one figure")
    discount: float = Field(default=1.0, ge=0, le=1, description="of later turns' rewards")
    scale: Literal["role", "group", "none"] = Field(
        default="role", description="what advantages are divided by: the role's std in the batch, the group's, nothing"
    )
    floor: float = Field(default=0.0, ge=0, description="of what advantages are divided by, in points of reward")
    streams: dict[str, dict[str, Weight]] = Field(
        default={},
        description="by role, what each stream of reward weighs for it, as in {oversight: {flags: 1, oversight: 0.3}}; "
        "a role that is not named has the stream that its world pays it in",
    )


class Learner(Section):
    """The update."""

    lora_rank: int = Field(default=32, ge=1, description="rank of the adapter's matrices, on all linear layers")
    lora_alpha: float = Field(default=64, gt=0, description="what the adapter adds is scaled by lora_alpha / lora_rank")
    learning_rate: Scheduled = Field(default=Schedule(start=2e-5, end=2e-5), description="of the optimizer")
    loss: Literal["dapo", "dr_grpo", "grpo", "gspo", "cispo"] = Field(
        default="dapo", description="gspo is grpo with the importance weight of the whole sequence"
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="how far below 1 an importance ratio may count")
    clip_high: float = Field(default=0.28, gt=0, description="how far above 1 it may")
    importance_cap: float = Field(default=2.0, ge=1, description="cap of the weights between sampler and learner")
    recompute: bool = Field(
        default=True, description="score the batch again before the update; without it the sampler's figures are used"
    )
    kl_coefficient: float = Field(default=0.0, ge=0, description="of KL to the base in the loss; it is measured anyway")
    entropy: Scheduled = Field(default=Schedule(start=0.0, end=0.0), description="coefficient of the entropy bonus")
    steps: int = Field(default=1, ge=1, description="optimizer steps for each update, on a part of the batch each")
    gradient_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to it")
    tokens_per_forward: int = Field(default=16384, ge=64, description="token budget of a micro-batch, padding included")
    checkpointing: bool = Field(default=True, description="gradient checkpointing")
    kl_rows: int = Field(default=32, ge=1, description="trajectories on which KL to the base is measured each update")


class Alarm(Section):
    """When KL to the base runs away."""

    kl: float = Field(default=2.0, gt=0, description="nats a token")
    action: Literal["warn", "pause", "abort"] = Field(default="warn", description="pause waits for a file `resume`")


class Resources(Section):
    """What the actors ask of the cluster."""

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
    wait: float = Field(
        default=0,
        ge=0,
        description="seconds in which an autoscaler may bring what is missing; at 0 too small a cluster is an error",
    )
    sampler_threads: int = Field(default=1, ge=1, description="threads that a sampler computes with on a CPU")
    learner_threads: int = Field(default=2, ge=1, description="the same for the learner")
    memory_share: float = Field(default=0.6, gt=0, lt=1, description="of a GPU's memory for the vllm engine")
    context: int = Field(default=8192, ge=64, description="longest transcript in tokens that the engine must hold")


class Evaluation(Section):
    """What the run is measured on when it is over, and if wanted on the way."""

    set: str = Field(default="auto", description="an evaluation set's name; auto: the world's first")
    seeds: Annotated[str, BeforeValidator(_text)] = Field(
        default="1000-1019", description="held out: training never draws them"
    )
    policies: tuple[str, ...] = Field(
        default=("random", "heuristic", "oracle"), min_length=1, description="measured beside the trained one"
    )
    every: int = Field(
        default=0, ge=0, description="updates between measurements on the way; 0 measures when the run is over"
    )


class Run(Section):
    """One training run."""

    world: str = Field(default="incident", description="incident or tools")
    rules: str = Field(default="strict", description="a rule set and its options, such as strict,scenery=classic")
    model: str = Field(description="a path, a hub name, tiny, or tiny-half")
    style: Literal["auto", "full", "compact"] = Field(default="auto", description="auto: compact if tiny, else full")
    sampler: Literal["torch", "vllm"] = Field(default="torch", description="the engine that serves the policy")
    seed: int = Field(default=0, ge=0, lt=2**31, description="every random draw of the run hangs on it")
    updates: int = Field(default=600, ge=1, description="of the policy, each from scenarios played with the one before")
    schedule: Literal["lockstep", "pipelined"] = Field(
        default="lockstep", description="lockstep repeats bit for bit on a CPU; pipelined overlaps rollouts and update"
    )
    staleness: int = Field(default=1, ge=1, description="how many versions behind a pipelined batch may be")
    cases: str = Field(default="auto", description="the set whose cases are trained on; auto: the world's first")
    curriculum: str = Field(
        default="auto",
        description="stages of so many updates, such as easy:200,medium+hard:400, or adaptive; auto: the world's own",
    )
    rehearsal: float = Field(default=0.0, ge=0, lt=1, description="share of scenarios from the stages before")
    rule_options: dict[str, Scheduled] = Field(
        default={},
        description="options of the rules on schedules, as in {catch: 2, false_flag: {start: 0, end: 1}}; the world "
        "says which there are",
    )
    checkpoint_every: int = Field(default=10, ge=1, description="updates between checkpoints")
    keep_every: int = Field(default=50, ge=1, description="updates between adapters that are kept when the run is over")
    batch: Batch = Batch()
    rollout: Rollout = Rollout()
    credit: Credit = Credit()
    learner: Learner = Learner()
    alarm: Alarm = Alarm()
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()

    @property
    def rendering(self) -> Literal["full", "compact"]:
        """The style that the worlds speak to this model in."""
        if self.style != "auto":
            return self.style
        return "compact" if self.model in MADE_HERE else "full"


# -- reading ----------------------------------------------------------------------------------------------------------


_TAG = "tag:yaml.org,2002:"
_HALF = re.compile("[\ud800-\udfff]")  # of a pair; an escape can spell it, and no file can hold it


class _YamlError(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(None, None, problem, mark)


class _Strict(yaml.SafeLoader):
    """Text, numbers, true, false and null, in lists and mappings; nothing else of YAML is read.

    A key that stands twice is a mistake, not a choice. Without aliases, what is read is never larger than its file.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As YAML has it, but for aliases and tags."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _YamlError("aliases are not read; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _YamlError("tags are not read; leave it out", event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and _HALF.search(event.value):
            raise _YamlError("half a character is no text", event.start_mark)
        return super().compose_node(parent, index)


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        if key.tag != f"{_TAG}str":
            raise _YamlError("a key must be text; put it in quotes", key.start_mark)
        if key.value in found:
            raise _YamlError(f"key {_shown(key.value)} stands twice; leave one out", key.start_mark)
        found[key.value] = loader.construct_object(value, deep=True)
    return found


_Strict.add_constructor(f"{_TAG}map", _mapping)
# What YAML 1.1 takes for a number besides (010, 0x1f, 1_000, 12:30), for a truth (yes, off) or for a date, stays text.
_Strict.yaml_implicit_resolvers = {}
for _name, _form, _firsts in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", [*"-+0123456789"]),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", [*"-+.0123456789"]),
):
    _Strict.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"({_form})\Z"), _firsts)


def _parsed(text: str, where: str) -> Any:
    """What a piece of YAML says."""
    try:
        return yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        reason = ", ".join([part for part in (error.context, error.problem) if part])
        raise ConfigError(f"{where}{line}: {reason}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{where}: it holds the character #x{error.character:04x}, which is no text") from None
    except (ValueError, OverflowError):
        raise ConfigError(f"{where}: it names a character that there is not") from None
    except RecursionError:
        raise ConfigError(f"{where}: it is nested too deeply for a configuration") from None


class Layer(NamedTuple):
    """What one file says, and how that file is called in errors."""

    source: str
    values: Mapping[str, Any]


def load(path: Path, settings: Sequence[str] = ()) -> Run:
    """The run that a file describes, with `key=value` settings over it, in their order."""
    given = parse_settings(settings)
    return resolve(chain(path, read(path), str(path)), given)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`key=value` settings by key, in their order."""
    given: dict[str, Any] = {}
    for setting in settings:
        key, value = _parse_setting(setting)
        given.pop(key, None)  # the later one of two comes later
        given[key] = value
    return given


def resolve(layers: Sequence[Layer], given: Mapping[str, Any]) -> Run:
    """A run from what files say, each over the one before; what is given by hand, under dotted keys, wins over all.

    `tiny:`, which any of them may hold, comes between: over the files, under what is given by hand.
    """
    below = [Layer(f"{layer.source}: ", {k: v for k, v in layer.values.items() if k != TINY}) for layer in layers]
    tiny = [Layer(f"{layer.source}: tiny.", _tiny(layer)) for layer in layers if TINY in layer.values]
    for layer in below + tiny:
        _check_keys(Run, layer.values, layer.source)
    used = below
    merged = _merged(used)
    asked = given.get("model", merged.get("model"))
    if asked in MADE_HERE:
        used = below + tiny
        merged = _merged([*below, Layer("", {"model": asked}), *tiny])
        if asked == TINY:  # which of the two that is, a file may say
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
    """What a file of another kind than a run's says."""
    _check_keys(section, values, f"{source}: ", section)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{source}: {_complaint([str(part) for part in first['loc']], first, section)}") from None


def _tiny(layer: Layer) -> Mapping[str, Any]:
    tiny = layer.values[TINY]
    if not isinstance(tiny, Mapping):
        raise ConfigError(f"{layer.source}: tiny should hold keys and values, not {_shown(tiny)}")
    if "model" in tiny and tiny["model"] not in MADE_HERE:
        raise ConfigError(f"{layer.source}: tiny.model should be {' or '.join(MADE_HERE)}, or be left out")
    return tiny


def _merged(layers: Sequence[Layer]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    return merged


def merge(under: Mapping[str, Any], over: Mapping[str, Any], section: type[BaseModel] = Run) -> dict[str, Any]:
    """Merge sections and sets of schedules key by key; anything else, a schedule too, is replaced."""
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
    """What stands in a file and all that it extends, what it stands on first; `source` is how errors call it."""
    layers: list[Layer] = []
    seen = []
    while True:
        seen.append(path.resolve())
        extends = values.get("extends")
        layers.insert(0, Layer(source, {key: value for key, value in values.items() if key != "extends"}))
        if extends is None:
            return layers
        if not isinstance(extends, str) or not extends:
            raise ConfigError(f"{source}: extends should name a file beside it, not {_shown(extends)}")
        asked = f"{source}: extends: "
        path = path.parent / extends
        try:
            leads_back = path.resolve() in seen
        except (OSError, ValueError, RuntimeError):
            raise ConfigError(f"{asked}{_shown(extends)} is no path; name a file beside it") from None
        if leads_back:
            raise ConfigError(f"{asked}{extends} leads back to where it came from; let one of the files stand alone")
        values, source = read(path, asked), str(path)


def read(path: Path, asked: str = "") -> dict[str, Any]:
    """The keys and values of a file; `asked` says in errors who wanted it."""
    remedy = "give a configuration such as tune_configs/3a.yaml"
    content = None
    try:
        if path.is_file() or not path.exists():
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{asked}cannot read {path}: {error.strerror}; {remedy}") from None
    except ValueError:
        raise ConfigError(f"{asked}cannot read {_shown(str(path))}: it is no path; {remedy}") from None
    if content is None:
        raise ConfigError(f"{asked}{path} is no plain file; {remedy}")
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes, which no configuration is; {remedy}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text; {remedy}") from None
    values = _parsed(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys and values; {remedy}")
    return values


def is_sweep(values: Mapping[str, Any]) -> bool:
    """Tell the keys of a sweep from those of a run."""
    return any(key in values for key in _OF_A_SWEEP)


# -- settings ---------------------------------------------------------------------------------------------------------


def _parse_setting(setting: str) -> tuple[str, Any]:
    name, equals, text = setting.partition("=")
    key = name.strip()
    if not equals or not key:
        raise ConfigError(f"--set {_shown(setting)} is no setting; write key=value, for example learner.lora_rank=16")
    if key.partition(".")[0] in (TINY, "extends"):
        raise ConfigError(f"--set {key}: that belongs in a file; set the key itself, it wins over all files")
    return key, _parsed(text, f"--set {key[:_SHOWN]}")


def _put(values: Mapping[str, Any], path: Sequence[str], value: Any, within: Any = Run, above: str = "") -> Any:
    """The values with one of them changed; a schedule that is a number becomes one that runs from it to it."""
    first, *rest = path
    key = f"{above}{first}"
    if _has_fields(within):
        _check_keys(within, {first: None if rest else value}, f"--set {above}")
    inner = _inside(within, first)
    if inner is None:
        raise ConfigError(f"--set {key[:_SHOWN]}: {above[:-1]} has no keys within; it is {_kind_name(within)}")
    if not rest:
        return merge(values, {first: value}, within) if _has_fields(within) else {**values, first: value}
    below = values.get(first, {})
    if inner is Schedule:
        default = within.model_fields[first].default.model_dump(include={"start", "end"}) if _has_fields(within) else {}
        below = _schedule(values.get(first, default))
    if not isinstance(below, Mapping):
        if _has_fields(inner) or get_origin(inner) is dict:
            raise ConfigError(f"--set {key}.{rest[0]}: {key} is {_shown(below)}, which has no keys; mend that first")
        below = {}
    return {**values, first: _put(below, rest, value, inner, f"{key}.")}


# -- what keys mean ---------------------------------------------------------------------------------------------------


def keys(section: type[BaseModel] = Run, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every key: its name, kind, default and meaning; the reference in docs/config.md is made of them."""
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from keys(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
            continue
        default = "required" if field.is_required() else _default(field.default)
        yield f"{prefix}{name}", _kind_name(field.annotation, field.metadata), default, field.description or ""


def _default(value: Any) -> str:
    if isinstance(value, Schedule):
        value = value.start
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_section(kind: Any) -> bool:
    return _has_fields(kind) and kind is not Schedule


def _is_merged(kind: Any) -> bool:
    return _is_section(kind) or (get_origin(kind) is dict and _inside(kind, "") is Schedule)


def _inside(kind: Any, key: str) -> Any:
    """What may stand under a key of this kind of thing; None where it has no keys."""
    if _has_fields(kind):
        return kind.model_fields[key].annotation
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return get_args(inner)[0] if get_origin(inner) is Annotated else inner
    return None


def _kind_name(kind: Any, limits: Sequence[Any] = ()) -> str:
    """A kind of value in words; the errors and the reference say the same."""
    if kind is Schedule:
        return "a number from 0, or {start, end, after, until}"
    if get_origin(kind) is Literal:
        *most, last = get_args(kind)
        return f"{', '.join(most)} or {last}"
    if get_origin(kind) is tuple:
        return "a list of keys and values" if _has_fields(get_args(kind)[0]) else "a list of names"
    if get_origin(kind) is dict or _has_fields(kind):
        return "keys and values"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    bounds = [
        f"{word} {value:.10g}"
        for limit in limits
        for name, word in (("ge", "from"), ("gt", "above"), ("le", "up to"), ("lt", "below"))
        if (value := getattr(limit, name, None)) is not None
    ]
    return " ".join([words, *bounds[:1]]) + "".join([f", {bound}" for bound in bounds[1:]])


def _check_keys(
    section: type[BaseModel], values: Mapping[str, Any], place: str, root: type[BaseModel] | None = None
) -> None:
    for key, value in values.items():
        if key not in section.model_fields:
            raise ConfigError(f"{place}{key[:_SHOWN] or _shown(key)} is no key; {_hint(section, key, root or Run)}")
        field = section.model_fields[key]
        if isinstance(value, bool) and field.annotation is not bool:
            # It would pass for 1 or 0.
            raise ConfigError(
                f"{place}{key} should be {_kind_name(field.annotation, field.metadata)}, not {_shown(value)}"
            )
        if _has_fields(field.annotation) and isinstance(value, Mapping):
            _check_keys(field.annotation, value, f"{place}{key}.", root)  # type: ignore[arg-type]
        elif _is_merged(field.annotation) and isinstance(value, Mapping):
            for name, schedule in value.items():
                if isinstance(schedule, Mapping):
                    _check_keys(Schedule, schedule, f"{place}{key}.{name[:_SHOWN]}.", root)


def _hint(section: type[BaseModel], key: str, root: type[BaseModel]) -> str:
    elsewhere = [name for name, *_ in keys(root) if name.rpartition(".")[2] == key]
    if section is Run and key in _MOVED:
        elsewhere = [_MOVED[key]]
    near = elsewhere or get_close_matches(key[:_SHOWN], section.model_fields, 1)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(section.model_fields)}"


# -- what errors say --------------------------------------------------------------------------------------------------

_SHOWN = 60


def _shown(value: Any) -> str:
    """A value as an error quotes it: short, whatever it is."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    shown = reprlib.repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _source(layers: Sequence[Layer], given: Mapping[str, Any], place: Sequence[str]) -> str:
    """Where the value at a place comes from: from a setting, or else from the last file that has it."""
    unit: list[str] = []
    kind: Any = Run
    for part in place:
        if not _is_merged(kind):
            break  # anything else was replaced as a whole
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
    """What is wrong at a place, in the words of the reference."""
    key = ".".join(place)
    kind: Any = root
    limits: Sequence[Any] = ()
    meaning: str | None = None
    for part in place:
        if _has_fields(kind):
            if part not in kind.model_fields:  # within a list, where no key has been looked at
                return f"{key} is no key; {_hint(kind, part, root)}"
            field = kind.model_fields[part]
            kind, limits, meaning = field.annotation, field.metadata, field.description
        else:
            kind, limits = _inside(kind, part) or get_args(kind)[0], ()
    if error["type"] == "missing":
        return f"{key} is missing; give {meaning}"
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    return f"{key} should be {_kind_name(kind, limits)}, not {_shown(error['input'])}"
