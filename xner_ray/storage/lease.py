"""The lock on a folder: a local file lock, or on an object store a lease that its driver renews.

An object store has no lock, but shows what was written before. A driver that begins writes a candidate of its own by
the lease, and takes the lease only if it then sees no other candidate: of two that begin at once at least one sees the
other, and who sees one steps back and looks again. The lease is advisory all the same: a driver that the store does not
hear of for long enough is followed. Nothing depends on it, for a second writer of a unit writes the same rows.
Ages are differences of the store's own times, so that clocks of machines do not matter.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from filelock import FileLock, Timeout
from pyarrow import fs

from xner_ray.errors import RunFolderError, XnerError
from xner_ray.storage import files as storage

RENEW_S = 20.0
EXPIRE_S = 90.0  # after the last sign of life
_BEGINS_S = 30.0  # longest time between a candidate's first and last look, but for one that died
_STEPS_BACK_S = (0.2, 0.5, 1.0, 2.0)
LOCK = ".lock"  # of a local folder
_held: set[str] = set()  # owners in this process


@contextmanager
def claim(root: str, own: str) -> Iterator[Lease | None]:
    """Keep other drivers out of `root` while this one lives; RunFolderError if one does, or if it cannot be written.

    own: the folder of the lock. Locally that is the kernel's (flock), which a dead process gives back at once. NFS
    passes it on between machines where both sides run its lock manager (any mount without `nolock`, and NFSv4); on a
    mount with `nolock` it keeps out processes of the same machine only. On an object store it is a lease, which comes
    back.
    """
    if not storage.is_local(root):
        lease = Lease(storage.join(own, "LOCK"))
        with lease.held():
            yield lease
        return
    filesystem, inner = storage.locate(own)
    lock = FileLock(f"{inner}/{LOCK}")
    try:
        filesystem.create_dir(inner, recursive=True)
        lock.acquire(timeout=1, poll_interval=0.02)  # who only asks for it may hold it for a moment
    except Timeout:
        raise RunFolderError(
            f"{root}: another xner-ray works in this folder; wait for it, or name another folder"
        ) from None
    except OSError as error:
        raise RunFolderError(f"{root}: cannot be written ({error}); name another folder") from None
    try:
        yield None
    finally:
        lock.release()


def is_claimed(own: str) -> bool | None:
    """Return True if a driver holds the lock in a folder; None where that cannot be known. Writes nothing."""
    if not storage.is_local(own):
        return None
    path = f"{storage.locate(own)[1]}/{LOCK}"
    if not os.path.exists(path):
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # somebody else's folder, which may not be locked
        return None
    lock.release()
    return False


class Lease:
    """The lease of one driver on `path`; `renew_s` and `expire_s` in seconds, the second much longer."""

    def __init__(self, path: str, *, renew_s: float = RENEW_S, expire_s: float = EXPIRE_S) -> None:
        self.path, self.renew_s, self.expire_s = path, renew_s, expire_s
        self.owner = uuid.uuid4().hex
        self.taken_by: str | None = None
        self._stop = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease for the block, renewed by a thread. RunFolderError while another driver lives."""
        _held.add(self.owner)
        try:
            self._take()
        except BaseException:
            _held.discard(self.owner)
            raise
        thread = threading.Thread(target=self._renew, daemon=True, name="xner_ray lease")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            _held.discard(self.owner)
            with suppress(XnerError):  # a store that fails has ended the run already, and the lease ends by itself
                if self.taken_by is None and (self._read() or {}).get("owner") == self.owner:
                    storage.delete(self.path)

    def check(self) -> None:
        """Raise RunFolderError once another driver has taken over."""
        if self.taken_by is not None:
            raise RunFolderError(
                f"{self.path}: another xner-ray has taken over this folder ({self.taken_by}), since this one gave no "
                "sign of life for a while; nothing is lost, the other continues"
            )

    def _take(self) -> None:
        """Write the lease. RunFolderError while another driver lives, or begins at the same time again and again."""
        for wait in (*_STEPS_BACK_S, None):
            with self._candidate() as now:
                others = self._candidates(now)
                self._refuse_living(now)
                if not others:
                    self._write()
                    return
            if wait is not None:
                time.sleep(wait * random.uniform(0.5, 1.5))
        names = ", ".join(sorted(map(_described, others)))
        raise RunFolderError(
            f"{self.path}: another xner-ray begins in this folder ({names}); wait for it, or name another folder"
        )

    def _refuse_living(self, now: int) -> None:
        """Raise RunFolderError if the lease is another living driver's. now: in nanoseconds, by the store's clock."""
        other, info = self._read(), storage.info_of(self.path)
        if other is None or info.type != fs.FileType.File or _dead_here(other):
            return
        age = (now - info.mtime_ns) / 1e9
        if age < self.expire_s:
            raise RunFolderError(
                f"{self.path}: another xner-ray works in this folder ({_described(other)}; last sign of life "
                f"{age:.0f} s ago); wait for it, or name another folder. If it is dead, the folder is free in "
                f"{self.expire_s - age:.0f} s"
            )

    @contextmanager
    def _candidate(self) -> Iterator[int]:
        """Stand as a candidate for the block; yield the store's time of that, in nanoseconds."""
        own = storage.within(self.path, f"{storage.locate(self.path)[1]}.{self.owner}")
        storage.publish(own, self._about())
        try:
            yield storage.info_of(own).mtime_ns
        finally:
            storage.delete(own)

    def _candidates(self, now: int) -> list[dict[str, Any]]:
        """Return what other living candidates say of themselves; one that died while it began is soon forgotten."""
        inner = storage.locate(self.path)[1]
        folder = storage.within(self.path, inner.rpartition("/")[0])
        found = []
        for info in storage.files_below(folder, recursive=False):
            if info.path.startswith(f"{inner}.") and info.path != f"{inner}.{self.owner}":
                about = self._read(storage.within(self.path, str(info.path)))
                if about is not None and (now - info.mtime_ns) / 1e9 < _BEGINS_S and not _dead_here(about):
                    found.append(about)
        return found

    def _renew(self) -> None:
        while not self._stop.wait(self.renew_s):
            try:
                found = self._read()
                if found is not None and found.get("owner") != self.owner:
                    self.taken_by = _described(found)
                    return
                self._write()
            except XnerError:
                continue  # what the run itself reads and writes will tell, if it lasts

    def _write(self) -> None:
        storage.publish(self.path, self._about())

    def _about(self) -> bytes:
        about = {"owner": self.owner, "host": socket.gethostname(), "pid": os.getpid(), "processes": _processes()}
        return json.dumps({**about, "renewed": int(time.time())}).encode()

    def _read(self, path: str | None = None) -> dict[str, Any] | None:
        """Return what the lock or a candidate says; of an unknown driver if it is no JSON; None if it is not there."""
        path = path or self.path
        for _ in range(2):  # an object that is replaced while it is read may come in two halves
            if (data := storage.read_if_there(path)) is None:
                return None
            try:
                found = json.loads(data)
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
        return {}


def _described(about: dict[str, Any]) -> str:
    return f"process {about.get('pid', 'unknown')} on {about.get('host', 'an unknown host')}"


def _processes() -> str | None:
    """Return what processes share that see one another by number: a boot and a namespace."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{stream.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _dead_here(about: dict[str, Any]) -> bool:
    """Return True if the driver ran on this machine and is gone, so that its lease need not expire first."""
    if about.get("processes") is None or about["processes"] != _processes() or not isinstance(about.get("pid"), int):
        return False
    if about["pid"] == os.getpid():
        return about.get("owner") not in _held
    try:
        os.kill(about["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
