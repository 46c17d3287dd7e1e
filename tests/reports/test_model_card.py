"""The model card: text of files is only ever text, and a hub reads what people read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chaosops_ray.config import load
from chaosops_ray.reports import evaluation, model_card, tables
from chaosops_ray.reports.model_card import Base, Facts, Version
from tests.support import runs
from tests.support.runs import FLEET, INCIDENT, TOOLS

CONFIG = Path(__file__).parents[2] / "tune_configs" / "3a.yaml"
DIFFERENCES = [{"tier": "easy", "policy": "trained", "against": "heuristic", "mean": 115.0, "ci": [101.0, 130.0]}]
UPDATES = 3

MARKUP = st.text(st.characters(), max_size=40) | st.sampled_from(
    [
        "a | b",
        "`x` ``y``",
        "```\n# out of the block\n```",
        "</details><script>alert(1)</script>",
        "![x](https://example.org/x.png)",
        "[x](https://example.org)",
        "<https://example.org> www.example.org me@example.org",
        "---\nlicense: mit\n---",
        "**x** __y__ ~~z~~ $x$ #1 :tada:",
        "\\| &lt;b&gt; &#124;",
        "\x1b[31m\u202e",
        "{{ x }} !!python/object:os.system",
        "12e3",
    ]
)
PARSER = MarkdownIt("commonmark").enable("table")


class Read(NamedTuple):
    """The content of a card, as a reader parses it."""

    front: dict[str, Any]
    tables: list[list[list[str]]]
    text: str


def read(readme: str) -> Read:
    """Parse a card; anything in it that is more than text, tables and our own frame fails."""
    readme.encode()
    _, front, body = re.split(r"^---$", readme, maxsplit=2, flags=re.MULTILINE)
    tables: list[list[list[str]]] = []
    text, blocks, programs = "", [], 0
    for token in PARSER.parse(body):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "html_block":
            blocks.append(token.content)
        elif token.type == "fence":
            programs += 1
        elif token.type == "inline":
            children = token.children or []
            assert {child.type for child in children} <= {"text", "strong_open", "strong_close", "code_inline"}
            content = "".join([child.content for child in children])
            text += f"{content}\n"
            if token.level == 4:
                tables[-1][-1].append(content)
    assert blocks == ["<details>\n<summary>The run's configuration, resolved</summary>\n", "</details>\n"]
    assert programs == 3
    return Read(yaml.safe_load(front), tables, text)


VERSION = Version("policy-v3", UPDATES, "a" * 64)
EVALUATION = json.dumps(runs.evaluation())


@given(st.data())
def test_text_of_files_is_only_ever_text(data: st.DataObject) -> None:
    words = {key: data.draw(MARKUP, key) for key in ("name", "policy", "rules", "set", "against", "base", "evaluated")}
    # A configuration is read from UTF-8, so that it holds no half characters.
    settings = {key: data.draw(MARKUP, key).encode("utf-8", "replace").decode() for key in ("rules", "curriculum")}
    given = load(CONFIG, ["model=tiny"]).model_copy(update={**settings, "updates": UPDATES})
    found = json.loads(EVALUATION) | {"rules": words["evaluated"], "set": words["set"]}
    for cell in found["cells"]:
        cell["policy"] = cell["policy"].replace("random", words["policy"])
    found["differences"] = [DIFFERENCES[0] | {"against": words["against"]}]
    evaluation.check(found, INCIDENT)
    base = Base(tables.plain(words["base"]), "folder", "b" * 64)
    readme = model_card.render(Facts(tables.plain(words["name"]), given, INCIDENT, VERSION, base, found, None))

    seen = read(readme)
    table, cells, differences = seen.tables
    said = dict(table[1:])
    assert said["run"] == tables.plain(words["name"]).strip(" ")
    assert said["rules"] == tables.plain(settings["rules"], 200).strip(" ")
    assert said["curriculum"] == tables.plain(settings["curriculum"], 200).strip(" ")
    assert cells[2][1] == tables.plain(words["policy"], 200).strip(" ")
    assert differences[1][1] == f"trained − {tables.plain(words['against'], 200)}".rstrip(" ")
    assert {len(row) for row in cells} == {8}
    assert len(cells) == 1 + 3 * len(INCIDENT.tiers)

    assert set(seen.front) == {"library_name", "pipeline_tag", "tags", "model-index"}
    (index,) = seen.front["model-index"]
    assert index["name"] == f"{tables.plain(words['name'])}, policy-v3"
    assert len(index["results"]) == len(INCIDENT.tiers)
    assert ModelCard(readme).data.to_dict().keys() == seen.front.keys()


def test_it_says_who_played_which_seat_and_opens_as_one_that_learned() -> None:
    given = load(CONFIG, ["model=tiny", "seats={sre: oracle, manager: heuristic}"])
    found = runs.evaluation() | {"colleagues": {"trained": given.colleagues, "random": given.colleagues}}
    base = Base("tiny", "made", "b" * 64)
    readme = model_card.render(Facts("3a", given, INCIDENT, VERSION, base, found, None))
    seen = read(readme)
    assert (
        dict(seen.tables[0][1:])["seats in training"]
        == "sre by oracle; oversight, dev by this policy; manager by heuristic"
    )
    assert (
        "Seats in this evaluation: sre by oracle; oversight, dev by trained, random; manager by heuristic." in seen.text
    )
    assert 'role = "oversight"\n' in readme


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS, FLEET], ids=lambda environment: environment.name)
def test_a_base_of_the_hub_is_named_for_it(environment: Any) -> None:
    """In both worlds; the programs are at least programs, as the model is not here."""
    given = load(CONFIG, [f"world={environment.name}"])
    base = Base(given.model, "hub", "b" * 64)
    readme = model_card.render(Facts("3a", given, environment, VERSION, base, runs.evaluation(environment), None))
    assert read(readme).front["base_model"] == "Qwen/Qwen2.5-3B-Instruct"
    for program in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        compile(program, "card", "exec")
    assert 'BASE = "Qwen/Qwen2.5-3B-Instruct"' in readme


def test_a_quantized_base_is_named_for_what_was_quantized_and_says_so() -> None:
    """Whoever loads the adapter gets the published weights, which are not those that it was trained and measured on."""
    given = load(CONFIG.with_name("smollm2.yaml"))
    base = Base("HuggingFaceTB/SmolLM2-135M-Instruct", "quantized", "b" * 64)
    readme = model_card.render(Facts("small", given, INCIDENT, VERSION, base, runs.evaluation(), None))
    seen = read(readme)
    assert seen.front["base_model"] == base.name
    assert dict(seen.tables[0][1:])["base model"] == f"{base.name}, in 4 bits"
    assert "The adapter loads on HuggingFaceTB/SmolLM2-135M-Instruct as well, and was not measured on it." in seen.text
    assert f'BASE = "{base.name}"' in readme
    (configuration,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert yaml.safe_load(configuration)["model"] == "smollm2"
