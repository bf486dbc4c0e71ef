"""Rows of one file as whole columns: words and tags as they stand there, and the records of the odd ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa

from xner_ray.data.arrow import Ints
from xner_ray.read.format import Tagged
from xner_ray.read.formats.tables import read_columns, record, table_raws, table_schema
from xner_ray.read.index.units import Segment
from xner_ray.read.record import SURROGATES, File, Raw, Record, name_text, refuse_characters
from xner_ray.read.records import FORMATS, read_raws, records_of
from xner_ray.read.shapes.schema import class_names
from xner_ray.read.shapes.tools import OBJECTS
from xner_ray.read.stamps import changed
from xner_ray.read.tagged import Source

_ODD = Tagged(["void"], None, None, None)
_LISTS = pa.list_(pa.string())
_LOOKED_AT = 16  # rows


def source_of(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> Source | None:
    """Return those rows of a segment that `at` numbers; None if its file does not have the shape words with tags."""
    if file.format in ("parquet", "dataset") and not file.documents:
        return _of_table(file, segment, at, extra)
    return None if file.documents else _of_raws(file, segment, at, extra)


def _of_table(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> Source | None:
    """Read rows of a table, by their numbers in the segment; None if it does not have the shape."""
    schema, _ = table_schema(file, need_labels=False)
    if not _is_plain(file, schema):
        return None
    wanted = list(map(file.key, ("id", "doc_id", "tokens", "tags")))
    names = [name for name in schema.names if name in wanted]
    carried = [field.name for field in extra]
    table = read_columns(file, segment.place, segment.skip, segment.take, [*names, *carried])
    if table is None:
        return None
    if table.num_rows < segment.take:
        raise changed(file)
    table = table if len(at) == table.num_rows else table.take(at).combine_chunks()
    lines = segment.place.line + segment.skip + at
    made = table_source(table.select(names), lines, file, class_names(file, schema))
    return made._replace(carried={name: table.column(name) for name in carried})


def is_plain_table(file: File) -> bool:
    """Return whether a file is a table of words with tags alone."""
    if file.format not in ("parquet", "dataset") or file.documents:
        return False
    return _is_plain(file, table_schema(file, need_labels=False)[0])


def table_source(table: pa.Table, lines: Ints, file: File, labels: Mapping[str, Sequence[str]]) -> Source:
    """Return rows of a table of words with tags. lines: their numbers. labels: what numbers stand for, by column."""
    id_, doc_id, tokens, tags = map(file.key, ("id", "doc_id", "tokens", "tags"))

    def records(wanted: Ints) -> Iterator[Record]:
        for batch in table.take(wanted).combine_chunks().to_batches():
            for raw in table_raws(batch, lines[wanted].tolist(), labels):
                made = record(raw, file)
                refuse_characters(made)
                yield made

    return Source(
        lines,
        table.column(tokens).combine_chunks(),
        table.column(tags).combine_chunks() if tags in table.column_names else None,
        _names(table, id_),
        _names(table, doc_id),
        {},
        np.zeros(len(lines), bool),
        file.reading.names or labels.get(tags),
        records,
    )


def _of_raws(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> Source | None:
    """Read rows of any other file, by their numbers in the segment; None if the first are no words with tags."""
    tagged, raws_left = FORMATS[file.format].tagged, read_raws(file, segment.place, skip=segment.skip)
    found = list(islice(raws_left, min(_LOOKED_AT, segment.take)))
    if tagged is None or not any(tagged(raw, file) for raw in found):
        return None
    found += islice(raws_left, segment.take - len(found))
    if len(found) < segment.take:
        raise changed(file)
    raws = found if len(at) == len(found) else [found[index] for index in at.tolist()]
    made = tagged_rows(raws, file, extra)
    return None if made is None else made[1]


def tagged_rows(
    raws: Sequence[Raw], file: File, extra: Sequence[pa.Field] = ()
) -> tuple[Sequence[Tagged], Source] | None:
    """Return words and tags of raw records, one by one and as columns; None if the format knows no quick way.

    None too where the first are of another kind; further ones of another kind are marked as odd.
    """
    tagged = FORMATS[file.format].tagged
    if tagged is None or file.documents:
        return None
    if not any(tagged(raw, file) for raw in raws[:_LOOKED_AT]):
        return None
    rows = [tagged(raw, file) or _ODD for raw in raws]
    try:
        return rows, _source(raws, rows, file, extra)
    except (
        UnicodeEncodeError,
        pa.ArrowTypeError,
        pa.ArrowInvalid,
    ):  # a table holds nothing but text, and no half of it
        rows = [row if _writable(row) else _ODD for row in rows]
        return rows, _source(raws, rows, file, extra)


def _source(raws: Sequence[Raw], rows: Sequence[Tagged], file: File, extra: Sequence[pa.Field]) -> Source:
    carried = {}
    if extra:
        pairs = zip(raws, rows, strict=True)
        cells = [records_of(raw, file)[0].extra if row is _ODD else row.extra for raw, row in pairs]
        for column in extra:
            values = [cell.get(column.name) if isinstance(cell, dict) else cell for cell in cells]
            carried[column.name] = pa.array(values, column.type)
    ids, docs = [row.id for row in rows], [row.doc_id for row in rows]
    "".join(filter(None, (*ids, *docs))).encode()
    tokens, tags = pa.array([row.tokens for row in rows], _LISTS), pa.array([row.tags for row in rows], _LISTS)
    if tokens.flatten().null_count or tags.flatten().null_count:
        raise pa.ArrowInvalid("null among words or tags")
    return Source(
        np.array([raw.line for raw in raws], np.int64),
        tokens,
        tags,
        ids,
        docs,
        carried,
        np.array([row is _ODD for row in rows], bool),
        file.reading.names,
        lambda wanted: (made for index in wanted.tolist() for made in records_of(raws[index], file)),
    )


def _writable(row: Tagged) -> bool:
    """Return whether all is text, and text that UTF-8 can write."""
    parts = (*row.tokens, *(row.tags or ()), row.id or "", row.doc_id or "")
    return set(map(type, parts)) <= {str} and not SURROGATES.search("".join(parts))


def _is_plain(file: File, schema: pa.Schema) -> bool:
    """Return whether a file has tokens in lists of text, no text, spans or splits, and tags in lists if any."""
    keys = {ours: file.key(ours) for ours, _ in file.columns}
    types = {ours: schema.field(column).type for ours, column in keys.items() if column in schema.names}
    tags = types.get("tags", pa.list_(pa.string()))
    return (
        file.reading.shape in ("", OBJECTS)
        and types.keys().isdisjoint(("text", "spans", "split", "image"))
        and types.get("tokens") == pa.list_(pa.string())
        and pa.types.is_list(tags)
        and (pa.types.is_string(tags.value_type) or pa.types.is_integer(tags.value_type))
    )


def _names(table: pa.Table, column: str) -> list[str | None]:
    if column not in table.column_names:
        return [None] * table.num_rows
    return [name_text(value, column) for value in table.column(column).to_pylist()]
