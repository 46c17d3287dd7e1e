"""What a run plays is a function of its seed and of the place in it, and of nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosops_ray.config import ConfigError, Run
from chaosops_ray.sim import ENVIRONMENTS, InputError, training_seeds
from chaosops_ray.sim import curriculum as curricula
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.curriculum import Curriculum
from chaosops_ray.training import plan as planning
from chaosops_ray.training.mastery import NEW, Mastery, Standing, case_of
from chaosops_ray.training.plan import Plan
from chaosops_ray.wire import Task

ROOT = Path(__file__).parents[2]
INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]


def configured(**values: Any) -> Run:
    return Run.model_validate({"model": "tiny", "updates": 40, "batch": {"scenarios": 8, "group": 4}, **values})


def made(environment: AnyEnvironment = INCIDENT, **values: Any) -> Plan:
    return planning.make(configured(world=environment.name, **values), environment)


def staged(spelling: str, done: int = 0, environment: AnyEnvironment = INCIDENT) -> Curriculum:
    """A curriculum so many updates on."""
    curriculum: Curriculum = curricula.parse(spelling, environment.tiers, environment.promotions)
    for _ in range(done):
        curriculum = curriculum.after([0.0])
    return curriculum


def played(plan: Plan, spelling: str, updates: int, begin: int = 0) -> list[Task]:
    """All tasks of these updates, without what is replaced."""
    environment = plan.environment
    found = []
    for done in range(begin, begin + updates):
        found += plan.tasks(staged(spelling, done, environment), done, 0, plan.run.batch.scenarios)
    return found


def tier(task: Task) -> str:
    return INCIDENT.scenario(task.scenario).tier


def case(task: Task) -> str:
    return task.scenario.split("/")[1]


def seed(task: Task) -> int:
    return int(task.scenario.split("/")[3])


# -- what is mastered ------------------------------------------------------------------------------------------------


def shares(mastery: Mastery, updates: int = 150, **values: Any) -> dict[str, float]:
    """How often each case is drawn of all."""
    plan = made(batch={"scenarios": 8, "group": 4, **values})
    counts = Counter(
        f"{case(task)}/{tier(task)}"
        for done in range(updates)
        for task in plan.tasks(staged("easy+medium+hard:9"), done, 0, 8, mastery)
    )
    return {name: count / counts.total() for name, count in counts.items()}


def test_a_mastered_case_is_drawn_less_often_and_what_is_not_takes_its_place() -> None:
    mastered = Mastery(standings={"dns_outage/easy": Standing(134.0, 1.0)})
    before, after = shares(NEW, mastered=0.2), shares(mastered, mastered=0.2)
    assert before["dns_outage/easy"] == pytest.approx(1 / 12, abs=0.02)
    assert after["dns_outage/easy"] == pytest.approx(0.2 / 11.2, abs=0.01)
    assert all(after[name] > before[name] * 0.8 for name in after if name != "dns_outage/easy")


def test_every_case_goes_on_being_drawn_however_well_it_is_mastered() -> None:
    plan = made()
    names = [case_of(one) for cases in plan.cases.values() for one in cases]
    all_but_one = Mastery(standings={name: Standing(1.0, 1.0) for name in names[1:]})
    assert set(shares(all_but_one, mastered=0.1)) == set(names)


def test_cases_are_drawn_in_turn_unless_the_run_says_otherwise() -> None:
    mastered = Mastery(standings={"dns_outage/easy": Standing(134.0, 1.0)})
    assert shares(mastered) == shares(NEW)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5)), max_size=20))
def test_mastery_is_a_share_and_does_not_depend_on_how_groups_are_bundled(groups: Any) -> None:
    whole = NEW.after(groups)
    assert whole == NEW.after(groups[:7]).after(groups[7:])
    assert all(0.0 <= whole.of(name) <= 1.0 for name in "abcd")


def test_only_what_comes_near_the_best_return_is_mastered() -> None:
    best_once = Mastery(near=20.0).after([("a", [100.0, -3000.0])])
    # Thirty points short is not near, whatever else was lost on the case before.
    solved_late = best_once.after([("a", [70.0, 70.0])] * 9)
    assert solved_late.of("a") < 0.02
    assert solved_late.after([("a", [80.0, 100.0])] * 9).of("a") > 0.9


# -- a function -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31 - 1), st.integers(0, 5000), st.integers(0, 60), st.integers(1, 6))
@settings(max_examples=30)
def test_a_task_is_the_same_however_it_is_asked_for(run_seed: int, done: int, begun: int, count: int) -> None:
    """By itself or with others, by this plan or another of the same run, with whatever was planned before."""
    curriculum = staged("easy:3,medium+hard:2", done % 7)
    one, other = made(seed=run_seed, rehearsal=0.5), made(seed=run_seed, rehearsal=0.5)
    together = one.tasks(curriculum, done, begun, count)
    other.tasks(curriculum, done + 1, 0, 3)
    assert together == [other.tasks(curriculum, done, begun + place, 1)[0] for place in reversed(range(count))][::-1]


def test_tasks_are_the_same_in_another_process() -> None:
    program = (
        "import json; from tests.training.test_plan import made, played;"
        "print(json.dumps([[t.key, t.scenario, t.rules, t.size, t.seed] for t in played(made(seed=5), 'easy+hard:9', 3)]))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [Task(*fields) for fields in json.loads(ran.stdout)] == played(made(seed=5), "easy+hard:9", 3)


def test_nothing_but_what_it_names_changes_a_task() -> None:
    """Not the length of the run, not its engine, and of the size of a group only the size itself."""
    tasks = played(made(seed=5), "easy:9", 3)
    changed = made(seed=5, updates=900, sampler="vllm", batch={"scenarios": 8, "group": 9, "refill": 3})
    assert [task.size for task in tasks] == [4] * 24
    assert [(task.scenario, task.seed, task.key) for task in played(changed, "easy:9", 3)] == [
        (task.scenario, task.seed, task.key) for task in tasks
    ]


def test_another_seed_plays_something_else() -> None:
    one, other = played(made(seed=1), "easy:9", 3), played(made(seed=2), "easy:9", 3)
    assert not {task.scenario for task in one} & {task.scenario for task in other}
    assert not {task.seed for task in one} & {task.seed for task in other}


def test_keys_seeds_and_scenarios_are_a_task_s_own() -> None:
    tasks = played(made(), "easy:9", 200)
    for values in ([task.key for task in tasks], [task.seed for task in tasks], [task.scenario for task in tasks]):
        assert len(set(values)) == len(tasks)


def test_places_never_run_into_the_next_update() -> None:
    """However many groups were replaced."""
    plan = made()
    late, early = plan.tasks(staged("easy:9"), 0, 10_000, 4), plan.tasks(staged("easy:9"), 1, 0, 4)
    assert not {task.seed for task in late} & {task.seed for task in early}


def test_seeds_are_held_off_from_evaluation_and_warm_up() -> None:
    seeds = [seed(task) for task in played(made(), "easy+medium+hard:9", 300)]
    assert training_seeds.FIRST <= min(seeds) < training_seeds.FIRST + 2_000_000
    assert 90_000_000 < max(seeds) < 1_000_000_000
    assert all(0 <= task.seed < 2**63 for task in played(made(), "easy:9", 20))


# -- tiers and cases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=lambda environment: environment.name)
@pytest.mark.parametrize("begin", [0, 1, 2, 7])
def test_every_case_of_a_tier_comes_up_before_any_comes_up_again(environment: AnyEnvironment, begin: int) -> None:
    """Wherever a stage begins: in the deck's middle, too."""
    plan = made(environment)
    for name in environment.tiers:
        cases = [case(task) for task in played(plan, f"{name}:9", 8, begin)]
        size = len(plan.cases[name])
        for first in range(len(cases) - size + 1):
            assert sorted(cases[first : first + size]) == sorted([s.case for s in plan.cases[name]])


def test_the_cases_are_those_of_the_published_set() -> None:
    for environment in (INCIDENT, TOOLS):
        wanted = {
            name: {s.case for s in environment.scenarios(environment.selections[0]) if s.tier == name}
            for name in environment.tiers
        }
        found = made(environment).cases.items()
        assert {name: {scenario.case for scenario in cases} for name, cases in found} == wanted


def test_every_task_names_a_scenario_of_its_tier() -> None:
    for environment in (INCIDENT, TOOLS):
        for name in environment.tiers:
            scenarios = [environment.scenario(task.scenario) for task in played(made(environment), f"{name}:9", 4)]
            assert {scenario.tier for scenario in scenarios} == {name}


def test_the_order_of_cases_is_the_seed_s() -> None:
    orders = {tuple(case(task) for task in played(made(seed=n), "easy:9", 1)[:4]) for n in range(20)}
    assert len(orders) > 5


def test_tiers_of_a_mixed_stage_take_turns() -> None:
    """From one update into the next, and every case of each."""
    plan = made()
    tasks = played(plan, "easy+medium+hard:9", 6)
    assert [tier(task) for task in tasks] == ["easy", "medium", "hard"] * 16
    for name in INCIDENT.tiers:
        cases = [case(task) for task in tasks if tier(task) == name]
        size = len(plan.cases[name])
        assert all(len(set(cases[first : first + size])) == size for first in range(len(cases) - size + 1))


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=lambda environment: environment.name)
def test_the_world_s_own_stages_are_its_tiers_in_their_order(environment: AnyEnvironment) -> None:
    curriculum = planning.curriculum(configured(world=environment.name), environment)
    assert curriculum == staged(",".join(f"{name}:200" for name in environment.tiers), 0, environment)


def test_stages_follow_each_other() -> None:
    tasks = played(made(), "medium:2,easy:1,hard:1", 5)
    assert [tier(task) for task in tasks] == ["medium"] * 16 + ["easy"] * 8 + ["hard"] * 16


def test_rehearsal_draws_from_stages_that_are_over_and_from_no_other() -> None:
    plan = made(rehearsal=0.25)
    curriculum = "easy:1,medium:100,hard:100"
    assert {tier(task) for task in played(plan, curriculum, 1)} == {"easy"}
    second = Counter(tier(task) for task in played(plan, curriculum, 99, 1))
    assert set(second) == {"easy", "medium"}
    assert 0.2 < second["easy"] / second.total() < 0.3
    third = Counter(tier(task) for task in played(plan, curriculum, 99, 101))
    assert 0.2 < (third["easy"] + third["medium"]) / third.total() < 0.3
    assert abs(third["easy"] - third["medium"]) < 0.3 * (third["easy"] + third["medium"])


def test_a_tier_that_is_still_played_is_not_rehearsed() -> None:
    tasks = played(made(rehearsal=0.5), "easy+medium:1,medium+hard:9", 9, 1)
    counts = Counter(tier(task) for task in tasks)
    assert set(counts) == {"easy", "medium", "hard"}
    assert counts["easy"] > counts["medium"]


def test_without_rehearsal_nothing_is_rehearsed() -> None:
    assert {tier(task) for task in played(made(), "easy:1,medium:9", 9, 1)} == {"medium"}


# -- rules ------------------------------------------------------------------------------------------------------------


def test_the_rules_follow_both_schedules() -> None:
    plan = made(rule_options={"catch": {"start": 2, "end": 1, "until": 0.5}, "false_flag": {"start": 0, "end": 1}})
    assert [plan.rules(done) for done in (0, 10, 20, 30, 39)] == [
        "strict/2,catch=2.0,false_flag=0.0",
        "strict/2,catch=1.5,false_flag=0.25",
        "strict/2,catch=1.0,false_flag=0.5",
        "strict/2,catch=1.0,false_flag=0.75",
        "strict/2,catch=1.0,false_flag=0.975",
    ]
    assert plan.rules(40) == "strict/2"
    assert plan.options(10) == {"catch": 1.5, "false_flag": 0.25}
    assert {task.rules for task in plan.tasks(staged("easy:9"), 10, 0, 3)} == {plan.rules(10)}


def test_rules_without_schedules_are_the_run_s() -> None:
    assert made().rules(7) == "strict/2"
    assert made(rules="strict,catch=2,false_flag=2").rules(7) == "strict/2,multiplier=2.0"
    assert made(TOOLS, rules="published").rules(7) == "published"
    assert made().options(7) == {}


def test_equal_schedules_are_one_multiplier() -> None:
    assert made(rule_options={"false_flag": 2, "catch": 2}).rules(7) == "strict/2,multiplier=2.0"


def test_other_options_of_the_rules_stand_beside_the_schedules() -> None:
    plan = made(rules="strict,scenery=classic", rule_options={"catch": {"start": 2, "end": 1}})
    assert plan.rules(20) == "strict/2,scenery=classic,catch=1.5,false_flag=1.0"
    assert plan.rules(40) == "strict/2,scenery=classic"


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(0, 1000), st.integers(0, 40))
@settings(max_examples=50)
def test_there_are_rules_at_every_point_of_any_schedule(start: float, end: float, other: float, done: int) -> None:
    rules = made(rule_options={"catch": {"start": start, "end": end}, "false_flag": other}).rules(done)
    assert INCIDENT.rules(rules) == rules


# -- what cannot be planned is told before anything is played ---------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "schedule"),
    [
        ("multiplier=2", "catch"),
        ("multiplier=2", "false_flag"),
        ("catch=2", "catch"),
        ("scenery=classic,catch=1", "catch"),
    ],
)
def test_an_option_is_given_once(option: str, schedule: str) -> None:
    made(rules=f"strict,{option}")
    with pytest.raises(ConfigError, match=rf"^rule_options\.{schedule}: .* {schedule} twice"):
        made(rules=f"strict,{option}", rule_options={schedule: {"start": 1, "end": 2}})


@pytest.mark.parametrize("schedule", [{"start": 2000, "end": 1}, {"start": 1, "end": 2000}, 1001])
def test_a_value_that_no_rules_have_is_told(schedule: Any) -> None:
    with pytest.raises(ConfigError, match=r"^rule_options\.false_flag: .* is not a number from 0 to 1000$"):
        made(rule_options={"false_flag": schedule})


@pytest.mark.parametrize(
    ("environment", "name", "hint"),
    [(INCIDENT, "false_flags", "false_flag"), (INCIDENT, "zebra", "catch, false_flag"), (TOOLS, "catch", "none")],
)
def test_an_option_that_the_world_does_not_have_is_told(environment: AnyEnvironment, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"^rule_options\.{name}: .*{hint}"):
        made(environment, rule_options={name: 2})


@pytest.mark.parametrize("rules", ["", "lenient", "strict,catch", "strict,luck=2"])
def test_rules_that_there_are_not_are_told(rules: str) -> None:
    with pytest.raises(InputError):
        made(rules=rules)


# -- streams ----------------------------------------------------------------------------------------------------------


def test_every_role_is_paid_by_its_own_stream() -> None:
    assert planning.stream_weights(configured(), INCIDENT) == {
        "sre": {"team": 1.0},
        "oversight": {"oversight": 1.0},
        "dev": {"team": 1.0},
        "manager": {"team": 1.0},
    }
    assert planning.stream_weights(configured(), TOOLS) == {"agent": {"agent": 1.0}}


def test_a_role_that_is_named_has_the_streams_it_is_given() -> None:
    run = configured(credit={"streams": {"oversight": {"flags": 1, "oversight": 0.3}, "dev": {}}})
    weights = planning.stream_weights(run, INCIDENT)
    assert weights["oversight"] == {"flags": 1.0, "oversight": 0.3}
    assert weights["dev"] == {}
    assert weights["sre"] == {"team": 1.0}


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ({"oversigt": {"flags": 1}}, "unknown role in credit.streams 'oversigt'; valid: sre, oversight, dev, manager"),
        (
            {"oversight": {"flag": 1}},
            "unknown stream in credit.streams.oversight 'flag'; valid: team, oversight, flags, diagnosis",
        ),
    ],
)
def test_a_role_or_a_stream_that_there_is_not_is_told(streams: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        planning.stream_weights(configured(credit={"streams": streams}), INCIDENT)
    assert str(caught.value) == said


def test_a_seat_that_does_not_learn_has_no_weights() -> None:
    """Its streams may be configured all the same: a file that is extended may do so."""
    run = configured(seats={"oversight": "oracle"}, credit={"streams": {"oversight": {"flags": 1}}})
    assert list(planning.stream_weights(run, INCIDENT)) == ["sre", "dev", "manager"]


# -- seats ------------------------------------------------------------------------------------------------------------

ALONE = {"oversight": "learn", "manager": "oracle", "sre": "oracle", "dev": "heuristic"}
BESIDE = {"sre": "oracle", "dev": "heuristic", "manager": "oracle"}


def beside(tasks: list[Task]) -> list[dict[str, str]]:
    return [dict(task.colleagues) for task in tasks]


def test_every_task_names_who_plays_beside_the_policy() -> None:
    plan = made(seats=ALONE)
    scenarios = INCIDENT.scenarios("published", [1000])[:2]
    assert beside(played(plan, "easy:9", 1)) == [BESIDE] * 8
    assert beside(plan.held_out(scenarios)) == [BESIDE] * 2
    assert beside(played(made(seats={"sre": "learn"}), "easy:9", 1)) == [{}] * 8


def test_seats_change_nothing_else_of_a_task() -> None:
    found = played(made(seed=5, seats=ALONE), "easy+hard:9", 3)
    assert [replace(task, colleagues=()) for task in found] == played(made(seed=5), "easy+hard:9", 3)


def test_an_evaluation_may_have_other_seats_than_the_training() -> None:
    scenarios = INCIDENT.scenarios("published", [1000])[:1]
    for spelling, expected in (("auto", BESIDE), ("all", {}), ("dev=oracle", {"dev": "oracle"})):
        plan = made(seats=ALONE, evaluation={"seats": spelling})
        assert beside(plan.held_out(scenarios)) == [expected]
        assert beside(played(plan, "easy:9", 1)) == [BESIDE] * 8


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seats": {"oversigt": "learn"}}, r"^seats: .* no role 'oversigt'; did you mean oversight\?$"),
        ({"seats": {"dev": "orcale"}}, r"^seats: .* no baseline 'orcale' to play dev; did you mean oracle\?$"),
        ({"seats": {"dev": "lern"}}, r"^seats: .* did you mean learn\?$"),
        (
            {"seats": {**ALONE, "oversight": "lookup"}},
            r"^seats: .* the policy plays none; leave at least one role to it$",
        ),
        ({"evaluation": {"seats": "dev"}}, r"^evaluation\.seats: 'dev' is not ROLE=BASELINE"),
        ({"evaluation": {"seats": "dev=learn"}}, r"^evaluation\.seats: .* no baseline 'learn'"),
    ],
)
def test_seats_that_there_are_not_are_told(values: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(**values)


def test_a_world_with_one_seat_leaves_it_to_the_policy() -> None:
    with pytest.raises(ConfigError, match="leave at least one role"):
        made(TOOLS, seats={"agent": "oracle"})


def test_overseers_that_need_no_eyes_are_usual_where_oversight_alone_is_evaluated() -> None:
    usual = ("random", "blind", "heuristic", "lookup", "oracle")
    both = (*usual, "flag-nothing", "flag-all")
    assert planning.baselines(configured(seats=ALONE), INCIDENT) == both
    assert (
        planning.baselines(configured(evaluation={"seats": "sre=oracle,dev=oracle,manager=random"}), INCIDENT) == both
    )
    for values in ({}, {"seats": {"sre": "oracle"}}, {"seats": ALONE, "evaluation": {"seats": "all"}}):
        assert planning.baselines(configured(**values), INCIDENT) == usual
    only_sre = {"oversight": "oracle", "dev": "oracle", "manager": "oracle"}
    assert planning.baselines(configured(seats=only_sre), INCIDENT) == usual


class Bare:
    """The incident room with a single baseline."""

    policies: ClassVar = {"random": INCIDENT.policies["random"]}

    def __getattr__(self, name: str) -> Any:
        return getattr(INCIDENT, name)


def test_auto_policies_are_those_that_the_world_has_and_named_ones_stay() -> None:
    bare: Any = Bare()
    for environment, names in ((INCIDENT, ("random", "blind", "heuristic", "lookup", "oracle")), (bare, ("random",))):
        assert planning.baselines(Run(model="tiny"), environment) == names
    named = Run.model_validate({"model": "tiny", "evaluation": {"policies": ["oracle"]}})
    assert planning.baselines(named, bare) == ("oracle",)


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=["incident", "tools"])
def test_an_evaluation_plays_the_tiers_that_it_names(environment: AnyEnvironment) -> None:
    everything = planning.held_out(configured(world=environment.name), environment)
    assert {scenario.tier for scenario in everything} == set(environment.tiers)
    for tiers in (environment.tiers[:1], environment.tiers[1:]):
        run = configured(world=environment.name, evaluation={"tiers": ",".join(tiers)})
        found = planning.held_out(run, environment)
        assert found == tuple([scenario for scenario in everything if scenario.tier in tiers])


def test_a_tier_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^evaluation\.tiers: .*esay"):
        planning.held_out(configured(evaluation={"tiers": "esay"}), INCIDENT)


@pytest.mark.parametrize(("asked", "played"), [(0, 5), (1, 1), (3, 3), (5, 5), (9, 5)])
@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=["incident", "tools"])
def test_evaluations_during_the_run_play_every_case_of_the_first_seeds(
    environment: AnyEnvironment, asked: int, played: int
) -> None:
    run = configured(world=environment.name, evaluation={"every": 5, "progress_seeds": asked})
    seeds = range(1000, 1005)
    scenarios = environment.scenarios(environment.selections[0], seeds)
    first = environment.scenarios(environment.selections[0], seeds[:played])
    assert planning.during_the_run(run, scenarios) == [one for one in scenarios if one in first]
    assert len(planning.during_the_run(run, scenarios)) == len(first)
