"""The environment contract as one function: `check_environment` runs any world through all that callers rely on.

A world that is added to chaosops_ray/sim/worlds.py is put through it by tests/sim/test_contract.py; nothing in here
knows any world by name. Run as a module it prints the traces of one world, which is how another process is asked.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from chaosops_ray.sim import InputError, play, replay
from chaosops_ray.sim.actions import Parameter
from chaosops_ray.sim.contract import AFTER_END, NOTHING, AnyEnvironment, AnyEpisode, Scenario
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.twins import FIGURES

ATOMS = (str, bytes, int, float, bool, type(None))
STYLES = ("full", "compact")
# What a caller may hand to `step` by mistake or in malice; every one of them must cost a turn and nothing more.
STRAY_ACTIONS = (None, "restart db", {"action": "noop"}, 3.5, [], object(), float("nan"), b"\xff")


def check_environment(environment: AnyEnvironment, scenarios: Sequence[Scenario]) -> None:
    """Every promise of the contract, on these scenarios, under every rule set, with every baseline policy."""
    assert scenarios
    for scenario in scenarios:
        assert environment.scenario(scenario.identity) == scenario
        assert scenario.tier in environment.tiers
        together = environment.partners(scenario)
        assert scenario in together
        for partner in together:
            assert environment.partners(partner) == together
            assert environment.scenario(partner.identity) == partner
            assert (partner.cluster, partner.tier) == (scenario.cluster, scenario.tier)
    check_rule_sets(environment)
    check_forms(environment)
    check_twins(environment, scenarios)
    for rules in environment.rule_sets:
        for scenario in scenarios:
            for episode in _episodes(environment, scenario, rules):
                _check_rewards(environment, episode)
                _check_views(environment, episode)
                _check_after_end(environment, episode)
                _check_words(environment, episode)
                _check_permitted(environment, episode)
            # One long, wandering episode stands for the others where whole futures are compared.
            _check_futures(environment, episode)
            _check_strays(environment, scenario, rules)
        _check_other_processes(environment, scenarios, rules)


def check_rule_sets(environment: AnyEnvironment) -> None:
    """A person may leave the version out; a record may not, and no other version is taken for the present one."""
    scenario = environment.cases[0]
    for full_name in environment.rule_sets:
        name, is_versioned, version = full_name.partition("/")
        assert environment.rules(full_name) == environment.rules(name) == full_name
        assert environment.recorded_rules(full_name) == full_name
        snapshot = environment.dump(environment.start(scenario, full_name))
        assert environment.dump(environment.start(scenario, name)) == snapshot
        assert replay(environment, scenario, name, ()).rules == full_name
        named = json.dumps(full_name).encode()
        assert snapshot.count(named) == 1
        other = f"{name}/{int(version or 1) + 1}"
        for written in (other, *([name] if is_versioned else [])):
            refused = f"rules {name}/1 are" if written == name else f"rules {other} are"
            assert refused in _refusal(environment.recorded_rules, written)
            assert refused in _refusal(environment.load, snapshot.replace(named, json.dumps(written).encode()))
        assert f"rules {other} are" in _refusal(environment.start, scenario, other)


def check_twins(environment: AnyEnvironment, scenarios: Sequence[Scenario]) -> None:
    """Either a world asks of every scenario if it is guilty, and its pairs are twins; or it asks nothing of the kind.

    Twins look the same to every role at the beginning.
    """
    names = [metric.name for metric in environment.metrics]
    assert environment.suspicion is None or environment.suspicion in names
    assert not {figure.name for figure in FIGURES} & set(names)
    for scenario in scenarios:
        assert (environment.guilty(scenario) is None) == (environment.suspicion is None)
        for rules in environment.rule_sets:
            assert 0.0 < environment.weight(scenario, rules) < math.inf
        if environment.suspicion is not None:
            together = environment.partners(scenario)
            assert {environment.guilty(partner) for partner in together} == {True, False}
            for rules in environment.rule_sets:
                starts = [environment.start(partner, rules) for partner in together]
                for role in environment.roles:
                    assert len({environment.dump_view(environment.view(world, role)) for world in starts}) == 1


# A value of each kind of argument.
ARGUMENTS = {"text": "standing by", "whole": 3, "number": 2.5, "probability": 0.25, "scalar": 1}


def check_forms(environment: AnyEnvironment) -> None:
    """Every form of a seat is an action if its arguments fit; whatever else is passed is an action too, and none raises."""
    scenario = environment.cases[0]
    for rules in environment.rule_sets:
        world = environment.start(scenario, rules)
        for role in environment.roles:
            forms = environment.forms(role, rules)
            assert len({form.name for form in forms}) == len(forms) > 0
            for form in forms:
                assert form.name.isidentifier()
                assert form.purpose
                for parameters in (form.parameters, [one for one in form.parameters if one.is_required]):
                    given = {one.name: one.valid[0] if one.valid else ARGUMENTS[one.kind] for one in parameters}
                    action = environment.call(form.name, given)
                    assert not isinstance(action, Unparsed)
                    fields = _filled(environment.call_fields(form), given)
                    full = environment.format_action(action, "full")
                    assert environment.parse_action(json.dumps(fields)) == action
                    assert json.dumps(json.loads(full)) == json.dumps(fields), "in the order of its fields"
                    written = environment.dump_action(action)
                    assert environment.load_action(written) == action
                    assert environment.action_of(json.loads(written)) == action
                    for stray in (None, [], "x", 1.5, {"no such argument": 1}, {1: object()}, {"": float("nan")}):
                        environment.step(world, environment.call(form.name, stray))
        assert "role" in _refusal(environment.forms, "nobody", rules)
    for stray in (
        *STRAY_ACTIONS,
        {},
        {"action": []},
        {"tool": {}},
        {"type": 1},
        {("a",): 1},
        _nested(100_000),
        "\ud800",
    ):
        action = environment.action_of(stray)
        environment.step(world, action)
        assert environment.load_action(environment.dump_action(action)) == action


def _filled(fields: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a call, with the arguments that are given in the places of its parameters."""
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if not isinstance(field, Parameter):
            found[name] = field if isinstance(field, str) else _filled(field, given)
        elif field.name in given:
            found[name] = given[field.name]
    return found


def _nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = {"action": value}
    return value


def check_vocabularies(environment: AnyEnvironment) -> None:
    """A role's fixed list, if it has one, has each spelling once, as the action writes itself."""
    for role in environment.roles:
        listed = environment.vocabulary(role)
        if listed is not None:
            assert listed == environment.vocabulary(role)
            assert len(set(listed)) == len(listed)
            for spelling in listed:
                assert environment.format_action(environment.parse_action(spelling), "compact") == spelling


def _refusal(method: Callable[..., object], *arguments: object) -> str:
    try:
        method(*arguments)
    except InputError as error:
        return str(error)
    raise AssertionError(f"{method} took {arguments}")


def _episodes(environment: AnyEnvironment, scenario: Scenario, rules: str) -> Iterator[AnyEpisode]:
    names = sorted(environment.policies, key=lambda name: name == "random")
    for name in names:
        yield play(environment, scenario, rules, environment.policies[name](scenario, rules))


def trace(environment: AnyEnvironment, episode: AnyEpisode) -> str:
    """A hash over everything that happened: states, views, words, actions, outcomes, rewards."""
    whole = sha256(environment.dump(episode.start))
    for step in episode.steps:
        whole.update(environment.dump(step.world))
        whole.update(environment.dump_view(step.view).encode())
        whole.update(repr(dict(environment.symbols(step.view))).encode())
        for style in STYLES:
            whole.update(environment.render(step.view, None, style).encode())
        whole.update(environment.dump_action(step.action).encode())
        whole.update(repr((step.role, sorted(step.outcome), step.score)).encode())
    return whole.hexdigest()


def _check_rewards(environment: AnyEnvironment, episode: AnyEpisode) -> None:
    """A reward is the sum of its named components, finite and bounded, and the return is the sum of rewards."""
    low, high = environment.reward_range(episode.rules)
    sums = [0.0, *itertools.accumulate([step.score.total for step in episode.steps])]
    assert all(low <= after - before <= high for before, after in itertools.combinations(sums, 2))
    for step in episode.steps:
        names = [name for name, _ in step.score.components]
        assert len(names) == len(set(names))
        assert set(names) <= set(environment.components or names)
        assert all(isinstance(value, float) and math.isfinite(value) for _, value in step.score.components)
        assert step.score.total == sum(value for _, value in step.score.components)
        assert all(math.isfinite(value) for value in environment.streams(step.score).values())
    assert math.isclose(episode.total, math.fsum(step.score.total for step in episode.steps))
    assert math.isfinite(environment.headline(episode))
    assert 0.0 <= environment.grade(episode) <= 1.0
    assert type(environment.succeeded(episode)) is bool
    for step in episode.steps:
        assert environment.error(step) != ""
    for metric in environment.metrics:
        value = metric.of(episode)
        assert value is None or math.isfinite(value)
        assert value is None or not metric.is_share or 0.0 <= value <= 1.0
        assert metric.name != environment.suspicion or (value is not None and 0.0 <= value <= 1.0)


def _check_views(environment: AnyEnvironment, episode: AnyEpisode) -> None:
    """A view is a type of its own, frozen all the way down, and says the same after the world has gone on."""
    kept = []
    worlds = _worlds(episode)
    for world in worlds:
        for role in environment.roles:
            view = environment.view(world, role)
            assert type(view) is not type(world)
            _assert_frozen(view)
            kept.append((view, environment.dump_view(view)))
        _assert_frozen(world)
    json.loads(kept[-1][1])
    for view, before in kept:
        assert environment.dump_view(view) == before
        found = environment.symbols(view)
        assert found
        assert all(type(name) is str and type(value) is float and math.isfinite(value) for name, value in found.items())
    for step, world in zip(episode.steps, worlds, strict=False):
        assert environment.view(world, step.role) == step.view


def _worlds(episode: AnyEpisode) -> list[Any]:
    return [episode.start, *(step.world for step in episode.steps)]


def _assert_frozen(value: Any) -> None:
    if isinstance(value, ATOMS):
        return
    if isinstance(value, tuple | frozenset):
        for item in value:
            _assert_frozen(item)
        return
    assert dataclasses.is_dataclass(value), f"{type(value).__name__} may be changed behind a holder's back"
    assert value.__dataclass_params__.frozen
    for field in dataclasses.fields(value):
        _assert_frozen(getattr(value, field.name))


def _check_after_end(environment: AnyEnvironment, episode: AnyEpisode) -> None:
    """Once it is over nobody acts, and whatever is done changes nothing and is worth nothing."""
    end = episode.steps[-1].world
    assert environment.acting(end) is None
    for action in (episode.steps[0].action, *STRAY_ACTIONS):
        after = environment.step(end, action)
        assert after.world == end
        assert after.outcome == AFTER_END
        assert after.score == NOTHING
    for world in [episode.start, *(step.world for step in episode.steps[:-1])]:
        assert environment.acting(world) in environment.roles


def _check_words(environment: AnyEnvironment, episode: AnyEpisode) -> None:
    """Actions survive being spelt, parsed and recorded; a second rendering of the same view is the same."""
    for step in episode.steps:
        for style in STYLES:
            assert environment.parse_action(environment.format_action(step.action, style)) == step.action
            assert environment.render(step.view, None, style) == environment.render(step.view, None, style)
        assert environment.load_action(environment.dump_action(step.action)) == step.action
    for role in environment.roles:
        for style in STYLES:
            assert environment.system_prompt(role, episode.rules, style)
        assert environment.opening(role, episode.rules, "compact") == ()
        for example in environment.opening(role, episode.rules, "full"):
            assert not isinstance(environment.parse_action(example.answer), Unparsed)


def _check_permitted(environment: AnyEnvironment, episode: AnyEpisode) -> None:
    """What is permitted is the same tuple again and again, without repetition, each of it spelt in its own way.

    A spelling is taken as the action is: a world may permit actions that only a step in this world can make out.
    """
    for before, step in zip(_worlds(episode), episode.steps, strict=False):
        kinds = environment.permitted(step.view)
        assert environment.permitted(step.view) is kinds
        listed = environment.vocabulary(step.role)
        assert listed is None or kinds, "a role with a fixed list of actions may always do one of them"
        if kinds is not None:
            assert all(kinds)
            actions = [action for kind in kinds for action in kind]
            for style in STYLES:
                spelt = [environment.format_action(action, style) for action in actions]
                assert len(set(spelt)) == len(spelt)
                assert listed is None or style != "compact" or set(spelt) <= set(listed)
                for action, text in zip(actions, spelt, strict=True):
                    taken = environment.step(before, action).action
                    assert environment.step(before, environment.parse_action(text)).action == taken
                    assert environment.load_action(environment.dump_action(taken)) == taken


def _check_futures(environment: AnyEnvironment, episode: AnyEpisode) -> None:
    """Replayed, restored from bytes in the middle, or forked, an episode goes on as it did."""
    actions = [step.action for step in episode.steps]
    again = replay(environment, episode.scenario, episode.rules, actions)
    assert trace(environment, again) == trace(environment, episode)

    worlds = _worlds(episode)
    for middle in {0, len(actions) // 2, len(actions) - 1}:
        snapshot = environment.dump(worlds[middle])
        restored = environment.load(snapshot)
        assert restored == worlds[middle]
        # A fork: somebody else plays on from the same world first, and leaves no trace.
        fork = worlds[middle]
        for stray in STRAY_ACTIONS:
            fork = environment.step(fork, stray).world
        assert environment.dump(worlds[middle]) == snapshot
        for index in range(middle, len(actions)):
            after = environment.step(restored, actions[index])
            assert after.outcome == episode.steps[index].outcome
            assert after.score == episode.steps[index].score
            assert environment.dump(after.world) == environment.dump(worlds[index + 1])
            restored = after.world


def _check_strays(environment: AnyEnvironment, scenario: Scenario, rules: str) -> None:
    """Nothing that is passed as an action raises; each takes its turn, and the episode still ends."""
    world = environment.start(scenario, rules)
    steps = 0
    while environment.acting(world) is not None:
        after = environment.step(world, STRAY_ACTIONS[steps % len(STRAY_ACTIONS)])
        assert after.world != world
        assert math.isfinite(after.score.total)
        assert environment.load_action(environment.dump_action(after.action)) == after.action
        world = after.world
        steps += 1
        assert steps < 10_000, "an episode of stray actions does not end"


def _check_other_processes(environment: AnyEnvironment, scenarios: Sequence[Scenario], rules: str) -> None:
    """Two processes with different hash seeds and this one all see the same."""
    here = traces(environment, scenarios, rules)
    # As Ray's actors get it: the environment itself, not its name.
    arguments = [pickle.dumps(environment).hex(), rules, *(scenario.identity for scenario in scenarios)]
    for hash_seed in ("1", "20011"):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.support.contract_check", *arguments],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split() == here


def traces(environment: AnyEnvironment, scenarios: Sequence[Scenario], rules: str) -> list[str]:
    """The traces of every policy on every scenario."""
    return [
        trace(environment, episode) for scenario in scenarios for episode in _episodes(environment, scenario, rules)
    ]


def main() -> None:
    """Print the traces of a world: PICKLED RULES SCENARIO…."""
    pickled, rules, *identities = sys.argv[1:]
    environment: AnyEnvironment = pickle.loads(bytes.fromhex(pickled))  # noqa: S301 - made by the process that asks
    print("\n".join(traces(environment, [environment.scenario(identity) for identity in identities], rules)))


if __name__ == "__main__":
    main()
