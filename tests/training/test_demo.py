"""What `make demo` shows: held-out results on its way, and at its end a verdict and the command to watch the policy."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray import cli, config
from chaosops_ray.reports.verdict import verdict
from chaosops_ray.sim import ENVIRONMENTS, environment_of
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import launch

ROOT = Path(__file__).parents[2]
INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
DEMO = ROOT / "tune_configs" / "3a.yaml"
TINY = ["--set", "model=tiny"]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_short_demo_in_a_pipe(tmp_path: Path) -> None:
    settings = ["updates=2", "evaluation.every=1", "evaluation.seeds=1000-1001", "evaluation.progress_seeds=1"]
    given = [str(DEMO), *TINY, *[part for one in settings for part in ("--set", one)], "--out", "demo"]
    command = [sys.executable, "-m", "chaosops_ray.cli", "train", *given]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    shown = [line for line in lines if line.startswith("held out")]
    assert [re.sub(r"[+−][0-9.]+|[0-3](?= of)", "N", line) for line in shown] == [
        f"held out after update {update}, on {scenarios} scenarios: "
        "easy N (heuristic N) · medium N (N) · hard N (N) · ahead on N of 3 tiers"
        for update, scenarios in ((1, 11), (2, 22))
    ]
    verdict_line, report_line, watch_line = lines[-3:]
    found = json.loads((tmp_path / "demo" / "evaluation.json").read_text())
    assert verdict_line == f"verdict: {verdict(INCIDENT, found)}"
    page = Path(report_line.removeprefix("report: "))
    assert page == tmp_path / "demo" / "report.html"
    assert "Verdict: " in page.read_text(encoding="utf-8")
    assert watch_line == "watch it play: chaosops play incident/rogue_deploy_bot/hard/1000 --policy trained=demo"
    rows = RunFolder(tmp_path / "demo").metrics()
    assert set(rows[0]["evaluation"]["heuristic"]) == set(INCIDENT.tiers)


@pytest.mark.parametrize(
    ("environment", "settings", "scenario", "more"),
    [
        (INCIDENT, [], "incident/rogue_deploy_bot/hard/1000", []),
        (INCIDENT, ["evaluation.seeds=7"], "incident/rogue_deploy_bot/hard/7", []),
        # Other rules than those that play would take have to be said.
        (
            INCIDENT,
            ["rules=published"],
            "incident/rogue_deploy_bot/hard/1000",
            ["--rules", INCIDENT.rules("published")],
        ),
        (TOOLS, ["world=tools", "rule_options={}", "curriculum=auto"], None, []),
    ],
)
def test_the_command_to_watch_names_a_held_out_scenario_of_the_hardest_tier(
    environment: object, settings: list[str], scenario: str | None, more: list[str]
) -> None:
    run = config.load(DEMO, ["model=tiny", *settings])
    world = ENVIRONMENTS[run.world]
    assert world is environment
    arguments = launch.to_watch(run, world, "runs/my run")
    given = cli.parser().parse_args(arguments)
    assert (given.command, given.policy) == ("play", "trained=runs/my run")
    assert scenario in (None, given.scenario)
    assert environment_of(given.scenario).scenario(given.scenario).tier == world.tiers[-1]
    assert arguments[4:] == more
    assert shlex.split(shlex.join(arguments)) == arguments


@pytest.mark.parametrize(
    ("called", "on_path", "shown"),
    [
        (".venv/bin/chaosops", False, ".venv/bin/chaosops"),
        ("/somewhere/else/chaosops", True, "/somewhere/else/chaosops"),
        ("bin/chaosops", True, "chaosops"),
        ("/package/chaosops_ray/cli.py", False, "chaosops"),
    ],
)
def test_the_command_is_spelled_so_that_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, on_path: bool, shown: str
) -> None:
    """`.venv/bin/chaosops` in the demo, which is not on the path; just its name where the shell found it by that."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "chaosops"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent) if on_path else str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program) if called == "bin/chaosops" else called])
    assert cli._called() == shown
