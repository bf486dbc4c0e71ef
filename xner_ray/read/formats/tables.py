"""Formats of tables: Parquet files, Arrow streams of dataset folders, and runs of our own.

The schema is checked before any value is read: extension types are refused, missing columns and wrong types are
errors of the file. Rows come in small batches; the user's other columns stay Arrow all the way, so timestamps and
decimals keep their types.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.data.row import IMAGES, refuse_collisions, refuse_extension_types, row_schema
from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Evidence, Format, NoEvidence
from xner_ray.read.mapping import from_mapping
from xner_ray.read.record import BadRecord, Embedded, File, Place, Raw, Record, name_text, short, split_name
from xner_ray.read.shapes.evidence import ObjectEvidence
from xner_ray.read.shapes.schema import (
    candidates,
    check_types,
    class_names,
    consumed,
    embedded,
    holds_text,
    is_nested,
    need,
)
from xner_ray.storage import files as storage

_OF_RUN = row_schema(images=True)
_BATCH_ROWS = 1024
_IPC_FILE_MAGIC = b"ARROW1"
_END_OF_STREAM_BYTES = (4, 8)  # of the marker, before Arrow 0.15 and since; a message is longer


@contextmanager
def _opened(file: File) -> Iterator[pa.NativeFile]:
    """Open the file as a seekable stream; InputError, with the file's name, if pyarrow cannot read it."""
    filesystem, inner = storage.locate(file.path)
    try:
        with filesystem.open_input_file(inner) as stream:
            yield stream
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        kind = "Arrow stream" if file.ends_with(".arrow") else "Parquet"
        raise storage.failure(file.path, f"read as {kind}", error, InputError) from None


def table_schema(file: File, *, need_labels: bool) -> tuple[pa.Schema, list[pa.Field]]:
    """Return the file's schema, and the fields that are only carried through.

    InputError for extension types, names that collide with ours, or columns that are missing or of another type.
    """
    with _opened(file) as stream:
        try:
            schema = _arrow_schema(stream) if file.ends_with(".arrow") else pq.ParquetFile(stream).schema_arrow
            _ = schema.names  # raises for one that is not UTF-8
        except ValueError as error:  # as an extension type of Ray's may, which refuses its own metadata
            raise pa.ArrowInvalid(str(error)) from None
    refuse_extension_types(schema, file.path)
    if len(set(schema.names)) < len(schema.names):
        raise InputError(f"{file.path}: two columns have the same name; columns: {', '.join(schema.names)}")
    of_run = {*_OF_RUN.names} - ({*IMAGES.names} if not {*IMAGES.names} <= {*schema.names} else set())
    own = {*consumed(file), *(of_run if file.format == "run" else ())}
    extra = [pa.field(field.name, field.type) for field in schema if file.carried and field.name not in own]
    if file.carried and file.carry is not None:
        need(file, schema, [name for name in file.carry if name not in schema.names])
        extra = [field for field in extra if field.name in file.carry]
    if file.format == "run":
        need(file, schema, [name for name in consumed(file) if name not in schema.names])
        for name in consumed(file):
            if schema.field(name).type != _OF_RUN.field(name).type:
                kinds = f"{schema.field(name).type}; in a run it is {_OF_RUN.field(name).type}"
                raise InputError(f"{file.path}: column {name!r} has the type {kinds}")
        return schema, extra
    if {"row", "source_lang", "source_spans", "spans", "unprojected", "ner_tags"} <= set(schema.names):
        raise InputError(f"{file.path}: has the columns of an xner_ray run; set input.format: run")
    if file.carried:
        refuse_collisions([field.name for field in extra], file.path, images=file.columns.image is not None)
    found = {*consumed(file), *candidates(file, schema)} & set(schema.names)
    tokens, text, tags, spans = map(file.key, ("tokens", "text", "tags", "spans"))
    if not found & {tokens, text} and not any(holds_text(name, schema.field(name).type) for name in found):
        need(file, schema, [f"{tokens} (or {text})"])
    if need_labels and not any(name in (tags, spans) or is_nested(schema.field(name).type) for name in found):
        need(file, schema, [f"{tags} (or {spans})"])
    check_types(file, schema)
    return schema, extra


def raws(file: File, start: Place, stop: int | None = None, *, skip: int = 0, extra: bool = True) -> Iterator[Raw]:
    """Yield the rows from a place on, after `skip` rows of it; without `extra` no carried column is read."""
    schema, carried = table_schema(file, need_labels=False)
    wanted = [name for name in schema.names if name in (*consumed(file), *candidates(file, schema))]
    names = class_names(file, schema)
    row = start.line
    with _opened(file) as stream:
        columns = list(dict.fromkeys([*wanted, *(field.name for field in carried)])) if extra else wanted
        batches = _arrow_batches(stream, start.offset, columns) if file.ends_with(".arrow") else None
        picture = _embedded(file, schema)
        leaves = [f"{name}.path" if name == picture else name for name in columns]  # and not the pictures themselves
        for place, batch in batches or _parquet_batches(stream, start.offset, leaves):
            if stop is not None and place is not None and place >= stop:
                return
            if skip >= batch.num_rows:
                skip, row = skip - batch.num_rows, row + batch.num_rows
                continue
            rest = batch.select([field.name for field in carried]) if extra and carried else None
            lines = range(row + skip, row + batch.num_rows)
            found = table_raws(_without_bytes(batch.select(wanted), picture).slice(skip), lines, names)
            for index, raw in enumerate(found, start=skip):
                if rest is not None:
                    raw.extra = (rest, index)
                if picture is not None and raw.data[picture] is not None:
                    raw.data[picture] = Embedded(raw.line)
                if place is not None and index == 0:
                    raw.place = Place(place, row)
                yield raw
            row += batch.num_rows
            skip = 0


def _embedded(file: File, schema: pa.Schema) -> str | None:
    """Return the name of the column that holds pictures themselves, if the file has one."""
    name = "" if file.columns.image is None or file.format == "run" else file.key("image")
    return name if name in schema.names and embedded(schema.field(name).type) else None


def _without_bytes(batch: pa.RecordBatch, picture: str | None) -> pa.RecordBatch:
    """Return a batch in which pictures are null or not, and no more."""
    if picture is None:
        return batch
    there = batch.column(picture).is_valid()
    return batch.set_column(
        batch.schema.get_field_index(picture), picture, pc.if_else(there, True, pa.scalar(None, pa.bool_()))
    )


def batches(file: File, start: Place) -> Iterator[tuple[Place | None, int, pa.RecordBatch]]:
    """Yield (place if reading can start there, rows before it, batch) from a place on, without carried columns."""
    schema, _ = table_schema(file, need_labels=False)
    wanted = [name for name in schema.names if name in (*consumed(file), *candidates(file, schema))]
    row = start.line
    with _opened(file) as stream:
        read = _arrow_batches if file.ends_with(".arrow") else _parquet_batches
        for place, batch in read(stream, start.offset, wanted):
            yield None if place is None else Place(place, row), row, batch
            row += batch.num_rows


def table_raws(batch: pa.RecordBatch, lines: Sequence[int], names: Mapping[str, Sequence[str]]) -> Iterator[Raw]:
    """Yield all rows of a batch. lines: their numbers in the file. names: `class_names` of the file."""
    for line, (data, valid) in zip(lines, _rows(batch), strict=True):
        yield Raw(None, line, data, valid, names=names)


def record(raw: Raw, file: File) -> Record:
    """Return the record of one row."""
    made = _run_record(raw.data, raw.line, file) if file.format == "run" else from_mapping(raw, file)
    made.extra = raw.extra
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def read_columns(file: File, start: Place, skip: int, take: int, columns: list[str]) -> pa.Table | None:
    """Return `take` rows of some columns, fewer only if the file has fewer; None if a text is not UTF-8."""
    batches: list[pa.RecordBatch] = []
    missing = take
    with _opened(file) as stream:
        read = _arrow_batches if file.ends_with(".arrow") else partial(_parquet_batches, encoded=True)
        for _, batch in read(stream, start.offset, columns):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            part = batch.slice(skip, missing)
            plain = [pa.field(f.name, pa.list_(pa.string()) if _is_encoded(f.type) else f.type) for f in part.schema]
            batches.append(part.cast(pa.schema(plain)))
            skip, missing = 0, missing - batches[-1].num_rows
            if not missing:
                break
        table = pa.Table.from_batches(batches).combine_chunks() if batches else pa.table({})
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return table


def _is_encoded(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType) and bool(kind.value_type == pa.dictionary(pa.int32(), pa.string()))


def _parquet_batches(
    stream: pa.NativeFile, group: int, columns: list[str], *, encoded: bool = False
) -> Iterator[tuple[int | None, pa.RecordBatch]]:
    """Yield (row group if the batch starts one, batch) from a row group on.

    encoded: read lists of text as lists of a dictionary's entries, so that skipped rows cost a third.
    """
    source = pq.ParquetFile(stream)
    if encoded:
        lists = [field.name for field in source.schema_arrow if field.type == pa.list_(pa.string())]
        leaves = map(source.schema.column, range(len(source.schema)))
        chosen = [leaf.path for leaf in leaves if leaf.max_repetition_level and leaf.path.split(".")[0] in lists]
        source = pq.ParquetFile(stream, metadata=source.metadata, read_dictionary=chosen)
    for number in range(group, source.num_row_groups):
        place: int | None = number
        for batch in source.iter_batches(_BATCH_ROWS, row_groups=[number], columns=columns, use_threads=False):
            yield place, batch
            place = None


def _arrow_schema(stream: pa.NativeFile) -> pa.Schema:
    if stream.read(len(_IPC_FILE_MAGIC)) == _IPC_FILE_MAGIC:
        raise pa.ArrowInvalid("it is an Arrow IPC file; save_to_disk writes streams")
    stream.seek(0)
    return pa.ipc.read_schema(pa.ipc.read_message(stream))


def _arrow_batches(
    stream: pa.NativeFile, offset: int, columns: list[str]
) -> Iterator[tuple[int | None, pa.RecordBatch]]:
    """Yield (byte of the batch if reading can start there, at most _BATCH_ROWS rows) from a byte on."""
    schema = _arrow_schema(stream)
    batches: Iterator[tuple[int | None, pa.RecordBatch]]
    if any(_has_dictionary(field.type) for field in schema):
        # A dictionary may come anywhere before its batch: such a stream is read from the start.
        stream.seek(0)
        batches = _whole_stream(stream)
    else:
        if offset:
            stream.seek(offset)
        batches = _messages(stream, schema)
    for place, whole in batches:
        chosen = whole.select(columns)
        _refuse_damage(chosen)
        for begin in range(0, whole.num_rows, _BATCH_ROWS):
            yield place if begin == 0 else None, chosen.slice(begin, _BATCH_ROWS)


def _refuse_damage(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid for lists and text that leave their buffers, which would be read out of other memory.

    Text that is not UTF-8 is no damage: it rejects its row.
    """
    for column in batch.columns:
        kind = _binary(column.type)
        (column if kind == column.type else column.view(kind)).validate(full=True)


def _messages(stream: pa.NativeFile, schema: pa.Schema) -> Iterator[tuple[int | None, pa.RecordBatch]]:
    while True:
        place = stream.tell()
        try:
            message = pa.ipc.read_message(stream)
        except EOFError:
            _refuse_cut(stream.tell() - place)
            return
        yield place, pa.ipc.read_record_batch(message, schema)


def _whole_stream(stream: pa.NativeFile) -> Iterator[tuple[int | None, pa.RecordBatch]]:
    reader = pa.ipc.open_stream(stream)
    place: int | None = 0
    while True:
        before = stream.tell()
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            _refuse_cut(stream.tell() - before)
            return
        yield place, batch
        place = None


def _refuse_cut(end_bytes: int) -> None:
    """Raise ArrowInvalid if a stream ended without its marker: pyarrow reads one cut between messages without error."""
    if end_bytes not in _END_OF_STREAM_BYTES:
        raise pa.ArrowInvalid("it is cut off: no end-of-stream marker after its last batch")


def _has_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.DictionaryType):
        return True
    return any(_has_dictionary(kind.field(index).type) for index in range(kind.num_fields))


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield (values, whether they were UTF-8) of every row."""
    try:
        for data in batch.to_pylist():
            yield data, True
    except UnicodeDecodeError:
        raw = pa.RecordBatch.from_arrays([c.cast(_binary(c.type)) for c in batch.columns], batch.schema.names)
        for data in raw.to_pylist():
            broken: list[bytes] = []
            yield _as_text(data, broken), not broken


def _binary(kind: pa.DataType) -> pa.DataType:
    """Return a type with bytes for text, at any depth."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.binary() if pa.types.is_string(kind) else pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return (pa.list_ if pa.types.is_list(kind) else pa.large_list)(_binary(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _binary(field.type)) for field in kind])
    return kind


def _as_text(value: Any, broken: list[bytes]) -> Any:
    """Decode all bytes of a value; what is not UTF-8 joins `broken`."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            broken.append(value)
            return value.decode(errors="replace")
    if isinstance(value, list):
        return [_as_text(item, broken) for item in value]
    if isinstance(value, dict):
        return {key: _as_text(item, broken) for key, item in value.items()}
    return value


def _run_record(data: dict[str, Any], row: int, file: File) -> Record:
    """Return one side of a row of a run; what became of the row there plays no part."""
    prefix, gold = ("source_", "source_spans") if file.side == "source" else ("", "gold_spans")
    lang = data["source_lang" if file.side == "source" else "lang"]
    record = Record(row)
    try:
        record.id, record.doc_id = name_text(data["id"], "id"), name_text(data["doc_id"], "doc_id")
        record.split = split_name(data["split"] or "")
        record.image = data.get("image")
        record.text, tokens = data[f"{prefix}text"], data[f"{prefix}tokens"]
        if tokens is not None and None in tokens:
            raise BadRecord(Reason.MALFORMED, f"{prefix}tokens is {short(tokens)}; allowed: a list of text")
        record.tokens = tokens
        if lang != file.lang:
            raise BadRecord(Reason.MALFORMED, f"the row's {prefix}lang is {lang}, not {file.lang}")
        if record.text is None and record.tokens is None:
            raise BadRecord(Reason.MALFORMED, f"has neither {prefix}text nor {prefix}tokens")
        cells = data[gold]
        if cells is not None and record.tokens is not None:
            spans = []
            for cell in cells:
                if cell is None or None in cell.values() or not 0 <= cell["start"] < cell["end"] <= len(record.tokens):
                    raise BadRecord(Reason.BAD_SPAN, f"{cell} is not a span of the {len(record.tokens)} words")
                spans.append(Span(**cell))
            record.spans = spans
    except BadRecord as bad:
        record.reason, record.detail = bad.reason, bad.detail
    return record


def evidence(file: File) -> Evidence:
    """Begin the evidence of a file; a run leaves nothing open."""
    return NoEvidence() if file.format == "run" else ObjectEvidence(file)


def pieces(file: File, wanted: Sequence[int]) -> list[int]:
    """Return the row groups of a Parquet file that begin nearest behind bytes; none of an Arrow stream."""
    if file.ends_with(".arrow"):
        return []
    with _opened(file) as stream:
        metadata = pq.ParquetFile(stream).metadata
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    sizes = (sum(group.column(n).total_compressed_size for n in range(group.num_columns)) for group in groups)
    starts = list(accumulate(sizes, initial=0))[:-1]
    found = {bisect_left(starts, byte) for byte in wanted}
    return sorted(found - {0, len(starts)})


TABLE = Format(raws, record, evidence, pieces)
