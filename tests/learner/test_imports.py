"""The libraries that a learner loads."""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = """
import json, sys
import chaosops_ray.learner.learner, chaosops_ray.learner.grpo, chaosops_ray.learner.sft
loaded = "vllm" in sys.modules
import vllm
from trl.import_utils import is_vllm_available
print(json.dumps({"loaded": loaded, "version": vllm.__version__, "available": is_vllm_available()}))
"""


def test_a_learner_does_not_load_the_engine_and_leaves_it_importable() -> None:
    ran = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert not found["loaded"]
    assert found["version"]
    assert found["available"]
