"""GPUs by name: their memory, and what benchmarks/gpu.py has measured on them.

The figures are in measured_gpus.json, which that benchmark writes (`--json`); its docstring describes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.config import ConfigError

MIB, GIB = 1 << 20, 1 << 30
MEASURED = Path(__file__).parent / "measured_gpus.json"
_SIZE = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,2})?) ?Gi?B", re.IGNORECASE)
_SMALLEST, _LARGEST = 1, 10_000  # GiB
# Cards of one name differ by this much at most in what their drivers say of their memory.
_ABOUT = 0.1


class Card(NamedTuple):
    """A GPU: its name, its memory in bytes, and the word in the name that its driver gives it."""

    name: str
    memory: int
    word: str = ""

    @property
    def title(self) -> str:
        """The card in a sentence."""
        return f"an {self.name}" if self.name[0] in "ahl" else f"a {self.name}"

    def is_of(self, case: Mapping[str, Any]) -> bool:
        """Tell if a case was measured on such a card."""
        named, memory = str(case["card"]), case["card_memory_bytes"]
        if not self.word or not re.search(rf"\b{self.word}\b", named):
            return False
        return memory is None or abs(memory / self.memory - 1) < _ABOUT


# The memory is what nvidia-smi says, which is a little less than what the card is sold with.
CARDS = (
    Card("l4", 23_034 * MIB, "L4"),
    Card("a100", 81_920 * MIB, "A100"),
    Card("a100-40gb", 40_960 * MIB, "A100"),
    Card("h100", 81_559 * MIB, "H100"),
    Card("h200", 143_771 * MIB, "H200"),
)


def named(spelling: str) -> Card:
    """Return the card of this name, or any card of a size such as 16GB."""
    for card in CARDS:
        if spelling.lower() == card.name:
            return card
    sized = _SIZE.fullmatch(spelling)
    if sized and _SMALLEST <= float(sized[1]) <= _LARGEST:
        return Card(f"{float(sized[1]):g} GB card", int(float(sized[1]) * GIB))
    known = ", ".join([card.name for card in CARDS])
    raise ConfigError(f"--gpu {spelling[:40]}: no such card is known; give {known}, or the size of one, such as 16GB")


def cases(card: Card, part: str, path: Path = MEASURED) -> list[Mapping[str, Any]]:
    """Return what a part of the benchmark has measured on such a card."""
    found = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [case for case in found if case["part"] == part and case["skipped"] is None and card.is_of(case)]
