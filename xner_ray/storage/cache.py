"""The cache folder of this machine: folders that are filled once and published in one step."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import filelock

from xner_ray.storage.files import failure


def cache_folder() -> Path:
    """Return `$XNER_RAY_CACHE`, else `$XDG_CACHE_HOME/xner_ray`, else `~/.cache/xner_ray`."""
    if own := os.environ.get("XNER_RAY_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xner_ray"


def cached_folder(name: str, fill: Callable[[Path], None], cache: Path | None = None) -> Path:
    """Return the folder `name` of the cache, made by `fill` if it is not there.

    fill: writes the files into the empty folder that it gets, and raises if they are not right. cache: another folder
    than `cache_folder()`. Any number of processes may call this at once: one fills, the others wait, and only a whole
    folder ever has the name. What a killed process left is removed. StorageError if it cannot be written.
    """
    folder = (cache_folder() if cache is None else cache) / name
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
                if not folder.is_dir():
                    for stale in folder.parent.glob(f".{folder.name}.part-*"):
                        shutil.rmtree(stale, ignore_errors=True)
                    publish_folder(folder, fill)
        except OSError as error:
            raise failure(str(folder), "written", error) from None
    return folder


def publish_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a local folder that only has its name when it is whole; if another process was first, its folder stays.

    fill: writes the files into the empty folder that it gets, beside the final one and named
    `.{name}.part-{process}-{random}`.
    """
    own = folder.with_name(f".{folder.name}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    own.mkdir()
    try:
        fill(own)
        _sync(own)
        own.rename(folder)
        _sync(folder.parent)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(own, ignore_errors=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sums(folder: Path) -> str:
    """Return the SHA-256 of each file of a local folder, as sha256sum lists them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return listed_sums({path.relative_to(folder).as_posix(): path for path in paths})


def listed_sums(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 of files by name, as sha256sum lists them."""
    return "".join(f"{sha256(path)}  {name}\n" for name, path in files.items())


def _sync(folder: Path) -> None:
    """Flush the files, then the folder itself, to the disk: a rename must not become visible before the content."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
