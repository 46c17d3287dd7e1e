"""The commands of `chaosops`. A mistake of the user is one line on stderr and exit code 2.

One module, because the parser of all commands is one page of help, and each command only parses, calls and prints.
Imports of libraries stand inside the commands, so that no command waits for what another one needs.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from chaosops_ray import __version__
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.plain_text import one_line
from chaosops_ray.process_environment import set_variables
from chaosops_ray.serve import access
from chaosops_ray.sim import ENVIRONMENTS, InputError, cases, environment_named, environment_of
from chaosops_ray.sim import seats as seating
from chaosops_ray.sim.contract import STYLES, parse_seed
from chaosops_ray.store import files
from chaosops_ray.workers.stop import TO_BE_RESUMED, Stop, StopError, on_sigterm

if TYPE_CHECKING:
    from rich.console import Console

    from chaosops_ray.evaluate import Player
    from chaosops_ray.sim.contract import AnyEnvironment, PolicyFactory, Scenario

Item = TypeVar("Item")

PROGRAM = "chaosops"
USAGE = 2
_LONGEST_ERROR = 4000
# What base models can be held to.
_STRUCTURED = ("no", "choices", "schema")
DIFFERS = 1
TRIAL_FAILED = 1
INTERRUPTED = 130
DIFFERENCES_SHOWN = 20


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage, and whose help is as wide as the docs that quote it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100), **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {one_line(message, _LONGEST_ERROR)}\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands and options."""
    root = _Parser(
        prog="chaosops", description="Deterministic worlds in which language models learn to watch AI agents."
    )
    root.add_argument("--version", action="version", version=f"chaosops {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int], summary: str, more: str = "") -> Callable[..., Any]:
        """Add a command; return the function that adds its options."""
        description = f"{summary[0].upper()}{summary[1:]}. {more}".strip()
        made = commands.add_parser(run.__name__[1:].replace("_", "-"), help=summary, description=description)
        made.set_defaults(run=run)
        return made.add_argument

    file: dict[str, Any] = {"type": _path, "metavar": "FILE"}
    folder: dict[str, Any] = {"type": _path, "metavar": "FOLDER"}
    run_folder: dict[str, Any] = {"type": _path_or_uri, "metavar": "FOLDER"}
    settings: dict[str, Any] = {"action": "append", "default": [], "metavar": "KEY=VALUE"}
    rule_set = "a rule set, such as strict (its present version, the default), published, or strict,multiplier=2"
    seed = {"metavar": "N", "help": "the run's seed, the same as --set seed=N"}
    address = {"metavar": "ADDRESS", "help": "a running Ray cluster, for example auto"}
    here = "Without --address, the cluster runs on this machine."

    add = command(_evaluate, "play policies on an evaluation set and print a table with intervals")
    add("--world", default="incident", metavar="NAME", help=f"the world, one of: {', '.join(ENVIRONMENTS)}")
    models = (
        f"({_by_world('policies')}); trained=RUN is a run's last version, trained=RUN@N its N-th; model=NAME is a base "
        "model without an adapter, by its folder or hub name; served=MODEL@URL is a model behind a chat endpoint; "
        "ppo=RUN is what chaosops ppo has trained"
    )
    policies = f"baseline policies {models}"
    seats = (
        "baselines that play seats beside the policy, such as sre=oracle,dev=oracle; all: it plays every seat; "
        "default: all, and for a trained policy the seats of its run"
    )
    engine = "the engine that plays trained and base models (default: torch)"
    structured: dict[str, Any] = {
        "nargs": "?",
        "choices": _STRUCTURED,
        "const": "choices",
        "default": "no",
        "help": "hold base models to actions: choices, one of the permitted actions only (without a value, too); "
        "schema, a JSON object of the world's schema (default: no)",
    }
    add("--policies", required=True, metavar="A,B,…", help=policies)
    add("--seats", metavar="SEATS", help=seats)
    add("--sampler", choices=("torch", "vllm"), default="torch", help=engine)
    add("--structured", **structured)
    add("--rules", metavar="RULES", help=rule_set)
    add("--set", metavar="SET", help=f"an evaluation set; default: the first of its world ({_by_world('selections')})")
    add("--tiers", metavar="A,B,…", help="only these tiers")
    add("--seeds", metavar="A-B", help="play each case of each tier with each of these seeds")
    add(
        "--by-group",
        action="store_true",
        help="also print the table by failure or family; in worlds of twins, by setting too",
    )
    add("--json", **file, help="write the figures of the table to this file")
    add("--episodes", **file, help="write every step of every episode to this file, as Parquet")
    add("--plots", **folder, help="draw the plots into this folder, as PNG")

    uri = "the URI of a place in an object store, such as s3://bucket/run"
    add = command(_train, "train a policy on a Ray cluster, evaluate it, write a report", here)
    config = "a configuration, such as tune_configs/3a.yaml; docs/config.md lists the keys"
    add("config", type=_path, nargs="?", metavar="CONFIG", help=config)
    add("--set", **settings, help="override a key of the file, such as model=tiny; repeatable")
    add("--seed", **seed)
    add("--out", **run_folder, help=f"the run folder, or {uri} (default: runs/NAME-OF-CONFIG)")
    add("--resume", **run_folder, help="continue this run from its last checkpoint")
    add("--address", **address)
    explain = "print the complete configuration, its actors and their memory, and start nothing"
    add("--explain", action="store_true", help=explain)
    gpu = "with --explain: also whether the run fits on such GPUs, its tokens, and its hours where they were measured; "
    add("--gpu", metavar="CARD", help=f"{gpu}l4, a100, a100-40gb, h100, h200, or a size such as 16GB")

    more = (
        "The seats that learn, and the baselines beside them, play the run's world; every action is drawn at random "
        "among the permitted ones. The new model writes such actions, and knows nothing about which to take. "
        "Train it with: chaosops train CONFIG --set model=FOLDER. See docs/models.md."
    )
    add = command(_warmup, "fine-tune the model of a run on random play, so that it writes its seats' actions", more)
    add("config", type=_path, metavar="CONFIG", help=config)
    add("--set", **settings, help="override a key of the file, such as style=compact; repeatable")
    add("--seed", **seed)
    add("--out", **folder, help="the new model's folder (default: runs/NAME-OF-CONFIG-warm-start)")
    add("--steps", type=int, default=100, metavar="N", help="optimizer steps (default: 100)")
    add("--transcripts", type=int, default=16, metavar="N", help="transcripts of each step (default: 16)")
    add("--learning-rate", type=float, default=5e-4, metavar="RATE", help="the highest learning rate (default: 0.0005)")
    rank = "rank of the LoRA matrices, which are merged into the model in the end (default: 16)"
    add("--lora-rank", type=int, default=16, metavar="N", help=rank)

    summary = "train the runs of a sweep side by side on Ray Tune and merge them into one report"
    add = command(_tune, summary, f"{here} Exit code 1 if a trial failed.")
    sweep = "a sweep, such as tune_configs/phase3.yaml; see docs/config.md"
    add("config", type=_path, nargs="?", metavar="SWEEP", help=sweep)
    add("--set", **settings, help="override a key of every run of the sweep, such as model=tiny; repeatable")
    add("--seeds", metavar="A-B", help="train each arm with these seeds, not with those of the sweep")
    add("--out", **folder, help="the sweep's folder (default: runs/NAME-OF-SWEEP)")
    add("--resume", **folder, help="continue this sweep after its driver died")
    add("--address", **address)
    add("--explain", action="store_true", help="print the sweep and its trials, and start nothing")

    more = (
        "The working directory is uploaded. The command ends with the job's exit code; Ctrl-C leaves the job running."
    )
    add = command(_submit, "train a run or a sweep as a job on a Ray cluster, and print its output", more)
    add("config", type=_path, metavar="CONFIG", help="a run or a sweep, in the working directory")
    dashboard = "the cluster's dashboard, for example http://127.0.0.1:8265"
    add("--address", required=True, metavar="URL", help=dashboard)
    where = "the run folder: an absolute path on the head node, where the job runs; for a run, also a URI"
    add("--out", **run_folder, required=True, help=where)
    add("--set", **settings, help="override a key, such as model=tiny; repeatable")
    add("--seed", **seed)
    add("--seeds", metavar="A-B", help="for a sweep: train each arm with these seeds")
    add("--working-dir", **folder, default=Path(), help="the folder to upload (default: this one)")
    add("--no-wait", action="store_true", help="print the name of the job and return when the cluster has it")

    more = "It reads no text, but symbols of the views; docs/rllib.md has its settings. Ray runs on this machine."
    add = command(_ppo, "train RLlib's PPO on a world, as the baseline that is no language model", more)
    add("config", type=_path, metavar="CONFIG", help="a configuration, such as tune_configs/ppo.yaml")
    add("--set", **settings, help="override a key of the file, such as steps=20000; repeatable")
    add("--seed", **seed)
    add("--out", **folder, help="the run folder (default: runs/NAME-OF-CONFIG)")

    more = "The folder is in PEFT's format. With --push, it is uploaded to a hub."
    add = command(_export, "write a run's adapter with a model card into a folder, for others to load", more)
    add("adapter", metavar="RUN[@N]", help="the last version of a run, or version N")
    add("--out", **folder, help="a new folder (default: RUN/export/policy-vN)")
    add("--license", metavar="ID", help="the license in the model card, such as apache-2.0")
    push = "upload the folder to this model repository; the token is read from HF_TOKEN"
    add("--push", metavar="OWNER/NAME", help=push)
    add("--public", action="store_true", help="make the repository public (default: private)")

    more = "The page holds its curves, films and scripts, and opens from the disk. train writes one at its end."
    add = command(_report, "write a run's report again, as one page, with the episodes that you choose", more)
    add("run_folder", type=_path, metavar="RUN", help="the folder of a run, finished or not")
    add("--out", **file, help="the page (default: report.html in the folder of the run)")
    most = "at most so many films of the evaluation, those that tell most (default: 8; 0: none)"
    add("--films", type=int, default=8, metavar="N", help=most)
    numbers = "films of these episodes of evaluation-episodes.parquet instead, by their numbers"
    add("--episodes", metavar="A,B,…", help=numbers)

    add = command(_play, "watch one episode in the terminal, or play seats of it yourself", "See docs/play.md.")
    which = "such as incident/autoscaler_cost_cut/hard/17; or a world, for a case that --seed draws and nothing names"
    add("scenario", metavar="SCENARIO", help=which)
    add("--tier", metavar="TIER", help="with a world: draw among the cases of this tier (default: all)")
    add("--seed", metavar="N", help="with a world: draw the same case again (default: a new one each time)")
    add("--policy", default="oracle", metavar="NAME", help=f"a baseline policy {models} (default: oracle)")
    add("--seats", metavar="SEATS", help=seats)
    yours = "play this seat yourself, such as oversight=human; repeatable; the policy plays what is left"
    add("--seat", action="append", default=[], metavar="ROLE=human", help=yours)
    look = "how your seat sees its turns: as panels, or as the text that models read (default: panels)"
    add("--style", choices=("panels", *STYLES), default="panels", help=look)
    add("--episodes", **file, help="write the episode that you have played to this file, as Parquet")
    add("--sampler", choices=("torch", "vllm"), default="torch", help=engine)
    add("--structured", **structured)
    add("--rules", metavar="RULES", help=rule_set)
    add("--fast", action="store_true", help="do not pause between steps")
    add("--plain", action="store_true", help="print lines; the default if the output is not a terminal")
    add("--pause", type=float, default=1.0, metavar="SECONDS", help="pause between steps (default: 1)")

    more = (
        "Prints [START], [STEP] and [END] lines and nothing else; [END] always comes. Settings, from the environment: "
        "API_BASE_URL and MODEL_NAME; API_KEY, or else HF_TOKEN or HUGGINGFACE_API_KEY, if the endpoint needs a key; "
        "ENV_URL, or else LOCAL_IMAGE_NAME, an image that is started with docker."
    )
    add = command(_infer, "play an episode of a served world with the model behind an endpoint", more)
    reset = "an option of the environment's reset, such as difficulty=hard, role=oversight or seed=7; repeatable"
    add("--reset", **settings, help=reset)
    add("--timeout", type=float, default=120.0, metavar="SECONDS", help="for one try of the endpoint (default: 120)")
    again = "how often a try is repeated that failed for a passing reason (default: 5)"
    add("--retries", type=int, default=5, metavar="N", help=again)
    add("--max-tokens", type=int, default=512, metavar="N", help="the longest answer of the model (default: 512)")
    tools = "send the seat's actions to the endpoint as tools with JSON Schemas, and take a tool call for the action"
    add("--tools", action="store_true", help=tools)

    more = (
        f"With --token-file, or a token in the variable {access.TOKEN}, everything but /health needs it. "
        "Without, whoever reaches the address may play."
    )
    add = command(_serve, "serve a world to OpenEnv's clients, over HTTP and WebSockets, until interrupted", more)
    add("world", metavar="WORLD", help=f"one of: {', '.join(ENVIRONMENTS)}")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8000, metavar="N", help="the port; 0: any that is free (default: 8000)")
    reached = "names by which callers reach a server without a token, beside its address; others are refused"
    add("--names", default="", metavar="A,B,…", help=reached)
    add("--rules", metavar="RULES", help=rule_set)
    beside = (
        "models that callers may name as colleagues beside the baselines: trained=RUN, model=NAME, served=MODEL@URL"
    )
    add("--policies", metavar="A,B,…", help=beside)
    add("--sampler", choices=("torch", "vllm"), default="torch", help=engine)
    add("--token-file", **file, help="a file that holds the token, and nothing else")
    add("--max-sessions", type=int, default=64, metavar="N", help="sessions at the same time (default: 64)")
    idle = "end a session after so long without a message (default: 900)"
    add("--idle", type=float, default=900.0, metavar="SECONDS", help=idle)

    more = (
        "It shows runs and sweeps while they train, and writes nothing. Beyond this machine's own address it needs a "
        f"token, in --token-file or in the variable {access.TOKEN}."
    )
    add = command(_watch, "serve pages about runs: live curves, evaluations, episodes, until interrupted", more)
    below = "the folder that holds the runs and sweeps, at any depth (default: runs)"
    add("runs", type=_path, nargs="?", default=Path("runs"), metavar="RUNS_DIR", help=below)
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8700, metavar="N", help="the port; 0: any that is free (default: 8700)")
    reached = "names by which a server without a token is reached, beside localhost; others are refused"
    add("--names", default="", metavar="A,B,…", help=reached)
    add("--token-file", **file, help="a file that holds the token, and nothing else")
    add("--open", action="store_true", help="open the page in this machine's browser")
    playing = (
        "models that may be played live beside the policies of these runs: trained=RUN, model=NAME, served=MODEL@URL"
    )
    add("--policies", default="", metavar="A,B,…", help=playing)
    add("--sampler", choices=("torch", "vllm"), default="torch", help=engine)

    more = "It shows no runs, plays no models and asks for no token, so that anybody may use it."
    add = command(_live, "serve pages on which baselines play live and visitors play seats, until interrupted", more)
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8701, metavar="N", help="the port; 0: any that is free (default: 8701)")
    reached = "names by which browsers reach it, beside its address; others are refused"
    add("--names", default="", metavar="A,B,…", help=reached)
    framed = "a site whose pages may show this one in a frame, such as https://huggingface.co (default: none)"
    add("--framed-by", default="", metavar="URL", help=framed)
    at_once = "episodes that are played at the same time; more are refused (default: 4)"
    add("--plays", type=int, default=4, metavar="N", help=at_once)

    more = "Exit code 1 if anything differs."
    add = command(_replay, "simulate recorded episodes again and compare every step", more)
    recording = "episodes in Parquet, as evaluate --episodes writes them"
    add("file", **file, help=recording)

    more = (
        "Every episode is simulated again and compared. Logs of Inspect need the extra chaosops-ray[inspect]; "
        "look at them with `inspect view`."
    )
    add = command(_export_log, "write recorded episodes in a log format of other tools", more)
    add("file", **file, help=recording)
    out = "a file that ends in .eval, for the log of one policy; or a new folder"
    add("out", type=_path, metavar="OUT", help=out)
    formats = (
        "inspect: the log format of Inspect, a log for each policy (default); "
        "atif: Agent Trajectory Interchange Format, a file for each seat of each episode"
    )
    add("--format", choices=("inspect", "atif"), default="inspect", help=formats)
    add("--policy", metavar="NAME", help="write only the episodes of this policy")
    add("--style", choices=STYLES, default="full", help="the style of the texts that the seats read (default: full)")
    return root


def _path_or_uri(text: str) -> Path | str:
    """Read a path, or the URI of an object store; file:// is a path."""
    if _URI.match(text) is None:
        return Path(text)
    from chaosops_ray.store import remote

    try:
        return remote.local_path(text) or text
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _without_secrets(line: str, arguments: Iterable[str]) -> str:
    """Return a line without the keys in URIs that the command was given, which errors quote."""
    for uri in [found[0] for given in arguments for found in _URI.finditer(given)]:
        from chaosops_ray.store import remote

        line = remote.hide(uri, line)
    return line


def _path(text: str) -> Path:
    found = _path_or_uri(text)
    if isinstance(found, str):
        from chaosops_ray.store import remote

        raise argparse.ArgumentTypeError(
            f"{remote.shown(found)} is a place in an object store; a folder or file of this machine goes here"
        )
    return found


def _by_world(listed: str) -> str:
    return "; ".join([f"{name}: {', '.join(getattr(world, listed))}" for name, world in ENVIRONMENTS.items()])


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Give --structured its value where it has none: argparse would take what stands behind it, such as a scenario."""
    return [
        f"{one}=choices" if one == "--structured" and value not in _STRUCTURED else one
        for one, value in zip_longest(arguments, arguments[1:])
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    # Where they were closed, nothing is written; else what is for stderr would come on stdout.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for output in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows its code instead of stopping the command.
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    given = parser().parse_args(_with_values(sys.argv[1:] if arguments is None else arguments))
    try:
        code: int = given.run(given)
        sys.stdout.flush()
    except (InputError, ServedModelError) as error:
        line = one_line(_without_secrets(str(error), sys.argv[1:] if arguments is None else arguments), _LONGEST_ERROR)
        print(f"chaosops {given.command}: {line}", file=sys.stderr)
        return USAGE
    except StopError as error:
        print(f"chaosops {given.command}: {error}", file=sys.stderr)
        return TO_BE_RESUMED
    except KeyboardInterrupt:
        print(f"chaosops {given.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()  # its reader has ended
        return 0
    except OSError as error:
        return _storage_failed(given.command, error)
    return code


def _storage_failed(command: str, error: OSError) -> int:
    # Ray's wrapper of an error that crossed a process holds the error itself as its cause.
    cause = getattr(error, "cause", error)
    why = files.in_words(cause) if isinstance(cause, OSError) else None
    if why is None:
        raise error
    resumed = ", or continue it with --resume if it has begun" if command in ("train", "tune") else ""
    print(f"chaosops {command}: {why}, then run the command again{resumed}", file=sys.stderr)
    if cause.filename is None:  # perhaps it is our output that has no room
        _discard_stdout()
    return USAGE


def _discard_stdout() -> None:
    # Otherwise Python reports the error again when it closes stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _evaluate(given: argparse.Namespace) -> int:
    from chaosops_ray import evaluate
    from chaosops_ray.reports import suspicion_tables, tables
    from chaosops_ray.store import episodes

    # Check everything before the first episode.
    environment = environment_named(given.world)
    rules = environment.rules(given.rules if given.rules is not None else environment.rule_sets[0])
    players = _players(environment, given.policies, given)
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
        from chaosops_ray.reports import plots

        files.check_folder(given.plots)
        for path in plots.plot_paths(environment, given.plots):
            files.check_writable(path)
    if given.json is not None and given.episodes is not None and given.json.resolve() == given.episodes.resolve():
        raise InputError(f"--json and --episodes both name {given.json}; give two different files")

    models = {name: player.model for name, player in players.items() if player.model}
    results = []
    with ExitStack() as stack:
        writer = (
            stack.enter_context(episodes.write_episodes(given.episodes, models, selection)) if given.episodes else None
        )
        playing = evaluate.play_all(players, scenarios, rules)
        if _names_models(given.policies):
            playing = _with_input_errors(playing)
        for name, played in _tracked("playing", playing, len(players) * len(scenarios)):
            results.append(evaluate.result(environment, name, played.episode))
            if writer is not None:
                writer.add(environment, name, played.episode, played.origins, players[name].colleagues)
    of_each = {name: player.colleagues for name, player in players.items()}
    summary = evaluate.summary(environment, results, rules, selection, given.seeds, of_each, models)

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
    for line in tables.models_lines(models):
        console.print(line, highlight=False, markup=False)
    for line in tables.seats_lines(environment, summary["colleagues"]):
        console.print(f"seats: {line}", highlight=False, markup=False)
    console.print(tables.table(environment, summary["cells"], "tier"))
    if given.by_group:
        grouping = environment.grouping
        console.print(tables.table(environment, summary[f"by_{grouping}"], grouping))
    suspicion = suspicion_tables.suspicion_tables(environment, summary)
    for table in suspicion if given.by_group else suspicion[:1]:
        console.print(suspicion_tables.drawn(table))
    for path in written:
        print(f"wrote {path}")
    return 0


def _names_models(policies: str) -> bool:
    """Tell a list of baselines, which needs no engine, from one that names models, as in trained=RUN."""
    return "=" in policies


def _players(environment: AnyEnvironment, named: str, given: argparse.Namespace) -> dict[str, Player]:
    from chaosops_ray import evaluate

    if given.structured != "no" and "model=" not in named:
        raise InputError("--structured is about base models; name one with model=NAME, or leave it out")
    try:
        colleagues = None if given.seats is None else seating.parse(environment, given.seats)
    except InputError as error:
        raise InputError(f"--seats: {error}") from None
    if not _names_models(named):
        return evaluate.baselines(environment, named, colleagues or {})
    set_variables()
    from chaosops_ray.training import policies
    from chaosops_ray.training.errors import as_input_errors

    others = {}
    if "ppo=" in named:
        from chaosops_ray.integrations.rllib import policy

        others["ppo"] = policy.player
    with as_input_errors():
        return policies.players(
            environment, named, given.sampler, colleagues, structured=given.structured, others=others
        )


def _with_input_errors(items: Iterable[Item]) -> Iterator[Item]:
    """The items; errors of engines that come instead of one are input errors."""
    with _input_errors():
        yield from items


def _input_errors() -> AbstractContextManager[None]:
    from chaosops_ray.training.errors import as_input_errors

    return as_input_errors()


def _train(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.training import cards, check, copies
    from chaosops_ray.training.errors import as_input_errors

    if (given.config is None) == (given.resume is None):
        raise InputError("give either a configuration to start a run, or --resume FOLDER to continue one")
    if given.resume is not None and (given.set or given.seed or given.out or given.explain or given.gpu):
        raise InputError("--resume continues a run unchanged; remove --set, --seed, --out, --explain and --gpu")
    if given.gpu is not None and not given.explain:
        raise InputError("--gpu is for an estimate of what a run needs on such a GPU; add --explain")
    # Everything that can be refused is refused before Ray and the plots are imported, which takes seconds.
    with as_input_errors():
        mirror = None
        if isinstance(given.resume, str):
            mirror, run, environment = copies.resumed(given.resume)
            out = mirror.folder
        elif given.resume is not None:
            out, run, environment = check.begun(given.resume)
        else:
            run = check.read(given.config, given.set, given.seed)
            environment = check.look_over(run)
            if given.explain:
                card = None if given.gpu is None else cards.named(given.gpu)
                print(check.explain(run, card), end="", flush=True)
                if card is not None:
                    check.check_card(run, card)
                elif given.address is None:
                    check.check_memory(run)
                return 0
            if isinstance(given.out, str):
                mirror = copies.new(given.out)
                out = mirror.folder
            else:
                out = given.out if given.out is not None else Path("runs") / given.config.stem
                files.check_new_folder(out)
        if given.address is not None:
            check.knock(given.address)
        else:
            check.check_memory(run)
        from rich.console import Console

        from chaosops_ray.reports import tables, verdict
        from chaosops_ray.training import launch

        resume = given.resume is not None
        finished = launch.train(run, environment, out, given.address, Console(), resume=resume, mirror=mirror)
        place = str(out) if mirror is None else mirror.remote.name
    for line in tables.models_lines(finished.evaluation["policies"]):
        print(line)
    _console().print(tables.table(environment, finished.evaluation["cells"], "tier"))
    print(f"verdict: {verdict.verdict(environment, finished.evaluation)}")
    print(f"report: {finished.page}")
    print(f"watch it play: {shlex.join([_called(), *launch.to_watch(run, environment, place)])}")
    return 0


def _warmup(given: argparse.Namespace) -> int:
    set_variables()
    # The first of several GPUs, since TRL refuses to see more than one of them from one process.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    from chaosops_ray.training import check, warm_start
    from chaosops_ray.training.errors import as_input_errors

    recipe = warm_start.Recipe(given.steps, given.transcripts, given.learning_rate, given.lora_rank)
    out = given.out if given.out is not None else Path("runs") / f"{given.config.stem}-warm-start"
    with as_input_errors():
        run = check.read(given.config, given.set, given.seed)
        environment = check.look_over(run)
        warm_start.check(run, environment, recipe)
        warm_start.check_place(out)
        from rich.console import Console

        from chaosops_ray.reports.step_progress import StepProgress

        figure = "nats per action from random play"
        try:
            with (
                on_sigterm(Stop()),
                StepProgress(Console(), f"{out.name} · {run.model}", recipe.steps, figure) as shown,
            ):
                made = warm_start.make(run, environment, recipe, out, shown.say, shown.step)
        except StopError as asked:
            raise StopError(f"{asked}: nothing was written; start it again") from None
    for line in warm_start.in_words(made):
        print(line)
    print(f"wrote {out} ({made['digest'][:12]})")
    kept = [setting for setting in given.set if setting.partition("=")[0].strip() != "model"]
    settings = [part for setting in (*kept, f"model={out}") for part in ("--set", setting)]
    print("train it: " + shlex.join([_called(), "train", str(given.config), *settings]))
    return 0


def _called() -> str:
    """Return the command with which a shell finds this program again: its name if on the path, or as it was called."""
    called = sys.argv[0]
    if Path(called).name != PROGRAM or shutil.which(PROGRAM) == called:
        return PROGRAM
    return called


def _tune(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.sweeps import spec
    from chaosops_ray.training import check
    from chaosops_ray.training.errors import as_input_errors

    if (given.config is None) == (given.resume is None):
        raise InputError("give either a sweep to start, or --resume FOLDER to continue one")
    if given.resume is not None and (given.set or given.seeds or given.out or given.explain):
        raise InputError("--resume continues a sweep unchanged; remove --set, --seeds, --out and --explain")
    with as_input_errors():
        if given.resume is not None:
            sweep, trials = spec.begun(given.resume)
        else:
            sweep, trials = spec.load_sweep(given.config, given.set, given.seeds)
        environment = spec.look_over(sweep, trials)
        if given.explain:
            print(spec.explain(sweep, trials), end="")
            return 0
        out = given.resume or given.out or Path("runs") / given.config.stem
        if given.resume is None:
            files.check_new_folder(out)
        if given.address is not None:
            check.knock(given.address)
        from rich.console import Console

        from chaosops_ray.sweeps import runner

        is_new = given.resume is None
        finished = runner.run(sweep, trials, environment, out, given.address, Console(), is_new=is_new)
    for line in finished.lines():
        print(line)
    return TRIAL_FAILED if finished.failed else 0


def _submit(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.sweeps import jobs
    from chaosops_ray.training.errors import as_input_errors

    with as_input_errors():
        job = jobs.prepare(given.config, given.set, given.seed, given.seeds, given.out, given.working_dir)
        address = jobs.checked_address(given.address, os.environ)
    from chaosops_ray.sweeps import job_server

    client = job_server.connect(address)
    name = job_server.send(client, job)
    hint = job_server.hint(name, client.get_address())
    if given.no_wait:
        print(name)
        print(f"chaosops submit: {hint}", file=sys.stderr)
        return 0
    print(f"chaosops submit: job {name}", file=sys.stderr)
    try:
        code, sentence = job_server.follow(client, name, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(f"chaosops submit: job {name} is still running; {hint}", file=sys.stderr)
        return INTERRUPTED
    print(f"chaosops submit: {sentence}", file=sys.stderr)
    return code


def _ppo(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.integrations.rllib import settings
    from chaosops_ray.training.errors import as_input_errors

    out = given.out if given.out is not None else Path("runs") / given.config.stem
    with as_input_errors():
        read = settings.load(given.config, given.set, given.seed)
        files.check_new_folder(out)
        from chaosops_ray.integrations.rllib import training

        player = training.run(read, out, lambda line: print(line, flush=True))
    print(f"wrote {out} ({player.model['digest'][:12]})")
    beside = f"{environment_named(read.world).usual},oracle,ppo={out}"
    print("evaluate it: " + shlex.join([_called(), "evaluate", "--world", read.world, "--policies", beside]))
    return 0


def _export(given: argparse.Namespace) -> int:
    set_variables()
    from chaosops_ray.training import policies
    from chaosops_ray.training.errors import as_input_errors

    if given.public and given.push is None:
        raise InputError("--public needs --push OWNER/NAME")
    with as_input_errors():
        if given.out is None and isinstance(_path_or_uri(given.adapter), str):
            raise InputError("a run in an object store is exported to this machine: name a new folder with --out")
        folder, number = policies.version_named(given.adapter)
        from chaosops_ray.training import export, hub

        to = None if given.push is None else hub.repository(given.push)
        exported = export.export(folder, number, given.out, given.license)
        print(f"wrote {exported.folder}", flush=True)
        if to is not None:
            for warning in hub.push(exported, to, public=given.public):
                print(f"chaosops export: the hub says: {warning}", file=sys.stderr)
            print(f"pushed {to.api.endpoint}/{to.name}")
    return 0


def _report(given: argparse.Namespace) -> int:
    from chaosops_ray.reports import run_report

    if not 0 <= given.films <= run_report.MAX_FILMS:
        raise InputError(f"--films must be 0-{run_report.MAX_FILMS}, got {given.films}")
    numbers = [] if given.episodes is None else run_report.parse_numbers(given.episodes)
    if given.out is not None:
        files.check_writable(given.out)
    page = run_report.of(given.run_folder, given.out, given.films, numbers)
    print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _play(given: argparse.Namespace) -> int:
    from chaosops_ray.reports import playback, tables

    environment, scenario, drawn = _scenario(given)
    rules = environment.rules(given.rules if given.rules is not None else environment.rule_sets[0])
    if "," in given.policy:
        raise InputError(
            f"--policy must be one policy, got {given.policy[:80]!r}; --seats lets baselines play beside it"
        )
    if not 0 <= given.pause <= 60:
        raise InputError(f"--pause must be 0-60, got {given.pause:g}")
    if given.episodes is not None and not given.seat:
        raise InputError("--episodes writes what you play yourself with --seat; evaluate --episodes writes policies'")
    ((name, player),) = _players(environment, given.policy, given).items()
    with ExitStack() as stack:
        if _names_models(given.policy):
            stack.enter_context(_input_errors())
        if given.seat:
            from chaosops_ray.reports import human_seat

            taken = {} if given.seats is None else seating.parse(environment, given.seats)
            game = human_seat.game(environment, scenario, rules, drawn, given.seat, taken, name, player)
            is_plain = given.plain or not sys.stdout.isatty()
            try:
                human_seat.run(
                    game, _console(), sys.stdin or io.StringIO(), given.style, given.episodes, is_plain=is_plain
                )
            except EOFError:
                print("chaosops play: left before the end; nothing was scored or written", file=sys.stderr)
                return INTERRUPTED
            return 0
        choose = stack.enter_context(player.live())(scenario, rules)
        for line in tables.models_lines({name: player.model}):
            print(line)
        for line in tables.seats_lines(environment, {name: player.colleagues}):
            print(f"seats: {line}")
        if given.plain or not sys.stdout.isatty():
            playback.tell(print, environment, scenario, rules, choose)
        else:
            playback.show(_console(), environment, scenario, rules, choose, 0.0 if given.fast else given.pause)
    return 0


def _scenario(given: argparse.Namespace) -> tuple[AnyEnvironment, Scenario, str]:
    """Return the scenario that was named, or one that is drawn, with the words that tell of it and not of the case."""
    if "/" in given.scenario:
        if given.tier is not None or given.seed is not None:
            raise InputError("--tier and --seed draw a case of a world; a scenario's id names both, leave them out")
        environment = environment_of(given.scenario)
        return environment, environment.scenario(given.scenario), given.scenario
    environment = environment_named(given.scenario)
    among = cases.cases(environment, tiers=() if given.tier is None else [given.tier])
    # Where nobody else draws seeds: not training, not reports.
    seed = 50_000 + secrets.randbelow(50_000) if given.seed is None else parse_seed(given.seed)
    scenario = cases.drawn(environment, among, seed)
    return environment, scenario, f"a case of tier {scenario.tier}, drawn by --seed {seed}"


def _infer(given: argparse.Namespace) -> int:
    from chaosops_ray.serve import inference_log, inference_settings

    def play(log: inference_log.InferenceLog, stack: ExitStack) -> None:
        try:
            settings = inference_settings.settings(os.environ)
            chosen = inference_settings.reset_options([log.without_secret(one) for one in given.reset])
            asked = inference_settings.Asking(given.timeout, given.retries, given.max_tokens, given.tools).checked()
            from chaosops_ray.serve import infer

            infer.infer(log, stack, settings, asked, chosen)
        except (InputError, ServedModelError) as error:
            raise InputError(log.without_secret(str(error))) from None

    key = inference_settings.key_variable(os.environ)
    secret = "" if key is None else os.environ[key].strip()
    model = os.environ.get(inference_settings.MODEL, "")
    try:
        inference_log.InferenceLog(sys.stdout, model, secret).run(play)
    except BrokenPipeError:
        _discard_stdout()
        raise InputError("the reader of stdout ended before the episode did") from None
    return 0


def _serve(given: argparse.Namespace) -> int:
    environment = environment_named(given.world)
    rules = environment.rules(given.rules if given.rules is not None else environment.rule_sets[0])
    limits = access.limits(given.max_sessions, given.idle)
    token = access.token(given.token_file, os.environ)
    names = access.names(given.names)
    if not 0 <= given.port < 1 << 16:
        raise InputError(f"--port must be 0-65535, got {given.port}")
    with ExitStack() as stack:
        policies = {} if given.policies is None else _colleagues(environment, given, stack)
        from chaosops_ray.serve import app, listening

        bound = stack.enter_context(listening.listen(given.host, given.port))
        host, url = bound.getsockname()[0], listening.url(bound)
        served = app.create_app(environment, rules, policies, limits, token, host, (given.host, *names))
        guarded = "a token is needed" if token is not None else "no token is needed"

        def say() -> None:
            print(f"{environment.title} · rules {rules} · {url} · {limits.sessions} sessions · {guarded}", flush=True)

        listening.server(served, limits, say).run(sockets=[bound])
    return 0


def _watch(given: argparse.Namespace) -> int:
    token = access.token(given.token_file, os.environ)
    names = access.names(given.names)
    if not 0 <= given.port < 1 << 16:
        raise InputError(f"--port must be 0-65535, got {given.port}")
    from chaosops_ray.serve import listening, origin
    from chaosops_ray.serve.control_room import app, models, room, runs, stage
    from chaosops_ray.serve.limits import Limits

    found = runs.Runs(given.runs)
    # Models need hundreds of megabytes; they play in a process of their own, which is started for the first of them.
    process = [sys.executable, "-m", "chaosops_ray.training.performer", "--sampler", given.sampler]
    watched = room.Room(found, stage=stage.Stage(found, models.Models(process, models.named(given.policies))))
    with listening.listen(given.host, given.port) as bound:
        host, url = bound.getsockname()[0], listening.url(bound)
        if token is None and not origin.is_loopback(host):
            raise InputError(
                f"--host {given.host} is reached from other machines, so a token is needed: give --token-file FILE, "
                f"or set {access.TOKEN}"
            )
        served = app.create_app(watched, token, host, (given.host, *names))

        def say() -> None:
            guarded = "a token is needed" if token is not None else "for this machine only"
            print(f"control room of {given.runs} · {url} · {guarded}", flush=True)
            if given.open:
                import webbrowser

                webbrowser.open_new_tab(url)

        listening.server(served, Limits(), say, watched.end).run(sockets=[bound])
    return 0


def _live(given: argparse.Namespace) -> int:
    names = access.names(given.names)
    framed_by = access.site(given.framed_by)
    if not 0 <= given.port < 1 << 16:
        raise InputError(f"--port must be 0-65535, got {given.port}")
    if not 1 <= given.plays <= 64:
        raise InputError(f"--plays must be 1-64, got {given.plays}")
    from chaosops_ray.serve import listening
    from chaosops_ray.serve.control_room import app, live, room, seat, stage
    from chaosops_ray.serve.limits import Limits

    played = room.Room(None, stage=stage.Stage(None, places=given.plays))
    with listening.listen(given.host, given.port) as bound:
        host, url = bound.getsockname()[0], listening.url(bound)
        served = app.create_app(played, None, host, (given.host, *names), (live.alone, seat.routes), framed_by)

        def say() -> None:
            print(f"live plays and seats to play · {url}/live · for anybody who reaches it", flush=True)

        listening.server(served, Limits(), say, played.end).run(sockets=[bound])
    return 0


def _colleagues(environment: AnyEnvironment, given: argparse.Namespace, stack: ExitStack) -> dict[str, PolicyFactory]:
    """Start the models that callers may name."""
    if not _names_models(given.policies):
        raise InputError("--policies names models; baselines may always be colleagues, without it")
    given.seats, given.structured = seating.ALL, "no"
    found = _players(environment, given.policies, given)
    stack.enter_context(_input_errors())
    building = {name: stack.enter_context(player.live()) for name, player in found.items()}
    return {name: access.one_at_a_time(build, _input_errors) for name, build in building.items()}


def _replay(given: argparse.Namespace) -> int:
    from chaosops_ray.store import episodes

    count = steps = 0
    found: list[str] = []
    for recorded in _tracked("replaying", episodes.read_episodes(given.file)):
        found += episodes.differences(recorded)
        count += 1
        steps += len(recorded.rows)
    if not count:
        raise InputError(f"{given.file} has no episodes; give a file that evaluate --episodes wrote")
    if found:
        for line in found[:DIFFERENCES_SHOWN]:
            print(line, file=sys.stderr)
        hidden = len(found) - DIFFERENCES_SHOWN
        if hidden > 0:
            print(f"and {hidden} more", file=sys.stderr)
        print(f"chaosops replay: {len(found)} differences in {count} episodes of {given.file}", file=sys.stderr)
        return DIFFERS
    print(f"{count} episodes, {steps} steps: every view, action, outcome, reward and state hash is the same")
    return 0


def _export_log(given: argparse.Namespace) -> int:
    from chaosops_ray.integrations import recorded

    def track(episodes: Iterable[Item]) -> Iterable[Item]:
        return _tracked("exporting", episodes)

    source = recorded.source(given.file, given.policy)
    if given.format == "atif":
        from chaosops_ray.integrations import atif

        written = atif.export(source, given.out, given.style, track)
        print(f"wrote {given.out}: {len(written)} trajectories")
        return 0
    # What the command names is checked before Inspect is imported, which takes seconds.
    recorded.check_place(source, given.out, in_a_file=True)
    if find_spec("inspect_ai") is None:
        raise InputError("logs of Inspect need inspect-ai, which is not installed; install chaosops-ray[inspect]")
    from chaosops_ray.integrations import inspect_log

    for path in inspect_log.export(source, given.out, given.style, track):
        print(f"wrote {path}")
    return 0


def _tracked(what: str, items: Iterable[Item], total: int | None = None) -> Iterable[Item]:
    """Yield the items, with a progress bar on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    on_screen = sys.stderr.isatty()
    return track(items, what, total, console=Console(stderr=True), transient=True, disable=not on_screen)


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width, and a table that is wrapped at 80 columns cannot be read.
    return Console() if sys.stdout.isatty() else Console(width=140)


if __name__ == "__main__":
    sys.exit(main())
