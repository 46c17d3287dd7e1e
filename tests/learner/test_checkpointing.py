"""Which layers compute their activations again, and that no gradient depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chaosops_ray.config import Learner
from chaosops_ray.learner.checkpointing import GIB, Estimate, choose, room_on_a_gpu
from tests.support.models import small_model, small_peft
from tests.support.trainers import HARMLESS, Watched, random_rows, sampled_by

pytestmark = [pytest.mark.filterwarnings(one) for one in HARMLESS]

# Ten layers that keep 3 GiB each, or 1 GiB if they are computed again.
ESTIMATE = Estimate(10, 5 * GIB, 3 * GIB, GIB, None)


@pytest.mark.parametrize(("room", "layers"), [(36, 0), (35, 0), (34, 1), (33, 1), (32, 2), (16, 10), (1, 10)])
def test_so_many_layers_are_computed_again_as_the_room_asks_for(room: int, layers: int) -> None:
    found = choose("auto", 10, ESTIMATE, room * GIB)
    assert found.layers == layers
    needed = ESTIMATE.rest + (10 - layers) * ESTIMATE.kept + layers * ESTIMATE.again
    assert needed <= room * GIB or layers == 10
    if layers:
        assert needed + ESTIMATE.kept - ESTIMATE.again > room * GIB, "one fewer would not fit"
    assert found.why.startswith("no layers" if not layers else f"{layers} of 10 layers")


def test_what_is_configured_is_not_estimated_and_what_is_unknown_is_not_guessed() -> None:
    assert choose(setting=False, layers=10, estimate=ESTIMATE, room=0) == (0, "no layers, as configured")
    assert choose(setting=True, layers=10, estimate=ESTIMATE, room=100 * GIB) == (10, "all layers, as configured")
    assert choose("auto", 10, None, 100 * GIB).layers == 10
    assert "could not be estimated" in choose("auto", 10, None, 100 * GIB).why


def test_a_learner_takes_its_share_of_a_gpu_and_all_of_it_while_the_engine_sleeps() -> None:
    assert room_on_a_gpu(1000, 0.5, alone=False) == 450
    assert room_on_a_gpu(1000, 0.5, alone=True) == 900
    assert room_on_a_gpu(1000, 2, alone=False) == 900


def test_gradients_are_the_same_to_the_bit_however_many_layers_are_computed_again(tmp_path: Path) -> None:
    path = small_model(tmp_path / "model")
    settings = Learner.model_validate({"tokens_per_forward": 128, "lora_rank": 4})
    options = [Watched(small_peft(path, seed=1, scale=0.1), settings, tmp_path, layers) for layers in (0, 1, 2)]
    rows = sampled_by(options[0], random_rows(3), noise=0.6)
    counts = []
    for trainer in options:
        counted: list[int] = []
        for layer in trainer.model.get_base_model().model.layers:
            layer.self_attn.register_forward_hook(lambda *_, counted=counted: counted.append(1))
        trainer.update(rows, rate=0.0, entropy=0.1, seed=0)
        counts.append(len(counted))
    plain, one, both = counts
    passes = len(options[0].losses)
    assert (one - plain, both - plain) == (passes, 2 * passes)
    for other in options[1:]:
        assert other.seen[0].keys() == options[0].seen[0].keys()
        assert all(torch.equal(gradient, options[0].seen[0][name]) for name, gradient in other.seen[0].items())
