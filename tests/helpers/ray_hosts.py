"""A Ray cluster on hosts of their own (`tests/hosts.py`): a head without work, workers, an S3 server, an outsider."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from hosts import Host, Network, network
from s3_server import S3Server

ROOT = Path(__file__).parents[2]
RAY = (sys.executable, "-m", "ray.scripts.scripts")
_STORE_BYTES = 80_000_000  # Ray takes no less than 75 MB
_SECONDS_TO_START = 150


class RayHosts:
    """`head` has no CPUs for work; `client` is none of the cluster's. `env` is added to that of every host."""

    def __init__(self, net: Network, n_workers: int, *, cpus: int, env: Mapping[str, str], package: bool) -> None:
        self.net, self.cpus, self.env = net, cpus, dict(env)
        self.head = net.host("head", package=package)
        self.workers = [net.host(f"worker{n + 1}", package=package) for n in range(n_workers)]
        self.shop, self.client = net.host("shop"), net.host("client")
        with self.shop.inside():
            self.store = S3Server(self.shop.address, 9000)
        self.address, self.dashboard = f"{self.head.address}:6379", f"http://{self.head.address}:8265"
        token = secrets.token_hex(32)
        for host in net.hosts.values():
            (host.folder / "token").write_text(token)
        self.env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(net.folder / "token")}
        self.doubtful: set[Host] = set()
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def nodes(self) -> list[Host]:
        return [self.head, *self.workers]

    def start(self) -> None:
        """Start Ray on every host of the cluster where it does not run."""
        if not self._runs(self.head):
            self._start(self.head)
            self._wait_for_start(self.head)
        fresh = [host for host in self.workers if not self._runs(host)]
        for host in fresh:
            self._start(host)
        for host in fresh:
            self._wait_for_start(host)

    def mend(self) -> None:
        """Take back what was done to the network, and bring back hosts that are gone.

        Without its head a cluster is lost, and a new one begins. `doubtful` hosts were away for so long that Ray may
        end their nodes when it hears of them again; they are started anew.
        """
        for host in self.net.hosts.values():
            if host in self.doubtful:
                host.die()
            elif host.runs:
                host.mend()
        self.doubtful.clear()
        if not self._runs(self.head):
            self.restart()
        else:
            self.start()

    def restart(self) -> None:
        """End all of Ray, and start it again."""
        for host in self.nodes:
            host.die()
        self.start()

    def drain(self, host: Host, seconds: int) -> None:
        """Tell Ray that a host will be taken away in so many seconds."""
        notice = ["drain-node", f"--address={self.address}", f"--node-id={self._node_id(host)}"]
        notice += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds"]
        status, said = self.head.run([*RAY, *notice, str(seconds)], **self.env)
        assert status == 0, said

    def _node_id(self, host: Host) -> str:
        own = {f"--node_ip_address={host.address}", f"--temp_dir={self.net.folder}/ray"}
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or []
            if process.info["name"] == "raylet" and own <= set(words):
                return next(word.partition("=")[2] for word in words if word.startswith("--node_id="))
        raise LookupError(f"no raylet runs on {host.name}")

    def _runs(self, host: Host) -> bool:
        return host.runs and host.name in self._nodes and self._nodes[host.name].poll() is None

    def _start(self, host: Host) -> None:
        host.die()  # what is left there of an earlier node
        host.boot()
        host.mend()
        role = [f"--address={self.address}", f"--num-cpus={self.cpus}"]
        if host is self.head:
            role = ["--head", "--port=6379", "--num-cpus=0", f"--dashboard-host={host.address}"]
        command = [*RAY, "start", *role, "--block", "--disable-usage-stats", f"--node-ip-address={host.address}"]
        command += [f"--temp-dir={self.net.folder}/ray", f"--object-store-memory={_STORE_BYTES}", "--log-color=false"]
        self._log(host).unlink(missing_ok=True)
        self._nodes[host.name] = host.start(command, cwd=self.net.folder, log=self._log(host), **self.env)

    def _log(self, host: Host) -> Path:
        return host.folder / "ray.log"

    def _wait_for_start(self, host: Host) -> None:
        def up() -> bool:
            if self._nodes[host.name].poll() is not None:
                raise RuntimeError(f"Ray ended on {host.name}:\n{self._log(host).read_text()}")
            return "Ray runtime started" in self._log(host).read_text(errors="replace")

        wait_until(f"Ray on {host.name}", up, _SECONDS_TO_START)

    def uri(self, path: str) -> str:
        return self.store.uri(path)

    def objects(self, start: str) -> dict[str, bytes]:
        """Return content by key of the objects of the store whose keys, bucket first, begin so."""
        with self.store.lock:
            return {path[1:]: data for path, (data, _) in self.store.objects.items() if path[1:].startswith(start)}

    def parts(self, run: str) -> set[str]:
        return {key.rpartition("/")[2] for key in self.objects(f"bucket/{run}/_run/parts/") if key.endswith(".parquet")}


def wait_until(what: str, reached: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


@contextmanager
def ray_hosts(
    n_workers: int = 2, *, cpus: int = 2, env: Mapping[str, str] | None = None, package: bool = True
) -> Iterator[RayHosts]:
    """A started cluster that lives as long as the block. cpus: of each worker host. package: as of `Network.host`."""
    with network() as net:
        cluster = RayHosts(net, n_workers, cpus=cpus, env=env or {}, package=package)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.store.close()
