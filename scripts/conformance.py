"""Run the conformance suites of other libraries against the installed wheel, in a folder outside of the repository.

`make conformance` runs it. It builds the wheel and installs it with the extras `serve` and `gym` into an environment of
its own. There, from a temporary folder, it runs the suites of Gymnasium and PettingZoo, unmodified, and `openenv
validate --url` on a server for each world.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.pip_settings import environment

ROOT = Path(__file__).parents[1]
WORLDS = ("incident", "tools")
STARTS_WITHIN = 60.0
# PettingZoo recommends names such as player_0 for agents; ours have the names of their roles.
SUITES = """
import sys, warnings
from types import SimpleNamespace
import gymnasium
import chaosops_ray
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test
from chaosops_ray.integrations import aec
from chaosops_ray.integrations.single_seat import SPEC
from chaosops_ray.sim import environment_named

assert chaosops_ray.__file__.startswith(sys.prefix), chaosops_ray.__file__
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="We recommend agents to be named")
for world in sys.argv[1:]:
    for role in environment_named(world).roles:
        # Without a spec, the suite warns that it cannot try the other render modes.
        check_env(gymnasium.make(SPEC, world=world, role=role, render_mode="ansi").unwrapped)
    print(f"{world}: check_env for every role", flush=True)
    api_test(aec.env(world=world), num_cycles=200)
    parallel_api_test(aec.parallel_env(world=world), num_cycles=200)
    seed_test(lambda: aec.env(world=world))
    parallel_seed_test(lambda: aec.parallel_env(world=world))
    max_cycles_test(SimpleNamespace(
        env=lambda **more: aec.env(world=world, tiers=(environment_named(world).tiers[-1],), **more),
        parallel_env=lambda **more: aec.parallel_env(world=world, tiers=(environment_named(world).tiers[-1],), **more),
    ))
    print(f"{world}: api_test, parallel_api_test, seed_test, parallel_seed_test, max_cycles_test", flush=True)
"""


@contextmanager
def serving(command: Path, world: str, folder: Path, port: int) -> Iterator[str]:
    """Run a server of the installed package; yield its address when it answers, and print how long that took."""
    began, url = time.monotonic(), f"http://127.0.0.1:{port}"
    server = subprocess.Popen([command, "serve", world, "--port", str(port)], cwd=folder)  # noqa: S603
    try:
        while not answers(f"{url}/health"):
            if server.poll() is not None:
                raise SystemExit(f"chaosops serve {world} ended with exit code {server.returncode}")
            if time.monotonic() - began > STARTS_WITHIN:
                raise SystemExit(f"chaosops serve {world} did not answer /health within {STARTS_WITHIN:g} s")
            time.sleep(0.1)
        print(f"{world}: /health answered after {time.monotonic() - began:.1f} s", flush=True)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def answers(url: str) -> bool:
    """Tell if something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of this machine
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def main() -> None:
    """Build, install, check; the first failure ends it."""
    variables = environment(os.environ)
    uv = str(Path(sys.executable).with_name("uv"))

    def run(*command: object, cwd: Path) -> None:
        subprocess.run([str(part) for part in command], cwd=cwd, env=variables, check=True)  # noqa: S603

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
        (wheel,) = folder.glob("*.whl")
        run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
        bin_folder = folder / "venv" / "bin"
        into = ("--python", bin_folder / "python", "-c", ROOT / "constraints.txt")
        run(uv, "pip", "install", "--quiet", "--compile-bytecode", *into, f"{wheel}[serve,gym]", cwd=folder)
        run(bin_folder / "python", "-c", SUITES, *WORLDS, cwd=folder)
        for port, world in enumerate(WORLDS, start=8431):
            with serving(bin_folder / "chaosops", world, folder, port) as url:
                run(bin_folder / "openenv", "validate", "--url", url, cwd=folder)


if __name__ == "__main__":
    main()
