"""Files that know their own sum: parts and the counts of priors, which also know their place, and JSON documents.

The footer of a Parquet file holds the place (`parts/0001/swh_Latn-000000000000.parquet`), the SHA-256 of the whole file
with these 64 digits as zeros, that of the counters alone, which are read without the rest, and the identity of the run
(`record.Record`). So a file that was cut, altered, exchanged with another or put back from another run is told from a
whole one by itself, and a file is still published in one step. Of files of earlier versions, without a sum, the form is
checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import lru_cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from xner_ray.errors import DamageError, RunFolderError
from xner_ray.storage import files as storage
from xner_ray.storage import sums

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
LEAST_BYTES = 12  # of any Parquet file: twice its magic, and the length of its footer
PARQUET: dict[str, Any] = {"compression": "zstd", "compression_level": 3}
_COUNTERS, _COUNTERS_SUM, _PLACE, _SUM = b"xner_ray", b"xner_ray.counters", b"xner_ray.place", b"xner_ray.sum"
_RUN = b"xner_ray.run"
_MARK = b"sha256:"
_ZEROS = b"0" * 64


def parquet(tables: Iterable[pa.Table], schema: pa.Schema, footer: Mapping[bytes, bytes | str] | None = None) -> bytes:
    """Return one Parquet file, a row group a table. Chunks are joined first: page borders must not depend on them."""
    buffer = BytesIO()
    with pq.ParquetWriter(buffer, schema, **PARQUET) as writer:
        for table in tables:
            if table.num_rows:
                whole = table.combine_chunks().replace_schema_metadata(schema.metadata)
                writer.write_table(whole, row_group_size=whole.num_rows)
        if footer:
            writer.add_key_value_metadata(dict(footer))
    return buffer.getvalue()


def publish(path: str, table: pa.Table, counters: Mapping[str, Any] | None = None) -> None:
    """Write a file of a run in one step, with its place, its run, its counters and its sum in the footer."""
    counted, place = json.dumps(counters or {}, sort_keys=True), place_of(path)
    footer: dict[bytes, bytes | str] = {
        _COUNTERS: counted,
        _COUNTERS_SUM: _counters_sum(place, counted.encode()),
        _PLACE: place,
        _RUN: run_of(path),
        _SUM: _MARK + _ZEROS,
    }
    data = parquet([table], table.schema.with_metadata(None), footer)
    at = _digits(data)
    storage.publish(path, b"".join((data[:at], _sum(data, at), data[at + 64 :])))


def place_of(path: str) -> str:
    """Return where a file stands below `_run`.

    >>> place_of("s3://b/run/_run/parts/0001/swh_Latn-000000000000.parquet?region=eu")
    'parts/0001/swh_Latn-000000000000.parquet'
    """
    return "/".join(storage.bare(path).split("/")[-3:])


def run_of(path: str) -> str:
    """Return the identity of the run that a file below `RUN/_run` is of; "" without one, and elsewhere. DamageError."""
    root, found, _ = storage.locate(path)[1].partition("/_run/")
    record = storage.within(path, f"{root}/_run/fingerprint.json")
    info = storage.info_of(record) if found else None
    if info is None or not info.is_file:
        return ""
    return _identity(record, path.rpartition("/")[0], info.mtime_ns, info.size)


@lru_cache(maxsize=16)
def _identity(record: str, folder: str, mtime_ns: int | None, size: int) -> str:
    """Return the identity in a record, read once for a folder of parts: that of a run with many retries is long.

    No folder below `_run` is used again after a `--fresh`.
    """
    try:
        return str(json.loads(storage.read_bytes(record)).get("identity", ""))
    except (ValueError, AttributeError):
        raise DamageError(record, "is no JSON document") from None


def owners(paths: Sequence[str]) -> set[str]:
    """Return the identities in the footers of files of runs; those of whole ones alone."""
    found = set()
    for path in paths:
        with suppress(DamageError):
            filesystem, inner = storage.locate(path)
            with reading(path), filesystem.open_input_file(inner) as stream:
                footer = pq.ParquetFile(stream).metadata.metadata or {}
            found.add(footer.get(_RUN, b"").decode(errors="replace"))
    return found


def _counters_sum(place: str, counted: bytes) -> str:
    return hashlib.sha256(place.encode() + b"\0" + counted).hexdigest()


def _digits(data: bytes) -> int:
    """Return where the digits of the sum begin; -1 if the file has none."""
    at = data.find(_MARK, found) if (found := data.rfind(_SUM)) >= 0 else -1
    return at + len(_MARK) if 0 <= at < found + 40 else -1


def _sum(data: bytes, at: int) -> bytes:
    view = memoryview(data)
    digest = hashlib.sha256(view[:at])
    digest.update(_ZEROS)
    digest.update(view[at + 64 :])
    return digest.hexdigest().encode()


def read(path: str, *, summed: bool = False) -> bytes:
    """Return the bytes of a file of a run. DamageError if they are not what was written. summed: see `damaged`."""
    data = storage.read_bytes(path)
    if what := _damage(data, place_of(path), summed):
        raise DamageError(path, what)
    return data


def read_any(path: str) -> bytes:
    """Return the bytes of a file that a run has, whatever they are. DamageError if it is missing."""
    if (data := storage.read_if_there(path)) is None:
        raise DamageError(path, "is missing")
    return data


def _damage(data: bytes, place: str, summed: bool = False, run: str = "") -> str | None:
    """Return what is wrong with the file that stands at a place. summed: it is no file of an earlier version.

    run: the identity of its run, if that is to be compared.
    """
    try:
        footer = pq.ParquetFile(pa.BufferReader(data)).metadata.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"is no whole Parquet file ({str(error).strip()})"
    at = _digits(data)
    if at < 0:
        return "is no file of this run: it has no sum" if summed else None
    if _sum(data, at) != data[at : at + 64]:
        return "was altered: its sum is another"
    own = footer.get(_PLACE, b"").decode()
    if own == place and run and footer.get(_RUN, b"").decode() != run:
        return "is a file of another run"
    return None if own == place else f"is the file {own}"


def damaged(paths: Sequence[str], *, summed: bool = False, run: str = "") -> dict[str, str]:
    """Return what is wrong with the files that are not whole, by path; a missing one is "is missing". StorageError.

    summed: none of them is of an earlier version. run: the identity of the run that all are of, if it has one.
    Files are read whole, several at a time, unless the same bytes were found whole before (`storage.sums`).
    """
    read = partial(_checked, summed=summed, run=run)
    found = sums.said(paths, read, holds=lambda path, text: text == _verdict(path, run))
    return {path: text for path in paths if (text := found[path]) not in ("", _verdict(path, run))}


def _verdict(path: str, run: str) -> str:
    return f"whole {place_of(path)}" + (f" of {run}" if run else "")


def _checked(path: str, summed: bool, run: str) -> str:
    """Return what is wrong with a file, else its verdict; "" where it may be of an earlier version, without a sum."""
    data = storage.read_if_there(path)
    what = "is missing" if data is None else _damage(data, place_of(path), summed, run)
    return what or (_verdict(path, run) if summed else "")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what Arrow raises of a Parquet file in the block into DamageError, or StorageError of a store that fails."""
    try:
        yield
    except OSError as error:
        # Of a footer that is cut off it is an OSError too, but neither the system's nor the store's.
        if storage.refused(error):
            raise storage.failure(path, "read", error) from None
        raise DamageError(path, f"cannot be read ({str(error).strip()})") from None
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DamageError(path, f"cannot be read ({str(error).strip()})") from None


def counters(path: str, run: str = "") -> dict[str, Any]:
    """Return the counters in a file's footer; nothing else is read. DamageError.

    run: the identity of the run that the file is to be of.
    """
    filesystem, inner = storage.locate(path)
    with reading(path), filesystem.open_input_file(inner) as stream:
        footer = pq.ParquetFile(stream, pre_buffer=True).metadata.metadata or {}
        counted = footer[_COUNTERS]
        found: dict[str, Any] = json.loads(counted)
    stated = footer.get(_COUNTERS_SUM)
    if stated is not None and stated != _counters_sum(place_of(path), counted).encode():
        raise DamageError(path, "was altered, or is another file: its counters have another sum")
    if run and footer.get(_RUN) != run.encode():
        raise DamageError(path, "is a file of another run")
    return found


def dump(document: Mapping[str, Any], name: str) -> bytes:
    """Return a document as JSON with its name and its own sum."""
    named = {**document, "name": name}
    return _json({**named, "sha256": hashlib.sha256(_json(named)).hexdigest()})


def load(made: type[T], path: str, name: str, old: Sequence[str]) -> T:
    """Return the document that `dump` made of an object's fields.

    old: the fields that earlier versions wrote, without a sum.
    DamageError if it is not what was written, RunFolderError if a newer version wrote it.
    """
    found = _document(path, name, old)
    if unknown := sorted(found.keys() - {field.name for field in fields(made)}):
        raise RunFolderError(
            f"{path}: a newer version of xner_ray wrote it ({unknown[0]!r} is not known here); use that version"
        )
    try:
        return made(**found)
    except TypeError:  # of an earlier version it has no sum, so it may lack what it must have
        raise DamageError(path, "is not whole") from None


def _document(path: str, name: str, old: Sequence[str]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(read_any(path))
        stated = found.pop("sha256", None)
    except (ValueError, AttributeError, TypeError):
        raise DamageError(path, "is no JSON document") from None
    if stated is None and set(found) <= set(old):
        return found
    if stated != hashlib.sha256(_json(found)).hexdigest():
        raise DamageError(path, "was altered: its sum is another")
    if (own := found.pop("name", None)) != name:
        raise DamageError(path, f"is the file {own}")
    return found


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()
