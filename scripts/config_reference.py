"""Print docs/config.md: every key of a run's configuration, from the code. `make docs` writes the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from chaosops_ray.config import Run, Schedule
from chaosops_ray.integrations.rllib.settings import Ppo
from chaosops_ray.sweeps.spec import Draw, Hypothesis, Sweep

INTRODUCTION = """# The configuration of a run

Made by `make docs`.

A run is a YAML file such as `tune_configs/3a.yaml`. A missing key has its default. An unknown key or a value of the
wrong kind is an error. Aliases and tags are errors. The forms `010`, `12:30` and `yes` are text.

- `extends: defaults.yaml` reads another file in the same folder first. Sections and `rule_options` are merged key by
  key; any other value, also a schedule or a list, is replaced.
- `tiny:` holds the settings that differ when `model` is `tiny` or `tiny-half`. It may be in any of the files
  and overrides all of them. With `--set model=tiny`, a `model` under `tiny:` decides between `tiny` and `tiny-half`.
- `--set KEY=VALUE` overrides all of these. `--set rule_options.false_flag=0.5` replaces a schedule by a constant.
  `--set learner.entropy.start=0.1` changes one value of a schedule; a constant becomes a schedule first.
  `--set credit.streams.oversight.flags=2` changes one weight and keeps the others.

`chaosops train tune_configs/3a.yaml --set model=tiny --explain` prints the complete configuration.
"""
SCHEDULES = """## Schedules

A schedule changes a number linearly from `start` to `end`, between two shares of the run's updates.
"""
SWEEPS = """## Sweeps

A file with `arms` or `draws` is a sweep, for `chaosops tune`; see [sweeps.md](sweeps.md). An arm is
a complete configuration of a run, such as `{extends: 3a.yaml, rule_options: {catch: 4}}`.
"""
PPO = """## PPO

A file for `chaosops ppo`, such as `tune_configs/ppo.yaml`; see [rllib.md](rllib.md). It knows no `extends`. Schedules
are as above, with the run's steps for its updates.
"""


def reference() -> str:
    """The page."""
    found = list(keys())
    parts = [INTRODUCTION, "## Run\n", table([row for row in found if "." not in row[0]])]
    for name, field in Run.model_fields.items():
        section = field.annotation
        within = [row for row in found if row[0].startswith(f"{name}.")]
        if within and isinstance(section, type) and issubclass(section, BaseModel):
            parts += [f"## {name}\n\n{section.__doc__}\n", table(within)]
    parts += [SCHEDULES, table(keys(Schedule))]
    parts += [SWEEPS, table(keys(Sweep)), "## Claims\n", table(keys(Hypothesis)), "## Draws\n", table(keys(Draw))]
    parts += [PPO, table(keys(Ppo))]
    return "\n".join(parts)


def table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Keys, a line each."""
    lines = [f"| `{name}` | {kind} | {_code(default)} | {meaning} |" for name, kind, default, meaning in rows]
    return "\n".join(["| key | kind | default | meaning |", "|---|---|---|---|", *lines, ""])


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def keys(section: type[BaseModel] = Run, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind, default and meaning of every key, for the reference in docs/config.md."""
    for name, field in section.model_fields.items():
        if _has_fields(field.annotation) and field.annotation is not Schedule:
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


def _kind_name(kind: Any, limits: Sequence[Any] = ()) -> str:
    """Describe a kind of value, for the errors and for the reference."""
    if kind is Schedule:
        return "a number from 0, or {start, end, after, until}"
    if get_origin(kind) is Literal:
        *most, last = get_args(kind)
        return f"{', '.join(most)} or {last}"
    if bool in get_args(kind):
        return "auto, true or false"
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


def _code(default: str) -> str:
    return default if default == "required" else f"`{default}`"


if __name__ == "__main__":
    print(reference(), end="")
