"""A small interpreter for Python that a model wrote.

It walks the syntax tree and knows only what is listed here: numbers, strings, lists, tuples, dictionaries, sets,
functions, loops, comprehensions, f-strings, `math` and `json`. There are no attributes but the methods listed, so
nothing leads from a value to its class, a frame or a module. Every node is a step, every value made is charged for, and
what could make much out of little (powers, repetition, replacement) is measured before it is done. No clock decides
anything: the same program stops at the same place everywhere.

The module is one interpreter: its safety depends on the complete list of permitted syntax, functions and methods, which
can be reviewed only in one place.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chaosops_ray.sim.speech import decode
from chaosops_ray.sim.tools.limits import Meter, ToolError

MAX_SOURCE = 4_000
MAX_STEPS = 10_000
MAX_MEMORY = 1_000_000
MAX_BITS = 2_048
MAX_TEXT = 20_000
MAX_CALLS = 20
MAX_NESTING = 40
MAX_PRINTED = 2_000
MAX_SHOWN_DEPTH = 4
MAX_DIGITS = 50
# Going through nested values is quicker than interpreting; so many of their items count as a step.
NODES_A_STEP = 8
MAX_WAITING = 100_000


def run(source: str) -> dict[str, Any]:
    """Run a program; what it printed, and the value of its last line if that is an expression."""
    machine = _Machine()
    program = _parsed(source, "exec").body

    def work() -> Any:
        value = machine.run(program)
        machine.weigh(value)
        return None if value is None else _shown(value)

    shown = machine.guarded(work)
    return {"output": "".join(machine.printed)[:MAX_PRINTED], "value": shown}


def calculate(expression: str) -> float | int:
    """Compute an arithmetic expression."""
    tree = _parsed(expression, "eval")
    machine = _Machine()
    value = machine.guarded(lambda: machine.evaluate(tree.body))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ToolError("the expression does not come to a finite number")
    return value


def _parsed(source: str, mode: str) -> Any:
    if len(source) > MAX_SOURCE:
        raise ToolError(f"source longer than {MAX_SOURCE} characters")
    try:
        return ast.parse(source.strip(), mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ToolError(f"syntax error: {str(error)[:80]}") from None


def _shown(value: Any, depth: int = 0) -> Any:
    """Convert a value for JSON; whatever JSON has no form for becomes text."""
    if depth > MAX_SHOWN_DEPTH:
        return "..."
    if value is None or isinstance(value, bool | int | str):
        return value if not isinstance(value, int) or value.bit_length() < 1000 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple | range):
        return [_shown(item, depth + 1) for item in value[:200]]
    if isinstance(value, set):
        return [_shown(item) for item in _ordered(value)[:200]]
    if isinstance(value, dict):
        return {_name(key): _shown(item, depth + 1) for key, item in list(value.items())[:200]}
    return "a function"


def _name(key: Any) -> str:
    return key[:200] if isinstance(key, str) else json.dumps(_shown(key))[:200]


def _ordered(group: set[Any]) -> list[Any]:
    """Python's own order of a set differs from process to process; its items are plain, so this one does not."""
    return sorted(group, key=lambda item: (type(item).__name__, _name(item)))


class _Return(Exception):  # noqa: N818 - control flow of the interpreted program, no error
    def __init__(self, value: Any) -> None:
        self.value = value


class _Break(Exception):  # noqa: N818 - as above
    pass


class _Continue(Exception):  # noqa: N818 - as above
    pass


class _Module:
    def __init__(self, name: str, members: dict[str, Any]) -> None:
        self.name = name
        self.members = members


class _Function:
    def __init__(self, parameters: list[str], body: Any, scope: dict[str, Any]) -> None:
        self.parameters = parameters
        self.body = body
        self.scope = scope


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_METHODS: dict[type[Any], frozenset[str]] = {
    str: frozenset(
        [
            "upper",
            "lower",
            "strip",
            "lstrip",
            "rstrip",
            "split",
            "join",
            "replace",
            "startswith",
            "endswith",
            "find",
            "count",
            "title",
            "isdigit",
        ]
    ),
    list: frozenset(["append", "extend", "insert", "pop", "sort", "index", "count", "reverse", "remove", "copy"]),
    dict: frozenset(["get", "keys", "values", "items", "pop", "update", "setdefault", "copy"]),
    set: frozenset(["add", "remove", "discard", "union", "intersection", "difference"]),
    tuple: frozenset(["index", "count"]),
}
_SPEC = re.compile(r",?(\.[0-9]{1,2})?[fdeg%s]?")
_FUNCTION_MATH = ("sqrt", "floor", "ceil", "log", "log10", "log2", "exp", "sin", "cos", "tan", "fabs")
_MATH = {name: getattr(math, name) for name in _FUNCTION_MATH} | {"pi": math.pi, "e": math.e, "inf": math.inf}


class _Machine:
    def __init__(self) -> None:
        self.meter = Meter(MAX_STEPS, MAX_MEMORY)
        self.printed: list[str] = []
        self.calls = 0
        self.nesting = 0
        self.modules = {
            "math": _Module("math", _MATH),
            "json": _Module("json", {"loads": self.loads, "dumps": self.dumps}),
        }
        self.globals: dict[str, Any] = {
            "abs": abs,
            "bool": bool,
            "dict": self.dict_of,
            "enumerate": lambda group, start=0: list(enumerate(self.items(group), start)),
            "float": self.to_float,
            "int": self.to_int,
            "len": len,
            "list": lambda group=(): self.keep(list(self.items(group))),
            "max": lambda *given, **named: self.extreme(max, given, named),
            "min": lambda *given, **named: self.extreme(min, given, named),
            "print": self.print,
            "range": self.range,
            "reversed": lambda group: self.items(group)[::-1],
            "round": self.round,
            "set": self.set_of,
            "sorted": lambda group, key=None, reverse=False: sorted(
                self.items(group), key=self.key(key), reverse=bool(reverse)
            ),
            "str": self.text,
            "sum": lambda group, start=0: self.total(group, start),
            "tuple": lambda group=(): self.keep(tuple(self.items(group))),
            "zip": lambda *groups: list(zip(*[self.items(group) for group in groups], strict=False)),
            **{name: _MATH[name] for name in ("sqrt", "pi")},
        }
        self.scope = self.globals

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, body: list[ast.stmt]) -> Any:
        last: Any = None
        try:
            for statement in body:
                last = None
                if isinstance(statement, ast.Expr):
                    last = self.evaluate(statement.value)
                else:
                    self.execute(statement)
        except (_Return, _Break, _Continue):
            raise ToolError("return, break or continue outside of what it belongs to") from None
        return last

    def guarded(self, work: Callable[[], Any]) -> Any:
        """Turn Python's own errors into errors of the program."""
        try:
            return work()
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RuntimeError,
            TypeError,
            UnicodeError,
        ) as error:
            raise ToolError(f"{type(error).__name__}: {str(error)[:80]}") from None
        except ToolError:
            raise
        except ValueError as error:
            raise ToolError(f"ValueError: {str(error)[:80]}") from None

    def execute(self, node: ast.stmt) -> None:
        self.meter.work()
        method = getattr(self, f"do_{type(node).__name__.lower()}", None)
        if method is None:
            raise ToolError(f"{type(node).__name__.lower()} is not supported here")
        method(node)

    def block(self, body: list[ast.stmt]) -> None:
        self.deeper()
        for statement in body:
            self.execute(statement)
        self.nesting -= 1

    def deeper(self) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise ToolError("nested too deeply")

    def do_expr(self, node: ast.Expr) -> None:
        self.evaluate(node.value)

    def do_pass(self, _node: ast.Pass) -> None:
        """Do nothing."""

    def do_assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.bind(target, value)

    def do_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.evaluate(node.value))

    def do_augassign(self, node: ast.AugAssign) -> None:
        before = self.evaluate(
            ast.Name(node.target.id, ast.Load()) if isinstance(node.target, ast.Name) else node.target
        )
        self.bind(node.target, self.binary(type(node.op), before, self.evaluate(node.value)))

    def do_if(self, node: ast.If) -> None:
        self.block(node.body if self.evaluate(node.test) else node.orelse)

    def do_while(self, node: ast.While) -> None:
        depth = self.nesting
        while self.evaluate(node.test):
            try:
                self.block(node.body)
            except _Break:
                self.nesting = depth
                return
            except _Continue:
                self.nesting = depth

    def do_for(self, node: ast.For) -> None:
        depth = self.nesting
        for item in self.walk(self.evaluate(node.iter)):
            self.bind(node.target, item)
            try:
                self.block(node.body)
            except _Break:
                self.nesting = depth
                return
            except _Continue:
                self.nesting = depth

    def do_break(self, _node: ast.Break) -> None:
        raise _Break

    def do_continue(self, _node: ast.Continue) -> None:
        raise _Continue

    def do_return(self, node: ast.Return) -> None:
        raise _Return(None if node.value is None else self.evaluate(node.value))

    def do_functiondef(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        plain = not (arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults)
        if not plain or node.decorator_list:
            raise ToolError("functions take plain parameters here, without defaults or decorators")
        self.scope[node.name] = _Function([argument.arg for argument in arguments.args], node.body, self.scope)

    def do_import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name not in self.modules:
                raise ToolError(f"there is no module {alias.name[:40]} here; there are math and json")
            self.scope[alias.asname or alias.name] = self.modules[alias.name]

    def bind(self, target: ast.expr, value: Any) -> None:
        self.meter.work()
        if isinstance(target, ast.Name):
            self.scope[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            items = self.items(value)
            if len(items) != len(target.elts):
                raise ToolError("ValueError: wrong number of values to unpack")
            for part, item in zip(target.elts, items, strict=True):
                self.bind(part, item)
        elif isinstance(target, ast.Subscript):
            group, key = self.evaluate(target.value), self.evaluate(target.slice)
            if not isinstance(group, list | dict) or isinstance(key, slice):
                raise ToolError("TypeError: this cannot be assigned to")
            self.meter.hold(64)
            self.plain([key])
            self.guarded(lambda: operator.setitem(group, key, value))
        else:
            raise ToolError("this cannot be assigned to")

    # -- expressions ------------------------------------------------------------------------------------------------

    def evaluate(self, node: ast.expr) -> Any:
        self.meter.work()
        self.deeper()
        method = getattr(self, f"of_{type(node).__name__.lower()}", None)
        if method is None:
            raise ToolError(f"{type(node).__name__.lower()} is not supported here")
        value = method(node)
        self.nesting -= 1
        return value

    def of_constant(self, node: ast.Constant) -> Any:
        if node.value is not None and not isinstance(node.value, bool | int | float | str):
            raise ToolError("this kind of constant is not supported")
        return self.keep(node.value)

    def of_name(self, node: ast.Name) -> Any:
        for scope in (self.scope, self.globals):
            if node.id in scope:
                return scope[node.id]
        raise ToolError(f"NameError: {node.id[:40]} is not defined")

    def of_binop(self, node: ast.BinOp) -> Any:
        return self.binary(type(node.op), self.evaluate(node.left), self.evaluate(node.right))

    def binary(self, kind: type[ast.operator], left: Any, right: Any) -> Any:
        if kind not in _BINARY:
            raise ToolError("this operator is not supported")
        self.foresee(kind, left, right)
        if isinstance(left, set | dict) or isinstance(right, set | dict):
            self.weigh(left, right)
        value = self.guarded(lambda: _BINARY[kind](left, right))
        if isinstance(value, complex):
            raise ToolError("ValueError: the result is no real number")
        return self.keep(value)

    def foresee(self, kind: type[ast.operator], left: Any, right: Any) -> None:
        """Refuse what would be too large before it is made."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * (abs(right) if kind is ast.Pow else 1)
            if kind in (ast.Pow, ast.Mult) and bits + right.bit_length() > MAX_BITS:
                raise ToolError("number too large")
        elif kind is ast.Mult:
            group, times = (left, right) if isinstance(right, int) else (right, left)
            if isinstance(group, str | list | tuple) and isinstance(times, int):
                if len(group) * times > MAX_TEXT:
                    raise ToolError("memory limit reached")
                self.meter.work(max(0, len(group) * times) // 16)
        elif kind is ast.Mod and isinstance(left, str):
            raise ToolError("% on text is not supported; use an f-string")
        elif kind is ast.Add and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            self.meter.work((len(left) + len(right)) // 16)

    def of_unaryop(self, node: ast.UnaryOp) -> Any:
        if type(node.op) not in _UNARY:
            raise ToolError("this operator is not supported")
        value = self.evaluate(node.operand)
        return self.guarded(lambda: _UNARY[type(node.op)](value))

    def of_boolop(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for part in node.values:
            value = self.evaluate(part)
            if bool(value) == isinstance(node.op, ast.Or):
                return value
        return value

    def of_compare(self, node: ast.Compare) -> Any:
        left = self.evaluate(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(part)
            self.weigh(left, right)
            if isinstance(right, range) and not isinstance(left, int):
                raise ToolError("TypeError: only whole numbers are looked for in a range")
            if not self.related(type(kind), left, right):
                return False
            left = right
        return True

    def related(self, kind: type[ast.cmpop], left: Any, right: Any) -> Any:
        return self.guarded(lambda: _COMPARE[kind](left, right))

    def of_ifexp(self, node: ast.IfExp) -> Any:
        return self.evaluate(node.body if self.evaluate(node.test) else node.orelse)

    def of_list(self, node: ast.List) -> Any:
        return self.keep([self.evaluate(item) for item in node.elts])

    def of_tuple(self, node: ast.Tuple) -> Any:
        return self.keep(tuple([self.evaluate(item) for item in node.elts]))

    def of_set(self, node: ast.Set) -> Any:
        items = [self.evaluate(item) for item in node.elts]
        self.plain(items)
        return self.keep(self.guarded(lambda: set(items)))

    def of_dict(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise ToolError("unpacking is not supported")
        pairs = [
            (self.evaluate(key), self.evaluate(item)) for key, item in zip(node.keys, node.values, strict=True) if key
        ]
        self.plain([key for key, _ in pairs])
        return self.keep(self.guarded(lambda: dict(pairs)))

    def of_subscript(self, node: ast.Subscript) -> Any:
        group, key = self.evaluate(node.value), self.evaluate(node.slice)
        self.weigh(key)
        return self.keep(self.guarded(lambda: operator.getitem(group, key)))

    def of_slice(self, node: ast.Slice) -> Any:
        parts = [None if part is None else self.evaluate(part) for part in (node.lower, node.upper, node.step)]
        return slice(*parts)

    def of_joinedstr(self, node: ast.JoinedStr) -> Any:
        return self.keep("".join([str(self.evaluate(part)) for part in node.values]))

    def of_formattedvalue(self, node: ast.FormattedValue) -> Any:
        value = self.evaluate(node.value)
        spec = "" if node.format_spec is None else self.evaluate(node.format_spec)
        if not _SPEC.fullmatch(spec):
            raise ToolError("this format is not supported; use for example {x:,.2f}")
        if not spec or not isinstance(value, int | float | str):
            return self.text(value)
        return self.keep(self.guarded(lambda: format(value, spec)))

    def of_listcomp(self, node: ast.ListComp) -> Any:
        return self.keep(list(self.comprehend(node.generators, lambda: self.evaluate(node.elt))))

    def of_generatorexp(self, node: ast.GeneratorExp) -> Any:
        return self.keep(list(self.comprehend(node.generators, lambda: self.evaluate(node.elt))))

    def of_setcomp(self, node: ast.SetComp) -> Any:
        items = list(self.comprehend(node.generators, lambda: self.evaluate(node.elt)))
        self.plain(items)
        return self.keep(self.guarded(lambda: set(items)))

    def of_dictcomp(self, node: ast.DictComp) -> Any:
        pairs = list(self.comprehend(node.generators, lambda: (self.evaluate(node.key), self.evaluate(node.value))))
        self.plain([key for key, _ in pairs])
        return self.keep(self.guarded(lambda: dict(pairs)))

    def comprehend(self, generators: list[ast.comprehension], make: Callable[[], Any]) -> Iterator[Any]:
        outer = self.scope
        self.scope = dict(outer)
        yield from self.generate(generators, make)
        self.scope = outer

    def generate(self, generators: list[ast.comprehension], make: Callable[[], Any]) -> Iterator[Any]:
        if not generators:
            yield make()
            return
        first, *others = generators
        for item in self.walk(self.evaluate(first.iter)):
            self.bind(first.target, item)
            if all(self.evaluate(condition) for condition in first.ifs):
                yield from self.generate(others, make)

    def of_attribute(self, node: ast.Attribute) -> Any:
        owner = self.evaluate(node.value)
        if isinstance(owner, _Module) and node.attr in owner.members:
            return owner.members[node.attr]
        raise ToolError(f"there is no attribute {node.attr[:40]} here")

    def of_call(self, node: ast.Call) -> Any:
        if any(isinstance(argument, ast.Starred) for argument in node.args) or any(
            k.arg is None for k in node.keywords
        ):
            raise ToolError("unpacking is not supported")
        if isinstance(node.func, ast.Attribute):
            owner = self.evaluate(node.func.value)
            if not isinstance(owner, _Module):
                return self.method(owner, node)
        function = self.evaluate(node.func)
        given = [self.evaluate(argument) for argument in node.args]
        named = {keyword.arg: self.evaluate(keyword.value) for keyword in node.keywords if keyword.arg}
        return self.call(function, given, named)

    def call(self, function: Any, given: list[Any], named: dict[str, Any]) -> Any:
        if isinstance(function, _Function):
            return self.call_own(function, given, named)
        if not callable(function):
            raise ToolError("TypeError: this cannot be called")
        self.weigh(*given, *named.values())
        return self.keep(self.guarded(lambda: function(*given, **named)))

    def call_own(self, function: _Function, given: list[Any], named: dict[str, Any]) -> Any:
        if len(given) != len(function.parameters) or named:
            raise ToolError("TypeError: wrong number of arguments")
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ToolError("RecursionError: too many calls within calls")
        outer, depth = self.scope, self.nesting
        self.scope = {**function.scope, **dict(zip(function.parameters, given, strict=True))}
        self.nesting = 0
        try:
            self.block(function.body)
            value = None
        except _Return as returned:
            value = returned.value
        self.scope, self.nesting = outer, depth
        self.calls -= 1
        return value

    def method(self, owner: Any, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Attribute)  # noqa: S101 - the caller has looked
        name = node.func.attr
        if name not in _METHODS.get(type(owner), ()):
            raise ToolError(f"there is no method {name[:40]} here")
        given = [self.evaluate(argument) for argument in node.args]
        named = {keyword.arg: self.evaluate(keyword.value) for keyword in node.keywords if keyword.arg}
        if "key" in named:
            named["key"] = self.key(named["key"])
        given = [self.items(value) if isinstance(value, range) else value for value in given]
        if isinstance(owner, set) or name == "setdefault":
            self.plain(given[:1] if name == "setdefault" else given)
        if name == "update":
            given = [self.dict_of(*given)]
        self.weigh(owner, *given, *named.values())
        if name == "replace" and len(given) >= 2 and isinstance(given[0], str) and isinstance(given[1], str):
            found = owner.count(given[0])
            if len(owner) + found * len(given[1]) > MAX_TEXT:
                raise ToolError("memory limit reached")
        if name == "join" and given:
            items = self.items(given[0])
            if sum(len(item) for item in items if isinstance(item, str)) + len(owner) * len(items) > MAX_TEXT:
                raise ToolError("memory limit reached")
            given[0] = items
        self.meter.hold(64 + 8 * sum(self.size(value) for value in given))
        value = self.keep(self.guarded(lambda: getattr(owner, name)(*given, **named)))
        return list(value) if name in ("keys", "values", "items") else value

    # -- what the listed functions need -----------------------------------------------------------------------------

    def plain(self, keys: Iterable[Any]) -> None:
        """Refuse a key that is not a number, a text, or a flat tuple of such."""
        for key in keys:
            parts = key if isinstance(key, tuple | list | set) else (key,)
            for part in parts:
                self.meter.work()
                if part is not None and not isinstance(part, bool | int | float | str):
                    raise ToolError("TypeError: a key or an item of a set is a number, a text or a flat tuple of them")

    def weigh(self, *values: Any) -> None:
        """Charge for going through values to their last item, as comparing, hashing or showing them would.

        A list that holds another many times is small to make and endless to go through; so is one that holds itself.
        """
        waiting = list(values)
        nodes = 0
        while waiting:
            value = waiting.pop()
            nodes += 1
            if isinstance(value, str):
                nodes += len(value) // 16
            elif isinstance(value, list | tuple | set):
                waiting.extend(value)
            elif isinstance(value, dict):
                waiting.extend(value)
                waiting.extend(value.values())
            if nodes >= NODES_A_STEP:
                self.meter.work(nodes // NODES_A_STEP)
                nodes %= NODES_A_STEP
                if len(waiting) > MAX_WAITING:
                    raise ToolError("work limit reached")

    def size(self, value: Any) -> int:
        return len(value) if isinstance(value, str | list | tuple | dict | set) else 1

    def keep(self, value: Any) -> Any:
        """Charge for a value that was just made."""
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise ToolError("number too large")
            self.meter.hold(16 + value.bit_length() // 8)
        elif isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise ToolError("memory limit reached")
            self.meter.hold(48 + len(value))
        else:
            self.meter.hold(48 + 8 * self.size(value))
        return value

    def walk(self, group: Any) -> Iterator[Any]:
        """Yield the items one by one, a step each; a range is never made into a list."""
        if not isinstance(group, str | list | tuple | dict | set | range):
            raise ToolError("TypeError: this cannot be gone through")
        items = _ordered(group) if isinstance(group, set) else list(group) if isinstance(group, dict) else group
        for item in items:
            self.meter.work()
            yield item

    def items(self, group: Any) -> list[Any]:
        return list(self.walk(group))

    def set_of(self, group: Any = ()) -> Any:
        items = self.items(group)
        self.plain(items)
        return self.keep(set(items))

    def dict_of(self, pairs: Any = ()) -> Any:
        made = dict(pairs) if isinstance(pairs, dict) else dict(self.items(pairs))
        self.plain(made)
        return self.keep(made)

    def range(self, *bounds: Any) -> Any:
        return range(*bounds)

    def round(self, value: Any, digits: Any = None) -> Any:
        if digits is not None and (not isinstance(digits, int) or abs(digits) > MAX_DIGITS):
            raise ToolError(f"ValueError: round takes up to {MAX_DIGITS} digits")
        return round(value, digits)

    def key(self, function: Any) -> Any:
        return None if function is None else lambda item: self.weighed(self.call(function, [item], {}))

    def weighed(self, value: Any) -> Any:
        self.weigh(value)
        return value

    def extreme(self, choose: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        items = self.items(given[0]) if len(given) == 1 else list(given)
        return choose(items, key=self.key(named.get("key")))

    def total(self, group: Any, start: Any) -> Any:
        value = start
        for item in self.walk(group):
            value = self.binary(ast.Add, value, item)
        return value

    def text(self, value: Any = "") -> str:
        if isinstance(value, str | int | float | bool) or value is None:
            return str(value)
        self.weigh(value)
        return json.dumps(_shown(value))

    def to_int(self, value: Any = 0) -> int:
        if isinstance(value, str) and len(value) > 100:
            raise ToolError("number too large")
        return int(value)

    def to_float(self, value: Any = 0.0) -> float:
        return float(value)

    def print(self, *given: Any) -> None:
        line = " ".join([self.text(value) for value in given]) + "\n"
        self.meter.hold(len(line))
        self.printed.append(line)

    def loads(self, text: Any) -> Any:
        if not isinstance(text, str):
            raise ToolError("TypeError: json.loads reads text")
        self.meter.hold(20 * len(text))
        self.meter.work(len(text) // 4)
        return decode(text)

    def dumps(self, value: Any) -> str:
        self.weigh(value)
        return json.dumps(_shown(value))
