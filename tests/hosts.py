"""Hosts on this machine: each with an address, processes, a name, a `/dev/shm` and a folder of its own.

A host is a set of namespaces that its first process holds. When that process is killed, the kernel kills all others of
the host, and nobody hears a word of it: what a machine does that is taken away. The first process also ends with the
tests, whose pipe it reads, so nothing is left behind by a test that is killed. A switch, in a namespace of its own,
joins the hosts; packets are dropped there by nftables, and delayed by a forwarder (Linux can do that itself, by netem,
which not every kernel has). Nothing of it touches the network of the machine.

Folders: `network.folder` is the host's own for each host. From outside, it is `host.folder`.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import select
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

_NET = "10.77.0"
_PROGRAMS = ("unshare", "nsenter", "ip", "nft")
_CLONE_NEWNET = 0x40000000
_SOL_PACKET, _VNET_HDR, _IGNORE_OUTGOING = 263, 15, 23  # <linux/if_packet.h>


def why_not() -> str | None:
    """Say why there can be no hosts here; None if there can."""
    if os.geteuid() != 0:
        return "hosts in network namespaces are made by root alone"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"hosts in network namespaces need {', '.join(missing)} (util-linux, iproute2, nftables)"
    rules = (
        "table bridge t {\n chain c {\n type filter hook forward priority 0\n numgen random mod 100 < 5 drop\n }\n}\n"
    )
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "nft", "-f", "-"],
        input=rules,
        capture_output=True,
        text=True,
    )
    return f"no hosts in network namespaces: {tried.stderr.strip()[:200]}" if tried.returncode else None


class Host:
    """A machine at `address`. Its disk lasts; what runs on it does not outlive `die`."""

    def __init__(self, network: Network, name: str, number: int, *, package: bool) -> None:
        self.network, self.name, self.address = network, name, f"{_NET}.{number}"
        self.folder = network.folder / name
        self.folder.mkdir()
        self.package = package
        self._slow: _Forwarder | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self.boot()

    def boot(self) -> None:
        """Start it, with what its disk holds."""
        base = self.network.folder
        lines = [
            f"echo {self.name} > /proc/sys/kernel/hostname",
            "mount -t tmpfs tmpfs /dev/shm",
            *([] if self.package else _masks(self.folder)),
            f"mount --bind {self.folder} {base}",  # last: it hides the folders of the others
        ]
        self._init, self.pid = _hold(["--net", "--mount", "--uts", "--pid", "--mount-proc"], lines)
        self.network.plug(self)

    def die(self) -> None:
        """End all that runs on it, at once and without a word to others, as when its power fails."""
        self._well()
        _release(self._init)
        for process in self._started:
            process.wait()
        self._started.clear()

    @property
    def runs(self) -> bool:
        return self._init.poll() is None

    def start(
        self, command: Sequence[str], *, cwd: str | os.PathLike[str] = "/", log: Path | None = None, **env: str
    ) -> subprocess.Popen[bytes]:
        """Start a command on it; its output goes to the end of a file. The process that returns waits for it."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--net", "--pid", "--"]
        with open(log or os.devnull, "ab") as output:
            process = subprocess.Popen(
                [*enter, "sh", "-c", 'cd "$0" && exec "$@"', os.fspath(cwd), *command],
                env={**self.environment(), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._started.append(process)
        return process

    def run(self, command: Sequence[str], *, timeout: float = 300, **options: Any) -> tuple[int, str]:
        """Run a command on it to its end; return exit status and output."""
        log = self.folder / f"output-{time.monotonic_ns()}"
        process = self.start(command, log=log, **options)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill(process)
            raise AssertionError(f"{command} on {self.name}: not within {timeout:g} s\n{log.read_text()}") from None
        return status, log.read_text(errors="replace")

    def environment(self) -> dict[str, str]:
        """Ours, with homes and caches of its own."""
        base = os.fspath(self.network.folder)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "XNER_RAY_"))}
        if not self.package:
            kept.pop("PYTHONPATH", None)
        path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
        own = {"HOME": base, "TMPDIR": base, "HF_HOME": f"{base}/hub", "XNER_RAY_CACHE": f"{base}/cache"}
        return {**kept, **own, "PATH": path}

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let sockets that this thread opens in the block be the host's."""
        with _inside(self.pid):
            yield

    def cut(self) -> None:
        """Cut it off: no packet comes or goes, and no connection is closed."""
        self.network.rule(self, "drop")

    def lose(self, percent: int) -> None:
        """Lose so many packets of a hundred, each way, at random."""
        self.network.rule(self, f"numgen random mod 100 < {percent} drop")

    def slow(self, seconds: float) -> None:
        """Delay each packet by so long, each way."""
        self._well()
        self._slow = _Forwarder(self.network, self, seconds)

    def mend(self) -> None:
        """Take back `cut`, `lose` and `slow`."""
        self._well()
        self.network.rule(self, None)

    def _well(self) -> None:
        if self._slow is not None:
            self._slow.close()
            self._slow = None


class Network:
    """A switch, and the hosts that it joins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: dict[str, Host] = {}
        self._rules: dict[str, str] = {}
        self._switch, self.pid = _hold(["--net"], [])
        self.command("ip", "link", "add", "switch", "type", "bridge")
        self.command("ip", "link", "set", "switch", "up")

    def host(self, name: str, *, package: bool = True) -> Host:
        """Add a host. package: whether `xner_ray` is installed there, beside all that it needs."""
        self.hosts[name] = Host(self, name, len(self.hosts) + 1, package=package)
        return self.hosts[name]

    def plug(self, host: Host) -> None:
        """Join a host that has just begun to the switch."""
        pair = ["ip", "link", "add", "eth0", "netns", str(host.pid), "type", "veth", "peer", "name", host.name]
        for attempt in range(100):  # the kernel clears away the port of a host that has just ended in its own time
            if subprocess.run([*pair, "netns", str(self.pid)], capture_output=attempt < 99).returncode == 0:
                break
            time.sleep(0.1)
        for words in (
            f"addr add {host.address}/24 dev eth0",
            f"addr add {host.address}/32 dev lo",
            "link set lo up",
            "link set eth0 up",
        ):
            subprocess.run(["nsenter", f"--target={host.pid}", "--net", "ip", *words.split()], check=True)
        self.command("ip", "link", "set", host.name, "master", "switch", "up")

    def command(self, *words: str, given: str | None = None) -> None:
        """Run a command at the switch."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--"]
        subprocess.run([*enter, *words], check=True, input=given, text=True)

    def rule(self, host: Host, what: str | None) -> None:
        """Set what happens to packets of a host at the switch; None: nothing."""
        self._rules.pop(host.name, None)
        if what is not None:
            self._rules[host.name] = what
        lines = [f'{way} "{name}" {what}\n' for name, what in self._rules.items() for way in ("iifname", "oifname")]
        table = (
            f"table bridge faults {{\nchain passing {{\ntype filter hook forward priority 0\n{''.join(lines)}}}\n}}\n"
        )
        self.command("nft", "-f", "-", given=f"table bridge faults\ndelete table bridge faults\n{table}")

    def close(self) -> None:
        for host in self.hosts.values():
            host.die()
        _release(self._switch)


@contextmanager
def network() -> Iterator[Network]:
    """A network without hosts, for as long as the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="xr-", dir="/tmp"))  # short: sockets lie below it
    made = Network(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """Send a signal to the command that `Host.start` has started, and wait for it to end."""
    for child in psutil.Process(process.pid).children():  # nsenter waits for its only child, and ends as that does
        child.send_signal(number)
    process.wait()


class _Forwarder:
    """Takes the port of a host from the switch, and carries its packets there and back, late."""

    def __init__(self, network: Network, host: Host, seconds: float) -> None:
        self._network, self._host, self._seconds = network, host, seconds
        self._far = f"{host.name}-far"
        network.command("ip", "link", "add", self._far, "type", "veth", "peer", "name", f"{host.name}-sw")
        network.command("ip", "link", "set", self._far, "up")
        network.command("ip", "link", "set", f"{host.name}-sw", "master", "switch", "up")
        network.command("ip", "link", "set", host.name, "nomaster")
        with _inside(network.pid):
            self._ports = [_port(host.name), _port(self._far)]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True, name=f"slow {host.name}")
        self._thread.start()

    def _carry(self) -> None:
        waiting: deque[tuple[float, socket.socket, bytes]] = deque()
        here, there = self._ports
        while not self._closing.is_set():
            pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.05
            for port in select.select(self._ports, [], [], min(pause, 0.05))[0]:
                due = time.monotonic() + self._seconds
                waiting.append((due, there if port is here else here, port.recv(1 << 17)))
            while waiting and waiting[0][0] <= time.monotonic():
                _, port, packet = waiting.popleft()
                try:
                    port.send(packet)
                except OSError:
                    continue  # its queue is full, or the host is gone: a packet is lost

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for port in self._ports:
            port.close()
        self._network.command("ip", "link", "set", self._host.name, "master", "switch")
        self._network.command("ip", "link", "del", self._far)


def _port(name: str) -> socket.socket:
    """All packets that come in by an interface, with the header by which checksums and sizes stay the kernel's."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
    port.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    port.bind((name, 3))  # ETH_P_ALL
    port.setblocking(False)
    return port


@contextmanager
def _inside(pid: int) -> Iterator[None]:
    """Put this thread into the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/proc/{pid}/ns/net") as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


def _hold(kinds: Sequence[str], lines: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process with namespaces of its own; return who waits for it, and its number.

    Deaf to the end of children, it leaves it to the kernel to clear away orphans.
    """
    script = "\n".join(["set -e", *lines, "echo ready", "trap '' CHLD", "exec cat > /dev/null"])
    command = ["unshare", *kinds, "--fork", "--kill-child", "sh", "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"no namespaces: {process.stderr.read().decode()}")
    return process, psutil.Process(process.pid).children()[0].pid


def _release(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        for child in psutil.Process(process.pid).children():
            child.kill()  # unshare ends as it does, once the kernel has ended all others
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _masks(folder: Path) -> list[str]:
    """Commands that hide what the installation of the package has added to this Python."""
    (folder / "none").mkdir(exist_ok=True)
    (folder / "nothing").touch()
    site, distribution = Path(sysconfig.get_path("purelib")), importlib.metadata.distribution("xner_ray")
    tops = set()
    for file in distribution.files or []:
        path = Path(os.path.normpath(os.fspath(distribution.locate_file(file))))
        tops.add(site / path.relative_to(site).parts[0] if path.is_relative_to(site) else path)
    return [f"mount --bind {folder}/{'none' if top.is_dir() else 'nothing'} {top}" for top in sorted(tops)]
