"""A run whose parts take the store half a second each, on the hosts of `ray_hosts.py`, and the faults that it bears."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from given_files import over_links
from hosts import Host, kill
from ray_hosts import RAY, ROOT, RayHosts, wait_until

LANGUAGES = {"eng_Latn": "en", "spa_Latn": "es", "swh_Latn": "sw"}
N_ROWS, N_UNITS = 12, 24
_PART_S = 0.5
_SECONDS = 400  # for a run, with the longest fault
_WORKS = "another xner-ray works in this folder"
_LEASE_S = 150
_LONG_S = 15  # Ray may take a host for dead


_POOL = {"workers": [1, 2], "cpus": 0.6}  # one a host


def recipe(at: Callable[[str], str], **match: Any) -> dict[str, Any]:
    """A recipe that loads no model. at: where a file of the input is."""
    targets = ["spa_Latn", "swh_Latn"]
    given = {
        "path": at("eng_Latn.conll"),
        "parallel": {code: at(f"{code}.conll") for code in targets},
        "links": at("{lang}.links"),
    }
    return over_links(input=given, targets=targets, match=match, engine={"unit_rows": 1})


def input_files() -> dict[str, bytes]:
    files = {f"{code}.links": b"0-0 1-1 2-2 3-3 4-4\n" * N_ROWS for code in ("spa_Latn", "swh_Latn")}
    for code, short in LANGUAGES.items():
        rows = (ROOT / f"jobs/data/templates.{short}.conll").read_text(encoding="utf-8").split("\n\n")[:N_ROWS]
        files[f"{code}.conll"] = ("\n\n".join(rows) + "\n").encode()
    return files


def prepare(cluster: RayHosts) -> None:
    """Put the input into the store, and the recipe on every host; make the store slow in taking parts."""
    for name, data in input_files().items():
        cluster.store.put(f"/bucket/in/{name}", data)
    for host in cluster.net.hosts.values():
        folder = host.folder / "work"
        folder.mkdir(exist_ok=True)
        (folder / "recipe.yaml").write_text(
            yaml.safe_dump(recipe(lambda name: cluster.uri(f"bucket/in/{name}"), **_POOL))
        )
    shutil.copytree(ROOT / "xner_ray", cluster.client.folder / "checkout" / "xner_ray")
    shutil.copy(cluster.client.folder / "work" / "recipe.yaml", cluster.client.folder / "checkout")
    cluster.store.pause = lambda method, path: (
        _PART_S if method == "PUT" and "/_run/parts/" in path and path.endswith(".parquet") else 0.0
    )


def published(cluster: RayHosts, run: str) -> dict[str, bytes]:
    """Content by name of the files of the data set."""
    start = f"bucket/{run}/"
    found = {key.removeprefix(start): data for key, data in cluster.objects(start).items() if not key.endswith("/")}
    return {name: data for name, data in found.items() if name.startswith(("data/", "rejects/"))}


@dataclass
class Driver:
    """`xner-ray project` of a run, by a command on a host."""

    cluster: RayHosts
    run: str
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_parts(self, number: int) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, f"{self.run}: ended before the fault\n{self.said()}"
            return len(self.cluster.parts(self.run)) >= number

        wait_until(f"{number} parts of {self.run}", reached, 180)
        assert len(self.cluster.parts(self.run)) < N_UNITS, "the fault came too late"

    def end(self) -> int:
        """Return the exit status."""
        try:
            return self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            kill(self.process)
            raise AssertionError(f"{self.run}: not within {_SECONDS} s\n{self.said()}") from None

    def message(self) -> str:
        """Return the one line with which it failed; last words come from a process of their own, and a moment later."""
        with suppress(TimeoutError):
            wait_until("a line", lambda: "xner-ray: " in self.said(), 30)
        lines = [line for line in self.said().splitlines() if line.startswith("xner-ray: ")]
        assert len(lines) == 1 and self.said().rstrip().endswith(lines[0]), self.said()
        assert "Traceback" not in self.said(), self.said()
        return lines[0]


def project(cluster: RayHosts, run: str, host: Host | None = None, **env: str) -> Driver:
    """Start the run on a node of the cluster, by default its head."""
    host = host or cluster.head
    command = [sys.executable, "-m", "xner_ray", "project", "recipe.yaml", cluster.uri(f"bucket/{run}")]
    return _started(cluster, run, host, command, f"{cluster.net.folder}/work", RAY_ADDRESS=cluster.address, **env)


def job(cluster: RayHosts, run: str, folder: str, *command: str) -> Driver:
    """Submit the run as a job from the host that is none of the cluster's. folder: its working directory there."""
    submit = ["job", "submit", "--address", cluster.dashboard, f"--working-dir={cluster.net.folder}/{folder}", "--"]
    words = [*RAY, *submit, *command, "project", "recipe.yaml", cluster.uri(f"bucket/{run}")]
    return _started(cluster, run, cluster.client, words, cluster.net.folder)


def _started(
    cluster: RayHosts, run: str, host: Host, command: Sequence[str], cwd: str | os.PathLike[str], **env: str
) -> Driver:
    log = host.folder / f"{run}-{time.monotonic_ns()}.log"
    return Driver(cluster, run, host.start(command, cwd=cwd, log=log, **cluster.env, **env), log)


def bears(
    cluster: RayHosts,
    run: str,
    fault: Callable[[RayHosts], None],
    expected: dict[str, bytes],
    *,
    start: Callable[[], Driver] | None = None,
    after: int = 4,
) -> str:
    """Make a run into which a fault falls; return what was seen. AssertionError if its data are not the same.

    start: the command, by default on the head.
    """
    start = start or (lambda: project(cluster, run))
    driver = start()
    driver.wait_for_parts(after)
    began = time.monotonic()
    fault(cluster)
    status = driver.end()
    seen = f"status {status} {time.monotonic() - began:.0f} s after it began"
    if status:
        if status > 0:  # else the driver's host is gone, and says nothing
            seen += f": {driver.message()}"
        cluster.mend()
        resume(start)
        seen += "; resumed"
    assert "(raylet)" not in driver.said() and "Traceback" not in driver.said(), driver.said()
    assert published(cluster, run) == expected, f"{run}: other bytes; {seen}\n{driver.said()}"
    cluster.mend()
    return f"{seen}; same bytes"


def resume(start: Callable[[], Driver]) -> None:
    """Give the same command until the lease of a driver that died with its host has ended."""
    deadline = time.monotonic() + _LEASE_S
    while True:
        driver = start()
        if driver.end() == 0:
            return
        assert _WORKS in driver.message() and time.monotonic() < deadline, driver.said()
        time.sleep(5)


def dies(cluster: RayHosts) -> None:
    cluster.workers[0].die()


def cut(seconds: float) -> Callable[[RayHosts], None]:
    def fault(cluster: RayHosts) -> None:
        if seconds > _LONG_S:
            cluster.doubtful.add(cluster.workers[0])
        _cut(cluster.workers[0], seconds)

    return fault


def store_cut(seconds: float) -> Callable[[RayHosts], None]:
    return lambda cluster: _cut(cluster.shop, seconds)


def _cut(host: Host, seconds: float) -> None:
    host.cut()
    time.sleep(seconds)
    host.mend()


def drained(cluster: RayHosts, notice_s: int = 10) -> None:
    """A spot notice; then the host is gone."""
    cluster.drain(cluster.workers[0], notice_s)
    time.sleep(notice_s)
    cluster.workers[0].die()


def loses(percent: int) -> Callable[[RayHosts], None]:
    return lambda cluster: cluster.workers[0].lose(percent)


def slow(seconds: float) -> Callable[[RayHosts], None]:
    return lambda cluster: cluster.workers[0].slow(seconds)


def head_dies(cluster: RayHosts) -> None:
    cluster.head.die()


FAULTS: dict[str, Callable[[RayHosts], None]] = {
    "a worker host dies": dies,
    "a worker host is cut off for 10 s": cut(10),
    "a worker host is cut off for 120 s": cut(120),
    "a worker host is drained, and gone after 10 s": drained,
    "a worker host loses 5 % of packets": loses(5),
    "a worker host is slow: 100 ms each way": slow(0.1),
    "the head dies": head_dies,
    "the store is cut off for 10 s": store_cut(10),
    "the store is cut off for 120 s": store_cut(120),
}
