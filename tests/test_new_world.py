"""A new world is one file: the toy world plays, evaluates, is recorded and replayed, shown, and trained on."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks import sim as speed
from chaosops_ray import evaluate, resampling
from chaosops_ray.cli import main
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.reports import playback
from chaosops_ray.sim import ENVIRONMENTS, InputError, play
from chaosops_ray.sim.actions import brier, probability
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.store import versions
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.sweeps.comparison import paired
from chaosops_ray.training import base_models, check, loop, tiny, warm_up
from chaosops_ray.training import plan as planning
from chaosops_ray.wire import EpisodeReport
from tests.support.cluster import ray_here
from tests.support.contract_check import check_environment, check_rule_sets
from tests.support.toy_world import GUESSER, OPENER, PRIORS, TOY, Guess, Open, Toy, Wait


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that a world needs beside its own file."""
    monkeypatch.setitem(ENVIRONMENTS, TOY.name, TOY)


def configured(**values: Any) -> Run:
    batch = {"scenarios": 4, "group": 4, "refill": 0}
    return Run.model_validate({"world": "toy", "model": "tiny", "updates": 1, "batch": batch, **values})


# -- the contract -----------------------------------------------------------------------------------------------------


def test_it_meets_the_contract() -> None:
    check_environment(TOY, TOY.scenarios("all", [0, 7]))


def test_its_prompts_show_the_simplest_action() -> None:
    """The one with the fewest fields, with values that mean nothing where all have some."""
    asked = "Write your action as one JSON object:"
    assert TOY.opening(OPENER, "strict", "full") == ((asked, '{"action": "wait"}'),)
    assert TOY.system_prompt(OPENER, "strict", "full").endswith('one JSON object alone, such as {"action": "wait"}.')
    assert TOY.render(TOY.view(TOY.start(TOY.scenario("toy/full/few/0"), "strict"), OPENER), None, "full").endswith(
        asked
    )

    class Busy(Toy):
        action_types = (Guess, Open)

    assert Busy().opening(OPENER, "strict", "full") == ((asked, '{"action": "guess", "prize": 0.5}'),)
    with pytest.raises(InputError, match="role"):
        TOY.opening("ceo", "strict", "full")


def test_its_rules_can_get_versions() -> None:
    class Changed(Toy):
        rule_sets = ("strict/3", "generous")

    check_rule_sets(Changed())
    assert Changed().rules("strict") == "strict/3"


def test_what_is_permitted_depends_on_the_scenario_and_on_what_was_done() -> None:
    opened = set()
    for seed in range(8):
        world = TOY.start(TOY.scenario(f"toy/full/few/{seed}"), "strict")
        before = TOY.permitted(TOY.view(world, OPENER))
        box = before[1][0].box
        after = TOY.permitted(TOY.view(TOY.step(world, Open(box)).world, OPENER))
        assert Open(box) not in after[1]
        opened.add(box)
    assert len(opened) > 1


@given(
    st.text(max_size=60) | st.sampled_from(['{"action": "guess", "prize": NaN}', '{"action": "open", "box": ["red"]}'])
)
def test_no_completion_raises(completion: str) -> None:
    world = TOY.start(TOY.scenario("toy/full/many/3"), "strict")
    for text in (completion, f"guess {completion}", f'{{"action": "guess", "prize": {completion}}}'):
        action = TOY.parse_action(text)
        assert TOY.load_action(TOY.dump_action(action)) == action
        assert TOY.step(world, action).world.step == 1


@pytest.mark.parametrize("stated", [math.nan, math.inf, -0.1, 1.1, True, "0.5", None])
def test_what_is_no_probability_is_refused(stated: Any) -> None:
    assert isinstance(TOY.admit(Guess(stated)), Unparsed)
    assert isinstance(TOY.parse_action(f"guess {stated}"), Unparsed) or stated == "0.5"


def test_a_probability_is_read_from_whatever_carries_one() -> None:
    assert [probability(action) for action in (Guess(0.9), Open("red"), Wait(), Unparsed("x"))] == [
        0.9,
        None,
        None,
        None,
    ]
    assert TOY.parse_action("I am quite sure.\nguess 0.75") == Guess(0.75)
    assert TOY.parse_action('{"action": "guess", "prize": 1, "reason": "I saw it"}') == Guess(1.0)
    assert (brier(0.9, happened=True), brier(0.9, happened=False)) == (pytest.approx(0.01), pytest.approx(0.81))


# -- played, evaluated, recorded, shown -------------------------------------------------------------------------------


def test_it_evaluates_and_is_recorded_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, episodes = tmp_path / "out.json", tmp_path / "episodes.parquet"
    arguments = ["evaluate", "--world", "toy", "--policies", "glance", "--seeds", "0-9", "--by-group"]
    assert main([*arguments, "--json", str(out), "--episodes", str(episodes), "--plots", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Brier", "AUROC", "few", "many", "full", "empty", "…"))
    cells = yaml.safe_load(out.read_text())["cells"]
    assert [(cell["tier"], cell["episodes"]) for cell in cells] == [("few", 20), ("many", 20)]
    for cell in cells:
        assert cell["mean_ci"][0] < cell["mean"] < cell["mean_ci"][1]
        assert cell["brier_ci"][0] < cell["brier"] < cell["brier_ci"][1]
    assert main(["replay", str(episodes)]) == 0


def test_it_is_shown_on_a_terminal() -> None:
    scenario = TOY.scenario("toy/full/many/3")
    console = Console(file=io.StringIO(), width=100, height=60, force_terminal=True, color_system=None)
    episode = playback.show(console, TOY, scenario, "strict", TOY.policies["random"](scenario, "strict"), 0.0)
    assert isinstance(console.file, io.StringIO)
    board = console.file.getvalue().rpartition("\x1b[?1049l")[2]
    for shown in (scenario.identity, "truth", "turns", "return", TOY.format_action(episode.steps[0].action, "compact")):
        assert shown in board
    lines: list[str] = []
    playback.tell(lines.append, TOY, scenario, "strict", TOY.policies["random"](scenario, "strict"))
    assert len([line for line in lines if f"  {GUESSER} " in line]) >= len(episode.steps) // 2


def test_its_speed_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "RUNS", 1)
    out = tmp_path / "speed.json"
    assert speed.main(["--world", "toy", "--json", str(out)]) == 0
    assert speed.TITLES["bare"] in capsys.readouterr().out
    assert set(yaml.safe_load(out.read_text())["toy"]) == set(speed.MODES)
    with pytest.raises(SystemExit):
        speed.main(["--world", "moon"])
    assert "toy" in capsys.readouterr().err


# -- pairs ------------------------------------------------------------------------------------------------------------


def test_both_of_a_pair_are_drawn_next_to_each_other_into_one_update() -> None:
    plan = planning.make(configured(updates=9, curriculum="few+many:9"), TOY)
    for done in range(9):
        tasks = plan.tasks(planning.curriculum(plan.run, TOY), done, 0, 4)
        assert len({task.seed for task in tasks}) == len({task.key for task in tasks}) == 4
        for first, second in zip(tasks[::2], tasks[1::2], strict=True):
            one, other = TOY.scenario(first.scenario), TOY.scenario(second.scenario)
            assert TOY.partners(one) == (one, other)
            assert (one.case, other.case) == ("full", "empty")
    # Where one group is to be replaced, its partner comes with it.
    begun = planning.curriculum(plan.run, TOY)
    assert plan.tasks(begun, 0, 4, 1) == plan.tasks(begun, 0, 4, 2) == plan.tasks(begun, 0, 0, 6)[4:]


def test_an_update_of_half_a_pair_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^batch\.scenarios: "):
        planning.make(configured(batch={"scenarios": 3, "group": 4}), TOY)


def test_the_openings_of_a_pair_are_the_same() -> None:
    for scenario in TOY.scenarios("all", range(5)):
        worlds = [TOY.start(partner, "strict") for partner in TOY.partners(scenario)]
        for role in TOY.roles:
            assert len({TOY.dump_view(TOY.view(world, role)) for world in worlds}) == 1


def test_an_interval_resamples_whole_pairs() -> None:
    """Of figures that cancel out within each pair the mean is certain; each by itself it would not be."""
    scenarios = TOY.scenarios("all", range(20))
    cancelling = [(one, 5.0 if one.case == "full" else -5.0) for one in scenarios]
    assert resampling.interval(cancelling) == [0.0, 0.0]
    low, high = resampling.interval([(one._replace(pair=""), value) for one, value in cancelling]) or (0, 0)
    assert low < -0.5 < 0.5 < high
    zero = {seed: dict.fromkeys(scenarios, 0.0) for seed in range(3)}
    found = paired({seed: dict(cancelling) for seed in range(3)}, zero)
    assert found == {"mean": 0.0, "ci": [0.0, 0.0], "seeds": 3}
    alone = paired({0: {one: 1.0 for one in scenarios if one.case == "full"}}, zero)
    assert alone == {"mean": 1.0, "ci": [pytest.approx(1.0)] * 2, "seeds": 1}


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> base_models.BaseModel:
    """A tiny model that has read a few episodes of this world."""
    path = tmp_path_factory.mktemp("toy-model")
    recipe = tiny.Recipe(hidden=32, heads=1, inner=64, steps=10, episodes_per_step=8)
    warm_up.build(path, TOY, recipe, lambda _done, _steps: None)
    return base_models.BaseModel("tiny", path, versions.base_digest(path), tiny.layout(path))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_here():
        yield


def test_held_out_figures_are_weighed_by_the_prior_and_training_figures_are_not() -> None:
    reports = [
        EpisodeReport(one.identity, one.tier, worth, worth, {"guessed": 1.0, "suspicion": worth}, {}, {}, (), ())
        for one in TOY.scenarios("all", range(3))
        for worth in [1.0 if TOY.guilty(one) else 0.0]
    ]
    for tier in TOY.tiers:
        assert loop.by_tier(TOY, reports)[tier]["mean"] == 0.5
        for figure in ("mean", "suspicion"):
            assert loop.by_tier(TOY, reports, evaluate.weighed(TOY, "rare"))[tier][figure] == pytest.approx(
                PRIORS["rare"]
            )


@pytest.mark.cluster
def test_one_update_is_trained(tmp_path: Path, base: base_models.BaseModel, cluster: None) -> None:  # noqa: ARG001
    small = {"learner_cpus": 0.5, "learner_gpus": 0, "learner_threads": 1, "sampler_gpus": 0, "shard_cpus": 0.5}
    run = configured(
        rollout={"max_tokens": 1, "shards": 1, "structured": True, "temperature": 1.0},
        learner={"lora_rank": 4, "lora_alpha": 8, "checkpointing": False, "tokens_per_forward": 2048},
        resources=small,
    )
    folder = RunFolder.create(tmp_path / "run", check.written(run))
    rows: list[dict[str, Any]] = []
    scenarios = TOY.scenarios("all", [1000])
    trained = loop.train(loop.prepare(run, base, folder), rows.append, held_out=scenarios)
    (row,) = rows
    assert (row["update"], row["episodes"], row["rules"], row["rule_options"]) == (1, 16, "strict", {})
    assert row["groups"]["learnt_from"] > 0
    assert row["learner"]["tokens_written"] > 0
    assert set(row["tiers"]) == {"few"}
    assert set(row["rewards"]) == set(TOY.roles)
    assert [report.scenario for report in trained.held_out] == [one.identity for one in scenarios]
    # What was learnt from chose among what was permitted then, and nothing else.
    for report in trained.held_out:
        actions = [TOY.load_action(text) for text in report.actions]
        script = iter(actions)
        episode = play(TOY, TOY.scenario(report.scenario), "strict", lambda _view, script=script: next(script))
        assert all(step.action in [a for kind in TOY.permitted(step.view) for a in kind] for step in episode.steps)
    assert main(["replay", str(next(folder.path.rglob("*.parquet")))]) == 0
