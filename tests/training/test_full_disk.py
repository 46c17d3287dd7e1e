"""A run whose disk fills while it trains ends with a named error, and ends after a resume as if it had had room."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.files import in_words
from chaosops_ray.store.run_folder import EVALUATION, RunFolder
from chaosops_ray.training import launch
from tests.support.cluster import digests, make, ray_here, small_run
from tests.support.disk import mounted

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LITTLE = ("updates=3", "batch.scenarios=2", "batch.group=3", "rollout.shards=1", "checkpoint_every=1")
# Enough for the first version; for two versions and half a checkpoint; for two checkpoints. With what does not fit.
SIZES = {"360k": "adapters/policy-v1", "1300k": "update-000001", "4300k": "update-000003"}


def test_a_run_on_a_disk_that_fills_is_resumed_when_there_is_room(tmp_path: Path) -> None:
    run = small_run(*LITTLE, "evaluation.seeds=1000")
    with ray_here():
        plain = make(tmp_path / "plain", run)
        expected = launch.finish(plain, lambda _row: None, lambda _text: None).evaluation["cells"]
        for size, named in SIZES.items():
            with mounted(tmp_path / size, size) as disk:
                training = make(disk.path / "run", run)
                with pytest.raises((OSError, InputError)) as caught:
                    launch.finish(training, lambda _row: None, lambda _text: None)
                error = getattr(caught.value, "cause", caught.value)  # of the learner's process
                line = in_words(error) if isinstance(error, OSError) else str(error)
                assert line is not None
                assert f"{disk.path}/run" in line
                assert named in line
                assert os.strerror(errno.ENOSPC) in line
                assert not [name for name in disk.names() if name.endswith(".part")]
                assert not (disk.path / "run" / EVALUATION).exists()
                disk.remount("size=100m")
                resumed = training._replace(folder=RunFolder(disk.path / "run"))
                found = launch.finish(resumed, lambda _row: None, lambda _text: None)
                assert found.evaluation["cells"] == expected
                assert digests(resumed) == digests(plain)
                assert json.loads((disk.path / "run" / EVALUATION).read_text())["cells"] == expected
