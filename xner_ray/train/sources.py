"""A student's sentences, read from finished runs and labelled files, filtered and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.data.arrow import lengths, nested
from xner_ray.data.row import ROW, refuse_extension_types, span_cells
from xner_ray.errors import InputError
from xner_ray.read.find import find_files
from xner_ray.read.index.survey import settled
from xner_ray.read.inputs import stated_of
from xner_ray.read.record import record_id, without_surrogates
from xner_ray.read.records import read_records
from xner_ray.read.side import side
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import split_of
from xner_ray.storage import files as storage
from xner_ray.train.recipe import Source, Teacher, Training
from xner_ray.train.sentences import SENTENCES, SPANS, TAGS, UNKNOWN, Tally, documents, fold_of, in_share, select
from xner_ray.train.unknown import unknown_words

Role = Literal["data", "validation", "evaluate"]
Opinions = tuple[float, dict[int, tuple[list[str], Any]]]  # a teacher's weight; by row the words and their tags
_BATCH = 16_384
_FILE = pa.schema([SENTENCES.field(name) for name in ("lang", "row", "id", "doc_id", "tokens", "spans", "tags")])
_OF_MISSING = ("unprojected", "source_spans", "bridge_spans", "links")  # what tells the words of missing entities
_RUN_COLUMNS = ("row", "id", "doc_id", "lang", "tokens", "translation_score", "flags", "complete")


def load(training: Training, role: Role, *, held_out: bool | None = None) -> tuple[pa.Table, list[Tally]]:
    """Return the sentences of the recipe's `data`, `validation` or `evaluate`, and the tally of each source.

    With `folds`, data and validation lack the documents of the held-out fold, and evaluate has only these.
    held_out: with `validation_share`, True selects that share of the documents of `data`, False the others.
    InputError, RunFolderError or StorageError if a source cannot be read; InputError if nothing is left.
    """
    tables, tallies = [SENTENCES.empty_table()], []
    for number, source in enumerate(getattr(training, role)):
        tally = Tally(source.name)
        read = run_rows(source, role == "data", tally) if source.run is not None else file_rows(source, tally)
        for table in select(read, source, training.labels, tally, learnt=role == "data"):
            keep = np.ones(table.num_rows, dtype=np.bool_)
            if training.folds is not None:
                keep = (fold_of(documents(table), training.folds) == training.folds.held_out) == (role == "evaluate")
                tally.dropped["other fold"] += int((~keep).sum())
            if held_out is not None:
                mine = in_share(documents(table), training.validation_share, "validation") == held_out
                tally.dropped["validation" if not held_out else "training"] += int((keep & ~mine).sum())
                keep &= mine
                if held_out:  # labels too uncertain to learn from are no gold either
                    unsure = table.column("uncertain").to_numpy()
                    tally.dropped["uncertain"] += int((keep & unsure).sum())
                    keep &= ~unsure
            kept = table.filter(pa.array(keep))
            tally.kept += kept.num_rows
            tally.masked += int(pc.sum(kept.column("masked")).as_py() or 0)
            tally.doubtful += int(lengths(kept.column("doubtful")).sum())
            tally.unknown_words += int(lengths(kept.column("unknown")).sum())
            tables.append(kept.append_column(SENTENCES.field("source"), pa.array([number] * kept.num_rows, pa.int32())))
        tally.dropped = +tally.dropped
        tallies.append(tally)
    result = pa.concat_tables([table.select(SENTENCES.names).cast(SENTENCES) for table in tables])
    if not result.num_rows:
        counts = "; ".join(
            f"{tally.name}: {tally.read} read, "
            + (", ".join(f"{n} {reason}" for reason, n in tally.dropped.items()) or "none dropped")
            for tally in tallies
        )
        raise InputError(f"{role}: no sentence is left ({counts}); loosen filters, labels.keep or folds")
    return result, tallies


def file_rows(source: Source, tally: Tally) -> Iterator[pa.Table]:
    """Yield the sentences of labelled files with the labels of `input.labels`; spans may overlap."""
    given = source.input
    assert given is not None and isinstance(given.lang, str)
    path: Any = given.path
    found = find_files(
        path,
        format=given.format,
        lang=given.lang,
        side="target",
        columns=given.columns,
        carried=False,
        stated=stated_of(given),
    )
    files = settled(found, limit=given.limit, max_words=given.max_words)
    rows: list[dict[str, Any]] = []
    records = ((file, record) for file in files for _, record in read_records(file))
    for number, (file, record) in enumerate(islice(records, given.limit)):
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
            yield pa.Table.from_pylist(rows, schema=_FILE)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema=_FILE)


def run_rows(source: Source, learnt: bool, tally: Tally) -> Iterator[pa.Table]:
    """Yield a run's rows that have the labels asked for, with the columns for filters and `projected`: its scores.

    learnt: `labels: null` means projected labels if True, else gold. A source sentence that the run projected into
    several languages is read once, even if some of them lack the row. Spans of the source side may overlap.
    """
    folder = RunFolder(str(source.run))
    source_side, soft, recipe = source.side == "source", source.labels == "soft", folder.recipe()
    if source.filters.min_translation_score is not None and recipe.translate_engine == "provided":
        raise InputError(f"filters.min_translation_score: {source.run} translated nothing, so it has no such scores")
    labels = source.labels or ("projected" if learnt else "gold")
    take = {name: name for name in _RUN_COLUMNS} | {"spans": "spans" if labels == "projected" else "gold_spans"}
    if source_side:
        take |= {"tokens": "source_tokens", "spans": "source_spans", "lang": "source_lang"}
    # Rows are set aside because projection lost an entity; only the projected labels of such a row are incomplete
    aside = source_side or labels != "projected" or source.filters.incomplete is not None
    shared = source_side and recipe.direction == "train"
    unknown = source.filters.incomplete == "words"
    asked = {*take.values(), "spans", *(["target_tags"] if soft else []), *(_OF_MISSING if unknown else [])}
    seen: set[int] = set()
    for lang in langs_of(source):
        others = [_teacher(teacher, lang, source) for teacher in source.teachers]
        if not aside:
            n_aside = sum(
                entry["rows"]
                for entry in folder.require_sealed().files
                if entry["file"].startswith(f"data/{lang}/")
                and split_of(entry["file"]) in [(split, True) for split in source.splits]
            )
            tally.read += n_aside
            tally.dropped["put aside by the run"] += n_aside
        for file in _files(folder, lang, source.splits, aside=aside):
            for part in _batches(file, asked):
                if shared:
                    rows = part.column("row").to_pylist()
                    part = part.filter(pa.array([row not in seen for row in rows], pa.bool_()))
                    seen.update(rows)
                tally.read += part.num_rows
                columns = {name: part.column(taken) for name, taken in take.items()}
                tags = _averaged(part, others, source.teacher_weight) if soft else pa.nulls(part.num_rows, TAGS)
                spans = pa.nulls(part.num_rows, SPANS) if soft else _plain(columns["spans"])
                table = pa.table({**columns, "spans": spans, "tags": tags, "projected": _scored(part)})
                if unknown:
                    table = table.append_column("unknown", _unknown(part))
                have = table.column("tags" if soft else "spans").is_valid()
                tally.dropped["no labels"] += table.num_rows - int(pc.sum(have).as_py() or 0)
                yield table.filter(have)


def langs_of(source: Source) -> list[str]:
    """Return the languages of the run that the source takes. InputError if the run lacks one."""
    folder = RunFolder(str(source.run))
    recipe = folder.recipe()
    folder.require_sealed()
    missing = sorted(set(source.langs or ()) - set(recipe.languages))
    if missing:
        raise InputError(f"{folder.root}: has no language {missing[0]}; it has {', '.join(recipe.languages)}")
    return source.langs or recipe.languages


def _files(folder: RunFolder, lang: str, splits: Sequence[str], *, aside: bool) -> list[str]:
    """Return the published files of a language; aside: then those of incomplete sentences, set apart by the run."""
    whole = folder.published(lang, splits, incomplete=False)
    return [*whole, *(file for file in folder.published(lang, splits) if file not in whole)] if aside else whole


def _batches(file: str, columns: Iterable[str]) -> Iterator[pa.Table]:
    """Yield some columns of a published file in parts; columns that the file is too old to have are null."""
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


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return the spans without their scores; null stays null."""
    spans = column.combine_chunks()
    cells = spans.flatten()
    parts = pa.StructArray.from_arrays(
        [cells.field(name) for name in ("start", "end", "label")], fields=list(SPANS.value_type)
    )
    return nested(lengths(spans), parts, SPANS, null=spans.is_null())


def _scored(table: pa.Table) -> pa.Array:
    """Return the scores of each row's projected entities, as lists; null becomes an empty list."""
    spans = table.column("spans").combine_chunks()
    return nested(lengths(spans), spans.flatten().field("score"))


def _unknown(table: pa.Table) -> pa.Array:
    """Return the words of each row that its missing entities may stand on."""
    lost = np.flatnonzero(lengths(table.column("unprojected")) > 0)
    found: list[list[int]] = [[]] * table.num_rows
    names = ("tokens", "spans", *_OF_MISSING)
    for number, row in zip(lost.tolist(), table.select(names).take(pa.array(lost)).to_pylist(), strict=True):
        given = row["bridge_spans"]  # links start there, where a back-translation lies between
        cells = enumerate(row["source_spans"] or ()) if given is None else ((cell["source"], cell) for cell in given)
        entities = {source: (cell["start"], cell["end"]) for source, cell in cells}
        words = unknown_words(row["tokens"] or (), row["spans"] or (), row["unprojected"], entities, row["links"])
        found[number] = words
    return pa.array(found, UNKNOWN)


def _teacher(teacher: Teacher, lang: str, source: Source) -> Opinions:
    found: dict[int, tuple[list[str], Any]] = {}
    langs_of(Source(run=teacher.run, langs=[lang]))
    for file in _files(RunFolder(teacher.run), lang, source.splits, aside=True):
        for table in _batches(file, ["row", "tokens", "target_tags"]):
            rows = (table.column(name).to_pylist() for name in ("row", "tokens", "target_tags"))
            found |= {row: (tokens, tags) for row, tokens, tags in zip(*rows, strict=True)}
    if all(tags is None for _, tags in found.values()):
        raise InputError(f"teachers: {teacher.run} has no target_tags in {lang}; it needs a target_tag.engine")
    return teacher.weight, found


def _averaged(table: pa.Table, others: Sequence[Opinions], weight: float) -> pa.Array:
    """Return the weighted mean of the teachers' distributions; null where no teacher has tags for a row.

    A teacher without tags for a row does not count there. InputError if a teacher's row has other words.
    """
    if not others:
        return table.column("target_tags").combine_chunks()
    result = []
    for row, tokens, own in zip(*(table.column(n).to_pylist() for n in ("row", "tokens", "target_tags")), strict=True):
        given = [(weight, own)]
        for other_weight, rows in others:
            words, tags = rows.get(row, (tokens, None))
            if words != tokens:
                raise InputError(f"teachers: a run has other words in row {row}; all must be over the same target text")
            given.append((other_weight, tags))
        voices = [(share, tags) for share, tags in given if tags is not None]
        total = sum(share for share, _ in voices)
        cells: dict[tuple[int, str], float] = {}
        for share, tags in voices:
            for cell in tags:
                key = (cell["word"], cell["tag"])
                cells[key] = cells.get(key, 0.0) + share / total * cell["probability"]
        found = [{"word": word, "tag": tag, "probability": p} for (word, tag), p in sorted(cells.items())]
        result.append(found if voices else None)
    return pa.array(result, TAGS)
