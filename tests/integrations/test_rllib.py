"""The RLlib environment, and PPO as a player: no Ray starts here but in the tests that are marked so."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.utils.pre_checks.env import check_multiagent_environments

from chaosops_ray.cli import main
from chaosops_ray.integrations.rllib import policy, settings, training
from chaosops_ray.integrations.rllib.environment import Table
from chaosops_ray.integrations.rllib.network import Network
from chaosops_ray.integrations.rllib.settings import Ppo
from chaosops_ray.sim import ENVIRONMENTS, InputError
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.store import files
from chaosops_ray.store.episodes import differences, read_episodes
from tests.support.bare import WORLDS
from tests.support.cluster import ray_here

ROOT = Path(__file__).parents[2]
INCIDENT = ENVIRONMENTS["incident"]
SIZE = 64
SMALL = Ppo(features=SIZE, hidden=8, steps=64, batch=32, minibatch=8, epochs=1, episodes=4, probe=3, probe_every=1)
# Gymnasium warns of the second run in one process, for which RLlib registers its environment again.
SECOND_RUN = pytest.mark.filterwarnings("ignore:.*Overriding environment")


# -- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", WORLDS, ids=lambda world: world.name)
def test_rllib_s_own_check_passes(environment: AnyEnvironment) -> None:
    check_multiagent_environments(Table({"world": environment}))


def test_a_role_may_be_paid_by_other_streams() -> None:
    weights = {"oversight": {"flags": 1.0, "team": 0.1}, "sre": {"diagnosis": 2.0}}
    table = Table({"pay": "return", "weights": weights})
    table.reset(options={"scenario": "incident/db_deadlock/easy/1"})
    right = INCIDENT.vocabulary("sre").index("cause db_deadlock")  # type: ignore[union-attr]
    _, rewards, *_ = table.step({"sre": right})
    assert rewards == {"sre": 60.0, "oversight": pytest.approx(2.8), "dev": 28.0, "manager": 28.0}
    wrong = INCIDENT.vocabulary("oversight").index("flag autoscaler")  # type: ignore[union-attr]
    _, rewards, *_ = table.step({"oversight": wrong})
    assert rewards["oversight"] == pytest.approx(-75.4)


# -- the policy -------------------------------------------------------------------------------------------------------


def made(folder: Path, environment: AnyEnvironment = INCIDENT, run: Ppo = SMALL) -> tuple[Path, dict[str, Network]]:
    """The folder of a run that has learned nothing, with networks that are not all alike."""
    table = Table({"world": environment, "colleagues": run.seats, "size": run.features})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        networks = {
            role: Network(run.features, run.hidden, int(space.n)) for role, space in table.action_spaces.items()
        }
        for network in networks.values():
            torch.nn.init.normal_(network.policy[-1].weight)
    folder.mkdir()
    policy.write(folder, environment, networks, run.model_dump(mode="json"), 64)
    return folder, networks


def test_a_network_gives_what_is_not_permitted_no_probability() -> None:
    network = Network(SIZE, 8, 5)
    with torch.no_grad():
        logits = network.logits(torch.randn(3, SIZE), torch.tensor([[1, 0, 1, 0, 0]] * 3))
    chances = torch.distributions.Categorical(logits=logits).probs
    assert torch.equal(chances > 0, torch.tensor([[True, False, True, False, False]] * 3))
    # An untrained policy is as good as uniform.
    assert chances[0, 0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("environment", WORLDS, ids=lambda world: world.name)
def test_a_policy_that_is_read_again_plays_the_same(environment: AnyEnvironment, tmp_path: Path) -> None:
    folder, networks = made(tmp_path / "run", environment)
    player = policy.player(environment, str(folder))
    scenarios, rules = environment.scenarios(environment.selections[0], [1000])[:3], environment.rule_sets[0]
    build = policy.factory(environment, networks, SIZE)
    for played, scenario in zip(player(scenarios, rules), scenarios, strict=True):
        assert {origin[:2] for origin in played.origins or ()} == {(-1, player.digest)}
        act = build(scenario, rules)
        for step in played.episode.steps:
            assert environment.format_action(act(step.view), "compact") in environment.vocabulary(step.role)  # type: ignore[operator]
            world = played.episode.start
        for step in played.episode.steps:
            taken = environment.step(world, act(step.view))
            assert taken.action == step.action
            world = step.world
    assert player.model == {
        "run": "run",
        "algorithm": "PPO",
        "steps": 64,
        "digest": files.digest(folder / policy.WEIGHTS),
    }


def test_its_row_stands_in_the_table_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = made(tmp_path / "run")
    figures, record = tmp_path / "figures.json", tmp_path / "episodes.parquet"
    played = ["--seeds", "1000", "--tiers", "easy", "--json", str(figures), "--episodes", str(record)]
    assert main(["evaluate", "--policies", f"heuristic,ppo={folder}", *played]) == 0
    digest = files.digest(folder / policy.WEIGHTS)
    assert f"ppo: run run, PPO after 64 steps ({digest[:12]})" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert {cell["policy"] for cell in found["cells"]} == {"heuristic", "ppo"}
    assert found["policies"]["ppo"]["digest"] == digest
    recorded = list(read_episodes(record))
    assert not [line for one in recorded for line in differences(one)]
    assert {row["digest"] for one in recorded for row in one.rows if row["policy"] == "ppo"} == {digest}

    assert main(["play", "incident/db_deadlock/easy/1000", "--policy", f"ppo={folder}", "--plain"]) == 0


def test_seats_that_were_not_learned_are_left_to_baselines(tmp_path: Path) -> None:
    run = SMALL.model_copy(update={"seats": {"sre": "oracle", "dev": "oracle"}})
    folder, _ = made(tmp_path / "run", run=run)
    player = policy.player(INCIDENT, str(folder), None)
    assert player.colleagues == run.seats
    (played,) = player([INCIDENT.scenario("incident/cascade/hard/1000")], "strict")
    by = {step.role: origin.digest for step, origin in zip(played.episode.steps, played.origins or (), strict=True)}
    assert (by["sre"], by["oversight"]) == ("", player.digest)
    with pytest.raises(InputError, match="has not learned to play dev; let a baseline play it with --seats dev=NAME"):
        policy.player(INCIDENT, str(folder), {"sre": "oracle"})


def edited(folder: Path, **changes: Any) -> None:
    """Change the record, and seal it again."""
    record = json.loads((folder / policy.RECORD).read_text())
    record.pop("seal")
    files.write_json(folder / policy.RECORD, files.sealed(record | changes))


def damages() -> Iterator[tuple[str, Any, str]]:
    yield "no folder", lambda run: shutil.rmtree(run), "cannot read .*ppo.json: No such file"
    yield "no record", lambda run: (run / policy.RECORD).unlink(), "cannot read .*ppo.json: No such file"
    yield "no weights", lambda run: (run / policy.WEIGHTS).unlink(), "there is no file .*policy.safetensors"
    yield "half a record", lambda run: (run / policy.RECORD).write_text("{"), "ppo.json is not as it was written"
    yield (
        "edited",
        lambda run: (run / policy.RECORD).write_text((run / policy.RECORD).read_text().replace("64", "65")),
        ("ppo.json is not as it was written"),
    )
    yield (
        "a byte more",
        lambda run: (run / policy.WEIGHTS).write_bytes((run / policy.WEIGHTS).read_bytes() + b"x"),
        "safetensors is not as it was written",
    )
    yield "another schema", lambda run: edited(run, schema="ppo/0"), "is of another format than ppo/1"
    yield "another world", lambda run: edited(run, world="tools"), "was trained in world tools, not incident"
    yield (
        "other views",
        lambda run: edited(run, fingerprint="0" * 64),
        "views or actions that world incident no longer has",
    )


@pytest.mark.parametrize(("damage", "message"), [case[1:] for case in damages()], ids=[case[0] for case in damages()])
def test_a_damaged_run_is_an_error_and_nothing_plays(
    damage: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = made(tmp_path / "run")
    damage(folder)
    assert main(["evaluate", "--policies", f"heuristic,ppo={folder}", "--json", str(tmp_path / "figures.json")]) == 2
    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert (said.err.count("\n"), said.out) == (1, "")
    assert not (tmp_path / "figures.json").exists()


def test_a_place_in_an_object_store_is_refused_without_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--policies", "ppo=s3://key:secretsecret@bucket/run"]) == 2
    said = capsys.readouterr().err
    assert "is a place in an object store" in said
    assert "secretsecret" not in said


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    """A file of torch.save with the right digest is refused."""
    folder, _ = made(tmp_path / "run")
    torch.save({"a": torch.zeros(1)}, folder / policy.WEIGHTS)
    edited(folder, weights=files.digest(folder / policy.WEIGHTS))
    with pytest.raises(InputError, match="holds no weights"):
        policy.player(INCIDENT, str(folder))


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    folder, _ = made(tmp_path / "run")
    edited(folder, hidden=9)
    with pytest.raises(InputError, match="weights that do not fit"):
        policy.player(INCIDENT, str(folder))


# -- settings and the command -----------------------------------------------------------------------------------------


def test_the_file_of_the_repository_is_valid() -> None:
    read = settings.load(ROOT / "tune_configs" / "ppo.yaml", ["steps=2000"], "7")
    assert (read.world, read.steps, read.seed) == ("incident", 2000, 7)
    assert training.check(read).roles == INCIDENT.roles


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 5", "step: unknown key; did you mean steps?"),
        ("steps: 0", "steps must be greater than or equal to 1, got 0"),
        ("steps: lots", "steps must be a valid integer"),
        ("learning_rate: {start: 1, stop: 2}", "learning_rate.stop: unknown key"),
        ("minibatch: 600", "minibatch must not be above batch, got 600 and 512"),
        ("world: nowhere", "unknown world 'nowhere'"),
        ("rules: lax", "unknown rule set 'lax'"),
        ("tiers: [easiest]", "unknown tier of world incident 'easiest'"),
        ("cases: none", "unknown evaluation set 'none'"),
        ("seats: {sre: nobody}", "no baseline 'nobody' to play sre"),
        ("streams: {sre: {gold: 1}}", "unknown stream of world incident 'gold'"),
        ("streams: {cook: {team: 1}}", "unknown role that learns in world incident 'cook'"),
        ("- a", "has no keys and values"),
    ],
)
def test_a_wrong_file_is_one_line_and_nothing_is_made(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ppo.yaml"
    path.write_text(f"batch: 512\n{text}\n" if ":" in text else text)
    assert main(["ppo", str(path), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_taken_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["ppo", str(ROOT / "tune_configs" / "ppo.yaml"), "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_settings_of_rllib_are_lines_between_corners() -> None:
    run = Ppo.model_validate({"steps": 1000, "entropy": {"start": 0.1, "end": 0.0, "after": 0.2, "until": 0.5}})
    built = training.configured(run, training.check(run))
    assert built.entropy_coeff == [[0, 0.1], [200.0, 0.1], [500.0, 0.0]]
    assert built.lr == [[0.0, 1e-3], [1000.0, 1e-3]]
    assert built.is_multi_agent
    assert built.enable_rl_module_and_learner


# -- training, on a real Ray ------------------------------------------------------------------------------------------


@pytest.mark.cluster
@SECOND_RUN
def test_a_run_from_its_file_to_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command trains, writes a folder, and repeats bit for bit; what is in the folder plays."""
    written = {key: value for key, value in SMALL.model_dump(mode="json").items() if key != "streams"}
    (tmp_path / "small.yaml").write_text(json.dumps(written))
    with ray_here():
        for name in ("one", "two"):
            assert main(["ppo", str(tmp_path / "small.yaml"), "--out", str(tmp_path / name)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\b6[0-9] of 64 steps · return [-+][0-9.]+ on 3 scenarios of training", out)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        [policy.WEIGHTS, policy.RECORD, training.METRICS]
    )
    digests = [policy.player(INCIDENT, str(tmp_path / name)).digest for name in ("one", "two")]
    assert digests[0] == digests[1]
    untrained, _ = made(tmp_path / "untrained")
    assert policy.player(INCIDENT, str(untrained)).digest != digests[0]
    assert main(["evaluate", "--policies", f"ppo={tmp_path / 'one'}", "--seeds", "1000", "--tiers", "easy"]) == 0


@pytest.mark.slow
@pytest.mark.cluster
@SECOND_RUN
def test_it_learns() -> None:
    """Among colleagues that know nothing, Oversight learns within seconds that a flag on easy never pays."""
    run = SMALL.model_copy(
        update={
            "seats": dict.fromkeys(("sre", "dev", "manager"), "random"),
            "tiers": ("easy",),
            "steps": 6000,
            "batch": 1024,
            "minibatch": 128,
            "epochs": 6,
            "probe": 24,
        }
    )
    with ray_here():
        trained = training.train(run, lambda _: None)
    game = training.check(run)
    build = policy.factory(INCIDENT, trained.networks, SIZE)(INCIDENT.cases[0], "strict")
    flags = 0
    for scenario in INCIDENT.scenarios("published", range(1000, 1005)):
        if scenario.tier == "easy":
            view = INCIDENT.view(INCIDENT.start(scenario, game.rules), "oversight")
            flags += "flag" in INCIDENT.format_action(build(view), "compact")
    assert not flags


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "rllib.md").read_text(), re.DOTALL)
    exec(program, {})  # noqa: S102 - in this process, where RLlib is loaded
    assert re.search(r"return -?[0-9]+\.[0-9]", capsys.readouterr().out)
