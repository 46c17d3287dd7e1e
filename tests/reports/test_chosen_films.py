"""The films of a report: which episodes tell most, in every world."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosops_ray import evaluate
from chaosops_ray.reports import chosen_films
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.episodes import write_episodes

INCIDENT, TOOLS, FLEET = [ENVIRONMENTS[name] for name in ("incident", "tools", "fleet")]
SEEDS = [1000, 1001]


def recorded(path: Path, environment: AnyEnvironment, policy: str) -> dict[str, dict[str, AnyEpisode]]:
    """Record a baseline under the name of the trained policy, and the heuristic; return the episodes by scenario."""
    usual = environment.usual
    players = evaluate.baselines(environment, f"{policy},{usual}")
    players = {"trained": players[policy], usual: players[usual]}
    scenarios = environment.scenarios(environment.selections[0], SEEDS)
    found: dict[str, dict[str, AnyEpisode]] = {"trained": {}, usual: {}}
    with write_episodes(path) as writer:
        for name, one in evaluate.play_all(players, scenarios, "strict"):
            writer.add(environment, name, one.episode)
            found[name][one.episode.scenario.identity] = one.episode
    return found


@pytest.mark.parametrize(
    ("environment", "policy"),
    [(INCIDENT, "flag-all"), (TOOLS, "naive"), (FLEET, "bayes")],
    ids=["incident", "tools", "fleet"],
)
def test_each_reason_has_its_film_of_each_tier_where_there_is_one(
    environment: AnyEnvironment, policy: str, tmp_path: Path
) -> None:
    episodes = recorded(tmp_path / "e.parquet", environment, policy)
    pairs = chosen_films.chosen(tmp_path / "e.parquet", environment, "compact", 100)
    metrics = {metric.name: metric.of for metric in environment.metrics}
    solved = environment.metrics[0]
    wanted = {solved.title: (solved.name, 1.0), f"not {solved.title}": (solved.name, 0.0)}
    if environment.detection is not None:
        wanted |= {name.replace("_", " "): (name, 1.0) for name in environment.detection}
    for tier in environment.tiers:
        for words, (name, value) in wanted.items():
            those = [one for one in episodes["trained"].values() if one.scenario.tier == tier]
            exists = any(metrics[name](one) == value for one in those)
            titles = [pair.title for pair in pairs if pair.title.startswith(f"{tier}: ")]
            assert any(words in title.partition(": ")[2].split(", ") for title in titles) == exists
    for pair in pairs:
        one, other = pair.films
        assert (one["policy"], other["policy"]) == ("trained", environment.heuristic)
        assert one["scenario"] == other["scenario"]


def test_of_the_solved_ones_it_is_the_one_with_the_largest_lead(tmp_path: Path) -> None:
    episodes = recorded(tmp_path / "e.parquet", INCIDENT, "oracle")
    pairs = chosen_films.chosen(tmp_path / "e.parquet", INCIDENT, "compact", 3)
    assert [pair.films[0]["tier"] for pair in pairs] == list(INCIDENT.tiers)
    for pair in pairs:
        leads = {
            name: one.total - episodes["heuristic"][name].total
            for name, one in episodes["trained"].items()
            if one.scenario.tier == pair.films[0]["tier"]
        }
        assert leads[pair.films[0]["scenario"]] == max(leads.values())


def test_no_more_are_chosen_than_were_asked_for_and_the_same_ones_again(tmp_path: Path) -> None:
    recorded(tmp_path / "e.parquet", INCIDENT, "random")
    numbers = [
        [pair.number for pair in chosen_films.chosen(tmp_path / "e.parquet", INCIDENT, "compact", count)]
        for count in (1, 4, 4, 100)
    ]
    assert len(numbers[0]) == 1
    assert numbers[1] == numbers[2]
    assert len(numbers[1]) == 4
    assert set(numbers[1]) <= set(numbers[3])


def test_an_episode_of_the_heuristic_stands_alone(tmp_path: Path) -> None:
    recorded(tmp_path / "e.parquet", INCIDENT, "random")
    count = len(INCIDENT.scenarios(INCIDENT.selections[0], SEEDS))
    (pair,) = chosen_films.named(tmp_path / "e.parquet", INCIDENT, "compact", [count])
    assert [film["policy"] for film in pair.films] == ["heuristic"]


def test_episodes_of_another_world_are_refused(tmp_path: Path) -> None:
    recorded(tmp_path / "e.parquet", TOOLS, "naive")
    with pytest.raises(InputError, match="is of world tools, not incident"):
        chosen_films.named(tmp_path / "e.parquet", INCIDENT, "compact", [0])
