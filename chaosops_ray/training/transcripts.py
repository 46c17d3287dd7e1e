"""The tokens of a run's transcripts, by episodes that baselines play: what seats read, write, and choose among."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from chaosops_ray.agents.seat import Seat
from chaosops_ray.config import Run
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, Kinds, Style
from chaosops_ray.sim.curriculum import Curriculum, Staged
from chaosops_ray.sim.episode import RunningEpisode
from chaosops_ray.training import plan
from chaosops_ray.wire import Task

if TYPE_CHECKING:
    from chaosops_ray.training.footprint import Known

_POINTS, _SCENARIOS = 6, 8  # updates over the run, and scenarios of each, that are played
# What a chat's layout adds to a turn: ends of two messages and heads of the next two, as ChatML has them.
_LAYOUT = 10
_STOP = 1
# An action of one token, with a stop or without, is not chosen as a whole.
_ONE_TOKEN = 2


def chooses_whole_actions(run: Run) -> bool:
    """Tell whether completions are chosen among whole actions, whose tokens are computed as well."""
    return run.rollout.structured == "choices" and run.rollout.max_tokens > _ONE_TOKEN


class Range(NamedTuple):
    """A figure, at least and at most."""

    least: float
    most: float

    def times(self, factor: float) -> Range:
        """Return the range of so many."""
        return Range(self.least * factor, self.most * factor)

    @classmethod
    def of(cls, found: Sequence[Range]) -> Range:
        """Return the range that holds all of these."""
        return cls(min([one.least for one in found]), max([one.most for one in found]))


NONE = Range(0, 0)


class Texts(NamedTuple):
    """Transcripts of an episode in the mean, of all seats that learn."""

    transcripts: Range
    tokens: Range  # read and written, and those of whole actions to choose among, which are computed as well
    written: Range
    pairs: Range  # the square of each transcript's tokens, summed: what attention is about
    longest: int  # of all transcripts that were seen
    choices: int  # tokens of the actions to choose among in a transcript, at most
    widest: int  # and in a turn
    episodes: int
    players: tuple[str, ...]


class _Transcript(NamedTuple):
    """One seat's tokens in one episode: what it read and wrote, and what it could have chosen, at least and at most."""

    read: Range
    written: Range
    choices: Range
    widest: float = 0  # the most of a turn

    @property
    def length(self) -> Range:
        """The tokens of the transcript."""
        return _plus(self.read, self.written)

    @property
    def tokens(self) -> Range:
        """The tokens that are computed."""
        return _plus(self.length, self.choices)


def texts(run: Run, environment: AnyEnvironment, model: Known) -> Texts:
    """Play a few episodes of the run with each of the baselines, and count their tokens.

    What is written is at least the baselines' actions; free completions are at most as long as they may be.
    """
    tasks = _tasks(run, environment)
    # Their episodes stand for a trained policy's: the first takes any permitted action, the second plays to win.
    players = tuple(dict.fromkeys([name for name in ("random", environment.usual) if name in environment.policies]))
    by_player = [[_episode(run, environment, model, name, task) for task in tasks] for name in players]

    def means(figure: Any) -> Range:
        """Return the range of a figure's means over each player's episodes."""
        totals = [[figure(episode) for episode in episodes] for episodes in by_player]
        return Range.of(
            [
                Range(sum([one.least for one in each]) / len(each), sum([one.most for one in each]) / len(each))
                for each in totals
            ]
        )

    def summed(parts: Sequence[Range]) -> Range:
        return Range(sum([one.least for one in parts]), sum([one.most for one in parts]))

    every = [one for episodes in by_player for episode in episodes for one in episode]
    return Texts(
        transcripts=means(lambda episode: Range(len(episode), len(episode))),
        tokens=means(lambda episode: summed([one.tokens for one in episode])),
        written=means(lambda episode: summed([one.written for one in episode])),
        pairs=means(lambda episode: summed([Range(one.tokens.least**2, one.tokens.most**2) for one in episode])),
        longest=int(max([one.length.most for one in every], default=0)),
        choices=ceil(max([one.choices.most for one in every], default=0)),
        widest=ceil(max([one.widest for one in every], default=0)),
        episodes=len(tasks) * len(players),
        players=players,
    )


def _tasks(run: Run, environment: AnyEnvironment) -> list[Task]:
    """Return groups of a few updates, spread evenly over the run; of an adaptive curriculum, of all tiers."""
    planned = plan.make(run, environment)
    curriculum: Curriculum = plan.curriculum(run, environment)
    found = []
    for point in range(_POINTS):
        done = min(run.updates - 1, (2 * point + 1) * run.updates // (2 * _POINTS))
        if isinstance(curriculum, Staged):
            now: Curriculum = curriculum._replace(done=done)
        else:
            now = Staged((("+".join(environment.tiers), run.updates),))
        found += planned.tasks(now, done, 0, min(run.batch.scenarios, _SCENARIOS))
    return found


def _episode(run: Run, environment: AnyEnvironment, model: Known, player: str, task: Task) -> list[_Transcript]:
    """Play one episode of a group; return the transcript of each seat that learns."""
    scenario = environment.scenario(task.scenario)
    colleagues = seats.built(environment, dict(task.colleagues), scenario, task.rules)
    running: RunningEpisode[Any, Any, Any] = RunningEpisode(environment, scenario, task.rules, colleagues)
    policy = environment.policies[player](scenario, task.rules)
    opened: dict[str, Seat] = {}
    found: dict[str, _Transcript] = {}
    is_free = run.rollout.structured == "no"
    is_whole = chooses_whole_actions(run)
    while (role := running.acting) is not None:
        view = environment.view(running.world, role)
        read = Range(_LAYOUT, _LAYOUT)
        if role not in opened:
            opened[role] = Seat(environment, role, task.rules, run.rendering)
            seat = opened[role]
            for text in (seat.system_prompt, *[text for example in seat.opening for text in example]):
                read = _plus(read, Range(*model.tokens(text)))
        read = _plus(read, Range(*model.tokens(opened[role].read(view))))
        action = policy(view)
        least, most = model.tokens(environment.format_action(action, run.rendering))
        written = Range(min(least + _STOP, run.rollout.max_tokens), run.rollout.max_tokens if is_free else most + _STOP)
        permitted = environment.permitted(view) if is_whole else None
        chosen = NONE if permitted is None else _beginnings(environment, model, run.rendering, permitted)
        before = found.get(role, _Transcript(NONE, NONE, NONE))
        found[role] = _Transcript(
            _plus(before.read, read),
            _plus(before.written, written),
            _plus(before.choices, chosen),
            max(before.widest, chosen.most),
        )
        running.take(view, action)
    return list(found.values())


@lru_cache(256)
def _beginnings(environment: AnyEnvironment, model: Known, style: Style, kinds: Kinds[Any]) -> Range:
    """Return the tokens of the actions, with beginnings that several share counted once, by their characters."""
    texts = sorted({environment.format_action(action, style) for kind in kinds for action in kind})
    found = NONE
    for before, text in pairwise(["", *texts]):
        own = 1 - next((i for i, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), len(before)) / len(
            text
        )
        found = _plus(found, Range(*model.tokens(text)).times(own))
    return found


def _plus(one: Range, other: Range) -> Range:
    return Range(one.least + other.least, one.most + other.most)
