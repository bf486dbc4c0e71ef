"""Measure the CPU time of a command and of all processes that it starts, also of those that outlive their parent.

    python tests/cpu_time.py make check

`time` misses Ray's workers: they are nobody's waited-for children. With a writable cgroup v2 (root, or a delegated
cgroup) the command runs in a cgroup of its own, and the kernel's figures count every process that was ever in it.
Elsewhere this process adopts orphans and waits for them; that misses what ends under a parent that ignores SIGCHLD, as
Ray's raylet may, and what still runs when the command has ended.
"""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)


def own_cgroup() -> Path | None:
    """Return a new cgroup v2 below this process's, or None where none can be made."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    paths = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    with contextlib.suppress(OSError, IndexError):
        made = roots[0] / paths[0].lstrip("/") / f"cpu_time-{os.getpid()}"
        made.mkdir()
        if (made / "cpu.stat").exists():
            return made
        made.rmdir()
    return None


def in_cgroup(command: list[str], cgroup: Path) -> tuple[int, float, float]:
    """Run a command in a cgroup; return its exit status, and user and system seconds of all processes in it."""
    ended = subprocess.run(command, preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0"))
    figures = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    with contextlib.suppress(OSError):  # something still runs there
        cgroup.rmdir()
    return ended.returncode, int(figures["user_usec"]) / 1e6, int(figures["system_usec"]) / 1e6


def adopting(command: list[str]) -> tuple[int, float, float]:
    """The same from the usage of children, orphans among them adopted."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ended = subprocess.run(command)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.returncode, usage.ru_utime, usage.ru_stime


def main(command: list[str]) -> int:
    if not command:
        raise SystemExit(__doc__)
    begun = time.monotonic()
    cgroup = own_cgroup()
    status, user, system = in_cgroup(command, cgroup) if cgroup else adopting(command)
    counted = "all processes" if cgroup else "processes that were waited for"
    print(
        f"CPU: user {user:.1f} s + system {system:.1f} s = {(user + system) / 60:.2f} min ({counted}); "
        f"wall {(time.monotonic() - begun) / 60:.2f} min",
        file=sys.stderr,
    )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
