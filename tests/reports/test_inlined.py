"""What a page holds instead of loading it: modules as one script, and data that cannot end its element."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.reports import inlined


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.data = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.found.append(tag)

    def handle_data(self, data: str) -> None:
        self.data += data


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(inlined, "_WEB", tmp_path)
    monkeypatch.setattr(inlined, "script", inlined.script.__wrapped__)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    ["</script><script>alert(1)</script>", "<!--", "<!--<script>", "]]>", "\u2028", "\ud800", "&lt;", "\x00", "a\\"],
)
def test_data_cannot_end_its_element(text: str) -> None:
    written = inlined.data({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not set("<>&") & set(written)
    page = Elements(f'<script type="application/json">{written}</script><p>after')
    assert page.found == ["script", "p"]
    assert page.data == f"{written}after"


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        inlined.data([float("nan")])


def test_the_report_s_script_has_every_module_once_and_no_import_left() -> None:
    script = inlined.script("report_page.js")
    assert re.findall(r'^modules\["([^"]+)"\] = ', script, re.MULTILINE) == [
        "curves.js",
        "film.js",
        "uplot/uPlot.js",
        "report_page.js",
    ]
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    assert "Permission is hereby granted" in script, "the license goes wherever the module goes"


def test_modules_keep_their_names_apart(web: Path) -> None:
    (web / "a.js").write_text(
        'import { one as first } from "./b.js";\nimport two from "./c.js";\nconst x = first + two;\n'
    )
    (web / "b.js").write_text("const x = 1;\nexport const one = x;\n/*\nexport const none = 0;\n*/\n")
    (web / "c.js").write_text('import { one } from "./b.js";\nconst x = one;\nexport { x as default };\n')
    assert str(inlined.script("a.js")) == "\n".join(
        [
            "const modules = {};",
            'modules["b.js"] = (() => {\nconst x = 1;\nconst one = x;\n\n\nreturn { one };\n})();',
            'modules["c.js"] = (() => {\nconst { one } = modules["b.js"];\nconst x = one;\n\n\nreturn { default: x };\n})();',
            'modules["a.js"] = (() => {\nconst { one: first } = modules["b.js"];\nconst { default: two } = modules["c.js"];\n'
            "const x = first + two;\n\nreturn {  };\n})();",
        ]
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('import "./a.js";\n', "cannot be put into a page"),
        ('import * as all from "./a.js";\n', "cannot be put into a page"),
        ('import x from "https://a.example/x.js";\n', "cannot be put into a page"),
        ('const x = await import("./a.js");\n', "cannot be put into a page"),
        ("export default 3;\n", "cannot be put into a page"),
        ('import { x } from "./a.js";\n', "imports itself"),
        ('const x = "</script>";\n', "cannot stand in a page"),
        ('const x = "<!--";\n', "cannot stand in a page"),
    ],
)
def test_what_cannot_be_put_into_a_page_is_refused(web: Path, text: str, why: str) -> None:
    (web / "a.js").write_text(text)
    with pytest.raises(ValueError, match=why):
        inlined.script("a.js")
