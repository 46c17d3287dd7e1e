"""Sweeps are read as strictly as runs, and every one that is shipped resolves, full-size and tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.config import ConfigError, Schedule, is_sweep
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import run_folder
from chaosops_ray.sweeps import spec
from chaosops_ray.training import check
from tests.support.runs import INCIDENT
from tests.support.sweeps import CONFIGS

FILES = sorted(CONFIGS.glob("*.yaml"))
SWEEPS = [path for path in FILES if is_sweep(yaml.safe_load(path.read_text()))]
# ppo.yaml is of another trainer; tests/integrations/test_rllib.py reads it.
RUNS = [path for path in FILES if path not in SWEEPS and path.stem not in ("defaults", "ppo")]
TWINS = pytest.mark.parametrize("settings", [[], ["model=tiny"]], ids=["full", "tiny"])


def test_all_that_was_published_is_there() -> None:
    assert {path.stem for path in RUNS} == {*PUBLISHED, "oversight", "tools", "fleet", "fleet_oversight", "smollm2"}
    assert {path.stem for path in SWEEPS} == {"phase3", "multiplier", "curriculum", "learning_rate", "seats"}
    for path in RUNS:
        assert len(path.read_text().splitlines()) < 30


@TWINS
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_resolves_and_names_only_what_there_is(path: Path, settings: list[str]) -> None:
    run = check.read(path, settings, None)
    check.look_over(run)
    assert (run.model in ("tiny", "tiny-half")) == bool(settings)
    stages = [stage.rpartition(":") for stage in run.curriculum.split(",")]
    assert run.curriculum == "adaptive" or sum([int(updates) for *_, updates in stages]) == run.updates


# What the write-up has of each run.
PUBLISHED = {
    "p0": ("Qwen/Qwen2.5-1.5B-Instruct", 400, "easy:400", 16, 5e-6, 1, 1),
    "p1": ("Qwen/Qwen2.5-1.5B-Instruct", 400, "easy:400", 16, 2e-5, 1, 1),
    "p2": ("Qwen/Qwen2.5-1.5B-Instruct", 600, "easy:200,medium:200,hard:200", 32, 2e-5, 1, 1),
    "3a": ("Qwen/Qwen2.5-3B-Instruct", 600, "easy:200,medium:200,hard:200", 32, 2e-5, 2, 2),
    "3b": ("Qwen/Qwen2.5-1.5B-Instruct", 600, "easy:200,medium:200,hard:200", 32, 2e-5, 2, 2),
    "3c": ("Qwen/Qwen2.5-1.5B-Instruct", 600, "hard:200,medium:200,easy:200", 32, 2e-5, 2, 2),
    "anneal": ("Qwen/Qwen2.5-3B-Instruct", 600, "easy:200,medium:200,hard:200", 32, 2e-5, 2, 1),
    "7b": ("Qwen/Qwen2.5-7B-Instruct", 600, "easy:200,medium:200,hard:200", 32, 2e-5, 2, 2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_run_is_what_was_published(name: str) -> None:
    run = check.read(CONFIGS / f"{name}.yaml", [], None)
    rate = run.learner.learning_rate
    catch, false_flag = [run.rule_options.get(one, Schedule(start=1, end=1)) for one in ("catch", "false_flag")]
    found = (run.model, run.updates, run.curriculum, run.learner.lora_rank, rate.start, catch.start, catch.end)
    assert found == PUBLISHED[name]
    assert false_flag == catch
    assert rate.start == rate.end
    assert run.rollout.temperature == 0.8


@TWINS
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_resolves_and_its_claims_can_be_decided(path: Path, settings: list[str]) -> None:
    found, trials = spec.load_sweep(path, settings)
    assert spec.look_over(found, trials) is INCIDENT
    assert len({trial.name for trial in trials}) == len(trials)
    assert {trial.arm for trial in trials} == set(found.arms)


def test_arms_of_one_seed_come_before_the_next_seed() -> None:
    _, trials = spec.load_sweep(CONFIGS / "phase3.yaml", ["model=tiny"], "4-5")
    assert [trial.name for trial in trials] == ["3a-s4", "3b-s4", "3c-s4", "3a-s5", "3b-s5", "3c-s5"]
    assert [trial.run.seed for trial in trials] == [4, 4, 4, 5, 5, 5]
    assert [trial.run.model for trial in trials[:3]] == ["tiny", "tiny-half", "tiny-half"]


def test_settings_go_to_every_arm() -> None:
    _, trials = spec.load_sweep(CONFIGS / "phase3.yaml", ["model=tiny", "updates=7", "learner.lora_rank=4"])
    assert {(trial.run.updates, trial.run.learner.lora_rank) for trial in trials} == {(7, 4)}


def test_what_arms_have_in_common_lies_between_their_files_and_their_own_words(tmp_path: Path) -> None:
    extended = {"extends": str(CONFIGS / "3a.yaml")}
    path = written(
        tmp_path,
        arms={"a": extended, "b": {**extended, "updates": 8, "tiny": {"batch": {"group": 3}}}},
        common={"updates": 7, "tiny": {"updates": 9, "batch": {"group": 2}}},
        seeds="0",
    )
    found = {trial.arm: trial.run for trial in spec.load_sweep(path)[1]}
    assert (found["a"].updates, found["b"].updates) == (7, 8)
    tiny = {trial.arm: trial.run for trial in spec.load_sweep(path, ["model=tiny"])[1]}
    assert [(run.updates, run.batch.scenarios, run.batch.group) for run in tiny.values()] == [(9, 8, 2), (9, 8, 3)]
    with pytest.raises(ConfigError, match=r"sweep.yaml: common: modle: unknown key"):
        spec.load_sweep(written(tmp_path, common={"modle": "m"}))


def test_draws_cover_their_range_and_are_named_by_their_factor() -> None:
    found, trials = spec.load_sweep(CONFIGS / "learning_rate.yaml", ["model=tiny"])
    plain = {trial.arm: trial.run.learner.learning_rate for trial in trials}
    base = plain.pop("published")
    factors = [float(arm.partition("-x")[2]) for arm in plain]
    assert factors == sorted(factors)
    assert len(set(factors)) == 9
    assert 0.1 <= factors[0] < 0.17 < 6 < factors[-1] <= 10
    for rate, factor in zip(plain.values(), factors, strict=True):
        scaled = Schedule(**{**base.model_dump(), "start": base.start * factor, "end": base.end * factor})
        assert rate == scaled
    assert not found.draws
    assert list(found.arms) == ["published", *plain]


def test_what_was_written_is_read_back_with_the_runs_of_its_folders(tmp_path: Path) -> None:
    found, trials = spec.load_sweep(CONFIGS / "learning_rate.yaml", ["model=tiny", "updates=9"])
    for trial in trials:
        run_folder.RunFolder.create(tmp_path / "trials" / trial.name, check.written(trial.run))
    (tmp_path / "sweep.yaml").write_text(spec.written(found))
    assert spec.begun(tmp_path) == (found, trials)
    assert {trial.run.rules for trial in trials} == {"strict/2"}
    changed = tmp_path / "trials" / trials[-1].name / run_folder.CONFIG
    changed.write_text(changed.read_text().replace("rules: strict/2", "rules: strict"))
    with pytest.raises(InputError) as told:
        spec.begun(tmp_path)
    assert f"{changed.parent}, config.yaml: rules strict/1 are not played" in str(told.value)


def test_a_name_of_rules_without_its_version_is_the_same_rules(tmp_path: Path) -> None:
    arm = {"extends": str(CONFIGS / "3a.yaml")}
    path = written(tmp_path, arms={"a": {**arm, "rules": "strict"}, "b": {**arm, "rules": "strict/2", "updates": 7}})
    assert spec.look_over(*spec.load_sweep(path)) is INCIDENT
    path = written(tmp_path, arms={"a": {**arm, "rules": "strict"}, "b": {**arm, "rules": "strict/2"}})
    with pytest.raises(ConfigError, match="same run"):
        spec.look_over(*spec.load_sweep(path))


def written(folder: Path, **values: Any) -> Path:
    given = {
        "arms": {"a": {"extends": str(CONFIGS / "3a.yaml")}, "b": {"extends": str(CONFIGS / "3b.yaml")}},
        "reference": "a",
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (given | values).items() if value is not None}))
    return path


CLAIM = {"claim": "x", "more": "a", "than": "b", "on": "hard"}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a key that is none": ({"arm": {}}, "sweep.yaml: arm: unknown key; did you mean arms?"),
    "a key of a claim that is none": (
        {"hypotheses": [{**CLAIM, "form": "mean"}]},
        "sweep.yaml: hypotheses.0.form: unknown key; known keys: claim",
    ),
    "a claim without a tier": ({"hypotheses": [{"claim": "x", "more": "a", "than": "b"}]}, "hypotheses.0.on is missing"),
    "a typo within an arm": ({"arms": {"a": {"extends": str(CONFIGS / "3a.yaml"), "modle": "m"}}}, "arms.a: modle: unknown"),
    "an arm that extends nothing": ({"arms": {"a": {"extends": "none.yaml"}}}, "arms.a: extends: cannot read"),
    "an arm that is no folder": ({"arms": {"../a": {"extends": str(CONFIGS / "3a.yaml")}}}, "arms: '../a'"),
    "no arms": ({"arms": {}}, "has no arms"),
    "no reference": ({"reference": None}, "reference is missing"),
    "a reference that is no arm": ({"reference": "c"}, "reference 'c'"),
    "seeds that are none": ({"seeds": "many"}, "seeds 'many'"),
    "too many trials": ({"seeds": "0-9999"}, "more than 1000 trials"),
    "an arm called as a policy is": (
        {"arms": {"oracle": {"extends": str(CONFIGS / "3a.yaml")}}, "reference": "oracle"},
        "arms: oracle is the name of a policy",
    ),
    "the same run twice": (
        {"arms": {name: {"extends": str(CONFIGS / "3a.yaml")} for name in ("a", "b")}},
        "arms a and b",
    ),
    "draws that fall together": (
        {"draws": {"d": {"extends": str(CONFIGS / "3a.yaml"), "key": "updates", "low": 1, "high": 1.001, "count": 9}}},
        "d-x1",
    ),
    "a claim about nobody": ({"hypotheses": [{**CLAIM, "more": "c"}]}, "hypotheses.0"),
    "a claim about one arm alone": ({"hypotheses": [{**CLAIM, "than": "a"}]}, "itself"),
    "a claim of no figure": ({"hypotheses": [{**CLAIM, "of": "luck"}]}, "'luck'"),
    "a claim on no tier": ({"hypotheses": [{**CLAIM, "on": "extreme"}]}, "'extreme'"),
    "published figures of no arm": ({"published": {"c": {}}}, "'c'"),
    "published figures of no tier": ({"published": {"a": {"extreme": {}}}}, "'extreme'"),
    "published figures that are none": ({"published": {"a": {"hard": {"luck": 1}}}}, "'luck'"),
    "arms in two worlds": (
        {"arms": {"a": {"extends": str(CONFIGS / "3a.yaml")}, "b": {"extends": str(CONFIGS / "3a.yaml"), "world": "tools", "curriculum": "warmup:600"}}},
        "world",
    ),
    "a draw of what is no figure": (
        {"draws": {"d": {"extends": str(CONFIGS / "3a.yaml"), "key": "learner.loss", "low": 1, "high": 2, "count": 2}}},
        "draws.d.key: learner.loss",
    ),
    "a draw without width": (
        {"draws": {"d": {"extends": str(CONFIGS / "3a.yaml"), "key": "seed", "low": 2, "high": 2, "count": 2}}},
        "high",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(tmp_path: Path, mistake: str) -> None:
    values, key = MISTAKES[mistake]
    with pytest.raises((ConfigError, InputError)) as told:
        spec.look_over(*spec.load_sweep(written(tmp_path, **values)))
    assert key in str(told.value)
    assert "\n" not in str(told.value)


def test_arms_that_learn_other_seats_are_compared_in_the_same_ones(tmp_path: Path) -> None:
    """Otherwise their baselines would differ, and the difference would be that of their colleagues."""
    arms = {"a": {"extends": str(CONFIGS / "3a.yaml")}, "b": {"extends": str(CONFIGS / "oversight.yaml")}}
    with pytest.raises(ConfigError, match=r"arms a and b are evaluated in different seats; set evaluation\.seats"):
        spec.look_over(*spec.load_sweep(written(tmp_path, arms=arms)))
    common = {"evaluation": {"seats": "dev=oracle"}}
    spec.look_over(*spec.load_sweep(written(tmp_path, arms=arms, common=common)))


def test_a_run_is_no_sweep_and_a_seed_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chaosops train"):
        spec.load_sweep(CONFIGS / "3a.yaml")
    with pytest.raises(ConfigError, match="--seeds"):
        spec.load_sweep(written(tmp_path), ["seed=3"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    values=st.dictionaries(
        st.sampled_from(["arms", "draws", "seeds", "reference", "retries", "stop_early", "hypotheses", "published"]),
        JSON,
    )
)
def test_whatever_a_file_holds_the_error_is_one_line(values: dict[str, Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "sweep.yaml"
    path.write_text(yaml.safe_dump({"arms": {}} | values), encoding="utf-8")
    with pytest.raises((ConfigError, InputError)) as told:
        spec.load_sweep(path)
    assert "\n" not in str(told.value)
