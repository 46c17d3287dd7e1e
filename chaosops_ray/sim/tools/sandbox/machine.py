"""The interpreter: it walks the syntax tree of a program and carries out each node, a step each."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any

from chaosops_ray.sim.tools.limits import Meter, ToolError
from chaosops_ray.sim.tools.sandbox.functions import BUILTINS, METHODS, MODULES, Builtin, Module
from chaosops_ray.sim.tools.sandbox.source import Program
from chaosops_ray.sim.tools.sandbox.values import ENTRY, LIST, SLOT, TABLE, Values

MAX_CALLS = 20
# Of nodes within nodes, over all calls: each takes up to four frames of Python, which has a thousand.
MAX_NESTING = 120
MAX_GENERATORS = 4

_ORDERINGS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class Function:
    """A function that the program has defined."""

    __slots__ = ("bound", "node", "outer", "parameters")

    def __init__(self, node: ast.FunctionDef, bound: frozenset[str], outer: _Scope) -> None:
        self.node = node
        self.parameters = [argument.arg for argument in node.args.args]
        self.bound = bound
        self.outer = outer


class _Scope:
    """The names of a call, of a comprehension, or of the program; `bound` are those that the call will set."""

    __slots__ = ("bound", "names", "outer")

    def __init__(self, outer: _Scope | None, bound: frozenset[str]) -> None:
        self.names: dict[str, Any] = {}
        self.outer = outer
        self.bound = bound

    def find(self, name: str) -> Any:
        """Return the value of a name."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            if name in scope.bound:
                raise ToolError(f"UnboundLocalError: {name[:40]} has no value yet")
            scope = scope.outer
        if name in BUILTINS:
            return BUILTINS[name]
        raise ToolError(f"NameError: {name[:40]} is not defined")


class _Jump:
    """What a statement leaves behind that is not simply followed by the next one."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value


_BREAK = _Jump()
_CONTINUE = _Jump()


class Machine:
    """One run of one program."""

    def __init__(self, program: Program, meter: Meter) -> None:
        self.meter = meter
        self.values = Values(meter)
        self.printed: list[str] = []
        self._scopes: list[_Scope] = []
        self._bound = program.bound
        self._scope = self._opened(None)
        self._calls = 0
        self._nesting = 0

    def run(self, body: list[ast.stmt]) -> Any:
        """Carry out statements; the value of the last one if that is an expression."""
        last: Any = None
        for statement in body:
            last = None
            if isinstance(statement, ast.Expr):
                last = self.evaluate(statement.value)
            else:
                self.execute(statement)
        return last

    def close(self) -> None:
        """Forget all names: a function holds the tree, and the scope that it stands in, which holds the function."""
        for scope in self._scopes:
            scope.names.clear()

    def _opened(self, outer: _Scope | None, bound: frozenset[str] = frozenset()) -> _Scope:
        scope = _Scope(outer, bound)
        self._scopes.append(scope)
        return scope

    # -- statements ---------------------------------------------------------------------------------------------------

    def execute(self, node: ast.stmt) -> _Jump | None:
        """Carry out a statement."""
        self.meter.work()
        do = _STATEMENTS.get(type(node))
        if do is None:
            raise ToolError(f"{type(node).__name__.lower()} is not supported here")
        return do(self, node)

    def _block(self, body: list[ast.stmt]) -> _Jump | None:
        self._enter()
        jump = None
        for statement in body:
            jump = self.execute(statement)
            if jump is not None:
                break
        self._nesting -= 1
        return jump

    def _enter(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise ToolError("nested too deeply")

    def _expression(self, node: ast.Expr) -> None:
        self.evaluate(node.value)

    def _pass(self, _node: ast.Pass) -> None:
        """Do nothing."""

    def _assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self._bind(target, value)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, self.evaluate(node.value))

    def _augmented(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            before = self._scope.find(target.id)
            self._scope.names[target.id] = self.values.in_place(type(node.op), before, self.evaluate(node.value))
        elif isinstance(target, ast.Subscript):
            group, key = self.evaluate(target.value), self.evaluate(target.slice)
            before = self.values.item(group, key)
            self.values.put(group, key, self.values.in_place(type(node.op), before, self.evaluate(node.value)))
        else:
            raise ToolError("this cannot be assigned to")

    def _if(self, node: ast.If) -> _Jump | None:
        return self._block(node.body if self.evaluate(node.test) else node.orelse)

    def _while(self, node: ast.While) -> _Jump | None:
        while self.evaluate(node.test):
            jump = self._block(node.body)
            if jump is _BREAK:
                return None
            if jump is not None and jump is not _CONTINUE:
                return jump
        return self._block(node.orelse)

    def _for(self, node: ast.For) -> _Jump | None:
        for item in self.values.walk(self.evaluate(node.iter)):
            self._bind(node.target, item)
            jump = self._block(node.body)
            if jump is _BREAK:
                return None
            if jump is not None and jump is not _CONTINUE:
                return jump
        return self._block(node.orelse)

    def _break(self, _node: ast.Break) -> _Jump:
        return _BREAK

    def _continue(self, _node: ast.Continue) -> _Jump:
        return _CONTINUE

    def _return(self, node: ast.Return) -> _Jump:
        return _Jump(None if node.value is None else self.evaluate(node.value))

    def _define(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        more = (arguments.vararg, arguments.kwarg, arguments.kwonlyargs, arguments.posonlyargs, arguments.defaults)
        if any(more) or node.decorator_list:
            raise ToolError("functions take plain parameters here, without defaults or decorators")
        self.meter.hold(TABLE + SLOT * len(arguments.args))
        self._scope.names[node.name] = Function(node, self._bound[node], self._scope)

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name not in MODULES:
                raise ToolError(f"there is no module {alias.name[:40]} here; there are math and json")
            self._scope.names[alias.asname or alias.name] = MODULES[alias.name]

    def _bind(self, target: ast.expr, value: Any) -> None:
        self.meter.work()
        if isinstance(target, ast.Name):
            self._scope.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for part, item in zip(target.elts, self.values.parts(value, len(target.elts)), strict=True):
                self._bind(part, item)
        elif isinstance(target, ast.Subscript):
            self.values.put(self.evaluate(target.value), self.evaluate(target.slice), value)
        else:
            raise ToolError("this cannot be assigned to")

    # -- expressions --------------------------------------------------------------------------------------------------

    def evaluate(self, node: ast.expr) -> Any:
        """Return the value of an expression."""
        self.meter.work()
        self._enter()
        of = _EXPRESSIONS.get(type(node))
        if of is None:
            raise ToolError(f"{type(node).__name__.lower()} is not supported here")
        value = of(self, node)
        self._nesting -= 1
        return value

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, str):
            self.values.reserve_text(len(value), value)
        elif value is not None and not isinstance(value, int | float):
            raise ToolError("this kind of constant is not supported")
        return self.values.checked(value)

    def _name(self, node: ast.Name) -> Any:
        return self._scope.find(node.id)

    def _binary(self, node: ast.BinOp) -> Any:
        return self.values.binary(type(node.op), self.evaluate(node.left), self.evaluate(node.right))

    def _unary(self, node: ast.UnaryOp) -> Any:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if isinstance(node.op, ast.Invert):
            raise ToolError("this operator is not supported")
        return self.values.signed(value, is_negative=isinstance(node.op, ast.USub))

    def _boolean(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for part in node.values:
            value = self.evaluate(part)
            if bool(value) == isinstance(node.op, ast.Or):
                return value
        return value

    def _compare(self, node: ast.Compare) -> Any:
        left = self.evaluate(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(part)
            if not self._related(kind, left, right):
                return False
            left = right
        return True

    def _related(self, kind: ast.cmpop, left: Any, right: Any) -> bool:
        if isinstance(kind, _ORDERINGS):
            return self.values.ordered(type(kind), left, right)
        if isinstance(kind, ast.Is | ast.IsNot):
            return operator.is_(left, right) == isinstance(kind, ast.Is)
        if isinstance(kind, ast.In | ast.NotIn):
            return self.values.contains(right, left) == isinstance(kind, ast.In)
        return self.values.equal(left, right) == isinstance(kind, ast.Eq)

    def _choice(self, node: ast.IfExp) -> Any:
        return self.evaluate(node.body if self.evaluate(node.test) else node.orelse)

    def _list(self, node: ast.List) -> Any:
        self.values.reserve_list(len(node.elts))
        return [self.evaluate(item) for item in node.elts]

    def _tuple(self, node: ast.Tuple) -> Any:
        self.values.reserve_list(2 * len(node.elts))
        return tuple([self.evaluate(item) for item in node.elts])

    def _set(self, node: ast.Set) -> Any:
        return self.values.set_of([self.evaluate(item) for item in node.elts])

    def _dict(self, node: ast.Dict) -> Any:
        self.meter.hold(TABLE)
        made: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                raise ToolError("unpacking is not supported")
            self.values.put(made, self.evaluate(key), self.evaluate(item))
        return made

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.values.item(self.evaluate(node.value), self.evaluate(node.slice))

    def _slice(self, node: ast.Slice) -> Any:
        self.meter.hold(LIST)
        return slice(*[None if part is None else self.evaluate(part) for part in (node.lower, node.upper, node.step)])

    def _joined(self, node: ast.JoinedStr) -> Any:
        parts = [self.evaluate(part) for part in node.values]
        self.values.reserve_text(sum([len(part) for part in parts]), *parts)
        return "".join(parts)

    def _formatted(self, node: ast.FormattedValue) -> Any:
        value = self.evaluate(node.value)
        if node.conversion not in (-1, ord("s")):
            raise ToolError("a conversion such as !r is not supported in an f-string")
        return self.values.formatted(value, "" if node.format_spec is None else self.evaluate(node.format_spec))

    # -- comprehensions -----------------------------------------------------------------------------------------------

    def _listed(self, node: ast.ListComp | ast.GeneratorExp) -> Any:
        self.values.reserve_list(0)
        made: list[Any] = []
        for _ in self._comprehend(node.generators):
            self.meter.hold(2 * SLOT)
            made.append(self.evaluate(node.elt))
        return made

    def _set_listed(self, node: ast.SetComp) -> Any:
        return self.values.set_of(self.evaluate(node.elt) for _ in self._comprehend(node.generators))

    def _dict_listed(self, node: ast.DictComp) -> Any:
        self.meter.hold(TABLE)
        made: dict[Any, Any] = {}
        for _ in self._comprehend(node.generators):
            self.values.put(made, self.evaluate(node.key), self.evaluate(node.value))
        return made

    def _comprehend(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """Bind the names of a comprehension in every way, in a scope of its own; its first source is seen outside."""
        if len(generators) > MAX_GENERATORS:
            raise ToolError(f"more than {MAX_GENERATORS} for in one comprehension are not supported")
        source = self.evaluate(generators[0].iter)
        outer = self._scope
        self.meter.hold(TABLE)
        self._scope = self._opened(outer)
        yield from self._generate(generators, source)
        self._scope = outer

    def _generate(self, generators: list[ast.comprehension], source: Any) -> Iterator[None]:
        first, *others = generators
        for item in self.values.walk(source):
            self._bind(first.target, item)
            if not all(self.evaluate(condition) for condition in first.ifs):
                continue
            if others:
                yield from self._generate(others, self.evaluate(others[0].iter))
            else:
                yield

    # -- calls --------------------------------------------------------------------------------------------------------

    def _attribute(self, node: ast.Attribute) -> Any:
        owner = self.evaluate(node.value)
        if isinstance(owner, Module) and node.attr in owner.members:
            return owner.members[node.attr]
        raise ToolError(f"there is no attribute {node.attr[:40]} here")

    def _call(self, node: ast.Call) -> Any:
        unpacked = [argument for argument in node.args if isinstance(argument, ast.Starred)]
        if unpacked or not all(keyword.arg for keyword in node.keywords):
            raise ToolError("unpacking is not supported")
        function, owner = self._called(node.func)
        given = [self.evaluate(argument) for argument in node.args]
        named = {keyword.arg: self.evaluate(keyword.value) for keyword in node.keywords if keyword.arg}
        return self.call(function, given, named, *owner)

    def _called(self, node: ast.expr) -> tuple[Any, list[Any]]:
        """Return what is called, and for a method the value it belongs to."""
        if not isinstance(node, ast.Attribute):
            return self.evaluate(node), []
        owner = self.evaluate(node.value)
        members = owner.members if isinstance(owner, Module) else METHODS.get(type(owner), {})
        if node.attr not in members:
            raise ToolError(f"there is no method {node.attr[:40]} here")
        return members[node.attr], [] if isinstance(owner, Module) else [owner]

    def call(self, function: Any, given: list[Any], named: dict[str, Any], *owner: Any) -> Any:
        """Call a function of the program, or a listed one; a method with the value it belongs to."""
        if isinstance(function, Function):
            return self._call_own(function, given, named)
        if not isinstance(function, Builtin):
            raise ToolError("TypeError: this cannot be called")
        function.check(given, named)
        return self.values.checked(function.run(self, *owner, *given, **named))

    def _call_own(self, function: Function, given: list[Any], named: dict[str, Any]) -> Any:
        if len(given) != len(function.parameters) or named:
            raise ToolError("TypeError: wrong number of arguments")
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise ToolError("RecursionError: too many calls within calls")
        self.meter.hold(TABLE + ENTRY * len(given))
        outer = self._scope
        self._scope = self._opened(function.outer, function.bound)
        self._scope.names.update(zip(function.parameters, given, strict=True))
        jump = self._block(function.node.body)
        self._scope = outer
        self._calls -= 1
        return None if jump is None else jump.value


_STATEMENTS: dict[type[ast.stmt], Callable[[Machine, Any], _Jump | None]] = {
    ast.AnnAssign: Machine._annotated,
    ast.Assign: Machine._assign,
    ast.AugAssign: Machine._augmented,
    ast.Break: Machine._break,
    ast.Continue: Machine._continue,
    ast.Expr: Machine._expression,
    ast.For: Machine._for,
    ast.FunctionDef: Machine._define,
    ast.If: Machine._if,
    ast.Import: Machine._import,
    ast.Pass: Machine._pass,
    ast.Return: Machine._return,
    ast.While: Machine._while,
}
_EXPRESSIONS: dict[type[ast.expr], Callable[[Machine, Any], Any]] = {
    ast.Attribute: Machine._attribute,
    ast.BinOp: Machine._binary,
    ast.BoolOp: Machine._boolean,
    ast.Call: Machine._call,
    ast.Compare: Machine._compare,
    ast.Constant: Machine._constant,
    ast.Dict: Machine._dict,
    ast.DictComp: Machine._dict_listed,
    ast.FormattedValue: Machine._formatted,
    ast.GeneratorExp: Machine._listed,
    ast.IfExp: Machine._choice,
    ast.JoinedStr: Machine._joined,
    ast.List: Machine._list,
    ast.ListComp: Machine._listed,
    ast.Name: Machine._name,
    ast.Set: Machine._set,
    ast.SetComp: Machine._set_listed,
    ast.Slice: Machine._slice,
    ast.Subscript: Machine._subscript,
    ast.Tuple: Machine._tuple,
    ast.UnaryOp: Machine._unary,
}
