"""Choices of several tokens, scored as whole actions: one distribution over all of them, however each is spelt.

A choice's score is the log-probability of its tokens, summed or as the mean of them; the policy is the softmax of the
scores divided by the temperature. Choices share beginnings, so they form a tree: each beginning is computed once. The
samplers draw from this distribution and the learner differentiates it: both must agree exactly on what is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from chaosops_ray.wire import ChoiceScore, Ids


class ChoiceTree(NamedTuple):
    """The beginnings of choices as nodes, parents first. A node is named by its place, the end of the prompt by -1."""

    choices: tuple[Ids, ...]  # each once: actions with the same tokens are one choice
    tokens: Ids  # the last token of each node; a whole choice is a node only where another one goes on from it
    parents: tuple[int, ...]
    depths: tuple[int, ...]  # the number of tokens from the prompt's end to the node, at least 1
    edges: tuple[tuple[int, int], ...]  # a node and a token that may follow it; all edges of a node in a row
    paths: tuple[tuple[int, ...], ...]  # by choice, the edges of its tokens
    leaves: tuple[int, ...]  # the choices that begin no other one; their paths have all edges

    def ancestors(self) -> tuple[list[int], list[int]]:
        """Return pairs of a node and what it follows in its own branch, itself included, as two lists."""
        lines: list[list[int]] = []
        for node, parent in enumerate(self.parents):
            lines.append([*(lines[parent] if parent >= 0 else ()), node])
        return [node for node, line in enumerate(lines) for _ in line], [above for line in lines for above in line]


def is_whole(choices: tuple[Ids, ...] | None) -> bool:
    """Tell whether choices are scored as whole actions; single tokens are a masked distribution over the vocabulary.

    For these the two are the same, and the mask is cheaper.
    """
    return choices is not None and any(len(choice) > 1 for choice in choices)


@lru_cache(256)
def choice_tree(choices: tuple[Ids, ...]) -> ChoiceTree:
    """Return the tree of these choices."""
    once = tuple(dict.fromkeys(choices))
    steps: dict[tuple[int, int], int] = {}  # every beginning by the one before it and its last token, parents first
    walked = []
    for choice in once:
        at, walk = -1, []
        for token in choice:
            at = steps.setdefault((at, token), len(steps))
            walk.append(at)
        walked.append(walk)
    came = list(steps)
    nodes = {-1: -1}
    depths: list[int] = []
    for step in sorted({before for before, _ in came} - {-1}):
        before = nodes[came[step][0]]
        nodes[step] = len(depths)
        depths.append(1 + (depths[before] if before >= 0 else 0))
    ordered = sorted(came, key=lambda step: (nodes[step[0]], step[1]))
    places = {steps[step]: place for place, step in enumerate(ordered)}
    begun = [came[step] for step in nodes if step >= 0]
    return ChoiceTree(
        once,
        tuple([token for _, token in begun]),
        tuple([nodes[before] for before, _ in begun]),
        tuple(depths),
        tuple([(nodes[before], token) for before, token in ordered]),
        tuple([tuple([places[step] for step in walk]) for walk in walked]),
        tuple([number for number, walk in enumerate(walked) if walk[-1] not in nodes]),
    )


def check_window(config: Any, length: int) -> None:
    """Raise ValueError for a model some of whose layers see only the last tokens, fewer than a transcript has."""
    window = getattr(config, "sliding_window", None)
    if window is not None and length > window:
        raise ValueError(
            f"this model's attention sees {window} tokens and the transcript has {length}: choices of several tokens "
            "are not scored beyond that; lower resources.context, or let completions be free"
        )


def log_probabilities(tree: ChoiceTree, edges: Sequence[float], score: ChoiceScore, temperature: float) -> list[float]:
    """Return the log-probability of each choice; `edges` are those of the tree's edges, at temperature 1."""
    totals = [math.fsum([edges[edge] for edge in path]) for path in tree.paths]
    if score == "mean":
        totals = [total / len(path) for total, path in zip(totals, tree.paths, strict=True)]
    best = max(totals)
    if any(math.isnan(total) for total in totals) or not math.isfinite(best):
        raise ValueError("the model gives none of the choices a probability that is a number")
    # The best one first comes to 0, so that no temperature is too low to divide by.
    scaled = [(total - best) / temperature for total in totals]
    norm = math.log(math.fsum([math.exp(one) for one in scaled]))
    return [one - norm for one in scaled]
