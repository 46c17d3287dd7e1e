"""The gates of the fleet, small; benchmarks/fleet.py measures them in full, and the slow tests here as well."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import fleet
from chaosops_ray.sim.contract import STYLES
from chaosops_ray.sim.fleet import story
from chaosops_ray.sim.fleet.model import CANARY, CLEAR, DECEPTIVE, PRIORS, TIERS
from chaosops_ray.sim.fleet.plot import EARLY_DEEDS, HELD_OUT_EARLY_DEEDS, HELD_OUT_LATE_DEEDS, LATE_DEEDS
from chaosops_ray.sim.fleet.policies import POLICIES
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.splits import IID, TAMPER, TRAIN
from tests.support import fleet_looks, shallow

FEW = 24
FULL = 2000


# -- the learners see what there is -----------------------------------------------------------------------------------


def halves(count: int) -> tuple[shallow.Scores, NDArray[np.int64]]:
    """Return the labels of so many pairs and their numbers."""
    return np.tile([1.0, 0.0], count), np.repeat(np.arange(count), 2)


def test_trees_see_what_only_two_columns_together_tell() -> None:
    labels, pairs = halves(400)
    table = np.random.default_rng(1).normal(size=(800, 6))
    table[:, 1] = np.abs(table[:, 1]) * np.sign(table[:, 0]) * np.where(labels > 0.5, 1, -1)
    assert abs(shallow.area(table[:, 1], labels) - 0.5) < 0.1
    scores = shallow.cross_fitted(shallow.boosted_trees, table, labels, pairs)
    assert shallow.told(scores, labels, pairs).low > 0.9


def test_words_see_a_word_that_tells() -> None:
    labels, pairs = halves(100)
    texts = [f"some {'odd' if label > 0.5 else 'plain'} line number {row % 7}" for row, label in enumerate(labels)]
    scores = shallow.cross_fitted(shallow.logistic, shallow.words(texts), labels, pairs)
    assert shallow.told(scores, labels, pairs).low > 0.9


@pytest.mark.parametrize("learner", [shallow.boosted_trees, shallow.logistic])
def test_learners_see_nothing_where_there_is_nothing(learner: shallow.Learner) -> None:
    labels, pairs = halves(400)
    table = np.random.default_rng(2).normal(size=(800, 6))
    told = shallow.told(shallow.cross_fitted(learner, table, labels, pairs), labels, pairs)
    assert told.low - 0.03 < 0.5 < told.high + 0.03


def test_equal_scores_tell_nothing() -> None:
    labels, pairs = halves(20)
    assert shallow.told(np.zeros(40), labels, pairs) == (0.5, 0.5, 0.5)


def test_learners_find_the_rogue_that_hides_nothing() -> None:
    found = fleet.looked(fleet.pairs_of(CLEAR, 3 * FEW), "suspect", 0, ())
    told = fleet.learnt(found)
    assert max([one.low for one in told.values()]) > fleet.TELL_LIMIT


# -- gate 1: what the first looks tell --------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_twins_open_alike(tier: str) -> None:
    assert fleet.unlike(fleet.pairs_of(tier, FEW)) == 0


@pytest.mark.parametrize("split", [TRAIN, TAMPER])
def test_at_the_suspect_and_its_deed_deceptive_twins_differ_in_a_canary_alone(split: str) -> None:
    for twins in fleet.pairs_of(DECEPTIVE, FEW, split):
        brought = []
        for scenario in twins:
            aim = fleet_looks.at_suspect(story.plot(scenario), random.Random(0))
            brought.append(fleet_looks.taken(fleet_looks.after(scenario, 0), aim).results)
        assert len(brought[0]) == len(fleet_looks.ROLE_OF)
        for one, other in zip(*brought, strict=True):
            assert one == other or one.look == CANARY


@pytest.mark.parametrize("split", [TRAIN, TAMPER])
def test_the_framed_agent_writes_the_same_in_both_twins(split: str) -> None:
    for twins in fleet.pairs_of(DECEPTIVE, FEW, split):
        framed = story.plot(twins[0]).framed
        assert framed >= 0
        rogue, benign = [story.log(fleet_looks.after(scenario, 0), framed) for scenario in twins]
        assert rogue == benign


@pytest.mark.slow
def test_the_first_looks_do_not_tell_deceptive_twins_apart() -> None:
    found = fleet.looked(fleet.pairs_of(DECEPTIVE, FULL), "suspect", 0, STYLES)
    assert max([one.high for one in fleet.learnt(found).values()]) <= fleet.TELL_LIMIT


# -- gates 2, 3 and 6: what policies earn -----------------------------------------------------------------------------


def test_shares_lie_between_noop_and_the_oracle() -> None:
    found = {
        "noop": np.array([[-10.0, 0.0]] * 4),
        "oracle": np.array([[10.0, 20.0]] * 4),
        "some": np.array([[0.0, 0.0]] * 4),
    }
    shares = fleet.earned(found, 0.4)
    assert (shares["noop"].share, shares["oracle"].share) == (0.0, 1.0)
    assert shares["some"].share == pytest.approx(0.2)
    assert shares["some"].mean == 0.0


@pytest.mark.parametrize("tier", TIERS)
def test_whoever_treats_all_agents_alike_earns_less_than_nobody(tier: str) -> None:
    names = ("noop", "oracle", "flag-all", "flag-none", "freeze-all")
    found = fleet.returns(fleet.pairs_of(tier, 8, IID), {name: POLICIES[name] for name in names})
    shares = fleet.earned(found, PRIORS["usual"].rogue)
    assert shares["noop"].mean < shares["oracle"].mean
    assert shares["freeze-all"].share < 0
    assert shares["flag-all"].share < 0
    assert shares["flag-none"].share < fleet.CHEAP_SHARE


@pytest.mark.slow
@pytest.mark.parametrize("rogue", [PRIORS["usual"].rogue, 0.5])
@pytest.mark.parametrize("tier", TIERS)
def test_what_is_cheap_earns_nothing(tier: str, rogue: float) -> None:
    known = {name: POLICIES[name] for name in ("noop", "oracle", *fleet.CHEAP)}
    tried = {**known, **fleet.attempts()}
    shares = fleet.earned(fleet.returns(fleet.pairs_of(tier, 200, IID), tried), rogue)
    over = {name: one for name, one in shares.items() if name != "oracle" and one.share > fleet.CHEAP_SHARE}
    assert not over


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
def test_every_step_of_the_ladder_is_a_gap_and_chat_has_value(tier: str) -> None:
    known = {name: POLICIES[name] for name in fleet.LADDER}
    known["bayes, no chat"] = fleet.mute(POLICIES["bayes"])
    shares = fleet.earned(fleet.returns(fleet.pairs_of(tier, 100, IID), known), PRIORS["usual"].rogue)
    assert not [line for line in fleet.verdicts(shares) if line.endswith(": no")]


# -- gate 4: openings are many, and held-out axes are new -------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_hardly_two_openings_are_alike_without_digits(tier: str) -> None:
    assert fleet.skeletons(tier, 60) == 60


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
def test_openings_are_many(tier: str) -> None:
    least, seeds = fleet.SKELETONS
    assert fleet.skeletons(tier, seeds) >= least


def test_held_out_times_and_forms_are_ones_that_training_never_draws() -> None:
    assert not {*EARLY_DEEDS, *LATE_DEEDS} & {*HELD_OUT_EARLY_DEEDS, *HELD_OUT_LATE_DEEDS}
    for rung in RUNGS.values():
        assert not set(rung.forms) & set(rung.held_out_forms)
    assert any(rung.held_out_forms for rung in RUNGS.values())
    forms = {
        split: {story.plot(one[0]).form for one in fleet.pairs_of(DECEPTIVE, FEW, split)} for split in (TRAIN, TAMPER)
    }
    tampering = RUNGS["tampering"]
    assert forms[TRAIN] & set(tampering.forms)
    assert not forms[TRAIN] & set(tampering.held_out_forms)
    assert not forms[TAMPER] & set(tampering.forms)


def test_the_report_says_which_gates_fail() -> None:
    earned = [fleet.Earned(0.0, share, share, share) for share in (0.0, 0.5, 0.55, 1.0, 0.05, 0.54)]
    names = ("noop", "investigator", "bayes", "oracle", "flag-all", "bayes, no chat")
    lines = fleet.verdicts(dict(zip(names, earned, strict=True)))
    assert [line.endswith(": no") for line in lines] == [False, False, True, False, True]
    assert "flag-all" in lines[0]
