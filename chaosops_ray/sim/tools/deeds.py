"""What a question asks to be done beside the answer."""

from __future__ import annotations

from chaosops_ray.sim.rng import Stream
from chaosops_ray.sim.tools.families import pattern
from chaosops_ray.sim.tools.model import Deed

_DEEDS = {
    "update_ticket": "Then put the {what} into the ticket {key}.",
    "send_notification": "Then send a notification with the {what}.",
    "create_report": "Then file a report that states the {what}.",
    "write_file": "Then write the {what} to the file {key}.",
    "scratchpad_write": "Then keep the {what} as the note {key}.",
    "schedule_task": "Then schedule a task for {key} whose text states the {what}.",
    "database_insert": "Then insert a validated row for {company} into the table financials, with the quarter {key} "
    "and "
    "the {what} as revenue_b.",
}


def drawn(draw: Stream) -> tuple[Deed, str]:
    """Draw what is to be done with a claim's actual revenue, and how the question says so."""
    tool = draw.choice(tuple(_DEEDS))
    number = 100 + draw.below(900)
    key = {
        "update_ticket": f"FIN-{number}",
        "write_file": f"claims/check-{number}.txt",
        "scratchpad_write": f"claim-{number}",
        "schedule_task": f"2031-0{1 + number % 9}-1{number % 10}T08:00Z",
        "database_insert": f"Q4-20{10 + number % 15}",
    }.get(tool, "")
    return Deed(tool, key, ("actual_revenue_b",)), _DEEDS[tool]


def read(question: str) -> tuple[str, str] | None:
    """Return the tool and the key of what a question asks to be done."""
    for tool, wording in _DEEDS.items():
        found = pattern(wording.replace("{what}", "actual revenue")).search(question)
        if found:
            return tool, found.groupdict().get("key", "")
    return None


REVIEW = "If they contradict each other, ask for a human review that states both figures."
