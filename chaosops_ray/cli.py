"""`chaosops …`: what a person types. Every mistake of theirs is one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from chaosops_ray import __version__
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.process_environment import set_variables
from chaosops_ray.sim import ENVIRONMENTS, InputError, environment_named, environment_of

if TYPE_CHECKING:
    from rich.console import Console

    from chaosops_ray.evaluate import Player
    from chaosops_ray.sim.contract import AnyEnvironment

Item = TypeVar("Item")

USAGE = 2
DIFFERS = 1
TRIAL_FAILED = 1
INTERRUPTED = 130
DIFFERENCES_SHOWN = 20


class _Parser(argparse.ArgumentParser):
    """argparse prints its usage before an error; one line says more. And help is as wide as the docs that quote it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100), **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {' '.join(message.split())}\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    root = _Parser(
        prog="chaosops", description="Deterministic worlds in which language models learn to watch AI agents."
    )
    root.add_argument("--version", action="version", version=f"chaosops {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    worlds = ", ".join(ENVIRONMENTS)

    evaluate = commands.add_parser(
        "evaluate",
        help="play policies on an evaluation set and print a table with intervals",
        description="Play policies on an evaluation set and print a table with intervals.",
    )
    evaluate.add_argument("--world", default="incident", metavar="NAME", help=f"which world (one of: {worlds})")
    evaluate.add_argument(
        "--policies",
        required=True,
        metavar="A,B,…",
        help=f"baseline policies ({_by_world('policies')}); trained=RUN is a run's last version, trained=RUN@N "
        "its N-th; model=NAME is a base model without an adapter, by its folder or hub name; served=MODEL@URL is a "
        "model behind a chat endpoint",
    )
    evaluate.add_argument(
        "--sampler",
        choices=("torch", "vllm"),
        default="torch",
        help="the engine that plays trained and base models (default: torch)",
    )
    evaluate.add_argument(
        "--structured", action="store_true", help="let base models choose among the permitted actions only"
    )
    evaluate.add_argument(
        "--rules",
        metavar="RULES",
        help="a rule set, such as strict (the default), published, or strict,multiplier=2",
    )
    evaluate.add_argument(
        "--set", metavar="SET", help=f"an evaluation set, by default the published one ({_by_world('selections')})"
    )
    evaluate.add_argument("--tiers", metavar="A,B,…", help="only these tiers")
    evaluate.add_argument("--seeds", metavar="A-B", help="play each case of each tier with each of these seeds instead")
    evaluate.add_argument("--by-group", action="store_true", help="print the table per failure or family too")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the cells here")
    evaluate.add_argument(
        "--episodes", type=Path, metavar="FILE", help="write every step of every episode here, as Parquet"
    )
    evaluate.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots into this folder, as PNG")
    evaluate.set_defaults(run=_evaluate)

    train = commands.add_parser(
        "train",
        help="train a policy on a Ray cluster, measure it, write a report",
        description="Train a policy on a Ray cluster, measure it, write a report. The cluster is this machine unless "
        "--address says otherwise.",
    )
    train.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help="for example tune_configs/3a.yaml; docs/config.md has the keys",
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="over the file, such as model=tiny; repeatable",
    )
    train.add_argument("--seed", metavar="N", help="the run's seed, the same as --set seed=N")
    train.add_argument("--out", type=Path, metavar="FOLDER", help="the run folder (default: runs/NAME-OF-CONFIG)")
    train.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with this run from its last checkpoint")
    train.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster, for example auto")
    train.add_argument("--explain", action="store_true", help="print the resolved configuration and its actors")
    train.set_defaults(run=_train)

    tune = commands.add_parser(
        "tune",
        help="train the runs of a sweep side by side and merge them into one report",
        description="Train the runs of a sweep side by side on Ray Tune and merge them into one report. The cluster is "
        "this machine unless --address says otherwise. Exit code 1 if a trial failed.",
    )
    tune.add_argument(
        "config", type=Path, nargs="?", metavar="SWEEP", help="for example tune_configs/phase3.yaml; see docs/config.md"
    )
    tune.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="over every run of the sweep, such as model=tiny; repeatable",
    )
    tune.add_argument("--seeds", metavar="A-B", help="train each arm with these seeds instead of the sweep's")
    tune.add_argument("--out", type=Path, metavar="FOLDER", help="the sweep's folder (default: runs/NAME-OF-SWEEP)")
    tune.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with this sweep after its driver died")
    tune.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster, for example auto")
    tune.add_argument("--explain", action="store_true", help="print the sweep and its trials, and start nothing")
    tune.set_defaults(run=_tune)

    submit = commands.add_parser(
        "submit",
        help="send a configuration to a Ray cluster as a job and follow it",
        description="Send the working directory to a Ray cluster, train CONFIG there as a job, print what it prints, "
        "and end with its exit code. Ctrl-C leaves the job running.",
    )
    submit.add_argument(
        "config", type=Path, metavar="CONFIG", help="as for train, or a sweep; it lies in the working directory"
    )
    submit.add_argument(
        "--address", required=True, metavar="URL", help="the cluster's dashboard, for example http://127.0.0.1:8265"
    )
    submit.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the run folder: an absolute path that all nodes of the cluster see",
    )
    submit.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="over the file, such as model=tiny; repeatable"
    )
    submit.add_argument("--seed", metavar="N", help="the run's seed, the same as --set seed=N")
    submit.add_argument("--seeds", metavar="A-B", help="for a sweep: train each arm with these seeds")
    submit.add_argument(
        "--working-dir", type=Path, default=Path(), metavar="FOLDER", help="what is sent (default: where you are)"
    )
    submit.add_argument(
        "--no-wait", action="store_true", help="print the job's name and return as soon as the cluster has it"
    )
    submit.set_defaults(run=_submit)

    export = commands.add_parser(
        "export",
        help="write a run's adapter with a model card into a folder, for others to load",
        description="Write a run's adapter with a model card into a folder in PEFT's format, and push it to a hub if "
        "asked to.",
    )
    export.add_argument("adapter", metavar="RUN[@N]", help="a run's last version, or its N-th")
    export.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder (default: RUN/export/policy-vN)")
    export.add_argument("--license", metavar="ID", help="the adapter's license for the card, such as apache-2.0")
    export.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload the folder to this model repository; the token is read from HF_TOKEN",
    )
    export.add_argument(
        "--public", action="store_true", help="everybody may see what is pushed (default: it is private)"
    )
    export.set_defaults(run=_export)

    play = commands.add_parser(
        "play", help="watch one episode in the terminal", description="Watch one episode in the terminal."
    )
    play.add_argument("scenario", metavar="SCENARIO", help="for example incident/autoscaler_cost_cut/hard/17")
    play.add_argument("--policy", default="oracle", metavar="NAME", help="who plays all seats (default: oracle)")
    play.add_argument("--rules", metavar="RULES", help="a rule set (default: strict)")
    play.add_argument("--fast", action="store_true", help="do not pause between steps")
    play.add_argument("--plain", action="store_true", help="print lines, as is done when the output is no terminal")
    play.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help="pause between steps (default: 1)")
    play.set_defaults(run=_play)

    replay = commands.add_parser(
        "replay",
        help="simulate recorded episodes again and compare every step",
        description="Simulate recorded episodes again and compare every step. Exit code 1 if anything differs.",
    )
    replay.add_argument("file", type=Path, metavar="FILE", help="Parquet episodes, as evaluate --episodes writes them")
    replay.set_defaults(run=_replay)
    return root


def _by_world(listed: str) -> str:
    return "; ".join([f"{name}: {', '.join(getattr(world, listed))}" for name, world in ENVIRONMENTS.items()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    for output in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows its code instead; it is no reason to lose an evaluation.
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    given = parser().parse_args(arguments)
    try:
        code: int = given.run(given)
        sys.stdout.flush()
    except (InputError, ServedModelError) as error:
        print(f"chaosops {given.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"chaosops {given.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _evaluate(given: argparse.Namespace) -> int:
    from chaosops_ray import evaluate
    from chaosops_ray.reports import plots, tables
    from chaosops_ray.store import episodes, files

    # Everything that can be wrong is looked at before the first episode.
    environment = environment_named(given.world)
    rules = environment.rules(given.rules if given.rules is not None else environment.rule_sets[0])
    players = _players(environment, given)
    seeds = None if given.seeds is None else evaluate.parse_seeds(given.seeds)
    selection = given.set if given.set is not None else environment.selections[0]
    scenarios = environment.scenarios(selection, seeds)
    if given.tiers is not None:
        tiers = evaluate.parse_tiers(environment, given.tiers)
        scenarios = tuple(scenario for scenario in scenarios if scenario.tier in tiers)
    for path in (given.json, given.episodes):
        if path is not None:
            files.check_writable(path)
    if given.plots is not None:
        files.check_folder(given.plots)
        for path in plots.plot_paths(environment, given.plots):
            files.check_writable(path)
    if given.json is not None and given.episodes is not None and given.json.resolve() == given.episodes.resolve():
        raise InputError(f"--json and --episodes both name {given.json}; give each a file of its own")

    results = []
    with ExitStack() as stack:
        writer = stack.enter_context(episodes.EpisodeWriter(given.episodes)) if given.episodes else None
        playing = evaluate.play_all(players, scenarios, rules)
        if _names_models(given.policies):
            playing = _with_input_errors(playing)
        for name, played in _tracked("playing", playing, len(players) * len(scenarios)):
            results.append(evaluate.result(environment, name, played.episode))
            if writer is not None:
                writer.add(environment, name, played.episode, played.versions)
    summary = evaluate.summary(environment, results, rules, selection, given.seeds)

    written = [given.episodes] if given.episodes else []
    if given.json is not None:
        files.write_json(given.json, summary)
        written.append(given.json)
    if given.plots is not None:
        written += [plot.path for plot in plots.plot(environment, summary, given.plots)]
    console = _console()
    console.print(
        f"{environment.title} · rules {rules} · {len(scenarios)} scenarios, {len(results)} episodes",
        highlight=False,
    )
    console.print(tables.table(environment, summary["cells"], "tier"))
    if given.by_group:
        grouping = environment.grouping
        console.print(tables.table(environment, summary[f"by_{grouping}"], grouping))
    for path in written:
        print(f"wrote {path}")
    return 0


def _names_models(policies: str) -> bool:
    """Tell a list of baselines, which needs no engine, from one that names models, as in trained=RUN."""
    return "=" in policies


def _players(environment: AnyEnvironment, given: argparse.Namespace) -> dict[str, Player]:
    from chaosops_ray import evaluate

    if given.structured and "model=" not in given.policies:
        raise InputError("--structured is about base models; name one with model=NAME, or leave it out")
    if not _names_models(given.policies):
        return evaluate.baselines(environment, given.policies)
    set_variables()
    from chaosops_ray.training import launch, policies

    with launch.as_input_errors():
        return policies.players(environment, given.policies, given.sampler, structured=given.structured)


def _with_input_errors(items: Iterable[Item]) -> Iterator[Item]:
    """The items; errors of engines that come instead of one are input errors."""
    from chaosops_ray.training import launch

    with launch.as_input_errors():
        yield from items


def _train(given: argparse.Namespace) -> int:
    set_variables()
    from rich.console import Console

    from chaosops_ray.reports import tables
    from chaosops_ray.training import launch

    if (given.config is None) == (given.resume is None):
        raise InputError("give a configuration to begin a run, or --resume and a run's folder to go on with one")
    if given.resume is not None:
        if given.set or given.seed or given.out or given.explain:
            raise InputError("--resume goes on with a run as it was; leave --set, --seed, --out and --explain out")
        with launch.as_input_errors():
            finished = launch.resume(given.resume, given.address, Console())
    else:
        with launch.as_input_errors():
            run = launch.read(given.config, given.set, given.seed)
            if given.explain:
                launch.look_over(run)
                print(launch.explain(run), end="")
                return 0
            out = given.out if given.out is not None else Path("runs") / given.config.stem
            finished = launch.begin(run, out, given.address, Console())
    _console().print(tables.table(finished.environment, finished.evaluation["cells"], "tier"))
    print(f"report: {finished.page}")
    return 0


def _tune(given: argparse.Namespace) -> int:
    set_variables()
    from rich.console import Console

    from chaosops_ray.sweeps import runner, spec
    from chaosops_ray.training import launch

    if (given.config is None) == (given.resume is None):
        raise InputError("give a sweep to begin, or --resume and a sweep's folder to go on with it")
    if given.resume is not None and (given.set or given.seeds or given.out or given.explain):
        raise InputError("--resume goes on with a sweep as it was; leave --set, --seeds, --out and --explain out")
    with launch.as_input_errors():
        if given.resume is not None:
            finished = runner.resume(given.resume, given.address, Console())
        elif given.explain:
            found, trials = spec.load_sweep(given.config, given.set, given.seeds)
            runner.looked_over(found, trials)
            print(runner.explain(found, trials), end="")
            return 0
        else:
            out = given.out if given.out is not None else Path("runs") / given.config.stem
            finished = runner.begin(given.config, given.set, given.seeds, out, given.address, Console())
    for line in finished.told():
        print(line)
    return TRIAL_FAILED if finished.has_failed else 0


def _submit(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.sweeps import jobs
    from chaosops_ray.training import launch

    with launch.as_input_errors():
        job = jobs.prepare(given.config, given.set, given.seed, given.seeds, given.out, given.working_dir)
    client = jobs.connect(given.address, os.environ)
    name = jobs.send(client, job)
    hint = jobs.hint(name, client.get_address())
    if given.no_wait:
        print(name)
        print(f"chaosops submit: {hint}", file=sys.stderr)
        return 0
    print(f"chaosops submit: job {name}", file=sys.stderr)
    try:
        ended = jobs.follow(client, name, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(f"chaosops submit: job {name} goes on; {hint}", file=sys.stderr)
        return INTERRUPTED
    print(f"chaosops submit: {ended.words}", file=sys.stderr)
    return ended.code


def _export(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.training import export, hub, launch, policies

    if given.public and given.push is None:
        raise InputError("--public is about what is pushed; say where to with --push OWNER/NAME")
    with launch.as_input_errors():
        to = None if given.push is None else hub.repository(given.push)
        folder, number = policies.version_named(given.adapter)
        exported = export.export(folder, number, given.out, given.license)
        print(f"wrote {exported.folder}", flush=True)
        if to is not None:
            for warning in hub.push(exported, to, public=given.public):
                print(f"chaosops export: the hub says: {warning}", file=sys.stderr)
            print(f"pushed {to.api.endpoint}/{to.name}")
    return 0


def _play(given: argparse.Namespace) -> int:
    from chaosops_ray import evaluate
    from chaosops_ray.reports import playback

    environment = environment_of(given.scenario)
    scenario = environment.scenario(given.scenario)
    rules = environment.rules(given.rules if given.rules is not None else environment.rule_sets[0])
    if "," in given.policy:
        raise InputError(f"one policy plays all seats; give one of {', '.join(environment.policies)}")
    (build,) = evaluate.parse_policies(environment, given.policy).values()
    if not 0 <= given.pause <= 60:
        raise InputError(f"a pause of {given.pause:g} seconds is none; give 0 to 60")
    choose = build(scenario, rules)
    if given.plain or not sys.stdout.isatty():
        playback.tell(print, environment, scenario, rules, choose)
    else:
        playback.show(_console(), environment, scenario, rules, choose, 0.0 if given.fast else given.pause)
    return 0


def _replay(given: argparse.Namespace) -> int:
    from chaosops_ray.store import episodes

    count = steps = 0
    found: list[str] = []
    for recorded in _tracked("replaying", episodes.read_episodes(given.file)):
        found += episodes.differences(recorded)
        count += 1
        steps += len(recorded.rows)
    if not count:
        raise InputError(f"{given.file} holds no episodes")
    if found:
        for line in found[:DIFFERENCES_SHOWN]:
            print(line, file=sys.stderr)
        hidden = len(found) - DIFFERENCES_SHOWN
        if hidden > 0:
            print(f"and {hidden} more", file=sys.stderr)
        print(f"chaosops replay: {len(found)} differences in {count} episodes of {given.file}", file=sys.stderr)
        return DIFFERS
    print(f"{count} episodes, {steps} steps: every view, action, outcome, reward and state hash came out the same")
    return 0


def _tracked(what: str, items: Iterable[Item], total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on stderr while they come if a person is there to see it."""
    from rich.console import Console
    from rich.progress import track

    on_screen = sys.stderr.isatty()
    return track(items, what, total, console=Console(stderr=True), transient=True, disable=not on_screen)


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width of its own, and a table folded at 80 columns cannot be read.
    return Console() if sys.stdout.isatty() else Console(width=140)


if __name__ == "__main__":
    sys.exit(main())
