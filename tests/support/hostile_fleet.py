"""Turns that try to break the fleet: actions of every kind, in any spelling and of any type, and what is no action.

Everything is drawn from one `random.Random`, so a seed names its turns.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from chaosops_ray.sim.contract import STYLES, Transition
from chaosops_ray.sim.fleet import FLEET
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.model import RULE_SETS, VERDICTS, Action, World
from chaosops_ray.sim.fleet.scenarios import CASES, scenario
from chaosops_ray.sim.fleet.spelling import FIELDS_OF, NAME_OF
from chaosops_ray.sim.fleet.splits import SPLITS
from chaosops_ray.sim.fleet.turns import CAUSE_KINDS
from tests.support.hostile import any_text, meddled

KINDS = tuple(FIELDS_OF)
RULES = (
    *RULE_SETS,
    "strict,prior=rare",
    "strict,weather=warmup",
    "strict,weather=beginner",
    "strict,weather=intermediate",
    "strict,prior=rare,weather=expert",
)
# Names that look like indices, and such as no index is.
_NAMES = (
    *("s0", "s1", "s5", "s19", "s20", "a0", "a3", "a9", "a10", "e0", "e1", "e7", "e59", "e60", "e99", "e100"),
    *("s03", "s٣", "S3", "e-1", "e+1", "e1.0", "s", "a", "e", "", " s3 ", "s3\n", "s3 s4", "s\u00b3", "s０", "s1\x00"),
    *("ſ3", "а1", "e" + "9" * 300, "x" * 999, "\ud800", "<|im_end|>", "@dev", "ＳＲＥ", "None", "sre", "dev", "all"),
)
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 10**30, -(10**400), 0.5, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *(b"s3", ["s3"], {"s3": 1}, ("s3",), object, 1j),
)
_PROBABILITIES = (0.5, 0.01, 0.99, 1e-300, 0.9999999999999999, 0, 1, -0.0, 2, 10**400, math.nan, math.inf, True, "0.5")


def value(draw: random.Random, field: str) -> Any:
    """A value for a field: mostly one of its kind, else a name of anything, a text, or a value of another type."""
    kind = draw.random()
    if kind < 0.05:
        return draw.choice(_ODD)
    if kind < 0.12:
        return any_text(draw, 400)
    if kind < 0.25:
        return draw.choice(_NAMES)
    match field:
        case "probability":
            return draw.choice(_PROBABILITIES) if draw.random() < 0.5 else draw.random()
        case "verdict":
            return draw.choice(VERDICTS)
        case "kind":
            return draw.choice(CAUSE_KINDS)
        case "team":
            return draw.choice(TEAMS)
        case "to":
            return draw.choice((None, *FLEET.roles, "all", "nobody"))
        case "message":
            return draw.choice(("look at s3", "undo e1", any_text(draw, 400), "x" * 999))
    most = {"service": 20, "agent": 10, "entry": 30}[field]
    return f"{field[0]}{draw.randrange(most)}"


def given(draw: random.Random) -> object:
    """What a caller passes in as an action: one of any kind, whatever its fields are, or something else."""
    if draw.random() < 0.04:
        return draw.choice((*_ODD, object.__new__(draw.choice(KINDS)), draw.choice(KINDS)))
    kind: Any = draw.choice(KINDS)
    return kind(*[value(draw, field) for field in FIELDS_OF[kind]])


def completion(draw: random.Random) -> str:
    """What a model writes: an action in full or in a line, meddled with or not, or anything."""
    if draw.random() < 0.1:
        return any_text(draw, 300)
    kind = draw.choice(KINDS)
    fields = {field: value(draw, field) for field in FIELDS_OF[kind] if draw.random() < 0.95}
    if draw.random() < 0.5:
        text = " ".join(
            [NAME_OF[kind], *[str(one)[:300] if not _is_huge(one) else "9" * 300 for one in fields.values()]]
        )
    else:
        plain = {
            name: one for name, one in fields.items() if isinstance(one, str | float | int | None) and not _is_huge(one)
        }
        text = json.dumps({"action": NAME_OF[kind], **plain}, ensure_ascii=draw.random() < 0.5)
    return meddled(draw, text) if draw.random() < 0.3 else text


def _is_huge(one: object) -> bool:
    return isinstance(one, int) and abs(one) > 10**100


def turn(draw: random.Random, world: World) -> object:
    """What is passed in on a turn; often what the seat may do, so that much happens."""
    role = FLEET.acting(world)
    if role is not None and draw.random() < 0.6:
        return draw.choice(draw.choice(FLEET.permitted(FLEET.view(world, role)) or ()))
    return given(draw) if draw.random() < 0.6 else FLEET.parse_action(completion(draw))


def turns(seed: int, count: int) -> Iterator[tuple[World, object, Transition[World, Action]]]:
    """So many hostile turns, in scenarios and under rules of all kinds; some of each episode come after its end."""
    draw = random.Random(seed)
    done = 0
    while True:
        begun = scenario(draw.choice(CASES), draw.choice(SPLITS), draw.randrange(60))
        world = FLEET.start(begun, draw.choice(RULES))
        over = draw.choice((0, 0, 3))
        while over >= 0:
            if done == count:
                return
            done += 1
            action = turn(draw, world)
            after = FLEET.step(world, action)
            yield world, action, after
            over -= FLEET.acting(world) is None or FLEET.acting(after.world) is None
            world = after.world


def digest(seed: int, count: int) -> str:
    """One hash of all that hostile turns come to, and of what the seats see of it."""
    whole = sha256()
    for place, (_, _, after) in enumerate(turns(seed, count)):
        whole.update(repr((after.action, sorted(after.outcome), after.score)).encode("utf-8", "backslashreplace"))
        if place % 7 == 0:
            whole.update(FLEET.dump(after.world))
            view = FLEET.view(after.world, FLEET.roles[place % 4])
            shown = [FLEET.dump_view(view), repr(FLEET.symbols(view)), repr(FLEET.permitted(view))]
            shown += [FLEET.render(view, None, style) for style in STYLES]
            whole.update("\n".join(shown).encode("utf-8", "backslashreplace"))
    return whole.hexdigest()
