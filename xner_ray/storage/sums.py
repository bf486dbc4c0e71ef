"""Sum files, and remember the sums of bytes that cannot have changed since.

A local file is not read again if its device, inode, size, time of change (mtime) and time of its inode's change
(ctime) are all what they were when it was summed. Linux sets ctime itself at every write, rename, change of times or
rights, copy and restore, and offers no call to set it back: another file in the place of this one has another stamp,
old times or not. A change within two seconds before the reading is not trusted, as clocks tick coarsely, and neither
is a file system that may invent ctime (FUSE, FAT, CIFS). An object is known by its address, its size and the store's
own tags (ETag, generation, version), which change with its content; a file of a data set on the hub by its SHA-256,
which the hub states of files of git LFS, and by the id of git's blob.

What is remembered stands in `sums.sqlite` of the cache folder, outside all that is summed, so that it is not copied or
restored together with a run. It sees no bits that rot on the disk under an unchanged inode; a copy elsewhere does.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import lru_cache

from pyarrow import fs

from xner_ray.errors import StorageError
from xner_ray.storage import files as storage
from xner_ray.storage import hub
from xner_ray.storage.cache import cache_folder

_SUM = re.compile("[0-9a-f]{64}")
_AT_ONCE = 16  # object stores answer slowly
_CHUNK_BYTES = 4 << 20
_SETTLED_NS = 2 * 10**9
_KEEP_DAYS = 365
_STATED = "sha256:"  # a stamp that is the sum itself
_INVENTED = ("fuse", "vfat", "exfat", "msdos", "cifs", "smb", "9p", "ntfs")  # beginnings of file system types


def sums(paths: Sequence[str], known: Mapping[str, str] | None = None) -> list[str]:
    """Return the SHA-256 of each file in hex. known: sums by `stamp`, from elsewhere; StorageError."""
    found = said(paths, read_sum, known, lambda path, text: bool(_SUM.fullmatch(text)))
    return [found[path] for path in paths]


def said(
    paths: Sequence[str],
    read: Callable[[str], str],
    known: Mapping[str, str] | None = None,
    holds: Callable[[str, str], bool] = lambda path, text: True,
) -> dict[str, str]:
    """Return what `read` says of each file, by path; it is called where that is neither known nor remembered.

    read: called with one path, several at a time; what it raises is raised. known: what it said by `stamp`, from
    elsewhere. holds: called with a path and what was said; False where that is neither to be remembered nor believed.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        stamps = dict(zip(paths, pool.map(_stamp_if_any, paths), strict=True))
        old = remembered([each for each in stamps.values() if each]) | dict(known or {})
        old |= {each: each.removeprefix(_STATED) for each in stamps.values() if each and each.startswith(_STATED)}
        found = {path: old[each] for path, each in stamps.items() if each in old and holds(path, old[each])}
        missing = [path for path in stamps if path not in found]
        new = dict(zip(missing, pool.map(read, missing), strict=True))
        after = dict(zip(missing, pool.map(_stamp_if_any, missing), strict=True))
    held = {path: text for path, text in new.items() if after[path] == stamps[path] and holds(path, text)}
    remember({each: text for path, text in held.items() if (each := stamps[path])})
    return found | new


def _stamp_if_any(path: str) -> str | None:
    """Return the stamp of a file; None also where it cannot be read, which `read` will say."""
    try:
        return stamp(path)
    except StorageError:
        return None


def stamp(path: str) -> str | None:
    """Return what changes whenever the bytes of a file do; None where nothing is known to. StorageError."""
    filesystem, inner = storage.locate(path)
    if not isinstance(filesystem, fs.LocalFileSystem):
        return _tag(path, filesystem, inner)
    try:
        found = os.stat(inner)
    except OSError as error:
        raise storage.failure(path, "read", error) from None
    if time.time_ns() - found.st_ctime_ns < _SETTLED_NS or _invents_times(os.path.realpath(inner)):
        return None
    numbers = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return " ".join(map(str, (_machine(), *numbers)))


def _tag(path: str, filesystem: fs.FileSystem, inner: str) -> str | None:
    try:
        if path.startswith(hub.SCHEME):
            return hub.identity(inner)
        with filesystem.open_input_stream(inner) as stream:
            stated = {str(key).lower(): value for key, value in (stream.metadata() or {}).items()}
            size = stream.size() if stream.seekable() else stated.get("content-length", b"")
    except OSError as error:
        raise storage.failure(path, "read", error) from None
    found = [stated.get("generation"), stated.get("versionid"), stated.get("etag")]
    texts = [tag.decode() if isinstance(tag, bytes) else tag for tag in found if tag]
    # "null" is the version of every object of a bucket that keeps none; a weak ETag may stay when the bytes change
    texts = [text for text in texts if text != "null" and not text.startswith("W/")]
    return f"{path} {int(size)} {' '.join(texts)}" if texts else None


@lru_cache
def _machine() -> str:
    """Return a name of this machine: a cache in a home folder that several share holds the stamps of all."""
    for name in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(name, encoding="ascii") as file:
                if text := file.read().strip():
                    return f"{platform.node()}-{text}"
        except OSError:
            continue
    return platform.node()


@lru_cache
def _mounts() -> list[tuple[str, str]]:
    """Return (mount point, file system type), the deepest first."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            fields = [line.split() for line in file]
    except OSError:
        return []
    # Spaces and the like are octal numbers there
    points = [(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), each[1]), each[2]) for each in fields]
    return sorted(((point.rstrip("/") + "/", kind) for point, kind in points), key=lambda pair: -len(pair[0]))


def _invents_times(path: str) -> bool:
    kind = next((kind for point, kind in _mounts() if f"{path}/".startswith(point)), "")
    return not kind or kind.startswith(_INVENTED)


def read_sum(path: str) -> str:
    """Return the SHA-256 of a file by reading it. StorageError."""
    filesystem, inner = storage.locate(path)
    digest = hashlib.sha256()
    try:
        with filesystem.open_input_stream(inner) as stream:
            while data := stream.read(_CHUNK_BYTES):
                digest.update(data)
    except OSError as error:
        raise storage.failure(path, "read", error) from None
    return digest.hexdigest()


@contextmanager
def _table() -> Iterator[sqlite3.Connection]:
    path = cache_folder() / "sums.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=10)) as table, table:
        table.execute("CREATE TABLE IF NOT EXISTS sums (stamp TEXT PRIMARY KEY, sum TEXT NOT NULL, day INTEGER)")
        yield table


def remembered(stamps: Sequence[str]) -> dict[str, str]:
    """Return what is remembered; nothing where the cache folder cannot be used."""
    found: dict[str, str] = {}
    try:
        with _table() as table:
            for first in range(0, len(stamps), 500):  # SQLite takes 999 parameters
                some = stamps[first : first + 500]
                marks = ",".join("?" * len(some))
                found.update(table.execute(f"SELECT stamp, sum FROM sums WHERE stamp IN ({marks})", some))
    except (sqlite3.Error, OSError):
        return {}
    return found


def remember(found: Mapping[str, str]) -> None:
    """Write sums by `stamp` down; where the cache folder cannot be used, the files are read again next time."""
    if not found:
        return
    today = int(time.time()) // 86400
    try:
        with _table() as table:
            table.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", [(*i, today) for i in found.items()])
            table.execute("DELETE FROM sums WHERE day < ?", (today - _KEEP_DAYS,))
    except (sqlite3.Error, OSError):
        return
