"""A unit -> its rows, by Arrow and NumPy over whole columns: a tenth of the time of reading row by row.

For units of files in the shape words with tags, with whatever is parallel to them in that shape, and their links. Each
word is looked at once, and each pair of neighbours; only sentences with quotes or a dash have their text joined one by
one. A row about which anything is odd is marked, and `rows.py` reads it from its record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data import words
from xner_ray.data.arrow import Ints, flat, lengths, nested, nested_structs, offsets
from xner_ray.data.links import Links
from xner_ray.data.row import OK, ROW, row_schema
from xner_ray.data.spans import TagStyle, split_tag
from xner_ray.read.find import changed, unchanged
from xner_ray.read.format import Tagged
from xner_ray.read.formats.lines import byte_lines
from xner_ray.read.formats.links import link_columns, link_record
from xner_ray.read.formats.tables import read_columns, record, table_raws, table_schema
from xner_ray.read.record import REFUSED, File, Record, name_text, refuse_characters, refused
from xner_ray.read.records import FORMATS, read_raws, records_of
from xner_ray.read.shapes.schema import class_names
from xner_ray.read.shapes.tools import OBJECTS
from xner_ray.read.units import Segment, Unit
from xner_ray.recipe.input import Labels
from xner_ray.recipe.model import Recipe

Bools = NDArray[np.bool_]
Records = Iterator[tuple[int, Record, File]]  # with their input rows

_TABLES = ("parquet", "dataset")
_ODD = Tagged(["void"], None, None, None)
_BREAKS = re.compile(rf"\s|{REFUSED.pattern}")  # no word holds one
_CONTINUES, _CLOSES = frozenset("IEL"), frozenset("ELSU")


@dataclass(frozen=True, slots=True)
class Plain:
    """The rows of a unit by whole columns, and the records of the odd ones, of which only the carried cells count."""

    table: pa.Table
    odd: Ints  # indices
    own: Records
    beside: Records
    links: Records


class _Source(NamedTuple):
    """Rows of one file as it has them: words, tags (None: no labels), names, carried columns."""

    lines: Ints  # rows or lines of the file
    tokens: pa.Array
    tags: pa.Array | None
    ids: list[str | None]
    docs: list[str | None]
    carried: dict[str, pa.Array]
    odd: Bools
    labels: Sequence[str] | None  # what tags that are numbers stand for
    records: Callable[[Ints], Iterator[Record]]  # of some of the rows, by their indices


class _Part(NamedTuple):
    """Rows of one file: which of them are odd, their records, and what comes of the others."""

    file: File
    rows: Ints  # input rows
    odd: Bools
    records: Callable[[Ints], Iterator[Record]]
    columns: pa.Table  # id, doc_id, text, tokens, offsets, spans (null: unlabelled), then those that are carried


def read_plain(unit: Unit, recipe: Recipe, extra: Sequence[pa.Field]) -> Plain | None:
    """Read a unit by whole columns; None if its files do not have the shape. InputError if one has changed.

    extra: the user's columns that are carried through.
    """
    files = [segment.file for segment in (*unit.segments, *unit.parallel)]
    if any(file.sentences or not (file.format in _TABLES or FORMATS[file.format].tagged) for file in files):
        return None
    rows = np.arange(unit.start, unit.stop) if unit.picked is None else np.array(unit.picked)
    own, beside = _parts(unit.segments, rows, recipe, extra), _parts(unit.parallel, rows, recipe, ())
    if own is None or beside is None:
        return None
    odd = np.isin(rows, [row for row, _ in unit.duplicates])
    odd |= np.concatenate([part.odd for part in own])
    odd |= np.concatenate([part.odd for part in beside]) if beside else False
    mine = pa.concat_tables([part.columns for part in own])
    other = pa.concat_tables([part.columns for part in beside]) if beside else None
    source, target = (mine, other) if recipe.direction == "train" else (other, mine)
    same = {"split": unit.split, "source_lang": recipe.source_side, "lang": unit.lang, "status": OK}
    columns = {name: pa.repeat(pa.scalar(value, ROW.field(name).type), len(rows)) for name, value in same.items()}
    columns |= {"row": pa.array(rows), "flags": _empty("flags", len(rows))}
    columns |= {name: mine.column(name) for name in ("id", "doc_id", *(field.name for field in extra))}
    if source is not None:
        columns |= {f"source_{name}": source.column(name) for name in ("text", "tokens", "offsets")}
        if recipe.entities_given:
            spans = source.column("spans").combine_chunks()
            odd |= spans.is_null().to_numpy(zero_copy_only=False)
            columns |= {"source_spans": _scored(spans), "unprojected": _empty("unprojected", len(rows))}
    if target is not None:
        columns |= {name: target.column(name) for name in ("text", "tokens", "offsets")}
        columns["gold_spans"] = target.column("spans")
    lines = [line for segment in unit.links for line in _lines(segment, rows)]
    if lines:
        n_source, n_target = lengths(columns["source_tokens"]), lengths(columns["tokens"])
        columns["links"] = _links([raw for _, _, raw, _ in lines], n_source, n_target, odd)
    schema = row_schema(extra)
    arrays = [columns[field.name] if field.name in columns else pa.nulls(len(rows), field.type) for field in schema]
    table = pa.table(arrays, schema=schema).combine_chunks()
    numbers = np.flatnonzero(odd)
    wanted = set(rows[numbers].tolist())
    links = ((row, link_record(line, raw), file) for row, line, raw, file in lines if row in wanted)
    return Plain(table, numbers, _records(own, rows[odd]), _records(beside, rows[odd]), links)


def _empty(name: str, n_rows: int) -> pa.Array:
    kind = ROW.field(name).type
    return nested(np.zeros(n_rows, np.int64), pa.array([], kind.value_type), kind)


def _records(parts: Sequence[_Part], rows: Ints) -> Records:
    """Yield the records of some of the rows, as `records.read_records` does."""
    for part in parts:
        at = np.flatnonzero(np.isin(part.rows, rows))
        for row, made in zip(part.rows[at].tolist(), part.records(at), strict=True):
            yield row, made, part.file


def _parts(segments: Sequence[Segment], rows: Ints, recipe: Recipe, extra: Sequence[pa.Field]) -> list[_Part] | None:
    """Read all segments; None if one of them does not have the shape."""
    parts = []
    for segment in segments:
        part = _part(segment, rows, recipe, extra)
        if part is None:
            return None
        parts.append(part)
    return parts


def _part(segment: Segment, rows: Ints, recipe: Recipe, extra: Sequence[pa.Field]) -> _Part | None:
    """Read those rows of a segment that are among `rows`; None if its file does not have the shape."""
    file = unchanged(segment.file)
    at = np.flatnonzero(np.isin(np.arange(segment.row, segment.row + segment.take), rows))
    source = (_of_table if file.format in _TABLES else _of_raws)(file, segment, at, extra)
    if source is None:
        return None
    tokens = source.tokens
    sizes, codes, distinct = _encoded(tokens)
    odd = source.odd | (sizes < 1) | (sizes > recipe.input.max_words)
    if "" in distinct or _BREAKS.search("".join(distinct)):
        bad = np.array([not word or _BREAKS.search(word) is not None for word in distinct])
        odd |= _any(bad[codes], sizes)
    spans = pa.nulls(len(at), ROW.field("gold_spans").type)
    if source.tags is not None:
        spans, wrong = _spans(source.tags, source.labels, file.reading.style, recipe.input.labels)
        tagged = source.tags.is_valid().to_numpy(zero_copy_only=False)
        odd |= wrong | (tagged & (lengths(source.tags) != sizes))
    odd |= _refused(source.ids) | _refused(source.docs)
    if odd.any():
        tokens = pc.if_else(pa.array(odd), pa.scalar(["void"], tokens.type), tokens)
        sizes, codes, distinct = _encoded(tokens)
    text, places = _joined(tokens, sizes, codes, distinct, file.lang)
    ids = [name or f"{file.name}:{line}" for name, line in zip(source.ids, source.lines.tolist(), strict=True)]
    columns = {
        "id": pa.array(ids, pa.string()),
        "doc_id": pa.array(source.docs, pa.string()),
        "text": text,
        "tokens": tokens,
        "offsets": places,
        "spans": spans,
        **source.carried,
    }
    return _Part(file, segment.row + at, odd, source.records, pa.table(columns))


def _of_table(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> _Source | None:
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

    return _Source(
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


def _of_raws(file: File, segment: Segment, at: Ints, extra: Sequence[pa.Field]) -> _Source:
    """Read rows of any other file, by their numbers in the segment."""
    found = list(islice(read_raws(file, segment.place, skip=segment.skip), segment.take))
    if len(found) < segment.take:
        raise changed(file)
    raws = found if len(at) == len(found) else [found[index] for index in at.tolist()]
    tagged = FORMATS[file.format].tagged
    assert tagged is not None, "only such formats are read by columns"
    rows = [tagged(raw, file) or _ODD for raw in raws]
    carried = {}
    for column in extra:
        cells = [row.extra.get(column.name) if isinstance(row.extra, dict) else row.extra for row in rows]
        carried[column.name] = pa.array(cells, column.type)
    kind = pa.list_(pa.string())
    return _Source(
        np.array([raw.line for raw in raws], np.int64),
        pa.array([row.tokens for row in rows], kind),
        pa.array([row.tags for row in rows], kind),
        [row.id for row in rows],
        [row.doc_id for row in rows],
        carried,
        np.array([row is _ODD for row in rows], bool),
        file.reading.names,
        lambda wanted: (made for index in wanted.tolist() for made in records_of(raws[index], file)),
    )


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


def _encoded(lists: pa.Array) -> tuple[Ints, Ints, list[str]]:
    """Return the lists' lengths, a number for each word, and the words that the numbers stand for; null as ""."""
    encoded = lists.flatten().dictionary_encode(null_encoding="encode")
    return lengths(lists), encoded.indices.to_numpy(), [word or "" for word in encoded.dictionary.to_pylist()]


def _any(mask: Bools, sizes: Ints) -> Bools:
    """Return for each list of these sizes whether the mask is true for any of its elements."""
    return np.diff(offsets(mask)[offsets(sizes)]) > 0


def _names(table: pa.Table, column: str) -> list[str | None]:
    if column not in table.column_names:
        return [None] * table.num_rows
    return [name_text(value, column) for value in table.column(column).to_pylist()]


def _refused(names: Sequence[str | None]) -> Bools:
    if not refused("".join(filter(None, names)), name=True):
        return np.zeros(len(names), bool)
    return np.array([refused(name or "", name=True) for name in names])


def _joined(tokens: pa.Array, sizes: Ints, codes: Ints, distinct: list[str], lang: str) -> tuple[pa.Array, pa.Array]:
    """Return `words.join` of every row: the texts, and the offsets of their words.

    codes: for each word its place in `distinct`. As an example the rows [L', Union, ","] and [Bo] in French:

        words    L'    Union  ,    | Bo
        gap      ""    ""     ""   | ""         before the word; `_gaps`
        length   2     5      1    | 2
        ends     2     7      8    | 10         sums of gaps and lengths, over all rows
        begins   0     2      7    | 8          ends - length,
        begins   0     2      7    | 0          and in the row: minus that of the row's first word
    """
    first = offsets(sizes)[:-1]
    around = np.array([words.looks_around(word) for word in distinct])
    others = _any(around[codes], sizes)
    kinds, gap = _gaps(codes, distinct, first, np.repeat(~others, sizes), lang)
    before = pa.array(kinds).take(pa.array(gap))
    spaced = pc.binary_join_element_wise(before, tokens.flatten(), "")
    text = pc.binary_join(nested(sizes, spaced), "")
    length = np.array([len(word) for word in distinct])[codes]
    begins = np.cumsum(length + np.array([len(kind) for kind in kinds])[gap]) - length
    begins -= np.repeat(begins[first], sizes)
    if others.any():
        rows = pa.array(np.flatnonzero(others))
        joined = [words.join(cells, lang) for cells in tokens.take(rows).to_pylist()]
        begins[np.repeat(others, sizes)] = [start for _, places in joined for start, _ in places]
        text = pc.replace_with_mask(text, others, pa.array([one for one, _ in joined], pa.string()))
    return text, nested_structs(sizes, {"start": begins, "end": begins + length}, ROW.field("offsets").type)


def _gaps(codes: Ints, distinct: Sequence[str], first: Ints, wanted: Bools, lang: str) -> tuple[list[str], Ints]:
    """Return the gaps that there are, and for each word the number of the gap before it.

    A gap depends on its two neighbours alone (unless one `looks_around`), so each pair is looked at once; between two
    plain words there is a space, if the language has any. first: the first word of each row, before which nothing is.
    wanted: the words whose gaps count.
    """
    plain = np.array([word.isalnum() for word in distinct]) & words.spaced(lang)
    left = np.roll(codes, 1)
    asked = wanted & ~(plain[left] & plain[codes])
    asked[first] = False
    pairs, which = np.unique(left[asked].astype(np.int64) * len(distinct) + codes[asked], return_inverse=True)
    both = zip(*(side.tolist() for side in np.divmod(pairs, len(distinct))), strict=True)
    found = [words.gap(distinct[one], distinct[other], lang) for one, other in both]
    kinds = ["", " ", *sorted({*found} - {"", " "})]
    gap = np.ones(len(codes), dtype=np.int64)
    gap[first] = 0
    gap[asked] = np.array([kinds.index(one) for one in found], dtype=np.int64)[which]
    return kinds, gap


def _spans(tags: pa.Array, names: Sequence[str] | None, style: TagStyle, labels: Labels) -> tuple[pa.Array, Bools]:
    """Return `spans.tags_to_spans` of every row with the labels that are kept, and the rows with a tag that is none.

    names: what tags that are numbers stand for. style: how the others are spelled. Rows without tags are null.
    """
    encoded = tags.flatten().dictionary_encode(null_encoding="encode")
    parts = [_parsed(tag, names, style) for tag in encoded.dictionary.to_pylist()]
    codes, sizes = encoded.indices.to_numpy(), lengths(tags)
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
    renamed = [labels.rename.get(name, name) for name in known]
    kept = np.array([labels.keep is None or name in labels.keep for name in renamed], dtype=bool)[label[starts]]
    starts, size = starts[kept], (ends - starts)[kept]
    cells = {
        "start": place[starts],
        "end": place[starts] + size,
        "label": pa.array(renamed, pa.string()).take(pa.array(label[starts])),
    }
    kind, n_spans = ROW.field("gold_spans").type, np.bincount(row[starts], minlength=len(tags))
    spans = nested_structs(n_spans, cells, kind)
    if tags.null_count:
        spans = pc.if_else(tags.is_valid(), spans, pa.scalar(None, kind))
    return spans, _any((prefixes == "")[codes], sizes)


def _parsed(tag: str | int | None, names: Sequence[str] | None, style: TagStyle) -> tuple[str, str]:
    """Return prefix and label of a tag; two empty strings if it is none, or its label could not be written out."""
    if isinstance(tag, int):
        tag = names[tag] if names is not None and 0 <= tag < len(names) else None
    try:
        prefix, label = split_tag(style.canonical(tag or ""))
    except ValueError:
        return "", ""
    return ("", "") if refused(label, name=True) else (prefix, label)


def _scored(spans: pa.Array) -> pa.Array:
    """Return given spans as cells of `source_spans`."""
    cells = spans.flatten()
    columns = {name: cells.field(name) for name in ("start", "end", "label")}
    return nested_structs(lengths(spans), {**columns, "score": np.ones(len(cells))}, ROW.field("source_spans").type)


def _lines(segment: Segment, rows: Ints) -> list[tuple[int, int, bytes, File]]:
    """Return (input row, line number, line, file) of the lines of links that belong to `rows`."""
    file, wanted = unchanged(segment.file), set(rows.tolist())
    lines = islice(byte_lines(file, segment.place.offset), segment.skip, segment.skip + segment.take)
    first = segment.place.line + segment.skip + 1
    found = [(segment.row + at, first + at, raw, file) for at, (_, raw) in enumerate(lines)]
    if len(found) < segment.take:
        raise changed(file)
    return [line for line in found if line[0] in wanted]


def _links(lines: Sequence[bytes], n_source: Ints, n_target: Ints, odd: Bools) -> pa.Array:
    """Return the column of links, and mark the rows whose line is none or leaves the words; odd rows have no links."""
    row, source, target, bad = link_columns(lines)
    odd |= bad
    odd[row[(source >= n_source[row]) | (target >= n_target[row])]] = True
    good = ~odd[row]
    return Links.given(row[good], source[good], target[good]).to_arrow(len(lines))
