"""Part files, and the published files that sealing makes of them.

A part is one unit: every row, rejected ones too, with what was counted in its footer. A unit is done when its part
exists. Sealing reads parts in row order and writes each published file whole; which rows go to which file is fixed by
the units alone, so the same parts always give the same bytes, and sealing again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.data.arrow import flat, ints, lengths, nested, offsets, ranges, with_column
from xner_ray.data.row import OK, REJECTED, ROW, fill, frequencies, rejected, with_features
from xner_ray.errors import FatalError, Reason, StorageError
from xner_ray.storage import files as storage

_FOOTER = b"xner_ray"
_PARQUET: dict[str, Any] = {"compression": "zstd", "compression_level": 3}
LEAST_BYTES = 12  # of any Parquet file: twice its magic, and the length of its footer
_AT_ONCE = 16  # footers


class PlannedUnit(Protocol):
    """What sealing needs to know of a unit."""

    @property
    def name(self) -> str: ...
    @property
    def lang(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def n_rows(self) -> int: ...


def finish(table: pa.Table, labels: Sequence[str], *, reject_incomplete: bool) -> pa.Table:
    """Fill the rows' ner_tags, and reject incomplete rows if asked."""
    if reject_incomplete:
        complete = pc.fill_null(table.column("complete"), False).to_numpy()
        lost = np.flatnonzero(~rejected(table) & ~complete).tolist()
        table = fill(table, {}, dict.fromkeys(lost, (Reason.INCOMPLETE, "an entity found no place")))
    return with_column(table, "ner_tags", _tags(table, labels))


def _tags(table: pa.Table, labels: Sequence[str]) -> pa.Array:
    """Return the IOB2 tags of every row as numbers of `label_list(labels)`; null for rejected rows.

    ValueError if spans of a row overlap or leave the sentence, or have a label that is none of `labels`.
    """
    gone = rejected(table)
    sizes = np.where(gone, 0, lengths(table.column("tokens").combine_chunks()))
    row, _, spans = flat(table.column("spans").combine_chunks())
    start, end = ints(spans.field("start")), ints(spans.field("end"))
    label = ints(pc.index_in(spans.field("label"), value_set=pa.array(labels, pa.string())).fill_null(-1))
    order = np.lexsort((start, row))
    order = order[~gone[row[order]]]
    row, start, end, label = row[order], start[order], end[order], label[order]
    last = np.where(np.diff(row, prepend=-1) == 0, np.concatenate([[0], end[:-1]]), 0)
    bad = (start < last) | (start >= end) | (end > sizes[row]) | (label < 0)
    if bad.any():
        number = int(row[bad][0])
        raise ValueError(
            f"row {table.column('id')[number].as_py()!r}: spans {table.column('spans')[number].as_py()} overlap, leave "
            f"the {sizes[number]} words or have a label that is none of {', '.join(labels)}"
        )
    tags = np.zeros(sizes.sum(), dtype=np.int64)
    first, size = offsets(sizes)[row] + start, end - start
    tags[ranges(first, size)] = np.repeat(2 * label + 2, size)
    tags[first] = 2 * label + 1
    return nested(sizes, pa.array(tags), null=gone)


def count(table: pa.Table) -> dict[str, Any]:
    """Count rows, rejects by reason, entities, flags and labels of a unit's finished rows."""
    gone = rejected(table)
    names = ["reason", "source_spans", "spans", "unprojected", "flags", "complete", "solver"]
    columns = table.select(names).combine_chunks()
    emitted, lost = columns.filter(pa.array(~gone)), columns.filter(pa.array(gone))

    def cells(name: str) -> pa.Array:
        return emitted.column(name).combine_chunks().flatten()

    return {
        "rows": {"read": len(gone), "emitted": emitted.num_rows, "rejected": lost.num_rows},
        "rejects": frequencies(lost.column("reason")),
        "entities": {
            "source": len(cells("source_spans")),
            "projected": len(cells("spans")),
            "unprojected": frequencies(cells("unprojected").field("reason")),
            "in_rejected_rows": len(lost.column("source_spans").combine_chunks().flatten()),
        },
        "projected_by_label": frequencies(cells("spans").field("label")),
        "incomplete_rows": emitted.num_rows - (pc.sum(emitted.column("complete")).as_py() or 0),
        "solvers": frequencies(emitted.column("solver")),
        "flags": frequencies(cells("flags")),
    }


def write_part(path: str, table: pa.Table, counters: Mapping[str, Any]) -> None:
    """Publish one unit in one step, its counters in the footer."""
    schema = table.schema.with_metadata({_FOOTER: json.dumps(counters, sort_keys=True)})
    storage.publish(path, _parquet([table], schema))


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    """Open a part. StorageError if it is damaged, which only the disk or another program can do."""
    filesystem, inner = storage.locate(path)
    try:
        # ParquetFile, not read_table: that one would make a column out of a folder named like key=value.
        with filesystem.open_input_file(inner) as stream:
            yield pq.ParquetFile(stream, pre_buffer=True)
    except OSError as error:
        # Of a page that is cut off it is an OSError too, but neither the system's nor the store's.
        raise storage.failure(path, "read", error, StorageError if storage.refused(error) else _broken) from None
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _broken(f"{path}: cannot be read ({error})") from None


def _broken(message: str) -> StorageError:
    return StorageError(
        f"{message}; another program or the disk damaged it. Delete this file and run the same command again: what was "
        "in it is made again"
    )


def part_counters(path: str) -> dict[str, Any]:
    """Return the counters in a part's footer; no row is read. StorageError if the part is damaged."""
    with _opened(path) as part:
        counters: dict[str, Any] = json.loads((part.metadata.metadata or {})[_FOOTER])
    return counters


def counters_of(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Return the counters of many parts in order, read several at a time: object stores answer slowly."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(paths), 1000):  # not all: what is read waits in memory for its turn
            yield from pool.map(part_counters, paths[first : first + 1000])


def read_part(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a part's rows, or some columns in the given order. Columns newer than the part are null.

    StorageError if the part is not whole.
    """
    with _opened(path) as part:
        table = part.read(columns=columns).replace_schema_metadata(None)
    names = list(table.schema.names)
    wanted = [*ROW.names, *(name for name in names if name not in ROW.names)] if columns is None else list(columns)
    for name in ROW.names:
        if name in wanted and name not in names:
            table = table.append_column(ROW.field(name), pa.nulls(table.num_rows, ROW.field(name).type))
    return table if table.schema.names == wanted else table.select(wanted)


def retried(old: pa.Table, new: pa.Table, reasons: Collection[str]) -> pa.Table:
    """Return the rows of a finished unit, with those rejected for one of `reasons` replaced by new ones.

    The unit was made again whole, so they come from the micro-batches that they had; the other rows stay what they
    are, whatever else is new. FatalError if the tables are not of the same rows.
    """
    if not old.schema.equals(new.schema) or not old.column("row").equals(new.column("row")):
        raise FatalError("a unit that was made again has other rows or columns than its part")
    again = pc.and_(
        pc.equal(old.column("status"), REJECTED),
        pc.is_in(old.column("reason"), value_set=pa.array(sorted(reasons), pa.string())),
    )
    number = np.arange(old.num_rows)
    chosen = np.where(again.to_numpy(), number + old.num_rows, number)
    return pa.concat_tables([old, new]).take(pa.array(chosen)).combine_chunks()


@dataclass(frozen=True)
class Retry:
    """Finished units to make again for the sake of rows that were rejected."""

    parts: Mapping[str, str]  # unit name -> path of its part
    reasons: frozenset[str]


@dataclass(frozen=True)
class Published:
    """One file of the data set: its place in the run, and the parts whose rows of one kind it holds."""

    file: str  # relative to the run folder
    parts: tuple[str, ...]
    kind: str  # complete | incomplete | emitted | rejected
    labels: tuple[str, ...]
    optional: bool  # not written when it would hold no row


def plan_files(
    units: Sequence[PlannedUnit],
    part_paths: Mapping[str, str],
    labels: Sequence[str],
    *,
    rows_per_file: int,
    split_incomplete: bool,
) -> list[Published]:
    """Return the files that sealing writes: equal shares of consecutive units, in row order."""
    groups: dict[tuple[str, str], list[PlannedUnit]] = {}
    for unit in units:
        groups.setdefault((unit.lang, unit.split), []).append(unit)
    files = []
    for (lang, split), members in groups.items():
        n_files = min(len(members), -(-sum(unit.n_rows for unit in members) // rows_per_file))
        for number in range(n_files):
            share = members[number * len(members) // n_files : (number + 1) * len(members) // n_files]
            parts = tuple(part_paths[unit.name] for unit in share)
            name = f"{split}-{number:05d}-of-{n_files:05d}.parquet"
            kinds = [("data", name, "complete" if split_incomplete else "emitted", False)]
            kinds += [("data", f"incomplete-{name}", "incomplete", True)] if split_incomplete else []
            kinds += [("rejects", name, "rejected", True)]
            for folder, file, kind, optional in kinds:
                files.append(Published(f"{folder}/{lang}/{file}", parts, kind, tuple(labels), optional))
    return files


def split_of(file: str) -> tuple[str, bool]:
    """Return the split of a published file, and True if its sentences are incomplete ones, set apart.

    >>> split_of("data/swh_Latn/incomplete-train-00000-of-00002.parquet")
    ('train', True)
    >>> split_of("s3://bucket/run/data/swh_Latn/test-00000-of-00001.parquet?region=eu")
    ('test', False)
    """
    split = storage.bare(file).rpartition("/")[2].rsplit("-", 3)[0]
    return split.removeprefix("incomplete-"), split.startswith("incomplete-")


def seal_file(root: str, published: Published) -> dict[str, Any] | None:
    """Write one published file whole; return its name, rows and SHA-256, or None if it is empty and optional.

    Then there is no such file: one of an earlier seal, whose rejects a retry has mended, is deleted.
    """
    rows = 0
    schema: pa.Schema | None = None

    def chosen() -> Iterable[pa.Table]:
        nonlocal rows
        for path in published.parts:
            table = _select(read_part(path), published.kind)
            rows += table.num_rows
            yield table

    first = read_part(published.parts[0])
    schema = with_features(first.schema, published.labels)
    data = _parquet(chosen(), schema)
    path = storage.join(root, published.file)
    if rows == 0 and published.optional:
        storage.delete(path)
        return None
    storage.publish(path, data)
    return {"file": published.file, "rows": rows, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def seal(
    root: str,
    files: Sequence[Published],
    documents: Mapping[str, bytes],
    map_files: Callable[..., Iterable[dict[str, Any] | None]] = map,
) -> list[dict[str, Any]]:
    """Publish the data set, then README and report, and last `_run/SEALED`, which lists them."""
    written = [entry for entry in map_files(seal_file, [root] * len(files), files) if entry is not None]
    for name, data in documents.items():
        storage.publish(storage.join(root, name), data)
    text = json.dumps({"files": written}, indent=1, sort_keys=True)
    storage.publish(storage.join(root, "_run", "SEALED"), text.encode())
    return written


def _select(table: pa.Table, kind: str) -> pa.Table:
    status = pc.equal(table.column("status"), REJECTED if kind == "rejected" else OK)
    if kind in ("complete", "incomplete"):
        whole = table.column("complete")
        wanted = whole if kind == "complete" else pc.invert(whole)
        status = pc.and_(status, pc.fill_null(wanted, False))
    return table.filter(status)


def _parquet(tables: Iterable[pa.Table], schema: pa.Schema) -> bytes:
    """Return one Parquet file, a row group a table. Chunks are joined first: page borders must not depend on them."""
    buffer = BytesIO()
    with pq.ParquetWriter(buffer, schema, **_PARQUET) as writer:
        for table in tables:
            if table.num_rows:
                whole = table.combine_chunks().replace_schema_metadata(schema.metadata)
                writer.write_table(whole, row_group_size=whole.num_rows)
    return buffer.getvalue()
