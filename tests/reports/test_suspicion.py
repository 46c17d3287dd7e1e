"""How well the guilty are told from the innocent, in every report that shows an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray import config, evaluate
from chaosops_ray.reports import model_card, run_report, suspicion_tables, sweep_report
from chaosops_ray.reports.model_card import Base, Facts, Version
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.sweeps.comparison import Outcome, compare, report_facts
from chaosops_ray.sweeps.spec import Sweep, Trial
from chaosops_ray.twins import FIGURES, OVERALL
from tests.support import runs
from tests.support.control_room import opened, page
from tests.support.toy_world import TOY

CONFIG = "world: toy\nrules: rare\nmodel: tiny\nsampler: torch\nseed: 7\nupdates: 2\n"


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, TOY.name, TOY)


def results(trained: str) -> list[evaluate.Result]:
    """Of a baseline under the name of the trained policy, and of one beside it."""
    players = evaluate.baselines(TOY, f"{trained},silent")
    played = evaluate.play_all(
        {"trained": players[trained], "silent": players["silent"]}, TOY.scenarios("all", range(3)), "rare"
    )
    return [evaluate.result(TOY, name, one.episode) for name, one in played]


def evaluated(path: Path) -> RunFolder:
    run = RunFolder.create(path, CONFIG)
    for update in (1, 2):
        run.log(runs.row(update, TOY) | {"rules": "rare"})
    with run.record_evaluation({}, "all"):
        pass
    found = results("search")
    run.finish(evaluate.rows(TOY, found, "rare"), evaluate.summary(TOY, found, "rare", "all", "0-2"))
    return run


def shown(found: dict[str, Any]) -> list[str]:
    """The cells of the table by tier."""
    return [cell for row in suspicion_tables.suspicion_tables(TOY, found)[0].rows for cell in row]


def test_the_page_of_a_run_has_the_table_and_the_plots(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    found = run_report.write(run, TOY, films=0).read_text(encoding="utf-8")
    summary = run.evaluation()
    assert summary is not None
    assert all(f">{cell}<" in found for cell in shown(summary))
    assert suspicion_tables.HELP in found
    assert {path.name for path in (run.path / "plots").iterdir()} >= {"roc.png", "calibration.png"}


def test_the_control_room_has_the_table(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    with opened(tmp_path) as client:
        found = page(client, "/runs/run/evaluation")
    summary = run.evaluation()
    assert summary is not None
    assert all(f">{cell}<" in found for cell in shown(summary))


def test_a_card_has_the_table_and_tells_a_hub_the_figures(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    summary = run.evaluation()
    assert summary is not None
    given = config.load(run.path / "config.yaml")
    base, version = Base("tiny", "made", "b" * 64), Version("policy-v2", 2, "a" * 64)
    found = model_card.render(Facts("run", given, TOY, version, base, summary, None))
    assert all(f" {cell} |" in found.replace("\\", "") for cell in shown(summary))
    assert all(f"type: {figure.name}" in found for figure in suspicion_tables.SHOWN)


def test_a_sweep_compares_them_and_weighs_by_the_prior(tmp_path: Path) -> None:
    arms = {"good": "search", "poor": "glance"}
    given = Sweep.model_validate({"arms": {arm: {} for arm in arms}, "seeds": "0-2", "reference": "poor"})
    played = {arm: [one for one in results(name) if one.policy == "trained"] for arm, name in arms.items()}
    outcomes = []
    for seed in range(3):
        run = config.Run.model_validate({"world": "toy", "rules": "rare", "model": "tiny", "seed": seed})
        run = run.model_copy(update={"evaluation": run.evaluation.model_copy(update={"policies": ()})})
        outcomes += [Outcome(Trial(arm, seed, run), "finished", "", (), played[arm]) for arm in arms]
    found = compare(TOY, given, outcomes)
    (few, many) = [one for one in found["differences"] if one["of"] == "mean"]
    for one, tier in ((few, "few"), (many, "many")):
        means = {cell["policy"]: cell for cell in found["cells"] if cell["tier"] == tier}
        assert one["mean"] == pytest.approx(means["good"]["mean"] - means["poor"]["mean"])
        assert means["good"]["seed_means"] == [pytest.approx(means["good"]["mean"])] * 3
    by_arm = {one["policy"]: one for one in found[OVERALL]}
    assert by_arm["good"]["auroc"] == 1.0 > by_arm["poor"]["auroc"]
    (tmp_path / "sweep").mkdir()
    facts = report_facts(given, outcomes, found, dict.fromkeys(arms, "a" * 64))
    for path in sweep_report.write(tmp_path / "sweep", TOY, facts):
        text = path.read_text(encoding="utf-8")
        assert all(cell in text.replace("\\", "") for cell in shown(found))
        assert all(figure.title in text for figure in suspicion_tables.SHOWN)
    assert {figure.name for figure in FIGURES} < set(
        json.loads((tmp_path / "sweep" / "comparison.json").read_text())["cells"][0]
    )
