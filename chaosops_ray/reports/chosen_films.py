"""The episodes of a run's evaluation that tell most, as films beside the heuristic's on the same scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.evaluate import TRAINED
from chaosops_ray.reports import tables
from chaosops_ray.reports.film import recorded_film
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Metric, Style
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.episodes import RecordedEpisode, read_episode, read_episodes, read_recording, summaries

FILMS = 8


class Pair(NamedTuple):
    """A film of the trained policy, what makes it worth a look, and the other one's film if there is one."""

    number: int
    title: str
    films: Sequence[Mapping[str, Any]]


class _Found(NamedTuple):
    """An episode of the trained policy among those that films are chosen from."""

    number: int
    tier: str
    gap: float  # by how much its headline is above the heuristic's
    figures: Mapping[str, float | None]


class _Reason(NamedTuple):
    """A figure that makes an episode worth a look; of several such, the largest lead or the largest lag."""

    metric: Metric
    value: float
    is_good: bool
    text: str

    def holds(self, found: _Found) -> bool:
        return found.figures[self.metric.name] == self.value


def chosen(path: Path, environment: AnyEnvironment, style: Style, count: int) -> list[Pair]:
    """Return at most `count` films: of each tier one solved and one not, one with a catch, one with a false alarm."""
    recorded: dict[tuple[str, str], int] = {}
    episodes: dict[str | None, dict[str, AnyEpisode]] = {TRAINED: {}, environment.heuristic: {}}
    for one in read_episodes(path):
        if one.policy in episodes:
            recorded[one.policy, one.scenario] = one.number
            episodes[one.policy][one.scenario] = _played(environment, one)
    found = [
        _found(environment, recorded[TRAINED, scenario], episode, episodes[environment.heuristic].get(scenario))
        for scenario, episode in episodes[TRAINED].items()
    ]
    numbers = _pick(environment, found, count)
    return [_pair(path, environment, style, number, reasons) for number, reasons in numbers.items()]


def named(path: Path, environment: AnyEnvironment, style: Style, numbers: Sequence[int]) -> list[Pair]:
    """Return the films of these episodes."""
    return [_pair(path, environment, style, number, []) for number in dict.fromkeys(numbers)]


def _played(environment: AnyEnvironment, one: RecordedEpisode) -> AnyEpisode:
    """Return the episode to choose by; whether it is as recorded is checked where it becomes a film."""
    rules = environment.recorded_rules(one.rules)
    actions = [environment.load_action(row["action"]) for row in one.rows]
    return replay(environment, environment.scenario(one.scenario), rules, actions)


def _found(environment: AnyEnvironment, number: int, episode: AnyEpisode, other: AnyEpisode | None) -> _Found:
    beside = 0.0 if other is None else environment.headline(other)
    figures = {metric.name: metric.of(episode) for metric in environment.metrics}
    return _Found(number, episode.scenario.tier, environment.headline(episode) - beside, figures)


def _reasons(environment: AnyEnvironment) -> Iterator[_Reason]:
    solved = next(metric for metric in environment.metrics if metric.is_share)
    yield _Reason(solved, 1.0, is_good=True, text=solved.title)
    yield _Reason(solved, 0.0, is_good=False, text=f"not {solved.title}")
    if environment.detection is not None:
        for name, is_good in zip(environment.detection, (True, False), strict=True):
            metric = next(one for one in environment.metrics if one.name == name)
            yield _Reason(metric, 1.0, is_good=is_good, text=name.replace("_", " "))


def _pick(environment: AnyEnvironment, found: Sequence[_Found], count: int) -> dict[int, list[str]]:
    """Return the numbers of the chosen episodes, tier by tier, with all reasons that hold of each."""
    picked: dict[int, _Found] = {}
    for reason in _reasons(environment):
        for tier in environment.tiers:
            those = [one for one in found if one.tier == tier and reason.holds(one)]
            # An episode that is shown for another reason serves for this one too.
            if those and len(picked) < count and not any(one.number in picked for one in those):
                pick: Callable[..., _Found] = max if reason.is_good else min
                one = pick(those, key=lambda one: one.gap)
                picked[one.number] = one
    order = sorted(picked.values(), key=lambda one: (environment.tiers.index(one.tier), one.number))
    return {one.number: [reason.text for reason in _reasons(environment) if reason.holds(one)] for one in order}


def _pair(path: Path, environment: AnyEnvironment, style: Style, number: int, reasons: Sequence[str]) -> Pair:
    one = read_episode(path, number)
    models = read_recording(path).models
    films = [recorded_film(one, style, models)]
    if one.policy != environment.heuristic:
        beside = [
            listed.number
            for listed in summaries(path)
            if (listed.policy, listed.scenario, listed.rules) == (environment.heuristic, one.scenario, one.rules)
        ]
        films += [recorded_film(read_episode(path, other), style, models) for other in beside[:1]]
    if films[0]["world"] != environment.name:
        raise InputError(f"{path}, episode {number} is of world {films[0]['world']}, not {environment.name}")
    said = ", ".join(reasons) or tables.plain(one.policy)
    title = f"{films[0]['tier']}: {said}"
    return Pair(number, title, films)
