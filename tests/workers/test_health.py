"""Samplers that may serve: only those that are alive and have proven, since their start, the version that is wanted."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chaosops_ray.wire import PolicyVersion
from chaosops_ray.workers.health import Health, HealthError, PoolHealth

NAMES = ("one", "two", "shard")


def version(number: int, digest: str = "ab") -> PolicyVersion:
    return PolicyVersion(number, digest * 32, f"/runs/a/adapters/policy-v{number}")


def started() -> PoolHealth:
    return PoolHealth.started(NAMES)


def serving() -> PoolHealth:
    """One sampler is READY for version 5, the other has only been heard of."""
    return started().wanted(version(5)).heard("two").heard("shard").proven("one", version(5))


def test_everybody_starts_and_nobody_serves() -> None:
    assert [started().of(name) for name in NAMES] == [Health.STARTING] * 3
    assert started().ready == ()


def test_the_way_to_ready() -> None:
    heard = started().heard("one")
    assert heard.of("one") is Health.STALE
    wanted = heard.wanted(version(5))
    assert wanted.of("one") is Health.STALE
    ready = wanted.proven("one", version(5))
    assert ready.of("one") is Health.READY
    assert ready.ready == ("one",)


def test_health_is_a_value() -> None:
    before = serving()
    before.died("one", "killed")
    assert before.ready == ("one",)


def test_a_shard_is_alive_and_never_ready() -> None:
    assert serving().of("shard") is Health.STALE


def test_a_newer_version_makes_stale() -> None:
    newer = serving().wanted(version(6))
    assert newer.of("one") is Health.STALE
    assert newer.proven("one", version(6)).ready == ("one",)


@pytest.mark.parametrize("proof", [version(4), version(6), version(5, "cd")], ids=["older", "newer", "digest"])
def test_only_the_wanted_version_is_proven(proof: PolicyVersion) -> None:
    with pytest.raises(HealthError, match=f"one proved {proof.name} .*wanted is policy-v5"):
        serving().proven("one", proof)


def test_nothing_is_proven_before_a_version_is_wanted() -> None:
    with pytest.raises(HealthError, match="one proved policy-v5"):
        started().proven("one", version(5))


def test_the_dead_stay_dead_until_they_are_restarted() -> None:
    dead = serving().died("one", "killed")
    for after in (dead, dead.heard("one"), dead.wanted(version(6)), dead.proven("one", version(5))):
        assert after.of("one") is Health.DEAD
        assert after.ready == ()


def test_a_restart_begins_with_nothing_proven() -> None:
    begun = serving().died("one", "killed").restarted("one")
    assert begun.of("one") is Health.STARTING
    assert begun.heard("one").of("one") is Health.STALE
    assert begun.heard("one").proven("one", version(5)).of("one") is Health.READY


def test_memory_that_was_given_back_has_to_be_proven_again() -> None:
    released = serving().released("one")
    assert released.of("one") is Health.STALE
    assert released.proven("one", version(5)).of("one") is Health.READY


def test_what_is_wanted_only_grows() -> None:
    assert serving().wanted(version(5)) == serving()
    for wrong in (version(4), version(5, "cd")):
        with pytest.raises(HealthError, match=f"{wrong.name} is not newer than policy-v5"):
            serving().wanted(wrong)


def test_after_a_new_learner_an_older_version_may_be_wanted() -> None:
    rewound = serving().died("shard", "killed").rewound()
    assert (rewound.target, rewound.ready) == (None, ())
    assert [rewound.of(name) for name in NAMES] == [Health.STALE, Health.STALE, Health.DEAD]
    assert rewound.wanted(version(3)).proven("one", version(3)).ready == ("one",)


def test_a_line_for_the_log() -> None:
    said = serving().died("two", "silent for 10 s").describe()
    assert said == "one ready (policy-v5); two dead (silent for 10 s); shard stale"


# -- whatever happens, in whatever order ------------------------------------------------------------------------------

AFTER = {  # what one event may make of a member
    Health.STARTING: {Health.STARTING, Health.STALE, Health.READY, Health.DEAD},
    Health.STALE: {Health.STALE, Health.READY, Health.DEAD, Health.STARTING},
    Health.READY: {Health.READY, Health.STALE, Health.DEAD, Health.STARTING},
    Health.DEAD: {Health.DEAD, Health.STARTING},
}


class AnyOrder(RuleBasedStateMachine):
    """Events at random; a book of our own says who proved what since it was last restarted or released."""

    def __init__(self) -> None:
        super().__init__()
        self.health = started()
        self.book: dict[str, int] = {}
        self.dead: set[str] = set()
        self.before = dict.fromkeys(NAMES, Health.STARTING)

    def happen(self, health: PoolHealth) -> None:
        for name in NAMES:
            now = health.of(name)
            assert now in AFTER[self.before[name]], (name, self.before[name])
            self.before[name] = now
        self.health = health

    @rule(name=st.sampled_from(NAMES))
    def heard(self, name: str) -> None:
        self.happen(self.health.heard(name))

    @rule()
    def wanted(self) -> None:
        number = 0 if self.health.target is None else self.health.target.number + 1
        self.happen(self.health.wanted(version(number)))

    @precondition(lambda self: self.health.target is not None)
    @rule(name=st.sampled_from(NAMES[:2]), behind=st.sampled_from([0, 0, 1, -1]))
    def proven(self, name: str, behind: int) -> None:
        number = self.health.target.number - behind
        if behind:
            with pytest.raises(HealthError):
                self.health.proven(name, version(number))
            return
        self.book[name] = number
        self.happen(self.health.proven(name, version(number)))

    @rule(name=st.sampled_from(NAMES[:2]))
    def released(self, name: str) -> None:
        self.book.pop(name, None)
        self.happen(self.health.released(name))

    @rule()
    def rewound(self) -> None:
        self.book.clear()
        self.happen(self.health.rewound())

    @rule(name=st.sampled_from(NAMES))
    def died(self, name: str) -> None:
        self.book.pop(name, None)
        self.dead.add(name)
        self.happen(self.health.died(name, "killed"))

    @rule(name=st.sampled_from(NAMES))
    def restarted(self, name: str) -> None:
        self.book.pop(name, None)
        self.dead.discard(name)
        self.happen(self.health.restarted(name))

    @invariant()
    def nobody_serves_without_a_proof_of_what_is_wanted(self) -> None:
        target = self.health.target
        proven = {name for name, number in self.book.items() if target is not None and number == target.number}
        assert set(self.health.ready) == proven - self.dead


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(stateful_step_count=40)
