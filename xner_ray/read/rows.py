"""A unit -> its rows, as one Arrow table of `row_schema`: every row of the unit, in order, none dropped.

A row that cannot be used is kept with status, reason and `<file>:<line>: problem`, and with all that is known of it.
Of spans that share words the longest is projected; the others go to `unprojected`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import with_column
from xner_ray.data.links import Links
from xner_ray.data.row import OK, REJECTED, nested_losses, row_schema, span_cells
from xner_ray.data.spans import outermost
from xner_ray.errors import Flag, Reason
from xner_ray.read.columns import Records, read_plain
from xner_ray.read.formats.links import link_pairs
from xner_ray.read.index.units import Segment, Unit
from xner_ray.read.inputs import input_of, reference
from xner_ray.read.record import BadRecord, File, Record, record_id, short, without_surrogates
from xner_ray.read.records import DOCUMENT_START, collector_paused, iterate
from xner_ray.read.side import ReadSide, side
from xner_ray.read.sources import source_of
from xner_ray.read.stamps import changed
from xner_ray.recipe.model import Recipe


@dataclass(frozen=True)
class ReadPlan:
    """What the reading of every unit needs besides the unit."""

    recipe: Recipe
    extra: Sequence[pa.Field] = ()  # Index.extra
    shared: Mapping[str, str] = field(default_factory=dict)  # `inputs.shared_folders`


def read_unit(unit: Unit, plan: ReadPlan) -> pa.Table:
    """Read the rows of a unit, by whole columns where its files allow it. InputError if a file has changed."""
    with collector_paused():
        return _read_unit(unit, plan)


def _read_unit(unit: Unit, plan: ReadPlan) -> pa.Table:
    plain = read_plain(unit, plan.recipe, plan.extra, source_of)
    if plain is None:
        return read_rows(unit, plan)
    if not len(plain.odd):
        return plain.table
    redone, _ = _read(unit, plan, plain.own, plain.beside, plain.links)
    place = np.arange(plain.table.num_rows)
    place[plain.odd] = len(place) + np.arange(len(plain.odd))
    table = pa.concat_tables([plain.table.select(redone.schema.names), redone]).combine_chunks().take(place)
    for column in plan.extra:
        table = table.append_column(column, plain.table.column(column.name))
    return table


def read_rows(unit: Unit, plan: ReadPlan) -> pa.Table:
    """Read the rows of a unit one by one, from files of any format. InputError if a file has changed."""
    picked = set(unit.picked) if unit.picked is not None else None
    parts = (_records(part, picked) for part in (unit.segments, unit.parallel, unit.links))
    table, records = _read(unit, plan, *parts)
    starts = plan.recipe.input.split is not None  # no file has such a column of its own then
    for column in plan.extra:
        own = starts and column.name == DOCUMENT_START.name
        cells = pa.array([record.start for record in records], column.type) if own else _carried(records, column)
        table = table.append_column(column, cells)
    return table


def _records(parts: Sequence[Segment], picked: set[int] | None) -> Records:
    for part in parts:
        for number, record in enumerate(iterate(part.file, part.place, part.skip, part.take), start=part.row):
            if picked is None or number in picked:
                yield number, record, part.file


def _read(
    unit: Unit, plan: ReadPlan, records: Records, beside: Records, links: Records
) -> tuple[pa.Table, list[Record]]:
    """Return rows of a unit, and their records of the input.

    records: of the input. beside: of the parallel text. links: of the given links. All are of the same rows.
    """
    recipe = plan.recipe
    train = recipe.direction == "train"
    schema = row_schema(images=recipe.with_images)
    owners = dict(unit.duplicates)
    numbers: list[int] = []
    ids: list[str] = []
    sides: tuple[list[ReadSide], list[ReadSide]] = [], []  # of the input, and of what is parallel to it
    carried: list[Record] = []
    pictures: list[str | None] = []
    shared = input_of(plan.shared, unit.lang) if plan.shared else None
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
            detail = f"{file.name}:{record.line}: row {owners[number]} already has the id {short(record.id)}"
            own.reject(Reason.DUPLICATE_ID, detail)
        source, target = (own, other) if train else (other, own)
        if unit.links and source and target:
            linked += [(len(ids), *pair) for pair in _links(*_next(links, number), source, target)]
        numbers.append(number)
        ids.append(without_surrogates(record_id(record, file)))
        sides[0].append(own)
        if other is not None:
            sides[1].append(other)
        carried.append(record)
        pictures.append(reference(record.image, file, shared))
    docs = [None if record.doc_id is None else without_surrogates(record.doc_id) for record in carried]
    same = {"split": unit.split, "source_lang": recipe.source_side, "lang": unit.lang}
    columns = {name: pa.repeat(pa.scalar(value, schema.field(name).type), len(ids)) for name, value in same.items()}
    columns |= {"row": numbers, "id": ids, "doc_id": docs, "image": pictures}
    columns |= _columns(*(sides if train else sides[::-1]), labelled=recipe.entities_given)
    arrays = [
        pa.array(columns[one.name], one.type) if one.name in columns else pa.nulls(len(ids), one.type) for one in schema
    ]
    table = pa.table(arrays, schema=schema)
    if unit.links:
        cells = Links.given(*np.array(linked, dtype=np.int64).reshape(-1, 3).T).to_arrow(len(ids))
        accepted = pc.equal(table.column("status"), OK)
        table = with_column(table, "links", pc.if_else(accepted, cells, pa.scalar(None, cells.type)))
    return table, carried


def _next(records: Records, number: int) -> tuple[Record, File]:
    """Return the next record, which must be of the input row `number`."""
    found, record, file = next(records)
    if found != number:
        raise changed(file)
    return record, file


def _links(record: Record, file: File, source: ReadSide, target: ReadSide) -> list[tuple[int, int]]:
    """Return the links of a row whose sides are both good; bad links reject the row, which then has none."""
    if source.reason is not None or target.reason is not None:
        return []
    own, other = (one.places or [range(at, at + 1) for at in range(len(one.tokens or ()))] for one in (source, target))
    try:
        pairs = link_pairs(record, len(own), len(other))
        return [(i, j) for one, another in pairs for i in own[one] for j in other[another]]
    except BadRecord as bad:
        source.reject(bad.reason, f"{file.name}:{record.line}: {bad.detail}")
        return []


def _columns(source: Sequence[ReadSide], target: Sequence[ReadSide], *, labelled: bool) -> dict[str, Any]:
    """Return the columns that come from the sides; one of them may be empty. labelled: the source has the entities."""
    columns: dict[str, Any] = {}
    rows = list(zip_longest(source, target))
    flags = [[*dict.fromkeys((*(one.flags if one else ()), *(other.flags if other else ())))] for one, other in rows]
    if source:
        columns["source_text"] = [one.text for one in source]
        columns["source_tokens"] = [one.tokens for one in source]
        columns["source_offsets"] = [one.offsets for one in source]  # pairs are 6 times as fast as dicts
    if source and labelled:
        given = [one.spans for one in source]
        columns["source_spans"] = [None if spans is None else span_cells(spans) for spans in given]
        columns["unprojected"] = [None if spans is None else nested_losses(spans) for spans in given]
        flags = [flags + [Flag.SNAPPED] * one.snapped for flags, one in zip(flags, source, strict=True)]
    if target:
        columns["text"] = [one.text for one in target]
        columns["tokens"] = [one.tokens for one in target]
        columns["offsets"] = [one.offsets for one in target]
        columns["gold_spans"] = [None if one.spans is None else span_cells(outermost(one.spans)[0]) for one in target]
    lost = [one if one and one.reason else other if other and other.reason else None for one, other in rows]
    columns["flags"], columns["status"] = flags, [REJECTED if one else OK for one in lost]
    columns["reason"] = [str(one.reason) if one else None for one in lost]
    columns["detail"] = [one.detail if one else None for one in lost]
    return columns


def _carried(records: Sequence[Record], column: pa.Field) -> pa.ChunkedArray:
    """Return the cells of one of the user's columns; those of tables come from the batches that hold the records."""
    places = [record.extra for record in records if isinstance(record.extra, tuple)]
    if not places:
        extras = [record.extra for record in records]
        cells = [extra.get(column.name) if isinstance(extra, dict) else extra for extra in extras]
        return pa.chunked_array([pa.array(cells, column.type)])
    chunks = []
    for _, same in groupby(places, key=lambda place: id(place[0])):
        batches, indices = zip(*same, strict=True)
        chunks.append(batches[0].column(column.name).take(pa.array(indices)))
    return pa.chunked_array(chunks, column.type)
