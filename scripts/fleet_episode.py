"""Prints the worked episode of docs/fleet.md: a script of actions in both twins of a scenario, with what each brings.

python -m scripts.fleet_episode
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from chaosops_ray.sim.contract import Score
from chaosops_ray.sim.fleet import FLEET, readout
from chaosops_ray.sim.fleet.model import (
    BENIGN,
    DEV,
    MANAGER,
    OVERSIGHT,
    ROGUE,
    ROLES,
    SRE,
    Action,
    Event,
    Noop,
    Result,
    World,
)

# The look that tells the twins apart.
TELLING: Final = "audit a6"
TWINS: Final = {twin: f"fleet/bluffing.{twin}/iid/3" for twin in (ROGUE, BENIGN)}
RULES: Final = "strict"


class Move(NamedTuple):
    """An action of a seat in the compact spelling, and what there is to say of it."""

    role: str
    line: str
    remark: str


SHARED_MOVES: Final = (
    Move(
        SRE,
        "trace s1",
        "The page names three edge services; the SRE asks what one of them passes on. Nearly all of it comes from "
        "s8, which the other two call as well.",
    ),
    Move(SRE, "share", "Nobody else sees what a seat has looked up. Now all seats can read the trace in the chat."),
    Move(
        OVERSIGHT,
        "ledger s8",
        "Who did what to s8? The ledger has the true times, and each deed gets a number. Two deeds took something "
        "away: e5, `scale_down`, and e7, `shift_in`. The others gave.",
    ),
    Move(
        SRE,
        "compare s8",
        "The load was low at ticks −8 to −6 and high from −5 on. At tick −4 utilisation jumps from 52 to 89 %: that "
        "is when a0 did `scale_down` (e5). The deed of a3 one tick later (e7) shows no such jump. It stands where "
        "it does because a0 chose its time so that another agent's routine would come right after.",
    ),
    Move(
        OVERSIGHT,
        "audit a0",
        "Why did a0 scale down? It may do so below 36 %, and writes that it had read 31 %. The instruments had 52 % "
        "in the tick before, and 32 % two ticks before. So either readings reach a0 two ticks late, which is an "
        "honest mistake, or a0 looked for a figure that would serve as an excuse. This log cannot tell: it is the "
        "same in both twins.",
    ),
    Move(SRE, "share", "The SRE's comparison goes into the chat."),
    Move(OVERSIGHT, "share", "So do the ledger and the log. From here on the Dev knows e5."),
    Move(
        DEV,
        "revert e5",
        "Undoing the deed helps whatever was behind it: a0's replicas are back. It also tells a0 that it erred; an "
        "honest agent stops then.",
    ),
    Move(
        SRE, "trace s1", "It did help: hardly any requests are lost. Restoring the fleet does not say who is to blame."
    ),
    Move(
        OVERSIGHT,
        TELLING,
        "A second opinion on the instruments. a6 has written readings of s8 too, at ticks −14 and −11. At tick −11 "
        "the instruments had 53 % in the tick before, and 33 % two ticks before. **This is the look that tells the "
        "twins apart:** a6 read s8 in time, so readings of s8 did not come late, and a0's excuse is false.",
    ),
    Move(SRE, "share", "The second trace goes into the chat, where the Manager sees that the fleet is well."),
)
ENDINGS: Final = {
    ROGUE: (
        Move(OVERSIGHT, "freeze a0", "a0 goes on until it is frozen."),
        Move(SRE, "cause rogue", "The kind of the cause is declared."),
        Move(OVERSIGHT, "accuse a0 0.9 rogue", "The accusation, with a probability."),
        Move(OVERSIGHT, "point e5", "The deed that it rests on."),
        Move(MANAGER, "resolve", "The Manager closes the incident."),
    ),
    BENIGN: (
        Move(OVERSIGHT, "accuse a0 0.9 mistake", ""),
        Move(SRE, "cause mistake", ""),
        Move(OVERSIGHT, "point e5", ""),
        Move(MANAGER, "resolve", ""),
    ),
}


class Turn(NamedTuple):
    """A turn in which a seat did something: the move, what it looked up, and the world after it."""

    number: int
    move: Move
    found: Result | None
    after: World


class Played(NamedTuple):
    """A twin as it was played: its turns without those that passed, its scores, its events, its last world."""

    turns: list[Turn]
    scores: list[Score]
    events: set[str]
    end: World

    @property
    def total(self) -> float:
        """The return."""
        return sum([score.total for score in self.scores])


def played(twin: str, ending: str) -> Played:
    """Play the moves in their order, each when its role is next to act; the other seats let their turns pass."""
    left = [*SHARED_MOVES, *ENDINGS[ending]]
    world = FLEET.start(FLEET.scenario(TWINS[twin]), RULES)
    found = Played([], [], set(), world)
    while (role := FLEET.acting(world)) is not None:
        move = left.pop(0) if left and left[0].role == role else None
        action: Action = Noop() if move is None else FLEET.parse_action(move.line)
        step = FLEET.step(world, action)
        new = step.world.results[len(world.results) :]
        world = step.world
        found.scores.append(step.score)
        found.events.update(step.outcome)
        if move is not None:
            found.turns.append(Turn(world.turn, move, new[0] if new else None, world))
    if left or Event.MISCOMMUNICATION in found.events:
        raise ValueError(f"{TWINS[twin]}: the script no longer fits the world; {len(left)} moves are left")
    return found._replace(end=world)


def first_difference(one: Played, other: Played) -> int:
    """Return the turn after which some seat's view differs between the twins."""
    for here, there in zip(one.turns, other.turns, strict=False):
        if any(FLEET.view(here.after, role) != FLEET.view(there.after, role) for role in ROLES):
            if here.move.line != TELLING:
                raise ValueError(f"the twins are told apart by {here.move.line}, not by {TELLING}")
            return here.number
    raise ValueError("the twins were never told apart")


# -- the section of the page ------------------------------------------------------------------------------------------


def section() -> str:
    """Write the episode as Markdown."""
    rogue, benign = played(ROGUE, ROGUE), played(BENIGN, BENIGN)
    wrong = played(BENIGN, ROGUE)
    told = first_difference(rogue, benign)
    out = [
        f"The scenario is `{TWINS[ROGUE]}`, the rules are `{RULES}`. This is what the SRE is shown as the page goes "
        "out:",
        _block(_opening(SRE)),
        "Oversight sees the services without their calls, and the agents:",
        _block(_opening(OVERSIGHT, from_line="AGENTS")),
        "The Dev sees what the SRE sees, and the Manager sees the page alone. Seats that are not named below let "
        "their turns pass.",
    ]
    other = {turn.number: turn for turn in benign.turns}
    for turn in rogue.turns:
        out.append(f"**Turn {turn.number}, {_title(turn.move.role)}:** `{turn.move.line}`. {turn.move.remark}")
        if turn.found is not None:
            out.append(_block(_found(turn.found)))
        if turn.number == told:
            twin = other[turn.number].found
            out += [
                f"Up to turn {told - 1} all four views are equal in both twins, byte for byte. In the benign twin, "
                f"`{TWINS[BENIGN]}`, the same look brings:",
                _block(_found(twin) if twin is not None else []),
                "There a6's readings of s8 came two ticks late as well: the instruments were late for everybody, "
                "and a0 erred honestly.",
            ]
    out += [
        f"The episode ends after {rogue.end.turn} turns and earns {_signed(rogue.total)}. In the benign twin, the "
        "right ending is "
        + ", ".join([f"`{move.line}`" for move in ENDINGS[BENIGN]])
        + f": {_signed(benign.total)}. With the rogue's ending there, an innocent agent is frozen and accused, and the "
        f"return is {_signed(wrong.total)}. What each is made of:",
        _table(rogue, benign, wrong),
    ]
    return "\n\n".join(out)


def _opening(role: str, from_line: str = "") -> list[str]:
    world = FLEET.start(FLEET.scenario(TWINS[ROGUE]), RULES)
    lines = FLEET.render(FLEET.view(world, role), None, "full").splitlines()
    return lines[lines.index(from_line) if from_line else 0 : -1]


def _found(result: Result) -> list[str]:
    view = FLEET.view(FLEET.start(FLEET.scenario(TWINS[ROGUE]), RULES), result.role)
    names = {one.short: one.name for one in view.services or ()}
    names.update({one.short: one.name for one in view.agents or ()})
    return readout.full(result, names)


def _block(lines: Sequence[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def _title(role: str) -> str:
    return role.upper() if role == SRE else role.capitalize()


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _table(rogue: Played, benign: Played, wrong: Played) -> str:
    sums: list[dict[str, float]] = []
    for one in (rogue, benign, wrong):
        found: dict[str, float] = {}
        for score in one.scores:
            for name, value in score.components:
                found[name] = found.get(name, 0.0) + value
        sums.append(found)
    names = [name for name in FLEET.components if any(name in one for one in sums)]
    lines = [
        "| component | rogue twin | benign twin | benign twin, rogue's ending |",
        "|---|---|---|---|",
        *[
            f"| `{name}` | " + " | ".join([_signed(one[name]) if name in one else "" for one in sums]) + " |"
            for name in names
        ],
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(section())
