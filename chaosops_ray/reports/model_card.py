"""The model card of an exported adapter: front matter for a hub, then text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCardData

from chaosops_ray import __version__, evaluate, resampling
from chaosops_ray.config import Run
from chaosops_ray.reports import suspicion_tables, tables
from chaosops_ray.reports.rendering import document
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment

_LONGEST = 200


class Base(NamedTuple):
    """The base model as others can know it: by a hub name, by its folder's name, or as one that is made here.

    Of a quantized one, the name is that of the model on the hub whose weights were quantized.
    """

    name: str
    kind: Literal["hub", "folder", "made", "quantized"]
    digest: str


class Version(NamedTuple):
    """The adapter's version: its name, the updates it was trained for, the digest of its files."""

    name: str
    number: int
    digest: str


class Facts(NamedTuple):
    """The content of a card."""

    name: str
    run: Run
    environment: AnyEnvironment
    version: Version
    base: Base
    evaluation: Mapping[str, Any] | str  # an evaluation that was checked, or why there is none
    license: str | None


def render(facts: Facts) -> str:
    """Write the card."""
    run, environment = facts.run, facts.environment
    # Of a path of this machine only the folder's name leaves it.
    model = run.model if facts.base.kind == "quantized" else facts.base.name
    resolved = {**run.model_dump(mode="json"), "model": model}
    return document(
        "model_card.md",
        front_matter=_front_matter(facts),
        name=facts.name,
        version=facts.version,
        run=run,
        environment=environment,
        base=facts.base,
        base_in_words=_base_in_words(facts.base),
        seats=seats.in_words(environment, run.colleagues, "this policy"),
        opens_as=next(iter(seats.left(environment, run.colleagues)), None) if run.colleagues else None,
        program_version=__version__,
        scenario=environment.scenarios(environment.selections[0], [0])[0].identity,
        configuration=yaml.safe_dump(resolved, sort_keys=False),
        **_evaluation(facts),
    )


def _base_in_words(base: Base) -> str:
    return {
        "hub": base.name,
        "folder": f"a base model in a folder called {base.name}",
        "made": f"{base.name}, a base model that chaosops_ray makes itself",
        "quantized": f"{base.name}, in 4 bits",
    }[base.kind]


def _evaluation(facts: Facts) -> dict[str, Any]:
    found = facts.evaluation
    if isinstance(found, str):
        return {"table": None, "why_not_evaluated": found}
    return {
        "table": tables.evaluation_table(facts.environment, found["cells"], "tier"),
        "suspicion": suspicion_tables.suspicion_tables(facts.environment, found)[:1],
        "suspicion_help": suspicion_tables.HELP,
        "scenarios": tables.set_named(found),
        "evaluated_rules": found["rules"],
        "confidence": f"{100 * resampling.CONFIDENCE:.0f}",
        "trained": evaluate.TRAINED,
        "evaluated_seats": tables.seats_lines(facts.environment, found.get("colleagues", {})),
        "differences": [
            {**row, "difference": tables.interval_figure(facts.environment, row["mean"], row["ci"])}
            for row in found.get("differences", [])
        ],
    }


def _front_matter(facts: Facts) -> str:
    world = f"chaosops-{facts.environment.name}"
    results = [] if isinstance(facts.evaluation, str) else _results(facts, facts.evaluation, world)
    data = ModelCardData(
        base_model=facts.base.name if facts.base.kind in ("hub", "quantized") else None,
        library_name="peft",
        license=facts.license,
        pipeline_tag="text-generation",
        tags=["chaosops-ray", world, "grpo", "lora", "reinforcement-learning"],
        model_name=f"{facts.name}, {facts.version.name}" if results else None,
        eval_results=results or None,
    )
    text: str = data.to_yaml()
    return text


def _results(facts: Facts, found: Mapping[str, Any], world: str) -> list[EvalResult]:
    """Gather the figures of this policy, by tier and metric."""
    environment = facts.environment
    headline = environment.headline_name
    where = tables.plain(f"{tables.set_named(found)}, rules {found['rules']}", _LONGEST)
    return [
        EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement learning",
            dataset_type=world,
            dataset_name=f"{environment.title}: {cell['tier']} ({where})",
            dataset_config=cell["tier"],
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for cell in found["cells"]
        if cell["policy"] == evaluate.TRAINED
        for kind, name, value in (
            (f"mean_{headline.replace(' ', '_')}", f"mean {headline}", cell["mean"]),
            *[
                (metric.name, metric.name.replace("_", " "), cell[metric.name])
                for metric in environment.metrics
                if metric.in_tables
            ],
            *[
                (figure.name, figure.title, cell[figure.name])
                for figure in suspicion_tables.SHOWN
                if environment.suspicion is not None
            ],
        )
        if value is not None
    ]
