"""A run's adapter as people take it away: a folder in PEFT's format with a model card, and from there to a hub.

The adapter's files are those that were published, byte for byte. Names, configurations and evaluations may hold
anything: text is escaped where it enters the card, and no path of this machine leaves with it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import string
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from huggingface_hub import HfApi

# HTTPError is the transport's own, for a hub that cannot be reached; the library has changed its transport before.
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils import validate_repo_id

from chaosops_ray import __version__, config, evaluate
from chaosops_ray.config import MADE_HERE, Run
from chaosops_ray.reports import run_report, tables
from chaosops_ray.sim.contract import AnyEnvironment, Metric
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import versions
from chaosops_ray.store.files import to_disk
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, RunFolder
from chaosops_ray.training import base_models
from chaosops_ray.wire import PolicyVersion

CARD = "README.md"
EXPORTS = "export"
# The only place where a token is looked for.
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable

_LONGEST = 200
_REASON = 300
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")
_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + string.punctuation)


class Base(NamedTuple):
    """The base model as others can know it: by a hub name, by its folder's name, or as one that is made here."""

    name: str
    kind: Literal["hub", "folder", "made"]
    digest: str


class Exported(NamedTuple):
    """A version as it was taken away."""

    folder: Path
    version: PolicyVersion


class Cell(NamedTuple):
    """What an evaluation says of one policy on one tier."""

    policy: str
    tier: str
    episodes: int
    mean: float
    mean_ci: tuple[float, float]
    metrics: tuple[tuple[Metric, float | None, tuple[float, float] | None], ...]


class Difference(NamedTuple):
    """How much better one policy did than another on the same scenarios of a tier."""

    policy: str
    against: str
    tier: str
    mean: float
    ci: tuple[float, float]


class Evaluation(NamedTuple):
    """A run's evaluation, with everything in it looked at."""

    rules: str
    scenarios: str
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]


class Facts(NamedTuple):
    """What a card is written from."""

    name: str
    run: Run
    environment: AnyEnvironment
    version: PolicyVersion
    base: Base
    evaluation: Evaluation | str  # or why there is none
    license: str | None


# -- the folder -------------------------------------------------------------------------------------------------------


def export(folder: RunFolder, number: int | None, out: Path | None, license_name: str | None) -> Exported:
    """Write a version, by default the last one, with its card."""
    if license_name is not None and not _LICENSE.fullmatch(license_name):
        raise InputError(f"{license_name[:80]!r} is no license as the hub names them; write for example apache-2.0")
    run = config.load(folder.path / CONFIG)
    environment = environment_named(run.world)
    if number is None:
        number = versions.latest(folder.adapters).number
    target = folder.path / EXPORTS / versions.folder_name(number) if out is None else out
    _check_free(target)
    base = based_on(run)
    version = versions.read(folder.adapters / versions.folder_name(number), base.digest)
    name = tables.plain(folder.path.resolve().name)
    said = evaluation(folder, run, environment, number)
    card = written(Facts(name, run, environment, version, base, said, license_name))
    with _appearing(target) as temporary:
        for file in (versions.CONFIG, versions.WEIGHTS):
            shutil.copyfile(Path(version.path) / file, temporary / file)
        # Of the copies: what leaves is what was verified, whatever happened to the files in between.
        if versions.digest(temporary) != version.digest:
            raise versions.DigestError(f"{version.path} changed while it was copied; export {version.name} again")
        _check_for_paths(temporary / versions.CONFIG, version)
        (temporary / CARD).write_text(card, encoding="utf-8")
    return Exported(target, version)


def based_on(run: Run) -> Base:
    """The run's base model, fetched or made if need be: an adapter leaves only beside the base that it fits."""
    prepared = base_models.prepare(run.model, world=run.world)
    if run.model in MADE_HERE:
        return Base(run.model, "made", prepared.digest)
    folder = base_models.local(run.model)
    if folder is None:
        return Base(run.model, "hub", prepared.digest)
    return Base(tables.plain(folder.name), "folder", prepared.digest)


def _check_free(path: Path) -> None:
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from None
    if taken:
        raise InputError(f"{path} is there and no empty folder; name another with --out")


def _check_for_paths(path: Path, version: PolicyVersion) -> None:
    """What PEFT writes into its configuration may name files; those of this machine are nobody's business."""
    for value in _texts(json.loads(path.read_bytes())):
        if Path(value).is_absolute() or value.startswith("~") or ".." in Path(value).parts:
            raise versions.AdapterError(
                f"{version.path}: {versions.CONFIG} of {version.name} names {value[:80]!r}, a path of this machine; "
                "train on a model given by its absolute path or hub name, and no path is written"
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A temporary neighbour to fill; it takes the name when all went well, and is gone otherwise."""
    try:
        target = path.resolve()  # a link stays a link
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from None
    try:
        yield temporary
        # mkdtemp makes folders private; this one is as readable as any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        for part in (*temporary.iterdir(), temporary):
            to_disk(part)
        temporary.rename(target)
        to_disk(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


# -- the evaluation ---------------------------------------------------------------------------------------------------


def evaluation(folder: RunFolder, run: Run, environment: AnyEnvironment, number: int) -> Evaluation | str:
    """What the run's evaluation says of this version, or why it says nothing."""
    # It was made when all updates were, of the version that was then the last.
    if number != run.updates or number != versions.numbers(folder.adapters)[-1]:
        return "This version was not evaluated: a run evaluates its last one, when all its updates are made."
    found = run_report.evaluation(folder, environment)
    if found is None:
        return "This run has not been evaluated yet."
    try:
        return read_evaluation(found, environment)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{folder.path / EVALUATION} is not as an evaluation is written ({error!r:.80}); make it again"
        ) from None


def read_evaluation(found: Mapping[str, Any], environment: AnyEnvironment) -> Evaluation:
    """An evaluation as `evaluate` writes it; KeyError, TypeError or ValueError where it is none."""
    return Evaluation(
        _word(found["rules"]),
        tables.set_named({"set": _word(found["set"]), "seeds": found["seeds"] and _word(found["seeds"])}),
        tuple([_cell(environment, cell) for cell in _list(found["cells"])]),
        tuple([_difference(environment, row) for row in _list(found.get("differences", []))]),
    )


def _cell(environment: AnyEnvironment, cell: Mapping[str, Any]) -> Cell:
    shown = [metric for metric in environment.metrics if metric.in_tables]
    return Cell(
        _word(cell["policy"]),
        _tier(environment, cell["tier"]),
        int(_number(cell["episodes"])),
        _number(cell["mean"]),
        _interval(cell["mean_ci"]),
        tuple(
            [
                (metric, None, None)
                if cell[metric.name] is None
                else (metric, _number(cell[metric.name]), _interval(cell[f"{metric.name}_ci"]))
                for metric in shown
            ]
        ),
    )


def _difference(environment: AnyEnvironment, row: Mapping[str, Any]) -> Difference:
    tier = _tier(environment, row["tier"])
    return Difference(_word(row["policy"]), _word(row["against"]), tier, _number(row["mean"]), _interval(row["ci"]))


def _tier(environment: AnyEnvironment, value: Any) -> str:
    if value not in environment.tiers:
        raise ValueError("a tier that the world does not have")
    return str(value)


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a name that is no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list that is none")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a figure that is none")
    return float(value)


def _interval(value: Any) -> tuple[float, float]:
    low, high = _list(value)
    return _number(low), _number(high)


# -- the card ---------------------------------------------------------------------------------------------------------


def written(facts: Facts) -> str:
    """The card: front matter for the hub, then text for people."""
    sections = [
        f"# {_text(facts.name)}, {facts.version.name}",
        f"A LoRA adapter for {_base_in_words(facts.base)}, trained by GRPO in a simulation: "
        f"{facts.environment.title}. It is a policy of chaosops_ray {__version__}.",
        _run_table(facts),
        "## Evaluation",
        *_evaluated(facts),
        "## Limits",
        _limits(facts),
        "## How to load it",
        *_loading(facts),
        "## Configuration",
        _configuration(facts),
    ]
    return f"---\n{_front_matter(facts)}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(facts: Facts) -> str:
    fields: dict[str, Any] = {}
    if facts.base.kind == "hub":
        fields["base_model"] = facts.base.name
    fields |= {"library_name": "peft", "pipeline_tag": "text-generation"}
    if facts.license is not None:
        fields["license"] = facts.license
    world = f"chaosops-{facts.environment.name}"
    fields["tags"] = ["chaosops-ray", world, "grpo", "lora", "reinforcement-learning"]
    if isinstance(facts.evaluation, Evaluation) and (results := _results(facts, facts.evaluation, world)):
        fields["model-index"] = [{"name": f"{facts.name}, {facts.version.name}", "results": results}]
    # No line is folded: a reader of the front matter looks for a line of three dashes, and no other line may be one.
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=math.inf)


def _results(facts: Facts, found: Evaluation, world: str) -> list[dict[str, Any]]:
    """The figures of this policy as the hub's model-index has them, a result for each tier."""
    headline = facts.environment.headline_name
    where = tables.plain(f"{found.scenarios}, rules {found.rules}", _LONGEST)
    results = []
    for cell in found.cells:
        if cell.policy != evaluate.TRAINED:
            continue
        metrics: list[dict[str, Any]] = [
            {"type": f"mean_{headline.replace(' ', '_')}", "name": f"mean {headline}", "value": cell.mean}
        ]
        metrics += [
            {"type": metric.name, "name": metric.name.replace("_", " "), "value": value}
            for metric, value, _ in cell.metrics
            if value is not None
        ]
        name = f"{facts.environment.title}: {cell.tier} ({where})"
        results.append(
            {
                "task": {"type": "reinforcement-learning", "name": "reinforcement learning"},
                "dataset": {"type": world, "name": name, "config": cell.tier},
                "metrics": metrics,
            }
        )
    return results


def _base_in_words(base: Base) -> str:
    name = _text(base.name)
    return {
        "hub": name,
        "folder": f"a base model in a folder called {name}",
        "made": f"{name}, a base model that chaosops_ray makes itself",
    }[base.kind]


def _run_table(facts: Facts) -> str:
    run = facts.run
    rows = [
        ("run", _text(facts.name)),
        ("version", f"{facts.version.name}, after {facts.version.number} of {run.updates} updates"),
        ("seed", str(run.seed)),
        ("world", f"{facts.environment.name} ({facts.environment.title})"),
        ("rules", _text(run.rules)),
        ("curriculum", _text(run.curriculum)),
        ("base model", _base_in_words(facts.base)),
        ("digest of the adapter", f"`{facts.version.digest}`"),
        ("digest of the base model", f"`{facts.base.digest}`"),
    ]
    return (
        _table(["", ""], rows) + "\n\nDigests are SHA-256 over names and bytes; `chaosops_ray.versions.digest` and "
        "`base_digest` give them again."
    )


def _evaluated(facts: Facts) -> list[str]:
    found = facts.evaluation
    if isinstance(found, str):
        return [found]
    environment = facts.environment
    shown = [metric for metric in environment.metrics if metric.in_tables]
    heading = ["tier", "policy", "n", f"mean {environment.headline_name}"]
    heading += [metric.name.replace("_", " ") for metric in shown]
    rows = [_cell_row(environment, cell) for tier in environment.tiers for cell in found.cells if cell.tier == tier]
    confined = ", choosing among permitted actions only" if facts.run.rollout.structured else ""
    parts = [
        f"Played greedily{confined}, on the {_text(found.scenarios)} under rules {_text(found.rules)}. In brackets are "
        f"{100 * evaluate.CONFIDENCE:.0f} % intervals: bootstraps over whole scenarios.",
        _table(heading, rows),
    ]
    if not any(cell.policy == evaluate.TRAINED for cell in found.cells):
        parts.append(f"The evaluation holds no policy called {evaluate.TRAINED}.")
    if found.differences:
        parts += [
            "Differences on the same scenarios, which are resampled in pairs:",
            _table(
                ["tier", "difference", f"mean {environment.headline_name}"],
                [
                    (row.tier, f"{_text(row.policy)} − {_text(row.against)}", _mean(environment, row.mean, row.ci))
                    for row in found.differences
                ],
            ),
        ]
    return parts


def _cell_row(environment: AnyEnvironment, cell: Cell) -> list[str]:
    policy = f"**{evaluate.TRAINED}**" if cell.policy == evaluate.TRAINED else _text(cell.policy)
    figures = [_figure(metric, value, ci) for metric, value, ci in cell.metrics]
    return [cell.tier, policy, str(cell.episodes), _mean(environment, cell.mean, cell.mean_ci), *figures]


def _mean(environment: AnyEnvironment, mean: float, ci: tuple[float, float]) -> str:
    low, high = [tables.headline(environment, bound) for bound in ci]
    return f"{tables.headline(environment, mean)} [{low}, {high}]"


def _figure(metric: Metric, value: float | None, ci: tuple[float, float] | None) -> str:
    if ci is None:
        return tables.metric_figure(metric, value)
    low, high = [tables.metric_figure(metric, bound).removesuffix(" %") for bound in ci]
    return f"{tables.metric_figure(metric, value)} [{low}, {high}]"


def _limits(facts: Facts) -> str:
    measured = (
        "It was not measured."
        if isinstance(facts.evaluation, str)
        else "It was measured in the same simulation, on seeds that training never drew, under the rules named above."
    )
    return (
        f"It was trained in a simulation. {measured} Nothing here speaks of real incidents, real agents or real tools, "
        "or of another base model."
    )


def _loading(facts: Facts) -> list[str]:
    """Programs that run as they stand, in this folder."""
    name = json.dumps(facts.base.name)
    find = {
        "hub": [f"BASE = {name}"],
        "folder": [f"BASE = {name}  # the base model's folder, wherever you have it"],
        "made": [
            "from chaosops_ray.training import base_models",
            "",
            f"BASE = base_models.prepare({name}, world={json.dumps(facts.environment.name)}).path  # made, then cached",
        ],
    }[facts.base.kind]
    load = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        *find,
        'ADAPTER = "."  # this folder',
        "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), ADAPTER)",
    ]
    environment, run = facts.environment, facts.run
    scenario = json.dumps(environment.scenarios(environment.selections[0], [0])[0].identity)
    style = json.dumps(run.rendering)
    rules = json.dumps(tables.plain(run.rules, _LONGEST))
    prepared = f"{name}, world=environment.name" if facts.base.kind == "made" else "BASE"
    play = [
        "import torch",
        "",
        "from chaosops_ray.agents.seat import TokenSeat",
        "from chaosops_ray.agents.tokens import Codec",
        "from chaosops_ray.sim import environment_of",
        "from chaosops_ray.training import base_models",
        "",
        f"environment = environment_of({scenario})",
        f"world = environment.start(environment.scenario({scenario}), {rules})",
        "role = environment.acting(world)",
        "",
        f"base = base_models.prepare({prepared})",
        "codec = Codec(base.path, base.layout)",
        f"seat = TokenSeat(environment, role, {rules}, {style}, codec)",
        "prompt = torch.tensor([seat.observe(environment.view(world, role))])",
        "written = model.generate(",
        "    input_ids=prompt, attention_mask=torch.ones_like(prompt),",
        f"    max_new_tokens={run.rollout.max_tokens}, do_sample=False, eos_token_id=list(base.layout.stop) or None,",
        ")",
        "said = [token for token in written[0, prompt.shape[1] :].tolist() if token not in base.layout.stop]",
        "print(role, seat.action(codec.decode(tuple(said))))",
    ]
    return [
        _fenced("\n".join(load), "python"),
        "What it reads and writes are the transcripts of chaosops_ray. Its first move in a scenario, decoded greedily "
        "and confined to nothing:",
        _fenced("\n".join(play), "python"),
    ]


def _configuration(facts: Facts) -> str:
    """The resolved configuration; of a path of this machine only the folder's name is anybody's business."""
    resolved = {**facts.run.model_dump(mode="json"), "model": facts.base.name}
    return (
        "<details>\n<summary>The run's configuration, resolved</summary>\n\n"
        + _fenced(yaml.safe_dump(resolved, sort_keys=False).rstrip(), "yaml")
        + "\n\n</details>"
    )


# -- Markdown ---------------------------------------------------------------------------------------------------------

# What means something within a line: emphasis, code, links, cells, mathematics, and what some readers make links of.
_MARKS = re.compile(r"[\\`*_\[\]|~$^@!]|:(?!\d)|(?<=www)\.", re.IGNORECASE)


def _text(value: str) -> str:
    """Text that stands within a line of Markdown and is nothing but text."""
    return _MARKS.sub(r"\\\g<0>", escape(tables.plain(value, _LONGEST), quote=False))


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join([f"| {' | '.join(line)} |" for line in lines])


def _fenced(text: str, language: str) -> str:
    """A code block that nothing in the text can end."""
    longest = max([len(ticks) for ticks in re.findall("`+", text)], default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


# -- the hub ----------------------------------------------------------------------------------------------------------


class Repository(NamedTuple):
    """A place on a hub, and the way there."""

    name: str
    api: HfApi


def repository(name: str) -> Repository:
    """The repository OWNER/NAME of the hub, with the token of the environment; a missing one is told now."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push: {_one_line(str(error))}") from None
    if name.count("/") != 1:
        raise InputError(f"--push {name} names no owner; write OWNER/NAME")
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InputError(f"--push needs a token that may write to {name}; set {TOKEN}")
    if not _TOKEN_CHARACTERS.issuperset(token):
        raise InputError(f"{TOKEN} holds characters that no token has; set it anew")
    return Repository(name, HfApi(token=token, library_name="chaosops_ray", library_version=__version__))


def push(exported: Exported, to: Repository, *, public: bool) -> list[str]:
    """Upload what was exported, into a private repository unless it may be public; what the hub warned of."""
    commit = f"{exported.version.name}, {exported.version.digest[:12]}"
    # Its warnings are of retries, and with HF_DEBUG it logs requests; an error says what there is to say.
    hub_logging.set_verbosity_error()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            to.api.create_repo(to.name, private=not public, exist_ok=True)
            # One that was there before keeps who may see it.
            is_open = not public and not to.api.model_info(to.name).private
            if not is_open:
                to.api.upload_folder(repo_id=to.name, folder_path=exported.folder, commit_message=commit)
        # HTTP, the disk, a card that the hub refuses, an answer that is no JSON, the transfer of large files
        except (HfHubHTTPError, HTTPError, OSError, ValueError, RuntimeError) as error:
            reason = _told(error, to)
            raise InputError(f"cannot push {exported.folder} to {to.name}: {reason}") from None
    if is_open:
        raise InputError(f"{to.name} is there and public; nothing was uploaded, say --public if everybody may see it")
    # Of the hub's own words one is enough; what libraries say of each other is of no use to anybody here.
    said = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return [_one_line(_scrubbed(text, to)) for text in said]


def _told(error: Exception, to: Repository) -> str:
    return _one_line(_scrubbed(str(error), to)) or type(error).__name__


def _scrubbed(text: str, to: Repository) -> str:
    """What a hub or a library says may quote what it was sent."""
    return text.replace(to.api.token, f"[{TOKEN}]")


def _one_line(text: str) -> str:
    return tables.plain(" ".join(text.split()), _REASON)
