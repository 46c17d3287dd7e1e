"""The learner on a GPU. Skipped where torch sees none; on a machine with one: pytest tests/learner/test_gpu.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from chaosops_ray.config import Run
from chaosops_ray.learner.learner import Learner
from chaosops_ray.learner.probe import TOLERANCE_BF16
from chaosops_ray.store import versions
from chaosops_ray.wire import EpisodeReport, Group, Task, Trajectory, Turn
from tests.support.models import MODULES, VOCABULARY, small_model
from tests.support.trainers import tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
BASE = "b" * 64
TEXTS = ((5, 6, 7, 8, 9), (10, 11, 12))


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    folder = tmp_path_factory.mktemp("gpu")
    model = small_model(folder / "model")
    tokenizer().save_pretrained(model)
    learner = {"lora_rank": 4, "lora_alpha": 8, "learning_rate": 1e-2, "tokens_per_forward": 256}
    run = Run.model_validate({"model": str(model), "updates": 4, "learner": learner, "rollout": {"max_tokens": 4}})
    return Learner(run, model.name, model, BASE, {"sre": {"team": 1.0}})


def group(seed: int) -> Group:
    """Four episodes of one role, of which two went well."""
    draw = random.Random(seed)
    trajectories = []
    for member in range(4):
        tokens = tuple([draw.randrange(1, VOCABULARY) for _ in range(20)])
        turns = [
            Turn(start, start + 3, (-4.0, -4.0, -4.0), {"team": float(member % 2)}, 0, "digest") for start in (5, 12)
        ]
        trajectories.append(Trajectory("sre", member, tokens, tuple(turns)))
    task = Task(f"g{seed}", "incident/db_deadlock/easy/0", "strict", 4, seed)
    report = EpisodeReport(task.scenario, "easy", 0.0, 0.0, {}, {"sre": 0.0}, {}, (), ())
    return Group(task, tuple(trajectories), (report,) * 4, 0)


def test_the_first_probe_is_computed_on_the_gpu_in_its_precision(learner: Learner) -> None:
    """It comes before the trainer exists, which used to move the model."""
    probe = learner.probe(TEXTS)
    assert {weight.device.type for weight in learner._model.parameters()} == {"cuda"}
    assert probe.tolerance == TOLERANCE_BF16
    assert probe.modules == MODULES
    assert probe.expected == probe.base, "B begins at zero"


def test_an_update_changes_the_policy_and_not_its_base(learner: Learner) -> None:
    before = learner.probe(TEXTS)
    found = learner.update([group(0), group(1)], 0)
    assert found["gradient_norm"] > 0
    after = learner.probe(TEXTS)
    assert after.base == before.base
    assert after.expected != before.expected
    with learner._model.disable_adapter(), torch.no_grad():
        ids = torch.tensor([TEXTS[0]], device="cuda")
        scores = learner._model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        base = scores.gather(-1, ids[0, 1:, None])[:, 0].tolist()
    assert base == pytest.approx(before.base[0], abs=TOLERANCE_BF16), "what was scored before the trainer existed holds"


def test_what_is_saved_on_a_gpu_is_restored_and_published_alike(learner: Learner, tmp_path: Path) -> None:
    saved, files = learner.save(1), learner.adapter()
    version = versions.publish(tmp_path, 1, BASE, files)
    learner.update([group(2)], 1)
    assert learner.adapter() != files
    learner.restore(saved)
    assert learner.adapter() == files, "the same weights are the same bytes"
    assert versions.verify(version, BASE).modules == MODULES
