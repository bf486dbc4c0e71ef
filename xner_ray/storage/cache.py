"""The cache folder of this machine: folders that are filled once and published in one step."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """`$XNER_RAY_CACHE`, else `$XDG_CACHE_HOME/xner_ray`, else `~/.cache/xner_ray`."""
    if own := os.environ.get("XNER_RAY_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xner_ray"


def publish_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a local folder that only has its name when it is whole; if another process was first, its folder stays.

    fill: writes the files into the empty folder that it is given, beside the final one and named
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


def sums(folder: Path) -> str:
    """SHA-256 of each file of a local folder, as sha256sum lists them."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            lines.append(
                f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n"
            )
    return "".join(lines)


def _sync(folder: Path) -> None:
    """Files, then the folder itself, to the disk: a rename must not become visible before the content."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
