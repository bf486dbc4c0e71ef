"""A unit -> its rows, by Arrow and NumPy over whole columns: a tenth of the time of reading row by row.

For units of files in the shape words with tags, with whatever is parallel to them in that shape, and their links. Each
word is looked at once, and each pair of neighbours; only sentences with quotes or a dash have their text joined one by
one. A row about which anything is odd is marked, and `rows.py` reads it from its record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data import words
from xner_ray.data.arrow import Ints, lengths, nested, nested_structs, offsets
from xner_ray.data.links import Links
from xner_ray.data.row import OK, ROW, row_schema
from xner_ray.read.formats.lines import byte_lines
from xner_ray.read.formats.links import link_columns, link_record
from xner_ray.read.index.units import Segment, Unit
from xner_ray.read.record import File, Record
from xner_ray.read.stamps import changed, unchanged
from xner_ray.read.tagged import Source, TagSpans, any_of, encoded, looked_at
from xner_ray.recipe.input import Labels
from xner_ray.recipe.model import Recipe

Bools = NDArray[np.bool_]
SourceOf = Callable[[File, Segment, Ints, Sequence[pa.Field]], Source | None]
Records = Iterator[tuple[int, Record, File]]  # with their input rows


@dataclass(frozen=True, slots=True)
class Plain:
    """The rows of a unit by whole columns, and the records of the odd ones, of which only the carried cells count."""

    table: pa.Table
    odd: Ints  # indices
    own: Records
    beside: Records
    links: Records


class _Part(NamedTuple):
    """Rows of one file: which of them are odd, their records, and what comes of the others."""

    file: File
    rows: Ints  # input rows
    odd: Bools
    records: Callable[[Ints], Iterator[Record]]
    columns: pa.Table  # id, doc_id, text, tokens, offsets, spans (null: unlabelled), then those that are carried


def read_plain(unit: Unit, recipe: Recipe, extra: Sequence[pa.Field], source_of: SourceOf) -> Plain | None:
    """Read a unit by whole columns; None if its files do not have the shape. InputError if one has changed.

    extra: the user's columns that are carried through. source_of: reads rows of a segment, by their numbers in it.
    """
    rows = np.arange(unit.start, unit.stop) if unit.picked is None else np.array(unit.picked)
    own = _parts(unit.segments, rows, recipe, extra, source_of)
    beside = _parts(unit.parallel, rows, recipe, (), source_of) if own is not None else None
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
    schema = row_schema(extra, images=recipe.with_images)
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


def _parts(
    segments: Sequence[Segment], rows: Ints, recipe: Recipe, extra: Sequence[pa.Field], source_of: SourceOf
) -> list[_Part] | None:
    """Read all segments; None if one of them does not have the shape."""
    parts = []
    for segment in segments:
        part = _part(segment, rows, recipe, extra, source_of)
        if part is None:
            return None
        parts.append(part)
    return parts


def _part(segment: Segment, rows: Ints, recipe: Recipe, extra: Sequence[pa.Field], source_of: SourceOf) -> _Part | None:
    """Read those rows of a segment that are among `rows`; None if its file does not have the shape."""
    file = unchanged(segment.file)
    at = np.flatnonzero(np.isin(np.arange(segment.row, segment.row + segment.take), rows))
    source = source_of(file, segment, at, extra)
    if source is None:
        return None
    tokens = source.tokens
    odd, found = looked_at(source, file.reading.style, recipe.input.max_words)
    spans = pa.nulls(len(at), ROW.field("gold_spans").type)
    if source.tags is not None and found is not None:
        spans = _spans(found, len(at), recipe.input.labels)
        if source.tags.null_count:
            spans = pc.if_else(source.tags.is_valid(), spans, pa.scalar(None, spans.type))
    if odd.any():
        tokens = pc.if_else(pa.array(odd), pa.scalar(["void"], tokens.type), tokens)
    sizes, codes, distinct = encoded(tokens)
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
    others = any_of(around[codes], sizes)
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


def _spans(found: TagSpans, n_rows: int, labels: Labels) -> pa.Array:
    """Return the spans of every row with the labels that are kept."""
    renamed = [labels.rename.get(name, name) for name in found.labels]
    kept = np.array([labels.keep is None or name in labels.keep for name in renamed], dtype=bool)[found.label]
    row, start, size = found.row[kept], found.start[kept], found.size[kept]
    cells = {
        "start": start,
        "end": start + size,
        "label": pa.array(renamed, pa.string()).take(pa.array(found.label[kept])),
    }
    return nested_structs(np.bincount(row, minlength=n_rows), cells, ROW.field("gold_spans").type)


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
