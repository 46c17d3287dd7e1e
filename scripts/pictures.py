"""Draw the pictures in docs/images. `make docs` runs this script."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from rich.console import Console

from chaosops_ray.cli import main as chaosops
from chaosops_ray.reports import playback
from chaosops_ray.sim import environment_of, play
from chaosops_ray.sim.contract import AnyEpisode

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SCENARIO = "incident/autoscaler_cost_cut/hard/17"
WIDTH = 126


def board() -> None:
    """Draw the board of an episode that the oracle plays."""
    environment = environment_of(SCENARIO)
    scenario = environment.scenario(SCENARIO)
    frames: list[AnyEpisode] = []
    play(environment, scenario, "strict", environment.policies["oracle"](scenario, "strict"), frames.append)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(playback.drawn(playback.shown(environment, frames[-1]), WIDTH))
    svg = console.export_svg(title=f"chaosops play {SCENARIO}")
    # The picture must not fetch anything: it uses the fixed-width font that the reader has, not a web font.
    svg = re.sub(r"@font-face\s*{.*?}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    (IMAGES / "play.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def main() -> None:
    """Draw the board and the plots."""
    board()
    arguments = ["evaluate", "--policies", "random,blind,heuristic,lookup,oracle", "--seeds", "1000-1019"]
    with contextlib.redirect_stdout(io.StringIO()):
        chaosops([*arguments, "--plots", str(IMAGES)])


if __name__ == "__main__":
    main()
