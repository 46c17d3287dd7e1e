"""A configuration is read strictly: what cannot be used is told in one line that names where, which key, and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from chaosops_ray.config import MAX_FILE_BYTES, ConfigError, Layer, Run, Schedule, is_sweep, load, resolve
from scripts.config_reference import keys, reference

ROOT = Path(__file__).parents[1]
SHIPPED = [
    path
    for path in sorted((ROOT / "tune_configs").glob("*.yaml"))
    if path.stem != "ppo" and not is_sweep(yaml.safe_load(path.read_text()))
]


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(path: Path, *settings: str) -> str:
    """The one line that is said of it."""
    with pytest.raises(ConfigError) as caught:
        load(path, settings)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    for word in ("value error", "Input should", "valid dictionary", "instance of", "<unicode string>"):
        assert word not in said
    return said


def told(tmp_path: Path, text: str, *settings: str) -> str:
    """What is said of a file with this text, without its folder."""
    return refused(written(tmp_path, text), *settings).replace(f"{tmp_path}/", "")


# -- what is read -----------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    assert load(written(tmp_path, "model: tiny")) == Run(model="tiny")


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    run = load(
        written(
            tmp_path,
            """
            model: Qwen/Qwen2.5-3B-Instruct
            seed: 7
            sampler: vllm
            rule_options: {catch: 2, false_flag: {start: 0.05, end: 1, after: 0.1, until: 0.6}}
            rollout: {temperature: 1, structured: true}
            credit:
              streams: {oversight: {flags: 1, oversight: 0.3}}
            evaluation: {seeds: 2000-2009, policies: [random]}
            """,
        )
    )
    assert (run.model, run.seed, run.sampler) == ("Qwen/Qwen2.5-3B-Instruct", 7, "vllm")
    assert run.rule_options == {
        "catch": Schedule(start=2, end=2),
        "false_flag": Schedule(start=0.05, end=1, after=0.1, until=0.6),
    }
    assert (run.rollout.temperature, run.rollout.structured, run.rollout.shards) == (1.0, "choices", 2)
    assert run.credit.streams == {"oversight": {"flags": 1.0, "oversight": 0.3}}
    assert (run.evaluation.seeds, run.evaluation.policies) == ("2000-2009", ("random",))


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-3 as text."""
    run = load(
        written(tmp_path, "model: m\nalarm: {kl: 1e-3}\nlearner: {learning_rate: 1e-3, entropy: {start: 1e0, end: 0}}")
    )
    assert (run.alarm.kl, run.learner.learning_rate.start, run.learner.entropy.start) == (1e-3, 1e-3, 1.0)


@pytest.mark.parametrize("text", ["on", "no", "010", "0x1f", "12:30", "2001-01-02", "1_000", "1e5", "nan", "=", "<<"])
def test_text_is_text(tmp_path: Path, text: str) -> None:
    """What YAML 1.1 would take for a truth, a number in some base, a time or a date."""
    assert load(written(tmp_path, f"model: {text}")).model == text
    assert load(written(tmp_path, "model: tiny"), [f"model={text}"]).model == text


def test_a_single_seed_needs_no_quotes(tmp_path: Path) -> None:
    assert load(written(tmp_path, "model: tiny\nevaluation: {seeds: 1007}")).evaluation.seeds == "1007"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_files_can_be_used(path: Path) -> None:
    """As they are, where they name a model, and with the tiny one."""
    run = load(path, ["model=tiny"])
    assert run.sampler == "torch"
    assert (run.resources.learner_gpus, run.resources.sampler_gpus) == (0, 0)
    if "model" in yaml.safe_load(path.read_text()):
        assert load(path).model != "tiny"


# -- files that extend others -----------------------------------------------------------------------------------------


def test_sections_are_merged_and_anything_else_is_replaced(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        seed: 3
        rule_options: {catch: {start: 2, end: 1, until: 0.6}, false_flag: 3}
        batch: {scenarios: 4, group: 6}
        credit: {discount: 0.5, streams: {sre: {team: 2}}}
        evaluation: {policies: [random, oracle]}
        """,
        "below.yaml",
    )
    run = load(
        written(
            tmp_path,
            """
            extends: below.yaml
            model: m
            rule_options: {catch: {start: 3, end: 2}}
            batch: {group: 2}
            credit: {streams: {dev: {team: 1}}}
            evaluation: {policies: [heuristic]}
            """,
        )
    )
    assert (run.seed, run.batch.scenarios, run.batch.group, run.credit.discount) == (3, 4, 2, 0.5)
    assert run.rule_options == {"catch": Schedule(start=3, end=2), "false_flag": Schedule(start=3, end=3)}
    assert run.credit.streams == {"dev": {"team": 1.0}}
    assert run.evaluation.policies == ("heuristic",)


def test_extended_files_are_looked_up_beside_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    written(tmp_path, "seed: 5\nupdates: 9", "root.yaml")
    written(tmp_path / "deep", "extends: ../root.yaml\nupdates: 7", "middle.yaml")
    path = written(tmp_path / "deep" / "deeper", "extends: ../middle.yaml\nmodel: m")
    monkeypatch.chdir("/")
    assert (load(path).seed, load(path).updates) == (5, 7)


def test_a_long_chain_is_read(tmp_path: Path) -> None:
    """A thousand files are odd, and no reason to fall over."""
    written(tmp_path, "model: m\nseed: 5", "0.yaml")
    for number in range(1, 1500):
        written(tmp_path, f"extends: {number - 1}.yaml", f"{number}.yaml")
    assert load(tmp_path / "1499.yaml").seed == 5


def test_a_file_that_extends_itself(tmp_path: Path) -> None:
    written(tmp_path, "extends: two.yaml", "one.yaml")
    written(tmp_path, "extends: ./three.yaml", "two.yaml")
    written(tmp_path, "extends: one.yaml", "three.yaml")
    written(tmp_path, "extends: self.yaml", "self.yaml")
    for name in ("one", "self"):
        said = refused(tmp_path / f"{name}.yaml")
        assert "extends:" in said
        assert f"{name}.yaml makes a cycle" in said


def test_an_extended_file_that_is_not_there(tmp_path: Path) -> None:
    said = told(tmp_path, "extends: missing.yaml")
    assert said == (
        "run.yaml: extends: cannot read missing.yaml: No such file or directory; "
        "give a configuration such as tune_configs/3a.yaml"
    )


@pytest.mark.parametrize("value", ["3", "''", "[a.yaml]", "{a: b}", "true"])
def test_extends_names_one_file(tmp_path: Path, value: str) -> None:
    assert "run.yaml: extends must be " in told(tmp_path, f"extends: {value}")


@pytest.mark.parametrize("value", [r'"a\0b"', f'"{"a" * 300}"', f'"{"a/" * 5000}"'])
def test_extends_may_name_what_no_file_is_called(tmp_path: Path, value: str) -> None:
    assert told(tmp_path, f"extends: {value}").startswith("run.yaml: extends: ")


def test_links_in_a_ring_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").symlink_to("two.yaml")
    (tmp_path / "two.yaml").symlink_to("one.yaml")
    assert "one.yaml" in refused(tmp_path / "one.yaml")
    assert told(tmp_path, "extends: one.yaml").startswith("run.yaml: extends: ")


# -- the tiny model ---------------------------------------------------------------------------------------------------

TWIN = """
model: Qwen/Qwen2.5-3B-Instruct
updates: 600
rule_options: {catch: 2, false_flag: 5}
batch: {scenarios: 8, group: 8}
tiny:
  updates: 160
  rule_options: {catch: {start: 2, end: 1, until: 0.6}}
  batch: {group: 16}
"""


def catch(run: Run) -> Schedule:
    """One of the scheduled options; the other is nobody's but the file's."""
    assert run.rule_options["false_flag"] == Schedule(start=5, end=5)
    return run.rule_options["catch"]


def test_what_is_tiny_s_only_holds_for_tiny(tmp_path: Path) -> None:
    run = load(written(tmp_path, TWIN))
    assert (run.updates, run.batch.group, catch(run)) == (600, 8, Schedule(start=2, end=2))


@pytest.mark.parametrize("how", ["by hand", "in the file", "in a file above"])
def test_tiny_wins_over_the_files(tmp_path: Path, how: str) -> None:
    path = written(tmp_path, TWIN)
    if how == "in the file":
        path = written(tmp_path, TWIN.replace("Qwen/Qwen2.5-3B-Instruct", "tiny"))
    if how == "in a file above":
        path = written(
            tmp_path,
            "extends: run.yaml\nmodel: tiny\nupdates: 700\nrule_options: {catch: 3}\nbatch: {group: 9}",
            "above.yaml",
        )
    run = load(path, ["model=tiny"] if how == "by hand" else [])
    assert (run.model, run.updates, run.batch.scenarios, run.batch.group) == ("tiny", 160, 8, 16)
    assert catch(run) == Schedule(start=2, end=1, until=0.6)


def test_what_is_given_by_hand_wins_over_tiny(tmp_path: Path) -> None:
    run = load(written(tmp_path, TWIN), ["model=tiny", "updates=5", "batch.group=4", "rule_options.catch=0.5"])
    assert (run.updates, run.batch.scenarios, run.batch.group) == (5, 8, 4)
    assert catch(run) == Schedule(start=0.5, end=0.5)


def test_tiny_can_be_set_off_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path, TWIN.replace("Qwen/Qwen2.5-3B-Instruct", "tiny"))
    assert load(path, ["model=/models/mine"]).updates == 600


def test_a_file_may_say_which_tiny_model_is_its_twin(tmp_path: Path) -> None:
    path = written(tmp_path, f"{TWIN}  model: tiny-half\n")
    assert load(path).model == "Qwen/Qwen2.5-3B-Instruct"
    for asked in ("tiny", "tiny-half"):
        run = load(path, [f"model={asked}"])
        assert (run.model, run.updates, run.rendering) == ("tiny-half", 160, "compact")
    above = written(tmp_path, "extends: run.yaml\ntiny: {model: tiny}", "above.yaml")
    assert load(above, ["model=tiny"]).model == "tiny"
    assert load(above, ["model=tiny-half"]).model == "tiny-half"


def test_a_file_above_may_say_more_of_tiny(tmp_path: Path) -> None:
    written(tmp_path, TWIN)
    path = written(tmp_path, "extends: run.yaml\ntiny: {updates: 90, seed: 4, batch: {scenarios: 2}}", "above.yaml")
    run = load(path, ["model=tiny"])
    assert (run.updates, run.seed, run.batch.scenarios, run.batch.group) == (90, 4, 2, 16)


@pytest.mark.parametrize("model", ["tiny", "m"])
def test_mistakes_in_tiny_are_told_whatever_the_model(tmp_path: Path, model: str) -> None:
    said = told(tmp_path, f"model: {model}\ntiny: {{batch: {{groups: 3}}}}")
    assert said == "run.yaml: tiny.batch.groups: unknown key; did you mean group?"
    assert "tiny must be keys and values, got 3" in told(tmp_path, f"model: {model}\ntiny: 3")
    assert "tiny must be keys and values, got nothing" in told(tmp_path, f"model: {model}\ntiny:")
    said = told(tmp_path, f"model: {model}\ntiny: {{model: m}}")
    assert "tiny.model must be " in said
    for key in ("extends", "tiny"):
        assert f"tiny.{key}: unknown key" in told(tmp_path, f"model: {model}\ntiny: {{{key}: {{}}}}")


def test_a_value_of_tiny_s_that_cannot_be_is_said_to_be_tiny_s(tmp_path: Path) -> None:
    said = told(tmp_path, "model: tiny\nbatch: {group: 4}\ntiny: {batch: {group: 1}}")
    assert said.startswith("run.yaml: tiny.batch.group must be ")


# -- settings by hand -------------------------------------------------------------------------------------------------

BASE = """
model: m
rule_options: {false_flag: {start: 0.05, end: 1, after: 0.1, until: 0.6}}
learner: {entropy: {start: 0.4, end: 0.01, until: 0.8}, learning_rate: 3e-4}
credit: {discount: 0.9, streams: {oversight: {flags: 1.0, oversight: 0.3}, sre: {team: 2}}}
batch: {scenarios: 4, group: 6}
"""


def of(tmp_path: Path, *settings: str) -> Run:
    return load(written(tmp_path, BASE), settings)


def option(tmp_path: Path, name: str, *settings: str) -> Schedule:
    """An option of the rules; the other ones stay."""
    options = of(tmp_path, *settings).rule_options
    assert "false_flag" in options
    return options[name]


def test_a_number_over_a_schedule_is_a_constant(tmp_path: Path) -> None:
    assert option(tmp_path, "false_flag", "rule_options.false_flag=0.5") == Schedule(start=0.5, end=0.5)


def test_a_schedule_over_a_schedule_replaces_all_of_it(tmp_path: Path) -> None:
    assert option(tmp_path, "false_flag", "rule_options.false_flag={start: 3, end: 2}") == Schedule(start=3, end=2)


def test_one_figure_of_a_schedule_leaves_the_others(tmp_path: Path) -> None:
    run = of(tmp_path, "learner.entropy.start=0.1", "rule_options.false_flag.until=1")
    assert run.learner.entropy == Schedule(start=0.1, end=0.01, until=0.8)
    assert run.rule_options["false_flag"] == Schedule(start=0.05, end=1, after=0.1, until=1)


def test_one_figure_over_a_number_makes_a_schedule_of_it(tmp_path: Path) -> None:
    """Whether the number stands in the file, was set by hand or is the default."""
    assert of(tmp_path, "learner.learning_rate.end=0").learner.learning_rate == Schedule(start=3e-4, end=0)
    figures = ("rule_options.catch=3", "rule_options.catch.end=2", "rule_options.catch.until=0.5")
    assert option(tmp_path, "catch", *figures) == Schedule(start=3, end=2, until=0.5)
    assert of(tmp_path, "learner.entropy.start=2").learner.entropy == Schedule(start=2, end=0.01, until=0.8)


def test_one_figure_of_an_option_that_nothing_gives_is_half_a_schedule(tmp_path: Path) -> None:
    """What an option is worth by default, its world knows and this file does not."""
    assert "rule_options.catch.end is missing" in refused(written(tmp_path, BASE), "rule_options.catch.start=2")


def test_settings_are_taken_in_their_order(tmp_path: Path) -> None:
    catch = "rule_options.catch"
    assert option(tmp_path, "catch", f"{catch}.start=2", f"{catch}=3") == Schedule(start=3, end=3)
    assert of(tmp_path, "seed=1", "seed=2").seed == 2
    assert option(tmp_path, "catch", f"{catch}=3", f"{catch}.end=2", f"{catch}=4") == Schedule(start=4, end=4)


def test_a_section_by_hand_is_merged(tmp_path: Path) -> None:
    run = of(tmp_path, "batch={group: 2}", "batch.refill=0")
    assert (run.batch.scenarios, run.batch.group, run.batch.refill) == (4, 2, 0)


def test_one_weight_leaves_the_others(tmp_path: Path) -> None:
    run = of(tmp_path, "credit.streams.oversight.flags=2", "credit.streams.dev.team=0.5")
    assert run.credit.streams == {
        "oversight": {"flags": 2.0, "oversight": 0.3},
        "sre": {"team": 2.0},
        "dev": {"team": 0.5},
    }
    assert run.credit.discount == 0.9


def test_a_role_s_weights_by_hand_replace_its_weights(tmp_path: Path) -> None:
    assert of(tmp_path, "credit.streams.oversight={flags: 2}").credit.streams["oversight"] == {"flags": 2.0}
    assert of(tmp_path, "credit.streams={dev: {team: 1}}").credit.streams == {"dev": {"team": 1.0}}


def test_one_seat_by_hand_leaves_the_others_and_a_file_replaces_all(tmp_path: Path) -> None:
    written(tmp_path, "model: m\nseats: {sre: oracle, oversight: learn}", "below.yaml")
    path = written(tmp_path, "extends: below.yaml")
    run = load(path, ["seats.dev=heuristic"])
    assert run.seats == {"sre": "oracle", "oversight": "learn", "dev": "heuristic"}
    assert run.colleagues == {"sre": "oracle", "dev": "heuristic"}
    assert load(written(tmp_path, "extends: below.yaml\nseats: {dev: oracle}")).seats == {"dev": "oracle"}
    assert load(path, ["seats={}"]).colleagues == {}


def test_a_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    assert of(tmp_path, "rules=strict,catch=2").rules == "strict,catch=2"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("x", "--set 'x' "),
        ("", "--set '' "),
        ("=3", "--set '=3' "),
        ("lerner.lora_rank=3", "--set lerner: unknown key; did you mean learner?"),
        ("learner.lora_ranks=3", "--set learner.lora_ranks: unknown key; did you mean lora_rank?"),
        ("lora_rank=3", "--set lora_rank: unknown key; did you mean learner.lora_rank?"),
        ("learner.entropy.strat=3", "--set learner.entropy.strat: unknown key; did you mean start?"),
        ("learner={lora_rnk: 3}", "--set learner.lora_rnk: unknown key; did you mean lora_rank?"),
        ("rule_options.catch.x=3", "--set rule_options.catch.x: unknown key; known keys: start, end, after, until"),
        ("catch=3", "--set catch: unknown key; did you mean rule_options.catch?"),
        ("rule_options=3", "--set rule_options must be "),
        ("learner..lora_rank=3", "--set learner.'': unknown key; known keys: lora_rank, "),
        ("learner=3", "--set learner must be "),
        ("learner=", "--set learner must be "),
        (
            "learner.lora_rank.x=3",
            "--set learner.lora_rank.x: learner.lora_rank has no keys; ",
        ),
        ("model.x=3", "--set model.x: model has no keys; "),
        (
            "evaluation.policies.0=a",
            "--set evaluation.policies.0: evaluation.policies has no keys; ",
        ),
        ("credit.streams.a.b.c=3", "--set credit.streams.a.b.c: credit.streams.a.b has no keys; "),
        ("credit.streams.a=3", "--set credit.streams.a must be "),
        ("credit.streams.a.b=x", "--set credit.streams.a.b must be "),
        ("credit.streams.a.b=true", "--set credit.streams.a.b: "),
        ("tiny.seed=3", "--set tiny.seed: "),
        ("extends=a.yaml", "--set extends: "),
        ("seed=[1", "--set seed, line 1: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("seed=&a [*a]", "--set seed, line 1: aliases "),
        ("seed=!!int 3", "--set seed, line 1: tags "),
        ("seed={a: 1, a: 2}", "--set seed, line 1: duplicate key 'a'"),
        ("seed=\0", "--set seed: the character #x0000 "),
        ('model="\\UFFFFFFFF"', "--set model: "),
        ("seed=" + "[" * 5000, "--set seed: nested too deeply"),
    ],
)
def test_a_wrong_setting_is_told(tmp_path: Path, setting: str, said: str) -> None:
    assert refused(written(tmp_path, BASE), setting).startswith(said)


def test_a_setting_within_what_the_file_has_wrong(tmp_path: Path) -> None:
    assert told(tmp_path, "model: m\nbatch: 3", "batch.group=2") == (
        "--set batch.group: batch is 3, which has no keys; fix batch first"
    )


# -- values that cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch: {group: 1}", "batch.group must be "),
        ("batch: {group: 2.5}", "batch.group must be "),
        ("batch: {group: true}", "batch.group must be "),
        ("batch: {group: many}", "batch.group must be "),
        ("batch: {group: }", "batch.group must be "),
        ("batch: {group: [2]}", "batch.group must be "),
        ("batch: 3", "batch must be "),
        ("batch: [3]", "batch must be "),
        ("batch:", "batch must be "),
        ("seed: -1", "seed must be "),
        ("seed: 2147483648", "seed must be "),
        (f"seed: {'9' * 5000}", "seed"),
        ("rollout: {temperature: 0}", "rollout.temperature must be "),
        ("rollout: {temperature: true}", "rollout.temperature must be "),
        ("rollout: {temperature: .inf}", "rollout.temperature must be "),
        ("rollout: {deadline: .inf}", "rollout.deadline must be "),
        ("rollout: {deadline: 1e999}", "rollout.deadline must be "),
        ("rollout: {structured: 2}", "rollout.structured must be "),
        ("alarm: {kl: .nan}", "alarm.kl must be "),
        ("sampler: tensorflow", "sampler must be "),
        ("learner: {loss: ppo}", "learner.loss must be "),
        ("rules: 3", "rules must be "),
        ("rules: false", "rules must be "),
        ("evaluation: {seeds: 1.5}", "evaluation.seeds must be "),
        ("evaluation: {policies: random}", "evaluation.policies must be "),
        ("evaluation: {policies: []}", "evaluation.policies must "),
        ("evaluation: {policies: [1]}", "evaluation.policies.0 must be "),
        ("rule_options: {catch: -1}", "rule_options.catch.start must be "),
        ("rule_options: {catch: true}", "rule_options.catch must be "),
        ("rule_options: {catch: much}", "rule_options.catch.start must be "),
        ("rule_options: {catch: [1, 2]}", "rule_options.catch must be "),
        ("rule_options: {catch: {start: 1}}", "rule_options.catch.end is missing"),
        ("rule_options: {catch: {start: 1, end: true}}", "rule_options.catch.end must be "),
        ("rule_options: {catch: {start: 1, end: 2, until: 0}}", "rule_options.catch.until must be "),
        ("rule_options: {catch: {start: 1, end: 2, after: .5, until: .5}}", "rule_options.catch: until must be greater than after"),
        ("rule_options: {catch: {start: 1, end: 2, utnil: 1}}", "rule_options.catch.utnil: unknown key; did you mean until?"),
        ("learner: {learning_rate: {start: -1, end: 2}}", "learner.learning_rate.start must be "),
        ("credit: {streams: [1]}", "credit.streams must be "),
        ("credit: {streams: {sre: 1}}", "credit.streams.sre must be "),
        ("credit: {streams: {sre: {team: x}}}", "credit.streams.sre.team must be "),
        ("credit: {streams: {sre: {team: .nan}}}", "credit.streams.sre.team must be "),
        ("credit: {streams: {sre: {team: true}}}", "credit.streams.sre.team: "),
        ("temperature: 1", "temperature: unknown key; did you mean rollout.temperature?"),
        ("zebra: 1", "zebra: unknown key; known keys: world, rules, model, "),
        ("rollout: {zebra: 1}", "rollout.zebra: unknown key; known keys: shards, temperature, "),
        ('"a\\nb": 1', "a b: unknown key; known keys: "),
        (f"{'k' * 500}: 1", f"{'k' * 60}: unknown key; known keys: "),
        ("catch: 2", "catch: unknown key; did you mean rule_options.catch?"),
        ("tiny: {false_flag: 2}", "tiny.false_flag: unknown key; did you mean rule_options.false_flag?"),
        ("rule_options: [1]", "rule_options must be "),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert told(tmp_path, f"model: m\n{text}").startswith(f"run.yaml: {said}")


@pytest.mark.parametrize(
    ("text", "expected", "got"),
    [
        ("batch: {group: 2.5}", "integer", "2.5"),
        ("seed: -1", "0", "-1"),
        ("rollout: {temperature: 0}", "greater than 0", "0"),
        ("sampler: tensorflow", "'torch' or 'vllm'", "'tensorflow'"),
        ("evaluation: {policies: random}", "tuple", "'random'"),
        ("alarm: {kl: }", "number", "nothing"),
    ],
)
def test_an_error_names_the_permitted_values_and_the_given_one(
    tmp_path: Path, text: str, expected: str, got: str
) -> None:
    said = told(tmp_path, f"model: m\n{text}")
    assert expected in said
    assert said.endswith(f", got {got}")


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    assert told(tmp_path, "seed: 3").startswith("run.yaml: model is missing")


def test_a_wrong_value_is_told_by_the_file_that_has_it(tmp_path: Path) -> None:
    written(tmp_path, "seed: -1\nrule_options: {catch: {start: -1, end: 2}}\nalarm: {kl: 0}", "below.yaml")
    catch = "rule_options.catch"
    above = "extends: below.yaml\nmodel: m\n"
    assert told(tmp_path, above).startswith("below.yaml: seed ")
    assert told(tmp_path, above, "seed=3").startswith(f"below.yaml: {catch}.start ")
    assert told(tmp_path, above + "seed: -2").startswith("run.yaml: seed ")
    assert told(tmp_path, above + "seed: 1\nrule_options: {catch: {start: 1}}").startswith(f"run.yaml: {catch}.end ")
    assert told(tmp_path, above + "seed: 1\nrule_options: {catch: 1}").startswith("below.yaml: alarm.kl ")
    assert told(tmp_path, above, "seed=-3").startswith("--set seed ")
    assert told(tmp_path, above, "seed=3", f"{catch}.until=0.5").startswith(f"below.yaml: {catch}.start ")
    assert told(tmp_path, above, "seed=3", f"{catch}=-2").startswith(f"--set {catch}.start ")
    assert told(tmp_path, above, "seed=3", f"{catch}=2", "alarm={action: warn}").startswith("below.yaml: alarm.kl ")
    written(tmp_path, "sede: 1", "below.yaml")
    assert told(tmp_path, above) == "below.yaml: sede: unknown key; did you mean seed?"


# -- files that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "run.yaml has no keys and values; "),
        (b"- model\n", "run.yaml has no keys and values; "),
        (b"tiny", "run.yaml has no keys and values; "),
        (b"\xff\xfe\x00", "run.yaml is not a UTF-8 text file; "),
        (b"\x7fELF\x01\x00", "run.yaml: the character #x007f "),
        (b"model: m\nseed: 1\nseed: 2\n", "run.yaml, line 3: duplicate key 'seed'"),
        (b"model: m\nbatch: {group: 3, group: 4}\n", "run.yaml, line 2: duplicate key 'group'"),
        (b"model: m\ntiny: {seed: 3, seed: 4}\n", "run.yaml, line 2: duplicate key 'seed'"),
        (b"model: m\n1: 2\n", "run.yaml, line 2: a key must be text; put it in quotes"),
        (b"model: m\n? [a]\n: 2\n", "run.yaml, line 2: a key must be text; put it in quotes"),
        (b"model: m\n? {a: b}\n: 2\n", "run.yaml, line 2: a key must be text; put it in quotes"),
        (b"model: m\nbatch: {true: 2}\n", "run.yaml, line 2: a key must be text; put it in quotes"),
        (b"model: [m\n", "run.yaml, line 2: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        (b'model: m\nrules: "\\ud800"\n', "run.yaml, line 2: "),
        (b'model: m\nrules: "\\UFFFFFFFF"\n', "run.yaml: "),
        (b"model: m\n---\nmodel: m\n", "run.yaml, line 2: expected a single document in the stream, but found another"),
        (b"model: !!python/object:os.system x\n", "run.yaml, line 1: tags "),
        (b"model: !!set {a}\n", "run.yaml, line 1: tags "),
        (b"model: &a [*a]\n", "run.yaml, line 1: aliases "),
        (b"model: *nobody\n", "run.yaml, line 1: aliases "),
        (b"model: " + b"[" * 20_000, "run.yaml: nested too deeply"),
        (b"a: " * 2, "run.yaml, line 1: mapping values are not allowed here"),
        (b"model: m\n" + b"#" * MAX_FILE_BYTES, f"run.yaml is larger than {MAX_FILE_BYTES} bytes"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert refused(path).replace(f"{tmp_path}/", "").startswith(said)


def test_laughing_aliases_take_no_time_and_no_memory(tmp_path: Path) -> None:
    lines = [
        "a0: &a0 {x: 1}",
        *[f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 30)],
    ]
    assert "aliases" in told(tmp_path, "\n".join([*lines, "model: *a29"]))


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    remedy = "; give a configuration such as tune_configs/3a.yaml"
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (written(tmp_path, "") / "within", "Not a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
        (Path("a\0b"), "not a valid path"),
        (Path("\udcff\ud800"), "not a valid path"),
    ):
        assert refused(path).endswith(f": {reason}{remedy}")


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        assert refused(path) == f"{path} is not a regular file; give a configuration such as tune_configs/3a.yaml"


def test_lines_in_names_make_no_lines_in_errors(tmp_path: Path) -> None:
    assert "two lines" in refused(tmp_path / "two\nlines")


# -- schedules --------------------------------------------------------------------------------------------------------


def test_a_schedule_runs_from_one_figure_to_the_other() -> None:
    schedule = Schedule(start=2, end=1, after=0.25, until=0.75)
    assert [schedule.at(done, 8) for done in range(9)] == [2, 2, 2, 1.75, 1.5, 1.25, 1, 1, 1]
    assert [Schedule(start=0, end=1).at(done, 4) for done in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert Schedule(start=3, end=3).at(17, 40) == 3


def test_a_schedule_outlives_its_run() -> None:
    """A run that is asked for no updates, and one that goes on past its end."""
    assert Schedule(start=2, end=1).at(0, 0) == 2
    assert Schedule(start=2, end=1).at(100, 10) == 1


@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_min=True),
    st.integers(0, 1000), st.integers(1, 1000),
)  # fmt: skip
def test_a_schedule_stays_between_its_figures(
    start: float, end: float, after: float, until: float, done: int, updates: int
) -> None:
    if after >= until:
        with pytest.raises(ValueError, match="until must be greater"):
            Schedule(start=start, end=end, after=after, until=until)
        return
    schedule = Schedule(start=start, end=end, after=after, until=until)
    assert min(start, end) - 1e-9 <= schedule.at(done, updates) <= max(start, end) + 1e-9
    assert schedule.at(0, updates) == start
    assert schedule.at(updates, updates) == end


# -- the reference ----------------------------------------------------------------------------------------------------


def fields(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every field that is no section, found without the help of `keys`."""
    found = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not Schedule:
            found += fields(inner, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def test_every_key_is_listed_and_explained() -> None:
    assert [name for name, *_ in keys()] == fields(Run)
    for name, kind, default, meaning in (*keys(), *keys(Schedule)):
        assert kind, name
        assert default, name
        assert meaning, f"{name} has no description"
        assert "|" not in kind + default + meaning, f"{name} would break the table"


def test_the_listed_defaults_are_what_a_file_would_have_to_say(tmp_path: Path) -> None:
    """Each of them, set by hand, changes nothing."""
    path = written(tmp_path, "model: m")
    for name, _, default, _ in keys():
        if default != "required":
            assert load(path, [f"{name}={default}"]) == load(path), name


def test_the_page_of_the_configuration_is_up_to_date() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == reference(), "run `make docs`"


# -- round trip, and anything at all ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(0, 1e300)


@st.composite
def schedules(draw: st.DrawFn) -> Any:
    after, until = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True)))
    return {"start": draw(NUMBERS), "end": draw(NUMBERS), "after": after, "until": until}


RUNS = st.fixed_dictionaries(
    {"model": TEXT},
    optional={
        "rules": TEXT,
        "seed": st.integers(0, 2**31 - 1),
        "updates": st.integers(1, 10**30),
        "rehearsal": st.floats(0, 0.999),
        "rule_options": st.dictionaries(TEXT, NUMBERS | schedules(), max_size=3),
        "seats": st.dictionaries(TEXT, TEXT, max_size=3),
        "batch": st.fixed_dictionaries({}, optional={"group": st.integers(2, 1000), "refill": st.integers(0, 9)}),
        "rollout": st.fixed_dictionaries(
            {"structured": st.sampled_from(["no", "choices", "schema"]), "deadline": st.floats(1e-300, 1e300)}
        ),
        "credit": st.fixed_dictionaries({"streams": st.dictionaries(TEXT, st.dictionaries(TEXT, NUMBERS, max_size=3))}),
        "learner": st.fixed_dictionaries({"learning_rate": schedules(), "loss": st.sampled_from(["dapo", "gspo"])}),
        "evaluation": st.fixed_dictionaries({"seeds": TEXT, "policies": st.lists(TEXT, min_size=1, max_size=3)}),
    },
)
TRICKY = [
    "1e5",
    "1e-3",
    "nan",
    "no",
    "0o7",
    "010",
    "1_0",
    "12:30",
    "~",
    "null",
    "",
    "=",
    "<<",
    "2001-01-02",
    " a",
    "a: b",
    "#",
]
# The file is written anew for each example; nothing of one is left for the next.
fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(RUNS)
@fuzzed
def test_what_is_dumped_is_read_back_equal(tmp_path: Path, values: dict[str, Any]) -> None:
    run = resolve([Layer("drawn", values)], {})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    assert load(path) == run


@pytest.mark.parametrize("text", TRICKY)
def test_text_that_looks_like_something_else_is_read_back(tmp_path: Path, text: str) -> None:
    run = Run(model=text, credit={"streams": {text: {text: 1}}})  # type: ignore[arg-type]
    assert load(written(tmp_path, yaml.safe_dump(run.model_dump(mode="json")))) == run


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_run_is_read_back_equal(tmp_path: Path, path: Path) -> None:
    """The configuration of a run folder has no `tiny:` any more, and needs none."""
    run = load(path, ["model=tiny"])
    assert load(written(tmp_path, yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))) == run


def either(path: Path, *given: str) -> Run | None:
    """A run, or an error of one line; nothing else is ever raised."""
    try:
        return load(path, given)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 2000
        return None


@given(st.binary(max_size=200))
@fuzzed
def test_any_bytes_are_a_run_or_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    either(path)


KEYS = st.sampled_from([name for name, *_ in keys()] + ["tiny", "extends", "batch", "learner.entropy.start"]) | TEXT
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(TRICKY)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*Run.model_fields, "tiny", "extends"])
SECTIONS = st.sampled_from([name.partition(".")[2] for name, *_ in keys() if "." in name])


@given(st.dictionaries(FIELDS | TEXT, VALUES | st.dictionaries(SECTIONS, VALUES, max_size=3), max_size=5))
@fuzzed
def test_any_yaml_is_a_run_or_an_error(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"model": "tiny", **values}), encoding="utf-8")
    run = either(path)
    if run is not None:
        assert load(written(tmp_path, yaml.safe_dump(run.model_dump(mode="json")), "again.yaml")) == run


SETTINGS = st.text(max_size=30) | st.builds(
    "{}={}".format,
    KEYS,
    st.text(max_size=20) | VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)


@given(st.lists(SETTINGS, max_size=3))
@fuzzed
def test_any_settings_are_a_run_or_an_error(tmp_path: Path, given: list[str]) -> None:
    either(written(tmp_path, BASE), *given)


@given(st.text("{}[]&*!|>'\"%@`#-?:, \n\tabe<=.~0", max_size=60))
@fuzzed
def test_any_near_yaml_is_a_run_or_an_error(tmp_path: Path, text: str) -> None:
    either(written(tmp_path, f"model: m\n{text}"))
    either(written(tmp_path, BASE), f"learner={text}")
