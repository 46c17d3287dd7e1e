"""A PPO policy on disk and as a player of an evaluation: a file of weights, and a sealed file that names its digest.

Nothing in a run's folder is unpickled. A file that is missing, edited, or of a world that has changed since is an
error, and nothing is played in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from chaosops_ray.evaluate import Played
from chaosops_ray.integrations import symbolic
from chaosops_ray.integrations.rllib.network import Network
from chaosops_ray.plain_text import printable
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, Policy, PolicyFactory, Scenario
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, remote
from chaosops_ray.wire import UNTRAINED

SCHEMA = "ppo/1"
WEIGHTS, RECORD = "policy.safetensors", "ppo.json"
_REMEDY = "give the folder of a finished run of chaosops ppo, or train it again"
_LONGEST_NAME = 60


def factory(environment: AnyEnvironment, networks: Mapping[str, Network], size: int) -> PolicyFactory:
    """Return the policy that takes each role's likeliest action; it keeps nothing between turns."""

    def act(view: Any, /) -> Any:
        seen = torch.from_numpy(symbolic.features(environment, view, size))
        permitted = torch.from_numpy(symbolic.mask(environment, view))
        with torch.no_grad():
            number = int(networks[view.role].logits(seen, permitted).argmax())
        return symbolic.action(environment, view.role, number)

    def build(_scenario: Scenario, _rules: str) -> Policy:
        return act

    return build


def fingerprint(environment: AnyEnvironment, roles: Sequence[str], size: int) -> str:
    """Return a digest of what the roles' networks are fed with and choose from; it changes when the world does."""
    whole = sha256()
    for role in roles:
        whole.update(repr(symbolic.vocabulary(environment, role)).encode())
    for case in environment.cases:
        world = environment.start(case, environment.rule_sets[0])
        for role in roles:
            whole.update(symbolic.features(environment, environment.view(world, role), size).tobytes())
    return whole.hexdigest()


def write(
    folder: Path,
    environment: AnyEnvironment,
    networks: Mapping[str, Network],
    settings: Mapping[str, Any],
    steps: int,
) -> str:
    """Write a policy's weights and its record into a folder; return the digest of the weights."""
    tensors = {
        f"{role}.{name}": tensor.contiguous()
        for role, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    with files.atomic_file(folder / WEIGHTS) as path:
        path.write_bytes(save(tensors))
    digest = files.digest(folder / WEIGHTS)
    record = {
        "schema": SCHEMA,
        "world": environment.name,
        "roles": list(networks),
        "size": settings["features"],
        "hidden": settings["hidden"],
        "seats": settings["seats"],
        "steps": steps,
        "fingerprint": fingerprint(environment, list(networks), settings["features"]),
        "weights": digest,
        "settings": dict(settings),
    }
    files.write_json(folder / RECORD, files.sealed(record))
    return digest


@dataclass(frozen=True)
class PpoPlayer:
    """A trained PPO policy, one scenario at a time, greedily."""

    environment: AnyEnvironment
    build: PolicyFactory
    digest: str
    colleagues: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        """Play each scenario once, in their order."""
        own = UNTRAINED._replace(digest=self.digest)
        with self.live() as build:
            for scenario in scenarios:
                episode = play(self.environment, scenario, rules, build(scenario, rules))
                yield Played(
                    episode, tuple([UNTRAINED if one.role in self.colleagues else own for one in episode.steps])
                )

    def live(self) -> AbstractContextManager[PolicyFactory]:
        """Return the policy with its colleagues."""
        return nullcontext(seats.beside(self.environment, self.build, self.colleagues))


def player(environment: AnyEnvironment, folder: str, colleagues: Mapping[str, str] | None = None) -> PpoPlayer:
    """Read the player of a run's folder; without `colleagues` it has those that it was trained with."""
    if remote.is_uri(folder):
        raise InputError(f"{remote.shown(folder)} is a place in an object store; copy the run to this machine first")
    path = Path(folder)
    record = files.read_sealed(path / RECORD, _REMEDY)
    if record.get("schema") != SCHEMA:
        raise InputError(f"{path / RECORD} is of another format than {SCHEMA}; {_REMEDY}")
    if record["world"] != environment.name:
        raise InputError(f"{path} was trained in world {record['world']}, not {environment.name}; evaluate it there")
    if record["fingerprint"] != fingerprint(environment, record["roles"], record["size"]):
        raise InputError(
            f"{path} was trained on views or actions that world {environment.name} no longer has; train it again"
        )
    beside = record["seats"] if colleagues is None else colleagues
    for role in seats.left(environment, beside):
        if role not in record["roles"]:
            raise InputError(f"{path} has not learned to play {role}; let a baseline play it with --seats {role}=NAME")
    networks = _networks(path / WEIGHTS, record, environment)
    model = {
        "run": printable(path.resolve().name, _LONGEST_NAME),
        "algorithm": "PPO",
        "steps": record["steps"],
        "digest": record["weights"],
    }
    return PpoPlayer(environment, factory(environment, networks, record["size"]), record["weights"], beside, model)


def _networks(path: Path, record: Mapping[str, Any], environment: AnyEnvironment) -> dict[str, Network]:
    files.check_digest(path, record["weights"], _REMEDY)
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise InputError(f"{path} holds no weights ({error}); {_REMEDY}") from None
    networks = {}
    for role in record["roles"]:
        network = Network(record["size"], record["hidden"], len(symbolic.vocabulary(environment, role)))
        own = {name.removeprefix(f"{role}."): one for name, one in tensors.items() if name.startswith(f"{role}.")}
        if {name: one.shape for name, one in own.items()} != {n: one.shape for n, one in network.state_dict().items()}:
            raise InputError(f"{path} holds weights that do not fit the network of {role}; {_REMEDY}")
        network.load_state_dict(own)
        networks[role] = network.eval()
    return networks
