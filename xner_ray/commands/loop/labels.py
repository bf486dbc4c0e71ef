"""Labels by students of a round: of each document by one that was not trained on it; and how they agree with others.

ROUND/labels/STUDENTS/UNIT.parquet  tags and spans of all rows of a unit, row for row; STUDENTS stands for their weights
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xner_ray.data.arrow import with_column
from xner_ray.data.row import OK, ROW, span_cells, tag_cells
from xner_ray.engine.second_pass import MapTasks, in_tasks
from xner_ray.errors import Reason
from xner_ray.evaluate import counting
from xner_ray.evaluate.counting import COLUMNS, Counts
from xner_ray.recipe.sections import TargetTag
from xner_ray.run import parts as part_files
from xner_ray.run import whole
from xner_ray.storage import files as storage
from xner_ray.train.recipe import Folds
from xner_ray.train.sentences import documents, fold_of

Bools = NDArray[np.bool_]
Jobs = Sequence[tuple[str, str]]  # (part to read, labels to write) each
LABELS = pa.schema([ROW.field("target_tags"), ROW.field("spans")])
_READ = ("id", "doc_id", "tokens", "status", "reason")
_SCORED = pa.schema([ROW.field(name) for name in COLUMNS])


def label_units(
    jobs: Jobs,
    students: Mapping[str, Sequence[int]],
    folds: Folds,
    threads: int,
    map_tasks: MapTasks,
    *,
    identity: str,
) -> None:
    """Publish the labels of every unit that has none that are whole.

    students: folder -> the folds that it labels. identity: of their weights.
    """
    damaged = whole.damaged([output for _, output in jobs])
    missing = [(part, output) for part, output in jobs if output in damaged]
    in_tasks(label_parts, missing, (dict(students), folds, threads, identity), map_tasks)


def label_parts(jobs: Jobs, students: Mapping[str, Sequence[int]], folds: Folds, threads: int, identity: str) -> None:
    """Label the rows of some parts, also those that were rejected because they lost an entity: it is for these."""
    for part, output in jobs:
        table = part_files.read_part(part, list(_READ))
        fold = fold_of(documents(table), folds)
        lost = pc.fill_null(pc.equal(table.column("reason"), Reason.INCOMPLETE), False)
        readable = pc.or_(pc.equal(table.column("status"), OK), lost).to_numpy()
        columns: dict[str, list[Any]] = {name: [None] * table.num_rows for name in LABELS.names}
        for student, own in students.items():
            rows = np.flatnonzero(readable & np.isin(fold, list(own))).tolist()
            tokens = table.column("tokens").take(pa.array(rows, pa.int64())).to_pylist()
            for index, (tags, spans) in zip(rows, labelled(student, tokens, threads, identity), strict=True):
                columns["target_tags"][index], columns["spans"][index] = tags, spans
        whole.publish(output, pa.table(columns, schema=LABELS))


def labelled(student: str, tokens: Sequence[Sequence[str]], threads: int, identity: str) -> Iterator[tuple[Any, Any]]:
    """Yield the tags and the spans that a student gives to each sentence, as cells. identity: of its weights."""
    tagger = _tagger(student, threads, identity)
    found = tagger.tagged([(words, [True] * len(words)) for words in tokens]) if tokens else ()
    for spans, probabilities in found:
        yield tag_cells(probabilities, tagger.labels), span_cells(spans)


@lru_cache(maxsize=3)
def _tagger(student: str, threads: int, identity: str) -> Any:
    """Load a student, once in a process: those of a round are read by turns. identity: another is another student."""
    from xner_ray.tag import hf  # torch and transformers take seconds

    section = TargetTag(engine="hf", model=student, threads=threads)
    section = section.model_copy(update={"labels": hf.check(section, "target_tag")})
    return hf.HfTagger(section, "target_tag")


def read_labels(path: str) -> pa.Table:
    """Return the labels of a unit. DamageError."""
    return pq.read_table(pa.BufferReader(whole.read(path)))


def agreement(tables: Iterable[tuple[pa.Table, pa.Table]], folds: Folds, held_out: int, settled: float) -> list[Counts]:
    """Count how labels agree with the first projection of held-out sentences, as against gold.

    tables: rows of the first projection, and labels of a round. Only rows count that lost no entity and have no entity
    with a score below `settled`: those where the projection is worth agreeing with.
    """

    def chosen() -> Iterator[tuple[pa.Table, pa.Table]]:
        for rows, labels in tables:
            kept = pa.array(held_out_rows(rows, folds, held_out, settled))
            given = with_column(rows, "gold_spans", as_gold(rows.column("spans")))
            yield given.filter(kept), labels.filter(kept)

    return _counts(chosen())


def held_out_rows(rows: pa.Table, folds: Folds, held_out: int, settled: float) -> Bools:
    """Return which rows of the first projection rounds are measured on."""
    found: Bools = settled_rows(rows, settled) & (fold_of(documents(rows), folds) == held_out)
    return found


def settled_rows(rows: pa.Table, settled: float) -> Bools:
    """Return which rows lost no entity and have none with a score below `settled`."""
    worst = [
        min((1.0 if span["score"] is None else span["score"] for span in spans or ()), default=1.0)
        for spans in rows.column("spans").to_pylist()
    ]
    whole_ones = pc.and_(pc.equal(rows.column("status"), OK), pc.fill_null(rows.column("complete"), False))
    found: Bools = whole_ones.to_numpy(zero_copy_only=False) & (
        np.array(worst, dtype=np.float32) >= np.float32(settled)  # scores are float32
    )
    return found


def against_gold(tables: Iterable[tuple[pa.Table, pa.Table]]) -> list[Counts]:
    """Count labels against the gold of the run's own rows; no languages where there is none."""
    return _counts(tables)


def scored(sentences: pa.Table, student: str, threads: int, identity: str, learns: Callable[[str], bool]) -> pa.Table:
    """Return labelled sentences (`sentences.SENTENCES`) with a student's spans, as evaluation reads them.

    learns: which labels count, as in `student.scored`.
    """
    read = labelled(student, sentences.column("tokens").to_pylist(), threads, identity)
    spans = [[cell for cell in found if learns(cell["label"])] for _, found in read]
    n = sentences.num_rows
    columns: dict[str, Any] = {name: pa.nulls(n, _SCORED.field(name).type) for name in COLUMNS}
    columns |= {name: sentences.column(name) for name in ("row", "doc_id", "lang", "tokens")}
    columns |= {"gold_spans": sentences.column("spans"), "spans": spans, "status": [OK] * n}
    return pa.table(columns, schema=_SCORED)


def _counts(tables: Iterable[tuple[pa.Table, pa.Table]]) -> list[Counts]:
    counter = counting.Counter()
    for rows, labels in tables:
        if rows.num_rows:
            table = with_column(rows, "spans", labels.column("spans"))
            # A row that was rejected because it lost an entity has none of its own, but a student has labelled it
            read = pc.is_valid(labels.column("spans"))
            table = with_column(table, "status", pc.if_else(read, OK, rows.column("status")))
            counter.add(table.select(list(COLUMNS)))
    return counter.counts()


def as_gold(spans: pa.ChunkedArray) -> pa.Array:
    """Return projected spans as gold has them."""
    kind = ROW.field("gold_spans").type
    names = [kind.value_type.field(n).name for n in range(kind.value_type.num_fields)]
    return pa.array(
        [None if own is None else [{name: span[name] for name in names} for span in own] for own in spans.to_pylist()],
        kind,
    )


def labels_of(folder: str, names: Iterable[str], identity: str) -> dict[str, str]:
    """Return the place of each unit's labels in the folder of a round. identity: of its students."""
    return {name: storage.join(folder, "labels", identity[:16], f"{name}.parquet") for name in names}
