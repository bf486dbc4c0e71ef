"""Counts of the processes that a piece of work has killed; Ray keeps none.

Ray starts an actor again whenever its process dies, without end. Work that kills its process each time (host memory,
a crash in native code) would go round for ever. So every try leaves a file, locked while the process lives and deleted
when the try ends, in whichever way; a file that nobody holds is a death.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xner_ray import interrupts
from xner_ray.errors import DeviceError

DEATHS = 5  # of processes in a row by one unit: then its stages get it in pieces
DYING = "killed, mostly because host memory ran out, or crashed in native code"


class CrashCounter:
    """Deaths by name of the work, seen by every process that is given the same local folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @contextmanager
    def attempt(self, name: str) -> Iterator[int]:
        """Run the block as one try; yield the deaths before it. A try that ends without dying clears them.

        With DeviceError the process is as good as dead.
        """
        deaths = self.deaths(name)
        descriptor, path = self._file(self._place(name))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            interrupts.marks.add(path)
            yield deaths
        except DeviceError:
            interrupts.marks.discard(path)
            os.close(descriptor)
            raise
        except BaseException:
            self._end(name, descriptor, path)
            raise
        else:
            self._end(name, descriptor, path)

    def _end(self, name: str, descriptor: int, path: str) -> None:
        interrupts.marks.discard(path)
        Path(path).unlink(missing_ok=True)
        os.close(descriptor)
        self.forget(name)

    def _file(self, place: Path) -> tuple[int, str]:
        """Return descriptor and path of a new file; another try that ends just now may remove its folder."""
        while True:
            with suppress(FileNotFoundError, FileExistsError):
                place.mkdir(parents=True, exist_ok=True)
                return tempfile.mkstemp(dir=place)

    def deaths(self, name: str) -> int:
        """Return the number of tries whose process died since one ended."""
        return len(self._dead(name))

    def _place(self, name: str) -> Path:
        return self.folder / hashlib.sha256(name.encode()).hexdigest()[:32]

    def _dead(self, name: str) -> list[Path]:
        place = self._place(name)
        try:
            names = os.listdir(place)
        except FileNotFoundError:
            return []
        return [path for path in map(place.joinpath, names) if not _held(path)]

    def forget(self, name: str) -> None:
        """Clear the deaths of a piece of work."""
        for path in self._dead(name):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # another try may be at it, or nothing was ever counted
            self._place(name).rmdir()


def _held(path: Path) -> bool:
    """Return True if a living process holds the file, or held one that is gone meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
