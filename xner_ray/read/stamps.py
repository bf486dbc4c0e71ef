"""Stamps of input files: what says, without reading one, that it is still the file that was indexed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import lru_cache

from pyarrow import fs

from xner_ray.errors import InputError, StorageError
from xner_ray.read.record import File
from xner_ray.read.sniff.names import pair
from xner_ray.storage import files as storage
from xner_ray.storage import hub

_COPIES = "/runtime_resources/working_dir_files/"  # where Ray unpacks what `ray job submit --working-dir` sends


def info_of(path: str) -> fs.FileInfo:
    try:
        return storage.info_of(path)
    except (OSError, StorageError) as error:
        raise InputError(f"{path}: cannot be reached: {error}") from None


def stamp_of(path: str, info: fs.FileInfo) -> str:
    """Return size and time of last change; of an object in seconds, as S3 says no more of a single object.

    A file in a job's working directory is known by its content instead of the time: each node and each job has a copy;
    a file of a data set on the hub by the commit.
    """
    if _COPIES in path:
        return f"{info.size}-{_sha256(path, info.mtime_ns)}"
    if path.startswith(hub.SCHEME):
        return f"{info.size}-{path.partition('@')[2][:40]}"
    return f"{info.size}-{int(info.mtime_ns / 1e9) if '://' in path else info.mtime_ns}"


@lru_cache
def _sha256(path: str, mtime_ns: int) -> str:
    del mtime_ns  # for the cache
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def here(path: str) -> str:
    """Return the path of the same file in this process's own copy of the job's working directory, if it is in a copy.

    The copy of an earlier job may be gone, and that of another node was never here.
    """
    if _COPIES not in path or _COPIES not in os.getcwd():
        return path
    root, own = os.getcwd().split(_COPIES, 1)
    inside = path.split(_COPIES, 1)[1].split("/", 1)[1]
    return f"{root}{_COPIES}{own.split('/')[0]}/{inside}"


def unchanged(file: File) -> File:
    """Return the file with the path where this process finds it; InputError if it has changed since it was indexed."""
    file = replace(file, path=here(file.path))
    if file.stamp and "+".join(stamp_of(path, info_of(path)) for path in parts_of(file)) != file.stamp:
        raise changed(file)
    return file


def changed(file: File) -> InputError:
    """Return the error for a file that is not the one that was indexed."""
    return InputError(
        f"{file.path}: has another size or time than when this command began to read it; if its content is the same, "
        "the same command goes on"
    )


def parts_of(file: File) -> tuple[str, ...]:
    """Return the addresses of all that a file consists of."""
    return pair(file.path) if file.format == "brat" else (file.path,)
