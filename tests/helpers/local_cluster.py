"""A Ray cluster of our own on this machine: a head as a child process, with an autoscaler and fake nodes if asked.

    python tests/helpers/local_cluster.py --gpu-nodes 3 -- xner-ray project RECIPE RUN

runs the command beside a head without CPUs for work, a node of 2 CPUs and up to 3 nodes of one fake GPU each, which
come when they are asked for and go when they are idle. Ray counts such a GPU, but there is no device: the models of
its stages run on the CPU (XNER_RAY_FAKE_GPU, `stage.py`), and nothing of it measures a GPU.

`ray.cluster_utils.AutoscalingCluster` cannot do this: it misses a file in the wheel, and ends every Ray of the machine.
This one ends what carries its mark in the environment, and nothing else. Ports are free ones, the token is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

MARK = "XNER_RAY_TEST_CLUSTER"  # in the environment of every process of a cluster: its folder
HEAD = "ray.head.default"
_STORE_BYTES = 80_000_000  # Ray takes no less than 75 MB
_SECONDS_TO_START = 120


@dataclass(frozen=True)
class NodeType:
    """Nodes that the autoscaler may start: `least` to `most` of them, each with `resources` (CPU, GPU, ...)."""

    resources: Mapping[str, float]
    least: int = 0
    most: int = 1


@dataclass(frozen=True)
class Node:
    """One raylet. `type` is the name of its NodeType, or HEAD."""

    type: str
    pid: int


class LocalCluster:
    """A running cluster. `address` is HOST:PORT of Ray, `dashboard` the URL that takes jobs, or None.

    `env` is what the environment of a driver or of the `ray` command line needs.
    """

    def __init__(self, folder: Path, head: subprocess.Popen[bytes], address: str, dashboard: str | None) -> None:
        self.folder, self.head, self.address, self.dashboard = folder, head, address, dashboard
        self.env = {
            **_plain_environment(),
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "XNER_RAY_FAKE_GPU": "1",
        }
        if dashboard is not None:
            self.env["RAY_API_SERVER_ADDRESS"] = dashboard

    def processes(self) -> list[psutil.Process]:
        """Every process of this cluster, by the mark that they inherit."""
        return _marked(self.folder)

    def nodes(self, type_name: str | None = None) -> list[Node]:
        """The raylets that run now, of one type or of all, the oldest first."""
        found = []
        for process in sorted(self.processes(), key=lambda process: process.create_time()):
            try:
                if process.name() == "raylet":
                    found.append(Node(process.environ().get("RAY_NODE_TYPE_NAME", HEAD), process.pid))
            except psutil.Error:
                continue  # it has ended meanwhile
        return [node for node in found if type_name in (None, node.type)]

    def workers(self, node: Node, title: str = "ray::") -> list[psutil.Process]:
        """Worker processes of a node whose title begins so, as in "ray::MapWorker"."""
        found = []
        for process in psutil.Process(node.pid).children(recursive=True):
            try:
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill_node(self, type_name: str) -> int:
        """SIGKILL the oldest raylet of a type; its workers end with it, as on a spot machine that is taken away."""
        nodes = self.nodes(type_name)
        if not nodes:
            raise LookupError(f"no node of type {type_name} runs; there are {[node.type for node in self.nodes()]}")
        os.kill(nodes[0].pid, signal.SIGKILL)
        return nodes[0].pid

    def wait(self, what: str, reached: Any, seconds: float = 240) -> None:
        """Until `reached()`; TimeoutError, which says `what` was awaited."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s; nodes: {[node.type for node in self.nodes()]}")
            time.sleep(0.1)

    def logs(self) -> str:
        """The end of what the head wrote, for a test that fails."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in [self.folder / "head.log", *sorted(self.folder.glob("session_latest/logs/monitor.*"))]
            if path.exists()
        )


@contextmanager
def local_cluster(
    *,
    cpus: int = 2,
    gpus: int = 0,
    nodes: Mapping[str, NodeType] | None = None,
    dashboard: bool = False,
    idle_s: float = 10,
    env: Mapping[str, str] | None = None,
) -> Iterator[LocalCluster]:
    """A cluster that lives as long as the block.

    cpus, gpus: what the head has for work. nodes: with them, Ray's autoscaler v2 starts and ends fake nodes of these
    types, a node after `idle_s` seconds without work. dashboard: Ray's job server is wanted (extra `cluster`).
    env: added to the environment of the cluster's processes.
    """
    # Sockets lie below it, and their paths may have 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="xr-", dir="/tmp"))
    (folder / "token").write_text(secrets.token_hex(32))
    ports = _free_ports(4)
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    host = "127.0.0.1"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--{name}={port}" for name, port in zip(names, ports, strict=True)),
        *(f"--temp-dir={folder}", f"--node-ip-address={host}", f"--include-dashboard={str(dashboard).lower()}"),
        *(f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={2 * _STORE_BYTES}"),
        *("--min-worker-port=0", "--max-worker-port=0", "--log-color=false"),
    ]
    environment = {
        **_plain_environment(),
        **{MARK: str(folder), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")},
        **{"XNER_RAY_FAKE_GPU": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        **(env or {}),
    }
    if nodes:
        (folder / "autoscaler.json").write_text(
            json.dumps(_autoscaler(nodes, cpus, gpus, f"{host}:{ports[0]}", idle_s))
        )
        command.append(f"--autoscaling-config={folder / 'autoscaler.json'}")
        environment |= {
            **{"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
            **dict.fromkeys(("RAY_CLOUD_INSTANCE_ID", "RAY_OVERRIDE_NODE_ID_FOR_TESTING"), FAKE_HEAD_NODE_ID),
        }
    with open(folder / "head.log", "wb") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    url = f"http://{host}:{ports[1]}" if dashboard else None
    cluster = LocalCluster(folder, head, f"{host}:{ports[0]}", url)
    try:
        least = 1 + sum(node.least for node in (nodes or {}).values())
        _wait_until_up(cluster, least)
        yield cluster
    finally:
        _end(cluster)


def _wait_until_up(cluster: LocalCluster, n_nodes: int) -> None:
    def up() -> bool:
        if cluster.head.poll() is not None:
            raise RuntimeError(f"the head ended with status {cluster.head.returncode}:\n{cluster.logs()}")
        started = "Ray runtime started" in (cluster.folder / "head.log").read_text(errors="replace")
        if not started or len(cluster.nodes()) < n_nodes:
            return False
        if cluster.dashboard is None:
            return True
        host, port = cluster.dashboard.removeprefix("http://").split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    cluster.wait(f"{n_nodes} nodes", up, _SECONDS_TO_START)


def _autoscaler(nodes: Mapping[str, NodeType], cpus: int, gpus: int, address: str, idle_s: float) -> dict[str, Any]:
    """A configuration of Ray's cluster launcher; this provider starts raylets on this machine."""
    types = {
        name: {
            "resources": {"object_store_memory": _STORE_BYTES, **kind.resources},
            "node_config": {},
            "min_workers": kind.least,
            "max_workers": kind.most,
        }
        for name, kind in nodes.items()
    }
    types[HEAD] = {"resources": {"CPU": cpus, "GPU": gpus}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "fake",
        "max_workers": sum(kind.most for kind in nodes.values()),
        "idle_timeout_minutes": idle_s / 60,
        "upscaling_speed": 100,
        "provider": {
            "type": "external",
            "use_internal_ips": True,
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": address,
            "launch_multiple": True,
        },
        "available_node_types": types,
        "head_node_type": HEAD,
        **{key: [] for key in ("initialization_commands", "setup_commands", "head_setup_commands")},
        **{key: [] for key in ("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")},
        **{"auth": {}, "file_mounts": {}, "cluster_synced_files": [], "rsync_exclude": [], "rsync_filter": []},
    }


def _plain_environment() -> dict[str, str]:
    """Ours, with our commands, without what says which cluster or which fake node a process belongs to."""
    ours = ("RAY_ADDRESS", "RAY_FAKE_CLUSTER", "RAY_enable_autoscaler_v2", "RAY_CLOUD_INSTANCE_ID", MARK)
    kept = {key: value for key, value in os.environ.items() if key not in (*ours, "RAY_OVERRIDE_NODE_ID_FOR_TESTING")}
    # A job's command is looked up on the head's PATH: `make test` calls .venv/bin/python with no venv activated
    return {**kept, "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}


def _free_ports(n: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _marked(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder):
                found.append(process)
        except psutil.Error:
            continue  # another user's, or ended meanwhile
    return found


def _end(cluster: LocalCluster) -> None:
    """First the head, which ends its services; then whatever is left of the cluster, until nothing is."""
    cluster.head.send_signal(signal.SIGTERM)
    try:
        cluster.head.wait(10)
    except subprocess.TimeoutExpired:
        cluster.head.kill()
        cluster.head.wait()
    for _ in range(20):
        left = cluster.processes()
        if not left:
            break
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=5)
    shutil.rmtree(cluster.folder, ignore_errors=True)  # Ray's address file of this cluster lies there too


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=int, default=2, help="of the node for reading and matching")
    parser.add_argument("--gpu-nodes", type=int, default=3, help="at most; there is none at first")
    parser.add_argument("--gpus", type=float, default=1, help="fake ones of each such node")
    parser.add_argument("--idle-s", type=float, default=10, help="after which a GPU node goes")
    parser.add_argument("command", nargs="+", help="what to run, after --")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or the cluster would outlive it
    nodes = {
        "cpu": NodeType({"CPU": options.cpus}, least=1),
        "gpu": NodeType({"CPU": 2, "GPU": options.gpus}, most=options.gpu_nodes),
    }
    with local_cluster(cpus=0, nodes=nodes, dashboard=False, idle_s=options.idle_s) as cluster:
        print(f"RAY_ADDRESS={cluster.address} RAY_AUTH_TOKEN_PATH={cluster.env['RAY_AUTH_TOKEN_PATH']}", flush=True)
        return subprocess.run(options.command, env=cluster.env).returncode


if __name__ == "__main__":
    sys.exit(main())
