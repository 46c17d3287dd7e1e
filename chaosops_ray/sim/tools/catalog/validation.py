"""Tools that check things."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from chaosops_ray.sim.tools.catalog.computation import parsed
from chaosops_ray.sim.tools.catalog.retrieval import page_at
from chaosops_ray.sim.tools.catalog.tool import VALIDATION, Desk, Tool, text
from chaosops_ray.sim.tools.figures import figures
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.sources import REFERENCE, entities_about, profile

MAX_COMPARED = 40
CLOSE = 0.01
_TYPES = {"number": (int, float), "string": (str,), "boolean": (bool,)}


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= CLOSE * max(abs(first), abs(second), 1e-9)


def validate_url(desk: Desk, url: str) -> Any:
    """Check that an address is well formed and leads to a page."""
    formed = re.fullmatch(r"(https|internal)://[A-Za-z0-9./_-]{1,200}", url) is not None
    try:
        page_at(desk, url)
        reachable = True
    except ToolError:
        reachable = False
    return {"well_formed": formed, "reachable": reachable}


def validate_data(_desk: Desk, data: str, schema: str) -> Any:
    """Check that a JSON object has the fields and types that a schema such as {"name": "string"} asks for."""
    value, wanted = parsed(data), parsed(schema)
    if not isinstance(wanted, dict) or any(kind not in _TYPES for kind in wanted.values() if isinstance(kind, str)):
        raise ToolError(f"schema must be a JSON object of field names and types: {', '.join(_TYPES)}")
    if not isinstance(value, dict) or any(not isinstance(kind, str) for kind in wanted.values()):
        raise ToolError("data must be a JSON object, and every type a word")
    problems = [
        name[:60]
        for name, kind in wanted.items()
        if not isinstance(value.get(name), _TYPES[kind]) or (kind == "number" and isinstance(value[name], bool))
    ]
    return {"valid": not problems, "problems": problems[:MAX_COMPARED]}


def check_consistency(_desk: Desk, source1: str, source2: str) -> Any:
    """Check that two texts state the same figures."""
    first, second = figures(source1)[:MAX_COMPARED], figures(source2)[:MAX_COMPARED]
    if not first or not second:
        raise ToolError("both sources must state a figure")
    unmatched = [figure for figure in first if not any(_close(figure, other) for other in second)]
    return {"consistent": not unmatched, "figures_compared": len(first), "unmatched": unmatched[:5]}


def fact_check(desk: Desk, claim: str) -> Any:
    """Check a claim about an entity against the reference desk."""
    entities = entities_about(desk.known, claim)
    stated = figures(claim)
    if not entities or not stated:
        raise ToolError("a claim needs an entity and a figure")
    reference = [
        float(value) for _, value in profile(desk.known, REFERENCE, entities[0]) if isinstance(value, int | float)
    ]
    supported = all(any(_close(figure, known) for known in reference) for figure in stated)
    return {"entity": entities[0], "supported": supported}


def hash_verify(_desk: Desk, data: str, expected_hash: str) -> Any:
    """Check that a text has this SHA-256."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", expected_hash):
        raise ToolError("expected_hash must be 64 hexadecimal digits")
    return {"match": sha256(data.encode("utf-8", "replace")).hexdigest() == expected_hash.lower()}


TOOLS = (
    Tool(
        "validate_url",
        VALIDATION,
        "whether an address is well formed and leads somewhere",
        (text("url"),),
        validate_url,
    ),
    Tool(
        "validate_data",
        VALIDATION,
        'whether a JSON object fits a schema such as {"name": "string"}',
        (text("data"), text("schema")),
        validate_data,
    ),
    Tool(
        "check_consistency",
        VALIDATION,
        "whether two texts state the same figures",
        (text("source1"), text("source2")),
        check_consistency,
    ),
    Tool("fact_check", VALIDATION, "whether a claim with a figure is supported", (text("claim"),), fact_check),
    Tool(
        "hash_verify",
        VALIDATION,
        "whether a text has this SHA-256",
        (text("data"), text("expected_hash")),
        hash_verify,
    ),
)
