"""A unit -> its rows, as one Arrow table of `schema.row_schema`: every row of the unit, in order, none dropped.

A row that cannot be used is kept with status, reason and `<file>:<line>: what`. What is known of it is filled in.
Given links count words, so with them text that comes without words is cut at blanks, as aligners read it.
Spans of characters are taken to the words that they touch (flag `snapped` where that moved an edge); one over white
space alone rejects the row. Of spans that share words the longest is projected; the rest are listed in `unprojected`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data import words
from xner_ray.data.arrow import with_column
from xner_ray.data.links import Links
from xner_ray.data.row import OK, REJECTED, ROW, nested_losses, span_cells, table_from_rows
from xner_ray.data.spans import Span, outermost
from xner_ray.errors import Flag, InputError, Reason
from xner_ray.read.columns import Records, read_plain
from xner_ray.read.formats import iterate
from xner_ray.read.record import BadRecord, File, Record, record_id, short, without_surrogates
from xner_ray.read.text_formats import link_pairs
from xner_ray.read.units import Segment, Unit
from xner_ray.recipe.model import Labels, Recipe

_WHITE = re.compile(r"\s")
_NOT_BLANK = re.compile(r"[^ \t]+")


@dataclass(slots=True)
class ReadSide:
    """One side of a row."""

    text: str | None = None
    tokens: list[str] | None = None
    offsets: list[tuple[int, int]] | None = None
    spans: list[Span] | None = None  # sorted, those that share words too; None: unlabelled
    flags: list[str] = field(default_factory=list)
    reason: Reason | None = None
    detail: str = ""

    def reject(self, reason: Reason, detail: str) -> None:
        if self.reason is None:
            self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ReadPlan:
    """What every read needs besides its unit."""

    recipe: Recipe
    extra: Sequence[pa.Field] = ()  # Index.extra


def read_unit(unit: Unit, plan: ReadPlan) -> pa.Table:
    """Read the rows of a unit, by whole columns where its files allow it. InputError if a file has changed."""
    plain = read_plain(unit, plan.recipe, plan.extra)
    if plain is None:
        return read_rows(unit, plan)
    if not len(plain.odd):
        return plain.table
    redone, _ = _read(unit, plan.recipe, plain.own, plain.beside, plain.links)
    place = np.arange(plain.table.num_rows)
    place[plain.odd] = len(place) + np.arange(len(plain.odd))
    table = pa.concat_tables([plain.table.select(ROW.names), redone]).combine_chunks().take(place)
    for field_ in plan.extra:
        table = table.append_column(field_, plain.table.column(field_.name))
    return table


def read_rows(unit: Unit, plan: ReadPlan) -> pa.Table:
    """`read_unit`, row by row."""
    picked = set(unit.picked) if unit.picked is not None else None
    parts = (_records(part, picked) for part in (unit.segments, unit.parallel, unit.links))
    table, records = _read(unit, plan.recipe, *parts)
    for field_ in plan.extra:
        table = table.append_column(field_, _carried(records, field_))
    return table


def _read(
    unit: Unit, recipe: Recipe, records: Records, beside: Records, links: Records
) -> tuple[pa.Table, list[Record]]:
    """Read rows of a unit from their records: of the input, of what is parallel to it, of links."""
    train = recipe.direction == "train"
    owners = dict(unit.duplicates)
    rows: list[dict[str, Any]] = []
    carried: list[Record] = []
    linked: list[tuple[int, int, int]] = []  # place of the row, source word, target word

    def read(record: Record, file: File, *, source: bool) -> ReadSide:
        made = side(record, file, recipe.input.labels, recipe.input.max_words, at_blanks=bool(unit.links))
        if source and recipe.entities_given and made.spans is None:
            made.reject(Reason.MALFORMED, f"{file.name}:{record.line}: has no labels")
        return made

    for number, record, file in records:
        own = read(record, file, source=train)
        other = read(*_next(beside, number), source=not train) if unit.parallel else None
        if number in owners:
            detail = f"{file.name}:{record.line}: id {short(record.id)} stands in row {owners[number]} already"
            own.reject(Reason.DUPLICATE_ID, detail)
        row = {"row": number, "id": without_surrogates(record_id(record, file)), "doc_id": record.doc_id}
        row |= {"split": unit.split, "source_lang": recipe.source_side, "lang": unit.lang}
        row["doc_id"] = without_surrogates(record.doc_id) if record.doc_id is not None else None
        source, target = (own, other) if train else (other, own)
        if unit.links:
            linked += [(len(rows), *pair) for pair in _links(*_next(links, number), source, target)]
        rows.append(row | _cells(source, target, labelled=recipe.entities_given))
        carried.append(record)
    table = table_from_rows(rows, ROW)
    if unit.links:
        table = _with_links(table, linked)
    return table, carried


def _records(parts: Sequence[Segment], picked: set[int] | None) -> Records:
    for part in parts:
        for number, record in enumerate(iterate(part.file, part.place, part.skip, part.take), start=part.row):
            if picked is None or number in picked:
                yield number, record, part.file


def _next(records: Records, number: int) -> tuple[Record, File]:
    """The next record, which is that of the input row `number`."""
    found, record, file = next(records)
    if found != number:
        raise InputError(f"{file.path}: has changed since it was indexed; start again with --fresh")
    return record, file


def _links(record: Record, file: File, source: ReadSide | None, target: ReadSide | None) -> list[tuple[int, int]]:
    """The links of a row of which both sides are good; a row whose links are not is rejected and has none."""
    if source is None or target is None or source.reason is not None or target.reason is not None:
        return []
    try:
        return link_pairs(record, len(source.tokens or ()), len(target.tokens or ()))
    except BadRecord as bad:
        source.reject(bad.reason, f"{file.name}:{record.line}: {bad.detail}")
        return []


def _with_links(table: pa.Table, linked: Sequence[tuple[int, int, int]]) -> pa.Table:
    """The rows with their links; rejected rows have none, not even an empty list."""
    row, source, target = np.array(linked, dtype=np.int64).reshape(-1, 3).T
    links = Links.given(row, source, target).to_arrow(table.num_rows)
    column = pc.if_else(pc.equal(table.column("status"), OK), links, pa.scalar(None, links.type))
    return with_column(table, "links", column)


def _cells(source: ReadSide | None, target: ReadSide | None, *, labelled: bool) -> dict[str, Any]:
    cells: dict[str, Any] = {"flags": []}
    if source is not None:
        cells |= {"source_text": source.text, "source_tokens": source.tokens}
        cells["source_offsets"] = source.offsets  # Arrow takes pairs as cells too, 6 times as fast as dicts
        if labelled and source.spans is not None:
            cells["source_spans"] = span_cells(source.spans)
            cells["unprojected"] = nested_losses(source.spans)
            cells["flags"] += source.flags
    if target is not None:
        cells |= {"text": target.text, "tokens": target.tokens}
        cells["offsets"] = target.offsets
        if target.spans is not None:
            gold = outermost(target.spans)[0]
            cells["gold_spans"] = [{"start": s.start, "end": s.end, "label": s.label} for s in gold]
    for one in (source, target):
        if one is not None and one.reason is not None:
            cells |= {"status": REJECTED, "reason": str(one.reason), "detail": without_surrogates(one.detail)}
            break
    else:
        cells["status"] = OK
    return cells


def side(record: Record, file: File, labels: Labels, max_words: int, *, at_blanks: bool = False) -> ReadSide:
    """Text, words, offsets and mapped spans of one record, or why it has to be rejected.

    at_blanks: words that are not given are what stands between blanks and tabs, else what the language's rules say.
    """
    where = f"{file.name}:{record.line}: "
    made = ReadSide(record.text, record.tokens)
    if record.reason is not None:
        made.reject(record.reason, where + record.detail)
    if made.reason is not None:
        # A table cannot hold half a surrogate pair, whatever the row was rejected for.
        made.text = without_surrogates(made.text) if made.text is not None else None
        made.tokens = [without_surrogates(token) for token in made.tokens] if made.tokens is not None else None
    if made.tokens is None and made.text is not None and made.reason is None:
        whole = made.text
        made.offsets = [m.span() for m in _NOT_BLANK.finditer(whole)] if at_blanks else words.split(whole, file.lang)
        made.tokens = [made.text[start:end] for start, end in made.offsets]
    if made.tokens is None or made.reason is not None:
        return made
    if "" in made.tokens or _WHITE.search("".join(made.tokens)):
        bad = next(token for token in made.tokens if not token or _WHITE.search(token))
        made.reject(Reason.BAD_TOKEN, f"{where}white space in a word, or none at all: {short(bad)}")
        return made
    if not made.tokens:
        made.reject(Reason.EMPTY, f"{where}no word")
        return made
    if made.offsets is None:
        made.offsets = words.locate(made.tokens, made.text) if made.text is not None else None
        if made.offsets is None:
            if record.chars is not None:
                made.reject(Reason.MALFORMED, f"{where}the tokens are not those of the text that the spans refer to")
            made.text, made.offsets = words.join(made.tokens, file.lang)
    if len(made.tokens) > max_words:
        made.reject(Reason.TOO_LONG, f"{where}{len(made.tokens)} words; input.max_words is {max_words}")
    if record.labelled and made.reason in (None, Reason.TOO_LONG):
        try:
            spans = record.spans if record.chars is None else _snap(record.chars, made, labels)
            made.spans = _mapped(spans or [], labels)
        except BadRecord as bad:
            made.reject(bad.reason, where + bad.detail)
    return made


def _mapped(spans: Sequence[Span], labels: Labels) -> list[Span]:
    """The spans whose label is kept, under its new name, each once, sorted."""
    return sorted(set(labels.map(spans)))


def _snap(chars: Sequence[tuple[int, int, str]], made: ReadSide, labels: Labels) -> list[Span]:
    """Spans over words of those spans over characters whose label is kept: every word that one touches is in it.

    BadRecord for one that touches none.
    """
    spans = []
    text, offsets = made.text or "", made.offsets or []
    for start, end, label in chars:
        if not labels.map([Span(start, end, label)]):
            continue
        touched = [index for index, (first, last) in enumerate(offsets) if first < end and start < last]
        if not touched:
            raise BadRecord(Reason.BAD_SPAN, f"span {short([start, end, label])} covers white space and no word")
        inside = text[start:end]
        trimmed = (start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()))
        if trimmed != (offsets[touched[0]][0], offsets[touched[-1]][1]):
            made.flags.append(Flag.SNAPPED)
        spans.append(Span(touched[0], touched[-1] + 1, label))
    return spans


def _carried(records: Sequence[Record], field_: pa.Field) -> pa.ChunkedArray:
    """The cells of one of the user's columns, taken from the batches that the records came in."""
    if not any(isinstance(record.extra, tuple) for record in records):
        found = [
            record.extra.get(field_.name) if isinstance(record.extra, dict) else record.extra for record in records
        ]
        return pa.chunked_array([pa.array(found, field_.type)])
    chunks: list[pa.Array] = []
    at = 0
    while at < len(records):
        extra = records[at].extra
        assert isinstance(extra, tuple)
        batch, indices = extra[0], []
        while at < len(records) and isinstance(extra := records[at].extra, tuple) and extra[0] is batch:
            indices.append(extra[1])
            at += 1
        chunks.append(batch.column(field_.name).take(pa.array(indices, pa.int64())))
    return pa.chunked_array(chunks, field_.type)
