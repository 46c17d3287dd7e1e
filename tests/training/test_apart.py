"""A cluster whose nodes share no folder, trained on: the same to the last bit as on one node.

Each node is a Ray of its own with its own view of the file system: over the folders of the others, an empty one is
mounted. The driver's node has the run folder and the base model, and runs no actor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chaosops_ray.config import Run
from chaosops_ray.process_environment import ENVIRONMENT
from chaosops_ray.store import versions
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.sweeps import runner
from chaosops_ray.training import check, loop
from scripts.ray_up_on_loopback import ANY_PORT, end, free_ports
from tests.support.cluster import digests, make, ray_here, small_run
from tests.support.models import tiny_base

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
# Each node needs an address of its own, for it has a resource of that name. Linux has all of these.
NODES = {"driver": "127.0.0.2", "one": "127.0.0.3", "two": "127.0.0.4", "three": "127.0.0.5"}
# The learner fits on node one only; samplers and shards on node two, and on three when two is lost.
CPUS = {"driver": 0, "one": 3, "two": 2, "three": 2}
SETTINGS = (
    "updates=3",
    "batch.scenarios=2",
    "checkpoint_every=1",
    "rollout.shards=2",
    "resources={samplers: 2, learner_cpus: 3, sampler_cpus: 0.5, shard_cpus: 0.5, learner_gpus: 0, sampler_gpus: 0}",
)
SAMPLERS_AND_SHARDS = ["ray::SamplerHost", "ray::SamplerHost", "ray::Shard", "ray::Shard"]
PATIENCE = 120.0


class Nodes:
    """The nodes, each with its folder below one folder."""

    def __init__(self, folder: Path, unshare: Sequence[str]) -> None:
        self.folder = folder
        self.unshare = unshare
        port, self.client_port = free_ports(2)
        self.address = f"{NODES['driver']}:{port}"
        self.views: dict[str, str] = {}  # of the file system: the same for all processes of a node, and for no others
        for name in NODES:
            (folder / name / "tmp").mkdir(parents=True)

    def start(self, name: str) -> None:
        """Start a node that sees only its own folder."""
        hide = [f"mount -t tmpfs tmpfs {self.folder / other}" for other in NODES if other != name]
        head = ["--head", f"--port={self.address.partition(':')[2]}", f"--temp-dir={self.folder / 'ray'}"]
        head += ["--include-dashboard=false", f"--ray-client-server-port={self.client_port}"]
        options = head if name == "driver" else [f"--address={self.address}"]
        options += [f"--node-ip-address={NODES[name]}", f"--num-cpus={CPUS[name]}", "--num-gpus=0", *ANY_PORT.split()]
        options += ["--object-store-memory=200000000", "--disable-usage-stats"]
        start = " ".join([sys.executable, "-m", "ray.scripts.scripts", "start", *options])
        own = {"CHAOSOPS_CACHE": str(self.folder / name / "cache"), "TMPDIR": str(self.folder / name / "tmp")}
        own["RAY_AUTH_MODE"] = (
            "token"  # as `ray.init` starts a Ray; `ray start` has another default for each kind of node
        )
        # Otherwise Ray starts a process for every CPU before it is needed.
        own |= {"RAY_prestart_worker_first_driver": "0", "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [*self.unshare, "sh", "-ec", " && ".join(["readlink /proc/self/ns/mnt", *hide, start])],
            env=os.environ | ENVIRONMENT | own,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.views[name] = ran.stdout.partition("\n")[0]
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def processes(self, name: str) -> dict[int, str]:
        """The processes of a node, by number, with their titles."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/mnt") == self.views.get(name):
                    found[int(process.name)] = (process / "cmdline").read_bytes().partition(b"\0")[0].decode()
            except OSError:
                continue  # gone, or somebody else's
        return found

    def actors(self, name: str) -> list[str]:
        """The actors of a node; a busy one has its method in its title."""
        titles = [title.partition(".")[0] for title in self.processes(name).values()]
        return sorted([title for title in titles if title in ("ray::LearnerHost", *SAMPLERS_AND_SHARDS)])

    def files(self, name: str) -> list[str]:
        """The files that a node has kept, without locks and what Ray writes."""
        kept = [path for path in (self.folder / name).rglob("*") if path.is_file() and path.name != "lock"]
        return sorted([str(path.relative_to(self.folder / name)) for path in kept])


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Nodes that have not started."""
    folder = Path(tempfile.mkdtemp(prefix="apart-", dir="/tmp"))  # short, for sockets lie below it
    made = Nodes(folder, unshare(folder))
    try:
        yield made
    finally:
        for name in NODES:
            end([*made.processes(name)])
        shutil.rmtree(folder)


def unshare(folder: Path) -> list[str]:
    """The command under which a process mounts what only itself and its children see."""
    said = ""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        tried = [*command, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
        ran = subprocess.run(tried, capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return command
        said = ran.stderr.strip()
    shutil.rmtree(folder)
    pytest.skip(f"the system does not let this user mount a folder for some processes only: {said}")


@contextmanager
def connected(nodes: Nodes) -> Iterator[None]:
    """All nodes but the last, and this process as their driver."""
    for name in ("driver", "one", "two"):
        nodes.start(name)
    ray.init(address=nodes.address, _node_ip_address=NODES["driver"], log_to_driver=False, logging_level="ERROR")
    try:
        until_there_are("driver", "one", "two")
        yield
    finally:
        ray.shutdown()


def alive() -> dict[str, str]:
    """Ray's id of each living node, by its name here."""
    names = {address: name for name, address in NODES.items()}
    return {names[node["NodeManagerAddress"]]: node["NodeID"] for node in ray.nodes() if node["Alive"]}


def until_there_are(*names: str) -> None:
    """Wait until these nodes are alive, and no others."""
    until = time.monotonic() + PATIENCE
    while set(alive()) != set(names):
        assert time.monotonic() < until, f"wanted are {names}, alive is {alive()}"
        time.sleep(0.2)


def seen_from(name: str, folder: Path) -> list[str]:
    """The nodes in whose folders a process of this node sees anything."""

    def look() -> list[str]:
        return [other for other in NODES if list((folder / other).iterdir())]

    there = NodeAffinitySchedulingStrategy(alive()[name], soft=False)
    found: list[str] = ray.get(
        ray.remote(look).options(num_cpus=0, scheduling_strategy=there).remote(), timeout=PATIENCE
    )
    return found


def nodes_of_a_trial(run: Run) -> list[str]:
    """The nodes of a sweep's trial: of its own process, which reads and writes the run folder, and of its actors."""
    factory = runner.placement(run)
    group = placement_group(factory.bundles, strategy=factory.strategy)
    try:
        ray.get(group.ready(), timeout=PATIENCE)
        names = {identity: name for name, identity in alive().items()}
        places = placement_group_table(group)["bundles_to_node_id"]
        return [names[places[bundle]] for bundle in sorted(places)]
    finally:
        remove_placement_group(group)


def test_nodes_that_share_no_folder_train_as_one_node_does(nodes: Nodes, tmp_path: Path) -> None:
    """Learner, samplers and shards are on two other nodes than the driver's, and one of these is lost on the way."""
    run = small_run(*SETTINGS)
    here = make(tmp_path / "run", run)
    held_out = here.environment.scenarios("published", [1000])[:6]
    with ray_here():
        expected = loop.train(here, lambda _row: None, held_out=held_out)

    mine = nodes.folder / "driver"
    base = tiny_base()
    base = base._replace(path=Path(shutil.copytree(base.path, mine / "cache" / base.path.name)))
    training = loop.prepare(run, base, RunFolder.create(mine / "run", check.written(run)))
    actors: list[list[str]] = []

    def lose_a_node(row: dict[str, Any]) -> None:
        actors.append([title for name in NODES for title in [name, *nodes.actors(name)]])
        if row["update"] == 1:
            nodes.start("three")
            until_there_are("driver", "one", "two", "three")
            end([*nodes.processes("two")])
            until_there_are("driver", "one", "three")

    with connected(nodes):
        assert [seen_from(name, nodes.folder) for name in ("driver", "one", "two")] == [["driver"], ["one"], ["two"]]
        found = loop.train(training, lose_a_node, held_out=held_out)
        assert seen_from("three", nodes.folder) == ["three"]
        own, *others = nodes_of_a_trial(run)
        assert (own, set(others)) == ("driver", {"one", "three"})

    learner = ["driver", "one", "ray::LearnerHost", "two"]
    assert actors[0] == [*learner, *SAMPLERS_AND_SHARDS, "three"]
    assert actors[2] == [*learner, "three", *SAMPLERS_AND_SHARDS]
    assert digests(training) == digests(here)
    assert found.version[:2] == expected.version[:2]
    assert found.held_out == expected.held_out
    assert training.folder.version().digest == found.version.digest
    # Each node has received the base model once, and kept nothing else.
    received = [f"cache/received/{base.digest}/model/{path.name}" for path in versions.base_files(base.path)]
    for name in ("one", "two", "three"):
        assert nodes.files(name) == sorted(received)
