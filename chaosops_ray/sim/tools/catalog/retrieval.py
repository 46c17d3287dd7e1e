"""Tools that find things out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.tools import database
from chaosops_ray.sim.tools.catalog.tool import RETRIEVAL, Desk, Tool, text
from chaosops_ray.sim.tools.knowledge import by_name
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.sources import (
    API,
    DOCUMENTS,
    KNOWLEDGE_BASE,
    PAGE_SOURCES,
    PAGES,
    TABLES,
    entities_about,
    entity_named,
    profile,
    prose,
    slug,
    table,
)

MAX_HITS = 3
PAGE = "https://{source}.example/{slug}"
ENTITY = "internal://entity/"
DOCUMENT = "internal://document/"

# Every zone is a number of whole hours from the world's clock, which stands at midnight.
ZONES = {"UTC": 0, "Europe/London": 1, "Europe/Paris": 2, "Asia/Kolkata": 5, "Asia/Tokyo": 9, "America/New_York": -4}


def _hits(desk: Desk, query: str, kinds: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Find up to MAX_HITS entities that share words with the query, and some of the texts about each."""
    found = []
    for entity in entities_about(desk.known, query)[:MAX_HITS]:
        texts = kinds[by_name(desk.known)[entity].kind]
        # A search does not always find all there is.
        draw = stream(desk.known.seed, f"search {texts} {entity} {query}")
        found += [(source, entity) for source in draw.shuffled(texts)[: 1 + draw.below(len(texts))]]
    return found


def web_search(desk: Desk, query: str) -> Any:
    """Find pages, with a snippet of each."""
    hits = _hits(desk, query, PAGES)
    return {
        "results": [
            {
                "url": PAGE.format(source=source, slug=slug(entity)),
                "snippet": prose(desk.known, source, entity),
            }
            for source, entity in hits
        ]
    }


def fetch_url(desk: Desk, url: str) -> Any:
    """Return the text of a page."""
    source, entity = page_at(desk, url)
    return {"url": url, "text": prose(desk.known, source, entity)}


def page_at(desk: Desk, url: str) -> tuple[str, str]:
    """Return the source and the entity of the page at this address; ToolError where there is none."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    source = host.removesuffix(".example")
    entity = entity_named(desk.known, path) if path else None
    known = scheme == "https" and host.endswith(".example") and source in PAGE_SOURCES and entity is not None
    if not known or entity is None or source not in PAGES[by_name(desk.known)[entity].kind]:
        raise ToolError(f"no page at {url[:80]!r}")
    return source, entity


def knowledge_base_lookup(desk: Desk, entity: str) -> Any:
    """Return the knowledge base's entry on a country, a capital or a company."""
    name = _entity(desk, entity)
    return {"entity": name, "facts": dict(profile(desk.known, KNOWLEDGE_BASE, name))}


def _entity(desk: Desk, given: str) -> str:
    name = entity_named(desk.known, given)
    if name is None:
        raise ToolError(f"no entry for {given[:60]!r}")
    return name


def database_query(desk: Desk, sql: str) -> Any:
    """Return the rows of a SELECT."""
    inserted = tuple((target, tuple(json.loads(values))) for target, values in desk.storage.rows)
    return database.query(desk.known, inserted, sql)


def document_search(desk: Desk, query: str) -> Any:
    """Find documents of the archive."""
    return {
        "documents": [
            {"id": f"{source}-{slug(entity)}", "text": prose(desk.known, source, entity)}
            for source, entity in _hits(desk, query, DOCUMENTS)
        ]
    }


def get_current_datetime(desk: Desk, timezone: str) -> Any:
    """Return the world's date and time."""
    if timezone not in ZONES:
        raise ToolError(f"unknown timezone {timezone[:40]!r}; known: {', '.join(ZONES)}")
    offset = ZONES[timezone]
    now = datetime.fromisoformat(desk.known.today) + timedelta(hours=offset)
    return {"timezone": timezone, "now": f"{now.isoformat()}{offset:+03d}:00"}


def read_file(desk: Desk, path: str) -> Any:
    """Return a file of the workspace, or one that was written in this episode."""
    written = {entry[0]: entry[1] for entry in desk.storage.files}
    if path in written:
        return {"path": path, "own": json.loads(written[path])}
    if path not in TABLES:
        raise ToolError(f"no file {path[:60]!r}; there are {', '.join((*TABLES, *written))[:200]}")
    return {"path": path, "content": table(desk.known, path)}


def api_call(desk: Desk, url: str, method: str) -> Any:
    """Answer a call of the internal API: entities and documents."""
    if method != "GET":
        raise ToolError(f"method {method[:20]!r} is not allowed here; use GET")
    if url.startswith(ENTITY):
        name = _entity(desk, url.removeprefix(ENTITY))
        return {"status": 200, "entity": name, "body": dict(profile(desk.known, API, name))}
    if url.startswith(DOCUMENT):
        source, _, rest = url.removeprefix(DOCUMENT).partition("-")
        entity = entity_named(desk.known, rest)
        if entity is not None and source in DOCUMENTS[by_name(desk.known)[entity].kind]:
            return {"status": 200, "id": f"{source}-{slug(entity)}", "body": prose(desk.known, source, entity)}
    raise ToolError(f"404 for {url[:80]!r}; there are {ENTITY}NAME and {DOCUMENT}ID")


TOOLS = (
    Tool("web_search", RETRIEVAL, "search the web; pages with a snippet of each", (text("query"),), web_search),
    Tool("fetch_url", RETRIEVAL, "read a page", (text("url"),), fetch_url),
    Tool(
        "knowledge_base_lookup",
        RETRIEVAL,
        "look up a country, a capital or a company",
        (text("entity"),),
        knowledge_base_lookup,
    ),
    Tool(
        "database_query",
        RETRIEVAL,
        "run a SELECT over "
        + " and ".join([f"{name}({', '.join(columns)})" for name, columns in database.TABLES.items()]),
        (text("sql"),),
        database_query,
    ),
    Tool("document_search", RETRIEVAL, "search the archive of documents", (text("query"),), document_search),
    Tool("get_current_datetime", RETRIEVAL, "read the clock", (text("timezone", "UTC"),), get_current_datetime),
    Tool("read_file", RETRIEVAL, f"read a file, such as {' or '.join(TABLES)}", (text("path"),), read_file),
    Tool(
        "api_call",
        RETRIEVAL,
        f"call an internal API: {ENTITY}NAME or {DOCUMENT}ID",
        (text("url"), text("method", "GET")),
        api_call,
    ),
)
