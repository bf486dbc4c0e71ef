"""`_run/SEALED`: what a finished run is, file by file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyarrow import fs

from xner_ray.errors import DamageError
from xner_ray.run import whole
from xner_ray.storage import files as storage
from xner_ray.storage import sums

Entry = Mapping[str, Any]  # file (relative to the run folder), bytes, sha256, and rows of a published file
SEALED, _OLD = "_run/SEALED", ("files",)
NO_FILE = "is no file"


@dataclass(frozen=True)
class Sealed:
    """The files of a finished run, and the parts that it was made of where the folder alone does not tell."""

    files: list[dict[str, Any]]  # published Parquet files
    others: list[dict[str, Any]] = field(default_factory=list)  # card, reports, and what says which run it is
    retried: list[str] = field(default_factory=list)  # parts below `_run/retried` that count
    incarnation: str | None = None  # of the refined parts; None: of an earlier version

    @classmethod
    def load(cls, path: str) -> Sealed:
        """Read what `dump` wrote. DamageError."""
        found = whole.load(cls, path, SEALED, _OLD)
        if not isinstance(found.files, list):
            raise DamageError(path, "lists no files")
        return found

    @classmethod
    def load_if_whole(cls, path: str) -> Sealed | None:
        """Read what `dump` wrote; None if it is missing or damaged."""
        try:
            return cls.load(path)
        except DamageError:
            return None

    def sum_of_other(self, name: str) -> str | None:
        """Return the SHA-256 of a document; None if it is not listed."""
        return next((str(entry["sha256"]) for entry in self.others if entry["file"] == name), None)

    def with_other(self, name: str, data: bytes) -> Sealed:
        """Return the same with another document under a name."""
        kept = [entry for entry in self.others if entry["file"] != name]
        return replace(self, others=[*kept, {"file": name, **sum_of(data)}])

    def dump(self) -> bytes:
        return whole.dump(vars(self), SEALED)


def split_of(file: str) -> tuple[str, bool]:
    """Return the split of a published file, and True if its sentences are incomplete ones, set apart.

    >>> split_of("data/swh_Latn/incomplete-train-00000-of-00002.parquet")
    ('train', True)
    >>> split_of("s3://bucket/run/data/swh_Latn/test-00000-of-00001.parquet?region=eu")
    ('test', False)
    """
    split = storage.bare(file).rpartition("/")[2].rsplit("-", 3)[0]
    return split.removeprefix("incomplete-"), split.startswith("incomplete-")


def is_part(info: fs.FileInfo) -> bool:
    """Return whether a file can be a part: one that is too short for Parquet is none."""
    return bool(info.extension == "parquet" and info.size >= whole.LEAST_BYTES)


def unit_of(file: str) -> str:
    """Return the unit of a part's path."""
    return file.rpartition("/")[2].removesuffix(".parquet")


def sum_of(data: bytes) -> dict[str, Any]:
    """Return size and SHA-256, as entries have them."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def damage(root: str, entries: Iterable[Entry], *, sizes_alone: bool = False) -> dict[str, str]:
    """Return what is wrong with the files of a run, by their name: missing, cut off, grown, altered. StorageError.

    A file is read unless its bytes were summed before (`storage.sums`); sizes_alone: no file is.
    """
    found: dict[str, str] = {}
    right: list[Entry] = []
    for entry in entries:
        info = storage.info_of(storage.join(root, entry["file"]))
        if info.type == fs.FileType.NotFound:
            found[entry["file"]] = "is missing"
        elif info.type != fs.FileType.File:
            found[entry["file"]] = NO_FILE
        elif info.size != entry["bytes"]:
            how = "is cut off" if info.size < entry["bytes"] else "has grown"
            found[entry["file"]] = f"{how} ({info.size:,} bytes, not {entry['bytes']:,})"
        else:
            right.append(entry)
    if not sizes_alone:
        read = sums.sums([storage.join(root, entry["file"]) for entry in right])
        for entry, own in zip(right, read, strict=True):
            if own != entry["sha256"]:
                found[entry["file"]] = "was altered: its sum is another"
    return found
