"""A student against gold: classes of words -> spans -> the tables that `evaluation` counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.counting import COLUMNS, Counter, Counts
from xner_ray.schema import OK, ROW
from xner_ray.spans import tags_to_spans
from xner_ray.train.pieces import Pieces

Ints = NDArray[np.int64]
SCORED = pa.schema([ROW.field(name) for name in (*COLUMNS, "id", "split")])


def scored(sentences: pa.Table, pieces: Pieces, classes: Ints, names: Sequence[str]) -> pa.Table:
    """Gold and predicted spans of each sentence, with the columns that `counting.Counter` reads.

    The tags are read as IOB2 with the usual repair: an I-l that continues nothing begins a span.
    """
    spans: list[list[dict[str, Any]]] = []
    for sentence in range(len(pieces)):
        own = classes[pieces.first[sentence] : pieces.first[sentence + 1]].tolist()
        found = tags_to_spans([names[number] for number in own])[0]
        cells = [{"start": s.start, "end": s.end, "label": s.label, "score": s.score, "source": -1} for s in found]
        spans.append(cells)
    n = sentences.num_rows
    columns = {
        **{name: sentences.column(name) for name in ("row", "id", "doc_id", "lang", "tokens")},
        "gold_spans": sentences.column("spans"),
        "spans": pa.array(spans, SCORED.field("spans").type),
        "split": pa.array(["test"] * n, pa.string()),
        "status": pa.array([OK] * n, pa.string()),
    }
    return pa.table({field.name: columns.get(field.name, pa.nulls(n, field.type)) for field in SCORED}, schema=SCORED)


def counts_of(table: pa.Table) -> list[Counts]:
    """Counts of each language."""
    counter = Counter()
    counter.add(table)
    return counter.counts()


def micro_f1(counts: Sequence[Counts]) -> float:
    """F1 of all entities of all languages; 0 without any."""
    exact, predicted, gold = np.sum([one.cells.sum(axis=(0, 1)) for one in counts], axis=0).tolist()
    return 2 * exact / (predicted + gold) if predicted + gold else 0.0
