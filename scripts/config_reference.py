"""Print docs/config.md: every key of a run's configuration, as the code has it. `make docs` writes it."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from chaosops_ray.config import Run, Schedule, keys
from chaosops_ray.sweeps.spec import Draw, Hypothesis, Sweep

INTRODUCTION = """# The configuration of a run

Made by `make docs`.

A run is described by a YAML file such as `tune_configs/3a.yaml`. Keys that are left out have their defaults; keys that
do not exist are errors, and so is everything that is not of the kind the tables say. Aliases and tags are not read, and
what YAML 1.1 takes for a number or a truth besides the usual (`010`, `12:30`, `yes`) is text.

- `extends: defaults.yaml` takes all of another file, looked up beside this one. Sections and
  `rule_options` are merged key by key; anything else, a schedule or a list too, is replaced.
- `tiny:` holds what is different when `model` is `tiny` or `tiny-half`. It wins over the files, whichever of them it
  stands in. With `--set model=tiny` its own `model`, where it has one, says which of the two is meant.
- `--set KEY=VALUE` wins over all of it. `--set rule_options.false_flag=0.5` replaces a schedule by a constant,
  `--set learner.entropy.start=0.1` changes one figure of it, and makes a schedule of what was a number before,
  `--set credit.streams.oversight.flags=2` changes one weight and leaves the others as they are.

`chaosops train tune_configs/3a.yaml --set model=tiny --explain` prints what comes of it.
"""
SCHEDULES = """## Schedules

Where a number may be a schedule, it runs linearly from `start` to `end` over the updates between two shares of the run.
"""
SWEEPS = """## Sweeps

A file with `arms` or `draws` is a sweep, for `chaosops tune`; [sweeps.md](sweeps.md) says what comes of it. An arm is a
run's configuration, written where it stands: `{extends: 3a.yaml, rule_options: {catch: 4}}`.
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
    return "\n".join(parts)


def table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Keys, a line each."""
    lines = [f"| `{name}` | {kind} | {_code(default)} | {meaning} |" for name, kind, default, meaning in rows]
    return "\n".join(["| key | kind | default | meaning |", "|---|---|---|---|", *lines, ""])


def _code(default: str) -> str:
    return default if default == "required" else f"`{default}`"


if __name__ == "__main__":
    print(reference(), end="")
