"""A small interpreter for Python that a model wrote.

It knows only what is listed: numbers, texts, lists, tuples, dictionaries, sets, functions, loops, comprehensions,
f-strings, `math` and `json`. There are no attributes but the methods listed, so nothing leads from a value to its
class, a frame or a module. Every node is a step, and every value is charged for before it is made: a program that would
do much ends with an error. No clock decides anything, nor does the process: the same program gives the same result
everywhere, whatever the hash seed, the warning filters or the depth of the caller.

`source` reads a program, `machine` walks its tree, `functions` lists what may be called, `values` does all that is done
to values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from typing import Any

from chaosops_ray.sim.tools.limits import Meter, ToolError
from chaosops_ray.sim.tools.sandbox.machine import Machine
from chaosops_ray.sim.tools.sandbox.source import read

MAX_STEPS = 10_000
MAX_MEMORY = 2_000_000
MAX_PRINTED = 2_000


def run(source: str) -> dict[str, Any]:
    """Run a program; what it printed, and the value of its last line if that is an expression."""

    def work() -> Any:
        meter = Meter(MAX_STEPS, MAX_MEMORY)
        program = read(source, "exec", meter)
        with closing(Machine(program, meter)) as machine:
            shown = machine.values.shown(machine.run(program.tree.body))
            return {"output": "".join(machine.printed)[:MAX_PRINTED], "value": shown}

    result: dict[str, Any] = _guarded(work)
    return result


def calculate(expression: str) -> float | int:
    """Compute an arithmetic expression."""

    def work() -> Any:
        meter = Meter(MAX_STEPS, MAX_MEMORY)
        program = read(expression, "eval", meter)
        return Machine(program, meter).evaluate(program.tree.body)

    value = _guarded(work)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolError("the expression does not come to a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError("the expression does not come to a finite number")
    return value


def _guarded(work: Callable[[], Any]) -> Any:
    """Turn Python's own errors into errors of the program."""
    try:
        return work()
    except ToolError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ToolError(f"{type(error).__name__}: {str(error)[:80]}") from None
