"""Reading a program: Python's own parser, after what it would not treat the same everywhere has been refused.

The parser prints warnings, or raises them, as the process has been told to; and how deep it goes depends on how deep
its caller is. So texts that it would warn of are refused first, and trees that are deep are refused whoever calls.
"""

from __future__ import annotations

import ast
import re
from typing import Any, NamedTuple, NoReturn, TypeAlias

from chaosops_ray.sim.tools.limits import Meter, ToolError

MAX_SOURCE = 4_000
# Deep enough for any program of this size that does something; far from where a parser or an interpreter gives up.
MAX_DEPTH = 60
MAX_DIGITS = 617  # as many as a number of sandbox.values.MAX_BITS has
_MAX_FIELD_LEVELS = 4  # of f-strings in f-strings
# Reading takes time too: so many characters count as a step, and so many nodes of the tree.
_CHARACTERS_A_STEP = 2
_NODES_A_STEP = 2

_NAME_START = r"A-Za-z_\x80-\U0010ffff"
_TOKEN = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<prefix>[rRbBfFuU]{0,2})(?P<quote>'''|\"\"\"|'|\")"
    r"|(?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)"
    rf"|(?P<name>[{_NAME_START}][0-9{_NAME_START}]*)"
    r"|(?P<opening>[(\[{])|(?P<closing>[)\]}])|(?P<mark>!=|[:!\\])"
)
_RUNS_ON = re.compile(f"[{_NAME_START}]")
_REST_OF_STRING = {
    "'": re.compile(r"((?:\\.|[^\\\n'])*)'", re.DOTALL),
    '"': re.compile(r'((?:\\.|[^\\\n"])*)"', re.DOTALL),
    "'''": re.compile(r"((?:\\.|[^\\])*?)'''", re.DOTALL),
    '"""': re.compile(r'((?:\\.|[^\\])*?)"""', re.DOTALL),
}
_CONVERSION = re.compile(r"[rsa](?=[:}])")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = frozenset("\n\\'\"abfnrtvxNuU")
_LARGEST_OCTAL = 0o377
_BRACES = {
    True: re.compile(r"\{\{|\}\}|\{"),
    False: re.compile(r"\\N\{[^{}]*\}|\{\{|\}\}|\{"),  # in a text that is not raw, \N{…} is one character
}


class Program(NamedTuple):
    """A program that was read: its tree, and for each function the names that its body binds."""

    tree: Any  # ast.Module or ast.Expression
    bound: dict[ast.FunctionDef, frozenset[str]]


def read(source: str, mode: str, meter: Meter) -> Program:
    """Parse a program ("exec") or an expression ("eval"); ToolError where it is not one that is read here."""
    if len(source) > MAX_SOURCE:
        raise ToolError(f"source longer than {MAX_SOURCE} characters")
    meter.work(len(source) // _CHARACTERS_A_STEP)
    text = source.strip().replace("\r\n", "\n").replace("\r", "\n")
    if "\x00" in text:
        _fail("a null character")
    _scan(text, 0)
    try:
        tree = ast.parse(text, mode=mode)
    except (SyntaxError, ValueError) as error:
        _fail(str(error)[:80])
    except (RecursionError, MemoryError):  # the parser's way to say that its stack is full
        raise ToolError("nested too deeply") from None
    return Program(tree, _checked(tree, meter))


def _fail(reason: str) -> NoReturn:
    raise ToolError(f"syntax error: {reason}") from None


# -- the text ---------------------------------------------------------------------------------------------------------


def _scan(text: str, at: int, level: int = 0) -> int:
    """Go through the tokens of a program, or from level 1 on through those of a field of an f-string, to its end."""
    depth = 0
    while match := _TOKEN.search(text, at):
        at = match.end()
        match match.lastgroup:
            case "quote":
                at = _string(text, at, match["prefix"].lower(), match["quote"], level)
            case "number":
                _number(match[0], text[at : at + 1])
            case "opening":
                depth += 1
                if depth > MAX_DEPTH:
                    raise ToolError("nested too deeply")
            case "closing":
                if level and not depth and match[0] == "}":
                    return at
                depth -= 1
            case "comment" | "mark" if level:
                if match[0] == ":" and not depth:
                    return _specification(text, at, level)
                conversion = _CONVERSION.match(text, at) if match[0] == "!" and not depth else None
                if conversion is not None:
                    at = conversion.end()
                elif match[0] not in (":", "!="):
                    _fail(f"f-string: an expression cannot include {match[0][0]!r}")
    if level:
        _fail("f-string: expecting '}'")
    return len(text)


def _number(literal: str, following: str) -> None:
    if _RUNS_ON.match(following):
        _fail(f"a space is missing after the number {literal[:20]}")
    digits = literal.replace("_", "")
    if digits.isdecimal() and len(digits) > MAX_DIGITS:
        raise ToolError("number too large")


def _string(text: str, at: int, prefix: str, quote: str, level: int) -> int:
    """Check the string that begins here; where it ends."""
    if "b" in prefix:
        raise ToolError("bytes are not supported here")
    match = _REST_OF_STRING[quote].match(text, at)
    if match is None:
        _fail("a string is not closed")
    is_raw = "r" in prefix
    if not is_raw:
        for escape in _ESCAPE.finditer(match[1]):
            _escape(escape[1])
    if "f" in prefix:
        _fields(match[1], is_raw, level + 1)
    return match.end()


def _escape(escaped: str) -> None:
    known = int(escaped, 8) <= _LARGEST_OCTAL if escaped[0] in "01234567" else escaped in _ESCAPES
    if not known:
        _fail(f"invalid escape \\{escaped}; write \\\\{escaped}, or a raw string")


def _fields(body: str, is_raw: bool, level: int) -> None:  # the text of an f-string
    if level > _MAX_FIELD_LEVELS:
        _fail("f-string: expressions nested too deeply")
    at = 0
    while match := _BRACES[is_raw].search(body, at):
        at = _scan(body, match.end(), level) if match[0] == "{" else match.end()


def _specification(body: str, at: int, level: int) -> int:
    """Go through the format of a field, which may hold fields itself, to the closing brace."""
    while at < len(body):
        if body[at] == "}":
            return at + 1
        if body[at] == "\\":
            _fail("f-string: a format cannot include '\\\\'")
        if body[at] == "{":
            if level >= _MAX_FIELD_LEVELS:
                _fail("f-string: expressions nested too deeply")
            at = _scan(body, at + 1, level + 1)
        else:
            at += 1
    _fail("f-string: expecting '}'")


# -- the tree ---------------------------------------------------------------------------------------------------------

# A node, the function it stands in, and if it stands in a loop of that function.
_Standing: TypeAlias = tuple[ast.AST, ast.FunctionDef | None, bool]
_BINDING_OR_JUMPING = {ast.Name, ast.Import, ast.FunctionDef, ast.Break, ast.Continue, ast.Return}
_OPERATORS = ("ctx", "op", "ops")  # fields without anything below them


def _checked(tree: ast.AST, meter: Meter) -> dict[ast.FunctionDef, frozenset[str]]:
    """Refuse a tree that is deep or in which a jump leads nowhere; the names that each function binds."""
    bound: dict[ast.FunctionDef | None, set[str]] = {None: set()}
    level: list[_Standing] = [(tree, None, False)]
    for _ in range(MAX_DEPTH):
        meter.work(len(level) // _NODES_A_STEP)
        below: list[_Standing] = []
        for node, function, in_loop in level:
            if type(node) in _BINDING_OR_JUMPING:
                _check(node, function, in_loop, bound)
            if isinstance(node, ast.Constant):
                continue
            for field in node._fields:
                children = getattr(node, field, None)
                if isinstance(children, ast.AST) and field not in _OPERATORS:
                    below.append((children, *_within(node, field, function, in_loop)))
                elif isinstance(children, list) and children and field not in _OPERATORS:
                    standing = _within(node, field, function, in_loop)
                    below += [(child, *standing) for child in children if isinstance(child, ast.AST)]
        if not below:
            return {function: frozenset(names) for function, names in bound.items() if function is not None}
        level = below
    raise ToolError("nested too deeply")


def _check(
    node: ast.AST, function: ast.FunctionDef | None, in_loop: bool, bound: dict[ast.FunctionDef | None, set[str]]
) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            bound[function].add(node.id)
    elif isinstance(node, ast.Import):
        bound[function].update([alias.asname or alias.name for alias in node.names])
    elif isinstance(node, ast.FunctionDef):
        bound[function].add(node.name)
        bound[node] = {argument.arg for argument in node.args.args}
    elif isinstance(node, ast.Break | ast.Continue) and not in_loop:
        _fail(f"'{type(node).__name__.lower()}' outside loop")
    elif isinstance(node, ast.Return) and function is None:
        _fail("'return' outside function")


def _within(
    node: ast.AST, field: str, function: ast.FunctionDef | None, in_loop: bool
) -> tuple[ast.FunctionDef | None, bool]:
    """Return the function and the loop that what stands in a field of this node stands in."""
    if field == "body" and isinstance(node, ast.FunctionDef):
        return node, False
    if field == "body" and isinstance(node, ast.For | ast.While):
        return function, True
    if field == "target" and isinstance(node, ast.comprehension):
        return None, False  # the names of a comprehension are its own
    return function, in_loop
