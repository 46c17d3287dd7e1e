"""The runs and sweeps below a folder, each with its state, found again whenever somebody looks.

A folder that is damaged, or is being written, is shown with its error in words; it never keeps the others from view.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray import config
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.reports import tables
from chaosops_ray.reports.curves import Curves, Mark
from chaosops_ray.reports.metrics_rows import Row
from chaosops_ray.serve.control_room import locks, paths
from chaosops_ray.serve.control_room.metrics_file import MAX_BYTES, Growing, Last, read_last
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import ENVIRONMENTS
from chaosops_ray.store.files import is_sealed, parse_object
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, METRICS

SWEEP, TRIALS, COMPARISON = "sweep.yaml", "trials", "comparison.json"
RUNNING, FINISHED, TO_RESUME, STOPPED, NOT_BEGUN, DAMAGED = (
    *("running", "finished", "to be resumed"),
    *("stopped", "not begun", "damaged"),
)
# As sweeps.runner names them in the folder of a trial.
_ALARMED, _STOPPED_EARLY = "alarm.txt", "stopped-early"

MAX_EVALUATION = 8 << 20
MAX_FOLDERS = 5000  # that one search looks into
MAX_DEPTH = 5
MAX_RUNS = 500
_SEARCH_SECONDS = 1.0  # for so long one search serves all who look
# A run whose metrics grew so recently is being trained, though no lock is seen: on another machine, for instance.
_ACTIVE_SECONDS = 120.0
_CURVES_KEPT = 16
_LONGEST_ERROR = 400
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_LONGEST_WHY = 300


class Summary(NamedTuple):
    """A run as the list shows it."""

    id: str
    name: str
    state: str
    done: int = 0
    of: int | None = None
    about: str = ""
    headline: tuple[tuple[str, str], ...] = ()  # by tier
    headline_of: str = ""
    quiet: float | None = None  # seconds since the last line came
    quiet_since_start: bool = False  # nobody has looked before: it is at least so many seconds
    error: str = ""

    def age(self) -> str:
        """Say how long ago the last line came, as far as this program knows."""
        seconds = self.quiet or 0.0
        length, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
        text = f"{seconds // length:.0f} {unit} ago"
        return f"more than {text}" if self.quiet_since_start else text


class SweepSummary(NamedTuple):
    """A sweep as the list shows it."""

    id: str
    name: str
    state: str
    trials: tuple[Summary, ...]
    error: str = ""

    def counts(self) -> str:
        """Say how many trials are in which state."""
        states = [trial.state for trial in self.trials]
        return ", ".join([f"{states.count(state)} {state}" for state in dict.fromkeys(states)])


class Listing(NamedTuple):
    """Everything that was found, and whether the search was cut short."""

    runs: tuple[Summary, ...]
    sweeps: tuple[SweepSummary, ...]
    is_cut: bool


class OpenRun(NamedTuple):
    """A run whose files can be read: where it is, its configuration and its world."""

    id: str
    name: str
    path: Path
    run: Run
    environment: AnyEnvironment


class Course(NamedTuple):
    """A run as far as its metrics can be read; `times` counts how often they were begun again."""

    curves: dict[str, Any]  # the document for curves.js
    last: Row | None
    held_out: Row | None
    times: int
    error: str


class Runs:
    """The runs and sweeps below a folder."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        if not root.is_dir():
            raise InputError(f"there is no folder {root}; name the folder that holds your runs")
        for name in (CONFIG, SWEEP):
            if (root / name).is_file():
                raise InputError(f"{root} is itself a run or a sweep; name the folder that it lies in")
        self.root = root.resolve()
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._listing: tuple[float, Listing] | None = None
        self._seen: dict[str, tuple[Any, Any]] = {}  # by path what was read, and of which file
        self._lines: dict[str, tuple[Any, float, bool]] = {}  # by run its metrics' size, since when, seen to grow
        self._courses: OrderedDict[str, _Follower] = OrderedDict()

    # -- the list ------------------------------------------------------------------------------------------------

    def listing(self) -> Listing:
        """Return all runs and sweeps; a search of a moment ago is used again."""
        with self._lock:
            now = self._clock()
            if self._listing is None or now - self._listing[0] >= _SEARCH_SECONDS:
                self._listing = (now, self._search())
            return self._listing[1]

    def _search(self) -> Listing:
        locked = locks.locked_files()
        runs: list[Summary] = []
        sweeps: list[SweepSummary] = []
        is_cut = False
        for looked, (path, names) in enumerate(self._folders()):
            if looked >= MAX_FOLDERS or len(runs) >= MAX_RUNS:
                is_cut = True
                break
            if SWEEP in names:
                sweeps.append(self._sweep(path, locked))
            elif CONFIG in names:
                runs.append(self._summary(path, locked))
        ids = [*[run.id for run in runs], *[trial.id for sweep in sweeps for trial in sweep.trials]]
        kept = {str(self.root / paths.relative_path(identity)) for identity in ids}
        self._seen = {key: value for key, value in self._seen.items() if os.path.dirname(key) in kept}
        self._lines = {key: value for key, value in self._lines.items() if key in kept}
        return Listing(tuple(runs), tuple(sweeps), is_cut)

    def _folders(self) -> Iterator[tuple[Path, set[str]]]:
        """Yield each visible folder with the names in it, in order; go into no run, no sweep and no link."""
        waiting = [(self.root, 0)]
        while waiting:
            path, depth = waiting.pop()
            try:
                with os.scandir(path) as entries:
                    found = sorted([entry for entry in entries if paths.is_name(entry.name)], key=lambda one: one.name)
                    folders = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue  # unreadable, or gone meanwhile
            names = {entry.name for entry in found}
            yield path, names
            if depth < MAX_DEPTH and not names & {CONFIG, SWEEP}:
                waiting += [(path / name, depth + 1) for name in reversed(folders)]

    def _sweep(self, path: Path, locked: frozenset[tuple[int, int, int]]) -> SweepSummary:
        relative = path.relative_to(self.root)
        trials: list[Summary] = []
        error = ""
        try:
            with os.scandir(paths.inside(self.root, path / TRIALS)) as entries:
                names = sorted([entry.name for entry in entries if entry.is_dir() and paths.is_name(entry.name)])
            trials = [self._summary(path / TRIALS / name, locked) for name in names[:MAX_RUNS]]
        except (OSError, InputError) as why:
            error = one_line(f"its trials cannot be read: {why}", _LONGEST_ERROR)
        states = {trial.state for trial in trials}
        if RUNNING in states:
            state = RUNNING
        elif (path / COMPARISON).is_file():
            state = FINISHED
        else:
            state = DAMAGED if error else TO_RESUME
        return SweepSummary(paths.identity(relative), tables.plain(str(relative)), state, tuple(trials), error)

    def _summary(self, path: Path, locked: frozenset[tuple[int, int, int]]) -> Summary:
        relative = path.relative_to(self.root)
        known = Summary(paths.identity(relative), tables.plain(str(relative)), DAMAGED)
        try:
            opened = self._open(path)
            known = known._replace(of=opened.run.updates, about=about(opened))
            last = self._last(path)
            known = known._replace(**self._figures(opened, last))
            return self._with_state(known, path, locked)
        except (InputError, OSError) as error:
            return known._replace(state=DAMAGED, error=one_line(error, _LONGEST_ERROR))

    def _figures(self, opened: OpenRun, last: Last) -> dict[str, Any]:
        if last.row is None:
            return {}
        found: dict[str, Any] = {"done": last.row["update"]}
        try:
            if last.held_out is not None:
                tiers, found["headline_of"] = last.held_out["evaluation"]["tiers"], "held out"
            else:
                tiers, found["headline_of"] = last.row["tiers"], "in training"
            found["headline"] = tuple([(tier, _headline(opened, figures["mean"])) for tier, figures in tiers.items()])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise InputError(f"the last line of {METRICS} is not a row of metrics") from None
        return found

    def _with_state(self, known: Summary, path: Path, locked: frozenset[tuple[int, int, int]]) -> Summary:
        quiet, since_start, active = self._quiet(path)
        known = known._replace(quiet=quiet, quiet_since_start=since_start)
        if locks.key((path / CONFIG).stat()) in locked:
            return known._replace(state=RUNNING)
        evaluation = self._remembered(path / EVALUATION, MAX_EVALUATION, _check_sealed)
        if evaluation is not None:
            return known._replace(state=FINISHED)
        why = paths.read_inside(self.root, path / _ALARMED, config.MAX_FILE_BYTES)
        if why is not None:
            return known._replace(state=STOPPED, error=one_line(why.decode(errors="replace"), _LONGEST_WHY))
        if (path / _STOPPED_EARLY).exists():
            return known._replace(state=STOPPED, error="it did worse than the other trials of its sweep")
        if active:
            return known._replace(state=RUNNING)
        return known._replace(state=TO_RESUME if known.done else NOT_BEGUN)

    def _quiet(self, path: Path) -> tuple[float | None, bool, bool]:
        """Return for how long no line came, whether that is counted from this program's start, and if it is recent."""
        status = _status(path / METRICS)
        now, key = self._clock(), str(path)
        found = None if status is None else (status.st_ino, status.st_size)
        known = self._lines.get(key)
        if known is None:
            self._lines[key] = known = (found, self._began, False)
        elif known[0] != found:
            self._lines[key] = known = (found, now, True)
        _, since, grew = known
        if found is None:
            return None, False, False
        return now - since, not grew, grew and now - since < _ACTIVE_SECONDS

    # -- one run -------------------------------------------------------------------------------------------------

    def run(self, identity: str) -> OpenRun:
        """Return the run with this id; NotFoundError if there is none, InputError if it is damaged."""
        path = self._run_path(identity)
        return self._open(path)

    def summary(self, identity: str) -> Summary:
        """Return the run with this id as the list shows it."""
        path = self._run_path(identity)
        with self._lock:
            return self._summary(path, locks.locked_files())

    def sweep(self, identity: str) -> tuple[SweepSummary, Path]:
        """Return the sweep with this id, and its folder."""
        path = paths.inside(self.root, self.root / paths.relative_path(identity))
        if not (path / SWEEP).is_file():
            raise NotFoundError(f"there is no sweep {one_line(identity, 80)!r}")
        with self._lock:
            return self._sweep(path, locks.locked_files()), path

    def course(self, opened: OpenRun, after: int = 0, times: int = 0) -> Course:
        """Return the curves of a run up to its last line; only those after an update, if they are not begun again."""
        with self._lock:
            follower = self._courses.get(opened.id)
            if follower is None or (follower.run, follower.environment) != (opened.run, opened.environment):
                follower = self._courses[opened.id] = _Follower(self.root, opened)
            self._courses.move_to_end(opened.id)
            while len(self._courses) > _CURVES_KEPT:
                self._courses.popitem(last=False)
        return follower.course(after, times)

    def token(self, identity: str) -> tuple[Any, ...]:
        """Return what changes whenever the run has something new to show."""
        path = self._run_path(identity)
        files = [_status(path / name) for name in (CONFIG, METRICS, EVALUATION)]
        return tuple([None if one is None else (one.st_ino, one.st_size) for one in files])

    def _run_path(self, identity: str) -> Path:
        path = paths.inside(self.root, self.root / paths.relative_path(identity))
        if not os.path.lexists(path / CONFIG) or not path.is_dir():
            raise NotFoundError(f"there is no run {one_line(identity, 80)!r}")
        return path

    def _open(self, path: Path) -> OpenRun:
        relative = path.relative_to(self.root)
        run = self._remembered(path / CONFIG, config.MAX_FILE_BYTES, _config)
        if run is None:
            raise InputError(f"it has no {CONFIG}")
        if run.world not in ENVIRONMENTS:
            raise InputError(f"{CONFIG}: this program has no world {run.world!r}")
        return OpenRun(paths.identity(relative), tables.plain(str(relative)), path, run, ENVIRONMENTS[run.world])

    def _last(self, path: Path) -> Last:
        return self._remembered(path / METRICS, MAX_BYTES, read_last) or Last(None, None)

    def _remembered(self, path: Path, most: int, read: Callable[[Path], Any]) -> Any:
        """Read a file, or return what was read when it last was the same; None if there is none."""
        found = paths.file_inside(self.root, path, most)
        if found is None:
            return None
        status = found.stat()
        version = (status.st_ino, status.st_size)
        known = self._seen.get(str(path))
        if known is not None and known[0] == version:
            if isinstance(known[1], InputError):
                raise known[1]
            return known[1]
        try:
            value = read(found)
        except InputError as error:
            self._seen[str(path)] = (version, error)
            raise
        except OSError as error:
            raise InputError(f"cannot read {path.name}: {error.strerror}") from None
        self._seen[str(path)] = (version, value)
        return value


class _Follower:
    """The curves of one run, which grow with its metrics."""

    def __init__(self, root: Path, opened: OpenRun) -> None:
        self.run = opened.run
        self.environment = opened.environment
        self._lines = Growing(root, opened.path / METRICS)
        self._curves = Curves(opened.environment, opened.run)
        self._times = 0
        self._error = ""
        self._lock = threading.Lock()

    def course(self, after: int, times: int) -> Course:
        with self._lock:
            before = self._times
            try:
                self._lines.read(self._begin_again, lambda row: self._curves.add(row))
                self._error = ""
            except InputError as error:
                self._error = one_line(error, _LONGEST_ERROR)
            if self._times != before and self._curves.done:
                self._curves.mark(Mark(self._curves.done, "resumed", "the run was resumed"))
            curves = self._curves
            document = curves.document(min(after, curves.done) if times == self._times else 0)
            return Course(document, curves.last, curves.held_out, self._times, self._error)

    def _begin_again(self) -> None:
        self._curves = Curves(self.environment, self.run)
        self._times += 1


def about(opened: OpenRun) -> str:
    """Say in a line what is trained."""
    run = opened.run
    return f"{opened.environment.title} · {tables.plain(run.model)} · rules {tables.plain(run.rules)} · seed {run.seed}"


def _headline(opened: OpenRun, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return tables.headline(opened.environment, value)


def _config(path: Path) -> Run:
    try:
        values: Mapping[str, Any] = config.read(path)
        # A run's own file is whole; following a name in it could lead anywhere.
        if "extends" in values:
            raise InputError(f"{CONFIG} extends another file, as no run's does")
        return config.resolve([config.Layer(CONFIG, values)], {})
    except ConfigError as error:
        raise InputError(str(error)) from None


def _check_sealed(path: Path) -> bool:
    found = parse_object(path.read_bytes())
    if found is None or not is_sealed(found):
        raise InputError(f"{path.name} is not as it was written; delete it, and train --resume makes it again")
    return True


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
