"""Who of the fleet may work: health and staleness of samplers and shards, as a value.

    STARTING ──heard──▶ STALE ──proven──▶ READY         wanted, released: READY ──▶ STALE
        ▲                                               died: from anywhere ──▶ DEAD
        └──────────────────restarted─────────────────── DEAD

Nothing here looks at a clock or touches an actor: times are arguments, every change gives a new fleet. Health is not
kept but follows from what is known of a member, so that it cannot say otherwise than the facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias

from chaosops_ray.wire import PolicyVersion

Kind: TypeAlias = Literal["sampler", "shard"]


class Health(Enum):
    """What a member is good for."""

    STARTING = "starting"  # not heard of yet in this life
    STALE = "stale"  # alive, and not proven for a version that is wanted
    READY = "ready"  # proven for one
    DEAD = "dead"  # given up, until it is restarted


class HealthError(ValueError):
    """Something is said of a member that cannot be; a mistake of whoever drives the fleet."""


class PoolError(RuntimeError):
    """The actors cannot do their work; the message says which, and what was tried."""


class Member(NamedTuple):
    """What is known of an actor in its present life."""

    name: str
    kind: Kind
    since: float  # when it was started, or released: proofs from before do not count
    heard: float | None = None  # its last sign of life
    proven: PolicyVersion | None = None
    death: str | None = None  # what it died of


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """All members, and the version that is wanted of the samplers.

    A shard serves no version: being alive is all that is asked of it, and it never becomes READY.
    """

    members: tuple[Member, ...]
    staleness: int  # how many versions behind a sampler may be and still serve
    target: PolicyVersion | None = None

    @classmethod
    def started(cls, samplers: Iterable[str], shards: Iterable[str], staleness: int, now: float) -> PoolHealth:
        """A fleet whose members are all starting now."""
        members = [Member(name, "sampler", now) for name in samplers] + [Member(name, "shard", now) for name in shards]
        if len({member.name for member in members}) < len(members):
            raise HealthError(f"two members share a name: {', '.join([member.name for member in members])}")
        return cls(tuple(members), staleness)

    # -- what is known ------------------------------------------------------------------------------------------------

    def member(self, name: str) -> Member:
        """The member of this name."""
        for member in self.members:
            if member.name == name:
                return member
        raise HealthError(f"no member is called {name!r}; there are {', '.join([one.name for one in self.members])}")

    def of(self, name: str) -> Health:
        """What the member is good for."""
        member = self.member(name)
        if member.death is not None:
            return Health.DEAD
        if member.heard is None:
            return Health.STARTING
        if member.proven is None or self.target is None:
            return Health.STALE
        behind = self.target.number - member.proven.number
        return Health.READY if behind <= self.staleness else Health.STALE

    @property
    def ready(self) -> tuple[str, ...]:
        """The samplers that may serve."""
        return tuple([member.name for member in self.members if self.of(member.name) is Health.READY])

    def alive(self, kind: Kind) -> tuple[str, ...]:
        """The members of a kind that answer, proven or not."""
        living = (Health.STALE, Health.READY)
        return tuple([one.name for one in self.members if one.kind == kind and self.of(one.name) in living])

    @property
    def gate(self) -> Literal["green", "red"]:
        """Red means no rollouts: no sampler may serve."""
        return "green" if self.ready else "red"

    def describe(self) -> str:
        """One line for the log: everybody's health, and why."""
        return "; ".join([f"{one.name} {self.of(one.name).value}{_because(one)}" for one in self.members])

    # -- what happens -------------------------------------------------------------------------------------------------

    def heard(self, name: str, now: float) -> PoolHealth:
        """A sign of life. Late word from the dead changes nothing: they were given up, and come back by a restart."""
        member = self.member(name)
        if member.death is not None:
            return self
        return self._with(member._replace(heard=now if member.heard is None else max(member.heard, now)))

    def proven(self, name: str, version: PolicyVersion, asked: float, now: float) -> PoolHealth:
        """A sampler has proven the version; the proof was asked for at `asked`, which is a sign of life now.

        What was asked before it was restarted or released says nothing of what it holds now, and changes nothing.
        """
        member = self.member(name)
        if member.kind != "sampler":
            raise HealthError(f"{name} is a {member.kind}, which serves no version; only samplers prove one")
        if self.target is None or version.number > self.target.number:
            raise HealthError(f"{name} proved {version.name}, which nobody wants yet; call wanted() first")
        if version.number == self.target.number and version.digest != self.target.digest:
            raise HealthError(
                f"{name} proved {version.name} with digest {version.digest[:12]}, wanted is {self.target.digest[:12]}"
            )
        if member.death is not None or asked < member.since:
            return self
        if member.heard is None:
            raise HealthError(f"{name} has not been heard of yet; a proof comes after the first sign of life")
        newest = member.proven is None or version.number > member.proven.number
        return self._with(member._replace(proven=version if newest else member.proven)).heard(name, now)

    def wanted(self, version: PolicyVersion) -> PoolHealth:
        """Samplers are to serve this version, or one that is at most `staleness` older."""
        target = self.target
        if target is not None and version[:2] != target[:2] and version.number <= target.number:
            raise HealthError(f"{version.name} is not newer than {target.name}, which is wanted; versions only grow")
        return replace(self, target=version)

    def released(self, name: str, now: float) -> PoolHealth:
        """A sampler has given its memory back; whatever it had proven has to be proven anew."""
        return self._with(self.member(name)._replace(proven=None, since=now))

    def died(self, name: str, reason: str) -> PoolHealth:
        """A member is given up; of several reasons the first is kept."""
        member = self.member(name)
        if member.death is not None:
            return self
        return self._with(member._replace(death=reason, proven=None))

    def restarted(self, name: str, now: float) -> PoolHealth:
        """A dead member begins a new life, knowing nothing of the one before."""
        member = self.member(name)
        if member.death is None:
            raise HealthError(f"{name} is {self.of(name).value}; only the dead are restarted, call died() first")
        return self._with(Member(name, member.kind, now))

    def _with(self, changed: Member) -> PoolHealth:
        return replace(self, members=tuple([changed if one.name == changed.name else one for one in self.members]))


def _because(member: Member) -> str:
    if member.death is not None:
        return f" ({member.death})"
    return f" ({member.proven.name})" if member.proven is not None else ""
