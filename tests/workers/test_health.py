"""Who may serve: only who is alive and has proven, in this life, a version that is wanted."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chaosops_ray.wire import PolicyVersion
from chaosops_ray.workers.health import Health, HealthError, PoolHealth


def version(number: int, digest: str = "ab") -> PolicyVersion:
    return PolicyVersion(number, digest * 32, f"/runs/a/adapters/policy-v{number}")


def fleet(staleness: int = 0) -> PoolHealth:
    return PoolHealth.started(["one", "two"], ["shard"], staleness, now=0)


def serving(staleness: int = 0) -> PoolHealth:
    """One sampler is READY for version 5, the other has only been heard of."""
    begun = fleet(staleness).wanted(version(5)).heard("one", 1).heard("two", 1).heard("shard", 1)
    return begun.proven("one", version(5), asked=2, now=3)


def test_everybody_starts_and_nobody_serves() -> None:
    assert [fleet().of(name) for name in ("one", "two", "shard")] == [Health.STARTING] * 3
    assert fleet().gate == "red"
    assert fleet().alive("shard") == ()


def test_the_way_to_ready() -> None:
    heard = fleet().heard("one", 1)
    assert heard.of("one") is Health.STALE
    assert heard.wanted(version(5)).of("one") is Health.STALE
    ready = heard.wanted(version(5)).proven("one", version(5), asked=2, now=3)
    assert ready.of("one") is Health.READY
    assert ready.ready == ("one",)
    assert ready.gate == "green"


def test_a_fleet_is_a_value() -> None:
    before = serving()
    before.died("one", "killed")
    assert before.gate == "green"


def test_a_shard_is_alive_and_never_ready() -> None:
    assert serving().alive("shard") == ("shard",)
    assert serving().alive("sampler") == ("one", "two")
    with pytest.raises(HealthError, match="shard is a shard"):
        serving().proven("shard", version(5), 2, 3)


def test_a_newer_version_makes_stale() -> None:
    newer = serving().wanted(version(6))
    assert newer.of("one") is Health.STALE
    assert newer.gate == "red"
    assert newer.proven("one", version(6), 4, 5).gate == "green"


def test_staleness_is_how_far_behind_is_near_enough() -> None:
    behind = serving(staleness=2)
    for number, health in ((6, Health.READY), (7, Health.READY), (8, Health.STALE)):
        behind = behind.wanted(version(number))
        assert behind.of("one") is health


def test_a_proof_that_comes_too_late_for_its_version() -> None:
    """Alive, and still not proven for what is wanted by now."""
    late = serving().wanted(version(6)).proven("two", version(5), 4, 5)
    assert late.of("two") is Health.STALE


def test_proofs_that_come_out_of_order() -> None:
    both = serving(staleness=1).wanted(version(6)).proven("two", version(6), 4, 5).proven("two", version(5), 4, 6)
    assert both.member("two").proven == version(6)


@pytest.mark.parametrize("how", ["died", "starting", "unwanted", "digest"])
def test_proofs_that_prove_nothing(how: str) -> None:
    begun = fleet().wanted(version(5))
    match how:
        case "died":
            dead = begun.heard("one", 1).died("one", "killed")
            assert dead.proven("one", version(5), 2, 3) == dead
        case "starting":
            with pytest.raises(HealthError, match="not been heard of"):
                begun.proven("one", version(5), 2, 3)
        case "unwanted":
            with pytest.raises(HealthError, match="policy-v6"):
                begun.heard("one", 1).proven("one", version(6), 2, 3)
            with pytest.raises(HealthError, match="policy-v5"):
                fleet().heard("one", 1).proven("one", version(5), 2, 3)
        case "digest":
            with pytest.raises(HealthError, match="with digest cdcdcdcdcdcd, wanted is abababababab"):
                begun.heard("one", 1).proven("one", version(5, "cd"), 2, 3)


def test_the_dead_stay_dead_until_they_are_restarted() -> None:
    dead = serving().died("one", "killed")
    assert dead.of("one") is Health.DEAD
    assert dead.gate == "red"
    assert dead.heard("one", 4) == dead
    assert dead.wanted(version(6)).of("one") is Health.DEAD
    assert dead.died("one", "again").member("one").death == "killed"


def test_a_restart_begins_with_nothing_proven() -> None:
    begun = serving().died("one", "killed").restarted("one", 10)
    assert begun.of("one") is Health.STARTING
    assert begun.heard("one", 11).of("one") is Health.STALE
    assert begun.heard("one", 11).proven("one", version(5), 12, 13).of("one") is Health.READY


def test_a_proof_of_an_earlier_life_does_not_count() -> None:
    """It was asked for, then the actor died, was restarted and heard of, and only then the answer arrives."""
    again = serving().died("one", "killed").restarted("one", 10).heard("one", 11)
    assert again.proven("one", version(5), asked=9, now=12) == again


def test_only_the_dead_are_restarted() -> None:
    with pytest.raises(HealthError, match="one is ready; only the dead"):
        serving().restarted("one", 5)


def test_memory_that_was_given_back_has_to_be_proven_anew() -> None:
    released = serving().released("one", 10)
    assert released.of("one") is Health.STALE
    assert released.proven("one", version(5), asked=9, now=11).of("one") is Health.STALE
    assert released.proven("one", version(5), asked=11, now=12).of("one") is Health.READY


def test_a_sign_of_life_that_arrives_late_does_not_turn_time_back() -> None:
    assert serving().heard("one", 20).heard("one", 15).member("one").heard == 20


def test_what_is_wanted_only_grows() -> None:
    assert serving().wanted(version(5)) == serving()
    for wrong in (version(4), version(5, "cd")):
        with pytest.raises(HealthError, match="versions only grow"):
            serving().wanted(wrong)


def test_names() -> None:
    with pytest.raises(HealthError, match="'three'; there are one, two, shard"):
        fleet().heard("three", 1)
    with pytest.raises(HealthError, match="share a name"):
        PoolHealth.started(["one"], ["one"], 0, 0)


def test_a_line_for_the_log() -> None:
    said = serving().died("two", "silent for 10 s").describe()
    assert said == "one ready (policy-v5); two dead (silent for 10 s); shard stale"


# -- whatever happens, in whatever order ------------------------------------------------------------------------------

NAMES = st.sampled_from(["one", "two", "shard"])
SAMPLERS = st.sampled_from(["one", "two"])
AFTER = {  # what one event may make of a member
    Health.STARTING: {Health.STARTING, Health.STALE, Health.DEAD},
    Health.STALE: {Health.STALE, Health.READY, Health.DEAD},
    Health.READY: {Health.READY, Health.STALE, Health.DEAD},
    Health.DEAD: {Health.DEAD, Health.STARTING},
}


class AnyOrder(RuleBasedStateMachine):
    """Events at random; a book of our own says who proved what since it was last restarted or released."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.fleet = PoolHealth.started(["one", "two"], ["shard"], staleness=1, now=0)
        self.book: dict[str, int] = {}
        self.before = dict.fromkeys(("one", "two", "shard"), Health.STARTING)

    def happen(self, fleet: PoolHealth) -> None:
        for member in fleet.members:
            health = fleet.of(member.name)
            assert health in AFTER[self.before[member.name]], (member, self.before[member.name])
            self.before[member.name] = health
        self.fleet = fleet

    @rule(seconds=st.floats(0.1, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=NAMES)
    def heard(self, name: str) -> None:
        self.happen(self.fleet.heard(name, self.now))

    @rule()
    def wanted(self) -> None:
        number = 0 if self.fleet.target is None else self.fleet.target.number + 1
        self.happen(self.fleet.wanted(version(number)))

    @precondition(lambda self: self.fleet.target is not None)
    @rule(name=SAMPLERS, behind=st.integers(0, 3), ago=st.sampled_from([0, 1, 20]))
    def proven(self, name: str, behind: int, ago: float) -> None:
        member = self.fleet.member(name)
        number = max(0, self.fleet.target.number - behind)
        asked = self.now - ago
        if member.death is None and member.heard is None and asked >= member.since:
            with pytest.raises(HealthError):
                self.fleet.proven(name, version(number), asked, self.now)
            return
        if member.death is None and asked >= member.since:
            self.book[name] = max(number, self.book.get(name, 0))
        self.happen(self.fleet.proven(name, version(number), asked, self.now))

    @precondition(lambda self: self.fleet.target is not None)
    @rule(name=SAMPLERS)
    def served(self, name: str) -> None:
        """All that it takes, from wherever the member stands."""
        self.restarted(name)
        self.heard(name)
        self.proven(name, behind=0, ago=0)
        assert self.fleet.of(name) is Health.READY

    @rule(name=SAMPLERS)
    def released(self, name: str) -> None:
        self.book.pop(name, None)
        self.happen(self.fleet.released(name, self.now))

    @rule(name=NAMES)
    def died(self, name: str) -> None:
        self.book.pop(name, None)
        self.happen(self.fleet.died(name, "killed"))

    @rule(name=NAMES)
    def restarted(self, name: str) -> None:
        if self.fleet.member(name).death is None:
            with pytest.raises(HealthError):
                self.fleet.restarted(name, self.now)
            return
        self.happen(self.fleet.restarted(name, self.now))

    @invariant()
    def nobody_serves_without_a_proof_that_is_new_enough(self) -> None:
        target = self.fleet.target
        proven = {name for name, number in self.book.items() if target is not None and target.number - number <= 1}
        assert set(self.fleet.ready) == proven
        assert (self.fleet.gate == "green") == bool(proven)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(stateful_step_count=40)
