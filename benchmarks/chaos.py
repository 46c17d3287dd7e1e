"""Kill and stop parts of training runs at random moments, and compare every run with an undisturbed one.

    python benchmarks/chaos.py --out FOLDER [--short] [--kills N] [--stops N] [--terms N] [--targets A,B,…] …

Each round disturbs one target in a running `chaosops train`: SIGKILL, or SIGSTOP. The targets are a shard, a sampler,
the learner, the driver, and a whole node of a Ray cluster. A run is disturbed several times. It must end with exit code
0, and its metrics, its episodes and its evaluation must equal those of the undisturbed run, value for value.

A driver is also asked to end, with SIGTERM. One that was killed or has ended is started again with --resume. A stopped
driver is continued after longer than all deadlines but that of a start. A stopped node is continued after its work was
taken over, to see that it disturbs nobody. Nothing else is helped.

Recovery is the time from the disturbance until what died is there again and a line of metrics has been written after
that. For a stopped driver it begins when it is continued.

FOLDER keeps a line for each run, so the same command continues a suite that was interrupted. At SIGINT and SIGTERM the
suite ends all that it has started and deletes the run that is not over; it has no line. Processes are found by a
variable in their environment; no other Ray on this machine is touched. Moments come from the seed, in seconds after the
target was there and the run had recovered; what the run is doing then depends on the machine.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import psutil
import pyarrow.parquet as pq

from chaosops_ray.process_environment import set_variables
from chaosops_ray.store import files, run_folder
from chaosops_ray.workers.stop import TO_BE_RESUMED

ROOT = Path(__file__).parents[1]
# In the environment of every process of a run; the value names the run and how often its driver was started.
MARK = "CHAOSOPS_CHAOS"
ACTORS = {"shard": "ray::Shard", "sampler": "ray::SamplerHost", "learner": "ray::LearnerHost"}
TARGETS = (*ACTORS, "driver", "node")
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
# How many rounds a whole suite has.
ROUNDS = {(target, kind): count for target in TARGETS for kind, count in (("kill", 40), ("stop", 10))}
ROUNDS |= {("driver", "term"): 10}
# A driver that is asked to end ends with this, or by the signal itself while it cannot listen yet.
ASKED_TO_END = (TO_BE_RESUMED, -signal.SIGTERM)
TERM_SECONDS = 60
# Each target once, in one run on a cluster; tests/training/test_loop.py stops actors.
SHORT = {(target, "kill"): 1 for target in TARGETS}

SETTINGS = (
    "model=tiny",
    "curriculum=easy:4,medium:4,hard:99",
    "batch={scenarios: 4, group: 4, refill: 1}",
    "checkpoint_every=2",
    "keep_every=5",
    "seats={sre: random}",
    "evaluation={every: 5, progress_seeds: 1, seeds: '1000', policies: [random]}",
    "rollout={shards: 2, deadline: 40, retries: 1000}",
    "deadlines={quiet: 1, silence: 8, start: 120, adopt: 40, update: 40, disk: 40}",
)
UPDATES = {True: 12, False: 16}
# A learner has a node of its own, sampler and shards another; a third is spare.
OF_NODES = ("resources={learner_cpus: 0.9, sampler_cpus: 0.5, shard_cpus: 0.2}",)
NODES = 3
# Longer than every deadline of the settings but `start`.
FROZEN_SECONDS = 45.0
STRIKES = 8
WAIT_SECONDS = 5.0
# How often a disturbance does not wait until the run has recovered from the one before.
EARLY = 0.25
MINUTES = 25
# How often the suite tries to start its own cluster on a machine that is too busy for it.
STARTS = 10
# How long processes may outlive a driver that was killed, or a run that has ended.
LINGER_SECONDS = 30.0
STOPS = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.25
# Keys of a line of metrics that tell of the machine and of what died on it, not of the policy.
OF_THE_MACHINE = ("time", "machine", "actors_replaced", "adoption")


Actors: TypeAlias = dict[str, list[psutil.Process]]  # the processes of actors, by target


class Strike(NamedTuple):
    """One disturbance that is to come."""

    target: str
    signal: str
    after: int  # updates
    wait: float  # seconds
    is_early: bool


class Struck:
    """One disturbance that has happened."""

    def __init__(self, strike: Strike, updates: int, victims: Sequence[psutil.Process], there: Actors) -> None:
        self.strike = strike
        self.updates = updates  # that were in the metrics
        self.began = time.monotonic()
        self.recovered: float | None = None
        self._before = there
        self.died = sorted(actors(victims))
        self._missing = set(self.died)

    def look(self, there: Actors) -> None:
        """Note which actors are there again."""
        self._missing -= {name for name, those in there.items() if set(those) - set(self._before.get(name, ()))}

    @property
    def is_replaced(self) -> bool:
        """Whether all that died is there again."""
        return not self._missing

    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "target": self.strike.target,
            "signal": self.strike.signal,
            "actors": self.died,
            "after_updates": self.updates,
            "recovered": self.recovered,
        }


class Lines:
    """The metrics of a run, while another process writes them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = 0
        self._lines = 0

    def new(self) -> bool:
        """Tell whether a line was appended since the last call; a rewritten file only has lines that were there."""
        try:
            content, file = self._path.read_bytes(), self._path.stat().st_ino
        except FileNotFoundError:
            return False
        lines = content.count(b"\n")
        appended = lines > self._lines and self._file in (0, file)
        self._file, self._lines = file, lines
        return appended

    @property
    def count(self) -> int:
        """How many lines there are."""
        return self._lines


def marked(value: str) -> list[psutil.Process]:
    """The processes with a value of the mark that begins so."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if carries(environment, value) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def carries(environment: bytes, value: str) -> bool:
    """Tell whether an environment has a value of the mark that begins so.

    A process of Ray that has given itself a title has overwritten the beginning, where psutil stops to read.
    """
    return os.fsencode(f"\0{MARK}={value}") in b"\0" + environment


def actors(processes: Sequence[psutil.Process]) -> Actors:
    """Those of the processes that are actors, by target."""
    found: Actors = {}
    for process in processes:
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        for name, prefix in ACTORS.items():
            if title.startswith(prefix):
                found.setdefault(name, []).append(process)
    return found


def one_of(mark: str, target: str, draw: random.Random) -> list[psutil.Process]:
    """One actor of the class, if there is one now."""
    there = actors(marked(mark)).get(target, [])
    return [draw.choice(sorted(there, key=lambda one: one.pid))] if there else []


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each of the processes that are still there."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def gone(value: str, seconds: float) -> list[str]:
    """Wait until no process has the mark; kill those that are left, and return their names."""
    until = time.monotonic() + seconds
    names: list[str] = []
    while left := marked(value):
        if time.monotonic() >= until:
            names += [named(process) for process in left]
            send(left, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)  # then look again: one of them may have started another meanwhile
    return sorted(set(names))


def named(process: psutil.Process) -> str:
    """The beginning of a process's command."""
    try:
        return " ".join(process.cmdline())[:80] or "?"
    except psutil.Error:
        return "?"


class Where(Protocol):
    """Where a run's actors are."""

    arguments: tuple[str, ...]
    left: list[str]  # processes that should have ended

    def victims(self, strike: Strike, draw: random.Random) -> list[psutil.Process]:
        """The processes to disturb; none if they are not there now."""

    def struck(self) -> None:
        """Note that they were disturbed."""

    def recovered(self) -> None:
        """Note that the run has recovered from all that was done."""


class Here:
    """The Ray that a run's driver starts for itself."""

    def __init__(self, mark: str) -> None:
        self.arguments: tuple[str, ...] = ()
        self.left: list[str] = []
        self._mark = mark

    def victims(self, strike: Strike, draw: random.Random) -> list[psutil.Process]:
        """One actor of the class."""
        return one_of(self._mark, strike.target, draw)

    def struck(self) -> None:
        """Nothing: Ray and the run replace it."""

    def recovered(self) -> None:
        """Nothing: there is nothing to bring back."""


class NotStartedError(RuntimeError):
    """Ray did not start in its time, before anything was disturbed or between two disturbances."""


T = TypeVar("T")


def _started(make: Callable[[], T]) -> T:
    try:
        made = make()
    except Exception as error:
        if type(error) is not Exception:  # a bare one is what Ray raises for this
            raise
        raise NotStartedError(str(error)) from None
    listen()  # each node that starts here takes SIGTERM for itself
    return made


class Nodes:
    """A Ray cluster of several nodes, all on this machine; each node has processes of its own."""

    def __init__(self, cluster: Any, mark: str) -> None:
        self._cluster = cluster
        self._mark = mark
        self._lost: list[tuple[Any, list[psutil.Process]]] = []
        self._nodes: list[Any] = []
        self._hit: tuple[Any, list[psutil.Process]] | None = None
        self.left: list[str] = []
        self.arguments: tuple[str, ...] = ("--address", cluster.address)
        while len(self._nodes) < NODES:
            self._add()

    def _add(self) -> None:
        self._nodes.append(_started(lambda: self._cluster.add_node(num_cpus=1)))

    def victims(self, strike: Strike, draw: random.Random) -> list[psutil.Process]:
        """All processes of a node that has actors; the others must have room for them."""
        if strike.target != "node":
            self._hit = None
            return one_of(self._mark, strike.target, draw)
        busy = [(node, tree) for node in self._nodes if actors(tree := _tree(node))]
        if not busy or len(self._nodes) < NODES:
            return []
        self._hit = draw.choice(busy)
        return self._hit[1]

    def struck(self) -> None:
        """Count the node as lost."""
        if self._hit is not None:
            self._nodes.remove(self._hit[0])
            self._lost.append(self._hit)

    def recovered(self) -> None:
        """Continue the nodes that were stopped; kill what does not end by itself; let a new node join for each."""
        for node, tree in self._lost:
            send(tree, signal.SIGCONT)
            _, alive = psutil.wait_procs([one for one in tree if one.is_running()], timeout=LINGER_SECONDS)
            self.left += [f"{one.name()} of a node that was continued" for one in alive]
            send(alive, signal.SIGKILL)
            for kind in node.all_processes.values():
                for one in kind:
                    one.process.wait()
            self._cluster.worker_nodes.discard(node)
            self._add()
        self._lost = []


def _tree(node: Any) -> list[psutil.Process]:
    """The processes of a node, its raylet first."""
    found = []
    for kind in node.all_processes.values():
        for one in kind:
            if one.process.poll() is None:
                process = psutil.Process(one.process.pid)
                found += [process, *process.children(recursive=True)]
    return found


@contextmanager
def nodes(mark: str) -> Iterator[Nodes]:
    """A cluster for one run: a head without room for actors, and nodes that have it."""
    from ray.cluster_utils import Cluster  # reads the environment when it is imported

    os.environ[MARK] = mark
    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        # A node that is silent is given up in seconds, as a machine that is gone is by the defaults in half a minute.
        "_system_config": {
            "health_check_initial_delay_ms": 1000,
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 4000,
            "health_check_failure_threshold": 3,
        },
    }
    cluster = None
    try:
        cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
        yield Nodes(cluster, mark)
    finally:
        if cluster is not None:
            cluster.shutdown()
        gone(mark, 5)
        del os.environ[MARK]


class Driven:
    """A `chaosops train` in a process of its own, which is started again when it was killed."""

    def __init__(self, folder: Path, mark: str, where: Where, settings: Sequence[str]) -> None:
        self.folder = folder
        self.mark = mark
        self._where = where
        self._settings = settings
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or resume it where it has begun."""
        begun = (self.folder / run_folder.CONFIG).exists()
        if not begun:
            shutil.rmtree(self.folder, ignore_errors=True)
        given = ["--resume", f"{self.folder}"] if begun else [*train_arguments(self._settings), f"--out={self.folder}"]
        self.starts += 1
        environment = {**os.environ, MARK: f"{self.mark}{self.starts}/"}
        # Where it fails, this file says why.
        with (self.folder.parent / "driver.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chaosops_ray.cli", "train", *given, *self._where.arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The driver's process."""
        assert self.process is not None  # noqa: S101 - it is started with the object
        return self.process


def train_arguments(settings: Sequence[str]) -> list[str]:
    """What is trained."""
    return [str(ROOT / "tune_configs" / "3a.yaml"), *[f"--set={one}" for one in (*SETTINGS, *settings)]]


class Ran(NamedTuple):
    """A run that has ended, and what was done to it."""

    code: int | None  # None: it did not end, and was killed
    seconds: float
    struck: list[Struck]
    left: list[str]  # processes that outlived their driver


def disturbed(driven: Driven, where: Where, strikes: Iterator[Strike], draw: random.Random, mark: str) -> Ran:
    """Disturb a run until it ends."""
    began = time.monotonic()
    lines, struck, left = Lines(driven.folder / run_folder.METRICS), list[Struck](), where.left
    strike = next(strikes, None)
    seen: float | None = None  # when the next target was first there
    thaw: float | None = None
    looked = 0.0
    while driven.running.poll() is None:
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if now - began > MINUTES * 60:
            send(marked(mark), signal.SIGKILL)
            driven.running.wait()
            return Ran(None, now - began, struck, left)
        pending = [one for one in struck if one.recovered is None]
        if thaw is not None and now >= thaw:
            driven.running.send_signal(signal.SIGCONT)
            thaw, pending[-1].began = None, now
        if lines.new():
            for one in pending:
                if one.is_replaced:
                    one.recovered = now - one.began
            if all(one.recovered is not None for one in struck):
                where.recovered()
        if now - looked < _LOOK_SECONDS:
            continue
        looked = now
        if not all(one.is_replaced for one in pending):
            there = actors(marked(mark))
            for one in pending:
                one.look(there)
        if strike is None or thaw is not None or lines.count < strike.after or (pending and not strike.is_early):
            continue
        victims = [] if strike.target == "driver" else where.victims(strike, draw)
        if strike.target != "driver" and not victims:
            continue
        seen = now if seen is None else seen
        if now - seen < strike.wait:
            continue
        struck.append(Struck(strike, lines.count, victims, actors(marked(mark))))
        if strike.target == "driver" and strike.signal != "stop":
            driven.running.send_signal(SIGNALS[strike.signal])
            former = f"{driven.mark}{driven.starts}/"
            try:
                code = driven.running.wait(TERM_SECONDS)
            except subprocess.TimeoutExpired:
                continue  # it does not end; MINUTES will
            if strike.signal == "kill" or code in ASKED_TO_END:
                driven.start()
                left += gone(former, LINGER_SECONDS)
        elif strike.target == "driver":
            driven.running.send_signal(SIGNALS[strike.signal])
            thaw = now + FROZEN_SECONDS
        else:
            send(victims, SIGNALS[strike.signal])
            where.struck()
        strike, seen = next(strikes, None), None
    seconds = time.monotonic() - began
    code = driven.running.wait()
    left += gone(driven.mark, LINGER_SECONDS)
    return Ran(code, seconds, struck, left)


# -- what must be equal -----------------------------------------------------------------------------------------------


def differences(reference: Path, folder: Path) -> list[str]:
    """What a run has otherwise than the undisturbed one."""
    found = []
    for name in (run_folder.METRICS, run_folder.RESULTS):
        wanted, there = [_judged(one / name) for one in (reference, folder)]
        if wanted != there:
            first = next((at for at, pair in enumerate(zip(wanted, there, strict=False), 1) if pair[0] != pair[1]), 0)
            found.append(f"{name}: {len(there)} lines of {len(wanted)}, the first that differs is {first or 'missing'}")
    for path in sorted((reference / run_folder.EPISODES).iterdir()):
        other = folder / run_folder.EPISODES / path.name
        if not other.exists():
            found.append(f"{path.name} is missing")
        elif not pq.read_table(path).equals(pq.read_table(other)):
            found.append(f"{path.name} differs")
    names = [{path.name for path in (one / run_folder.EPISODES).iterdir()} for one in (reference, folder)]
    found += [f"{name} is nothing that a run leaves" for name in sorted(names[1] - names[0])]
    return found


def _judged(path: Path) -> list[dict[str, Any]]:
    rows = files.read_lines(path) if path.exists() else []
    return [{key: value for key, value in row.items() if key not in OF_THE_MACHINE} for row in rows]


def episodes(folder: Path) -> int:
    """How many episodes the training of a run has recorded."""
    paths = (folder / run_folder.EPISODES).glob("*.parquet")
    return sum([len(set(pq.read_table(path, columns=["episode"])["episode"].to_pylist())) for path in paths])


# -- the suite --------------------------------------------------------------------------------------------------------


class Suite:
    """The rounds that are wanted, and the runs that were made for them; a folder keeps it."""

    def __init__(self, out: Path, wanted: Mapping[tuple[str, str], int], seed: int, *, short: bool) -> None:
        self.out = out
        self.wanted = wanted
        self.seed = seed
        self.short = short
        self._path = out / "runs.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self.runs = files.read_lines(self._path) if self._path.exists() else []
        self.settings = (f"updates={UPDATES[short]}",)
        self.reference = out / "reference" / "run"
        self.mark = f"{sha256(os.fsencode(out)).hexdigest()[:12]}-"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from this folder, and end what a suite that was killed has left running."""
        with (self.out / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.exit(f"chaos: another process works in {self.out}; wait for it, or give another --out")
            gone(self.mark, 0)
            yield

    def check(self) -> None:
        """Refuse a folder of another program: its undisturbed run would be another."""
        path, now = self.out / "suite.json", {"sources": sources(), "short": self.short, "seed": self.seed}
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")) != now:
                sys.exit(f"chaos: {self.out} was begun with other options or another version; give another --out")
        else:
            files.write_json(path, now)

    def left(self) -> Counter[tuple[str, str]]:
        """The rounds that are still to be made."""
        done = Counter((one["target"], one["signal"]) for run in self.runs for one in run["strikes"])
        return Counter({key: count - done[key] for key, count in self.wanted.items() if count > done[key]})

    def prepare(self) -> None:
        """Make the undisturbed run."""
        if (self.reference / run_folder.EVALUATION).exists():
            return
        shutil.rmtree(self.reference.parent, ignore_errors=True)
        self.reference.parent.mkdir()
        mark = f"{self.mark}reference/"
        with self.deleted_if_cut(self.reference.parent, mark):
            code = Driven(self.reference, mark, Here(mark), self.settings).running.wait(MINUTES * 60)
            gone(mark, LINGER_SECONDS)
        if code:
            sys.exit(f"chaos: the undisturbed run ended with {code}; see {self.reference.parent / 'driver.log'}")

    @contextmanager
    def deleted_if_cut(self, folder: Path, mark: str) -> Iterator[None]:
        """End what is left of a run; delete its folder as well if it was cut short."""
        is_over = False
        try:
            yield
            is_over = True
        finally:
            gone(mark, 0)
            if not is_over:
                shutil.rmtree(folder, ignore_errors=True)

    def one(self, *, on_nodes: bool) -> dict[str, Any]:
        """Make and record one disturbed run."""
        number = len(self.runs) + 1
        draw = random.Random(f"{self.seed}/{number}")
        planned = list(plan(self.left(), draw, on_nodes=on_nodes, short=self.short))
        parent, mark = self.out / f"run-{number:03d}", f"{self.mark}{number}/"
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir()
        with self.deleted_if_cut(parent, mark):
            if on_nodes:
                with nodes(mark) as where:
                    driven = Driven(parent / "run", f"{mark}driver/", where, (*self.settings, *OF_NODES))
                    ran = disturbed(driven, where, iter(planned), draw, mark)
            else:
                here = Here(mark)
                driven = Driven(parent / "run", mark, here, self.settings)
                ran = disturbed(driven, here, iter(planned), draw, mark)
        differing = differences(self.reference, parent / "run") if ran.code == 0 else []
        record = {
            "run": number,
            "code": ran.code,
            "seconds": ran.seconds,
            "differences": differing,
            "left": ran.left,
            "episodes_lost": max(0, episodes(self.reference) - episodes(parent / "run")) if ran.code == 0 else None,
            "load": os.getloadavg()[1],
            "strikes": [one.record() for one in ran.struck],
        }
        files.append_line(self._path, record)
        self.runs.append(record)
        if ran.code == 0 and not differing:
            shutil.rmtree(parent)  # of one that failed, everything is kept
        return record

    def rounds(self) -> None:
        """Make the rounds that are left, unless runs fail without being disturbed."""
        failed = 0
        while left := self.left():
            of_nodes = {target == "node" for target, _ in left}
            # Every third run is on a cluster, so that a suite that is not over tells of all targets.
            on_nodes = True in of_nodes and (False not in of_nodes or self.short or len(self.runs) % 3 == 2)
            try:
                run = self.one(on_nodes=on_nodes)
            except NotStartedError as error:
                failed += 1
                print(f"Ray did not start, {failed} times: {error}", file=sys.stderr, flush=True)
                if failed == STARTS:
                    return
                continue
            print(told(run, sum(self.left().values())), file=sys.stderr, flush=True)
            if not run["strikes"] and not is_good(run):
                return


def plan(left: Counter[tuple[str, str]], draw: random.Random, *, on_nodes: bool, short: bool) -> Iterator[Strike]:
    """Draw the disturbances of one run from those that are still to be made."""
    pool = [key for key, count in sorted(left.items()) for _ in range(count)]
    draw.shuffle(pool)
    of_nodes = [key for key in pool if key[0] == "node"]
    others = [key for key in pool if key[0] != "node"]
    chosen = [*of_nodes[: STRIKES // 2], *others[: STRIKES // 4]] if on_nodes else others[:STRIKES]
    if short:
        chosen = pool[:STRIKES]
    draw.shuffle(chosen)
    for number, (target, kind) in enumerate(chosen):
        is_early = not short and not on_nodes and draw.random() < EARLY
        # Otherwise the first one would always come while the run starts. There is a checkpoint after three updates.
        after = 0 if number else 3 if short else draw.randrange(4)
        yield Strike(target, kind, after, draw.uniform(0, 1 if short else WAIT_SECONDS), is_early)


def sources() -> str:
    """The digest of all that decides how a run comes out."""
    paths = [Path(__file__), *sorted((ROOT / "chaosops_ray").rglob("*.py")), *sorted((ROOT / "tune_configs").iterdir())]
    digest = sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of the table."""
    rows: dict[str, Any] = {}
    for target, kind in ROUNDS:
        those = [
            (run, one) for run in runs for one in run["strikes"] if (one["target"], one["signal"]) == (target, kind)
        ]
        seconds = [one["recovered"] for _, one in those if one["recovered"] is not None]
        if those:
            rows[f"{target} {kind}"] = {
                "rounds": len(those),
                "survived": sum([is_good(run) for run, _ in those]),
                "median": round(statistics.median(seconds), 1) if seconds else None,
                "worst": round(max(seconds), 1) if seconds else None,
            }
    load = statistics.median([run["load"] for run in runs]) if runs else 0.0
    return {
        "runs": len(runs),
        "ended": sum([run["code"] == 0 for run in runs]),
        "equal": sum([is_good(run) for run in runs]),
        "episodes_lost": sum([run["episodes_lost"] or 0 for run in runs]),
        "processes_left": sum([len(run["left"]) for run in runs]),
        "machine": f"{os.cpu_count()} cores, shared with other work, load average {load:.0f}",
        "rounds": rows,
    }


def is_good(run: Mapping[str, Any]) -> bool:
    """Tell whether a run has ended as the undisturbed one."""
    return run["code"] == 0 and not run["differences"]


def show(figures: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"{'target':<8} {'signal':<7} {'rounds':>6} {'survived':>9} {'recovery, median':>17} {'worst':>9}")
    for name, row in figures["rounds"].items():
        target, kind = name.split()
        times = [f"{row[key]:.1f} s" if row[key] is not None else "–" for key in ("median", "worst")]
        print(f"{target:<8} {kind:<7} {row['rounds']:>6} {row['survived']:>9} {times[0]:>17} {times[1]:>9}")
    print(
        f"{figures['runs']} runs, {figures['ended']} ended, {figures['equal']} equal to the undisturbed one; "
        f"episodes lost: {figures['episodes_lost']}; processes left behind: {figures['processes_left']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the rounds that are missing, print the table, write the figures where asked."""
    parser = argparse.ArgumentParser(description="Training runs whose parts are killed and stopped.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="what is kept between calls")
    parser.add_argument("--short", action="store_true", help="one round of SIGKILL for each target")
    parser.add_argument("--kills", type=int, metavar="N", help="rounds of SIGKILL for each target (default: 40)")
    parser.add_argument("--stops", type=int, metavar="N", help="rounds of SIGSTOP for each target (default: 10)")
    parser.add_argument("--terms", type=int, metavar="N", help="rounds of SIGTERM for the driver (default: 10)")
    parser.add_argument("--targets", default=",".join(TARGETS), metavar="A,B,…", help="only these (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    targets = given.targets.split(",")
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"--targets: {', '.join(sorted(unknown))} is not a target; there are {', '.join(TARGETS)}")
    wanted = dict(SHORT if given.short else ROUNDS)
    for kind, count in (("kill", given.kills), ("stop", given.stops), ("term", given.terms)):
        if count is not None:
            wanted |= {key: count for key in ROUNDS if key[1] == kind}
    wanted = {key: count for key, count in wanted.items() if key[0] in targets}
    set_variables()
    listen()
    # Ray's sessions go with it; the path is short because sockets are in it.
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        os.environ["RAY_TMPDIR"] = scratch
        suite = Suite(given.out.resolve(), wanted, given.seed, short=given.short)
        with suite.claimed():
            suite.check()
            suite.prepare()
            suite.rounds()
    figures = summary(suite.runs)
    show(figures)
    if given.json is not None:
        files.write_json(given.json, figures)
    is_whole = not suite.left() and figures["equal"] == figures["runs"]
    return 0 if is_whole and not figures["processes_left"] else 1


def listen() -> None:
    """Let SIGINT and SIGTERM end the suite, also where a shell has let SIGINT be ignored."""
    for stop in STOPS:
        signal.signal(stop, ended)


def ended(number: int, _frame: FrameType | None) -> None:
    """End this process at a signal, once: what it cleans up on its way is not to be cut short by another."""
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    sys.exit(128 + number)


def told(run: Mapping[str, Any], left: int) -> str:
    """A line about a run."""
    struck = ", ".join([f"{one['target']} {one['signal']}" for one in run["strikes"]])
    state = "equal" if is_good(run) else f"exit code {run['code']}, {run['differences'] or 'see its driver.log'}"
    outlived = f"; processes left behind: {', '.join(run['left'])}" if run["left"] else ""
    return f"run {run['run']}, {run['seconds']:.0f} s: {struck}: {state}{outlived}; {left} rounds to go"


if __name__ == "__main__":
    sys.exit(main())
