"""Rows of one file as whole columns: words and tags as they stand there, and the records of the odd ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints, flat, lengths, offsets
from xner_ray.data.spans import split_tag
from xner_ray.data.tag_styles import TagStyle
from xner_ray.data.tokens import sound
from xner_ray.read.find import changed
from xner_ray.read.format import Tagged
from xner_ray.read.formats.tables import read_columns, record, table_raws, table_schema
from xner_ray.read.record import SURROGATES, File, Raw, Record, name_text, refuse_characters, refused
from xner_ray.read.records import FORMATS, read_raws, records_of
from xner_ray.read.shapes.schema import class_names
from xner_ray.read.shapes.tools import OBJECTS
from xner_ray.read.units import Segment

TABLES = ("parquet", "dataset")
_ODD = Tagged(["void"], None, None, None)
_LISTS = pa.list_(pa.string())
_CONTINUES, _CLOSES = frozenset("IEL"), frozenset("ELSU")


class Source(NamedTuple):
    """Rows of one file as it has them: words, tags (None: no labels), names, carried columns."""

    lines: Ints  # rows or lines of the file
    tokens: pa.Array
    tags: pa.Array | None
    ids: list[str | None]
    docs: list[str | None]
    carried: dict[str, pa.Array]
    odd: NDArray[np.bool_]
    labels: Sequence[str] | None  # what tags that are numbers stand for
    records: Callable[[Ints], Iterator[Record]]  # of some of the rows, by their indices


def of_table(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> Source | None:
    """Read rows of a table, by their numbers in the segment; None if it does not have the shape."""
    schema, _ = table_schema(file, need_labels=False)
    id_, doc_id, tokens, tags = map(file.key, ("id", "doc_id", "tokens", "tags"))
    names = [name for name in schema.names if name in (id_, doc_id, tokens, tags)]
    if not _is_plain(file, schema):
        return None
    carried = [field.name for field in extra]
    table = read_columns(file, segment.place, segment.skip, segment.take, [*names, *carried])
    if table is None:
        return None
    if table.num_rows < segment.take:
        raise changed(file)
    table = table if len(at) == table.num_rows else table.take(at).combine_chunks()
    lines = segment.place.line + segment.skip + at
    class_labels = class_names(file, schema)

    def records(wanted: Ints) -> Iterator[Record]:
        for batch in table.select(names).take(wanted).combine_chunks().to_batches():
            for raw in table_raws(batch, lines[wanted].tolist(), class_labels):
                made = record(raw, file)
                refuse_characters(made)
                yield made

    return Source(
        lines,
        table.column(tokens).combine_chunks(),
        table.column(tags).combine_chunks() if tags in names else None,
        _names(table, id_),
        _names(table, doc_id),
        {name: table.column(name) for name in carried},
        np.zeros(len(at), bool),
        file.reading.names or class_labels.get(tags),
        records,
    )


def of_raws(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> Source:
    """Read rows of any other file, by their numbers in the segment."""
    found = list(islice(read_raws(file, segment.place, skip=segment.skip), segment.take))
    if len(found) < segment.take:
        raise changed(file)
    raws = found if len(at) == len(found) else [found[index] for index in at.tolist()]
    made = tagged_rows(raws, file, extra)
    assert made is not None, "only such formats are read by columns"
    return made[1]


def tagged_rows(
    raws: Sequence[Raw], file: File, extra: Sequence[pa.Field] = ()
) -> tuple[Sequence[Tagged], Source] | None:
    """Return words and tags of raw records, one by one and as columns; None if the format knows no quick way.

    Records of another kind are marked as odd.
    """
    tagged = FORMATS[file.format].tagged
    if tagged is None or file.sentences:
        return None
    rows = [tagged(raw, file) or _ODD for raw in raws]
    try:
        return rows, _source(raws, rows, file, extra)
    except UnicodeEncodeError:  # half a surrogate pair, which no table can hold
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
    return Source(
        np.array([raw.line for raw in raws], np.int64),
        pa.array([row.tokens for row in rows], _LISTS),
        pa.array([row.tags for row in rows], _LISTS),
        ids,
        docs,
        carried,
        np.array([row is _ODD for row in rows], bool),
        file.reading.names,
        lambda wanted: (made for index in wanted.tolist() for made in records_of(raws[index], file)),
    )


def _writable(row: Tagged) -> bool:
    return not SURROGATES.search("".join((*row.tokens, *(row.tags or ()), row.id or "", row.doc_id or "")))


def _is_plain(file: File, schema: pa.Schema) -> bool:
    """Return whether a file has tokens in lists of text, no text, spans or splits, and tags in lists if any."""
    keys = {ours: file.key(ours) for ours, _ in file.columns}
    types = {ours: schema.field(column).type for ours, column in keys.items() if column in schema.names}
    tags = types.get("tags", pa.list_(pa.string()))
    return (
        file.reading.shape in ("", OBJECTS)
        and types.keys().isdisjoint(("text", "spans", "split"))
        and types.get("tokens") == pa.list_(pa.string())
        and pa.types.is_list(tags)
        and (pa.types.is_string(tags.value_type) or pa.types.is_integer(tags.value_type))
    )


def _names(table: pa.Table, column: str) -> list[str | None]:
    if column not in table.column_names:
        return [None] * table.num_rows
    return [name_text(value, column) for value in table.column(column).to_pylist()]


class TagSpans(NamedTuple):
    """The spans of the tags of many rows, as flat arrays."""

    row: Ints
    start: Ints
    size: Ints
    label: Ints  # place in `labels`
    labels: list[str]
    wrong: NDArray[np.bool_]  # rows with a tag that is none
    repaired: Ints  # of each row: tags that open a span though they go on


def looked_at(source: Source, style: TagStyle, max_words: int) -> tuple[NDArray[np.bool_], TagSpans | None]:
    """Return the rows about which anything is odd, which are read from their records, and the spans of the others."""
    sizes, codes, distinct = encoded(source.tokens)
    odd = source.odd | (sizes < 1) | (sizes > max_words)
    if not sound(distinct) or refused("".join(distinct)):
        bad = np.array([not sound([word]) or refused(word) for word in distinct])
        odd |= any_of(bad[codes], sizes)
    odd |= _refused(source.ids) | _refused(source.docs)
    if source.tags is None:
        return odd, None
    found = tag_spans(source.tags, source.labels, style)
    tagged = source.tags.is_valid().to_numpy(zero_copy_only=False)
    return odd | found.wrong | (tagged & (lengths(source.tags) != sizes)), found


def encoded(lists: pa.Array) -> tuple[Ints, Ints, list[str]]:
    """Return the lists' lengths, a number for each word, and the words that the numbers stand for; null as ""."""
    values = lists.flatten().dictionary_encode(null_encoding="encode")
    return lengths(lists), values.indices.to_numpy(), [word or "" for word in values.dictionary.to_pylist()]


def any_of(mask: NDArray[np.bool_], sizes: Ints) -> NDArray[np.bool_]:
    """Return for each list of these sizes whether the mask is true for any of its elements."""
    return np.diff(offsets(mask)[offsets(sizes)]) > 0


def tag_spans(tags: pa.Array, names: Sequence[str] | None, style: TagStyle) -> TagSpans:
    """Return `spans.tags_to_spans` of every row; none for rows without tags.

    names: what tags that are numbers stand for. style: how the others are spelled.
    """
    values = tags.flatten().dictionary_encode(null_encoding="encode")
    parts = [_parsed(tag, names, style) for tag in values.dictionary.to_pylist()]
    codes, sizes = values.indices.to_numpy(), lengths(tags)
    known = sorted({label for _, label in parts if label})
    prefixes = np.array([prefix for prefix, _ in parts], str)
    label = np.array([known.index(label) if label else -1 for _, label in parts], np.int64)[codes]
    goes_on = np.isin(prefixes, list(_CONTINUES))[codes]
    stays_open = (~np.isin(prefixes, list(_CLOSES)))[codes] & (label >= 0)
    row, place, _ = flat(tags)
    continued = np.zeros(len(codes), dtype=bool)
    continued[1:] = goes_on[1:] & stays_open[:-1] & (label[1:] == label[:-1]) & (row[1:] == row[:-1])
    starts = np.flatnonzero((label >= 0) & ~continued)
    borders = np.append(np.flatnonzero(~continued), len(codes))
    ends = borders[np.searchsorted(borders, starts, side="right")]
    repaired = np.bincount(row[starts[goes_on[starts]]] if style.repairs else [], minlength=len(tags))
    wrong = any_of((prefixes == "")[codes], sizes)
    return TagSpans(row[starts], place[starts], ends - starts, label[starts], known, wrong, repaired)


def _parsed(tag: str | int | None, names: Sequence[str] | None, style: TagStyle) -> tuple[str, str]:
    """Return prefix and label of a tag; two empty strings if it is none, or its label could not be written out."""
    if isinstance(tag, int):
        tag = names[tag] if names is not None and 0 <= tag < len(names) else None
    try:
        prefix, label = split_tag(style.canonical(tag or ""))
    except ValueError:
        return "", ""
    return ("", "") if refused(label, name=True) else (prefix, label)


def _refused(names: Sequence[str | None]) -> NDArray[np.bool_]:
    if not refused("".join(filter(None, names)), name=True):
        return np.zeros(len(names), bool)
    return np.array([refused(name or "", name=True) for name in names])
