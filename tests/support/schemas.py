"""What a schema permits, told by other means than the package's: a regular expression and Python's own UTF-8 decoder."""

from __future__ import annotations

import codecs
import json
from functools import cache
from itertools import combinations
from typing import Any

import regex
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from chaosops_ray.agents.forms import call_schema
from chaosops_ray.sim import environment_named

_CHARACTER = (
    r'(?:[^\x00-\x1f"\\]|\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))"
)


def schema_of(world: str, role: str, *, has_texts: bool = True) -> str:
    """The schema of a seat, as text; without texts, an object has few bytes, and any limit of tokens is far off."""
    found = call_schema(environment_named(world), role, "strict")["anyOf"]
    return json.dumps({"anyOf": [one for one in found if has_texts or '"string"' not in json.dumps(one)]})


def bytes_of(tokenizer: PreTrainedTokenizerFast) -> dict[int, bytes]:
    """The bytes of each token of a byte-level tokenizer that was not added to it."""
    table = {character: byte for byte, character in bytes_to_unicode().items()}
    return {
        token: bytes([table[one] for one in piece])
        for piece, token in tokenizer.get_vocab().items()
        if token not in tokenizer.added_tokens_decoder
    }


def pattern(schema: dict[str, Any]) -> str:
    """The schema as a regular expression over characters."""
    if "anyOf" in schema:
        return f"(?:{'|'.join([pattern(one) for one in schema['anyOf']])})"
    known = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if known:
        return f"(?:{'|'.join([regex.escape(json.dumps(one), special_only=True) for one in known])})"
    if isinstance(schema["type"], list):
        return f"(?:{'|'.join([pattern(schema | {'type': one}) for one in schema['type']])})"
    if schema["type"] == "string":
        return f'"{_CHARACTER}*"'
    if schema["type"] == "object":
        fields = {name: f"{json.dumps(name)}: {pattern(inner)}" for name, inner in schema["properties"].items()}
        optional = [name for name in fields if name not in schema["required"]]
        left_out = [one for count in range(len(optional) + 1) for one in combinations(optional, count)]
        written = [", ".join([text for name, text in fields.items() if name not in out]) for out in left_out]
        return rf"\{{(?:{'|'.join(written)})\}}"
    if "minimum" in schema:
        return r"(?:0(?:\.\d{1,17})?|1(?:\.0{1,17})?)"
    digits = len(str(schema["exclusiveMaximum"])) - 1
    return rf"-?(?:0|[1-9][0-9]{{0,{digits - 1}}})" + (r"(?:\.[0-9]{1,17})?" if schema["type"] == "number" else "")


@cache
def _compiled(schema: str) -> Any:
    return regex.compile(pattern(json.loads(schema)))


def leads_on(schema: str, written: bytes) -> bool:
    """Tell if an object of the schema can begin like this, whatever its length."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(written)
    except UnicodeDecodeError:
        return False
    if decoder.getstate()[0]:
        text += "\N{SNOWMAN}"  # in place of the character that has begun
    return _compiled(schema).fullmatch(text, partial=True) is not None


def is_whole(schema: str, written: bytes) -> bool:
    """Tell if this is an object of the schema."""
    return _compiled(schema).fullmatch(written.decode()) is not None
