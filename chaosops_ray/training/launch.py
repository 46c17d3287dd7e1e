"""A training run from its checked configuration to its report."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray._private.state import state  # nothing public tells which nodes are being drained
from rich.console import Console

from chaosops_ray import evaluate, process_environment
from chaosops_ray.config import Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.reports.progress import Progress
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.remote import Mirror
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.telemetry import prometheus, sinks
from chaosops_ray.telemetry.sinks import Described
from chaosops_ray.training import base_models, copies, footprint, loop, plan, policies
from chaosops_ray.training.check import written
from chaosops_ray.training.loop import Say, Training, Watch
from chaosops_ray.wire import EpisodeReport, PolicyVersion
from chaosops_ray.workers.bundles import check
from chaosops_ray.workers.stop import TO_BE_RESUMED, Stop, StopError, on_sigterm

_REPORT = "chaosops_ray.reports.run_report"


class Finished(NamedTuple):
    """The evaluation of a run that is over, and the page of its report."""

    evaluation: dict[str, Any]
    page: Path | str


def train(
    run: Run,
    environment: AnyEnvironment,
    out: Path,
    address: str | None,
    console: Console,
    *,
    resume: bool,
    mirror: Mirror | None = None,
) -> Finished:
    """Start a new run in a new folder, or resume a folder's run from its last checkpoint.

    With a mirror, `out` is its working folder. At SIGTERM, or when Ray drains this node, save what there is and raise
    StopError.
    """
    out = out.resolve()
    before = RunFolder(out).metrics() if resume else ()

    def late() -> None:
        console.show_cursor()
        sys.stderr.write(f"chaosops train: {to_be_resumed(str(stop.why), out, run, mirror)}\n")
        sys.stderr.flush()
        os._exit(TO_BE_RESUMED)

    stop = Stop(draining, late=late)
    with (
        said_how_to_resume(out, run, mirror),
        on_sigterm(stop),
        Progress(console, environment, out.name, run.updates, run.alarm.kl, before) as progress,
        cluster([run], address, progress.say),
    ):
        base = base_models.prepare(run.model, run.world, progress.say)
        check_memory(run, environment, base.path, address)
        folder = RunFolder(out) if resume else RunFolder.create(out, written(run))
        if mirror is None:
            return finish(loop.prepare(run, base, folder), progress, progress.say, stop=stop, note=progress.note)
        mirrored = copies.begin(mirror, is_new=not resume)
        finished = finish(loop.prepare(run, base, mirrored), progress, progress.say, stop=stop, note=progress.note)
        progress.say("uploading")
        copies.finish(mirrored, mirror)
        return finished._replace(page=mirror.remote.at(Path(finished.page).name))


@contextmanager
def said_how_to_resume(out: Path, run: Run, mirror: Mirror | None = None) -> Iterator[None]:
    """Add to a StopError after which update the run goes on, and how."""
    try:
        yield
    except StopError as asked:
        raise StopError(to_be_resumed(str(asked), out, run, mirror)) from None


def to_be_resumed(why: str, out: Path, run: Run, mirror: Mirror | None = None) -> str:
    """Return the line that a run ends with that was asked to end."""
    if not (out / run_folder.CONFIG).exists():
        return f"{why}: ended before the run began; start it again"
    # Of a run in a store, what was uploaded counts.
    done = max(RunFolder(out).checkpoints(), default=0) if mirror is None else mirror.checkpoint
    place = out if mirror is None else mirror.remote.name
    return f"{why}: saved after update {done} of {run.updates}; go on with --resume {place}"


def draining() -> str | None:
    """Return why the run should end if Ray is about to take away the node that this process runs on."""
    if not ray.is_initialized():
        return None
    node = ray.get_runtime_context().get_node_id()
    return "Ray drains this node" if node in state.get_draining_nodes() else None


def finish(
    training: Training,
    watch: Watch,
    say: Say,
    patience: float = 0.0,
    stop: Stop | None = None,
    note: Say = lambda _text: None,
) -> Finished:
    """Make the remaining updates, evaluate, write the report; `patience` is for a process that still has the folder.

    `say` shows what happens now; what is noted stays.
    """
    run, environment, folder = training.run, training.environment, training.folder
    described = Described(folder.path.name, folder.path, flat(run.model_dump(mode="json")))
    with folder.claimed(patience), sinks.opened(run.telemetry, described, note) as opened:
        training = training._replace(sinks=opened)
        say("placing actors")
        scenarios = plan.held_out(run, environment)
        with nullcontext() if stop is None else stop.asked_for():
            trained = loop.train(training, watch, say, scenarios, stop)
        evaluation = measure(training, trained.version, scenarios, trained.held_out)
        # Imported here: the plots' library takes a while, and by now nobody waits for the first update.
        return Finished(evaluation, import_module(_REPORT).write(folder, environment))


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a configuration with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def to_watch(run: Run, environment: AnyEnvironment, out: str) -> list[str]:
    """Return the arguments of `chaosops` that show the trained policy in a held-out scenario of the hardest tier."""
    held_out = plan.held_out(run, environment)
    scenario = [one for one in held_out if one.seed == held_out[0].seed][-1]
    rules = environment.rules(run.rules)
    is_usual = rules == environment.rules(environment.rule_sets[0])
    return ["play", scenario.identity, "--policy", f"trained={out}", *([] if is_usual else ["--rules", rules])]


def measure(
    training: Training, version: PolicyVersion, scenarios: Sequence[Scenario], reports: Sequence[EpisodeReport]
) -> dict[str, Any]:
    """Write results and episodes of the last version, from its reports, and of the baselines; return their summary."""
    run, environment, folder = training.run, training.environment, training.folder
    rules, names = environment.rules(run.rules), plan.baselines(run, environment)
    results = [
        evaluate.Result(evaluate.TRAINED, environment.scenario(one.scenario), one.headline, one.metrics)
        for one in reports
    ]
    # Each of them plays the same seats, so that differences are about these.
    beside = plan.evaluated_beside(run, environment)
    baselines = evaluate.play_all(evaluate.baselines(environment, ",".join(names), beside), scenarios, rules)
    selection = plan.set_named(run.evaluation.set, environment)
    of_each = dict.fromkeys((evaluate.TRAINED, *names), beside)
    models = {evaluate.TRAINED: policies.described(folder, run, training.base, version)}
    with folder.record_evaluation(models, selection) as writer:
        for report in reports:
            episode = run_folder.episode_of(environment, report, rules)
            writer.add(environment, evaluate.TRAINED, episode, report.origins, beside)
        for name, played in baselines:
            results.append(evaluate.result(environment, name, played.episode))
            writer.add(environment, name, played.episode, played.origins, beside)
    summary = evaluate.summary(environment, results, rules, selection, run.evaluation.seeds, of_each, models)
    summary["differences"] = evaluate.differences(environment, results, evaluate.TRAINED, names, rules)
    folder.finish(evaluate.rows(environment, results, rules), summary)
    return summary


def results(folder: RunFolder, environment: AnyEnvironment) -> list[evaluate.Result]:
    """Return the results of a run that is over, episode by episode."""
    path = folder.path / run_folder.RESULTS
    return evaluate.results_of(environment, files.read_lines(path), str(path))


def check_memory(run: Run, environment: AnyEnvironment, model: Path, address: str | None) -> None:
    """Raise ConfigError if the run's actors cannot have the memory they need, here or on the cluster."""
    if address is None:
        footprint.check_here(run, environment, model)
    else:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        footprint.check_cluster(run, environment, model, nodes)


@contextmanager
def cluster(runs: Sequence[Run], address: str | None, say: Say) -> Iterator[None]:
    """Start Ray here, or connect to the address; check that it holds each of the runs."""
    say("starting Ray" if address is None else f"connecting to Ray at {address}")
    # Processes of a Ray that is started here inherit the variables. Elsewhere they come with the job, and as a job that
    # was submitted may have set some of them itself, Ray must be told to merge the two.
    process_environment.set_variables()
    settings = {}
    if address is not None:
        os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
        settings = {"runtime_env": {"env_vars": process_environment.ENVIRONMENT}}
    on_signal = signal.getsignal(signal.SIGTERM)
    try:
        # Without an address, Ray would look for a cluster that somebody else has started on this machine.
        options: dict[str, Any] = {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": "ERROR",
            **settings,
        }
        ray.init(address=address or "local", **options)
    except SystemExit:
        raise StopError("SIGTERM") from None  # Ray's own answer to it while it starts
    except Exception as error:
        # Ray raises a bare Exception if its processes do not start in time; subclasses that are not listed are defects.
        if type(error) is not Exception and not isinstance(error, ConnectionError | RuntimeError | ValueError):
            raise
        what = "Ray does not start" if address is None else f"no Ray cluster at {address}"
        raise InputError(f"{what}: {one_line(error)}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_signal)  # Ray has put its own in place
    try:
        for run in runs:
            check(run, ray.cluster_resources())
        is_alone = address is None and any("prometheus" in run.telemetry for run in runs)
        with prometheus.announced() if is_alone else nullcontext():
            yield
    finally:
        ray.shutdown()
