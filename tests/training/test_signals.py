"""A run that is told to end, as a command: by SIGTERM, and by Ray when it takes a node away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.workers.stop import END_SECONDS, TO_BE_RESUMED
from tests.support.cluster import CONFIGS, SMALL

pytestmark = [pytest.mark.cluster]

ROOT = Path(__file__).parents[2]


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """The checkpoint that is due is far away; there is one nevertheless."""
    out = tmp_path / "run"
    settings = [*SMALL, "updates=500", "curriculum=easy:500", "checkpoint_every=500"]
    given = [str(CONFIGS / "3a.yaml"), "--out", str(out), *[part for one in settings for part in ("--set", one)]]
    command = [sys.executable, "-m", "chaosops_ray.cli", "train", *given]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    told = next(line for line in run.stdout if " 2/500 " in line)
    assert told
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=END_SECONDS + 30)
    assert run.returncode == TO_BE_RESUMED, said
    folder = RunFolder(out)
    (done,) = folder.checkpoints()
    assert done >= 2
    assert len(folder.check()) == done
    assert said.count("\n") == 1
    assert f"update {done} of 500" in said
    assert f"--resume {out}" in said


DRAINED = """
import ray
from ray._private.worker import global_worker
from ray.core.generated import autoscaler_pb2
from chaosops_ray.training import launch

assert launch.draining() is None
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
busy = ray.remote(dict).options(num_cpus=1).remote()  # a node without work is gone at once
ray.get(busy.__ray_ready__.remote())
assert launch.draining() is None
node = ray.get_runtime_context().get_node_id()
reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
accepted, why = global_worker.gcs_client.drain_node(node, reason, "a test", 2**62)
assert accepted, why
assert "drain" in launch.draining()
print("told")
"""


def test_a_node_that_is_drained_is_a_reason_to_end() -> None:
    ran = subprocess.run([sys.executable, "-c", DRAINED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines()[-1:] == ["told"], ran.stderr
