"""Tools that act on the outside, and the one that answers."""

from __future__ import annotations

import re
from typing import Any

from chaosops_ray.sim.tools.catalog.storage import kept
from chaosops_ray.sim.tools.catalog.tool import ACTION, Desk, Tool, text
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import SUBMIT

_TICKET = re.compile(r"[A-Z]{1,6}-[0-9]{1,6}")
_TIME = re.compile(r"20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]Z")


def _said(content: str, what: str) -> str:
    if not content.strip():
        raise ToolError(f"an empty {what} is none")
    return kept(content)


def send_notification(desk: Desk, message: str) -> Any:
    """Send a message to whoever is on call."""
    desk.storage = desk.storage._replace(outbox=(*desk.storage.outbox, _said(message, "message")))
    return {"sent": True}


def schedule_task(desk: Desk, task: str, time: str) -> Any:
    """Have something done later."""
    if not _TIME.fullmatch(time):
        raise ToolError("time must be like 2026-04-09T08:00Z")
    desk.storage = desk.storage._replace(schedule=(*desk.storage.schedule, (_said(task, "task"), time)))
    return {"scheduled": True, "position": len(desk.storage.schedule)}


def update_ticket(desk: Desk, ticket_id: str, update: str) -> Any:
    """Add to a ticket."""
    if not _TICKET.fullmatch(ticket_id):
        raise ToolError("ticket_id must be like OPS-12")
    desk.storage = desk.storage._replace(tickets=(*desk.storage.tickets, (ticket_id, _said(update, "update"))))
    return {"ticket_id": ticket_id, "updated": True}


def request_human_review(desk: Desk, reason: str) -> Any:
    """Ask a person to look; nobody answers within the episode."""
    desk.storage = desk.storage._replace(outbox=(*desk.storage.outbox, _said(reason, "reason")))
    return {"queued": True}


def submit_answer(_desk: Desk, answer: str, reasoning: str) -> Any:
    """Answer the question, which ends the episode."""
    if not answer.strip():
        raise ToolError("an empty answer is none")
    return {"received": True, "reasoning_characters": len(reasoning)}


TOOLS = (
    Tool("send_notification", ACTION, "send a message to whoever is on call", (text("message"),), send_notification),
    Tool(
        "schedule_task",
        ACTION,
        "have something done later, at a time like 2026-04-09T08:00Z",
        (text("task"), text("time")),
        schedule_task,
    ),
    Tool("update_ticket", ACTION, "add to a ticket such as OPS-12", (text("ticket_id"), text("update")), update_ticket),
    Tool("request_human_review", ACTION, "ask a person to look", (text("reason"),), request_human_review),
    Tool(SUBMIT, ACTION, "answer the question; this ends it", (text("answer"), text("reasoning")), submit_answer),
)
