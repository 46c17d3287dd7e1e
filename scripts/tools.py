"""Install the programs that some tests drive and pip has not: a browser, a Prometheus server, an accessibility checker.

    python -m scripts.tools

Programs come from Debian's packages, where this is root on such a system; the checker comes from npm. What cannot be
installed is named, and its tests are skipped. Where CHAOSOPS_TOOLS_REQUIRED is set, as in CI, that is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where this variable is set, tests whose tool is missing fail instead of being skipped.
REQUIRED = "CHAOSOPS_TOOLS_REQUIRED"
PROGRAMS = {"chromium": "chromium", "prometheus": "prometheus"}  # by name, the Debian package
AXE = ROOT / ".venv" / "axe-core" / "axe.min.js"
_AXE_PACKAGE = "axe-core@4.14.1"


def main() -> int:
    """Install what is missing; say what is still missing after that."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if packages:
        _apt(packages)
    if not AXE.exists() and shutil.which("npm") is not None:
        _axe()
    missing = [name for name in PROGRAMS if shutil.which(name) is None] + ([] if AXE.exists() else [_AXE_PACKAGE])
    if missing:
        print(f"not installed: {', '.join(missing)}; tests that need them are skipped", file=sys.stderr)
    return 1 if missing and os.environ.get(REQUIRED) else 0


def _apt(packages: list[str]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    for package in packages:  # each alone, so that one that is not to be had stops no other
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - ours


def _axe() -> None:
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(  # noqa: S603 - ours
            ["npm", "pack", "--silent", _AXE_PACKAGE], cwd=folder, capture_output=True, text=True, check=False
        )
        if packed.returncode:
            return
        with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as archive:
            member = archive.extractfile("package/axe.min.js")
            if member is not None:
                AXE.parent.mkdir(parents=True, exist_ok=True)
                AXE.write_bytes(member.read())


if __name__ == "__main__":
    sys.exit(main())
