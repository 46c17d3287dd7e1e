"""A run's configuration: frozen sections, read strictly.

A file may extend another (`extends: defaults.yaml`, looked up beside it). `tiny:` holds what is different when the model
is the tiny one. Unknown keys are errors that name the nearest known one. Importing this loads no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

TINY = "tiny"
MAX_FILE_BYTES = 1_000_000


class ConfigError(ValueError):
    """A configuration that cannot be used, in one line that names the key and the remedy."""


class Section(BaseModel):
    """Frozen, and closed to keys that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=False)


class Schedule(Section):
    """A figure over the run: constant, or linear from one value to another until a share of the updates is done."""

    start: float
    end: float
    until: float = Field(default=1.0, gt=0, le=1)

    def at(self, done: int, updates: int) -> float:
        """The value for the update that begins when `done` of `updates` are made."""
        way = min(1.0, done / (self.until * max(1, updates)))
        return self.start + (self.end - self.start) * way


def _schedule(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"start": value, "end": value}
    return value


Scheduled = Annotated[Schedule, BeforeValidator(_schedule)]


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
    streams: dict[str, dict[str, float]] = Field(
        default={}, description="by role, what each stream of reward weighs for it; by default the world's own stream"
    )


class Learner(Section):
    """The update."""

    lora_rank: int = Field(default=32, ge=1)
    lora_alpha: float = Field(default=64, gt=0)
    learning_rate: Scheduled = Field(default=Schedule(start=2e-5, end=2e-5))
    loss: Literal["dapo", "dr_grpo", "grpo", "gspo", "cispo"] = Field(
        default="dapo", description="gspo is grpo with the importance weight of the whole sequence"
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.28, gt=0)
    importance_cap: float = Field(default=2.0, ge=1, description="cap of the weights between sampler and learner")
    recompute: bool = Field(
        default=True, description="score the batch again before the update; without it the sampler's figures are used"
    )
    kl_coefficient: float = Field(default=0.0, ge=0)
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
    sampler_cpus: float = Field(default=1, ge=0)
    sampler_gpus: float = Field(default=1, ge=0, description="a fraction lets several actors share a GPU")
    learner_cpus: float = Field(default=1, ge=0)
    learner_gpus: float = Field(default=1, ge=0)
    shard_cpus: float = Field(default=1, ge=0)
    colocate: bool = Field(
        default=False,
        description="sampler and learner take turns on one GPU: the engine sleeps while the learner works",
    )
    sampler_threads: int = Field(default=1, ge=1)
    learner_threads: int = Field(default=2, ge=1)
    memory_share: float = Field(default=0.6, gt=0, lt=1, description="of a GPU's memory for the vllm engine")
    context: int = Field(default=8192, ge=64, description="longest transcript in tokens that the engine must hold")


class Evaluation(Section):
    """What the run is measured on when it is over."""

    seeds: str = Field(default="1000-1019", description="held out: training never draws them")
    policies: tuple[str, ...] = Field(
        default=("random", "heuristic", "oracle"), description="measured beside the trained one"
    )


class Run(Section):
    """One training run."""

    world: str = "incident"
    rules: str = "strict"
    model: str = Field(description="a path, a hub name, or tiny")
    style: Literal["auto", "full", "compact"] = Field(default="auto", description="auto: compact for tiny, else full")
    sampler: Literal["torch", "vllm"] = Field(default="torch", description="the engine that serves the policy")
    seed: int = Field(default=0, ge=0, lt=2**31)
    updates: int = Field(default=600, ge=1)
    schedule: Literal["lockstep", "pipelined"] = Field(
        default="lockstep", description="lockstep repeats bit for bit on a CPU; pipelined overlaps rollouts and update"
    )
    staleness: int = Field(default=1, ge=1, description="how many versions behind a pipelined batch may be")
    curriculum: str = Field(default="easy:200,medium:200,hard:200", description="stages, or adaptive")
    rehearsal: float = Field(default=0.0, ge=0, lt=1, description="share of scenarios from the stages before")
    catch: Scheduled = Field(default=Schedule(start=1, end=1), description="multiplier of a right flag")
    false_flag: Scheduled = Field(default=Schedule(start=1, end=1), description="multiplier of a wrong flag")
    checkpoint_every: int = Field(default=10, ge=1, description="updates between checkpoints")
    batch: Batch = Batch()
    rollout: Rollout = Rollout()
    credit: Credit = Credit()
    learner: Learner = Learner()
    alarm: Alarm = Alarm()
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()

    @property
    def words(self) -> Literal["full", "compact"]:
        """The style that the worlds speak to this model in."""
        if self.style != "auto":
            return self.style
        return "compact" if self.model == TINY else "full"


# -- reading ----------------------------------------------------------------------------------------------------------


class _Strict(yaml.SafeLoader):
    """A key that stands twice is a mistake, not a choice."""


def _mapping(loader: _Strict, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key, deep=True)
        if name in seen:
            raise yaml.MarkedYAMLError(None, None, f"key {name!r} stands twice", key.start_mark)
        seen.add(name)
    return dict(yaml.SafeLoader.construct_mapping(loader, node, deep))


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(path: Path, settings: Sequence[str] = ()) -> Run:
    """The run that a file describes, with `key=value` settings over it."""
    values = _read(path, ())
    given: dict[str, Any] = {}
    for setting in settings:
        _put(given, *_parse_setting(setting))
    return resolve(values, given, str(path))


def resolve(values: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Run:
    """A run from nested mappings; what is given by hand wins over what `tiny:` changes."""
    tiny = values.get("tiny", {})
    if not isinstance(tiny, dict):
        raise ConfigError(f"{source}: tiny must hold keys and values")
    merged = {key: value for key, value in values.items() if key != "tiny"}
    _check_keys(Run, tiny, f"{source}: tiny.")
    if merge(merged, given).get("model") == TINY:
        merged = merge(merged, tiny)
    merged = merge(merged, given)
    _check_keys(Run, merged, f"{source}: ")
    try:
        return Run.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([str(part) for part in first["loc"]])
        raise ConfigError(f"{source}: {place}: {first['msg'].lower()}, not {str(first['input'])[:60]!r}") from None


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; anything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        is_section = isinstance(below, dict) and isinstance(value, dict) and key in _SECTIONS
        merged[key] = merge(below, value) if is_section else value  # type: ignore[arg-type]
    return merged


_SECTIONS = tuple(
    name
    for name, field in Run.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section) and field.annotation is not Schedule
) + (TINY,)


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ConfigError(f"{path} extends itself")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes; a configuration is not")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; give a configuration such as tune_configs/3a.yaml"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text; give a configuration such as tune_configs/3a.yaml") from None
    try:
        values = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}{f', line {mark.line + 1}' if mark else ''}: {reason}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must hold keys and values")
    extends = values.pop("extends", None)
    if extends is None:
        return values
    if not isinstance(extends, str):
        raise ConfigError(f"{path}: extends must name a file beside it")
    return merge(_read(path.parent / extends, (*above, path.resolve())), values)


def _parse_setting(setting: str) -> tuple[list[str], Any]:
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {setting[:60]!r} is no setting; write key=value, for example learner.lora_rank=16")
    try:
        value = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        raise ConfigError(f"--set {name}: {text[:60]!r} is no value") from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text; a person means the number.
        try:
            value = float(value)
        except ValueError:
            pass
    return name.split("."), value


def _put(into: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        below = into.setdefault(part, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {'.'.join(path)}: {part} has a value already")
        into = below
    into[path[-1]] = value


def _check_keys(section: type[BaseModel], values: Mapping[str, Any], place: str) -> None:
    for key, value in values.items():
        if key not in section.model_fields:
            near = get_close_matches(str(key), section.model_fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(section.model_fields)}"
            raise ConfigError(f"{place}{key} is no key; {hint}")
        inner = _section_of(section.model_fields[key].annotation)
        if inner is not None and isinstance(value, Mapping):
            _check_keys(inner, value, f"{place}{key}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        found = [_section_of(part) for part in get_args(annotation)]
        return next((part for part in found if part is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def keys(section: type[BaseModel] = Run, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every key: its name, type, default and meaning; the reference in docs/config.md is made of them."""
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None and inner is not Schedule:
            yield from keys(inner, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, Schedule):
            default = f"{default.start:g}"
        yield f"{prefix}{name}", _type_name(field.annotation), str(default), field.description or ""


def _type_name(annotation: Any) -> str:
    if annotation is Schedule:
        return "number or {start, end, until}"
    if get_origin(annotation) is Literal:
        return " | ".join([str(value) for value in get_args(annotation)])
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
