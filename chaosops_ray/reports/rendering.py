"""The templates of pages, sweep reports and model cards.

Names, configurations and what other programs wrote may hold anything: every value is escaped where it enters a
template, as HTML in pages and as Markdown in the rest.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chaosops_ray.plain_text import printable
from chaosops_ray.reports import inlined
from chaosops_ray.reports.drawing import Plot
from chaosops_ray.reports.tables import plain

# What has a meaning within a line of Markdown: emphasis, code, links, headings, table cells, mathematics, emoji by
# name, and addresses that some readers turn into links.
_MARKDOWN = re.compile(r"[\\`*_\[\]|~$^@!#]|:(?=[^\W\d]|[+/-])|(?<=www)\.", re.IGNORECASE)


_STYLES = ("style.css", "report.css")


def page(template: str, script: str = "", styles: Sequence[str] = (), /, **values: Any) -> str:
    """Render a page from an HTML template, with a module of reports/web as its script, and more style sheets."""
    own = {"script": inlined.script(script) if script else "", "style": inlined.style(*styles, *_STYLES)}
    return _HTML.get_template(template).render(values | own)


def document(template: str, **values: Any) -> str:
    """Render a text from a Markdown template."""
    return _MARKDOWN_FILES.get_template(template).render(values)


def markdown(text: str) -> Markup:
    """Escape text so that it stands within a line of Markdown and is nothing but text."""
    line = printable(" ".join(text.splitlines()))
    return Markup(_MARKDOWN.sub(r"\\\g<0>", escape(line, quote=False)))  # noqa: S704 - this is the escaping


def fenced(text: str, language: str) -> Markup:
    """Make a block of code that nothing in the text can end."""
    longest = max([len(ticks) for ticks in re.findall("`+", text)], default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")  # noqa: S704 - code is not escaped within a fence


def _literal(text: str) -> Markup:
    """Write text as a string literal of a program within a fence."""
    return Markup(json.dumps(text))  # noqa: S704 - as above


def _as_markdown(value: Any) -> Any:
    return value if isinstance(value, Markup) else markdown(str(value))


def _embedded(plot: Plot) -> str:
    """Return a plot as a URL that holds the picture itself."""
    return f"data:image/png;base64,{b64encode(plot.path.read_bytes()).decode()}"


def _environment(**more: Any) -> Environment:
    return Environment(
        loader=PackageLoader("chaosops_ray.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **more,
    )


_HTML = _environment()
_HTML.filters |= {"embedded": _embedded, "data": inlined.data, "source": inlined.source}
_MARKDOWN_FILES = _environment(finalize=_as_markdown)
_MARKDOWN_FILES.filters |= {"fenced": fenced, "literal": _literal, "plain": plain}
