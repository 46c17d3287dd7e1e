"""Work that is killed, or fails, at each of its steps on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The interpreter announces each step on disk just before it: there the process is killed, or the step fails. Work may
# announce more of its own, by sys.audit("step").
SCRIPT = """
import errno, os, signal, sys
from pathlib import Path

{setup}

def stopped(at):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        opens = event == "open" and str(arguments[0]).startswith(sys.argv[1])  # and no module that is imported
        if opens or event in ("step", "os.rename", "os.mkdir", "os.rmdir", "os.remove"):
            seen += 1
            if seen == at and {kills}:
                os.kill(os.getpid(), signal.SIGKILL)
            if seen == at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return hook

for at in range(1, 1000):
    folder = Path(sys.argv[1], f"{{at:03d}}")
    folder.mkdir()
    prepare(folder)
    child = os.fork()
    if not child:
        sys.addaudithook(stopped(at))
        try:
            work(folder)
        except OSError as error:
            os._exit(1 if error.errno == errno.ENOSPC else 2)
        except BaseException as error:
            os._exit(1 if "No space" in str(error) else 2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        sys.exit(0)
    if code != (-signal.SIGKILL if {kills} else 1):
        sys.exit(f"step {{at}} ended with {{code}}")
sys.exit("it never came to its end")
"""


def stopped_at_each_step(folder: Path, setup: str, *, kills: bool) -> list[Path]:
    """The folders in which `work(folder)` was stopped at its first step, its second, and so on; in the last it was not.

    `setup` defines `prepare(folder)` and `work(folder)`. With `kills` the process is killed, otherwise the step fails
    as on a full disk, and `work` must raise that error.
    """
    ran = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT.format(setup=setup, kills=kills), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return sorted(folder.iterdir())
