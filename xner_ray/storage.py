"""Files wherever pyarrow's filesystems reach: a local path, `s3://`, `gs://`.

A file is published in one step: locally a temporary name, fsync and rename; on an object store one put.
Nothing here appends, and nothing half-written ever has its final name.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from pyarrow import fs

from xner_ray.errors import InputError


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and the path inside it; a path without a scheme is local."""
    if "://" in path:
        try:
            filesystem, inner = fs.FileSystem.from_uri(path)
        except (ValueError, OSError) as error:
            raise InputError(
                f"{path}: no filesystem for this address ({error}); allowed: a path, s3://, gs://"
            ) from None
        return filesystem, inner
    return fs.LocalFileSystem(), os.path.abspath(path)


def is_local(path: str) -> bool:
    return isinstance(locate(path)[0], fs.LocalFileSystem)


def join(folder: str, *parts: str) -> str:
    return "/".join([folder.rstrip("/"), *parts])


def exists(path: str) -> bool:
    filesystem, inner = locate(path)
    return bool(filesystem.get_file_info(inner).type != fs.FileType.NotFound)


def files_below(folder: str) -> list[fs.FileInfo]:
    """Files at any depth below `folder`, sorted by path; none if the folder does not exist.

    Paths are those of the filesystem; hidden files (a leading dot, as temporary ones have) are left out.
    """
    filesystem, inner = locate(folder)
    infos = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True, recursive=True))
    return sorted(
        (info for info in infos if info.type == fs.FileType.File and not info.base_name.startswith(".")),
        key=lambda info: str(info.path),
    )


def read_bytes(path: str) -> bytes:
    filesystem, inner = locate(path)
    with filesystem.open_input_stream(inner) as stream:
        return bytes(stream.read())


def publish(path: str, data: bytes) -> None:
    """Write `data` under `path` so that a reader sees the old file, no file, or all of it."""
    filesystem, inner = locate(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        target = Path(inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The dot keeps listings, globs and `datasets` from ever seeing it.
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return
    with filesystem.open_output_stream(inner) as stream:
        stream.write(data)


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


def _sync(folder: Path) -> None:
    """Files, then the folder itself, to the disk: a rename must not become visible before the content."""
    for path in [*(p for p in folder.iterdir() if p.is_file()), folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def delete(path: str) -> None:
    """Delete a file or a whole folder; nothing happens if it is not there."""
    filesystem, inner = locate(path)
    kind = filesystem.get_file_info(inner).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(inner)
    elif kind == fs.FileType.File:
        filesystem.delete_file(inner)
