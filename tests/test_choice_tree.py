"""Trees of choices, written out by plain loops; the distribution over them, and what is drawn from it."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.choice_tree import ChoiceTree, choice_tree, is_whole, log_probabilities
from chaosops_ray.wire import ChoiceScore, Decoding, Ids, SampleRequest
from chaosops_ray.workers.samplers.sampler import SamplerError, check_choices, choose, chosen

# Few tokens, so that beginnings are shared, choices equal, and some the beginning of others.
spelt = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), min_size=1, max_size=9).map(tuple)


def beginning(tree: ChoiceTree, node: int) -> Ids:
    return () if node < 0 else (*beginning(tree, tree.parents[node]), tree.tokens[node])


@given(spelt)
def test_a_tree_has_every_beginning_once(choices: tuple[Ids, ...]) -> None:
    tree = choice_tree(choices)
    assert tree.choices == tuple(dict.fromkeys(choices))
    begun = [beginning(tree, node) for node in range(len(tree.tokens))]
    assert Counter(begun) == Counter({one[:end] for one in choices for end in range(1, len(one))})
    assert list(tree.depths) == [len(one) for one in begun]
    assert all(parent < node for node, parent in enumerate(tree.parents)), "parents are read first"
    edges = [(*beginning(tree, node), token) for node, token in tree.edges]
    assert Counter(edges) == Counter({one[:end] for one in choices for end in range(1, len(one) + 1)})
    assert [node for node, _ in tree.edges] == sorted(node for node, _ in tree.edges)
    for choice, path in zip(tree.choices, tree.paths, strict=True):
        assert [edges[edge] for edge in path] == [choice[:end] for end in range(1, len(choice) + 1)]


@given(spelt)
def test_a_node_sees_its_own_branch(choices: tuple[Ids, ...]) -> None:
    tree = choice_tree(choices)
    for node, above in zip(*tree.ancestors(), strict=True):
        assert beginning(tree, node)[: tree.depths[above]] == beginning(tree, above)
    assert len(tree.ancestors()[0]) == sum(tree.depths)


@given(spelt)
def test_the_leaves_have_all_edges(choices: tuple[Ids, ...]) -> None:
    tree = choice_tree(choices)
    leaves = [tree.choices[place] for place in tree.leaves]
    for leaf in leaves:
        assert not [other for other in tree.choices if other != leaf and other[: len(leaf)] == leaf]
    assert {edge for place in tree.leaves for edge in tree.paths[place]} == set(range(len(tree.edges)))


def test_single_tokens_are_no_whole_actions() -> None:
    assert [is_whole(given) for given in (None, ((1,), (2,)), ((1,), (2, 3)))] == [False, False, True]


@given(spelt, st.sampled_from(["mean", "sum"]), st.sampled_from([1e-300, 0.01, 0.8, 5.0]), st.randoms())
def test_the_distribution_is_the_softmax_of_the_scores(
    choices: tuple[Ids, ...], score: ChoiceScore, temperature: float, draw: random.Random
) -> None:
    """At any temperature there is one, and it sums up to 1."""
    tree = choice_tree(choices)
    edges = [-9 * draw.random() for _ in tree.edges]
    found = log_probabilities(tree, edges, score, temperature)
    totals = [sum(edges[edge] for edge in path) / (len(path) if score == "mean" else 1) for path in tree.paths]
    assert math.fsum([math.exp(one) for one in found]) == pytest.approx(1)
    if temperature >= 0.8:
        weights = [math.exp(total / temperature) for total in totals]
        assert found == pytest.approx([math.log(weight / sum(weights)) for weight in weights])
    assert found[max(range(len(totals)), key=totals.__getitem__)] == max(found)


def test_a_choice_without_a_probability_is_never_made() -> None:
    tree = choice_tree(((1, 2), (3, 4), (5, 6)))
    edges = [-1.0] * len(tree.edges)
    edges[tree.paths[0][1]] = edges[tree.paths[2][0]] = -math.inf
    found = log_probabilities(tree, edges, "mean", 0.8)
    assert found == [-math.inf, 0.0, -math.inf]
    assert {choose(found, seed, temperature) for seed in range(50) for temperature in (0.0, 1.0)} == {1}
    request, decoding = SampleRequest(0, (1,), 1, tree.choices), Decoding(1.0, 4, (4,))
    assert chosen(request, edges, decoding, 3, "abc")[:2] == ((3, 4), (0.0,))
    for bad in (-math.inf, math.nan):
        with pytest.raises(SamplerError, match="none of the choices a probability"):
            chosen(request, [bad] * len(edges), decoding, 3, "abc")


def test_choices_come_up_as_often_as_they_are_likely() -> None:
    """Whatever the seed; greedily the likeliest, of equals the first."""
    log_probs = [math.log(one) for one in (0.2, 0.5, 0.05, 0.25)]
    drawn = Counter(choose(log_probs, seed, 0.8) for seed in range(4000))
    for place, log_prob in enumerate(log_probs):
        expected = 4000 * math.exp(log_prob)
        assert abs(drawn[place] - expected) < 4.5 * expected**0.5
    assert [choose(one, 0, 0.0) for one in (log_probs, [-1.0, -1.0])] == [1, 0]


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ((tuple(range(1025)),), "too many to score"),
        (tuple([(one, two) for one in range(70) for two in range(70)]), "too many to score"),
    ],
)
def test_more_choices_than_can_be_scored_are_refused(choices: tuple[Ids, ...], reason: str) -> None:
    with pytest.raises(SamplerError, match=reason):
        check_choices(choices, 2000)
    check_choices(tuple([(one,) for one in range(20_000)]), 1)
