"""Export of a run's adapter: the published bytes in PEFT's format, with a model card and no path of this machine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.config import SMOLLM2, TINY_MODELS, Run
from chaosops_ray.reports import evaluation, model_card, tables
from chaosops_ray.reports.model_card import Base, Facts, Version
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import versions
from chaosops_ray.store.files import atomic_folder, check_free_folder, make_folder, reason, remedy
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import base_models, check, smollm2
from chaosops_ray.wire import PolicyVersion

CARD = "README.md"
EXPORTS = "export"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")


class Exported(NamedTuple):
    """A version and the folder that it was exported to."""

    folder: Path
    version: PolicyVersion


def export(folder: RunFolder, number: int | None, out: Path | None, license_name: str | None) -> Exported:
    """Write a version, by default the last one, with its card into a new folder."""
    if license_name is not None and not _LICENSE.fullmatch(license_name):
        raise InputError(f"{license_name[:80]!r} is not a license id of a hub; write for example apache-2.0")
    run = check.recorded(folder)
    environment = environment_named(run.world)
    version = folder.version(number)  # before the base model, which may take a while
    target = folder.path / EXPORTS / version.name if out is None else out
    check_free_folder(target)
    base = based_on(run)
    versions.verify(version, base.digest)
    name, evaluated = tables.plain(folder.path.resolve().name), measured(folder, run, environment, version.number)
    described = Version(version.name, version.number, version.digest)
    card = model_card.render(Facts(name, run, environment, described, base, evaluated, license_name))
    try:
        make_folder(target.resolve().parent)
        with atomic_folder(target, replace=False) as temporary:
            for file in (versions.CONFIG, versions.WEIGHTS):
                shutil.copyfile(Path(version.path) / file, temporary / file)
            # The copies are verified: the files may have changed since the version was read.
            if versions.digest(temporary) != version.digest:
                raise versions.DigestError(f"{version.path} changed while it was copied; export {version.name} again")
            _check_for_paths(temporary / versions.CONFIG, version)
            (temporary / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        advice = remedy(error) or "name another folder with --out"
        raise InputError(f"cannot write {target}: {reason(error)}; {advice}") from None
    return Exported(target, version)


def based_on(run: Run) -> Base:
    """Fetch or make the run's base model, which verifies the adapter; return its public name and digest."""
    digest = base_models.prepare(run.model, world=run.world).digest
    if run.model in TINY_MODELS:
        return Base(run.model, "made", digest)
    if run.model == SMOLLM2:
        return Base(smollm2.PUBLISHED, "quantized", digest)
    folder = base_models.local(run.model)
    return Base(run.model, "hub", digest) if folder is None else Base(tables.plain(folder.name), "folder", digest)


def measured(folder: RunFolder, run: Run, environment: AnyEnvironment, number: int) -> Mapping[str, Any] | str:
    """Return the evaluation of this version, or why there is none."""
    # A run evaluates its last version, after all updates.
    if number != run.updates:
        return "This version was not evaluated: a run evaluates its last one, after all its updates."
    found = evaluation.read(folder, environment)
    return "This run has not been evaluated yet." if found is None else found


def _check_for_paths(path: Path, version: PolicyVersion) -> None:
    """Refuse a configuration of PEFT that names files of this machine."""
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
