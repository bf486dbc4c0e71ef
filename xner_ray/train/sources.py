"""A student's sentences, read from finished runs and labelled files, filtered and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import is_text, lengths
from xner_ray.data.row import span_cells
from xner_ray.errors import InputError
from xner_ray.read.find import find_files
from xner_ray.read.index.survey import settled
from xner_ray.read.inputs import stated_of
from xner_ray.read.record import TABLES, File, Record, record_id, without_surrogates
from xner_ray.read.records import read_records
from xner_ray.read.side import side
from xner_ray.run.repair import require_whole_files
from xner_ray.train.recipe import Source, Training
from xner_ray.train.runs import run_rows
from xner_ray.train.sentences import SENTENCES, Tally, documents, fold_of, in_share, select

Role = Literal["data", "validation", "evaluate"]
_BATCH = 16_384
_FILE = pa.schema(
    [SENTENCES.field(name) for name in ("lang", "row", "id", "doc_id", "tokens", "spans", "tags", "context")]
)


def load(training: Training, role: Role, *, held_out: bool | None = None) -> tuple[pa.Table, list[Tally]]:
    """Return the sentences of the recipe's `data`, `validation` or `evaluate`, and the tally of each source.

    With `folds`, data and validation lack the documents of the held-out folds, and evaluate has only these.
    held_out: with `validation_share`, True selects that share of the documents of `data`, False the others.
    InputError, RunFolderError or StorageError if a source cannot be read; InputError if nothing is left.
    """
    tallies: list[Tally] = []
    tables = [
        table.select(SENTENCES.names).cast(SENTENCES) for table in kept(training, role, tallies, held_out=held_out)
    ]
    result = pa.concat_tables([SENTENCES.empty_table(), *tables])
    refuse_nothing(training, role, result.num_rows, tallies)
    return result, tallies


def refuse_nothing(training: Training, role: Role, n_rows: int, tallies: Sequence[Tally]) -> None:
    """Raise InputError if no sentence is left."""
    if n_rows:
        return
    counts = "; ".join(
        f"{tally.name}, splits [{', '.join(source.splits)}]: {tally.read} read, "
        + (", ".join(f"{n} {reason}" for reason, n in tally.dropped.items()) or "none dropped")
        for source, tally in zip(getattr(training, role), tallies, strict=True)
    )
    raise InputError(f"{role}: no sentence is left ({counts}); loosen splits, filters, labels.keep or folds")


def kept(training: Training, role: Role, tallies: list[Tally], *, held_out: bool | None = None) -> Iterator[pa.Table]:
    """Yield the sentences of a role, and `place` of those from runs; see `load`. tallies: is filled, one a source."""
    for number, source in enumerate(getattr(training, role)):
        tally = Tally(source.name)
        tallies.append(tally)
        if source.run is not None:
            read = run_rows(source, role == "data", tally, training.model.context)
        else:
            read = file_rows(source, tally, training.model.context)
        for table in select(read, source, training.labels, tally, learnt=role == "data"):
            keep = np.ones(table.num_rows, dtype=np.bool_)
            if training.folds is not None:
                aside = np.isin(fold_of(documents(table), training.folds), list(training.folds.left_out))
                keep = aside == (role == "evaluate")
                tally.dropped["other fold"] += int((~keep).sum())
            if held_out is not None:
                mine = in_share(documents(table), training.validation_share, "validation") == held_out
                tally.dropped["validation" if not held_out else "training"] += int((keep & ~mine).sum())
                keep &= mine
                if held_out:  # labels too uncertain to learn from are no gold either
                    unsure = table.column("uncertain").to_numpy()
                    tally.dropped["uncertain"] += int((keep & unsure).sum())
                    keep &= ~unsure
            found = table.filter(pa.array(keep))
            tally.kept += found.num_rows
            tally.masked += int(pc.sum(found.column("masked")).as_py() or 0)
            tally.doubtful += int(lengths(found.column("doubtful")).sum())
            tally.unknown_words += int(lengths(found.column("unknown")).sum())
            yield found.append_column(SENTENCES.field("source"), pa.array([number] * found.num_rows, pa.int32()))
        tally.dropped = +tally.dropped


def file_rows(source: Source, tally: Tally, context: str | None = None) -> Iterator[pa.Table]:
    """Yield the sentences of labelled files with the labels of `input.labels`; spans may overlap.

    context: the column of contexts, if they are read. InputError if no sentence has it, or it is no text.
    """
    given = source.input
    assert given is not None and isinstance(given.lang, str)
    path: Any = given.path
    found = find_files(
        path,
        format=given.format,
        lang=given.lang,
        side="target",
        columns=given.columns,
        carried=context is not None,
        carry=None if context is None else [context],
        stated=stated_of(given),
    )
    require_whole_files(found)
    for file in found if context is not None else ():
        if file.format not in (*TABLES, "jsonl", "json", "table"):
            raise InputError(
                f"{file.path}: format {file.format} has no columns, so none is {context!r}, which model.context names; "
                "give sentences as jsonl or Parquet, or leave model.context out"
            )
    has_contexts = context is None
    files = settled(found, limit=given.limit, max_words=given.max_words)
    rows: list[dict[str, Any]] = []
    records = ((file, record) for file in files for _, record in read_records(file))
    for number, (file, record) in enumerate(islice(records, given.limit)):
        tally.read += 1
        if (record.split or file.split) not in source.splits:
            tally.dropped["other split"] += 1
            continue
        beside, named = _context(record, file, context)
        has_contexts |= named
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
                "context": beside,
            }
        )
        if len(rows) == _BATCH:
            yield pa.Table.from_pylist(rows, schema=_FILE)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema=_FILE)
    if tally.read and not has_contexts:
        raise InputError(
            f"{source.name}: no sentence has the column {context!r}, which model.context names; name one that these "
            "files have beside words and labels, or leave model.context out"
        )


def _context(record: Record, file: File, column: str | None) -> tuple[str | None, bool]:
    """Return the text beside a sentence, and whether its file has the column at all."""
    if column is None or record.extra is None:
        return None, False
    if isinstance(record.extra, dict):
        return record.extra.get(column), column in record.extra
    if isinstance(record.extra, str):
        return None, False
    batch, number = record.extra
    values = batch.column(column)
    if not is_text(values.type):
        kind = f"column {column!r}, which model.context names, has the type {values.type}"
        raise InputError(f"{file.path}: {kind}; allowed: text")
    return values[number].as_py(), True
