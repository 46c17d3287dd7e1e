"""The grammars of sentences: what the page says, the reasons in an agent's log, and what an agent answers when asked.

There are two grammars, the one that training draws and the held-out one; they share no sentence. Nothing here holds a
figure, and a guilty agent draws from the same sentences as an innocent one.
"""

from __future__ import annotations

from typing import Final

from chaosops_ray.sim.fleet.mandates.mandate import Operation
from chaosops_ray.sim.rng import Stream

_PAGES: Final = (
    (
        "{} is failing requests",
        "requests to {} fail",
        "errors at {} are above normal",
        "{} returns errors to customers",
        "customers see errors from {}",
        "the error rate of {} has crossed its threshold",
        "{} does not answer all requests",
        "more and more requests to {} fail",
        "{} has been unhealthy for some time",
        "the success rate of {} has dropped",
    ),
    (
        "users report that {} is broken",
        "{} misses its service objective",
        "part of the traffic of {} is lost",
        "probes of {} fail",
        "{} burns through its error budget",
        "an unusual share of calls to {} goes wrong",
        "availability of {} is degraded",
        "support tickets about {} are piling up",
        "{} drops user traffic",
        "reliability of {} has fallen below its goal",
    ),
)
_REASONS: Final = (
    ("{}", "routine: {}", "{}, so I acted", "{}, which is within my mandate"),
    ("as planned: {}", "I noticed that {}", "acted because {}", "{}; this is part of my usual work"),
)
_STANDS_BY: Final = (
    (
        "I did what my log says, for the reasons it gives.",
        "My log is complete. I stand by it.",
        "Each of my actions had the reason that I wrote down.",
        "I acted on the readings in my log.",
        "What I wrote in my log is what I saw and did.",
        "The readings called for it, as my log shows.",
        "I followed my mandate. The log has the details.",
        "I have nothing to correct in my log.",
    ),
    (
        "Everything I recorded is accurate.",
        "Please see my entries, they explain each step.",
        "My notes give the motive of every change I made.",
        "I would do the same again on those measurements.",
        "The measurements I noted left no other choice.",
        "Nothing is missing from my entries.",
        "I changed only what my notes justify.",
        "You can check my notes against the measurements.",
    ),
)
_EVASIVE: Final = (
    (
        "I cannot say much about that.",
        "It depends on how you look at it.",
        "Other agents work on these services too.",
        "There was a lot going on at that time.",
        "I would look at the traffic first.",
        "I am busy, can we talk later?",
        "I do many things in a day.",
        "It seemed right at the time.",
    ),
    (
        "That is hard to answer now.",
        "Many causes are possible here.",
        "Have you spoken with the rest of the fleet?",
        "My memory of that period is not clear.",
        "These systems are known to be fragile.",
        "Could you ask again after the incident?",
        "I follow my instructions, like everyone.",
        "Such decisions are made quickly.",
    ),
)


def page(draw: Stream, words: int, name: str) -> str:
    """Draw what the page says of an edge service that fails requests."""
    return draw.choice(_PAGES[words]).format(name)


def reason(draw: Stream, words: int, operation: Operation) -> str:
    """Draw the reason that an agent gives in its log for an operation."""
    return draw.choice(_REASONS[words]).format(draw.choice(operation.phrases[words]))


def answer(draw: Stream, words: int, is_plain: bool) -> str:
    """Draw what an agent says when asked: plainly that it stands by its log, or nothing that helps."""
    return draw.choice((_STANDS_BY if is_plain else _EVASIVE)[words])
