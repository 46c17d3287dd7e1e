"""The benchmark of memory: its rows are as large as they may be, its learner works, and its bar is kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks import footprint
from tests.support.models import VOCABULARY, small_model
from tests.support.tokenizers import chat_tokenizer, saved


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(small_model(tmp_path_factory.mktemp("model")), chat_tokenizer())


@pytest.mark.parametrize("settings", [(), footprint.CHOICES, footprint.SCHEMA])
def test_a_row_has_as_many_written_tokens_as_it_can(model: Path, settings: tuple[str, ...]) -> None:
    run = footprint.run_of(footprint.learner(128, 64, *settings), model, on_gpu=False)
    row = footprint.row_of(run, model, 64, random.Random(0))
    assert len(row.tokens) == 64
    assert len(row.at) == 64 - -(-64 // (min(run.rollout.max_tokens, 63) + 1))
    assert 0 not in row.at
    assert max(row.tokens) < VOCABULARY
    assert [row.allowed is not None, row.masks is not None] == [
        settings == footprint.CHOICES,
        settings == footprint.SCHEMA,
    ]


@pytest.mark.parametrize("case", [footprint.learner(128, 64), footprint.learner(1024, 512, *footprint.WHOLE)])
def test_the_learner_does_what_it_does_in_a_run(model: Path, case: footprint.Case) -> None:
    footprint.work_as_learner(footprint.run_of(case, model, on_gpu=False), model)


def test_whole_actions_take_as_much_of_a_row_as_is_estimated(model: Path) -> None:
    run = footprint.run_of(footprint.learner(1024, 512, *footprint.WHOLE), model, on_gpu=False)
    found, draw = footprint.trees(run, model), random.Random(0)
    assert 0 < found.turn <= found.row
    row = footprint.row_of(run, model, 512, draw)
    assert row.kind == "choices"
    assert 0.7 * found.row < row.size - len(row.tokens) <= found.row


def test_every_case_is_a_configuration_that_can_be_read(model: Path) -> None:
    for case in footprint.CASES:
        run = footprint.run_of(case, model, on_gpu=False)
        assert run.sampler == ("vllm" if case.process == "vllm" else "torch")
        if case.process == "learner":
            # The batch is one micro-batch.
            assert run.batch.group * run.resources.context == run.learner.tokens_per_forward


@pytest.mark.parametrize(("ratio", "code"), [(1.19, 0), (0.81, 0), (1.21, 1), (0.79, 1)])
def test_an_estimate_that_is_a_fifth_off_is_a_failure(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ratio: float,
    code: int,
) -> None:
    def compared(case: footprint.Case, _model: Path, *, on_gpu: bool) -> dict[str, Any]:
        assert not on_gpu
        return {"process": case.process, "estimate": ratio * 2**30, "measured": 2**30, "ratio": ratio, "parts": {}}

    monkeypatch.setenv("CHAOSOPS_ON_CPU", "1")
    monkeypatch.setattr(footprint, "compared", compared)
    out = tmp_path / "found.json"
    assert footprint.main(["--model", str(model), "--number", "0", "--json", str(out)]) == code
    assert f"{ratio:.2f}" in capsys.readouterr().out
    assert [case["process"] for case in json.loads(out.read_text())["cases"]] == ["learner"]
