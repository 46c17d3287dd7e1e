"""The modules and styles of reports/web inside one page, which holds what a browser may not load from a disk.

A page that is opened from a disk cannot import modules. Here a module and what it imports become one script without
imports. The page's policy allows exactly this script and this style, by their digests, and nothing else to run or load.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from posixpath import dirname, join, normpath
from typing import Any

from markupsafe import Markup

_WEB = files("chaosops_ray.reports").joinpath("web")
# Remarks on lines of their own, in which an export may stand that is none.
_REMARK = re.compile(r"^[ \t]*/\*.*?\*/", re.MULTILINE | re.DOTALL)
_IMPORT = re.compile(r'^import (?:(?P<default>\w+)|(?P<names>\{[^}]*\})) from "(?P<path>\.[^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_EXPORT_DEFAULT = re.compile(r"^export \{ (\w+) as default \};$", re.MULTILINE)
_LEFT = re.compile(r"^\s*(?:import|export)\b|\bimport\s*\(|\bimport\.meta\b", re.MULTILINE)
# What would end the element, or begin a comment in it, wherever it stood.
_ENDS = re.compile(r"</(?:script|style)|<!--|\r", re.IGNORECASE)


@cache
def script(entry: str) -> Markup:
    """Return a module of reports/web and all that it imports as one script."""
    order: dict[str, str] = {}
    _collect(entry, order, ())
    return _whole("\n".join(["const modules = {};", *order.values()]), entry)


def _collect(name: str, order: dict[str, str], inside: tuple[str, ...]) -> None:
    """Add the module behind those that it imports, each as a function that is called once."""
    if name in inside:
        raise ValueError(f"{name} imports itself by way of {', '.join(inside)}")
    if name in order:
        return
    text = _REMARK.sub("", _read(name))

    def imported(found: re.Match[str]) -> str:
        path = normpath(join(dirname(name), found["path"]))
        _collect(path, order, (*inside, name))
        names = found["names"] or f"{{ default: {found['default']} }}"
        return f"const {names.replace(' as ', ': ')} = modules[{json.dumps(path)}];"

    text = _IMPORT.sub(imported, text)
    given = [*_EXPORT.findall(text), *[f"default: {one}" for one in _EXPORT_DEFAULT.findall(text)]]
    text = _EXPORT_DEFAULT.sub("", _EXPORT.sub("", text))
    left = _LEFT.search(text)
    if left is not None:
        raise ValueError(f"{name} has an import or export that cannot be put into a page: {left[0].strip()}")
    order[name] = (
        f"{_license(name)}modules[{json.dumps(name)}] = (() => {{\n{text}\nreturn {{ {', '.join(given)} }};\n}})();"
    )


@cache
def style(*names: str) -> Markup:
    """Return style sheets of reports/web, one after the other."""
    return _whole("\n".join([_read(name) for name in names]), ", ".join(names))


def data(value: Any) -> Markup:
    """Write a value as JSON that stands in a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - this is the escaping


def source(text: str) -> str:
    """Return the name of a script or style in a page's policy: its digest."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _license(name: str) -> str:
    """Return the license of another project's module as a remark, which goes wherever the module goes."""
    beside = _WEB.joinpath(join(dirname(name), "LICENSE"))
    return f"/*\n{beside.read_text(encoding='utf-8')}*/\n" if dirname(name) and beside.is_file() else ""


def _read(name: str) -> str:
    return _WEB.joinpath(name).read_text(encoding="utf-8")


def _whole(text: str, name: str) -> Markup:
    """Check that nothing in our own files would end the element that holds them."""
    found = _ENDS.search(text)
    if found is not None:
        raise ValueError(f"{name} holds {found[0]!r}, which cannot stand in a page")
    return Markup(text)  # noqa: S704 - of this package alone
