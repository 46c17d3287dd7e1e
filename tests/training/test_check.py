"""What is refused of a configuration whose completions have a JSON Schema, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosops_ray.config import ConfigError, Rollout, Run
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.training import check, policies
from tests.support.tokenizers import byte_tokenizer, saved


def run(model: str, **given: object) -> Run:
    rollout = {"structured": "schema", **given}
    return Run.model_validate({"model": model, "world": "incident", "rollout": rollout})


def test_a_schema_is_for_the_full_style() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.structured: schema is for the full style.*use choices or no"):
        check.look_over(run("tiny"))
    with pytest.raises(ConfigError, match=r"rollout\.structured: schema is for the full style"):
        policies.base_model(environment_named("incident"), "tiny", "torch", structured="schema")


@pytest.mark.parametrize(("world", "needed"), [("incident", 73), ("tools", 87)])
def test_max_tokens_has_room_for_each_kind_of_action(tmp_path: Path, world: str, needed: int) -> None:
    environment = environment_named(world)
    model = str(saved(tmp_path, byte_tokenizer()))
    check.check_schema(run(model, max_tokens=needed).model_copy(update={"world": world}), environment)
    with pytest.raises(ConfigError, match=rf"rollout\.max_tokens: {needed - 1} are too few.*give {needed} or more"):
        check.check_schema(run(model, max_tokens=needed - 1), environment)


def test_what_was_true_or_false_is_still_read() -> None:
    assert [Rollout.model_validate({"structured": one}).structured for one in (True, False)] == ["choices", "no"]
