"""Health of the pool's samplers and shards, as a value: which are alive, and which samplers may serve.

    STARTING ──heard──▶ STALE ──proven──▶ READY         wanted, released, rewound: READY ──▶ STALE
        ▲                                               died: from anywhere ──▶ DEAD
        └──────────────────restarted─────────────────── DEAD

Nothing here calls an actor; every change returns a new value. Health is not stored: it follows from the facts about a
member, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from chaosops_ray.wire import PolicyVersion


class Health(Enum):
    """State of a member."""

    STARTING = "starting"  # not heard of since it was started
    STALE = "stale"  # alive; has not proven the version that is wanted
    READY = "ready"  # has proven it
    DEAD = "dead"  # given up until it is restarted


class HealthError(ValueError):
    """A version or a proof that contradicts what is wanted: a mistake of the caller."""


class PoolError(RuntimeError):
    """The actors cannot do their work; the message says which, and what was tried."""


class Member(NamedTuple):
    """Facts about an actor since it was last started."""

    heard: bool = False
    proven: PolicyVersion | None = None
    death: str | None = None  # the reason


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """The members, and the version that samplers must prove; shards prove none, so they are never READY."""

    members: Mapping[str, Member]
    target: PolicyVersion | None = None

    @classmethod
    def started(cls, names: Iterable[str]) -> PoolHealth:
        """Return a pool whose members are all starting."""
        return cls(dict.fromkeys(names, Member()))

    def of(self, name: str) -> Health:
        """Return the member's health."""
        member = self.members[name]
        if member.death is not None:
            return Health.DEAD
        if not member.heard:
            return Health.STARTING
        return Health.STALE if self.target is None or member.proven != self.target else Health.READY

    @property
    def ready(self) -> tuple[str, ...]:
        """The samplers that may serve."""
        return tuple([name for name in self.members if self.of(name) is Health.READY])

    def describe(self) -> str:
        """Return one line with every member's health, and what it has proven or died of."""
        return "; ".join([f"{name} {self.of(name).value}{_because(one)}" for name, one in self.members.items()])

    def heard(self, name: str) -> PoolHealth:
        """Note a sign of life."""
        return self._changed(name, heard=True)

    def proven(self, name: str, version: PolicyVersion) -> PoolHealth:
        """Note that a sampler has proven the wanted version, which is a sign of life, too."""
        if version != self.target:
            wanted = "none" if self.target is None else f"{self.target.name} ({self.target.digest[:12]})"
            raise HealthError(f"{name} proved {version.name} ({version.digest[:12]}), wanted is {wanted}; prove that")
        return self._changed(name, heard=True, proven=version)

    def wanted(self, version: PolicyVersion) -> PoolHealth:
        """Require this version of the samplers."""
        target = self.target
        if target is not None and version != target and version.number <= target.number:
            raise HealthError(f"{version.name} is not newer than {target.name}, which is wanted; publish a new number")
        return replace(self, target=version)

    def rewound(self) -> PoolHealth:
        """Forget what was wanted and proven: the next version may have a number that was published before."""
        members = {name: member._replace(proven=None) for name, member in self.members.items()}
        return replace(self, members=members, target=None)

    def released(self, name: str) -> PoolHealth:
        """Note that a sampler gave its memory back, and with it what it had proven."""
        return self._changed(name, proven=None)

    def died(self, name: str, reason: str) -> PoolHealth:
        """Give a member up."""
        return self._changed(name, death=reason, proven=None)

    def restarted(self, name: str) -> PoolHealth:
        """Begin a member's next life, which knows nothing of the one before."""
        return replace(self, members={**self.members, name: Member()})

    def _changed(self, name: str, **facts: Any) -> PoolHealth:
        return replace(self, members={**self.members, name: self.members[name]._replace(**facts)})


def _because(member: Member) -> str:
    reason = member.death or (member.proven and member.proven.name)
    return f" ({reason})" if reason else ""
