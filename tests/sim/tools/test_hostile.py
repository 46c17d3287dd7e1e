"""Hostile calls by grammar: none raises, none does much, and what they come to depends on nothing but themselves."""

from __future__ import annotations

import ast
import cProfile
import json
import math
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fuzz
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import regex, sandbox
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.limits import Meter, ToolError
from chaosops_ray.sim.tools.model import MAX_SHOWN, SUBMIT, Call, World, call
from tests.support import hostile

ROOT = Path(__file__).parents[3]
CASES = 100_000


class Watched:
    """Carries cases out, and holds each to what it may leave behind."""

    def __init__(self) -> None:
        self.errors = 0

    def __call__(self, case: fuzz.Case) -> Any:
        after = fuzz.carry_out(case)
        world: World = after.world
        made = world.made[-1]
        self.errors += not made.ok
        assert world.step == case.world.step + 1
        assert len(made.shown) <= MAX_SHOWN
        json.loads(made.shown), json.loads(made.truth)
        if ENVIRONMENT.acting(world) is None:
            data = ENVIRONMENT.dump(world)
            assert len(data) < 200_000
            assert ENVIRONMENT.load(data) == world
        return after


@pytest.mark.parametrize(
    ("seed", "cases"), [(0, CASES), *[pytest.param(seed, CASES, marks=pytest.mark.slow) for seed in (1, 2, 3)]]
)
def test_no_case_raises(seed: int, cases: int) -> None:
    watched = Watched()
    fuzz.play(seed, cases, watched, languages=0.05)
    assert 0.3 < watched.errors / cases < 0.95


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> list[Meter]:
    """The meters of a call, as they are made; they know what they began with."""
    made: list[Meter] = []

    class Recorded(Meter):
        def __init__(self, steps: int, memory: int) -> None:
            super().__init__(steps, memory)
            self.before = (steps, memory)
            made.append(self)

    monkeypatch.setattr(sandbox, "Meter", Recorded)
    monkeypatch.setattr(regex, "Meter", Recorded)
    return made


def test_what_is_charged_covers_what_is_done(meters: list[Any]) -> None:
    """Counted by Python's profiler, in calls of its own functions too, and by its allocator."""
    profiled: list[int] = []
    peaks: list[int] = []

    def counted(case: fuzz.Case) -> Any:
        meters.clear()
        profile = cProfile.Profile()
        if is_profiled := len(profiled) <= len(peaks):
            profile.enable()
        else:
            tracemalloc.start()
        after = fuzz.carry_out(case)
        profile.disable()
        steps = sum([meter.before[0] - meter.steps for meter in meters])
        memory = sum([meter.before[1] - meter.memory for meter in meters])
        if is_profiled:
            profiled.append(sum([entry.callcount for entry in profile.getstats()]))
            assert profiled[-1] <= 10_000 + 20 * steps, case.given
        else:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            # A step makes a node of the tree at most, which is not charged for by its bytes.
            assert peaks[-1] <= 700_000 + memory + 2_000 * steps, case.given
        return after

    fuzz.play(7, 1_500, counted, languages=1.0, completions=0.0)
    assert max(profiled) > 50_000, "the cases are too tame to show anything"
    assert max(peaks) > 1_000_000


# -- the same everywhere ----------------------------------------------------------------------------------------------

SAMPLE = 1_500


@pytest.fixture(scope="module")
def expected() -> str:
    return fuzz.digest(11, SAMPLE)


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (("-W", "error"), {"PYTHONHASHSEED": "0"}),
        ((), {"PYTHONHASHSEED": "1"}),
        (("-W", "error"), {"PYTHONHASHSEED": "4242", "PYTHONINTMAXSTRDIGITS": "640"}),
    ],
)
def test_results_depend_on_no_setting_of_the_process(
    expected: str, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    ran = subprocess.run(
        [sys.executable, *options, "-m", "benchmarks.fuzz", "--digest", "--cases", str(SAMPLE), "--seed", "11"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == expected


def test_results_do_not_depend_on_how_deep_the_caller_is(expected: str) -> None:
    def deeper(levels: int) -> str:
        return deeper(levels - 1) if levels else fuzz.digest(11, SAMPLE)

    assert deeper(400) == expected


DEPTHS = (17, 40, 64, 65, 90, 120, 200, 300, 900, 2000)


@pytest.mark.parametrize("depth", DEPTHS)
def test_how_deep_is_too_deep_is_for_no_stack_to_decide(depth: int) -> None:
    """Near the limits of Python's own parsers, which count the frames of their callers."""
    deep = "[" * depth + "x" + "]" * depth
    given = [
        call("python_execute", code="-" * depth + "1"),
        call("python_execute", code=f"if 0: {'-' * depth}1\n2"),
        call("python_execute", code=f"def f(a: {'-' * depth}1): pass"),
        call("calculator", expression="1" + "+1" * depth),
        call("json_query", data=deep, query="a"),
        call("json_query", data=deep.replace("x", "1"), query="[0]"),
        f'{{"tool": "calculator", "arguments": {{"expression": {deep.replace("x", "1")}}}}}',
        f'{{"tool": "read_file"}} {{"tool": "calculator", "arguments": {deep}}}',
    ]
    world = ENVIRONMENT.start(ENVIRONMENT.scenario("tools/W01/published/3"), "strict")

    def results(levels: int) -> list[Any]:
        if levels:
            return results(levels - 1)
        return [fuzz.carry_out(fuzz.Case("", world, one)) for one in given]

    assert results(0) == results(250) == results(500)


# -- what Python would say --------------------------------------------------------------------------------------------


def shown(value: Any, depth: int = 0) -> Any:
    """A value of Python's in the form in which the interpreter shows its own."""
    if depth > 4:
        return "..."
    if isinstance(value, list | tuple | range):
        return [shown(item, depth + 1) for item in value[:200]]
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(shown(key)): shown(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, set):
        return [shown(item) for item in sandbox.values.Values(Meter(10**9, 10**9)).arranged(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return "a function" if callable(value) else value


def of_python(program: str) -> Any:
    """What Python makes of a program: the value of its last line, or that it fails."""
    tree = ast.parse(program)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    names: dict[str, Any] = {}
    try:
        exec(compile(tree, "program", "exec"), names)  # noqa: S102 - tame programs, which ours has run before
        return shown(eval(compile(ast.Expression(last.value), "program", "eval"), names))  # noqa: S307
    except Exception:  # noqa: BLE001 - whatever it is
        return "error"


def of_ours(program: str) -> Any:
    try:
        return sandbox.run(program)["value"]
    except ToolError as error:
        return "too much" if "limit reached" in str(error) or "too large" in str(error) else "error"


def test_tame_programs_come_to_what_python_says() -> None:
    draw = random.Random(5)
    compared = 0
    for _ in range(1_000):
        program = hostile.tame_program(draw)
        ours = of_ours(program)
        if ours == "too much":
            continue  # then Python would do much too
        assert repr(ours) == repr(of_python(program)), program
        compared += ours != "error"
    assert compared > 800


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["83.2 mıllion", "83 thouſand", "5 K", "5 bıllion", "İ 5 mİllion"])
def test_odd_letters_in_an_answer_raise_nothing(answer: str) -> None:
    for rules in ENVIRONMENT.rule_sets:
        world = ENVIRONMENT.start(ENVIRONMENT.scenario("tools/E01/published/3"), rules)
        assert fuzz.carry_out(fuzz.Case(SUBMIT, world, call(SUBMIT, answer=answer, reasoning="x"))).world.answer


def test_a_case_that_raises_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_world: World, _action: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(type(ENVIRONMENT), "step", lambda _self, world, action: broken(world, action))
    world = ENVIRONMENT.start(ENVIRONMENT.scenario("tools/E01/published/3"), "strict")
    with pytest.raises(KeyError) as caught:
        fuzz.carry_out(fuzz.Case("x", world, Call("x", "{}")))
    assert caught.value.__notes__ == ["tools/E01/published/3 step 0: Call(tool='x', arguments='{}')"]


def test_the_benchmark_prints_what_it_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "SLOWEST", 1)
    monkeypatch.setattr(fuzz, "SAMPLED", 1)
    monkeypatch.setattr(fuzz, "grown", lambda _case: 0.5)  # a test forks nothing
    out = tmp_path / "fuzz.json"
    assert fuzz.main(["--cases", "600", "--json", str(out)]) == 0
    table = capsys.readouterr().out
    assert f"{fuzz.COMPLETION:<24}" in table
    assert "(bar 50)" in table
    assert "growth of the whole process over 600 cases" in table
    found = json.loads(out.read_text())
    assert set(found) == {"cases", "seed", "tools", "process_mb", "bar"}
    assert set(found["tools"]) == {*TOOLS, fuzz.COMPLETION}
    assert sum(row["cases"] for row in found["tools"].values()) == 600
    for row in found["tools"].values():
        assert row["mean_ms"] > 0  # the worst is the least of several tries, and may be below a noisy mean
        assert row["resident_mb"] == 0.5
