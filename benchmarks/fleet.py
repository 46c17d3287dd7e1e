"""The gates of the fleet: what its twins give away, how many openings there are, how fast it is, what policies earn.

    python -m benchmarks.fleet [--part PART ...] [--tier TIER ...] [--pairs N] [--json FILE]

Twins are told apart by shallow learners, cross-fitted by pair, after one look of each kind. Returns weigh the twins by
the prior, and half and half. Intervals are bootstraps over pairs, 95 %.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks import sim
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.contract import STYLES, PolicyFactory, Scenario, Style
from chaosops_ray.sim.fleet import FLEET, scenarios, story
from chaosops_ray.sim.fleet.model import DECEPTIVE, PRIORS, ROLES, TIERS, TWINS
from chaosops_ray.sim.fleet.plot import plot_of
from chaosops_ray.sim.fleet.policies import POLICIES
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.splits import IID, TRAIN
from tests.support import fleet_looks, redteam_fleet, shallow
from tests.support.shallow import Told

FIRST_SEED: Final = 40_000
# The gates.
TELL_LIMIT: Final = 0.60
SKELETONS: Final = (10_000, 20_000)  # so many different ones in so many seeds
SPEED_SHARE: Final = 1 / 6
CHEAP_SHARE: Final = 0.02
GAP_SHARE: Final = 0.15
CHAT_SHARE: Final = 0.10
CHEAP: Final = ("blind", "lookup", "flag-all", "flag-none", "freeze-all")
LADDER: Final = ("noop", "investigator", "bayes", "oracle")
WORST: Final = 6

Pairs: TypeAlias = Sequence[tuple[Scenario, Scenario]]


def pairs_of(tier: str, count: int, split: str = TRAIN) -> list[tuple[Scenario, Scenario]]:
    """Return pairs of twins of a tier, its rungs in turn."""
    rungs = [name for name, rung in RUNGS.items() if rung.tier == tier]
    return [
        (
            scenarios.scenario(f"{rungs[number % len(rungs)]}.{TWINS[0]}", split, FIRST_SEED + number),
            scenarios.scenario(f"{rungs[number % len(rungs)]}.{TWINS[1]}", split, FIRST_SEED + number),
        )
        for number in range(count)
    ]


# -- what openings show -----------------------------------------------------------------------------------------------


def shown(scenario: Scenario, style: Style) -> str:
    """Write what all four seats see at first."""
    world = FLEET.start(scenario, "strict")
    return "\n".join([FLEET.render(FLEET.view(world, role), None, style) for role in ROLES])


def unlike(pairs: Pairs) -> int:
    """Count the pairs whose openings differ in a byte, in either style."""
    return sum([any(shown(one, style) != shown(other, style) for style in STYLES) for one, other in pairs])


def skeletons(tier: str, seeds: int) -> int:
    """Count the openings that differ when digits are taken out of them."""
    rungs = [name for name, rung in RUNGS.items() if rung.tier == tier]
    found = set()
    for seed in range(seeds):
        opening = shown(scenarios.scenario(f"{rungs[seed % len(rungs)]}.{TWINS[0]}", TRAIN, seed), "full")
        found.add(hash(re.sub(r"[0-9]+", "", opening)))
    return len(found)


# -- what looks give away ---------------------------------------------------------------------------------------------


class Looked(NamedTuple):
    """What one look of each kind brought in many pairs, both twins of each."""

    names: list[str]
    table: shallow.Table
    texts: dict[Style, list[str]]
    labels: NDArray[np.float64]
    pairs: NDArray[np.int64]
    forms: list[str]

    def of_form(self, form: str) -> Looked:
        """Return the part in which rogues cover their deeds in this way."""
        rows = np.array([one == form for one in self.forms])
        return self._replace(
            table=self.table[rows],
            labels=self.labels[rows],
            pairs=self.pairs[rows],
            texts={},
            forms=[form] * int(rows.sum()),
        )


def looked(pairs: Pairs, aim: str, delay: int, styles: Sequence[Style], *, crossed: bool = False) -> Looked:
    """Take one look of each kind in every pair."""
    rows: list[fleet_looks.Features] = []
    texts: dict[Style, list[str]] = {style: [] for style in styles}
    labels, numbers, forms = [], [], []
    for number, twins in enumerate(pairs):
        for scenario in twins:
            plot = story.plot(scenario)
            aimed = fleet_looks.AIMS[aim](plot, random.Random(scenario.seed))
            world = fleet_looks.taken(fleet_looks.after(scenario, delay), aimed)
            row = fleet_looks.features(world, aimed)
            rows.append(row | fleet_looks.crossed(world, aimed) if crossed else row)
            for style in styles:
                texts[style].append(fleet_looks.text(world, aimed, style))
            labels.append(float(story.is_rogue(scenario)))
            numbers.append(number)
            forms.append(f"{plot.rung.name}, {plot.form.covers.__name__}")
    names = sorted({name for row in rows for name in row})
    table = np.array([[row.get(name, fleet_looks.MISSING) for name in names] for row in rows])
    return Looked(names, table, texts, np.array(labels), np.array(numbers), forms)


def tells(found: Looked) -> list[tuple[str, float]]:
    """Return the figures that alone tell the twins apart best, each with its area under the curve."""
    areas = [
        (name, shallow.area(column, found.labels)) for name, column in zip(found.names, found.table.T, strict=True)
    ]
    return sorted(areas, key=lambda one: -abs(one[1] - 0.5))[:WORST]


def learnt(found: Looked) -> dict[str, Told]:
    """Return how well each learner tells the twins apart."""
    told = {"trees": _told(shallow.boosted_trees, found.table, found)}
    for style, texts in found.texts.items():
        told[f"words, {style}"] = _told(shallow.logistic, shallow.words(texts), found)
    return told


def _told(learner: shallow.Learner, table: shallow.Table, found: Looked) -> Told:
    varies = table.std(0) > 0
    scores = shallow.cross_fitted(learner, table[:, varies], found.labels, found.pairs)
    return shallow.told(scores, found.labels, found.pairs)


def report_tells(tiers: Sequence[str], count: int, aims: Sequence[str], delays: Sequence[int]) -> dict[str, Any]:
    """Measure and print what looks give away."""
    figures: dict[str, Any] = {}
    print(
        f"twins told apart after one look of each kind, {count} pairs of each tier; limit on {DECEPTIVE}: {TELL_LIMIT}"
    )
    for tier in tiers:
        pairs = pairs_of(tier, count)
        for aim in aims:
            for delay in delays:
                found = looked(pairs, aim, delay, STYLES)
                told = learnt(found)
                cells = [f"{name} {one.area:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in told.items()]
                print(f"  {tier}, {aim}, after {delay} turns: {'; '.join(cells)}", flush=True)
                by_form = {form: tells(found.of_form(form)) for form in sorted(set(found.forms))}
                for form, best in by_form.items():
                    print(f"    {form}: " + ", ".join([f"{name} {area:.3f}" for name, area in best if area != 0.5]))
                figures[f"{tier}/{aim}/{delay}"] = {
                    "learners": {name: one._asdict() for name, one in told.items()},
                    "tells": by_form,
                }
    return figures


# -- how fast ---------------------------------------------------------------------------------------------------------


def report_speed() -> dict[str, Any]:
    """Measure and print steps a second beside world 1's, in turns."""
    worlds = {name: ENVIRONMENTS.get(name, FLEET) for name in ("incident", "fleet")}
    scripts = {name: sim.script(world, world.rule_sets[0]) for name, world in worlds.items()}
    steps = {name: sum([len(actions) for _, actions in script]) for name, script in scripts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in worlds}
    for _ in range(sim.RUNS):
        for name, world in worlds.items():
            plot_of.cache_clear()  # starts are part of it
            story.story.cache_clear()
            began = time.perf_counter()
            sim.bare(world, world.rule_sets[0], scripts[name])
            seconds[name].append(time.perf_counter() - began)
    rates = {name: steps[name] / statistics.median(spent) for name, spent in seconds.items()}
    share = rates["fleet"] / rates["incident"]
    least = f"at least {SPEED_SHARE:.3f}"
    print(f"steps/s, bare: fleet {rates['fleet']:,.0f}, incident {rates['incident']:,.0f}; share {share:.3f}, {least}")
    return {**rates, "share": share}


# -- what policies earn -----------------------------------------------------------------------------------------------


class Earned(NamedTuple):
    """What a policy earns beyond noop, as a share of what the oracle does, with its interval over pairs."""

    mean: float
    share: float
    low: float
    high: float


def returns(pairs: Pairs, factories: dict[str, PolicyFactory]) -> dict[str, NDArray[np.float64]]:
    """Return what each policy earns in each pair, rogue twin first."""
    earned: dict[str, list[list[float]]] = {name: [] for name in factories}
    for twins in pairs:
        for name, factory in factories.items():
            earned[name].append([play(FLEET, one, "strict", factory(one, "strict")).total for one in twins])
    return {name: np.array(found) for name, found in earned.items()}


def earned(found: dict[str, NDArray[np.float64]], rogue: float) -> dict[str, Earned]:
    """Weigh the twins, and compare each policy with noop and the oracle."""
    weights = np.array([rogue, 1 - rogue])
    of = {name: each @ weights for name, each in found.items()}
    beyond = {name: each - of["noop"] for name, each in of.items()}
    draw = np.random.default_rng(0)
    count = len(of["noop"])
    resampled = [draw.integers(0, count, count) for _ in range(shallow.RESAMPLES)]
    spans = [beyond["oracle"][rows].mean() for rows in resampled]
    shares = {}
    for name, each in beyond.items():
        drawn = [each[rows].mean() / span for rows, span in zip(resampled, spans, strict=True)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        shares[name] = Earned(
            float(of[name].mean()), float(each.mean() / beyond["oracle"].mean()), float(low), float(high)
        )
    return shares


def mute(factory: PolicyFactory) -> PolicyFactory:
    """Return the same policy for seats that do not hear each other: each has its own, and no chat."""

    def build(scenario: Scenario, rules: str) -> Callable[[Any], Any]:
        seats = {role: factory(scenario, rules) for role in ROLES}
        return lambda view: seats[view.role](view._replace(chat=(), inbox=()))

    return build


def apart(factory: PolicyFactory) -> PolicyFactory:
    """Return the same policy for seats that know of each other only what they say."""

    def build(scenario: Scenario, rules: str) -> Callable[[Any], Any]:
        seats = {role: factory(scenario, rules) for role in ROLES}
        return lambda view: seats[view.role](view)

    return build


def attempts() -> dict[str, PolicyFactory]:
    """Return the red team's policies by name."""
    return {name: factory for kind in redteam_fleet.KINDS.values() for name, factory in kind.items()}


def report_returns(tiers: Sequence[str], count: int) -> dict[str, Any]:
    """Measure and print what every policy earns, and which gates hold."""
    figures: dict[str, Any] = {}
    baselines = dict(POLICIES)
    talking = {f"{name}, no chat": mute(POLICIES[name]) for name in ("bayes",) if name in POLICIES}
    together = {f"{name}, seats apart": apart(POLICIES[name]) for name in ("bayes",) if name in POLICIES}
    for tier in tiers:
        found = returns(pairs_of(tier, count, IID), {**baselines, **talking, **together, **attempts()})
        for label, rogue in (("prior", PRIORS["usual"].rogue), ("half and half", 0.5)):
            shares = earned(found, rogue)
            print(f"returns on {tier}, {count} pairs, twins weighed by {label}; share of oracle − noop")
            shown_ones = [*baselines, *talking, *together]
            tried = sorted(attempts(), key=lambda name: -shares[name].share)[:WORST]
            for name in [*shown_ones, *tried]:
                one = shares[name]
                print(f"  {name:<34}{one.mean:+9.1f}{one.share:+8.3f} [{one.low:+.3f}, {one.high:+.3f}]")
            for line in verdicts(shares):
                print(f"  {line}", flush=True)
            figures[f"{tier}/{label}"] = {name: one._asdict() for name, one in shares.items()}
    return figures


def verdicts(shares: dict[str, Earned]) -> list[str]:
    """Say which gates hold: what is cheap earns little, every step of the ladder is a gap, and chat has value."""
    out = []
    cheap = [name for name in (*CHEAP, *attempts()) if name in shares]
    over = [f"{name} {shares[name].share:+.3f}" for name in cheap if shares[name].share > CHEAP_SHARE]
    out.append(f"cheap policies at most {CHEAP_SHARE:+.2f}: " + ("all" if not over else "not " + ", ".join(over)))
    steps = [name for name in LADDER if name in shares]
    for lower, upper in pairwise(steps):
        gap = shares[upper].share - shares[lower].share
        least = 0.0 if upper == LADDER[-1] else GAP_SHARE
        out.append(f"{lower} < {upper}: gap {gap:+.3f}, at least {least}: {'yes' if gap >= least else 'no'}")
    if "bayes, no chat" in shares:
        lost = shares["bayes"].share - shares["bayes, no chat"].share
        least = CHAT_SHARE * shares["bayes"].share
        out.append(f"without chat bayes loses {lost:.3f}, at least {least:.3f}: {'yes' if lost >= least else 'no'}")
    return out


# -- the command ------------------------------------------------------------------------------------------------------

PARTS: Final = ("openings", "tells", "skeletons", "speed", "returns")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts asked for, print tables, write the figures where asked."""
    parser = argparse.ArgumentParser(description="The gates of the fleet.")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given again")
    parser.add_argument("--tier", choices=TIERS, action="append", help="only this tier; may be given again")
    parser.add_argument("--aim", choices=list(fleet_looks.AIMS), action="append", help="only this aim of the looks")
    parser.add_argument("--delay", type=int, action="append", help="turns that pass before the looks")
    parser.add_argument("--pairs", type=int, default=2000, metavar="N", help="pairs of twins of each tier")
    parser.add_argument("--seeds", type=int, default=SKELETONS[1], metavar="N", help="seeds whose openings are counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    if given.pairs < shallow.FOLDS:
        parser.error(f"--pairs must be at least {shallow.FOLDS}")
    parts, tiers = given.part or PARTS, given.tier or TIERS
    figures: dict[str, Any] = {}
    if "openings" in parts:
        figures["openings"] = {tier: unlike(pairs_of(tier, given.pairs)) for tier in tiers}
        print(f"pairs whose openings differ, of {given.pairs}: {figures['openings']}")
    if "tells" in parts:
        aims, delays = given.aim or list(fleet_looks.AIMS), given.delay or fleet_looks.DELAYS
        figures["tells"] = report_tells(tiers, given.pairs, aims, delays)
    if "skeletons" in parts:
        figures["skeletons"] = {tier: skeletons(tier, given.seeds) for tier in tiers}
        print(f"openings without digits, different ones in {given.seeds:,} seeds: {figures['skeletons']}")
    if "speed" in parts:
        figures["speed"] = report_speed()
    if "returns" in parts:
        figures["returns"] = report_returns(tiers, given.pairs)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
