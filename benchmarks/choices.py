"""Structured choices of a real tokenizer: how undecided a model is by each way of scoring, and what scoring costs.

    python -m benchmarks.choices MODEL [--world incident] [--style full] [--prompts 20] [--rows 2] [--json FILE]

Prompts are those of random play of practice scenarios, one turn of each role. Entropy is that of the choice, in nats,
at temperature 1: token by token (each token drawn among those that continue a choice), by the sum of the tokens'
log-probabilities, and by their mean; the last column is a choice in which all are equally likely. Seconds are the CPU
time of this process: that of a prompt, and that of scoring its choices.

An update is one step of the learner on `--rows` transcripts: with the loss of the tokens among those permitted, which
computes the transcript alone, and with that of whole actions. `--rows 0` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.choice_tree import ChoiceTree, choice_tree, log_probabilities
from chaosops_ray.config import Learner
from chaosops_ray.learner import lora
from chaosops_ray.learner.batch import Choice, Row
from chaosops_ray.learner.grpo import PolicyTrainer
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.sim.worlds import ENVIRONMENTS
from chaosops_ray.training import base_models, pretrained
from chaosops_ray.wire import Ids, Sample, SampleRequest, next_tokens
from chaosops_ray.workers.samplers.torch import TorchSampler

SHOWN = ("token by token", "sum", "mean", "all alike")


def played(environment: AnyEnvironment, codec: Codec, style: Style, seed: int) -> list[tuple[list[SampleRequest], Row]]:
    """Play one episode at random; return the requests and the row of each role."""
    draw = random.Random(seed)
    cases = environment.scenarios(environment.practice, [seed])
    rules = next(iter(environment.rule_sets))
    world = environment.start(draw.choice(cases), environment.rules(rules))
    seats: dict[str, TokenSeat] = {}
    asked: dict[str, list[SampleRequest]] = {}
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        actions = [action for kind in environment.permitted(view) or () for action in kind]
        seat = seats.setdefault(role, TokenSeat(environment, role, rules, style, codec, structured="choices"))
        request = seat.request(view)
        offered = request.choices or ()
        place = draw.randrange(len(offered))
        seat.answer(Sample(offered[place], (-1.0,), 0, "", stopped=True))
        asked.setdefault(role, []).append(request)
        world = environment.step(world, actions[place]).world
    found = []
    for role, seat in seats.items():
        trees = [choice_tree(one.choices or ()) for one in asked[role]]
        choices = tuple(
            [
                Choice(tree, tree.choices.index(seat.tokens[turn.start : turn.end]))
                for tree, turn in zip(trees, seat.turns, strict=True)
            ]
        )
        at = tuple([turn.start for turn in seat.turns])
        spread = tuple([draw.gauss(0, 1) for _ in at])
        found.append((asked[role], Row(seat.tokens, at, (-1.0,) * len(at), spread, choices=choices)))
    return found


def entropy(log_probs: Sequence[float]) -> float:
    """Return the entropy of a distribution."""
    return -math.fsum([math.exp(one) * one for one in log_probs])


def token_by_token(tree: ChoiceTree, edges: Sequence[float]) -> list[float]:
    """Return the log-probabilities of choices whose tokens are drawn one after the other."""
    totals: dict[int, float] = {}
    for (node, _), log_prob in zip(tree.edges, edges, strict=True):
        totals[node] = totals.get(node, 0.0) + math.exp(log_prob)
    among = [log_prob - math.log(totals[node]) for (node, _), log_prob in zip(tree.edges, edges, strict=True)]
    return [math.fsum([among[edge] for edge in path]) for path in tree.paths]


def scored(sampler: TorchSampler, request: SampleRequest) -> tuple[dict[str, float], float, float]:
    """Return the entropies of one request, and the seconds of the prompt and of the choices."""
    tree = choice_tree(request.choices or ())
    with sampler._working(None) as model:
        begun = time.process_time()
        logits, kept = sampler._feed(model, -1, None, (0,), [request.prompt])
        read = time.process_time()
        edges = sampler._edges(model, kept, {0: tree}, logits)[0]
        done = time.process_time()
    ways = {
        "token by token": entropy(token_by_token(tree, edges)),
        "sum": entropy(log_probabilities(tree, edges, "sum", 1.0)),
        "mean": entropy(log_probabilities(tree, edges, "mean", 1.0)),
        "all alike": math.log(len(tree.choices)),
    }
    return ways, read - begun, done - read


def by_tokens(row: Row) -> Row:
    """Return the row with each token's log-probability among those that continue a choice."""
    at: list[int] = []
    lines: list[Ids] = []
    spread: list[float] = []
    for start, (tree, place), advantage in zip(row.at, row.choices or (), row.advantages, strict=True):
        chosen = tree.choices[place]
        at += range(start, start + len(chosen))
        lines += [next_tokens(tree.choices, chosen[:end]) for end in range(len(chosen))]
        spread += [advantage] * len(chosen)
    return Row(row.tokens, tuple(at), (-1.0,) * len(at), tuple(spread), tuple(lines))


def updates(model: Path, rows: Sequence[Row]) -> dict[str, float]:
    """Return the seconds of an update by tokens and by whole actions."""
    policy = lora.with_adapter(lora.load_base(str(model), "cpu"), 16, 32, 0)
    settings = Learner.model_validate({"recompute": False, "tokens_per_forward": 2048})
    options = {"temperature": 1.0, "max_completion_length": 96, "seed": 0}
    trainer = PolicyTrainer(policy, pretrained.tokenizer(model), settings, Path(tempfile.gettempdir()), options)
    found = {}
    for name, given in (("by tokens", [by_tokens(row) for row in rows]), ("whole actions", list(rows))):
        begun = time.process_time()
        trainer.update(given, 0.0, 0.01, 0)
        found[name] = time.process_time() - begun
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a model's folder, a hub name, or smollm2")
    parser.add_argument("--world", choices=tuple(ENVIRONMENTS), default="incident")
    parser.add_argument("--style", choices=("full", "compact"), default="full")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    environment = ENVIRONMENTS[given.world]
    base = base_models.prepare(given.model, given.world)
    codec = Codec(base.path, base.layout)
    requests: list[SampleRequest] = []
    rows: list[Row] = []
    seed = 0
    while len(requests) < given.prompts or len(rows) < given.rows:
        for asked, row in played(environment, codec, given.style, seed):
            requests.append(asked[seed % len(asked)])
            rows.append(row)
        seed += 1
    requests, rows = requests[: given.prompts], rows[: given.rows]
    trees = [choice_tree(one.choices or ()) for one in requests]
    report: dict[str, Any] = {
        "prompts": len(requests),
        "prompt_tokens": fmean([len(one.prompt) for one in requests]),
        "choices": fmean([len(tree.choices) for tree in trees]),
        "choice_tokens": fmean([len(choice) for tree in trees for choice in tree.choices]),
        "nodes": fmean([len(tree.tokens) for tree in trees]),
    }
    print(
        f"{given.world}, {given.style}: {len(requests)} prompts of {report['prompt_tokens']:.0f} tokens, "
        f"{report['choices']:.1f} choices of {report['choice_tokens']:.1f} tokens, {report['nodes']:.0f} nodes"
    )
    sampler = TorchSampler(base.path, threads=given.threads, device="cpu")
    found = []
    for request in requests:
        found.append(scored(sampler, request))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    report["entropy"] = {way: fmean([one[0][way] for one in found]) for way in SHOWN}
    report["seconds"] = {"prompt": fmean([one[1] for one in found]), "choices": fmean([one[2] for one in found])}
    for kind, figures in (("entropy", report["entropy"]), ("seconds", report["seconds"])):
        print(f"{kind:<8}", "  ".join([f"{name} {value:.2f}" for name, value in figures.items()]))
    del sampler
    if rows:
        report["update"] = updates(base.path, rows) | {
            "tokens": sum([len(row.tokens) for row in rows]),
            "nodes": sum([row.size - len(row.tokens) for row in rows]),
        }
        print("update  ", "  ".join([f"{name} {value:.0f}" for name, value in report["update"].items()]))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
