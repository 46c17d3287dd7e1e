"""Bring cluster-local.yaml up on this machine, over a real sshd, run a job on it, and take it down again.

    .venv/bin/python -m scripts.ray_up_on_loopback [COMMAND …]

COMMAND is submitted as the job, from the root of the checkout; by default it prints what the cluster has. The sshd
listens on loopback only, with keys made for the occasion. Everything lies in one temporary folder, the home of those
who log in included: `ray up` writes there, not under yours. Other Rays of yours on this machine are left alone.
Whatever ends the script, also Ctrl-C or `kill -9`, scripts/contained.py ends all that it started and deletes the
folder.

The head is 127.0.0.2 and the one worker 127.0.0.3, both of which Linux has without further ado; for 127.0.0.1 Ray would
take an address that others reach. What is not tried: the installation, for which the checkout's .venv stands in, and
nodes that see different files, which tests/training/test_apart.py tries.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from scripts.contained import contained

ROOT = Path(__file__).parents[1]
BIN = ROOT / ".venv" / "bin"
HERE, HEAD, WORKER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
ARCHIVE = "chaosops_ray.tar"
STOP, WORK = "--stop", "--work"
# In the environment of every process of this cluster and of none else: what to end, and what to wait for.
MARK = "CHAOSOPS_LOOPBACK"
NEEDED = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "rsync": "rsync"}
JOB = [
    "python",
    "-c",
    "import ray; ray.init(logging_level='ERROR'); print('nodes', len(ray.nodes()), ray.cluster_resources())",
]
# A wait ends after so long without any progress, and in any case after the limit.
_QUIET, _LIMIT = 180.0, 1800.0
_SSHD_OF_ROOT = Path("/run/sshd")


def main(arguments: Sequence[str]) -> None:
    """Up, a look, a job, down; or, as `--stop FOLDER`, what `ray stop` is on this cluster."""
    if arguments[:1] == [STOP]:
        end(marked(Path(arguments[1])))
        return
    if arguments[:1] == [WORK]:
        up_and_down(Path(arguments[-1]), arguments[1:-1])
        return
    for program, package in NEEDED.items():
        if found(program) is None:
            sys.exit(f"{program} is missing: apt-get install -y {package}")
    work = [sys.executable, "-m", "scripts.ray_up_on_loopback", WORK, *(arguments or JOB)]
    # Where sshd of root goes before anybody has logged in; Debian makes it when the service starts.
    makes_it = os.geteuid() == 0 and not _SSHD_OF_ROOT.exists()
    sys.exit(contained(work, "chaosops-", partial(clean, made=[_SSHD_OF_ROOT] if makes_it else [])))


def up_and_down(folder: Path, job: Sequence[str]) -> None:
    """Everything, in a folder with a short name: Ray's sockets lie in it."""
    if os.geteuid() == 0:
        _SSHD_OF_ROOT.mkdir(mode=0o755, exist_ok=True)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    config = prepare(folder, ports)
    with sshd(folder, ports["ssh"]):
        try_it(folder, config, ports, job)


def clean(folder: Path, made: Sequence[Path]) -> None:
    """Delete what is left outside of the folder."""
    for sockets in Path("/tmp").glob(f"ray_ssh_*/{control_folder(folder.name)}"):  # noqa: S108 - Ray's own choice
        shutil.rmtree(sockets, ignore_errors=True)
        with suppress(OSError):  # other clusters have sockets there
            sockets.parent.rmdir()
    for path in made:
        with suppress(OSError):  # gone already, or another sshd has begun to use it
            path.rmdir()


def try_it(folder: Path, config: Path, ports: dict[str, int], job: Sequence[str]) -> None:
    """The commands of docs/cluster.md, each of which has to succeed."""
    client = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RAY_TMPDIR": str(folder)}
    client |= {"RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": str(folder)}  # Ray caches configurations there
    client.pop("RAY_ADDRESS", None)
    ray, dashboard = str(BIN / "ray"), f"http://{HERE}:{ports['tunnel']}"
    plain = ["--log-style", "pretty", "--log-color", "false"]
    run([ray, "up", "-y", "--no-config-cache", *plain, str(config)], client)
    wait_for_nodes(ray, config, ports, client)
    run([ray, "exec", "--no-config-cache", *plain, str(config), f"ray status --address {HEAD}:{ports['gcs']}"], client)
    tunnel = [ray, "dashboard", "--no-config-cache", "--port", str(ports["tunnel"])]
    tunnel += ["--remote-port", str(ports["dashboard"]), str(config)]
    with background(tunnel, client, folder / "tunnel.log") as process:
        wait_for_port(HERE, ports["tunnel"], process)
        run([ray, "job", "submit", "--address", dashboard, "--working-dir", ".", "--", *job], client)
    run([ray, "down", "-y", *plain, str(config)], client)
    left = marked(folder)
    if left:
        sys.exit(f"{len(left)} processes of the cluster outlived `ray down`: {left}")
    print("no process of the cluster is left", flush=True)


def run(command: Sequence[str], environment: dict[str, str]) -> None:
    """Show a command and what it prints."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - ours


def wait_for_nodes(ray: str, config: Path, ports: dict[str, int], environment: dict[str, str]) -> None:
    """`ray up` returns when the head is up; the head starts the worker."""
    folder = config.parent
    logs = folder / "ray" / "session_latest" / "logs"
    listing = f"ray list nodes --address {HEAD}:{ports['gcs']} --filter state=ALIVE --format json"
    asked = [ray, "exec", "--no-config-cache", str(config), listing]

    def look() -> tuple[bool, Hashable]:
        ran = subprocess.run(  # noqa: S603 - ours
            asked, cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        nodes = ran.stdout.count('"node_ip"')
        # What the autoscaler prints while it sets the worker up; its other log also grows when nothing happens.
        printed = sum([log.stat().st_size for log in logs.glob("monitor.*") if log.suffix in (".out", ".err")])
        return nodes == 2, (nodes, printed, tuple(marked(folder)))

    def why() -> str:
        return "\n".join([*[log.read_text()[-3000:] for log in logs.glob("monitor*")], "the worker did not join"])

    wait(look, why)


def wait(
    look: Callable[[], tuple[bool, Hashable]],
    why: Callable[[], str],
    quiet: float = _QUIET,
    limit: float = _LIMIT,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Look until it is so. As long as what is seen changes, something moves on, and a slow machine has more time."""
    began = moved = clock()
    seen: Hashable = None
    while True:
        is_so, now = look()
        if is_so:
            return
        if now != seen:
            seen, moved = now, clock()
        if clock() - moved > quiet:
            sys.exit(f"{why()}: nothing has changed for {quiet:g} s")
        if clock() - began > limit:
            sys.exit(f"{why()} within {limit:g} s")
        pause(1.0)


# -- the cluster's files --------------------------------------------------------------------------------------------

PORTS = ("ssh", "gcs", "client", "dashboard", "tunnel")
# What would otherwise be the same for every Ray on a machine; two nodes need them twice, so Ray chooses.
ANY_PORT = (
    "--dashboard-agent-listen-port=0 --dashboard-agent-grpc-port=0 --runtime-env-agent-port=0 --metrics-export-port=0"
)


def prepare(folder: Path, ports: dict[str, int]) -> Path:
    """The configuration and what it names: keys, the commit, a home, and stand-ins for what would reach too far."""
    home, tools = folder / "home", folder / "bin"
    for made in (home, tools):
        made.mkdir()
    for key in ("host", "user"):
        ran = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(ran, check=True)  # noqa: S603 - ours
    commit = folder / "commit"
    commit.mkdir()
    subprocess.run(["git", "archive", "--output", str(commit / ARCHIVE), "HEAD"], cwd=ROOT, check=True)  # noqa: S603 - ours
    # Ray has no setting for the port of SSH, and takes a proxy command out of the configuration that the head gets. The
    # key on the head is named by ~, which ssh takes for the real home whatever HOME says.
    script(tools / "ssh", f'exec {found("ssh")} -p {ports["ssh"]} -i {folder / "user"} "$@"')
    # `ray stop`, which `ray down` calls by itself, ends every Ray of its user on the machine. Here it ends this one.
    stop = f"env PYTHONPATH={ROOT} {BIN / 'python'} -m scripts.ray_up_on_loopback {STOP} {folder}"
    script(tools / "ray", f'[ "${{1-}}" = stop ] && exec {stop}\nexec {BIN / "ray"} "$@"')
    for name in ("python", "chaosops"):
        script(tools / name, f'exec {BIN / name} "$@"')
    (home / ".bashrc").write_text(f'export RAY_TMPDIR={folder} PATH="{tools}:$PATH"\n')
    (home / ".bash_profile").write_text(". ~/.bashrc\n")
    script(folder / "login", f'export HOME={home}\ncd\nexec bash -c "$SSH_ORIGINAL_COMMAND"')
    config = folder / "cluster.yaml"
    derived = derive(yaml.safe_load((ROOT / "cluster-local.yaml").read_text()), folder, commit, ports)
    config.write_text(yaml.safe_dump(derived, sort_keys=False))
    return config


def derive(config: dict[str, Any], folder: Path, commit: Path, ports: dict[str, int]) -> dict[str, Any]:
    """cluster-local.yaml with this machine in place of its machines, and only this cluster to stop."""
    tools = folder / "home" / "chaosops" / "venv"
    setup = []
    for command in config["setup_commands"]:
        if "uv pip install" in command:
            setup.append(f"mkdir -p {tools} && ln -sfn {folder / 'bin'} {tools / 'bin'}")
            setup.append(f"tar -tf ~/chaosops/commit/{ARCHIVE} pyproject.toml constraints-gpu.txt")
        else:
            setup.append(command)
    common = f"--object-store-memory=200000000 --num-cpus=1 {ANY_PORT}"
    changes = {
        "--port=6379": f"--port={ports['gcs']} --ray-client-server-port={ports['client']} --node-ip-address={HEAD}",
        "--dashboard-port=8265": f"--dashboard-port={ports['dashboard']}",
        "--address=$RAY_HEAD_IP:6379": f"--address=$RAY_HEAD_IP:{ports['gcs']} --node-ip-address={WORKER}",
        "--object-store-memory=2000000000": common,
        "ray start": f"{MARK}={folder} ray start",
    }

    def here(commands: list[str]) -> list[str]:
        for old, new in changes.items():
            commands = [command.replace(old, new) for command in commands]
        return commands

    return {
        **config,
        "cluster_name": folder.name,
        "provider": {"type": "local", "head_ip": HEAD, "worker_ips": [WORKER]},
        "auth": {"ssh_user": getpass.getuser(), "ssh_private_key": str(folder / "user")},
        "file_mounts": {remote: str(commit) for remote in config["file_mounts"]},
        "setup_commands": setup,
        "head_start_ray_commands": here(config["head_start_ray_commands"]),
        # Without its `ray stop`: what runs on the worker's machine here is the head.
        "worker_start_ray_commands": here([c for c in config["worker_start_ray_commands"] if c != "ray stop"]),
    }


def script(path: Path, body: str) -> None:
    """A program of a line or two."""
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o700)


# -- what is started, and given back ----------------------------------------------------------------------------------


def control_folder(cluster_name: str) -> str:
    """Where Ray keeps the SSH connections of a cluster that it shares among commands."""
    return hashlib.sha256(cluster_name.encode()).hexdigest()[:10]


@contextmanager
def sshd(folder: Path, port: int) -> Iterator[None]:
    """An sshd of our own on loopback, for this user and this key."""
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    settings = [
        f"ListenAddress {HEAD}:{port}",
        f"ListenAddress {WORKER}:{port}",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"AllowUsers {getpass.getuser()}",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "PidFile none",
        f"ForceCommand {folder / 'login'}",
    ]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    command = [str(found("sshd")), "-D", "-e", "-f", str(folder / "sshd_config")]
    with background(command, dict(os.environ), folder / "sshd.log") as process:
        wait_for_port(HEAD, port, process)
        yield


@contextmanager
def background(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended on the way out, with those of its group."""
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603 - ours
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    except (SystemExit, subprocess.CalledProcessError):
        print(log.read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, how)
            with suppress(subprocess.TimeoutExpired):  # then by the other signal
                process.wait(timeout=10)


def found(program: str) -> str | None:
    """Where a program lies; sshd lies where the paths of ordinary users do not lead."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HERE, 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_port(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens, as long as the process that is to listen runs."""

    def look() -> tuple[bool, Hashable]:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                sys.exit(f"{process.args!r} ended with {process.returncode} before it listened on {host}:{port}")
            return False, None
        return True, None

    wait(look, lambda: f"nobody listens on {host}:{port}", quiet=_LIMIT)


def marked(folder: Path) -> list[int]:
    """The processes of the cluster that lies in a folder."""
    mark, pids = f"{MARK}={folder}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or somebody else's
        if mark in environment:
            pids.append(int(process.name))
    return sorted(pids)


def end(pids: Sequence[int]) -> None:
    """End processes: politely, then not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                continue
        until = time.monotonic() + 5
        while pids and time.monotonic() < until:
            pids = [pid for pid in pids if alive(pid)]
            time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether it still runs; one that only waits to be buried has no environment."""
    try:
        return bool(Path(f"/proc/{pid}/environ").read_bytes())
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
