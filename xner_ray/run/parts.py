"""Part files: one unit each, every row, rejected ones too, with what was counted in the footer.

A unit is done when its part exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.data.arrow import flat, ints, lengths, nested, offsets, ranges, with_column
from xner_ray.data.row import REJECTED, ROW, fill, frequencies, rejected, row_schema
from xner_ray.errors import FatalError, Reason
from xner_ray.run import whole
from xner_ray.storage import files as storage

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


_LOST = "an entity found no place, or one scores less than output.doubtful"


def finish(table: pa.Table, labels: Sequence[str], *, reject_incomplete: bool, doubtful: float = 0.0) -> pa.Table:
    """Fill the rows' ner_tags, and reject incomplete rows if asked.

    doubtful: a row is incomplete too if an entity scores less than this.
    """
    if doubtful:
        table = with_column(table, "complete", _without_doubts(table, doubtful))
    if reject_incomplete:
        complete = pc.fill_null(table.column("complete"), False).to_numpy()
        lost = np.flatnonzero(~rejected(table) & ~complete).tolist()
        table = fill(table, {}, dict.fromkeys(lost, (Reason.INCOMPLETE, _LOST)))
    return with_column(table, "ner_tags", _tags(table, labels))


def _without_doubts(table: pa.Table, doubtful: float) -> pa.Array:
    """Return `complete`, false for rows with an entity that scores less than this."""
    row, _, spans = flat(table.column("spans").combine_chunks())
    low = spans.field("score").fill_null(1.0).to_numpy(zero_copy_only=False) < np.float32(doubtful)
    certain = np.ones(table.num_rows, dtype=np.bool_)
    certain[row[low]] = False
    return pc.and_(table.column("complete").combine_chunks(), pa.array(certain))


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
        **({"images": _pictures(table.filter(pa.array(~gone)))} if "image_labels" in table.schema.names else {}),
    }


def _pictures(emitted: pa.Table) -> dict[str, int]:
    """Count the rows with pictures, the entities that these judged, and the labels that they changed."""
    judged = emitted.column("image_labels").combine_chunks().flatten()
    text, after, other = (judged.field(name) for name in ("text", "image", "exchanged"))
    changed = pc.not_equal(text, after)
    compared = pc.is_valid(other)
    return {
        "rows": emitted.num_rows - emitted.column("image").null_count,
        "used": emitted.num_rows - emitted.column("image_id").null_count,
        "entities": len(judged),
        "relabelled": pc.sum(changed).as_py() or 0,
        "compared": pc.sum(compared).as_py() or 0,
        "relabelled_of_compared": pc.sum(pc.and_(changed, compared)).as_py() or 0,
        "relabelled_by_exchanged": pc.sum(pc.fill_null(pc.not_equal(text, other), False)).as_py() or 0,
    }


def write_part(path: str, table: pa.Table, counters: Mapping[str, Any]) -> None:
    """Publish one unit in one step, its counters in the footer."""
    whole.publish(path, table, counters)


def counters_of(paths: Sequence[str], run: str = "") -> Iterator[dict[str, Any]]:
    """Return the counters of many parts in order, read several at a time: object stores answer slowly.

    run: as of `whole.counters`.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(paths), 1000):  # not all: what is read waits in memory for its turn
            yield from pool.map(partial(whole.counters, run=run), paths[first : first + 1000])


def read_part(path: str, columns: Sequence[str] | None = None, *, checked: bool = False) -> pa.Table:
    """Return a part's rows, or some columns in the given order. Columns newer than the part are null.

    checked: the file was found whole already, so that its other columns need not be read. DamageError if it is not
    whole; of a checked or published file only if what is read is no Parquet.
    """
    with whole.reading(path):
        source = storage.locate(path)[0].open_input_file(storage.locate(path)[1]) if checked else whole.read(path)
        # ParquetFile, not read_table: that one would make a column out of a folder named like key=value.
        with pq.ParquetFile(source if checked else pa.BufferReader(source), pre_buffer=True) as part:
            table = part.read(columns=columns).replace_schema_metadata(None)
    names = list(table.schema.names)
    own = row_schema(images=True)
    wanted = [*ROW.names, *(name for name in names if name not in ROW.names)] if columns is None else list(columns)
    for name in own.names:
        if name in wanted and name not in names:
            table = table.append_column(own.field(name), pa.nulls(table.num_rows, own.field(name).type))
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
    """Finished units to make again for the sake of rows that were rejected, by their names."""

    parts: Mapping[str, str]  # the paths of their parts
    reasons: Mapping[str, Collection[str]]  # for which rows were rejected
