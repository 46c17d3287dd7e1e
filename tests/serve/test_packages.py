"""The OpenEnv packages in deploy/openenv: what they declare is what the program does, and OpenEnv finds no fault."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from openenv.validation import Level, run_validation
from openenv.validation.graders import Subject
from openenv.validation.graders.runtime import ObservationSchemaGrader, RewardWellFormedGrader, StateContractGrader
from openenv.validation.parsers.openenv_yaml import OpenEnvYamlParser
from openenv.validation.runtime.collector import collect_runtime_evidence
from openenv.validation.runtime.contracts import load_runtime_plan
from openenv.validation.types import CheckStatus

from chaosops_ray import __version__, cli
from chaosops_ray.serve.app import create_app
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.tasks import Catalog
from chaosops_ray.sim import ENVIRONMENTS, play
from tests.support.served import running

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "deploy" / "openenv"
# The worlds whose upper bound of rewards some episode reaches.
REACHED = ("incident", "tools")


@pytest.fixture(params=ENVIRONMENTS)
def world(request: pytest.FixtureRequest) -> Any:
    return ENVIRONMENTS[request.param]


@pytest.fixture
def declared(world: Any) -> Any:
    return yaml.safe_load((PACKAGES / world.name / "openenv.yaml").read_text())


def test_every_world_has_a_package() -> None:
    assert {path.name for path in PACKAGES.iterdir()} == set(ENVIRONMENTS)


def test_what_is_declared_is_so(world: Any, declared: Any) -> None:
    rules, catalog = world.rule_sets[0], Catalog(world)
    assert declared["version"] == __version__
    found = declared["validation"]
    assert tuple(found["reward"]["range"]) == world.reward_range(rules)
    assert found["task_distribution"]["dataset_version"] == rules
    counts = {split: len(catalog.tasks(split)) for split in catalog.splits}
    assert found["capabilities"]["declared_task_count"] == counts


def test_the_oracle_of_the_package_earns_the_most_there_is(world: Any, declared: Any) -> None:
    """As much as the bound where an episode can reach it, and always more than every other baseline."""
    script = (PACKAGES / world.name / declared["validation"]["capabilities"]["oracle"]["location"]).read_text()
    (command,) = re.findall(r"^exec chaosops (.*)$", script, re.MULTILINE)
    given = cli.parser().parse_args(shlex.split(command))
    scenario, rules = world.scenario(given.scenario), world.rule_sets[0]
    earned = {
        name: play(world, scenario, rules, build(scenario, rules)).total for name, build in world.policies.items()
    }
    assert earned[given.policy] == max(earned.values())
    high = world.reward_range(rules)[1]
    assert earned[given.policy] == high if world.name in REACHED else 0 < earned[given.policy] < high


def test_the_image_serves_the_world_of_its_folder(world: Any) -> None:
    (line,) = re.findall(r"^CMD (\[.*)$", (PACKAGES / world.name / "Dockerfile").read_text(), re.MULTILINE)
    program, *arguments = json.loads(line)
    given = cli.parser().parse_args(arguments)
    assert (program, given.command, given.world, given.port) == ("chaosops", "serve", world.name, 8000)


@pytest.mark.parametrize("level", [Level.STATIC, Level.SEMANTIC])
def test_openenv_validate_fails_nothing_that_runs_without_docker(world: Any, level: Level) -> None:
    report = run_validation(PACKAGES / world.name, max_level=level, skip_build=True)
    assert report.verdict.value == ("pass" if level is Level.STATIC else "warn")
    statuses = {result.status for result in report.results}
    assert statuses <= {CheckStatus.PASS, CheckStatus.SKIP}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenEnv's collector names things of websockets that are old
def test_the_runtime_checks_of_openenv_pass_on_a_running_server(world: Any) -> None:
    """What `openenv validate` does in a container, without the container."""
    root = PACKAGES / world.name
    manifest = OpenEnvYamlParser().parse(root)
    plan = load_runtime_plan(root, manifest.execution)
    limits = Limits()
    with running(create_app(world, world.rule_sets[0], limits=limits), limits) as where:
        evidence = collect_runtime_evidence(f"http://{where}", plan, episode_timeout_s=120.0)
    assert evidence.failure_reason is None
    assert json.loads(evidence.exchanges[-2].response_json)["data"]["done"]
    subject = Subject(root, manifest, None, None, root / "outputs", runtime_evidence=evidence)
    for grader in (RewardWellFormedGrader(), ObservationSchemaGrader(), StateContractGrader()):
        result = grader.run(subject)
        # The grader gives its own process five seconds, which it may not get on a busy machine.
        is_slow = result.evidence == ["observation schema evaluation exceeded its time budget"]
        assert result.status is CheckStatus.PASS or is_slow, result.evidence
