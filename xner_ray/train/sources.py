"""Where a student's sentences come from: finished runs, and labelled files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.data.arrow import lengths, nested
from xner_ray.data.row import ROW, refuse_extension_types, span_cells
from xner_ray.errors import InputError, RunFolderError
from xner_ray.read.find import find_files, read_records
from xner_ray.read.record import record_id, without_surrogates
from xner_ray.read.rows import side
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.train.recipe import Source, Teacher

SPANS = ROW.field("gold_spans").type
TAGS = ROW.field("target_tags").type
SENTENCES = pa.schema(
    [
        ("source", pa.int32()),  # place in the recipe's list
        ("lang", pa.string()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("tokens", pa.list_(pa.string())),
        ("spans", SPANS),  # null where `tags` say it
        ("tags", TAGS),  # a distribution for each word, of those tags that have any probability
        ("weight", pa.float32()),
        ("masked", pa.bool_()),  # nothing is learnt from its O words
        ("doubtful", SPANS),  # nor from the words of these entities
    ]
)
_BATCH = 16_384


@dataclass
class Tally:
    """Of one source: sentences read, kept, and dropped by reason; those of them masked; doubtful entities; entities
    with labels that the recipe does not keep, and entities inside or across longer ones, which tags cannot say."""

    name: str
    read: int = 0
    kept: int = 0
    masked: int = 0
    doubtful: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    labels_dropped: Counter[str] = field(default_factory=Counter)
    nested: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; read = kept + the sum of dropped."""
        counts = {"source": self.name, "read": self.read, "kept": self.kept, "masked": self.masked}
        counts |= {"doubtful": self.doubtful, "dropped": dict(sorted(self.dropped.items())), "nested": self.nested}
        return {**counts, "labels_dropped": dict(sorted(self.labels_dropped.items()))}


def file_rows(source: Source, tally: Tally) -> Iterator[pa.Table]:
    """Sentences of labelled files with the labels of `input.labels`; spans may overlap."""
    given = source.input
    assert given is not None and isinstance(given.lang, str)
    path: str | dict[str, str] = given.path if isinstance(given.path, str) else dict(given.path.items())
    files, _ = find_files(
        path, format=given.format, lang=given.lang, side="target", columns=given.columns, carried=False
    )
    rows: list[dict[str, Any]] = []
    number = -1
    for file in files:
        for _, record in read_records(file):
            number += 1
            if given.limit is not None and number >= given.limit:
                break
            if (record.split or file.split) not in source.splits:
                continue
            tally.read += 1
            made = side(record, file, given.labels, given.max_words)
            if made.reason is not None or made.spans is None:
                tally.dropped[str(made.reason) if made.reason is not None else "no labels"] += 1
                continue
            rows.append(
                {
                    "row": number,
                    "id": without_surrogates(record_id(record, file)),
                    "doc_id": None if record.doc_id is None else without_surrogates(record.doc_id),
                    "lang": given.lang,
                    "tokens": made.tokens,
                    "spans": span_cells(made.spans),
                }
            )
            if len(rows) == _BATCH:
                yield _file_table(rows)
                rows = []
    if rows:
        yield _file_table(rows)


def _file_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    names = ("lang", "row", "id", "doc_id", "tokens", "spans")
    columns = {name: pa.array([row[name] for row in rows], SENTENCES.field(name).type) for name in names}
    return pa.table({**columns, "tags": pa.nulls(len(rows), TAGS)})


_RUN_COLUMNS = ("row", "id", "doc_id", "lang", "tokens", "translation_score", "flags", "complete")


def run_rows(source: Source, learnt: bool, tally: Tally) -> Iterator[pa.Table]:
    """Rows of a run that have the labels asked for, with its own columns for filters, and `projected`: its scores.

    learnt: whether `labels: null` means projected ones, else gold. Sentences of the source side that the run projected
    into several languages are read once, also where only some of these have the row. Spans of that side may overlap.
    """
    assert source.run is not None
    source_side, soft = source.side == "source", source.labels == "soft"
    if (
        source.filters.min_translation_score is not None
        and RunFolder(source.run).recipe().translate_engine == "provided"
    ):
        raise InputError(f"filters.min_translation_score: {source.run} translated nothing, so it has no such scores")
    labels = source.labels or ("projected" if learnt else "gold")
    take = {name: name for name in _RUN_COLUMNS} | {"spans": "spans" if labels == "projected" else "gold_spans"}
    if source_side:
        take |= {"tokens": "source_tokens", "spans": "source_spans", "lang": "source_lang"}
    # What lost an entity on the way is put aside for its projected labels' sake; all others are whole
    aside = source_side or labels != "projected" or source.filters.incomplete is not None
    shared = source_side and RunFolder(source.run).recipe().direction == "train"
    seen: set[int] = set()
    for lang in langs_of(source):
        others = [_teacher(teacher, lang, source) for teacher in source.teachers]
        if not aside:
            n_aside = sum(entry["rows"] for entry in _entries(source.run, lang, source.splits, "incomplete-"))
            tally.read += n_aside
            tally.dropped["put aside by the run"] += n_aside
        for file in _files(source.run, lang, source.splits, aside=aside):
            for part in _batches(file, {*take.values(), "spans", *(["target_tags"] if soft else [])}):
                if shared:
                    rows = part.column("row").to_pylist()
                    part = part.filter(pa.array([row not in seen for row in rows], pa.bool_()))
                    seen.update(rows)
                tally.read += part.num_rows
                columns = {name: part.column(taken) for name, taken in take.items()}
                tags = pa.nulls(part.num_rows, TAGS)
                spans = pa.chunked_array([pa.nulls(part.num_rows, SPANS)]) if soft else _plain(columns["spans"])
                if soft:
                    tags = _averaged(part, others, source.teacher_weight)
                table = pa.table({**columns, "spans": spans, "tags": tags, "projected": _scored(part)})
                have = table.column("tags" if soft else "spans").is_valid()
                tally.dropped["no labels"] += table.num_rows - int(pc.sum(have).as_py() or 0)
                yield table.filter(have)


def langs_of(source: Source) -> list[str]:
    """Languages of the run that the source takes. InputError for one that the run does not have."""
    folder = RunFolder(str(source.run))
    recipe = folder.recipe()
    if folder.sealed() is None:
        raise RunFolderError(f"{folder.root}: not sealed yet; finish the run first")
    missing = sorted(set(source.langs or ()) - set(recipe.languages))
    if missing:
        raise InputError(f"{folder.root}: has no language {missing[0]}; it has {', '.join(recipe.languages)}")
    return source.langs or recipe.languages


def _files(run: str, lang: str, splits: Sequence[str], *, aside: bool) -> list[str]:
    """Published files of a language; aside: those too of the sentences that lost an entity."""
    kinds = ["", "incomplete-"] if aside else [""]
    return [storage.join(run, entry["file"]) for kind in kinds for entry in _entries(run, lang, splits, kind)]


def _entries(run: str, lang: str, splits: Sequence[str], kind: str) -> list[dict[str, Any]]:
    found = []
    for entry in RunFolder(run).sealed() or []:
        folder, _, name = entry["file"].rpartition("/")
        if folder == f"data/{lang}" and name.rsplit("-", 3)[0] in [f"{kind}{split}" for split in splits]:
            found.append(entry)
    return found


def _batches(file: str, columns: Iterable[str]) -> Iterator[pa.Table]:
    """Some columns of a published file, part by part; those that are younger than the file are null."""
    filesystem, inner = storage.locate(file)
    try:
        with filesystem.open_input_file(inner) as stream, pq.ParquetFile(stream) as parquet:
            refuse_extension_types(parquet.schema_arrow, file)
            there = [name for name in columns if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(batch_size=_BATCH, columns=there):
                table = pa.Table.from_batches([batch])
                for name in sorted(set(columns) - set(there)):
                    table = table.append_column(ROW.field(name), pa.nulls(len(batch), ROW.field(name).type))
                yield table
    except (OSError, pa.ArrowException) as error:
        raise storage.failure(file, "read", error) from None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Spans without their scores; null stays null."""
    chunks = []
    for chunk in column.chunks:
        cells = chunk.flatten()
        parts = pa.StructArray.from_arrays(
            [cells.field(name) for name in ("start", "end", "label")], fields=list(SPANS.value_type)
        )
        chunks.append(nested(lengths(chunk), parts, SPANS, null=chunk.is_null()))
    return pa.chunked_array(chunks, SPANS)


def _scored(table: pa.Table) -> pa.Array:
    """Scores of each row's projected entities, as lists."""
    spans = table.column("spans").combine_chunks()
    return nested(lengths(spans), spans.flatten().field("score"))


def _teacher(teacher: Teacher, lang: str, source: Source) -> tuple[float, dict[int, tuple[list[str], Any]]]:
    """Weight, and by row number the words and tags of another run."""
    found: dict[int, tuple[list[str], Any]] = {}
    langs_of(Source(run=teacher.run, langs=[lang]))
    for file in _files(teacher.run, lang, source.splits, aside=True):
        for table in _batches(file, ["row", "tokens", "target_tags"]):
            rows = (table.column(name).to_pylist() for name in ("row", "tokens", "target_tags"))
            found |= {row: (tokens, tags) for row, tokens, tags in zip(*rows, strict=True)}
    if all(tags is None for _, tags in found.values()):
        raise InputError(f"teachers: {teacher.run} has no target_tags in {lang}; it needs a target_tag.engine")
    return teacher.weight, found


def _averaged(
    table: pa.Table, others: Sequence[tuple[float, dict[int, tuple[list[str], Any]]]], weight: float
) -> pa.Array:
    """The weighted mean of the teachers' distributions; null where a row has no tags of any of them.

    A teacher that has nothing to say of a row does not count there. InputError if one has other words for it.
    """
    if not others:
        return table.column("target_tags").combine_chunks()
    result = []
    for row, tokens, own in zip(*(table.column(n).to_pylist() for n in ("row", "tokens", "target_tags")), strict=True):
        voices = [(weight, own)] if own is not None else []
        for other_weight, rows in others:
            words, tags = rows.get(row, (tokens, None))
            if words != tokens:
                raise InputError(f"teachers: a run has other words in row {row}; all must be over the same target text")
            if tags is not None:
                voices.append((other_weight, tags))
        total = sum(share for share, _ in voices)
        cells: dict[tuple[int, str], float] = {}
        for share, tags in voices:
            for cell in tags:
                key = (cell["word"], cell["tag"])
                cells[key] = cells.get(key, 0.0) + share / total * cell["probability"]
        found = [{"word": word, "tag": tag, "probability": p} for (word, tag), p in sorted(cells.items())]
        result.append(found if voices else None)
    return pa.array(result, TAGS)
